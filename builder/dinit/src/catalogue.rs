//! Finding and loading service descriptions, and what the loaded set looks like as a graph.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use crate::description::{Context, DependencyKind, Description, DescriptionError, parse, split_name};
use crate::environment::Environment;
use crate::files::Files;

/// Where dinit's system instance looks, best first. `/lib` is `/usr/lib` in a usr-merged system.
pub const SYSTEM_DIRECTORIES: [&str; 5] = [
    "/etc/dinit.d",
    "/run/dinit.d",
    "/usr/local/lib/dinit.d",
    "/usr/lib/dinit.d",
    "/lib/dinit.d",
];

/// Most services that may be loaded at a time.
pub const MAX_SERVICES: usize = 4096;

/// Why a service cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// No directory has a file of that name.
    #[error("service `{0}` is not in any service directory")]
    NotFound(String),
    /// A directory could not be searched.
    #[error("looking for service `{name}` at {path}: {reason}")]
    Search {
        /// The service.
        name: String,
        /// The path tried.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// The file is wrong.
    #[error("service `{name}`: {}", list(.errors))]
    Description {
        /// The service.
        name: String,
        /// Everything wrong in its file.
        errors: Vec<DescriptionError>,
    },
    /// A service that it cannot do without does not load.
    #[error("service `{name}` needs `{needed}`, which cannot be loaded: {cause}")]
    Needs {
        /// The service.
        name: String,
        /// What it needs.
        needed: String,
        /// Why that does not load.
        cause: Box<LoadError>,
    },
    /// It depends on itself.
    #[error("service `{name}` depends on itself: {}", .cycle.join(" -> "))]
    Cycle {
        /// The service.
        name: String,
        /// The way round, beginning and ending with the same name.
        cycle: Vec<String>,
    },
    /// More than [`MAX_SERVICES`].
    #[error("more than {MAX_SERVICES} services are loaded")]
    TooMany,
}

fn list(errors: &[DescriptionError]) -> String {
    errors
        .iter()
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join("; ")
}

/// Finds and reads descriptions.
pub struct Loader<'a> {
    /// Where files are.
    pub files: &'a dyn Files,
    /// Directories, best first.
    pub directories: &'a [PathBuf],
    /// dinit's environment, for substitution.
    pub environment: &'a Environment,
}

impl Loader<'_> {
    /// The file that describes a service.
    pub fn find(&self, name: &str) -> Result<PathBuf, LoadError> {
        let (base, _) = split_name(name);
        let mut failure = None;
        for directory in self.directories {
            let path = directory.join(base);
            match self.files.read(&path) {
                Ok(Some(_)) => return Ok(path),
                Ok(None) => {}
                Err(error) => {
                    let reason = error.to_string();
                    failure.get_or_insert(LoadError::Search {
                        name: name.into(),
                        path,
                        reason,
                    });
                }
            }
        }
        Err(failure.unwrap_or_else(|| LoadError::NotFound(name.into())))
    }

    /// Reads one description; nothing that it depends on.
    pub fn describe(&self, name: &str) -> Result<Description, LoadError> {
        if !crate::description::is_service_name(name) {
            return Err(LoadError::NotFound(name.into()));
        }
        let file = self.find(name)?;
        let context = Context {
            files: self.files,
            environment: self.environment,
        };
        parse(&context, name, &file).map_err(|errors| LoadError::Description {
            name: name.into(),
            errors,
        })
    }

    /// Names of all files in the service directories, templates included, without shadowed ones.
    pub fn all_names(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for directory in self.directories {
            for name in self.files.list(directory).ok().flatten().unwrap_or_default() {
                let is_file = self
                    .files
                    .read(&directory.join(&name))
                    .is_ok_and(|content| content.is_some());
                if is_file && crate::description::is_service_name(&name) {
                    names.insert(name);
                }
            }
        }
        names
    }
}

/// The services that are loaded. Its dependencies, orderings included, have no cycles.
#[derive(Debug, Default)]
pub struct Catalogue {
    services: BTreeMap<String, Description>,
}

