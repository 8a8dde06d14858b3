//! udev's hardware database: `hwdb.d/*.hwdb` (hwdb(7)) compiled to `/etc/udev/hwdb.bin`, as `systemd-hwdb
//! update` compiles it, byte for byte.
//!
//! The file is a header, a trie of match patterns (nodes after their children, with the properties sorted by
//! key), and the strings, in which one that is the tail of another has no bytes of its own. All numbers are
//! little endian and of 64 bits where not said otherwise.

mod strings;
mod trie;

use std::collections::BTreeMap;

use lycia_tree::{Follow, Metadata, Timestamp, Tree};

use crate::{RootError, Step, replace};
use trie::Trie;

const FOLDERS: &[&str] = &["etc/udev/hwdb.d", "usr/lib/udev/hwdb.d", "lib/udev/hwdb.d"];
const OUTPUT: &[u8] = b"etc/udev/hwdb.bin";
/// Most bytes of all sources together.
const SOURCE_MAX: u64 = 128 << 20;
/// Longest line, in bytes, as systemd has it.
const LINE_MAX: usize = 1 << 20;
/// Most files: their order is kept in 16 bits.
const FILES_MAX: usize = 65_534;
/// Most warnings told.
const WARNINGS_MAX: usize = 20;

/// A source file: its absolute path in the target, and what it says.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As the database names it.
    pub path: &'a str,
    /// Its lines.
    pub bytes: &'a [u8],
}

/// A compiled database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Database {
    /// The file.
    pub bytes: Vec<u8>,
    /// Lines that were left out, as the reference leaves them out, with why.
    pub warnings: Vec<String>,
}

/// Compiles the root's database where it has sources.
///
/// # Errors
/// When a source is not a text that the reference would read.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Step, RootError> {
    let mut step = Step::default();
    let mut files: BTreeMap<String, (String, lycia_tree::Content)> = BTreeMap::new();
    let mut size = 0;
    for folder in FOLDERS {
        let Some(folder_id) = tree.find(folder.as_bytes(), Follow::All)? else {
            continue;
        };
        let names = tree
            .inode(folder_id)
            .entries()
            .into_iter()
            .flat_map(BTreeMap::keys);
        for name in names {
            let Some(name) = std::str::from_utf8(name)
                .ok()
                .filter(|name| name.ends_with(".hwdb"))
            else {
                continue;
            };
            if files.contains_key(name) {
                continue;
            }
            let path = format!("/{folder}/{name}");
            // A link to /dev/null, or an empty file, hides the file of that name in a later folder.
            let content = match tree.find(path.as_bytes(), Follow::All)? {
                Some(id) => tree.inode(id).content().cloned(),
                None => None,
            };
            let content = content.unwrap_or_else(lycia_tree::Content::empty);
            size += content.len();
            files.insert(name.to_owned(), (path, content));
        }
    }
    if size > SOURCE_MAX || files.len() > FILES_MAX {
        return Err(RootError::File {
            file: FOLDERS.join(", "),
            what: "has more than 128 MiB or 65534 files of hardware data".to_owned(),
        });
    }
    let sources: Vec<Source<'_>> = files
        .values()
        .filter(|(_, content)| !content.is_empty())
        .map(|(path, content)| Source {
            path,
            bytes: content.bytes(),
        })
        .collect();
    if sources.is_empty() {
        return Ok(step);
    }
    let database = compile(&sources)?;
    step.warnings = database.warnings;
    tree.make_directories(b"etc/udev", Metadata::new(0o755, time))?;
    replace(tree, OUTPUT, 0o444, database.bytes, time, &mut step.written)?;
    Ok(step)
}

/// Where the reader of a file is.
#[derive(PartialEq)]
enum State {
    /// Between records.
    Outside,
    /// Among the patterns of a record.
    Patterns,
    /// Among its properties.
    Properties,
}

