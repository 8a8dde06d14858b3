//! Labels and UUIDs of real file systems, compared with blkid and sgdisk.
// Lint exceptions for tests do not reach the helpers beside them.
#![allow(clippy::unwrap_used)]

use lycia_init::device::partition_identity;
use lycia_init::superblock::{Superblock, identify};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs an oracle; a missing one fails the test and says where it comes from.
fn run(package: &str, program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .unwrap_or_else(|error| panic!("{program}: {error}; install the Debian package {package}"));
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap()
}

fn blkid(image: &Path) -> BTreeMap<String, String> {
    run(
        "util-linux",
        "blkid",
        &["-p", "-o", "export", image.to_str().unwrap()],
    )
    .lines()
    .filter_map(|line| line.split_once('='))
    // The export format escapes blanks.
    .map(|(key, value)| (key.to_owned(), value.replace('\\', "")))
    .collect()
}

fn image(directory: &Path, name: &str, megabytes: u64) -> PathBuf {
    let path = directory.join(name);
    File::create(&path).unwrap().set_len(megabytes << 20).unwrap();
    path
}

/// Checks that we see exactly one file system, with the label and UUID that blkid sees.
fn agrees(image: &Path, kind: &str) -> Superblock {
    let found = identify(&File::open(image).unwrap());
    assert_eq!(found.len(), 1, "{image:?}: {found:?}");
    let found = found.into_iter().next().unwrap();
    assert_eq!(found.kind, kind, "{image:?}");
    let oracle = blkid(image);
    assert_eq!(found.uuid.as_ref(), oracle.get("UUID"), "{image:?}");
    match oracle.get("LABEL") {
        Some(label) => assert!(
            found.has_label(label),
            "{image:?}: blkid has {label}, we have {found:?}"
        ),
        None => assert_eq!(found.label, None, "{image:?}"),
    }
    found
}

#[test]
fn iso_9660() {
    let directory = tempfile::tempdir().unwrap();
    let tree = directory.path().join("tree");
    fs::create_dir(&tree).unwrap();
    fs::write(tree.join("f"), "x").unwrap();
    for (name, label, extra) in [
        ("plain", "LYCIA_TEST", vec![]),
        ("joliet", "lycia 2026", vec!["-J", "-joliet-long"]),
        ("long", "A_LABEL_OF_THE_FULL_LENGTH_OF_32", vec!["-J"]),
        ("dated", "D", vec!["--modification-date=2026010203040500"]),
        ("partition", "P", vec!["-partition_offset", "16"]),
    ] {
        let path = directory.path().join(format!("{name}.iso"));
        let mut arguments = vec![
            "-as",
            "mkisofs",
            "-quiet",
            "-r",
            "-V",
            label,
            "-o",
            path.to_str().unwrap(),
        ];
        arguments.extend(extra);
        arguments.push(tree.to_str().unwrap());
        run("xorriso", "xorriso", &arguments);
        let found = agrees(&path, "iso9660");
        assert_eq!(found.label.as_deref(), Some(label), "{name}");
        if name == "dated" {
            assert_eq!(found.uuid.as_deref(), Some("2026-01-02-03-04-05-00"));
        }
    }
}

#[test]
fn ext() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, label) in [
        ("ext2", "a label with 16"),
        ("ext3", ""),
        ("ext4", "exactly_sixteen_"),
    ] {
        let path = image(directory.path(), kind, 8);
        let mut arguments = vec!["-q", "-t", kind];
        if !label.is_empty() {
            arguments.extend(["-L", label]);
        }
        arguments.push(path.to_str().unwrap());
        run("e2fsprogs", "mke2fs", &arguments);
        assert_eq!(agrees(&path, "ext4").label.as_deref().unwrap_or(""), label);
    }
}

#[test]
fn fat() {
    let directory = tempfile::tempdir().unwrap();
    for (bits, megabytes, label, sector) in [
        ("12", 4, "TWELVE", "512"),
        ("16", 32, "SIX TEEN", "512"),
        ("32", 64, "THIRTYTWO", "512"),
        ("32", 300, "", "4096"),
        ("16", 64, "", "2048"),
    ] {
        let path = image(directory.path(), &format!("fat{bits}-{sector}"), megabytes);
        let mut arguments = vec!["-F", bits, "-S", sector, "-i", "12AB34CD"];
        if !label.is_empty() {
            arguments.extend(["-n", label]);
        }
        arguments.push(path.to_str().unwrap());
        run("dosfstools", "mkfs.vfat", &arguments);
        let found = agrees(&path, "vfat");
        assert_eq!(
            (found.label.as_deref().unwrap_or(""), found.uuid.as_deref()),
            (label, Some("12AB-34CD"))
        );
    }
}

#[test]
fn a_label_changed_later_is_the_one_in_the_root_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), "fat", 64);
    run(
        "dosfstools",
        "mkfs.vfat",
        &["-F", "32", "-n", "FIRST", path.to_str().unwrap()],
    );
    run("mtools", "mlabel", &["-i", path.to_str().unwrap(), "::SECOND"]);
    assert_eq!(agrees(&path, "vfat").label.as_deref(), Some("SECOND"));
}

#[test]
fn others() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, package, program, megabytes, label_option) in [
        ("exfat", "exfatprogs", "mkfs.exfat", 64, "-L"),
        ("xfs", "xfsprogs", "mkfs.xfs", 320, "-L"),
        ("btrfs", "btrfs-progs", "mkfs.btrfs", 128, "-L"),
        ("f2fs", "f2fs-tools", "mkfs.f2fs", 64, "-l"),
    ] {
        let path = image(directory.path(), kind, megabytes);
        run(package, program, &[label_option, "lycia", path.to_str().unwrap()]);
        assert_eq!(agrees(&path, kind).label.as_deref(), Some("lycia"));
    }
    let path = image(directory.path(), "ntfs", 16);
    run("ntfs-3g", "mkntfs", &["-Q", "-F", "-q", path.to_str().unwrap()]);
    agrees(&path, "ntfs3");
}

#[test]
fn partitions_of_a_gpt() {
    let directory = tempfile::tempdir().unwrap();
    let path = image(directory.path(), "disk", 64);
    let name = path.to_str().unwrap();
    let guid = "01234567-89AB-CDEF-0123-456789ABCDEF";
    run(
        "gdisk",
        "sgdisk",
        &[
            "-n",
            "3:0:+8M",
            "-c",
            "3:a name",
            "-u",
            &format!("3:{guid}"),
            "-n",
            "1:0:0",
            name,
        ],
    );
    let disk = File::open(&path).unwrap();
    let third = partition_identity(&disk, 512, 3);
    assert_eq!(third.uuid.unwrap().to_uppercase(), guid);
    assert_eq!(third.label.as_deref(), Some("a name"));
    let shown = run("gdisk", "sgdisk", &["-i", "1", name]);
    let first = partition_identity(&disk, 512, 1).uuid.unwrap().to_uppercase();
    assert!(
        shown.contains(&format!("Partition unique GUID: {first}")),
        "{shown}"
    );
    let absent = partition_identity(&disk, 512, 2).uuid;
    assert!(absent.is_none_or(|uuid| uuid.len() < 36));
}
