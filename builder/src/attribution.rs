//! Where every entry of a root is from: a package with its version, an overlay, or what of lycia made it.

use std::collections::{BTreeMap, HashMap};

use lycia_apk::database::{self, Database};
use lycia_tree::{Follow, Tree};

use crate::root::{Origin, Root};

/// The origin of every path of a root, directories and all.
pub fn of(root: &Root) -> BTreeMap<Vec<u8>, String> {
    let versions: HashMap<&str, &str> = root
        .database
        .packages
        .iter()
        .map(|package| (package.info.name.as_str(), package.info.version.as_str()))
        .collect();
    let apk = [database::DIRECTORY, "etc/apk"].map(|folder| canonical(&root.tree, folder.as_bytes()));
    let mut directories = packaged(&root.tree, &root.database);
    let mut origins: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    for entry in root.tree.walk().filter(|entry| !entry.inode.is_directory()) {
        let origin = match root.origins.get(&entry.path) {
            Some(Origin::Package(name)) => {
                format!("package {name}-{}", versions.get(name.as_str()).unwrap_or(&"?"))
            }
            Some(Origin::Overlay(name)) => format!("overlay {name}"),
            Some(Origin::Trigger(name)) => format!("lycia: trigger {name}"),
            Some(Origin::Builder) | None => {
                format!(
                    "lycia: {}",
                    step(&entry.path, entry.inode.symlink().is_some(), &apk)
                )
            }
        };
        // A directory that no package has was made for the first thing in it.
        let mut above = &entry.path[..];
        while let Some(at) = above.iter().rposition(|&byte| byte == b'/').filter(|&at| at > 0) {
            above = &above[..at];
            if !directories.contains_key(above) {
                directories.insert(above.to_vec(), origin.clone());
            }
        }
        origins.insert(entry.path, origin);
    }
    for entry in root.tree.walk().filter(|entry| entry.inode.is_directory()) {
        let origin = match directories.remove(&entry.path) {
            Some(origin) => origin,
            // Nothing is in it, and no package has it: tmpfiles, or the root itself.
            None if entry.path == b"/" => "lycia: assembly".to_owned(),
            None => match root.origins.get(&entry.path) {
                Some(Origin::Overlay(name)) => format!("overlay {name}"),
                _ => "lycia: trigger or overlay, an empty directory".to_owned(),
            },
        };
        origins.insert(entry.path, origin);
    }
    origins
}

/// The step of the builder that makes what nobody else names.
fn step(path: &[u8], symlink: bool, apk: &[Vec<u8>]) -> &'static str {
    let below = |folder: &Vec<u8>| path.starts_with(folder) && path.get(folder.len()) == Some(&b'/');
    let has = |needle: &[u8]| path.windows(needle.len()).any(|window| window == needle);
    if apk.iter().any(below) {
        "package database"
    } else if symlink && has(b"dinit.d/") {
        "enabled service"
    } else {
        "assembly"
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
