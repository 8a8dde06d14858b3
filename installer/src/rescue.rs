//! Installed systems: found on disks by reading alone, mounted, checked.
//!
//! An encrypted root is read without the kernel's help. To be mounted it gets a device of the device mapper, which goes by itself when it is unmounted.

mod volume;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::Command;

use lycia_init::device_mapper::DeviceMapperError;
use lycia_luks::LuksError;

use lycia_media::ext4::{Limits, Reader};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::device::{Disk, Window};
use crate::found::look;
use crate::probe::Machine;

pub use volume::{Unlocked, Volume};

/// Largest file of a system that is read to describe it, in bytes.
const TEXT_MAX: u64 = 64 << 10;
/// What a shell in an installed system needs of the running one.
const KERNEL_MOUNTS: [&str; 4] = ["dev", "proc", "sys", "run"];

/// `/boot`, where it has a file system of its own.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Boot {
    /// Its UUID, as fstab has it.
    pub uuid: String,
    /// Its device node; none where no disk has it.
    pub node: Option<String>,
}

/// An installed system.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Installed {
    /// The disk.
    pub disk: String,
    /// Number of the partition of its root.
    pub partition: u32,
    /// UUID of its root.
    pub uuid: String,
    /// What it calls itself: `PRETTY_NAME` of os-release.
    pub name: Option<String>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Whether the file system was left clean.
    pub clean: bool,
    /// `/boot`, where it has a file system of its own.
    pub boot: Option<Boot>,
    /// The encrypted volume around its root.
    pub volume: Option<Unlocked>,
}

/// Why a system was not found, mounted or checked.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// None or several fit.
    #[error("{count} installed systems fit `{selector}`{}", if *count == 0 { "; `lycia-install systems` lists them" } else { ": give the UUID" })]
    Count {
        /// What was asked for.
        selector: String,
        /// How many fit.
        count: usize,
    },
    /// It is, or may be, in an encrypted volume that nobody opened.
    #[error(
        "locked: {0}; its passphrase opens it (asked for on a terminal, or --passphrase-file, --passphrase-fd)"
    )]
    Locked(String),
    /// A passphrase opens nothing.
    #[error("no encrypted volume opens with this passphrase. Nothing was written")]
    Passphrase,
    /// An encrypted volume cannot be read.
    #[error("the encrypted volume on {node}: {source}")]
    Volume {
        /// The partition.
        node: String,
        /// Why not.
        source: LuksError,
    },
    /// An encrypted volume gets no device.
    #[error("opening the encrypted volume on {node}: {why}")]
    Device {
        /// The partition.
        node: String,
        /// Why not.
        why: String,
    },
    /// The device of an encrypted volume does not go.
    #[error(transparent)]
    Close(#[from] DeviceMapperError),
    /// Its `/boot` is on no disk.
    #[error("the system mounts {0} on /boot, and no disk has it: connect that disk")]
    BootMissing(String),
    /// Something failed.
    #[error("{doing} {}: {source}", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The check found faults that it did not repair.
    #[error("e2fsck left faults on {node} (code {code})")]
    Faults {
        /// The partition.
        node: String,
        /// Exit code of e2fsck(8).
        code: i32,
    },
}

/// A small text file of an ext4 volume.
fn text<R: Read + Seek>(reader: &mut Reader<R>, path: &[u8]) -> Option<String> {
    let file = reader.lookup(path).ok()?;
    if file.size > TEXT_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    reader.copy(&file, &mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// UUID of what fstab(5) mounts on `/boot`.
fn boot_of(fstab: &str) -> Option<String> {
    fstab.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (device, place) = (words.next()?, words.next()?);
        (place == "/boot").then(|| device.strip_prefix("UUID=").map(str::to_owned))?
    })
}

