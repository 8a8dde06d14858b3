//! Finds the medium or the root, and mounts it.

use crate::Failure;
use crate::device::{self, BlockDevice, PartitionIdentity, Wish, partition_identity};
use crate::kmod::Loader;
use crate::log::Log;
use crate::loopdev;
use crate::plan::{ISO_HOME, MEDIUM, NEW_ROOT};
use crate::request::{Encrypted, Installed, Live, Step};
use crate::superblock::{Superblock, identify, untouched_options};
use rustix::mount::{MountFlags, UnmountFlags};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

/// When a medium that only has the right label is taken although one with the right UUID was wanted.
pub const SECOND_CHOICE_AFTER: Duration = Duration::from_secs(5);
/// Time between two looks at the devices.
const PAUSE: Duration = Duration::from_millis(50);

/// The medium or root that was mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Device node.
    pub node: String,
    /// File system type.
    pub kind: String,
    /// Size of the image in bytes; 0 for an installed root.
    pub image_size: u64,
}

/// Mount options as mount(8) takes them, split into flags for mount(2) and the rest for the file system.
#[must_use]
pub fn split_options(options: &str) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut rest = Vec::new();
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option {
            "defaults" | "rw" | "exec" | "suid" | "dev" | "async" | "auto" => {}
            "ro" => flags |= MountFlags::RDONLY,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "lazytime" => flags |= MountFlags::LAZYTIME,
            "nodev" => flags |= MountFlags::NODEV,
            "nosuid" => flags |= MountFlags::NOSUID,
            "noexec" => flags |= MountFlags::NOEXEC,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            other => rest.push(other),
        }
    }
    (flags, rest.join(","))
}

/// mount(2), making the mount point first.
///
/// # Errors
/// What the kernel says.
pub fn mount(source: &str, target: &str, kind: &str, flags: MountFlags, options: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let options = CString::new(options)?;
    Ok(rustix::mount::mount(
        source,
        target,
        kind,
        flags,
        options.as_c_str(),
    )?)
}

/// What is known of a device, valid as long as its size and medium count stay.
#[derive(Debug, Clone)]
struct Looked {
    sectors: u64,
    sequence: u64,
    blocks: Vec<Superblock>,
    identity: PartitionIdentity,
    /// Why it was not taken, if it was tried.
    refused: Option<String>,
}

/// Looks for a device.
#[derive(Debug)]
pub struct Finder<'a, 'l> {
    loader: &'a mut Loader<'l>,
    log: &'a Log,
    looked: BTreeMap<String, Looked>,
}

fn look(device: &BlockDevice) -> io::Result<Looked> {
    let file = File::open(device.node())?;
    let identity = match (device.partition, &device.disk) {
        (Some(number), Some(disk)) => File::open(format!("/dev/{}", disk.replace('!', "/")))
            .map(|disk| partition_identity(&disk, device.sector_size, number))
            .unwrap_or_default(),
        _ => PartitionIdentity::default(),
    };
    Ok(Looked {
        sectors: device.sectors,
        sequence: device.sequence,
        blocks: identify(&file),
        identity,
        refused: None,
    })
}

impl<'a, 'l> Finder<'a, 'l> {
    /// Starts looking.
    #[must_use]
    pub fn new(loader: &'a mut Loader<'l>, log: &'a Log) -> Self {
        Self {
            loader,
            log,
            looked: BTreeMap::new(),
        }
    }

