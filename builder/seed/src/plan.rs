//! Which recipes have to be run, and why, in words.
//!
//! Every input of a recipe has a label. The hash of all of them names the result; the record of the last
//! result, compared label by label, tells what changed.

use crate::error::Result;
use crate::fetch::Fetcher;
use crate::project::Files;
use crate::recipe::{Node, Origin, PackageRecipe, Patterns, Recipe, Source};
use crate::recipes::{Recipes, Target};
use crate::step::{INHERITED, expand};
use crate::store::{StatCache, Store, read_json, sha256, sha256_file};
use crate::tools::{Versions, path_for};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Raised when this program builds differently from the same inputs.
const BUILD_FORMAT: &str = "1";

/// Raised when this program packages differently from the same inputs.
const PACKAGE_FORMAT: &str = "1";

/// Labelled inputs of one result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Inputs(BTreeMap<String, String>);

impl Inputs {
    fn set(&mut self, label: impl Into<String>, value: impl Into<String>) {
        self.0.insert(label.into(), value.into());
    }

    /// All values, without their labels.
    pub(crate) fn values(&self) -> impl Iterator<Item = &String> {
        self.0.values()
    }

    /// The name of the result.
    pub(crate) fn hash(&self) -> String {
        let mut text = String::new();
        for (label, value) in &self.0 {
            text.push_str(&format!("{}:{label}={}:{value}\n", label.len(), value.len()));
        }
        sha256(text.as_bytes())[..32].to_owned()
    }

    /// What is different from an older record, as sentences.
    pub(crate) fn why(&self, old: &Inputs) -> Vec<String> {
        let skip = |inputs: &Inputs| inputs.0.get("skip").cloned();
        if let (Some(before), Some(now)) = (skip(old), skip(self))
            && before != now
        {
            // Everything else is new or gone because of it.
            return vec![changed("skip", Some(&before), &now)];
        }
        let mut reasons = Vec::new();
        for (label, value) in &self.0 {
            match old.0.get(label) {
                Some(before) if before == value => {}
                Some(before) => reasons.push(changed(label, Some(before), value)),
                None => reasons.push(match label.strip_prefix("need ") {
                    Some(need) => format!("it now needs {need}"),
                    None => format!("{label} is new"),
                }),
            }
        }
        for label in old.0.keys().filter(|label| !self.0.contains_key(*label)) {
            reasons.push(match label.strip_prefix("need ") {
                Some(need) => format!("it no longer needs {need}"),
                None => format!("{label} is gone"),
            });
        }
        reasons
    }
}

fn changed(label: &str, before: Option<&str>, now: &str) -> String {
    match label.split_once(' ') {
        Some(("need", name)) => format!("needs {name}, which was rebuilt and is different"),
        Some(("tool", name)) => match before {
            Some(before) if !before.starts_with("content ") && !now.starts_with("content ") => {
                format!("tool {name} changed from {before:?} to {now:?}")
            }
            _ => format!("tool {name} changed"),
        },
        _ => match label {
            "engine" => "the seed engine builds differently now".into(),
            "target" => "the target definition changed".into(),
            "skip" if now == "yes" => "the host has this now, so it is skipped".into(),
            "skip" => "the host no longer has this, so it is built".into(),
            "steps" => "the order of steps changed".into(),
            "key" => "the signing key changed".into(),
            _ => format!("{label} changed"),
        },
    }
}

/// The record of a recipe's last result.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Latest {
    /// Name of the result.
    pub hash: String,
    pub inputs: Inputs,
    /// Name of the packages made of it.
    #[serde(default)]
    pub packages_hash: String,
    #[serde(default)]
    pub packages_inputs: Inputs,
}

/// What is kept beside a result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct BuildRecord {
    /// Hash of `out/`.
    pub output: String,
    /// Bytes in `out/`.
    pub bytes: u64,
    /// Wall-clock seconds, unpacking included, fetching not.
    pub seconds: f64,
    /// The same by step.
    pub steps: Vec<(String, f64)>,
    /// The host had it.
    pub skipped: bool,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

/// Whether a recipe has to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// The stored result and packages are of these inputs.
    Current,
    /// Only the packages have to be made again.
    Repackage,
    /// It has to be run.
    Build,
    /// It waits for a recipe that has to be run first; perhaps its result will be the same.
    Waits,
}

