//! From `$OUT` to package files: who owns which path, what is generated, and writing it.

use crate::elf;
use crate::error::{IoContext, Result, SeedError};
use crate::keys::Key;
use crate::plan::ResultDir;
use crate::recipe::{Entry, Node, PackageRecipe, Recipe};
use crate::recipes::Target;
use crate::report::PackageReport;
use crate::staged::{Staged, Tree, join, scan};
use crate::store::{publish_dir, remove, write_json};
use lycia_apk::adb::Compression;
use lycia_apk::dependency;
use lycia_apk::metadata::{Acl, Dependency, FileKind, PackageInfo, ScriptKind};
use lycia_apk::package::{Content, PackageBuilder, PackageError, WriteOptions};
use lycia_apk::version;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::Path;

/// The file that says which packages a directory holds; with it the directory is whole.
pub(crate) const RECORD: &str = "packages.json";

/// Paths named in one error; the rest is counted.
const NAMED: usize = 20;

/// Packages made of one result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct PackagesRecord {
    /// Name of this set.
    pub hash: String,
    pub packages: Vec<Made>,
    pub warnings: Vec<String>,
}

/// One package file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub name: String,
    pub version: String,
    /// File name.
    pub file: String,
    pub bytes: u64,
    pub installed: u64,
    /// SHA-256 of the payload, hex.
    pub identity: String,
}

impl Made {
    pub(crate) fn report(self, dir: &Path) -> PackageReport {
        PackageReport {
            path: dir.join(&self.file),
            name: self.name,
            version: self.version,
            bytes: self.bytes,
            installed: self.installed,
            identity: self.identity,
        }
    }
}

/// Writes all packages of a result below it.
pub(crate) fn make(
    recipe: &Recipe,
    target: &Target,
    result: &ResultDir,
    hash: &str,
    key: &Key,
) -> Result<PackagesRecord> {
    let out = result.out();
    let fault = |why: String| SeedError::Packaging {
        recipe: recipe.name.clone(),
        why,
    };
    let tree = scan(&out)?;
    let claims = claim(recipe, &tree).map_err(fault)?;
    let to = result.packages(hash);
    let aside = result.packages(&format!(".{hash}-{}", std::process::id()));
    remove(&aside)?;
    fs::create_dir_all(&aside).at("making the directory", &aside)?;
    let mut record = PackagesRecord {
        hash: hash.to_owned(),
        ..PackagesRecord::default()
    };
    let packager = Packager {
        recipe,
        target,
        out: &out,
        tree: &tree,
        key,
    };
    for (package, paths) in recipe.packages.iter().zip(&claims) {
        let made = one(&packager, package, paths, &aside)
            .map_err(|why| fault(format!("package {}: {why}", package.name)))?;
        record.packages.push(made);
    }
    write_json(&aside.join(RECORD), &record)?;
    publish_dir(&aside, &to)?;
    Ok(record)
}

/// Which paths each package takes, in the order of the recipe's packages.
fn claim<'t>(recipe: &Recipe, tree: &'t Tree) -> Result<Vec<Vec<&'t [u8]>>, String> {
    let mut claims: Vec<Vec<&[u8]>> = vec![Vec::new(); recipe.packages.len()];
    let (mut nobody, mut twice, mut impossible) = (Vec::new(), Vec::new(), Vec::new());
    for (path, staged) in tree {
        if matches!(staged, Staged::Directory { empty: false }) {
            continue;
        }
        let owners: Vec<usize> = (0..recipe.packages.len())
            .filter(|i| recipe.packages[*i].files.matches(path))
            .collect();
        let text = String::from_utf8_lossy(path);
        match owners[..] {
            [] if recipe.unpackaged.matches(path) || recipe.sysroot.matches(path) => {}
            [] => nobody.push(text.into_owned()),
            [owner] => {
                if let Staged::Other(what) = staged {
                    impossible.push(format!("{text} is {what}"));
                }
                claims[owner].push(path);
            }
            _ => {
                let names: Vec<&str> = owners.iter().map(|i| recipe.packages[*i].name.as_str()).collect();
                twice.push(format!("{text} ({})", names.join(", ")));
            }
        }
    }
    let mut faults = Vec::new();
    if !nobody.is_empty() {
        faults.push(format!(
            "no package takes {}; claim them in `files` or list them in `unpackaged`",
            listed(&nobody)
        ));
    }
    if !twice.is_empty() {
        faults.push(format!("more than one package takes {}", listed(&twice)));
    }
    faults.extend(impossible);
    for package in &recipe.packages {
        for glob in package.files.takers() {
            let hit = tree.iter().filter(|(path, _)| glob.matches(path));
            let (mut content, mut directories) = (false, false);
            for (_, staged) in hit {
                match staged {
                    Staged::Directory { empty: false } => directories = true,
                    _ => content = true,
                }
            }
            if !content {
                let text = glob.as_str();
                faults.push(match directories {
                    true => format!(
                        "package {}: {text:?} matches only directories that have content; write \"{text}/**\"",
                        package.name
                    ),
                    false => format!("package {}: {text:?} matches nothing", package.name),
                });
            }
        }
    }
    if faults.is_empty() {
        Ok(claims)
    } else {
        Err(faults.join("; "))
    }
}

