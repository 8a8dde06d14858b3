//! Builds the embedded package repository from distribution sources.
//!
//! Recipes (`configs/seed/*.toml`) say which pinned sources are wanted, which steps make files of them and which
//! packages carry the files. The engine fetches, runs what changed, independent recipes at the same time, and
//! writes a signed apk v3 repository. A recipe that fails leaves the others usable.
//!
//! Two caches lie behind each recipe: the result of its steps, named by a hash of everything that enters
//! them, and the packages made of a result. What is current is told apart in words: see [`explain`].
//!
//! The format of recipes, the environment of steps and the layout of the store are in `FORMAT.md`. This crate
//! never does anything when images are built, and never needs root.

mod archive;
mod build;
mod client;
mod elf;
mod engine;
mod error;
mod fetch;
mod glob;
mod jobserver;
mod keys;
mod package;
mod plan;
mod project;
mod prune;
mod recipe;
mod recipes;
mod report;
mod repository;
mod staged;
mod step;
mod store;
mod tools;
mod unpack;

pub use archive::ArchiveUris;
pub use error::{Result, SeedError, nearest};
pub use plan::{RecipeStatus, State};
pub use recipe::explain_toml;
pub use report::{Event, Outcome, PackageReport, Progress, RecipeReport, Report, Stage};
pub use step::Cancel;
pub use store::Store;
pub use tools::HostTool;

use std::path::{Path, PathBuf};

/// What to build and where.
#[derive(Clone, Debug)]
pub struct SeedOptions {
    /// Directory of the recipes, `configs/seed`.
    pub recipes_dir: PathBuf,
    /// The project, whose files `tree` sources are.
    pub project_root: PathBuf,
    /// The store, see [`Store::of_user`].
    pub store: PathBuf,
    /// apk's name of the architecture; `target/ARCH.toml` says the rest.
    pub arch: String,
    /// Processes at a time, all recipes together.
    pub jobs: usize,
    /// Only these recipes and what they need; all where empty.
    pub only: Vec<String>,
    /// Recipes to run even when nothing changed.
    pub force: Vec<String>,
    /// Ask the archive again what "newest" is.
    pub refresh: bool,
    /// Fetch nothing.
    pub offline: bool,
    /// Where the Debian archive is; what apt is configured with where absent.
    pub archive: Option<ArchiveUris>,
    /// Ends the run when asked.
    pub cancel: Cancel,
}

impl SeedOptions {
    /// Everything of a project, with as many jobs as there are cores, for x86_64.
    pub fn new(project_root: &Path, store: &Path) -> SeedOptions {
        SeedOptions {
            recipes_dir: project_root.join("configs/seed"),
            project_root: project_root.to_owned(),
            store: store.to_owned(),
            arch: "x86_64".into(),
            jobs: std::thread::available_parallelism().map_or(1, usize::from),
            only: Vec::new(),
            force: Vec::new(),
            refresh: false,
            offline: false,
            archive: None,
            cancel: Cancel::new(),
        }
    }
}

/// Builds what changed and writes the repository. Recipes that fail are told in the report; an error means
/// that nothing could be done.
pub fn build(options: &SeedOptions, progress: &mut dyn Progress) -> Result<Report> {
    engine::build(options, progress)
}

/// Says of every selected recipe what would be done and why, without doing it.
pub fn explain(options: &SeedOptions) -> Result<Vec<RecipeStatus>> {
    engine::explain(options)
}

/// The directory of an architecture's repository. As a repository for apk it is the base of `v3` lines: its
/// parent is what stands in `/etc/apk/repositories`.
pub fn repository_dir(store: &Path, arch: &str) -> PathBuf {
    Store::new(store).repository(arch)
}

/// Host programs that the selected recipes want and the machine has not.
pub fn missing_host_tools(options: &SeedOptions) -> Result<Vec<HostTool>> {
    engine::missing_host_tools(options)
}

/// Whether apt's helper for fetching files is there.
pub fn can_fetch() -> bool {
    !archive::client_missing()
}

/// Removes what no recipe's last result is: older results, packages of older texts, scratch of runs that
/// failed, and sources that no recipe names. What another run uses at this moment stays. Gives the bytes
/// freed.
pub fn prune(options: &SeedOptions) -> Result<u64> {
    prune::prune(options)
}
