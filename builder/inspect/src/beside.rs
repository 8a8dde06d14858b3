//! Checksums and the manifest that lie beside a file, and those inside an ISO.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read as _;
use std::path::Path;

use serde::Deserialize;

use crate::cell::{Cell, Place};
use crate::report::{Fault, Item, Part, Report};
use crate::sink::Listing;

/// Bytes of a file beside that is read.
const READ_MAX: u64 = 512 << 20;
/// Differences from a manifest that are told.
const TOLD: usize = 100;

/// Endings of media, longest first: what is before them is the name that a manifest goes by.
const ENDINGS: [&str; 27] = [
    ".delta.tar.zst",
    ".delta.tar.gz",
    ".delta.tar.xz",
    ".delta.tar",
    ".oci.tar",
    ".netboot.tar",
    ".tar.zst",
    ".tar.gz",
    ".tar.xz",
    ".tar",
    ".img.zst",
    ".img.gz",
    ".img.xz",
    ".img",
    ".raw.zst",
    ".raw.gz",
    ".raw.xz",
    ".raw",
    ".qcow2",
    ".squashfs",
    ".erofs",
    ".ext4",
    ".iso",
    ".disk",
    ".cpio.zst",
    ".cpio",
    ".initrd",
];

#[derive(Deserialize)]
struct Manifest {
    #[serde(default)]
    packages: Vec<Package>,
    #[serde(default)]
    files: Vec<Entry>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

#[derive(Deserialize)]
struct Entry {
    path: String,
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    uid: u32,
    #[serde(default)]
    gid: u32,
    #[serde(default)]
    sha256: Option<String>,
    #[serde(default)]
    target: Option<String>,
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    from: Option<String>,
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let file = std::fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.take(READ_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The checksums in a text as `sha256sum` writes it: name and SHA-256.
fn sums(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let (sum, name) = line.split_once(char::is_whitespace)?;
        let name = name.trim_start().trim_start_matches('*').trim_start_matches("./");
        let hexadecimal = sum.len() == 64 && sum.bytes().all(|byte| byte.is_ascii_hexdigit());
        hexadecimal.then_some((name, sum))
    })
}

/// Compares a file with what lies beside it.
pub fn check(path: &Path, report: &mut Report) {
    let Some(folder) = path.parent() else { return };
    let name = report.file.clone();
    let stem = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending));
    let mut lists = vec![(format!("{name}.sha256"), false), ("SHA256SUMS".to_owned(), true)];
    if let Some(stem) = stem {
        lists.push((format!("{}.SHA256SUMS", stem.trim_end_matches(".delta")), true));
    }
    for (beside, all) in lists {
        let Some(bytes) = read(&folder.join(&beside)) else {
            continue;
        };
        let text = String::from_utf8_lossy(&bytes);
        let found = sums(&text).find(|&(named, _)| named == name);
        match found {
            Some((_, sum)) => {
                if !sum.eq_ignore_ascii_case(&report.sha256) {
                    report.faults.push(Fault {
                        offset: Some(0),
                        place: String::new(),
                        what: format!("its SHA-256 is {}, {beside} says {sum}", report.sha256),
                    });
                }
                report.beside.push(beside);
            }
            None if all => {}
            None => report.faults.push(Fault {
                offset: None,
                place: String::new(),
                what: format!("{beside} has no checksum of it"),
            }),
        }
    }
    let Some(stem) = stem else { return };
    // A disk has its own; what a base has is not in the difference from it.
    let disk = [".img", ".raw", ".qcow2"]
        .iter()
        .any(|ending| name.contains(ending));
    let beside = match format!("{stem}.disk.manifest.json") {
        own if disk && folder.join(&own).exists() => own,
        _ => format!("{stem}.manifest.json"),
    };
    let Some(bytes) = read(&folder.join(&beside)).filter(|_| !name.contains(".delta.")) else {
        return;
    };
    let manifest: Manifest = match serde_json::from_slice(&bytes) {
        Ok(manifest) => manifest,
        Err(error) => {
            report.faults.push(Fault {
                offset: None,
                place: String::new(),
                what: format!("{beside}: {error}"),
            });
            return;
        }
    };
    let origins: BTreeMap<String, String> = manifest
        .files
        .iter()
        .filter_map(|entry| Some((entry.path.clone(), entry.from.clone()?)))
        .collect();
    report.attribute(&origins);
    let mut faults = Vec::new();
    let mut compared = false;
    let parts = report.part.walk();
    for part in &parts {
        if part.system.is_some() {
            compared = true;
            against(part, &parts, &manifest, &beside, &mut faults);
        }
    }
    if compared {
        report.beside.push(beside);
    }
    report.faults.append(&mut faults);
}

