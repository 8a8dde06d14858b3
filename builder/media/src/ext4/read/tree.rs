//! A whole volume as a tree.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Seek};

use lycia_tree::{Content, InodeId, Metadata, Node, Tree, display};

use super::super::superblock;
use super::{File, Kind, ReadError, Reader, malformed};

impl<R: Read + Seek> Reader<R> {
    /// The whole volume as a tree, contents in memory.
    ///
    /// # Errors
    /// When anything cannot be read, directories form a loop, or the limits are passed.
    pub fn tree(&mut self) -> Result<Tree, ReadError> {
        let root = self.inode(superblock::ROOT)?;
        if root.kind != Kind::Directory {
            return Err(malformed("inode 2", "the root is no directory"));
        }
        let mut tree = Tree::new(self.metadata(&root)?);
        let mut known: HashMap<u32, InodeId> = HashMap::new();
        let mut visited = BTreeSet::from([root.number]);
        let mut directories = vec![(Vec::new(), root)];
        let (mut entries, mut bytes) = (0, 0u64);
        while let Some((path, directory)) = directories.pop() {
            for entry in self.entries(&directory)? {
                entries += 1;
                if entries > self.limits.entries {
                    return Err(ReadError::Limit {
                        what: "entries",
                        limit: self.limits.entries,
                    });
                }
                let path = [path.as_slice(), b"/", &entry.name].concat();
                if tree.find(&path, lycia_tree::Follow::Parents)?.is_some() {
                    return Err(malformed(display(&path), "the name comes twice"));
                }
                if let Some(&id) = known.get(&entry.inode) {
                    tree.link(id, &path)?;
                    continue;
                }
                let file = self.inode(entry.inode)?;
                let metadata = self.metadata(&file)?;
                if file.kind == Kind::Directory {
                    if !visited.insert(file.number) {
                        return Err(malformed(
                            format!("inode {}", file.number),
                            "a directory with two names",
                        ));
                    }
                    tree.make_directory(&path, metadata)?;
                    directories.push((path, file));
                    continue;
                }
                bytes = bytes.saturating_add(file.size);
                if file.kind == Kind::Regular && bytes > self.limits.bytes {
                    return Err(ReadError::Limit {
                        what: "bytes of contents",
                        limit: self.limits.bytes,
                    });
                }
                let node = self.node(&file)?;
                let id = tree.insert(&path, metadata, node)?;
                known.insert(file.number, id);
            }
        }
        Ok(tree)
    }

    fn metadata(&mut self, file: &File) -> Result<Metadata, ReadError> {
        let mut metadata = Metadata::new(file.mode, file.mtime).owned_by(file.uid, file.gid);
        metadata.xattrs = self.xattrs(file)?;
        Ok(metadata)
    }

    fn node(&mut self, file: &File) -> Result<Node, ReadError> {
        Ok(match file.kind {
            Kind::Symlink => Node::Symlink(self.target(file)?),
            Kind::CharDevice(device) => Node::CharDevice(device),
            Kind::BlockDevice(device) => Node::BlockDevice(device),
            Kind::Fifo => Node::Fifo,
            Kind::Socket => Node::Socket,
            Kind::Regular | Kind::Directory => {
                let mut content = Vec::new();
                self.copy(file, &mut content)?;
                Node::Regular(Content::from(content))
            }
        })
    }
}
