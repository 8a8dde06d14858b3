//! When a boot stops: a shell on every console, or a small prompt where there is no shell.

use crate::device;
use crate::handover::choose_init;
use crate::log::Log;
use crate::rootdir::RootDir;
use crate::superblock::identify;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, WaitOptions};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;

/// What people chose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Try again, or go on after `break=`.
    Continue,
    /// Reboot.
    Reboot,
    /// Power off.
    PowerOff,
}

const EXIT_REBOOT: i32 = 10;
const EXIT_POWER_OFF: i32 = 11;
const EXIT_NO_CONSOLE: i32 = 127;
/// Longest line at the prompt.
const LINE_LIMIT: usize = 256;
/// Most of the kernel log that is fetched.
const DMESG_BYTES: usize = 256 * 1024;

/// A command of the built-in prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// List the commands.
    Help,
    /// Show what is mounted.
    Mounts,
    /// Show the last lines of the kernel log.
    Dmesg(usize),
    /// Show loaded modules.
    Modules,
    /// Show block devices with their labels.
    Devices,
    /// Leave with a choice.
    Leave(Choice),
}

impl Command {
    /// Reads a line; None for an empty one.
    ///
    /// # Errors
    /// Says that there is no such command.
    pub fn parse(line: &str) -> Result<Option<Self>, String> {
        let mut words = line.split_whitespace();
        let command = match words.next() {
            None => return Ok(None),
            Some("help" | "?") => Self::Help,
            Some("mounts" | "mount") => Self::Mounts,
            Some("dmesg") => Self::Dmesg(words.next().and_then(|count| count.parse().ok()).unwrap_or(40)),
            Some("modules" | "lsmod") => Self::Modules,
            Some("devices" | "blkid" | "lsblk") => Self::Devices,
            Some("retry" | "continue" | "exit") => Self::Leave(Choice::Continue),
            Some("reboot") => Self::Leave(Choice::Reboot),
            Some("poweroff" | "halt") => Self::Leave(Choice::PowerOff),
            Some(other) => return Err(format!("{other}: no such command; `help` lists them")),
        };
        Ok(Some(command))
    }
}

const HELP: &str = "\
devices      disks and partitions with their labels
mounts       what is mounted
modules      loaded kernel modules
dmesg [N]    the last N lines of the kernel log (40)
retry        try again, or go on
reboot       restart the machine
poweroff     switch it off";

fn devices() -> String {
    let mut out = String::new();
    for device in device::list(Path::new("/sys")).unwrap_or_default() {
        let node = device.node();
        let _ = write!(out, "{node:<16} {:>8} MiB", device.sectors >> 11);
        match File::open(&node) {
            Ok(file) => {
                for block in identify(&file) {
                    let _ = write!(out, "  {}", block.kind);
                    for (name, value) in [("LABEL", block.label), ("UUID", block.uuid)] {
                        if let Some(value) = value {
                            let _ = write!(out, " {name}={value}");
                        }
                    }
                }
            }
            Err(error) => {
                let _ = write!(out, "  {error}");
            }
        }
        out.push('\n');
    }
    if out.is_empty() {
        "no disks and no drives: the driver may be missing from the initramfs\n".into()
    } else {
        out
    }
}

fn dmesg(lines: usize) -> String {
    let mut buffer = vec![0u8; DMESG_BYTES];
    // SAFETY: action 3 (SYSLOG_ACTION_READ_ALL) writes at most the given number of bytes to the buffer, which
    // has that size.
    let count = unsafe { libc::klogctl(3, buffer.as_mut_ptr().cast(), DMESG_BYTES as libc::c_int) };
    buffer.truncate(usize::try_from(count).unwrap_or(0));
    let text = String::from_utf8_lossy(&buffer);
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..]
        .iter()
        .map(|line| format!("{line}\n"))
        .collect()
}

fn modules() -> String {
    let text = fs::read_to_string("/proc/modules").unwrap_or_default();
    let mut names: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
    names.sort_unstable();
    names.join(" ") + "\n"
}

/// A line from the console; None at its end.
fn read_line(input: &mut impl Read) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    loop {
        match input.read(&mut byte) {
            Ok(0) | Err(_) => return None,
            Ok(_) if byte[0] == b'\n' => return Some(String::from_utf8_lossy(&line).into_owned()),
            Ok(_) if line.len() < LINE_LIMIT => line.push(byte[0]),
            Ok(_) => {}
        }
    }
}

