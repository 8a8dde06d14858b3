//! Compares this crate with what apk-tools was recorded to do.
//!
//! ```text
//! conformance KIND PATH…
//! ```
//!
//! KIND is one of versions, solver, packages, roots and repositories, with files or folders of the corpus as
//! PATHs; or upstream, with `test/solver` of an apk-tools checkout. Every disagreement is printed, then `KIND: A agree, D disagree`. The exit status is 0 only if
//! something was compared and nothing disagreed; 2 means that the call was wrong.

use std::path::PathBuf;
use std::process::ExitCode;

mod cases;
mod packages;
mod repositories;
mod roots;
mod solver;
mod upstream;
mod versions;

const KINDS: &str = "versions, solver, packages, roots, repositories, upstream";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let kind = arguments.next().unwrap_or_default();
    let paths: Vec<PathBuf> = arguments.map(PathBuf::from).collect();
    let Some(kind) = kind.to_str().filter(|_| !paths.is_empty()) else {
        eprintln!("usage: conformance KIND PATH…   with KIND one of {KINDS}");
        return ExitCode::from(2);
    };
    let (agree, disagree) = match kind {
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
