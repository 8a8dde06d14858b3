//! Running a service's command.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};

use rustix::pipe::{PipeFlags, pipe_with};

use super::accounts::Accounts;
use crate::machine;
use lycia_dinit::description::{Bound, Description, Kind, Log, Readiness, Resource};
use lycia_dinit::environment::Environment;
use lycia_dinit::text::quote_words;

/// What the supervisor lends to the processes it starts.
pub struct Surroundings<'a> {
    /// The supervisor's environment.
    pub environment: &'a Environment,
    /// The console device, or nothing: then the supervisor's own descriptors 0, 1 and 2.
    pub console: Option<&'a str>,
}

/// A process that was started.
#[derive(Debug)]
pub struct Spawned {
    /// Process ID, and ID of its process group.
    pub pid: i32,
    /// Where its readiness message will come.
    pub ready: Option<OwnedFd>,
    /// Where its output will come (`log-type = buffer`).
    pub output: Option<OwnedFd>,
}

/// Starts `command` or `stop-command` of a service. The error says what failed.
pub fn spawn(
    around: &Surroundings<'_>,
    description: &Description,
    which: machine::Command,
) -> Result<Spawned, String> {
    let words = match which {
        machine::Command::Start => &description.command,
        machine::Command::Stop => &description.stop_command,
    };
    let Some((program, arguments)) = words.split_first() else {
        return Err("the command is empty after substitution".into());
    };
    let accounts = Accounts::read();
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&description.working_dir);

    let mut environment = around.environment.clone();
    let user = match &description.run_as {
        None => None,
        Some(name) => match accounts.user(name) {
            Some(user) => Some(user),
            // A bare number without an entry is still a user.
            None => match name.parse() {
                Ok(uid) => {
                    let (home, shell) = ("/".into(), "/bin/sh".into());
                    Some(super::accounts::User {
                        name: name.clone(),
                        uid,
                        gid: own_gid(),
                        home,
                        shell,
                    })
                }
                Err(_) => return Err(format!("run-as: there is no user `{name}`")),
            },
        },
    };
    if description.export_passwd_vars {
        let user = user.clone().or_else(|| accounts.user(&own_uid().to_string()));
        if let Some(user) = user {
            environment.extend(BTreeMap::from([
                ("USER".into(), user.name.clone()),
                ("LOGNAME".into(), user.name),
                ("HOME".into(), user.home),
                ("SHELL".into(), user.shell),
                ("UID".into(), user.uid.to_string()),
                ("GID".into(), user.gid.to_string()),
            ]));
        }
    }
    if description.export_service_name {
        environment.insert("DINIT_SERVICE".into(), description.name.clone());
    }
    environment.extend(description.environment.clone());

    let options = description.options;
    let on_console = options.starts_on_console || options.runs_on_console || options.shares_console;
    let output = streams(around, description, &accounts, on_console, &mut command)?;

    // Readiness goes through a pipe whose writing end gets the number the service expects.
    let mut ready = None;
    let mut ready_writer: Option<(OwnedFd, RawFd)> = None;
    if which == machine::Command::Start
        && description.kind == Kind::Process
        && let Some(readiness) = &description.ready
    {
        let (reader, writer) =
            pipe_with(PipeFlags::CLOEXEC).map_err(|error| format!("making a pipe: {error}"))?;
        let number = match readiness {
            Readiness::Descriptor(number) => *number,
            Readiness::Variable(name) => {
                environment.insert(name.clone(), writer.as_raw_fd().to_string());
                writer.as_raw_fd()
            }
        };
        ready = Some(reader);
        ready_writer = Some((writer, number));
    }
    // The number must be taken while the process is made: the standard library's own pipe, through which
    // it reports that exec failed, must not get it.
    let mut _placeholder = None;
    let ready_numbers = match &ready_writer {
        Some((writer, number)) => {
            _placeholder = rustix::io::fcntl_dupfd_cloexec(writer, *number).ok();
            Some((writer.as_raw_fd(), *number))
        }
        None => None,
    };

    command.env_clear().envs(environment);
    let before_exec = BeforeExec {
        new_session: !on_console || around.console.is_some(),
        controlling_terminal: (on_console && around.console.is_some()).then_some(!options.shares_console),
        block_interrupt: on_console && !options.unmask_intr,
        ready: ready_numbers,
        limits: description
            .limits
            .iter()
            .map(|limit| (limit.resource, limit.soft, limit.hard))
            .collect(),
        nice: description.nice,
        io_priority: description.io_priority,
        oom_score_adj: description
            .oom_score_adj
            .map(|adjustment| CString::new(adjustment.to_string()).unwrap_or_default()),
        no_new_privs: options.no_new_privs,
        identity: user.map(|user| {
            // dinit: by number, all supplementary groups are dropped; by name, the user's are set.
            let by_number = description
                .run_as
                .as_ref()
                .is_some_and(|name| name.parse::<u32>().is_ok());
            let groups = if by_number {
                Vec::new()
            } else {
                accounts.groups_of(&user)
            };
            let gid = if by_number { own_gid() } else { user.gid };
            (user.uid, gid, groups)
        }),
    };
    // SAFETY: the closure runs between fork and exec. It calls only functions that are async-signal-safe
    // and touches only memory that was allocated before the fork.
    unsafe {
        command.pre_exec(move || before_exec.apply());
    }
    let child = command.spawn().map_err(|error| {
        let way = quote_words(words);
        format!(
            "running `{way}` in {}: {error}",
            description.working_dir.display()
        )
    })?;
    // Not waited for here: the supervisor reaps every child by its process ID.
    Ok(Spawned {
        pid: child.id() as i32,
        ready,
        output,
    })
}

