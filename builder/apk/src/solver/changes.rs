//! From choices to an ordered list of changes (section 15.12).
//!
//! The rules are recursive: a change first makes the changes of its dependencies, a removal first removes
//! what depends on the package. They run here as tasks on a stack, each of which pushes what has to
//! happen before it goes on, so that no chain of packages can exhaust the native stack.

use super::state::{Solver, Step};
use super::universe::{NameId, PackageId};
use crate::dependency;
use crate::metadata::Dependency;

/// A change as it was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Recorded {
    pub old: Option<PackageId>,
    pub new: Option<PackageId>,
}

/// A piece of work. Numbers say where in a list it goes on.
enum Task {
    /// Removes an installed package that nothing needs and that was not chosen.
    Orphan(PackageId),
    /// Makes the change of a world entry.
    World(usize),
    /// Makes the change of a name.
    Change(NameId),
    /// Puts the choice for a name into the set.
    Choice(NameId),
    /// Goes on with the dependencies of a chosen package.
    Depends(PackageId, usize),
    /// Hands the error of a dependency's choice up.
    HandUp { by: PackageId, dependency: NameId },
    /// Records a chosen package and follows up.
    Record(PackageId),
    /// Removes what is superseded as the provider of a name.
    Precede(NameId),
    /// Goes on to do that for the names of a chosen package.
    PrecedeAll(PackageId, usize),
    /// Goes on with the providers of a name.
    Superseded(NameId, usize),
    /// Goes on with the names that install themselves with a package, and changes them.
    AddFollowers(PackageId, Followers),
    /// The same, and removes them.
    RemoveFollowers(PackageId, Followers),
    /// Counts the dependencies of a package that came.
    Hold(PackageId),
    /// Goes on to count the dependencies of a package that went.
    Release(PackageId, usize),
    /// Removes an installed package.
    Remove(PackageId),
    /// Goes on with the installed packages that depend on one that goes.
    Dependants {
        package: PackageId,
        names: usize,
        dependant: usize,
        provider: usize,
    },
    /// Records a removal.
    RecordRemoval(PackageId),
}

/// A place among the names that install themselves with a package: the n-th of its names, the m-th
/// follower of that.
#[derive(Clone, Copy, Default)]
struct Followers {
    names: usize,
    follower: usize,
}

/// The changes under construction.
struct Changes<'s, 'a> {
    solver: &'s mut Solver<'a>,
    tasks: Vec<Task>,
    recorded: Vec<Recorded>,
}

impl Solver<'_> {
    /// Makes the change set out of the choices. Errors that only show here are counted.
    pub fn changes(&mut self) -> Step<Vec<Recorded>> {
        let universe = self.universe;
        for name in &mut self.names {
            name.requirers = 0;
        }
        for id in &universe.installed {
            let package = universe.package(*id);
            let own = self.name(package.name);
            own.installed_package = Some(*id);
            own.installed_name = Some(package.name);
            for (name, entry) in package.provides.iter().zip(&package.info.provides) {
                if !entry.version.is_empty() {
                    self.name(*name).installed_name = Some(package.name);
                }
            }
        }
        let mut changes = Changes {
            solver: self,
            tasks: Vec::new(),
            recorded: Vec::new(),
        };
        for id in &universe.installed {
            changes.hold(*id)?;
        }
        // Each of these is finished before the next begins.
        for id in &universe.installed {
            changes.run(Task::Orphan(*id))?;
        }
        for place in 0..changes.solver.world.len() {
            changes.run(Task::World(place))?;
        }
        for id in &universe.installed {
            changes.run(Task::Change(universe.package(*id).name))?;
        }
        Ok(changes.recorded)
    }
}

impl Changes<'_, '_> {
    fn run(&mut self, task: Task) -> Step {
        self.tasks.push(task);
        while let Some(task) = self.tasks.pop() {
            self.solver.spend(0)?;
            self.step(task)?;
        }
        Ok(())
    }

    /// Pushes tasks so that they run in the order given.
    fn then<const N: usize>(&mut self, tasks: [Task; N]) {
        self.tasks.extend(tasks.into_iter().rev());
    }

