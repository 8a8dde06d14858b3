//! The live ISO installs the system, which then boots by itself into what was asked for, and is rescued from the same medium.
//!
//! Two machines at a time, `installed/screens.rs` and `installed/server.rs`; what they have in common is in `installed/machine.rs`. No other disk changes.

#![allow(clippy::unwrap_used)]

#[path = "installed/machine.rs"]
mod machine;
#[path = "installed/screens.rs"]
mod screens;
#[path = "installed/server.rs"]
mod server;
#[path = "installed/stick.rs"]
mod stick;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use lycia_qemu::{Architecture, Firmware, Guest, Machine, Medium};

use machine::{LIMIT, Other, empty, live, off};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

fn live_iso(output: &Path) -> PathBuf {
    let status = Command::new(env!("CARGO_BIN_EXE_lycia"))
        .arg("--project")
        .arg(project())
        .args(["build", "live", "--output"])
        .arg(output)
        .status()
        .unwrap();
    assert!(status.success());
    output.join("live-x86_64.iso")
}

/// `cargo test -p lycia --test installed -- --nocapture` shows the times, and that of an installation against dd.
#[test]
fn an_installed_disk_boots_into_what_was_asked_for_and_is_rescued() {
    let output = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    let iso = live_iso(output.path());
    println!("the medium is there after {} s", begun.elapsed().as_secs());
    // Two guests at a time: they are slow enough as it is.
    std::thread::scope(|scope| {
        let first = scope.spawn(|| {
            screens::attended(&iso);
            println!("the screens end after {} s", begun.elapsed().as_secs());
        });
        server::from_a_server(&iso, project());
        println!("the server ends after {} s", begun.elapsed().as_secs());
        first.join().unwrap();
    });
}

/// `cargo test -p lycia --test installed -- --ignored pictures` writes the pictures of the README.
#[test]
#[ignore = "writes docs/installer-*.png"]
fn pictures() {
    let (output, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let iso = live_iso(output.path());
    let docs = project().join("docs");
    let disk = empty(folder.path(), "disk.img");
    let other = Other::new(folder.path());
    screens::occupied(&disk);
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    let media = [Medium::disk(&disk), Medium::disk(&other.path)];
    let mut guest = live(&iso, &mut machine, &media, false);
    let still = |guest: &mut Guest| {
        guest.wait_screen_stable(Duration::from_secs(3), LIMIT).unwrap();
    };
    // The screen's own login, not the serial line's.
    for line in ["root", "chimera", "clear; lycia-install ask"] {
        still(&mut guest);
        guest.send_text(&format!("{line}\n")).unwrap();
    }
    still(&mut guest);
    guest.screenshot(&docs.join("installer-disk.png")).unwrap();
    for (line, picture) in [("1", ""), ("alongside", ""), ("", "installer-allocator.png")] {
        guest.send_text(&format!("{line}\n")).unwrap();
        still(&mut guest);
        if !picture.is_empty() {
            guest.screenshot(&docs.join(picture)).unwrap();
        }
    }
    off(guest, &[&other]);
}
