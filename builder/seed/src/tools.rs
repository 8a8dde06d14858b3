//! Programs of the host: where they are, and which version, since another compiler makes another result.

use crate::recipes::Recipes;
use crate::store::{StatCache, Store, read_json, write_json};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where every Debian machine has its programs; the start of a step's `PATH`.
pub(crate) const SYSTEM_PATH: [&str; 4] = ["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// A host program that is missing.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostTool {
    /// Program, or absolute path of a file.
    pub program: String,
    /// The Debian package that brings it, where known.
    pub debian_package: Option<String>,
    /// Recipes that want it.
    pub recipes: Vec<String>,
}

/// Where a program is.
pub(crate) fn find(tool: &str) -> Option<PathBuf> {
    if tool.starts_with('/') {
        return Path::new(tool).exists().then(|| tool.into());
    }
    let cargo = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")))
        .map(|home| home.join("bin"));
    let path = std::env::var_os("PATH").unwrap_or_default();
    SYSTEM_PATH
        .iter()
        .map(PathBuf::from)
        .chain(std::env::split_paths(&path))
        .chain(cargo)
        .filter(|dir| dir.is_absolute())
        .map(|dir| dir.join(tool))
        .find(|file| fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0))
}

/// `PATH` of a recipe's steps: the system's directories, then those where its other tools are.
pub(crate) fn path_for(tools: &[String]) -> String {
    let mut dirs: Vec<String> = SYSTEM_PATH.iter().map(|d| d.to_string()).collect();
    for tool in tools.iter().filter(|t| !t.starts_with('/')) {
        if let Some(dir) = find(tool).and_then(|p| Some(p.parent()?.display().to_string()))
            && !dirs.contains(&dir)
        {
            dirs.push(dir);
        }
    }
    dirs.join(":")
}

/// Host programs that recipes want and the machine has not.
pub(crate) fn missing(recipes: &Recipes, selection: &BTreeSet<String>) -> Vec<HostTool> {
    let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut want = |tool: &str, recipe: &str| {
        let users = wanted.entry(tool.to_owned()).or_default();
        if users.last().is_none_or(|last| last != recipe) {
            users.push(recipe.to_owned());
        }
    };
    for recipe in recipes.all.values().filter(|r| selection.contains(&r.name)) {
        for tool in &recipe.tools {
            want(tool, &recipe.name);
        }
        if recipe.sources.iter().any(|s| !s.patches.is_empty()) {
            want("patch", &recipe.name);
        }
        if recipe
            .sources
            .iter()
            .any(|s| matches!(s.origin, crate::recipe::Origin::Crate { .. }))
        {
            want("cargo", &recipe.name);
        }
    }
    wanted
        .into_iter()
        .filter(|(tool, _)| find(tool).is_none())
        .map(|(program, users)| HostTool {
            debian_package: recipes.host_tools.package(&program).map(str::to_owned),
            program,
            recipes: users,
        })
        .collect()
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Known {
    size: u64,
    inode: u64,
    changed: (i64, i64),
    version: String,
}

/// Versions of programs, asked once per program file.
pub(crate) struct Versions {
    file: PathBuf,
    known: BTreeMap<PathBuf, Known>,
    told: BTreeMap<String, String>,
    changed: bool,
}

impl Versions {
    pub(crate) fn load(store: &Store) -> Versions {
        let file = store.stat_cache().with_file_name("tools.json");
        Versions {
            known: read_json(&file).unwrap_or_default(),
            file,
            told: BTreeMap::new(),
            changed: false,
        }
    }

    /// What tells one version of a tool from another, or `None` where it is missing.
    pub(crate) fn of(&mut self, tool: &str, cache: &mut StatCache) -> Option<String> {
        if let Some(told) = self.told.get(tool) {
            return Some(told.clone());
        }
        let path = find(tool)?;
        let version = self.ask(tool, &path, cache)?;
        self.told.insert(tool.to_owned(), version.clone());
        Some(version)
    }

    fn ask(&mut self, tool: &str, path: &Path, cache: &mut StatCache) -> Option<String> {
        if tool.starts_with('/') {
            return cache.sha256(path).ok();
        }
        let real = fs::canonicalize(path).ok()?;
        // rustup's stand-ins are one file for whatever toolchain is chosen.
        if real.file_name().is_some_and(|n| n == "rustup") {
            let argument = if tool == "rustc" { "-vV" } else { "-V" };
            return said(path, argument).map(|text| text.trim().replace('\n', ", "));
        }
        let meta = fs::metadata(&real).ok()?;
        let mut now = Known {
            size: meta.size(),
            inode: meta.ino(),
            changed: (meta.ctime(), meta.ctime_nsec()),
            version: String::new(),
        };
        if let Some(known) = self.known.get(path)
            && (Known {
                version: String::new(),
                ..known.clone()
            }) == now
        {
            return Some(known.version.clone());
        }
        let first_line = said(path, "--version").and_then(|text| {
            text.lines()
                .map(str::trim)
                .find(|l| !l.is_empty())
                .map(str::to_owned)
        });
        // A program that tells no version is told apart by its content.
        let version = match first_line.filter(|line| line.bytes().any(|b| b.is_ascii_digit())) {
            Some(line) => line,
            None => format!("content {}", cache.sha256(&real).ok()?),
        };
        now.version = version.clone();
        self.known.insert(path.to_owned(), now);
        self.changed = true;
        Some(version)
    }

    pub(crate) fn save(&self) -> crate::error::Result<()> {
        if self.changed {
            write_json(&self.file, &self.known)
        } else {
            Ok(())
        }
    }
}

fn said(program: &Path, argument: &str) -> Option<String> {
    let output = Command::new(program)
        .arg(argument)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_and_asked_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let mut cache = StatCache::load(&store);
        let mut versions = Versions::load(&store);
        let tar = versions
            .of("tar", &mut cache)
            .expect("tar is missing: install the Debian package tar");
        assert!(tar.contains("tar"), "{tar}");
        versions.save().unwrap();
        assert_eq!(Versions::load(&store).of("tar", &mut cache), Some(tar));
        assert_eq!(versions.of("no-such-program-lycia", &mut cache), None);
        assert_eq!(find("/nonexistent/file"), None);
    }

    #[test]
    fn a_file_as_a_tool_is_its_content() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("lib.a");
        fs::write(&file, "x").unwrap();
        let store = Store::new(dir.path());
        let version = Versions::load(&store).of(file.to_str().unwrap(), &mut StatCache::load(&store));
        assert_eq!(version, Some(crate::store::sha256(b"x")));
    }

    #[test]
    fn the_path_holds_the_system_and_the_tools_places() {
        assert_eq!(path_for(&["sh".into()]), "/usr/bin:/bin:/usr/sbin:/sbin");
    }
}
