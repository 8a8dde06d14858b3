//! Reading configuration folders and lines as systemd's formats have them.

use std::collections::BTreeMap;

use lycia_tree::{Follow, Tree};

use crate::RootError;

/// Largest configuration file read, in bytes.
const FILE_MAX: usize = 4 << 20;

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

/// The lines of a configuration file that are neither empty nor comments, with their numbers from 1.
pub fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().map(str::trim).zip(1..);
    lines
        .filter(|(line, _)| !line.is_empty() && !line.starts_with('#'))
        .map(|(line, number)| (number, line))
}

/// Takes the next word off a line, and the blanks behind it. Quotes of both kinds hold blanks; a backslash
/// takes the next letter as it is, or, with `escapes`, begins an escape of C. None where nothing is left.
pub fn word(rest: &mut &str, escapes: bool) -> Result<Option<Vec<u8>>, String> {
    let blank = |letter: char| letter.is_ascii_whitespace();
    let line = rest.trim_start_matches(blank);
    if line.is_empty() {
        *rest = line;
        return Ok(None);
    }
    let mut out = Vec::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(letter) = line[at..].chars().next() {
        if quote.is_none() && blank(letter) {
            break;
        }
        at += letter.len_utf8();
        match (letter, quote) {
            ('\\', _) if escapes => at += unescape_one(&line[at..], &mut out)?,
            ('\\', _) => {
                let next = line[at..].chars().next();
                let next = next.ok_or("a backslash stands at the end")?;
                at += next.len_utf8();
                push(&mut out, next);
            }
            (letter, Some(open)) if letter == open => quote = None,
            ('"' | '\'', None) => quote = Some(letter),
            (letter, _) => push(&mut out, letter),
        }
    }
    if let Some(open) = quote {
        return Err(format!("a quote {open} is not closed"));
    }
    *rest = line[at..].trim_start_matches(blank);
    Ok(Some(out))
}

fn push(out: &mut Vec<u8>, letter: char) {
    out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
}

/// A word as a POSIX shell takes it literally.
pub fn shell_quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

/// A text with its escapes of C replaced.
pub fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        rest = &rest[at + 1..];
        rest = &rest[unescape_one(rest, &mut out)?..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Replaces one escape, whose backslash has been read; says how long it was.
fn unescape_one(rest: &str, out: &mut Vec<u8>) -> Result<usize, String> {
    let wrong = || {
        let shown: String = rest.chars().take(1).flat_map(char::escape_debug).collect();
        format!("`\\{shown}` is no escape")
    };
    let number = |digits: &str, base: u32| -> Result<u32, String> {
        let fits = digits.chars().all(|digit| digit.is_digit(base));
        let number = u32::from_str_radix(digits, base)
            .ok()
            .filter(|&number| fits && number != 0);
        number.ok_or_else(wrong)
    };
    let letter = rest.chars().next().ok_or("a backslash stands at the end")?;
    let plain = match letter {
        'a' => 0x07,
        'b' => 0x08,
        'f' => 0x0c,
        'n' => b'\n',
        'r' => b'\r',
        't' => b'\t',
        'v' => 0x0b,
        's' => b' ',
        '\\' | '"' | '\'' => letter as u8,
        'x' => number(rest.get(1..3).ok_or_else(wrong)?, 16)? as u8,
        'u' | 'U' => {
            let len = if letter == 'u' { 4 } else { 8 };
            let code = number(rest.get(1..1 + len).ok_or_else(wrong)?, 16)?;
            push(out, char::from_u32(code).ok_or_else(wrong)?);
            return Ok(1 + len);
        }
        '0'..='7' => {
            let code = number(rest.get(..3).ok_or_else(wrong)?, 8)?;
            out.push(u8::try_from(code).map_err(|_| wrong())?);
            return Ok(3);
        }
        _ => return Err(wrong()),
    };
    out.push(plain);
    Ok(if letter == 'x' { 3 } else { 1 })
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
    fn words_are_taken_one_by_one() {
        let take = |line: &str, escapes| -> Result<Vec<String>, String> {
            let mut rest = line;
            let mut words = Vec::new();
            while let Some(next) = word(&mut rest, escapes)? {
                words.push(String::from_utf8(next).unwrap());
            }
            Ok(words)
        };
        for (line, escapes, words) in [
            (" a  'b c'\td\"e f\"", true, vec!["a", "b c", "de f"]),
            ("a\\ b 'it\\'s'", false, vec!["a b", "it's"]),
            ("\\n \\x41\\101\\u00e9 \\s", true, vec!["\n", "AA\u{e9}", " "]),
            ("\"\" b", true, vec!["", "b"]),
            ("", true, vec![]),
        ] {
            assert_eq!(take(line, escapes).unwrap(), words, "{line}");
        }
        for (line, escapes) in [
            ("'a", true),
            ("a\\", false),
            ("\\q", true),
            ("\\x4", true),
            ("\\x00", true),
            ("\\400", true),
            ("\\ud800", true),
            ("\\x+1", true),
        ] {
            assert!(take(line, escapes).is_err(), "{line}");
        }
        let mut rest = "one  two three ";
        word(&mut rest, true).unwrap();
        assert_eq!(rest, "two three ");
        assert_eq!(unescape("a\\tb \\\\ 'c'").unwrap(), b"a\tb \\ 'c'");
        assert!(unescape("a\\").is_err());
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_answered(line in "[a\\\\'\" xu0-9\u{e9}]{0,12}", escapes: bool) {
            let mut rest = line.as_str();
            while let Ok(Some(_)) = word(&mut rest, escapes) {}
            let _ = unescape(&line);
        }
    }

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
