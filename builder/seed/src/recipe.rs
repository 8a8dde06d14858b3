//! Recipes: what a package of the seed is made of and how.
//!
//! The text is parsed into what was typed ([`typed`]), then checked into what it means, the types of this
//! module. All faults of a file are reported together, each with file and line.

mod typed;

use crate::error::nearest;
use crate::glob::Glob;
use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use toml::Spanned;

/// `SOURCE_DATE_EPOCH` of recipes that do not say: seconds since 1970.
pub const DEFAULT_EPOCH: u64 = 1_700_000_000;

/// One recipe, checked.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Name; the stem of its file.
    pub name: String,
    /// apk version of its packages, as `1.2.6-r0`.
    pub version: String,
    /// Description of packages that do not have one of their own.
    pub summary: String,
    /// Home page.
    pub url: String,
    /// SPDX expression.
    pub license: String,
    /// Who maintains the packages.
    pub maintainer: String,
    /// Recipes whose results it uses.
    pub needs: Vec<String>,
    /// Host programs it runs; an absolute path means a file that must be there.
    pub tools: Vec<String>,
    /// Rough CPU seconds.
    pub cost: u32,
    /// Seconds since 1970, the time of everything made.
    pub epoch: u64,
    /// What of its result dependants see in `SYSROOT`.
    pub sysroot: Patterns,
    /// Results that no package carries.
    pub unpackaged: Patterns,
    /// Shell script whose success says that the host has this already.
    pub skip_if: Option<String>,
    /// Inputs from outside.
    pub sources: Vec<Source>,
    /// What is run, in order.
    pub steps: Vec<Step>,
    /// What comes out.
    pub packages: Vec<PackageRecipe>,
}

/// An input from outside the machine or from this project.
#[derive(Clone, Debug)]
pub struct Source {
    /// Where it comes from.
    pub origin: Origin,
    /// Directory below `$SRC`.
    pub unpack: PathBuf,
    /// Patch files, relative to the recipes' directory.
    pub patches: Vec<PathBuf>,
    /// Leading path components dropped from every member.
    pub strip: u32,
    /// The file is not unpacked but put into the directory as it is.
    pub raw: bool,
}

/// Where a source comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// One file of a Debian source package.
    DebianSource {
        /// Source package.
        source: String,
        /// File name in the pool.
        file: String,
        /// Archive area, as `main`.
        component: String,
        /// Suite whose archive has it; the main archive where absent.
        suite: Option<String>,
        /// SHA-256 in lower-case hex.
        sha256: String,
    },
    /// A Debian binary package.
    DebianBinary {
        /// Package.
        package: String,
        /// Which one.
        version: BinaryVersion,
        /// Suite.
        suite: Option<String>,
        /// Debian architecture; the target's where absent.
        arch: Option<String>,
    },
    /// A crate of the cargo registry this machine uses.
    Crate {
        /// Crate.
        name: String,
        /// Exact version.
        version: String,
        /// SHA-256 in lower-case hex.
        sha256: String,
    },
    /// Files of this project.
    Tree {
        /// Directory, relative to the project.
        path: PathBuf,
        /// Files or directories of it; all where empty.
        paths: Vec<PathBuf>,
        /// What is left out, relative to `path`.
        exclude: Patterns,
        /// Workspace crates whose path dependencies are copied.
        crates: Vec<String>,
    },
}

/// Which version of a binary package.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BinaryVersion {
    /// One pinned file.
    Pinned {
        /// Debian version.
        version: String,
        /// Path in the pool, where known.
        file: Option<String>,
        /// SHA-256 in lower-case hex.
        sha256: String,
    },
    /// The newest in the suite, checked against the archive's signed index. For packages whose old
    /// versions leave the pool.
    Newest {
        /// Text the version must hold; may be empty.
        matching: String,
    },
}

/// One thing to run.
#[derive(Clone, Debug)]
pub struct Step {
    /// Name for messages.
    pub name: String,
    /// `sh -eu` script.
    pub run: String,
}

