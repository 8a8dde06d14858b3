//! Packs of the store: what came out of a package that was verified, with what tells whether it is still that.
//!
//! A pack is the contents of a package's files back to back, then [`END`] bytes: the CRC-32 of the contents, the CRC-32
//! of the package's file and its length (numbers little-endian), and [`MAGIC`]. The sums are looked at whenever a pack or
//! a package's file is used: a disk that gives back other bytes than it was given must not reach an image. They are no
//! protection against somebody who writes to the store; signatures and hashes of the package are, when the pack is made.

use std::io::{ErrorKind, Write as _};
use std::path::Path;
use std::sync::Arc;

use lycia_apk::metadata::Package;
use lycia_apk::package::PayloadSink;
use lycia_tree::{Content, Footprint, Pack, PackError, PackWriter};

/// The last bytes of a pack.
const MAGIC: &[u8; 4] = b"LYP1";
/// Bytes behind the contents.
const END: u64 = 20;

/// What is known of the file that a package was unpacked from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileSum {
    crc: u32,
    length: u64,
}

impl FileSum {
    /// Of the bytes of a package's file.
    pub fn of(file: &Content) -> FileSum {
        FileSum {
            crc: sum(file),
            length: file.len(),
        }
    }
}

/// A pack as it was found.
pub enum Found {
    /// As it was written.
    Whole {
        /// The pack.
        pack: Arc<Pack>,
        /// The file that it is from.
        file: FileSum,
    },
    /// There is none, or one that an earlier version of this program made.
    Absent,
    /// It is not what was written, and why that is known.
    Damaged(String),
}

/// Opens the pack at `path`, which has `total` bytes of contents, and reads all of it to see that it is whole.
pub fn open(path: &Path, total: u64) -> Found {
    let (pack, file) = match known(path, total) {
        Ok(known) => known,
        Err(found) => return found,
    };
    let contents = match pack.range(0, total) {
        Ok(contents) => contents,
        Err(error) => return Found::Damaged(error.to_string()),
    };
    let end = &pack.bytes()[pack.bytes().len() - END as usize..];
    if sum(&contents).to_le_bytes() != end[..4] {
        return Found::Damaged("its checksum does not fit its contents".to_owned());
    }
    Found::Whole { pack, file }
}

/// What the pack at `path` says of the file that it is from; nothing where it does not say it.
pub fn file_sum(path: &Path) -> Option<FileSum> {
    let total = path.metadata().ok()?.len().checked_sub(END)?;
    known(path, total).ok().map(|(_, file)| file)
}

/// Opens a pack and reads its end.
fn known(path: &Path, total: u64) -> Result<(Arc<Pack>, FileSum), Found> {
    let pack = match Pack::open(path, total.saturating_add(END)) {
        Ok(pack) => pack,
        Err(PackError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
            return Err(Found::Absent);
        }
        // As packs were before they had an end.
        Err(PackError::Length { found, .. }) if found == total => return Err(Found::Absent),
        Err(PackError::Length { expected, found, .. }) => {
            return Err(Found::Damaged(format!(
                "it has {found} bytes instead of {expected}"
            )));
        }
        Err(error) => return Err(Found::Damaged(error.to_string())),
    };
    let bytes = pack.bytes();
    let end = &bytes[bytes.len() - END as usize..];
    let (Ok(crc), Ok(length)) = (end[4..8].try_into(), end[8..16].try_into()) else {
        return Err(Found::Damaged("its end is cut".to_owned()));
    };
    if &end[16..] != MAGIC {
        return Err(Found::Damaged("its end is not that of a pack".to_owned()));
    }
    let file = FileSum {
        crc: u32::from_le_bytes(crc),
        length: u64::from_le_bytes(length),
    };
    Ok((pack, file))
}

fn sum(content: &Content) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    let mut footprint = Footprint::new();
    for piece in footprint.pieces(content) {
        hasher.update(piece);
    }
    hasher.finalize()
}

/// Writes what comes out of a package into a pack.
pub struct PackSink<'c> {
    pack: PackWriter,
    sum: crc32fast::Hasher,
    /// What is unpacked. It shrinks less than what comes out of it grows, so that the one counts for the other.
    read: &'c Content,
    written: u64,
    footprint: Footprint,
}

impl PackSink<'_> {
    /// A pack in the folder `packs` of what the file `read` has.
    ///
    /// # Errors
    /// When no file can be made there.
    pub fn new<'c>(packs: &Path, read: &'c Content) -> Result<PackSink<'c>, PackError> {
        Ok(PackSink {
            pack: PackWriter::new(packs)?,
            sum: crc32fast::Hasher::new(),
            read,
            written: 0,
            footprint: Footprint::new(),
        })
    }

    /// Gives the pack its end and its name. `file` is what was read.
    ///
    /// # Errors
    /// When writing or naming fails; nothing is left then.
    pub fn persist(mut self, name: &str, file: FileSum) -> Result<(), PackError> {
        let mut end = Vec::with_capacity(END as usize);
        end.extend_from_slice(&self.sum.finalize().to_le_bytes());
        end.extend_from_slice(&file.crc.to_le_bytes());
        end.extend_from_slice(&file.length.to_le_bytes());
        end.extend_from_slice(MAGIC);
        self.pack.write_all(&end).map_err(|source| PackError::Io {
            doing: "writing",
            path: name.into(),
            source,
        })?;
        self.pack.persist(name)?;
        Ok(())
    }
}

impl PayloadSink for PackSink<'_> {
    fn begin(&mut self, _: &Package, _: usize, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.written += bytes.len() as u64;
        if self.written >= 1 << 20 {
            self.footprint.touched(self.read, self.written);
            self.written = 0;
        }
        self.sum.update(bytes);
        self.pack.write_all(bytes)
    }

    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pack(folder: &Path, contents: &[u8]) -> (std::path::PathBuf, FileSum) {
        let package = Content::from("a package");
        let mut sink = PackSink::new(folder, &package).unwrap();
        sink.write(contents).unwrap();
        let file = FileSum::of(&package);
        sink.persist("pack", file).unwrap();
        (folder.join("pack"), file)
    }

    #[test]
    fn damage_at_any_byte_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let (path, of) = pack(folder.path(), b"some contents");
        let Found::Whole { pack, file } = open(&path, 13) else {
            panic!("it is whole");
        };
        assert_eq!(&pack.bytes()[..13], b"some contents");
        assert_eq!((file, file_sum(&path)), (of, Some(of)));
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            std::fs::write(&path, &bytes).unwrap();
            match open(&path, 13) {
                Found::Damaged(_) => {}
                // What is said of the package's file then fits no file, and the file is verified as if nothing were known.
                Found::Whole { file, .. } => {
                    assert!((17..29).contains(&at), "byte {at}");
                    assert_ne!(file, of, "byte {at}");
                }
                Found::Absent => panic!("byte {at}"),
            }
        }
        for len in 0..whole.len() {
            std::fs::write(&path, &whole[..len]).unwrap();
            // As long as the contents alone is what packs were once.
            assert_eq!(matches!(open(&path, 13), Found::Absent), len == 13, "{len} bytes");
            assert!(!matches!(open(&path, 13), Found::Whole { .. }), "{len} bytes");
        }
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(open(&path, 13), Found::Absent));
    }

    #[test]
    fn a_pack_without_contents_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (path, _) = pack(folder.path(), b"");
        assert!(matches!(open(&path, 0), Found::Whole { .. }));
    }
}