    fn step(&mut self, task: Task) -> Step {
        let universe = self.solver.universe;
        match task {
            Task::Orphan(id) => self.remove_orphan(id),
            Task::World(place) => {
                let entry = &self.solver.world[place];
                self.then([Task::Change(entry.name)]);
            }
            Task::Change(name) => self.change(name),
            Task::Choice(name) => self.choice(name),
            Task::Depends(id, place) => {
                let package = universe.package(id);
                let (Some(name), Some(dependency)) =
                    (package.depends.get(place), package.info.depends.get(place))
                else {
                    return Ok(());
                };
                if !self.solver.meets(Some(id), dependency, self.solver.chosen(*name)) {
                    self.solver.mark_error(id);
                }
                self.then([
                    Task::Change(*name),
                    Task::HandUp {
                        by: id,
                        dependency: *name,
                    },
                    Task::Depends(id, place + 1),
                ]);
            }
            Task::HandUp { by, dependency } => {
                let chosen = self.solver.chosen(dependency);
                if chosen.is_some_and(|provider| self.solver.packages[provider.package.index()].has_error) {
                    self.solver.mark_error(by);
                }
            }
            Task::Record(id) => {
                let name = universe.package(id).name;
                let old = self.solver.names[name.index()].installed_package;
                self.recorded.push(Recorded { old, new: Some(id) });
                if let Some(old) = old {
                    self.then([Task::Release(old, 0)]);
                }
                self.then([Task::AddFollowers(id, Followers::default()), Task::Hold(id)]);
            }
            Task::Precede(name) => {
                let state = self.solver.name(name);
                if std::mem::replace(&mut state.processed, true) {
                    return Ok(());
                }
                let installed = state.installed_package;
                self.then([Task::Superseded(name, 0)]);
                if let Some(installed) = installed.filter(|_| !self.keeps_own_name(name)) {
                    self.then([Task::Remove(installed)]);
                }
            }
            Task::PrecedeAll(id, place) => {
                if let Some(name) = self.solver.names_of(id).nth(place) {
                    self.then([Task::Precede(name), Task::PrecedeAll(id, place + 1)]);
                }
            }
            Task::Superseded(name, mut place) => {
                let providers = universe.providers(name);
                while let Some(provider) = providers.get(place) {
                    place += 1;
                    self.solver.spend(0)?;
                    let own = universe.package(provider.package).name;
                    let own = &self.solver.names[own.index()];
                    if own.installed_package == Some(provider.package) && own.chosen.is_none() {
                        self.then([Task::Remove(provider.package), Task::Superseded(name, place)]);
                        break;
                    }
                }
            }
            Task::AddFollowers(id, at) => {
                if let Some((name, at)) = self.next_follower(id, at)? {
                    self.then([Task::AddFollowers(id, at)]);
                    if self.install_if_is_done(name)? {
                        self.then([Task::Change(name)]);
                    }
                }
            }
            Task::RemoveFollowers(id, at) => {
                if let Some((name, at)) = self.next_follower(id, at)? {
                    self.then([Task::RemoveFollowers(id, at)]);
                    self.remove_follower(name)?;
                }
            }
            Task::Hold(id) => self.hold(id)?,
            Task::Release(id, place) => self.release(id, place)?,
            Task::Remove(id) => self.remove(id),
            Task::Dependants {
                package,
                names,
                dependant,
                provider,
            } => {
                self.remove_dependants(package, names, dependant, provider)?;
            }
            Task::RecordRemoval(id) => {
                self.recorded.push(Recorded {
                    old: Some(id),
                    new: None,
                });
                self.then([Task::Release(id, 0)]);
            }
        }
        Ok(())
    }

    /// Whether a package of this very name was chosen for it.
    fn keeps_own_name(&self, name: NameId) -> bool {
        let chosen = self.solver.chosen(name);
        chosen.is_some_and(|provider| self.solver.universe.package(provider.package).name == name)
    }

    fn remove_orphan(&mut self, id: PackageId) {
        let name = &self.solver.names[self.solver.universe.package(id).name.index()];
        // With a choice, another package has taken its place, which is a change and not a removal.
        if name.requirers == 0 && name.chosen.is_none() {
            self.then([Task::Remove(id)]);
        }
    }

    fn change(&mut self, name: NameId) {
        if !self.solver.names[name.index()].processed {
            self.then([Task::Precede(name), Task::Choice(name)]);
        }
    }

    fn choice(&mut self, name: NameId) {
        let Some(chosen) = self.solver.chosen(name) else {
            return;
        };
        let id = chosen.package;
        if std::mem::replace(&mut self.solver.package(id).in_changes, true) {
            return;
        }
        self.then([Task::Depends(id, 0), Task::Record(id)]);
        let own = self.solver.universe.package(id).name;
        if let Some(old) = self.solver.names[own.index()].installed_package {
            self.then([Task::RemoveFollowers(old, Followers::default())]);
        }
        self.then([Task::PrecedeAll(id, 0)]);
    }

    fn next_follower(&mut self, id: PackageId, mut at: Followers) -> Step<Option<(NameId, Followers)>> {
        let mut names = self.solver.names_of(id).skip(at.names);
        loop {
            self.solver.spend(0)?;
            let Some(name) = names.next() else { return Ok(None) };
            if let Some(follower) = self.solver.universe.followers(name).get(at.follower) {
                at.follower += 1;
                return Ok(Some((*follower, at)));
            }
            at = Followers {
                names: at.names + 1,
                follower: 0,
            };
        }
    }

