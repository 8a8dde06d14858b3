//! Bringing files of repositories onto this machine.
//!
//! A repository has mirrors, which hold the same files. A file is asked of the mirror that answered last;
//! where one fails the next is asked, and when all have failed for reasons that may pass, they are asked
//! again after a while. What came of a file stays in the store under `NAME.part`, and the next attempt, of this
//! run or a later one, asks for the rest only (RFC 9110, sections 13.1.5 and 14). A file has its name only
//! when its length and its content are right.

mod forward;
mod location;
mod pace;
mod partial;
mod proxy;
#[cfg(test)]
mod tests;

use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ureq::http::{HeaderName, Response, StatusCode, header};
use ureq::{Body, ProxyProtocol};

use crate::error::{Error, Kind, Result, io};
use crate::progress::Bar;
use crate::store::Store;
use pace::Paced;
pub use partial::PART;
use partial::{Held, Partial};
pub use proxy::Proxies;

/// Largest index read, in bytes.
pub const INDEX_MAX: u64 = 256 << 20;
/// The folder of the store with the indexes that were read last.
pub const INDEXES: &str = "indexes";
/// Redirects that are followed.
const REDIRECTS_MAX: usize = 10;
/// What to do about a package that is not what the index says.
const WRONG_PACKAGE: &str = "the mirror is out of step with its index or damaged: name another in `mirrors`, or wait until \
     it is in step";
/// What to do about an index that is none, or of somebody else.
const WRONG_INDEX: &str = "is the key of its maker among the `keys` of the repository? Where it is, the mirror is damaged: name another in \
     `mirrors`";
/// Longest wait that a server may ask for with `Retry-After`.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);

/// How long is waited for what, and how often something is tried.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a name to be resolved and a connection to be made.
    pub connect: Duration,
    /// From the request to the head of the response.
    pub first_byte: Duration,
    /// For more of a body.
    pub stall: Duration,
    /// Bytes that have to come in each [`Patience::stall`] of a body.
    pub least: u64,
    /// Rounds over all mirrors without any progress before a file is given up.
    pub rounds: u32,
    /// Between the first two rounds; each further wait is twice as long.
    pub first_wait: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            connect: Duration::from_secs(20),
            first_byte: Duration::from_secs(60),
            stall: Duration::from_secs(60),
            // 1 KiB a second, less than any modem.
            least: 60 << 10,
            rounds: 4,
            first_wait: Duration::from_secs(1),
        }
    }
}

/// The places that hold the same repository, in the order of preference.
#[derive(Debug)]
pub struct Mirrors {
    urls: Vec<String>,
    /// The one that answered last.
    current: AtomicUsize,
}

impl Mirrors {
    /// Of base URLs.
    pub fn new(urls: Vec<String>) -> Mirrors {
        Mirrors {
            urls,
            current: AtomicUsize::new(0),
        }
    }

    /// The base URL of the one that answered last.
    pub fn current(&self) -> &str {
        let at = self.current.load(Ordering::Relaxed);
        self.urls.get(at).map_or("", String::as_str)
    }

    /// All of them, the one that answered last first.
    fn in_order(&self) -> impl Iterator<Item = (usize, &str)> {
        let first = self.current.load(Ordering::Relaxed);
        let count = self.urls.len();
        (0..count).map(move |step| {
            let at = (first + step) % count;
            (at, self.urls[at].as_str())
        })
    }
}

/// What is known of a file before it is fetched.
pub struct Expected<'a> {
    /// Bytes.
    pub size: u64,
    /// Says what is wrong with the whole file, if anything is.
    pub check: &'a (dyn Fn(&Path) -> std::result::Result<(), String> + Sync),
}

/// A client for repositories over HTTP. It obeys the usual proxy variables; every wait has a limit.
pub struct Client {
    proxies: Proxies,
    patience: Patience,
    offline: bool,
    direct: ureq::Agent,
    proxied: Vec<(String, Proxied)>,
}

