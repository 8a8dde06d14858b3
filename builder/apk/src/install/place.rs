//! Putting the directories and files of a package into the tree.

use std::collections::HashMap;

use lycia_tree::{Content, Device, Follow, InodeId, Metadata, Node, Timestamp, TreeError, display};

use super::remove::prefixes;
use super::state::{DigestKind, DirectoryRecord, FileRecord, Holder};
use super::{ChangeKind, InstallError, Installation, Names, Owners, join};
use crate::metadata::{DirEntry, FileEntry, FileKind, Package};

/// Where an earlier file of the package went, for the hard links to it.
enum Seen {
    /// Into the tree.
    Placed {
        id: InodeId,
        path: Vec<u8>,
        digest: Option<[u8; 20]>,
    },
    /// Nowhere, for the file that is there stays: a further name would still need the content.
    Dropped { node: Node, digest: Option<[u8; 20]> },
    /// Another package keeps its own.
    Elsewhere,
}

/// What becomes of a file.
enum Fate {
    Write,
    Aside,
    Keep,
}

/// A package on its way into the tree.
struct Arrival<'n> {
    slot: usize,
    previous: Option<usize>,
    name: String,
    names: Option<&'n Names>,
    seen: HashMap<Vec<u8>, Seen>,
}

impl Installation<'_> {
    /// Installs everything that a package has. Files of the previous version that it has too become its own.
    pub(super) fn place(
        &mut self,
        slot: usize,
        previous: Option<usize>,
        package: &Package,
        contents: Vec<Content>,
    ) -> Result<(), InstallError> {
        let names = (self.options.owners == Owners::AtOnce).then(|| {
            let text = |path: &[u8]| self.tree.read(path).map(<[u8]>::to_vec).unwrap_or_default();
            Names::parse(&text(b"etc/passwd"), &text(b"etc/group"))
        });
        let mut contents = contents.into_iter();
        let mut arrival = Arrival {
            slot,
            previous,
            name: self.name(slot),
            names: names.as_ref(),
            seen: HashMap::new(),
        };
        for entry in &package.paths {
            self.directory(&arrival, entry)?;
            let protected = self.options.protected.covers(&entry.path);
            for file in &entry.files {
                let content = match file.kind {
                    FileKind::Regular { .. } => contents.next(),
                    _ => None,
                };
                self.file(&mut arrival, &entry.path, file, content, protected)?;
            }
            if let Some(directory) = self.slots[slot].directories.last_mut() {
                let order: Vec<usize> = sorted(&directory.files);
                if order.iter().enumerate().any(|(at, &from)| at != from) {
                    self.reorder(slot, &order);
                }
            }
        }
        Ok(())
    }

    /// Puts the files of the last directory of a slot into byte order, as the database has them.
    fn reorder(&mut self, slot: usize, order: &[usize]) {
        let at = self.slots[slot].directories.len() - 1;
        let directory = &mut self.slots[slot].directories[at];
        let mut files: Vec<Option<FileRecord>> = std::mem::take(&mut directory.files)
            .into_iter()
            .map(Some)
            .collect();
        directory.files = order.iter().filter_map(|&from| files[from].take()).collect();
        for (place, file) in directory.files.iter().enumerate() {
            if let Some(entry) = self.files.get_mut(&file.canonical)
                && (entry.0, entry.1) == (slot, at)
            {
                entry.2 = place;
            }
        }
    }

    fn tree_error(package: &str) -> impl Fn(TreeError) -> InstallError {
        move |error| InstallError::Tree {
            package: package.to_owned(),
            error,
        }
    }

    fn directory(&mut self, arrival: &Arrival<'_>, entry: &DirEntry) -> Result<(), InstallError> {
        let failed = Self::tree_error(&arrival.name);
        let slot = arrival.slot;
        let mut made = false;
        for path in prefixes(&entry.path) {
            let last = path.len() == entry.path.len();
            let new = self.way(arrival, &path)?;
            made = new && last;
            if new && !last {
                let id = self.tree.resolve(&path, Follow::All).map_err(&failed)?;
                self.implied.insert(self.tree.directory_path(id));
            }
        }
        let id = self.tree.resolve(&entry.path, Follow::All).map_err(&failed)?;
        let canonical = self.tree.directory_path(id);
        let holder = self.holder(slot, &entry.path, &entry.acl, arrival.names);
        self.know(&entry.path);
        let counts = !entry.path.is_empty() || !entry.files.is_empty();
        if counts {
            self.modified.insert(entry.path.clone());
        }
        let at = self.slots[slot].directories.len();
        self.slots[slot].directories.push(DirectoryRecord {
            path: entry.path.clone(),
            canonical: canonical.clone(),
            holder,
            files: Vec::new(),
            counts,
        });
        if entry.path.is_empty() {
            // The root's own mode and owner are nobody's to set.
            return Ok(());
        }
        let won = self.claim(&canonical, slot, at);
        let owner = self
            .directories
            .get(&canonical)
            .and_then(|directory| directory.owner)
            .unwrap_or((slot, at));
        let made = self.implied.remove(&canonical) || made;
        let state = self.directories.get(&canonical);
        let (seen, ours) = state.map_or((false, false), |directory| (directory.seen, directory.ours));
        let before = match won {
            Some(before) => before,
            None => Some(owner),
        };
        let holder = |(slot, at): (usize, usize)| &self.slots[slot].directories[at].holder;
        let fits = before.is_some_and(|before| holder(before).fits(&self.tree.inode(id).metadata));
        let follows = ours || (!seen && fits && !self.options.stale_directories);
        let apply = match before {
            _ if made => true,
            Some(before) => won.is_some() && follows && !holder(before).agrees(holder(owner)),
            // One that no package had keeps its owner and mode.
            None => false,
        };
        if apply {
            let differs = self.give(id, owner.0, owner.1);
            if differs && !made {
                self.note(&canonical, &arrival.name, ChangeKind::SetDirectory);
            }
        }
        if let Some(directory) = self.directories.get_mut(&canonical) {
            directory.ours = made || if seen { ours } else { fits };
            directory.seen = true;
        }
        Ok(())
    }

    /// Sees to it that `path` is a directory, whose parent is one; says whether it was made. A link or file of
    /// the version that is being replaced gives way, a link to a directory is followed otherwise.
    fn way(&mut self, arrival: &Arrival<'_>, path: &[u8]) -> Result<bool, InstallError> {
        let failed = Self::tree_error(&arrival.name);
        if let Some(id) = self.tree.find(path, Follow::Parents).map_err(&failed)? {
            if self.tree.inode(id).is_directory() {
                return Ok(false);
            }
            let canonical = self.tree.canonical(path, Follow::Parents).map_err(&failed)?;
            let owner = self.files.get(&canonical).map(|&(slot, _, _)| slot);
            if owner.is_some() && owner == arrival.previous {
                self.unlink(&canonical, &arrival.name);
                self.lose(&canonical);
            } else {
                match self.tree.find(path, Follow::All) {
                    Ok(Some(id)) if self.tree.inode(id).is_directory() => return Ok(false),
                    Err(error @ TreeError::Loop(_)) => return Err(failed(error)),
                    _ => {
                        let what = match owner {
                            Some(slot) => {
                                format!("it is a directory here, but no directory in {}", self.name(slot))
                            }
                            None => {
                                "it is a directory here, but the root has something else there".to_owned()
                            }
                        };
                        let (package, path) = (arrival.name.clone(), display(path));
                        return Err(InstallError::InTheWay { package, path, what });
                    }
                }
            }
        }
        let metadata = Metadata::new(0o755, self.options.time);
        let id = self.tree.make_directory(path, metadata).map_err(&failed)?;
        let canonical = self.tree.directory_path(id);
        self.note(&canonical, &arrival.name, ChangeKind::MakeDirectory);
        Ok(true)
    }

    fn file(
        &mut self,
        arrival: &mut Arrival<'_>,
        directory: &[u8],
        entry: &FileEntry,
        content: Option<Content>,
        protected: bool,
    ) -> Result<(), InstallError> {
        let slot = arrival.slot;
        let failed = Self::tree_error(&arrival.name);
        let path = join(directory, &entry.name);
        let canonical = self.tree.canonical(&path, Follow::Parents).map_err(&failed)?;
        let holder_of = self.files.get(&canonical).copied();
        if let Some((owner, _, _)) = holder_of {
            match self.contest(slot, owner) {
                Some(true) => {}
                Some(false) => {
                    arrival.seen.insert(path, Seen::Elsewhere);
                    return Ok(());
                }
                None if self.options.overwrite => {}
                None => {
                    return Err(InstallError::Clash {
                        package: arrival.name.clone(),
                        path: display(&path),
                        owner: self.name(owner),
                    });
                }
            }
        }
        let kind = self.slots[slot].digest_kind();
        let source = match &entry.kind {
            FileKind::HardLink { target } => {
                let missing = || InstallError::HardLink {
                    package: arrival.name.clone(),
                    path: display(&path),
                    target: display(target),
                };
                match arrival.seen.get(target).ok_or_else(missing)? {
                    // The first name stayed with another package: then so does this one.
                    Seen::Elsewhere => {
                        arrival.seen.insert(path, Seen::Elsewhere);
                        return Ok(());
                    }
                    Seen::Placed { id, path, digest } => (Err((*id, path.clone())), *digest),
                    Seen::Dropped { node, digest } => (Ok(node.clone()), *digest),
                }
            }
            other => (Ok(node(other, content)), digest(other, kind)),
        };
        let (source, digest) = source;
        let fate = self.fate(&canonical, arrival.previous, holder_of, (digest, kind), protected);
        let holder = self.holder(slot, &path, &entry.acl, arrival.names);
        let seen = self.settle(arrival, &canonical, (entry, &holder, &path), source, digest, fate)?;
        arrival.seen.insert(path, seen);
        if holder_of.is_some() {
            self.lose(&canonical);
        }
        let at = self.slots[slot].directories.len() - 1;
        let files = &mut self.slots[slot].directories[at].files;
        self.files.insert(canonical.clone(), (slot, at, files.len()));
        files.push(FileRecord {
            name: entry.name.clone(),
            holder,
            digest,
            canonical,
            lost: false,
        });
        Ok(())
    }

    /// What becomes of a file: in a protected directory one that differs from its record, or that no package
    /// had, is not overwritten.
    fn fate(
        &self,
        canonical: &[u8],
        previous: Option<usize>,
        before: Option<(usize, usize, usize)>,
        (digest, kind): (Option<[u8; 20]>, DigestKind),
        protected: bool,
    ) -> Fate {
        if !protected {
            return Fate::Write;
        }
        let there = self.tree.find(canonical, Follow::Parents).ok().flatten();
        if there.is_some_and(|id| self.tree.inode(id).is_directory()) {
            return match self.can_go(canonical, previous) {
                // A directory of another package is an error, as it is elsewhere; one of the administrator's stays.
                Err(_) if !self.is_claimed(canonical, previous) => Fate::Aside,
                _ => Fate::Write,
            };
        }
        let (recorded, recorded_kind) = match before {
            Some((slot, directory, file)) => {
                let slot = &self.slots[slot];
                (slot.directories[directory].files[file].digest, slot.digest_kind())
            }
            None => (None, kind),
        };
        if !self.changed(canonical, recorded, recorded_kind) {
            return Fate::Write;
        }
        match self.options.no_apk_new || !self.changed(canonical, digest, kind) {
            true => Fate::Keep,
            false => Fate::Aside,
        }
    }

    /// Whether a package other than the old version of the one in hand has a directory.
    fn is_claimed(&self, canonical: &[u8], previous: Option<usize>) -> bool {
        let claims = self.directories.get(canonical).map(|directory| &directory.claims);
        claims.is_some_and(|claims| claims.iter().any(|(slot, _)| Some(*slot) != previous))
    }

    /// Puts a file where it belongs. `source` is a node or the inode (and path) of a first name.
    fn settle(
        &mut self,
        arrival: &Arrival<'_>,
        canonical: &[u8],
        (entry, holder, path): (&FileEntry, &Holder, &[u8]),
        source: Result<Node, (InodeId, Vec<u8>)>,
        digest: Option<[u8; 20]>,
        fate: Fate,
    ) -> Result<Seen, InstallError> {
        let failed = Self::tree_error(&arrival.name);
        let destination = match fate {
            Fate::Keep => {
                self.note(canonical, &arrival.name, ChangeKind::Keep);
                return Ok(match source {
                    Ok(node) => Seen::Dropped { node, digest },
                    Err((id, path)) => Seen::Placed { id, path, digest },
                });
            }
            Fate::Write => canonical.to_vec(),
            Fate::Aside => [canonical, b".apk-new"].concat(),
        };
        let there = self.tree.find(&destination, Follow::Parents).map_err(&failed)?;
        if there.is_some_and(|id| self.tree.inode(id).is_directory()) {
            self.evacuate(&destination, arrival.previous, &arrival.name)
                .map_err(|what| {
                    let (package, path) = (arrival.name.clone(), display(path));
                    InstallError::InTheWay { package, path, what }
                })?;
        }
        let id = match source {
            Err((id, to)) => {
                let there = self.tree.find(&destination, Follow::Parents).map_err(&failed)?;
                if there != Some(id) {
                    if there.is_some() {
                        self.tree.remove(&destination).map_err(&failed)?;
                    }
                    self.tree.link(id, &destination).map_err(&failed)?;
                }
                self.note(&destination, &arrival.name, ChangeKind::Link { to: to.clone() });
                return Ok(Seen::Placed { id, path: to, digest });
            }
            Ok(node) => {
                let seconds = i64::try_from(entry.mtime).unwrap_or(i64::MAX);
                let mut metadata = Metadata::new(holder.ids.mode, Timestamp::from_seconds(seconds));
                metadata.xattrs = entry.acl.xattrs.iter().cloned().collect();
                self.tree.insert(&destination, metadata, node).map_err(&failed)?
            }
        };
        self.own(id, arrival.slot, path, holder);
        self.placed.insert(id);
        let kind = match fate {
            Fate::Aside => ChangeKind::Aside {
                kept: canonical.to_vec(),
            },
            _ => ChangeKind::Write,
        };
        self.note(&destination, &arrival.name, kind);
        Ok(Seen::Placed {
            id,
            path: destination,
            digest,
        })
    }
}

/// The order of files by name.
fn sorted(files: &[FileRecord]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..files.len()).collect();
    order.sort_by(|&a, &b| files[a].name.cmp(&files[b].name));
    order
}

fn node(kind: &FileKind, content: Option<Content>) -> Node {
    let device = |major: &u32, minor: &u32| Device {
        major: *major,
        minor: *minor,
    };
    match kind {
        FileKind::Symlink { target } => Node::Symlink(target.clone()),
        FileKind::CharDevice { major, minor } => Node::CharDevice(device(major, minor)),
        FileKind::BlockDevice { major, minor } => Node::BlockDevice(device(major, minor)),
        FileKind::Fifo => Node::Fifo,
        FileKind::Regular { .. } | FileKind::HardLink { .. } => {
            Node::Regular(content.unwrap_or_else(Content::empty))
        }
    }
}

/// What the database records of a file's content.
fn digest(kind: &FileKind, how: DigestKind) -> Option<[u8; 20]> {
    match kind {
        FileKind::Regular { hash } => hash.get(..20).and_then(|cut| cut.try_into().ok()),
        FileKind::Symlink { target } => Some(how.of(target)),
        _ => None,
    }
}