    /// Whether a name's choice may come now because its `install_if` is met by what came before.
    fn install_if_is_done(&mut self, name: NameId) -> Step<bool> {
        let state = &self.solver.names[name.index()];
        let Some(chosen) = state.chosen.filter(|_| state.seen && !state.processed) else {
            return Ok(false);
        };
        let id = chosen.package;
        self.solver
            .spend(self.solver.universe.package(id).install_if.len())?;
        Ok(self.solver.install_if(id).all(|(name, dependency)| {
            let condition = &self.solver.names[name.index()];
            (dependency.op.is_conflict() || condition.processed)
                && self.solver.meets(Some(id), dependency, condition.chosen)
        }))
    }

    /// Removes the installed package of a name if it came by an `install_if` that no longer holds.
    fn remove_follower(&mut self, name: NameId) -> Step {
        let state = &self.solver.names[name.index()];
        let gone = state.chosen.is_none() && !state.processed && !state.removed;
        let Some(id) = state.installed_package.filter(|_| gone) else {
            return Ok(());
        };
        self.solver
            .spend(self.solver.universe.package(id).install_if.len())?;
        let lost = self.solver.install_if(id).any(|(condition, _)| {
            let condition = &self.solver.names[condition.index()];
            condition.removed && condition.chosen.is_none()
        });
        if lost {
            self.remove_orphan(id);
        }
        Ok(())
    }

    fn hold(&mut self, id: PackageId) -> Step {
        self.solver
            .spend(self.solver.universe.package(id).depends.len())?;
        for (name, dependency) in self.solver.depends(id) {
            if let Some(holder) = self.holder(name, dependency) {
                let count = &mut self.solver.name(holder).requirers;
                *count = count.wrapping_add(1);
            }
        }
        Ok(())
    }

    /// The installed name that meets a positive dependency.
    fn holder(&self, name: NameId, dependency: &Dependency) -> Option<NameId> {
        if dependency.op.is_conflict() {
            None
        } else {
            self.solver.names[name.index()].installed_name
        }
    }

    fn release(&mut self, id: PackageId, place: usize) -> Step {
        let package = self.solver.universe.package(id);
        let rest = package.depends[place..]
            .iter()
            .zip(&package.info.depends[place..]);
        for (place, (name, dependency)) in (place..).zip(rest) {
            self.solver.spend(0)?;
            let Some(holder) = self.holder(*name, dependency) else {
                continue;
            };
            let count = &mut self.solver.name(holder).requirers;
            *count = count.wrapping_sub(1);
            if *count > 0 {
                continue;
            }
            if let Some(orphan) = self.solver.names[name.index()].installed_package {
                self.then([Task::Remove(orphan), Task::Release(id, place + 1)]);
                return Ok(());
            }
        }
        Ok(())
    }

    fn remove(&mut self, id: PackageId) {
        let name = self.solver.universe.package(id).name;
        if self.keeps_own_name(name) || std::mem::replace(&mut self.solver.package(id).in_changes, true) {
            return;
        }
        self.solver.name(name).removed = true;
        self.then([
            Task::Dependants {
                package: id,
                names: 0,
                dependant: 0,
                provider: 0,
            },
            Task::RemoveFollowers(id, Followers::default()),
            Task::RecordRemoval(id),
        ]);
    }

    fn remove_dependants(
        &mut self,
        id: PackageId,
        mut names: usize,
        mut dependant: usize,
        mut provider: usize,
    ) -> Step {
        let universe = self.solver.universe;
        for name in self.solver.names_of(id).skip(names) {
            let dependants = universe.dependants(name);
            while let Some(dependant_name) = dependants.get(dependant) {
                let providers = universe.providers(*dependant_name);
                while let Some(candidate) = providers.get(provider) {
                    provider += 1;
                    let candidate = universe.package(candidate.package);
                    self.solver.spend(0)?;
                    if candidate.installed.is_none() {
                        continue;
                    }
                    let info = universe.info(id);
                    self.solver
                        .spend(candidate.depends.len() * (info.provides.len() + 1))?;
                    let speaks_of = |wanted: &Dependency| {
                        wanted.name == info.name
                            || info.provides.iter().any(|entry| entry.name == wanted.name)
                    };
                    let depends = candidate.info.depends.iter().any(|wanted| {
                        dependency::is_met_by(wanted, info) && (!wanted.op.is_conflict() || speaks_of(wanted))
                    });
                    if depends {
                        let removed = providers[provider - 1].package;
                        self.then([
                            Task::Remove(removed),
                            Task::Dependants {
                                package: id,
                                names,
                                dependant,
                                provider,
                            },
                        ]);
                        return Ok(());
                    }
                }
                dependant += 1;
                provider = 0;
            }
            names += 1;
            dependant = 0;
        }
        Ok(())
    }
}
