//! Paths inside a tree: byte strings whose components are checked.

use thiserror::Error;

/// Longest name of one component, in bytes (Linux `NAME_MAX`).
pub const NAME_MAX: usize = 255;
/// Longest path, in bytes, without the closing NUL (Linux `PATH_MAX` less one).
pub const PATH_MAX: usize = 4095;

/// What is wrong with a path.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PathError {
    /// A component is longer than [`NAME_MAX`].
    #[error("a name of {0} bytes is longer than {NAME_MAX}")]
    NameTooLong(usize),
    /// The whole path is longer than [`PATH_MAX`].
    #[error("a path of {0} bytes is longer than {PATH_MAX}")]
    PathTooLong(usize),
    /// A NUL byte cannot be in a name.
    #[error("a NUL byte in a path")]
    Nul,
    /// A name is needed where the path is empty, `/`, or ends in `.` or `..`.
    #[error("the path names no entry")]
    NoName,
    /// `.` or `..` cannot be made.
    #[error("`.` and `..` cannot be made")]
    Dots,
}

/// The components of `path`, without empty ones and `.`. A leading slash makes no difference: every path
/// starts at the root of the tree. `..` is kept, since what it means depends on links.
///
/// # Errors
/// When the path or a component is too long, or a NUL byte is in it.
pub fn components(path: &[u8]) -> Result<Vec<&[u8]>, PathError> {
    if path.len() > PATH_MAX {
        return Err(PathError::PathTooLong(path.len()));
    }
    if path.contains(&0) {
        return Err(PathError::Nul);
    }
    let mut parts = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            part if part.len() > NAME_MAX => return Err(PathError::NameTooLong(part.len())),
            part => parts.push(part),
        }
    }
    Ok(parts)
}

/// A path for messages: UTF-8 as it is, control characters and other bytes escaped.
pub fn display(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for character in chunk.valid().chars() {
            if character.is_control() {
                text.extend(character.escape_default());
            } else {
                text.push(character);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_cleaned() {
        let parts = |path: &'static str| components(path.as_bytes()).unwrap();
        assert_eq!(parts("/usr//bin/./sh"), [b"usr".as_slice(), b"bin", b"sh"]);
        assert_eq!(parts("usr/bin/"), [b"usr".as_slice(), b"bin"]);
        assert_eq!(parts("a/../b"), [b"a".as_slice(), b"..", b"b"]);
        assert!(parts("/").is_empty());
        assert!(parts("").is_empty());
    }

    #[test]
    fn bad_paths_are_refused() {
        assert_eq!(components(b"a\0b"), Err(PathError::Nul));
        assert_eq!(components(&[b'a'; 256]), Err(PathError::NameTooLong(256)));
        assert!(components(&[b'a'; 255]).is_ok());
        let long = b"a/".repeat(2048);
        assert_eq!(components(&long), Err(PathError::PathTooLong(4096)));
    }

    #[test]
    fn display_escapes_what_a_terminal_would_obey() {
        assert_eq!(display("/caf\u{e9}".as_bytes()), "/caf\u{e9}");
        assert_eq!(display(b"/a\x1b[2J\n\xff"), "/a\\u{1b}[2J\\n\\xff");
    }
}
