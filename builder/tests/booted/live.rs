//! The embedded seed's live ISO boots to a login, with BIOS and UEFI, as CD and as disk, and what runs is what the
//! manifest says.
//!
//! One test for all ways, one after another: each guest takes a processor.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use lycia_qemu::{Architecture, DirectBoot, Firmware, Machine, Medium};

/// For each stage, on a machine that has other work.
const LIMIT: Duration = Duration::from_secs(600);

fn succeed(command: &mut Command) {
    let status = command
        .status()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(status.success(), "{command:?}: {status}");
}

/// Boots the kernel of the ISO with the arguments of `loopback.cfg`, the ISO being a file on the ext4 of a disk.
fn boots_from_a_file(iso: &Path, folder: &Path) {
    let files = folder.join("files");
    std::fs::create_dir(&files).unwrap();
    std::fs::hard_link(iso, files.join("x.iso")).unwrap();
    let bytes = iso.metadata().unwrap().len();
    let disk = folder.join("files.img");
    succeed(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-d"])
            .args([&files, &disk])
            .arg(format!("{}M", (bytes >> 20) + (bytes >> 24) + 64)),
    );
    let taken = |path: &str| {
        let to = folder.join(path.rsplit('/').next().unwrap());
        succeed(
            Command::new("xorriso")
                .args(["-osirrox", "on", "-indev"])
                .arg(iso)
                .args(["-extract", path])
                .arg(&to),
        );
        to
    };
    let menu = std::fs::read_to_string(taken("/boot/grub/loopback.cfg")).unwrap();
    let line = menu
        .lines()
        .find_map(|line| line.trim().strip_prefix("linux /live/vmlinuz "))
        .unwrap();
    let arguments = line.replace("\"${iso_path}\"", "/x.iso");
    assert!(arguments.contains("findiso=/x.iso"), "{line}");
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    machine.direct_boot = Some(DirectBoot {
        kernel: taken("/live/vmlinuz"),
        initramfs: Some(taken("/live/initrd")),
        command_line: format!("{arguments} console=ttyS0,115200"),
    });
    machine.media = vec![Medium::disk(&disk)];
    let guest = machine.start().unwrap();
    guest.stage("the boot of an ISO that is a file");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    let mounts = guest
        .serial
        .run("cat /proc/mounts", LIMIT)
        .and_then(lycia_qemu::Output::successful)
        .unwrap();
    for (kind, place) in [
        ("overlay", "/"),
        ("squashfs", "/run/live/rootfs"),
        ("iso9660", "/run/live/medium"),
    ] {
        let there = mounts.lines().any(|line| {
            let fields: Vec<&str> = line.split(' ').collect();
            fields.get(1) == Some(&place) && fields.get(2) == Some(&kind)
        });
        assert!(there, "no {kind} at {place}: {mounts}");
    }
    guest.serial.send_line("poweroff").unwrap();
    assert!(guest.wait_exit(LIMIT).unwrap().success());
}

#[test]
fn the_live_iso_boots_every_way_and_is_what_its_manifest_says() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = tempfile::tempdir().unwrap();
    let lycia = |arguments: &[&str]| {
        let status = Command::new(env!("CARGO_BIN_EXE_lycia"))
            .arg("--project")
            .arg(project)
            .args(arguments)
            .current_dir(output.path())
            .status()
            .unwrap();
        assert!(
            status.success(),
            "lycia {} ended with {status}",
            arguments.join(" ")
        );
    };
    lycia(&["build", "live", "--output", "."]);
    lycia(&[
        "test",
        "live-x86_64.iso",
        "--artifacts",
        "pictures",
        "--limit",
        "600",
    ]);
    for cell in ["bios-cd", "bios-disk", "uefi-cd", "uefi-disk"] {
        for picture in ["menu", "login"] {
            let path = output.path().join(format!("pictures/{cell}-{picture}.png"));
            assert!(path.metadata().unwrap().len() > 500, "{}", path.display());
        }
    }
    let folder = tempfile::tempdir_in(output.path()).unwrap();
    boots_from_a_file(&output.path().join("live-x86_64.iso"), folder.path());
}
