//! Overlays read from a folder of the host.
//!
//! Files, directories and links are taken as they lie; modes are 0755 for directories and for files that
//! their owner may execute, else 0644, since the umask of whoever checked them out must not show. The
//! file `overlay.toml` at the top, which is not laid over the root itself, says what a folder cannot: owners, other modes,
//! devices, what is to go.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use lycia_tree::overlay::{Item, OverlayEntry};
use lycia_tree::{Content, Device, Node, Pack};
use serde::Deserialize;

use crate::definition::typed;
use crate::error::{Error, Explain as _, Kind, Result, io, writing};
use crate::store::Aside;

/// The manifest of an overlay.
pub const MANIFEST: &str = "overlay.toml";

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Manifest {
    #[serde(default)]
    entry: Vec<ManifestEntry>,
}

/// An entry of the manifest. Without `kind` it is about a path that the folder has.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct ManifestEntry {
    path: String,
    kind: Option<ManifestKind>,
    /// Octal, as `4755`.
    mode: Option<String>,
    uid: Option<u32>,
    gid: Option<u32>,
    /// Of a link.
    target: Option<String>,
    /// Of a device.
    major: Option<u32>,
    /// Of a device.
    minor: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum ManifestKind {
    Directory,
    Symlink,
    HardLink,
    CharDevice,
    BlockDevice,
    Fifo,
    Remove,
}

/// The contents of an overlay, copied back to back into a file without a name: whoever owns the folder may go on writing there,
/// and an overlay of any size takes no memory.
struct Contents {
    out: BufWriter<Aside>,
    /// Path in the overlay, first byte and bytes of each file.
    places: Vec<(Vec<u8>, u64, u64)>,
    len: u64,
}

impl Contents {
    fn copy(&mut self, host: &Path, path: &[u8]) -> Result<()> {
        let mut file = io(File::open(host), || format!("reading {}", host.display()))?;
        let mut buffer = [0; 1 << 16];
        let offset = self.len;
        loop {
            let count = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return io(Err(error), || format!("reading {}", host.display())),
            };
            writing(self.out.write_all(&buffer[..count]), || {
                format!("copying {} to the store", host.display())
            })?;
            self.len += count as u64;
        }
        self.places.push((path.to_vec(), offset, self.len - offset));
        Ok(())
    }

    /// Gives the files their contents.
    fn put(mut self, entries: &mut BTreeMap<Vec<u8>, OverlayEntry>) -> Result<()> {
        let doing = || "copying an overlay to the store".to_owned();
        writing(self.out.flush(), doing)?;
        let pack = Pack::open(&self.out.get_ref().path(), self.len).explain(Kind::Host, doing)?;
        for (path, offset, len) in self.places {
            let content = pack.range(offset, len).explain(Kind::Internal, doing)?;
            if let Some(entry) = entries.get_mut(&path) {
                entry.item = Item::Node(Node::Regular(content));
            }
        }
        Ok(())
    }
}

/// Reads the overlay in `folder`; its contents are copied to a file without a name in `scratch`.
///
/// # Errors
/// When a file cannot be read, is of a kind that an overlay folder cannot have, or the manifest is wrong.
pub fn read(folder: &Path, scratch: &Path) -> Result<Vec<OverlayEntry>> {
    let mut entries = BTreeMap::new();
    let mut contents = Contents {
        out: BufWriter::with_capacity(1 << 17, Aside::new(&scratch.join("overlay"))?),
        places: Vec::new(),
        len: 0,
    };
    scan(folder, Path::new(""), &mut entries, &mut contents)?;
    contents.put(&mut entries)?;
    let manifest = folder.join(MANIFEST);
    let mut ordered: Vec<OverlayEntry> = Vec::new();
    let mut last = Vec::new();
    if manifest.is_file() {
        let wrong = |message: String| Error::new(Kind::Input, message).context(manifest.display());
        let typed: Manifest = typed::read(&manifest)?;
        for entry in typed.entry {
            let path = clean(&entry.path).ok_or_else(|| wrong(format!("`{}` is no path", entry.path)))?;
            let mode = entry.mode.as_deref().map(|mode| {
                octal(mode)
                    .ok_or_else(|| wrong(format!("{path}: the mode `{mode}` is not octal, from 0 to 7777")))
            });
            let mode = mode.transpose()?;
            let owner = match (entry.uid, entry.gid) {
                (None, None) => None,
                (uid, gid) => Some((uid.unwrap_or(0), gid.unwrap_or(0))),
            };
            let device = || match (entry.major, entry.minor) {
                (Some(major), Some(minor)) if major < 1 << 12 && minor < 1 << 20 => {
                    Ok(Device { major, minor })
                }
                _ => Err(wrong(format!(
                    "{path}: a device needs `major` below 4096 and `minor` below 1048576"
                ))),
            };
            let target = || {
                entry
                    .target
                    .clone()
                    .map(String::into_bytes)
                    .ok_or_else(|| wrong(format!("{path}: a link needs a `target`")))
            };
            let item = match entry.kind {
                None => {
                    let known = entries.get_mut(path.as_bytes()).ok_or_else(|| {
                        wrong(format!("{path} is not in the folder"))
                            .hint("give its `kind`, or remove the entry")
                    })?;
                    known.mode = mode.or(known.mode);
                    known.owner = owner.or(known.owner);
                    continue;
                }
                Some(ManifestKind::Directory) => Item::Directory,
                Some(ManifestKind::Symlink) => Item::Node(Node::Symlink(target()?)),
                Some(ManifestKind::HardLink) => Item::HardLink(target()?),
                Some(ManifestKind::CharDevice) => Item::Node(Node::CharDevice(device()?)),
                Some(ManifestKind::BlockDevice) => Item::Node(Node::BlockDevice(device()?)),
                Some(ManifestKind::Fifo) => Item::Node(Node::Fifo),
                Some(ManifestKind::Remove) => Item::Remove,
            };
            let first = item == Item::Remove;
            let mut made = OverlayEntry::new(path.into_bytes(), item);
            made.mode = mode;
            made.owner = owner;
            if first {
                ordered.push(made)
            } else {
                last.push(made)
            }
        }
    }
    ordered.extend(entries.into_values());
    ordered.extend(last);
    Ok(ordered)
}

