//! Repositories that a user makes: keys, indexes, signatures, and checking all of it.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use lycia_apk::adb::Schema;
use lycia_apk::index::{self, Index, IndexHash, WriteOptions};
use lycia_apk::keys::rand_core::OsRng;
use lycia_apk::keys::{KeyRing, SigningKey};
use lycia_apk::metadata::PackageInfo;
use lycia_apk::package::{self, Discard, Expect, Trust};

use crate::error::{Context as _, Error, Explain as _, Kind, Result, io};
use crate::packages::{INDEX, INDEX_V2, each};
use crate::store::write_whole;

/// The folder of packages for every architecture.
const NOARCH: &str = "noarch";
/// Architectures of apk: what lies in a folder of such a name is for that one, if a package does not say otherwise.
const ARCHITECTURES: &[&str] = &[
    "aarch64",
    "armel",
    "armhf",
    "armv7",
    "loongarch64",
    "mips64",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv64",
    "s390x",
    "x86",
    "x86_64",
];
/// Bits of the keys that are made.
const KEY_BITS: usize = 4096;

/// Makes a key: the private half at `path`, for its owner only, and the public half at `path` with `.pub`.
///
/// # Errors
/// When one of them is there, or cannot be written.
pub fn make_key(path: &Path) -> Result<PathBuf> {
    let public = with_ending(path, ".pub");
    for path in [path, &public] {
        if path.symlink_metadata().is_ok() {
            return Err(
                Error::new(Kind::Input, format!("{} is there already", path.display()))
                    .hint("a key that signed something is not to be lost; give another name"),
            );
        }
    }
    let name = name_of(path);
    let doing = || format!("making the key {}", path.display());
    let key = SigningKey::generate_rsa(&name, KEY_BITS, &mut OsRng).explain(Kind::Internal, doing)?;
    let private_text = key.private_pem().explain(Kind::Internal, doing)?;
    let public_text = key.public_pem().explain(Kind::Internal, doing)?;
    // The private half last: with it the key exists. It is never readable by others, not for a moment.
    write_whole(&public, public_text.as_bytes())?;
    let mut options = std::fs::OpenOptions::new();
    let mut file = io(options.write(true).create_new(true).mode(0o600).open(path), doing)?;
    io(file.write_all(private_text.as_bytes()), doing)?;
    io(file.sync_all(), doing)?;
    Ok(public)
}

/// Reads private keys.
///
/// # Errors
/// When one cannot be read or is none.
pub fn signing_keys(paths: &[PathBuf]) -> Result<Vec<SigningKey>> {
    let keys = paths.iter().map(|path| {
        let doing = || format!("reading the key {}", path.display());
        let pem = io(std::fs::read(path), doing)?;
        SigningKey::from_pem(&name_of(path), &pem).explain(Kind::Input, doing)
    });
    keys.collect()
}

/// Reads public keys, of files or of folders of `*.pub`.
///
/// # Errors
/// When one cannot be read or is none, or a folder has none.
pub fn public_keys(paths: &[PathBuf]) -> Result<KeyRing> {
    let mut ring = KeyRing::new();
    for path in paths {
        let mut files = vec![path.clone()];
        if path.is_dir() {
            files = listing(path)?;
            files.retain(|file| file.extension().is_some_and(|extension| extension == "pub"));
            if files.is_empty() {
                return Err(Error::new(
                    Kind::Input,
                    format!("{} has no *.pub", path.display()),
                ));
            }
        }
        for file in files {
            let doing = || format!("reading the key {}", file.display());
            let pem = io(std::fs::read(&file), doing)?;
            ring.add_pem(&name_of(&file), &pem).explain(Kind::Input, doing)?;
        }
    }
    Ok(ring)
}

/// How an index is made.
pub struct Indexing {
    /// Keys that packages must be signed by; those that sign the index count, too.
    pub keys: KeyRing,
    /// Packages without a trusted signature are taken.
    pub untrusted: bool,
    /// Keys that sign the index.
    pub sign: Vec<SigningKey>,
    /// How packages are named.
    pub hash: IndexHash,
    /// Free text.
    pub description: String,
    /// Link the index as `APKINDEX.tar.gz`, too, as Chimera does. One that is linked so already stays linked.
    pub link: bool,
    /// Threads.
    pub jobs: usize,
}

