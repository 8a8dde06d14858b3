//! EROFS images, judged by fsck.erofs and dump.erofs.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;

use lycia_media::erofs::{ErofsError, Volume, write};
use lycia_media::partition::Guid;
use lycia_tree::{Content, Device, Metadata, Node, Timestamp, Tree};
use oracle::{TIME, compare_directory, everything, everything_for_users, put, root_owned, run};
use proptest::prelude::*;
use tempfile::NamedTempFile;

fn volume() -> Volume {
    Volume {
        label: b"label".to_vec(),
        uuid: Guid::derive(b"test", "erofs"),
        time: Timestamp::from_seconds(TIME),
    }
}

fn written(tree: &Tree) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    let bytes = write(file.as_file_mut(), tree, &volume()).unwrap();
    assert_eq!(file.as_file().metadata().unwrap().len(), bytes);
    file
}

/// Unpacks the image and compares; what it unpacks it has checked. It makes no hard links.
fn check(tree: &Tree) {
    let image = written(tree);
    let path = image.path().to_str().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("out");
    let extract = format!("--extract={}", out.display());
    run(
        "erofs-utils",
        "fsck.erofs",
        &[&extract, "--preserve-perms", "--no-preserve-owner", path],
        b"",
    );
    compare_directory(tree, &out, false);
}

fn without_links() -> Tree {
    let mut tree = everything_for_users();
    tree.remove(b"/bin/tool").unwrap();
    tree
}

/// Files whose ends lie at and around the ends of blocks, and directories of one block and of many.
fn sizes() -> Tree {
    let mut tree = without_links();
    for len in [
        1, 31, 2000, 4031, 4032, 4033, 4095, 4096, 4097, 8192, 8193, 12_000, 100_000,
    ] {
        let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
        put(
            &mut tree,
            &format!("/sizes/{len}"),
            root_owned(0o644),
            Node::Regular(Content::from(bytes)),
        );
    }
    for (directory, count) in [("few", 3), ("block", 200), ("many", 3000)] {
        for at in 0..count {
            // Some sort before `.`.
            let first = if at % 3 == 0 { '-' } else { 'n' };
            let name = format!("/{directory}/{first}{at}{}", "x".repeat(at % 40));
            put(
                &mut tree,
                &name,
                root_owned(0o600),
                Node::Regular(Content::empty()),
            );
        }
    }
    tree
}

#[test]
fn fsck_unpacks_everything() {
    check(&without_links());
    check(&sizes());
    check(&Tree::new(root_owned(0o755)));
}

/// The lines of dump.erofs about the inode at `path`.
fn dump(image: &NamedTempFile, path: &str) -> String {
    let path = format!("--path={path}");
    run(
        "erofs-utils",
        "dump.erofs",
        &[&path, image.path().to_str().unwrap()],
        b"",
    )
}

#[test]
fn dump_shows_owners_times_and_devices() {
    let mut tree = everything();
    let mut metadata = root_owned(0o4750).owned_by(100_000, 70_000);
    metadata.mtime.nanoseconds = 123_456_789;
    metadata
        .xattrs
        .insert(b"security.capability".to_vec(), vec![1; 20]);
    metadata.xattrs.insert(b"user.note".to_vec(), b"text".to_vec());
    put(
        &mut tree,
        "/x",
        metadata,
        Node::Regular(Content::from(vec![7; 5000])),
    );
    let image = written(&tree);
    let path = image.path().to_str().unwrap();
    run("erofs-utils", "fsck.erofs", &[path], b"");
    let header = run("erofs-utils", "dump.erofs", &["-s", path], b"");
    for expected in [
        "Filesystem magic number:                      0xE0F5E1E2",
        "Filesystem features:                          sb_csum mtime",
        &format!("Filesystem UUID:                              {}", volume().uuid),
    ] {
        assert!(header.contains(expected), "{expected}\n{header}");
    }
    let found = dump(&image, "/x");
    for expected in [
        "Size: 5000",
        "Uid: 100000",
        "Gid: 70000",
        "Access: 0750",
        "2020-09-13 12:26:40.123456789",
    ] {
        assert!(found.contains(expected), "{expected}\n{found}");
    }
    let found = dump(&image, "/bin/alias");
    assert!(found.contains("Links: 2"), "{found}");
    let found = run("util-linux", "blkid", &["-p", "-o", "export", path], b"");
    assert!(
        found.contains("LABEL=label\n") && found.contains("TYPE=erofs\n"),
        "{found}"
    );
}

#[test]
fn the_same_input_gives_the_same_bytes_and_little_is_wasted() {
    let tree = sizes();
    let (first, second) = (written(&tree), written(&tree));
    assert!(std::fs::read(first.path()).unwrap() == std::fs::read(second.path()).unwrap());
    let content: u64 = tree
        .walk()
        .filter_map(|entry| entry.inode.content().map(Content::len))
        .sum();
    let size = first.as_file().metadata().unwrap().size();
    assert!(
        size < content + tree.walk().count() as u64 * 200 + 200_000,
        "{size} {content}"
    );
}

#[test]
fn what_does_not_fit_is_refused() {
    let xattr = |name: &str, len: usize| {
        let mut metadata = root_owned(0o644);
        metadata.xattrs.insert(name.as_bytes().to_vec(), vec![0; len]);
        (metadata, Node::Fifo)
    };
    let plain = |node| (root_owned(0o644), node);
    let device = Device {
        major: 4096,
        minor: 0,
    };
    for ((metadata, node), expected) in [
        (xattr("odd.name", 1), "has no place"),
        (xattr("user.long", 65_536), "is too long"),
        (plain(Node::Symlink(Vec::new())), "a symbolic link of 0"),
        (plain(Node::CharDevice(device)), "beyond 4095"),
    ] {
        let mut tree = everything();
        put(&mut tree, "/bad", metadata, node);
        let error = write(&mut std::io::Cursor::new(Vec::new()), &tree, &volume()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let label = Volume {
        label: vec![b'x'; 17],
        ..volume()
    };
    let error = write(&mut std::io::Cursor::new(Vec::new()), &everything(), &label);
    assert!(matches!(error, Err(ErofsError::Label(17))));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn random_trees_unpack(
        files in proptest::collection::btree_map("[a-c.+-]{1,3}(/[a-z]{1,20}){0,2}", 0usize..9000, 0..80),
        xattrs in proptest::collection::vec(0usize..3000, 0..3),
    ) {
        let mut tree = Tree::new(root_owned(0o755));
        let attributes: BTreeMap<Vec<u8>, Vec<u8>> = xattrs
            .iter()
            .enumerate()
            .map(|(at, &len)| (format!("user.{at}").into_bytes(), vec![at as u8; len]))
            .collect();
        for (at, (path, len)) in files.into_iter().enumerate() {
            let dots = |part: &str| part == "." || part == "..";
            if path.split('/').any(dots) {
                continue;
            }
            let mut metadata = Metadata::new(0o644, Timestamp::from_seconds(TIME + at as i64));
            metadata.xattrs = attributes.clone();
            let path = format!("/{path}");
            let above = path.rsplit_once('/').unwrap().0;
            if tree.make_directories(above.as_bytes(), root_owned(0o755)).is_err() {
                continue;
            }
            let content = Content::from(vec![at as u8; len]);
            let _ = tree.insert(path.as_bytes(), metadata, Node::Regular(content));
        }
        check(&tree);
    }
}
