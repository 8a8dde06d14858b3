//! The recipes' directory: all recipes, the target definition and the list of host tools.

use crate::error::{IoContext, Result, SeedError, nearest};
use crate::recipe::{Recipe, explain_toml, position};
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The file that maps host programs to Debian packages; not a recipe.
const HOST_TOOLS: &str = "host-tools.toml";

/// What is built for: `target/ARCH.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Target {
    /// apk's name of the architecture.
    pub arch: String,
    /// LLVM triple.
    pub triple: String,
    /// Rust's name of the target.
    pub rust_target: String,
    /// Debian's name of the architecture.
    pub debian_arch: String,
    /// Debian's multiarch directory name.
    pub debian_multiarch: String,
    /// Variables of every step; `${NAME}` in a value is another variable of the step.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

/// Which Debian package brings a host program: `host-tools.toml`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct HostTools {
    /// Files that are not programs, by absolute path.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Programs by name.
    #[serde(flatten)]
    pub programs: BTreeMap<String, String>,
}

impl HostTools {
    /// The Debian package that brings a program or an absolute path.
    pub fn package(&self, tool: &str) -> Option<&str> {
        self.programs
            .get(tool)
            .or_else(|| self.files.get(tool))
            .map(String::as_str)
    }
}

/// Every recipe with what they have in common.
#[derive(Clone, Debug)]
pub struct Recipes {
    /// The recipes' directory.
    pub dir: PathBuf,
    /// Recipes by name.
    pub all: BTreeMap<String, Recipe>,
    /// What is built for.
    pub target: Target,
    /// The target definition without comments and order, for hashes.
    pub(crate) target_text: String,
    /// Host programs.
    pub host_tools: HostTools,
    /// Recipes in an order in which every one comes after what it needs.
    pub order: Vec<String>,
}

impl Recipes {
    /// Reads a directory. With `only`, faults of recipes that the named ones do not need are left out of the
    /// result; otherwise any fault refuses the whole directory.
    pub fn load(dir: &Path, arch: &str, only: &[String]) -> Result<Recipes> {
        let mut faults: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut all = BTreeMap::new();
        let mut names = BTreeSet::new();
        for file in recipe_files(dir)? {
            let stem = file
                .file_stem()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            names.insert(stem.clone());
            let text = fs::read_to_string(&file).at("reading", &file)?;
            match Recipe::parse(&file, &text) {
                Ok(recipe) => {
                    all.insert(stem, recipe);
                }
                Err(found) => {
                    faults.insert(stem, found);
                }
            }
        }
        let mut common = Vec::new();
        let target_file = dir.join("target").join(format!("{arch}.toml"));
        let target = read_toml::<Target>(&target_file, &mut common);
        let host_tools = read_toml::<HostTools>(&dir.join(HOST_TOOLS), &mut common);
        for name in only {
            if !names.contains(name) {
                let hint = nearest(name, names.iter().map(String::as_str)).map(str::to_owned);
                return Err(SeedError::UnknownRecipe {
                    name: name.clone(),
                    hint,
                });
            }
        }
        check_needs(&all, &names, dir, &mut faults);
        check_patches(&all, dir, &mut faults);
        check_package_names(&all, dir, &mut faults);
        let wanted = closure(&all, only);
        let relevant = |name: &String| only.is_empty() || wanted.contains(name);
        let mut told: Vec<String> = common;
        told.extend(
            faults
                .iter()
                .filter(|(name, _)| relevant(name))
                .flat_map(|(_, found)| found.clone()),
        );
        let bad: BTreeSet<String> = faults.into_keys().collect();
        all.retain(|name, _| !bad.contains(name));
        if !only.is_empty() {
            // What needs a broken recipe is not usable either.
            while let Some(name) = all
                .values()
                .find(|r| r.needs.iter().any(|n| !all.contains_key(n)))
                .map(|r| r.name.clone())
            {
                all.remove(&name);
            }
        }
        let order = match topological(&all) {
            Ok(order) => order,
            Err(cycle) => {
                told.push(format!(
                    "{}: recipes need each other in a circle: {cycle}",
                    dir.display()
                ));
                Vec::new()
            }
        };
        let (Some((target, target_text)), Some((host_tools, _)), true) =
            (target, host_tools, told.is_empty())
        else {
            return Err(SeedError::Recipes { faults: told });
        };
        Ok(Recipes {
            dir: dir.to_owned(),
            all,
            target,
            target_text,
            host_tools,
            order,
        })
    }

