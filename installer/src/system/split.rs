//! Directories on file systems of their own.

use std::collections::HashMap;

use lycia_tree::{Follow, Kind, Metadata, Timestamp, Tree, TreeError};

/// Takes what is below a directory out of the root as a tree of its own; the directory stays as the place where that is mounted.
pub(super) fn split(tree: &mut Tree, directory: &str, time: Timestamp) -> Result<Tree, TreeError> {
    let directory = directory.as_bytes();
    let id = tree.make_directories(directory, Metadata::new(0o755, time))?;
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
        tree.remove_all(&[directory, b"/", &name].concat())?;
    }
    debug_assert!(tree.find(directory, Follow::Parents)?.is_some());
    Ok(out)
}
