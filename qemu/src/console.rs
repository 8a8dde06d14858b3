//! The guest's first serial port, scripted.

use crate::error::Error;
use crate::process::{Shared, deadline};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The serial console: what the guest wrote is kept as plain text and waited for, what is sent is typed.
///
/// Waits look at text that no earlier wait has consumed.
#[derive(Debug)]
pub struct Console {
    pub(crate) shared: Arc<Shared>,
    input: UnixStream,
}

/// What [`Console::expect_any`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Which of the patterns, counted from 0.
    pub index: usize,
    /// The text between the last consumed text and the pattern.
    pub before: String,
}

impl Console {
    pub(crate) fn new(shared: Arc<Shared>, input: UnixStream) -> Self {
        Self { shared, input }
    }

    /// Waits for a text (a plain substring) and consumes everything up to its end; gives what came before it.
    ///
    /// # Errors
    /// It did not come within `limit`, QEMU ended, or forbidden text came first ([`forbid`](Self::forbid)).
    pub fn expect(&self, pattern: &str, limit: Duration) -> Result<String, Error> {
        self.expect_any(&[pattern], limit).map(|found| found.before)
    }

    /// Waits for the first of several texts.
    ///
    /// # Errors
    /// As [`expect`](Self::expect).
    pub fn expect_any(&self, patterns: &[&str], limit: Duration) -> Result<Match, Error> {
        self.expect_until(patterns, deadline(limit), limit)
    }

    /// `limit` is only what an error tells.
    pub(crate) fn expect_until(
        &self,
        patterns: &[&str],
        deadline: Instant,
        limit: Duration,
    ) -> Result<Match, Error> {
        enum Outcome {
            Match(Match),
            Forbidden(String),
            Ended,
        }
        let longest = patterns.iter().map(|pattern| pattern.len()).max().unwrap_or(0);
        let mut from = None;
        let outcome = self.shared.wait_until(deadline, |state| {
            let consumed = state.serial.consumed();
            let found = state
                .serial
                .find(patterns, from.unwrap_or(consumed).max(consumed));
            // What has been searched is not searched again, but a pattern may span lines.
            from = Some(state.serial.settled().saturating_sub(longest));
            let forbidden = state.forbidden_seen.clone();
            match (found, forbidden) {
                (Some(found), forbidden) if forbidden.as_ref().is_none_or(|(_, at)| found.start < *at) => {
                    let before = state.serial.between(consumed, found.start);
                    state.serial.consume(found.end);
                    Some(Outcome::Match(Match {
                        index: found.index,
                        before,
                    }))
                }
                (_, Some((text, _))) => Some(Outcome::Forbidden(text)),
                _ => (!state.serial_open).then_some(Outcome::Ended),
            }
        });
        let awaited = || {
            patterns
                .iter()
                .map(|pattern| format!("{pattern:?}"))
                .collect::<Vec<_>>()
                .join(" or ")
        };
        match outcome {
            Some(Outcome::Match(found)) => Ok(found),
            Some(Outcome::Forbidden(text)) => Err(self.shared.forbidden(&awaited(), text)),
            Some(Outcome::Ended) => Err(self.shared.ended(&awaited())),
            None => Err(self.shared.timeout(&awaited(), limit)),
        }
    }

    /// Waits until nothing was written for `quiet`.
    ///
    /// # Errors
    /// The console was not quiet within `limit`.
    pub fn expect_quiet(&self, quiet: Duration, limit: Duration) -> Result<(), Error> {
        let last = deadline(limit);
        loop {
            let before = self.shared.state().serial.end();
            let rest = deadline(quiet);
            let changed = self.shared.wait_until(rest.min(last), |state| {
                (state.serial.end() != before).then_some(())
            });
            match changed {
                None if rest <= last => return Ok(()),
                Some(()) if Instant::now() < last => {}
                _ => return Err(self.shared.timeout("a quiet console", limit)),
            }
        }
    }

    /// From now on every wait (also for the report) fails as soon as this text comes. A kernel panic is forbidden
    /// from the start.
    pub fn forbid(&self, text: &str) {
        self.shared.state().forbidden.push(text.to_owned());
    }

    /// Forbids nothing any more, not even a kernel panic.
    pub fn forbid_nothing(&self) {
        let mut state = self.shared.state();
        state.forbidden.clear();
        state.forbidden_seen = None;
    }

