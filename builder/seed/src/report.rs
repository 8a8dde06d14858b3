//! What a run tells while it goes on and when it has ended.

use crate::plan::RecipeStatus;
use std::path::PathBuf;

/// Hears what happens during a run. All calls come from the thread that called [`crate::build`].
pub trait Progress {
    /// Something happened.
    fn event(&mut self, event: Event<'_>);
}

/// For callers that do not want to hear anything.
impl Progress for () {
    fn event(&mut self, _: Event<'_>) {}
}

/// Something that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The plan is made; nothing has run.
    Planned {
        /// Every selected recipe.
        statuses: &'a [RecipeStatus],
    },
    /// A recipe starts.
    Started {
        /// Recipe.
        recipe: &'a str,
        /// Why it is run.
        reasons: &'a [String],
        /// How long the last run took, or the recipe's own guess.
        expected_seconds: f64,
    },
    /// A recipe enters a stage.
    Stage {
        /// Recipe.
        recipe: &'a str,
        /// What it does now.
        stage: Stage<'a>,
        /// Parts done.
        done: usize,
        /// Parts in all.
        total: usize,
    },
    /// Time passed; for bars that move by the clock.
    Tick {
        /// A running recipe.
        recipe: &'a str,
        /// Since it started.
        seconds: f64,
    },
    /// A recipe has ended.
    Finished {
        /// Recipe.
        recipe: &'a str,
        /// How.
        outcome: &'a Outcome,
    },
    /// The repository is being written.
    Repository {
        /// Packages in it.
        packages: usize,
    },
}

/// What a recipe does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage<'a> {
    /// Its sources are fetched.
    Fetch,
    /// A step runs; "unpack" is the first.
    Step(&'a str),
    /// Its packages are written.
    Package,
}

/// How a recipe ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing had changed.
    Cached,
    /// It was run.
    Built,
    /// Only its packages were made again.
    Repackaged,
    /// The host has it.
    Skipped,
    /// It failed; the text says how.
    Failed(String),
    /// It was not built because another recipe failed.
    Blocked {
        /// The recipe that failed.
        because: String,
    },
}

impl Outcome {
    /// Whether there is a result.
    pub fn is_usable(&self) -> bool {
        !matches!(self, Outcome::Failed(_) | Outcome::Blocked { .. })
    }
}

/// How one recipe did.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RecipeReport {
    /// Recipe.
    pub name: String,
    /// Version of its packages.
    pub version: String,
    /// How it ended.
    pub outcome: Outcome,
    /// Why it was run.
    pub reasons: Vec<String>,
    /// Wall-clock seconds of the run that made the result, now or earlier.
    pub seconds: f64,
    /// The same by step.
    pub steps: Vec<(String, f64)>,
    /// Directory of the result (`out/`, `log`).
    pub result: Option<PathBuf>,
    /// Bytes that it left in `$OUT`.
    pub output_bytes: u64,
    /// Packages made of it.
    pub packages: Vec<PackageReport>,
    /// What a person should look at.
    pub warnings: Vec<String>,
}

impl Default for RecipeReport {
    fn default() -> Self {
        RecipeReport {
            name: String::new(),
            version: String::new(),
            outcome: Outcome::Cached,
            reasons: Vec::new(),
            seconds: 0.0,
            steps: Vec::new(),
            result: None,
            output_bytes: 0,
            packages: Vec::new(),
            warnings: Vec::new(),
        }
    }
}

/// One package file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackageReport {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// File.
    pub path: PathBuf,
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes installed.
    pub installed: u64,
    /// Identity of the package: SHA-256 of its metadata payload, in hex.
    pub identity: String,
}

/// How a run did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Report {
    /// The repository's directory, with `Packages.adb` in it.
    pub repository: PathBuf,
    /// The public key that verifies it.
    pub key: PathBuf,
    /// Recipes in the order of their needs.
    pub recipes: Vec<RecipeReport>,
    /// Packages in the index, those of recipes that were not selected too.
    pub packages: usize,
    /// Bytes of the package files in the index.
    pub bytes: u64,
    /// Bytes of the index.
    pub index_bytes: u64,
    /// Faults of the repository as a whole: dependencies that nobody provides, files of two packages.
    pub problems: Vec<String>,
    /// Wall-clock seconds of this run.
    pub seconds: f64,
}

impl Report {
    /// Whether every selected recipe has a result and the repository has no fault.
    pub fn is_complete(&self) -> bool {
        self.problems.is_empty() && self.recipes.iter().all(|r| r.outcome.is_usable())
    }
}
