//! A file server for a repository: `GET` and `HEAD` of files below one folder, with ranges (RFC 9110 section 14).
//!
//! It is for the machine itself and its guests. Nothing outside of the folder can be reached, by the kernel's word
//! (`RESOLVE_BENEATH`); names that begin with a dot are not there. What is read of a request, how long it
//! may take and how many connections there are at a time have limits.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags};

use crate::error::{Error, Kind, Result, io};

/// Longest head of a request, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// Most fields of a head.
const FIELDS_MAX: usize = 64;
/// Connections at a time; further ones are told to come again.
const CONNECTIONS_MAX: usize = 64;
/// Requests of one connection.
const REQUESTS_MAX: usize = 1000;

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For the head of a request, and between two requests.
    pub head: Duration,
    /// For taking more of a response.
    pub write: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience {
            head: Duration::from_secs(30),
            write: Duration::from_secs(30),
        }
    }
}

/// What was answered.
#[derive(Clone, Debug)]
pub struct Served {
    /// The request's first words, escaped.
    pub request: String,
    /// The status.
    pub status: u16,
    /// Bytes of the body.
    pub bytes: u64,
}

/// A server that is bound to its address.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    root: OwnedFd,
    patience: Patience,
    connections: AtomicUsize,
    log: Box<dyn Fn(&Served) + Send + Sync>,
}

/// A response without its body.
struct Answer {
    status: u16,
    fields: String,
    body: Body,
    /// Nothing more is read from this client.
    last: bool,
}

