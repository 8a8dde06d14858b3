use super::layout::{Ways, lay_out};
use std::collections::BTreeSet;

use super::*;
use crate::answers::table::{Edited, Place, Use};
use crate::answers::{self, ESP_SIZE, Layout};
use crate::device::BlockDevice;
use crate::device::fake::Fake;
use crate::found::{Found, look};
use crate::probe::{Disk, Transport};
use lycia_media::partition::mbr::Mbr;
use proptest::prelude::*;

pub(crate) const BOTH: Ways = Ways {
    bios: true,
    uefi: true,
};

pub(crate) fn disk(size: u64, sector: u32) -> Disk {
    Disk {
        name: "sda".into(),
        path: "/dev/sda".into(),
        model: Some("Model".into()),
        serial: Some("S1".into()),
        by_id: vec!["ata-Model_S1".into()],
        by_path: Vec::new(),
        size,
        logical_sector: sector,
        physical_sector: 4096,
        transport: Transport::Ata,
        removable: false,
        read_only: false,
        optical: false,
        running_medium: false,
        used: Vec::new(),
        table: None,
        contents: Default::default(),
        unread: None,
        partitions: Vec::new(),
        refused: Vec::new(),
    }
}

pub(crate) fn wanted(layout: Layout) -> answers::Disk {
    answers::Disk {
        select: Some("S1".into()),
        layout,
        home: None,
        esp: None,
        encryption: None,
        boot_size: None,
        esp_size: ESP_SIZE,
        root_size: None,
        swap_size: None,
        swap_file: None,
        zram: None,
        file_system: crate::file_system::FileSystem::default(),
        keep: Vec::new(),
        swap_partitions: Vec::new(),
    }
}

/// A disk with a GPT of partitions: start and size in MiB, and what is in them.
pub(crate) fn with_partitions(size: u64, sector: u32, partitions: &[(u64, u64)]) -> Fake {
    let mut fake = Fake::new(size, sector);
    let mut table = gpt::Table::new(Guid::derive(b"old", "disk"), sector, size / u64::from(sector));
    for (at, (start, length)) in partitions.iter().enumerate() {
        let number = at as u32 + 1;
        let unit = MIB / u64::from(sector);
        table.partitions.push(gpt::Partition {
            number,
            kind: Guid::BASIC_DATA,
            guid: Guid::derive(b"old", &format!("{number}")),
            first: start * unit,
            last: (start + length) * unit - 1,
            attributes: 1 << 60,
            name: format!("old {number}"),
        });
        // Something to be recognised by at both ends.
        for offset in [start * MIB, (start + length) * MIB - 4096] {
            fake.write_at(offset, &[number as u8 + 0x40; 4096]).unwrap();
        }
    }
    fake.write_at(0, &Mbr::protective(size / u64::from(sector)).encode())
        .unwrap();
    fake.write_at(u64::from(sector), &table.primary().unwrap())
        .unwrap();
    fake.write_at(
        table.backup_sector() * u64::from(sector),
        &table.backup().unwrap(),
    )
    .unwrap();
    fake
}

/// What sfdisk reads in a table, without where the image lies.
pub(crate) fn sfdisk_dump(fake: &Fake) -> String {
    use std::os::unix::fs::FileExt as _;
    // sfdisk puts a `p` behind names that end in a digit.
    let image = tempfile::Builder::new().suffix(".img").tempfile().unwrap();
    image.as_file().set_len(fake.size()).unwrap();
    for (at, page) in fake.content() {
        image.as_file().write_all_at(&page, at).unwrap();
    }
    let path = image.path().to_str().unwrap().to_owned();
    let dump = std::process::Command::new("/usr/sbin/sfdisk")
        .args(["-d", &path])
        .output();
    let dump = dump.expect("sfdisk is missing: install the Debian package fdisk");
    assert!(dump.status.success(), "{dump:?}");
    String::from_utf8(dump.stdout).unwrap().replace(&path, "disk")
}

