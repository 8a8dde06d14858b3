//! Kernels in their places, as Chimera's base-kernel puts them there.
//!
//! A kernel package has its files in `usr/lib/modules/VERSION/apk-dist`, so that other programs may add
//! modules beside them. The hook `00-setup-kernels` of base-kernel's trigger gives them further names one
//! folder up (hard links), copies what is for `/boot` there, and leaves the stamp `.apk-stamp`.

use std::collections::BTreeMap;

use lycia_tree::{Content, Follow, Inode, Metadata, Node, Timestamp, Tree};

use crate::RootError;
use crate::glob::{self, lookup};

const FOLDER: &str = "usr/lib/modules";
/// Most files of one kernel.
const FILES_MAX: usize = 1_000_000;

/// Sets up kernels that are not set up yet; says what it made.
///
/// # Errors
/// When a file is where a folder is to be.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Vec<Vec<u8>>, RootError> {
    let mut written = Vec::new();
    for version in crate::depmod::kernels(tree)? {
        let folder = format!("{FOLDER}/{version}");
        let there = |name: &str| lookup(tree, format!("{folder}/{name}").as_bytes(), Follow::All).is_some();
        let packaged = there("apk-dist/.apk-series") && there("apk-dist/modules.order");
        if !packaged || there(".apk-stamp") {
            continue;
        }
        let source = format!("{folder}/apk-dist");
        place(tree, &source, &folder, true, &mut written)?;
        let boot = format!("{folder}/boot");
        if lookup(tree, boot.as_bytes(), Follow::All).is_some_and(|id| tree.inode(id).is_directory()) {
            place(tree, &boot, "boot", false, &mut written)?;
        }
        let stamp = format!("{folder}/.apk-stamp");
        tree.write(stamp.as_bytes(), Metadata::new(0o644, time), Content::empty())?;
        written.push(tree.canonical(stamp.as_bytes(), Follow::All)?);
    }
    Ok(written)
}

/// Folders of the hooks that base-kernel's trigger runs for every kernel; a name in the first hides the same
/// name in the second.
const HOOKS: &[&str] = &["etc/kernel.d", "usr/lib/kernel.d"];
/// Hooks whose work is done here or by who makes the image: kernels put in place and indexed, an initramfs and
/// a boot loader of its own; old kernels, of which a new root has none.
const DONE: &[&str] = &[
    "00-setup-kernels.sh",
    "05-prune-kernels.sh",
    "49-depmod.sh",
    "50-initramfs.sh",
    "99-gen-systemd-boot.sh",
    "99-gen-uboot.sh",
    "99-grub.sh",
    "99-rpi-kernel.sh",
];
/// Builds modules from the sources that it finds described.
const BUILDER: &str = "10-ckms.sh";

/// Hooks of the root that would do what nobody here does, by path.
pub fn unknown_hooks(tree: &Tree) -> Vec<String> {
    let mut names = BTreeMap::new();
    for folder in HOOKS {
        let entries = lookup(tree, folder.as_bytes(), Follow::All).and_then(|id| tree.inode(id).entries());
        for name in entries.into_iter().flat_map(BTreeMap::keys) {
            let name = String::from_utf8_lossy(name).into_owned();
            names.entry(name).or_insert(*folder);
        }
    }
    let builds = glob::matching(tree, "/usr/src/*/ckms.ini").is_ok_and(|found| !found.is_empty());
    let left = |name: &str| !DONE.contains(&name) && (name != BUILDER || builds);
    let paths = names.into_iter().filter(|(name, folder)| {
        let path = format!("{folder}/{name}");
        let inode = lookup(tree, path.as_bytes(), Follow::All).map(|id| tree.inode(id));
        let runs = inode.is_some_and(|inode| inode.content().is_some() && inode.metadata.mode & 0o111 != 0);
        runs && left(name)
    });
    paths.map(|(name, folder)| format!("{folder}/{name}")).collect()
}

