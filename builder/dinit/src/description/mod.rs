//! Service descriptions: what a file of `dinit.d` says, as typed values.
//!
//! The format is dinit's (dinit-service(5) of dinit 0.22). Settings and options of dinit that the seed's
//! supervisor cannot honour are accepted by the parser, because the file is valid, and listed in
//! [`Description::unsupported`]; the supervisor refuses to start such a service instead of running it
//! with less than its description asks for.
//!
//! With effect there: `type`, `command`, `stop-command`, `working-dir`, `run-as`, `env-file`, `restart`,
//! `smooth-recovery`, `restart-delay`, `restart-limit-interval`, `restart-limit-count`, `start-timeout`,
//! `stop-timeout`, `term-signal`, `pid-file`, all dependency settings, `chain-to`,
//! `ready-notification`, `log-type` (file, buffer, none), `logfile` and its owner and mode,
//! `log-buffer-size`, `rlimit-*`, `nice`, `ioprio`, `oom-score-adj`, and the options `runs-on-console`,
//! `starts-on-console`, `shares-console`, `unmask-intr`, `starts-rwfs`, `starts-log`,
//! `start-interruptible`, `skippable`, `signal-process-only`, `always-chain`, `kill-all-on-stop`,
//! `no-new-privs`.
//!
//! Accepted without effect: `inittab-id`, `inittab-line` (there is no utmp in a musl system).
//!
//! Accepted, but such a service does not start: `socket-listen` and its companions, `capabilities`,
//! `securebits`, `run-in-cgroup`, `consumer-of`, `log-type = pipe`, option `pass-cs-fd`.

mod parse;
mod settings;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use parse::{Context, parse};
pub use settings::{OPTION_NAMES, SETTING_NAMES};

use crate::environment::{Environment, EnvironmentError};
use crate::substitution::SubstitutionError;
use crate::text::{MAX_FILE_BYTES, MAX_INCLUDE_DEPTH, TextError};

/// Longest service name, in bytes.
pub const MAX_NAME_BYTES: usize = 255;
/// Most dependencies one description may name.
pub const MAX_DEPENDENCIES: usize = 1024;

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The file as it was named when it was opened.
    pub file: Arc<str>,
    /// Line from 1; 0 for the file as a whole.
    pub line: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// One thing wrong with a description, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {problem}")]
pub struct DescriptionError {
    /// Where.
    pub at: Position,
    /// What.
    pub problem: Problem,
}

/// What can be wrong with a description.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// Lines or quoting.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The file is too large.
    #[error("the file is larger than {MAX_FILE_BYTES} bytes")]
    FileTooLarge,
    /// The file is not UTF-8.
    #[error("the file is not UTF-8 text")]
    NotUtf8,
    /// A line without `=`, `:` or `+=` behind a name.
    #[error("expected `setting = value` or `setting: value`")]
    NoOperator,
    /// No such setting.
    #[error("unknown setting `{name}`{hint}")]
    UnknownSetting {
        /// As written.
        name: String,
        /// " (did you mean …?)" or empty.
        hint: String,
    },
    /// `+=` where only `=` works.
    #[error("`{0}` cannot be appended to: `+=` is for command, stop-command, capabilities and securebits")]
    CannotAppend(&'static str),
    /// A word that is not one of the allowed ones.
    #[error("{setting}: `{value}` is not one of {allowed}{hint}")]
    NotOneOf {
        /// The setting.
        setting: &'static str,
        /// As written.
        value: String,
        /// The allowed words.
        allowed: &'static str,
        /// " (did you mean …?)" or empty.
        hint: String,
    },
    /// A value of the wrong form.
    #[error("{setting}: `{value}` is not {wanted}")]
    BadValue {
        /// The setting.
        setting: &'static str,
        /// As written.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// A service name that breaks the rules.
    #[error("`{0}` is not a service name (letters, digits, `.` not first, `-`, `_`; `@argument` at the end)")]
    BadName(String),
    /// Substitution failed.
    #[error("{setting}: {problem}")]
    Substitution {
        /// The setting.
        setting: &'static str,
        /// Why.
        problem: SubstitutionError,
    },
    /// An unknown word after `@`.
    #[error("unknown meta command `@{name}`{hint}")]
    UnknownMeta {
        /// As written.
        name: String,
        /// " (did you mean …?)" or empty.
        hint: String,
    },
    /// `@include` with none or several paths.
    #[error("`@{0}` takes one path")]
    IncludeArguments(String),
    /// `@meta enable-via` with none or several names.
    #[error("`@meta enable-via` takes one service name")]
    EnableViaArguments,
    /// An included file is not there.
    #[error("included file {0} does not exist (use @include-opt if it may be absent)")]
    IncludeMissing(PathBuf),
    /// Includes nest too deep, most likely in a circle.
    #[error("includes are nested deeper than {MAX_INCLUDE_DEPTH}")]
    IncludeDepth,
    /// A file could not be read.
    #[error("reading {path}: {reason}")]
    Read {
        /// Which file.
        path: PathBuf,
        /// The system's message.
        reason: String,
    },
    /// An environment file is wrong.
    #[error("env-file {path}: {problem}")]
    EnvironmentFile {
        /// Which file.
        path: PathBuf,
        /// What is wrong in it.
        problem: EnvironmentError,
    },
    /// More dependencies than [`MAX_DEPENDENCIES`].
    #[error("more than {MAX_DEPENDENCIES} dependencies")]
    TooManyDependencies,
    /// A needed setting is missing.
    #[error("type `{kind}` needs the setting `{setting}`")]
    Missing {
        /// The service type.
        kind: &'static str,
        /// The missing setting.
        setting: &'static str,
    },
    /// A setting that its type forbids.
    #[error("`{setting}` cannot be used with type `{kind}`")]
    WrongType {
        /// The service type.
        kind: &'static str,
        /// The setting or option.
        setting: &'static str,
    },
}

/// Service types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// One supervised process.
    #[default]
    Process,
    /// A process that forks; the daemon's process ID is in the pid-file.
    Bgprocess,
    /// A start command and a stop command.
    Scripted,
    /// Nothing but dependencies.
    Internal,
    /// Internal, but started only when triggered.
    Triggered,
}

