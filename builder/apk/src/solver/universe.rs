//! What can be chosen from: names, packages and who provides which name (section 15.1).

use std::cmp::Ordering;
use std::collections::HashMap;

use thiserror::Error;

use crate::dependency;
use crate::metadata::{Dependency, PackageInfo};
use crate::version;

/// How many repositories there may be.
pub const MAX_REPOSITORIES: usize = 32;
/// How many repository tags there may be.
pub const MAX_TAGS: usize = 15;
/// How many entries the reverse lists may have together. Chimera's whole repository needs well under a
/// million; a package with 100,000 dependencies and as many provided names would need 10^10.
const MAX_REVERSE_ENTRIES: usize = 1 << 24;
/// The size of apk's table of names, whose order decides some ties.
const BUCKETS: u32 = 20_000;

/// A package of a [`Universe`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PackageId(pub(super) u32);

/// A name of a [`Universe`], provided by packages or only spoken of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct NameId(pub(super) u32);

impl PackageId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

impl NameId {
    pub(super) fn index(self) -> usize {
        self.0 as usize
    }
}

/// One way in which a package answers to a name: entry 0 is its own name, entry `n` its `n`-th provided
/// name, counted from 1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Provider {
    pub package: PackageId,
    pub entry: u32,
}

/// Why records cannot make a universe.
#[derive(Clone, PartialEq, Eq, Error, Debug)]
pub enum UniverseError {
    /// More repositories than apk can tell apart.
    #[error("cannot use more than {MAX_REPOSITORIES} repositories; leave some out")]
    TooManyRepositories,
    /// More tags than apk can tell apart.
    #[error("cannot use repository tag @{tag}: there may be {MAX_TAGS} tags at most")]
    TooManyTags {
        /// The tag that was one too many.
        tag: String,
    },
    /// Relations between names that are out of all proportion.
    #[error(
        "with the packages that provide {name} there are more than {MAX_REVERSE_ENTRIES} relations between names, the \
         limit: some package has dependencies and provided names out of all proportion; the index is damaged or hostile"
    )]
    TooManyRelations {
        /// Where the limit was passed.
        name: String,
    },
    /// More packages or names than fit 32 bits.
    #[error("there are more than {} packages or names, the limit", 1u32 << 31)]
    TooManyRecords,
}

pub(super) struct Name {
    pub text: Box<str>,
    /// In the order in which records were read.
    pub providers: Vec<Provider>,
    /// Names of which some provider depends on this one or conflicts with it.
    pub dependants: Vec<NameId>,
    /// Names of which some provider has this one in its `install_if`.
    pub followers: Vec<NameId>,
}

pub(super) struct Package {
    pub info: PackageInfo,
    pub name: NameId,
    pub depends: Box<[NameId]>,
    pub provides: Box<[NameId]>,
    pub install_if: Box<[NameId]>,
    /// Some name is provided without a version.
    pub provides_unversioned: bool,
    /// Bit `n` for the repository with number `n`.
    pub repositories: u32,
    /// The tag it was installed from.
    pub installed: Option<u8>,
    pub from_file: bool,
    /// Its file is in the cache.
    pub cached: bool,
    /// Came after the database and the repositories, when apk has already related the names.
    pub late: bool,
    /// Its architecture is not one of ours.
    pub foreign: bool,
    /// A dependency compares with what is no version.
    pub broken: bool,
}

/// All packages that may be chosen or are there already.
///
/// It is made once by a [`UniverseBuilder`] and can be solved against any number of times.
pub struct Universe {
    pub(super) names: Vec<Name>,
    pub(super) packages: Vec<Package>,
    /// In the order of the installed database.
    pub(super) installed: Vec<PackageId>,
    /// Tag 0 is "no tag".
    pub(super) tags: Vec<Tag>,
    /// Repositories whose packages can be had, by bit.
    pub(super) reachable: u32,
    index: HashMap<Box<str>, NameId>,
    architectures: Vec<String>,
}

pub(super) struct Tag {
    pub name: String,
    /// Bit `n` for the repository with number `n`.
    pub repositories: u32,
}

/// Collects the records of a [`Universe`].
///
/// The order of the calls is the order of the records, which decides ties: first what is installed, in
/// the order of the database, then repositories by number, then single package files. Inside one repository the order of
/// its index decides nothing: records are taken by name, version and identity, as apk itself sorts the indexes that it
/// writes.
pub struct UniverseBuilder {
    universe: Universe,
    identities: HashMap<Vec<u8>, PackageId>,
    repositories: usize,
}

