//! Solver cases: exit status and changes of one apk command.

use std::path::PathBuf;

use lycia_apk::dependency::{parse_identity, parse_list, parse_world, parse_world_entry};
use lycia_apk::metadata::{Digest, Match, PackageInfo};
use lycia_apk::solver::{Command, Operation, Request, SolveError, UniverseBuilder, solve};
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use crate::cases::Count;

pub fn run(paths: &[PathBuf]) -> Count {
    super::cases::compare(paths, &["cmd", "repos", "world", "expect"], check)
}

fn check(case: &Value) -> Result<(), String> {
    let name = case["name"].as_str().unwrap_or("(no name)");
    let (status, changes) = solve_case(case).map_err(|problem| format!("{name}: {problem}"))?;
    let expected = &case["expect"];
    if expected["rc"] == json!(status) && expected["changes"] == changes {
        return Ok(());
    }
    Err(format!(
        "{name} {}: expected {} {}\n  found {status} {changes}",
        case["cmd"], expected["rc"], expected["changes"]
    ))
}

fn text<'v>(value: &'v Value, key: &str) -> Result<&'v str, String> {
    match &value[key] {
        Value::Null => Ok(""),
        Value::String(text) => Ok(text),
        other => Err(format!("{key}: {other} is not text")),
    }
}

fn number(value: &Value, key: &str, default: u64) -> Result<u64, String> {
    match &value[key] {
        Value::Null => Ok(default),
        other => other
            .as_u64()
            .or_else(|| other.as_str().and_then(|text| text.parse().ok()))
            .ok_or_else(|| format!("{key}: {other} is not a number")),
    }
}

/// A record. The keys are the letters of the v2 text record, `n` and `v` are its name and version.
/// Records that say the same are one package, as their identities would be equal.
fn record(value: &Value) -> Result<PackageInfo, String> {
    let list = |key| parse_list(text(value, key)?).map_err(|error| error.to_string());
    let mut said = value.clone();
    if let Some(object) = said.as_object_mut() {
        object.remove("tag");
    }
    let identity = match text(value, "C")? {
        "" => Sha1::digest(said.to_string()).to_vec(),
        identity => parse_identity(identity).ok_or_else(|| format!("{identity} is not an identity"))?,
    };
    Ok(PackageInfo {
        name: text(value, "n")?.into(),
        version: text(value, "v")?.into(),
        hashes: Some(Digest(identity)),
        arch: text(value, "A")?.into(),
        origin: text(value, "o")?.into(),
        file_size: number(value, "S", 1)?,
        installed_size: number(value, "I", 1)?,
        provider_priority: number(value, "k", 0)?,
        depends: list("D")?,
        provides: list("p")?,
        install_if: list("i")?,
        ..PackageInfo::default()
    })
}

fn array<'v>(value: &'v Value, key: &str) -> Result<&'v [Value], String> {
    value[key]
        .as_array()
        .map(Vec::as_slice)
        .ok_or_else(|| format!("{key} is not a list"))
}

