//! Transactions: packages installed into, upgraded in and removed from a tree.
//!
//! A transaction starts from a tree and what is installed in it: nothing, when an image is built, or the
//! installed database of a running system. It changes the tree, the database, and tells what it changed,
//! in order ([`Installed::changes`]), so that a caller who has the same root on a disk can repeat it there.
//!
//! The rules are those of apk-tools 3.0 (`src/database.c`, `src/commit.c`), with these differences, all of
//! them stricter or repairs:
//!
//! - Paths are resolved inside the tree: a link of one package never leads another's files outside.
//! - Two packages that reach one file through different links clash as they do when they name it alike.
//! - A clash is an error that stops, not a warning that skips the file.
//! - The setgid bit and the attributes of directories are applied.
//! - A file may become a directory and a directory a file in one upgrade, as long as nothing of others is
//!   in it.
//! - A directory that is as its owner would have it follows a new version or a stronger claim, which apk forgets
//!   where that is the first look at the directory in a transaction ([`Options::stale_directories`]).
//!
//! # Over an existing root
//!
//! The tree of the present root needs every path that the packages concerned have, with owner and mode.
//! *Contents* may be empty: they are looked at only where a protected directory (`/etc`) already has a file
//! that a package brings, and then [`Present::digest`] is asked. What was not changed is not in the list of
//! changes, so that an empty content is never written anywhere.
//!
//! [`Installation::carry_out`] makes the changes that the solver decided, with an example of a whole switch of
//! packages; this is one upgrade by hand:
//!
//! ```
//! use lycia_apk::database::Database;
//! use lycia_apk::install::{ChangeKind, Installation, Names, Options, Unpacked};
//! use lycia_apk::metadata::{Acl, DirEntry, FileEntry, FileKind, Package, PackageInfo};
//! use lycia_tree::{Content, Metadata, Timestamp, Tree};
//!
//! # fn package(version: &str) -> Unpacked {
//! #     let acl = |mode| Acl { mode, user: "root".into(), group: "root".into(), ..Acl::default() };
//! #     let file = FileEntry { name: b"libc.so".to_vec(), acl: acl(0o755), size: 1, mtime: 0,
//! #         kind: FileKind::Regular { hash: vec![0; 32] } };
//! #     let info = PackageInfo { name: "musl".into(), version: version.into(), installed_size: 1,
//! #         ..PackageInfo::default() };
//! #     let paths = vec![DirEntry { path: b"lib".to_vec(), acl: acl(0o755), files: vec![file] }];
//! #     let package = Package { info: info.clone(), paths, ..Package::default() };
//! #     Unpacked { entry: info, package, contents: vec![Content::from(version)],
//! #         ..Unpacked::default() }
//! # }
//! let time = Timestamp::from_seconds(0);
//! let mut tree = Tree::new(Metadata::new(0o755, time));
//! let mut first = Installation::new(&mut tree, time);
//! first.add(package("1-r0"))?;
//! let installed = first.finish(&Names::default());
//!
//! let mut upgrade = Installation::over(&mut tree, installed.database, Options::new(time));
//! upgrade.leaving(["musl"]);
//! upgrade.add(package("2-r0"))?;
//! let done = upgrade.finish(&Names::default());
//! let written: Vec<_> = done.changes.iter().map(|change| (change.path.as_slice(), &change.kind)).collect();
//! assert_eq!(written, [(&b"/lib/libc.so"[..], &ChangeKind::Write)]);
//! # Ok::<(), lycia_apk::install::InstallError>(())
//! ```

mod error;
mod finish;
mod owners;
mod place;
mod protected;
mod remove;
mod solution;
mod state;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use lycia_tree::{Content, Follow, InodeId, Timestamp, Tree};

use crate::database::{Database, InstalledPackage};
use crate::metadata::{FileKind, Package, PackageInfo, ScriptKind};
use crate::package::Format;

pub use error::InstallError;
pub use owners::Names;
pub use protected::ProtectedPaths;
pub use state::{DigestKind, InTree, Present};
use state::{Directory, Owned, Slot};

