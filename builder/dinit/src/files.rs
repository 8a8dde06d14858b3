//! Where service descriptions come from: a directory tree that may be the running system or an image.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path, PathBuf};

use crate::text::MAX_FILE_BYTES;

/// Most entries that are read from one `.d` directory.
const MAX_DIRECTORY_ENTRIES: usize = 4096;

/// Read access to the paths of a system, as the system itself would see them.
pub trait Files {
    /// Content of a regular file; `None` when it does not exist.
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>>;
    /// Names in a directory in byte order; `None` when it does not exist.
    fn list(&self, path: &Path) -> io::Result<Option<Vec<String>>>;
    /// Whether the path leads to an executable regular file.
    fn is_executable(&self, path: &Path) -> bool;
}

/// A tree on disk. Absolute symbolic links and `..` stay inside its root.
#[derive(Debug, Clone)]
pub struct DiskFiles {
    root: PathBuf,
}

impl DiskFiles {
    /// The tree below `root` (`/` for the running system).
    pub fn new(root: impl Into<PathBuf>) -> DiskFiles {
        DiskFiles { root: root.into() }
    }

    /// Where a path of the tree is on this machine, after following its links inside the tree.
    fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        if self.root == Path::new("/") {
            return Ok(path.to_owned());
        }
        let mut inside = PathBuf::new();
        let mut left: Vec<OsString> = Vec::new();
        push_reversed(&mut left, path);
        let mut links = 0;
        while let Some(name) = left.pop() {
            if name == ".." {
                inside.pop();
                continue;
            }
            inside.push(&name);
            let here = self.root.join(&inside);
            let is_link = here.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
            if !is_link {
                continue;
            }
            links += 1;
            if links > 40 {
                return Err(io::Error::other("too many levels of symbolic links"));
            }
            let target = std::fs::read_link(&here)?;
            inside.pop();
            if target.is_absolute() {
                inside.clear();
            }
            push_reversed(&mut left, &target);
        }
        Ok(self.root.join(inside))
    }
}

/// Puts the components of a path onto a stack, first one on top.
fn push_reversed(stack: &mut Vec<OsString>, path: &Path) {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    stack.append(&mut names);
}

fn absent<T>(error: io::Error) -> io::Result<Option<T>> {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(None),
        _ => Err(error),
    }
}

impl Files for DiskFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let real = self.resolve(path)?;
        // Asked first, so that a FIFO in the directory cannot hang the reader.
        match std::fs::metadata(&real) {
            Ok(meta) if meta.is_file() => {}
            Ok(_) => return Err(io::Error::other("not a regular file")),
            Err(error) => return absent(error),
        }
        let mut bytes = Vec::new();
        let file = match std::fs::File::open(&real) {
            Ok(file) => file,
            Err(error) => return absent(error),
        };
        file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<String>>> {
        let entries = match std::fs::read_dir(self.resolve(path)?) {
            Ok(entries) => entries,
            Err(error) => return absent(error),
        };
        let mut names = Vec::new();
        for entry in entries {
            if names.len() >= MAX_DIRECTORY_ENTRIES {
                return Err(io::Error::other("too many entries in the directory"));
            }
            // A name that is not UTF-8 is reported by the name check, with the replacement characters.
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.sort_unstable();
        Ok(Some(names))
    }

    fn is_executable(&self, path: &Path) -> bool {
        let meta = self.resolve(path).and_then(std::fs::metadata);
        meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    }
}

/// A tree in memory: for tests, and for whoever has the files already.
#[derive(Debug, Clone, Default)]
pub struct MemoryFiles {
    files: BTreeMap<PathBuf, (Vec<u8>, bool)>,
}

impl MemoryFiles {
    /// Adds a file that is not executable.
    pub fn add(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> &mut Self {
        self.files.insert(path.into(), (content.into(), false));
        self
    }

    /// Adds an executable file.
    pub fn add_program(&mut self, path: impl Into<PathBuf>, content: impl Into<Vec<u8>>) -> &mut Self {
        self.files.insert(path.into(), (content.into(), true));
        self
    }
}

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        Ok(self.files.get(&normal(path)).map(|(content, _)| content.clone()))
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<String>>> {
        let path = normal(path);
        let mut names = Vec::new();
        let mut found = false;
        for file in self.files.keys() {
            if let Ok(rest) = file.strip_prefix(&path)
                && let Some(first) = rest.components().next()
            {
                found = true;
                names.push(first.as_os_str().to_string_lossy().into_owned());
            }
        }
        names.dedup();
        Ok(found.then_some(names))
    }

    fn is_executable(&self, path: &Path) -> bool {
        self.files
            .get(&normal(path))
            .is_some_and(|&(_, executable)| executable)
    }
}

/// Removes `.` and `..` by text: a memory tree has no links.
fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                out.pop();
            }
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_stay_inside_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        std::fs::create_dir_all(root.join("usr/lib/d")).unwrap();
        std::fs::write(root.join("usr/lib/d/x"), "inside").unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        symlink("/usr/lib", root.join("lib")).unwrap();
        symlink("/secret", root.join("abs")).unwrap();
        symlink("../../../../secret", root.join("rel")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let files = DiskFiles::new(&root);
        assert_eq!(files.read(Path::new("/lib/d/x")).unwrap().unwrap(), b"inside");
        assert_eq!(files.list(Path::new("/lib/d")).unwrap().unwrap(), ["x"]);
        assert!(files.read(Path::new("/abs")).unwrap().is_none());
        assert!(files.read(Path::new("/rel")).unwrap().is_none());
        assert!(files.read(Path::new("/loop")).is_err());
        assert!(
            files.read(Path::new("/usr/lib")).is_err(),
            "a directory is not a description"
        );
        assert!(files.list(Path::new("/none")).unwrap().is_none());
        assert!(!files.is_executable(Path::new("/lib/d/x")));
    }
}
