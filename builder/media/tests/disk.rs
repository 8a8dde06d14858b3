//! Whole disks, judged by sgdisk, sfdisk, fsck.vfat, e2fsck, blkid and mtools.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;

use lycia_media::disk::{Content, DiskError, Layout, Partition, Plan, Raw, Shown, Size, Table};
use lycia_media::ext4::{self, Existing, Journal};
use lycia_media::fat::{self, Width};
use lycia_media::partition::Guid;
use lycia_media::partition::gpt::{self, GROW_FILE_SYSTEM, LEGACY_BOOT};
use lycia_media::partition::mbr::{KIND_FAT32, Mbr};
use lycia_tree::{Content as Bytes, Metadata, Node, Timestamp, Tree};
use oracle::{TIME, everything, put, root_owned, run};
use tempfile::NamedTempFile;

const MIB: u64 = 1 << 20;

fn guid(purpose: &str) -> Guid {
    Guid::derive(b"test", purpose)
}

fn fat(label: &str) -> fat::Volume {
    fat::Volume {
        label: Some(label.to_owned()),
        serial: 0x1234_5678,
        time: Timestamp::from_seconds(TIME),
        width: None,
        size: 0,
    }
}

fn ext4(label: &str) -> ext4::Volume {
    ext4::Volume {
        label: label.as_bytes().to_vec(),
        ..ext4::Volume::new(0, guid(label), Timestamp::from_seconds(TIME))
    }
}

fn boot_files() -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, Timestamp::from_seconds(TIME)));
    put(
        &mut tree,
        "/EFI/BOOT/BOOTX64.EFI",
        root_owned(0o644),
        Node::Regular(Bytes::from(vec![0x4d; 300_000])),
    );
    tree
}

/// A disk that boots with BIOS and UEFI.
fn ordinary<'l>(esp: &'l Tree, root: &'l Tree) -> Layout<'l> {
    let mut layout = Layout::new(guid("disk"));
    layout.size = Some(200 * MIB);
    let mut bios = Partition::new("bios", Guid::BIOS_BOOT, guid("bios"), Size::Bytes(MIB));
    bios.content = Content::Bytes(Bytes::from(vec![0xc3; 40_000]));
    bios.number = Some(14);
    let boot = Partition {
        content: Content::Fat {
            tree: esp,
            volume: fat("ESP"),
        },
        ..Partition::new("esp", Guid::EFI_SYSTEM, guid("esp"), Size::Bytes(64 * MIB))
    };
    let root = Partition {
        attributes: GROW_FILE_SYSTEM,
        content: Content::Ext4 {
            tree: root,
            volume: ext4("root"),
        },
        ..Partition::new("root \u{fc}", Guid::LINUX_ROOT_X86_64, guid("root"), Size::Rest)
    };
    layout.partitions = vec![bios, boot, root];
    layout
}

fn written(layout: &Layout<'_>) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    if layout.existing == Existing::Unknown {
        let noise: Vec<u8> = (0..1u32 << 18)
            .flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes())
            .collect();
        for _ in 0..layout.size.unwrap().div_ceil(MIB) {
            file.write_all(&noise).unwrap();
        }
        file.as_file().set_len(layout.size.unwrap()).unwrap();
    }
    let plan = Plan::new(layout).unwrap();
    let mut progress = 0;
    plan.write(file.as_file_mut(), &mut |bytes| progress += bytes)
        .unwrap();
    assert!(progress > 0 || layout.partitions.is_empty());
    assert_eq!(file.as_file().metadata().unwrap().len(), plan.size());
    file
}

