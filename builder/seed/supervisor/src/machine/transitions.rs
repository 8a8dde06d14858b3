//! How services move: settling intentions, taking steps, and what inputs do.

use std::time::Duration;

use super::model::{Action, Command, Event, Exit, Role, State, Step};
use super::{Id, Machine};
use lycia_dinit::description::{DependencyKind, Kind, Restart};

/// Between SIGTERM and SIGKILL to all processes (`kill-all-on-stop`).
const KILL_ALL_PAUSE: Duration = Duration::from_secs(1);

impl Machine {
    /// Compares what is wanted of a service with where it is.
    pub(super) fn settle(&mut self, id: Id) {
        let held = self.is_held(id);
        let service = &self.services[id];
        match service.state {
            State::Stopped if held && !self.shutting_down => self.begin_start(id),
            State::Stopped => {}
            State::Starting | State::Started if service.must_stop || !held => self.begin_stop(id, None),
            State::Starting | State::Started => {}
            // Nothing has been taken down yet: turn round.
            State::Stopping if held && !service.must_stop && service.step == Step::Dependents => {
                self.begin_start(id);
            }
            State::Stopping => {}
        }
    }

    /// Takes the next step of a service that may be able to.
    pub(super) fn advance(&mut self, id: Id) {
        let service = &self.services[id];
        match (service.state, service.step) {
            (State::Starting, Step::Dependencies) if self.may_come_up(id) => {
                let wants_console = service.description.options.starts_on_console;
                if wants_console && self.console_holder.is_some_and(|holder| holder != id) {
                    self.services[id].step = Step::Console;
                    self.console_queue.push_back(id);
                    return;
                }
                if wants_console && self.console_holder.is_none() {
                    self.console_holder = Some(id);
                    self.actions.push_back(Action::ConsoleTaken);
                }
                self.bring_up(id);
            }
            (State::Starting, Step::Console) if self.console_holder == Some(id) => self.bring_up(id),
            (State::Starting | State::Started, Step::Delay) if service.delay_over => {
                self.actions.push_back(Action::Spawn {
                    id,
                    command: Command::Start,
                });
                let service = &mut self.services[id];
                service.step = if service.state == State::Started {
                    Step::Rest
                } else {
                    Step::Process
                };
            }
            (State::Starting, Step::Trigger) if service.triggered => self.started(id),
            (State::Stopping, Step::Dependents) if self.may_go_down(id) => self.bring_down(id),
            _ => {}
        }
    }

    fn may_come_up(&self, id: Id) -> bool {
        let service = &self.services[id];
        let waits = service
            .dependencies
            .iter()
            .any(|&index| self.edges[index].waiting);
        let ordered = service
            .starts_after
            .iter()
            .any(|&other| self.services[other].state == State::Starting);
        !waits && !ordered
    }

    fn may_go_down(&self, id: Id) -> bool {
        let down =
            |other: Id| self.services[other].state == State::Stopped || self.only_waits_to_start(other);
        let service = &self.services[id];
        let needed = service
            .dependents
            .iter()
            .map(|&index| &self.edges[index])
            .any(|edge| edge.holding && (Machine::is_hard(edge) || self.shutting_down) && !down(edge.from));
        // At a shutdown the order of starting holds in reverse.
        let ordered = self.shutting_down && service.starts_before.iter().any(|&other| !down(other));
        !needed && !ordered
    }

    fn begin_start(&mut self, id: Id) {
        let service = &mut self.services[id];
        service.state = State::Starting;
        service.step = Step::Dependencies;
        service.must_stop = false;
        service.stay_down = false;
        service.again = false;
        service.restarting = false;
        service.interrupted = false;
        service.delay_over = false;
        service.deadline = None;
        service.failure = None;
        service.finished = None;
        for index in service.dependencies.clone() {
            let to = self.edges[index].to;
            let dependency = &mut self.services[to];
            let is_up = dependency.state == State::Started && !dependency.must_stop;
            if dependency.state == State::Stopping {
                // Wanted again from now on, whatever it was stopped for.
                dependency.again = true;
                dependency.stay_down = false;
            }
            let edge = &mut self.edges[index];
            edge.holding = true;
            edge.waiting = !is_up;
            self.to_settle.push_back(to);
        }
        // Dependents that went on without it are held by it again, as dinit does.
        for index in self.services[id].dependents.clone() {
            let from = self.edges[index].from;
            let soft = !Machine::is_hard(&self.edges[index]);
            if soft && matches!(self.services[from].state, State::Starting | State::Started) {
                self.edges[index].holding = true;
            }
        }
        self.to_advance.insert(id);
    }