/// The system in an ext4 volume; none if there is none. `place` is the disk, the partition and the volume's UUID.
fn system<R: Read + Seek>(volume: R, (disk, partition, uuid): (&str, u32, String)) -> Option<Installed> {
    let mut reader = Reader::open(volume, Limits::default()).ok()?;
    // What has neither is data.
    let release = [&b"/usr/lib/os-release"[..], b"/etc/os-release"]
        .iter()
        .find_map(|path| text(&mut reader, path));
    let fstab = text(&mut reader, b"/etc/fstab");
    if release.is_none() && fstab.is_none() {
        return None;
    }
    let name = release.and_then(|text| {
        let line = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        Some(line.trim_matches('"').to_owned())
    });
    let hostname = text(&mut reader, b"/etc/hostname").map(|text| text.trim().to_owned());
    Some(Installed {
        disk: disk.to_owned(),
        partition,
        uuid,
        name,
        hostname: hostname.filter(|name| !name.is_empty()),
        clean: reader.summary().clean,
        boot: fstab
            .as_deref()
            .and_then(boot_of)
            .map(|uuid| Boot { uuid, node: None }),
        volume: None,
    })
}

/// What was found on the disks of a machine.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Survey {
    /// Systems whose files can be read.
    pub systems: Vec<Installed>,
    /// Encrypted volumes that nobody opened; there may be systems in them.
    pub locked: Vec<Volume>,
    /// Device nodes by the UUID of their file system.
    #[serde(skip)]
    nodes: BTreeMap<String, String>,
}

/// Looks for installed systems on every disk: ext4 volumes that have an os-release or an fstab, and LUKS2 volumes, which can hold one. Only reads; nothing
/// is mounted. Disks that cannot be read are passed over.
#[must_use]
pub fn survey(machine: &Machine, dev: &Path) -> Survey {
    let mut out = Survey::default();
    for disk in machine.disks.iter().filter(|disk| disk.size > 0 && !disk.optical) {
        let path = dev.join(&disk.name);
        let Ok(mut device) = Disk::open_read(&path, disk.logical_sector) else {
            continue;
        };
        let Ok(found) = look(&mut device) else { continue };
        for partition in found.partitions {
            let Some(uuid) = partition.uuid else { continue };
            let node = node_of(&disk.path, partition.number);
            out.nodes.entry(uuid.clone()).or_insert(node);
            match partition.file_system.as_deref() {
                Some("ext4") => {
                    let mut nothing = |_| ();
                    let inside = Window::new(&mut device, partition.span, &mut nothing);
                    out.systems
                        .extend(system(inside, (&disk.path, partition.number, uuid)));
                }
                Some("crypto_LUKS") => {
                    let used = disk.partitions.iter().find(|one| one.number == partition.number);
                    out.locked.push(Volume {
                        disk: disk.path.clone(),
                        partition: partition.number,
                        uuid,
                        used: used.map(|one| one.used.clone()).unwrap_or_default(),
                        path: path.clone(),
                        sector: disk.logical_sector,
                        span: partition.span,
                    });
                }
                _ => {}
            }
        }
    }
    out.find_boot();
    out
}

impl Survey {
    /// Says of each system where its `/boot` is: on any disk.
    fn find_boot(&mut self) {
        for boot in self.systems.iter_mut().filter_map(|one| one.boot.as_mut()) {
            boot.node = self.nodes.get(&boot.uuid).cloned();
        }
    }

    /// Opens encrypted volumes for reading, those that this passphrase opens, and adds the systems in them. Gives how many were opened.
    ///
    /// # Errors
    /// When a volume cannot be read, or is of a kind that is not known. Another passphrase is none.
    pub fn unlock(&mut self, passphrase: &[u8]) -> Result<usize, RescueError> {
        let mut opened = 0;
        for volume in std::mem::take(&mut self.locked) {
            match volume.open(passphrase)? {
                Some(found) => {
                    opened += 1;
                    self.systems.extend(found);
                }
                None => self.locked.push(volume),
            }
        }
        self.find_boot();
        Ok(opened)
    }

