//! Media of every kind, whole, damaged and changed; those of other programs, too.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod samples;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use lycia_inspect::{Change, Limits, inspect};
use lycia_tree::{Content, Metadata, Node, Tree};

use samples::{
    archive, difference, disk_image, erofs_image, ext4_volume, faults, look, look_sha, put, qcow2_image,
    root, root_part, squashfs_image, tarball, zstd,
};

#[test]
fn every_format_shows_the_same_root() {
    let tree = root();
    let volume = ext4_volume(&tree);
    let raw = disk_image(&tree);
    let kinds: Vec<(&str, Vec<u8>)> = vec![
        ("ext4", volume.clone()),
        ("ext4", zstd(&volume)),
        ("ext4", raw.clone()),
        ("ext4", qcow2_image(&raw)),
        ("ext4", zstd(&qcow2_image(&raw))),
        ("squashfs", squashfs_image(&tree)),
        ("erofs", erofs_image(&tree)),
        ("tar", tarball(&tree)),
        ("tar", zstd(&tarball(&tree))),
        ("initramfs", archive(&tree)),
        ("initramfs", zstd(&archive(&tree))),
    ];
    for (number, (format, bytes)) in kinds.into_iter().enumerate() {
        let report = look(&bytes);
        assert_eq!(faults(&report), Vec::<String>::new(), "{number}: {format}");
        let part = root_part(&report);
        assert_eq!(part.format, format, "{number}");
        let items: BTreeMap<&str, _> = part.files.iter().map(|item| (item.path.as_str(), item)).collect();
        for entry in tree.walk() {
            let path = lycia_tree::display(&entry.path);
            // The archive need not say what its root is.
            let Some(item) = items.get(path.as_str()) else {
                assert!(path == "/" && format == "initramfs", "{number}: {path}");
                continue;
            };
            let metadata = &entry.inode.metadata;
            assert_eq!(
                (item.mode, item.uid, item.gid),
                (metadata.mode, metadata.uid, metadata.gid),
                "{path}"
            );
            assert_eq!(item.mtime, metadata.mtime.seconds, "{number}: {path}");
            match entry.inode.node() {
                None => assert_eq!(item.kind, "directory"),
                Some(Node::Regular(content)) => {
                    assert_eq!((item.kind, item.size), ("file", Some(content.len())), "{path}");
                    let whole = look_sha(content.bytes());
                    assert_eq!(item.sha256.as_deref(), Some(whole.as_str()), "{number}: {path}");
                }
                Some(Node::Symlink(target)) => {
                    assert_eq!(item.target.as_deref().map(str::as_bytes), Some(&target[..]));
                }
                Some(Node::CharDevice(_)) => assert_eq!(item.device.as_deref(), Some("1:3")),
                Some(_) => assert_eq!(item.kind, "fifo"),
            }
        }
        if format != "initramfs" {
            let system = part.system.as_ref().expect("a system");
            assert_eq!(system.packages[0].version, "1.2-r3");
            assert_eq!(system.world, ["tool"]);
            assert_eq!(part.entries[0].arguments, "quiet");
        }
        // For machines and for people.
        assert!(serde_json::to_string(&report).unwrap().contains("/etc/motd"));
        assert!(
            report.text(true).ends_with("nothing is wrong\n"),
            "{}",
            report.text(true)
        );
    }
}