/// One package of a recipe.
#[derive(Clone, Debug)]
pub struct PackageRecipe {
    /// Name.
    pub name: String,
    /// Version, the recipe's where absent.
    pub version: Option<String>,
    /// Description, the recipe's summary where absent.
    pub description: Option<String>,
    /// Home page, the recipe's where absent.
    pub url: Option<String>,
    /// SPDX expression, the recipe's where absent.
    pub license: Option<String>,
    /// apk architecture, the target's where absent.
    pub arch: Option<String>,
    /// Dependencies as apk writes them.
    pub depends: Vec<String>,
    /// Names it answers to.
    pub provides: Vec<String>,
    /// Packages whose files it may overwrite.
    pub replaces: Vec<String>,
    /// Preference when two packages replace each other's files.
    pub replaces_priority: u64,
    /// Preference among providers of a name.
    pub provider_priority: u64,
    /// It is added when all of these are met.
    pub install_if: Vec<String>,
    /// Names that go well with it.
    pub recommends: Vec<String>,
    /// Directories whose changes run the trigger.
    pub triggers: Vec<String>,
    /// Scripts by moment, as `trigger`.
    pub scripts: Vec<(String, String)>,
    /// What it takes from `$OUT`.
    pub files: Patterns,
    /// Owners, modes and nodes that `$OUT` cannot say.
    pub entries: Vec<Entry>,
    /// Whether so: and cmd: names are generated.
    pub elf_scan: bool,
    /// Libraries that give no generated dependency.
    pub so_ignore: Vec<String>,
}

/// What is said of one path of a package.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Path without leading slash.
    pub path: String,
    /// A node to make; `None` speaks of what is there.
    pub node: Option<Node>,
    /// Permission bits, 07777.
    pub mode: Option<u16>,
    /// User name.
    pub owner: String,
    /// Group name.
    pub group: String,
}

/// A node that an [`Entry`] makes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory, empty or not.
    Directory,
    /// A character device by major and minor number.
    Char(u32, u32),
    /// A block device by major and minor number.
    Block(u32, u32),
    /// A named pipe.
    Fifo,
    /// A symbolic link to this.
    Symlink(String),
}

/// A list of patterns; one that starts with `!` takes back what earlier ones matched.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<(bool, Glob)>);

impl PartialEq for Patterns {
    fn eq(&self, other: &Self) -> bool {
        self.texts().eq(other.texts())
    }
}

impl Eq for Patterns {}

impl Patterns {
    /// Compiles a list.
    pub fn new<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Patterns, String> {
        patterns
            .into_iter()
            .map(|text| match text.strip_prefix('!') {
                Some(rest) => Ok((false, Glob::new(rest)?)),
                None => Ok((true, Glob::new(text)?)),
            })
            .collect::<Result<_, _>>()
            .map(Patterns)
    }

    /// Whether a path is taken.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.0
            .iter()
            .fold(false, |taken, (adds, glob)| match taken == *adds {
                true => taken,
                false => taken ^ glob.matches(path),
            })
    }

    /// The patterns that take, as written.
    pub fn takers(&self) -> impl Iterator<Item = &Glob> {
        self.0.iter().filter(|(adds, _)| *adds).map(|(_, glob)| glob)
    }

    /// All patterns as `(adds, text)`.
    pub fn texts(&self) -> impl Iterator<Item = (bool, &str)> {
        self.0.iter().map(|(adds, glob)| (*adds, glob.as_str()))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Recipe {
    /// Parses and checks the text of a recipe. `file` is for messages; its stem must be the recipe's name.
    /// Every fault is one line that starts with file and line.
    pub fn parse(file: &Path, text: &str) -> Result<Recipe, Vec<String>> {
        let mut check = Check {
            file,
            text,
            faults: Vec::new(),
        };
        let typed: typed::Recipe = match toml::from_str(text) {
            Ok(typed) => typed,
            Err(error) => {
                check.fault(error.span(), explain_toml(error.message()));
                return Err(check.faults);
            }
        };
        let recipe = check.recipe(typed);
        if check.faults.is_empty() {
            Ok(recipe)
        } else {
            Err(check.faults)
        }
    }
}

/// Turns serde's "unknown field" and "unknown variant" into a sentence with the nearest known key.
pub(crate) fn explain_toml(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field")
        && let Some((word, known)) = quoted.split_first()
    {
        return match nearest(word, known.iter().copied()) {
            Some(hint) => format!("unknown key `{word}`; did you mean `{hint}`?"),
            None => format!("unknown key `{word}`; known keys here: {}", known.join(", ")),
        };
    }
    if message.starts_with("missing field")
        && let Some(word) = quoted.first()
    {
        return format!("the key `{word}` is missing");
    }
    message.trim().replace('\n', "; ")
}

/// `file:line` of a byte offset.
pub(crate) fn position(file: &Path, text: &str, span: Option<Range<usize>>) -> String {
    match span {
        Some(span) => {
            let line = text.as_bytes()[..span.start.min(text.len())]
                .iter()
                .filter(|b| **b == b'\n')
                .count()
                + 1;
            format!("{}:{line}", file.display())
        }
        None => file.display().to_string(),
    }
}

struct Check<'a> {
    file: &'a Path,
    text: &'a str,
    faults: Vec<String>,
}

