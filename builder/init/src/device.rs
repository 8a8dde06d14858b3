//! Block devices as sysfs lists them, and which of them is the wanted one.

use crate::superblock::{ReadAt, Superblock, read_exact, u32_at, u64_at};
use std::fs;
use std::io;
use std::path::Path;

/// A disk or partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlockDevice {
    /// Kernel name, `sda1`.
    pub name: String,
    /// Number of the partition; None for a whole disk.
    pub partition: Option<u32>,
    /// Kernel name of the disk a partition is on.
    pub disk: Option<String>,
    /// Size in units of 512 bytes, whatever the sector size.
    pub sectors: u64,
    /// Bytes per logical sector.
    pub sector_size: u32,
    /// Whether the medium can be taken out.
    pub removable: bool,
    /// Whether it hangs on USB.
    pub usb: bool,
    /// Counts the media put into this device, where the kernel says (5.15 and later).
    pub sequence: u64,
}

impl BlockDevice {
    /// The device node. `!` in a kernel name stands for `/`.
    #[must_use]
    pub fn node(&self) -> String {
        format!("/dev/{}", self.name.replace('!', "/"))
    }
}

/// Kernel names of devices that never are a medium: made by the kernel itself, or (floppies) slow to say
/// that they are empty.
const NEVER: &[&str] = &["loop", "ram", "zram", "nbd", "fd", "mtdblock"];

/// The block devices under `sys` (normally `/sys`), best candidates for a medium first: removable ones,
/// then by name, whole disks before their partitions.
///
/// # Errors
/// If `class/block` cannot be listed. A device that vanishes meanwhile is left out.
pub fn list(sys: &Path) -> io::Result<Vec<BlockDevice>> {
    let mut devices = Vec::new();
    let entries = match fs::read_dir(sys.join("class/block")) {
        Ok(entries) => entries,
        // Not there before the first driver comes.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(devices),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let stem = name.trim_end_matches(|character: char| character.is_ascii_digit());
        if NEVER.contains(&stem) {
            continue;
        }
        // The links lead to the device, whose directory is inside that of its disk.
        let Ok(real) = fs::canonicalize(entry.path()) else {
            continue;
        };
        let number = |path: &Path, file: &str| -> Option<u64> {
            fs::read_to_string(path.join(file)).ok()?.trim().parse().ok()
        };
        let partition = number(&real, "partition").and_then(|number| u32::try_from(number).ok());
        let disk_path = if partition.is_some() {
            real.parent().unwrap_or(&real)
        } else {
            &real
        };
        let disk = partition
            .and(disk_path.file_name())
            .and_then(|name| name.to_str())
            .map(str::to_owned);
        devices.push(BlockDevice {
            partition,
            disk,
            sectors: number(&real, "size").unwrap_or(0),
            sector_size: number(disk_path, "queue/logical_block_size")
                .and_then(|size| u32::try_from(size).ok())
                .unwrap_or(512),
            removable: number(disk_path, "removable") == Some(1),
            usb: real
                .components()
                .any(|part| part.as_os_str().to_string_lossy().starts_with("usb")),
            sequence: number(disk_path, "diskseq").unwrap_or(0),
            name,
        });
    }
    devices.sort_by_cached_key(|device| {
        let disk = device.disk.as_ref().unwrap_or(&device.name);
        // Names of one driver have the number of letters before the letters: sdz before sdaa.
        (
            !device.removable,
            disk.len(),
            disk.clone(),
            device.partition.unwrap_or(0),
        )
    });
    Ok(devices)
}

/// What a partition table says about a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PartitionIdentity {
    /// As in `PARTUUID=`: a GUID, or disk signature and number.
    pub uuid: Option<String>,
    /// Name in a GPT.
    pub label: Option<String>,
}

/// Reads the identity of partition `number` from the table of its disk (UEFI 2.10 §5; MBR disk signature).
#[must_use]
pub fn partition_identity(disk: &(impl ReadAt + ?Sized), sector_size: u32, number: u32) -> PartitionIdentity {
    gpt_identity(disk, sector_size, number)
        .or_else(|| mbr_identity(disk, number))
        .unwrap_or_default()
}

fn gpt_identity(disk: &(impl ReadAt + ?Sized), sector_size: u32, number: u32) -> Option<PartitionIdentity> {
    if !matches!(sector_size, 512 | 1024 | 2048 | 4096) {
        return None;
    }
    let sector = u64::from(sector_size);
    let header = read_exact(disk, sector, 92)?;
    if &header[..8] != b"EFI PART" {
        return None;
    }
    let (table, count, size) = (u64_at(&header, 72)?, u32_at(&header, 80)?, u32_at(&header, 84)?);
    if number == 0 || number > count || !(128..=4096).contains(&size) {
        return None;
    }
    let at = table
        .checked_mul(sector)?
        .checked_add(u64::from(number - 1) * u64::from(size))?;
    let entry = read_exact(disk, at, 128)?;
    if entry[..16] == [0; 16] {
        return None;
    }
    let guid = &entry[16..32];
    let uuid = format!(
        "{:08x}-{:04x}-{:04x}-{}-{}",
        u32_at(guid, 0)?,
        u16::from_le_bytes([guid[4], guid[5]]),
        u16::from_le_bytes([guid[6], guid[7]]),
        crate::digest::hex(&guid[8..10]),
        crate::digest::hex(&guid[10..]),
    );
    let units = entry[56..]
        .chunks_exact(2)
        .map(|two| u16::from_le_bytes([two[0], two[1]]));
    let label: String = char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect();
    Some(PartitionIdentity {
        uuid: Some(uuid),
        label: (!label.is_empty()).then_some(label),
    })
}

