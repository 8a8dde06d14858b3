//! The lines that the guest's report agent writes to the virtio port `org.lycia.report`.
//!
//! Each line is `key=value` or one JSON object. A report begins with `begin=1` and ends with `done=1`; an agent that
//! runs again writes another one. Whatever breaks this is an error: a test must not pass on half a report.

use crate::Error;
use crate::process::{Shared, deadline};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Name of the virtio serial port in the guest.
pub const REPORT_PORT: &str = "org.lycia.report";

/// Longest line in bytes, without its line feed.
const LINE_LIMIT: usize = 16 * 1024;
/// Longest key in bytes.
const KEY_LIMIT: usize = 64;
/// Most lines, and most bytes, of one report.
const LINES_LIMIT: usize = 100_000;
const BYTES_LIMIT: usize = 32 << 20;

/// One line of a report.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// `begin=1`.
    Begin,
    /// `key=value`; the same key may come again.
    Pair {
        /// `[a-z][a-z0-9_.-]*`
        key: String,
        /// The rest of the line, without control characters except tab; may be empty.
        value: String,
    },
    /// One JSON object.
    Json(serde_json::Map<String, serde_json::Value>),
    /// `done=1`.
    Done,
}

/// What is wrong in which line (counted from 1 over all reports of the port).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct LineError {
    /// Number of the line.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// Cuts the bytes of the port into lines; strict, and bounded against a guest that writes without end.
#[derive(Debug, Default)]
pub struct ReportParser {
    partial: Vec<u8>,
    line: usize,
    inside: bool,
    lines: usize,
    bytes: usize,
    failed: Option<LineError>,
}

impl ReportParser {
    /// A parser before the first byte.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives each whole line to `emit`.
    ///
    /// # Errors
    /// The first line that breaks the format; every later call gives the same error.
    pub fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(Line)) -> Result<(), LineError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let result = self.lines(bytes, &mut emit);
        self.failed = result.clone().err();
        result
    }

    /// The port is closed.
    ///
    /// # Errors
    /// A report or a line is not whole.
    pub fn finish(&self) -> Result<(), LineError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if !self.partial.is_empty() {
            return Err(LineError {
                line: self.line + 1,
                why: "it has no end".into(),
            });
        }
        if self.inside {
            return Err(LineError {
                line: self.line,
                why: "the report ends here, without done=1".into(),
            });
        }
        Ok(())
    }

    fn lines(&mut self, mut bytes: &[u8], emit: &mut impl FnMut(Line)) -> Result<(), LineError> {
        while !bytes.is_empty() {
            let end = bytes.iter().position(|&byte| byte == b'\n');
            let part = &bytes[..end.unwrap_or(bytes.len())];
            if self.partial.len() + part.len() > LINE_LIMIT {
                self.partial = Vec::new();
                return Err(LineError {
                    line: self.line + 1,
                    why: format!("longer than {LINE_LIMIT} bytes"),
                });
            }
            self.partial.extend_from_slice(part);
            let Some(end) = end else { return Ok(()) };
            bytes = &bytes[end + 1..];
            self.line += 1;
            let line = std::mem::take(&mut self.partial);
            let parsed = parse_line(&line)
                .and_then(|parsed| self.place(line.len() + 1, parsed))
                .map_err(|why| LineError { line: self.line, why })?;
            emit(parsed);
        }
        Ok(())
    }

    fn place(&mut self, length: usize, line: Line) -> Result<Line, String> {
        match (&line, self.inside) {
            (Line::Begin, true) => return Err("begin=1 inside a report".into()),
            (Line::Begin, false) => (self.inside, self.lines, self.bytes) = (true, 0, 0),
            (Line::Done, true) => self.inside = false,
            (_, false) => return Err("a report begins with begin=1".into()),
            (_, true) => {}
        }
        self.lines += 1;
        self.bytes += length;
        if self.lines > LINES_LIMIT || self.bytes > BYTES_LIMIT {
            return Err(format!(
                "the report has more than {LINES_LIMIT} lines or {BYTES_LIMIT} bytes"
            ));
        }
        Ok(line)
    }
}

