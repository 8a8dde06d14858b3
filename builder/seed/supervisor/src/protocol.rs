//! The control protocol: one request line, reply lines, over a Unix stream socket.
//!
//! On connecting, the supervisor sends [`GREETING`] and a newline. A request is one line of words
//! separated by single spaces, the same words as `seedctl` takes. The reply is any number of data lines,
//! each beginning with a space, and one last line: `ok`, `no`, or `error: ` and a message. It is not
//! dinit's protocol and cannot be taken for it: the first byte that dinit's clients expect is a number.

use lycia_dinit::description::{DependencyKind, is_service_name};
use lycia_dinit::signal;
use lycia_dinit::suggest;

/// First line from the supervisor: name and protocol version.
pub const GREETING: &str = "seed-supervisor control 1";
/// Where the socket is.
pub const SOCKET_PATH: &str = "/run/seed-supervisor.sock";
/// Longest request, in bytes, without the newline.
pub const MAX_REQUEST_BYTES: usize = 2048;

/// How the system ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Start again.
    Reboot,
    /// Power off.
    PowerOff,
    /// Stop the processors.
    Halt,
}

impl Ending {
    /// The word in requests.
    pub fn word(self) -> &'static str {
        match self {
            Ending::Reboot => "reboot",
            Ending::PowerOff => "poweroff",
            Ending::Halt => "halt",
        }
    }
}

/// A request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// All services; `plain` for `NAME STATE PID` lines.
    List {
        /// For programs.
        plain: bool,
    },
    /// One service in full.
    Status(String),
    /// Start; waits for the result unless told otherwise.
    Start {
        /// Service.
        name: String,
        /// Reply when it is started or has failed.
        wait: bool,
    },
    /// Stop.
    Stop {
        /// Service.
        name: String,
        /// With those that need it.
        force: bool,
        /// Reply when it is stopped.
        wait: bool,
    },
    /// Stop and start.
    Restart {
        /// Service.
        name: String,
        /// With those that need it.
        force: bool,
        /// Reply when it is started again or has failed.
        wait: bool,
    },
    /// Take back an explicit start.
    Release(String),
    /// Start for those that depend on it.
    Wake {
        /// Service.
        name: String,
        /// Reply when it is started or has failed.
        wait: bool,
    },
    /// Set or take back a trigger.
    Trigger {
        /// Service.
        name: String,
        /// Set.
        set: bool,
    },
    /// Send a signal to a service.
    Signal {
        /// Signal number.
        signal: i32,
        /// Service.
        name: String,
    },
    /// `ok` if started, else `no`.
    IsStarted(String),
    /// `ok` if its last start failed, else `no`.
    IsFailed(String),
    /// Add a dependency until the next boot.
    AddDependency {
        /// How strong.
        kind: DependencyKind,
        /// The dependent.
        from: String,
        /// The dependency.
        to: String,
    },
    /// Remove a dependency.
    RemoveDependency {
        /// How strong.
        kind: DependencyKind,
        /// The dependent.
        from: String,
        /// The dependency.
        to: String,
    },
    /// Read a stopped service's description again.
    Reload(String),
    /// What a service with `log-type = buffer` wrote last.
    Log(String),
    /// The supervisor's own last messages.
    Messages,
    /// Stop everything and end the system.
    Shutdown(Ending),
    /// Who is there.
    Version,
}

/// Why words are not a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// No words.
    #[error("no command given")]
    Empty,
    /// An unknown first word.
    #[error("unknown command `{name}`{hint}")]
    UnknownCommand {
        /// As written.
        name: String,
        /// " (did you mean …?)" or empty.
        hint: String,
    },
    /// An option that the command does not have.
    #[error("`{command}` has no option `{option}`")]
    UnknownOption {
        /// The command.
        command: String,
        /// As written.
        option: String,
    },
    /// Too few or too many words.
    #[error("usage: seedctl {0}")]
    Usage(&'static str),
    /// Not a service name.
    #[error("`{0}` is not a service name")]
    BadName(String),
    /// Not a signal.
    #[error("`{0}` is not a signal (names without SIG, or numbers)")]
    BadSignal(String),
    /// Not a dependency kind.
    #[error("`{0}` is not a kind of dependency (depends-on, depends-ms, waits-for)")]
    BadKind(String),
}

/// Commands and how they are used.
pub const COMMANDS: &[(&str, &str)] = &[
    ("list", "list [--plain]"),
    ("status", "status NAME"),
    ("start", "start [--no-wait] NAME"),
    ("stop", "stop [--no-wait] [--force] NAME"),
    ("restart", "restart [--no-wait] [--force] NAME"),
    ("release", "release NAME"),
    ("wake", "wake [--no-wait] NAME"),
    ("trigger", "trigger NAME"),
    ("untrigger", "untrigger NAME"),
    ("signal", "signal SIGNAL NAME"),
    ("is-started", "is-started NAME"),
    ("is-failed", "is-failed NAME"),
    ("add-dep", "add-dep depends-on|depends-ms|waits-for FROM TO"),
    ("rm-dep", "rm-dep depends-on|depends-ms|waits-for FROM TO"),
    ("reload", "reload NAME"),
    ("catlog", "catlog NAME"),
    ("messages", "messages"),
    ("shutdown", "shutdown [-r | -p | -h]"),
    ("version", "version"),
];

