//! Packages: their repositories' indexes, and their contents unpacked into packs of the store.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::install::Unpacked;
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::{Digest, Package, PackageInfo};
use lycia_apk::package::{self, Discard, Expect, Trust};
use lycia_apk::repositories::{self, Repository as Layout};
use lycia_tree::{Content, Pack};

use crate::definition::typed::LayoutName;
use crate::definition::{Location, Repository};
use crate::error::{Context as _, Error, Explain as _, Kind, Result, io, writing};
use crate::fetch::{self, Client, Expected, Mirrors};
use crate::lock::same_identity;
use crate::packs::{self, FileSum, Found, PackSink};
use crate::progress::{Bar, Progress, Unit};
use crate::store::{Aside, Store};

/// The name of a v3 index below its architecture's folder.
pub const INDEX: &str = "Packages.adb";
/// The name of a v2 index there, which may be of either format.
pub const INDEX_V2: &str = "APKINDEX.tar.gz";
/// The repository that virtual packages are said to be from.
pub const VIRTUAL: &str = "virtual:";
/// Files that are fetched at the same time, at least: servers are slower than processors.
const FETCHERS: usize = 6;

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
    /// The index as it was signed.
    pub index: Vec<u8>,
    layout: Layout,
    spec: Option<String>,
    /// Where its files are fetched from; none where they lie on this machine.
    mirrors: Option<Mirrors>,
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

    /// A package that the store has from an earlier build, by its name and identity, verified like any other. It lies there
    /// under the form of its identity that the index had then.
    pub fn stored(&self, name: &str, identity: &str, store: &Store) -> Option<PackageInfo> {
        self.mirrors.as_ref()?;
        if identity.is_empty() || !identity.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let folder = store.root().join("packages");
        let exact = folder.join(format!("{identity}.apk"));
        if exact.is_file() {
            return self.stored_at(&exact, name, identity);
        }
        let mut others = std::fs::read_dir(&folder)
            .ok()?
            .flatten()
            .map(|entry| entry.path());
        others.find_map(|path| {
            let stem = path.file_name()?.to_str()?.strip_suffix(".apk")?;
            same_identity(stem, identity)
                .then(|| self.stored_at(&path, name, stem))
                .flatten()
        })
    }

    fn stored_at(&self, path: &Path, name: &str, identity: &str) -> Option<PackageInfo> {
        let length = path.metadata().ok()?.len();
        let pack = Pack::open(path, length).ok()?;
        let form = match identity.len() {
            40 => IndexHash::Sha256_160,
            64 => IndexHash::Sha256,
            128 => IndexHash::Sha512,
            _ => return None,
        };
        let entry = index::entry(pack.bytes(), &self.keys, self.trust(), form).ok()?;
        let found = entry.hashes.as_ref().map(Digest::to_string);
        (entry.name == name && found.as_deref() == Some(identity)).then_some(entry)
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
        // A URL that stands for all mirrors: package paths are composed below it.
        Location::Http(_) => definition.canonical.clone(),
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
        key_files.push(add_key(&mut keys, path)?);
    }
    for path in &definition.guests {
        add_key(&mut keys, path)?;
    }
    let (kind, index) = match definition.layout {
        LayoutName::V3 => (repositories::Layout::V3, INDEX),
        LayoutName::V2 => (repositories::Layout::V2, INDEX_V2),
    };
    let layout = Layout {
        layout: kind,
        index_url: format!("{base}/{arch}/{index}"),
        base,
        tags: vec![definition.tag.clone()],
    };
    let mirrors = match &definition.location {
        Location::Http(urls) => Some(Mirrors::new(urls.clone())),
        _ => None,
    };
    let trust = if definition.unsigned {
        Trust::AllowUntrusted
    } else {
        Trust::Required
    };
    let (bytes, read) = match &mirrors {
        None => {
            let path = repositories::local_path(&layout.index_url).unwrap_or(&layout.index_url);
            let bytes = fetch::local_index(Path::new(path)).map_err(|error| match definition.location {
                Location::Seed => error.hint("build it with `lycia seed`"),
                _ => error,
            })?;
            let read = Index::read(&bytes, &keys, trust)
                .explain(Kind::Verification, || format!("reading {}", layout.index_url))?;
            (bytes, read)
        }
        Some(mirrors) => client.index(mirrors, &format!("{arch}/{index}"), store, |bytes| {
            Index::read(bytes, &keys, trust).map_err(|error| error.to_string())
        })?,
    };
    Ok(OpenRepository {
        definition: definition.clone(),
        // Where the store lies, or which mirror answered, says nothing about what was built.
        location: match &definition.location {
            Location::Seed => "seed:".to_owned(),
            _ => format!("{}/{arch}/{index}", definition.canonical),
        },
        packages: read.packages,
        index: bytes,
        keys,
        key_files,
        layout,
        spec: read.pkgname_spec,
        mirrors,
    })
}

