//! Escape sequences of roff, and strings as the database has them.

use super::characters::character;

/// Deepest nesting of escapes in the argument of an escape.
const DEPTH_MAX: usize = 32;

/// A hyphen at which a line may break.
pub const HYPHEN: u8 = 0x1e;

/// What an escape sequence is, for one who wants characters only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Escape<'t> {
    /// A character by its name.
    Special(&'t [u8]),
    /// Anything else, with nothing to show.
    Other,
    /// Not an escape sequence.
    Wrong,
}

/// Reads the escape sequence whose backslash has just been passed; gives its length as well.
pub fn escape(text: &[u8]) -> (Escape<'_>, usize) {
    nested(text, 0)
}

fn nested(text: &[u8], depth: usize) -> (Escape<'_>, usize) {
    // `\E` differs in copy mode only.
    let skipped = usize::from(text.first() == Some(&b'E'));
    let (found, length) = plain(&text[skipped..], depth);
    (found, skipped + length)
}

fn plain(text: &[u8], depth: usize) -> (Escape<'_>, usize) {
    let Some(&kind) = text.first() else {
        return (Escape::Wrong, 0);
    };
    let next = text.get(1).copied();
    let special = matches!(
        kind,
        b'(' | b'[' | b'C' | b' ' | b'\'' | b'-' | b'.' | b'0' | b':' | b'_' | b'`' | b'e' | b'~'
    );
    // Where the argument begins, and how long it is or what ends it.
    let (start, extent) = match kind {
        b'(' => (1, Extent::Bytes(2)),
        b'[' if next == Some(b' ') => return (Escape::Wrong, 2),
        b'[' => (1, Extent::To(b']')),
        b'C' if next != Some(b'\'') => return (Escape::Wrong, 1),
        b'C' => (2, Extent::To(b'\'')),
        b'!' | b'?' | b'%' | b'&' | b')' | b',' | b'/' | b'^' | b'a' | b'd' | b'r' | b't' | b'u' | b'{'
        | b'|' | b'}' | b'c' | b'p' | b'z' => return (Escape::Other, 1),
        b'F' | b'f' | b'g' | b'k' | b'M' | b'm' | b'n' | b'O' | b'V' | b'Y' | b'*' => match next {
            Some(b'(') => (2, Extent::Bytes(2)),
            Some(b'[') => (2, Extent::To(b']')),
            _ => (1, Extent::Bytes(1)),
        },
        b'A' | b'b' | b'D' | b'R' | b'X' | b'Z' | b'o' => match next {
            Some(end) => (2, Extent::To(end)),
            None => return (Escape::Wrong, 1),
        },
        b'h' | b'H' | b'L' | b'l' | b'S' | b'v' | b'x' => match next {
            Some(end) if !b" %&()*+-./0123456789:<=>".contains(&end) => (2, Extent::To(end)),
            Some(_) => return (Escape::Wrong, 2),
            None => return (Escape::Wrong, 1),
        },
        b'N' => return numbered(text),
        b's' => {
            // A hyphen that may break is a sign, too.
            let start = 1 + usize::from(matches!(next, Some(b'+' | b'-' | HYPHEN)));
            match text.get(start) {
                Some(b'(') => (start + 1, Extent::Bytes(2)),
                Some(b'[') => (start + 1, Extent::To(b']')),
                Some(b'\'') => (start + 1, Extent::To(b'\'')),
                Some(b'1'..=b'3') if start == 1 && text.get(2).is_some_and(u8::is_ascii_digit) => {
                    (start, Extent::Bytes(2))
                }
                _ => (start, Extent::Bytes(1)),
            }
        }
        _ => (0, Extent::Bytes(1)),
    };
    let (name, length) = match extent {
        Extent::Bytes(count) => match text.get(start..start + count) {
            Some(name) => (name, start + count),
            None => return (Escape::Wrong, start.min(text.len())),
        },
        Extent::To(end) => {
            let mut at = start;
            loop {
                match text.get(at) {
                    None => return (Escape::Wrong, text.len()),
                    Some(&byte) if byte == end => break,
                    Some(b'\\') if depth < DEPTH_MAX => match nested(&text[at + 1..], depth + 1) {
                        (Escape::Wrong, length) => return (Escape::Wrong, at + 1 + length),
                        (_, length) => at += 1 + length,
                    },
                    Some(b'\\') => return (Escape::Wrong, text.len()),
                    Some(_) => at += 1,
                }
            }
            (&text[start..at], at + 1)
        }
    };
    if !special {
        return (Escape::Other, length);
    }
    if matches!(extent, Extent::To(_)) && name.len() == 1 && name != b"-" {
        return (Escape::Wrong, length);
    }
    // `\[u2014]` and `\[char34]` are no names.
    let number = |digits: &[u8], hexadecimal: bool| {
        digits.iter().all(|byte| {
            if hexadecimal {
                byte.is_ascii_hexdigit()
            } else {
                byte.is_ascii_digit()
            }
        })
    };
    let unicode = name.len() >= 5 && name.len() <= 7 && name[0] == b'u' && number(&name[1..], true);
    let numeric =
        name.len() >= 6 && name.len() <= 7 && name.starts_with(b"char") && number(&name[4..], false);
    if unicode || numeric {
        return (Escape::Other, length);
    }
    (Escape::Special(name), length)
}

enum Extent {
    Bytes(usize),
    To(u8),
}

/// `\N'34'`: any byte that is no digit encloses the number.
fn numbered(text: &[u8]) -> (Escape<'_>, usize) {
    match text.get(1) {
        None => (Escape::Wrong, 1),
        Some(byte) if byte.is_ascii_digit() => (Escape::Other, 2),
        Some(_) => {
            let digits = text[2..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            (Escape::Other, (2 + digits + 1).min(text.len()))
        }
    }
}

/// A string as the database has it: characters in UTF-8, everything else that is no text left out,
/// without blanks at the end.
pub fn rendered(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        at += 1;
        match byte {
            b'\t' => out.push(b' '),
            HYPHEN => out.push(b'-'),
            b'\\' => {
                let (found, length) = escape(&text[at..]);
                at += length;
                if let Escape::Special(name) = found
                    && let Some(found) = character(name)
                {
                    out.extend_from_slice(found.encode_utf8(&mut [0; 4]).as_bytes());
                }
            }
            _ => out.push(byte),
        }
    }
    while out.last() == Some(&b' ') {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_rendered() {
        for (text, shown) in [
            ("plain  ", "plain"),
            ("a\\-b\\fBc\\fP\\f[BI]d\\f(CWe", "a-bcde"),
            (
                "\\(co 1 \\[em] \\[u2014]\\[char34]\\C'em'",
                "\u{a9} 1 \u{2014} \u{2014}",
            ),
            ("\\s-2x\\s+1y\\s'3'z\\s12w", "xyzw"),
            ("\\h'1n'a\\v'-.1v'b\\*(xxc", "abc"),
            ("a\tb\\ c\\~d\\0e", "a b\u{a0}c\u{a0}d\u{a0}e"),
            ("\\N'34'q\\zx", "qx"),
            ("\\[no such]\\[x]y", "y"),
            ("\\[open", ""),
            ("x\\", "x"),
            ("\\o'ab'c\\X'\\(em'd", "cd"),
        ] {
            assert_eq!(
                String::from_utf8_lossy(&rendered(text.as_bytes())),
                shown,
                "{text}"
            );
        }
    }

    #[test]
    fn deep_nesting_ends() {
        let deep = b"\\A'\\b\"".repeat(50_000);
        assert!(rendered(&deep).len() <= deep.len());
    }
}
