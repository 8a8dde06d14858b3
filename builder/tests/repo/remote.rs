//! Building over HTTP: mirrors, the store, `--offline`, `--mirror`, `--trust`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};

use lycia::error::Kind;

use crate::http::Served;
use crate::program::{names, read, run, succeed, text};
use crate::small::{Small, file_of_its_own, new_key};

/// A project whose repository is at a place that does not exist, and a server that has it.
fn remote() -> (Small, Served) {
    let small = Small::new(0);
    small.write(
        "configs/repositories/local.toml",
        "[[repository]]\nlocation = \"https://repo.invalid/current/main\"\nkeys = [\"keys/*.pub\"]\n",
    );
    // The server has it under another path than the definition says.
    std::fs::create_dir_all(small.path("served/mirror")).unwrap();
    std::fs::rename(small.path("repository"), small.path("served/mirror/main")).unwrap();
    let served = Served::new(&small.path("served"));
    (small, served)
}

fn build(small: &Small, served: &Served, output: &str) -> Command {
    let mut command = small.build();
    command
        .arg("--mirror")
        .arg(format!("https://repo.invalid/current={}/mirror", served.url))
        .arg("--output")
        .arg(small.path(output));
    without_proxies(&mut command);
    command
}

/// Takes the variables away that say which proxies there are.
fn without_proxies(command: &mut Command) {
    for name in ["http_proxy", "https_proxy", "all_proxy", "no_proxy"] {
        command.env_remove(name).env_remove(name.to_uppercase());
    }
}

/// A proxy that takes whole http URLs and refuses tunnels, as proxies do for all ports but 443. What is asked of the
/// host `repo.invalid`, which nobody else knows, it asks of a server.
struct Proxy {
    url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    fn new(server: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, server) = (asked.clone(), server.strip_prefix("http://").unwrap().to_owned());
        // It ends with the test program.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, seen, server) = (stream.unwrap(), seen.clone(), server.clone());
                std::thread::spawn(move || {
                    let lines = BufReader::new(stream.try_clone().unwrap()).lines();
                    let head: Vec<String> = lines
                        .map_while(Result::ok)
                        .take_while(|line| !line.is_empty())
                        .collect();
                    let Some(first) = head.first() else { return };
                    seen.lock().unwrap().push(first.clone());
                    let Some(rest) = first.strip_prefix("GET http://") else {
                        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
                        return;
                    };
                    let (host, path) = rest.split_at(rest.find('/').unwrap());
                    let to = if host == "repo.invalid" { &*server } else { host };
                    let mut there = TcpStream::connect(to).unwrap();
                    let fields: String = head[1..].iter().map(|line| format!("{line}\r\n")).collect();
                    let request = format!("GET {path}\r\nConnection: close\r\n{fields}\r\n");
                    there.write_all(request.as_bytes()).unwrap();
                    let _ = std::io::copy(&mut there, &mut stream);
                });
            }
        });
        Proxy { url, asked }
    }

    /// What it was asked since this was called last.
    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

#[test]
fn a_build_through_a_proxy() {
    let small = Small::new(0);
    let served = Served::new(&small.path("repository"));
    let proxy = Proxy::new(&served.url);
    let at = |location: &str| {
        small.write(
            "configs/repositories/local.toml",
            &format!("[[repository]]\nlocation = \"{location}\"\nkeys = [\"keys/*.pub\"]\n"),
        );
    };
    let build = |output: &str, variables: &[(&str, &str)]| {
        let _ = std::fs::remove_dir_all(small.path("store"));
        let mut command = small.build();
        without_proxies(&mut command);
        command.envs(variables.iter().copied());
        command.arg("--output").arg(small.path(output));
        command
    };
    at("http://repo.invalid/main");
    // There is no such host but through the proxy.
    std::os::unix::fs::symlink(".", small.path("repository/main")).unwrap();
    refused(&mut build("none", &[]), Kind::Host, &["repo.invalid"]);
    assert_eq!(proxy.asked(), [] as [&str; 0]);
    let proxied = [("http_proxy", proxy.url.as_str())];
    succeed(&mut build("proxied", &proxied));
    let asked = proxy.asked();
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert_eq!(
        asked[0],
        "GET http://repo.invalid/main/x86_64/Packages.adb HTTP/1.1"
    );
    assert!(
        asked
            .iter()
            .all(|line| line.starts_with("GET http://repo.invalid/main/x86_64/"))
    );
    // Capitals, and all schemes at once.
    succeed(&mut build("capitals", &[("ALL_PROXY", &proxy.url)]));
    assert_eq!(proxy.asked().len(), 4);
    assert!(small.results(&small.path("capitals")) == small.results(&small.path("proxied")));

    // A host that is reached without, by its address and by its network.
    at(&format!("{}/main", served.url));
    for (list, through) in [
        ("localhost,127.0.0.1", 0),
        ("10.0.0.0/8 127.0.0.0/8", 0),
        ("*", 0),
        ("10.0.0.0/8,127.0.0.2", 4),
        ("", 4),
    ] {
        succeed(&mut build("direct", &[proxied[0], ("no_proxy", list)]));
        assert_eq!(proxy.asked().len(), through, "{list}");
    }
    // Offline, nobody is asked.
    let mut offline = small.build();
    without_proxies(&mut offline);
    offline.envs(proxied).arg("--offline").arg("--force");
    succeed(offline.arg("--output").arg(small.path("offline")));
    assert_eq!(proxy.asked(), [] as [&str; 0]);
}

