//! Disks: a partition table and what is on its partitions, as one value that is laid out, checked and written.
//!
//! A [`Layout`] says what is wanted, a [`Plan`] where every part of it lies, to the sector; the same plan can be printed,
//! written to a file or written to a disk. Partition tables are those of [`crate::partition`]: GPT, MBR, or GPT with an MBR
//! that shows some of its partitions to firmware that reads nothing else. What lies outside of partitions, as boot loaders
//! of many boards do, has its place in bytes ([`Raw`]).
//!
//! Files are written sparse. A disk that may hold anything keeps what no part of the layout covers: [`Existing::Unknown`].

mod plan;
mod write;

use std::io;

use lycia_tree::Content as Bytes;
use lycia_tree::Tree;
use thiserror::Error;

use crate::ext4::{self, Existing};
use crate::fat;
use crate::partition::Guid;
use crate::partition::gpt::GptError;

pub use plan::{Placed, Plan};

/// Where partitions begin by themselves: multiples of 1 MiB, which suit every disk and memory card.
pub const ALIGNMENT: u64 = 1 << 20;

/// What is wanted of a disk.
#[derive(Clone, Debug)]
pub struct Layout<'l> {
    /// Bytes of the disk; `None` for as many as its parts take, in whole alignments.
    pub size: Option<u64>,
    /// Bytes of a sector, 512 or 4096.
    pub sector_size: u32,
    /// The kind of table.
    pub table: Table,
    /// Which disk it is, in a GPT.
    pub guid: Guid,
    /// Which disk it is, in an MBR; 0 for none.
    pub signature: u32,
    /// At most 440 bytes that a BIOS runs.
    pub boot_code: &'l [u8],
    /// Where partitions begin that do not say where, and where those end that take the rest: multiples of so many
    /// bytes, a power of two of at least a sector.
    pub alignment: u64,
    /// The first sector that the GPT lets partitions use; `None` for the first behind the table.
    pub first_usable: Option<u64>,
    /// The partitions, in the order in which they are placed.
    pub partitions: Vec<Partition<'l>>,
    /// Bytes at fixed places, inside of partitions or outside.
    pub raw: Vec<Raw<'l>>,
    /// What the place holds that it is written to.
    pub existing: Existing,
}

/// The kind of a partition table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Table {
    /// GPT behind a protective MBR.
    Gpt {
        /// Whether the MBR has an unused record flagged active besides, without which some BIOSes boot no disk.
        active_placeholder: bool,
    },
    /// GPT, and an MBR that shows up to three of its partitions.
    Hybrid(Vec<Shown>),
    /// MBR alone: at most four partitions.
    Mbr,
}

/// A partition of a GPT that the MBR shows too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Shown {
    /// Its number in the GPT.
    pub number: u32,
    /// Its type in the MBR.
    pub kind: u8,
    /// Whether a BIOS may boot from it.
    pub active: bool,
}

/// How much of the disk a partition takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// Bytes, rounded up to whole sectors.
    Bytes(u64),
    /// Up to the next partition that has a fixed place, or to the end.
    Rest,
}

/// A partition.
#[derive(Clone, Debug)]
pub struct Partition<'l> {
    /// Its number; `None` for the first that is free.
    pub number: Option<u32>,
    /// What is on it, in a GPT.
    pub kind: Guid,
    /// What is on it, in an MBR.
    pub mbr_kind: u8,
    /// Which one it is, in a GPT.
    pub guid: Guid,
    /// Its name in a GPT, at most 36 UTF-16 units.
    pub name: String,
    /// Attribute bits of a GPT.
    pub attributes: u64,
    /// Whether a BIOS may boot from it, in an MBR.
    pub active: bool,
    /// First byte, a multiple of the sector; `None` for the next aligned place behind the partition before.
    pub start: Option<u64>,
    /// Bytes.
    pub size: Size,
    /// What is written to it.
    pub content: Content<'l>,
}

/// What is written to a partition.
#[derive(Clone, Debug)]
pub enum Content<'l> {
    /// Nothing: what is there stays. For partitions that are kept.
    Keep,
    /// Nothing that programs would take for a file system: beginning and end are zeros.
    Empty,
    /// These bytes from its beginning on, and no more.
    Bytes(Bytes),
    /// A FAT volume. Its size is the partition's.
    Fat {
        /// What is on it.
        tree: &'l Tree,
        /// Everything else.
        volume: fat::Volume,
    },
    /// An ext4 volume. Its size, sectors and what the place holds are the disk's.
    Ext4 {
        /// What is on it.
        tree: &'l Tree,
        /// Everything else.
        volume: ext4::Volume,
    },
}

/// Bytes at a fixed place of the disk: a boot loader of a board.
#[derive(Clone, Debug)]
pub struct Raw<'l> {
    /// What it is, for messages.
    pub name: &'l str,
    /// First byte.
    pub offset: u64,
    /// The bytes.
    pub bytes: Bytes,
    /// The most that there may be, so that a later version does not run into what follows; `None` for up to the next
    /// part of the layout.
    pub room: Option<u64>,
}

impl Layout<'_> {
    /// A GPT disk without partitions, 512-byte sectors, written to a new file.
    pub fn new(guid: Guid) -> Layout<'static> {
        Layout {
            size: None,
            sector_size: 512,
            table: Table::Gpt {
                active_placeholder: false,
            },
            guid,
            signature: 0,
            boot_code: &[],
            alignment: ALIGNMENT,
            first_usable: None,
            partitions: Vec::new(),
            raw: Vec::new(),
            existing: Existing::Zeros,
        }
    }
}

impl Partition<'_> {
    /// A partition of a GPT that takes the next place and is left empty.
    pub fn new(name: &str, kind: Guid, guid: Guid, size: Size) -> Partition<'static> {
        Partition {
            number: None,
            kind,
            mbr_kind: crate::partition::mbr::KIND_LINUX,
            guid,
            name: name.to_owned(),
            attributes: 0,
            active: false,
            start: None,
            size,
            content: Content::Empty,
        }
    }
}

/// Why a disk was not laid out or written.
#[derive(Debug, Error)]
pub enum DiskError {
    /// A setting that no disk has.
    #[error("laying out a disk: {0}")]
    Setting(String),
    /// A partition that cannot be.
    #[error("laying out partition {number} (`{name}`): {reason}")]
    Partition {
        /// Its number.
        number: u32,
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
    /// Bytes with a fixed place that do not fit there.
    #[error("placing {name} at byte {offset} of a disk: {reason}")]
    Raw {
        /// What they are.
        name: String,
        /// Where they should begin.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The table.
    #[error("laying out a disk: {0}")]
    Table(#[from] GptError),
    /// A FAT volume.
    #[error("partition {number} (`{name}`): {source}")]
    Fat {
        /// The partition.
        number: u32,
        /// Its name.
        name: String,
        /// Why.
        source: fat::FatError,
    },
    /// An ext4 volume.
    #[error("partition {number} (`{name}`): {source}")]
    Ext4 {
        /// The partition.
        number: u32,
        /// Its name.
        name: String,
        /// Why.
        source: ext4::Ext4Error,
    },
    /// The disk refused.
    #[error("writing {what} of a disk: {source}")]
    Write {
        /// What was being written.
        what: String,
        /// Why not.
        source: io::Error,
    },
}
