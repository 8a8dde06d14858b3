//! What a terminal sends as keys.
//!
//! Serial lines deliver the bytes of one key apart from each other, so that no end of a read says where a key ends. `vte`, the parser of Alacritty, keeps its
//! state between reads; crossterm takes what a read ends with for whole, and then a cursor key is Escape and two letters.

use vte::{Params, Parser, Perform};

/// A key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Key {
    /// A character.
    Char(char),
    /// Control and a letter, in lower case.
    Control(char),
    /// Return.
    Enter,
    /// Escape by itself.
    Escape,
    /// Tab.
    Tab,
    /// Shift and Tab.
    BackTab,
    /// Deletes before the cursor.
    Backspace,
    /// Deletes at the cursor.
    Delete,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// To the beginning.
    Home,
    /// To the end.
    End,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// A function key.
    Function(u8),
}

/// Bytes to keys.
#[derive(Default)]
pub struct Keyboard {
    parser: Parser,
    keys: Keys,
}

#[derive(Default)]
struct Keys {
    found: Vec<Key>,
    /// An escape came, and nothing after it yet.
    escape: bool,
    /// `ESC O` or `ESC [ [`: the next letter is part of a key.
    shifted: Option<char>,
}

impl Keyboard {
    /// The keys in `bytes`, together with what came before.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Key> {
        for &byte in bytes {
            // Sequences of keys begin with `ESC [` and `ESC O`, other answers of terminals with the last two; before anything else it was the key itself.
            if self.keys.escape && !matches!(byte, b'[' | b'O' | b']' | b'P') {
                let key = self.nothing_followed();
                self.keys.found.extend(key);
            }
            self.keys.escape = byte == 0x1b;
            // `vte` ignores DEL, which is what most terminals send for backspace.
            if byte == 0x7f {
                self.keys.found.push(Key::Backspace);
            } else {
                self.parser.advance(&mut self.keys, &[byte]);
            }
        }
        std::mem::take(&mut self.keys.found)
    }

    /// Whether an escape waits for what follows: where nothing does for a tenth of a second, it is a key.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.keys.escape
    }

    /// Nothing followed.
    pub fn nothing_followed(&mut self) -> Option<Key> {
        let escape = std::mem::take(&mut self.keys.escape);
        if escape {
            self.parser = Parser::new();
            self.keys.shifted = None;
        }
        escape.then_some(Key::Escape)
    }
}

impl Keys {
    fn put(&mut self, key: Option<Key>) {
        self.found.extend(key);
    }
}

/// Keys that end with a letter, after `ESC [` and after `ESC O` (ECMA-48, and DEC's application mode).
fn by_letter(letter: char) -> Option<Key> {
    Some(match letter {
        'A' => Key::Up,
        'B' => Key::Down,
        'C' => Key::Right,
        'D' => Key::Left,
        'H' => Key::Home,
        'F' => Key::End,
        'Z' => Key::BackTab,
        'M' => Key::Enter,
        'P'..='S' => Key::Function(letter as u8 - b'P' + 1),
        _ => return None,
    })
}

impl Perform for Keys {
    fn print(&mut self, character: char) {
        let key = match self.shifted.take() {
            Some('O') => by_letter(character),
            // The function keys of Linux's console.
            Some(_) => matches!(character, 'A'..='E').then(|| Key::Function(character as u8 - b'A' + 1)),
            None => Some(Key::Char(character)),
        };
        self.put(key);
    }

    fn execute(&mut self, byte: u8) {
        let key = match byte {
            b'\r' | b'\n' => Some(Key::Enter),
            b'\t' => Some(Key::Tab),
            0x08 => Some(Key::Backspace),
            1..=26 => Some(Key::Control(char::from(b'a' + byte - 1))),
            _ => None,
        };
        self.put(key);
    }

    fn csi_dispatch(&mut self, params: &Params, _: &[u8], _: bool, action: char) {
        let first = params
            .iter()
            .next()
            .and_then(|one| one.first().copied())
            .unwrap_or(0);
        let key = match (action, first) {
            ('[', _) => {
                self.shifted = Some('[');
                None
            }
            ('~', 1 | 7) => Some(Key::Home),
            ('~', 3) => Some(Key::Delete),
            ('~', 4 | 8) => Some(Key::End),
            ('~', 5) => Some(Key::PageUp),
            ('~', 6) => Some(Key::PageDown),
            ('~', 11..=15) => Some(Key::Function(first as u8 - 10)),
            ('~', 17..=21) => Some(Key::Function(first as u8 - 11)),
            ('~', 23 | 24) => Some(Key::Function(first as u8 - 12)),
            (letter, _) => by_letter(letter),
        };
        self.put(key);
    }

    fn esc_dispatch(&mut self, _: &[u8], _: bool, byte: u8) {
        if byte == b'O' {
            self.shifted = Some('O');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(parts: &[&[u8]]) -> Vec<Key> {
        let mut keyboard = Keyboard::default();
        let mut keys: Vec<Key> = parts.iter().flat_map(|part| keyboard.feed(part)).collect();
        keys.extend(keyboard.nothing_followed());
        keys
    }

    #[test]
    fn keys_of_terminals_and_of_linux_console() {
        for (bytes, key) in [
            (&b"\x1b[A"[..], Key::Up),
            (b"\x1bOB", Key::Down),
            (b"\x1b[5~", Key::PageUp),
            (b"\x1b[Z", Key::BackTab),
            (b"\x1bOQ", Key::Function(2)),
            (b"\x1b[[B", Key::Function(2)),
            (b"\x1b[12~", Key::Function(2)),
            (b"\x1b[21~", Key::Function(10)),
            (b"\x1b[1;5C", Key::Right),
            (b"\x1b[3~", Key::Delete),
            (b"\x7f", Key::Backspace),
            (b"\x08", Key::Backspace),
            (b"\r", Key::Enter),
            (b"\x13", Key::Control('s')),
            ("ž".as_bytes(), Key::Char('ž')),
            (b"\x1b", Key::Escape),
        ] {
            assert_eq!(keys(&[bytes]), [key], "{bytes:?}");
            // The same, a byte at a time.
            let apart: Vec<&[u8]> = bytes.chunks(1).collect();
            assert_eq!(keys(&apart), [key], "{bytes:?} apart");
        }
    }

    #[test]
    fn escape_by_itself_is_a_key_and_does_not_eat_the_next() {
        let mut keyboard = Keyboard::default();
        assert!(keyboard.feed(b"\x1b").is_empty() && keyboard.waits());
        assert_eq!(keyboard.nothing_followed(), Some(Key::Escape));
        assert_eq!(keyboard.feed(b"a"), [Key::Char('a')]);
        assert_eq!(keys(&[b"\x1b\x1b[A"]), [Key::Escape, Key::Up]);
        assert_eq!(keys(&[b"\x1b\x0c"]), [Key::Escape, Key::Control('l')]);
        assert_eq!(
            keys(&[b"\x1by\x1b", b"\r"]),
            [Key::Escape, Key::Char('y'), Key::Escape, Key::Enter]
        );
    }

    #[test]
    fn rubbish_is_no_key_and_ends() {
        let long = [&b"\x1b["[..], &[b'9'; 5000]].concat();
        assert!(keys(&[&long]).is_empty());
        assert_eq!(keys(&[b"\x1b]0;title\x07", b"x"]), [Key::Char('x')]);
    }
}
