//! What is in a mounted file system: an installed system or none, and what its fstab says.
//!
//! Nothing of it is trusted: its links lead nowhere outside of it, and its files are read up to a limit.

use std::io::{self, Read as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::mount::MountFlags;

use super::host::Host;
use super::{KERNEL_MOUNTS, RescueError, Root, TEXT_MAX, pretty_name};
use crate::file_system::{FileSystem, Kind, Subvolume, compression};
use crate::usage::unescaped;

/// Most subvolumes of a Btrfs that are looked into.
const SUBVOLUMES_MAX: usize = 4096;

/// A line of fstab(5) that names a file system by its UUID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) uuid: String,
    pub(super) place: String,
    kind: String,
    options: Vec<String>,
}

impl Line {
    fn option(&self, name: &str) -> Option<&str> {
        self.options
            .iter()
            .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
    }

    /// Whether it is another subvolume of a root of Btrfs.
    pub(super) fn is_subvolume_of(&self, root: &Root) -> bool {
        self.uuid.eq_ignore_ascii_case(&root.uuid) && self.kind == "btrfs" && self.data().is_some()
    }

    /// Whether it is in a file system that is neither the root's nor `/boot`.
    pub(super) fn is_apart_from(&self, root: &Root) -> bool {
        !self.uuid.eq_ignore_ascii_case(&root.uuid) && self.place != "/boot"
    }

    fn has(&self, word: &str) -> bool {
        self.options.iter().any(|option| option == word)
    }

    /// Whether a system starts without it.
    pub(super) fn may_be_missing(&self) -> bool {
        self.has("nofail")
    }

    /// The flags of mount(2) that keep something from whoever uses it; devices are never shown.
    pub(super) fn flags(&self) -> MountFlags {
        let words = [
            ("ro", MountFlags::RDONLY),
            ("nosuid", MountFlags::NOSUID),
            ("noexec", MountFlags::NOEXEC),
        ];
        let said = words.iter().filter(|(word, _)| self.has(word));
        said.fold(MountFlags::NODEV, |flags, (_, flag)| flags | *flag)
    }

    /// What mount(2) is told of a file system of this kind that is apart: the subvolume, and whose the files are where there are no modes.
    pub(super) fn data_apart(&self, kind: &str) -> String {
        let owners = ["umask=", "fmask=", "dmask=", "uid=", "gid="];
        let said = |option: &&String| owners.iter().any(|word| option.starts_with(word));
        match kind {
            "btrfs" => self.data().unwrap_or_default(),
            "vfat" => {
                let options: Vec<&str> = self.options.iter().filter(said).map(String::as_str).collect();
                options.join(",")
            }
            _ => String::new(),
        }
    }

    /// What mount(2) is told to get this line's subvolume.
    pub(super) fn data(&self) -> Option<String> {
        match (self.option("subvol"), self.option("subvolid")) {
            (Some(name), _) => Some(format!("subvol={name}")),
            (None, Some(number)) => Some(format!("subvolid={number}")),
            (None, None) => None,
        }
    }
}

/// The lines of fstab(5) that name a file system by its UUID.
pub(super) fn lines(text: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut words = line.split_whitespace();
        let uuid = words.next()?.strip_prefix("UUID=")?.trim_matches('"');
        let place = unescaped(words.next()?);
        let kind = words.next().unwrap_or("auto").to_owned();
        let options = unescaped(words.next().unwrap_or("defaults"));
        Some(Line {
            uuid: uuid.to_owned(),
            place,
            kind,
            options: options.split(',').map(str::to_owned).collect(),
        })
    };
    text.lines().filter_map(line).collect()
}

/// UUID of what is mounted on `/boot`.
pub(super) fn boot_of(lines: &[Line]) -> Option<String> {
    lines
        .iter()
        .find(|line| line.place == "/boot")
        .map(|line| line.uuid.clone())
}

