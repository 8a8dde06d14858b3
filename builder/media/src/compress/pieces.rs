//! Streams of independent pieces: each is compressed by itself, by as many threads as memory allows, and what a store knows
//! is not compressed again.
//!
//! gzip streams have a member for each piece, zstd streams a frame, xz streams a block; whatever reads the format reads these
//! (RFC 1952, 2.2; RFC 8878, 3.1; the .xz file format, 2). Pieces end where the bytes in front of the end say so, so that a
//! file that grows in the middle of a tarball moves the ends behind it with it, and changes one piece or two. The bytes depend on neither threads nor what is known.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Scope;

use liblzma::stream::Stream;
use sha2::{Digest as _, Sha256};

use super::{CompressError, Compression, Encoder, Format, XzCheck, check_range, xz_filters};
use crate::squashfs::{BlockKey, BlockStore, Known};

/// Bytes that the threads of one stream may take together, whatever their number.
const MOST: u64 = 144 << 20;

const MIB: u64 = 1 << 20;

/// Where pieces end.
#[derive(Clone, Copy)]
struct Ends {
    /// Fewest bytes of a piece but the last.
    least: usize,
    /// Most bytes.
    most: usize,
    /// How many bits of the hash are zero at an end.
    bits: u32,
}

impl Ends {
    fn of(format: Format) -> Ends {
        match format {
            // A window of 32 KiB forgets little.
            Format::Gzip => Ends {
                least: 3 << 18,
                most: 3 << 19,
                bits: 17,
            },
            Format::Zstd => Ends {
                least: 5 << 19,
                most: 4 << 20,
                bits: 19,
            },
            Format::Xz => Ends {
                least: 8 << 20,
                most: 10 << 20,
                bits: 19,
            },
        }
    }
}

/// Bytes that a thread takes for a piece: what the encoder wants, the piece, and what becomes of it.
fn weight(compression: &Compression) -> u64 {
    let (encoder, format) = match *compression {
        Compression::None => return 0,
        Compression::Gzip { .. } => (MIB, Format::Gzip),
        // Its hash chains take 8 bytes for each of the dictionary, its binary trees 11.5 (xz(1), the presets' memory).
        Compression::Xz {
            preset, dictionary, ..
        } => {
            let each = if preset < 4 { 16 } else { 23 };
            (u64::from(dictionary) * each / 2 + MIB, Format::Xz)
        }
        // The tables of the levels, for no more than a piece.
        Compression::Zstd { level, .. } => {
            let tables = match level {
                ..=4 => 4,
                5..=8 => 8,
                9..=11 => 28,
                12..=14 => 52,
                _ => 64,
            };
            (tables * MIB, Format::Zstd)
        }
    };
    encoder + 2 * Ends::of(format).most as u64
}

/// Numbers for the rolling hash: splitmix64 of 1, 2, and so on.
const GEAR: [u64; 256] = {
    let mut table = [0; 256];
    let mut state = 0u64;
    let mut at = 0;
    while at < 256 {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let value = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[at] = value ^ (value >> 31);
        at += 1;
    }
    table
};

/// What the threads share.
struct Shared<'k> {
    compression: Compression,
    known: Option<&'k dyn BlockStore>,
    /// The last piece and what became of it: a disk has the same nothing for long.
    last: Mutex<Option<(BlockKey, Arc<Vec<u8>>)>>,
}

type Packed = Result<Arc<Vec<u8>>, CompressError>;

/// Compresses what is written to it, piece by piece. [`Pieces::finish`] must be called: dropped before, the stream stays cut.
pub struct Pieces<W: Write> {
    out: W,
    format: Option<Format>,
    ends: Ends,
    piece: Vec<u8>,
    hash: u64,
    jobs: SyncSender<(u64, Vec<u8>)>,
    done: Receiver<(u64, Packed)>,
    /// Most pieces that are handed out and not written.
    most: u64,
    handed: u64,
    written: u64,
    ready: BTreeMap<u64, Arc<Vec<u8>>>,
    /// Of xz: sizes of the blocks, as the index has them.
    blocks: Vec<(u64, u64)>,
    check: XzCheck,
    begun: bool,
}

