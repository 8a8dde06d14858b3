//! What is on a disk now: its table, its file systems, and a digest by which a change is noticed.

use std::collections::BTreeSet;
use std::io;

use lycia_init::superblock::{self, ReadAt};
use lycia_media::partition::{Guid, gpt, mbr};
use sha2::{Digest as _, Sha256};

use crate::contents::{HEAD, member};
use crate::device::{BlockDevice, Reading, Span};
use crate::esp::{self, Esp};

/// Bytes at both ends of a disk and of a partition in which tables and file systems keep what they are known by:
/// boot sectors, GPT and its backup, superblocks, LVM and RAID headers, ZFS labels.
pub const EDGE: u64 = 1 << 20;
/// Most partitions that are looked at.
const PARTITIONS_MAX: usize = 1024;
/// Types under an MBR of what holds logical partitions: with CHS, with LBA, Linux's own.
const EXTENDED: [u8; 3] = [0x05, 0x0f, 0x85];
/// Highest number that Linux gives to a logical partition.
const LOGICAL_MAX: u32 = 255;
/// Most links without a partition in a row that are followed, as Linux does.
const EMPTY_MAX: u32 = 100;

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
    /// File system, as mount calls it, or what blkid calls what is none: `swap`, `LVM2_member`.
    pub file_system: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// UUID of the file system, as blkid spells it.
    pub uuid: Option<String>,
    /// Of an EFI system partition of a GPT: what is in it, or why nothing can be put into it.
    pub esp: Option<Result<Esp, String>>,
}

impl Partition {
    /// Whether it only holds logical partitions.
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.mbr_kind.is_some_and(|kind| EXTENDED.contains(&kind))
    }

    fn of_mbr(number: u32, kind: u8, span: Span) -> Partition {
        Partition {
            number,
            span,
            kind: None,
            mbr_kind: Some(kind),
            name: None,
            file_system: None,
            label: None,
            uuid: None,
            esp: None,
        }
    }
}

/// A disk as it was found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Found {
    /// Its table.
    pub table: Table,
    /// Its partitions by number.
    pub partitions: Vec<Partition>,
    /// What is on the whole disk, where there is no table.
    pub whole: Option<Content>,
    /// Sectors of the chain in which an MBR keeps its logical partitions.
    pub chain: Vec<Span>,
    /// SHA-256 of the first and the last [`EDGE`] bytes and of the chain of logical partitions, in hexadecimal.
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

/// What a disk or a part of it is known by.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Content {
    /// File system as mount calls it, or what blkid calls what is none: `swap`, `LVM2_member`.
    pub kind: String,
    /// Label of the file system.
    pub label: Option<String>,
    /// UUID of the file system, as blkid spells it.
    pub uuid: Option<String>,
}

/// What is in a part of a device: a file system, or a member of something larger.
///
/// # Errors
/// When its beginning cannot be read.
pub fn content(device: &mut dyn BlockDevice, span: Span) -> io::Result<Option<Content>> {
    let mut head = vec![0; HEAD.min(span.size) as usize];
    device.read_at(span.start, &mut head)?;
    let alone = |kind: &str| Content {
        kind: kind.to_owned(),
        label: None,
        uuid: None,
    };
    // A signature of these stays below a file system that was made over it; an old file system below them as well. LVM and RAID clear what they find.
    Ok(match (member(&head), file_system(device, span)) {
        (Some(member), None) => Some(alone(member)),
        (Some(member @ ("LVM2_member" | "linux_raid_member" | "BitLocker")), Some(_)) => Some(alone(member)),
        (_, Some(found)) => Some(Content {
            kind: found.kind.to_owned(),
            label: found.label,
            uuid: found.uuid,
        }),
        (None, None) => None,
    })
}

/// SHA-256 in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// Digest of both ends of a disk, and of its chain of logical partitions.
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
    let record = bytes.first_chunk().and_then(|first| mbr::Mbr::decode(first).ok());
    if let Some(record) = record.filter(|record| !record.is_protective()) {
        for link in mbr_partitions(device, &record)?.1 {
            let mut sector = vec![0; link.size as usize];
            device.read_at(link.start, &mut sector)?;
            bytes.extend(sector);
        }
    }
    Ok(hex(&bytes))
}

