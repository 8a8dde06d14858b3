//! The blocks of a directory: a row of entries, or, where one block is not enough, leaves sorted by hash
//! under an index (Linux `Documentation/filesystems/ext4/directory.rst`).

use std::ops::Range;

use super::checksum::Sums;
use super::field::{put16, put32};
use super::hash::hash;

/// Bytes at the end of a block that hold its checksum.
const TAIL: usize = 12;
/// Bytes at the end of a block of the index that hold its checksum.
const INDEX_TAIL: usize = 8;
const INDEX_ENTRY: usize = 8;
/// Where the entries of the index begin, in its root and elsewhere.
const ROOT_ENTRIES: usize = 32;
const NODE_ENTRIES: usize = 8;
/// Half MD4. That characters are unsigned is said by the superblock.
pub(super) const HASH_VERSION: u8 = 1;

/// What the blocks depend on.
#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) block_size: u32,
    pub(super) checksums: bool,
    pub(super) hash_seed: [u32; 4],
}

impl Settings {
    /// Bytes for entries.
    fn usable(self) -> usize {
        self.block_size as usize - if self.checksums { TAIL } else { 0 }
    }

    fn index_capacity(self, first: usize) -> usize {
        let tail = if self.checksums { INDEX_TAIL } else { 0 };
        (self.block_size as usize - first - tail) / INDEX_ENTRY
    }
}

/// Which entry goes where.
pub(super) enum Arrangement {
    /// All in one block.
    Linear,
    Indexed {
        /// Hash and number of each entry, sorted.
        order: Vec<(u32, u32, u32)>,
        /// The entries of each leaf.
        leaves: Vec<Range<usize>>,
        /// Blocks between root and leaves.
        nodes: usize,
    },
}

impl Arrangement {
    /// Blocks of the directory.
    pub(super) fn blocks(&self) -> u64 {
        match self {
            Arrangement::Linear => 1,
            Arrangement::Indexed { leaves, nodes, .. } => (1 + nodes + leaves.len()) as u64,
        }
    }
}

/// The bytes of an entry with a name of `len` bytes.
fn record_len(len: usize) -> usize {
    (8 + len).next_multiple_of(4)
}

/// Arranges entries with these names, which come in the order in which [`blocks`] will get them.
///
/// # Errors
/// When there are more than an index of two levels holds.
pub(super) fn arrange<'n>(
    names: impl Iterator<Item = &'n [u8]> + Clone,
    settings: Settings,
) -> Result<Arrangement, &'static str> {
    let usable = settings.usable();
    let bytes: usize = names.clone().map(|name| record_len(name.len())).sum();
    if record_len(1) + record_len(2) + bytes <= usable {
        return Ok(Arrangement::Linear);
    }
    let mut lengths = Vec::new();
    let mut order: Vec<(u32, u32, u32)> = Vec::new();
    for (index, name) in names.enumerate() {
        let (major, minor) = hash(name, &settings.hash_seed);
        order.push((major, minor, index as u32));
        lengths.push(name.len() as u8);
    }
    order.sort_unstable();
    let mut leaves = Vec::new();
    let (mut start, mut filled) = (0, 0);
    for (at, &(_, _, index)) in order.iter().enumerate() {
        let len = record_len(lengths[index as usize].into());
        if filled + len > usable {
            leaves.push(start..at);
            (start, filled) = (at, 0);
        }
        filled += len;
    }
    leaves.push(start..order.len());
    let in_root = settings.index_capacity(ROOT_ENTRIES);
    let nodes = if leaves.len() <= in_root {
        0
    } else {
        leaves.len().div_ceil(settings.index_capacity(NODE_ENTRIES))
    };
    if nodes > in_root {
        return Err("the directory has more entries than an index of two levels holds");
    }
    Ok(Arrangement::Indexed { order, leaves, nodes })
}

/// An entry to be written.
#[derive(Clone, Copy)]
pub(super) struct Entry<'n> {
    pub(super) name: &'n [u8],
    pub(super) inode: u32,
    /// Type of file, as directories have it.
    pub(super) kind: u8,
}

/// The type of file of a directory.
pub(super) const KIND_DIRECTORY: u8 = 2;

/// A block being filled with entries.
struct Row {
    bytes: Vec<u8>,
    usable: usize,
    at: usize,
    last: usize,
}

impl Row {
    fn new(settings: Settings) -> Row {
        Row {
            bytes: vec![0; settings.block_size as usize],
            usable: settings.usable(),
            at: 0,
            last: 0,
        }
    }

    fn push(&mut self, entry: Entry<'_>) {
        let len = record_len(entry.name.len());
        put32(&mut self.bytes, self.at, entry.inode);
        put16(&mut self.bytes, self.at + 4, len as u16);
        self.bytes[self.at + 6] = entry.name.len() as u8;
        self.bytes[self.at + 7] = entry.kind;
        self.bytes[self.at + 8..][..entry.name.len()].copy_from_slice(entry.name);
        self.last = self.at;
        self.at += len;
    }

