//! Inodes: what an entry is, apart from its names.

use std::collections::BTreeMap;

use crate::Content;

/// An inode of one tree. Ids are never reused while their tree lives.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct InodeId(pub(crate) u32);

impl InodeId {
    /// The id as a small number, unique in its tree. It depends on the order in which the tree was
    /// built: use it to tell inodes apart, never in an output.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// A point of time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub struct Timestamp {
    /// Seconds since 1970-01-01 00:00:00 UTC.
    pub seconds: i64,
    /// Nanoseconds of the second, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// A whole second.
    pub fn from_seconds(seconds: i64) -> Timestamp {
        Timestamp {
            seconds,
            nanoseconds: 0,
        }
    }
}

/// Device numbers, as Linux has them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Device {
    /// Major number, at most 12 bits in the formats that we write.
    pub major: u32,
    /// Minor number, at most 20 bits.
    pub minor: u32,
}

/// What every inode has.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Metadata {
    /// Permission bits, 07777.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes with their full names (`security.capability`).
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Metadata {
    /// Owned by root, without attributes.
    pub fn new(mode: u16, mtime: Timestamp) -> Metadata {
        Metadata {
            mode: mode & 0o7777,
            uid: 0,
            gid: 0,
            mtime,
            xattrs: BTreeMap::new(),
        }
    }

    /// The same with another owner.
    pub fn owned_by(mut self, uid: u32, gid: u32) -> Metadata {
        self.uid = uid;
        self.gid = gid;
        self
    }
}

/// What an inode is, for one that is not a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// A regular file.
    Regular(Content),
    /// A symbolic link and its text.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket, which archives of cpio can hold and tar cannot.
    Socket,
}

/// What an inode is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A directory with its entries in byte order of their names. `.` and `..` are not among them.
    Directory {
        /// Entries by name.
        entries: BTreeMap<Vec<u8>, InodeId>,
        /// The directory that holds this one; the root is its own.
        parent: InodeId,
    },
    /// Anything else.
    Node(Node),
}

/// An inode.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Inode {
    /// Owner, mode, times, attributes.
    pub metadata: Metadata,
    pub(crate) kind: Kind,
    pub(crate) names: u32,
}

impl Inode {
    /// What it is.
    pub fn kind(&self) -> &Kind {
        &self.kind
    }

    /// What it is, unless it is a directory.
    pub fn node(&self) -> Option<&Node> {
        match &self.kind {
            Kind::Node(node) => Some(node),
            Kind::Directory { .. } => None,
        }
    }

    /// The entries, of a directory.
    pub fn entries(&self) -> Option<&BTreeMap<Vec<u8>, InodeId>> {
        match &self.kind {
            Kind::Directory { entries, .. } => Some(entries),
            Kind::Node(_) => None,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory { .. })
    }

    /// The content, of a regular file.
    pub fn content(&self) -> Option<&Content> {
        match &self.kind {
            Kind::Node(Node::Regular(content)) => Some(content),
            _ => None,
        }
    }

    /// The text, of a symbolic link.
    pub fn symlink(&self) -> Option<&[u8]> {
        match &self.kind {
            Kind::Node(Node::Symlink(target)) => Some(target),
            _ => None,
        }
    }

    /// Number of names. Hard links make it more than 1; 0 means removed. A directory has one name here,
    /// whatever `st_nlink` a file system would show.
    pub fn names(&self) -> u32 {
        self.names
    }

    /// The file type bits of `st_mode` (`S_IFMT`).
    pub fn file_type(&self) -> u16 {
        match &self.kind {
            Kind::Directory { .. } => 0o040000,
            Kind::Node(Node::Regular(_)) => 0o100000,
            Kind::Node(Node::Symlink(_)) => 0o120000,
            Kind::Node(Node::CharDevice(_)) => 0o020000,
            Kind::Node(Node::BlockDevice(_)) => 0o060000,
            Kind::Node(Node::Fifo) => 0o010000,
            Kind::Node(Node::Socket) => 0o140000,
        }
    }

    /// Type and permission bits, as `st_mode` has them.
    pub fn mode(&self) -> u16 {
        self.file_type() | (self.metadata.mode & 0o7777)
    }
}