enum Body {
    Text(&'static str),
    File { file: File, first: u64, length: u64 },
    None,
}

impl Server {
    /// Binds to `address`, to serve what is below `root`.
    ///
    /// # Errors
    /// When the folder is not there, or the address is taken or not of this machine.
    pub fn bind(
        root: &Path,
        address: SocketAddr,
        patience: Patience,
        log: impl Fn(&Served) + Send + Sync + 'static,
    ) -> Result<Server> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(root, flags, Mode::empty());
        let root = io(opened.map_err(Into::into), || {
            format!("opening {}", root.display())
        })?;
        let explain = |error: std::io::Error| {
            Error::new(Kind::Host, error)
                .context(format!("listening on {address}"))
                .hint("give another address with --listen ADDRESS:PORT; port 0 takes a free one")
        };
        let listener = TcpListener::bind(address).map_err(explain)?;
        let address = listener.local_addr().map_err(explain)?;
        Ok(Server {
            listener,
            address,
            shared: Arc::new(Shared {
                root,
                patience,
                connections: AtomicUsize::new(0),
                log: Box::new(log),
            }),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves without end.
    pub fn run(&self) -> ! {
        loop {
            let Ok((stream, _)) = self.listener.accept() else {
                // Too many open files, mostly; it passes.
                std::thread::sleep(Duration::from_millis(50));
                continue;
            };
            let shared = self.shared.clone();
            let count = shared.connections.fetch_add(1, Ordering::SeqCst) + 1;
            let started = std::thread::Builder::new().spawn(move || {
                if count <= CONNECTIONS_MAX {
                    shared.converse(&stream);
                } else {
                    let _ = stream.set_write_timeout(Some(Duration::from_secs(1)));
                    let _ = send(&stream, refuse(503, "too many connections\n"), false);
                }
                shared.connections.fetch_sub(1, Ordering::SeqCst);
            });
            if started.is_err() {
                self.shared.connections.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

impl Shared {
    /// Answers the requests of one connection.
    fn converse(&self, stream: &TcpStream) {
        let _ = stream.set_nodelay(true);
        if stream.set_write_timeout(Some(self.patience.write)).is_err() {
            return;
        }
        let mut left = Vec::new();
        for _ in 0..REQUESTS_MAX {
            let Some(end) = self.head(stream, &mut left) else {
                return;
            };
            let Some(end) = end else {
                let answer = refuse(431, "the head of the request is too long\n");
                self.answer(stream, "?", answer, true);
                return;
            };
            let rest = left.split_off(end);
            let head = std::mem::replace(&mut left, rest);
            let (request, with_body, answer) = self.respond(&head);
            let last = answer.last;
            if !self.answer(stream, &request, answer, with_body) || last {
                return;
            }
        }
    }

    fn answer(&self, stream: &TcpStream, request: &str, answer: Answer, with_body: bool) -> bool {
        let status = answer.status;
        let (bytes, sound) = match send(stream, answer, with_body) {
            Ok(bytes) => (bytes, true),
            Err(bytes) => (bytes, false),
        };
        (self.log)(&Served {
            request: request.to_owned(),
            status,
            bytes,
        });
        sound
    }

    /// Reads until `buffer` has a whole head; gives where it ends, nothing where it is too long, and nothing at
    /// all where none comes.
    fn head(&self, mut stream: &TcpStream, buffer: &mut Vec<u8>) -> Option<Option<usize>> {
        let until = Instant::now() + self.patience.head;
        loop {
            if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                return Some(Some(at + 4));
            }
            if buffer.len() >= HEAD_MAX {
                return Some(None);
            }
            let left = until
                .checked_duration_since(Instant::now())
                .filter(|left| !left.is_zero())?;
            stream.set_read_timeout(Some(left)).ok()?;
            let mut chunk = [0; 4096];
            let room = chunk.len().min(HEAD_MAX - buffer.len());
            match stream.read(&mut chunk[..room]) {
                Ok(0) | Err(_) => return None,
                Ok(count) => buffer.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// The answer to a head: what was asked in words, whether the body goes with it, and the answer.
    fn respond(&self, head: &[u8]) -> (String, bool, Answer) {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS_MAX];
        let mut request = httparse::Request::new(&mut fields);
        match request.parse(head) {
            Ok(httparse::Status::Complete(_)) => {}
            _ => return ("?".to_owned(), true, refuse(400, "no HTTP request\n")),
        }
        let (method, target) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
        let words = format!("{} {}", method.escape_debug(), target.escape_debug());
        let with_body = method != "HEAD";
        let field = |name: &str| -> Option<&str> {
            let found = request
                .headers
                .iter()
                .find(|field| field.name.eq_ignore_ascii_case(name));
            found.and_then(|field| std::str::from_utf8(field.value).ok())
        };
        let count = |name: &str| {
            let fields = request.headers.iter();
            fields
                .filter(|field| field.name.eq_ignore_ascii_case(name))
                .count()
        };
        let old = request.version == Some(0);
        // What follows the head would be taken for another request.
        if count("transfer-encoding") > 0
            || field("content-length").is_some_and(|length| length.trim() != "0")
        {
            return (words, with_body, refuse(413, "no request may have a body\n"));
        }
        if count("host") != 1 && !(old && count("host") == 0) {
            return (words, with_body, refuse(400, "a request names one host\n"));
        }
        if !matches!(method, "GET" | "HEAD") {
            let mut answer = refuse(405, "GET and HEAD are served\n");
            answer.fields.push_str("Allow: GET, HEAD\r\n");
            return (words, with_body, answer);
        }
        let mut answer = match path_of(target) {
            None => refuse(400, "no path\n"),
            Some(path) => self.file(&path, field),
        };
        let close = field("connection").is_some_and(|value| {
            value
                .split(',')
                .any(|word| word.trim().eq_ignore_ascii_case("close"))
        });
        answer.last |= old || close;
        (words, with_body, answer)
    }

    /// A file, or a part of it, as the conditions of the request want.
    fn file<'f>(&self, path: &[u8], field: impl Fn(&str) -> Option<&'f str>) -> Answer {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file = match rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve) {
            Ok(descriptor) => File::from(descriptor),
            Err(rustix::io::Errno::ACCESS | rustix::io::Errno::PERM) => {
                return keep(refuse(403, "this file may not be read\n"));
            }
            Err(_) => return keep(refuse(404, "there is no such file\n")),
        };
        let Ok(metadata) = file.metadata() else {
            return keep(refuse(404, "there is no such file\n"));
        };
        if !metadata.is_file() {
            return keep(refuse(404, "there is no such file\n"));
        }
        let size = metadata.len();
        let tag = format!(
            "\"{:x}-{:x}-{:x}-{size:x}\"",
            metadata.ino(),
            metadata.mtime(),
            metadata.mtime_nsec()
        );
        let mut fields = format!("ETag: {tag}\r\nAccept-Ranges: bytes\r\n");
        let known = field("if-none-match").is_some_and(|list| {
            list.split(',').any(|one| {
                let one = one.trim();
                one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag
            })
        });
        if known {
            return Answer {
                status: 304,
                fields,
                body: Body::None,
                last: false,
            };
        }
        let same = field("if-range").is_none_or(|value| value.trim() == tag);
        let range = field("range").filter(|_| same);
        let (status, first, length) = match range.map(|range| wanted(range, size)) {
            None | Some(Wanted::All) => (200, 0, size),
            Some(Wanted::Part(first, length)) => {
                fields.push_str(&format!(
                    "Content-Range: bytes {first}-{}/{size}\r\n",
                    first + length - 1
                ));
                (206, first, length)
            }
            Some(Wanted::Nothing) => {
                let mut answer = keep(refuse(416, "the file has no such part\n"));
                answer
                    .fields
                    .push_str(&format!("Content-Range: bytes */{size}\r\n"));
                return answer;
            }
        };
        fields.push_str("Content-Type: application/octet-stream\r\n");
        Answer {
            status,
            fields,
            body: Body::File { file, first, length },
            last: false,
        }
    }
}

/// An answer without a file, after which the connection ends.
fn refuse(status: u16, text: &'static str) -> Answer {
    Answer {
        status,
        fields: "Content-Type: text/plain\r\n".to_owned(),
        body: Body::Text(text),
        last: true,
    }
}

/// The connection goes on after it.
fn keep(mut answer: Answer) -> Answer {
    answer.last = false;
    answer
}

/// Sends an answer; gives the bytes of its body, as an error where the client went away.
fn send(mut stream: &TcpStream, answer: Answer, with_body: bool) -> Result<u64, u64> {
    let reason = match answer.status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        413 => "Content Too Large",
        416 => "Range Not Satisfiable",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let length = match &answer.body {
        Body::Text(text) => Some(text.len() as u64),
        Body::File { length, .. } => Some(*length),
        Body::None => None,
    };
    let mut head = format!("HTTP/1.1 {} {reason}\r\n{}", answer.status, answer.fields);
    if let Some(length) = length {
        head.push_str(&format!("Content-Length: {length}\r\n"));
    }
    let connection = if answer.last { "close" } else { "keep-alive" };
    head.push_str(&format!("Connection: {connection}\r\n\r\n"));
    stream.write_all(head.as_bytes()).map_err(|_| 0u64)?;
    if !with_body {
        return Ok(0);
    }
    match answer.body {
        Body::None => Ok(0),
        Body::Text(text) => {
            stream.write_all(text.as_bytes()).map_err(|_| 0u64)?;
            Ok(text.len() as u64)
        }
        Body::File {
            mut file,
            first,
            length,
        } => {
            file.seek(SeekFrom::Start(first)).map_err(|_| 0u64)?;
            let mut sent = 0;
            let mut part = file.take(length);
            let mut buffer = vec![0; 1 << 16];
            loop {
                let count = part.read(&mut buffer).map_err(|_| sent)?;
                if count == 0 {
                    break;
                }
                stream.write_all(&buffer[..count]).map_err(|_| sent)?;
                sent += count as u64;
            }
            // A file that shrank: the client sees the connection end early.
            if sent == length { Ok(sent) } else { Err(sent) }
        }
    }
}

/// What a range asks for.
#[derive(PartialEq, Eq, Debug)]
enum Wanted {
    /// All: no range that is understood, or several.
    All,
    /// So many bytes from the first.
    Part(u64, u64),
    /// None that there is.
    Nothing,
}

fn wanted(range: &str, size: u64) -> Wanted {
    let Some(set) = range.trim().strip_prefix("bytes=") else {
        return Wanted::All;
    };
    let Some((first, last)) = set.trim().split_once('-') else {
        return Wanted::All;
    };
    let number = |text: &str| -> Option<u64> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (None, Some(count)) if first.is_empty() => match count.min(size) {
            0 => Wanted::Nothing,
            count => Wanted::Part(size - count, count),
        },
        (Some(first), _) if first >= size && (last.is_empty() || number(last).is_some()) => Wanted::Nothing,
        (Some(first), None) if last.is_empty() => Wanted::Part(first, size - first),
        (Some(first), Some(last)) if first <= last => Wanted::Part(first, last.min(size - 1) - first + 1),
        _ => Wanted::All,
    }
}

/// The path below the root that a request's target means; none where it means none. Components are plain names:
/// neither empty, nor `.` or `..`, nor hidden.
fn path_of(target: &str) -> Option<Vec<u8>> {
    let path = target.split(['?', '#']).next()?;
    // A proxy may be asked with the whole URL.
    let path = match path.split_once("://") {
        Some(("http", rest)) => &rest[rest.find('/')?..],
        Some(_) => return None,
        None => path,
    };
    let path = path.strip_prefix('/')?;
    let mut bytes = Vec::with_capacity(path.len());
    let mut rest = path.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        rest = after;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = rest.get(..2)?;
        let digit = |byte: u8| (byte as char).to_digit(16);
        let value = digit(digits[0])? * 16 + digit(digits[1])?;
        bytes.push(u8::try_from(value).ok()?);
        rest = &rest[2..];
    }
    let plain = |name: &[u8]| !name.is_empty() && name[0] != b'.' && !name.contains(&0);
    let sound = bytes.len() <= 4095 && bytes.split(|&byte| byte == b'/').all(plain);
    sound.then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (range, size, expected) in [
            ("bytes=0-", 10, Wanted::Part(0, 10)),
            ("bytes=3-", 10, Wanted::Part(3, 7)),
            ("bytes=3-5", 10, Wanted::Part(3, 3)),
            ("bytes=3-99", 10, Wanted::Part(3, 7)),
            ("bytes=9-9", 10, Wanted::Part(9, 1)),
            ("bytes=10-", 10, Wanted::Nothing),
            ("bytes=10-20", 10, Wanted::Nothing),
            ("bytes=99999999999999999999-", 10, Wanted::Nothing),
            ("bytes=0-99999999999999999999", 10, Wanted::Part(0, 10)),
            ("bytes=-3", 10, Wanted::Part(7, 3)),
            ("bytes=-99", 10, Wanted::Part(0, 10)),
            ("bytes=-0", 10, Wanted::Nothing),
            ("bytes=-5", 0, Wanted::Nothing),
            ("bytes=0-", 0, Wanted::Nothing),
            ("bytes=5-3", 10, Wanted::All),
            ("bytes=0-1,3-4", 10, Wanted::All),
            ("bytes=", 10, Wanted::All),
            ("bytes=-", 10, Wanted::All),
            ("bytes=+1-2", 10, Wanted::All),
            ("bytes=a-b", 10, Wanted::All),
            ("lines=1-2", 10, Wanted::All),
        ] {
            assert_eq!(wanted(range, size), expected, "{range} of {size}");
        }
    }

    #[test]
    fn targets() {
        for (target, expected) in [
            ("/a/b.apk", Some("a/b.apk")),
            ("/a%2fb", Some("a/b")),
            ("/a%20b+c?query#part", Some("a b+c")),
            ("http://host:1/a/b", Some("a/b")),
            ("/..a", None),
            ("/a/..", None),
            ("/a/../../etc/passwd", None),
            ("/%2e%2e/etc/passwd", None),
            ("/a/%2e./x", None),
            ("/.git/config", None),
            ("//etc/passwd", None),
            ("/a//b", None),
            ("/a/", None),
            ("/", None),
            ("", None),
            ("a", None),
            ("*", None),
            ("/a%00b", None),
            ("/a%", None),
            ("/a%2", None),
            ("/a%zz", None),
            ("file:///etc/passwd", None),
            ("http://host", None),
        ] {
            let path = path_of(target).map(|path| String::from_utf8(path).unwrap());
            assert_eq!(path.as_deref(), expected, "{target}");
        }
    }
}
