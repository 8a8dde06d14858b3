//! The contents of files: which are equal, which blocks and fragments they become, where those lie.

use std::collections::HashMap;
use std::io::{Seek, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lycia_tree::{Content, Footprint, InodeId, Tree};

use super::blocks::BlockStore;
use super::layout::{BLOCK_RAW, put32, put64};
use super::pipeline::{Block, Done, Outcome, Pipeline};
use super::{Settings, SquashfsError};

/// Where the content of a file is.
#[derive(Clone, Default, Debug)]
pub(super) struct FileData {
    /// Bytes of the file.
    pub(super) len: u64,
    /// Position of the first block; 0 when there is none.
    pub(super) start: u64,
    /// Stored sizes of blocks.
    pub(super) blocks: Vec<u32>,
    /// Number of the fragment block and the offset in it.
    pub(super) fragment: Option<(u32, u32)>,
    /// Bytes in blocks of zeros.
    pub(super) holes: u64,
}

/// All contents, stored.
#[derive(Default)]
pub(super) struct Stored {
    /// By [`InodeId::index`], the number in `files`.
    of_inode: Vec<u32>,
    files: Vec<FileData>,
    /// Records of the fragment table.
    pub(super) fragment_records: Vec<u8>,
    pub(super) fragments: u32,
    pub(super) data_blocks: u64,
    pub(super) raw_blocks: u64,
    pub(super) duplicates: u64,
    pub(super) duplicate_bytes: u64,
    pub(super) hole_bytes: u64,
    pub(super) content_bytes: u64,
}

impl Stored {
    pub(super) fn file(&self, id: InodeId) -> &FileData {
        &self.files[self.of_inode[id.index()] as usize]
    }
}

/// What a block that was handed out is.
enum Label {
    /// Of the file of this number.
    Data(u32),
    /// The fragment block of this number.
    Fragment(u32),
}

/// Writes the contents of `files`, which are regular and each once there, to `out`, whose position is
/// `at` bytes into the image. Returns what is where, and the position behind.
pub(super) fn write<W: Write + Seek>(
    tree: &Tree,
    files: &[InodeId],
    settings: &Settings,
    out: &mut W,
    at: u64,
    known: Option<&dyn BlockStore>,
    progress: &dyn Fn(u64, u64),
) -> Result<(Stored, u64), SquashfsError> {
    let block_size = settings.block_size;
    let nothing = Content::empty();
    let contents: Vec<&Content> = files
        .iter()
        .map(|&id| tree.inode(id).content().unwrap_or(&nothing))
        .collect();
    let long: Vec<usize> = (0..files.len())
        .filter(|&file| contents[file].len() >= block_size as u64)
        .collect();
    let copies = equal_files(&contents, &long, settings.jobs);

    let total: u64 = contents.iter().map(|content| content.len()).sum();
    let mut stored = Stored {
        of_inode: vec![0; tree.inode_count()],
        files: contents
            .iter()
            .map(|content| FileData {
                len: content.len(),
                ..FileData::default()
            })
            .collect(),
        content_bytes: total,
        ..Stored::default()
    };
    for (number, id) in files.iter().enumerate() {
        stored.of_inode[id.index()] = number as u32;
    }

    let mut tails = Tails::new(block_size);
    let mut footprint = Footprint::new();
    let mut sink = Sink {
        contents: &contents,
        footprint: Footprint::new(),
        out,
        at,
        done: 0,
        total,
        progress,
        fragments: Vec::new(),
    };
    progress(0, total);
    std::thread::scope(|scope| {
        let mut pipeline = Pipeline::new(scope, &settings.compressor, block_size, settings.jobs, known)?;
        for (number, &content) in contents.iter().enumerate() {
            let bytes = content.bytes();
            if bytes.is_empty() {
                continue;
            }
            if copies[number] != number as u32 {
                stored.duplicates += 1;
                stored.duplicate_bytes += bytes.len() as u64;
                sink.advance(bytes.len() as u64);
                continue;
            }
            let mut whole = bytes.len() / block_size * block_size;
            if whole > 0 && !settings.tail_ends {
                whole = bytes.len();
            }
            for block in bytes[..whole].chunks(block_size) {
                pipeline.submit(Label::Data(number as u32), Block::File(block), &mut |done| {
                    sink.put(&mut stored, done)
                })?;
            }
            let tail = &bytes[whole..];
            if tail.is_empty() {
                continue;
            }
            let known = tails.known(tail);
            footprint.touched(content, tail.len() as u64);
            if let Some(place) = known {
                stored.files[number].fragment = Some(place);
                if whole == 0 {
                    stored.duplicates += 1;
                }
                stored.duplicate_bytes += tail.len() as u64;
                sink.advance(tail.len() as u64);
                continue;
            }
            let (place, full) = tails.push(tail, Likeness::of(bytes));
            stored.files[number].fragment = Some(place);
            if let Some((number, full)) = full {
                pipeline.submit(Label::Fragment(number), Block::Fragment(full), &mut |done| {
                    sink.put(&mut stored, done)
                })?;
            }
        }
        for (number, last) in tails.rest() {
            pipeline.submit(Label::Fragment(number), Block::Fragment(last), &mut |done| {
                sink.put(&mut stored, done)
            })?;
        }
        pipeline.finish(&mut |done| sink.put(&mut stored, done))
    })?;
    for (at, size) in std::mem::take(&mut sink.fragments) {
        put64(&mut stored.fragment_records, at);
        put32(&mut stored.fragment_records, size);
        put32(&mut stored.fragment_records, 0);
        stored.fragments += 1;
    }
    for (number, &original) in copies.iter().enumerate() {
        if original != number as u32 {
            stored.files[number] = stored.files[original as usize].clone();
        }
    }
    let end = sink.at;
    Ok((stored, end))
}

/// The end that writes.
struct Sink<'a, W> {
    contents: &'a [&'a Content],
    /// Of the contents whose blocks were written.
    footprint: Footprint,
    out: &'a mut W,
    at: u64,
    done: u64,
    total: u64,
    progress: &'a dyn Fn(u64, u64),
    /// Position and stored size of fragment blocks by number.
    fragments: Vec<(u64, u32)>,
}

