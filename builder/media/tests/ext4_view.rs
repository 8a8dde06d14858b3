//! ext4 volumes as the crate `ext4-view` sees them: another reader, which checks every checksum and finds names by the
//! index of a large directory.

#![allow(clippy::unwrap_used)]

mod ext4_support;
mod oracle;

use ext4_support::{many, tree_with_xattrs, volume, written};
use ext4_view::{Ext4, FileType, Path};
use lycia_media::ext4::{BlockSize, Volume};
use lycia_tree::{Node, Tree, display};

fn compare(tree: &Tree, volume: &Volume) {
    let image = written(tree, volume);
    let found = Ext4::load_from_path(image.path()).unwrap();
    assert_eq!(
        found.label().as_bytes().split(|&byte| byte == 0).next(),
        Some(&b"seen"[..])
    );
    for entry in tree.walk() {
        let name = display(&entry.path);
        let path = Path::try_from(entry.path.as_slice()).unwrap();
        let metadata = found
            .symlink_metadata(path)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let wanted = &entry.inode.metadata;
        let time = metadata.modified();
        assert_eq!(time.seconds(), wanted.mtime.seconds, "{name}");
        assert_eq!(time.nanoseconds(), wanted.mtime.nanoseconds, "{name}");
        assert_eq!(metadata.mode() & 0o7777, wanted.mode, "{name}");
        assert_eq!(
            (metadata.uid(), metadata.gid()),
            (wanted.uid, wanted.gid),
            "{name}"
        );
        let kind = match entry.inode.node() {
            None => FileType::Directory,
            Some(Node::Regular(content)) => {
                assert!(found.read(path).unwrap() == content.bytes(), "{name}");
                FileType::Regular
            }
            Some(Node::Symlink(target)) => {
                assert_eq!(
                    found.read_link(path).unwrap().as_path().as_ref(),
                    target.as_slice()
                );
                FileType::Symlink
            }
            Some(Node::CharDevice(_)) => FileType::CharacterDevice,
            Some(Node::BlockDevice(_)) => FileType::BlockDevice,
            Some(Node::Fifo) => FileType::Fifo,
            Some(Node::Socket) => FileType::Socket,
        };
        assert_eq!(metadata.file_type(), kind, "{name}");
        if let Some(entries) = entry.inode.entries() {
            let mut names: Vec<Vec<u8>> = found
                .read_dir(path)
                .unwrap()
                .map(|entry| entry.unwrap().file_name().as_ref().to_vec())
                .filter(|name| name != b"." && name != b".." && name != b"lost+found")
                .collect();
            names.sort();
            assert!(names.iter().eq(entries.keys()), "{name}");
        }
    }
}

/// Version 1.0.0 refuses times whose lower word has its highest bit set, as before 1970.
fn tree() -> Tree {
    let mut tree = tree_with_xattrs();
    tree.remove(b"/x/early").unwrap();
    tree
}

#[test]
fn another_reader_sees_the_tree() {
    for (tree, block_size, checksums) in [
        (tree(), BlockSize::B4096, true),
        (tree(), BlockSize::B2048, false),
        (many(700), BlockSize::B1024, true),
        (many(6000), BlockSize::B1024, true),
        (many(6000), BlockSize::B4096, true),
    ] {
        let volume = Volume {
            block_size,
            checksums,
            label: b"seen".to_vec(),
            ..volume(24 << 20)
        };
        compare(&tree, &volume);
    }
}
