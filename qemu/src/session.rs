//! A shell on the serial console: log in, run commands, know how they ended.

use crate::console::Console;
use crate::error::Error;
use crate::process::deadline;
use std::time::{Duration, Instant};

/// Busybox's line editor takes 1023 bytes; the rest would be lost without a word.
const LINE_LIMIT: usize = 1000;
/// After this long without an answer a freshly logged-in shell is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// What a command in the guest did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// The command as given.
    pub command: String,
    /// Its exit status.
    pub status: i32,
    /// Standard output and standard error together, lines ended by `\n`. What the kernel prints on the console
    /// meanwhile is in it too.
    pub text: String,
}

impl Output {
    /// The text of a command that ended with status 0.
    ///
    /// # Errors
    /// [`Error::Command`] for any other status.
    pub fn successful(self) -> Result<String, Error> {
        if self.status == 0 {
            return Ok(self.text);
        }
        Err(Error::Command {
            command: self.command,
            status: self.status,
            output: self.text,
        })
    }
}

impl Console {
    /// Waits for a `login:` prompt, logs in and waits until the shell answers. An account without a password is not
    /// asked for one, then `password` is not typed.
    ///
    /// # Errors
    /// [`Error::Login`] when the guest refuses; the errors of [`expect`](Self::expect).
    pub fn login(&self, user: &str, password: &str, limit: Duration) -> Result<(), Error> {
        for typed in [user, password] {
            if typed.chars().any(char::is_control) {
                return Err(Error::Untypable {
                    command: user.to_owned(),
                    why: "a user name or password has a control character",
                });
            }
        }
        let end = deadline(limit);
        // An earlier wait may have consumed the prompt.
        if !self.tail(1).trim_end().ends_with("login:") {
            self.expect_until(&["login:"], end, limit)?;
        }
        self.consume_all();
        self.send_line(user)?;
        let prompts = ["assword:", "incorrect", "# ", "$ ", "% "];
        match self.expect_until(&prompts, end, limit)?.index {
            0 => {
                self.send_line(password)?;
                // Not every shell's prompt looks like one of these, and a message of the day may: it only matters
                // that the shell is probably there.
                match self.expect_until(&prompts[1..], end.min(deadline(ASK_AGAIN)), ASK_AGAIN) {
                    Ok(found) if found.index == 0 => return Err(self.refused(user)),
                    Ok(_) | Err(Error::Timeout { .. }) => {}
                    Err(error) => return Err(error),
                }
            }
            1 => return Err(self.refused(user)),
            _ => {}
        }
        loop {
            let (first, second) = self.marker("ready");
            self.send_line(&format!("printf '%s%s\\n' \"{first}\" \"{second}\""))?;
            let answer = format!("{first}{second}\n");
            match self.expect_until(&[&answer, "incorrect"], end.min(deadline(ASK_AGAIN)), limit) {
                Ok(found) if found.index == 0 => return Ok(()),
                Ok(_) => return Err(self.refused(user)),
                Err(Error::Timeout { .. }) if Instant::now() < end => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Runs one line of POSIX shell in a subshell with empty standard input and waits for its end. Working directory
    /// and variables do not stay for the next command.
    ///
    /// # Errors
    /// The command has a control character or is longer than about 900 bytes; the errors of
    /// [`expect`](Self::expect). A status other than 0 is no error here, see [`Output::successful`].
    pub fn run(&self, command: &str, limit: Duration) -> Result<Output, Error> {
        let untypable = |why| Error::Untypable {
            command: command.to_owned(),
            why,
        };
        if command.chars().any(char::is_control) {
            return Err(untypable(
                "it has a control character; write several lines as several commands",
            ));
        }
        // Two halves: what the terminal echoes is not what printf writes.
        let (begin_first, begin_second) = self.marker("begin");
        let (end_first, end_second) = self.marker("end");
        let line = format!(
            "printf '%s%s\\n' \"{begin_first}\" \"{begin_second}\"; ( eval {} ) </dev/null; \
             printf '\\n%s%s:%d:\\n' \"{end_first}\" \"{end_second}\" \"$?\"",
            crate::machine::shell_quote(command.as_ref())
        );
        if line.len() > LINE_LIMIT {
            return Err(untypable("it is too long for a shell's line editor; split it"));
        }
        let end = deadline(limit);
        self.send_line(&line)?;
        self.expect_until(&[&format!("{begin_first}{begin_second}\n")], end, limit)?;
        let text = self
            .expect_until(&[&format!("\n{end_first}{end_second}:")], end, limit)?
            .before;
        let status = self.expect_until(&[":\n"], end, limit)?.before;
        let status = status
            .parse()
            .map_err(|_| untypable("the guest's printf did not write its exit status"))?;
        Ok(Output {
            command: command.to_owned(),
            status,
            text,
        })
    }

    fn refused(&self, user: &str) -> Error {
        Error::Login {
            stage: self.shared.stage(),
            user: user.to_owned(),
            context: Box::new(self.shared.context()),
        }
    }

    fn consume_all(&self) {
        let mut state = self.shared.state();
        let end = state.serial.end();
        state.serial.consume(end);
    }

    fn marker(&self, kind: &str) -> (String, String) {
        let mut state = self.shared.state();
        state.commands += 1;
        (format!("lycia-{}", state.commands), format!("-{kind}-marker"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::tests::pair;
    use std::io::{BufRead, BufReader, Write};
    use std::os::unix::net::UnixStream;
    use std::process::Command;

    const LONG: Duration = Duration::from_secs(20);

    /// Plays a terminal with echo: takes a line up to a carriage return.
    fn read_line(guest: &mut BufReader<UnixStream>, echo: bool) -> String {
        let mut line = Vec::new();
        guest.read_until(b'\r', &mut line).unwrap();
        line.pop();
        if echo {
            guest.get_mut().write_all(&line).unwrap();
        }
        guest.get_mut().write_all(b"\r\n").unwrap();
        String::from_utf8(line).unwrap()
    }

    /// Runs lines under the host's sh as a guest's shell would.
    fn serve(guest: &mut BufReader<UnixStream>, lines: usize) {
        for _ in 0..lines {
            guest.get_mut().write_all(b"host:~# ").unwrap();
            let line = read_line(guest, true);
            let output = Command::new("sh").arg("-c").arg(&line).output().unwrap();
            let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            guest
                .get_mut()
                .write_all(text.replace('\n', "\r\n").as_bytes())
                .unwrap();
        }
    }

    #[test]
    fn login_and_commands() {
        let (console, guest) = pair();
        let guest = std::thread::spawn(move || {
            let mut guest = BufReader::new(guest);
            guest.get_mut().write_all(b"Lycia\r\n\r\nlycia login: ").unwrap();
            assert_eq!(read_line(&mut guest, true), "root");
            guest.get_mut().write_all(b"Password: ").unwrap();
            assert_eq!(read_line(&mut guest, false), "secret word");
            guest
                .get_mut()
                .write_all(b"Last login: today\r\nWelcome.\r\n")
                .unwrap();
            serve(&mut guest, 7);
        });
        console.login("root", "secret word", LONG).unwrap();
        let run = |command: &str| console.run(command, LONG).unwrap();
        assert_eq!(run("echo one; echo 'two  three'").text, "one\ntwo  three\n");
        assert_eq!(run("printf no-newline").text, "no-newline");
        assert_eq!(run("cat").text, "");
        assert_eq!(run("exit 37").status, 37);
        assert_eq!(run("false # comment").status, 1);
        let error = run("ls /nonexistent-name").successful().unwrap_err().to_string();
        assert!(
            error.contains("nonexistent-name") && error.contains("status"),
            "{error}"
        );
        guest.join().unwrap();
        assert!(console.run("a\nb", LONG).is_err());
        assert!(console.run(&"x".repeat(2000), LONG).is_err());
    }

    #[test]
    fn a_refused_login_is_an_error_at_once() {
        let (console, guest) = pair();
        let guest = std::thread::spawn(move || {
            let mut guest = BufReader::new(guest);
            guest.get_mut().write_all(b"lycia login: ").unwrap();
            read_line(&mut guest, true);
            guest.get_mut().write_all(b"Password: ").unwrap();
            read_line(&mut guest, false);
            guest
                .get_mut()
                .write_all(b"Login incorrect\r\nlycia login: ")
                .unwrap();
            guest
        });
        let error = console.login("root", "wrong", LONG).unwrap_err();
        assert!(matches!(error, Error::Login { .. }), "{error}");
        guest.join().unwrap();
    }

    #[test]
    fn a_prompt_that_was_waited_for_is_still_a_prompt() {
        let (console, guest) = pair();
        let guest = std::thread::spawn(move || {
            let mut guest = BufReader::new(guest);
            guest.get_mut().write_all(b"lycia login: ").unwrap();
            assert_eq!(read_line(&mut guest, true), "anon");
            serve(&mut guest, 1);
        });
        console.expect("login: ", LONG).unwrap();
        console.login("anon", "", LONG).unwrap();
        guest.join().unwrap();
    }
}
