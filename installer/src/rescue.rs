//! Installed systems: found on disks by reading alone, mounted, checked.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::Command;

use lycia_media::ext4::{Limits, Reader};
use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, unmount};

use crate::device::{Disk, Span};
use crate::found::look;
use crate::probe::{self, Machine};

/// Largest file of a system that is read to describe it, in bytes.
const TEXT_MAX: u64 = 64 << 10;
/// What a shell in an installed system needs of the running one.
const KERNEL_MOUNTS: [&str; 4] = ["dev", "proc", "sys", "run"];

/// An installed system.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
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

/// A part of a file.
struct Part {
    file: File,
    span: Span,
    at: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.span.size.saturating_sub(self.at);
        let count = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let count =
            std::os::unix::fs::FileExt::read_at(&self.file, &mut buffer[..count], self.span.start + self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Part {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.span.size.checked_add_signed(by),
        };
        self.at = target.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

/// A small text file of an ext4 volume.
fn text(reader: &mut Reader<Part>, path: &[u8]) -> Option<String> {
    let file = reader.lookup(path).ok()?;
    if file.size > TEXT_MAX {
        return None;
    }
    let mut bytes = Vec::new();
    reader.copy(&file, &mut bytes).ok()?;
    String::from_utf8(bytes).ok()
}

/// The system in a part of a disk; none if there is none.
fn system(path: &Path, span: Span, disk: &probe::Disk, partition: u32, uuid: String) -> Option<Installed> {
    let file = File::open(path).ok()?;
    let mut reader = Reader::open(Part { file, span, at: 0 }, Limits::default()).ok()?;
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
        disk: disk.path.clone(),
        partition,
        uuid,
        name,
        hostname: hostname.filter(|name| !name.is_empty()),
        clean: reader.summary().clean,
    })
}

/// Looks for installed systems on every disk: ext4 volumes that have an os-release or an fstab. Only reads; nothing is mounted. Disks that cannot be read are passed over.
#[must_use]
pub fn systems(machine: &Machine, dev: &Path) -> Vec<Installed> {
    let mut out = Vec::new();
    for disk in machine.disks.iter().filter(|disk| disk.size > 0 && !disk.optical) {
        let path = dev.join(&disk.name);
        let Ok(mut device) = Disk::open_read(&path, disk.logical_sector) else {
            continue;
        };
        let Ok(found) = look(&mut device) else { continue };
        for partition in found.partitions {
            if partition.file_system.as_deref() == Some("ext4")
                && let Some(uuid) = partition.uuid
            {
                out.extend(system(&path, partition.span, disk, partition.number, uuid));
            }
        }
    }
    out
}

/// The one system that `selector` names: a UUID or a host name; the only one there is if nothing is said.
///
/// # Errors
/// When none or several fit.
pub fn select<'a>(systems: &'a [Installed], selector: Option<&str>) -> Result<&'a Installed, RescueError> {
    let fits = |one: &&Installed| {
        selector
            .is_none_or(|word| one.uuid.eq_ignore_ascii_case(word) || one.hostname.as_deref() == Some(word))
    };
    let found: Vec<&Installed> = systems.iter().filter(fits).collect();
    match found[..] {
        [one] => Ok(one),
        _ => Err(RescueError::Count {
            selector: selector.unwrap_or("any").to_owned(),
            count: found.len(),
        }),
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

/// Takes away what [`mount_esp`] mounted.
///
/// # Errors
/// When something on it is in use.
pub fn unmount_esp(target: &Path) -> Result<(), RescueError> {
    unmount(target, UnmountFlags::empty()).map_err(|error| RescueError::Io {
        doing: "unmounting",
        path: target.to_owned(),
        source: error.into(),
    })
}

impl Installed {
    /// Device node of the root.
    #[must_use]
    pub fn node(&self) -> String {
        node_of(&self.disk, self.partition)
    }

    /// Mounts the root on `directory`, with what a shell in it needs of the running system.
    ///
    /// # Errors
    /// When something cannot be mounted; what was mounted is taken away again.
    pub fn mount(&self, directory: &Path) -> Result<(), RescueError> {
        let node = self.node();
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |error: rustix::io::Errno| RescueError::Io {
                doing: "mounting",
                path,
                source: error.into(),
            }
        };
        mount(node.as_str(), directory, "ext4", MountFlags::NODEV, None).map_err(failed(Path::new(&node)))?;
        for name in KERNEL_MOUNTS {
            let target = directory.join(name);
            if let Err(error) = mount_bind(Path::new("/").join(name), &target) {
                let _ = self.unmount(directory);
                return Err(failed(&target)(error));
            }
        }
        Ok(())
    }

    /// Takes away what [`Self::mount`] mounted.
    ///
    /// # Errors
    /// When something is in use.
    pub fn unmount(&self, directory: &Path) -> Result<(), RescueError> {
        for name in KERNEL_MOUNTS.iter().rev() {
            // It need not be mounted.
            let _ = unmount(directory.join(name), UnmountFlags::empty());
        }
        unmount(directory, UnmountFlags::empty()).map_err(|error| RescueError::Io {
            doing: "unmounting",
            path: directory.to_owned(),
            source: error.into(),
        })
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

    /// Checks and repairs the root's file system with the medium's own e2fsck.
    ///
    /// # Errors
    /// When e2fsck is missing, or leaves faults.
    pub fn check(&self) -> Result<(), RescueError> {
        let node = self.node();
        let status = Command::new("e2fsck").args(["-f", "-p"]).arg(&node).status();
        let status = status.map_err(|source| RescueError::Io {
            doing: "running e2fsck on",
            path: PathBuf::from(&node),
            source,
        })?;
        // 1 and 2: faults were repaired.
        match status.code() {
            Some(0..=2) => Ok(()),
            code => Err(RescueError::Faults {
                node,
                code: code.unwrap_or(-1),
            }),
        }
    }
}
