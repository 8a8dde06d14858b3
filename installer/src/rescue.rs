//! Installed systems: found on disks by reading alone, mounted, checked.
//!
//! An encrypted root is read without the kernel's help. To be mounted it gets a device of the device mapper, which goes by itself when it is unmounted.
//! What is in XFS, Btrfs and F2FS is seen when the kernel mounts them: reading alone finds that they are there.

mod check;
mod host;
mod inside;
mod target;
pub(crate) mod volume;

use std::collections::BTreeMap;
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use lycia_init::device_mapper::DeviceMapperError;
use lycia_init::superblock::untouched_options;
use lycia_luks::LuksError;

use lycia_media::ext4::{Limits, Reader};
use rustix::mount::{MountFlags, mount};

use crate::contents::InstalledSystem;
use crate::device::{BlockDevice, Disk, Span, Window};
use crate::file_system::Kind;
use crate::found::{Found, look};
use crate::probe::{self, Machine};

pub use host::{Host, Kernel, privately};
pub use target::{Mounted, Target, unmount_system};
pub use volume::{Unlocked, Volume, Without};

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
    /// Its file system; none where no disk has it.
    pub kind: Option<String>,
}

/// A file system that is, or can be, the root of a system.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Root {
    /// The disk.
    pub disk: String,
    /// Number of the partition.
    pub partition: u32,
    /// Its UUID.
    pub uuid: String,
    /// What it is.
    pub kind: Kind,
    /// The encrypted volume around it.
    pub volume: Option<Unlocked>,
}

/// An installed system.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Installed {
    /// Its root.
    #[serde(flatten)]
    pub root: Root,
    /// The subvolume of Btrfs that is its root.
    pub subvolume: Option<String>,
    /// What it calls itself: `PRETTY_NAME` of os-release.
    pub name: Option<String>,
    /// Its host name.
    pub hostname: Option<String>,
    /// Whether the file system was left clean; none where that is not known.
    pub clean: Option<bool>,
    /// `/boot`, where it has a file system of its own.
    pub boot: Option<Boot>,
}

/// What is known of the inside of a file system that only the kernel reads.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Seen {
    /// It was not mounted.
    Not,
    /// It was mounted, and there is no system in it.
    NoSystem,
    /// It could not be mounted, and why.
    Failed(String),
}

/// A file system that can be a root, and whose files cannot be read without mounting it.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Unread {
    /// Which.
    #[serde(flatten)]
    pub root: Root,
    /// Its label.
    pub label: Option<String>,
    /// What uses it, if something does.
    pub used: Vec<String>,
    /// What is known of its inside.
    pub seen: Seen,
}

/// Why a system was not found, mounted or checked.
#[derive(Debug, thiserror::Error)]
pub enum RescueError {
    /// None or several fit.
    #[error("{count} installed systems fit `{selector}`{}", if *count == 0 { "; `lycia-install systems` lists them" } else { ": give the UUID, or the host name where they share it" })]
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
    /// It may be in a file system that nobody mounted.
    #[error(
        "not read: {0}; the system may be in there. `lycia-install systems --look` mounts it read-only and looks, `--system UUID` takes it as it is"
    )]
    Unread(String),
    /// What was mounted is no system.
    #[error(
        "no installed system is in the {kind} on {node}: there is neither etc/fstab nor an os-release in its topmost directory{}. It is unmounted again",
        if *kind == "btrfs" { " or in a subvolume right below it" } else { "" }
    )]
    NoSystem {
        /// The partition.
        node: String,
        /// Its file system.
        kind: &'static str,
    },
    /// Several systems are in one file system.
    #[error(
        "several systems are in the Btrfs on {node}: {subvolumes}. Name the one that is meant by its host name (`lycia-install systems --look`), \
         or mount it by hand: `mount -o subvol=NAME {node} DIR`"
    )]
    Several {
        /// The partition.
        node: String,
        /// Their subvolumes.
        subvolumes: String,
    },
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
    #[error("{program} left faults on {node} (code {code}): {advice}")]
    Faults {
        /// The partition.
        node: String,
        /// What checked.
        program: &'static str,
        /// Its exit code.
        code: i32,
        /// What to do.
        advice: &'static str,
    },
    /// What checks a file system is not there.
    #[error(
        "this system has no {program}, which checks the {kind} on {node}: install the package {package}, or start a medium that has it"
    )]
    NoChecker {
        /// The partition.
        node: String,
        /// Its file system.
        kind: &'static str,
        /// What checks it.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// An XFS was not unmounted.
    #[error(
        "{0} was not unmounted, and its log has changes that are not in their places yet; nothing was checked. Mount it, which brings them there, \
         then check again: `lycia-install mount DIR`, `lycia-install unmount DIR`. Where it cannot be mounted, `xfs_repair -L` throws these changes \
         away, and files with them: that is never done here"
    )]
    Log(String),
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

