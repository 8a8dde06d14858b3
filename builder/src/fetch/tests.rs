use super::*;
use crate::progress::{Progress, Unit};
use std::io::BufRead as _;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

/// A server on 127.0.0.1 that answers each request as `answer` says: it gets the request's lines and the number of the
/// request, and writes what it likes.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<Vec<String>>>>,
    address: std::net::SocketAddr,
    end: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    fn new(answer: impl Fn(&[String], usize, &mut TcpStream) + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, end) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (requests.clone(), end.clone());
        let answer = Arc::new(answer);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let (mut stream, seen, answer) = (stream.unwrap(), seen.clone(), answer.clone());
                std::thread::spawn(move || {
                    let mut reader = std::io::BufReader::new(stream.try_clone().unwrap());
                    let mut lines = Vec::new();
                    loop {
                        let mut line = String::new();
                        match reader.read_line(&mut line) {
                            Ok(count) if count > 0 => {}
                            _ => return,
                        }
                        let line = line.trim_end().to_owned();
                        if line.is_empty() {
                            break;
                        }
                        lines.push(line);
                    }
                    let number = {
                        let mut seen = seen.lock().unwrap();
                        seen.push(lines.clone());
                        seen.len() - 1
                    };
                    answer(&lines, number, &mut stream);
                });
            }
        });
        Server {
            url: format!("http://{address}"),
            requests,
            address,
            end,
            thread: Some(thread),
        }
    }

    /// A server that does as it should: ranges with If-Range by ETag.
    fn sound(body: &[u8]) -> Server {
        let body = body.to_vec();
        Server::new(move |lines, _, stream| sound(lines, &body, stream))
    }

    fn requests(&self) -> Vec<Vec<String>> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn field<'l>(lines: &'l [String], name: &str) -> Option<&'l str> {
    lines.iter().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn say(stream: &mut TcpStream, status: &str, fields: &str, body: &[u8]) {
    let head = format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n{fields}\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(body);
}

fn sound(lines: &[String], body: &[u8], stream: &mut TcpStream) {
    let range = field(lines, "range").and_then(|range| {
        let first = range.strip_prefix("bytes=")?.strip_suffix('-')?;
        first.parse::<usize>().ok()
    });
    match range.filter(|_| field(lines, "if-range") == Some("\"one\"")) {
        Some(first) => {
            let fields = format!(
                "ETag: \"one\"\r\nContent-Range: bytes {first}-{}/{}\r\n",
                body.len() - 1,
                body.len()
            );
            say(stream, "206 Partial Content", &fields, &body[first..]);
        }
        None => say(stream, "200 OK", "ETag: \"one\"\r\n", body),
    }
}

/// Announces all of `body` and sends `count` bytes of it.
fn cut(stream: &mut TcpStream, body: &[u8], count: usize) {
    let head = format!(
        "HTTP/1.1 200 OK\r\nETag: \"one\"\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&body[..count]);
}

fn body() -> Vec<u8> {
    (0..300_000u32).flat_map(|number| number.to_le_bytes()).collect()
}

fn client() -> Client {
    let patience = Patience {
        connect: Duration::from_secs(20),
        first_byte: Duration::from_secs(20),
        stall: Duration::from_secs(20),
        least: 1,
        rounds: 3,
        first_wait: Duration::from_millis(1),
    };
    Client::new(Proxies::default(), patience, false).unwrap()
}

/// Takes whatever comes for an index.
fn any(_: &[u8]) -> std::result::Result<(), String> {
    Ok(())
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> std::path::PathBuf {
        self.folder.path().join("file")
    }

    fn fetch(&self, client: &Client, urls: &[&str], wanted: &[u8]) -> Result<()> {
        let progress = Progress::new(true);
        let bar = progress.stage("fetch", 0, Unit::Bytes);
        let check = |path: &Path| match std::fs::read(path).unwrap() == wanted {
            true => Ok(()),
            false => Err("other bytes".to_owned()),
        };
        let mirrors = Mirrors::new(urls.iter().map(|url| (*url).to_owned()).collect());
        let expected = Expected {
            size: wanted.len() as u64,
            check: &check,
        };
        client.download(&mirrors, "x86_64/file", &self.file(), &expected, &bar)
    }

    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }
}