impl<W: Write> Pieces<W> {
    /// Starts a stream on `out`, with at most `threads` threads in `scope`: fewer, where they would take more than 144 MiB
    /// together. Pieces that `known` has are taken from there.
    ///
    /// # Errors
    /// When the settings are out of the format's range.
    pub fn new<'scope, 'k: 'scope>(
        scope: &'scope Scope<'scope, '_>,
        out: W,
        compression: &Compression,
        threads: u32,
        known: Option<&'k dyn BlockStore>,
    ) -> Result<Pieces<W>, CompressError> {
        // Settings that the format does not have show now.
        Encoder::new(io::sink(), compression, 1)?;
        let fit = u32::try_from(MOST / weight(compression).max(1)).unwrap_or(u32::MAX);
        let threads = threads.min(fit).clamp(1, 64);
        let shared = Arc::new(Shared {
            compression: compression.clone(),
            known,
            last: Mutex::default(),
        });
        let (jobs, waiting) = sync_channel::<(u64, Vec<u8>)>(1);
        let waiting = Arc::new(Mutex::new(waiting));
        let (ready, done) = channel();
        let format = compression.format();
        for _ in 0..if format.is_some() { threads } else { 0 } {
            let (shared, waiting, ready) = (Arc::clone(&shared), Arc::clone(&waiting), Sender::clone(&ready));
            scope.spawn(move || {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok((number, bytes)) = next else { return };
                    if ready.send((number, shared.packed(&bytes))).is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Pieces {
            out,
            format,
            ends: Ends::of(format.unwrap_or(Format::Gzip)),
            piece: Vec::new(),
            hash: 0,
            jobs,
            done,
            most: u64::from(threads) + 1,
            handed: 0,
            written: 0,
            ready: BTreeMap::new(),
            blocks: Vec::new(),
            check: match *compression {
                Compression::Xz { check, .. } => check,
                _ => XzCheck::Crc64,
            },
            begun: false,
        })
    }

    /// Hands a piece to the threads, once there is room.
    fn hand(&mut self) -> io::Result<()> {
        while self.handed - self.written >= self.most {
            self.receive()?;
        }
        let piece = std::mem::take(&mut self.piece);
        self.hash = 0;
        self.jobs
            .send((self.handed, piece))
            .map_err(|_| io::Error::other("the compressing threads have ended"))?;
        self.handed += 1;
        Ok(())
    }

    /// Waits for a piece, and writes what is next.
    fn receive(&mut self) -> io::Result<()> {
        let (number, packed) = self
            .done
            .recv()
            .map_err(|_| io::Error::other("the compressing threads have ended"))?;
        self.ready.insert(number, packed.map_err(io::Error::other)?);
        while let Some(packed) = self.ready.remove(&self.written) {
            self.written += 1;
            if self.format == Some(Format::Xz) {
                self.begin()?;
                let (block, sizes) = block_of(&packed)
                    .ok_or_else(|| io::Error::other("the encoder of xz made another stream than expected"))?;
                self.out.write_all(block)?;
                self.blocks.push(sizes);
            } else {
                self.out.write_all(&packed)?;
            }
        }
        Ok(())
    }

    /// Writes the header of an xz stream.
    fn begin(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.begun, true) {
            let flags = flags(self.check);
            self.out.write_all(b"\xfd7zXZ\0")?;
            self.out.write_all(&flags)?;
            self.out.write_all(&crc32fast::hash(&flags).to_le_bytes())?;
        }
        Ok(())
    }

    /// Ends the stream and gives the output back.
    ///
    /// # Errors
    /// When the output refuses the rest, or an encoder does.
    pub fn finish(mut self) -> io::Result<W> {
        let Some(format) = self.format else {
            return Ok(self.out);
        };
        // Nothing is a stream, too; one of xz has no blocks then.
        if !self.piece.is_empty() || (self.handed == 0 && format != Format::Xz) {
            self.hand()?;
        }
        while self.written < self.handed {
            self.receive()?;
        }
        if format == Format::Xz {
            self.begin()?;
            let index = index(&self.blocks);
            self.out.write_all(&index)?;
            let mut end = (index.len() as u32 / 4 - 1).to_le_bytes().to_vec();
            end.extend_from_slice(&flags(self.check));
            self.out.write_all(&crc32fast::hash(&end).to_le_bytes())?;
            self.out.write_all(&end)?;
            self.out.write_all(b"YZ")?;
        }
        Ok(self.out)
    }
}

