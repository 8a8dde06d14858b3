//! A system that was selected: mounted, entered, checked.

use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::mount::MountFlags;

use super::host::{Host, below};
use super::inside::{self, Directory, Inside, Line};
use super::{Boot, KERNEL_MOUNTS, Nodes, RescueError, Root, check, volume};
use crate::file_system::{FileSystem, Kind};

/// A system, or a file system that may hold one, as it was selected.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its root.
    pub root: Root,
    /// Its host name, as far as that was read.
    pub hostname: Option<String>,
    /// The subvolume that was selected, where it is known.
    pub subvolume: Option<String>,
    /// Its `/boot`, as far as that was read.
    pub boot: Option<Boot>,
    pub(super) nodes: Nodes,
}

/// A system that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// How its root is mounted.
    pub file_system: FileSystem,
    /// `/boot`, where it has a file system of its own.
    pub boot: Option<Boot>,
    /// What its fstab names and is not mounted: where, and why not.
    pub left_out: Vec<String>,
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RescueError {
    let path = path.to_owned();
    move |source| RescueError::Io { doing, path, source }
}

/// A directory of a mounted root, wherever the links in its path pretend to lead.
fn directory_of(root: &Path, path: &str) -> Result<(Directory, PathBuf), RescueError> {
    let shown = root.join(path.trim_start_matches('/'));
    let directory = Directory::open(root, path).map_err(failed("mounting on", &shown))?;
    Ok((directory, shown))
}

/// Unmounts what [`Target::mount`] mounted on a directory with everything below it, and takes away the device of an encrypted root.
///
/// # Errors
/// When nothing is mounted there, or something is in use.
pub fn unmount_system(host: &mut dyn Host, directory: &Path) -> Result<(), RescueError> {
    let real = std::fs::canonicalize(directory).map_err(failed("unmounting", directory))?;
    let text = host
        .mountinfo()
        .map_err(failed("reading", Path::new("/proc/self/mountinfo")))?;
    let mounts = below(&text, &real);
    let Some((_, root)) = mounts.iter().find(|(place, _)| *place == real) else {
        let none = io::Error::new(io::ErrorKind::InvalidInput, "nothing is mounted there");
        return Err(failed("unmounting", directory)(none));
    };
    // As long as it is there.
    let held = volume::made_here(root, Path::new("/sys"));
    for (place, _) in mounts.iter().rev() {
        host.unmount(place).map_err(failed("unmounting", place))?;
    }
    volume::settle(held.as_deref())
}

impl Target {
    /// Device node of the partition of the root.
    #[must_use]
    pub fn node(&self) -> String {
        self.root.node()
    }