/// A disk with an MBR that sfdisk made: 1 for an EFI system partition, 2 extended with 5, 6 and 7, 3 behind it.
pub(crate) fn with_logical() -> Fake {
    use std::io::Write as _;
    use std::os::unix::fs::FileExt as _;
    use std::process::{Command, Stdio};
    let size: u64 = 4 << 30;
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(size).unwrap();
    let mut child = Command::new("/usr/sbin/sfdisk")
        .args(["-q", "--no-reread"])
        .arg(image.path())
        .stdin(Stdio::piped())
        .spawn()
        .expect("sfdisk is missing: install the Debian package fdisk");
    let script = "label: dos\nlabel-id: 0x12345678\n\
        disk1 : start=1MiB, size=300MiB, type=ef\ndisk2 : start=301MiB, size=3500MiB, type=5\n\
        disk3 : start=3900MiB, size=100MiB, type=83\ndisk5 : start=302MiB, size=900MiB, type=83\n\
        disk6 : start=1203MiB, size=100MiB, type=82\ndisk7 : start=1304MiB, size=2000MiB, type=83\n";
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
    let mut fake = Fake::new(size, 512);
    let mut page = [0; 4096];
    // Everything that sfdisk writes begins at a whole MiB.
    for at in (0..size).step_by(MIB as usize) {
        image.as_file().read_exact_at(&mut page, at).unwrap();
        if page != [0; 4096] {
            fake.write_at(at, &page).unwrap();
        }
    }
    for (number, start, length) in [
        (1, 1, 300),
        (3, 3900, 100),
        (5, 302, 900),
        (6, 1203, 100),
        (7, 1304, 2000),
    ] {
        for offset in [start * MIB, (start + length) * MIB - 4096] {
            fake.write_at(offset, &[number + 0x40; 4096]).unwrap();
        }
    }
    fake
}

/// A disk whose first partition is an EFI system partition with a file of another system, and room in front of the third.
pub(crate) fn with_esp() -> Fake {
    let mut fake = with_partitions(4 << 30, 512, &[(1, 8), (100, 900), (2500, 400)]);
    let (mut table, _) = gpt::Table::read(&mut crate::device::Reading::new(&mut fake), 512).unwrap();
    table.partitions[0].kind = Guid::EFI_SYSTEM;
    fake.write_at(512, &table.primary().unwrap()).unwrap();
    fake.write_at(table.backup_sector() * 512, &table.backup().unwrap())
        .unwrap();
    let time = lycia_tree::Timestamp::from_seconds(1_600_000_000);
    let mut tree = lycia_tree::Tree::new(lycia_tree::Metadata::new(0o755, time));
    for path in ["EFI/Microsoft/Boot/bootmgfw.efi", "EFI/debian/shimx64.efi"] {
        let (folder, _) = path.rsplit_once('/').unwrap();
        tree.make_directories(folder.as_bytes(), lycia_tree::Metadata::new(0o755, time))
            .unwrap();
        let metadata = lycia_tree::Metadata::new(0o644, time);
        tree.write(path.as_bytes(), metadata, path.repeat(1000).into_bytes().into())
            .unwrap();
    }
    let span = Span {
        start: MIB,
        size: 8 * MIB,
    };
    let volume = lycia_media::fat::Volume {
        label: None,
        serial: 0x1234_5678,
        time,
        width: None,
        size: span.size,
    };
    let mut nothing = |_| ();
    let mut window = crate::device::Window::new(&mut fake, span, &mut nothing);
    lycia_media::fat::write(&mut window, 0, &tree, &volume).unwrap();
    fake
}

fn plan_of(fake: &mut Fake, wanted: &answers::Disk) -> Result<Plan, PlanError> {
    let found = look(fake).unwrap();
    lay_out(&disk(fake.size(), fake.sector()), &found, wanted, BOTH)?.check()
}

fn ranges(plan: &Plan) -> Vec<(u64, u64, Action)> {
    plan.regions()
        .iter()
        .map(|one| (one.span.start, one.span.end(), one.action))
        .collect()
}

#[test]
fn an_empty_disk_is_erased_with_both_sector_sizes() {
    let size: u64 = 8 << 30;
    let plan = plan_of(&mut Fake::new(size, 512), &wanted(Layout::Erase)).unwrap();
    let (sector, table) = (512, 34 * 512);
    let journal = size - 5 * MIB;
    assert_eq!(
        ranges(&plan),
        [
            (0, sector, Action::Table),
            (sector, 2 * sector, Action::Table),
            (2 * sector, table, Action::Table),
            (table, MIB, Action::Zero),
            (MIB, 513 * MIB, Action::Fat32),
            (513 * MIB, 514 * MIB, Action::BootLoader),
            (514 * MIB, journal, Action::Ext4),
            (journal, journal + 3 * MIB, Action::Journal),
            (journal + 3 * MIB, size - MIB, Action::Zero),
            (size - MIB, size - 33 * 512, Action::Zero),
            (size - 33 * 512, size - 512, Action::Table),
            (size - 512, size, Action::Table),
        ]
    );
    let plan = plan_of(&mut Fake::new(size, 4096), &wanted(Layout::Erase)).unwrap();
    assert!(
        plan.partition(Role::BiosBoot).is_none(),
        "BIOS cannot start from such disks"
    );
    assert_eq!(plan.partition(Role::Root).unwrap().span.start, 513 * MIB);
}

