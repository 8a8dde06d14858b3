//! Finding the names that matter, and the order in which they will be decided (section 15.4).
//!
//! The search goes depth first with a stack of its own, so that a long chain of dependencies costs heap
//! and not native stack.

use super::state::{Flags, Solver, Step};
use super::universe::{NameId, PackageId};

/// How far the visit of a name has come.
enum Stage {
    /// Dependencies of its providers.
    Depends,
    /// Names that install themselves with it.
    Followers,
    /// Names that install themselves with its providers, and the other names of those.
    Related,
    /// What its providers install themselves with.
    InstallIf,
}

struct Visit {
    name: NameId,
    stage: Stage,
    /// The provider, and the item of the provider's list.
    provider: usize,
    item: usize,
}

/// What the next step of a visit is.
enum Next {
    Discover(NameId),
    Finished,
}

/// The next place in a list of a package. The package keeps it for all visits that come to the list by one
/// of its names: what one of them has passed is discovered for all, and a package with very many names
/// is not gone through once for each of them.
fn next_place(visited: &mut u32) -> usize {
    let place = *visited;
    *visited = place.saturating_add(1);
    place as usize
}

impl Solver<'_> {
    /// Visits a name and everything that can be reached from it.
    pub fn discover(&mut self, name: NameId, global: Flags) -> Step {
        let mut stack = Vec::new();
        self.begin(name, &mut stack);
        while let Some(mut visit) = stack.pop() {
            match self.step(&mut visit, global)? {
                Next::Discover(name) => {
                    stack.push(visit);
                    self.begin(name, &mut stack);
                }
                Next::Finished => {}
            }
        }
        Ok(())
    }

    fn begin(&mut self, name: NameId, stack: &mut Vec<Visit>) {
        if !std::mem::replace(&mut self.name(name).seen, true) {
            stack.push(Visit {
                name,
                stage: Stage::Depends,
                provider: 0,
                item: 0,
            });
        }
    }

    /// Goes on until the next name that has not been seen.
    fn step(&mut self, visit: &mut Visit, global: Flags) -> Step<Next> {
        let universe = self.universe;
        let providers = universe.providers(visit.name);
        loop {
            self.spend(0)?;
            let provider = providers.get(visit.provider).map(|provider| provider.package);
            let next = match (&visit.stage, provider) {
                (Stage::Depends, Some(package)) => {
                    if visit.item == 0 && self.packages[package.index()].seen {
                        visit.provider += 1;
                        continue;
                    }
                    if visit.item == 0 {
                        self.prepare(package, global);
                    }
                    universe.package(package).depends.get(visit.item).copied()
                }
                (Stage::Depends, None) => {
                    self.name(visit.name).no_install_if = providers
                        .iter()
                        .all(|p| self.packages[p.package.index()].install_if_failed);
                    visit.stage = Stage::Followers;
                    visit.provider = 0;
                    continue;
                }
                (Stage::Followers, _) => match universe.followers(visit.name).get(visit.item) {
                    Some(name) => Some(*name),
                    None => {
                        visit.stage = Stage::Related;
                        visit.item = 0;
                        continue;
                    }
                },
                (Stage::Related, Some(id)) => {
                    let package = universe.package(id);
                    let followers = universe.followers(package.name);
                    let place = next_place(&mut self.package(id).related_visited);
                    match place.checked_sub(followers.len()) {
                        Some(place) => package.provides.get(place).copied(),
                        None => Some(followers[place]),
                    }
                }
                (Stage::Related, None) => {
                    self.number(visit.name);
                    visit.stage = Stage::InstallIf;
                    visit.provider = 0;
                    continue;
                }
                (Stage::InstallIf, Some(id)) => {
                    let place = next_place(&mut self.package(id).install_if_visited);
                    universe.package(id).install_if.get(place).copied()
                }
                (Stage::InstallIf, None) => return Ok(Next::Finished),
            };
            match next {
                Some(name) => {
                    visit.item += 1;
                    if !self.names[name.index()].seen {
                        return Ok(Next::Discover(name));
                    }
                }
                None => {
                    visit.provider += 1;
                    visit.item = 0;
                }
            }
        }
    }

    /// Gives a name its place in the selection lists.
    fn number(&mut self, name: NameId) {
        let has_own = self
            .universe
            .providers(name)
            .iter()
            .any(|p| self.universe.package(p.package).name == name);
        self.discovered += 1;
        let order = self.discovered;
        let state = self.name(name);
        state.order = u64::from(state.flagged) << 62 | u64::from(has_own) << 61 | order;
    }

    /// Sets up a package when it is first seen (section 15.3).
    fn prepare(&mut self, id: PackageId, global: Flags) {
        let universe = self.universe;
        let package = universe.package(id);
        let default_repositories = universe.repositories_of_tags(1);
        let empty = package.info.installed_size == 0;
        let state = self.package(id);
        state.seen = true;
        state.allowed_tags = 1;
        state.available = package.from_file || package.repositories & universe.reachable != 0;
        state.selectable = !package.foreign
            && !package.broken
            && package.info.layer == 0
            && (state.available || package.cached || empty || package.installed.is_some());
        state.install_if_failed =
            package.install_if.is_empty() || (global.has(Flags::AVAILABLE) && !state.available);
        state.tag_preferred = package.from_file || empty || universe.sources(id) & default_repositories != 0;
        state.tag_ok = state.tag_preferred || package.cached || package.installed.is_some();
    }
}
