//! Resolution of paths as the target would do it with the tree as its root.

use crate::tree::TreeError;
use crate::{InodeId, Kind, Node, Tree, components, display};

/// Most symbolic links followed in one resolution, as Linux has it.
pub const SYMLINK_MAX: usize = 40;

/// What to do with a symbolic link that is the last component.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Follow {
    /// Follow it, as `stat` does.
    All,
    /// Stay on it, as `lstat` does.
    Parents,
}

/// Where a path leads.
pub(crate) enum Place {
    /// An entry that is there.
    Found(InodeId),
    /// No such entry, in this directory under this name.
    Missing { parent: InodeId, name: Vec<u8> },
}

impl Tree {
    /// The inode that `path` leads to. Absolute links and `..` stay inside the tree, as in a chroot.
    ///
    /// # Errors
    /// When nothing is there, a component is not a directory, or links form a loop.
    pub fn resolve(&self, path: &[u8], follow: Follow) -> Result<InodeId, TreeError> {
        match self.place(path, follow)? {
            Place::Found(id) => Ok(id),
            Place::Missing { .. } => Err(TreeError::Missing(display(path))),
        }
    }

    /// The inode that `path` leads to, or none if the last component is missing.
    ///
    /// # Errors
    /// As [`Tree::resolve`], but for an entry or a parent that is not there.
    pub fn find(&self, path: &[u8], follow: Follow) -> Result<Option<InodeId>, TreeError> {
        match self.place(path, follow) {
            Ok(Place::Found(id)) => Ok(Some(id)),
            Ok(Place::Missing { .. }) | Err(TreeError::Missing(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The path of `path` without links, `.` and `..`: absolute, without a slash at its end. The last
    /// component need not exist.
    ///
    /// # Errors
    /// As [`Tree::resolve`].
    pub fn canonical(&self, path: &[u8], follow: Follow) -> Result<Vec<u8>, TreeError> {
        match self.place(path, follow)? {
            Place::Found(id) if self.inode(id).is_directory() => Ok(self.directory_path(id)),
            Place::Found(_) | Place::Missing { .. } => {
                let (parent, name) = self.final_name(path, follow)?;
                let mut whole = self.directory_path(parent);
                if whole.len() > 1 {
                    whole.push(b'/');
                }
                whole.extend_from_slice(&name);
                Ok(whole)
            }
        }
    }

    /// The directory and the name at which `path` ends.
    fn final_name(&self, path: &[u8], follow: Follow) -> Result<(InodeId, Vec<u8>), TreeError> {
        let mut last = None;
        self.steps(path, follow, |parent, name| last = Some((parent, name.to_vec())))?;
        last.ok_or_else(|| TreeError::path(path, crate::PathError::NoName))
    }

    pub(crate) fn place(&self, path: &[u8], follow: Follow) -> Result<Place, TreeError> {
        self.steps(path, follow, |_, _| {})
    }

    /// Walks `path`, telling `visit` of every name looked up in a directory.
    fn steps(
        &self,
        path: &[u8],
        follow: Follow,
        mut visit: impl FnMut(InodeId, &[u8]),
    ) -> Result<Place, TreeError> {
        let bad = |error| TreeError::path(path, error);
        // Components still to come, the next one last.
        let mut rest: Vec<Vec<u8>> = components(path)
            .map_err(bad)?
            .into_iter()
            .rev()
            .map(<[u8]>::to_vec)
            .collect();
        // A slash at the end asks for what a link leads to, as the system calls do.
        let slash_at_end = path.ends_with(b"/");
        let mut here = self.root();
        let mut links = 0;
        while let Some(name) = rest.pop() {
            let Kind::Directory { entries, parent } = self.inode(here).kind() else {
                return Err(TreeError::NotADirectory(display(path)));
            };
            if name == b".." {
                here = *parent;
                continue;
            }
            visit(here, &name);
            let Some(&id) = entries.get(&name) else {
                if rest.is_empty() {
                    return Ok(Place::Missing { parent: here, name });
                }
                return Err(TreeError::Missing(display(path)));
            };
            match self.inode(id).kind() {
                Kind::Node(Node::Symlink(target))
                    if !rest.is_empty() || follow == Follow::All || slash_at_end =>
                {
                    links += 1;
                    if links > SYMLINK_MAX {
                        return Err(TreeError::Loop(display(path)));
                    }
                    if target.starts_with(b"/") {
                        here = self.root();
                    }
                    let parts = components(target).map_err(bad)?;
                    rest.extend(parts.into_iter().rev().map(<[u8]>::to_vec));
                }
                Kind::Node(_) if !rest.is_empty() => {
                    return Err(TreeError::NotADirectory(display(path)));
                }
                _ => here = id,
            }
        }
        Ok(Place::Found(here))
    }
}
