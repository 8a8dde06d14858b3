//! Whole installations onto image files.

use super::*;
use crate::answers::Secrets;
use crate::device::Disk;
use crate::fixture::{Fixture, KERNEL, SCUDO};
use crate::plan::Role;
use crate::plan::tests::disk;
use crate::probe::SCHEMA;
use crate::tools::{Running, Tools};
use lycia_media::ext4::{Limits, Reader};
use lycia_media::partition::gpt;
use lycia_tree::{Follow, Tree};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};

pub(crate) const ANSWERS: &str = r#"
schema = 1
[disk]
select = "S1"
layout = "erase"
esp-size = "64 MiB"
swap-size = "8 MiB"
swap-file-size = "16 MiB"
zram-size = "32 MiB"
[packages]
allocator = "scudo"
[system]
hostname = "box"
timezone = "Europe/Prague"
keymap = "us"
locale = "C.UTF-8"
[root]
password-hash = "$6$rootsalt$roothash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789AB"
[[user]]
name = "ann"
admin = true
groups = ["audio"]
password-hash = "$6$annsalt$annhash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABC"
ssh-keys = ["ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ann"]
[network]
kind = "static"
interface = "eth0"
address = "192.0.2.7/24"
gateway = "192.0.2.1"
dns = ["192.0.2.53"]
[services]
enable = ["sshd"]
[boot]
serial = "ttyS0,115200"
"#;

pub(crate) struct Run {
    pub(crate) fixture: Fixture,
    pub(crate) image: tempfile::NamedTempFile,
    pub(crate) machine: Machine,
    pub(crate) file: AnswersFile,
}

pub(crate) fn run(text: &str) -> Run {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(2 << 30).unwrap();
    let machine = Machine {
        schema: SCHEMA,
        firmware: Firmware::Bios,
        memory: None,
        disks: vec![disk(2 << 30, 512)],
        network: Vec::new(),
    };
    Run {
        fixture: Fixture::new(),
        image,
        machine,
        file: AnswersFile::parse(text, "a").unwrap(),
    }
}

impl Run {
    pub(crate) fn prepare(&self) -> Result<Prepared, EngineError> {
        let answers = self.file.resolve(Secrets::Read).unwrap();
        let mut device = Disk::open_read(self.image.path(), 512).unwrap();
        let journal = interrupted(&mut device).unwrap();
        prepare(
            &self.fixture.medium(),
            &self.machine,
            &answers,
            "",
            &mut device,
            journal.as_ref(),
            &|_| false,
        )
    }

    pub(crate) fn execute(&self, prepared: &Prepared) -> Vec<String> {
        self.execute_with(prepared, &mut Running::default())
    }

    pub(crate) fn execute_with(&self, prepared: &Prepared, tools: &mut dyn Tools) -> Vec<String> {
        let scratch = tempfile::tempdir().unwrap();
        let mut device = Disk::open_write(self.image.path(), 512).unwrap();
        let journal = interrupted(&mut device).unwrap();
        let warnings = prepared
            .execute(
                &self.file,
                &mut device,
                tools,
                scratch.path(),
                journal,
                &mut |_| (),
            )
            .unwrap();
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
        warnings
    }

    pub(crate) fn root(&self, plan: &Plan) -> Tree {
        let span = plan.region(Action::Ext4).unwrap().span;
        let mut image = File::open(self.image.path()).unwrap();
        image.seek(SeekFrom::Start(span.start)).unwrap();
        let part = tempfile::NamedTempFile::new().unwrap();
        // Sparse copies keep this fast.
        let status = std::process::Command::new("dd")
            .args(["bs=1M", "conv=sparse", "status=none"])
            .arg(format!("if={}", self.image.path().display()))
            .arg(format!("of={}", part.path().display()))
            .arg(format!("skip={}", span.start >> 20))
            .arg(format!("count={}", span.size >> 20))
            .status()
            .unwrap();
        assert!(status.success());
        part.as_file().set_len(span.size).unwrap();
        Reader::open(part.reopen().unwrap(), Limits::default())
            .unwrap()
            .tree()
            .unwrap()
    }
}

fn text(tree: &Tree, path: &str) -> String {
    String::from_utf8_lossy(
        tree.read(path.as_bytes())
            .unwrap_or_else(|error| panic!("{path}: {error}")),
    )
    .into_owned()
}

fn mode(tree: &Tree, path: &str) -> (u16, u32, u32) {
    let metadata = &tree
        .inode(tree.resolve(path.as_bytes(), Follow::Parents).unwrap())
        .metadata;
    (metadata.mode, metadata.uid, metadata.gid)
}

