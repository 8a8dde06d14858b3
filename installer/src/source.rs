//! Packages: from the medium or from repositories over HTTP; chosen by apk's own rules, verified, unpacked.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lycia_apk::database::Database;
use lycia_apk::dependency;
use lycia_apk::index::Index;
use lycia_apk::install::Unpacked;
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::{Dependency, FileKind, Package, PackageInfo};
use lycia_apk::package::{self, Expect, PayloadSink, Trust};
use lycia_apk::repositories::{self, Layout, Repository};
use lycia_apk::solver::{self, Operation, Request, UniverseBuilder};
use lycia_tree::{Content, Pack, PackWriter};

/// Largest index, in bytes.
const INDEX_MAX: u64 = 256 << 20;
/// Largest package, in bytes.
const PACKAGE_MAX: u64 = 4 << 30;
/// Times that a request is tried.
const TRIES: u32 = 3;

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
    repository: Repository,
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
}

/// A package that was chosen.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// What the index says.
    pub entry: PackageInfo,
    repository: usize,
}

/// A step of a change of a root.
#[derive(Clone, Debug)]
pub enum Change {
    /// A package comes, or takes the place of another version of itself.
    Put(Box<Chosen>),
    /// A package goes.
    Remove(String),
    /// A package stays.
    Keep(String),
}