    /// The one system that `selector` names: a UUID (of its root or of the volume around it) or a host name; the only one there is if nothing is said.
    ///
    /// # Errors
    /// When none or several fit, or it may be in a volume that is locked.
    pub fn select(&self, selector: Option<&str>) -> Result<&Installed, RescueError> {
        let same = |uuid: &str, word: &str| uuid.eq_ignore_ascii_case(word);
        let fits = |one: &&Installed| {
            selector.is_none_or(|word| {
                same(&one.uuid, word)
                    || one.hostname.as_deref() == Some(word)
                    || one
                        .volume
                        .as_ref()
                        .is_some_and(|volume| same(volume.uuid(), word))
            })
        };
        let found: Vec<&Installed> = self.systems.iter().filter(fits).collect();
        // What is locked could be meant, too: by its UUID, by a host name that nobody can read, or as the only one.
        let could = |volume: &&Volume| match selector {
            Some(word) => same(&volume.uuid, word) || found.is_empty(),
            None => true,
        };
        let locked: Vec<&str> = self
            .locked
            .iter()
            .filter(could)
            .map(|volume| volume.uuid.as_str())
            .collect();
        match (&found[..], &locked[..]) {
            ([one], []) => Ok(one),
            ([], [_, ..]) => Err(RescueError::Locked(locked.join(", "))),
            _ => Err(RescueError::Count {
                selector: selector.unwrap_or("any").to_owned(),
                count: found.len() + locked.len(),
            }),
        }
    }
}

/// Device node of a partition.
fn node_of(disk: &str, partition: u32) -> String {
    let digit = disk.ends_with(|c: char| c.is_ascii_digit());
    format!("{disk}{}{partition}", if digit { "p" } else { "" })
}

/// Mounts an EFI system partition on `/boot/efi` below a mounted root; none where it holds no FAT volume that can be mounted.
#[must_use]
pub fn mount_esp(disk: &str, partition: u32, root: &Path) -> Option<PathBuf> {
    let target = root.join("boot/efi");
    std::fs::create_dir_all(&target).ok()?;
    let flags = MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
    mount(node_of(disk, partition).as_str(), &target, "vfat", flags, None).ok()?;
    Some(target)
}

/// The mount points of mountinfo(5) at and below a directory with what is mounted there, as they were mounted.
fn below(mountinfo: &str, directory: &Path) -> Vec<(PathBuf, String)> {
    let line = |line: &str| {
        let (first, second) = line.split_once(" - ")?;
        let place = crate::usage::unescaped(first.split(' ').nth(4)?);
        let source = crate::usage::unescaped(second.split(' ').nth(1)?);
        Some((PathBuf::from(place), source))
    };
    mountinfo
        .lines()
        .filter_map(line)
        .filter(|(place, _)| place.starts_with(directory))
        .collect()
}

/// Unmounts what [`Installed::mount`] mounted on a directory with everything below it, and takes away the device of an encrypted root.
///
/// # Errors
/// When nothing is mounted there, or something is in use.
pub fn unmount_system(directory: &Path) -> Result<(), RescueError> {
    let failed = |doing: &'static str, path: &Path, source: io::Error| RescueError::Io {
        doing,
        path: path.to_owned(),
        source,
    };
    let real = std::fs::canonicalize(directory).map_err(|error| failed("unmounting", directory, error))?;
    let table = Path::new("/proc/self/mountinfo");
    let text = std::fs::read_to_string(table).map_err(|error| failed("reading", table, error))?;
    let mounts = below(&text, &real);
    let Some((_, root)) = mounts.iter().find(|(place, _)| *place == real) else {
        let none = io::Error::new(io::ErrorKind::InvalidInput, "nothing is mounted there");
        return Err(failed("unmounting", directory, none));
    };
    for (place, _) in mounts.iter().rev() {
        unmount(place, UnmountFlags::empty()).map_err(|error| failed("unmounting", place, error.into()))?;
    }
    volume::settle(root)
}

impl Installed {
    /// Device node of the partition of the root.
    #[must_use]
    pub fn node(&self) -> String {
        node_of(&self.disk, self.partition)
    }

