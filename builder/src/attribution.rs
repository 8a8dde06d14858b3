//! Where every entry of a root is from: a package with its version, an overlay, or what of lycia made it.

use std::collections::{BTreeMap, HashMap};

use lycia_apk::database::{self, Database};
use lycia_tree::{Follow, Tree, display};

use crate::error::{Error, Kind, Result};
use crate::root::{Origin, Root};

/// What the builder writes where it makes a root the system of a disk, besides what lies below [`DISK_FOLDERS`].
const DISK_FILES: [&str; 8] = [
    "/etc/hostname",
    "/etc/machine-id",
    "/etc/fstab",
    "/etc/shadow",
    "/boot/extlinux/extlinux.conf",
    "/boot/kernel.txt",
    "/boot/cmdline.txt",
    "/boot/config.txt",
];
/// Folders of which all files are the builder's: GRUB's, and overlays of device trees.
const DISK_FOLDERS: [&str; 2] = ["/boot/grub/", "/boot/overlays/"];

/// What the builder itself lays.
const ASSEMBLY: &str = "lycia: assembly";

/// The origin of every path of a root, directories and all.
///
/// # Errors
/// When something is there that no package, overlay or trigger made, and no step of the builder is known to make.
pub fn of(root: &Root) -> Result<BTreeMap<Vec<u8>, String>> {
    let versions: HashMap<&str, &str> = root
        .database
        .packages
        .iter()
        .map(|package| (package.info.name.as_str(), package.info.version.as_str()))
        .collect();
    let apk = [database::DIRECTORY, "etc/apk"].map(|folder| canonical(&root.tree, folder.as_bytes()));
    let mut directories = packaged(&root.tree, &root.database);
    let mut origins: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    for entry in root.tree.walk() {
        let own = root.origins.get(&entry.path);
        let origin = match own {
            // Which packages have a directory is known already.
            None | Some(Origin::Package(_) | Origin::Builder) if entry.inode.is_directory() => continue,
            Some(Origin::Package(name)) => {
                format!("package {name}-{}", versions.get(name.as_str()).unwrap_or(&"?"))
            }
            Some(Origin::Overlay(name)) => format!("overlay {name}"),
            Some(Origin::Trigger(name)) => format!("lycia: trigger {name}"),
            Some(Origin::Platform) => ASSEMBLY.to_owned(),
            Some(Origin::Host) => "host: GRUB".to_owned(),
            Some(Origin::Disk) if entry.inode.is_directory() || of_a_disk(&entry.path) => ASSEMBLY.to_owned(),
            Some(Origin::Disk | Origin::Builder) | None => {
                let symlink = entry.inode.symlink().is_some();
                let step = step(&entry.path, symlink, &apk).ok_or_else(|| {
                    Error::new(
                        Kind::Internal,
                        format!(
                            "{} is in the root, and nothing is known to have made it",
                            display(&entry.path)
                        ),
                    )
                    .hint(
                        "a step of lycia wrote it and did not say so: please report this with the definition",
                    )
                    .context("attributing the files of the root")
                })?;
                format!("lycia: {step}")
            }
        };
        // A directory that nobody names was made for the first thing in it.
        let mut above = &entry.path[..];
        while let Some(at) = above.iter().rposition(|&byte| byte == b'/').filter(|&at| at > 0) {
            above = &above[..at];
            if !directories.contains_key(above) {
                directories.insert(above.to_vec(), origin.clone());
            }
        }
        if entry.inode.is_directory() {
            directories.entry(entry.path).or_insert(origin);
        } else {
            origins.insert(entry.path, origin);
        }
    }
    for entry in root.tree.walk().filter(|entry| entry.inode.is_directory()) {
        // The root itself, or what was left when a trigger took away what was in it.
        let origin = directories.remove(&entry.path);
        origins.insert(entry.path, origin.unwrap_or_else(|| ASSEMBLY.to_owned()));
    }
    Ok(origins)
}

/// Whether the builder writes a path where it makes a root the system of a disk.
fn of_a_disk(path: &[u8]) -> bool {
    let name = path.strip_prefix(b"/boot/").filter(|name| !name.contains(&b'/'));
    // An initramfs for each kernel, and device trees for the firmware of a Raspberry Pi.
    let boot = name.is_some_and(|name| {
        name.starts_with(b"initramfs-") && name.ends_with(b".img") || name.ends_with(b".dtb")
    });
    boot || DISK_FILES.iter().any(|file| file.as_bytes() == path)
        || DISK_FOLDERS
            .iter()
            .any(|folder| path.starts_with(folder.as_bytes()))
}

/// The step of the builder that makes what nobody else names.
fn step(path: &[u8], symlink: bool, apk: &[Vec<u8>]) -> Option<&'static str> {
    let below = |folder: &Vec<u8>| path.starts_with(folder) && path.get(folder.len()) == Some(&b'/');
    let has = |needle: &[u8]| path.windows(needle.len()).any(|window| window == needle);
    if apk.iter().any(below) {
        Some("package database")
    } else if symlink && has(b"dinit.d/") {
        Some("enabled service")
    } else {
        None
    }
}

fn canonical(tree: &Tree, path: &[u8]) -> Vec<u8> {
    let found = tree.canonical(path, Follow::All);
    found.unwrap_or_else(|_| [b"/", path].concat())
}

