//! The directories of an image: which there are, under which identifiers, in which order.

use lycia_tree::{InodeId, Kind, Node, Tree, display};

use super::IsoError;
use super::names::{Identifiers, JolietNames, sort_key};

/// Levels of directories, the root's being 1 (ECMA-119, 6.8.2.1).
const LEVELS_MAX: u32 = 8;
/// Where directories of deeper levels go.
const RELOCATION_NAME: &[u8] = b"rr_moved";
/// What a directory's entry stands for.
#[derive(Clone, Copy)]
pub enum Target {
    /// The directory of that index.
    Directory(usize),
    /// Something else.
    Node(InodeId),
    /// The directory of that index, which was moved.
    Moved(usize),
}

pub struct Child {
    pub identifier: Vec<u8>,
    /// The name that Rock Ridge shows.
    pub name: Vec<u8>,
    pub target: Target,
}

/// A directory of one of the two hierarchies.
pub struct Directory {
    /// `None` for the directory of moved directories.
    pub inode: Option<InodeId>,
    /// For messages.
    pub path: Vec<u8>,
    /// The directory that holds it in this hierarchy.
    pub parent: usize,
    /// The directory that holds it in the tree.
    pub real_parent: usize,
    level: u32,
    pub children: Vec<Child>,
    pub identifier: Vec<u8>,
    pub block: u32,
    /// Bytes of its records: whole blocks.
    pub len: u32,
    pub continuation_blocks: u32,
}

impl Directory {
    fn new(inode: Option<InodeId>, path: Vec<u8>, parent: usize, level: u32) -> Directory {
        Directory {
            inode,
            path,
            parent,
            real_parent: parent,
            level,
            children: Vec::new(),
            identifier: Vec::new(),
            block: 0,
            len: 0,
            continuation_blocks: 0,
        }
    }

    pub fn is_moved(&self) -> bool {
        self.parent != self.real_parent
    }
}

/// Directories in the order of the path table: the root first, then by level, parent and identifier.
pub struct Hierarchy {
    pub directories: Vec<Directory>,
    pub joliet: bool,
    /// Directories that were moved.
    moved: u32,
    pub path_table_len: u32,
    /// Little-endian, big-endian.
    pub path_tables: [u32; 2],
}

impl Hierarchy {
    pub fn empty() -> Hierarchy {
        Hierarchy {
            directories: Vec::new(),
            joliet: false,
            moved: 0,
            path_table_len: 0,
            path_tables: [0; 2],
        }
    }

    /// The hierarchy of the primary volume, where deep directories are moved.
    pub fn rock_ridge(tree: &Tree) -> Result<Hierarchy, IsoError> {
        let mut hierarchy = Hierarchy::empty();
        let mut identifiers = vec![Identifiers::default()];
        hierarchy
            .directories
            .push(Directory::new(Some(tree.root()), b"/".to_vec(), 0, 1));
        // Made when the first directory must move.
        let mut relocation = None;
        let mut index = 0;
        while index < hierarchy.directories.len() {
            let Some(inode) = hierarchy.directories[index].inode else {
                index += 1;
                continue;
            };
            for (name, &child) in tree.inode(inode).entries().into_iter().flatten() {
                let target = if !tree.inode(child).is_directory() {
                    Target::Node(child)
                } else if hierarchy.directories[index].level < LEVELS_MAX {
                    let identifier = identifiers[index].directory(name);
                    let new = hierarchy.add(&mut identifiers, index, name, Some(child), identifier.clone());
                    hierarchy.directories[index].children.push(Child {
                        identifier,
                        name: name.clone(),
                        target: Target::Directory(new),
                    });
                    continue;
                } else {
                    let place = match relocation {
                        Some(place) => place,
                        None => {
                            let place = hierarchy.add_relocation(&mut identifiers, tree)?;
                            *relocation.insert(place)
                        }
                    };
                    let identifier = identifiers[place].moved(name, hierarchy.moved);
                    let new = hierarchy.add(&mut identifiers, place, name, Some(child), identifier.clone());
                    hierarchy.directories[new].real_parent = index;
                    hierarchy.moved += 1;
                    let path = join(&hierarchy.directories[index].path, name);
                    hierarchy.directories[new].path = path;
                    // Several of the same name may have been moved; libarchive puts them back by the name here.
                    hierarchy.directories[place].children.push(Child {
                        name: name.clone(),
                        identifier,
                        target: Target::Directory(new),
                    });
                    Target::Moved(new)
                };
                let identifier = identifiers[index].file(name);
                hierarchy.directories[index].children.push(Child {
                    identifier,
                    name: name.clone(),
                    target,
                });
            }
            index += 1;
        }
        Ok(hierarchy)
    }