impl Kind {
    /// The word of the `type` setting.
    pub fn word(self) -> &'static str {
        match self {
            Kind::Process => "process",
            Kind::Bgprocess => "bgprocess",
            Kind::Scripted => "scripted",
            Kind::Internal => "internal",
            Kind::Triggered => "triggered",
        }
    }
}

/// When a service that stopped by itself is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart {
    /// Always (dinit's built-in default).
    #[default]
    Always,
    /// When the process failed.
    OnFailure,
    /// Never.
    Never,
}

/// Kinds of dependencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DependencyKind {
    /// `depends-on`: must be started and stay so.
    Hard,
    /// `prepared-by`: like `Hard`, and restarts together with the dependent.
    PreparedBy,
    /// `depends-ms`: must have started once.
    Milestone,
    /// `waits-for`: is started first, but may fail.
    Soft,
}

impl DependencyKind {
    /// The setting's name.
    pub fn word(self) -> &'static str {
        match self {
            DependencyKind::Hard => "depends-on",
            DependencyKind::PreparedBy => "prepared-by",
            DependencyKind::Milestone => "depends-ms",
            DependencyKind::Soft => "waits-for",
        }
    }

    /// Whether a service cannot start without it.
    pub fn is_required(self) -> bool {
        self != DependencyKind::Soft
    }
}

/// A dependency as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// How strong it is.
    pub kind: DependencyKind,
    /// Full name of the service depended on.
    pub name: String,
    /// Where it is written.
    pub at: Position,
    /// Whether it comes from a `.d` directory, where a name without a service is ignored.
    pub from_directory: bool,
}

/// A `before` or `after` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ordering {
    /// Full name of the other service.
    pub name: String,
    /// Where it is written.
    pub at: Position,
}

/// How a process says that it is ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It writes to this descriptor.
    Descriptor(i32),
    /// It writes to the descriptor whose number is in this variable.
    Variable(String),
}

/// Where output goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Log {
    /// Nowhere.
    #[default]
    None,
    /// Kept in memory, the newest bytes up to `log-buffer-size`.
    Buffer,
    /// Appended to `logfile`.
    File,
}

/// Kinds of resource limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// Open files.
    OpenFiles,
    /// Core file size, bytes.
    Core,
    /// Data segment, bytes.
    Data,
    /// Address space, bytes.
    AddressSpace,
}

/// A bound of a resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// As inherited.
    Unchanged,
    /// No limit.
    Unlimited,
    /// This many.
    At(u64),
}

/// One resource limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimit {
    /// Of what.
    pub resource: Resource,
    /// Soft bound.
    pub soft: Bound,
    /// Hard bound.
    pub hard: Bound,
}