/// What is on a disk or in a partition, written from byte `at` on.
fn put_content(fake: &mut Fake, at: u64, kind: &str) {
    let mut write = |offset: u64, bytes: &[u8]| fake.write_at(at + offset, bytes).unwrap();
    match kind {
        "ext4" => {
            let time = lycia_tree::Timestamp::from_seconds(1_600_000_000);
            let mut tree = lycia_tree::Tree::new(lycia_tree::Metadata::new(0o755, time));
            for (path, text) in [
                ("etc/hostname", "attic\n"),
                ("etc/os-release", "PRETTY_NAME=\"Old Linux 7\"\n"),
            ] {
                tree.make_directories(b"etc", lycia_tree::Metadata::new(0o755, time))
                    .unwrap();
                let metadata = lycia_tree::Metadata::new(0o644, time);
                tree.write(path.as_bytes(), metadata, text.as_bytes().to_vec().into())
                    .unwrap();
            }
            let volume = lycia_media::ext4::Volume {
                label: b"PRECIOUS".to_vec(),
                ..lycia_media::ext4::Volume::new(64 * MIB, Guid::derive(b"old", "ext4"), time)
            };
            let layout = lycia_media::ext4::Plan::new(&tree, &volume).unwrap();
            let mut image = std::io::Cursor::new(Vec::new());
            layout.write(&mut image, 0, &mut |_| ()).unwrap();
            let zero = |page: &[u8]| page.iter().all(|byte| *byte == 0);
            for (number, page) in image.into_inner().chunks(4096).enumerate() {
                if !zero(page) {
                    write(number as u64 * 4096, page);
                }
            }
        }
        "crypto_LUKS" => {
            write(0, b"LUKS\xba\xbe\x00\x02");
            write(8, &16384_u64.to_be_bytes());
        }
        "LVM2_member" => {
            write(512, b"LABELONE");
            write(536, b"LVM2 001");
        }
        "linux_raid_member" => write(4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
        "swap" => write(4086, b"SWAPSPACE2"),
        "BitLocker" => write(3, b"-FVE-FS-"),
        other => panic!("{other}"),
    }
}

#[test]
fn what_a_disk_without_a_table_holds_is_lost() {
    let empty = plan_of(&mut Fake::new(8 << 30, 512), &wanted(Layout::Erase)).unwrap();
    assert!(empty.text().contains("No partition is lost."));
    let mut hashes: BTreeSet<String> = [empty.hash()].into();
    for (kind, words) in [
        ("ext4", "ext4 \"PRECIOUS\""),
        ("crypto_LUKS", "crypto_LUKS"),
        ("LVM2_member", "LVM2_member"),
    ] {
        let mut fake = Fake::new(8 << 30, 512);
        put_content(&mut fake, 0, kind);
        let plan = plan_of(&mut fake, &wanted(Layout::Erase)).unwrap();
        let text = plan.text();
        assert!(
            text.contains(&format!("The whole disk holds {words}; it will be lost.")),
            "{text}"
        );
        assert!(!text.contains("No partition is lost."), "{text}");
        assert!(
            plan.json()
                .unwrap()
                .contains(&format!("\"file_system\": \"{kind}\""))
        );
        // The hash has it beside the digest of both ends.
        let mut draft = plan.draft().clone();
        draft.disk.digest = empty.disk().digest.clone();
        assert!(hashes.insert(draft.check().unwrap().hash()), "{kind}");
    }
}

#[test]
fn what_goes_is_named_as_the_screen_before_names_it() {
    let mut fake = with_partitions(
        16 << 30,
        512,
        &[(1, 500), (501, 500), (1001, 500), (1501, 500), (2001, 500)],
    );
    let kinds = ["ext4", "LVM2_member", "linux_raid_member", "swap", "BitLocker"];
    for (at, kind) in kinds.iter().enumerate() {
        put_content(&mut fake, (1 + 500 * at as u64) * MIB, kind);
    }
    let plan = plan_of(&mut fake, &wanted(Layout::Erase)).unwrap();
    let named: Vec<Option<&str>> = plan
        .draft()
        .lost
        .iter()
        .map(|one| one.file_system.as_deref())
        .collect();
    assert_eq!(named, kinds.map(Some));
    // The system is looked for in the text, and takes no part in the hash.
    let mut draft = plan.draft().clone();
    draft.name_systems(&mut fake);
    let looked = draft.check().unwrap();
    assert_eq!(looked.hash(), plan.hash());
    let systems: Vec<Option<&str>> = looked
        .draft()
        .lost
        .iter()
        .map(|one| one.system.as_deref())
        .collect();
    assert_eq!(
        systems,
        [Some("Old Linux 7 (host attic)"), None, None, None, None]
    );
    let text = looked.text();
    assert!(
        text.contains("ext4  label PRECIOUS  name old 1  Old Linux 7 (host attic)\n"),
        "{text}"
    );
    assert!(text.contains("linux_raid_member  name old 3\n"), "{text}");
    // So it is on a disk without a table.
    let mut bare = Fake::new(8 << 30, 512);
    put_content(&mut bare, 0, "ext4");
    let mut draft = plan_of(&mut bare, &wanted(Layout::Erase))
        .unwrap()
        .draft()
        .clone();
    draft.name_systems(&mut bare);
    let text = draft.check().unwrap().text();
    assert!(
        text.contains("ext4 \"PRECIOUS\", Old Linux 7 (host attic); it"),
        "{text}"
    );
}

#[test]
fn the_journal_keeps_off_old_headers() {
    // An old partition that ends exactly where the new root does, and one that ends a little before.
    let size: u64 = 8 << 30;
    let mut fake = with_partitions(size, 512, &[(1, 8186), (8187, 4)]);
    let plan = plan_of(&mut fake, &wanted(Layout::Erase)).unwrap();
    let journal = plan.journal();
    for saved in &plan.draft().saved {
        assert!(!saved.overlaps(journal), "{saved:?} {journal:?}");
    }
    // Both edges of both are saved.
    assert_eq!(plan.draft().lost.len(), 2);
}

#[test]
fn free_space_alongside_keeps_every_partition() {
    let mut fake = with_partitions(16 << 30, 512, &[(1, 2000), (10000, 500)]);
    let plan = plan_of(&mut fake, &wanted(Layout::Alongside)).unwrap();
    assert!(plan.draft().lost.is_empty());
    let written: Vec<(u64, u64)> = ranges(&plan)
        .into_iter()
        .filter(|(_, _, action)| action.writes() && *action != Action::Table)
        .map(|(start, end, _)| (start / MIB, end / MIB))
        .collect();
    assert!(
        written.iter().all(|(start, end)| *start >= 2001 && *end <= 10000),
        "{written:?}"
    );
    let numbers: Vec<(u32, Role)> = plan
        .draft()
        .partitions
        .iter()
        .map(|one| (one.number, one.role))
        .collect();
    assert_eq!(
        numbers,
        [
            (1, Role::Other),
            (2, Role::Other),
            (3, Role::Esp),
            (4, Role::BiosBoot),
            (5, Role::Root)
        ]
    );
    let old = gpt::Table::read(&mut crate::device::Reading::new(&mut fake), 512)
        .unwrap()
        .0;
    let new = plan.table(Some(&old), b"seed").unwrap().unwrap();
    assert_eq!(new.partitions[..2], old.partitions[..]);
    assert_eq!(new.guid, old.guid);
}

#[test]
fn replacing_takes_the_place_and_the_space_beside_it() {
    let mut fake = with_partitions(16 << 30, 512, &[(1, 2000), (2001, 4000), (6500, 500)]);
    let mut wish = wanted(Layout::Replace([2].into()));
    wish.home = Some(3);
    // A home without a file system is none.
    assert!(
        plan_of(&mut fake, &wish)
            .unwrap_err()
            .to_string()
            .contains("holds nothing that is known")
    );
    wish.home = None;
    let plan = plan_of(&mut fake, &wish).unwrap();
    let root = plan.partition(Role::Root).unwrap();
    assert_eq!((root.number, root.span.end()), (5, 6500 * MIB));
    assert_eq!(plan.partition(Role::Esp).unwrap().number, 2);
    assert!(plan.text().contains("old 2") && !plan.text().contains("old 3"));
    assert!(
        plan_of(&mut fake, &wanted(Layout::Replace([9].into())))
            .unwrap_err()
            .to_string()
            .contains("no partition 9")
    );
}

#[test]
fn prepared_partitions_keep_the_table() {
    let mut fake = with_partitions(16 << 30, 512, &[(1, 512), (513, 4000), (4600, 500)]);
    let layout = Layout::Partitions {
        root: 2,
        esp: Some(1),
        bios_boot: None,
        swap: Some(3),
        boot: None,
    };
    let plan = plan_of(&mut fake, &wanted(layout)).unwrap();
    assert!(plan.region(Action::Table).is_none());
    assert_eq!(plan.table(None, b"").unwrap(), None);
    assert_eq!(plan.draft().lost.len(), 3);
    assert!(plan.partition(Role::Root).unwrap().span.contains(plan.journal()));
    let bios = Layout::Partitions {
        root: 2,
        esp: None,
        bios_boot: Some(3),
        swap: None,
        boot: None,
    };
    let plan = plan_of(&mut fake, &wanted(bios)).unwrap();
    assert_eq!(
        plan.region(Action::BootSector).unwrap().span,
        Span { start: 0, size: 512 }
    );
    assert_eq!(plan.draft().saved[0].start, 0);
    let none = Layout::Partitions {
        root: 2,
        esp: None,
        bios_boot: None,
        swap: None,
        boot: None,
    };
    assert!(plan_of(&mut fake, &wanted(none)).is_err());
    // What no firmware could start.
    let mut fake = with_partitions(16 << 30, 4096, &[(1, 512), (513, 4000), (4600, 500)]);
    let bios = Layout::Partitions {
        root: 2,
        esp: Some(1),
        bios_boot: Some(3),
        swap: None,
        boot: None,
    };
    let message = plan_of(&mut fake, &wanted(bios)).unwrap_err().to_string();
    assert!(message.contains("sectors of 4096 bytes"), "{message}");
}

#[test]
fn logical_partitions_are_lost_kept_and_used() {
    let mut fake = with_logical();
    let numbers = |plan: &Plan| -> Vec<(u32, Role)> {
        let partitions = plan.draft().partitions.iter();
        partitions.map(|one| (one.number, one.role)).collect()
    };
    let plan = plan_of(&mut fake, &wanted(Layout::Erase)).unwrap();
    let lost: Vec<u32> = plan.draft().lost.iter().map(|one| one.number).collect();
    assert_eq!(lost, [1, 2, 3, 5, 6, 7]);
    for link in [301, 1202, 1303] {
        let link = Span {
            start: link * MIB,
            size: 512,
        };
        assert!(
            plan.draft().saved.iter().any(|saved| saved.contains(link)),
            "{link:?} {:?}",
            plan.draft().saved
        );
    }
    let used = |root: u32| {
        let layout = Layout::Partitions {
            root,
            esp: Some(1),
            bios_boot: None,
            swap: Some(6),
            boot: None,
        };
        plan_of(&mut with_logical(), &wanted(layout))
    };
    let plan = used(5).unwrap();
    assert_eq!(
        numbers(&plan),
        [
            (1, Role::Esp),
            (3, Role::Other),
            (5, Role::Root),
            (6, Role::Swap),
            (7, Role::Other)
        ]
    );
    let error = used(2).unwrap_err().to_string();
    assert!(error.contains("an extended one"), "{error}");
    let error = used(8).unwrap_err().to_string();
    assert!(error.contains("no partition 8"), "{error}");
    // The first partition is made so long that the next link lies in it.
    let mut link = fake.bytes(301 * MIB, 512);
    link[446 + 12..446 + 16].copy_from_slice(&(1000u32 * 2048).to_le_bytes());
    fake.write_at(301 * MIB, &link).unwrap();
    let layout = Layout::Partitions {
        root: 5,
        esp: Some(1),
        bios_boot: None,
        swap: None,
        boot: None,
    };
    let error = plan_of(&mut fake, &wanted(layout)).unwrap_err().to_string();
    assert!(error.contains("lies over the records"), "{error}");
}

#[test]
fn a_journal_that_would_not_be_found_again_is_not_planned() {
    let size: u64 = 8 << 30;
    let many: Vec<(u64, u64)> = (0..100).map(|at| (8190 - 2 * (at + 1), 2)).collect();
    let error = plan_of(&mut with_partitions(size, 512, &many), &wanted(Layout::Erase)).unwrap_err();
    assert!(error.to_string().contains("delete them first"), "{error}");
    let few = &many[..30];
    let plan = plan_of(&mut with_partitions(size, 512, few), &wanted(Layout::Erase)).unwrap();
    assert!(size - plan.journal().start < crate::journal::REACH * MIB);
}

#[test]
fn an_esp_is_shared() {
    let mut fake = with_esp();
    let mut wish = wanted(Layout::Alongside);
    wish.esp = Some(1);
    let plan = plan_of(&mut fake, &wish).unwrap();
    assert!(plan.region(Action::Fat32).is_none());
    let region = plan.region(Action::FatInsert).unwrap();
    assert_eq!(
        (region.span.start, region.span.size, region.partition),
        (MIB, 8 * MIB, Some(1))
    );
    let shared = plan.partition(Role::SharedEsp).unwrap();
    assert_eq!(shared.uuid.as_deref(), Some("1234-5678"));
    let saved = |at: u64| {
        plan.draft()
            .saved
            .iter()
            .any(|saved| saved.start <= at && at < saved.end())
    };
    assert!(
        saved(MIB) && saved(MIB + 4096) && !saved(8 * MIB),
        "{:?}",
        plan.draft().saved
    );
    assert!(plan.text().contains("gets files added"), "{}", plan.text());
    // The table keeps its entry as it is.
    let old = gpt::Table::read(&mut crate::device::Reading::new(&mut fake), 512)
        .unwrap()
        .0;
    assert_eq!(
        plan.table(Some(&old), b"x").unwrap().unwrap().partitions[0],
        old.partitions[0]
    );
    // Nor can it be /home: it has no owners.
    let mut home = wish.clone();
    (home.esp, home.home) = (None, Some(1));
    let message = plan_of(&mut fake, &home).unwrap_err().to_string();
    assert!(message.contains("partition 1 holds vfat"), "{message}");
    for (number, expected) in [(2, "no EFI system partition"), (9, "no partition 9")] {
        wish.esp = Some(number);
        let message = plan_of(&mut fake, &wish).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }
    // A damaged volume is not shared: the copies of the table differ.
    wish.esp = Some(1);
    let fat = u64::from(u16::from_le_bytes(fake.bytes(MIB + 14, 2).try_into().unwrap())) * 512;
    fake.write_at(MIB + fat + 400, b"x").unwrap();
    let message = plan_of(&mut fake, &wish).unwrap_err().to_string();
    assert!(message.contains("the copies differ"), "{message}");
}

#[test]
fn a_root_of_a_given_size_leaves_the_rest() {
    let mut fake = Fake::new(16 << 30, 512);
    let mut wish = wanted(Layout::Erase);
    // Room for the header of what encrypts it and for the journal, too.
    wish.root_size = Some(MINIMUM_ROOT);
    let message = plan_of(&mut fake, &wish).unwrap_err().to_string();
    assert!(message.starts_with("disk.root-size"), "{message}");
    wish.root_size = Some(3 << 30);
    wish.swap_size = Some(1 << 30);
    let plan = plan_of(&mut fake, &wish).unwrap();
    assert_eq!(plan.partition(Role::Root).unwrap().span.size, 3 << 30);
    assert_eq!(plan.region(Action::Ext4).unwrap().span.size, 3 << 30);
    assert_eq!(plan.region(Action::Swap).unwrap().span.size, 1 << 30);
    assert!(plan.journal().start > plan.partition(Role::Root).unwrap().span.end());
}

#[test]
fn disks_that_will_not_do() {
    let erase = wanted(Layout::Erase);
    let empty = |fake: &mut Fake| look(fake).unwrap();
    let mut small = Fake::new(1 << 29, 512);
    let Err(PlanError::TooSmall { needed, .. }) = plan_of(&mut small, &erase) else {
        panic!()
    };
    assert!(plan_of(&mut Fake::new(needed + 2 * MIB, 512), &erase).is_ok());
    let found = empty(&mut Fake::new(8 << 30, 512));
    assert!(matches!(
        lay_out(&disk(8 << 30, 520), &found, &erase, BOTH),
        Err(PlanError::Sector { sector: 520, .. })
    ));
    let mut used = disk(8 << 30, 512);
    used.refused = vec!["in use: mounted on /".into()];
    let refused = lay_out(&used, &found, &erase, BOTH).unwrap_err().to_string();
    assert!(refused.contains("mounted on /"));
    let bios = Ways {
        bios: true,
        uefi: false,
    };
    assert!(
        lay_out(
            &disk(8 << 30, 4096),
            &empty(&mut Fake::new(8 << 30, 4096)),
            &erase,
            bios
        )
        .is_err()
    );
    // Partitions cannot be added to what is no GPT.
    let message = plan_of(&mut Fake::new(8 << 30, 512), &wanted(Layout::Alongside))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("none") && message.contains("GPT only"),
        "{message}"
    );
    let mut full = with_partitions(8 << 30, 512, &[(1, 8189)]);
    assert!(plan_of(&mut full, &wanted(Layout::Alongside)).is_err());
}

