//! Packages and indexes: damaged ones against the verdicts of `results*.jsonl`, good ones against the
//! reference's dumps and against themselves after a round trip.
//!
//! A verdict says what a strict installer should do. Each case is read as one would: the index, the entry for
//! this architecture, the package it points to; or the package alone, which is put into a tree as well.

use lycia_apk::adb::Compression;
use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::install::{Installation, Unpacked};
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::{Acl, FileKind, Package, PackageInfo, ScriptKind};
use lycia_apk::package::{self, Contents, Discard, Expect, Trust, WriteOptions};
use lycia_tree::{Metadata, Timestamp, Tree};
use serde_json::{Map, Value, json};
use std::fs;
use std::path::{Path, PathBuf};

use crate::cases::Count;

const ARCH: &str = "x86_64";

/// One thing to compare.
enum Case {
    Verdict {
        path: PathBuf,
        want: String,
        what: String,
        name: String,
        before: Option<PathBuf>,
    },
    Good(PathBuf),
}

/// Compares everything that the paths mean; prints disagreements; gives agreements and disagreements.
///
/// A path is a corpus, a folder with `results*.jsonl`, a part of such a folder, one results file, or
/// packages and indexes (single or in folders) that must be good.
pub fn run(paths: &[PathBuf]) -> Count {
    let mut count = Count::default();
    for path in paths {
        match gather(path) {
            Ok(cases) => {
                for case in cases {
                    count.one(case.name(), || judge(&case));
                }
            }
            Err(problem) => count.wrong(&format!("{}: {problem}", path.display())),
        }
    }
    count
}

impl Case {
    fn name(&self) -> &str {
        match self {
            Case::Verdict { name, .. } => name,
            Case::Good(path) => path.to_str().unwrap_or("a package"),
        }
    }
}

fn gather(path: &Path) -> Result<Vec<Case>, String> {
    if path.extension().is_some_and(|extension| extension == "jsonl") {
        return verdicts(path);
    }
    if !path.exists() {
        return Err("does not exist".into());
    }
    let mut cases = Vec::new();
    for folder in [path.to_path_buf(), path.join("damaged")] {
        for results in results(&folder) {
            cases.extend(verdicts(&results)?);
        }
    }
    for repository in ["repo3", "repo2"] {
        let whole = path.join(repository);
        if whole.is_dir() {
            walk(&whole, &mut |file| cases.push(Case::Good(file)));
        }
    }
    if !cases.is_empty() {
        return Ok(cases);
    }
    let absolute = fs::canonicalize(path).map_err(|error| error.to_string())?;
    for folder in absolute.ancestors().skip(1).take(4) {
        for results in results(folder) {
            cases.extend(verdicts(&results)?);
        }
        if !cases.is_empty() {
            cases.retain(|case| matches!(case, Case::Verdict { path, .. } if path.starts_with(&absolute)));
            return if cases.is_empty() {
                Err("has no verdict".into())
            } else {
                Ok(cases)
            };
        }
    }
    walk(path, &mut |file| cases.push(Case::Good(file)));
    if cases.is_empty() {
        Err("holds nothing to compare".into())
    } else {
        Ok(cases)
    }
}

fn results(folder: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder)
        .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
        .unwrap_or_default();
    found.retain(|path| {
        path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("results") && name.ends_with(".jsonl")
        })
    });
    found.sort();
    found
}

fn walk(path: &Path, found: &mut dyn FnMut(PathBuf)) {
    if path.is_dir() {
        let mut inside: Vec<PathBuf> = fs::read_dir(path)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        inside.sort();
        inside.iter().for_each(|path| walk(path, found));
    } else if path.extension().is_some_and(|e| e == "apk" || e == "adb")
        || path.file_name().is_some_and(|name| {
            let name = name.to_string_lossy();
            name.starts_with("APKINDEX") && name.ends_with(".tar.gz")
        })
    {
        found(path.to_path_buf());
    }
}

fn verdicts(results: &Path) -> Result<Vec<Case>, String> {
    let text = fs::read_to_string(results).map_err(|error| error.to_string())?;
    let folder = results.parent().unwrap_or(Path::new("."));
    let folder = fs::canonicalize(folder).map_err(|error| error.to_string())?;
    let mut cases = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let case: Value =
            serde_json::from_str(line).map_err(|error| format!("line {}: {error}", number + 1))?;
        let field = |name: &str| case[name].as_str().unwrap_or_default().to_string();
        let name = field("file");
        let before = case["pre"].as_str().map(|before| folder.join(before));
        if let Some(before) = before.as_ref().filter(|before| !before.exists()) {
            println!(
                "{name}: not judged, {} is not there ({})",
                before.display(),
                field("what")
            );
            continue;
        }
        let (path, want, what) = (folder.join(&name), field("want"), field("what"));
        cases.push(Case::Verdict {
            path,
            want,
            what,
            name,
            before,
        });
    }
    Ok(cases)
}

