//! One byte flipped in each structure of a medium, and what is told of it.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod samples;

use std::process::Command;

use lycia_inspect::{Limits, inspect};
use lycia_media::partition::Guid;
use lycia_media::partition::mbr::{Mbr, Record};
use lycia_media::{disk, tar};
use lycia_tree::{Content, Metadata, Node, Tree};

use samples::{
    TIME, bios_disk, boot_iso, container, container_of, efi_program, ext4_volume, faults, hybrid_disk, look,
    look_sha, program_volume, put, qcow2_image, root, root_part, tarball,
};

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes
        .windows(what.len())
        .position(|window| window == what)
        .unwrap_or_else(|| panic!("no {}", String::from_utf8_lossy(what)))
}

/// Whatever is there is whole, and each of these bytes tells when it is another.
fn flips(name: &str, whole: &[u8], cases: &[(usize, u8, &str)]) {
    assert_eq!(faults(&look(whole)), Vec::<String>::new(), "{name}");
    for &(at, with, wanted) in cases {
        let mut bytes = whole.to_vec();
        bytes[at] ^= with;
        let told = faults(&look(&bytes));
        assert!(
            told.iter().any(|fault| fault.contains(wanted)),
            "byte {at} of {name}, `{wanted}`: {told:?}"
        );
    }
}

#[test]
fn boot_sector_and_core_image_of_grub() {
    let core = 1 << 20;
    flips(
        "a disk for BIOS",
        &bios_disk(),
        &[
            (0x5c, 1, "where no core image begins"),
            (0x5e, 0x40, "behind the end of the disk"),
            (0x5d, 1, "which is empty"),
            (core + 100, 1, "where no core image begins"),
            (core + 500, 1, "not behind its first one"),
            (core + 503, 1, "outside of its partition"),
            (core + 508, 0x40, "of which 4000 are compressed"),
            (core + 509, 0x40, "outside of its partition"),
            (core + 521, 0x40, "of which 20384 are compressed"),
        ],
    );
}

#[test]
fn programs_of_efi() {
    let volume = program_volume();
    let at = find(&volume, &efi_program()[..64]);
    flips(
        "a volume with an EFI program",
        &volume,
        &[
            (at + 0x3d, 1, "no PE header"),
            (at + 0x80, 1, "no PE header"),
            (at + 0x84, 1, "which its name is not"),
            (at + 0x98 + 17, 0x40, "runs over the end of the file"),
            (at + 0x98 + 21, 0x40, "runs over the end of the file"),
            (at + 0x87, 1, "the table of sections is cut"),
        ],
    );
}

#[test]
fn boot_records_of_an_iso() {
    let iso = boot_iso();
    let number = |at: usize| u32::from_le_bytes(iso[at..at + 4].try_into().unwrap()) as usize;
    let catalog = number(17 * 2048 + 0x47) * 2048;
    let image = number(catalog + 40) * 2048;
    let last = iso.len() - 512;
    flips(
        "an ISO that boots",
        &iso,
        &[
            // The boot catalog: its sum, what is loaded, from where.
            (catalog + 4, 1, "validation entry"),
            (catalog + 28, 1, "validation entry"),
            (catalog + 32, 1, "a boot indicator"),
            (catalog + 43, 1, "outside of the image"),
            (17 * 2048 + 0x47, 1, "validation entry"),
            // The boot information, and GRUB's own.
            (image + 12, 1, "the boot information says block"),
            (image + 16, 1, "the boot information says block"),
            (image + 20, 1, "the checksum of the boot information"),
            (image + 300, 1, "the checksum of the boot information"),
            (image + 2548, 1, "GRUB looks for its core at sector"),
            // The boot sector of a disk, and its tables.
            (432, 1, "the boot code loads sector"),
            (436, 1, "the boot code loads sector"),
            (510, 1, "55 aa"),
            (512 + 20, 1, "primary GPT"),
            (1024 + 33, 1, "primary GPT"),
            (last + 20, 1, "backup GPT"),
        ],
    );
}

