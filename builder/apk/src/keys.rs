//! Keys and signatures of v3 files (apk-v3(5), "Signatures").
//!
//! A signature covers the schema word, its own 18-byte header and a hash of the metadata payload. File
//! contents are covered by the hashes in the metadata. RSA keys sign with PKCS#1 v1.5 and SHA-512, EC keys
//! (P-256) with ECDSA and SHA-512.
//!
//! ```
//! use lycia_apk::keys::KeyRing;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let pem = "-----BEGIN PUBLIC KEY-----\n\
//!     MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExw3Z1DHajV7RyMmkk2S4g1YJt9Zv\n\
//!     aAdPNiBRPjfgHPTIWHLdv0c8q1PIjeJdg/Xgztv1G+9+wWgawWMZDKomWA==\n\
//!     -----END PUBLIC KEY-----\n";
//! // The keys that a repository may be signed with. Signatures name a key by its id, not by a file.
//! let mut keys = KeyRing::new();
//! let id = keys.add_pem("alice.pub", pem.as_bytes())?;
//! assert_eq!(keys.iter().collect::<Vec<_>>(), [(id, "alice.pub")]);
//! assert!(keys.add_pem("bob.pub", b"no key").is_err());
//! # Ok(())
//! # }
//! ```

mod detached;

use crate::adb::Schema;
use p256::ecdsa::signature::hazmat::{PrehashSigner, PrehashVerifier};
use p256::pkcs8::DecodePublicKey as _;
use rsa::pkcs1::{DecodeRsaPrivateKey, EncodeRsaPublicKey};
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rsa::signature::{SignatureEncoding as _, Signer as _, Verifier as _};
use rsa::traits::PublicKeyParts as _;
use rsa::{RsaPrivateKey, RsaPublicKey, pkcs1v15};
use sha2::{Digest as _, Sha256, Sha512};
use std::fmt;

pub use rsa::rand_core;

/// Smallest RSA modulus that is trusted or made, in bits.
pub const RSA_MIN_BITS: usize = 2048;
/// Largest RSA modulus that is read or made, in bits.
pub const RSA_MAX_BITS: usize = 16384;

/// Bytes of a signature before the signature proper: version, hash algorithm, key id.
const HEADER: usize = 18;
const HASH_SHA256: u8 = 3;
const HASH_SHA512: u8 = 4;
const HASH_SHA256_160: u8 = 5;

/// What can be wrong with a key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is no PEM text of a kind that we know.
    #[error("key {name}: {problem}")]
    Format {
        /// Name it was given.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Its modulus is too small to be trusted or too large to be used.
    #[error("key {name}: an RSA key of {bits} bits; {RSA_MIN_BITS} to {RSA_MAX_BITS} bits are accepted")]
    Size {
        /// Name it was given.
        name: String,
        /// Bits of its modulus.
        bits: usize,
    },
    /// Making a key or a signature failed.
    #[error("cannot {doing} with key {name}: {problem}")]
    Operation {
        /// What was tried.
        doing: &'static str,
        /// Name of the key.
        name: String,
        /// What is wrong.
        problem: String,
    },
}

/// The id by which a signature names its key: the first 16 bytes of the SHA-512 of the public key (RSA: DER
/// of PKCS#1 `RSAPublicKey`; EC: uncompressed point).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyId(pub [u8; 16]);

impl KeyId {
    fn of(public: &[u8]) -> Self {
        let digest = Sha512::digest(public);
        let mut id = [0; 16];
        id.copy_from_slice(&digest[..16]);
        KeyId(id)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyId({self})")
    }
}

#[derive(Clone, Debug)]
enum PublicKey {
    Rsa(RsaPublicKey),
    Ec(p256::ecdsa::VerifyingKey),
}

impl PublicKey {
    fn id(&self, name: &str) -> Result<KeyId, KeyError> {
        match self {
            PublicKey::Rsa(key) => {
                let der = key.to_pkcs1_der().map_err(|error| format_error(name, error))?;
                Ok(KeyId::of(der.as_bytes()))
            }
            PublicKey::Ec(key) => Ok(KeyId::of(key.to_encoded_point(false).as_bytes())),
        }
    }

    fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            PublicKey::Rsa(key) => pkcs1v15::Signature::try_from(signature).is_ok_and(|signature| {
                pkcs1v15::VerifyingKey::<Sha512>::new(key.clone())
                    .verify(message, &signature)
                    .is_ok()
            }),
            PublicKey::Ec(key) => p256::ecdsa::Signature::from_der(signature)
                .is_ok_and(|signature| key.verify_prehash(&Sha512::digest(message), &signature).is_ok()),
        }
    }
}

fn format_error(name: &str, problem: impl fmt::Display) -> KeyError {
    KeyError::Format {
        name: name.into(),
        problem: problem.to_string(),
    }
}

fn check_size(name: &str, bits: usize) -> Result<(), KeyError> {
    if (RSA_MIN_BITS..=RSA_MAX_BITS).contains(&bits) {
        Ok(())
    } else {
        Err(KeyError::Size {
            name: name.into(),
            bits,
        })
    }
}

fn pem_text<'a>(name: &str, pem: &'a [u8]) -> Result<(&'a str, &'a str), KeyError> {
    let text = std::str::from_utf8(pem).map_err(|_| format_error(name, "is not PEM text"))?;
    // OpenSSL writes the curve's name in a block of its own in front of an EC private key.
    let text = match text.split_once("-----END EC PARAMETERS-----") {
        Some((_, rest)) => rest,
        None => text,
    };
    let text = text.trim();
    let label = text
        .strip_prefix("-----BEGIN ")
        .and_then(|rest| rest.split_once("-----"))
        .map(|(label, _)| label)
        .ok_or_else(|| format_error(name, "is not PEM text (no BEGIN line)"))?;
    Ok((text, label))
}

/// The public keys that are trusted.
#[derive(Clone, Default, Debug)]
pub struct KeyRing {
    keys: Vec<(KeyId, String, PublicKey)>,
}

impl KeyRing {
    /// No key at all.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a PEM public key (RSA or EC P-256). The name is the file name, by which v2 signatures find
    /// their key; for v3 it serves messages only.
    pub fn add_pem(&mut self, name: &str, pem: &[u8]) -> Result<KeyId, KeyError> {
        let (text, label) = pem_text(name, pem)?;
        if label != "PUBLIC KEY" {
            return Err(format_error(
                name,
                format_args!("is a \"{label}\", not a \"PUBLIC KEY\""),
            ));
        }
        let key = match rsa_public_key(text) {
            Ok(key) => {
                check_size(name, key.n().bits())?;
                PublicKey::Rsa(key)
            }
            Err(rsa_problem) => match p256::PublicKey::from_public_key_pem(text) {
                Ok(key) => PublicKey::Ec(key.into()),
                Err(ec_problem) => {
                    let problem = format!("is neither RSA ({rsa_problem}) nor EC P-256 ({ec_problem})");
                    return Err(format_error(name, problem));
                }
            },
        };
        let id = key.id(name)?;
        // One key under two names stays twice: v2 signatures ask for names.
        if !self
            .keys
            .iter()
            .any(|(other, known, _)| *other == id && known == name)
        {
            self.keys.push((id, name.to_string(), key));
        }
        Ok(id)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Ids and names of the keys, in the order in which they were added.
    pub fn iter(&self) -> impl Iterator<Item = (KeyId, &str)> {
        self.keys.iter().map(|(id, name, _)| (*id, name.as_str()))
    }

    /// The name of the first key that made one of the signatures; signatures of other keys, of unknown kinds
    /// and bad ones are passed over.
    pub(crate) fn verify(&self, schema: Schema, payload: &[u8], signatures: &[Vec<u8>]) -> Option<&str> {
        let mut hashes: [Option<Vec<u8>>; 3] = Default::default();
        for signature in signatures {
            let Some((header, signature)) = signature.split_first_chunk::<HEADER>() else {
                continue;
            };
            let slot = match (header[0], header[1]) {
                (0, HASH_SHA256) => 0,
                (0, HASH_SHA512) => 1,
                (0, HASH_SHA256_160) => 2,
                _ => continue,
            };
            for (_, name, key) in self.keys.iter().filter(|(id, _, _)| id.0 == header[2..]) {
                let hash = hashes[slot].get_or_insert_with(|| match slot {
                    0 => Sha256::digest(payload).to_vec(),
                    1 => Sha512::digest(payload).to_vec(),
                    _ => Sha256::digest(payload)[..20].to_vec(),
                });
                let message = [&schema.word()[..], header, hash].concat();
                if key.verify(&message, signature) {
                    return Some(name);
                }
            }
        }
        None
    }
}

/// A signature in front of a v2 file: `.SIGN.ALGORITHM.KEY`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct V2Signature {
    pub algorithm: String,
    /// File name of the key.
    pub key: String,
    pub signature: Vec<u8>,
}