/// Whether the metadata, in which the damage should be, is that of the control package, byte by byte: the
/// value writer that made the corpus drops some of what it was asked to write (`v3-meta/dep-empty.apk`).
fn holds_no_damage(path: &Path, name: &str) -> bool {
    let identity = |path: &Path| {
        fs::read(path)
            .ok()
            .and_then(|bytes| package::identity(&bytes).ok())
    };
    let in_metadata = ["v3-meta/", "v3-values/", "v3-paths/"]
        .iter()
        .any(|group| name.starts_with(group));
    let control = path
        .parent()
        .and_then(Path::parent)
        .map(|root| root.join("v3-container/good.none.apk"));
    in_metadata
        && control
            .and_then(|control| identity(&control))
            .is_some_and(|control| Some(control) == identity(path))
}

/// Whether the case agrees; `false` when it cannot be judged.
fn judge(case: &Case) -> Result<bool, String> {
    match case {
        Case::Verdict {
            path,
            want,
            what,
            name,
            before,
        } => {
            let result = judged(path, before.as_deref());
            match (want.as_str(), result) {
                ("accept", Err(problem)) => Err(format!("{name}: should be accepted ({what}): {problem}")),
                ("reject", Ok(())) if holds_no_damage(path, name) => {
                    println!("{name}: has the metadata of the undamaged control, not judged ({what})");
                    Ok(false)
                }
                ("reject", Ok(())) => Err(format!("{name}: should be rejected ({what})")),
                _ => Ok(true),
            }
        }
        Case::Good(path) => good(path)
            .map(|()| true)
            .map_err(|problem| format!("{}: {problem}", path.display())),
    }
}

/// What the reader says of one case, for tests that want to see messages.
#[allow(dead_code)] // the tests' part of this file
pub fn message(path: &Path) -> Result<(), String> {
    judged(path, None)
}

/// Reads a case, then puts it into a tree that has the base packages and `before`: some damage shows only
/// beside the files of others.
fn judged(path: &Path, before: Option<&Path>) -> Result<(), String> {
    if path.is_dir() {
        return install_from(path);
    }
    let victim = read_package(path)?;
    let mut packages = Vec::new();
    if let Some(base) = near(path, "repo3/main/x86_64") {
        for name in ["roost-base-0.4-r2.apk", "recorder-1-r0.apk"] {
            packages.push(read_package(&base.join(name)).map_err(|error| format!("{name}: {error}"))?);
        }
    }
    if let Some(before) = before {
        packages.push(read_package(before).map_err(|error| format!("{}: {error}", before.display()))?);
    }
    packages.push(victim);
    let time = Timestamp::from_seconds(0);
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let mut installation = Installation::new(&mut tree, time);
    packages
        .into_iter()
        .try_for_each(|package| installation.add(package))
        .map_err(|error| error.to_string())
}

fn near(path: &Path, which: &str) -> Option<PathBuf> {
    let path = fs::canonicalize(path).ok()?;
    path.ancestors()
        .map(|ancestor| ancestor.join(which))
        .find(|folder| folder.is_dir())
}

fn keys_near(path: &Path, which: &str) -> Result<KeyRing, String> {
    let folder = near(path, which).ok_or_else(|| format!("no {which} beside or above it"))?;
    let mut keys = KeyRing::new();
    let mut inside: Vec<PathBuf> = fs::read_dir(&folder)
        .map_err(|error| error.to_string())?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "pub"))
        .collect();
    inside.sort();
    for path in inside {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let pem = fs::read(&path).map_err(|error| error.to_string())?;
        keys.add_pem(&name, &pem).map_err(|error| error.to_string())?;
    }
    Ok(keys)
}

fn read_package(path: &Path) -> Result<Unpacked, String> {
    let keys = keys_near(path, "keys/trusted")?;
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let expect = Expect {
        arch: Some(ARCH),
        ..Expect::default()
    };
    let mut contents = Contents::default();
    let verified = package::read(&bytes, &keys, &expect, &mut contents).map_err(|error| error.to_string())?;
    Ok(Unpacked {
        entry: verified.package.info.clone(),
        package: verified.package,
        format: verified.format,
        contents: contents
            .files
            .into_iter()
            .map(|(_, _, content)| content.into())
            .collect(),
        tag: None,
    })
}

