//! ext4 volumes from a tree, written to a file or a device without mounting anything, and read back.
//!
//! Format: Linux `Documentation/filesystems/ext4/`. The writer makes what `mke2fs -t ext4` makes: extents, indexed
//! directories, flexible groups, 256-byte inodes with nanoseconds, checksums of all metadata, 64-bit block
//! numbers, a journal, and blocks kept so that a mounted volume can grow. Everything is laid out before the
//! first byte is written ([`Plan`]), so that a tree that does not fit is found out without touching the disk, and
//! the superblock is written last.
//!
//! All times of an inode are its time of modification in the tree. Contents are copied from where they are; what
//! is held in memory is some 100 bytes per inode and 24 per group of blocks.
//!
//! Not made: the features `orphan_file`, `metadata_csum_seed` and `meta_bg`, which boot loaders do not read;
//! inline data; extended attributes of more than a block.

mod checksum;
mod directory;
mod extents;
mod field;
mod geometry;
mod hash;
mod inode;
mod plan;
mod read;
mod superblock;
mod write;
mod xattr;

use std::io::{self, Seek, Write};

use lycia_tree::{InodeId, Timestamp, Tree};
use thiserror::Error;

use crate::partition::Guid;

pub use plan::{Plan, fitting_size};
pub use read::{Allocation, Entry, File, Kind, Limits, ReadError, Reader, Summary};

/// Bytes of a label.
pub const LABEL_MAX: usize = 16;
/// Most names of an inode that is not a directory, and the most subdirectories that are counted.
pub const LINK_MAX: u32 = 65_000;

/// Bytes of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum BlockSize {
    /// 1024.
    B1024,
    /// 2048.
    B2048,
    /// 4096, what everything expects on volumes that are not tiny.
    #[default]
    B4096,
}

impl BlockSize {
    /// Bytes.
    pub fn bytes(self) -> u32 {
        match self {
            BlockSize::B1024 => 1024,
            BlockSize::B2048 => 2048,
            BlockSize::B4096 => 4096,
        }
    }
}

/// The journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Journal {
    /// None: for media that are written once, or where wear counts more than a clean start after a power cut.
    None,
    /// As large as `mke2fs` makes it: 1024 to 262,144 blocks by the size of the volume, none below 2048 blocks.
    #[default]
    BySize,
    /// This many blocks, at least 1024.
    Blocks(u32),
}

/// How many inodes the volume gets. There are always as many as the tree needs and some more.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Inodes {
    /// As `mke2fs`: one per 16 KiB, below 512 MiB one per 4 KiB.
    #[default]
    BySize,
    /// One per so many bytes, 1024 to 64 MiB.
    PerBytes(u32),
    /// This many.
    Count(u32),
}

/// What is known of the place that the volume is written to.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Existing {
    /// It reads as zeros, as a new file does: zeros are not written, and the file stays sparse.
    #[default]
    Zeros,
    /// It may hold anything, as a disk does: what has to be zero is written. Inode tables that are not used yet
    /// are left to Linux, which clears them after the first mount, where checksums say which these are.
    Unknown,
}

/// What a volume is, apart from its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    /// Bytes. What is left behind the last whole block, and a last group that is too small to hold anything, stay
    /// unused.
    pub size: u64,
    /// Bytes of a block; not less than the disk's sectors.
    pub block_size: BlockSize,
    /// Bytes of a sector of the disk, 512 or 4096.
    pub sector_size: u32,
    /// At most [`LABEL_MAX`] bytes; empty for no label.
    pub label: Vec<u8>,
    /// The UUID.
    pub uuid: Guid,
    /// What the hashes of large directories start from.
    pub hash_seed: Guid,
    /// When the volume was made, and the times of what is not in the tree (`lost+found`, the journal).
    pub time: Timestamp,
    /// The journal.
    pub journal: Journal,
    /// Checksums of all metadata (`metadata_csum`).
    pub checksums: bool,
    /// 64-bit block numbers and group descriptors of 64 bytes (`64bit`).
    pub wide: bool,
    /// Blocks kept so that a mounted volume can grow (`resize_inode`), up to 1024 times its size.
    pub growth: bool,
    /// Number of inodes.
    pub inodes: Inodes,
    /// Blocks that only root may fill, in thousandths; at most 500.
    pub reserved_per_mille: u16,
    /// What the place holds.
    pub existing: Existing,
    /// Regular files that are longer than their content: inode and bytes. Blocks for all of it are theirs, those behind the content
    /// keep what the place holds. For swap files, which must have no holes.
    pub enlarged: Vec<(InodeId, u64)>,
}

impl Volume {
    /// A volume as `mke2fs` would make it, without a label, with a hash seed that follows from the UUID.
    pub fn new(size: u64, uuid: Guid, time: Timestamp) -> Volume {
        Volume {
            size,
            block_size: BlockSize::default(),
            sector_size: 512,
            label: Vec::new(),
            uuid,
            hash_seed: Guid::derive(&uuid.to_bytes(), "ext4 directory hash"),
            time,
            journal: Journal::default(),
            checksums: true,
            wide: true,
            growth: true,
            inodes: Inodes::default(),
            reserved_per_mille: 50,
            existing: Existing::default(),
            enlarged: Vec::new(),
        }
    }
}

/// Why a volume was not written. Paths are shown as [`lycia_tree::display`] does.
#[derive(Debug, Error)]
pub enum Ext4Error {
    /// A setting that no volume has.
    #[error("laying out an ext4 volume of {size} bytes: {reason}")]
    Setting {
        /// Bytes of the volume.
        size: u64,
        /// What is wrong.
        reason: String,
    },
    /// An entry that ext4 cannot hold.
    #[error("laying out {path} on an ext4 volume: {reason}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The volume is too small.
    #[error(
        "an ext4 volume of {size} bytes is too small for its files: about {missing} bytes are missing; \
         make it larger or take something out"
    )]
    Space {
        /// Bytes of the volume.
        size: u64,
        /// Bytes that are missing, at least.
        missing: u64,
    },
    /// The output refused.
    #[error("writing {what} of an ext4 volume: {source}")]
    Write {
        /// What was being written.
        what: &'static str,
        /// Why not.
        source: io::Error,
    },
}

/// Lays `tree` out on `volume` and writes it to `out`, `offset` bytes from its start: a file, or a partition of a
/// disk. Nothing outside of `offset..offset + size` is written.
///
/// # Errors
/// When an entry does not fit ext4, everything does not fit the size, or `out` refuses.
pub fn write(
    out: &mut (impl Write + Seek),
    offset: u64,
    tree: &Tree,
    volume: &Volume,
) -> Result<(), Ext4Error> {
    Plan::new(tree, volume)?.write(out, offset, &mut |_| ())
}