/// What a call of [`Catalogue::load`] did.
#[derive(Debug, Default)]
pub struct Loaded {
    /// Names that are new in the catalogue.
    pub names: Vec<String>,
    /// What was left out: soft dependencies that do not load, orderings that close a circle.
    pub warnings: Vec<String>,
    /// Orderings to forget, also where they are in use already: (who waited, for whom).
    pub dropped_orderings: Vec<(String, String)>,
}

impl Catalogue {
    /// A loaded description.
    pub fn get(&self, name: &str) -> Option<&Description> {
        self.services.get(name)
    }

    /// All loaded descriptions in name order.
    pub fn iter(&self) -> impl Iterator<Item = &Description> {
        self.services.values()
    }

    /// Forgets a service, so that the next load reads it again.
    pub fn forget(&mut self, name: &str) {
        self.services.remove(name);
    }

    /// Puts a description back that was forgotten.
    pub fn restore(&mut self, description: Option<Description>) {
        self.services
            .extend(description.map(|description| (description.name.clone(), description)));
    }

    /// Loads a service and what it needs. Soft dependencies that cannot be loaded are dropped with a
    /// warning (dinit refuses the dependent; a seed that boots without one getty is better than none).
    pub fn load(&mut self, loader: &Loader<'_>, name: &str) -> Result<Loaded, LoadError> {
        let mut loaded = Loaded::default();
        if self.services.contains_key(name) {
            return Ok(loaded);
        }
        let mut fresh: BTreeMap<String, Description> = BTreeMap::new();
        let mut failed: BTreeMap<String, LoadError> = BTreeMap::new();
        let mut queue = VecDeque::from([name.to_owned()]);
        while let Some(next) = queue.pop_front() {
            if self.services.contains_key(&next) || fresh.contains_key(&next) || failed.contains_key(&next) {
                continue;
            }
            if self.services.len() + fresh.len() >= MAX_SERVICES {
                return Err(LoadError::TooMany);
            }
            match loader.describe(&next) {
                Ok(description) => {
                    queue.extend(
                        description
                            .dependencies
                            .iter()
                            .map(|dependency| dependency.name.clone()),
                    );
                    fresh.insert(next, description);
                }
                Err(error) => {
                    failed.insert(next, error);
                }
            }
        }
        self.drop_failed(&mut fresh, &mut failed, &mut loaded.warnings);
        self.drop_cycles(&mut fresh, &mut failed, &mut loaded);
        self.drop_failed(&mut fresh, &mut failed, &mut loaded.warnings);
        if let Some(error) = failed.remove(name) {
            return Err(error);
        }
        // Only what the asked-for service still reaches.
        let mut queue = vec![name.to_owned()];
        while let Some(next) = queue.pop() {
            if let Some(description) = fresh.remove(&next) {
                queue.extend(
                    description
                        .dependencies
                        .iter()
                        .map(|dependency| dependency.name.clone()),
                );
                loaded.names.push(next.clone());
                self.services.insert(next, description);
            }
        }
        loaded.names.sort_unstable();
        Ok(loaded)
    }

    /// Removes services that need failed ones, and soft dependencies on failed ones, to the end.
    fn drop_failed(
        &self,
        fresh: &mut BTreeMap<String, Description>,
        failed: &mut BTreeMap<String, LoadError>,
        warnings: &mut Vec<String>,
    ) {
        loop {
            let mut newly = Vec::new();
            for description in fresh.values() {
                let fatal = description.dependencies.iter().find_map(|dependency| {
                    let cause = failed.get(&dependency.name)?;
                    let absent = dependency.from_directory && matches!(cause, LoadError::NotFound(_));
                    (dependency.kind.is_required() && !absent)
                        .then(|| (dependency.name.clone(), cause.clone()))
                });
                if let Some((needed, cause)) = fatal {
                    let cause = Box::new(cause);
                    newly.push(LoadError::Needs {
                        name: description.name.clone(),
                        needed,
                        cause,
                    });
                }
            }
            if newly.is_empty() {
                break;
            }
            for error in newly {
                if let LoadError::Needs { name, .. } = &error {
                    fresh.remove(name);
                    failed.insert(name.clone(), error);
                }
            }
        }
        for description in fresh.values_mut() {
            let name = &description.name;
            description.dependencies.retain(|dependency| {
                let Some(cause) = failed.get(&dependency.name) else {
                    return true;
                };
                warnings.push(format!("{}: {name} goes on without: {cause}", dependency.at));
                false
            });
        }
    }

