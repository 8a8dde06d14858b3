//! What is in a medium: partitions, file systems, archives, boot records, kernels, packages; checks of all of them; and what
//! differs between two media.
//!
//! [`inspect`] reads whatever the builder or one of its peers writes and trusts nothing in it: what is wrong is a [`Fault`] with
//! its place, what is too large is cut by [`Limits`]. [`compare`] says by file and by byte what differs. Nothing is written but
//! temporary files without a name, for what has to be unpacked.
//!
//! A file is mapped into memory while it is read: it must not be changed or cut meanwhile.

mod archive;
mod beside;
mod boot;
mod cell;
mod compare;
mod disk;
mod iso;
mod map;
mod oci;
mod report;
mod root;
mod sink;
mod source;
mod verity;
mod volumes;

use std::path::{Path, PathBuf};

use lycia_tree::Content;
use thiserror::Error;

pub use compare::{
    Change, ChangedFile, ChangedPart, ChangedValue, Damage, Difference, Range, Side, Touched, Unread, Which,
    compare,
};
pub use report::{BootEntry, Fault, Installed, Item, Part, Report, System, acts};

/// How much to take from a file that can claim anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Entries of one file system or archive.
    pub entries: u64,
    /// Bytes of paths, texts of links and attributes that are held in memory, of all file systems and archives together.
    /// Attributes of one inode count once for each of its names.
    pub names: u64,
    /// Bytes of files' contents that are read in all.
    pub content: u64,
    /// Bytes that one compressed thing may unpack to.
    pub unpacked: u64,
    /// Bytes of a compressed initramfs, which is held in memory.
    pub initramfs: u64,
    /// How deep things may lie in one another.
    pub depth: u32,
}

impl Default for Limits {
    /// 4 Mi entries with 1 GiB of names and attributes, 256 GiB of contents, 64 GiB unpacked, 1 GiB of initramfs, 6 deep.
    fn default() -> Limits {
        Limits {
            entries: 4 << 20,
            names: 1 << 30,
            content: 256 << 30,
            unpacked: 64 << 30,
            initramfs: 1 << 30,
            depth: 6,
        }
    }
}

/// Why a file was not inspected.
#[derive(Debug, Error)]
pub enum InspectError {
    /// It could not be read.
    #[error("reading {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is nothing that is known.
    #[error(
        "{}: no medium, disk image, file system, archive, kernel or initramfs that is known begins there",
        path.display()
    )]
    Unknown {
        /// The file.
        path: PathBuf,
    },
}

/// Opens a file for [`inspect_bytes`].
///
/// # Errors
/// When it cannot be read.
pub fn open(path: &Path) -> Result<Content, InspectError> {
    source::open(path).map_err(|source| InspectError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Inspects a file, and compares it with checksums and a manifest that lie beside it.
///
/// # Errors
/// When it cannot be read, or is nothing that is known.
pub fn inspect(path: &Path, limits: &Limits) -> Result<Report, InspectError> {
    let content = open(path)?;
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut report = inspect_bytes(&name, &content, limits).ok_or_else(|| InspectError::Unknown {
        path: path.to_owned(),
    })?;
    beside::check(path, &mut report);
    Ok(report)
}

/// Inspects the content of a file of this name; nothing where it is nothing that is known.
pub fn inspect_bytes(name: &str, content: &Content, limits: &Limits) -> Option<Report> {
    let mut cell = cell::Cell::new(limits);
    let part = cell.part(cell::Place::file(), content, 0)?;
    Some(Report {
        version: report::FORMAT,
        file: name.to_owned(),
        size: content.len(),
        sha256: sink::sha256(content.bytes()),
        part,
        beside: Vec::new(),
        faults: cell.faults,
        regions: cell.regions,
        base: cell.base,
        partial: cell.partial,
    })
}
