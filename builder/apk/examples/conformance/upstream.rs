//! The solver cases of apk-tools itself: `test/solver/*.test` of a checkout, with the records beside them.
//!
//! The paths are such folders. Compared are the changes in their order, or that there is an error of the same sort; the
//! words of the errors are ours. A case that cannot be read agrees with nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use lycia_apk::dependency::{is_met_by, parse, parse_world, parse_world_entry};
use lycia_apk::metadata::{Dependency, Digest, Match, PackageInfo};
use lycia_apk::solver::{Command, Operation, Request, UniverseBuilder, solve};
use lycia_apk::version;

use crate::cases::Count;

pub fn run(paths: &[PathBuf]) -> Count {
    let mut count = Count::default();
    for path in paths {
        let mut cases = vec![path.clone()];
        if path.is_dir() {
            cases = fs::read_dir(path)
                .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
                .unwrap_or_default();
            cases.retain(|case| case.extension().is_some_and(|extension| extension == "test"));
            cases.sort();
        }
        for case in cases {
            let name = case.display().to_string();
            count.one(&name, || {
                check(&case)
                    .map(|()| true)
                    .map_err(|difference| format!("{name}: {difference}"))
            });
        }
    }
    count
}

#[derive(Default)]
struct Case {
    arguments: Vec<String>,
    repositories: Vec<(Option<String>, PathBuf)>,
    installed: Option<PathBuf>,
    cache: Option<PathBuf>,
    world: Vec<String>,
    expected: Vec<String>,
}

fn read(path: &Path) -> Result<Case, String> {
    let text = fs::read_to_string(path).map_err(|error| error.to_string())?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let words = |rest: &str| rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let mut case = Case::default();
    let mut lines = text.lines();
    for line in lines.by_ref() {
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        match key {
            "@ARGS" => case.arguments.extend(words(rest)),
            "@WORLD" => case.world = words(rest),
            "@INSTALLED" => case.installed = Some(folder.join(rest)),
            "@CACHE" => case.cache = Some(folder.join(rest)),
            "@REPO" => match rest.strip_prefix('@').and_then(|rest| rest.split_once(' ')) {
                Some((tag, file)) => case.repositories.push((Some(tag.to_owned()), folder.join(file))),
                None => case.repositories.push((None, folder.join(rest))),
            },
            "@EXPECT" => break,
            other => return Err(format!("{other} is not known")),
        }
    }
    case.expected = lines.map(str::to_owned).collect();
    Ok(case)
}

/// Why a case has no changes.
enum Failure {
    /// The case itself cannot be read, or asks for what this program does not know.
    Case(String),
    /// A dependency that apk refuses before it solves anything.
    Malformed(String),
    /// The solver's own error.
    Solver(String),
}

impl From<String> for Failure {
    fn from(problem: String) -> Failure {
        Failure::Case(problem)
    }
}

/// Reads records. Base64 is taken as apk takes it: unused bits at the end may be anything, and are dropped, so
/// that two texts may mean one package.
fn records(path: &Path) -> Result<Vec<(PackageInfo, Option<String>)>, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut found = Vec::new();
    for record in text.split("\n\n").filter(|record| !record.trim().is_empty()) {
        let mut fields: BTreeMap<&str, String> = BTreeMap::new();
        for line in record.lines() {
            let wrong = || format!("{}: {line:?} is no field of a record", path.display());
            let (key, value) = line.split_once(':').ok_or_else(wrong)?;
            // A list that is there twice goes on.
            let field = fields.entry(key).or_default();
            field.push_str(if field.is_empty() { "" } else { " " });
            field.push_str(value);
        }
        let field = |key: &str| fields.get(key).map(String::as_str).unwrap_or_default();
        let place = || format!("{}, {}", path.display(), field("P"));
        let list = |key: &str| {
            let words = field(key).split_whitespace();
            let entries = words.map(dependency).collect::<Result<Vec<_>, _>>();
            entries.map_err(|error| format!("{}: {error}", place()))
        };
        let number = |key: &str| match field(key) {
            "" => Ok(0),
            text => text
                .parse()
                .map_err(|error| format!("{}: {key}: {error}", place())),
        };
        if field("P").is_empty() || field("V").is_empty() {
            return Err(format!(
                "{}: a record without a name or a version",
                path.display()
            ));
        }
        let info = PackageInfo {
            name: field("P").into(),
            version: field("V").into(),
            hashes: Some(Digest(
                identity(field("C")).ok_or(format!("{} has no identity", field("P")))?,
            )),
            arch: field("A").into(),
            file_size: number("S")?,
            installed_size: number("I")?,
            provider_priority: number("k")?,
            depends: list("D")?,
            provides: list("p")?,
            install_if: list("i")?,
            ..PackageInfo::default()
        };
        found.push((info, fields.get("s").cloned()));
    }
    Ok(found)
}

