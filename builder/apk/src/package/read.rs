//! Reading a package: signature, identity, metadata, contents, in this order.

use super::hashing::{Hashing, Piece};
use super::{Format, Hasher, PackageError, Trust, identity_of};
use crate::adb::container::{Block, Container};
use crate::adb::{AdbError, Compression, Schema, decode};
use crate::keys::KeyRing;
use crate::limits::Limits;
use crate::metadata::{Digest, FileEntry, FileKind, Package, PackageInfo};
use crate::v2;
use std::io;

/// Bytes of content handed over at once.
const CHUNK: usize = 128 << 10;
/// Bytes of contents from which on [`Expect::hashers`] are worth their threads.
const THREADED: u64 = 256 << 10;
const WRONG_HASH: &str = "its hash is not the one in the metadata";

/// Takes the contents of a package's regular files, in the order of the file ([`Verified::stream`]).
///
/// A file is announced before its content is verified. Nothing that was taken over may be used before [`read`]
/// has come back, and everything must be thrown away if it fails: what threads hash beside it, bytes after the last
/// file, and a missing file show only at the end.
pub trait PayloadSink {
    /// Content of `package.paths[directory].files[file]` follows. Called for every regular file, empty ones
    /// included; not for links and nodes.
    fn begin(&mut self, package: &Package, directory: usize, file: usize) -> io::Result<()>;
    /// The next piece of it.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// The content is complete and has the size of the metadata, and, without [`Expect::hashers`], its hash.
    fn end(&mut self) -> io::Result<()>;
}

/// A sink that only lets contents be verified.
#[derive(Clone, Copy, Default, Debug)]
pub struct Discard;

impl PayloadSink for Discard {
    fn begin(&mut self, _: &Package, _: usize, _: usize) -> io::Result<()> {
        Ok(())
    }
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that keeps contents in memory, one entry per regular file, in the order of the package.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Contents {
    /// Directory number, file number, content.
    pub files: Vec<(usize, usize, Vec<u8>)>,
    current: usize,
}

impl Contents {
    /// The content of a file by its place in the package.
    pub fn get(&self, directory: usize, file: usize) -> Option<&[u8]> {
        let found = self
            .files
            .binary_search_by_key(&(directory, file), |(d, f, _)| (*d, *f))
            .ok()?;
        Some(&self.files[found].2)
    }
}

impl PayloadSink for Contents {
    fn begin(&mut self, _: &Package, directory: usize, file: usize) -> io::Result<()> {
        let place = (directory, file);
        self.current = self
            .files
            .partition_point(|(directory, file, _)| (*directory, *file) < place);
        self.files.insert(self.current, (directory, file, Vec::new()));
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some((_, _, content)) = self.files.get_mut(self.current) {
            content.extend_from_slice(bytes);
        }
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the caller knows of a package before it is read.
#[derive(Clone, Default, Debug)]
pub struct Expect<'a> {
    /// Whether a trusted signature is needed.
    pub trust: Trust,
    /// The identity, from a lock or an index: 20 bytes (cut SHA-256), 32 (SHA-256) or 64 (SHA-512). All
    /// lengths are compared; apk itself does not compare 20-byte ones.
    pub identity: Option<&'a Digest>,
    /// The index entry: its name, version, architecture and `hashes` must be those of the package. Of a package for any
    /// architecture (`noarch` or none) an index may say another: it is made so for the folder that the package lies in,
    /// and the identity tells which package is meant.
    pub info: Option<&'a PackageInfo>,
    /// The architecture asked for; packages of any architecture (`noarch` or none) always fit.
    pub arch: Option<&'a str>,
    /// Bounds; the defaults if `None`.
    pub limits: Option<&'a Limits>,
    /// Threads that hash the contents of a v3 package beside the caller's, for large ones; 0: the caller's does it.
    /// What is accepted and refused is the same.
    pub hashers: usize,
}

impl Expect<'_> {
    /// Checks name, version and architecture of a package.
    pub(crate) fn agrees(&self, info: &PackageInfo) -> Result<(), PackageError> {
        if let Some(expected) = self.info {
            for (field, expected, found) in [
                ("name", &expected.name, &info.name),
                ("version", &expected.version, &info.version),
                ("architecture", &expected.arch, &info.arch),
            ] {
                let rewritten = field == "architecture" && info.fits_every_arch();
                if expected != found && !rewritten {
                    return Err(PackageError::Info {
                        field,
                        expected: expected.clone(),
                        found: found.clone(),
                    });
                }
            }
        }
        if let Some(expected) = self.arch
            && !info.fits_every_arch()
            && info.arch != expected
        {
            return Err(PackageError::Architecture {
                expected: expected.into(),
                found: info.arch.clone(),
            });
        }
        Ok(())
    }
}

/// A package that was read and verified.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Verified {
    /// Its metadata.
    pub package: Package,
    /// SHA-256 of its payload, 32 bytes; of a v2 package the SHA-1 of its control part, 20 bytes.
    pub identity: Digest,
    /// Name of the trusted key that signed it; `None` only with [`Trust::AllowUntrusted`].
    pub signed_by: Option<String>,
    /// How the file was compressed.
    pub compression: Compression,
    /// The format of the file.
    pub format: Format,
    /// The regular files (directory number, file number) in the order in which the file has their contents.
    pub stream: Vec<(usize, usize)>,
}

