//! cpio and compressed segments, judged by GNU cpio, libarchive, xz, zstd, gzip and the crate `cpio`.

#![allow(clippy::unwrap_used)]

mod oracle;

use lycia_media::compress::{Branches, Compression, Format, compress};
use lycia_media::cpio::{
    CpioError, Limits, Options, SegmentKind, Segments, Xattrs, read_tree, segments, write_tree,
};
use lycia_tree::{Content, Device, Metadata, Node, Timestamp, Tree};
use oracle::{TIME, compare_directory, everything, everything_for_users, put, root_owned, run};
use proptest::prelude::*;

fn archive(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write_tree(&mut bytes, tree, &Options::default()).unwrap();
    assert_eq!(written.members as usize, tree.walk().count());
    assert_eq!(written.bytes as usize, bytes.len());
    bytes
}

/// Walks of both give the same paths, metadata and nodes, and the same names share inodes.
fn assert_same(a: &Tree, b: &Tree) {
    let (mut a, mut b) = (a.walk(), b.walk());
    let mut pairs = std::collections::HashMap::new();
    loop {
        match (a.next(), b.next()) {
            (None, None) => break,
            (Some(a), Some(b)) => {
                let name = lycia_tree::display(&a.path);
                assert_eq!(a.path, b.path);
                assert_eq!(a.inode.metadata, b.inode.metadata, "{name}");
                assert_eq!(a.inode.node(), b.inode.node(), "{name}");
                if a.inode.symlink().is_none() {
                    assert_eq!(a.inode.names(), b.inode.names(), "{name}");
                    assert_eq!(*pairs.entry(a.id).or_insert(b.id), b.id, "{name}");
                }
            }
            (a, b) => panic!(
                "one tree has more: {:?} {:?}",
                a.map(|e| e.path),
                b.map(|e| e.path)
            ),
        }
    }
}

#[test]
fn reads_back_as_it_was() {
    let tree = everything();
    assert_same(&read_tree(&archive(&tree), &Limits::default()).unwrap(), &tree);
}

#[test]
fn gnu_cpio_lists_it() {
    let listing = run("cpio", "cpio", &["-itvn", "--quiet"], &archive(&everything()));
    let lines: Vec<&str> = listing.lines().collect();
    for expected in [
        "drwxr-xr-x   7 0        0               0 Sep 13  2020 .",
        "-rwsr-xr-x   2 0        0              10 Sep 13  2020 bin/alias",
        "-rwsr-xr-x   2 0        0               0 Sep 13  2020 bin/tool",
        "crw-rw-rw-   1 0        0          1,   3 Sep 13  2020 dev/null",
        "brw-rw----   1 0        6        259, 300 Sep 13  2020 dev/nvme0n1",
        "-rw-r-----   1 100000   65537       16000 Sep 13  2020 home/user/notes",
        "lrwxrwxrwx   1 0        0               7 Sep 13  2020 lib -> usr/lib",
        "prw-------   1 0        0               0 Sep 13  2020 run/pipe",
        "drwxrwxrwt   2 0        0               0 Sep 13  2020 tmp",
    ] {
        assert!(lines.contains(&expected), "{expected}\n{listing}");
    }
}

#[test]
fn gnu_cpio_unpacks_it() {
    let tree = everything_for_users();
    let directory = tempfile::tempdir().unwrap();
    let place = format!("--directory={}", directory.path().display());
    run(
        "cpio",
        "cpio",
        &["-idm", "--quiet", "--no-preserve-owner", &place],
        &archive(&tree),
    );
    compare_directory(&tree, directory.path(), false);
}

#[test]
fn libarchive_unpacks_it() {
    let tree = everything_for_users();
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().display().to_string();
    run(
        "libarchive-tools",
        "bsdtar",
        &["-x", "-p", "--no-same-owner", "-f", "-", "-C", &place],
        &archive(&tree),
    );
    compare_directory(&tree, directory.path(), true);
}