/// A package ready to be installed: what the index says, what the package says, and the contents of its
/// regular files in the order of the package, empty ones included.
#[derive(Clone, Default, Debug)]
pub struct Unpacked {
    /// The record of the index. Metapackages need nothing else.
    pub entry: PackageInfo,
    /// The package.
    pub package: Package,
    /// The format that it came in, which decides how the database notes its digests.
    pub format: Format,
    /// One content for each regular file.
    pub contents: Vec<Content>,
    /// Repository tag that the package is pinned to.
    pub tag: Option<String>,
}

/// When the names of owners become numbers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Owners {
    /// At the end, by the users that the root has then: for images, whose users come from `sysusers.d`.
    #[default]
    AtEnd,
    /// When a package comes, by the users that the root has at that moment, as apk does.
    AtOnce,
}

/// How a transaction is made.
#[derive(Clone)]
pub struct Options<'a> {
    /// The time of directories, for packages keep none of them.
    pub time: Timestamp,
    /// When owners are resolved.
    pub owners: Owners,
    /// Directories whose files are not overwritten when they were changed.
    pub protected: ProtectedPaths,
    /// Tells what files of the present root contain.
    pub present: &'a dyn Present,
    /// Drop what a package brings for a protected file that was changed, instead of putting it beside as
    /// `NAME.apk-new`.
    pub no_apk_new: bool,
    /// Remove changed files of protected directories with their package, too.
    pub purge: bool,
    /// Let a package have a file of another that it does not replace (`--force-overwrite`) instead of failing.
    pub overwrite: bool,
    /// Leave a directory as it is when a new version of its owner or a stronger claim comes before anything else of
    /// the transaction has looked at it, as apk 3.0 does: for comparing with it.
    pub stale_directories: bool,
}

impl Options<'_> {
    /// The usual way, with all contents in the tree.
    pub fn new(time: Timestamp) -> Self {
        Options {
            time,
            owners: Owners::default(),
            protected: ProtectedPaths::default(),
            present: &InTree,
            no_apk_new: false,
            purge: false,
            overwrite: false,
            stale_directories: false,
        }
    }
}

/// One change of the root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileChange {
    /// Canonical path, absolute.
    pub path: Vec<u8>,
    /// The package that caused it.
    pub package: String,
    /// What it is.
    pub kind: ChangeKind,
}

/// What happens to a path. Owner, mode, time, attributes and content are those of the changed tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    /// A directory is made.
    MakeDirectory,
    /// A directory that is there gets another owner, mode or attributes.
    SetDirectory,
    /// A file, link or node is written, in place of any non-directory there. To be done under another name
    /// and renamed, so that no moment is without the file.
    Write,
    /// A further name of a file that was written before.
    Link {
        /// Its path.
        to: Vec<u8>,
    },
    /// A file is written beside one that the administrator changed.
    Aside {
        /// The file that stays.
        kept: Vec<u8>,
    },
    /// A file that the administrator changed stays, and what the package brought is dropped.
    Keep,
    /// A file, link or node goes.
    Remove,
    /// A directory, empty by now, goes.
    RemoveDirectory,
}

/// A script that a package manager would have run. None was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ScriptCall {
    /// The package.
    pub package: String,
    /// Which script.
    pub kind: ScriptKind,
    /// Its arguments: the version, or the new and the old one; for a trigger, directories in byte order.
    pub arguments: Vec<Vec<u8>>,
}

impl ScriptCall {
    /// The package as `database` has it, and the text of the script; `None` where it has no such script.
    pub fn script<'d>(&self, database: &'d Database) -> Option<(&'d InstalledPackage, &'d [u8])> {
        let package = database
            .packages
            .iter()
            .find(|package| package.info.name == self.package)?;
        let (_, script) = package.scripts.iter().find(|(kind, _)| *kind == self.kind)?;
        Some((package, script))
    }
}

