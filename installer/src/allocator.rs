//! Which memory allocator the programs of a root use.
//!
//! Three things say it and ought to agree: the world file (what was asked for), the installed database (which
//! package is there), and the C library itself (what is really in it). Another library can be loaded before it:
//! then the two files that export it count as well.

mod preload;

pub use preload::Preload;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use serde::Serialize;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// Largest file that is read.
const LIMIT: u64 = 256 << 20;
/// Where apk keeps its text database; Chimera's is below /usr.
const DATABASES: &[&str] = &["usr/lib/apk/db/installed", "lib/apk/db/installed"];
const WORLD: &str = "etc/apk/world";
/// In the order in which dynamic programs find it.
const LIBRARIES: &[&str] = &["usr/lib/libc.so", "lib/libc.so"];

/// An allocator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Allocator {
    /// mimalloc, the default of Chimera's musl
    Mimalloc,
    /// Scudo, LLVM's hardened allocator
    Scudo,
    /// mallocng, musl's own
    Mallocng,
    /// jemalloc
    Jemalloc,
    /// rpmalloc
    Rpmalloc,
}

impl std::fmt::Display for Allocator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Mimalloc => "mimalloc",
            Self::Scudo => "scudo",
            Self::Mallocng => "mallocng",
            Self::Jemalloc => "jemalloc",
            Self::Rpmalloc => "rpmalloc",
        })
    }
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Lines of the world file that are about the C library.
    pub world: Vec<String>,
    /// Installed packages that own the C library or are variants of it, with version.
    pub packages: Vec<String>,
    /// The package that owns the C library's file.
    pub owner: Option<String>,
    /// Path of the C library in the root.
    pub library: Option<String>,
    /// The allocator inside the C library, by what only it contains.
    pub allocator: Option<Allocator>,
    /// A library that programs load before it, and allocate through.
    pub preload: Option<Preload>,
    /// Contradictions.
    pub contradictions: Vec<String>,
}

/// What could not be read.
#[derive(Debug, thiserror::Error)]
#[error("reading {path} of the root {}: {source}", root.display())]
pub struct AllocatorError {
    /// The root.
    pub root: PathBuf,
    /// The file in it.
    pub path: String,
    /// Why.
    pub source: io::Error,
}

/// Bytes that only the respective allocator brings into a C library, tried in this order.
fn allocator_of(library: &[u8]) -> Option<Allocator> {
    let has = |mark: &[u8]| library.windows(mark.len()).any(|window| window == mark);
    if has(b"Scudo ERROR") || has(b"scudo_malloc") || has(b"Scudo OOM") {
        Some(Allocator::Scudo)
    } else if has(b"mimalloc: ") || has(b"mimalloc_") || has(b"MIMALLOC_") {
        Some(Allocator::Mimalloc)
    } else if library.starts_with(b"\x7fELF") && has(b"__libc_start_main") {
        // mallocng has no text of its own; it is what musl has when nothing was put in its place.
        Some(Allocator::Mallocng)
    } else {
        None
    }
}

fn is_libc_name(name: &str) -> bool {
    name == "musl"
        || matches!(
            name.strip_prefix("musl-"),
            Some("mallocng" | "mimalloc" | "scudo" | "safety-override" | "safety-override-consent")
        )
}

/// A world entry without version, repository tag and the leading `!`.
fn world_name(entry: &str) -> &str {
    entry
        .split(['=', '<', '>', '~', '@'])
        .next()
        .unwrap_or(entry)
        .trim_start_matches('!')
}

/// A package of the database, as far as it matters here.
#[derive(Debug, Default)]
struct Installed {
    name: String,
    version: String,
    owns_library: bool,
}

/// Reads the text database of apk: `P:` name, `V:` version, `F:` directory, `R:` file in it, empty line between
/// packages (apk-tools, doc/apk-installed).
fn installed(database: &str) -> Vec<Installed> {
    let mut all = Vec::new();
    let mut current = Installed::default();
    let mut directory = "";
    for line in database.lines().chain([""]) {
        match line.split_once(':') {
            Some(("P", name)) => name.clone_into(&mut current.name),
            Some(("V", version)) => version.clone_into(&mut current.version),
            Some(("F", path)) => directory = path,
            Some(("R", "libc.so")) if matches!(directory, "usr/lib" | "lib") => current.owns_library = true,
            _ if line.is_empty() => {
                if current.owns_library || is_libc_name(&current.name) || preload::is_package(&current.name) {
                    all.push(std::mem::take(&mut current));
                }
                current = Installed::default();
                directory = "";
            }
            _ => {}
        }
    }
    all
}

/// What is preloaded: what the file for services and the one for shells export, and the library, if there is one.
#[derive(Debug, Default)]
struct Exported<'a> {
    services: Option<&'a str>,
    shells: Option<&'a str>,
    found: Option<Preload>,
}

