//! FAT file systems from a tree: EFI system partitions.
//!
//! The layout is hadris-fat's (FAT12, FAT16, FAT32 with long names; Microsoft's `fatgen103`). What FAT has no place for
//! is dropped when it cannot change what firmware reads (owners, modes, nanoseconds, extended attributes), and
//! refused when it would: links, devices, files of 4 GiB. Names must be UTF-8 and differ when case is ignored.
//! Hard links become copies. Times are stored as UTC, to 2 seconds.

use std::collections::BTreeMap;
use std::io::{self, Read, Seek, SeekFrom, Write};

use hadris_fat::sync::write as write_volume;
use hadris_fat::{FatKind, FatOptions, VolumeLabel};
use hadris_fs::{Content, DateTime, Error, ErrorKind, Node, SetAttr};
use hadris_io::ErrorType;
use hadris_storage::sync::BlockDevice;
use hadris_storage::{BlockIndex, BlockSize};
use lycia_tree::{Timestamp, Tree, display};
use thiserror::Error;

/// 1980-01-01 00:00:00, the first time that FAT knows, in seconds since 1970.
const FIRST_TIME: i64 = 315_532_800;
/// 2107-12-31 23:59:58, the last.
const LAST_TIME: i64 = 4_354_819_198;
const SECTOR: u64 = 512;

/// The width of the entries of the allocation table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// 12 bits.
    Fat12,
    /// 16 bits.
    Fat16,
    /// 32 bits, what the UEFI specification wants on fixed disks. Takes at least 33 MiB.
    Fat32,
}

/// What a volume is, apart from its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    /// At most 11 characters of ASCII, stored in upper case; `None` for no label.
    pub label: Option<String>,
    /// The serial number, which is what is called a FAT volume's UUID: `1234-5678` is `0x1234_5678`.
    pub serial: u32,
    /// The time of the label, and the latest for any file.
    pub time: Timestamp,
    /// `None` for FAT12 below 16 MiB, FAT16 below 512 MiB and FAT32 from there.
    pub width: Option<Width>,
    /// Bytes, a multiple of 512. See [`fitting_size`].
    pub size: u64,
}

/// Why a volume was not written. Paths are shown as [`lycia_tree::display`] does.
#[derive(Debug, Error)]
pub enum FatError {
    /// A label that FAT cannot have.
    #[error(
        "writing a FAT volume: the label `{label}` is not 1 to 11 characters of ASCII without \"*+,./:;<=>?[\\]|"
    )]
    Label {
        /// The label.
        label: String,
    },
    /// A size that is no volume's.
    #[error("writing a FAT volume: {0} bytes are not a multiple of 512")]
    Size(u64),
    /// An entry that FAT cannot hold.
    #[error("writing {path} to a FAT volume: {reason}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The volume could not be made.
    #[error("writing a FAT volume of {size} bytes: {reason}")]
    Write {
        /// Bytes of the volume.
        size: u64,
        /// Why not.
        reason: String,
    },
}

/// A size in bytes, a multiple of 1 MiB, in which `tree` and `spare` bytes more fit at whatever width.
pub fn fitting_size(tree: &Tree, width: Option<Width>, spare: u64) -> u64 {
    // The largest clusters that the sizes below get, and the most slots that a name can take.
    const CLUSTER: u64 = 32 << 10;
    let mut bytes = spare;
    for entry in tree.walk() {
        let slots = 1 + entry.name().len().div_ceil(13) as u64 + 1;
        bytes += slots * 32;
        bytes += match entry.inode.content() {
            Some(content) => content
                .len()
                .next_multiple_of(CLUSTER.min(content.len() / 4).max(4096)),
            None => CLUSTER,
        };
    }
    // Two tables of 4 bytes per cluster of 512 at the worst, reserved sectors and root directory.
    bytes += bytes / 48 + (128 << 10);
    let least = match width {
        Some(Width::Fat32) => 34 << 20,
        Some(Width::Fat16) => 5 << 20,
        Some(Width::Fat12) | None => 1 << 20,
    };
    bytes.max(least).next_multiple_of(1 << 20)
}

/// Makes the volume in memory.
///
/// # Errors
/// When an entry does not fit FAT, or everything does not fit the size.
pub fn image(tree: &Tree, volume: &Volume) -> Result<Vec<u8>, FatError> {
    let (files, options) = prepare(tree, volume, SECTOR as u32)?;
    let mut bytes = vec![0; volume.size as usize];
    write_volume(&mut bytes, &files, &options).map_err(|error| failure(volume, &error))?;
    Ok(bytes)
}

/// Writes the volume to `disk`, `offset` bytes from its start: to a partition. What was there need not be
/// zeros; sectors that the volume does not use yet keep their bytes.
///
/// # Errors
/// As [`image`], and when the disk refuses.
pub fn write(
    disk: &mut (impl Read + Write + Seek),
    offset: u64,
    tree: &Tree,
    volume: &Volume,
) -> Result<(), FatError> {
    write_sectors(disk, offset, SECTOR as u32, tree, volume)
}

/// As [`write`](fn@write), on a disk with sectors of `sector_size` bytes, 512 or 4096: Linux and firmware take no FAT with
/// smaller sectors than its disk's.
///
/// # Errors
/// As [`image`], and when the disk refuses.
pub fn write_sectors(
    disk: &mut (impl Read + Write + Seek),
    offset: u64,
    sector_size: u32,
    tree: &Tree,
    volume: &Volume,
) -> Result<(), FatError> {
    let (files, options) = prepare(tree, volume, sector_size)?;
    let mut window = Window {
        disk,
        offset,
        sectors: volume.size / SECTOR,
    };
    write_volume(&mut window, &files, &options).map_err(|error| failure(volume, &error))?;
    Ok(())
}