fn mbr_identity(disk: &(impl ReadAt + ?Sized), number: u32) -> Option<PartitionIdentity> {
    let sector = read_exact(disk, 0, 512)?;
    let signature = u32_at(&sector, 440)?;
    (sector[510..] == [0x55, 0xaa] && signature != 0).then(|| PartitionIdentity {
        uuid: Some(format!("{signature:08x}-{number:02x}")),
        label: None,
    })
}

/// Which device is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The device with this node.
    Node(String),
    /// A file system with this label.
    Label(String),
    /// A file system with this UUID.
    Uuid(String),
    /// The partition with this UUID.
    PartUuid(String),
    /// The partition with this name.
    PartLabel(String),
    /// Any removable device.
    Removable,
    /// Any removable device on USB.
    RemovableUsb,
    /// Any device.
    Any,
}

impl std::fmt::Display for Wish {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Node(node) => write!(formatter, "{node}"),
            Self::Label(label) => write!(formatter, "LABEL={label}"),
            Self::Uuid(uuid) => write!(formatter, "UUID={uuid}"),
            Self::PartUuid(uuid) => write!(formatter, "PARTUUID={uuid}"),
            Self::PartLabel(label) => write!(formatter, "PARTLABEL={label}"),
            Self::Removable => write!(formatter, "a removable device"),
            Self::RemovableUsb => write!(formatter, "a removable USB device"),
            Self::Any => write!(formatter, "any device"),
        }
    }
}

impl Wish {
    /// Understands `LABEL=x`, `UUID=x`, `PARTUUID=x`, `PARTLABEL=x`, the udev links that mean the same, and
    /// device nodes.
    ///
    /// # Errors
    /// Says what forms there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let owned = |value: &str| value.trim_matches('"').to_owned();
        type Make = fn(String) -> Wish;
        let made: &[(&str, &str, Make)] = &[
            ("LABEL=", "/dev/disk/by-label/", Self::Label),
            ("UUID=", "/dev/disk/by-uuid/", Self::Uuid),
            ("PARTUUID=", "/dev/disk/by-partuuid/", Self::PartUuid),
            ("PARTLABEL=", "/dev/disk/by-partlabel/", Self::PartLabel),
        ];
        for (key, link, make) in made {
            if let Some(value) = text.strip_prefix(key) {
                if value.is_empty() || value.contains("/PARTNROFF=") {
                    break;
                }
                return Ok(make(owned(value)));
            }
            if let Some(value) = text.strip_prefix(link)
                && !value.is_empty()
            {
                return Ok(make(unescaped(value)));
            }
        }
        if let Some(name) = text.strip_prefix("/dev/")
            && !["disk/", "mapper/", "nfs", "cifs"]
                .iter()
                .any(|no| name.starts_with(no))
            && !name.is_empty()
            && !name.contains("..")
        {
            return Ok(Self::Node(text.to_owned()));
        }
        Err(format!(
            "`{text}` does not name a device here; write /dev/NAME, LABEL=, UUID=, PARTUUID= or PARTLABEL="
        ))
    }

    /// Whether this wish can be judged without reading superblocks or partition tables.
    #[must_use]
    pub fn is_met_by(
        &self,
        device: &BlockDevice,
        blocks: &[Superblock],
        identity: &PartitionIdentity,
    ) -> bool {
        match self {
            Self::Node(node) => *node == device.node(),
            Self::Label(label) => blocks.iter().any(|block| block.has_label(label)),
            Self::Uuid(uuid) => blocks.iter().any(|block| block.has_uuid(uuid)),
            Self::PartUuid(uuid) => identity
                .uuid
                .as_ref()
                .is_some_and(|own| own.eq_ignore_ascii_case(uuid)),
            Self::PartLabel(label) => identity.label.as_ref() == Some(label),
            Self::Removable => device.removable,
            Self::RemovableUsb => device.removable && device.usb,
            Self::Any => true,
        }
    }
}

