//! A world of pretended processes and a pretended clock around the state machine.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use super::{Action, Command, Exit, Id, Machine, Role, State};
use lycia_dinit::catalogue::{Catalogue, Loader};
use lycia_dinit::description::Kind;
use lycia_dinit::environment::Environment;
use lycia_dinit::files::MemoryFiles;

/// What a service's processes do.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// How long the start command of scripted and bgprocess services takes.
    pub start_takes: Duration,
    /// How the start command ends.
    pub start_exit: Exit,
    /// A process ends by itself after this time, every time.
    pub lives: Option<Duration>,
    /// How it ends then.
    pub ends_with: Exit,
    /// Only SIGKILL ends it.
    pub stubborn: bool,
    /// Exec fails.
    pub cannot_spawn: bool,
    /// Writes its readiness message after this time.
    pub ready_after: Option<Duration>,
    /// How long the stop command, or ending after a signal, takes.
    pub stop_takes: Duration,
    /// What the pid-file says.
    pub daemon: Result<(), String>,
}

impl Default for Behaviour {
    fn default() -> Self {
        Behaviour {
            start_takes: Duration::from_millis(100),
            start_exit: Exit::Code(0),
            lives: None,
            ends_with: Exit::Code(1),
            stubborn: false,
            cannot_spawn: false,
            ready_after: None,
            stop_takes: Duration::from_millis(10),
            daemon: Ok(()),
        }
    }
}

#[derive(Debug)]
enum Due {
    Exit(i32, Exit),
    Ready(Id),
}

/// The machine, its processes and what was logged.
pub struct World {
    pub machine: Machine,
    pub now: Duration,
    pub log: Vec<String>,
    pub behaviours: HashMap<String, Behaviour>,
    processes: HashMap<i32, (Id, Role)>,
    due: BTreeMap<(Duration, u64), Due>,
    next_pid: i32,
    sequence: u64,
}

impl World {
    /// Loads services given as (name, description) and everything they reach from `boot`; the others
    /// are loaded, too, so that tests can start them.
    pub fn new(services: &[(&str, &str)]) -> World {
        let mut files = MemoryFiles::default();
        for (name, text) in services {
            files.add(format!("/d/{name}"), *text);
        }
        let environment = Environment::new();
        let directories = [PathBuf::from("/d")];
        let loader = Loader {
            files: &files,
            directories: &directories,
            environment: &environment,
        };
        let mut catalogue = Catalogue::default();
        let mut machine = Machine::default();
        for (name, _) in services {
            let loaded = catalogue.load(&loader, name).unwrap();
            machine.add(
                loaded
                    .names
                    .iter()
                    .map(|name| catalogue.get(name).unwrap().clone()),
            );
        }
        World {
            machine,
            now: Duration::ZERO,
            log: Vec::new(),
            behaviours: HashMap::new(),
            processes: HashMap::new(),
            due: BTreeMap::new(),
            next_pid: 100,
            sequence: 0,
        }
    }

    pub fn behave(mut self, name: &str, change: impl FnOnce(&mut Behaviour)) -> World {
        change(self.behaviours.entry(name.into()).or_default());
        self
    }

    pub fn id(&self, name: &str) -> Id {
        self.machine.find(name).unwrap()
    }

    pub fn state(&self, name: &str) -> State {
        self.machine.state(self.id(name))
    }

    pub fn start(&mut self, name: &str) -> &mut World {
        let id = self.id(name);
        self.machine.start(self.now, id).unwrap();
        self.act();
        self
    }

    pub fn shut_down(&mut self) -> &mut World {
        self.machine.shut_down(self.now);
        self.act();
        self
    }

    /// Lets time go by.
    pub fn run_for(&mut self, time: Duration) -> &mut World {
        let end = self.now + time;
        for _ in 0..100_000 {
            let next_due = self.due.first_key_value().map(|(&(time, _), _)| time);
            let next = [next_due, self.machine.next_deadline()]
                .into_iter()
                .flatten()
                .min();
            let Some(next) = next.filter(|&next| next <= end) else {
                self.now = end;
                return self;
            };
            self.now = self.now.max(next);
            if next_due == Some(next) {
                let (_, due) = self.due.pop_first().unwrap();
                self.happen(due);
            } else {
                self.machine.tick(self.now);
            }
            self.act();
        }
        panic!(
            "the world does not come to rest: {:?}",
            &self.log[self.log.len() - 20..]
        );
    }