impl<W: Write> Write for Pieces<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.format.is_none() {
            return self.out.write(bytes);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            if self.piece.capacity() == 0 {
                self.piece.reserve_exact(self.ends.most);
            }
            let have = self.piece.len();
            if have < self.ends.least {
                let (now, later) = rest.split_at(rest.len().min(self.ends.least - have));
                self.piece.extend_from_slice(now);
                rest = later;
                continue;
            }
            let look = &rest[..rest.len().min(self.ends.most - have)];
            let end = look.iter().position(|&byte| {
                self.hash = (self.hash << 1).wrapping_add(GEAR[usize::from(byte)]);
                self.hash >> (64 - self.ends.bits) == 0
            });
            let (now, later) = rest.split_at(end.map_or(look.len(), |end| end + 1));
            self.piece.extend_from_slice(now);
            rest = later;
            if end.is_some() || self.piece.len() == self.ends.most {
                self.hand()?;
            }
        }
        Ok(bytes.len())
    }

    /// Nothing: the end of a piece does not depend on when this is called.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Shared<'_> {
    fn packed(&self, bytes: &[u8]) -> Packed {
        let key = self.key(bytes);
        let lock = || self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, packed)) = &*lock()
            && *last == key
        {
            return Ok(Arc::clone(packed));
        }
        let found = self.known.and_then(|known| known.get(&key));
        let packed = match found {
            Some(Known::Packed(packed)) => packed,
            _ => {
                let packed = self.compress(bytes)?;
                if let Some(known) = self.known {
                    known.put(&key, Some(&packed));
                }
                packed
            }
        };
        let packed = Arc::new(packed);
        *lock() = Some((key, Arc::clone(&packed)));
        Ok(packed)
    }

    fn key(&self, bytes: &[u8]) -> BlockKey {
        let mut hasher = Sha256::new();
        // The block size of xz is that of the pieces.
        hasher.update(format!("piece 1\0{:?}\0", self.compression));
        hasher.update(bytes);
        hasher.finalize().into()
    }

    /// A piece as a stream of its own.
    fn compress(&self, bytes: &[u8]) -> Result<Vec<u8>, CompressError> {
        let format = self.compression.format().map_or("nothing", Format::name);
        let encode = |source| CompressError::Encode { format, source };
        match self.compression {
            Compression::Xz {
                preset,
                extreme,
                dictionary,
                branches,
                check,
                ..
            } => {
                let filters = xz_filters(preset, extreme, dictionary, branches)?;
                let stream = Stream::new_stream_encoder(&filters, check.into())
                    .map_err(|error| encode(error.into()))?;
                let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
                encoder.write_all(bytes).map_err(encode)?;
                encoder.finish().map_err(encode)
            }
            Compression::Zstd { level, window_log } => {
                // Told how much there is, the encoder takes tables of that size.
                let mut encoder = zstd::bulk::Compressor::new(level).map_err(encode)?;
                encoder.include_checksum(true).map_err(encode)?;
                if let Some(window_log) = window_log {
                    check_range("zstd", "window", window_log.into(), 10, 27)?;
                    encoder.window_log(window_log).map_err(encode)?;
                }
                encoder.compress(bytes).map_err(encode)
            }
            Compression::None | Compression::Gzip { .. } => {
                let mut encoder = Encoder::new(Vec::new(), &self.compression, 1)?;
                encoder.write_all(bytes).map_err(encode)?;
                encoder.finish().map_err(encode)
            }
        }
    }
}

/// Flags of an xz stream.
fn flags(check: XzCheck) -> [u8; 2] {
    match check {
        XzCheck::Crc32 => [0, 1],
        XzCheck::Crc64 => [0, 4],
    }
}

/// Bytes of the header and of the end of an xz stream.
const FRAME: usize = 12;

/// The one block of an xz stream, with its bytes without padding and those of what it holds.
fn block_of(stream: &[u8]) -> Option<(&[u8], (u64, u64))> {
    let end = stream.len().checked_sub(FRAME)?;
    let size: [u8; 4] = stream.get(end + 4..end + 8)?.try_into().ok()?;
    let index_len = (u32::from_le_bytes(size) as usize + 1) * 4;
    let start = end.checked_sub(index_len)?;
    let mut index = stream.get(start..end)?;
    // Indicator of the index, number of records.
    index = index.strip_prefix(&[0, 1])?;
    let sizes = (take_number(&mut index)?, take_number(&mut index)?);
    Some((stream.get(FRAME..start)?, sizes))
}