/// What a transaction did.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The database to be written into the root.
    pub database: Database,
    /// Which package has each file, by canonical path in the tree.
    pub attribution: BTreeMap<Vec<u8>, String>,
    /// Scripts other than triggers, in the order in which apk would have run them.
    pub scripts: Vec<ScriptCall>,
    /// Triggers that apk would have run afterwards, in its order.
    pub triggers: Vec<ScriptCall>,
    /// Owner names that the root does not know; the entries got the id 65534 as apk gives it.
    pub unknown_owners: Vec<InstallError>,
    /// Every change of the tree, in the order in which it was made. The database's files are not in it.
    pub changes: Vec<FileChange>,
}

/// A transaction at work. See the [module](self).
pub struct Installation<'t> {
    tree: &'t mut Tree,
    options: Options<'t>,
    slots: Vec<Slot>,
    /// The slot of each package that is installed by now.
    by_name: HashMap<String, usize>,
    /// The package that has each file, by canonical path: slot, directory and file of its record.
    files: HashMap<Vec<u8>, (usize, usize, usize)>,
    /// Claims on directories by canonical path.
    directories: BTreeMap<Vec<u8>, Directory>,
    /// Directories that were only made on the way to another, by canonical path.
    implied: HashSet<Vec<u8>>,
    /// Every directory that a record names, with those above, gone ones included; as the records have it.
    known: BTreeSet<Vec<u8>>,
    /// Those of them in which a package came, changed or went.
    modified: BTreeSet<Vec<u8>>,
    /// Inodes with the names of their owners.
    owned: BTreeMap<InodeId, Owned>,
    /// Inodes that this transaction made: their contents are in the tree.
    placed: HashSet<InodeId>,
    /// Slots in the order of the change set.
    order: Vec<usize>,
    scripts: Vec<ScriptCall>,
    changes: Vec<FileChange>,
    unknown_owners: Vec<InstallError>,
}

impl<'t> Installation<'t> {
    /// Starts to install into `tree`, in which no package is yet. Directories get the time `time`.
    pub fn new(tree: &'t mut Tree, time: Timestamp) -> Installation<'t> {
        Installation::over(tree, Database::default(), Options::new(time))
    }

    /// Starts a transaction over a root in which the packages of `database` are installed.
    pub fn over(tree: &'t mut Tree, database: Database, options: Options<'t>) -> Installation<'t> {
        let mut installation = Installation {
            tree,
            options,
            slots: Vec::new(),
            by_name: HashMap::new(),
            files: HashMap::new(),
            directories: BTreeMap::new(),
            implied: HashSet::new(),
            known: BTreeSet::new(),
            modified: BTreeSet::new(),
            owned: BTreeMap::new(),
            placed: HashSet::new(),
            order: Vec::new(),
            scripts: Vec::new(),
            changes: Vec::new(),
            unknown_owners: Vec::new(),
        };
        for package in database.packages {
            installation.load(package);
        }
        installation
    }

    /// The tree, for what must happen between packages and the resolution of owners (sysusers).
    pub fn tree(&mut self) -> &mut Tree {
        self.tree
    }

