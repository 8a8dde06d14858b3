//! ISO images, judged by our own reader, xorriso, libarchive, blkid, sgdisk and sfdisk.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::path::Path;

use lycia_media::iso9660::{
    Bios, Boot, Efi, EntryKind, Hybrid, Image, InspectError, Limits, Platform, VolumeTime, inspect,
};
use lycia_media::partition::Guid;
use lycia_media::partition::gpt::{Copy, Table};
use lycia_media::{fat, iso9660};
use lycia_tree::{Content, Metadata, Node, Pack, Timestamp, Tree};
use oracle::{TIME, compare_directory, everything, everything_for_users, put, root_owned, run};
use proptest::prelude::*;

fn image(files: &Tree) -> Image<'_> {
    Image {
        volume_id: "LYCIA_TEST",
        system_id: "LINUX",
        volume_set_id: "SET",
        publisher: "THE PUBLISHER",
        preparer: "THE PREPARER",
        application: "LYCIA",
        time: Timestamp::from_seconds(TIME),
        uuid: VolumeTime::distinct(Timestamp::from_seconds(TIME), 123_456).unwrap(),
        joliet: true,
        files,
        boot: Boot::default(),
    }
}

fn bytes(image: &Image<'_>) -> Vec<u8> {
    let layout = image.plan().unwrap();
    let mut bytes = Vec::new();
    let mut last = 0;
    layout
        .write(&mut bytes, &mut |position| {
            assert!(position >= last);
            last = position;
        })
        .unwrap();
    assert_eq!(bytes.len() as u64, layout.size());
    bytes
}

