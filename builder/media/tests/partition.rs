//! Partition tables, judged by sgdisk, sfdisk and the crate `gpt`.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::io::Cursor;
use std::path::Path;

use lycia_media::partition::Guid;
use lycia_media::partition::gpt::{Copy, GptError, LEGACY_BOOT, Partition, Table};
use lycia_media::partition::mbr::{KIND_EFI_SYSTEM, KIND_FAT32, KIND_LINUX, Mbr, Record};
use oracle::run;

const SECTORS: u64 = 40_000;

fn table() -> Table {
    let mut table = Table::new(Guid::derive(b"test", "disk"), 512, SECTORS);
    let partition = |number, kind, first, last, name: &str| Partition {
        number,
        kind,
        guid: Guid::derive(b"test", name),
        first,
        last,
        attributes: 0,
        name: name.to_owned(),
    };
    table.partitions = vec![
        partition(1, Guid::EFI_SYSTEM, 2048, 8191, "esp"),
        partition(2, Guid::LINUX_DATA, 8192, table.last_usable(), "root \u{fc}ber"),
        partition(14, Guid::BIOS_BOOT, 34, 2047, "bios"),
    ];
    table.partitions[2].attributes = LEGACY_BOOT;
    table
}

fn disk(table: &Table) -> Vec<u8> {
    let size = table.sector_size as usize;
    let mut disk = vec![0; table.sectors as usize * size];
    disk[..512].copy_from_slice(&Mbr::protective(table.sectors).encode());
    let primary = table.primary().unwrap();
    disk[size..size + primary.len()].copy_from_slice(&primary);
    let backup = table.backup().unwrap();
    let at = table.backup_sector() as usize * size;
    disk[at..].copy_from_slice(&backup);
    disk
}

fn on_file(disk: &[u8], job: impl FnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk.img");
    std::fs::write(&path, disk).unwrap();
    job(&path);
}

#[test]
fn reads_back_from_either_copy() {
    let table = table();
    let mut disk = disk(&table);
    let read = |disk: &[u8]| Table::read(&mut Cursor::new(disk), 512);
    assert_eq!(read(&disk).unwrap(), (table.clone(), Copy::Primary));
    disk[1024 + 40] ^= 1;
    assert_eq!(read(&disk).unwrap(), (table.clone(), Copy::Backup));
    let end = disk.len();
    disk[end - 450] ^= 1;
    let error = read(&disk).unwrap_err();
    assert!(error.to_string().contains("entries' checksum"), "{error}");
    assert!(error.to_string().contains("header's checksum"), "{error}");
}

#[test]
fn sgdisk_finds_no_problem() {
    let table = table();
    on_file(&disk(&table), |path| {
        let path = path.to_str().unwrap();
        let verdict = run("gdisk", "sgdisk", &["-v", path], b"");
        assert!(verdict.contains("No problems found"), "{verdict}");
        let printed = run("gdisk", "sgdisk", &["-p", path], b"");
        for expected in [
            "up to 128 entries",
            "  14              34            2047",
            "EF02  bios",
        ] {
            assert!(printed.contains(expected), "{printed}");
        }
        assert!(
            printed.to_lowercase().contains(&table.guid.to_string()),
            "{printed}"
        );
        let info = run("gdisk", "sgdisk", &["-i", "14", path], b"");
        assert!(info.contains("Attribute flags: 0000000000000004"), "{info}");
    });
}

#[test]
fn sfdisk_agrees() {
    let table = table();
    on_file(&disk(&table), |path| {
        let path = path.to_str().unwrap();
        run("fdisk", "sfdisk", &["-V", "-q", path], b"");
        let json = run("fdisk", "sfdisk", &["-J", path], b"").to_lowercase();
        for partition in &table.partitions {
            assert!(json.contains(&partition.guid.to_string()), "{json}");
            assert!(json.contains(&partition.kind.to_string()), "{json}");
        }
        assert!(json.contains("\"name\": \"root \u{fc}ber\""), "{json}");
    });
}

#[test]
fn sectors_of_4096_bytes() {
    let mut table = Table::new(Guid::derive(b"test", "disk"), 4096, 4096);
    assert_eq!(table.first_usable, 6);
    table.partitions.push(Partition {
        number: 1,
        kind: Guid::LINUX_DATA,
        guid: Guid::derive(b"test", "a"),
        first: 6,
        last: table.last_usable(),
        attributes: 0,
        name: String::new(),
    });
    let disk = disk(&table);
    assert_eq!(
        Table::read(&mut Cursor::new(&disk), 4096).unwrap(),
        (table.clone(), Copy::Primary)
    );
    let device = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(gpt::disk::LogicalBlockSize::Lb4096)
        .open_from_device(Cursor::new(disk))
        .unwrap();
    assert_eq!(device.partitions().len(), 1);
}

