//! Taking a package out of the tree.

use lycia_tree::{Follow, InodeId, display};

use super::finish::{numbers, unknown_owner};
use super::state::{Holder, Owned, OwnerNames};
use super::{ChangeKind, Installation, Names, Owners, join};
use crate::metadata::Acl;

impl Installation<'_> {
    /// Removes what a record still has: files (changed ones of protected directories stay), then directories
    /// that nobody wants any more. `cause` is the package that made it happen.
    pub(super) fn take_away(&mut self, slot: usize, cause: &str) {
        self.slots[slot].gone = true;
        let kind = self.slots[slot].digest_kind();
        let directories = std::mem::take(&mut self.slots[slot].directories);
        for (at, directory) in directories.iter().enumerate() {
            let protected = self.options.protected.covers(&directory.path);
            if directory.counts {
                self.modified.insert(directory.path.clone());
            }
            for file in directory.files.iter().filter(|file| !file.lost) {
                let all = self.options.purge || !protected;
                if all || !self.changed(&file.canonical, file.digest, kind) {
                    self.unlink(&file.canonical, cause);
                }
                if protected {
                    let aside = [&file.canonical[..], b".apk-new"].concat();
                    self.unlink(&aside, cause);
                }
                self.files.remove(&file.canonical);
            }
            self.unclaim(&directory.canonical, (slot, at), &directory.holder, cause);
        }
        self.slots[slot].directories = directories;
    }

    /// Removes a non-directory, if one is there.
    pub(super) fn unlink(&mut self, path: &[u8], cause: &str) {
        let there = self.tree.find(path, Follow::Parents).ok().flatten();
        if there.is_some_and(|id| !self.tree.inode(id).is_directory()) && self.tree.remove(path).is_ok() {
            self.note(path, cause, ChangeKind::Remove);
        }
    }

    fn unclaim(&mut self, canonical: &[u8], claim: (usize, usize), holder: &Holder, cause: &str) {
        let Some(mut directory) = self.directories.remove(canonical) else {
            return;
        };
        directory.claims.retain(|other| *other != claim);
        if directory.owner == Some(claim) {
            let mut owner: Option<(usize, usize)> = None;
            for candidate in &directory.claims {
                if owner.is_none_or(|(slot, _)| self.yields_directory(slot, candidate.0)) {
                    owner = Some(*candidate);
                }
            }
            directory.owner = owner;
            if let (Some((slot, at)), Ok(Some(id))) = (owner, self.tree.find(canonical, Follow::Parents)) {
                let fits = !self.options.stale_directories && holder.fits(&self.tree.inode(id).metadata);
                if (directory.ours || fits) && self.give(id, slot, at) {
                    directory.ours = true;
                    self.note(canonical, cause, ChangeKind::SetDirectory);
                }
            }
        }
        let empty = directory.claims.is_empty();
        if !empty {
            self.directories.insert(canonical.to_vec(), directory);
        } else {
            self.prune(canonical, cause);
        }
    }

    /// Removes a directory that no record claims, neither it nor one below, if it is empty; then those above.
    fn prune(&mut self, canonical: &[u8], cause: &str) {
        let mut path = canonical.to_vec();
        while path.len() > 1 {
            let (mut from, mut to) = (path.clone(), path.clone());
            from.push(b'/');
            to.push(b'/' + 1);
            let claimed =
                self.directories.contains_key(&path) || self.directories.range(from..to).next().is_some();
            let there = self.tree.find(&path, Follow::Parents).ok().flatten();
            if claimed {
                return;
            }
            // One that is not there, is something else by now, or has something of others in it: those above are
            // looked at all the same, and stay if they are not empty.
            if there.is_some_and(|id| self.tree.inode(id).is_directory()) && self.tree.remove(&path).is_ok() {
                self.note(&path, cause, ChangeKind::RemoveDirectory);
            }
            // Gone or not, no package has it any more.
            self.modified.insert(path[1..].to_vec());
            let end = path.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
            path.truncate(end);
        }
    }

    /// Empties a directory that is to become something else. Says what is in the way.
    pub(super) fn evacuate(
        &mut self,
        path: &[u8],
        previous: Option<usize>,
        cause: &str,
    ) -> Result<(), String> {
        // Children come after their parents in a walk.
        for (inner, is_directory) in self.can_go(path, previous)?.iter().rev() {
            if *is_directory {
                if self.tree.remove(inner).is_ok() {
                    self.note(inner, cause, ChangeKind::RemoveDirectory);
                }
                continue;
            }
            self.unlink(inner, cause);
            self.lose(inner);
        }
        Ok(())
    }

    /// What is in a directory, and whether it is one, if the old version of the package in hand has all of it and
    /// nothing there was changed against its record; otherwise, what is in the way.
    pub(super) fn can_go(
        &self,
        path: &[u8],
        previous: Option<usize>,
    ) -> Result<Vec<(Vec<u8>, bool)>, String> {
        let Ok(Some(id)) = self.tree.find(path, Follow::Parents) else {
            return Ok(Vec::new());
        };
        let inside: Vec<(Vec<u8>, bool)> = self
            .tree
            .walk_from(path, id)
            .map(|entry| (entry.path, entry.inode.is_directory()))
            .collect();
        for (inner, is_directory) in &inside {
            if *is_directory {
                let claims = self
                    .directories
                    .get(inner)
                    .map(|directory| directory.claims.as_slice());
                let other = claims
                    .unwrap_or_default()
                    .iter()
                    .find(|(slot, _)| Some(*slot) != previous);
                if let Some((slot, _)) = other {
                    return Err(format!(
                        "the directory {} of {}",
                        display(inner),
                        self.name(*slot)
                    ));
                }
                continue;
            }
            match self.files.get(inner) {
                Some(&(slot, directory, file)) if Some(slot) == previous => {
                    let directory = &self.slots[slot].directories[directory];
                    let digest = directory.files[file].digest;
                    let kind = self.slots[slot].digest_kind();
                    if self.options.protected.covers(&directory.path) && self.changed(inner, digest, kind) {
                        return Err(format!("the changed file {}", display(inner)));
                    }
                }
                Some(&(slot, _, _)) => {
                    return Err(format!("the file {} of {}", display(inner), self.name(slot)));
                }
                None => {
                    return Err(format!("the file {}, which no package has", display(inner)));
                }
            }
        }
        Ok(inside)
    }

    /// Takes a file out of the record that has it.
    pub(super) fn lose(&mut self, canonical: &[u8]) {
        if let Some((slot, directory, file)) = self.files.remove(canonical) {
            self.slots[slot].directories[directory].files[file].lost = true;
        }
    }

    /// Gives a directory the owner, mode and attributes of a record; says whether that changed anything.
    pub(super) fn give(&mut self, id: InodeId, slot: usize, at: usize) -> bool {
        let holder = self.slots[slot].directories[at].holder.clone();
        let before = self.tree.inode(id).metadata.clone();
        let metadata = self.tree.metadata_mut(id);
        metadata.mode = holder.ids.mode;
        if let Some(xattrs) = &holder.xattrs {
            metadata.xattrs = xattrs.iter().cloned().collect();
        }
        let path = self.slots[slot].directories[at].path.clone();
        self.own(id, slot, &path, &holder);
        *self.tree.metadata_mut(id) != before
    }

    /// Gives an inode its owner, now or as soon as the users are known.
    pub(super) fn own(&mut self, id: InodeId, slot: usize, path: &[u8], holder: &Holder) {
        let metadata = self.tree.metadata_mut(id);
        (metadata.uid, metadata.gid) = (holder.ids.uid, holder.ids.gid);
        self.owned.remove(&id);
        if let (Some(names), Owners::AtEnd) = (&holder.names, self.options.owners) {
            let owned = Owned {
                package: self.name(slot),
                path: path.to_vec(),
                names: names.clone(),
            };
            self.owned.insert(id, owned);
        }
    }

    /// The owner that an entry of a package gives, with numbers if they are to be had at once.
    pub(super) fn holder(&mut self, slot: usize, path: &[u8], acl: &Acl, names: Option<&Names>) -> Holder {
        let mut holder = Holder::of(acl);
        if let Some(names) = names {
            let package = self.name(slot);
            let unknown = &mut self.unknown_owners;
            (holder.ids.uid, holder.ids.gid) = numbers(names, &OwnerNames::of(acl), |kind, name| {
                unknown.push(unknown_owner(&package, path, kind, name));
            });
        }
        holder
    }
}

/// The parent of a path in a record.
pub(super) fn prefixes(path: &[u8]) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    let mut found = Vec::new();
    for part in path.split(|&byte| byte == b'/').filter(|part| !part.is_empty()) {
        whole = join(&whole, part);
        found.push(whole.clone());
    }
    found
}
