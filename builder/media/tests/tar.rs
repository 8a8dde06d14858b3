//! tar archives, judged by GNU tar and bsdtar, and read back.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lycia_media::compress::{Branches, Compression, decompress};
use lycia_media::tar::{Archive, Item, Writer, read_tree};
use lycia_media::tar::{Limits, Member, Options, Sockets, TarError, write_compressed, write_tree};
use lycia_tree::{Content, Device, Metadata, Node, Timestamp, Tree, display};
use oracle::{compare_directory, everything, everything_for_users, put, root_owned, run};
use proptest::prelude::*;

const WHOLE: Options = Options {
    sockets: Sockets::Refuse,
    root: true,
};

fn archive(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write_tree(&mut bytes, tree, &WHOLE).unwrap();
    assert_eq!(written.bytes as usize, bytes.len());
    assert_eq!(written.members as usize, tree.walk().count());
    bytes
}

/// Everything but sockets, and what needs extended headers.
fn wide() -> Tree {
    let mut tree = everything();
    tree.remove(b"/run/socket").unwrap();
    let mut metadata = Metadata::new(
        0o640,
        Timestamp {
            seconds: -2,
            nanoseconds: 500_000_000,
        },
    )
    .owned_by(4_000_000_000, 2_097_152);
    metadata.xattrs.insert(
        b"security.capability".to_vec(),
        b"\x01\x00\x00\x02\n= 12 \x00".to_vec(),
    );
    metadata.xattrs.insert(b"user.odd=name%3D".to_vec(), Vec::new());
    let deep = format!("/deep/{}/{}", "d".repeat(200), "f".repeat(200));
    put(
        &mut tree,
        &deep,
        metadata,
        Node::Regular(Content::from("content")),
    );
    let id = tree.resolve(deep.as_bytes(), lycia_tree::Follow::All).unwrap();
    tree.link(id, b"/deep/other").unwrap();
    let mut metadata = root_owned(0o755);
    metadata.mtime.nanoseconds = 123_000_000;
    tree.make_directory(format!("/deep/{}", "x".repeat(99)).as_bytes(), metadata)
        .unwrap();
    for (name, len) in [("/block", 512), ("/under", 511), ("/over", 513)] {
        put(
            &mut tree,
            name,
            root_owned(0o644),
            Node::Regular(Content::from(vec![7; len])),
        );
    }
    tree
}

fn assert_same(found: &Tree, expected: &Tree) {
    let mut found = found.walk();
    let mut pairs = std::collections::HashMap::new();
    for wanted in expected.walk() {
        let entry = found.next().unwrap();
        let name = display(&wanted.path);
        assert_eq!(entry.path, wanted.path);
        assert_eq!(entry.inode.metadata, wanted.inode.metadata, "{name}");
        assert!(entry.inode.node() == wanted.inode.node(), "{name}");
        assert_eq!(*pairs.entry(wanted.id).or_insert(entry.id), entry.id, "{name}");
    }
    assert!(found.next().is_none());
}

#[test]
fn reads_back_as_it_was() {
    let tree = wide();
    let bytes = archive(&tree);
    assert_eq!(bytes, archive(&tree));
    assert_same(&read_tree(&bytes[..], Limits::default()).unwrap(), &tree);
}

#[test]
fn gnu_tar_lists_it() {
    let text = run(
        "tar",
        "tar",
        &[
            "--list",
            "--verbose",
            "--verbose",
            "--numeric-owner",
            "--full-time",
            "--xattrs",
            "-f",
            "-",
        ],
        &archive(&wide()),
    );
    let lines: Vec<&str> = text.lines().collect();
    for expected in [
        "drwxr-xr-x  0/0               0 2020-09-13 12:26:40 ./",
        "-rwsr-xr-x  0/0              10 2020-09-13 12:26:40 bin/alias",
        "hrwsr-xr-x  0/0               0 2020-09-13 12:26:40 bin/tool link to bin/alias",
        "crw-rw-rw-  0/0             1,3 2020-09-13 12:26:40 dev/null",
        "brw-rw----  0/6         259,300 2020-09-13 12:26:40 dev/nvme0n1",
        "-rw-r-----  100000/65537  16000 2020-09-13 12:26:40 home/user/notes",
        "lrwxrwxrwx  0/0               0 2020-09-13 12:26:40 lib -> usr/lib",
        "prw-------  0/0               0 2020-09-13 12:26:40 run/pipe",
        "drwxrwxrwt  0/0               0 2020-09-13 12:26:40 tmp/",
    ] {
        let squeeze = |line: &str| line.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            lines.iter().any(|line| {
                // A mark says that there are attributes.
                let line = squeeze(line).replacen('*', "", 1);
                line == squeeze(expected) || line.replacen(".000000000", "", 1) == squeeze(expected)
            }),
            "{expected}\n{text}"
        );
    }
    assert!(text.contains("4000000000/2097152"), "{text}");
}

