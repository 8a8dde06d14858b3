//! What is asked for: a world and a command that changes it (section 15.2).

use std::collections::HashMap;

use super::SolveError;
use super::state::{Flags, WorldEntry};
use super::universe::{NameId, PackageId, Universe};
use crate::dependency;
use crate::metadata::{Dependency, Match};

/// What to do about a world.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Command {
    /// Nothing but to make the system what world says.
    #[default]
    Satisfy,
    /// Adds entries to world; an entry of the same name is replaced.
    Add {
        /// The entries.
        entries: Vec<Dependency>,
        /// Prefer newer versions of these and what they need (`-u`).
        upgrade: bool,
        /// Take the newest versions of these even if they cannot be installed (`-l`).
        latest: bool,
    },
    /// Takes names out of world.
    Delete {
        /// The names; a `*` stands for any text.
        names: Vec<String>,
        /// What depends on them goes too (`-r`).
        dependants: bool,
    },
    /// Takes newer versions.
    Upgrade {
        /// Only of these; of everything when there are none.
        names: Vec<String>,
        /// Upgrade everything but `names`.
        ignore: bool,
        /// Also go back to what the repositories have (`-a`).
        available: bool,
        /// Insist on the newest versions (`-l`).
        latest: bool,
        /// Drop entries of world that no repository has.
        prune: bool,
    },
    /// Installs packages again.
    Fix {
        /// These.
        names: Vec<String>,
        /// Install the same version again; this is the default when `upgrade` is not set.
        reinstall: bool,
        /// Take newer versions.
        upgrade: bool,
        /// Do the same with what they depend on.
        depends: bool,
    },
}

/// A world and what to do about it.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Request {
    /// The entries of world before the command, in any order.
    pub world: Vec<Dependency>,
    /// What to do.
    pub command: Command,
    /// Leave out entries of world that cannot be met instead of failing.
    pub drop_unmet: bool,
}

impl Request {
    /// Asks to make the system what a world says.
    pub fn satisfy(world: impl IntoIterator<Item = Dependency>) -> Self {
        Request {
            world: world.into_iter().collect(),
            ..Request::default()
        }
    }
}

/// A request in the terms of a universe.
pub(super) struct Plan {
    pub world: Vec<WorldEntry>,
    /// Wishes about names: own ones and those handed on to what they depend on.
    pub flags: Vec<(NameId, Flags, Flags)>,
    pub global: Flags,
    /// How many names there are, with those that only the request speaks of.
    pub names: usize,
}

/// Looks up names, numbering the ones that the universe does not have.
struct Names<'u> {
    universe: &'u Universe,
    extra: HashMap<String, NameId>,
}

impl Names<'_> {
    fn id(&mut self, name: &str) -> NameId {
        let next = NameId(self.count() as u32);
        match self.universe.find(name) {
            Some(id) => id,
            None => *self.extra.entry(name.into()).or_insert(next),
        }
    }

    fn count(&self) -> usize {
        self.universe.names.len() + self.extra.len()
    }
}

impl Plan {
    pub fn new(universe: &Universe, request: &Request) -> Result<Plan, SolveError> {
        let mut world = request.world.clone();
        let mut names = Names {
            universe,
            extra: HashMap::new(),
        };
        let mut flags = Vec::new();
        let mut global = Flags::default();
        match &request.command {
            Command::Satisfy => {}
            Command::Add {
                entries,
                upgrade,
                latest,
            } => {
                let wish = Flags::UPGRADE.when(*upgrade) | Flags::LATEST.when(*latest);
                let mut places = HashMap::new();
                for (place, entry) in world.iter().enumerate() {
                    places.entry(entry.name.clone()).or_insert(place);
                }
                for entry in entries {
                    match places.get(&entry.name) {
                        Some(place) => world[*place] = entry.clone(),
                        None => {
                            places.insert(entry.name.clone(), world.len());
                            world.push(entry.clone());
                        }
                    }
                    flags.push((names.id(&entry.name), wish, wish));
                }
            }
            Command::Delete {
                names: patterns,
                dependants,
            } => {
                for name in find(universe, &request.world, patterns)? {
                    delete(universe, &mut world, &mut flags, &name, *dependants);
                }
            }
            Command::Upgrade {
                names: patterns,
                ignore,
                available,
                latest,
                prune,
            } => {
                global = Flags::UPGRADE | Flags::AVAILABLE.when(*available) | Flags::LATEST.when(*latest);
                if *available {
                    for entry in world.iter_mut().filter(|entry| dependency::is_on_identity(entry)) {
                        entry.op = Match::ANY;
                        entry.version.clear();
                    }
                }
                if *prune {
                    world.retain(|entry| {
                        let mut providers = universe.providers_of(&entry.name).into_iter();
                        providers.any(|(id, _)| universe.package(id).repositories != 0)
                    });
                }
                if !patterns.is_empty() && !ignore {
                    // With names, the rest of world is not upgraded.
                    global = Flags(global.0 & !Flags::UPGRADE.0);
                }
                for name in find(universe, &request.world, patterns)? {
                    let wish = if *ignore { Flags::INSTALLED } else { Flags::UPGRADE };
                    flags.push((names.id(&name), wish, Flags::default()));
                }
            }
            Command::Fix {
                names: patterns,
                reinstall,
                upgrade,
                depends,
            } => {
                let wish = Flags::REINSTALL.when(*reinstall || !upgrade) | Flags::UPGRADE.when(*upgrade);
                for name in find(universe, &request.world, patterns)? {
                    flags.push((names.id(&name), wish, wish.when(*depends)));
                }
            }
        }
        dependency::sort_world(&mut world);
        if let Some(entry) = world.iter().find(|entry| dependency::is_broken(entry)) {
            return Err(SolveError::BadVersion {
                entry: entry.to_string(),
            });
        }
        let mut resolved = Vec::with_capacity(world.len());
        for dependency in world {
            let tag = dependency.tag.as_deref().unwrap_or_default();
            let known = universe.tags.iter().position(|known| known.name == tag);
            let usable = known.filter(|tag| *tag == 0 || universe.tags[*tag].repositories != 0);
            let tag = match (usable, request.drop_unmet) {
                (Some(tag), _) => tag as u8,
                (None, true) => 0,
                (None, false) => {
                    return Err(SolveError::UnknownTag {
                        entry: dependency.to_string(),
                    });
                }
            };
            resolved.push(WorldEntry {
                name: names.id(&dependency.name),
                dependency,
                tag,
                dropped: false,
            });
        }
        let names = names.count();
        Ok(Plan {
            world: resolved,
            flags,
            global,
            names,
        })
    }
}

