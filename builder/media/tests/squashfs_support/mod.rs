//! Trees for the squashfs tests, and what other programs say of images.

#![allow(clippy::unwrap_used, dead_code)]

use std::collections::{BTreeMap, HashMap};
use std::io::{Cursor, Write};
use std::path::Path;
use std::process::{Command, Output};

use lycia_media::squashfs::{self, Bcj, Compressor, Image, Limits, Options, Summary};
use lycia_tree::{Device, Follow, InodeId, Kind, Metadata, Node, Timestamp, Tree};

pub const T0: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};

pub fn metadata(mode: u16) -> Metadata {
    Metadata::new(mode, T0)
}

pub fn root() -> Tree {
    Tree::new(metadata(0o755))
}

pub fn file(tree: &mut Tree, path: &str, content: impl Into<Vec<u8>>) -> InodeId {
    tree.write(path.as_bytes(), metadata(0o644), content.into().into())
        .unwrap()
}

/// The image of a tree.
pub fn image(tree: &Tree, options: &Options) -> (Vec<u8>, Summary) {
    let mut out = Cursor::new(Vec::new());
    let summary = squashfs::write(tree, options, &mut out, &|_, _| {}).unwrap();
    let bytes = out.into_inner();
    assert_eq!(bytes.len() as u64, summary.bytes);
    (bytes, summary)
}

/// What our reader makes of an image, after a check that finds nothing.
pub fn read(bytes: &[u8]) -> Tree {
    let mut image = Image::open(Cursor::new(bytes)).unwrap();
    let report = image.check(&Limits::default(), &|_| {}).unwrap();
    assert_eq!(report.faults, Vec::<String>::new());
    image.tree(&Limits::default()).unwrap()
}

/// Everything about a name that squashfs keeps: path, first name of its inode, mode, owners, seconds,
/// attributes, what it is (`None`: a directory).
#[derive(PartialEq, Eq)]
pub struct Line {
    pub path: Vec<u8>,
    pub first: Vec<u8>,
    pub mode: u16,
    pub owner: (u32, u32),
    pub seconds: i64,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    pub node: Option<Node>,
}

impl std::fmt::Debug for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [path, first] = [&self.path, &self.first].map(|path| lycia_tree::display(path));
        let Line {
            mode, owner, seconds, ..
        } = self;
        write!(
            f,
            "{path} ({first}) {mode:o} {owner:?} {seconds} {:?} {:?}",
            self.xattrs, self.node
        )
    }
}

pub fn lines(tree: &Tree) -> Vec<Line> {
    let mut first: HashMap<InodeId, Vec<u8>> = HashMap::new();
    tree.walk()
        .map(|entry| {
            let metadata = &entry.inode.metadata;
            Line {
                first: first.entry(entry.id).or_insert(entry.path.clone()).clone(),
                path: entry.path,
                mode: metadata.mode,
                owner: (metadata.uid, metadata.gid),
                seconds: metadata.mtime.seconds.clamp(0, i64::from(u32::MAX)),
                xattrs: metadata.xattrs.clone(),
                node: match entry.inode.kind() {
                    Kind::Node(node) => Some(node.clone()),
                    Kind::Directory { .. } => None,
                },
            }
        })
        .collect()
}

/// That two trees are the same to squashfs.
pub fn assert_same(left: &Tree, right: &Tree) {
    let (left, right) = (lines(left), lines(right));
    for (left, right) in left.iter().zip(&right) {
        assert_eq!(left, right);
    }
    assert_eq!(left.len(), right.len());
}