#[test]
fn the_hash_follows_what_matters() {
    let found = look(&mut Fake::new(8 << 30, 512)).unwrap();
    let plan = |disk: &Disk, found: &Found, wish: &answers::Disk| {
        lay_out(disk, found, wish, BOTH).unwrap().check().unwrap()
    };
    let erase = wanted(Layout::Erase);
    let base = disk(8 << 30, 512);
    let hash = plan(&base, &found, &erase).hash();
    let mut renamed = base.clone();
    (renamed.name, renamed.path) = ("sdb".into(), "/dev/sdb".into());
    assert_eq!(plan(&renamed, &found, &erase).hash(), hash);
    for change in [
        &(|disk: &mut Disk, _: &mut Found, _: &mut answers::Disk| disk.serial = Some("S2".into()))
            as &dyn Fn(&mut Disk, &mut Found, &mut answers::Disk),
        &|disk, _, _| disk.size += 512,
        &|disk, _, _| disk.by_id.clear(),
        &|_, found, _| found.digest.push('x'),
        &|_, _, wish| wish.esp_size += MIB,
        &|_, _, wish| wish.swap_size = Some(MIB),
    ] {
        let (mut disk, mut found, mut wish) = (base.clone(), found.clone(), erase.clone());
        change(&mut disk, &mut found, &mut wish);
        assert_ne!(plan(&disk, &found, &wish).hash(), hash);
    }
    let mut draft = plan(&base, &found, &erase).0;
    draft.system = Some(System {
        hostname: "a".into(),
        ..System::default()
    });
    let first = draft.clone().check().unwrap();
    if let Some(system) = &mut draft.system {
        system.hostname = "b".into()
    }
    let second = draft.check().unwrap();
    assert_ne!(first.hash(), second.hash());
    assert!(first.text().contains(&first.hash()) && first.json().unwrap().contains(&first.hash()));
    assert_eq!(first.short_name(), "sda");
}

