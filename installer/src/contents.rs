//! What is on the disks: tables, file systems and systems, as far as reading alone tells. [`crate::probe::probe`] knows only what the kernel says of itself.
//!
//! Of every disk a bounded number of bytes is read: both ends, the heads of partitions, superblocks, a few files of ext4 and FAT volumes. Nothing is mounted.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lycia_media::fat;
use lycia_media::partition::Guid;
use lycia_media::partition::mbr::KIND_EFI_SYSTEM;
use serde::Serialize;

use crate::device::{BlockDevice, Disk as Device, Span, Window};
use crate::file_system::Kind;
use crate::found::{self, Found, Table};
use crate::probe::{Disk, Machine, Partition};
use crate::rescue::{Survey, node_of};

/// Bytes at the beginning of a partition in which swap, LVM and RAID are looked for.
pub(crate) const HEAD: u64 = 8192;
/// How long disks are waited for: one that spins up needs ten seconds, and the kernel gives a command thirty before it tries again.
const PATIENCE: Duration = Duration::from_secs(20);
/// Most boot loaders of an EFI system partition that are named.
const LOADERS_MAX: usize = 16;

/// The kind of a partition table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableKind {
    /// GUID partition table
    Gpt,
    /// MBR without GPT
    Mbr,
    /// None that is known
    None,
}

impl TableKind {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Gpt => "GPT",
            Self::Mbr => "MBR",
            Self::None => "no table",
        }
    }
}

impl From<&Table> for TableKind {
    fn from(table: &Table) -> Self {
        match table {
            Table::Gpt(_) => Self::Gpt,
            Table::Mbr => Self::Mbr,
            Table::None => Self::None,
        }
    }
}

/// What a partition table says that a partition is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionType {
    /// The GUID of a GPT, or the byte of an MBR (`0x83`).
    pub code: String,
    /// What it is called, where it is known here.
    pub name: Option<&'static str>,
}

impl PartitionType {
    /// Its name, or the code of one that is not known.
    #[must_use]
    pub fn words(&self) -> &str {
        self.name.unwrap_or(&self.code)
    }

    fn of_gpt(guid: Guid) -> Self {
        let code = guid.to_string();
        let name = GPT_TYPES.iter().find(|(known, _)| *known == code);
        Self {
            name: name.map(|(_, name)| *name),
            code,
        }
    }

    fn of_mbr(byte: u8) -> Self {
        let name = MBR_TYPES.iter().find(|(known, _)| *known == byte);
        Self {
            code: format!("0x{byte:02x}"),
            name: name.map(|(_, name)| *name),
        }
    }
}

/// Partition types of GPTs: UEFI 2.10 §5.3.3, the Discoverable Partitions Specification, and those of the systems that are named.
const GPT_TYPES: &[(&str, &str)] = &[
    ("c12a7328-f81f-11d2-ba4b-00a0c93ec93b", "EFI system"),
    ("21686148-6449-6e6f-744e-656564454649", "BIOS boot"),
    ("9e1a2d38-c612-4316-aa26-8b49521e5a8b", "PReP boot"),
    ("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", "Microsoft basic data"),
    ("e3c9e316-0b5c-4db8-817d-f92df00215ae", "Microsoft reserved"),
    ("de94bba4-06d1-4d40-a16a-bfd50179d6ac", "Windows recovery"),
    ("0fc63daf-8483-4772-8e79-3d69d8477de4", "Linux data"),
    ("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", "Linux swap"),
    ("933ac7e1-2eb4-4f13-b844-0e14e2aef915", "Linux home"),
    ("4f68bce3-e8cd-4db1-96e7-fbcaf984b709", "Linux root (x86_64)"),
    ("b921b045-1df0-41c3-af44-4c6f280d3fae", "Linux root (aarch64)"),
    ("72ec70a6-cf74-40e6-bd49-4bda08e8f224", "Linux root (riscv64)"),
    ("bc13c2ff-59e6-4262-a352-b275fd6f7172", "Linux extended boot"),
    ("ca7d7ccb-63ed-4c53-861c-1742536059cc", "Linux LUKS"),
    ("e6d6d379-f507-44c2-a23c-238f2a3df928", "Linux LVM"),
    ("a19d880f-05fc-4d3b-a006-743f0f84911e", "Linux RAID"),
    ("7c3457ef-0000-11aa-aa11-00306543ecac", "Apple APFS"),
    ("48465300-0000-11aa-aa11-00306543ecac", "Apple HFS+"),
    ("6a898cc3-1dd2-11b2-99a6-080020736631", "ZFS"),
    ("516e7cb6-6ecf-11d6-8ff8-00022d09712b", "FreeBSD UFS"),
];