/// Sets standard input, output and error; gives the reading end of a log buffer's pipe.
fn streams(
    around: &Surroundings<'_>,
    description: &Description,
    accounts: &Accounts,
    on_console: bool,
    command: &mut Command,
) -> Result<Option<OwnedFd>, String> {
    if on_console {
        if let Some(console) = around.console {
            let open = |write| {
                let mut options = OpenOptions::new();
                options
                    .read(true)
                    .write(write)
                    .custom_flags(libc::O_NOCTTY)
                    .open(console)
            };
            let file = open(true).map_err(|error| format!("opening {console}: {error}"))?;
            let copy = || {
                file.try_clone()
                    .map_err(|error| format!("copying a descriptor: {error}"))
            };
            command.stdin(copy()?).stdout(copy()?).stderr(copy()?);
        }
        return Ok(None);
    }
    command.stdin(Stdio::null());
    match description.log {
        Log::None => {
            command.stdout(Stdio::null()).stderr(Stdio::null());
            Ok(None)
        }
        Log::Buffer => {
            let (reader, writer) =
                pipe_with(PipeFlags::CLOEXEC).map_err(|error| format!("making a pipe: {error}"))?;
            let second = writer
                .try_clone()
                .map_err(|error| format!("copying a descriptor: {error}"))?;
            command.stdout(writer).stderr(second);
            Ok(Some(reader))
        }
        Log::File => {
            let path = description
                .logfile
                .as_deref()
                .unwrap_or(std::path::Path::new("/dev/null"));
            let failed =
                |what: &str, error: io::Error| format!("{what} log file {}: {error}", path.display());
            let file = open_log(path, description.logfile_mode).map_err(|error| failed("opening", error))?;
            let number = |what: &str, name: &Option<String>, found: &dyn Fn(&str) -> Option<u32>| match name {
                None => Ok(None),
                Some(name) => match found(name) {
                    Some(number) => Ok(Some(number)),
                    None => Err(format!("{what}: there is no `{name}`")),
                },
            };
            let uid = number("logfile-uid", &description.logfile_uid, &|name| {
                accounts
                    .user(name)
                    .map(|user| user.uid)
                    .or_else(|| name.parse().ok())
            })?;
            let gid = number("logfile-gid", &description.logfile_gid, &|name| {
                accounts.group(name)
            })?;
            std::os::unix::fs::fchown(&file, uid, gid)
                .map_err(|error| failed("changing the owner of", error))?;
            let copy = file.try_clone().map_err(|error| failed("opening", error))?;
            command.stdout(file).stderr(copy);
            Ok(None)
        }
    }
}