/// Reads a public key into the ring; gives its name and text.
fn add_key(keys: &mut KeyRing, path: &Path) -> Result<(String, Vec<u8>)> {
    let doing = || format!("reading the key {}", path.display());
    let pem = io(std::fs::read(path), doing)?;
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    keys.add_pem(&name, &pem).explain(Kind::Input, doing)?;
    Ok((name, pem))
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
    /// Number of its repository; none of a virtual package.
    pub repository: Option<usize>,
    /// The repository tag from which it counts as installed.
    pub tag: Option<String>,
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
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let downloads = store.folder("packages")?;
    let packs = store.folder("packs")?;
    let mut sources = Vec::with_capacity(chosen.len());
    for one in chosen {
        sources.push(source(one, repositories, &downloads)?);
    }
    let lacking: Vec<(&Chosen, &Source<'_>)> = chosen
        .iter()
        .zip(&sources)
        .filter(|(one, source)| {
            let there = |path: &Path| {
                path.metadata()
                    .is_ok_and(|metadata| metadata.len() == one.entry.file_size)
            };
            matches!(source, Source::Remote { path, .. } if !there(path))
        })
        .collect();
    if client.is_offline() && !lacking.is_empty() {
        return Err(offline(&lacking));
    }
    let to_fetch: u64 = lacking.iter().map(|(one, _)| one.entry.file_size).sum();
    if to_fetch > 0 {
        let fetching = progress.stage("fetch", to_fetch, Unit::Bytes);
        each(&lacking, jobs.max(FETCHERS), |(one, source)| {
            fetching.message(&one.entry.name);
            source.fetch(&one.entry, client, &fetching, Thorough::Identity)
        })?;
        fetching.finish(&format!("{} packages", lacking.len()));
    }

    let unpacking = progress.stage("unpack", chosen.len() as u64, Unit::Items);
    let round = Round {
        fresh: AtomicUsize::new(0),
        progress,
        hashers: if jobs > 1 { jobs.min(HASHERS) } else { 0 },
    };
    let numbered: Vec<(&Chosen, &Source<'_>)> = chosen.iter().zip(&sources).collect();
    let unpacked = each(&numbered, jobs, |(one, source)| {
        let name = || format!("package {} {}", one.entry.name, one.entry.version);
        let result = source.unpack(one, &packs, &round);
        let result = match result {
            // What lay in the store may have been damaged there; what the server has may be sound.
            Err(error) if error.kind() == Kind::Verification && source.forget() && !client.is_offline() => {
                progress.say(&format!("{}: fetched again ({error})", name()));
                let again = progress.stage("fetch", one.entry.file_size, Unit::Bytes);
                source
                    .fetch(&one.entry, client, &again, Thorough::Whole)
                    .and_then(|()| source.unpack(one, &packs, &round))
            }
            result => result,
        };
        unpacking.advance(1);
        result.context(name)
    })?;
    unpacking.finish(&format!("{} new packs", round.fresh.into_inner()));
    Ok(unpacked)
}

/// What a run lacks that may not use the network.
fn offline(lacking: &[(&Chosen, &Source<'_>)]) -> Error {
    let bytes: u64 = lacking.iter().map(|(one, _)| one.entry.file_size).sum();
    let names: Vec<String> = lacking
        .iter()
        .map(|(one, _)| format!("{} {}", one.entry.name, one.entry.version))
        .collect();
    Error::new(
        Kind::Host,
        format!(
            "--offline, and the store lacks {} packages ({:.1} MiB):\n  {}",
            names.len(),
            crate::build::mebibytes(bytes),
            names.join("\n  ")
        ),
    )
    .hint("run once without --offline")
}

/// Threads that hash a large package beside the one that unpacks it, at most.
const HASHERS: usize = 2;

/// What all packages that are unpacked in a build have in common.
struct Round<'p> {
    /// Packs that were made.
    fresh: AtomicUsize,
    progress: &'p Progress,
    hashers: usize,
}

/// Runs `work` on all of `items` in `jobs` threads; the results have the order of the items, and the
/// error is that of the first item that failed.
pub(crate) fn each<T: Sync, R: Send>(
    items: &[T],
    jobs: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
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

/// Where the file of a package is.
enum Source<'r> {
    /// It has none.
    None,
    /// On this machine.
    Local(&'r OpenRepository, PathBuf),
    /// In the store once it is fetched.
    Remote {
        repository: &'r OpenRepository,
        mirrors: &'r Mirrors,
        /// Below each mirror.
        url: String,
        path: PathBuf,
    },
}

/// The source of a package. A metapackage has no file.
fn source<'r>(one: &Chosen, repositories: &'r [OpenRepository], downloads: &Path) -> Result<Source<'r>> {
    let info = &one.entry;
    let Some(number) = one.repository.filter(|_| info.installed_size > 0) else {
        return Ok(Source::None);
    };
    let repository = &repositories[number];
    let location = repository
        .layout
        .package_url(info, repository.spec.as_deref())
        .explain(Kind::Input, || format!("finding the file of {}", info.name))?;
    let Some(mirrors) = &repository.mirrors else {
        let path = repositories::local_path(&location).unwrap_or(&location);
        return Ok(Source::Local(repository, PathBuf::from(path)));
    };
    let below = location
        .strip_prefix(&repository.layout.base)
        .and_then(|rest| rest.strip_prefix('/'));
    let url = below.ok_or_else(|| {
        Error::new(
            Kind::Verification,
            format!(
                "the index of {} has {} at {location}, outside of itself",
                repository.location, info.name
            ),
        )
    })?;
    let identity = info.hashes.as_ref().map(Digest::to_string).unwrap_or_default();
    Ok(Source::Remote {
        repository,
        mirrors,
        url: url.to_owned(),
        path: downloads.join(format!("{identity}.apk")),
    })
}

/// The file of a package that was unpacked before: its path below the repository and its bytes; none of a
/// metapackage.
///
/// # Errors
/// When it cannot be read, or is not what was unpacked.
pub fn file(
    one: &Chosen,
    repositories: &[OpenRepository],
    store: &Store,
) -> Result<Option<(String, Content)>> {
    let downloads = store.folder("packages")?;
    let (repository, path, below) = match source(one, repositories, &downloads)? {
        Source::None => return Ok(None),
        Source::Local(repository, path) => (repository, path, None),
        Source::Remote {
            repository,
            path,
            url,
            ..
        } => (repository, path, Some(url)),
    };
    let base = repositories::local_path(&repository.layout.base).unwrap_or(&repository.layout.base);
    let below = match below {
        Some(below) => below,
        None => path
            .strip_prefix(base)
            .map_err(|_| {
                Error::new(
                    Kind::Verification,
                    format!("{} is outside of {base}", path.display()),
                )
            })?
            .display()
            .to_string(),
    };
    let doing = || format!("reading {}", path.display());
    let pack = Pack::open(&path, one.entry.file_size).explain(Kind::Host, doing)?;
    let content = pack.range(0, one.entry.file_size).explain(Kind::Host, doing)?;
    // Its contents were verified when its pack was made. Where this is not that file, they are verified here.
    let identity = package::identity(content.bytes()).explain(Kind::Verification, doing)?;
    let pack = store.folder("packs")?.join(identity.to_string());
    if packs::file_sum(&pack) != Some(FileSum::of(&content)) {
        let expect = Expect {
            trust: repository.trust(),
            identity: one.entry.hashes.as_ref(),
            info: Some(&one.entry),
            ..Expect::default()
        };
        package::read(content.bytes(), &repository.keys, &expect, &mut Discard).map_err(|error| {
            let error =
                Error::new(Kind::Verification, error).context(format!("verifying {}", path.display()));
            match repository.mirrors {
                Some(_) => error.hint("remove it, and it is fetched again"),
                None => error,
            }
        })?;
    }
    Ok(Some((below, content)))
}

/// How much of a package is looked at when it comes from a mirror.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Thorough {
    /// Whether it is the one that the index names; its contents are verified when they are unpacked.
    Identity,
    /// All of it: where a mirror gave contents that are not those of the package, the next is asked.
    Whole,
}

impl Source<'_> {
    /// Brings it into the store, where it is not there.
    fn fetch(&self, info: &PackageInfo, client: &Client, bar: &Bar<'_>, thorough: Thorough) -> Result<()> {
        let Source::Remote {
            repository,
            mirrors,
            url,
            path,
        } = self
        else {
            return Ok(());
        };
        let check = |path: &Path| -> Result<(), String> {
            let bytes = Pack::open(path, info.file_size).map_err(|error| error.to_string())?;
            let wanted = info.hashes.as_ref().ok_or("the index has no hash of it")?;
            let found = package::identity_of_length(bytes.bytes(), wanted.0.len())
                .map_err(|error| error.to_string())?;
            if found != *wanted {
                return Err("it is another package than the index names".to_owned());
            }
            if thorough == Thorough::Identity {
                return Ok(());
            }
            let expect = Expect {
                trust: repository.trust(),
                info: Some(info),
                ..Expect::default()
            };
            package::read(bytes.bytes(), &repository.keys, &expect, &mut Discard)
                .map(|_| ())
                .map_err(|error| error.to_string())
        };
        let expected = Expected {
            size: info.file_size,
            check: &check,
        };
        client
            .download(mirrors, url, path, &expected, bar)
            .context(|| format!("package {} {}", info.name, info.version))
    }

    /// Removes it from the store; says whether it was there.
    fn forget(&self) -> bool {
        match self {
            Source::Remote { path, .. } => std::fs::remove_file(path).is_ok(),
            _ => false,
        }
    }

    fn unpack(&self, one: &Chosen, packs: &Path, round: &Round<'_>) -> Result<Unpacked> {
        match self {
            Source::None => Ok(Unpacked {
                entry: one.entry.clone(),
                package: Package {
                    info: one.entry.clone(),
                    ..Package::default()
                },
                tag: one.tag.clone(),
                ..Unpacked::default()
            }),
            // Whoever owns the folder may write to the file while it is read: what is read is a copy.
            Source::Local(repository, path) => {
                let bytes = copy(path, packs)?;
                unpack_one(one, path, &bytes, repository, packs, round)
            }
            Source::Remote { repository, path, .. } => {
                let bytes = Pack::open(path, one.entry.file_size)
                    .explain(Kind::Verification, || format!("reading {}", path.display()))?;
                let whole = bytes
                    .range(0, one.entry.file_size)
                    .explain(Kind::Internal, || format!("reading {}", path.display()))?;
                unpack_one(one, path, &whole, repository, packs, round)
            }
        }
    }
}

