//! What a recipe left in `$OUT`.

use crate::error::{IoContext, Result};
use crate::recipe::Patterns;
use crate::store::{hex, make_dir};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// One path of `$OUT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Staged {
    Directory {
        /// Nothing is in it.
        empty: bool,
    },
    File {
        size: u64,
        program: bool,
        /// Device and inode where it has further names.
        shared: Option<(u64, u64)>,
    },
    Symlink(Vec<u8>),
    /// Something that files of a host cannot be put into a package as.
    Other(&'static str),
}

/// All paths of a directory, relative, in byte order.
pub(crate) type Tree = BTreeMap<Vec<u8>, Staged>;

/// Looks at everything below a directory.
pub(crate) fn scan(root: &Path) -> Result<Tree> {
    let mut tree = Tree::new();
    walk(root, &mut Vec::new(), &mut tree)?;
    Ok(tree)
}

fn walk(dir: &Path, prefix: &mut Vec<u8>, tree: &mut Tree) -> Result<bool> {
    let mut empty = true;
    for entry in fs::read_dir(dir).at("reading the directory", dir)? {
        let entry = entry.at("reading the directory", dir)?;
        empty = false;
        let path = entry.path();
        let length = prefix.len();
        if length > 0 {
            prefix.push(b'/');
        }
        prefix.extend_from_slice(entry.file_name().as_bytes());
        let meta = fs::symlink_metadata(&path).at("looking at", &path)?;
        let staged = if meta.is_dir() {
            Staged::Directory {
                empty: walk(&path, prefix, tree)?,
            }
        } else if meta.is_symlink() {
            let target = fs::read_link(&path).at("reading the link", &path)?;
            Staged::Symlink(target.into_os_string().as_bytes().to_vec())
        } else if meta.is_file() {
            Staged::File {
                size: meta.len(),
                program: meta.permissions().mode() & 0o111 != 0,
                shared: (meta.nlink() > 1).then(|| (meta.dev(), meta.ino())),
            }
        } else {
            Staged::Other("a device, pipe or socket; state it as a [[package.entry]]")
        };
        tree.insert(prefix.clone(), staged);
        prefix.truncate(length);
    }
    Ok(empty)
}

/// What reading every file of a tree once tells.
pub(crate) struct Summary {
    /// One hash of names, kinds, x bits, link targets and contents.
    pub hash: String,
    /// Bytes of regular files.
    pub bytes: u64,
    /// Files that hold the needle.
    pub holding: Vec<String>,
}

/// Hashes a tree and looks for a scratch path in its files.
pub(crate) fn summarize(root: &Path, tree: &Tree, needle: &Path) -> Result<Summary> {
    let needle = needle.as_os_str().as_bytes();
    let mut hash = Sha256::new();
    let mut summary = Summary {
        hash: String::new(),
        bytes: 0,
        holding: Vec::new(),
    };
    let mut links: BTreeMap<(u64, u64), usize> = BTreeMap::new();
    for (path, staged) in tree {
        hash.update((path.len() as u64).to_le_bytes());
        hash.update(path);
        match staged {
            Staged::Directory { .. } => hash.update(b"d"),
            Staged::Symlink(target) => {
                hash.update(b"l");
                hash.update((target.len() as u64).to_le_bytes());
                hash.update(target);
            }
            Staged::Other(_) => hash.update(b"o"),
            Staged::File {
                size,
                program,
                shared,
            } => {
                hash.update(if *program { b"x" } else { b"f" });
                hash.update(size.to_le_bytes());
                summary.bytes += size;
                if let Some(inode) = shared {
                    let next = links.len();
                    let number = *links.entry(*inode).or_insert(next);
                    hash.update((number as u64).to_le_bytes());
                }
                let file = join(root, path);
                let mut content = Vec::new();
                File::open(&file)
                    .and_then(|mut f| f.read_to_end(&mut content))
                    .at("reading", &file)?;
                hash.update(Sha256::digest(&content));
                if holds(&content, needle) {
                    summary.holding.push(String::from_utf8_lossy(path).into_owned());
                }
            }
        }
    }
    summary.hash = hex(&hash.finalize());
    Ok(summary)
}