fn open_log(path: &std::path::Path, mode: u32) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options
        .append(true)
        .create(true)
        .mode(mode)
        .custom_flags(libc::O_NOCTTY);
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
    }
    Ok(file)
}

fn own_uid() -> u32 {
    rustix::process::getuid().as_raw()
}

fn own_gid() -> u32 {
    rustix::process::getgid().as_raw()
}

/// What the child does to itself before exec.
struct BeforeExec {
    new_session: bool,
    /// Take the console as controlling terminal; `true` also from another session.
    controlling_terminal: Option<bool>,
    block_interrupt: bool,
    ready: Option<(RawFd, RawFd)>,
    limits: Vec<(Resource, Bound, Bound)>,
    nice: Option<i32>,
    io_priority: Option<u16>,
    oom_score_adj: Option<CString>,
    no_new_privs: bool,
    identity: Option<(u32, u32, Vec<u32>)>,
}

fn checked(result: libc::c_int) -> io::Result<()> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

impl BeforeExec {
    /// Async-signal-safe calls only: no allocation, no locks.
    fn apply(&self) -> io::Result<()> {
        // SAFETY: each call gets plain numbers or pointers to values that live in `self` or on this stack.
        unsafe {
            if self.new_session {
                checked(libc::setsid())?;
                if let Some(steal) = self.controlling_terminal {
                    // Fails on consoles that are no terminals, or somebody else's; the service then simply
                    // has none.
                    libc::ioctl(0, libc::TIOCSCTTY as _, libc::c_int::from(steal));
                }
            } else {
                checked(libc::setpgid(0, 0))?;
            }
            for signal in 1..32 {
                if signal != libc::SIGKILL && signal != libc::SIGSTOP {
                    libc::signal(signal, libc::SIG_DFL);
                }
            }
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut mask);
            if self.block_interrupt {
                libc::sigaddset(&mut mask, libc::SIGINT);
            }
            checked(libc::sigprocmask(libc::SIG_SETMASK, &mask, std::ptr::null_mut()))?;
            if let Some((from, to)) = self.ready {
                if from == to {
                    checked(libc::fcntl(to, libc::F_SETFD, 0))?;
                } else {
                    checked(libc::dup2(from, to))?;
                }
            }
            for &(resource, soft, hard) in &self.limits {
                let resource = match resource {
                    Resource::OpenFiles => libc::RLIMIT_NOFILE,
                    Resource::Core => libc::RLIMIT_CORE,
                    Resource::Data => libc::RLIMIT_DATA,
                    Resource::AddressSpace => libc::RLIMIT_AS,
                };
                let mut limit: libc::rlimit = std::mem::zeroed();
                checked(libc::getrlimit(resource, &mut limit))?;
                limit.rlim_cur = bound(soft, limit.rlim_cur);
                limit.rlim_max = bound(hard, limit.rlim_max);
                checked(libc::setrlimit(resource, &limit))?;
            }
            if let Some(nice) = self.nice {
                checked(libc::setpriority(libc::PRIO_PROCESS, 0, nice.clamp(-20, 19)))?;
            }
            if let Some(priority) = self.io_priority {
                const IOPRIO_WHO_PROCESS: libc::c_int = 1;
                let result = libc::syscall(
                    libc::SYS_ioprio_set,
                    IOPRIO_WHO_PROCESS,
                    0,
                    libc::c_int::from(priority),
                );
                checked(result as libc::c_int)?;
            }
            if let Some(text) = &self.oom_score_adj {
                let file = libc::open(
                    c"/proc/self/oom_score_adj".as_ptr(),
                    libc::O_WRONLY | libc::O_CLOEXEC,
                );
                checked(file)?;
                let written = libc::write(file, text.as_ptr().cast(), text.as_bytes().len());
                checked(written as libc::c_int)?;
                libc::close(file);
            }
            if let Some((uid, gid, groups)) = &self.identity {
                checked(libc::setgroups(groups.len() as _, groups.as_ptr()))?;
                checked(libc::setgid(*gid))?;
                checked(libc::setuid(*uid))?;
            }
            if self.no_new_privs {
                checked(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
            }
        }
        Ok(())
    }
}

