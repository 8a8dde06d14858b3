//! Resolution, naming and overlays, by tables and by random operations against a simple model.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use lycia_tree::overlay::{Item, OverlayEntry, apply};
use lycia_tree::{Content, Device, Follow, Metadata, Node, Timestamp, Tree, TreeError};
use proptest::prelude::*;

const T0: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};

fn file(mode: u16) -> Metadata {
    Metadata::new(mode, T0)
}

/// A usr-merged root.
fn merged() -> Tree {
    let mut tree = Tree::new(file(0o755));
    for directory in ["usr", "usr/bin", "usr/lib", "etc", "home"] {
        tree.make_directory(directory.as_bytes(), file(0o755)).unwrap();
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("lib", "/usr/lib"),
        ("usr/sbin", "bin"),
        ("etc/up", "../usr/../usr/bin"),
        ("etc/out", "../../../../usr/bin"),
        ("a", "b"),
        ("b", "a"),
        ("self", "self"),
        ("dangling", "nowhere/at/all"),
        ("dangling-here", "etc/new"),
    ] {
        tree.insert(link.as_bytes(), file(0o777), Node::Symlink(target.into()))
            .unwrap();
    }
    tree.write(b"/bin/sh", file(0o755), "shell".into()).unwrap();
    tree
}

#[test]
fn links_resolve_inside_the_root() {
    let tree = merged();
    for path in [
        "/bin/sh",
        "bin/sh",
        "usr/sbin/sh",
        "/lib/../bin/sh",
        "etc/up/sh",
        "etc/out/sh",
        "../../bin/sh",
        "/usr/bin/../../../bin/./sh",
    ] {
        assert_eq!(
            tree.canonical(path.as_bytes(), Follow::All).unwrap(),
            b"/usr/bin/sh",
            "{path}"
        );
        assert_eq!(tree.read(path.as_bytes()).unwrap(), b"shell", "{path}");
    }
    assert_eq!(tree.canonical(b"/lib", Follow::Parents).unwrap(), b"/lib");
    assert_eq!(tree.canonical(b"/lib/", Follow::Parents).unwrap(), b"/usr/lib");
    assert_eq!(tree.canonical(b"/lib/new", Follow::All).unwrap(), b"/usr/lib/new");
}

#[test]
fn loops_and_non_directories_are_refused() {
    let mut tree = merged();
    for path in ["a", "a/x", "self/x", "b/"] {
        assert!(
            matches!(
                tree.resolve(path.as_bytes(), Follow::All),
                Err(TreeError::Loop(_))
            ),
            "{path}"
        );
    }
    assert!(tree.resolve(b"a", Follow::Parents).is_ok());
    assert!(matches!(
        tree.resolve(b"bin/sh/x", Follow::All),
        Err(TreeError::NotADirectory(_))
    ));
    assert!(matches!(
        tree.resolve(b"dangling", Follow::All),
        Err(TreeError::Missing(_))
    ));
    assert_eq!(tree.find(b"dangling", Follow::All).unwrap(), None);
    assert!(matches!(
        tree.insert(b"usr", file(0o644), Node::Fifo),
        Err(TreeError::IsADirectory(_))
    ));
    assert!(matches!(
        tree.insert(b"no/such", file(0o644), Node::Fifo),
        Err(TreeError::Missing(_))
    ));
    assert!(matches!(
        tree.insert(b"..", file(0o644), Node::Fifo),
        Err(TreeError::Path { .. })
    ));
    assert!(matches!(
        tree.insert(b"/", file(0o644), Node::Fifo),
        Err(TreeError::Path { .. })
    ));
    assert!(matches!(
        tree.make_directory(b"bin/sh", file(0o755)),
        Err(TreeError::Exists(_))
    ));
}

