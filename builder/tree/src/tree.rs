//! The tree: making, naming and removing inodes.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::resolve::Place;
use crate::{
    Content, Follow, Inode, InodeId, Kind, Metadata, NAME_MAX, Node, PathError, Timestamp, components,
    display,
};

/// What went wrong in a tree. Paths are shown as [`display`] does.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TreeError {
    /// The path itself cannot be.
    #[error("{path}: {error}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong with it.
        error: PathError,
    },
    /// No such entry.
    #[error("{0}: no such file or directory in the tree")]
    Missing(String),
    /// A component is there but is not a directory.
    #[error("{0}: a component is not a directory")]
    NotADirectory(String),
    /// A directory is there where something else was asked for.
    #[error("{0}: is a directory")]
    IsADirectory(String),
    /// Not a regular file.
    #[error("{0}: is not a regular file")]
    NotAFile(String),
    /// Something has that name already.
    #[error("{0}: exists already")]
    Exists(String),
    /// More than [`crate::SYMLINK_MAX`] links.
    #[error("{0}: symbolic links form a loop")]
    Loop(String),
    /// A directory that is to go, or to be replaced, has entries.
    #[error("{0}: the directory is not empty")]
    NotEmpty(String),
}

impl TreeError {
    pub(crate) fn path(path: &[u8], error: PathError) -> TreeError {
        TreeError::Path {
            path: display(path),
            error,
        }
    }
}

/// A root file system.
#[derive(Clone, Debug)]
pub struct Tree {
    inodes: Vec<Inode>,
}

impl Tree {
    /// A tree with nothing but its root directory.
    pub fn new(root: Metadata) -> Tree {
        let kind = Kind::Directory {
            entries: BTreeMap::new(),
            parent: InodeId(0),
        };
        Tree {
            inodes: vec![Inode {
                metadata: root,
                kind,
                names: 1,
            }],
        }
    }

    /// The root directory.
    pub fn root(&self) -> InodeId {
        InodeId(0)
    }

    /// The inode of an id, which must come from this tree.
    pub fn inode(&self, id: InodeId) -> &Inode {
        &self.inodes[id.index()]
    }

    /// Owner, mode, time and attributes of an inode, to change them.
    pub fn metadata_mut(&mut self, id: InodeId) -> &mut Metadata {
        &mut self.inodes[id.index()].metadata
    }

    /// One more than the highest [`InodeId::index`]: the size of a table by inode.
    pub fn inode_count(&self) -> usize {
        self.inodes.len()
    }

    /// The absolute path of a directory; `/` for the root.
    pub fn directory_path(&self, mut id: InodeId) -> Vec<u8> {
        let mut names = Vec::new();
        while id != self.root() {
            let Kind::Directory { parent, .. } = self.inode(id).kind() else {
                break;
            };
            let name = self
                .inode(*parent)
                .entries()
                .and_then(|entries| entries.iter().find(|&(_, &child)| child == id))
                .map(|(name, _)| name.clone());
            // A directory that was removed has no name any more.
            let Some(name) = name else { break };
            names.push(name);
            id = *parent;
        }
        let mut path = Vec::new();
        for name in names.iter().rev() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() {
            path.push(b'/');
        }
        path
    }

    /// The entry `name` of the directory `directory`.
    pub fn child(&self, directory: InodeId, name: &[u8]) -> Option<InodeId> {
        self.inode(directory).entries()?.get(name).copied()
    }

    /// The content of the regular file that `path` leads to, through links.
    ///
    /// # Errors
    /// When nothing is there or it is not a regular file.
    pub fn read(&self, path: &[u8]) -> Result<&[u8], TreeError> {
        let id = self.resolve(path, Follow::All)?;
        let content = self
            .inode(id)
            .content()
            .ok_or_else(|| TreeError::NotAFile(display(path)))?;
        Ok(content.bytes())
    }

    /// Puts something other than a directory at `path`, in place of anything but a directory that is
    /// there. The directories above must exist; links among them are followed, a link at `path` itself
    /// is replaced.
    ///
    /// # Errors
    /// When a parent is missing or a directory has that name.
    pub fn insert(&mut self, path: &[u8], metadata: Metadata, node: Node) -> Result<InodeId, TreeError> {
        let (parent, name) = self.new_name(path)?;
        if let Some(old) = self.child(parent, &name) {
            if self.inode(old).is_directory() {
                return Err(TreeError::IsADirectory(display(path)));
            }
            self.unlink(parent, &name);
        }
        let id = self.add_inode(metadata, Kind::Node(node));
        self.name(parent, name, id);
        Ok(id)
    }