/// A dependency of a record. One with a repository tag makes a package that apk reads and never installs, as one with a
/// version that is none does; this crate's own readers go no further than that sort of damage.
fn dependency(word: &str) -> Result<Dependency, String> {
    let entry = parse_world_entry(word).map_err(|error| error.to_string())?;
    let Some(tag) = &entry.tag else {
        return parse(word).map_err(|error| error.to_string());
    };
    Ok(Dependency {
        version: format!("@{tag}"),
        op: Match(Match::EQUAL),
        tag: None,
        ..entry
    })
}

fn identity(text: &str) -> Option<Vec<u8>> {
    use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
    use base64::{Engine as _, alphabet};
    let config = GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&alphabet::STANDARD, config)
        .decode(text.strip_prefix("Q1")?)
        .ok()
}

fn check(path: &Path) -> Result<(), String> {
    let case = read(path)?;
    let expected: Vec<String> = case
        .expected
        .iter()
        .filter_map(|line| {
            line.strip_prefix('(')?
                .split_once(") ")
                .map(|(_, change)| change.to_owned())
        })
        .collect();
    let problem = case.expected.iter().find_map(|line| line.strip_prefix("ERROR:"));
    let arguments = &case.arguments;
    let failed = |problem: &str| Err(format!("{arguments:?}: expected {expected:?}, failed: {problem}"));
    match (changes(&case), problem) {
        (Ok(found), None) if found == expected => Ok(()),
        (Ok(found), None) => Err(format!("{arguments:?}: expected {expected:?}, found {found:?}")),
        (Ok(found), Some(problem)) => Err(format!(
            "{arguments:?}: expected the error{problem}, found {found:?}"
        )),
        (Err(Failure::Case(problem)), _) => Err(format!("not to be read: {problem}")),
        // Words of apk tell whether it came to solve anything.
        (Err(Failure::Solver(_)), Some(problem)) if problem.contains("unable to select packages") => Ok(()),
        (Err(Failure::Malformed(_)), Some(problem))
            if problem.contains("is not a valid") || problem.contains("bad package specifier") =>
        {
            Ok(())
        }
        (Err(Failure::Solver(found)), _) => failed(&format!("the solver: {found}")),
        (Err(Failure::Malformed(found)), _) => failed(&format!("a dependency: {found}")),
    }
}