/// Index first, then the package for this architecture with the greatest version, from where the index says.
fn install_from(folder: &Path) -> Result<(), String> {
    let keys = keys_near(folder, "keys/trusted")?;
    let bytes = fs::read(folder.join("Packages.adb")).map_err(|error| format!("Packages.adb: {error}"))?;
    let index = Index::read(&bytes, &keys, Trust::Required).map_err(|error| format!("index: {error}"))?;
    let usable = |info: &&PackageInfo| matches!(info.arch.as_str(), ARCH | "noarch" | "");
    let info = index
        .packages
        .iter()
        .filter(|info| info.name == "victim")
        .filter(usable)
        .max_by(|a, b| lycia_apk::version::compare(&a.version, &b.version))
        .ok_or("the index has no victim for this architecture")?;
    let spec = index.pkgname_spec.as_deref().unwrap_or(index::DEFAULT_SPEC);
    let relative = index::expand_spec(spec, info).map_err(|error| error.to_string())?;
    let bytes = fs::read(folder.join(&relative)).map_err(|error| format!("{relative}: {error}"))?;
    let expect = Expect {
        info: Some(info),
        arch: Some(ARCH),
        ..Expect::default()
    };
    package::read(&bytes, &keys, &expect, &mut Discard)
        .map(|_| ())
        .map_err(|error| format!("{relative}: {error}"))
}

/// A good file parses, verifies as far as it is signed, says what the reference's dump says, and gives itself
/// when it is written and read again.
fn good(path: &Path) -> Result<(), String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    let keys = keys_near(path, "keys").unwrap_or_default();
    if bytes.starts_with(&[0x1f, 0x8b]) {
        return good_v2(path, &bytes, &keys);
    }
    let dump = if path.extension().is_some_and(|extension| extension == "apk") {
        let expect = Expect {
            trust: Trust::AllowUntrusted,
            ..Expect::default()
        };
        let mut contents = Contents::default();
        let read = package::read(&bytes, &keys, &expect, &mut contents).map_err(|error| error.to_string())?;
        let mut written = Vec::new();
        package::write(
            &read.package,
            &mut contents,
            WriteOptions::default(),
            &[],
            &mut written,
        )
        .map_err(|error| format!("writing: {error}"))?;
        let mut contents_again = Contents::default();
        let mut again = package::read(&written, &keys, &expect, &mut contents_again)
            .map_err(|error| format!("what we wrote: {error}"))?;
        again.package.info.hashes.clone_from(&read.package.info.hashes);
        if again.package != read.package || contents_again != contents {
            return Err("written and read again it is another package".into());
        }
        dump_package(&read.package)
    } else {
        let index = Index::read(&bytes, &keys, Trust::AllowUntrusted).map_err(|error| error.to_string())?;
        let cut = index
            .packages
            .iter()
            .any(|info| info.hashes.as_ref().is_some_and(|h| h.0.len() == 20));
        let hash = if cut {
            IndexHash::Sha256_160
        } else {
            IndexHash::Sha256
        };
        let options = index::WriteOptions {
            compression: Compression::Zstd(None),
            hash,
        };
        let written = index
            .write(&options, &[])
            .map_err(|error| format!("writing: {error}"))?;
        let again = Index::read(&written, &keys, Trust::AllowUntrusted)
            .map_err(|error| format!("what we wrote: {error}"))?;
        if again != index {
            return Err("written and read again it is another index".into());
        }
        dump_index(&index)
    };
    match reference_dump(path) {
        Some(expected) => same(&expected?, &dump, "")
            .map_err(|problem| format!("differs from the reference's dump: {problem}")),
        None => Ok(()),
    }
}

