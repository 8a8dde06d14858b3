//! Which packages a world needs, and in which order they are installed (apk-v3 facts, section 15).
//!
//! The solver decides as apk-tools 3 does, so that an image built here has the packages that `apk` would
//! have put there. It is greedy: it never takes a decision back, and a request that it cannot meet may
//! have a solution nevertheless. It is deterministic: the order of records, and the hash order of names
//! that apk itself uses, decide every tie.
//!
//! ```
//! use lycia_apk::dependency::{parse_list, parse_world};
//! use lycia_apk::metadata::PackageInfo;
//! use lycia_apk::solver::{UniverseBuilder, select};
//!
//! let package = |name: &str, depends: &str| PackageInfo {
//!     name: name.into(),
//!     version: "1-r0".into(),
//!     depends: parse_list(depends).unwrap(),
//!     ..PackageInfo::default()
//! };
//! let mut builder = UniverseBuilder::new(["x86_64"]);
//! builder.repository([None], [package("shell", "libc"), package("libc", "")]).unwrap();
//! let universe = builder.finish().unwrap();
//! let selection = select(&universe, &parse_world("shell").unwrap()).unwrap();
//! let names: Vec<_> = selection.iter().map(|chosen| universe.info(chosen.package).name.as_str()).collect();
//! assert_eq!(names, ["libc", "shell"]);
//! ```

mod changes;
mod discovery;
mod explanation;
mod queues;
mod request;
mod selection;
mod state;
mod universe;

use std::collections::HashMap;
use std::fmt;

use thiserror::Error;

use self::changes::Recorded;
pub use self::explanation::Unsolvable;
use self::request::Plan;
pub use self::request::{Command, Request};
use self::state::{Exhausted, Flags, Solver};
pub use self::universe::{MAX_REPOSITORIES, MAX_TAGS, PackageId, Universe, UniverseBuilder, UniverseError};
use crate::metadata::Dependency;
use crate::{dependency, version};

/// Why there is no solution.
#[derive(Clone, PartialEq, Eq, Error, Debug)]
pub enum SolveError {
    /// A command names packages of which no record speaks.
    #[error("no such package: {}", names.join(", "))]
    NoSuchPackage {
        /// The names.
        names: Vec<String>,
    },
    /// A world entry wants a repository tag that no repository has.
    #[error(
        "world entry {entry} asks for a repository tag that no repository has; configure one as \"@tag url\""
    )]
    UnknownTag {
        /// The entry.
        entry: String,
    },
    /// A world entry compares with what is no version.
    #[error("world entry {entry} compares with text that is not a version")]
    BadVersion {
        /// The entry.
        entry: String,
    },
    /// The request cannot be met.
    #[error(transparent)]
    Unsolvable(#[from] Box<Unsolvable>),
    /// The set that apk would install does not hold together.
    #[error(
        "{whose} needs {dependency}, which what apk would install does not meet (its solver never takes a decision \
         back); name a package in world that decides it"
    )]
    Inconsistent {
        /// A package, or world.
        whose: String,
        /// What it needs or conflicts with.
        dependency: String,
    },
    /// The records are so entangled that solving was given up.
    #[error(
        "solving was given up after {WORK_LIMIT} steps, the limit: the packages relate to each other in a way that \
         no sound repository does"
    )]
    GaveUp,
}

impl From<Exhausted> for SolveError {
    fn from(_: Exhausted) -> Self {
        SolveError::GaveUp
    }
}

/// What happens to a package.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Operation {
    /// It was not there.
    Install,
    /// It goes.
    Remove,
    /// A newer version comes.
    Upgrade,
    /// An older version comes.
    Downgrade,
    /// Another build of the same version comes.
    Replace,
    /// The same package is installed again.
    Reinstall,
    /// The same package stays, and counts as coming from another repository tag from now on.
    Repin,
    /// Nothing. It is among the changes because its triggers run at this place.
    Keep,
}

impl fmt::Display for Operation {
    /// The word that apk shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Install => "Installing",
            Operation::Remove => "Purging",
            Operation::Upgrade => "Upgrading",
            Operation::Downgrade => "Downgrading",
            Operation::Replace => "Replacing",
            Operation::Reinstall => "Reinstalling",
            Operation::Repin => "Updating pinning",
            Operation::Keep => "Keeping",
        })
    }
}

/// One step of a solution.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// What is there before.
    pub old: Option<PackageId>,
    /// What is there afterwards.
    pub new: Option<PackageId>,
    /// What happens.
    pub operation: Operation,
    /// The repository tag from which the new package counts as installed.
    pub tag: Option<String>,
}

/// How to meet a request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Solution {
    /// In the order in which they are to be made; dependencies come before dependants.
    pub changes: Vec<Change>,
    /// World afterwards, sorted.
    pub world: Vec<Dependency>,
    /// Entries of that world that are not met, which [`Request::drop_unmet`] allowed.
    pub unmet: Vec<Dependency>,
}