/// What a system calls itself in an os-release.
fn pretty_name(release: &str) -> Option<String> {
    let line = release
        .lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
    Some(line.trim_matches('"').to_owned())
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
    let hostname = text(&mut reader, b"/etc/hostname").map(|text| text.trim().to_owned());
    let boot = fstab
        .as_deref()
        .and_then(|text| inside::boot_of(&inside::lines(text)));
    Some(Installed {
        root: Root {
            disk: disk.to_owned(),
            partition,
            uuid,
            kind: Kind::Ext4,
            volume: None,
        },
        subvolume: None,
        name: release.as_deref().and_then(pretty_name),
        hostname: hostname.filter(|name| !name.is_empty()),
        clean: Some(reader.summary().clean),
        boot: boot.map(Boot::of),
    })
}

/// What the system in an ext4 volume calls itself and its host, in words; none if there is none.
pub(crate) fn system_in(device: &mut dyn BlockDevice, span: Span) -> Option<String> {
    let mut nothing = |_| ();
    let found = system(Window::new(device, span, &mut nothing), ("", 0, String::new()))?;
    let known = InstalledSystem {
        name: found.name,
        hostname: found.hostname,
    };
    Some(known.words())
}

impl Boot {
    /// One that is not looked for yet.
    fn of(uuid: String) -> Boot {
        Boot {
            uuid,
            node: None,
            kind: None,
        }
    }

    /// Says where it is.
    fn find(&mut self, nodes: &Nodes) {
        let found = nodes
            .iter()
            .find(|(uuid, _)| uuid.eq_ignore_ascii_case(&self.uuid));
        let (node, kind) = found.map(|(_, place)| place.clone()).unzip();
        (self.node, self.kind) = (node, kind);
    }
}

/// Device nodes and kinds of file systems by their UUIDs.
type Nodes = BTreeMap<String, (String, String)>;

/// What was found on the disks of a machine.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Survey {
    /// Systems whose files can be read.
    pub systems: Vec<Installed>,
    /// File systems that can be roots, and that only the kernel reads.
    pub unread: Vec<Unread>,
    /// Encrypted volumes that nobody opened; there may be systems in them.
    pub locked: Vec<Volume>,
    /// Encrypted volumes that were opened and have no root of a system in them.
    pub opened: Vec<Without>,
    #[serde(skip)]
    nodes: Nodes,
}

/// Looks for installed systems on every disk: ext4 volumes that have an os-release or an fstab, and what can hold one: XFS, Btrfs and F2FS, LUKS2 volumes.
/// Only reads; nothing is mounted. Disks that cannot be read are passed over.
#[must_use]
pub fn survey(machine: &Machine, dev: &Path) -> Survey {
    let mut out = Survey::default();
    for disk in machine.disks.iter().filter(|disk| disk.size > 0 && !disk.optical) {
        let path = dev.join(&disk.name);
        let Ok(mut device) = Disk::open_read(&path, disk.logical_sector) else {
            continue;
        };
        let Ok(found) = look(&mut device) else { continue };
        out.add(disk, &path, &mut device, found);
    }
    out.find_boot();
    out
}