fn listed(paths: &[String]) -> String {
    let shown = paths.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match paths.len().checked_sub(NAMED) {
        Some(more) if more > 0 => format!("{shown} and {more} more"),
        _ => shown,
    }
}

/// Names that a package answers to and needs because of its files.
#[derive(Default)]
struct Generated {
    provides: BTreeMap<String, String>,
    depends: BTreeSet<String>,
}

fn generate(
    package: &PackageRecipe,
    version: &str,
    target: &Target,
    out: &Path,
    tree: &Tree,
    paths: &[&[u8]],
) -> Result<Generated, String> {
    let mut made = Generated::default();
    if !package.elf_scan {
        return Ok(made);
    }
    let machine = elf::machine(&target.arch);
    for path in paths {
        let (dir, name) = split(path);
        let name = String::from_utf8_lossy(name);
        let text = String::from_utf8_lossy(path);
        let runs = match &tree[*path] {
            Staged::File { program, .. } => *program,
            Staged::Symlink(_) => true,
            _ => false,
        };
        if dir == b"usr/bin" && runs {
            made.provides.insert(format!("cmd:{name}"), version.to_owned());
        }
        let Staged::File { size: 52.., .. } = tree[*path] else {
            continue;
        };
        let file = join(out, path);
        let Some(elf) = read_elf(&file).map_err(|why| format!("{text}: {why}"))? else {
            continue;
        };
        if !elf.loadable {
            continue;
        }
        if machine.is_some_and(|wanted| wanted != elf.machine) {
            return Err(format!(
                "{text} is for another machine (ELF machine {}) than {}; was the host's compiler used?",
                elf.machine, target.arch
            ));
        }
        if let Some(soname) = elf.soname
            && dir == b"usr/lib"
        {
            made.provides
                .insert(format!("so:{soname}"), library_version(&name));
        }
        made.depends
            .extend(elf.needed.into_iter().map(|needed| format!("so:{needed}")));
    }
    let own: BTreeSet<&str> = package.provides.iter().map(|p| bare(p)).collect();
    let provides = &made.provides;
    made.depends.retain(|name| {
        !provides.contains_key(name)
            && !own.contains(name.as_str())
            && !package
                .so_ignore
                .iter()
                .any(|ignored| name.strip_prefix("so:") == Some(ignored))
    });
    made.provides
        .retain(|name, _| !own.contains(name.as_str()) && dependency::parse(name).is_ok());
    Ok(made)
}

fn read_elf(file: &Path) -> Result<Option<elf::Elf>, String> {
    let mut handle = File::open(file).map_err(|e| e.to_string())?;
    let mut bytes = vec![0; 4];
    if handle.read_exact(&mut bytes).is_err() || bytes != b"\x7fELF" {
        return Ok(None);
    }
    handle.read_to_end(&mut bytes).map_err(|e| e.to_string())?;
    elf::read(&bytes)
}

/// The version that a library's file name tells, as `1.2.3` of `libx.so.1.2.3`, else 0.
fn library_version(name: &str) -> String {
    match name.split_once(".so.") {
        Some((_, found)) if version::is_valid(found) => found.to_owned(),
        _ => "0".to_owned(),
    }
}

