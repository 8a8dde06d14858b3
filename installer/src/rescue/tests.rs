//! An encrypted system on an image file: found, opened, and made to start again.

use super::*;
use crate::boot_repair::{self, Broken};
use crate::device::{Reading, Span};
use crate::encryption::Inside;
use crate::engine::tests::{ANSWERS, Run, run};
use crate::file_system::FileSystem;
use crate::fixture::{KERNEL, write_tree};
use crate::plan::{Action, Plan};
use lycia_media::fat;
use lycia_tree::Tree;
use std::fs;
use std::os::unix::fs::symlink;

mod kernel;
mod mounts;

const PASSPHRASE: &str = "a long passphrase";

struct System {
    run: Run,
    plan: Plan,
    /// Where the disk has its node.
    dev: tempfile::TempDir,
}

fn installed() -> System {
    let secret = tempfile::NamedTempFile::new().unwrap();
    fs::write(secret.path(), format!("{PASSPHRASE}\n")).unwrap();
    let encrypted = format!(
        "boot-size = \"200 MiB\"\nencrypt = true\npassphrase-file = \"{}\"\n",
        secret.path().display()
    );
    let run = run(&ANSWERS.replace("swap-size = \"8 MiB\"\n", &encrypted));
    let prepared = run.prepare().unwrap();
    run.execute(&prepared);
    let dev = tempfile::tempdir().unwrap();
    symlink(run.image.path(), dev.path().join("sda")).unwrap();
    System {
        plan: prepared.plan,
        run,
        dev,
    }
}

impl System {
    fn survey(&self) -> Survey {
        survey(&self.run.machine, self.dev.path())
    }

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

    /// The trees of root, `/boot` and EFI system partition.
    fn trees(&self) -> [Tree; 3] {
        let mut device = self.disk(false);
        let (header, data) = (self.span(Action::LuksHeader), self.span(Action::Ext4));
        let opened = lycia_luks::open(
            &mut |at, bytes| device.read_at(header.start + at, bytes),
            PASSPHRASE.as_bytes(),
        )
        .unwrap();
        let mut nothing = |_| ();
        let root = {
            let mut inside = Inside::new(&mut device, data, opened.cipher().unwrap());
            let mut reader = Reader::open(Reading::new(&mut inside), Limits::default()).unwrap();
            reader.tree().unwrap()
        };
        let boot = Window::new(&mut device, self.span(Action::BootExt4), &mut nothing);
        let boot = Reader::open(boot, Limits::default()).unwrap().tree().unwrap();
        let mut nothing = |_| ();
        let esp = Window::new(&mut device, self.span(Action::Fat32), &mut nothing);
        let esp = fat::Reader::open(esp, fat::Limits::default())
            .unwrap()
            .tree()
            .unwrap();
        [root, boot, esp]
    }
}

/// One installation for all: it is the dear part.
#[test]
fn an_encrypted_system_is_found_opened_and_starts_again() {
    let system = installed();
    let found = it_is_locked_until_the_passphrase_is_there(&system);
    what_starts_it_is_as_the_installation_wrote_it(&system, &found);
    a_lost_boot_partition_is_told(&system);
}