    /// Breaks cycles: at an ordering if there is one, else at a soft dependency, else the services in it
    /// fail.
    fn drop_cycles(
        &mut self,
        fresh: &mut BTreeMap<String, Description>,
        failed: &mut BTreeMap<String, LoadError>,
        loaded: &mut Loaded,
    ) {
        // Every round removes an edge or a service, so this ends.
        loop {
            let edges = edges(self.services.values().chain(fresh.values()));
            let Some(cycle) = find_cycle(&edges) else { return };
            let way = shown_cycle(&cycle);
            let weakest = cycle.iter().max_by_key(|edge| edge.strength);
            match weakest {
                Some(edge) if edge.strength == Strength::Order => {
                    loaded.warnings.push(format!(
                        "{}: ordering ignored, it closes a circle: {way}",
                        edge.at
                    ));
                    // `a before b` is stored at a, `b after a` at b, as the edge b -> a. Either may be meant.
                    for description in self.services.values_mut().chain(fresh.values_mut()) {
                        if description.name == edge.from {
                            description.after.retain(|ordering| ordering.name != edge.to);
                        }
                        if description.name == edge.to {
                            description.before.retain(|ordering| ordering.name != edge.from);
                        }
                    }
                    loaded
                        .dropped_orderings
                        .push((edge.from.clone(), edge.to.clone()));
                }
                Some(edge) if edge.strength == Strength::Soft && fresh.contains_key(&edge.from) => {
                    loaded.warnings.push(format!(
                        "{}: waits-for ignored, it closes a circle: {way}",
                        edge.at
                    ));
                    if let Some(description) = fresh.get_mut(&edge.from) {
                        let soft = |kind| kind == DependencyKind::Soft;
                        description
                            .dependencies
                            .retain(|d| !(soft(d.kind) && d.name == edge.to));
                    }
                }
                _ => {
                    let mut removed = false;
                    let names: Vec<String> = names_of(&cycle);
                    for edge in &cycle {
                        if fresh.remove(&edge.from).is_some() {
                            removed = true;
                            let name = edge.from.clone();
                            failed.insert(
                                name.clone(),
                                LoadError::Cycle {
                                    name,
                                    cycle: names.clone(),
                                },
                            );
                        }
                    }
                    if !removed {
                        return;
                    }
                }
            }
        }
    }
}

/// How much an edge matters; the weakest is the largest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strength {
    /// depends-on, prepared-by, depends-ms.
    Needed,
    /// waits-for.
    Soft,
    /// before, after.
    Order,
}

/// `from` has to wait for `to` when both start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Who waits.
    pub from: String,
    /// For whom.
    pub to: String,
    /// Why.
    pub strength: Strength,
    /// Where it is written, `file:line`.
    pub at: String,
}

/// Edges of a graph by the service that waits.
pub type Edges = BTreeMap<String, Vec<Edge>>;

/// The edges between the given services; edges that lead out of the set are left out.
pub fn edges<'a>(services: impl Iterator<Item = &'a Description> + Clone) -> Edges {
    let mut out: Edges = services
        .clone()
        .map(|service| (service.name.clone(), Vec::new()))
        .collect();
    let mut add = |from: &str, to: &str, strength, at: String| {
        if out.contains_key(to)
            && let Some(list) = out.get_mut(from)
        {
            list.push(Edge {
                from: from.into(),
                to: to.into(),
                strength,
                at,
            });
        }
    };
    for service in services {
        for dependency in &service.dependencies {
            let required = dependency.kind.is_required();
            let strength = if required {
                Strength::Needed
            } else {
                Strength::Soft
            };
            add(
                &service.name,
                &dependency.name,
                strength,
                dependency.at.to_string(),
            );
        }
        for other in &service.after {
            add(&service.name, &other.name, Strength::Order, other.at.to_string());
        }
        for other in &service.before {
            add(&other.name, &service.name, Strength::Order, other.at.to_string());
        }
    }
    out
}

