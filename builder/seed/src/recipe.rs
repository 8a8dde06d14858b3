//! Recipes: what a package of the seed is made of and how.
//!
//! The text is parsed into what was typed ([`typed`]), then checked into what it means, the types of this
//! module. All faults of a file are reported together, each with file and line.

mod check;
mod typed;

use crate::error::nearest;
use crate::glob::Glob;
use check::Check;
use std::ops::Range;
use std::path::{Path, PathBuf};

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

/// Turns what a TOML reader says of an unknown or missing key or value into a sentence with the nearest known one.
pub fn explain_toml(message: &str) -> String {
    let quoted: Vec<&str> = message.split('`').skip(1).step_by(2).collect();
    if message.starts_with("unknown field")
        && let Some((word, known)) = quoted.split_first()
    {
        return match nearest(word, known.iter().copied()) {
            Some(hint) => format!("unknown key `{word}`; did you mean `{hint}`?"),
            None => format!("unknown key `{word}`; known keys here: {}", known.join(", ")),
        };
    }
    if message.starts_with("unknown variant")
        && let Some((word, known)) = quoted.split_first()
    {
        return match nearest(word, known.iter().copied()) {
            Some(hint) => format!("unknown value `{word}`; did you mean `{hint}`?"),
            None => format!("unknown value `{word}`; known values here: {}", known.join(", ")),
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

#[cfg(test)]
mod tests;
