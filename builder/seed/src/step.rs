//! Running one step: a shell script in a clean environment, its process group ended with it.

use crate::error::{IoContext, Result, SeedError};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Asks a running build to stop.
#[derive(Clone, Default, Debug)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// A wish not yet expressed.
    pub fn new() -> Cancel {
        Cancel::default()
    }

    /// Expresses the wish. Running steps are ended; nothing unfinished is kept.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Whether to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }

    /// Lets SIGINT, SIGTERM and SIGHUP express the wish. For programs; a second signal ends the program at once.
    pub fn on_signals(&self) -> std::io::Result<()> {
        for signal in [
            signal_hook::consts::SIGINT,
            signal_hook::consts::SIGTERM,
            signal_hook::consts::SIGHUP,
        ] {
            // In this order: the first signal arms, the second finds it armed.
            signal_hook::flag::register_conditional_default(signal, Arc::clone(&self.0))?;
            signal_hook::flag::register(signal, Arc::clone(&self.0))?;
        }
        Ok(())
    }
}

/// Lines of a log that an error shows.
const TAIL_LINES: usize = 30;

/// Between asking a process group to end and ending it.
const PATIENCE: Duration = Duration::from_secs(2);

/// Variables that the clients of cargo and of the network need; nothing else of the caller's environment
/// reaches a step.
pub(crate) const INHERITED: [&str; 17] = [
    "CARGO_HOME",
    "RUSTUP_HOME",
    "RUSTUP_TOOLCHAIN",
    "CARGO_HTTP_CAINFO",
    "CARGO_HTTP_PROXY",
    "http_proxy",
    "https_proxy",
    "all_proxy",
    "no_proxy",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
];

/// One script with everything it sees.
pub(crate) struct Script<'a> {
    pub recipe: &'a str,
    pub step: &'a str,
    pub run: &'a str,
    pub environment: &'a BTreeMap<String, String>,
    pub dir: &'a Path,
    pub log: &'a Path,
    pub cancel: &'a Cancel,
}

