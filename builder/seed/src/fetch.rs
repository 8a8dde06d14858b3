//! Getting sources into the store and from there into a recipe's scratch.

use crate::Cancel;
use crate::archive::{Archive, Indexed, settle, uri_path};
use crate::client;
use crate::error::{IoContext, Result, SeedError};
use crate::recipe::{BinaryVersion, Origin, Recipe, Source};
use crate::store::{Lock, Store, make_dir, read_json, sha256_file, write_json};
use crate::unpack::unpack;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What "newest" was found to mean, until it is asked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pin {
    pub version: String,
    pub sha256: String,
    pub file: String,
}

type Pins = BTreeMap<String, Pin>;

/// Fetches sources.
pub(crate) struct Fetcher<'a> {
    pub store: &'a Store,
    pub archive: &'a Archive,
    pub debian_arch: &'a str,
    /// Ask the archive again what "newest" is.
    pub refresh: bool,
    /// Only what is in the store already.
    pub offline: bool,
    /// Ends downloads when asked.
    pub cancel: &'a Cancel,
}

impl Source {
    /// Whether the archive decides which version it is.
    pub(crate) fn is_newest(&self) -> bool {
        matches!(
            self.origin,
            Origin::DebianBinary {
                version: BinaryVersion::Newest { .. },
                ..
            }
        )
    }

    /// A short name for messages and records.
    pub(crate) fn label(&self) -> String {
        match &self.origin {
            Origin::DebianSource { file, .. } => file.clone(),
            Origin::DebianBinary {
                package,
                version: BinaryVersion::Pinned { version, .. },
                ..
            } => {
                format!("{package}_{version}.deb")
            }
            Origin::DebianBinary { package, .. } => format!("{package} (newest)"),
            Origin::Crate { name, version, .. } => format!("{name}-{version}.crate"),
            Origin::Tree { path, crates, .. } if crates.is_empty() => {
                format!(
                    "tree {}",
                    if path.as_os_str().is_empty() {
                        Path::new(".")
                    } else {
                        path
                    }
                    .display()
                )
            }
            Origin::Tree { crates, .. } => format!("crates {}", crates.join(" ")),
        }
    }
}

