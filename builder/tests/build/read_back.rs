//! The live image, read back by programs that are not ours and compared with its manifest.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;

use crate::live::live;
use crate::program::{give_away, names, open_folder, read, run, sha256, succeed, text, tool, unprivileged};

/// The files of the medium, as xorriso extracts them.
fn medium() -> &'static Path {
    static MEDIUM: OnceLock<PathBuf> = OnceLock::new();
    MEDIUM.get_or_init(|| {
        let folder = live().output.parent().unwrap().join("medium");
        succeed(
            tool("xorriso", "xorriso")
                .args(["-osirrox", "on", "-indev"])
                .arg(live().file("iso"))
                .args(["-extract", "/"])
                .arg(&folder),
        );
        folder
    })
}

#[test]
fn what_is_printed_is_what_was_written() {
    let files = live().json.as_array().unwrap();
    let kinds: Vec<&str> = files.iter().map(|file| file["kind"].as_str().unwrap()).collect();
    assert_eq!(
        kinds,
        [
            "iso",
            "manifest",
            "lock",
            "checksums",
            "sbom",
            "sbom",
            "checksums"
        ]
    );
    for file in files {
        let path = file["path"].as_str().unwrap();
        let bytes = read(Path::new(path));
        assert_eq!(file["size"].as_u64(), Some(bytes.len() as u64), "{path}");
        assert_eq!(file["sha256"].as_str(), Some(sha256(&bytes).as_str()), "{path}");
    }
    assert_eq!(names(&live().output).len(), 7);
    succeed(
        tool("sha256sum", "coreutils")
            .args([
                "--strict",
                "--check",
                "live-x86_64.iso.sha256",
                "live-x86_64.SHA256SUMS",
            ])
            .current_dir(&live().output),
    );
}

#[test]
fn the_medium_has_the_files_that_booting_needs() {
    let medium = medium();
    let manifest = live().manifest();
    for path in [
        "boot/grub/grub.cfg",
        "boot/grub/loopback.cfg",
        "boot/grub/i386-pc/eltorito.img",
        "boot/grub/i386-pc/normal.mod",
        "boot/grub/x86_64-efi/normal.mod",
        "EFI/BOOT/BOOTX64.EFI",
        "live/vmlinuz",
        "live/initrd",
        "live/packages.lock",
    ] {
        assert!(!read(&medium.join(path)).is_empty(), "{path} is empty");
    }
    let loopback = text(&read(&medium.join("boot/grub/loopback.cfg")));
    assert!(loopback.contains("findiso=\"${iso_path}\""), "{loopback}");
    // But for folders of this machine.
    let lock = text(&read(&live().file("lock")));
    let lock: Vec<String> = lock
        .lines()
        .map(|line| match line.starts_with("location = \"/") {
            true => "location = \"\"".to_owned(),
            false => line.to_owned(),
        })
        .collect();
    let carried = text(&read(&medium.join("live/packages.lock")));
    assert_eq!(carried.lines().collect::<Vec<_>>(), lock);
    succeed(
        tool("sha256sum", "coreutils")
            .args(["--strict", "--check", "filesystem.squashfs.sha256"])
            .current_dir(medium.join("live")),
    );
    // Everything but the image that is told where it lies when the medium is written.
    succeed(
        tool("sha256sum", "coreutils")
            .args(["--strict", "--quiet", "--check", "sha256sum.txt"])
            .current_dir(medium),
    );
    let sums = text(&read(&medium.join("sha256sum.txt")));
    for path in [
        "live/initrd",
        "live/filesystem.squashfs.verity",
        "boot/grub/grub.cfg",
    ] {
        assert!(sums.contains(&format!("  {path}\n")), "{path} is not in\n{sums}");
    }
    let kernel = format!("/boot/vmlinuz-{}", manifest["kernel"].as_str().unwrap());
    let entries = manifest["files"].as_array().unwrap();
    let entry = entries
        .iter()
        .find(|file| file["path"] == kernel.as_str())
        .unwrap();
    assert_eq!(
        entry["sha256"].as_str(),
        Some(sha256(&read(&medium.join("live/vmlinuz"))).as_str())
    );
    // Label and UUID are how the initramfs finds the medium.
    let seen = succeed(
        tool("blkid", "util-linux")
            .args(["--probe", "--output", "export"])
            .arg(live().file("iso")),
    );
    let seen = text(&seen.stdout);
    for (key, value) in [
        ("LABEL", &manifest["medium"]["label"]),
        ("UUID", &manifest["medium"]["uuid"]),
    ] {
        let line = format!("{key}={}", value.as_str().unwrap());
        assert!(seen.lines().any(|seen| seen == line), "no {line} in\n{seen}");
    }
}

