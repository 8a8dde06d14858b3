//! Reading recorded cases and counting.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What a kind of comparison counts.
#[derive(Default)]
pub struct Count {
    pub agree: usize,
    pub disagree: usize,
}

impl Count {
    /// Counts one case; what disagrees is printed. A case that makes the crate panic disagrees.
    pub fn one(&mut self, name: &str, judge: impl FnOnce() -> Result<bool, String>) {
        match catch_unwind(AssertUnwindSafe(judge)) {
            Ok(Ok(true)) => self.agree += 1,
            Ok(Ok(false)) => {}
            Ok(Err(difference)) => self.wrong(&difference),
            Err(_) => self.wrong(&format!("{name}: a panic, told above")),
        }
    }

    /// Counts a disagreement.
    pub fn wrong(&mut self, difference: &str) {
        self.disagree += 1;
        println!("{difference}");
    }
}

/// All files below a folder with one of the extensions, in the order of their paths; a file means itself.
pub fn files(path: &Path, extensions: &[&str]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(folder) = folders.pop() {
        let Ok(inside) = std::fs::read_dir(&folder) else {
            continue;
        };
        for path in inside.filter_map(|entry| Some(entry.ok()?.path())) {
            // Links are not followed: a folder of cases may lie beside anything.
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else if path
                .extension()
                .is_some_and(|found| extensions.iter().any(|one| found == *one))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The JSON values of a file: the whole, or one a line.
fn values(file: &Path) -> Result<Vec<Value>, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
    if let Ok(whole) = serde_json::from_str(&text) {
        return Ok(match whole {
            Value::Array(list) => list,
            one => vec![one],
        });
    }
    let lines = text
        .lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(number, line)| {
            serde_json::from_str(line).map_err(|error| format!("{}:{}: {error}", file.display(), number + 1))
        })
        .collect()
}

/// Runs a comparison over all values of all files, and over those of folders that have the keys of the kind.
pub fn compare(paths: &[PathBuf], keys: &[&str], check: impl Fn(&Value) -> Result<(), String>) -> Count {
    let mut count = Count::default();
    for path in paths {
        let folder = path.is_dir();
        let files = match folder {
            true => files(path, &["json", "jsonl"]),
            false => vec![path.clone()],
        };
        let mut met = false;
        for file in files {
            let values = match values(&file) {
                Ok(values) => values,
                // Beside cases lies other JSON, some of it no UTF-8.
                Err(_) if folder => continue,
                Err(problem) => {
                    count.wrong(&problem);
                    continue;
                }
            };
            for value in values {
                let ours = keys.iter().all(|key| value.get(key).is_some());
                if folder && !ours {
                    continue;
                }
                met = true;
                let name = value["name"].as_str().unwrap_or_default();
                count.one(name, || check(&value).map(|()| true));
            }
        }
        if folder && !met {
            count.wrong(&format!("{}: holds nothing of this kind", path.display()));
        }
    }
    count
}