/// A package to install on an empty root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Chosen {
    /// The package.
    pub package: PackageId,
    /// The lowest-numbered repository of that tag which has it ([`Universe::source`]); `None` for a package file or a
    /// virtual package.
    pub repository: Option<usize>,
    /// The repository tag from which it counts as installed.
    pub tag: Option<String>,
}

/// Elementary steps that an attempt may cost, and all those together that an explanation needs.
const WORK_LIMIT: u64 = 1 << 28;

/// Solves a world on an empty root and returns the packages in the order in which they are installed.
///
/// Nothing may be installed in the universe. In rare cases apk is content with a set that breaks a conflict
/// (an unversioned provider that comes after its name was decided against); that is an error here.
pub fn select(universe: &Universe, world: &[Dependency]) -> Result<Vec<Chosen>, SolveError> {
    let solution = solve(universe, &Request::satisfy(world.iter().cloned()))?;
    let chosen: Vec<PackageId> = solution.changes.iter().filter_map(|change| change.new).collect();
    check(universe, world, &chosen)?;
    let changes = solution.changes.into_iter();
    Ok(changes
        .filter_map(|change| {
            Some(Chosen {
                package: change.new?,
                repository: universe.source(change.new?, change.tag.as_deref()),
                tag: change.tag,
            })
        })
        .collect())
}

/// Whether everything that world and the chosen packages need is there, and nothing that they conflict with.
fn check(universe: &Universe, world: &[Dependency], chosen: &[PackageId]) -> Result<(), SolveError> {
    let mut by_name: HashMap<&str, Vec<PackageId>> = HashMap::new();
    for &id in chosen {
        let info = universe.info(id);
        let names = info.provides.iter().map(|entry| entry.name.as_str());
        for name in names.chain([info.name.as_str()]) {
            by_name.entry(name).or_default().push(id);
        }
    }
    let met = |wanted: &Dependency, by: Option<PackageId>| {
        let mut answers = by_name.get(wanted.name.as_str()).into_iter().flatten();
        match wanted.op.is_conflict() {
            // A package's conflict does not speak of itself.
            true => answers.all(|&id| Some(id) == by || dependency::is_met_by(wanted, universe.info(id))),
            false => answers.any(|&id| dependency::is_met_by(wanted, universe.info(id))),
        }
    };
    let broken = |whose: &str, wanted: &Dependency| SolveError::Inconsistent {
        whose: whose.to_owned(),
        dependency: wanted.to_string(),
    };
    if let Some(wanted) = world.iter().find(|wanted| !met(wanted, None)) {
        return Err(broken("world", wanted));
    }
    for &id in chosen {
        let info = universe.info(id);
        if let Some(wanted) = info.depends.iter().find(|wanted| !met(wanted, Some(id))) {
            return Err(broken(&info.name, wanted));
        }
    }
    Ok(())
}

/// Solves a request.
pub fn solve(universe: &Universe, request: &Request) -> Result<Solution, SolveError> {
    let mut plan = Plan::new(universe, request)?;
    loop {
        let attempt = Attempt::run(universe, &plan, WORK_LIMIT)?;
        if attempt.solver.errors == 0 {
            let changes = attempt
                .recorded
                .iter()
                .map(|recorded| attempt.change(*recorded))
                .collect();
            let dependencies = |dropped: bool| {
                let entries = plan.world.iter().filter(move |entry| entry.dropped || !dropped);
                entries.map(|entry| entry.dependency.clone()).collect()
            };
            return Ok(Solution {
                changes,
                world: dependencies(false),
                unmet: dependencies(true),
            });
        }
        let failed = attempt.failed_entries();
        if !request.drop_unmet || failed.iter().all(|place| plan.world[*place].dropped) {
            return Err(explanation::explain(universe, &plan, &attempt).into());
        }
        // apk starts again without the wishes of the command; only the order that they gave remains.
        for (_, own, inheritable) in &mut plan.flags {
            (*own, *inheritable) = (Flags::default(), Flags::default());
        }
        for place in failed {
            plan.world[place].dropped = true;
        }
    }
}

/// A finished run of the solver, with or without errors.
struct Attempt<'a> {
    solver: Solver<'a>,
    recorded: Vec<Recorded>,
}

impl<'a> Attempt<'a> {
    fn run(universe: &'a Universe, plan: &'a Plan, limit: u64) -> Result<Self, Exhausted> {
        let mut solver = Solver::new(universe, &plan.world, plan.names, limit);
        for (name, own, inheritable) in &plan.flags {
            solver.set_flags(*name, *own, *inheritable);
        }
        solver.apply_world(plan.global)?;
        solver.decide()?;
        let recorded = solver.changes()?;
        Ok(Attempt { solver, recorded })
    }

    /// World entries without a choice, or with one that has an error.
    fn failed_entries(&self) -> Vec<usize> {
        let failed = |name| match self.solver.chosen(name) {
            None => true,
            Some(provider) => self.solver.packages[provider.package.index()].has_error,
        };
        let entries = self.solver.world.iter().enumerate();
        entries
            .filter(|(_, entry)| failed(entry.name))
            .map(|(place, _)| place)
            .collect()
    }