#[test]
fn path_tables_and_joliet() {
    let iso = boot_iso();
    let number = |at: usize| u32::from_le_bytes(iso[at..at + 4].try_into().unwrap());
    // The primary volume descriptor, and Joliet's behind the boot record.
    for descriptor in [16 * 2048, 18 * 2048] {
        let len = number(descriptor + 132) as usize;
        let places = [number(descriptor + 140), number(descriptor + 148).swap_bytes()];
        for block in places {
            for at in 0..len {
                let mut bytes = iso.clone();
                bytes[block as usize * 2048 + at] ^= 0x10;
                let told = faults(&look(&bytes));
                assert!(
                    told.iter().any(|fault| fault.contains("path table")),
                    "byte {at} of the path table at block {block}: {told:?}"
                );
            }
        }
        flips(
            "descriptors",
            &iso,
            &[
                (descriptor + 132, 2, "not the same in both"),
                (descriptor + 140, 0x80, "path table"),
                (descriptor + 151, 0x80, "path table"),
            ],
        );
    }
    let name: Vec<u8> = "read me.txt;1"
        .encode_utf16()
        .flat_map(u16::to_be_bytes)
        .collect();
    let record = find(&iso, &name) - 33;
    let folder: Vec<u8> = "docs".encode_utf16().flat_map(u16::to_be_bytes).collect();
    // Behind the path tables, which have it too.
    let tables = number(18 * 2048 + 148).swap_bytes() as usize * 2048 + 2048;
    let folder = tables + find(&iso[tables..], &folder) - 33;
    flips(
        "Joliet",
        &iso,
        &[
            (record + 2, 1, "not the same in both"),
            (record + 10, 1, "not the same in both"),
            (record + 25, 2, "Joliet"),
            (record + 34, 1, "lacks 1 entries of the tree"),
            (record + 32, 4, "identifier"),
            (folder + 25, 2, "Joliet"),
            (folder + 34, 2, "Joliet"),
        ],
    );
    // Both byte orders of a place: the file of Joliet leads elsewhere.
    let mut bytes = iso.clone();
    bytes[record + 2] ^= 1;
    bytes[record + 9] ^= 1;
    let told = faults(&look(&bytes));
    assert!(
        told.iter()
            .any(|fault| fault.contains("/docs/read me.txt of Joliet has other content")),
        "{told:?}"
    );
}

/// Runs a program of a Debian package in a folder.
fn run(folder: &std::path::Path, package: &str, program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program)
        .args(arguments)
        .env(
            "PATH",
            format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()),
        )
        .current_dir(folder)
        .output()
        .unwrap_or_else(|error| panic!("{program} of the Debian package {package} is needed: {error}"));
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn what_xorriso_writes_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder
        .path()
        .join("root/one/two/three/four/five/six/seven/eight/nine");
    std::fs::create_dir_all(&below).unwrap();
    for (name, text) in [
        ("Read Me.txt", "a"),
        ("read me.txt", "b"),
        ("with:colon", "c"),
        (&"long".repeat(30), "d"),
        ("empty", ""),
    ] {
        std::fs::write(below.join(name), text).unwrap();
        std::fs::write(folder.path().join("root").join(name), text).unwrap();
    }
    std::os::unix::fs::symlink("empty", folder.path().join("root/link")).unwrap();
    let (done, said) = run(
        folder.path(),
        "xorriso",
        "xorriso",
        &["-as", "mkisofs", "-quiet", "-J", "-R", "-o", "a.iso", "root"],
    );
    assert!(done, "{said}");
    let report = inspect(&folder.path().join("a.iso"), &Limits::default()).unwrap();
    assert_eq!(faults(&report), Vec::<String>::new());
    assert_eq!(report.part.facts["joliet"], true);
}

