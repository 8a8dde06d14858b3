//! Reading the database.

use std::collections::HashMap;
use std::io::Read as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::{Database, Flags, InstalledDirectory, InstalledFile, InstalledPackage, Ownership};
use crate::dependency;
use crate::metadata::{Dependency, Digest, PackageInfo, ScriptKind};

/// Largest scripts archive read, in bytes when unpacked.
const SCRIPTS_MAX: u64 = 256 << 20;

/// Why a file of the database cannot be read.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum ReadError {
    /// A line of `installed` is wrong.
    #[error("installed database, line {line}: {what}")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// `triggers` names a package that is not installed, or is malformed.
    #[error("triggers, line {line}: {what}")]
    Trigger {
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// The scripts archive is damaged.
    #[error("scripts archive: {0}")]
    Scripts(String),
}

impl Database {
    /// Reads the files `installed`, `triggers` and `scripts.tar.gz`; the latter two may be empty.
    ///
    /// # Errors
    /// At the first line that is not as apk writes it.
    pub fn read(installed: &[u8], triggers: &[u8], scripts: &[u8]) -> Result<Database, ReadError> {
        let mut database = Database {
            packages: read_installed(installed)?,
        };
        let mut places = HashMap::with_capacity(database.packages.len());
        for (place, package) in database.packages.iter().enumerate() {
            places.entry(package.key()).or_insert(place);
        }
        for (number, line) in triggers.split(|&byte| byte == b'\n').enumerate() {
            if line.is_empty() {
                continue;
            }
            let bad = |what: &str| ReadError::Trigger {
                line: number + 1,
                what: what.to_owned(),
            };
            let text = std::str::from_utf8(line).map_err(|_| bad("not UTF-8"))?;
            let mut words = text.split(' ');
            let key = digest(words.next().unwrap_or_default()).ok_or_else(|| bad("no identity"))?;
            let place = places
                .get(&key)
                .ok_or_else(|| bad("no installed package has this identity"))?;
            let package = &mut database.packages[*place];
            package.triggers = words.map(str::to_owned).collect();
        }
        database.read_scripts(scripts, &places)?;
        Ok(database)
    }

    fn read_scripts(&mut self, archive: &[u8], places: &HashMap<[u8; 20], usize>) -> Result<(), ReadError> {
        if archive.is_empty() {
            return Ok(());
        }
        let bad = |what: &str| ReadError::Scripts(what.to_owned());
        let mut tar = Vec::new();
        if archive.starts_with(&[0x1f, 0x8b]) {
            flate2::read::GzDecoder::new(archive)
                .take(SCRIPTS_MAX + 1)
                .read_to_end(&mut tar)
                .map_err(|error| ReadError::Scripts(format!("not gzip: {error}")))?;
        } else {
            tar.extend_from_slice(archive);
        }
        if tar.len() as u64 > SCRIPTS_MAX {
            return Err(bad("larger than 256 MiB when unpacked"));
        }
        let mut rest = tar.as_slice();
        let mut long = None;
        while !rest.is_empty() {
            let (head, after) = rest.split_at_checked(512).ok_or_else(|| bad("cut short"))?;
            if head.iter().all(|&byte| byte == 0) {
                break;
            }
            let octal = |range: std::ops::Range<usize>| {
                let text = std::str::from_utf8(&head[range]).ok()?;
                usize::from_str_radix(text.trim_matches(['\0', ' ']), 8).ok()
            };
            let size = octal(124..136).ok_or_else(|| bad("a size is not octal"))?;
            let content = after.get(..size).ok_or_else(|| bad("cut short"))?;
            rest = after.get(size.next_multiple_of(512)..).unwrap_or_default();
            let until_nul = |bytes: &[u8]| {
                let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
                String::from_utf8_lossy(&bytes[..end]).into_owned()
            };
            if head[156] == b'L' {
                long = Some(until_nul(content));
                continue;
            }
            let name = long.take().unwrap_or_else(|| until_nul(&head[..100]));
            let (front, kind) = name.rsplit_once('.').ok_or_else(|| bad("a name without kind"))?;
            let kind = ScriptKind::from_name(kind).ok_or_else(|| bad("an unknown kind of script"))?;
            let key = front.rsplit_once(".X1").map(|(_, hex)| hex).unwrap_or_default();
            // Scripts of packages that are gone are left out, as apk does.
            let key = hex(key).and_then(|key| <[u8; 20]>::try_from(key).ok());
            if let Some(place) = key.and_then(|key| places.get(&key)) {
                self.packages[*place].scripts.push((kind, content.to_vec()));
            }
        }
        Ok(())
    }
}

fn digest(text: &str) -> Option<[u8; 20]> {
    STANDARD.decode(text.strip_prefix("Q1")?).ok()?.try_into().ok()
}

fn read_installed(bytes: &[u8]) -> Result<Vec<InstalledPackage>, ReadError> {
    let mut packages = Vec::new();
    let mut current: Option<InstalledPackage> = None;
    for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let bad = |what: String| ReadError::Line {
            line: number + 1,
            what,
        };
        if line.is_empty() {
            if let Some(package) = current.take() {
                packages.push(whole(package).map_err(bad)?);
            }
            continue;
        }
        let (&letter, value) = match line {
            [letter, b':', value @ ..] => (letter, value),
            _ => return Err(bad("not a letter, a colon and a value".to_owned())),
        };
        let package = current.get_or_insert_with(InstalledPackage::default);
        set(package, letter, value).map_err(bad)?;
    }
    if let Some(package) = current {
        packages.push(whole(package).map_err(|what| ReadError::Line {
            line: bytes.split(|&byte| byte == b'\n').count(),
            what,
        })?);
    }
    Ok(packages)
}