    fn bring_up(&mut self, id: Id) {
        let now = self.now;
        let service = &mut self.services[id];
        let kind = service.description.kind;
        if service.up {
            return self.started(id);
        }
        match kind {
            Kind::Internal => self.started(id),
            Kind::Triggered if service.triggered => self.started(id),
            Kind::Triggered => service.step = Step::Trigger,
            Kind::Process | Kind::Bgprocess | Kind::Scripted => {
                let earliest = service
                    .last_start
                    .map(|last| last + service.description.restart_delay);
                if service.is_restart && earliest.is_some_and(|earliest| earliest > now) {
                    service.step = Step::Delay;
                    service.deadline = earliest;
                    return;
                }
                service.step = Step::Process;
                self.actions.push_back(Action::Spawn {
                    id,
                    command: Command::Start,
                });
            }
        }
    }

    fn started(&mut self, id: Id) {
        let service = &mut self.services[id];
        service.state = State::Started;
        service.step = Step::Rest;
        service.deadline = None;
        service.up = true;
        let options = service.description.options;
        if self.console_holder == Some(id) && !options.runs_on_console {
            self.release_console();
        }
        self.notice(id, Event::Started);
        if options.starts_rwfs {
            self.actions.push_back(Action::RootWritable);
        }
        if options.starts_log {
            self.actions.push_back(Action::LogReady);
        }
        for index in self.services[id].dependents.clone() {
            if std::mem::take(&mut self.edges[index].waiting) {
                self.to_advance.insert(self.edges[index].from);
            }
        }
        self.wake_ordered(id);
        self.to_settle.push_back(id);
    }

    /// Lets those look again that wait for this service by an ordering.
    fn wake_ordered(&mut self, id: Id) {
        let service = &self.services[id];
        let others = service.starts_before.iter().chain(&service.starts_after);
        let others: Vec<Id> = others.copied().collect();
        self.to_advance.extend(others);
    }

    /// A start failed; so do those that need it and are waiting for it.
    pub(super) fn fail(&mut self, id: Id, why: String) {
        let mut failing = vec![(id, why)];
        while let Some((id, why)) = failing.pop() {
            self.notice(id, Event::Failed(why.clone()));
            let service = &mut self.services[id];
            service.failure = Some(why);
            service.explicit = false;
            service.again = false;
            service.restarting = false;
            let name = service.description.name.clone();
            for index in service.dependents.clone() {
                let edge = &mut self.edges[index];
                let from = edge.from;
                let waited = std::mem::take(&mut edge.waiting);
                edge.holding = false;
                if !waited {
                    continue;
                }
                if edge.kind.is_required() {
                    failing.push((from, format!("{name} did not start")));
                } else {
                    self.to_advance.insert(from);
                }
            }
            self.leave_console_queue(id);
            let service = &mut self.services[id];
            if let Some(pid) = service.main {
                service.state = State::Stopping;
                service.step = Step::End;
                service.deadline = service.description.stop_timeout.map(|time| self.now + time);
                // A start command is interrupted, a service process gets its own signal.
                let signal = match service.description.kind {
                    Kind::Process => service.description.term_signal,
                    _ => Some(libc::SIGINT),
                };
                let group = !service.description.options.signal_process_only;
                if let Some(signal) = signal {
                    self.actions.push_back(Action::Signal {
                        id,
                        pid,
                        signal,
                        group,
                    });
                }
                self.wake_ordered(id);
            } else {
                self.stopped(id);
            }
        }
    }

