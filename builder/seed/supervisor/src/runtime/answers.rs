//! Answers to requests of the control socket.

use super::{Supervisor, Waiter};
use crate::machine::{Id, State, Status};
use crate::protocol::Request;
use lycia_dinit::catalogue::Loader;
use lycia_dinit::files::DiskFiles;

/// A finished reply: data lines and the last line.
struct Reply {
    data: Vec<String>,
    last: String,
}

impl Reply {
    fn ok(data: Vec<String>) -> Reply {
        Reply {
            data,
            last: "ok".into(),
        }
    }

    fn yes_no(yes: bool) -> Reply {
        Reply {
            data: Vec::new(),
            last: if yes { "ok".into() } else { "no".into() },
        }
    }
}

/// Either the answer or what has to be waited for.
enum Answer {
    Now(Reply),
    Later { id: Id, wanted: State },
}

impl Supervisor {
    /// Carries out a request line and replies now or later.
    pub(super) fn answer(&mut self, client: u64, line: &[u8]) {
        let parsed = std::str::from_utf8(line)
            .map_err(|_| "the request is not UTF-8 text".to_owned())
            .and_then(|line| {
                let words: Vec<&str> = line.split(' ').filter(|word| !word.is_empty()).collect();
                Request::parse(&words).map_err(|error| error.to_string())
            });
        let answer = parsed.and_then(|request| self.carry_out_request(request));
        // Effects first: a service that fails at once has failed when the reply is made.
        match answer {
            Ok(Answer::Later { id, wanted }) => self.waiters.push(Waiter { client, id, wanted }),
            Ok(Answer::Now(reply)) => self.reply(client, &reply.data, &reply.last),
            Err(message) => self.reply(client, &[], &format!("error: {message}")),
        }
    }

    fn reply(&mut self, client: u64, data: &[String], last: &str) {
        if let Some(client) = self.control.client(client) {
            client.reply(data, last);
        }
    }

    /// Replies to those whose service has come to rest.
    pub(super) fn answer_waiters(&mut self) {
        let mut index = 0;
        while index < self.waiters.len() {
            let Waiter { client, id, wanted } = self.waiters[index];
            let state = self.machine.state(id);
            let status = self.machine.status(id);
            let arrived = state == wanted;
            let failed = wanted == State::Started && state == State::Stopped;
            // On its way to a restart a service is down for a moment only.
            if arrived || failed {
                self.waiters.remove(index);
                let last = if arrived {
                    "ok".to_owned()
                } else {
                    let why = status.failed.unwrap_or_else(|| "it was stopped".into());
                    format!("error: `{}` did not start: {why}", status.name)
                };
                self.reply(client, &[], &last);
            } else {
                index += 1;
            }
        }
    }

    fn loaded(&self, name: &str) -> Result<Id, String> {
        self.machine
            .find(name)
            .ok_or_else(|| format!("service `{name}` is not loaded"))
    }

    fn carry_out_request(&mut self, request: Request) -> Result<Answer, String> {
        let now = self.now();
        let done = |result: Result<(), crate::machine::CommandError>, later: Option<(Id, State)>| {
            result.map_err(|error| error.to_string())?;
            Ok(match later {
                Some((id, wanted)) => Answer::Later { id, wanted },
                None => Answer::Now(Reply::ok(Vec::new())),
            })
        };
        let reply = match request {
            Request::List { plain } => {
                let line = if plain { plain_line } else { list_line };
                Reply::ok(self.machine.statuses().iter().map(line).collect())
            }
            Request::Status(name) => {
                let id = self.load(&name).map_err(|error| error.to_string())?;
                Reply::ok(self.status_lines(id))
            }
            Request::Start { name, wait } => {
                let id = self.load(&name).map_err(|error| error.to_string())?;
                let result = self.machine.start(now, id);
                return done(result, wait.then_some((id, State::Started)));
            }
            Request::Stop { name, force, wait } => {
                let id = self.loaded(&name)?;
                let result = self.machine.stop(now, id, force);
                return done(result, wait.then_some((id, State::Stopped)));
            }
            Request::Restart { name, force, wait } => {
                let id = self.loaded(&name)?;
                let result = self.machine.restart(now, id, force);
                return done(result, wait.then_some((id, State::Started)));
            }
            Request::Wake { name, wait } => {
                let id = self.load(&name).map_err(|error| error.to_string())?;
                let result = self.machine.wake(now, id);
                return done(result, wait.then_some((id, State::Started)));
            }
            Request::Release(name) => {
                let id = self.loaded(&name)?;
                self.machine.release(now, id);
                Reply::ok(Vec::new())
            }
            Request::Trigger { name, set } => {
                let id = self.load(&name).map_err(|error| error.to_string())?;
                return done(self.machine.trigger(now, id, set), None);
            }
            Request::Signal { signal, name } => {
                let id = self.loaded(&name)?;
                return done(self.machine.signal(id, signal), None);
            }
            Request::IsStarted(name) => {
                let id = self.machine.find(&name);
                Reply::yes_no(id.is_some_and(|id| self.machine.state(id) == State::Started))
            }
            Request::IsFailed(name) => {
                let id = self.machine.find(&name);
                Reply::yes_no(id.is_some_and(|id| self.machine.failure(id).is_some()))
            }
            Request::AddDependency { kind, from, to } => {
                let from = self.load(&from).map_err(|error| error.to_string())?;
                let to = self.load(&to).map_err(|error| error.to_string())?;
                return done(self.machine.add_dependency(now, from, to, kind), None);
            }
            Request::RemoveDependency { kind, from, to } => {
                let (from, to) = (self.loaded(&from)?, self.loaded(&to)?);
                return done(self.machine.remove_dependency(now, from, to, kind), None);
            }
            Request::Reload(name) => {
                self.reload(&name)?;
                Reply::ok(Vec::new())
            }
            Request::Log(name) => {
                let id = self.loaded(&name)?;
                let bytes: Vec<u8> = self.logs.get(&id).into_iter().flatten().copied().collect();
                Reply::ok(
                    String::from_utf8_lossy(&bytes)
                        .lines()
                        .map(str::to_owned)
                        .collect(),
                )
            }
            Request::Messages => Reply::ok(self.journal.messages().map(str::to_owned).collect()),
            Request::Shutdown(ending) => {
                self.shut_down(ending);
                Reply::ok(Vec::new())
            }
            Request::Version => Reply::ok(vec![crate::VERSION_TEXT.into()]),
        };
        Ok(Answer::Now(reply))
    }

