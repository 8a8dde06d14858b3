//! The values that packages, indexes and the installed database share.
//!
//! Field names follow the slots of the ADB schemas `pckg` and `indx` (apk-tools 3.0, `doc/apk-v3.5`) and
//! the letters of the v2 text records. Names, versions and paths are text that has been checked when it
//! was read: no control characters anywhere, the character sets of the package builder for names and
//! versions.

use std::fmt;

/// How a dependency's version is compared. The bits are those stored in an ADB dependency object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Match(pub u8);

impl Match {
    /// `=`
    pub const EQUAL: u8 = 1;
    /// `<`
    pub const LESS: u8 = 2;
    /// `>`
    pub const GREATER: u8 = 4;
    /// `~`: the constraint is a token prefix of the candidate. Always together with [`Match::EQUAL`].
    pub const FUZZY: u8 = 8;
    /// `!`: the dependency is a conflict.
    pub const CONFLICT: u8 = 16;
    /// Any version.
    pub const ANY: Match = Match(Self::EQUAL | Self::LESS | Self::GREATER);

    /// Whether the dependency says that the name must not be there.
    pub fn is_conflict(self) -> bool {
        self.0 & Self::CONFLICT != 0
    }
}

/// One dependency: `[!]name[@tag][op version]`. The same shape states what a package provides
/// (`name=version` or a bare name).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Dependency {
    /// The name, which may be virtual (`so:libc.so`, `cmd:sh`).
    pub name: String,
    /// The version compared with; empty where any version will do.
    pub version: String,
    /// How it is compared.
    pub op: Match,
    /// The repository tag, in `world` and on the command line only.
    pub tag: Option<String>,
}

/// The identity of a package: the SHA-256 of its ADB payload, perhaps cut to 20 bytes (v3), or the SHA-1
/// of its control member (v2).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub Vec<u8>);

impl Digest {
    /// The first 20 bytes, which key a package everywhere in apk.
    pub fn key(&self) -> &[u8] {
        &self.0[..self.0.len().min(20)]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

/// What a package says of itself, and what an index says of a package.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct PackageInfo {
    /// Package name.
    pub name: String,
    /// Version with revision, as `1.2.6-r0`.
    pub version: String,
    /// In an index: the identity of the package. In a package: its uid (20 bytes), which is another value.
    pub hashes: Option<Digest>,
    /// One line.
    pub description: String,
    /// Architecture; empty means any.
    pub arch: String,
    /// SPDX expression.
    pub license: String,
    /// Name of the source package.
    pub origin: String,
    /// Who maintains it.
    pub maintainer: String,
    /// Home page.
    pub url: String,
    /// Commit of the package recipe, 20 bytes, or empty.
    pub repo_commit: Vec<u8>,
    /// Seconds since 1970.
    pub build_time: u64,
    /// Bytes of its regular files, every inode once; 0 means that the package has no file at all and is
    /// never fetched.
    pub installed_size: u64,
    /// Bytes of the package file (index only).
    pub file_size: u64,
    /// Preference among providers of one name.
    pub provider_priority: u64,
    /// What it needs and what it conflicts with.
    pub depends: Vec<Dependency>,
    /// Other names that it answers to.
    pub provides: Vec<Dependency>,
    /// Packages whose files it may overwrite.
    pub replaces: Vec<Dependency>,
    /// It is added when all of these are met.
    pub install_if: Vec<Dependency>,
    /// Names that go well with it.
    pub recommends: Vec<Dependency>,
    /// Layer (0 is the root, 1 is uvol).
    pub layer: u64,
    /// Free tags.
    pub tags: Vec<String>,
}

impl PackageInfo {
    /// Whether it is for every architecture: `noarch`, or none named.
    pub fn fits_every_arch(&self) -> bool {
        matches!(self.arch.as_str(), "" | "noarch")
    }
}

/// Owner and permissions of an entry.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Acl {
    /// Permission bits, 07777.
    pub mode: u16,
    /// User name.
    pub user: String,
    /// Group name.
    pub group: String,
    /// Extended attributes as name and value, in stored order.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// User and group id that count where the root does not know the names; v2 packages have them.
    pub ids: Option<(u32, u32)>,
}

/// What a path of a package is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FileKind {
    /// A regular file, whose content is `hash`ed and travels as a data block when `size` is not 0.
    Regular {
        /// SHA-1, SHA-256 or SHA-512 by length.
        hash: Vec<u8>,
    },
    /// A symbolic link.
    Symlink {
        /// Its text.
        target: Vec<u8>,
    },
    /// A further name of a file of the same package.
    HardLink {
        /// The first name, a path without leading slash.
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
}

/// A non-directory entry of a package.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileEntry {
    /// One path component.
    pub name: Vec<u8>,
    /// Owner and permissions.
    pub acl: Acl,
    /// Bytes, as recorded; of links too.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: u64,
    /// What it is.
    pub kind: FileKind,
}

/// A directory of a package with its non-directory entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DirEntry {
    /// Path without slash at either end; empty is the root directory.
    pub path: Vec<u8>,
    /// Owner and permissions.
    pub acl: Acl,
    /// Entries in stored order.
    pub files: Vec<FileEntry>,
}

/// The moments at which a package's scripts run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ScriptKind {
    /// After the transaction, with the directories that matched.
    Trigger,
    /// Before its files are there.
    PreInstall,
    /// After its files are there.
    PostInstall,
    /// Before its files go.
    PreDeinstall,
    /// After its files went.
    PostDeinstall,
    /// Before its files change.
    PreUpgrade,
    /// After its files changed.
    PostUpgrade,
}

/// A package without the contents of its files.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Package {
    /// What it says of itself.
    pub info: PackageInfo,
    /// Directories in stored order, the root first.
    pub paths: Vec<DirEntry>,
    /// Scripts by moment.
    pub scripts: Vec<(ScriptKind, Vec<u8>)>,
    /// Globs of directories that it wants to hear of; a leading `+` asks for changed ones only.
    pub triggers: Vec<String>,
    /// Preference when two packages replace each other's files.
    pub replaces_priority: u64,
}

impl fmt::Display for Dependency {
    /// The text form: `!name`, `name@tag`, `name>=1.2`, `name~1.2`, `name><Q1…`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.op.is_conflict() {
            f.write_str("!")?;
        }
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, "@{tag}")?;
        }
        if self.version.is_empty() {
            return Ok(());
        }
        let op = match self.op.0 & !Match::CONFLICT {
            1 => "=",
            2 => "<",
            3 => "<=",
            4 => ">",
            5 => ">=",
            6 => "><",
            // All of `<`, `=` and `>`: any version, which needs no operator.
            7 => return Ok(()),
            9 => "~",
            11 => "<~",
            13 => ">~",
            _ => "?",
        };
        write!(f, "{op}{}", self.version)
    }
}
