//! Changing the memory allocator of an installed root, from outside or in the running system.
//!
//! The choice is a choice of packages: world is edited, apk's rules say which packages come and go, and the files that change are
//! written under another name, synced and renamed over the old ones. The C library changes by one rename: there is no moment without a whole one. What is no
//! longer owned is removed, then world and the installed database follow. A run that was killed anywhere is finished by running it again.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use lycia_apk::database::{DIRECTORY, Database};
use lycia_apk::dependency;
use lycia_apk::install::{ChangeKind, DigestKind, Installation, Names, Options, Owners, Present};
use lycia_apk::metadata::Dependency;
use lycia_tree::{Content, Device, Follow, Metadata, Node, Timestamp, Tree};

use crate::medium::{AllocatorTable, Medium, MediumError, SourceOrMedium};
use crate::source::{Change, Repositories, SourceError};

/// Beginning of the names under which files are written before they are renamed.
const ASIDE: &str = ".lycia-switch.";
const WORLD: &str = "etc/apk/world";
/// Most links followed on the way to a path of the database.
const LINKS_MAX: usize = 40;

/// Why the allocator was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SwitchError {
    /// The medium.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// The packages.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// A file of the root.
    #[error("{doing} {}: {source}; run the same command again to finish it", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The root is not what apk left.
    #[error("the root {}: {why}; nothing was changed", root.display())]
    Root {
        /// The root.
        root: PathBuf,
        /// Why.
        why: String,
    },
}

impl From<SourceOrMedium> for SwitchError {
    fn from(error: SourceOrMedium) -> Self {
        match error {
            SourceOrMedium::Medium(error) => Self::Medium(error),
            SourceOrMedium::Source(error) => Self::Source(error),
        }
    }
}

/// Changes files below a root, one operation at a time.
struct Writer<'h> {
    root: PathBuf,
    /// Asked before every operation; an error stops there.
    hook: &'h mut dyn FnMut(&str) -> io::Result<()>,
}

impl Writer<'_> {
    fn place(&self, path: &[u8]) -> PathBuf {
        self.root
            .join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)))
    }

    fn aside(place: &Path) -> PathBuf {
        let mut name = std::ffi::OsString::from(ASIDE);
        name.push(place.file_name().unwrap_or_default());
        place.with_file_name(name)
    }

    fn sync_folder(place: &Path) -> io::Result<()> {
        File::open(place.parent().unwrap_or(place))?.sync_all()
    }

    /// Owner, mode and time, where this process may set them.
    fn dress(place: &Path, metadata: &Metadata, link: bool) -> io::Result<()> {
        if link {
            return match std::os::unix::fs::lchown(place, Some(metadata.uid), Some(metadata.gid)) {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
                other => other,
            };
        }
        match chown(place, Some(metadata.uid), Some(metadata.gid)) {
            // Not root: the files stay this user's, as the root itself is.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {}
            other => other?,
        }
        fs::set_permissions(place, Permissions::from_mode(u32::from(metadata.mode)))
    }

    /// Puts what the tree has at `path` there, in one moment.
    fn write(&mut self, tree: &Tree, path: &[u8]) -> Result<(), SwitchError> {
        let place = self.place(path);
        let failed = |source| SwitchError::Io {
            doing: "writing",
            path: place.clone(),
            source,
        };
        let id = tree.find(path, Follow::Parents).ok().flatten();
        let Some(id) = id else { return Ok(()) };
        let inode = tree.inode(id);
        let aside = Self::aside(&place);
        match fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        (self.hook)("begin").map_err(failed)?;
        match inode.node() {
            Some(Node::Regular(content)) => {
                let mut file = OpenOptions::new()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&aside)
                    .map_err(failed)?;
                let bytes = content.bytes();
                let (first, second) = bytes.split_at(bytes.len() / 2);
                file.write_all(first).map_err(failed)?;
                (self.hook)("half").map_err(failed)?;
                file.write_all(second).map_err(failed)?;
                Self::dress(&aside, &inode.metadata, false).map_err(failed)?;
                let seconds = u64::try_from(inode.metadata.mtime.seconds).unwrap_or(0);
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
                file.set_modified(time).map_err(failed)?;
                file.sync_all().map_err(failed)?;
            }
            Some(Node::Symlink(target)) => {
                symlink(OsStr::from_bytes(target), &aside).map_err(failed)?;
                Self::dress(&aside, &inode.metadata, true).map_err(failed)?;
            }
            _ => {
                return Err(failed(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "it is neither a file nor a link",
                )));
            }
        }
        (self.hook)("rename").map_err(failed)?;
        fs::rename(&aside, &place).map_err(failed)?;
        (self.hook)("renamed").map_err(failed)?;
        Self::sync_folder(&place).map_err(failed)
    }

    fn make_directory(&mut self, tree: &Tree, path: &[u8]) -> Result<(), SwitchError> {
        let place = self.place(path);
        let failed = |source| SwitchError::Io {
            doing: "making",
            path: place.clone(),
            source,
        };
        (self.hook)("directory").map_err(failed)?;
        match fs::create_dir(&place) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(error)),
            _ => {}
        }
        if let Ok(Some(id)) = tree.find(path, Follow::Parents) {
            Self::dress(&place, &tree.inode(id).metadata, false).map_err(failed)?;
        }
        Ok(())
    }

    fn remove(&mut self, path: &[u8], directory: bool) -> Result<(), SwitchError> {
        let place = self.place(path);
        let failed = |source| SwitchError::Io {
            doing: "removing",
            path: place.clone(),
            source,
        };
        (self.hook)("remove").map_err(failed)?;
        let removed = if directory {
            fs::remove_dir(&place)
        } else {
            fs::remove_file(&place)
        };
        match removed {
            // Gone already, or in use by something that no package knows.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) if directory && error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            other => other.map_err(failed),
        }
    }
}