    fn add_relocation(&mut self, identifiers: &mut Vec<Identifiers>, tree: &Tree) -> Result<usize, IsoError> {
        if tree.child(tree.root(), RELOCATION_NAME).is_some() {
            return Err(IsoError::Entry {
                path: display(&join(b"/", RELOCATION_NAME)),
                reason: "the name is needed for directories deeper than 8 levels".to_owned(),
            });
        }
        let identifier = identifiers[0].directory(RELOCATION_NAME);
        let place = self.add(identifiers, 0, RELOCATION_NAME, None, identifier.clone());
        self.directories[0].children.push(Child {
            identifier,
            name: RELOCATION_NAME.to_vec(),
            target: Target::Directory(place),
        });
        Ok(place)
    }

    fn add(
        &mut self,
        identifiers: &mut Vec<Identifiers>,
        parent: usize,
        name: &[u8],
        inode: Option<InodeId>,
        identifier: Vec<u8>,
    ) -> usize {
        let path = join(&self.directories[parent].path, name);
        let mut directory = Directory::new(inode, path, parent, self.directories[parent].level + 1);
        directory.identifier = identifier;
        self.directories.push(directory);
        identifiers.push(Identifiers::default());
        self.directories.len() - 1
    }

    /// The hierarchy that Joliet shows: directories and regular files, at any depth.
    pub fn joliet(tree: &Tree) -> Hierarchy {
        let mut hierarchy = Hierarchy::empty();
        hierarchy.joliet = true;
        hierarchy
            .directories
            .push(Directory::new(Some(tree.root()), b"/".to_vec(), 0, 1));
        let mut index = 0;
        while index < hierarchy.directories.len() {
            let mut names = JolietNames::default();
            let inode = hierarchy.directories[index].inode.unwrap_or(tree.root());
            for (name, &child) in tree.inode(inode).entries().into_iter().flatten() {
                let (identifier, target) = match tree.inode(child).kind() {
                    Kind::Directory { .. } => {
                        let path = join(&hierarchy.directories[index].path, name);
                        let level = hierarchy.directories[index].level + 1;
                        let mut directory = Directory::new(Some(child), path, index, level);
                        directory.identifier = names.directory(name);
                        let identifier = directory.identifier.clone();
                        hierarchy.directories.push(directory);
                        (identifier, Target::Directory(hierarchy.directories.len() - 1))
                    }
                    Kind::Node(Node::Regular(_)) => (names.file(name), Target::Node(child)),
                    Kind::Node(_) => continue,
                };
                hierarchy.directories[index].children.push(Child {
                    identifier,
                    name: name.clone(),
                    target,
                });
            }
            index += 1;
        }
        hierarchy
    }

    /// Sorts the entries of directories, and the directories as the path table wants them.
    pub fn order(&mut self) -> Result<(), IsoError> {
        // A path table has parents as 16 bits.
        if self.directories.len() > u16::MAX.into() {
            return Err(IsoError::TooLarge {
                what: "directories",
                value: self.directories.len() as u64,
                most: u16::MAX.into(),
            });
        }
        for directory in &mut self.directories {
            match self.joliet {
                true => directory.children.sort_by(|a, b| a.identifier.cmp(&b.identifier)),
                false => directory
                    .children
                    .sort_by_cached_key(|child| sort_key(&child.identifier)),
            }
        }
        let mut order = vec![0];
        let mut at = 0;
        while at < order.len() {
            let directory: &Directory = &self.directories[order[at]];
            order.extend(directory.children.iter().filter_map(|child| match child.target {
                Target::Directory(index) => Some(index),
                _ => None,
            }));
            at += 1;
        }
        let mut places = vec![0; order.len()];
        for (place, &index) in order.iter().enumerate() {
            places[index] = place;
        }
        let mut old: Vec<Option<Directory>> = self.directories.drain(..).map(Some).collect();
        for index in order {
            // Every index comes once.
            let Some(mut directory) = old[index].take() else {
                continue;
            };
            directory.parent = places[directory.parent];
            directory.real_parent = places[directory.real_parent];
            for child in &mut directory.children {
                if let Target::Directory(index) | Target::Moved(index) = &mut child.target {
                    *index = places[*index];
                }
            }
            self.directories.push(directory);
        }
        Ok(())
    }

    /// The path table (ECMA-119, 9.4).
    pub fn path_table(&self, big_endian: bool) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (index, directory) in self.directories.iter().enumerate() {
            let identifier: &[u8] = if index == 0 { &[0] } else { &directory.identifier };
            let parent = directory.parent as u16 + 1;
            bytes.extend_from_slice(&[identifier.len() as u8, 0]);
            match big_endian {
                true => {
                    bytes.extend_from_slice(&directory.block.to_be_bytes());
                    bytes.extend_from_slice(&parent.to_be_bytes());
                }
                false => {
                    bytes.extend_from_slice(&directory.block.to_le_bytes());
                    bytes.extend_from_slice(&parent.to_le_bytes());
                }
            }
            bytes.extend_from_slice(identifier);
            if identifier.len() % 2 == 1 {
                bytes.push(0);
            }
        }
        bytes
    }
}

/// The path of an entry of a directory.
pub fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = directory.to_vec();
    if path != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
