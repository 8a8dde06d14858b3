//! Writing a package, and adding signatures to one.

use super::read::shown_path;
use super::{Hasher, PackageError, identity_of};
use crate::adb::container::{BlockKind, Container, ContainerWriter};
use crate::adb::{AdbError, Compression, Schema, encode};
use crate::keys::SigningKey;
use crate::limits::Limits;
use crate::metadata::{Digest, FileKind, Package};
use std::io::{self, Read, Write};

/// Gives the contents of a package's regular files.
pub trait ContentSource {
    /// The content of `package.paths[directory].files[file]`. Asked for in stored order, for files that are
    /// not empty.
    fn open(&mut self, directory: usize, file: usize) -> io::Result<Box<dyn Read + '_>>;
}

impl ContentSource for super::Contents {
    fn open(&mut self, directory: usize, file: usize) -> io::Result<Box<dyn Read + '_>> {
        match self.get(directory, file) {
            Some(content) => Ok(Box::new(content)),
            None => Err(io::Error::new(
                io::ErrorKind::NotFound,
                "no content was given for this file",
            )),
        }
    }
}

/// How a package or an index is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WriteOptions {
    /// Compression of the whole file.
    pub compression: Compression,
}

/// Writes a package and gives its identity (SHA-256, 32 bytes). `info.hashes` is not used: the unique id is
/// computed. The payload has the bytes that apk's own builder gives the same metadata, provided that
/// dependency lists stand in the order in which that builder was told of them.
pub fn write(
    package: &Package,
    contents: &mut dyn ContentSource,
    options: WriteOptions,
    keys: &[SigningKey],
    out: impl Write,
) -> Result<Digest, PackageError> {
    let payload = encode::package(package)?;
    let mut writer = ContainerWriter::new(out, Schema::Package, options.compression)?;
    writer.block(BlockKind::Adb, &payload)?;
    for key in keys {
        writer.block(BlockKind::Signature, &key.sign(Schema::Package, &payload)?)?;
    }
    let mut buffer = vec![0; 128 << 10];
    for (number, directory) in package.paths.iter().enumerate() {
        for (index, file) in directory.files.iter().enumerate() {
            let FileKind::Regular { hash } = &file.kind else {
                continue;
            };
            let path = || shown_path(package, number, index);
            let mut hasher = Hasher::for_length(hash.len()).ok_or_else(|| PackageError::Content {
                path: path(),
                problem: format!("a hash of {} bytes", hash.len()),
            })?;
            if file.size > 0 {
                let mut content = contents
                    .open(number, index)
                    .map_err(|source| PackageError::Source { path: path(), source })?;
                let position = [
                    (number as u32 + 1).to_le_bytes(),
                    (index as u32 + 1).to_le_bytes(),
                ]
                .concat();
                let length = file.size.checked_add(8).filter(|length| *length < u64::MAX >> 1);
                let length = length.ok_or_else(|| PackageError::Content {
                    path: path(),
                    problem: format!("a size of {} bytes is impossible", file.size),
                })?;
                writer.begin(BlockKind::Data, length)?;
                writer.write(&position)?;
                let mut left = file.size;
                loop {
                    // One byte more than is due, so that too much content shows.
                    let want = (left + 1).min(buffer.len() as u64) as usize;
                    let count = match content.read(&mut buffer[..want]) {
                        Ok(count) => count,
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                        Err(source) => return Err(PackageError::Source { path: path(), source }),
                    };
                    if (count == 0 && left > 0) || count as u64 > left {
                        let problem = format!(
                            "the metadata says {} bytes, there are {}",
                            file.size,
                            if count == 0 { "fewer" } else { "more" }
                        );
                        return Err(PackageError::Content {
                            path: path(),
                            problem,
                        });
                    }
                    if count == 0 {
                        break;
                    }
                    hasher.update(&buffer[..count]);
                    writer.write(&buffer[..count])?;
                    left -= count as u64;
                }
                writer.end()?;
            }
            if hasher.finish() != *hash {
                let problem = "its hash is not the one in the metadata".into();
                return Err(PackageError::Content {
                    path: path(),
                    problem,
                });
            }
        }
    }
    writer.finish()?;
    identity_of(&payload, 32).ok_or(PackageError::IdentityLength(32))
}

/// Copies a package or index file with further signatures, after those it has, or in place of them. Payload,
/// contents and kind of compression stay. Nothing is verified: whoever signs should have read the file.
pub fn add_signatures(
    bytes: &[u8],
    schema: Schema,
    replace: bool,
    keys: &[SigningKey],
    out: impl Write,
) -> Result<(), PackageError> {
    let limits = match schema {
        Schema::Package => Limits::default(),
        Schema::Index => Limits::index(),
    };
    let mut container = Container::open(bytes, schema, &limits)?;
    let mut writer = ContainerWriter::new(out, schema, container.compression())?;
    writer.block(BlockKind::Adb, &container.payload)?;
    let mut signatures = if replace {
        Vec::new()
    } else {
        std::mem::take(&mut container.signatures)
    };
    for key in keys {
        let signature = key.sign(schema, &container.payload)?;
        if !signatures.contains(&signature) {
            signatures.push(signature);
        }
    }
    if signatures.len() > limits.signatures {
        let limit = limits.signatures as u64;
        return Err(AdbError::Limit {
            what: "the number of signatures".into(),
            limit,
        }
        .into());
    }
    for signature in signatures {
        writer.block(BlockKind::Signature, &signature)?;
    }
    let mut buffer = vec![0; 128 << 10];
    while let Some(block) = container.next_data()? {
        writer.begin(BlockKind::Data, block.length)?;
        let mut left = block.length;
        while left > 0 {
            let chunk = &mut buffer[..left.min(128 << 10) as usize];
            container.read(chunk, "a data block")?;
            writer.write(chunk)?;
            left -= chunk.len() as u64;
        }
        container.end_block(block)?;
        writer.end()?;
    }
    container.finish()?;
    writer.finish()?;
    Ok(())
}