    /// Puts a regular file at `path` and makes the directories above that are missing (0755, root's, the
    /// file's time). A link at `path` is followed, so that a file of `/etc` that a package made a link
    /// changes where the link leads.
    ///
    /// # Errors
    /// When a component is not a directory, or a directory has that name.
    pub fn write(&mut self, path: &[u8], metadata: Metadata, content: Content) -> Result<InodeId, TreeError> {
        let target = match self.find(path, Follow::All)? {
            Some(_) => self.canonical(path, Follow::All)?,
            None => path.to_vec(),
        };
        self.make_parents(&target, metadata.mtime)?;
        self.insert(&target, metadata, Node::Regular(content))
    }

    /// Gives the file that `path` leads to another content and leaves its owner and mode; a file that is
    /// not there is made with `metadata`.
    ///
    /// # Errors
    /// As [`Tree::write`].
    pub fn update(
        &mut self,
        path: &[u8],
        metadata: Metadata,
        content: Content,
    ) -> Result<InodeId, TreeError> {
        match self.find(path, Follow::All)? {
            Some(id) => match &mut self.inodes[id.index()].kind {
                Kind::Node(Node::Regular(old)) => {
                    *old = content;
                    Ok(id)
                }
                _ => Err(TreeError::NotAFile(display(path))),
            },
            None => self.write(path, metadata, content),
        }
    }

    /// Makes the directory `path`, whose parent must exist. One that is there is left as it is.
    ///
    /// # Errors
    /// When a parent is missing, or something else has that name (a link to a directory is fine).
    pub fn make_directory(&mut self, path: &[u8], metadata: Metadata) -> Result<InodeId, TreeError> {
        match self.place(path, Follow::All)? {
            Place::Found(id) if self.inode(id).is_directory() => Ok(id),
            Place::Found(_) => Err(TreeError::Exists(display(path))),
            Place::Missing { parent, name } => {
                check_name(path, &name)?;
                let id = self.add_inode(
                    metadata,
                    Kind::Directory {
                        entries: BTreeMap::new(),
                        parent,
                    },
                );
                self.name(parent, name, id);
                Ok(id)
            }
        }
    }

    /// Makes the directory `path` and those above it that are missing; the latter get 0755, root and the
    /// same time.
    ///
    /// # Errors
    /// As [`Tree::make_directory`].
    pub fn make_directories(&mut self, path: &[u8], metadata: Metadata) -> Result<InodeId, TreeError> {
        self.make_parents(path, metadata.mtime)?;
        self.make_directory(path, metadata)
    }

    fn make_parents(&mut self, path: &[u8], mtime: Timestamp) -> Result<(), TreeError> {
        let parts = components(path).map_err(|error| TreeError::path(path, error))?;
        let mut above = Vec::new();
        for part in &parts[..parts.len().saturating_sub(1)] {
            above.push(b'/');
            above.extend_from_slice(part);
            self.make_directory(&above, Metadata::new(0o755, mtime))?;
        }
        Ok(())
    }

    /// Gives the inode `id`, which is not a directory, a further name.
    ///
    /// # Errors
    /// When `id` is a directory, a parent is missing or something has that name.
    pub fn link(&mut self, id: InodeId, path: &[u8]) -> Result<(), TreeError> {
        if self.inode(id).is_directory() {
            return Err(TreeError::IsADirectory(display(path)));
        }
        let (parent, name) = self.new_name(path)?;
        if self.child(parent, &name).is_some() {
            return Err(TreeError::Exists(display(path)));
        }
        self.name(parent, name, id);
        Ok(())
    }

    /// Removes the entry `path` (a link itself, not what it leads to).
    ///
    /// # Errors
    /// When it is not there or is a directory with entries.
    pub fn remove(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let (parent, name) = self.existing_name(path)?;
        let child = self
            .child(parent, &name)
            .ok_or_else(|| TreeError::Missing(display(path)))?;
        if self
            .inode(child)
            .entries()
            .is_some_and(|entries| !entries.is_empty())
        {
            return Err(TreeError::NotEmpty(display(path)));
        }
        self.unlink(parent, &name);
        Ok(())
    }

