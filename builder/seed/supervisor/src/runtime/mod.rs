//! The running supervisor: one thread, one poll loop around the state machine.

mod accounts;
mod answers;
mod control;
mod journal;
mod process;
pub mod system;

use std::collections::{HashMap, VecDeque};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::machine::{Action, Event, Id, Machine, Role, State};
use crate::protocol::Ending;
use control::Control;
use journal::{Journal, Weight};
use lycia_dinit::catalogue::{Catalogue, LoadError, Loader};
use lycia_dinit::environment::Environment;
use lycia_dinit::files::DiskFiles;

/// After this time a shutdown no longer waits for services.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(120);
/// How often daemons are looked at that are not our children.
const STRANGER_PERIOD: Duration = Duration::from_secs(1);
/// Most bytes read from a log pipe at a time.
const LOG_CHUNK: usize = 4096;

/// How the supervisor runs.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether it is PID 1 and owns the system.
    pub is_pid1: bool,
    /// Service directories, best first.
    pub directories: Vec<PathBuf>,
    /// Control socket.
    pub socket: PathBuf,
    /// Environment of the services.
    pub environment: Environment,
    /// The first service.
    pub first: String,
    /// Only important messages on the console.
    pub quiet: bool,
}

/// Why the supervisor stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// A shutdown was asked for.
    Asked(Ending),
    /// Nothing ran any more, without a shutdown (only when not PID 1).
    NothingLeft,
    /// SIGQUIT: at once, services as they are.
    Abandoned,
}

/// Why the supervisor cannot run.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Signals cannot be received.
    #[error("setting up signals: {0}")]
    Signals(std::io::Error),
    /// The control socket cannot be opened.
    #[error("opening control socket {}: {error}", .path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Waiting failed.
    #[error("waiting for events: {0}")]
    Poll(std::io::Error),
}

/// How far PID 1 has come with finding something to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attempt {
    First,
    Recovery,
    Nothing,
}

/// A client that is told when a service has come to rest.
#[derive(Debug)]
struct Waiter {
    client: u64,
    id: Id,
    wanted: State,
}

/// See the module.
pub struct Supervisor {
    settings: Settings,
    begin: Instant,
    machine: Machine,
    catalogue: Catalogue,
    journal: Journal,
    control: Control,
    signals: process::SignalQueue,
    processes: HashMap<i32, (Id, Role)>,
    strangers: Vec<(i32, Id)>,
    readiness: Vec<(Id, i32, OwnedFd)>,
    outputs: Vec<(Id, OwnedFd)>,
    logs: HashMap<Id, VecDeque<u8>>,
    waiters: Vec<Waiter>,
    attempt: Attempt,
    ending: Option<(Ending, Duration)>,
    outcome: Option<Outcome>,
}

impl Supervisor {
    /// Prepares signals and the control socket. As PID 1 a socket that cannot be opened yet is tried
    /// again when a service with `starts-rwfs` has started.
    pub fn new(settings: Settings) -> Result<Supervisor, RuntimeError> {
        let signals = process::SignalQueue::open().map_err(RuntimeError::Signals)?;
        let mut control = Control::new(settings.socket.clone());
        let mut journal = Journal::new(settings.quiet);
        if let Err(error) = control.open() {
            if !settings.is_pid1 {
                return Err(RuntimeError::Socket {
                    path: settings.socket,
                    error,
                });
            }
            journal.tell(
                Weight::Normal,
                &format!("opening {}: {error}", control.path().display()),
            );
        }
        if !settings.is_pid1
            && let Err(error) = process::adopt_orphans()
        {
            journal.tell(
                Weight::Important,
                &format!("becoming the parent of orphans: {error}"),
            );
        }
        Ok(Supervisor {
            settings,
            begin: Instant::now(),
            machine: Machine::default(),
            catalogue: Catalogue::default(),
            journal,
            control,
            signals,
            processes: HashMap::new(),
            strangers: Vec::new(),
            readiness: Vec::new(),
            outputs: Vec::new(),
            logs: HashMap::new(),
            waiters: Vec::new(),
            attempt: Attempt::First,
            ending: None,
            outcome: None,
        })
    }