/// The root as far as its packages know it: every path with owner and mode, contents of the database's files only.
struct Snapshot<'r> {
    root: &'r Path,
    tree: Tree,
    seen: BTreeSet<Vec<u8>>,
}

impl Snapshot<'_> {
    fn real(&self, path: &[u8]) -> PathBuf {
        self.root.join(OsStr::from_bytes(path))
    }

    /// Adds a path with everything above it and, where links are on the way, what they lead to.
    fn add(&mut self, path: &[u8]) -> Result<(), String> {
        let mut waiting = vec![path.to_vec()];
        let mut links = 0;
        while let Some(path) = waiting.pop() {
            let mut at = Vec::new();
            let parts: Vec<&[u8]> = path
                .split(|&byte| byte == b'/')
                .filter(|part| !part.is_empty() && *part != b".")
                .collect();
            for (number, part) in parts.iter().enumerate() {
                if *part == b".." {
                    while at.last().is_some_and(|&byte| byte != b'/') {
                        at.pop();
                    }
                    at.pop();
                    continue;
                }
                let folder = at.clone();
                if !at.is_empty() {
                    at.push(b'/');
                }
                at.extend_from_slice(part);
                let Some(target) = self.one(&at)? else { continue };
                links += 1;
                if links > LINKS_MAX {
                    return Err(format!("too many links at {}", String::from_utf8_lossy(&at)));
                }
                // The rest of the way goes on behind the link.
                let mut next = if target.starts_with(b"/") {
                    Vec::new()
                } else {
                    folder
                };
                next.push(b'/');
                next.extend_from_slice(&target);
                for part in &parts[number + 1..] {
                    next.push(b'/');
                    next.extend_from_slice(part);
                }
                waiting.push(next);
                break;
            }
        }
        Ok(())
    }

    /// Adds one path whose folder is there; the target if it is a link.
    fn one(&mut self, path: &[u8]) -> Result<Option<Vec<u8>>, String> {
        let real = self.real(path);
        let say = |error: &dyn std::fmt::Display| format!("{}: {error}", real.display());
        let metadata = match fs::symlink_metadata(&real) {
            Ok(metadata) => metadata,
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(say(&error)),
        };
        let target = if metadata.is_symlink() {
            Some(
                fs::read_link(&real)
                    .map_err(|error| say(&error))?
                    .into_os_string()
                    .into_encoded_bytes(),
            )
        } else {
            None
        };
        if !self.seen.insert(path.to_vec()) {
            return Ok(target);
        }
        let own = Metadata::new(
            (metadata.mode() & 0o7777) as u16,
            Timestamp::from_seconds(metadata.mtime()),
        )
        .owned_by(metadata.uid(), metadata.gid());
        if metadata.is_dir() {
            self.tree.make_directory(path, own).map_err(|error| say(&error))?;
            return Ok(None);
        }
        let device = || {
            let number = metadata.rdev();
            Device {
                major: rustix::fs::major(number),
                minor: rustix::fs::minor(number),
            }
        };
        let kind = {
            use std::os::unix::fs::FileTypeExt as _;
            let kind = metadata.file_type();
            (kind.is_char_device(), kind.is_block_device(), kind.is_fifo())
        };
        let node = match (&target, kind) {
            (Some(target), _) => Node::Symlink(target.clone()),
            (None, (true, _, _)) => Node::CharDevice(device()),
            (None, (_, true, _)) => Node::BlockDevice(device()),
            (None, (_, _, true)) => Node::Fifo,
            (None, _) => Node::Regular(Content::empty()),
        };
        self.tree.insert(path, own, node).map_err(|error| say(&error))?;
        Ok(target)
    }

    /// Adds a file with its content.
    fn with_content(&mut self, path: &str) -> Result<(), String> {
        self.add(path.as_bytes())?;
        let Ok(Some(_)) = self.tree.find(path.as_bytes(), Follow::All) else {
            return Ok(());
        };
        let canonical = self
            .tree
            .canonical(path.as_bytes(), Follow::All)
            .map_err(|error| error.to_string())?;
        let real = self.real(canonical.strip_prefix(b"/").unwrap_or(&canonical));
        let bytes = fs::read(&real).map_err(|error| format!("{}: {error}", real.display()))?;
        let id = self
            .tree
            .resolve(path.as_bytes(), Follow::All)
            .map_err(|error| error.to_string())?;
        let metadata = self.tree.inode(id).metadata.clone();
        self.tree
            .write(path.as_bytes(), metadata, bytes.into())
            .map(drop)
            .map_err(|error| error.to_string())
    }
}