    /// Looks until `take` takes a device that meets the wish, or time is up. `take` gets the device and its
    /// superblocks, and says why it does not take one.
    fn until<T>(
        &mut self,
        wish: &Wish,
        second: Option<&Wish>,
        wait: Duration,
        mut take: impl FnMut(&mut Loader<'l>, &BlockDevice, &[Superblock]) -> Result<T, String>,
    ) -> Option<T> {
        let start = Instant::now();
        let mut announced = false;
        loop {
            let devices = device::list(Path::new("/sys")).unwrap_or_default();
            self.looked
                .retain(|name, _| devices.iter().any(|device| device.name == *name));
            for device in &devices {
                let fresh = self
                    .looked
                    .get(&device.name)
                    .is_some_and(|old| old.sectors == device.sectors && old.sequence == device.sequence);
                if !fresh {
                    // A drive without a medium fails to open, and is asked again.
                    let Ok(looked) = look(device) else { continue };
                    self.log
                        .debug(format_args!("{}: {}", device.name, described(&looked)));
                    self.looked.insert(device.name.clone(), looked);
                }
            }
            // The first wish is tried on every device before the second.
            let late = start.elapsed() >= SECOND_CHOICE_AFTER || start.elapsed() >= wait;
            let wishes = [Some(wish), second.filter(|_| late)];
            for wish in wishes.into_iter().flatten() {
                for device in &devices {
                    let Some(looked) = self.looked.get_mut(&device.name) else {
                        continue;
                    };
                    if looked.refused.is_some() || !wish.is_met_by(device, &looked.blocks, &looked.identity) {
                        continue;
                    }
                    match take(self.loader, device, &looked.blocks) {
                        Ok(taken) => return Some(taken),
                        Err(why) => {
                            self.log
                                .info(format_args!("{} is not taken: {why}", device.node()));
                            looked.refused = Some(why);
                        }
                    }
                }
            }
            if start.elapsed() >= wait {
                return None;
            }
            if !announced && start.elapsed() >= Duration::from_secs(3) {
                announced = true;
                self.log
                    .warn(format_args!("waiting for {wish}, up to {} s", wait.as_secs()));
            }
            std::thread::sleep(PAUSE);
            self.loader.coldplug(false);
        }
    }

    /// What was seen, for a failure message.
    fn seen(&self) -> String {
        if self.looked.is_empty() {
            return "no disk or drive with a medium was found; a driver may be missing from the initramfs"
                .into();
        }
        let one = |(name, looked): (&String, &Looked)| {
            let refused = looked
                .refused
                .as_ref()
                .map(|why| format!(" [not taken: {why}]"))
                .unwrap_or_default();
            format!(
                "\n    /dev/{}: {}{refused}",
                name.replace('!', "/"),
                described(looked)
            )
        };
        format!(
            "these were seen:{}",
            self.looked.iter().map(one).collect::<String>()
        )
    }

    /// Finds and mounts the medium of a live system at [`MEDIUM`].
    ///
    /// # Errors
    /// Lists what was seen.
    pub fn medium(&mut self, live: &Live) -> Result<Found, Failure> {
        let log = self.log;
        let found = self.until(
            &live.wish,
            live.second.as_ref(),
            live.wait,
            |loader, device, blocks| match &live.iso_file {
                Some(path) => iso_on_device(loader, device, blocks, path, &live.image),
                None => medium_on_device(loader, device, blocks, &live.image),
            },
        );
        if let Some(found) = found {
            log.info(format_args!(
                "medium: {} ({}), image of {} MiB",
                found.node,
                found.kind,
                found.image_size >> 20
            ));
            return Ok(found);
        }
        let what = match &live.iso_file {
            Some(path) => format!("looking for {path} on {}", live.wish),
            None => format!("looking for the live medium ({})", live.wish),
        };
        Err(Failure::new(
            Step::Find,
            what,
            format!("not there after {} s; {}", live.wait.as_secs(), self.seen()),
            "plug the medium in again and `retry`, or boot with live-media=/dev/NAME, ignore_uuid or a longer \
             live-media-timeout=",
        ))
    }

    /// Finds the LUKS2 volume that holds the root and opens it with a passphrase that somebody types.
    ///
    /// # Errors
    /// Lists what was seen, or says why it was not opened.
    pub fn unlock(&mut self, volume: &Encrypted, wait: Duration) -> Result<(), Failure> {
        let wish = Wish::Uuid(volume.uuid.clone());
        let node = self.until(&wish, None, wait, |_, device, blocks| {
            let encrypted = blocks.iter().any(|block| block.kind == "crypto_LUKS");
            encrypted
                .then(|| device.node())
                .ok_or_else(|| "it is no LUKS2 volume".to_owned())
        });
        let Some(node) = node else {
            return Err(Failure::new(
                Step::Find,
                format!("looking for the LUKS2 volume {}", volume.uuid),
                format!("not there after {} s; {}", wait.as_secs(), self.seen()),
                "correct rd.luks.name= in the boot menu",
            ));
        };
        crate::unlock::unlock(&node, volume, self.loader, self.log)
    }

    /// Finds and mounts an installed root at [`NEW_ROOT`].
    ///
    /// # Errors
    /// Lists what was seen.
    pub fn root(&mut self, root: &Installed) -> Result<Found, Failure> {
        let log = self.log;
        let (extra, options) = split_options(&root.options);
        let flags = if root.read_only {
            extra | MountFlags::RDONLY
        } else {
            extra
        };
        let found = self.until(&root.wish, None, root.wait, |loader, device, blocks| {
            let kinds: Vec<&str> = if root.types.is_empty() {
                blocks.iter().map(|block| block.kind).collect()
            } else {
                root.types.iter().map(String::as_str).collect()
            };
            let node = device.node();
            let mut problem = "no known file system on it; rootfstype= can name one".to_owned();
            for kind in kinds {
                loader.file_system(kind);
                match mount(&node, NEW_ROOT, kind, flags, &options) {
                    Ok(()) => {
                        return Ok(Found {
                            node,
                            kind: kind.to_owned(),
                            image_size: 0,
                        });
                    }
                    Err(error) => problem = format!("mounting as {kind}: {error}"),
                }
            }
            Err(problem)
        });
        if let Some(found) = found {
            log.info(format_args!("root: {} ({})", found.node, found.kind));
            return Ok(found);
        }
        Err(Failure::new(
            Step::Find,
            format!("looking for the root {}", root.wish),
            format!("not mounted after {} s; {}", root.wait.as_secs(), self.seen()),
            "correct root= in the boot menu, or boot with rootwait or rootdelay=",
        ))
    }
}

/// The image that a further archive of the initramfs brought, as machines that boot from the network get it: its directory appears
/// where that of a medium would be.
///
/// # Errors
/// When it is there and cannot be used.
pub fn carried(live: &Live) -> Result<Option<Found>, Failure> {
    let image = format!("/{}", live.image);
    let Ok(data) = fs::metadata(&image) else {
        return Ok(None);
    };
    let (directory, _) = image.rsplit_once('/').unwrap_or_default();
    if !data.is_file() || data.len() == 0 || directory.is_empty() {
        return Ok(None);
    }
    let target = format!("{MEDIUM}{directory}");
    let failed = |error: io::Error| {
        Failure::new(
            Step::Find,
            format!("taking {image} of the initramfs"),
            error,
            "this is a fault of the kernel or of lycia-init; please report it",
        )
    };
    fs::create_dir_all(&target).map_err(failed)?;
    rustix::mount::mount_bind(directory, &target).map_err(|error| failed(error.into()))?;
    Ok(Some(Found {
        node: "initramfs".into(),
        kind: "cpio".into(),
        image_size: data.len(),
    }))
}

fn described(looked: &Looked) -> String {
    let mut parts: Vec<String> = looked
        .blocks
        .iter()
        .map(|block| {
            let label = block
                .label
                .as_ref()
                .map(|label| format!(" LABEL={label}"))
                .unwrap_or_default();
            let uuid = block
                .uuid
                .as_ref()
                .map(|uuid| format!(" UUID={uuid}"))
                .unwrap_or_default();
            format!("{}{label}{uuid}", block.kind)
        })
        .collect();
    if parts.is_empty() {
        parts.push("no known file system".into());
    }
    if let Some(uuid) = &looked.identity.uuid {
        parts.push(format!("PARTUUID={uuid}"));
    }
    parts.join(", ")
}

fn release(target: &str) {
    // What stays mounted is in the way of nothing but a retry, which detaches it.
    let _ = rustix::mount::unmount(target, UnmountFlags::DETACH);
}

const MEDIUM_FLAGS: MountFlags = MountFlags::RDONLY
    .union(MountFlags::NODEV)
    .union(MountFlags::NOSUID)
    .union(MountFlags::NOATIME);

/// Mounts one of the file systems of `node` read-only, without replaying its journal.
fn mount_untouched(
    loader: &mut Loader<'_>,
    node: &str,
    kinds: impl Iterator<Item = &'static str>,
    target: &str,
) -> Result<&'static str, String> {
    let mut problem = "no known file system on it".to_owned();
    for kind in kinds {
        loader.file_system(kind);
        match mount(node, target, kind, MEDIUM_FLAGS, untouched_options(kind)) {
            Ok(()) => return Ok(kind),
            Err(error) => problem = format!("mounting as {kind}: {error}"),
        }
    }
    Err(problem)
}