#[test]
fn an_installation_from_answers_to_disk() {
    let run = run(ANSWERS);
    let prepared = run.prepare().unwrap();
    let shown = prepared.plan.text();
    for part in [
        "base-1-r0",
        "ann (password, 1 ssh keys",
        "allocator  scudo",
        "eth0 192.0.2.7/24 via 192.0.2.1",
        "console=ttyS0,115200",
    ] {
        assert!(
            shown.contains(part) || prepared.plan.json().unwrap().contains(part),
            "{part}: {shown}"
        );
    }
    let before = std::fs::metadata(run.image.path()).unwrap().modified().unwrap();
    assert!(prepared.confirm(&Consent::default()).is_err());
    assert!(
        prepared
            .confirm(&Consent {
                hash: Some("0".into()),
                typed: None
            })
            .is_err()
    );
    assert!(
        prepared
            .confirm(&Consent {
                hash: None,
                typed: Some("sdb".into())
            })
            .is_err()
    );
    assert_eq!(
        std::fs::metadata(run.image.path()).unwrap().modified().unwrap(),
        before
    );
    prepared
        .confirm(&Consent {
            hash: None,
            typed: Some("sda".into()),
        })
        .unwrap();
    prepared
        .confirm(&Consent {
            hash: Some(prepared.plan.hash()),
            typed: None,
        })
        .unwrap();
    let warnings = run.execute(&prepared);
    assert!(
        warnings.iter().any(|warning| warning.contains("doas")),
        "{warnings:?}"
    );

    let tree = run.root(&prepared.plan);
    let identity_line = text(&tree, "etc/fstab");
    let uuid = identity_line
        .lines()
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap()
        .strip_prefix("UUID=")
        .unwrap()
        .to_owned();
    for (path, expected) in [
        ("etc/hostname", "box\n"),
        (
            "etc/dinit.d/boot.d/lycia-zram",
            &text(&tree, "etc/dinit.d/lycia-zram"),
        ),
        ("etc/keymap", "us\n"),
        ("etc/locale.conf", "LANG=C.UTF-8\n"),
        ("etc/machine-id", "uninitialized\n"),
        ("etc/resolv.conf", "nameserver 192.0.2.53\n"),
        (
            "etc/apk/world",
            "base\ngrub-i386-pc\ngrub-x86_64-efi\nkernel\nmusl\n",
        ),
        (
            "etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1000:ann:/home/ann:/bin/sh\n",
        ),
        (
            "etc/group",
            "root:x:0:\nwheel:x:1:ann\naudio:x:3:ann\nusers:x:100:\nann:x:1000:\n",
        ),
    ] {
        assert_eq!(text(&tree, path), expected, "{path}");
    }
    let shadow = text(&tree, "etc/shadow");
    assert!(
        shadow.contains("root:$6$rootsalt$roothash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789AB:") && shadow.contains("ann:$6$annsalt$annhash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABC:"),
        "{shadow}"
    );
    assert_eq!(
        mode(&tree, "etc/shadow").0 & 0o077,
        0o040 & mode(&tree, "etc/shadow").0
    );
    assert_eq!(mode(&tree, "home/ann"), (0o700, 1000, 1000));
    assert_eq!(mode(&tree, "home/ann/.ssh/authorized_keys"), (0o600, 1000, 1000));
    assert_eq!(mode(&tree, "home/ann/.profile"), (0o644, 1000, 1000));
    assert_eq!(mode(&tree, "var/log/lycia-install/plan.txt").0, 0o600);
    assert!(text(&tree, "etc/lycia/static-network.sh").contains("192.0.2.7/24 dev 'eth0'"));
    let link = tree
        .inode(tree.resolve(b"etc/localtime", Follow::Parents).unwrap())
        .symlink()
        .map(<[u8]>::to_vec);
    assert_eq!(link.as_deref(), Some(&b"../usr/share/zoneinfo/Europe/Prague"[..]));
    assert!(
        tree.find(b"etc/dinit.d/boot.d/sshd", Follow::Parents)
            .unwrap()
            .is_some()
    );
    assert_eq!(tree.read(b"usr/lib/libc.so").unwrap(), SCUDO);
    let menu = text(&tree, "boot/grub/grub.cfg");
    assert!(
        menu.contains(&format!(
            "root=UUID={uuid} ro console=tty0 console=ttyS0,115200 quiet"
        )),
        "{menu}"
    );
    assert!(
        tree.find(format!("boot/initramfs-{KERNEL}.img").as_bytes(), Follow::All)
            .unwrap()
            .is_some()
    );
    assert!(
        tree.find(b"boot/grub/i386-pc/normal.mod", Follow::All)
            .unwrap()
            .is_some()
    );

    // No secret is anywhere but in the shadow file: not in the journal, the plan, the log.
    let mut rest = Vec::new();
    for path in [
        "var/log/lycia-install/plan.txt",
        "var/log/lycia-install/answers.toml",
        "var/log/lycia-install/log.txt",
    ] {
        rest.extend_from_slice(text(&tree, path).as_bytes());
    }
    let mut journal = vec![0; prepared.plan.journal().size as usize];
    let mut image = File::open(run.image.path()).unwrap();
    image
        .seek(SeekFrom::Start(prepared.plan.journal().start))
        .unwrap();
    image.read_exact(&mut journal).unwrap();
    rest.extend_from_slice(&journal);
    rest.extend_from_slice(shown.as_bytes());
    rest.extend_from_slice(prepared.plan.json().unwrap().as_bytes());
    for secret in [&b"roothash"[..], b"annhash", b"rootsalt", b"annsalt"] {
        assert!(!rest.windows(secret.len()).any(|window| window == secret));
    }

    // The boot sector leads to the core image, the fallback path to the same root.
    let mut sector = [0; 512];
    image.seek(SeekFrom::Start(0)).unwrap();
    image.read_exact(&mut sector).unwrap();
    let core = prepared.plan.region(Action::BootLoader).unwrap().span.start;
    assert_eq!(
        u64::from_le_bytes(sector[0x5c..0x64].try_into().unwrap()),
        core / 512
    );
    let esp = prepared.plan.region(Action::Fat32).unwrap().span.start;
    let output = std::process::Command::new("mtype")
        .arg("-i")
        .arg(format!("{}@@{esp}", run.image.path().display()))
        .arg("::/EFI/BOOT/grub.cfg")
        .output()
        .expect("mtype is missing: install the Debian package mtools");
    let config = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        config.contains(&uuid) && config.contains("configfile $prefix/grub.cfg"),
        "{config}"
    );
    // It is found again by reading alone.
    let dev = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(run.image.path(), dev.path().join("sda")).unwrap();
    let systems = crate::rescue::survey(&run.machine, dev.path());
    let one = systems.select(Some("box")).unwrap();
    assert_eq!(
        (
            one.node().as_str(),
            one.root.uuid.as_str(),
            systems.systems[0].clean
        ),
        ("/dev/sda4", uuid.as_str(), Some(true))
    );
    assert!(systems.select(Some("other")).is_err());
    assert_eq!(systems.select(None).unwrap().root.uuid, one.root.uuid);

    let (table, _) = gpt::Table::read(&mut image, 512).unwrap();
    assert_eq!(table.partitions.len(), 4);
    assert!(prepared.plan.partition(Role::Swap).is_some());
}

