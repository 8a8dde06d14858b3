//! Roots installed by us against the roots that the reference implementation made of the same packages.

#![allow(clippy::unwrap_used)]

mod corpus;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use lycia_apk::dependency;
use lycia_apk::index::Index;
use lycia_apk::install::{InstallError, Installation, Installed, Names, Unpacked};
use lycia_apk::metadata::{Acl, DirEntry, FileEntry, FileKind, Package, PackageInfo};
use lycia_apk::package::{self, Contents, Expect, Trust};
use lycia_apk::solver::{self, UniverseBuilder};
use lycia_tree::{Content, Follow, Metadata, Timestamp, Tree};

const T0: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};

fn install(corpus: &Path, world: &str) -> (Tree, Installed) {
    let keys = corpus::trusted(corpus);
    let repository = corpus.join("repo3/main/x86_64");
    let index = Index::read(
        &std::fs::read(repository.join("Packages.adb")).unwrap(),
        &keys,
        Trust::Required,
    );
    let mut universe = UniverseBuilder::new(["x86_64"]);
    universe.repository([None], index.unwrap().packages).unwrap();
    let universe = universe.finish().unwrap();
    let world = dependency::parse_world(world).unwrap();
    let mut tree = Tree::new(Metadata::new(0o755, T0));
    let mut installation = Installation::new(&mut tree, T0);
    for chosen in solver::select(&universe, &world).unwrap() {
        let entry = universe.info(chosen.package).clone();
        let mut contents = Contents::default();
        let mut package = Package {
            info: entry.clone(),
            ..Package::default()
        };
        if entry.installed_size > 0 {
            let file = repository.join(format!("{}-{}.apk", entry.name, entry.version));
            let expect = Expect {
                info: Some(&entry),
                ..Expect::default()
            };
            let bytes = std::fs::read(file).unwrap();
            package = package::read(&bytes, &keys, &expect, &mut contents)
                .unwrap()
                .package;
        }
        let contents = contents
            .files
            .into_iter()
            .map(|(_, _, bytes)| Content::from(bytes))
            .collect();
        installation
            .add(Unpacked {
                entry,
                package,
                contents,
                ..Unpacked::default()
            })
            .unwrap();
    }
    let text = |tree: &Tree, path: &[u8]| tree.read(path).unwrap().to_vec();
    let names = Names::parse(
        &text(installation.tree(), b"etc/passwd"),
        &text(installation.tree(), b"etc/group"),
    );
    let installed = installation.finish(&names);
    (tree, installed)
}

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes).read_to_end(&mut out).unwrap();
    out
}

/// Scenarios that only add packages, one after another: added at once they make the same root.
#[test]
fn the_database_of_fresh_roots_is_the_references() {
    let Some(corpus) = corpus::corpus() else { return };
    for (root, step, world) in [
        ("r01_base", 0, "roost-base"),
        (
            "r02_full",
            1,
            "roost-base plume docs-meta lantern hooks-demo=1.0-r0 trig-only hooks-empty",
        ),
        (
            "r05_special",
            1,
            "roost-base nodes-demo xattrs-demo links-demo names-demo dirs-demo sizes-demo",
        ),
    ] {
        let expected = corpus.join(format!("expected/roots/{root}/step{step:02}"));
        let read = |name: &str| std::fs::read(expected.join(name)).unwrap();
        let (tree, installed) = install(&corpus, world);
        assert_eq!(
            String::from_utf8_lossy(&installed.database.write_installed().unwrap()),
            String::from_utf8_lossy(&read("installed")),
            "{root}"
        );
        assert_eq!(
            String::from_utf8_lossy(&installed.database.write_triggers()),
            String::from_utf8_lossy(&read("triggers")),
            "{root}"
        );
        assert!(
            unzip(&installed.database.write_scripts()) == unzip(&read("scripts.tar.gz")),
            "{root}: scripts"
        );
        let mut world = dependency::parse_world(world).unwrap();
        dependency::sort_world(&mut world);
        assert_eq!(
            dependency::format_world(&world).into_bytes(),
            read("world"),
            "{root}"
        );
        compare_tree(&tree, &read("tree.json"), root);
    }
}

