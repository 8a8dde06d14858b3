//! Reading a volume, for checks. Nothing is taken on trust: numbers are checked before they are used, and what a
//! volume may make us hold is bounded by [`Limits`].
//!
//! Volumes of ext2 and ext3 are read too. A journal that was not replayed is not replayed here
//! ([`Summary::clean`] says so); inline data, encrypted and case-folded directories and attributes in inodes of
//! their own are refused where they are met.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Read, Seek, SeekFrom, Write};

use lycia_tree::{Content, Device, InodeId, Metadata, Node, Timestamp, Tree, TreeError, display};
use thiserror::Error;

use super::checksum::Sums;
use super::extents;
use super::field::{get16, get32};
use super::inode::{self, FLAG_EXTENTS, FLAG_INDEX};
use super::superblock::{self, at};
use super::xattr;
use crate::partition::Guid;

/// Most bytes of a directory.
const DIRECTORY_MAX: u64 = 256 << 20;
/// Most extents of a file.
const EXTENTS_MAX: usize = 1 << 20;
const FLAG_ENCRYPTED: u32 = 0x800;
const FLAG_HUGE_FILE: u32 = 0x4_0000;
const FLAG_INLINE: u32 = 0x1000_0000;
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
    sums: Sums,
}

/// Where a file's blocks are.
enum Map {
    /// First block of the file, first block of the volume (`None` for zeros), blocks.
    Extents(Vec<(u64, Option<u64>, u64)>),
    /// Found through blocks of pointers.
    Pointers([u32; 15]),
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
        Ok(Reader {
            disk,
            limits,
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

    /// The first block of a group's inode table.
    fn table(&mut self, group: u64) -> Result<u64, ReadError> {
        let what = || format!("the descriptor of group {group}");
        let per_block = u64::from(self.summary.block_size / self.descriptor);
        let (index, slot) = (group / per_block, group % per_block);
        let block = match self.first_meta {
            Some(first) if index >= first => {
                let leader = index * per_block;
                let start = self.first_block + leader * self.blocks_per_group;
                let sparse = self.summary.read_only_compatible & 1 != 0;
                let copy = u32::try_from(leader)
                    .is_ok_and(|leader| !sparse || super::geometry::has_superblock(leader));
                start + u64::from(copy)
            }
            _ => self.first_block + 1 + index,
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
        let high = if descriptor.len() >= 64 {
            get32(descriptor, 40)
        } else {
            0
        };
        Ok(u64::from(get32(descriptor, 8)) | u64::from(high) << 32)
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

    fn map(&mut self, file: &File) -> Result<Map, ReadError> {
        let what = || format!("the blocks of inode {}", file.number);
        if file.flags & FLAG_INLINE != 0 {
            return Err(ReadError::Unsupported(format!(
                "inode {} holds its content itself",
                file.number
            )));
        }
        if file.flags & FLAG_EXTENTS == 0 {
            let mut pointers = [0; 15];
            for (at, pointer) in pointers.iter_mut().enumerate() {
                *pointer = get32(&file.map, at * 4);
            }
            return Ok(Map::Pointers(pointers));
        }
        let mut found = Vec::new();
        // Nodes still to be read: their place, `None` for the one in the inode, and depth.
        let mut nodes: Vec<(Option<u64>, Option<u16>)> = vec![(None, None)];
        let mut read = 0;
        while let Some((place, depth)) = nodes.pop() {
            let node = match place {
                None => file.map.to_vec(),
                Some(place) => self.read_block(place)?,
            };
            let (entries, most, level) = (get16(&node, 2), get16(&node, 4), get16(&node, 6));
            let room = (node.len() - 12) / 12;
            if get16(&node, 0) != extents::MAGIC
                || entries > most
                || usize::from(most) > room
                || level > 5
                || depth.is_some_and(|depth| depth != level)
            {
                return Err(malformed(what(), "a node of the extent tree makes no sense"));
            }
            let end = 12 + 12 * usize::from(most);
            let sums = self.sums.of_inode(file.number, file.generation);
            if place.is_some()
                && end + 4 <= node.len()
                && sums
                    .of(&[&node[..end]])
                    .is_some_and(|sum| sum != get32(&node, end))
            {
                return Err(malformed(
                    what(),
                    "the checksum of a node of the extent tree is wrong",
                ));
            }
            read += 1;
            if read + nodes.len() + found.len() > EXTENTS_MAX {
                return Err(ReadError::Limit {
                    what: "extents of a file",
                    limit: EXTENTS_MAX as u64,
                });
            }
            for entry in node[12..].chunks_exact(12).take(entries.into()) {
                if level > 0 {
                    let place = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
                    nodes.push((Some(place), Some(level - 1)));
                    continue;
                }
                let len = u64::from(get16(entry, 4));
                let physical = u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32;
                // Longer ones are allocated but were never written.
                let (len, written) = match len {
                    0..=extents::LONGEST => (len, true),
                    len => (len - extents::LONGEST, false),
                };
                if physical
                    .checked_add(len)
                    .is_none_or(|end| end > self.summary.blocks)
                {
                    return Err(malformed(what(), "an extent lies outside of the volume"));
                }
                found.push((u64::from(get32(entry, 0)), written.then_some(physical), len));
            }
        }
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0].0 + pair[0].2 > pair[1].0) {
            return Err(malformed(what(), "extents overlap"));
        }
        Ok(Map::Extents(found))
    }

    /// Where the blocks of the file from `logical` on are, and how many follow on there; `None` for zeros.
    fn find(
        &mut self,
        map: &Map,
        logical: u64,
        pointers: &mut Cache,
    ) -> Result<(Option<u64>, u64), ReadError> {
        match map {
            Map::Extents(extents) => {
                let next = extents.partition_point(|extent| extent.0 <= logical);
                if let Some(&(first, physical, len)) = next.checked_sub(1).and_then(|at| extents.get(at))
                    && logical < first + len
                {
                    let inside = logical - first;
                    return Ok((physical.map(|physical| physical + inside), len - inside));
                }
                Ok((
                    None,
                    extents.get(next).map_or(u64::MAX, |extent| extent.0 - logical),
                ))
            }
            Map::Pointers(roots) => {
                let per_block = u64::from(self.summary.block_size / 4);
                let mut rest = logical;
                if rest < 12 {
                    let block = roots[rest as usize];
                    return Ok(((block != 0).then_some(block.into()), 1));
                }
                rest -= 12;
                let mut span = per_block;
                for (depth, &root) in roots[12..].iter().enumerate() {
                    if rest < span {
                        let mut block = root;
                        for level in (0..=depth as u32).rev() {
                            if block == 0 {
                                return Ok((None, 1));
                            }
                            if pointers
                                .as_ref()
                                .is_none_or(|cached| cached[level as usize].0 != block)
                            {
                                let bytes = self.read_block(block.into())?;
                                let slots = pointers.get_or_insert_with(Default::default);
                                slots[level as usize] = (block, bytes);
                            }
                            let slot = (rest / per_block.pow(level) % per_block) as usize;
                            block = pointers
                                .as_ref()
                                .map_or(0, |cached| get32(&cached[level as usize].1, slot * 4));
                        }
                        return Ok(((block != 0).then_some(block.into()), 1));
                    }
                    rest -= span;
                    span = span.saturating_mul(per_block);
                }
                Ok((None, u64::MAX))
            }
        }
    }

    /// Copies the content of a regular file to `out`, and returns its length.
    ///
    /// # Errors
    /// When it is no regular file, its blocks cannot be found, or either side refuses.
    pub fn copy(&mut self, file: &File, out: &mut impl Write) -> Result<u64, ReadError> {
        if file.kind != Kind::Regular {
            return Err(malformed(
                format!("inode {}", file.number),
                "it is no regular file",
            ));
        }
        self.check_readable(file)?;
        let size = file.size;
        self.copy_range(file, 0, size, out)?;
        Ok(size)
    }

    fn check_readable(&self, file: &File) -> Result<(), ReadError> {
        if file.flags & FLAG_ENCRYPTED != 0 {
            return Err(ReadError::Unsupported(format!(
                "inode {} is encrypted",
                file.number
            )));
        }
        Ok(())
    }

    /// Copies `len` bytes from `offset` on; what lies behind the end comes as zeros.
    fn copy_range(
        &mut self,
        file: &File,
        offset: u64,
        len: u64,
        out: &mut impl Write,
    ) -> Result<(), ReadError> {
        const PIECE: u64 = 1 << 20;
        let block_size = u64::from(self.summary.block_size);
        let map = self.map(file)?;
        let mut cache: Cache = None;
        let mut buffer = Vec::new();
        let (mut at, end) = (offset, offset.saturating_add(len));
        while at < end {
            let inside = at % block_size;
            let (physical, blocks) = self.find(&map, at / block_size, &mut cache)?;
            let run = blocks
                .saturating_mul(block_size)
                .saturating_sub(inside)
                .min(end - at)
                .min(PIECE);
            buffer.clear();
            buffer.resize(run as usize, 0);
            if let Some(physical) = physical {
                if physical >= self.summary.blocks {
                    return Err(malformed(
                        format!("inode {}", file.number),
                        "a block outside of the volume",
                    ));
                }
                self.disk.seek(SeekFrom::Start(physical * block_size + inside))?;
                self.disk.read_exact(&mut buffer)?;
            }
            out.write_all(&buffer)?;
            at += run;
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

    /// The entries of a directory, in the order in which they are stored, without `.` and `..`.
    ///
    /// # Errors
    /// When it is no directory, or cannot be read.
    pub fn entries(&mut self, file: &File) -> Result<Vec<Entry>, ReadError> {
        let what = || format!("the directory of inode {}", file.number);
        if file.kind != Kind::Directory {
            return Err(malformed(what(), "it is no directory"));
        }
        self.check_readable(file)?;
        let block_size = u64::from(self.summary.block_size);
        if file.size > DIRECTORY_MAX || !file.size.is_multiple_of(block_size) {
            return Err(malformed(what(), format!("{} bytes of entries", file.size)));
        }
        let map = self.map(file)?;
        let mut cache: Cache = None;
        let mut found = Vec::new();
        for logical in 0..file.size / block_size {
            let Some(physical) = self.find(&map, logical, &mut cache)?.0 else {
                continue;
            };
            let block = self.read_block(physical)?;
            self.check_directory(file, logical, &block)?;
            let mut at = 0;
            while at + 8 <= block.len() {
                let inode = get32(&block, at);
                let len = match get16(&block, at + 4) {
                    // The whole of a block of 64 KiB.
                    0 | 0xffff if block.len() == 1 << 16 => 1 << 16,
                    len => usize::from(len),
                };
                let name_len = usize::from(block[at + 6]);
                if len < 8 || len % 4 != 0 || at + len > block.len() || 8 + name_len > len {
                    return Err(malformed(
                        what(),
                        format!("the entry at byte {at} of block {logical} makes no sense"),
                    ));
                }
                let name = &block[at + 8..at + 8 + name_len];
                if inode != 0 && name != b"." && name != b".." {
                    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                        return Err(malformed(what(), format!("the name `{}`", display(name))));
                    }
                    if found.len() as u64 >= self.limits.entries {
                        return Err(ReadError::Limit {
                            what: "entries of a directory",
                            limit: self.limits.entries,
                        });
                    }
                    found.push(Entry {
                        name: name.to_vec(),
                        inode,
                    });
                }
                at += len;
            }
        }
        Ok(found)
    }

    fn check_directory(&self, file: &File, logical: u64, block: &[u8]) -> Result<(), ReadError> {
        let sums = self.sums.of_inode(file.number, file.generation);
        if !sums.enabled() {
            return Ok(());
        }
        let end = block.len();
        let wrong = || {
            malformed(
                format!("the directory of inode {}", file.number),
                format!("the checksum of block {logical} is wrong"),
            )
        };
        let node = get32(block, 0) == 0 && usize::from(get16(block, 4)) == end;
        let first = match (file.flags & FLAG_INDEX != 0, logical) {
            (true, 0) => 32,
            (true, _) if node => 8,
            _ => {
                let sum = sums.of(&[&block[..end - 12]]);
                return if sum == Some(get32(block, end - 4)) {
                    Ok(())
                } else {
                    Err(wrong())
                };
            }
        };
        let (limit, count) = (
            usize::from(get16(block, first)),
            usize::from(get16(block, first + 2)),
        );
        let (used, tail) = (first + 8 * count, first + 8 * limit);
        if count > limit || tail + 8 > end {
            return Err(wrong());
        }
        let sum = sums.of(&[&block[..used], &block[tail..tail + 4], &[0; 4]]);
        if sum == Some(get32(block, tail + 4)) {
            Ok(())
        } else {
            Err(wrong())
        }
    }

    /// The inode that an absolute path leads to. Symbolic links are not followed.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn lookup(&mut self, path: &[u8]) -> Result<File, ReadError> {
        let mut file = self.inode(superblock::ROOT)?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            if file.kind != Kind::Directory {
                return Err(ReadError::Missing(display(path)));
            }
            let entry = self
                .entries(&file)?
                .into_iter()
                .find(|entry| entry.name == name)
                .ok_or_else(|| ReadError::Missing(display(path)))?;
            file = self.inode(entry.inode)?;
        }
        Ok(file)
    }

    /// The whole volume as a tree, contents in memory.
    ///
    /// # Errors
    /// When anything cannot be read, directories form a loop, or the limits are passed.
    pub fn tree(&mut self) -> Result<Tree, ReadError> {
        let root = self.inode(superblock::ROOT)?;
        if root.kind != Kind::Directory {
            return Err(malformed("inode 2", "the root is no directory"));
        }
        let mut tree = Tree::new(self.metadata(&root)?);
        let mut known: HashMap<u32, InodeId> = HashMap::new();
        let mut visited = BTreeSet::from([root.number]);
        let mut directories = vec![(Vec::new(), root)];
        let (mut entries, mut bytes) = (0, 0u64);
        while let Some((path, directory)) = directories.pop() {
            for entry in self.entries(&directory)? {
                entries += 1;
                if entries > self.limits.entries {
                    return Err(ReadError::Limit {
                        what: "entries",
                        limit: self.limits.entries,
                    });
                }
                let path = [path.as_slice(), b"/", &entry.name].concat();
                if tree.find(&path, lycia_tree::Follow::Parents)?.is_some() {
                    return Err(malformed(display(&path), "the name comes twice"));
                }
                if let Some(&id) = known.get(&entry.inode) {
                    tree.link(id, &path)?;
                    continue;
                }
                let file = self.inode(entry.inode)?;
                let metadata = self.metadata(&file)?;
                if file.kind == Kind::Directory {
                    if !visited.insert(file.number) {
                        return Err(malformed(
                            format!("inode {}", file.number),
                            "a directory with two names",
                        ));
                    }
                    tree.make_directory(&path, metadata)?;
                    directories.push((path, file));
                    continue;
                }
                bytes = bytes.saturating_add(file.size);
                if file.kind == Kind::Regular && bytes > self.limits.bytes {
                    return Err(ReadError::Limit {
                        what: "bytes of contents",
                        limit: self.limits.bytes,
                    });
                }
                let node = self.node(&file)?;
                let id = tree.insert(&path, metadata, node)?;
                known.insert(file.number, id);
            }
        }
        Ok(tree)
    }

    fn metadata(&mut self, file: &File) -> Result<Metadata, ReadError> {
        let mut metadata = Metadata::new(file.mode, file.mtime).owned_by(file.uid, file.gid);
        metadata.xattrs = self.xattrs(file)?;
        Ok(metadata)
    }

    fn node(&mut self, file: &File) -> Result<Node, ReadError> {
        Ok(match file.kind {
            Kind::Symlink => Node::Symlink(self.target(file)?),
            Kind::CharDevice(device) => Node::CharDevice(device),
            Kind::BlockDevice(device) => Node::BlockDevice(device),
            Kind::Fifo => Node::Fifo,
            Kind::Socket => Node::Socket,
            Kind::Regular | Kind::Directory => {
                let mut content = Vec::new();
                self.copy(file, &mut content)?;
                Node::Regular(Content::from(content))
            }
        })
    }
}

/// The last block of pointers of each level, with its place.
type Cache = Option<[(u32, Vec<u8>); 3]>;