/// How requests go to one proxy.
struct Proxied {
    /// Requests for http URLs.
    http: Option<ureq::Agent>,
    /// Requests for https URLs, in a tunnel; none where the proxy is one that this program cannot use.
    tunnel: Option<ureq::Agent>,
}

/// Why a mirror did not give a file.
enum Failure {
    /// It may be otherwise later; at least so long.
    Passing(String, Duration),
    /// It has no such file.
    Missing,
    /// What it has is not what the index says.
    Wrong(String),
    /// It will not answer better.
    Refused(String),
    /// This machine's fault.
    Here(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure::Here(error)
    }
}

impl Client {
    /// A client; `offline` ones never touch the network.
    ///
    /// # Errors
    /// When a proxy variable holds no URL.
    pub fn new(proxies: Proxies, patience: Patience, offline: bool) -> Result<Client> {
        let config = |proxy: Option<ureq::Proxy>| {
            ureq::Agent::config_builder()
                .timeout_connect(Some(patience.connect))
                .timeout_resolve(Some(patience.connect))
                .timeout_recv_response(Some(patience.first_byte))
                .timeout_per_read(Some(patience.stall))
                .timeout_per_write(Some(patience.stall))
                .http_status_as_error(false)
                // Each place that one leads to has its own proxy, or none.
                .max_redirects(0)
                // A range and a length are those of the file as it is stored.
                .accept_encoding("identity")
                .user_agent(concat!("lycia/", env!("CARGO_PKG_VERSION")))
                .proxy(proxy)
                .build()
        };
        let mut proxied = Vec::new();
        for url in proxies.urls() {
            let proxy = ureq::Proxy::new(url).map_err(|error| {
                Error::new(Kind::Usage, error)
                    .context(format!("the proxy `{url}`"))
                    .hint("http_proxy, https_proxy and all_proxy hold URLs such as http://proxy:3128")
            })?;
            let tunnel = |proxy: &ureq::Proxy| ureq::Agent::from(config(Some(proxy.clone())));
            let agents = match proxy.protocol() {
                ProxyProtocol::Http => Proxied {
                    http: Some(forward::agent(config(None), &proxy)),
                    tunnel: Some(tunnel(&proxy)),
                },
                // Inside TLS there is only a tunnel.
                ProxyProtocol::Https => Proxied {
                    http: Some(tunnel(&proxy)),
                    tunnel: Some(tunnel(&proxy)),
                },
                _ => Proxied {
                    http: None,
                    tunnel: None,
                },
            };
            proxied.push((url.to_owned(), agents));
        }
        Ok(Client {
            proxies,
            patience,
            offline,
            direct: config(None).into(),
            proxied,
        })
    }

    /// A client as the environment asks for it.
    ///
    /// # Errors
    /// When a proxy variable holds no URL.
    pub fn from_environment(offline: bool) -> Result<Client> {
        let proxies = Proxies::from(|name| std::env::var(name).ok());
        Client::new(proxies, Patience::default(), offline)
    }

    /// Whether it never touches the network.
    pub fn is_offline(&self) -> bool {
        self.offline
    }

    fn agent(&self, url: &str) -> Result<&ureq::Agent, Failure> {
        let Some(proxy) = self.proxies.of(url) else {
            return Ok(&self.direct);
        };
        let mut agents = self.proxied.iter();
        let agent =
            agents
                .find(|(url, _)| url == proxy)
                .and_then(|(_, agents)| match url.starts_with("http://") {
                    true => agents.http.as_ref(),
                    false => agents.tunnel.as_ref(),
                });
        agent.ok_or_else(|| {
            Failure::Refused(format!(
                "the proxy {} is none of HTTP, and no other can be used: set no_proxy, or another proxy",
                proxy::without_credentials(proxy)
            ))
        })
    }

