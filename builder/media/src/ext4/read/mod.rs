//! Reading a volume, for checks. Nothing is taken on trust: numbers are checked before they are used, and what a
//! volume may make us hold is bounded by [`Limits`].
//!
//! Volumes of ext2 and ext3 are read too. A journal that was not replayed is not replayed here
//! ([`Summary::clean`] says so); inline data, encrypted and case-folded directories and attributes in inodes of
//! their own are refused where they are met.

mod directory;
mod map;
mod tree;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom};

use lycia_tree::{Device, Timestamp, TreeError};
use thiserror::Error;

use super::checksum::Sums;
use super::field::{get16, get32};
use super::inode::{self, FLAG_EXTENTS};
use super::superblock::{self, at};
use super::{geometry, xattr};
use crate::partition::Guid;

const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_HUGE_FILE: u32 = 0x4_0000;
/// Incompatible features that make no difference here, or are understood.
const READABLE: u32 = superblock::INCOMPAT_FILETYPE
    | superblock::INCOMPAT_EXTENTS
    | superblock::INCOMPAT_64BIT
    | superblock::INCOMPAT_FLEX
    | superblock::INCOMPAT_META_GROUPS
    | superblock::INCOMPAT_SUM_SEED
    | superblock::INCOMPAT_LARGE_DIRECTORIES
    | NEEDS_RECOVERY
    // Multiple mount protection, large attributes, inline data, encryption, case folding.
    | 0x100
    | 0x400
    | 0x8000
    | 0x1_0000
    | 0x2_0000;
const NEEDS_RECOVERY: u32 = 0x4;

/// What reading may take at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Directory entries of the volume.
    pub entries: u64,
    /// Bytes of contents that [`Reader::tree`] holds.
    pub bytes: u64,
}

impl Default for Limits {
    /// 4 million entries and 1 GiB.
    fn default() -> Limits {
        Limits {
            entries: 4 << 20,
            bytes: 1 << 30,
        }
    }
}

/// Why a volume was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The disk refused.
    #[error("reading an ext4 volume: {0}")]
    Io(#[from] io::Error),
    /// There is no superblock.
    #[error("reading an ext4 volume: no ext4 superblock is there")]
    NotExt4,
    /// It uses what is not understood.
    #[error("reading an ext4 volume: {0}, which is not supported")]
    Unsupported(String),
    /// It contradicts itself.
    #[error("reading an ext4 volume: {what}: {reason}")]
    Malformed {
        /// Which record.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More than the caller allowed.
    #[error("reading an ext4 volume: more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The most allowed.
        limit: u64,
    },
    /// The path leads nowhere.
    #[error("{0}: no such file or directory on the ext4 volume")]
    Missing(String),
    /// The entries make no tree.
    #[error("reading an ext4 volume: {0}")]
    Tree(#[from] TreeError),
}

fn malformed(what: impl Into<String>, reason: impl Into<String>) -> ReadError {
    ReadError::Malformed {
        what: what.into(),
        reason: reason.into(),
    }
}

/// What the superblock says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The UUID.
    pub uuid: Guid,
    /// The label, without padding.
    pub label: Vec<u8>,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Free blocks.
    pub free_blocks: u64,
    /// Blocks that only root may fill.
    pub reserved_blocks: u64,
    /// Inodes.
    pub inodes: u32,
    /// Free inodes.
    pub free_inodes: u32,
    /// Whether there is a journal.
    pub journal: bool,
    /// Whether metadata has checksums.
    pub checksums: bool,
    /// Whether files have extents: what makes it ext4 and not ext3.
    pub extents: bool,
    /// Whether it was unmounted in order and needs no check.
    pub clean: bool,
    /// When the superblock was last written.
    pub written: Timestamp,
    /// Features that a system which does not know them may ignore.
    pub compatible: u32,
    /// Features without which nothing can be read.
    pub incompatible: u32,
    /// Features without which nothing may be written.
    pub read_only_compatible: u32,
}

