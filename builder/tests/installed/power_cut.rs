//! A machine that installs by its kernel's command line, without anybody; its power is cut while the root is written. Started the same way it goes on by itself,
//! and its power is cut again. The medium, started for somebody, finds that and finishes it from what is on the disk; only the passwords have to be given again.

use std::path::Path;

use lycia_qemu::{Architecture, DirectBoot, Firmware, Machine, Medium};

use crate::machine::{
    LIMIT, Other, ROOT, ROOT_HASH, USER, USER_HASH, Wanted, empty, logged_in, off, refused, run, whole_root,
};
use crate::stick::stick;

fn answers() -> String {
    format!(
        "schema = 1
[disk]
select = \"lycia-0\"
layout = \"erase\"
swap-size = \"64M\"
[packages]
allocator = \"scudo\"
[system]
hostname = \"installed\"
timezone = \"Europe/Prague\"
[network]
kind = \"none\"
[root]
password-hash = \"{ROOT_HASH}\"
[[user]]
name = \"tester\"
admin = true
password-hash = \"{USER_HASH}\"
[boot]
serial = \"ttyS0,115200\"
[confirm]
serial = \"lycia-0\"
"
    )
}

/// Kernel, initramfs and command line of the medium's first entry, for a start without its menu.
fn first_entry(iso: &Path, folder: &Path) -> DirectBoot {
    let said = run(
        env!("CARGO_BIN_EXE_lycia"),
        &["inspect", "--json", iso.to_str().unwrap()],
    );
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let entry = &report["part"]["entries"][0];
    let word = |key: &str| entry[key].as_str().unwrap().to_owned();
    let (kernel, initramfs) = (folder.join("kernel"), folder.join("initramfs"));
    let path = word("kernel");
    let beside = path.rsplit_once('/').unwrap().0.to_owned() + "/initrd";
    for (from, to) in [(path, &kernel), (beside, &initramfs)] {
        let words = ["-osirrox", "on", "-indev", iso.to_str().unwrap(), "-extract"];
        run(
            "xorriso",
            &[&words[..], &[from.as_str(), to.to_str().unwrap()]].concat(),
        );
    }
    DirectBoot {
        kernel,
        initramfs: Some(initramfs),
        command_line: word("arguments"),
    }
}

pub fn without_anybody(iso: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let disk = empty(folder.path(), "disk.img");
    let other = Other::new(folder.path());
    let answers = stick(folder.path(), &answers());
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    let disks = [
        Medium::disk(&disk),
        Medium::disk(&other.path),
        Medium::disk(&answers.path),
    ];
    machine.media = disks.to_vec();
    machine.media.push(Medium::cdrom(iso));
    let entry = first_entry(iso, folder.path());
    let mut unattended = entry.clone();
    unattended.command_line += " console=ttyS0,115200 lycia.answers=drive lycia.after=poweroff";
    machine.direct_boot = Some(unattended);
    for (stage, heard) in [
        ("the installation without anybody", None),
        (
            "the same again without anybody",
            Some("on this disk; going on with it"),
        ),
    ] {
        let guest = machine.start().unwrap();
        guest.stage(stage);
        if let Some(heard) = heard {
            guest.serial.expect(heard, LIMIT).unwrap();
        }
        guest.serial.expect("writing: root file system", LIMIT).unwrap();
        // As the power goes: nothing more is written, not even what the guest holds in memory.
        drop(guest);
        other.check();
        answers.check();
    }

    let mut again = entry;
    again.command_line += " console=ttyS0,115200";
    machine.direct_boot = Some(again);
    let guest = machine.start().unwrap();
    guest.stage("the medium, started again");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    let said = refused(&guest, "lycia-install install --answers drive", 8);
    assert!(said.contains("was interrupted"), "{said}");
    let begin = "lycia-install ask --save /run/saved.toml; echo left with $?";
    guest.serial.send_line(begin).unwrap();
    guest
        .serial
        .expect("was interrupted; its next step is", LIMIT)
        .unwrap();
    guest.serial.expect("or nothing to stop: ", LIMIT).unwrap();
    guest.serial.send_line("x").unwrap();
    guest.serial.expect("`x` is none of them", LIMIT).unwrap();
    guest.serial.send_line("r").unwrap();
    for (login, password) in [("root", ROOT), ("tester", USER)] {
        guest
            .serial
            .expect(&format!("Password of {login}"), LIMIT)
            .unwrap();
        guest.serial.send_line(password).unwrap();
        guest.serial.expect("The same again", LIMIT).unwrap();
        guest.serial.send_line(password).unwrap();
    }
    guest.serial.expect("Type `vda` to write", LIMIT).unwrap();
    guest.serial.expect("to stop: ", LIMIT).unwrap();
    guest.serial.send_line("vda").unwrap();
    guest.serial.expect("installed on /dev/vda", LIMIT).unwrap();
    guest.serial.expect("left with 0", LIMIT).unwrap();
    assert!(!guest.serial.transcript().contains(ROOT));
    let log = crate::machine::ask(&guest, "cat /var/log/lycia-install.log");
    assert!(
        log.contains("goes on with an interrupted installation") && log.trim_end().ends_with("installed"),
        "{log}"
    );
    off(guest, &[&other, &answers]);

    machine.direct_boot = None;
    machine.media = disks.to_vec();
    let guest = machine.start().unwrap();
    guest.stage("the installed system");
    logged_in(
        &guest,
        &Wanted {
            allocator: ("scudo", None),
            root: "/dev/vda",
            swaps: &["/dev/vda3"],
        },
    );
    off(guest, &[&other, &answers]);
    whole_root(&disk, 512);
}