    /// The recipes needed, directly or not, in the order of `order`; not the recipe itself.
    pub fn needed(&self, name: &str) -> Vec<String> {
        let mut set = closure(&self.all, &[name.to_owned()]);
        set.remove(name);
        self.order.iter().filter(|n| set.contains(*n)).cloned().collect()
    }

    /// The named recipes and all they need; everything where no name is given.
    pub fn selection(&self, only: &[String]) -> BTreeSet<String> {
        if only.is_empty() {
            self.all.keys().cloned().collect()
        } else {
            closure(&self.all, only)
        }
    }
}

fn recipe_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).at("reading the recipes' directory", dir)? {
        let path = entry.at("reading the recipes' directory", dir)?.path();
        if path.extension().is_some_and(|e| e == "toml")
            && path.file_name().is_some_and(|n| n != HOST_TOOLS)
            && path.is_file()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_toml<T: for<'de> Deserialize<'de>>(file: &Path, faults: &mut Vec<String>) -> Option<(T, String)> {
    let text = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) => {
            faults.push(format!("reading {}: {error}", file.display()));
            return None;
        }
    };
    let table = text.parse::<toml::Table>().ok();
    match toml::from_str(&text) {
        Ok(value) => Some((value, table.map(|t| t.to_string()).unwrap_or_default())),
        Err(error) => {
            let place = position(file, &text, error.span());
            faults.push(format!("{place}: {}", explain_toml(error.message())));
            None
        }
    }
}

fn check_needs(
    all: &BTreeMap<String, Recipe>,
    names: &BTreeSet<String>,
    dir: &Path,
    faults: &mut BTreeMap<String, Vec<String>>,
) {
    for recipe in all.values() {
        for need in recipe.needs.iter().filter(|need| !names.contains(*need)) {
            let hint = nearest(need, names.iter().map(String::as_str));
            let hint = hint.map(|h| format!("; did you mean {h:?}?")).unwrap_or_default();
            faults.entry(recipe.name.clone()).or_default().push(format!(
                "{}: it needs {need:?}, which is no recipe{hint}",
                dir.join(format!("{}.toml", recipe.name)).display()
            ));
        }
    }
}

fn check_patches(all: &BTreeMap<String, Recipe>, dir: &Path, faults: &mut BTreeMap<String, Vec<String>>) {
    for recipe in all.values() {
        for patch in recipe
            .sources
            .iter()
            .flat_map(|s| &s.patches)
            .filter(|p| !dir.join(p).is_file())
        {
            faults.entry(recipe.name.clone()).or_default().push(format!(
                "{}: the patch {} is not there",
                dir.join(format!("{}.toml", recipe.name)).display(),
                dir.join(patch).display()
            ));
        }
    }
}

fn check_package_names(
    all: &BTreeMap<String, Recipe>,
    dir: &Path,
    faults: &mut BTreeMap<String, Vec<String>>,
) {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for recipe in all.values() {
        for package in &recipe.packages {
            if let Some(other) = owners.insert(&package.name, &recipe.name)
                && other != recipe.name
            {
                faults.entry(recipe.name.clone()).or_default().push(format!(
                    "{}: the recipe {other} already makes a package named {}",
                    dir.join(format!("{}.toml", recipe.name)).display(),
                    package.name
                ));
            }
        }
    }
}

fn closure(all: &BTreeMap<String, Recipe>, roots: &[String]) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open: Vec<String> = roots.to_vec();
    while let Some(name) = open.pop() {
        if let Some(recipe) = all.get(&name) {
            open.extend(recipe.needs.iter().filter(|n| !found.contains(*n)).cloned());
        }
        found.insert(name);
    }
    found
}