fn part(disk: &NamedTempFile, range: &std::ops::Range<u64>) -> NamedTempFile {
    let mut source = std::fs::File::open(disk.path()).unwrap();
    source.seek(SeekFrom::Start(range.start)).unwrap();
    let mut part = NamedTempFile::new().unwrap();
    std::io::copy(&mut source.take(range.end - range.start), &mut part).unwrap();
    part
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// The disk as sfdisk dumps it, as far as a layout has a say: a line per partition, without the file's name.
fn dump(disk: &Path) -> Vec<String> {
    let dump = run("fdisk", "sfdisk", &["-d", text(disk)], b"");
    dump.lines()
        .filter(|line| !line.starts_with("device:") && !line.is_empty())
        .map(|line| match line.split_once(" : ") {
            Some((name, rest)) => {
                // A `p` comes between a name that ends in a digit and the number.
                let number = name.trim_start_matches(text(disk)).trim_start_matches('p').trim();
                let fields: Vec<String> = rest
                    .split(',')
                    .map(|field| field.trim().to_owned())
                    .filter(|field| !field.starts_with("uuid="))
                    .map(|field| field.split_ascii_whitespace().collect())
                    .collect();
                format!("{number}: {}", fields.join(","))
            }
            None => line.to_owned(),
        })
        .filter(|line| !line.starts_with("label-id:"))
        .collect()
}

#[test]
fn an_ordinary_disk_holds_what_it_says() {
    let (esp, root) = (boot_files(), everything());
    for sector_size in [512, 4096] {
        for existing in [Existing::Zeros, Existing::Unknown] {
            let mut layout = ordinary(&esp, &root);
            layout.sector_size = sector_size;
            layout.existing = existing;
            if sector_size == 4096 {
                // FAT32 of 64 MiB has too few clusters with such sectors.
                layout.partitions[1].size = Size::Bytes(40 * MIB);
            }
            let disk = written(&layout);
            // sfdisk takes no size of sectors yet.
            let size = sector_size.to_string();
            let verdict = run("fdisk", "fdisk", &["-b", &size, text(disk.path())], b"v\nq\n");
            assert!(verdict.contains("No errors detected."), "{verdict}");
            if sector_size == 512 {
                let verdict = run("gdisk", "sgdisk", &["-v", text(disk.path())], b"");
                assert!(verdict.contains("No problems found"), "{verdict}");
            }
            let plan = Plan::new(&layout).unwrap();
            let placed = plan.partitions();
            assert_eq!(
                placed.iter().map(|placed| placed.number).collect::<Vec<_>>(),
                [14, 1, 2]
            );
            let volume = part(&disk, &placed[1].bytes);
            run("dosfstools", "fsck.vfat", &["-n", text(volume.path())], b"");
            let volume = part(&disk, &placed[2].bytes);
            run("e2fsprogs", "e2fsck", &["-fn", text(volume.path())], b"");
            let found = run(
                "util-linux",
                "blkid",
                &["-p", "-o", "export", text(volume.path())],
                b"",
            );
            assert!(found.contains("LABEL=root\n"), "{found}");
            let mut start = [0; 4];
            let mut file = std::fs::File::open(disk.path()).unwrap();
            file.seek(SeekFrom::Start(placed[0].bytes.start)).unwrap();
            file.read_exact(&mut start).unwrap();
            assert_eq!(start, [0xc3; 4]);
            let (table, copy) = gpt::Table::read(&mut file, sector_size).unwrap();
            assert_eq!(copy, gpt::Copy::Primary);
            assert_eq!(Some(&table), plan.gpt());
        }
    }
}

#[test]
fn the_same_layout_gives_the_same_bytes() {
    let (esp, root) = (boot_files(), everything());
    let layout = ordinary(&esp, &root);
    let bytes = |layout: &Layout<'_>| std::fs::read(written(layout).path()).unwrap();
    assert!(bytes(&layout) == bytes(&layout));
}

#[test]
fn files_are_sparse() {
    use std::os::unix::fs::MetadataExt;
    let (esp, root) = (boot_files(), everything());
    let mut layout = ordinary(&esp, &root);
    layout.size = Some(50 << 30);
    let disk = written(&layout);
    let used = disk.as_file().metadata().unwrap().blocks() * 512;
    assert!(used < 16 * MIB, "{used}");
}

/// A layout in the language of sfdisk, and the same as a layout. The sizes and places are those of chimera-live's images.
fn compare(script: &str, layout: &Layout<'_>) {
    let disk = written(layout);
    let theirs = NamedTempFile::new().unwrap();
    theirs.as_file().set_len(layout.size.unwrap()).unwrap();
    run("fdisk", "sfdisk", &["-q", text(theirs.path())], script.as_bytes());
    assert_eq!(dump(disk.path()), dump(theirs.path()), "{script}");
}

const SECTOR: u64 = 512;

/// The boot loader partitions of a board, then `/boot` and the root, as chimera-live lays them out.
fn board<'l>(
    boot: &'l Tree,
    root: &'l Tree,
    loaders: &[(&str, Guid, u64, u64)],
    boot_kind: Guid,
) -> Layout<'l> {
    let mut layout = Layout::new(guid("disk"));
    layout.size = Some(600 * MIB);
    layout.first_usable = loaders.first().map(|loader| loader.2);
    for &(name, kind, start, sectors) in loaders {
        let mut partition = Partition::new(name, kind, guid(name), Size::Bytes(sectors * SECTOR));
        partition.start = Some(start * SECTOR);
        layout.partitions.push(partition);
        layout.raw.push(Raw {
            name: "boot loader",
            offset: start * SECTOR,
            bytes: Bytes::from(vec![0xb0; 200_000]),
            room: Some(sectors * SECTOR),
        });
    }
    let end = loaders.last().map_or(0, |loader| loader.2 + loader.3);
    layout.partitions.push(Partition {
        start: Some(end * SECTOR),
        attributes: LEGACY_BOOT,
        content: Content::Fat {
            tree: boot,
            volume: fat::Volume {
                width: Some(Width::Fat16),
                ..fat("BOOT")
            },
        },
        ..Partition::new("boot", boot_kind, guid("boot"), Size::Bytes(256 * MIB))
    });
    layout.partitions.push(Partition {
        content: Content::Ext4 {
            tree: root,
            volume: ext4::Volume {
                journal: Journal::None,
                ..ext4("root")
            },
        },
        ..Partition::new("root", Guid::LINUX_DATA, guid("root"), Size::Rest)
    });
    layout
}