#[test]
fn gnu_tar_and_bsdtar_unpack_it() {
    let mut tree = everything_for_users();
    let long = format!("/{}/{}", "d".repeat(150), "f".repeat(120));
    put(
        &mut tree,
        &long,
        root_owned(0o600),
        Node::Regular(Content::from("x")),
    );
    for (package, program) in [("tar", "tar"), ("libarchive-tools", "bsdtar")] {
        let directory = tempfile::tempdir().unwrap();
        let place = directory.path().to_str().unwrap();
        run(
            package,
            program,
            &["-x", "-p", "-f", "-", "-C", place, "--no-same-owner"],
            &archive(&tree),
        );
        compare_directory(&tree, directory.path(), true);
    }
}

/// libarchive takes the seconds of -1.5 for -1 and a half more; GNU tar reads it as POSIX has it.
#[test]
fn gnu_tar_sets_times_before_1970() {
    let mut tree = Tree::new(root_owned(0o755));
    let mut metadata = root_owned(0o600);
    metadata.mtime = Timestamp {
        seconds: -2,
        nanoseconds: 500_000_000,
    };
    put(&mut tree, "/early", metadata, Node::Regular(Content::empty()));
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().to_str().unwrap();
    run("tar", "tar", &["-x", "-f", "-", "-C", place], &archive(&tree));
    let early = directory.path().join("early").metadata().unwrap();
    assert_eq!((early.mtime(), early.mtime_nsec()), (-2, 500_000_000));
}

/// What bsdtar understands of an archive, as the lines of an mtree specification by path.
fn mtree(bytes: &[u8]) -> BTreeMap<String, String> {
    let keywords = "!all,mode,uid,gid,size,time,link,type,device,sha256";
    let text = run(
        "libarchive-tools",
        "bsdtar",
        &[
            "-c",
            "-f",
            "-",
            "--format=mtree",
            &format!("--options={keywords}"),
            "@-",
        ],
        bytes,
    );
    text.lines()
        .filter(|line| line.starts_with("./") || line.starts_with(". "))
        .map(|line| {
            let (path, rest) = line.split_once(' ').unwrap_or((line, ""));
            (path.to_owned(), rest.to_owned())
        })
        .collect()
}

#[test]
fn bsdtar_reads_the_same() {
    let mut tree = wide();
    // Its text form of names that are no UTF-8 is its own affair.
    tree.remove(b"/home/user/\xff\xfe").unwrap();
    let found = mtree(&archive(&tree));
    // The root is not among the lines.
    assert_eq!(found.len(), tree.walk().count() - 1);
    let line = |path: &str| found[path].clone();
    assert!(line("./home/user/notes").contains("mode=640 gid=65537 uid=100000"));
    let deep = line(&format!("./deep/{}/{}", "d".repeat(200), "f".repeat(200)));
    assert!(deep.contains("uid=4000000000"), "{deep}");
    assert!(
        deep.contains("time=-1.500000000") || deep.contains("time=-2.500000000"),
        "{deep}"
    );
    assert!(deep.contains("size=7"), "{deep}");
    assert!(line("./far").contains(&"some/where/".repeat(100)));
    let device = line("./dev/nvme0n1");
    assert!(device.contains("type=block"), "{device}");
}

/// GNU tar gives back the attributes that it reads; as another user it may not, so its listing is asked.
#[test]
fn gnu_tar_sees_attributes() {
    let mut tree = Tree::new(root_owned(0o755));
    let mut metadata = root_owned(0o644);
    metadata.xattrs.insert(b"user.a=b%".to_vec(), vec![1; 300]);
    metadata
        .xattrs
        .insert(b"security.capability".to_vec(), vec![2; 20]);
    put(&mut tree, "/f", metadata, Node::Regular(Content::empty()));
    let text = run(
        "tar",
        "tar",
        &["-t", "-vv", "--xattrs", "--xattrs-include=*", "-f", "-"],
        &archive(&tree),
    );
    assert!(text.contains("x: 300 user.a=b%"), "{text}");
    assert!(text.contains("x: 20 security.capability"), "{text}");
}