#[test]
fn the_crate_cpio_reads_it() {
    // That reader wants UTF-8.
    let mut tree = everything();
    tree.remove(b"/home/user/\xff\xfe").unwrap();
    let bytes = archive(&tree);
    let mut rest = bytes.as_slice();
    let mut read = 0;
    let mut walk = tree.walk();
    loop {
        let reader = cpio::NewcReader::new(rest).unwrap();
        if reader.entry().is_trailer() {
            break;
        }
        let entry = walk.next().unwrap();
        let header = reader.entry();
        let name = match entry.relative() {
            b"" => ".".to_owned(),
            name => String::from_utf8(name.to_vec()).unwrap(),
        };
        assert_eq!(header.name(), name);
        assert_eq!(header.mode(), u32::from(entry.inode.mode()), "{name}");
        assert_eq!(header.uid(), entry.inode.metadata.uid);
        assert_eq!(header.mtime(), TIME as u32);
        read += 1;
        rest = reader.finish().unwrap();
    }
    assert_eq!(read, tree.walk().count());
}

#[test]
fn gnu_cpio_writes_what_we_read() {
    let tree = everything_for_users();
    let directory = tempfile::tempdir().unwrap();
    let place = format!("--directory={}", directory.path().display());
    run(
        "cpio",
        "cpio",
        &["-idm", "--quiet", "--no-preserve-owner", &place],
        &archive(&tree),
    );
    // Every name on a line would break at the one with a line feed.
    let mut names = Vec::new();
    for entry in tree.walk() {
        names.extend_from_slice(match entry.relative() {
            b"" => b".",
            name => name,
        });
        names.push(0);
    }
    let written = oracle::output(
        "cpio",
        "cpio",
        &["-o", "-0", "-H", "newc", "--quiet", "--owner=+0:+0", &place],
        &names,
    );
    assert!(written.status.success());
    let read = read_tree(&written.stdout, &Limits::default()).unwrap();
    // GNU cpio's own habits: the content of hard links is at the last name.
    assert_eq!(read.read(b"/bin/tool").unwrap(), b"#!/bin/sh\n");
    assert_eq!(read.read(b"/bin/alias").unwrap(), b"#!/bin/sh\n");
    assert_eq!(read.walk().count(), tree.walk().count());
}

#[test]
fn segments_follow_each_other() {
    let mut early = Tree::new(root_owned(0o755));
    put(
        &mut early,
        "/kernel/x86/microcode/GenuineIntel.bin",
        root_owned(0o644),
        Node::Regular(Content::from("microcode")),
    );
    let main = everything();
    let mut late = Tree::new(root_owned(0o755));
    put(
        &mut late,
        "/etc/late.conf",
        root_owned(0o644),
        Node::Regular(Content::from("late")),
    );
    for compression in [
        Compression::Gzip { level: 6 },
        Compression::xz_for_kernel(Branches::X86),
        Compression::zstd(3),
    ] {
        let mut writer = Segments::new(Vec::new());
        writer.plain(&early, &Options::default()).unwrap();
        let middle = writer
            .compressed(&main, &Options::default(), &compression, 2)
            .unwrap();
        assert_eq!(middle.members as usize, main.walk().count());
        let ready = compress(&archive(&late), &compression, 1).unwrap();
        writer.ready(&ready).unwrap();
        let bytes = writer.finish().unwrap();
        // A compressed segment at the end is followed by nothing.
        assert!(bytes.ends_with(&ready));

        let found = segments(&bytes, &Limits::default()).unwrap();
        assert_eq!(found.len(), 3);
        assert_eq!(found[0].kind, SegmentKind::Plain);
        let format: Format = compression.format().unwrap();
        for segment in &found[1..] {
            assert_eq!(segment.offset % 512, 0);
            assert!(matches!(segment.kind, SegmentKind::Compressed(found, _) if found == format));
        }
        let tree = read_tree(&bytes, &Limits::default()).unwrap();
        assert_eq!(tree.read(b"/etc/late.conf").unwrap(), b"late");
        assert_eq!(
            tree.read(b"/kernel/x86/microcode/GenuineIntel.bin").unwrap(),
            b"microcode"
        );
        assert_eq!(tree.read(b"/bin/tool").unwrap(), b"#!/bin/sh\n");

        // The formats' own programs accept the segments.
        let segment = &bytes[found[1].offset..found[1].offset + found[1].len];
        let (package, program) = match format {
            Format::Gzip => ("gzip", "gzip"),
            Format::Xz => ("xz-utils", "xz"),
            Format::Zstd => ("zstd", "zstd"),
        };
        run(package, program, &["-t"], segment);
        let unpacked = oracle::output(package, program, &["-dc"], segment).stdout;
        assert!(unpacked == archive(&main), "{program}");
    }
}