fn parse_line(line: &[u8]) -> Result<Line, String> {
    let line = std::str::from_utf8(line).map_err(|_| "it is not UTF-8".to_owned())?;
    // A terminal in cooked mode may put a carriage return before the line feed.
    let line = line.strip_suffix('\r').unwrap_or(line);
    if let Some(control) = line
        .chars()
        .find(|character| character.is_control() && *character != '\t')
    {
        return Err(format!("it has the control character {control:?}"));
    }
    if line.starts_with('{') {
        return serde_json::from_str(line)
            .map(Line::Json)
            .map_err(|error| format!("not a JSON object: {error}"));
    }
    let (key, value) = line
        .split_once('=')
        .ok_or_else(|| format!("neither key=value nor JSON: {}", excerpt(line)))?;
    let well_formed = key.len() <= KEY_LIMIT
        && key.starts_with(|first: char| first.is_ascii_lowercase())
        && key
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'.' | b'-'));
    match (key, value) {
        ("begin", "1") => Ok(Line::Begin),
        ("done", "1") => Ok(Line::Done),
        ("begin" | "done", _) => Err(format!("{key} is 1 or absent, not {}", excerpt(value))),
        _ if well_formed => Ok(Line::Pair {
            key: key.to_owned(),
            value: value.to_owned(),
        }),
        _ => Err(format!("{} is not a key", excerpt(key))),
    }
}

fn excerpt(text: &str) -> String {
    let mut short: String = text.chars().take(60).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("{short:?}")
}

/// One whole report.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pairs: Vec<(String, String)>,
    objects: Vec<serde_json::Map<String, serde_json::Value>>,
}

impl Facts {
    /// The value of the first line with this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(each, _)| each == key)
            .map(|(_, value)| value.as_str())
    }

    /// The values of all lines with this key, in their order.
    pub fn all(&self, key: &str) -> impl Iterator<Item = &str> {
        self.pairs
            .iter()
            .filter(move |(each, _)| each == key)
            .map(|(_, value)| value.as_str())
    }

    /// All `key=value` lines in their order.
    pub fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }

    /// All JSON lines in their order.
    pub fn objects(&self) -> &[serde_json::Map<String, serde_json::Value>] {
        &self.objects
    }
}

/// The receiving end of a guest's report port.
#[derive(Debug)]
pub struct Report {
    pub(crate) shared: Arc<Shared>,
}

impl Report {
    /// The next line.
    ///
    /// # Errors
    /// Nothing came within `limit`, QEMU ended, or the line breaks the format.
    pub fn next(&self, limit: Duration) -> Result<Line, Error> {
        self.next_until(deadline(limit), limit, "a line of the report")
    }