#[test]
fn the_hash_tree_is_that_of_the_image_and_every_entry_has_its_root_hash() {
    let medium = medium();
    let menus = ["grub.cfg", "loopback.cfg"].map(|name| text(&read(&medium.join("boot/grub").join(name))));
    let mut hashes = Vec::new();
    for line in menus.iter().flat_map(|menu| menu.lines()) {
        if !line.trim_start().starts_with("linux ") {
            continue;
        }
        let word = line
            .split_whitespace()
            .find_map(|word| word.strip_prefix("dm-verity-root-hash="));
        hashes.push(
            word.unwrap_or_else(|| panic!("no root hash in {line}"))
                .to_owned(),
        );
    }
    assert_eq!(hashes.len(), 8);
    hashes.dedup();
    assert_eq!(hashes.len(), 1, "{hashes:?}");
    let (image, tree) = (
        medium.join("live/filesystem.squashfs"),
        medium.join("live/filesystem.squashfs.verity"),
    );
    let verify = |image: &Path| {
        let mut command = tool("veritysetup", "cryptsetup-bin");
        command.arg("verify").arg(image).arg(&tree).arg(&hashes[0]);
        run(&mut command)
    };
    let said = verify(&image);
    assert!(said.status.success(), "{}", text(&said.stderr));
    // One bit of it.
    let folder = open_folder();
    let changed = folder.path().join("changed");
    let mut bytes = read(&image);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&changed, bytes).unwrap();
    assert!(!verify(&changed).status.success());
}

#[test]
fn firmware_finds_a_boot_loader_on_a_cd_and_on_a_disk() {
    let iso = live().file("iso");
    let report = succeed(
        tool("xorriso", "xorriso")
            .args(["-indev"])
            .arg(&iso)
            .args(["-report_el_torito", "plain"]),
    );
    let report = text(&report.stdout);
    for firmware in ["BIOS", "UEFI"] {
        let there = report.lines().any(|line| {
            line.starts_with("El Torito boot img") && line.split_whitespace().any(|word| word == firmware)
        });
        assert!(there, "no image for {firmware} in\n{report}");
    }
    let checked = succeed(tool("sgdisk", "gdisk").arg("--verify").arg(&iso));
    let checked = text(&checked.stdout);
    assert!(checked.contains("No problems found"), "{checked}");
    let checked = run(tool("sfdisk", "fdisk").arg("--verify").arg(&iso));
    let said = text(&checked.stdout) + &text(&checked.stderr);
    assert!(
        checked.status.success() && said.contains("No errors detected"),
        "{said}"
    );

    let bytes = read(&iso);
    let esp = esp(&bytes).expect("the GPT has no EFI system partition");
    let folder = open_folder();
    let image = folder.path().join("esp.img");
    std::fs::write(&image, esp).unwrap();
    succeed(tool("fsck.vfat", "dosfstools").args(["-n", "-v"]).arg(&image));
    let program = folder.path().join("program");
    succeed(
        tool("mcopy", "mtools")
            .arg("-i")
            .arg(&image)
            .arg("::/EFI/BOOT/BOOTX64.EFI")
            .arg(&program),
    );
    let program = read(&program);
    assert_eq!(&program[..2], b"MZ");
    assert!(program == read(&medium().join("EFI/BOOT/BOOTX64.EFI")));
}

/// The bytes of the EFI system partition, found as firmware does (UEFI specification 2.10, 5.3).
fn esp(disk: &[u8]) -> Option<&[u8]> {
    const ESP: [u8; 16] = [
        0x28, 0x73, 0x2a, 0xc1, 0x1f, 0xf8, 0xd2, 0x11, 0xba, 0x4b, 0x00, 0xa0, 0xc9, 0x3e, 0xc9, 0x3b,
    ];
    let number = |at: usize| u64::from_le_bytes(disk[at..at + 8].try_into().unwrap()) as usize;
    let short = |at: usize| u32::from_le_bytes(disk[at..at + 4].try_into().unwrap()) as usize;
    assert_eq!(&disk[512..520], b"EFI PART");
    let (first, count, size) = (number(512 + 72) * 512, short(512 + 80), short(512 + 84));
    let entry = (0..count)
        .map(|index| first + index * size)
        .find(|&at| disk[at..at + 16] == ESP)?;
    Some(&disk[number(entry + 32) * 512..(number(entry + 40) + 1) * 512])
}

