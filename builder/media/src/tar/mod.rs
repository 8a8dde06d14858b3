//! tar archives: POSIX.1-2001 "pax" interchange, as container layers and root tarballs are.
//!
//! Format: IEEE Std 1003.1, `pax`, "ustar Interchange Format" and "pax Extended Header". A member has an extended
//! header only for what the old one cannot hold: long or split names, ids from 2,097,152 on, files from 8 GiB on,
//! times before 1970, after 2242 or with nanoseconds, and extended attributes (`SCHILY.xattr.`, which GNU tar,
//! libarchive and container runtimes read). The header's own name and times are fixed, so that nothing of the process
//! that wrote it shows.
//!
//! The reader takes also what GNU tar writes by itself: long names in members of their own and numbers in base 256.

mod read;
mod write;

use std::io;

use lycia_tree::TreeError;
use thiserror::Error;

pub use read::{Archive, Header, Limits, Member, begins, read_tree};
pub use write::{Item, Options, Sockets, Writer, Written, write_compressed, write_tree};

/// Bytes of a header, and the unit that contents are padded to.
pub const BLOCK: usize = 512;
/// What a keyword of an extended attribute begins with.
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What went wrong with an archive. Paths are shown as [`lycia_tree::display`] does.
#[derive(Debug, Error)]
pub enum TarError {
    /// An entry that the format cannot hold.
    #[error("writing {path} to a tar archive: {reason}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// The output refused.
    #[error("writing a tar archive: {0}")]
    Write(#[source] io::Error),
    /// The compression.
    #[error("a compressed tar archive: {0}")]
    Compress(#[from] crate::compress::CompressError),
    /// The input refused.
    #[error("reading a tar archive: {0}")]
    Read(#[source] io::Error),
    /// The archive is not one.
    #[error("reading a tar archive at byte {offset}: {reason}")]
    Malformed {
        /// Where.
        offset: u64,
        /// What is wrong.
        reason: String,
    },
    /// The archive has what is not understood.
    #[error("reading a tar archive at byte {offset}: {what}, which is not supported")]
    Unsupported {
        /// Where.
        offset: u64,
        /// What.
        what: String,
    },
    /// More than the caller allowed.
    #[error("reading a tar archive: more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The most allowed.
        limit: u64,
    },
    /// The members do not make a tree.
    #[error("reading a tar archive: {0}")]
    Tree(#[from] TreeError),
}
