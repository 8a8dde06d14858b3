//! Packages: from the medium or from repositories over HTTP; chosen by apk's own rules, verified, unpacked.
//!
//! A repository may have mirrors. They are tried in their order, and the first that gave what was asked for is asked first from then on.
//! What a mirror gives counts only when it is what the keys and the index say, so that mirrors need no trust.

pub mod http;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use lycia_apk::database::Database;
use lycia_apk::dependency;
use lycia_apk::index::Index;
use lycia_apk::install::Unpacked;
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::{Dependency, FileKind, Package, PackageInfo};
use lycia_apk::package::{self, Expect, PayloadSink, Trust};
use lycia_apk::repositories::{self, Layout, Repository};
use lycia_apk::solver::{self, Operation, Request, UniverseBuilder};
use lycia_apk::virtual_package::Virtual;
use lycia_tree::{Content, Pack, PackWriter};

/// Largest index, in bytes.
const INDEX_MAX: u64 = 256 << 20;
/// What stands for a mirror in a line.
pub const MIRROR: &str = "${mirror}";
/// Packages that are unpacked at a time, at most: each holds its file in memory.
const THREADS: usize = 4;
/// Largest package, in bytes.
const PACKAGE_MAX: u64 = 4 << 30;

/// Why packages cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// A file cannot be read or written.
    #[error("{doing} {place}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On what.
        place: String,
        /// Why not.
        source: io::Error,
    },
    /// A server does not give something.
    #[error(
        "fetching {url}: {why}; is the network up? A medium is the other source (`source.kind = \"local\"`)"
    )]
    Fetch {
        /// From where.
        url: String,
        /// Why not.
        why: String,
    },
    /// A repository line, a key, an index or a package is wrong.
    #[error("{place}: {why}")]
    Wrong {
        /// What.
        place: String,
        /// Why.
        why: String,
    },
    /// No mirror gives something.
    #[error("no mirror gives it:\n  {0}")]
    Mirrors(String),
    /// The packages cannot be had together.
    #[error("choosing packages: {0}")]
    Unsolvable(String),
}

fn wrong(place: impl Into<String>) -> impl FnOnce(&dyn std::fmt::Display) -> SourceError {
    let place = place.into();
    move |why| SourceError::Wrong {
        place,
        why: why.to_string(),
    }
}

struct Open {
    /// The same repository in several places; at least one.
    places: Vec<Repository>,
    /// The place that is asked first.
    first: AtomicUsize,
    packages: Vec<PackageInfo>,
    spec: Option<String>,
}

/// Repositories with verified indexes.
pub struct Repositories {
    arch: String,
    open: Vec<Open>,
    keys: KeyRing,
    /// Public keys: name and PEM text.
    pub key_files: Vec<(String, Vec<u8>)>,
    /// Packages without files that are made where world asks for them.
    virtuals: Vec<Virtual>,
}

/// A package that was chosen.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// What the index says.
    pub entry: PackageInfo,
    /// None for a virtual package.
    repository: Option<usize>,
    /// Repository tag from which it counts as installed.
    tag: Option<String>,
}

/// A step of a change of a root.
#[derive(Clone, Debug)]
pub enum Change {
    /// A package comes, or takes the place of another version of itself.
    Put(Box<Chosen>),
    /// A package goes.
    Remove(String),
    /// A package stays, and counts as coming from the repositories with this tag.
    Keep(String, Option<String>),
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::Io {
        doing: "reading",
        place: path.display().to_string(),
        source,
    };
    let file = std::fs::File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len().min(limit);
    // In one piece: a vector that grows would copy a kernel's package several times.
    let mut bytes = Vec::with_capacity(usize::try_from(length + 1).unwrap_or_default());
    if file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)? as u64 > limit {
        return Err(failed(io::Error::from(io::ErrorKind::FileTooLarge)));
    }
    Ok(bytes)
}

impl Repositories {
    /// The repository in a folder of the medium.
    ///
    /// # Errors
    /// When its index cannot be read or no key signed it.
    pub fn local(
        folder: &Path,
        arch: &str,
        keys: Vec<(String, Vec<u8>)>,
    ) -> Result<Repositories, SourceError> {
        let base = folder.display().to_string();
        let repository = Repository {
            layout: Layout::V3,
            index_url: format!("{base}/{arch}/Packages.adb"),
            base,
            tags: vec![None],
        };
        Repositories::open(vec![vec![repository]], arch, keys)
    }