    /// Begins to take a service down. `again` says whether it comes up again afterwards; `None` lets its
    /// restart setting decide.
    fn begin_stop(&mut self, id: Id, again: Option<bool>) {
        let now = self.now;
        let service = &mut self.services[id];
        if service.state == State::Starting && service.step == Step::Process && !service.up {
            let kind = service.description.kind;
            if kind != Kind::Process || service.main.is_none() {
                // A command that is half through is let finish, unless it may be interrupted.
                let interruptible = service.description.options.start_interruptible;
                if let (true, false, Some(pid)) = (interruptible, service.interrupted, service.main) {
                    service.interrupted = true;
                    service.deadline = service.description.stop_timeout.map(|time| now + time);
                    let group = !service.description.options.signal_process_only;
                    self.actions.push_back(Action::Signal {
                        id,
                        pid,
                        signal: libc::SIGINT,
                        group,
                    });
                }
                return;
            }
        }
        self.leave_console_queue(id);
        let service = &self.services[id];
        let may_restart = service.must_stop && !service.stay_down && !self.shutting_down;
        let again = may_restart
            && match again {
                _ if service.restarting => true,
                Some(again) => again,
                None => service.description.restart == Restart::Always && self.within_limit(id),
            };
        let service = &mut self.services[id];
        service.again = again;
        service.state = State::Stopping;
        service.step = Step::Dependents;
        service.deadline = None;
        let (stay_down, restarting) = (service.stay_down, service.restarting);
        for index in service.dependents.clone() {
            let from = self.edges[index].from;
            let waits = self.only_waits_to_start(from);
            let edge = &mut self.edges[index];
            if Machine::is_hard(edge) && waits && again {
                // It has nothing to stop; taking it down would restart what prepares it once more.
                edge.waiting = true;
            } else if Machine::is_hard(edge) {
                let dependent = &mut self.services[from];
                if matches!(dependent.state, State::Starting | State::Started) {
                    dependent.must_stop = true;
                    dependent.restarting |= restarting;
                    if stay_down {
                        dependent.stay_down = true;
                        dependent.explicit = false;
                    }
                    self.to_settle.push_back(from);
                }
            } else if !again && !self.shutting_down {
                edge.holding = false;
                if std::mem::take(&mut edge.waiting) {
                    self.to_advance.insert(from);
                }
            }
        }
        self.wake_ordered(id);
        self.to_advance.insert(id);
    }

    fn bring_down(&mut self, id: Id) {
        let service = &mut self.services[id];
        if service.description.options.kill_all_on_stop {
            service.step = Step::KillAll;
            service.deadline = Some(self.now + KILL_ALL_PAUSE);
            self.actions.push_back(Action::SignalAll {
                signal: libc::SIGTERM,
            });
        } else {
            self.end_process(id);
        }
    }

    fn end_process(&mut self, id: Id) {
        let now = self.now;
        let service = &mut self.services[id];
        let has_stop_command = !service.description.stop_command.is_empty();
        let running = match service.description.kind {
            Kind::Internal | Kind::Triggered => false,
            Kind::Scripted => service.up && has_stop_command,
            Kind::Process | Kind::Bgprocess => service.main.is_some(),
        };
        if !running {
            return self.stopped(id);
        }
        service.step = Step::End;
        service.deadline = service.description.stop_timeout.map(|time| now + time);
        if has_stop_command && service.up {
            self.actions.push_back(Action::Spawn {
                id,
                command: Command::Stop,
            });
        } else {
            self.ask_to_end(id);
        }
    }

    fn ask_to_end(&mut self, id: Id) {
        let service = &self.services[id];
        let group = !service.description.options.signal_process_only;
        if let (Some(pid), Some(signal)) = (service.main, service.description.term_signal) {
            self.actions.push_back(Action::Signal {
                id,
                pid,
                signal,
                group,
            });
        }
    }

    /// A service is down.
    fn stopped(&mut self, id: Id) {
        if self.console_holder == Some(id) {
            self.release_console();
        }
        let held = self.is_held(id);
        let service = &mut self.services[id];
        let again =
            (service.again || service.restarting) && held && !service.stay_down && !self.shutting_down;
        let by_command = service.restarting;
        service.state = State::Stopped;
        service.step = Step::Rest;
        service.deadline = None;
        service.up = false;
        service.triggered = false;
        service.main = None;
        service.stopper = None;
        service.must_stop = false;
        service.restarting = false;
        service.again = false;
        if service.failure.is_none() {
            self.notice(id, Event::Stopped);
        }
        let mut prepared = Vec::new();
        if again {
            for &index in &self.services[id].dependencies {
                let edge = &self.edges[index];
                if edge.kind == DependencyKind::PreparedBy && self.services[edge.to].state == State::Started {
                    prepared.push(edge.to);
                }
            }
        } else {
            self.services[id].explicit = false;
            for index in self.services[id].dependents.clone() {
                let edge = &mut self.edges[index];
                if !Machine::is_hard(edge) {
                    edge.holding = false;
                    edge.waiting = false;
                    self.to_advance.insert(edge.from);
                }
            }
        }
        for to in prepared {
            self.services[to].must_stop = true;
            self.services[to].restarting = true;
            self.to_settle.push_back(to);
        }
        for index in self.services[id].dependencies.clone() {
            let edge = &mut self.edges[index];
            let to = edge.to;
            edge.holding = false;
            edge.waiting = false;
            self.to_settle.push_back(to);
            self.to_advance.insert(to);
        }
        self.wake_ordered(id);
        let held = self.is_held(id);
        self.services[id].is_restart = held && !by_command;
        self.services[id].stay_down = false;
        if again {
            // At once, so that it holds its dependencies before they settle.
            self.begin_start(id);
        } else {
            self.to_settle.push_back(id);
        }
        let service = &mut self.services[id];
        let ended_well = service.finished.take().is_some_and(Exit::is_success);
        let chains = ended_well && !again || service.description.options.always_chain;
        if let Some(name) = service.description.chain_to.clone()
            && chains
            && service.failure.is_none()
            && !self.shutting_down
        {
            self.actions.push_back(Action::Chain { name });
        }
    }