fn on_file(bytes: &[u8], job: impl FnOnce(&str, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.iso");
    std::fs::write(&path, bytes).unwrap();
    job(path.to_str().unwrap(), directory.path());
}

/// Names that collide without Rock Ridge, directories over several blocks, deep directories, links that take
/// several entries and blocks.
fn difficult(mut tree: Tree) -> Tree {
    let file = |text: &str| Node::Regular(Content::from(text));
    for number in 0..400 {
        let path = format!("/many/the-same-beginning-of-a-longer-name-{number:04}.conf");
        put(&mut tree, &path, root_owned(0o644), file(&path));
    }
    for name in [
        "Makefile",
        "makefile",
        "MAKEFILE",
        "makefile.",
        "a.b.c",
        ".hidden",
        "-",
    ] {
        put(&mut tree, &format!("/case/{name}"), root_owned(0o644), file(name));
    }
    let mut deep = String::new();
    for level in 1..30 {
        deep.push_str(&format!("/level-{level}"));
        put(&mut tree, &format!("{deep}/file"), root_owned(0o600), file(&deep));
        put(
            &mut tree,
            &format!("{deep}/side/file"),
            root_owned(0o640),
            file("side"),
        );
    }
    for len in [1, 100, 246, 247, 248, 249, 250, 251, 252, 253, 254, 255] {
        put(
            &mut tree,
            &format!("/names/{}", "x".repeat(len)),
            root_owned(0o644),
            file("x"),
        );
        let target = format!("{}/{}", "t".repeat(len), "u".repeat(255 - len.min(254)));
        put(
            &mut tree,
            &format!("/links/{len}"),
            root_owned(0o777),
            Node::Symlink(target.into_bytes()),
        );
    }
    let mut target = b"/".to_vec();
    while target.len() < 4000 {
        target.extend_from_slice(b"component/../");
    }
    target.extend_from_slice(b"end");
    put(
        &mut tree,
        &format!("/links/{}", "l".repeat(255)),
        root_owned(0o777),
        Node::Symlink(target),
    );
    tree
}

/// Our reader finds what is in the tree.
fn assert_reads_back(tree: &Tree, bytes: &[u8]) {
    let volume = inspect(bytes, &Limits::default()).unwrap();
    assert!(volume.rock_ridge);
    let mut found = volume.entries.iter();
    let mut serials = std::collections::HashMap::new();
    for entry in tree.walk() {
        let name = lycia_tree::display(&entry.path);
        let read = found.next().unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(lycia_tree::display(&read.path), name);
        let metadata = &entry.inode.metadata;
        assert_eq!(
            (read.mode, read.uid, read.gid),
            (metadata.mode, metadata.uid, metadata.gid),
            "{name}"
        );
        assert_eq!(
            read.mtime,
            Timestamp::from_seconds(metadata.mtime.seconds),
            "{name}"
        );
        assert_eq!(
            *serials.entry(entry.id).or_insert(read.serial),
            read.serial,
            "{name}"
        );
        match (&read.kind, entry.inode.node()) {
            (EntryKind::Directory, None) => continue,
            (EntryKind::Regular(_), Some(Node::Regular(content))) => {
                assert_eq!(read.len(), content.len());
                assert!(
                    read.content(bytes).collect::<Vec<_>>().concat() == content.bytes(),
                    "{name}"
                );
            }
            (EntryKind::Symlink(a), Some(Node::Symlink(b))) => {
                assert_eq!(lycia_tree::display(a), lycia_tree::display(b));
            }
            (EntryKind::CharDevice(a), Some(Node::CharDevice(b))) => assert_eq!(a, b),
            (EntryKind::BlockDevice(a), Some(Node::BlockDevice(b))) => assert_eq!(a, b),
            (EntryKind::Fifo, Some(Node::Fifo)) | (EntryKind::Socket, Some(Node::Socket)) => {}
            (read, written) => panic!("{name}: {read:?} {written:?}"),
        }
        assert_eq!(read.links, entry.inode.names(), "{name}");
    }
    assert_eq!(found.next(), None);
}

#[test]
fn reads_back_as_it_was() {
    let tree = difficult(everything());
    let bytes = bytes(&image(&tree));
    assert_reads_back(&tree, &bytes);
    let volume = inspect(&bytes, &Limits::default()).unwrap();
    assert_eq!(volume.volume_id, "LYCIA_TEST");
    assert_eq!(volume.publisher, "THE PUBLISHER");
    assert_eq!(volume.created, VolumeTime::new(Timestamp::from_seconds(TIME)));
    assert_eq!(volume.uuid().unwrap(), image(&tree).uuid.to_string());
    assert!(volume.joliet);
    assert!(volume.boot.is_empty());
}

#[test]
fn an_empty_tree_is_an_image() {
    let tree = Tree::new(root_owned(0o755));
    assert_reads_back(&tree, &bytes(&image(&tree)));
}

#[test]
fn libarchive_unpacks_it() {
    let mut tree = difficult(everything_for_users());
    // libarchive loses its way when directories moved from moved ones are in their turn moved.
    let below: String = (1..13).map(|level| format!("/level-{level}")).collect();
    tree.remove_all(below.as_bytes()).unwrap();
    on_file(&bytes(&image(&tree)), |path, directory| {
        let out = directory.join("out");
        std::fs::create_dir(&out).unwrap();
        let arguments = [
            "-x",
            "-p",
            "--no-same-owner",
            "-f",
            path,
            "-C",
            out.to_str().unwrap(),
        ];
        run("libarchive-tools", "bsdtar", &arguments, b"");
        compare_directory(&tree, &out, true);
    });
}

/// xorriso stops at links of more than 1024 bytes.
fn without_long_links(mut tree: Tree) -> Tree {
    for path in [b"/far".to_vec(), [b"/links/".to_vec(), vec![b'l'; 255]].concat()] {
        let _ = tree.remove(&path);
    }
    tree
}

#[test]
fn xorriso_unpacks_it() {
    let tree = without_long_links(difficult(everything_for_users()));
    on_file(&bytes(&image(&tree)), |path, directory| {
        let out = directory.join("out");
        let arguments = [
            "-abort_on",
            "WARNING",
            "-hardlinks",
            "on",
            "-osirrox",
            "on",
            "-indev",
            path,
            "-extract",
            "/",
            out.to_str().unwrap(),
        ];
        run("xorriso", "xorriso", &arguments, b"");
        // xorriso leaves the directory from where deep ones were moved back.
        std::fs::remove_dir(out.join("rr_moved")).unwrap();
        compare_directory(&tree, &out, false);
        // The root's own permissions may keep others from removing what was unpacked.
        run("coreutils", "chmod", &["-R", "u+rwX", out.to_str().unwrap()], b"");
    });
}

#[test]
fn xorriso_sees_owners_and_devices() {
    let tree = without_long_links(everything());
    on_file(&bytes(&image(&tree)), |path, _| {
        let listing = run(
            "xorriso",
            "xorriso",
            &[
                "-abort_on",
                "WARNING",
                "-indev",
                path,
                "-find",
                "/",
                "-exec",
                "lsdl",
                "--",
            ],
            b"",
        );
        for expected in [
            "-rw-r-----    1 100000   65537       16000 Sep 13  2020 '/home/user/notes'",
            "-rwsr-xr-x    1 0        0              10 Sep 13  2020 '/bin/tool'",
            "crw-rw-rw-    1 0        0             1,3 Sep 13  2020 '/dev/null'",
            "brw-rw----    1 0        6",
            "prw-------    1 0        0               0 Sep 13  2020 '/run/pipe'",
            "drwxrwxrwt    1 0        0               0 Sep 13  2020 '/tmp'",
            "'/abs' -> '/usr/./lib/../lib/x'",
        ] {
            assert!(listing.contains(expected), "{expected}\n{listing}");
        }
    });
}

/// What libarchive lists without Rock Ridge.
fn listing(path: &str, options: &str) -> Vec<String> {
    let listing = run(
        "libarchive-tools",
        "bsdtar",
        &["-tf", path, "--options", options],
        b"",
    );
    listing.lines().map(str::to_owned).collect()
}

#[test]
fn joliet_shows_files_with_long_names() {
    let tree = difficult(everything());
    let deep: String = (1..30).map(|level| format!("/level-{level}")).collect();
    on_file(&bytes(&image(&tree)), |path, _| {
        let lines = listing(path, "iso9660:!rockridge");
        for expected in [
            "case/MAKEFILE",
            "case/Makefile~0",
            "case/makefile~1",
            "case/makefile.",
            "case/.hidden",
            "many/the-same-beginning-of-a-longer-name-0399.conf",
            "home/user/\u{fc}n\u{ef}_",
            &format!("{}/file", &deep[1..]),
        ] {
            assert!(
                lines.iter().any(|line| line == expected),
                "{expected}\n{lines:#?}"
            );
        }
        assert!(!lines.iter().any(|line| line == "abs"), "links are not in Joliet");
        let arguments = [
            "-xOf",
            path,
            "--options",
            "iso9660:!rockridge",
            &format!("{}/file", &deep[1..]),
        ];
        assert_eq!(run("libarchive-tools", "bsdtar", &arguments, b""), deep);
    });
}

#[test]
fn plain_iso_9660_has_names_of_its_own() {
    let tree = difficult(everything());
    on_file(&bytes(&image(&tree)), |path, _| {
        let mut names = listing(path, "iso9660:!rockridge,!joliet");
        names.retain(|name| name.starts_with("CASE/") && name.len() > 5);
        names.sort();
        assert_eq!(
            names,
            [
                "CASE/A_B.C",
                "CASE/MAKEFILE",
                "CASE/MAKEFILE000",
                "CASE/MAKEFILE001",
                "CASE/MAKEFILE002",
                "CASE/_",
                "CASE/_HIDDEN",
            ]
        );
    });
}

#[test]
fn blkid_gives_label_and_uuid() {
    let tree = everything();
    let mut image = image(&tree);
    image.uuid = "2026-11-22-01-02-03-99".parse().unwrap();
    image.volume_id = "Lycia live 1.0-rc";
    for joliet in [false, true] {
        image.joliet = joliet;
        on_file(&bytes(&image), |path, _| {
            let found = run("util-linux", "blkid", &["-p", "-o", "export", path], b"");
            for expected in [
                "LABEL=Lycia\\ live\\ 1.0-rc",
                "UUID=2026-11-22-01-02-03-99",
                "TYPE=iso9660",
            ] {
                assert!(found.contains(expected), "{found}");
            }
        });
    }
}

fn esp() -> Vec<u8> {
    let mut tree = Tree::new(root_owned(0o755));
    put(
        &mut tree,
        "/EFI/BOOT/BOOTX64.EFI",
        root_owned(0o644),
        Node::Regular(Content::from("loader")),
    );
    let volume = fat::Volume {
        label: Some("ESP".to_owned()),
        serial: 1,
        time: Timestamp::from_seconds(TIME),
        width: None,
        size: fat::fitting_size(&tree, None, 512, 0),
    };
    fat::image(&tree, &volume).unwrap()
}

fn hybrid() -> Hybrid {
    Hybrid {
        code: Some([0x90; 440]),
        signature: 0,
        disk: Guid::derive(b"test", "disk"),
        image_partition: Guid::derive(b"test", "image"),
        esp_partition: Guid::derive(b"test", "esp"),
    }
}

const ELTORITO: &str = "/boot/grub/i386-pc/eltorito.img";

fn bootable_tree() -> Tree {
    let mut tree = without_long_links(everything());
    let core: Vec<u8> = (0..50_001u32).map(|at| ((at * 31) >> 3) as u8).collect();
    put(
        &mut tree,
        ELTORITO,
        root_owned(0o644),
        Node::Regular(Content::from(core)),
    );
    tree
}

fn all_boot() -> Boot {
    Boot {
        bios: Some(Bios {
            image: ELTORITO.as_bytes().to_vec(),
        }),
        efi: Some(Efi {
            esp: Content::from(esp()),
        }),
        hybrid: Some(hybrid()),
    }
}

#[test]
fn xorriso_finds_everything_to_boot_from() {
    let tree = bootable_tree();
    let mut image = image(&tree);
    image.boot = all_boot();
    let bytes = bytes(&image);
    on_file(&bytes, |path, _| {
        let report = run(
            "xorriso",
            "xorriso",
            &[
                "-abort_on",
                "WARNING",
                "-indev",
                path,
                "-report_el_torito",
                "plain",
                "-report_system_area",
                "plain",
            ],
            b"",
        );
        let esp_block = image.plan().unwrap().esp_block().unwrap();
        for expected in [
            "El Torito boot img :   1  BIOS  y   none  0x0000  0x00      4",
            "El Torito boot img :   2  UEFI  y   none  0x0000  0x00   2048",
            "El Torito img path :   1  /boot/grub/i386-pc/eltorito.img",
            "El Torito img opts :   1  boot-info-table grub2-boot-info",
            "System area summary: MBR protective-msdos-label grub2-mbr cyl-align-off GPT",
            &format!("GPT start and size :   2  {}  2048", esp_block * 4),
            "GPT type GUID      :   2  28732ac11ff8d211ba4b00a0c93ec93b",
        ] {
            assert!(report.contains(expected), "{expected}\n{report}");
        }
    });
    let volume = inspect(&bytes, &Limits::default()).unwrap();
    assert_eq!(volume.boot.len(), 2);
    assert_eq!(volume.boot[0].platform, Platform::Bios);
    assert_eq!(volume.boot[1].platform, Platform::Efi);
    let start = volume.boot[1].block as usize * 2048;
    assert!(bytes[start..].starts_with(&esp()));
    let EntryKind::Regular(extents) = &volume.entry(ELTORITO.as_bytes()).unwrap().kind else {
        panic!("no file");
    };
    assert_eq!(extents[0].block, volume.boot[0].block);
}

#[test]
fn the_partition_table_is_whole() {
    let tree = bootable_tree();
    let mut image = image(&tree);
    for (bios, efi) in [(true, true), (false, true), (true, false)] {
        image.boot = all_boot();
        if !bios {
            image.boot.bios = None;
            image.boot.hybrid.as_mut().unwrap().code = None;
        }
        if !efi {
            image.boot.efi = None;
        }
        let bytes = bytes(&image);
        let mut disk = std::io::Cursor::new(&bytes);
        let (table, copy) = Table::read(&mut disk, 512).unwrap();
        assert_eq!(copy, Copy::Primary);
        assert_eq!(table.partitions.len(), 1 + usize::from(efi));
        assert_eq!(table.sectors * 512, bytes.len() as u64);
        let mut damaged = bytes.clone();
        damaged[600] ^= 1;
        let from_backup = Table::read(&mut std::io::Cursor::new(&damaged), 512).unwrap();
        assert_eq!(from_backup, (table, Copy::Backup));
        on_file(&bytes, |path, _| {
            let verdict = run("gdisk", "sgdisk", &["-v", path], b"");
            assert!(verdict.contains("No problems found"), "{verdict}");
            run("fdisk", "sfdisk", &["-V", "-q", path], b"");
            let found = run("util-linux", "blkid", &["-p", "-o", "export", path], b"");
            for expected in ["TYPE=iso9660", "PTTYPE=gpt", "LABEL=LYCIA_TEST"] {
                assert!(found.contains(expected), "{found}");
            }
        });
    }
}

#[test]
fn the_esp_in_the_image_is_whole() {
    let tree = bootable_tree();
    let mut image = image(&tree);
    image.boot = all_boot();
    let offset = u64::from(image.plan().unwrap().esp_block().unwrap()) * 2048;
    on_file(&bytes(&image), |path, _| {
        let place = format!("{path}@@{offset}");
        let listing = run("mtools", "mdir", &["-b", "-i", &place, "::/EFI/BOOT"], b"");
        assert!(listing.contains("BOOTX64.EFI"), "{listing}");
    });
}

#[test]
fn same_input_same_bytes() {
    let tree = difficult(bootable_tree());
    let mut image = image(&tree);
    image.boot = all_boot();
    let first = bytes(&image);
    assert!(bytes(&image) == first);
    image.uuid = VolumeTime::distinct(Timestamp::from_seconds(TIME), 7).unwrap();
    let other = bytes(&image);
    let changed: Vec<usize> = (0..first.len()).filter(|&at| first[at] != other[at]).collect();
    assert!(!changed.is_empty());
    // The two volume descriptors alone.
    assert!(changed.iter().all(|&at| (830..847).contains(&(at % 2048))));
}

/// A pack of which most is a hole, so that it takes no room.
fn large_content(len: u64) -> (tempfile::TempDir, Content) {
    use std::os::unix::fs::FileExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("large");
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(len).unwrap();
    for at in [0, 1 << 30, (4 << 30) - 2048, 4 << 30, len - 16] {
        file.write_all_at(format!("@{at:03x}").as_bytes(), at).unwrap();
    }
    let content = Pack::open(&path, len).unwrap().range(0, len).unwrap();
    (directory, content)
}

/// Writes all but blocks of zeros.
struct Sparse(std::fs::File, u64);

impl std::io::Write for Sparse {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        use std::os::unix::fs::FileExt;
        for chunk in bytes.chunks(1 << 20) {
            if chunk != &[0; 1 << 20][..chunk.len()] {
                self.0.write_all_at(chunk, self.1)?;
            }
            self.1 += chunk.len() as u64;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.0.set_len(self.1)
    }
}

#[test]
fn files_over_4_gib_have_several_extents() {
    let len = (4 << 30) + 123_457;
    let (directory, content) = large_content(len);
    let mut tree = Tree::new(root_owned(0o755));
    put(
        &mut tree,
        "/live/filesystem.squashfs",
        root_owned(0o644),
        Node::Regular(content),
    );
    put(
        &mut tree,
        "/live/next",
        root_owned(0o644),
        Node::Regular(Content::from("next")),
    );
    let mut image = image(&tree);
    image.boot.efi = Some(Efi {
        esp: Content::from(esp()),
    });
    image.boot.hybrid = Some(Hybrid {
        code: None,
        ..hybrid()
    });
    let path = directory.path().join("image.iso");
    let layout = image.plan().unwrap();
    layout
        .write(Sparse(std::fs::File::create(&path).unwrap(), 0), &mut |_| ())
        .unwrap();
    let pack = Pack::open(&path, layout.size()).unwrap();
    let volume = inspect(pack.bytes(), &Limits::default()).unwrap();
    let entry = volume.entry(b"/live/filesystem.squashfs").unwrap();
    let EntryKind::Regular(extents) = &entry.kind else {
        panic!("no file");
    };
    assert_eq!(extents.len(), 2);
    assert_eq!(extents[0].len, 0xffff_f800);
    assert_eq!(entry.len(), len);
    // The extents follow each other, so that the content is one range.
    assert_eq!(extents[1].offset(), extents[0].offset() + 0xffff_f800);
    let start = extents[0].offset() as usize;
    for at in [0, 1 << 30, (4 << 30) - 2048, 4 << 30, len as usize - 16] {
        let mark = format!("@{at:03x}");
        assert_eq!(&pack.bytes()[start + at..][..mark.len()], mark.as_bytes());
    }
    let path = path.to_str().unwrap();
    let listing = run(
        "xorriso",
        "xorriso",
        &[
            "-abort_on",
            "WARNING",
            "-indev",
            path,
            "-find",
            "/live",
            "-exec",
            "report_lba",
            "--",
        ],
        b"",
    );
    assert!(
        listing.contains(&format!(" 2097151 , {len} , '/live/filesystem.squashfs'")),
        "{listing}"
    );
    let tar = run("libarchive-tools", "bsdtar", &["-tvf", path], b"");
    assert!(
        tar.contains(&format!("{len} Sep 13  2020 live/filesystem.squashfs")),
        "{tar}"
    );
    assert!(run("gdisk", "sgdisk", &["-v", path], b"").contains("No problems found"));
}

#[test]
fn what_does_not_fit_is_refused() {
    let tree = bootable_tree();
    let refusal = |change: &dyn Fn(&mut Image<'_>)| {
        let mut image = image(&tree);
        change(&mut image);
        match image.plan() {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    };
    let long = "x".repeat(129);
    type Change = Box<dyn Fn(&mut Image<'_>)>;
    let cases: Vec<(Change, &str)> = vec![
        (Box::new(|i| i.volume_id = ""), "volume identifier"),
        (
            Box::new(|i| i.volume_id = "x23456789012345678901234567890123"),
            "volume identifier",
        ),
        (Box::new(|i| i.volume_id = "caf\u{e9}"), "printable ASCII"),
        (Box::new(|i| i.volume_id = " a"), "volume identifier"),
        (Box::new(|i| i.boot.hybrid = Some(hybrid())), "there is none"),
        (
            Box::new(|i| {
                i.boot.bios = Some(Bios {
                    image: b"/missing".to_vec(),
                })
            }),
            "El Torito image /missing",
        ),
        (
            Box::new(|i| {
                i.boot.bios = Some(Bios {
                    image: b"/tmp".to_vec(),
                })
            }),
            "not a regular file",
        ),
        (
            Box::new(|i| {
                i.boot.bios = Some(Bios {
                    image: b"/bin/tool".to_vec(),
                })
            }),
            "no image made by grub-mkimage",
        ),
        (
            Box::new(|i| {
                i.boot.efi = Some(Efi {
                    esp: Content::from("x"),
                })
            }),
            "no whole sectors",
        ),
    ];
    for (change, expected) in cases {
        let error = refusal(&*change);
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let mut image = image(&tree);
    image.publisher = &long;
    assert!(image.plan().is_err());

    let mut tree = Tree::new(root_owned(0o755));
    let metadata = Metadata::new(0o644, Timestamp::from_seconds(-3_000_000_000));
    put(&mut tree, "/old", metadata, Node::Fifo);
    let error = self::image(&tree).plan().err().unwrap().to_string();
    assert!(
        error.contains("/old") && error.contains("1900 to 2155"),
        "{error}"
    );

    let mut tree = difficult(Tree::new(root_owned(0o755)));
    put(&mut tree, "/rr_moved", root_owned(0o644), Node::Fifo);
    let error = self::image(&tree).plan().err().unwrap().to_string();
    assert!(error.contains("deeper than 8 levels"), "{error}");
}

#[test]
fn hostile_images_are_refused() {
    let tree = difficult(bootable_tree());
    let mut image = image(&tree);
    image.boot = all_boot();
    let bytes = bytes(&image);
    let reason = |bytes: &[u8]| inspect(bytes, &Limits::default()).unwrap_err().to_string();
    assert!(reason(&[]).contains("volume descriptor in block 16"));
    assert!(reason(&bytes[..bytes.len() - 1]).contains("it is cut"));
    let mut changed = bytes.clone();
    changed[16 * 2048 + 85] ^= 1;
    assert!(reason(&changed).contains("not the same in both"));
    let limits = Limits {
        entries: 10,
        ..Limits::default()
    };
    assert_eq!(
        inspect(&bytes, &limits),
        Err(InspectError::Limit {
            what: "entries",
            limit: 10
        })
    );
    let limits = Limits {
        system_use: 300,
        ..Limits::default()
    };
    assert!(matches!(
        inspect(&bytes, &limits),
        Err(InspectError::Limit { .. })
    ));

    // A directory that holds itself: `/tmp` gets the place of the root.
    let volume_root = &bytes[16 * 2048 + 158..16 * 2048 + 174].to_vec();
    let root_at = u32::from_le_bytes(volume_root[..4].try_into().unwrap()) as usize * 2048;
    let mut at = root_at;
    let mut looped = bytes.clone();
    loop {
        let len = bytes[at] as usize;
        if len == 0 {
            at = at.next_multiple_of(2048);
            assert!(at < root_at + 8192, "no /TMP");
            continue;
        }
        if &bytes[at + 33..at + 36] == b"TMP" {
            looped[at + 2..at + 18].copy_from_slice(volume_root);
            break;
        }
        at += len;
    }
    let error = reason(&looped);
    assert!(error.contains("/tmp: the directory is also at /"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damage_never_panics(flips in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4)) {
        static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let whole = IMAGE.get_or_init(|| {
            let mut tree = everything();
            let mut deep = String::new();
            for level in 1..12 {
                deep.push_str(&format!("/level-{level}"));
            }
            put(&mut tree, &format!("{deep}/file"), root_owned(0o600), Node::Regular(Content::from("x")));
            let mut image = image(&tree);
            image.boot.efi = Some(Efi { esp: Content::from(vec![0; 512]) });
            bytes(&image)
        });
        let mut bytes = whole.clone();
        for (at, bits) in flips {
            let at = 16 * 2048 + at.index(bytes.len() - 16 * 2048);
            bytes[at] ^= bits;
        }
        let limits = Limits { entries: 10_000, ..Limits::default() };
        let _ = inspect(&bytes, &limits);
    }
}

#[test]
fn a_damaged_block_count_is_not_believed() {
    assert_eq!(iso9660::BLOCK, 2048);
    let tree = everything();
    let mut bytes = bytes(&image(&tree));
    let huge = [0xff; 8];
    bytes[16 * 2048 + 80..16 * 2048 + 88].copy_from_slice(&huge);
    assert!(inspect(&bytes, &Limits::default()).is_err());
}
