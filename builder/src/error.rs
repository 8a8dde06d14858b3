//! Errors of the program: what was being done, on what, why it failed, what to do.

use std::fmt;
use std::process::ExitCode;

/// Kinds of failure. Each has an exit code of its own, listed in the README.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A fault of this program.
    Internal,
    /// The command line is wrong.
    Usage,
    /// A definition, an overlay or another file that the user wrote is wrong or missing.
    Input,
    /// A signature or a hash does not fit, or a lock is not obeyed.
    Verification,
    /// The packages asked for cannot be had together.
    Solver,
    /// The build host lacks something: a tool, room on the disk, a place that can be written to, the network.
    Host,
    /// What was built is not right: the root, the medium or the booted guest.
    Target,
    /// Stopped by a signal.
    Interrupted,
}

impl Kind {
    /// The exit code of the program.
    pub fn code(self) -> u8 {
        match self {
            Kind::Internal => 1,
            Kind::Usage => 2,
            Kind::Input => 3,
            Kind::Verification => 4,
            Kind::Solver => 5,
            Kind::Host => 6,
            Kind::Target => 7,
            Kind::Interrupted => 130,
        }
    }
}

/// A failure with its kind, its story from the outside in, and perhaps what to do about it.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    /// Outermost first.
    story: Vec<String>,
    hint: Option<String>,
}

/// The result of what can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// A failure of one sentence.
    pub fn new(kind: Kind, message: impl fmt::Display) -> Error {
        Error {
            kind,
            story: vec![message.to_string()],
            hint: None,
        }
    }

    /// Says what was being done.
    #[must_use]
    pub fn context(mut self, message: impl fmt::Display) -> Error {
        self.story.insert(0, message.to_string());
        self
    }

    /// Says what to do.
    #[must_use]
    pub fn hint(mut self, hint: impl fmt::Display) -> Error {
        self.hint = Some(hint.to_string());
        self
    }

    /// What is shown of it on a terminal: what others wrote does nothing there. `hint:` and what we list begin lines of their own.
    pub fn shown(&self) -> String {
        shown(&self.to_string(), |letter| letter == '\n')
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The exit code that it ends the program with.
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.kind.code())
    }
}

/// A text whose letters do nothing on a terminal, but for those that `may`.
pub fn shown(text: &str, may: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        if lycia_inspect::acts(letter) && !may(letter) {
            out.extend(letter.escape_unicode());
        } else {
            out.push(letter);
        }
    }
    out
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.story.join(": "))?;
        if let Some(hint) = &self.hint {
            write!(f, "\nhint: {hint}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

/// Turns a library's error into ours.
pub trait Explain<T> {
    /// With the kind of failure and what was being done.
    fn explain(self, kind: Kind, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: fmt::Display> Explain<T> for std::result::Result<T, E> {
    fn explain(self, kind: Kind, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::new(kind, error).context(doing()))
    }
}

/// Adds context to our own errors.
pub trait Context<T> {
    /// Says what was being done.
    fn context(self, doing: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for Result<T> {
    fn context(self, doing: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| error.context(doing()))
    }
}

/// The kind of a failed system call: a full disk and a missing permission are the host's, a missing file
/// the user's.
pub fn io_kind(error: &std::io::Error) -> Kind {
    match error.kind() {
        std::io::ErrorKind::NotFound
        | std::io::ErrorKind::InvalidData
        | std::io::ErrorKind::IsADirectory
        | std::io::ErrorKind::NotADirectory => Kind::Input,
        std::io::ErrorKind::Interrupted => Kind::Interrupted,
        _ => Kind::Host,
    }
}

/// Explains the error of making a place or writing to it: whatever it is, the machine does not take it there, and
/// another place has to be given.
pub fn writing<T>(result: std::io::Result<T>, doing: impl FnOnce() -> String) -> Result<T> {
    let kind = |error: &std::io::Error| match error.kind() {
        std::io::ErrorKind::Interrupted => Kind::Interrupted,
        _ => Kind::Host,
    };
    result.map_err(|error| {
        let explained = Error::new(kind(&error), &error).context(doing());
        match error.kind() {
            std::io::ErrorKind::StorageFull => explained.hint(ROOM),
            _ => explained.hint("give a directory that you may write to"),
        }
    })
}

const ROOM: &str = "free room on that file system, or give --output or --cache on another";

/// Explains a system call's error, with the hint that fits it.
pub fn io<T>(result: std::io::Result<T>, doing: impl FnOnce() -> String) -> Result<T> {
    result.map_err(|error| {
        let explained = Error::new(io_kind(&error), &error).context(doing());
        match error.kind() {
            std::io::ErrorKind::StorageFull => explained.hint(ROOM),
            std::io::ErrorKind::PermissionDenied => explained.hint("give a directory that you may write to"),
            _ => explained,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_tells_its_story_from_outside_in() {
        let error = Error::new(Kind::Verification, "no trusted key signed it")
            .context("reading Packages.adb")
            .context("repository seed")
            .hint("give the key");
        assert_eq!(
            error.to_string(),
            "repository seed: reading Packages.adb: no trusted key signed it\nhint: give the key"
        );
        assert_eq!(error.kind().code(), 4);
    }

    #[test]
    fn an_error_does_nothing_on_a_terminal() {
        let error = Error::new(Kind::Target, "a\u{1b}[2J\rb\u{9b}1m\u{202e}").hint("c\u{7}");
        assert_eq!(
            error.shown(),
            "a\\u{1b}[2J\\u{d}b\\u{9b}1m\\u{202e}\nhint: c\\u{7}"
        );
    }

    #[test]
    fn a_full_disk_is_the_hosts_and_comes_with_a_hint() {
        let full = std::io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error());
        let error = io::<()>(Err(full), || "writing x".to_owned()).unwrap_err();
        assert_eq!(error.kind(), Kind::Host);
        assert!(error.to_string().contains("free room"));
    }
}