/// What an inode is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// An inode of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its number.
    pub number: u32,
    /// What it is.
    pub kind: Kind,
    /// Permission bits, 07777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Names that it has, as it says itself.
    pub links: u16,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Time of last access.
    pub atime: Timestamp,
    /// Time of last change of the inode.
    pub ctime: Timestamp,
    /// Units of 512 bytes that it takes.
    pub sectors: u64,
    flags: u32,
    generation: u32,
    map: [u8; 60],
    xattr_block: u64,
    xattrs: Vec<u8>,
}

/// A directory entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Its name.
    pub name: Vec<u8>,
    /// The inode it names.
    pub inode: u32,
}

/// What the bitmaps of a volume say, a bit for each block and inode. Of a group whose descriptor cannot be read everything is in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Allocation {
    blocks: Vec<u64>,
    inodes: Vec<u64>,
    /// The first bytes of each group's bitmaps.
    places: Vec<[u64; 2]>,
    /// The first block of the volume that has a bit, and how many a group has.
    geometry: (u64, u64, u32),
}

fn bit(words: &[u64], index: u64) -> bool {
    let word = usize::try_from(index / 64).ok().and_then(|at| words.get(at));
    word.is_some_and(|word| word >> (index % 64) & 1 != 0)
}

fn set_bits(words: &mut [u64], range: std::ops::Range<u64>) {
    for index in range {
        if let Some(word) = usize::try_from(index / 64).ok().and_then(|at| words.get_mut(at)) {
            *word |= 1 << (index % 64);
        }
    }
}

impl Allocation {
    /// Whether a block is in use.
    pub fn block(&self, block: u64) -> bool {
        let (first, ..) = self.geometry;
        block < first || bit(&self.blocks, block)
    }

    /// Whether an inode is in use.
    pub fn inode(&self, number: u32) -> bool {
        number > 0 && bit(&self.inodes, u64::from(number) - 1)
    }

    /// The byte of the volume that has a block's bit.
    pub fn block_place(&self, block: u64) -> u64 {
        let (first, per_group, _) = self.geometry;
        let index = block.saturating_sub(first);
        self.place(index / per_group, 0, index % per_group)
    }

    /// The byte of the volume that has an inode's bit.
    pub fn inode_place(&self, number: u32) -> u64 {
        let (.., per_group) = self.geometry;
        let index = u64::from(number.saturating_sub(1));
        let per_group = u64::from(per_group);
        self.place(index / per_group, 1, index % per_group)
    }

    fn place(&self, group: u64, which: usize, index: u64) -> u64 {
        let places = usize::try_from(group).ok().and_then(|at| self.places.get(at));
        places.map_or(1024, |places| places[which].saturating_add(index / 8))
    }
}

/// A volume opened for reading.
pub struct Reader<R> {
    disk: R,
    limits: Limits,
    summary: Summary,
    first_block: u64,
    blocks_per_group: u64,
    inodes_per_group: u32,
    inode_size: u32,
    descriptor: u32,
    /// Blocks of descriptors from which on they lie in their groups (`meta_bg`).
    first_meta: Option<u64>,
    first_inode: u32,
    /// Inodes that no directory names, as those of quotas.
    hidden: Vec<u32>,
    sums: Sums,
}

