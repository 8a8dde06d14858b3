//! The system that is installed in a file system: apk's database, world, kernels, allocator.

use std::collections::HashMap;

use lycia_apk::database::Database;

use crate::boot;
use crate::report::{Installed, Item, System};
use crate::sink::{Listing, hex};

/// Where apk has its database: where `/lib` leads, with merged `/usr` and without.
const DATABASES: [&str; 2] = ["/usr/lib/apk/db", "/lib/apk/db"];
/// Paths that are named of what is not as packaged.
const NAMED: usize = 500;

/// The system in a file system, if there is one.
pub fn system(listing: &Listing, fault: &mut dyn FnMut(String)) -> Option<System> {
    let kept = |path: &str| listing.kept.get(path).map(Vec::as_slice);
    let (folder, installed) = DATABASES
        .iter()
        .find_map(|folder| Some((folder, kept(&format!("{folder}/installed"))?)))?;
    let triggers = kept(&format!("{folder}/triggers")).unwrap_or_default();
    let mut system = System {
        allocator: listing.allocator,
        ..System::default()
    };
    // Scripts are not shown, so that an unreadable archive of them does not matter.
    match Database::read(installed, triggers, &[]) {
        Ok(database) => {
            system.packages = database
                .packages
                .iter()
                .map(|package| Installed {
                    name: package.info.name.clone(),
                    version: package.info.version.clone(),
                    license: package.info.license.clone(),
                    origin: package.info.origin.clone(),
                })
                .collect();
            system.packages.sort_by(|one, other| one.name.cmp(&other.name));
            compare(&database, &listing.items, &mut system);
        }
        Err(error) => fault(format!("{folder}/installed: {error}")),
    }
    let text = |path: &str| {
        kept(path)
            .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
            .unwrap_or_default()
    };
    system.world = text("/etc/apk/world")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    system.name = match text("/etc/os-release") {
        own if own.is_empty() => release(&text("/usr/lib/os-release")),
        own => release(&own),
    };
    for (path, bytes) in &listing.kept {
        if path.contains("vmlinu") {
            let name = path.rsplit("vmlinu").next().unwrap_or_default();
            let by_name = name.split_once('-').map(|(_, version)| version.to_owned());
            system.kernels.extend(boot::version(bytes).or(by_name));
        }
    }
    system.kernels.sort();
    system.kernels.dedup();
    Some(system)
}

fn release(text: &str) -> String {
    text.lines()
        .find_map(|line| line.strip_prefix("PRETTY_NAME="))
        .map(|name| name.trim_matches(['"', '\'']).to_owned())
        .unwrap_or_default()
}

/// Compares files with what the database says of them.
fn compare(database: &Database, items: &[Item], system: &mut System) {
    let by_path: HashMap<&str, &Item> = items.iter().map(|item| (item.path.as_str(), item)).collect();
    let links: HashMap<&str, &str> = items
        .iter()
        .filter(|item| item.kind == "symlink")
        .filter_map(|item| Some((item.path.as_str(), item.target.as_deref()?)))
        .collect();
    for package in &database.packages {
        for directory in &package.directories {
            let base = lycia_tree::display(&directory.path);
            // With merged /usr the directory of a package may be a link.
            let base = match links.get(format!("/{base}").as_str()) {
                Some(target) => target.trim_start_matches('/').to_owned(),
                None => base,
            };
            for file in &directory.files {
                let name = lycia_tree::display(&file.name);
                let path = if base.is_empty() {
                    format!("/{name}")
                } else {
                    format!("/{base}/{name}")
                };
                let Some(item) = by_path.get(path.as_str()) else {
                    if system.missing.len() < NAMED {
                        system.missing.push(path);
                    }
                    continue;
                };
                // Other digests than the first 160 bits of SHA-256 are those of older databases.
                let (Some(digest), Some(sha256), true) =
                    (&file.digest, &item.sha256, package.flags.sha256_160)
                else {
                    continue;
                };
                if !sha256.starts_with(&hex(digest)) && system.modified.len() < NAMED {
                    system.modified.push(path);
                }
            }
        }
    }
    system.modified.sort();
    system.missing.sort();
}
