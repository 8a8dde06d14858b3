//! Superblock and group descriptors (Linux `Documentation/filesystems/ext4/super.rst` and `group_descr.rst`).

use super::checksum::{Sums, crc32c};
use super::field::{get32, put16, put32};
use super::geometry::{Geometry, INODE, LOG_FLEX};
use super::{Volume, directory, inode};

pub(super) const MAGIC: u16 = 0xef53;
/// Bytes of the superblock.
pub(super) const LEN: usize = 1024;
pub(super) const ROOT: u32 = 2;
pub(super) const RESIZE: u32 = 7;
pub(super) const JOURNAL: u32 = 8;
/// The first inode that is not reserved.
pub(super) const FIRST_INODE: u32 = 11;

pub(super) const COMPAT_JOURNAL: u32 = 0x4;
const COMPAT_XATTR: u32 = 0x8;
const COMPAT_RESIZE: u32 = 0x10;
const COMPAT_DIR_INDEX: u32 = 0x20;
pub(super) const INCOMPAT_FILETYPE: u32 = 0x2;
pub(super) const INCOMPAT_EXTENTS: u32 = 0x40;
pub(super) const INCOMPAT_64BIT: u32 = 0x80;
pub(super) const INCOMPAT_FLEX: u32 = 0x200;
pub(super) const INCOMPAT_META_GROUPS: u32 = 0x10;
pub(super) const INCOMPAT_SUM_SEED: u32 = 0x2000;
pub(super) const INCOMPAT_LARGE_DIRECTORIES: u32 = 0x4000;
const RO_SPARSE_SUPER: u32 = 0x1;
const RO_LARGE_FILE: u32 = 0x2;
pub(super) const RO_HUGE_FILE: u32 = 0x8;
const RO_DIR_NLINK: u32 = 0x20;
const RO_EXTRA_ISIZE: u32 = 0x40;
pub(super) const RO_CHECKSUMS: u32 = 0x400;
/// A bit of a bitmap stands for several blocks.
pub(super) const RO_CLUSTERS: u32 = 0x200;

/// Where fields are that the reader looks at too.
pub(super) mod at {
    pub(in crate::ext4) const INODES: usize = 0;
    pub(in crate::ext4) const BLOCKS: usize = 4;
    pub(in crate::ext4) const RESERVED: usize = 8;
    pub(in crate::ext4) const FREE_BLOCKS: usize = 12;
    pub(in crate::ext4) const FREE_INODES: usize = 16;
    pub(in crate::ext4) const FIRST_BLOCK: usize = 20;
    pub(in crate::ext4) const LOG_BLOCK: usize = 24;
    pub(in crate::ext4) const BLOCKS_PER_GROUP: usize = 32;
    pub(in crate::ext4) const INODES_PER_GROUP: usize = 40;
    pub(in crate::ext4) const WRITTEN: usize = 48;
    pub(in crate::ext4) const MAGIC: usize = 56;
    pub(in crate::ext4) const STATE: usize = 58;
    pub(in crate::ext4) const REVISION: usize = 76;
    pub(in crate::ext4) const FIRST_INODE: usize = 84;
    pub(in crate::ext4) const INODE_SIZE: usize = 88;
    pub(in crate::ext4) const COMPAT: usize = 92;
    pub(in crate::ext4) const INCOMPAT: usize = 96;
    pub(in crate::ext4) const RO_COMPAT: usize = 100;
    pub(in crate::ext4) const UUID: usize = 104;
    pub(in crate::ext4) const LABEL: usize = 120;
    pub(in crate::ext4) const DESCRIPTOR: usize = 254;
    pub(in crate::ext4) const FIRST_META: usize = 260;
    pub(in crate::ext4) const BLOCKS_HIGH: usize = 0x150;
    pub(in crate::ext4) const RESERVED_HIGH: usize = 0x154;
    pub(in crate::ext4) const FREE_BLOCKS_HIGH: usize = 0x158;
    /// Quotas of users, groups and projects, and the file of orphans.
    pub(in crate::ext4) const HIDDEN: [usize; 4] = [0x240, 0x244, 0x26c, 0x280];
    pub(in crate::ext4) const SUM_SEED: usize = 0x270;
    pub(in crate::ext4) const SUM: usize = 0x3fc;
}

/// What the superblock counts.
pub(super) struct Totals {
    pub(super) free_blocks: u64,
    pub(super) free_inodes: u32,
    pub(super) reserved_blocks: u64,
}

