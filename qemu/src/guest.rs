//! A running guest.

use crate::console::Console;
use crate::error::Error;
use crate::keyboard::Key;
use crate::machine::{Machine, Wiring, find_program};
use crate::monitor::{Event, Monitor};
use crate::process::{self, Shared, deadline};
use crate::report::Report;
use crate::screen::Screen;
use serde_json::{Value, json};
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// QEMU greets within this time, also on a busy host.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A monitor command is answered within this time.
const COMMAND_LIMIT: Duration = Duration::from_secs(30);
/// Typing on the console blocks for at most this time.
const TYPING_LIMIT: Duration = Duration::from_secs(10);
/// How long a key is held, and the pause after it: slow guests miss faster keys.
const KEY_TIME: Duration = Duration::from_millis(40);
/// Time between two looks at a screen.
const SCREEN_PAUSE: Duration = Duration::from_millis(200);
/// A blinking text cursor changes no more pixels than this (two cells of 16x32).
const CURSOR_PIXELS: usize = 1024;

/// A QEMU process and all that leads to its guest. It is killed when dropped, and by the kernel when this process ends
/// without dropping it.
#[derive(Debug)]
pub struct Guest {
    /// The first field: QEMU is gone before its scratch directory is.
    _kill: KillOnDrop,
    /// The first serial port.
    pub serial: Console,
    /// The port `org.lycia.report`.
    pub report: Report,
    monitor: Monitor,
    shared: Arc<Shared>,
    process_id: u32,
    /// What QEMU shows before the guest has drawn anything: a text of its own.
    placeholder: Screen,
    scratch: tempfile::TempDir,
}

impl Guest {
    pub(crate) fn start(machine: &Machine) -> Result<Self, Error> {
        let program = find_program(machine.architecture)?;
        let host = |doing| move |source| Error::Host { doing, source };
        let scratch = tempfile::Builder::new()
            .prefix("lycia-qemu-")
            .tempdir()
            .map_err(host("making a scratch directory"))?;
        let variables = match machine.firmware_files()? {
            None => None,
            Some(files) => {
                let own = scratch.path().join("uefi-variables.fd");
                let target = machine.uefi_variables.clone().unwrap_or(own);
                if !target.exists() {
                    copy(&files.variables, &target)?;
                }
                Some(target)
            }
        };
        let socket = || UnixStream::pair().map_err(host("making a pair of sockets"));
        let (serial, serial_guest) = socket()?;
        let (monitor, monitor_guest) = socket()?;
        let (report, report_guest) = socket()?;
        let arguments = machine.arguments(&Wiring::Sockets {
            serial: serial_guest.as_raw_fd(),
            monitor: monitor_guest.as_raw_fd(),
            report: report_guest.as_raw_fd(),
            variables: variables.as_deref(),
        })?;
        let (output, output_qemu) = io::pipe().map_err(host("making a pipe"))?;
        let output_twin = output_qemu.try_clone().map_err(host("making a pipe"))?;
        let mut command = Command::new(&program);
        // Without a terminal's signals: an interrupt is for us, and we end the guest.
        command
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output_qemu)
            .stderr(output_twin)
            .process_group(0);
        let inherited: Vec<OwnedFd> = [serial_guest, monitor_guest, report_guest].map(Into::into).into();
        let child = process::spawn(command, inherited).map_err(|source| Error::File {
            doing: "starting",
            path: program,
            source,
        })?;

