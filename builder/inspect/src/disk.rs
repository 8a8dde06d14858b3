//! Disk images: MBR, GPT, what is in the partitions; and qcow2.

use std::io::Cursor;

use lycia_media::partition::{Guid, gpt, mbr};
use lycia_media::qcow2 as qcow;
use lycia_tree::Content;

use crate::cell::{Cell, Known, Place, recognise};
use crate::report::Part;
use crate::{boot, source, volumes};

/// Names of types of partitions (UEFI specification, table 5.7; Discoverable Partitions Specification).
const KINDS: &[(Guid, &str)] = &[
    (Guid::EFI_SYSTEM, "EFI system partition"),
    (Guid::BIOS_BOOT, "BIOS boot partition"),
    (Guid::BASIC_DATA, "basic data"),
    (Guid::LINUX_DATA, "Linux data"),
    (Guid::LINUX_SWAP, "Linux swap"),
    (Guid::LINUX_LVM, "Linux LVM"),
    (Guid::LINUX_LUKS, "LUKS"),
    (Guid::LINUX_EXTENDED_BOOT, "Linux extended boot"),
    (Guid::LINUX_ROOT_X86_64, "Linux root (x86-64)"),
    (Guid::LINUX_ROOT_AARCH64, "Linux root (aarch64)"),
    (Guid::LINUX_ROOT_RISCV64, "Linux root (riscv64)"),
    (Guid::PREP_BOOT, "PReP boot"),
];

/// Partitions with nothing but zeros are looked at as far as this.
const LOOK: u64 = 4 << 20;

fn sector(bytes: &[u8]) -> Option<&[u8; 512]> {
    bytes.first_chunk()
}

/// Whether bytes begin with an MBR that has records.
pub fn has_records(bytes: &[u8]) -> bool {
    let Some(table) = sector(bytes).and_then(|sector| mbr::Mbr::decode(sector).ok()) else {
        return false;
    };
    table.records.iter().flatten().any(|record| {
        record.kind != 0 && record.sectors > 0 && u64::from(record.first) * 512 < bytes.len() as u64
    })
}

/// Whether there is the backup of a GPT whose primary copy may be lost.
pub fn has_backup(bytes: &[u8]) -> bool {
    let last = |size: usize| {
        bytes
            .len()
            .checked_sub(size)
            .is_some_and(|at| bytes[at..].starts_with(b"EFI PART"))
    };
    bytes.len().is_multiple_of(512) && (last(512) || last(4096))
}

/// A partition, for what reads it.
pub struct Found {
    pub name: String,
    pub kind: String,
    pub start: u64,
    pub len: u64,
}

/// A disk image.
pub fn read(cell: &mut Cell<'_>, place: &Place, bytes: &Content, depth: u32, part: &mut Part) {
    let found = tables(cell, place, bytes, part);
    partitions(cell, place, bytes, depth, part, found);
}

/// Reads what is in partitions.
pub fn partitions(
    cell: &mut Cell<'_>,
    place: &Place,
    bytes: &Content,
    depth: u32,
    part: &mut Part,
    found: Vec<Found>,
) {
    for one in found {
        cell.region(place, one.start, one.len, &one.name);
        let below = place.below(&one.name, one.start);
        let Some(content) = volumes::range(bytes, one.start, one.len) else {
            cell.cut(
                place,
                one.start,
                format!("{} runs over the end of the disk", one.name),
            );
            continue;
        };
        let recognised = if one.kind == "BIOS boot partition" {
            boot::core(cell, &below, content.bytes())
        } else {
            cell.part(below.clone(), &content, depth + 1)
        };
        part.parts.push(recognised.unwrap_or_else(|| {
            let head = &content.bytes()[..content.len().min(LOOK) as usize];
            let zeros = head.iter().all(|&byte| byte == 0);
            Part {
                place: below.name.clone(),
                format: if zeros { "zeros" } else { "unknown" }.to_owned(),
                offset: below.base.filter(|_| !below.unpacked),
                size: content.len(),
                ..Part::default()
            }
        }));
    }
}

