//! Compares this crate with what apk-tools was recorded to do.
//!
//! ```text
//! conformance KIND PATH…
//! ```
//!
//! KIND is one of versions, solver, packages, roots and repositories; PATHs are files or folders of the
//! corpus. Every disagreement is printed, then `KIND: A agree, D disagree`. The exit status is 0 only if
//! something was compared and nothing disagreed; 2 means that the call was wrong.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

mod packages;
mod repositories;
mod solver;
mod versions;

const KINDS: &str = "versions, solver, packages, roots, repositories";

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
        "roots" => {
            eprintln!("{kind}: not built yet");
            return ExitCode::from(2);
        }
        _ => {
            eprintln!("unknown kind {kind:?}; one of {KINDS}");
            return ExitCode::from(2);
        }
    };
    println!("{kind}: {agree} agree, {disagree} disagree");
    if agree > 0 && disagree == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The files that paths mean: themselves, or what lies in a folder with one of the extensions, by name.
fn files(paths: &[PathBuf], extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for path in paths {
        if !path.is_dir() {
            found.push(path.clone());
            continue;
        }
        let mut inside: Vec<PathBuf> = std::fs::read_dir(path)
            .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
            .unwrap_or_default();
        inside.retain(|file| file.extension().is_some_and(|found| found == extension));
        inside.sort();
        found.extend(inside);
    }
    found
}

/// The JSON values of a file: one a line for `.jsonl`, otherwise the whole.
///
/// What cannot be read or parsed is printed and counted as a disagreement by returning an error.
fn values(file: &Path) -> Result<Vec<serde_json::Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let parse = |(number, text): (usize, &str)| {
        serde_json::from_str(text).map_err(|error| format!("{}:{}: {error}", file.display(), number + 1))
    };
    if file.extension().is_some_and(|found| found == "jsonl") {
        text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).map(parse).collect()
    } else {
        parse((0, &text)).map(|value| vec![value])
    }
}

/// Runs a comparison over all values of all files and counts.
fn compare(
    paths: &[PathBuf],
    extension: &str,
    check: impl Fn(&serde_json::Value) -> Result<(), String>,
) -> (usize, usize) {
    let (mut agree, mut disagree) = (0, 0);
    for file in files(paths, extension) {
        match values(&file) {
            Ok(values) => {
                for value in values {
                    match check(&value) {
                        Ok(()) => agree += 1,
                        Err(difference) => {
                            disagree += 1;
                            println!("{difference}");
                        }
                    }
                }
            }
            Err(problem) => {
                disagree += 1;
                println!("{problem}");
            }
        }
    }
    (agree, disagree)
}