fn refused(command: &mut Command, kind: Kind, parts: &[&str]) {
    let ended = run(command);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(i32::from(kind.code())), "{said}");
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}

#[test]
fn a_build_over_http_is_the_same_again_offline_and_from_the_folder() {
    let (small, served) = remote();
    refused(
        build(&small, &served, "none").arg("--offline"),
        Kind::Host,
        &["--offline", "no index"],
    );
    succeed(&mut build(&small, &served, "first"));
    let lock = text(&read(&small.path("first/small-x86_64.lock")));
    assert!(
        lock.contains("https://repo.invalid/current/main/x86_64/Packages.adb"),
        "{lock}"
    );
    assert!(!lock.contains("127.0.0.1"), "{lock}");
    let downloads = names(&small.path("store/packages"));
    assert_eq!(downloads.len(), 3, "{downloads:?}");
    assert!(
        downloads.iter().all(|name| name.ends_with(".apk")),
        "{downloads:?}"
    );

    // The server goes.
    let to = format!("https://repo.invalid/current={}/mirror", served.url);
    drop(served);
    let offline = |output: &str| {
        let mut command = small.build();
        command.arg("--offline").arg("--mirror").arg(&to);
        command.arg("--output").arg(small.path(output));
        command
    };
    succeed(&mut offline("offline"));
    assert!(small.results(&small.path("offline")) == small.results(&small.path("first")));
    // What is missing is named, all of it.
    for name in &downloads {
        std::fs::remove_file(small.path(&format!("store/packages/{name}"))).unwrap();
    }
    refused(
        &mut offline("missing"),
        Kind::Host,
        &[
            "the store lacks 3 packages",
            "base 1-r0",
            "filler 1-r0",
            "kernel 1-r0",
            "without --offline",
        ],
    );
    // From the folder itself.
    let mut folder = small.build();
    folder.arg("--mirror").arg(format!(
        "https://repo.invalid/current={}",
        small.path("served/mirror").display()
    ));
    succeed(folder.arg("--output").arg(small.path("folder")));
    assert!(small.results(&small.path("folder")) == small.results(&small.path("first")));
}

#[test]
fn damage_in_the_store_is_mended_from_the_server() {
    let (small, served) = remote();
    succeed(&mut build(&small, &served, "first"));
    let folder = small.path("store/packages");
    for (place, output) in [(0.1, "one"), (0.5, "two"), (0.9, "three")] {
        for name in names(&folder) {
            let path = folder.join(&name);
            let mut bytes = read(&path);
            let at = (bytes.len() as f64 * place) as usize;
            bytes[at] ^= 0x20;
            std::fs::write(&path, &bytes).unwrap();
        }
        std::fs::remove_dir_all(small.path("store/packs")).unwrap();
        succeed(&mut build(&small, &served, output));
        assert!(small.results(&small.path(output)) == small.results(&small.path("first")));
    }
}

#[test]
fn a_mirror_of_another_key_needs_its_trust() {
    let (small, served) = remote();
    // A repository of one's own in place of the real one.
    let (key, public) = new_key("own.pub");
    small.write("own.pub", &public);
    let folder = small.path("served/mirror/main");
    std::fs::rename(&folder, small.path("repository")).unwrap();
    for name in ["base", "kernel", "filler", "left", "right", "needy"] {
        std::fs::remove_file(small.package_file(name, "1-r0")).unwrap();
    }
    for name in ["kernel", "filler"] {
        small.package_signed(
            name,
            "1-r0",
            &[],
            file_of_its_own(name),
            std::slice::from_ref(&key),
        );
    }
    small.index_signed(std::slice::from_ref(&key));
    std::fs::rename(small.path("repository"), &folder).unwrap();
    refused(
        &mut build(&small, &served, "out"),
        Kind::Verification,
        &["local/1", "untrusted"],
    );
    // Trusted, it comes as far as its packages carry it.
    let trusting = |small: &Small| {
        let mut command = build(small, &served, "out");
        command.arg("--trust").arg(small.path("own.pub"));
        command
    };
    refused(&mut trusting(&small), Kind::Target, &["boot"]);
    refused(
        small.build().arg("--trust").arg(small.path("own.pub")),
        Kind::Usage,
        &["--trust", "--mirror"],
    );
    refused(
        small.build().args(["--mirror", "https://other.invalid=/srv"]),
        Kind::Usage,
        &["https://other.invalid", "https://repo.invalid/current/main"],
    );
    refused(
        small.build().args(["--mirror", "nonsense"]),
        Kind::Usage,
        &["FROM=TO"],
    );
}

