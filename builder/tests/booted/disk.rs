//! The embedded seed's disk boots to a login with BIOS and UEFI and grows to the disk that it is written to; a trigger that could not
//! run while it was made runs at its first boot and at no other; the kit for the network boots from the network.
//!
//! One test, one guest after another: each takes a processor.

use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::keys::{KeyRing, SigningKey};
use lycia_apk::metadata::{Acl, PackageInfo, ScriptKind};
use lycia_apk::package::{PackageBuilder, Trust};
use lycia_qemu::{Architecture, Firmware, Guest, Machine, Medium, Network};

/// For each stage, on a machine that has other work.
const LIMIT: Duration = Duration::from_secs(600);
/// Bytes of the disk that the image is written to.
const DISK: u64 = 3 << 30;

fn said(command: &mut Command) -> String {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

fn ask(guest: &Guest, command: &str) -> String {
    guest
        .serial
        .run(command, LIMIT)
        .and_then(lycia_qemu::Output::successful)
        .unwrap()
}

/// What the trigger of the test's package leaves, one line for each time.
const TRIGGERED: &str = "/var/lib/late/ran";

/// A project with the definitions of the checkout, and the image `disk` with one more package, of which the trigger has no
/// native implementation.
fn with_a_late_trigger(checkout: &Path, folder: &Path) {
    for part in ["configs", "overlays"] {
        said(Command::new("cp").arg("-r").arg(checkout.join(part)).arg(folder));
    }
    let key = said(Command::new("openssl").args([
        "genpkey",
        "-quiet",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]));
    let key = SigningKey::from_pem("late.pub", key.as_bytes()).unwrap();
    let keys = std::slice::from_ref(&key);
    let mut package = PackageBuilder::new(PackageInfo {
        name: "late".to_owned(),
        version: "1.2-r3".to_owned(),
        arch: "x86_64".to_owned(),
        license: "MIT".to_owned(),
        build_time: 1_700_000_000,
        ..PackageInfo::default()
    });
    let script =
        format!("#!/bin/sh\necho \"$0|$*|$APK_PACKAGE|$APK_SCRIPT|$(id -u)|$(pwd)|$(cat)\" >>{TRIGGERED}\n");
    package
        .file(
            b"usr/share/late/data",
            Acl::root(0o644),
            1_700_000_000,
            b"data\n".to_vec(),
        )
        .unwrap();
    package.directory(b"var/lib/late", Acl::root(0o755)).unwrap();
    package
        .script(ScriptKind::Trigger, script)
        .trigger("/usr/share/late");
    let mut bytes = Vec::new();
    package
        .finish()
        .unwrap()
        .write(Default::default(), keys, &mut bytes)
        .unwrap();
    let repository = folder.join("late/x86_64");
    std::fs::create_dir_all(&repository).unwrap();
    std::fs::write(repository.join("late-1.2-r3.apk"), &bytes).unwrap();
    let entry = index::entry(&bytes, &KeyRing::new(), Trust::AllowUntrusted, IndexHash::Sha256).unwrap();
    let index = Index {
        packages: vec![entry],
        ..Index::default()
    };
    let bytes = index.write(&Default::default(), keys).unwrap();
    std::fs::write(repository.join("Packages.adb"), bytes).unwrap();
    std::fs::write(folder.join("configs/late.pub"), key.public_pem().unwrap()).unwrap();
    std::fs::write(
        folder.join("configs/repositories/late.toml"),
        format!(
            "[[repository]]\nlocation = \"{}\"\nkeys = [\"late.pub\"]\n",
            folder.join("late").display()
        ),
    )
    .unwrap();
    std::fs::write(
        folder.join("configs/images/late.toml"),
        "include = [\"disk\"]\nrepositories = [\"late\"]\npackages = [\"late\"]\n",
    )
    .unwrap();
}

/// Waits for the service of the first boot to be gone, and gives what the trigger left.
fn triggered(guest: &Guest) -> String {
    ask(
        guest,
        "n=0; while [ -e /usr/lib/lycia/first-boot ] && [ $n -lt 120 ]; do sleep 1; n=$((n + 1)); done",
    );
    let left = ask(
        guest,
        "ls -d /usr/lib/lycia/first-boot* /etc/dinit.d/lycia-first-boot /etc/dinit.d/boot.d/lycia-first-boot /usr/lib/apk/exec 2>/dev/null | cat",
    );
    assert_eq!(left.trim(), "");
    ask(guest, &format!("cat {TRIGGERED}")).replace('\r', "")
}

/// Boots a disk that is larger than the image on it.
fn grows(image: &Path, folder: &Path) {
    let disk = folder.join("grown.img");
    said(Command::new("cp").arg("--sparse=always").arg(image).arg(&disk));
    File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(DISK)
        .unwrap();
    let other = folder.join("other.img");
    File::create(&other).unwrap().set_len(8 << 20).unwrap();
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    machine.media = vec![Medium::disk(&disk), Medium::disk(&other)];
    let guest = machine.start().unwrap();
    guest.stage("the boot of the larger disk");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    let log = ask(&guest, "dmesg | grep lycia-init: | tr -d '\\r'");
    assert!(
        log.contains("the partition grew") && log.contains("the file system grew"),
        "{log}"
    );
    assert!(!log.contains("it stays as it is"), "{log}");
    let line = ask(&guest, "df -k / | tail -n 1");
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kibibytes * 1024 > DISK / 10 * 9, "{line}");
    assert!(ask(&guest, "hostname").contains("lycia"));
    let ran = "lib/apk/exec/late-1.2-r3.trigger|/usr/share/late|late|trigger|0|/|\n";
    assert_eq!(triggered(&guest), ran);
    guest.serial.send_line("poweroff").unwrap();
    assert!(guest.wait_exit(LIMIT).unwrap().success());
    drop(guest);
    // The second boot, by the other firmware.
    machine.firmware = Firmware::Uefi;
    let guest = machine.start().unwrap();
    guest.stage("the second boot of the larger disk");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    assert_eq!(triggered(&guest), ran);
    let log = ask(&guest, "dmesg | grep lycia-init: | tr -d '\\r'");
    assert!(!log.contains("grew"), "{log}");
    guest.serial.send_line("poweroff").unwrap();
    assert!(guest.wait_exit(LIMIT).unwrap().success());
    drop(guest);

    let table = said(Command::new("sgdisk").arg("--verify").arg(&disk));
    assert!(table.contains("No problems found"), "{table}");
    let table: serde_json::Value =
        serde_json::from_str(&said(Command::new("sfdisk").arg("--json").arg(&disk))).unwrap();
    let root = &table["partitiontable"]["partitions"][2];
    let number = |key: &str| root[key].as_u64().unwrap() * 512;
    assert_eq!(number("start") + number("size"), DISK - (1 << 20));
    let place = format!("{}?offset={}", disk.display(), number("start"));
    said(Command::new("e2fsck").arg("-fn").arg(&place));
    // So near to the partition's end that the next boot leaves it alone.
    let stats = said(Command::new("debugfs").args(["-R", "stats -h"]).arg(&place));
    let blocks = stats
        .lines()
        .find_map(|line| line.strip_prefix("Block count:"))
        .unwrap();
    let bytes = blocks.trim().parse::<u64>().unwrap() * 4096;
    assert!(number("size") - bytes < 16 << 20, "{bytes} of {}", number("size"));
    assert!(
        std::fs::read(&other).unwrap().iter().all(|&byte| byte == 0),
        "another disk was written to"
    );
}

