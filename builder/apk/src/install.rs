//! Installing packages into a tree, as one transaction into a root that no package is in yet.
//!
//! The rules are those of apk-tools 3.0 (`src/database.c`), with these differences, all of them stricter
//! or repairs: paths are resolved inside the tree, so that a link of one package never leads another's
//! files outside; two packages that reach one file through different links clash as they do when they
//! name it alike; a clash is an error that stops, not a warning that skips the file; the setgid bit and
//! the attributes of directories are applied.

mod owners;

use std::collections::{BTreeMap, HashMap};

use lycia_tree::{Content, Device, Follow, InodeId, Metadata, Node, Timestamp, Tree, TreeError, display};
use thiserror::Error;

use crate::database::{
    Database, Flags, InstalledDirectory, InstalledFile, InstalledPackage, Ownership, xattr_digest,
};
use crate::metadata::{Acl, Dependency, DirEntry, FileEntry, FileKind, Package, PackageInfo, ScriptKind};
use crate::version;

pub use owners::Names;

/// Why a package cannot be installed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InstallError {
    /// The tree refuses a path.
    #[error("installing {package}: {error}")]
    Tree {
        /// The package.
        package: String,
        /// Why.
        error: TreeError,
    },
    /// Two packages have the same file and neither replaces the other.
    #[error("installing {package}: {path} belongs to {owner} already, which {package} does not replace")]
    Clash {
        /// The package being installed.
        package: String,
        /// The path that both have.
        path: String,
        /// The package that has it.
        owner: String,
    },
    /// A hard link names a file that its package does not have before it.
    #[error(
        "installing {package}: {path} is a hard link to {target}, which is no earlier file of the package"
    )]
    HardLink {
        /// The package.
        package: String,
        /// The link.
        path: String,
        /// What it names.
        target: String,
    },
    /// The contents given do not fit the package.
    #[error("installing {package}: {found} file contents were given where it has {expected} regular files")]
    Contents {
        /// The package.
        package: String,
        /// Regular files of the package.
        expected: usize,
        /// Contents given.
        found: usize,
    },
    /// A name stands for an owner that the root does not know.
    #[error(
        "{path} of {package} belongs to the {kind} {name}, which the root does not have: \
         a package that makes it with sysusers.d is missing"
    )]
    UnknownOwner {
        /// The package.
        package: String,
        /// The path.
        path: String,
        /// `user` or `group`.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

/// A package ready to be installed: what the index says, what the package says, and the contents of its
/// regular files in the order of the package, empty ones included.
#[derive(Clone, Debug)]
pub struct Unpacked {
    /// The record of the index. Metapackages need nothing else.
    pub entry: PackageInfo,
    /// The package.
    pub package: Package,
    /// One content for each regular file.
    pub contents: Vec<Content>,
    /// Repository tag that the package is pinned to.
    pub tag: Option<String>,
}

/// Who an entry belongs to until the users of the root are known.
#[derive(Clone, Debug)]
struct Owned {
    package: usize,
    path: Vec<u8>,
    user: String,
    group: String,
}

/// Packages being installed into a tree.
pub struct Installation<'t> {
    tree: &'t mut Tree,
    time: Timestamp,
    packages: Vec<Unpacked>,
    /// The package that has each file, by canonical path; the directory and file of its record.
    files: HashMap<Vec<u8>, (usize, usize, usize)>,
    /// Packages that have each directory, by canonical path, with its entry there.
    directories: BTreeMap<Vec<u8>, Vec<(usize, usize)>>,
    /// Files whose record went to a package that replaced them: (package, directory, file).
    lost: Vec<(usize, usize, usize)>,
    /// Inodes with the names of their owners.
    owned: BTreeMap<InodeId, Owned>,
}

/// What was installed.
#[derive(Clone, Debug)]
pub struct Installed {
    /// The database to be written into the root.
    pub database: Database,
    /// Which package has each file, by canonical path in the tree.
    pub attribution: BTreeMap<Vec<u8>, String>,
    /// Scripts that a package manager would have run. None was.
    pub scripts: Vec<(String, ScriptKind)>,
    /// Owner names that the root does not know; the entries got the id 65534 as apk gives it.
    pub unknown_owners: Vec<InstallError>,
}