/// Compares what the packages brought; scripts, apk itself and the corpus's tools left more in the root.
fn compare_tree(tree: &Tree, json: &[u8], root: &str) {
    // Bytes that are no UTF-8 were written by Python as lone surrogates, which JSON readers refuse.
    let mut text = String::from_utf8(json.to_vec()).unwrap();
    let mut from = 0;
    while let Some(found) = text[from..].find("\\udc") {
        let at = from + found;
        let before = &text.as_bytes()[at.saturating_sub(6)..at];
        let pair = [b"\\ud8", b"\\ud9", b"\\uda", b"\\udb"]
            .iter()
            .any(|high| before.starts_with(*high));
        if !pair {
            text.replace_range(at..at + 6, "\u{fffd}");
        }
        from = at + 3;
    }
    let listed: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
    let listed: BTreeMap<&str, &serde_json::Value> = listed
        .iter()
        .map(|entry| (entry["path"].as_str().unwrap(), entry))
        .collect();
    let mut compared = 0;
    for entry in tree.walk().skip(1) {
        let path = String::from_utf8_lossy(entry.relative()).into_owned();
        let Some(expected) = listed.get(path.as_str()) else {
            panic!("{root}: {path} is not in the reference's root")
        };
        let kind = match entry.inode.file_type() {
            0o040000 => "dir",
            0o120000 => "symlink",
            0o020000 => "char",
            0o060000 => "block",
            0o010000 => "fifo",
            _ => "file",
        };
        assert_eq!(expected["type"], kind, "{root}: {path}");
        assert_eq!(expected["uid"], entry.inode.metadata.uid, "{root}: {path}");
        assert_eq!(expected["gid"], entry.inode.metadata.gid, "{root}: {path}");
        // The reference loses the setgid bit of directories; we keep it.
        let lost = if kind == "dir" { 0o2000 } else { 0 };
        let mode = format!("0o{:o}", entry.inode.metadata.mode & !lost);
        assert_eq!(expected["mode"], mode.as_str(), "{root}: {path}");
        if let Some(target) = entry.inode.symlink() {
            assert_eq!(
                expected["target"],
                String::from_utf8_lossy(target).as_ref(),
                "{root}: {path}"
            );
        }
        if let Some(content) = entry.inode.content() {
            assert_eq!(expected["size"], content.len(), "{root}: {path}");
        }
        compared += 1;
    }
    println!("{root}: {compared} entries compared");
}

fn file(name: &str, kind: FileKind) -> FileEntry {
    let acl = Acl {
        mode: 0o644,
        user: "root".to_owned(),
        group: "root".to_owned(),
        ..Acl::default()
    };
    FileEntry {
        name: name.as_bytes().to_vec(),
        acl,
        size: 0,
        mtime: 0,
        kind,
    }
}

fn unpacked(name: &str, files: &[(&str, FileEntry)], change: impl FnOnce(&mut Package)) -> Unpacked {
    let acl = Acl {
        mode: 0o755,
        user: "root".to_owned(),
        group: "root".to_owned(),
        ..Acl::default()
    };
    let info = PackageInfo {
        name: name.to_owned(),
        version: "1-r0".to_owned(),
        ..PackageInfo::default()
    };
    let mut package = Package {
        info,
        ..Package::default()
    };
    for (directory, file) in files {
        let path = directory.as_bytes().to_vec();
        match package.paths.iter_mut().find(|entry| entry.path == path) {
            Some(entry) => entry.files.push(file.clone()),
            None => package.paths.push(DirEntry {
                path,
                acl: acl.clone(),
                files: vec![file.clone()],
            }),
        }
    }
    change(&mut package);
    let regular = |file: &&FileEntry| matches!(file.kind, FileKind::Regular { .. });
    let count = package
        .paths
        .iter()
        .flat_map(|entry| &entry.files)
        .filter(regular)
        .count();
    let contents = vec![Content::from(name); count];
    Unpacked {
        entry: package.info.clone(),
        package,
        contents,
        ..Unpacked::default()
    }
}

fn regular() -> FileKind {
    FileKind::Regular { hash: vec![0; 32] }
}

fn link(target: &str) -> FileKind {
    FileKind::Symlink {
        target: target.as_bytes().to_vec(),
    }
}

fn add_all(packages: Vec<Unpacked>) -> Result<(Tree, Installed), InstallError> {
    let mut tree = Tree::new(Metadata::new(0o755, T0));
    let mut installation = Installation::new(&mut tree, T0);
    for package in packages {
        installation.add(package)?;
    }
    let installed = installation.finish(&Names::default());
    Ok((tree, installed))
}