impl<W: Write> Sink<'_, W> {
    fn put(&mut self, stored: &mut Stored, done: Done<'_, Label>) -> Result<(), SquashfsError> {
        let bytes = done.stored();
        let mut size = bytes.len() as u32;
        if matches!(done.outcome, Outcome::Raw) {
            size |= BLOCK_RAW;
            stored.raw_blocks += 1;
        }
        let mut written = None;
        match done.label {
            Label::Data(number) => {
                written = Some(self.contents[number as usize]);
                let file = &mut stored.files[number as usize];
                if file.blocks.is_empty() {
                    file.start = self.at;
                }
                file.blocks.push(size);
                stored.data_blocks += 1;
                if matches!(done.outcome, Outcome::Hole) {
                    file.holes += done.len() as u64;
                    stored.hole_bytes += done.len() as u64;
                }
            }
            Label::Fragment(number) => {
                // Those of another likeness may come earlier and have higher numbers.
                let number = number as usize;
                if self.fragments.len() <= number {
                    self.fragments.resize(number + 1, (0, 0));
                }
                self.fragments[number] = (self.at, size);
            }
        }
        self.out
            .write_all(bytes)
            .map_err(SquashfsError::io("writing the data of"))?;
        self.at += bytes.len() as u64;
        if let Some(content) = written {
            self.footprint.touched(content, done.len() as u64);
        }
        self.advance(done.len() as u64);
        Ok(())
    }
}

impl<W> Sink<'_, W> {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(self.done, self.total);
    }
}

/// What a file looks like. Ends that are alike share fragment blocks, which then shrink more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Likeness {
    Text,
    Program,
    Other,
}

impl Likeness {
    fn of(content: &[u8]) -> Likeness {
        let head = &content[..content.len().min(512)];
        if head.starts_with(b"\x7fELF") {
            Likeness::Program
        } else if head.iter().any(|&byte| byte < b'\t') {
            Likeness::Other
        } else {
            Likeness::Text
        }
    }
}

/// A full fragment block and its number.
type Full = (u32, Arc<[u8]>);

/// The number of a fragment block and the offset in it.
type Place = (u32, u32);

/// The bytes of an end and where it is.
type KnownTail<'t> = (&'t [u8], Place);

/// Of the ends of files that come to lie in the second half of a fragment block, one in this many closes it.
const ENDS: u32 = 8;

/// Ends of files on their way into fragment blocks.
struct Tails<'t> {
    /// The open block of each likeness and its number.
    open: [(u32, Vec<u8>); 3],
    block_size: usize,
    /// Number of the next block.
    next: u32,
    /// The bytes and places of ends by length and checksum.
    known: HashMap<(u32, u32), Vec<KnownTail<'t>>>,
}