/// Judges what was read.
fn judge(world: &str, database: &str, library: Option<(&str, &[u8])>, exported: Exported<'_>) -> Report {
    let entries: Vec<&str> = world.split_whitespace().collect();
    let world: Vec<String> = entries
        .iter()
        .filter(|entry| is_libc_name(world_name(entry)) || preload::is_package(world_name(entry)))
        .map(|entry| (*entry).to_owned())
        .collect();
    let installed = installed(database);
    let owner = installed
        .iter()
        .find(|package| package.owns_library)
        .map(|package| package.name.clone());
    let allocator = library.and_then(|(_, bytes)| allocator_of(bytes));
    let mut contradictions = Vec::new();
    let wants = |name: &str| {
        world
            .iter()
            .any(|entry| world_name(entry) == name && !entry.starts_with('!'))
    };
    let has = |name: &str| installed.iter().any(|package| package.name == name);

    let owners = installed.iter().filter(|package| package.owns_library).count();
    if owners > 1 {
        contradictions.push("more than one package owns libc.so".into());
    }
    for variant in ["musl-mallocng", "musl-mimalloc", "musl-scudo"] {
        if wants(variant) && !has(variant) {
            contradictions.push(format!("{variant} is in world but not installed"));
        }
        let named = match variant {
            "musl-mallocng" => Allocator::Mallocng,
            "musl-mimalloc" => Allocator::Mimalloc,
            _ => Allocator::Scudo,
        };
        if owner.as_deref() == Some(variant)
            && let Some(found) = allocator
            && found != named
        {
            contradictions.push(format!(
                "{variant} owns libc.so, but the allocator in it is {found}"
            ));
        }
    }
    // The seed has a package that consents; Chimera takes a virtual one of the very name.
    let consents = wants("musl-safety-override") || wants("musl-safety-override-consent");
    if wants("musl-mallocng") && !consents {
        contradictions.push("musl-mallocng is in world without musl-safety-override, which it needs".into());
    }
    if library.is_some() && owner.is_none() && !database.is_empty() {
        contradictions.push("no package owns libc.so".into());
    }
    let wanted: Vec<&str> = world
        .iter()
        .filter(|entry| !entry.starts_with('!'))
        .map(|entry| world_name(entry))
        .filter(|name| preload::is_package(name))
        .collect();
    let preloads: Vec<&str> = installed
        .iter()
        .map(|package| package.name.as_str())
        .filter(|name| preload::is_package(name))
        .collect();
    contradictions.extend(preload::contradictions(
        &wanted,
        &preloads,
        exported.services,
        exported.shells,
        exported.found.as_ref(),
    ));
    Report {
        world,
        packages: installed
            .iter()
            .map(|package| format!("{}-{}", package.name, package.version))
            .collect(),
        owner,
        library: library.map(|(path, _)| format!("/{path}")),
        allocator,
        preload: exported.found,
        contradictions,
    }
}