    /// Repositories named by lines as in `/etc/apk/repositories`. Where there are `mirrors`, `${mirror}` in a line stands for each of them.
    ///
    /// # Errors
    /// When a line is wrong, an index cannot be had from anywhere, or no key signed it.
    pub fn network(
        lines: &[String],
        mirrors: &[String],
        arch: &str,
        keys: Vec<(String, Vec<u8>)>,
    ) -> Result<Repositories, SourceError> {
        let none = [String::new()];
        let mirrors = if mirrors.is_empty() { &none[..] } else { mirrors };
        let mut places: Vec<Vec<Repository>> = Vec::new();
        for mirror in mirrors {
            let mut list = repositories::Repositories::new(arch);
            let text = lines_for(lines, mirror).join("\n");
            list.add_file("source.repositories", &text)
                .map_err(|error| wrong("source.repositories")(&error))?;
            let list = list.into_list();
            places.resize_with(list.len(), Vec::new);
            for (at, repository) in list.into_iter().enumerate() {
                // A line without the variable is the same for every mirror.
                if !places[at].contains(&repository) {
                    places[at].push(repository);
                }
            }
        }
        Repositories::open(places, arch, keys)
    }

    fn open(
        list: Vec<Vec<Repository>>,
        arch: &str,
        key_files: Vec<(String, Vec<u8>)>,
    ) -> Result<Repositories, SourceError> {
        let mut keys = KeyRing::new();
        for (name, pem) in &key_files {
            keys.add_pem(name, pem)
                .map_err(|error| wrong(format!("the key {name}"))(&error))?;
        }
        let mut open = Vec::new();
        for places in list {
            let mut one = Open {
                places,
                first: AtomicUsize::new(0),
                packages: Vec::new(),
                spec: None,
            };
            let index = one.any_place(|repository| {
                let bytes = get(&repository.index_url, INDEX_MAX)?;
                Index::read(&bytes, &keys, Trust::Required)
                    .map_err(|error| wrong(repository.index_url.clone())(&error))
            })?;
            one.packages = index.packages;
            one.spec = index.pkgname_spec;
            open.push(one);
        }
        Ok(Repositories {
            arch: arch.to_owned(),
            open,
            keys,
            key_files,
            virtuals: Vec::new(),
        })
    }

    /// The same with virtual packages that can be chosen.
    #[must_use]
    pub fn with_virtuals(mut self, virtuals: Vec<Virtual>) -> Repositories {
        self.virtuals = virtuals;
        self
    }

    /// What can be chosen, besides what is installed already.
    fn fill(&self, universe: &mut UniverseBuilder, installed: &Database) -> Result<(), SourceError> {
        let unsolvable = |error: &dyn std::fmt::Display| SourceError::Unsolvable(error.to_string());
        for one in &self.open {
            let tags: Vec<Option<&str>> = one.tags().iter().map(Option::as_deref).collect();
            universe
                .repository(tags, one.packages.iter().cloned())
                .map_err(|error| unsolvable(&error))?;
        }
        let there = |one: &&Virtual| installed.packages.iter().any(|old| old.info.name == one.name);
        for one in self.virtuals.iter().filter(|one| !there(one)) {
            universe
                .virtual_package(&one.name, &one.version, Vec::new())
                .map_err(|error| unsolvable(&error))?;
        }
        Ok(())
    }

    /// A package of a universe, as it is installed.
    fn chosen(
        &self,
        info: &PackageInfo,
        repository: Option<usize>,
        tag: Option<String>,
    ) -> Result<Chosen, SourceError> {
        let made = self.virtuals.iter().find(|one| one.name == info.name);
        match (repository, made) {
            (Some(_), _) => Ok(Chosen {
                entry: info.clone(),
                repository,
                tag,
            }),
            (None, Some(made)) => Ok(Chosen {
                entry: made.info(),
                repository: None,
                tag,
            }),
            (None, None) => Err(SourceError::Unsolvable(format!(
                "{} is in no repository",
                info.name
            ))),
        }
    }

    /// The place of the mirror, among those that were given, that answered last.
    #[must_use]
    pub fn mirror(&self) -> usize {
        let first = self.open.iter().find(|one| one.places.len() > 1);
        first.map_or(0, |one| one.first.load(Ordering::Relaxed))
    }