/// Boots a disk with an MBR alone that is larger than the image on it: the root grows in the MBR.
fn grows_in_an_mbr(image: &Path, folder: &Path) {
    let disk = folder.join("grown-mbr.img");
    said(Command::new("cp").arg("--sparse=always").arg(image).arg(&disk));
    File::options()
        .write(true)
        .open(&disk)
        .unwrap()
        .set_len(DISK)
        .unwrap();
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    machine.media = vec![Medium::disk(&disk)];
    let guest = machine.start().unwrap();
    guest.stage("the boot of the larger disk with an MBR");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    let log = ask(&guest, "dmesg | grep lycia-init: | tr -d '\\r'");
    assert!(
        log.contains("the partition grew") && log.contains("the file system grew"),
        "{log}"
    );
    let line = ask(&guest, "df -k / | tail -n 1");
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kibibytes * 1024 > DISK / 10 * 9, "{line}");
    guest.serial.send_line("poweroff").unwrap();
    assert!(guest.wait_exit(LIMIT).unwrap().success());
    drop(guest);
    let table: serde_json::Value =
        serde_json::from_str(&said(Command::new("sfdisk").arg("--json").arg(&disk))).unwrap();
    assert_eq!(table["partitiontable"]["label"], "dos", "{table}");
    let root = &table["partitiontable"]["partitions"][0];
    assert_eq!(root["bootable"], true, "{table}");
    let number = |key: &str| root[key].as_u64().unwrap() * 512;
    assert!(number("start") + number("size") > DISK - (2 << 20), "{table}");
    said(
        Command::new("e2fsck")
            .arg("-fn")
            .arg(format!("{}?offset={}", disk.display(), number("start"))),
    );
}