/// An index that was written.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
pub struct Indexed {
    /// Where.
    pub path: PathBuf,
    /// Packages in it.
    pub packages: usize,
    /// Bytes of their files.
    pub size: u64,
}

/// Writes the index of each folder of packages in a repository: of `root` itself or of the folders in it.
///
/// # Errors
/// With all that is wrong about packages; no index of that folder is written then.
pub fn make_indexes(root: &Path, indexing: &Indexing) -> Result<Vec<Indexed>> {
    let mut folders = folders_with(root, |name| name.ends_with(".apk"))?;
    // What fits every architecture is in the index of each.
    folders.retain(|folder| name_of(folder) != NOARCH);
    if folders.is_empty() {
        return Err(Error::new(
            Kind::Input,
            format!(
                "neither {} nor a folder in it has packages (*.apk)",
                root.display()
            ),
        )
        .hint("packages lie in folders named by their architecture"));
    }
    let mut written = Vec::new();
    for folder in folders {
        written.push(make_index(&folder, indexing).context(|| format!("indexing {}", folder.display()))?);
    }
    Ok(written)
}

fn make_index(folder: &Path, indexing: &Indexing) -> Result<Indexed> {
    let mut files = listing(folder)?;
    let everywhere = parent(folder).join(NOARCH);
    if everywhere.is_dir() {
        files.extend(listing(&everywhere)?);
    }
    files.retain(|file| name_of(file).ends_with(".apk"));
    let trust = if indexing.untrusted {
        Trust::AllowUntrusted
    } else {
        Trust::Required
    };
    let mut entries = each(&files, indexing.jobs, |file| {
        let bytes = io(std::fs::read(file), || format!("reading {}", file.display()))?;
        Ok(index::entry(&bytes, &indexing.keys, trust, indexing.hash).map_err(|error| error.to_string()))
    })?;
    // Where packages for every architecture lie among those for one, as Alpine keeps them, the index says that one, and
    // clients look for them there.
    let arch = name_of(folder);
    let is_arch =
        ARCHITECTURES.contains(&arch.as_str()) || entries.iter().flatten().any(|entry| entry.arch == arch);
    for (file, entry) in files.iter().zip(&mut entries) {
        if let Ok(entry) = entry
            && is_arch
            && entry.fits_every_arch()
            && name_of(&parent(file)) == arch
        {
            entry.arch.clone_from(&arch);
        }
    }
    let (mut packages, mut problems) = (Vec::new(), Vec::new());
    for (file, entry) in files.iter().zip(entries) {
        match entry.and_then(|entry| well_placed(file, &entry).map(|()| entry)) {
            Ok(entry) => packages.push(entry),
            Err(problem) => problems.push(format!("{}: {problem}", name_of(file))),
        }
    }
    if !problems.is_empty() {
        return Err(Error::new(
            Kind::Verification,
            format!(
                "{} packages cannot be indexed:\n  {}",
                problems.len(),
                problems.join("\n  ")
            ),
        )
        .hint("give the public keys of their makers with --key, or --untrusted where any will do"));
    }
    packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    let (count, size) = (packages.len(), packages.iter().map(|one| one.file_size).sum());
    let index = Index {
        description: indexing.description.clone(),
        packages,
        ..Index::default()
    };
    let options = WriteOptions {
        hash: indexing.hash,
        ..WriteOptions::default()
    };
    let bytes = index
        .write(&options, &indexing.sign)
        .explain(Kind::Input, || "writing the index".to_owned())?;
    let path = folder.join(INDEX);
    let linked = indexing.link || same_file(&path, &folder.join(INDEX_V2));
    write_whole(&path, &bytes)?;
    if linked {
        link(&path, &folder.join(INDEX_V2))?;
    }
    Ok(Indexed {
        path,
        packages: count,
        size,
    })
}

/// Gives a file a second name, in place of what has it: one file under both names, so that they cannot differ.
fn link(path: &Path, to: &Path) -> Result<()> {
    let doing = || format!("linking {}", to.display());
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty());
    let name = tempfile::Builder::new()
        .prefix(crate::store::TEMPORARY)
        .make_in(folder.unwrap_or(Path::new(".")), |name| {
            std::fs::hard_link(path, name)
        });
    let name = io(name, doing)?.into_temp_path();
    io(name.persist(to).map_err(|error| error.error), doing)
}

