//! What the tests of ext4 share.

// Every test program includes this module and uses its own part.
#![allow(dead_code)]

pub mod debugfs;

use std::fs::{File, OpenOptions};
use std::io::Write;

use lycia_media::ext4::{Existing, Limits, Reader, Volume, write};
use lycia_media::partition::Guid;
use lycia_tree::{Content, Node, Timestamp, Tree, display};
use tempfile::NamedTempFile;

use crate::oracle::{TIME, everything, output, put, root_owned};

/// A volume of `size` bytes as `mke2fs` would make it.
pub fn volume(size: u64) -> Volume {
    let uuid = Guid::derive(b"test", "volume");
    Volume::new(size, uuid, Timestamp::from_seconds(TIME))
}

/// Writes `tree` to a new file: with holes, or full of noise before where the volume expects anything.
pub fn written(tree: &Tree, volume: &Volume) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    if volume.existing == Existing::Unknown {
        let noise: Vec<u8> = (0..1u32 << 18)
            .flat_map(|at| at.wrapping_mul(0x9e37_79b9).to_le_bytes())
            .collect();
        let mut left = volume.size;
        while left > 0 {
            let len = left.min(noise.len() as u64);
            file.write_all(&noise[..len as usize]).unwrap();
            left -= len;
        }
    }
    write(file.as_file_mut(), 0, tree, volume).unwrap();
    if volume.existing == Existing::Zeros {
        assert!(file.as_file().metadata().unwrap().len() <= volume.size);
    }
    file
}

/// Fails unless e2fsck finds nothing at all.
pub fn check(image: &NamedTempFile) {
    let path = image.path().to_str().unwrap();
    let found = output("e2fsprogs", "e2fsck", &["-fn", path], b"");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&found.stdout),
        String::from_utf8_lossy(&found.stderr)
    );
    assert!(found.status.success(), "e2fsck:\n{text}");
    // What it would like to optimise is said between the passes, with a good exit code.
    for line in text.lines().filter(|line| !line.starts_with("e2fsck 1.")) {
        let expected = line.starts_with("Pass ") || line.contains(" files (") || line.is_empty();
        assert!(expected, "e2fsck: {line}\n{text}");
    }
}

/// The volume as our reader sees it.
pub fn read_back(image: &NamedTempFile) -> Tree {
    let file = File::open(image.path()).unwrap();
    Reader::open(file, Limits::default()).unwrap().tree().unwrap()
}

pub fn reopen(image: &NamedTempFile) -> File {
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(image.path())
        .unwrap()
}

/// Everything is the same but for `lost+found`, which the volume has more.
pub fn compare_trees(expected: &Tree, found: &Tree) {
    let mut entries = found.walk().filter(|entry| {
        expected.child(expected.root(), b"lost+found").is_some() || entry.path != b"/lost+found"
    });
    let mut numbers = std::collections::HashMap::new();
    for wanted in expected.walk() {
        let entry = entries.next().unwrap();
        let path = display(&wanted.path);
        assert_eq!(display(&entry.path), path);
        assert_eq!(entry.inode.metadata, wanted.inode.metadata, "{path}");
        assert!(
            entry.inode.node() == wanted.inode.node(),
            "{path}: {:?} {:?}",
            entry.inode.node(),
            wanted.inode.node()
        );
        assert_eq!(
            numbers.entry(wanted.id).or_insert(entry.id),
            &entry.id,
            "{path}: which names share an inode"
        );
    }
    assert!(entries.next().is_none());
}

/// A POSIX ACL as `getxattr` gives it: user `id` may read, the mask is read and execute.
pub fn acl(id: u32) -> Vec<u8> {
    let mut bytes = 2u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in [
        (1u16, 7u16, u32::MAX),
        (2, 4, id),
        (4, 5, u32::MAX),
        (8, 5, 50),
        (16, 5, u32::MAX),
        (32, 5, u32::MAX),
    ] {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// Every kind of node, and attributes that fit the inode, that need a block, and that several files share.
pub fn tree_with_xattrs() -> Tree {
    let mut tree = everything();
    let capability =
        b"\x01\x00\x00\x02\x00\x20\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00".to_vec();
    let mut add = |path: &str, xattrs: &[(&str, Vec<u8>)]| {
        let mut metadata = root_owned(0o755);
        metadata.mtime.nanoseconds = 123_456_789;
        for (name, value) in xattrs {
            metadata.xattrs.insert(name.as_bytes().to_vec(), value.clone());
        }
        put(
            &mut tree,
            path,
            metadata,
            Node::Regular(Content::from(path.as_bytes())),
        );
    };
    add("/x/ping", &[("security.capability", capability.clone())]);
    add("/x/empty", &[("user.empty", Vec::new())]);
    add("/x/acl", &[("system.posix_acl_access", acl(1000))]);
    let long = vec![7u8; 700];
    for name in ["one", "two", "three"] {
        add(&format!("/x/shared-{name}"), &[("user.long", long.clone())]);
    }
    add(
        "/x/both",
        &[
            ("security.capability", capability),
            ("system.posix_acl_access", acl(7)),
            ("trusted.overlay.opaque", b"y".to_vec()),
            ("user.b", vec![1; 61]),
            ("user.\u{fc}nicode", b"value".to_vec()),
            ("user.aaaaaaaaaaaaaaaaaaaaaaaaa", vec![2; 300]),
        ],
    );
    let mut metadata = root_owned(0o2775);
    metadata
        .xattrs
        .insert(b"system.posix_acl_default".to_vec(), acl(12));
    metadata
        .xattrs
        .insert(b"system.posix_acl_access".to_vec(), acl(12));
    tree.make_directory(b"/x/inherit", metadata).unwrap();
    for (name, seconds) in [("early", -2_000_000_000), ("late", 5_000_000_000)] {
        let mut metadata = root_owned(0o644);
        metadata.mtime = Timestamp {
            seconds,
            nanoseconds: 999_999_999,
        };
        put(
            &mut tree,
            &format!("/x/{name}"),
            metadata,
            Node::Regular(Content::empty()),
        );
    }
    tree
}

/// A directory of `count` files with names of different lengths.
pub fn many(count: usize) -> Tree {
    let mut tree = Tree::new(root_owned(0o755));
    for at in 0..count {
        let name = format!("/d/{at:x}-{}", "n".repeat(at * 7 % 50));
        put(
            &mut tree,
            &name,
            root_owned(0o644),
            Node::Regular(Content::empty()),
        );
    }
    tree
}