impl Check<'_> {
    fn fault(&mut self, span: Option<Range<usize>>, what: impl AsRef<str>) {
        let place = position(self.file, self.text, span);
        self.faults.push(format!("{place}: {}", what.as_ref()));
    }

    fn recipe(&mut self, typed: typed::Recipe) -> Recipe {
        let name = typed.name.get_ref().clone();
        let stem = self
            .file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if name != stem {
            self.fault(
                Some(typed.name.span()),
                format!("name is {name:?} but the file is {stem}.toml; they must be equal"),
            );
        }
        if !is_package_name(&name) {
            self.fault(Some(typed.name.span()), format!("{name:?} is not a package name"));
        }
        if !is_version(typed.version.get_ref()) {
            let text = format!("{:?} is not an apk version, as 1.2.3-r0", typed.version.get_ref());
            self.fault(Some(typed.version.span()), text);
        }
        if typed.step.is_empty() && !typed.source.is_empty() {
            self.fault(None, "there are sources but no [[step]] that uses them");
        }
        let mut needs = Vec::new();
        for need in &typed.needs {
            if *need.get_ref() == name {
                self.fault(Some(need.span()), "a recipe cannot need itself");
            } else if needs.contains(need.get_ref()) {
                self.fault(Some(need.span()), format!("{} is needed twice", need.get_ref()));
            } else {
                needs.push(need.get_ref().clone());
            }
        }
        let sysroot = self.patterns(&typed.sysroot);
        let unpackaged = self.patterns(&typed.unpackaged);
        let sources: Vec<Source> = typed.source.into_iter().filter_map(|s| self.source(s)).collect();
        let mut steps: Vec<Step> = Vec::new();
        for step in typed.step {
            let span = step.span();
            let step = step.into_inner();
            if steps.iter().any(|s| s.name == step.name) {
                self.fault(Some(span), format!("there are two steps named {:?}", step.name));
            } else if step.name.is_empty() || step.run.trim().is_empty() {
                self.fault(Some(span), "a step needs a name and something to run");
            } else if step.run.contains('\0') {
                self.fault(Some(span), "a script cannot hold a NUL byte");
            } else {
                steps.push(Step {
                    name: step.name,
                    run: step.run,
                });
            }
        }
        let mut packages: Vec<PackageRecipe> = Vec::new();
        for package in typed.package {
            let span = package.span();
            let package = self.package(package);
            if packages.iter().any(|p| p.name == package.name) {
                self.fault(
                    Some(span),
                    format!("there are two packages named {}", package.name),
                );
            }
            packages.push(package);
        }
        Recipe {
            name,
            version: typed.version.into_inner(),
            summary: typed.summary,
            url: typed.url,
            license: typed.license,
            maintainer: typed.maintainer,
            needs,
            tools: typed.tools,
            cost: typed.cost,
            epoch: typed.epoch.unwrap_or(DEFAULT_EPOCH),
            sysroot,
            unpackaged,
            skip_if: typed.skip_if,
            sources,
            steps,
            packages,
        }
    }

    fn patterns(&mut self, typed: &[Spanned<String>]) -> Patterns {
        let mut all = Vec::new();
        for text in typed {
            match Patterns::new([text.get_ref().as_str()]) {
                Ok(one) => all.extend(one.0),
                Err(why) => self.fault(Some(text.span()), why),
            }
        }
        Patterns(all)
    }

    fn relative(&mut self, span: &Range<usize>, key: &str, text: &str) -> PathBuf {
        if !is_relative(text) {
            self.fault(
                Some(span.clone()),
                format!("{key} = {text:?} must be a relative path without empty, . or .. parts"),
            );
        }
        PathBuf::from(text)
    }

    fn source(&mut self, typed: Spanned<typed::Source>) -> Option<Source> {
        let span = typed.span();
        let typed = typed.into_inner();
        let kind = typed.kind.get_ref().clone();
        const COMMON: [&str; 5] = ["kind", "unpack", "patches", "strip", "raw"];
        let own: &[&str] = match kind.as_str() {
            "debian-source" => &["source", "file", "component", "version", "suite", "sha256"],
            "debian-binary" => &[
                "package",
                "version",
                "newest-matching",
                "suite",
                "arch",
                "file",
                "sha256",
            ],
            "crate" => &["name", "version", "sha256"],
            "tree" => &["path", "paths", "exclude", "crates"],
            _ => {
                let known = ["debian-source", "debian-binary", "crate", "tree"];
                let hint = nearest(&kind, known).map(|k| format!("; did you mean {k:?}?"));
                self.fault(
                    Some(typed.kind.span()),
                    format!(
                        "unknown kind of source {kind:?}{}",
                        hint.unwrap_or_else(|| format!("; known: {}", known.join(", ")))
                    ),
                );
                return None;
            }
        };
        for (key, given) in [
            ("sha256", typed.sha256.is_some()),
            ("file", typed.file.is_some()),
            ("source", typed.source.is_some()),
            ("component", typed.component.is_some()),
            ("package", typed.package.is_some()),
            ("name", typed.name.is_some()),
            ("version", typed.version.is_some()),
            ("newest-matching", typed.newest_matching.is_some()),
            ("suite", typed.suite.is_some()),
            ("arch", typed.arch.is_some()),
            ("path", typed.path.is_some()),
            ("paths", !typed.paths.is_empty()),
            ("exclude", !typed.exclude.is_empty()),
            ("crates", !typed.crates.is_empty()),
        ] {
            if given && !own.contains(&key) {
                self.fault(
                    Some(span.clone()),
                    format!(
                        "the key `{key}` means nothing for kind {kind:?}; its keys are {}, {}",
                        COMMON.join(", "),
                        own.join(", ")
                    ),
                );
            }
        }
        let before = self.faults.len();
        let required = |check: &mut Self, key: &str, value: Option<String>| -> String {
            if value.is_none() {
                check.fault(
                    Some(span.clone()),
                    format!("a source of kind {kind:?} needs the key `{key}`"),
                );
            }
            value.unwrap_or_default()
        };
        let unpack = required(self, "unpack", typed.unpack);
        let origin = match kind.as_str() {
            "debian-source" => Origin::DebianSource {
                source: required(self, "source", typed.source),
                file: required(self, "file", typed.file),
                component: typed.component.unwrap_or_else(|| "main".into()),
                suite: typed.suite,
                sha256: required(self, "sha256", typed.sha256),
            },
            "debian-binary" => {
                let package = required(self, "package", typed.package);
                let version = required(self, "version", typed.version);
                let sha256 = required(self, "sha256", typed.sha256);
                let version = if version == "newest" {
                    if sha256 != "from-index" || typed.file.is_some() {
                        self.fault(
                            Some(span.clone()),
                            "version = \"newest\" goes with sha256 = \"from-index\" and without file",
                        );
                    }
                    BinaryVersion::Newest {
                        matching: typed.newest_matching.unwrap_or_default(),
                    }
                } else {
                    if sha256 == "from-index" || typed.newest_matching.is_some() {
                        self.fault(
                            Some(span.clone()),
                            "sha256 = \"from-index\" and newest-matching go with version = \"newest\" only",
                        );
                    }
                    BinaryVersion::Pinned {
                        version,
                        file: typed.file,
                        sha256,
                    }
                };
                Origin::DebianBinary {
                    package,
                    version,
                    suite: typed.suite,
                    arch: typed.arch,
                }
            }
            "crate" => Origin::Crate {
                name: required(self, "name", typed.name),
                version: required(self, "version", typed.version),
                sha256: required(self, "sha256", typed.sha256),
            },
            _ => {
                let path = required(self, "path", typed.path);
                // A missing path is told already.
                let path = if path == "." || path.is_empty() {
                    PathBuf::new()
                } else {
                    self.relative(&span, "path", &path)
                };
                if !typed.crates.is_empty() && path != Path::new("") {
                    self.fault(Some(span.clone()), "`crates` goes with path = \".\"");
                }
                if !typed.crates.is_empty() && (!typed.paths.is_empty() || !typed.exclude.is_empty()) {
                    self.fault(
                        Some(span.clone()),
                        "`crates` chooses the files; drop `paths` and `exclude`",
                    );
                }
                let paths = typed
                    .paths
                    .iter()
                    .map(|p| self.relative(&span, "paths", p))
                    .collect();
                let exclude = Patterns::new(typed.exclude.iter().map(String::as_str)).unwrap_or_else(|why| {
                    self.fault(Some(span.clone()), why);
                    Patterns::default()
                });
                Origin::Tree {
                    path,
                    paths,
                    exclude,
                    crates: typed.crates,
                }
            }
        };
        if self.faults.len() > before {
            return None;
        }
        let sha256 = match &origin {
            Origin::DebianSource { sha256, .. } | Origin::Crate { sha256, .. } => Some(sha256),
            Origin::DebianBinary {
                version: BinaryVersion::Pinned { sha256, .. },
                ..
            } => Some(sha256),
            _ => None,
        };
        if let Some(sha256) = sha256
            && !is_sha256(sha256)
        {
            self.fault(
                Some(span.clone()),
                format!("sha256 = {sha256:?} is not 64 lower-case hex digits"),
            );
        }
        match &origin {
            Origin::DebianSource {
                source,
                file,
                component,
                ..
            } => {
                for (key, text) in [("source", source), ("file", file), ("component", component)] {
                    if !is_file_name(text) {
                        self.fault(Some(span.clone()), format!("{key} = {text:?} is not a file name"));
                    }
                }
            }
            Origin::DebianBinary { package, version, .. } => {
                if !is_file_name(package) {
                    self.fault(
                        Some(span.clone()),
                        format!("package = {package:?} is not a package name"),
                    );
                }
                if let BinaryVersion::Pinned { file: Some(file), .. } = version {
                    self.relative(&span, "file", file);
                }
            }
            Origin::Crate { name, version, .. } => {
                for (key, text) in [("name", name), ("version", version)] {
                    if !is_file_name(text) {
                        self.fault(Some(span.clone()), format!("{key} = {text:?} cannot be right"));
                    }
                }
            }
            Origin::Tree { .. } => {
                if typed.raw || typed.strip.is_some() {
                    self.fault(
                        Some(span.clone()),
                        "`raw` and `strip` mean nothing for kind \"tree\"",
                    );
                }
            }
        }
        let strip = typed.strip.unwrap_or(match origin {
            Origin::DebianSource { .. } | Origin::Crate { .. } => 1,
            _ => 0,
        });
        Some(Source {
            unpack: self.relative(&span, "unpack", &unpack),
            patches: typed
                .patches
                .iter()
                .map(|p| self.relative(&span, "patches", p))
                .collect(),
            strip,
            raw: typed.raw,
            origin,
        })
    }

    fn package(&mut self, typed: Spanned<typed::Package>) -> PackageRecipe {
        let span = typed.span();
        let typed = typed.into_inner();
        if !is_package_name(&typed.name) {
            self.fault(
                Some(span.clone()),
                format!("{:?} is not a package name", typed.name),
            );
        }
        if let Some(version) = &typed.version
            && !is_version(version)
        {
            self.fault(
                Some(span.clone()),
                format!("{version:?} is not an apk version, as 1.2.3-r0"),
            );
        }
        const MOMENTS: [&str; 7] = [
            "trigger",
            "pre-install",
            "post-install",
            "pre-deinstall",
            "post-deinstall",
            "pre-upgrade",
            "post-upgrade",
        ];
        for moment in typed.scripts.keys() {
            if !MOMENTS.contains(&moment.as_str()) {
                let hint = nearest(moment, MOMENTS).map(|m| format!("; did you mean `{m}`?"));
                self.fault(
                    Some(span.clone()),
                    format!("unknown script `{moment}`{}", hint.unwrap_or_default()),
                );
            }
        }
        if !typed.triggers.is_empty() && !typed.scripts.contains_key("trigger") {
            self.fault(Some(span.clone()), "there are triggers but no script `trigger`");
        }
        let mut seen = BTreeSet::new();
        let mut entries = Vec::new();
        for entry in typed.entry {
            if !seen.insert(entry.get_ref().path.clone()) {
                self.fault(
                    Some(entry.span()),
                    format!("two entries for {}", entry.get_ref().path),
                );
            }
            entries.extend(self.entry(entry));
        }
        PackageRecipe {
            files: self.patterns(&typed.files),
            name: typed.name,
            version: typed.version,
            description: typed.description,
            url: typed.url,
            license: typed.license,
            arch: typed.arch,
            depends: typed.depends,
            provides: typed.provides,
            replaces: typed.replaces,
            replaces_priority: typed.replaces_priority,
            provider_priority: typed.provider_priority,
            install_if: typed.install_if,
            recommends: typed.recommends,
            triggers: typed.triggers,
            scripts: typed.scripts.into_iter().collect(),
            entries,
            elf_scan: typed.elf_scan.unwrap_or(true),
            so_ignore: typed.so_ignore,
        }
    }

    fn entry(&mut self, typed: Spanned<typed::Entry>) -> Option<Entry> {
        let span = typed.span();
        let typed = typed.into_inner();
        let before = self.faults.len();
        self.relative(&span, "path", &typed.path);
        let numbers = typed.major.zip(typed.minor);
        let node = match typed.kind.as_deref() {
            None => None,
            Some("dir") => Some(Node::Directory),
            Some("fifo") => Some(Node::Fifo),
            Some("symlink") => match &typed.target {
                Some(target) if !target.is_empty() => Some(Node::Symlink(target.clone())),
                _ => {
                    self.fault(Some(span.clone()), "an entry of kind \"symlink\" needs `target`");
                    None
                }
            },
            Some(kind @ ("char" | "block")) => match numbers {
                Some((major, minor)) if kind == "char" => Some(Node::Char(major, minor)),
                Some((major, minor)) => Some(Node::Block(major, minor)),
                None => {
                    self.fault(
                        Some(span.clone()),
                        format!("an entry of kind {kind:?} needs `major` and `minor`"),
                    );
                    None
                }
            },
            Some(other) => {
                let known = ["dir", "char", "block", "fifo", "symlink"];
                self.fault(
                    Some(span.clone()),
                    format!("unknown kind of entry {other:?}; known: {}", known.join(", ")),
                );
                None
            }
        };
        let device = matches!(node, Some(Node::Char(..) | Node::Block(..)));
        if (typed.major.is_some() || typed.minor.is_some()) && !device {
            self.fault(
                Some(span.clone()),
                "`major` and `minor` go with kind \"char\" or \"block\"",
            );
        }
        if typed.target.is_some() && !matches!(node, Some(Node::Symlink(_))) {
            self.fault(Some(span.clone()), "`target` goes with kind \"symlink\"");
        }
        let mode = typed.mode.and_then(|text| match u16::from_str_radix(&text, 8) {
            Ok(mode) if mode <= 0o7777 && !text.starts_with('+') => Some(mode),
            _ => {
                self.fault(
                    Some(span.clone()),
                    format!("mode = {text:?} is not octal, as \"4755\""),
                );
                None
            }
        });
        let text = |value: Option<String>| value.unwrap_or_else(|| "root".into());
        (self.faults.len() == before).then(|| Entry {
            path: typed.path,
            node,
            mode,
            owner: text(typed.owner),
            group: text(typed.group),
        })
    }
}

/// Whether a path is relative and stays below its root.
pub(crate) fn is_relative(path: &str) -> bool {
    !path.is_empty()
        && !path.contains(['\0', '\n'])
        && path.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

fn is_file_name(name: &str) -> bool {
    is_relative(name) && !name.contains('/')
}

fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_package_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.' || c == '_')
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+._-".contains(&b))
}

/// `1.2.6-r0`: the apk version with a revision, which packages must have.
fn is_version(version: &str) -> bool {
    let Some((upstream, revision)) = version.rsplit_once("-r") else {
        return false;
    };
    !revision.is_empty()
        && revision.bytes().all(|b| b.is_ascii_digit())
        && upstream.starts_with(|c: char| c.is_ascii_digit())
        && upstream
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"._~".contains(&b))
}

#[cfg(test)]
mod tests;