fn failure(volume: &Volume, error: &dyn std::error::Error) -> FatError {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    FatError::Write {
        size: volume.size,
        reason,
    }
}

fn prepare(
    tree: &Tree,
    volume: &Volume,
    sector_size: u32,
) -> Result<(hadris_fs::Tree, FatOptions), FatError> {
    if volume.size == 0 || !volume.size.is_multiple_of(sector_size.max(512).into()) {
        return Err(FatError::Size(volume.size));
    }
    let mut options = FatOptions::new()
        .with_size(volume.size)
        .with_serial(volume.serial)
        .with_partition_offset(0)
        .with_sector_size(sector_size)
        .with_oem_name(*b"LYCIA   ")
        .with_time(date(volume.time));
    if let Some(label) = &volume.label {
        options = options
            .with_label(VolumeLabel::new(label).map_err(|_| FatError::Label { label: label.clone() })?);
    }
    if let Some(width) = volume.width {
        options = options.with_kind(match width {
            Width::Fat12 => FatKind::Fat12,
            Width::Fat16 => FatKind::Fat16,
            Width::Fat32 => FatKind::Fat32,
        });
    }
    let mut files = hadris_fs::Tree::new();
    // Each path with case ignored, and how it is spelled.
    let mut spellings: BTreeMap<String, String> = BTreeMap::new();
    for entry in tree.walk().skip(1) {
        let refuse = |reason: String| FatError::Entry {
            path: display(&entry.path),
            reason,
        };
        let path =
            std::str::from_utf8(entry.relative()).map_err(|_| refuse("its name is not UTF-8".to_owned()))?;
        let name = path.rsplit('/').next().unwrap_or_default();
        if name.ends_with([' ', '.']) || name.contains(['"', '*', ':', '<', '>', '?', '\\', '|']) {
            return Err(refuse("FAT has no such names".to_owned()));
        }
        if let Some(other) = spellings.insert(path.to_lowercase(), path.to_owned()) {
            return Err(refuse(format!("it differs from /{other} only by case")));
        }
        let node = if entry.inode.is_directory() {
            Node::dir()
        } else if let Some(content) = entry.inode.content() {
            if content.len() > u32::MAX.into() {
                return Err(refuse(format!("{} bytes are more than 4 GiB - 1", content.len())));
            }
            Node::file(Content::bytes(content.bytes()))
        } else {
            return Err(refuse("FAT holds files and directories only".to_owned()));
        };
        let time = date(entry.inode.metadata.mtime.min(volume.time));
        let attributes = SetAttr::new()
            .with_modified(time)
            .with_created(time)
            .with_accessed(time);
        files
            .insert(path, node.with_attrs(attributes))
            .map_err(|error| refuse(error.to_string()))?;
    }
    Ok((files, options))
}

/// The time, moved into what FAT knows.
fn date(time: Timestamp) -> DateTime {
    let seconds = time.seconds.clamp(FIRST_TIME, LAST_TIME);
    // Odd seconds have no place in the modification time; cut here, they do not depend on the field.
    DateTime::from_unix_seconds(seconds & !1).unwrap_or(hadris_fs::NoClock::TIME)
}

/// A part of a disk, as the block device that hadris-fat writes to.
struct Window<'a, T> {
    disk: &'a mut T,
    offset: u64,
    sectors: u64,
}

impl<T: Seek> Window<'_, T> {
    fn seek(&mut self, first: BlockIndex, len: usize) -> Result<(), Error<io::Error>> {
        let outside = || Error::new(ErrorKind::InvalidInput, "a sector outside the partition");
        let sectors = len as u64 / SECTOR;
        if first
            .get()
            .checked_add(sectors)
            .is_none_or(|end| end > self.sectors)
        {
            return Err(outside());
        }
        let at = self
            .offset
            .checked_add(first.get() * SECTOR)
            .ok_or_else(outside)?;
        self.disk
            .seek(SeekFrom::Start(at))
            .map(drop)
            .map_err(|error| Error::device(error, "seeking"))
    }
}

impl<T> ErrorType for Window<'_, T> {
    type Error = io::Error;
}

impl<T: Read + Write + Seek> BlockDevice for Window<'_, T> {
    fn block_size(&self) -> BlockSize {
        const BLOCK: BlockSize = match BlockSize::new(SECTOR as u32) {
            Some(size) => size,
            None => panic!("512 is a power of two"),
        };
        BLOCK
    }

    fn block_count(&self) -> u64 {
        self.sectors
    }

    fn writable(&self) -> bool {
        true
    }

    fn read_blocks(&mut self, first: BlockIndex, buf: &mut [u8]) -> Result<(), Error<io::Error>> {
        self.seek(first, buf.len())?;
        self.disk
            .read_exact(buf)
            .map_err(|error| Error::device(error, "reading"))
    }

    fn write_blocks(&mut self, first: BlockIndex, buf: &[u8]) -> Result<(), Error<io::Error>> {
        self.seek(first, buf.len())?;
        self.disk
            .write_all(buf)
            .map_err(|error| Error::device(error, "writing"))
    }

    fn flush(&mut self) -> Result<(), Error<io::Error>> {
        self.disk
            .flush()
            .map_err(|error| Error::device(error, "flushing"))
    }
}