impl Script<'_> {
    /// Runs it; both outputs are added to the log.
    pub(crate) fn run(&self) -> Result<()> {
        let mut log = File::options()
            .create(true)
            .append(true)
            .open(self.log)
            .at("opening the log", self.log)?;
        writeln!(log, "== {}", self.step).at("writing the log", self.log)?;
        let output = |file: &File| file.try_clone().map(Stdio::from).at("opening the log", self.log);
        let mut child = Command::new("/bin/sh")
            .arg("-euc")
            .arg(format!("umask 022\n{}", self.run))
            .arg("sh")
            .env_clear()
            .envs(self.environment)
            .current_dir(self.dir)
            .stdin(Stdio::null())
            .stdout(output(&log)?)
            .stderr(output(&log)?)
            .process_group(0)
            .spawn()
            .map_err(|e| SeedError::Program {
                program: "/bin/sh".into(),
                why: e.to_string(),
            })?;
        let group = Pid::from_child(&child);
        let mut asked: Option<Instant> = None;
        let mut pause = Duration::from_millis(1);
        loop {
            // The shell is not reaped yet, so its group's number cannot be anybody else's.
            let exited = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
            match waitid(WaitId::Pid(group), exited) {
                Ok(Some(_)) => break,
                Ok(None) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(std::io::Error::from(error)).at("waiting for a step of", self.dir),
            }
            if self.cancel.is_cancelled() {
                match asked {
                    None => {
                        let _ = kill_process_group(group, Signal::TERM);
                        asked = Some(Instant::now());
                    }
                    Some(since) if since.elapsed() > PATIENCE => {
                        let _ = kill_process_group(group, Signal::KILL);
                    }
                    Some(_) => {}
                }
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(30));
        }
        // What the script left running in the background must not write into a finished result.
        let _ = kill_process_group(group, Signal::KILL);
        let status = child.wait().at("waiting for a step of", self.dir)?;
        if self.cancel.is_cancelled() {
            return Err(SeedError::Cancelled);
        }
        if status.success() {
            return Ok(());
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended in an unknown way".into(),
        };
        Err(SeedError::Step {
            recipe: self.recipe.to_owned(),
            step: self.step.to_owned(),
            how,
            log: self.log.to_owned(),
            tail: tail(self.log),
        })
    }
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 << 10)))?;
        file.read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return format!("(the log cannot be read: {error})");
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// Puts the values of other variables in place of `${NAME}`.
pub(crate) fn expand(value: &str, known: &BTreeMap<String, String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = value;
    while let Some(at) = rest.find("${") {
        out.push_str(&rest[..at]);
        let end = rest[at..]
            .find('}')
            .ok_or_else(|| format!("{value:?} has ${{ without }}"))?
            + at;
        let name = &rest[at + 2..end];
        out.push_str(
            known
                .get(name)
                .ok_or_else(|| format!("{value:?} wants ${{{name}}}, which is not set"))?,
        );
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(dir: &Path, run: &str, cancel: &Cancel) -> Result<()> {
        let environment = [("PATH".to_owned(), "/usr/bin:/bin".to_owned())].into();
        let log = dir.join("log");
        Script {
            recipe: "r",
            step: "s",
            run,
            environment: &environment,
            dir,
            log: &log,
            cancel,
        }
        .run()
    }

    #[test]
    fn a_step_sees_its_environment_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        script(dir.path(), "env; pwd; umask", &Cancel::new()).unwrap();
        let log = std::fs::read_to_string(dir.path().join("log")).unwrap();
        let names: Vec<&str> = log
            .lines()
            .filter_map(|l| l.split_once('='))
            .map(|(n, _)| n)
            .collect();
        assert_eq!(
            names
                .iter()
                .filter(|n| !["PWD", "_", "OLDPWD", "SHLVL", ""].contains(n))
                .collect::<Vec<_>>(),
            [&"PATH"]
        );
        assert!(log.contains("0022"), "{log}");
    }

    #[test]
    fn a_failure_shows_the_end_of_the_log() {
        let dir = tempfile::tempdir().unwrap();
        let run = "for i in $(seq 100); do echo line $i; done; echo oops >&2; false; echo never";
        let error = script(dir.path(), run, &Cancel::new()).unwrap_err().to_string();
        assert!(error.contains("step s: exit status 1"), "{error}");
        assert!(error.contains("line 100\noops"), "{error}");
        assert!(
            !error.contains("line 50\n") && !error.contains("never"),
            "{error}"
        );
    }

    #[test]
    fn an_unset_variable_is_a_failure() {
        let dir = tempfile::tempdir().unwrap();
        assert!(script(dir.path(), "echo $NOT_SET_ANYWHERE", &Cancel::new()).is_err());
    }

    #[test]
    fn what_is_left_in_the_background_is_ended() {
        let dir = tempfile::tempdir().unwrap();
        script(dir.path(), "sleep 300 & echo $! > pid", &Cancel::new()).unwrap();
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        let gone = || match std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())) {
            Ok(stat) => stat.contains(") Z"),
            Err(_) => true,
        };
        let start = Instant::now();
        while !gone() {
            assert!(
                start.elapsed() < Duration::from_secs(5),
                "process {pid} is still there"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn a_cancelled_step_ends_soon_even_when_it_ignores_the_request() {
        let dir = tempfile::tempdir().unwrap();
        let cancel = Cancel::new();
        let start = Instant::now();
        let result = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                cancel.cancel();
            });
            script(dir.path(), "trap '' TERM; sleep 300; sleep 300", &cancel)
        });
        assert!(matches!(result, Err(SeedError::Cancelled)), "{result:?}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn variables_in_values() {
        let known = [("A".to_owned(), "x".to_owned())].into();
        assert_eq!(expand("-${A}/${A}-", &known), Ok("-x/x-".into()));
        assert_eq!(expand("$A {A}", &known), Ok("$A {A}".into()));
        assert!(expand("${B}", &known).is_err());
        assert!(expand("${A", &known).is_err());
    }
}