    /// Where the packages come from, for people.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.open
            .iter()
            .flat_map(|one| &one.places)
            .map(|place| place.index_url.clone())
            .collect()
    }

    /// Chooses the packages of a world, in the order in which they are installed.
    ///
    /// # Errors
    /// When they cannot be had together, with the reason in words.
    pub fn solve(&self, world: &[String]) -> Result<Vec<Chosen>, SourceError> {
        let unsolvable = |error: &dyn std::fmt::Display| SourceError::Unsolvable(error.to_string());
        let world = world
            .iter()
            .map(|entry| dependency::parse_world_entry(entry).map_err(|error| unsolvable(&error)))
            .collect::<Result<Vec<_>, _>>()?;
        let mut universe = UniverseBuilder::new([self.arch.as_str()]);
        self.fill(&mut universe, &Database::default())?;
        let universe = universe.finish().map_err(|error| unsolvable(&error))?;
        let chosen = solver::select(&universe, &world).map_err(|error| unsolvable(&error))?;
        chosen
            .into_iter()
            .map(|one| self.chosen(universe.info(one.package), one.repository, one.tag))
            .collect()
    }

    /// What has to change in a root so that it is what `world` says, in order.
    ///
    /// # Errors
    /// When it cannot be had, with the reason in words.
    pub fn changes(&self, installed: &Database, world: &[Dependency]) -> Result<Vec<Change>, SourceError> {
        self.steps(installed, &Request::satisfy(world.iter().cloned()))
    }

    /// What a request leads to, in order.
    pub(crate) fn steps(&self, installed: &Database, request: &Request) -> Result<Vec<Change>, SourceError> {
        let unsolvable = |error: &dyn std::fmt::Display| SourceError::Unsolvable(error.to_string());
        let mut universe = UniverseBuilder::new([self.arch.as_str()]);
        for package in &installed.packages {
            universe
                .installed(package.info.clone(), package.tag.as_deref())
                .map_err(|error| unsolvable(&error))?;
        }
        self.fill(&mut universe, installed)?;
        let universe = universe.finish().map_err(|error| unsolvable(&error))?;
        let solution = solver::solve(&universe, request).map_err(|error| unsolvable(&error))?;
        let mut out = Vec::new();
        for change in solution.changes {
            let name = |id| universe.info(id).name.clone();
            out.push(match (change.operation, change.old, change.new) {
                (Operation::Keep | Operation::Repin, _, Some(new)) => Change::Keep(name(new), change.tag),
                (_, _, Some(new)) => {
                    let repository = universe.source(new, change.tag.as_deref());
                    Change::Put(Box::new(self.chosen(
                        universe.info(new),
                        repository,
                        change.tag,
                    )?))
                }
                (_, Some(old), None) => Change::Remove(name(old)),
                (_, None, None) => continue,
            });
        }
        Ok(out)
    }

    /// Fetches, verifies and unpacks packages; contents go into packs in `scratch`. `progress` hears how many bytes are unpacked
    /// (as the index counts them) and the name of the package that came last.
    ///
    /// # Errors
    /// On the first package that cannot be had or is not what the index says.
    pub fn unpack(
        &self,
        chosen: &[Chosen],
        scratch: &Path,
        progress: &mut dyn FnMut(u64, &str),
    ) -> Result<Vec<Unpacked>, SourceError> {
        let threads = std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(THREADS);
        // The largest first: none is left to one thread when the others have nothing to do.
        let mut order: Vec<usize> = (0..chosen.len()).collect();
        order.sort_by_key(|&at| (std::cmp::Reverse(chosen[at].entry.installed_size), at));
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let (said, heard) = std::sync::mpsc::channel();
        let mut out: Vec<Option<Unpacked>> = chosen.iter().map(|_| None).collect();
        let mut failed: Option<(usize, SourceError)> = None;
        std::thread::scope(|scope| {
            for _ in 0..threads.min(chosen.len()) {
                let (order, next, stop, said) = (&order, &next, &stop, said.clone());
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(&at) = order.get(next.fetch_add(1, Ordering::Relaxed)) else {
                            break;
                        };
                        let result = self.unpack_one(&chosen[at], at, scratch);
                        if result.is_err() {
                            stop.store(true, Ordering::Relaxed);
                        }
                        if said.send((at, result)).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(said);
            if let Some(&first) = order.first() {
                progress(0, &chosen[first].entry.name);
            }
            let mut done = 0_u64;
            for (at, result) in heard {
                match result {
                    Ok(unpacked) => {
                        out[at] = Some(unpacked);
                        done = done.saturating_add(chosen[at].entry.installed_size);
                        progress(done, &chosen[at].entry.name);
                    }
                    // Of what several threads ran into, the first in the order of the choice.
                    Err(error) => {
                        if failed.as_ref().is_none_or(|(first, _)| at < *first) {
                            failed = Some((at, error));
                        }
                    }
                }
            }
        });
        match failed {
            Some((_, error)) => Err(error),
            None => Ok(out.into_iter().flatten().collect()),
        }
    }

    fn unpack_one(&self, one: &Chosen, at: usize, scratch: &Path) -> Result<Unpacked, SourceError> {
        let entry = &one.entry;
        // As apk does: what would install nothing has no file.
        if entry.installed_size == 0 {
            return Ok(Unpacked {
                entry: entry.clone(),
                package: Package {
                    info: entry.clone(),
                    ..Package::default()
                },
                tag: one.tag.clone(),
                ..Unpacked::default()
            });
        }
        let open = one
            .repository
            .and_then(|number| self.open.get(number))
            .ok_or_else(|| SourceError::Unsolvable(format!("{} is in no repository", entry.name)))?;
        let place = || format!("{} {}", entry.name, entry.version);
        let host = |doing: &'static str| {
            move |error: &dyn std::fmt::Display| SourceError::Io {
                doing,
                place: scratch.display().to_string(),
                source: io::Error::other(error.to_string()),
            }
        };
        let (verified, sink) = open.any_place(|repository| {
            let location = repository
                .package_url(entry, open.spec.as_deref())
                .map_err(|error| wrong(entry.name.clone())(&error))?;
            let bytes = get(&location, entry.file_size.clamp(1, PACKAGE_MAX))?;
            let expect = Expect {
                trust: Trust::Required,
                identity: entry.hashes.as_ref(),
                info: Some(entry),
                hashers: std::thread::available_parallelism()
                    .map_or(1, usize::from)
                    .min(THREADS),
                ..Expect::default()
            };
            let mut sink = Sink(PackWriter::new(scratch).map_err(|error| host("unpacking into")(&error))?);
            let verified = package::read(&bytes, &self.keys, &expect, &mut sink)
                .map_err(|error| wrong(place())(&error))?;
            Ok((verified, sink))
        })?;
        let files = verified
            .package
            .paths
            .iter()
            .flat_map(|directory| &directory.files);
        let sizes: Vec<u64> = files
            .filter(|file| matches!(file.kind, FileKind::Regular { .. }))
            .map(|file| file.size)
            .collect();
        let path: PathBuf = sink
            .0
            .persist(&format!("{at:05}.pack"))
            .map_err(|error| host("unpacking into")(&error))?;
        let pack =
            Pack::open(&path, sizes.iter().sum()).map_err(|error| host("reading back from")(&error))?;
        // The mapping keeps the bytes; the name is not needed any more, so nothing is left behind.
        let _ = std::fs::remove_file(&path);
        Ok(Unpacked {
            entry: entry.clone(),
            contents: contents(&pack, &sizes).map_err(|error| wrong(place())(&error))?,
            package: verified.package,
            format: verified.format,
            tag: one.tag.clone(),
        })
    }
}

