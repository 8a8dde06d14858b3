//! The machine: disks with their identity and use, firmware, memory, network interfaces.

use crate::contents::{Contents, PartitionType, TableKind};
use crate::usage::{MEDIUM_MOUNTS, Usage, Uses};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Version of the JSON that `probe --json` writes. It changes when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// Deepest stack of devices (LUKS on LVM on RAID ...) that is followed.
const HOLDER_DEPTH: usize = 16;

/// Where the kernel's views are mounted.
#[derive(Debug, Clone)]
pub struct Views {
    /// `/sys`
    pub sysfs: PathBuf,
    /// `/proc`
    pub proc: PathBuf,
    /// `/dev`, for the names that udev gives.
    pub dev: PathBuf,
}

/// What could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {}: {source}; is it mounted?", path.display())]
pub struct ProbeError {
    /// The file or directory.
    pub path: PathBuf,
    /// Why.
    pub source: io::Error,
}

/// How a disk is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// NVM Express
    Nvme,
    /// USB
    Usb,
    /// ATA or SATA
    Ata,
    /// SD card or eMMC
    Mmc,
    /// virtio
    Virtio,
    /// SCSI or SAS
    Scsi,
    /// Xen, Hyper-V or another paravirtual bus
    Paravirtual,
    /// Not known
    Other,
}

/// A partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Kernel name.
    pub name: String,
    /// Number.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Name in the partition table.
    pub label: Option<String>,
    /// Its type in the table, once the disk was read.
    pub kind: Option<PartitionType>,
    /// What is in it, once the disk was read: [`crate::contents::read`].
    pub contents: Contents,
    /// What it is used for, in words.
    pub used: Vec<String>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Kernel name; may be another after the next boot.
    pub name: String,
    /// Device node.
    pub path: String,
    /// Maker and model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Names in `/dev/disk/by-id`.
    pub by_id: Vec<String>,
    /// Names in `/dev/disk/by-path`.
    pub by_path: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// Bytes per logical sector: the unit of addresses.
    pub logical_sector: u32,
    /// Bytes per physical sector: the unit the disk writes.
    pub physical_sector: u32,
    /// How it is connected.
    pub transport: Transport,
    /// Whether the medium can be taken out.
    pub removable: bool,
    /// Whether it cannot be written.
    pub read_only: bool,
    /// Whether it is a CD or DVD drive.
    pub optical: bool,
    /// Whether the running system came from it.
    pub running_medium: bool,
    /// What the whole disk is used for, in words.
    pub used: Vec<String>,
    /// The kind of its table, once it was read.
    pub table: Option<TableKind>,
    /// What is in it where it has no table, once it was read.
    pub contents: Contents,
    /// Why it could not be read.
    pub unread: Option<String>,
    /// Its partitions by number.
    pub partitions: Vec<Partition>,
    /// Why it is not offered for installation; empty if it is.
    pub refused: Vec<String>,
}

impl Disk {
    /// Whether it may be installed to.
    #[must_use]
    pub fn offered(&self) -> bool {
        self.refused.is_empty()
    }
}

/// Firmware.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Firmware {
    /// UEFI
    Uefi {
        /// 32 or 64; None if the kernel does not say.
        bits: Option<u32>,
    },
    /// A device tree without UEFI: U-Boot, Open Firmware, OPAL
    DeviceTree,
    /// PC BIOS
    Bios,
}

/// What a network interface is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceKind {
    /// Ethernet with a device behind it
    Wired,
    /// Wi-Fi
    Wireless,
    /// Made by software, or of another kind of network
    Other,
}

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Interface {
    /// Kernel name; may be another after the next boot.
    pub name: String,
    /// What it is.
    pub kind: InterfaceKind,
    /// Hardware address.
    pub mac: Option<String>,
    /// Whether the other end is there; not known of one that is down.
    pub link: Option<bool>,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// Firmware.
    pub firmware: Firmware,
    /// Memory in bytes, as far as the kernel can use it.
    pub memory: Option<u64>,
    /// Disks in order of name.
    pub disks: Vec<Disk>,
    /// Network interfaces in order of name, without the loopback.
    pub network: Vec<Interface>,
}