/// Gives what is below a folder names below another, or copies it there. What is there and the same stays.
fn place(
    tree: &mut Tree,
    from: &str,
    to: &str,
    link: bool,
    written: &mut Vec<Vec<u8>>,
) -> Result<(), RootError> {
    let id = tree.resolve(from.as_bytes(), Follow::All)?;
    let entries: Vec<_> = tree
        .walk_from(to.as_bytes(), id)
        .map(|entry| (entry.path, entry.id))
        .take(FILES_MAX + 1)
        .collect();
    if entries.len() > FILES_MAX {
        return Err(RootError::File {
            file: from.to_owned(),
            what: format!("has more than {FILES_MAX} files"),
        });
    }
    for (path, id) in entries {
        let inode: Inode = tree.inode(id).clone();
        let Some(node) = inode.node() else {
            tree.make_directories(&path, inode.metadata.clone())?;
            continue;
        };
        if let Some(there) = lookup(tree, &path, Follow::Parents) {
            if there == id || tree.inode(there).node() == Some(node) {
                continue;
            }
            tree.remove(&path)?;
        }
        match node {
            Node::Regular(_) if link => tree.link(id, &path)?,
            node => {
                tree.insert(&path, inode.metadata.clone(), node.clone())?;
            }
        }
        written.push(tree.canonical(&path, Follow::Parents)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp {
        seconds: 7,
        nanoseconds: 0,
    };

    fn tree(files: &[&str]) -> Tree {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        for path in files {
            let path = format!("{FOLDER}/6.12.1/{path}");
            let text = path.rsplit('/').next().unwrap().to_owned();
            tree.write(
                path.as_bytes(),
                Metadata::new(0o600, TIME),
                text.into_bytes().into(),
            )
            .unwrap();
        }
        tree
    }

    #[test]
    fn packaged_kernels_are_put_in_place() {
        let mut tree = tree(&[
            "apk-dist/.apk-series",
            "apk-dist/modules.order",
            "apk-dist/kernel/fs/a.ko.gz",
            "apk-dist/boot/vmlinuz-6.12.1",
            "other/b.ko",
        ]);
        assert_eq!(run(&mut tree, TIME).unwrap().len(), 6);
        let at = |path: &str| lookup(&tree, path.as_bytes(), Follow::Parents);
        let folder = "usr/lib/modules/6.12.1";
        for name in ["modules.order", "kernel/fs/a.ko.gz", "boot/vmlinuz-6.12.1"] {
            assert_eq!(
                at(&format!("{folder}/{name}")),
                at(&format!("{folder}/apk-dist/{name}")),
                "{name}"
            );
        }
        let image = at("boot/vmlinuz-6.12.1").unwrap();
        assert_ne!(Some(image), at(&format!("{folder}/boot/vmlinuz-6.12.1")));
        assert_eq!(tree.inode(image).mode(), 0o100600);
        assert!(at(&format!("{folder}/.apk-stamp")).is_some());
        assert!(run(&mut tree, TIME).unwrap().is_empty(), "twice is once");
    }

    #[test]
    fn hooks_that_nobody_stands_for_are_named() {
        let mut tree = tree(&[]);
        let mut write = |path: &str, mode: u16| {
            tree.write(path.as_bytes(), Metadata::new(mode, TIME), "".into())
                .unwrap();
        };
        write("usr/lib/kernel.d/49-depmod.sh", 0o755);
        write("usr/lib/kernel.d/10-ckms.sh", 0o755);
        write("usr/lib/kernel.d/60-sign.sh", 0o755);
        write("usr/lib/kernel.d/70-off.sh", 0o755);
        write("etc/kernel.d/70-off.sh", 0o644);
        write("etc/kernel.d/80-own", 0o755);
        assert_eq!(
            unknown_hooks(&tree),
            ["usr/lib/kernel.d/60-sign.sh", "etc/kernel.d/80-own"]
        );
        tree.write(b"usr/src/zfs-2.3/ckms.ini", Metadata::new(0o644, TIME), "".into())
            .unwrap();
        assert_eq!(unknown_hooks(&tree)[0], "usr/lib/kernel.d/10-ckms.sh");
    }

    #[test]
    fn other_kernels_are_left_alone() {
        for files in [
            ["kernel/fs/a.ko", "modules.order"],
            ["apk-dist/modules.order", "apk-dist/a.ko"],
            ["apk-dist/.apk-series", "apk-dist/a.ko"],
        ] {
            assert!(run(&mut tree(&files), TIME).unwrap().is_empty(), "{files:?}");
        }
    }
}
