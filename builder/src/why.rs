//! Why a package is part of an image: the shortest chain of needs from what the definition asks for, in each list of the
//! lock that has it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use lycia_apk::dependency;
use lycia_apk::metadata::{Dependency, PackageInfo};
use serde::Serialize;

use crate::choice::{self, Choice, Open};
use crate::definition::Image;
use crate::error::{Error, Kind, Result};
use crate::offer::{self, Installation};
use crate::packages::{Chosen, OpenRepository};

/// A list of a lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum List {
    /// `[[package]]`: installed in the root.
    Package,
    /// `[[initramfs]]`: gives files to the initramfs alone.
    Initramfs,
    /// `[[offered]]`: on the medium, for installations.
    Offered,
}

/// Why one package is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The definition asks for it.
    World,
    /// The package before it in the chain depends on it.
    Depends,
    /// It is added wherever certain packages are, the one before it in the chain among them.
    InstallIf,
}

/// A package of a chain.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Link {
    /// Name.
    pub package: String,
    /// Version.
    pub version: String,
    /// Why it is there.
    pub reason: Reason,
    /// What is asked for: an entry of world, a dependency, or all conditions together.
    pub entry: String,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Why {
    /// Name of the image.
    pub image: String,
    /// The list of the lock that has it.
    pub list: List,
    /// Of an offered one, the choices of an installation that bring it. The chain is that of the first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub offers: Vec<String>,
    /// What was asked about: a package, or a name that it provides.
    pub asked: String,
    /// From what the definition asks for to the package.
    pub chain: Vec<Link>,
    /// All packages that need it or bring it, sorted.
    pub needed_by: Vec<String>,
}

/// One way from a package to another.
struct Edge<'c> {
    to: usize,
    reason: Reason,
    entry: String,
    from: &'c str,
}

impl Why {
    /// Finds out why `name` is among the packages of an image: an answer for each list that has it, in the lock's order.
    ///
    /// # Errors
    /// When none has it, with what is known of it, or one has it that nothing asks for.
    pub fn of(image: &Image, open: &Open, choice: &Choice, name: &str) -> Result<Vec<Why>> {
        let mut answers = Vec::new();
        answers.extend(Why::root(image, &choice.root, name)?);
        answers.extend(Why::initramfs(image, &choice.initramfs, name));
        // Without this the installations are solved for nothing.
        if find(&infos(&choice.offered), name).is_some() {
            answers.extend(Why::offered(image, &offer::installations(image, open)?, name)?);
        }
        if answers.is_empty() {
            let all = choice.root.iter().chain(&choice.initramfs).chain(&choice.offered);
            let packages: Vec<&PackageInfo> = all.map(|one| &one.entry).collect();
            return Err(absent(
                image,
                open.root.iter().chain(&open.initramfs),
                &packages,
                name,
            ));
        }
        Ok(answers)
    }

    fn root(image: &Image, chosen: &[Chosen], name: &str) -> Result<Option<Why>> {
        let packages = infos(chosen);
        let Some(target) = find(&packages, name) else {
            return Ok(None);
        };
        let edges = edges(&packages);
        let mut needed_by: Vec<String> = edges
            .iter()
            .flatten()
            .filter(|edge| edge.to == target)
            .map(|edge| edge.from.to_owned())
            .collect();
        needed_by.sort();
        needed_by.dedup();
        Ok(Some(Why {
            image: image.name.clone(),
            list: List::Package,
            offers: Vec::new(),
            asked: name.to_owned(),
            chain: chain(image, &packages, &edges, target)?,
            needed_by,
        }))
    }

    /// Packages of the initramfs are named one by one: what they depend on is not looked at.
    fn initramfs(image: &Image, chosen: &[Chosen], name: &str) -> Option<Why> {
        let packages = infos(chosen);
        let package = packages[find(&packages, name)?];
        Some(Why {
            image: image.name.clone(),
            list: List::Initramfs,
            offers: Vec::new(),
            asked: name.to_owned(),
            chain: vec![Link {
                package: package.name.clone(),
                version: package.version.clone(),
                reason: Reason::World,
                entry: package.name.clone(),
            }],
            needed_by: Vec::new(),
        })
    }