/// Reads a file of the root where a transaction asks what it contains.
struct OnDisk<'r>(&'r Path);

impl Present for OnDisk<'_> {
    fn digest(&self, _: &Tree, path: &[u8], kind: DigestKind) -> Option<[u8; 20]> {
        let path = self
            .0
            .join(OsStr::from_bytes(path.strip_prefix(b"/").unwrap_or(path)));
        Some(kind.of(&fs::read(path).ok()?))
    }
}

/// World with one allocator in place of the others.
fn new_world(medium: &Medium, world: &[Dependency], name: &str) -> Result<Vec<Dependency>, SwitchError> {
    let Some(chosen) = medium.allocator(Some(name))? else {
        return Ok(world.to_vec());
    };
    let entries = |table: &AllocatorTable| -> Result<Vec<Dependency>, SwitchError> {
        let entries = table.world().into_iter().map(|text| {
            dependency::parse_world_entry(&text).map_err(|error| SourceError::Unsolvable(error.to_string()))
        });
        Ok(entries.collect::<Result<_, _>>()?)
    };
    let own = entries(chosen)?;
    let mut others = BTreeSet::new();
    for table in &medium.install.allocator {
        others.extend(entries(table)?.into_iter().map(|entry| entry.name));
    }
    let mut out: Vec<Dependency> = world
        .iter()
        .filter(|entry| !others.contains(&entry.name) || own.iter().any(|one| one.name == entry.name))
        .cloned()
        .collect();
    for entry in own {
        if !out.iter().any(|old| old.name == entry.name) {
            out.push(entry);
        }
    }
    dependency::sort_world(&mut out);
    Ok(out)
}

