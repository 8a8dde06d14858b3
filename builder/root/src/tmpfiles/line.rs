//! Lines of `tmpfiles.d` (tmpfiles.d(5)).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lycia_tree::Device;

use crate::specifier::{Expanded, Specifiers, Table};
use crate::{RootError, text};

/// What a line does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    /// `A`, `a`: access control lists, for all below or not.
    Acl {
        /// For all below.
        recursive: bool,
    },
    /// `b`, `c`: a device node.
    Device {
        /// A block device.
        block: bool,
    },
    /// `C`: a copy of a file or tree.
    Copy,
    /// `d`, `v`, `q`, `Q`: a directory.
    Directory,
    /// `D`: a directory without content.
    EmptiedDirectory,
    /// `e`: owner and mode of directories that are there.
    ExistingDirectory,
    /// `f`: a file.
    File,
    /// `F`, `f+`: a file whose content is replaced.
    TruncatedFile,
    /// `h`, `H`: attributes of the file system.
    Attributes {
        /// For all below.
        recursive: bool,
    },
    /// `x`, `X`: what cleaning leaves alone.
    Ignored,
    /// `L`: a symbolic link.
    Symlink,
    /// `p`: a FIFO.
    Fifo,
    /// `r`, `R`: what is removed.
    Removed {
        /// With all below.
        recursive: bool,
    },
    /// `t`, `T`: extended attributes.
    Xattrs {
        /// For all below.
        recursive: bool,
    },
    /// `w`: text written into files that are there.
    Written,
    /// `z`, `m`, `Z`: owner and mode of what is there.
    Adjusted {
        /// For all below.
        recursive: bool,
    },
}

impl Kind {
    fn of(letter: char) -> Option<Kind> {
        let recursive = letter.is_ascii_uppercase();
        Some(match letter {
            'a' | 'A' => Kind::Acl { recursive },
            'b' | 'c' => Kind::Device { block: letter == 'b' },
            'C' => Kind::Copy,
            // Volumes with quotas are directories where the file system is none of btrfs.
            'd' | 'v' | 'q' | 'Q' => Kind::Directory,
            'D' => Kind::EmptiedDirectory,
            'e' => Kind::ExistingDirectory,
            'f' => Kind::File,
            'F' => Kind::TruncatedFile,
            'h' | 'H' => Kind::Attributes { recursive },
            'x' | 'X' => Kind::Ignored,
            'L' => Kind::Symlink,
            'p' => Kind::Fifo,
            'r' | 'R' => Kind::Removed { recursive },
            't' | 'T' => Kind::Xattrs { recursive },
            'w' => Kind::Written,
            'z' | 'm' | 'Z' => Kind::Adjusted { recursive },
            _ => return None,
        })
    }

    /// Whether the path is a pattern.
    pub fn takes_pattern(self) -> bool {
        matches!(
            self,
            Kind::Acl { .. }
                | Kind::ExistingDirectory
                | Kind::Attributes { .. }
                | Kind::Ignored
                | Kind::Removed { .. }
                | Kind::Xattrs { .. }
                | Kind::Written
                | Kind::Adjusted { .. }
        )
    }

    /// Whether there can be one line alone of this kind for a path.
    pub fn takes_ownership(self) -> bool {
        !matches!(
            self,
            Kind::Acl { .. } | Kind::Attributes { .. } | Kind::Xattrs { .. } | Kind::Adjusted { .. }
        )
    }
}

/// A mode as it is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mode {
    /// Permission bits.
    pub bits: u16,
    /// `~`: taken together with what is there.
    pub masked: bool,
    /// `:`: for what is new alone.
    pub new_only: bool,
}

/// An owner as it is given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// Name or number.
    pub name: String,
    /// `:`: for what is new alone.
    pub new_only: bool,
}