#[test]
fn same_tree_same_bytes_whatever_its_history() {
    let mut other = Tree::new(root_owned(0o755));
    put(&mut other, "/z", root_owned(0o644), Node::Fifo);
    other.remove(b"/z").unwrap();
    let (mut a, mut b) = (Tree::new(root_owned(0o755)), other);
    for path in ["/a", "/b", "/c"] {
        put(
            &mut a,
            path,
            root_owned(0o644),
            Node::Regular(Content::from(path)),
        );
    }
    for path in ["/c", "/a", "/b"] {
        put(
            &mut b,
            path,
            root_owned(0o644),
            Node::Regular(Content::from(path)),
        );
    }
    assert!(archive(&a) == archive(&b));
}

#[test]
fn what_does_not_fit_is_refused() {
    let write = |path: &str, metadata: Metadata, node| {
        let mut tree = Tree::new(root_owned(0o755));
        put(&mut tree, path, metadata, node);
        write_tree(&mut std::io::sink(), &tree, &Options::default())
            .unwrap_err()
            .to_string()
    };
    let at = |seconds| Metadata::new(0o644, Timestamp::from_seconds(seconds));
    for (error, expected) in [
        (
            write("/old", at(-1), Node::Fifo),
            "/old to a cpio archive: its time of modification -1",
        ),
        (write("/new", at(1 << 32), Node::Fifo), "4294967296"),
        (
            write("/TRAILER!!!", at(0), Node::Fifo),
            "the one that ends an archive",
        ),
        (write("/l", at(0), Node::Symlink(Vec::new())), "without text"),
        (
            write("/l", at(0), Node::Symlink(vec![b'x'; 4096])),
            "more than 4095 bytes",
        ),
    ] {
        assert!(error.contains(expected), "{error}");
    }
    let mut tree = Tree::new(root_owned(0o755));
    let mut metadata = root_owned(0o755);
    metadata
        .xattrs
        .insert(b"security.capability".to_vec(), vec![1; 20]);
    put(&mut tree, "/ping", metadata, Node::Regular(Content::from("x")));
    let error = write_tree(&mut std::io::sink(), &tree, &Options::default()).unwrap_err();
    assert!(error.to_string().contains("security.capability"), "{error}");
    let options = Options { xattrs: Xattrs::Drop };
    assert_eq!(
        write_tree(&mut std::io::sink(), &tree, &options)
            .unwrap()
            .dropped_xattrs,
        1
    );
}

