//! One pool of job tokens for all recipes: GNU make's jobserver protocol.
//!
//! The pool is a pipe that holds one byte per free core ("POSIX Jobserver Interaction" in the GNU make manual).
//! A running recipe holds the token that it was started with; make and cargo take further ones when
//! others leave them. So the cores are full while there is work, and never oversubscribed.

use rustix::io::FdFlags;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

/// Descriptors below this are used by shell scripts (`configure` takes 5, 6 and 7).
const FIRST_DESCRIPTOR: i32 = 100;

/// The pool.
pub(crate) struct JobServer {
    jobs: usize,
    /// Inherited by steps.
    read: OwnedFd,
    /// Inherited by steps.
    write: OwnedFd,
    /// The same pipe opened again, because "do not wait" belongs to the opened pipe and make wants it to wait.
    own: File,
}

impl JobServer {
    /// A pool of `jobs` tokens.
    pub(crate) fn new(jobs: usize) -> io::Result<JobServer> {
        let (read, write) = io::pipe()?;
        let read = rustix::io::fcntl_dupfd_cloexec(&read, FIRST_DESCRIPTOR)?;
        let write = rustix::io::fcntl_dupfd_cloexec(&write, FIRST_DESCRIPTOR)?;
        let own = File::options()
            .read(true)
            .custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32)
            .open(format!("/proc/self/fd/{}", read.as_raw_fd()))?;
        rustix::io::fcntl_setfd(&read, FdFlags::empty())?;
        rustix::io::fcntl_setfd(&write, FdFlags::empty())?;
        let mut server = JobServer {
            jobs: jobs.max(1),
            read,
            write,
            own,
        };
        server.reset()?;
        Ok(server)
    }

    /// Fills the pool again. Only while nothing runs: killed programs take their tokens along.
    pub(crate) fn reset(&mut self) -> io::Result<()> {
        while self.take()? {}
        for _ in 0..self.jobs {
            self.give()?;
        }
        Ok(())
    }

    /// Takes a token if there is one.
    pub(crate) fn take(&mut self) -> io::Result<bool> {
        match self.own.read(&mut [0]) {
            Ok(n) => Ok(n == 1),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a token back.
    pub(crate) fn give(&self) -> io::Result<()> {
        rustix::io::write(&self.write, b"+").map(drop).map_err(Into::into)
    }

    /// `MAKEFLAGS` of a step.
    pub(crate) fn makeflags(&self) -> String {
        // The blank: make takes a first word without it for single-letter options.
        format!(
            " -j{} --jobserver-auth={},{}",
            self.jobs,
            self.read.as_raw_fd(),
            self.write.as_raw_fd()
        )
    }

    /// Tokens in all.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn tokens_are_counted() {
        let mut server = JobServer::new(2).unwrap();
        assert!(server.take().unwrap());
        assert!(server.take().unwrap());
        assert!(!server.take().unwrap());
        server.give().unwrap();
        assert!(server.take().unwrap());
        server.reset().unwrap();
        assert!(server.take().unwrap() && server.take().unwrap() && !server.take().unwrap());
    }

    /// GNU make itself: with no token free its rules run one by one, with one free two at a time.
    #[test]
    fn make_takes_its_tokens_from_the_pool() {
        let dir = tempfile::tempdir().unwrap();
        let rules = "all: a b\na b:\n\t@echo start; sleep 0.3; echo end\n";
        std::fs::write(dir.path().join("Makefile"), rules).unwrap();
        let run = |server: &JobServer| {
            let output = Command::new("make")
                .current_dir(dir.path())
                .env("MAKEFLAGS", server.makeflags())
                .output()
                .expect("GNU make is missing: install the Debian package make");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "");
            String::from_utf8(output.stdout).unwrap()
        };
        let mut server = JobServer::new(2).unwrap();
        assert!(server.take().unwrap());
        assert_eq!(run(&server), "start\nstart\nend\nend\n");
        assert!(server.take().unwrap());
        assert_eq!(run(&server), "start\nend\nstart\nend\n");
    }
}