/// Every file of the FAT volume at a byte of an image, as mtools reads it.
fn esp_files(image: &Path, at: u64) -> BTreeMap<String, Vec<u8>> {
    let out = tempfile::tempdir().unwrap();
    let status = std::process::Command::new("mcopy")
        .args(["-s", "-n", "-i"])
        .arg(format!("{}@@{at}", image.display()))
        .arg("::/*")
        .arg(out.path())
        .status()
        .expect("mcopy is missing: install the Debian package mtools");
    assert!(status.success());
    let mut found = BTreeMap::new();
    let mut waiting = vec![out.path().to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                waiting.push(path);
            } else {
                let name = path.strip_prefix(out.path()).unwrap().display().to_string();
                found.insert(name, std::fs::read(&path).unwrap());
            }
        }
    }
    found
}

#[test]
fn what_a_bios_started_before_is_in_the_new_menu() {
    use std::os::unix::fs::FileExt as _;
    let answers = ANSWERS.replace(
        "layout = \"erase\"\nesp-size = \"64 MiB\"",
        "layout = \"alongside\"",
    );
    let mut run = run(&answers);
    run.machine.disks = vec![disk(4 << 30, 512)];
    run.image.as_file().set_len(4 << 30).unwrap();
    for (at, page) in crate::plan::tests::with_esp().content() {
        run.image.as_file().write_all_at(&page, at).unwrap();
    }
    // Nothing is said of a sector without code.
    let text = run.prepare().unwrap().plan.text();
    assert!(
        text.contains("protective MBR and boot code: write table") && !text.contains("starts now"),
        "{text}"
    );
    // GRUB of a system that stays, with its core image in a partition that is kept; and in what is written over.
    let boot = std::fs::read("/usr/lib/grub/i386-pc/boot.img").unwrap();
    let files = [("boot.img".to_owned(), Content::from(boot))].into();
    let root = run.prepare().unwrap().plan.root().unwrap().span.start;
    for (core, says, kept) in [
        (
            100 << 20,
            "the new menu has it as `What this disk started before`",
            true,
        ),
        (
            root,
            "the new menu has no entry for it: its GRUB is at byte",
            false,
        ),
    ] {
        let code = grub::boot_code(&files, core / 512).unwrap();
        run.image.as_file().write_all_at(&code, 0).unwrap();
        let mut sector = [0; 512];
        run.image.as_file().read_exact_at(&mut sector, 0).unwrap();
        let prepared = run.prepare().unwrap();
        let text = prepared.plan.text();
        assert!(text.contains(says), "{text}");
        assert_eq!(text.contains("/boot/grub/previous.img"), kept, "{text}");
        if kept {
            let bare = run.image.path().to_owned();
            run.execute(&prepared);
            let tree = run.root(&prepared.plan);
            assert_eq!(tree.read(b"boot/grub/previous.img").unwrap(), sector);
            let mut now = [0; 512];
            File::open(&bare).unwrap().read_exact(&mut now).unwrap();
            assert_ne!(now[..440], sector[..440]);
            let mut device = Disk::open_write(&bare, 512).unwrap();
            apply::undo(&mut device).unwrap();
        }
    }
}

