//! Keys of a US keyboard as QMP names them (QEMU's `QKeyCode`).

use crate::Error;

/// A key, or a character that a US keyboard can type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Key {
    /// A printable ASCII character; shift is pressed with it where needed.
    Char(char),
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Tab.
    Tab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Cursor up.
    Up,
    /// Cursor down.
    Down,
    /// Cursor left.
    Left,
    /// Cursor right.
    Right,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Function key 1 to 12.
    Function(u8),
    /// Control, for chords.
    Control,
    /// Alt, for chords.
    Alt,
    /// Shift, for chords.
    Shift,
}

impl Key {
    /// The key codes pressed together for this key.
    pub(crate) fn codes(self) -> Result<Vec<&'static str>, Error> {
        const FUNCTION: [&str; 12] = [
            "f1", "f2", "f3", "f4", "f5", "f6", "f7", "f8", "f9", "f10", "f11", "f12",
        ];
        let code = match self {
            Self::Char(character) => return character_codes(character),
            Self::Enter => "ret",
            Self::Escape => "esc",
            Self::Tab => "tab",
            Self::Backspace => "backspace",
            Self::Delete => "delete",
            Self::Up => "up",
            Self::Down => "down",
            Self::Left => "left",
            Self::Right => "right",
            Self::Home => "home",
            Self::End => "end",
            Self::PageUp => "pgup",
            Self::PageDown => "pgdn",
            Self::Function(number) => FUNCTION
                .get(usize::from(number).wrapping_sub(1))
                .copied()
                .ok_or_else(|| Error::Key {
                    key: format!("F{number}"),
                })?,
            Self::Control => "ctrl",
            Self::Alt => "alt",
            Self::Shift => "shift",
        };
        Ok(vec![code])
    }
}

/// Keys with their character alone and with shift.
const PUNCTUATION: [(&str, char, char); 21] = [
    ("grave_accent", '`', '~'),
    ("1", '1', '!'),
    ("2", '2', '@'),
    ("3", '3', '#'),
    ("4", '4', '$'),
    ("5", '5', '%'),
    ("6", '6', '^'),
    ("7", '7', '&'),
    ("8", '8', '*'),
    ("9", '9', '('),
    ("0", '0', ')'),
    ("minus", '-', '_'),
    ("equal", '=', '+'),
    ("bracket_left", '[', '{'),
    ("bracket_right", ']', '}'),
    ("backslash", '\\', '|'),
    ("semicolon", ';', ':'),
    ("apostrophe", '\'', '"'),
    ("comma", ',', '<'),
    ("dot", '.', '>'),
    ("slash", '/', '?'),
];

const LETTERS: [&str; 26] = [
    "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o", "p", "q", "r", "s", "t", "u",
    "v", "w", "x", "y", "z",
];

fn character_codes(character: char) -> Result<Vec<&'static str>, Error> {
    let letter = |first: u8| LETTERS[usize::from(character as u8 - first)];
    Ok(match character {
        'a'..='z' => vec![letter(b'a')],
        'A'..='Z' => vec!["shift", letter(b'A')],
        ' ' => vec!["spc"],
        '\n' => vec!["ret"],
        '\t' => vec!["tab"],
        _ => PUNCTUATION
            .iter()
            .find_map(|&(code, plain, shifted)| {
                (character == plain)
                    .then(|| vec![code])
                    .or_else(|| (character == shifted).then(|| vec!["shift", code]))
            })
            .ok_or_else(|| Error::Key {
                key: format!("{character:?}"),
            })?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_printable_ascii_character_has_its_own_keys() {
        let mut seen = std::collections::BTreeSet::new();
        for character in ' '..='~' {
            assert!(seen.insert(Key::Char(character).codes().unwrap()), "{character}");
        }
        assert_eq!(seen.len(), 95);
        assert!(Key::Char('é').codes().is_err());
        assert!(Key::Char('\0').codes().is_err());
    }

    #[test]
    fn function_keys() {
        assert_eq!(Key::Function(1).codes().unwrap(), ["f1"]);
        assert_eq!(Key::Function(12).codes().unwrap(), ["f12"]);
        assert!(Key::Function(0).codes().is_err());
        assert!(Key::Function(13).codes().is_err());
    }
}