    /// Removes the entry `path` and everything below it.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove_all(&mut self, path: &[u8]) -> Result<(), TreeError> {
        let (parent, name) = self.existing_name(path)?;
        let child = self
            .child(parent, &name)
            .ok_or_else(|| TreeError::Missing(display(path)))?;
        // Every inode below loses the names that it has there; others it may have stay.
        let mut directories = vec![child];
        while let Some(directory) = directories.pop() {
            let Kind::Directory { entries, .. } = &mut self.inodes[directory.index()].kind else {
                continue;
            };
            for id in std::mem::take(entries).into_values() {
                self.inodes[id.index()].names -= 1;
                directories.push(id);
            }
        }
        self.unlink(parent, &name);
        Ok(())
    }

    /// Moves the entry `from` to `to`, in place of a file or an empty directory there.
    ///
    /// # Errors
    /// When `from` is missing, `to`'s parent is missing or lies below `from`, or `to` is a directory with
    /// entries or of the other kind.
    pub fn rename(&mut self, from: &[u8], to: &[u8]) -> Result<(), TreeError> {
        let (old_parent, old_name) = self.existing_name(from)?;
        let id = self
            .child(old_parent, &old_name)
            .ok_or_else(|| TreeError::Missing(display(from)))?;
        let (parent, name) = self.new_name(to)?;
        if (parent, &name) == (old_parent, &old_name) {
            return Ok(());
        }
        let moves_directory = self.inode(id).is_directory();
        let mut above = parent;
        while moves_directory && above != self.root() {
            if above == id {
                return Err(TreeError::NotADirectory(display(to)));
            }
            let Kind::Directory { parent, .. } = self.inode(above).kind() else {
                break;
            };
            above = *parent;
        }
        if let Some(target) = self.child(parent, &name) {
            match (moves_directory, self.inode(target).entries()) {
                (_, Some(entries)) if !entries.is_empty() => return Err(TreeError::NotEmpty(display(to))),
                (false, Some(_)) => return Err(TreeError::IsADirectory(display(to))),
                (true, None) => return Err(TreeError::NotADirectory(display(to))),
                _ => self.unlink(parent, &name),
            }
        }
        self.inodes[id.index()].names += 1;
        self.unlink(old_parent, &old_name);
        self.inodes[id.index()].names -= 1;
        if let Kind::Directory { parent: up, .. } = &mut self.inodes[id.index()].kind {
            *up = parent;
        }
        self.name(parent, name, id);
        Ok(())
    }

    /// Sets every time later than `limit` to `limit`.
    pub fn clamp_times(&mut self, limit: Timestamp) {
        for inode in &mut self.inodes {
            inode.metadata.mtime = inode.metadata.mtime.min(limit);
        }
    }

    fn add_inode(&mut self, metadata: Metadata, kind: Kind) -> InodeId {
        // 2^32 inodes do not fit into memory.
        let id = InodeId(self.inodes.len() as u32);
        self.inodes.push(Inode {
            metadata,
            kind,
            names: 0,
        });
        id
    }

    fn name(&mut self, parent: InodeId, name: Vec<u8>, id: InodeId) {
        if let Kind::Directory { entries, .. } = &mut self.inodes[parent.index()].kind {
            entries.insert(name, id);
            self.inodes[id.index()].names += 1;
        }
    }

    fn unlink(&mut self, parent: InodeId, name: &[u8]) {
        if let Kind::Directory { entries, .. } = &mut self.inodes[parent.index()].kind
            && let Some(id) = entries.remove(name)
        {
            self.inodes[id.index()].names -= 1;
        }
    }

    /// The directory in which `path` is or would be an entry, and the name there.
    fn new_name(&self, path: &[u8]) -> Result<(InodeId, Vec<u8>), TreeError> {
        let (parent, name) = self.existing_name(path)?;
        check_name(path, &name)?;
        Ok((parent, name))
    }

    fn existing_name(&self, path: &[u8]) -> Result<(InodeId, Vec<u8>), TreeError> {
        let parts = components(path).map_err(|error| TreeError::path(path, error))?;
        let Some((name, above)) = parts.split_last() else {
            return Err(TreeError::path(path, PathError::NoName));
        };
        if *name == b".." {
            return Err(TreeError::path(path, PathError::Dots));
        }
        let parent = self
            .resolve(&above.join(&b'/'), Follow::All)
            .map_err(|error| match error {
                TreeError::Missing(_) => TreeError::Missing(display(path)),
                other => other,
            })?;
        if !self.inode(parent).is_directory() {
            return Err(TreeError::NotADirectory(display(path)));
        }
        Ok((parent, name.to_vec()))
    }
}

fn check_name(path: &[u8], name: &[u8]) -> Result<(), TreeError> {
    if name.len() > NAME_MAX {
        return Err(TreeError::path(path, PathError::NameTooLong(name.len())));
    }
    Ok(())
}