#[test]
fn one_wrong_byte_of_a_structure_is_told_with_its_place() {
    let tree = root();
    let raw = disk_image(&tree);
    let second = 3 << 20;
    let reserved = u64::from(u16::from_le_bytes([raw[(1 << 20) + 14], raw[(1 << 20) + 15]]));
    let last = raw.len() as u64 - 512;
    // Where a byte is changed, and what must be told of it.
    let cases: [(u64, &str); 9] = [
        (510, "55 aa"),
        (512 + 24, "primary GPT"),
        (1024 + 40, "primary GPT"),
        (last + 60, "backup GPT"),
        (last - 16384, "backup GPT"),
        (second + 1024 + 20, "superblock"),
        (second + 4096 + 3, "descriptor"),
        ((1 << 20) + reserved * 512 + 4, "allocation table"),
        (last - 100, "backup GPT"),
    ];
    for (at, wanted) in cases {
        let mut bytes = raw.clone();
        bytes[at as usize] ^= 0x40;
        let report = look(&bytes);
        let told = faults(&report);
        // Entries that are not used lie under the same checksum.
        assert!(
            told.iter().any(|fault| fault.contains(wanted)),
            "byte {at}: {told:?}"
        );
        assert!(
            report.faults.iter().all(|fault| fault.offset.is_some()),
            "{told:?}"
        );
    }
    // Any byte of an ext4 volume's block bitmap and descriptors lies under a checksum.
    let volume = ext4_volume(&tree);
    let mut structures = 0;
    for at in (4096..volume.len()).step_by(4096 - 64) {
        let mut bytes = volume.clone();
        bytes[at] ^= 1;
        let found = difference(&volume, &bytes);
        let structure = found.bytes[0].structure.clone();
        let report = look(&bytes);
        if ["block bitmap", "group descriptor"]
            .iter()
            .any(|name| structure.ends_with(name))
        {
            structures += 1;
            assert!(!report.faults.is_empty(), "byte {at} of {structure}");
        }
    }
    assert!(structures > 0);
    let report = look(&squashfs_image(&tree)[..500]);
    assert!(
        faults(&report)[0].contains("500 are there"),
        "{:?}",
        faults(&report)
    );
}

#[test]
fn what_other_programs_write_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let run = |package: &str, program: &str, arguments: &[&str]| {
        let output = Command::new(program)
            .args(arguments)
            .env(
                "PATH",
                format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()),
            )
            .current_dir(folder.path())
            .output()
            .unwrap_or_else(|error| panic!("{program} of the Debian package {package} is needed: {error}"));
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    let below = path("root");
    std::fs::create_dir_all(below.join("etc")).unwrap();
    std::fs::write(below.join("etc/motd"), "hello\n").unwrap();
    std::fs::write(below.join("large"), b"0123456789".repeat(100_000)).unwrap();
    std::fs::hard_link(below.join("etc/motd"), below.join("again")).unwrap();
    run(
        "e2fsprogs",
        "mke2fs",
        &["-q", "-t", "ext4", "-d", "root", "a.ext4", "16M"],
    );
    run(
        "e2fsprogs",
        "mke2fs",
        &["-q", "-t", "ext2", "-d", "root", "a.ext2", "8M"],
    );
    run(
        "squashfs-tools",
        "mksquashfs",
        &["root", "a.squashfs", "-quiet", "-no-progress", "-comp", "xz"],
    );
    run("erofs-utils", "mkfs.erofs", &["-x0", "a.erofs", "root"]);
    run("tar", "tar", &["-cf", "a.tar", "-C", "root", "."]);
    let convert = |name: &str, options: &[&str]| {
        let mut arguments = vec!["convert", "-f", "raw", "-O", "qcow2"];
        arguments.extend(options);
        arguments.extend(["a.ext4", name]);
        run("qemu-utils", "qemu-img", &arguments);
    };
    convert("small.qcow2", &["-c", "-o", "cluster_size=4096"]);
    convert("old.qcow2", &["-o", "compat=0.10"]);
    convert("zstd.qcow2", &["-c", "-o", "compression_type=zstd"]);
    for name in [
        "a.ext4",
        "a.ext2",
        "a.squashfs",
        "a.erofs",
        "a.tar",
        "small.qcow2",
        "old.qcow2",
        "zstd.qcow2",
    ] {
        let report = inspect(&path(name), &Limits::default()).unwrap();
        assert_eq!(faults(&report), Vec::<String>::new(), "{name}");
        let files = &root_part(&report).files;
        let sum = |path: &str| {
            let item = files.iter().find(|item| item.path == path);
            item.unwrap_or_else(|| panic!("{name} has no {path}"))
                .sha256
                .clone()
        };
        assert_eq!(sum("/etc/motd"), Some(look_sha(b"hello\n")), "{name}");
        assert_eq!(sum("/again"), Some(look_sha(b"hello\n")), "{name}");
        assert_eq!(
            sum("/large"),
            Some(look_sha(&b"0123456789".repeat(100_000))),
            "{name}"
        );
    }
}

