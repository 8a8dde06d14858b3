//! Repairs of systems that were installed onto image files and then damaged.

use super::write::write_any;
use super::*;
use crate::device::{Disk, Window};
use crate::engine::tests::{ANSWERS, Run, run};
use crate::file_system::Subvolume;
use crate::fixture::{KERNEL, write_tree};
use crate::plan::{Action, Plan};
use crate::tools::fake::FakeTools;
use lycia_media::fat;
use lycia_media::partition::gpt;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

struct System {
    run: Run,
    plan: Plan,
    /// What stands for the mounted root and EFI system partition.
    root: tempfile::TempDir,
    esp: tempfile::TempDir,
    root_uuid: String,
}

fn installed() -> System {
    let run = run(ANSWERS);
    let prepared = run.prepare().unwrap();
    run.execute(&prepared);
    let plan = prepared.plan;
    let (root, esp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_tree(&run.root(&plan), root.path());
    let fstab = fs::read_to_string(root.path().join("etc/fstab")).unwrap();
    let line = fstab
        .lines()
        .find(|line| line.split_whitespace().nth(1) == Some("/"));
    let uuid = line.unwrap().split_whitespace().next().unwrap();
    let system = System {
        root_uuid: uuid.strip_prefix("UUID=").unwrap().to_owned(),
        run,
        plan,
        root,
        esp,
    };
    write_tree(&system.esp_tree(), system.esp.path());
    system
}

impl System {
    fn disk(&self, write: bool) -> Disk {
        let path = self.run.image.path();
        if write {
            Disk::open_write(path, 512)
        } else {
            Disk::open_read(path, 512)
        }
        .unwrap()
    }

    fn span(&self, action: Action) -> Span {
        self.plan.region(action).unwrap().span
    }

    fn esp_tree(&self) -> Tree {
        let mut device = self.disk(false);
        let mut nothing = |_| ();
        let window = Window::new(&mut device, self.span(Action::Fat32), &mut nothing);
        fat::Reader::open(window, fat::Limits::default())
            .unwrap()
            .tree()
            .unwrap()
    }

    fn plan_repair(&self, mounted: bool) -> Result<Repair, RepairError> {
        self.plan_with(mounted, None)
    }

    fn plan_with(&self, mounted: bool, firmware: Option<Firmware<'_>>) -> Result<Repair, RepairError> {
        let broken = Broken {
            disk: "/dev/sda",
            root: self.root.path(),
            root_uuid: &self.root_uuid,
            file_system: &FileSystem::default(),
            boot_uuid: None,
            boot_kind: None,
            volume_uuid: None,
            esp: mounted.then_some(self.esp.path()),
            firmware,
            command_line: "console=ttyS1,9600",
        };
        plan(&broken, &self.run.fixture.medium(), &mut self.disk(false))
    }

    fn repair(&self, mounted: bool) -> Repair {
        let repair = self.plan_repair(mounted).unwrap();
        let esp = mounted.then_some(self.esp.path());
        repair
            .write_files(self.root.path(), esp, &mut self.disk(false))
            .unwrap();
        repair.write_disk(&mut self.disk(true)).unwrap();
        repair
    }

    /// The bytes of the disk outside of the root's file system, which is not written here.
    fn bytes(&self) -> Vec<u8> {
        let root = self.span(Action::Ext4);
        let image = self.run.image.as_file();
        let mut bytes = vec![0; root.start as usize];
        image.read_exact_at(&mut bytes, 0).unwrap();
        let mut end = vec![0; (image.metadata().unwrap().len() - root.end()) as usize];
        image.read_exact_at(&mut end, root.end()).unwrap();
        bytes.extend(end);
        bytes
    }

    /// Writes back what [`Self::bytes`] gave.
    fn restore(&self, bytes: &[u8]) {
        let root = self.span(Action::Ext4);
        let (first, last) = bytes.split_at(root.start as usize);
        let image = self.run.image.as_file();
        image.write_all_at(first, 0).unwrap();
        image.write_all_at(last, root.end()).unwrap();
    }

    /// Changes the table.
    fn edit(&self, change: impl FnOnce(&mut gpt::Table)) {
        let mut disk = self.disk(true);
        let (mut table, _) = gpt::Table::read(&mut Reading::new(&mut disk), 512).unwrap();
        change(&mut table);
        table.partitions.sort_by_key(|one| one.number);
        disk.write_at(512, &table.primary().unwrap()).unwrap();
        let backup = table.backup().unwrap();
        disk.write_at(table.backup_sector() * 512, &backup).unwrap();
    }

    fn zero(&self, span: Span) {
        let zeros = vec![0; span.size as usize];
        self.run.image.as_file().write_all_at(&zeros, span.start).unwrap();
    }

    fn text(&self, path: &str) -> String {
        fs::read_to_string(self.root.path().join(path)).unwrap()
    }
}

/// One installation for all: it is the dear part. Each leaves a system that starts, but for the last.
#[test]
fn whatever_was_done_to_a_system_it_starts_again() {
    let system = installed();
    what_was_destroyed_is_as_the_installation_wrote_it(&system);
    words_that_somebody_added_to_the_menu_stay(&system);
    the_firmware_starts_it_first_again(&system);
    another_systems_bios_boot_partition_stays(&system);
    an_esp_without_a_file_system_is_made_as_it_was(&system);
    the_fallback_path_of_another_system_stays(&system);
    a_root_without_a_kernel_is_refused(&system);
}

fn what_was_destroyed_is_as_the_installation_wrote_it(system: &System) {
    let repair = system.plan_repair(true).unwrap();
    assert!(repair.is_done(), "{}", repair.text());
    let before = system.bytes();
    let root = system.root.path();
    let initramfs = format!("boot/initramfs-{KERNEL}.img");
    let files = [MENU, initramfs.as_str(), "boot/grub/i386-pc/normal.mod"];
    let were: Vec<Vec<u8>> = files
        .iter()
        .map(|file| fs::read(root.join(file)).unwrap())
        .collect();

    // Code of the boot sector, core image, menu, initramfs, a module, the image for UEFI: all gone or damaged.
    system.zero(Span { start: 0, size: 440 });
    system.zero(system.span(Action::BootLoader));
    for file in files {
        fs::remove_file(root.join(file)).unwrap();
    }
    fs::write(root.join(MENU), "damaged").unwrap();
    let image = system.esp.path().join("EFI/BOOT/BOOTX64.EFI");
    let image_was = fs::read(&image).unwrap();
    fs::write(&image, &image_was[..1000]).unwrap();
    // Another system's folder, beside ours.
    let windows = system.esp.path().join("EFI/Microsoft/Boot/bootmgfw.efi");
    fs::create_dir_all(windows.parent().unwrap()).unwrap();
    fs::write(&windows, "theirs").unwrap();

    let repair = system.plan_repair(true).unwrap();
    let text = repair.text();
    for part in [
        "write /boot/grub/grub.cfg",
        &format!("write /{initramfs}"),
        "1 modules of GRUB",
        "\\EFI\\BOOT\\BOOTX64.EFI",
        "core image in the BIOS boot partition",
        "code of the first sector",
        "from the records",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(!text.contains("Microsoft") && !text.contains("format"), "{text}");
    // Planning wrote nothing.
    assert!(system.bytes() != before);
    assert_eq!(system.text(MENU), "damaged");
    // Stopped between files and disk: the next run does the rest.
    repair
        .write_files(root, Some(system.esp.path()), &mut system.disk(false))
        .unwrap();
    let rest = system.plan_repair(true).unwrap();
    assert!(
        !rest.is_done() && !rest.text().contains("initramfs"),
        "{}",
        rest.text()
    );
    system.repair(true);
    assert!(
        system.bytes() == before,
        "the disk is not what the installation wrote"
    );
    for (file, was) in files.iter().zip(&were) {
        assert!(fs::read(root.join(file)).unwrap() == *was, "{file}");
    }
    assert!(fs::read(&image).unwrap() == image_was);
    assert_eq!(fs::read(&windows).unwrap(), b"theirs");
    assert!(system.plan_repair(true).unwrap().is_done());
    // What was written over is kept, for root alone.
    let saved: Vec<_> = fs::read_dir(root.join(SAVED)).unwrap().flatten().collect();
    assert!(saved.len() >= 3, "{saved:?}");
    for file in saved {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

fn the_firmware_starts_it_first_again(system: &System) {
    let efivars = tempfile::tempdir().unwrap();
    let global = "8be4df61-93ca-11d2-aa0d-00e098032b8c";
    let at = |name: &str| efivars.path().join(format!("{name}-{global}"));
    // Another system's entry, which is the first.
    fs::write(at("Boot0003"), b"\x07\0\0\0\x01\0\0\0\x04\0W\0\0\0\x7f\xff\x04\0").unwrap();
    fs::write(at("BootOrder"), b"\x07\0\0\0\x03\0").unwrap();
    let theirs = fs::read(at("Boot0003")).unwrap();
    let others = BTreeSet::from([[9; 16]]);
    let firmware = Firmware {
        efivars: efivars.path(),
        others: &others,
    };
    let plan = || system.plan_with(true, Some(firmware)).unwrap();
    let repair = plan();
    let text = repair.text();
    assert!(
        text.contains("(\\EFI\\BOOT\\BOOTX64.EFI) the first entry of the firmware's menu"),
        "{text}"
    );
    // Planning writes nothing.
    assert_eq!(fs::read_dir(efivars.path()).unwrap().count(), 2);
    assert_eq!(repair.write_entry(efivars.path()), None);
    assert_eq!(fs::read(at("BootOrder")).unwrap(), b"\x07\0\0\0\0\0\x03\0");
    assert_eq!(fs::read(at("Boot0003")).unwrap(), theirs);
    let image: Vec<u8> = "BOOTX64.EFI".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let entry = fs::read(at("Boot0000")).unwrap();
    assert!(entry.windows(image.len()).any(|part| part == image));
    assert!(plan().is_done(), "{}", plan().text());
    // A firmware that cannot be asked is no reason against the rest.
    let gone = efivars.path().join("none");
    let deaf = Firmware {
        efivars: &gone,
        ..firmware
    };
    let repair = system.plan_with(true, Some(deaf)).unwrap();
    assert!(
        repair.is_done() && repair.text().contains("gets no entry"),
        "{}",
        repair.text()
    );
    // Who wanted no entry gets none.
    let answers = system.root.path().join(RECORDS).join("answers.toml");
    let were = fs::read_to_string(&answers).unwrap();
    let mut file = AnswersFile::parse(&were, "a").unwrap();
    file.boot.nvram = Some(false);
    fs::write(&answers, file.text().unwrap()).unwrap();
    fs::remove_file(at("Boot0000")).unwrap();
    assert!(plan().is_done());
    fs::write(&answers, were).unwrap();
}

fn another_systems_bios_boot_partition_stays(system: &System) {
    let before = system.bytes();
    let (ours, theirs) = (system.span(Action::BootLoader), system.span(Action::Swap));
    let foreign = [0x77; 100_000];
    system
        .disk(true)
        .write_at(theirs.start, &foreign[..512 * 195])
        .unwrap();
    // Theirs comes first in the table.
    system.edit(|table| {
        for one in &mut table.partitions {
            let start = one.first * 512;
            if start == theirs.start {
                (one.kind, one.number) = (Guid::BIOS_BOOT, 2);
            } else if start == ours.start {
                one.number = 3;
            }
        }
    });
    let beside = system.bytes();
    let record = system.root.path().join(RECORDS).join("plan.txt");
    let recorded = fs::read_to_string(&record).unwrap();
    let unknown = || {
        let was = system.bytes();
        let text = system.repair(true).text();
        assert!(text.contains("nothing says that a BIOS boot partition"), "{text}");
        assert!(!text.contains("core image in the BIOS boot partition"), "{text}");
        assert!(system.bytes() == was, "{text}");
    };
    // By the plan that is kept.
    system.zero(ours);
    system.zero(Span { start: 0, size: 440 });
    let text = system.repair(true).text();
    assert!(text.contains("core image in the BIOS boot partition"), "{text}");
    assert!(system.bytes() == beside, "{text}");
    // Without it, by what is in there.
    fs::remove_file(&record).unwrap();
    assert!(system.plan_repair(true).unwrap().is_done());
    system
        .disk(true)
        .write_at(ours.start + 1024, &[0x5a; 2048])
        .unwrap();
    let text = system.repair(true).text();
    assert!(system.bytes() == beside, "{text}");
    // Neither is it the only one, nor does anything else say that it is ours.
    system.zero(ours);
    unknown();
    // Theirs alone, behind our code in the boot sector; a plan for UEFI alone; no plan at all.
    system.edit(|table| table.partitions.retain(|one| one.first * 512 != ours.start));
    let files = folder(&tree_of(system.root.path()).unwrap(), "usr/lib/grub/i386-pc").unwrap();
    let code = grub::boot_code(&files, theirs.start / 512).unwrap();
    let mut first = [0; 512];
    system.disk(false).read_at(0, &mut first).unwrap();
    first[..CODE_LEN].copy_from_slice(&code[..CODE_LEN]);
    system.disk(true).write_at(0, &first).unwrap();
    unknown();
    let uefi: String = recorded
        .lines()
        .filter(|line| !line.ends_with("BIOS boot partition: write GRUB"))
        .map(|line| format!("{line}\n"))
        .collect();
    fs::write(&record, uefi).unwrap();
    system.zero(theirs);
    unknown();
    // The only one, emptied, and the boot sector starts it.
    system.restore(&before);
    fs::remove_file(&record).unwrap();
    system.zero(ours);
    let text = system.repair(true).text();
    assert!(system.bytes() == before, "{text}");
    fs::write(&record, recorded).unwrap();
    assert!(system.plan_repair(true).unwrap().is_done());
}

#[test]
fn the_plan_says_where_grub_for_bios_is() {
    let head = "Erase /dev/sda (2.0 GiB)\n\n      first byte        last byte  part  what\n";
    let line = "         1048576          2097151  2     BIOS boot partition: write GRUB\n";
    let root = "         2097152          9999999  3     root: format ext4\n";
    let span = Span {
        start: 1 << 20,
        size: 1 << 20,
    };
    for (text, expected) in [
        (format!("{head}{line}{root}\nA new GPT"), PlannedBios::In(span)),
        (format!("{head}{root}\nA new GPT"), PlannedBios::Nothing),
        // What comes behind is somebody's words.
        (format!("{head}{root}\n{line}"), PlannedBios::Nothing),
        (format!("{line}{root}"), PlannedBios::Unknown),
        (head.to_owned(), PlannedBios::Unknown),
        (
            "Install into /mnt: nothing is partitioned".to_owned(),
            PlannedBios::Unknown,
        ),
        (String::new(), PlannedBios::Unknown),
    ] {
        assert_eq!(planned_bios(&text), expected, "{text}");
    }
}

fn an_esp_without_a_file_system_is_made_as_it_was(system: &System) {
    let before = system.bytes();
    let span = system.span(Action::Fat32);
    system.zero(span);
    let repair = system.plan_repair(false).unwrap();
    assert!(
        repair.text().contains("format the EFI system partition"),
        "{}",
        repair.text()
    );
    system.repair(false);
    assert!(
        system.bytes() == before,
        "the partition is not what the installation wrote"
    );
    // A volume that is there and does not mount is never formatted.
    let error = system.plan_repair(false).unwrap_err().to_string();
    assert!(error.contains("fsck.fat"), "{error}");
}

fn the_fallback_path_of_another_system_stays(system: &System) {
    let boot = system.esp.path().join("EFI/BOOT");
    fs::write(boot.join("BOOTX64.EFI"), "theirs").unwrap();
    fs::write(boot.join("grub.cfg"), "search --fs-uuid 1234").unwrap();
    let repair = system.repair(true);
    assert!(
        repair.text().contains("\\EFI\\lycia\\grubx64.efi"),
        "{}",
        repair.text()
    );
    assert_eq!(fs::read(boot.join("BOOTX64.EFI")).unwrap(), b"theirs");
    assert_eq!(fs::read(boot.join("grub.cfg")).unwrap(), b"search --fs-uuid 1234");
    assert!(system.esp.path().join("EFI/lycia/grubx64.efi").exists());
    // Ours by now: nothing more to do.
    assert!(system.plan_repair(true).unwrap().is_done());
}

fn words_that_somebody_added_to_the_menu_stay(system: &System) {
    let menu = system.text(MENU);
    let changed = menu
        .replace(" ro ", " ro mitigations=off ")
        .replace("set timeout=", "set timeout=1");
    fs::write(system.root.path().join(MENU), format!("# mine\n{changed}")).unwrap();
    system.repair(true);
    assert_eq!(old_menu(&system.text(MENU)).unwrap(), old_menu(&changed).unwrap());
    assert!(system.text(MENU).contains("mitigations=off"));
}

fn a_root_without_a_kernel_is_refused(system: &System) {
    fs::remove_file(system.root.path().join(format!("boot/vmlinuz-{KERNEL}"))).unwrap();
    let error = system.plan_repair(true).unwrap_err().to_string();
    assert!(
        error.contains("vmlinuz") && error.contains("Nothing was written"),
        "{error}"
    );
}

/// What the kernel filled in the installation is what is mounted here; the disk has the rest.
#[test]
fn a_root_in_a_subvolume_of_btrfs_starts_again() {
    let answers = ANSWERS
        .replace(
            "esp-size",
            "filesystem = \"btrfs\"\ncompression = \"zstd:3\"\nesp-size",
        )
        .replace("swap-file-size = \"16 MiB\"\n", "");
    let run = run(&answers);
    let prepared = run.prepare().unwrap();
    let (kept, esp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut tools = FakeTools::default();
    tools.keep = Some(kept.path().join("top"));
    run.execute_with(&prepared, &mut tools);
    let root = kept.path().join("top/@");
    let fstab = fs::read_to_string(root.join("etc/fstab")).unwrap();
    let uuid = fstab.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let uuid = words.next()?.strip_prefix("UUID=")?.to_owned();
        (words.next()? == "/").then_some(uuid)
    });
    let (uuid, plan_of) = (uuid.unwrap(), &prepared.plan);
    let disk = || Disk::open_write(run.image.path(), 512).unwrap();
    let span = plan_of.region(Action::Fat32).unwrap().span;
    let (mut device, mut nothing) = (disk(), |_| ());
    let window = Window::new(&mut device, span, &mut nothing);
    let volume = fat::Reader::open(window, fat::Limits::default()).unwrap().tree();
    write_tree(&volume.unwrap(), esp.path());
    let btrfs = FileSystem {
        kind: Kind::Btrfs,
        subvolumes: vec![Subvolume {
            mount_point: "/".to_owned(),
            name: "@".to_owned(),
        }],
        compression: Some("zstd:3".to_owned()),
    };
    let medium = run.fixture.medium();
    let plan_with = |file_system: &FileSystem| {
        let broken = Broken {
            disk: "/dev/sda",
            root: &root,
            root_uuid: &uuid,
            file_system,
            boot_uuid: None,
            boot_kind: None,
            volume_uuid: None,
            esp: Some(esp.path()),
            firmware: None,
            command_line: "",
        };
        plan(&broken, &medium, &mut disk())
    };
    let repair = plan_with(&btrfs).unwrap();
    assert!(repair.is_done(), "{}", repair.text());
    // Everything that starts it is lost; the menu comes from the records of the installation.
    let core = plan_of.region(Action::BootLoader).unwrap().span;
    let mut core_was = vec![0; core.size as usize];
    disk().read_at(core.start, &mut core_was).unwrap();
    let files = [MENU.to_owned(), format!("boot/initramfs-{KERNEL}.img")];
    let were = files.clone().map(|file| fs::read(root.join(file)).unwrap());
    let config = esp.path().join("EFI/BOOT/grub.cfg");
    let config_was = fs::read_to_string(&config).unwrap();
    assert!(
        config_was.contains("set prefix=($root)/@/boot/grub"),
        "{config_was}"
    );
    for file in &files {
        fs::remove_file(root.join(file)).unwrap();
    }
    fs::remove_dir_all(esp.path().join("EFI")).unwrap();
    disk().write_at(core.start, &vec![0; core.size as usize]).unwrap();
    let repair = plan_with(&btrfs).unwrap();
    repair.write_files(&root, Some(esp.path()), &mut disk()).unwrap();
    repair.write_disk(&mut disk()).unwrap();
    for (file, was) in files.iter().zip(were) {
        let now = fs::read(root.join(file)).unwrap();
        assert!(
            now == was,
            "{file}: {}",
            String::from_utf8_lossy(&now[..now.len().min(2000)])
        );
    }
    assert_eq!(fs::read_to_string(&config).unwrap(), config_was);
    let mut core_now = vec![0; core.size as usize];
    disk().read_at(core.start, &mut core_now).unwrap();
    assert!(core_now == core_was, "GRUB's core image");
    assert!(plan_with(&btrfs).unwrap().is_done());
    // A name that would be several words of the command line.
    let mut odd = btrfs.clone();
    odd.subvolumes[0].name = "@ init=/bin/sh".to_owned();
    let error = plan_with(&odd).unwrap_err().to_string();
    assert!(error.contains("Nothing was written"), "{error}");
    // The kernel must have what mounts the root.
    let xfs = FileSystem {
        kind: Kind::Xfs,
        ..FileSystem::default()
    };
    let error = plan_with(&xfs).unwrap_err().to_string();
    assert!(error.contains("has no module xfs"), "{error}");
}

#[test]
fn parts_of_sectors() {
    let image = tempfile::NamedTempFile::new().unwrap();
    let bytes: Vec<u8> = (0..16384u32).map(|at| at as u8 ^ (at >> 8) as u8).collect();
    for sector in [512, 4096] {
        fs::write(image.path(), &bytes).unwrap();
        let mut device = Disk::open_write(image.path(), sector).unwrap();
        write_any(&mut device, 4096, &[7; 440]).unwrap();
        write_any(&mut device, 0, &[9; 3]).unwrap();
        let mut expected = bytes.clone();
        expected[4096..4536].fill(7);
        expected[..3].fill(9);
        assert!(fs::read(image.path()).unwrap() == expected, "{sector}");
        let mut back = [0; 440];
        read_any(&mut device, 4096, &mut back).unwrap();
        assert_eq!(back, [7; 440]);
    }
    assert_eq!(serial_of("ABCD-0123"), Some(0xabcd_0123));
    assert_eq!(serial_of("ABCD0123"), None);
}
