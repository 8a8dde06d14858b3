//! Versions, solver, repository configuration and whole roots against what apk-tools was recorded to do.

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
        println!("LYCIA_APK_TOOLS names no checkout of apk-tools: nothing was compared");
        return;
    };
    let Count { agree, disagree } = upstream::run(&[checkout.join("test/solver")]);
    println!("upstream: {agree} agree, {disagree} disagree");
    assert_eq!(disagree, 0);
    assert!(agree > 100, "{} has {agree} cases", checkout.display());
}
