//! The squashfs reader against mksquashfs, and what it refuses.

#![allow(clippy::unwrap_used)]

mod squashfs_support;

use std::collections::BTreeMap;
use std::io::Cursor;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};

use lycia_media::squashfs::{Image, ImageError, Limits, Options};
use lycia_tree::{Device, Follow, Node};
use squashfs_support::*;

#[test]
fn images_of_mksquashfs_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let host = directory.path().join("tree");
    std::fs::create_dir(&host).unwrap();
    let mut wanted: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for number in 0..300u64 {
        let size = [0, 10, 4096, 5000, 100, 70_000, 2000, 300][number as usize % 8];
        let content = match number % 3 {
            _ if number < 3 => noise(number, 200_000),
            1 => vec![0; size * 3],
            _ => text(number % 20, size),
        };
        let name = format!("{number:03}-{}", "n".repeat(number as usize % 200));
        std::fs::write(host.join(&name), &content).unwrap();
        wanted.insert(name, content);
    }
    std::fs::hard_link(host.join("001-n"), host.join("hard")).unwrap();
    symlink("001-n", host.join("soft")).unwrap();
    std::fs::create_dir(host.join("sub")).unwrap();
    std::fs::set_permissions(host.join("sub"), std::fs::Permissions::from_mode(0o2710)).unwrap();
    let variants: [&[&str]; 7] = [
        &["-comp", "gzip"],
        &[
            "-comp",
            "gzip",
            "-Xcompression-level",
            "3",
            "-noI",
            "-noD",
            "-noF",
        ],
        &["-comp", "xz", "-Xbcj", "x86", "-b", "65536"],
        &[
            "-comp",
            "zstd",
            "-Xcompression-level",
            "5",
            "-b",
            "1M",
            "-always-use-fragments",
        ],
        &[
            "-comp",
            "zstd",
            "-no-fragments",
            "-b",
            "4096",
            "-Xcompression-level",
            "3",
        ],
        &[
            "-comp",
            "zstd",
            "-no-exports",
            "-no-duplicates",
            "-no-sparse",
            "-Xcompression-level",
            "1",
        ],
        &["-comp", "xz", "-noId", "-noX"],
    ];
    for flags in variants {
        let path = directory.path().join("image");
        let mut arguments: Vec<&[u8]> = vec![host.as_os_str().as_bytes(), path.as_os_str().as_bytes()];
        arguments.extend([&b"-noappend"[..], b"-no-progress", b"-quiet"]);
        arguments.extend(flags.iter().map(|flag| flag.as_bytes()));
        run("squashfs-tools", "mksquashfs", &arguments);
        let tree = read(&std::fs::read(&path).unwrap());
        for (name, content) in &wanted {
            assert!(tree.read(name.as_bytes()).unwrap() == content, "{flags:?} {name}");
        }
        assert_eq!(tree.walk().count(), wanted.len() + 4);
        let id = |path: &str| tree.resolve(path.as_bytes(), Follow::Parents).unwrap();
        assert_eq!(id("hard"), id("001-n"));
        assert_eq!(tree.inode(id("soft")).symlink(), Some(&b"001-n"[..]));
        assert_eq!(tree.inode(id("sub")).metadata.mode, 0o2710);
    }
}

