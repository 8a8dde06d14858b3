//! Squashfs 4.0: a writer from a tree, and a reader that lists and checks.
//!
//! The format is the kernel's `fs/squashfs/squashfs_fs.h` and `Documentation/filesystems/squashfs.rst`.
//!
//! [`write`] makes every inode type, basic and extended; directory indexes; fragments with the ends of
//! files; hard links as one inode; shared contents of equal files; holes; attributes of `user.`, `trusted.`
//! and `security.`; and the export table. Its bytes depend on the tree and on [`Options`] except
//! [`Options::jobs`], on nothing else.
//!
//! Times are 32 bits without a sign: times before 1970 become 1970, those after 2106 the last second there
//! is, and parts of seconds are dropped.
//!
//! [`Image`] reads images of any writer with gzip, xz or zstd, and trusts nothing that it reads.

mod blocks;
mod check;
mod codec;
mod data;
mod image;
mod inodes;
mod layout;
mod metadata;
mod pipeline;
mod reader;
mod records;
mod xattr;

use std::collections::HashMap;
use std::io::{self, Seek, SeekFrom, Write};
use std::thread::available_parallelism;

use lycia_tree::{Follow, InodeId, Tree, display};
use thiserror::Error;

pub use blocks::{BlockKey, BlockStore, Known};
pub use check::Report;
use codec::Encoder;
pub use image::{Entry, Image, ImageError, Limits, NAME_BYTES};
use inodes::{References, Survey};
pub use layout::Superblock;
use layout::{NO_TABLE, SUPERBLOCK_LEN, flags, put32};
pub use records::{EntryKind, FileRecord, InodeRecord, Listing};
use xattr::{Refusal, XattrWriter};

/// Compressor and strength.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compressor {
    /// zlib streams, levels 1 to 9; every kernel with squashfs reads them.
    Gzip {
        /// Level; squashfs-tools takes 9.
        level: u32,
    },
    /// xz streams with a CRC32.
    Xz {
        /// Preset 0 to 9; squashfs-tools takes 6. Blocks are at most 1 MiB, so that the higher ones differ
        /// little.
        preset: u32,
        /// Filter that is tried on each block and kept where it gains.
        bcj: Bcj,
    },
    /// LZ4, quick to unpack; Linux 3.19 and later.
    Lz4 {
        /// 1: the quick compressor; 3 to 12: the high compression mode, which squashfs-tools does at 12 with `-Xhc`.
        level: u32,
    },
    /// Zstandard, levels 1 to 22; Linux 4.14 and later.
    Zstd {
        /// Level; squashfs-tools takes 15.
        level: u32,
    },
}

/// Filter of xz for one instruction set: it makes the targets of calls absolute, so that calls of one
/// function look equal. The kernel needs its `XZ_DEC_*` option for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Bcj {
    /// No filter.
    None,
    /// x86, 32 and 64 bits.
    X86,
    /// PowerPC, big-endian.
    PowerPc,
    /// Itanium.
    Ia64,
    /// ARM, 32 bits.
    Arm,
    /// ARM Thumb.
    ArmThumb,
    /// SPARC.
    Sparc,
    /// AArch64; Linux 6.12 and later.
    Arm64,
    /// RISC-V; Linux 6.12 and later.
    RiscV,
}

/// How to write an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Compressor of data and metadata.
    pub compressor: Compressor,
    /// Bytes of a data block: a power of two from 4096 to 1048576.
    pub block_size: u32,
    /// Time of the image, seconds since 1970. Inodes keep their own.
    pub mtime: u32,
    /// Compression threads; 0 for one per processor. The image does not depend on it.
    pub jobs: usize,
    /// The file is filled up with zeros to a multiple of this many bytes, since a loop device wants whole
    /// sectors; 1 for none.
    pub padding: u32,
    /// Whether the ends of files longer than a block go into fragments as well. Smaller; reading such an end
    /// decompresses a whole fragment. `mksquashfs` does it only with `-always-use-fragments`.
    pub tail_ends: bool,
    /// Files whose data come first, in this order, as what boot reads should on optical media. The rest
    /// follows in the order of a walk. A path that is not a regular file of the tree is passed over.
    pub first: Vec<Vec<u8>>,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            compressor: Compressor::Zstd { level: 15 },
            block_size: 128 << 10,
            mtime: 0,
            jobs: 0,
            padding: 4096,
            tail_ends: true,
            first: Vec::new(),
        }
    }
}

/// What was written.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Summary {
    /// Bytes of the file, with padding.
    pub bytes: u64,
    /// Bytes of the image.
    pub bytes_used: u64,
    /// Bytes of all files' contents, hard links once.
    pub content_bytes: u64,
    /// Inodes.
    pub inodes: u32,
    /// Distinct user and group ids.
    pub ids: u16,
    /// Data blocks, with holes and without fragments.
    pub data_blocks: u64,
    /// Fragment blocks.
    pub fragments: u32,
    /// Data and fragment blocks that did not shrink and are stored as they are.
    pub raw_blocks: u64,
    /// Bytes of contents in blocks of zeros, which take no room.
    pub hole_bytes: u64,
    /// Files whose content equals that of an earlier one and is stored once.
    pub duplicates: u64,
    /// Bytes that were not stored again.
    pub duplicate_bytes: u64,
}

