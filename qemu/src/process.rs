//! The QEMU process: started so that it cannot outlive us, and what is known of it.

use crate::error::{Context, Error};
use crate::report::{Line, LineError, ReportParser};
use crate::transcript::Transcript;
use std::collections::VecDeque;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of plain text kept of the serial console, and of QEMU's own output.
const SERIAL_LIMIT: usize = 4 << 20;
const OUTPUT_LIMIT: usize = 64 << 10;
/// Lines of the console in an error.
const TAIL_LINES: usize = 40;
/// A killed process is waited for this long, then left to a thread of its own.
const KILL_LIMIT: Duration = Duration::from_secs(5);
const POLL: Duration = Duration::from_millis(10);

/// The instant `limit` from now; a limit beyond the clock's range is a year.
pub(crate) fn deadline(limit: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(limit)
        .unwrap_or_else(|| now + Duration::from_secs(365 * 24 * 3600))
}

/// Starts `command` so that the kernel kills it when this process ends in whatever way. `inherited` descriptors
/// stay open in the child, under their numbers.
///
/// The kernel means the *thread* that forked when it speaks of a parent, so all children come from one thread that
/// lives as long as the process.
pub(crate) fn spawn(mut command: Command, inherited: Vec<OwnedFd>) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();

    let parent = rustix::process::getpid();
    let before_exec = move || {
        rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
        if rustix::process::getppid() != Some(parent) {
            // The parent ended before the line above.
            return Err(io::Error::from(io::ErrorKind::BrokenPipe));
        }
        for descriptor in &inherited {
            rustix::io::fcntl_setfd(descriptor.as_fd(), rustix::io::FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: between fork and exec the closure makes three kinds of plain system calls (prctl, getppid, fcntl);
    // it neither allocates nor takes locks.
    unsafe { command.pre_exec(before_exec) };

    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = mpsc::channel::<Job>();
        thread::spawn(move || {
            for (mut command, answer) in queue {
                let child = command.spawn();
                // With the command our copies of the child's descriptors are closed: only then does the end of
                // the child end its streams.
                drop(command);
                // An asker that is gone does not want the child: dropping the answer would leave it running.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(child) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        Mutex::new(jobs)
    });
    let (answer, child) = mpsc::channel();
    let gone = || io::Error::other("the thread that starts processes has ended");
    spawner
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .send((command, answer))
        .map_err(|_| gone())?;
    child.recv().map_err(|_| gone())?
}

/// Kills a child that leads its process group, and reaps it. Never blocks for long: a process that the kernel does not
/// let go (a hanging KVM) is reaped by a thread.
pub(crate) fn kill(mut child: Child) -> Option<ExitStatus> {
    if let Ok(Some(status)) = child.try_wait() {
        return Some(status);
    }
    if let Some(pid) = i32::try_from(child.id())
        .ok()
        .and_then(rustix::process::Pid::from_raw)
    {
        // Not yet reaped, so the number is still this process's.
        let _ = rustix::process::kill_process_group(pid, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let deadline = deadline(KILL_LIMIT);
    while Instant::now() < deadline {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        thread::sleep(POLL);
    }
    thread::spawn(move || child.wait());
    None
}

/// What the threads that read from QEMU have gathered.
pub(crate) struct State {
    pub(crate) stage: String,
    pub(crate) serial: Transcript,
    pub(crate) serial_open: bool,
    pub(crate) forbidden: Vec<String>,
    /// The first forbidden text that came, and where it begins.
    pub(crate) forbidden_seen: Option<(String, usize)>,
    pub(crate) report: VecDeque<Line>,
    pub(crate) report_error: Option<LineError>,
    pub(crate) report_open: bool,
    pub(crate) commands: u32,
    output: Transcript,
    output_open: bool,
}

enum Process {
    Running(Child),
    Ended(Option<ExitStatus>),
}

/// A guest as seen by all who wait for it.
pub(crate) struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    process: Mutex<Process>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    pub(crate) fn new(child: Option<Child>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                stage: "start".into(),
                serial: Transcript::new(SERIAL_LIMIT),
                serial_open: true,
                forbidden: vec!["Kernel panic - not syncing".into()],
                forbidden_seen: None,
                report: VecDeque::new(),
                report_error: None,
                report_open: true,
                commands: 0,
                output: Transcript::new(OUTPUT_LIMIT),
                output_open: true,
            }),
            changed: Condvar::new(),
            process: Mutex::new(child.map_or(Process::Ended(None), Process::Running)),
        })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Calls `look` at once and after each change until it gives something or `deadline` is past.
    pub(crate) fn wait_until<T>(
        &self,
        deadline: Instant,
        mut look: impl FnMut(&mut State) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state();
        loop {
            if let Some(result) = look(&mut state) {
                return Some(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            state = self
                .changed
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
    }

    pub(crate) fn stage(&self) -> String {
        self.state().stage.clone()
    }

    pub(crate) fn context(&self) -> Context {
        let state = self.state();
        Context {
            serial_tail: state.serial.tail(TAIL_LINES),
            qemu_output: state.output.tail(TAIL_LINES),
        }
    }

    pub(crate) fn timeout(&self, awaited: &str, limit: Duration) -> Error {
        Error::Timeout {
            stage: self.stage(),
            awaited: awaited.to_owned(),
            limit,
            context: Box::new(self.context()),
        }
    }

    pub(crate) fn ended(&self, awaited: &str) -> Error {
        // The streams close a moment before the process can be reaped.
        let status = self.wait_exit(deadline(Duration::from_secs(2)));
        if status.is_some() {
            // And the last words may still be on their way through the readers.
            let drained = deadline(Duration::from_secs(2));
            self.wait_until(drained, |state| {
                (!state.serial_open && !state.output_open).then_some(())
            });
        }
        let status = status.map_or_else(|| "status unknown".to_owned(), |status| status.to_string());
        Error::Ended {
            stage: self.stage(),
            awaited: awaited.to_owned(),
            status,
            context: Box::new(self.context()),
        }
    }

    pub(crate) fn forbidden(&self, awaited: &str, found: String) -> Error {
        // Let the rest of a panic's dump come.
        thread::sleep(Duration::from_millis(300));
        Error::Forbidden {
            stage: self.stage(),
            awaited: awaited.to_owned(),
            found,
            context: Box::new(self.context()),
        }
    }

    /// How QEMU ended, or nothing when it still runs at `deadline`.
    pub(crate) fn wait_exit(&self, deadline: Instant) -> Option<ExitStatus> {
        loop {
            {
                let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
                match &mut *process {
                    Process::Ended(status) => return *status,
                    Process::Running(child) => {
                        if let Ok(Some(status)) = child.try_wait() {
                            *process = Process::Ended(Some(status));
                        }
                    }
                }
                if let Process::Ended(status) = *process {
                    return status;
                }
            }
            if Instant::now() >= deadline {
                return None;
            }
            thread::sleep(POLL);
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.wait_exit(Instant::now()).is_none()
            && matches!(
                &*self.process.lock().unwrap_or_else(PoisonError::into_inner),
                Process::Running(_)
            )
    }

    pub(crate) fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        if let Process::Running(child) = std::mem::replace(&mut *process, Process::Ended(None)) {
            *process = Process::Ended(kill(child));
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_all();
    }
}

/// Reads until the other end closes; a thread of its own.
fn read_all(mut stream: impl Read + Send + 'static, mut take: impl FnMut(Option<&[u8]>) + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => take(Some(&buffer[..length])),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        take(None);
    });
}

/// Gathers the serial console.
pub(crate) fn read_serial(shared: Arc<Shared>, stream: impl Read + Send + 'static) {
    read_all(stream, move |bytes| {
        shared.change(|state| match bytes {
            Some(bytes) => {
                let before = state.serial.settled();
                state.serial.feed(bytes);
                if state.forbidden_seen.is_none() {
                    let patterns: Vec<&str> = state.forbidden.iter().map(String::as_str).collect();
                    let longest = patterns.iter().map(|pattern| pattern.len()).max().unwrap_or(0);
                    let found = state.serial.find(&patterns, before.saturating_sub(longest));
                    state.forbidden_seen = found.map(|found| (patterns[found.index].to_owned(), found.start));
                }
            }
            None => state.serial_open = false,
        });
    });
}

/// Gathers the report port. After a broken line the rest is read and thrown away, so that the guest does not block.
pub(crate) fn read_report(shared: Arc<Shared>, stream: impl Read + Send + 'static) {
    let mut parser = ReportParser::new();
    read_all(stream, move |bytes| {
        let mut lines = Vec::new();
        let result = match bytes {
            Some(bytes) => parser.feed(bytes, |line| lines.push(line)),
            None => parser.finish(),
        };
        shared.change(|state| {
            state.report.extend(lines);
            if state.report_error.is_none() {
                state.report_error = result.err();
            }
            state.report_open = bytes.is_some();
        });
    });
}

/// Gathers what QEMU itself says.
pub(crate) fn read_output(shared: Arc<Shared>, stream: impl Read + Send + 'static) {
    read_all(stream, move |bytes| {
        shared.change(|state| match bytes {
            Some(bytes) => state.output.feed(bytes),
            None => state.output_open = false,
        });
    });
}