/// A line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Path of the file in the root.
    pub file: String,
    /// Counted from 1.
    pub number: usize,
    /// What it does.
    pub kind: Kind,
    /// `+`: appended or forced.
    pub force: bool,
    /// `=`: what is there and of another type is removed.
    pub replace: bool,
    /// `?`: only where the source is there (`L`).
    pub if_source: bool,
    /// An absolute path without repeated slashes.
    pub path: String,
    /// Mode, where given.
    pub mode: Option<Mode>,
    /// Owner, where given.
    pub user: Option<Owner>,
    /// Group, where given.
    pub group: Option<Owner>,
    /// What is written, linked to or copied.
    pub argument: Option<Vec<u8>>,
    /// Of a device node.
    pub device: Option<Device>,
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Line {
    /// An error about the line.
    pub fn wrong(&self, what: impl Into<String>) -> RootError {
        RootError::Line {
            file: self.file.clone(),
            line: self.number,
            what: what.into(),
        }
    }

    /// Whether two lines say the same.
    pub fn same(&self, other: &Line) -> bool {
        let place = |line: &Line| Line {
            file: String::new(),
            number: 0,
            ..line.clone()
        };
        place(self) == place(other)
    }
}

/// Paths of the running system: they are mounted over.
const VOLATILE: &[&str] = &["/dev", "/proc", "/run", "/sys"];

/// Reads the lines of a file of `tmpfiles.d` that say something about an image. Left to the running system
/// are those marked `!`, those below `/dev`, `/proc`, `/run` and `/sys`, and those with specifiers that
/// it alone knows.
///
/// # Errors
/// When a line is not as tmpfiles.d(5) says.
pub fn parse(file: &str, text: &str, specifiers: &Specifiers) -> Result<Vec<Line>, RootError> {
    let mut lines = Vec::new();
    for (number, line) in text::lines(text) {
        let parsed = parse_line(line, specifiers).map_err(|what| RootError::Line {
            file: file.to_owned(),
            line: number,
            what,
        })?;
        lines.extend(parsed.map(|line| Line {
            file: file.to_owned(),
            number,
            ..line
        }));
    }
    Ok(lines)
}

