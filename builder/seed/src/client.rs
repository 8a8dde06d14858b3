//! Running clients that may take long (apt, cargo), so that a wish to stop reaches them.

use crate::step::Cancel;
use rustix::process::{Pid, Signal, kill_process_group};
use std::io::{self, Read, Seek};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

/// What a client said.
pub(crate) struct Said {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command to its end, or ends it when asked to stop, which is an error of kind `Interrupted`.
pub(crate) fn run(command: &mut Command, cancel: &Cancel) -> io::Result<Said> {
    // Files, not pipes: nobody has to read while it runs.
    let (mut stdout, mut stderr) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .process_group(0)
        .spawn()?;
    let group = Pid::from_child(&child);
    let mut pause = Duration::from_millis(1);
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if cancel.is_cancelled() {
            // Not reaped yet: the group's number is still this one's.
            let _ = kill_process_group(group, Signal::KILL);
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::Interrupted, "stopped on request"));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(30));
    };
    let text = |file: &mut std::fs::File| -> io::Result<String> {
        let mut bytes = Vec::new();
        file.rewind()?;
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Said {
        status,
        stdout: text(&mut stdout)?,
        stderr: text(&mut stderr)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    #[test]
    fn both_outputs_and_the_status_come_back() {
        let said = run(
            Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]),
            &Cancel::new(),
        )
        .unwrap();
        assert_eq!(
            (said.status.code(), &*said.stdout, &*said.stderr),
            (Some(3), "out\n", "err\n")
        );
    }

    #[test]
    fn a_client_is_ended_when_the_run_is_to_stop() {
        let cancel = Cancel::new();
        let start = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                cancel.cancel();
            });
            let error = run(Command::new("sleep").arg("300"), &cancel).err().unwrap();
            assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        });
        assert!(start.elapsed() < Duration::from_secs(20));
    }
}
