//! The squashfs writer against unsquashfs, rdsquashfs, mksquashfs and our reader.

#![allow(clippy::unwrap_used)]

mod squashfs_support;

use std::cell::Cell;
use std::io::{self, Cursor, Seek, SeekFrom, Write};
use std::os::unix::ffi::OsStrExt;

use lycia_media::squashfs::{self, Bcj, Compressor, Image, Options, SquashfsError};
use lycia_tree::{Device, Follow, Node, Tree};
use squashfs_support::*;

#[test]
fn one_of_everything() {
    let tree = menagerie();
    for compressor in COMPRESSORS {
        for tail_ends in [true, false] {
            let options = Options {
                compressor,
                tail_ends,
                jobs: 2,
                ..Options::default()
            };
            let (bytes, summary) = image(&tree, &options);
            assert_same(&tree, &read(&bytes));
            assert_unsquashfs_agrees(&tree, &bytes);
            assert_eq!(summary.bytes % 4096, 0);
            let opened = Image::open(Cursor::new(&bytes)).unwrap();
            assert_eq!(opened.compressor(), compressor);
            assert_eq!(opened.superblock().inodes, summary.inodes);
        }
    }
}

#[test]
fn attributes_by_another_reader() {
    let tree = menagerie();
    let (bytes, _) = image(&tree, &quick());
    let directory = saved(&bytes);
    for path in ["setuid", "a/b/c/small", "a", "char", "link"] {
        let id = tree.resolve(path.as_bytes(), Follow::Parents).unwrap();
        let said = rdsquashfs_xattrs(&directory.path().join("image"), path);
        let mut said: Vec<_> = said
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .collect();
        said.sort();
        let wanted: Vec<Vec<u8>> = tree
            .inode(id)
            .metadata
            .xattrs
            .iter()
            .map(|(name, value)| [name, &b"="[..], value].concat())
            .collect();
        assert_eq!(said, wanted, "{path}");
    }
}

#[test]
fn names_of_every_byte_and_length() {
    let mut tree = root();
    for byte in (1..=255u8).filter(|&byte| byte != b'/' && byte != b'.') {
        tree.insert(&[byte], metadata(0o644), Node::Fifo).unwrap();
    }
    for len in 2..=255 {
        let mut name = vec![b'n'; len];
        name[len - 1] = len as u8 | 0x80;
        tree.insert(&name, metadata(0o644), Node::Fifo).unwrap();
    }
    let (bytes, _) = image(&tree, &quick());
    assert_same(&tree, &read(&bytes));
    let directory = saved(&bytes);
    let listing = unsquashfs(&[b"-ls", directory.path().join("image").as_os_str().as_bytes()]);
    let mut wanted = Vec::new();
    for entry in tree.walk() {
        wanted.extend_from_slice(b"squashfs-root");
        if entry.path != b"/" {
            wanted.extend_from_slice(&entry.path);
        }
        wanted.push(b'\n');
    }
    assert!(listing == wanted, "unsquashfs lists other names");
}

#[test]
fn large_directories_have_an_index() {
    let mut tree = root();
    tree.make_directory(b"empty", metadata(0o755)).unwrap();
    let shared = file(&mut tree, "zz/shared", "shared");
    for number in 0..6000 {
        let path = format!("large/{number:05}-{}", "x".repeat(number % 40));
        match number % 7 {
            0 => tree.link(shared, path.as_bytes()).unwrap_or_else(|_| {
                tree.make_directories(b"large", metadata(0o755)).unwrap();
                tree.link(shared, path.as_bytes()).unwrap();
            }),
            1 => {
                tree.make_directories(path.as_bytes(), metadata(0o755)).unwrap();
            }
            _ => {
                file(&mut tree, &path, format!("{number}"));
            }
        }
    }
    let (bytes, summary) = image(&tree, &quick());
    assert_same(&tree, &read(&bytes));
    assert_unsquashfs_agrees(&tree, &bytes);
    assert!(summary.inodes > 5000);
    // The root's directory table holds more than 64 KiB for `large`, so that only an index finds its end soon;
    // `check` in `read` has followed each entry of it.
    let stat = run(
        "squashfs-tools-ng",
        "rdsquashfs",
        &[
            b"-s",
            b"large",
            saved(&bytes).path().join("image").as_os_str().as_bytes(),
        ],
    );
    let stat = String::from_utf8_lossy(&stat.stdout).to_string();
    assert!(stat.contains("extended directory"), "{stat}");
    let indexes = stat.matches("'").count() / 2;
    assert!(stat.contains("index") && indexes >= 15, "{stat}");
}

