//! Sources that are files of this project: what they are, their hash, and copying them.

use crate::error::{IoContext, Result, SeedError};
use crate::recipe::{Origin, Recipe, Source};
use crate::store::{StatCache, make_dir, sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use toml::{Table, Value};

/// Never a source: what building leaves behind.
const LEFT_OUT: [&str; 2] = ["target", ".git"];

/// The files of a source and the texts that take the place of files.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// Path in the copy → file of the project.
    copied: BTreeMap<PathBuf, PathBuf>,
    /// Path in the copy → text made here.
    made: BTreeMap<PathBuf, String>,
    /// What enters the hash besides the copied files.
    said: Vec<String>,
}

impl Files {
    /// Collects what a tree source is.
    pub(crate) fn of(recipe: &Recipe, source: &Source, project: &Path) -> Result<Files> {
        let Origin::Tree {
            path,
            paths,
            exclude,
            crates,
        } = &source.origin
        else {
            return Ok(Files::default());
        };
        if !crates.is_empty() {
            return workspace(project, crates).map_err(|why| SeedError::Fetch {
                recipe: recipe.name.clone(),
                what: source.label(),
                location: "the project's workspace".into(),
                why,
            });
        }
        let root = project.join(path);
        let mut files = Files::default();
        let whole = [PathBuf::new()];
        for wanted in if paths.is_empty() { &whole[..] } else { paths } {
            let from = if wanted.as_os_str().is_empty() {
                root.clone()
            } else {
                root.join(wanted)
            };
            if fs::symlink_metadata(&from).is_err() {
                return Err(SeedError::Fetch {
                    recipe: recipe.name.clone(),
                    what: source.label(),
                    location: path.join(wanted).display().to_string(),
                    why: "the project has no such file or directory".into(),
                });
            }
            files.add(&from, wanted, &|_| true)?;
        }
        files
            .copied
            .retain(|path, _| !exclude.matches(path.as_os_str().as_bytes()));
        Ok(files)
    }

    /// Adds a file, or a directory with everything in it that `wanted` agrees to enter.
    fn add(&mut self, from: &Path, to: &Path, wanted: &dyn Fn(&Path) -> bool) -> Result<()> {
        let meta = fs::symlink_metadata(from).at("looking at", from)?;
        if !meta.is_dir() {
            if meta.is_file() || meta.is_symlink() {
                self.copied.insert(to.to_owned(), from.to_owned());
            }
            return Ok(());
        }
        let mut empty = true;
        for entry in fs::read_dir(from).at("reading the directory", from)? {
            let name = entry.at("reading the directory", from)?.file_name();
            if LEFT_OUT.iter().any(|left| name == *left) {
                continue;
            }
            empty = false;
            let next = from.join(&name);
            if wanted(&next) {
                self.add(&next, &to.join(&name), wanted)?;
            }
        }
        if empty && !to.as_os_str().is_empty() {
            self.copied.insert(to.to_owned(), from.to_owned());
        }
        Ok(())
    }

    /// One hash of names, contents, x bits and link targets.
    pub(crate) fn hash(&self, cache: &mut StatCache) -> Result<String> {
        let mut text = Vec::new();
        for (to, from) in &self.copied {
            text.extend_from_slice(to.as_os_str().as_bytes());
            let meta = fs::symlink_metadata(from).at("looking at", from)?;
            if meta.is_symlink() {
                text.extend_from_slice(b"\0link ");
                text.extend_from_slice(
                    fs::read_link(from)
                        .at("reading the link", from)?
                        .as_os_str()
                        .as_bytes(),
                );
            } else if meta.is_dir() {
                text.extend_from_slice(b"\0directory");
            } else {
                let kind: &[u8] = if meta.permissions().mode() & 0o100 != 0 {
                    b"\0program "
                } else {
                    b"\0file "
                };
                text.extend_from_slice(kind);
                text.extend_from_slice(cache.sha256(from)?.as_bytes());
            }
            text.push(0);
        }
        for said in &self.said {
            text.extend_from_slice(said.as_bytes());
            text.push(0);
        }
        Ok(sha256(&text))
    }