/// What is known of a recipe before anything runs.
#[derive(Clone, Debug)]
pub struct RecipeStatus {
    /// Recipe.
    pub name: String,
    /// Version of its packages.
    pub version: String,
    /// What has to be done.
    pub state: State,
    /// Why, one sentence each; empty when current.
    pub reasons: Vec<String>,
    /// Seconds of the last run, where there was one.
    pub seconds: Option<f64>,
}

/// Evaluates recipes against the store.
pub(crate) struct Planner<'a> {
    pub recipes: &'a Recipes,
    pub project: &'a Path,
    pub store: &'a Store,
    pub fetcher: &'a Fetcher<'a>,
    /// Name and id of the signing key; empty while there is none.
    pub key: String,
    pub cache: StatCache,
    pub versions: Versions,
    /// What `skip-if` said, asked once per run.
    pub skips: BTreeMap<String, bool>,
}

/// Where the parts of a result are.
pub(crate) struct ResultDir(pub PathBuf);

impl ResultDir {
    pub(crate) fn out(&self) -> PathBuf {
        self.0.join("out")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    pub(crate) fn record(&self) -> PathBuf {
        self.0.join("build.json")
    }

    pub(crate) fn packages(&self, hash: &str) -> PathBuf {
        self.0.join("packages").join(hash)
    }

    pub(crate) fn read(&self) -> Option<BuildRecord> {
        read_json(&self.record())
    }
}

/// One recipe, evaluated.
#[derive(Debug)]
pub(crate) struct Evaluation {
    pub inputs: Inputs,
    pub hash: String,
    pub packages_inputs: Inputs,
    pub packages_hash: String,
    pub skip: bool,
    pub state: State,
    pub reasons: Vec<String>,
    pub record: Option<BuildRecord>,
}

impl Planner<'_> {
    pub(crate) fn result_dir(&self, name: &str, hash: &str) -> ResultDir {
        ResultDir(self.store.recipe(name).join(hash))
    }

    pub(crate) fn latest_file(&self, name: &str) -> PathBuf {
        self.store.recipe(name).join("latest.json")
    }

    /// Evaluates a recipe. `outputs` has the output hash of every needed recipe; `None` there means that it
    /// is not known before that recipe ran.
    pub(crate) fn evaluate(
        &mut self,
        recipe: &Recipe,
        outputs: &BTreeMap<String, Option<String>>,
        force: bool,
    ) -> Result<Evaluation> {
        let skip = match &recipe.skip_if {
            Some(script) => match self.skips.get(&recipe.name) {
                Some(known) => *known,
                None => {
                    let skip = self.host_has(recipe, script);
                    self.skips.insert(recipe.name.clone(), skip);
                    skip
                }
            },
            None => false,
        };
        let mut unknown = Vec::new();
        let mut inputs = self.build_inputs(recipe, skip)?;
        // A skipped recipe takes nothing from anybody.
        let needed = if skip {
            Vec::new()
        } else {
            self.recipes.needed(&recipe.name)
        };
        for need in needed {
            let sysroot = patterns_text(&self.recipes.all[&need].sysroot);
            match outputs.get(&need) {
                Some(Some(output)) => inputs.set(
                    format!("need {need}"),
                    sha256(format!("{output}\n{sysroot}").as_bytes()),
                ),
                _ => unknown.push(need),
            }
        }
        let latest: Option<Latest> = read_json(&self.latest_file(&recipe.name));
        let hash = inputs.hash();
        let record = self.result_dir(&recipe.name, &hash).read();
        let packages_inputs = self.package_inputs(recipe, &hash);
        let packages_hash = packages_inputs.hash();
        let mut evaluation = Evaluation {
            inputs,
            hash,
            packages_inputs,
            packages_hash,
            skip,
            state: State::Build,
            reasons: Vec::new(),
            record,
        };
        self.judge(recipe, &mut evaluation, latest.as_ref(), &unknown, force);
        Ok(evaluation)
    }