/// The directories of packages with the first package, by name, that has each.
fn packaged(tree: &Tree, database: &Database) -> BTreeMap<Vec<u8>, String> {
    let mut packages: Vec<_> = database.packages.iter().collect();
    packages.sort_by(|one, other| one.info.name.cmp(&other.info.name));
    let mut found = BTreeMap::new();
    for package in packages {
        for directory in package.directories.iter().filter(|one| !one.path.is_empty()) {
            found
                .entry(canonical(tree, &directory.path))
                .or_insert_with(|| format!("package {}-{}", package.info.name, package.info.version));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use lycia_tree::{Metadata, Node, Timestamp};

    use super::*;

    #[test]
    fn directories_have_whoever_made_them() {
        let mut root = root(&[
            ("/etc/s6/keep", file(), Some(Origin::Trigger("x".to_owned()))),
            ("/srv/a/b/c", file(), Some(Origin::Overlay("own".to_owned()))),
        ]);
        let metadata = || Metadata::new(0o755, Timestamp::default());
        for (path, origin) in [
            ("/etc/s6", Some(Origin::Overlay("s6".to_owned()))),
            ("/etc/s6/empty", Some(Origin::Overlay("s6".to_owned()))),
            ("/var/lib/made", Some(Origin::Trigger("tmpfiles".to_owned()))),
            ("/efi", Some(Origin::Disk)),
            ("/left", None),
        ] {
            root.tree.make_directories(path.as_bytes(), metadata()).unwrap();
            root.origins
                .extend(origin.map(|origin| (path.as_bytes().to_vec(), origin)));
        }
        let of = of(&root).unwrap();
        for (path, origin) in [
            ("/etc/s6", "overlay s6"),
            ("/etc/s6/empty", "overlay s6"),
            ("/srv/a/b", "overlay own"),
            ("/var/lib/made", "lycia: trigger tmpfiles"),
            ("/var/lib", "lycia: trigger tmpfiles"),
            ("/efi", "lycia: assembly"),
            ("/left", "lycia: assembly"),
            ("/", "lycia: assembly"),
        ] {
            assert_eq!(of[path.as_bytes()], origin, "{path}");
        }
    }

    fn root(paths: &[(&str, Node, Option<Origin>)]) -> Root {
        let metadata = || Metadata::new(0o644, Timestamp::default());
        let mut tree = Tree::new(metadata());
        let mut origins = BTreeMap::new();
        for (path, node, origin) in paths {
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            tree.make_directories(folder.as_bytes(), metadata()).unwrap();
            tree.insert(path.as_bytes(), metadata(), node.clone()).unwrap();
            if let Some(origin) = origin {
                origins.insert(path.as_bytes().to_vec(), origin.clone());
            }
        }
        Root {
            tree,
            database: Database::default(),
            origins,
            warnings: Vec::new(),
            time: Timestamp::default(),
            beside: None,
        }
    }

    fn file() -> Node {
        Node::Regular("x".into())
    }

    #[test]
    fn what_lycia_makes_is_named_by_its_step() {
        let link = Node::Symlink(b"../sshd".to_vec());
        let of = of(&root(&[
            ("/etc/apk/world", file(), Some(Origin::Builder)),
            ("/etc/dinit.d/boot.d/sshd", link, Some(Origin::Builder)),
            ("/etc/fstab", file(), Some(Origin::Disk)),
            ("/boot/grub/i386-pc/normal.mod", file(), Some(Origin::Disk)),
            ("/boot/initramfs-1.img", file(), Some(Origin::Disk)),
            ("/usr/bin/x", file(), Some(Origin::Overlay("own".to_owned()))),
        ]))
        .unwrap();
        for (path, origin) in [
            ("/etc/apk/world", "lycia: package database"),
            ("/etc/dinit.d/boot.d/sshd", "lycia: enabled service"),
            ("/etc/fstab", "lycia: assembly"),
            ("/boot/grub/i386-pc/normal.mod", "lycia: assembly"),
            ("/boot/initramfs-1.img", "lycia: assembly"),
            ("/usr/bin/x", "overlay own"),
            ("/usr/bin", "overlay own"),
            ("/", "lycia: assembly"),
        ] {
            assert_eq!(of[path.as_bytes()], origin, "{path}");
        }
    }

    #[test]
    fn what_nobody_made_is_an_error() {
        for (path, node, origin) in [
            ("/usr/bin/x", file(), None),
            ("/usr/bin/x", file(), Some(Origin::Builder)),
            ("/usr/bin/x", file(), Some(Origin::Disk)),
            // A disk's, in a root that is none.
            ("/etc/fstab", file(), Some(Origin::Builder)),
            ("/boot/grub/grub.cfg", file(), None),
            // No link, so that no service is enabled by it.
            ("/etc/dinit.d/boot.d/sshd", file(), Some(Origin::Builder)),
            ("/boot/vmlinuz-1", file(), Some(Origin::Disk)),
        ] {
            let error = of(&root(&[(path, node, origin)])).unwrap_err();
            assert_eq!(error.kind(), Kind::Internal);
            assert!(error.to_string().contains(path), "{error}");
        }
    }
}
