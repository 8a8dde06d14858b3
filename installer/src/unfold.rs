//! A tree written out as files, for file systems that the kernel fills.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use lycia_tree::{Entry, InodeId, Metadata, Node, Timestamp, Tree, display};
use rustix::fs::{AtFlags, CWD, FallocateFlags, FileType, Gid, IFlags, Mode, Timestamps, Uid, XattrFlags};

const MIB: u64 = 1 << 20;

/// Where a part of the tree goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The directory of the tree: `/`, or `/home` with everything below.
    pub mount_point: String,
    /// The directory that becomes it. It must be there and empty, but for what others are mounted on.
    pub directory: PathBuf,
    /// Whether nothing of it is touched, and what the tree has there is left out.
    pub kept: bool,
}

/// A file that is longer than its content, in blocks that are all its own: a swap file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    /// The file.
    pub id: InodeId,
    /// Its bytes.
    pub size: u64,
    /// Whether the file system must be told not to copy its blocks on writes.
    pub in_place: bool,
}

/// Why a tree was not written.
#[derive(Debug, thiserror::Error)]
#[error("{doing} {path}: {source}")]
pub struct UnfoldError {
    /// What was being done.
    pub doing: &'static str,
    /// On what, as the tree has it.
    pub path: String,
    /// Why not.
    pub source: io::Error,
}

fn failed<E: Into<io::Error>>(doing: &'static str, path: &[u8]) -> impl FnOnce(E) -> UnfoldError {
    let path = display(path);
    move |error| UnfoldError {
        doing,
        path,
        source: error.into(),
    }
}

/// Whether `path` is `folder` or below it; what is below, with its slash.
fn inside<'p>(path: &'p [u8], folder: &[u8]) -> Option<&'p [u8]> {
    if folder == b"/" {
        return Some(path);
    }
    let rest = path.strip_prefix(folder)?;
    (rest.is_empty() || rest.starts_with(b"/")).then_some(rest)
}

struct Writer<'a> {
    places: &'a [Place],
    reserved: Option<Reserved>,
    /// Where files with several names are: the place's number and the path.
    linked: HashMap<InodeId, Vec<(usize, PathBuf)>>,
    done: u64,
    shown: u64,
}

/// Writes `tree` into `places`, of which one is `/`; `progress` hears how many bytes of how many.
///
/// # Errors
/// When the kernel refuses; names the path.
pub fn unfold(
    tree: &Tree,
    places: &[Place],
    reserved: Option<Reserved>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), UnfoldError> {
    let total = tree
        .walk()
        .filter_map(|entry| entry.inode.content().map(lycia_tree::Content::len))
        .sum();
    let mut writer = Writer {
        places,
        reserved,
        linked: HashMap::new(),
        done: 0,
        shown: 0,
    };
    // Directories get their modes and times when everything is in them.
    let mut directories: Vec<(Vec<PathBuf>, Vec<u8>, &Metadata)> = Vec::new();
    for entry in tree.walk() {
        match entry.inode.node() {
            None => {
                let made = writer.directory(&entry)?;
                directories.push((made, entry.path.clone(), &entry.inode.metadata));
            }
            Some(node) => {
                writer.node(&entry, node)?;
                if writer.done - writer.shown >= MIB {
                    writer.shown = writer.done;
                    progress(writer.done.min(total), total);
                }
            }
        }
    }
    for (made, path, metadata) in directories.into_iter().rev() {
        for directory in made {
            own(&directory, metadata, &path)?;
            set_mode(&directory, metadata, &path)?;
            set_times(&directory, metadata.mtime, &path)?;
        }
    }
    for place in places.iter().filter(|place| !place.kept) {
        let synced = File::open(&place.directory).and_then(|folder| Ok(rustix::fs::syncfs(&folder)?));
        synced.map_err(failed("writing out", place.mount_point.as_bytes()))?;
    }
    progress(total, total);
    Ok(())
}