    fn offered(image: &Image, installations: &[Installation], name: &str) -> Result<Option<Why>> {
        let mut answer: Option<Why> = None;
        for installation in installations {
            let Some(mut why) = Why::root(&installation.image, &installation.chosen, name)? else {
                continue;
            };
            match &mut answer {
                Some(answer) => answer.offers.push(installation.name.clone()),
                None => {
                    why.image.clone_from(&image.name);
                    why.list = List::Offered;
                    why.offers.push(installation.name.clone());
                    answer = Some(why);
                }
            }
        }
        Ok(answer)
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut before = String::new();
        for link in &self.chain {
            let named = |entry: &str| {
                if is_name(entry, &link.package) {
                    format!("{} {}", link.package, link.version)
                } else {
                    format!("{entry}, which is {} {}", link.package, link.version)
                }
            };
            text.push_str(&match link.reason {
                Reason::World => match self.list {
                    List::Package => format!("the image {} asks for {}\n", self.image, named(&link.entry)),
                    List::Initramfs => format!(
                        "the initramfs of {} takes files from {}\n",
                        self.image,
                        named(&link.entry)
                    ),
                    List::Offered => format!(
                        "an installation from {} with {} asks for {}\n",
                        self.image,
                        self.offers.first().map_or("", String::as_str),
                        named(&link.entry)
                    ),
                },
                Reason::Depends => format!("{before} needs {}\n", named(&link.entry)),
                Reason::InstallIf => format!(
                    "{before} brings {} {}, which is added where there is {}\n",
                    link.package, link.version, link.entry
                ),
            });
            before.clone_from(&link.package);
        }
        if self.asked != before {
            text.push_str(&format!("{before} provides {}\n", self.asked));
        }
        let others: Vec<&str> = self
            .needed_by
            .iter()
            .map(String::as_str)
            .filter(|name| {
                self.chain
                    .iter()
                    .rev()
                    .nth(1)
                    .is_none_or(|link| link.package != *name)
            })
            .collect();
        if !others.is_empty() {
            text.push_str(&format!(
                "it is needed by {} more: {}\n",
                others.len(),
                others.join(" ")
            ));
        }
        if let [_, more @ ..] = self.offers.as_slice()
            && !more.is_empty()
        {
            text.push_str(&format!(
                "so do {} more installations: with {}\n",
                more.len(),
                more.join(", ")
            ));
        }
        text
    }
}

fn infos(chosen: &[Chosen]) -> Vec<&PackageInfo> {
    chosen.iter().map(|one| &one.entry).collect()
}

/// The package `name`, or the first that provides it.
fn find(packages: &[&PackageInfo], name: &str) -> Option<usize> {
    let provides = |one: &&PackageInfo| one.provides.iter().any(|entry| entry.name == name);
    let mut places = packages.iter();
    places
        .position(|one| one.name == name)
        .or_else(|| packages.iter().position(provides))
}

/// Whether a dependency names the package itself, with or without a version.
fn is_name(entry: &str, package: &str) -> bool {
    entry
        .strip_prefix(package)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['<', '>', '=', '~', '@']))
}

