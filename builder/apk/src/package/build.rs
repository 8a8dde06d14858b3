//! Puts packages together from paths and contents, with the rules of apk's own builder.

use super::write::{ContentSource, WriteOptions, write};
use super::{Hasher, PackageError};
use crate::adb::{join, validate_package, validate_path};
use crate::keys::SigningKey;
use crate::metadata::{Acl, Digest, DirEntry, FileEntry, FileKind, Package, PackageInfo, ScriptKind};
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};

/// Opens a content anew; it is read once for its hash and once for writing.
pub type Opener = Box<dyn Fn() -> io::Result<Box<dyn Read>>>;

/// The content of a regular file.
pub enum Content {
    /// Bytes in memory.
    Bytes(Vec<u8>),
    /// Something that can be opened twice and reads the same both times.
    Source(Opener),
}

impl Content {
    fn open(&self) -> io::Result<Box<dyn Read + '_>> {
        match self {
            Content::Bytes(bytes) => Ok(Box::new(bytes.as_slice())),
            Content::Source(open) => open().map(|reader| reader as Box<dyn Read>),
        }
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Bytes(bytes) => write!(f, "Content::Bytes({} bytes)", bytes.len()),
            Content::Source(_) => f.write_str("Content::Source"),
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Content::Bytes(bytes)
    }
}

/// Directory and name, whose order is that of a package.
type Place = (Vec<u8>, Vec<u8>);

#[derive(Debug)]
enum Pending {
    Regular { content: Content },
    HardLink { to: Vec<u8> },
    Other(FileKind),
}

#[derive(Debug)]
struct PendingFile {
    acl: Acl,
    mtime: u64,
    kind: Pending,
}

/// A package in the making. Paths may be given in any order, with or without a leading slash; parents that
/// are missing become directories of mode 0755 of root.
#[derive(Debug)]
pub struct PackageBuilder {
    package: Package,
    directories: BTreeMap<Vec<u8>, Acl>,
    files: BTreeMap<Place, PendingFile>,
}

/// A package with the contents of its files, ready to be written.
#[derive(Debug)]
pub struct BuiltPackage {
    /// The metadata.
    pub package: Package,
    contents: BTreeMap<(usize, usize), Content>,
}

impl Acl {
    /// Owned by root.
    pub fn root(mode: u16) -> Self {
        Acl {
            mode,
            user: "root".into(),
            group: "root".into(),
            ..Acl::default()
        }
    }
}

impl PackageBuilder {
    /// A package without files. `installed_size`, `file_size` and `hashes` of the info are computed later.
    pub fn new(info: PackageInfo) -> Self {
        PackageBuilder {
            package: Package {
                info,
                ..Package::default()
            },
            directories: BTreeMap::new(),
            files: BTreeMap::new(),
        }
    }

    /// A directory; the root directory is the empty path. Naming one again changes its owner and mode.
    pub fn directory(&mut self, path: &[u8], acl: Acl) -> Result<&mut Self, PackageError> {
        let path = normal(path)?;
        self.directories.insert(path, acl);
        Ok(self)
    }

    /// A regular file.
    pub fn file(
        &mut self,
        path: &[u8],
        acl: Acl,
        mtime: u64,
        content: impl Into<Content>,
    ) -> Result<&mut Self, PackageError> {
        self.insert(
            path,
            PendingFile {
                acl,
                mtime,
                kind: Pending::Regular {
                    content: content.into(),
                },
            },
        )
    }

    /// A symbolic link, owned by root.
    pub fn symlink(&mut self, path: &[u8], target: &[u8], mtime: u64) -> Result<&mut Self, PackageError> {
        self.node(
            path,
            Acl::root(0o777),
            mtime,
            FileKind::Symlink {
                target: target.to_vec(),
            },
        )
    }

    /// A symbolic link, device node or named pipe.
    pub fn node(
        &mut self,
        path: &[u8],
        acl: Acl,
        mtime: u64,
        kind: FileKind,
    ) -> Result<&mut Self, PackageError> {
        if matches!(kind, FileKind::Regular { .. } | FileKind::HardLink { .. }) {
            let path = path.escape_ascii();
            return Err(PackageError::Build(format!(
                "{path}: files and hard links have functions of their own"
            )));
        }
        self.insert(
            path,
            PendingFile {
                acl,
                mtime,
                kind: Pending::Other(kind),
            },
        )
    }