    /// Tells the operator something.
    pub fn tell(&mut self, message: &str) {
        self.journal.tell(Weight::Important, message);
    }

    /// Runs until there is an outcome.
    pub fn run(&mut self) -> Result<Outcome, RuntimeError> {
        let first = self.settings.first.clone();
        if let Err(error) = self.load_and_start(&first) {
            self.tell(&format!("[FAILED] {first}: {error}"));
            self.nothing_runs();
        }
        loop {
            self.act();
            if let Some(outcome) = self.outcome {
                return Ok(outcome);
            }
            self.wait()?;
        }
    }

    fn now(&self) -> Duration {
        self.begin.elapsed()
    }

    /// Loads a service and what it needs into the state machine.
    fn load(&mut self, name: &str) -> Result<Id, LoadError> {
        if let Some(id) = self.machine.find(name) {
            return Ok(id);
        }
        let files = DiskFiles::new("/");
        let loader = Loader {
            files: &files,
            directories: &self.settings.directories,
            environment: &self.settings.environment,
        };
        let loaded = self.catalogue.load(&loader, name)?;
        for warning in &loaded.warnings {
            self.journal
                .tell(Weight::Important, &format!("[ WARN ] {warning}"));
        }
        for (from, to) in &loaded.dropped_orderings {
            self.machine.drop_ordering(from, to);
        }
        let descriptions = loaded
            .names
            .iter()
            .filter_map(|name| self.catalogue.get(name).cloned());
        self.machine.add(descriptions);
        self.machine
            .find(name)
            .ok_or_else(|| LoadError::NotFound(name.into()))
    }

    fn load_and_start(&mut self, name: &str) -> Result<(), String> {
        let id = self.load(name).map_err(|error| error.to_string())?;
        self.machine
            .start(self.now(), id)
            .map_err(|error| error.to_string())
    }