#[test]
fn a_disk_whose_first_partition_looks_like_a_file_system_is_a_disk() {
    // EROFS has its signature where the type of the first partition is, ext4 where its name begins.
    let erofs: Guid = "e0f5e1e2-0001-0203-0405-060708090a0b".parse().unwrap();
    for (name, kind) in [("\u{ef53}data", Guid::LINUX_DATA), ("data", erofs)] {
        let mut layout = disk::Layout::new(Guid::derive(b"test", "disk"));
        layout.size = Some(4 << 20);
        let mut one = disk::Partition::new(
            name,
            kind,
            Guid::derive(b"test", "one"),
            disk::Size::Bytes(1 << 20),
        );
        one.content = disk::Content::Bytes(Content::from(&b"content"[..]));
        layout.partitions = vec![one];
        let mut bytes = std::io::Cursor::new(Vec::new());
        let plan = disk::Plan::new(&layout).unwrap();
        plan.write(&mut bytes, &mut |_| {}).unwrap();
        let bytes = bytes.into_inner();
        let seems = (
            bytes[1024..1028] == [0xe2, 0xe1, 0xf5, 0xe0],
            bytes[1080..1082] == [0x53, 0xef],
        );
        assert!(seems.0 != seems.1, "{seems:?}");
        let report = look(&bytes);
        assert_eq!(
            (report.part.format.as_str(), faults(&report)),
            ("disk", Vec::new())
        );
        assert_eq!(report.part.parts.len(), 1);
    }
}

#[test]
fn records_of_a_hybrid_mbr() {
    flips(
        "a disk with a hybrid MBR",
        &hybrid_disk(),
        &[
            (446 + 16 + 8, 1, "MBR record 2 has the sectors"),
            (446 + 16 + 9, 8, "MBR record 2 has the sectors"),
            (446 + 16 + 12, 1, "MBR record 2 has the sectors"),
            (446 + 16 + 13, 0x10, "MBR record 2 has the sectors"),
        ],
    );
}

/// A disk of 4 MiB with these MBRs, by their sectors.
fn disk_of(tables: &[(usize, [Option<Record>; 4])]) -> Vec<u8> {
    let mut bytes = vec![0; 4 << 20];
    for (sector, records) in tables {
        let mut table = Mbr::new();
        table.records = *records;
        bytes[sector * 512..][..512].copy_from_slice(&table.encode());
    }
    bytes
}

fn record(kind: u8, first: u32, sectors: u32) -> Option<Record> {
    Some(Record {
        active: false,
        kind,
        first,
        sectors,
    })
}

#[test]
fn an_mbr_of_large_sectors_is_followed() {
    let mut layout = disk::Layout::new(Guid::derive(b"test", "disk"));
    layout.size = Some(64 << 20);
    layout.sector_size = 4096;
    layout.table = disk::Table::Mbr;
    let volume = ext4_volume(&root());
    let mut one = disk::Partition::new(
        "root",
        Guid::LINUX_DATA,
        Guid::derive(b"test", "root"),
        disk::Size::Bytes((volume.len() as u64).next_multiple_of(4096)),
    );
    one.content = disk::Content::Bytes(Content::from(volume));
    layout.partitions = vec![one];
    let mut bytes = std::io::Cursor::new(Vec::new());
    let plan = disk::Plan::new(&layout).unwrap();
    plan.write(&mut bytes, &mut |_| {}).unwrap();
    let report = look(&bytes.into_inner());
    assert_eq!(faults(&report), Vec::<String>::new());
    assert_eq!(report.part.facts["sector-size"], 4096);
    assert_eq!(report.part.parts[0].format, "ext4");
}