fn it_is_locked_until_the_passphrase_is_there(system: &System) -> Installed {
    let mut found = system.survey();
    assert!(found.systems.is_empty(), "{found:?}");
    assert_eq!(found.locked.len(), 1);
    let volume = found.locked[0].clone();
    assert_eq!(volume.disk, "/dev/sda");
    // By nothing, by the volume, by a name that may be in it.
    for selector in [None, Some(volume.uuid.as_str()), Some("box")] {
        let error = found.select(selector).unwrap_err();
        assert!(
            matches!(&error, RescueError::Locked(uuid) if *uuid == volume.uuid),
            "{error}"
        );
    }
    assert_eq!(found.unlock(b"another passphrase").unwrap(), 0);
    assert_eq!(found.locked, std::slice::from_ref(&volume));
    assert_eq!(found.unlock(PASSPHRASE.as_bytes()).unwrap(), 1);
    assert!(found.locked.is_empty());
    for selector in [None, Some(volume.uuid.as_str()), Some("box")] {
        assert_eq!(found.select(selector).unwrap().hostname.as_deref(), Some("box"));
    }
    assert!(matches!(
        found.select(Some("other")),
        Err(RescueError::Count { count: 0, .. })
    ));
    let one = found.systems[0].clone();
    let boot = one.boot.clone().unwrap();
    assert!(boot.node.unwrap().starts_with("/dev/sda"));
    assert_eq!(one.root.volume.as_ref().unwrap().uuid(), volume.uuid);
    assert_eq!(one.clean, Some(true));
    // The key is shown nowhere.
    let key = format!("{:?}{}", one, serde_json::to_string(&found).unwrap());
    assert!(key.contains(&volume.uuid) && !key.contains(PASSPHRASE), "{key}");
    let opened = format!("{:?}", one.root.volume);
    assert!(opened.contains("key not shown"), "{opened}");
    one
}

fn what_starts_it_is_as_the_installation_wrote_it(system: &System, one: &Installed) {
    let [root, boot, esp] = system.trees();
    let (at, on_esp) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_tree(&root, at.path());
    write_tree(&boot, &at.path().join("boot"));
    write_tree(&esp, on_esp.path());
    let boot_uuid = one.boot.as_ref().map(|boot| boot.uuid.clone());
    let broken = Broken {
        disk: "/dev/sda",
        root: at.path(),
        root_uuid: &one.root.uuid,
        file_system: &FileSystem::default(),
        boot_uuid: boot_uuid.as_deref(),
        boot_kind: Some("ext4"),
        volume_uuid: one.root.volume.as_ref().map(Unlocked::uuid),
        esp: Some(on_esp.path()),
        firmware: None,
        command_line: "",
    };
    let plan = || boot_repair::plan(&broken, &system.run.fixture.medium(), &mut system.disk(false)).unwrap();
    assert!(plan().is_done(), "{}", plan().text());
    let (core, menu) = (
        system.span(Action::BootLoader),
        at.path().join("boot/grub/grub.cfg"),
    );
    let initramfs = at.path().join(format!("boot/initramfs-{KERNEL}.img"));
    let image = on_esp.path().join("EFI/BOOT/grub.cfg");
    let were = [&menu, &initramfs, &image].map(|path| fs::read(path).unwrap());
    let mut core_was = vec![0; core.size as usize];
    system.disk(false).read_at(core.start, &mut core_was).unwrap();
    // Everything that starts it is lost; the menu comes from the records of the installation.
    fs::remove_file(&menu).unwrap();
    fs::remove_file(&initramfs).unwrap();
    fs::remove_dir_all(on_esp.path().join("EFI")).unwrap();
    system
        .disk(true)
        .write_at(core.start, &vec![0; core.size as usize])
        .unwrap();
    let repair = plan();
    repair
        .write_files(at.path(), Some(on_esp.path()), &mut system.disk(false))
        .unwrap();
    repair.write_disk(&mut system.disk(true)).unwrap();
    assert!(plan().is_done(), "{}", plan().text());
    for (path, was) in [&menu, &initramfs, &image].into_iter().zip(were) {
        let now = fs::read(path).unwrap();
        assert!(
            now == was,
            "{}: {}",
            path.display(),
            String::from_utf8_lossy(&now[..now.len().min(2000)])
        );
    }
    let mut core_now = vec![0; core.size as usize];
    system.disk(false).read_at(core.start, &mut core_now).unwrap();
    assert!(core_now == core_was, "GRUB's core image");
}