#[test]
fn what_gnu_tar_writes_is_read() {
    let source = tempfile::tempdir().unwrap();
    let tree = everything_for_users();
    run(
        "tar",
        "tar",
        &[
            "-x",
            "-p",
            "-f",
            "-",
            "-C",
            source.path().to_str().unwrap(),
            "--no-same-owner",
        ],
        &archive(&tree),
    );
    for format in ["gnu", "pax", "ustar"] {
        let mut arguments = vec![
            "-c",
            "-f",
            "-",
            "--owner=0",
            "--group=0",
            "--sort=name",
            "-C",
            source.path().to_str().unwrap(),
        ];
        let option = format!("--format={format}");
        arguments.push(&option);
        // What the oldest format has no place for.
        let (far, wide) = ("--exclude=./far", "--exclude=./wide");
        if format == "ustar" {
            arguments.extend([far, wide, "--exclude=./home/user/n*"]);
        }
        arguments.push(".");
        let output = oracle::output("tar", "tar", &arguments, b"");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let found = read_tree(&output.stdout[..], Limits::default()).unwrap();
        let copy = tempfile::tempdir().unwrap();
        run(
            "tar",
            "tar",
            &[
                "-x",
                "-p",
                "-f",
                "-",
                "-C",
                copy.path().to_str().unwrap(),
                "--no-same-owner",
            ],
            &output.stdout,
        );
        compare_directory(&found, Path::new(copy.path()), true);
    }
}

#[test]
fn compressed_streams_unpack_to_it() {
    let tree = wide();
    let plain = archive(&tree);
    for compression in [
        Compression::None,
        Compression::Gzip { level: 6 },
        Compression::zstd(3),
        Compression::xz_for_kernel(Branches::None),
    ] {
        let (bytes, written) = write_compressed(Vec::new(), &tree, &WHOLE, &compression, 2).unwrap();
        assert_eq!(written.bytes as usize, plain.len());
        match compression.format() {
            None => assert!(bytes == plain),
            Some(_) => assert!(decompress(&bytes, 1 << 24).unwrap() == plain),
        }
    }
}

#[test]
fn sockets_and_the_root_are_asked_about() {
    let tree = everything();
    let refused = write_tree(&mut Vec::new(), &tree, &WHOLE);
    assert!(
        matches!(refused, Err(TarError::Entry { ref path, .. }) if path == "run/socket"),
        "{refused:?}"
    );
    let mut bytes = Vec::new();
    let options = Options {
        sockets: Sockets::Drop,
        root: false,
    };
    let written = write_tree(&mut bytes, &tree, &options).unwrap();
    assert_eq!(written.dropped_sockets, 1);
    assert_eq!(written.members as usize, tree.walk().count() - 2);
}

#[test]
fn members_one_by_one() {
    let mut writer = Writer::new(Vec::new());
    let empty = Node::Regular(Content::empty());
    writer
        .member(b"etc/.wh.gone", &root_owned(0), Item::Node(&empty))
        .unwrap();
    writer
        .member(
            b"/etc/again",
            &root_owned(0o644),
            Item::HardLink(b"/etc/.wh.gone"),
        )
        .unwrap();
    for (path, item) in [
        (&b"a\0b"[..], Item::Directory),
        (b"", Item::Node(&empty)),
        (b"link", Item::Node(&Node::Symlink(Vec::new()))),
        (
            b"device",
            Item::Node(&Node::CharDevice(Device {
                major: 1 << 21,
                minor: 0,
            })),
        ),
    ] {
        assert!(writer.member(path, &root_owned(0o644), item).is_err());
    }
    let (bytes, written) = writer.finish().unwrap();
    assert_eq!(written.members, 2);
    let mut archive = Archive::new(&bytes[..], Limits::default());
    let first = archive.next_member().unwrap().unwrap();
    assert_eq!(first.path, b"etc/.wh.gone");
    let second = archive.next_member().unwrap().unwrap();
    assert_eq!(second.member, Member::HardLink(b"etc/.wh.gone".to_vec()));
    assert!(archive.next_member().unwrap().is_none());
}

