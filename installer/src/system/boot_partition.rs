//! `/boot` on a file system of its own.

use std::collections::HashMap;

use lycia_tree::{Follow, Kind, Metadata, Timestamp, Tree, TreeError};

/// Takes what is below `/boot` out of the root as a tree of its own; the directory stays as the place where that is mounted.
pub(super) fn split(tree: &mut Tree, time: Timestamp) -> Result<Tree, TreeError> {
    let id = tree.make_directories(b"boot", Metadata::new(0o755, time))?;
    let mut out = Tree::new(tree.inode(id).metadata.clone());
    let mut copied = HashMap::new();
    for entry in tree.walk_from(b"", id).filter(|entry| !entry.path.is_empty()) {
        if let Some(&first) = copied.get(&entry.id) {
            out.link(first, &entry.path)?;
            continue;
        }
        let metadata = entry.inode.metadata.clone();
        match entry.inode.kind() {
            Kind::Directory { .. } => out.make_directory(&entry.path, metadata)?,
            _ => match entry.inode.node() {
                Some(node) => {
                    let made = out.insert(&entry.path, metadata, node.clone())?;
                    copied.insert(entry.id, made);
                    made
                }
                None => continue,
            },
        };
    }
    let names: Vec<Vec<u8>> = tree
        .inode(id)
        .entries()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        tree.remove_all(&[b"boot/".as_slice(), &name].concat())?;
    }
    debug_assert!(tree.find(b"boot", Follow::Parents)?.is_some());
    Ok(out)
}
