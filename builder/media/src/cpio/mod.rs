//! cpio archives in the "new ASCII" format (magic `070701`), as Linux unpacks an initramfs from them.
//!
//! Format: Linux `Documentation/driver-api/early-userspace/buffer-format.rst`. An initramfs is a row of
//! segments, each an archive or a compressed archive, which Linux unpacks one over the other. [`Segments`]
//! writes such a row and [`read_tree`] reads it.
//!
//! What the format cannot hold, the writer refuses: files of 4 GiB and more, times before 1970 or after
//! 2106. Nanoseconds are dropped. Extended attributes have no place in it; [`Xattrs`] says whether that is
//! an error.

mod read;
mod write;

use std::io;

use lycia_tree::TreeError;
use thiserror::Error;

pub use read::{Entries, Entry, Header, Limits, Segment, SegmentKind, read_tree, segments};
pub use write::{Options, Segments, Written, Xattrs, write_tree};

/// The magic number of a member.
pub const MAGIC: &[u8; 6] = b"070701";
/// The name that ends an archive.
pub const TRAILER: &[u8] = b"TRAILER!!!";
/// Bytes of a member's header: the magic number and 13 numbers of 8 hexadecimal digits.
pub const HEADER_LEN: usize = 110;
/// Longest text of a symbolic link that Linux unpacks, in bytes.
pub const SYMLINK_MAX: usize = 4095;

/// What went wrong with an archive. Paths are shown as [`lycia_tree::display`] does.
#[derive(Debug, Error)]
pub enum CpioError {
    /// A file that the format cannot hold.
    #[error(
        "writing {path} to a cpio archive: its {what} {value} is outside the format's range, 0 to {most}"
    )]
    Range {
        /// The entry.
        path: String,
        /// The field.
        what: &'static str,
        /// What it should hold.
        value: i128,
        /// The most that it can hold.
        most: u32,
    },
    /// Extended attributes where the caller wanted none lost.
    #[error("writing {path} to a cpio archive: the format has no place for its extended attribute {name}")]
    Xattr {
        /// The entry.
        path: String,
        /// The first attribute.
        name: String,
    },
    /// A name or link text that an unpacker would take for something else.
    #[error("writing {path} to a cpio archive: {reason}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The output refused.
    #[error("writing a cpio archive: {0}")]
    Write(#[source] io::Error),
    /// A compressed segment.
    #[error("a compressed segment of a cpio archive: {0}")]
    Compress(#[from] crate::compress::CompressError),
    /// The archive is not one.
    #[error("reading a cpio archive at byte {offset}: {reason}")]
    Malformed {
        /// Where in the input, or in the unpacked segment.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// More than the caller allowed.
    #[error("reading a cpio archive: more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The most allowed.
        limit: u64,
    },
    /// The members do not make a tree.
    #[error("reading a cpio archive: {0}")]
    Tree(#[from] TreeError),
}
