//! Lines, words and quoting of service descriptions (dinit-service(5), "Service properties").
//!
//! A logical line is one setting: a physical line ending in an odd number of backslashes goes on in the
//! next one, which has to begin with white space. Within a value white space separates words, double
//! quotes keep it, a backslash takes the meaning from the next character, and `#` after white space
//! begins a comment.

use std::ops::Range;

/// Largest service description that is read, in bytes.
pub const MAX_FILE_BYTES: usize = 256 * 1024;
/// Longest logical line (with its continuations), in bytes.
pub const MAX_LINE_BYTES: usize = 32 * 1024;
/// How deep `@include` may nest.
pub const MAX_INCLUDE_DEPTH: usize = 8;

/// One setting with the physical line it begins on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogicalLine {
    /// Physical line number, counted from 1.
    pub number: u32,
    /// The text; a newline stands where a continuation was.
    pub text: String,
}

/// Why text could not be cut into lines or words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// A line is longer than [`MAX_LINE_BYTES`].
    #[error("the line is longer than {MAX_LINE_BYTES} bytes")]
    LineTooLong,
    /// A backslash at the end of the last line.
    #[error("the file ends after a continuation backslash")]
    EndAfterBackslash,
    /// The line after a continuation does not begin with white space.
    #[error("a continuation line must begin with white space")]
    ContinuationNotIndented,
    /// A quote was opened and never closed.
    #[error("a double quote is not closed")]
    UnclosedQuote,
    /// `#` directly after a value character.
    #[error("a `#` comment must be separated from the value by white space (or write `\\#`)")]
    CommentNotSeparated,
    /// A backslash with nothing behind it.
    #[error("a backslash at the end of the value escapes nothing")]
    NothingEscaped,
    /// A NUL or another control character that no setting can use.
    #[error("the line contains the control character 0x{0:02x}")]
    Control(u8),
}

/// White space as the C locale has it.
pub fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}

/// Cuts a file into logical lines. Empty lines and comment lines are left out. Lines that are wrong
/// come out as errors with their number, and cutting goes on behind them.
pub fn logical_lines(text: &str) -> Vec<Result<LogicalLine, (u32, TextError)>> {
    let mut out = Vec::new();
    let mut lines = text.split('\n').zip(1u32..).peekable();
    while let Some((first, number)) = lines.next() {
        if first.trim_start_matches(is_space).is_empty() {
            // White space only; a continuation of nothing is nothing, too.
            continue;
        }
        let mut joined = String::from(first);
        let mut failure = None;
        while ends_in_odd_backslashes(&joined) {
            joined.pop();
            joined.push('\n');
            match lines.next() {
                // The piece behind the file's last newline is no line.
                Some((next, _)) if lines.peek().is_some() || !next.is_empty() => {
                    if !next.starts_with(is_space) {
                        failure = failure.or(Some(TextError::ContinuationNotIndented));
                    }
                    joined.push_str(next);
                }
                _ => {
                    failure = failure.or(Some(TextError::EndAfterBackslash));
                    break;
                }
            }
            if joined.len() > MAX_LINE_BYTES {
                failure = failure.or(Some(TextError::LineTooLong));
            }
        }
        if joined.len() > MAX_LINE_BYTES {
            failure = failure.or(Some(TextError::LineTooLong));
        }
        if let Some(c) = joined
            .bytes()
            .find(|&c| c < b' ' && !is_space(char::from(c)) || c == 0x7f)
        {
            failure = failure.or(Some(TextError::Control(c)));
        }
        if let Some(problem) = failure {
            out.push(Err((number, problem)));
        } else if !joined.trim_start_matches(is_space).starts_with('#') {
            out.push(Ok(LogicalLine { number, text: joined }));
        }
    }
    out
}

fn ends_in_odd_backslashes(line: &str) -> bool {
    line.bytes().rev().take_while(|&c| c == b'\\').count() % 2 == 1
}

/// A value with quotes and escapes resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Value {
    /// The whole text; runs of unquoted white space are one space.
    pub text: String,
    words: Vec<Range<usize>>,
}

impl Value {
    /// Reads a value: everything behind the operator of a setting.
    pub fn read(input: &str) -> Result<Value, TextError> {
        let mut value = Value::default();
        let mut chars = input.trim_start_matches(is_space).chars().peekable();
        let mut start = None;
        while let Some(c) = chars.next() {
            match c {
                '"' => {
                    start.get_or_insert(value.text.len());
                    loop {
                        match chars.next() {
                            None => return Err(TextError::UnclosedQuote),
                            Some('"') => break,
                            Some('\\') => value.text.push(chars.next().ok_or(TextError::UnclosedQuote)?),
                            Some(other) => value.text.push(other),
                        }
                    }
                }
                '\\' => {
                    start.get_or_insert(value.text.len());
                    value.text.push(chars.next().ok_or(TextError::NothingEscaped)?);
                }
                c if is_space(c) => {
                    if let Some(start) = start.take() {
                        value.words.push(start..value.text.len());
                    }
                    // White space and the comments in it; a comment ends where its line does.
                    let mut comment = false;
                    while let Some(&next) = chars.peek() {
                        if next == '#' {
                            comment = true;
                        } else if next == '\n' {
                            comment = false;
                        } else if !comment && !is_space(next) {
                            break;
                        }
                        chars.next();
                    }
                    if chars.peek().is_some() {
                        value.text.push(' ');
                    }
                }
                '#' => return Err(TextError::CommentNotSeparated),
                other => {
                    start.get_or_insert(value.text.len());
                    value.text.push(other);
                }
            }
        }
        if let Some(start) = start {
            value.words.push(start..value.text.len());
        }
        Ok(value)
    }

