//! Files of HTTP and HTTPS servers, with limits on every wait and every size.
//!
//! A transfer that breaks off is taken up where it broke (RFC 9110 section 14, `Range`), if the server still has the same file
//! (`If-Range`); otherwise it begins again.

use std::io::Read as _;
use std::time::Duration;

/// Times that a server is asked without giving a byte more.
const TRIES: u32 = 3;
/// Times that a server is asked for one file at all.
const TRIES_MAX: u32 = 30;
/// Bytes read at a time.
const CHUNK: usize = 256 << 10;

/// A client with limits on every wait.
fn agent() -> ureq::Agent {
    ureq::Agent::config_builder()
        .timeout_connect(Some(Duration::from_secs(20)))
        .timeout_recv_response(Some(Duration::from_secs(60)))
        .timeout_recv_body(Some(Duration::from_secs(1800)))
        .user_agent(concat!("lycia-install/", env!("CARGO_PKG_VERSION")))
        .build()
        .into()
}

/// What came of asking once.
enum Once {
    /// Everything is there.
    Whole,
    /// It may go better the next time.
    Again(String),
    /// It will not.
    Never(String),
}

/// A file while it comes.
#[derive(Default)]
struct Coming {
    bytes: Vec<u8>,
    /// By what the server knows the file: a strong entity tag, or the time of its last change.
    known_by: Option<String>,
}

impl Coming {
    fn ask(&mut self, agent: &ureq::Agent, url: &str, limit: u64) -> Once {
        let mut request = agent.get(url).header("accept-encoding", "identity");
        if let (false, Some(known_by)) = (self.bytes.is_empty(), &self.known_by) {
            request = request
                .header("range", format!("bytes={}-", self.bytes.len()))
                .header("if-range", known_by.as_str());
        }
        let mut response = match request.call() {
            Ok(response) => response,
            Err(ureq::Error::StatusCode(code)) => {
                let why = format!("the server answers {code}");
                return if code == 429 || code >= 500 {
                    Once::Again(why)
                } else {
                    Once::Never(why)
                };
            }
            Err(error @ (ureq::Error::BadUri(_) | ureq::Error::Tls(_))) => {
                return Once::Never(error.to_string());
            }
            Err(error) => return Once::Again(error.to_string()),
        };
        let field = |name: &str| {
            let value = response.headers().get(name)?;
            value.to_str().ok().map(str::to_owned)
        };
        let continues = format!("bytes {}-", self.bytes.len());
        let goes_on = response.status() == 206
            && field("content-range").is_some_and(|range| range.starts_with(&continues));
        if !goes_on {
            self.bytes.clear();
        }
        let length: Option<u64> = field("content-length").and_then(|text| text.parse().ok());
        self.known_by = field("etag")
            .filter(|tag| !tag.starts_with("W/"))
            .or_else(|| field("last-modified"));
        let whole = length.map(|length| self.bytes.len() as u64 + length);
        if whole.is_some_and(|whole| whole > limit) {
            return Once::Never(format!("it is larger than {limit} bytes"));
        }
        let mut body = response.body_mut().as_reader();
        let mut chunk = vec![0; CHUNK];
        loop {
            match body.read(&mut chunk) {
                Ok(0) => break,
                Ok(count) if self.bytes.len() as u64 + count as u64 > limit => {
                    return Once::Never(format!("it is larger than {limit} bytes"));
                }
                Ok(count) => self.bytes.extend_from_slice(&chunk[..count]),
                Err(error) => return Once::Again(error.to_string()),
            }
        }
        match whole {
            Some(whole) if whole != self.bytes.len() as u64 => Once::Again(format!(
                "it broke off after {} of {whole} bytes",
                self.bytes.len()
            )),
            _ => Once::Whole,
        }
    }
}

/// Fetches a file of at most `limit` bytes.
///
/// # Errors
/// In words, without the address.
pub fn get(url: &str, limit: u64) -> Result<Vec<u8>, String> {
    let agent = agent();
    let mut coming = Coming::default();
    let (mut without_progress, mut wait) = (0, Duration::from_millis(200));
    for _ in 0..TRIES_MAX {
        let before = coming.bytes.len();
        match coming.ask(&agent, url, limit) {
            Once::Whole => return Ok(coming.bytes),
            Once::Never(why) => return Err(why),
            Once::Again(why) => {
                without_progress = if coming.bytes.len() > before {
                    wait = Duration::from_millis(200);
                    0
                } else {
                    without_progress + 1
                };
                if without_progress >= TRIES {
                    return Err(why);
                }
                std::thread::sleep(wait);
                wait *= 2;
            }
        }
    }
    Err(format!("it broke off {TRIES_MAX} times"))
}
