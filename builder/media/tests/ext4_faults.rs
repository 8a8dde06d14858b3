//! ext4: what cannot be written, disks that fail, and volumes that are damaged.

#![allow(clippy::unwrap_used)]

mod ext4_support;
mod oracle;

use std::io::{self, Cursor, Seek, SeekFrom, Write};

use ext4_support::{compare_trees, many, tree_with_xattrs, volume};
use lycia_media::ext4::{
    BlockSize, Existing, Ext4Error, Inodes, Journal, Limits, Plan, ReadError, Reader, Volume, write,
};
use lycia_tree::{Content, Device, Metadata, Node, Timestamp, Tree};
use oracle::{put, root_owned};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

#[test]
fn what_does_not_fit_is_refused() {
    let with_time = |seconds| {
        move |tree: &mut Tree| {
            let metadata = Metadata::new(0o644, Timestamp::from_seconds(seconds));
            put(tree, "/x", metadata, Node::Fifo);
        }
    };
    let with_xattr = |name: &'static str, len: usize| {
        move |tree: &mut Tree| {
            let mut metadata = root_owned(0o644);
            metadata.xattrs.insert(name.as_bytes().to_vec(), vec![3; len]);
            put(tree, "/x", metadata, Node::Fifo);
        }
    };
    let node = |node: Node| move |tree: &mut Tree| put(tree, "/x", root_owned(0o644), node.clone());
    type Case = (&'static str, Box<dyn Fn(&mut Tree)>);
    let cases: Vec<Case> = vec![
        ("1901 to 2310", Box::new(with_time(-2_147_483_649))),
        ("1901 to 2310", Box::new(with_time(10_737_418_240))),
        ("has no place for", Box::new(with_xattr("odd.name", 1))),
        ("has no place for", Box::new(with_xattr("user.", 1))),
        (
            "is no POSIX ACL",
            Box::new(with_xattr("system.posix_acl_access", 13)),
        ),
        (
            "one block of 4096 is all",
            Box::new(with_xattr("user.large", 4096)),
        ),
        (
            "beyond 4095:1048575",
            Box::new(node(Node::CharDevice(Device {
                major: 4096,
                minor: 0,
            }))),
        ),
        ("without text", Box::new(node(Node::Symlink(Vec::new())))),
        (
            "does not fit into a block",
            Box::new(node(Node::Symlink(vec![b'x'; 4096]))),
        ),
        (
            "ext4 needs a directory",
            Box::new(|tree: &mut Tree| put(tree, "/lost+found", root_owned(0o644), Node::Fifo)),
        ),
    ];
    for (expected, add) in cases {
        let mut tree = many(2);
        add(&mut tree);
        let error = Plan::new(&tree, &volume(20 * MIB)).err().unwrap();
        assert!(matches!(error, Ext4Error::Entry { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
}

#[test]
fn the_longest_that_fits_is_written() {
    let mut tree = many(2);
    let mut metadata = root_owned(0o644);
    // A block less its header, the entry's, the name and the end of the list.
    metadata
        .xattrs
        .insert(b"user.l".to_vec(), vec![3; 4096 - 32 - 16 - 4 - 4]);
    put(&mut tree, "/x", metadata, Node::Fifo);
    put(
        &mut tree,
        "/l",
        root_owned(0o777),
        Node::Symlink(vec![b'x'; 4095]),
    );
    put(&mut tree, "/s", root_owned(0o777), Node::Symlink(vec![b'x'; 59]));
    put(&mut tree, "/t", root_owned(0o777), Node::Symlink(vec![b'x'; 60]));
    let image = ext4_support::written(&tree, &volume(20 * MIB));
    ext4_support::check(&image);
    compare_trees(&tree, &ext4_support::read_back(&image));
}

#[test]
fn impossible_settings_are_refused() {
    let change = |change: fn(&mut Volume)| {
        let mut volume = volume(20 * MIB);
        change(&mut volume);
        Plan::new(&many(1), &volume).err().unwrap().to_string()
    };
    type Change = fn(&mut Volume);
    let cases: [(&str, Change); 9] = [
        ("17 bytes; 16", |v| v.label = vec![b'x'; 17]),
        ("without NUL", |v| v.label = vec![0]),
        ("512 or 4096", |v| v.sector_size = 2048),
        ("smaller than the sectors", |v| {
            v.sector_size = 4096;
            v.block_size = BlockSize::B2048;
        }),
        ("500 are the most", |v| v.reserved_per_mille = 501),
        ("its time is outside", |v| {
            v.time = Timestamp::from_seconds(1 << 40)
        }),
        ("1024 to 10,240,000", |v| v.journal = Journal::Blocks(1023)),
        ("one inode per", |v| v.inodes = Inodes::PerBytes(1023)),
        ("need 64-bit", |v| {
            v.wide = false;
            v.size = 1 << 45;
        }),
    ];
    for (expected, what) in cases {
        let error = change(what);
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn too_small_says_how_much_is_missing() {
    let mut tree = many(5);
    let content = Node::Regular(Content::from(vec![1; 30 << 20]));
    put(&mut tree, "/large", root_owned(0o644), content);
    for size in [0, 1024, 100_000, MIB, 8 * MIB, 30 * MIB] {
        match Plan::new(&tree, &volume(size)).err().unwrap() {
            Ext4Error::Space { size: said, missing } => {
                assert_eq!(said, size);
                assert!(missing > 0 && missing < 300 * MIB, "{missing}");
            }
            other => panic!("{other}"),
        }
    }
}

/// A disk of noise that refuses after a number of bytes.
struct Failing {
    disk: Cursor<Vec<u8>>,
    left: usize,
}

impl Write for Failing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len().min(self.left);
        if len == 0 {
            return Err(io::Error::from(io::ErrorKind::StorageFull));
        }
        self.left -= len;
        self.disk.write(&bytes[..len])
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Failing {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.disk.seek(to)
    }
}

#[test]
fn a_disk_that_fails_leaves_no_volume() {
    let tree = tree_with_xattrs();
    let volume = Volume {
        existing: Existing::Unknown,
        ..volume(8 * MIB)
    };
    // An older volume is there.
    let mut before = vec![0; 8 << 20];
    write(&mut Cursor::new(&mut before), 0, &tree, &volume).unwrap();
    let mut counted = Failing {
        disk: Cursor::new(before.clone()),
        left: usize::MAX,
    };
    write(&mut counted, 0, &tree, &volume).unwrap();
    let all = usize::MAX - counted.left;
    for at in 0..200 {
        let left = 4096 + (all - 4096) / 200 * at;
        let mut disk = Failing {
            disk: Cursor::new(before.clone()),
            left,
        };
        let error = write(&mut disk, 0, &tree, &volume).unwrap_err();
        assert!(matches!(error, Ext4Error::Write { .. }), "{error}");
        let found = Reader::open(disk.disk, Limits::default());
        assert!(matches!(found, Err(ReadError::NotExt4)), "after {left} bytes");
    }
}

fn sample() -> (Tree, Vec<u8>) {
    let mut tree = tree_with_xattrs();
    for at in 0..300 {
        put(
            &mut tree,
            &format!("/many/entry-{at}-{}", "n".repeat(at % 40)),
            root_owned(0o644),
            Node::Fifo,
        );
    }
    let volume = Volume {
        block_size: BlockSize::B2048,
        journal: Journal::None,
        ..volume(2 * MIB)
    };
    let mut bytes = vec![0; 2 << 20];
    write(&mut Cursor::new(&mut bytes), 0, &tree, &volume).unwrap();
    (tree, bytes)
}

const TIGHT: Limits = Limits {
    entries: 10_000,
    bytes: 4 << 20,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// With checksums damage to metadata is an error; what is still read is what was written, but for contents.
    #[test]
    fn damage_is_noticed(at in 0usize..400_000, bit in 0u8..8) {
        let (tree, mut bytes) = sample();
        bytes[at] ^= 1 << bit;
        if let Ok(found) = Reader::open(Cursor::new(bytes), TIGHT).and_then(|mut reader| reader.tree()) {
            let mut found = found.walk().filter(|entry| entry.path != b"/lost+found");
            for wanted in tree.walk() {
                let entry = found.next().unwrap();
                prop_assert_eq!(&entry.path, &wanted.path);
                prop_assert_eq!(&entry.inode.metadata, &wanted.inode.metadata);
            }
        }
    }

    /// Without, anything may come out, within the limits and without a panic.
    #[test]
    fn damage_does_no_harm(
        places in proptest::collection::vec((0usize..200_000, any::<u8>()), 1..20),
        cut in proptest::option::of(0usize..2_000_000),
    ) {
        let tree = tree_with_xattrs();
        let volume = Volume {
            block_size: BlockSize::B2048,
            checksums: false,
            journal: Journal::None,
            ..volume(MIB)
        };
        let mut bytes = vec![0; 1 << 20];
        write(&mut Cursor::new(&mut bytes), 0, &tree, &volume).unwrap();
        for (at, byte) in places {
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut);
        }
        let _ = Reader::open(Cursor::new(bytes), TIGHT).and_then(|mut reader| reader.tree());
    }
}