    /// The answer to a request for `url`, wherever it leads.
    fn get(&self, url: &str, fields: &[(HeaderName, &str)]) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let mut request = self.agent(&url)?.get(&url);
            for (name, value) in fields {
                request = request.header(name, *value);
            }
            let response = request.call().map_err(failure)?;
            let leads = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            let to = response.headers().get(header::LOCATION).filter(|_| leads);
            let Some(to) = to else {
                return Ok(response);
            };
            let to = String::from_utf8_lossy(to.as_bytes());
            url = location::resolve(&url, &to)
                .ok_or_else(|| Failure::Refused(format!("it leads to `{to}`, which is no http URL")))?;
        }
        Err(failure(ureq::Error::TooManyRedirects))
    }

    /// The bytes of an index, the file `path` of `mirrors`, and what `read` makes of them, which verifies them. A mirror
    /// whose index cannot be read so is passed over. What can is kept in the store; a server that says that nothing
    /// changed is believed, since the signature is checked each time. Offline, what is in the store is taken.
    ///
    /// # Errors
    /// When no mirror gives one that can be read, or it is offline and not in the store.
    pub fn index<T>(
        &self,
        mirrors: &Mirrors,
        path: &str,
        store: &Store,
        read: impl Fn(&[u8]) -> std::result::Result<T, String>,
    ) -> Result<(Vec<u8>, T)> {
        let folder = store.folder(INDEXES)?;
        if self.offline {
            let mut wrong = None;
            for (_, base) in mirrors.in_order() {
                let url = format!("{base}/{path}");
                let kept = folder.join(partial::name_of_url(&url));
                if !kept.is_file() {
                    continue;
                }
                let bytes = local_index(&kept)?;
                match read(&bytes) {
                    Ok(index) => return Ok((bytes, index)),
                    Err(problem) => {
                        let error = Error::new(Kind::Verification, problem)
                            .context(format!("reading what the store has of {url}"));
                        wrong.get_or_insert(error.hint(WRONG_INDEX));
                    }
                }
            }
            if let Some(error) = wrong {
                return Err(error);
            }
            return Err(Error::new(
                Kind::Host,
                format!("--offline, and the store has no index of {}", mirrors.current()),
            )
            .hint("run once without --offline"));
        }
        self.first(mirrors, path, WRONG_INDEX, |url| {
            let kept = folder.join(partial::name_of_url(url));
            self.one_index(url, &kept, &read)
                .map_err(|failure| (failure, false))
        })
    }

    fn one_index<T>(
        &self,
        url: &str,
        kept: &Path,
        read: &impl Fn(&[u8]) -> std::result::Result<T, String>,
    ) -> Result<(Vec<u8>, T), Failure> {
        // What cannot be read is of no use, even where the server still has it.
        let known = partial::read_kept(kept, INDEX_MAX)
            .and_then(|(bytes, validator)| Some(((read(&bytes).ok()?, bytes), validator)));
        let (have, validator) = known.unzip();
        let mut fields = Vec::new();
        if let Some(validator) = &validator {
            let name = if validator.starts_with('"') || validator.starts_with("W/") {
                header::IF_NONE_MATCH
            } else {
                header::IF_MODIFIED_SINCE
            };
            fields.push((name, validator.as_str()));
        }
        let mut response = self.get(url, &fields)?;
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some((index, bytes)) = have
        {
            return Ok((bytes, index));
        }
        if response.status() != StatusCode::OK {
            return Err(refusal(&response));
        }
        let announced = content_length(&response);
        if announced.is_some_and(|length| length > INDEX_MAX) {
            return Err(Failure::Refused(format!(
                "it is larger than {INDEX_MAX} bytes, which no index is"
            )));
        }
        let mut bytes = Vec::new();
        let body = self.paced(response.body_mut().as_reader());
        body.take(INDEX_MAX + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| passing(ureq::Error::from(error)))?;
        if bytes.len() as u64 > INDEX_MAX {
            return Err(Failure::Refused(format!(
                "it is larger than {INDEX_MAX} bytes, which no index is"
            )));
        }
        if announced.is_some_and(|length| length != bytes.len() as u64) {
            return Err(Failure::Passing(
                "the connection ended early".to_owned(),
                Duration::ZERO,
            ));
        }
        let index = read(&bytes).map_err(Failure::Wrong)?;
        partial::keep(kept, &bytes, validator_of(&response, true).as_deref())?;
        Ok((bytes, index))
    }

    fn paced<R: std::io::Read>(&self, body: R) -> Paced<R> {
        Paced::new(body, self.patience.stall, self.patience.least)
    }

    /// Brings the file `path` of `mirrors` to `to`, unless it is there already. It has that name only when it
    /// is whole and right. A part of it that is in the store is carried on with; runs at the same time share
    /// the work.
    ///
    /// # Errors
    /// When no mirror gives it, all that they give is wrong, or it is offline.
    pub fn download(
        &self,
        mirrors: &Mirrors,
        path: &str,
        to: &Path,
        expected: &Expected<'_>,
        bar: &Bar<'_>,
    ) -> Result<()> {
        if self.offline {
            return Err(
                Error::new(Kind::Host, format!("--offline, and {path} is not in the store"))
                    .hint("run once without --offline"),
            );
        }
        let mut partial = match Partial::take(to, self.patience.stall * 3)? {
            Held::Done => {
                bar.advance(expected.size);
                return Ok(());
            }
            Held::Ours(partial) => partial,
        };
        let began = partial.length()?.min(expected.size);
        bar.advance(began);
        self.first(mirrors, path, WRONG_PACKAGE, |url| {
            let before = partial.length().unwrap_or(0);
            let result = self.transfer(url, &mut partial, expected, bar);
            let gained = partial.length().unwrap_or(0).saturating_sub(before);
            // Progress is worth more patience, but not for ever: so much must come each time.
            let progress = gained >= (expected.size / 16).max(1);
            result.map_err(|failure| (failure, progress))
        })?;
        partial.finish()
    }

    /// One request for what is missing of a file.
    fn transfer(
        &self,
        url: &str,
        partial: &mut Partial,
        expected: &Expected<'_>,
        bar: &Bar<'_>,
    ) -> Result<(), Failure> {
        let mut have = partial.length()?;
        if have > expected.size {
            partial.restart()?;
            have = 0;
        }
        if have < expected.size {
            self.rest(url, partial, have, expected.size, bar)?;
        }
        if let Err(problem) = (expected.check)(partial.path()) {
            partial.restart()?;
            // Of a file put together of parts this one need not be at fault.
            return Err(match have {
                0 => Failure::Wrong(problem),
                _ => Failure::Passing(
                    format!("the parts do not fit together: {problem}"),
                    Duration::ZERO,
                ),
            });
        }
        Ok(())
    }

    fn rest(
        &self,
        url: &str,
        partial: &mut Partial,
        have: u64,
        size: u64,
        bar: &Bar<'_>,
    ) -> Result<(), Failure> {
        let validator = partial.validator().filter(|_| have > 0);
        let range = format!("bytes={have}-");
        let mut fields = Vec::new();
        // Without a validator the check of the whole tells whether the parts are of one file.
        if have > 0 {
            fields.push((header::RANGE, range.as_str()));
        }
        if let Some(validator) = &validator {
            fields.push((header::IF_RANGE, validator.as_str()));
        }
        let mut response = self.get(url, &fields)?;
        let mut at = match response.status() {
            StatusCode::OK => {
                if let Some(length) = content_length(&response).filter(|length| *length != size) {
                    return Err(Failure::Wrong(format!(
                        "it has {length} bytes, the index says {size}"
                    )));
                }
                partial.restart()?;
                0
            }
            StatusCode::PARTIAL_CONTENT => {
                let range = response.headers().get(header::CONTENT_RANGE);
                let range = range
                    .and_then(|value| value.to_str().ok())
                    .and_then(content_range);
                match range {
                    Some((first, total)) if first == have && total.is_none_or(|total| total == size) => have,
                    _ => {
                        partial.restart()?;
                        return Err(Failure::Passing(
                            "it sent another part than was asked for".to_owned(),
                            Duration::ZERO,
                        ));
                    }
                }
            }
            StatusCode::RANGE_NOT_SATISFIABLE => {
                partial.restart()?;
                return Err(Failure::Passing(
                    "it refused to send the rest".to_owned(),
                    Duration::ZERO,
                ));
            }
            _ => return Err(refusal(&response)),
        };
        if at == 0 {
            partial.set_validator(validator_of(&response, false).as_deref())?;
        }
        let doing = || format!("writing {}", partial.path().display());
        let mut file = partial.file();
        io(file.seek(SeekFrom::Start(at)), doing)?;
        // One byte more than announced shows a file that is too long.
        let mut body = self
            .paced(response.body_mut().as_reader())
            .take((size - at).saturating_add(1));
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = body
                .read(&mut buffer)
                .map_err(|error| passing(ureq::Error::from(error)))?;
            if count == 0 {
                break;
            }
            io(file.write_all(&buffer[..count]), doing)?;
            at += count as u64;
            bar.advance(count as u64);
        }
        match at.cmp(&size) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(Failure::Passing(
                format!("the connection ended after {at} of {size} bytes"),
                Duration::ZERO,
            )),
            std::cmp::Ordering::Greater => {
                partial.restart()?;
                Err(Failure::Wrong(format!(
                    "it has more than the {size} bytes of the index"
                )))
            }
        }
    }

    /// What the first mirror that can gives. `ask` says with a failure whether it came further nevertheless, `wrong` what to
    /// do where what a mirror has is wrong.
    fn first<T>(
        &self,
        mirrors: &Mirrors,
        path: &str,
        wrong: &'static str,
        mut ask: impl FnMut(&str) -> Result<T, (Failure, bool)>,
    ) -> Result<T> {
        let mut story: Vec<(String, Failure)> = Vec::new();
        let mut hopeless = vec![false; mirrors.urls.len()];
        let mut round = 0;
        loop {
            let (mut progress, mut wait) = (false, Duration::ZERO);
            story.retain(|(_, failure)| !matches!(failure, Failure::Passing(..)));
            for (at, base) in mirrors.in_order() {
                if hopeless[at] {
                    continue;
                }
                let url = format!("{base}/{path}");
                let (failure, further) = match ask(&url) {
                    Ok(value) => {
                        mirrors.current.store(at, Ordering::Relaxed);
                        return Ok(value);
                    }
                    Err((Failure::Here(error), _)) => return Err(error.context(format!("fetching {url}"))),
                    Err(failure) => failure,
                };
                progress |= further;
                match &failure {
                    Failure::Passing(_, asked) => wait = wait.max(*asked),
                    _ => hopeless[at] = true,
                }
                story.push((url, failure));
            }
            if !progress {
                round += 1;
            }
            if hopeless.iter().all(|hopeless| *hopeless) || round >= self.patience.rounds {
                return Err(given_up(path, wrong, &story));
            }
            if !progress {
                let usual = self.patience.first_wait * 2u32.pow((round - 1).min(6));
                std::thread::sleep(usual.max(wait.min(RETRY_AFTER_MAX)));
            }
        }
    }
}