    /// Types bytes.
    ///
    /// # Errors
    /// QEMU has ended, or takes nothing for 10 seconds.
    pub fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        (&self.input).write_all(bytes).map_err(|source| Error::Host {
            doing: "typing on the serial console",
            source,
        })
    }

    /// Types a line and Enter (a carriage return, as a terminal sends it).
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_line(&self, line: &str) -> Result<(), Error> {
        self.send(format!("{line}\r").as_bytes())
    }

    /// Everything the guest wrote, as plain text; of more than 4 MiB the last 2 MiB or more.
    pub fn transcript(&self) -> String {
        self.shared.state().serial.text()
    }

    /// The last lines.
    pub fn tail(&self, lines: usize) -> String {
        self.shared.state().serial.tail(lines)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::process::{read_report, read_serial};
    use crate::report::{Line, Report};

    const SOON: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(20);

    /// A console whose guest is the other end of a socket.
    pub(crate) fn pair() -> (Console, UnixStream) {
        let (ours, guest) = UnixStream::pair().unwrap();
        let shared = Shared::new(None);
        read_serial(shared.clone(), ours.try_clone().unwrap());
        (Console::new(shared, ours), guest)
    }

    #[test]
    fn waits_consume() {
        let (console, mut guest) = pair();
        guest.write_all(b"\x1b[2Jone two\r\nthree").unwrap();
        assert_eq!(console.expect("two", LONG).unwrap(), "one ");
        assert_eq!(
            console.expect_any(&["one", "three"], LONG).unwrap(),
            Match {
                index: 1,
                before: "\n".into()
            }
        );
        let error = console.expect("two", SOON).unwrap_err();
        assert!(matches!(error, Error::Timeout { .. }), "{error}");
        console.send_line("x").unwrap();
        let mut typed = [0; 2];
        std::io::Read::read_exact(&mut guest, &mut typed).unwrap();
        assert_eq!(&typed, b"x\r");
    }

    #[test]
    fn a_pattern_may_come_in_pieces() {
        let (console, mut guest) = pair();
        let writer = std::thread::spawn(move || {
            for byte in b"....log\x1b[0min: " {
                guest.write_all(&[*byte]).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
            guest
        });
        assert_eq!(console.expect("login: ", LONG).unwrap(), "....");
        writer.join().unwrap();
    }

    #[test]
    fn a_pattern_may_come_by_backspaces() {
        let (console, mut guest) = pair();
        let writer = std::thread::spawn(move || {
            guest.write_all(b"login? and a long wrong line").unwrap();
            std::thread::sleep(SOON);
            guest.write_all(&[8; 23]).unwrap();
            guest.write_all(b": ").unwrap();
            guest
        });
        assert_eq!(console.expect("login: ", LONG).unwrap(), "");
        writer.join().unwrap();
    }

    #[test]
    fn a_panic_ends_waits_but_not_for_what_came_before() {
        let (console, mut guest) = pair();
        guest
            .write_all(b"login: \r\nKernel panic - not syncing: VFS\r\nlogin: ")
            .unwrap();
        console.expect_quiet(SOON, LONG).unwrap();
        console.expect("login: ", LONG).unwrap();
        let started = Instant::now();
        let error = console.expect("login: ", LONG).unwrap_err();
        assert!(
            matches!(&error, Error::Forbidden { found, .. } if found.contains("panic")),
            "{error}"
        );
        assert!(started.elapsed() < LONG / 2);
        assert!(error.to_string().contains("not syncing: VFS"), "{error}");
        console.forbid_nothing();
        console.expect("login: ", LONG).unwrap();
    }

    #[test]
    fn the_end_of_the_guest_ends_waits() {
        let (console, guest) = pair();
        drop(guest);
        let error = console.expect("login: ", LONG).unwrap_err();
        assert!(matches!(error, Error::Ended { .. }), "{error}");
    }

    #[test]
    fn reports_come_through_the_port() {
        let (ours, mut guest) = UnixStream::pair().unwrap();
        let shared = Shared::new(None);
        read_report(shared.clone(), ours);
        let report = Report { shared };
        guest
            .write_all(b"begin=1\nmount=a\nmount=b\ndone=1\nbegin=1\n")
            .unwrap();
        let facts = report.collect(LONG).unwrap();
        assert_eq!(facts.all("mount").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(facts.get("absent"), None);
        assert_eq!(report.next(LONG).unwrap(), Line::Begin);
        assert!(matches!(report.next(SOON), Err(Error::Timeout { .. })));
        guest.write_all(b"bad line\n").unwrap();
        let error = report.next(LONG).unwrap_err();
        assert!(
            error.to_string().contains("line 6: neither key=value nor JSON"),
            "{error}"
        );
    }
}
