//! LUKS2 volumes of other systems: read without the device mapper, and given a device where the kernel has to mount them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lycia_init::device_mapper::{DeviceMapper, DeviceMapperError};
use lycia_init::unlock;
use lycia_luks::{LuksError, Opened};

use super::{Installed, RescueError, Root, Seen, Unread, node_of, system};
use crate::contents::{HEAD, member};
use crate::device::{BlockDevice, Disk, Reading, Span};
use crate::encryption::{Inside, MAPPED as NAME};
use crate::file_system::Kind;
use crate::found::file_system;

const MAPPER: &str = "/dev/mapper";

/// An encrypted volume that nobody opened.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Volume {
    /// The disk.
    pub disk: String,
    /// Number of its partition.
    pub partition: u32,
    /// Its UUID.
    pub uuid: String,
    /// What uses it, if something does.
    pub used: Vec<String>,
    /// The disk's node or image.
    #[serde(skip)]
    pub(super) path: PathBuf,
    #[serde(skip)]
    pub(super) sector: u32,
    #[serde(skip)]
    pub(super) span: Span,
}

/// What is in an encrypted volume that was opened.
pub(super) enum Held {
    System(Box<Installed>),
    Unread(Box<Unread>),
    /// No system: what it is, as blkid calls it, where that is known.
    Other(Option<String>),
}

/// An encrypted volume that was opened and has no root of a system in it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Without {
    /// Which.
    #[serde(flatten)]
    pub volume: Volume,
    /// What is in it, as blkid calls it; none where that is not known.
    pub content: Option<String>,
}

impl Without {
    /// What is in it, in words.
    #[must_use]
    pub fn words(&self) -> String {
        match self.content.as_deref() {
            None => "no file system that is known (LVM?)".to_owned(),
            Some(kind @ ("LVM2_member" | "linux_raid_member" | "BitLocker")) => {
                format!("no file system that is known ({kind})")
            }
            Some(kind) => format!("{kind}, no system in it"),
        }
    }
}

/// What is not a file system, by its first bytes.
fn other(device: &mut dyn BlockDevice, size: u64) -> Held {
    let mut head = vec![0; HEAD.min(size) as usize];
    let read = device.read_at(0, &mut head);
    Held::Other(read.ok().and_then(|()| member(&head)).map(str::to_owned))
}

impl Volume {
    /// Device node of its partition.
    #[must_use]
    pub fn node(&self) -> String {
        node_of(&self.disk, self.partition)
    }

    /// What is in it; none where the passphrase is another one.
    pub(super) fn open(&self, passphrase: &[u8]) -> Result<Option<Held>, RescueError> {
        let failed = |source| RescueError::Volume {
            node: self.node(),
            source,
        };
        let mut device = Disk::open_read(&self.path, self.sector).map_err(|error| failed(error.into()))?;
        let start = self.span.start;
        let read = &mut |at, bytes: &mut [u8]| device.read_at(start + at, bytes);
        let opened = match lycia_luks::open(read, passphrase) {
            Ok(opened) => opened,
            Err(LuksError::Passphrase) => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let room = self.span.size.saturating_sub(opened.offset);
        let data = Span {
            start: start + opened.offset,
            size: opened.size.unwrap_or(room).min(room),
        };
        let cipher = opened.cipher().map_err(failed)?;
        let mut inside = Inside::new(&mut device, data, cipher);
        let whole = Span {
            start: 0,
            size: data.size,
        };
        let unlocked = Unlocked {
            opened,
            size: self.span.size,
        };
        let Some(found) = file_system(&mut inside, whole) else {
            return Ok(Some(other(&mut inside, data.size)));
        };
        let (Some(kind), Some(uuid)) = (Kind::named(found.kind), found.uuid) else {
            return Ok(Some(Held::Other(Some(found.kind.to_owned()))));
        };
        if kind != Kind::Ext4 {
            return Ok(Some(Held::Unread(Box::new(Unread {
                root: Root {
                    disk: self.disk.clone(),
                    partition: self.partition,
                    uuid,
                    kind,
                    volume: Some(unlocked),
                },
                label: found.label,
                used: self.used.clone(),
                seen: Seen::Not,
            }))));
        }
        let place = (self.disk.as_str(), self.partition, uuid);
        Ok(Some(match system(Reading::new(&mut inside), place) {
            Some(mut system) => {
                system.root.volume = Some(unlocked);
                Held::System(Box::new(system))
            }
            None => Held::Other(Some(kind.name().to_owned())),
        }))
    }
}

/// An encrypted volume with its key, which is wiped when it goes and never shown.
#[derive(Debug, Clone)]
pub struct Unlocked {
    opened: Opened,
    /// Bytes of its partition.
    size: u64,
}

impl serde::Serialize for Unlocked {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.uuid())
    }
}

