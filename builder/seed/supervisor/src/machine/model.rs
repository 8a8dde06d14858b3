//! Values of the state machine: states, inputs, actions.

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use super::Id;
use lycia_dinit::description::{DependencyKind, Description, Kind};
use lycia_dinit::signal;

/// Where a service is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Down.
    Stopped,
    /// On the way up.
    Starting,
    /// Up.
    Started,
    /// On the way down.
    Stopping,
}

impl State {
    /// The word of listings.
    pub fn word(self) -> &'static str {
        match self {
            State::Stopped => "stopped",
            State::Starting => "starting",
            State::Started => "started",
            State::Stopping => "stopping",
        }
    }
}

/// What a service on its way waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing.
    Rest,
    /// Starting: its dependencies.
    Dependencies,
    /// Starting: the console.
    Console,
    /// Starting: the least time between restarts. Started: the same, in smooth recovery.
    Delay,
    /// Starting: the start command, readiness, or the daemon's pid-file.
    Process,
    /// Starting: the trigger.
    Trigger,
    /// Stopping: its dependents.
    Dependents,
    /// Stopping: all processes were asked to end, SIGKILL follows.
    KillAll,
    /// Stopping: its process or its stop command.
    End,
}

impl Step {
    pub(super) fn word(self) -> Option<&'static str> {
        match self {
            Step::Rest => None,
            Step::Dependencies => Some("its dependencies"),
            Step::Console => Some("the console"),
            Step::Delay => Some("the restart delay"),
            Step::Process => Some("its process"),
            Step::Trigger => Some("its trigger"),
            Step::Dependents => Some("its dependents"),
            Step::KillAll => Some("other processes to end"),
            Step::End => Some("its process to end"),
        }
    }
}

/// A service's processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// The start command: the service process itself for type process.
    Start,
    /// The daemon that a bgprocess left behind.
    Daemon,
    /// The stop command.
    Stop,
}

/// Which configured command to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// `command`.
    Start,
    /// `stop-command`.
    Stop,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// By itself, with this status.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// Unknown: a daemon that somebody else reaped.
    Unknown,
}

impl Exit {
    /// Status 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }

    /// What `restart = on-failure` calls failure.
    pub(super) fn is_failure(self) -> bool {
        match self {
            Exit::Code(code) => code != 0,
            Exit::Signal(number) => ![
                libc::SIGHUP,
                libc::SIGINT,
                libc::SIGUSR1,
                libc::SIGUSR2,
                libc::SIGTERM,
            ]
            .contains(&number),
            Exit::Unknown => false,
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(number) => f.write_str(&signal::name(number)),
            Exit::Unknown => f.write_str("an unknown status"),
        }
    }
}

/// Something that the outside has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Run a command; answer with [`super::Machine::spawned`].
    Spawn {
        /// Whose.
        id: Id,
        /// Which.
        command: Command,
    },
    /// Send a signal to a process, or to its group.
    Signal {
        /// Whose.
        id: Id,
        /// Process ID.
        pid: i32,
        /// Signal number.
        signal: i32,
        /// To the whole process group.
        group: bool,
    },
    /// Read the pid-file; answer with [`super::Machine::daemon_found`].
    FindDaemon {
        /// Whose.
        id: Id,
    },
    /// Send a signal to every process but ours (kill-all-on-stop).
    SignalAll {
        /// Signal number.
        signal: i32,
    },
    /// A service took the console: stop writing to it.
    ConsoleTaken,
    /// The console is free again.
    ConsoleFree,
    /// The root file system may be writable now.
    RootWritable,
    /// The system log works now.
    LogReady,
    /// Load and start another service (chain-to).
    Chain {
        /// Its name.
        name: String,
    },
    /// Tell the operator.
    Tell(Notice),
    /// No service is up or on its way.
    AllStopped,
}

/// Something that happened to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Which service.
    pub service: String,
    /// What happened.
    pub event: Event,
}