impl<'t> Tails<'t> {
    fn new(block_size: usize) -> Tails<'t> {
        Tails {
            open: [const { (0, Vec::new()) }; 3],
            block_size,
            next: 0,
            known: HashMap::new(),
        }
    }

    /// Where the same bytes are already.
    fn known(&self, tail: &[u8]) -> Option<Place> {
        let same = self.known.get(&(tail.len() as u32, crc32fast::hash(tail)))?;
        same.iter()
            .find(|(bytes, _)| *bytes == tail)
            .map(|&(_, place)| place)
    }

    /// Puts an end into the open block of its likeness, and gives that block when it had to be closed before.
    fn push(&mut self, tail: &'t [u8], likeness: Likeness) -> (Place, Option<Full>) {
        let (number, open) = &mut self.open[likeness as usize];
        let mut full = None;
        if !open.is_empty() && open.len() + tail.len() > self.block_size {
            full = Some((*number, Arc::from(&open[..])));
            open.clear();
        }
        if open.is_empty() {
            *number = self.next;
            self.next += 1;
        }
        let place = (*number, open.len() as u32);
        open.extend_from_slice(tail);
        let sum = crc32fast::hash(tail);
        self.known
            .entry((tail.len() as u32, sum))
            .or_default()
            .push((tail, place));
        // Where a block ends is for its contents to say, once it is half full: after a file that came, went or
        // changed, the blocks soon are again those of the image before, whose compressed bytes are known.
        if full.is_none() && open.len() > self.block_size / 2 && sum.is_multiple_of(ENDS) {
            full = Some((*number, Arc::from(&open[..])));
            open.clear();
        }
        (place, full)
    }

    /// The blocks that are still open.
    fn rest(self) -> impl Iterator<Item = Full> {
        self.open
            .into_iter()
            .filter(|(_, open)| !open.is_empty())
            .map(|(number, open)| (number, Arc::from(open)))
    }
}

/// For each content, the first that equals it, looking only among `candidates`. Contents are read only
/// when another has the same length.
fn equal_files(contents: &[&Content], candidates: &[usize], jobs: usize) -> Vec<u32> {
    let mut first: Vec<u32> = (0..contents.len() as u32).collect();
    let mut by_len: HashMap<u64, u32> = HashMap::new();
    for &file in candidates {
        *by_len.entry(contents[file].len()).or_default() += 1;
    }
    let doubtful: Vec<usize> = candidates
        .iter()
        .copied()
        .filter(|&file| by_len[&contents[file].len()] > 1)
        .collect();
    let sums = checksums(contents, &doubtful, jobs);
    let mut known: HashMap<(u64, u32), Vec<usize>> = HashMap::new();
    let mut footprint = Footprint::new();
    for (&file, sum) in doubtful.iter().zip(sums) {
        let same = known.entry((contents[file].len(), sum)).or_default();
        let equal = |&&other: &&usize| equal(contents[other], contents[file], &mut footprint);
        match same.iter().find(equal) {
            Some(&other) => first[file] = other as u32,
            None => same.push(file),
        }
    }
    first
}

/// Whether two contents of one length have the same bytes.
fn equal(a: &Content, b: &Content, footprint: &mut Footprint) -> bool {
    const PIECE: usize = 1 << 20;
    let mut pieces = a.bytes().chunks(PIECE).zip(b.bytes().chunks(PIECE));
    pieces.all(|(one, other)| {
        let same = one == other;
        footprint.touched(a, one.len() as u64);
        footprint.touched(b, one.len() as u64);
        same
    })
}

/// CRC-32 of the `wanted` contents. It only sorts out: equality is decided by the bytes.
fn checksums(contents: &[&Content], wanted: &[usize], jobs: usize) -> Vec<u32> {
    let next = AtomicUsize::new(0);
    let mut sums = vec![0; wanted.len()];
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(wanted.len()))
            .map(|_| {
                scope.spawn(|| {
                    let mut mine = Vec::new();
                    let mut footprint = Footprint::new();
                    loop {
                        let turn = next.fetch_add(1, Ordering::Relaxed);
                        let Some(&file) = wanted.get(turn) else {
                            return mine;
                        };
                        let mut sum = crc32fast::Hasher::new();
                        footprint
                            .pieces(contents[file])
                            .for_each(|piece| sum.update(piece));
                        mine.push((turn, sum.finalize()));
                    }
                })
            })
            .collect();
        for worker in workers {
            match worker.join() {
                Ok(mine) => mine.into_iter().for_each(|(turn, sum)| sums[turn] = sum),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
    });
    sums
}