fn scan(
    folder: &Path,
    relative: &Path,
    entries: &mut BTreeMap<Vec<u8>, OverlayEntry>,
    contents: &mut Contents,
) -> Result<()> {
    let here = folder.join(relative);
    for entry in io(std::fs::read_dir(&here), || {
        format!("reading the overlay {}", here.display())
    })? {
        let entry = io(entry, || format!("reading the overlay {}", here.display()))?;
        let relative = relative.join(entry.file_name());
        if relative == Path::new(MANIFEST) {
            continue;
        }
        let host = entry.path();
        let metadata = io(host.symlink_metadata(), || format!("reading {}", host.display()))?;
        let kind = metadata.file_type();
        let (item, mode) = if kind.is_dir() {
            (Item::Directory, None)
        } else if kind.is_symlink() {
            let target = io(std::fs::read_link(&host), || {
                format!("reading the link {}", host.display())
            })?;
            (
                Item::Node(Node::Symlink(target.into_os_string().into_vec())),
                None,
            )
        } else if kind.is_file() {
            contents.copy(&host, relative.as_os_str().as_bytes())?;
            let executable = metadata.permissions().mode() & 0o100 != 0;
            (
                // Filled in when all are copied.
                Item::Node(Node::Regular(Content::empty())),
                Some(if executable { 0o755 } else { 0o644 }),
            )
        } else {
            return Err(Error::new(
                Kind::Input,
                format!("{} is neither file, directory nor link", host.display()),
            )
            .hint(format!(
                "name devices and pipes in {}",
                folder.join(MANIFEST).display()
            )));
        };
        let path = relative.as_os_str().as_bytes().to_vec();
        let mut made = OverlayEntry::new(path.clone(), item);
        made.mode = mode;
        entries.insert(path, made);
        if kind.is_dir() {
            scan(folder, &relative, entries, contents)?;
        }
    }
    Ok(())
}

/// A path without slashes at its ends, with neither empty components nor dots.
fn clean(path: &str) -> Option<String> {
    let path = path.trim_matches('/');
    let fits = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains('\0');
    path.split('/').all(fits).then(|| path.to_owned())
}

fn octal(text: &str) -> Option<u16> {
    u16::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_tree::overlay::apply;
    use lycia_tree::{Follow, Metadata, Timestamp, Tree};

    fn overlay(manifest: &str) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        std::fs::create_dir_all(at("etc/sub")).unwrap();
        std::fs::write(at("etc/secret"), "s").unwrap();
        std::fs::write(at("etc/run"), "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(at("etc/run"), std::fs::Permissions::from_mode(0o777)).unwrap();
        std::os::unix::fs::symlink("../x", at("etc/link")).unwrap();
        std::fs::write(at(MANIFEST), manifest).unwrap();
        directory
    }

    #[test]
    fn a_folder_and_its_manifest_become_entries() {
        let folder = overlay(
            "[[entry]]\npath = \"etc/secret\"\nmode = \"0600\"\nuid = 5\n\
             [[entry]]\npath = \"/dev/null\"\nkind = \"char-device\"\nmajor = 1\nminor = 3\nmode = \"666\"\n\
             [[entry]]\npath = \"gone\"\nkind = \"remove\"\n",
        );
        let mut tree = Tree::new(Metadata::new(0o755, Timestamp::default()));
        tree.write(b"gone/x", Metadata::new(0o644, Timestamp::default()), "x".into())
            .unwrap();
        apply(
            &mut tree,
            &read(folder.path(), folder.path()).unwrap(),
            Timestamp::default(),
        )
        .unwrap();
        let at = |path: &str| tree.inode(tree.resolve(path.as_bytes(), Follow::Parents).unwrap());
        assert_eq!(
            (at("etc/secret").mode(), at("etc/secret").metadata.uid),
            (0o100600, 5)
        );
        assert_eq!(at("etc/run").mode(), 0o100755);
        assert_eq!(at("etc/link").symlink(), Some(b"../x".as_slice()));
        assert_eq!(at("dev/null").mode(), 0o020666);
        assert_eq!(tree.find(b"gone", Follow::Parents).unwrap(), None);
        assert_eq!(tree.find(MANIFEST.as_bytes(), Follow::Parents).unwrap(), None);
    }

    #[test]
    fn a_wrong_manifest_says_what_is_wrong() {
        for (entry, part) in [
            ("path = \"etc/none\"", "not in the folder"),
            ("path = \"../x\"\nkind = \"fifo\"", "no path"),
            ("path = \"x\"\nkind = \"fifo\"\nmode = \"99\"", "octal"),
            ("path = \"x\"\nkind = \"symlink\"", "target"),
            ("path = \"x\"\nkind = \"block-device\"\nmajor = 8", "minor"),
            ("path = \"x\"\nknd = \"fifo\"", "did you mean `kind`?"),
        ] {
            let folder = overlay(&format!("[[entry]]\n{entry}\n"));
            let error = read(folder.path(), folder.path()).unwrap_err();
            assert!(error.to_string().contains(part), "{entry} gave {error}");
        }
    }
}
