//! Repositories over HTTP, from a server of this test that breaks off, refuses and lies as it is told.

use super::*;
use crate::fixture::Fixture;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::net::TcpListener;
use std::sync::Mutex;

/// What a server does wrong.
#[derive(Clone, Default)]
struct Faults {
    /// Breaks off after this many bytes of each answer.
    breaks_after: Option<usize>,
    /// Takes no notice of ranges.
    no_ranges: bool,
    /// Paths that end so are not there.
    lacks: Option<&'static str>,
    /// Paths that end so have a byte changed.
    changes: Option<&'static str>,
    /// Says that it is overloaded to this many requests first.
    busy: usize,
}

#[derive(Default)]
struct Told {
    requests: Vec<(String, Option<u64>)>,
}

struct Server {
    base: String,
    told: Arc<Mutex<Told>>,
}

fn serve(folder: &Path, faults: Faults) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let told = Arc::new(Mutex::new(Told::default()));
    let (folder, log) = (folder.to_owned(), told.clone());
    std::thread::spawn(move || {
        let mut busy = faults.busy;
        for stream in listener.incoming() {
            let Ok(stream) = stream else { return };
            let mut reader = BufReader::new(stream);
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 || line.trim().is_empty() {
                    break;
                }
                lines.push(line.trim().to_owned());
            }
            let Some(path) = lines.first().and_then(|line| line.split(' ').nth(1)) else {
                continue;
            };
            let path = path.to_owned();
            let range: Option<u64> = lines.iter().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                if !name.eq_ignore_ascii_case("range") {
                    return None;
                }
                value
                    .trim()
                    .strip_prefix("bytes=")?
                    .strip_suffix('-')?
                    .parse()
                    .ok()
            });
            log.lock().unwrap().requests.push((path.clone(), range));
            let mut stream = reader.into_inner();
            let fits = |end: Option<&str>| end.is_some_and(|end| path.ends_with(end));
            let bytes = std::fs::read(folder.join(path.trim_start_matches('/'))).ok();
            let answer = match bytes {
                _ if busy > 0 => {
                    busy -= 1;
                    Err("503 Busy")
                }
                Some(mut bytes) if !fits(faults.lacks) => {
                    if fits(faults.changes) {
                        let middle = bytes.len() / 2;
                        bytes[middle] ^= 1;
                    }
                    Ok(bytes)
                }
                _ => Err("404 Not Found"),
            };
            let _ = match answer {
                Err(status) => write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                ),
                Ok(bytes) => {
                    let first = range.filter(|_| !faults.no_ranges).unwrap_or(0) as usize;
                    let head = if first > 0 {
                        format!(
                            "206 Partial Content\r\nContent-Range: bytes {first}-{}/{}",
                            bytes.len() - 1,
                            bytes.len()
                        )
                    } else {
                        "200 OK".to_owned()
                    };
                    let body = &bytes[first.min(bytes.len())..];
                    let sent = &body[..body.len().min(faults.breaks_after.unwrap_or(usize::MAX))];
                    write!(
                        stream,
                        "HTTP/1.1 {head}\r\nETag: \"one\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                        body.len()
                    )
                    .and_then(|()| stream.write_all(sent))
                }
            };
        }
    });
    Server { base, told }
}

fn lines() -> Vec<String> {
    vec!["v3 ${mirror}/live/packages".to_owned()]
}

fn open(fixture: &Fixture, servers: &[&Server]) -> Result<Repositories, SourceError> {
    let mirrors: Vec<String> = servers.iter().map(|server| server.base.clone()).collect();
    Repositories::network(&lines(), &mirrors, "x86_64", fixture.medium().keys().unwrap())
}

/// Names of the packages that a small world unpacks to, with their bytes.
fn unpack(repositories: &Repositories) -> Result<BTreeMap<String, u64>, SourceError> {
    let world = ["base", "musl", "kernel", "grub-i386-pc"].map(str::to_owned);
    let chosen = repositories.solve(&world)?;
    let scratch = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    let unpacked = repositories.unpack(&chosen, scratch.path(), &mut |done, _| told.push(done))?;
    // Progress goes by bytes: from nothing to everything, the largest among the first.
    let total: u64 = chosen.iter().map(|one| one.entry.installed_size).sum();
    assert!(told.is_sorted() && told.len() == chosen.len() + 1, "{told:?}");
    assert_eq!((told.first(), told.last()), (Some(&0), Some(&total)));
    let size = |one: &Unpacked| one.contents.iter().map(Content::len).sum();
    Ok(unpacked
        .iter()
        .map(|one| (one.entry.name.clone(), size(one)))
        .collect())
}