#[test]
fn one_byte_of_a_file_is_named_with_the_file() {
    for make in [disk_image, ext4_volume, erofs_image, tarball, archive] {
        let old = make(&root());
        assert!(difference(&old, &old).is_empty());
        let at = old
            .windows(8)
            .position(|window| window == b"welcome\n")
            .expect("a file that lies there as it is");
        let mut new = old.clone();
        new[at] = b'W';
        let found = difference(&old, &new);
        assert!(found.values.is_empty(), "{:?}", found.values);
        assert_eq!(found.files.len(), 1, "{found:?}");
        assert_eq!(
            (found.files[0].path.as_str(), &found.files[0].what[..]),
            ("/etc/motd", &[Change::Content][..])
        );
        let touched = &found.bytes[..];
        assert_eq!(touched.len(), 1, "{touched:?}");
        assert!(touched[0].structure.ends_with("/etc/motd"), "{touched:?}");
        assert_eq!((touched[0].bytes, touched[0].ranges[0].start), (1, at as u64));
        assert!(found.text().contains("/etc/motd: content"), "{}", found.text());
    }
}

#[test]
fn each_thing_that_a_file_can_differ_in_is_named() {
    let old = root();
    let mut new = root();
    let change = |tree: &mut Tree, path: &str, with: &dyn Fn(&mut Metadata)| {
        let id = tree
            .resolve(path.as_bytes(), lycia_tree::Follow::Parents)
            .unwrap();
        with(tree.metadata_mut(id));
    };
    change(&mut new, "/etc/motd", &|metadata| metadata.mode = 0o600);
    change(&mut new, "/usr/bin/tool", &|metadata| {
        metadata.uid = 7;
        metadata.xattrs.insert(b"user.x".to_vec(), b"1".to_vec());
    });
    change(&mut new, "/run/pipe", &|metadata| metadata.mtime.seconds += 1);
    new.remove(b"/usr/bin/link").unwrap();
    put(&mut new, "/etc/new", 0o644, Node::Regular("n".into()));
    let id = new
        .resolve(b"/usr/lib/apk/db/installed", lycia_tree::Follow::All)
        .unwrap();
    let metadata = new.inode(id).metadata.clone();
    let database = "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:tool\nV:1.3-r0\nA:x86_64\nL:MIT\no:tool\n\n";
    new.update(b"/usr/lib/apk/db/installed", metadata, Content::from(database))
        .unwrap();
    let found = difference(&squashfs_image(&old), &squashfs_image(&new));
    let files: Vec<(&str, &[Change])> = found
        .files
        .iter()
        .map(|file| (file.path.as_str(), &file.what[..]))
        .collect();
    assert_eq!(
        files,
        [
            ("/etc/motd", &[Change::Mode][..]),
            ("/etc/new", &[Change::Added]),
            ("/run/pipe", &[Change::Mtime]),
            ("/usr/bin/link", &[Change::Removed]),
            ("/usr/bin/tool", &[Change::Owner, Change::Xattrs]),
            ("/usr/lib/apk/db/installed", &[Change::Content]),
        ]
    );
    assert_eq!(found.packages.len(), 1);
    assert_eq!(found.packages[0].key, "tool");
    // A raw disk and its qcow2 image have the same files.
    let raw = disk_image(&old);
    let packed = difference(&raw, &qcow2_image(&raw));
    assert!(packed.files.is_empty() && packed.bytes.is_empty(), "{packed:?}");
}