    /// Copies everything to a directory. File times are `epoch`, so that they cannot make builds differ.
    pub(crate) fn copy(&self, dir: &Path, epoch: u64) -> Result<()> {
        make_dir(dir)?;
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(epoch);
        let stamp = |file: &Path| -> Result<()> {
            fs::File::options()
                .write(true)
                .open(file)
                .and_then(|f| f.set_modified(time))
                .at("dating", file)
        };
        for (to, from) in &self.copied {
            let to = dir.join(to);
            make_dir(to.parent().unwrap_or(dir))?;
            let meta = fs::symlink_metadata(from).at("looking at", from)?;
            if meta.is_symlink() {
                let target = fs::read_link(from).at("reading the link", from)?;
                std::os::unix::fs::symlink(target, &to).at("making the link", &to)?;
            } else if meta.is_dir() {
                make_dir(&to)?;
            } else {
                fs::copy(from, &to).at("copying to", &to)?;
                stamp(&to)?;
            }
        }
        for (to, text) in &self.made {
            let to = dir.join(to);
            make_dir(to.parent().unwrap_or(dir))?;
            fs::write(&to, text).at("writing", &to)?;
            stamp(&to)?;
        }
        Ok(())
    }
}

struct Member {
    dir: PathBuf,
    manifest: Table,
}

/// The path-dependency closure of workspace crates, with stubs for the other members: cargo reads every
/// member's manifest, and `--locked` wants each one's dependencies as the lock file has them.
fn workspace(project: &Path, crates: &[String]) -> Result<Files, String> {
    let read = |path: &Path| -> Result<(String, Table), String> {
        let text = fs::read_to_string(path).map_err(|e| format!("reading {}: {e}", path.display()))?;
        let table = text.parse().map_err(|e| format!("{}: {e}", path.display()))?;
        Ok((text, table))
    };
    let (root_text, root) = read(&project.join("Cargo.toml"))?;
    let (_, lock) = read(&project.join("Cargo.lock"))?;
    let workspace = root
        .get("workspace")
        .and_then(Value::as_table)
        .ok_or("Cargo.toml has no [workspace]")?;
    let shared = workspace.get("dependencies").and_then(Value::as_table);
    let mut members: BTreeMap<String, Member> = BTreeMap::new();
    for dir in workspace
        .get("members")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let dir = PathBuf::from(dir.as_str().unwrap_or_default());
        let (_, manifest) = read(&project.join(&dir).join("Cargo.toml"))?;
        let name = manifest
            .get("package")
            .and_then(|p| p.get("name"))
            .and_then(Value::as_str);
        let name = name
            .ok_or_else(|| format!("{} has no package name", dir.display()))?
            .to_owned();
        members.insert(name, Member { dir, manifest });
    }
    let mut closure = BTreeSet::new();
    let mut used = BTreeSet::new();
    let mut open: Vec<String> = crates.to_vec();
    while let Some(name) = open.pop() {
        let member = members.get(&name).ok_or_else(|| {
            let hint = crate::error::nearest(&name, members.keys().map(String::as_str));
            let hint = hint.map(|h| format!("; did you mean {h:?}?")).unwrap_or_default();
            format!("no crate of the workspace is named {name:?}{hint}")
        })?;
        if !closure.insert(name.clone()) {
            continue;
        }
        for (key, dependency) in dependencies(&member.manifest) {
            let from_shared = dependency.get("workspace").and_then(Value::as_bool) == Some(true);
            let (dependency, base) = match from_shared {
                true => {
                    used.insert(key.clone());
                    let found = shared.and_then(|s| s.get(&key));
                    (
                        found.ok_or_else(|| format!("{name}: {key} is not in [workspace.dependencies]"))?,
                        Path::new(""),
                    )
                }
                false => (dependency, member.dir.as_path()),
            };
            if let Some(path) = dependency.get("path").and_then(Value::as_str) {
                let dir = normal(&base.join(path));
                let found = members
                    .iter()
                    .find(|(_, m)| m.dir == dir)
                    .map(|(name, _)| name.clone());
                open.push(found.ok_or_else(|| format!("{name}: {} is no member", dir.display()))?);
            }
        }
    }
    let mut files = Files::default();
    let dirs: BTreeMap<PathBuf, &str> = members
        .iter()
        .map(|(n, m)| (project.join(&m.dir), n.as_str()))
        .collect();
    for (name, member) in &members {
        if closure.contains(name) {
            let from = project.join(&member.dir);
            // A member inside a member belongs to itself.
            let enter = |path: &Path| !dirs.contains_key(path) || path == from;
            files.add(&from, &member.dir, &enter).map_err(|e| e.to_string())?;
        } else {
            files
                .made
                .insert(member.dir.join("Cargo.toml"), stub(&member.manifest));
            files.made.insert(member.dir.join("src/lib.rs"), String::new());
        }
    }
    files.made.insert("Cargo.toml".into(), root_text);
    let lock_text = fs::read_to_string(project.join("Cargo.lock")).map_err(|e| e.to_string())?;
    files.made.insert("Cargo.lock".into(), lock_text);
    for extra in [".cargo/config.toml", "rust-toolchain.toml", "rust-toolchain"] {
        if project.join(extra).is_file() {
            files.copied.insert(extra.into(), project.join(extra));
        }
    }
    files.said = root_parts(&root, workspace, &used);
    files.said.extend(locked(&lock, &closure));
    Ok(files)
}

