//! Repository configuration: which indexes are opened, in order.

use std::collections::BTreeMap;
use std::path::PathBuf;

use lycia_apk::repositories::{Repositories, configuration_files};
use serde_json::{Value, json};

use crate::cases::Count;

pub fn run(paths: &[PathBuf]) -> Count {
    super::cases::compare(paths, &["files", "args", "indexes_opened"], check)
}

/// Architectures that a recorded case may have been made with: the records do not say, it shows in the
/// indexes that were opened.
const ARCHITECTURES: [&str; 9] = [
    "x86_64",
    "x86",
    "aarch64",
    "armv7",
    "armhf",
    "riscv64",
    "ppc64le",
    "ppc64",
    "loongarch64",
];

fn check(case: &Value) -> Result<(), String> {
    let name = case["name"].as_str().unwrap_or("(no name)");
    let found = opened(case).map_err(|problem| format!("{name}: {problem}"))?;
    let expected = &case["indexes_opened"];
    if *expected == json!(found) {
        return Ok(());
    }
    Err(format!("{name}: expected {expected}\n  found {}", json!(found)))
}

fn opened(case: &Value) -> Result<Vec<String>, String> {
    let files: BTreeMap<&str, &str> = case["files"]
        .as_object()
        .ok_or("no files")?
        .iter()
        .map(|(path, text)| {
            // The corpus has its files under /usr/lib, to which /lib leads.
            let path = path
                .strip_prefix("usr/")
                .filter(|path| path.starts_with("lib/"))
                .unwrap_or(path);
            (path, text.as_str().unwrap_or_default())
        })
        .collect();
    let named = case["args"].as_array().and_then(|words| {
        let mut words = words.iter().filter_map(Value::as_str);
        while let Some(word) = words.next() {
            match word.split_once('=') {
                Some(("--arch", arch)) => return Some(arch),
                _ if word == "--arch" => return words.next(),
                _ => {}
            }
        }
        None
    });
    let recorded = files.get("etc/apk/arch").and_then(|text| text.lines().next());
    let arch = named.or(recorded).unwrap_or_else(|| architecture(case));
    let mut repositories = Repositories::new(arch);
    let mut configuration = Vec::new();
    let mut replaced = None;
    let words: Vec<&str> = case["args"]
        .as_array()
        .ok_or("no args")?
        .iter()
        .filter_map(Value::as_str)
        .collect();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value)),
            _ => (word, None),
        };
        let mut value = || {
            value
                .or_else(|| words.next())
                .ok_or(format!("{word} without a value"))
        };
        match option {
            "-X" | "--repository" => drop(repositories.add_argument(value()?)),
            "--repository-config" => configuration.push(value()?),
            "--repositories-file" => replaced = Some(value()?),
            "--arch" => drop(value()?),
            _ => return Err(format!("option {word} is not known here")),
        }
    }
    for text in configuration {
        repositories.add_configuration(text);
    }
    // An error ends a file and nothing else, so it shows in the list.
    if let Some(file) = replaced {
        // A file of the machine that apk ran on, and not of the root.
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let _ = repositories.add_file(file, &text);
    } else {
        let file = "etc/apk/repositories";
        let _ = repositories.add_file(file, files.get(file).copied().unwrap_or_default());
        let folders = lycia_apk::repositories::CONFIGURATION_FOLDERS;
        let names = folders.map(|folder| {
            let inside = files
                .keys()
                .filter_map(|path| path.strip_prefix(folder)?.strip_prefix('/'));
            inside.filter(|name| !name.contains('/')).collect::<Vec<_>>()
        });
        for (folder, name) in configuration_files([&names[0], &names[1]]) {
            let text = files.get(format!("{}/{name}", folders[folder]).as_str()).copied();
            let _ = repositories.add_file(name, text.unwrap_or_default());
        }
    }
    // Every index of the corpus is missing, and the recorder read apk's warnings line by line: what
    // follows a carriage return was cut off.
    let shown = |url: &str| url.split('\r').next().unwrap_or_default().to_owned();
    Ok(repositories
        .list()
        .iter()
        .map(|repository| shown(&repository.index_url))
        .collect())
}

fn architecture(case: &Value) -> &'static str {
    let opened = case["indexes_opened"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let parts = opened
        .iter()
        .filter_map(Value::as_str)
        .flat_map(|url| url.split('/'));
    parts
        .filter_map(|part| ARCHITECTURES.into_iter().find(|arch| *arch == part))
        .next()
        .unwrap_or(ARCHITECTURES[0])
}