/// Finds a cycle, if there is one, as its edges in order.
pub fn find_cycle(edges: &Edges) -> Option<Vec<Edge>> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in edges.keys() {
        // Depth first with the way as an explicit stack: depth is up to the number of services.
        let mut way: Vec<(&str, usize)> = Vec::new();
        let mut on_way: BTreeSet<&str> = BTreeSet::new();
        if !done.contains(start.as_str()) {
            way.push((start, 0));
            on_way.insert(start);
        }
        while let Some((node, next)) = way.last_mut() {
            let node = *node;
            let Some(edge) = edges[node].get(*next) else {
                done.insert(node);
                on_way.remove(node);
                way.pop();
                continue;
            };
            *next += 1;
            let to = edge.to.as_str();
            if on_way.contains(to) {
                let begin = way.iter().position(|(name, _)| *name == to).unwrap_or(0);
                // Each stack entry has moved past the edge that leads to the next entry.
                return Some(
                    way[begin..]
                        .iter()
                        .map(|(name, next)| edges[*name][next - 1].clone())
                        .collect(),
                );
            }
            if !done.contains(to) {
                on_way.insert(to);
                way.push((to, 0));
            }
        }
    }
    None
}

fn names_of(cycle: &[Edge]) -> Vec<String> {
    let mut names: Vec<String> = cycle.iter().map(|edge| edge.from.clone()).collect();
    names.extend(cycle.first().map(|edge| edge.from.clone()));
    names
}

/// `a -> b -> a`.
pub fn shown_cycle(cycle: &[Edge]) -> String {
    names_of(cycle).join(" -> ")
}

/// The longest chain of dependencies (orderings do not count) from `start`, as names. The graph must
/// have no cycle.
pub fn longest_path(edges: &Edges, start: &str) -> Vec<String> {
    // Length of the longest chain below a service and its first step, filled in from the leaves.
    let mut best: BTreeMap<&str, (usize, Option<&str>)> = BTreeMap::new();
    let mut stack = vec![(start, false)];
    while let Some((node, children_done)) = stack.pop() {
        if best.contains_key(node) {
            continue;
        }
        let targets = edges.get(node).into_iter().flatten();
        let targets = targets
            .filter(|edge| edge.strength != Strength::Order)
            .map(|edge| edge.to.as_str());
        if children_done {
            let longest = targets
                .filter_map(|to| best.get(to).map(|&(length, _)| (length + 1, Some(to))))
                .max_by_key(|&(length, _)| length);
            best.insert(node, longest.unwrap_or((0, None)));
        } else {
            stack.push((node, true));
            stack.extend(targets.map(|to| (to, false)));
        }
    }
    let mut path = vec![start.to_owned()];
    let mut here = start;
    while let Some(&(_, Some(next))) = best.get(here) {
        path.push(next.to_owned());
        here = next;
    }
    path
}

/// The default directories below the root, those that are the same by a link once only.
pub fn system_directories() -> Vec<PathBuf> {
    SYSTEM_DIRECTORIES.iter().map(PathBuf::from).collect()
}