impl Open {
    fn tags(&self) -> &[Option<String>] {
        self.places.first().map_or(&[], |place| &place.tags)
    }

    /// What one of the places gives, the one that gave something last being asked first.
    fn any_place<T>(
        &self,
        mut ask: impl FnMut(&Repository) -> Result<T, SourceError>,
    ) -> Result<T, SourceError> {
        let count = self.places.len();
        let first = self.first.load(Ordering::Relaxed);
        let mut refusals = Vec::new();
        for step in 0..count {
            let at = (first + step) % count;
            match ask(&self.places[at]) {
                Ok(given) => {
                    self.first.store(at, Ordering::Relaxed);
                    return Ok(given);
                }
                // This machine is at fault: another mirror does not help.
                Err(error @ SourceError::Io { .. }) => return Err(error),
                Err(error) => refusals.push(error),
            }
        }
        if refusals.len() > 1 {
            let all: Vec<String> = refusals.iter().map(ToString::to_string).collect();
            return Err(SourceError::Mirrors(all.join("\n  ")));
        }
        Err(refusals
            .pop()
            .unwrap_or_else(|| SourceError::Unsolvable("there is no repository".to_owned())))
    }
}

/// Repository lines with one mirror in the place of `${mirror}`, as they go into `/etc/apk/repositories`.
#[must_use]
pub fn lines_for(lines: &[String], mirror: &str) -> Vec<String> {
    let mirror = mirror.trim_end_matches('/');
    lines.iter().map(|line| line.replace(MIRROR, mirror)).collect()
}

/// A file of this machine or of a server.
fn get(place: &str, limit: u64) -> Result<Vec<u8>, SourceError> {
    match repositories::local_path(place) {
        Some(path) => read_limited(Path::new(path), limit),
        None => http::get(place, limit).map_err(|why| SourceError::Fetch {
            url: place.to_owned(),
            why,
        }),
    }
}

fn contents(pack: &Arc<Pack>, sizes: &[u64]) -> Result<Vec<Content>, lycia_tree::PackError> {
    let mut offset = 0;
    let ranges = sizes.iter().map(|&size| {
        let range = pack.range(offset, size);
        offset += size;
        range
    });
    ranges.collect()
}

/// Writes the contents of a package into a pack, back to back.
struct Sink(PackWriter);

impl PayloadSink for Sink {
    fn begin(&mut self, _: &Package, _: usize, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