/// Partition types of MBRs.
const MBR_TYPES: &[(u8, &str)] = &[
    (0x05, "extended"),
    (0x06, "FAT16"),
    (0x07, "NTFS or exFAT"),
    (0x0b, "FAT32"),
    (0x0c, "FAT32"),
    (0x0e, "FAT16"),
    (0x0f, "extended"),
    (0x27, "Windows recovery"),
    (0x82, "Linux swap"),
    (0x83, "Linux"),
    (0x85, "extended"),
    (0x8e, "Linux LVM"),
    (0xa5, "FreeBSD"),
    (0xa6, "OpenBSD"),
    (0xee, "GPT"),
    (0xef, "EFI system"),
    (0xfd, "Linux RAID"),
];

/// An installed system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InstalledSystem {
    /// What it calls itself.
    pub name: Option<String>,
    /// Its host name.
    pub hostname: Option<String>,
}

impl InstalledSystem {
    /// Both in a few words.
    #[must_use]
    pub fn words(&self) -> String {
        let name = self.name.as_deref().unwrap_or("an installed system");
        match &self.hostname {
            Some(host) => format!("{name} (host {host})"),
            None => name.to_owned(),
        }
    }
}

/// What a partition, or a disk without a table, holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// File system as mount calls it, or what blkid calls what is none: `crypto_LUKS`, `swap`, `LVM2_member`, `linux_raid_member`, `BitLocker`.
    pub file_system: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// UUID of the file system, as blkid spells it.
    pub uuid: Option<String>,
    /// The system that is installed in it.
    pub system: Option<InstalledSystem>,
    /// Whether a system in it would have been seen: encrypted volumes and what only the kernel reads are not looked into.
    pub looked_into: bool,
    /// Of an EFI system partition the folders in `EFI`: whose boot loaders are there.
    pub loaders: Vec<String>,
    /// Why it could not be read.
    pub unread: Option<String>,
}

/// What blkid calls what is no file system that [`found::file_system`] knows, by its first [`HEAD`] bytes: swap (mkswap's magic at the end of a page), LVM2
/// (a label in one of the first four sectors), md RAID (superblocks 1.1 and 1.2), BitLocker.
pub(crate) fn member(head: &[u8]) -> Option<&'static str> {
    let at = |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
    let md = 0xa92b_4efc_u32.to_le_bytes();
    if at(4086, b"SWAPSPACE2") || at(4086, b"SWAP-SPACE") {
        Some("swap")
    } else if (0..4).any(|sector| at(sector * 512, b"LABELONE") && at(sector * 512 + 24, b"LVM2 001")) {
        Some("LVM2_member")
    } else if at(0, &md) || at(4096, &md) {
        Some("linux_raid_member")
    } else if at(3, b"-FVE-FS-") {
        Some("BitLocker")
    } else {
        None
    }
}

/// Folders in `EFI` of a FAT volume, without that of the fallback path.
fn loaders(device: &mut dyn BlockDevice, span: Span) -> Vec<String> {
    let mut nothing = |_| ();
    let mut names = fat::names_in(Window::new(device, span, &mut nothing), "EFI").unwrap_or_default();
    names.retain(|name| !name.starts_with('.') && !name.eq_ignore_ascii_case("BOOT"));
    names.sort();
    names.truncate(LOADERS_MAX);
    names
}

/// What is in a part of a device; of an EFI system partition also whose boot loaders are there.
fn inside(device: &mut dyn BlockDevice, span: Span, esp: bool) -> Contents {
    let mut out = Contents::default();
    match found::content(device, span) {
        Err(error) => {
            out.unread = Some(error.to_string());
            return out;
        }
        Ok(None) => {}
        Ok(Some(content)) => {
            (out.file_system, out.label, out.uuid) = (Some(content.kind), content.label, content.uuid);
        }
    }
    let kind = out.file_system.as_deref();
    out.looked_into = kind.and_then(Kind::named) == Some(Kind::Ext4);
    // Of others the allocation table is large, and there are none.
    if esp && kind == Some("vfat") {
        out.loaders = loaders(device, span);
    }
    out
}

