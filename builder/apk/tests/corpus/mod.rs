//! The reference corpus: packages and indexes made with apk-tools 3.0.6, and damaged ones with a verdict.
//! It lies beside the checkout, or where `LYCIA_CORPUS` says.

#![allow(dead_code, clippy::unwrap_used)] // each test program uses its part; helpers of tests are tests

use lycia_apk::keys::KeyRing;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// The corpus; `None` (and a line saying so) where it is not present.
pub fn corpus() -> Option<PathBuf> {
    let (path, asked) = match std::env::var_os("LYCIA_CORPUS") {
        Some(path) => (PathBuf::from(path), true),
        None => (
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/corpus/apk"),
            false,
        ),
    };
    if path.join("keys").is_dir() {
        return Some(path);
    }
    assert!(
        !asked,
        "LYCIA_CORPUS names {}, which has no keys/",
        path.display()
    );
    skipped(&format!("the corpus is not present at {}", path.display()));
    None
}

/// Says that the test at hand compares nothing, and why: also where the test program keeps what tests print.
pub fn skipped(why: &str) {
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Written past the capture of `print!`; a standard error that is gone has no reader.
    let _ = writeln!(std::io::stderr(), "{test}: SKIPPED, nothing was compared: {why}");
}

/// The trusted key only.
pub fn trusted(corpus: &Path) -> KeyRing {
    ring(&corpus.join("keys/trusted"))
}

/// Every public key of the corpus, strangers included.
pub fn everybody(corpus: &Path) -> KeyRing {
    ring(&corpus.join("keys"))
}

fn ring(directory: &Path) -> KeyRing {
    let mut keys = KeyRing::new();
    for path in files(directory)
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "pub"))
    {
        keys.add_pem(
            &path.file_name().unwrap().to_string_lossy(),
            &fs::read(&path).unwrap(),
        )
        .unwrap();
    }
    assert!(!keys.is_empty(), "no keys in {}", directory.display());
    keys
}

/// Files directly in a directory, sorted.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    files
}

/// All files below a directory with one of these endings, sorted.
pub fn walk(directory: &Path, endings: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut entries: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            found.extend(walk(&path, endings));
        } else if endings
            .iter()
            .any(|ending| path.to_string_lossy().ends_with(ending))
        {
            found.push(path);
        }
    }
    found
}