    /// A further name of a regular file that was given before; owner, mode, time and content are that file's.
    pub fn hard_link(&mut self, path: &[u8], to: &[u8]) -> Result<&mut Self, PackageError> {
        let to = normal(to)?;
        if !self.files.contains_key(&split(&to)) {
            let (path, to) = (path.escape_ascii(), to.escape_ascii());
            return Err(PackageError::Build(format!(
                "{path}: hard link to {to}, which was not given before"
            )));
        }
        self.insert(
            path,
            PendingFile {
                acl: Acl::default(),
                mtime: 0,
                kind: Pending::HardLink { to },
            },
        )
    }

    /// A script; a second one of the same kind replaces the first.
    pub fn script(&mut self, kind: ScriptKind, body: impl Into<Vec<u8>>) -> &mut Self {
        self.package.scripts.retain(|(other, _)| *other != kind);
        self.package.scripts.push((kind, body.into()));
        self.package.scripts.sort_by_key(|(kind, _)| *kind);
        self
    }

    /// A glob of directories that its trigger wants to hear of.
    pub fn trigger(&mut self, glob: &str) -> &mut Self {
        self.package.triggers.push(glob.to_string());
        self
    }

    /// Preference when two packages replace each other's files.
    pub fn replaces_priority(&mut self, priority: u64) -> &mut Self {
        self.package.replaces_priority = priority;
        self
    }

    fn insert(&mut self, path: &[u8], file: PendingFile) -> Result<&mut Self, PackageError> {
        let path = normal(path)?;
        let key = split(&path);
        if key.1.is_empty() {
            return Err(PackageError::Build("the root directory cannot be a file".into()));
        }
        if self.files.insert(key, file).is_some() {
            return Err(PackageError::Build(format!(
                "{} was given twice",
                path.escape_ascii()
            )));
        }
        Ok(self)
    }

    /// Hashes the contents and checks the whole.
    pub fn finish(mut self) -> Result<BuiltPackage, PackageError> {
        let some_tree = !self.directories.is_empty() || !self.files.is_empty();
        if some_tree {
            let named: Vec<Vec<u8>> = self
                .files
                .keys()
                .map(|(directory, _)| directory.clone())
                .chain(self.directories.keys().cloned())
                .collect();
            for path in named {
                let ends = path
                    .iter()
                    .enumerate()
                    .filter(|&(_, &byte)| byte == b'/')
                    .map(|(end, _)| end);
                for end in ends.chain([0, path.len()]) {
                    self.directories
                        .entry(path[..end].to_vec())
                        .or_insert_with(|| Acl::root(0o755));
                }
            }
        }
        self.settle_hard_links()?;
        let positions: BTreeMap<Vec<u8>, usize> = self
            .directories
            .keys()
            .enumerate()
            .map(|(number, path)| (path.clone(), number))
            .collect();
        let mut package = self.package;
        package.paths = self
            .directories
            .into_iter()
            .map(|(path, acl)| DirEntry {
                path,
                acl,
                files: Vec::new(),
            })
            .collect();
        let mut contents = BTreeMap::new();
        let mut settled: BTreeMap<Vec<u8>, FileEntry> = BTreeMap::new();
        let mut installed = 0u64;
        for ((directory, name), file) in self.files {
            let number = positions[&directory];
            let path = join(&directory, &name);
            let entry = match file.kind {
                Pending::Regular { content } => {
                    let (size, hash) = measure(&content).map_err(|source| PackageError::Source {
                        path: path.escape_ascii().to_string(),
                        source,
                    })?;
                    installed = installed.saturating_add(size);
                    contents.insert((number, package.paths[number].files.len()), content);
                    let entry = FileEntry {
                        name,
                        acl: file.acl,
                        size,
                        mtime: file.mtime,
                        kind: FileKind::Regular { hash },
                    };
                    settled.insert(path, entry.clone());
                    entry
                }
                Pending::HardLink { to } => {
                    let Some(first) = settled.get(&to) else {
                        let (path, to) = (path.escape_ascii(), to.escape_ascii());
                        return Err(PackageError::Build(format!(
                            "{path}: hard link to {to}, which is no file"
                        )));
                    };
                    FileEntry {
                        name,
                        kind: FileKind::HardLink { target: to },
                        ..first.clone()
                    }
                }
                Pending::Other(kind) => {
                    let size = match &kind {
                        FileKind::Symlink { target } => target.len() as u64,
                        _ => 0,
                    };
                    FileEntry {
                        name,
                        acl: file.acl,
                        size,
                        mtime: file.mtime,
                        kind,
                    }
                }
            };
            package.paths[number].files.push(entry);
        }
        let needs_unpacking = some_tree || !package.scripts.is_empty();
        package.info.installed_size = installed.max(u64::from(needs_unpacking));
        package.info.file_size = 0;
        package.info.hashes = None;
        validate_package(&package).map_err(|damage| PackageError::Build(damage.to_string()))?;
        Ok(BuiltPackage { package, contents })
    }