/// The names that the arguments of a command mean. A pattern may mean none, a plain name must be known.
fn find(universe: &Universe, world: &[Dependency], patterns: &[String]) -> Result<Vec<String>, SolveError> {
    let mut found = Vec::new();
    let mut unknown = Vec::new();
    for pattern in patterns {
        if pattern.contains('*') {
            let names = universe.names.iter().map(|name| &*name.text);
            found.extend(names.filter(|name| is_like(name, pattern)).map(str::to_owned));
        } else if universe.find(pattern).is_some() || world.iter().any(|entry| entry.name == *pattern) {
            found.push(pattern.clone());
        } else {
            unknown.push(pattern.clone());
        }
    }
    if unknown.is_empty() {
        Ok(found)
    } else {
        Err(SolveError::NoSuchPackage { names: unknown })
    }
}

/// Whether a name is like a pattern in which `*` stands for any text.
fn is_like(name: &str, pattern: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = name.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Takes a name out of world. An installed package of that name loses its preference, and with
/// `dependants` everything that needs it is treated likewise.
fn delete(
    universe: &Universe,
    world: &mut Vec<Dependency>,
    flags: &mut Vec<(NameId, Flags, Flags)>,
    name: &str,
    dependants: bool,
) {
    let providers = universe.providers_of(name);
    let mut own = providers.into_iter().map(|(id, _)| id);
    let installed = own.find(|id| universe.info(*id).name == name && universe.is_installed(*id));
    let Some(installed) = installed else {
        world.retain(|entry| entry.name != name);
        return;
    };
    // Depth first. Each package is looked at once, for whichever of the doomed comes to it first: if it does not need
    // that one, it stays, though it may need another (as apk has it).
    let mut seen: std::collections::BTreeSet<PackageId> = std::collections::BTreeSet::new();
    let mut path = vec![(
        installed,
        doom(universe, world, flags, installed, dependants).into_iter(),
    )];
    while let Some((by, others)) = path.last_mut() {
        let by = universe.info(*by);
        let needs = |id: PackageId| {
            let mut depends = universe.info(id).depends.iter();
            let named = |wanted: &Dependency| {
                wanted.name == by.name || by.provides.iter().any(|entry| entry.name == wanted.name)
            };
            depends.any(|wanted| named(wanted) && dependency::is_met_by(wanted, by))
        };
        match others.find(|id| seen.insert(*id) && needs(*id)) {
            Some(next) => {
                let after = doom(universe, world, flags, next, dependants);
                path.push((next, after.into_iter()));
            }
            None => {
                path.pop();
            }
        }
    }
}

/// Takes an installed package out of world; gives the installed packages that may depend on it, in apk's order.
fn doom(
    universe: &Universe,
    world: &mut Vec<Dependency>,
    flags: &mut Vec<(NameId, Flags, Flags)>,
    id: PackageId,
    dependants: bool,
) -> Vec<PackageId> {
    let info = universe.info(id);
    let package = universe.package(id);
    world.retain(|entry| entry.name != info.name);
    flags.push((package.name, Flags::REMOVE, Flags::default()));
    if !dependants {
        return Vec::new();
    }
    let mut provided: Vec<&str> = info.provides.iter().map(|entry| entry.name.as_str()).collect();
    provided.sort_unstable();
    world.retain(|entry| provided.binary_search(&entry.name.as_str()).is_err());
    let mut candidates = Vec::new();
    let mut names: Vec<NameId> = vec![package.name];
    names.extend(package.provides.iter().copied());
    let mut known = std::collections::BTreeSet::new();
    for name in names {
        for dependant in &universe.names[name.index()].dependants {
            let providers = universe.names[dependant.index()].providers.iter();
            candidates.extend(
                providers
                    .map(|provider| provider.package)
                    .filter(|id| universe.is_installed(*id) && known.insert(*id)),
            );
        }
    }
    candidates
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn patterns() {
        for (name, pattern, like) in [
            ("musl", "musl", true),
            ("musl-dev", "musl", false),
            ("musl-dev", "musl*", true),
            ("musl-dev", "*-dev", true),
            ("musl-dev", "m*l*v", true),
            ("musl-dev", "m*x*v", false),
            ("aa", "a*a*a", false),
            ("aba", "a*a", true),
            ("a", "a*a", false),
            ("", "*", true),
            ("é", "*é*", true),
        ] {
            assert_eq!(is_like(name, pattern), like, "{name} like {pattern}");
        }
    }
}