#[test]
fn a_file_comes_whole_and_under_its_name_only() {
    let server = Server::sound(&body());
    let place = Place::new();
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    assert_eq!(place.names(), ["file"]);
    assert!(server.requests()[0][0].starts_with("GET /x86_64/file HTTP/1.1"));
    // What is there is not asked for again.
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(place.names(), ["file"]);
}

#[test]
fn a_connection_that_ends_early_is_carried_on_with() {
    let server = Server::new(|lines, number, stream| match number {
        0 => cut(stream, &body(), 1000),
        1 => cut(stream, &body(), 0),
        _ => sound(lines, &body(), stream),
    });
    let place = Place::new();
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    let requests = server.requests();
    assert_eq!(field(&requests[0], "range"), None);
    assert_eq!(field(&requests[1], "range"), Some("bytes=1000-"));
    assert_eq!(field(&requests[1], "if-range"), Some("\"one\""));
    assert_eq!(field(&requests[2], "accept-encoding"), Some("identity"));
    // The second answer was of the whole file, so that nothing was left.
    assert_eq!(field(&requests[2], "range"), None);
}

/// Sends `most` bytes from where it is asked to begin, and knows nothing of validators.
fn in_pieces(lines: &[String], body: &[u8], most: usize, stream: &mut TcpStream) {
    let range = field(lines, "range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-'));
    let first: usize = range.map_or(0, |first| first.parse().unwrap());
    let status = match range {
        Some(_) => format!(
            "206 Partial Content\r\nContent-Range: bytes {first}-{}/{}",
            body.len() - 1,
            body.len()
        ),
        None => "200 OK".to_owned(),
    };
    let rest = &body[first..];
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", rest.len());
    let _ = stream.write_all(head.as_bytes());
    let _ = stream.write_all(&rest[..rest.len().min(most)]);
}

#[test]
fn a_server_without_validators_is_asked_for_the_rest_all_the_same() {
    let server = Server::new(|lines, _, stream| in_pieces(lines, &body(), 500_000, stream));
    let place = Place::new();
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    let ranges: Vec<Option<String>> = server
        .requests()
        .iter()
        .map(|lines| field(lines, "range").map(str::to_owned))
        .collect();
    let from = |first: &str| Some(format!("bytes={first}-"));
    assert_eq!(ranges, [None, from("500000"), from("1000000")]);
    assert!(
        server
            .requests()
            .iter()
            .all(|lines| field(lines, "if-range").is_none())
    );
    // A part of another file is found out by what comes of it.
    let place = Place::new();
    std::fs::write(place.folder.path().join("file.part"), b"of an older file").unwrap();
    let server = Server::new(|lines, _, stream| in_pieces(lines, &body(), usize::MAX, stream));
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
}

#[test]
fn a_small_file_gets_as_much_patience_as_it_gets_further() {
    let small = &body()[..4000];
    let server = {
        let small = small.to_vec();
        Server::new(move |lines, _, stream| in_pieces(lines, &small, 400, stream))
    };
    let place = Place::new();
    place.fetch(&client(), &[&server.url], small).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), small);
    assert_eq!(server.requests().len(), 10);
}

#[test]
fn a_later_run_carries_on_where_an_earlier_one_ended() {
    let half = body().len() / 2;
    let place = Place::new();
    {
        let server = Server::new(move |_, number, stream| match number {
            0 => cut(stream, &body(), half),
            _ => say(stream, "503 Service Unavailable", "", b""),
        });
        let error = place.fetch(&client(), &[&server.url], &body()).unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert!(error.to_string().contains("503"), "{error}");
        assert_eq!(place.names(), ["file.part", "file.part.from"]);
    }
    let server = Server::sound(&body());
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    assert_eq!(place.names(), ["file"]);
    let requests = server.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(field(&requests[0], "range"), Some(&*format!("bytes={half}-")));
}