/// Removes what a killed run left under other names. What cannot be removed does no harm.
fn sweep(root: &Path, database: &Database) {
    let directories = database.packages.iter().flat_map(|package| &package.directories);
    let mut folders: BTreeSet<&[u8]> = directories.map(|directory| directory.path.as_slice()).collect();
    folders.extend([DIRECTORY.as_bytes(), b"etc/apk"]);
    for folder in folders {
        let folder = root.join(OsStr::from_bytes(folder));
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.file_name().as_bytes().starts_with(ASIDE.as_bytes()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// The changes that lead to the chosen allocator and to no other. apk's rules keep an installed provider of a name where world would do with either: what
/// stays against the choice is forbidden, until nothing does.
fn solve(
    repositories: &Repositories,
    installed: &Database,
    world: &[Dependency],
    medium: &Medium,
    name: &str,
) -> Result<Vec<Change>, SwitchError> {
    let allocators = &medium.install.allocator;
    let packages = |own: bool| {
        let of = allocators.iter().filter(move |one| (one.name == name) == own);
        of.flat_map(|one| &one.packages)
            .map(String::as_str)
            .collect::<BTreeSet<&str>>()
    };
    let (mine, all_others) = (packages(true), packages(false));
    let others: BTreeSet<&str> = all_others.difference(&mine).copied().collect();
    let there: BTreeSet<&str> = installed
        .packages
        .iter()
        .map(|one| one.info.name.as_str())
        .collect();
    let mut forbidden: BTreeSet<&str> = BTreeSet::new();
    loop {
        let mut strict = world.to_vec();
        for package in &forbidden {
            let entry = dependency::parse_world_entry(&format!("!{package}"))
                .map_err(|error| SourceError::Unsolvable(error.to_string()))?;
            strict.push(entry);
        }
        dependency::sort_world(&mut strict);
        let changes = match repositories.changes(installed, &strict) {
            Ok(changes) => changes,
            // What is installed of the others may be preferred and yet not stand without what went out of world.
            Err(_) if forbidden.is_empty() && there.iter().any(|name| others.contains(name)) => {
                forbidden.extend(there.iter().filter(|name| others.contains(**name)));
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        let mut after = there.clone();
        for change in &changes {
            match change {
                Change::Put(chosen) => after.insert(&chosen.entry.name),
                Change::Remove(name) => after.remove(name.as_str()),
                Change::Keep(..) => false,
            };
        }
        let stays: Vec<&str> = others
            .iter()
            .filter(|other| after.contains(**other))
            .copied()
            .collect();
        if stays.is_empty() && mine.iter().all(|one| after.contains(one)) {
            return Ok(changes);
        }
        let before = forbidden.len();
        forbidden.extend(stays);
        if forbidden.len() == before {
            return Err(SourceError::Unsolvable(format!(
                "no choice of packages has the allocator {name} and no other; something that is installed needs another"
            ))
            .into());
        }
    }
}

/// Gives the root in `root` the allocator `name` of the medium. Says what was done.
///
/// # Errors
/// When the medium has no such allocator, the packages do not fit, or a file cannot be written. A run that failed is finished by repeating it.
pub fn switch(root: &Path, medium: &Medium, name: &str) -> Result<String, SwitchError> {
    switch_with(root, medium, name, &mut |_| Ok(()))
}

fn switch_with(
    root: &Path,
    medium: &Medium,
    name: &str,
    hook: &mut dyn FnMut(&str) -> io::Result<()>,
) -> Result<String, SwitchError> {
    let odd = |why: String| SwitchError::Root {
        root: root.to_owned(),
        why,
    };
    let mut snapshot = Snapshot {
        root,
        tree: Tree::new(Metadata::new(0o755, Timestamp::from_seconds(0))),
        seen: BTreeSet::new(),
    };
    for file in ["installed", "triggers", "scripts.tar.gz", "scripts.tar"] {
        snapshot
            .with_content(&format!("{DIRECTORY}/{file}"))
            .map_err(odd)?;
    }
    for file in [WORLD, "etc/passwd", "etc/group"] {
        snapshot.with_content(file).map_err(odd)?;
    }
    let database = Database::load(&snapshot.tree).map_err(|error| odd(error.to_string()))?;
    sweep(root, &database);
    let text = |tree: &Tree, path: &str| tree.read(path.as_bytes()).map(<[u8]>::to_vec).unwrap_or_default();
    let world_text = String::from_utf8_lossy(&text(&snapshot.tree, WORLD)).into_owned();
    let world = dependency::parse_world(&world_text).map_err(|error| odd(error.to_string()))?;
    let wanted = new_world(medium, &world, name)?;
    let virtuals = medium
        .allocator(Some(name))?
        .map(AllocatorTable::virtual_packages);
    let repositories = medium.repositories()?.with_virtuals(virtuals.unwrap_or_default());
    let changes = solve(&repositories, &database, &wanted, medium, name)?;
    let chosen: Vec<_> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Put(chosen) => Some(chosen.as_ref().clone()),
            _ => None,
        })
        .collect();
    for package in &database.packages {
        for directory in &package.directories {
            snapshot.add(&directory.path).map_err(odd)?;
            for file in &directory.files {
                let path = [directory.path.as_slice(), b"/", &file.name].concat();
                snapshot.add(&path).map_err(odd)?;
            }
        }
    }
    let scratch = tempfile::tempdir().map_err(|source| SwitchError::Io {
        doing: "making",
        path: std::env::temp_dir(),
        source,
    })?;
    let mut unpacked = repositories
        .unpack(&chosen, scratch.path(), &mut |_, _| ())?
        .into_iter();
    let names = Names::parse(
        &text(&snapshot.tree, "etc/passwd"),
        &text(&snapshot.tree, "etc/group"),
    );
    let time = Timestamp::from_seconds(
        i64::try_from(chosen.iter().map(|one| one.entry.build_time).max().unwrap_or(0)).unwrap_or(0),
    );
    let present = OnDisk(root);
    let mut tree = snapshot.tree;
    let options = Options {
        owners: Owners::AtOnce,
        present: &present,
        ..Options::new(time)
    };
    let mut installation = Installation::over(&mut tree, database.clone(), options);
    let leaving: Vec<&str> = changes
        .iter()
        .filter_map(|change| match change {
            Change::Remove(name) => Some(name.as_str()),
            Change::Put(chosen) => Some(chosen.entry.name.as_str()),
            Change::Keep(..) => None,
        })
        .collect();
    installation.leaving(leaving);
    let mut done = Vec::new();
    for change in &changes {
        match change {
            Change::Put(chosen) => {
                let Some(package) = unpacked.next() else { continue };
                installation
                    .add(package)
                    .map_err(|error| odd(error.to_string()))?;
                done.push(format!(
                    "installed {}-{}",
                    chosen.entry.name, chosen.entry.version
                ));
            }
            Change::Remove(name) => {
                installation
                    .remove(name)
                    .map_err(|error| odd(error.to_string()))?;
                done.push(format!("removed {name}"));
            }
            Change::Keep(name, tag) => installation
                .keep(name, tag.clone())
                .map_err(|error| odd(error.to_string()))?,
        }
    }
    let installed = installation.finish(&names);
    if let Some(unknown) = installed.unknown_owners.first() {
        return Err(odd(unknown.to_string()));
    }
    let stored = installed
        .database
        .store(&mut tree, &wanted, time, false)
        .map_err(|error| odd(error.to_string()))?;
    if changes.iter().all(|change| matches!(change, Change::Keep(..))) && world == wanted {
        return Ok(format!("the allocator is {name} already"));
    }

    // Everything is known; from here on the root changes. Libraries that are new come before what names them goes.
    let mut writer = Writer {
        root: root.to_owned(),
        hook,
    };
    for change in &installed.changes {
        match &change.kind {
            ChangeKind::MakeDirectory | ChangeKind::SetDirectory => {
                writer.make_directory(&tree, &change.path)?
            }
            ChangeKind::Write | ChangeKind::Link { .. } | ChangeKind::Aside { .. } => {
                writer.write(&tree, &change.path)?
            }
            ChangeKind::Keep | ChangeKind::Remove | ChangeKind::RemoveDirectory => {}
        }
    }
    for change in &installed.changes {
        match &change.kind {
            // What one package gave up and another took over is there already.
            _ if tree
                .find(&change.path, Follow::Parents)
                .is_ok_and(|there| there.is_some()) => {}
            ChangeKind::Remove => writer.remove(&change.path, false)?,
            ChangeKind::RemoveDirectory => writer.remove(&change.path, true)?,
            _ => {}
        }
    }
    // The list of installed packages comes last: as long as it is the old one, the next run does everything again.
    let (last, first): (Vec<_>, Vec<_>) = stored.iter().partition(|path| path.ends_with(b"/installed"));
    for path in first.into_iter().chain(last) {
        writer.write(&tree, path)?;
    }
    if done.is_empty() {
        done.push("world changed".to_owned());
    }
    Ok(format!(
        "the allocator is {name} now: {}. Programs that run keep the old one until they start again",
        done.join(", ")
    ))
}

#[cfg(test)]
mod tests;
