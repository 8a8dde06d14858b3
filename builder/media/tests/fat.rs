//! FAT volumes, judged by fsck.vfat, mtools, blkid and the crate `fatfs`.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::io::{Cursor, Read};
use std::path::Path;

use lycia_media::fat::{
    FatError, Limits, ReadError, Reader, Volume, Width, fitting_size, image, write, write_sectors,
};
use lycia_tree::{Content, Follow, Node, Timestamp, Tree};
use oracle::{TIME, put, root_owned, run};

fn volume(size: u64, width: Option<Width>) -> Volume {
    Volume {
        label: Some("LYCIA_ESP".to_owned()),
        serial: 0x1234_abcd,
        time: Timestamp::from_seconds(TIME),
        width,
        size,
    }
}

fn esp() -> Tree {
    let mut tree = Tree::new(root_owned(0o755));
    let file = |bytes: Vec<u8>| Node::Regular(Content::from(bytes));
    let loader: Vec<u8> = (0..1_000_003u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    put(
        &mut tree,
        "/EFI/BOOT/BOOTX64.EFI",
        root_owned(0o644),
        file(loader),
    );
    put(
        &mut tree,
        "/EFI/BOOT/grub.cfg",
        root_owned(0o644),
        file(b"set timeout=5\n".to_vec()),
    );
    put(
        &mut tree,
        "/loader/entries/a long name with spaces.conf",
        root_owned(0o644),
        file(vec![b'x'; 70_000]),
    );
    put(
        &mut tree,
        "/loader/entries/a long name with other.conf",
        root_owned(0o644),
        file(Vec::new()),
    );
    put(
        &mut tree,
        "/\u{fc}ml\u{e4}ut.txt",
        root_owned(0o644),
        file(b"u".to_vec()),
    );
    for number in 0..200 {
        put(
            &mut tree,
            &format!("/many/file-number-{number}.txt"),
            root_owned(0o644),
            file(number.to_string().into_bytes()),
        );
    }
    tree.make_directories(b"/empty", root_owned(0o755)).unwrap();
    // A file with several names becomes as many.
    let id = tree.resolve(b"/EFI/BOOT/grub.cfg", Follow::All).unwrap();
    for name in ["/EFI/BOOT/second.cfg", "/other place.cfg"] {
        tree.link(id, name.as_bytes()).unwrap();
    }
    for (depth, name) in [(1, "sub"), (2, "Mixed Case"), (3, "deep")] {
        let path = format!("/deep{}/{name}", "/down".repeat(depth));
        put(
            &mut tree,
            &path,
            root_owned(0o644),
            file(vec![depth as u8; depth * 40_000]),
        );
    }
    tree
}

fn cases() -> Vec<(Tree, Volume)> {
    let tree = esp();
    let mut cases = Vec::new();
    for width in [None, Some(Width::Fat12), Some(Width::Fat16), Some(Width::Fat32)] {
        cases.push((tree.clone(), volume(fitting_size(&tree, width, 512, 0), width)));
    }
    for size in [15 << 20, 16 << 20, 64 << 20, 520 << 20] {
        cases.push((tree.clone(), volume(size, None)));
    }
    cases.push((Tree::new(root_owned(0o755)), volume(40 << 20, Some(Width::Fat32))));
    cases.push((Tree::new(root_owned(0o755)), volume(1 << 20, None)));
    cases
}

fn on_file(bytes: &[u8], job: impl FnOnce(&str, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("esp.img");
    std::fs::write(&path, bytes).unwrap();
    job(path.to_str().unwrap(), directory.path());
}

#[test]
fn a_size_that_fits_is_one_for_every_size_of_sectors() {
    let tree = esp();
    for sector in [512, 4096] {
        for width in [None, Some(Width::Fat12), Some(Width::Fat16), Some(Width::Fat32)] {
            for spare in [0, 10, 13, 14, 15, 16, 20, 40, 60].map(|mebibytes| mebibytes << 20) {
                let volume = volume(fitting_size(&tree, width, sector, spare), width);
                let mut file = tempfile::tempfile().unwrap();
                file.set_len(volume.size).unwrap();
                write_sectors(&mut file, 0, sector, &tree, &volume)
                    .unwrap_or_else(|error| panic!("{width:?}, {sector}, {spare}: {error}"));
            }
        }
    }
}

#[test]
fn fsck_finds_nothing_and_mcopy_gets_everything() {
    for (tree, volume) in cases() {
        on_file(&image(&tree, &volume).unwrap(), |path, directory| {
            let verdict = run("dosfstools", "fsck.vfat", &["-n", "-v", path], b"");
            if let Some(width) = volume.width {
                let bits = match width {
                    Width::Fat12 => "12",
                    Width::Fat16 => "16",
                    Width::Fat32 => "32",
                };
                assert!(verdict.contains(&format!("{bits} bit entries")), "{verdict}");
            }
            let out = directory.join("out");
            std::fs::create_dir(&out).unwrap();
            let arguments = ["-s", "-n", "-i", path, "::/", out.to_str().unwrap()];
            run("mtools", "mcopy", &arguments, b"");
            for entry in tree.walk().skip(1) {
                let name = out.join(std::str::from_utf8(entry.relative()).unwrap());
                match entry.inode.content() {
                    Some(content) => {
                        assert!(
                            std::fs::read(&name).unwrap() == content.bytes(),
                            "{}",
                            name.display()
                        );
                    }
                    None => assert!(name.is_dir()),
                }
            }
        });
    }
}

#[test]
fn the_identity_is_as_given() {
    let tree = esp();
    on_file(&image(&tree, &volume(8 << 20, None)).unwrap(), |path, _| {
        let found = run("util-linux", "blkid", &["-p", "-o", "export", path], b"");
        for expected in ["LABEL=LYCIA_ESP", "UUID=1234-ABCD", "TYPE=vfat"] {
            assert!(found.contains(expected), "{found}");
        }
        let listing = run("mtools", "mdir", &["-i", path, "::/EFI/BOOT"], b"");
        assert!(listing.contains("2020-09-13  12:26"), "{listing}");
    });
}

#[test]
fn the_crate_fatfs_reads_it() {
    for (tree, volume) in cases() {
        let bytes = image(&tree, &volume).unwrap();
        let fs = fatfs::FileSystem::new(Cursor::new(bytes), fatfs::FsOptions::new()).unwrap();
        assert_eq!(fs.volume_id(), volume.serial);
        for entry in tree.walk().skip(1) {
            let path = std::str::from_utf8(entry.relative()).unwrap();
            let root = fs.root_dir();
            match entry.inode.content() {
                Some(content) => {
                    let mut read = Vec::new();
                    root.open_file(path).unwrap().read_to_end(&mut read).unwrap();
                    assert!(read == content.bytes(), "{path}");
                }
                None => drop(root.open_dir(path).unwrap()),
            }
        }
    }
}

#[test]
fn a_used_partition_gets_the_same_volume() {
    let (tree, volume) = (esp(), volume(8 << 20, None));
    let offset = 1 << 20;
    let mut disk = Cursor::new(vec![0xa5; 16 << 20]);
    write(&mut disk, offset, &tree, &volume).unwrap();
    let disk = disk.into_inner();
    assert!(disk[..offset as usize].iter().all(|&byte| byte == 0xa5));
    assert!(
        disk[(offset + volume.size) as usize..]
            .iter()
            .all(|&byte| byte == 0xa5)
    );
    on_file(
        &disk[offset as usize..(offset + volume.size) as usize],
        |path, directory| {
            run("dosfstools", "fsck.vfat", &["-n", path], b"");
            let out = directory.join("out.efi");
            run(
                "mtools",
                "mcopy",
                &["-i", path, "::/EFI/BOOT/BOOTX64.EFI", out.to_str().unwrap()],
                b"",
            );
            assert!(std::fs::read(out).unwrap() == tree.read(b"/EFI/BOOT/BOOTX64.EFI").unwrap());
        },
    );
}

#[test]
fn same_input_same_bytes() {
    for (tree, volume) in cases() {
        assert!(image(&tree, &volume).unwrap() == image(&tree, &volume).unwrap());
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refusal = |path: &str, node: Node| {
        let mut tree = esp();
        put(&mut tree, path, root_owned(0o644), node);
        image(&tree, &volume(8 << 20, None)).unwrap_err().to_string()
    };
    let empty = || Node::Regular(Content::empty());
    for (error, expected) in [
        (
            refusal("/link", Node::Symlink(b"x".to_vec())),
            "files and directories only",
        ),
        (refusal("/EFI/BOOT/GRUB.CFG", empty()), "only by case"),
        (refusal("/a:b", empty()), "no such names"),
        (refusal("/dot.", empty()), "no such names"),
        (
            refusal("/big", Node::Regular(Content::from(vec![1u8; 9 << 20]))),
            "8388608 bytes",
        ),
    ] {
        assert!(error.contains(expected), "{expected}: {error}");
    }
    let mut tree = esp();
    tree.insert(b"/\xff", root_owned(0o644), empty()).unwrap();
    assert!(matches!(
        image(&tree, &volume(8 << 20, None)),
        Err(FatError::Entry { .. })
    ));
    for label in ["", "TWELVE CHARS", "a/b", "\u{fc}"] {
        let volume = Volume {
            label: Some(label.to_owned()),
            ..volume(8 << 20, None)
        };
        assert!(matches!(image(&esp(), &volume), Err(FatError::Label { .. })));
    }
    assert!(matches!(
        image(&esp(), &volume(1000, None)),
        Err(FatError::Size(1000))
    ));
    // Known before anything is written, and no fault of the disk.
    assert!(matches!(
        image(&esp(), &volume(16 << 10, None)),
        Err(FatError::Space { .. })
    ));
}

#[test]
fn times_are_moved_into_what_fat_knows() {
    let mut tree = Tree::new(root_owned(0o755));
    let mut put_at = |path: &str, seconds| {
        let mut metadata = root_owned(0o644);
        metadata.mtime = Timestamp::from_seconds(seconds);
        put(&mut tree, path, metadata, Node::Regular(Content::empty()));
    };
    put_at("/old", -5);
    put_at("/odd", TIME - 1);
    put_at("/late", TIME + 1_000_000);
    on_file(&image(&tree, &volume(1 << 20, None)).unwrap(), |path, _| {
        let listing = run("mtools", "mdir", &["-i", path, "::/"], b"");
        for expected in [
            "old                  0 1980-01-01   0:00",
            "odd                  0 2020-09-13  12:26",
            "late                 0 2020-09-13  12:26",
        ] {
            assert!(listing.contains(expected), "{listing}");
        }
    });
}

fn read_back(bytes: &[u8]) -> Result<Tree, ReadError> {
    let limits = Limits {
        entries: 1000,
        bytes: 8 << 20,
    };
    Reader::open(Cursor::new(bytes), limits)?.tree()
}

#[test]
fn our_reader_reads_it() {
    for (tree, volume) in cases() {
        let bytes = image(&tree, &volume).unwrap();
        let reader = Reader::open(Cursor::new(&bytes), Limits::default()).unwrap();
        let summary = reader.summary();
        assert_eq!(summary.label, volume.label);
        assert_eq!((summary.serial, summary.size), (volume.serial, volume.size));
        assert!(volume.width.is_none_or(|width| width == summary.width));
        let found = read_back(&bytes).unwrap();
        let mut entries = found.walk();
        for wanted in tree.walk() {
            let entry = entries.next().unwrap();
            assert_eq!(entry.path, wanted.path);
            assert_eq!(entry.inode.content(), wanted.inode.content());
            if wanted.path != b"/" {
                assert_eq!(entry.inode.metadata.mtime, wanted.inode.metadata.mtime);
            }
        }
        assert!(entries.next().is_none());
    }
}

#[test]
fn volumes_of_mkfs_are_read() {
    for (size, width, sector) in [
        ("1M", "12", "512"),
        ("20M", "16", "512"),
        ("40M", "32", "512"),
        ("300M", "32", "4096"),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fat.img");
        let path = path.to_str().unwrap();
        run("coreutils", "truncate", &["-s", size, path], b"");
        run(
            "dosfstools",
            "mkfs.vfat",
            &["-F", width, "-S", sector, "-n", "MADE", "-i", "12345678", path],
            b"",
        );
        run(
            "mtools",
            "mmd",
            &["-i", path, "::/A", "::/A/lower", "::/A/a long directory name"],
            b"",
        );
        let content = vec![0x5a; 100_001];
        run(
            "mtools",
            "mcopy",
            &["-i", path, "-", "::/A/a long directory name/File.bin"],
            &content,
        );
        run("mtools", "mcopy", &["-i", path, "-", "::/\u{fc}ber.txt"], b"text");
        let bytes = std::fs::read(path).unwrap();
        let reader = Reader::open(Cursor::new(&bytes), Limits::default()).unwrap();
        assert_eq!(reader.summary().label.as_deref(), Some("MADE"));
        assert_eq!(reader.summary().serial, 0x1234_5678);
        let tree = read_back(&bytes).unwrap();
        assert_eq!(tree.read("/\u{fc}ber.txt".as_bytes()).unwrap(), b"text");
        assert!(tree.read(b"/A/a long directory name/File.bin").unwrap() == content);
        assert!(tree.find(b"/A/lower", Follow::All).unwrap().is_some());
    }
}

proptest::proptest! {
    #[test]
    fn damage_does_no_harm(
        places in proptest::collection::vec((0usize..100_000, proptest::prelude::any::<u8>()), 1..12),
        boot in proptest::collection::vec((11usize..60, proptest::prelude::any::<u8>()), 0..3),
        cut in proptest::option::of(0usize..2_000_000),
    ) {
        let mut bytes = image(&esp(), &volume(8 << 20, None)).unwrap();
        for (at, byte) in places.into_iter().chain(boot) {
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        let _ = read_back(&bytes);
    }
}
