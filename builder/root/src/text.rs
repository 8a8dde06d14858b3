//! Reading configuration folders and lines as systemd's formats have them.

use std::collections::BTreeMap;

use lycia_tree::{Follow, Tree};

use crate::RootError;

/// Largest configuration file read, in bytes.
const FILE_MAX: usize = 4 << 20;

/// A line of a configuration file.
pub struct Line {
    /// Path of the file.
    pub file: String,
    /// Counted from 1.
    pub number: usize,
    /// Its words.
    pub words: Vec<String>,
}

impl Line {
    /// An error about the line.
    pub fn wrong(&self, what: impl Into<String>) -> RootError {
        RootError::Line {
            file: self.file.clone(),
            line: self.number,
            what: what.into(),
        }
    }

    /// A word, if it is there and not `-`.
    pub fn word(&self, at: usize) -> Option<&str> {
        self.words
            .get(at)
            .map(String::as_str)
            .filter(|word| *word != "-" && !word.is_empty())
    }
}

/// The files `*.conf` of `folders` with their paths; a name in an earlier folder hides the same name in a
/// later one, and files come in the order of their names. Links to `/dev/null` hide, too.
pub fn files(tree: &Tree, folders: &[&str]) -> Result<Vec<(String, String)>, RootError> {
    let mut paths: BTreeMap<Vec<u8>, String> = BTreeMap::new();
    for folder in folders {
        let Some(id) = tree.find(folder.as_bytes(), Follow::All)? else {
            continue;
        };
        for name in tree.inode(id).entries().into_iter().flat_map(BTreeMap::keys) {
            if let (true, Ok(text)) = (name.ends_with(b".conf"), std::str::from_utf8(name)) {
                paths
                    .entry(name.clone())
                    .or_insert_with(|| format!("{folder}/{text}"));
            }
        }
    }
    let mut files = Vec::new();
    for path in paths.into_values() {
        let Some(id) = tree.find(path.as_bytes(), Follow::All)? else {
            continue;
        };
        let Some(content) = tree.inode(id).content() else {
            continue;
        };
        let wrong = |what: &str| RootError::File {
            file: path.clone(),
            what: what.to_owned(),
        };
        if content.len() > FILE_MAX as u64 {
            return Err(wrong("larger than 4 MiB"));
        }
        let text = std::str::from_utf8(content.bytes()).map_err(|_| wrong("is not UTF-8"))?;
        files.push((path, text.to_owned()));
    }
    Ok(files)
}

/// The lines of the [`files`] of `folders`, in words.
pub fn configuration(tree: &Tree, folders: &[&str]) -> Result<Vec<Line>, RootError> {
    let mut all = Vec::new();
    for (file, text) in files(tree, folders)? {
        all.extend(lines(&file, &text)?);
    }
    Ok(all)
}

/// The lines of a configuration file that are neither empty nor comments.
pub fn lines(file: &str, text: &str) -> Result<Vec<Line>, RootError> {
    let mut lines = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let words = split(line).map_err(|what| RootError::Line {
            file: file.to_owned(),
            line: number + 1,
            what,
        })?;
        lines.push(Line {
            file: file.to_owned(),
            number: number + 1,
            words,
        });
    }
    Ok(lines)
}

/// Splits a line at blanks; quotes hold blanks, a backslash takes the next character as it is inside of
/// double quotes.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut letters = line.chars().peekable();
    while let Some(&letter) = letters.peek() {
        if letter.is_ascii_whitespace() {
            letters.next();
            continue;
        }
        let mut word = String::new();
        while let Some(&letter) = letters.peek() {
            if letter.is_ascii_whitespace() {
                break;
            }
            letters.next();
            if letter != '"' && letter != '\'' {
                word.push(letter);
                continue;
            }
            loop {
                match letters.next() {
                    None => return Err(format!("a quote {letter} is not closed")),
                    Some(end) if end == letter => break,
                    Some('\\') if letter == '"' => word.extend(letters.next()),
                    Some(inside) => word.push(inside),
                }
            }
        }
        words.push(word);
    }
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_hold_blanks_together() {
        assert_eq!(
            split("u a  -\t\"two words\" 'x \"y\"'").unwrap(),
            ["u", "a", "-", "two words", "x \"y\""]
        );
        assert_eq!(split("a\"b c\"d").unwrap(), ["ab cd"]);
        assert!(split("a \"b").is_err());
        assert!(split("").unwrap().is_empty());
    }
}
