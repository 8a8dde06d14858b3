//! The repository: packages and a signed index that names exactly the packages that are there.

use crate::error::{IoContext, Result, SeedError};
use crate::keys::Key;
use crate::report::{Event, PackageReport, Progress, Report};
use crate::store::{Lock, make_dir, read_json, sha256, sha256_file, write_file, write_json};
use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::metadata::{FileKind, Package, PackageInfo};
use lycia_apk::package::{Expect, Trust, read_metadata};
use lycia_apk::version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The index's file name.
pub(crate) const INDEX: &str = "Packages.adb";

/// What the repository was last made of, so that an unchanged one is left alone.
const RECORD: &str = ".repository.json";

#[derive(PartialEq, Serialize, Deserialize)]
struct Record {
    key: String,
    index: String,
    /// File name, bytes and identity.
    packages: Vec<(String, u64, String)>,
    problems: Vec<String>,
}

/// Puts the packages of a report, and further ones, into the repository.
pub(crate) fn publish(
    dir: &Path,
    key: &Key,
    report: &mut Report,
    further: Vec<PackageReport>,
    progress: &mut dyn Progress,
) -> Result<()> {
    let mut packages: Vec<PackageReport> = report
        .recipes
        .iter()
        .flat_map(|r| r.packages.clone())
        .chain(further)
        .collect();
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    make_dir(dir)?;
    let _lock = Lock::take(&dir.join(".lock"))?;
    report.packages = packages.len();
    report.bytes = packages.iter().map(|p| p.bytes).sum();
    let index_path = dir.join(INDEX);
    let wanted: Vec<(String, u64, String)> = packages
        .iter()
        .map(|p| (file_name(p), p.bytes, p.identity.clone()))
        .collect();
    let old: Option<Record> = read_json(&dir.join(RECORD));
    if let Some(old) = old
        && old.key == key.fingerprint()
        && old.packages == wanted
        && wanted
            .iter()
            .all(|(file, bytes, _)| fs::metadata(dir.join(file)).is_ok_and(|m| m.len() == *bytes))
        && sha256_file(&index_path).is_ok_and(|found| found == old.index)
    {
        report.problems = old.problems;
        report.index_bytes = fs::metadata(&index_path).at("looking at", &index_path)?.len();
        return Ok(());
    }
    progress.event(Event::Repository {
        packages: packages.len(),
    });
    if packages.is_empty() {
        // An index without packages cannot be read back by apk; none is better.
        let _ = fs::remove_file(&index_path);
        let _ = fs::remove_file(dir.join(RECORD));
        return Ok(());
    }
    let ring = key.ring()?;
    let fault = |why: String| SeedError::Repository {
        path: dir.to_owned(),
        why,
    };
    let mut entries = Vec::new();
    let mut read = Vec::new();
    for package in &packages {
        let bytes = fs::read(&package.path).at("reading", &package.path)?;
        let expect = Expect {
            trust: Trust::Required,
            ..Expect::default()
        };
        let verified = read_metadata(&bytes, &ring, &expect)
            .map_err(|e| fault(format!("{}: {e}", package.path.display())))?;
        let entry = index::entry(&bytes, &ring, Trust::Required, IndexHash::Sha256)
            .map_err(|e| fault(format!("{}: {e}", package.path.display())))?;
        place(
            &package.path,
            &dir.join(file_name(package)),
            package.bytes,
            &bytes,
        )?;
        entries.push(entry);
        read.push(verified.package);
    }
    report.problems = problems(&read);
    let index = Index {
        description: "Lycia seed".into(),
        packages: entries,
        pkgname_spec: None,
    };
    let options = index::WriteOptions {
        hash: IndexHash::Sha256,
        ..index::WriteOptions::default()
    };
    let bytes = index
        .write(&options, std::slice::from_ref(key.signing()))
        .map_err(|e| fault(format!("writing the index: {e}")))?;
    let same = fs::read(&index_path).is_ok_and(|old| old == bytes);
    if !same {
        write_file(&index_path, &bytes, 0o644)?;
    }
    report.index_bytes = bytes.len() as u64;
    let record = Record {
        key: key.fingerprint(),
        index: sha256(&bytes),
        packages: wanted,
        problems: report.problems.clone(),
    };
    write_json(&dir.join(RECORD), &record)?;
    prune(dir, &record)
}

fn file_name(package: &PackageReport) -> String {
    format!("{}-{}.apk", package.name, package.version)
}

/// Gives a package its name in the repository. A link where the file system can: it is the same file.
fn place(from: &Path, to: &Path, size: u64, bytes: &[u8]) -> Result<()> {
    if fs::metadata(to).is_ok_and(|m| m.len() == size) && fs::read(to).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    let aside = to.with_extension(format!("apk.{}", std::process::id()));
    let _ = fs::remove_file(&aside);
    if fs::hard_link(from, &aside).is_err() {
        return write_file(to, bytes, 0o644);
    }
    fs::rename(&aside, to).at("renaming into place", to)
}

/// Removes packages that the index no longer names. After the index: whoever read the old one a moment ago
/// is the only one who can miss them.
fn prune(dir: &Path, record: &Record) -> Result<()> {
    let kept: BTreeSet<&str> = record.packages.iter().map(|(file, ..)| file.as_str()).collect();
    for entry in fs::read_dir(dir).at("reading the directory", dir)? {
        let path = entry.at("reading the directory", dir)?.path();
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name.contains(".apk") && !kept.contains(name.as_str()) {
            fs::remove_file(&path).at("removing", &path)?;
        }
    }
    Ok(())
}

