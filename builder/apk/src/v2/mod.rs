//! v2 packages and indexes (apk-v2(5)): gzip members one after another, each a tar archive. Only reading;
//! what repositories serve today is written in v3.
//!
//! A package is a member of signatures, a member of control (`.PKGINFO` and scripts) and a member of data; an
//! index is a member of signatures and a member with the file `APKINDEX`. A signature covers the bytes of the
//! compressed control member, which names the SHA-256 of the compressed data member, in which every file has
//! its SHA-1. All three are verified; apk itself leaves the last one out.
//!
//! The readers are reached through [`crate::package::read`] and [`crate::index::Index::read`], which tell the
//! formats apart by their first bytes.

mod control;
mod gzip;
mod index;
mod package;
mod tar;
#[cfg(test)]
mod tests;

pub(crate) use index::read as read_index;
pub(crate) use package::{identity, identity_of_length, metadata, read};

use crate::keys::{KeyRing, V2Signature};
use crate::limits::Limits;
use crate::package::{PackageError, Trust};

/// What can be wrong with a v2 file.
#[derive(Debug, thiserror::Error)]
pub enum V2Error {
    /// A gzip member is damaged.
    #[error("the gzip member of {part} is damaged: {problem}")]
    Gzip {
        /// `signatures`, `control`, `data` or `index`.
        part: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// A tar archive is damaged or has what no package may have.
    #[error("the archive of {part}: {problem}")]
    Archive {
        /// `signatures`, `control`, `data` or `index`.
        part: &'static str,
        /// What is wrong, with the entry's name.
        problem: String,
    },
    /// A text record is wrong.
    #[error("{file}, line {line}: {problem}")]
    Record {
        /// `.PKGINFO` or `APKINDEX`.
        file: &'static str,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
    /// A part is missing, or there is one too many.
    #[error("{0}")]
    Structure(String),
    /// The data is not the one that the control member speaks of.
    #[error("the SHA-256 of the data is {found}, the control part says {expected}")]
    DataHash {
        /// In hexadecimal.
        expected: String,
        /// In hexadecimal.
        found: String,
    },
    /// A bound was passed.
    #[error("{what} is beyond the limit of {limit}")]
    Limit {
        /// What was counted.
        what: String,
        /// The bound, in the unit of the count.
        limit: u64,
    },
}

/// Whether a file starts as a v2 one does.
pub(crate) fn is_v2(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// Longest signature of a file, in bytes.
const SIGNATURE_MAX: u64 = 64 << 10;
/// All signatures of a file together, in bytes: they are read before anything is trusted.
const SIGNATURES_MAX: u64 = 1 << 20;

/// Reads the signatures in front of a file, if it has some; gives the rest of the bytes.
fn signatures<'a>(bytes: &'a [u8], limits: &Limits) -> Result<(Vec<V2Signature>, &'a [u8]), V2Error> {
    const PART: &str = "signatures";
    let mut member = gzip::Member::open(bytes, PART, limits)?;
    let mut archive = tar::Archive::new(&mut member, PART, limits);
    let mut found = Vec::new();
    let mut total = 0;
    while let Some(entry) = archive.next()? {
        let Some(rest) = entry.name.strip_prefix(b".SIGN.") else {
            if found.is_empty() {
                // No signatures at all: this is the next part already.
                return Ok((found, bytes));
            }
            let problem = format!(
                "has the entry {}, which is no signature",
                entry.name.escape_ascii()
            );
            return Err(V2Error::Archive { part: PART, problem });
        };
        if entry.size > SIGNATURE_MAX {
            let what = format!("a signature of {} bytes", entry.size);
            return Err(V2Error::Limit {
                what,
                limit: SIGNATURE_MAX,
            });
        }
        total += entry.size;
        if total > SIGNATURES_MAX {
            let what = format!("signatures of {total} bytes");
            return Err(V2Error::Limit {
                what,
                limit: SIGNATURES_MAX,
            });
        }
        if found.len() == limits.signatures {
            let what = "the number of signatures".to_owned();
            return Err(V2Error::Limit {
                what,
                limit: limits.signatures as u64,
            });
        }
        let rest = String::from_utf8_lossy(rest).into_owned();
        let (algorithm, key) = rest.split_once('.').unwrap_or((&rest, ""));
        let (algorithm, key) = (algorithm.to_owned(), key.to_owned());
        let signature = archive.content(&entry)?;
        found.push(V2Signature {
            algorithm,
            key,
            signature,
        });
    }
    let rest = member.finish()?;
    Ok((found, rest))
}

/// The name of the trusted key that signed `message`, or why there is none.
fn signer(
    keys: &KeyRing,
    what: &str,
    message: &[u8],
    signatures: &[V2Signature],
    trust: Trust,
) -> Result<Option<String>, PackageError> {
    match keys.verify_v2(message, signatures) {
        Ok(Some(name)) => Ok(Some(name.to_owned())),
        Err(name) if trust == Trust::Required => Err(PackageError::Untrusted(format!(
            "the signature of the {what} by {name} is bad"
        ))),
        Ok(None) if trust == Trust::Required => Err(PackageError::Untrusted(if signatures.is_empty() {
            format!("the {what} is not signed")
        } else {
            let named: Vec<&str> = signatures
                .iter()
                .map(|signature| signature.key.as_str())
                .collect();
            format!(
                "the {what} is signed by {}, none of the {} trusted keys has such a name",
                named.join(", "),
                keys.len()
            )
        })),
        _ => Ok(None),
    }
}
