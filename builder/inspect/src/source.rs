//! Bytes of files, and of what is compressed.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use lycia_media::compress::Format;
use lycia_tree::{Content, Pack, PackError};

/// What is unpacked goes to a file from this size on.
const IN_MEMORY: usize = 16 << 20;
/// Zeros of this many bytes at a time are not written.
const PIECE: usize = 64 << 10;
/// Memory that a stream of xz may ask for.
const XZ_MEMORY: u64 = 256 << 20;
/// Most of a stream of zstd that later parts may refer to, as a power of two.
const ZSTD_WINDOW: u32 = 27;

/// A file mapped into memory.
pub fn open(path: &Path) -> io::Result<Content> {
    let metadata = path.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        ));
    }
    whole(Pack::open(path, metadata.len()), metadata.len())
}

fn whole(pack: Result<Arc<Pack>, PackError>, len: u64) -> io::Result<Content> {
    pack.and_then(|pack| pack.range(0, len)).map_err(io::Error::other)
}

/// A file without a name: it goes with this process, however that ends.
fn nameless() -> io::Result<File> {
    tempfile::tempfile_in(std::env::temp_dir())
}

fn decoder<'b>(bytes: &'b [u8], format: Format) -> io::Result<Box<dyn Read + 'b>> {
    Ok(match format {
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(bytes)),
        Format::Xz => {
            let stream =
                liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(bytes, stream))
        }
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
            decoder.window_log_max(ZSTD_WINDOW)?;
            Box::new(decoder)
        }
    })
}

/// The first bytes of what is compressed; fewer, or none, where it is damaged.
pub fn head(bytes: &[u8], format: Format) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(decoder) = decoder(bytes, format) {
        let _ = decoder.take(512).read_to_end(&mut head);
    }
    head
}

/// What is compressed, unpacked: in memory, or in a file without a name.
pub fn unpack(bytes: &[u8], format: Format, limit: u64) -> io::Result<Content> {
    let mut decoder = decoder(bytes, format)?;
    let mut store = Store::default();
    let mut piece = vec![0; PIECE];
    let mut at = 0u64;
    loop {
        let count = match decoder.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if at + count as u64 > limit {
            return Err(io::Error::other(format!("it is more than {limit} bytes")));
        }
        store.put(at, &piece[..count])?;
        at += count as u64;
    }
    store.finish(at)
}

/// A place for bytes with holes: memory, or a sparse file when they become many.
#[derive(Default)]
pub struct Store {
    memory: Vec<u8>,
    file: Option<File>,
}

impl Store {
    /// Puts bytes at a place.
    pub fn put(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        let end = at + bytes.len() as u64;
        if self.file.is_none() && end <= IN_MEMORY as u64 {
            let end = end as usize;
            if self.memory.len() < end {
                self.memory.resize(end, 0);
            }
            self.memory[at as usize..end].copy_from_slice(bytes);
            return Ok(());
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let mut file = nameless()?;
                file.write_all(&self.memory)?;
                self.memory = Vec::new();
                self.file.insert(file)
            }
        };
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(());
        }
        file.seek(SeekFrom::Start(at))?;
        file.write_all(bytes)
    }

    /// All of it, `size` bytes.
    pub fn finish(mut self, size: u64) -> io::Result<Content> {
        match self.file.take() {
            None if size <= IN_MEMORY as u64 => {
                self.memory.resize(size as usize, 0);
                Ok(Content::from(self.memory))
            }
            file => {
                let mut file = match file {
                    Some(file) => file,
                    None => nameless()?,
                };
                if !self.memory.is_empty() {
                    file.write_all(&self.memory)?;
                }
                file.set_len(size)?;
                whole(Pack::of(&file, Path::new("of what was unpacked"), size), size)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt as _;

    use super::*;

    #[test]
    fn what_is_unpacked_has_no_name() {
        let mut store = Store::default();
        store.put(0, b"first").unwrap();
        store.put(IN_MEMORY as u64, b"behind").unwrap();
        let file = store.file.as_ref().unwrap();
        assert_eq!(file.metadata().unwrap().nlink(), 0);
        let size = IN_MEMORY as u64 + 10;
        let content = store.finish(size).unwrap();
        assert_eq!(content.len(), size);
        assert_eq!(&content.bytes()[..6], b"first\0");
        assert_eq!(&content.bytes()[IN_MEMORY..], b"behind\0\0\0\0");
    }
}
