//! What the solver knows while it works, and the questions that are asked of it everywhere.

use std::collections::{BTreeSet, VecDeque};

use super::universe::{NameId, PackageId, Provider, Universe};
use crate::dependency;
use crate::metadata::{Dependency, Match};
use crate::version;

/// Wishes about a package, as bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Flags(pub u8);

impl Flags {
    /// Take the newest version.
    pub const UPGRADE: Flags = Flags(1);
    /// Take the newest version even if it cannot be installed.
    pub const LATEST: Flags = Flags(2);
    /// Take only what a repository has.
    pub const AVAILABLE: Flags = Flags(4);
    /// Install again.
    pub const REINSTALL: Flags = Flags(8);
    /// Do not prefer what is installed.
    pub const REMOVE: Flags = Flags(16);
    /// Prefer what is installed to everything else.
    pub const INSTALLED: Flags = Flags(32);

    pub fn has(self, any: Flags) -> bool {
        self.0 & any.0 != 0
    }

    pub fn when(self, condition: bool) -> Flags {
        if condition { self } else { Flags(0) }
    }
}

impl std::ops::BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl std::ops::BitOrAssign for Flags {
    fn bitor_assign(&mut self, other: Flags) {
        self.0 |= other.0;
    }
}

/// An entry of world with its name and tag looked up.
pub(super) struct WorldEntry {
    pub name: NameId,
    pub dependency: Dependency,
    pub tag: u8,
    /// Left out because the world is broken and that was allowed.
    pub dropped: bool,
}

/// Where a dependency is written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Origin {
    /// The n-th entry of world.
    World(usize),
    /// The n-th dependency of a package.
    Depends(PackageId, usize),
    /// The n-th `install_if` item of a package.
    InstallIf(PackageId, usize),
}

impl Origin {
    /// The package that states the dependency.
    pub fn package(self) -> Option<PackageId> {
        match self {
            Origin::World(_) => None,
            Origin::Depends(package, _) | Origin::InstallIf(package, _) => Some(package),
        }
    }
}

/// Why a package that could have been chosen no longer can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ruling {
    /// It does not meet a dependency on a name that it provides.
    Constraint(Origin),
    /// A name that it provides went to another package, or to none.
    NameTaken { name: NameId, by: Option<PackageId> },
    /// Its n-th dependency cannot be met any more.
    Unmet(usize),
    /// Every provider of `required` provides `shared` as well, which this package would take from them.
    Excluded { shared: NameId, required: NameId },
}

/// The selection lists (section 15.5).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) enum List {
    #[default]
    None,
    Now,
    Selectable,
    Unresolved,
}

#[derive(Clone, Default, Debug)]
pub(super) struct NameState {
    pub seen: bool,
    pub locked: bool,
    pub chosen: Option<Provider>,
    /// How many positive dependencies ask for it.
    pub requirers: u32,
    /// Place in the sorted lists, the highest first.
    pub order: u64,
    pub list: List,
    pub is_dirty: bool,
    pub reconsider_depends: bool,
    pub reconsider_install_if: bool,
    /// Some provider's `install_if` is met.
    pub has_install_if: bool,
    /// No provider's `install_if` can be met any more.
    pub no_install_if: bool,
    /// A conflict in an `install_if` waits for it to be decided.
    pub install_if_needed: bool,
    pub has_auto: bool,
    pub has_options: bool,
    pub dependants_done: bool,
    pub flagged: bool,
    pub merged_depends: u32,
    pub merged_provides: u32,
    pub merged_virtual: bool,
    // Change set.
    pub installed_package: Option<PackageId>,
    pub installed_name: Option<NameId>,
    pub processed: bool,
    pub removed: bool,
}

#[derive(Clone, Default, Debug)]
pub(super) struct PackageState {
    pub seen: bool,
    /// How far discovery has gone through the names related to it, and through its `install_if`.
    pub related_visited: u32,
    pub install_if_visited: u32,
    pub selectable: bool,
    pub available: bool,
    pub tag_ok: bool,
    pub tag_preferred: bool,
    pub install_if_met: bool,
    pub install_if_failed: bool,
    /// Counted in the reconsideration that runs now.
    pub merged: bool,
    /// Counted in the last reconsideration that had candidates.
    pub used: bool,
    pub has_error: bool,
    pub in_changes: bool,
    pub conflicts: u32,
    /// Tags that it may come from, as bits.
    pub allowed_tags: u16,
    pub flags: Flags,
    pub inheritable: Flags,
    pub ruling: Option<Ruling>,
    /// Whether it provides the name for which names are excluded now: known for the exclusion with this
    /// number.
    pub provides_required: (u64, bool),
    /// The epoch in which all that depend on its names were told to look again.
    pub dependants_told: u64,
    /// The epoch in which all that install themselves with its names were told to look again.
    pub followers_told: u64,
}

/// The work limit was reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Exhausted;