impl UniverseBuilder {
    /// Starts with the architectures that may be installed. Packages without architecture and `noarch`
    /// ones always may.
    pub fn new<S: Into<String>>(architectures: impl IntoIterator<Item = S>) -> Self {
        UniverseBuilder {
            universe: Universe {
                names: Vec::new(),
                packages: Vec::new(),
                installed: Vec::new(),
                tags: vec![Tag {
                    name: String::new(),
                    repositories: 0,
                }],
                reachable: u32::MAX,
                index: HashMap::new(),
                architectures: architectures.into_iter().map(Into::into).collect(),
            },
            identities: HashMap::new(),
            repositories: 0,
        }
    }

    /// Adds an installed package and the repository tag that the database records for it.
    pub fn installed(&mut self, info: PackageInfo, tag: Option<&str>) -> Result<PackageId, UniverseError> {
        let tag = self.tag(tag)?;
        let id = self.package(info, false)?;
        let package = &mut self.universe.packages[id.index()];
        if package.installed.replace(tag).is_none() {
            self.universe.installed.push(id);
        }
        Ok(id)
    }

    /// Adds a repository with the packages of its index and returns its number, which counts from 0.
    ///
    /// `tags` are the tags under which it was configured, `None` being "without tag"; a repository that
    /// has only tagged configurations is not used unless world asks for the tag.
    pub fn repository<'t>(
        &mut self,
        tags: impl IntoIterator<Item = Option<&'t str>>,
        packages: impl IntoIterator<Item = PackageInfo>,
    ) -> Result<usize, UniverseError> {
        if self.repositories >= MAX_REPOSITORIES {
            return Err(UniverseError::TooManyRepositories);
        }
        let number = self.repositories;
        for tag in tags {
            let tag = self.tag(tag)?;
            self.universe.tags[usize::from(tag)].repositories |= 1 << number;
        }
        self.repositories += 1;
        let mut packages: Vec<PackageInfo> = packages.into_iter().collect();
        packages.sort_by(in_an_index);
        for info in packages {
            let id = self.package(info, false)?;
            self.universe.packages[id.index()].repositories |= 1 << number;
        }
        Ok(number)
    }

    /// Says that the packages of a repository cannot be had, though its index was read: without network only
    /// what is installed or in the cache is of use.
    pub fn unreachable(&mut self, repository: usize) {
        if repository < MAX_REPOSITORIES {
            self.universe.reachable &= !(1 << repository);
        }
    }

    /// Adds a package whose file is in the cache, so that it can be had without its repository.
    pub fn cached(&mut self, info: PackageInfo) -> Result<PackageId, UniverseError> {
        let id = self.package(info, false)?;
        self.universe.packages[id.index()].cached = true;
        Ok(id)
    }

    /// Adds a package file that was named by itself. Its `hashes` must be its identity, as an index would
    /// give it, not the uid inside the package.
    pub fn file(&mut self, info: PackageInfo) -> Result<PackageId, UniverseError> {
        let id = self.package(info, true)?;
        self.universe.packages[id.index()].from_file = true;
        Ok(id)
    }

    /// Adds a package that is in no repository and has no files, as `apk add --virtual` makes one. Of several
    /// dependencies on one name the last counts, at the place of the first, as in world.
    pub fn virtual_package(
        &mut self,
        name: &str,
        version: &str,
        depends: Vec<Dependency>,
    ) -> Result<PackageId, UniverseError> {
        let mut places: HashMap<String, usize> = HashMap::new();
        let mut each: Vec<Dependency> = Vec::with_capacity(depends.len());
        for dependency in depends {
            match places.get(&dependency.name) {
                Some(&place) => each[place] = dependency,
                None => {
                    places.insert(dependency.name.clone(), each.len());
                    each.push(dependency);
                }
            }
        }
        let depends = each;
        let info = PackageInfo {
            name: name.into(),
            version: version.into(),
            description: "virtual meta package".into(),
            arch: "noarch".into(),
            depends,
            ..PackageInfo::default()
        };
        self.package(info, true)
    }

    /// Relates the names with each other.
    pub fn finish(mut self) -> Result<Universe, UniverseError> {
        self.universe.relate()?;
        Ok(self.universe)
    }

    fn tag(&mut self, name: Option<&str>) -> Result<u8, UniverseError> {
        let name = name.unwrap_or_default();
        let tags = &mut self.universe.tags;
        if let Some(place) = tags.iter().position(|tag| tag.name == name) {
            return Ok(place as u8);
        }
        if tags.len() > MAX_TAGS {
            return Err(UniverseError::TooManyTags { tag: name.into() });
        }
        tags.push(Tag {
            name: name.into(),
            repositories: 0,
        });
        Ok(tags.len() as u8 - 1)
    }

    fn name(&mut self, text: &str) -> Result<NameId, UniverseError> {
        if let Some(id) = self.universe.index.get(text) {
            return Ok(*id);
        }
        let id = u32::try_from(self.universe.names.len())
            .ok()
            .filter(|id| *id < 1 << 31);
        let id = NameId(id.ok_or(UniverseError::TooManyRecords)?);
        self.universe.names.push(Name {
            text: text.into(),
            providers: Vec::new(),
            dependants: Vec::new(),
            followers: Vec::new(),
        });
        self.universe.index.insert(text.into(), id);
        Ok(id)
    }

    fn names(&mut self, dependencies: &[Dependency]) -> Result<Box<[NameId]>, UniverseError> {
        dependencies
            .iter()
            .map(|dependency| self.name(&dependency.name))
            .collect()
    }

    /// Adds a record, or finds the package that has the same identity.
    fn package(&mut self, info: PackageInfo, late: bool) -> Result<PackageId, UniverseError> {
        let identity = info.hashes.as_ref().map(|digest| digest.key().to_vec());
        if let Some(id) = identity
            .as_ref()
            .and_then(|identity| self.identities.get(identity))
        {
            return Ok(*id);
        }
        let id = u32::try_from(self.universe.packages.len())
            .ok()
            .filter(|id| *id < 1 << 31);
        let id = PackageId(id.ok_or(UniverseError::TooManyRecords)?);
        let name = self.name(&info.name)?;
        let depends = self.names(&info.depends)?;
        let provides = self.names(&info.provides)?;
        // A list with a bad version is given up whole; a dependency with one makes the package uninstallable.
        let install_if = match info.install_if.iter().any(dependency::is_broken) {
            true => Box::default(),
            false => self.names(&info.install_if)?,
        };
        let universe = &mut self.universe;
        let own = Provider {
            package: id,
            entry: 0,
        };
        universe.names[name.index()].providers.push(own);
        for (entry, name) in (1..).zip(&provides) {
            universe.names[name.index()]
                .providers
                .push(Provider { package: id, entry });
        }
        let foreign = !info.fits_every_arch() && !universe.architectures.contains(&info.arch);
        let broken = info.depends.iter().any(dependency::is_broken);
        let provides_unversioned = info.provides.iter().any(|entry| entry.version.is_empty());
        universe.packages.push(Package {
            info,
            name,
            depends,
            provides,
            install_if,
            provides_unversioned,
            repositories: 0,
            installed: None,
            from_file: false,
            cached: false,
            late,
            foreign,
            broken,
        });
        if let Some(identity) = identity {
            self.identities.insert(identity, id);
        }
        Ok(id)
    }
}

