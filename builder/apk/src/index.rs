//! Package indexes: v3 (apk-v3(5), "Index schema", `Packages.adb`) read and written, v2 (apk-v2(5),
//! `APKINDEX.tar.gz`) read. Chimera serves v3 indexes under both names, so that the first bytes decide.
//!
//! ```
//! use lycia_apk::index::{Index, IndexHash, WriteOptions, expand_spec};
//! use lycia_apk::keys::KeyRing;
//! use lycia_apk::metadata::{Digest, PackageInfo};
//! use lycia_apk::package::Trust;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Entries come from package files by `index::entry`; this one is made up.
//! let entry = PackageInfo {
//!     name: "hello".into(),
//!     version: "1.0-r0".into(),
//!     arch: "x86_64".into(),
//!     hashes: Some(Digest(vec![7; 32])),
//!     ..PackageInfo::default()
//! };
//! let index = Index {
//!     packages: vec![entry],
//!     pkgname_spec: Some("${arch}/${name}-${version}.apk".into()),
//!     ..Index::default()
//! };
//! let options = WriteOptions { hash: IndexHash::Sha256_160, ..WriteOptions::default() };
//! // Without keys it is not signed, and who reads it has to say that this will do.
//! let bytes = index.write(&options, &[])?;
//! let keys = KeyRing::new();
//! assert!(Index::read(&bytes, &keys, Trust::Required).is_err());
//! let index = Index::read(&bytes, &keys, Trust::AllowUntrusted)?;
//! let spec = index.pkgname_spec.as_deref().unwrap_or_default();
//! assert_eq!(expand_spec(spec, &index.packages[0])?, "x86_64/hello-1.0-r0.apk");
//! # Ok(())
//! # }
//! ```

use crate::adb::container::{BlockKind, Container, ContainerWriter};
use crate::adb::{AdbError, Compression, Damage, Schema, decode, encode};
use crate::keys::{KeyRing, SigningKey};
use crate::limits::Limits;
use crate::metadata::{Digest, PackageInfo};
use crate::package::{self, Expect, Format, PackageError, Trust};
use crate::v2;

/// Where packages lie below an index, unless the index says otherwise.
pub const DEFAULT_SPEC: &str = "${name}-${version}.apk";

/// What a repository offers.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Index {
    /// Free text, often empty.
    pub description: String,
    /// Entries in stored order: by name, then by version. Every one has `hashes`.
    pub packages: Vec<PackageInfo>,
    /// Where packages lie relative to the repository; see [`expand_spec`].
    pub pkgname_spec: Option<String>,
}

/// How an index names its packages.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum IndexHash {
    /// SHA-256, 32 bytes.
    #[default]
    Sha256,
    /// SHA-256 cut to 20 bytes, as Chimera's indexes have it.
    Sha256_160,
    /// SHA-512, 64 bytes.
    Sha512,
}

impl IndexHash {
    fn length(self) -> usize {
        match self {
            IndexHash::Sha256 => 32,
            IndexHash::Sha256_160 => 20,
            IndexHash::Sha512 => 64,
        }
    }
}

/// How an index is written.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct WriteOptions {
    /// Compression of the whole file.
    pub compression: Compression,
    /// Form of the packages' identities. Entries must have at least that many bytes.
    pub hash: IndexHash,
}

impl Index {
    /// Reads and verifies an index. Every entry is checked; one bad entry spoils the index.
    pub fn read(bytes: &[u8], keys: &KeyRing, trust: Trust) -> Result<Index, PackageError> {
        Self::read_within(bytes, keys, trust, &Limits::index()).map(|(index, _)| index)
    }

    /// Reads and verifies an index within given bounds; gives the name of the key that signed it, too.
    pub fn read_within(
        bytes: &[u8],
        keys: &KeyRing,
        trust: Trust,
        limits: &Limits,
    ) -> Result<(Index, Option<String>), PackageError> {
        if v2::is_v2(bytes) {
            let (index, signed_by) = v2::read_index(bytes, keys, trust, limits)?;
            index.check()?;
            return Ok((index, signed_by));
        }
        let mut container = Container::open(bytes, Schema::Index, limits)?;
        let signed_by = package::signer(
            keys,
            Schema::Index,
            &container.payload,
            &container.signatures,
            trust,
        )?;
        let decoded = decode::index(&container.payload, limits)?;
        container.finish()?;
        let index = Index {
            description: decoded.description,
            packages: decoded.packages,
            pkgname_spec: decoded.pkgname_spec,
        };
        index.check()?;
        Ok((index, signed_by))
    }

    fn check(&self) -> Result<(), PackageError> {
        if self.description.chars().any(char::is_control) {
            let damage = Damage::new("contains a control character").within("description");
            return Err(AdbError::from(damage).into());
        }
        if let Some(spec) = &self.pkgname_spec {
            parse_spec(spec).map_err(|problem| {
                AdbError::from(Damage::new(format!("{spec:?} {problem}")).within("pkgname-spec"))
            })?;
        }
        Ok(())
    }

