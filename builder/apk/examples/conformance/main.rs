//! Compares this crate with what apk-tools was recorded to do.
//!
//! ```text
//! conformance KIND PATH…
//! ```
//!
//! KIND is one of versions, solver, packages, roots and repositories, with files of the corpus, or folders above
//! them, as PATHs; or upstream, with `test/solver` of an apk-tools checkout. Every disagreement is printed, then `KIND: A agree, D disagree`. The exit status is 0 only if
//! something was compared and nothing disagreed; 2 means that the call was wrong.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod cases;
mod packages;
mod repositories;
mod roots;
mod solver;
mod upstream;
mod versions;

use cases::Count;

const KINDS: &str = "versions, solver, packages, roots, repositories, upstream";

fn main() -> ExitCode {
    let mut paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let is_kind = |path: &PathBuf| {
        path.to_str()
            .is_some_and(|word| KINDS.split(", ").any(|kind| kind == word))
    };
    // Usually the first; a folder may have the name of a kind, too.
    let kind = paths.iter().position(is_kind).map(|at| paths.remove(at));
    let Some(kind) = kind
        .as_deref()
        .and_then(Path::to_str)
        .filter(|_| !paths.is_empty())
    else {
        eprintln!("usage: conformance KIND PATH…   with KIND one of {KINDS}");
        return ExitCode::from(2);
    };
    let Count { agree, disagree } = match kind {
        "versions" => versions::run(&paths),
        "solver" => solver::run(&paths),
        "repositories" => repositories::run(&paths),
        "packages" => packages::run(&paths),
        "roots" => roots::run(&paths),
        "upstream" => upstream::run(&paths),
        _ => {
            eprintln!("unknown kind {kind:?}; one of {KINDS}");
            return ExitCode::from(2);
        }
    };
    println!("{kind}: {agree} agree, {disagree} disagree");
    if agree > 0 && disagree == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
