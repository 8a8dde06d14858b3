//! Packs: the contents of one package's files, back to back in one file that is mapped for reading.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::{Mmap, UncheckedAdvice};
use thiserror::Error;

use crate::Content;

/// What went wrong with a pack.
#[derive(Debug, Error)]
pub enum PackError {
    /// The system refused.
    #[error("{doing} the pack {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is not as long as was said.
    #[error("the pack {} has {found} bytes where {expected} were expected: remove it and run again", path.display())]
    Length {
        /// The file.
        path: PathBuf,
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A range outside the pack was asked for.
    #[error("bytes {offset}+{len} lie outside a pack of {size}")]
    Range {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        len: u64,
        /// Bytes of the pack.
        size: u64,
    },
}

enum Bytes {
    Mapped(Mmap),
    Memory(Vec<u8>),
}

/// A pack opened for reading.
pub struct Pack {
    bytes: Bytes,
}

impl Pack {
    /// Maps the pack at `path`, which must be `expected` bytes long.
    ///
    /// # Errors
    /// When it cannot be opened or mapped, or has another length.
    pub fn open(path: &Path, expected: u64) -> Result<Arc<Pack>, PackError> {
        let file = File::open(path).map_err(|source| PackError::Io {
            doing: "opening",
            path: path.to_owned(),
            source,
        })?;
        Pack::of(&file, path, expected)
    }

    /// Maps a pack that is open, which must be `expected` bytes long; it may have no name. `path` is for messages.
    ///
    /// # Errors
    /// When it cannot be mapped, or has another length.
    pub fn of(file: &File, path: &Path, expected: u64) -> Result<Arc<Pack>, PackError> {
        let io = |doing| {
            move |source| PackError::Io {
                doing,
                path: path.to_owned(),
                source,
            }
        };
        let found = file.metadata().map_err(io("reading the size of"))?.len();
        if found != expected {
            return Err(PackError::Length {
                path: path.to_owned(),
                expected,
                found,
            });
        }
        if found == 0 {
            // An empty range cannot be mapped.
            return Ok(Pack::from_bytes(Vec::new()));
        }
        // SAFETY: a mapping is only sound while nobody changes or truncates the file. Packs are written
        // aside and renamed into the store, never opened for writing afterwards, and a run that prunes
        // the store unlinks them, which leaves mappings whole.
        let map = unsafe { Mmap::map(file) }.map_err(io("mapping"))?;
        Ok(Arc::new(Pack {
            bytes: Bytes::Mapped(map),
        }))
    }

    /// A pack in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Arc<Pack> {
        Arc::new(Pack {
            bytes: Bytes::Memory(bytes),
        })
    }

    /// All its bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Mapped(map) => map,
            Bytes::Memory(bytes) => bytes,
        }
    }

    /// Gives the memory of the pages that were touched back. They are there as before, and are read again when they are touched.
    pub fn release(&self) {
        if let Bytes::Mapped(map) = &self.bytes {
            // SAFETY: what makes this advice dangerous is that pages come back as zeros, or as the file has them, where they were
            // changed in memory. These are of a file that is mapped for reading only and, as said at `open`, never changes:
            // they come back as they were, also below slices that others hold.
            let given = unsafe { map.unchecked_advise(UncheckedAdvice::DontNeed) };
            // A kernel that does not take the advice keeps the pages; nothing else is lost.
            let _ = given;
        }
    }

    /// The content of `len` bytes from `offset`.
    ///
    /// # Errors
    /// When the range is not inside the pack.
    pub fn range(self: &Arc<Pack>, offset: u64, len: u64) -> Result<Content, PackError> {
        let size = self.bytes().len() as u64;
        match offset.checked_add(len) {
            Some(end) if end <= size => Ok(Content::Packed {
                pack: Arc::clone(self),
                offset,
                len,
            }),
            _ => Err(PackError::Range { offset, len, size }),
        }
    }
}

/// A pack being written, in the directory where it will live. It has no name until
/// [`PackWriter::persist`]; dropped before, it leaves nothing.
pub struct PackWriter {
    directory: PathBuf,
    file: BufWriter<tempfile::NamedTempFile>,
    len: u64,
}

impl PackWriter {
    /// Starts a pack in `directory`.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn new(directory: &Path) -> Result<PackWriter, PackError> {
        let file = tempfile::Builder::new()
            .prefix(".pack-")
            .tempfile_in(directory)
            .map_err(|source| PackError::Io {
                doing: "making",
                path: directory.to_owned(),
                source,
            })?;
        Ok(PackWriter {
            directory: directory.to_owned(),
            file: BufWriter::with_capacity(1 << 17, file),
            len: 0,
        })
    }

    /// Bytes written so far: the offset of the next content.
    pub fn position(&self) -> u64 {
        self.len
    }

    /// Syncs the pack to disk and gives it its name.
    ///
    /// # Errors
    /// When writing, syncing or renaming fails; nothing is left then.
    pub fn persist(self, name: &str) -> Result<PathBuf, PackError> {
        let path = self.directory.join(name);
        let io = |doing, source| PackError::Io {
            doing,
            path: path.clone(),
            source,
        };
        let file = self
            .file
            .into_inner()
            .map_err(|error| io("writing", error.into_error()))?;
        file.as_file()
            .sync_all()
            .map_err(|source| io("syncing", source))?;
        file.persist(&path).map_err(|error| io("naming", error.error))?;
        Ok(path)
    }
}

impl Write for PackWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.len += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pack_reads_back_by_ranges() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = PackWriter::new(directory.path()).unwrap();
        writer.write_all(b"hello").unwrap();
        assert_eq!(writer.position(), 5);
        writer.write_all(b" world").unwrap();
        let path = writer.persist("abc").unwrap();
        let pack = Pack::open(&path, 11).unwrap();
        assert_eq!(pack.range(6, 5).unwrap().bytes(), b"world");
        assert_eq!(pack.range(11, 0).unwrap().bytes(), b"");
        assert!(matches!(pack.range(7, 5), Err(PackError::Range { .. })));
        assert!(matches!(pack.range(u64::MAX, 2), Err(PackError::Range { .. })));
        assert!(matches!(Pack::open(&path, 12), Err(PackError::Length { .. })));
    }

    #[test]
    fn an_unfinished_pack_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut writer = PackWriter::new(directory.path()).unwrap();
        writer.write_all(b"half").unwrap();
        drop(writer);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_empty_pack_opens() {
        let directory = tempfile::tempdir().unwrap();
        let path = PackWriter::new(directory.path())
            .unwrap()
            .persist("empty")
            .unwrap();
        assert!(Pack::open(&path, 0).unwrap().bytes().is_empty());
    }
}