/// Answers for an installation beside what is on a disk with an EFI system partition, and the machine.
fn beside_others(more: &str) -> (String, Run) {
    let answers = ANSWERS.replace(
        "layout = \"erase\"\nesp-size = \"64 MiB\"",
        &format!("layout = \"alongside\"\nesp = 1\n{more}"),
    );
    let mut run = run(&answers);
    run.machine.firmware = Firmware::Uefi { bits: Some(64) };
    run.machine.disks = vec![disk(4 << 30, 512)];
    run.image.as_file().set_len(4 << 30).unwrap();
    for (at, page) in crate::plan::tests::with_esp().content() {
        use std::os::unix::fs::FileExt as _;
        run.image.as_file().write_all_at(&page, at).unwrap();
    }
    (answers, run)
}

/// Two of our systems on one disk: each is started from a folder of its own, and the fallback path stays that of the first.
#[test]
fn a_second_installation_leaves_the_boot_files_of_the_first() {
    let (answers, mut run) = beside_others("root-size = \"768 MiB\"");
    let efivars = tempfile::tempdir().unwrap();
    let install = |run: &Run| {
        let mut prepared = run.prepare().unwrap();
        prepared.efivars = Some(efivars.path().to_owned());
        run.execute(&prepared);
        prepared
    };
    install(&run);
    let first = esp_files(run.image.path(), 1 << 20);
    assert!(first.contains_key("EFI/lycia/grubx64.efi"));
    run.file = AnswersFile::parse(&answers.replace("\"box\"", "\"second\""), "a").unwrap();
    let second = install(&run);
    let text = second.plan.text();
    for line in [
        "\\EFI\\lycia-2 on partition 1",
        "\\EFI\\BOOT there is another system's and stays",
        "\\EFI\\lycia there starts another system",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
    let both = esp_files(run.image.path(), 1 << 20);
    assert!(first.iter().all(|(name, bytes)| both[name] == *bytes));
    assert_eq!(both.len(), first.len() + 2);
    assert!(both["EFI/lycia-2/grub.cfg"] != both["EFI/lycia/grub.cfg"]);
    // Two entries of the firmware's menu, and the order.
    assert_eq!(std::fs::read_dir(efivars.path()).unwrap().count(), 3);
    // The second is written over: its folder is used again.
    let number = |role| second.plan.partition(role).unwrap().number;
    let replace = format!(
        "layout = \"replace\"\nreplace = [{}, {}]",
        number(Role::Root),
        number(Role::Swap)
    );
    run.file = AnswersFile::parse(&answers.replace("layout = \"alongside\"", &replace), "a").unwrap();
    install(&run);
    let again = esp_files(run.image.path(), 1 << 20);
    assert!(first.iter().all(|(name, bytes)| again[name] == *bytes));
    assert_eq!(again.len(), both.len());
    assert!(again["EFI/lycia-2/grub.cfg"] != both["EFI/lycia-2/grub.cfg"]);
}

#[test]
fn an_installation_beside_another_system_shares_its_esp() {
    let (answers, mut run) = beside_others("");
    let before = esp_files(run.image.path(), 1 << 20);
    assert_eq!(before.len(), 2);
    let efivars = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let mut prepared = run.prepare().unwrap();
        prepared.efivars = Some(efivars.path().to_owned());
        let text = prepared.plan.text();
        assert!(
            text.contains("\\EFI\\lycia on partition 1") && text.contains("EFI\\BOOT there too"),
            "{text}"
        );
        run.execute(&prepared);
        let after = esp_files(run.image.path(), 1 << 20);
        let names: Vec<&str> = after.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "EFI/BOOT/BOOTX64.EFI",
                "EFI/BOOT/grub.cfg",
                "EFI/Microsoft/Boot/bootmgfw.efi",
                "EFI/debian/shimx64.efi",
                "EFI/lycia/grub.cfg",
                "EFI/lycia/grubx64.efi"
            ]
        );
        assert!(before.iter().all(|(name, bytes)| after[name] == *bytes));
        assert!(after["EFI/lycia/grubx64.efi"] == after["EFI/BOOT/BOOTX64.EFI"]);
        let fstab = text_of(&run.root(&prepared.plan));
        assert!(fstab.contains("UUID=1234-5678  /boot/efi  vfat"), "{fstab}");
        if round == 0 {
            // Once more, over what is ours now: the new root goes, its boot loader is replaced.
            let root = prepared.plan.partition(Role::Root).unwrap().number;
            let swap = prepared.plan.partition(Role::Swap).unwrap().number;
            let again = answers.replace(
                "layout = \"alongside\"",
                &format!("layout = \"replace\"\nreplace = [{root}, {swap}]"),
            );
            run.file = AnswersFile::parse(&again, "a").unwrap();
        }
    }
    // One entry of the firmware's menu, and the order: both runs have the same.
    let count = std::fs::read_dir(efivars.path()).unwrap().count();
    assert_eq!(count, 2);
    // Undone, the first state of the second run is back: ours of the first run among it.
    let mut device = Disk::open_write(run.image.path(), 512).unwrap();
    apply::undo(&mut device).unwrap();
    let after = esp_files(run.image.path(), 1 << 20);
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes) && after.len() == 6);
    // A volume that is too full is refused before anything is written.
    let mut nothing = |_| ();
    let span = crate::device::Span {
        start: 1 << 20,
        size: 8 << 20,
    };
    let free = lycia_media::fat::structures(crate::device::Window::new(&mut device, span, &mut nothing), 0)
        .unwrap()
        .free;
    let mut tree = Tree::new(lycia_tree::Metadata::new(0o755, lycia_tree::Timestamp::default()));
    let bytes = vec![1; free as usize - (128 << 10)];
    tree.write(
        b"large",
        lycia_tree::Metadata::new(0o644, lycia_tree::Timestamp::default()),
        bytes.into(),
    )
    .unwrap();
    let mut window = crate::device::Window::new(&mut device, span, &mut nothing);
    lycia_media::fat::Insertion::new(&mut window, &tree, lycia_tree::Timestamp::default())
        .unwrap()
        .write(&mut window)
        .unwrap();
    let Err(error) = run.prepare() else { panic!() };
    assert!(
        error
            .to_string()
            .contains("free space of the EFI system partition 1"),
        "{error}"
    );
}

