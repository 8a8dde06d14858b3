//! Opening the LUKS2 volume that holds the root: asking for the passphrase on every console, the device through dm-crypt.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use lycia_luks::{LuksError, Opened};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags};
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::Failure;
use crate::device_mapper::{DeviceMapper, Mapping, Requests, Target};
use crate::kmod::Loader;
use crate::log::Log;
use crate::request::{Encrypted, Step};

/// How often a passphrase may be wrong before the boot stops.
const TRIES: u32 = 3;
/// How long a passphrase is waited for.
const WAIT: Duration = Duration::from_secs(600);
/// Longest passphrase in bytes, as cryptsetup takes from a terminal.
const PASSPHRASE_MAX: usize = 512;
/// What dm-crypt asks the kernel's crypto for; those that are built in, or not there, are left out.
pub const MODULES: &[&str] = &["dm_mod", "dm_crypt", "aes_generic", "aesni_intel", "ecb", "xts"];

type Passphrase = Zeroizing<Vec<u8>>;

/// A console on which somebody may type.
struct Console {
    file: File,
    before: Option<Termios>,
}

impl Console {
    fn open(node: &str) -> io::Result<Console> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(node, flags, Mode::empty())?);
        let before = tcgetattr(&file).ok();
        if let Some(before) = &before {
            let mut silent = before.clone();
            silent.local_modes.remove(LocalModes::ECHO);
            // Lines are edited by the kernel, and their end is shown.
            silent.local_modes.insert(LocalModes::ICANON | LocalModes::ECHONL);
            tcsetattr(&file, OptionalActions::Flush, &silent)?;
        }
        Ok(Console { file, before })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Some(before) = &self.before {
            let _ = tcsetattr(&self.file, OptionalActions::Flush, before);
        }
    }
}

/// Asks on all consoles at once; the first line that is typed counts. None when time is up or there is no console.
fn ask(nodes: &[String], prompt: &str, wait: Duration) -> Option<Passphrase> {
    let mut consoles: Vec<Console> = nodes.iter().filter_map(|node| Console::open(node).ok()).collect();
    for console in &mut consoles {
        // A console that cannot be written to can still be typed on.
        let _ = write!(console.file, "\n{prompt}");
    }
    let until = Instant::now() + wait;
    while !consoles.is_empty() {
        let left = until.checked_duration_since(Instant::now())?;
        let time = rustix::event::Timespec {
            tv_sec: left.as_secs() as i64,
            tv_nsec: i64::from(left.subsec_nanos()),
        };
        let ready: Vec<bool> = {
            let mut polled: Vec<PollFd<'_>> = consoles
                .iter()
                .map(|console| PollFd::new(&console.file, PollFlags::IN))
                .collect();
            match poll(&mut polled, Some(&time)) {
                Ok(0) => return None,
                Ok(_) => polled.iter().map(|one| !one.revents().is_empty()).collect(),
                Err(rustix::io::Errno::INTR) => continue,
                Err(_) => return None,
            }
        };
        let mut gone = Vec::new();
        for (at, _) in ready.iter().enumerate().filter(|(_, ready)| **ready) {
            let mut line = Zeroizing::new(vec![0; PASSPHRASE_MAX + 1]);
            match consoles[at].file.read(&mut line) {
                Ok(0) => gone.push(at),
                Ok(count) => {
                    line.truncate(count);
                    while matches!(line.last(), Some(b'\n' | b'\r')) {
                        line.pop();
                    }
                    return Some(line);
                }
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                    ) => {}
                // A line that was hung up says so again and again.
                Err(_) => gone.push(at),
            }
        }
        for at in gone.into_iter().rev() {
            consoles.remove(at);
        }
    }
    None
}

/// The table of a volume's device, with its key: wiped when it goes.
fn parameters(opened: &Opened, node: &str) -> Zeroizing<String> {
    let mut words = Zeroizing::new(String::with_capacity(opened.key.len() * 2 + node.len() + 128));
    let _ = write!(words, "{} ", opened.encryption);
    for byte in opened.key.iter() {
        let _ = write!(words, "{byte:02x}");
    }
    let _ = write!(words, " 0 {node} {}", opened.offset / 512);
    if opened.sector_size != 512 {
        let _ = write!(words, " 1 sector_size:{}", opened.sector_size);
    }
    words
}

/// Makes the device of an opened volume; `size` is that of the partition in bytes. Gives its node.
///
/// # Errors
/// When the volume does not fit its partition, or the kernel refuses.
pub fn map<R: Requests>(
    mapper: &DeviceMapper<R>,
    opened: &Opened,
    node: &str,
    size: u64,
    name: &str,
) -> Result<String, String> {
    let room = size.saturating_sub(opened.offset);
    let bytes = opened.size.unwrap_or(room).min(room);
    // Whole sectors of the volume.
    let sectors =
        bytes / u64::from(opened.sector_size.max(512)) * u64::from(opened.sector_size.max(512)) / 512;
    if sectors == 0 || !opened.offset.is_multiple_of(512) {
        return Err("the volume has no room for data on its partition".to_owned());
    }
    let uuid = format!("CRYPT-LUKS2-{}-{name}", opened.uuid.replace('-', ""));
    let parameters = parameters(opened, node);
    let target = Target {
        start: 0,
        sectors,
        kind: "crypt",
        parameters: &parameters,
    };
    mapper
        .create(&Mapping {
            name,
            uuid: &uuid,
            read_only: false,
            secret: true,
            targets: &[target],
        })
        .map(|device| device.node)
        .map_err(|error| error.to_string())
}