#[test]
fn a_part_of_something_else_is_thrown_away() {
    // The server's file is another than the one that the part is of: it answers with the whole.
    let place = Place::new();
    std::fs::write(place.folder.path().join("file.part"), b"of an older file").unwrap();
    std::fs::write(place.folder.path().join("file.part.from"), b"\"zero\"").unwrap();
    let server = Server::sound(&body());
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    // The same ETag and other bytes: what is put together is wrong, and all is fetched anew.
    let place = Place::new();
    std::fs::write(place.folder.path().join("file.part"), b"of an older file").unwrap();
    std::fs::write(place.folder.path().join("file.part.from"), b"\"one\"").unwrap();
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    // A part that is longer than the whole.
    let place = Place::new();
    std::fs::write(place.folder.path().join("file.part"), vec![7; body().len() + 1]).unwrap();
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
}

#[test]
fn a_server_that_sends_another_part_is_asked_for_the_whole() {
    let server = Server::new(|lines, number, stream| match number {
        0 => cut(stream, &body(), 5000),
        1 => say(
            stream,
            "206 Partial Content",
            &format!(
                "Content-Range: bytes 4000-{}/{}\r\n",
                body().len() - 1,
                body().len()
            ),
            &body()[4000..],
        ),
        2 => cut(stream, &body(), 5000),
        3 => say(stream, "416 Range Not Satisfiable", "", b""),
        _ => sound(lines, &body(), stream),
    });
    let place = Place::new();
    let mut client = client();
    client.patience.rounds = 9;
    place.fetch(&client, &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    assert_eq!(field(&server.requests()[4], "range"), None);
}

#[test]
fn each_failure_is_told_with_its_kind_and_what_to_do() {
    type Answer = fn(&[String], usize, &mut TcpStream);
    let cases: [(&str, Answer, Kind, &[&str], usize); 9] = [
        (
            "not there",
            |_, _, stream| say(stream, "404 Not Found", "", b"no"),
            Kind::Input,
            &["it is not there (404)", "hint: is the location right"],
            1,
        ),
        (
            "forbidden",
            |_, _, stream| say(stream, "403 Forbidden", "", b""),
            Kind::Host,
            &["403 Forbidden"],
            1,
        ),
        (
            "broken",
            |_, _, stream| say(stream, "500 Internal Server Error", "", b""),
            Kind::Host,
            &["500 Internal", "--mirror"],
            3,
        ),
        (
            "another length",
            |_, _, stream| say(stream, "200 OK", "", &body()[4..]),
            Kind::Verification,
            &["1199996 bytes, the index says 1200000", "out of step"],
            1,
        ),
        (
            "too long, and no length",
            |_, _, stream| {
                let _ = stream.write_all(b"HTTP/1.0 200 OK\r\n\r\n");
                let _ = stream.write_all(&body());
                let _ = stream.write_all(b"more");
            },
            Kind::Verification,
            &["more than the 1200000 bytes"],
            1,
        ),
        (
            "other bytes",
            |_, _, stream| say(stream, "200 OK", "", &vec![7; body().len()]),
            Kind::Verification,
            &["other bytes", "hint: the mirror is out of step"],
            1,
        ),
        (
            "a circle",
            |lines, _, stream| {
                let path = lines[0].split(' ').nth(1).unwrap_or("/").to_owned();
                say(stream, "302 Found", &format!("Location: {path}\r\n"), b"");
            },
            Kind::Host,
            &["without end"],
            11,
        ),
        (
            "no HTTP",
            |_, _, stream| {
                let _ = stream.write_all(b"\0\x01\x02 nonsense\r\n\r\n");
            },
            Kind::Host,
            &["fetching"],
            3,
        ),
        ("nothing", |_, _, _| {}, Kind::Host, &["fetching"], 3),
    ];
    for (name, answer, kind, parts, requests) in cases {
        let server = Server::new(answer);
        let place = Place::new();
        let error = place.fetch(&client(), &[&server.url], &body()).unwrap_err();
        assert_eq!(error.kind(), kind, "{name}: {error}");
        let said = error.to_string();
        assert!(said.contains(&server.url), "{name}: {said}");
        assert!(said.contains("hint: "), "{name}: {said}");
        for part in parts {
            assert!(said.contains(part), "{name}: no `{part}` in {said}");
        }
        assert_eq!(server.requests().len(), requests, "{name}");
        assert!(!place.file().exists(), "{name}");
    }
}

#[test]
fn waits_have_limits() {
    // It says nothing, or begins and stops, until the test is over.
    let gate = Arc::new(Mutex::new(()));
    let closed = gate.lock().unwrap();
    for (begin, part) in [
        (&b""[..], "no answer within the time limit"),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 1200000\r\n\r\nabc",
            "nothing more came within the time limit",
        ),
    ] {
        let shut = gate.clone();
        let server = Server::new(move |_, _, stream| {
            let _ = stream.write_all(begin);
            drop(shut.lock());
        });
        let mut client = client();
        let patience = Patience {
            first_byte: Duration::from_millis(50),
            stall: Duration::from_millis(50),
            rounds: 2,
            ..client.patience
        };
        client = Client::new(Proxies::default(), patience, false).unwrap();
        let error = Place::new().fetch(&client, &[&server.url], &body()).unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert!(error.to_string().contains(part), "{error}");
    }
    drop(closed);
}

