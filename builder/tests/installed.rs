//! The live ISO installs the system on an empty disk, which then boots by itself into what was asked for, with BIOS
//! and with UEFI. No other disk changes.
//!
//! The allocator that the C library has is another in each: the choice reaches the running system.

#![allow(clippy::unwrap_used)]

use std::io::Read as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lycia_qemu::{Architecture, Firmware, Guest, Machine, Medium};

/// For each stage, on a machine that has other work.
const LIMIT: Duration = Duration::from_secs(600);
/// Bytes of the disk that is installed to.
const DISK: u64 = 3 << 30;

/// `openssl passwd -6 -salt lycia installed` and `openssl passwd -6 -salt lycia2 rooted`.
const USER_HASH: &str =
    "$6$lycia$M3ZjskQIxkebyqdWGJMywgopuHEKZC23YcTyNRw0SuhggDlmRF2cPDPlvKMzOpbF7WKLBotVXgL5s9gYCQRIW.";
const ROOT_HASH: &str =
    "$6$lycia2$h3ANLr6hiWBbw7j7MNSMoVkFM3NrhxuQtT6kicBWjyx/RtOAE/KucYkfZeGjZizwq3sY5AggEfVC7UMp.m04k0";

fn answers(allocator: &str) -> Vec<String> {
    format!(
        "schema = 1
[disk]
select = \"/dev/vda\"
layout = \"erase\"
swap-size = \"64M\"
[packages]
allocator = \"{allocator}\"
[system]
hostname = \"installed\"
timezone = \"Europe/Prague\"
[root]
password-hash = \"{ROOT_HASH}\"
[[user]]
name = \"tester\"
admin = true
password-hash = \"{USER_HASH}\"
[boot]
serial = \"ttyS0,115200\""
    )
    .lines()
    .map(str::to_owned)
    .collect()
}

fn ask(guest: &Guest, command: &str) -> String {
    guest
        .serial
        .run(command, LIMIT)
        .and_then(lycia_qemu::Output::successful)
        .unwrap()
}

/// Bytes that no installer writes.
fn pattern(path: &Path) -> Vec<u8> {
    let bytes: Vec<u8> = (0..8u32 << 20)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    std::fs::write(path, &bytes).unwrap();
    bytes
}

fn install_and_boot(iso: &Path, firmware: Firmware, allocator: &str) {
    let folder = tempfile::tempdir().unwrap();
    let disk = folder.path().join("disk.img");
    std::fs::File::create(&disk).unwrap().set_len(DISK).unwrap();
    let other = folder.path().join("other.img");
    let untouched = pattern(&other);

    let mut machine = Machine::new(Architecture::X86_64, firmware);
    machine.media = vec![Medium::cdrom(iso), Medium::disk(&disk), Medium::disk(&other)];
    let guest = machine.start().unwrap();
    guest.stage("the live system");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    for line in answers(allocator) {
        ask(&guest, &format!("echo '{line}' >> /run/answers.toml"));
    }
    guest.stage("the plan");
    let plan = ask(&guest, "lycia-install plan --answers /run/answers.toml");
    let hash = plan
        .lines()
        .find_map(|line| line.trim().strip_prefix("plan "))
        .unwrap_or_else(|| panic!("no hash in\n{plan}"))
        .trim();
    // Without consent nothing is written.
    let refused = guest
        .serial
        .run(
            "lycia-install install --answers /run/answers.toml --confirm 0000",
            LIMIT,
        )
        .unwrap();
    assert_eq!(refused.status, 7, "{}", refused.text);
    let mut beginning = vec![1; 1 << 20];
    std::fs::File::open(&disk)
        .and_then(|mut disk| disk.read_exact(&mut beginning))
        .unwrap();
    assert!(beginning.iter().all(|&byte| byte == 0), "something was written");
    guest.stage("the installation");
    let said = ask(
        &guest,
        &format!("lycia-install install --answers /run/answers.toml --confirm {hash}"),
    );
    println!("{said}");
    guest.serial.send_line("poweroff").unwrap();
    guest.wait_exit(LIMIT).unwrap();
    drop(guest);
    assert!(
        std::fs::read(&other).unwrap() == untouched,
        "the other disk changed"
    );

    let mut machine = Machine::new(Architecture::X86_64, firmware);
    machine.media = vec![Medium::disk(&disk), Medium::disk(&other)];
    let guest = machine.start().unwrap();
    guest.stage("the installed system");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("tester", "installed", LIMIT).unwrap();
    let who = ask(&guest, "id -un; hostname; id -Gn");
    let mut who = who.lines().map(str::trim);
    assert_eq!(who.next(), Some("tester"));
    assert_eq!(who.next(), Some("installed"));
    assert!(who.next().unwrap().split(' ').any(|group| group == "wheel"));
    guest.serial.send_line("exit").unwrap();
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "rooted", LIMIT).unwrap();
    let mounts = ask(&guest, "cat /proc/mounts");
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some("/"))
        .unwrap_or_default();
    assert!(root.contains(" ext4 ") && root.contains("rw"), "{mounts}");
    assert!(ask(&guest, "cat /proc/swaps").lines().count() == 2);
    assert!(ask(&guest, "readlink /etc/localtime").contains("Europe/Prague"));
    let world = ask(&guest, "cat /etc/apk/world");
    let wants = |name: &str| world.split_whitespace().any(|word| word == name);
    assert!(wants("linux-cloud") && wants("base-files"), "{world}");
    assert_eq!(wants("musl-mallocng"), allocator == "mallocng", "{world}");
    let used = ask(&guest, "lycia-install allocator");
    assert!(used.to_lowercase().contains(allocator), "{used}");
    let services = ask(&guest, "seedctl list --plain");
    assert!(!services.to_lowercase().contains("fail"), "{services}");
    guest.serial.send_line("poweroff").unwrap();
    assert!(guest.wait_exit(LIMIT).unwrap().success());
    drop(guest);
    assert!(
        std::fs::read(&other).unwrap() == untouched,
        "the other disk changed"
    );

    // The table is sound, and the root that the kernel mounted and wrote to is whole.
    let said = |program: &str, arguments: &[&str]| {
        let output = Command::new(program).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{program}: {said}");
        said
    };
    let disk = disk.to_str().unwrap();
    let table = said("sgdisk", &["--verify", disk]);
    assert!(table.contains("No problems found"), "{table}");
    let table: serde_json::Value = serde_json::from_str(&said("sfdisk", &["--json", disk])).unwrap();
    let partitions = table["partitiontable"]["partitions"].as_array().unwrap();
    let largest = partitions.iter().max_by_key(|one| one["size"].as_u64()).unwrap();
    let start = largest["start"].as_u64().unwrap() * 512;
    said("e2fsck", &["-fn", &format!("{disk}?offset={start}")]);
}

#[test]
fn an_installed_disk_boots_into_what_was_asked_for() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_lycia"))
        .arg("--project")
        .arg(project)
        .args(["build", "live", "--output"])
        .arg(output.path())
        .status()
        .unwrap();
    assert!(status.success());
    let iso = output.path().join("live-x86_64.iso");
    install_and_boot(&iso, Firmware::Bios, "scudo");
    install_and_boot(&iso, Firmware::Uefi, "mallocng");
}
