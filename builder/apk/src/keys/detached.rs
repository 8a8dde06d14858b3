//! Signatures of files that lie beside them, as `openssl dgst -sha512` makes and verifies them: PKCS #1 v1.5 of RSA keys, DER of
//! EC keys.

use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use sha2::{Digest as _, Sha512};

use super::{KeyError, KeyRing, PrivateKey, SigningKey, operation};

impl SigningKey {
    /// Signs the bytes of a file. The same input gives the same signature, for EC keys as well (RFC 6979).
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn sign_detached(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        let failed = |error: &dyn std::fmt::Display| operation(&self.name, "sign", error);
        match &self.key {
            PrivateKey::Rsa(key) => Ok(key.try_sign(message).map_err(|error| failed(&error))?.to_vec()),
            PrivateKey::Ec(key) => {
                let signature: p256::ecdsa::Signature = key
                    .sign_prehash(&Sha512::digest(message))
                    .map_err(|error| failed(&error))?;
                Ok(signature.to_der().as_bytes().to_vec())
            }
        }
    }
}

impl KeyRing {
    /// The name of the first key that made this signature of these bytes.
    pub fn verify_detached(&self, message: &[u8], signature: &[u8]) -> Option<&str> {
        let mut keys = self.keys.iter();
        keys.find(|(_, _, key)| key.verify(message, signature))
            .map(|(_, name, _)| name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::rand_core;

    #[test]
    fn a_signature_holds_for_its_bytes_and_key_alone() {
        let mut ring = KeyRing::new();
        let mut random = rand_core::OsRng;
        let key = SigningKey::generate_ec("mine", &mut random).unwrap();
        ring.add_pem("mine.pub", key.public_pem().unwrap().as_bytes())
            .unwrap();
        let signature = key.sign_detached(b"sums").unwrap();
        assert_eq!(signature, key.sign_detached(b"sums").unwrap());
        assert_eq!(ring.verify_detached(b"sums", &signature), Some("mine.pub"));
        assert_eq!(ring.verify_detached(b"sum", &signature), None);
        assert_eq!(ring.verify_detached(b"sums", &signature[1..]), None);
        let other = SigningKey::generate_ec("other", &mut random).unwrap();
        let signature = other.sign_detached(b"sums").unwrap();
        assert_eq!(ring.verify_detached(b"sums", &signature), None);
    }
}
