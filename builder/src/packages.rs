//! Packages: their repositories' indexes, and their contents unpacked into packs of the store.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lycia_apk::index::Index;
use lycia_apk::install::Unpacked;
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::{Digest, FileKind, Package, PackageInfo};
use lycia_apk::package::{self, Expect, PayloadSink, Trust};
use lycia_apk::repositories::{self, Repository as Layout};
use lycia_tree::{Content, Pack, PackWriter};

use crate::definition::{Location, Repository};
use crate::error::{Context as _, Error, Explain as _, Kind, Result, io};
use crate::fetch::{self, Client};
use crate::progress::{Bar, Progress, Unit};
use crate::store::Store;

/// The name of a v3 index below its architecture's folder.
const INDEX: &str = "Packages.adb";

/// A repository with its verified index.
pub struct OpenRepository {
    /// As defined.
    pub definition: Repository,
    /// For messages and the lock.
    pub location: String,
    /// What it has.
    pub packages: Vec<PackageInfo>,
    /// Keys that its packages may be signed with.
    pub keys: KeyRing,
    /// The public keys as files for the root: name and PEM text.
    pub key_files: Vec<(String, Vec<u8>)>,
    layout: Layout,
    spec: Option<String>,
}

impl OpenRepository {
    /// Reads and verifies the index of `definition` for `arch`.
    ///
    /// # Errors
    /// When it cannot be had or no trusted key signed it.
    pub fn open(
        definition: &Repository,
        arch: &str,
        store: &Store,
        client: &Client,
    ) -> Result<OpenRepository> {
        open(definition, arch, store, client).context(|| format!("repository {}", definition.name))
    }

    fn trust(&self) -> Trust {
        if self.definition.unsigned {
            Trust::AllowUntrusted
        } else {
            Trust::Required
        }
    }
}

fn open(definition: &Repository, arch: &str, store: &Store, client: &Client) -> Result<OpenRepository> {
    let mut key_paths = definition.keys.clone();
    let base = match &definition.location {
        Location::Directory(path) => path.display().to_string(),
        Location::Http(url) => url.clone(),
        Location::Seed => {
            let repository = lycia_seed::repository_dir(store.root(), arch);
            key_paths.extend(seed_keys(store)?);
            // The folder of the architecture is a part of what composes a package's path.
            repository.parent().unwrap_or(&repository).display().to_string()
        }
    };
    let mut keys = KeyRing::new();
    let mut key_files = Vec::new();
    for path in &key_paths {
        let pem = io(std::fs::read(path), || {
            format!("reading the key {}", path.display())
        })?;
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        keys.add_pem(&name, &pem)
            .explain(Kind::Input, || format!("reading the key {}", path.display()))?;
        key_files.push((name, pem));
    }
    let layout = Layout {
        layout: repositories::Layout::V3,
        index_url: format!("{base}/{arch}/{INDEX}"),
        base,
        tags: vec![None],
    };
    let location = layout.index_url.clone();
    let bytes = match layout.local_index() {
        Some(path) => fetch::local_index(Path::new(path)).map_err(|error| match definition.location {
            Location::Seed => error.hint("build it with `lycia seed`"),
            _ => error,
        })?,
        None => client.bytes(&location)?,
    };
    let trust = if definition.unsigned {
        Trust::AllowUntrusted
    } else {
        Trust::Required
    };
    let index =
        Index::read(&bytes, &keys, trust).explain(Kind::Verification, || format!("reading {location}"))?;
    Ok(OpenRepository {
        definition: definition.clone(),
        location: match &definition.location {
            // Where the store lies says nothing about what was built.
            Location::Seed => "seed:".to_owned(),
            _ => location,
        },
        packages: index.packages,
        keys,
        key_files,
        layout,
        spec: index.pkgname_spec,
    })
}

/// The public keys of the seed of this store.
fn seed_keys(store: &Store) -> Result<Vec<PathBuf>> {
    let folder = store.root().join("seed/keys");
    let mut keys: Vec<PathBuf> = std::fs::read_dir(&folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "pub"))
        .collect();
    keys.sort();
    if keys.is_empty() {
        return Err(Error::new(
            Kind::Input,
            format!("there is no seed in {}", store.root().display()),
        )
        .hint("build it with `lycia seed`"));
    }
    Ok(keys)
}

/// A package chosen for a root, with the repository that it comes from.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// What the index says.
    pub entry: PackageInfo,
    /// Number of its repository.
    pub repository: usize,
}

