//! v2 packages.

use std::collections::HashMap;

use sha1::{Digest as _, Sha1};
use sha2::Sha256;

use super::control::{self, Control};
use super::gzip::Member;
use super::tar::{Archive, Entry, EntryKind};
use super::{V2Error, signatures, signer};
use crate::adb::{AdbError, Compression, join, validate_package, validate_path};
use crate::keys::KeyRing;
use crate::limits::Limits;
use crate::metadata::{Acl, Digest, DirEntry, FileEntry, FileKind};
use crate::package::{Expect, Format, PackageError, PayloadSink, Verified};

const DATA: &str = "data";
/// Bytes of content handed over at once.
const CHUNK: usize = 128 << 10;

/// Reads the metadata of a package. The list of its files is in the data part, whose hash is verified; the
/// contents are not looked at.
pub(crate) fn metadata(
    bytes: &[u8],
    keys: &KeyRing,
    expect: &Expect<'_>,
    limits: &Limits,
) -> Result<Verified, PackageError> {
    open(bytes, keys, expect, limits).map(|(verified, _)| verified)
}

/// Reads a package with its contents, in the order of the archive ([`Verified::stream`]).
pub(crate) fn read(
    bytes: &[u8],
    keys: &KeyRing,
    expect: &Expect<'_>,
    limits: &Limits,
    sink: &mut dyn PayloadSink,
) -> Result<Verified, PackageError> {
    let (verified, data) = open(bytes, keys, expect, limits)?;
    let package = &verified.package;
    let mut order = verified.stream.iter();
    let mut member = Member::open(data, DATA, limits)?;
    let mut archive = Archive::new(&mut member, DATA, limits);
    let mut buffer = vec![0; CHUNK];
    while let Some(entry) = archive.next()? {
        if entry.kind != EntryKind::Regular || is_hidden(&entry) {
            continue;
        }
        let Some(&(directory, file)) = order.next() else {
            return Err(V2Error::Structure("the data changed while it was read".into()).into());
        };
        let path = || entry.name.escape_ascii().to_string();
        let failed = |source| PackageError::Sink { path: path(), source };
        sink.begin(package, directory, file).map_err(failed)?;
        let mut hasher = Sha1::new();
        loop {
            let count = archive.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hasher.update(&buffer[..count]);
            sink.write(&buffer[..count]).map_err(failed)?;
        }
        let found: [u8; 20] = hasher.finalize().into();
        if entry.checksum != Some(found) {
            let problem = "its SHA-1 is not the one in its header".into();
            return Err(PackageError::Content {
                path: path(),
                problem,
            });
        }
        sink.end().map_err(failed)?;
    }
    Ok(verified)
}

/// The identity of a package: the SHA-1 of its compressed control part. Nothing is verified.
pub(crate) fn identity(bytes: &[u8], limits: &Limits) -> Result<Digest, PackageError> {
    identity_of_length(bytes, 20, limits)
}

/// The identity in the form that an index has.
pub(crate) fn identity_of_length(
    bytes: &[u8],
    length: usize,
    limits: &Limits,
) -> Result<Digest, PackageError> {
    let (_, rest) = signatures(bytes, limits)?;
    let (control, _) = Member::open(rest, "control", limits)?.split()?;
    identity_of(control, length)
}

fn identity_of(control: &[u8], length: usize) -> Result<Digest, PackageError> {
    match length {
        20 => Ok(Digest(Sha1::digest(control).to_vec())),
        32 => Ok(Digest(Sha256::digest(control).to_vec())),
        length => Err(PackageError::IdentityLength(length)),
    }
}

fn open<'a>(
    bytes: &'a [u8],
    keys: &KeyRing,
    expect: &Expect<'_>,
    limits: &Limits,
) -> Result<(Verified, &'a [u8]), PackageError> {
    let (signatures, rest) = signatures(bytes, limits)?;
    let (control, data) = Member::open(rest, "control", limits)?.split()?;
    let signed_by = signer(keys, "package", control, &signatures, expect.trust)?;
    let identity = Digest(Sha1::digest(control).to_vec());
    let from_info = expect.info.and_then(|info| info.hashes.as_ref());
    for expected in [expect.identity, from_info].into_iter().flatten() {
        let found = identity_of(control, expected.0.len())?;
        if *expected != found {
            return Err(PackageError::Identity {
                expected: expected.clone(),
                found,
            });
        }
    }
    let mut member = Member::open(control, "control", limits)?;
    let Control {
        mut package,
        data_hash,
    } = control::read(&mut member, limits)?;
    member.finish()?;
    expect.agrees(&package.info)?;

    let found = Sha256::digest(data);
    if found[..] != data_hash {
        return Err(V2Error::DataHash {
            expected: Digest(data_hash.to_vec()).to_string(),
            found: Digest(found.to_vec()).to_string(),
        }
        .into());
    }
    let mut member = Member::open(data, DATA, limits)?;
    let (paths, stream) = list(&mut Archive::new(&mut member, DATA, limits), limits)?;
    let behind = member.finish()?;
    if !behind.is_empty() {
        return Err(V2Error::Structure(format!("{} bytes follow the data", behind.len())).into());
    }
    package.paths = paths;
    validate_package(&package).map_err(AdbError::from)?;
    let compression = Compression::Deflate(None);
    let format = Format::V2;
    Ok((
        Verified {
            package,
            identity,
            signed_by,
            compression,
            format,
            stream,
        },
        data,
    ))
}

