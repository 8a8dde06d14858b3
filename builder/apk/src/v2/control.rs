//! The control part of a package: `.PKGINFO` and scripts.

use super::V2Error;
use super::gzip::Member;
use super::tar::{Archive, EntryKind};
use crate::adb::is_package_name;
use crate::dependency;
use crate::limits::{Limits, TEXT_MAX};
use crate::metadata::{Dependency, Package, ScriptKind};

const PART: &str = "control";
const FILE: &str = ".PKGINFO";
/// Longest `.PKGINFO`, in bytes.
const PKGINFO_MAX: u64 = 4 << 20;
/// Longest script of a v2 package, in bytes.
const SCRIPT_MAX: u64 = 256 << 10;

/// What the control part says.
pub(super) struct Control {
    /// Everything but the paths.
    pub package: Package,
    /// SHA-256 of the compressed data.
    pub data_hash: [u8; 32],
}

pub(super) fn read(member: &mut Member<'_>, limits: &Limits) -> Result<Control, V2Error> {
    let bad = |problem: String| V2Error::Archive { part: PART, problem };
    let mut archive = Archive::new(member, PART, limits);
    let mut info = None;
    let mut scripts = Vec::new();
    while let Some(entry) = archive.next()? {
        let name = String::from_utf8_lossy(&entry.name).into_owned();
        if entry.kind != EntryKind::Regular || !name.starts_with('.') || name.contains('/') {
            return Err(bad(format!(
                "has the entry {}, which does not belong there",
                name.escape_debug()
            )));
        }
        let bounded = |limit: u64| match entry.size > limit {
            true => Err(V2Error::Limit {
                what: format!("{name} of {} bytes", entry.size),
                limit,
            }),
            false => Ok(()),
        };
        if name == FILE {
            bounded(PKGINFO_MAX.min(limits.package_metadata))?;
            if info.replace(archive.content(&entry)?).is_some() {
                return Err(bad(format!("has {FILE} twice")));
            }
        } else if let Some(kind) = ScriptKind::from_name(&name[1..]) {
            bounded(SCRIPT_MAX)?;
            let body = archive.content(&entry)?;
            if scripts.iter().any(|(have, _)| *have == kind) {
                return Err(bad(format!("has {name} twice")));
            }
            if !body.is_empty() {
                scripts.push((kind, body));
            }
        }
    }
    let info = info.ok_or_else(|| bad(format!("has no {FILE}")))?;
    let mut control = parse(&info)?;
    scripts.sort_by_key(|(kind, _)| *kind);
    control.package.scripts = scripts;
    Ok(control)
}

/// Reads `key = value` lines.
fn parse(text: &[u8]) -> Result<Control, V2Error> {
    let mut package = Package::default();
    let info = &mut package.info;
    let mut data_hash = None;
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let bad = |problem: String| V2Error::Record {
            file: FILE,
            line: number,
            problem,
        };
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let line = std::str::from_utf8(line).map_err(|_| bad("not UTF-8".into()))?;
        if line.len() > TEXT_MAX {
            return Err(bad(format!("{} bytes, the limit is {TEXT_MAX}", line.len())));
        }
        let Some((key, value)) = line.split_once(" = ") else {
            match line.ends_with(" =") {
                true => continue,
                false => return Err(bad("not of the form \"key = value\"".into())),
            }
        };
        let words = |list: &mut Vec<Dependency>| {
            let more = dependency::parse_list(value).map_err(|error| bad(error.to_string()))?;
            list.extend(more);
            Ok(())
        };
        let count = || {
            value
                .trim()
                .parse::<u64>()
                .map_err(|_| bad(format!("{value:?} is not a number")))
        };
        let once = |text: &mut String| {
            if !text.is_empty() {
                return Err(bad(format!("{key} is there twice")));
            }
            *text = value.to_owned();
            Ok(())
        };
        match key {
            "pkgname" => once(&mut info.name)?,
            "pkgver" => once(&mut info.version)?,
            "pkgdesc" => once(&mut info.description)?,
            "url" => once(&mut info.url)?,
            "arch" => once(&mut info.arch)?,
            "license" => once(&mut info.license)?,
            "origin" => once(&mut info.origin)?,
            "maintainer" => once(&mut info.maintainer)?,
            "builddate" => info.build_time = count()?,
            "size" => info.installed_size = count()?,
            "commit" => {
                // abuild adds "-dirty" where the recipe was not committed.
                let text = value.strip_suffix("-dirty").unwrap_or(value);
                info.repo_commit =
                    hexadecimal(text).ok_or_else(|| bad("commit is not hexadecimal".into()))?;
            }
            "provider_priority" => info.provider_priority = count()?,
            "replaces_priority" => package.replaces_priority = count()?,
            "depend" => words(&mut info.depends)?,
            "provides" => words(&mut info.provides)?,
            "replaces" => words(&mut info.replaces)?,
            "install_if" => words(&mut info.install_if)?,
            "triggers" => {
                package.triggers = value
                    .split(' ')
                    .filter(|word| !word.is_empty())
                    .map(str::to_owned)
                    .collect();
            }
            "datahash" => {
                let hash = hexadecimal(value.trim()).and_then(|hash| <[u8; 32]>::try_from(hash).ok());
                let hash = hash.ok_or_else(|| bad("datahash is not a SHA-256 in hexadecimal".into()))?;
                if data_hash.replace(hash).is_some() {
                    return Err(bad("datahash is there twice".into()));
                }
            }
            // Others, such as packager, are for people.
            _ => {}
        }
    }
    if !is_package_name(&info.name) {
        return Err(V2Error::Structure(format!("{FILE} has no valid package name")));
    }
    let data_hash = data_hash.ok_or_else(|| {
        V2Error::Structure(format!(
            "{FILE} has no datahash, so that nothing covers the files: the package is too old to be installed"
        ))
    })?;
    Ok(Control { package, data_hash })
}

pub(super) fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}