impl Survey {
    /// Adds what is on a disk.
    pub(crate) fn add(
        &mut self,
        disk: &probe::Disk,
        path: &Path,
        device: &mut dyn BlockDevice,
        found: Found,
    ) {
        for partition in found.partitions {
            let Some(uuid) = partition.uuid else { continue };
            let node = node_of(&disk.path, partition.number);
            let Some(kind) = partition.file_system else {
                continue;
            };
            self.nodes.entry(uuid.clone()).or_insert((node, kind.clone()));
            let used = || {
                let used = disk.partitions.iter().find(|one| one.number == partition.number);
                used.map(|one| one.used.clone()).unwrap_or_default()
            };
            match (kind.as_str(), Kind::named(&kind)) {
                (_, Some(Kind::Ext4)) => {
                    let mut nothing = |_| ();
                    let inside = Window::new(device, partition.span, &mut nothing);
                    self.systems
                        .extend(system(inside, (&disk.path, partition.number, uuid)));
                }
                (_, Some(kind)) => self.unread.push(Unread {
                    root: Root {
                        disk: disk.path.clone(),
                        partition: partition.number,
                        uuid,
                        kind,
                        volume: None,
                    },
                    label: partition.label,
                    used: used(),
                    seen: Seen::Not,
                }),
                ("crypto_LUKS", None) => self.locked.push(Volume {
                    disk: disk.path.clone(),
                    partition: partition.number,
                    uuid,
                    used: used(),
                    path: path.to_owned(),
                    sector: disk.logical_sector,
                    span: partition.span,
                }),
                _ => {}
            }
        }
    }

    /// Says of each system where its `/boot` is: on any disk.
    fn find_boot(&mut self) {
        for boot in self.systems.iter_mut().filter_map(|one| one.boot.as_mut()) {
            boot.find(&self.nodes);
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
                    match found {
                        volume::Held::System(system) => self.systems.push(*system),
                        volume::Held::Unread(unread) => self.unread.push(*unread),
                        volume::Held::Other(content) => self.opened.push(Without { volume, content }),
                    }
                }
                None => self.locked.push(volume),
            }
        }
        self.find_boot();
        Ok(opened)
    }

    /// Mounts what only the kernel reads, one after the other, read-only on `folder`, and finds the systems in it. Nothing is written, and no log is
    /// replayed. For [`privately`]: nobody else should see these mounts.
    pub fn look(&mut self, host: &mut dyn Host, folder: &Path) {
        for mut one in std::mem::take(&mut self.unread) {
            match one.root.peek(host, folder) {
                Ok(found) if found.is_empty() => {
                    one.seen = Seen::NoSystem;
                    self.unread.push(one);
                }
                Ok(found) => self.systems.extend(found.into_iter().map(|inside| Installed {
                    root: one.root.clone(),
                    boot: inside::boot_of(&inside.fstab).map(Boot::of),
                    subvolume: inside.subvolume,
                    name: inside.name,
                    hostname: inside.hostname,
                    clean: None,
                })),
                Err(error) => {
                    one.seen = Seen::Failed(error.to_string());
                    self.unread.push(one);
                }
            }
        }
        self.find_boot();
    }

    /// The one system that `selector` names: a UUID (of its root or of the volume around it) or a host name; the only one there is if nothing is said.
    /// A file system that was not read is named by a UUID alone.
    ///
    /// # Errors
    /// When none or several fit, or it may be in a volume that is locked, or in a file system that was not read.
    pub fn select(&self, selector: Option<&str>) -> Result<Target, RescueError> {
        let same = |uuid: &str, word: &str| uuid.eq_ignore_ascii_case(word);
        let is = |root: &Root, word: &str| {
            let around = root.volume.as_ref();
            same(&root.uuid, word) || around.is_some_and(|volume| same(volume.uuid(), word))
        };
        let fits = |one: &&Installed| {
            selector.is_none_or(|word| is(&one.root, word) || one.hostname.as_deref() == Some(word))
        };
        let systems = self.systems.iter().filter(fits).map(|one| Target {
            root: one.root.clone(),
            hostname: one.hostname.clone(),
            subvolume: one.subvolume.clone(),
            boot: one.boot.clone(),
            nodes: self.nodes.clone(),
        });
        let named = self
            .unread
            .iter()
            .filter(|one| selector.is_some_and(|word| is(&one.root, word)));
        let found: Vec<Target> = systems
            .chain(named.map(|one| Target {
                root: one.root.clone(),
                hostname: None,
                subvolume: None,
                boot: None,
                nodes: self.nodes.clone(),
            }))
            .collect();
        // What nobody has looked into could be meant, too: by a host name that nobody can read, or as the only one.
        let nameless = selector.is_none() || found.is_empty();
        let is_locked = |one: &Volume| selector.is_some_and(|word| same(&one.uuid, word));
        let is_volume = self.locked.iter().any(is_locked);
        let unread = |looked: bool| -> Vec<&str> {
            let could = self.unread.iter().filter(|one| match one.seen {
                Seen::Not => !looked,
                Seen::NoSystem => false,
                Seen::Failed(_) => looked,
            });
            could
                .filter(|_| nameless && !is_volume)
                .map(|one| one.root.uuid.as_str())
                .collect()
        };
        let locked: Vec<&str> = self
            .locked
            .iter()
            .filter(|volume| nameless || is_locked(volume))
            .map(|volume| volume.uuid.as_str())
            .collect();
        // Looking costs nothing, a passphrase does, and what could not be mounted may be anything.
        let (fresh, failed) = (unread(false), unread(true));
        if !fresh.is_empty() {
            return Err(RescueError::Unread(fresh.join(", ")));
        }
        match (&found[..], &locked[..]) {
            ([one], []) if failed.is_empty() => Ok(one.clone()),
            ([], [_, ..]) => Err(RescueError::Locked(locked.join(", "))),
            ([] | [_], []) if !failed.is_empty() => Err(RescueError::Unread(failed.join(", "))),
            _ => Err(RescueError::Count {
                selector: selector.unwrap_or("any").to_owned(),
                count: found.len() + locked.len(),
            }),
        }
    }
}

