//! Saying why a request cannot be met: the fewest entries of world that fail together, and for each
//! dependency that could not be met what was there and why it was ruled out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use super::request::Plan;
use super::state::{Origin, Ruling, WorldEntry};
use super::universe::{NameId, PackageId, Provider, Universe};
use super::{Attempt, SolveError, WORK_LIMIT};
use crate::dependency;
use crate::metadata::Dependency;

/// How many reasons are given.
const MAX_REASONS: usize = 6;
/// How many candidates a reason lists.
const MAX_CANDIDATES: usize = 8;
/// How many steps of "needed by" are shown.
const MAX_CHAIN: usize = 5;
/// How often the request is solved again to find the entries that matter.
const MAX_TRIALS: usize = 64;
/// How many causes are looked at one by one before all are taken together.
const MAX_SINGLE_CAUSES: usize = 4;

/// A request that cannot be met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsolvable {
    /// How many errors apk counts, which is its exit status up to 99.
    pub errors: usize,
    /// The entries of world that fail: as few as were found to fail together.
    pub entries: Vec<Dependency>,
    /// What is wrong, a sentence each, without a full stop and without a capital letter in front.
    pub reasons: Vec<String>,
}

impl std::error::Error for Unsolvable {}

impl fmt::Display for Unsolvable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<String> = self.entries.iter().map(ToString::to_string).collect();
        match entries.as_slice() {
            [] => f.write_str("what is installed cannot be kept together")?,
            [entry] => write!(f, "world entry {entry} cannot be met")?,
            entries => write!(f, "world entries {} cannot be met together", entries.join(", "))?,
        }
        let mut before = ": ";
        for reason in &self.reasons {
            write!(f, "{before}{reason}")?;
            before = ". ";
        }
        Ok(())
    }
}

impl From<Unsolvable> for SolveError {
    fn from(unsolvable: Unsolvable) -> Self {
        SolveError::Unsolvable(Box::new(unsolvable))
    }
}

/// Explains a failed attempt.
pub(super) fn explain(universe: &Universe, plan: &Plan, attempt: &Attempt<'_>) -> Unsolvable {
    let errors = attempt.solver.errors;
    let all: Vec<usize> = (0..plan.world.len())
        .filter(|place| !plan.world[*place].dropped)
        .collect();
    let kept = fewest(universe, plan, all, Reasons::new(attempt).suspects());
    let reduced = subset(plan, &kept);
    let entries = reduced
        .world
        .iter()
        .map(|entry| entry.dependency.clone())
        .collect();
    let reasons = match Attempt::run(universe, &reduced, WORK_LIMIT) {
        Ok(again) if again.solver.errors > 0 => Reasons::new(&again).collect(),
        _ => Reasons::new(attempt).collect(),
    };
    Unsolvable {
        errors,
        entries,
        reasons,
    }
}

fn subset(plan: &Plan, kept: &[usize]) -> Plan {
    let entry = |place: &usize| {
        let WorldEntry {
            name,
            ref dependency,
            tag,
            dropped,
        } = plan.world[*place];
        WorldEntry {
            name,
            dependency: dependency.clone(),
            tag,
            dropped,
        }
    };
    Plan {
        world: kept.iter().map(entry).collect(),
        flags: plan.flags.clone(),
        global: plan.global,
        names: plan.names,
    }
}

/// Looks for a small set of world entries that fails: the first set of suspects that does, and of those by
/// leaving out ever smaller parts.
fn fewest(universe: &Universe, plan: &Plan, all: Vec<usize>, suspects: Vec<Vec<usize>>) -> Vec<usize> {
    let mut work = WORK_LIMIT;
    let mut trials = MAX_TRIALS;
    // Whether entries fail; nothing when enough has been tried.
    let mut fails = |kept: &[usize]| {
        trials = trials.checked_sub(1)?;
        let plan = subset(plan, kept);
        let attempt = Attempt::run(universe, &plan, work).ok()?;
        work -= attempt.solver.work.min(work);
        Some(attempt.solver.errors > 0)
    };
    let mut likely = suspects.into_iter().filter(|suspects| suspects.len() < all.len());
    let mut kept = likely
        .find(|suspects| fails(suspects) == Some(true))
        .unwrap_or(all);
    let mut part = kept.len().div_ceil(2);
    while part > 0 && kept.len() > 1 {
        let mut start = 0;
        while start < kept.len() && kept.len() > 1 {
            let end = (start + part).min(kept.len());
            let rest: Vec<usize> = kept[..start].iter().chain(&kept[end..]).copied().collect();
            match fails(&rest) {
                Some(true) => kept = rest,
                Some(false) => start = end,
                None => return kept,
            }
        }
        part = if part == 1 {
            0
        } else {
            part.min(kept.len()).div_ceil(2)
        };
    }
    kept
}