impl Verified {
    /// Where the content of each regular file lies, in the order of [`Package::paths`], when all contents are
    /// written one behind the other as they come: offset and size in bytes. v3 files have them in the order of
    /// the package; v2 files in that of their archive.
    pub fn placement(&self) -> Vec<(u64, u64)> {
        let mut places: Vec<((usize, usize), (u64, u64))> = Vec::with_capacity(self.stream.len());
        let mut offset = 0;
        for &(directory, file) in &self.stream {
            let size = self.package.paths[directory].files[file].size;
            places.push(((directory, file), (offset, size)));
            offset += size;
        }
        places.sort_unstable();
        places.into_iter().map(|(_, place)| place).collect()
    }
}

/// Reads and verifies a package; contents go to `sink`. Memory is bounded by the metadata's limits, contents
/// are streamed.
pub fn read(
    bytes: &[u8],
    keys: &KeyRing,
    expect: &Expect<'_>,
    sink: &mut dyn PayloadSink,
) -> Result<Verified, PackageError> {
    let default;
    let limits = match expect.limits {
        Some(limits) => limits,
        None => {
            default = Limits::default();
            &default
        }
    };
    if v2::is_v2(bytes) {
        return v2::read(bytes, keys, expect, limits, sink);
    }
    let (mut container, verified) = open(bytes, keys, expect, limits)?;
    // Threads cost more than they bring where there is little to do.
    if expect.hashers > 0 && verified.package.info.installed_size >= THREADED {
        std::thread::scope(|scope| {
            let mut hashing = Some(Hashing::new(scope, expect.hashers));
            let read = contents(&mut container, &verified.package, limits, sink, &mut hashing);
            let wrong = hashing.and_then(Hashing::finish);
            // A content that is wrong comes before what may have gone wrong behind it.
            match wrong.and_then(|number| verified.stream.get(number)) {
                Some(&(directory, file)) => Err(PackageError::Content {
                    path: shown_path(&verified.package, directory, file),
                    problem: WRONG_HASH.into(),
                }),
                None => read,
            }
        })?;
    } else {
        contents(&mut container, &verified.package, limits, sink, &mut None)?;
    }
    container.finish()?;
    Ok(verified)
}

/// Reads and verifies the metadata of a package only; contents and what follows them are not looked at.
pub fn read_metadata(bytes: &[u8], keys: &KeyRing, expect: &Expect<'_>) -> Result<Verified, PackageError> {
    let default = Limits::default();
    let limits = expect.limits.unwrap_or(&default);
    if v2::is_v2(bytes) {
        return v2::metadata(bytes, keys, expect, limits);
    }
    open(bytes, keys, expect, limits).map(|(_, verified)| verified)
}

/// Reads the metadata of a package without any trust, for showing it.
pub fn inspect(bytes: &[u8]) -> Result<Verified, PackageError> {
    read_metadata(
        bytes,
        &KeyRing::new(),
        &Expect {
            trust: Trust::AllowUntrusted,
            ..Expect::default()
        },
    )
}