#[test]
fn sizes_around_the_ends_of_blocks() {
    for block_size in [4096, 131_072, 1 << 20] {
        for tail_ends in [true, false] {
            let mut tree = root();
            let block = block_size as usize;
            let mut sizes = vec![
                0,
                1,
                block - 1,
                block,
                block + 1,
                2 * block - 1,
                2 * block,
                2 * block + 1,
            ];
            sizes.extend([block / 2, block / 2 + 1, block * 3 / 2]);
            for (number, size) in sizes.into_iter().enumerate() {
                file(&mut tree, &format!("text{number}"), text(number as u64, size));
                file(&mut tree, &format!("noise{number}"), noise(number as u64, size));
                file(&mut tree, &format!("zero{number}"), vec![0; size]);
            }
            let options = Options {
                block_size,
                tail_ends,
                ..quick()
            };
            let (bytes, summary) = image(&tree, &options);
            assert!(summary.raw_blocks > 0 && summary.fragments > 0);
            assert_same(&tree, &read(&bytes));
            assert_unsquashfs_agrees(&tree, &bytes);
        }
    }
}

#[test]
fn holes_and_copies_take_no_room() {
    let mut tree = root();
    file(&mut tree, "hole", vec![0; 40 << 20]);
    let content = noise(3, 50_000);
    for number in 0..50 {
        file(&mut tree, &format!("copy{number:02}"), content.clone());
        file(&mut tree, &format!("small{number:02}"), &content[..1000]);
    }
    // Nearly a copy: the same length, another end.
    let mut other = content.clone();
    other[49_999] ^= 1;
    file(&mut tree, "other", other);
    let (bytes, summary) = image(&tree, &quick());
    assert_eq!(summary.hole_bytes, 40 << 20);
    assert_eq!(summary.duplicates, 98);
    assert_eq!(summary.duplicate_bytes, 49 * 51_000);
    assert!(bytes.len() < 140_000, "{}", bytes.len());
    assert_same(&tree, &read(&bytes));
    assert_unsquashfs_agrees(&tree, &bytes);
}

#[test]
fn many_owners() {
    let mut tree = root();
    let owned = |tree: &mut Tree, from: u32, to: u32| {
        for number in from..to {
            let metadata = metadata(0o644).owned_by(number * 3, number * 3 + 1);
            tree.insert(format!("{number:06}").as_bytes(), metadata, Node::Fifo)
                .unwrap();
        }
    };
    owned(&mut tree, 0, 5000);
    let (bytes, summary) = image(&tree, &quick());
    assert_eq!(summary.ids, 10_000);
    assert_same(&tree, &read(&bytes));
    assert_unsquashfs_agrees(&tree, &bytes);
    owned(&mut tree, 5000, 33_000);
    let error = squashfs::write(&tree, &quick(), Cursor::new(Vec::new()), &|_, _| {}).unwrap_err();
    assert!(
        matches!(error, SquashfsError::TooLarge { limit: 65535, .. }),
        "{error}"
    );
}

#[test]
fn attributes_are_shared() {
    let mut tree = root();
    let value = noise(4, 65_536);
    for number in 0..400 {
        let id = file(&mut tree, &format!("{number:03}"), "");
        let xattrs = &mut tree.metadata_mut(id).xattrs;
        xattrs.insert(b"user.large".to_vec(), value.clone());
        xattrs.insert(b"user.empty".to_vec(), Vec::new());
        // Sets differ, so that only the value can be shared; enough of them for several table blocks.
        xattrs.insert(format!("trusted.{}", number / 2).into_bytes(), noise(number, 100));
        xattrs.insert(b"security.none".to_vec(), b"12345678".to_vec());
    }
    let (bytes, _) = image(&tree, &quick());
    assert!(bytes.len() < 250_000, "{}", bytes.len());
    assert_same(&tree, &read(&bytes));
    unsquashfs(&[b"-ls", saved(&bytes).path().join("image").as_os_str().as_bytes()]);
}