/// The platform of the checkout with a hybrid MBR that shows the root.
const HYBRID: &str = "[[table.shown]]\npartition = \"root\"\ntype = \"0x83\"\nactive = true\n";

/// Boots the kit by the iPXE that QEMU's network card has.
fn boots_from_the_network(kit: &Path) {
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    machine.network = Network::Boot {
        folder: kit.to_owned(),
        file: "boot.ipxe".to_owned(),
    };
    let guest = machine.start().unwrap();
    guest.stage("the boot from the network");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("anon", "chimera", LIMIT).unwrap();
    let mounts = ask(&guest, "cat /proc/mounts");
    for (kind, place) in [("overlay", "/"), ("squashfs", "/run/live/rootfs")] {
        let there = mounts.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields.get(1) == Some(&place) && fields.get(2) == Some(&kind)
        });
        assert!(there, "no {kind} at {place}: {mounts}");
    }
    assert!(ask(&guest, "cat /proc/cmdline").contains("boot=live"));
    guest.serial.send_line("exit").unwrap();
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    // The archive's memory was given back.
    assert_eq!(ask(&guest, "ls /run/live/medium/live").trim(), "");
    guest.serial.send_line("poweroff").unwrap();
    assert!(guest.wait_exit(LIMIT).unwrap().success());
}

#[test]
fn the_disk_boots_and_grows_and_the_kit_boots_from_the_network() {
    let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let project = tempfile::tempdir().unwrap();
    with_a_late_trigger(checkout, project.path());
    let output = tempfile::tempdir().unwrap();
    let lycia = |arguments: &[&str]| {
        let status = Command::new(env!("CARGO_BIN_EXE_lycia"))
            .arg("--project")
            .arg(project.path())
            .args(arguments)
            .current_dir(output.path())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "lycia {} ended with {status}",
            arguments.join(" ")
        );
    };
    lycia(&["build", "late", "--output", "."]);
    lycia(&["build", "netboot", "--output", "."]);
    grows(&output.path().join("late-x86_64.img"), output.path());
    // An MBR alone, which grows; a hybrid one, which starts.
    let image = |name: &str, platform: &str| {
        let text = format!(
            "include = [\"disk\"]\n[disk]\nplatform = \"{platform}\"\nformats = [\"raw\"]\npassword = \"chimera\"\n"
        );
        std::fs::write(project.path().join(format!("configs/images/{name}.toml")), text).unwrap();
    };
    image("mbr", "x86_64-bios");
    lycia(&["build", "mbr", "--output", "."]);
    grows_in_an_mbr(&output.path().join("mbr-x86_64.img"), output.path());
    let platforms = project.path().join("configs/platforms");
    let text = std::fs::read_to_string(platforms.join("x86_64.toml")).unwrap();
    let text = text
        .replace("kind = \"gpt\"", "kind = \"hybrid\"")
        .replace("active-placeholder = true\n", HYBRID);
    assert!(text.contains(HYBRID), "{text}");
    std::fs::write(platforms.join("hybrid.toml"), text).unwrap();
    image("hybrid", "hybrid");
    lycia(&["build", "hybrid", "--output", "."]);
    let cell = ["--cell", "bios-disk", "--limit", "600"];
    lycia(&[&["test", "hybrid-x86_64.img"], &cell[..]].concat());
    // The other form, larger, too, with the other firmware: everything is as the manifest says.
    let qcow2 = output.path().join("late-x86_64.qcow2");
    said(
        Command::new("qemu-img")
            .args(["resize", "-q"])
            .arg(&qcow2)
            .arg("+1G"),
    );
    lycia(&[
        "test",
        "late-x86_64.qcow2",
        "--cell",
        "uefi-disk",
        "--limit",
        "600",
    ]);
    said(
        Command::new("tar")
            .args(["-xf", "netboot-x86_64.netboot.tar"])
            .current_dir(output.path()),
    );
    boots_from_the_network(output.path());
}