/// The identity of a package file: of v3 the SHA-256 of its payload (32 bytes), of v2 the SHA-1 of its control
/// part (20 bytes). Nothing is verified.
pub fn identity(bytes: &[u8]) -> Result<Digest, PackageError> {
    if v2::is_v2(bytes) {
        return v2::identity(bytes, &Limits::default());
    }
    let container = Container::open_metadata(bytes, Schema::Package, &Limits::default())?;
    Ok(identity_of(&container.payload, 32).unwrap_or(Digest(Vec::new())))
}

/// The identity of a package file in the form that indexes with hashes of `length` bytes have: 20, 32 or 64 of v3, 20 or
/// 32 of v2. Nothing is verified.
pub fn identity_of_length(bytes: &[u8], length: usize) -> Result<Digest, PackageError> {
    if v2::is_v2(bytes) {
        return v2::identity_of_length(bytes, length, &Limits::default());
    }
    let container = Container::open_metadata(bytes, Schema::Package, &Limits::default())?;
    identity_of(&container.payload, length).ok_or(PackageError::IdentityLength(length))
}

fn open<'a>(
    bytes: &'a [u8],
    keys: &KeyRing,
    expect: &Expect<'_>,
    limits: &Limits,
) -> Result<(Container<'a>, Verified), PackageError> {
    let mut container = Container::open(bytes, Schema::Package, limits)?;
    let signed_by = signer(
        keys,
        Schema::Package,
        &container.payload,
        &container.signatures,
        expect.trust,
    )?;
    let from_info = expect.info.and_then(|info| info.hashes.as_ref());
    for expected in [expect.identity, from_info].into_iter().flatten() {
        let found = identity_of(&container.payload, expected.0.len())
            .ok_or(PackageError::IdentityLength(expected.0.len()))?;
        if *expected != found {
            return Err(PackageError::Identity {
                expected: expected.clone(),
                found,
            });
        }
    }
    let payload = std::mem::take(&mut container.payload);
    let identity = identity_of(&payload, 32).ok_or(PackageError::IdentityLength(32))?;
    let package = decode::package(&payload, limits)?;
    drop(payload);
    expect.agrees(&package.info)?;
    let mut stream = Vec::new();
    for (number, directory) in package.paths.iter().enumerate() {
        let regular = |(_, file): &(usize, &FileEntry)| matches!(file.kind, FileKind::Regular { .. });
        stream.extend(
            directory
                .files
                .iter()
                .enumerate()
                .filter(regular)
                .map(|(at, _)| (number, at)),
        );
    }
    let compression = container.compression();
    Ok((
        container,
        Verified {
            package,
            identity,
            signed_by,
            compression,
            format: Format::V3,
            stream,
        },
    ))
}

/// The name of the trusted signer, or why there is none.
pub(crate) fn signer(
    keys: &KeyRing,
    schema: Schema,
    payload: &[u8],
    signatures: &[Vec<u8>],
    trust: Trust,
) -> Result<Option<String>, PackageError> {
    match keys.verify(schema, payload, signatures) {
        Some(name) => Ok(Some(name.to_string())),
        None if trust == Trust::AllowUntrusted => Ok(None),
        None => Err(PackageError::Untrusted(if signatures.is_empty() {
            format!("the {schema} is not signed")
        } else {
            format!(
                "none of the {} signatures of the {schema} is a good one by one of {} trusted keys",
                signatures.len(),
                keys.len()
            )
        })),
    }
}

pub(crate) fn shown_path(package: &Package, directory: usize, file: usize) -> String {
    let directory = &package.paths[directory];
    crate::adb::join(&directory.path, &directory.files[file].name)
        .escape_ascii()
        .to_string()
}

fn contents(
    container: &mut Container<'_>,
    package: &Package,
    limits: &Limits,
    sink: &mut dyn PayloadSink,
    hashing: &mut Option<Hashing<'_>>,
) -> Result<(), PackageError> {
    let mut total = 0u64;
    let mut number_of_file = 0;
    let mut buffer = vec![0; CHUNK];
    for (number, directory) in package.paths.iter().enumerate() {
        for (index, file) in directory.files.iter().enumerate() {
            let FileKind::Regular { hash } = &file.kind else {
                continue;
            };
            total = total.saturating_add(file.size);
            if total > limits.content {
                let limit = limits.content;
                return Err(AdbError::Limit {
                    what: "the size of all contents in bytes".into(),
                    limit,
                }
                .into());
            }
            match hashing {
                None => content(container, package, (number, index), file, hash, &mut buffer, sink)?,
                Some(hashing) => {
                    let regular = (number_of_file, number, index);
                    if !threaded(container, package, regular, file, hash, hashing, sink)? {
                        return Ok(());
                    }
                }
            }
            number_of_file += 1;
        }
    }
    Ok(())
}