impl<'t> Installation<'t> {
    /// Starts to install into `tree`. Directories get the time `time`, for packages keep none of them.
    pub fn new(tree: &'t mut Tree, time: Timestamp) -> Installation<'t> {
        Installation {
            tree,
            time,
            packages: Vec::new(),
            files: HashMap::new(),
            directories: BTreeMap::new(),
            lost: Vec::new(),
            owned: BTreeMap::new(),
        }
    }

    /// The tree, for what must happen between packages and the resolution of owners (sysusers).
    pub fn tree(&mut self) -> &mut Tree {
        self.tree
    }

    /// Puts a package into the tree. Packages come in the order of the change set, dependencies first.
    ///
    /// # Errors
    /// On the first entry that cannot be installed; the tree may have got those before it.
    pub fn add(&mut self, unpacked: Unpacked) -> Result<(), InstallError> {
        let expected = unpacked
            .package
            .paths
            .iter()
            .flat_map(|directory| &directory.files)
            .filter(|file| matches!(file.kind, FileKind::Regular { .. }))
            .count();
        if expected != unpacked.contents.len() {
            return Err(InstallError::Contents {
                package: unpacked.entry.name.clone(),
                expected,
                found: unpacked.contents.len(),
            });
        }
        let at = self.packages.len();
        let mut contents = unpacked.contents.clone().into_iter();
        // Textual path of each file of this package so far, for hard links.
        let mut seen: HashMap<Vec<u8>, Option<InodeId>> = HashMap::new();
        let paths = unpacked.package.paths.clone();
        self.packages.push(unpacked);
        for (directory_at, directory) in paths.iter().enumerate() {
            self.directory(at, directory_at, directory)?;
            for (file_at, file) in directory.files.iter().enumerate() {
                let path = join(&directory.path, &file.name);
                let content = match file.kind {
                    FileKind::Regular { .. } => contents.next(),
                    _ => None,
                };
                let id = self.file((at, directory_at, file_at), &path, file, content, &seen)?;
                seen.insert(path, id);
            }
        }
        Ok(())
    }

    fn name(&self, at: usize) -> &str {
        &self.packages[at].entry.name
    }

    fn failed(&self, at: usize) -> impl Fn(TreeError) -> InstallError + use<> {
        let package = self.name(at).to_owned();
        move |error| InstallError::Tree {
            package: package.clone(),
            error,
        }
    }

    fn directory(&mut self, at: usize, directory_at: usize, entry: &DirEntry) -> Result<(), InstallError> {
        let failed = self.failed(at);
        let there = self.tree.find(&entry.path, Follow::All).map_err(&failed)?;
        let id = match there {
            Some(id) => {
                if !self.tree.inode(id).is_directory() {
                    return Err(failed(TreeError::NotADirectory(display(&entry.path))));
                }
                id
            }
            None => self
                .tree
                .make_directories(&entry.path, Metadata::new(0o755, self.time))
                .map_err(&failed)?,
        };
        let canonical = self.tree.directory_path(id);
        let claims = self.directories.entry(canonical).or_default();
        claims.push((at, directory_at));
        // A directory that was in the tree before any package keeps its owner and mode, but for one that
        // was only made on the way to another.
        let claims = claims.clone();
        let (winner, winner_at) = self.directory_owner(&claims);
        let acl = self.packages[winner].package.paths[winner_at].acl.clone();
        if there.is_none() || claims.len() > 1 || winner == at {
            self.apply(id, winner, &entry.path, &acl, self.time);
        }
        Ok(())
    }

    /// Whose idea of a directory counts: the highest replaces-priority, then a package named as its
    /// origin where the origins are one, then the smallest name.
    fn directory_owner(&self, claims: &[(usize, usize)]) -> (usize, usize) {
        let better = |&(a, _): &(usize, usize), &(b, _): &(usize, usize)| {
            let (a, b) = (&self.packages[a], &self.packages[b]);
            let own = |package: &Unpacked| package.entry.name == package.entry.origin;
            let same_origin = !a.entry.origin.is_empty() && a.entry.origin == b.entry.origin;
            a.package
                .replaces_priority
                .cmp(&b.package.replaces_priority)
                .then_with(|| {
                    if same_origin {
                        own(a).cmp(&own(b))
                    } else {
                        std::cmp::Ordering::Equal
                    }
                })
                .then_with(|| b.entry.name.cmp(&a.entry.name))
        };
        claims
            .iter()
            .copied()
            .max_by(|a, b| better(a, b))
            .unwrap_or_default()
    }

    fn apply(&mut self, id: InodeId, package: usize, path: &[u8], acl: &Acl, time: Timestamp) {
        let metadata = self.tree.metadata_mut(id);
        metadata.mode = acl.mode & 0o7777;
        metadata.mtime = time;
        metadata.xattrs = acl.xattrs.iter().cloned().collect();
        self.owned.insert(
            id,
            Owned {
                package,
                path: path.to_vec(),
                user: acl.user.clone(),
                group: acl.group.clone(),
            },
        );
    }

    /// Puts one file; gives its inode, or none where another package's file stays.
    fn file(
        &mut self,
        (at, directory_at, file_at): (usize, usize, usize),
        path: &[u8],
        entry: &FileEntry,
        content: Option<Content>,
        seen: &HashMap<Vec<u8>, Option<InodeId>>,
    ) -> Result<Option<InodeId>, InstallError> {
        let failed = self.failed(at);
        let canonical = self.tree.canonical(path, Follow::Parents).map_err(&failed)?;
        if let Some(&(owner, owner_directory, owner_file)) = self.files.get(&canonical) {
            match self.contest(at, owner) {
                Some(true) => self.lost.push((owner, owner_directory, owner_file)),
                Some(false) => {
                    self.lost.push((at, directory_at, file_at));
                    return Ok(None);
                }
                None => {
                    return Err(InstallError::Clash {
                        package: self.name(at).to_owned(),
                        path: display(path),
                        owner: self.name(owner).to_owned(),
                    });
                }
            }
        }
        let seconds = i64::try_from(entry.mtime).unwrap_or(i64::MAX);
        let time = Timestamp::from_seconds(seconds);
        let device = |major, minor| Device { major, minor };
        let node = match &entry.kind {
            FileKind::Regular { .. } => Node::Regular(content.unwrap_or_else(Content::empty)),
            FileKind::Symlink { target } => Node::Symlink(target.clone()),
            FileKind::CharDevice { major, minor } => Node::CharDevice(device(*major, *minor)),
            FileKind::BlockDevice { major, minor } => Node::BlockDevice(device(*major, *minor)),
            FileKind::Fifo => Node::Fifo,
            FileKind::HardLink { target } => {
                let Some(first) = seen.get(target) else {
                    return Err(InstallError::HardLink {
                        package: self.name(at).to_owned(),
                        path: display(path),
                        target: display(target),
                    });
                };
                // The first name may have stayed with another package: then so does this one.
                let Some(first) = *first else {
                    self.lost.push((at, directory_at, file_at));
                    return Ok(None);
                };
                if self.tree.find(path, Follow::Parents).map_err(&failed)?.is_some() {
                    self.tree.remove(path).map_err(&failed)?;
                }
                self.tree.link(first, path).map_err(&failed)?;
                self.files.insert(canonical, (at, directory_at, file_at));
                return Ok(Some(first));
            }
        };
        let id = self
            .tree
            .insert(path, Metadata::new(0, time), node)
            .map_err(&failed)?;
        self.apply(id, at, path, &entry.acl, time);
        self.files.insert(canonical, (at, directory_at, file_at));
        Ok(Some(id))
    }

    /// Whether the package `new` may take a file from `old` (true), has to leave it (false), or neither.
    fn contest(&self, new: usize, old: usize) -> Option<bool> {
        if new == old {
            return Some(true);
        }
        let (new, old) = (&self.packages[new], &self.packages[old]);
        let counter = replaces(old, &new.entry);
        if replaces(new, &old.entry) {
            let stronger = counter && old.package.replaces_priority > new.package.replaces_priority;
            return Some(!stronger);
        }
        if counter {
            return Some(false);
        }
        if !new.entry.origin.is_empty() && new.entry.origin == old.entry.origin {
            return Some(true);
        }
        None
    }

    /// Resolves owners against the users that the root has by now, and makes the database. `v3` says
    /// that the packages came from a v3 repository.
    pub fn finish(self, names: &Names, v3: bool) -> Installed {
        let mut unknown_owners = Vec::new();
        let mut ids = |package: &str, path: &[u8], user: &str, group: &str| {
            let mut resolve = |kind, name: &str, id: Option<u32>| {
                id.unwrap_or_else(|| {
                    unknown_owners.push(InstallError::UnknownOwner {
                        package: package.to_owned(),
                        path: display(path),
                        kind,
                        name: name.to_owned(),
                    });
                    65534
                })
            };
            (
                resolve("user", user, names.user(user)),
                resolve("group", group, names.group(group)),
            )
        };
        for (id, owned) in &self.owned {
            let package = self.packages[owned.package].entry.name.as_str();
            let (uid, gid) = ids(package, &owned.path, &owned.user, &owned.group);
            let metadata = self.tree.metadata_mut(*id);
            (metadata.uid, metadata.gid) = (uid, gid);
        }
        unknown_owners.sort_by_key(InstallError::to_string);

        let number = |acl: &Acl| Ownership {
            uid: names.user(&acl.user).unwrap_or(65534),
            gid: names.group(&acl.group).unwrap_or(65534),
            mode: acl.mode & 0o7777,
            xattrs: xattr_digest(&acl.xattrs),
        };
        let mut lost = self.lost;
        lost.sort_unstable();
        let mut database = Database::default();
        let mut scripts = Vec::new();
        for (at, unpacked) in self.packages.iter().enumerate() {
            let package = &unpacked.package;
            let hard_link_digests = digests(package);
            let directories = package.paths.iter().enumerate().map(|(directory_at, directory)| {
                let mut files: Vec<InstalledFile> = directory
                    .files
                    .iter()
                    .enumerate()
                    .filter(|(file_at, _)| lost.binary_search(&(at, directory_at, *file_at)).is_err())
                    .map(|(_, file)| InstalledFile {
                        name: file.name.clone(),
                        owner: number(&file.acl),
                        digest: hard_link_digests.get(&join(&directory.path, &file.name)).copied(),
                    })
                    .collect();
                files.sort_by(|a, b| a.name.cmp(&b.name));
                InstalledDirectory {
                    path: directory.path.clone(),
                    owner: number(&directory.acl),
                    files,
                }
            });
            // The root directory is recorded only for the files in it.
            let directories = directories
                .filter(|directory| !directory.path.is_empty() || !directory.files.is_empty())
                .collect();
            scripts.extend(
                package
                    .scripts
                    .iter()
                    .filter(|(kind, _)| *kind != ScriptKind::Trigger)
                    .map(|(kind, _)| (unpacked.entry.name.clone(), *kind)),
            );
            database.packages.push(InstalledPackage {
                info: PackageInfo {
                    replaces: package.info.replaces.clone(),
                    ..unpacked.entry.clone()
                },
                replaces_priority: package.replaces_priority,
                tag: unpacked.tag.clone(),
                flags: Flags {
                    sha256_160: v3,
                    ..Flags::default()
                },
                directories,
                triggers: package.triggers.clone(),
                scripts: package.scripts.clone(),
            });
        }
        database.sort();
        let attribution = self
            .files
            .into_iter()
            .map(|(path, (at, _, _))| (path, self.packages[at].entry.name.clone()))
            .collect();
        Installed {
            database,
            attribution,
            scripts,
            unknown_owners,
        }
    }
}

/// Whether `package` says that it replaces `other`.
fn replaces(package: &Unpacked, other: &PackageInfo) -> bool {
    let named = |dependency: &&Dependency| dependency.name == other.name;
    package
        .package
        .info
        .replaces
        .iter()
        .filter(named)
        .any(|dependency| version::matches(&other.version, dependency.op, &dependency.version))
}

/// What the database records of each file's content, by path. Hard links have the digest of their file.
fn digests(package: &Package) -> HashMap<Vec<u8>, [u8; 20]> {
    use sha2::{Digest as _, Sha256};
    let mut digests = HashMap::new();
    for directory in &package.paths {
        for file in &directory.files {
            let digest: Option<[u8; 20]> = match &file.kind {
                FileKind::Regular { hash } => hash.get(..20).and_then(|cut| cut.try_into().ok()),
                FileKind::Symlink { target } => Sha256::digest(target)[..20].try_into().ok(),
                FileKind::HardLink { target } => digests.get(target).copied(),
                _ => None,
            };
            if let Some(digest) = digest {
                digests.insert(join(&directory.path, &file.name), digest);
            }
        }
    }
    digests
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    if directory.is_empty() {
        return name.to_vec();
    }
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}