    /// A process of a started service ended although nobody asked it to.
    fn ended_unasked(&mut self, id: Id, exit: Exit) {
        self.notice(id, Event::Ended(exit));
        let service = &self.services[id];
        let wanted = self.is_held(id) && !service.must_stop && !self.shutting_down;
        let policy = service.description.restart;
        if service.description.smooth_recovery && wanted {
            if self.within_limit(id) {
                self.notice(id, Event::Recovering);
                let service = &mut self.services[id];
                let earliest = service
                    .last_start
                    .map(|last| last + service.description.restart_delay);
                service.step = Step::Delay;
                service.delay_over = earliest.is_none_or(|earliest| earliest <= self.now);
                service.deadline = earliest.filter(|_| !service.delay_over);
                self.to_advance.insert(id);
                return;
            }
            self.notice(id, Event::RestartLimit);
            return self.go_down(id, exit, false);
        }
        let by_policy = match policy {
            Restart::Always => true,
            Restart::OnFailure => exit.is_failure(),
            Restart::Never => false,
        };
        let again = by_policy && wanted && self.within_limit(id);
        if by_policy && wanted && !again {
            self.notice(id, Event::RestartLimit);
        }
        self.go_down(id, exit, again);
    }

    fn go_down(&mut self, id: Id, exit: Exit, again: bool) {
        let service = &mut self.services[id];
        service.up = false;
        service.finished = Some(exit);
        service.must_stop = true;
        self.begin_stop(id, Some(again));
    }

    /// Counts an automatic restart; false when there were too many.
    fn within_limit(&mut self, id: Id) -> bool {
        let service = &mut self.services[id];
        let limit = service.description.restart_limit_count;
        if limit == 0 {
            return true;
        }
        let age = self.now.saturating_sub(service.restarts_since);
        if service.restarts == 0 || age >= service.description.restart_limit_interval {
            service.restarts_since = self.now;
            service.restarts = 0;
        }
        if service.restarts >= limit {
            return false;
        }
        service.restarts += 1;
        true
    }

    fn release_console(&mut self) {
        self.console_holder = None;
        while let Some(next) = self.console_queue.pop_front() {
            let service = &self.services[next];
            if service.state == State::Starting && service.step == Step::Console {
                self.console_holder = Some(next);
                self.to_advance.insert(next);
                return;
            }
        }
        self.actions.push_back(Action::ConsoleFree);
    }

    fn leave_console_queue(&mut self, id: Id) {
        self.console_queue.retain(|&waiting| waiting != id);
        if self.console_holder == Some(id) && self.services[id].step == Step::Console {
            self.release_console();
        }
    }

    // Inputs.

    /// Answers [`Action::Spawn`]: the process ID, or why there is none.
    pub fn spawned(&mut self, now: Duration, id: Id, command: Command, result: Result<i32, String>) {
        self.now = now;
        let service = &mut self.services[id];
        match (command, result) {
            (Command::Start, Ok(pid)) => {
                service.main = Some(pid);
                service.last_start = Some(now);
                if service.state == State::Starting {
                    service.deadline = service.description.start_timeout.map(|time| now + time);
                    if service.description.kind == Kind::Process && service.description.ready.is_none() {
                        self.started(id);
                    }
                }
            }
            (Command::Start, Err(why)) if service.state == State::Started => {
                self.notice(id, Event::Warning(why));
                self.go_down(id, Exit::Unknown, false);
            }
            (Command::Start, Err(why)) => self.fail(id, why),
            (Command::Stop, Ok(pid)) => service.stopper = Some(pid),
            (Command::Stop, Err(why)) => {
                self.notice(id, Event::Warning(why));
                if self.services[id].main.is_some() {
                    self.ask_to_end(id);
                } else {
                    self.stopped(id);
                }
            }
        }
        self.run();
    }