#[test]
fn checksums_and_manifests_beside_are_held_against_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("box-x86_64.squashfs");
    let image = squashfs_image(&root());
    std::fs::write(&path, &image).unwrap();
    let sum = look_sha(&image);
    let beside = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    beside("SHA256SUMS", &format!("{sum}  box-x86_64.squashfs\n"));
    let report = inspect(&path, &Limits::default()).unwrap();
    assert_eq!((report.beside.len(), report.faults.len()), (1, 0));
    beside(
        "SHA256SUMS",
        &format!("{}  box-x86_64.squashfs\n", "0".repeat(64)),
    );
    let report = inspect(&path, &Limits::default()).unwrap();
    assert!(
        faults(&report)[0].contains("SHA256SUMS says"),
        "{:?}",
        faults(&report)
    );
    std::fs::remove_file(folder.path().join("SHA256SUMS")).unwrap();
    // A manifest that is right but for one mode.
    let files: Vec<serde_json::Value> = root_part(&report)
        .files
        .iter()
        .map(|item| {
            let mut value = serde_json::to_value(item).unwrap();
            value["from"] = "package tool-1.2-r3".into();
            value
        })
        .collect();
    let manifest = |files: &[serde_json::Value]| {
        serde_json::json!({"packages": [{"name": "tool", "version": "1.2-r3"}], "files": files}).to_string()
    };
    beside("box-x86_64.manifest.json", &manifest(&files));
    let report = inspect(&path, &Limits::default()).unwrap();
    assert_eq!(faults(&report), Vec::<String>::new());
    assert_eq!(
        root_part(&report).files[1].from.as_deref(),
        Some("package tool-1.2-r3")
    );
    let mut changed = files.clone();
    changed[1]["mode"] = "0111".into();
    changed.pop();
    beside("box-x86_64.manifest.json", &manifest(&changed));
    let report = inspect(&path, &Limits::default()).unwrap();
    let told = faults(&report);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("its mode is not that of") && told[1].contains("is not in"),
        "{told:?}"
    );
}

#[test]
fn what_is_nothing_that_is_known_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("noise");
    std::fs::write(&path, b"plain text\n".repeat(1000)).unwrap();
    assert!(inspect(&path, &Limits::default()).is_err());
    assert!(inspect(Path::new("/nonexistent/x"), &Limits::default()).is_err());
}

#[test]
fn what_a_damaged_medium_seems_to_lack_is_no_removal() {
    use lycia_inspect::Which;
    let old = root();
    let mut new = root();
    new.write(
        b"/dev/motd",
        Metadata::new(0o644, samples::TIME),
        b"new".to_vec().into(),
    )
    .unwrap();
    let found = |old: &[u8], new: &[u8]| {
        let found = difference(old, new);
        let gone: Vec<String> = found
            .files
            .iter()
            .filter(|file| file.what == [Change::Removed])
            .map(|file| file.path.clone())
            .collect();
        let text = found.text();
        (found, gone, text)
    };
    // Of whole ones it is.
    let (whole, gone, text) = found(&tarball(&new), &tarball(&old));
    assert!(whole.damage.is_empty() && whole.unread.is_empty(), "{text}");
    assert_eq!(gone, ["/dev/motd"]);
    // An archive that cannot be read behind its third member.
    let mut damaged = tarball(&old);
    let at = damaged.windows(8).position(|bytes| bytes == b"usr/bin/").unwrap();
    damaged[at + 1] ^= 1;
    let (broken, gone, text) = found(&tarball(&new), &damaged);
    assert_eq!(
        (broken.damage.len(), broken.damage[0].side),
        (1, Which::New),
        "{text}"
    );
    assert_eq!(gone, Vec::<String>::new(), "{text}");
    assert!(text.starts_with("damaged   new: byte "), "{text}");
    assert!(broken.packages.is_empty() && !text.contains("entries"), "{text}");
    assert!(text.contains("not read  new: not all of it"), "{text}");
    let json = serde_json::to_value(&broken).unwrap();
    assert_eq!(json["damage"][0]["side"], "new");
    assert!(json["damage"][0]["what"].is_string(), "{json}");
    // The other way round nothing was added.
    let (broken, _, text) = found(&damaged, &tarball(&new));
    assert_eq!(broken.damage[0].side, Which::Old);
    assert!(
        broken.files.iter().all(|file| file.what != [Change::Added]),
        "{text}"
    );
    // A disk whose tables are gone, and one whose file system is.
    let disk = disk_image(&old);
    let mut tables = disk.clone();
    tables[512..520].fill(0);
    let end = tables.len();
    tables[end - 512..end - 504].fill(0);
    let mut volume = disk.clone();
    let at = volume
        .windows(2)
        .enumerate()
        .position(|(at, bytes)| at % 1024 == 56 && at > 3 << 20 && bytes == [0x53, 0xef])
        .unwrap();
    volume[at..at + 2].fill(0);
    for damaged in [&tables, &volume] {
        let (broken, gone, text) = found(&disk, damaged);
        assert_eq!((gone, broken.parts), (Vec::new(), Vec::new()), "{text}");
        assert!(text.contains("not read  new: "), "{text}");
        assert!(!broken.bytes.is_empty());
    }
}