    /// Reads a stopped service's description again.
    fn reload(&mut self, name: &str) -> Result<(), String> {
        let Some(id) = self.machine.find(name) else {
            return self.load(name).map(|_| ()).map_err(|error| error.to_string());
        };
        if self.machine.state(id) != State::Stopped {
            return Err(crate::machine::CommandError::NotStopped(name.into()).to_string());
        }
        let files = DiskFiles::new("/");
        let loader = Loader {
            files: &files,
            directories: &self.settings.directories,
            environment: &self.settings.environment,
        };
        let old = self.catalogue.get(name).cloned();
        self.catalogue.forget(name);
        let loaded = match self.catalogue.load(&loader, name) {
            Ok(loaded) => loaded,
            Err(error) => {
                // The old description stays in force.
                self.catalogue.restore(old);
                return Err(error.to_string());
            }
        };
        let new = loaded.names.iter().filter(|other| *other != name);
        let descriptions: Vec<_> = new.filter_map(|name| self.catalogue.get(name).cloned()).collect();
        self.machine.add(descriptions);
        for (from, to) in &loaded.dropped_orderings {
            self.machine.drop_ordering(from, to);
        }
        match self.catalogue.get(name).cloned() {
            Some(description) => self
                .machine
                .replace(description)
                .map_err(|error| error.to_string()),
            None => Ok(()),
        }
    }

    fn status_lines(&self, id: Id) -> Vec<String> {
        let status = self.machine.status(id);
        let description = self.machine.description(id);
        let mut lines = vec![
            format!("Service: {}", status.name),
            format!("File: {}", description.file.display()),
            format!("Type: {}", status.kind.word()),
            format!("State: {}", state_word(&status)),
        ];
        let mut add = |label: &str, value: Option<String>| {
            lines.extend(value.map(|value| format!("{label}: {value}")));
        };
        add("Failure", status.failed.clone());
        add("Waits for", status.waits.map(str::to_owned));
        add("Process ID", status.pid.map(|pid| pid.to_string()));
        add("Last exit", status.last_exit.map(|exit| exit.to_string()));
        add(
            "Activation",
            Some(if status.explicit {
                "by name".into()
            } else {
                "as a dependency".into()
            }),
        );
        for (kind, name) in &status.dependencies {
            add(kind.word(), Some(name.clone()));
        }
        for (kind, name) in &status.dependents {
            add(&format!("{} from", kind.word()), Some(name.clone()));
        }
        lines
    }
}

fn state_word(status: &Status) -> &'static str {
    match status.state {
        State::Stopped if status.failed.is_some() => "failed",
        state => state.word(),
    }
}

/// `[+] name (pid 12, console)`. The marks: + started, - stopped, X failed, > starting, < stopping.
fn list_line(status: &Status) -> String {
    let mark = match state_word(status) {
        "started" => '+',
        "starting" => '>',
        "stopping" => '<',
        "failed" => 'X',
        _ => '-',
    };
    let mut notes = Vec::new();
    notes.extend(status.pid.map(|pid| format!("pid {pid}")));
    if status.holds_console {
        notes.push("console".into());
    }
    notes.extend(status.waits.map(|what| format!("waits for {what}")));
    let notes = if notes.is_empty() {
        String::new()
    } else {
        format!(" ({})", notes.join(", "))
    };
    format!("[{mark}] {}{notes}", status.name)
}

/// `NAME STATE PID`, `-` for no process.
fn plain_line(status: &Status) -> String {
    let pid = status.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    format!("{} {} {pid}", status.name, state_word(status))
}
