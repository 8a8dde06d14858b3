//! The supervisor's own messages: to the console while nobody holds it, to the system log once there is
//! one, and the newest ones kept for `seedctl messages`.

use std::collections::VecDeque;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;

/// Messages kept.
const KEPT: usize = 500;
/// Messages held back for the console while a service holds it.
const HELD_BACK: usize = 50;
/// Facility daemon (3 << 3), severity notice (5): RFC 3164, section 4.1.1.
const SYSLOG_PRIORITY: u32 = 3 << 3 | 5;

/// How a message matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// Left out on a quiet console.
    Normal,
    /// Always shown.
    Important,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Journal {
    kept: VecDeque<String>,
    held_back: VecDeque<String>,
    console_taken: bool,
    quiet: bool,
    syslog: Option<UnixDatagram>,
    syslog_wanted: bool,
    unsent: VecDeque<String>,
}

impl Journal {
    /// `quiet` shows only important messages on the console.
    pub fn new(quiet: bool) -> Journal {
        Journal {
            quiet,
            ..Journal::default()
        }
    }

    /// Tells a message.
    pub fn tell(&mut self, weight: Weight, message: &str) {
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(message.to_owned());
        if self.unsent.len() == KEPT {
            self.unsent.pop_front();
        }
        self.unsent.push_back(message.to_owned());
        self.send();
        if self.quiet && weight == Weight::Normal {
            return;
        }
        if self.console_taken {
            if self.held_back.len() == HELD_BACK {
                self.held_back.pop_front();
            }
            self.held_back.push_back(message.to_owned());
        } else {
            print(message);
        }
    }

    /// A service holds the console, or gives it back.
    pub fn console(&mut self, taken: bool) {
        self.console_taken = taken;
        if !taken {
            for message in std::mem::take(&mut self.held_back) {
                print(&message);
            }
        }
    }

    /// The system log daemon runs: from now on messages go to its socket, those told before first.
    pub fn use_syslog(&mut self) {
        self.syslog_wanted = true;
        self.send();
    }

    /// Sends what was not sent. A daemon that does not answer, because it is not yet there or is being
    /// started again, is tried anew with the next message.
    fn send(&mut self) {
        if self.syslog.is_none() && self.syslog_wanted {
            let socket = UnixDatagram::unbound().and_then(|socket| {
                socket.set_nonblocking(true)?;
                socket.connect("/dev/log")?;
                Ok(socket)
            });
            self.syslog = socket.ok();
        }
        let Some(socket) = &self.syslog else { return };
        while let Some(message) = self.unsent.front() {
            let line = format!("<{SYSLOG_PRIORITY}>seed-supervisor: {message}");
            match socket.send(line.as_bytes()) {
                Ok(_) => {
                    self.unsent.pop_front();
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.syslog = None;
                    return;
                }
            }
        }
    }

    /// The messages kept, oldest first.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.kept.iter().map(String::as_str)
    }
}

fn print(message: &str) {
    // There is nobody to tell when the console itself fails.
    let _ = writeln!(std::io::stdout().lock(), "{message}");
}