/// Faults that only show when all packages are looked at together.
fn problems(packages: &[Package]) -> Vec<String> {
    let mut problems = Vec::new();
    let infos: Vec<&PackageInfo> = packages.iter().map(|p| &p.info).collect();
    for info in &infos {
        for wanted in info.depends.iter().filter(|d| !d.op.is_conflict()) {
            let met = infos.iter().any(|other| {
                (other.name == wanted.name && fits(&other.version, wanted))
                    || other
                        .provides
                        .iter()
                        .any(|p| p.name == wanted.name && fits(&p.version, wanted))
            });
            if !met {
                problems.push(format!(
                    "{} depends on {wanted}, which no package provides",
                    info.name
                ));
            }
        }
    }
    // Path → packages that have it as something else than a directory.
    let mut owners: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
    let mut links: BTreeMap<Vec<u8>, usize> = BTreeMap::new();
    for (number, package) in packages.iter().enumerate() {
        for dir in &package.paths {
            for file in &dir.files {
                let mut path = dir.path.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(&file.name);
                if matches!(file.kind, FileKind::Symlink { .. }) {
                    links.insert(path.clone(), number);
                }
                owners.entry(path).or_default().push(number);
            }
        }
    }
    for (path, numbers) in &owners {
        for (at, first) in numbers.iter().enumerate() {
            for second in &numbers[at + 1..] {
                if !excluded(infos[*first], infos[*second]) && !excluded(infos[*second], infos[*first]) {
                    problems.push(format!(
                        "{} is in {} and in {}, and neither replaces the other",
                        String::from_utf8_lossy(path),
                        infos[*first].name,
                        infos[*second].name
                    ));
                }
            }
        }
    }
    for (number, package) in packages.iter().enumerate() {
        for dir in &package.paths {
            if let Some(owner) = links.get(&dir.path).filter(|owner| **owner != number) {
                problems.push(format!(
                    "{} has the directory {}, which is a link in {}",
                    package.info.name,
                    String::from_utf8_lossy(&dir.path),
                    infos[*owner].name
                ));
            }
        }
    }
    problems.sort();
    problems.dedup();
    problems
}

fn fits(found: &str, wanted: &lycia_apk::metadata::Dependency) -> bool {
    // A name provided without version meets only a dependency without one.
    wanted.version.is_empty() || (!found.is_empty() && version::matches(found, wanted.op, &wanted.version))
}

/// Whether `one` may overwrite files of `other` or cannot be installed beside it.
fn excluded(one: &PackageInfo, other: &PackageInfo) -> bool {
    let named = |name: &str| name == other.name || other.provides.iter().any(|p| p.name == name);
    one.replaces.iter().any(|r| named(&r.name))
        || one.depends.iter().any(|d| d.op.is_conflict() && named(&d.name))
        // A versioned provide of the other's name excludes it.
        || one.provides.iter().any(|p| p.name == other.name && !p.version.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_apk::dependency::parse;
    use lycia_apk::metadata::Acl;
    use lycia_apk::package::PackageBuilder;

    fn package(name: &str, depends: &[&str], provides: &[&str], files: &[&str]) -> Package {
        let list = |texts: &[&str]| texts.iter().map(|t| parse(t).unwrap()).collect();
        let info = PackageInfo {
            name: name.into(),
            version: "1-r0".into(),
            depends: list(depends),
            provides: list(provides),
            ..PackageInfo::default()
        };
        let mut builder = PackageBuilder::new(info);
        for file in files {
            match file.split_once("->") {
                Some((path, target)) => builder
                    .symlink(path.as_bytes(), target.as_bytes(), 0)
                    .map(drop)
                    .unwrap(),
                None => builder
                    .file(file.as_bytes(), Acl::root(0o644), 0, b"x".to_vec())
                    .map(drop)
                    .unwrap(),
            }
        }
        builder.finish().unwrap().package
    }

    #[test]
    fn unmet_dependencies_are_told() {
        let found = problems(&[
            package("a", &["b>=1", "so:x", "!zzz", "missing"], &[], &[]),
            package("b", &["a>2"], &["so:x=3"], &[]),
        ]);
        assert_eq!(
            found,
            [
                "a depends on missing, which no package provides",
                "b depends on a>2, which no package provides"
            ]
        );
    }

    #[test]
    fn one_path_in_two_packages_is_told_unless_one_replaces_the_other() {
        let (one, two) = (
            package("a", &[], &[], &["usr/f"]),
            package("b", &[], &[], &["usr/f"]),
        );
        let found = problems(&[one.clone(), two.clone()]);
        assert_eq!(found, ["usr/f is in a and in b, and neither replaces the other"]);
        let mut replaces = two.clone();
        replaces.info.replaces = vec![parse("a").unwrap()];
        assert!(problems(&[one.clone(), replaces]).is_empty());
        let mut other = two;
        other.info.provides = vec![parse("a=1").unwrap()];
        assert!(problems(&[one, other]).is_empty());
    }

    #[test]
    fn directories_that_are_links_elsewhere_are_told() {
        let found = problems(&[
            package("base", &[], &[], &["lib->usr/lib"]),
            package("b", &[], &[], &["lib/modules/x"]),
        ]);
        assert_eq!(found, ["b has the directory lib, which is a link in base"]);
    }
}