    /// The system in a root that was mounted to see it.
    fn chosen(&self, found: Vec<Inside>) -> Result<Inside, RescueError> {
        let mut found: Vec<Inside> = found
            .into_iter()
            .filter(|one| self.subvolume.is_none() || one.subvolume == self.subvolume)
            .collect();
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => Err(RescueError::NoSystem {
                node: self.node(),
                kind: self.root.kind.name(),
            }),
            _ => {
                let names = found.iter().map(|one| one.subvolume.as_deref().unwrap_or("/"));
                Err(RescueError::Several {
                    node: self.node(),
                    subvolumes: names.collect::<Vec<_>>().join(", "),
                })
            }
        }
    }

    /// Mounts the root alone. What only the kernel reads is mounted read-only first: no file is changed where there is no system. A log is replayed all
    /// the same, or what is in it could not be seen.
    fn mount_root(
        &self,
        host: &mut dyn Host,
        node: &str,
        directory: &Path,
    ) -> Result<(FileSystem, Vec<Line>), RescueError> {
        let root = &self.root;
        let (file_system, fstab) = match root.kind {
            Kind::Ext4 => (FileSystem::default(), Vec::new()),
            Kind::Xfs | Kind::Btrfs | Kind::F2fs => {
                let inside = self.chosen(root.systems_of(host, node, directory, root.top())?)?;
                (inside.file_system(root), inside.fstab)
            }
        };
        let data = match file_system.subvolumes.first() {
            Some(subvolume) => format!("subvol=/{}", subvolume.name),
            None => root.top().to_owned(),
        };
        let data: Vec<String> = [data, file_system.data()]
            .into_iter()
            .filter(|word| !word.is_empty())
            .collect();
        host.mount(
            node,
            directory,
            root.kind.name(),
            MountFlags::NODEV,
            &data.join(","),
        )
        .map_err(failed("mounting", Path::new(node)))?;
        Ok((file_system, fstab))
    }

    /// Mounts the root on `directory`, its `/boot` if that is apart, what else its fstab names by UUID, and what a shell in it needs of the running system.
    /// Other file systems than the root's and `/boot` are left out where they cannot be mounted.
    ///
    /// # Errors
    /// When something cannot be mounted that the system has its own files in, or it is no system; what was mounted is taken away again.
    pub fn mount(&self, host: &mut dyn Host, directory: &Path) -> Result<Mounted, RescueError> {
        self.mount_with(host, directory, true)
    }

    /// The same without other file systems than root and `/boot`: for who changes only these.
    ///
    /// # Errors
    /// As [`Self::mount`].
    pub fn mount_alone(&self, host: &mut dyn Host, directory: &Path) -> Result<Mounted, RescueError> {
        self.mount_with(host, directory, false)
    }

    fn mount_with(&self, host: &mut dyn Host, directory: &Path, whole: bool) -> Result<Mounted, RescueError> {
        if let Some(Boot { uuid, node: None, .. }) = &self.boot {
            return Err(RescueError::BootMissing(uuid.clone()));
        }
        let node = self.root.open()?;
        let mounted = self.mount_root(host, &node, directory);
        // It is in use now, and goes when it no longer is, whoever unmounts it.
        let closed = self.root.close();
        let (file_system, fstab) = mounted?;
        let rest = |host: &mut dyn Host| -> Result<Mounted, RescueError> {
            closed?;
            let (boot, left_out) = self.mount_rest(host, &node, directory, &fstab, whole)?;
            Ok(Mounted {
                file_system,
                boot,
                left_out,
            })
        };
        rest(host).inspect_err(|_| {
            let _ = unmount_system(host, directory);
        })
    }

    fn mount_rest(
        &self,
        host: &mut dyn Host,
        node: &str,
        directory: &Path,
        fstab: &[Line],
        whole: bool,
    ) -> Result<(Option<Boot>, Vec<String>), RescueError> {
        let boot = match &self.boot {
            Some(boot) => Some(boot.clone()),
            // What was read without mounting has been asked for it already.
            None if self.root.kind == Kind::Ext4 => None,
            None => inside::boot_of(fstab).map(|uuid| {
                let mut boot = Boot::of(uuid);
                boot.find(&self.nodes);
                boot
            }),
        };
        if let Some(boot) = &boot {
            let (Some(node), Some(kind)) = (&boot.node, &boot.kind) else {
                return Err(RescueError::BootMissing(boot.uuid.clone()));
            };
            let (place, shown) = directory_of(directory, "boot")?;
            host.mount(node, &place.path(), kind, MountFlags::NODEV, "")
                .map_err(failed("mounting", &shown))?;
        }
        let read;
        let fstab = match self.root.kind {
            // Not read on the way here.
            Kind::Ext4 => {
                read = inside::fstab_of(directory);
                &read
            }
            Kind::Xfs | Kind::Btrfs | Kind::F2fs => fstab,
        };
        let mut left_out = Vec::new();
        for line in inside::mounted_lines(fstab) {
            if line.is_subvolume_of(&self.root) {
                match self.mount_subvolume(host, node, directory, line) {
                    Err(_) if line.may_be_missing() => {}
                    other => other?,
                }
            } else if whole
                && line.is_apart_from(&self.root)
                && let Err(why) = self.mount_apart(host, directory, line)
            {
                left_out.push(format!("{} (UUID={}): {why}", line.place, line.uuid));
            }
        }
        for name in KERNEL_MOUNTS {
            let (place, shown) = directory_of(directory, name)?;
            host.bind(&Path::new("/").join(name), &place.path())
                .map_err(failed("mounting", &shown))?;
        }
        Ok((boot, left_out))
    }

    fn mount_subvolume(
        &self,
        host: &mut dyn Host,
        node: &str,
        directory: &Path,
        line: &Line,
    ) -> Result<(), RescueError> {
        let (place, shown) = directory_of(directory, &line.place)?;
        let data = line.data().unwrap_or_default();
        host.mount(
            node,
            &place.path(),
            self.root.kind.name(),
            MountFlags::NODEV,
            &data,
        )
        .map_err(failed("mounting", &shown))
    }

    /// Mounts a file system of the system's that it runs without; or says why not.
    fn mount_apart(&self, host: &mut dyn Host, directory: &Path, line: &Line) -> Result<(), String> {
        let known = self
            .nodes
            .iter()
            .find(|(uuid, _)| uuid.eq_ignore_ascii_case(&line.uuid));
        let (_, (node, kind)) = known.ok_or("no disk has it, or it is in an encrypted volume")?;
        let (place, _) = directory_of(directory, &line.place).map_err(|error| error.to_string())?;
        host.mount(node, &place.path(), kind, line.flags(), &line.data_apart(kind))
            .map_err(|error| format!("mounting {node}: {error}"))
    }

    /// Runs a program, or a shell, in the system; everything is unmounted afterwards. Its exit code. `left_out` is told of each file system that is missing in it.
    ///
    /// # Errors
    /// When the system cannot be mounted or the program not started.
    pub fn chroot(
        &self,
        host: &mut dyn Host,
        directory: &Path,
        command: &[String],
        left_out: &mut dyn FnMut(&str),
    ) -> Result<i32, RescueError> {
        let mounted = self.mount(host, directory)?;
        mounted.left_out.iter().for_each(|one| left_out(one));
        let shell = ["/bin/sh".to_owned(), "-l".to_owned()];
        let command = if command.is_empty() { &shell[..] } else { command };
        let ran = Command::new("chroot").arg(directory).args(command).status();
        let unmounted = unmount_system(host, directory);
        let status = ran.map_err(failed("running chroot in", directory))?;
        unmounted?;
        Ok(status.code().unwrap_or(1))
    }

    /// Checks the file system of the root, and of a `/boot` that is known, with their own programs; all but Btrfs are repaired, too.
    ///
    /// # Errors
    /// When such a program is missing, or leaves faults.
    pub fn check(&self, host: &mut dyn Host) -> Result<(), RescueError> {
        if let Some(boot) = &self.boot
            && let (Some(node), Some(kind)) = (&boot.node, boot.kind.as_deref().and_then(Kind::named))
        {
            check::check(host, node, kind)?;
        }
        let node = self.root.open()?;
        let held = volume::made_here(&node, Path::new("/sys"));
        let checked = check::check(host, &node, self.root.kind);
        checked.and(volume::settle(held.as_deref()))
    }
}