impl Fetcher<'_> {
    fn arch<'a>(&'a self, arch: &'a Option<String>) -> &'a str {
        arch.as_deref().unwrap_or(self.debian_arch)
    }

    fn pin_key(
        &self,
        package: &str,
        matching: &str,
        suite: &Option<String>,
        arch: &Option<String>,
    ) -> String {
        format!(
            "{package} {} {} {matching}",
            suite.as_deref().unwrap_or("any"),
            self.arch(arch)
        )
    }

    /// What a source's "newest" means on this machine, from the store.
    pub(crate) fn pinned(&self, source: &Source) -> Option<Pin> {
        let Origin::DebianBinary {
            package,
            version: BinaryVersion::Newest { matching },
            suite,
            arch,
        } = &source.origin
        else {
            return None;
        };
        let pins: Pins = read_json(&self.store.pins())?;
        pins.get(&self.pin_key(package, matching, suite, arch)).cloned()
    }

    /// The hash that a source has, where it is known without asking anybody.
    pub(crate) fn known_sha256(&self, source: &Source) -> Option<String> {
        match &source.origin {
            Origin::DebianSource { sha256, .. } | Origin::Crate { sha256, .. } => Some(sha256.clone()),
            Origin::DebianBinary {
                version: BinaryVersion::Pinned { sha256, .. },
                ..
            } => Some(sha256.clone()),
            Origin::DebianBinary { .. } => self.pinned(source).map(|pin| pin.sha256),
            Origin::Tree { .. } => None,
        }
    }

    fn file_name(&self, source: &Source) -> Option<String> {
        let base = |path: &str| path.rsplit('/').next().unwrap_or(path).to_owned();
        match &source.origin {
            Origin::DebianSource { file, .. } => Some(file.clone()),
            Origin::DebianBinary {
                version: BinaryVersion::Pinned { file: Some(file), .. },
                ..
            } => Some(base(file)),
            Origin::DebianBinary {
                package,
                version: BinaryVersion::Pinned { version, .. },
                arch,
                ..
            } => {
                let version = version.split_once(':').map_or(version.as_str(), |(_, v)| v);
                Some(format!("{package}_{version}_{}.deb", self.arch(arch)))
            }
            Origin::DebianBinary { .. } => self.pinned(source).map(|pin| base(&pin.file)),
            Origin::Crate { name, version, .. } => Some(format!("{name}-{version}.crate")),
            Origin::Tree { .. } => None,
        }
    }

    /// Where a source is in the store; `None` for trees and for a "newest" that nobody asked for yet.
    pub(crate) fn stored(&self, source: &Source) -> Option<PathBuf> {
        let (sha256, name) = (self.known_sha256(source)?, self.file_name(source)?);
        Some(self.store.sources().join(format!("{sha256}-{name}")))
    }

    /// Makes sure that a source is in the store. Its content is checked when it is used.
    pub(crate) fn fetch(&self, recipe: &Recipe, source: &Source) -> Result<()> {
        if matches!(source.origin, Origin::Tree { .. }) {
            return Ok(());
        }
        let error = |location: String, why: String| SeedError::Fetch {
            recipe: recipe.name.clone(),
            what: source.label(),
            location,
            why,
        };
        if let Origin::DebianBinary {
            package,
            version: BinaryVersion::Newest { matching },
            suite,
            arch,
        } = &source.origin
            && (self.refresh || self.pinned(source).is_none())
        {
            if self.offline {
                return Err(error(
                    package.clone(),
                    "what is newest has to be asked, and this run is offline".into(),
                ));
            }
            self.resolve(package, matching, suite, arch)
                .map_err(|why| error(package.clone(), why))?;
        }
        let Some(to) = self.stored(source) else {
            return Err(error(String::new(), "its file name is not known".into()));
        };
        if to.exists() {
            return Ok(());
        }
        if self.offline {
            return Err(error(
                source.label(),
                "it is not in the store, and this run is offline".into(),
            ));
        }
        make_dir(&self.store.sources())?;
        let _lock = Lock::take(&to.with_extension("lock"))?;
        if !to.exists() {
            let aside = tempfile::Builder::new()
                .prefix(".fetch-")
                .tempdir_in(self.store.sources())
                .at("making a directory in", &self.store.sources())?;
            let part = aside.path().join("file");
            self.get(source, &part)
                .map_err(|(location, why)| error(location, why))?;
            let sha256 = sha256_file(&part)?;
            if Some(&sha256) != self.known_sha256(source).as_ref() {
                return Err(error(
                    source.label(),
                    format!("its SHA-256 is {sha256}, not the pinned one"),
                ));
            }
            settle(&part, &to)?;
        }
        // Best effort: an empty lock file in the way harms nobody.
        let _ = fs::remove_file(to.with_extension("lock"));
        Ok(())
    }

    /// Asks the archive what is newest and remembers it.
    fn resolve(
        &self,
        package: &str,
        matching: &str,
        suite: &Option<String>,
        arch: &Option<String>,
    ) -> Result<(), String> {
        let found = self.find_binary(package, suite, arch, true, |version| version.contains(matching))?;
        let pin = Pin {
            version: found.version,
            sha256: found.sha256,
            file: uri_path(&found.uri),
        };
        let text = |e: SeedError| e.to_string();
        let _lock = Lock::take(&self.store.pins().with_extension("lock")).map_err(text)?;
        let mut pins: Pins = read_json(&self.store.pins()).unwrap_or_default();
        pins.insert(self.pin_key(package, matching, suite, arch), pin);
        write_json(&self.store.pins(), &pins).map_err(text)
    }

    /// Looks in one suite, or in all that the host is configured with, security first.
    fn find_binary(
        &self,
        package: &str,
        suite: &Option<String>,
        arch: &Option<String>,
        refresh: bool,
        pick: impl Fn(&str) -> bool,
    ) -> Result<Indexed, String> {
        let suites = match suite {
            Some(suite) => vec![suite.clone()],
            None => {
                let mut suites = self.archive.host_suites();
                suites.sort_by_key(|s| !s.ends_with("-security"));
                suites
            }
        };
        let mut whys = Vec::new();
        for suite in suites {
            match self
                .archive
                .find_binary(&suite, self.arch(arch), package, &pick, refresh)
            {
                Ok(found) => return Ok(found),
                Err(why) => whys.push(why),
            }
        }
        Err(whys.join("; "))
    }

    /// Fetches to `to`. The error is where in the archive and why.
    fn get(&self, source: &Source, to: &Path) -> Result<(), (String, String)> {
        let Some(sha256) = self.known_sha256(source) else {
            return Err((source.label(), "its hash is not known".into()));
        };
        match &source.origin {
            Origin::DebianSource {
                source,
                file,
                component,
                suite,
                ..
            } => {
                let prefix = if source.starts_with("lib") && source.len() > 3 {
                    4
                } else {
                    1
                };
                let path = format!("pool/{component}/{}/{source}/{file}", &source[..prefix]);
                let direct = self.direct(suite.as_deref(), &path, to, &sha256);
                direct.or_else(|why| {
                    // It may have moved; where it has not, the index says what is there instead.
                    let Some(suite) = suite else {
                        return Err((path.clone(), why));
                    };
                    match self.archive.find_source(suite, source, file) {
                        Ok(found) if found.sha256 == sha256 => self
                            .archive
                            .download(&found.uri, to, &sha256)
                            .map_err(|again| (uri_path(&found.uri), again)),
                        Ok(_) => Err((path, format!("{why}; {suite} has this file with another content"))),
                        Err(more) => Err((path, format!("{why}; {more}"))),
                    }
                })
            }
            Origin::DebianBinary {
                package,
                version,
                suite,
                arch,
            } => {
                let (version, file) = match version {
                    BinaryVersion::Pinned { version, file, .. } => (version.clone(), file.clone()),
                    BinaryVersion::Newest { .. } => (
                        self.pinned(source).map(|pin| pin.version).unwrap_or_default(),
                        None,
                    ),
                };
                let direct = match &file {
                    Some(path) => self.direct(suite.as_deref(), path, to, &sha256),
                    None => Err("its path in the pool is not given".into()),
                };
                direct.or_else(|why| {
                    let path = file.clone().unwrap_or_else(|| format!("{package} {version}"));
                    let refresh = file.is_some();
                    match self.find_binary(package, suite, arch, refresh, |v| v == version) {
                        Ok(found) if found.sha256 == sha256 => self
                            .archive
                            .download(&found.uri, to, &sha256)
                            .map_err(|again| (uri_path(&found.uri), again)),
                        Ok(_) => Err((
                            path,
                            format!("{why}; the archive has another content for this version"),
                        )),
                        Err(more) if file.is_some() => Err((path, format!("{why}; {more}"))),
                        Err(more) => Err((path, more)),
                    }
                })
            }
            Origin::Crate { name, version, .. } => crate_file(name, version, &sha256, to, self.cancel)
                .map_err(|why| (format!("{name} {version}"), why)),
            Origin::Tree { .. } => Ok(()),
        }
    }

    fn direct(&self, suite: Option<&str>, path: &str, to: &Path, sha256: &str) -> Result<(), String> {
        let uri = self.archive.uri(suite, path)?;
        self.archive.download(&uri, to, sha256)
    }

    /// Puts a fetched source into `$SRC` and applies its patches. Trees are copied elsewhere.
    pub(crate) fn place(&self, recipe: &Recipe, source: &Source, src: &Path) -> Result<()> {
        let dir = src.join(&source.unpack);
        make_dir(&dir)?;
        let file = self
            .stored(source)
            .filter(|f| f.exists())
            .ok_or_else(|| SeedError::Fetch {
                recipe: recipe.name.clone(),
                what: source.label(),
                location: source.label(),
                why: "it left the store while it was wanted".into(),
            })?;
        let sha256 = sha256_file(&file)?;
        if Some(&sha256) != self.known_sha256(source).as_ref() {
            fs::remove_file(&file).at("removing the damaged", &file)?;
            return Err(SeedError::Fetch {
                recipe: recipe.name.clone(),
                what: source.label(),
                location: source.label(),
                why: format!("the stored copy was damaged (SHA-256 {sha256}) and is removed; run again"),
            });
        }
        if source.raw {
            let to = dir.join(self.file_name(source).unwrap_or_default());
            fs::copy(&file, &to).at("copying to", &to)?;
            return Ok(());
        }
        unpack(&file, &dir, source.strip)
    }
}