/// What can happen to a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It is up.
    Started,
    /// It is down.
    Stopped,
    /// It did not come up.
    Failed(String),
    /// Its process ended although nobody asked it to.
    Ended(Exit),
    /// Its process is started again without the service going down.
    Recovering,
    /// It restarts too often.
    RestartLimit,
    /// It did not stop in time and is killed.
    Killed,
    /// Something to know.
    Warning(String),
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.service;
        match &self.event {
            Event::Started => write!(f, "[  OK  ] {name}"),
            Event::Stopped => write!(f, "[STOPPD] {name}"),
            Event::Failed(why) => write!(f, "[FAILED] {name}: {why}"),
            Event::Ended(exit) => write!(f, "[ ENDED] {name}: its process ended with {exit}"),
            Event::Recovering => write!(f, "[ AGAIN] {name}: its process is started again"),
            Event::RestartLimit => write!(f, "[FAILED] {name}: restarting too often, left stopped"),
            Event::Killed => write!(f, "[KILLED] {name}: did not stop in time"),
            Event::Warning(text) => write!(f, "[ WARN ] {name}: {text}"),
        }
    }
}

/// A service for display.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Full name.
    pub name: String,
    /// Service type.
    pub kind: Kind,
    /// State.
    pub state: State,
    /// Why the last start failed.
    pub failed: Option<String>,
    /// Started by name, not only as a dependency.
    pub explicit: bool,
    /// Process ID, if one runs.
    pub pid: Option<i32>,
    /// Whether it holds the console.
    pub holds_console: bool,
    /// What it waits for.
    pub waits: Option<&'static str>,
    /// How its last process ended.
    pub last_exit: Option<Exit>,
    /// What it depends on.
    pub dependencies: Vec<(DependencyKind, String)>,
    /// What depends on it.
    pub dependents: Vec<(DependencyKind, String)>,
}

/// A dependency between two loaded services.
#[derive(Debug)]
pub(super) struct Edge {
    pub from: Id,
    pub to: Id,
    pub kind: DependencyKind,
    /// The dependent keeps the dependency up.
    pub holding: bool,
    /// The dependent waits for the dependency to start.
    pub waiting: bool,
}

/// One service.
#[derive(Debug)]
pub(super) struct Service {
    pub description: Description,
    pub state: State,
    pub step: Step,
    pub explicit: bool,
    /// Has to go down, whoever holds it.
    pub must_stop: bool,
    /// Must not come up again by itself after going down.
    pub stay_down: bool,
    /// Comes up again after going down, if it is held.
    pub again: bool,
    /// Goes down for a restart by command, which takes its dependents along and knows no limit.
    pub restarting: bool,
    /// It was brought up and not yet down: what is there to bring down.
    pub up: bool,
    /// SIGINT was sent to its start command.
    pub interrupted: bool,
    pub triggered: bool,
    /// In [`Step::Delay`]: the delay is over.
    pub delay_over: bool,
    /// This start is an automatic restart, so the delay applies.
    pub is_restart: bool,
    pub main: Option<i32>,
    pub stopper: Option<i32>,
    pub deadline: Option<Duration>,
    pub last_start: Option<Duration>,
    pub restarts_since: Duration,
    pub restarts: u32,
    pub failure: Option<String>,
    pub last_exit: Option<Exit>,
    /// It ended by itself, with this: for chain-to.
    pub finished: Option<Exit>,
    pub dependencies: Vec<usize>,
    pub dependents: Vec<usize>,
    pub starts_after: BTreeSet<Id>,
    pub starts_before: BTreeSet<Id>,
}

impl Service {
    pub(super) fn new(description: Description) -> Service {
        Service {
            description,
            state: State::Stopped,
            step: Step::Rest,
            explicit: false,
            must_stop: false,
            stay_down: false,
            again: false,
            restarting: false,
            up: false,
            interrupted: false,
            triggered: false,
            delay_over: false,
            is_restart: false,
            main: None,
            stopper: None,
            deadline: None,
            last_start: None,
            restarts_since: Duration::ZERO,
            restarts: 0,
            failure: None,
            last_exit: None,
            finished: None,
            dependencies: Vec::new(),
            dependents: Vec::new(),
            starts_after: BTreeSet::new(),
            starts_before: BTreeSet::new(),
        }
    }
}