fn text_of(tree: &Tree) -> String {
    text(tree, "etc/fstab")
}

#[test]
fn an_encrypted_installation_and_its_resumption() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "a long passphrase\n").unwrap();
    let answers = ANSWERS.replace(
        "swap-size = \"8 MiB\"\n",
        &format!(
            "boot-size = \"200 MiB\"\nencrypt = true\npassphrase-file = \"{}\"\n",
            secret.path().display()
        ),
    );
    let run = run(&answers);
    let prepared = run.prepare().unwrap();
    assert!(!prepared.wants_passphrase());
    let shown = prepared.plan.text();
    assert!(
        shown.contains("format LUKS2") && shown.contains("LUKS2, aes-xts-plain64"),
        "{shown}"
    );
    run.execute(&prepared);
    let passphrase = Passphrase::new(b"a long passphrase".to_vec().into()).unwrap();
    let mut device = Disk::open_write(run.image.path(), 512).unwrap();
    let header = prepared.plan.region(Action::LuksHeader).unwrap().span;
    let data = prepared.plan.region(Action::Ext4).unwrap().span;
    let read = |device: &mut Disk| {
        let opened = lycia_luks::open(
            &mut |at, bytes| device.read_at(header.start + at, bytes),
            b"a long passphrase",
        );
        let opened = opened.unwrap();
        let mut inside = crate::encryption::Inside::new(device, data, opened.cipher().unwrap());
        let whole = crate::device::Span {
            start: 0,
            size: data.size,
        };
        let mut nothing = |_| ();
        let window = crate::device::Window::new(&mut inside, whole, &mut nothing);
        let limits = Limits::default();
        (Reader::open(window, limits).unwrap().tree().unwrap(), opened.uuid)
    };
    let (tree, uuid) = read(&mut device);
    assert_eq!(
        text(&tree, "etc/crypttab").lines().nth(1),
        Some(format!("root  UUID={uuid}  none  luks").as_str())
    );
    assert!(text(&tree, "etc/fstab").contains("  /boot  ext4"));
    assert!(tree.find(b"boot/grub", Follow::All).unwrap().is_none());
    // /boot has what GRUB reads, and leads to the volume.
    let boot = prepared.plan.region(Action::BootExt4).unwrap().span;
    let mut nothing = |_| ();
    let window = crate::device::Window::new(&mut device, boot, &mut nothing);
    let boot = Reader::open(window, Limits::default()).unwrap().tree().unwrap();
    let menu = text(&boot, "grub/grub.cfg");
    assert!(
        menu.contains(&format!("rd.luks.name={uuid}=root")) && menu.contains("linux /vmlinuz-"),
        "{menu}"
    );
    assert!(
        boot.find(b"grub/i386-pc/normal.mod", Follow::All)
            .unwrap()
            .is_some()
    );
    // Nothing of the passphrase is on the disk, encrypted or not.
    let mut bytes = Vec::new();
    File::open(run.image.path())
        .unwrap()
        .read_to_end(&mut bytes)
        .unwrap();
    let needle = b"long passphrase";
    assert!(!bytes.windows(needle.len()).any(|window| window == needle));
    drop(bytes);
    // An interrupted run goes on with the key that the disk has, and not with another passphrase.
    let identity = Identity::new([3; 16]);
    let uuid = identity.volume().to_string();
    assert!(
        Sealed::resumed(&mut device, header, &uuid, &passphrase)
            .unwrap()
            .is_none()
    );
    let own = read(&mut device).1;
    assert!(
        Sealed::resumed(&mut device, header, &own, &passphrase)
            .unwrap()
            .unwrap()
            .header
            .is_none()
    );
    let other = Passphrase::new(b"another passphrase".to_vec().into()).unwrap();
    assert!(matches!(
        Sealed::resumed(&mut device, header, &own, &other),
        Err(LuksError::Passphrase)
    ));
    // Without a passphrase nothing is written.
    let mut asked = run;
    asked.file.disk.passphrase_file = None;
    let prepared = asked.prepare().unwrap();
    assert!(prepared.wants_passphrase());
    let scratch = tempfile::tempdir().unwrap();
    let result = prepared.execute(
        &asked.file,
        &mut device,
        &mut Running::default(),
        scratch.path(),
        None,
        &mut |_| (),
    );
    assert!(matches!(result, Err(EngineError::Unsupported(_))));
}

