//! Kernels in their places, as Chimera's base-kernel puts them there.
//!
//! A kernel package has its files in `usr/lib/modules/VERSION/apk-dist`, so that other programs may add
//! modules beside them. The hook `00-setup-kernels` of base-kernel's trigger gives them further names one
//! folder up (hard links), copies what is for `/boot` there, and leaves the stamp `.apk-stamp`.

use lycia_tree::{Content, Follow, Inode, Metadata, Node, Timestamp, Tree};

use crate::RootError;
use crate::glob::lookup;

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