    /// Lets the last entry reach to the end and adds the checksum.
    fn finish(mut self, sums: Sums) -> Vec<u8> {
        let rest = (self.usable - self.last) as u16;
        put16(&mut self.bytes, self.last + 4, rest);
        let end = self.usable;
        if let Some(sum) = sums.of(&[&self.bytes[..end]]) {
            put16(&mut self.bytes, end + 4, TAIL as u16);
            self.bytes[end + 7] = 0xde;
            put32(&mut self.bytes, end + 8, sum);
        }
        self.bytes
    }
}

/// The blocks of the directory with the inode `own` in the directory `parent`, as `arrangement` says.
pub(super) fn blocks(
    arrangement: &Arrangement,
    entries: &[Entry<'_>],
    (own, parent): (u32, u32),
    settings: Settings,
    sums: Sums,
) -> Vec<u8> {
    let dots = [(b".".as_slice(), own), (b"..", parent)].map(|(name, inode)| Entry {
        name,
        inode,
        kind: KIND_DIRECTORY,
    });
    let (order, leaves, nodes) = match arrangement {
        Arrangement::Linear => {
            let mut row = Row::new(settings);
            for entry in dots.iter().chain(entries) {
                row.push(*entry);
            }
            return row.finish(sums);
        }
        Arrangement::Indexed { order, leaves, nodes } => (order, leaves, *nodes),
    };
    let block_size = settings.block_size as usize;
    let mut bytes = vec![0; block_size];
    for (at, entry) in [0, 12].into_iter().zip(dots) {
        let len = if at == 0 { 12 } else { block_size - 12 };
        put32(&mut bytes, at, entry.inode);
        put16(&mut bytes, at + 4, len as u16);
        bytes[at + 6] = entry.name.len() as u8;
        bytes[at + 7] = KIND_DIRECTORY;
        bytes[at + 8..][..entry.name.len()].copy_from_slice(entry.name);
    }
    bytes[28] = HASH_VERSION;
    bytes[29] = 8;
    bytes[30] = u8::from(nodes > 0);
    // A leaf is found by its first hash; the lowest bit says that the leaf before ends in the same one.
    let places: Vec<(u32, u32)> = leaves
        .iter()
        .enumerate()
        .map(|(number, leaf)| {
            let first = order[leaf.start].0;
            let goes_on = leaf.start > 0 && order[leaf.start - 1].0 == first;
            (first | u32::from(goes_on), (1 + nodes + number) as u32)
        })
        .collect();
    if nodes == 0 {
        index(&mut bytes, ROOT_ENTRIES, &places, settings, sums);
    } else {
        let capacity = settings.index_capacity(NODE_ENTRIES);
        let above: Vec<(u32, u32)> = places
            .chunks(capacity)
            .enumerate()
            .map(|(number, part)| (part[0].0, 1 + number as u32))
            .collect();
        index(&mut bytes, ROOT_ENTRIES, &above, settings, sums);
        for part in places.chunks(capacity) {
            let mut node = vec![0; block_size];
            put16(&mut node, 4, block_size as u16);
            index(&mut node, NODE_ENTRIES, part, settings, sums);
            bytes.extend_from_slice(&node);
        }
    }
    for leaf in leaves {
        let mut row = Row::new(settings);
        for &(_, _, number) in &order[leaf.clone()] {
            row.push(entries[number as usize]);
        }
        bytes.extend_from_slice(&row.finish(sums));
    }
    bytes
}

/// Fills a block of the index from `first` on.
fn index(block: &mut [u8], first: usize, places: &[(u32, u32)], settings: Settings, sums: Sums) {
    let capacity = settings.index_capacity(first);
    for (at, &(hash, place)) in places.iter().enumerate() {
        let at = first + INDEX_ENTRY * at;
        put32(block, at, hash);
        put32(block, at + 4, place);
    }
    // The first needs no hash: its place holds how many there are.
    put16(block, first, capacity as u16);
    put16(block, first + 2, places.len() as u16);
    let used = first + INDEX_ENTRY * places.len();
    let tail = first + INDEX_ENTRY * capacity;
    if let Some(sum) = sums.of(&[&block[..used], &[0; INDEX_TAIL]]) {
        put32(block, tail + 4, sum);
    }
}

/// A directory of `count` blocks without entries, as `lost+found` has to be: `e2fsck` allocates nothing.
pub(super) fn empty(count: u64, ids: (u32, u32), settings: Settings, sums: Sums) -> Vec<u8> {
    let mut bytes = blocks(&Arrangement::Linear, &[], ids, settings, sums);
    for _ in 1..count {
        bytes.extend_from_slice(&Row::new(settings).finish(sums));
    }
    bytes
}
