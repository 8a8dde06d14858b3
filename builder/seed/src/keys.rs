//! The key that signs the seed repository of this store.
//!
//! Made once, by the operating system's randomness: a key that everybody has would let anybody sign. The
//! signatures themselves are deterministic (RSASSA-PKCS1-v1_5, RFC 8017 section 8.2).

use crate::error::{IoContext, Result, SeedError};
use crate::store::{Lock, Store, make_dir, write_file};
use lycia_apk::keys::rand_core::OsRng;
use lycia_apk::keys::{KeyRing, SigningKey};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Bits of the modulus.
const BITS: usize = 4096;

/// Start of the names of key files.
const PREFIX: &str = "lycia-seed-";

/// A signing key with the file of its public half.
pub(crate) struct Key {
    signing: SigningKey,
    public: PathBuf,
}

impl Key {
    /// The key of a store, made when there is none.
    pub(crate) fn of_store(store: &Store) -> Result<Key> {
        Self::of_dir(&store.keys(), BITS)
    }

    /// The key of a store, if it has one.
    pub(crate) fn existing(store: &Store) -> Result<Option<Key>> {
        Self::find(&store.keys())
    }

    pub(crate) fn of_dir(dir: &Path, bits: usize) -> Result<Key> {
        if let Some(key) = Self::find(dir)? {
            return Ok(key);
        }
        make_dir(dir)?;
        fs::set_permissions(dir, fs::Permissions::from_mode(0o700)).at("changing the mode of", dir)?;
        let _lock = Lock::take(&dir.join("lock"))?;
        if let Some(key) = Self::find(dir)? {
            return Ok(key);
        }
        let fault = |path: &Path, why: String| SeedError::Key {
            path: path.to_owned(),
            why,
        };
        let made =
            SigningKey::generate_rsa(PREFIX, bits, &mut OsRng).map_err(|e| fault(dir, e.to_string()))?;
        let id = made.id().to_string();
        let name = format!("{PREFIX}{}.rsa", &id[..8.min(id.len())]);
        let (private, public) = (dir.join(&name), dir.join(format!("{name}.pub")));
        let text =
            |pem: Result<String, lycia_apk::keys::KeyError>| pem.map_err(|e| fault(&private, e.to_string()));
        // The private half last: with it the key exists.
        write_file(&public, text(made.public_pem())?.as_bytes(), 0o644)?;
        write_file(&private, text(made.private_pem())?.as_bytes(), 0o600)?;
        Self::find(dir)?.ok_or_else(|| fault(&private, "it was written and cannot be found".into()))
    }

    fn find(dir: &Path) -> Result<Option<Key>> {
        let names = match fs::read_dir(dir) {
            Ok(names) => names,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).at("reading the directory", dir),
        };
        let mut files = Vec::new();
        for entry in names {
            let path = entry.at("reading the directory", dir)?.path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if name.starts_with(PREFIX) && name.ends_with(".rsa") {
                files.push((path, name));
            }
        }
        files.sort();
        let Some((path, name)) = files.into_iter().next() else {
            return Ok(None);
        };
        let fault = |why: String| SeedError::Key {
            path: path.clone(),
            why,
        };
        let mode = fs::metadata(&path).at("looking at", &path)?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(fault(format!(
                "others may read it (mode {:o}); run chmod 600 on it",
                mode & 0o777
            )));
        }
        let pem = fs::read(&path).at("reading", &path)?;
        let public = path.with_file_name(format!("{name}.pub"));
        let signing = SigningKey::from_pem(&format!("{name}.pub"), &pem).map_err(|e| fault(e.to_string()))?;
        if !public.exists() {
            let text = signing.public_pem().map_err(|e| fault(e.to_string()))?;
            write_file(&public, text.as_bytes(), 0o644)?;
        }
        Ok(Some(Key { signing, public }))
    }

    /// What tells this key from others.
    pub(crate) fn fingerprint(&self) -> String {
        self.signing.id().to_string()
    }

    pub(crate) fn signing(&self) -> &SigningKey {
        &self.signing
    }

    /// The file of the public half.
    pub(crate) fn public_path(&self) -> PathBuf {
        self.public.clone()
    }

    /// A ring that trusts this key only.
    pub(crate) fn ring(&self) -> Result<KeyRing> {
        let fault = |why: String| SeedError::Key {
            path: self.public.clone(),
            why,
        };
        let mut ring = KeyRing::new();
        let pem = self.signing.public_pem().map_err(|e| fault(e.to_string()))?;
        ring.add_pem(self.signing.name(), pem.as_bytes())
            .map_err(|e| fault(e.to_string()))?;
        Ok(ring)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::sync::OnceLock;

    /// A small key, made once per test program, put into a directory.
    pub(crate) fn small_key(dir: &Path) -> Key {
        static MADE: OnceLock<tempfile::TempDir> = OnceLock::new();
        let made = MADE.get_or_init(|| {
            let dir = tempfile::tempdir().unwrap();
            Key::of_dir(dir.path(), 2048).unwrap();
            dir
        });
        fs::create_dir_all(dir).unwrap();
        for entry in fs::read_dir(made.path()).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, dir.join(path.file_name().unwrap())).unwrap();
        }
        Key::of_dir(dir, 2048).unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_kept_secret() {
        let dir = tempfile::tempdir().unwrap();
        let key = small_key(dir.path());
        let again = Key::of_dir(dir.path(), 2048).unwrap();
        assert_eq!(key.fingerprint(), again.fingerprint());
        let name = key
            .public_path()
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        assert!(
            name.starts_with(&format!("lycia-seed-{}", &key.fingerprint()[..8])),
            "{name}"
        );
        let private = dir.path().join(name.trim_end_matches(".pub"));
        assert_eq!(
            fs::metadata(&private).unwrap().permissions().mode() & 0o777,
            0o600
        );
        fs::set_permissions(&private, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(
            Key::of_dir(dir.path(), 2048).is_err(),
            "a key that others can read is refused"
        );
    }
}