/// Why an image could not be written.
#[derive(Debug, Error)]
pub enum SquashfsError {
    /// The options contradict the format.
    #[error("squashfs options: {0}")]
    Options(String),
    /// An entry of the tree has no form in squashfs.
    #[error("storing {path} in the squashfs image: {why}")]
    Entry {
        /// Its path, or the first of them.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// The tree as a whole exceeds the format.
    #[error("the squashfs image is too large: {what} exceeds {limit}; split the image")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// The largest there is.
        limit: u64,
    },
    /// The output refused, or the system did.
    #[error("{doing} the squashfs image: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// The compressor failed, which happens only when memory runs out.
    #[error("{doing} the squashfs image: the compressor failed: {source}")]
    Compress {
        /// What was being done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
}

impl SquashfsError {
    fn io(doing: &'static str) -> impl Fn(io::Error) -> SquashfsError {
        move |source| SquashfsError::Io { doing, source }
    }

    fn compress(doing: &'static str) -> impl Fn(io::Error) -> SquashfsError {
        move |source| SquashfsError::Compress { doing, source }
    }

    fn worker() -> SquashfsError {
        SquashfsError::Compress {
            doing: "compressing",
            source: io::Error::other("the compression threads ended early"),
        }
    }
}

/// Options that were checked.
struct Settings {
    compressor: Compressor,
    block_size: usize,
    jobs: usize,
    tail_ends: bool,
}

impl Options {
    fn settings(&self) -> Result<Settings, SquashfsError> {
        if let Some(problem) = self.compressor.problem() {
            return Err(SquashfsError::Options(problem));
        }
        if !self.block_size.is_power_of_two() || !(4096..=1 << 20).contains(&self.block_size) {
            return Err(SquashfsError::Options(format!(
                "a block size of {} is not a power of two from 4096 to 1048576",
                self.block_size
            )));
        }
        if !self.padding.is_power_of_two() {
            return Err(SquashfsError::Options(format!(
                "padding to {} bytes is not a power of two",
                self.padding
            )));
        }
        Ok(Settings {
            compressor: self.compressor,
            block_size: self.block_size as usize,
            jobs: match self.jobs {
                0 => available_parallelism().map_or(1, usize::from),
                jobs => jobs,
            },
            tail_ends: self.tail_ends,
        })
    }
}

/// Writes `tree` as an image to `out`, from its position on, and leaves the position behind the image.
/// `progress` hears how many bytes of contents are done and how many there are; it is called often and from
/// this thread.
///
/// Memory beyond the tree: at most 48 MiB of blocks on their way, and the compressors' own (about 1 MiB for
/// each thread with zstd at 128 KiB, up to 12 MiB with xz at 1 MiB), and about 200 bytes for each inode.
///
/// # Errors
/// When options or an entry have no form in squashfs, or `out` refuses. What was written then is no image.
pub fn write<W: Write + Seek>(
    tree: &Tree,
    options: &Options,
    out: W,
    progress: &dyn Fn(u64, u64),
) -> Result<Summary, SquashfsError> {
    write_with(tree, options, out, None, progress)
}

/// As [`write`], taking blocks that were compressed before from `known` and giving it the others. The bytes are
/// the same.
///
/// # Errors
/// As [`write`].
pub fn write_with<W: Write + Seek>(
    tree: &Tree,
    options: &Options,
    mut out: W,
    known: Option<&dyn BlockStore>,
    progress: &dyn Fn(u64, u64),
) -> Result<Summary, SquashfsError> {
    let settings = options.settings()?;
    let mut encoder = Encoder::new(&settings.compressor).map_err(SquashfsError::compress("setting up"))?;
    let mut survey = Survey::new(tree)?;
    put_first(tree, &options.first, &mut survey.files);

    // What cannot be stored shows before the data are compressed, which takes most of the time.
    let (references, id_records, xattrs) = references(tree, &survey, &mut encoder)?;
    inodes::check(tree, &survey)?;

    let io = SquashfsError::io;
    let base = out.stream_position().map_err(io("finding the beginning of"))?;
    let mut image_flags = flags::DUPLICATES | flags::EXPORTABLE;
    let mut start = vec![0; SUPERBLOCK_LEN];
    if let Some(block) = settings.compressor.options_block(options.block_size) {
        image_flags |= flags::COMPRESSOR_OPTIONS;
        metadata::store_raw(&block, &mut start);
    }
    out.write_all(&start).map_err(io("writing the beginning of"))?;
    let (stored, mut at) = data::write(
        tree,
        &survey.files,
        &settings,
        &mut out,
        start.len() as u64,
        known,
        progress,
    )?;
    if stored.fragments == 0 {
        image_flags |= flags::NO_FRAGMENTS;
    } else if settings.tail_ends {
        image_flags |= flags::TAILS_IN_FRAGMENTS;
    }

    let tables = inodes::write(tree, &survey, &references, &stored, &mut encoder)?;
    let mut tail = Vec::new();
    let inode_table = at;
    tail.extend_from_slice(&tables.inodes);
    let directory_table = inode_table + tables.inodes.len() as u64;
    tail.extend_from_slice(&tables.directories);
    at = directory_table + tables.directories.len() as u64;
    // The kernel wants these tables in this order with nothing between them.
    let mut starts = [0; 3];
    for (start, records) in
        starts
            .iter_mut()
            .zip([&stored.fragment_records, &tables.export_records, &id_records])
    {
        let (bytes, index) =
            metadata::table(&mut encoder, at, records, &[]).map_err(SquashfsError::compress("ending"))?;
        *start = index;
        at += bytes.len() as u64;
        tail.extend_from_slice(&bytes);
    }
    let mut xattr_table = NO_TABLE;
    if let Some((bytes, index)) = xattrs
        .finish(&mut encoder, at)
        .map_err(SquashfsError::compress("ending"))?
    {
        xattr_table = index;
        at += bytes.len() as u64;
        tail.extend_from_slice(&bytes);
    }
    let bytes = at.next_multiple_of(u64::from(options.padding));
    tail.resize(tail.len() + (bytes - at) as usize, 0);
    out.write_all(&tail).map_err(io("writing the tables of"))?;

    let superblock = Superblock {
        inodes: survey.numbered.len() as u32,
        mtime: options.mtime,
        block_size: options.block_size,
        fragments: stored.fragments,
        compression: settings.compressor.id(),
        flags: image_flags,
        ids: (id_records.len() / 4) as u16,
        root: tables.root,
        bytes_used: at,
        id_table: starts[2],
        xattr_table,
        inode_table,
        directory_table,
        fragment_table: starts[0],
        export_table: starts[1],
    };
    out.seek(SeekFrom::Start(base))
        .map_err(io("returning to the beginning of"))?;
    out.write_all(&superblock.encode())
        .map_err(io("writing the superblock of"))?;
    out.seek(SeekFrom::Start(base + bytes))
        .map_err(io("returning to the end of"))?;
    out.flush().map_err(io("ending"))?;
    Ok(Summary {
        bytes,
        bytes_used: at,
        content_bytes: stored.content_bytes,
        inodes: superblock.inodes,
        ids: superblock.ids,
        data_blocks: stored.data_blocks,
        fragments: stored.fragments,
        raw_blocks: stored.raw_blocks,
        hole_bytes: stored.hole_bytes,
        duplicates: stored.duplicates,
        duplicate_bytes: stored.duplicate_bytes,
    })
}

/// Moves the files of `paths` to the front.
fn put_first(tree: &Tree, paths: &[Vec<u8>], files: &mut [InodeId]) {
    let mut rank: HashMap<InodeId, usize> = HashMap::new();
    for path in paths {
        if let Ok(Some(id)) = tree.find(path, Follow::All) {
            let next = rank.len();
            rank.entry(id).or_insert(next);
        }
    }
    files.sort_by_key(|id| rank.get(id).copied().unwrap_or(usize::MAX));
}

/// The tables that inodes refer to: for each inode its numbers in them, the records of the id table, the
/// attributes.
fn references<'t>(
    tree: &'t Tree,
    survey: &Survey,
    encoder: &mut Encoder,
) -> Result<(References, Vec<u8>, XattrWriter<'t>), SquashfsError> {
    let mut numbers: HashMap<u32, u16> = HashMap::new();
    let mut records = Vec::new();
    let mut number = |id: u32| -> Result<u16, SquashfsError> {
        if let Some(&number) = numbers.get(&id) {
            return Ok(number);
        }
        if numbers.len() == usize::from(u16::MAX) {
            return Err(SquashfsError::TooLarge {
                what: "the number of distinct users and groups",
                limit: u64::from(u16::MAX),
            });
        }
        let number = numbers.len() as u16;
        numbers.insert(id, number);
        put32(&mut records, id);
        Ok(number)
    };
    let mut xattrs = XattrWriter::new();
    let mut references = References {
        owners: Vec::with_capacity(survey.numbered.len()),
        xattrs: Vec::with_capacity(survey.numbered.len()),
    };
    for &id in &survey.numbered {
        let metadata = &tree.inode(id).metadata;
        references
            .owners
            .push((number(metadata.uid)?, number(metadata.gid)?));
        let set = if metadata.xattrs.is_empty() {
            None
        } else {
            let set = xattrs
                .number(encoder, &metadata.xattrs)
                .map_err(|refusal| match refusal {
                    Refusal::Attribute(name, why) => {
                        inodes::refuse(tree, id, format!("attribute {}: {why}", display(&name)))
                    }
                    Refusal::Io(source) => SquashfsError::Compress {
                        doing: "compressing the attributes of",
                        source,
                    },
                })?;
            Some(set)
        };
        references.xattrs.push(set);
    }
    Ok((references, records, xattrs))
}
