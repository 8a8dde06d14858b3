//! The real supervisor with real processes, not as process 1: shell services in a temporary directory.
#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests, which clippy does not know as tests"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Generous, because the machine may be busy; nothing waits this long when things work.
const PATIENCE: Duration = Duration::from_secs(30);

struct World {
    dir: tempfile::TempDir,
    supervisor: Child,
}

impl World {
    /// Writes services (`@` stands for the directory) and starts `boot`.
    fn start(services: &[(&str, &str)]) -> World {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        let here = dir.path().to_str().unwrap().to_owned();
        for (name, text) in services {
            fs::write(dir.path().join("d").join(name), text.replace('@', &here)).unwrap();
        }
        let supervisor = Command::new(env!("CARGO_BIN_EXE_seed-supervisor"))
            .args(["--not-pid1", "--quiet", "--services"])
            .arg(dir.path().join("d"))
            .arg("--socket")
            .arg(dir.path().join("socket"))
            .arg("boot")
            .stdin(Stdio::null())
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .spawn()
            .unwrap();
        let world = World { dir, supervisor };
        world.until("the socket is there", || world.path("socket").exists());
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    #[track_caller]
    fn until(&self, what: &str, mut done: impl FnMut() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(
                begin.elapsed() < PATIENCE,
                "waited too long until {what}; services:\n{}",
                self.ctl("list").1
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Exit status, standard output and standard error of seedctl.
    fn ctl(&self, line: &str) -> (i32, String, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_seedctl"))
            .arg("--socket")
            .arg(self.path("socket"))
            .args(line.split(' '))
            .output()
            .unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code().unwrap(),
            text(output.stdout),
            text(output.stderr),
        )
    }

    /// `STATE PID` of a service.
    fn plain(&self, name: &str) -> (String, Option<i32>) {
        let (_, out, _) = self.ctl("list --plain");
        let line = out.lines().find(|line| line.split(' ').next() == Some(name));
        let fields: Vec<&str> = line.unwrap_or("- unloaded -").split(' ').collect();
        (fields[1].to_owned(), fields[2].parse().ok())
    }

    fn wait_for(&self, name: &str, state: &str) {
        self.until(&format!("{name} is {state}"), || self.plain(name).0 == state);
    }

    /// Shuts down and waits; the supervisor must end by itself and with status 0.
    fn finish(mut self) -> String {
        assert_eq!(self.ctl("shutdown").0, 0);
        let begin = Instant::now();
        loop {
            if let Some(status) = self.supervisor.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                break;
            }
            assert!(begin.elapsed() < PATIENCE, "the supervisor does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(!self.path("socket").exists(), "the socket is removed");
        self.read("log")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.supervisor.kill();
        let _ = self.supervisor.wait();
    }
}

fn is_alive(pid: i32) -> bool {
    Path::new(&format!("/proc/{pid}")).exists()
}

fn kill(pid: i32, signal: &str) {
    assert!(
        Command::new("kill")
            .args([signal, &pid.to_string()])
            .status()
            .unwrap()
            .success()
    );
}

#[test]
fn starts_restarts_and_stops_in_order() {
    let world = World::start(&[
        ("boot", "type = internal\ndepends-on: app\nwaits-for: broken\n"),
        (
            "app",
            "command = sh -c \"trap 'echo app-stop >>@/log; exit' TERM; echo app >>@/log; while :; do sleep 0.05; done\"\ndepends-on: base\nrestart = yes\n",
        ),
        (
            "base",
            "type = scripted\ncommand = sh -c \"echo base >>@/log\"\nstop-command = sh -c \"echo base-stop >>@/log\"\n",
        ),
        ("broken", "type = scripted\ncommand = sh -c \"exit 7\"\n"),
    ]);
    world.wait_for("boot", "started");
    assert_eq!(world.plain("broken").0, "failed");
    let (code, out, _) = world.ctl("status broken");
    assert_eq!(code, 0);
    assert!(
        out.contains("Failure: its start command ended with exit status 7"),
        "{out}"
    );
    assert_eq!(
        (world.ctl("is-started boot").0, world.ctl("is-started broken").0),
        (0, 1)
    );

    let first = world.plain("app").1.unwrap();
    world.until("app has written", || world.read("log").contains("app"));
    kill(first, "-KILL");
    world.until("app runs again", || {
        world.plain("app").1.is_some_and(|pid| pid != first)
    });
    world.wait_for("boot", "started");

    let log = world.finish();
    assert_eq!(
        log.lines().collect::<Vec<_>>(),
        ["base", "app", "app", "app-stop", "base-stop"]
    );
}

#[test]
fn background_daemons_are_followed_by_pid_file() {
    let world = World::start(&[
        ("boot", "type = internal\nwaits-for: daemon\nwaits-for: liar\n"),
        (
            "daemon",
            "type = bgprocess\npid-file = @/pid\nrestart = no\ncommand = sh -c \"sleep 1000 & echo $$! >@/pid\"\n",
        ),
        ("liar", "type = bgprocess\npid-file = @/none\ncommand = true\n"),
    ]);
    world.wait_for("boot", "started");
    let pid = world.plain("daemon").1.unwrap();
    assert_eq!(world.read("pid").trim(), pid.to_string());
    let (_, out, _) = world.ctl("status liar");
    assert!(out.contains("opening pid-file"), "{out}");
    // Ends as a daemon of ours, not as an orphan: it is reaped and told.
    kill(pid, "-TERM");
    world.wait_for("daemon", "stopped");
    assert!(!is_alive(pid), "reaped");
    let (_, out, _) = world.ctl("status daemon");
    assert!(out.contains("Last exit: SIGTERM"), "{out}");
    assert_eq!(world.ctl("start daemon").0, 0);
    let pid = world.plain("daemon").1.unwrap();
    world.finish();
    assert!(!is_alive(pid));
}

#[test]
fn readiness_output_environment_and_limits() {
    let world = World::start(&[
        (
            "boot",
            "type = internal\nwaits-for: ready\nwaits-for: unready\nwaits-for: shows\nwaits-for: file\n",
        ),
        (
            "ready",
            "command = sh -c \"sleep 0.1; echo up >&5; exec sleep 1000\"\nready-notification = pipefd:5\n",
        ),
        (
            "unready",
            "command = sh -c \"exec 3>&-; eval \\\"exec $$FD>&-\\\"; sleep 1000\"\nready-notification = pipevar:FD\n",
        ),
        (
            "shows",
            concat!(
                "type = scripted\ncommand = sh -c \"echo $$DINIT_SERVICE $$COLOUR $$(ulimit -n) $$(nice) $$(pwd) ${COLOUR}\"\n",
                "env-file = @/env\nload-options: export-service-name\nlog-type = buffer\n",
                "rlimit-nofile = 64:64\nnice = 5\nworking-dir = /usr\n"
            ),
        ),
        (
            "file",
            "type = scripted\ncommand = sh -c \"echo out; echo err >&2\"\nlogfile = @/file.log\nlogfile-permissions = 640\n",
        ),
    ]);
    // The env-file comes too late for the first load, which fails softly.
    world.wait_for("boot", "started");
    assert_eq!(world.plain("ready").0, "started");
    assert_eq!(world.plain("unready").0, "failed");
    assert_eq!(world.plain("shows").0, "unloaded");
    fs::write(world.path("env"), "COLOUR=blue\n").unwrap();
    let (code, _, error) = world.ctl("start shows");
    assert_eq!(code, 0, "{error}");
    world.until("the output has come", || !world.ctl("catlog shows").1.is_empty());
    assert_eq!(world.ctl("catlog shows").1, "shows blue 64 5 /usr blue\n");
    assert_eq!(world.read("file.log"), "out\nerr\n");
    let mode = fs::metadata(world.path("file.log")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640);
    world.finish();
}

#[test]
fn commands_and_their_errors() {
    let world = World::start(&[
        ("boot", "type = internal\ndepends-on: a\n"),
        ("a", "command = sleep 1000\n"),
        ("b", "command = sleep 1000\n"),
        ("t", "command = sleep $1\n"),
        ("bad", "command = sleep 1\nfrob = 1\n"),
        ("refused", "command = sleep 1\nsocket-listen = /x\n"),
        ("late", "command = @/missing\n"),
        ("trig", "type = triggered\n"),
    ]);
    world.wait_for("boot", "started");
    let fails = |line: &str, code: i32, message: &str| {
        let (found, _, error) = world.ctl(line);
        assert!(
            found == code && error.contains(message),
            "{line}: {found} {error}"
        );
    };
    fails("frob", 2, "unknown command `frob`");
    fails("start none", 1, "service `none` is not in any service directory");
    fails("start bad", 1, "d/bad:2: unknown setting `frob`");
    fails(
        "start refused",
        1,
        "socket-listen is not implemented by the seed supervisor",
    );
    fails("start late", 1, "No such file or directory");
    fails("stop a", 1, "`a` is needed by boot; use --force");
    fails("wake b", 1, "no running service depends on it");
    fails("trigger a", 1, "is not of type triggered");
    fails("stop t@1", 1, "service `t@1` is not loaded");
    fails("add-dep waits-for a boot", 1, "would close a circle");
    fails("reload a", 1, "has to be stopped");

    assert_eq!(world.ctl("start t@1000").0, 0);
    assert_eq!(world.plain("t@1000").0, "started");
    assert_eq!(world.ctl("add-dep waits-for boot b").0, 0);
    assert_eq!(world.ctl("wake b").0, 0);
    assert_eq!(world.plain("b").0, "started");
    assert_eq!(world.ctl("stop b").0, 0);
    assert_eq!(world.plain("b").0, "stopped");
    let before = world.plain("a").1;
    assert_eq!(world.ctl("restart --force a").0, 0);
    world.wait_for("boot", "started");
    assert_ne!(world.plain("a").1, before);
    let before = world.plain("a").1;
    assert_eq!(world.ctl("signal KILL a").0, 0);
    world.until("a has come back", || {
        world.plain("a").1.is_some_and(|pid| Some(pid) != before)
    });
    world.wait_for("boot", "started");
    fs::write(world.path("d/late"), "command = sleep 1000\n").unwrap();
    assert_eq!((world.ctl("reload late").0, world.ctl("start late").0), (0, 0));
    assert_eq!(world.ctl("start --no-wait trig").0, 0);
    assert_eq!(world.plain("trig").0, "starting");
    assert_eq!(world.ctl("trigger trig").0, 0);
    assert_eq!(world.plain("trig").0, "started");
    let (code, out, _) = world.ctl("list");
    assert_eq!(code, 0);
    let marks: Vec<&str> = out.lines().map(|line| line.split(" (").next().unwrap()).collect();
    assert_eq!(
        marks,
        [
            "[+] a",
            "[+] b",
            "[+] boot",
            "[+] late",
            "[X] refused",
            "[+] t@1000",
            "[+] trig"
        ],
        "{out}"
    );
    let (_, out, _) = world.ctl("version");
    assert!(out.contains("this is not dinit"), "{out}");
    let mode = fs::metadata(world.path("socket")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    world.finish();
}

#[test]
fn hostile_clients_are_bounded() {
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;
    let world = World::start(&[("boot", "type = internal\n")]);
    world.wait_for("boot", "started");
    let mut idle = Vec::new();
    for _ in 0..100 {
        idle.push(UnixStream::connect(world.path("socket")).unwrap());
    }
    assert_eq!(
        world.ctl("is-started boot").0,
        0,
        "idle clients do not shut others out"
    );
    let mut client = UnixStream::connect(world.path("socket")).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = client.write_all(&vec![b'x'; 100_000]);
    let mut reply = Vec::new();
    // A reset after the reply is the supervisor not reading the rest.
    let _ = client.read_to_end(&mut reply);
    let reply = String::from_utf8_lossy(&reply);
    assert!(
        reply.contains("error: the request is too long") || reply.is_empty(),
        "{reply}"
    );
    let mut client = UnixStream::connect(world.path("socket")).unwrap();
    client.write_all(b"\xff\xfe start\n").unwrap();
    client.write_all(b"version\n").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut reply = Vec::new();
    let mut buffer = [0u8; 512];
    while let Ok(length @ 1..) = client.read(&mut buffer) {
        reply.extend(&buffer[..length]);
    }
    let reply = String::from_utf8_lossy(&reply).into_owned();
    assert!(
        reply.contains("error: the request is not UTF-8 text\n"),
        "{reply}"
    );
    assert!(reply.ends_with("ok\n"), "{reply}");
    world.finish();
}

#[test]
fn ends_when_nothing_runs() {
    let mut world = World::start(&[("boot", "command = sleep 0.2\nrestart = no\n")]);
    let begin = Instant::now();
    let status = loop {
        if let Some(status) = world.supervisor.try_wait().unwrap() {
            break status;
        }
        assert!(begin.elapsed() < PATIENCE);
        std::thread::sleep(Duration::from_millis(5));
    };
    assert_eq!(status.code(), Some(1));
}

#[test]
fn says_what_it_is() {
    for program in [
        env!("CARGO_BIN_EXE_seed-supervisor"),
        env!("CARGO_BIN_EXE_seedctl"),
    ] {
        let output = Command::new(program).arg("--version").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            text.starts_with("seed-supervisor ") && text.contains("this is not dinit"),
            "{text}"
        );
        let output = Command::new(program).arg("--help").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_seed-supervisor"))
        .output()
        .unwrap();
    assert_eq!(
        output.status.code(),
        Some(2),
        "not process 1 and not asked to be something else"
    );
}