/// For each package, where its needs lead.
fn edges<'c>(packages: &[&'c PackageInfo]) -> Vec<Vec<Edge<'c>>> {
    let mut providers: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (at, package) in packages.iter().enumerate() {
        providers.entry(&package.name).or_default().push(at);
        for entry in &package.provides {
            providers.entry(&entry.name).or_default().push(at);
        }
    }
    let meeting = |wanted: &Dependency| -> Option<usize> {
        if wanted.op.is_conflict() {
            return None;
        }
        let mut places = providers.get(wanted.name.as_str())?.iter().copied();
        places.find(|at| dependency::is_met_by(wanted, packages[*at]))
    };
    let mut edges: Vec<Vec<Edge<'c>>> = packages.iter().map(|_| Vec::new()).collect();
    for (at, package) in packages.iter().enumerate() {
        for wanted in &package.depends {
            if let Some(to) = meeting(wanted).filter(|to| *to != at) {
                edges[at].push(Edge {
                    to,
                    reason: Reason::Depends,
                    entry: wanted.to_string(),
                    from: &package.name,
                });
            }
        }
        let conditions = &package.install_if;
        let met: Vec<usize> = conditions.iter().filter_map(meeting).collect();
        let positive = conditions.iter().filter(|one| !one.op.is_conflict()).count();
        if positive > 0 && met.len() == positive {
            let all: Vec<String> = conditions.iter().map(ToString::to_string).collect();
            for from in met.into_iter().filter(|from| *from != at) {
                edges[from].push(Edge {
                    to: at,
                    reason: Reason::InstallIf,
                    entry: all.join(" and "),
                    from: &packages[from].name,
                });
            }
        }
    }
    edges
}

/// The shortest way from world to `target`.
fn chain(
    image: &Image,
    packages: &[&PackageInfo],
    edges: &[Vec<Edge<'_>>],
    target: usize,
) -> Result<Vec<Link>> {
    let mut reached: Vec<Option<(Option<usize>, Reason, String)>> = packages.iter().map(|_| None).collect();
    let mut waiting = VecDeque::new();
    for entry in choice::world(image)? {
        let met = packages
            .iter()
            .position(|one| one.name == entry.name && dependency::is_met_by(&entry, one))
            .or_else(|| packages.iter().position(|one| dependency::is_met_by(&entry, one)));
        if let Some(at) = met.filter(|_| !entry.op.is_conflict())
            && reached[at].is_none()
        {
            reached[at] = Some((None, Reason::World, entry.to_string()));
            waiting.push_back(at);
        }
    }
    while let Some(at) = waiting.pop_front() {
        for edge in &edges[at] {
            if reached[edge.to].is_none() {
                reached[edge.to] = Some((Some(at), edge.reason.clone(), edge.entry.clone()));
                waiting.push_back(edge.to);
            }
        }
    }
    let mut links = Vec::new();
    let mut next = Some(target);
    while let Some(at) = next {
        let Some((from, reason, entry)) = &reached[at] else {
            return Err(Error::new(
                Kind::Target,
                format!("{} is locked, and nothing asks for it", packages[at].name),
            )
            .hint(format!(
                "`lycia lock {}` leaves out what nothing asks for",
                image.name
            )));
        };
        links.push(Link {
            package: packages[at].name.clone(),
            version: packages[at].version.clone(),
            reason: reason.clone(),
            entry: entry.clone(),
        });
        next = *from;
    }
    links.reverse();
    Ok(links)
}

/// The error about a name that is not part of the image.
fn absent<'o>(
    image: &Image,
    repositories: impl Iterator<Item = &'o OpenRepository>,
    packages: &[&PackageInfo],
    name: &str,
) -> Error {
    let error = Error::new(
        Kind::Input,
        format!("{name} is not part of the image {}", image.name),
    );
    let mut offered: Vec<String> = Vec::new();
    for repository in repositories {
        for entry in &repository.packages {
            let provides = entry.provides.iter().any(|one| one.name == name);
            if entry.name == name || provides {
                offered.push(format!(
                    "{} {} ({})",
                    entry.name, entry.version, repository.definition.name
                ));
            }
        }
    }
    let mut seen = BTreeSet::new();
    offered.retain(|one| seen.insert(one.clone()));
    if !offered.is_empty() {
        offered.truncate(8);
        return error.hint(format!(
            "it could be had, and nothing asks for it: {}",
            offered.join(", ")
        ));
    }
    let known = packages.iter().map(|one| one.name.as_str());
    match lycia_seed::nearest(name, known) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint("no repository of the image has it"),
    }
}