/// The bytes of a file as they are now: in memory, or in a file without a name in `folder` where they are many.
fn copy(path: &Path, folder: &Path) -> Result<Content> {
    const IN_MEMORY: u64 = 4 << 20;
    let doing = || format!("reading {}", path.display());
    let mut file = io(File::open(path), doing)?;
    if io(file.metadata(), doing)?.len() <= IN_MEMORY {
        let mut bytes = Vec::new();
        io(file.read_to_end(&mut bytes), doing)?;
        return Ok(bytes.into());
    }
    let mut aside = Aside::new(&folder.join("package"))?;
    let size = writing(std::io::copy(&mut file, aside.file()), || {
        format!("copying {} to the store", path.display())
    })?;
    Pack::open(&aside.path(), size)
        .and_then(|pack| pack.range(0, size))
        .explain(Kind::Host, doing)
}

fn unpack_one(
    one: &Chosen,
    file: &Path,
    whole: &Content,
    repository: &OpenRepository,
    packs: &Path,
    round: &Round<'_>,
) -> Result<Unpacked> {
    let expect = Expect {
        trust: repository.trust(),
        identity: one.entry.hashes.as_ref(),
        info: Some(&one.entry),
        hashers: round.hashers,
        ..Expect::default()
    };
    let doing = || format!("verifying {}", file.display());
    let bytes = whole.bytes();
    let verified =
        package::read_metadata(bytes, &repository.keys, &expect).explain(Kind::Verification, doing)?;
    let name = verified.identity.to_string();
    let path = packs.join(&name);
    let places = verified.placement();
    let total = places.iter().map(|(_, size)| size).sum();
    let pack = match packs::open(&path, total) {
        Found::Whole { pack, .. } => pack,
        found => {
            let damage = match found {
                Found::Damaged(why) => Some(format!("the pack {} is damaged: {why}", path.display())),
                _ => None,
            };
            let made = make_pack(whole, repository, &expect, packs, &name).map_err(|error| match &damage {
                Some(damage) => error
                    .context(doing())
                    .context(format!("{damage}, and it cannot be made anew from the package")),
                None => error.context(doing()),
            });
            made?;
            round.fresh.fetch_add(1, Ordering::Relaxed);
            if let Some(damage) = damage {
                round.progress.say(&format!(
                    "{} {}: {damage}; it was made anew from the package",
                    one.entry.name, one.entry.version
                ));
            }
            match packs::open(&path, total) {
                Found::Whole { pack, .. } => pack,
                found => {
                    let why = match found {
                        Found::Damaged(why) => why,
                        _ => "it is gone".to_owned(),
                    };
                    return Err(Error::new(
                        Kind::Host,
                        format!("the pack {} was written just now, and {why}", path.display()),
                    )
                    .hint("the disk of the store gives back other bytes than it is given: use another with --cache"));
                }
            }
        }
    };
    let contents = contents(&pack, &places)?;
    Ok(Unpacked {
        entry: one.entry.clone(),
        package: verified.package,
        format: verified.format,
        contents,
        tag: one.tag.clone(),
    })
}

/// Verifies the package `whole` and keeps what comes out of it as the pack `name`.
fn make_pack(
    whole: &Content,
    repository: &OpenRepository,
    expect: &Expect<'_>,
    packs: &Path,
    name: &str,
) -> Result<()> {
    let host = || "unpacking".to_owned();
    let mut sink = PackSink::new(packs, whole).explain(Kind::Host, host)?;
    package::read(whole.bytes(), &repository.keys, expect, &mut sink).map_err(|error| {
        let kind = match &error {
            package::PackageError::Sink { .. } => Kind::Host,
            _ => Kind::Verification,
        };
        Error::new(kind, error)
    })?;
    sink.persist(name, FileSum::of(whole)).explain(Kind::Host, host)
}

fn contents(pack: &Arc<Pack>, places: &[(u64, u64)]) -> Result<Vec<Content>> {
    let ranges = places.iter().map(|&(offset, size)| pack.range(offset, size));
    ranges
        .collect::<Result<_, _>>()
        .explain(Kind::Internal, || "reading a pack".to_owned())
}
