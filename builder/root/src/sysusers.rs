//! System users and groups from `sysusers.d` (sysusers.d(5)), as sd-tools' and systemd's sysusers make them.
//!
//! Ids are given out as the reference gives them: wished ids where they are free, else the id of the group or
//! user of the same name, else the next one down from 999 (or through the ranges of `r` lines), in the order of
//! files and lines, groups before users. So a root gets the ids that its own tool would give. Lines that
//! the reference complains about and leaves out are errors here, but for conflicts between packages, which
//! are warnings.

mod allocation;

use lycia_tree::{Metadata, Timestamp, Tree};

use crate::accounts::{self, Accounts};
use crate::specifier::{Expanded, Specifiers, Table};
use crate::{RootError, Step, replace, text};
use allocation::Allocation;

/// Folders in the order of precedence.
const FOLDERS: &[&str] = &[
    "etc/sysusers.d",
    "run/sysusers.d",
    "usr/local/lib/sysusers.d",
    "usr/lib/sysusers.d",
];
const DAY: i64 = 86_400;
/// Most lines of all files together.
const LINES_MAX: usize = 20_000;
/// Longest name: what utmp(5) holds.
const NAME_MAX: usize = 31;

/// Which id a line wishes for.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub enum Wish {
    /// Any.
    #[default]
    Any,
    /// This number.
    Number(u32),
    /// That of the owner of a path.
    OwnerOf(String),
}

/// The group that a `u` line names behind a colon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Primary {
    /// By number; it must exist.
    Number(u32),
    /// By name; it must exist or be made by another line.
    Name(String),
}

/// What a line asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Entry {
    /// `u`: a user, and a group of its name if no other is named.
    User {
        /// Its name.
        name: String,
        /// Its id.
        uid: Wish,
        /// Its group.
        primary: Option<Primary>,
        /// Its full name.
        gecos: Option<String>,
        /// Its home.
        home: Option<String>,
        /// Its shell.
        shell: Option<String>,
    },
    /// `g`: a group.
    Group {
        /// Its name.
        name: String,
        /// Its id.
        gid: Wish,
    },
    /// `m`: a user is a member of a group; both are made if they are not there.
    Member {
        /// The user.
        user: String,
        /// The group.
        group: String,
    },
    /// `r`: ids that may be given out, both ends included.
    Range(u32, u32),
}

/// A line with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    /// Path of the file in the root.
    pub file: String,
    /// Counted from 1.
    pub number: usize,
    /// What it asks for.
    pub entry: Entry,
}

impl Line {
    fn wrong(&self, what: String) -> RootError {
        RootError::Line {
            file: self.file.clone(),
            line: self.number,
            what,
        }
    }
}

/// Makes the users and groups that the root's packages ask for; gives warnings.
///
/// # Errors
/// When a line of `sysusers.d` is wrong or ids are used up.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Vec<String>, RootError> {
    Ok(run_recorded(tree, time)?.warnings)
}

/// As [`run`], saying also what was written.
///
/// # Errors
/// As [`run`].
pub fn run_recorded(tree: &mut Tree, time: Timestamp) -> Result<Step, RootError> {
    let mut step = Step::default();
    let files = text::files(tree, FOLDERS)?;
    if files.is_empty() {
        return Ok(step);
    }
    let specifiers = Specifiers::read(tree)?;
    let mut lines = Vec::new();
    for (file, text) in &files {
        lines.extend(parse(file, text, &specifiers)?);
    }
    if lines.len() > LINES_MAX {
        return Err(RootError::File {
            file: FOLDERS.join(", "),
            what: format!("have more than {LINES_MAX} lines"),
        });
    }
    let mut allocation = Allocation::new(Accounts::read(tree)?);
    let made = allocation.make(tree, &lines, &mut step.warnings)?;
    let accounts = allocation.accounts;
    tree.make_directories(b"etc", Metadata::new(0o755, time))?;
    let mut write = |path: &str, mode: u16, text: String| {
        replace(
            tree,
            path.as_bytes(),
            mode,
            text.into_bytes(),
            time,
            &mut step.written,
        )
    };
    if !made.users.is_empty() {
        write("etc/passwd", 0o644, accounts.passwd())?;
    }
    if !made.groups.is_empty() || made.members {
        write("etc/group", 0o644, accounts.group())?;
    }
    if !made.users.is_empty() {
        let day = time.seconds.max(0) / DAY;
        let mut shadow = accounts::text(tree, "etc/shadow")?;
        for name in &made.users {
            if !shadow.lines().any(|line| line.split(':').next() == Some(name)) {
                // Locked; the first boot may give root a password.
                let password = if name == "root" { "!unprovisioned" } else { "!*" };
                shadow += &format!("{name}:{password}:{day}::::::\n");
            }
        }
        let path = b"etc/shadow";
        replace(tree, path, 0o600, shadow.into_bytes(), time, &mut step.written)?;
    }
    if !made.groups.is_empty() {
        let mut gshadow = accounts::text(tree, "etc/gshadow")?;
        for name in &made.groups {
            if !gshadow.lines().any(|line| line.split(':').next() == Some(name)) {
                let group = accounts.groups.iter().find(|group| group.name == *name);
                let members = group.map(|group| group.members.join(",")).unwrap_or_default();
                gshadow += &format!("{name}:!*::{members}\n");
            }
        }
        let path = b"etc/gshadow";
        replace(tree, path, 0o600, gshadow.into_bytes(), time, &mut step.written)?;
    }
    Ok(step)
}