/// Reads and checks the tables, and says what the partitions are.
pub fn tables(cell: &mut Cell<'_>, place: &Place, bytes: &Content, part: &mut Part) -> Vec<Found> {
    let all = bytes.bytes();
    let mut found = Vec::new();
    let mut shown = Vec::new();
    let protective = match sector(all).map(mbr::Mbr::decode) {
        Some(Ok(table)) => {
            cell.region(place, 0, 512, "MBR");
            boot::sector(cell, place, all, &table.code, part);
            if table.signature != 0 {
                part.fact("mbr-signature", format!("{:08x}", table.signature));
            }
            if let Err(error) = table.check() {
                // A hybrid MBR names what the GPT does; those of the protective record are no overlap that matters.
                if !table.is_protective() {
                    cell.fault(place, 446, error.to_string());
                }
            }
            let active = table.records.iter().flatten().filter(|record| record.active);
            let active = active.count();
            if active > 1 {
                cell.fault(
                    place,
                    446,
                    format!("{active} records of the MBR are active: boot code starts one"),
                );
            }
            let unit = match table.is_protective() {
                true => 512,
                false => unit(&table, all),
            };
            if unit != 512 {
                part.fact("sector-size", unit);
            }
            let mut records = Vec::new();
            let mut extended = Vec::new();
            for (number, record) in table.records.iter().enumerate() {
                let Some(record) = record else { continue };
                records.push(format!(
                    "{}: type {:02x}, sectors {}+{}{}",
                    number + 1,
                    record.kind,
                    record.first,
                    record.sectors,
                    if record.active { ", active" } else { "" }
                ));
                let (start, len) = (u64::from(record.first) * unit, u64::from(record.sectors) * unit);
                if record.kind == 0 || record.kind == mbr::KIND_PROTECTIVE {
                    continue;
                }
                if start + len > bytes.len() {
                    cell.fault(
                        place,
                        446 + 16 * number as u64,
                        format!("MBR record {} runs over the end of the disk", number + 1),
                    );
                }
                if !table.is_protective() && is_extended(record.kind) {
                    extended.push(start);
                } else if !table.is_protective() {
                    found.push(Found {
                        name: format!("partition {}", number + 1),
                        kind: format!("type {:02x}", record.kind),
                        start,
                        len,
                    });
                }
            }
            let mut number = 5;
            for start in extended {
                logical(
                    cell,
                    place,
                    all,
                    (start, unit),
                    &mut number,
                    &mut records,
                    &mut found,
                );
            }
            part.fact("mbr", records);
            shown = hybrid(&table);
            table.is_protective()
        }
        Some(Err(error)) => {
            cell.cut(place, 510, error.to_string());
            true
        }
        None => return found,
    };
    let signature = |at: usize| all.get(at..).is_some_and(|rest| rest.starts_with(b"EFI PART"));
    let sector_size: u32 = match (signature(512), signature(4096)) {
        (true, _) => 512,
        (false, true) => 4096,
        _ if has_backup(all) && !signature(all.len() - 512) => 4096,
        _ if has_backup(all) => 512,
        _ if protective => {
            cell.cut(place, 512, "a protective MBR, but no GPT");
            return found;
        }
        _ => return found,
    };
    let copies = match gpt::Table::read_copies(&mut Cursor::new(all), sector_size) {
        Ok(copies) => copies,
        Err(error) => {
            cell.cut(place, u64::from(sector_size), error.to_string());
            return found;
        }
    };
    let wide = u64::from(sector_size);
    let end = bytes.len() / wide * wide;
    let table = match copies {
        [Ok(primary), Ok(backup)] => {
            if (&primary.partitions, primary.guid) != (&backup.partitions, backup.guid) {
                cell.fault(place, wide, "the two copies of the GPT are not the same");
            }
            if primary.sectors * wide != end {
                cell.fault(
                    place,
                    wide + 32,
                    format!(
                        "the GPT is that of a disk of {} bytes, but there are {}",
                        primary.sectors * wide,
                        bytes.len()
                    ),
                );
            }
            primary
        }
        [Ok(primary), Err(error)] => {
            cell.fault(place, (primary.sectors - 1) * wide, error.to_string());
            primary
        }
        [Err(error), Ok(backup)] => {
            cell.fault(place, wide, error.to_string());
            backup
        }
        [Err(primary), Err(backup)] => {
            cell.cut(place, wide, primary.to_string());
            cell.fault(place, end.saturating_sub(wide), backup.to_string());
            return found;
        }
    };
    // Media for CDs do without: no program writes to those.
    if !protective && part.format == Known::Disk.name() {
        cell.fault(
            place,
            446,
            "the MBR has no record that protects the GPT: Linux and others do not look for one then",
        );
    }
    if let Err(error) = table.check() {
        cell.fault(place, wide, error.to_string());
    }
    let entries = table.entry_sectors() * wide;
    cell.region(place, wide, wide, "GPT header");
    cell.region(place, 2 * wide, entries, "GPT entries");
    let last = table.sectors.saturating_sub(1) * wide;
    cell.region(
        place,
        last.saturating_sub(entries),
        entries,
        "backup of the GPT's entries",
    );
    cell.region(place, last, wide, "backup of the GPT's header");
    part.fact("gpt", table.guid.to_string());
    part.fact("sector-size", sector_size);
    let mut lines = Vec::new();
    found.clear();
    for one in &table.partitions {
        let kind = KINDS
            .iter()
            .find(|(guid, _)| *guid == one.kind)
            .map_or_else(|| one.kind.to_string(), |(_, name)| (*name).to_owned());
        lines.push(format!(
            "{}: {kind}, sectors {} to {}, {}, attributes {:#x}, name \"{}\"",
            one.number, one.first, one.last, one.guid, one.attributes, one.name
        ));
        found.push(Found {
            name: format!("partition {}", one.number),
            kind,
            start: one.first.saturating_mul(wide),
            len: (one.last - one.first).saturating_add(1).saturating_mul(wide),
        });
    }
    part.fact("partitions", lines);
    for (number, record) in shown {
        let (first, sectors) = (u64::from(record.first), u64::from(record.sectors));
        let one = table
            .partitions
            .iter()
            .find(|one| one.first == first && (one.last - one.first).checked_add(1) == Some(sectors));
        if one.is_none() {
            cell.fault(
                place,
                446 + 16 * number as u64,
                format!(
                    "MBR record {} has the sectors {first}+{sectors}, which are no partition of the GPT",
                    number + 1
                ),
            );
        }
    }
    found
}