/// udev writes bytes it does not like in link names as `\xNN`.
fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes
            .get(at..at + 4)
            .filter(|four| four.starts_with(b"\\x"))
            .and_then(|four| u8::from_str_radix(std::str::from_utf8(&four[2..]).ok()?, 16).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::os::unix::fs::symlink;

    fn fake_sysfs(devices: &[(&str, &[(&str, &str)])]) -> tempfile::TempDir {
        let sys = tempfile::tempdir().unwrap();
        fs::create_dir_all(sys.path().join("class/block")).unwrap();
        for (path, files) in devices {
            let real = sys.path().join("devices").join(path);
            fs::create_dir_all(real.join("queue")).unwrap();
            for (name, value) in *files {
                fs::write(real.join(name), format!("{value}\n")).unwrap();
            }
            let name = real.file_name().unwrap().to_owned();
            symlink(
                Path::new("../../devices").join(path),
                sys.path().join("class/block").join(name),
            )
            .unwrap();
        }
        sys
    }

    #[test]
    fn devices_are_listed_in_order_of_promise() {
        let sys = fake_sysfs(&[
            ("pci/ata1/block/sda", &[("size", "2048"), ("removable", "0")]),
            ("pci/ata1/block/sda/sda2", &[("size", "100"), ("partition", "2")]),
            (
                "pci/ata1/block/sda/sda10",
                &[("size", "100"), ("partition", "10")],
            ),
            (
                "pci/usb1/1-1/block/sdb",
                &[
                    ("size", "4096"),
                    ("removable", "1"),
                    ("queue/logical_block_size", "4096"),
                    ("diskseq", "7"),
                ],
            ),
            (
                "pci/usb1/1-1/block/sdb/sdb1",
                &[("size", "64"), ("partition", "1")],
            ),
            ("virtual/block/loop0", &[("size", "0")]),
            ("virtual/block/ram0", &[("size", "0")]),
            ("pci/block/cciss!c0d0", &[("size", "5")]),
        ]);
        let devices = list(sys.path()).unwrap();
        let names: Vec<_> = devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["sdb", "sdb1", "sda", "sda2", "sda10", "cciss!c0d0"]);
        assert_eq!(
            devices[1],
            BlockDevice {
                name: "sdb1".into(),
                partition: Some(1),
                disk: Some("sdb".into()),
                sectors: 64,
                sector_size: 4096,
                removable: true,
                usb: true,
                sequence: 7,
            }
        );
        assert_eq!(devices[5].node(), "/dev/cciss/c0d0");
    }

    #[test]
    fn no_block_class_is_no_device() {
        assert_eq!(list(tempfile::tempdir().unwrap().path()).unwrap(), []);
    }

    #[test]
    fn wishes_are_read() {
        for (text, expected) in [
            ("LABEL=MY ISO", Wish::Label("MY ISO".into())),
            ("LABEL=\"MY ISO\"", Wish::Label("MY ISO".into())),
            ("UUID=aa", Wish::Uuid("aa".into())),
            ("PARTUUID=aa-01", Wish::PartUuid("aa-01".into())),
            ("PARTLABEL=root", Wish::PartLabel("root".into())),
            ("/dev/disk/by-label/MY\\x20ISO", Wish::Label("MY ISO".into())),
            ("/dev/disk/by-partuuid/aa", Wish::PartUuid("aa".into())),
            ("/dev/nvme0n1p2", Wish::Node("/dev/nvme0n1p2".into())),
        ] {
            assert_eq!(Wish::parse(text).as_ref(), Ok(&expected), "{text}");
        }
        for text in [
            "",
            "sda1",
            "UUID=",
            "/dev/",
            "/dev/mapper/root",
            "/dev/nfs",
            "PARTUUID=a/PARTNROFF=1",
            "/dev/disk/by-id/x",
            "/dev/../etc",
        ] {
            assert!(Wish::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn wishes_are_judged() {
        let device = BlockDevice {
            name: "sr0".into(),
            partition: None,
            disk: None,
            sectors: 1,
            sector_size: 2048,
            removable: true,
            usb: false,
            sequence: 0,
        };
        let block = Superblock {
            kind: "iso9660",
            label: Some("L".into()),
            other_label: None,
            uuid: Some("2026-AA".into()),
        };
        let identity = PartitionIdentity {
            uuid: Some("ab-01".into()),
            label: Some("root".into()),
        };
        for (wish, expected) in [
            (Wish::Node("/dev/sr0".into()), true),
            (Wish::Node("/dev/sr1".into()), false),
            (Wish::Label("L".into()), true),
            (Wish::Uuid("2026-aa".into()), true),
            (Wish::Uuid("2026".into()), false),
            (Wish::PartUuid("AB-01".into()), true),
            (Wish::PartLabel("ROOT".into()), false),
            (Wish::Removable, true),
            (Wish::RemovableUsb, false),
            (Wish::Any, true),
        ] {
            assert_eq!(
                wish.is_met_by(&device, std::slice::from_ref(&block), &identity),
                expected,
                "{wish}"
            );
        }
    }

    proptest! {
        #[test]
        fn no_table_makes_it_panic(mut disk in proptest::collection::vec(any::<u8>(), 0..9000), number in any::<u32>(), signed in any::<bool>()) {
            if signed && disk.len() > 520 {
                disk[512..520].copy_from_slice(b"EFI PART");
            }
            let _ = partition_identity(disk.as_slice(), 512, number);
        }
    }
}