/// The `options` setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Options {
    /// Holds the console while it runs.
    pub runs_on_console: bool,
    /// Holds the console while it starts.
    pub starts_on_console: bool,
    /// Has the console, does not hold it.
    pub shares_console: bool,
    /// The interrupt key reaches it.
    pub unmask_intr: bool,
    /// The root file system is writable when it has started.
    pub starts_rwfs: bool,
    /// The system log works when it has started.
    pub starts_log: bool,
    /// Wants a control connection on an inherited descriptor.
    pub pass_cs_fd: bool,
    /// SIGINT may cancel its start.
    pub start_interruptible: bool,
    /// Ended by SIGINT means started.
    pub skippable: bool,
    /// Signals go to the process, not to its group.
    pub signal_process_only: bool,
    /// chain-to happens however it ends.
    pub always_chain: bool,
    /// Everything else is killed before it stops.
    pub kill_all_on_stop: bool,
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
}

/// A setting that is valid but not implemented here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsupported {
    /// The setting or option.
    pub what: &'static str,
    /// Where it is written.
    pub at: Position,
}

/// A service description with everything substituted.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Full name, with `@argument` if there is one.
    pub name: String,
    /// The file it was read from.
    pub file: PathBuf,
    /// Service type.
    pub kind: Kind,
    /// Start command or process.
    pub command: Vec<String>,
    /// Where `command` is written.
    pub command_at: Position,
    /// Stop command; empty for none.
    pub stop_command: Vec<String>,
    /// Where `stop-command` is written.
    pub stop_command_at: Position,
    /// Working directory; default: where the description is.
    pub working_dir: PathBuf,
    /// User name or number.
    pub run_as: Option<String>,
    /// Variables of its env-file.
    pub environment: Environment,
    /// Restart policy.
    pub restart: Restart,
    /// Restart of the process alone.
    pub smooth_recovery: bool,
    /// Least time between automatic restarts.
    pub restart_delay: Duration,
    /// Span in which restarts are counted.
    pub restart_limit_interval: Duration,
    /// Restarts allowed in the span; 0 for any number.
    pub restart_limit_count: u32,
    /// Time to start in; `None` for unlimited.
    pub start_timeout: Option<Duration>,
    /// Time to stop in before SIGKILL; `None` for unlimited.
    pub stop_timeout: Option<Duration>,
    /// Signal that asks it to end; `None` for none.
    pub term_signal: Option<i32>,
    /// File with the daemon's process ID.
    pub pid_file: Option<PathBuf>,
    /// Readiness protocol.
    pub ready: Option<Readiness>,
    /// Dependencies in the order written.
    pub dependencies: Vec<Dependency>,
    /// Directories of `waits-for.d`, absolute: where `enable` makes links.
    pub waits_for_directories: Vec<PathBuf>,
    /// Services it starts after, if they are starting too.
    pub after: Vec<Ordering>,
    /// Services it starts before, if they are starting too.
    pub before: Vec<Ordering>,
    /// Started when this one has ended by itself.
    pub chain_to: Option<String>,
    /// Where output goes.
    pub log: Log,
    /// Log file.
    pub logfile: Option<PathBuf>,
    /// Its mode.
    pub logfile_mode: u32,
    /// Its owner, name or number.
    pub logfile_uid: Option<String>,
    /// Its group, name or number.
    pub logfile_gid: Option<String>,
    /// Bytes kept by [`Log::Buffer`].
    pub log_buffer_size: usize,
    /// Options.
    pub options: Options,
    /// USER, LOGNAME, HOME, SHELL, UID and GID are set from the password file.
    pub export_passwd_vars: bool,
    /// DINIT_SERVICE is set to the name.
    pub export_service_name: bool,
    /// Resource limits.
    pub limits: Vec<ResourceLimit>,
    /// Nice value.
    pub nice: Option<i32>,
    /// OOM score adjustment.
    pub oom_score_adj: Option<i32>,
    /// I/O priority as ioprio_set(2) takes it.
    pub io_priority: Option<u16>,
    /// Service that `enable` hangs it from.
    pub enable_via: Option<String>,
    /// What it asks for and the seed's supervisor cannot give.
    pub unsupported: Vec<Unsupported>,
}

/// Splits `base@argument`.
pub fn split_name(name: &str) -> (&str, Option<&str>) {
    match name.split_once('@') {
        Some((base, argument)) => (base, Some(argument)),
        None => (name, None),
    }
}

/// Whether a full service name keeps dinit's rules. The argument may hold any character but a slash,
/// white space and control characters, so that a name is one word of the control protocol and never a
/// path.
pub fn is_service_name(name: &str) -> bool {
    let (base, argument) = split_name(name);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || !c.is_ascii();
    name.len() <= MAX_NAME_BYTES
        && !base.is_empty()
        && !base.starts_with('.')
        && base.chars().all(good)
        && argument.is_none_or(|argument| {
            !argument.is_empty()
                && argument
                    .chars()
                    .all(|c| c != '/' && !c.is_whitespace() && !c.is_control())
        })
}