    /// Names packages that this transaction removes or puts another version of: others may take over their
    /// files. To be called before the first change; names that are not installed are passed over.
    pub fn leaving<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) {
        for name in names {
            if let Some(&slot) = self.by_name.get(name) {
                self.slots[slot].leaving = true;
            }
        }
    }

    /// Installs a package, or puts it in place of the installed one of its name (another version or the same
    /// again). Packages come in the order of the change set, dependencies first.
    ///
    /// # Errors
    /// On the first entry that cannot be installed; the tree may have got those before it.
    pub fn add(&mut self, unpacked: Unpacked) -> Result<(), InstallError> {
        let name = unpacked.entry.name.clone();
        let regular = |file: &&crate::metadata::FileEntry| matches!(file.kind, FileKind::Regular { .. });
        let files = unpacked
            .package
            .paths
            .iter()
            .flat_map(|directory| &directory.files);
        let expected = files.filter(regular).count();
        if expected != unpacked.contents.len() {
            return Err(InstallError::Contents {
                package: name,
                expected,
                found: unpacked.contents.len(),
            });
        }
        let previous = self.by_name.get(&name).copied();
        let Unpacked {
            entry,
            package,
            format,
            contents,
            tag,
        } = unpacked;
        let (before, after, mut arguments) = match previous {
            None => (ScriptKind::PreInstall, ScriptKind::PostInstall, Vec::new()),
            Some(_) => (ScriptKind::PreUpgrade, ScriptKind::PostUpgrade, Vec::new()),
        };
        arguments.push(entry.version.clone().into_bytes());
        if let Some(previous) = previous {
            arguments.push(self.slots[previous].record.info.version.clone().into_bytes());
        }
        let slot = self.slots.len();
        self.slots.push(Slot::fresh(entry, &package, format, tag));
        self.call(slot, before, &arguments);
        self.place(slot, previous, &package, contents)?;
        if let Some(previous) = previous {
            self.take_away(previous, &name);
        }
        self.by_name.insert(name, slot);
        self.call(slot, after, &arguments);
        self.order.push(slot);
        Ok(())
    }

    /// Removes an installed package.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn remove(&mut self, name: &str) -> Result<(), InstallError> {
        let slot = self.installed(name, "removed")?;
        self.slots[slot].leaving = true;
        let arguments = [self.slots[slot].record.info.version.clone().into_bytes()];
        self.call(slot, ScriptKind::PreDeinstall, &arguments);
        self.take_away(slot, name);
        self.by_name.remove(name);
        self.call(slot, ScriptKind::PostDeinstall, &arguments);
        Ok(())
    }

    /// Notes that an installed package stays, at this place of the change set, where its triggers run; and the
    /// repository tag that it counts as coming from.
    ///
    /// # Errors
    /// When it is not installed.
    pub fn keep(&mut self, name: &str, tag: Option<String>) -> Result<(), InstallError> {
        let slot = self.installed(name, "kept")?;
        self.slots[slot].record.tag = tag;
        self.order.push(slot);
        Ok(())
    }

    /// Gives every directory that a package has the owner and mode of its record, whatever was done to it
    /// (`fix --directory-permissions`).
    pub fn restore_directories(&mut self) {
        let owners: Vec<(Vec<u8>, usize, usize)> = self
            .directories
            .iter()
            .filter_map(|(path, directory)| directory.owner.map(|(slot, at)| (path.clone(), slot, at)))
            .collect();
        for directory in self.directories.values_mut() {
            (directory.seen, directory.ours) = (true, true);
        }
        for (path, slot, at) in owners {
            let there = self.tree.find(&path, Follow::Parents).ok().flatten();
            let Some(id) = there.filter(|id| self.tree.inode(*id).is_directory()) else {
                continue;
            };
            if self.give(id, slot, at) {
                let name = self.name(slot);
                self.modified
                    .insert(self.slots[slot].directories[at].path.clone());
                self.note(&path, &name, ChangeKind::SetDirectory);
            }
        }
    }

    fn installed(&self, name: &str, doing: &'static str) -> Result<usize, InstallError> {
        let slot = self.by_name.get(name).copied();
        slot.ok_or_else(|| InstallError::NotInstalled {
            package: name.to_owned(),
            doing,
        })
    }

    /// Notes a call of a script, if the package has it.
    fn call(&mut self, slot: usize, kind: ScriptKind, arguments: &[Vec<u8>]) {
        let record = &self.slots[slot].record;
        if record.scripts.iter().any(|(have, _)| *have == kind) {
            let package = record.info.name.clone();
            self.scripts.push(ScriptCall {
                package,
                kind,
                arguments: arguments.to_vec(),
            });
        }
    }

    fn note(&mut self, path: &[u8], package: &str, kind: ChangeKind) {
        self.changes.push(FileChange {
            path: path.to_vec(),
            package: package.to_owned(),
            kind,
        });
    }

    fn name(&self, slot: usize) -> String {
        self.slots[slot].record.info.name.clone()
    }
}

pub(crate) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if directory != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}
