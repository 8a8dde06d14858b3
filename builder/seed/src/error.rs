//! What can go wrong, said so that the reader knows what to do.

pub use lycia_dinit::suggest::nearest;
use std::io;
use std::path::{Path, PathBuf};

/// An error of the seed builder.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeedError {
    /// Recipes, the target definition or the host tool list cannot be used. One line per fault.
    #[error("the seed recipes cannot be used:\n{}", faults.join("\n"))]
    Recipes {
        /// Every fault found, each with its file and line.
        faults: Vec<String>,
    },
    /// The file system refused something.
    #[error("{action} {}: {source}", path.display())]
    Io {
        /// What was being done, as "writing".
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A source could not be had.
    #[error(
        "recipe {recipe}: cannot get {what} ({location}): {why}. Recipes that do not need it are still usable"
    )]
    Fetch {
        /// The recipe.
        recipe: String,
        /// The file or crate.
        what: String,
        /// Path inside the archive, never the host.
        location: String,
        /// Why.
        why: String,
    },
    /// An archive is damaged or wants to write outside its directory.
    #[error("unpacking {}: {why}", archive.display())]
    Unpack {
        /// The archive.
        archive: PathBuf,
        /// Why.
        why: String,
    },
    /// A program of the host failed or could not be started.
    #[error("running {program}: {why}")]
    Program {
        /// The program.
        program: String,
        /// What it said or why it could not run.
        why: String,
    },
    /// A step of a recipe failed.
    #[error(
        "recipe {recipe}, step {step}: {how}; whole log: {}; its last lines:\n{tail}", log.display()
    )]
    Step {
        /// The recipe.
        recipe: String,
        /// The step.
        step: String,
        /// Exit status or signal.
        how: String,
        /// The log file.
        log: PathBuf,
        /// The last lines of the log.
        tail: String,
    },
    /// The staged files and the package list do not agree, or a package cannot be written.
    #[error("recipe {recipe}: {why}")]
    Packaging {
        /// The recipe.
        recipe: String,
        /// Why.
        why: String,
    },
    /// The repository could not be completed.
    #[error("repository {}: {why}", path.display())]
    Repository {
        /// Its directory.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The signing key cannot be read or made.
    #[error("signing key {}: {why}", path.display())]
    Key {
        /// The key file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// A recipe was asked for that does not exist.
    #[error("there is no recipe {name}{}", suggestion(hint))]
    UnknownRecipe {
        /// The name asked for.
        name: String,
        /// The nearest name that exists.
        hint: Option<String>,
    },
    /// The run was told to stop.
    #[error("stopped on request; nothing unfinished was kept")]
    Cancelled,
}

fn suggestion(hint: &Option<String>) -> String {
    hint.as_ref()
        .map(|name| format!("; did you mean {name}?"))
        .unwrap_or_default()
}

/// Result of the seed builder.
pub type Result<T, E = SeedError> = std::result::Result<T, E>;

/// Says what was being done to which path when an [`io::Error`] came.
pub(crate) trait IoContext<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T>;
}

impl<T> IoContext<T> for io::Result<T> {
    fn at(self, action: &'static str, path: &Path) -> Result<T> {
        self.map_err(|source| SeedError::Io {
            action,
            path: path.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_finds_slips_and_refuses_strangers() {
        let known = ["files", "depends", "provides", "provider-priority"];
        assert_eq!(nearest("fils", known), Some("files"));
        assert_eq!(nearest("dependes", known), Some("depends"));
        assert_eq!(nearest("provider_priority", known), Some("provider-priority"));
        assert_eq!(nearest("zebra", known), None);
    }
}