fn bare(dependency: &str) -> &str {
    dependency
        .split(['=', '<', '>', '~'])
        .next()
        .unwrap_or(dependency)
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

fn parse(list: &[String]) -> Result<Vec<Dependency>, String> {
    list.iter()
        .map(|text| dependency::parse(text).map_err(|e| e.to_string()))
        .collect()
}

fn info(
    recipe: &Recipe,
    package: &PackageRecipe,
    target: &Target,
    generated: Generated,
) -> Result<PackageInfo, String> {
    let or = |own: &Option<String>, other: &str| own.clone().unwrap_or_else(|| other.to_owned());
    let mut depends = parse(&package.depends)?;
    let mut provides = parse(&package.provides)?;
    let named: BTreeSet<String> = depends.iter().map(|d| d.name.clone()).collect();
    for name in generated.depends.iter().filter(|name| !named.contains(*name)) {
        depends.push(dependency::parse(name).map_err(|e| e.to_string())?);
    }
    for (name, version) in &generated.provides {
        provides.push(dependency::parse(&format!("{name}={version}")).map_err(|e| e.to_string())?);
    }
    Ok(PackageInfo {
        name: package.name.clone(),
        version: or(&package.version, &recipe.version),
        description: or(&package.description, &recipe.summary),
        arch: or(&package.arch, &target.arch),
        license: or(&package.license, &recipe.license),
        origin: recipe.name.clone(),
        maintainer: recipe.maintainer.clone(),
        url: or(&package.url, &recipe.url),
        build_time: recipe.epoch,
        provider_priority: package.provider_priority,
        depends,
        provides,
        replaces: parse(&package.replaces)?,
        install_if: parse(&package.install_if)?,
        recommends: parse(&package.recommends)?,
        ..PackageInfo::default()
    })
}

/// What the packages of one recipe have in common.
struct Packager<'a> {
    recipe: &'a Recipe,
    target: &'a Target,
    out: &'a Path,
    tree: &'a Tree,
    key: &'a Key,
}

fn one(packager: &Packager, package: &PackageRecipe, paths: &[&[u8]], dir: &Path) -> Result<Made, String> {
    let Packager {
        recipe,
        target,
        out,
        tree,
        key,
    } = *packager;
    let version = package.version.as_ref().unwrap_or(&recipe.version);
    if !version::is_valid(version) {
        return Err(format!("{version:?} is not a version"));
    }
    let generated = generate(package, version, target, out, tree, paths)?;
    let mut builder = PackageBuilder::new(info(recipe, package, target, generated)?);
    builder.replaces_priority(package.replaces_priority);
    for trigger in &package.triggers {
        builder.trigger(trigger);
    }
    for (moment, script) in &package.scripts {
        builder.script(script_kind(moment)?, script.as_bytes());
    }
    fill(&mut builder, recipe.epoch, package, out, tree, paths).map_err(|e| e.to_string())??;
    let mut built = builder.finish().map_err(|e| e.to_string())?;
    let file = format!("{}-{version}.apk", package.name);
    let path = dir.join(&file);
    let text = |e: std::io::Error| format!("writing {}: {e}", path.display());
    let mut writer = BufWriter::new(File::create_new(&path).map_err(text)?);
    // Level 9 of zstd is smaller and faster to read than deflate; every apk 3 reads it.
    let options = WriteOptions {
        compression: Compression::Zstd(Some(9)),
    };
    let identity = built
        .write(options, std::slice::from_ref(key.signing()), &mut writer)
        .map_err(|e| e.to_string())?;
    writer.flush().map_err(text)?;
    Ok(Made {
        name: package.name.clone(),
        version: version.clone(),
        file,
        bytes: fs::metadata(&path).map_err(text)?.len(),
        installed: built.package.info.installed_size,
        identity: identity.to_string(),
    })
}