impl Machine {
    /// The interface that a network is most likely on: a wired one with a link, else a wired one, else one with a link.
    #[must_use]
    pub fn likely_interface(&self) -> Option<&Interface> {
        let wired = |one: &&Interface| one.kind == InterfaceKind::Wired;
        let linked = |one: &&Interface| one.link == Some(true);
        let all = || self.network.iter();
        all()
            .find(|one| wired(one) && linked(one))
            .or_else(|| all().find(wired))
            .or_else(|| all().find(linked))
            .or_else(|| all().next())
    }
}

/// Kernel names of block devices that are no disks: made by software.
const NOT_DISKS: &[&str] = &[
    "loop", "ram", "zram", "dm-", "md", "nbd", "fd", "mtdblock", "zd", "drbd", "bcache", "rbd",
];

fn text(path: PathBuf) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let clean: String = text
        .trim_matches(|c: char| c.is_whitespace() || c == '\0')
        .to_owned();
    (!clean.is_empty()).then_some(clean)
}

fn number(path: PathBuf) -> Option<u64> {
    text(path)?.parse().ok()
}

fn stem(name: &str) -> &str {
    name.trim_end_matches(|c: char| c.is_ascii_digit())
}

/// The serial number: where the kernel has it depends on the driver.
fn serial(device: &Path) -> Option<String> {
    text(device.join("serial"))
        .or_else(|| text(device.join("device/serial")))
        .or_else(|| {
            // SCSI vital product data, page 0x80: four bytes of header, then the serial number.
            let page = fs::read(device.join("device/vpd_pg80")).ok()?;
            let length = usize::from(u16::from_be_bytes([*page.get(2)?, *page.get(3)?]));
            let body = page.get(4..4 + length.min(page.len() - 4))?;
            let text = String::from_utf8_lossy(body)
                .trim_matches(|c: char| c.is_whitespace() || c == '\0')
                .to_owned();
            (!text.is_empty()).then_some(text)
        })
}

fn model(device: &Path) -> Option<String> {
    let model = text(device.join("device/model")).or_else(|| text(device.join("device/name")));
    // "ATA" in the vendor field only says that libata made it up.
    let vendor =
        text(device.join("device/vendor")).filter(|vendor| vendor != "ATA" && !vendor.starts_with("0x"));
    match (vendor, model) {
        (Some(vendor), Some(model)) if !model.starts_with(&vendor) => Some(format!("{vendor} {model}")),
        (_, Some(model)) => Some(model),
        (vendor, None) => vendor,
    }
}

fn transport(real: &Path, name: &str) -> Transport {
    let path = real.to_string_lossy();
    let has = |part: &str| path.split('/').any(|component| component.starts_with(part));
    if name.starts_with("nvme") {
        Transport::Nvme
    } else if has("usb") {
        Transport::Usb
    } else if name.starts_with("mmcblk") {
        Transport::Mmc
    } else if has("virtio") {
        Transport::Virtio
    } else if has("ata") {
        Transport::Ata
    } else if has("vmbus") || has("VMBUS") || name.starts_with("xvd") {
        Transport::Paravirtual
    } else if has("host") && has("target") {
        Transport::Scsi
    } else {
        Transport::Other
    }
}

/// Names of links by what they lead to, of one directory of udev.
fn links(directory: &Path) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (Ok(name), Ok(target)) = (entry.file_name().into_string(), fs::read_link(entry.path())) else {
            continue;
        };
        if let Some(target) = target.file_name().and_then(|name| name.to_str()) {
            found.entry(target.to_owned()).or_default().push(name);
        }
    }
    for names in found.values_mut() {
        names.sort();
    }
    found
}

struct Prober<'a> {
    views: &'a Views,
    uses: Uses,
}

