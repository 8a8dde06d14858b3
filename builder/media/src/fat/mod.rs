//! FAT file systems from a tree: EFI system partitions.
//!
//! FAT12, FAT16 and FAT32 with long names, after Microsoft's `fatgen103`. Every file is in one piece. What FAT has no place for
//! is dropped when it cannot change what firmware reads (owners, modes, nanoseconds, extended attributes), and
//! refused when it would: links, devices, files of 4 GiB. Names must be UTF-8 and differ when case is ignored.
//! Hard links become copies. Times are stored as UTC, to 2 seconds.
//!
//! Files can be put into a volume that is there ([`Insertion`]), beside what it holds.

mod geometry;
mod insert;
mod names;
mod present;
mod read;
mod write;

use std::io::{Cursor, Seek, Write};

use lycia_tree::{Timestamp, Tree};
use thiserror::Error;

pub use insert::Insertion;
pub use present::{InsertError, Structures, names_in, read_file, structures};
pub use read::{Limits, Listed, ReadError, Reader, Summary};

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
    /// No volume of this size can be what is wanted.
    #[error("writing a FAT volume of {size} bytes: {reason}")]
    Space {
        /// Bytes of the volume.
        size: u64,
        /// Why not.
        reason: String,
    },
    /// The output refused.
    #[error("writing a FAT volume of {size} bytes: {reason}")]
    Write {
        /// Bytes of the volume.
        size: u64,
        /// Why not.
        reason: String,
    },
}

/// A size in bytes, a multiple of 1 MiB, in which `tree` and `spare` bytes more fit at whatever width, on a disk with sectors of
/// `sector_size` bytes.
pub fn fitting_size(tree: &Tree, width: Option<Width>, sector_size: u32, spare: u64) -> u64 {
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
    let sector = u64::from(sector_size);
    // As many clusters of one sector as the width has at least, and what is not in clusters.
    let least = match width {
        Some(Width::Fat32) => (geometry::MOST_16 + 1) * sector + (2 << 20),
        Some(Width::Fat16) => ((geometry::MOST_12 + 1) * sector + (1 << 20)).max(5 << 20),
        Some(Width::Fat12) | None => 1 << 20,
    };
    let size = bytes.max(least).next_multiple_of(1 << 20);
    // Where the width follows from the size, the smallest of FAT16 has too few clusters of large sectors.
    match width {
        None if sector > SECTOR && size == 16 << 20 => 17 << 20,
        _ => size,
    }
}

/// Makes the volume in memory.
///
/// # Errors
/// When an entry does not fit FAT, or everything does not fit the size.
pub fn image(tree: &Tree, volume: &Volume) -> Result<Vec<u8>, FatError> {
    let layout = lay_out(tree, volume, SECTOR as u32)?;
    let mut bytes = Cursor::new(vec![0; volume.size as usize]);
    layout
        .write(&mut bytes, 0, true)
        .map_err(|error| refused(volume, &error))?;
    Ok(bytes.into_inner())
}

/// Writes the volume to `disk`, `offset` bytes from its start: to a partition. What was there need not be
/// zeros; clusters that the volume does not use yet keep their bytes.
///
/// # Errors
/// As [`image`], and when the disk refuses.
pub fn write(
    disk: &mut (impl Write + Seek),
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
    disk: &mut (impl Write + Seek),
    offset: u64,
    sector_size: u32,
    tree: &Tree,
    volume: &Volume,
) -> Result<(), FatError> {
    lay_out(tree, volume, sector_size)?
        .write(disk, offset, false)
        .map_err(|error| refused(volume, &error))
}

/// The same where the disk reads as zeros, which then are not written.
pub(crate) fn write_sparse(
    disk: &mut (impl Write + Seek),
    offset: u64,
    sector_size: u32,
    tree: &Tree,
    volume: &Volume,
) -> Result<(), FatError> {
    lay_out(tree, volume, sector_size)?
        .write(disk, offset, true)
        .map_err(|error| refused(volume, &error))
}

fn refused(volume: &Volume, error: &std::io::Error) -> FatError {
    FatError::Write {
        size: volume.size,
        reason: error.to_string(),
    }
}

fn lay_out<'t>(tree: &'t Tree, volume: &Volume, sector_size: u32) -> Result<write::Layout<'t>, FatError> {
    if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
        return Err(FatError::Space {
            size: volume.size,
            reason: format!("sectors have 512 to 4096 bytes, not {sector_size}"),
        });
    }
    if volume.size == 0 || !volume.size.is_multiple_of(sector_size.into()) {
        return Err(FatError::Size(volume.size));
    }
    let label = match &volume.label {
        Some(text) => Some(label(text).ok_or_else(|| FatError::Label { label: text.clone() })?),
        None => None,
    };
    write::Layout::new(tree, volume, sector_size, label)
}

/// Whether a volume can have a label.
pub fn is_label(text: &str) -> bool {
    label(text).is_some()
}

/// A label as it is stored.
fn label(text: &str) -> Option<[u8; 11]> {
    let fits = |byte: u8| (b' '..=b'~').contains(&byte) && !b"\"*+,./:;<=>?[\\]|".contains(&byte);
    if text.is_empty() || text.len() > 11 || text.starts_with(' ') || !text.bytes().all(fits) {
        return None;
    }
    let mut label = [b' '; 11];
    label[..text.len()].copy_from_slice(text.to_ascii_uppercase().as_bytes());
    Some(label)
}

/// The time, moved into what FAT knows.
fn clamp(time: Timestamp) -> Timestamp {
    Timestamp::from_seconds(time.seconds.clamp(FIRST_TIME, LAST_TIME))
}
