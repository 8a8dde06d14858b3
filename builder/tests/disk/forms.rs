//! Forms of a disk for PCs, what is on it, and the kit for booting from a network.

use std::os::unix::fs::MetadataExt as _;

use lycia::error::Kind;

use crate::judge::{
    Part, bytes, of_ext4, of_fat, parts, refused, sound_ext4, sound_fat, sound_table, superblock,
};
use crate::program::{checkout, names, read, sha256, succeed, text, tool};
use crate::small::Small;

/// A project whose image is written as `outputs`, with this checkout's platforms.
pub fn project(outputs: &str, disk: &str) -> Small {
    let small = Small::new(40_000);
    define(&small, outputs, disk);
    for name in names(&checkout().join("configs/platforms")) {
        let text = text(&read(&checkout().join("configs/platforms").join(&name)));
        small.write(&format!("configs/platforms/{name}"), &text);
    }
    small
}

pub fn define(small: &Small, outputs: &str, disk: &str) {
    small.write(
        "configs/images/small.toml",
        &format!(
            "repositories = [\"local\"]\npackages = [\"kernel\", \"filler\"]\noverlays = [\"extra\"]\noutputs = [{outputs}]\n\
             [boot]\ntitle = \"Small\"\narguments = \"a=b\"\n[initramfs]\nlevel = 3\n[disk]\n{disk}\n"
        ),
    );
}

pub fn named<'p>(parts: &'p [Part], name: &str) -> &'p Part {
    parts.iter().find(|part| part.name == name).unwrap()
}

