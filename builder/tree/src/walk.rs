//! Walking a tree in a stable order.

use crate::{Inode, InodeId, Tree};

/// An entry met on a walk.
#[derive(Clone, Debug)]
pub struct Entry<'a> {
    /// Absolute path; `/` for the root.
    pub path: Vec<u8>,
    /// The inode.
    pub id: InodeId,
    /// The inode's value.
    pub inode: &'a Inode,
}

impl Entry<'_> {
    /// The last component; empty for the root.
    pub fn name(&self) -> &[u8] {
        self.path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
    }

    /// The path without its leading slash; empty for the root.
    pub fn relative(&self) -> &[u8] {
        &self.path[1..]
    }
}

/// Entries of a tree, directories before what is in them, names in byte order. A file with several names
/// comes once for each.
pub struct Walk<'a> {
    tree: &'a Tree,
    stack: Vec<(Vec<u8>, InodeId)>,
}

impl<'a> Iterator for Walk<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        let (path, id) = self.stack.pop()?;
        let inode = self.tree.inode(id);
        if let Some(entries) = inode.entries() {
            for (name, &child) in entries.iter().rev() {
                self.stack.push((join(&path, name), child));
            }
        }
        Some(Entry { path, id, inode })
    }
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if directory != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

impl Tree {
    /// All entries from the root on.
    pub fn walk(&self) -> Walk<'_> {
        Walk {
            tree: self,
            stack: vec![(b"/".to_vec(), self.root())],
        }
    }

    /// The entry `id` at `path` and everything below it.
    pub fn walk_from(&self, path: &[u8], id: InodeId) -> Walk<'_> {
        Walk {
            tree: self,
            stack: vec![(path.to_vec(), id)],
        }
    }
}