#[test]
fn hostile_archives_are_refused() {
    let refused = |members: &[(&[u8], Item<'_>)]| {
        let mut writer = Writer::new(Vec::new());
        for (path, item) in members {
            writer.member(path, &root_owned(0o644), *item).unwrap();
        }
        read_tree(&writer.finish().unwrap().0[..], Limits::default()).unwrap_err()
    };
    let file = Node::Regular(Content::from("x"));
    let out = Node::Symlink(b"/".to_vec());
    refused(&[(b"../up", Item::Node(&file))]);
    refused(&[(b"a/../../up", Item::Node(&file))]);
    refused(&[(b"link", Item::Node(&out)), (b"link/etc", Item::Node(&file))]);
    refused(&[(b"file", Item::Node(&file)), (b"file/below", Item::Node(&file))]);
    refused(&[(b"hard", Item::HardLink(b"nothing"))]);
    refused(&[(b"hard", Item::HardLink(b"../../etc/passwd"))]);
    let bytes = archive(&wide());
    for (members, bytes_held) in [(3, 1 << 30), (1 << 20, 100)] {
        let limits = Limits {
            members,
            bytes: bytes_held,
        };
        assert!(matches!(
            read_tree(&bytes[..], limits),
            Err(TarError::Limit { .. })
        ));
    }
}

fn random_tree() -> impl Strategy<Value = Tree> {
    let name = proptest::collection::vec(prop_oneof![4 => b'a'..=b'd', 1 => 1u8..=255], 1..120)
        .prop_map(|name| {
            name.into_iter()
                .map(|byte| if byte == b'/' { b'_' } else { byte })
                .collect::<Vec<u8>>()
        })
        .prop_filter("dots", |name| name != b"." && name != b"..");
    let path = proptest::collection::vec(name, 1..4).prop_map(|parts| {
        parts
            .iter()
            .flat_map(|part| [b"/".as_slice(), part].concat())
            .collect::<Vec<u8>>()
    });
    let node = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..2000)
            .prop_map(|bytes| Some(Node::Regular(Content::from(bytes)))),
        proptest::collection::vec(1u8..=255, 1..300).prop_map(|text| Some(Node::Symlink(text))),
        (0u32..1 << 21, 0u32..1 << 21)
            .prop_map(|(major, minor)| Some(Node::CharDevice(Device { major, minor }))),
        Just(Some(Node::Fifo)),
        Just(None),
    ];
    let metadata = (
        0u16..0o10000,
        any::<u32>(),
        any::<u32>(),
        -5_000_000_000i64..20_000_000_000,
        0u32..1_000_000_000,
    )
        .prop_map(|(mode, uid, gid, seconds, nanoseconds)| {
            Metadata::new(mode, Timestamp { seconds, nanoseconds }).owned_by(uid, gid)
        });
    let xattrs = proptest::collection::btree_map(
        proptest::collection::vec(1u8..=255, 1..40),
        proptest::collection::vec(any::<u8>(), 0..200),
        0..3,
    );
    proptest::collection::vec((path, metadata, xattrs, node, any::<bool>()), 0..30).prop_map(|entries| {
        let mut tree = Tree::new(root_owned(0o755));
        for (at, (path, mut metadata, xattrs, node, link)) in entries.into_iter().enumerate() {
            metadata.xattrs = xattrs;
            if let Some(slash) = path.iter().rposition(|&byte| byte == b'/') {
                // Parents that are there as something else make the entry impossible.
                if tree.make_directories(&path[..slash], root_owned(0o700)).is_err() {
                    continue;
                }
            }
            let added = match node {
                None => tree.make_directory(&path, metadata),
                Some(node) => tree.insert(&path, metadata, node),
            };
            if let (Ok(id), true) = (added, link) {
                let _ = tree.link(id, format!("/zz-link-{at}").as_bytes());
            }
        }
        tree
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_trees_read_back(tree in random_tree()) {
        let bytes = archive(&tree);
        assert_same(&read_tree(&bytes[..], Limits::default()).unwrap(), &tree);
    }

    #[test]
    fn damaged_archives_do_no_harm(at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let mut bytes = archive(&wide());
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
        let limits = Limits { members: 100, bytes: 1 << 20 };
        let _ = read_tree(&bytes[..], limits);
    }
}