    /// Writes the index, sorted: the same entries and keys give the same bytes.
    pub fn write(&self, options: &WriteOptions, keys: &[SigningKey]) -> Result<Vec<u8>, PackageError> {
        self.check()?;
        let payload = encode::index(
            &self.description,
            &self.packages,
            self.pkgname_spec.as_deref(),
            options.hash.length(),
        )?;
        let mut writer = ContainerWriter::new(Vec::new(), Schema::Index, options.compression)?;
        writer.block(BlockKind::Adb, &payload)?;
        for key in keys {
            writer.block(BlockKind::Signature, &key.sign(Schema::Index, &payload)?)?;
        }
        Ok(writer.finish()?)
    }
}

/// The index entry of a package file. Signature and metadata are verified, contents are not read. A v2 package has its
/// SHA-1 where 20 bytes are asked for, and none of 64.
pub fn entry(
    bytes: &[u8],
    keys: &KeyRing,
    trust: Trust,
    hash: IndexHash,
) -> Result<PackageInfo, PackageError> {
    let verified = package::read_metadata(
        bytes,
        keys,
        &Expect {
            trust,
            ..Expect::default()
        },
    )?;
    let mut info = verified.package.info;
    let length = hash.length();
    let identity = match verified.format {
        Format::V3 if length <= verified.identity.0.len() => Digest(verified.identity.0[..length].to_vec()),
        _ => package::identity_of_length(bytes, length)?,
    };
    info.hashes = Some(identity);
    info.file_size = bytes.len() as u64;
    Ok(info)
}

enum Piece<'a> {
    Text(&'a str),
    Variable(Variable, Option<usize>),
}

#[derive(Clone, Copy)]
enum Variable {
    Name,
    Version,
    Arch,
    Hash,
}

/// Splits a spec and checks what can be checked without a package: known variables, no way out of the
/// repository, a sound path.
fn parse_spec(spec: &str) -> Result<Vec<Piece<'_>>, String> {
    if spec.len() > crate::limits::PATH_MAX {
        return Err(format!(
            "has {} bytes, the limit is {}",
            spec.len(),
            crate::limits::PATH_MAX
        ));
    }
    if let Some(bad) = spec
        .chars()
        .find(|c| c.is_control() || c.is_whitespace() || *c == '\\')
    {
        return Err(format!("contains {bad:?}"));
    }
    let path = match spec.split_once("://") {
        Some((scheme, rest)) => {
            let sound = !scheme.is_empty()
                && scheme
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                && !rest.is_empty();
            if !sound {
                return Err("is no URL, although it contains \"://\"".into());
            }
            rest
        }
        None => spec,
    };
    if path
        .split('/')
        .any(|component| matches!(component, "" | "." | ".."))
    {
        return Err("has an empty, \".\" or \"..\" component, or a slash at an end".into());
    }
    let mut pieces = Vec::new();
    let mut rest = spec;
    while let Some(start) = rest.find("${") {
        pieces.push(Piece::Text(&rest[..start]));
        let (inside, after) = rest[start + 2..]
            .split_once('}')
            .ok_or_else(|| "has a ${ without }".to_string())?;
        let (name, cut) = match inside.split_once(':') {
            Some((name, cut)) => {
                let number = cut.parse::<usize>().ok().filter(|n| (1..=255).contains(n));
                let number = number.ok_or_else(|| format!("has a bad length in ${{{inside}}} (1 to 255)"))?;
                (name, Some(number))
            }
            None => (inside, None),
        };
        let variable = match name {
            "name" => Variable::Name,
            "version" => Variable::Version,
            "arch" => Variable::Arch,
            "hash" => Variable::Hash,
            _ => return Err(format!("has the unknown variable ${{{inside}}}")),
        };
        pieces.push(Piece::Variable(variable, cut));
        rest = after;
    }
    pieces.push(Piece::Text(rest));
    Ok(pieces)
}

/// The path of a package by a `pkgname-spec`, relative to the repository, or a URL if the spec is one.
/// Variables are `${name} ${version} ${arch} ${hash}`, each with an optional `:N` for its first N
/// characters. A result that could lead out of the repository is an error.
pub fn expand_spec(spec: &str, info: &PackageInfo) -> Result<String, PackageError> {
    let failed =
        |problem: String| AdbError::from(Damage::new(format!("{spec:?} {problem}")).within("pkgname-spec"));
    let pieces = parse_spec(spec).map_err(failed)?;
    let hash = info.hashes.as_ref().map(ToString::to_string).unwrap_or_default();
    let mut path = String::new();
    for piece in pieces {
        match piece {
            Piece::Text(text) => path.push_str(text),
            Piece::Variable(variable, cut) => {
                let value = match variable {
                    Variable::Name => &info.name,
                    Variable::Version => &info.version,
                    Variable::Arch if info.arch.is_empty() => "noarch",
                    Variable::Arch => &info.arch,
                    Variable::Hash => &hash,
                };
                if value.contains('/') {
                    return Err(failed(format!("would put a slash from {value:?} into a path")).into());
                }
                path.extend(value.chars().take(cut.unwrap_or(usize::MAX)));
            }
        }
    }
    let relative = path.split_once("://").map_or(path.as_str(), |(_, rest)| rest);
    if relative
        .split('/')
        .any(|component| matches!(component, "" | "." | ".."))
    {
        return Err(failed(format!("gives {path:?} for {}-{}", info.name, info.version)).into());
    }
    Ok(path)
}