#[test]
fn the_initramfs_is_a_compressed_archive_of_an_init_and_its_modules() {
    let plain = open_folder();
    let stream = plain.path().join("initrd.zst");
    std::fs::write(&stream, read(&medium().join("live/initrd"))).unwrap();
    succeed(tool("zstd", "zstd").arg("--test").arg(&stream));
    let archive = plain.path().join("initrd.cpio");
    succeed(
        tool("zstd", "zstd")
            .arg("--decompress")
            .arg(&stream)
            .arg("-o")
            .arg(&archive),
    );
    let list = succeed(
        tool("cpio", "cpio")
            .args(["--list", "--quiet", "--file"])
            .arg(&archive),
    );
    let list = text(&list.stdout);
    let has = |end: &str| {
        list.lines()
            .any(|line| line == end || line.ends_with(&format!("/{end}")))
    };
    for name in ["init", "lycia-init.conf", "console", "busybox", "modules.dep"] {
        assert!(has(name), "no {name} in\n{list}");
    }
    let manifest = live().manifest();
    for module in ["loop", "overlay", "squashfs", "isofs", "virtio_blk"] {
        let file = format!("/{module}.ko");
        let in_root = manifest["files"]
            .as_array()
            .unwrap()
            .iter()
            .any(|entry| entry["path"].as_str().unwrap().contains(&file));
        // The others are built into the kernel.
        assert_eq!(
            list.lines().any(|line| line.contains(&file)),
            in_root,
            "{module}: in the initramfs, in the root"
        );
    }
    let mut configuration = tool("cpio", "cpio");
    configuration
        .args(["--extract", "--quiet", "--to-stdout", "--file"])
        .arg(&archive)
        .args(["etc/lycia-init.conf", "/etc/lycia-init.conf"]);
    let configuration = text(&succeed(&mut configuration).stdout);
    let uuid = manifest["medium"]["uuid"].as_str().unwrap().to_owned();
    assert!(configuration.contains(&uuid), "{configuration}");
}

/// An entry as `unsquashfs -lln` shows it: type letter, permissions, owner, and size, target or device.
#[derive(PartialEq, Eq, Debug)]
struct Entry {
    kind: char,
    mode: u32,
    owner: String,
    rest: String,
}

/// Reads lines such as `-rwsr-xr-x 0/0  1234 2023-11-14 22:13 squashfs-root/usr/bin/su`.
fn listed(line: &str) -> Option<(String, Entry)> {
    let mut rest = line;
    let mut word = || {
        rest = rest.trim_start();
        let (word, after) = rest.split_once(' ')?;
        rest = after;
        Some(word.to_owned())
    };
    let (letters, owner) = (word()?, word()?);
    let kind = letters.chars().next()?;
    let mut amount = word()?;
    if matches!(kind, 'c' | 'b') {
        if !amount.contains(',') || amount.ends_with(',') {
            amount += &word()?;
        }
        amount = amount.replace(',', ":");
    }
    word()?;
    word()?;
    let path = rest.trim_start().strip_prefix("squashfs-root")?;
    let (path, rest) = match kind {
        'l' => path.split_once(" -> ").map(|(a, b)| (a, b.to_owned()))?,
        'd' => (path, String::new()),
        _ => (path, amount),
    };
    let mut mode = 0;
    for (place, letter) in letters.chars().skip(1).enumerate() {
        let bit = 0o400 >> place;
        let special = [0o4000, 0o2000, 0o1000][place / 3];
        mode |= match letter {
            'r' | 'w' | 'x' => bit,
            's' | 't' => bit | special,
            'S' | 'T' => special,
            _ => 0,
        };
    }
    let path = if path.is_empty() { "/" } else { path };
    let entry = Entry {
        kind,
        mode,
        owner,
        rest,
    };
    Some((path.to_owned(), entry))
}

/// The same of an entry of the manifest.
fn announced(file: &Value) -> (String, Entry) {
    let kind = match file["type"].as_str().unwrap() {
        "file" => '-',
        "directory" => 'd',
        "symlink" => 'l',
        "char" => 'c',
        "block" => 'b',
        "fifo" => 'p',
        "socket" => 's',
        other => panic!("{other} is no type"),
    };
    let rest = match kind {
        '-' => file["size"].to_string(),
        'l' => file["target"].as_str().unwrap().to_owned(),
        'c' | 'b' => file["device"].as_str().unwrap().to_owned(),
        'd' => String::new(),
        _ => "0".to_owned(),
    };
    let entry = Entry {
        kind,
        mode: u32::from_str_radix(file["mode"].as_str().unwrap(), 8).unwrap(),
        owner: format!("{}/{}", file["uid"], file["gid"]),
        rest,
    };
    (file["path"].as_str().unwrap().to_owned(), entry)
}