impl KeyRing {
    /// Verifies the first signature whose key is known by name, as apk does: gives the key's name, nothing when
    /// no key is known, or as an error the name of the key whose signature is bad.
    pub(crate) fn verify_v2<'k>(
        &'k self,
        message: &[u8],
        signatures: &[V2Signature],
    ) -> Result<Option<&'k str>, &'k str> {
        for made in signatures {
            let named = self.keys.iter().find(|(_, name, _)| *name == made.key);
            let Some((_, name, PublicKey::Rsa(key))) = named else {
                continue;
            };
            let Ok(signature) = pkcs1v15::Signature::try_from(&made.signature[..]) else {
                return Err(name);
            };
            let good = match made.algorithm.as_str() {
                "RSA" => pkcs1v15::VerifyingKey::<sha1::Sha1>::new(key.clone()).verify(message, &signature),
                "RSA256" => pkcs1v15::VerifyingKey::<Sha256>::new(key.clone()).verify(message, &signature),
                "RSA512" => pkcs1v15::VerifyingKey::<Sha512>::new(key.clone()).verify(message, &signature),
                // DSA and what may come.
                _ => continue,
            };
            return good.map(|()| Some(name.as_str())).map_err(|_| name.as_str());
        }
        Ok(None)
    }
}

/// RSA public key of any size up to [`RSA_MAX_BITS`] (the `rsa` crate's own decoder stops at 4096 bits).
fn rsa_public_key(text: &str) -> Result<RsaPublicKey, String> {
    use rsa::pkcs8::der::Decode as _;
    let (label, der) = rsa::pkcs8::SecretDocument::from_pem(text).map_err(|error| error.to_string())?;
    debug_assert_eq!(label, "PUBLIC KEY");
    let info = rsa::pkcs8::spki::SubjectPublicKeyInfoRef::from_der(der.as_bytes())
        .map_err(|error| error.to_string())?;
    if info.algorithm.oid != rsa::pkcs1::ALGORITHM_OID {
        return Err(format!("algorithm {}", info.algorithm.oid));
    }
    let bytes = info
        .subject_public_key
        .as_bytes()
        .ok_or("key bits are not whole bytes")?;
    let key = rsa::pkcs1::RsaPublicKey::from_der(bytes).map_err(|error| error.to_string())?;
    let number = |bytes: &[u8]| rsa::BigUint::from_bytes_be(bytes);
    RsaPublicKey::new_with_max_size(
        number(key.modulus.as_bytes()),
        number(key.public_exponent.as_bytes()),
        RSA_MAX_BITS,
    )
    .map_err(|error| error.to_string())
}

/// A private key that signs packages and indexes. Its debug form tells the id only.
#[derive(Clone)]
pub struct SigningKey {
    name: String,
    id: KeyId,
    key: PrivateKey,
}

#[derive(Clone)]
enum PrivateKey {
    Rsa(Box<pkcs1v15::SigningKey<Sha512>>),
    Ec(Box<p256::ecdsa::SigningKey>),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({} {})", self.name, self.id)
    }
}

impl SigningKey {
    fn new(name: &str, key: PrivateKey) -> Result<Self, KeyError> {
        let public = match &key {
            PrivateKey::Rsa(key) => {
                let key: &RsaPrivateKey = key.as_ref().as_ref();
                check_size(name, key.n().bits())?;
                PublicKey::Rsa(key.to_public_key())
            }
            PrivateKey::Ec(key) => PublicKey::Ec(*key.verifying_key()),
        };
        Ok(SigningKey {
            name: name.to_string(),
            id: public.id(name)?,
            key,
        })
    }