#[test]
fn a_trigger_that_nobody_stands_for_runs_at_the_first_boot() {
    let answers = ANSWERS.replace(
        "allocator = \"scudo\"",
        "allocator = \"scudo\"\nextra = [\"fonts\"]",
    );
    let run = run(&answers);
    let prepared = run.prepare().unwrap();
    let warnings = run.execute(&prepared);
    assert!(
        warnings
            .iter()
            .any(|warning| warning.starts_with("the trigger of fonts runs at the first boot")),
        "{warnings:#?}"
    );
    let root = run.root(&prepared.plan);
    let entries: Vec<String> = root
        .walk()
        .map(|entry| lycia_tree::display(&entry.path))
        .filter(|path| path.contains("fonts-1-r0.trigger") || path.contains("/etc/dinit.d/boot.d/"))
        .collect();
    let script = entries.iter().find(|path| path.ends_with("fonts-1-r0.trigger"));
    let script = script.unwrap_or_else(|| panic!("{entries:#?}"));
    assert!(text(&root, script).contains("echo"));
    assert!(
        entries.iter().any(|path| path.contains("first-boot")),
        "{entries:#?}"
    );
}

#[test]
fn a_resumed_installation_makes_the_same_plan() {
    let run = run(ANSWERS);
    let prepared = run.prepare().unwrap();
    // Begun, and stopped as soon as the journal was there.
    let mut device = Disk::open_write(run.image.path(), 512).unwrap();
    let notes = prepared.notes(&run.file).unwrap();
    assert!(notes.consoles.iter().any(|console| console.starts_with("ttyS")));
    Journal::begin(&mut device, &prepared.plan, [3; 16], notes).unwrap();
    // Written over, as a step does, and beside the tables.
    device.write_at(512 << 10, &[0xff; 4096]).unwrap();
    let again = run.prepare().unwrap();
    assert_eq!(again.plan.hash(), prepared.plan.hash());
    run.execute(&again);
    let mut device = Disk::open_read(run.image.path(), 512).unwrap();
    assert!(interrupted(&mut device).unwrap().is_none());
    // Other answers are another plan.
    let mut device = Disk::open_write(run.image.path(), 512).unwrap();
    let mut other = run;
    let prepared = other.prepare().unwrap();
    let notes = prepared.notes(&other.file).unwrap();
    Journal::begin(&mut device, &prepared.plan, [3; 16], notes).unwrap();
    other.file.system.hostname = Some("other".into());
    let prepared = other.prepare().unwrap();
    let journal = interrupted(&mut device).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let result = prepared.execute(
        &other.file,
        &mut device,
        &mut Running::default(),
        scratch.path(),
        journal,
        &mut |_| (),
    );
    assert!(matches!(result, Err(EngineError::OtherPlan { .. })));
}