/// Bytes of the sectors that the records of an MBR count in, which nothing says: 4096 where something that is known begins there
/// only then.
fn unit(table: &mbr::Mbr, all: &[u8]) -> u64 {
    let begins = |unit: u64| {
        let used = table.records.iter().flatten().filter(|record| record.kind != 0);
        used.filter_map(|record| usize::try_from(u64::from(record.first) * unit).ok())
            .filter_map(|start| all.get(start..))
            .any(|rest| recognise(rest).is_some())
    };
    match !begins(512) && begins(4096) {
        true => 4096,
        false => 512,
    }
}

/// Whether a record is of a partition that holds others.
fn is_extended(kind: u8) -> bool {
    matches!(kind, 0x05 | 0x0f | 0x85)
}

/// Logical partitions that are looked at.
const LOGICAL: u32 = 256;

/// Follows the chain of tables in the extended partition at byte `first`: each has a partition, counted from itself, and says where
/// the next table is, counted from the first.
fn logical(
    cell: &mut Cell<'_>,
    place: &Place,
    all: &[u8],
    (first, unit): (u64, u64),
    number: &mut u32,
    records: &mut Vec<String>,
    found: &mut Vec<Found>,
) {
    let mut at = first;
    loop {
        let rest = usize::try_from(at).ok().and_then(|at| all.get(at..));
        let table = rest.and_then(sector).map(mbr::Mbr::decode);
        let Some(Ok(table)) = table else {
            return cell.cut(
                place,
                at,
                "no table of logical partitions is here, though one is named",
            );
        };
        cell.region(place, at, 512, "table of a logical partition");
        if let Some(record) = table.records[0].filter(|record| record.kind != 0) {
            let (start, len) = (
                at.saturating_add(u64::from(record.first) * unit),
                u64::from(record.sectors) * unit,
            );
            records.push(format!(
                "{number}: type {:02x}, sectors {}+{}{}, logical",
                record.kind,
                start / unit,
                record.sectors,
                if record.active { ", active" } else { "" }
            ));
            found.push(Found {
                name: format!("partition {number}"),
                kind: format!("type {:02x}", record.kind),
                start,
                len,
            });
            *number += 1;
        }
        let Some(next) = table.records[1].filter(|record| is_extended(record.kind)) else {
            return;
        };
        let next = first.saturating_add(u64::from(next.first) * unit);
        if next <= at || *number > LOGICAL {
            return cell.cut(
                place,
                at,
                "the chain of logical partitions goes back or has no end",
            );
        }
        at = next;
    }
}

