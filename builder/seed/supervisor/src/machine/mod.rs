//! The state machine of all services.
//!
//! It never does I/O and never reads a clock: calls bring inputs and the time since the supervisor
//! began, [`Machine::take_actions`] gives what has to be done, [`Machine::next_deadline`] when to call
//! [`Machine::tick`]. So whole boots run in tests in microseconds.
//!
//! The activation model is dinit's (dinit(8), "Service activation model"): a service is held up by being
//! started explicitly and by every dependent that is up or starting; what nobody holds stops. Changes
//! happen in two phases, again as in dinit: first intentions spread over the whole graph (`settle`), then
//! single steps are taken (`advance`), so that an `after` sees that the other service is about to start.
//!
//! Differences from dinit: at a shutdown services stop in the full reverse order, soft dependencies and
//! orderings included; there are no pins.

mod model;
mod operations;
mod transitions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use lycia_dinit::description::{DependencyKind, Description};

pub use model::{Action, Command, Event, Exit, Notice, Role, State, Status};
use model::{Edge, Service, Step};

/// Number of a service in a machine.
pub type Id = usize;

/// All services and what they are doing.
#[derive(Debug, Default)]
pub struct Machine {
    services: Vec<Service>,
    by_name: BTreeMap<String, Id>,
    edges: Vec<Edge>,
    actions: VecDeque<Action>,
    to_settle: VecDeque<Id>,
    to_advance: BTreeSet<Id>,
    console_holder: Option<Id>,
    console_queue: VecDeque<Id>,
    shutting_down: bool,
    reported_idle: bool,
    now: Duration,
}

/// Why a command on a service cannot be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// A shutdown is going on.
    #[error("`{0}` cannot be started: the system is shutting down")]
    ShuttingDown(String),
    /// Running services depend on it.
    #[error("`{name}` is needed by {}; use --force to stop them, too", .dependents.join(", "))]
    Needed {
        /// The service.
        name: String,
        /// Who needs it.
        dependents: Vec<String>,
    },
    /// `wake` of a service that no running service depends on.
    #[error("`{0}` cannot be woken: no running service depends on it (use start)")]
    NothingHolds(String),
    /// `restart` of a service that is not running.
    #[error("`{0}` is not started")]
    NotStarted(String),
    /// `trigger` of a service of another type.
    #[error("`{0}` is not of type triggered")]
    NotTriggered(String),
    /// `signal` to a service without a process.
    #[error("`{0}` has no process")]
    NoProcess(String),
    /// A new dependency would close a circle.
    #[error("`{from}` cannot depend on `{to}`: that would close a circle")]
    Circle {
        /// The dependent.
        from: String,
        /// The dependency.
        to: String,
    },
    /// `add-dep` of what is there, or a hard dependency on what is not running.
    #[error("`{from}` is started and `{to}` is not: start `{to}` first")]
    DependencyNotStarted {
        /// The dependent.
        from: String,
        /// The dependency.
        to: String,
    },
    /// `rm-dep` of what is not there.
    #[error("`{from}` has no such dependency on `{to}`")]
    NoDependency {
        /// The dependent.
        from: String,
        /// The dependency.
        to: String,
    },
    /// `reload` of a service that is not stopped.
    #[error("`{0}` has to be stopped before its description can be read again")]
    NotStopped(String),
}

impl Machine {
    /// Adds services that were loaded together; dependencies on names that are not there are left out.
    pub fn add(&mut self, descriptions: impl IntoIterator<Item = Description>) {
        let mut new = Vec::new();
        for description in descriptions {
            if self.by_name.contains_key(&description.name) {
                continue;
            }
            let id = self.services.len();
            self.by_name.insert(description.name.clone(), id);
            self.services.push(Service::new(description));
            new.push(id);
        }
        for &id in &new {
            self.connect(id);
        }
        for id in 0..self.services.len() {
            self.connect_orderings(id);
        }
    }

    fn connect(&mut self, id: Id) {
        let dependencies = self.services[id].description.dependencies.clone();
        for dependency in dependencies {
            if let Some(&to) = self.by_name.get(&dependency.name) {
                self.add_edge(id, to, dependency.kind);
            }
        }
    }

    /// Makes `after` and `before` pairs; both may name services that are loaded later.
    fn connect_orderings(&mut self, id: Id) {
        let find = |list: &[lycia_dinit::description::Ordering]| -> Vec<Id> {
            list.iter()
                .filter_map(|ordering| self.by_name.get(&ordering.name).copied())
                .collect()
        };
        let after = find(&self.services[id].description.after);
        let before = find(&self.services[id].description.before);
        for other in after {
            self.services[id].starts_after.insert(other);
            self.services[other].starts_before.insert(id);
        }
        for other in before {
            self.services[other].starts_after.insert(id);
            self.services[id].starts_before.insert(other);
        }
    }

