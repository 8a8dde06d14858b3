//! Reading recorded cases and counting.

use std::path::{Path, PathBuf};

use serde_json::Value;

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
fn values(file: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    let parse = |(number, text): (usize, &str)| {
        serde_json::from_str(text).map_err(|error| format!("{}:{}: {error}", file.display(), number + 1))
    };
    if file.extension().is_some_and(|found| found == "jsonl") {
        text.lines()
            .enumerate()
            .filter(|(_, line)| !line.trim().is_empty())
            .map(parse)
            .collect()
    } else {
        parse((0, &text)).map(|value| vec![value])
    }
}

/// Runs a comparison over all values of all files and counts.
pub fn compare(
    paths: &[PathBuf],
    extension: &str,
    check: impl Fn(&Value) -> Result<(), String>,
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