/// The superblock of the copy in group 0. `journal` is the map and the size of the journal's inode.
pub(super) fn encode(
    volume: &Volume,
    geometry: &Geometry,
    totals: &Totals,
    journal: Option<(&[u8; 60], u64)>,
) -> [u8; LEN] {
    let mut block = [0; LEN];
    let inodes = geometry.inodes_per_group * geometry.groups;
    let log_block = geometry.block_size.trailing_zeros() - 10;
    let seconds = inode::time(volume.time).unwrap_or_default().0;
    for (place, value) in [
        (at::INODES, inodes),
        (at::BLOCKS, geometry.blocks as u32),
        (at::RESERVED, totals.reserved_blocks as u32),
        (at::FREE_BLOCKS, totals.free_blocks as u32),
        (at::FREE_INODES, totals.free_inodes),
        (at::FIRST_BLOCK, geometry.first as u32),
        (at::LOG_BLOCK, log_block),
        // Clusters are blocks.
        (28, log_block),
        (at::BLOCKS_PER_GROUP, geometry.per_group as u32),
        (36, geometry.per_group as u32),
        (at::INODES_PER_GROUP, geometry.inodes_per_group),
        (at::WRITTEN, seconds),
        // Last check.
        (64, seconds),
        (at::REVISION, 1),
        // First inode for files.
        (84, FIRST_INODE),
        (at::BLOCKS_HIGH, (geometry.blocks >> 32) as u32),
        (at::RESERVED_HIGH, (totals.reserved_blocks >> 32) as u32),
        (at::FREE_BLOCKS_HIGH, (totals.free_blocks >> 32) as u32),
        // Mount with user attributes and ACLs.
        (256, 0xc),
        // Made.
        (264, seconds),
        // Characters of names are unsigned where they are hashed.
        (0x160, 2),
    ] {
        put32(&mut block, place, value);
    }
    // Never checked by count.
    put16(&mut block, 54, 0xffff);
    put16(&mut block, at::MAGIC, MAGIC);
    put16(&mut block, at::STATE, 1);
    // Go on after errors.
    put16(&mut block, 60, 1);
    put16(&mut block, at::INODE_SIZE, INODE as u16);
    let wide = geometry.descriptor == 64;
    let mut compat = COMPAT_XATTR | COMPAT_DIR_INDEX;
    if geometry.growth {
        compat |= COMPAT_RESIZE;
        put16(&mut block, 206, geometry.reserved_descriptors as u16);
    }
    if let Some((map, size)) = journal {
        compat |= COMPAT_JOURNAL;
        put32(&mut block, 224, JOURNAL);
        // A copy of its inode's map, should the inode be lost.
        block[253] = 1;
        block[268..328].copy_from_slice(map);
        put32(&mut block, 328, (size >> 32) as u32);
        put32(&mut block, 332, size as u32);
    }
    put32(&mut block, at::COMPAT, compat);
    let mut incompat = INCOMPAT_FILETYPE | INCOMPAT_EXTENTS | INCOMPAT_FLEX;
    if wide {
        incompat |= INCOMPAT_64BIT;
        put16(&mut block, at::DESCRIPTOR, 64);
    }
    put32(&mut block, at::INCOMPAT, incompat);
    let mut ro_compat = RO_SPARSE_SUPER | RO_LARGE_FILE | RO_HUGE_FILE | RO_DIR_NLINK | RO_EXTRA_ISIZE;
    if volume.checksums {
        ro_compat |= RO_CHECKSUMS;
        block[0x175] = 1;
    }
    put32(&mut block, at::RO_COMPAT, ro_compat);
    block[at::UUID..at::UUID + 16].copy_from_slice(&volume.uuid.to_bytes());
    block[at::LABEL..][..volume.label.len()].copy_from_slice(&volume.label);
    block[236..252].copy_from_slice(&volume.hash_seed.to_bytes());
    block[252] = directory::HASH_VERSION;
    put16(&mut block, 0x15c, inode::EXTRA);
    put16(&mut block, 0x15e, inode::EXTRA);
    block[0x174] = LOG_FLEX;
    block
}

/// The same for the copy in `group`, with its checksum.
pub(super) fn copy(block: &[u8; LEN], group: u32, checksums: bool) -> [u8; LEN] {
    let mut block = *block;
    put16(&mut block, 90, group as u16);
    if checksums {
        let sum = crc32c(!0, &block[..at::SUM]);
        put32(&mut block, at::SUM, sum);
    }
    block
}

/// Whether the checksum of a superblock that has one is right.
pub(super) fn verify(block: &[u8]) -> bool {
    get32(block, at::RO_COMPAT) & RO_CHECKSUMS == 0 || crc32c(!0, &block[..at::SUM]) == get32(block, at::SUM)
}

/// The words that the hashes of directories start from.
pub(super) fn hash_seed(volume: &Volume) -> [u32; 4] {
    let bytes = volume.hash_seed.to_bytes();
    [0, 4, 8, 12].map(|at| get32(&bytes, at))
}