#[test]
fn rockchip_boards() {
    let (boot, root) = (boot_files(), everything());
    let reserved: Guid = "8da63339-0007-60c0-c436-083ac8230908".parse().unwrap();
    let loaders = [("spl", reserved, 64, 16_320), ("uboot", reserved, 16_384, 16_384)];
    // The first two say no type of /boot, the others that it is one.
    for (kind, said) in [
        (Guid::LINUX_DATA, ""),
        (
            Guid::LINUX_EXTENDED_BOOT,
            "type=BC13C2FF-59E6-4262-A352-B275FD6F7172, ",
        ),
    ] {
        let layout = board(&boot, &root, &loaders, kind);
        compare(
            &format!(
                "label: gpt\nunit: sectors\nfirst-lba: 64\n\
                 name=spl, start=64, size=16320, type=8DA63339-0007-60C0-C436-083AC8230908\n\
                 name=uboot, start=16384, size=16384, type=8DA63339-0007-60C0-C436-083AC8230908\n\
                 name=boot, start=32768, size=256MiB, {said}attrs=\"LegacyBIOSBootable\"\n\
                 name=root\n"
            ),
            &layout,
        );
    }
}

#[test]
fn hifive_unmatched() {
    let (boot, root) = (boot_files(), everything());
    let spl: Guid = "5b193300-fc78-40cd-8002-e86c45580b47".parse().unwrap();
    let uboot: Guid = "2e54b353-1271-4842-806f-e436d6af6985".parse().unwrap();
    let loaders = [("spl", spl, 34, 2048), ("uboot", uboot, 2082, 14_302)];
    compare(
        "label: gpt\nunit: sectors\nfirst-lba: 34\n\
         name=spl, start=34, size=2048, type=5B193300-FC78-40CD-8002-E86C45580B47\n\
         name=uboot, start=2082, size=14302, type=2E54B353-1271-4842-806F-E436D6AF6985\n\
         name=boot, start=16384, size=256MiB, type=BC13C2FF-59E6-4262-A352-B275FD6F7172, \
         attrs=\"LegacyBIOSBootable\"\nname=root\n",
        &board(&boot, &root, &loaders, Guid::LINUX_EXTENDED_BOOT),
    );
}