/// Runs a program that must be there, succeed and complain about nothing.
pub fn run(package: &str, program: &str, arguments: &[&[u8]]) -> Output {
    use std::os::unix::ffi::OsStrExt;
    let output = Command::new(program)
        .args(arguments.iter().map(|bytes| std::ffi::OsStr::from_bytes(bytes)))
        .env("TZ", "UTC")
        .output()
        .unwrap_or_else(|error| panic!("{program} cannot be run ({error}): install Debian's {package}"));
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{program}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

pub fn unsquashfs(arguments: &[&[u8]]) -> Vec<u8> {
    run("squashfs-tools", "unsquashfs", arguments).stdout
}

/// A directory with the image in it as `image`.
pub fn saved(bytes: &[u8]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::File::create(directory.path().join("image"))
        .unwrap()
        .write_all(bytes)
        .unwrap();
    directory
}

fn path_bytes(path: &Path) -> Vec<u8> {
    use std::os::unix::ffi::OsStrExt;
    path.as_os_str().as_bytes().to_vec()
}

/// Compares what unsquashfs makes of an image, contents and all, with its tree. Names must be free of
/// white space, quotes and backslashes, which it writes in a way of its own. It does not say attributes.
pub fn assert_unsquashfs_agrees(tree: &Tree, bytes: &[u8]) {
    let directory = saved(bytes);
    let image = path_bytes(&directory.path().join("image"));
    let dump = directory.path().join("dump");
    unsquashfs(&[b"-no-progress", b"-pf", &path_bytes(&dump), &image]);
    let dump = std::fs::read(&dump).unwrap();
    let mark = b"#\n# START OF DATA - DO NOT MODIFY\n#\n";
    let (text, data) = match dump.windows(mark.len()).position(|window| window == mark) {
        Some(at) => (&dump[..at], &dump[at + mark.len()..]),
        None => (&dump[..], &[][..]),
    };
    let mut found = text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    for line in lines(tree) {
        let mut wanted = match &line.path[1..] {
            b"" => b"/".to_vec(),
            path => path.to_vec(),
        };
        if line.first != line.path {
            wanted.extend_from_slice(b" L ");
            wanted.extend_from_slice(&line.first[1..]);
        } else {
            let letter = match &line.node {
                None => 'D',
                Some(Node::Regular(_)) => 'R',
                Some(Node::Symlink(_)) => 'S',
                Some(Node::CharDevice(_)) => 'C',
                Some(Node::BlockDevice(_)) => 'B',
                Some(Node::Fifo | Node::Socket) => 'I',
            };
            // It writes owners with a sign.
            let (uid, gid) = (line.owner.0 as i32, line.owner.1 as i32);
            let (seconds, mode) = (line.seconds, line.mode);
            wanted.extend_from_slice(format!(" {letter} {seconds} {mode:o} {uid} {gid}").as_bytes());
            match &line.node {
                Some(Node::Symlink(target)) => {
                    wanted.push(b' ');
                    wanted.extend_from_slice(target);
                }
                // It splits the packed number after 8 bits as Linux did before 2.6, and with a sign.
                Some(Node::CharDevice(device) | Node::BlockDevice(device)) => {
                    let packed = (device.minor & 0xff) | device.major << 8 | (device.minor >> 8) << 20;
                    wanted.extend_from_slice(format!(" {} {}", packed as i32 >> 8, packed & 0xff).as_bytes());
                }
                Some(Node::Fifo) => wanted.extend_from_slice(b" f"),
                Some(Node::Socket) => wanted.extend_from_slice(b" s"),
                Some(Node::Regular(content)) => {
                    let line = found.next().unwrap();
                    let numbers = line.strip_prefix(&wanted[..]).unwrap_or_else(|| {
                        panic!(
                            "unsquashfs says {}, not {}",
                            line.escape_ascii(),
                            wanted.escape_ascii()
                        )
                    });
                    let numbers: Vec<usize> = std::str::from_utf8(numbers)
                        .unwrap()
                        .split_ascii_whitespace()
                        .map(|number| number.parse().unwrap())
                        .collect();
                    assert_eq!(numbers[0] as u64, content.len(), "{}", line.escape_ascii());
                    assert!(
                        data[numbers[1]..][..numbers[0]] == *content.bytes(),
                        "unsquashfs reads another content of {}",
                        line.escape_ascii()
                    );
                    continue;
                }
                None => {}
            }
        }
        let line = found.next().unwrap_or_default();
        assert_eq!(line.escape_ascii().to_string(), wanted.escape_ascii().to_string());
    }
    let left: Vec<_> = found
        .filter(|line| !line.starts_with(b"#"))
        .map(|line| line.escape_ascii().to_string())
        .collect();
    assert_eq!(left, Vec::<String>::new());
}

/// What rdsquashfs, which shares no code with squashfs-tools, says the attributes of a path are.
pub fn rdsquashfs_xattrs(image: &Path, path: &str) -> Vec<u8> {
    run(
        "squashfs-tools-ng",
        "rdsquashfs",
        &[b"-x", path.as_bytes(), &path_bytes(image)],
    )
    .stdout
}

/// Bytes that no compressor shrinks, the same for the same seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let mixed = (state ^ state >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bytes.extend_from_slice(&(mixed ^ mixed >> 32).to_le_bytes()[..4]);
    }
    bytes.truncate(len);
    bytes
}