/// Applies a patch with the host's patch(1): no fuzz, so that a patch that no longer fits is noticed.
pub(crate) fn apply_patch(recipe: &Recipe, dir: &Path, patch: &Path) -> Result<()> {
    let output = Command::new("patch")
        .args(["-p1", "-s", "-F0", "-f", "--no-backup-if-mismatch", "-d"])
        .arg(dir)
        .arg("-i")
        .arg(patch)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|e| SeedError::Program {
            program: "patch".into(),
            why: format!("{e}; it is of the Debian package patch"),
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    Err(SeedError::Program {
        program: "patch".into(),
        why: format!(
            "recipe {}: {} does not apply: {}",
            recipe.name,
            patch.display(),
            said.trim()
        ),
    })
}

fn cargo_home() -> Option<PathBuf> {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("CARGO_HOME").or_else(|| Some(set("HOME")?.join(".cargo")))
}

/// A downloaded crate of this machine's registry, whichever it is.
fn downloaded(name: &str, version: &str, sha256: &str) -> Option<PathBuf> {
    let mut registries: Vec<PathBuf> = fs::read_dir(cargo_home()?.join("registry/cache"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path().join(format!("{name}-{version}.crate"))))
        .filter(|file| file.is_file())
        .collect();
    registries.sort();
    registries
        .into_iter()
        .find(|file| sha256_file(file).is_ok_and(|found| found == sha256))
}

/// Gets a crate through cargo: a scratch package depends on exactly this version, and `cargo fetch`
/// downloads it to cargo's own cache.
fn crate_file(name: &str, version: &str, sha256: &str, to: &Path, cancel: &Cancel) -> Result<(), String> {
    if downloaded(name, version, sha256).is_none() {
        let dir = tempfile::tempdir().map_err(|e| e.to_string())?;
        let manifest = format!(
            "[package]\nname = \"scratch\"\nversion = \"0.0.0\"\nedition = \"2021\"\n[workspace]\n\
             [dependencies.wanted]\npackage = \"{name}\"\nversion = \"={version}\"\ndefault-features = false\n"
        );
        fs::create_dir(dir.path().join("src")).map_err(|e| e.to_string())?;
        fs::write(dir.path().join("src/lib.rs"), "").map_err(|e| e.to_string())?;
        fs::write(dir.path().join("Cargo.toml"), manifest).map_err(|e| e.to_string())?;
        let mut command = Command::new("cargo");
        command
            .args(["fetch", "--quiet", "--color", "never"])
            .current_dir(dir.path());
        let said = client::run(&mut command, cancel).map_err(|e| format!("running cargo: {e}"))?;
        if !said.status.success() {
            return Err(hide(&said.stderr));
        }
    }
    let file = downloaded(name, version, sha256)
        .ok_or("cargo fetched it, but no file of its cache has the pinned hash")?;
    fs::copy(file, to).map_err(|e| e.to_string())?;
    Ok(())
}

/// cargo's complaint on one line, registries' addresses left out.
fn hide(said: &str) -> String {
    let words: Vec<&str> = said
        .split_whitespace()
        .map(|word| if word.contains("://") { "REGISTRY" } else { word })
        .collect();
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sha256;

    const RECIPE: &str =
        "name = \"x\"\nversion = \"1-r0\"\nsummary = \"\"\n[[step]]\nname = \"s\"\nrun = \"x\"\n";

    fn recipe(source: &str) -> Recipe {
        Recipe::parse(
            Path::new("x.toml"),
            &format!("{RECIPE}[[source]]\nunpack = \"u\"\n{source}"),
        )
        .unwrap()
    }

    fn crate_recipe(bytes: &[u8]) -> Recipe {
        recipe(&format!(
            "kind = \"crate\"\nname = \"n\"\nversion = \"1.0.0\"\nsha256 = \"{}\"",
            sha256(bytes)
        ))
    }

    fn with_fetcher(test: impl FnOnce(&Fetcher, &Path)) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let cancel = Cancel::new();
        let archive = Archive::new(&store, None, &cancel);
        test(
            &Fetcher {
                store: &store,
                archive: &archive,
                debian_arch: "amd64",
                refresh: false,
                offline: true,
                cancel: &cancel,
            },
            dir.path(),
        );
    }

    #[test]
    fn stored_names_carry_hash_and_name() {
        with_fetcher(|fetcher, dir| {
            let recipe = crate_recipe(b"x");
            let path = fetcher.stored(&recipe.sources[0]).unwrap();
            assert_eq!(path, dir.join(format!("sources/{}-n-1.0.0.crate", sha256(b"x"))));
        });
    }

    #[test]
    fn a_source_that_is_not_there_is_named_with_its_recipe() {
        with_fetcher(|fetcher, _| {
            let recipe = crate_recipe(b"x");
            let error = fetcher
                .fetch(&recipe, &recipe.sources[0])
                .unwrap_err()
                .to_string();
            assert!(error.contains("recipe x: cannot get n-1.0.0.crate"), "{error}");
            assert!(error.contains("still usable"), "{error}");
        });
    }

    #[test]
    fn a_damaged_copy_is_refused_and_removed() {
        with_fetcher(|fetcher, dir| {
            let recipe = crate_recipe(b"right");
            let path = fetcher.stored(&recipe.sources[0]).unwrap();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"wrong").unwrap();
            let error = fetcher
                .place(&recipe, &recipe.sources[0], &dir.join("src"))
                .unwrap_err()
                .to_string();
            assert!(error.contains("was damaged"), "{error}");
            assert!(!path.exists());
        });
    }

    #[test]
    fn a_raw_source_is_copied_as_it_is() {
        with_fetcher(|fetcher, dir| {
            let mut recipe = crate_recipe(b"bytes");
            recipe.sources[0].raw = true;
            let path = fetcher.stored(&recipe.sources[0]).unwrap();
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, b"bytes").unwrap();
            fetcher
                .place(&recipe, &recipe.sources[0], &dir.join("src"))
                .unwrap();
            assert_eq!(fs::read(dir.join("src/u/n-1.0.0.crate")).unwrap(), b"bytes");
        });
    }

    #[test]
    fn a_patch_that_does_not_fit_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let recipe = crate_recipe(b"x");
        fs::write(dir.path().join("f"), "one\ntwo\n").unwrap();
        let patch = dir.path().join("p");
        fs::write(&patch, "--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n one\n-two\n+three\n").unwrap();
        apply_patch(&recipe, dir.path(), &patch).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("f")).unwrap(), "one\nthree\n");
        let error = apply_patch(&recipe, dir.path(), &patch).unwrap_err().to_string();
        assert!(error.contains("does not apply"), "{error}");
    }

    #[test]
    fn messages_of_cargo_lose_addresses() {
        assert_eq!(
            hide("error: failed to get\n `https://x/y` index"),
            "error: failed to get REGISTRY index"
        );
    }
}