/// Collects the reasons of a failed attempt.
struct Reasons<'r, 'a> {
    attempt: &'r Attempt<'a>,
    /// The dependency by which each chosen package was first reached from world.
    parents: BTreeMap<PackageId, Origin>,
    /// Dependencies that still have to be explained.
    open: VecDeque<Origin>,
    explained: BTreeSet<Origin>,
    reasons: Vec<String>,
}

impl<'r, 'a> Reasons<'r, 'a> {
    fn new(attempt: &'r Attempt<'a>) -> Self {
        Reasons {
            attempt,
            parents: BTreeMap::new(),
            open: VecDeque::new(),
            explained: BTreeSet::new(),
            reasons: Vec::new(),
        }
    }

    fn universe(&self) -> &'a Universe {
        self.attempt.solver.universe
    }

    fn collect(mut self) -> Vec<String> {
        self.find_causes();
        while let Some(origin) = self.open.pop_front() {
            if self.reasons.len() >= MAX_REASONS {
                self.reasons.push("there is more that does not fit".into());
                break;
            }
            if self.explained.insert(origin) {
                self.explain(origin);
            }
        }
        if self.reasons.is_empty() {
            self.reasons = self.late_comers();
        }
        if self.reasons.is_empty() {
            self.reasons
                .push("the choices made for them contradict each other".into());
        }
        self.reasons
    }

    /// Sets of world entries that are likely to fail: what leads to each of the first causes, and what
    /// leads to any of them.
    fn suspects(mut self) -> Vec<Vec<usize>> {
        self.find_causes();
        let causes: Vec<Origin> = self.open.iter().copied().collect();
        let single = causes.chunks(1).take(MAX_SINGLE_CAUSES);
        single
            .chain([causes.as_slice()])
            .map(|causes| self.entries_behind(causes))
            .collect()
    }

    /// The entries of world that lead to dependencies and to what ruled candidates for them out.
    fn entries_behind(&self, causes: &[Origin]) -> Vec<usize> {
        let solver = &self.attempt.solver;
        let mut to_trace = causes.to_vec();
        for origin in causes {
            let (name, _) = self.dependency(*origin);
            let candidates = solver.universe.providers(name).iter().take(MAX_CANDIDATES);
            for ruling in candidates.filter_map(|p| solver.packages[p.package.index()].ruling) {
                match ruling {
                    Ruling::Constraint(origin) => to_trace.push(origin),
                    Ruling::NameTaken { by: Some(by), .. } => to_trace.extend(self.parents.get(&by)),
                    _ => {}
                }
            }
        }
        let mut entries = BTreeSet::new();
        let mut traced = BTreeSet::new();
        while let Some(origin) = to_trace.pop() {
            match origin {
                Origin::World(place) => drop(entries.insert(place)),
                Origin::Depends(by, _) if traced.insert(by) => to_trace.extend(self.parents.get(&by)),
                Origin::InstallIf(by, _) => {
                    let conditions = solver.install_if(by).filter_map(|(name, _)| solver.chosen(name));
                    let conditions = conditions.filter(|condition| traced.insert(condition.package));
                    to_trace.extend(conditions.filter_map(|condition| self.parents.get(&condition.package)));
                }
                Origin::Depends(..) => {}
            }
        }
        entries.into_iter().collect()
    }

    /// Goes from world through all choices and notes the dependencies that were not met, those that
    /// nothing was found for first, and choices that should not have been made.
    fn find_causes(&mut self) {
        let solver = &self.attempt.solver;
        let universe = self.universe();
        let mut to_visit: VecDeque<Origin> = (0..solver.world.len()).map(Origin::World).collect();
        let (mut missing, mut unmet, mut bad) = (Vec::new(), Vec::new(), Vec::new());
        let mut followers = universe.packages().filter(|id| {
            let chosen = solver.chosen(universe.package(*id).name);
            solver.packages[id.index()].install_if_met && chosen.is_some_and(|chosen| chosen.package == *id)
        });
        loop {
            let Some(origin) = to_visit.pop_front() else {
                // Errors of packages that nobody asked for by name.
                match followers.next() {
                    Some(id) if !self.parents.contains_key(&id) => {
                        self.parents.insert(id, Origin::InstallIf(id, 0));
                        let depends = 0..universe.package(id).depends.len();
                        to_visit.extend(depends.map(|place| Origin::Depends(id, place)));
                    }
                    Some(_) => {}
                    None => break,
                }
                continue;
            };
            let (name, dependency) = self.dependency(origin);
            let chosen = solver.chosen(name);
            // A broken dependency is told of with the package that has it.
            let broken = dependency::is_broken(dependency);
            if !broken && !solver.meets(origin.package(), dependency, chosen) {
                let list = if chosen.is_none() {
                    &mut missing
                } else {
                    &mut unmet
                };
                list.push(origin);
            }
            let Some(Provider { package, .. }) = chosen.filter(|_| !dependency.op.is_conflict()) else {
                continue;
            };
            if self.parents.contains_key(&package) {
                continue;
            }
            self.parents.insert(package, origin);
            let state = &solver.packages[package.index()];
            if !broken && (!state.tag_ok || !state.selectable || self.contested(package).is_some()) {
                bad.push(origin);
            }
            to_visit
                .extend((0..universe.package(package).depends.len()).map(|n| Origin::Depends(package, n)));
        }
        self.open.extend(missing);
        self.open.extend(unmet);
        self.open.extend(bad);
    }

    /// Another chosen package that holds a name which a chosen package provides as well.
    fn contested(&self, id: PackageId) -> Option<(NameId, PackageId)> {
        let solver = &self.attempt.solver;
        (0..).zip(solver.names_of(id)).find_map(|(entry, name)| {
            let holder = solver.chosen(name)?;
            let mine = Provider { package: id, entry };
            let peaceful = solver.is_unversioned(Some(mine)) && solver.is_unversioned(Some(holder));
            (holder.package != id && !peaceful).then_some((name, holder.package))
        })
    }

    /// Packages that were taken although a name of theirs had been given to another, or to nobody.
    fn late_comers(&self) -> Vec<String> {
        let solver = &self.attempt.solver;
        let universe = self.universe();
        let mut told = Vec::new();
        for id in universe
            .packages()
            .filter(|id| solver.packages[id.index()].has_error)
        {
            for name in solver.names_of(id) {
                let text = match solver.chosen(name) {
                    Some(holder) if holder.package == id => continue,
                    Some(holder) => format!(
                        "{} and {} both provide {}",
                        self.package(id),
                        self.package(holder.package),
                        self.name(name)
                    ),
                    None => {
                        let forbids =
                            |(other, wanted): (NameId, &Dependency)| other == name && wanted.op.is_conflict();
                        let world = solver
                            .world
                            .iter()
                            .find(|entry| entry.name == name && entry.dependency.op.is_conflict());
                        let who = match world {
                            Some(entry) => format!("world has {}", entry.dependency),
                            None => {
                                let mut all = universe.packages();
                                all.find(|other| solver.depends(*other).any(forbids)).map_or_else(
                                    || "it had been decided that nothing does".to_owned(),
                                    |other| format!("{} has !{}", self.package(other), self.name(name)),
                                )
                            }
                        };
                        format!("{} provides {}, but {who}", self.package(id), self.name(name))
                    }
                };
                told.push(text);
                break;
            }
            if told.len() == MAX_REASONS {
                break;
            }
        }
        told
    }

    fn dependency(&self, origin: Origin) -> (NameId, &'a Dependency) {
        let solver = &self.attempt.solver;
        match origin {
            Origin::World(place) => (solver.world[place].name, &solver.world[place].dependency),
            Origin::Depends(id, place) => {
                let package = solver.universe.package(id);
                (package.depends[place], &package.info.depends[place])
            }
            Origin::InstallIf(id, place) => {
                let package = solver.universe.package(id);
                (package.install_if[place], &package.info.install_if[place])
            }
        }
    }

    fn name(&self, name: NameId) -> &str {
        let known = self.universe().names.get(name.index()).map(|name| &*name.text);
        let asked = || self.attempt.solver.world.iter().find(|entry| entry.name == name);
        known
            .or_else(|| asked().map(|entry| entry.dependency.name.as_str()))
            .unwrap_or("?")
    }

    fn package(&self, id: PackageId) -> String {
        let info = self.universe().info(id);
        format!("{}-{}", info.name, info.version)
    }

    /// A package and how it came to be there, unless world asks for it.
    fn package_with_reason(&self, id: PackageId) -> String {
        let mut steps = Vec::new();
        let mut at = id;
        while let Some(parent) = self.parents.get(&at) {
            match *parent {
                Origin::World(_) => break,
                _ if steps.len() == MAX_CHAIN => {
                    steps.push("and so on".into());
                    break;
                }
                Origin::Depends(by, _) => {
                    steps.push(format!("needed by {}", self.package(by)));
                    at = by;
                }
                Origin::InstallIf(..) => {
                    let conditions = self
                        .universe()
                        .info(at)
                        .install_if
                        .iter()
                        .map(ToString::to_string);
                    steps.push(format!(
                        "installed with {}",
                        conditions.collect::<Vec<_>>().join(" and ")
                    ));
                    break;
                }
            }
        }
        match steps.is_empty() {
            true => self.package(id),
            false => format!("{} ({})", self.package(id), steps.join(", ")),
        }
    }

    fn explain(&mut self, origin: Origin) {
        let solver = &self.attempt.solver;
        let universe = self.universe();
        let (name, wanted) = self.dependency(origin);
        let who = origin
            .package()
            .map_or_else(|| "world".into(), |id| self.package_with_reason(id));
        if wanted.op.is_conflict() {
            let chosen = solver.chosen(name).map(|provider| provider.package);
            if chosen.is_some_and(|id| {
                self.parents
                    .get(&id)
                    .is_some_and(|by| self.explained.contains(by))
            }) {
                return;
            }
            // Those who need what is ruled out have nothing to add.
            self.explained.extend(chosen.and_then(|id| self.parents.get(&id)));
            let chosen = chosen.map_or_else(|| wanted.name.clone(), |id| self.package_with_reason(id));
            self.reasons
                .push(format!("{who} has {wanted}, but {chosen} is there"));
            return;
        }
        let mut seen = BTreeSet::new();
        let mut candidates: Vec<Provider> = universe.providers(name).to_vec();
        candidates.retain(|provider| seen.insert(provider.package));
        let (fitting, others): (Vec<_>, Vec<_>) = candidates
            .into_iter()
            .partition(|provider| solver.meets(origin.package(), wanted, Some(*provider)));
        let mut told: Vec<String> = Vec::new();
        if !others.is_empty() {
            let mut shown: Vec<String> = others
                .iter()
                .take(MAX_CANDIDATES)
                .map(|provider| self.provision(*provider))
                .collect();
            if others.len() > MAX_CANDIDATES {
                shown.push(format!("{} more", others.len() - MAX_CANDIDATES));
            }
            let shown = shown.join(", ");
            told.push(match fitting.is_empty() {
                true => format!("there is only {shown}"),
                false => format!("{shown} does not match"),
            });
        } else if fitting.is_empty() {
            told.push("no package provides it".into());
        }
        // What fails only because of something that was said already is not worth a sentence.
        let mut is_news = fitting.is_empty();
        for provider in fitting.iter().take(MAX_CANDIDATES) {
            let (text, cause) = self.ruled_out(name, wanted, *provider);
            is_news |= cause.is_none_or(|cause| !self.explained.contains(&cause));
            told.push(text);
        }
        if fitting.len() > MAX_CANDIDATES {
            told.push(format!(
                "{} more could not be chosen either",
                fitting.len() - MAX_CANDIDATES
            ));
        }
        if is_news || self.reasons.is_empty() {
            self.reasons
                .push(format!("{who} needs {wanted}, but {}", told.join("; ")));
        }
    }

    /// A provider and what it provides.
    fn provision(&self, provider: Provider) -> String {
        let package = self.package(provider.package);
        let info = self.universe().info(provider.package);
        match provider.entry {
            0 => package,
            entry => format!("{package} with {}", info.provides[entry as usize - 1]),
        }
    }

    /// Why a candidate that fits a dependency was not taken, or should not have been; and the dependency
    /// that is to blame.
    fn ruled_out(
        &mut self,
        name: NameId,
        wanted: &Dependency,
        provider: Provider,
    ) -> (String, Option<Origin>) {
        let solver = &self.attempt.solver;
        let universe = self.universe();
        let id = provider.package;
        let package = universe.package(id);
        let state = &solver.packages[id.index()];
        let subject = self.package(id);
        let text = if package.foreign {
            let known = universe.architectures().join(" or ");
            format!("{subject} is for {}, not for {known}", package.info.arch)
        } else if let Some(broken) = package
            .info
            .depends
            .iter()
            .find(|entry| dependency::is_broken(entry))
        {
            format!("{subject} has the dependency {broken}, which compares with something that is no version")
        } else if package.info.layer != 0 {
            format!(
                "{subject} belongs to layer {}, which is not in use",
                package.info.layer
            )
        } else if !state.tag_ok && package.repositories != 0 {
            let tags = universe
                .tags
                .iter()
                .filter(|tag| tag.repositories & package.repositories != 0);
            let tags: Vec<String> = tags.map(|tag| format!("@{}", tag.name)).collect();
            format!(
                "{subject} is only in repositories tagged {}; world has to say {}{} to allow it",
                tags.join(" and "),
                wanted.name,
                tags.first().map(String::as_str).unwrap_or_default()
            )
        } else if let Some(ruling) = state.ruling {
            return self.ruling(id, ruling);
        } else if let Some((shared, holder)) = self.contested(id).filter(|_| state.has_error) {
            format!(
                "{subject} and {} both provide {}",
                self.package(holder),
                self.name(shared)
            )
        } else if !state.selectable {
            match package.repositories & universe.reachable == 0 && package.repositories != 0 {
                true => format!("{subject} is only in repositories that cannot be reached"),
                false => format!("{subject} is in no repository"),
            }
        } else if solver.chosen(name) != Some(provider) && !solver.is_auto_selectable(provider) {
            format!(
                "{subject} provides it without version or priority, so world has to name {}",
                package.info.name
            )
        } else {
            let mut depends = solver.depends(id).enumerate();
            let unmet = depends
                .find(|(_, (name, dependency))| !solver.meets(Some(id), dependency, solver.chosen(*name)));
            match unmet {
                None => format!("{subject} was passed over"),
                Some((place, (_, dependency))) => {
                    let cause = Origin::Depends(id, place);
                    self.open.push_back(cause);
                    return (
                        format!("{subject} needs {dependency}, which cannot be met"),
                        Some(cause),
                    );
                }
            }
        };
        (text, None)
    }

    fn ruling(&mut self, id: PackageId, ruling: Ruling) -> (String, Option<Origin>) {
        let subject = self.package(id);
        match ruling {
            Ruling::Constraint(origin) => {
                let (_, dependency) = self.dependency(origin);
                let who = origin
                    .package()
                    .map_or_else(|| "world".into(), |id| self.package(id));
                let text = match (dependency.op.is_conflict(), origin) {
                    (true, _) => format!("{subject} is ruled out by {dependency} of {who}"),
                    (false, _) => format!("{subject} does not match {dependency}, which {who} needs"),
                };
                (text, Some(origin))
            }
            Ruling::NameTaken { name, by: Some(by) } => (
                format!(
                    "{subject} cannot be beside {}, which has taken {}",
                    self.package(by),
                    self.name(name)
                ),
                None,
            ),
            Ruling::NameTaken { name, by: None } => (
                format!(
                    "{subject} provides {}, for which nothing could be chosen",
                    self.name(name)
                ),
                None,
            ),
            Ruling::Unmet(place) => {
                let cause = Origin::Depends(id, place);
                self.open.push_back(cause);
                let dependency = &self.universe().info(id).depends[place];
                (
                    format!("{subject} needs {dependency}, which cannot be met"),
                    Some(cause),
                )
            }
            Ruling::Excluded { shared, required } => (
                format!(
                    "{subject} provides {}, which is taken by whatever provides {}",
                    self.name(shared),
                    self.name(required)
                ),
                None,
            ),
        }
    }
}