    /// Ends a service's process from outside.
    pub fn kill(&mut self, name: &str, exit: Exit) -> &mut World {
        let id = self.id(name);
        let pid = *self
            .processes
            .iter()
            .find(|(_, (other, _))| *other == id)
            .unwrap()
            .0;
        self.happen(Due::Exit(pid, exit));
        self.act();
        self
    }

    /// Carries out what a direct call on the machine asked for.
    pub fn act(&mut self) {
        loop {
            let actions = self.machine.take_actions();
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.carry_out(action);
            }
        }
    }

    fn note(&mut self, text: String) {
        self.log.push(format!("{:.1} {text}", self.now.as_secs_f64()));
    }

    fn later(&mut self, time: Duration, due: Due) {
        self.sequence += 1;
        self.due.insert((self.now + time, self.sequence), due);
    }

    fn happen(&mut self, due: Due) {
        match due {
            Due::Exit(pid, exit) => {
                if let Some((id, role)) = self.processes.remove(&pid) {
                    self.machine.exited(self.now, id, role, exit);
                }
            }
            Due::Ready(id) => self.machine.ready(self.now, id, true),
        }
    }

    fn carry_out(&mut self, action: Action) {
        match action {
            Action::Spawn { id, command } => {
                let description = self.machine.description(id);
                let (name, kind) = (description.name.clone(), description.kind);
                let behaviour = self.behaviours.get(&name).cloned().unwrap_or_default();
                let word = if command == Command::Start {
                    "run"
                } else {
                    "run stop of"
                };
                self.note(format!("{word} {name}"));
                if behaviour.cannot_spawn {
                    self.machine
                        .spawned(self.now, id, command, Err("no such program".into()));
                    return;
                }
                self.next_pid += 1;
                let pid = self.next_pid;
                let role = if command == Command::Start {
                    Role::Start
                } else {
                    Role::Stop
                };
                self.processes.insert(pid, (id, role));
                match (command, kind) {
                    (Command::Stop, _) => self.later(behaviour.stop_takes, Due::Exit(pid, Exit::Code(0))),
                    (Command::Start, Kind::Process) => {
                        if let Some(lives) = behaviour.lives {
                            self.later(lives, Due::Exit(pid, behaviour.ends_with));
                        }
                        if let Some(after) = behaviour.ready_after {
                            self.later(after, Due::Ready(id));
                        }
                    }
                    (Command::Start, _) if !behaviour.stubborn => {
                        self.later(behaviour.start_takes, Due::Exit(pid, behaviour.start_exit));
                    }
                    _ => {}
                }
                self.machine.spawned(self.now, id, command, Ok(pid));
            }
            Action::Signal { id, pid, signal, .. } => {
                let name = self.machine.description(id).name.clone();
                self.note(format!("{} to {name}", lycia_dinit::signal::name(signal)));
                let behaviour = self.behaviours.get(&name).cloned().unwrap_or_default();
                if signal == libc::SIGKILL || !behaviour.stubborn {
                    self.later(behaviour.stop_takes, Due::Exit(pid, Exit::Signal(signal)));
                }
            }
            Action::FindDaemon { id } => {
                let name = self.machine.description(id).name.clone();
                let behaviour = self.behaviours.get(&name).cloned().unwrap_or_default();
                self.next_pid += 1;
                let pid = self.next_pid;
                if behaviour.daemon.is_ok() {
                    self.processes.insert(pid, (id, Role::Daemon));
                }
                self.machine
                    .daemon_found(self.now, id, behaviour.daemon.map(|()| pid));
            }
            Action::SignalAll { signal } => {
                self.note(format!("{} to all", lycia_dinit::signal::name(signal)))
            }
            Action::ConsoleTaken => self.note("console taken".into()),
            Action::ConsoleFree => self.note("console free".into()),
            Action::RootWritable => self.note("root writable".into()),
            Action::LogReady => self.note("log ready".into()),
            Action::Chain { name } => {
                self.note(format!("chain to {name}"));
                let id = self.id(&name);
                self.machine.start(self.now, id).unwrap();
            }
            Action::Tell(notice) => self.note(notice.to_string()),
            Action::AllStopped => self.note("all stopped".into()),
        }
    }

    /// What was logged since the last call.
    pub fn news(&mut self) -> Vec<String> {
        std::mem::take(&mut self.log)
    }

    /// Position of the first line that ends so.
    pub fn at(&self, ending: &str) -> usize {
        self.log
            .iter()
            .position(|line| line.ends_with(ending))
            .unwrap_or_else(|| panic!("{ending}: {:#?}", self.log))
    }

    /// How many lines end so.
    pub fn count(&self, ending: &str) -> usize {
        self.log.iter().filter(|line| line.ends_with(ending)).count()
    }
}