fn parse_line(line: &str, specifiers: &Specifiers) -> Result<Option<Line>, String> {
    let mut rest = line;
    let mut next = || -> Result<Option<String>, String> {
        let word = text::word(&mut rest, true)?;
        let word = word.map(String::from_utf8).transpose();
        word.map_err(|_| "a word is not UTF-8".to_owned())
    };
    let action = next()?.unwrap_or_default();
    let path = next()?.ok_or("it names no path")?;
    let given = |word: Option<String>| word.filter(|word| !word.is_empty() && word != "-");
    let (mode, user, group, age) = (given(next()?), given(next()?), given(next()?), given(next()?));
    let argument = Some(rest).filter(|rest| !rest.is_empty() && *rest != "-");

    let mut letters = action.chars();
    let letter = letters.next().unwrap_or_default();
    let mut kind =
        Kind::of(letter).ok_or_else(|| format!("`{}` is no type of line", letter.escape_debug()))?;
    let mut flags = String::new();
    for flag in letters {
        if flags.contains(flag) || !"!+-=~?^$".contains(flag) {
            return Err(format!(
                "`{}` has modifiers that no line has",
                action.escape_debug()
            ));
        }
        flags.push(flag);
    }
    if kind == Kind::File && flags.contains('+') {
        kind = Kind::TruncatedFile;
    }
    let Expanded::Text(path) = specifiers.expand(path.as_bytes(), Table::Tmpfiles)? else {
        return Ok(None);
    };
    let path = String::from_utf8(path).map_err(|_| "its path is not UTF-8")?;
    if !path.starts_with('/') {
        return Err(format!("the path `{}` is not absolute", path.escape_debug()));
    }
    if path.contains('\0') || path.split('/').any(|part| part == "..") {
        return Err(format!("the path `{}` is not plain", path.escape_debug()));
    }
    let path = simple(&path);
    let mode = mode.map(|text| parse_mode(&text)).transpose()?;
    if let Some(age) = age {
        check_age(&age)?;
    }
    // A credential (`^`) is the running system's.
    let below = |folder: &&str| {
        path.strip_prefix(*folder)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    let left = flags.contains(['!', '^']) || VOLATILE.iter().any(below);

    let mut line = Line {
        file: String::new(),
        number: 0,
        kind,
        force: flags.contains('+'),
        replace: flags.contains('='),
        if_source: flags.contains('?'),
        path,
        mode,
        user: user.map(owner),
        group: group.map(owner),
        argument: None,
        device: None,
        xattrs: Vec::new(),
    };
    match kind {
        Kind::File | Kind::TruncatedFile | Kind::Symlink | Kind::Copy | Kind::Written => {
            let base64 = flags.contains('~');
            if base64 && matches!(kind, Kind::Symlink | Kind::Copy) {
                return Err(format!("`{action}` has no base64"));
            }
            line.argument = match argument {
                None if kind == Kind::Written => return Err("it says nothing to write".to_owned()),
                None => None,
                Some(text) if base64 => {
                    let compact: String = text.split_ascii_whitespace().collect();
                    let bytes = STANDARD.decode(compact);
                    Some(bytes.map_err(|error| format!("its argument is no base64: {error}"))?)
                }
                Some(text) => match specifiers.expand(&text::unescape(text)?, Table::Tmpfiles)? {
                    Expanded::Text(text) => Some(text),
                    Expanded::Unknown => return Ok(None),
                },
            };
            if kind == Kind::Copy
                && let Some(source) = &line.argument
                && !source.starts_with(b"/")
            {
                return Err(format!("the source `{}` is not absolute", source.escape_ascii()));
            }
        }
        Kind::Device { .. } => {
            let text = argument.unwrap_or_default();
            let device = text.split_once(':').and_then(|(major, minor)| {
                Some(Device {
                    major: major.parse().ok().filter(|major| *major < 1 << 12)?,
                    minor: minor.parse().ok().filter(|minor| *minor < 1 << 20)?,
                })
            });
            let device = device.ok_or_else(|| format!("`{}` is no MAJOR:MINOR", text.escape_debug()))?;
            line.device = Some(device);
        }
        Kind::Xattrs { .. } => {
            let mut words = argument.ok_or("it names no attribute")?;
            while let Some(word) = text::word(&mut words, true)? {
                let Expanded::Text(word) = specifiers.expand(&word, Table::Tmpfiles)? else {
                    return Ok(None);
                };
                let equals = word.iter().position(|&byte| byte == b'=').unwrap_or(word.len());
                let value = word.get(equals + 1..).unwrap_or_default();
                if equals == 0 || value.is_empty() {
                    return Err(format!("`{}` is no NAME=VALUE", word.escape_ascii()));
                }
                line.xattrs.push((word[..equals].to_vec(), value.to_vec()));
            }
        }
        Kind::Acl { .. } | Kind::Attributes { .. } => {
            argument.ok_or("it names no attribute")?;
        }
        // An argument is told by the reference, and of no effect.
        _ => {}
    }
    Ok((!left).then_some(line))
}

/// A path without repeated slashes, slashes at the end and `.`.
fn simple(path: &str) -> String {
    let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
    let joined: String = parts.map(|part| format!("/{part}")).collect();
    let joined = if joined.is_empty() { "/".to_owned() } else { joined };
    // As the reference does it: `/var/run` is an old name.
    match joined.strip_prefix("/var/run/") {
        Some(rest) => format!("/run/{rest}"),
        None => joined,
    }
}

fn parse_mode(text: &str) -> Result<Mode, String> {
    let digits = text.trim_start_matches(['~', ':']);
    let marks = &text[..text.len() - digits.len()];
    let octal = !digits.is_empty() && digits.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u16::from_str_radix(digits, 8) {
        Ok(bits) if octal && bits <= 0o7777 => Ok(Mode {
            bits,
            masked: marks.contains('~'),
            new_only: marks.contains(':'),
        }),
        _ => Err(format!("`{}` is no mode", text.escape_debug())),
    }
}

fn owner(text: String) -> Owner {
    match text.strip_prefix(':') {
        Some(name) => Owner {
            name: name.to_owned(),
            new_only: true,
        },
        None => Owner {
            name: text,
            new_only: false,
        },
    }
}

/// Units of time spans (systemd.time(7)).
const UNITS: &[&str] = &[
    "", "us", "usec", "\u{b5}s", "\u{3bc}s", "ms", "msec", "s", "sec", "second", "seconds", "m", "min",
    "minute", "minutes", "h", "hr", "hour", "hours", "d", "day", "days", "w", "week", "weeks", "M", "month",
    "months", "y", "year", "years",
];

/// Whether a text is an age: what is old is removed by the running system, not here.
fn check_age(text: &str) -> Result<(), String> {
    let wrong = || format!("`{}` is no age", text.escape_debug());
    let span = text.strip_prefix('~').unwrap_or(text);
    let span = match span.split_once(':') {
        Some((by, span)) => {
            if by.is_empty() || !by.chars().all(|letter| "abcmABCM".contains(letter)) {
                return Err(wrong());
            }
            span
        }
        None => span,
    };
    if span == "infinity" {
        return Ok(());
    }
    let mut rest = span.trim();
    if rest.is_empty() {
        return Err(wrong());
    }
    while !rest.is_empty() {
        let number = rest
            .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
            .unwrap_or(rest.len());
        let unit = rest[number..].trim_start();
        let end = unit
            .find(|letter: char| letter.is_ascii_digit() || letter.is_whitespace())
            .unwrap_or(unit.len());
        if !rest[..number].bytes().any(|byte| byte.is_ascii_digit()) || !UNITS.contains(&&unit[..end]) {
            return Err(wrong());
        }
        rest = unit[end..].trim_start();
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_one(line: &str) -> Result<Option<Line>, String> {
        parse_line(line, &Specifiers::default())
    }

    #[test]
    fn fields_are_read() {
        let line = parse_one("f+- /a//b/./c\\x20d ~:0644 :u g ~am:1h30min  text %% \\tx  ").unwrap();
        let line = line.unwrap();
        assert_eq!((line.kind, line.path.as_str()), (Kind::TruncatedFile, "/a/b/c d"));
        let mode = line.mode.unwrap();
        assert_eq!((mode.bits, mode.masked, mode.new_only), (0o644, true, true));
        assert!(line.user.unwrap().new_only && !line.group.unwrap().new_only);
        assert_eq!(line.argument.unwrap(), b"text % \tx  ");
        let line = parse_one("f~ /a - - - - aGk=").unwrap().unwrap();
        assert_eq!(line.argument.unwrap(), b"hi");
        let line = parse_one("t /a - - - - user.a=b \"user.c=d e\"")
            .unwrap()
            .unwrap();
        assert_eq!(line.xattrs[1], (b"user.c".to_vec(), b"d e".to_vec()));
        assert_eq!(parse_one("d %S/x").unwrap().unwrap().path, "/var/lib/x");
        assert_eq!(parse_one("d /").unwrap().unwrap().path, "/");
    }

    #[test]
    fn lines_of_the_running_system_are_left_out() {
        for line in [
            "d! /a",
            "d /run",
            "d /run/a",
            "d /var/run/a",
            "z /dev/kvm 0660 - nobody-has-it",
            "d /a/%m",
            "f /a - - - - %b",
            "f^ /a - - - - credential",
        ] {
            assert_eq!(parse_one(line).unwrap(), None, "{line}");
        }
        for line in ["d /runner", "d /tmp/a", "d /var/run"] {
            assert!(parse_one(line).unwrap().is_some(), "{line}");
        }
    }

    #[test]
    fn ages() {
        for age in [
            "10d", "0", "1h 30min", "~10d", "mM:1.5w", "infinity", "5", "3 days",
        ] {
            check_age(age).unwrap();
        }
        for age in ["", "d", "10x", "q:10d", ":10d", "10d-", "~", "."] {
            assert!(check_age(age).is_err(), "{age}");
        }
    }

    #[test]
    fn wrong_lines_say_why() {
        for (line, part) in [
            ("y /x", "no type"),
            ("d", "no path"),
            ("d x", "not absolute"),
            ("d /x/../y", "not plain"),
            ("d /x 9999", "no mode"),
            ("d /x +644", "no mode"),
            ("d /x 10000", "no mode"),
            ("d /x - - - 10x", "no age"),
            ("d* /x", "modifiers"),
            ("d++ /x", "modifiers"),
            ("d /%x", "no specifier"),
            ("f /x - - - - %x", "no specifier"),
            ("f /x - - - - \\q", "no escape"),
            ("f~ /x - - - - !", "base64"),
            ("L~ /x - - - - /y", "base64"),
            ("C /x - - - - y", "not absolute"),
            ("w /x", "nothing to write"),
            ("c /x - - - - 1", "MAJOR"),
            ("c /x", "MAJOR"),
            ("c /x - - - - 4096:1", "MAJOR"),
            ("t /x", "no attribute"),
            ("t /x - - - - a", "NAME=VALUE"),
            ("a /x", "no attribute"),
            ("d '/x", "quote"),
        ] {
            let error = parse_one(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
