//! The live ISO installs the system, which then boots by itself into what was asked for, and is rescued from the same medium.
//!
//! Two machines at a time (tests run beside each other): `installed/screens.rs`, `installed/server.rs` and `installed/power_cut.rs`; what they have in
//! common is in `installed/machine.rs`. No other disk changes.

#![allow(clippy::unwrap_used)]

#[path = "installed/machine.rs"]
mod machine;
#[path = "installed/power_cut.rs"]
mod power_cut;
#[path = "installed/screens.rs"]
mod screens;
#[path = "installed/server.rs"]
mod server;
#[path = "installed/stick.rs"]
mod stick;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use lycia_qemu::{Architecture, Firmware, Guest, Key, Machine, Medium};

use machine::{LIMIT, Other, empty, live};

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

/// A folder with what is built of an image.
fn built(image: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_lycia"))
        .arg("--project")
        .arg(project())
        .args(["build", image, "--output"])
        .arg(folder.path())
        .status()
        .unwrap();
    assert!(status.success());
    folder
}

/// The medium, for all tests that run at a time.
struct Iso {
    folder: tempfile::TempDir,
}

impl Iso {
    fn get() -> Arc<Iso> {
        static ISO: Mutex<Weak<Iso>> = Mutex::new(Weak::new());
        let mut known = ISO.lock().unwrap();
        if let Some(iso) = known.upgrade() {
            return iso;
        }
        let iso = Arc::new(Iso {
            folder: built("live"),
        });
        *known = Arc::downgrade(&iso);
        iso
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("live-x86_64.iso")
    }
}

/// `cargo test -p lycia --test installed -- --nocapture` shows the time of an installation against dd.
#[test]
fn through_the_screens_encrypted_and_beside_another_system() {
    let iso = Iso::get();
    let begun = Instant::now();
    screens::attended(&iso.path());
    println!("the screens took {} s", begun.elapsed().as_secs());
}

#[test]
fn from_a_server_through_all_allocators_and_rescued() {
    let iso = Iso::get();
    let begun = Instant::now();
    let rescue = built("rescue");
    server::from_a_server(&iso.path(), &rescue.path().join("rescue-x86_64.iso"), project());
    println!("the server took {} s", begun.elapsed().as_secs());
}

#[test]
fn without_anybody_and_after_a_power_cut() {
    let iso = Iso::get();
    let begun = Instant::now();
    power_cut::without_anybody(&iso.path());
    println!("the power cut took {} s", begun.elapsed().as_secs());
}

/// `cargo test -p lycia --test installed -- --ignored pictures` writes the pictures of the README.
#[test]
#[ignore = "writes docs/installer-*.png"]
fn pictures() {
    let (iso, folder) = (Iso::get(), tempfile::tempdir().unwrap());
    let docs = project().join("docs");
    let disk = empty(folder.path(), "disk.img");
    let other = Other::new(folder.path());
    screens::occupied(&disk);
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    let media = [Medium::disk(&disk), Medium::disk(&other.path)];
    let mut guest = live(&iso.path(), &mut machine, &media, false);
    let still = |guest: &mut Guest| {
        guest.wait_screen_stable(Duration::from_secs(3), LIMIT).unwrap();
    };
    // The screen's own login, not the serial line's.
    for line in ["root", "chimera", "clear; lycia-install ask"] {
        still(&mut guest);
        guest.send_text(&format!("{line}\n")).unwrap();
    }
    // It looks at the disks first.
    loop {
        still(&mut guest);
        let screen = guest.screen().unwrap();
        if guest.is_drawn(&screen) {
            break;
        }
    }
    let mut picture = |keys: &[Key], name: &str| {
        for key in keys {
            guest.send_keys(&[*key]).unwrap();
            still(&mut guest);
        }
        if !name.is_empty() {
            guest.screenshot(&docs.join(name)).unwrap();
        }
    };
    picture(&[], "installer-disk.png");
    // To the table, and a partition of it deleted.
    picture(
        &[Key::Enter, Key::Down, Key::Down, Key::Down, Key::Down, Key::Enter],
        "",
    );
    picture(&[Key::Char('d')], "installer-table.png");
    picture(&[Key::Escape, Key::Up, Key::Up, Key::Up, Key::Up, Key::Enter], "");
    picture(&[Key::Enter; 8], "installer-allocator.png");
    guest.quit(LIMIT).unwrap();
    other.check();
}