/// An order that respects needs, or the circle in words.
fn topological(all: &BTreeMap<String, Recipe>) -> Result<Vec<String>, String> {
    #[derive(Clone, Copy, PartialEq)]
    enum Mark {
        Open,
        Done,
    }
    let mut marks: BTreeMap<&str, Mark> = BTreeMap::new();
    let mut order = Vec::new();
    for root in all.keys() {
        // (name, next need to look at); a path from the root, so that a circle can be told.
        let mut path: Vec<(&str, usize)> = Vec::new();
        if !marks.contains_key(root.as_str()) {
            path.push((root, 0));
            marks.insert(root, Mark::Open);
        }
        while let Some((name, next)) = path.last_mut() {
            let needs = &all[*name].needs;
            match needs.get(*next) {
                Some(need) => {
                    *next += 1;
                    match marks.get(need.as_str()) {
                        Some(Mark::Done) => {}
                        Some(Mark::Open) => {
                            let start = path.iter().position(|(n, _)| n == need).unwrap_or(0);
                            let mut names: Vec<&str> = path[start..].iter().map(|(n, _)| *n).collect();
                            names.push(need);
                            return Err(names.join(" -> "));
                        }
                        None if all.contains_key(need) => {
                            marks.insert(need, Mark::Open);
                            path.push((need, 0));
                        }
                        // Unknown needs are another fault.
                        None => {}
                    }
                }
                None => {
                    marks.insert(name, Mark::Done);
                    order.push((*name).to_owned());
                    path.pop();
                }
            }
        }
    }
    Ok(order)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(recipes: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("target")).unwrap();
        fs::write(
            dir.path().join("target/x86_64.toml"),
            "arch = \"x86_64\"\ntriple = \"t\"\nrust-target = \"r\"\ndebian-arch = \"amd64\"\ndebian-multiarch = \"m\"",
        )
        .unwrap();
        fs::write(
            dir.path().join(HOST_TOOLS),
            "make = \"make\"\n[files]\n\"/usr/lib/x\" = \"libx-dev\"",
        )
        .unwrap();
        for (name, more) in recipes {
            let text = format!("name = {name:?}\nversion = \"1-r0\"\nsummary = \"\"\n{more}");
            fs::write(dir.path().join(format!("{name}.toml")), text).unwrap();
        }
        dir
    }

    fn load(recipes: &[(&str, &str)], only: &[&str]) -> Result<Recipes> {
        let only: Vec<String> = only.iter().map(|s| s.to_string()).collect();
        Recipes::load(directory(recipes).path(), "x86_64", &only)
    }

    #[test]
    fn order_follows_needs() {
        let recipes = load(
            &[
                ("a", "needs = [\"c\"]"),
                ("b", ""),
                ("c", "needs = [\"b\"]"),
                ("d", ""),
            ],
            &[],
        )
        .unwrap();
        assert_eq!(recipes.order, ["b", "c", "a", "d"]);
        assert_eq!(recipes.needed("a"), ["b", "c"]);
        assert_eq!(
            recipes.selection(&["c".into()]),
            ["b".to_string(), "c".into()].into()
        );
        assert_eq!(recipes.host_tools.package("make"), Some("make"));
        assert_eq!(recipes.host_tools.package("/usr/lib/x"), Some("libx-dev"));
    }

    #[test]
    fn a_circle_is_told_as_a_path() {
        let error = load(
            &[
                ("a", "needs = [\"b\"]"),
                ("b", "needs = [\"c\"]"),
                ("c", "needs = [\"b\"]"),
            ],
            &[],
        )
        .unwrap_err()
        .to_string();
        assert!(error.contains("in a circle: b -> c -> b"), "{error}");
    }

    #[test]
    fn unknown_needs_and_names_get_a_hint() {
        let error = load(&[("musl", ""), ("b", "needs = [\"mussl\"]")], &[])
            .unwrap_err()
            .to_string();
        assert!(error.contains("did you mean \"musl\"?"), "{error}");
        let error = load(&[("musl", "")], &["mulsl"]).unwrap_err().to_string();
        assert!(error.contains("did you mean musl?"), "{error}");
    }

    #[test]
    fn a_broken_recipe_stops_only_those_that_need_it() {
        let recipes = [("bad", "zzz = 1"), ("good", ""), ("user", "needs = [\"bad\"]")];
        assert!(load(&recipes, &[]).is_err());
        assert!(
            load(&recipes, &["user"])
                .unwrap_err()
                .to_string()
                .contains("bad.toml:4")
        );
        let set = load(&recipes, &["good"]).unwrap();
        assert_eq!(set.all.keys().collect::<Vec<_>>(), ["good"]);
    }

    #[test]
    fn two_recipes_cannot_make_one_package() {
        let package = "[[package]]\nname = \"p\"";
        let error = load(&[("a", package), ("b", package)], &[])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("b.toml: the recipe a already makes a package named p"),
            "{error}"
        );
    }

    #[test]
    fn missing_patches_are_found_before_anything_runs() {
        let text = "[[source]]\nkind = \"tree\"\npath = \"x\"\nunpack = \"x\"\npatches = [\"p/no.patch\"]\n[[step]]\nname = \"s\"\nrun = \"x\"";
        let error = load(&[("a", text)], &[]).unwrap_err().to_string();
        assert!(error.contains("p/no.patch is not there"), "{error}");
    }
}