        let process_id = child.id();
        let shared = Shared::new(Some(child));
        // From here on the guest must be killed on errors.
        let guard = KillOnDrop(shared.clone());
        serial
            .set_write_timeout(Some(TYPING_LIMIT))
            .map_err(host("setting up the serial console"))?;
        let serial_reader = serial
            .try_clone()
            .map_err(host("setting up the serial console"))?;
        process::read_serial(shared.clone(), serial_reader);
        process::read_report(shared.clone(), report);
        process::read_output(shared.clone(), output);
        let mut monitor = Monitor::open(shared.clone(), monitor, START_LIMIT)?;
        // The guest is still stopped.
        let placeholder = screen(&mut monitor, scratch.path())?;
        monitor.execute("cont", Value::Null, COMMAND_LIMIT)?;
        Ok(Self {
            _kill: guard,
            serial: Console::new(shared.clone(), serial),
            report: Report {
                shared: shared.clone(),
            },
            monitor,
            shared,
            process_id,
            placeholder,
            scratch,
        })
    }

    /// Names what is going on now; errors begin with it.
    pub fn stage(&self, stage: &str) {
        stage.clone_into(&mut self.shared.state().stage);
    }

    /// QEMU's process id.
    pub fn process_id(&self) -> u32 {
        self.process_id
    }

    /// Whether QEMU still runs.
    pub fn is_running(&self) -> bool {
        self.shared.is_running()
    }

    /// The screen now.
    ///
    /// # Errors
    /// QEMU has ended or gives no picture.
    pub fn screen(&mut self) -> Result<Screen, Error> {
        screen(&mut self.monitor, self.scratch.path())
    }

    /// Whether the guest has drawn anything: not before its firmware has set up the screen, and not while that has
    /// one colour.
    pub fn is_drawn(&self, screen: &Screen) -> bool {
        !screen.is_blank() && *screen != self.placeholder
    }

    /// Writes the screen as PNG and gives it.
    ///
    /// # Errors
    /// As [`screen`](Self::screen), or the file cannot be written.
    pub fn screenshot(&mut self, path: &Path) -> Result<Screen, Error> {
        let screen = self.screen()?;
        screen.save_png(path)?;
        Ok(screen)
    }

    /// Waits until the screen differs from `before` by more than a blinking cursor, and gives it.
    ///
    /// # Errors
    /// It does not within `limit`.
    pub fn wait_screen_change(&mut self, before: &Screen, limit: Duration) -> Result<Screen, Error> {
        let deadline = deadline(limit);
        loop {
            let screen = self.screen()?;
            if screen.differing_pixels(before) > CURSOR_PIXELS {
                return Ok(screen);
            }
            if Instant::now() >= deadline {
                return Err(self.shared.timeout("a change of the screen", limit));
            }
            thread::sleep(SCREEN_PAUSE);
        }
    }

    /// Waits until the guest has drawn something ([`is_drawn`](Self::is_drawn)) and then nothing changes for `quiet`, a blinking cursor aside.
    ///
    /// # Errors
    /// It does not come to rest within `limit`.
    pub fn wait_screen_stable(&mut self, quiet: Duration, limit: Duration) -> Result<Screen, Error> {
        let deadline = deadline(limit);
        let mut rest = self.screen()?;
        let mut since = Instant::now();
        loop {
            if since.elapsed() >= quiet && self.is_drawn(&rest) {
                return Ok(rest);
            }
            if Instant::now() >= deadline {
                return Err(self.shared.timeout("a screen at rest", limit));
            }
            thread::sleep(SCREEN_PAUSE.min(quiet));
            let screen = self.screen()?;
            // Always against the screen at the beginning of the rest, so that slow changes add up.
            if screen.differing_pixels(&rest) > CURSOR_PIXELS {
                (rest, since) = (screen, Instant::now());
            }
        }
    }

    /// Presses keys one after the other on the guest's keyboard.
    ///
    /// # Errors
    /// A key does not exist, or QEMU has ended.
    pub fn send_keys(&mut self, keys: &[Key]) -> Result<(), Error> {
        // Nothing is typed when one of them cannot be.
        let presses = keys
            .iter()
            .map(|key| key.codes())
            .collect::<Result<Vec<_>, _>>()?;
        presses.iter().try_for_each(|codes| self.press(codes))
    }

    /// Presses keys together, for example Control, Alt and Delete.
    ///
    /// # Errors
    /// As [`send_keys`](Self::send_keys).
    pub fn send_chord(&mut self, keys: &[Key]) -> Result<(), Error> {
        let mut codes = Vec::new();
        for key in keys {
            codes.extend(key.codes()?);
        }
        self.press(&codes)
    }

    /// Types ASCII text on the guest's keyboard; `\n` is Enter.
    ///
    /// # Errors
    /// As [`send_keys`](Self::send_keys).
    pub fn send_text(&mut self, text: &str) -> Result<(), Error> {
        self.send_keys(&text.chars().map(Key::Char).collect::<Vec<_>>())
    }

    fn press(&mut self, codes: &[&str]) -> Result<(), Error> {
        let keys: Vec<Value> = codes
            .iter()
            .map(|code| json!({ "type": "qcode", "data": code }))
            .collect();
        let hold = u64::try_from(KEY_TIME.as_millis()).unwrap_or(u64::MAX);
        self.monitor.execute(
            "send-key",
            json!({ "keys": keys, "hold-time": hold }),
            COMMAND_LIMIT,
        )?;
        thread::sleep(KEY_TIME * 2);
        Ok(())
    }

    /// Presses the power button (ACPI); the guest decides what it does then.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn powerdown(&mut self) -> Result<(), Error> {
        self.monitor
            .execute("system_powerdown", Value::Null, COMMAND_LIMIT)
            .map(drop)
    }

    /// Presses the reset button. With [`Machine::no_reboot`] that ends QEMU.
    ///
    /// # Errors
    /// QEMU has ended.
    pub fn reset(&mut self) -> Result<(), Error> {
        self.monitor
            .execute("system_reset", Value::Null, COMMAND_LIMIT)
            .map(drop)
    }

    /// Pulls the plug: media keep what the guest had written to them.
    ///
    /// # Errors
    /// QEMU does not end within `limit`.
    pub fn quit(&mut self, limit: Duration) -> Result<ExitStatus, Error> {
        match self.monitor.execute("quit", Value::Null, limit) {
            // It may end before it answers.
            Ok(_) | Err(Error::Ended { .. }) => self.wait_exit(limit),
            Err(error) => Err(error),
        }
    }

    /// Waits for an event of QEMU by its QMP name, for example `RESET`; also one that came since the last wait.
    ///
    /// # Errors
    /// It did not come within `limit`, or QEMU ended.
    pub fn wait_event(&mut self, name: &str, limit: Duration) -> Result<Event, Error> {
        self.monitor.wait_event(name, limit)
    }

    /// Executes any QMP command and gives what it returns; `arguments` is null for none.
    ///
    /// # Errors
    /// QEMU refuses it, has ended, or does not answer.
    pub fn monitor(&mut self, command: &str, arguments: Value) -> Result<Value, Error> {
        self.monitor.execute(command, arguments, COMMAND_LIMIT)
    }

    /// Waits until QEMU ends by itself, as it does when the guest powers off. Consoles are whole then.
    ///
    /// # Errors
    /// It still runs after `limit`, or the console showed forbidden text (a kernel panic) meanwhile.
    pub fn wait_exit(&self, limit: Duration) -> Result<ExitStatus, Error> {
        let end = deadline(limit);
        let awaited = "the end of QEMU";
        loop {
            let step = deadline(Duration::from_millis(200)).min(end);
            if let Some(status) = self.shared.wait_exit(step) {
                let drained = deadline(Duration::from_secs(5));
                self.shared.wait_until(drained, |state| {
                    (!state.serial_open && !state.report_open).then_some(())
                });
                return Ok(status);
            }
            let forbidden = self.shared.state().forbidden_seen.clone();
            if let Some((text, _)) = forbidden {
                return Err(self.shared.forbidden(awaited, text));
            }
            if Instant::now() >= end {
                return Err(self.shared.timeout(awaited, limit));
            }
        }
    }
}

#[derive(Debug)]
struct KillOnDrop(Arc<Shared>);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

/// The screen now, through a file in `scratch`.
fn screen(monitor: &mut Monitor, scratch: &Path) -> Result<Screen, Error> {
    let path = scratch.join("screen.ppm");
    let name = path.to_str().ok_or_else(|| Error::Screenshot {
        path: path.clone(),
        why: "the directory for temporary files has a name that is not UTF-8".into(),
    })?;
    monitor.execute("screendump", json!({ "filename": name }), COMMAND_LIMIT)?;
    let read = fs::read(&path).and_then(|ppm| fs::remove_file(&path).map(|()| ppm));
    let ppm = read.map_err(|source| Error::File {
        doing: "reading the screen from",
        path: path.clone(),
        source,
    })?;
    Screen::from_ppm(&ppm).map_err(|why| Error::Screenshot { path, why })
}

/// Copies content only: the template may be read-only.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let error = |doing, path: &Path| {
        let path = path.to_owned();
        move |source| Error::File { doing, path, source }
    };
    let content = fs::read(from).map_err(error("reading the template of UEFI variables", from))?;
    fs::write(to, content).map_err(error("writing UEFI variables to", to))
}