fn prompt() -> i32 {
    let (mut input, mut output) = (std::io::stdin().lock(), std::io::stdout().lock());
    // An answer that cannot be shown ends with the next read.
    let _ = writeln!(output, "There is no shell in this initramfs. Commands:\n{HELP}");
    loop {
        let _ = write!(output, "lycia> ");
        let _ = output.flush();
        let Some(line) = read_line(&mut input) else {
            return EXIT_NO_CONSOLE;
        };
        let answer = match Command::parse(&line) {
            Ok(None) => String::new(),
            Ok(Some(Command::Help)) => format!("{HELP}\n"),
            Ok(Some(Command::Mounts)) => fs::read_to_string("/proc/mounts").unwrap_or_default(),
            Ok(Some(Command::Dmesg(lines))) => dmesg(lines),
            Ok(Some(Command::Modules)) => modules(),
            Ok(Some(Command::Devices)) => devices(),
            Ok(Some(Command::Leave(Choice::Continue))) => return 0,
            Ok(Some(Command::Leave(Choice::Reboot))) => return EXIT_REBOOT,
            Ok(Some(Command::Leave(Choice::PowerOff))) => return EXIT_POWER_OFF,
            Err(error) => format!("{error}\n"),
        };
        let _ = output.write_all(answer.as_bytes());
    }
}

/// The child's side: makes `node` its terminal and runs the shell or the prompt. Never returns.
fn on_console(node: &str, shell: Option<&str>) -> ! {
    let ready = (|| -> std::io::Result<()> {
        rustix::process::setsid()?;
        // Without NONBLOCK this waits for the carrier of a serial line that has none.
        let fd = rustix::fs::open(
            node,
            OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK,
            Mode::empty(),
        )?;
        // /dev/console cannot be a controlling terminal; a shell works there without job control.
        let _ = rustix::process::ioctl_tiocsctty(&fd);
        rustix::fs::fcntl_setfl(&fd, OFlags::RDWR)?;
        rustix::stdio::dup2_stdin(&fd)?;
        rustix::stdio::dup2_stdout(&fd)?;
        rustix::stdio::dup2_stderr(&fd)?;
        Ok(())
    })();
    if ready.is_err() {
        std::process::exit(EXIT_NO_CONSOLE);
    }
    if let Some(shell) = shell {
        println!("Shell of the initramfs. `exit` tries again or goes on, `reboot -f` restarts.");
        let error = std::process::Command::new(shell)
            .arg0("sh")
            .env("PATH", "/usr/bin:/usr/sbin:/bin:/sbin")
            .env("HOME", "/")
            .env("PS1", "(initramfs) ")
            .exec();
        println!("{shell}: {error}");
    }
    std::process::exit(prompt());
}

/// Starts a shell or the prompt on every console and waits until someone leaves one of them. None if no
/// console can be used.
#[must_use]
pub fn wait_for_choice(log: &Log) -> Option<Choice> {
    let shells = ["/usr/bin/sh".to_owned(), "/bin/sh".to_owned()];
    let shell = RootDir::open(Path::new("/"))
        .ok()
        .and_then(|root| choose_init(&root, &shells).ok());
    let mut children: Vec<i32> = Vec::new();
    for node in log.consoles() {
        // SAFETY: this process has one thread, so the child may run any code; it never returns from
        // `on_console`.
        match unsafe { libc::fork() } {
            0 => on_console(&node, shell.as_deref()),
            -1 => log.error(format_args!(
                "starting a shell on {node}: {}",
                std::io::Error::last_os_error()
            )),
            pid => children.push(pid),
        }
    }
    let mut choice = None;
    while choice.is_none() && !children.is_empty() {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let Some(place) = children.iter().position(|child| *child == pid.as_raw_pid()) else {
                    continue;
                };
                children.remove(place);
                choice = match status.exit_status() {
                    Some(EXIT_REBOOT) => Some(Choice::Reboot),
                    Some(EXIT_POWER_OFF) => Some(Choice::PowerOff),
                    Some(EXIT_NO_CONSOLE) | None => None,
                    Some(_) => Some(Choice::Continue),
                };
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    for child in children {
        if let Some(pid) = Pid::from_raw(child) {
            // Each is the leader of its own group. One that is gone already is fine.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
            let _ = rustix::process::waitpid(Some(pid), WaitOptions::empty());
        }
    }
    choice
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands() {
        for (line, expected) in [
            ("", Ok(None)),
            ("  help ", Ok(Some(Command::Help))),
            ("dmesg 5", Ok(Some(Command::Dmesg(5)))),
            ("dmesg x", Ok(Some(Command::Dmesg(40)))),
            ("retry", Ok(Some(Command::Leave(Choice::Continue)))),
            ("poweroff", Ok(Some(Command::Leave(Choice::PowerOff)))),
        ] {
            assert_eq!(Command::parse(line), expected, "{line}");
        }
        assert!(
            Command::parse("rm -rf /")
                .unwrap_err()
                .contains("no such command")
        );
        for line in HELP.lines() {
            assert!(Command::parse(line.split(' ').next().unwrap()).is_ok(), "{line}");
        }
    }

    #[test]
    fn lines_are_bounded() {
        let long = format!("{}\nnext\n", "x".repeat(10_000));
        let mut input = long.as_bytes();
        assert_eq!(read_line(&mut input).unwrap().len(), LINE_LIMIT);
        assert_eq!(read_line(&mut input).as_deref(), Some("next"));
        assert_eq!(read_line(&mut input), None);
    }
}
