//! What a transaction knows of packages, directories and files.

use lycia_tree::{Follow, Metadata, Tree};

use super::{Installation, join};
use crate::database::{Flags, InstalledPackage, Ownership, xattr_digest};
use crate::metadata::{Acl, Dependency, Package, PackageInfo};
use crate::package::Format;
use crate::version;

/// How the database notes the content of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DigestKind {
    /// SHA-1, of v2 packages.
    Sha1,
    /// SHA-256 cut to 20 bytes, of v3 packages.
    Sha256,
}

impl DigestKind {
    /// The digest of some bytes.
    pub fn of(self, bytes: &[u8]) -> [u8; 20] {
        let mut cut = [0; 20];
        match self {
            DigestKind::Sha1 => cut.copy_from_slice(&<sha1::Sha1 as sha1::Digest>::digest(bytes)),
            DigestKind::Sha256 => cut.copy_from_slice(&<sha2::Sha256 as sha2::Digest>::digest(bytes)[..20]),
        }
        cut
    }
}

/// Tells what regular files of the present root contain.
pub trait Present {
    /// The digest of the regular file at the canonical path `path`, or none when it cannot be read: then it
    /// counts as changed and is kept.
    fn digest(&self, tree: &Tree, path: &[u8], kind: DigestKind) -> Option<[u8; 20]>;
}

/// All contents are in the tree.
#[derive(Clone, Copy, Default, Debug)]
pub struct InTree;

impl Present for InTree {
    fn digest(&self, tree: &Tree, path: &[u8], kind: DigestKind) -> Option<[u8; 20]> {
        let id = tree.find(path, Follow::Parents).ok()??;
        Some(kind.of(tree.inode(id).content()?.bytes()))
    }
}

/// The owners that a package names.
#[derive(Clone, Debug)]
pub(super) struct OwnerNames {
    pub user: String,
    pub group: String,
    /// What counts if the root does not know them.
    pub ids: Option<(u32, u32)>,
}

impl OwnerNames {
    pub fn of(acl: &Acl) -> OwnerNames {
        OwnerNames {
            user: acl.user.clone(),
            group: acl.group.clone(),
            ids: acl.ids,
        }
    }
}

/// Owner, mode and attributes that a record gives.
#[derive(Clone, Debug)]
pub(super) struct Holder {
    pub ids: Ownership,
    /// Until the users of the root are known, or for messages.
    pub names: Option<OwnerNames>,
    /// None where only their digest is known.
    pub xattrs: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

impl Holder {
    pub fn of(acl: &Acl) -> Holder {
        Holder {
            ids: Ownership {
                uid: 0,
                gid: 0,
                mode: acl.mode & 0o7777,
                xattrs: xattr_digest(&acl.xattrs),
            },
            names: Some(OwnerNames::of(acl)),
            xattrs: Some(acl.xattrs.clone()),
        }
    }

    fn recorded(ids: Ownership) -> Holder {
        let xattrs = ids.xattrs.is_none().then(Vec::new);
        Holder {
            ids,
            names: None,
            xattrs,
        }
    }

    /// Whether another record says the same.
    pub fn agrees(&self, other: &Holder) -> bool {
        let names = |holder: &Holder| {
            let names = holder.names.as_ref()?;
            Some((names.user.clone(), names.group.clone(), names.ids))
        };
        self.ids == other.ids && names(self) == names(other)
    }

    /// Whether a directory is as this record has it.
    pub fn fits(&self, metadata: &Metadata) -> bool {
        (self.ids.mode, self.ids.uid, self.ids.gid) == (metadata.mode & 0o7777, metadata.uid, metadata.gid)
    }
}

#[derive(Debug)]
pub(super) struct FileRecord {
    pub name: Vec<u8>,
    pub holder: Holder,
    pub digest: Option<[u8; 20]>,
    pub canonical: Vec<u8>,
    /// Another package, or the next version of this one, has the file.
    pub lost: bool,
}

#[derive(Debug)]
pub(super) struct DirectoryRecord {
    pub path: Vec<u8>,
    pub canonical: Vec<u8>,
    pub holder: Holder,
    pub files: Vec<FileRecord>,
    /// The root directory counts only where it has files of the package.
    pub counts: bool,
}

/// One package before, in or after the transaction.
pub(super) struct Slot {
    /// Its record; the directories are in `directories` until the end.
    pub record: InstalledPackage,
    pub directories: Vec<DirectoryRecord>,
    /// It will go in this transaction.
    pub leaving: bool,
    pub gone: bool,
    /// It came in this transaction.
    pub fresh: bool,
}

impl Slot {
    pub fn fresh(entry: PackageInfo, package: &Package, format: Format, tag: Option<String>) -> Slot {
        let record = InstalledPackage {
            replaces_priority: package.replaces_priority,
            tag,
            flags: Flags {
                // A package without files is never opened, so that apk does not learn its format.
                sha256_160: format == Format::V3 && entry.installed_size != 0,
                ..Flags::default()
            },
            directories: Vec::new(),
            triggers: package.triggers.clone(),
            scripts: package.scripts.clone(),
            info: PackageInfo {
                replaces: package.info.replaces.clone(),
                ..entry
            },
        };
        Slot {
            record,
            directories: Vec::new(),
            leaving: false,
            gone: false,
            fresh: true,
        }
    }

    pub fn digest_kind(&self) -> DigestKind {
        match self.record.flags.sha256_160 {
            true => DigestKind::Sha256,
            false => DigestKind::Sha1,
        }
    }