#[test]
fn hard_links_share_an_inode_until_the_last_name_goes() {
    let mut tree = merged();
    let id = tree.resolve(b"bin/sh", Follow::All).unwrap();
    tree.link(id, b"bin/ash").unwrap();
    assert_eq!(tree.resolve(b"usr/bin/ash", Follow::All).unwrap(), id);
    assert_eq!(tree.inode(id).names(), 2);
    assert!(matches!(tree.link(id, b"bin/ash"), Err(TreeError::Exists(_))));
    tree.remove(b"bin/sh").unwrap();
    assert_eq!(tree.inode(id).names(), 1);
    tree.remove_all(b"usr/bin").unwrap();
    assert_eq!(tree.inode(id).names(), 0);
    assert!(matches!(tree.remove(b"usr"), Err(TreeError::NotEmpty(_))));
}

#[test]
fn rename_keeps_contents_and_refuses_its_own_inside() {
    let mut tree = merged();
    tree.rename(b"usr/bin", b"home/tools").unwrap();
    assert_eq!(tree.read(b"home/tools/sh").unwrap(), b"shell");
    assert_eq!(
        tree.canonical(b"home/tools/../tools/sh", Follow::All).unwrap(),
        b"/home/tools/sh"
    );
    assert!(tree.rename(b"home", b"home/tools/x").is_err());
    assert!(tree.rename(b"usr", b"home").is_err());
    tree.rename(b"home/tools/sh", b"home/tools/sh").unwrap();
    assert_eq!(tree.read(b"home/tools/sh").unwrap(), b"shell");
}

#[test]
fn writes_follow_a_link_and_update_keeps_the_owner() {
    let mut tree = merged();
    tree.insert(
        b"etc/real",
        file(0o600).owned_by(3, 4),
        Node::Regular("old".into()),
    )
    .unwrap();
    tree.insert(b"etc/name", file(0o777), Node::Symlink(b"real".into()))
        .unwrap();
    tree.update(b"etc/name", file(0o644), "new".into()).unwrap();
    let id = tree.resolve(b"etc/real", Follow::Parents).unwrap();
    assert_eq!(tree.read(b"etc/real").unwrap(), b"new");
    assert_eq!(
        (tree.inode(id).metadata.mode, tree.inode(id).metadata.uid),
        (0o600, 3)
    );
    assert!(
        tree.inode(tree.resolve(b"etc/name", Follow::Parents).unwrap())
            .symlink()
            .is_some()
    );
}

#[test]
fn walks_are_in_byte_order_and_directories_come_first() {
    let mut tree = Tree::new(file(0o755));
    for path in ["a/b", "a-b", "a/b!", "B", "a/\u{e9}"] {
        tree.write(path.as_bytes(), file(0o644), Content::empty())
            .unwrap();
    }
    let paths: Vec<_> = tree
        .walk()
        .map(|entry| String::from_utf8(entry.path).unwrap())
        .collect();
    assert_eq!(paths, ["/", "/B", "/a", "/a/b", "/a/b!", "/a/\u{e9}", "/a-b"]);
}

#[test]
fn an_overlay_lands_where_links_lead() {
    let mut tree = merged();
    let mut node = OverlayEntry::new(
        "dev/console",
        Item::Node(Node::CharDevice(Device { major: 5, minor: 1 })),
    );
    node.mode = Some(0o600);
    let mut tool = OverlayEntry::file("bin/tool", "#!/bin/sh\n");
    tool.mode = Some(0o4755);
    tool.owner = Some((7, 8));
    let mut etc = OverlayEntry::new("etc", Item::Directory);
    etc.mode = Some(0o700);
    let entries = [
        tool,
        node,
        etc,
        OverlayEntry::new("usr/sbin/twin", Item::HardLink(b"bin/tool".to_vec())),
        OverlayEntry::new("etc/out", Item::Remove),
        OverlayEntry::new("never/there", Item::Remove),
    ];
    let written = apply(&mut tree, &entries, T0).unwrap();
    assert_eq!(
        written,
        [
            b"/usr/bin/tool".to_vec(),
            b"/dev/console".to_vec(),
            b"/etc".to_vec(),
            b"/usr/bin/twin".to_vec()
        ]
    );
    let id = tree.resolve(b"/usr/bin/tool", Follow::All).unwrap();
    assert_eq!(tree.inode(id).mode(), 0o104755);
    assert_eq!(tree.inode(id).names(), 2);
    assert_eq!(
        tree.inode(tree.resolve(b"etc", Follow::All).unwrap())
            .metadata
            .mode,
        0o700
    );
    assert_eq!(tree.find(b"etc/out", Follow::Parents).unwrap(), None);
    // Twice is the same as once.
    apply(&mut tree, &entries, T0).unwrap();
    assert!(matches!(
        apply(&mut tree, &[OverlayEntry::file("usr", "x")], T0),
        Err(TreeError::IsADirectory(_))
    ));
}

