//! Commands on services: what `seedctl` asks for.

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::{Action, Edge, Service, State, Step};
use super::{CommandError, Id, Machine};
use lycia_dinit::description::{DependencyKind, Description, Kind};

impl Machine {
    fn name(&self, id: Id) -> String {
        self.services[id].description.name.clone()
    }

    /// Starts a service and keeps it up until it is stopped or released.
    pub fn start(&mut self, now: Duration, id: Id) -> Result<(), CommandError> {
        self.now = now;
        if self.shutting_down {
            return Err(CommandError::ShuttingDown(self.name(id)));
        }
        let service = &mut self.services[id];
        service.explicit = true;
        self.want(id);
        Ok(())
    }

    /// After a new reason to be up: also a service on its way down comes back.
    fn want(&mut self, id: Id) {
        let service = &mut self.services[id];
        service.is_restart = false;
        service.stay_down = false;
        if service.state == State::Stopping {
            service.again = true;
            if service.step == Step::Dependents && service.up {
                service.must_stop = false;
            }
        }
        self.to_settle.push_back(id);
        self.run();
    }

    /// Stops a service and keeps it from coming back by itself. Running services that need it are an
    /// error, or with `force` stopped, too.
    pub fn stop(&mut self, now: Duration, id: Id, force: bool) -> Result<(), CommandError> {
        self.now = now;
        let dependents = self.running_dependents(id);
        if !dependents.is_empty() && !force {
            return Err(CommandError::Needed {
                name: self.name(id),
                dependents,
            });
        }
        let service = &mut self.services[id];
        service.explicit = false;
        if service.state == State::Stopped {
            service.failure = None;
            return Ok(());
        }
        service.must_stop = true;
        service.stay_down = true;
        service.again = false;
        self.to_settle.push_back(id);
        self.run();
        Ok(())
    }

    fn running_dependents(&self, id: Id) -> Vec<String> {
        let edges = self.services[id]
            .dependents
            .iter()
            .map(|&index| &self.edges[index]);
        let running = edges
            .filter(|edge| Machine::is_hard(edge) && edge.holding)
            .filter(|edge| self.services[edge.from].state != State::Stopped);
        let names: BTreeSet<String> = running.map(|edge| self.name(edge.from)).collect();
        names.into_iter().collect()
    }

    /// Stops a started service and starts it again. With `force` the services that need it go along.
    pub fn restart(&mut self, now: Duration, id: Id, force: bool) -> Result<(), CommandError> {
        self.now = now;
        if self.shutting_down {
            return Err(CommandError::ShuttingDown(self.name(id)));
        }
        if self.services[id].state != State::Started {
            return Err(CommandError::NotStarted(self.name(id)));
        }
        let dependents = self.running_dependents(id);
        if !dependents.is_empty() && !force {
            return Err(CommandError::Needed {
                name: self.name(id),
                dependents,
            });
        }
        self.services[id].must_stop = true;
        self.services[id].restarting = true;
        self.to_settle.push_back(id);
        self.run();
        Ok(())
    }

    /// Takes back an explicit start: the service stops unless something running depends on it.
    pub fn release(&mut self, now: Duration, id: Id) {
        self.now = now;
        self.services[id].explicit = false;
        self.to_settle.push_back(id);
        self.run();
    }

    /// Starts a service for the running services that depend on it, without an explicit start.
    pub fn wake(&mut self, now: Duration, id: Id) -> Result<(), CommandError> {
        self.now = now;
        if self.shutting_down {
            return Err(CommandError::ShuttingDown(self.name(id)));
        }
        let mut held = self.services[id].explicit;
        for index in self.services[id].dependents.clone() {
            let from = self.edges[index].from;
            if matches!(self.services[from].state, State::Starting | State::Started) {
                self.edges[index].holding = true;
                held = true;
            }
        }
        if !held {
            return Err(CommandError::NothingHolds(self.name(id)));
        }
        self.want(id);
        Ok(())
    }

    /// Sets or takes back the trigger of a triggered service.
    pub fn trigger(&mut self, now: Duration, id: Id, set: bool) -> Result<(), CommandError> {
        self.now = now;
        if self.services[id].description.kind != Kind::Triggered {
            return Err(CommandError::NotTriggered(self.name(id)));
        }
        self.services[id].triggered = set;
        self.to_advance.insert(id);
        self.run();
        Ok(())
    }

