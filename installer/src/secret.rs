//! Passwords: where they come from, and their hashes. Nothing here can be shown or logged by accident.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// Longest password that is read, in bytes.
const PASSWORD_MAX: u64 = 1024;
/// Rounds that sha512crypt has when none are written (Drepper, "Unix crypt using SHA-256 and SHA-512").
const ROUNDS: usize = 5000;

/// Kinds of hashes, and how many characters each has behind its salt: 64 and 32 bytes in base 64.
const LENGTHS: [(&str, usize); 2] = [("$6$", 86), ("$5$", 43)];
/// Rounds that every `crypt` takes: musl's has fewer at most than the 999,999,999 of the specification.
const ROUNDS_TAKEN: std::ops::RangeInclusive<u32> = 1000..=9_999_999;
/// Longest salt; what is behind would not count.
const SALT_MAX: usize = 16;

/// A password field of `/etc/shadow`.
#[derive(Clone, PartialEq, Eq)]
pub struct Hash(String);

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(not shown)")
    }
}

/// Why there is no hash. Never contains what was read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The hash has a form that the C library does not check, or a weak one.
    #[error(
        "this is no hash of a kind that every installed system checks ($6$, $5$); make one with `openssl passwd -6`"
    )]
    Form,
    /// The file cannot be read.
    #[error("reading the password from {from}: {source}")]
    Read {
        /// The file or descriptor.
        from: String,
        /// Why.
        source: io::Error,
    },
    /// There is nothing in it.
    #[error("the password from {0} is empty, or longer than 1024 bytes, or not text")]
    Content(String),
    /// Everybody may read the file.
    #[error("everybody may read {}: `chmod 600` it first", .0.display())]
    Exposed(PathBuf),
    /// There is no entropy.
    #[error("drawing a salt: {0}")]
    Salt(io::Error),
}

impl Hash {
    /// A hash in the form of `/etc/shadow`: `$6$` or `$5$`. Older forms are refused as weak, and `$y$` and `$2b$` because not every `login` checks
    /// them: busybox has functions of its own, and musl has no yescrypt.
    ///
    /// # Errors
    /// When it is not of those forms.
    pub fn parse(text: &str) -> Result<Hash, SecretError> {
        whole(text)
            .map(|()| Hash(text.to_owned()))
            .ok_or(SecretError::Form)
    }

    /// Hashes a password with sha512crypt and `salt`.
    #[must_use]
    pub fn with_salt(password: &str, salt: &[u8; 12]) -> Hash {
        const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        let salt: String = salt
            .iter()
            .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
            .collect();
        // The default number of rounds is always accepted.
        let hash = match sha_crypt::Sha512Params::new(ROUNDS) {
            Ok(params) => sha_crypt::sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &params),
            Err(_) => unreachable!("5000 rounds are within the limits"),
        };
        Hash(format!("$6${salt}${}", hash.unwrap_or_default()))
    }

    /// Hashes a password with sha512crypt and a salt that the kernel draws.
    ///
    /// # Errors
    /// When the kernel has no entropy.
    pub fn of(password: &str) -> Result<Hash, SecretError> {
        let mut salt = [0; 12];
        random(&mut salt).map_err(SecretError::Salt)?;
        Ok(Hash::with_salt(password, &salt))
    }

    /// The field itself, for the shadow file and nothing else.
    #[must_use]
    pub fn field(&self) -> &str {
        &self.0
    }
}

/// Whether a text is all of a hash: `$KIND$SALT$HASH`, or `$KIND$rounds=NUMBER$SALT$HASH`.
fn whole(text: &str) -> Option<()> {
    let (kind, length) = LENGTHS.iter().find(|(kind, _)| text.starts_with(kind))?;
    let rest = text.strip_prefix(kind)?;
    let rest = match rest.strip_prefix("rounds=") {
        Some(rest) => {
            let (rounds, rest) = rest.split_once('$')?;
            let plain = !rounds.starts_with('0') && rounds.bytes().all(|byte| byte.is_ascii_digit());
            if !plain || !ROUNDS_TAKEN.contains(&rounds.parse().ok()?) {
                return None;
            }
            rest
        }
        None => rest,
    };
    let (salt, hash) = rest.split_once('$')?;
    // What would end the field of the file, lock the account, or is refused by libxcrypt.
    let salted = (1..=SALT_MAX).contains(&salt.len())
        && salt
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b":;*!\\".contains(&byte));
    let hashed = hash.len() == *length
        && hash
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"./".contains(&byte));
    (salted && hashed).then_some(())
}

/// Random bytes of the kernel.
///
/// # Errors
/// When it has none.
pub fn random(bytes: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while filled < bytes.len() {
        filled += rustix::rand::getrandom(&mut bytes[filled..], rustix::rand::GetRandomFlags::empty())?;
    }
    Ok(())
}

/// Reads a password or its hash from the first line of a file that only its owner may read.
///
/// # Errors
/// When the file is open to everybody, empty or not readable.
pub fn from_file(path: &Path) -> Result<Hash, SecretError> {
    hashed(&line_of_file(path)?)
}