/// What of the root manifest can reach a program: everything but members and unused shared dependencies.
fn root_parts(root: &Table, workspace: &Table, used: &BTreeSet<String>) -> Vec<String> {
    let mut said: Vec<String> = root
        .iter()
        .filter(|(key, _)| *key != "workspace")
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    for (key, value) in workspace {
        match key.as_str() {
            "members" | "default-members" | "exclude" | "lints" => {}
            "dependencies" => said.extend(
                value
                    .as_table()
                    .into_iter()
                    .flatten()
                    .filter(|(name, _)| used.contains(*name))
                    .map(|(name, value)| format!("dependency {name} = {value}")),
            ),
            _ => said.push(format!("workspace.{key} = {value}")),
        }
    }
    said.sort();
    said
}

/// The lock file's entries that the crates can reach.
fn locked(lock: &Table, crates: &BTreeSet<String>) -> Vec<String> {
    let packages: Vec<&Table> = lock
        .get("package")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_table)
        .collect();
    let text = |table: &Table, key: &str| {
        table
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut open: Vec<(String, Option<String>)> = crates.iter().map(|name| (name.clone(), None)).collect();
    let mut said = BTreeSet::new();
    while let Some((name, version)) = open.pop() {
        for package in &packages {
            let this = text(package, "version");
            if text(package, "name") != name || version.as_ref().is_some_and(|v| *v != this) {
                continue;
            }
            // A workspace crate's entry lists dev-dependencies too; that is a rebuild too many at worst.
            if !said.insert(format!("locked {name} {this} {}", text(package, "checksum"))) {
                continue;
            }
            for dependency in package
                .get("dependencies")
                .and_then(Value::as_array)
                .into_iter()
                .flatten()
            {
                let mut words = dependency.as_str().unwrap_or_default().split(' ');
                let name = words.next().unwrap_or_default().to_owned();
                open.push((name, words.next().map(str::to_owned)));
            }
        }
    }
    said.into_iter().collect()
}

/// Dependencies that a program is made of: not those of tests.
fn dependencies(manifest: &Table) -> Vec<(String, &Value)> {
    let mut found = Vec::new();
    let tables = std::iter::once(manifest).chain(
        manifest
            .get("target")
            .and_then(Value::as_table)
            .into_iter()
            .flatten()
            .filter_map(|(_, t)| t.as_table()),
    );
    for table in tables {
        for key in ["dependencies", "build-dependencies"] {
            for (name, value) in table.get(key).and_then(Value::as_table).into_iter().flatten() {
                found.push((name.clone(), value));
            }
        }
    }
    found
}

