//! A damaged medium is not run: the live ISO read through dm-verity in booted guests, intact and with single bytes changed.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::direct;

/// A medium with its kernel and initramfs beside it, as intact ones are in memory before anything is checked.
struct Medium {
    folder: tempfile::TempDir,
    iso: PathBuf,
    arguments: String,
}

impl Medium {
    fn build() -> Medium {
        let folder = tempfile::tempdir().unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_lycia"))
            .arg("--project")
            .arg(project)
            .args(["--quiet", "build", "live", "--output"])
            .arg(folder.path())
            .status()
            .unwrap();
        assert!(status.success(), "lycia build: {status}");
        let iso = folder.path().join("live-x86_64.iso");
        let mut medium = Medium {
            folder,
            iso,
            arguments: String::new(),
        };
        for (inside, outside) in [("/live", "live"), ("/boot/grub/grub.cfg", "grub.cfg")] {
            let extracted = Command::new("xorriso")
                .args(["-osirrox", "on", "-indev"])
                .arg(&medium.iso)
                .args(["-extract", inside])
                .arg(medium.path(outside))
                .output()
                .expect("this test needs the Debian package xorriso");
            assert!(extracted.status.success(), "{extracted:?}");
        }
        // What the menu's default entry passes, but for where the console is.
        let menu = std::fs::read_to_string(medium.path("grub.cfg")).unwrap();
        let line = menu
            .lines()
            .find_map(|line| line.trim().strip_prefix("linux /live/vmlinuz "))
            .unwrap();
        let words = line
            .split_whitespace()
            .filter(|word| !word.starts_with("console=") && *word != "quiet");
        medium.arguments = words.collect::<Vec<_>>().join(" ");
        medium
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Where a file of the medium begins in the ISO.
    fn place(&self, file: &str) -> u64 {
        let wanted = std::fs::read(self.path(file)).unwrap();
        let iso = std::fs::read(&self.iso).unwrap();
        let found = iso
            .chunks(2048)
            .position(|sector| sector.starts_with(&wanted[..wanted.len().min(2048)]));
        found.unwrap_or_else(|| panic!("{file} is not in the ISO")) as u64 * 2048
    }

    /// Changes one bit of a byte; the second time it is as before.
    fn flip(&self, at: u64) {
        let iso = File::options().read(true).write(true).open(&self.iso).unwrap();
        let mut byte = [0];
        iso.read_exact_at(&mut byte, at).unwrap();
        iso.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    }

    fn boot(&self, more: &str, until: Option<&str>) -> String {
        direct::boot(
            self.folder.path(),
            (&self.path("live/vmlinuz"), &self.path("live/initrd")),
            // On a failure the machine restarts, which ends the guest.
            &format!("{} lycia.debug panic=1 {more}", self.arguments),
            &[(&self.iso, true)],
            until,
        )
    }
}

fn says(console: &str, wanted: &[&str]) {
    for text in wanted {
        assert!(console.contains(text), "`{text}` is not in\n{console}");
    }
}

#[test]
fn an_intact_medium_starts_and_a_changed_byte_is_found() {
    let medium = Medium::build();
    assert!(
        medium.arguments.contains("dm-verity-root-hash="),
        "{}",
        medium.arguments
    );
    let image = medium.place("live/filesystem.squashfs");
    let length = medium.path("live/filesystem.squashfs").metadata().unwrap().len();

    // Intact, all of it read first.
    let console = medium.boot("verify", Some("step handover"));
    says(
        &console,
        &["files of the medium: OK", "the image is intact", "step handover"],
    );
    assert!(!console.contains("boot failed"), "{console}");

    // A bit in the middle: the block is named, and nothing starts.
    let block = length / 4096 / 2;
    let changed = image + block * 4096 + 1234;
    medium.flip(changed);
    let console = medium.boot("verify", Some("step handover"));
    let named = format!(
        "block {block} (bytes {} to {}) is damaged",
        block * 4096,
        block * 4096 + 4095
    );
    says(
        &console,
        &["boot failed in step `verify`", &named, "write it again"],
    );
    assert!(!console.contains("step handover"), "{console}");
    medium.flip(changed);

    // A bit of the first block, which mounting reads: found without being asked for.
    medium.flip(image + 100);
    let console = medium.boot("", Some("step handover"));
    says(
        &console,
        &[
            "boot failed in step `assemble`",
            "dm-verity found a block that is not what was written",
            "boot with `verify`",
        ],
    );
    assert!(!console.contains("step handover"), "{console}");
    medium.flip(image + 100);

    // A bit of another file, and one of the tree.
    let kernel = medium.place("live/vmlinuz") + 5000;
    medium.flip(kernel);
    let console = medium.boot("verify", Some("step handover"));
    says(
        &console,
        &["live/vmlinuz: FAILED", "boot failed in step `verify`", "1 of "],
    );
    medium.flip(kernel);
    let tree = medium.place("live/filesystem.squashfs.verity") + 4096 + 7;
    medium.flip(tree);
    let console = medium.boot("", Some("step handover"));
    says(&console, &["boot failed in step `assemble`"]);
    assert!(!console.contains("step handover"), "{console}");
}
