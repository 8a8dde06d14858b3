//! Overlays: entries laid over a tree.
//!
//! An overlay comes from a folder of the host or from a manifest. The host's owners mean nothing in the
//! target, so that each entry says its owner, or takes root.

use crate::{Content, Follow, Metadata, Node, Timestamp, Tree, TreeError, display};

/// What an entry of an overlay puts at its path.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Item {
    /// A directory. One that is there keeps its owner and mode unless the entry gives others.
    Directory,
    /// Anything but a directory, in place of what is there.
    Node(Node),
    /// A further name of the file at this path, which an earlier entry or the tree has.
    HardLink(Vec<u8>),
    /// Nothing: the path and everything below it go. That it is not there is no error.
    Remove,
}

/// An entry of an overlay. What it leaves open is root's, 0755 for directories and 0644 for the rest, and
/// dated by the overlay.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OverlayEntry {
    /// Where. Links in the tree are followed, so that `bin/tool` lands in `usr/bin` of a merged root.
    pub path: Vec<u8>,
    /// What.
    pub item: Item,
    /// Permission bits.
    pub mode: Option<u16>,
    /// Owner and group.
    pub owner: Option<(u32, u32)>,
    /// Time of last modification.
    pub mtime: Option<Timestamp>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl OverlayEntry {
    /// An entry that leaves everything open.
    pub fn new(path: impl Into<Vec<u8>>, item: Item) -> OverlayEntry {
        OverlayEntry {
            path: path.into(),
            item,
            mode: None,
            owner: None,
            mtime: None,
            xattrs: Vec::new(),
        }
    }

    /// A regular file.
    pub fn file(path: impl Into<Vec<u8>>, content: impl Into<Content>) -> OverlayEntry {
        OverlayEntry::new(path, Item::Node(Node::Regular(content.into())))
    }
}

/// Lays `entries` over `tree` in their order, dated `mtime` where they give no time. Directories above an
/// entry that are missing are made.
///
/// Returns the canonical paths that were written, for a manifest that says where every file is from.
///
/// # Errors
/// On the first entry that cannot be laid; the tree may have got those before it.
pub fn apply(tree: &mut Tree, entries: &[OverlayEntry], mtime: Timestamp) -> Result<Vec<Vec<u8>>, TreeError> {
    let mut written = Vec::new();
    for entry in entries {
        let time = entry.mtime.unwrap_or(mtime);
        let fallback = match &entry.item {
            Item::Directory => 0o755,
            Item::Node(Node::Symlink(_)) => 0o777,
            _ => 0o644,
        };
        let (uid, gid) = entry.owner.unwrap_or((0, 0));
        let mut metadata = Metadata::new(entry.mode.unwrap_or(fallback), time).owned_by(uid, gid);
        metadata.xattrs = entry.xattrs.iter().cloned().collect();
        match &entry.item {
            Item::Remove => {
                if tree.find(&entry.path, Follow::Parents)?.is_some() {
                    tree.remove_all(&entry.path)?;
                }
                continue;
            }
            Item::Directory => {
                let there = tree.find(&entry.path, Follow::All)?.is_some();
                let id = tree.make_directories(&entry.path, metadata)?;
                if there {
                    let old = tree.metadata_mut(id);
                    if let Some(mode) = entry.mode {
                        old.mode = mode & 0o7777;
                    }
                    if let Some((uid, gid)) = entry.owner {
                        (old.uid, old.gid) = (uid, gid);
                    }
                    if let Some(time) = entry.mtime {
                        old.mtime = time;
                    }
                    old.xattrs.extend(entry.xattrs.iter().cloned());
                }
            }
            Item::Node(node) => {
                make_parent(tree, &entry.path, time)?;
                tree.insert(&entry.path, metadata, node.clone())?;
            }
            Item::HardLink(target) => {
                let id = tree.resolve(target, Follow::Parents)?;
                make_parent(tree, &entry.path, time)?;
                match tree.find(&entry.path, Follow::Parents)? {
                    Some(old) if old == id => {}
                    Some(old) if tree.inode(old).is_directory() => {
                        return Err(TreeError::IsADirectory(display(&entry.path)));
                    }
                    Some(_) => {
                        tree.remove(&entry.path)?;
                        tree.link(id, &entry.path)?;
                    }
                    None => tree.link(id, &entry.path)?,
                }
            }
        }
        written.push(tree.canonical(&entry.path, Follow::Parents)?);
    }
    Ok(written)
}

fn make_parent(tree: &mut Tree, path: &[u8], mtime: Timestamp) -> Result<(), TreeError> {
    let trimmed = path.strip_suffix(b"/").unwrap_or(path);
    if let Some(slash) = trimmed.iter().rposition(|&byte| byte == b'/') {
        tree.make_directories(&trimmed[..slash], Metadata::new(0o755, mtime))?;
    }
    Ok(())
}