/// The partitions of an MBR, logical ones numbered as Linux does, and the sectors of the chain that these are in.
///
/// # Errors
/// When the disk cannot be read. A chain that is damaged ends there.
pub(crate) fn mbr_partitions(
    device: &mut dyn BlockDevice,
    table: &mbr::Mbr,
) -> io::Result<(Vec<Partition>, Vec<Span>)> {
    // MBRs count in logical sectors.
    let sector = u64::from(device.sector());
    let records = table.records.iter().enumerate();
    let primary: Vec<Partition> = records
        .filter_map(|(at, record)| Some((at as u32 + 1, record.as_ref()?)))
        .filter(|(_, record)| record.kind != 0 && record.sectors > 0)
        .map(|(number, record)| {
            let span = Span {
                start: u64::from(record.first) * sector,
                size: u64::from(record.sectors) * sector,
            };
            Partition::of_mbr(number, record.kind, span)
        })
        .collect();
    let (mut logical, mut chain) = (Vec::new(), Vec::new());
    for extended in primary.iter().filter(|one| one.is_extended()) {
        follow(device, extended.span, &mut logical, &mut chain)?;
    }
    Ok((primary.into_iter().chain(logical).collect(), chain))
}

/// The records of a link: type, first sector, number of sectors. None where it is no link.
fn records_of(link: &[u8; 512]) -> Option<[(u8, u64, u64); 4]> {
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([
            link[at],
            link[at + 1],
            link[at + 2],
            link[at + 3],
        ]))
    };
    let record = |index| {
        let at = 446 + 16 * index;
        (link[at + 4], word(at + 8), word(at + 12))
    };
    (link[510..] == [0x55, 0xaa]).then(|| std::array::from_fn(record))
}

