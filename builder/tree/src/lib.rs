//! A root file system as a value.
//!
//! A [`Tree`] holds inodes and the directory entries that name them: owners, modes, device nodes, hard
//! links, extended attributes and times live in the value and never on the build host, so that nobody
//! needs to be root to make them. Paths are bytes. Every order that shows is the byte order of names.
//!
//! File contents are inline bytes or ranges of a [`Pack`], one memory-mapped file per package, so that
//! a tree of gigabytes costs a few megabytes and writers copy ranges instead of files.
//!
//! This crate never touches the host's file system except for packs, and never reads a clock, a user id
//! or the environment.

mod content;
mod footprint;
mod inode;
pub mod overlay;
mod pack;
mod path;
mod resolve;
mod tree;
mod walk;

pub use content::Content;
pub use footprint::{ContentReader, Footprint, Pieces};
pub use inode::{Device, Inode, InodeId, Kind, Metadata, Node, Timestamp};
pub use pack::{Pack, PackError, PackWriter};
pub use path::{NAME_MAX, PATH_MAX, PathError, components, display};
pub use resolve::{Follow, SYMLINK_MAX};
pub use tree::{Tree, TreeError};
pub use walk::{Entry, Walk};
