//! What only PID 1 does: mounts before the first service, and the end of the system.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::system::{RebootCommand, reboot};

use crate::protocol::Ending;
use lycia_dinit::environment::Environment;

/// How long all processes together have between SIGTERM and SIGKILL at the very end.
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// Mounts that the supervisor itself stands on. The early services check and complete them in their own
/// way, so that the same service files work under real dinit, which mounts nothing.
pub fn mount_missing() -> Vec<String> {
    let plain = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let devices = MountFlags::NOSUID | MountFlags::NOEXEC;
    let run = MountFlags::NOSUID | MountFlags::NODEV;
    let wanted: [(&str, &str, MountFlags, &str, bool); 6] = [
        ("/proc", "proc", plain, "", !Path::new("/proc/self").exists()),
        ("/sys", "sysfs", plain, "", !Path::new("/sys/kernel").exists()),
        (
            "/dev",
            "devtmpfs",
            MountFlags::NOSUID,
            "mode=0755",
            !has_devices(),
        ),
        (
            "/dev/pts",
            "devpts",
            devices,
            "gid=5,mode=0620,ptmxmode=0666",
            !Path::new("/dev/pts/ptmx").exists(),
        ),
        ("/dev/shm", "tmpfs", run, "mode=1777", !is_mount_point("/dev/shm")),
        ("/run", "tmpfs", run, "mode=0755", !is_mount_point("/run")),
    ];
    let mut problems = Vec::new();
    for (target, kind, flags, data, missing) in wanted {
        if !missing {
            continue;
        }
        // Fails where it exists or cannot be made; then mounting says what is wrong.
        let _ = std::fs::create_dir(target);
        let data = std::ffi::CString::new(data).unwrap_or_default();
        if let Err(error) = mount(kind, target, kind, flags, data.as_c_str()) {
            problems.push(format!("mounting {kind} on {target}: {error}"));
        }
    }
    problems
}

fn has_devices() -> bool {
    std::fs::metadata("/dev/null").is_ok_and(|meta| meta.file_type().is_char_device())
}

fn is_mount_point(path: &str) -> bool {
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev()).ok();
    let path = Path::new(path);
    device(path).is_some() && device(path) != path.parent().and_then(device)
}

/// Connects descriptors 0, 1 and 2 with the console if the kernel could not.
pub fn open_console() {
    use std::os::fd::AsFd as _;
    let closed = rustix::io::fcntl_getfd(io::stdout().as_fd()).is_err();
    if !closed {
        return;
    }
    if let Ok(file) = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/console")
    {
        let _ = rustix::stdio::dup2_stdin(&file);
        let _ = rustix::stdio::dup2_stdout(&file);
        let _ = rustix::stdio::dup2_stderr(&file);
    }
}

/// Ctrl-Alt-Del becomes SIGINT to PID 1 instead of a reboot on the spot.
pub fn catch_ctrl_alt_del() {
    // Refused in containers, where there is no such key.
    let _ = reboot(RebootCommand::CadOff);
}

/// Words of the kernel command line up to ` -- `.
pub fn kernel_words() -> Vec<String> {
    let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
    line.split_whitespace()
        .take_while(|&word| word != "--")
        .map(str::to_owned)
        .collect()
}

/// The environment services of a PID 1 begin with: none of what the kernel made of unknown parameters.
pub fn first_environment() -> Environment {
    let mut environment = Environment::new();
    environment.insert(
        "PATH".into(),
        "/usr/local/bin:/usr/bin:/usr/local/sbin:/usr/sbin:/sbin:/bin".into(),
    );
    if let Ok(term) = std::env::var("TERM") {
        environment.insert("TERM".into(), term);
    }
    environment
}

/// Ends all processes, writes everything back, takes file systems away and ends the system. Returns only
/// if the kernel refuses.
pub fn finish(ending: Ending) -> io::Error {
    kill_everything();
    rustix::fs::sync();
    detach_file_systems();
    rustix::fs::sync();
    let command = match ending {
        Ending::Reboot => RebootCommand::Restart,
        Ending::PowerOff => RebootCommand::PowerOff,
        Ending::Halt => RebootCommand::Halt,
    };
    match reboot(command) {
        Ok(()) => io::Error::other("the kernel returned from reboot"),
        Err(error) => error.into(),
    }
}

/// SIGTERM to all, a pause that ends early when nobody is left, SIGKILL to all.
fn kill_everything() {
    // SAFETY: plain numbers; PID 1 is not hit by its own broadcast.
    let send = |signal| unsafe { libc::kill(-1, signal) };
    send(libc::SIGTERM);
    send(libc::SIGCONT);
    wait_for_children(LAST_PAUSE);
    send(libc::SIGKILL);
    wait_for_children(Duration::from_secs(2));
}

fn wait_for_children(limit: Duration) {
    let end = Instant::now() + limit;
    while Instant::now() < end {
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let pid = unsafe { libc::waitpid(-1, &mut status, libc::WNOHANG) };
        if pid < 0 {
            return;
        }
        if pid == 0 {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Unmounts what can be unmounted, newest first, and makes the rest read-only.
fn detach_file_systems() {
    let Ok(table) = std::fs::read_to_string("/proc/self/mountinfo") else {
        return;
    };
    let targets = mount_points(&table);
    let keep = ["/", "/proc", "/sys", "/dev", "/run"];
    for target in targets.iter().rev() {
        let kept =
            keep.contains(&target.as_str()) || target.starts_with("/proc/") || target.starts_with("/sys/");
        if kept {
            continue;
        }
        if unmount(target.as_str(), UnmountFlags::NOFOLLOW).is_err() {
            let _ = mount_remount(target.as_str(), MountFlags::RDONLY, c"");
        }
    }
    let _ = mount_remount("/", MountFlags::RDONLY, c"");
}

/// Mount points of a mountinfo table (proc_pid_mountinfo(5)) in the order of mounting.
fn mount_points(table: &str) -> Vec<String> {
    table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .collect()
}

/// Resolves `\040` and its like.
fn unescape(field: &str) -> String {
    let mut out = Vec::new();
    let mut bytes = field.as_bytes();
    while let Some((&first, rest)) = bytes.split_first() {
        let octal = rest.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if first == b'\\' => {
                out.push(byte);
                bytes = &rest[3..];
            }
            _ => {
                out.push(first);
                bytes = rest;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mountinfo_fields() {
        let table =
            "22 1 8:1 / / rw - ext4 /dev/sda1 rw\n30 22 0:5 / /mnt/a\\040b rw,x shared:1 - tmpfs t rw\nodd\n";
        assert_eq!(mount_points(table), ["/", "/mnt/a b"]);
        assert_eq!(unescape("a\\"), "a\\");
        assert_eq!(unescape("\\134x"), "\\x");
    }
}