/// Compiles sources, which come in the order of their names.
///
/// # Errors
/// When a line is longer than 1 MiB or holds a zero byte, or all is too large for the format's reader.
pub fn compile(sources: &[Source<'_>]) -> Result<Database, RootError> {
    let mut trie = Trie::new();
    let mut warnings = Vec::new();
    let mut left_out = 0_usize;
    for (source, priority) in sources.iter().zip(1_u16..) {
        let mut warn = |line: u32, what: &str| {
            if warnings.len() < WARNINGS_MAX {
                warnings.push(format!("{}, line {line}: {what}", source.path));
            } else {
                left_out += 1;
            }
        };
        let mut state = State::Outside;
        let mut patterns: Vec<&[u8]> = Vec::new();
        for (line, number) in source.bytes.split(|&byte| byte == b'\n').zip(1_u32..) {
            if line.len() > LINE_MAX || line.contains(&0) {
                return Err(RootError::Line {
                    file: source.path.to_owned(),
                    line: number as usize,
                    what: "is longer than 1 MiB or holds a zero byte".to_owned(),
                });
            }
            if line.first() == Some(&b'#') {
                continue;
            }
            let line = line.split(|&byte| byte == b'#').next().unwrap_or_default();
            let line = trim_end(line);
            // The piece behind the last newline is no line.
            let (empty, indented) = (line.is_empty(), line.first() == Some(&b' '));
            match state {
                State::Outside if empty => {}
                State::Outside if indented => warn(number, "a property without a pattern is left out"),
                State::Outside => {
                    state = State::Patterns;
                    patterns.push(line);
                }
                State::Patterns if empty => {
                    warn(number, "a record without properties is left out");
                    state = State::Outside;
                    patterns.clear();
                }
                State::Patterns if !indented => patterns.push(line),
                State::Properties if empty => {
                    state = State::Outside;
                    patterns.clear();
                }
                State::Properties if !indented => {
                    warn(
                        number,
                        "a pattern among properties ends the record and is left out",
                    );
                    state = State::Outside;
                    patterns.clear();
                }
                State::Patterns | State::Properties => {
                    state = State::Properties;
                    match property(line) {
                        Ok((key, value)) => {
                            let property = trie::Property {
                                key,
                                value,
                                file: source.path.as_bytes(),
                                line: number,
                                priority,
                            };
                            for pattern in &patterns {
                                if !trie.insert(pattern, &property) {
                                    return Err(RootError::Line {
                                        file: source.path.to_owned(),
                                        line: number as usize,
                                        what: "the patterns have more than 4 million properties".to_owned(),
                                    });
                                }
                            }
                        }
                        Err(what) => warn(number, what),
                    }
                }
            }
        }
        if state == State::Patterns {
            warn(0, "the last record has no properties and is left out");
        }
    }
    if left_out > 0 {
        warnings.push(format!("{left_out} more lines of hardware data were left out"));
    }
    Ok(Database {
        bytes: trie.write(),
        warnings,
    })
}

fn trim_end(line: &[u8]) -> &[u8] {
    let space = |byte: u8| byte.is_ascii_whitespace() || byte == 0x0b;
    let len = line.iter().rposition(|&byte| !space(byte)).map_or(0, |at| at + 1);
    &line[..len]
}

/// Key, with one blank before it, and value of an indented line.
fn property(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let equals = line
        .iter()
        .position(|&byte| byte == b'=')
        .ok_or("a property without `=` is left out")?;
    let (mut key, value) = (&line[..equals], &line[equals + 1..]);
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    while blank(key.first()) && blank(key.get(1)) {
        key = &key[1..];
    }
    match key.len() {
        0 | 1 => Err("a property without a key is left out"),
        _ => Ok((key, value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp {
        seconds: 5,
        nanoseconds: 0,
    };

    fn warnings(text: &str) -> Vec<String> {
        let source = Source {
            path: "/x.hwdb",
            bytes: text.as_bytes(),
        };
        compile(&[source]).unwrap().warnings
    }

    #[test]
    fn lines_that_are_left_out() {
        for (text, part) in [
            (" A=1\n", "line 1: a property without a pattern"),
            ("a\n\n", "line 2: a record without properties"),
            ("a\n A=1\nb\n B=1\n\n", "line 3: a pattern among properties"),
            ("a\n A\n", "line 2: a property without `=`"),
            ("a\n   =1\n", "line 2: a property without a key"),
            ("a", "the last record"),
        ] {
            let warnings = warnings(text);
            assert!(warnings[0].contains(part), "{text:?}: {warnings:?}");
        }
        assert!(warnings("# c\na # c\nb\n A=1 # c\n\tB=2\n").len() == 1);
        assert_eq!(warnings(&" A=1\n".repeat(50)).len(), WARNINGS_MAX + 1);
        let zero = Source {
            path: "/x.hwdb",
            bytes: b"a\n A=\0\n",
        };
        assert!(compile(&[zero]).is_err());
        let bomb = "a\nb\nc\n".repeat(1000) + &" A=1\n".repeat(2000);
        let bomb = Source {
            path: "/x.hwdb",
            bytes: bomb.as_bytes(),
        };
        assert!(compile(&[bomb]).unwrap_err().to_string().contains("4 million"));
    }

    #[test]
    fn sources_hide_each_other() {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        let mut write = |path: &str, text: &str| {
            tree.write(path.as_bytes(), Metadata::new(0o644, TIME), text.into())
                .unwrap();
        };
        write("usr/lib/udev/hwdb.d/10-a.hwdb", "a\n A=packaged\n");
        write("usr/lib/udev/hwdb.d/20-b.hwdb", "b\n B=packaged\n");
        write("usr/lib/udev/hwdb.d/readme.txt", "c\n C=packaged\n");
        write("etc/udev/hwdb.d/10-a.hwdb", "a\n A=local\n");
        write("etc/udev/hwdb.d/20-b.hwdb", "");
        let step = run(&mut tree, TIME).unwrap();
        assert_eq!(step.written, [b"/etc/udev/hwdb.bin"]);
        let bytes = tree.read(OUTPUT).unwrap();
        let has = |text: &str| bytes.windows(text.len()).any(|window| window == text.as_bytes());
        assert!(has("local") && !has("packaged"));
        let id = tree.resolve(OUTPUT, Follow::All).unwrap();
        assert_eq!(tree.inode(id).mode(), 0o100444);
        assert!(run(&mut tree, TIME).unwrap().written.is_empty(), "twice is once");
    }

    #[test]
    fn no_sources_no_database() {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        assert_eq!(run(&mut tree, TIME).unwrap(), Step::default());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = compile(&[Source { path: "/x", bytes: &bytes }]);
        }
    }
}