/// Reads the first line of a file that only its owner may read.
///
/// # Errors
/// As [`from_file`].
pub fn line_of_file(path: &Path) -> Result<Zeroizing<String>, SecretError> {
    use std::os::unix::fs::PermissionsExt as _;
    let failed = |source| SecretError::Read {
        from: path.display().to_string(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.permissions().mode() & 0o004 != 0 {
        return Err(SecretError::Exposed(path.to_owned()));
    }
    read(file, &path.display().to_string())
}

/// Reads a password or its hash from an open descriptor, which is closed.
///
/// # Errors
/// When it is not open for reading or gives nothing.
pub fn from_descriptor(number: i32) -> Result<Hash, SecretError> {
    hashed(&line_of_descriptor(number)?)
}

/// Reads the first line of an open descriptor, which is closed.
///
/// # Errors
/// As [`from_descriptor`].
pub fn line_of_descriptor(number: i32) -> Result<Zeroizing<String>, SecretError> {
    let from = format!("file descriptor {number}");
    // Duplicated, so that a number that is not open, or that this program uses itself, is an error or harmless.
    let path = format!("/proc/self/fd/{number}");
    if number < 3 || !Path::new(&path).exists() {
        return Err(SecretError::Read {
            from,
            source: io::Error::new(
                io::ErrorKind::NotFound,
                "it is not open, or one of the first three",
            ),
        });
    }
    // SAFETY: the descriptor is open (just checked), above the standard ones, and was opened for this purpose by whoever started
    // the program and named it in the answers; nothing else in the program owns it, for answers are read before anything is opened.
    let owned = unsafe { OwnedFd::from_raw_fd(number) };
    read(File::from(owned), &from)
}

fn read(file: File, from: &str) -> Result<Zeroizing<String>, SecretError> {
    // As large as it gets: nothing is left behind where it would have been moved from.
    let mut bytes = Zeroizing::new(Vec::with_capacity(PASSWORD_MAX as usize + 1));
    file.take(PASSWORD_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|source| SecretError::Read {
            from: from.to_owned(),
            source,
        })?;
    let content = || SecretError::Content(from.to_owned());
    if bytes.len() as u64 > PASSWORD_MAX {
        return Err(content());
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| content())?;
    let line = text.lines().next().unwrap_or_default();
    if line.is_empty() {
        return Err(content());
    }
    Ok(Zeroizing::new(line.to_owned()))
}

/// A password or its hash as a hash. What begins as a hash and is none was cut off or mistyped: nobody wants it for a password.
fn hashed(line: &str) -> Result<Hash, SecretError> {
    match Hash::parse(line) {
        Err(_) if !LENGTHS.iter().any(|(kind, _)| line.starts_with(kind)) => Hash::of(line),
        parsed => parsed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn hashes_agree_with_openssl() {
        let hash = Hash::with_salt("Hello world!", &[1; 12]);
        let salt: String = hash.field()[3..15].to_owned();
        let output = std::process::Command::new("openssl")
            .args(["passwd", "-6", "-salt", &salt, "Hello world!"])
            .output()
            .expect("openssl is missing: install the Debian package openssl");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), hash.field());
        assert_ne!(Hash::of("a").unwrap(), Hash::of("a").unwrap());
    }

    #[test]
    fn forms() {
        let (six, five) = ("x".repeat(86), "./9".repeat(14) + "Z");
        let with = |start: &str, hash: &str| format!("{start}{hash}");
        for good in [
            with("$6$salt$", &six),
            with("$6$rounds=9999$salt$", &six),
            with("$6$sixteen.letters.$", &six),
            with("$5$s$", &five),
        ] {
            assert!(Hash::parse(&good).is_ok(), "{good}");
        }
        for bad in [
            // Cut off, or of the other kind.
            with("$6$abc$", ""),
            with("$6$rounds=5000$", "salt"),
            with("$6$rounds=5000$salt", ""),
            with("$6$salt$", &six[1..]),
            with("$6$salt$x", &six),
            with("$6$salt$", &five),
            with("$5$salt$", &six),
            with("$6$salt$:", &six[1..]),
            with("$6$salt$$", &six[1..]),
            // Salts and rounds that no or not every `crypt` takes.
            with("$6$$", &six),
            with("$6$seventeen.letters$", &six),
            with("$6$a:b$", &six),
            with("$6$rounds=999$salt$", &six),
            with("$6$rounds=10000000$salt$", &six),
            with("$6$rounds=05000$salt$", &six),
            with("$6$rounds=$salt$", &six),
            with("$6$rounds=+5000$salt$", &six),
            // More behind it, or before it.
            with("$6$salt$", &(six.clone() + "\n")),
            with("!$6$salt$", &six),
        ] {
            assert!(Hash::parse(&bad).is_err(), "{bad}");
        }
        for bad in [
            "",
            "password",
            "$1$salt$hash",
            "$y$j9T$salt$hash",
            "$2b$10$saltandhash",
            "$6$salt",
            "$6$a$b:c",
            "!$6$a$b",
            "$6$a$b\n",
        ] {
            assert!(Hash::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(
            format!("{:?}", Hash::parse(&with("$6$salt$", &six)).unwrap()),
            "(not shown)"
        );
    }

    #[test]
    fn files() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("p");
        let hash = format!("$6$salt${}", "x".repeat(86));
        std::fs::write(&path, format!("{hash}\nmore\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(from_file(&path), Err(SecretError::Exposed(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(from_file(&path).unwrap().field(), hash);
        // Cut off on its way: no password.
        std::fs::write(&path, &hash[..90]).unwrap();
        assert!(matches!(from_file(&path), Err(SecretError::Form)));
        std::fs::write(&path, "clear\n").unwrap();
        assert!(from_file(&path).unwrap().field().starts_with("$6$"));
        for bad in [&b""[..], b"\n", &[b'x'; 2000], b"\xff\xff"] {
            std::fs::write(&path, bad).unwrap();
            assert!(matches!(from_file(&path), Err(SecretError::Content(_))));
        }
        assert!(matches!(from_descriptor(700), Err(SecretError::Read { .. })));
        assert!(matches!(from_descriptor(1), Err(SecretError::Read { .. })));
    }
}