/// Reads the lines of a file of `sysusers.d`; lines with specifiers that only a running system knows are
/// left to it.
///
/// # Errors
/// When a line is not as sysusers.d(5) says.
pub fn parse(file: &str, text: &str, specifiers: &Specifiers) -> Result<Vec<Line>, RootError> {
    let mut lines = Vec::new();
    for (number, line) in text::lines(text) {
        let entry = entry(line, specifiers).map_err(|what| RootError::Line {
            file: file.to_owned(),
            line: number,
            what,
        })?;
        if let Some(entry) = entry {
            lines.push(Line {
                file: file.to_owned(),
                number,
                entry,
            });
        }
    }
    Ok(lines)
}

fn entry(line: &str, specifiers: &Specifiers) -> Result<Option<Entry>, String> {
    let mut rest = line;
    let mut words: Vec<Option<String>> = Vec::new();
    while words.len() < 6
        && let Some(word) = text::word(&mut rest, false)?
    {
        // The type has none.
        let word = match words.is_empty() {
            true => Expanded::Text(word),
            false => specifiers.expand(&word, Table::Sysusers)?,
        };
        let Expanded::Text(word) = word else {
            return Ok(None);
        };
        let word = String::from_utf8(word).map_err(|_| "a word is not UTF-8".to_owned())?;
        words.push(Some(word).filter(|word| !word.is_empty() && word != "-"));
    }
    if !rest.is_empty() {
        return Err(format!("`{}` is more than a line has", shown(rest)));
    }
    let mut words = words.into_iter();
    let mut next = || words.next().flatten();
    let kind = next().unwrap_or_default();
    let (name, id, gecos, home, shell) = (next(), next(), next(), next(), next());
    let named = |what: &str| {
        let name = name.clone().unwrap_or_default();
        if is_name(&name) {
            return Ok(name);
        }
        Err(format!("`{}` is no name of a {what}", shown(&name)))
    };
    let only_users = || match gecos.is_some() || home.is_some() || shell.is_some() {
        true => Err(format!("a line of type `{kind}` has no full name, home or shell")),
        false => Ok(()),
    };
    match kind.as_str() {
        // `!` locks the account in newer dialects; system users are locked in any case.
        "u" | "u!" => {
            let name = named("user")?;
            let (uid, primary) = match &id {
                None => (Wish::Any, None),
                Some(path) if path.starts_with('/') => (Wish::OwnerOf(path.clone()), None),
                Some(text) => user_ids(text)?,
            };
            let field = |value: &Option<String>, path: bool| match value {
                Some(text) if text.contains(|letter: char| letter == ':' || letter.is_control()) => {
                    Err(format!("`{}` has a colon or a control character", shown(text)))
                }
                Some(text) if path && !(text.starts_with('/') && text.is_ascii() && is_plain(text)) => {
                    Err(format!("`{}` is no absolute path", shown(text)))
                }
                value => Ok(value.clone()),
            };
            Ok(Some(Entry::User {
                name,
                uid,
                primary,
                gecos: field(&gecos, false)?,
                home: field(&home, true)?,
                shell: field(&shell, true)?,
            }))
        }
        "g" => {
            only_users()?;
            let gid = match id {
                None => Wish::Any,
                Some(path) if path.starts_with('/') => Wish::OwnerOf(path),
                Some(text) => Wish::Number(number(&text)?),
            };
            let name = named("group")?;
            Ok(Some(Entry::Group { name, gid }))
        }
        "m" => {
            only_users()?;
            let group = id.unwrap_or_default();
            if !is_name(&group) {
                return Err(format!("`{}` is no name of a group", shown(&group)));
            }
            let user = named("user")?;
            Ok(Some(Entry::Member { user, group }))
        }
        "r" => {
            only_users()?;
            if let Some(name) = name {
                return Err(format!("a range of ids has no name, `{}`", shown(&name)));
            }
            let text = id.unwrap_or_default();
            let (low, high) = text.split_once('-').unwrap_or((&text, &text));
            match (number(low), number(high)) {
                (Ok(low), Ok(high)) if low <= high => Ok(Some(Entry::Range(low, high))),
                _ => Err(format!("`{}` is no range of ids", shown(&text))),
            }
        }
        other => Err(format!("`{}` is no type of line", shown(other))),
    }
}

/// `UID`, `UID:GROUP` or `-:GROUP`.
fn user_ids(text: &str) -> Result<(Wish, Option<Primary>), String> {
    let (uid, group) = match text.split_once(':') {
        Some((uid, group)) => (uid, Some(group)),
        None => (text, None),
    };
    let uid = match uid {
        "-" if group.is_some() => Wish::Any,
        uid => Wish::Number(number(uid)?),
    };
    let primary = match group {
        None => None,
        Some(group) => match number(group) {
            Ok(gid) => Some(Primary::Number(gid)),
            Err(_) if is_name(group) => Some(Primary::Name(group.to_owned())),
            Err(_) => return Err(format!("`{}` is no group", shown(group))),
        },
    };
    Ok((uid, primary))
}

/// An id; the numbers that mean "none" in 16 and 32 bits are none.
fn number(text: &str) -> Result<u32, String> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = digits && (text == "0" || !text.starts_with('0'));
    match text.parse() {
        Ok(id) if plain && id != u32::MAX && id != 0xffff => Ok(id),
        _ => Err(format!("`{}` is no id", shown(text))),
    }
}

fn is_name(name: &str) -> bool {
    let mut letters = name.bytes();
    let first = letters
        .next()
        .is_some_and(|first| first.is_ascii_alphabetic() || first == b'_');
    first
        && name.len() <= NAME_MAX
        && letters.all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

/// Whether a path has no `.` or `..` in it.
fn is_plain(path: &str) -> bool {
    !path.split('/').any(|part| part == "." || part == "..")
}

fn shown(text: &str) -> String {
    text.chars().take(80).flat_map(char::escape_debug).collect()
}

#[cfg(test)]
mod tests;