/// A tar archive's entry: owners and attributes that an unprivileged test cannot give to files.
fn tar_entry(
    out: &mut Vec<u8>,
    name: &str,
    kind: u8,
    device: (u32, u32),
    xattrs: &[(&str, &[u8])],
    data: &[u8],
) {
    if !xattrs.is_empty() {
        let mut records = Vec::new();
        for (key, value) in xattrs {
            let rest = [b" SCHILY.xattr.", key.as_bytes(), b"=", value, b"\n"].concat();
            // The length counts its own digits.
            let len = (1..=5)
                .map(|digits| rest.len() + digits)
                .find(|len| len.to_string().len() + rest.len() == *len)
                .unwrap();
            records.extend_from_slice(len.to_string().as_bytes());
            records.extend_from_slice(&rest);
        }
        tar_entry(out, "pax", b'x', (0, 0), &[], &records);
    }
    let mut header = [0u8; 512];
    let mut put = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000640\0");
    put(108, "0210000\0");
    put(116, "0000003\0");
    put(124, &format!("{:011o}\0", data.len()));
    put(136, &format!("{:011o}\0", T0.seconds));
    put(148, "        ");
    put(257, "ustar\u{0}00");
    put(329, &format!("{:07o}\0", device.0));
    put(337, &format!("{:07o}\0", device.1));
    header[156] = kind;
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

#[test]
fn owners_devices_and_attributes_of_mksquashfs_are_read() {
    let mut tar = Vec::new();
    let long = [b'v'; 100];
    tar_entry(&mut tar, "c", b'3', (4, 64), &[], b"");
    tar_entry(&mut tar, "b", b'4', (259, 1), &[("user.a", b"1")], b"");
    for name in ["f", "g", "h"] {
        let xattrs: [(&str, &[u8]); 3] = [
            ("user.long", &long),
            ("security.x", &long),
            ("trusted.n", name.as_bytes()),
        ];
        tar_entry(&mut tar, name, b'0', (0, 0), &xattrs, b"content");
    }
    tar.resize(tar.len() + 1024, 0);
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("tar");
    std::fs::write(&archive, &tar).unwrap();
    let path = directory.path().join("image");
    let status = std::process::Command::new("mksquashfs")
        .args([
            "-",
            path.to_str().unwrap(),
            "-tar",
            "-quiet",
            "-no-progress",
            "-comp",
            "zstd",
        ])
        .stdin(std::fs::File::open(&archive).unwrap())
        .stdout(std::process::Stdio::null())
        .status()
        .expect("mksquashfs cannot be run: install Debian's squashfs-tools");
    assert!(status.success());
    let tree = read(&std::fs::read(&path).unwrap());
    let found: Vec<Line> = lines(&tree).into_iter().skip(1).collect();
    assert_eq!(found.len(), 5);
    for line in &found {
        assert_eq!(
            (line.mode, line.owner, line.seconds),
            (0o640, (69_632, 3), T0.seconds)
        );
    }
    assert_eq!(
        found[0].node,
        Some(Node::BlockDevice(Device { major: 259, minor: 1 }))
    );
    assert_eq!(
        found[1].node,
        Some(Node::CharDevice(Device { major: 4, minor: 64 }))
    );
    for line in &found[2..] {
        assert_eq!(line.xattrs[&b"user.long"[..]], long);
        assert_eq!(line.xattrs[&b"security.x"[..]], long);
        assert_eq!(line.xattrs[&b"trusted.n"[..]], line.path[1..]);
    }
}

#[test]
fn what_is_no_image_is_refused() {
    let (good, _) = image(&menagerie(), &quick());
    let open = |bytes: &[u8]| Image::open(Cursor::new(bytes)).map(|_| ());
    open(&good).unwrap();
    assert!(matches!(open(&good[..95]), Err(ImageError::Unsupported(_))));
    assert!(matches!(
        open(&good[..good.len() / 2]),
        Err(ImageError::Corrupt(_))
    ));
    let broken = |at: usize, bytes: &[u8]| {
        let mut image = good.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        open(&image)
    };
    for (at, bytes) in [(0, &b"HSQS"[..]), (28, &[3]), (20, &[5, 0]), (20, &[9, 0])] {
        assert!(
            matches!(broken(at, bytes), Err(ImageError::Unsupported(_))),
            "{at}"
        );
    }
    let far = u64::MAX.to_le_bytes();
    for (at, bytes) in [
        (4, &[0; 4][..]),
        (12, &[0, 0, 16, 1]),
        (22, &[13]),
        (40, &far),
        (48, &far),
        (56, &[0; 8]),
        (64, &[0; 8]),
        (64, &far),
        (72, &[0; 8]),
        (80, &far),
        (88, &[1; 8]),
        (96, &[1, 0]),
    ] {
        assert!(matches!(broken(at, bytes), Err(ImageError::Corrupt(_))), "{at}");
    }
}

#[test]
fn a_directory_inside_of_itself_is_refused() {
    let mut tree = root();
    tree.make_directory(b"d", metadata(0o755)).unwrap();
    // Streams of xz are so long that tiny metadata stays as it is.
    let options = Options {
        compressor: COMPRESSORS[3],
        ..quick()
    };
    let (mut bytes, _) = image(&tree, &options);
    let superblock = Image::open(Cursor::new(&bytes[..])).unwrap().superblock().clone();
    let listing = superblock.directory_table as usize + 2;
    assert_eq!(
        &bytes[listing..listing + 21],
        b"\0\0\0\0\0\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0d"
    );
    bytes[listing + 8] = 1;
    bytes[listing + 12..listing + 14].copy_from_slice(&(superblock.root as u16).to_le_bytes());
    let error = Image::open(Cursor::new(&bytes[..]))
        .unwrap()
        .entries(&Limits::default())
        .unwrap_err();
    assert!(error.to_string().contains("two names"), "{error}");
}

#[test]
fn limits_hold() {
    let (bytes, _) = image(&menagerie(), &quick());
    let mut opened = Image::open(Cursor::new(&bytes)).unwrap();
    let few = Limits {
        entries: 10,
        ..Limits::default()
    };
    assert!(matches!(
        opened.entries(&few),
        Err(ImageError::Limit { limit: 10, .. })
    ));
    // Enough for the names, but not for a link of 4095 bytes.
    let mut tree = root();
    tree.insert(b"link", metadata(0o777), Node::Symlink(vec![b'x'; 4095]))
        .unwrap();
    let (long, _) = image(&tree, &quick());
    let short = Limits {
        entries: 8,
        ..Limits::default()
    };
    let error = Image::open(Cursor::new(&long))
        .unwrap()
        .entries(&short)
        .unwrap_err();
    assert!(matches!(error, ImageError::Limit { limit: 4096, .. }), "{error}");
    let small = Limits {
        content_bytes: 100_000,
        ..Limits::default()
    };
    assert!(matches!(opened.tree(&small), Err(ImageError::Limit { .. })));
    assert!(matches!(
        opened.check(&small, &|_| {}),
        Err(ImageError::Limit { .. })
    ));
}

#[test]
fn wrong_links_are_told() {
    let mut tree = root();
    tree.make_directory(b"d", metadata(0o755)).unwrap();
    let options = Options {
        compressor: COMPRESSORS[3],
        ..quick()
    };
    let (mut bytes, _) = image(&tree, &options);
    let superblock = Image::open(Cursor::new(&bytes[..])).unwrap().superblock().clone();
    // The inode of `d` is the first; its count follows 16 bytes of head and the block of its listing.
    let inode = superblock.inode_table as usize + 2;
    bytes[inode + 20] = 9;
    bytes[inode + 28] = 7;
    let report = Image::open(Cursor::new(&bytes[..]))
        .unwrap()
        .check(&Limits::default(), &|_| {})
        .unwrap();
    assert_eq!(
        report.faults,
        [
            "/d: its parent is inode 1, not 7",
            "/d: the link count is 9, not 2"
        ]
    );
    assert_eq!((report.entries, report.inodes, report.directories), (2, 2, 2));
}
