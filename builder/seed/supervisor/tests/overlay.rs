//! The seed's own service files: clean for our checker, and nothing but busybox and this package runs.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use lycia_dinit::catalogue::{Catalogue, Loader, system_directories};
use lycia_dinit::check::{Request, Runner, check};
use lycia_dinit::environment::Environment;
use lycia_dinit::files::DiskFiles;

/// Busybox applets that service files name directly.
const SERVICE_APPLETS: &[&str] = &["crond", "klogd", "mdev", "sulogin"];

/// Busybox applets that the scripts use; `seedctl` is this package's.
const SCRIPT_PROGRAMS: &[&str] = &[
    "cat",
    "chmod",
    "comm",
    "cp",
    "find",
    "findfs",
    "getty",
    "grep",
    "head",
    "hostname",
    "ip",
    "ln",
    "loadkmap",
    "mkdir",
    "modprobe",
    "mount",
    "mountpoint",
    "rm",
    "sed",
    "seedctl",
    "sleep",
    "sort",
    "swapoff",
    "swapon",
    "sysctl",
    "syslogd",
    "timeout",
    "touch",
    "tr",
    "udhcpc",
    "uname",
    "usleep",
    "xargs",
    "zcat",
];

fn overlay() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../overlays/seed")
}

fn delivered() -> BTreeSet<PathBuf> {
    let applets = SERVICE_APPLETS
        .iter()
        .map(|name| PathBuf::from(format!("/usr/bin/{name}")));
    applets.chain([PathBuf::from("/bin/sh")]).collect()
}

#[test]
fn service_files_are_clean() {
    let files = DiskFiles::new(overlay());
    let directories = system_directories();
    let environment = Environment::new();
    let loader = Loader {
        files: &files,
        directories: &directories,
        environment: &environment,
    };
    let report = check(
        &loader,
        &Request {
            services: Vec::new(),
            runner: Runner::SeedSupervisor,
            delivered: delivered(),
        },
    );
    assert!(report.findings.is_empty(), "{:#?}", report.findings);
    assert_eq!(
        report.delivered,
        delivered(),
        "exactly these come from other packages"
    );
    assert!(report.longest.len() <= 16, "kept shallow: {:?}", report.longest);
    assert_eq!(
        report.services,
        fs::read_dir(overlay().join("usr/lib/dinit.d")).unwrap().count() - 1
    );
}

#[test]
fn the_boot_reaches_what_it_should() {
    let files = DiskFiles::new(overlay());
    let directories = system_directories();
    let environment = Environment::new();
    let loader = Loader {
        files: &files,
        directories: &directories,
        environment: &environment,
    };
    let mut catalogue = Catalogue::default();
    let loaded = catalogue.load(&loader, "boot").unwrap();
    assert_eq!(loaded.warnings, [""; 0]);
    for name in [
        "system",
        "login.target",
        "network.target",
        "local.target",
        "syslogd",
        "getty",
        "udhcpc",
    ] {
        assert!(loaded.names.iter().any(|loaded| loaded == name), "{name}");
    }
    for name in ["single", "recovery", "getty-service"] {
        assert!(
            !loaded.names.iter().any(|loaded| loaded == name),
            "{name} is not part of a normal boot"
        );
    }
    let rwfs: Vec<&str> = catalogue
        .iter()
        .filter(|d| d.options.starts_rwfs)
        .map(|d| d.name.as_str())
        .collect();
    assert_eq!(rwfs, ["early-root-rw.target"]);
}

#[test]
fn the_program_says_the_same() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seedctl"));
    command.args(["check", "--root"]).arg(overlay());
    for path in delivered() {
        command.arg("--delivered").arg(path);
    }
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with(" 0 findings\n"), "{text}");
    let output = Command::new(env!("CARGO_BIN_EXE_seedctl"))
        .args(["check", "--root"])
        .arg(overlay())
        .output();
    assert_eq!(
        output.unwrap().status.code(),
        Some(1),
        "without busybox programs are missing"
    );
}

#[test]
fn enabled_services_are_links_to_what_is_there() {
    let directory = overlay().join("usr/lib/dinit.d/boot.d");
    for entry in fs::read_dir(&directory).unwrap() {
        let entry = entry.unwrap();
        let target = fs::read_link(entry.path()).unwrap();
        assert_eq!(target, Path::new("..").join(entry.file_name()));
        assert!(entry.path().exists());
    }
    assert!(overlay().join("etc/dinit.d/boot.d").is_dir());
}

/// Programs that a script runs: first words of its commands, as a shell reads them, without its own
/// functions and builtins. A plain reading of our own plain scripts, not a shell parser.
fn programs(script: &str) -> BTreeSet<String> {
    const BUILTINS: &[&str] = &[
        ".", ":", "[", "case", "cd", "continue", "break", "do", "done", "echo", "elif", "else", "esac",
        "eval", "exec", "exit", "export", "fi", "for", "if", "in", "read", "return", "set", "shift", "test",
        "then", "until", "while", "{", "}", "!", "printf", "local",
    ];
    let functions: BTreeSet<&str> = script
        .lines()
        .filter_map(|line| line.strip_suffix("() {"))
        .collect();
    let mut found = BTreeSet::new();
    for line in script.lines() {
        let line = line.trim();
        if line.starts_with('#') {
            continue;
        }
        // The pattern of a case, then wherever a command may begin.
        let line = match line.split_once(')') {
            Some((pattern, rest)) if !pattern.contains(['(', ' ']) => rest,
            _ => line,
        };
        let mut text = line.replace("$((", "");
        for separator in [
            "&&",
            "||",
            "|",
            ";",
            "$(",
            "(",
            "!",
            " then ",
            " do ",
            "`",
            "exec ",
            "timeout 20 ",
        ] {
            text = text.replace(separator, "\n");
        }
        for piece in text.lines() {
            let mut words = piece.split_whitespace().skip_while(|word| {
                ["if", "while", "until", "then", "do", "else", "elif", "{"].contains(word)
            });
            let Some(word) = words.next() else { continue };
            let is_word = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
            if is_word && !BUILTINS.contains(&word) && !functions.contains(word) {
                found.insert(word.to_owned());
            }
        }
    }
    found
}

#[test]
fn scripts_use_busybox_only() {
    let mut unknown = Vec::new();
    for entry in fs::read_dir(overlay().join("usr/lib/seed")).unwrap() {
        let path = entry.unwrap().path();
        let script = fs::read_to_string(&path).unwrap();
        let status = Command::new("sh").arg("-n").arg(&path).status().unwrap();
        assert!(status.success(), "{} is not a shell script", path.display());
        for program in programs(&script) {
            if !SCRIPT_PROGRAMS.contains(&program.as_str()) {
                unknown.push(format!("{}: {program}", path.display()));
            }
        }
    }
    assert!(
        unknown.is_empty(),
        "not known to be busybox applets: {unknown:#?}"
    );
}