fn holds(content: &[u8], needle: &[u8]) -> bool {
    let Some((first, rest)) = needle.split_first() else {
        return false;
    };
    let mut from = 0;
    while let Some(at) = content[from..].iter().position(|b| b == first) {
        if content[from + at + 1..].starts_with(rest) {
            return true;
        }
        from += at + 1;
    }
    false
}

/// A path of bytes below a root.
pub(crate) fn join(root: &Path, path: &[u8]) -> PathBuf {
    root.join(std::ffi::OsStr::from_bytes(path))
}

/// Adds what `patterns` take of a result to a sysroot. Two recipes with one file are an error: which of them
/// would win is nobody's decision.
pub(crate) fn merge(from: &Path, patterns: &Patterns, sysroot: &Path) -> Result<(), String> {
    if patterns.is_empty() {
        return Ok(());
    }
    let text = |e: crate::error::SeedError| e.to_string();
    for (path, staged) in scan(from).map_err(text)? {
        if !patterns.matches(&path) {
            continue;
        }
        let source = join(from, &path);
        let target = join(sysroot, &path);
        if let Staged::Directory { .. } = staged {
            make_dir(&target).map_err(text)?;
            continue;
        }
        make_dir(target.parent().unwrap_or(sysroot)).map_err(text)?;
        if fs::symlink_metadata(&target).is_ok() {
            return Err(format!(
                "{} comes from two of the needed recipes",
                String::from_utf8_lossy(&path)
            ));
        }
        match staged {
            // Copied, not linked: a step that writes into SYSROOT must not change a stored result.
            Staged::File { .. } => fs::copy(&source, &target)
                .map(drop)
                .at("copying to", &target)
                .map_err(text)?,
            Staged::Symlink(link) => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(&link), &target)
                    .at("making the link", &target)
                    .map_err(text)?;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::create_dir_all(root.join("usr/empty")).unwrap();
        fs::write(root.join("usr/f"), "hello /scratch/x there").unwrap();
        fs::hard_link(root.join("usr/f"), root.join("usr/g")).unwrap();
        std::os::unix::fs::symlink("f", root.join("usr/l")).unwrap();
        dir
    }

    fn summary(root: &Path) -> Summary {
        summarize(root, &scan(root).unwrap(), Path::new("/scratch/x")).unwrap()
    }

    #[test]
    fn a_scan_tells_kinds() {
        let dir = tree();
        let tree = scan(dir.path()).unwrap();
        assert_eq!(tree[&b"usr".to_vec()], Staged::Directory { empty: false });
        assert_eq!(tree[&b"usr/empty".to_vec()], Staged::Directory { empty: true });
        assert_eq!(tree[&b"usr/l".to_vec()], Staged::Symlink(b"f".to_vec()));
        assert!(matches!(
            tree[&b"usr/f".to_vec()],
            Staged::File {
                size: 22,
                program: false,
                shared: Some(_)
            }
        ));
    }

    #[test]
    fn the_hash_is_of_content_and_not_of_place_or_time() {
        let (one, two) = (tree(), tree());
        let first = summary(one.path());
        assert_eq!(first.hash, summary(two.path()).hash);
        assert_eq!(first.holding, ["usr/f", "usr/g"]);
        assert_eq!(first.bytes, 44);
        fs::remove_file(two.path().join("usr/g")).unwrap();
        fs::write(two.path().join("usr/g"), "hello /scratch/x there").unwrap();
        assert_ne!(
            first.hash,
            summary(two.path()).hash,
            "two files are not one file with two names"
        );
    }

    #[test]
    fn a_sysroot_is_what_the_patterns_take_and_clashes_are_told() {
        let dir = tree();
        let sysroot = tempfile::tempdir().unwrap();
        let patterns = Patterns::new(["usr/f", "usr/l"]).unwrap();
        merge(dir.path(), &patterns, sysroot.path()).unwrap();
        assert_eq!(scan(sysroot.path()).unwrap().len(), 3);
        let error = merge(dir.path(), &patterns, sysroot.path()).unwrap_err();
        assert!(error.contains("usr/f comes from two"), "{error}");
    }
}
