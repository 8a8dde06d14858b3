//! Random trees survive squashfs, and damaged images do no harm.

#![allow(clippy::unwrap_used)]

mod squashfs_support;

use std::io::Cursor;

use lycia_media::squashfs::{Bcj, Compressor, Image, Limits, Options};
use lycia_tree::{Device, Metadata, Node, Timestamp, Tree};
use proptest::collection::vec;
use proptest::prelude::*;
use squashfs_support::*;

#[derive(Clone, Debug)]
enum Step {
    Directory,
    File { kind: u8, seed: u64, len: usize },
    Link(usize),
    Symlink(Vec<u8>),
    Device(bool, u32, u32),
    Fifo,
    Socket,
}

#[derive(Clone, Debug)]
struct Make {
    above: usize,
    name: Vec<u8>,
    step: Step,
    mode: u16,
    owner: (u32, u32),
    seconds: i64,
    xattrs: Vec<(u8, u8, usize)>,
}

/// Bytes that unsquashfs writes as they are, of which some are not UTF-8.
fn name() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        8 => prop::sample::select(b"abcz019_-+,.~!%&()*:;<=>?@[]^{}|".to_vec()),
        1 => 0x80..=0xffu8,
    ];
    prop_oneof![
        6 => vec(byte.clone(), 1..12),
        1 => vec(byte, 200..256),
    ]
    .prop_filter("not `.`, `..` or a comment of unsquashfs", |name| {
        !matches!(&name[..], b"." | b"..") && name[0] != b'#'
    })
}

fn length() -> impl Strategy<Value = usize> {
    prop_oneof![
        Just(0),
        1..200usize,
        (0..4usize, 0..3usize).prop_map(|(blocks, off)| (blocks * 4096 + off).saturating_sub(1)),
        0..30_000usize,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => Just(Step::Directory),
        6 => (0..4u8, 0..6u64, length()).prop_map(|(kind, seed, len)| Step::File { kind, seed, len }),
        2 => any::<usize>().prop_map(Step::Link),
        1 => vec(prop::sample::select(b"ab/.\xff".to_vec()), 1..300).prop_map(Step::Symlink),
        1 => (any::<bool>(), 0..4096u32, 0..1_048_576u32).prop_map(|(kind, major, minor)| Step::Device(kind, major, minor)),
        1 => Just(Step::Fifo),
        1 => Just(Step::Socket),
    ]
}

fn make() -> impl Strategy<Value = Make> {
    (
        any::<usize>(),
        name(),
        step(),
        0..0o10000u16,
        (
            prop::sample::select(vec![0, 1, 1000, 65_535, 65_536, u32::MAX]),
            0..5u32,
        ),
        prop_oneof![Just(-1i64), 0..2_000_000_000i64, Just(1 << 33)],
        prop_oneof![3 => Just(Vec::new()), 1 => vec((0..3u8, 0..4u8, 0..40usize), 1..4)],
    )
        .prop_map(|(above, name, step, mode, owner, seconds, xattrs)| Make {
            above,
            name,
            step,
            mode,
            owner,
            seconds,
            xattrs,
        })
}

fn grow(makes: &[Make]) -> Tree {
    let mut tree = root();
    let mut directories = vec![Vec::new()];
    let mut others = Vec::new();
    for make in makes {
        let mut path: Vec<u8> = directories[make.above % directories.len()].clone();
        path.push(b'/');
        path.extend_from_slice(&make.name);
        let taken = tree
            .find(&path, lycia_tree::Follow::Parents)
            .unwrap_or(None)
            .is_some();
        if taken || path.len() > 3000 {
            continue;
        }
        let mut metadata = Metadata::new(make.mode, Timestamp::from_seconds(make.seconds))
            .owned_by(make.owner.0, make.owner.1);
        for (prefix, name, len) in &make.xattrs {
            let prefix = ["user.", "trusted.", "security."][usize::from(*prefix)];
            metadata
                .xattrs
                .insert(format!("{prefix}{name}").into_bytes(), noise(*len as u64, *len));
        }
        let device = |major, minor| Device { major, minor };
        let node = match &make.step {
            Step::Directory => {
                tree.make_directory(&path, metadata).unwrap();
                directories.push(path);
                continue;
            }
            Step::Link(which) if !others.is_empty() => {
                tree.link(others[which % others.len()], &path).unwrap();
                continue;
            }
            Step::Link(_) | Step::Fifo => Node::Fifo,
            Step::Socket => Node::Socket,
            Step::Symlink(target) => Node::Symlink(target.clone()),
            Step::Device(true, major, minor) => Node::CharDevice(device(*major, *minor)),
            Step::Device(false, major, minor) => Node::BlockDevice(device(*major, *minor)),
            Step::File { kind, seed, len } => {
                let bytes = match kind {
                    0 => vec![0; *len],
                    1 => noise(*seed, *len),
                    2 => text(*seed, *len),
                    _ => {
                        let mut bytes = text(*seed, *len);
                        let holes = bytes.len().min(4096)..bytes.len().min(3 * 4096);
                        bytes[holes].fill(0);
                        bytes
                    }
                };
                Node::Regular(bytes.into())
            }
        };
        others.push(tree.insert(&path, metadata, node).unwrap());
    }
    tree
}