#[test]
fn redirects_are_followed() {
    let target = Server::sound(&body());
    let to = target.url.clone();
    let server = Server::new(move |_, _, stream| {
        say(stream, "302 Found", &format!("Location: {to}/elsewhere\r\n"), b"");
    });
    let place = Place::new();
    std::fs::write(place.folder.path().join("file.part"), &body()[..10]).unwrap();
    std::fs::write(place.folder.path().join("file.part.from"), b"\"one\"").unwrap();
    place.fetch(&client(), &[&server.url], &body()).unwrap();
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    // The range goes with it.
    assert_eq!(field(&target.requests()[0], "range"), Some("bytes=10-"));
}

#[test]
fn the_next_mirror_is_asked_and_stays_the_first() {
    let gone = Server::new(|_, _, stream| say(stream, "404 Not Found", "", b""));
    let wrong = Server::new(|_, _, stream| say(stream, "200 OK", "", &vec![7; body().len()]));
    let sound = Server::sound(&body());
    // Nobody listens there.
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        format!("http://{}", listener.local_addr().unwrap())
    };
    let mirrors = Mirrors::new(vec![
        nobody.clone(),
        gone.url.clone(),
        wrong.url.clone(),
        sound.url.clone(),
    ]);
    let progress = Progress::new(true);
    let bar = progress.stage("fetch", 0, Unit::Bytes);
    let check = |path: &Path| match std::fs::read(path).unwrap() == body() {
        true => Ok(()),
        false => Err("other bytes".to_owned()),
    };
    let expected = Expected {
        size: body().len() as u64,
        check: &check,
    };
    let place = Place::new();
    for name in ["one", "two"] {
        let to = place.folder.path().join(name);
        client().download(&mirrors, name, &to, &expected, &bar).unwrap();
        assert_eq!(std::fs::read(to).unwrap(), body());
    }
    assert_eq!(
        (
            gone.requests().len(),
            wrong.requests().len(),
            sound.requests().len()
        ),
        (1, 1, 2)
    );
    assert_eq!(mirrors.current(), sound.url);

    let error = place
        .fetch(&client(), &[&nobody, &gone.url], &body())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Host);
    let said = error.to_string();
    assert!(said.contains("no mirror gave x86_64/file"), "{said}");
    assert!(said.contains(&nobody) && said.contains(&gone.url), "{said}");
}

#[test]
fn runs_at_the_same_time_share_one_download() {
    let server = Server::sound(&body());
    let place = Place::new();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| place.fetch(&client(), &[&server.url], &body()).unwrap());
        }
    });
    assert_eq!(std::fs::read(place.file()).unwrap(), body());
    assert_eq!(server.requests().len(), 1);
    assert_eq!(place.names(), ["file"]);
}

#[test]
fn a_run_that_holds_a_file_and_does_nothing_is_not_waited_for_without_end() {
    let place = Place::new();
    let Held::Ours(held) = Partial::take(&place.file(), Duration::ZERO).unwrap() else {
        panic!("nobody had it");
    };
    let Err(error) = Partial::take(&place.file(), Duration::from_millis(10)) else {
        panic!("it was taken twice");
    };
    assert!(error.to_string().contains("another run holds"), "{error}");
    drop(held);
    assert!(matches!(
        Partial::take(&place.file(), Duration::ZERO).unwrap(),
        Held::Ours(_)
    ));
}