/// Where the content of a file begins: its data block, none for an empty file.
fn begin(
    container: &mut Container<'_>,
    place: (usize, usize),
    file: &FileEntry,
    problem: &dyn Fn(String) -> PackageError,
) -> Result<Option<Block>, PackageError> {
    if file.size == 0 {
        return Ok(None);
    }
    let Some(block) = container.next_data()? else {
        return Err(problem("the file ends before its data block".into()));
    };
    if file.size.checked_add(8) != Some(block.length) {
        return Err(problem(format!(
            "its size is {} bytes, its data block has {}",
            file.size,
            block.length.saturating_sub(8)
        )));
    }
    let mut position = [0; 8];
    container.read(&mut position, "a data block")?;
    let (directory, index) = position.split_at(4);
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .rev()
            .fold(0u32, |sum, &byte| sum << 8 | u32::from(byte))
    };
    let (directory, index) = (number(directory) as usize, number(index) as usize);
    if (directory, index) != (place.0 + 1, place.1 + 1) {
        return Err(problem(format!(
            "the next data block is of directory {directory} file {index}, not of {} {}",
            place.0 + 1,
            place.1 + 1
        )));
    }
    Ok(Some(block))
}

fn hasher_of(hash: &[u8], problem: &dyn Fn(String) -> PackageError) -> Result<Hasher, PackageError> {
    Hasher::for_length(hash.len()).ok_or_else(|| problem(format!("a hash of {} bytes", hash.len())))
}

fn content(
    container: &mut Container<'_>,
    package: &Package,
    place: (usize, usize),
    file: &FileEntry,
    hash: &[u8],
    buffer: &mut [u8],
    sink: &mut dyn PayloadSink,
) -> Result<(), PackageError> {
    let path = || shown_path(package, place.0, place.1);
    let problem = |problem: String| PackageError::Content {
        path: path(),
        problem,
    };
    let failed = |source: io::Error| PackageError::Sink { path: path(), source };
    let mut hasher = hasher_of(hash, &problem)?;
    let block = begin(container, place, file, &problem)?;
    sink.begin(package, place.0, place.1).map_err(failed)?;
    let mut left = file.size;
    while left > 0 {
        let chunk = &mut buffer[..left.min(CHUNK as u64) as usize];
        container.read(chunk, "the content of a file")?;
        hasher.update(chunk);
        sink.write(chunk).map_err(failed)?;
        left -= chunk.len() as u64;
    }
    if hasher.finish() != hash {
        return Err(problem(WRONG_HASH.into()));
    }
    if let Some(block) = block {
        container.end_block(block)?;
    }
    sink.end().map_err(failed)
}

/// The same, hashed by other threads; `number` counts regular files. False where one of them has found something wrong.
fn threaded(
    container: &mut Container<'_>,
    package: &Package,
    (number, directory, index): (usize, usize, usize),
    file: &FileEntry,
    hash: &[u8],
    hashing: &mut Hashing<'_>,
    sink: &mut dyn PayloadSink,
) -> Result<bool, PackageError> {
    let path = || shown_path(package, directory, index);
    let problem = |problem: String| PackageError::Content {
        path: path(),
        problem,
    };
    let failed = |source: io::Error| PackageError::Sink { path: path(), source };
    let mut begins = Some(hasher_of(hash, &problem)?);
    let block = begin(container, (directory, index), file, &problem)?;
    sink.begin(package, directory, index).map_err(failed)?;
    let mut left = file.size;
    loop {
        let mut bytes = hashing.buffer(left.min(CHUNK as u64) as usize);
        container.read(&mut bytes, "the content of a file")?;
        sink.write(&bytes).map_err(failed)?;
        left -= bytes.len() as u64;
        let piece = Piece {
            bytes,
            begins: begins.take(),
            ends: (left == 0).then(|| (number, hash.to_vec())),
        };
        if !hashing.take(piece) {
            return Ok(false);
        }
        if left == 0 {
            break;
        }
    }
    if let Some(block) = block {
        container.end_block(block)?;
    }
    sink.end().map_err(failed)?;
    Ok(true)
}
