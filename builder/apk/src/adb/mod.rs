//! The ADB container of apk-tools 3 (its manual page `apk-v3(5)`): compression wrapper, blocks, value area
//! and the schemas of packages and indexes.
//!
//! A file is an optional compression wrapper around a stream: an 8-byte header naming the schema, then one
//! ADB block (the metadata as a value area), signature blocks, and, in packages, data blocks. All
//! integers are little endian.
//!
//! The readers here are stricter than apk itself: what no builder writes is an error that names the
//! damage, so that nothing dubious reaches a tree or a text database.

mod check;
pub(crate) use check::join;
pub(crate) mod container;
pub(crate) mod decode;
pub(crate) mod encode;
mod error;
pub(crate) mod stream;
#[cfg(test)]
mod tests;
pub(crate) mod value;
pub(crate) mod writer;

pub use check::{
    hard_link_path, is_dependency_name, is_package_name, validate_dependency, validate_info,
    validate_package, validate_path,
};
pub use error::{AdbError, Damage};
pub use stream::Compression;

/// What the value area of a file describes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schema {
    /// One package.
    Package,
    /// An index of packages.
    Index,
}

impl Schema {
    /// The schema word as stored and as signed.
    pub fn word(self) -> [u8; 4] {
        match self {
            Schema::Package => *b"pckg",
            Schema::Index => *b"indx",
        }
    }
}

impl std::fmt::Display for Schema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Schema::Package => "package",
            Schema::Index => "index",
        })
    }
}
