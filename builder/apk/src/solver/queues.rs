//! Who has to be looked at again, who can be decided, and what a dependency does to the providers of its
//! name (sections 15.5 and 15.6).

use super::state::{Flags, List, Origin, Ruling, Solver, Step};
use super::universe::{NameId, PackageId};
use crate::metadata::Dependency;

impl Solver<'_> {
    /// Asks for a name to be reconsidered.
    pub fn mark_dirty(&mut self, name: NameId) {
        let state = self.name(name);
        let idle = state.requirers == 0 && !state.reconsider_install_if;
        if !state.is_dirty && !state.locked && !idle {
            state.is_dirty = true;
            self.dirty.push_back(name);
        }
    }

    /// The next name to reconsider.
    pub fn next_dirty(&mut self) -> Option<NameId> {
        while let Some(name) = self.dirty.pop_front() {
            // A name that was locked in the meantime has left the queue without being taken out.
            if std::mem::take(&mut self.name(name).is_dirty) {
                return Some(name);
            }
        }
        None
    }

    /// Puts a name into the selection list that it belongs to. `moved` says that it may have to go from
    /// one of the sorted lists to the other.
    pub fn enqueue(&mut self, name: NameId, moved: bool) {
        let state = &self.names[name.index()];
        if state.locked {
            return;
        }
        let now = state.dependants_done && state.requirers > 0 && state.has_auto && !state.has_options;
        let stays = match state.list {
            List::Now => true,
            List::None => state.requirers == 0 && !state.has_install_if && !state.install_if_needed,
            List::Selectable | List::Unresolved => !now && !moved,
        };
        if stays {
            return;
        }
        let list = match (now, state.has_auto) {
            (true, _) => List::Now,
            (false, true) => List::Selectable,
            (false, false) => List::Unresolved,
        };
        self.leave_list(name);
        let order = self.names[name.index()].order;
        self.name(name).list = list;
        match list {
            List::Now => self.now.push_back(name),
            List::Selectable => drop(self.selectable.insert((order, name))),
            List::Unresolved => drop(self.unresolved.insert((order, name))),
            List::None => {}
        }
    }

    /// Takes a name out of its list. In the list of those to be decided now it is only crossed out.
    pub fn leave_list(&mut self, name: NameId) {
        let state = self.name(name);
        let order = state.order;
        match std::mem::take(&mut state.list) {
            List::Selectable => drop(self.selectable.remove(&(order, name))),
            List::Unresolved => drop(self.unresolved.remove(&(order, name))),
            List::Now | List::None => {}
        }
    }

    /// The next name to decide.
    pub fn next_choice(&mut self) -> Option<NameId> {
        while let Some(name) = self.now.pop_front() {
            if self.names[name.index()].list == List::Now {
                self.name(name).list = List::None;
                return Some(name);
            }
        }
        let (_, name) = self
            .selectable
            .pop_last()
            .or_else(|| self.unresolved.pop_last())?;
        self.name(name).list = List::None;
        Some(name)
    }

    /// Has all names looked at again whose providers depend on a name.
    pub fn reconsider_dependants(&mut self, name: NameId) -> Step {
        let list = self.universe.dependants(name);
        self.spend(list.len())?;
        for dependant in list {
            let state = self.name(*dependant);
            if state.seen {
                state.reconsider_depends = true;
                self.mark_dirty(*dependant);
            }
        }
        Ok(())
    }

    /// Has all names looked at again whose providers may install themselves with a name.
    pub fn reconsider_followers(&mut self, name: NameId) -> Step {
        let list = self.universe.followers(name);
        self.spend(list.len())?;
        for follower in list {
            let state = self.name(*follower);
            if state.seen && !state.no_install_if {
                state.reconsider_install_if = true;
                self.mark_dirty(*follower);
            }
        }
        Ok(())
    }

    /// Rules a package out.
    pub fn disqualify(&mut self, package: PackageId, ruling: Ruling) -> Step {
        let state = self.package(package);
        if state.selectable {
            state.ruling = Some(ruling);
        }
        state.selectable = false;
        if std::mem::replace(&mut self.packages[package.index()].dependants_told, self.epoch) != self.epoch {
            for name in self.names_of(package) {
                self.reconsider_dependants(name)?;
            }
        }
        self.reconsider_all_followers(package)
    }

    /// Has all names looked at again whose providers may install themselves with a package.
    pub fn reconsider_all_followers(&mut self, package: PackageId) -> Step {
        if std::mem::replace(&mut self.packages[package.index()].followers_told, self.epoch) != self.epoch {
            for name in self.names_of(package) {
                self.reconsider_followers(name)?;
            }
        }
        Ok(())
    }

    /// A name got its first requirer.
    pub fn requirers_appeared(&mut self, name: NameId) -> Step {
        self.enqueue(name, false);
        self.reconsider_followers(name)?;
        self.mark_dirty(name);
        Ok(())
    }

    /// Holds a dependency against all providers of its name.
    pub fn constrain(&mut self, origin: Origin, name: NameId, dependency: &Dependency) -> Step {
        let by = origin.package();
        if !dependency.op.is_conflict() {
            let state = self.name(name);
            state.requirers = state.requirers.saturating_add(1);
            if state.requirers == 1 {
                self.requirers_appeared(name)?;
            }
        }
        for provider in self.universe.providers(name) {
            self.spend(0)?;
            let met = self.meets(by, dependency, Some(*provider));
            let state = self.package(provider.package);
            state.conflicts = state.conflicts.saturating_add(u32::from(!met));
            if state.selectable && state.conflicts > 0 {
                self.disqualify(provider.package, Ruling::Constraint(origin))?;
            }
            if met {
                self.inherit(provider.package, by);
            }
        }
        Ok(())
    }

    /// Passes on the wishes and tags of a package, or those of world when there is none. Where the one
    /// that passes them on is an `install_if` item met by absence, world has nothing left to give, and
    /// the package is no longer preferred for its tag.
    pub fn inherit(&mut self, package: PackageId, by: Option<PackageId>) {
        let universe = self.universe;
        let sources = universe.sources(package);
        let (flags, inheritable, tags) = match by {
            Some(by) => {
                let by = &self.packages[by.index()];
                (by.inheritable, by.inheritable, by.allowed_tags)
            }
            None => (self.world_flags, self.world_flags, self.world_tags),
        };
        let state = self.package(package);
        state.flags |= flags;
        state.inheritable |= inheritable;
        state.allowed_tags |= tags;
        if by.is_none() {
            state.tag_preferred = sources & universe.repositories_of_tags(tags) != 0;
        }
        state.tag_ok |= sources & universe.repositories_of_tags(state.allowed_tags) != 0;
    }

    /// Applies world: its entries are discovered in order, then their constraints are applied in order.
    pub fn apply_world(&mut self, global: Flags) -> Step {
        let world = self.world;
        for entry in world.iter().filter(|entry| !entry.dropped) {
            self.discover(entry.name, global)?;
        }
        self.world_flags = global;
        for (place, entry) in world.iter().enumerate().filter(|(_, entry)| !entry.dropped) {
            self.world_tags = 1 << entry.tag;
            self.constrain(Origin::World(place), entry.name, &entry.dependency)?;
        }
        self.world_flags = Flags::default();
        self.world_tags = 0;
        Ok(())
    }
}