#[derive(Clone, Debug)]
enum Operation {
    Directory(String),
    File(String, u8),
    Link(String, String),
    Remove(String),
    RemoveAll(String),
    Rename(String, String),
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]", 1..4).prop_map(|parts| parts.join("/"))
}

fn operation() -> impl Strategy<Value = Operation> {
    prop_oneof![
        3 => path().prop_map(Operation::Directory),
        4 => (path(), any::<u8>()).prop_map(|(path, byte)| Operation::File(path, byte)),
        1 => (path(), path()).prop_map(|(from, to)| Operation::Link(from, to)),
        1 => path().prop_map(Operation::Remove),
        1 => path().prop_map(Operation::RemoveAll),
        2 => (path(), path()).prop_map(|(from, to)| Operation::Rename(from, to)),
    ]
}

proptest! {
    /// Without symbolic links a tree is a map from paths; the names of an inode are always as many as a
    /// walk finds, and every directory knows its path.
    #[test]
    fn random_operations_keep_the_tree_whole(operations in prop::collection::vec(operation(), 1..60)) {
        let mut tree = Tree::new(file(0o755));
        for operation in operations {
            let _ = match operation {
                Operation::Directory(path) => tree.make_directory(path.as_bytes(), file(0o755)).map(drop),
                Operation::File(path, byte) => {
                    tree.insert(path.as_bytes(), file(0o644), Node::Regular(vec![byte].into())).map(drop)
                }
                Operation::Link(from, to) => {
                    tree.resolve(from.as_bytes(), Follow::All).and_then(|id| tree.link(id, to.as_bytes()))
                }
                Operation::Remove(path) => tree.remove(path.as_bytes()),
                Operation::RemoveAll(path) => tree.remove_all(path.as_bytes()),
                Operation::Rename(from, to) => tree.rename(from.as_bytes(), to.as_bytes()),
            };
            let mut names = BTreeMap::new();
            for entry in tree.walk() {
                *names.entry(entry.id).or_insert(0) += 1;
                if entry.inode.is_directory() {
                    prop_assert_eq!(tree.directory_path(entry.id), entry.path.clone());
                }
                prop_assert_eq!(tree.resolve(&entry.path, Follow::All).unwrap(), entry.id);
            }
            for (id, count) in names {
                prop_assert_eq!(tree.inode(id).names(), count);
            }
        }
    }

    /// Whatever links say, resolution ends and stays inside.
    #[test]
    fn random_links_never_escape_or_hang(
        links in prop::collection::vec((path(), "[ab./]{1,12}"), 1..20),
        asked in "[ab./]{0,20}",
    ) {
        let mut tree = Tree::new(file(0o755));
        for (path, target) in links {
            let mut entry = OverlayEntry::new(path, Item::Node(Node::Symlink(target.into_bytes())));
            entry.mode = Some(0o777);
            let _ = apply(&mut tree, &[entry], T0);
        }
        if let Ok(path) = tree.canonical(asked.as_bytes(), Follow::All) {
            prop_assert!(path.starts_with(b"/"));
            prop_assert!(!path.split(|&byte| byte == b'/').any(|part| part == b".." || part == b"."));
        }
    }
}
