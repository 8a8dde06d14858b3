//! Messages: to the kernel log always, and straight to the consoles when they must be seen.

use crate::cmdline::{Word, consoles};
use rustix::fs::{Mode, OFlags};
use std::cell::{Cell, RefCell};
use std::fmt::Display;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::time::Instant;

const DEVKMSG: &str = "/proc/sys/kernel/printk_devkmsg";
/// Longest line for /dev/kmsg; the kernel cuts or refuses more.
const LINE_LIMIT: usize = 900;

/// Where messages go.
#[derive(Debug)]
pub struct Log {
    kmsg: RefCell<Option<File>>,
    start: Instant,
    quiet: Cell<bool>,
    debug: Cell<bool>,
    consoles: RefCell<Vec<String>>,
    devkmsg_before: RefCell<Option<String>>,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            kmsg: RefCell::new(None),
            start: Instant::now(),
            quiet: Cell::new(false),
            debug: Cell::new(false),
            consoles: RefCell::new(Vec::new()),
            devkmsg_before: RefCell::new(None),
        }
    }
}

impl Log {
    /// Opens the kernel log; to be called once /dev and /proc are mounted. The kernel limits how much a
    /// program may write there; the limit is lifted until [`Self::restore`].
    pub fn open(&self) {
        if let Ok(before) = fs::read_to_string(DEVKMSG)
            && fs::write(DEVKMSG, "on\n").is_ok()
        {
            *self.devkmsg_before.borrow_mut() = Some(before);
        }
        *self.kmsg.borrow_mut() = OpenOptions::new().write(true).open("/dev/kmsg").ok();
    }

    /// Puts the kernel's limit back.
    pub fn restore(&self) {
        if let Some(before) = self.devkmsg_before.borrow_mut().take() {
            // Not a reason to stop: the limit only protects against floods.
            let _ = fs::write(DEVKMSG, before);
        }
    }

    /// Takes over how much is wanted.
    pub fn set_level(&self, quiet: bool, debug: bool) {
        self.quiet.set(quiet && !debug);
        self.debug.set(debug);
        if debug {
            // SAFETY: action 8 (SYSLOG_ACTION_CONSOLE_LEVEL) takes no buffer; the kernel only reads the level.
            unsafe { libc::klogctl(8, std::ptr::null_mut(), 8) };
        }
    }

    /// Finds out which consoles there are: those the kernel uses and those of the command line.
    pub fn find_consoles(&self, words: &[Word]) {
        let active = fs::read_to_string("/sys/class/tty/console/active").unwrap_or_default();
        let names = active
            .split_whitespace()
            .map(str::to_owned)
            .chain(consoles(words));
        let mut found: Vec<String> = Vec::new();
        for name in names {
            // tty0 is whichever terminal is in front, which is the first one at this time.
            let node = format!("/dev/{}", if name == "tty0" { "tty1" } else { &name });
            let usable = rustix::fs::open(
                &node,
                OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK,
                Mode::empty(),
            );
            if usable.is_ok() && !found.contains(&node) {
                found.push(node);
            }
        }
        if found.is_empty() {
            found.push("/dev/console".into());
        }
        *self.consoles.borrow_mut() = found;
    }

    /// The device nodes of the consoles.
    #[must_use]
    pub fn consoles(&self) -> Vec<String> {
        self.consoles.borrow().clone()
    }

    fn kernel(&self, level: u8, text: &dyn Display) {
        let elapsed = self.start.elapsed().as_millis();
        let text = text.to_string();
        if let Some(kmsg) = self.kmsg.borrow_mut().as_mut() {
            for line in text.lines() {
                let mut end = line.len().min(LINE_LIMIT);
                while !line.is_char_boundary(end) {
                    end -= 1;
                }
                // One write is one message. A full or missing log must not stop a boot.
                let _ = kmsg
                    .write_all(format!("<{level}>lycia-init: [{elapsed} ms] {}\n", &line[..end]).as_bytes());
            }
        }
    }

    /// Something that happened.
    pub fn info(&self, text: impl Display) {
        self.kernel(6, &text);
    }

    /// Something that is of interest when looking for a fault.
    pub fn debug(&self, text: impl Display) {
        if self.debug.get() {
            self.kernel(7, &text);
        }
    }

    /// Something that people should see.
    pub fn warn(&self, text: impl Display) {
        self.kernel(4, &text);
        // With `quiet` the kernel keeps warnings off the console.
        if self.quiet.get() {
            self.say(format_args!("lycia-init: {text}"));
        }
    }

    /// Something that went wrong for good; also on every console.
    pub fn error(&self, text: impl Display) {
        self.kernel(3, &text);
    }

    /// Writes to every console, whatever the log level is.
    pub fn say(&self, text: impl Display) {
        let text = format!("{text}\n");
        for node in self.consoles.borrow().iter() {
            // A console that cannot be written has nobody in front of it.
            if let Ok(fd) = rustix::fs::open(
                node,
                OFlags::WRONLY | OFlags::NOCTTY | OFlags::CLOEXEC,
                Mode::empty(),
            ) {
                let _ = File::from(fd).write_all(text.as_bytes());
            }
        }
    }

    /// Milliseconds since the program started.
    #[must_use]
    pub fn elapsed_ms(&self) -> u128 {
        self.start.elapsed().as_millis()
    }
}