fn open(root: &OwnedFd, path: &str) -> io::Result<Option<Vec<u8>>> {
    // Links are followed as they will be in the root, and never lead out of it.
    let opened = rustix::fs::openat2(
        root,
        path,
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
        ResolveFlags::IN_ROOT,
    );
    match opened {
        Ok(file) => {
            let mut bytes = Vec::new();
            if File::from(file).take(LIMIT + 1).read_to_end(&mut bytes)? as u64 > LIMIT {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 256 MiB"));
            }
            Ok(Some(bytes))
        }
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Looks at the root in a directory.
///
/// # Errors
/// If something is there and cannot be read.
pub fn inspect(directory: &Path) -> Result<Report, AllocatorError> {
    let failed = |path: &str, source| AllocatorError {
        root: directory.into(),
        path: path.into(),
        source,
    };
    let root = rustix::fs::open(
        directory,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|error| failed("/", error.into()))?;
    let first = |paths: &[&'static str]| -> Result<Option<(&'static str, Vec<u8>)>, AllocatorError> {
        for path in paths {
            if let Some(bytes) = open(&root, path).map_err(|error| failed(path, error))? {
                return Ok(Some((path, bytes)));
            }
        }
        Ok(None)
    };
    let text = |found: Option<(&str, Vec<u8>)>| {
        found
            .map(|(_, bytes)| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    };
    let world = text(first(&[WORLD])?);
    let database = text(first(DATABASES)?);
    let library = first(LIBRARIES)?;
    let services = text(first(&[preload::ENVIRONMENT])?);
    let shells = text(first(&[preload::PROFILE])?);
    let (services, shells) = (preload::exported(&services), preload::exported(&shells));
    let found = match services.or(shells) {
        None => None,
        Some(path) => {
            let inside = path.trim_start_matches('/');
            let bytes = open(&root, inside).map_err(|error| failed(inside, error))?;
            Some(Preload {
                library: path.to_owned(),
                present: bytes.is_some(),
                allocator: bytes.as_deref().and_then(preload::allocator_in),
            })
        }
    };
    Ok(judge(
        &world,
        &database,
        library.as_ref().map(|(path, bytes)| (*path, bytes.as_slice())),
        Exported {
            services,
            shells,
            found,
        },
    ))
}

impl Report {
    /// The report for people.
    #[must_use]
    pub fn text(&self) -> String {
        let list = |values: &[String]| {
            if values.is_empty() {
                "-".to_owned()
            } else {
                values.join(" ")
            }
        };
        let or = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".into());
        let inner = self
            .allocator
            .map_or("not known".to_owned(), |allocator| allocator.to_string());
        let effective = match &self.preload {
            Some(preload) if preload.present => {
                let name = preload
                    .allocator
                    .map_or("not known".to_owned(), |one| one.to_string());
                format!("{name}, preloaded over {inner}: {}", preload.library)
            }
            _ => inner,
        };
        let mut out = format!(
            "allocator  {}\nlibrary    {}\nowner      {}\ninstalled  {}\nworld      {}\n",
            effective,
            or(&self.library),
            or(&self.owner),
            list(&self.packages),
            list(&self.world)
        );
        for contradiction in &self.contradictions {
            out.push_str(&format!("problem    {contradiction}\n"));
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    const MALLOCNG: &[u8] = b"\x7fELF....__libc_start_main";
    const SCUDO: &[u8] = b"\x7fELF....__libc_start_main..Scudo ERROR: ";
    const MIMALLOC: &[u8] = b"\x7fELF....__libc_start_main..mimalloc: error";

    fn database(packages: &[(&str, bool)]) -> String {
        packages
            .iter()
            .map(|(name, owner)| {
                format!(
                    "C:Q1x=\nP:{name}\nV:1.2.5-r1\nF:usr\nF:usr/lib\n{}\n",
                    if *owner {
                        "R:libc.so\nZ:Q1y=\n"
                    } else {
                        "R:other\n"
                    }
                )
            })
            .collect()
    }

    #[test]
    fn selections() {
        for (world, packages, library, allocator, problems) in [
            (
                "base-files",
                vec![("musl", true), ("zlib", false)],
                MIMALLOC,
                Allocator::Mimalloc,
                0,
            ),
            ("base-files", vec![("musl", true)], SCUDO, Allocator::Scudo, 0),
            (
                "musl-mallocng musl-safety-override",
                vec![("musl", false), ("musl-mallocng", true)],
                MALLOCNG,
                Allocator::Mallocng,
                0,
            ),
            (
                "musl-mallocng",
                vec![("musl-mallocng", true)],
                MALLOCNG,
                Allocator::Mallocng,
                1,
            ),
            (
                "musl-mallocng>1 musl-safety-override",
                vec![("musl", true)],
                SCUDO,
                Allocator::Scudo,
                1,
            ),
            (
                "",
                vec![("musl", false), ("musl-mallocng", true)],
                MIMALLOC,
                Allocator::Mimalloc,
                1,
            ),
            (
                "",
                vec![("musl", true), ("musl-mallocng", true)],
                MALLOCNG,
                Allocator::Mallocng,
                1,
            ),
            ("", vec![("zlib", false)], MALLOCNG, Allocator::Mallocng, 1),
        ] {
            let report = judge(
                world,
                &database(&packages),
                Some(("usr/lib/libc.so", library)),
                Exported::default(),
            );
            assert_eq!(report.allocator, Some(allocator), "{world} {packages:?}");
            assert_eq!(
                report.contradictions.len(),
                problems,
                "{world} {packages:?}: {:?}",
                report.contradictions
            );
        }
    }

    #[test]
    fn a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        assert_eq!(inspect(root).unwrap().allocator, None);
        for path in ["usr/lib/apk/db", "etc/apk"] {
            fs::create_dir_all(root.join(path)).unwrap();
        }
        // An absolute link is followed inside the root.
        std::os::unix::fs::symlink("/usr/lib", root.join("lib")).unwrap();
        std::os::unix::fs::symlink("/lib/ld-musl.so", root.join("usr/lib/libc.so")).unwrap();
        fs::write(root.join("usr/lib/ld-musl.so"), SCUDO).unwrap();
        fs::write(root.join("usr/lib/apk/db/installed"), database(&[("musl", true)])).unwrap();
        fs::write(root.join("etc/apk/world"), "musl\nbase\n").unwrap();
        let report = inspect(root).unwrap();
        assert_eq!(
            report.text(),
            "allocator  scudo\nlibrary    /usr/lib/libc.so\nowner      musl\ninstalled  musl-1.2.5-r1\nworld      musl\n"
        );
        assert!(inspect(&root.join("none")).is_err());
    }
}