/// Says of a disk what is on it.
fn look(disk: &mut Disk, device: &mut dyn BlockDevice, found: &Found) {
    disk.table = Some(TableKind::from(&found.table));
    if found.table == Table::None && disk.partitions.is_empty() {
        let whole = Span {
            start: 0,
            size: device.size(),
        };
        disk.contents = inside(device, whole, false);
    }
    // The kernel knows those inside of an extended partition; the table those that the kernel was not told of.
    for one in &found.partitions {
        if !disk.partitions.iter().any(|there| there.number == one.number) {
            let node = node_of(&disk.path, one.number);
            disk.partitions.push(Partition {
                name: node.trim_start_matches("/dev/").to_owned(),
                number: one.number,
                start: one.span.start,
                size: one.span.size,
                label: one.name.clone(),
                ..Partition::default()
            });
        }
    }
    disk.partitions.sort_by_key(|partition| partition.number);
    for partition in &mut disk.partitions {
        let known = found.partitions.iter().find(|one| one.number == partition.number);
        if let Some(known) = known {
            let gpt = known.kind.map(PartitionType::of_gpt);
            partition.kind = gpt.or_else(|| known.mbr_kind.map(PartitionType::of_mbr));
            partition.label = partition.label.take().or_else(|| known.name.clone());
        }
        let span = Span {
            start: partition.start,
            size: partition.size,
        };
        let esp = known
            .is_some_and(|one| one.kind == Some(Guid::EFI_SYSTEM) || one.mbr_kind == Some(KIND_EFI_SYSTEM));
        partition.contents = inside(device, span, esp);
    }
}

/// Reads what is on every disk of `machine`, whose nodes are in `dev`, and says it there. A disk that cannot be read, or does not answer, is told by
/// [`Disk::unread`]. Optical ones are left alone: nothing is installed to them.
pub fn read(machine: &mut Machine, dev: &Path) {
    read_within(machine, dev, PATIENCE);
}

fn read_within(machine: &mut Machine, dev: &Path, patience: Duration) {
    let (said, heard) = mpsc::channel();
    let mut waited = BTreeSet::new();
    for (at, disk) in machine.disks.iter_mut().enumerate() {
        if disk.size == 0 || disk.optical {
            continue;
        }
        let (mut seen, dev, said) = (disk.clone(), dev.to_owned(), said.clone());
        // All at a time. A read of a dying disk can last for minutes, and nothing ends it: then it goes on by itself, and nobody hears of it.
        std::thread::spawn(move || {
            let mut survey = Survey::default();
            if let Err(error) = read_one(&mut seen, &dev, &mut survey) {
                seen.unread = Some(error.to_string());
            }
            for one in survey.systems {
                let mut partitions = seen.partitions.iter_mut();
                if let Some(partition) = partitions.find(|part| part.number == one.root.partition) {
                    partition.contents.system = Some(InstalledSystem {
                        name: one.name,
                        hostname: one.hostname,
                    });
                }
            }
            let _ = said.send((at, seen));
        });
        waited.insert(at);
    }
    drop(said);
    let end = Instant::now() + patience;
    while !waited.is_empty() {
        let Ok((at, seen)) = heard.recv_timeout(end.saturating_duration_since(Instant::now())) else {
            break;
        };
        waited.remove(&at);
        machine.disks[at] = seen;
    }
    for at in waited {
        machine.disks[at].unread = Some(format!("it did not answer in {} s", patience.as_secs()));
    }
}

fn read_one(disk: &mut Disk, dev: &Path, survey: &mut Survey) -> io::Result<()> {
    let path = dev.join(&disk.name);
    let mut device = Device::open_read(&path, disk.logical_sector)?;
    let found = found::look(&mut device)?;
    look(disk, &mut device, &found);
    survey.add(disk, &path, &mut device, found);
    Ok(())
}

#[cfg(test)]
mod tests;