/// The error of a file that no mirror gave.
fn given_up(path: &str, wrong: &'static str, story: &[(String, Failure)]) -> Error {
    let lines: Vec<String> = story
        .iter()
        .map(|(url, failure)| {
            let why = match failure {
                Failure::Passing(why, _) | Failure::Wrong(why) | Failure::Refused(why) => why.clone(),
                Failure::Missing => "it is not there (404)".to_owned(),
                Failure::Here(error) => error.to_string(),
            };
            format!("{url}: {why}")
        })
        .collect();
    let any = |wanted: fn(&Failure) -> bool| story.iter().any(|(_, failure)| wanted(failure));
    let (kind, hint) = if any(|failure| matches!(failure, Failure::Wrong(_))) {
        (Kind::Verification, wrong)
    } else if story
        .iter()
        .all(|(_, failure)| matches!(failure, Failure::Missing))
    {
        (
            Kind::Input,
            "is the location right, and has the repository this architecture? A lock may name what the \
             repository no longer has: `lycia lock --upgrade`",
        )
    } else if any(|failure| matches!(failure, Failure::Refused(why) if why.contains("certificate"))) {
        (
            Kind::Host,
            "is the clock of this machine right? A proxy that opens TLS is not trusted",
        )
    } else {
        (
            Kind::Host,
            "is the network there, and is a proxy needed (https_proxy)? A repository on disk can be named by \
             its path, and --mirror names another server",
        )
    };
    let message = match lines.as_slice() {
        [one] => one.clone(),
        _ => format!("no mirror gave {path}:\n  {}", lines.join("\n  ")),
    };
    Error::new(kind, message).context("fetching").hint(hint)
}