fn a_lost_boot_partition_is_told(system: &System) {
    let boot = system.span(Action::BootExt4);
    system.disk(true).write_at(boot.start, &[0; 8192]).unwrap();
    let mut found = system.survey();
    found.unlock(PASSPHRASE.as_bytes()).unwrap();
    let one = found.select(None).unwrap();
    assert_eq!(one.boot.as_ref().unwrap().node, None);
    let directory = tempfile::tempdir().unwrap();
    let error = one.mount(&mut Kernel, directory.path()).unwrap_err().to_string();
    assert!(error.contains("no disk has it"), "{error}");
    // A header that is damaged is no volume any more, and nothing to be opened.
    let header = system.span(Action::LuksHeader);
    system
        .disk(true)
        .write_at(header.start, &vec![0; header.size as usize])
        .unwrap();
    let found = system.survey();
    assert!(found.locked.is_empty() && found.systems.is_empty(), "{found:?}");
}

#[test]
fn an_opened_volume_without_a_file_system_is_told() {
    use crate::encryption::{Passphrase, Sealed};
    const MIB: u64 = 1 << 20;
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(20 * MIB).unwrap();
    let settings = lycia_luks::Settings {
        uuid: "6a1f0f3e-0000-4000-8000-00000000000c".to_owned(),
        label: String::new(),
        kdf: lycia_luks::Kdf::Pbkdf2 { iterations: 10 },
        sector_size: 512,
    };
    let passphrase = Passphrase::new(PASSPHRASE.as_bytes().to_vec().into()).unwrap();
    let mut random = |bytes: &mut [u8]| {
        bytes.fill(7);
        Ok(())
    };
    let sealed = Sealed::with_key(&settings, vec![0x5e; 64].into(), &passphrase, &mut random).unwrap();
    let mut device = Disk::open_write(image.path(), 512).unwrap();
    let header = Span {
        start: 0,
        size: lycia_luks::DATA_OFFSET,
    };
    let data = Span {
        start: header.size,
        size: 4 * MIB,
    };
    sealed.write_header(&mut device, header).unwrap();
    let mut lvm = vec![0; 4096];
    lvm[512..520].copy_from_slice(b"LABELONE");
    lvm[536..544].copy_from_slice(b"LVM2 001");
    for (content, expected, words) in [
        (vec![0; 4096], None, "no file system that is known (LVM?)"),
        (
            lvm,
            Some("LVM2_member"),
            "no file system that is known (LVM2_member)",
        ),
    ] {
        let mut inside = Inside::new(&mut device, data, sealed.cipher().unwrap());
        inside.write_at(0, &content).unwrap();
        let mut survey = Survey::default();
        survey.locked.push(Volume {
            disk: "/dev/sda".to_owned(),
            partition: 5,
            uuid: settings.uuid.clone(),
            used: Vec::new(),
            path: image.path().to_owned(),
            sector: 512,
            span: Span {
                start: 0,
                size: 20 * MIB,
            },
        });
        assert_eq!(survey.unlock(PASSPHRASE.as_bytes()).unwrap(), 1);
        assert!(survey.locked.is_empty() && survey.systems.is_empty());
        let [one] = &survey.opened[..] else {
            panic!("{survey:?}")
        };
        assert_eq!((one.content.as_deref(), one.words().as_str()), (expected, words));
        let json = serde_json::to_value(&survey).unwrap();
        assert_eq!(json["opened"][0]["partition"], 5);
    }
}

#[test]
fn mounts_below_a_directory() {
    let table = "\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
40 22 253:0 / /mnt/a\\040b rw - ext4 /dev/mapper/lycia-luks-1 rw
41 40 8:1 / /mnt/a\\040b/boot rw - ext4 /dev/sda1 rw
42 22 8:9 / /mnt/a\\040bc rw - ext4 /dev/sdb1 rw
";
    let found = host::below(table, Path::new("/mnt/a b"));
    let places: Vec<&str> = found.iter().map(|(place, _)| place.to_str().unwrap()).collect();
    assert_eq!(places, ["/mnt/a b", "/mnt/a b/boot"]);
    assert_eq!(found[0].1, "/dev/mapper/lycia-luks-1");
    let error = unmount_system(&mut Kernel, tempfile::tempdir().unwrap().path()).unwrap_err();
    assert!(error.to_string().contains("nothing is mounted there"), "{error}");
}