fn image_size(image: &str) -> Result<u64, String> {
    match fs::metadata(format!("{MEDIUM}/{image}")) {
        Ok(data) if data.is_file() && data.len() > 0 => Ok(data.len()),
        Ok(_) => Err(format!("{image} on it is empty or not a file")),
        Err(error) => Err(format!("{image}: {error}")),
    }
}

fn medium_on_device(
    loader: &mut Loader<'_>,
    device: &BlockDevice,
    blocks: &[Superblock],
    image: &str,
) -> Result<Found, String> {
    let node = device.node();
    let kind = mount_untouched(loader, &node, blocks.iter().map(|block| block.kind), MEDIUM)?;
    let size = image_size(image).inspect_err(|_| release(MEDIUM))?;
    Ok(Found {
        node,
        kind: kind.to_owned(),
        image_size: size,
    })
}

fn iso_on_device(
    loader: &mut Loader<'_>,
    device: &BlockDevice,
    blocks: &[Superblock],
    path: &str,
    image: &str,
) -> Result<Found, String> {
    let node = device.node();
    mount_untouched(loader, &node, blocks.iter().map(|block| block.kind), ISO_HOME)?;
    loader.file_system("loop");
    let inner = (|| {
        let file = format!("{ISO_HOME}{path}");
        let attached = loopdev::attach(Path::new(&file)).map_err(|error| error.to_string())?;
        let file = File::open(&attached.node).map_err(|error| format!("{path}: {error}"))?;
        let blocks = identify(&file);
        if !blocks.iter().any(|block| block.kind == "iso9660") {
            return Err(format!("{path} is not an ISO 9660 image"));
        }
        mount_untouched(loader, &attached.node, std::iter::once("iso9660"), MEDIUM)?;
        image_size(image).inspect_err(|_| release(MEDIUM))
    })();
    let size = inner.inspect_err(|_| release(ISO_HOME))?;
    Ok(Found {
        node: format!("{path} on {node}"),
        kind: "iso9660".into(),
        image_size: size,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split() {
        let (flags, rest) = split_options("defaults,noatime,ro,subvol=@,compress=zstd");
        assert_eq!(flags, MountFlags::NOATIME | MountFlags::RDONLY);
        assert_eq!(rest, "subvol=@,compress=zstd");
        assert_eq!(split_options(""), (MountFlags::empty(), String::new()));
    }
}