/// A member as another program might write it.
fn member(inode: u32, mode: u32, links: u32, name: &str, content: &[u8]) -> Vec<u8> {
    let mut bytes = format!(
        "070701{inode:08X}{mode:08X}{:08X}{:08X}{links:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{:08X}{name}\0",
        0,
        0,
        0,
        content.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0
    )
    .into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn hostile_archives_are_refused() {
    let trailer = || member(0, 0, 1, "TRAILER!!!", b"");
    let dir = |name| member(1, 0o40755, 2, name, b"");
    let file = |name| member(2, 0o100644, 1, name, b"x");
    let join = |members: &[Vec<u8>]| members.concat();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (join(&[file("a")]), "without a trailer"),
        (join(&[file("../a"), trailer()]), "with `..`"),
        (join(&[file("d/a"), trailer()]), "no such file or directory"),
        (join(&[dir("a"), file("a"), trailer()]), "is a directory"),
        (
            join(&[member(1, 0o120777, 1, "l", b""), trailer()]),
            "text that cannot be one",
        ),
        (
            join(&[member(1, 0o120777, 1, "l", b"a\0b"), trailer()]),
            "text that cannot be one",
        ),
        (
            join(&[member(1, 0o20644, 1, "c", b"x"), trailer()]),
            "content in other than",
        ),
        (
            join(&[member(1, 0o30644, 1, "c", b""), trailer()]),
            "a type that there is not",
        ),
        (
            join(&[member(1, 0x1_0000 | 0o100644, 1, "c", b""), trailer()]),
            "more than 16 bits",
        ),
        (
            join(&[
                member(7, 0o100644, 2, "a", b"x"),
                member(7, 0o20644, 2, "b", b""),
                trailer(),
            ]),
            "another type",
        ),
        (join(&[trailer(), b"garbage!".to_vec()]), "neither an archive nor"),
        (b"0707010000000g".to_vec(), "inside a header"),
        (join(&[trailer(), vec![0, 0], trailer()]), "multiple of 4"),
        (vec![0; 512], ""),
    ];
    for (bytes, expected) in cases {
        match read_tree(&bytes, &Limits::default()) {
            Err(error) => assert!(
                !expected.is_empty() && error.to_string().contains(expected),
                "{expected}: {error}"
            ),
            Ok(_) => assert_eq!(expected, ""),
        }
    }
    let many = join(&[dir("a"), dir("b"), dir("c"), trailer()]);
    let limits = Limits {
        members: 2,
        ..Limits::default()
    };
    assert!(matches!(
        read_tree(&many, &limits),
        Err(CpioError::Limit { limit: 2, .. })
    ));
    let bomb = compress(&vec![b'0'; 1 << 20], &Compression::zstd(3), 1).unwrap();
    let limits = Limits {
        unpacked: 1 << 16,
        ..Limits::default()
    };
    assert!(matches!(read_tree(&bomb, &limits), Err(CpioError::Compress(_))));
}

#[test]
fn a_later_member_replaces_an_earlier_one() {
    let bytes = [
        member(1, 0o100644, 1, "./a", b"old"),
        member(2, 0o100600, 1, "/a", b"new"),
        member(0, 0, 1, "TRAILER!!!", b""),
    ]
    .concat();
    let tree = read_tree(&bytes, &Limits::default()).unwrap();
    assert_eq!(tree.read(b"/a").unwrap(), b"new");
    assert_eq!(tree.walk().count(), 2);
}

fn arbitrary_tree() -> impl Strategy<Value = Tree> {
    let node = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..70).prop_map(|bytes| Node::Regular(Content::from(bytes))),
        proptest::collection::vec(1..=255u8, 1..70).prop_map(Node::Symlink),
        (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Node::CharDevice(Device { major, minor })),
        Just(Node::Fifo),
    ];
    let name = "[a-d]{1,2}(/[a-d]{1,2}){0,2}";
    let entry = (
        name,
        node,
        any::<u16>(),
        any::<(u32, u32)>(),
        any::<u32>(),
        any::<bool>(),
    );
    proptest::collection::vec(entry, 0..12).prop_map(|entries| {
        let mut tree = Tree::new(root_owned(0o755));
        for (path, node, mode, (uid, gid), mtime, link) in entries {
            if let Some((above, _)) = path.rsplit_once('/')
                && tree
                    .make_directories(above.as_bytes(), root_owned(0o755))
                    .is_err()
            {
                continue;
            }
            let metadata = Metadata::new(mode, Timestamp::from_seconds(mtime.into())).owned_by(uid, gid);
            if let Ok(id) = tree.insert(path.as_bytes(), metadata, node)
                && link
                && tree.inode(id).symlink().is_none()
            {
                let _ = tree.link(id, format!("/{path}-link").as_bytes());
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_reads_back(tree in arbitrary_tree()) {
        assert_same(&read_tree(&archive(&tree), &Limits::default()).unwrap(), &tree);
    }

    #[test]
    fn damage_never_panics(tree in arbitrary_tree(), flips in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..4)) {
        let mut bytes = archive(&tree);
        for (at, bits) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= bits;
        }
        let _ = read_tree(&bytes, &Limits::default());
    }
}
