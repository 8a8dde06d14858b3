//! Transactions over a root in which packages are installed already.

// Helpers of tests are tests; lists of one package read best as lists.
#![allow(clippy::unwrap_used, clippy::cloned_ref_to_slice_refs)]

use std::collections::BTreeMap;

use lycia_apk::database::Database;
use lycia_apk::dependency;
use lycia_apk::install::{
    ChangeKind, DigestKind, FileChange, InTree, InstallError, Installation, Installed, Names, Options,
    Present, ProtectedPaths, Unpacked,
};
use lycia_apk::metadata::{Acl, DirEntry, FileEntry, FileKind, Package, PackageInfo, ScriptKind};
use lycia_tree::{Content, Follow, Kind, Metadata, Node, Timestamp, Tree};
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

const T0: Timestamp = Timestamp {
    seconds: 0,
    nanoseconds: 0,
};

/// What a path of a test package is.
#[derive(Clone, Debug)]
enum Item {
    File(&'static str),
    Link(&'static str),
    Hard(&'static str),
    Node,
    Directory(u16),
}
use Item::{Directory, File, Hard, Link};

fn acl(mode: u16) -> Acl {
    Acl {
        mode,
        user: "root".into(),
        group: "root".into(),
        ..Acl::default()
    }
}

/// A file with the content of a regular one.
type Placed = (FileEntry, Option<Content>);

/// A package `NAME VERSION` with every directory above its files.
fn package(head: &str, items: &[(&str, Item)]) -> Unpacked {
    let (name, version) = head.split_once(' ').unwrap();
    let info = PackageInfo {
        name: name.into(),
        version: version.into(),
        installed_size: 1,
        ..PackageInfo::default()
    };
    let mut directories: BTreeMap<String, (u16, Vec<Placed>)> = BTreeMap::new();
    for (path, item) in items {
        let mut above = String::new();
        for part in path
            .split('/')
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            above = if above.is_empty() {
                part.to_owned()
            } else {
                format!("{above}/{part}")
            };
            directories.entry(above.clone()).or_insert((0o755, Vec::new()));
        }
        let (kind, content) = match item {
            Directory(mode) => {
                directories
                    .entry((*path).to_owned())
                    .or_insert((0o755, Vec::new()))
                    .0 = *mode;
                continue;
            }
            File(content) => {
                let hash = Sha256::digest(content.as_bytes()).to_vec();
                (FileKind::Regular { hash }, Some(Content::from(*content)))
            }
            Link(target) => (
                FileKind::Symlink {
                    target: target.as_bytes().to_vec(),
                },
                None,
            ),
            Hard(target) => (
                FileKind::HardLink {
                    target: target.as_bytes().to_vec(),
                },
                None,
            ),
            Item::Node => (FileKind::CharDevice { major: 1, minor: 3 }, None),
        };
        let name = path.rsplit('/').next().unwrap().as_bytes().to_vec();
        let size = content.as_ref().map_or(0, Content::len);
        let entry = FileEntry {
            name,
            acl: acl(0o644),
            size,
            mtime: 7,
            kind,
        };
        directories
            .entry(above)
            .or_insert((0o755, Vec::new()))
            .1
            .push((entry, content));
    }
    let mut paths = Vec::new();
    let mut contents = Vec::new();
    for (path, (mode, mut entries)) in directories {
        entries.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        contents.extend(entries.iter().filter_map(|(_, content)| content.clone()));
        let files = entries.into_iter().map(|(entry, _)| entry).collect();
        paths.push(DirEntry {
            path: path.into_bytes(),
            acl: acl(mode),
            files,
        });
    }
    let package = Package {
        info: info.clone(),
        paths,
        ..Package::default()
    };
    Unpacked {
        entry: info,
        package,
        contents,
        ..Unpacked::default()
    }
}

fn empty() -> Tree {
    Tree::new(Metadata::new(0o755, T0))
}

/// A root with some packages.
fn root(packages: &[Unpacked]) -> (Tree, Database) {
    let mut tree = empty();
    let installed = change(&mut tree, Database::default(), &[], packages).unwrap();
    (tree, installed.database)
}

fn change(
    tree: &mut Tree,
    database: Database,
    remove: &[&str],
    add: &[Unpacked],
) -> Result<Installed, InstallError> {
    let mut installation = Installation::over(tree, database, Options::new(T0));
    installation.leaving(
        remove
            .iter()
            .copied()
            .chain(add.iter().map(|new| new.entry.name.as_str())),
    );
    for name in remove {
        installation.remove(name)?;
    }
    for new in add {
        installation.add(new.clone())?;
    }
    Ok(installation.finish(&Names::default()))
}

fn edit(tree: &mut Tree, path: &str, content: &str) {
    tree.write(path.as_bytes(), Metadata::new(0o644, T0), Content::from(content))
        .unwrap();
}

/// Every path with a word about it.
fn listing(tree: &Tree) -> BTreeMap<String, String> {
    let entries = tree.walk().skip(1).map(|entry| {
        let what = match entry.inode.kind() {
            Kind::Directory { .. } => format!("directory {:o}", entry.inode.metadata.mode),
            Kind::Node(Node::Regular(content)) => String::from_utf8_lossy(content.bytes()).into_owned(),
            Kind::Node(Node::Symlink(target)) => format!("-> {}", String::from_utf8_lossy(target)),
            Kind::Node(_) => "node".to_owned(),
        };
        (String::from_utf8_lossy(&entry.path).into_owned(), what)
    });
    entries.collect()
}

fn has(tree: &Tree, path: &str) -> bool {
    tree.find(path.as_bytes(), Follow::Parents).unwrap().is_some()
}

fn text(tree: &Tree, path: &str) -> String {
    String::from_utf8(tree.read(path.as_bytes()).unwrap().to_vec()).unwrap()
}

fn shown(changes: &[FileChange]) -> Vec<String> {
    let one = |change: &FileChange| format!("{:?} {}", change.kind, String::from_utf8_lossy(&change.path));
    changes.iter().map(one).collect()
}

#[test]
fn an_upgrade_leaves_what_the_new_version_has() {
    let old = package(
        "a 1",
        &[
            ("usr/share/a/gone", File("1")),
            ("usr/bin/a", File("1")),
            ("usr/lib/x", Link("y")),
        ],
    );
    let new = package("a 2", &[("usr/bin/a", File("2")), ("usr/lib/x", Link("z"))]);
    let (mut tree, database) = root(&[old]);
    let done = change(&mut tree, database, &[], &[new.clone()]).unwrap();
    assert_eq!(listing(&tree), listing(&root(&[new]).0));
    assert_eq!(
        shown(&done.changes),
        [
            "Write /usr/bin/a",
            "Write /usr/lib/x",
            "Remove /usr/share/a/gone",
            "RemoveDirectory /usr/share/a",
            "RemoveDirectory /usr/share",
        ]
    );
}

#[test]
fn removal_keeps_what_others_need_and_what_nobody_brought() {
    let a = package(
        "a 1",
        &[
            ("usr/share/a/x", File("1")),
            ("usr/share/both/a", File("1")),
            ("opt/a", Directory(0o755)),
        ],
    );
    let b = package("b 1", &[("usr/share/both/b", File("1"))]);
    let (mut tree, database) = root(&[a, b.clone()]);
    edit(&mut tree, "usr/share/a/stray", "local");
    change(&mut tree, database, &["a"], &[]).unwrap();
    let left = listing(&tree);
    assert!(left.contains_key("/usr/share/a/stray"));
    assert!(left.contains_key("/usr/share/both/b"));
    assert!(!left.contains_key("/opt"));
    assert!(!left.contains_key("/usr/share/both/a"));
}

#[test]
fn changed_configuration_is_never_lost() {
    let with = |head: &str, content: &'static str| {
        package(head, &[("etc/a.conf", File(content)), ("usr/a", File(content))])
    };
    let (tree, database) = root(&[with("a 1", "one")]);

    // Nothing was changed: the new one comes.
    let mut plain = tree.clone();
    change(&mut plain, database.clone(), &[], &[with("a 2", "two")]).unwrap();
    assert_eq!(text(&plain, "etc/a.conf"), "two");

    // Changed: it stays, the new one lies beside it. Outside of protected directories it is overwritten.
    let mut changed = tree.clone();
    edit(&mut changed, "etc/a.conf", "mine");
    edit(&mut changed, "usr/a", "mine");
    let done = change(&mut changed, database.clone(), &[], &[with("a 2", "two")]).unwrap();
    assert_eq!(text(&changed, "etc/a.conf"), "mine");
    assert_eq!(text(&changed, "etc/a.conf.apk-new"), "two");
    assert_eq!(text(&changed, "usr/a"), "two");
    let aside = ChangeKind::Aside {
        kept: b"/etc/a.conf".to_vec(),
    };
    assert!(
        done.changes
            .iter()
            .any(|change| change.kind == aside && change.path == b"/etc/a.conf.apk-new")
    );

    // Changed to what the new version has: nothing to do.
    let mut same = tree.clone();
    edit(&mut same, "etc/a.conf", "two");
    let done = change(&mut same, database.clone(), &[], &[with("a 2", "two")]).unwrap();
    assert!(!has(&same, "etc/a.conf.apk-new"));
    assert!(done.changes.iter().any(|change| change.kind == ChangeKind::Keep));

    // Deleted by the administrator: it comes again, as with apk.
    let mut deleted = tree.clone();
    deleted.remove(b"etc/a.conf").unwrap();
    change(&mut deleted, database.clone(), &[], &[with("a 2", "two")]).unwrap();
    assert_eq!(text(&deleted, "etc/a.conf"), "two");

    // Removal keeps a changed file and takes the one beside it; a purge takes both.
    let installed = change(&mut changed, database, &[], &[with("a 2", "two")]).unwrap();
    let mut removed = changed.clone();
    change(&mut removed, installed.database.clone(), &["a"], &[]).unwrap();
    assert_eq!(text(&removed, "etc/a.conf"), "mine");
    assert!(!has(&removed, "etc/a.conf.apk-new"));
    let options = Options {
        purge: true,
        ..Options::new(T0)
    };
    let mut purge = Installation::over(&mut changed, installed.database, options);
    purge.remove("a").unwrap();
    purge.finish(&Names::default());
    assert!(!has(&changed, "etc"));
}

#[test]
fn a_file_that_no_package_had_is_kept_in_etc_and_replaced_elsewhere() {
    let mut tree = empty();
    edit(&mut tree, "etc/x", "mine");
    edit(&mut tree, "usr/x", "mine");
    edit(&mut tree, "srv/x", "mine");
    let mut options = Options::new(T0);
    options.protected = ProtectedPaths::default();
    options.protected.add(b"+srv\n");
    let mut installation = Installation::over(&mut tree, Database::default(), options);
    let items = [
        ("etc/x", File("new")),
        ("usr/x", File("new")),
        ("srv/x", File("new")),
    ];
    installation.add(package("a 1", &items)).unwrap();
    installation.finish(&Names::default());
    for (path, expected) in [
        ("etc/x", "mine"),
        ("etc/x.apk-new", "new"),
        ("usr/x", "new"),
        ("srv/x", "mine"),
    ] {
        assert_eq!(text(&tree, path), expected, "{path}");
    }
}

#[test]
fn files_directories_and_links_change_into_each_other() {
    let states: [(&str, Vec<(&str, Item)>); 4] = [
        ("file", vec![("usr/x", File("f"))]),
        ("directory", vec![("usr/x/inside/y", File("d"))]),
        (
            "link",
            vec![("usr/x", Link("elsewhere")), ("usr/elsewhere/z", File("e"))],
        ),
        ("empty", vec![("usr/x", Directory(0o700))]),
    ];
    for (from, before) in &states {
        for (to, after) in &states {
            let (mut tree, database) = root(&[package("a 1", before)]);
            let done = change(&mut tree, database, &[], &[package("a 2", after)]);
            done.unwrap_or_else(|error| panic!("{from} to {to}: {error}"));
            assert_eq!(
                listing(&tree),
                listing(&root(&[package("a 2", after)]).0),
                "{from} to {to}"
            );
        }
    }
}

#[test]
fn nothing_of_others_gives_way() {
    let becomes_file = package("a 2", &[("usr/x", File("f"))]);
    let directory = package("a 1", &[("usr/x/mine", File("1"))]);
    let refused = |tree: &mut Tree, database: Database, expected: &str| {
        let before = listing(tree);
        let error = change(tree, database, &[], &[becomes_file.clone()]).unwrap_err();
        assert!(matches!(error, InstallError::InTheWay { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(listing(tree), before);
    };
    let (mut tree, database) = root(&[directory.clone(), package("b 1", &[("usr/x/theirs", File("1"))])]);
    refused(&mut tree, database, "/usr/x of b");
    let (mut tree, database) = root(&[directory.clone()]);
    edit(&mut tree, "usr/x/stray", "local");
    refused(&mut tree, database, "/usr/x/stray, which no package has");
    // A file where the package wants a directory.
    let (mut tree, database) = root(&[package("b 1", &[("usr/x", File("1"))])]);
    let error = change(&mut tree, database, &[], &[directory]).unwrap_err();
    assert!(error.to_string().contains("no directory in b"), "{error}");
}

#[test]
fn links_to_directories_are_followed() {
    let base = package(
        "base 1",
        &[("lib", Link("usr/lib")), ("usr/lib", Directory(0o755))],
    );
    let old = package("a 1", &[("lib/a", File("1")), ("lib/sub/b", File("1"))]);
    let new = package("a 2", &[("usr/lib/a", File("2"))]);
    let (mut tree, database) = root(&[base.clone(), old]);
    assert_eq!(text(&tree, "usr/lib/a"), "1");
    // The same file under its real name: it is not removed with the old version.
    change(&mut tree, database, &[], &[new]).unwrap();
    assert_eq!(text(&tree, "usr/lib/a"), "2");
    assert!(!has(&tree, "usr/lib/sub"));
    assert!(has(&tree, "lib/a"));
}

#[test]
fn clashes_name_both_packages_and_leaving_ones_yield() {
    let a = package("a 1", &[("usr/x", File("a"))]);
    let b = package("b 1", &[("usr/x", File("b"))]);
    let (tree, database) = root(&[a]);
    let error = change(&mut tree.clone(), database.clone(), &[], &[b.clone()]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "installing b: /usr/x belongs to a already, which b does not replace".replace("/usr/x", "usr/x")
    );
    let mut forced = tree.clone();
    let options = Options {
        overwrite: true,
        ..Options::new(T0)
    };
    let mut installation = Installation::over(&mut forced, database.clone(), options);
    installation.add(b.clone()).unwrap();
    assert_eq!(
        installation.finish(&Names::default()).attribution[b"/usr/x".as_slice()],
        "b"
    );
    assert_eq!(text(&forced, "usr/x"), "b");
    // b comes first, a goes afterwards: the file is b's.
    let mut tree = tree;
    let mut installation = Installation::over(&mut tree, database, Options::new(T0));
    installation.leaving(["a"]);
    installation.add(b).unwrap();
    installation.remove("a").unwrap();
    let done = installation.finish(&Names::default());
    assert_eq!(text(&tree, "usr/x"), "b");
    assert_eq!(done.database.packages.len(), 1);
    assert_eq!(shown(&done.changes), ["Write /usr/x"]);
}

/// Chimera's allocators: a package that replaces files of another takes them, and they come back when it goes
/// and the other is installed again.
#[test]
fn an_allocator_is_switched_and_switched_back() {
    let musl = package(
        "musl 1",
        &[
            ("usr/lib/libc.so", File("mimalloc")),
            ("usr/lib/ld.so", Link("libc.so")),
        ],
    );
    let mut other = package("musl-mallocng 1", &[("usr/lib/libc.so", File("mallocng"))]);
    other.package.info.replaces = vec![dependency::parse("musl").unwrap()];
    let (mut tree, database) = root(&[musl.clone()]);
    let switched = change(&mut tree, database, &[], &[other]).unwrap();
    assert_eq!(text(&tree, "usr/lib/ld.so"), "mallocng");
    assert_eq!(shown(&switched.changes), ["Write /usr/lib/libc.so"]);
    assert_eq!(
        switched.attribution[b"/usr/lib/libc.so".as_slice()],
        "musl-mallocng"
    );
    // Back: musl is installed again while the other leaves.
    let mut back = Installation::over(&mut tree, switched.database, Options::new(T0));
    back.leaving(["musl-mallocng"]);
    back.add(musl).unwrap();
    back.remove("musl-mallocng").unwrap();
    let back = back.finish(&Names::default());
    assert_eq!(text(&tree, "usr/lib/libc.so"), "mimalloc");
    assert_eq!(back.attribution[b"/usr/lib/libc.so".as_slice()], "musl");
    assert!(back.changes.iter().all(|change| change.kind == ChangeKind::Write));
}

#[test]
fn contents_of_the_present_root_may_be_absent() {
    struct Disk;
    impl Present for Disk {
        fn digest(&self, tree: &Tree, path: &[u8], kind: DigestKind) -> Option<[u8; 20]> {
            match path {
                b"/etc/kept" => Some(kind.of(b"changed by hand")),
                b"/etc/same" => Some(kind.of(b"1")),
                // Cannot be read: kept to be safe.
                b"/etc/secret" => None,
                _ => InTree.digest(tree, path, kind),
            }
        }
    }
    let with = |head: &str, content| {
        package(
            head,
            &["etc/kept", "etc/same", "etc/secret", "usr/big"].map(|path| (path, File(content))),
        )
    };
    let (mut tree, database) = root(&[with("a 1", "1")]);
    for path in ["etc/kept", "etc/same", "etc/secret", "usr/big"] {
        edit(&mut tree, path, "");
    }
    let mut installation = Installation::over(
        &mut tree,
        database,
        Options {
            present: &Disk,
            ..Options::new(T0)
        },
    );
    installation.add(with("a 2", "2")).unwrap();
    let done = installation.finish(&Names::default());
    assert_eq!(
        shown(&done.changes),
        [
            "Aside { kept: [47, 101, 116, 99, 47, 107, 101, 112, 116] } /etc/kept.apk-new",
            "Write /etc/same",
            "Aside { kept: [47, 101, 116, 99, 47, 115, 101, 99, 114, 101, 116] } /etc/secret.apk-new",
            "Write /usr/big",
        ]
    );
}

#[test]
fn hard_links_of_a_kept_file_get_its_new_content() {
    let with = |head: &str, content| {
        package(
            head,
            &[("etc/first", File(content)), ("etc/second", Hard("etc/first"))],
        )
    };
    let (mut tree, database) = root(&[with("a 1", "1")]);
    edit(&mut tree, "etc/first", "mine");
    change(&mut tree, database, &[], &[with("a 2", "2")]).unwrap();
    assert_eq!(text(&tree, "etc/first"), "mine");
    assert_eq!(text(&tree, "etc/first.apk-new"), "2");
    assert_eq!(text(&tree, "etc/second"), "2");
}

#[test]
fn directories_get_what_the_strongest_claim_says_unless_they_were_changed() {
    let with = |head: &str, mode, priority| {
        let mut package = package(head, &[("var/spool", Directory(mode))]);
        package.package.replaces_priority = priority;
        package
    };
    let mode = |tree: &Tree| {
        tree.inode(tree.resolve(b"var/spool", Follow::All).unwrap())
            .metadata
            .mode
    };
    let (tree, database) = root(&[with("a 1", 0o700, 0), with("strong 1", 0o2770, 9)]);
    assert_eq!(mode(&tree), 0o2770);
    let mut gone = tree.clone();
    let done = change(&mut gone, database.clone(), &["strong"], &[]).unwrap();
    assert_eq!(mode(&gone), 0o700);
    assert_eq!(shown(&done.changes), ["SetDirectory /var/spool"]);
    let mut upgraded = tree.clone();
    change(
        &mut upgraded,
        database.clone(),
        &[],
        &[with("strong 2", 0o1777, 9)],
    )
    .unwrap();
    assert_eq!(mode(&upgraded), 0o1777);
    // The administrator's own mode stays.
    let mut local = tree;
    let id = local.resolve(b"var/spool", Follow::All).unwrap();
    local.metadata_mut(id).mode = 0o711;
    let done = change(&mut local, database, &[], &[with("strong 2", 0o1777, 9)]).unwrap();
    assert_eq!(mode(&local), 0o711);
    let mut restore = Installation::over(&mut local, done.database, Options::new(T0));
    restore.restore_directories();
    assert_eq!(
        shown(&restore.finish(&Names::default()).changes),
        ["SetDirectory /var/spool"]
    );
    assert_eq!(mode(&local), 0o1777);
}

/// As apk 3.0 has it, to compare with it: a directory follows only if this transaction made it, or looked at it before
/// and found it as its owner would have it.
#[test]
fn stale_directories_are_those_of_apk() {
    let with = |head: &str, mode, priority| {
        let mut package = package(head, &[("var/spool", Directory(mode))]);
        package.package.replaces_priority = priority;
        package
    };
    let carry = |tree: &mut Tree, database: Database, add: &[Unpacked], remove: &[&str]| {
        let options = Options {
            stale_directories: true,
            ..Options::new(T0)
        };
        let mut installation = Installation::over(tree, database, options);
        installation.leaving(
            remove
                .iter()
                .copied()
                .chain(add.iter().map(|new| new.entry.name.as_str())),
        );
        for name in remove {
            installation.remove(name).unwrap();
        }
        for new in add {
            installation.add(new.clone()).unwrap();
        }
        installation.finish(&Names::default());
        tree.inode(tree.resolve(b"var/spool", Follow::All).unwrap())
            .metadata
            .mode
    };
    let (tree, database) = root(&[with("a 1", 0o700, 0), with("strong 1", 0o2770, 9)]);
    let after = |add: &[Unpacked], remove: &[&str]| carry(&mut tree.clone(), database.clone(), add, remove);
    assert_eq!(after(&[], &["strong"]), 0o2770);
    assert_eq!(after(&[with("strong 2", 0o1777, 9)], &[]), 0o2770);
    let (weak, before) = root(&[with("a 1", 0o700, 0)]);
    let after = |tree: &Tree, add: &[Unpacked]| carry(&mut tree.clone(), before.clone(), add, &[]);
    assert_eq!(after(&weak, &[with("strong 1", 0o2770, 9)]), 0o700);
    let both = [with("a 2", 0o700, 0), with("strong 1", 0o2770, 9)];
    assert_eq!(after(&weak, &both), 0o2770);
    let mut local = weak.clone();
    let id = local.resolve(b"var/spool", Follow::All).unwrap();
    local.metadata_mut(id).mode = 0o711;
    assert_eq!(after(&local, &both), 0o711);
}

/// The directory that everything is in.
#[test]
fn the_root_counts_for_the_files_in_it() {
    let listing = |head: &str, items: &[(&str, Item)], mode| {
        let mut package = package(head, items);
        if package
            .package
            .paths
            .first()
            .is_none_or(|entry| !entry.path.is_empty())
        {
            let entry = DirEntry {
                path: Vec::new(),
                acl: acl(mode),
                files: Vec::new(),
            };
            package.package.paths.insert(0, entry);
        }
        package.package.triggers = vec!["+/*".into()];
        package
            .package
            .scripts
            .push((ScriptKind::Trigger, b"#!/bin/sh\n".to_vec()));
        package
    };
    let arguments = |done: &Installed| {
        let calls = done.triggers.iter().map(|call| {
            let arguments: Vec<_> = call
                .arguments
                .iter()
                .map(|text| String::from_utf8_lossy(text).into_owned())
                .collect();
            format!("{}: {}", call.package, arguments.join(" "))
        });
        calls.collect::<Vec<_>>()
    };
    let (mut tree, database) = root(&[]);
    let a = listing("a 1", &[("usr/x", File("1"))], 0o700);
    let done = change(&mut tree, database, &[], &[a]).unwrap();
    // Its mode is nobody's to set, it has no record, and nothing happened in it.
    assert_eq!(tree.inode(tree.root()).metadata.mode, 0o755);
    let folders = |done: &Installed, package: usize| {
        let directories = done.database.packages[package].directories.iter();
        directories
            .map(|directory| String::from_utf8_lossy(&directory.path).into_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(folders(&done, 0), ["usr"]);
    assert_eq!(arguments(&done), ["a: /usr"]);
    let b = listing("b 1", &[("f", File("b"))], 0o700);
    let done = change(&mut tree, done.database, &[], &[b]).unwrap();
    assert_eq!(folders(&done, 1), [""]);
    assert_eq!(arguments(&done), ["b: /"]);
    assert_eq!(tree.inode(tree.root()).metadata.mode, 0o755);
    // A record stays, though another package has its only file.
    let mut c = listing("c 1", &[("f", File("c"))], 0o755);
    c.package.info.replaces = dependency::parse_list("b").unwrap();
    c.entry.replaces.clone_from(&c.package.info.replaces);
    let done = change(&mut tree, done.database, &[], &[c]).unwrap();
    assert_eq!(
        (folders(&done, 1), folders(&done, 2)),
        (vec![String::new()], vec![String::new()])
    );
    assert!(done.database.packages[1].directories[0].files.is_empty());
}

/// A directory that no package has any more counts as changed, though something of others keeps it.
#[test]
fn what_is_left_behind_starts_triggers() {
    let mut listener = package("a 1", &[("usr/x", File("1"))]);
    listener.package.triggers = vec!["/srv/*".into()];
    listener
        .package
        .scripts
        .push((ScriptKind::Trigger, b"#!/bin/sh\n".to_vec()));
    let b = package("b 1", &[("srv/d/e/f", File("1"))]);
    let (mut tree, database) = root(&[listener, b]);
    edit(&mut tree, "srv/d/mine", "kept");
    let mut installation = Installation::over(&mut tree, database, Options::new(T0));
    installation.remove("b").unwrap();
    installation.keep("a", None).unwrap();
    let done = installation.finish(&Names::default());
    assert!(has(&tree, "srv/d/mine") && !has(&tree, "srv/d/e"));
    assert_eq!(done.triggers[0].arguments, [b"/srv/d".to_vec()]);
}

#[test]
fn scripts_and_triggers_are_told_with_their_arguments() {
    let scripts = |head: &str, items: &[(&str, Item)]| {
        let mut package = package(head, items);
        package.package.scripts = ScriptKind::ALL
            .map(|kind| (kind, b"#!/bin/sh\n".to_vec()))
            .to_vec();
        package.package.triggers = vec!["/usr/share/*".into(), "+/etc".into()];
        package
    };
    let call = |calls: &[lycia_apk::install::ScriptCall]| -> Vec<String> {
        let one = |call: &lycia_apk::install::ScriptCall| {
            let arguments = call
                .arguments
                .iter()
                .map(|text| String::from_utf8_lossy(text).into_owned());
            format!(
                "{} {} {}",
                call.package,
                call.kind.name(),
                arguments.collect::<Vec<_>>().join(" ")
            )
        };
        calls.iter().map(one).collect()
    };
    let base = package("base 1", &[("etc/x", File("1")), ("usr/share/base/x", File("1"))]);
    let (mut tree, database) = root(&[base]);
    let first = change(
        &mut tree,
        database,
        &[],
        &[scripts("a 1", &[("usr/share/a/x", File("1"))])],
    )
    .unwrap();
    assert_eq!(call(&first.scripts), ["a pre-install 1", "a post-install 1"]);
    // Newly installed, it hears of every directory, but of /etc only if something happened there.
    assert_eq!(call(&first.triggers), ["a trigger /usr/share/a /usr/share/base"]);
    let second = change(
        &mut tree,
        first.database,
        &[],
        &[scripts("a 2", &[("usr/share/a/x", File("2"))])],
    )
    .unwrap();
    assert_eq!(call(&second.scripts), ["a pre-upgrade 2 1", "a post-upgrade 2 1"]);
    let mut third = Installation::over(&mut tree, second.database, Options::new(T0));
    third.add(package("base 2", &[("etc/x", File("2"))])).unwrap();
    third.keep("a", None).unwrap();
    let third = third.finish(&Names::default());
    assert_eq!(call(&third.triggers), ["a trigger /etc /usr/share/base"]);
    let fourth = change(&mut tree, third.database, &["a"], &[]).unwrap();
    assert_eq!(call(&fourth.scripts), ["a pre-deinstall 2", "a post-deinstall 2"]);
    let error = change(&mut tree, fourth.database, &["a"], &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "a is not installed, so that it cannot be removed"
    );
}

#[test]
fn nodes_come_and_go() {
    let (mut tree, database) = root(&[package("a 1", &[("dev/null", Item::Node), ("dev/x", File("x"))])]);
    assert_eq!(listing(&tree)["/dev/null"], "node");
    change(
        &mut tree,
        database,
        &[],
        &[package("a 2", &[("dev/null", File("now a file"))])],
    )
    .unwrap();
    assert_eq!(
        listing(&tree).into_keys().collect::<Vec<_>>(),
        ["/dev", "/dev/null"]
    );
}

/// Repeats changes on a copy of the tree as it was, taking nodes from the tree as it became.
fn repeat(before: &Tree, after: &Tree, changes: &[FileChange]) -> Tree {
    let mut tree = before.clone();
    for change in changes {
        let path = &change.path;
        let new = after
            .find(path, Follow::Parents)
            .unwrap()
            .map(|id| after.inode(id));
        match &change.kind {
            ChangeKind::MakeDirectory => {
                tree.make_directory(path, new.unwrap().metadata.clone()).unwrap();
            }
            ChangeKind::SetDirectory => {
                let id = tree.resolve(path, Follow::Parents).unwrap();
                *tree.metadata_mut(id) = new.unwrap().metadata.clone();
            }
            ChangeKind::Write | ChangeKind::Aside { .. } => {
                let new = new.unwrap();
                tree.insert(path, new.metadata.clone(), new.node().unwrap().clone())
                    .unwrap();
            }
            ChangeKind::Link { to } => {
                if tree.find(path, Follow::Parents).unwrap().is_some() {
                    tree.remove(path).unwrap();
                }
                let id = tree.resolve(to, Follow::Parents).unwrap();
                tree.link(id, path).unwrap();
            }
            ChangeKind::Keep => {}
            ChangeKind::Remove | ChangeKind::RemoveDirectory => tree.remove(path).unwrap(),
        }
    }
    tree
}

const PATHS: [&str; 8] = [
    "etc/a",
    "etc/b",
    "usr/bin/a",
    "usr/bin/b",
    "usr/lib/a/deep",
    "usr/lib/b",
    "opt/x/y/z",
    "var",
];

fn items() -> impl Strategy<Value = Vec<(&'static str, Item)>> {
    let item = prop_oneof![
        prop::sample::select(vec!["one", "two", "three"]).prop_map(File),
        prop::sample::select(vec!["a", "/usr", "../x"]).prop_map(Link),
        prop::sample::select(vec![0o755_u16, 0o700, 0o1777]).prop_map(Directory),
    ];
    prop::collection::btree_map(prop::sample::select(PATHS.to_vec()), item, 1..7)
        .prop_map(|items| items.into_iter().collect())
}

/// Packages that have no file in common: each has its own paths, and directories for all.
fn disjoint() -> impl Strategy<Value = Vec<Unpacked>> {
    prop::collection::vec(prop::sample::subsequence(PATHS[..7].to_vec(), 0..7), 2..5).prop_map(|choices| {
        let mut taken = Vec::new();
        let packages = choices.into_iter().enumerate().map(|(number, mut paths)| {
            paths.retain(|path| !taken.contains(path));
            taken.extend(paths.iter().copied());
            let mut items: Vec<(&str, Item)> =
                paths.into_iter().map(|path| (path, File("content"))).collect();
            items.push(("usr/share", Directory([0o755, 0o700, 0o711][number % 3])));
            package(&format!("p{number} 1"), &items)
        });
        packages.collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// An upgrade over an untouched root is a fresh installation, and its changes lead there.
    #[test]
    fn an_upgrade_is_a_fresh_installation(before in items(), after in items()) {
        let (old, new) = (package("a 1", &before), package("a 2", &after));
        let (mut tree, database) = root(&[old]);
        let start = tree.clone();
        let done = change(&mut tree, database, &[], std::slice::from_ref(&new)).unwrap();
        let (fresh, fresh_database) = root(&[new]);
        prop_assert_eq!(listing(&tree), listing(&fresh));
        prop_assert_eq!(&done.database, &fresh_database);
        prop_assert_eq!(listing(&repeat(&start, &tree, &done.changes)), listing(&tree));
    }

    /// What was installed and removed again leaves nothing.
    #[test]
    fn a_removal_undoes_an_installation(items in items()) {
        let base = package("base 1", &[("usr/bin/base", File("x"))]);
        let (mut tree, database) = root(std::slice::from_ref(&base));
        let start = tree.clone();
        let installed = change(&mut tree, database.clone(), &[], &[package("a 1", &items)]).unwrap();
        let middle = tree.clone();
        let removed = change(&mut tree, installed.database, &["a"], &[]).unwrap();
        prop_assert_eq!(listing(&tree), listing(&start));
        prop_assert_eq!(removed.database, database);
        prop_assert_eq!(listing(&repeat(&start, &middle, &installed.changes)), listing(&middle));
        prop_assert_eq!(listing(&repeat(&middle, &tree, &removed.changes)), listing(&tree));
    }

    /// Packages that have no file in common make one root in any order.
    #[test]
    fn the_order_of_packages_does_not_matter(
        (packages, shuffled) in disjoint().prop_flat_map(|packages| {
            (Just(packages.clone()), Just(packages).prop_shuffle())
        }),
    ) {
        let (tree, database) = root(&packages);
        let (again, same) = root(&shuffled);
        prop_assert_eq!(listing(&tree), listing(&again));
        prop_assert_eq!(&database, &same);
        let text = database.write_installed().unwrap();
        let back = Database::read(&text, &database.write_triggers(), &database.write_scripts()).unwrap();
        prop_assert_eq!(back.write_installed().unwrap(), text);
    }

    /// Whatever is installed, upgraded and removed in whatever order: what the database says is there, every file
    /// has one owner, and the list of changes leads from the one tree to the other.
    #[test]
    fn database_and_tree_agree_after_anything(
        steps in prop::collection::vec((0..3_usize, prop::option::of(items()), any::<bool>(), 0..3_u64), 1..8),
    ) {
        let names = ["a", "b", "c"];
        let (mut tree, mut database) = (empty(), Database::default());
        for (number, (which, items, replaces, priority)) in steps.into_iter().enumerate() {
            let mut after = tree.clone();
            let done = match items {
                Some(mut items) => {
                    // A link to a directory that goes takes the way to others' files with it, here as anywhere.
                    for (_, item) in &mut items {
                        if let Link(target) = item {
                            *target = "nowhere";
                        }
                    }
                    let mut new = package(&format!("{} {number}", names[which]), &items);
                    new.package.replaces_priority = priority;
                    if replaces {
                        new.package.info.replaces = dependency::parse_list("a b c").unwrap();
                    }
                    change(&mut after, database.clone(), &[], &[new])
                }
                None => change(&mut after, database.clone(), &[names[which]], &[]),
            };
            // Clashes, and removals of what is not there, leave everything as it was.
            let Ok(done) = done else { continue };
            prop_assert_eq!(listing(&repeat(&tree, &after, &done.changes)), listing(&after));
            (tree, database) = (after, done.database);
            let mut owned = std::collections::BTreeSet::new();
            for package in &database.packages {
                for directory in &package.directories {
                    let path = String::from_utf8(directory.path.clone()).unwrap();
                    let id = tree.find(path.as_bytes(), Follow::All).unwrap();
                    prop_assert!(id.is_some_and(|id| tree.inode(id).is_directory()), "{}", path);
                    for file in &directory.files {
                        let path = format!("{path}/{}", String::from_utf8_lossy(&file.name));
                        let canonical = tree.canonical(path.as_bytes(), Follow::Parents).unwrap();
                        prop_assert!(has(&tree, &path), "{} of {}", path, package.info.name);
                        prop_assert_eq!(done.attribution.get(&canonical), Some(&package.info.name));
                        prop_assert!(owned.insert(canonical), "{} twice", path);
                    }
                }
            }
        }
        for package in database.packages.clone() {
            let mut after = tree.clone();
            database = change(&mut after, database, &[&package.info.name], &[]).unwrap().database;
            tree = after;
        }
        // A directory that was reached through a link of a package that went first may stay; no file does.
        prop_assert!(listing(&tree).values().all(|what| what.starts_with("directory")), "{:?}", listing(&tree));
    }
}