/// A record that has what tells packages apart: apk writes identity, name and version of each.
fn whole(package: InstalledPackage) -> Result<InstalledPackage, String> {
    let lacks = match &package.info {
        info if info.name.is_empty() => "name (P)",
        info if info.version.is_empty() => "version (V)",
        info if info.hashes.is_none() => "identity (C)",
        _ => return Ok(package),
    };
    Err(format!("the record that ends here has no {lacks}"))
}

fn set(package: &mut InstalledPackage, letter: u8, value: &[u8]) -> Result<(), String> {
    // Paths are bytes; all else is text.
    match letter {
        b'F' => {
            let owner = Ownership {
                uid: 0,
                gid: 0,
                mode: 0o755,
                xattrs: None,
            };
            package.directories.push(InstalledDirectory {
                path: value.to_vec(),
                owner,
                files: Vec::new(),
            });
            return Ok(());
        }
        b'R' => {
            let directory = package
                .directories
                .last_mut()
                .ok_or("a file before its directory")?;
            let owner = Ownership {
                uid: 0,
                gid: 0,
                mode: 0o644,
                xattrs: None,
            };
            directory.files.push(InstalledFile {
                name: value.to_vec(),
                owner,
                digest: None,
            });
            return Ok(());
        }
        _ => {}
    }
    let text = std::str::from_utf8(value).map_err(|_| "not UTF-8")?;
    let info = &mut package.info;
    if let Some(result) = set_field(info, letter, text) {
        return result;
    }
    match letter {
        b'r' => info.replaces = dependencies(text)?,
        b'q' => {
            package.replaces_priority = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
        }
        b's' => package.tag = Some(text.to_owned()),
        b'f' => {
            // As apk does: a flag of a later apk may change what the rest means.
            if let Some(letter) = text.chars().find(|letter| !"fsxS".contains(*letter)) {
                return Err(format!("the flag `{letter}` is not known"));
            }
            package.flags = Flags {
                broken_files: text.contains('f'),
                broken_script: text.contains('s'),
                broken_xattrs: text.contains('x'),
                sha256_160: text.contains('S'),
            }
        }
        b'M' => {
            let directory = package
                .directories
                .last_mut()
                .ok_or("an owner before its directory")?;
            directory.owner = ownership(text)?;
        }
        b'a' | b'Z' => {
            let file = package
                .directories
                .last_mut()
                .and_then(|directory| directory.files.last_mut())
                .ok_or("an owner or digest before its file")?;
            if letter == b'a' {
                file.owner = ownership(text)?;
            } else {
                file.digest = Some(digest(text).ok_or("not a Q1 digest")?);
            }
        }
        other => return Err(format!("unknown field `{}`", char::from(other).escape_default())),
    }
    Ok(())
}

/// Sets a field that the database shares with v2 indexes; nothing when the letter is of no such field.
pub(crate) fn set_field(info: &mut PackageInfo, letter: u8, text: &str) -> Option<Result<(), String>> {
    let mut set = || -> Result<bool, String> {
        let number = || {
            text.parse::<u64>()
                .map_err(|_| format!("`{text}` is not a number"))
        };
        match letter {
            b'C' => {
                let identity = dependency::parse_identity(text).ok_or("not an identity")?;
                info.hashes = Some(Digest(identity));
            }
            b'P' => info.name = text.to_owned(),
            b'V' => info.version = text.to_owned(),
            b'A' => info.arch = text.to_owned(),
            b'S' => info.file_size = number()?,
            b'I' => info.installed_size = number()?,
            b'T' => info.description = text.to_owned(),
            b'U' => info.url = text.to_owned(),
            b'L' => info.license = text.to_owned(),
            b'o' => info.origin = text.to_owned(),
            b'm' => info.maintainer = text.to_owned(),
            b't' => info.build_time = number()?,
            b'c' => {
                // As in a package: abuild's sign for a recipe that was not committed.
                let text = text.strip_suffix("-dirty").unwrap_or(text);
                info.repo_commit = hex(text).ok_or("not hexadecimal")?;
            }
            b'k' => info.provider_priority = number()?,
            // A field that is there again adds to what was said.
            b'D' => info.depends.extend(dependencies(text)?),
            b'p' => info.provides.extend(dependencies(text)?),
            b'i' => info.install_if.extend(dependencies(text)?),
            b'g' => {
                let words = text.split(' ').filter(|word| !word.is_empty());
                info.tags = words.map(str::to_owned).collect();
            }
            _ => return Ok(false),
        }
        Ok(true)
    };
    match set() {
        Ok(true) => Some(Ok(())),
        Ok(false) => None,
        Err(problem) => Some(Err(problem)),
    }
}

fn ownership(text: &str) -> Result<Ownership, String> {
    let bad = || format!("`{text}` is not uid:gid:mode");
    let mut parts = text.splitn(4, ':');
    let mut next = || parts.next().ok_or_else(bad);
    let uid = next()?.parse().map_err(|_| bad())?;
    let gid = next()?.parse().map_err(|_| bad())?;
    let mode = u16::from_str_radix(next()?, 8).map_err(|_| bad())?;
    let xattrs = parts
        .next()
        .map(|text| digest(text).ok_or_else(bad))
        .transpose()?;
    Ok(Ownership {
        uid,
        gid,
        mode,
        xattrs,
    })
}

fn hex(text: &str) -> Option<Vec<u8>> {
    if !text.is_ascii() || !text.len().is_multiple_of(2) {
        return None;
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok())
        .collect()
}

fn dependencies(text: &str) -> Result<Vec<Dependency>, String> {
    dependency::parse_list(text).map_err(|error| error.to_string())
}