#[test]
fn what_squashfs_cannot_hold_is_refused_with_its_path() {
    let refused = |change: &dyn Fn(&mut Tree)| {
        let mut tree = root();
        tree.make_directory(b"d", metadata(0o755)).unwrap();
        change(&mut tree);
        squashfs::write(&tree, &quick(), Cursor::new(Vec::new()), &|_, _| {})
            .unwrap_err()
            .to_string()
    };
    for (name, value, why) in [
        ("system.posix_acl_access", 4, "user., trusted. and security."),
        ("user.", 4, "user., trusted. and security."),
        ("user.x", 65_537, "65536"),
    ] {
        let error = refused(&|tree| {
            let id = file(tree, "d/f", "");
            tree.metadata_mut(id)
                .xattrs
                .insert(name.as_bytes().to_vec(), vec![0; value]);
        });
        assert!(
            error.contains("/d/f") && error.contains(name) && error.contains(why),
            "{error}"
        );
    }
    let node = |node: Node| {
        refused(&move |tree: &mut Tree| {
            tree.insert(b"d/n", metadata(0o644), node.clone()).unwrap();
        })
    };
    for (node, why) in [
        (Node::Symlink(vec![b'x'; 65_536]), "65535"),
        (Node::Symlink(Vec::new()), "nothing"),
        (
            Node::CharDevice(Device {
                major: 4096,
                minor: 0,
            }),
            "4096:0",
        ),
        (
            Node::BlockDevice(Device {
                major: 0,
                minor: 1 << 20,
            }),
            "0:1048576",
        ),
    ]
    .map(|(kind, why)| (node(kind), why))
    {
        assert!(node.contains("/d/n") && node.contains(why), "{node}");
    }
    for options in [
        Options {
            block_size: 2048,
            ..quick()
        },
        Options {
            block_size: 2 << 20,
            ..quick()
        },
        Options {
            block_size: 100_000,
            ..quick()
        },
        Options {
            padding: 0,
            ..quick()
        },
        Options {
            compressor: Compressor::Zstd { level: 23 },
            ..quick()
        },
        Options {
            compressor: Compressor::Gzip { level: 0 },
            ..quick()
        },
    ] {
        let result = squashfs::write(&root(), &options, Cursor::new(Vec::new()), &|_, _| {});
        assert!(matches!(result, Err(SquashfsError::Options(_))));
    }
}

#[test]
fn the_longest_link_is_read() {
    let mut tree = root();
    tree.insert(b"link", metadata(0o777), Node::Symlink(vec![b'x'; 65_535]))
        .unwrap();
    let (bytes, _) = image(&tree, &quick());
    assert_same(&tree, &read(&bytes));
    assert_unsquashfs_agrees(&tree, &bytes);
}

#[test]
fn an_empty_tree() {
    let tree = root();
    let (bytes, summary) = image(&tree, &quick());
    assert_eq!((summary.inodes, summary.fragments, summary.bytes), (1, 0, 4096));
    assert_same(&tree, &read(&bytes));
    assert_unsquashfs_agrees(&tree, &bytes);
}

#[test]
fn the_number_of_jobs_does_not_show() {
    let mut tree = menagerie();
    for number in 0..300 {
        file(
            &mut tree,
            &format!("many/{number}"),
            text(number, number as usize * 97),
        );
    }
    let xz = Compressor::Xz {
        preset: 1,
        bcj: Bcj::X86,
    };
    for compressor in [COMPRESSORS[1], xz] {
        let images = [1, 2, 5].map(|jobs| {
            let options = Options {
                compressor,
                block_size: 16_384,
                jobs,
                ..Options::default()
            };
            image(&tree, &options)
        });
        assert!(images[0] == images[1] && images[1] == images[2]);
    }
}

#[test]
fn chosen_files_come_first() {
    let mut tree = root();
    for name in ["a", "b", "c/d"] {
        file(&mut tree, name, noise(u64::from(name.as_bytes()[0]), 4096));
    }
    tree.insert(b"l", metadata(0o777), Node::Symlink(b"c/d".to_vec()))
        .unwrap();
    let starts = |first: &[&str]| {
        let options = Options {
            first: first.iter().map(|path| path.as_bytes().to_vec()).collect(),
            ..quick()
        };
        let (bytes, _) = image(&tree, &options);
        assert_same(&tree, &read(&bytes));
        // Noise is stored as it is. The options of zstd take 6 bytes.
        [0, 1, 2].map(|block| {
            let at = 96 + 6 + block * 4096;
            ["a", "b", "c/d"]
                .into_iter()
                .find(|path| tree.read(path.as_bytes()).unwrap() == &bytes[at..at + 4096])
                .unwrap()
        })
    };
    assert_eq!(starts(&[]), ["a", "b", "c/d"]);
    assert_eq!(starts(&["/l", "nowhere", "b", "c/d"]), ["c/d", "b", "a"]);
}