    /// Forgets an ordering: `from` no longer waits for `to`.
    pub fn drop_ordering(&mut self, from: &str, to: &str) {
        let (Some(&from), Some(&to)) = (self.by_name.get(from), self.by_name.get(to)) else {
            return;
        };
        let (from_name, to_name) = (
            self.services[from].description.name.clone(),
            self.services[to].description.name.clone(),
        );
        self.services[from]
            .description
            .after
            .retain(|ordering| ordering.name != to_name);
        self.services[to]
            .description
            .before
            .retain(|ordering| ordering.name != from_name);
        self.services[from].starts_after.remove(&to);
        self.services[to].starts_before.remove(&from);
        self.to_advance.insert(from);
    }

    fn add_edge(&mut self, from: Id, to: Id, kind: DependencyKind) -> usize {
        let same = |edge: &Edge| edge.from == from && edge.to == to && edge.kind == kind;
        if let Some(index) = self.edges.iter().position(same) {
            return index;
        }
        let index = self.edges.len();
        self.edges.push(Edge {
            from,
            to,
            kind,
            holding: false,
            waiting: false,
        });
        self.services[from].dependencies.push(index);
        self.services[to].dependents.push(index);
        index
    }

    /// Number of a service that is loaded.
    pub fn find(&self, name: &str) -> Option<Id> {
        self.by_name.get(name).copied()
    }

    /// The description that a service runs by.
    pub fn description(&self, id: Id) -> &Description {
        &self.services[id].description
    }

    /// What there is to tell about a service.
    pub fn status(&self, id: Id) -> Status {
        let service = &self.services[id];
        Status {
            name: service.description.name.clone(),
            kind: service.description.kind,
            state: service.state,
            failed: service.failure.clone(),
            explicit: service.explicit,
            pid: service.main.or(service.stopper),
            holds_console: self.console_holder == Some(id),
            waits: service.step.word(),
            last_exit: service.last_exit,
            dependencies: self.names_of(&service.dependencies, |edge| edge.to),
            dependents: self.names_of(&service.dependents, |edge| edge.from),
        }
    }

    fn names_of(&self, edges: &[usize], end: impl Fn(&Edge) -> Id) -> Vec<(DependencyKind, String)> {
        let name = |edge: &Edge| (edge.kind, self.services[end(edge)].description.name.clone());
        edges.iter().map(|&index| name(&self.edges[index])).collect()
    }

    /// Statuses of all services in name order.
    pub fn statuses(&self) -> Vec<Status> {
        self.by_name.values().map(|&id| self.status(id)).collect()
    }

    /// Whether a service is up, down or between.
    pub fn state(&self, id: Id) -> State {
        self.services[id].state
    }

    /// Why its last start failed, if it did.
    pub fn failure(&self, id: Id) -> Option<&str> {
        self.services[id].failure.as_deref()
    }

    /// Whether a shutdown was asked for.
    pub fn is_shutting_down(&self) -> bool {
        self.shutting_down
    }

    /// What has to be done now, in order. Inputs that answer actions (`spawned`) may be given while
    /// going through them.
    pub fn take_actions(&mut self) -> Vec<Action> {
        self.actions.drain(..).collect()
    }

    /// When [`Machine::tick`] has to be called next.
    pub fn next_deadline(&self) -> Option<Duration> {
        self.services.iter().filter_map(|service| service.deadline).min()
    }

    /// Whether no service is up or on its way.
    pub fn is_idle(&self) -> bool {
        self.services
            .iter()
            .all(|service| service.state == State::Stopped)
    }

    /// Spreads intentions and takes steps until nothing changes.
    fn run(&mut self) {
        loop {
            if let Some(id) = self.to_settle.pop_front() {
                self.settle(id);
            } else if let Some(id) = self.to_advance.pop_first() {
                self.advance(id);
            } else {
                break;
            }
        }
        let idle = self.is_idle();
        if idle && !self.reported_idle {
            self.reported_idle = true;
            self.actions.push_back(Action::AllStopped);
        } else if !idle {
            self.reported_idle = false;
        }
    }

    fn notice(&mut self, id: Id, event: Event) {
        let service = self.services[id].description.name.clone();
        self.actions.push_back(Action::Tell(Notice { service, event }));
    }

    /// Whether anybody wants the service up.
    fn is_held(&self, id: Id) -> bool {
        let service = &self.services[id];
        service.explicit || service.dependents.iter().any(|&index| self.edges[index].holding)
    }

    /// Whether an edge has force over its dependent: a milestone only until it was reached.
    fn is_hard(edge: &Edge) -> bool {
        match edge.kind {
            DependencyKind::Hard | DependencyKind::PreparedBy => true,
            DependencyKind::Milestone => edge.waiting,
            DependencyKind::Soft => false,
        }
    }

    /// Whether a service has nothing running and only waits to start.
    fn only_waits_to_start(&self, id: Id) -> bool {
        let service = &self.services[id];
        service.state == State::Starting
            && !service.up
            && matches!(service.step, Step::Dependencies | Step::Console | Step::Delay)
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