    fn change(&self, Recorded { old, new }: Recorded) -> Change {
        let universe = self.solver.universe;
        let tag = new.map_or(0, |new| self.tag(new));
        let operation = match (old, new) {
            (None, _) => Operation::Install,
            (_, None) => Operation::Remove,
            (Some(old), Some(new)) if old == new => {
                if self.solver.packages[new.index()].flags.has(Flags::REINSTALL) {
                    Operation::Reinstall
                } else if universe.package(new).installed != Some(tag) {
                    Operation::Repin
                } else {
                    Operation::Keep
                }
            }
            (Some(old), Some(new)) => {
                let (old, new) = (universe.info(old), universe.info(new));
                match version::compare(&new.version, &old.version) {
                    std::cmp::Ordering::Less => Operation::Downgrade,
                    std::cmp::Ordering::Equal => Operation::Replace,
                    std::cmp::Ordering::Greater => Operation::Upgrade,
                }
            }
        };
        let tag = (tag > 0).then(|| universe.tags[usize::from(tag)].name.clone());
        Change {
            old,
            new,
            operation,
            tag,
        }
    }

    /// The first tag that was allowed for a package and has it.
    fn tag(&self, package: PackageId) -> u8 {
        let universe = self.solver.universe;
        let allowed = self.solver.packages[package.index()].allowed_tags;
        let sources = universe.sources(package);
        let fits = |tag: &u8| {
            allowed >> tag & 1 != 0 && universe.tags[usize::from(*tag)].repositories & sources != 0
        };
        (0..universe.tags.len() as u8).find(fits).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dependency::{parse_list, parse_world};
    use crate::metadata::PackageInfo;

    /// Two repositories with the same packages, the first of which is for those that ask for its tag.
    #[test]
    fn packages_are_of_the_repository_whose_tag_was_asked_for() {
        let package = |name: &str, depends: &str, number: u8| PackageInfo {
            name: name.into(),
            version: "1".into(),
            depends: parse_list(depends).unwrap(),
            hashes: Some(crate::metadata::Digest(vec![number; 20])),
            installed_size: 1,
            ..PackageInfo::default()
        };
        let packages = [
            package("base", "", 1),
            package("plume", "quill", 2),
            package("quill", "", 3),
        ];
        let mut builder = UniverseBuilder::new(["x86_64"]);
        builder.repository([Some("edge")], packages.clone()).unwrap();
        builder.repository([None], packages[..1].to_vec()).unwrap();
        builder.repository([None], packages).unwrap();
        let new = package("comet", "", 4);
        builder.repository([Some("edge")], [new]).unwrap();
        let universe = builder.finish().unwrap();
        for (world, expected) in [
            (
                "base plume",
                &[
                    ("base", Some(1), None),
                    ("quill", Some(2), None),
                    ("plume", Some(2), None),
                ][..],
            ),
            ("base@edge", &[("base", Some(1), None)]),
            ("comet@edge", &[("comet", Some(3), Some("edge"))]),
        ] {
            let chosen = select(&universe, &parse_world(world).unwrap()).unwrap();
            let found: Vec<_> = chosen
                .iter()
                .map(|one| {
                    let name = universe.info(one.package).name.as_str();
                    (name, one.repository, one.tag.as_deref())
                })
                .collect();
            assert_eq!(found, expected, "{world}");
        }
    }

    /// apk's solver lets a package in that provides a name without version after the name was decided against.
    #[test]
    fn a_set_that_does_not_hold_together_is_told() {
        let package = |name: &str, depends: &str, provides: &str| PackageInfo {
            name: name.into(),
            version: "1".into(),
            depends: parse_list(depends).unwrap(),
            provides: parse_list(provides).unwrap(),
            ..PackageInfo::default()
        };
        // In the order of names, in which a repository's records are taken.
        let packages = [
            package("a", "", "v"),
            package("b", "!v", "v"),
            package("c", "a>1 b", ""),
        ];
        let mut builder = UniverseBuilder::new(["x86_64"]);
        builder.repository([None], packages).unwrap();
        let universe = builder.finish().unwrap();
        let ids: Vec<PackageId> = universe.packages().collect();
        let check = |world: &str, chosen: &[usize]| {
            let chosen: Vec<PackageId> = chosen.iter().map(|at| ids[*at]).collect();
            check(&universe, &parse_world(world).unwrap(), &chosen).map_err(|error| error.to_string())
        };
        // Its own name does not count against it.
        assert_eq!(check("b", &[1]), Ok(()));
        for (world, chosen, expected) in [
            ("b", &[1, 0][..], "b needs !v"),
            ("a !b", &[0, 1], "world needs !b"),
            ("c", &[0], "world needs c"),
            ("c", &[0, 2], "c needs a>1"),
        ] {
            let problem = check(world, chosen).unwrap_err();
            assert!(problem.starts_with(expected), "{problem}");
        }
    }
}