#[test]
fn an_image_inside_of_a_file() {
    let tree = menagerie();
    let (alone, summary) = image(&tree, &quick());
    let mut out = Cursor::new(vec![7; 2 << 20]);
    out.set_position(12_345);
    squashfs::write(&tree, &quick(), &mut out, &|_, _| {}).unwrap();
    assert_eq!(out.position(), 12_345 + summary.bytes);
    let bytes = out.into_inner();
    assert!(bytes[12_345..][..alone.len()] == alone);
    assert!(bytes[..12_345].iter().all(|&byte| byte == 7));
    let unpadded = Options {
        padding: 1,
        ..quick()
    };
    assert_eq!(image(&tree, &unpadded).1.bytes, summary.bytes_used);
    let roomy = Options {
        padding: 1 << 20,
        ..quick()
    };
    assert_eq!(image(&tree, &roomy).1.bytes, 1 << 20);
}

#[test]
fn progress_goes_to_the_end() {
    let mut tree = menagerie();
    file(&mut tree, "a/second", text(300_000, 300_000));
    let last = Cell::new((0, 0));
    squashfs::write(&tree, &quick(), Cursor::new(Vec::new()), &|done, total| {
        assert!(done >= last.get().0 && done <= total);
        last.set((done, total));
    })
    .unwrap();
    let (done, total) = last.get();
    assert!(done == total && total > 1_000_000);
}

/// Fails after so many bytes.
struct Full(Cursor<Vec<u8>>, u64);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0.position() + bytes.len() as u64 > self.1 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Full {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[test]
fn a_full_disk_is_told() {
    let tree = menagerie();
    let (bytes, _) = image(&tree, &quick());
    for limit in [0, 100, 10_000, 200_000, bytes.len() as u64 - 1] {
        let out = Full(Cursor::new(Vec::new()), limit);
        let error = squashfs::write(&tree, &quick(), out, &|_, _| {}).unwrap_err();
        assert!(
            matches!(&error, SquashfsError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
            "{error}"
        );
    }
}

#[test]
fn as_small_as_mksquashfs() {
    let directory = tempfile::tempdir().unwrap();
    let host = directory.path().join("tree");
    let mut tree = root();
    for number in 0..100u64 {
        let folder = format!("{}", number / 20);
        std::fs::create_dir_all(host.join(&folder)).unwrap();
        tree.make_directories(folder.as_bytes(), metadata(0o755)).unwrap();
        let content = text(number, 20_000 + number as usize * 3);
        let name = format!("{folder}/{number}");
        std::fs::write(host.join(&name), &content).unwrap();
        file(&mut tree, &name, content);
    }
    for (flags, compressor) in [
        (
            &["-comp", "zstd", "-Xcompression-level", "15"][..],
            COMPRESSORS[0],
        ),
        (&["-comp", "xz"], COMPRESSORS[3]),
        (&["-comp", "gzip"], Compressor::Gzip { level: 9 }),
        (&["-comp", "lz4"], Compressor::Lz4 { level: 1 }),
        (&["-comp", "lz4", "-Xhc"], Compressor::Lz4 { level: 12 }),
    ] {
        let theirs = directory.path().join("theirs");
        let mut arguments: Vec<&[u8]> = vec![host.as_os_str().as_bytes(), theirs.as_os_str().as_bytes()];
        arguments.extend([&b"-noappend"[..], b"-no-progress", b"-quiet"]);
        arguments.extend(flags.iter().map(|flag| flag.as_bytes()));
        run("squashfs-tools", "mksquashfs", &arguments);
        let theirs = std::fs::metadata(&theirs).unwrap().len();
        let options = Options {
            compressor,
            ..Options::default()
        };
        let ours = image(&tree, &options).1.bytes;
        assert!(
            ours * 50 <= theirs * 51,
            "{compressor:?}: {ours} bytes, mksquashfs {theirs}"
        );
    }
}