#[test]
fn a_wrong_draft_is_caught() {
    let mut fake = with_partitions(8 << 30, 512, &[(1, 100)]);
    let found = look(&mut fake).unwrap();
    let alongside = wanted(Layout::Alongside);
    let make = || lay_out(&disk(8 << 30, 512), &found, &alongside, BOTH).unwrap();
    assert!(make().check().is_ok());
    fn find(draft: &mut Draft, action: Action) -> &mut Region {
        draft
            .regions
            .iter_mut()
            .find(|region| region.action == action)
            .unwrap()
    }
    for (number, spoil) in [
        &(|draft: &mut Draft| find(draft, Action::Ext4).span.size -= 512) as &dyn Fn(&mut Draft),
        &|draft| find(draft, Action::Keep).action = Action::Zero,
        &|draft| draft.regions.truncate(9),
        &|draft| find(draft, Action::Journal).action = Action::Keep,
        &|draft| find(draft, Action::Fat32).partition = None,
        &|draft| find(draft, Action::Fat32).partition = Some(1),
        &|draft| draft.saved.clear(),
        &|draft| {
            let span = find(draft, Action::Journal).span;
            draft.saved.push(span);
        },
        &|draft| draft.table = TableChange::Kept,
        &|draft| draft.partitions.retain(|one| one.role != Role::Root),
        &|draft| draft.partitions[1].number = 1,
        &|draft| find(draft, Action::Fat32).action = Action::FatInsert,
        &|draft| draft.disk.size += 4096,
        &|draft| {
            draft
                .partitions
                .iter_mut()
                .filter(|one| one.role == Role::Esp)
                .for_each(|one| one.span.start -= 512)
        },
    ]
    .into_iter()
    .enumerate()
    {
        let mut draft = make();
        spoil(&mut draft);
        assert!(matches!(draft.check(), Err(PlanError::Wrong { .. })), "{number}");
    }
}