impl Prober<'_> {
    fn class(&self, name: &str) -> PathBuf {
        self.views.sysfs.join("class/block").join(name)
    }

    fn usage(&self, name: &str) -> Usage {
        let number = text(self.class(name).join("dev")).unwrap_or_default();
        self.uses.of(&number, name)
    }

    /// What a device is used for in words, through everything that is built on it, and whether the running
    /// system came from it.
    fn used(&self, name: &str, depth: usize) -> (Vec<String>, bool) {
        let usage = self.usage(name);
        let mut words: Vec<String> = usage
            .mounts
            .iter()
            .map(|mount| format!("mounted on {mount}"))
            .collect();
        let mut medium = usage
            .mounts
            .iter()
            .any(|mount| MEDIUM_MOUNTS.contains(&mount.as_str()));
        if usage.swap {
            words.push("swap".into());
        }
        let mut holders: Vec<String> = fs::read_dir(self.class(name).join("holders"))
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        holders.sort();
        for holder in holders {
            let label = text(self.class(&holder).join("dm/name"));
            words.push(format!("part of {}", label.unwrap_or_else(|| holder.clone())));
            if depth > 0 {
                let (more, from) = self.used(&holder, depth - 1);
                words.extend(more.into_iter().map(|word| format!("{holder}: {word}")));
                medium |= from;
            }
        }
        (words, medium)
    }

    fn partitions(&self, disk: &Path) -> (Vec<Partition>, bool) {
        let mut partitions = Vec::new();
        let mut medium = false;
        for entry in fs::read_dir(disk).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let Some(place) = number(path.join("partition")).and_then(|place| u32::try_from(place).ok())
            else {
                continue;
            };
            let uevent = fs::read_to_string(path.join("uevent")).unwrap_or_default();
            let (used, from) = self.used(&name, HOLDER_DEPTH);
            medium |= from;
            partitions.push(Partition {
                number: place,
                start: number(path.join("start")).unwrap_or(0).saturating_mul(512),
                size: number(path.join("size")).unwrap_or(0).saturating_mul(512),
                label: uevent
                    .lines()
                    .find_map(|line| line.strip_prefix("PARTNAME="))
                    .map(str::to_owned),
                used,
                name,
                ..Partition::default()
            });
        }
        partitions.sort_by_key(|partition| partition.number);
        (partitions, medium)
    }

    fn disk(
        &self,
        name: &str,
        real: &Path,
        by_id: &BTreeMap<String, Vec<String>>,
        by_path: &BTreeMap<String, Vec<String>>,
    ) -> Disk {
        let sector = |file: &str| {
            number(real.join("queue").join(file))
                .and_then(|size| u32::try_from(size).ok())
                .unwrap_or(512)
        };
        let flag = |file: &str| number(real.join(file)) == Some(1);
        let (used, whole) = self.used(name, HOLDER_DEPTH);
        let (partitions, part) = self.partitions(real);
        let base = name.rsplit('!').next().unwrap_or(name);
        let mut disk = Disk {
            path: format!("/dev/{}", name.replace('!', "/")),
            model: model(real),
            serial: serial(real),
            by_id: by_id.get(base).cloned().unwrap_or_default(),
            by_path: by_path.get(base).cloned().unwrap_or_default(),
            size: number(real.join("size")).unwrap_or(0).saturating_mul(512),
            logical_sector: sector("logical_block_size"),
            physical_sector: sector("physical_block_size"),
            transport: transport(real, name),
            removable: flag("removable"),
            read_only: flag("ro"),
            optical: stem(name) == "sr",
            running_medium: whole || part,
            used,
            table: None,
            contents: Contents::default(),
            unread: None,
            partitions,
            refused: Vec::new(),
            name: name.to_owned(),
        };
        disk.refused = refusals(&disk);
        disk
    }
}