    /// Reads a PEM private key without passphrase: RSA (PKCS#8 or PKCS#1) or EC P-256 (PKCS#8 or SEC 1).
    pub fn from_pem(name: &str, pem: &[u8]) -> Result<Self, KeyError> {
        let (text, label) = pem_text(name, pem)?;
        let rsa = |key: RsaPrivateKey| PrivateKey::Rsa(Box::new(pkcs1v15::SigningKey::new(key)));
        let ec = |key: p256::SecretKey| PrivateKey::Ec(Box::new(key.into()));
        let key = match label {
            "RSA PRIVATE KEY" => {
                rsa(RsaPrivateKey::from_pkcs1_pem(text).map_err(|error| format_error(name, error))?)
            }
            "EC PRIVATE KEY" => {
                ec(p256::SecretKey::from_sec1_pem(text).map_err(|error| format_error(name, error))?)
            }
            "PRIVATE KEY" => match RsaPrivateKey::from_pkcs8_pem(text) {
                Ok(key) => rsa(key),
                Err(rsa_problem) => match p256::SecretKey::from_pkcs8_pem(text) {
                    Ok(key) => ec(key),
                    Err(ec_problem) => {
                        let problem = format!("is neither RSA ({rsa_problem}) nor EC P-256 ({ec_problem})");
                        return Err(format_error(name, problem));
                    }
                },
            },
            "ENCRYPTED PRIVATE KEY" => {
                return Err(format_error(
                    name,
                    "is protected by a passphrase, which is not supported",
                ));
            }
            _ => {
                return Err(format_error(
                    name,
                    format_args!("is a \"{label}\", not a private key"),
                ));
            }
        };
        Self::new(name, key)
    }

    /// Makes an RSA key. The caller brings the randomness.
    pub fn generate_rsa<R: rand_core::CryptoRngCore>(
        name: &str,
        bits: usize,
        rng: &mut R,
    ) -> Result<Self, KeyError> {
        check_size(name, bits)?;
        let key =
            RsaPrivateKey::new(rng, bits).map_err(|error| operation(name, "generate an RSA key", error))?;
        Self::new(name, PrivateKey::Rsa(Box::new(pkcs1v15::SigningKey::new(key))))
    }

    /// Makes an EC P-256 key. The caller brings the randomness.
    pub fn generate_ec<R: rand_core::CryptoRngCore>(name: &str, rng: &mut R) -> Result<Self, KeyError> {
        Self::new(
            name,
            PrivateKey::Ec(Box::new(p256::ecdsa::SigningKey::random(rng))),
        )
    }

    /// Name given when it was read or made.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id by which signatures name it.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// The public key as PEM (SubjectPublicKeyInfo), which goes into `etc/apk/keys`.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        let pem = match &self.key {
            PrivateKey::Rsa(key) => {
                let key: &RsaPrivateKey = key.as_ref().as_ref();
                key.to_public_key().to_public_key_pem(LineEnding::LF)
            }
            PrivateKey::Ec(key) => {
                p256::PublicKey::from(key.verifying_key()).to_public_key_pem(LineEnding::LF)
            }
        };
        pem.map_err(|error| operation(&self.name, "write the public key", error))
    }

    /// The private key as PEM (PKCS#8, no passphrase). Write it with mode 0600.
    pub fn private_pem(&self) -> Result<String, KeyError> {
        let pem = match &self.key {
            PrivateKey::Rsa(key) => {
                let key: &RsaPrivateKey = key.as_ref().as_ref();
                key.to_pkcs8_pem(LineEnding::LF)
            }
            PrivateKey::Ec(key) => key.to_pkcs8_pem(LineEnding::LF),
        };
        Ok(pem
            .map_err(|error| operation(&self.name, "write the private key", error))?
            .to_string())
    }

    /// Signs a metadata payload; gives the payload of a signature block. The same input gives the same
    /// bytes, for EC keys as well (RFC 6979).
    pub(crate) fn sign(&self, schema: Schema, payload: &[u8]) -> Result<Vec<u8>, KeyError> {
        let header = [&[0, HASH_SHA512][..], &self.id.0].concat();
        let message = [&schema.word()[..], &header, &Sha512::digest(payload)].concat();
        let signature = match &self.key {
            PrivateKey::Rsa(key) => key
                .try_sign(&message)
                .map_err(|error| operation(&self.name, "sign", error))?
                .to_vec(),
            PrivateKey::Ec(key) => {
                let signature: p256::ecdsa::Signature = key
                    .sign_prehash(&Sha512::digest(&message))
                    .map_err(|error| operation(&self.name, "sign", error))?;
                signature.to_der().as_bytes().to_vec()
            }
        };
        Ok([header, signature].concat())
    }
}

