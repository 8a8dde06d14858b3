//! `lycia repo serve` and what clients, good and bad, get from it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::program::{LYCIA, open_folder};

/// A running `lycia repo serve`; it ends with this value.
pub struct Served {
    child: Child,
    /// `http://127.0.0.1:PORT`
    pub url: String,
}

impl Served {
    pub fn new(folder: &Path) -> Served {
        let mut child = Command::new(LYCIA)
            .args(["--quiet", "repo", "serve", "--listen", "127.0.0.1:0"])
            .arg(folder)
            .stdout(Stdio::piped())
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        BufReader::new(out).read_line(&mut line).unwrap();
        let url = line.trim().to_owned();
        assert!(url.starts_with("http://127.0.0.1:"), "{url}");
        Served { child, url }
    }

    fn connect(&self) -> TcpStream {
        TcpStream::connect(self.url.strip_prefix("http://").unwrap()).unwrap()
    }

    /// Sends bytes and reads until the server closes the connection.
    fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // The server may refuse before all is sent.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// Status, head and body of the answer to one request.
    fn ask(&self, method: &str, target: &str, fields: &str) -> (u16, String, Vec<u8>) {
        let request = format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{fields}\r\n");
        split(&self.say(request.as_bytes()))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn split(answer: &[u8]) -> (u16, String, Vec<u8>) {
    let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no head: {}", String::from_utf8_lossy(answer)));
    let head = String::from_utf8(answer[..end].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head, answer[end + 4..].to_vec())
}

fn folder() -> tempfile::TempDir {
    let folder = open_folder();
    let root = folder.path().join("root");
    std::fs::create_dir_all(root.join("x86_64")).unwrap();
    std::fs::write(root.join("x86_64/a.apk"), b"0123456789").unwrap();
    std::fs::write(root.join("empty"), b"").unwrap();
    std::fs::write(root.join("with space"), b"space").unwrap();
    std::fs::write(root.join(".hidden"), b"hidden").unwrap();
    std::fs::write(folder.path().join("secret"), b"outside").unwrap();
    std::os::unix::fs::symlink("../secret", root.join("up")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), root.join("absolute")).unwrap();
    std::os::unix::fs::symlink("x86_64/a.apk", root.join("inside")).unwrap();
    std::os::unix::fs::symlink("/proc/self/environ", root.join("magic")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    folder
}

#[test]
fn files_ranges_and_conditions() {
    let folder = folder();
    let served = Served::new(&folder.path().join("root"));
    let (status, head, body) = served.ask("GET", "/x86_64/a.apk", "");
    assert_eq!((status, &*body), (200, &b"0123456789"[..]), "{head}");
    assert!(
        head.contains("Content-Length: 10\r\n") && head.contains("Accept-Ranges: bytes"),
        "{head}"
    );
    let tag = head
        .split("ETag: ")
        .nth(1)
        .unwrap()
        .split("\r\n")
        .next()
        .unwrap()
        .to_owned();
    let (status, head, body) = served.ask("HEAD", "/x86_64/a.apk", "");
    assert_eq!((status, &*body), (200, &b""[..]));
    assert!(head.contains("Content-Length: 10"), "{head}");
    for (target, fields, expected, content) in [
        ("/empty", String::new(), 200, &b""[..]),
        ("/with%20space", String::new(), 200, b"space"),
        ("/inside", String::new(), 200, b"0123456789"),
        ("/x86_64/a.apk?x=1", String::new(), 200, b"0123456789"),
        ("/x86_64/a.apk", "Range: bytes=4-\r\n".into(), 206, b"456789"),
        ("/x86_64/a.apk", "Range: bytes=-2\r\n".into(), 206, b"89"),
        ("/x86_64/a.apk", "Range: bytes=2-3\r\n".into(), 206, b"23"),
        (
            "/x86_64/a.apk",
            "Range: bytes=0-1,4-5\r\n".into(),
            200,
            b"0123456789",
        ),
        (
            "/x86_64/a.apk",
            format!("Range: bytes=8-\r\nIf-Range: {tag}\r\n"),
            206,
            b"89",
        ),
        (
            "/x86_64/a.apk",
            "Range: bytes=8-\r\nIf-Range: \"old\"\r\n".into(),
            200,
            b"0123456789",
        ),
        (
            "/x86_64/a.apk",
            format!("If-None-Match: \"x\", {tag}\r\n"),
            304,
            b"",
        ),
    ] {
        let (status, head, body) = served.ask("GET", target, &fields);
        assert_eq!((status, &*body), (expected, content), "{target} {fields} {head}");
    }
    let (status, head, _) = served.ask("GET", "/x86_64/a.apk", "Range: bytes=10-\r\n");
    assert_eq!(status, 416);
    assert!(head.contains("Content-Range: bytes */10"), "{head}");
    // A changed file is another.
    std::fs::write(folder.path().join("root/x86_64/a.apk"), b"other").unwrap();
    let (status, _, body) = served.ask("GET", "/x86_64/a.apk", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!((status, &*body), (200, &b"other"[..]));
}

#[test]
fn nothing_outside_of_the_folder_is_there() {
    let folder = folder();
    let served = Served::new(&folder.path().join("root"));
    for target in [
        "/../secret",
        "/x86_64/../../secret",
        "/%2e%2e/secret",
        "/..%2fsecret",
        "/x86_64%2f..%2f..%2fsecret",
        "//secret",
        "/./secret",
        "/up",
        "/absolute",
        "/magic",
        "/.hidden",
        "/pipe",
        "/x86_64",
        "/x86_64/",
        "/",
        "/nothing",
        "/a%00b",
        "/%zz",
        "http://x/../secret",
        "file:///etc/passwd",
        "*",
    ] {
        let (status, head, body) = served.ask("GET", target, "");
        assert!(matches!(status, 400 | 404), "{target}: {head}");
        let body = String::from_utf8(body).unwrap();
        assert!(
            !body.contains("outside") && !body.contains("hidden"),
            "{target}: {body}"
        );
    }
}

#[test]
fn hostile_requests_are_refused_and_the_server_goes_on() {
    let folder = folder();
    let served = Served::new(&folder.path().join("root"));
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(20_000));
    let many = format!(
        "GET /empty HTTP/1.1\r\nHost: x\r\n{}\r\n",
        (0..100)
            .map(|number| format!("X-{number}: y\r\n"))
            .collect::<String>()
    );
    for (request, statuses) in [
        (b"\r\n\r\n".to_vec(), &[400u16][..]),
        (b"GET\r\n\r\n".to_vec(), &[400]),
        (b"GET /empty\r\n\r\n".to_vec(), &[400]),
        (b"GET /empty HTTP/9.9\r\n\r\n".to_vec(), &[400]),
        (b"GET /empty HTTP/1.1\r\n\r\n".to_vec(), &[400]),
        (
            b"GET /empty HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_vec(),
            &[400],
        ),
        (b"GET /empty HTTP/1.1\r\nHost : a\r\n\r\n".to_vec(), &[400]),
        (
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
            &[400],
        ),
        (b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), &[400, 404]),
        (b"POST /empty HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), &[405]),
        (b"DELETE /empty HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), &[405]),
        (
            b"CONNECT example.org:80 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            &[405],
        ),
        (
            b"GET /empty HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello".to_vec(),
            &[413],
        ),
        (
            b"GET /empty HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(),
            &[413],
        ),
        (long.into_bytes(), &[431]),
        (many.into_bytes(), &[400]),
    ] {
        let (status, head, _) = split(&served.say(&request));
        let shown = String::from_utf8_lossy(&request[..request.len().min(60)]).into_owned();
        assert!(statuses.contains(&status), "{shown:?}: {head}");
        assert!(head.contains("Connection: close"), "{shown:?}: {head}");
    }
    // Clients that go away in the middle, and many that say nothing.
    for _ in 0..20 {
        let mut stream = served.connect();
        stream.write_all(b"GET /x86_64/a.apk HTT").unwrap();
    }
    let idle: Vec<TcpStream> = (0..10).map(|_| served.connect()).collect();
    let (status, _, body) = served.ask("GET", "/x86_64/a.apk", "");
    assert_eq!((status, &*body), (200, &b"0123456789"[..]));
    drop(idle);
    // Two requests at once on one connection are both answered, in their order.
    let two = b"GET /with%20space HTTP/1.1\r\nHost: x\r\n\r\nGET /inside HTTP/1.0\r\n\r\n";
    let answer = String::from_utf8(served.say(two)).unwrap();
    let (first, second) = (answer.find("space").unwrap(), answer.find("0123456789").unwrap());
    assert!(first < second, "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 2, "{answer}");
}
