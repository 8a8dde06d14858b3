//! Guests that are started from a kernel and an initramfs, without firmware or boot loader: quick, and the console is a file.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Longest time that a guest may take on a busy machine under emulation.
const LIMIT: Duration = Duration::from_secs(900);

/// Boots a guest with disks (`true`: read-only) until it ends, or its console shows `until`; gives what the console showed.
pub fn boot(
    folder: &Path,
    (kernel, initramfs): (&Path, &Path),
    arguments: &str,
    disks: &[(&Path, bool)],
    until: Option<&str>,
) -> String {
    let console = folder.join("console");
    let _ = std::fs::remove_file(&console);
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg", "-cpu", "max", "-m", "768", "-nic", "none"])
        .args(["-display", "none", "-no-reboot", "-nodefaults", "-append"])
        // On a busy machine the emulated timer may seem dead, which the kernel would panic at.
        .arg(format!("console=ttyS0 no_timer_check {arguments}"))
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-serial")
        .arg(format!("file:{}", console.display()));
    for (disk, read_only) in disks {
        let read_only = if *read_only { "on" } else { "off" };
        command.arg("-drive").arg(format!(
            "file={},format=raw,if=virtio,readonly={read_only}",
            disk.display()
        ));
    }
    let mut child = command
        .stdin(Stdio::null())
        .spawn()
        .expect("this test needs the Debian package qemu-system-x86");
    let shown = || String::from_utf8_lossy(&std::fs::read(&console).unwrap_or_default()).into_owned();
    let started = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if started.elapsed() > LIMIT || until.is_some_and(|until| shown().contains(until)) {
            child.kill().unwrap();
            child.wait().unwrap();
            break;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    shown()
}