/// Holds the files of a system against a manifest. What is below an empty directory may lie on another partition, which is
/// mounted there.
fn against(part: &Part, parts: &[&Part], manifest: &Manifest, beside: &str, faults: &mut Vec<Fault>) {
    let mut told = 0;
    let mut tell = |what: String| {
        told += 1;
        if told <= TOLD {
            faults.push(Fault {
                offset: part.offset,
                place: part.place.clone(),
                what,
            });
        }
    };
    let items: HashMap<&str, &Item> = part.files.iter().map(|item| (item.path.as_str(), item)).collect();
    let mut known: HashMap<&str, ()> = HashMap::new();
    let filled: HashSet<&str> = part
        .files
        .iter()
        .filter_map(|item| item.path.rsplit_once('/'))
        .map(|(above, _)| above)
        .collect();
    let elsewhere = |path: &str| -> Option<&Item> {
        let mounted = path
            .match_indices('/')
            .map(|(at, _)| path.split_at(at))
            .find(|(above, _)| {
                items.get(above).is_some_and(|item| item.kind == "directory") && !filled.contains(above)
            })?;
        let others = parts.iter().filter(|other| !std::ptr::eq(**other, part));
        others
            .flat_map(|other| &other.files)
            .find(|item| item.path == mounted.1)
    };
    for entry in &manifest.files {
        known.insert(&entry.path, ());
        let Some(item) = items.get(entry.path.as_str()) else {
            let there = elsewhere(&entry.path);
            if there.is_some_and(|item| item.sha256 != entry.sha256) {
                tell(format!("{}: its content is not that of {beside}", entry.path));
            }
            // Tarballs have no place for sockets.
            if entry.kind != "socket" && there.is_none() {
                tell(format!("{} is in {beside}, but not there", entry.path));
            }
            continue;
        };
        let kind = if item.kind == "hardlink" {
            "file"
        } else {
            item.kind
        };
        let target = item.target.as_ref().filter(|_| item.kind == "symlink");
        for (what, same) in [
            ("type", kind == entry.kind),
            ("mode", format!("{:04o}", item.mode) == entry.mode),
            ("owner", (item.uid, item.gid) == (entry.uid, entry.gid)),
            ("content", item.sha256.is_none() || item.sha256 == entry.sha256),
            ("target", target == entry.target.as_ref()),
            ("device", item.device == entry.device),
        ] {
            if !same {
                tell(format!("{}: its {what} is not that of {beside}", entry.path));
            }
        }
    }
    for item in &part.files {
        // A file system of its own kind has this one; no package does.
        let own = item.path == "/lost+found";
        if !own && !known.contains_key(item.path.as_str()) {
            tell(format!("{} is not in {beside}", item.path));
        }
    }
    if let Some(system) = &part.system {
        let installed: HashMap<&str, &str> = system
            .packages
            .iter()
            .map(|one| (one.name.as_str(), one.version.as_str()))
            .collect();
        for package in &manifest.packages {
            let version = installed.get(package.name.as_str()).copied();
            if version != Some(&package.version) {
                tell(format!(
                    "{}-{} of {beside} is installed as {}",
                    package.name,
                    package.version,
                    version.unwrap_or("nothing")
                ));
            }
        }
    }
}

/// Names of which a list of checksums has none.
pub fn unnamed<'n>(list: &[u8], names: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    let text = String::from_utf8_lossy(list);
    let known: HashSet<&str> = sums(&text).map(|(name, _)| name).collect();
    names.filter(|name| !known.contains(name)).collect()
}

/// Compares the files of a medium or archive with the checksums in it. `starts` has the first byte of the files that lie there
/// as they are.
pub fn inside(cell: &mut Cell<'_>, place: &Place, listing: &Listing, starts: &HashMap<String, u64>) {
    let items: HashMap<&str, &Item> = listing
        .items
        .iter()
        .map(|item| (item.path.as_str(), item))
        .collect();
    for (path, bytes) in &listing.kept {
        let name = path.rsplit('/').next().unwrap_or_default();
        if !name.ends_with(".sha256") && !matches!(name, "SHA256SUMS" | "sha256sum.txt") {
            continue;
        }
        let folder = &path[..path.len() - name.len()];
        for (named, sum) in sums(&String::from_utf8_lossy(bytes)) {
            let file = format!("{folder}{}", named.trim_start_matches('/'));
            let at = starts.get(&file).copied().unwrap_or(0);
            match items.get(file.as_str()).map(|item| item.sha256.as_deref()) {
                None => cell.fault(place, 0, format!("{path} names {named}, which is not there")),
                Some(Some(actual)) if !actual.eq_ignore_ascii_case(sum) => {
                    cell.fault(
                        place,
                        at,
                        format!("{file}: its SHA-256 is {actual}, {path} says {sum}"),
                    );
                }
                Some(_) => {}
            }
        }
    }
}