/// Result of a step that may reach the work limit.
pub(super) type Step<T = ()> = Result<T, Exhausted>;

/// The state of one attempt.
pub(super) struct Solver<'a> {
    pub universe: &'a Universe,
    pub world: &'a [WorldEntry],
    pub names: Vec<NameState>,
    pub packages: Vec<PackageState>,
    pub dirty: VecDeque<NameId>,
    pub now: VecDeque<NameId>,
    pub selectable: BTreeSet<(u64, NameId)>,
    pub unresolved: BTreeSet<(u64, NameId)>,
    pub discovered: u64,
    /// What is inherited from world: only while its constraints are applied.
    pub world_flags: Flags,
    pub world_tags: u16,
    pub errors: usize,
    /// How many exclusions there have been.
    pub exclusions: u64,
    /// How many reconsiderations there have been. Between two of them, asking twice to look at the same
    /// names again has no more effect than asking once, which is what spares packages with very many
    /// names from quadratic work.
    pub epoch: u64,
    pub work: u64,
    limit: u64,
}

impl<'a> Solver<'a> {
    pub fn new(universe: &'a Universe, world: &'a [WorldEntry], names: usize, limit: u64) -> Self {
        Solver {
            universe,
            world,
            names: vec![NameState::default(); names],
            packages: vec![PackageState::default(); universe.packages.len()],
            dirty: VecDeque::new(),
            now: VecDeque::new(),
            selectable: BTreeSet::new(),
            unresolved: BTreeSet::new(),
            discovered: 0,
            world_flags: Flags::default(),
            world_tags: 0,
            errors: 0,
            exclusions: 0,
            epoch: 1,
            work: 0,
            limit,
        }
    }

    /// Counts work.
    pub fn spend(&mut self, steps: usize) -> Step {
        self.work += steps as u64 + 1;
        if self.work > self.limit {
            Err(Exhausted)
        } else {
            Ok(())
        }
    }

    pub fn name(&mut self, name: NameId) -> &mut NameState {
        &mut self.names[name.index()]
    }

    pub fn package(&mut self, package: PackageId) -> &mut PackageState {
        &mut self.packages[package.index()]
    }

    pub fn chosen(&self, name: NameId) -> Option<Provider> {
        self.names[name.index()].chosen
    }

    /// Sets wishes on all packages that answer to a name.
    pub fn set_flags(&mut self, name: NameId, own: Flags, inheritable: Flags) {
        self.name(name).flagged = true;
        for provider in self.universe.providers(name) {
            let state = self.package(provider.package);
            state.flags |= own;
            state.inheritable |= inheritable;
        }
    }

    /// Counts an error of a package, once.
    pub fn mark_error(&mut self, package: PackageId) {
        let state = self.package(package);
        if !state.has_error {
            state.has_error = true;
            self.errors += 1;
        }
    }

    /// Whether a dependency of `by` is met when its name goes to `provider`.
    pub fn meets(&self, by: Option<PackageId>, dependency: &Dependency, provider: Option<Provider>) -> bool {
        let Some(provider) = provider else {
            return dependency.op.is_conflict();
        };
        if dependency.op.is_conflict() && by == Some(provider.package) {
            return true;
        }
        if dependency.op == Match::ANY {
            return true;
        }
        if dependency::is_on_identity(dependency) {
            return dependency::matches_identity(dependency, self.universe.info(provider.package));
        }
        version::matches(
            self.universe.provided_version(provider),
            dependency.op,
            &dependency.version,
        )
    }

    /// Whether a provider states no version of the name. "Nothing" counts as such a provider.
    pub fn is_unversioned(&self, provider: Option<Provider>) -> bool {
        provider.is_none_or(|provider| self.universe.provided_version(provider).is_empty())
    }

    /// Whether a provider may be taken without being asked for by its own name.
    pub fn is_auto_selectable(&self, provider: Provider) -> bool {
        let package = self.universe.package(provider.package);
        !self.universe.provided_version(provider).is_empty()
            || package.info.provider_priority > 0
            || self.names[package.name.index()].requirers > 0
    }

    /// A package's dependencies with the ids of their names.
    pub fn depends(&self, package: PackageId) -> impl Iterator<Item = (NameId, &'a Dependency)> + use<'a> {
        let package = self.universe.package(package);
        package.depends.iter().copied().zip(&package.info.depends)
    }

    /// A package's `install_if` with the ids of its names.
    pub fn install_if(&self, package: PackageId) -> impl Iterator<Item = (NameId, &'a Dependency)> + use<'a> {
        let package = self.universe.package(package);
        package.install_if.iter().copied().zip(&package.info.install_if)
    }

    /// A package's own name and then the names that it provides.
    pub fn names_of(&self, package: PackageId) -> impl Iterator<Item = NameId> + use<'a> {
        let package = self.universe.package(package);
        std::iter::once(package.name).chain(package.provides.iter().copied())
    }
}