/// What a group descriptor says.
#[derive(Default)]
pub(super) struct Descriptor {
    pub(super) block_bitmap: u64,
    pub(super) inode_bitmap: u64,
    pub(super) table: u64,
    pub(super) free_blocks: u32,
    pub(super) free_inodes: u32,
    pub(super) directories: u32,
    /// Inodes at the end of the table that were never used.
    pub(super) unused: u32,
    pub(super) flags: u16,
    pub(super) block_bitmap_sum: u32,
    pub(super) inode_bitmap_sum: u32,
}

/// Flag: no inode is used, and the bitmap of inodes need not be on disk.
pub(super) const INODES_UNUSED: u16 = 1;
/// Flag: the bitmap of blocks need not be on disk.
pub(super) const BLOCKS_UNUSED: u16 = 2;
/// Flag: the inode table holds zeros where it is not used.
pub(super) const TABLE_ZEROED: u16 = 4;

impl Descriptor {
    /// Its bytes into `slot`, which is as long as descriptors are.
    pub(super) fn encode(&self, slot: &mut [u8], group: u32, sums: Sums) {
        let places = [self.block_bitmap, self.inode_bitmap, self.table];
        for (at, place) in [0, 4, 8].into_iter().zip(places) {
            put32(slot, at, place as u32);
        }
        let counts = [self.free_blocks, self.free_inodes, self.directories];
        for (at, count) in [12, 14, 16].into_iter().zip(counts) {
            put16(slot, at, count as u16);
        }
        put16(slot, 18, self.flags);
        put16(slot, 24, self.block_bitmap_sum as u16);
        put16(slot, 26, self.inode_bitmap_sum as u16);
        put16(slot, 28, self.unused as u16);
        if slot.len() >= 64 {
            for (at, place) in [32, 36, 40].into_iter().zip(places) {
                put32(slot, at, (place >> 32) as u32);
            }
            for (at, count) in [44, 46, 48].into_iter().zip(counts) {
                put16(slot, at, (count >> 16) as u16);
            }
            put16(slot, 50, (self.unused >> 16) as u16);
            put16(slot, 56, (self.block_bitmap_sum >> 16) as u16);
            put16(slot, 58, (self.inode_bitmap_sum >> 16) as u16);
        }
        if let Some(sum) = sums.of(&[&group.to_le_bytes(), slot]) {
            put16(slot, 30, sum as u16);
        }
    }
}

/// The first block of the journal: version 2 of its superblock, big-endian, with nothing to replay.
pub(super) fn journal(block_size: u32, blocks: u32, uuid: &[u8; 16]) -> Vec<u8> {
    let mut block = vec![0; block_size as usize];
    for (at, value) in [
        (0, 0xc03b_3998),
        // Superblock, version 2.
        (4, 4),
        (12, block_size),
        (16, blocks),
        // First block of the log, first sequence number.
        (20, 1),
        (24, 1),
        // One user.
        (64, 1),
    ] {
        block[at..at + 4].copy_from_slice(&u32::to_be_bytes(value));
    }
    block[48..64].copy_from_slice(uuid);
    block
}

/// The block to which the resize inode leads, at `place`, with the blocks it leads to: one for each that is kept
/// behind the descriptors, naming those kept in the copies.
pub(super) struct Growth {
    /// Places and contents.
    pub(super) blocks: Vec<(u64, Vec<u8>)>,
    /// Bytes that the inode spans.
    pub(super) size: u64,
    /// Blocks that it has in all.
    pub(super) count: u64,
}

impl Growth {
    pub(super) fn new(geometry: &Geometry, place: u64) -> Growth {
        let block_size = geometry.block_size as usize;
        let pointers = u64::from(geometry.block_size) / 4;
        let copies: Vec<u64> = (1..geometry.groups)
            .filter(|&group| super::geometry::has_superblock(group))
            .map(|group| u64::from(group) * geometry.per_group)
            .collect();
        let mut double = vec![0; block_size];
        let mut blocks = Vec::new();
        for kept in 0..geometry.reserved_descriptors {
            let place = geometry.first + 1 + geometry.descriptor_blocks + kept;
            let slot = ((geometry.descriptor_blocks + kept) % pointers) as usize;
            put32(&mut double, slot * 4, place as u32);
            let mut single = vec![0; block_size];
            for (slot, offset) in copies.iter().enumerate().take(pointers as usize) {
                put32(&mut single, slot * 4, (place + offset) as u32);
            }
            blocks.push((place, single));
        }
        blocks.push((place, double));
        Growth {
            blocks,
            size: (pointers * pointers + pointers + 12) * u64::from(geometry.block_size),
            count: 1 + geometry.reserved_descriptors * (1 + copies.len() as u64),
        }
    }
}