/// A client with limits on every wait.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_recv_body(Some(Duration::from_secs(1800)))
        .user_agent(concat!("lycia-install/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

fn fetch(url: &str, limit: u64, out: &mut dyn Write) -> Result<u64, SourceError> {
    let agent = agent();
    let mut wait = Duration::from_millis(500);
    let mut attempt = 1;
    loop {
        let (passing, why) = match agent.get(url).call() {
            Ok(mut response) => {
                let mut body = response.body_mut().as_reader().take(limit + 1);
                match io::copy(&mut body, out) {
                    Ok(count) if count > limit => (false, format!("it is larger than {limit} bytes")),
                    Ok(count) => return Ok(count),
                    // What has gone into `out` cannot be taken back.
                    Err(error) => (false, error.to_string()),
                }
            }
            Err(ureq::Error::StatusCode(code)) => {
                (code == 429 || code >= 500, format!("the server answers {code}"))
            }
            Err(error) => (true, error.to_string()),
        };
        if !passing || attempt >= TRIES {
            return Err(SourceError::Fetch {
                url: url.to_owned(),
                why,
            });
        }
        attempt += 1;
        std::thread::sleep(wait);
        wait *= 2;
    }
}

fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, SourceError> {
    let failed = |source| SourceError::Io {
        doing: "reading",
        place: path.display().to_string(),
        source,
    };
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
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
        Repositories::open(vec![repository], arch, keys)
    }

    /// Repositories named by lines as in `/etc/apk/repositories`.
    ///
    /// # Errors
    /// When a line is wrong, an index cannot be had, or no key signed it.
    pub fn network(
        lines: &[String],
        arch: &str,
        keys: Vec<(String, Vec<u8>)>,
    ) -> Result<Repositories, SourceError> {
        let mut list = repositories::Repositories::new(arch);
        list.add_file("source.repositories", &lines.join("\n"))
            .map_err(|error| wrong("source.repositories")(&error))?;
        Repositories::open(list.into_list(), arch, keys)
    }

    fn open(
        list: Vec<Repository>,
        arch: &str,
        key_files: Vec<(String, Vec<u8>)>,
    ) -> Result<Repositories, SourceError> {
        let mut keys = KeyRing::new();
        for (name, pem) in &key_files {
            keys.add_pem(name, pem)
                .map_err(|error| wrong(format!("the key {name}"))(&error))?;
        }
        let mut open = Vec::new();
        for repository in list {
            let bytes = match repository.local_index() {
                Some(path) => read_limited(Path::new(path), INDEX_MAX)?,
                None => {
                    let mut bytes = Vec::new();
                    fetch(&repository.index_url, INDEX_MAX, &mut bytes)?;
                    bytes
                }
            };
            let index = Index::read(&bytes, &keys, Trust::Required)
                .map_err(|error| wrong(repository.index_url.clone())(&error))?;
            open.push(Open {
                repository,
                packages: index.packages,
                spec: index.pkgname_spec,
            });
        }
        Ok(Repositories {
            arch: arch.to_owned(),
            open,
            keys,
            key_files,
        })
    }

    /// Where the packages come from, for people.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.open
            .iter()
            .map(|one| one.repository.index_url.clone())
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
        for one in &self.open {
            let tags: Vec<Option<&str>> = one.repository.tags.iter().map(Option::as_deref).collect();
            universe
                .repository(tags, one.packages.iter().cloned())
                .map_err(|error| unsolvable(&error))?;
        }
        let universe = universe.finish().map_err(|error| unsolvable(&error))?;
        let chosen = solver::select(&universe, &world).map_err(|error| unsolvable(&error))?;
        chosen
            .into_iter()
            .map(|one| {
                let entry = universe.info(one.package).clone();
                let repository = one
                    .repository
                    .ok_or_else(|| SourceError::Unsolvable(format!("{} is in no repository", entry.name)))?;
                Ok(Chosen { entry, repository })
            })
            .collect()
    }

    /// What has to change in a root so that it is what `world` says, in order.
    ///
    /// # Errors
    /// When it cannot be had, with the reason in words.
    pub fn changes(&self, installed: &Database, world: &[Dependency]) -> Result<Vec<Change>, SourceError> {
        let unsolvable = |error: &dyn std::fmt::Display| SourceError::Unsolvable(error.to_string());
        let mut universe = UniverseBuilder::new([self.arch.as_str()]);
        for package in &installed.packages {
            universe
                .installed(package.info.clone(), package.tag.as_deref())
                .map_err(|error| unsolvable(&error))?;
        }
        for one in &self.open {
            let tags: Vec<Option<&str>> = one.repository.tags.iter().map(Option::as_deref).collect();
            universe
                .repository(tags, one.packages.iter().cloned())
                .map_err(|error| unsolvable(&error))?;
        }
        let universe = universe.finish().map_err(|error| unsolvable(&error))?;
        let solution = solver::solve(&universe, &Request::satisfy(world.iter().cloned()))
            .map_err(|error| unsolvable(&error))?;
        let mut out = Vec::new();
        for change in solution.changes {
            let name = |id| universe.info(id).name.clone();
            out.push(match (change.operation, change.old, change.new) {
                (Operation::Keep | Operation::Repin, _, Some(new)) => Change::Keep(name(new)),
                (_, _, Some(new)) => {
                    let repository = universe.repositories(new).next().ok_or_else(|| {
                        SourceError::Unsolvable(format!("{} is in no repository", name(new)))
                    })?;
                    Change::Put(Box::new(Chosen {
                        entry: universe.info(new).clone(),
                        repository,
                    }))
                }
                (_, Some(old), None) => Change::Remove(name(old)),
                (_, None, None) => continue,
            });
        }
        Ok(out)
    }

    /// Fetches, verifies and unpacks packages; contents go into packs in `scratch`. `progress` hears the number done and the name of the next.
    ///
    /// # Errors
    /// On the first package that cannot be had or is not what the index says.
    pub fn unpack(
        &self,
        chosen: &[Chosen],
        scratch: &Path,
        progress: &mut dyn FnMut(usize, &str),
    ) -> Result<Vec<Unpacked>, SourceError> {
        let mut out = Vec::with_capacity(chosen.len());
        for (at, one) in chosen.iter().enumerate() {
            progress(at, &one.entry.name);
            out.push(self.unpack_one(one, at, scratch)?);
        }
        progress(chosen.len(), "");
        Ok(out)
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
                ..Unpacked::default()
            });
        }
        let open = &self.open[one.repository];
        let location = open
            .repository
            .package_url(entry, open.spec.as_deref())
            .map_err(|error| wrong(entry.name.clone())(&error))?;
        let place = || format!("{} {}", entry.name, entry.version);
        let host = |doing: &'static str| {
            move |error: &dyn std::fmt::Display| SourceError::Io {
                doing,
                place: scratch.display().to_string(),
                source: io::Error::other(error.to_string()),
            }
        };
        let bytes = match repositories::local_path(&location) {
            Some(path) => read_limited(Path::new(path), PACKAGE_MAX)?,
            None => {
                let mut bytes = Vec::new();
                fetch(&location, entry.file_size.clamp(1, PACKAGE_MAX), &mut bytes)?;
                bytes
            }
        };
        let expect = Expect {
            trust: Trust::Required,
            identity: entry.hashes.as_ref(),
            info: Some(entry),
            ..Expect::default()
        };
        let mut sink = Sink(PackWriter::new(scratch).map_err(|error| host("unpacking into")(&error))?);
        let verified =
            package::read(&bytes, &self.keys, &expect, &mut sink).map_err(|error| wrong(place())(&error))?;
        drop(bytes);
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
            ..Unpacked::default()
        })
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