/// A v2 package reads with all its contents; a v2 index reads, and so do the packages beside it, against it.
fn good_v2(path: &Path, bytes: &[u8], keys: &KeyRing) -> Result<(), String> {
    let expect = Expect {
        trust: Trust::AllowUntrusted,
        ..Expect::default()
    };
    if path.extension().is_some_and(|extension| extension == "apk") {
        let read = package::read(bytes, keys, &expect, &mut Discard).map_err(|error| error.to_string())?;
        let listed = package::read_metadata(bytes, keys, &expect).map_err(|error| error.to_string())?;
        return match read == listed {
            true => Ok(()),
            false => Err("its metadata alone is another package".into()),
        };
    }
    let index = Index::read(bytes, keys, Trust::AllowUntrusted).map_err(|error| error.to_string())?;
    for info in &index.packages {
        let file = path.with_file_name(format!("{}-{}.apk", info.name, info.version));
        let Ok(bytes) = fs::read(&file) else { continue };
        let expect = Expect {
            info: Some(info),
            ..expect.clone()
        };
        let read = package::read(&bytes, keys, &expect, &mut Discard)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let of_package = &read.package.info;
        if (&info.depends, &info.provides, info.installed_size)
            != (
                &of_package.depends,
                &of_package.provides,
                of_package.installed_size,
            )
        {
            return Err(format!("{}: the index says other things of it", info.name));
        }
    }
    Ok(())
}

/// `expected/dumps/` names files of `repo3/` with `__` for slashes; the dump of an unreadable file is empty.
fn reference_dump(path: &Path) -> Option<Result<Value, String>> {
    let path = fs::canonicalize(path).ok()?;
    let repository = path.ancestors().find(|ancestor| ancestor.ends_with("repo3"))?;
    let name = path.strip_prefix(repository).ok()?.to_str()?.replace('/', "__");
    let dump = repository
        .parent()?
        .join("expected/dumps")
        .join(format!("{name}.json"));
    let text = fs::read(dump).ok().filter(|text| !text.is_empty())?;
    Some(serde_json::from_str(&String::from_utf8_lossy(&text)).map_err(|error| format!("dump: {error}")))
}