    /// The words in order.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(|range| &self.text[range.clone()])
    }
}

/// Writes words so that [`Value::read`] gives the same words back.
pub fn quote_words<S: AsRef<str>>(words: &[S]) -> String {
    let mut out = String::new();
    for (index, word) in words.iter().enumerate() {
        let word = word.as_ref();
        if index > 0 {
            out.push(' ');
        }
        let plain = !word.is_empty() && !word.contains(|c| is_space(c) || matches!(c, '"' | '\\' | '#'));
        if plain {
            out.push_str(word);
            continue;
        }
        out.push('"');
        for c in word.chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        out.push('"');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(input: &str) -> Vec<String> {
        Value::read(input).unwrap().words().map(str::to_owned).collect()
    }

    #[test]
    fn words_and_quotes() {
        let table: &[(&str, &[&str], &str)] = &[
            ("a b", &["a", "b"], "a b"),
            ("  a \t  b  ", &["a", "b"], "a b"),
            ("a # comment", &["a"], "a"),
            ("a \"b  c\" d", &["a", "b  c", "d"], "a b  c d"),
            ("a\\ b", &["a b"], "a b"),
            ("\\#a \\\"b \\\\", &["#a", "\"b", "\\"], "#a \"b \\"),
            ("x\"y z\"w", &["xy zw"], "xy zw"),
            ("\"\" a", &["", "a"], " a"),
            ("\"a\\\"b\"", &["a\"b"], "a\"b"),
            ("one #c\n two", &["one", "two"], "one two"),
            ("", &[], ""),
        ];
        for (input, expected, text) in table {
            assert_eq!(words(input), *expected, "{input:?}");
            assert_eq!(Value::read(input).unwrap().text, *text, "{input:?}");
        }
    }

    #[test]
    fn value_errors() {
        assert_eq!(Value::read("a#b"), Err(TextError::CommentNotSeparated));
        assert_eq!(Value::read("#b"), Err(TextError::CommentNotSeparated));
        assert_eq!(Value::read("\"a"), Err(TextError::UnclosedQuote));
        assert_eq!(Value::read("\"a\\"), Err(TextError::UnclosedQuote));
        assert_eq!(Value::read("a\\"), Err(TextError::NothingEscaped));
    }

    #[test]
    fn lines() {
        let got = logical_lines("# c\n\na = 1\n  # c\nb = x \\\n  y\nc = z\\\\\n");
        let got: Vec<_> = got
            .into_iter()
            .map(|line| line.map(|l| (l.number, l.text)).unwrap())
            .collect();
        assert_eq!(
            got,
            [
                (3, "a = 1".to_owned()),
                (5, "b = x \n  y".to_owned()),
                (7, "c = z\\\\".to_owned())
            ]
        );
    }

    #[test]
    fn line_errors_carry_numbers_and_do_not_stop() {
        let got = logical_lines("a = b\\\nc\nd = \x01\ne = f\ng = \\\n");
        assert_eq!(
            got,
            vec![
                Err((1, TextError::ContinuationNotIndented)),
                Err((3, TextError::Control(1))),
                Ok(LogicalLine {
                    number: 4,
                    text: "e = f".into()
                }),
                Err((5, TextError::EndAfterBackslash)),
            ]
        );
        let long = format!("a = {}\nb = c\n", "x".repeat(MAX_LINE_BYTES));
        let got = logical_lines(&long);
        assert_eq!(got[0], Err((1, TextError::LineTooLong)));
        assert!(got[1].is_ok());
    }

    proptest! {
        #[test]
        fn any_text_is_cut_without_panic(text in "\\PC*|[a-c =:\"\\\\#\n\t]*") {
            for line in logical_lines(&text).into_iter().flatten() {
                let _ = Value::read(&line.text);
            }
        }

        #[test]
        fn quoting_round_trips(list in proptest::collection::vec("[ -~é\t]{0,8}", 0..6)) {
            let value = Value::read(&quote_words(&list)).unwrap();
            prop_assert_eq!(value.words().map(str::to_owned).collect::<Vec<_>>(), list);
        }
    }
}