#[test]
fn two_packages_with_one_file_clash_however_they_reach_it() {
    let base = unpacked(
        "base",
        &[
            ("", file("bin", link("usr/bin"))),
            ("usr/bin", file("x", regular())),
        ],
        |_| {},
    );
    let same = unpacked("same", &[("usr/bin", file("x", regular()))], |_| {});
    let around = unpacked("around", &[("bin", file("x", regular()))], |_| {});
    for other in [same, around] {
        match add_all(vec![base.clone(), other.clone()]) {
            Err(InstallError::Clash { package, owner, .. }) => {
                assert_eq!((package, owner.as_str()), (other.entry.name, "base"));
            }
            result => panic!("{:?}", result.err()),
        }
    }
}

#[test]
fn replaces_decides_who_has_a_file() {
    let victim = unpacked("victim", &[("usr", file("x", regular()))], |_| {});
    let taker = |priority| {
        unpacked("taker", &[("usr", file("x", regular()))], |package| {
            package.info.replaces = vec![dependency::parse("victim").unwrap()];
            package.replaces_priority = priority;
        })
    };
    for order in [vec![victim.clone(), taker(0)], vec![taker(0), victim.clone()]] {
        let (tree, installed) = add_all(order).unwrap();
        assert_eq!(tree.read(b"usr/x").unwrap(), b"taker");
        assert_eq!(installed.attribution[b"/usr/x".as_slice()], "taker");
        for package in &installed.database.packages {
            let files: usize = package
                .directories
                .iter()
                .map(|directory| directory.files.len())
                .sum();
            assert_eq!(
                files,
                usize::from(package.info.name == "taker"),
                "{}",
                package.info.name
            );
        }
    }
    let stubborn = unpacked("victim", &[("usr", file("x", regular()))], |package| {
        package.info.replaces = vec![dependency::parse("taker").unwrap()];
        package.replaces_priority = 5;
    });
    let (tree, _) = add_all(vec![stubborn, taker(1)]).unwrap();
    assert_eq!(tree.read(b"usr/x").unwrap(), b"victim");
}

#[test]
fn a_link_of_one_package_keeps_anothers_files_inside() {
    let trap = unpacked("trap", &[("", file("etc", link("../../../outside")))], |_| {});
    let outside = unpacked("outside", &[("outside", file("keep", regular()))], |_| {});
    let victim = unpacked("victim", &[("etc", file("passwd", regular()))], |_| {});
    let (tree, _) = add_all(vec![outside, trap, victim]).unwrap();
    assert_eq!(
        tree.canonical(b"etc/passwd", Follow::All).unwrap(),
        b"/outside/passwd"
    );
}

#[test]
fn hard_links_need_their_file_and_share_it() {
    let hard = |target: &str| FileKind::HardLink {
        target: target.as_bytes().to_vec(),
    };
    let good = unpacked(
        "good",
        &[("usr", file("a", regular())), ("usr", file("b", hard("usr/a")))],
        |_| {},
    );
    let (tree, installed) = add_all(vec![good]).unwrap();
    let id = |path: &[u8]| tree.resolve(path, Follow::All).unwrap();
    assert_eq!(id(b"usr/a"), id(b"usr/b"));
    assert!(
        installed.database.packages[0].directories[0].files[1]
            .digest
            .is_some()
    );
    let bad = unpacked("bad", &[("usr", file("b", hard("usr/none")))], |_| {});
    assert!(matches!(add_all(vec![bad]), Err(InstallError::HardLink { .. })));
}

#[test]
fn directories_follow_the_strongest_claim_and_keep_setgid() {
    let with = |name: &str, mode: u16, priority: u64| {
        unpacked(name, &[("var", file(name, regular()))], |package| {
            package.paths[0].acl.mode = mode;
            package.replaces_priority = priority;
        })
    };
    for order in [[0, 1], [1, 0]] {
        let packages = [with("aaa", 0o700, 0), with("zzz", 0o2775, 9)];
        let (tree, _) = add_all(order.map(|at: usize| packages[at].clone()).to_vec()).unwrap();
        let id = tree.resolve(b"var", Follow::All).unwrap();
        assert_eq!(tree.inode(id).metadata.mode, 0o2775);
    }
}

#[test]
fn unknown_owners_are_told() {
    let package = unpacked("p", &[("usr", file("x", regular()))], |package| {
        package.paths[0].files[0].acl.user = "nobody-knows".to_owned();
    });
    let (tree, installed) = add_all(vec![package]).unwrap();
    assert_eq!(installed.unknown_owners.len(), 1);
    let id = tree.resolve(b"usr/x", Follow::All).unwrap();
    assert_eq!(tree.inode(id).metadata.uid, 65534);
}