impl<R: Read + Seek> Reader<R> {
    /// Opens the volume that begins at the start of `disk`.
    ///
    /// # Errors
    /// When no volume is there, or it cannot be understood.
    pub fn open(mut disk: R, limits: Limits) -> Result<Reader<R>, ReadError> {
        let mut block = [0; superblock::LEN];
        disk.seek(SeekFrom::Start(1024))?;
        match disk.read_exact(&mut block) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ReadError::NotExt4),
            other => other?,
        }
        if get16(&block, at::MAGIC) != superblock::MAGIC {
            return Err(ReadError::NotExt4);
        }
        let wrong = |reason: String| malformed("the superblock", reason);
        let [compatible, incompatible, read_only_compatible] =
            [at::COMPAT, at::INCOMPAT, at::RO_COMPAT].map(|place| get32(&block, place));
        let (compatible, incompatible, read_only_compatible) = match get32(&block, at::REVISION) {
            0 => (0, 0, 0),
            _ => (compatible, incompatible, read_only_compatible),
        };
        let unknown = incompatible & !READABLE;
        if unknown != 0 {
            return Err(ReadError::Unsupported(format!(
                "it has the incompatible features {unknown:#x}"
            )));
        }
        if !superblock::verify(&block) {
            return Err(wrong("its checksum is wrong".to_owned()));
        }
        let log_block = get32(&block, at::LOG_BLOCK);
        if log_block > 6 {
            return Err(wrong(format!("blocks of 2^{} bytes", u64::from(log_block) + 10)));
        }
        let block_size = 1024 << log_block;
        let wide = incompatible & superblock::INCOMPAT_64BIT != 0;
        let count = |low: usize, high: usize| {
            let high = if wide { get32(&block, high) } else { 0 };
            u64::from(get32(&block, low)) | u64::from(high) << 32
        };
        let revision_0 = get32(&block, at::REVISION) == 0;
        let inode_size: u32 = if revision_0 {
            128
        } else {
            get16(&block, at::INODE_SIZE).into()
        };
        let descriptor = match (wide, get16(&block, at::DESCRIPTOR)) {
            (false, _) => 32,
            (true, size) => u32::from(size),
        };
        let blocks = count(at::BLOCKS, at::BLOCKS_HIGH);
        let first_block = u64::from(get32(&block, at::FIRST_BLOCK));
        let blocks_per_group = u64::from(get32(&block, at::BLOCKS_PER_GROUP));
        let inodes_per_group = get32(&block, at::INODES_PER_GROUP);
        let inodes = get32(&block, at::INODES);
        if !inode_size.is_power_of_two() || !(128..=block_size).contains(&inode_size) {
            return Err(wrong(format!("inodes of {inode_size} bytes")));
        }
        if !descriptor.is_power_of_two() || !(32..=1024.min(block_size)).contains(&descriptor) {
            return Err(wrong(format!("group descriptors of {descriptor} bytes")));
        }
        let most = 8 * u64::from(block_size);
        if blocks_per_group == 0 || blocks_per_group > most * 16 || first_block >= blocks {
            return Err(wrong(format!(
                "{blocks} blocks from {first_block} on in groups of {blocks_per_group}"
            )));
        }
        let groups = (blocks - first_block).div_ceil(blocks_per_group);
        if inodes_per_group == 0
            || u64::from(inodes_per_group) > most
            || u64::from(inodes) > groups.saturating_mul(inodes_per_group.into())
        {
            return Err(wrong(format!(
                "{inodes} inodes in {groups} groups of {inodes_per_group}"
            )));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&block[at::UUID..at::UUID + 16]);
        let checksums = read_only_compatible & superblock::RO_CHECKSUMS != 0;
        let sums = if checksums && incompatible & superblock::INCOMPAT_SUM_SEED != 0 {
            Sums::seeded(get32(&block, at::SUM_SEED))
        } else {
            Sums::new(&uuid, checksums)
        };
        let label = &block[at::LABEL..at::LABEL + super::LABEL_MAX];
        let summary = Summary {
            uuid: Guid::from_bytes(uuid),
            label: label.split(|&byte| byte == 0).next().unwrap_or_default().to_vec(),
            block_size,
            blocks,
            free_blocks: count(at::FREE_BLOCKS, at::FREE_BLOCKS_HIGH),
            reserved_blocks: count(at::RESERVED, at::RESERVED_HIGH),
            inodes,
            free_inodes: get32(&block, at::FREE_INODES),
            journal: compatible & superblock::COMPAT_JOURNAL != 0,
            checksums,
            extents: incompatible & superblock::INCOMPAT_EXTENTS != 0,
            clean: get16(&block, at::STATE) & 3 == 1 && incompatible & NEEDS_RECOVERY == 0,
            written: Timestamp::from_seconds(get32(&block, at::WRITTEN).into()),
            compatible,
            incompatible,
            read_only_compatible,
        };
        let first_inode = if revision_0 {
            11
        } else {
            get32(&block, at::FIRST_INODE)
        };
        let hidden = at::HIDDEN.map(|place| get32(&block, place));
        Ok(Reader {
            disk,
            limits,
            first_inode,
            hidden: hidden.into_iter().filter(|&number| number != 0).collect(),
            first_block,
            blocks_per_group,
            inodes_per_group,
            inode_size,
            descriptor,
            first_meta: (incompatible & superblock::INCOMPAT_META_GROUPS != 0)
                .then(|| get32(&block, at::FIRST_META).into()),
            sums,
            summary,
        })
    }

    /// What the superblock says.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    fn read_block(&mut self, block: u64) -> Result<Vec<u8>, ReadError> {
        let size = self.summary.block_size;
        if block >= self.summary.blocks {
            return Err(malformed(
                format!("block {block}"),
                format!("there are only {}", self.summary.blocks),
            ));
        }
        let mut bytes = vec![0; size as usize];
        let place = block
            .checked_mul(size.into())
            .ok_or_else(|| malformed(format!("block {block}"), "beyond what 64 bits address"))?;
        self.disk.seek(SeekFrom::Start(place))?;
        self.disk.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// A group's descriptor, and its first byte in the volume.
    fn group(&mut self, group: u64) -> Result<(Vec<u8>, u64), ReadError> {
        let what = || format!("the descriptor of group {group}");
        let per_block = u64::from(self.summary.block_size / self.descriptor);
        let (index, slot) = (group / per_block, group % per_block);
        let block = match self.first_meta {
            Some(first) if index >= first => {
                let leader = index * per_block;
                let start = self.first_block + leader * self.blocks_per_group;
                let sparse = self.summary.read_only_compatible & 1 != 0;
                let copy =
                    u32::try_from(leader).is_ok_and(|leader| !sparse || geometry::has_superblock(leader));
                start + u64::from(copy)
            }
            // Behind the superblock, which with `bigalloc` lies in block 1 of 1 KiB though groups begin at block 0.
            _ => 1024 / u64::from(self.summary.block_size) + 1 + index,
        };
        let bytes = self.read_block(block)?;
        let start = (slot * u64::from(self.descriptor)) as usize;
        let descriptor = &bytes[start..start + self.descriptor as usize];
        let number = (group as u32).to_le_bytes();
        let parts: &[&[u8]] = &[&number, &descriptor[..30], &[0; 2], &descriptor[32..]];
        if self
            .sums
            .of(parts)
            .is_some_and(|sum| sum as u16 != get16(descriptor, 30))
        {
            return Err(malformed(what(), "its checksum is wrong"));
        }
        let at = block * u64::from(self.summary.block_size) + start as u64;
        Ok((descriptor.to_vec(), at))
    }

    /// The first block of a group's inode table.
    fn table(&mut self, group: u64) -> Result<u64, ReadError> {
        let (descriptor, _) = self.group(group)?;
        Ok(wide(&descriptor, 8, 40))
    }

    /// The first byte of an inode in the volume.
    ///
    /// # Errors
    /// When there is no such inode.
    pub fn inode_place(&mut self, number: u32) -> Result<u64, ReadError> {
        if number == 0 || number > self.summary.inodes {
            return Err(malformed(
                format!("inode {number}"),
                "there is none of this number",
            ));
        }
        let table = self.table(((number - 1) / self.inodes_per_group).into())?;
        let index = u64::from((number - 1) % self.inodes_per_group);
        Ok(table
            .saturating_mul(self.summary.block_size.into())
            .saturating_add(index * u64::from(self.inode_size)))
    }

    /// What is not files: name, first byte and bytes of the superblock, descriptors, bitmaps and tables of inodes; with it what
    /// is wrong with the groups, checksums and counts of their bitmaps among it, each with its first byte.
    ///
    /// # Errors
    /// When reading fails.
    #[expect(clippy::type_complexity, reason = "two lists of what was found")]
    pub fn groups(&mut self) -> Result<(Vec<(&'static str, u64, u64)>, Vec<(u64, String)>), ReadError> {
        let block_size = u64::from(self.summary.block_size);
        let count = (self.summary.blocks - self.first_block).div_ceil(self.blocks_per_group);
        let mut areas = vec![("superblock", 1024, 1024)];
        let mut faults = Vec::new();
        for group in 0..count {
            let (descriptor, at) = match self.group(group) {
                Ok(found) => found,
                Err(ReadError::Io(error)) => return Err(ReadError::Io(error)),
                Err(error) => {
                    faults.push((self.first_block * block_size, error.to_string()));
                    continue;
                }
            };
            areas.push(("group descriptor", at, descriptor.len() as u64));
            let flags = get16(&descriptor, 18);
            let blocks = self
                .blocks_per_group
                .min(self.summary.blocks - self.first_block - group * self.blocks_per_group);
            let inodes = u64::from(self.inodes_per_group);
            // Name, place, bits, whether it was ever written, checksum, how many are free.
            let kinds = [
                (
                    "block bitmap",
                    0,
                    32,
                    blocks,
                    self.blocks_per_group,
                    2,
                    (24, 56),
                    (12, 44),
                ),
                ("inode bitmap", 4, 36, inodes, inodes, 1, (26, 58), (14, 46)),
            ];
            for (name, low, high, bits, summed, unset, sum_at, free_at) in kinds {
                let block = wide(&descriptor, low, high);
                let place = block.saturating_mul(block_size);
                let bytes = match self.read_block(block) {
                    Ok(bytes) => bytes,
                    Err(ReadError::Io(error)) => return Err(ReadError::Io(error)),
                    Err(error) => {
                        faults.push((at, format!("the {name} of group {group}: {error}")));
                        continue;
                    }
                };
                areas.push((name, place, block_size));
                if flags & unset != 0 {
                    continue;
                }
                let len = ((summed / 8) as usize).min(bytes.len());
                if let Some(sum) = self.sums.of(&[&bytes[..len]]) {
                    let stored = match descriptor.len() >= 64 {
                        true => {
                            u32::from(get16(&descriptor, sum_at.0))
                                | u32::from(get16(&descriptor, sum_at.1)) << 16
                        }
                        false => u32::from(get16(&descriptor, sum_at.0)),
                    };
                    let mask = if descriptor.len() >= 64 { u32::MAX } else { 0xffff };
                    if sum & mask != stored {
                        faults.push((
                            place,
                            format!("the checksum of the {name} of group {group} is wrong"),
                        ));
                    }
                }
                let used: u64 = (0..bits.min(block_size * 8))
                    .filter(|bit| bytes[(bit / 8) as usize] >> (bit % 8) & 1 != 0)
                    .count() as u64;
                let free = match descriptor.len() >= 64 {
                    true => {
                        u64::from(get16(&descriptor, free_at.0))
                            | u64::from(get16(&descriptor, free_at.1)) << 16
                    }
                    false => u64::from(get16(&descriptor, free_at.0)),
                };
                // With clusters a bit stands for many blocks, and the count is theirs.
                let clusters = self.summary.read_only_compatible & 0x200 != 0;
                if !clusters && bits - used.min(bits) != free {
                    faults.push((
                        at,
                        format!(
                            "the {name} of group {group} has {} free, its descriptor says {free}",
                            bits - used.min(bits)
                        ),
                    ));
                }
            }
            let table = wide(&descriptor, 8, 40).saturating_mul(block_size);
            let len = u64::from(self.inodes_per_group) * u64::from(self.inode_size);
            if table.saturating_add(len) > self.summary.blocks.saturating_mul(block_size) {
                faults.push((
                    at,
                    format!("the inode table of group {group} lies outside of the volume"),
                ));
            } else {
                areas.push(("inode table", table, len));
            }
            if faults.len() > 100 {
                faults.push((at, "and more; the other groups were not looked at".to_owned()));
                break;
            }
        }
        Ok((areas, faults))
    }

    /// The first inode that files have, and those that no directory names.
    pub fn without_names(&self) -> (u32, &[u32]) {
        (self.first_inode, &self.hidden)
    }

    /// What the bitmaps say. Nothing where a bit stands for several blocks (`bigalloc`).
    ///
    /// # Errors
    /// When reading fails, or there are more inodes than the volume has place for.
    pub fn allocation(&mut self) -> Result<Option<Allocation>, ReadError> {
        if self.summary.read_only_compatible & superblock::RO_CLUSTERS != 0 {
            return Ok(None);
        }
        let block_size = u64::from(self.summary.block_size);
        let (blocks, inodes) = (self.summary.blocks, self.summary.inodes);
        // What is held is bounded by the volume, whatever the superblock says.
        let tables = u64::from(inodes).saturating_mul(self.inode_size.into());
        if tables > blocks.saturating_mul(block_size) {
            return Err(malformed(
                "the superblock",
                format!("{inodes} inodes are more than its {blocks} blocks can hold"),
            ));
        }
        let count = (blocks - self.first_block).div_ceil(self.blocks_per_group);
        if count.saturating_mul(self.inodes_per_group.into()) != u64::from(inodes) {
            return Err(malformed(
                "the superblock",
                format!(
                    "{inodes} inodes, but {count} groups have {} each",
                    self.inodes_per_group
                ),
            ));
        }
        let mut found = Allocation {
            blocks: vec![0; usize::try_from(blocks.div_ceil(64)).unwrap_or_default()],
            inodes: vec![0; inodes.div_ceil(64) as usize],
            places: Vec::new(),
            geometry: (self.first_block, self.blocks_per_group, self.inodes_per_group),
        };
        // Groups without a bitmap, and what of all groups is in use without being a file's.
        let mut unset = vec![0; usize::try_from(count.div_ceil(64)).unwrap_or_default()];
        let mut own = Vec::new();
        for group in 0..count {
            let start = self.first_block + group * self.blocks_per_group;
            let range = start..start.saturating_add(self.blocks_per_group).min(blocks);
            let first = group * u64::from(self.inodes_per_group);
            let numbers = first..(first + u64::from(self.inodes_per_group)).min(inodes.into());
            let descriptor = match self.group(group) {
                Ok((descriptor, _)) => descriptor,
                Err(ReadError::Io(error)) => return Err(ReadError::Io(error)),
                Err(_) => {
                    set_bits(&mut found.blocks, range);
                    set_bits(&mut found.inodes, numbers);
                    found.places.push([1024; 2]);
                    continue;
                }
            };
            let flags = get16(&descriptor, 18);
            let [block_bitmap, inode_bitmap, table] =
                [(0, 32), (4, 36), (8, 40)].map(|(low, high)| wide(&descriptor, low, high));
            let table_blocks =
                (u64::from(self.inodes_per_group) * u64::from(self.inode_size)).div_ceil(block_size);
            own.extend([
                block_bitmap..block_bitmap.saturating_add(1).min(blocks),
                inode_bitmap..inode_bitmap.saturating_add(1).min(blocks),
                table..table.saturating_add(table_blocks).min(blocks),
            ]);
            found
                .places
                .push([block_bitmap, inode_bitmap].map(|block| block.saturating_mul(block_size)));
            let bitmaps = [
                (block_bitmap, superblock::BLOCKS_UNUSED, range, true),
                (inode_bitmap, superblock::INODES_UNUSED, numbers, false),
            ];
            for (bitmap, flag, range, of_blocks) in bitmaps {
                if flags & flag != 0 {
                    if of_blocks {
                        set_bits(&mut unset, group..group + 1);
                    }
                    continue;
                }
                let words = if of_blocks {
                    &mut found.blocks
                } else {
                    &mut found.inodes
                };
                let bytes = match self.read_block(bitmap) {
                    Ok(bytes) => bytes,
                    Err(ReadError::Io(error)) => return Err(ReadError::Io(error)),
                    Err(_) => {
                        set_bits(words, range);
                        continue;
                    }
                };
                for (index, number) in range.enumerate() {
                    if bytes
                        .get(index / 8)
                        .is_some_and(|byte| byte >> (index % 8) & 1 != 0)
                    {
                        set_bits(words, number..number + 1);
                    }
                }
            }
        }
        for block in own.into_iter().flatten() {
            let group = block.saturating_sub(self.first_block) / self.blocks_per_group;
            if bit(&unset, group) {
                set_bits(&mut found.blocks, block..block + 1);
            }
        }
        Ok(Some(found))
    }

    /// The inode `number`.
    ///
    /// # Errors
    /// When there is no such inode, it is free, or it cannot be understood.
    pub fn inode(&mut self, number: u32) -> Result<File, ReadError> {
        let what = || format!("inode {number}");
        if number == 0 || number > self.summary.inodes {
            return Err(malformed(
                what(),
                format!("inodes go from 1 to {}", self.summary.inodes),
            ));
        }
        let group = (number - 1) / self.inodes_per_group;
        let index = u64::from((number - 1) % self.inodes_per_group);
        let table = self.table(group.into())?;
        let byte = index * u64::from(self.inode_size);
        let block_size = u64::from(self.summary.block_size);
        let block = self.read_block(table.saturating_add(byte / block_size))?;
        let start = (byte % block_size) as usize;
        let bytes = &block[start..start + self.inode_size as usize];
        let (mode, links) = (get16(bytes, 0), get16(bytes, 26));
        if links == 0 || mode == 0 {
            return Err(malformed(what(), "it is not in use"));
        }
        let generation = get32(bytes, 100);
        let extra = if bytes.len() > 128 {
            usize::from(get16(bytes, 128))
        } else {
            0
        };
        if extra % 4 != 0 || 128 + extra > bytes.len() {
            return Err(malformed(what(), format!("{extra} bytes of further fields")));
        }
        self.check_inode(bytes, number, generation, extra)?;
        let map = {
            let mut map = [0; 60];
            map.copy_from_slice(&bytes[40..100]);
            map
        };
        let time = |place: usize, further: usize| {
            let extra = if further + 4 <= 128 + extra {
                get32(bytes, further)
            } else {
                0
            };
            inode::from_time(get32(bytes, place), extra)
        };
        let device = || {
            let (old, new) = (get32(&map, 0), get32(&map, 4));
            if old != 0 || new == 0 {
                Device {
                    major: old >> 8 & 0xff,
                    minor: old & 0xff,
                }
            } else {
                Device {
                    major: new >> 8 & 0xfff,
                    minor: new & 0xff | new >> 12 & 0xf_ff00,
                }
            }
        };
        let kind = match mode >> 12 {
            1 => Kind::Fifo,
            2 => Kind::CharDevice(device()),
            4 => Kind::Directory,
            6 => Kind::BlockDevice(device()),
            8 => Kind::Regular,
            10 => Kind::Symlink,
            12 => Kind::Socket,
            other => return Err(malformed(what(), format!("it has the unknown type {other}"))),
        };
        let flags = get32(bytes, 32);
        let mut sectors = u64::from(get32(bytes, 28));
        if self.summary.read_only_compatible & superblock::RO_HUGE_FILE != 0 {
            sectors |= u64::from(get16(bytes, 116)) << 32;
            if flags & FLAG_HUGE_FILE != 0 {
                sectors = sectors.saturating_mul(block_size / 512);
            }
        }
        // In revision 0 the high half belongs to something else, of what is no regular file.
        let size_high = match kind {
            Kind::Regular | Kind::Directory => get32(bytes, 108),
            _ => 0,
        };
        Ok(File {
            number,
            kind,
            mode: mode & 0o7777,
            uid: u32::from(get16(bytes, 2)) | u32::from(get16(bytes, 120)) << 16,
            gid: u32::from(get16(bytes, 24)) | u32::from(get16(bytes, 122)) << 16,
            size: u64::from(get32(bytes, 4)) | u64::from(size_high) << 32,
            links,
            mtime: time(16, 136),
            atime: time(8, 140),
            ctime: time(12, 132),
            sectors,
            flags,
            generation,
            map,
            xattr_block: u64::from(get32(bytes, 104)) | u64::from(get16(bytes, 118)) << 32,
            xattrs: bytes.get(128 + extra..).unwrap_or_default().to_vec(),
        })
    }

    fn check_inode(&self, bytes: &[u8], number: u32, generation: u32, extra: usize) -> Result<(), ReadError> {
        let mut summed = bytes.to_vec();
        summed[124..126].fill(0);
        let long = extra >= 4;
        if long {
            summed[130..132].fill(0);
        }
        let Some(sum) = self.sums.of_inode(number, generation).of(&[&summed]) else {
            return Ok(());
        };
        let high = if long {
            get16(bytes, 130)
        } else {
            (sum >> 16) as u16
        };
        if sum != u32::from(get16(bytes, 124)) | u32::from(high) << 16 {
            return Err(malformed(format!("inode {number}"), "its checksum is wrong"));
        }
        Ok(())
    }

    /// The text of a symbolic link.
    ///
    /// # Errors
    /// When it is none, or cannot be read.
    pub fn target(&mut self, file: &File) -> Result<Vec<u8>, ReadError> {
        let what = || format!("inode {}", file.number);
        if file.kind != Kind::Symlink {
            return Err(malformed(what(), "it is no symbolic link"));
        }
        self.check_readable(file)?;
        if file.size == 0 || file.size > u64::from(self.summary.block_size).min(4096) {
            return Err(malformed(
                what(),
                format!("a symbolic link of {} bytes", file.size),
            ));
        }
        let mut text = Vec::new();
        if file.size < 60 && file.flags & FLAG_EXTENTS == 0 {
            text.extend_from_slice(&file.map[..file.size as usize]);
        } else {
            self.copy_range(file, 0, file.size, &mut text)?;
        }
        Ok(text)
    }

    /// The extended attributes of an inode, by their full names.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn xattrs(&mut self, file: &File) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
        let wrong = |reason| malformed(format!("inode {}", file.number), reason);
        let mut found = BTreeMap::new();
        if file.xattrs.len() >= 4 && get32(&file.xattrs, 0) == xattr::MAGIC {
            xattr::decode(&file.xattrs, 4, 4, &mut found).map_err(wrong)?;
        }
        if file.xattr_block != 0 {
            let block = self.read_block(file.xattr_block)?;
            xattr::decode_block(&block, file.xattr_block, self.sums, &mut found).map_err(wrong)?;
        }
        Ok(found)
    }
}

/// A number in two halves; the upper one is there in long descriptors only.
fn wide(descriptor: &[u8], low: usize, high: usize) -> u64 {
    let upper = if descriptor.len() >= 64 {
        get32(descriptor, high)
    } else {
        0
    };
    u64::from(get32(descriptor, low)) | u64::from(upper) << 32
}