    fn judge(
        &self,
        recipe: &Recipe,
        evaluation: &mut Evaluation,
        latest: Option<&Latest>,
        unknown: &[String],
        force: bool,
    ) {
        if force {
            evaluation.reasons.push("it was asked for".into());
        }
        if !unknown.is_empty() {
            if let Some(latest) = latest {
                let mut without = latest.inputs.clone();
                without
                    .0
                    .retain(|label, _| !unknown.iter().any(|need| *label == format!("need {need}")));
                evaluation.reasons.extend(evaluation.inputs.why(&without));
            } else {
                evaluation.reasons.push("it was never built here".into());
            }
            evaluation.state = if evaluation.reasons.is_empty() {
                State::Waits
            } else {
                State::Build
            };
            let names = unknown.join(", ");
            evaluation
                .reasons
                .push(format!("needs {names}, to be built first"));
            return;
        }
        if evaluation.record.is_none() {
            match latest {
                None => evaluation.reasons.push("it was never built here".into()),
                Some(latest) if latest.hash == evaluation.hash => {
                    evaluation.reasons.push("its stored result is gone".into());
                }
                Some(latest) => evaluation.reasons.extend(evaluation.inputs.why(&latest.inputs)),
            }
        }
        if !evaluation.reasons.is_empty() {
            evaluation.state = State::Build;
            return;
        }
        let dir = self.result_dir(&recipe.name, &evaluation.hash);
        let packaged = evaluation.skip
            || recipe.packages.is_empty()
            || dir
                .packages(&evaluation.packages_hash)
                .join(crate::package::RECORD)
                .exists();
        if packaged {
            evaluation.state = State::Current;
            return;
        }
        evaluation.state = State::Repackage;
        match latest {
            Some(latest) if latest.packages_hash == evaluation.packages_hash => {
                evaluation.reasons.push("its stored packages are gone".into());
            }
            Some(latest) if !latest.packages_hash.is_empty() && latest.hash == evaluation.hash => {
                evaluation
                    .reasons
                    .extend(evaluation.packages_inputs.why(&latest.packages_inputs));
            }
            _ => evaluation.reasons.push("it was built, but not packaged".into()),
        }
    }

    fn build_inputs(&mut self, recipe: &Recipe, skip: bool) -> Result<Inputs> {
        let mut inputs = Inputs::default();
        inputs.set("engine", BUILD_FORMAT);
        if recipe.skip_if.is_some() {
            inputs.set("skip", if skip { "yes" } else { "no" });
        }
        if skip {
            return Ok(inputs);
        }
        inputs.set("target", sha256(self.recipes.target_text.as_bytes()));
        inputs.set("epoch", recipe.epoch.to_string());
        inputs.set("upstream version", upstream(&recipe.version));
        inputs.set("needs", recipe.needs.join(" "));
        for source in &recipe.sources {
            let value = self.source_value(recipe, source)?;
            inputs.set(
                format!("source {} in {}", source.label(), source.unpack.display()),
                value,
            );
            for patch in &source.patches {
                let hash = sha256_file(&self.recipes.dir.join(patch))?;
                inputs.set(format!("patch {}", patch.display()), hash);
            }
        }
        let order: Vec<&str> = recipe.steps.iter().map(|s| s.name.as_str()).collect();
        inputs.set("steps", order.join("\n"));
        for step in &recipe.steps {
            inputs.set(format!("step {}", step.name), sha256(step.run.as_bytes()));
        }
        for tool in &recipe.tools {
            let version = self.versions.of(tool, &mut self.cache);
            inputs.set(
                format!("tool {tool}"),
                version.unwrap_or_else(|| "missing".into()),
            );
        }
        Ok(inputs)
    }

    fn source_value(&mut self, recipe: &Recipe, source: &Source) -> Result<String> {
        let content = match &source.origin {
            Origin::Tree { .. } => Files::of(recipe, source, self.project)?.hash(&mut self.cache)?,
            _ => self
                .fetcher
                .known_sha256(source)
                .unwrap_or_else(|| "not asked yet".into()),
        };
        let patches: Vec<String> = source.patches.iter().map(|p| p.display().to_string()).collect();
        Ok(format!(
            "{content} strip={} raw={} patches={}",
            source.strip,
            source.raw,
            patches.join(":")
        ))
    }