#[test]
fn a_disk_for_pcs_in_every_form() {
    let small = project(
        "\"disk\"",
        "formats = [\"raw\", \"qcow2\", \"gz\", \"xz\", \"zst\"]\nlevel = 3\nslack = \"20M\"\nhostname = \"box\"\npassword = \"secret\"",
    );
    let output = small.path("output");
    succeed(small.build().arg("--output").arg(&output));
    let made = names(&output);
    let mut expected = vec![
        "small-x86_64.SHA256SUMS".to_owned(),
        "small-x86_64.cdx.json".to_owned(),
        "small-x86_64.disk.manifest.json".to_owned(),
        "small-x86_64.lock".to_owned(),
        "small-x86_64.spdx.json".to_owned(),
    ];
    for ending in ["img", "img.gz", "img.xz", "img.zst", "qcow2"] {
        let name = format!("small-x86_64.{ending}");
        let sum = text(&read(&output.join(format!("{name}.sha256"))));
        assert_eq!(sum, format!("{}  {name}\n", sha256(&read(&output.join(&name)))));
        expected.push(format!("{name}.sha256"));
        expected.push(name);
    }
    expected.sort();
    assert_eq!(made, expected);

    // All forms are the same disk.
    let raw = output.join("small-x86_64.img");
    let whole = read(&raw);
    for (program, package, ending) in [
        ("gzip", "gzip", "img.gz"),
        ("xz", "xz-utils", "img.xz"),
        ("zstd", "zstd", "img.zst"),
    ] {
        let mut unpack = tool(program, package);
        let unpacked = succeed(
            unpack
                .arg("-dc")
                .arg(output.join(format!("small-x86_64.{ending}"))),
        );
        assert!(unpacked.stdout == whole, "{ending}");
    }
    let qcow2 = output.join("small-x86_64.qcow2");
    succeed(tool("qemu-img", "qemu-utils").arg("check").arg(&qcow2));
    succeed(
        tool("qemu-img", "qemu-utils")
            .args(["compare", "-f", "raw", "-F", "qcow2"])
            .arg(&raw)
            .arg(&qcow2),
    );
    let metadata = raw.metadata().unwrap();
    assert!(
        metadata.blocks() * 512 < metadata.len() / 2,
        "it is not sparse: {metadata:?}"
    );

    // Nothing is wrong with any of them, and each is held against its manifest and its checksums.
    for ending in ["img", "img.gz", "img.xz", "img.zst", "qcow2"] {
        let path = output.join(format!("small-x86_64.{ending}"));
        let shown = succeed(small.lycia().args(["inspect", "--json"]).arg(&path));
        let report: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
        let beside: Vec<&str> = report["beside"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        assert_eq!(
            beside,
            [
                &format!("small-x86_64.{ending}.sha256"),
                "small-x86_64.SHA256SUMS",
                "small-x86_64.disk.manifest.json"
            ]
        );
    }

    sound_table(&raw);
    let parts = parts(&raw);
    assert_eq!(
        parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(),
        ["bios", "esp", "root"]
    );
    let (bios, esp, root) = (&parts[0], &parts[1], &parts[2]);
    assert_eq!((bios.start, bios.size, esp.size), (1 << 20, 1 << 20, 64 << 20));
    // The boot sector leads to the core image, and that to its second sector.
    assert_eq!(bytes(&raw, 0x5c, 8), (bios.start / 512).to_le_bytes());
    assert_eq!(
        bytes(&raw, bios.start + 512 - 12, 8),
        (bios.start / 512 + 1).to_le_bytes()
    );
    sound_fat(&raw, esp);
    assert_eq!(&of_fat(&raw, esp, "EFI/BOOT/BOOTX64.EFI")[..2], b"MZ");
    sound_ext4(&raw, root);
    let free = superblock(&raw, root);
    let number = |key: &str| -> u64 {
        let line = free.lines().find(|line| line.starts_with(key)).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let spare = (number("Free blocks:") - number("Reserved block count:")) * 4096;
    assert!((20 << 20..24 << 20).contains(&spare), "{spare}: {free}");
    assert!(free.contains("has_journal"), "{free}");

    // The system knows where it lies.
    let uuid = free
        .lines()
        .find_map(|line| line.strip_prefix("Filesystem UUID:"))
        .unwrap()
        .trim()
        .to_owned();
    let fstab = of_ext4(&raw, root, "/etc/fstab");
    assert!(
        fstab.contains(&format!("UUID={uuid}  /  ext4  rw,relatime  0  1\n")),
        "{fstab}"
    );
    let serial = bytes(
        &raw,
        esp.start
            + if bytes(&raw, esp.start + 38, 1) == [0x29] {
                39
            } else {
                67
            },
        4,
    );
    let serial = format!(
        "UUID={:02X}{:02X}-{:02X}{:02X}  /boot/efi  vfat",
        serial[3], serial[2], serial[1], serial[0]
    );
    assert!(fstab.contains(&serial), "{serial}: {fstab}");
    assert_eq!(of_ext4(&raw, root, "/etc/hostname"), "box\n");
    assert_eq!(of_ext4(&raw, root, "/etc/machine-id"), "uninitialized\n");
    assert_eq!(of_ext4(&raw, root, "/etc/motd"), "good day\n");
    let shadow = of_ext4(&raw, root, "/etc/shadow");
    let hash = shadow.strip_prefix("root:").unwrap().split(':').next().unwrap();
    let salt = hash.split('$').nth(2).unwrap();
    let reference = succeed(tool("openssl", "openssl").args(["passwd", "-6", "-salt", salt, "secret"]));
    assert_eq!(text(&reference.stdout).trim(), hash);
    let menu = of_ext4(&raw, root, "/boot/grub/grub.cfg");
    let line = format!(
        "linux /boot/vmlinuz-1.2.3-0-small root=UUID={uuid} ro a=b growroot console=tty0 console=ttyS0,115200 quiet"
    );
    assert!(menu.contains(&line), "{menu}");
    let manifest: serde_json::Value =
        serde_json::from_slice(&read(&output.join("small-x86_64.disk.manifest.json"))).unwrap();
    assert_eq!(manifest["medium"]["uuid"], uuid.as_str());
    let files = manifest["files"].as_array().unwrap();
    let from = |path: &str| {
        let file = files.iter().find(|file| file["path"] == path);
        file.unwrap_or_else(|| panic!("no {path}"))["from"].clone()
    };
    assert_eq!(from("/etc/fstab"), "lycia: assembly");
    assert_eq!(from("/usr/bin/sh"), "package base-1-r0");
    assert_eq!(from("/etc/motd"), "overlay extra");

    // Again, with another number of threads: the same bytes.
    succeed(
        small
            .build()
            .args(["--jobs", "1", "--output"])
            .arg(small.path("again")),
    );
    assert!(small.results(&output) == small.results(&small.path("again")));
    // Nothing changed, nothing is written.
    let ended = succeed(small.build().arg("--output").arg(&output));
    assert!(text(&ended.stdout).contains("small-x86_64.qcow2"));
    assert_eq!(raw.metadata().unwrap().ino(), metadata.ino());
}

#[test]
fn without_the_raw_form_no_raw_file_is_left() {
    let small = project("\"disk\"", "formats = [\"qcow2\"]\njournal = false\ngrow = false");
    let output = small.path("output");
    succeed(small.build().arg("--output").arg(&output));
    assert_eq!(
        names(&output),
        [
            "small-x86_64.SHA256SUMS",
            "small-x86_64.cdx.json",
            "small-x86_64.disk.manifest.json",
            "small-x86_64.lock",
            "small-x86_64.qcow2",
            "small-x86_64.qcow2.sha256",
            "small-x86_64.spdx.json"
        ]
    );
    assert!(names(&small.path("store/scratch")).is_empty());
    let raw = small.path("raw");
    let mut convert = tool("qemu-img", "qemu-utils");
    convert
        .args(["convert", "-O", "raw"])
        .arg(output.join("small-x86_64.qcow2"));
    succeed(convert.arg(&raw));
    let parts = parts(&raw);
    let root = named(&parts, "root");
    sound_ext4(&raw, root);
    assert!(!superblock(&raw, root).contains("has_journal"));
    assert!(!of_ext4(&raw, root, "/boot/grub/grub.cfg").contains("growroot"));
    assert!(of_ext4(&raw, root, "/etc/shadow").starts_with("root:!:"));
}

#[test]
fn what_cannot_be_is_refused_and_leaves_nothing() {
    let small = project("\"disk\"", "size = \"70M\"");
    let build = || {
        let mut command = small.build();
        command.arg("--output").arg(small.path("output"));
        command
    };
    refused(&mut build(), Kind::Target, &["partition 3 (`root`)", "too small"]);
    define(&small, "\"disk\"", "size = \"2M\"");
    refused(&mut build(), Kind::Input, &["the disk is too small"]);
    define(&small, "\"disk\"", "platform = \"x86_46\"");
    refused(&mut build(), Kind::Input, &["did you mean `x86_64`?"]);
    define(&small, "\"disk\"", "platfrom = \"x86_64\"");
    refused(&mut build(), Kind::Input, &["did you mean `platform`?"]);
    define(&small, "\"dsik\"", "");
    refused(&mut build(), Kind::Input, &["no output"]);
    assert!(names(&small.path("output")).is_empty());
    // What is no disk's to test.
    let mut test = small.lycia();
    refused(
        test.arg("test").arg("x.img.xz"),
        Kind::Usage,
        &["unpack it first"],
    );
}

#[test]
fn the_kit_for_the_network_has_the_root_where_the_init_looks() {
    let small = project("\"netboot\"", "");
    let output = small.path("output");
    succeed(small.build().arg("--output").arg(&output));
    assert_eq!(
        names(&output),
        [
            "small-x86_64.SHA256SUMS",
            "small-x86_64.cdx.json",
            "small-x86_64.lock",
            "small-x86_64.manifest.json",
            "small-x86_64.netboot.tar",
            "small-x86_64.netboot.tar.sha256",
            "small-x86_64.spdx.json"
        ]
    );
    let kit = small.path("kit");
    std::fs::create_dir(&kit).unwrap();
    let mut unpack = tool("tar", "tar");
    succeed(
        unpack
            .arg("-xf")
            .arg(output.join("small-x86_64.netboot.tar"))
            .arg("-C")
            .arg(&kit),
    );
    assert_eq!(
        names(&kit),
        ["SHA256SUMS", "boot.ipxe", "initrd", "root.cpio", "vmlinuz"]
    );
    succeed(
        tool("sha256sum", "coreutils")
            .current_dir(&kit)
            .args(["-c", "--strict", "SHA256SUMS"]),
    );
    assert_eq!(text(&read(&kit.join("vmlinuz"))), "a kernel\n");
    let script = text(&read(&kit.join("boot.ipxe")));
    assert!(script.starts_with("#!ipxe\n"), "{script}");
    assert!(
        script.contains("\nkernel vmlinuz initrd=initrd initrd=root.cpio boot=live a=b console=tty0 console=ttyS0,115200\n"),
        "{script}"
    );
    // It is looked into and held against what lies beside it.
    let file = output.join("small-x86_64.netboot.tar");
    let shown = succeed(small.lycia().args(["inspect", "--json"]).arg(&file));
    let report: serde_json::Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(report["part"]["format"], "netboot");
    assert_eq!(
        report["beside"].as_array().unwrap().len(),
        3,
        "{}",
        report["beside"]
    );
    assert_eq!(
        report["part"]["entries"][0]["arguments"],
        "initrd=initrd initrd=root.cpio boot=live a=b console=tty0 console=ttyS0,115200"
    );
    let shown = text(&succeed(small.lycia().arg("inspect").arg(&file)).stdout);
    assert!(
        shown.contains("root.cpio: /live/filesystem.squashfs: squashfs") && shown.contains("filler-1-r0"),
        "{shown}"
    );
    let mut bytes = read(&file);
    let at = bytes.windows(4).position(|window| window == b"hsqs").unwrap() + 5000;
    bytes[at] ^= 1;
    let damaged = small.path("small-x86_64.netboot.tar");
    std::fs::write(&damaged, bytes).unwrap();
    refused(
        small.lycia().arg("inspect").arg(&damaged),
        Kind::Target,
        &["SHA-256"],
    );
    let ended = crate::program::run(small.lycia().args(["diff", "--check"]).arg(&file).arg(&damaged));
    assert_eq!(
        ended.status.code(),
        Some(i32::from(Kind::Verification.code())),
        "{}",
        text(&ended.stdout)
    );
    // Linux reads the two archives as one.
    let mut list = tool("cpio", "cpio");
    let archive = std::fs::File::open(kit.join("root.cpio")).unwrap();
    let list = text(&succeed(list.arg("-t").stdin(archive)).stdout);
    let files: Vec<&str> = list.lines().map(|line| line.trim_start_matches('/')).collect();
    assert!(
        files.contains(&"live/filesystem.squashfs") && files.contains(&"live/filesystem.squashfs.sha256"),
        "{list}"
    );
    succeed(
        small
            .build()
            .args(["--force", "--jobs", "1", "--output"])
            .arg(small.path("again")),
    );
    assert!(small.results(&output) == small.results(&small.path("again")));
}