    /// Carries out actions until the machine has no more.
    fn act(&mut self) {
        loop {
            let actions = self.machine.take_actions();
            if actions.is_empty() {
                break;
            }
            for action in actions {
                self.carry_out(action);
            }
        }
        self.answer_waiters();
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { id, command } => self.spawn(id, command),
            Action::Signal {
                id,
                pid,
                signal,
                group,
            } => {
                // Only to processes that are known to live: the number may be somebody else's by now.
                let ours = self.processes.contains_key(&pid) || self.strangers.contains(&(pid, id));
                if ours && let Err(error) = process::send_signal(pid, signal, group) {
                    let name = self.machine.description(id).name.clone();
                    self.tell(&format!(
                        "[ WARN ] {name}: sending a signal to process {pid}: {error}"
                    ));
                }
            }
            Action::FindDaemon { id } => self.find_daemon(id),
            Action::SignalAll { signal } => {
                if self.settings.is_pid1 {
                    // SAFETY: plain numbers; PID 1 is not hit by its own broadcast.
                    unsafe { libc::kill(-1, signal) };
                } else {
                    // Somebody else's system: our services only.
                    for &pid in self.processes.keys() {
                        let _ = process::send_signal(pid, signal, true);
                    }
                }
            }
            Action::ConsoleTaken => self.journal.console(true),
            Action::ConsoleFree => self.journal.console(false),
            Action::RootWritable => {
                if let Err(error) = self.control.open() {
                    let path = self.control.path().display().to_string();
                    self.tell(&format!("opening control socket {path}: {error}"));
                }
            }
            Action::LogReady => self.journal.use_syslog(),
            Action::Chain { name } => {
                if let Err(error) = self.load_and_start(&name) {
                    self.tell(&format!("[FAILED] {name}: {error}"));
                }
            }
            Action::Tell(notice) => {
                let weight = match notice.event {
                    Event::Started | Event::Stopped => Weight::Normal,
                    _ => Weight::Important,
                };
                self.journal.tell(weight, &notice.to_string());
            }
            Action::AllStopped if self.machine.is_idle() => match self.ending {
                Some((ending, _)) => self.outcome = Some(Outcome::Asked(ending)),
                None => self.nothing_runs(),
            },
            Action::AllStopped => {}
        }
    }

    /// All services stopped and nobody asked for a shutdown.
    fn nothing_runs(&mut self) {
        if !self.settings.is_pid1 {
            self.outcome = Some(Outcome::NothingLeft);
            return;
        }
        match self.attempt {
            Attempt::First => {
                self.attempt = Attempt::Recovery;
                self.tell("seed-supervisor: nothing is running any more, starting `recovery`");
                if let Err(error) = self.load_and_start("recovery") {
                    self.tell(&format!("[FAILED] recovery: {error}"));
                    self.nothing_runs();
                }
            }
            Attempt::Recovery => {
                self.attempt = Attempt::Nothing;
                let recovery = self.machine.find("recovery");
                if recovery.is_some_and(|id| self.machine.failure(id).is_none()) {
                    self.tell("seed-supervisor: recovery has ended, the system starts again");
                    self.shut_down(Ending::Reboot);
                } else {
                    self.tell(
                        "seed-supervisor: recovery cannot be run; Ctrl-Alt-Del starts the system again",
                    );
                }
            }
            Attempt::Nothing => {}
        }
    }

    fn spawn(&mut self, id: Id, command: crate::machine::Command) {
        let description = self.machine.description(id);
        let around = process::Surroundings {
            environment: &self.settings.environment,
            console: self.settings.is_pid1.then_some("/dev/console"),
        };
        let refused = description.unsupported.first();
        let result = match refused {
            Some(what) => Err(format!(
                "{}: {} is not implemented by the seed supervisor",
                what.at, what.what
            )),
            None => process::spawn(&around, description, command),
        };
        let now = self.now();
        let result = result.map(|spawned| {
            let role = match command {
                crate::machine::Command::Start => Role::Start,
                crate::machine::Command::Stop => Role::Stop,
            };
            self.processes.insert(spawned.pid, (id, role));
            if let Some(ready) = spawned.ready {
                self.readiness.push((id, spawned.pid, ready));
            }
            if let Some(output) = spawned.output {
                self.outputs.push((id, output));
            }
            spawned.pid
        });
        self.machine.spawned(now, id, command, result);
    }

    fn find_daemon(&mut self, id: Id) {
        let path = self.machine.description(id).pid_file.clone().unwrap_or_default();
        let result = process::read_pid_file(&path);
        if let Ok(pid) = result {
            if self.processes.contains_key(&pid) {
                let why = format!("pid-file {} names a process of another service", path.display());
                return self.machine.daemon_found(self.now(), id, Err(why));
            }
            self.processes.insert(pid, (id, Role::Daemon));
            // It becomes our child when those between it and us have ended; until then, and if that
            // never happens, it is looked at from time to time.
            self.strangers.push((pid, id));
        }
        self.machine.daemon_found(self.now(), id, result);
    }

    fn shut_down(&mut self, ending: Ending) {
        let now = self.now();
        if self.ending.is_none() {
            self.tell(&format!("seed-supervisor: shutting down ({})", ending.word()));
        }
        self.ending = Some((ending, now + SHUTDOWN_LIMIT));
        self.machine.shut_down(now);
    }

    fn next_timeout(&self) -> Option<Duration> {
        let strangers = (!self.strangers.is_empty()).then(|| self.now() + STRANGER_PERIOD);
        let deadlines = [
            self.machine.next_deadline(),
            self.control.next_deadline(),
            self.ending.map(|(_, limit)| limit),
            strangers,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Waits for something to happen and puts it into the machine.
    fn wait(&mut self) -> Result<(), RuntimeError> {
        let deadline = self.next_timeout();
        let timeout = deadline.map(|deadline| {
            // A little late rather than a little early, or the loop would turn until the deadline.
            let left = deadline.saturating_sub(self.now()) + Duration::from_micros(500);
            Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            }
        });
        {
            let mut fds = vec![PollFd::new(self.signals.descriptor(), PollFlags::IN)];
            fds.extend(
                self.control
                    .listener()
                    .map(|listener| PollFd::new(listener, PollFlags::IN)),
            );
            for client in &self.control.clients {
                let mut flags = PollFlags::empty();
                if !client.waits {
                    flags |= PollFlags::IN;
                }
                if client.has_output() {
                    flags |= PollFlags::OUT;
                }
                fds.push(PollFd::new(client.stream(), flags));
            }
            fds.extend(
                self.readiness
                    .iter()
                    .map(|(_, _, fd)| PollFd::new(fd, PollFlags::IN)),
            );
            fds.extend(self.outputs.iter().map(|(_, fd)| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut fds, timeout.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(RuntimeError::Poll(error.into())),
            }
        }
        // What a process wrote before it ended counts before its end.
        self.read_pipes();
        self.take_signals();
        let now = self.now();
        self.watch_strangers();
        self.control.accept(now);
        for (client, line) in self.control.exchange(now) {
            self.answer(client, &line);
            self.act();
        }
        self.machine.tick(now);
        if self.ending.is_some_and(|(_, limit)| limit <= now) && self.outcome.is_none() {
            let late = self
                .machine
                .statuses()
                .into_iter()
                .filter(|status| status.state != State::Stopped);
            let late: Vec<String> = late.map(|status| status.name).collect();
            self.tell(&format!(
                "seed-supervisor: not waiting any longer for {}",
                late.join(", ")
            ));
            self.outcome = self.ending.map(|(ending, _)| Outcome::Asked(ending));
        }
        Ok(())
    }

    fn read_pipes(&mut self) {
        let now = self.now();
        let mut index = 0;
        while index < self.readiness.len() {
            let (id, pid, fd) = &self.readiness[index];
            let (id, pid) = (*id, *pid);
            let Some(length) = read_ready(fd, &mut [0u8; 64]) else {
                index += 1;
                continue;
            };
            self.readiness.remove(index);
            // A pipe of an earlier process of the same service says nothing about this one.
            if self.machine.status(id).pid == Some(pid) {
                self.machine.ready(now, id, length > 0);
                self.act();
            }
        }
        let mut index = 0;
        while index < self.outputs.len() {
            let mut chunk = [0u8; LOG_CHUNK];
            let (id, fd) = &self.outputs[index];
            match read_ready(fd, &mut chunk) {
                None => index += 1,
                Some(0) => {
                    self.outputs.remove(index);
                }
                Some(length) => {
                    let limit = self.machine.description(*id).log_buffer_size;
                    let log = self.logs.entry(*id).or_default();
                    log.extend(&chunk[..length]);
                    let excess = log.len().saturating_sub(limit);
                    log.drain(..excess);
                    index += 1;
                }
            }
        }
    }

    fn take_signals(&mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                libc::SIGINT if self.settings.is_pid1 => self.shut_down(Ending::Reboot),
                libc::SIGTERM | libc::SIGPWR | libc::SIGINT => self.shut_down(Ending::PowerOff),
                libc::SIGQUIT => self.outcome = Some(Outcome::Abandoned),
                libc::SIGUSR1 => {
                    if let Err(error) = self.control.open() {
                        self.tell(&format!("opening the control socket: {error}"));
                    }
                }
                // SIGCHLD: children are reaped below, several at a time.
                _ => {}
            }
            self.act();
        }
        while let Some((pid, exit)) = process::reap() {
            // Last words of a service come before its end.
            self.read_pipes();
            if let Some((id, role)) = self.processes.remove(&pid) {
                self.strangers.retain(|&(stranger, _)| stranger != pid);
                self.machine.exited(self.now(), id, role, exit);
                self.act();
            }
        }
    }

    fn watch_strangers(&mut self) {
        let gone: Vec<(i32, Id)> = self
            .strangers
            .iter()
            .copied()
            .filter(|&(pid, _)| !process::is_alive(pid))
            .collect();
        for (pid, id) in gone {
            self.strangers.retain(|&(stranger, _)| stranger != pid);
            if let Some((_, role)) = self.processes.remove(&pid) {
                self.machine
                    .exited(self.now(), id, role, crate::machine::Exit::Unknown);
                self.act();
            }
        }
    }
}

/// Reads what is there; `None` when nothing is there yet.
fn read_ready(fd: &OwnedFd, buffer: &mut [u8]) -> Option<usize> {
    let mut fds = [PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    match poll(
        &mut fds,
        Some(&Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        }),
    ) {
        Ok(count) if count > 0 => Some(rustix::io::read(fd, buffer).unwrap_or(0)),
        _ => None,
    }
}