impl Universe {
    /// What a package says of itself.
    pub fn info(&self, package: PackageId) -> &PackageInfo {
        &self.packages[package.index()].info
    }

    /// The numbers of the repositories that have a package, ascending.
    pub fn repositories(&self, package: PackageId) -> impl Iterator<Item = usize> + use<> {
        let mask = self.packages[package.index()].repositories;
        (0..MAX_REPOSITORIES).filter(move |number| mask >> number & 1 != 0)
    }

    /// The repository to fetch a package from that counts as installed from `tag`: the lowest-numbered with that tag,
    /// else the lowest-numbered of all. `None` for a package file or a virtual package.
    pub fn source(&self, package: PackageId, tag: Option<&str>) -> Option<usize> {
        let tag = tag.unwrap_or_default();
        let tagged = self.tags.iter().find(|known| known.name == tag);
        let tagged = tagged.map_or(0, |known| known.repositories);
        let mut all = self.repositories(package);
        let mut fitting = self
            .repositories(package)
            .filter(|number| tagged >> number & 1 != 0);
        fitting.next().or_else(|| all.next())
    }

    /// Whether a package is installed.
    pub fn is_installed(&self, package: PackageId) -> bool {
        self.packages[package.index()].installed.is_some()
    }

    /// Whether a package was added as a file of its own.
    pub fn is_file(&self, package: PackageId) -> bool {
        self.packages[package.index()].from_file
    }

    /// All packages, in the order in which they were read.
    pub fn packages(&self) -> impl ExactSizeIterator<Item = PackageId> + use<> {
        (0..self.packages.len() as u32).map(PackageId)
    }

    /// The packages that answer to a name, each with the version of the name that it provides, which is
    /// empty where it states none.
    pub fn providers_of(&self, name: &str) -> Vec<(PackageId, &str)> {
        let providers = self
            .index
            .get(name)
            .map(|id| self.providers(*id))
            .unwrap_or_default();
        providers
            .iter()
            .map(|provider| (provider.package, self.provided_version(*provider)))
            .collect()
    }

    pub(super) fn find(&self, name: &str) -> Option<NameId> {
        self.index.get(name).copied()
    }

