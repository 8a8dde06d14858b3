//! Bringing files of repositories onto this machine.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Kind, Result, io};
use crate::progress::Bar;
use crate::store::Aside;

/// Largest index read, in bytes.
const INDEX_MAX: u64 = 256 << 20;
/// Times that a request is tried before it is given up.
const TRIES: u32 = 3;

/// A client for repositories over HTTP. It obeys the usual proxy variables; every wait has a limit.
pub struct Client {
    agent: ureq::Agent,
}

impl Default for Client {
    fn default() -> Client {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(20)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            // Of a whole body; a connection that stalls ends here at the latest.
            .timeout_recv_body(Some(Duration::from_secs(1800)))
            .user_agent(concat!("lycia/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { agent: config.into() }
    }
}

impl Client {
    /// The bytes of a file that is not large.
    ///
    /// # Errors
    /// When the server cannot be reached or does not have it.
    pub fn bytes(&self, url: &str) -> Result<Vec<u8>> {
        self.patiently(url, || {
            let mut response = self.agent.get(url).call()?;
            response.body_mut().with_config().limit(INDEX_MAX).read_to_vec()
        })
    }

    /// Copies a file to `path`, which has its name only when all of it is there. `size` is what the
    /// index says, and more is not read.
    ///
    /// # Errors
    /// When the server cannot be reached or does not have it, or the disk is full.
    pub fn download(&self, url: &str, path: &Path, size: u64, bar: &Bar) -> Result<()> {
        self.patiently(url, || {
            let mut response = self.agent.get(url).call()?;
            let mut aside =
                Aside::new(path).map_err(|error| ureq::Error::Io(std::io::Error::other(error)))?;
            // One byte more than announced shows a file that is too long.
            let mut body = response.body_mut().as_reader().take(size.saturating_add(1));
            let mut buffer = vec![0; 1 << 16];
            let mut copied = 0;
            loop {
                let count = body.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                aside.file().write_all(&buffer[..count])?;
                copied += count as u64;
                bar.advance(count as u64);
            }
            if copied != size {
                let said = format!("the index says {size} bytes, the server sent {copied} or more");
                return Err(ureq::Error::Io(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    said,
                )));
            }
            aside
                .finish()
                .map_err(|error| ureq::Error::Io(std::io::Error::other(error)))
        })
    }

    fn patiently<T>(&self, url: &str, mut request: impl FnMut() -> Result<T, ureq::Error>) -> Result<T> {
        let mut wait = Duration::from_millis(500);
        for attempt in 1.. {
            let error = match request() {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let passing = match &error {
                ureq::Error::StatusCode(code) => *code == 429 || *code >= 500,
                ureq::Error::BadUri(_) => false,
                _ => true,
            };
            if !passing || attempt >= TRIES {
                let missing = matches!(error, ureq::Error::StatusCode(404));
                let kind = if missing { Kind::Input } else { Kind::Host };
                let hint = if missing {
                    "is the location right, and has the repository this architecture?"
                } else {
                    "is the network there? A repository on disk can be named by its path"
                };
                return Err(Error::new(kind, error)
                    .context(format!("fetching {url}"))
                    .hint(hint));
            }
            std::thread::sleep(wait);
            wait *= 2;
        }
        unreachable!("the loop ends by returning")
    }
}

/// The bytes of a local index.
///
/// # Errors
/// When it cannot be read or is too large to be one.
pub fn local_index(path: &Path) -> Result<Vec<u8>> {
    let doing = || format!("reading {}", path.display());
    let file = io(std::fs::File::open(path), doing)?;
    let mut bytes = Vec::new();
    io(file.take(INDEX_MAX + 1).read_to_end(&mut bytes), doing)?;
    if bytes.len() as u64 > INDEX_MAX {
        return Err(Error::new(
            Kind::Input,
            format!("{} is larger than {INDEX_MAX} bytes", path.display()),
        ));
    }
    Ok(bytes)
}