impl Unlocked {
    /// Its UUID.
    #[must_use]
    pub fn uuid(&self) -> &str {
        &self.opened.uuid
    }

    fn name(&self) -> String {
        format!("{NAME}{}", self.opened.uuid)
    }

    /// Gives it a device, whose node is the result.
    pub(super) fn map(&self, partition: &str) -> Result<String, RescueError> {
        let failed = |why: String| RescueError::Device {
            node: partition.to_owned(),
            why,
        };
        for module in unlock::MODULES {
            // Those that are built in, or not there, are left out; what is really missing the kernel says.
            let _ = Command::new("modprobe")
                .args(["-q", module])
                .stderr(Stdio::null())
                .status();
        }
        let mapper = DeviceMapper::open().map_err(|error| failed(error.to_string()))?;
        unlock::map(&mapper, &self.opened, partition, self.size, &self.name()).map_err(failed)
    }

    /// Takes the device away; one that is mounted goes when it is unmounted.
    pub(super) fn unmap(&self) -> Result<(), RescueError> {
        let gone = DeviceMapper::open()?.remove_when_closed(&self.name());
        sweep();
        gone_already(gone)
    }
}

pub(crate) fn gone_already(gone: Result<(), DeviceMapperError>) -> Result<(), RescueError> {
    let none = rustix::io::Errno::NXIO.raw_os_error();
    match gone {
        Err(DeviceMapperError::Kernel { source, .. }) if source.raw_os_error() == Some(none) => Ok(()),
        other => Ok(other?),
    }
}

/// The name of the mapped device that `node` is, if it was made here. The kernel calls that of a Btrfs `/dev/dm-0`, that of others as it was mounted.
pub(crate) fn made_here(node: &str, sysfs: &Path) -> Option<String> {
    let name = match node.strip_prefix("/dev/") {
        Some(short) if short.starts_with("dm-") => {
            let path = sysfs.join("block").join(short).join("dm/name");
            std::fs::read_to_string(path).ok()?.trim().to_owned()
        }
        _ => node.strip_prefix(MAPPER)?.trim_start_matches('/').to_owned(),
    };
    name.starts_with(NAME).then_some(name)
}

/// Waits until a device that was made here and is no longer mounted is gone: the kernel takes it away a moment later, and until then its disk is in use.
pub(crate) fn settle(name: Option<&str>) -> Result<(), RescueError> {
    if let Some(name) = name {
        gone_already(DeviceMapper::open()?.remove(name))?;
        // It is gone, whatever sysfs still shows for a moment; the node may have been swept already.
        let _ = std::fs::remove_file(Path::new(MAPPER).join(name));
    }
    sweep();
    Ok(())
}

/// Removes the nodes of devices that went: nobody does that where no udev runs.
fn sweep() {
    for entry in std::fs::read_dir(MAPPER).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let ours = name.to_string_lossy().starts_with(NAME);
        if ours && !is_there(&entry.path()) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

/// Whether the kernel still has the device of a node.
fn is_there(node: &Path) -> bool {
    let Ok(about) = rustix::fs::stat(node) else {
        return false;
    };
    let (major, minor) = (rustix::fs::major(about.st_rdev), rustix::fs::minor(about.st_rdev));
    Path::new(&format!("/sys/dev/block/{major}:{minor}")).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_devices_that_were_made_here_are_known_by_either_name() {
        let sysfs = tempfile::tempdir().unwrap();
        for (number, name) in [(0, "lycia-live"), (1, "lycia-luks-1234")] {
            let folder = sysfs.path().join(format!("block/dm-{number}/dm"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("name"), format!("{name}\n")).unwrap();
        }
        let known = |node: &str| made_here(node, sysfs.path());
        for node in ["/dev/mapper/lycia-luks-1234", "/dev/dm-1"] {
            assert_eq!(known(node).as_deref(), Some("lycia-luks-1234"), "{node}");
        }
        for node in ["/dev/dm-0", "/dev/dm-2", "/dev/mapper/root", "/dev/sda1", "none"] {
            assert_eq!(known(node), None, "{node}");
        }
    }
}
