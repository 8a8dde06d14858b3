//! The bounded text of a console, and the place up to which it has been consumed.

use crate::terminal::{Piece, Stripper};

/// Plain text of a console. When it grows over its limit, its older half is dropped.
#[derive(Debug)]
pub(crate) struct Transcript {
    stripper: Stripper,
    text: Vec<u8>,
    /// Bytes dropped from the front; positions count from the first byte ever seen.
    dropped: usize,
    /// Where the next match may begin.
    consumed: usize,
    limit: usize,
}

/// A pattern found in a transcript.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Which pattern.
    pub(crate) index: usize,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Transcript {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            stripper: Stripper::new(),
            text: Vec::new(),
            dropped: 0,
            consumed: 0,
            limit,
        }
    }

    pub(crate) fn feed(&mut self, raw: &[u8]) {
        let Self {
            stripper,
            text,
            dropped,
            consumed,
            ..
        } = self;
        stripper.feed(raw, |piece| match piece {
            Piece::Byte(byte) => text.push(byte),
            Piece::NewLine => text.push(b'\n'),
            Piece::Jump | Piece::Place { .. } => {
                if text.last().is_some_and(|&byte| byte != b'\n') {
                    text.push(b'\n');
                }
            }
            // What has been matched stays as it was matched.
            Piece::Back => {
                while *dropped + text.len() > *consumed && text.last().is_some_and(|&byte| byte != b'\n') {
                    let last = text.pop();
                    // A whole UTF-8 character goes: its continuation bytes, then its first byte.
                    if last.is_none_or(|byte| byte & 0xc0 != 0x80) {
                        break;
                    }
                }
            }
        });
        if self.text.len() > self.limit {
            let cut = self.text.len() - self.limit / 2;
            self.text.drain(..cut);
            self.dropped += cut;
            self.consumed = self.consumed.max(self.dropped);
        }
    }

    /// The end, as a position.
    pub(crate) fn end(&self) -> usize {
        self.dropped + self.text.len()
    }

    /// The start of the last line: what is before it does not change any more.
    pub(crate) fn settled(&self) -> usize {
        self.dropped
            + self
                .text
                .iter()
                .rposition(|&byte| byte == b'\n')
                .map_or(0, |at| at + 1)
    }

    pub(crate) fn consumed(&self) -> usize {
        self.consumed
    }

    /// Everything before `position` is past.
    pub(crate) fn consume(&mut self, position: usize) {
        self.consumed = position.clamp(self.dropped, self.end());
    }

    /// The pattern that begins first at or after `from`; of two that begin together the one named first.
    pub(crate) fn find(&self, patterns: &[&str], from: usize) -> Option<Found> {
        let start = from.clamp(self.dropped, self.end()) - self.dropped;
        let text = &self.text[start..];
        patterns
            .iter()
            .enumerate()
            .filter_map(|(index, pattern)| position(text, pattern.as_bytes()).map(|at| (at, index)))
            .min()
            .map(|(at, index)| {
                let start = self.dropped + start + at;
                Found {
                    index,
                    start,
                    end: start + patterns[index].len(),
                }
            })
    }

    /// The text between two positions, as far as it is still kept.
    pub(crate) fn between(&self, start: usize, end: usize) -> String {
        let end = end.clamp(self.dropped, self.end()) - self.dropped;
        let start = (start.max(self.dropped) - self.dropped).min(end);
        String::from_utf8_lossy(&self.text[start..end]).into_owned()
    }

    /// All that is kept.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.text).into_owned()
    }

    /// The last `lines` lines.
    pub(crate) fn tail(&self, lines: usize) -> String {
        let end = self.text.len() - self.text.iter().rev().take_while(|&&byte| byte == b'\n').count();
        let start = self.text[..end]
            .iter()
            .enumerate()
            .rev()
            .filter(|&(_, &byte)| byte == b'\n')
            .nth(lines.saturating_sub(1))
            .map_or(0, |(at, _)| at + 1);
        String::from_utf8_lossy(&self.text[start..end]).into_owned()
    }
}

fn position(text: &[u8], pattern: &[u8]) -> Option<usize> {
    if pattern.is_empty() {
        return Some(0);
    }
    text.windows(pattern.len()).position(|window| window == pattern)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_pattern_wins() {
        let mut transcript = Transcript::new(1000);
        transcript.feed(b"GRUB menu\r\nlogin: ");
        assert_eq!(
            transcript.find(&["login: ", "menu"], 0),
            Some(Found {
                index: 1,
                start: 5,
                end: 9
            })
        );
        assert_eq!(
            transcript.find(&["login: ", "menu"], 6),
            Some(Found {
                index: 0,
                start: 10,
                end: 17
            })
        );
        assert_eq!(
            transcript.find(&["GR", "GRUB"], 0),
            Some(Found {
                index: 0,
                start: 0,
                end: 2
            })
        );
        assert_eq!(transcript.find(&["absent"], 0), None);
        assert_eq!(transcript.find(&["login"], 900), None);
    }

    #[test]
    fn it_stays_bounded_and_positions_stay_true() {
        let mut transcript = Transcript::new(100);
        for number in 0..1000 {
            transcript.feed(format!("line {number}\n").as_bytes());
            assert!(transcript.text.len() <= 100);
        }
        let found = transcript.find(&["line 999"], 0).unwrap();
        assert_eq!(transcript.between(found.start, found.end), "line 999");
        assert_eq!(
            transcript.end(),
            (0..1000).map(|n| format!("line {n}\n").len()).sum::<usize>()
        );
        assert!(transcript.consumed() > 0);
        transcript.consume(0);
        assert_eq!(transcript.find(&["line 1\n"], transcript.consumed()), None);
    }

    #[test]
    fn tails() {
        let mut transcript = Transcript::new(1000);
        assert_eq!(transcript.tail(3), "");
        transcript.feed(b"one");
        assert_eq!(transcript.tail(3), "one");
        transcript.feed(b"\ntwo\nthree\nfour\n\n");
        assert_eq!(transcript.tail(2), "three\nfour");
        assert_eq!(transcript.tail(99), "one\ntwo\nthree\nfour");
    }

    #[test]
    fn backspace_takes_back_no_matched_text() {
        let mut transcript = Transcript::new(1000);
        transcript.feed("abé".as_bytes());
        transcript.feed(b"\x08");
        assert_eq!(transcript.text(), "ab");
        transcript.consume(2);
        transcript.feed(b"\x08\x08c");
        assert_eq!(transcript.text(), "abc");
    }
}
