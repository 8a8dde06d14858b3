//! Versions, solver, repository configuration and whole roots against what apk-tools was recorded to do.

#![allow(clippy::unwrap_used)] // a test ends at the first surprise

#[path = "../examples/conformance/cases.rs"]
mod cases;
mod corpus;
#[path = "../examples/conformance/repositories.rs"]
mod repositories;
#[path = "../examples/conformance/roots/mod.rs"]
mod roots;
#[path = "../examples/conformance/solver.rs"]
mod solver;
#[path = "../examples/conformance/upstream.rs"]
mod upstream;
#[path = "../examples/conformance/versions.rs"]
mod versions;

use std::path::PathBuf;

use cases::Count;

/// Compares a part of the corpus; every disagreement has been printed.
fn check(part: &str, run: fn(&[PathBuf]) -> Count) {
    let Some(corpus) = corpus::corpus() else { return };
    let path = corpus.join("expected").join(part);
    assert!(path.exists(), "{} is missing", path.display());
    let Count { agree, disagree } = run(&[path]);
    assert_eq!(disagree, 0, "{part}: {agree} agree, {disagree} disagree");
    assert!(agree > 0, "{part}: nothing was compared");
}

#[test]
fn recorded_versions() {
    check("versions.jsonl", versions::run);
}

#[test]
fn recorded_solver_cases() {
    check("solver", solver::run);
}

#[test]
fn recorded_repositories() {
    check("repositories", repositories::run);
}

#[test]
fn recorded_roots() {
    check("roots", roots::run);
}

/// apk-tools' own solver cases, where `LYCIA_APK_TOOLS` names a checkout of it. None of them is kept here.
#[test]
fn upstream_solver_cases() {
    let Some(checkout) = std::env::var_os("LYCIA_APK_TOOLS").map(PathBuf::from) else {
        corpus::skipped("LYCIA_APK_TOOLS names no checkout of apk-tools");
        return;
    };
    let Count { agree, disagree } = upstream::run(&[checkout.join("test/solver")]);
    println!("upstream: {agree} agree, {disagree} disagree");
    assert_eq!(disagree, 0);
    assert!(agree > 100, "{} has {agree} cases", checkout.display());
}

/// A case that expects an error agrees with that error alone, not with whatever goes wrong on the way to it.
#[test]
fn what_cannot_be_read_agrees_with_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "sound.repo",
        "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:1\nD:b\n\n",
    );
    write(
        "words.repo",
        "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:1\nno field\n\n",
    );
    write(
        "number.repo",
        "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:a\nV:1\nS:many\n\n",
    );
    write("nameless.repo", "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nV:1\n\n");
    write("unknown.repo", "C:none\nP:a\nV:1\n\n");
    let count = |arguments: &str, repository: &str, expected: &str| {
        write(
            "one.test",
            &format!("@ARGS {arguments}\n@REPO {repository}\n@EXPECT\nERROR: {expected}\n"),
        );
        let Count { agree, disagree } = upstream::run(&[folder.path().join("one.test")]);
        (agree, disagree)
    };
    let unsolvable = "unable to select packages:";
    let malformed = "'a==' is not a valid world dependency";
    assert_eq!(count("add a", "sound.repo", unsolvable), (1, 0));
    assert_eq!(count("add a==", "sound.repo", malformed), (1, 0));
    // One sort of error is not the other.
    assert_eq!(count("add a", "sound.repo", malformed), (0, 1));
    assert_eq!(count("add a==", "sound.repo", unsolvable), (0, 1));
    for repository in [
        "missing",
        "words.repo",
        "number.repo",
        "nameless.repo",
        "unknown.repo",
    ] {
        assert_eq!(count("add a", repository, unsolvable), (0, 1), "{repository}");
        assert_eq!(count("add a==", repository, malformed), (0, 1), "{repository}");
    }
    assert_eq!(count("juggle a", "sound.repo", unsolvable), (0, 1));
}
