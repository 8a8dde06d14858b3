//! A file on its way into the store, which later attempts and later runs carry on with.

use std::fs::{File, OpenOptions};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result, io};
use crate::manifest::hex;
use crate::store::write_whole;

/// How names of unfinished downloads end.
pub const PART: &str = ".part";
/// How names of files with a validator end.
const FROM: &str = ".from";
/// Longest text of a validator that is kept: one of 1024 bytes, and the hash of what it is of.
const VALIDATOR_MAX: usize = 1024 + 65;
/// Between two looks at what another run does.
const LOOK: Duration = Duration::from_millis(50);

/// What came of asking for a file.
pub enum Held {
    /// Another run finished it.
    Done,
    /// It is this run's to fetch.
    Ours(Partial),
}

/// The part of a file that is there, locked against other runs.
pub struct Partial {
    file: File,
    path: PathBuf,
    to: PathBuf,
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

impl Partial {
    /// Takes the file that is to be named `to`. Another run that is at it is waited for as long as it gets on;
    /// one that has not for `limit` is an error.
    pub fn take(to: &Path, limit: Duration) -> Result<Held> {
        let path = beside(to, PART);
        let doing = || format!("opening {}", path.display());
        let mut seen = (0, Instant::now());
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let file = io(options.open(&path), doing)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    let length = io(file.metadata(), doing)?.len();
                    if length != seen.0 {
                        seen = (length, Instant::now());
                    }
                    if seen.1.elapsed() > limit {
                        return Err(Error::new(
                            Kind::Host,
                            format!(
                                "another run holds {} and has not got on for {} s",
                                path.display(),
                                limit.as_secs()
                            ),
                        )
                        .hint("end that run, or give another store with --cache"));
                    }
                    std::thread::sleep(LOOK);
                    continue;
                }
                // Where nothing can be locked, whoever comes last wins; what is named is checked all the same.
                Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS) => {}
                Err(error) => return io(Err(error.into()), doing),
            }
            if to.exists() {
                // Whoever finished it renamed the file that this one waited for; a fresh empty one goes.
                if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
                    let _ = std::fs::remove_file(&path);
                }
                return Ok(Held::Done);
            }
            // The name may lead to another file than when it was opened.
            let ours = io(file.metadata(), doing)?;
            let named = path.metadata();
            if !named.is_ok_and(|named| (named.dev(), named.ino()) == (ours.dev(), ours.ino())) {
                continue;
            }
            return Ok(Held::Ours(Partial {
                file,
                path,
                to: to.to_owned(),
            }));
        }
    }

    /// Bytes that are there.
    pub fn length(&self) -> Result<u64> {
        let metadata = io(self.file.metadata(), || {
            format!("reading {}", self.path.display())
        })?;
        Ok(metadata.len())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Throws away what is there.
    pub fn restart(&mut self) -> Result<()> {
        self.set_validator(None)?;
        io(self.file.set_len(0), || {
            format!("emptying {}", self.path.display())
        })
    }

    /// By what the server knows again what the part is of.
    pub fn validator(&self) -> Option<String> {
        read_validator(&self.path)
    }

    /// Sets what [`Partial::validator`] gives.
    pub fn set_validator(&mut self, validator: Option<&str>) -> Result<()> {
        write_validator(&self.path, validator)
    }

    /// Gives it its name.
    pub fn finish(self) -> Result<()> {
        let doing = || format!("naming {}", self.to.display());
        io(self.file.sync_all(), doing)?;
        write_validator(&self.path, None)?;
        io(std::fs::rename(&self.path, &self.to), doing)
    }
}

/// The validator that is kept beside `path`.
pub fn read_validator(path: &Path) -> Option<String> {
    let text = std::fs::read_to_string(beside(path, FROM)).ok()?;
    let sound =
        !text.is_empty() && text.len() <= VALIDATOR_MAX && !text.contains(|letter: char| letter.is_control());
    sound.then_some(text)
}

/// Keeps a validator beside `path`, or takes it away.
pub fn write_validator(path: &Path, validator: Option<&str>) -> Result<()> {
    let file = beside(path, FROM);
    match validator {
        Some(text) => write_whole(&file, text.as_bytes()),
        None => match std::fs::remove_file(&file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                io(Err(error), || format!("removing {}", file.display()))
            }
            _ => Ok(()),
        },
    }
}

/// What is kept at `path`, with its validator; nothing where it has none. The validator says which bytes it is of, since
/// runs at the same time write the two files in any order: one beside the bytes of another would have them taken for
/// current as long as the server's do not change.
pub fn read_kept(path: &Path, most: u64) -> Option<(Vec<u8>, String)> {
    let said = read_validator(path)?;
    let (digest, validator) = said.split_once(' ')?;
    let mut bytes = Vec::new();
    let file = File::open(path).ok()?;
    file.take(most).read_to_end(&mut bytes).ok()?;
    (name_of(&bytes) == digest).then(|| (bytes, validator.to_owned()))
}

/// Keeps `bytes` at `path` with a validator, for [`read_kept`].
pub fn keep(path: &Path, bytes: &[u8], validator: Option<&str>) -> Result<()> {
    write_whole(path, bytes)?;
    let said = validator.map(|validator| format!("{} {validator}", name_of(bytes)));
    write_validator(path, said.as_deref())
}

/// The name under which what a URL leads to is kept.
pub fn name_of_url(url: &str) -> String {
    name_of(url.as_bytes())
}

fn name_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}