    fn package_inputs(&self, recipe: &Recipe, build: &str) -> Inputs {
        let mut inputs = Inputs::default();
        inputs.set("engine", PACKAGE_FORMAT);
        inputs.set("result", build);
        inputs.set("key", self.key.clone());
        inputs.set("version", recipe.version.clone());
        inputs.set("summary", recipe.summary.clone());
        inputs.set("url", recipe.url.clone());
        inputs.set("license", recipe.license.clone());
        inputs.set("maintainer", recipe.maintainer.clone());
        inputs.set("unpackaged", patterns_text(&recipe.unpackaged));
        inputs.set("sysroot", patterns_text(&recipe.sysroot));
        for package in &recipe.packages {
            inputs.set(
                format!("package {}", package.name),
                sha256(package_text(package).as_bytes()),
            );
        }
        inputs
    }

    /// Runs `skip-if`. A script that cannot run says no.
    fn host_has(&self, recipe: &Recipe, script: &str) -> bool {
        let scratch = self.store.work(&recipe.name);
        let Ok(environment) = environment(recipe, &self.recipes.target, &scratch, 1, "") else {
            return false;
        };
        Command::new("/bin/sh")
            .args(["-euc", script])
            .env_clear()
            .envs(environment)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Keeps what was learnt of files and tools.
    pub(crate) fn save(&self) -> Result<()> {
        self.cache.save()?;
        self.versions.save()
    }
}

/// A package's version without the revision.
pub(crate) fn upstream(version: &str) -> &str {
    version
        .rsplit_once("-r")
        .map_or(version, |(upstream, _)| upstream)
}

fn patterns_text(patterns: &Patterns) -> String {
    patterns
        .texts()
        .map(|(adds, text)| format!("{}{text}\n", if adds { "" } else { "!" }))
        .collect()
}

/// Everything a package table says, in a fixed form.
fn package_text(package: &PackageRecipe) -> String {
    let mut text = String::new();
    let mut say = |key: &str, value: &str| text.push_str(&format!("{key}={}:{value}\n", value.len()));
    let optional = |value: &Option<String>| value.as_ref().map_or("-".to_owned(), |v| format!("+{v}"));
    say("name", &package.name);
    say("version", &optional(&package.version));
    say("description", &optional(&package.description));
    say("url", &optional(&package.url));
    say("license", &optional(&package.license));
    say("arch", &optional(&package.arch));
    for (key, list) in [
        ("depends", &package.depends),
        ("provides", &package.provides),
        ("replaces", &package.replaces),
        ("install-if", &package.install_if),
        ("recommends", &package.recommends),
        ("triggers", &package.triggers),
        ("so-ignore", &package.so_ignore),
    ] {
        list.iter().for_each(|item| say(key, item));
    }
    say(
        "priorities",
        &format!("{} {}", package.replaces_priority, package.provider_priority),
    );
    say("elf-scan", &package.elf_scan.to_string());
    say("files", &patterns_text(&package.files));
    for (moment, script) in &package.scripts {
        say(moment, script);
    }
    for entry in &package.entries {
        let node = match &entry.node {
            None => "-".into(),
            Some(Node::Directory) => "dir".into(),
            Some(Node::Fifo) => "fifo".into(),
            Some(Node::Char(major, minor)) => format!("char {major} {minor}"),
            Some(Node::Block(major, minor)) => format!("block {major} {minor}"),
            Some(Node::Symlink(target)) => format!("symlink {target}"),
        };
        say(
            "entry",
            &format!(
                "{} {node} {:?} {}:{}",
                entry.path, entry.mode, entry.owner, entry.group
            ),
        );
    }
    text
}

/// The environment of a recipe's steps. `scratch` is its work directory.
pub(crate) fn environment(
    recipe: &Recipe,
    target: &Target,
    scratch: &Path,
    jobs: usize,
    makeflags: &str,
) -> Result<BTreeMap<String, String>, String> {
    let mut environment = BTreeMap::new();
    for name in INHERITED {
        if let Some(value) = std::env::var_os(name).and_then(|v| v.into_string().ok()) {
            environment.insert(name.to_owned(), value);
        }
    }
    // HOME is scratch, so what cargo and rustup find by it has to be said.
    if let Ok(home) = std::env::var("HOME") {
        for (name, dir) in [("CARGO_HOME", ".cargo"), ("RUSTUP_HOME", ".rustup")] {
            environment
                .entry(name.into())
                .or_insert_with(|| format!("{home}/{dir}"));
        }
    }
    let mut set = |name: &str, value: String| environment.insert(name.to_owned(), value);
    for (name, dir) in [
        ("SRC", "src"),
        ("BUILD", "build"),
        ("OUT", "out"),
        ("SYSROOT", "sysroot"),
        ("HOME", "home"),
    ] {
        set(name, scratch.join(dir).display().to_string());
    }
    set("JOBS", jobs.to_string());
    if !makeflags.is_empty() {
        set("MAKEFLAGS", makeflags.to_owned());
    }
    set("SOURCE_DATE_EPOCH", recipe.epoch.to_string());
    set("VERSION", upstream(&recipe.version).to_owned());
    set("LC_ALL", "C".into());
    set("TZ", "UTC".into());
    set("PATH", path_for(&recipe.tools));
    set("ARCH", target.arch.clone());
    set("TARGET", target.triple.clone());
    set("RUST_TARGET", target.rust_target.clone());
    set("DEB_ARCH", target.debian_arch.clone());
    set("DEB_MULTIARCH", target.debian_multiarch.clone());
    // Values may use each other; the file is small, so look until nothing is left.
    let mut open: Vec<(&String, &String)> = target.environment.iter().collect();
    while !open.is_empty() {
        let before = open.len();
        let mut last = String::new();
        open.retain(|(name, value)| match expand(value, &environment) {
            Ok(value) => {
                environment.insert((*name).clone(), value);
                false
            }
            Err(why) => {
                last = format!("target environment {name}: {why}");
                true
            }
        });
        if open.len() == before {
            return Err(last);
        }
    }
    Ok(environment)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inputs(list: &[(&str, &str)]) -> Inputs {
        Inputs(list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect())
    }

    #[test]
    fn reasons_are_sentences() {
        let old = inputs(&[
            ("source musl.tar.gz in musl", "1"),
            ("step build", "1"),
            ("need a", "1"),
            ("need gone", "1"),
            ("tool clang-19", "clang 19.1.1"),
            ("target", "1"),
            ("same", "1"),
        ]);
        let new = inputs(&[
            ("source musl.tar.gz in musl", "2"),
            ("step build", "2"),
            ("step check", "1"),
            ("need a", "2"),
            ("need b", "1"),
            ("tool clang-19", "clang 19.1.7"),
            ("target", "2"),
            ("same", "1"),
        ]);
        let mut why = new.why(&old);
        why.sort();
        assert_eq!(
            why,
            [
                "it no longer needs gone",
                "it now needs b",
                "needs a, which was rebuilt and is different",
                "source musl.tar.gz in musl changed",
                "step build changed",
                "step check is new",
                "the target definition changed",
                "tool clang-19 changed from \"clang 19.1.1\" to \"clang 19.1.7\"",
            ]
        );
        assert!(new.why(&new).is_empty());
    }

    #[test]
    fn the_hash_tells_labels_from_values() {
        assert_ne!(inputs(&[("a", "b=c")]).hash(), inputs(&[("a=b", "c")]).hash());
        assert_ne!(
            inputs(&[("a", "1"), ("b", "2")]).hash(),
            inputs(&[("a", "1\nb=2")]).hash()
        );
    }

    #[test]
    fn target_variables_use_each_other_and_nothing_unset() {
        let recipe = Recipe::parse(
            Path::new("x.toml"),
            "name = \"x\"\nversion = \"1.2-r3\"\nsummary = \"\"\ntools = []",
        )
        .unwrap();
        let mut target = Target {
            arch: "a".into(),
            triple: "t".into(),
            rust_target: "r".into(),
            debian_arch: "d".into(),
            debian_multiarch: "m".into(),
            environment: [
                ("CC".to_owned(), "cc ${FLAGS}".to_owned()),
                ("FLAGS".into(), "-I${SRC}".into()),
            ]
            .into(),
        };
        let made = environment(&recipe, &target, Path::new("/w"), 2, "").unwrap();
        assert_eq!(made["CC"], "cc -I/w/src");
        assert_eq!(
            (&*made["VERSION"], &*made["JOBS"], &*made["HOME"]),
            ("1.2", "2", "/w/home")
        );
        target.environment.insert("X".into(), "${NOPE}".into());
        assert!(
            environment(&recipe, &target, Path::new("/w"), 2, "")
                .unwrap_err()
                .contains("NOPE")
        );
    }
}