/// Opens what a path names below a root, whatever links there are in it.
fn open(root: &Path, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let top = openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let path = match path.trim_start_matches('/') {
        "" => ".",
        path => path,
    };
    Ok(openat2(
        top,
        path,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

/// A directory below a root, as a path that leads to it and nowhere else as long as this is kept.
pub(super) struct Directory(OwnedFd);

impl Directory {
    pub(super) fn open(root: &Path, path: &str) -> io::Result<Directory> {
        open(root, path, OFlags::PATH | OFlags::DIRECTORY).map(Directory)
    }

    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// A small text file below a root.
fn text(root: &Path, path: &str) -> Option<String> {
    // A pipe in its place must not make anybody wait.
    let file = open(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY).ok()?;
    let about = fstat(&file).ok()?;
    let size = u64::try_from(about.st_size).ok()?;
    if FileType::from_raw_mode(about.st_mode) != FileType::RegularFile || size > TEXT_MAX {
        return None;
    }
    let mut text = String::new();
    let file = std::fs::File::from(file);
    file.take(TEXT_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// A system in a mounted file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Inside {
    pub(super) name: Option<String>,
    pub(super) hostname: Option<String>,
    pub(super) fstab: Vec<Line>,
    /// Name of the subvolume that is its root; none where that is the top of the file system.
    pub(super) subvolume: Option<String>,
}

impl Inside {
    /// The system whose root is a directory.
    fn read(root: &Path, subvolume: Option<String>) -> Option<Inside> {
        let release = ["usr/lib/os-release", "etc/os-release"]
            .iter()
            .find_map(|path| text(root, path));
        let fstab = text(root, "etc/fstab");
        // What has neither is data.
        if release.is_none() && fstab.is_none() {
            return None;
        }
        let hostname = text(root, "etc/hostname").map(|text| text.trim().to_owned());
        Some(Inside {
            name: release.as_deref().and_then(pretty_name),
            hostname: hostname.filter(|name| !name.is_empty()),
            fstab: fstab.as_deref().map(lines).unwrap_or_default(),
            subvolume,
        })
    }

    fn own_line(&self, uuid: &str) -> Option<&Line> {
        self.fstab
            .iter()
            .find(|line| line.place == "/" && line.uuid.eq_ignore_ascii_case(uuid))
    }

    /// Whether its fstab says that its root is where it is: copies of a subvolume name the one that they are of.
    fn names_itself(&self, uuid: &str) -> bool {
        let own = self.subvolume.as_deref().unwrap_or_default();
        self.own_line(uuid)
            .is_some_and(|line| match line.option("subvol") {
                Some(name) => name.trim_matches('/') == own,
                None => own.is_empty() && line.option("subvolid").is_none(),
            })
    }

    /// How its root is mounted.
    pub(super) fn file_system(&self, root: &Root) -> FileSystem {
        let how = self.own_line(&root.uuid).and_then(|line| line.option("compress"));
        FileSystem {
            kind: root.kind,
            subvolumes: self
                .subvolume
                .iter()
                .map(|name| Subvolume {
                    mount_point: "/".to_owned(),
                    name: name.clone(),
                })
                .collect(),
            compression: how
                .filter(|how| root.kind == Kind::Btrfs && compression(how).is_ok())
                .map(str::to_owned),
        }
    }
}

/// The lines of what a system mounts, beside its root and what the kernel shows, the outer ones first. The EFI system partition is among them, which is
/// mounted when it is needed.
pub(super) fn mounted_lines(fstab: &[Line]) -> Vec<&Line> {
    let of_the_kernel = |place: &str| {
        let mut names = KERNEL_MOUNTS.iter();
        names.any(|name| Path::new(place).starts_with(Path::new("/").join(name)))
    };
    let mut lines: Vec<&Line> = fstab
        .iter()
        .filter(|line| line.place.starts_with('/') && line.place != "/" && !of_the_kernel(&line.place))
        .filter(|line| !line.has("noauto") || line.place == "/boot/efi")
        .collect();
    lines.sort_by(|a, b| a.place.cmp(&b.place));
    lines
}

/// The fstab of a mounted root.
pub(super) fn fstab_of(root: &Path) -> Vec<Line> {
    text(root, "etc/fstab").as_deref().map(lines).unwrap_or_default()
}

/// The systems in a file system that is mounted, of Btrfs its top.
pub(super) fn systems(host: &dyn Host, top: &Path, root: &Root) -> Result<Vec<Inside>, RescueError> {
    let mut found: Vec<Inside> = Inside::read(top, None).into_iter().collect();
    if root.kind != Kind::Btrfs {
        return Ok(found);
    }
    let names = host.subvolumes(top).map_err(|source| RescueError::Io {
        doing: "looking for subvolumes of",
        path: PathBuf::from(root.node()),
        source,
    })?;
    // A comma ends a word of mount(2).
    for name in names
        .into_iter()
        .filter(|name| !name.contains(','))
        .take(SUBVOLUMES_MAX)
    {
        found.extend(Inside::read(&top.join(&name), Some(name)));
    }
    let sure: Vec<Inside> = found
        .iter()
        .filter(|one| one.names_itself(&root.uuid))
        .cloned()
        .collect();
    if !sure.is_empty() {
        return Ok(sure);
    }
    let usual = found.iter().position(|one| one.subvolume.as_deref() == Some("@"));
    if let Some(at) = usual {
        found = vec![found.swap_remove(at)];
    }
    Ok(found)
}