    pub(super) fn architectures(&self) -> &[String] {
        &self.architectures
    }

    pub(super) fn package(&self, id: PackageId) -> &Package {
        &self.packages[id.index()]
    }

    // Names beyond the table are those that only the request speaks of.

    pub(super) fn providers(&self, name: NameId) -> &[Provider] {
        self.names
            .get(name.index())
            .map(|name| name.providers.as_slice())
            .unwrap_or_default()
    }

    pub(super) fn dependants(&self, name: NameId) -> &[NameId] {
        self.names
            .get(name.index())
            .map(|name| name.dependants.as_slice())
            .unwrap_or_default()
    }

    pub(super) fn followers(&self, name: NameId) -> &[NameId] {
        self.names
            .get(name.index())
            .map(|name| name.followers.as_slice())
            .unwrap_or_default()
    }

    /// The version of the name that a provider provides; empty when it states none.
    pub(super) fn provided_version(&self, provider: Provider) -> &str {
        let info = self.info(provider.package);
        match provider.entry {
            0 => &info.version,
            entry => &info.provides[entry as usize - 1].version,
        }
    }

    /// Repositories from which a package may be said to come: those that have it, and those of the tag
    /// that it was installed from.
    pub(super) fn sources(&self, id: PackageId) -> u32 {
        let package = self.package(id);
        package.repositories
            | package
                .installed
                .map_or(0, |tag| self.tags[usize::from(tag)].repositories)
    }

    /// Repositories of a set of tags, given as bits.
    pub(super) fn repositories_of_tags(&self, tags: u16) -> u32 {
        let allowed = |(place, _): &(usize, &Tag)| tags >> place & 1 != 0;
        self.tags
            .iter()
            .enumerate()
            .filter(allowed)
            .fold(0, |mask, (_, tag)| mask | tag.repositories)
    }

    /// Fills the reverse lists by visiting all names in the order of apk's hash table. Packages that came
    /// late are not in them, because apk has filled its lists before it reads their records.
    fn relate(&mut self) -> Result<(), UniverseError> {
        let mut order: Vec<(u32, std::cmp::Reverse<u32>)> = (0..)
            .zip(&self.names)
            .map(|(place, name)| (murmur3(name.text.as_bytes()) % BUCKETS, std::cmp::Reverse(place)))
            .collect();
        order.sort_unstable();
        let mut entries = 0;
        for (_, std::cmp::Reverse(visited)) in order {
            let visited = NameId(visited);
            let providers = std::mem::take(&mut self.names[visited.index()].providers);
            for provider in &providers {
                // A name is visited once, so an entry that is there already is the last one.
                let package = &self.packages[provider.package.index()];
                if package.late {
                    continue;
                }
                for name in &package.depends {
                    let list = &mut self.names[name.index()].dependants;
                    if list.last() != Some(&visited) {
                        list.push(visited);
                        entries += 1;
                    }
                }
                for name in &package.install_if {
                    let list = &mut self.names[name.index()].followers;
                    if list.last() != Some(&visited) {
                        list.push(visited);
                        entries += 1;
                    }
                }
                if entries > MAX_REVERSE_ENTRIES {
                    let name = self.names[visited.index()].text.to_string();
                    return Err(UniverseError::TooManyRelations { name });
                }
            }
            self.names[visited.index()].providers = providers;
        }
        Ok(())
    }
}

/// The order of the entries of an index.
fn in_an_index(one: &PackageInfo, other: &PackageInfo) -> Ordering {
    let identity = |info: &PackageInfo| info.hashes.as_ref().map(|digest| digest.0.clone());
    (one.name.as_bytes().cmp(other.name.as_bytes()))
        .then_with(|| version::compare(&one.version, &other.version))
        // Two texts may mean one version.
        .then_with(|| one.version.cmp(&other.version))
        .then_with(|| identity(one).cmp(&identity(other)))
}

/// MurmurHash3, 32 bits, seeded as apk seeds it.
fn murmur3(key: &[u8]) -> u32 {
    let mix = |k: u32| {
        k.wrapping_mul(0xcc9e_2d51)
            .rotate_left(15)
            .wrapping_mul(0x1b87_3593)
    };
    let mut hash: u32 = 5381;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let word = u32::from_le_bytes([word[0], word[1], word[2], word[3]]);
        hash = (hash ^ mix(word))
            .rotate_left(13)
            .wrapping_mul(5)
            .wrapping_add(0xe654_6b64);
    }
    let tail = words
        .remainder()
        .iter()
        .rev()
        .fold(0, |tail, byte| tail << 8 | u32::from(*byte));
    hash ^= mix(tail) ^ key.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}
