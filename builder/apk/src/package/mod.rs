//! Package files: reading v3 (apk-v3(5), apk-package(5)) and v2 (apk-v2(5)) with full verification, writing v3.
//!
//! ```
//! use lycia_apk::keys::{KeyRing, SigningKey};
//! use lycia_apk::metadata::{Acl, PackageInfo};
//! use lycia_apk::package::{self, Contents, Expect, PackageBuilder, WriteOptions};
//!
//! # use lycia_apk::keys::rand_core;
//! # struct Numbers(u64);
//! # impl rand_core::RngCore for Numbers {
//! #     fn next_u32(&mut self) -> u32 { self.next_u64() as u32 }
//! #     fn next_u64(&mut self) -> u64 {
//! #         self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
//! #         self.0 ^ self.0 >> 29
//! #     }
//! #     fn fill_bytes(&mut self, out: &mut [u8]) {
//! #         for chunk in out.chunks_mut(8) {
//! #             chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
//! #         }
//! #     }
//! #     fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
//! #         self.fill_bytes(out);
//! #         Ok(())
//! #     }
//! # }
//! # impl rand_core::CryptoRng for Numbers {}
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let mut random = Numbers(1);
//! // `random` is a generator fit for keys; this crate draws no numbers of its own.
//! let key = SigningKey::generate_ec("me", &mut random)?;
//! let mut builder = PackageBuilder::new(PackageInfo {
//!     name: "hello".into(),
//!     version: "1.0-r0".into(),
//!     ..PackageInfo::default()
//! });
//! builder.file(b"usr/bin/hello", Acl::root(0o755), 1_700_000_000, b"#!/bin/sh\n".to_vec())?;
//! let mut file = Vec::new();
//! let identity = builder.finish()?.write(WriteOptions::default(), &[key.clone()], &mut file)?;
//!
//! // Read where that key alone is trusted: signature, identity, metadata and the hash of each file are verified.
//! let mut keys = KeyRing::new();
//! keys.add_pem("me.pub", key.public_pem()?.as_bytes())?;
//! let mut contents = Contents::default();
//! let expect = Expect { identity: Some(&identity), ..Expect::default() };
//! let verified = package::read(&file, &keys, &expect, &mut contents)?;
//! assert_eq!(verified.package.info.name, "hello");
//! assert_eq!(contents.files[0].2, b"#!/bin/sh\n");
//!
//! // One bit that is another is refused.
//! let last = file.len() - 1;
//! file[last] ^= 1;
//! assert!(package::read(&file, &keys, &expect, &mut contents).is_err());
//! # Ok(())
//! # }
//! ```

mod build;
mod hashing;
mod read;
#[cfg(test)]
pub(crate) mod tests;
mod write;

pub use build::{BuiltPackage, Content, Opener, PackageBuilder};
pub(crate) use read::signer;
pub use read::{
    Contents, Discard, Expect, PayloadSink, Verified, identity, identity_of_length, inspect, read,
    read_metadata,
};
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
