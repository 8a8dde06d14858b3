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

pub fn run(paths: &[PathBuf]) -> (usize, usize) {
    let (mut agree, mut disagree) = (0, 0);
    for path in paths {
        let mut scenarios = vec![path.clone()];
        if !path.join("log.json").exists() {
            scenarios = std::fs::read_dir(path)
                .map(|entries| entries.filter_map(|entry| Some(entry.ok()?.path())).collect())
                .unwrap_or_default();
            scenarios.retain(|folder| folder.join("log.json").exists());
            scenarios.sort();
        }
        if scenarios.is_empty() {
            println!("{}: no scenario (a folder with log.json)", path.display());
            disagree += 1;
        }
        for scenario in scenarios {
            match judge(&scenario) {
                Ok(results) => {
                    for (number, result) in results {
                        match result {
                            Ok(()) => agree += 1,
                            Err(difference) => {
                                disagree += 1;
                                println!("{} step {number:02}: {difference}", name(&scenario));
                            }
                        }
                    }
                }
                Err(problem) => {
                    disagree += 1;
                    println!("{}: {problem}", name(&scenario));
                }
            }
        }
    }
    (agree, disagree)
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
type Results = Vec<(u64, Result<(), String>)>;

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