/// Fetches, verifies and unpacks `chosen`; the result has their order. `jobs` work at once.
///
/// # Errors
/// On the first package that cannot be had or is not what the index says.
pub fn unpack(
    chosen: &[Chosen],
    repositories: &[OpenRepository],
    store: &Store,
    client: &Client,
    progress: &Progress,
    jobs: usize,
) -> Result<Vec<Unpacked>> {
    let downloads = store.folder("packages")?;
    let packs = store.folder("packs")?;
    let remote = |one: &&Chosen| {
        matches!(
            repositories[one.repository].definition.location,
            Location::Http(_)
        )
    };
    let to_fetch: u64 = chosen.iter().filter(remote).map(|one| one.entry.file_size).sum();
    let fetching = progress.stage("fetch", to_fetch, Unit::Bytes);
    let files = each(chosen, jobs, |one| {
        fetching.message(&one.entry.name);
        package_file(one, &repositories[one.repository], &downloads, client, &fetching)
    })?;
    fetching.finish(&format!("{} packages", chosen.len()));

    let unpacking = progress.stage("unpack", chosen.len() as u64, Unit::Items);
    let fresh = AtomicUsize::new(0);
    let numbered: Vec<(&Chosen, Option<PathBuf>)> = chosen.iter().zip(files).collect();
    let unpacked = each(&numbered, jobs, |(one, file)| {
        let result = match file {
            Some(file) => unpack_one(one, file, &repositories[one.repository], &packs, &fresh)
                .context(|| format!("package {} {}", one.entry.name, one.entry.version))?,
            None => Unpacked {
                entry: one.entry.clone(),
                package: Package {
                    info: one.entry.clone(),
                    ..Package::default()
                },
                contents: Vec::new(),
                tag: None,
            },
        };
        unpacking.advance(1);
        Ok(result)
    })?;
    unpacking.finish(&format!("{} new packs", fresh.into_inner()));
    Ok(unpacked)
}

/// Runs `work` on all of `items` in `jobs` threads; the results have the order of the items, and the
/// error is that of the first item that failed.
fn each<T: Sync, R: Send>(items: &[T], jobs: usize, work: impl Fn(&T) -> Result<R> + Sync) -> Result<Vec<R>> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let results: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, items.len().max(1)) {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let result = work(item);
                    if result.is_err() {
                        stop.store(true, Ordering::Relaxed);
                    }
                    if let Ok(mut results) = results.lock() {
                        results.push((at, result));
                    }
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_default();
    results.sort_by_key(|(at, _)| *at);
    results.into_iter().map(|(_, result)| result).collect()
}

/// The file of a package on this machine; none for a metapackage, which has none.
fn package_file(
    one: &Chosen,
    repository: &OpenRepository,
    downloads: &Path,
    client: &Client,
    bar: &Bar<'_>,
) -> Result<Option<PathBuf>> {
    let info = &one.entry;
    if info.installed_size == 0 {
        return Ok(None);
    }
    let location = repository
        .layout
        .package_url(info, repository.spec.as_deref())
        .explain(Kind::Input, || format!("finding the file of {}", info.name))?;
    match repositories::local_path(&location) {
        Some(path) => Ok(Some(PathBuf::from(path))),
        None => {
            let identity = info.hashes.as_ref().map(Digest::to_string).unwrap_or_default();
            let path = downloads.join(format!("{identity}.apk"));
            let there = path
                .metadata()
                .is_ok_and(|metadata| metadata.len() == info.file_size);
            if !there {
                client.download(&location, &path, info.file_size, bar)?;
            }
            Ok(Some(path))
        }
    }
}

fn unpack_one(
    one: &Chosen,
    file: &Path,
    repository: &OpenRepository,
    packs: &Path,
    fresh: &AtomicUsize,
) -> Result<Unpacked> {
    let bytes = io(std::fs::read(file), || format!("reading {}", file.display()))?;
    let expect = Expect {
        trust: repository.trust(),
        identity: one.entry.hashes.as_ref(),
        info: Some(&one.entry),
        ..Expect::default()
    };
    let doing = || format!("verifying {}", file.display());
    let verified =
        package::read_metadata(&bytes, &repository.keys, &expect).explain(Kind::Verification, doing)?;
    let path = packs.join(verified.identity.to_string());
    let sizes = sizes(&verified.package);
    let total = sizes.iter().sum();
    let pack = match Pack::open(&path, total) {
        Ok(pack) => pack,
        Err(_) => {
            let writer = PackWriter::new(packs).explain(Kind::Host, || "unpacking".to_owned())?;
            let mut sink = PackSink(writer);
            package::read(&bytes, &repository.keys, &expect, &mut sink).map_err(|error| {
                let kind = match &error {
                    package::PackageError::Sink { .. } => Kind::Host,
                    _ => Kind::Verification,
                };
                Error::new(kind, error).context(doing())
            })?;
            sink.0
                .persist(&verified.identity.to_string())
                .explain(Kind::Host, || "unpacking".to_owned())?;
            fresh.fetch_add(1, Ordering::Relaxed);
            Pack::open(&path, total).explain(Kind::Host, || "unpacking".to_owned())?
        }
    };
    let contents = contents(&pack, &sizes)?;
    Ok(Unpacked {
        entry: one.entry.clone(),
        package: verified.package,
        contents,
        tag: None,
    })
}

/// Bytes of each regular file of a package, in its order.
fn sizes(package: &Package) -> Vec<u64> {
    let files = package.paths.iter().flat_map(|directory| &directory.files);
    files
        .filter(|file| matches!(file.kind, FileKind::Regular { .. }))
        .map(|file| file.size)
        .collect()
}

fn contents(pack: &Arc<Pack>, sizes: &[u64]) -> Result<Vec<Content>> {
    let mut offset = 0;
    let ranges = sizes.iter().map(|&size| {
        let range = pack.range(offset, size);
        offset += size;
        range
    });
    ranges
        .collect::<Result<_, _>>()
        .explain(Kind::Internal, || "reading a pack".to_owned())
}

/// Writes the contents of a package into a pack, back to back.
struct PackSink(PackWriter);

impl PayloadSink for PackSink {
    fn begin(&mut self, _: &Package, _: usize, _: usize) -> std::io::Result<()> {
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::Write::write_all(&mut self.0, bytes)
    }

    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
