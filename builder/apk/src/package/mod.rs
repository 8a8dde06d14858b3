//! Package files: reading v3 (apk-v3(5), apk-package(5)) and v2 (apk-v2(5)) with full verification, writing v3.

mod build;
mod hashing;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub use build::{BuiltPackage, Content, Opener, PackageBuilder};
pub(crate) use read::signer;
pub use read::{Contents, Discard, Expect, PayloadSink, Verified, identity, inspect, read, read_metadata};
pub use write::{ContentSource, WriteOptions, add_signatures, write};

use crate::adb::AdbError;
use crate::keys::KeyError;
use crate::metadata::Digest;

/// Whether a file must carry a signature of a trusted key.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Trust {
    /// Without a good signature of a key of the ring it is refused.
    #[default]
    Required,
    /// Unsigned files and signatures of unknown keys are taken.
    AllowUntrusted,
}

/// The format of a package or an index.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug)]
pub enum Format {
    /// gzip and tar (apk-v2(5)).
    V2,
    /// ADB (apk-v3(5)).
    #[default]
    V3,
}

/// Why a package could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// The container or its metadata is damaged.
    #[error(transparent)]
    Adb(#[from] AdbError),
    /// A v2 file is damaged.
    #[error(transparent)]
    V2(#[from] crate::v2::V2Error),
    /// No trusted key signed it.
    #[error("untrusted: {0}")]
    Untrusted(String),
    /// It is another package than was asked for.
    #[error("the package's identity is {found}, {expected} was expected")]
    Identity {
        /// What was asked for.
        expected: Digest,
        /// Of this file, in the same form.
        found: Digest,
    },
    /// An expected identity that can be none.
    #[error("an expected identity of {0} bytes; 20, 32 or 64 are possible")]
    IdentityLength(usize),
    /// The index speaks of another package.
    #[error("the package's {field} is {found:?}, its index entry says {expected:?}")]
    Info {
        /// `name`, `version` or `architecture`.
        field: &'static str,
        /// What the index says.
        expected: String,
        /// What the package says.
        found: String,
    },
    /// It is for another machine.
    #[error("the package is for {found}, not for {expected}")]
    Architecture {
        /// What was asked for.
        expected: String,
        /// What the package says.
        found: String,
    },
    /// The content of a file is not what the metadata says.
    #[error("content of {path}: {problem}")]
    Content {
        /// Path in the package, escaped.
        path: String,
        /// What is wrong.
        problem: String,
    },
    /// The content source failed.
    #[error("cannot read the content of {path}")]
    Source {
        /// Path in the package, escaped.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The receiver of contents failed.
    #[error("cannot take over the content of {path}")]
    Sink {
        /// Path in the package, escaped.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A key failed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The builder was given something that cannot be a package.
    #[error("cannot build the package: {0}")]
    Build(String),
}

/// Hashes by the algorithm that a stored hash's length tells.
pub(crate) enum Hasher {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha512(sha2::Sha512),
}

impl Hasher {
    pub(crate) fn for_length(length: usize) -> Option<Self> {
        match length {
            20 => Some(Hasher::Sha1(Default::default())),
            32 => Some(Hasher::Sha256(Default::default())),
            64 => Some(Hasher::Sha512(Default::default())),
            _ => None,
        }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        use sha2::Digest as _;
        match self {
            Hasher::Sha1(hasher) => hasher.update(bytes),
            Hasher::Sha256(hasher) => hasher.update(bytes),
            Hasher::Sha512(hasher) => hasher.update(bytes),
        }
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        use sha2::Digest as _;
        match self {
            Hasher::Sha1(hasher) => hasher.finalize().to_vec(),
            Hasher::Sha256(hasher) => hasher.finalize().to_vec(),
            Hasher::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }
}

/// The identity of a payload in the form of `length` bytes: 20 is a cut SHA-256, 32 SHA-256, 64 SHA-512.
pub(crate) fn identity_of(payload: &[u8], length: usize) -> Option<Digest> {
    use sha2::Digest as _;
    match length {
        20 | 32 => Some(Digest(sha2::Sha256::digest(payload)[..length].to_vec())),
        64 => Some(Digest(sha2::Sha512::digest(payload).to_vec())),
        _ => None,
    }
}