#[test]
fn an_index_is_kept_asked_after_and_taken_offline() {
    let server = Server::new(
        |lines, number, stream| match (number, field(lines, "if-none-match")) {
            (_, Some("\"v1\"")) => say(stream, "304 Not Modified", "", b""),
            _ => say(stream, "200 OK", "ETag: \"v1\"\r\n", b"an index"),
        },
    );
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let mirrors = Mirrors::new(vec![server.url.clone()]);
    for _ in 0..2 {
        let (bytes, ()) = client()
            .index(&mirrors, "x86_64/Packages.adb", &store, any)
            .unwrap();
        assert_eq!(bytes, b"an index");
    }
    let asked: Vec<Option<String>> = server
        .requests()
        .iter()
        .map(|lines| field(lines, "if-none-match").map(str::to_owned))
        .collect();
    assert_eq!(asked, [None, Some("\"v1\"".to_owned())]);

    let offline = Client::new(Proxies::default(), Patience::default(), true).unwrap();
    assert_eq!(
        offline
            .index(&mirrors, "x86_64/Packages.adb", &store, any)
            .unwrap()
            .0,
        b"an index"
    );
    let error = offline
        .index(&mirrors, "riscv64/Packages.adb", &store, any)
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Host);
    assert!(error.to_string().contains("--offline"), "{error}");
    assert_eq!(server.requests().len(), 2);
    // A file that is asked for offline is an error that says so.
    let place = Place::new();
    let error = place.fetch(&offline, &[&server.url], &body()).unwrap_err();
    assert!(error.to_string().contains("x86_64/file"), "{error}");
}

#[test]
fn an_index_that_is_wrong_is_passed_over_and_never_kept() {
    let wrong = Server::new(|lines, _, stream| match field(lines, "if-none-match") {
        Some(_) => say(stream, "304 Not Modified", "", b""),
        None => say(stream, "200 OK", "ETag: \"bad\"\r\n", b"garbage"),
    });
    let sound = Server::new(|_, _, stream| say(stream, "200 OK", "ETag: \"good\"\r\n", b"an index"));
    let read = |bytes: &[u8]| match bytes {
        b"an index" => Ok(7),
        _ => Err("it is no index".to_owned()),
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let path = "x86_64/Packages.adb";
    let mirrors = || Mirrors::new(vec![wrong.url.clone(), sound.url.clone()]);
    let kept = |server: &Server| {
        let url = format!("{}/{path}", server.url);
        store.root().join(INDEXES).join(partial::name_of_url(&url))
    };
    for _ in 0..2 {
        let both = mirrors();
        let (bytes, number) = client().index(&both, path, &store, read).unwrap();
        assert_eq!((&*bytes, number), (&b"an index"[..], 7));
        assert_eq!(both.current(), sound.url);
        assert!(!kept(&wrong).exists());
    }
    // One alone is an error, which says what to do.
    let alone = Mirrors::new(vec![wrong.url.clone()]);
    let error = client().index(&alone, path, &store, read).unwrap_err();
    assert_eq!(error.kind(), Kind::Verification);
    let said = error.to_string();
    assert!(
        said.contains("it is no index") && said.contains("`keys`"),
        "{said}"
    );
    // What an earlier version kept is not believed either, even where the server still has it.
    partial::keep(&kept(&wrong), b"garbage", Some("\"bad\"")).unwrap();
    let (_, number) = client().index(&mirrors(), path, &store, read).unwrap();
    assert_eq!(number, 7);
    let offline = Client::new(Proxies::default(), Patience::default(), true).unwrap();
    assert_eq!(offline.index(&mirrors(), path, &store, read).unwrap().1, 7);
    let error = offline.index(&alone, path, &store, read).unwrap_err();
    assert_eq!(error.kind(), Kind::Verification);
    assert!(error.to_string().contains("it is no index"), "{error}");
    assert!(
        wrong
            .requests()
            .iter()
            .all(|lines| field(lines, "if-none-match").is_none())
    );
}

#[test]
fn an_index_that_ends_early_or_has_no_end_is_refused() {
    let store_folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(store_folder.path())).unwrap();
    let get = |answer: fn(&[String], usize, &mut TcpStream)| {
        let server = Server::new(answer);
        let mirrors = Mirrors::new(vec![server.url.clone()]);
        client()
            .index(&mirrors, "x86_64/Packages.adb", &store, any)
            .unwrap_err()
            .to_string()
    };
    let early = get(|_, _, stream| cut(stream, &body(), 100));
    assert!(early.contains("fetching"), "{early}");
    let large = get(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n");
    });
    assert!(large.contains("which no index is"), "{large}");
    assert_eq!(
        std::fs::read_dir(store_folder.path().join(INDEXES))
            .unwrap()
            .count(),
        0
    );
}