fn failed(what: String, why: impl std::fmt::Display, hint: &str) -> Failure {
    Failure::new(Step::Find, what, why.to_string(), hint)
}

/// Opens the volume on `node` with a passphrase that somebody types.
///
/// # Errors
/// When nobody does, it is wrong three times, or the kernel refuses the device.
pub fn unlock(node: &str, volume: &Encrypted, loader: &mut Loader<'_>, log: &Log) -> Result<(), Failure> {
    let what = || format!("opening the encrypted root on {node}");
    if std::path::Path::new("/dev/mapper").join(&volume.name).exists() {
        // A retry after something later failed.
        return Ok(());
    }
    for module in MODULES {
        if loader.knows(module)
            && let Err(error) = loader.load(&[(*module).to_owned()])
        {
            log.debug(error);
        }
    }
    let io_hint = "the disk may be failing; see the kernel log";
    let mut file = File::open(node).map_err(|error| failed(what(), error, io_hint))?;
    let size = file
        .seek(SeekFrom::End(0))
        .map_err(|error| failed(what(), error, io_hint))?;
    for left in (0..TRIES).rev() {
        let prompt = format!("Passphrase of {} ({node}): ", volume.name);
        let Some(passphrase) = ask(&log.consoles(), &prompt, WAIT) else {
            return Err(failed(
                what(),
                format!("nobody typed a passphrase in {} s", WAIT.as_secs()),
                "`retry` asks again",
            ));
        };
        log.say("opening the volume; this takes a few seconds");
        match lycia_luks::open(&mut |at, bytes| file.read_exact_at(bytes, at), &passphrase) {
            Ok(opened) => {
                let mapper = DeviceMapper::open().map_err(|error| {
                    failed(
                        what(),
                        error,
                        "the initramfs must have the modules dm_mod and dm_crypt",
                    )
                })?;
                map(&mapper, &opened, node, size, &volume.name).map_err(|error| {
                    failed(what(), error, "the initramfs must have dm_crypt, xts and aes")
                })?;
                log.info(format_args!("{node} is open as {}", volume.name));
                return Ok(());
            }
            Err(LuksError::Passphrase) => {
                log.say(format_args!("That passphrase opens nothing; {left} tries left."));
            }
            Err(error) => {
                return Err(failed(
                    what(),
                    error,
                    "boot a rescue medium and look with cryptsetup luksDump",
                ));
            }
        }
    }
    Err(failed(
        what(),
        "the passphrase was wrong three times",
        "`retry` asks again; look at the keyboard layout",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(sector_size: u32) -> Opened {
        Opened {
            uuid: "01234567-89ab-cdef-0123-456789abcdef".to_owned(),
            key: Zeroizing::new(vec![0xab; 64]),
            offset: 16 << 20,
            size: None,
            sector_size,
            encryption: "aes-xts-plain64".to_owned(),
        }
    }

    #[test]
    fn the_table_is_what_dmsetup_would_show() {
        let key = "ab".repeat(64);
        assert_eq!(
            *parameters(&opened(512), "/dev/sda3"),
            format!("aes-xts-plain64 {key} 0 /dev/sda3 32768")
        );
        assert_eq!(
            *parameters(&opened(4096), "/dev/sda3"),
            format!("aes-xts-plain64 {key} 0 /dev/sda3 32768 1 sector_size:4096")
        );
    }

    /// The other side of a terminal.
    fn terminal() -> (File, String) {
        let master =
            rustix::pty::openpt(rustix::pty::OpenptFlags::RDWR | rustix::pty::OpenptFlags::NOCTTY).unwrap();
        rustix::pty::grantpt(&master).unwrap();
        rustix::pty::unlockpt(&master).unwrap();
        let name = rustix::pty::ptsname(&master, Vec::new()).unwrap();
        (File::from(master), name.into_string().unwrap())
    }

    #[test]
    fn the_first_console_that_answers_counts_and_nothing_is_echoed() {
        let (mut first, one) = terminal();
        let (second, two) = terminal();
        let nodes = vec![one, "/dev/none".to_owned(), two];
        let asking = std::thread::spawn(move || ask(&nodes, "Passphrase: ", Duration::from_secs(20)));
        let mut seen = Vec::new();
        let mut buffer = [0; 256];
        // The prompt says that echo is off.
        while !String::from_utf8_lossy(&seen).contains("Passphrase: ") {
            let count = first.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..count]);
        }
        first.write_all(b"secrxt\x7f\x7fet word\n").unwrap();
        assert_eq!(
            asking.join().unwrap().as_deref().map(Vec::as_slice),
            Some(&b"secret word"[..])
        );
        let flags = rustix::fs::fcntl_getfl(&first).unwrap();
        rustix::fs::fcntl_setfl(&first, flags | OFlags::NONBLOCK).unwrap();
        while let Ok(count) = first.read(&mut buffer)
            && count > 0
        {
            seen.extend_from_slice(&buffer[..count]);
        }
        let seen = String::from_utf8_lossy(&seen).into_owned();
        assert!(!seen.contains("secr") && !seen.contains("word"), "{seen:?}");
        drop(second);
        assert!(ask(&[], "", Duration::from_secs(1)).is_none());
        let (_third, three) = terminal();
        assert!(ask(&[three], "", Duration::from_millis(20)).is_none());
    }
}
