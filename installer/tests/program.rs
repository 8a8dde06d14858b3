//! The program on made-up machines: trees of sysfs, procfs and udev links.

// Lint exceptions for tests do not reach the helpers beside them.
#![allow(clippy::unwrap_used)]

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

struct Fake {
    directory: tempfile::TempDir,
}

impl Fake {
    fn new() -> Self {
        let fake = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for path in [
            "sys/class/block",
            "sys/firmware/efi",
            "proc/self",
            "dev/disk/by-id",
            "dev/disk/by-path",
        ] {
            fs::create_dir_all(fake.path(path)).unwrap();
        }
        fake.put("sys/firmware/efi/fw_platform_size", "64");
        fake.put("proc/self/mountinfo", "");
        fake.put("proc/meminfo", "MemTotal:        2048000 kB");
        fake
    }

    fn path(&self, path: &str) -> std::path::PathBuf {
        self.directory.path().join(path)
    }

    fn put(&self, path: &str, text: &str) {
        fs::create_dir_all(self.path(path).parent().unwrap()).unwrap();
        fs::write(self.path(path), format!("{text}\n")).unwrap();
    }

    /// A block device at a place in the device tree, with attributes and names.
    fn device(&self, place: &str, attributes: &[(&str, &str)], ids: &[&str]) {
        let real = format!("sys/devices/{place}");
        fs::create_dir_all(self.path(&real).join("holders")).unwrap();
        for (name, value) in attributes {
            self.put(&format!("{real}/{name}"), value);
        }
        let name = place.rsplit('/').next().unwrap();
        symlink(
            Path::new("../../devices").join(place),
            self.path("sys/class/block").join(name),
        )
        .unwrap();
        // The node, as a file.
        if let Some((_, sectors)) = attributes.iter().find(|(attribute, _)| *attribute == "size") {
            let node = fs::File::create(self.path("dev").join(name)).unwrap();
            node.set_len(sectors.parse::<u64>().unwrap() * 512).unwrap();
        }
        for id in ids {
            let link = self
                .path(if id.starts_with("pci-") {
                    "dev/disk/by-path"
                } else {
                    "dev/disk/by-id"
                })
                .join(id);
            symlink(format!("../../{name}"), link).unwrap();
        }
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lycia-install"));
        command.args(arguments);
        if !["allocator", "check"].contains(&arguments[0]) {
            for view in ["sys", "proc", "dev"] {
                command
                    .arg(format!("--{}", if view == "sys" { "sysfs" } else { view }))
                    .arg(self.path(view));
            }
        }
        command.output().unwrap()
    }

