//! Keeping the memory that mapped contents take bounded.

use std::sync::Arc;

use crate::{Content, Pack};

/// Bytes that may have been touched before their memory is given back.
const MOST: u64 = 16 << 20;
/// What the kernel maps around a page that is touched (`fault_around_bytes`): a small file takes as much.
const AROUND: u64 = 64 << 10;
/// Bytes of a piece.
const PIECE: usize = 1 << 20;

/// The memory of contents that are read one after another.
///
/// Pages of a mapped pack count as memory of the process from when they are touched, so that whoever reads a root of gigabytes
/// seems to hold all of it, and a limit on the build's memory ends it. A footprint gives pages back once enough of them were
/// touched; the kernel keeps them as long as it has room, and touching them again is cheap.
#[derive(Default)]
pub struct Footprint {
    packs: Vec<Arc<Pack>>,
    touched: u64,
}

impl Footprint {
    /// Nothing was touched yet.
    pub fn new() -> Footprint {
        Footprint::default()
    }

    /// `bytes` of `content` were read, and are not needed for now.
    pub fn touched(&mut self, content: &Content, bytes: u64) {
        let Content::Packed { pack, .. } = content else {
            return;
        };
        if !self.packs.iter().any(|known| Arc::ptr_eq(known, pack)) {
            self.packs.push(Arc::clone(pack));
        }
        self.touched += bytes.next_multiple_of(AROUND) + AROUND;
        if self.touched >= MOST {
            self.release();
        }
    }

    /// The bytes of `content`, piece by piece. Each piece counts as read when the next one is asked for.
    pub fn pieces<'c, 'f>(&'f mut self, content: &'c Content) -> Pieces<'c, 'f> {
        Pieces {
            footprint: self,
            content,
            at: 0,
            given: 0,
        }
    }

    fn release(&mut self) {
        for pack in self.packs.drain(..) {
            pack.release();
        }
        self.touched = 0;
    }
}

impl Drop for Footprint {
    fn drop(&mut self) {
        self.release();
    }
}

/// The bytes of a content in pieces, made by [`Footprint::pieces`].
pub struct Pieces<'c, 'f> {
    footprint: &'f mut Footprint,
    content: &'c Content,
    at: usize,
    /// Bytes of the last piece, which are not counted yet.
    given: u64,
}

impl<'c> Iterator for Pieces<'c, '_> {
    type Item = &'c [u8];

    fn next(&mut self) -> Option<&'c [u8]> {
        if self.given > 0 {
            self.footprint.touched(self.content, self.given);
        }
        let rest = &self.content.bytes()[self.at..];
        let piece = &rest[..rest.len().min(PIECE)];
        self.at += piece.len();
        self.given = piece.len() as u64;
        (!piece.is_empty()).then_some(piece)
    }
}

impl Drop for Pieces<'_, '_> {
    fn drop(&mut self) {
        if self.given > 0 {
            self.footprint.touched(self.content, self.given);
        }
    }
}

/// Reads a content from its beginning, and gives the memory of what was read back on the way.
pub struct ContentReader<'c> {
    footprint: Footprint,
    content: &'c Content,
    at: usize,
}

impl<'c> ContentReader<'c> {
    pub(crate) fn new(content: &'c Content) -> ContentReader<'c> {
        ContentReader {
            footprint: Footprint::new(),
            content,
            at: 0,
        }
    }
}

impl std::io::Read for ContentReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.content.bytes()[self.at..];
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        // Pages are counted once, however small the reads are.
        let passed = (self.at + len) / PIECE - self.at / PIECE;
        self.at += len;
        if passed > 0 {
            self.footprint.touched(self.content, (passed * PIECE) as u64);
        }
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;
    use crate::PackWriter;

    /// Memory of this process that is mapped files, in bytes: of the ranges that `pack` is mapped at alone.
    fn mapped(pack: &Pack) -> u64 {
        let start = format!("{:x}-", pack.bytes().as_ptr() as usize);
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let mut lines = maps.lines().skip_while(|line| !line.starts_with(&start));
        let line = lines.find(|line| line.starts_with("Rss:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    #[test]
    fn reading_a_pack_holds_little_of_it() {
        const SIZE: usize = 80 << 20;
        let directory = tempfile::tempdir().unwrap();
        let mut writer = PackWriter::new(directory.path()).unwrap();
        for number in 0..SIZE / 4096 {
            writer.write_all(&[number as u8; 4096]).unwrap();
        }
        let path = writer.persist("pack").unwrap();
        let pack = Pack::open(&path, SIZE as u64).unwrap();
        let whole = pack.range(0, SIZE as u64).unwrap();
        let (mut most, mut sum) = (0, 0u64);
        let mut footprint = Footprint::new();
        for piece in footprint.pieces(&whole) {
            sum += piece.iter().map(|&byte| u64::from(byte)).sum::<u64>();
            most = most.max(mapped(&pack));
        }
        drop(footprint);
        assert!(most >= PIECE as u64, "{most}");
        assert!(most <= 2 * MOST, "{most}");
        assert_eq!(mapped(&pack), 0);
        // What was given back is there all the same.
        let bytes = pack.bytes().iter().map(|&byte| u64::from(byte)).sum::<u64>();
        assert_eq!(bytes, sum);
        pack.release();

        // Small files far apart, of which each maps what lies around it.
        let mut footprint = Footprint::new();
        let mut most = 0;
        for at in (0..SIZE as u64).step_by(128 << 10) {
            let small = pack.range(at, 100).unwrap();
            assert_eq!(small.bytes()[99], (at / 4096) as u8);
            footprint.touched(&small, 100);
            most = most.max(mapped(&pack));
        }
        assert!(most <= 2 * MOST, "{most}");
        drop(footprint);

        let mut reader = whole.reader();
        let (mut buffer, mut read) = (vec![0; 500_000], 0);
        let mut most = 0;
        loop {
            let len = reader.read(&mut buffer).unwrap();
            if len == 0 {
                break;
            }
            assert_eq!(buffer[0], (read / 4096) as u8);
            read += len;
            most = most.max(mapped(&pack));
        }
        assert_eq!(read, SIZE);
        assert!(most <= 2 * MOST, "{most}");
    }

    #[test]
    fn contents_in_memory_read_the_same() {
        for len in [0, 1, PIECE, 2 * PIECE + 5] {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            let content = Content::from(bytes.clone());
            let mut footprint = Footprint::new();
            assert_eq!(footprint.pieces(&content).collect::<Vec<_>>().concat(), bytes);
            let mut read = Vec::new();
            content.reader().read_to_end(&mut read).unwrap();
            assert_eq!(read, bytes);
        }
    }
}