impl Request {
    /// Reads a request from words.
    pub fn parse(words: &[&str]) -> Result<Request, RequestError> {
        let (&command, rest) = words.split_first().ok_or(RequestError::Empty)?;
        let Some(&(_, usage)) = COMMANDS.iter().find(|(name, _)| *name == command) else {
            let hint = suggest::hint(command, COMMANDS.iter().map(|&(name, _)| name));
            return Err(RequestError::UnknownCommand {
                name: command.into(),
                hint,
            });
        };
        let (options, arguments): (Vec<&str>, Vec<&str>) =
            rest.iter().partition(|word| word.starts_with('-'));
        let allowed: &[&str] = match command {
            "list" => &["--plain"],
            "start" | "wake" => &["--no-wait"],
            "stop" | "restart" => &["--no-wait", "--force"],
            "shutdown" => &["-r", "-p", "-h"],
            _ => &[],
        };
        if let Some(option) = options.iter().find(|option| !allowed.contains(option)) {
            return Err(RequestError::UnknownOption {
                command: command.into(),
                option: (*option).into(),
            });
        }
        let has = |option: &str| options.contains(&option);
        let (wait, force) = (!has("--no-wait"), has("--force"));
        let checked = |name: &str| {
            if is_service_name(name) {
                Ok(name.to_owned())
            } else {
                Err(RequestError::BadName(name.into()))
            }
        };
        let one = || match arguments[..] {
            [name] => checked(name),
            _ => Err(RequestError::Usage(usage)),
        };
        let none = |request| {
            if arguments.is_empty() {
                Ok(request)
            } else {
                Err(RequestError::Usage(usage))
            }
        };
        match command {
            "list" => none(Request::List {
                plain: has("--plain"),
            }),
            "status" => one().map(Request::Status),
            "start" => one().map(|name| Request::Start { name, wait }),
            "stop" => one().map(|name| Request::Stop { name, force, wait }),
            "restart" => one().map(|name| Request::Restart { name, force, wait }),
            "release" => one().map(Request::Release),
            "wake" => one().map(|name| Request::Wake { name, wait }),
            "trigger" => one().map(|name| Request::Trigger { name, set: true }),
            "untrigger" => one().map(|name| Request::Trigger { name, set: false }),
            "is-started" => one().map(Request::IsStarted),
            "is-failed" => one().map(Request::IsFailed),
            "reload" => one().map(Request::Reload),
            "catlog" => one().map(Request::Log),
            "messages" => none(Request::Messages),
            "signal" => match arguments[..] {
                [number, name] => {
                    let signal =
                        signal::number(number).ok_or_else(|| RequestError::BadSignal(number.into()))?;
                    checked(name).map(|name| Request::Signal { signal, name })
                }
                _ => Err(RequestError::Usage(usage)),
            },
            "add-dep" | "rm-dep" => match arguments[..] {
                [kind, from, to] => {
                    let kind = match kind {
                        "depends-on" => DependencyKind::Hard,
                        "depends-ms" => DependencyKind::Milestone,
                        "waits-for" => DependencyKind::Soft,
                        other => return Err(RequestError::BadKind(other.into())),
                    };
                    let (from, to) = (checked(from)?, checked(to)?);
                    Ok(match command {
                        "add-dep" => Request::AddDependency { kind, from, to },
                        _ => Request::RemoveDependency { kind, from, to },
                    })
                }
                _ => Err(RequestError::Usage(usage)),
            },
            "shutdown" => match options[..] {
                [] | ["-p"] => none(Request::Shutdown(Ending::PowerOff)),
                ["-r"] => none(Request::Shutdown(Ending::Reboot)),
                ["-h"] => none(Request::Shutdown(Ending::Halt)),
                _ => Err(RequestError::Usage(usage)),
            },
            _ => none(Request::Version),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(line: &str) -> Result<Request, String> {
        let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
        Request::parse(&words).map_err(|error| error.to_string())
    }

    #[test]
    fn requests() {
        assert_eq!(parse("list --plain"), Ok(Request::List { plain: true }));
        assert_eq!(
            parse("start a@b"),
            Ok(Request::Start {
                name: "a@b".into(),
                wait: true
            })
        );
        assert_eq!(
            parse("stop x --force --no-wait"),
            Ok(Request::Stop {
                name: "x".into(),
                force: true,
                wait: false
            })
        );
        assert_eq!(
            parse("signal HUP x"),
            Ok(Request::Signal {
                signal: 1,
                name: "x".into()
            })
        );
        assert_eq!(parse("shutdown -r"), Ok(Request::Shutdown(Ending::Reboot)));
        let expected = Request::AddDependency {
            kind: DependencyKind::Soft,
            from: "a".into(),
            to: "b".into(),
        };
        assert_eq!(parse("add-dep waits-for a b"), Ok(expected));
        for (name, usage) in COMMANDS {
            assert_eq!(usage.split(' ').next(), Some(*name));
        }
    }

    #[test]
    fn errors() {
        let table = [
            ("", "no command given"),
            ("stat x", "unknown command `stat` (did you mean `start`?)"),
            ("start", "usage: seedctl start [--no-wait] NAME"),
            ("start a b", "usage: seedctl start [--no-wait] NAME"),
            ("start ../x", "`../x` is not a service name"),
            ("status --all x", "`status` has no option `--all`"),
            (
                "signal NONE x",
                "`NONE` is not a signal (names without SIG, or numbers)",
            ),
            ("shutdown -r -p", "usage: seedctl shutdown [-r | -p | -h]"),
            (
                "add-dep needs a b",
                "`needs` is not a kind of dependency (depends-on, depends-ms, waits-for)",
            ),
        ];
        for (line, message) in table {
            assert_eq!(parse(line).unwrap_err(), message, "{line}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(line in "\\PC{0,60}|(start|stop|signal|add-dep|shutdown)( [-a-z@/]{0,9}){0,4}") {
            let _ = parse(&line);
        }
    }
}