#[test]
fn a_byte_now_and_then_is_not_waited_for_without_end() {
    let server = Server::new(|_, _, stream| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1200000\r\n\r\n");
        while stream.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let patience = Patience {
        stall: Duration::from_millis(200),
        least: 1000,
        rounds: 1,
        ..client().patience
    };
    let client = Client::new(Proxies::default(), patience, false).unwrap();
    let error = Place::new().fetch(&client, &[&server.url], &body()).unwrap_err();
    assert_eq!(error.kind(), Kind::Host);
    let said = error.to_string();
    assert!(
        said.contains("bytes came in 0 s, where 1000 are the least"),
        "{said}"
    );
    // An index, too.
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let mirrors = Mirrors::new(vec![server.url.clone()]);
    let error = client
        .index(&mirrors, "x86_64/Packages.adb", &store, any)
        .unwrap_err();
    assert!(error.to_string().contains("are the least"), "{error}");
}

#[test]
fn a_validator_is_believed_of_its_own_bytes_only() {
    let server = Server::new(|lines, _, stream| match field(lines, "if-none-match") {
        Some("\"v2\"") => say(stream, "304 Not Modified", "", b""),
        _ => say(stream, "200 OK", "ETag: \"v2\"\r\n", b"the second index"),
    });
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(Some(folder.path())).unwrap();
    let mirrors = Mirrors::new(vec![server.url.clone()]);
    let index = || {
        client()
            .index(&mirrors, "x86_64/Packages.adb", &store, any)
            .unwrap()
            .0
    };
    assert_eq!(index(), b"the second index");
    // A run that got the first index wrote it last, and its validator before this one's.
    let kept = store.root().join(INDEXES);
    let kept = kept.join(partial::name_of_url(&format!(
        "{}/x86_64/Packages.adb",
        server.url
    )));
    crate::store::write_whole(&kept, b"the first index").unwrap();
    assert_eq!(index(), b"the second index");
    assert_eq!(index(), b"the second index");
    let asked: Vec<bool> = server
        .requests()
        .iter()
        .map(|lines| field(lines, "if-none-match").is_some())
        .collect();
    assert_eq!(asked, [false, false, true]);
}

/// A proxy as most are set up: it takes whole http URLs, and makes tunnels to port 443 alone.
fn proxy() -> Server {
    Server::new(|lines, _, stream| {
        let Some(rest) = lines[0].strip_prefix("GET http://") else {
            return say(stream, "403 Forbidden", "", b"");
        };
        let (host, path) = rest.split_at(rest.find('/').unwrap());
        let mut there = TcpStream::connect(host).unwrap();
        let fields = lines[1..].iter().filter(|line| !line.starts_with("Proxy-"));
        let fields: String = fields.map(|line| format!("{line}\r\n")).collect();
        there
            .write_all(format!("GET {path}\r\n{fields}\r\n").as_bytes())
            .unwrap();
        let _ = std::io::copy(&mut there, stream);
    })
}

/// A client with variables.
fn client_with(variables: &[(&str, &str)]) -> Client {
    let proxies = Proxies::from(|name| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| (*value).to_owned())
    });
    Client::new(proxies, client().patience, false).unwrap()
}