fn refusals(disk: &Disk) -> Vec<String> {
    let mut out = Vec::new();
    if disk.running_medium {
        out.push("the running system came from it".into());
    }
    if disk.optical {
        out.push("optical drive".into());
    }
    if disk.size == 0 {
        out.push("no medium in it".into());
    }
    if disk.read_only {
        out.push("read-only".into());
    }
    if !disk.running_medium {
        out.extend(disk.used.iter().map(|word| format!("in use: {word}")));
        for partition in &disk.partitions {
            out.extend(
                partition
                    .used
                    .iter()
                    .map(|word| format!("in use: {} {word}", partition.name)),
            );
        }
    }
    out
}

fn firmware(sysfs: &Path) -> Firmware {
    if sysfs.join("firmware/efi").is_dir() {
        let bits =
            number(sysfs.join("firmware/efi/fw_platform_size")).and_then(|bits| u32::try_from(bits).ok());
        Firmware::Uefi { bits }
    } else if sysfs.join("firmware/devicetree/base").is_dir() {
        Firmware::DeviceTree
    } else {
        Firmware::Bios
    }
}

/// `ARPHRD_ETHER` and `ARPHRD_LOOPBACK` of linux/if_arp.h.
const ETHERNET: u64 = 1;
const LOOPBACK: u64 = 772;

/// Network interfaces of `/sys/class/net`; none where the kernel has no network.
fn interfaces(sysfs: &Path) -> Vec<Interface> {
    let mut found = Vec::new();
    for entry in fs::read_dir(sysfs.join("class/net"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let path = entry.path();
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // `bonding_masters` lies there, too, and is a file.
        let Some(hardware) = number(path.join("type")).filter(|hardware| *hardware != LOOPBACK) else {
            continue;
        };
        let kind = if path.join("wireless").exists() || path.join("phy80211").exists() {
            InterfaceKind::Wireless
        } else if hardware == ETHERNET && path.join("device").exists() {
            InterfaceKind::Wired
        } else {
            InterfaceKind::Other
        };
        found.push(Interface {
            name,
            kind,
            mac: text(path.join("address")).filter(|mac| mac.chars().any(|c| !matches!(c, '0' | ':'))),
            // Of an interface that is down it cannot be read.
            link: number(path.join("carrier")).map(|carrier| carrier == 1),
        });
    }
    found.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    found
}

/// Looks at the machine, as far as the kernel describes it: no disk is opened.
///
/// # Errors
/// If block devices or mounts cannot be listed. Without mounts a disk in use would look free.
pub fn probe(views: &Views) -> Result<Machine, ProbeError> {
    let at = |path: PathBuf| move |source| ProbeError { path, source };
    let uses = Uses::read(&views.proc).map_err(at(views.proc.join("self/mountinfo")))?;
    let prober = Prober { views, uses };
    let by_id = links(&views.dev.join("disk/by-id"));
    let by_path = links(&views.dev.join("disk/by-path"));
    let class = views.sysfs.join("class/block");
    let mut disks = Vec::new();
    for entry in fs::read_dir(&class).map_err(at(class.clone()))? {
        let entry = entry.map_err(at(class.clone()))?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        // A device may go while it is looked at.
        let Ok(real) = fs::canonicalize(entry.path()) else {
            continue;
        };
        if NOT_DISKS.contains(&stem(&name)) || real.join("partition").exists() {
            continue;
        }
        // Boot and RPMB areas of an eMMC are no place for a system.
        if name.starts_with("mmcblk") && (name.contains("boot") || name.contains("rpmb")) {
            continue;
        }
        disks.push(prober.disk(&name, &real, &by_id, &by_path));
    }
    disks.sort_by(|a, b| (a.name.len(), &a.name).cmp(&(b.name.len(), &b.name)));
    let meminfo = fs::read_to_string(views.proc.join("meminfo")).unwrap_or_default();
    let memory = meminfo
        .lines()
        .find_map(|line| {
            line.strip_prefix("MemTotal:")?
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()
        })
        .and_then(|kib| kib.checked_mul(1024));
    Ok(Machine {
        schema: SCHEMA,
        firmware: firmware(&views.sysfs),
        memory,
        disks,
        network: interfaces(&views.sysfs),
    })
}
