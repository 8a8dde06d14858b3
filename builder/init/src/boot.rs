//! The sequence of a boot, from the first mount to the hand-over.

use crate::Failure;
use crate::assemble::perform;
use crate::cmdline::{Support, Word, parameter, split};
use crate::config::Config;
use crate::emergency::{Choice, wait_for_choice};
use crate::find::{Finder, carried, mount, split_options};
use crate::grow;
use crate::handover::hand_over;
use crate::kmod::Loader;
use crate::log::Log;
use crate::plan::{NEW_ROOT, live_actions};
use crate::request::{Boot, OnFailure, Request, Step};
use crate::rootdir::RootDir;
use crate::setup::set_up;
use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, UnmountFlags};
use rustix::system::RebootCommand;
use std::cell::Cell;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsRawFd, IntoRawFd};
use std::path::Path;
use std::time::Duration;

const CONFIG: &str = "/etc/lycia-init.conf";
const HELPER: &str = "/proc/sys/kernel/modprobe";

/// Mounts what every later step needs. One that is mounted already is fine.
fn early_mounts() -> Result<(), Failure> {
    let none = MountFlags::empty();
    let strict = MountFlags::NOSUID | MountFlags::NODEV;
    for (target, kind, flags, options) in [
        ("/proc", "proc", strict | MountFlags::NOEXEC, ""),
        ("/sys", "sysfs", strict | MountFlags::NOEXEC, ""),
        ("/dev", "devtmpfs", MountFlags::NOSUID | none, "mode=0755"),
        ("/run", "tmpfs", strict, "mode=0755"),
    ] {
        match mount(kind, target, kind, flags, options) {
            Err(error) if error.raw_os_error() != Some(libc::EBUSY) => {
                return Err(Failure::new(
                    Step::Start,
                    format!("mounting {kind} on {target}"),
                    error,
                    format!("the kernel must be built with {kind}"),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Makes /dev/console standard input, output and error. The initramfs may have had no node for it when the
/// kernel started us.
fn open_console() {
    if let Ok(fd) = rustix::fs::open("/dev/console", OFlags::RDWR | OFlags::NOCTTY, Mode::empty()) {
        // A console that cannot be used leaves the kernel log.
        let _ = rustix::stdio::dup2_stdin(&fd);
        let _ = rustix::stdio::dup2_stdout(&fd);
        let _ = rustix::stdio::dup2_stderr(&fd);
        if fd.as_raw_fd() <= 2 {
            // It is itself one of the three, which stay open for good.
            let _ = fd.into_raw_fd();
        }
    }
}

/// Lets the kernel call this program for modules it wants by itself (character sets, checksums).
/// Returns what was set before.
fn become_helper() -> Option<String> {
    let own = fs::read_link("/proc/self/exe").ok()?;
    let before = fs::read_to_string(HELPER).ok()?;
    fs::write(HELPER, own.as_os_str().as_encoded_bytes()).ok()?;
    Some(before)
}

fn random_salt() -> [u8; 12] {
    let mut salt = [0; 12];
    // urandom never waits; a salt need not be secret, only different on different machines.
    if File::open("/dev/urandom")
        .and_then(|mut file| file.read_exact(&mut salt))
        .is_err()
    {
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap_or_default();
        salt.copy_from_slice(&now.as_nanos().to_le_bytes()[..12]);
    }
    salt
}

/// Detaches what an attempt mounted, so that the next one starts afresh.
fn undo_mounts() {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    for target in mounts.lines().rev().filter_map(|line| line.split(' ').nth(1)) {
        if target == NEW_ROOT || target.starts_with("/newroot/") || target.starts_with("/run/live/") {
            // What stays is hidden by the next mount on the same place.
            let _ = rustix::mount::unmount(target, UnmountFlags::DETACH);
        }
    }
    crate::verity::close();
}

fn leave(command: RebootCommand, log: &Log) -> ! {
    rustix::fs::sync();
    if let Err(error) = rustix::system::reboot(command) {
        log.say(format_args!("lycia-init: the kernel does not do that: {error}"));
    }
    // PID 1 must not end.
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Waits for a choice and carries out those that leave.
fn stop(log: &Log) {
    match wait_for_choice(log) {
        Some(Choice::Continue) => {}
        Some(Choice::Reboot) => leave(RebootCommand::Restart, log),
        Some(Choice::PowerOff) => leave(RebootCommand::PowerOff, log),
        None => {
            log.error("no console can be used; waiting for a reset");
            loop {
                std::thread::sleep(Duration::from_secs(3600));
            }
        }
    }
}

fn report(failure: &Failure, log: &Log) {
    let text = format!(
        "boot failed in step `{}`\n  what: {}\n  why:  {}\n  try:  {}",
        failure.step, failure.what, failure.why, failure.hint
    );
    log.error(&text);
    log.say(format_args!("\nlycia-init: {text}\n"));
}

fn after_failure(on_failure: OnFailure, log: &Log) {
    match on_failure {
        OnFailure::Reboot(wait) => {
            log.say(format_args!(
                "rebooting in {} s (panic= on the command line)",
                wait.as_secs()
            ));
            std::thread::sleep(wait);
            leave(RebootCommand::Restart, log)
        }
        OnFailure::Shell => stop(log),
    }
}

/// One machine's boot.
struct Session<'a> {
    log: &'a Log,
    words: Vec<Word>,
    config: Config,
    request: Request,
    arguments: Vec<OsString>,
    helper_before: Option<String>,
    /// `break=` stops once.
    stop_before: Cell<Option<Step>>,
}

impl Session<'_> {
    fn begin(&self, step: Step) {
        if self.stop_before.get() == Some(step) {
            self.stop_before.set(None);
            self.log.say(format_args!(
                "\nlycia-init: stopped before step `{step}` (break= on the command line)\n"
            ));
            stop(self.log);
        }
        self.log.info(format_args!("step {step}"));
    }

    /// Goes through the steps. Returns only when one fails.
    fn attempt(&self) -> Failure {
        match self.new_root() {
            Err(failure) => failure,
            Ok(()) => {
                self.begin(Step::Handover);
                if let Some(before) = &self.helper_before {
                    // What stays is a helper that does not exist, which only means no automatic loading.
                    let _ = fs::write(HELPER, before);
                }
                hand_over(&self.request.init, &self.arguments, self.log)
            }
        }
    }

    fn new_root(&self) -> Result<(), Failure> {
        let log = self.log;
        self.begin(Step::Modules);
        let mut loader = Loader::open(&self.words, &self.request.blacklist, log);
        for name in &self.config.modules {
            if !loader.knows(name) {
                log.debug(format_args!("module {name} is not in the initramfs"));
            } else if let Err(error) = loader.load(std::slice::from_ref(name)) {
                log.warn(error);
            }
        }
        let devices = loader.coldplug(true);
        log.info(format_args!("{devices} kinds of devices looked after"));

        let boot = self.request.boot.as_ref().map_err(|why| {
            Failure::new(
                Step::Find,
                "finding out what to boot",
                why,
                "add boot=live or root=UUID=... to the kernel line of the boot menu",
            )
        })?;
        self.begin(Step::Find);
        match boot {
            Boot::Installed(root) => {
                let mut finder = Finder::new(&mut loader, log);
                if let Some(volume) = &root.encrypted {
                    finder.unlock(volume, root.wait)?;
                }
                let found = finder.root(root)?;
                if root.grow {
                    let (mut flags, _) = split_options(&root.options);
                    flags.set(
                        MountFlags::RDONLY,
                        root.read_only || flags.contains(MountFlags::RDONLY),
                    );
                    if let Err(why) = grow::run(&found.node, &found.kind, flags, log) {
                        log.warn(format_args!(
                            "growing the root {}: {why}; it stays as it is",
                            found.node
                        ));
                    }
                }
            }
            Boot::Live(live) => {
                let mut live = live.clone();
                let found = match carried(&live)? {
                    Some(found) => {
                        // It is in memory.
                        live.to_ram = false;
                        log.info(format_args!(
                            "image of {} MiB in the initramfs",
                            found.image_size >> 20
                        ));
                        found
                    }
                    None => Finder::new(&mut loader, log).medium(&live)?,
                };
                if live.verify {
                    self.begin(Step::Verify);
                }
                self.begin(Step::Assemble);
                for action in live_actions(&live, found.image_size) {
                    log.debug(format_args!("{action:?}"));
                    perform(&action, &mut loader, log)?;
                }
                self.begin(Step::Setup);
                let failed = |why: String| {
                    Failure::new(
                        Step::Setup,
                        "setting up the live root",
                        why,
                        "the overlay may be full: boot with another overlay-size=, or with more memory",
                    )
                };
                let root = RootDir::open(Path::new(NEW_ROOT)).map_err(|error| failed(error.to_string()))?;
                let report =
                    set_up(&root, &live.setup, &random_salt()).map_err(|error| failed(error.to_string()))?;
                for note in report.notes {
                    log.info(note);
                }
                for warning in report.warnings {
                    log.warn(warning);
                }
            }
        }
        Ok(())
    }
}

/// A panic is a bug of this program; the machine still gets a message and a shell.
fn catch_panics() {
    std::panic::set_hook(Box::new(|info| {
        let log = Log::default();
        log.open();
        log.find_consoles(&split(&fs::read_to_string("/proc/cmdline").unwrap_or_default()));
        let why = info.to_string();
        report(
            &Failure::new(
                Step::Start,
                "running lycia-init",
                why,
                "this is a bug; please report it",
            ),
            &log,
        );
        loop {
            stop(&log);
            log.say("lycia-init cannot go on after a bug; reboot, please");
        }
    }));
}

/// The kernel hands every bare word it does not know to its init. Those that were for this program are not
/// passed on.
fn arguments_for_init(given: Vec<OsString>) -> Vec<OsString> {
    let ours = |word: &OsString| {
        let known = word.to_str().and_then(parameter);
        known.is_some_and(|parameter| parameter.support != Support::PassedOn)
    };
    given.into_iter().filter(|word| !ours(word)).collect()
}

/// Boots the machine. `arguments` are those the kernel gave.
pub fn run(arguments: Vec<OsString>) -> ! {
    let log = Log::default();
    let early = early_mounts();
    open_console();
    catch_panics();
    log.open();
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let words = split(&line);
    log.find_consoles(&words);
    let (config, mut warnings) = match fs::read_to_string(CONFIG) {
        Ok(text) => Config::parse(&text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => (Config::default(), Vec::new()),
        Err(error) => (
            Config::default(),
            vec![format!("reading {CONFIG}: {error}; using defaults")],
        ),
    };
    let request = Request::new(&words, &config);
    warnings.extend_from_slice(&request.warnings);
    log.set_level(request.quiet, request.debug);
    log.info(format_args!("version {}", env!("CARGO_PKG_VERSION")));
    for warning in warnings {
        log.warn(warning);
    }
    match crate::keymap::load_own() {
        Ok(true) => log.info("the keyboard has its layout"),
        Ok(false) => {}
        Err(error) => log.warn(error),
    }
    let session = Session {
        log: &log,
        stop_before: Cell::new(request.stop_before),
        helper_before: become_helper(),
        words,
        config,
        request,
        arguments: arguments_for_init(arguments),
    };
    if let Err(failure) = early {
        report(&failure, &log);
        after_failure(session.request.on_failure, &log);
    }
    loop {
        let failure = session.attempt();
        report(&failure, &log);
        after_failure(session.request.on_failure, &log);
        // After the hand-over has begun the initramfs is gone, and with it everything a new attempt needs.
        while !Path::new(NEW_ROOT).is_dir() && !Path::new(CONFIG).exists() && !Path::new("/init").exists() {
            log.say("the initramfs is gone: there is no way back but `reboot`");
            stop(&log);
        }
        undo_mounts();
        log.open();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_gets_only_words_that_are_not_ours() {
        let given = ["toram", "single", "persistence", "-c", "mount"]
            .map(OsString::from)
            .to_vec();
        assert_eq!(arguments_for_init(given), ["single", "-c", "mount"]);
    }
}