/// The records of a hybrid MBR besides the protective one, by their index: they show partitions that the GPT has.
fn hybrid(table: &mbr::Mbr) -> Vec<(usize, mbr::Record)> {
    let records = table.records.iter().enumerate();
    let shown = records.filter_map(|(number, record)| Some((number, (*record)?)));
    shown
        .filter(|(_, record)| {
            record.kind != 0 && record.kind != mbr::KIND_PROTECTIVE && table.is_protective()
        })
        .collect()
}

/// A disk in a qcow2 image.
pub fn qcow2(cell: &mut Cell<'_>, place: &Place, bytes: &Content, depth: u32, part: &mut Part) {
    let disk = match qcow::Disk::open(bytes.bytes()) {
        Ok(disk) => disk,
        // Whole it may be, nevertheless.
        Err(qcow::ReadError::Unsupported(why)) => {
            cell.partial(place);
            return part.fact("not-read", why);
        }
        Err(error) => return cell.cut(place, 0, error.to_string()),
    };
    part.fact("version", disk.version);
    part.fact("disk-size", disk.size);
    part.fact("cluster-size", disk.cluster_size);
    if disk.snapshots > 0 {
        part.fact("snapshots-not-read", disk.snapshots);
    }
    if disk.size > cell.limits.unpacked {
        return cell.cut(
            place,
            24,
            format!("a disk of {} bytes is more than is read", disk.size),
        );
    }
    let mut store = source::Store::default();
    let mut data = 0u64;
    let limit = cell.limits.unpacked;
    if !cell.spend(disk.size) {
        return cell.cut(place, 24, "with what else was read its disk is more than is read");
    }
    let unpacked = disk.unpack(&mut |at, cluster, _| {
        data += cluster.len() as u64;
        if data > limit {
            return Err(std::io::Error::other("it holds more than its disk has"));
        }
        store.put(at, cluster)
    });
    if let Err(error) = unpacked {
        let at = match &error {
            qcow::ReadError::Malformed { at, .. } => *at,
            _ => 0,
        };
        return cell.cut(place, at, error.to_string());
    }
    part.fact("data", data);
    for (at, what) in disk.check_counts() {
        cell.fault(place, at, what);
    }
    let raw = match store.finish(disk.size) {
        Ok(raw) => raw,
        Err(error) => return cell.cut(place, 0, error.to_string()),
    };
    let inner = cell.inside(place, &raw);
    part.parts.extend(cell.part(inner, &raw, depth + 1));
}
