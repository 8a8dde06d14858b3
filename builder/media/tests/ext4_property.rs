//! ext4: random trees on random volumes are clean for e2fsck and read back as they were.

#![allow(clippy::unwrap_used)]

mod ext4_support;
mod oracle;

use ext4_support::{check, compare_trees, read_back, volume, written};
use lycia_media::ext4::{BlockSize, Existing, Inodes, Journal, Volume, fitting_size};
use lycia_media::partition::Guid;
use lycia_tree::{Content, Device, Metadata, Node, Timestamp, Tree};
use oracle::root_owned;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![6 => b'a'..=b'e', 1 => 1u8..=255], 1..40)
        .prop_map(|name| {
            name.into_iter()
                .map(|byte| if byte == b'/' { b'_' } else { byte })
                .collect()
        })
        .prop_filter("dots", |name: &Vec<u8>| name != b"." && name != b"..")
}

fn content() -> impl Strategy<Value = Content> {
    (any::<u8>(), 0usize..40_000, any::<bool>()).prop_map(|(byte, len, holes)| {
        let mut bytes = vec![byte; len];
        if holes {
            for part in bytes.chunks_mut(4096).skip(1).step_by(2) {
                part.fill(0);
            }
        }
        Content::from(bytes)
    })
}

fn node() -> impl Strategy<Value = Option<Node>> {
    prop_oneof![
        4 => content().prop_map(|content| Some(Node::Regular(content))),
        2 => proptest::collection::vec(1u8..=255, 1..1000).prop_map(|text| Some(Node::Symlink(text))),
        1 => (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Some(Node::CharDevice(Device { major, minor }))),
        1 => (0u32..4096, 0u32..1 << 20).prop_map(|(major, minor)| Some(Node::BlockDevice(Device { major, minor }))),
        1 => Just(Some(Node::Fifo)),
        1 => Just(Some(Node::Socket)),
        3 => Just(None),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let xattr = (
        prop_oneof![Just("user."), Just("security."), Just("trusted.")],
        proptest::collection::vec(1u8..=255, 1..30),
        proptest::collection::vec(any::<u8>(), 0..200),
    )
        .prop_map(|(prefix, name, value)| ([prefix.as_bytes(), &name].concat(), value));
    (
        0u16..0o10000,
        any::<u32>(),
        any::<u32>(),
        -2_147_483_648i64..10_737_418_240,
        0u32..1_000_000_000,
        proptest::collection::vec(xattr, 0..4),
    )
        .prop_map(|(mode, uid, gid, seconds, nanoseconds, xattrs)| {
            let mut metadata = Metadata::new(mode, Timestamp { seconds, nanoseconds }).owned_by(uid, gid);
            metadata.xattrs = xattrs.into_iter().collect();
            metadata
        })
}

fn tree() -> impl Strategy<Value = Tree> {
    let path = proptest::collection::vec(name(), 1..5);
    proptest::collection::vec((path, metadata(), node(), 0u32..5), 0..60).prop_map(|entries| {
        let mut tree = Tree::new(root_owned(0o755));
        for (at, (parts, metadata, node, links)) in entries.into_iter().enumerate() {
            let path: Vec<u8> = parts
                .iter()
                .flat_map(|part| [b"/", part.as_slice()].concat())
                .collect();
            let above = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            // What has become a file cannot hold anything.
            if tree.make_directories(&path[..above], root_owned(0o700)).is_err() {
                continue;
            }
            let added = match node {
                None => tree.make_directory(&path, metadata),
                Some(node) => tree.insert(&path, metadata, node),
            };
            if let Ok(id) = added {
                for link in 0..links {
                    let _ = tree.link(id, format!("/zz-{at}-{link}").as_bytes());
                }
            }
        }
        // A directory with many names, so that some trees have an index.
        for at in 0..tree.inode_count() % 7 * 60 {
            let path = format!("/index/{at}-{}", "x".repeat(at % 90));
            tree.make_directories(b"/index", root_owned(0o755)).unwrap();
            tree.insert(path.as_bytes(), root_owned(0o644), Node::Fifo)
                .unwrap();
        }
        tree
    })
}

fn options() -> impl Strategy<Value = Volume> {
    (
        prop_oneof![
            Just(BlockSize::B1024),
            Just(BlockSize::B2048),
            Just(BlockSize::B4096)
        ],
        prop_oneof![
            Just(Journal::None),
            Just(Journal::BySize),
            Just(Journal::Blocks(1500))
        ],
        prop_oneof![
            Just(Inodes::BySize),
            (1024u32..1 << 20).prop_map(Inodes::PerBytes),
            (0u32..3000).prop_map(Inodes::Count)
        ],
        any::<[bool; 4]>(),
        0u16..=500,
        proptest::collection::vec(1u8..=255, 0..=16),
        any::<[u8; 16]>(),
    )
        .prop_map(
            |(block_size, journal, inodes, [checksums, wide, growth, zeros], reserved, label, bytes)| {
                Volume {
                    block_size,
                    journal,
                    inodes,
                    checksums,
                    wide,
                    growth,
                    existing: if zeros { Existing::Zeros } else { Existing::Unknown },
                    reserved_per_mille: reserved,
                    label,
                    uuid: Guid::from_bytes(bytes),
                    hash_seed: Guid::from_bytes(bytes.map(|byte| byte.wrapping_mul(31))),
                    ..volume(0)
                }
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn random_trees_are_clean(tree in tree(), options in options(), spare in 0u64..20 << 20, odd in 0u64..5000) {
        let mut volume = options;
        volume.size = fitting_size(&tree, &volume, spare).unwrap() + odd;
        let image = written(&tree, &volume);
        check(&image);
        compare_trees(&tree, &read_back(&image));
    }
}