fn solve_case(case: &Value) -> Result<(u64, Value), String> {
    let wrong = |error: &dyn std::error::Error| error.to_string();
    let mut builder = UniverseBuilder::new(["x86_64"]);
    for package in array(case, "installed")? {
        builder
            .installed(record(package)?, package["tag"].as_str())
            .map_err(|e| wrong(&e))?;
    }
    for repository in array(case, "repos")? {
        let packages: Vec<_> = array(repository, "pkgs")?
            .iter()
            .map(record)
            .collect::<Result<_, _>>()?;
        builder
            .repository([repository["tag"].as_str()], packages)
            .map_err(|e| wrong(&e))?;
    }
    let words: Vec<&str> = array(case, "world")?.iter().filter_map(Value::as_str).collect();
    let world = parse_world(&words.join("\n")).map_err(|e| wrong(&e))?;
    let words: Vec<&str> = array(case, "cmd")?.iter().filter_map(Value::as_str).collect();
    // apk numbers a virtual package without a version by the clock.
    let changes = case["expect"]["changes"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let set = |name: &str| {
        let change = changes.iter().find(|change| change["name"] == name)?;
        change["version"]
            .as_str()
            .or(change["to"].as_str())
            .map(str::to_owned)
    };
    let Some(request) = request(&words, world, &mut builder, &set)? else {
        // A dependency that cannot be parsed: apk fails without having started.
        return Ok((99, json!([])));
    };
    let universe = builder.finish().map_err(|e| wrong(&e))?;
    let solution = match solve(&universe, &request) {
        Ok(solution) => solution,
        Err(SolveError::NoSuchPackage { names }) => return Ok((names.len() as u64, json!([]))),
        Err(SolveError::Unsolvable(unsolvable)) => {
            return Ok((unsolvable.errors.min(99) as u64, json!([])));
        }
        Err(SolveError::UnknownTag { .. }) => return Ok((99, json!([]))),
        Err(error) => return Err(error.to_string()),
    };
    let mut changes = Vec::new();
    for change in solution
        .changes
        .iter()
        .filter(|change| change.operation != Operation::Keep)
    {
        let old = change.old.map(|id| universe.info(id));
        let new = change.new.map(|id| universe.info(id));
        let mut shown = match (old, new) {
            (Some(old), Some(new)) if change.old != change.new => {
                json!({"name": new.name, "from": old.version, "to": new.version})
            }
            (_, Some(info)) | (Some(info), None) => json!({"name": info.name, "version": info.version}),
            (None, None) => return Err("a change of nothing to nothing".into()),
        };
        shown["op"] = json!(change.operation.to_string());
        if let Some(tag) = &change.tag {
            shown["tag"] = json!(tag);
        }
        changes.push(shown);
    }
    Ok((0, Value::Array(changes)))
}

/// Reads a command line. There is no request if one of its dependencies is wrong. `recorded` knows the version of a
/// virtual package for which the line has none.
pub fn request(
    words: &[&str],
    world: Vec<lycia_apk::metadata::Dependency>,
    builder: &mut UniverseBuilder,
    recorded: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Request>, String> {
    let mut options = Vec::new();
    let mut arguments = Vec::new();
    let mut set = None;
    let mut rest = words.iter().copied();
    while let Some(word) = rest.next() {
        match word {
            "-t" | "--virtual" => set = rest.next(),
            _ if word.starts_with("--") => options.push(word.trim_start_matches('-').to_owned()),
            _ if word.starts_with('-') => options.extend(word.chars().skip(1).map(String::from)),
            _ => arguments.push(word.to_owned()),
        }
    }
    let has = |names: [&str; 2]| options.iter().any(|option| names.contains(&option.as_str()));
    let command = match arguments.first().map(String::as_str) {
        Some("add") => {
            let parsed: Result<Vec<_>, _> = arguments[1..]
                .iter()
                .map(|argument| parse_world_entry(argument))
                .collect();
            let Ok(mut entries) = parsed else { return Ok(None) };
            if let Some(set) = set {
                let Ok(mut entry) = parse_world_entry(set) else {
                    return Ok(None);
                };
                // It is one version that is made.
                if !entry.version.is_empty() && entry.op != Match(Match::EQUAL) {
                    return Ok(None);
                }
                // Only world knows of tags.
                if entries.iter().any(|one| one.tag.is_some()) {
                    return Ok(None);
                }
                if entry.version.is_empty() {
                    entry.op = Match(Match::EQUAL);
                    entry.version = recorded(&entry.name).unwrap_or_else(|| "20000101.000000".to_owned());
                }
                builder
                    .virtual_package(&entry.name, &entry.version, entries)
                    .map_err(|error| error.to_string())?;
                entries = vec![entry];
            }
            Command::Add {
                entries,
                upgrade: has(["u", "upgrade"]),
                latest: has(["l", "latest"]),
            }
        }
        Some("del") => Command::Delete {
            names: arguments.split_off(1),
            dependants: has(["r", "rdepends"]),
        },
        Some("upgrade") => Command::Upgrade {
            names: arguments.split_off(1),
            ignore: has(["ignore", "ignore"]),
            available: has(["a", "available"]),
            latest: has(["l", "latest"]),
            prune: has(["prune", "prune"]),
        },
        Some("fix") => Command::Fix {
            names: arguments.split_off(1),
            reinstall: has(["r", "reinstall"]),
            upgrade: has(["u", "upgrade"]),
            depends: has(["d", "depends"]),
        },
        other => return Err(format!("command {other:?} is not known here")),
    };
    let drop_unmet = has(["force-broken-world", "force-broken-world"]);
    Ok(Some(Request {
        world,
        command,
        drop_unmet,
    }))
}