#[test]
fn raspberry_pi() {
    let (boot, root) = (boot_files(), everything());
    let mut layout = board(&boot, &root, &[], Guid::EFI_SYSTEM);
    layout.table = Table::Mbr;
    layout.signature = 0xdead_beef;
    layout.partitions[0].start = None;
    layout.partitions[0].mbr_kind = 0x0b;
    layout.partitions[0].active = true;
    compare(
        "label: dos\nunit: sectors\nstart=2048, size=256MiB, bootable, type=b\ntype=83\n",
        &layout,
    );
    let disk = written(&layout);
    let found = run(
        "util-linux",
        "blkid",
        &["-p", "-o", "export", text(disk.path())],
        b"",
    );
    assert!(found.contains("PTUUID=deadbeef\n"), "{found}");
}

#[test]
fn hybrid_tables() {
    let (esp, root) = (boot_files(), everything());
    let mut layout = ordinary(&esp, &root);
    layout.table = Table::Hybrid(vec![Shown {
        number: 1,
        kind: KIND_FAT32,
        active: true,
    }]);
    layout.signature = 7;
    let disk = written(&layout);
    let verdict = run("gdisk", "sgdisk", &["-v", text(disk.path())], b"");
    assert!(verdict.contains("No problems found"), "{verdict}");
    let bytes = std::fs::read(disk.path()).unwrap();
    let mbr = Mbr::decode(bytes[..512].try_into().unwrap()).unwrap();
    let plan = Plan::new(&layout).unwrap();
    let shown = mbr.records[1].unwrap();
    assert_eq!(u64::from(shown.first), plan.partitions()[1].sectors.start);
    assert_eq!((shown.kind, shown.active), (KIND_FAT32, true));
    assert_eq!(mbr.records[0].unwrap().sectors, shown.first - 1);
}

#[test]
fn a_hybrid_mbr_is_that_of_sgdisk() {
    let (esp, root) = (boot_files(), everything());
    // Numbers in the GPT, and the types that sgdisk gives them in the MBR.
    let (firmware, system) = ((1, 0xef), (2, 0x83));
    for shown in [
        vec![firmware],
        vec![system],
        vec![firmware, system],
        vec![system, firmware],
    ] {
        let mut layout = ordinary(&esp, &root);
        layout.table = Table::Gpt {
            active_placeholder: false,
        };
        // sgdisk adds its records to the same GPT.
        let judge = written(&layout);
        let numbers: Vec<String> = shown.iter().map(|(number, _)| format!("{number}")).collect();
        run(
            "gdisk",
            "sgdisk",
            &["--hybrid", &numbers.join(":"), text(judge.path())],
            b"",
        );
        let records = shown.iter().map(|&(number, kind)| Shown {
            number,
            kind,
            active: false,
        });
        layout.table = Table::Hybrid(records.collect());
        let disk = written(&layout);
        let sector = |file: &NamedTempFile| std::fs::read(file.path()).unwrap()[446..512].to_vec();
        assert_eq!(sector(&disk), sector(&judge), "{numbers:?}");
        let printed = run("gdisk", "sgdisk", &["-p", text(disk.path())], b"");
        assert!(printed.contains("Number"), "{printed}");
    }
}

#[test]
fn a_disk_can_be_as_small_as_its_parts() {
    let (esp, root) = (boot_files(), everything());
    let mut layout = ordinary(&esp, &root);
    layout.size = None;
    assert!(matches!(
        Plan::new(&layout),
        Err(DiskError::Partition { number: 2, .. })
    ));
    layout.partitions[2].size = Size::Bytes(20 * MIB);
    let disk = written(&layout);
    // 1 MiB in front and one for the backup of the table.
    assert_eq!(
        disk.as_file().metadata().unwrap().len(),
        (1 + 1 + 64 + 20 + 1) * MIB
    );
    run("gdisk", "sgdisk", &["-v", text(disk.path())], b"");
}

