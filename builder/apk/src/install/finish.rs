//! The end of a transaction: owners, database, triggers.

use std::collections::BTreeMap;

use lycia_tree::{Follow, display};

use super::state::{Holder, OwnerNames};
use super::{ChangeKind, InstallError, Installation, Installed, Names, ScriptCall};
use crate::database::{Database, InstalledDirectory, InstalledFile};
use crate::glob;
use crate::metadata::ScriptKind;

/// The id of an owner that the root does not know.
const NOBODY: u32 = 65534;

/// The numbers of a user and a group, those of the package where the root does not know the names; what is
/// unknown altogether becomes nobody and is handed to `unknown`, with its kind and name.
pub(super) fn numbers(
    names: &Names,
    owner: &OwnerNames,
    mut unknown: impl FnMut(&'static str, &str),
) -> (u32, u32) {
    let mut resolve = |kind, name: &str, id: Option<u32>| {
        id.unwrap_or_else(|| {
            unknown(kind, name);
            NOBODY
        })
    };
    let uid = names.user(&owner.user).or(owner.ids.map(|ids| ids.0));
    let gid = names.group(&owner.group).or(owner.ids.map(|ids| ids.1));
    (
        resolve("user", &owner.user, uid),
        resolve("group", &owner.group, gid),
    )
}

/// The complaint about an owner that is unknown.
pub(super) fn unknown_owner(package: &str, path: &[u8], kind: &'static str, name: &str) -> InstallError {
    InstallError::UnknownOwner {
        package: package.to_owned(),
        path: display(path),
        kind,
        name: name.to_owned(),
    }
}

impl Installation<'_> {
    /// Resolves owners against the users that the root has by now ([`super::Owners::AtEnd`]; `names` is not
    /// used otherwise), and makes the database.
    pub fn finish(mut self, names: &Names) -> Installed {
        let late = self.options.owners == super::Owners::AtEnd;
        for (id, owned) in &self.owned {
            let metadata = self.tree.metadata_mut(*id);
            let unknown = &mut self.unknown_owners;
            (metadata.uid, metadata.gid) = numbers(names, &owned.names, |kind, name| {
                unknown.push(unknown_owner(&owned.package, &owned.path, kind, name));
            });
        }
        self.unknown_owners.sort_by_key(InstallError::to_string);

        let triggers = self.triggers();
        let recorded = |holder: &Holder| {
            let mut ids = holder.ids.clone();
            if let (true, Some(owner)) = (late, &holder.names) {
                (ids.uid, ids.gid) = numbers(names, owner, |_, _| {});
            }
            ids
        };
        let attribution: BTreeMap<Vec<u8>, String> = self
            .files
            .iter()
            .map(|(path, &(slot, _, _))| (path.clone(), self.name(slot)))
            .collect();
        let mut database = Database::default();
        for slot in self.slots.into_iter().filter(|slot| !slot.gone) {
            let mut record = slot.record;
            let counting = slot.directories.into_iter().filter(|directory| directory.counts);
            let directories = counting.map(|directory| InstalledDirectory {
                owner: recorded(&directory.holder),
                files: directory
                    .files
                    .into_iter()
                    .filter(|file| !file.lost)
                    .map(|file| InstalledFile {
                        owner: recorded(&file.holder),
                        name: file.name,
                        digest: file.digest,
                    })
                    .collect(),
                path: directory.path,
            });
            record.directories = directories.collect();
            database.packages.push(record);
        }
        database.sort();
        // What was written and went again is of no interest, but for its going.
        let tree = &*self.tree;
        let mut changes = self.changes;
        changes.retain(|change| match change.kind {
            ChangeKind::Remove | ChangeKind::RemoveDirectory => true,
            _ => matches!(tree.find(&change.path, Follow::Parents), Ok(Some(_))),
        });
        Installed {
            database,
            attribution,
            scripts: self.scripts,
            triggers,
            unknown_owners: self.unknown_owners,
            changes,
        }
    }

    /// The triggers that run: for a package that came, every directory of every record counts, otherwise those
    /// in which something happened. The first glob that fits a directory decides; one with `+` starts the
    /// script, but tells of the directory only if something happened there.
    fn triggers(&self) -> Vec<ScriptCall> {
        let mut calls = Vec::new();
        for &slot in &self.order {
            let slot = &self.slots[slot];
            let record = &slot.record;
            if slot.gone || record.triggers.is_empty() {
                continue;
            }
            let mut runs = false;
            let mut arguments = Vec::new();
            for path in &self.known {
                let modified = self.modified.contains(path);
                if !slot.fresh && !modified {
                    continue;
                }
                let rooted = [b"/", path.as_slice()].concat();
                let fits = |trigger: &&String| {
                    let glob = trigger.strip_prefix('+').unwrap_or(trigger);
                    glob.starts_with('/') && glob::matches(glob.as_bytes(), &rooted)
                };
                let Some(trigger) = record.triggers.iter().find(fits) else {
                    continue;
                };
                runs = true;
                if modified || !trigger.starts_with('+') {
                    arguments.push(rooted);
                }
            }
            if runs {
                let package = record.info.name.clone();
                calls.push(ScriptCall {
                    package,
                    kind: ScriptKind::Trigger,
                    arguments,
                });
            }
        }
        calls
    }
}