/// Follows the chain in an extended partition. Each link says where its partition is, counted from itself, and where the next link is, counted from the
/// extended partition.
fn follow(
    device: &mut dyn BlockDevice,
    within: Span,
    logical: &mut Vec<Partition>,
    chain: &mut Vec<Span>,
) -> io::Result<()> {
    let width = u64::from(device.sector());
    let (mut at, mut room, mut empty) = (within.start, within.size, 0);
    let mut seen = BTreeSet::new();
    while seen.insert(at) && empty < EMPTY_MAX {
        let link = Span {
            start: at,
            size: width,
        };
        if !within.contains(link) || link.end() > device.size() {
            break;
        }
        let mut sector = [0; 512];
        device.read_at(at, &mut sector)?;
        let Some(records) = records_of(&sector) else { break };
        chain.push(link);
        empty += 1;
        for (index, (kind, first, sectors)) in records.into_iter().enumerate() {
            let number = logical.len() as u32 + 5;
            if sectors == 0 || EXTENDED.contains(&kind) || number > LOGICAL_MAX {
                continue;
            }
            let span = Span {
                start: at + first * width,
                size: sectors * width,
            };
            // The last two are no records by rights: what is in them counts only where it can be meant.
            if index < 2 || (first * width + span.size <= room && within.contains(span)) {
                logical.push(Partition::of_mbr(number, kind, span));
                empty = 0;
            }
        }
        let next = records
            .iter()
            .find(|(kind, _, sectors)| EXTENDED.contains(kind) && *sectors > 0);
        let Some((_, first, sectors)) = next else { break };
        (at, room) = (within.start + first * width, sectors * width);
    }
    Ok(())
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
    let (table, mut partitions, chain) = match (guid_table, record) {
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
            (Table::Gpt(table), partitions, Vec::new())
        }
        (_, Some(record)) if !protected && record.records.iter().flatten().any(|one| one.kind != 0) => {
            let (partitions, chain) = mbr_partitions(device, &record)?;
            (Table::Mbr, partitions, chain)
        }
        _ => (Table::None, Vec::new(), Vec::new()),
    };
    let whole = match table {
        Table::None => content(device, Span { start: 0, size })?,
        _ => None,
    };
    partitions.retain(|one: &Partition| {
        one.span
            .start
            .checked_add(one.span.size)
            .is_some_and(|end| end <= size)
    });
    for partition in partitions.iter_mut().filter(|one| !one.is_extended()) {
        // A beginning that cannot be read leaves the rest of the disk as it is.
        if let Ok(Some(found)) = content(device, partition.span) {
            partition.file_system = Some(found.kind);
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
        whole,
        chain,
        digest,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::Fake;

    const MIB: u64 = 1 << 20;

    /// A record: type, first sector and number of sectors in units of a MiB.
    type Record = (u8, u32, u32);

    /// A sector with up to four records.
    fn put(fake: &mut Fake, at: u64, records: &[Record]) {
        let unit = (MIB / u64::from(fake.sector())) as u32;
        let mut sector = vec![0; fake.sector() as usize];
        for (index, (kind, first, sectors)) in records.iter().enumerate() {
            let slot = &mut sector[446 + 16 * index..462 + 16 * index];
            slot[4] = *kind;
            slot[8..12].copy_from_slice(&first.wrapping_mul(unit).to_le_bytes());
            slot[12..16].copy_from_slice(&sectors.wrapping_mul(unit).to_le_bytes());
        }
        sector[510..512].copy_from_slice(&[0x55, 0xaa]);
        fake.write_at(at * MIB, &sector).unwrap();
    }

    #[test]
    fn chains_of_logical_partitions() {
        let none: Record = (0, 0, 0);
        // Links by their place, then the partitions that are expected: number, start and size in MiB; then how many links.
        type Links<'a> = &'a [(u64, &'a [Record])];
        type Expected<'a> = &'a [(u32, u64, u64)];
        let cases: [(&str, Links<'_>, Expected<'_>, usize); 9] = [
            (
                "three",
                &[
                    (10, &[(0x83, 1, 9), (0x05, 10, 20)]),
                    (20, &[(0x82, 1, 19), (0x0f, 30, 30)]),
                    (40, &[(0x83, 1, 29)]),
                ],
                &[(5, 11, 9), (6, 21, 19), (7, 41, 29)],
                3,
            ),
            (
                "a first link without a partition",
                &[(10, &[none, (0x85, 10, 20)]), (20, &[(0x83, 1, 19)])],
                &[(5, 21, 19)],
                2,
            ),
            ("no link", &[], &[], 0),
            (
                "a link to itself",
                &[(10, &[(0x83, 1, 9), (0x05, 0, 20)])],
                &[(5, 11, 9)],
                1,
            ),
            (
                "a ring",
                &[
                    (10, &[(0x83, 1, 9), (0x05, 10, 20)]),
                    (20, &[(0x83, 1, 9), (0x05, 0, 20)]),
                ],
                &[(5, 11, 9), (6, 21, 9)],
                2,
            ),
            (
                "a link outside",
                &[(10, &[(0x83, 1, 9), (0x05, 95, 20)]), (105, &[(0x83, 1, 1)])],
                &[(5, 11, 9)],
                1,
            ),
            (
                "a link far outside",
                &[(10, &[(0x83, 1, 9), (0x05, u32::MAX, u32::MAX)])],
                &[(5, 11, 9)],
                1,
            ),
            (
                "anything in the last records",
                &[(
                    10,
                    &[(0x83, 1, 9), none, (0x83, 90, 90), (0x77, 1 << 20, 1 << 20)],
                )],
                &[(5, 11, 9)],
                1,
            ),
            (
                "a partition beyond the disk has its number",
                &[(10, &[(0x83, 1, 900), (0x05, 10, 20)]), (20, &[(0x83, 1, 19)])],
                &[(6, 21, 19)],
                2,
            ),
        ];
        for sector in [512, 4096] {
            for kind in EXTENDED {
                for (name, links, expected, count) in cases {
                    let mut fake = Fake::new(128 * MIB, sector);
                    put(&mut fake, 0, &[(0x83, 1, 9), (kind, 10, 90), (0x83, 110, 10)]);
                    for (at, records) in links {
                        put(&mut fake, *at, records);
                    }
                    let found = look(&mut fake).unwrap();
                    let primary = [(1, 1, 9), (2, 10, 90), (3, 110, 10)];
                    let there: Vec<(u32, u64, u64)> = found
                        .partitions
                        .iter()
                        .map(|one| (one.number, one.span.start / MIB, one.span.size / MIB))
                        .collect();
                    assert_eq!(there, [&primary[..], expected].concat(), "{name}");
                    assert_eq!(found.chain.len(), count, "{name}");
                    // Who changes the chain changes the disk.
                    if let Some(link) = found.chain.last() {
                        fake.write_at(link.start, &[7]).unwrap();
                        assert_ne!(digest(&mut fake).unwrap(), found.digest, "{name}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_chain_ends_where_linux_ends_it() {
        let mut fake = Fake::new(4096 * MIB, 512);
        put(&mut fake, 0, &[(0x05, 1, 4000)]);
        for at in 0..1000 {
            put(
                &mut fake,
                1 + 2 * at,
                &[(0x83, 1, 1), (0x05, 2 * at as u32 + 2, 2)],
            );
        }
        let found = look(&mut fake).unwrap();
        assert_eq!(found.partitions.last().map(|one| one.number), Some(LOGICAL_MAX));
        for at in 0..1000 {
            put(&mut fake, 1 + 2 * at, &[(0, 0, 0), (0x05, 2 * at as u32 + 2, 2)]);
        }
        let found = look(&mut fake).unwrap();
        assert_eq!(
            (found.partitions.len(), found.chain.len()),
            (1, EMPTY_MAX as usize)
        );
    }
}