/// Device node of a partition.
pub(crate) fn node_of(disk: &str, partition: u32) -> String {
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

impl Root {
    /// Device node of its partition.
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

    /// What mount(2) is told to show all of it: of Btrfs the top.
    fn top(&self) -> &'static str {
        match self.kind {
            Kind::Btrfs => "subvolid=5",
            Kind::Ext4 | Kind::Xfs | Kind::F2fs => "",
        }
    }

    /// The systems in it, without a change to it.
    fn peek(&self, host: &mut dyn Host, folder: &Path) -> Result<Vec<inside::Inside>, RescueError> {
        let node = self.open()?;
        let held = volume::made_here(&node, Path::new("/sys"));
        let options = [self.top(), untouched_options(self.kind.name())];
        let options: Vec<&str> = options.into_iter().filter(|word| !word.is_empty()).collect();
        let found = self.systems_of(host, &node, folder, &options.join(","));
        let closed = self.close().and_then(|()| volume::settle(held.as_deref()));
        let found = found?;
        closed?;
        Ok(found)
    }

    /// Mounts it read-only for as long as it takes to see which systems are in it.
    fn systems_of(
        &self,
        host: &mut dyn Host,
        node: &str,
        folder: &Path,
        data: &str,
    ) -> Result<Vec<inside::Inside>, RescueError> {
        let failed = |doing: &'static str, path: &Path| {
            let path = path.to_owned();
            move |source| RescueError::Io { doing, path, source }
        };
        let flags = MountFlags::RDONLY | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::NOEXEC;
        host.mount(node, folder, self.kind.name(), flags, data)
            .map_err(failed("mounting", Path::new(node)))?;
        let found = inside::systems(host, folder, self);
        let unmounted = host.unmount(folder).map_err(failed("unmounting", folder));
        let found = found?;
        unmounted?;
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