fn script_kind(moment: &str) -> Result<ScriptKind, String> {
    Ok(match moment {
        "trigger" => ScriptKind::Trigger,
        "pre-install" => ScriptKind::PreInstall,
        "post-install" => ScriptKind::PostInstall,
        "pre-deinstall" => ScriptKind::PreDeinstall,
        "post-deinstall" => ScriptKind::PostDeinstall,
        "pre-upgrade" => ScriptKind::PreUpgrade,
        "post-upgrade" => ScriptKind::PostUpgrade,
        other => return Err(format!("unknown script {other}")),
    })
}

/// Puts files, links, directories and stated entries into a package. The inner error is the recipe's fault.
fn fill(
    builder: &mut PackageBuilder,
    epoch: u64,
    package: &PackageRecipe,
    out: &Path,
    tree: &Tree,
    paths: &[&[u8]],
) -> Result<Result<(), String>, PackageError> {
    let stated: BTreeMap<&[u8], &Entry> = package.entries.iter().map(|e| (e.path.as_bytes(), e)).collect();
    let acl = |path: &[u8], default: u16| match stated.get(path) {
        Some(entry) => Acl {
            mode: entry.mode.unwrap_or(default),
            user: entry.owner.clone(),
            group: entry.group.clone(),
            ..Acl::default()
        },
        None => Acl::root(default),
    };
    let mut inodes: BTreeMap<(u64, u64), &[u8]> = BTreeMap::new();
    let mut used: BTreeSet<&[u8]> = BTreeSet::new();
    for path in paths.iter().copied() {
        if stated
            .get(path)
            .is_some_and(|entry| !matches!(entry.node, None | Some(Node::Directory)))
        {
            return Ok(Err(format!(
                "{} is in $OUT and stated as a node to make; keep one of them",
                String::from_utf8_lossy(path)
            )));
        }
        used.insert(path);
        match &tree[path] {
            Staged::Directory { .. } => {
                builder.directory(path, acl(path, 0o755))?;
            }
            Staged::Symlink(target) => {
                let kind = FileKind::Symlink {
                    target: target.clone(),
                };
                let mut acl = acl(path, 0o777);
                acl.mode = 0o777;
                builder.node(path, acl, epoch, kind)?;
            }
            Staged::File { program, shared, .. } => {
                if let Some(first) = shared.and_then(|inode| inodes.get(&inode).copied()) {
                    builder.hard_link(path, first)?;
                    continue;
                }
                if let Some(inode) = shared {
                    inodes.insert(*inode, path);
                }
                let file = join(out, path);
                let content = Content::Source(Box::new(move || {
                    File::open(&file).map(|f| Box::new(f) as Box<dyn Read>)
                }));
                builder.file(
                    path,
                    acl(path, if *program { 0o755 } else { 0o644 }),
                    epoch,
                    content,
                )?;
            }
            // Refused when paths were claimed.
            Staged::Other(_) => {}
        }
    }
    for entry in &package.entries {
        let path = entry.path.as_bytes();
        if used.contains(path) {
            continue;
        }
        match &entry.node {
            Some(Node::Directory) => {
                builder.directory(path, acl(path, 0o755))?;
            }
            Some(Node::Char(major, minor)) => {
                let kind = FileKind::CharDevice {
                    major: *major,
                    minor: *minor,
                };
                builder.node(path, acl(path, 0o600), epoch, kind)?;
            }
            Some(Node::Block(major, minor)) => {
                let kind = FileKind::BlockDevice {
                    major: *major,
                    minor: *minor,
                };
                builder.node(path, acl(path, 0o600), epoch, kind)?;
            }
            Some(Node::Fifo) => {
                builder.node(path, acl(path, 0o600), epoch, FileKind::Fifo)?;
            }
            Some(Node::Symlink(target)) => {
                let kind = FileKind::Symlink {
                    target: target.as_bytes().to_vec(),
                };
                let mut acl = acl(path, 0o777);
                acl.mode = 0o777;
                builder.node(path, acl, epoch, kind)?;
            }
            None if matches!(tree.get(path), Some(Staged::Directory { .. })) => {
                builder.directory(path, acl(path, 0o755))?;
            }
            None => {
                return Ok(Err(format!(
                    "there is an entry for {}, which the package does not have",
                    entry.path
                )));
            }
        }
    }
    Ok(Ok(()))
}

#[cfg(test)]
mod tests;