    /// Device node of the root itself, which an encrypted one gets now.
    fn open(&self) -> Result<String, RescueError> {
        match &self.volume {
            Some(volume) => volume.map(&self.node()),
            None => Ok(self.node()),
        }
    }

    /// Takes the device of an encrypted root away, now or when it is unmounted.
    fn close(&self) -> Result<(), RescueError> {
        self.volume.as_ref().map_or(Ok(()), Unlocked::unmap)
    }

    /// Mounts the root on `directory`, its `/boot` if that is apart, and what a shell in it needs of the running system.
    ///
    /// # Errors
    /// When something cannot be mounted; what was mounted is taken away again.
    pub fn mount(&self, directory: &Path) -> Result<(), RescueError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: rustix::io::Errno| RescueError::Io {
                doing: "mounting",
                path,
                source: error.into(),
            }
        };
        let boot = match &self.boot {
            None => None,
            Some(Boot { node: Some(node), .. }) => Some(node.as_str()),
            Some(Boot { uuid, node: None }) => return Err(RescueError::BootMissing(uuid.clone())),
        };
        let node = self.open()?;
        let mounted = mount(node.as_str(), directory, "ext4", MountFlags::NODEV, None);
        // It is in use now, and goes when it no longer is, whoever unmounts it.
        let closed = self.close();
        mounted.map_err(failed(Path::new(&node)))?;
        let mounts = || -> Result<(), RescueError> {
            closed?;
            if let Some(boot) = boot {
                let target = directory.join("boot");
                mount(boot, &target, "ext4", MountFlags::NODEV, None).map_err(failed(&target))?;
            }
            for name in KERNEL_MOUNTS {
                let target = directory.join(name);
                mount_bind(Path::new("/").join(name), &target).map_err(failed(&target))?;
            }
            Ok(())
        };
        mounts().inspect_err(|_| {
            let _ = self.unmount(directory);
        })
    }

    /// Takes away what [`Self::mount`] mounted.
    ///
    /// # Errors
    /// When something is in use.
    pub fn unmount(&self, directory: &Path) -> Result<(), RescueError> {
        unmount_system(directory)
    }

    /// Runs a program, or a shell, in the system; everything is unmounted afterwards. Its exit code.
    ///
    /// # Errors
    /// When the system cannot be mounted or the program not started.
    pub fn chroot(&self, directory: &Path, command: &[String]) -> Result<i32, RescueError> {
        self.mount(directory)?;
        let shell = ["/bin/sh".to_owned(), "-l".to_owned()];
        let command = if command.is_empty() { &shell[..] } else { command };
        let ran = Command::new("chroot").arg(directory).args(command).status();
        let unmounted = self.unmount(directory);
        let status = ran.map_err(|source| RescueError::Io {
            doing: "running chroot in",
            path: directory.to_owned(),
            source,
        })?;
        unmounted?;
        Ok(status.code().unwrap_or(1))
    }

    /// Checks and repairs the file systems of the root and of `/boot` with the medium's own e2fsck.
    ///
    /// # Errors
    /// When e2fsck is missing, or leaves faults.
    pub fn check(&self) -> Result<(), RescueError> {
        let boot = self.boot.as_ref().and_then(|boot| boot.node.as_deref());
        let root = self.open()?;
        let checked = boot.into_iter().chain([root.as_str()]).try_for_each(check_node);
        checked.and(volume::settle(&root))
    }
}

/// Checks and repairs an ext4 file system.
fn check_node(node: &str) -> Result<(), RescueError> {
    let status = Command::new("e2fsck").args(["-f", "-p", node]).status();
    let status = status.map_err(|source| RescueError::Io {
        doing: "running e2fsck on",
        path: PathBuf::from(node),
        source,
    })?;
    // 1 and 2: faults were repaired.
    match status.code() {
        Some(0..=2) => Ok(()),
        code => Err(RescueError::Faults {
            node: node.to_owned(),
            code: code.unwrap_or(-1),
        }),
    }
}

#[cfg(test)]
mod tests;