#[test]
fn logical_partitions_are_followed() {
    let chain = |next: u32| {
        disk_of(&[
            (0, [record(0x83, 64, 100), record(0x0f, 2048, 6144), None, None]),
            (
                2048,
                [record(0x83, 64, 100), record(0x05, next, 1024), None, None],
            ),
            (3072, [record(0x82, 128, 200), None, None, None]),
        ])
    };
    let report = look(&chain(1024));
    assert_eq!(faults(&report), Vec::<String>::new());
    let places: Vec<(&str, Option<u64>)> = report
        .part
        .parts
        .iter()
        .map(|part| (part.place.as_str(), part.offset))
        .collect();
    assert_eq!(
        places,
        [
            ("partition 1", Some(64 * 512)),
            ("partition 5", Some(2112 * 512)),
            ("partition 6", Some(3200 * 512)),
        ]
    );
    for (next, wanted) in [(0, "goes back"), (7000, "no table"), (2000, "no table")] {
        let told = faults(&look(&chain(next)));
        assert!(
            told.iter().any(|fault| fault.contains(wanted)),
            "{next}: {told:?}"
        );
    }
}

#[test]
fn records_of_an_mbr() {
    let mut two = [record(0x83, 64, 100), record(0x83, 200, 100), None, None];
    for one in two.iter_mut().flatten() {
        one.active = true;
    }
    let told = faults(&look(&disk_of(&[(0, two)])));
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("2 records of the MBR are active"), "{told:?}");
    // A GPT behind an MBR that knows nothing of it.
    let mut bytes = bios_disk();
    bytes[446..510].fill(0);
    let told = faults(&look(&bytes));
    assert!(
        told.iter().any(|fault| fault.contains("protects the GPT")),
        "{told:?}"
    );
}