#[test]
fn servers_that_fail_are_told_apart() {
    let (small, served) = remote();
    std::fs::remove_file(small.path("served/mirror/main/x86_64/filler-1-r0.apk")).unwrap();
    refused(
        &mut build(&small, &served, "out"),
        Kind::Input,
        &["package filler 1-r0", "filler-1-r0.apk", "404"],
    );
    let folder = small.path("served/mirror/main/x86_64");
    std::fs::write(folder.join("filler-1-r0.apk"), b"too short").unwrap();
    refused(
        &mut build(&small, &served, "out"),
        Kind::Verification,
        &["filler", "9 bytes, the index says", "out of step"],
    );
    std::fs::remove_file(folder.join("Packages.adb")).unwrap();
    refused(
        &mut build(&small, &served, "out"),
        Kind::Input,
        &["repository local/1", "Packages.adb", "404"],
    );
    // Two servers, of which one is gone.
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap()
    };
    let small = Small::new(0);
    let second = Served::new(&small.path("repository"));
    small.write(
        "configs/repositories/local.toml",
        &format!(
            "[[repository]]\nlocation = \"http://{nobody}/main\"\nmirrors = [\"{}/\"]\nkeys = [\"keys/*.pub\"]\n",
            second.url
        ),
    );
    let output: PathBuf = small.path("output");
    succeed(small.build().arg("--output").arg(output));
}

#[test]
fn a_mirror_that_has_damaged_contents_or_a_damaged_index_is_passed_over() {
    let small = Small::new(300_000);
    crate::program::copy_privately(&small.path("repository"), &small.path("damaged"));
    let (first, second) = (
        Served::new(&small.path("damaged")),
        Served::new(&small.path("repository")),
    );
    small.write(
        "configs/repositories/local.toml",
        &format!(
            "[[repository]]\nlocation = \"{}\"\nmirrors = [\"{}\"]\nkeys = [\"keys/*.pub\"]\n",
            first.url, second.url
        ),
    );
    let build = |output: &str| {
        let _ = std::fs::remove_dir_all(small.path("store"));
        let mut command = small.build();
        without_proxies(&mut command);
        command.arg("--output").arg(small.path(output));
        command
    };
    // One bit of its contents: by its identity it is the package.
    let path = small.path("damaged/x86_64/filler-1-r0.apk");
    let whole = read(&path);
    let mut bytes = whole.clone();
    bytes[whole.len() / 10 * 9] ^= 0x20;
    let identity = |bytes: &[u8]| lycia_apk::package::identity(bytes).unwrap();
    assert_eq!(identity(&bytes), identity(&whole));
    std::fs::write(&path, &bytes).unwrap();
    succeed(&mut build("contents"));
    std::fs::write(&path, &whole).unwrap();
    succeed(&mut build("sound"));
    assert!(small.results(&small.path("contents")) == small.results(&small.path("sound")));
    // Garbage, half of it, and one by somebody else.
    let index = small.path("damaged/x86_64/Packages.adb");
    let sound = read(&index);
    let by_stranger = {
        let read = lycia_apk::index::Index::read(
            &sound,
            &lycia_apk::keys::KeyRing::new(),
            lycia_apk::package::Trust::AllowUntrusted,
        )
        .unwrap();
        read.write(&Default::default(), &[new_key("stranger.pub").0])
            .unwrap()
    };
    for wrong in [
        b"garbage".to_vec(),
        sound[..sound.len() / 2].to_vec(),
        by_stranger,
    ] {
        std::fs::write(&index, &wrong).unwrap();
        for output in ["index", "index again"] {
            succeed(&mut build(output));
        }
        // The same from the store, where nothing of it was kept.
        let mut again = small.build();
        without_proxies(&mut again);
        succeed(again.arg("--force").arg("--output").arg(small.path("kept")));
        assert!(small.results(&small.path("kept")) == small.results(&small.path("sound")));
    }
    // Both are wrong.
    std::fs::copy(&index, small.path("repository/x86_64/Packages.adb")).unwrap();
    refused(
        &mut build("none"),
        Kind::Verification,
        &["no mirror gave", &first.url, &second.url, "untrusted", "`keys`"],
    );
}

#[test]
fn an_index_may_name_packages_by_each_kind_of_hash() {
    use lycia_apk::index::IndexHash;
    let (small, served) = remote();
    for (hash, output, digits) in [
        (IndexHash::Sha256, "whole", 64),
        (IndexHash::Sha256_160, "cut", 40),
        (IndexHash::Sha512, "long", 128),
    ] {
        std::fs::rename(small.path("served/mirror/main"), small.path("repository")).unwrap();
        small.index_hashed(hash);
        std::fs::rename(small.path("repository"), small.path("served/mirror/main")).unwrap();
        succeed(&mut build(&small, &served, output));
        let lock = text(&read(&small.path(&format!("{output}/small-x86_64.lock"))));
        let identity = lock.split("identity = \"").nth(1).unwrap().split('"').next();
        assert_eq!(identity.map(str::len), Some(digits), "{lock}");
    }
}