#[test]
fn a_table_is_edited_and_what_is_not_named_stays() {
    let mut fake = with_partitions(8 << 30, 512, &[(1, 300), (301, 1500), (4000, 400)]);
    let new = |size: Option<u64>, start: Option<u64>| Place::New { size, start };
    let edited = |used: &[(Use, Place)]| {
        wanted(Layout::Table(Edited {
            fresh: false,
            delete: [2].into(),
            used: used.to_vec(),
        }))
    };
    let uses = [
        (Use::Root, new(None, None)),
        (Use::Esp, Place::There(1)),
        (Use::Home, new(Some(1000 * MIB), None)),
        (Use::Swap, new(Some(100 * MIB), Some(3000 * MIB))),
    ];
    let plan = plan_of(&mut fake, &edited(&uses)).unwrap();
    let found: Vec<(u32, Role, u64, u64, bool)> = plan
        .draft()
        .partitions
        .iter()
        .map(|one| {
            let Span { start, size } = one.span;
            (one.number, one.role, start / MIB, size / MIB, one.existing)
        })
        .collect();
    assert_eq!(
        found,
        [
            (1, Role::Esp, 1, 300, true),
            // The first free range that holds it, where 2 was.
            (2, Role::NewHome, 301, 1000, false),
            (3, Role::Other, 4000, 400, true),
            (4, Role::Swap, 3000, 100, false),
            // The largest that is left.
            (5, Role::Root, 4400, 3791, false),
        ]
    );
    assert_eq!(
        plan.draft().lost.iter().map(|one| one.number).collect::<Vec<_>>(),
        [1, 2]
    );
    // One that gets another use gets its type; somebody else's keeps everything.
    let found::Table::Gpt(old) = look(&mut fake).unwrap().table else {
        panic!("no GPT")
    };
    let table = plan.table(Some(&old), b"seed").unwrap().unwrap();
    assert_eq!(table.partitions[0].kind, Guid::EFI_SYSTEM);
    assert_eq!(table.partitions[0].guid, old.partitions[0].guid);
    assert_eq!(table.partitions[2], old.partitions[2]);

    for (uses, says) in [
        (
            vec![(Use::Root, new(Some(7000 * MIB), None))],
            "no room for a new `root` of 7000 MiB",
        ),
        (
            vec![(Use::Root, new(Some(500 * MIB), Some(4100 * MIB)))],
            "no room",
        ),
        (vec![(Use::Root, Place::There(9))], "no partition 9"),
        (
            vec![(Use::Root, Place::There(3)), (Use::Boot, new(Some(MIB), None))],
            "at least 67108864 are needed",
        ),
    ] {
        let error = plan_of(&mut fake, &edited(&uses)).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
    // Without a GPT there is nothing to edit.
    let error = plan_of(&mut Fake::new(8 << 30, 512), &edited(&uses))
        .unwrap_err()
        .to_string();
    assert!(error.contains("new-table"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn every_disk_has_a_checked_plan_or_an_error(
        size in prop_oneof![any::<u64>(), 0u64..8 << 30],
        large in any::<bool>(),
        cuts in proptest::collection::btree_set(2u64..8000, 0..12),
        choice in 0u8..5,
        fresh in any::<bool>(),
        uses in proptest::collection::btree_map(0usize..6, (0u32..9, proptest::option::of(1u64..3000)), 0..6),
        gone in proptest::collection::btree_set(1u32..7, 0..3),
        swap in proptest::option::of(1u64..4000),
    ) {
        let sector = if large { 4096 } else { 512 };
        let cuts: Vec<u64> = cuts.into_iter().collect();
        let pieces: Vec<(u64, u64)> = cuts.chunks_exact(2).map(|pair| (pair[0], pair[1] - pair[0])).collect();
        let size = if choice == 0 && pieces.is_empty() { size } else { 8 << 30 };
        let mut fake = if pieces.is_empty() { Fake::new(size, sector) } else { with_partitions(size, sector, &pieces) };
        let found = look(&mut fake).unwrap();
        let layout = match choice {
            0 => Layout::Erase,
            1 => Layout::Alongside,
            2 => Layout::Replace([1].into()),
            // Numbers from 5 on stand for new ones.
            3 => Layout::Table(Edited {
                fresh,
                delete: if fresh { BTreeSet::new() } else { gone.clone() },
                used: uses.iter().map(|(at, (number, size))| (Use::ALL[*at], match number {
                    1..5 if !fresh && !gone.contains(number) => Place::There(*number),
                    _ => Place::New { size: size.map(|mib| mib * MIB), start: size.filter(|mib| mib % 3 == 0).map(|mib| mib * MIB) },
                })).collect(),
            }),
            _ => Layout::Partitions { root: 1, esp: Some(2), bios_boot: None, swap: None, boot: None },
        };
        let mut wish = wanted(layout);
        wish.swap_size = swap.map(|mib| mib * MIB);
        match lay_out(&disk(size, sector), &found, &wish, BOTH) {
            Ok(draft) => {
                let plan = draft.check();
                prop_assert!(plan.is_ok(), "{plan:?}");
                let old = match &found.table { found::Table::Gpt(table) => Some(table), _ => None };
                prop_assert!(plan.unwrap().table(old, b"seed").is_ok());
            }
            Err(PlanError::Wrong { what, .. }) => prop_assert!(false, "{what}"),
            Err(_) => {}
        }
    }
}