#[test]
fn what_is_not_read_is_no_fault() {
    // Inline data: a small file that lies in its inode.
    let folder = tempfile::tempdir().unwrap();
    let (files, volume) = (folder.path().join("files"), folder.path().join("volume"));
    std::fs::create_dir(&files).unwrap();
    std::fs::write(files.join("small"), "a few words\n").unwrap();
    let made = Command::new("/usr/sbin/mke2fs")
        .args([
            "-q",
            "-F",
            "-t",
            "ext4",
            "-O",
            "inline_data,^has_journal",
            "-I",
            "256",
            "-d",
        ])
        .args([&files, &volume])
        .arg("2M")
        .status()
        .expect("mke2fs is missing: install the Debian package e2fsprogs");
    assert!(made.success());
    let volume = std::fs::read(&volume).unwrap();
    let mut image = qcow2_image(&[7; 102_400]);
    // Entries of twice the size.
    image[79] |= 0x10;
    let mut archive = tarball(&root());
    // A sparse file of GNU's.
    archive[156] = b'S';
    archive[148..156].fill(b' ');
    let sum: u32 = archive[..512].iter().map(|&byte| u32::from(byte)).sum();
    archive[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    for (name, bytes) in [("ext4", volume), ("qcow2", image), ("tar", archive)] {
        let report = look(&bytes);
        assert_eq!(faults(&report), Vec::<String>::new(), "{name}");
        assert_eq!(report.part.format, name);
        assert!(report.part.facts.contains_key("not-read"), "{name}");
    }
    // From before the signature of POSIX.
    let mut old = vec![0; 2048];
    old[..4].copy_from_slice(b"file");
    old[100..107].copy_from_slice(b"000644 ");
    old[124..136].copy_from_slice(b"00000000003 ");
    old[148..156].fill(b' ');
    let sum: u32 = old[..512].iter().map(|&byte| u32::from(byte)).sum();
    old[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    old[512..515].copy_from_slice(b"abc");
    let report = look(&old);
    assert_eq!(report.part.format, "tar");
    assert_eq!(report.part.files[0].path, "/file");
    assert_eq!(faults(&report), Vec::<String>::new());
}

#[test]
fn members_below_what_is_no_directory() {
    let members = |names: &[(&str, tar::Item<'_>)]| {
        let mut writer = tar::Writer::new(Vec::new());
        for (path, item) in names {
            writer
                .member(path.as_bytes(), &Metadata::new(0o755, TIME), *item)
                .unwrap();
        }
        writer.finish().unwrap().0
    };
    let (link, file) = (
        Node::Symlink(b"usr/bin".to_vec()),
        Node::Regular(b"x".to_vec().into()),
    );
    let (link, file, folder) = (
        tar::Item::Node(&link),
        tar::Item::Node(&file),
        tar::Item::Directory,
    );
    for (names, wanted) in [
        (
            &[
                ("bin", link),
                ("bin-too", file),
                ("bin/.wh.sh", file),
                ("bin/a", folder),
                ("bin/a/b", file),
            ][..],
            &[
                "/bin/.wh.sh: it lies below /bin",
                "/bin/a: it",
                "/bin/a/b: it lies below /bin,",
            ][..],
        ),
        (&[("a", file), ("a/b/c", file)], &["/a/b/c: it lies below /a,"]),
        // What takes the place of the directory comes later, or goes before.
        (&[("a", folder), ("a/b", file), ("a", link)], &[]),
        (&[("a", link), ("a", folder), ("a/b", file)], &[]),
        (&[("a/b", file), ("a.b", file), ("ab", file), ("a", folder)], &[]),
    ] {
        let told = faults(&look(&members(names)));
        assert_eq!(told.len(), wanted.len(), "{told:?}");
        for wanted in wanted {
            assert!(
                told.iter().any(|fault| fault.contains(wanted)),
                "{wanted}: {told:?}"
            );
        }
    }
}

#[test]
fn blobs_of_a_container_image() {
    let image = container(&root());
    let blob = |what: &[u8]| find(&image, what);
    flips(
        "a container image",
        &image,
        &[
            (blob(b"welcome\n"), 1, "its SHA-256 is"),
            (blob(b"amd64"), 1, "its SHA-256 is"),
            (blob(b"\"layers\":["), 1, "its SHA-256 is"),
            (
                blob(b"{\"manifests\"") + 33,
                1,
                "is named, but is not in the archive",
            ),
            (blob(b"imageLayoutVersion"), 1, "oci-layout"),
            (blob(b"1.0.0\"}"), 2, "oci-layout"),
        ],
    );
}

#[test]
fn an_index_in_an_index_of_a_container_image() {
    let report = look(&container_of(&[tarball(&root())], true));
    assert_eq!(faults(&report), Vec::<String>::new());
    let places: Vec<&str> = report.part.parts.iter().map(|part| part.place.as_str()).collect();
    assert_eq!(places.len(), 2, "{places:?}");
    assert_eq!(places[0], "image latest linux/amd64");
    assert!(places[1].starts_with("image sha256:"), "{places:?}");
    assert!(
        root_part(&report)
            .files
            .iter()
            .any(|item| item.path == "/etc/motd")
    );
    let unread = |part: &lycia_inspect::Part| part.facts["not-read"].to_string();
    let said = unread(&report.part);
    assert!(
        said.contains("latest linux/arm64") && said.contains("not in the archive"),
        "{said}"
    );
    let said = unread(&report.part.parts[1]);
    assert!(said.contains("layer 1: application/vnd.in-toto+json"), "{said}");
}

#[test]
fn what_takes_the_place_of_a_directory_in_a_layer_takes_away_what_lay_in_it() {
    let folder = |tree: &mut Tree, path: &str| {
        put(
            tree,
            &format!("{path}/x"),
            0o644,
            Node::Regular(b"1".to_vec().into()),
        );
    };
    let mut below = root();
    folder(&mut below, "/d");
    folder(&mut below, "/d/deep");
    folder(&mut below, "/d-more");
    let mut above = Tree::new(Metadata::new(0o755, TIME));
    put(
        &mut above,
        "/d",
        0o644,
        Node::Regular(b"a file now".to_vec().into()),
    );
    put(
        &mut above,
        "/usr/lib/apk/db",
        0o777,
        Node::Symlink(b"elsewhere".to_vec()),
    );
    let report = look(&container_of(&[tarball(&below), tarball(&above)], false));
    assert_eq!(faults(&report), Vec::<String>::new());
    let part = root_part(&report);
    let there: Vec<&str> = part.files.iter().map(|item| item.path.as_str()).collect();
    for (path, stays) in [
        ("/d", true),
        ("/d/x", false),
        ("/d/deep/x", false),
        ("/d-more/x", true),
        ("/usr/lib/apk/db", true),
        ("/usr/lib/apk/db/installed", false),
        ("/etc/motd", true),
    ] {
        assert_eq!(there.contains(&path), stays, "{path}: {there:?}");
    }
    // Its package database went with the directory.
    assert!(
        part.system
            .as_ref()
            .is_none_or(|system| system.packages.is_empty())
    );
}

#[test]
fn what_is_not_read_of_a_layer_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let holes = std::fs::File::create(folder.path().join("holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"end", (1 << 20) - 3).unwrap();
    std::fs::write(folder.path().join("after"), "text\n").unwrap();
    for format in ["gnu", "pax"] {
        let (done, said) = run(
            folder.path(),
            "tar",
            "tar",
            &["--sparse", "--format", format, "-cf", "a.tar", "holes", "after"],
        );
        assert!(done, "{said}");
        let sparse = std::fs::read(folder.path().join("a.tar")).unwrap();
        let report = look(&sparse);
        assert_eq!(faults(&report), Vec::<String>::new(), "{format}");
        assert_eq!(report.part.files, Vec::new(), "{format}");
        assert!(report.part.facts.contains_key("not-read"), "{format}");
        let report = look(&container_of(&[tarball(&root()), sparse], false));
        assert_eq!(faults(&report), Vec::<String>::new(), "{format}");
        let said = root_part(&report).facts["not-read"].to_string();
        assert!(said.contains("layer 2, from byte 0 on"), "{format}: {said}");
    }
}

#[test]
fn the_manifest_of_a_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("box-x86_64.img");
    std::fs::write(&path, ext4_volume(&root())).unwrap();
    let report = inspect(&path, &Limits::default()).unwrap();
    let files = &root_part(&report).files;
    let manifest =
        serde_json::json!({"packages": [{"name": "tool", "version": "1.2-r3"}], "files": files}).to_string();
    let beside = folder.path().join("box-x86_64.disk.manifest.json");
    std::fs::write(&beside, &manifest).unwrap();
    let report = inspect(&path, &Limits::default()).unwrap();
    assert_eq!(faults(&report), Vec::<String>::new());
    assert_eq!(report.beside, ["box-x86_64.disk.manifest.json"]);
    for (what, wanted) in [
        (look_sha(b"welcome\n"), "/etc/motd: its content is not that of"),
        ("\"target\":\"tool".to_owned(), "its target is not that of"),
        ("1.2-r3".to_owned(), "is installed as"),
        ("/dev/null".to_owned(), "/dev/null is not in"),
    ] {
        let at = manifest.find(&what).unwrap() + what.len() - 1;
        let mut bytes = manifest.clone().into_bytes();
        bytes[at] ^= 1;
        std::fs::write(&beside, bytes).unwrap();
        let told = faults(&inspect(&path, &Limits::default()).unwrap());
        assert!(
            told.iter().any(|fault| fault.contains(wanted)),
            "{what}: {told:?}"
        );
    }
}

#[test]
fn reference_counts_of_qcow2() {
    let image = qcow2_image(&ext4_volume(&root()));
    let long = |at: usize| u64::from_be_bytes(image[at..at + 8].try_into().unwrap()) as usize;
    let block = long(long(48));
    let folder = tempfile::tempdir().unwrap();
    for cluster in [0, 1, 3] {
        let at = block + 2 * cluster + 1;
        flips("qcow2", &image, &[(at, 2, "its reference count says 3")]);
        flips("qcow2", &image, &[(at, 1, "its reference count says 0")]);
        // QEMU says so, too.
        let mut bytes = image.clone();
        bytes[at] ^= 1;
        std::fs::write(folder.path().join("a.qcow2"), bytes).unwrap();
        let (whole, said) = run(
            folder.path(),
            "qemu-utils",
            "qemu-img",
            &["check", "-f", "qcow2", "a.qcow2"],
        );
        assert!(!whole, "cluster {cluster}: {said}");
    }
    // Counts of every width that QEMU writes.
    std::fs::write(folder.path().join("a.ext4"), ext4_volume(&root())).unwrap();
    for width in ["1", "2", "8", "32", "64"] {
        let options = format!("refcount_bits={width},cluster_size=512");
        let arguments = ["convert", "-O", "qcow2", "-o", &options, "a.ext4", "a.qcow2"];
        let (done, said) = run(folder.path(), "qemu-utils", "qemu-img", &arguments);
        assert!(done, "{said}");
        let report = inspect(&folder.path().join("a.qcow2"), &Limits::default()).unwrap();
        assert_eq!(faults(&report), Vec::<String>::new(), "{width} bits");
    }
}

#[test]
fn bitmaps_of_ext4() {
    let folder = tempfile::tempdir().unwrap();
    let debugfs = |command: &str| {
        std::fs::write(folder.path().join("a.ext4"), ext4_volume(&root())).unwrap();
        let (done, said) = run(
            folder.path(),
            "e2fsprogs",
            "debugfs",
            &["-w", "-R", command, "a.ext4"],
        );
        assert!(done, "{command}: {said}");
        let report = inspect(&folder.path().join("a.ext4"), &Limits::default()).unwrap();
        (said, faults(&report))
    };
    let (said, told) = debugfs("blocks /usr/bin/tool");
    assert_eq!(told, Vec::<String>::new());
    let block = said
        .split_whitespace()
        .rfind(|word| word.parse::<u64>().is_ok())
        .unwrap()
        .to_owned();
    // The checksums of the bitmaps are made anew.
    for (command, wanted) in [
        (
            format!("freeb {block}"),
            format!("/usr/bin/tool: block {block} is free in the block bitmap"),
        ),
        (
            "freei /etc/motd".to_owned(),
            "is free in the inode bitmap".to_owned(),
        ),
        (
            "seti <60>".to_owned(),
            "inode 60 is in use in the inode bitmap, but has no name".to_owned(),
        ),
    ] {
        let (_, told) = debugfs(&command);
        assert!(
            told.iter().any(|fault| fault.contains(&wanted)),
            "{command}: {told:?}"
        );
        assert!(
            !told.iter().any(|fault| fault.contains("checksum")),
            "{command}: {told:?}"
        );
    }
}

#[test]
fn volumes_of_mke2fs_are_whole() {
    let folder = tempfile::tempdir().unwrap();
    let files = folder.path().join("root/many");
    std::fs::create_dir_all(&files).unwrap();
    for number in 0..200 {
        std::fs::write(files.join(format!("{number}")), vec![b'x'; number * 100]).unwrap();
    }
    // Bitmaps that were never written, bits that stand for clusters, inodes without names.
    for (size, options) in [
        ("40M", &["-t", "ext2", "-b", "1024"][..]),
        ("64M", &["-t", "ext3"]),
        ("300M", &["-t", "ext4", "-O", "^flex_bg,^metadata_csum,uninit_bg"]),
        ("100M", &["-t", "ext4", "-O", "bigalloc"]),
        ("100M", &["-t", "ext4", "-O", "quota,orphan_file,mmp"]),
        ("300M", &["-t", "ext4", "-O", "meta_bg,^resize_inode"]),
    ] {
        let path = folder.path().join("a.img");
        let _ = std::fs::remove_file(&path);
        let arguments = [&["-q", "-d", "root"], options, &["a.img", size]].concat();
        let (done, said) = run(folder.path(), "e2fsprogs", "mke2fs", &arguments);
        assert!(done, "{options:?}: {said}");
        let report = inspect(&path, &Limits::default()).unwrap();
        assert_eq!(faults(&report), Vec::<String>::new(), "{options:?}");
        assert!(report.part.files.iter().any(|item| item.path == "/many/199"));
    }
}