/// Text that shrinks to about a third.
pub fn text(seed: u64, len: usize) -> Vec<u8> {
    let words = noise(seed, len / 4 + 1);
    let mut bytes = Vec::with_capacity(len + 16);
    for word in words {
        bytes.extend_from_slice(format!("word{} ", u32::from(word) * 7919 % 211).as_bytes());
        if bytes.len() >= len {
            break;
        }
    }
    bytes.truncate(len);
    bytes
}

/// Every compressor, and levels that differ.
pub const COMPRESSORS: [Compressor; 7] = [
    Compressor::Zstd { level: 15 },
    Compressor::Zstd { level: 3 },
    Compressor::Gzip { level: 6 },
    Compressor::Xz {
        preset: 6,
        bcj: Bcj::None,
    },
    Compressor::Xz {
        preset: 6,
        bcj: Bcj::X86,
    },
    Compressor::Lz4 { level: 1 },
    Compressor::Lz4 { level: 12 },
];

/// Fast and with small blocks, so that small contents have many.
pub fn quick() -> Options {
    Options {
        compressor: Compressor::Zstd { level: 3 },
        block_size: 4096,
        jobs: 2,
        ..Options::default()
    }
}

/// One of everything.
pub fn menagerie() -> Tree {
    let mut tree = root();
    let mut put = |path: &str, metadata: Metadata, node: Node| {
        tree.insert(path.as_bytes(), metadata, node).unwrap();
    };
    let device = |major, minor| Device { major, minor };
    put("char", metadata(0o620), Node::CharDevice(device(5, 1)));
    put("block", metadata(0o660), Node::BlockDevice(device(8, 300)));
    put(
        "large-numbers",
        metadata(0),
        Node::CharDevice(device(4095, 1_048_575)),
    );
    put("fifo", metadata(0o600), Node::Fifo);
    put("socket", metadata(0o777), Node::Socket);
    put("link", metadata(0o777), Node::Symlink(b"target".to_vec()));
    put("long-link", metadata(0o777), Node::Symlink(vec![b'l'; 4095]));
    put(
        "setuid",
        metadata(0o4755),
        Node::Regular(b"program".as_slice().into()),
    );
    put("empty", metadata(0o644), Node::Regular(b"".as_slice().into()));
    put(
        "owned",
        metadata(0o640).owned_by(4_000_000_000, 65_537),
        Node::Regular(b"x".as_slice().into()),
    );
    let old = Metadata::new(0o644, Timestamp::from_seconds(-5));
    put("before-1970", old, Node::Regular(b"old".as_slice().into()));
    let new = Metadata::new(0o644, Timestamp::from_seconds(1 << 40));
    put("after-2106", new, Node::Regular(b"new".as_slice().into()));
    tree.make_directories(b"a/b/c", metadata(0o750)).unwrap();
    tree.make_directory(b"sticky", metadata(0o1777)).unwrap();
    for (name, len) in [("text", 300_000), ("a/b/c/small", 1000), ("a/tail", 140_000)] {
        file(&mut tree, name, text(len as u64, len));
    }
    file(&mut tree, "noise", noise(1, 150_000));
    let holes = [text(9, 200_000), vec![0; 500_000], text(10, 100)].concat();
    file(&mut tree, "a/holes", holes);
    file(&mut tree, "a/zeros", vec![0; 131_072 * 2]);
    for (old, new) in [
        ("text", "a/text-again"),
        ("link", "a/link-again"),
        ("char", "char-again"),
        ("fifo", "a/b/fifo-again"),
        ("socket", "socket-again"),
        ("empty", "empty-again"),
    ] {
        let id = tree.resolve(old.as_bytes(), Follow::Parents).unwrap();
        tree.link(id, new.as_bytes()).unwrap();
    }
    // Every kind with attributes, and attributes of every prefix.
    for (number, path) in [
        "/",
        "char",
        "fifo",
        "socket",
        "link",
        "setuid",
        "a",
        "a/b/c/small",
        "block",
    ]
    .iter()
    .enumerate()
    {
        let id = tree.resolve(path.as_bytes(), Follow::Parents).unwrap();
        let xattrs = &mut tree.metadata_mut(id).xattrs;
        xattrs.insert(b"security.capability".to_vec(), b"shared by many, once".to_vec());
        xattrs.insert(b"user.number".to_vec(), vec![b'0' + number as u8]);
        if number % 2 == 0 {
            xattrs.insert(b"trusted.x".to_vec(), b"shared by many, once".to_vec());
        }
    }
    tree
}