fn operation(name: &str, doing: &'static str, problem: impl fmt::Display) -> KeyError {
    KeyError::Operation {
        doing,
        name: name.into(),
        problem: problem.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::package::tests::Counter;

    #[test]
    fn rsa_keys_round_trip_and_sign() {
        let key = SigningKey::generate_rsa("made", 2048, &mut Counter(3)).unwrap();
        let same = SigningKey::from_pem("made", key.private_pem().unwrap().as_bytes()).unwrap();
        assert_eq!(key.id(), same.id());
        let mut ring = KeyRing::new();
        assert_eq!(
            ring.add_pem("made.pub", key.public_pem().unwrap().as_bytes())
                .unwrap(),
            key.id()
        );
        assert_eq!(ring.len(), 1);
        ring.add_pem("again.pub", key.public_pem().unwrap().as_bytes())
            .unwrap();
        assert_eq!(
            ring.iter().collect::<Vec<_>>(),
            [(key.id(), "made.pub"), (key.id(), "again.pub")]
        );
        let signature = same.sign(Schema::Package, b"payload").unwrap();
        assert_eq!(signature, key.sign(Schema::Package, b"payload").unwrap());
        assert_eq!(
            ring.verify(Schema::Package, b"payload", std::slice::from_ref(&signature)),
            Some("made.pub")
        );
        assert_eq!(
            ring.verify(Schema::Package, b"payloaD", std::slice::from_ref(&signature)),
            None
        );
        assert_eq!(
            ring.verify(Schema::Index, b"payload", std::slice::from_ref(&signature)),
            None
        );
        for at in [0, 1, 2, 17, 18, signature.len() - 1] {
            let mut bad = signature.clone();
            bad[at] ^= 1;
            assert_eq!(
                ring.verify(Schema::Package, b"payload", &[bad]),
                None,
                "byte {at}"
            );
        }
        assert!(!format!("{key:?}").contains("PRIVATE"));
    }

    #[test]
    fn ec_keys_round_trip_and_sign() {
        let key = SigningKey::generate_ec("made", &mut Counter(4)).unwrap();
        let same = SigningKey::from_pem("made", key.private_pem().unwrap().as_bytes()).unwrap();
        let signature = key.sign(Schema::Index, b"payload").unwrap();
        assert_eq!(signature, same.sign(Schema::Index, b"payload").unwrap());
        let mut ring = KeyRing::new();
        ring.add_pem("ec.pub", key.public_pem().unwrap().as_bytes())
            .unwrap();
        assert_eq!(
            ring.verify(Schema::Index, b"payload", std::slice::from_ref(&signature)),
            Some("ec.pub")
        );
        assert_eq!(ring.verify(Schema::Index, b"other", &[signature]), None);
    }

    #[test]
    fn what_is_no_key_says_so() {
        let key = SigningKey::generate_ec("made", &mut Counter(5)).unwrap();
        let private = key.private_pem().unwrap();
        let public = key.public_pem().unwrap();
        for (pem, expected) in [
            (&b""[..], "key k: is not PEM text (no BEGIN line)"),
            (b"\xff\xff", "key k: is not PEM text"),
            (
                private.as_bytes(),
                "key k: is a \"PRIVATE KEY\", not a \"PUBLIC KEY\"",
            ),
            (
                b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                "is neither RSA",
            ),
        ] {
            let error = KeyRing::new().add_pem("k", pem).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        for (pem, expected) in [
            (public.as_bytes(), "is a \"PUBLIC KEY\", not a private key"),
            (
                b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
                "is protected by a passphrase",
            ),
            (
                b"-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----\n",
                "key k: ",
            ),
        ] {
            let error = SigningKey::from_pem("k", pem).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn small_rsa_keys_are_refused() {
        let error = SigningKey::generate_rsa("small", 1024, &mut Counter(6)).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("an RSA key of 1024 bits; 2048 to 16384"),
            "{error}"
        );
        let key = RsaPrivateKey::new(&mut Counter(6), 1024).unwrap();
        let pem = key.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
        let error = KeyRing::new().add_pem("small.pub", pem.as_bytes()).unwrap_err();
        assert!(error.to_string().contains("an RSA key of 1024 bits"), "{error}");
    }
}