    /// Reads from the next `begin=1` to its `done=1`, all within `limit`.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub fn collect(&self, limit: Duration) -> Result<Facts, Error> {
        let deadline = deadline(limit);
        let mut facts = Facts::default();
        loop {
            match self.next_until(deadline, limit, "the end of the report (done=1)")? {
                Line::Begin => facts = Facts::default(),
                Line::Pair { key, value } => facts.pairs.push((key, value)),
                Line::Json(object) => facts.objects.push(object),
                Line::Done => return Ok(facts),
            }
        }
    }

    fn next_until(&self, deadline: Instant, limit: Duration, awaited: &str) -> Result<Line, Error> {
        enum Outcome {
            Line(Line),
            Broken(LineError),
            Forbidden(String),
            Ended,
        }
        let outcome = self.shared.wait_until(deadline, |state| {
            if let Some(line) = state.report.pop_front() {
                return Some(Outcome::Line(line));
            }
            if let Some(error) = &state.report_error {
                return Some(Outcome::Broken(error.clone()));
            }
            if let Some((text, _)) = &state.forbidden_seen {
                return Some(Outcome::Forbidden(text.clone()));
            }
            (!state.report_open).then_some(Outcome::Ended)
        });
        match outcome {
            Some(Outcome::Line(line)) => Ok(line),
            Some(Outcome::Broken(source)) => Err(Error::Report {
                stage: self.shared.stage(),
                source,
                context: Box::new(self.shared.context()),
            }),
            Some(Outcome::Forbidden(text)) => Err(self.shared.forbidden(awaited, text)),
            Some(Outcome::Ended) => Err(self.shared.ended(awaited)),
            None => Err(self.shared.timeout(awaited, limit)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(bytes: &[u8]) -> Result<Vec<Line>, LineError> {
        let mut parser = ReportParser::new();
        let mut lines = Vec::new();
        parser.feed(bytes, |line| lines.push(line))?;
        parser.finish()?;
        Ok(lines)
    }

    fn pair(key: &str, value: &str) -> Line {
        Line::Pair {
            key: key.into(),
            value: value.into(),
        }
    }

    #[test]
    fn reports_are_read() {
        let lines = parse(
            b"begin=1\nuname=Linux lycia 6.1 #1 SMP\ncmdline=root=live quiet\nempty=\n{\"units\": [1, 2]}\r\ndone=1\n",
        )
        .unwrap();
        assert_eq!(lines[0], Line::Begin);
        assert_eq!(lines[1], pair("uname", "Linux lycia 6.1 #1 SMP"));
        assert_eq!(lines[2], pair("cmdline", "root=live quiet"));
        assert_eq!(lines[3], pair("empty", ""));
        assert!(matches!(&lines[4], Line::Json(object) if object["units"][1] == 2));
        assert_eq!(lines[5], Line::Done);
        assert_eq!(parse(b"begin=1\ndone=1\nbegin=1\ndone=1\n").unwrap().len(), 4);
    }

    #[test]
    fn hostile_lines_are_refused() {
        let long = [b"begin=1\nkey=".as_slice(), &[b'x'; LINE_LIMIT]].concat();
        let long_key = format!("begin=1\n{}=1\ndone=1\n", "k".repeat(KEY_LIMIT + 1));
        let table: &[(&[u8], usize, &str)] = &[
            (b"key=value\n", 1, "begins with begin=1"),
            (b"done=1\n", 1, "begins with begin=1"),
            (b"begin=2\n", 1, "begin is 1"),
            (b"begin=1\nbegin=1\n", 2, "inside a report"),
            (b"begin=1\ndone=1 \n", 2, "done is 1"),
            (b"begin=1\n\ndone=1\n", 2, "neither"),
            (b"begin=1\nno separator\n", 2, "neither"),
            (b"begin=1\n=value\n", 2, "not a key"),
            (b"begin=1\nKey=value\n", 2, "not a key"),
            (b"begin=1\nkey word=value\n", 2, "not a key"),
            (b"begin=1\n1key=value\n", 2, "not a key"),
            (b"begin=1\nkey=\x1b[2J\n", 2, "control character"),
            (b"begin=1\nkey=a\0b\n", 2, "control character"),
            (b"begin=1\nkey=a\rb\n", 2, "control character"),
            (b"begin=1\nkey=\xff\xfe\n", 2, "UTF-8"),
            (b"begin=1\n{\"open\": \n", 2, "JSON"),
            (b"begin=1\n{} trailing\n", 2, "JSON"),
            (b"begin=1\nkey=value\n", 2, "without done=1"),
            (b"begin=1\ndone=1", 2, "no end"),
            (&long, 2, "longer than"),
            (long_key.as_bytes(), 2, "not a key"),
        ];
        for (bytes, line, why) in table {
            let error = parse(bytes).expect_err(&String::from_utf8_lossy(bytes));
            assert_eq!(error.line, *line, "{error}");
            assert!(error.why.contains(why), "{error}");
        }
        let nested = format!("begin=1\n{}\n", "{\"a\":".repeat(3000));
        assert!(parse(nested.as_bytes()).unwrap_err().why.contains("JSON"));
    }

    #[test]
    fn an_unending_report_is_cut() {
        let mut parser = ReportParser::new();
        parser.feed(b"begin=1\n", |_| {}).unwrap();
        let error = (0..LINES_LIMIT + 10)
            .find_map(|_| parser.feed(b"k=v\n", |_| {}).err())
            .unwrap();
        assert!(error.why.contains("more than"), "{error}");
        assert_eq!(
            parser.feed(b"done=1\n", |_| panic!("the parser goes on after an error")),
            Err(error)
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let whole = [b"begin=1\n".as_slice(), &bytes].concat();
            let cut = cut.min(whole.len());
            let mut parser = ReportParser::new();
            let mut pieces = Vec::new();
            let first = parser.feed(&whole[..cut], |line| pieces.push(line));
            let second = parser.feed(&whole[cut..], |line| pieces.push(line));
            let mut single = Vec::new();
            let mut other = ReportParser::new();
            let expected = other.feed(&whole, |line| single.push(line));
            prop_assert_eq!(first.and(second), expected);
            prop_assert_eq!(pieces, single);
        }
    }
}
