//! Root scenarios: commands of apk one after another on one root, and what the root was after each.
//!
//! Every step is judged by itself: the root recorded before it is built as a tree, the command is carried out
//! over it, and tree, database, world and script calls are compared with those recorded after it. A recording
//! does not say everything, so that some of it is inferred: the contents of files from the packages that have
//! them (by SHA-256), the repositories from the packages that were installed, and what edits told in words
//! did from what nobody else can have done.

mod compare;
mod recorded;
mod run;

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::cases::Count;
use recorded::{Corpus, Root};

/// One entry of a scenario's log.
struct Step {
    number: u64,
    /// The words after `apk`; none for an edit.
    words: Option<Vec<String>>,
    edit: String,
    user: Option<u32>,
    status: u64,
    stdout: String,
    stderr: String,
}

pub fn run(paths: &[PathBuf]) -> Count {
    let mut count = Count::default();
    for path in paths {
        let scenarios = scenarios(path);
        if scenarios.is_empty() {
            count.wrong(&format!(
                "{}: no scenario (a folder with log.json)",
                path.display()
            ));
        }
        for scenario in scenarios {
            let name = name(&scenario);
            let mut results = Vec::new();
            count.one(&name, || match judge(&scenario) {
                Ok(judged) => {
                    results = judged;
                    Ok(false)
                }
                Err(problem) => Err(format!("{name}: {problem}")),
            });
            for (number, result) in results {
                count.one(&name, || match result {
                    Ok(run::Verdict::Agrees) => Ok(true),
                    Ok(run::Verdict::NotJudged(why)) => {
                        println!("{name} step {number:02}: not judged: {why}");
                        Ok(false)
                    }
                    Err(difference) => Err(format!("{name} step {number:02}: {difference}")),
                });
            }
        }
    }
    count
}

/// The scenarios that a path means: one by its folder, its log or one of its steps, or all that lie below.
fn scenarios(path: &Path) -> Vec<PathBuf> {
    let is_one = |folder: &Path| folder.join("log.json").is_file();
    let Ok(whole) = std::fs::canonicalize(path) else {
        return Vec::new();
    };
    if let Some(own) = whole.ancestors().take(3).find(|folder| is_one(folder)) {
        return vec![own.to_path_buf()];
    }
    let logs = crate::cases::files(&whole, &["json"]);
    let mut found: Vec<PathBuf> = logs
        .into_iter()
        .filter(|file| file.ends_with("log.json"))
        .filter_map(|file| Some(file.parent()?.to_path_buf()))
        .collect();
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn steps(scenario: &Path) -> Result<Vec<Step>, String> {
    let text = std::fs::read(scenario.join("log.json")).map_err(|error| error.to_string())?;
    let log: Value = serde_json::from_slice(&text).map_err(|error| format!("log.json: {error}"))?;
    let steps = log["steps"].as_array().ok_or("log.json has no steps")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(steps
        .iter()
        .map(|step| Step {
            number: step["step"].as_u64().unwrap_or(0),
            words: step["cmd"]
                .as_str()
                .map(|line| line.split_whitespace().map(str::to_owned).collect()),
            edit: text(&step["edit"]),
            user: step["user"]
                .as_u64()
                .or_else(|| step["user"].as_str()?.parse().ok())
                .map(|user| user as u32),
            status: step["rc"].as_u64().unwrap_or(0),
            stdout: text(&step["stdout"]),
            stderr: text(&step["stderr"]),
        })
        .collect())
}

/// The result of each step that changes, or could change, the root and has a recording.
type Results = Vec<(u64, Result<run::Verdict, String>)>;

fn judge(scenario: &Path) -> Result<Results, String> {
    let steps = steps(scenario)?;
    let corpus = Corpus::find(scenario)?;
    let mut results = Vec::new();
    let mut before = Root::default();
    let mut edits = String::new();
    let mut told = String::new();
    // An edit may have happened that no line tells of: before the first step, while the root was prepared.
    let mut edited = true;
    for step in &steps {
        let Some(words) = &step.words else {
            edits.push_str(&step.edit);
            edits.push(' ');
            told.push_str(&step.edit);
            told.push(' ');
            edited = true;
            continue;
        };
        let folder = scenario.join(format!("step{:02}", step.number));
        if !folder.join("tree.json").exists() {
            continue;
        }
        let after = Root::read(&folder)?;
        let setting = run::Setting {
            corpus: &corpus,
            step,
            words,
            after: &after,
            told: &told,
            all: &steps,
        };
        let result = run::judge(&setting, &before, &edits, edited);
        results.push((step.number, result));
        before = after;
        edits.clear();
        edited = false;
    }
    Ok(results)
}