/// Whether clients would look for a package where it lies.
fn well_placed(file: &Path, entry: &PackageInfo) -> Result<(), String> {
    let wanted = index::expand_spec(index::DEFAULT_SPEC, entry).map_err(|error| error.to_string())?;
    if name_of(file) != wanted {
        return Err(format!("its name should be {wanted}"));
    }
    let arch = arch_of(entry);
    if name_of(&parent(file)) != arch {
        return Err(format!(
            "it is for {arch}, and clients look for it in a folder of that name"
        ));
    }
    Ok(())
}

/// The folder that clients look for a package in.
fn arch_of(entry: &PackageInfo) -> &str {
    match entry.arch.as_str() {
        "" => NOARCH,
        arch => arch,
    }
}

/// Adds signatures of `keys` to a package or an index, in place of those that it has where `replace` is set.
/// Says which it is.
///
/// # Errors
/// When it is neither, or cannot be written.
pub fn sign(path: &Path, keys: &[SigningKey], replace: bool) -> Result<&'static str> {
    let bytes = io(std::fs::read(path), || format!("reading {}", path.display()))?;
    let (schema, kind) = match package::inspect(&bytes) {
        Ok(_) => (Schema::Package, "package"),
        Err(problem) => match Index::read(&bytes, &KeyRing::new(), Trust::AllowUntrusted) {
            Ok(_) => (Schema::Index, "index"),
            Err(other) => {
                return Err(Error::new(
                    Kind::Input,
                    format!("it is neither a package ({problem}) nor an index ({other})"),
                )
                .context(format!("signing {}", path.display())));
            }
        },
    };
    let mut signed = Vec::with_capacity(bytes.len() + 1024);
    package::add_signatures(&bytes, schema, replace, keys, &mut signed)
        .explain(Kind::Input, || format!("signing {}", path.display()))?;
    // An index that has both names keeps them, and is not left as it was under the other.
    let other = match name_of(path).as_str() {
        INDEX => Some(path.with_file_name(INDEX_V2)),
        INDEX_V2 => Some(path.with_file_name(INDEX)),
        _ => None,
    };
    let other = other.filter(|other| same_file(path, other));
    write_whole(path, &signed)?;
    if let Some(other) = other {
        link(path, &other)?;
    }
    Ok(kind)
}

/// What came of verifying an index and its packages.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// The index.
    pub index: PathBuf,
    /// The key that signed it.
    pub signed_by: Option<String>,
    /// Packages that are as the index says.
    pub sound: usize,
    /// What is wrong.
    pub problems: Vec<String>,
    /// Package files that the index does not name.
    pub unindexed: Vec<String>,
}

/// Verifies each index of a repository with all of its packages: signatures, identities, metadata, the hash of
/// every file.
///
/// # Errors
/// When there is no index or a file cannot be read. What is wrong with them is in the reports.
pub fn verify(root: &Path, keys: &KeyRing, untrusted: bool, jobs: usize) -> Result<Vec<Report>> {
    let folders = folders_with(root, |name| name == INDEX || name == INDEX_V2)?;
    if folders.is_empty() {
        return Err(Error::new(
            Kind::Input,
            format!("neither {} nor a folder in it has an index", root.display()),
        )
        .hint(format!(
            "make one with `lycia repo index {} --sign KEY`",
            root.display()
        )));
    }
    let mut reports = Vec::new();
    for folder in folders {
        for name in [INDEX, INDEX_V2] {
            let index = folder.join(name);
            if name == INDEX_V2 && same_file(&index, &folder.join(INDEX)) {
                continue;
            }
            if index.is_file() {
                reports.push(verify_index(&folder, index, keys, untrusted, jobs)?);
            }
        }
    }
    Ok(reports)
}