    /// Sends a signal to a service's process.
    pub fn signal(&mut self, id: Id, signal: i32) -> Result<(), CommandError> {
        let service = &self.services[id];
        let Some(pid) = service.main else {
            return Err(CommandError::NoProcess(self.name(id)));
        };
        let group = !service.description.options.signal_process_only;
        self.actions.push_back(Action::Signal {
            id,
            pid,
            signal,
            group,
        });
        Ok(())
    }

    /// Adds a dependency between loaded services until the next boot.
    pub fn add_dependency(
        &mut self,
        now: Duration,
        from: Id,
        to: Id,
        kind: DependencyKind,
    ) -> Result<(), CommandError> {
        self.now = now;
        if self.leads_to(to, from) {
            return Err(CommandError::Circle {
                from: self.name(from),
                to: self.name(to),
            });
        }
        let active = |state| matches!(state, State::Starting | State::Started);
        let (from_state, to_state) = (self.services[from].state, self.services[to].state);
        if kind.is_required() && from_state == State::Started && to_state != State::Started {
            let (from, to) = (self.name(from), self.name(to));
            return Err(CommandError::DependencyNotStarted { from, to });
        }
        let index = self.add_edge(from, to, kind);
        if active(from_state) && active(to_state) {
            self.edges[index].holding = true;
        }
        if self.only_waits_to_start(from) {
            self.edges[index].holding = true;
            self.edges[index].waiting = to_state != State::Started;
            self.to_settle.push_back(to);
        }
        self.run();
        Ok(())
    }

    /// Whether `from` waits for `to`, directly or through others.
    fn leads_to(&self, from: Id, to: Id) -> bool {
        let mut seen = BTreeSet::new();
        let mut queue = vec![from];
        while let Some(id) = queue.pop() {
            if id == to {
                return true;
            }
            if seen.insert(id) {
                let service = &self.services[id];
                queue.extend(service.dependencies.iter().map(|&index| self.edges[index].to));
                queue.extend(&service.starts_after);
            }
        }
        false
    }

    /// Removes a dependency; what nobody holds any more stops.
    pub fn remove_dependency(
        &mut self,
        now: Duration,
        from: Id,
        to: Id,
        kind: DependencyKind,
    ) -> Result<(), CommandError> {
        self.now = now;
        let same = |edge: &Edge| edge.from == from && edge.to == to && edge.kind == kind;
        let Some(index) = self.edges.iter().position(same) else {
            return Err(CommandError::NoDependency {
                from: self.name(from),
                to: self.name(to),
            });
        };
        // The edge keeps its number, so that no other has to move; nobody looks at it any more.
        self.edges[index].holding = false;
        self.edges[index].waiting = false;
        self.services[from].dependencies.retain(|&other| other != index);
        self.services[to].dependents.retain(|&other| other != index);
        self.edges[index].from = Id::MAX;
        self.to_settle.push_back(to);
        self.to_advance.insert(from);
        self.run();
        Ok(())
    }

    /// Replaces the description of a stopped service; its dependencies have to be loaded.
    pub fn replace(&mut self, description: Description) -> Result<(), CommandError> {
        let Some(id) = self.find(&description.name) else {
            self.add([description]);
            return Ok(());
        };
        if self.services[id].state != State::Stopped {
            return Err(CommandError::NotStopped(description.name));
        }
        for index in std::mem::take(&mut self.services[id].dependencies) {
            let to = self.edges[index].to;
            self.services[to].dependents.retain(|&other| other != index);
            self.edges[index].from = Id::MAX;
        }
        for other in std::mem::take(&mut self.services[id].starts_after) {
            self.services[other].starts_before.remove(&id);
        }
        for other in std::mem::take(&mut self.services[id].starts_before) {
            self.services[other].starts_after.remove(&id);
        }
        let dependents = std::mem::take(&mut self.services[id].dependents);
        self.services[id] = Service {
            dependents,
            ..Service::new(description)
        };
        self.connect(id);
        for other in 0..self.services.len() {
            self.connect_orderings(other);
        }
        Ok(())
    }

    /// Stops everything, dependents first; [`Action::AllStopped`] tells when that is done.
    pub fn shut_down(&mut self, now: Duration) {
        self.now = now;
        self.shutting_down = true;
        self.reported_idle = false;
        for id in 0..self.services.len() {
            let service = &mut self.services[id];
            service.explicit = false;
            service.stay_down = true;
            service.again = false;
            service.restarting = false;
            if matches!(service.state, State::Starting | State::Started) {
                service.must_stop = true;
                self.to_settle.push_back(id);
            }
            // Those on their way down may now have to wait for more, or for less.
            self.to_advance.insert(id);
        }
        self.run();
    }
}