/// Names at the top that begin with a dot are no part of what is installed.
fn is_hidden(entry: &Entry) -> bool {
    entry.name.starts_with(b".")
}

/// Reads the headers: the directories in order with their files, and the place of every regular file in the
/// order of the archive.
type Listed = (Vec<DirEntry>, Vec<(usize, usize)>);

fn list(archive: &mut Archive<'_, '_>, limits: &Limits) -> Result<Listed, PackageError> {
    let mut paths: Vec<DirEntry> = Vec::new();
    let mut places: HashMap<Vec<u8>, usize> = HashMap::new();
    let mut first_names: HashMap<Vec<u8>, FileEntry> = HashMap::new();
    let mut stream = Vec::new();
    let mut total = 0u64;
    while let Some(entry) = archive.next()? {
        let bad = |problem: String| {
            let problem = format!("{}: {problem}", entry.name.escape_ascii());
            PackageError::from(V2Error::Archive { part: DATA, problem })
        };
        let first = entry.name.split(|&byte| byte == b'/').next().unwrap_or_default();
        if matches!(first, b"." | b"..") {
            return Err(bad("the path leads out of the root or begins with a dot".into()));
        }
        if is_hidden(&entry) {
            continue;
        }
        let acl = Acl {
            mode: entry.mode,
            user: entry.user.clone(),
            group: entry.group.clone(),
            xattrs: entry.xattrs.clone(),
            ids: Some(entry.ids),
        };
        if entry.kind == EntryKind::Directory {
            let path = entry.name.strip_suffix(b"/").unwrap_or(&entry.name).to_vec();
            validate_path(&path).map_err(|damage| bad(damage.to_string()))?;
            match places.get(&path) {
                Some(&at) => paths[at].acl = acl,
                None => {
                    places.insert(path.clone(), paths.len());
                    paths.push(DirEntry {
                        path,
                        acl,
                        files: Vec::new(),
                    });
                }
            }
            continue;
        }
        validate_path(&entry.name).map_err(|damage| bad(damage.to_string()))?;
        let (directory, name) = match entry.name.iter().rposition(|&byte| byte == b'/') {
            Some(end) => (entry.name[..end].to_vec(), entry.name[end + 1..].to_vec()),
            None => (Vec::new(), entry.name.clone()),
        };
        let at = match places.get(&directory) {
            Some(&at) => at,
            None if directory.is_empty() => {
                let acl = Acl {
                    mode: 0o755,
                    user: "root".into(),
                    group: "root".into(),
                    ..Acl::default()
                };
                places.insert(Vec::new(), paths.len());
                paths.push(DirEntry {
                    path: Vec::new(),
                    acl,
                    files: Vec::new(),
                });
                paths.len() - 1
            }
            None => return Err(bad("its directory is not in the archive before it".into())),
        };
        let (kind, size) = match entry.kind {
            EntryKind::Regular => {
                let hash = entry.checksum.ok_or_else(|| {
                    bad("the file has no SHA-1 in its header: the package is too old to be installed".into())
                })?;
                total = total.saturating_add(entry.size);
                if total > limits.content {
                    let what = "the size of all contents in bytes".to_owned();
                    return Err(V2Error::Limit {
                        what,
                        limit: limits.content,
                    }
                    .into());
                }
                stream.push((at, paths[at].files.len()));
                (FileKind::Regular { hash: hash.to_vec() }, entry.size)
            }
            EntryKind::HardLink => {
                let target = entry.link.clone();
                let Some(first) = first_names.get(&target) else {
                    return Err(bad(format!(
                        "hard link to {}, which is no earlier file",
                        target.escape_ascii()
                    )));
                };
                (FileKind::HardLink { target }, first.size)
            }
            EntryKind::Symlink => {
                if entry
                    .checksum
                    .is_some_and(|checksum| checksum[..] != Sha1::digest(&entry.link)[..])
                {
                    return Err(bad(
                        "the SHA-1 of the link's text is not the one in its header".into()
                    ));
                }
                (
                    FileKind::Symlink {
                        target: entry.link.clone(),
                    },
                    entry.link.len() as u64,
                )
            }
            EntryKind::Character => (
                FileKind::CharDevice {
                    major: entry.device.0,
                    minor: entry.device.1,
                },
                0,
            ),
            EntryKind::Block => (
                FileKind::BlockDevice {
                    major: entry.device.0,
                    minor: entry.device.1,
                },
                0,
            ),
            EntryKind::Fifo => (FileKind::Fifo, 0),
            // Handled above.
            EntryKind::Directory => continue,
        };
        let file = FileEntry {
            name,
            acl,
            size,
            mtime: entry.mtime,
            kind,
        };
        if !matches!(file.kind, FileKind::HardLink { .. }) {
            first_names.insert(join(&directory, &file.name), file.clone());
        }
        paths[at].files.push(file);
    }
    Ok((paths, stream))
}