/// The directories given, or the default ones.
pub fn directories_or_default(given: &[PathBuf]) -> Vec<PathBuf> {
    if given.is_empty() {
        system_directories()
    } else {
        given.iter().map(|path| Path::new(path).into()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::MemoryFiles;

    fn load(files: &[(&str, &str)], name: &str) -> (Catalogue, Result<Loaded, LoadError>) {
        let mut memory = MemoryFiles::default();
        for (name, text) in files {
            memory.add(format!("/d/{name}"), format!("type = internal\n{text}"));
        }
        let environment = Environment::new();
        let directories = [PathBuf::from("/d")];
        let loader = Loader {
            files: &memory,
            directories: &directories,
            environment: &environment,
        };
        let mut catalogue = Catalogue::default();
        let result = catalogue.load(&loader, name);
        (catalogue, result)
    }

    #[test]
    fn first_directory_wins_and_shadows() {
        let mut files = MemoryFiles::default();
        files
            .add("/etc/dinit.d/x", "type = internal\n")
            .add("/usr/lib/dinit.d/x", "nonsense");
        files.add("/usr/lib/dinit.d/t", "type = internal\nafter: u@$1\n");
        let environment = Environment::new();
        let directories = system_directories();
        let loader = Loader {
            files: &files,
            directories: &directories,
            environment: &environment,
        };
        assert_eq!(loader.find("x").unwrap(), Path::new("/etc/dinit.d/x"));
        assert_eq!(loader.describe("t@7").unwrap().after[0].name, "u@7");
        assert_eq!(loader.describe("y").unwrap_err(), LoadError::NotFound("y".into()));
        assert_eq!(loader.all_names().into_iter().collect::<Vec<_>>(), ["t", "x"]);
    }

    #[test]
    fn closure_and_soft_failures() {
        let (catalogue, result) = load(
            &[
                (
                    "boot",
                    "depends-on: a\nwaits-for: bad\nwaits-for: none\nwaits-for: needs-none\n",
                ),
                ("a", "depends-ms: b\n"),
                ("b", ""),
                ("bad", "frob = 1\n"),
                ("needs-none", "depends-on: none\n"),
                ("stray", ""),
            ],
            "boot",
        );
        let loaded = result.unwrap();
        assert_eq!(loaded.names, ["a", "b", "boot"]);
        assert_eq!(loaded.warnings.len(), 3, "{:?}", loaded.warnings);
        assert!(
            loaded
                .warnings
                .iter()
                .any(|w| w.contains("/d/bad:2: unknown setting `frob`"))
        );
        assert_eq!(catalogue.get("boot").unwrap().dependencies.len(), 1);
    }

    #[test]
    fn hard_failures_go_up_the_chain() {
        let (catalogue, result) = load(
            &[("boot", "depends-on: a\n"), ("a", "depends-ms: none\n")],
            "boot",
        );
        assert_eq!(
            result.unwrap_err().to_string(),
            "service `boot` needs `a`, which cannot be loaded: service `a` needs `none`, which cannot be \
             loaded: service `none` is not in any service directory"
        );
        assert_eq!(catalogue.iter().count(), 0, "nothing is half loaded");
    }

    #[test]
    fn cycles_break_at_the_weakest_edge() {
        let (_, result) = load(
            &[
                ("a", "depends-on: b\n"),
                ("b", "depends-on: c\n"),
                ("c", "depends-on: a\n"),
            ],
            "a",
        );
        assert_eq!(
            result.unwrap_err().to_string(),
            "service `a` depends on itself: a -> b -> c -> a"
        );
        let (catalogue, result) = load(&[("a", "depends-on: b\n"), ("b", "waits-for: a\n")], "a");
        assert!(result.unwrap().warnings[0].contains("/d/b:2: waits-for ignored"));
        assert!(catalogue.get("b").unwrap().dependencies.is_empty());
        let (catalogue, result) = load(&[("a", "depends-on: b\n"), ("b", "after: a\n")], "a");
        assert!(result.unwrap().warnings[0].contains("ordering ignored"));
        assert!(catalogue.get("b").unwrap().after.is_empty());
        let (catalogue, result) = load(&[("a", "depends-on: b\nbefore: b\n"), ("b", "")], "a");
        assert!(result.unwrap().warnings[0].contains("ordering ignored"));
        assert!(catalogue.get("a").unwrap().before.is_empty());
        // A soft branch into a hard cycle does not take the rest down.
        let (_, result) = load(
            &[
                ("a", "waits-for: x\ndepends-on: k\n"),
                ("k", ""),
                ("x", "depends-on: y\n"),
                ("y", "depends-on: x\n"),
            ],
            "a",
        );
        assert_eq!(result.unwrap().names, ["a", "k"]);
        let (_, result) = load(&[("a", "depends-on: a\n")], "a");
        assert_eq!(
            result.unwrap_err().to_string(),
            "service `a` depends on itself: a -> a"
        );
    }

    #[test]
    fn longest_path_counts_dependencies_only() {
        let (catalogue, _) = load(
            &[
                ("a", "depends-on: b\nwaits-for: d\nafter: c\n"),
                ("b", "waits-for: c\n"),
                ("c", "depends-on: d\n"),
                ("d", ""),
            ],
            "a",
        );
        let edges = edges(catalogue.iter().collect::<Vec<_>>().into_iter());
        assert_eq!(longest_path(&edges, "a"), ["a", "b", "c", "d"]);
    }
}