/// An answer that is not the file.
fn refusal<T>(response: &Response<T>) -> Failure {
    let status = response.status();
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::GONE) {
        return Failure::Missing;
    }
    let why = format!("the server says {status}");
    let passing = status.is_server_error()
        || matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY
        );
    if !passing {
        return Failure::Refused(why);
    }
    let asked = response.headers().get(header::RETRY_AFTER);
    let seconds = asked
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.trim().parse().ok());
    Failure::Passing(why, Duration::from_secs(seconds.unwrap_or(0)))
}

/// A request that had no answer.
fn failure(error: ureq::Error) -> Failure {
    match error {
        ureq::Error::BadUri(_)
        | ureq::Error::Http(_)
        | ureq::Error::TooManyRedirects
        | ureq::Error::RedirectFailed
        | ureq::Error::Tls(_)
        | ureq::Error::Rustls(_)
        | ureq::Error::InvalidProxyUrl => Failure::Refused(words(&error)),
        // What rustls says arrives as the error of a read.
        ureq::Error::Io(ref io) if io.to_string().contains("certificate") => Failure::Refused(words(&error)),
        _ => passing(error),
    }
}

fn passing(error: ureq::Error) -> Failure {
    Failure::Passing(words(&error), Duration::ZERO)
}

/// What went wrong, in words.
fn words(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(ureq::Timeout::PerRead | ureq::Timeout::RecvBody) => {
            "nothing more came within the time limit".to_owned()
        }
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            "no connection within the time limit".to_owned()
        }
        ureq::Error::Timeout(ureq::Timeout::RecvResponse) => "no answer within the time limit".to_owned(),
        ureq::Error::HostNotFound => "the name of the server is not known".to_owned(),
        ureq::Error::TooManyRedirects => "it leads from one place to the next without end".to_owned(),
        ureq::Error::Io(error) => match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<ureq::Error>())
        {
            Some(inner) => words(inner),
            None => error.to_string(),
        },
        other => other.to_string(),
    }
}

fn content_length<T>(response: &Response<T>) -> Option<u64> {
    let value = response.headers().get(header::CONTENT_LENGTH)?;
    value.to_str().ok()?.trim().parse().ok()
}

/// First byte and whole length of `bytes FIRST-LAST/LENGTH`.
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last): (u64, u64) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    let total = match total.trim() {
        "*" => None,
        total => Some(total.parse().ok()?),
    };
    (first <= last).then_some((first, total))
}

/// By what a server knows this state of a file again: its ETag, else its date. A weak ETag is none where parts
/// are to be put together.
fn validator_of<T>(response: &Response<T>, weak: bool) -> Option<String> {
    let text = |name| {
        let value = response.headers().get(name)?;
        value.to_str().ok().map(|text| text.trim().to_owned())
    };
    text(header::ETAG)
        .filter(|tag| weak || !tag.starts_with("W/"))
        .or_else(|| text(header::LAST_MODIFIED))
        .filter(|validator| !validator.is_empty() && validator.len() <= 1024)
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