fn changes(case: &Case) -> Result<Vec<String>, Failure> {
    let wrong = |error: &dyn std::error::Error| error.to_string();
    let mut builder = UniverseBuilder::new(["x86_64"]);
    let installed = case
        .installed
        .as_deref()
        .map(records)
        .transpose()?
        .unwrap_or_default();
    for (info, tag) in &installed {
        builder
            .installed(info.clone(), tag.as_deref())
            .map_err(|error| wrong(&error))?;
    }
    for (info, _) in case
        .cache
        .as_deref()
        .map(records)
        .transpose()?
        .unwrap_or_default()
    {
        builder.cached(info).map_err(|error| wrong(&error))?;
    }
    let present: Vec<PackageInfo> = installed.into_iter().map(|(info, _)| info).collect();
    let offline = case.arguments.iter().any(|word| word == "--no-network");
    let mut available: Vec<PackageInfo> = Vec::new();
    for (tag, file) in &case.repositories {
        let infos: Vec<PackageInfo> = records(file)?.into_iter().map(|(info, _)| info).collect();
        available.extend(infos.clone());
        let number = builder
            .repository([tag.as_deref()], infos)
            .map_err(|error| wrong(&error))?;
        if offline {
            builder.unreachable(number);
        }
    }
    let world = parse_world(&case.world.join("\n")).map_err(|error| Failure::Malformed(wrong(&error)))?;
    let words: Vec<&str> = case
        .arguments
        .iter()
        .map(String::as_str)
        .filter(|word| !matches!(*word, "--no-network" | "--root-tmpfs=yes" | "-v"))
        .collect();
    let request = match words.iter().any(|word| word.ends_with("upgrade-only")) {
        true => match first_upgrade(&words, world, &present, &available)? {
            Some(request) => request,
            None => return Ok(Vec::new()),
        },
        false => crate::solver::request(&words, world, &mut builder, &|_| None)?
            .ok_or_else(|| Failure::Malformed(words.join(" ")))?,
    };
    let universe = builder.finish().map_err(|error| wrong(&error))?;
    let solution = solve(&universe, &request).map_err(|error| Failure::Solver(wrong(&error)))?;
    let mut shown = Vec::new();
    for change in solution
        .changes
        .iter()
        .filter(|change| change.operation != Operation::Keep)
    {
        let old = change.old.map(|id| universe.info(id));
        let new = change.new.map(|id| universe.info(id));
        let Some(info) = new.or(old) else { continue };
        let tag = change
            .tag
            .as_ref()
            .map(|tag| format!("@{tag}"))
            .unwrap_or_default();
        let versions = match (old, new) {
            (Some(old), Some(new)) if change.old != change.new => {
                format!("{} -> {}", old.version, new.version)
            }
            _ => info.version.clone(),
        };
        shown.push(format!("{} {}{tag} ({versions})", change.operation, info.name));
    }
    Ok(shown)
}

/// The transaction in which apk upgrades itself, and what else it was told to, before anything else: an upgrade
/// of those packages alone, of which a newer version is there.
fn first_upgrade(
    words: &[&str],
    world: Vec<Dependency>,
    installed: &[PackageInfo],
    available: &[PackageInfo],
) -> Result<Option<Request>, String> {
    let mut wanted = vec![parse("apk-tools").map_err(|error| error.to_string())?];
    let mut rest = words.iter();
    while let Some(word) = rest.next() {
        if *word == "--preupgrade-depends" {
            let entry = parse(rest.next().ok_or("no dependency")?).map_err(|error| error.to_string())?;
            // A later word about the same name takes the earlier one's place.
            wanted.retain(|other| other.name != entry.name);
            wanted.push(entry);
        }
    }
    let newer = |wanted: &&Dependency| {
        let have = installed.iter().find(|info| info.name == wanted.name);
        have.is_some_and(|have| {
            let is_newer = |info: &PackageInfo| {
                info.name == have.name
                    && version::compare(&info.version, &have.version) == std::cmp::Ordering::Greater
            };
            !wanted.op.is_conflict() && is_met_by(wanted, have) && available.iter().any(is_newer)
        })
    };
    let names: Vec<String> = wanted
        .iter()
        .filter(newer)
        .map(|wanted| wanted.name.clone())
        .collect();
    let (ignore, available, latest, prune) = (false, false, false, false);
    Ok((!names.is_empty()).then(|| Request {
        world,
        command: Command::Upgrade {
            names,
            ignore,
            available,
            latest,
            prune,
        },
        ..Request::default()
    }))
}