    /// Whether the package says that it replaces `other`.
    fn replaces(&self, other: &PackageInfo) -> bool {
        let named = |dependency: &&Dependency| dependency.name == other.name;
        let mut named = self.record.info.replaces.iter().filter(named);
        named.any(|dependency| version::matches(&other.version, dependency.op, &dependency.version))
    }
}

/// The claims on a directory.
#[derive(Clone, Default, Debug)]
pub(super) struct Directory {
    /// Slot and directory of each record that has it.
    pub claims: Vec<(usize, usize)>,
    /// Whose idea of it counts.
    pub owner: Option<(usize, usize)>,
    /// It was looked at in this transaction.
    pub seen: bool,
    /// It was made in this transaction, or found as its owner would have it then: only such a directory follows a
    /// new owner.
    pub ours: bool,
}

/// Who an entry belongs to until the users of the root are known.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub package: String,
    pub path: Vec<u8>,
    pub names: OwnerNames,
}

impl Installation<'_> {
    /// Takes over a package that is installed already.
    pub(super) fn load(&mut self, mut package: InstalledPackage) {
        let slot = self.slots.len();
        let mut directories = Vec::new();
        for directory in std::mem::take(&mut package.directories) {
            let canonical = match self.tree.find(&directory.path, Follow::All) {
                Ok(Some(id)) if self.tree.inode(id).is_directory() => self.tree.directory_path(id),
                _ => join(b"/", &directory.path),
            };
            let files = directory.files.into_iter().map(|file| FileRecord {
                canonical: join(&canonical, &file.name),
                name: file.name,
                holder: Holder::recorded(file.owner),
                digest: file.digest,
                lost: false,
            });
            directories.push(DirectoryRecord {
                counts: true,
                files: files.collect(),
                path: directory.path,
                canonical,
                holder: Holder::recorded(directory.owner),
            });
        }
        let name = package.info.name.clone();
        self.slots.push(Slot {
            record: package,
            directories,
            leaving: false,
            gone: false,
            fresh: false,
        });
        self.by_name.insert(name, slot);
        for at in 0..self.slots[slot].directories.len() {
            let directory = &self.slots[slot].directories[at];
            for (file_at, file) in directory.files.iter().enumerate() {
                self.files
                    .entry(file.canonical.clone())
                    .or_insert((slot, at, file_at));
            }
            let (canonical, path) = (directory.canonical.clone(), directory.path.clone());
            self.know(&path);
            if !path.is_empty() {
                self.claim(&canonical, slot, at);
            }
        }
    }

    /// Notes a directory of a record and those above it.
    pub(super) fn know(&mut self, path: &[u8]) {
        let mut path = path;
        while self.known.insert(path.to_vec()) && !path.is_empty() {
            let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            path = &path[..end];
        }
    }

    /// Adds a claim on a directory; says who had it before, if the claim now counts instead.
    pub(super) fn claim(
        &mut self,
        canonical: &[u8],
        slot: usize,
        at: usize,
    ) -> Option<Option<(usize, usize)>> {
        let before = self
            .directories
            .get(canonical)
            .and_then(|directory| directory.owner);
        let takes = before.is_none_or(|(owner, _)| self.yields_directory(owner, slot));
        let directory = self.directories.entry(canonical.to_vec()).or_default();
        directory.claims.push((slot, at));
        if takes {
            directory.owner = Some((slot, at));
        }
        takes.then_some(before)
    }

    /// Whether the slot that has a directory gives it up to another: to the next version of itself, when it
    /// goes, to a higher replaces-priority, to a package named as their common origin, to a smaller name.
    pub(super) fn yields_directory(&self, old: usize, new: usize) -> bool {
        let (old, new) = (&self.slots[old], &self.slots[new]);
        let (a, b) = (&old.record.info, &new.record.info);
        if a.name == b.name || old.leaving {
            return true;
        }
        if new.leaving {
            return false;
        }
        if old.record.replaces_priority != new.record.replaces_priority {
            return new.record.replaces_priority > old.record.replaces_priority;
        }
        if !a.origin.is_empty() && a.origin == b.origin {
            if a.origin == a.name {
                return false;
            }
            if b.origin == b.name {
                return true;
            }
        }
        b.name < a.name
    }

    /// Whether the package `new` may take a file from `old` (true), has to leave it (false), or neither.
    pub(super) fn contest(&self, new: usize, old: usize) -> Option<bool> {
        let (new, old) = (&self.slots[new], &self.slots[old]);
        if new.record.info.name == old.record.info.name || old.leaving {
            return Some(true);
        }
        let counter = old.replaces(&new.record.info);
        if new.replaces(&old.record.info) {
            let stronger = counter && old.record.replaces_priority > new.record.replaces_priority;
            return Some(!stronger);
        }
        if counter {
            return Some(false);
        }
        let origin = &new.record.info.origin;
        (!origin.is_empty() && *origin == old.record.info.origin).then_some(true)
    }

    /// Whether the non-directory at a canonical path is other than a record says; nothing there is not.
    pub(super) fn changed(&self, path: &[u8], digest: Option<[u8; 20]>, kind: DigestKind) -> bool {
        let Ok(Some(id)) = self.tree.find(path, Follow::Parents) else {
            return false;
        };
        let Some(digest) = digest else { return true };
        let inode = self.tree.inode(id);
        let found = match inode.symlink() {
            Some(target) => Some(kind.of(target)),
            None if inode.content().is_none() => None,
            None if self.placed.contains(&id) => InTree.digest(self.tree, path, kind),
            None => self.options.present.digest(self.tree, path, kind),
        };
        found != Some(digest)
    }
}
