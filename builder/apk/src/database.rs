//! The installed database: `lib/apk/db/{installed,triggers,scripts.tar.gz}` under the root.
//!
//! Text records of one letter, a colon and a value, as apk-tools 3.0 writes them (`src/database.c`,
//! `apk_db_write_fdb` and the text formats of `doc/apk-package.5` and `doc/apk-v2.5`). The files are
//! written so that apk in the target carries on as if it had installed the packages itself.
//!
//! ```
//! use lycia_apk::database::{Database, InstalledPackage};
//! use lycia_apk::metadata::{Digest, PackageInfo};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let info = PackageInfo {
//!     name: "hello".into(),
//!     version: "1.0-r0".into(),
//!     hashes: Some(Digest(vec![7; 32])),
//!     ..PackageInfo::default()
//! };
//! let mut database = Database::default();
//! database.packages.push(InstalledPackage { info, ..InstalledPackage::default() });
//! database.sort();
//! let (installed, triggers) = (database.write_installed()?, database.write_triggers());
//! assert!(installed.starts_with(b"C:"));
//! let again = Database::read(&installed, &triggers, &database.write_scripts())?;
//! assert_eq!(again.packages[0].info.name, "hello");
//!
//! // What would make a record of its own is not written.
//! database.packages[0].info.description = "harmless\nP:root-shell".into();
//! assert!(database.write_installed().is_err());
//! # Ok(())
//! # }
//! ```

mod read;
mod store;
mod write;

pub use read::ReadError;
pub(crate) use read::set_field;
pub use store::{ARCH, StoreError, WORLD};
pub use write::WriteError;

use crate::metadata::{PackageInfo, ScriptKind};

/// Where the database lies, below the root. On a usr-merged root `lib` is a link to `usr/lib`.
pub const DIRECTORY: &str = "lib/apk/db";

/// Longest header of a record up to its provider priority, in bytes; apk refuses to write a longer one.
pub const HEADER_MAX: usize = 2048;

/// All installed packages.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Database {
    /// In the order of the file: by name without regard to ASCII case, then by bytes.
    pub packages: Vec<InstalledPackage>,
}

/// What was remembered as wrong when a package was installed, and how its digests are to be read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Flags {
    /// A file of it could not be installed (`f`).
    pub broken_files: bool,
    /// A script of it failed (`s`).
    pub broken_script: bool,
    /// An extended attribute could not be set (`x`).
    pub broken_xattrs: bool,
    /// A v3 package: digests of files are SHA-256 cut to 20 bytes, not SHA-1 (`S`).
    pub sha256_160: bool,
}

/// A package as it is installed.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct InstalledPackage {
    /// What the index said of it. `hashes` is the identity given there.
    pub info: PackageInfo,
    /// Preference when two packages replace each other's files.
    pub replaces_priority: u64,
    /// Repository tag that it is pinned to.
    pub tag: Option<String>,
    /// What went wrong.
    pub flags: Flags,
    /// Directories in the order of the package.
    pub directories: Vec<InstalledDirectory>,
    /// Directory globs that it listens to.
    pub triggers: Vec<String>,
    /// Its scripts, kept for its removal and upgrade.
    pub scripts: Vec<(ScriptKind, Vec<u8>)>,
}

/// Owner, mode and attributes as recorded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Ownership {
    /// User id in the root.
    pub uid: u32,
    /// Group id in the root.
    pub gid: u32,
    /// Permission bits, 07777.
    pub mode: u16,
    /// Digest of the extended attributes (see [`xattr_digest`]), if there are any.
    pub xattrs: Option<[u8; 20]>,
}

/// A directory that a package has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstalledDirectory {
    /// Path without slash at either end; empty is the root.
    pub path: Vec<u8>,
    /// Owner and mode.
    pub owner: Ownership,
    /// Its files that belong to the package.
    pub files: Vec<InstalledFile>,
}

/// A file that a package owns.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InstalledFile {
    /// One component.
    pub name: Vec<u8>,
    /// Owner and mode.
    pub owner: Ownership,
    /// The first 20 bytes of the digest of its content or, of a symbolic link, of its text; none of
    /// devices and pipes.
    pub digest: Option<[u8; 20]>,
}

impl InstalledPackage {
    /// The first 20 bytes of the identity.
    pub fn key(&self) -> [u8; 20] {
        let mut key = [0; 20];
        if let Some(digest) = &self.info.hashes {
            for (to, from) in key.iter_mut().zip(&digest.0) {
                *to = *from;
            }
        }
        key
    }
}

/// The digest that stands for a set of extended attributes: SHA-1 over, sorted by name, the lengths (32
/// bits, big endian) and bytes of each name and value.
pub fn xattr_digest(xattrs: &[(Vec<u8>, Vec<u8>)]) -> Option<[u8; 20]> {
    use sha1::{Digest as _, Sha1};
    if xattrs.is_empty() {
        return None;
    }
    let mut sorted: Vec<_> = xattrs.iter().collect();
    sorted.sort();
    let mut hash = Sha1::new();
    for (name, value) in sorted {
        for part in [name, value] {
            hash.update((part.len() as u32).to_be_bytes());
            hash.update(part);
        }
    }
    Some(hash.finalize().into())
}

/// The order of records: by name without regard to ASCII case, then by bytes.
pub(crate) fn name_order(a: &str, b: &str) -> std::cmp::Ordering {
    let fold = |text: &str| {
        text.bytes()
            .map(|byte| byte.to_ascii_lowercase())
            .collect::<Vec<_>>()
    };
    fold(a).cmp(&fold(b)).then_with(|| a.cmp(b))
}

impl ScriptKind {
    /// All kinds in the order of the scripts archive.
    pub const ALL: [ScriptKind; 7] = [
        ScriptKind::PreInstall,
        ScriptKind::PostInstall,
        ScriptKind::PreDeinstall,
        ScriptKind::PostDeinstall,
        ScriptKind::PreUpgrade,
        ScriptKind::PostUpgrade,
        ScriptKind::Trigger,
    ];

    /// The name in the scripts archive and in `APK_SCRIPT`.
    pub fn name(self) -> &'static str {
        match self {
            ScriptKind::Trigger => "trigger",
            ScriptKind::PreInstall => "pre-install",
            ScriptKind::PostInstall => "post-install",
            ScriptKind::PreDeinstall => "pre-deinstall",
            ScriptKind::PostDeinstall => "post-deinstall",
            ScriptKind::PreUpgrade => "pre-upgrade",
            ScriptKind::PostUpgrade => "post-upgrade",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<ScriptKind> {
        ScriptKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}