fn verify_index(
    folder: &Path,
    path: PathBuf,
    keys: &KeyRing,
    untrusted: bool,
    jobs: usize,
) -> Result<Report> {
    let trust = if untrusted {
        Trust::AllowUntrusted
    } else {
        Trust::Required
    };
    let bytes = crate::fetch::local_index(&path)?;
    let limits = lycia_apk::limits::Limits::index();
    let (index, signed_by) = match Index::read_within(&bytes, keys, trust, &limits) {
        Ok(read) => read,
        Err(error) => {
            return Ok(Report {
                problems: vec![format!("{}: {error}", name_of(&path))],
                index: path,
                signed_by: None,
                sound: 0,
                unindexed: Vec::new(),
            });
        }
    };
    let base = parent(folder);
    let judged = each(&index.packages, jobs, |entry| {
        let spec = index.pkgname_spec.as_deref();
        let place = match spec {
            None => {
                let name = index::expand_spec(index::DEFAULT_SPEC, entry);
                name.map(|name| base.join(arch_of(entry)).join(name))
            }
            Some(spec) => index::expand_spec(spec, entry).map(|name| base.join(name)),
        };
        let place = match place {
            Ok(place) => place,
            Err(error) => return Ok(Err(format!("{} {}: {error}", entry.name, entry.version))),
        };
        let problem = |what: String| format!("{}: {what}", name_of(&place));
        // A metapackage is never fetched; its file may be there or not.
        if entry.installed_size == 0 && !place.exists() {
            return Ok(Ok(place));
        }
        let bytes = match std::fs::read(&place) {
            Ok(bytes) => bytes,
            Err(error) => return Ok(Err(problem(error.to_string()))),
        };
        if bytes.len() as u64 != entry.file_size {
            return Ok(Err(problem(format!(
                "it has {} bytes, the index says {}: index it again",
                bytes.len(),
                entry.file_size
            ))));
        }
        let expect = Expect {
            trust,
            identity: entry.hashes.as_ref(),
            info: Some(entry),
            ..Expect::default()
        };
        Ok(match package::read(&bytes, keys, &expect, &mut Discard) {
            Ok(_) => Ok(place),
            Err(error) => Err(problem(error.to_string())),
        })
    })?;
    let (mut problems, mut named) = (Vec::new(), Vec::new());
    for one in judged {
        match one {
            Ok(place) => named.push(place),
            Err(problem) => problems.push(problem),
        }
    }
    let sound = named.len();
    let all = index.packages.iter();
    let expected: std::collections::BTreeSet<String> = all
        .filter_map(|entry| index::expand_spec(index::DEFAULT_SPEC, entry).ok())
        .chain(named.iter().map(|place| name_of(place)))
        .collect();
    let files = listing(folder)?;
    let unindexed = files
        .iter()
        .map(|file| name_of(file))
        .filter(|name| name.ends_with(".apk") && !expected.contains(name))
        .collect();
    Ok(Report {
        index: path,
        signed_by,
        sound,
        problems,
        unindexed,
    })
}

/// `root` and the folders in it that have a file whose name `fits`, sorted.
fn folders_with(root: &Path, fits: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let mut folders = vec![root.to_owned()];
    folders.extend(listing(root)?.into_iter().filter(|path| path.is_dir()));
    let mut found = Vec::new();
    for folder in folders {
        if listing(&folder)?.iter().any(|file| fits(&name_of(file))) {
            found.push(folder);
        }
    }
    Ok(found)
}

/// What is in a folder, hidden things aside, sorted.
fn listing(folder: &Path) -> Result<Vec<PathBuf>> {
    let doing = || format!("reading {}", folder.display());
    let mut paths = Vec::new();
    for entry in io(std::fs::read_dir(folder), doing)? {
        let entry = io(entry, doing)?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
    }
    paths.sort();
    Ok(paths)
}

fn same_file(a: &Path, b: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    match (a.metadata(), b.metadata()) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn name_of(path: &Path) -> String {
    // A folder given as `.` or with `..` has its name elsewhere.
    let whole = match path.file_name() {
        Some(_) => path.to_owned(),
        None => path.canonicalize().unwrap_or_else(|_| path.to_owned()),
    };
    whole
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The folder that something lies in, also of `.` and other paths that do not say.
fn parent(path: &Path) -> PathBuf {
    match path.canonicalize() {
        Ok(whole) => whole.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned),
        Err(_) => path.parent().map_or_else(|| PathBuf::from("."), Path::to_owned),
    }
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}