#[test]
fn over_http_it_is_the_same_as_from_the_medium() {
    let fixture = Fixture::new();
    let medium = fixture.medium();
    let local = Repositories::local(&medium.packages(), "x86_64", medium.keys().unwrap()).unwrap();
    let expected = unpack(&local).unwrap();
    assert!(expected["grub-i386-pc"] > 1 << 20);
    let folder = fixture.folder.path();
    let plain = serve(folder, Faults::default());
    assert_eq!(unpack(&open(&fixture, &[&plain]).unwrap()).unwrap(), expected);
    // Broken off every 300 KB: taken up where it broke, without asking for anything twice.
    let broken = serve(
        folder,
        Faults {
            breaks_after: Some(300_000),
            ..Faults::default()
        },
    );
    assert_eq!(unpack(&open(&fixture, &[&broken]).unwrap()).unwrap(), expected);
    let told = broken.told.lock().unwrap();
    let grub: Vec<u64> = told
        .requests
        .iter()
        .filter(|(path, _)| path.contains("grub-i386-pc"))
        .map(|(_, range)| range.unwrap_or(0))
        .collect();
    assert!(grub.len() > 2, "{grub:?}");
    assert!(
        grub.iter()
            .enumerate()
            .all(|(at, first)| *first == at as u64 * 300_000),
        "{grub:?}"
    );
    // A server that knows no ranges and breaks off never gives it: that is an end, not a loop.
    let stubborn = serve(
        folder,
        Faults {
            breaks_after: Some(100),
            no_ranges: true,
            ..Faults::default()
        },
    );
    assert!(matches!(
        open(&fixture, &[&stubborn]),
        Err(SourceError::Fetch { .. })
    ));
    assert!(stubborn.told.lock().unwrap().requests.len() < 40);
    // One that is busy for a moment is asked again.
    let busy = serve(
        folder,
        Faults {
            busy: 1,
            ..Faults::default()
        },
    );
    assert!(open(&fixture, &[&busy]).is_ok());
}

#[test]
fn what_is_wrong_is_refused_and_another_mirror_asked() {
    let fixture = Fixture::new();
    let folder = fixture.folder.path();
    let with = |faults: Faults| serve(folder, faults);
    let good = with(Faults::default());
    let changed_index = with(Faults {
        changes: Some("Packages.adb"),
        ..Faults::default()
    });
    let no_index = with(Faults {
        lacks: Some("Packages.adb"),
        ..Faults::default()
    });
    let no_package = with(Faults {
        lacks: Some("grub-i386-pc-1-r0.apk"),
        ..Faults::default()
    });
    let changed_package = with(Faults {
        changes: Some("kernel-1-r0.apk"),
        ..Faults::default()
    });
    let expected = unpack(&open(&fixture, &[&good]).unwrap()).unwrap();
    // Alone they are errors that name the file.
    for (server, part) in [(&changed_index, "Packages.adb"), (&no_index, "404")] {
        let error = open(&fixture, &[server]).err().unwrap().to_string();
        assert!(error.contains(part), "{error}");
    }
    for (server, part) in [
        (&no_package, "grub-i386-pc-1-r0.apk"),
        (&changed_package, "kernel"),
    ] {
        let error = unpack(&open(&fixture, &[server]).unwrap())
            .unwrap_err()
            .to_string();
        assert!(error.contains(part), "{error}");
    }
    // Another one's signature is none.
    let other = Fixture::new();
    let foreign = serve(other.folder.path(), Faults::default());
    let error = open(&fixture, &[&foreign]).err().unwrap().to_string();
    assert!(error.contains("Packages.adb"), "{error}");
    // With a good one behind them everything is had, and the good one is then asked first.
    for bad in [&changed_index, &no_index, &no_package, &changed_package, &foreign] {
        assert_eq!(unpack(&open(&fixture, &[bad, &good]).unwrap()).unwrap(), expected);
    }
    let gone = Server {
        base: "http://127.0.0.1:1".to_owned(),
        told: Arc::default(),
    };
    assert_eq!(
        unpack(&open(&fixture, &[&gone, &good]).unwrap()).unwrap(),
        expected
    );
    // Two halves make a whole; two faults of one kind do not, and both are told.
    assert_eq!(
        unpack(&open(&fixture, &[&no_package, &changed_package]).unwrap()).unwrap(),
        expected
    );
    let error = open(&fixture, &[&no_index, &changed_index])
        .err()
        .unwrap()
        .to_string();
    assert!(
        error.contains("404") && error.contains(&changed_index.base),
        "{error}"
    );
}

#[test]
fn lines_of_the_installed_system_name_the_first_mirror() {
    let lines = vec!["v3 ${mirror}/main".to_owned(), "https://example.org/x".to_owned()];
    assert_eq!(
        lines_for(&lines, "https://a.example/"),
        ["v3 https://a.example/main", "https://example.org/x"]
    );
}

/// What is pinned keeps its tag in the installed database: apk would otherwise take it from somewhere else at the next upgrade.
#[test]
fn packages_of_a_tagged_repository_carry_its_tag() {
    let fixture = Fixture::new();
    let server = serve(fixture.folder.path(), Faults::default());
    let lines = ["v3 @pin ${mirror}/live/packages".to_owned()];
    let keys = fixture.medium().keys().unwrap();
    let repositories = Repositories::network(&lines, &[server.base.clone()], "x86_64", keys).unwrap();
    let world = ["musl@pin".to_owned()];
    let chosen = repositories.solve(&world).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let unpacked = repositories
        .unpack(&chosen, scratch.path(), &mut |_, _| ())
        .unwrap();
    let tag = |name: &str| {
        let one = unpacked.iter().find(|one| one.entry.name == name).unwrap();
        one.tag.clone()
    };
    assert_eq!(tag("musl").as_deref(), Some("pin"));
    assert!(repositories.solve(&["musl".to_owned()]).is_err());
}