impl Writer<'_> {
    /// The places that a path is in: the last one is where its content goes.
    fn place(&self, path: &[u8]) -> Option<(usize, PathBuf)> {
        let fits = self.places.iter().enumerate().filter_map(|(number, place)| {
            let rest = inside(path, place.mount_point.as_bytes())?;
            Some((place.mount_point.len(), number, rest))
        });
        let (_, number, rest) = fits.max_by_key(|(length, ..)| *length)?;
        let rest = rest.strip_prefix(b"/").unwrap_or(rest);
        let directory = &self.places[number].directory;
        Some((number, directory.join(OsStr::from_bytes(rest))))
    }

    /// Makes a directory; where another place begins, both the directory to mount on and the one that is mounted. Those that get a mode and times.
    fn directory(&self, entry: &Entry<'_>) -> Result<Vec<PathBuf>, UnfoldError> {
        let mut made = Vec::new();
        for place in self.places {
            if place.mount_point.as_bytes() == entry.path.as_slice() && !place.kept {
                made.push(place.directory.clone());
            }
        }
        let parent = entry.path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
        if entry.path != b"/" {
            let parent = if parent == 0 {
                b"/".as_slice()
            } else {
                &entry.path[..parent]
            };
            if let Some((number, folder)) = self.place(parent)
                && !self.places[number].kept
            {
                let path = folder.join(OsStr::from_bytes(entry.name()));
                let mounted = self.places.iter().any(|place| place.directory == path);
                match rustix::fs::mkdirat(CWD, &path, Mode::RWXU) {
                    // It is what the other place is mounted on, and hidden by that.
                    Err(rustix::io::Errno::EXIST) if mounted => {}
                    Err(rustix::io::Errno::EXIST) if self.leads_to_a_place(&entry.path) => made.push(path),
                    result => {
                        result.map_err(failed("making the directory", &entry.path))?;
                        made.push(path);
                    }
                }
            }
        }
        Ok(made)
    }

    /// Whether something is mounted below a directory, which is therefore there already.
    fn leads_to_a_place(&self, path: &[u8]) -> bool {
        self.places.iter().any(|place| {
            let rest = place.mount_point.as_bytes().strip_prefix(path);
            rest.is_some_and(|rest| rest.starts_with(b"/"))
        })
    }

    fn node(&mut self, entry: &Entry<'_>, node: &Node) -> Result<(), UnfoldError> {
        let Some((number, path)) = self
            .place(&entry.path)
            .filter(|(number, _)| !self.places[*number].kept)
        else {
            return Ok(());
        };
        let metadata = &entry.inode.metadata;
        if entry.inode.names() > 1 {
            let before = self.linked.entry(entry.id).or_default();
            // A link cannot leave its file system: a second copy begins there.
            if let Some((_, first)) = before.iter().find(|(place, _)| *place == number) {
                return fs::hard_link(first, &path).map_err(failed("linking", &entry.path));
            }
            before.push((number, path.clone()));
        }
        let special = |kind, device| {
            rustix::fs::mknodat(CWD, &path, kind, Mode::RUSR | Mode::WUSR, device)
                .map_err(failed("making the node", &entry.path))
        };
        let number_of = |device: lycia_tree::Device| rustix::fs::makedev(device.major, device.minor);
        match node {
            Node::Regular(content) => {
                let mut file = File::options()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)
                    .map_err(failed("making the file", &entry.path))?;
                if let Some(reserved) = self.reserved.filter(|reserved| reserved.id == entry.id) {
                    reserve(&file, reserved).map_err(failed("reserving the blocks of", &entry.path))?;
                }
                file.write_all(content.bytes())
                    .map_err(failed("writing", &entry.path))?;
                self.done += content.len();
            }
            Node::Symlink(target) => {
                symlink(OsStr::from_bytes(target), &path).map_err(failed("making the link", &entry.path))?;
            }
            Node::CharDevice(device) => special(FileType::CharacterDevice, number_of(*device))?,
            Node::BlockDevice(device) => special(FileType::BlockDevice, number_of(*device))?,
            Node::Fifo => special(FileType::Fifo, 0)?,
            Node::Socket => special(FileType::Socket, 0)?,
        }
        own(&path, metadata, &entry.path)?;
        if entry.inode.symlink().is_none() {
            set_mode(&path, metadata, &entry.path)?;
        }
        set_times(&path, metadata.mtime, &entry.path)
    }
}

fn reserve(file: &File, reserved: Reserved) -> io::Result<()> {
    if reserved.in_place {
        rustix::fs::ioctl_setflags(file, IFlags::NOCOW)?;
    }
    Ok(rustix::fs::fallocate(
        file,
        FallocateFlags::empty(),
        0,
        reserved.size,
    )?)
}

/// Owner and attributes; capabilities are an attribute that a change of the owner takes away.
fn own(path: &Path, metadata: &Metadata, name: &[u8]) -> Result<(), UnfoldError> {
    let (user, group) = (Uid::from_raw(metadata.uid), Gid::from_raw(metadata.gid));
    rustix::fs::chownat(CWD, path, Some(user), Some(group), AtFlags::SYMLINK_NOFOLLOW)
        .map_err(failed("giving an owner to", name))?;
    for (attribute, value) in &metadata.xattrs {
        rustix::fs::lsetxattr(path, attribute.as_slice(), value, XattrFlags::empty())
            .map_err(failed("giving an attribute to", name))?;
    }
    Ok(())
}

/// After the owner, whose change takes set-user-ID away.
fn set_mode(path: &Path, metadata: &Metadata, name: &[u8]) -> Result<(), UnfoldError> {
    let mode = Mode::from_raw_mode(u32::from(metadata.mode & 0o7777));
    rustix::fs::chmodat(CWD, path, mode, AtFlags::empty()).map_err(failed("giving a mode to", name))
}

fn set_times(path: &Path, time: Timestamp, name: &[u8]) -> Result<(), UnfoldError> {
    let time = rustix::fs::Timespec {
        tv_sec: time.seconds,
        tv_nsec: i64::from(time.nanoseconds),
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(failed("dating", name))
}

#[cfg(test)]
mod tests;
