//! v2 indexes: `APKINDEX.tar.gz`.

use super::gzip::Member;
use super::tar::{Archive, EntryKind};
use super::{V2Error, signatures, signer};
use crate::adb::validate_info;
use crate::database::set_field;
use crate::index::Index;
use crate::keys::KeyRing;
use crate::limits::Limits;
use crate::metadata::PackageInfo;
use crate::package::{PackageError, Trust};

const PART: &str = "index";
const FILE: &str = "APKINDEX";
/// Longest description, in bytes.
const DESCRIPTION_MAX: u64 = 160;

/// Reads and verifies an index; gives the name of the key that signed it, too.
pub(crate) fn read(
    bytes: &[u8],
    keys: &KeyRing,
    trust: Trust,
    limits: &Limits,
) -> Result<(Index, Option<String>), PackageError> {
    let (signatures, rest) = signatures(bytes, limits)?;
    let signed_by = signer(keys, "index", rest, &signatures, trust)?;
    let mut member = Member::open(rest, PART, limits)?;
    let mut archive = Archive::new(&mut member, PART, limits);
    let mut index = Index::default();
    let mut text = None;
    while let Some(entry) = archive.next()? {
        let limit = match &entry.name[..] {
            b"DESCRIPTION" => DESCRIPTION_MAX,
            b"APKINDEX" => limits.index_metadata,
            other => {
                let problem = format!(
                    "has the entry {}, which does not belong there",
                    other.escape_ascii()
                );
                return Err(V2Error::Archive { part: PART, problem }.into());
            }
        };
        if entry.kind != EntryKind::Regular || entry.size > limit {
            let what = format!("{} of {} bytes", entry.name.escape_ascii(), entry.size);
            return Err(V2Error::Limit { what, limit }.into());
        }
        let content = archive.content(&entry)?;
        if entry.name == FILE.as_bytes() {
            if text.replace(content).is_some() {
                let problem = format!("has {FILE} twice");
                return Err(V2Error::Archive { part: PART, problem }.into());
            }
        } else {
            index.description = String::from_utf8_lossy(&content).trim_end().to_owned();
        }
    }
    let behind = member.finish()?;
    if !behind.is_empty() {
        return Err(V2Error::Structure(format!("{} bytes follow the index", behind.len())).into());
    }
    let text = text.ok_or_else(|| V2Error::Structure(format!("the index has no {FILE}")))?;
    index.packages = records(&text, limits)?;
    Ok((index, signed_by))
}

/// Reads text records. One that has a field in upper case that we do not know is left out: it says something
/// of which apk holds that who does not understand it must not install the package.
fn records(text: &[u8], limits: &Limits) -> Result<Vec<PackageInfo>, V2Error> {
    let mut packages = Vec::new();
    let mut current: Option<(usize, PackageInfo, bool)> = None;
    let mut entries = 0u64;
    for (number, line) in (1..).zip(text.split(|&byte| byte == b'\n')) {
        let bad = |problem: String| V2Error::Record {
            file: FILE,
            line: number,
            problem,
        };
        if line.is_empty() {
            if let Some((first, info, understood)) = current.take() {
                packages.extend(finished(first, info)?.filter(|_| understood));
            }
            continue;
        }
        let [letter, b':', value @ ..] = line else {
            return Err(bad("not a letter, a colon and a value".into()));
        };
        entries += 1;
        if entries > limits.entries {
            return Err(V2Error::Limit {
                what: format!("the number of lines of {FILE}"),
                limit: limits.entries,
            });
        }
        let (_, info, understood) = current.get_or_insert_with(|| (number, PackageInfo::default(), true));
        let value = std::str::from_utf8(value).map_err(|_| bad("not UTF-8".into()))?;
        match letter {
            // Of the database only, where they come after these fields.
            b'F' | b'M' | b'R' | b'Z' | b'a' | b'q' | b's' | b'f' => {
                return Err(bad(format!(
                    "the field {} belongs to an installed package",
                    char::from(*letter)
                )));
            }
            _ => match set_field(info, *letter, value) {
                Some(result) => result.map_err(bad)?,
                None if letter.is_ascii_lowercase() => {}
                None => *understood = false,
            },
        }
    }
    if let Some((first, info, understood)) = current {
        packages.extend(finished(first, info)?.filter(|_| understood));
    }
    Ok(packages)
}

fn finished(line: usize, info: PackageInfo) -> Result<Option<PackageInfo>, V2Error> {
    let bad = |problem: String| V2Error::Record {
        file: FILE,
        line,
        problem,
    };
    // A dependency with a version that is none makes a package that is never installed; it is no reason to
    // refuse the others.
    let broken = [&info.depends, &info.provides, &info.install_if]
        .into_iter()
        .flatten()
        .any(crate::dependency::is_broken);
    if broken {
        return Ok(None);
    }
    validate_info(&info).map_err(|damage| bad(damage.to_string()))?;
    let identity = info.hashes.as_ref().map_or(0, |hash| hash.0.len());
    if !matches!(identity, 20 | 32) {
        return Err(bad(format!("{} has no identity", info.name)));
    }
    Ok(Some(info))
}