#[test]
fn every_entry_of_the_squashfs_is_as_the_manifest_says() {
    let squashfs = medium().join("live/filesystem.squashfs");
    let list = succeed(tool("unsquashfs", "squashfs-tools").arg("-lln").arg(&squashfs));
    let seen: BTreeMap<String, Entry> = text(&list.stdout)
        .lines()
        .filter(|line| line.contains("squashfs-root"))
        .map(|line| listed(line).unwrap_or_else(|| panic!("unsquashfs said `{line}`")))
        .collect();
    let manifest = live().manifest();
    let files = manifest["files"].as_array().unwrap();
    let mut expected: BTreeMap<String, Entry> = files.iter().map(announced).collect();
    assert_eq!(expected.len(), files.len(), "the manifest names a path twice");
    assert!(expected.len() > 1000);
    // The walk of the manifest may leave the root itself out.
    if !expected.contains_key("/") {
        let root = Entry {
            kind: 'd',
            mode: 0o755,
            owner: "0/0".to_owned(),
            rest: String::new(),
        };
        expected.insert("/".to_owned(), root);
    }
    let differences: Vec<String> = expected
        .keys()
        .chain(seen.keys())
        .filter(|path| expected.get(*path) != seen.get(*path))
        .map(|path| format!("{path}: {:?}, not {:?}", seen.get(path), expected.get(path)))
        .collect();
    assert!(
        differences.is_empty(),
        "{} entries differ: {:#?}",
        differences.len(),
        &differences[..differences.len().min(20)]
    );
}

#[test]
fn every_file_of_the_squashfs_has_the_content_of_the_manifest() {
    // In a folder that an unprivileged user may enter, whose files it then owns.
    let folder = open_folder();
    let squashfs = folder.path().join("filesystem.squashfs");
    std::fs::copy(medium().join("live/filesystem.squashfs"), &squashfs).unwrap();
    give_away(folder.path());
    let root = folder.path().join("root");
    let mut command = tool("unsquashfs", "squashfs-tools");
    command
        .args(["-no-progress", "-no-xattrs", "-ignore-errors", "-dest"])
        .arg(&root)
        .arg(&squashfs);
    unprivileged(&mut command);
    // It complains of devices that it may not make; what matters is compared here.
    let unpacked = run(&mut command);
    let manifest = live().manifest();
    let mut compared = 0;
    for file in manifest["files"].as_array().unwrap() {
        if file["type"] != "file" {
            continue;
        }
        let path = file["path"].as_str().unwrap();
        let there = root.join(path.trim_start_matches('/'));
        if !crate::program::is_root() {
            // Files that even their owner may not read.
            let _ = Command::new("chmod").arg("u+r").arg(&there).status();
        }
        let bytes = std::fs::read(&there)
            .unwrap_or_else(|error| panic!("{path}: {error}\n{}", text(&unpacked.stderr)));
        assert_eq!(file["sha256"].as_str(), Some(sha256(&bytes).as_str()), "{path}");
        compared += 1;
    }
    assert!(compared > 500, "only {compared} files");

    // The database of the image's own apk has the packages of the manifest and of the lock.
    let database = manifest["files"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|file| {
            file["path"]
                .as_str()
                .filter(|path| path.ends_with("/apk/db/installed"))
        })
        .unwrap();
    let database = text(&read(&root.join(database.trim_start_matches('/'))));
    let mut installed: Vec<String> = database
        .split("\n\n")
        .filter_map(|record| {
            let field = |key: &str| record.lines().find_map(|line| line.strip_prefix(key));
            Some(format!("{}-{}", field("P:")?, field("V:")?))
        })
        .collect();
    installed.sort();
    let mut announced: Vec<String> = manifest["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            format!(
                "{}-{}",
                package["name"].as_str().unwrap(),
                package["version"].as_str().unwrap()
            )
        })
        .collect();
    announced.sort();
    assert_eq!(installed, announced);
    let lock: toml::Table = text(&read(&live().file("lock"))).parse().unwrap();
    let mut locked: Vec<String> = lock["package"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| {
            format!(
                "{}-{}",
                package["name"].as_str().unwrap(),
                package["version"].as_str().unwrap()
            )
        })
        .collect();
    locked.sort();
    assert_eq!(locked, announced);
    assert!(
        announced.iter().any(|name| name.starts_with("musl-1.")),
        "{announced:?}"
    );
}