#[test]
fn the_crate_gpt_agrees() {
    let table = table();
    let found = gpt::GptConfig::new()
        .writable(false)
        .logical_block_size(gpt::disk::LogicalBlockSize::Lb512)
        .open_from_device(Cursor::new(disk(&table)))
        .unwrap();
    assert_eq!(found.guid().to_string(), table.guid.to_string());
    assert_eq!(found.partitions().len(), 3);
    for partition in &table.partitions {
        let other = &found.partitions()[&partition.number];
        assert_eq!(other.name, partition.name);
        assert_eq!(other.part_guid.to_string(), partition.guid.to_string());
        assert_eq!(
            (other.first_lba, other.last_lba),
            (partition.first, partition.last)
        );
        assert_eq!(other.flags, partition.attributes);
    }
    assert_eq!(found.primary_header().unwrap().first_usable, 34);
}

#[test]
fn tables_that_cannot_be_are_refused() {
    let refusal = |change: fn(&mut Table)| {
        let mut table = table();
        change(&mut table);
        table.primary().unwrap_err().to_string()
    };
    type Case = (fn(&mut Table), &'static str);
    let cases: [Case; 12] = [
        (|t| t.sector_size = 1000, "512 to 4096 bytes"),
        (|t| t.places = 4, "128 to 4096 places"),
        (|t| t.first_usable = 33, "inside the table"),
        (|t| t.sectors = 60, "too small"),
        (|t| t.partitions[0].number = 0, "from 1 to 128"),
        (|t| t.partitions[0].kind = Guid::NIL, "no type"),
        (|t| t.partitions[0].guid = Guid::NIL, "no GUID"),
        (|t| t.partitions[2].first = 33, "33 to 2047 are not within 34"),
        (|t| t.partitions[1].last += 1, "not within"),
        (
            |t| t.partitions[0].last = 8192,
            "partition 2: it shares sectors with partition 1",
        ),
        (
            |t| t.partitions[1].number = 1,
            "partition 1: the number comes twice",
        ),
        (
            |t| t.partitions[1].guid = t.partitions[0].guid,
            "has the GUID of partition 1",
        ),
    ];
    for (change, expected) in cases {
        let error = refusal(change);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let error = refusal(|t| t.partitions[0].name = "n".repeat(37));
    assert!(error.contains("longer than 36"), "{error}");
}

#[test]
fn damage_is_found_or_harmless() {
    let table = table();
    let whole = disk(&table);
    for at in (512..1024 + 14 * 128).step_by(3) {
        let mut disk = whole.clone();
        disk[at] ^= 1 << (at % 8);
        match Table::read(&mut Cursor::new(&disk), 512) {
            Ok((read, _)) => assert_eq!(read, table, "byte {at}"),
            Err(error) => panic!("byte {at}: {error}"),
        }
    }
    for len in [0, 512, 1024, 1536, 20_000] {
        assert!(matches!(
            Table::read(&mut Cursor::new(&whole[..len]), 512),
            Err(GptError::NoCopy { .. })
        ));
    }
}

#[test]
fn sfdisk_reads_an_mbr() {
    let mut mbr = Mbr::new();
    mbr.signature = 0x1234_5678;
    let record = |active, kind, first, sectors| {
        Some(Record {
            active,
            kind,
            first,
            sectors,
        })
    };
    mbr.records = [
        record(true, KIND_FAT32, 2048, 8192),
        record(false, KIND_LINUX, 10_240, 20_000),
        record(false, KIND_EFI_SYSTEM, 30_240, 100),
        None,
    ];
    mbr.check().unwrap();
    let mut disk = vec![0; 40_000 * 512];
    disk[..512].copy_from_slice(&mbr.encode());
    on_file(&disk, |path| {
        let path = path.to_str().unwrap();
        run("fdisk", "sfdisk", &["-V", "-q", path], b"");
        let dump = run("fdisk", "sfdisk", &["-d", path], b"");
        for expected in [
            "label-id: 0x12345678",
            "start=        2048, size=        8192, type=c, bootable",
            "start=       10240, size=       20000, type=83",
            "start=       30240, size=         100, type=ef",
        ] {
            assert!(dump.contains(expected), "{dump}");
        }
    });
}