fn options() -> impl Strategy<Value = Options> {
    let compressor = prop_oneof![
        Just(Compressor::Zstd { level: 2 }),
        Just(Compressor::Gzip { level: 5 }),
        Just(Compressor::Lz4 { level: 9 }),
        Just(Compressor::Xz {
            preset: 0,
            bcj: Bcj::X86
        }),
    ];
    let block_size = prop_oneof![3 => Just(4096u32), 1 => Just(131_072)];
    (compressor, block_size, any::<bool>(), 1..4usize).prop_map(
        |(compressor, block_size, tail_ends, jobs)| Options {
            compressor,
            block_size,
            tail_ends,
            jobs,
            ..Options::default()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn trees_survive(makes in vec(make(), 0..60), options in options()) {
        let tree = grow(&makes);
        let (bytes, _) = image(&tree, &options);
        assert_same(&tree, &read(&bytes));
        assert_unsquashfs_agrees(&tree, &bytes);
    }
}

/// Reads all that can be read; anything but a panic is right.
fn probe(bytes: &[u8]) {
    let limits = Limits {
        entries: 20_000,
        content_bytes: 8 << 20,
    };
    if let Ok(mut image) = Image::open(Cursor::new(bytes)) {
        let _ = image.check(&limits, &|_| {});
        let _ = image.tree(&limits);
    }
}

/// Images whose metadata is stored as it is, so that damage reaches the records, and ordinary ones.
fn victims() -> Vec<Vec<u8>> {
    let small = |compressor, number: u64| {
        let mut tree = root();
        let id = tree
            .insert(
                b"file",
                Metadata::new(0o644, Timestamp::from_seconds(number as i64)),
                Node::Regular(noise(number, 5000).into()),
            )
            .unwrap();
        tree.metadata_mut(id)
            .xattrs
            .insert(b"user.a".to_vec(), noise(1, 9));
        tree.make_directory(b"d", metadata(0o700)).unwrap();
        tree.link(id, b"d/link").unwrap();
        if number > 0 {
            tree.insert(b"s", metadata(0o777), Node::Symlink(noise(3, 20)))
                .unwrap();
        }
        let options = Options {
            compressor,
            block_size: 4096,
            jobs: 1,
            padding: 1,
            ..Options::default()
        };
        image(&tree, &options).0
    };
    let xz = Compressor::Xz {
        preset: 0,
        bcj: Bcj::None,
    };
    let mut large = root();
    for number in 0..600 {
        file(
            &mut large,
            &format!("{}/{number}", number % 3),
            text(number, number as usize * 20),
        );
    }
    let gzip = Options {
        compressor: Compressor::Gzip { level: 1 },
        block_size: 4096,
        jobs: 1,
        ..Options::default()
    };
    vec![
        small(xz, 0),
        small(xz, 1),
        small(Compressor::Zstd { level: 1 }, 2),
        image(&large, &gzip).0,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_images_do_no_harm(
        which in 0..4usize,
        // In the superblock, anywhere before the end, or counted from the end, where the tables are.
        damage in vec((0..3u8, any::<u32>(), prop_oneof![any::<u8>(), Just(0), Just(0xff), Just(1)], 1..9usize), 1..4),
    ) {
        use std::sync::OnceLock;
        static VICTIMS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        let mut bytes = VICTIMS.get_or_init(victims)[which].clone();
        let len = bytes.len();
        for (place, at, value, count) in damage {
            let at = match place {
                0 => at as usize % 96,
                1 => at as usize % len,
                _ => len - 1 - at as usize % 500.min(len),
            };
            let end = (at + count).min(len);
            bytes[at..end].fill(value);
        }
        probe(&bytes);
    }

    #[test]
    fn invented_superblocks_do_no_harm(
        fields in vec(prop_oneof![any::<u64>(), 0..4096u64, Just(96), Just(u64::MAX)], 8),
        counts in vec(prop_oneof![any::<u32>(), 0..10u32], 3),
        compression in 0..8u16,
        log in 11..22u32,
        flags: u16,
        rest in vec(any::<u8>(), 0..3000),
    ) {
        let mut bytes = b"hsqs".to_vec();
        for value in [counts[0], counts[1], 1 << log, counts[2]] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        for value in [compression, log as u16, flags, counts[0] as u16, 4, 0] {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        for value in fields {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        bytes.extend_from_slice(&rest);
        probe(&bytes);
    }
}