#[test]
fn http_urls_are_named_whole_to_a_proxy() {
    let (target, proxy) = (Server::sound(&body()), proxy());
    let host = proxy.url.strip_prefix("http://").unwrap();
    let client = client_with(&[("http_proxy", &format!("http://me:a%20word@{host}"))]);
    // Two files, so that a connection that is kept is told the whole URL again.
    for _ in 0..2 {
        let place = Place::new();
        std::fs::write(place.folder.path().join("file.part"), &body()[..10]).unwrap();
        std::fs::write(place.folder.path().join("file.part.from"), b"\"one\"").unwrap();
        place.fetch(&client, &[&target.url], &body()).unwrap();
        assert_eq!(std::fs::read(place.file()).unwrap(), body());
    }
    for lines in proxy.requests() {
        assert_eq!(lines[0], format!("GET {}/x86_64/file HTTP/1.1", target.url));
        assert_eq!(field(&lines, "proxy-authorization"), Some("Basic bWU6YSB3b3Jk"));
        assert_eq!(field(&lines, "host"), target.url.strip_prefix("http://"));
    }
    assert_eq!((proxy.requests().len(), target.requests().len()), (2, 2));
    assert_eq!(field(&target.requests()[0], "range"), Some("bytes=10-"));
    // Of https URLs the proxy gets to know the host only.
    let client = client_with(&[("all_proxy", &proxy.url)]);
    let error = Place::new().fetch(&client, &["https://127.0.0.1:1"], &body());
    assert_eq!(error.unwrap_err().kind(), Kind::Host);
    assert_eq!(proxy.requests()[2][0], "CONNECT 127.0.0.1:1 HTTP/1.1");
}

#[test]
fn each_place_that_a_redirect_leads_to_has_its_own_proxy() {
    let (target, proxy) = (Server::sound(&body()), proxy());
    let leading = |to: String| {
        Server::new(move |_, _, stream| {
            say(stream, "302 Found", &format!("Location: {to}/elsewhere\r\n"), b"");
        })
    };
    let first = leading(target.url.clone());
    let port = |server: &Server| server.address.to_string();
    for (direct, through_proxy) in [
        (port(&target), vec![format!("{}/x86_64/file", first.url)]),
        (port(&first), vec![format!("{}/elsewhere", target.url)]),
        ("127.0.0.0/8".to_owned(), vec![]),
        (
            "localhost".to_owned(),
            vec![
                format!("{}/x86_64/file", first.url),
                format!("{}/elsewhere", target.url),
            ],
        ),
    ] {
        let before = proxy.requests().len();
        let client = client_with(&[("http_proxy", &proxy.url), ("no_proxy", &direct)]);
        let place = Place::new();
        place.fetch(&client, &[&first.url], &body()).unwrap();
        assert_eq!(std::fs::read(place.file()).unwrap(), body());
        let seen = proxy.requests();
        let seen: Vec<&str> = seen[before..]
            .iter()
            .map(|lines| lines[0].split(' ').nth(1).unwrap())
            .collect();
        assert_eq!(seen, through_proxy, "{direct}");
    }
    // From a scheme without a proxy to one with.
    let before = proxy.requests().len();
    let first = leading("https://127.0.0.1:1".to_owned());
    let client = client_with(&[("https_proxy", &proxy.url)]);
    assert!(Place::new().fetch(&client, &[&first.url], &body()).is_err());
    assert_eq!(proxy.requests()[before][0], "CONNECT 127.0.0.1:1 HTTP/1.1");
    // Not out of HTTP.
    let first = Server::new(|_, _, stream| say(stream, "302 Found", "Location: file:///etc/passwd\r\n", b""));
    let error = Place::new()
        .fetch(&client, &[&first.url], &body())
        .unwrap_err()
        .to_string();
    assert!(error.contains("it leads to `file:///etc/passwd`"), "{error}");
}

#[test]
fn a_proxy_that_is_none_or_cannot_be_used_is_named() {
    let wrong = Proxies::from(|name| (name == "https_proxy").then(|| "nonsense://x".to_owned()));
    let error = Client::new(wrong, Patience::default(), false).err().unwrap();
    assert_eq!(error.kind(), Kind::Usage);
    assert!(error.to_string().contains("nonsense://x"), "{error}");
    // One that is not needed is no error.
    let target = Server::sound(&body());
    let variables = [("all_proxy", "socks5://me:secret@127.0.0.1:9"), ("no_proxy", "*")];
    Place::new()
        .fetch(&client_with(&variables), &[&target.url], &body())
        .unwrap();
    let error = Place::new()
        .fetch(&client_with(&variables[..1]), &[&target.url], &body())
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Host);
    let said = error.to_string();
    assert!(
        said.contains("socks5://127.0.0.1:9") && !said.contains("secret"),
        "{said}"
    );
}
