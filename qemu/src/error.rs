//! What can go wrong, with what was seen of the guest at that moment.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// What was known of a guest when a wait failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The last lines of the serial console (at most 40), escape sequences removed.
    pub serial_tail: String,
    /// The last part of what QEMU wrote on its standard output and error.
    pub qemu_output: String,
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.serial_tail.is_empty() {
            write!(f, "\n--- the serial console is empty")?;
        } else {
            write!(
                f,
                "\n--- end of the serial console\n{}",
                self.serial_tail.trim_end()
            )?;
        }
        if !self.qemu_output.trim().is_empty() {
            write!(f, "\n--- QEMU's own output\n{}", self.qemu_output.trim_end())?;
        }
        Ok(())
    }
}

/// Why a guest could not be started, driven or watched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The emulator is not on this host.
    #[error("{program} is not in PATH; on Debian the package {package} has it")]
    MissingProgram {
        /// The program looked for.
        program: &'static str,
        /// The Debian package that has it.
        package: &'static str,
    },
    /// No UEFI firmware on this host.
    #[error(
        "no UEFI firmware for {architecture} found (looked for {searched}); on Debian the package {package} has it"
    )]
    MissingFirmware {
        /// The guest's architecture.
        architecture: &'static str,
        /// The files looked for.
        searched: String,
        /// The Debian package that has them.
        package: &'static str,
    },
    /// The description of the machine contradicts itself or asks for what QEMU has not.
    #[error("the machine cannot be built: {why}")]
    Machine {
        /// What is wrong and what to do.
        why: String,
    },
    /// The accelerator asked for cannot be used.
    #[error("choosing the accelerator: {why}")]
    Accelerator {
        /// What is wrong and what to do.
        why: String,
    },
    /// A file of the host.
    #[error("{doing} {}: {source}", path.display())]
    File {
        /// What was being done.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A resource of the host other than a file.
    #[error("{doing}: {source}")]
    Host {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// What was waited for did not come in time.
    #[error("{stage}: {awaited} did not come within {limit:?}{context}")]
    Timeout {
        /// The stage set by [`Guest::stage`](crate::Guest::stage).
        stage: String,
        /// What was waited for.
        awaited: String,
        /// The limit of this wait.
        limit: Duration,
        /// What was seen of the guest.
        context: Box<Context>,
    },
    /// QEMU ended before what was waited for came.
    #[error("{stage}: QEMU ended ({status}) before {awaited} came{context}")]
    Ended {
        /// The stage set by [`Guest::stage`](crate::Guest::stage).
        stage: String,
        /// What was waited for.
        awaited: String,
        /// How QEMU ended, in words.
        status: String,
        /// What was seen of the guest.
        context: Box<Context>,
    },
    /// The console shows text that must not come, for example a kernel panic.
    #[error("{stage}: the console shows {found:?} while {awaited} was waited for{context}")]
    Forbidden {
        /// The stage set by [`Guest::stage`](crate::Guest::stage).
        stage: String,
        /// What was waited for.
        awaited: String,
        /// The forbidden text.
        found: String,
        /// What was seen of the guest.
        context: Box<Context>,
    },
    /// The guest refuses a login.
    #[error("{stage}: the guest refuses the login of {user}{context}")]
    Login {
        /// The stage set by [`Guest::stage`](crate::Guest::stage).
        stage: String,
        /// The user that was to be logged in.
        user: String,
        /// What was seen of the guest.
        context: Box<Context>,
    },
    /// A command cannot be typed into a console.
    #[error("the command {command:?} cannot be typed: {why}")]
    Untypable {
        /// The command.
        command: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// A command in the guest ended with another status than 0.
    #[error("in the guest, {command:?} ended with status {status}:\n{output}")]
    Command {
        /// The command.
        command: String,
        /// Its exit status.
        status: i32,
        /// What it wrote.
        output: String,
    },
    /// QEMU's monitor refuses a command.
    #[error("QEMU refuses the monitor command {command}: {description} ({class})")]
    Refused {
        /// The QMP command.
        command: String,
        /// QMP's error class.
        class: String,
        /// QMP's description.
        description: String,
    },
    /// QEMU's monitor says what is not QMP.
    #[error("QEMU's monitor answers {command} with what is not QMP: {why}")]
    Protocol {
        /// The QMP command that was being executed.
        command: String,
        /// What is wrong.
        why: String,
    },
    /// The guest's report breaks its format.
    #[error("{stage}: the guest's report: {source}{context}")]
    Report {
        /// The stage set by [`Guest::stage`](crate::Guest::stage).
        stage: String,
        /// What is wrong in which line.
        source: crate::LineError,
        /// What was seen of the guest.
        context: Box<Context>,
    },
    /// A screenshot cannot be read or written.
    #[error("the screenshot {}: {why}", path.display())]
    Screenshot {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A key or character that the keyboard does not have.
    #[error("the US keyboard has no key for {key}")]
    Key {
        /// The key or character.
        key: String,
    },
}