    /// Makes the first name of every hard-linked file, in package order, the one that has the content.
    fn settle_hard_links(&mut self) -> Result<(), PackageError> {
        let links: Vec<(Place, Vec<u8>)> = self
            .files
            .iter()
            .filter_map(|(key, file)| match &file.kind {
                Pending::HardLink { to } => Some((key.clone(), to.clone())),
                _ => None,
            })
            .collect();
        let mut groups: BTreeMap<Vec<u8>, Vec<Place>> = BTreeMap::new();
        for (key, to) in &links {
            let mut first = to.clone();
            // A link may name a link that was given before it; the chain cannot close.
            let mut steps = 0;
            while let Some(PendingFile {
                kind: Pending::HardLink { to },
                ..
            }) = self.files.get(&split(&first))
            {
                first = to.clone();
                steps += 1;
                if steps > links.len() {
                    let path = join(&key.0, &key.1);
                    return Err(PackageError::Build(format!(
                        "{}: hard links in a circle",
                        path.escape_ascii()
                    )));
                }
            }
            groups.entry(first).or_default().push(key.clone());
        }
        for (first, mut names) in groups {
            names.push(split(&first));
            names.sort();
            let owner = names[0].clone();
            if owner != split(&first)
                && let Some(file) = self.files.remove(&split(&first))
            {
                self.files.insert(owner.clone(), file);
            }
            let to = join(&owner.0, &owner.1);
            for name in names.into_iter().skip(1) {
                let kind = Pending::HardLink { to: to.clone() };
                self.files.insert(
                    name,
                    PendingFile {
                        acl: Acl::default(),
                        mtime: 0,
                        kind,
                    },
                );
            }
        }
        Ok(())
    }
}

impl BuiltPackage {
    /// Writes the package and gives its identity (SHA-256, 32 bytes).
    pub fn write(
        &mut self,
        options: WriteOptions,
        keys: &[SigningKey],
        out: impl Write,
    ) -> Result<Digest, PackageError> {
        struct Source<'a>(&'a BTreeMap<(usize, usize), Content>);
        impl ContentSource for Source<'_> {
            fn open(&mut self, directory: usize, file: usize) -> io::Result<Box<dyn Read + '_>> {
                match self.0.get(&(directory, file)) {
                    Some(content) => content.open(),
                    None => Err(io::Error::new(
                        io::ErrorKind::NotFound,
                        "no content was given for this file",
                    )),
                }
            }
        }
        write(&self.package, &mut Source(&self.contents), options, keys, out)
    }
}

fn normal(path: &[u8]) -> Result<Vec<u8>, PackageError> {
    let path = path.strip_prefix(b"/").unwrap_or(path);
    if !path.is_empty() {
        validate_path(path)
            .map_err(|damage| PackageError::Build(format!("{}: {damage}", path.escape_ascii())))?;
    }
    Ok(path.to_vec())
}

fn split(path: &[u8]) -> Place {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(end) => (path[..end].to_vec(), path[end + 1..].to_vec()),
        None => (Vec::new(), path.to_vec()),
    }
}

fn measure(content: &Content) -> io::Result<(u64, Vec<u8>)> {
    let mut hasher = Hasher::Sha256(Default::default());
    let mut reader = content.open()?;
    let mut buffer = vec![0; 128 << 10];
    let mut size = 0u64;
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return Ok((size, hasher.finish())),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                size += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