    fn probe(&self) -> Value {
        let output = self.run(&["probe", "--json"]);
        assert!(output.status.success(), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

const SECTORS_8G: &str = "16777216";

/// A machine with a bit of everything.
fn machine() -> Fake {
    let fake = Fake::new();
    let ata = "pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda";
    fake.device(
        ata,
        &[
            ("size", SECTORS_8G),
            ("dev", "8:0"),
            ("device/vendor", "ATA     "),
            ("device/model", "Samsung SSD 870 "),
            ("queue/logical_block_size", "512"),
            ("queue/physical_block_size", "4096"),
        ],
        &["ata-Samsung_S5Y1", "wwn-0x5002", "pci-0000:00:1f.2-ata-1"],
    );
    fs::create_dir_all(fake.path(&format!("sys/devices/{ata}/device"))).unwrap();
    fs::write(
        fake.path(&format!("sys/devices/{ata}/device/vpd_pg80")),
        b"\x00\x80\x00\x06 S5Y1 ",
    )
    .unwrap();
    fake.device(
        &format!("{ata}/sda1"),
        &[
            ("size", "2048"),
            ("start", "2048"),
            ("partition", "1"),
            ("dev", "8:1"),
            ("uevent", "PARTN=1\nPARTNAME=old root"),
        ],
        &["ata-Samsung_S5Y1-part1"],
    );

    let nvme = "pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1";
    fake.device(
        nvme,
        &[
            ("size", SECTORS_8G),
            ("dev", "259:0"),
            ("device/model", "WD Black"),
            ("device/serial", "N1"),
            ("queue/logical_block_size", "4096"),
            ("queue/physical_block_size", "4096"),
        ],
        &["nvme-WD_Black_N1"],
    );
    fake.device(
        &format!("{nvme}/nvme0n1p1"),
        &[
            ("size", "4096"),
            ("start", "2048"),
            ("partition", "1"),
            ("dev", "259:1"),
        ],
        &[],
    );
    fake.device(
        &format!("{nvme}/nvme0n1p2"),
        &[
            ("size", "8192"),
            ("start", "8192"),
            ("partition", "2"),
            ("dev", "259:2"),
        ],
        &[],
    );
    // LUKS on the second partition, LVM on that, mounted.
    fake.device(
        "virtual/block/dm-0",
        &[("size", "8000"), ("dev", "253:0"), ("dm/name", "crypt")],
        &[],
    );
    fake.device(
        "virtual/block/dm-1",
        &[("size", "8000"), ("dev", "253:1"), ("dm/name", "vg-root")],
        &[],
    );
    symlink(
        "/dm-0",
        fake.path(&format!("sys/devices/{nvme}/nvme0n1p2/holders/dm-0")),
    )
    .unwrap();
    symlink("/dm-1", fake.path("sys/devices/virtual/block/dm-0/holders/dm-1")).unwrap();

    let usb = "pci0000:00/0000:00:14.0/usb2/2-1/host6/target6:0:0/6:0:0:0/block/sdb";
    fake.device(
        usb,
        &[
            ("size", "4000000"),
            ("dev", "8:16"),
            ("removable", "1"),
            ("device/vendor", "Acme"),
            ("device/model", "Stick\u{1b}[2J"),
            ("serial", "U1"),
        ],
        &["usb-Acme_Stick_U1-0:0"],
    );
    fake.device(
        "pci0000:00/0000:00:1f.2/ata2/host1/target1:0:0/1:0:0:0/block/sr0",
        &[("size", "100"), ("removable", "1")],
        &[],
    );
    fake.device("virtual/block/loop0", &[("size", "100")], &[]);
    fake.device("virtual/block/zram0", &[("size", "100")], &[]);
    fake.device(
        "platform/mmc_host/mmc0/mmc0:1/block/mmcblk0",
        &[("size", "0"), ("dev", "179:0"), ("ro", "1")],
        &[],
    );
    fake.device(
        "platform/mmc_host/mmc0/mmc0:1/block/mmcblk0boot0",
        &[("size", "8192")],
        &[],
    );
    for (name, hardware, carrier, more) in [
        ("lo", "772", Some("1"), None),
        ("eth0", "1", Some("0"), Some("device")),
        ("enp2s0", "1", Some("1"), Some("device")),
        ("wlan0", "1", None, Some("wireless")),
        ("br0", "1", Some("1"), None),
    ] {
        let folder = format!("sys/class/net/{name}");
        fake.put(&format!("{folder}/type"), hardware);
        fake.put(&format!("{folder}/address"), "52:54:00:12:34:56");
        if let Some(carrier) = carrier {
            fake.put(&format!("{folder}/carrier"), carrier);
        }
        if let Some(more) = more {
            fs::create_dir_all(fake.path(&format!("{folder}/{more}"))).unwrap();
        }
    }
    fake.put("sys/class/net/bonding_masters", "");
    fake.put(
        "proc/self/mountinfo",
        "20 1 0:30 / / rw - overlay lycia rw\n\
         21 20 8:16 / /run/live/medium ro - iso9660 /dev/sdb ro\n\
         22 20 253:1 / /mnt/my\\040data rw - ext4 /dev/mapper/vg-root rw",
    );
    fake.put(
        "proc/swaps",
        "Filename Type Size Used Priority\n/dev/nvme0n1p1 partition 1 0 -2",
    );
    fake
}

fn disk<'a>(machine: &'a Value, name: &str) -> &'a Value {
    machine["disks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|disk| disk["name"] == name)
        .unwrap()
}

#[test]
fn the_machine_is_described() {
    let found = machine().probe();
    assert_eq!(found["firmware"], serde_json::json!({"kind": "uefi", "bits": 64}));
    assert_eq!(found["memory"], 2_048_000u64 * 1024);
    let names: Vec<_> = found["disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| disk["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["sda", "sdb", "sr0", "mmcblk0", "nvme0n1"]);
    let sda = disk(&found, "sda");
    assert_eq!(
        (
            sda["model"].as_str(),
            sda["serial"].as_str(),
            sda["transport"].as_str()
        ),
        (Some("Samsung SSD 870"), Some("S5Y1"), Some("ata"))
    );
    assert_eq!(
        sda["by_id"],
        serde_json::json!(["ata-Samsung_S5Y1", "wwn-0x5002"])
    );
    assert_eq!(
        (sda["size"].as_u64(), sda["physical_sector"].as_u64()),
        (Some(8 << 30), Some(4096))
    );
    assert_eq!(sda["partitions"][0]["label"], "old root");
    assert_eq!(sda["partitions"][0]["start"], 1 << 20);
    assert_eq!(sda["refused"], serde_json::json!([]));
    assert_eq!(disk(&found, "sdb")["transport"], "usb");
    assert_eq!(disk(&found, "nvme0n1")["transport"], "nvme");
    let mac = "52:54:00:12:34:56";
    assert_eq!(
        found["network"],
        serde_json::json!([
            {"name": "br0", "kind": "other", "mac": mac, "link": true},
            {"name": "eth0", "kind": "wired", "mac": mac, "link": false},
            {"name": "wlan0", "kind": "wireless", "mac": mac, "link": null},
            {"name": "enp2s0", "kind": "wired", "mac": mac, "link": true},
        ])
    );
}

/// What other programs put onto a disk is told, of a disk that cannot be read why, and of the others all the same.
#[test]
fn what_is_on_the_disks_is_told() {
    let fake = machine();
    partition(
        &fake,
        "sda",
        "label: gpt\nstart=2048, size=2048, type=uefi, name=\"old root\"\nstart=4096, size=40960, type=linux, name=\"data\"\n",
    );
    let uuid = "0a1b2c3d-0000-4000-8000-000000000001";
    let made = Command::new("/usr/sbin/mke2fs")
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-L",
            "precious",
            "-U",
            uuid,
            "-E",
            "offset=2097152",
        ])
        .arg(fake.path("dev/sda"))
        .arg("20M")
        .status()
        .unwrap_or_else(|error| panic!("mke2fs: {error}; install the Debian package e2fsprogs"));
    assert!(made.success());
    partition(&fake, "nvme0n1", "label: dos\nstart=2048, size=4096, type=7\n");
    fs::remove_file(fake.path("dev/sdb")).unwrap();
    let found = fake.probe();
    let sda = disk(&found, "sda");
    assert_eq!((&sda["table"], &sda["unread"]), (&"gpt".into(), &Value::Null));
    let part = &sda["partitions"];
    assert_eq!(part[0]["kind"]["name"], "EFI system");
    assert_eq!(part[0]["label"], "old root");
    assert_eq!(part[0]["contents"]["file_system"], Value::Null);
    // The kernel was not told of this one.
    assert_eq!(
        (&part[1]["name"], &part[1]["number"]),
        (&"sda2".into(), &2.into())
    );
    let contents = &part[1]["contents"];
    assert_eq!(
        (
            &contents["file_system"],
            &contents["label"],
            &contents["uuid"],
            &contents["system"]
        ),
        (&"ext4".into(), &"precious".into(), &uuid.into(), &Value::Null)
    );
    assert_eq!(contents["looked_into"], true);
    let nvme = disk(&found, "nvme0n1");
    assert_eq!(nvme["table"], "mbr");
    assert_eq!(
        nvme["partitions"][0]["kind"],
        serde_json::json!({"code": "0x07", "name": "NTFS or exFAT"})
    );
    assert!(
        disk(&found, "sdb")["unread"]
            .as_str()
            .is_some_and(|why| why.contains("No such file"))
    );
    // Without a medium there is nothing to read.
    assert_eq!(disk(&found, "mmcblk0")["unread"], Value::Null);
    let text = String::from_utf8(fake.run(&["probe"]).stdout).unwrap();
    for line in [
        "network   enp2s0: wired, link, 52:54:00:12:34:56",
        "network   wlan0: wireless, down, 52:54:00:12:34:56",
        "  table    GPT",
        "  part 2      20.9 MB  ext4 \"precious\", type Linux data, named \"data\"",
        &format!("{:23}UUID {uuid}", ""),
    ] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    assert!(text.contains("CANNOT BE READ: No such file"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
}

#[test]
fn disks_in_use_and_the_medium_are_not_offered() {
    let found = machine().probe();
    for (name, expected) in [
        ("sdb", serde_json::json!(["the running system came from it"])),
        (
            "nvme0n1",
            serde_json::json!([
                "in use: nvme0n1p1 swap",
                "in use: nvme0n1p2 part of crypt",
                "in use: nvme0n1p2 dm-0: part of vg-root",
                "in use: nvme0n1p2 dm-0: dm-1: mounted on /mnt/my data"
            ]),
        ),
        ("sr0", serde_json::json!(["optical drive"])),
        ("mmcblk0", serde_json::json!(["no medium in it", "read-only"])),
    ] {
        assert_eq!(disk(&found, name)["refused"], expected, "{name}");
    }
}

#[test]
fn the_table_is_for_terminals() {
    let output = machine().run(&["probe"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains('\u{1b}'), "{text}");
    for part in [
        "firmware  UEFI, 64-bit",
        "memory    2000 MiB",
        "/dev/sda  8.5 GB  ATA",
        "can be installed to",
        "NOT offered:",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn mounts_must_be_known() {
    let fake = machine();
    fs::remove_file(fake.path("proc/self/mountinfo")).unwrap();
    let output = fake.run(&["probe"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("mountinfo"));
}

#[test]
fn exactly_one_disk_is_selected() {
    let fake = machine();
    let one = fake.run(&["plan", "--disk", "ata-Samsung_S5Y1"]);
    assert!(one.status.success(), "{one:?}");
    for selector in [
        "/dev/disk/by-id/wwn-0x5002",
        "S5Y1",
        "/dev/sda",
        "pci-0000:00:1f.2-ata-1",
    ] {
        assert_eq!(
            fake.run(&["plan", "--disk", selector]).stdout,
            one.stdout,
            "{selector}"
        );
    }
    for selector in ["", "sda", "Samsung", "ata-Samsung_S5Y1-part1", "/dev/sda1"] {
        let output = fake.run(&["plan", "--disk", selector]);
        assert_eq!(output.status.code(), Some(3), "{selector}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("/dev/disk/by-id/ata-Samsung_S5Y1"),
            "{selector}"
        );
    }
    // A second disk with the same serial number.
    fake.device(
        "pci0000:00/virtio3/block/vda",
        &[("size", SECTORS_8G), ("serial", "S5Y1")],
        &["virtio-S5Y1"],
    );
    let output = fake.run(&["plan", "--disk", "S5Y1"]);
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3));
    assert!(
        message.contains("matches 2 disks") && message.contains("by-id/virtio-S5Y1"),
        "{message}"
    );
}

#[test]
fn plans_are_refused_for_disks_in_use() {
    let fake = machine();
    for (selector, part) in [
        ("/dev/sdb", "running system"),
        ("N1", "swap"),
        ("/dev/sr0", "optical"),
    ] {
        let output = fake.run(&["plan", "--disk", selector]);
        assert_eq!(output.status.code(), Some(4), "{selector}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(part),
            "{selector}: {output:?}"
        );
    }
}

/// Gives a disk a table by an independent program.
fn partition(fake: &Fake, disk: &str, script: &str) {
    let mut child = Command::new("/usr/sbin/sfdisk")
        .arg("--quiet")
        .arg(fake.path("dev").join(disk))
        .stdin(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("sfdisk: {error}; install the Debian package fdisk"));
    child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn the_plan_says_what_is_lost_and_writes_nothing() {
    let fake = machine();
    partition(
        &fake,
        "sda",
        "label: gpt\nstart=2048, size=2048, name=\"old root\"\n",
    );
    let before = fs::metadata(fake.path("dev/sda")).unwrap().modified().unwrap();
    let output = fake.run(&["plan", "--disk", "S5Y1"]);
    let text = String::from_utf8(output.stdout).unwrap();
    for part in [
        "will be lost",
        "name old root",
        "1048576        537919487  1",
        "No other disk is opened for writing",
        "plan ",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(
        fs::metadata(fake.path("dev/sda")).unwrap().modified().unwrap(),
        before
    );
    let json = fake.run(&["plan", "--disk", "S5Y1", "--json"]);
    let plan: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert!(text.contains(plan["hash"].as_str().unwrap()));
    assert_eq!(plan["lost"][0]["name"], "old root");
}

#[test]
fn answers_are_checked_without_a_machine() {
    let fake = Fake::new();
    let path = fake.path("a.toml");
    let path = path.to_str().unwrap();
    fs::write(
        path,
        "schema = 1\n[disk]\nselect = \"x\"\nlayout = \"erase\"\n[root]\npassword-hash = \"$6$a$b./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEFGHI\"\n",
    )
    .unwrap();
    let good = fake.run(&["check", path]);
    assert!(good.status.success(), "{good:?}");
    for (text, expected) in [
        (
            "schema = 1\n[disk]\nlayuot = \"erase\"\n",
            "did you mean `layout`?",
        ),
        ("schema = 1\n", "disk.layout: say what happens to the disk"),
    ] {
        fs::write(path, text).unwrap();
        let output = fake.run(&["check", path]);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            String::from_utf8_lossy(&output.stderr).contains(expected),
            "{output:?}"
        );
    }
}

#[test]
fn nothing_is_undone_where_nothing_was_done() {
    let output = machine().run(&["undo", "--disk", "S5Y1"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("no installation that could be undone"));
}

#[test]
fn the_allocator_of_a_root() {
    let fake = Fake::new();
    let root = fake.path("root");
    fs::create_dir_all(root.join("usr/lib")).unwrap();
    fs::write(
        root.join("usr/lib/libc.so"),
        b"\x7fELF __libc_start_main Scudo ERROR: ",
    )
    .unwrap();
    let root = root.to_str().unwrap();
    let output = fake.run(&["allocator", "--root", root]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("allocator  scudo\n"));
    fs::create_dir_all(Path::new(root).join("etc/apk")).unwrap();
    fs::write(Path::new(root).join("etc/apk/world"), "musl-mallocng\n").unwrap();
    assert_eq!(
        fake.run(&["allocator", "--root", root, "--json"]).status.code(),
        Some(5)
    );
    assert_eq!(
        fake.run(&["allocator", "--root", "/nowhere/at/all"])
            .status
            .code(),
        Some(1)
    );
}

/// Line by line, as with speech: what is on the disk stands where one is asked which part of it goes, and all answers are a list.
#[test]
fn plain_questions_say_what_is_on_the_disk() {
    let fake = machine();
    partition(
        &fake,
        "sda",
        "label: gpt\nstart=4096, size=40960, type=linux, name=\"data\"\n",
    );
    let made = Command::new("/usr/sbin/mke2fs")
        .args(["-q", "-F", "-t", "ext4", "-L", "precious", "-E", "offset=2097152"])
        .arg(fake.path("dev/sda"))
        .arg("20M")
        .status()
        .unwrap_or_else(|error| panic!("mke2fs: {error}; install the Debian package e2fsprogs"));
    assert!(made.success());
    // The kernel has read the table, too.
    let sda1 = "sys/devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda/sda1";
    fake.put(&format!("{sda1}/start"), "4096");
    fake.put(&format!("{sda1}/size"), "40960");
    let seed = include_str!("../../configs/install/seed.toml");
    fake.put("medium/live/install.toml", &format!("arch = \"x86_64\"\n{seed}"));
    let mut command = Command::new(env!("CARGO_BIN_EXE_lycia-install"));
    command.args(["ask", "--plain"]);
    for (option, path) in [
        ("--sysfs", "sys"),
        ("--proc", "proc"),
        ("--dev", "dev"),
        ("--medium", "medium"),
        ("--save", "answers.toml"),
    ] {
        command.arg(option).arg(fake.path(path));
    }
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    lines.write_all(b"1\nreplace\n9\n1\n!a\n1\n<\n\n!s\n").unwrap();
    drop(lines);
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "serial S5Y1, GPT, 1 partition, with ext4 \"precious\"",
        "1: 20.9 MB, ext4 \"precious\", type Linux data, named \"old root\"",
        "That will not do: /dev/sda has no partition 9",
        "All answers 1: Disk: ata-Samsung_S5Y1 2: Layout: replace 3: Replaced: 1",
        "Menu waits: 3",
    ] {
        assert!(flat.contains(part), "{part}:\n{text}");
    }
    let saved = fs::read_to_string(fake.path("answers.toml")).unwrap();
    assert!(saved.contains("replace = [1]"), "{saved}");
}

#[test]
fn help_fits_and_has_an_example() {
    for verb in [
        &["--help"][..],
        &["probe", "--help"],
        &["plan", "--help"],
        &["allocator", "--help"],
        &["check", "--help"],
        &["install", "--help"],
        &["resume", "--help"],
        &["undo", "--help"],
        &["ask", "--help"],
        &["systems", "--help"],
        &["mount", "--help"],
        &["unmount", "--help"],
        &["chroot", "--help"],
        &["fsck", "--help"],
        &["boot-repair", "--help"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_lycia-install"))
            .args(verb)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && !text.is_empty());
        for line in text.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
    let output = Command::new(env!("CARGO_BIN_EXE_lycia-install"))
        .arg("--help")
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("Example:") && text.contains("Exit codes:"));
}
