//! Files inside a directory tree that is going to be `/` for someone else: every symbolic link, absolute
//! or not, is followed as it will be there and never leads out (openat2(2) with `RESOLVE_IN_ROOT`).

use rustix::fs::{self as rfs, AtFlags, FileType, Mode, OFlags, ResolveFlags};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

/// Largest file that is read whole.
const READ_LIMIT: u64 = 16 << 20;

/// An open root directory.
#[derive(Debug)]
pub struct RootDir {
    fd: OwnedFd,
}

/// Owner, group and permission bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Access {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Access {
    /// A file of root with these permission bits.
    #[must_use]
    pub const fn root(mode: u32) -> Self {
        Self { uid: 0, gid: 0, mode }
    }
}

/// A directory entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Name.
    pub name: String,
    /// Kind.
    pub kind: FileType,
}

fn parent_and_name(path: &str) -> io::Result<(&str, &str)> {
    let path = path.trim_matches('/');
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() || name == ".." || name == "." {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    Ok((parent, name))
}

impl RootDir {
    /// Opens the directory.
    ///
    /// # Errors
    /// If it is not a directory or cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        let fd = rfs::open(
            path,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { fd })
    }

    fn open_at(&self, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
        let path = if path.is_empty() { "." } else { path };
        Ok(rfs::openat2(
            &self.fd,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            ResolveFlags::IN_ROOT,
        )?)
    }

    fn directory(&self, path: &str) -> io::Result<OwnedFd> {
        self.open_at(path, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// Owner and mode of what is at `path`, links followed.
    ///
    /// # Errors
    /// If there is nothing.
    pub fn access(&self, path: &str) -> io::Result<(FileType, Access)> {
        let stat = rfs::fstat(self.open_at(path, OFlags::PATH)?)?;
        let mode = stat.st_mode;
        Ok((
            FileType::from_raw_mode(mode),
            Access {
                uid: stat.st_uid,
                gid: stat.st_gid,
                mode: mode & 0o7777,
            },
        ))
    }

    /// Whether `path` leads to a regular file.
    #[must_use]
    pub fn is_file(&self, path: &str) -> bool {
        self.access(path)
            .is_ok_and(|(kind, _)| kind == FileType::RegularFile)
    }

    /// Whether `path` leads to a directory.
    #[must_use]
    pub fn is_dir(&self, path: &str) -> bool {
        self.access(path)
            .is_ok_and(|(kind, _)| kind == FileType::Directory)
    }

    /// Whether `path` leads to a regular file that someone may execute.
    #[must_use]
    pub fn is_program(&self, path: &str) -> bool {
        self.access(path)
            .is_ok_and(|(kind, access)| kind == FileType::RegularFile && access.mode & 0o111 != 0)
    }

    /// Content of a file.
    ///
    /// # Errors
    /// If it cannot be read or is larger than 16 MiB.
    pub fn read(&self, path: &str) -> io::Result<Vec<u8>> {
        let file = File::from(self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?);
        let mut bytes = Vec::new();
        let count = file.take(READ_LIMIT + 1).read_to_end(&mut bytes)?;
        if count as u64 > READ_LIMIT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 16 MiB"));
        }
        Ok(bytes)
    }

    /// Up to `limit` bytes from the start of a file.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read_head(&self, path: &str, limit: u64) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        File::from(self.open_at(path, OFlags::RDONLY | OFlags::NONBLOCK)?)
            .take(limit)
            .read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    /// Content of a text file; empty if there is none.
    ///
    /// # Errors
    /// If it is there and cannot be read.
    pub fn read_text(&self, path: &str) -> io::Result<String> {
        match self.read(path) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
            Err(error) => Err(error),
        }
    }

    /// Writes a file whole: aside first, then renamed over the old one. A link at `path` is replaced, not
    /// followed.
    ///
    /// # Errors
    /// If the directory does not exist or cannot be written.
    pub fn write(&self, path: &str, content: &[u8], access: Access) -> io::Result<()> {
        let (parent, name) = parent_and_name(path)?;
        let directory = self.directory(parent)?;
        let aside = format!(".{name}.lycia-init");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file = File::from(rfs::openat(
            &directory,
            &aside,
            flags,
            Mode::from_raw_mode(0o600),
        )?);
        file.write_all(content)?;
        set_access(&file, access)?;
        drop(file);
        Ok(rfs::renameat(&directory, &aside, &directory, name)?)
    }

    /// Writes a file and keeps owner and mode of the old one if there is one.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn rewrite(&self, path: &str, content: &[u8], new: Access) -> io::Result<()> {
        let access = self.access(path).map_or(new, |(_, access)| access);
        self.write(path, content, access)
    }

    /// Makes a directory; one that is there keeps its owner and mode.
    ///
    /// # Errors
    /// If the parent does not exist or something else is in the way.
    pub fn make_dir(&self, path: &str, access: Access) -> io::Result<()> {
        if self.is_dir(path) {
            return Ok(());
        }
        let (parent, name) = parent_and_name(path)?;
        let parent = self.directory(parent)?;
        rfs::mkdirat(&parent, name, Mode::from_raw_mode(0o700))?;
        let made = rfs::openat(
            &parent,
            name,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        set_access(&made, access)
    }

    /// Makes a directory and those above it.
    ///
    /// # Errors
    /// As [`Self::make_dir`].
    pub fn make_dirs(&self, path: &str, access: Access) -> io::Result<()> {
        let path = path.trim_matches('/');
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        for end in ends {
            self.make_dir(&path[..end], access)?;
        }
        Ok(())
    }

    /// Makes a symbolic link, replacing a link that is there.
    ///
    /// # Errors
    /// If the directory does not exist, or something that is not a link is in the way.
    pub fn link(&self, path: &str, target: &str, owner: Access) -> io::Result<()> {
        let (parent, name) = parent_and_name(path)?;
        let parent = self.directory(parent)?;
        match rfs::symlinkat(target, &parent, name) {
            Err(rustix::io::Errno::EXIST) => {
                let old = rfs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(old.st_mode) != FileType::Symlink {
                    return Err(io::Error::from(io::ErrorKind::AlreadyExists));
                }
                rfs::unlinkat(&parent, name, AtFlags::empty())?;
                rfs::symlinkat(target, &parent, name)?;
            }
            other => other?,
        }
        let (uid, gid) = ids(owner);
        Ok(rfs::chownat(&parent, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Where a symbolic link leads; None if `path` is none.
    #[must_use]
    pub fn read_link(&self, path: &str) -> Option<String> {
        let (parent, name) = parent_and_name(path).ok()?;
        let parent = self.directory(parent).ok()?;
        rfs::readlinkat(&parent, name, Vec::new())
            .ok()?
            .into_string()
            .ok()
    }

    /// Removes a file or link; nothing there is fine.
    ///
    /// # Errors
    /// If it is there and stays.
    pub fn remove(&self, path: &str) -> io::Result<()> {
        let (parent, name) = parent_and_name(path)?;
        let parent = match self.directory(parent) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        match rfs::unlinkat(&parent, name, AtFlags::empty()) {
            Err(rustix::io::Errno::NOENT) => Ok(()),
            other => Ok(other?),
        }
    }

    /// Entries of a directory in order of name.
    ///
    /// # Errors
    /// If it cannot be listed.
    pub fn list(&self, path: &str) -> io::Result<Vec<Entry>> {
        let directory = self.open_at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut entries = Vec::new();
        for entry in rfs::Dir::read_from(&directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().to_str() else {
                continue;
            };
            if name != "." && name != ".." {
                let stat = rfs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
                entries.push(Entry {
                    name: name.to_owned(),
                    kind: FileType::from_raw_mode(stat.st_mode),
                });
            }
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }
}

fn ids(access: Access) -> (Option<rfs::Uid>, Option<rfs::Gid>) {
    (
        Some(rfs::Uid::from_raw(access.uid)),
        Some(rfs::Gid::from_raw(access.gid)),
    )
}

fn set_access(file: impl std::os::fd::AsFd, access: Access) -> io::Result<()> {
    let (uid, gid) = ids(access);
    rfs::fchown(&file, uid, gid)?;
    // After the owner: changing that clears the set-id bits.
    Ok(rfs::fchmod(&file, Mode::from_raw_mode(access.mode))?)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// Access of whoever runs the tests.
    pub(crate) fn own(mode: u32) -> Access {
        Access {
            uid: rustix::process::getuid().as_raw(),
            gid: rustix::process::getgid().as_raw(),
            mode,
        }
    }

    #[test]
    fn links_stay_inside() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "outside").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        std::fs::create_dir_all(dir.path().join("usr/lib")).unwrap();
        symlink("/usr/lib", dir.path().join("lib")).unwrap();
        symlink(outside.path(), dir.path().join("out")).unwrap();
        symlink("../../../../..", dir.path().join("up")).unwrap();
        root.write("/lib/f", b"x", own(0o640)).unwrap();
        assert_eq!(std::fs::read(dir.path().join("usr/lib/f")).unwrap(), b"x");
        assert_eq!(
            std::fs::metadata(dir.path().join("usr/lib/f")).unwrap().mode() & 0o7777,
            0o640
        );
        assert!(root.read("/out/secret").is_err());
        assert_eq!(root.read("/up/lib/f").unwrap(), b"x");
        assert!(root.write("/out/new", b"", own(0o600)).is_err());
        assert!(root.write("/..", b"", own(0o600)).is_err());
    }

    #[test]
    fn a_link_in_place_of_a_file_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        root.write("target", b"kept", own(0o600)).unwrap();
        root.link("name", "target", own(0)).unwrap();
        root.write("name", b"new", own(0o600)).unwrap();
        assert_eq!(
            (root.read("target").unwrap(), root.read("name").unwrap()),
            (b"kept".to_vec(), b"new".to_vec())
        );
        assert_eq!(root.read_link("name"), None);
    }

    #[test]
    fn directories_links_and_lists() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        root.make_dirs("/a/b/c/", own(0o755)).unwrap();
        root.make_dirs("a/b/c", own(0o700)).unwrap();
        assert_eq!(root.access("a/b/c").unwrap().1.mode, 0o755);
        root.link("a/link", "one", own(0)).unwrap();
        root.link("a/link", "two", own(0)).unwrap();
        assert_eq!(root.read_link("a/link").as_deref(), Some("two"));
        root.write("a/file", b"", own(0o755)).unwrap();
        assert!(root.link("a/file", "x", own(0)).is_err());
        assert!(root.is_program("a/file") && !root.is_program("a") && root.is_dir("a"));
        let names: Vec<_> = root
            .list("a")
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names, ["b", "file", "link"]);
        root.remove("a/file").unwrap();
        root.remove("a/file").unwrap();
        root.remove("no/where").unwrap();
        assert_eq!(root.read_text("a/file").unwrap(), "");
    }
}
