//! A line that is typed.

use zeroize::Zeroizing;

use super::keyboard::Key;

/// Characters that a line holds at most. It is allocated once, so that what was secret is not left behind where it grew.
const LONGEST: usize = 2000;

/// A line that is typed, wiped when it goes.
pub struct Line {
    text: Zeroizing<String>,
    /// Characters before the cursor.
    at: usize,
}

impl Line {
    /// A line that begins with `text`, the cursor behind it.
    #[must_use]
    pub fn new(text: &str) -> Line {
        let mut line = Line {
            text: Zeroizing::new(String::with_capacity(LONGEST * 4)),
            at: 0,
        };
        for character in text.chars() {
            line.insert(character);
        }
        line
    }

    /// What stands there.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Characters before the cursor.
    #[must_use]
    pub fn at(&self) -> usize {
        self.at
    }

    fn byte(&self, at: usize) -> usize {
        self.text
            .char_indices()
            .nth(at)
            .map_or(self.text.len(), |(byte, _)| byte)
    }

    fn len(&self) -> usize {
        self.text.chars().count()
    }

    fn insert(&mut self, character: char) {
        if self.len() < LONGEST && !character.is_control() {
            let byte = self.byte(self.at);
            self.text.insert(byte, character);
            self.at += 1;
        }
    }

    fn cut(&mut self, from: usize, to: usize) {
        let (first, last) = (self.byte(from), self.byte(to));
        self.text.replace_range(first..last, "");
        self.at = from;
    }

    /// Whether the key changed something here.
    pub fn key(&mut self, key: Key) -> bool {
        match key {
            Key::Char(character) => self.insert(character),
            Key::Backspace if self.at > 0 => self.cut(self.at - 1, self.at),
            Key::Delete if self.at < self.len() => self.cut(self.at, self.at + 1),
            Key::Left => self.at = self.at.saturating_sub(1),
            Key::Right => self.at = (self.at + 1).min(self.len()),
            Key::Home | Key::Control('a') => self.at = 0,
            Key::End | Key::Control('e') => self.at = self.len(),
            Key::Control('u') => self.cut(0, self.at),
            Key::Control('k') => self.cut(self.at, self.len()),
            Key::Control('w') => {
                let before: Vec<char> = self.text.chars().take(self.at).collect();
                let end = before.iter().rposition(|c| *c != ' ').map_or(0, |at| at + 1);
                let start = before[..end]
                    .iter()
                    .rposition(|c| *c == ' ')
                    .map_or(0, |at| at + 1);
                self.cut(start, self.at);
            }
            _ => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editing() {
        let mut line = Line::new("žluť kůň");
        for key in [
            Key::Backspace,
            Key::Home,
            Key::Delete,
            Key::Char('Z'),
            Key::Right,
            Key::Char('!'),
        ] {
            assert!(line.key(key));
        }
        assert_eq!((line.text(), line.at()), ("Zl!uť ků", 3));
        line.key(Key::End);
        line.key(Key::Control('w'));
        assert_eq!(line.text(), "Zl!uť ");
        line.key(Key::Left);
        line.key(Key::Control('u'));
        assert_eq!((line.text(), line.at()), (" ", 0));
        line.key(Key::Control('k'));
        assert_eq!(line.text(), "");
        assert!(!line.key(Key::Enter));
    }
}
