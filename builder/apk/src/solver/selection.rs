//! Weighing the providers of a name, choosing one and locking the names that it takes (sections 15.8 to
//! 15.11).

use std::cmp::Ordering;

use super::state::{Flags, Origin, Ruling, Solver, Step};
use super::universe::{NameId, PackageId, Provider};
use crate::metadata::Dependency;
use crate::version;

impl Solver<'_> {
    /// Decides names until none is left.
    pub fn decide(&mut self) -> Step {
        loop {
            while let Some(name) = self.next_dirty() {
                self.reconsider(name)?;
            }
            match self.next_choice() {
                Some(name) => self.select(name)?,
                None => return Ok(()),
            }
        }
    }

    /// Whether a dependency can still be met.
    fn is_satisfiable(&self, by: PackageId, name: NameId, dependency: &Dependency) -> bool {
        let state = &self.names[name.index()];
        if state.locked {
            return self.meets(Some(by), dependency, state.chosen);
        }
        (state.requirers == 0 && dependency.op.is_conflict())
            || self.universe.providers(name).iter().any(|provider| {
                self.packages[provider.package.index()].selectable
                    && self.meets(Some(by), dependency, Some(*provider))
            })
    }

    /// Rules a package out whose dependencies cannot be met any more.
    fn check_depends(&mut self, package: PackageId) -> Step {
        for (place, (name, dependency)) in self.depends(package).enumerate() {
            self.spend(self.universe.providers(name).len())?;
            if !self.is_satisfiable(package, name, dependency) {
                return self.disqualify(package, Ruling::Unmet(place));
            }
        }
        Ok(())
    }

    /// Finds out whether a package's `install_if` is met.
    fn check_install_if(&mut self, package: PackageId) {
        for (name, dependency) in self.install_if(package) {
            let state = self.name(name);
            if !state.locked {
                if dependency.op.is_conflict() {
                    state.install_if_needed = true;
                    self.enqueue(name, false);
                }
                return;
            }
            let chosen = state.chosen;
            if !self.meets(Some(package), dependency, chosen) {
                self.package(package).install_if_failed = true;
                return;
            }
        }
        self.package(package).install_if_met = true;
    }

    /// Weighs the candidates of a name and passes on what they have in common.
    fn reconsider(&mut self, name: NameId) -> Step {
        let universe = self.universe;
        self.epoch += 1;
        let state = self.name(name);
        let reconsider_depends = std::mem::take(&mut state.reconsider_depends);
        let reconsider_install_if = std::mem::take(&mut state.reconsider_install_if);
        let requirers = state.requirers;
        let (mut options, mut not_ok) = (0u32, 0u32);
        let (mut has_install_if, mut no_install_if, mut has_auto) = (false, true, false);
        let mut first = None;
        for provider in universe.providers(name) {
            self.spend(0)?;
            let package = provider.package;
            self.package(package).merged = false;
            if reconsider_depends && self.packages[package.index()].selectable {
                self.check_depends(package)?;
            }
            let state = &self.packages[package.index()];
            if !state.selectable {
                continue;
            }
            if reconsider_install_if && !state.install_if_met && !state.install_if_failed {
                self.spend(universe.package(package).install_if.len())?;
                self.check_install_if(package);
            }
            if reconsider_install_if && self.packages[package.index()].install_if_met {
                for (condition, _) in self.install_if(package) {
                    let by = self.chosen(condition).map(|provider| provider.package);
                    self.inherit(package, by);
                }
            }
            let state = &self.packages[package.index()];
            has_install_if |= state.install_if_met;
            no_install_if &= state.install_if_failed;
            has_auto |= state.install_if_met;
            if requirers == 0 {
                continue;
            }
            not_ok += u32::from(!state.tag_ok);
            self.package(package).merged = true;
            first.get_or_insert(package);
            self.merge(*provider, options)?;
            options += 1;
            has_auto |= self.is_auto_selectable(*provider);
        }
        let state = self.name(name);
        state.has_options = options > 1 || not_ok > 0;
        state.has_install_if = has_install_if;
        state.no_install_if = no_install_if;
        let moved = std::mem::replace(&mut state.has_auto, has_auto) != has_auto;
        if let Some(first) = first {
            for provider in universe.providers(name) {
                let state = self.package(provider.package);
                state.used = state.merged;
            }
            self.pass_on(name, first, options)?;
        }
        let dependants = universe.dependants(name);
        self.spend(dependants.len())?;
        self.name(name).dependants_done = !dependants.iter().any(|dependant| {
            let dependant = &self.names[dependant.index()];
            dependant.seen && !dependant.locked
        });
        self.enqueue(name, moved);
        Ok(())
    }

    /// Counts one more candidate on the names that all candidates so far, `options` of them, depend on,
    /// and on those that all of them provide.
    fn merge(&mut self, provider: Provider, options: u32) -> Step {
        let package = self.universe.package(provider.package);
        self.spend(package.depends.len() + package.provides.len())?;
        for (name, dependency) in self.depends(provider.package) {
            let count = &mut self.name(name).merged_depends;
            if !dependency.op.is_conflict() && *count == options {
                *count += 1;
            }
        }
        // For the package's own name it counts how it provides the name that is looked at.
        let own = (package.name, self.is_unversioned(Some(provider)));
        let others = package.provides.iter().zip(&package.info.provides);
        let others = others.map(|(name, entry)| (*name, entry.version.is_empty()));
        for (name, is_virtual) in std::iter::once(own).chain(others) {
            let state = self.name(name);
            if state.merged_provides == options {
                state.merged_provides += 1;
                state.merged_virtual |= is_virtual;
            }
        }
        Ok(())
    }

    /// Passes on what all `options` candidates of a name have in common; `first` is one of them.
    fn pass_on(&mut self, name: NameId, first: PackageId, options: u32) -> Step {
        let universe = self.universe;
        for (place, (wanted, dependency)) in self.depends(first).enumerate() {
            if std::mem::take(&mut self.name(wanted).merged_depends) != options {
                continue;
            }
            if options == 1 {
                self.constrain(Origin::Depends(first, place), wanted, dependency)?;
            } else if self.names[wanted.index()].requirers == 0 {
                self.name(wanted).requirers = 1;
                self.requirers_appeared(wanted)?;
                for provider in universe.providers(wanted) {
                    self.spend(0)?;
                    self.inherit(provider.package, Some(first));
                }
            }
        }
        self.exclusions += 1;
        for shared in self.names_of(first) {
            if std::mem::take(&mut self.name(shared).merged_provides) == options && shared != name {
                self.exclude_others(shared, name)?;
            }
        }
        for shared in self.names_of(first) {
            self.name(shared).merged_virtual = false;
        }
        Ok(())
    }

    /// Rules out the providers of `shared` that do not provide `required`, because whatever is chosen for
    /// `required` will take `shared`.
    fn exclude_others(&mut self, shared: NameId, required: NameId) -> Step {
        let universe = self.universe;
        let spare_virtual = self.names[shared.index()].merged_virtual;
        for provider in universe.providers(shared) {
            self.spend(0)?;
            let package = universe.package(provider.package);
            if package.name != required
                && self.packages[provider.package.index()].selectable
                && !(spare_virtual && (package.provides_unversioned || self.is_unversioned(Some(*provider))))
                && !self.provides_required(provider.package, required)?
            {
                self.disqualify(provider.package, Ruling::Excluded { shared, required })?;
            }
        }
        Ok(())
    }

    /// Whether a package has the name in its list of provided names; looked up once for each exclusion.
    fn provides_required(&mut self, package: PackageId, required: NameId) -> Step<bool> {
        let exclusion = self.exclusions;
        let (known_for, known) = self.packages[package.index()].provides_required;
        if known_for == exclusion {
            return Ok(known);
        }
        let provides = &self.universe.package(package).provides;
        self.spend(provides.len())?;
        let provided = provides.contains(&required);
        self.package(package).provides_required = (exclusion, provided);
        Ok(provided)
    }

    /// Chooses the best provider of a name, or none.
    fn select(&mut self, name: NameId) -> Step {
        let state = &self.names[name.index()];
        let requirers = state.requirers;
        let mut best = None;
        if requirers > 0 || state.has_install_if {
            for provider in self.universe.providers(name) {
                self.spend(0)?;
                let state = &self.packages[provider.package.index()];
                let follows = state.install_if_met && state.tag_ok && state.selectable;
                if (requirers > 0 || follows)
                    && self.is_auto_selectable(*provider)
                    && best.is_none_or(|best| self.compare(*provider, best).is_gt())
                {
                    best = Some(*provider);
                }
            }
        }
        let Some(best) = best else {
            self.assign(name, None)?;
            if requirers > 0 {
                self.errors += 1;
            }
            return Ok(());
        };
        let id = best.package;
        let state = &self.packages[id.index()];
        if !state.selectable || !state.tag_ok {
            self.mark_error(id);
        }
        for (entry, name) in (0..).zip(self.names_of(id)) {
            self.assign(name, Some(Provider { package: id, entry }))?;
        }
        for (place, (wanted, dependency)) in self.depends(id).enumerate() {
            self.constrain(Origin::Depends(id, place), wanted, dependency)?;
        }
        Ok(())
    }

    /// Locks a name to a provider or to nothing.
    fn assign(&mut self, name: NameId, provider: Option<Provider>) -> Step {
        let universe = self.universe;
        let package = provider.map(|provider| provider.package);
        let is_virtual = self.is_unversioned(provider);
        let state = &self.names[name.index()];
        if state.locked {
            let holder = state.chosen;
            if !(is_virtual && self.is_unversioned(holder)) {
                for package in package.into_iter().chain(holder.map(|holder| holder.package)) {
                    self.mark_error(package);
                }
            }
            return Ok(());
        }
        self.leave_list(name);
        let state = self.name(name);
        state.locked = true;
        state.chosen = provider;
        state.is_dirty = false;
        let requirers = state.requirers;
        if let Some(package) = package.filter(|id| requirers == 0 && self.packages[id.index()].install_if_met)
        {
            for (place, (condition, dependency)) in self.install_if(package).enumerate() {
                if !self.names[condition.index()].locked {
                    self.constrain(Origin::InstallIf(package, place), condition, dependency)?;
                }
            }
        }
        for other in universe.providers(name) {
            self.spend(0)?;
            if Some(other.package) != package && !(is_virtual && self.is_unversioned(Some(*other))) {
                self.disqualify(other.package, Ruling::NameTaken { name, by: package })?;
            }
        }
        self.reconsider_dependants(name)?;
        match package {
            None => self.reconsider_followers(name),
            Some(package) => self.reconsider_all_followers(package),
        }
    }

    /// Which of two providers of a name is better; greater means that `a` is. The first difference
    /// decides.
    fn compare(&self, a: Provider, b: Provider) -> Ordering {
        let universe = self.universe;
        let (x, y) = (
            &self.packages[a.package.index()],
            &self.packages[b.package.index()],
        );
        let (package_a, package_b) = (universe.package(a.package), universe.package(b.package));
        let flags = x.flags | y.flags;
        let same_name = package_a.name == package_b.name;
        let installed = || package_a.installed.is_some().cmp(&package_b.installed.is_some());
        let available = || match flags.has(Flags::AVAILABLE) {
            true => x.available.cmp(&y.available),
            false => Ordering::Equal,
        };
        let state = if flags.has(Flags::LATEST) && x.allowed_tags == 1 && y.allowed_tags == 1 {
            x.tag_ok.cmp(&y.tag_ok).then_with(|| {
                let again = flags.has(Flags::REINSTALL) && !flags.has(Flags::AVAILABLE);
                if again {
                    x.selectable.cmp(&y.selectable)
                } else {
                    available()
                }
            })
        } else {
            let when = |condition: bool| if condition { installed() } else { Ordering::Equal };
            let both_virtual = self.is_unversioned(Some(a)) && self.is_unversioned(Some(b));
            let keeps = !flags.has(Flags::REMOVE | Flags::UPGRADE) && (same_name || !both_virtual);
            x.selectable
                .cmp(&y.selectable)
                .then(x.used.cmp(&y.used))
                .then(y.conflicts.cmp(&x.conflicts))
                .then_with(|| when(flags.has(Flags::INSTALLED)))
                .then(x.tag_ok.cmp(&y.tag_ok))
                .then_with(available)
                .then(x.tag_preferred.cmp(&y.tag_preferred))
                .then_with(|| when(keeps))
        };
        // 1 for the first repository, and 0 for a package that is in none.
        let place = |mask: u32| if mask == 0 { 0 } else { mask.trailing_zeros() + 1 };
        state
            .then_with(|| version::compare(universe.provided_version(a), universe.provided_version(b)))
            .then_with(|| match same_name {
                true => version::compare(&package_a.info.version, &package_b.info.version),
                false => Ordering::Equal,
            })
            .then(
                package_a
                    .info
                    .provider_priority
                    .cmp(&package_b.info.provider_priority),
            )
            .then_with(|| {
                if flags.has(Flags::REMOVE) {
                    Ordering::Equal
                } else {
                    installed()
                }
            })
            .then(x.selectable.cmp(&y.selectable))
            .then(place(package_b.repositories).cmp(&place(package_a.repositories)))
    }
}
