//! What is on a disk now: its table, its file systems, and a digest by which a change is noticed.

use std::io;

use lycia_init::superblock::{self, ReadAt};
use lycia_media::partition::{Guid, gpt, mbr};
use sha2::{Digest as _, Sha256};

use crate::device::{BlockDevice, Reading, Span};
use crate::esp::{self, Esp};

/// Bytes at both ends of a disk and of a partition in which tables and file systems keep what they are known by:
/// boot sectors, GPT and its backup, superblocks, LVM and RAID headers, ZFS labels.
pub const EDGE: u64 = 1 << 20;
/// Most partitions that are looked at.
const PARTITIONS_MAX: usize = 1024;

/// The kind of a partition table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Table {
    /// GUID partition table.
    Gpt(gpt::Table),
    /// MBR without GPT.
    Mbr,
    /// None that is known.
    None,
}

impl Table {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Table::Gpt(_) => "GPT",
            Table::Mbr => "MBR",
            Table::None => "none",
        }
    }
}

/// A partition with what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// Number.
    pub number: u32,
    /// Where.
    pub span: Span,
    /// Type GUID; none under an MBR.
    pub kind: Option<Guid>,
    /// Type under an MBR.
    pub mbr_kind: Option<u8>,
    /// Name in the table.
    pub name: Option<String>,
    /// File system, as mount calls it.
    pub file_system: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// UUID of the file system, as blkid spells it.
    pub uuid: Option<String>,
    /// Of an EFI system partition of a GPT: what is in it, or why nothing can be put into it.
    pub esp: Option<Result<Esp, String>>,
}

/// A disk as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its table.
    pub table: Table,
    /// Its partitions by number.
    pub partitions: Vec<Partition>,
    /// SHA-256 of the first and the last [`EDGE`] bytes, in hexadecimal.
    pub digest: String,
}

/// Reads a part of a device for [`superblock::identify`], which takes what reads without changing.
struct Part<'a> {
    device: std::cell::RefCell<&'a mut dyn BlockDevice>,
    span: Span,
}

impl ReadAt for Part<'_> {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.span.size.saturating_sub(offset);
        let count = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        if count == 0 {
            return Ok(0);
        }
        let at = self.span.start + offset;
        self.device.borrow_mut().read_at(at, &mut buffer[..count])?;
        Ok(count)
    }
}

/// The file system in a part of a device: kind, label, UUID.
pub fn file_system(device: &mut dyn BlockDevice, span: Span) -> Option<superblock::Superblock> {
    let part = Part {
        device: std::cell::RefCell::new(device),
        span,
    };
    superblock::identify(&part).into_iter().next()
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Digest of both ends of a disk.
///
/// # Errors
/// When it cannot be read.
pub fn digest(device: &mut dyn BlockDevice) -> io::Result<String> {
    let size = device.size();
    let length = EDGE.min(size);
    let mut bytes = vec![0; length as usize * 2];
    let (first, last) = bytes.split_at_mut(length as usize);
    device.read_at(0, first)?;
    device.read_at(size - length, last)?;
    Ok(hex(&bytes))
}

fn mbr_partitions(device: &mut dyn BlockDevice, table: &mbr::Mbr) -> Vec<Partition> {
    // MBRs count in logical sectors.
    let sector = u64::from(device.sector());
    let records = table.records.iter().enumerate();
    records
        .filter_map(|(at, record)| Some((at as u32 + 1, record.as_ref()?)))
        .filter(|(_, record)| record.kind != 0 && record.sectors > 0)
        .map(|(number, record)| Partition {
            mbr_kind: Some(record.kind),
            number,
            span: Span {
                start: u64::from(record.first) * sector,
                size: u64::from(record.sectors) * sector,
            },
            kind: None,
            name: None,
            file_system: None,
            label: None,
            uuid: None,
            esp: None,
        })
        .collect()
}

/// Looks at a disk. Only reads.
///
/// # Errors
/// When it cannot be read. A table that is damaged counts as none.
pub fn look(device: &mut dyn BlockDevice) -> io::Result<Found> {
    let digest = digest(device)?;
    let sector = device.sector();
    let size = device.size();
    let mut first = [0; 512];
    if size >= 512 {
        device.read_at(0, &mut first)?;
    }
    let record = mbr::Mbr::decode(&first).ok();
    let guid_table = match gpt::Table::read(&mut Reading::new(device), sector) {
        Ok((table, _)) => Some(table),
        Err(gpt::GptError::Io(error)) => return Err(error),
        Err(_) => None,
    };
    // A GPT counts only where the MBR protects it: disks that were given an MBR afterwards keep the old GPT.
    let protected = record.as_ref().is_some_and(mbr::Mbr::is_protective);
    let (table, mut partitions) = match (guid_table, record) {
        (Some(table), _) if protected => {
            let width = u64::from(sector);
            let partitions = table.partitions.iter().take(PARTITIONS_MAX).map(|one| Partition {
                number: one.number,
                span: Span {
                    start: one.first * width,
                    size: (one.last - one.first + 1) * width,
                },
                kind: Some(one.kind),
                mbr_kind: None,
                name: (!one.name.is_empty()).then(|| one.name.clone()),
                file_system: None,
                label: None,
                uuid: None,
                esp: None,
            });
            let partitions = partitions.collect();
            (Table::Gpt(table), partitions)
        }
        (_, Some(record)) if !protected && record.records.iter().flatten().any(|one| one.kind != 0) => {
            let partitions = mbr_partitions(device, &record);
            (Table::Mbr, partitions)
        }
        _ => (Table::None, Vec::new()),
    };
    partitions.retain(|one: &Partition| {
        one.span
            .start
            .checked_add(one.span.size)
            .is_some_and(|end| end <= size)
    });
    for partition in &mut partitions {
        if let Some(found) = file_system(device, partition.span) {
            partition.file_system = Some(found.kind.to_owned());
            partition.label = found.label;
            partition.uuid = found.uuid;
        }
        if partition.kind == Some(Guid::EFI_SYSTEM) && partition.file_system.as_deref() == Some("vfat") {
            partition.esp = Some(esp::inspect(device, partition.span));
        }
    }
    partitions.sort_by_key(|partition| partition.number);
    Ok(Found {
        table,
        partitions,
        digest,
    })
}