fn bound(bound: Bound, inherited: libc::rlim_t) -> libc::rlim_t {
    match bound {
        Bound::Unchanged => inherited,
        Bound::Unlimited => libc::RLIM_INFINITY,
        Bound::At(number) => number as libc::rlim_t,
    }
}

/// Reads a pid-file: one number, and a live process that may be supervised.
pub fn read_pid_file(path: &std::path::Path) -> Result<i32, String> {
    use std::io::Read as _;
    let shown = path.display();
    let file = File::open(path).map_err(|error| format!("opening pid-file {shown}: {error}"))?;
    let mut text = String::new();
    file.take(64)
        .read_to_string(&mut text)
        .map_err(|error| format!("reading pid-file {shown}: {error}"))?;
    let pid: i32 = text
        .trim()
        .parse()
        .map_err(|_| format!("pid-file {shown} does not hold a number"))?;
    if pid <= 1 || pid == std::process::id() as i32 {
        return Err(format!(
            "pid-file {shown} names process {pid}, which cannot be a service"
        ));
    }
    if !is_alive(pid) {
        return Err(format!(
            "pid-file {shown} names process {pid}, which does not exist"
        ));
    }
    Ok(pid)
}

/// Whether a process exists.
pub fn is_alive(pid: i32) -> bool {
    // SAFETY: signal 0 sends nothing.
    let result = unsafe { libc::kill(pid, 0) };
    result == 0 || io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

/// Sends a signal to a process, or to the group that it leads or belongs to.
pub fn send_signal(pid: i32, signal: i32, group: bool) -> io::Result<()> {
    // SAFETY: plain numbers; the caller gives a pid of one of our services, above 1.
    unsafe {
        if group {
            let its_group = libc::getpgid(pid);
            // Never our own group: a daemon that made none is signalled alone.
            if its_group > 1 && its_group != libc::getpgrp() {
                return checked(libc::kill(-its_group, signal));
            }
        }
        checked(libc::kill(pid, signal))
    }
}

/// A child that has ended.
pub fn reap() -> Option<(i32, machine::Exit)> {
    let mut status = 0;
    // SAFETY: `status` outlives the call.
    let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
    if pid <= 0 {
        return None;
    }
    let exit = if libc::WIFSIGNALED(status) {
        machine::Exit::Signal(libc::WTERMSIG(status))
    } else {
        machine::Exit::Code(libc::WEXITSTATUS(status))
    };
    Some((pid, exit))
}

/// Makes this process the parent of orphaned descendants, as PID 1 is by nature.
pub fn adopt_orphans() -> io::Result<()> {
    // SAFETY: plain numbers.
    unsafe { checked(libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) }
}

/// Signals as readable events.
#[derive(Debug)]
pub struct SignalQueue {
    descriptor: OwnedFd,
}

impl SignalQueue {
    /// Blocks the supervisor's signals and opens a descriptor that they are read from.
    pub fn open() -> io::Result<SignalQueue> {
        let wanted = [
            libc::SIGCHLD,
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGQUIT,
            libc::SIGUSR1,
            libc::SIGPWR,
        ];
        // SAFETY: the set lives on this stack; the descriptor is fresh and ours.
        unsafe {
            for signal in [
                libc::SIGHUP,
                libc::SIGPIPE,
                libc::SIGTTIN,
                libc::SIGTTOU,
                libc::SIGUSR2,
            ] {
                libc::signal(signal, libc::SIG_IGN);
            }
            let mut mask: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut mask);
            for signal in wanted {
                libc::sigaddset(&mut mask, signal);
            }
            checked(libc::sigprocmask(libc::SIG_BLOCK, &mask, std::ptr::null_mut()))?;
            let number = libc::signalfd(-1, &mask, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
            checked(number)?;
            Ok(SignalQueue {
                descriptor: OwnedFd::from_raw_fd(number),
            })
        }
    }

    /// The descriptor to poll.
    pub fn descriptor(&self) -> &OwnedFd {
        &self.descriptor
    }

    /// The next signal that came.
    pub fn next(&self) -> Option<i32> {
        let mut record = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.descriptor, &mut record) {
            // The signal number is the record's first field.
            Ok(length) if length == record.len() => {
                Some(i32::from_ne_bytes([record[0], record[1], record[2], record[3]]))
            }
            _ => None,
        }
    }
}