/// Long blobs are told by their length in a dump.
fn same(expected: &Value, ours: &Value, place: &str) -> Result<(), String> {
    match (expected, ours) {
        (Value::Object(a), Value::Object(b)) => {
            if let Some(key) = a
                .keys()
                .chain(b.keys())
                .find(|key| a.contains_key(*key) != b.contains_key(*key))
            {
                return Err(format!("{place}/{key} is there only once"));
            }
            a.iter()
                .try_for_each(|(key, value)| same(value, &b[key], &format!("{place}/{key}")))
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => a
            .iter()
            .zip(b)
            .enumerate()
            .try_for_each(|(n, (a, b))| same(a, b, &format!("{place}/{n}"))),
        (Value::String(a), Value::String(b)) if a != b => {
            let (prefix, length) = match a.rsplit_once('(') {
                Some((prefix, rest)) => (
                    prefix,
                    rest.strip_suffix(" bytes)").and_then(|n| n.parse::<usize>().ok()),
                ),
                None => ("", None),
            };
            match (b.strip_prefix(prefix), length) {
                (Some(hex), Some(length)) if hex.len() == 2 * length || hex.len() == length => Ok(()),
                _ => Err(format!("{place} is {b:.100?}, not {a:.100?}")),
            }
        }
        _ if expected == ours => Ok(()),
        _ => Err(format!("{place} is {ours}, not {expected}")),
    }
}

fn hex(bytes: &[u8]) -> Value {
    Value::String(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn put(map: &mut Map<String, Value>, key: &str, value: Value) {
    let absent = match &value {
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    if !absent {
        map.insert(key.into(), value);
    }
}

fn dump_info(info: &PackageInfo) -> Value {
    let mut map = Map::new();
    for (key, text) in [
        ("name", &info.name),
        ("version", &info.version),
        ("description", &info.description),
        ("arch", &info.arch),
        ("license", &info.license),
        ("origin", &info.origin),
        ("maintainer", &info.maintainer),
        ("url", &info.url),
    ] {
        put(&mut map, key, json!(text));
    }
    put(
        &mut map,
        "hashes",
        hex(info.hashes.as_ref().map_or(&[], |hash| &hash.0)),
    );
    put(&mut map, "repo-commit", hex(&info.repo_commit));
    map.insert("installed-size".into(), json!(info.installed_size));
    for (key, number) in [
        ("build-time", info.build_time),
        ("file-size", info.file_size),
        ("provider-priority", info.provider_priority),
        ("layer", info.layer),
    ] {
        if number != 0 {
            map.insert(key.into(), json!(number));
        }
    }
    for (key, list) in [
        ("depends", &info.depends),
        ("provides", &info.provides),
        ("replaces", &info.replaces),
        ("install-if", &info.install_if),
        ("recommends", &info.recommends),
    ] {
        put(&mut map, key, list.iter().map(ToString::to_string).collect());
    }
    put(&mut map, "tags", json!(info.tags));
    Value::Object(map)
}

fn dump_acl(acl: &Acl) -> Value {
    let xattrs: Vec<String> = acl
        .xattrs
        .iter()
        .map(|(name, value)| {
            let value: String = value.iter().map(|byte| format!("{byte:02x}")).collect();
            format!("{}={value}", String::from_utf8_lossy(name))
        })
        .collect();
    let mut map = Map::new();
    map.insert("mode".into(), json!(acl.mode));
    put(&mut map, "user", json!(acl.user));
    put(&mut map, "group", json!(acl.group));
    put(&mut map, "xattrs", json!(xattrs));
    Value::Object(map)
}

fn dump_package(package: &Package) -> Value {
    let lossy = |bytes: &[u8]| json!(String::from_utf8_lossy(bytes));
    let hash_of = |path: &[u8]| {
        package.paths.iter().find_map(|directory| {
            directory.files.iter().find_map(|file| match &file.kind {
                FileKind::Regular { hash } => {
                    let name = match directory.path.is_empty() {
                        true => file.name.clone(),
                        false => [&directory.path[..], b"/", &file.name].concat(),
                    };
                    (name == path.strip_prefix(b"./").unwrap_or(path)).then_some(&hash[..])
                }
                _ => None,
            })
        })
    };
    let mut paths = Vec::new();
    for directory in &package.paths {
        let mut files = Vec::new();
        for file in &directory.files {
            let device = |kind: u16, major: u32, minor: u32| {
                let (major, minor) = (u64::from(major), u64::from(minor));
                let number = (major & 0xfff) << 8
                    | minor & 0xff
                    | (minor & 0xffff_ff00) << 12
                    | (major & 0xffff_f000) << 32;
                [&kind.to_le_bytes()[..], &number.to_le_bytes()].concat()
            };
            let (hash, target): (&[u8], Vec<u8>) = match &file.kind {
                FileKind::Regular { hash } => (hash, Vec::new()),
                FileKind::HardLink { target } => (
                    hash_of(target).unwrap_or_default(),
                    [&0o100000u16.to_le_bytes()[..], target].concat(),
                ),
                FileKind::Symlink { target } => (&[], [&0o120000u16.to_le_bytes()[..], target].concat()),
                FileKind::CharDevice { major, minor } => (&[], device(0o020000, *major, *minor)),
                FileKind::BlockDevice { major, minor } => (&[], device(0o060000, *major, *minor)),
                FileKind::Fifo => (&[], device(0o010000, 0, 0)),
            };
            let mut map = Map::new();
            put(&mut map, "name", lossy(&file.name));
            put(&mut map, "acl", dump_acl(&file.acl));
            map.insert("size".into(), json!(file.size));
            map.insert("mtime".into(), json!(file.mtime));
            put(&mut map, "hash", hex(hash));
            put(&mut map, "target", hex(&target));
            files.push(Value::Object(map));
        }
        let mut map = Map::new();
        put(&mut map, "name", lossy(&directory.path));
        put(&mut map, "acl", dump_acl(&directory.acl));
        put(&mut map, "files", Value::Array(files));
        paths.push(Value::Object(map));
    }
    let mut scripts = Map::new();
    for (kind, body) in &package.scripts {
        let name = match kind {
            ScriptKind::Trigger => "trigger",
            ScriptKind::PreInstall => "pre-install",
            ScriptKind::PostInstall => "post-install",
            ScriptKind::PreDeinstall => "pre-deinstall",
            ScriptKind::PostDeinstall => "post-deinstall",
            ScriptKind::PreUpgrade => "pre-upgrade",
            ScriptKind::PostUpgrade => "post-upgrade",
        };
        scripts.insert(name.into(), lossy(body));
    }
    let mut map = Map::new();
    put(&mut map, "info", dump_info(&package.info));
    put(&mut map, "paths", Value::Array(paths));
    put(&mut map, "scripts", Value::Object(scripts));
    put(&mut map, "triggers", json!(package.triggers));
    if package.replaces_priority != 0 {
        map.insert("replaces-priority".into(), json!(package.replaces_priority));
    }
    Value::Object(map)
}

fn dump_index(index: &Index) -> Value {
    let mut map = Map::new();
    put(&mut map, "description", json!(index.description));
    put(
        &mut map,
        "packages",
        index.packages.iter().map(dump_info).collect(),
    );
    put(
        &mut map,
        "pkgname-spec",
        json!(index.pkgname_spec.as_deref().unwrap_or_default()),
    );
    Value::Object(map)
}