/// The medium may be started by UEFI the first time and by BIOS the second, or the other way round.
#[test]
fn a_resumed_installation_is_the_one_of_the_firmware_it_began_under() {
    let (uefi, bios) = (Firmware::Uefi { bits: Some(64) }, Firmware::Bios);
    for (first, second, missed) in [(uefi, bios, true), (bios, uefi, false)] {
        let mut run = run(ANSWERS);
        run.machine.firmware = first;
        let prepared = run.prepare().unwrap();
        let mut device = Disk::open_write(run.image.path(), 512).unwrap();
        let notes = prepared.notes(&run.file).unwrap();
        Journal::begin(&mut device, &prepared.plan, [3; 16], notes).unwrap();
        run.machine.firmware = second;
        let again = run.prepare().unwrap();
        assert_eq!(again.plan.hash(), prepared.plan.hash());
        let warnings = run.execute(&again);
        assert_eq!(
            warnings
                .iter()
                .any(|warning| warning.contains("without UEFI this time")),
            missed,
            "{warnings:?}"
        );
        assert!(interrupted(&mut device).unwrap().is_none());
    }
}

#[test]
fn what_the_packages_do_not_have_is_said() {
    for (from, to, expected) in [
        ("Europe/Prague", "Europe/Progue", "did you mean `Europe/Prague`?"),
        ("keymap = \"us\"", "keymap = \"uz\"", "did you mean `us`?"),
        (
            "groups = [\"audio\"]",
            "groups = [\"audia\"]",
            "did you mean `audio`?",
        ),
        (
            "enable = [\"sshd\"]",
            "enable = [\"sshf\"]",
            "did you mean `sshd`?",
        ),
    ] {
        let run = run(&ANSWERS.replace(from, to));
        let mut prepared = run.prepare().unwrap();
        let scratch = tempfile::tempdir().unwrap();
        // Before anybody is asked to agree, and again where somebody installs without that.
        let error = prepared.try_out(scratch.path(), &mut |_| ()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        let mut device = Disk::open_write(run.image.path(), 512).unwrap();
        let error = prepared
            .execute(
                &run.file,
                &mut device,
                &mut Running::default(),
                scratch.path(),
                None,
                &mut |_| (),
            )
            .unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        // Found out before the disk was touched.
        assert_eq!(
            std::fs::metadata(run.image.path())
                .map(|m| std::os::unix::fs::MetadataExt::blocks(&m))
                .unwrap(),
            0
        );
    }
    for (from, to, expected) in [
        (
            "allocator = \"scudo\"",
            "allocator = \"scuda\"",
            "did you mean `scudo`?",
        ),
        (
            "allocator = \"scudo\"",
            "kernel = \"kernal\"",
            "did you mean `kernel`?",
        ),
        (
            "allocator = \"scudo\"",
            "extra = [\"nothing-of-that-name\"]",
            "nothing-of-that-name",
        ),
        (
            "allocator = \"scudo\"",
            "allocator = \"scudo\"\nextra = [\"musl-mallocng\"]",
            "belongs to the allocator mallocng",
        ),
        ("select = \"S1\"", "select = \"S2\"", "no disk matches"),
        ("layout = \"erase\"", "layout = \"alongside\"", "GPT only"),
    ] {
        let error = run(&ANSWERS.replace(from, to))
            .prepare()
            .err()
            .unwrap()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

fn with_root(lines: &str) -> Run {
    run(&ANSWERS.replace("esp-size", &format!("{lines}\nesp-size")))
}

#[test]
fn a_root_of_btrfs_is_planned_with_its_subvolumes_and_programs() {
    let run = with_root(
        "filesystem = \"btrfs\"\ncompression = \"zstd:3\"\nsubvolumes = { \"@\" = \"/\", \"@home\" = \"/home\", \"@log\" = \"/var/log\" }",
    );
    let prepared = run.prepare().unwrap();
    let shown = prepared.plan.text();
    for line in [
        "root: format btrfs",
        "mount      root  /  btrfs  rw,relatime,compress=zstd:3,subvol=/@",
        "mount      root  /home  btrfs  rw,relatime,compress=zstd:3,subvol=/@home",
        "mount      root  /var/log  btrfs  rw,relatime,compress=zstd:3,subvol=/@log",
        "runs       mkfs.btrfs -f -K -q -L root -U UUID -s 4096 -d single -m dup ROOT",
    ] {
        assert!(
            shown.lines().any(|shown| shown.ends_with(line)),
            "{line}\n{shown}"
        );
    }
    assert!(prepared.software.world.iter().any(|word| word == "btrfs-progs"));
    // The hash covers every one of these.
    let mut hashes = BTreeSet::from([prepared.plan.hash()]);
    for lines in [
        "filesystem = \"btrfs\"\ncompression = \"zstd:3\"",
        "filesystem = \"btrfs\"\ncompression = \"zstd:4\"",
        "filesystem = \"btrfs\"",
        "filesystem = \"ext4\"",
    ] {
        hashes.insert(with_root(lines).prepare().unwrap().plan.hash());
    }
    assert_eq!(hashes.len(), 5);
    // What was typed is what can be saved.
    let again = AnswersFile::parse(&run.file.text().unwrap(), "b").unwrap();
    assert_eq!(again, run.file);
}

#[test]
fn a_file_system_that_cannot_be_is_refused_before_there_is_a_plan() {
    for (name, expected) in [
        ("xfs", "the medium has no file system `xfs`"),
        (
            "f2fs",
            "the kernel `kernel` cannot mount a root of f2fs; no kernel of this medium can",
        ),
    ] {
        let mut run = with_root(&format!("filesystem = \"{name}\""));
        run.file.disk.swap_file_size = None;
        let Err(error) = run.prepare() else {
            panic!("{name}")
        };
        assert!(error.to_string().contains(expected), "{error}");
    }
}

#[test]
fn a_system_without_the_programs_writes_nothing() {
    let run = with_root("filesystem = \"btrfs\"");
    let prepared = run.prepare().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut device = Disk::open_write(run.image.path(), 512).unwrap();
    let nowhere = tempfile::tempdir().unwrap();
    let mut tools = Running::at(nowhere.path());
    let error = prepared
        .execute(
            &run.file,
            &mut device,
            &mut tools,
            scratch.path(),
            None,
            &mut |_| (),
        )
        .unwrap_err();
    assert!(
        error.to_string().contains("this system has no mkfs.btrfs"),
        "{error}"
    );
    assert_eq!(
        std::fs::metadata(run.image.path())
            .map(|data| std::os::unix::fs::MetadataExt::blocks(&data))
            .unwrap(),
        0
    );
}

#[test]
fn a_table_by_hand_with_a_home_of_its_own() {
    let run = run(&ANSWERS.replace(
        "layout = \"erase\"\nesp-size = \"64 MiB\"\nswap-size = \"8 MiB\"\nswap-file-size = \"16 MiB\"\nzram-size = \"32 MiB\"",
        "layout = \"table\"\nnew-table = true\n[[disk.partition]]\nuse = \"bios-boot\"\nsize = \"1 MiB\"\n[[disk.partition]]\nuse = \"home\"\nsize = \"200 MiB\"\n[[disk.partition]]\nuse = \"root\"",
    ));
    assert_eq!(run.file.disk.partition.len(), 3, "the text was not replaced");
    let prepared = run.prepare().unwrap();
    run.execute(&prepared);
    let image = run.image.path().to_str().unwrap();
    let said = std::process::Command::new("sgdisk")
        .args(["--verify", image])
        .output()
        .expect("sgdisk is missing: install the Debian package gdisk");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("No problems found"), "{said}");
    let span = prepared.plan.region(Action::HomeExt4).unwrap().span;
    let part = tempfile::NamedTempFile::new().unwrap();
    let status = std::process::Command::new("dd")
        .args(["bs=1M", "conv=sparse", "status=none"])
        .arg(format!("if={image}"))
        .arg(format!("of={}", part.path().display()))
        .arg(format!("skip={}", span.start >> 20))
        .arg(format!("count={}", span.size >> 20))
        .status()
        .unwrap();
    assert!(status.success());
    part.as_file().set_len(span.size).unwrap();
    let check = std::process::Command::new("e2fsck")
        .args(["-fn", part.path().to_str().unwrap()])
        .output()
        .expect("e2fsck is missing: install the Debian package e2fsprogs");
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
    let home = Reader::open(part.reopen().unwrap(), Limits::default())
        .unwrap()
        .tree()
        .unwrap();
    // The user's folder is in it, and in the root only the place where it is mounted.
    assert_eq!(mode(&home, "ann").0 & 0o7000, 0);
    assert!(home.find(b"ann", Follow::All).unwrap().is_some());
    let root = run.root(&prepared.plan);
    assert!(root.find(b"home", Follow::All).unwrap().is_some());
    assert!(root.find(b"home/ann", Follow::All).unwrap().is_none());
    assert!(text(&root, "etc/fstab").contains("  /home  ext4  rw,relatime  0  2"));
}