/// A number in groups of 7 bits, the lowest first.
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The index of an xz stream.
fn index(blocks: &[(u64, u64)]) -> Vec<u8> {
    let mut index = vec![0];
    put_number(&mut index, blocks.len() as u64);
    for &(unpadded, uncompressed) in blocks {
        put_number(&mut index, unpadded);
        put_number(&mut index, uncompressed);
    }
    index.resize(index.len().next_multiple_of(4), 0);
    let sum = crc32fast::hash(&index);
    index.extend_from_slice(&sum.to_le_bytes());
    index
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::io::Read as _;

    use super::super::Branches;
    use super::*;

    /// A store in memory that counts.
    #[derive(Default)]
    struct Memory {
        known: Mutex<HashMap<BlockKey, Vec<u8>>>,
        counts: Mutex<(u64, u64)>,
    }

    impl BlockStore for Memory {
        fn get(&self, key: &BlockKey) -> Option<Known> {
            let found = self.known.lock().unwrap().get(key).cloned();
            let mut counts = self.counts.lock().unwrap();
            counts.0 += u64::from(found.is_some());
            counts.1 += 1;
            found.map(Known::Packed)
        }

        fn put(&self, key: &BlockKey, packed: Option<&[u8]>) {
            let packed = packed.unwrap().to_vec();
            self.known.lock().unwrap().insert(*key, packed);
        }
    }

    fn all() -> [Compression; 4] {
        [
            Compression::Gzip { level: 1 },
            Compression::zstd(1),
            Compression::Zstd {
                level: 3,
                window_log: Some(20),
            },
            Compression::Xz {
                preset: 0,
                extreme: false,
                dictionary: 1 << 16,
                branches: Branches::X86,
                check: XzCheck::Crc64,
                block: 0,
            },
        ]
    }

    /// Words in an order that is no order.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252u64;
        let mut bytes = Vec::with_capacity(len + 16);
        while bytes.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(format!("{:04x} and ", state & 0xffff).as_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    fn packed(
        bytes: &[u8],
        compression: &Compression,
        threads: u32,
        known: Option<&dyn BlockStore>,
        write: usize,
    ) -> Vec<u8> {
        std::thread::scope(|scope| {
            let mut pieces = Pieces::new(scope, Vec::new(), compression, threads, known).unwrap();
            for part in bytes.chunks(write) {
                pieces.write_all(part).unwrap();
                pieces.flush().unwrap();
            }
            pieces.finish().unwrap()
        })
    }

    fn unpacked(packed: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = match Format::detect(packed).unwrap() {
            Format::Gzip => flate2::bufread::MultiGzDecoder::new(packed).read_to_end(&mut bytes),
            // One stream and nothing behind it.
            Format::Xz => liblzma::bufread::XzDecoder::new(packed).read_to_end(&mut bytes),
            Format::Zstd => zstd::Decoder::with_buffer(packed)
                .unwrap()
                .read_to_end(&mut bytes),
        };
        read.unwrap();
        bytes
    }

    #[test]
    fn what_was_written_is_read_whatever_threads_writes_and_stores() {
        for compression in all() {
            for len in [0, 1, 14 << 20] {
                let bytes = sample(len);
                let once = packed(&bytes, &compression, 1, None, 1 << 20);
                assert!(unpacked(&once) == bytes, "{compression:?} {len}");
                let memory = Memory::default();
                for (threads, known, write) in [
                    (3, None, 10_007),
                    (2, Some(&memory as &dyn BlockStore), 1 << 16),
                    (2, Some(&memory), 1 << 22),
                ] {
                    let again = packed(&bytes, &compression, threads, known, write);
                    assert!(again == once, "{compression:?} {len} {threads}");
                }
                let (known, asked) = *memory.counts.lock().unwrap();
                assert_eq!(known * 2, asked, "{compression:?}");
            }
        }
    }

    #[test]
    fn a_change_changes_the_pieces_around_it() {
        let bytes = sample(44 << 20);
        let mut longer = bytes.clone();
        longer.splice(20_000_000..20_000_000, *b"some bytes that were not there");
        for compression in all() {
            let memory = Memory::default();
            packed(&bytes, &compression, 2, Some(&memory), 1 << 20);
            *memory.counts.lock().unwrap() = (0, 0);
            let warm = packed(&longer, &compression, 2, Some(&memory), 1 << 20);
            let (known, asked) = *memory.counts.lock().unwrap();
            assert!(
                asked - known <= 3 && known > 0,
                "{compression:?}: {known} of {asked}"
            );
            assert!(warm == packed(&longer, &compression, 2, None, 1 << 20));
        }
    }

    #[test]
    fn the_same_nothing_is_compressed_once() {
        let memory = Memory::default();
        let zeros = vec![0; 64 << 20];
        let compression = Compression::zstd(1);
        let once = packed(&zeros, &compression, 1, Some(&memory), 1 << 20);
        assert!(unpacked(&once) == zeros);
        assert!(memory.known.lock().unwrap().len() <= 2);
    }

    #[test]
    fn threads_have_their_memory() {
        let xz = |preset, dictionary| Compression::Xz {
            preset,
            extreme: false,
            dictionary,
            branches: Branches::None,
            check: XzCheck::Crc64,
            block: 0,
        };
        for (compression, threads) in [
            (Compression::Gzip { level: 9 }, 36),
            (Compression::zstd(1), 12),
            (Compression::zstd(12), 2),
            (Compression::zstd(19), 2),
            (Compression::zstd(22), 2),
            (xz(1, 4 << 20), 2),
            (xz(9, 4 << 20), 2),
            (xz(9, 64 << 20), 0),
        ] {
            assert_eq!(MOST / weight(&compression), threads, "{compression:?}");
        }
    }

    #[test]
    fn an_output_that_refuses_is_an_error() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::StorageFull.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        for compression in all() {
            let bytes = sample(3 << 20);
            let error = std::thread::scope(|scope| {
                let mut pieces = Pieces::new(scope, Full, &compression, 2, None).unwrap();
                pieces
                    .write_all(&bytes)
                    .and_then(|()| pieces.finish().map(drop))
                    .unwrap_err()
            });
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{compression:?}");
        }
    }
}