#[test]
fn a_larger_disk_is_grown_into() {
    let (esp, root) = (boot_files(), everything());
    let layout = ordinary(&esp, &root);
    let disk = written(&layout);
    disk.as_file().set_len(400 * MIB).unwrap();
    let path = text(disk.path());
    // As growpart does: the backup to the end, the last partition up to it, then the file system.
    run("gdisk", "sgdisk", &["-e", path], b"");
    run("fdisk", "sfdisk", &["-q", "-N", "2", path], b", +\n");
    let verdict = run("gdisk", "sgdisk", &["-v", path], b"");
    assert!(verdict.contains("No problems found"), "{verdict}");
    let mut file = std::fs::File::open(disk.path()).unwrap();
    let (table, _) = gpt::Table::read(&mut file, 512).unwrap();
    let last = table
        .partitions
        .iter()
        .find(|partition| partition.number == 2)
        .unwrap();
    assert!(last.last > 398 * MIB / SECTOR);
    let volume = part(&disk, &(last.first * SECTOR..(last.last + 1) * SECTOR));
    run("e2fsprogs", "resize2fs", &[text(volume.path())], b"");
    run("e2fsprogs", "e2fsck", &["-fn", text(volume.path())], b"");
}

#[test]
fn what_is_kept_stays_and_what_is_emptied_shows_nothing() {
    let (esp, root) = (boot_files(), everything());
    let layout = ordinary(&esp, &root);
    let disk = written(&layout);
    let plan = Plan::new(&layout).unwrap();
    let before = std::fs::read(disk.path()).unwrap();
    let mut second = layout.clone();
    second.existing = Existing::Unknown;
    second.partitions[1].content = Content::Keep;
    second.partitions[2].content = Content::Empty;
    let mut file = disk.reopen().unwrap();
    Plan::new(&second).unwrap().write(&mut file, &mut |_| ()).unwrap();
    let after = std::fs::read(disk.path()).unwrap();
    let kept = &plan.partitions()[1].bytes;
    let range = kept.start as usize..kept.end as usize;
    assert!(before[range.clone()] == after[range]);
    let emptied = part(&disk, &plan.partitions()[2].bytes);
    let found = oracle::output("util-linux", "blkid", &["-p", text(emptied.path())], b"");
    assert!(
        found.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&found.stdout)
    );
}

#[test]
fn impossible_layouts_are_refused() {
    let (esp, root) = (boot_files(), everything());
    type Change = fn(&mut Layout<'_>);
    let cases: [(&str, Change); 16] = [
        ("sectors have 512 or 4096", |l| l.sector_size = 1024),
        ("no number of whole sectors", |l| l.size = Some(1_000_001)),
        ("no power of two", |l| l.alignment = 3 << 20),
        ("boot code do not fit", |l| l.boot_code = &[0; 441]),
        ("is taken or not from 1", |l| l.partitions[1].number = Some(14)),
        ("is taken or not from 1", |l| l.partitions[1].number = Some(129)),
        ("a size of 0 bytes", |l| l.partitions[1].size = Size::Bytes(0)),
        ("do not lie within", |l| {
            l.partitions[1].size = Size::Bytes(1 << 40)
        }),
        ("do not lie within", |l| l.partitions[1].start = Some(0)),
        ("inside a sector", |l| l.partitions[1].start = Some(MIB + 1)),
        ("shares sectors with", |l| l.partitions[1].start = Some(MIB)),
        ("are to be written to", |l| {
            l.partitions[0].content = Content::Bytes(Bytes::from(vec![0; 2 << 20]));
        }),
        ("is too small for its files", |l| {
            l.partitions[2].size = Size::Bytes(64 << 10);
        }),
        ("would lie on the partition table", |l| {
            l.raw.push(Raw {
                name: "loader",
                offset: 512,
                bytes: Bytes::from("x"),
                room: None,
            });
        }),
        ("there is room for 3", |l| {
            l.raw.push(Raw {
                name: "loader",
                offset: 64 * 512,
                bytes: Bytes::from("long"),
                room: Some(3),
            });
        }),
        ("which is not there", |l| {
            l.table = Table::Hybrid(vec![Shown {
                number: 9,
                kind: 12,
                active: false,
            }]);
        }),
    ];
    for (expected, change) in cases {
        let mut layout = ordinary(&esp, &root);
        change(&mut layout);
        let error = Plan::new(&layout).err().unwrap().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}