    /// A process of a service ended.
    pub fn exited(&mut self, now: Duration, id: Id, role: Role, exit: Exit) {
        self.now = now;
        let service = &mut self.services[id];
        if role == Role::Stop {
            service.stopper = None;
            let waits_for_main = service.main.is_some();
            if !exit.is_success() {
                self.notice(id, Event::Warning(format!("its stop command ended with {exit}")));
            }
            if !waits_for_main && self.services[id].step == Step::End {
                self.stopped(id);
            }
            return self.run();
        }
        service.main = None;
        service.last_exit = Some(exit);
        let options = service.description.options;
        match service.state {
            State::Starting if service.up => {
                // It turned round while going down, and its process ended meanwhile.
                service.up = false;
            }
            State::Starting => {
                let kind = service.description.kind;
                let skipped = options.skippable
                    && kind == Kind::Scripted
                    && exit == Exit::Signal(libc::SIGINT)
                    && !service.interrupted;
                if kind == Kind::Process {
                    self.fail(id, format!("ended with {exit} before it was ready"));
                } else if skipped || exit.is_success() {
                    if kind == Kind::Bgprocess {
                        self.actions.push_back(Action::FindDaemon { id });
                    } else {
                        self.started(id);
                    }
                } else if service.interrupted {
                    // Cancelled by us, so not a failure.
                    service.state = State::Stopping;
                    self.stopped(id);
                } else {
                    self.fail(id, format!("its start command ended with {exit}"));
                }
            }
            State::Started => self.ended_unasked(id, exit),
            State::Stopping if service.step == Step::End => {
                if service.stopper.is_none() {
                    self.stopped(id);
                }
            }
            State::Stopping => service.up = false,
            State::Stopped => {}
        }
        self.run();
    }

    /// A process wrote its readiness message (`true`), or closed the pipe without one (`false`).
    pub fn ready(&mut self, now: Duration, id: Id, is_ready: bool) {
        self.now = now;
        let service = &self.services[id];
        if service.state == State::Starting && service.step == Step::Process && service.main.is_some() {
            if is_ready {
                self.started(id);
            } else {
                self.fail(id, "closed its readiness descriptor without a message".into());
            }
        }
        self.run();
    }

    /// Answers [`Action::FindDaemon`].
    pub fn daemon_found(&mut self, now: Duration, id: Id, result: Result<i32, String>) {
        self.now = now;
        if self.services[id].state == State::Starting {
            match result {
                Ok(pid) => {
                    self.services[id].main = Some(pid);
                    self.started(id);
                }
                Err(why) => self.fail(id, why),
            }
        }
        self.run();
    }

    /// Does what is due at this time.
    pub fn tick(&mut self, now: Duration) {
        self.now = now;
        for id in 0..self.services.len() {
            let service = &mut self.services[id];
            if service.deadline.is_none_or(|deadline| deadline > now) {
                continue;
            }
            service.deadline = None;
            match (service.state, service.step) {
                (State::Starting | State::Started, Step::Delay) => {
                    service.delay_over = true;
                    self.to_advance.insert(id);
                }
                (State::Starting, Step::Process) if service.interrupted => self.kill(id),
                (State::Starting, Step::Process) => {
                    let limit = service.description.start_timeout.unwrap_or_default();
                    self.fail(id, format!("did not start within {} s", limit.as_secs_f64()));
                }
                (State::Stopping, Step::KillAll) => {
                    self.actions.push_back(Action::SignalAll {
                        signal: libc::SIGKILL,
                    });
                    self.end_process(id);
                }
                (State::Stopping, Step::End) => {
                    self.notice(id, Event::Killed);
                    self.kill(id);
                }
                _ => {}
            }
        }
        self.run();
    }

    fn kill(&mut self, id: Id) {
        let service = &self.services[id];
        let group = !service.description.options.signal_process_only;
        for pid in service.main.into_iter().chain(service.stopper) {
            self.actions.push_back(Action::Signal {
                id,
                pid,
                signal: libc::SIGKILL,
                group,
            });
        }
    }
}