/// A manifest with the same package and dependencies and an empty library.
fn stub(manifest: &Table) -> String {
    let mut kept = Table::new();
    for key in [
        "package",
        "dependencies",
        "dev-dependencies",
        "build-dependencies",
        "target",
        "features",
    ] {
        if let Some(value) = manifest.get(key) {
            kept.insert(key.into(), value.clone());
        }
    }
    if let Some(package) = kept.get_mut("package").and_then(Value::as_table_mut) {
        for key in ["build", "links", "default-run"] {
            package.remove(key);
        }
        for key in ["autobins", "autoexamples", "autotests", "autobenches"] {
            package.insert(key.into(), Value::Boolean(false));
        }
    }
    kept.to_string()
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
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
    use crate::store::Store;
    use std::process::Command;

    fn write(root: &Path, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
    }

    fn recipe(source: &str) -> Recipe {
        let text = format!(
            "name = \"x\"\nversion = \"1-r0\"\nsummary = \"\"\n[[step]]\nname = \"s\"\nrun = \"x\"\n\
             [[source]]\nkind = \"tree\"\nunpack = \"u\"\n{source}"
        );
        Recipe::parse(Path::new("x.toml"), &text).unwrap()
    }

    fn hash(root: &Path, source: &str) -> String {
        let recipe = recipe(source);
        let files = Files::of(&recipe, &recipe.sources[0], root).unwrap();
        files
            .hash(&mut StatCache::load(&Store::new(&root.join("store"))))
            .unwrap()
    }

    #[test]
    fn the_hash_follows_names_contents_modes_and_links_only_of_what_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        write(
            root,
            &[
                ("t/a", "1"),
                ("t/b/c", "2"),
                ("t/target/junk", "x"),
                ("t/skip.o", "x"),
                ("other", "x"),
            ],
        );
        let source = "path = \"t\"\nexclude = [\"**/*.o\"]";
        let first = hash(root, source);
        write(root, &[("t/target/junk", "y"), ("t/skip.o", "y"), ("other", "y")]);
        assert_eq!(hash(root, source), first);
        let mut seen = vec![first];
        let mut changed = |what: &str| {
            let now = hash(root, source);
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        write(root, &[("t/a", "2")]);
        changed("content");
        fs::rename(root.join("t/a"), root.join("t/d")).unwrap();
        changed("name");
        fs::set_permissions(root.join("t/d"), fs::Permissions::from_mode(0o755)).unwrap();
        changed("mode");
        std::os::unix::fs::symlink("d", root.join("t/l")).unwrap();
        changed("link");
        fs::remove_file(root.join("t/l")).unwrap();
        std::os::unix::fs::symlink("e", root.join("t/l")).unwrap();
        changed("link target");
        fs::create_dir(root.join("t/empty")).unwrap();
        changed("empty directory");
    }

    #[test]
    fn chosen_paths_keep_their_place() {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("t/a", "1"), ("t/b/c", "2"), ("t/d/e", "3")]);
        let recipe = recipe("path = \"t\"\npaths = [\"b\", \"a\"]");
        let files = Files::of(&recipe, &recipe.sources[0], dir.path()).unwrap();
        let out = dir.path().join("out");
        files.copy(&out, 5).unwrap();
        assert_eq!(fs::read_to_string(out.join("b/c")).unwrap(), "2");
        assert!(!out.join("d").exists());
        let time = fs::metadata(out.join("a")).unwrap().modified().unwrap();
        assert_eq!(time.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs(), 5);
        let gone = recipe_error(dir.path(), "path = \"t\"\npaths = [\"zz\"]");
        assert!(gone.contains("no such file or directory"), "{gone}");
    }

    fn recipe_error(root: &Path, source: &str) -> String {
        let recipe = recipe(source);
        Files::of(&recipe, &recipe.sources[0], root)
            .unwrap_err()
            .to_string()
    }

    fn cargo_workspace(root: &Path) {
        write(
            root,
            &[
                (
                    "Cargo.toml",
                    "[workspace]\nresolver = \"3\"\nmembers = [\"app\", \"lib\", \"lib/inner\", \"other\"]\n\
                     [workspace.package]\nedition = \"2024\"\n[workspace.dependencies]\nlib = { path = \"lib\" }\n\
                     inner = { path = \"lib/inner\" }\n[profile.medium]\ninherits = \"release\"\n",
                ),
                (
                    "app/Cargo.toml",
                    "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition.workspace = true\n\
                     [dependencies]\nlib.workspace = true\n",
                ),
                ("app/src/main.rs", "fn main() { println!(\"{}\", lib::three()) }"),
                (
                    "lib/Cargo.toml",
                    "[package]\nname = \"lib\"\nversion = \"0.1.0\"\nedition = \"2024\"\n",
                ),
                ("lib/src/lib.rs", "pub fn three() -> u8 { 3 }"),
                (
                    "lib/inner/Cargo.toml",
                    "[package]\nname = \"inner\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[[bin]]\nname = \"i\"\npath = \"i.rs\"\n",
                ),
                ("lib/inner/i.rs", "fn main() {}"),
                (
                    "other/Cargo.toml",
                    "[package]\nname = \"other\"\nversion = \"0.1.0\"\nedition = \"2024\"\nbuild = \"b.rs\"\n\
                     [dependencies]\ninner.workspace = true\n[dev-dependencies]\nlib.workspace = true\n",
                ),
                ("other/src/lib.rs", "this does not compile"),
            ],
        );
        let made = Command::new("cargo")
            .args(["generate-lockfile", "--offline", "--quiet"])
            .current_dir(root)
            .status()
            .unwrap();
        assert!(made.success());
    }

    /// cargo itself says whether the copy is a workspace that `--locked` accepts.
    #[test]
    fn cargo_builds_the_copied_closure_locked() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("project");
        cargo_workspace(&root);
        let recipe = recipe("path = \".\"\ncrates = [\"app\"]");
        let files = Files::of(&recipe, &recipe.sources[0], &root).unwrap();
        let copy = dir.path().join("copy");
        files.copy(&copy, 5).unwrap();
        assert!(!copy.join("lib/inner/i.rs").exists());
        let out = Command::new("cargo")
            .args(["run", "--offline", "--locked", "--quiet", "-p", "app"])
            .current_dir(&copy)
            .env("CARGO_TARGET_DIR", dir.path().join("target"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        assert_eq!(out.stdout, b"3\n");
    }

    #[test]
    fn the_hash_of_crates_follows_only_what_they_need() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        cargo_workspace(root);
        let source = "path = \".\"\ncrates = [\"app\"]";
        let first = hash(root, source);
        write(
            root,
            &[("other/src/lib.rs", "changed"), ("lib/inner/i.rs", "changed")],
        );
        assert_eq!(hash(root, source), first, "crates that are not needed");
        let manifest = fs::read_to_string(root.join("Cargo.toml")).unwrap();
        let more = manifest.replace(
            "[workspace.dependencies]",
            "[workspace.dependencies]\nserde = \"1\"",
        );
        write(root, &[("Cargo.toml", &more)]);
        assert_eq!(hash(root, source), first, "a shared dependency that is not used");
        write(root, &[("Cargo.toml", &manifest.replace("release", "dev"))]);
        assert_ne!(hash(root, source), first, "the profile");
        write(root, &[("Cargo.toml", &manifest)]);
        assert_eq!(hash(root, source), first);
        write(root, &[("lib/src/lib.rs", "pub fn three() -> u8 { 4 }")]);
        assert_ne!(hash(root, source), first, "a crate that is needed");
        let error = recipe_error(root, "path = \".\"\ncrates = [\"ap\"]");
        assert!(error.contains("did you mean \"app\"?"), "{error}");
    }
}
