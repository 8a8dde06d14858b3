//! A machine with BIOS and sectors of 512 bytes, from a medium that was copied to memory: one disk is erased by answers of a drive, and measured against
//! dd; beside a system on another one an encrypted root is made through the screens of `lycia-install ask`, rescued from the same medium, and started twice.

use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::time::Duration;

use lycia_qemu::{Architecture, Firmware, Guest, Machine, Medium};

use crate::machine::{
    LIMIT, Other, ROOT, ROOT_HASH, USER, USER_HASH, Wanted, ask, empty, live, logged_in, off, pattern,
    refused, run, table, whole_root,
};
use crate::stick::stick;

/// Of the encrypted root, as it is typed.
const PASSPHRASE: &str = "a long passphrase";
/// A screen is drawn in less, on a machine that has other work.
const SCREEN: Duration = Duration::from_secs(60);
/// Where it lies while the live system runs, in memory.
const FILE: &str = "/run/passphrase";

/// Puts a system and room behind it on a disk: where, and its bytes.
pub fn occupied(disk: &Path) -> (u64, Vec<u8>) {
    run(
        "sgdisk",
        &[
            "--new=1:2048:+16M",
            "--typecode=1:8300",
            "--change-name=1:theirs",
            disk.to_str().unwrap(),
        ],
    );
    let (at, bytes) = (2048 * 512, pattern(16 << 20));
    let file = std::fs::File::options().write(true).open(disk).unwrap();
    file.write_all_at(&bytes, at).unwrap();
    (at, bytes)
}

fn answers() -> String {
    format!(
        "schema = 1
[disk]
select = \"lycia-2\"
layout = \"erase\"
swap-size = \"64M\"
[packages]
allocator = \"scudo\"
[system]
hostname = \"installed\"
timezone = \"Europe/Prague\"
[root]
password-hash = \"{ROOT_HASH}\"
[[user]]
name = \"tester\"
admin = true
password-hash = \"{USER_HASH}\"
[boot]
serial = \"ttyS0,115200\"
[confirm]
serial = \"lycia-2\"
"
    )
}

pub fn attended(iso: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let (target, erased) = (
        empty(folder.path(), "target.img"),
        empty(folder.path(), "erased.img"),
    );
    let other = Other::new(folder.path());
    let answers = stick(folder.path(), &answers());
    let (at, theirs) = occupied(&target);
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    // Room for the copy; and the less memory, the cheaper a passphrase.
    machine.memory_mib = 768;
    let [first, second, third] = [&target, &erased, &other.path].map(Medium::disk);
    let media = [
        first.clone(),
        second.clone(),
        third.clone(),
        Medium::disk(&answers.path),
    ];
    let guest = live(iso, &mut machine, &media, true);
    // Nothing of the medium is in use any more, and the installer has what it needs.
    let mounts = ask(&guest, "cat /proc/cmdline /proc/mounts");
    assert!(
        mounts.contains("toram") && !mounts.contains("/dev/sr0"),
        "{mounts}"
    );
    let saved = folder.path().join("saved.img");
    erase_and_measure(&guest, &erased, &saved);
    watch(&guest);
    screens(&guest);
    nothing_secret_was_seen(&guest);
    rescue(&guest);
    off(guest, &[&other, &answers]);
    std::fs::rename(&saved, &erased).unwrap();
    let untouched = Other::of(&erased);
    let mut now = vec![0; theirs.len()];
    let file = std::fs::File::open(&target).unwrap();
    file.read_exact_at(&mut now, at).unwrap();
    assert!(now == theirs, "the other system's partition changed");
    let partitions = table(&target, 512).partitions;
    assert!(partitions.iter().any(|one| one.name == "theirs"));

    // Nothing but a reboot between the two times.
    machine.no_reboot = false;
    machine.media = vec![first.clone(), second.clone(), third.clone()];
    let guest = machine.start().unwrap();
    let encrypted = Wanted {
        allocator: ("scudo", Some("libjemalloc-global.so")),
        root: "/dev/",
        swaps: &["/swapfile", "/dev/zram0"],
    };
    for words in [&["not the passphrase", PASSPHRASE][..], &[PASSPHRASE]] {
        guest.stage("the encrypted system");
        for (number, word) in words.iter().enumerate() {
            if number > 0 {
                guest.serial.expect("opens nothing", LIMIT).unwrap();
            }
            guest.serial.expect("Passphrase of root", LIMIT).unwrap();
            guest.serial.expect(": ", LIMIT).unwrap();
            guest.serial.send_line(word).unwrap();
        }
        logged_in(&guest, &encrypted);
        let boot = ask(&guest, "awk '$2 == \"/boot\" {print $3}' /proc/mounts");
        assert_eq!(boot.trim(), "ext4");
        let root = ask(
            &guest,
            "grep ' / ext4 ' /proc/mounts; cat /sys/block/dm-0/dm/name",
        );
        assert!(
            root.starts_with("/dev/dm-0 ") || root.starts_with("/dev/mapper/root "),
            "{root}"
        );
        assert!(root.trim_end().ends_with("\nroot"), "{root}");
        if words.len() > 1 {
            guest.serial.send_line("reboot").unwrap();
        }
    }
    assert!(!guest.serial.transcript().contains(PASSPHRASE));
    off(guest, &[&other, &untouched]);

    let untouched = Other::of(&target);
    machine.media = vec![second, first, third];
    let guest = machine.start().unwrap();
    let erased_is = Wanted {
        allocator: ("scudo", None),
        root: "/dev/vda",
        swaps: &["/dev/vda3"],
    };
    for again in [false, true] {
        guest.stage("the system on the erased disk");
        logged_in(&guest, &erased_is);
        if !again {
            guest.serial.send_line("reboot").unwrap();
        }
    }
    off(guest, &[&other, &untouched]);
    whole_root(&erased, 512);
}

/// Erases the second disk; afterwards its image is kept aside, and as many bytes are written to it by dd as the installation wrote.
fn erase_and_measure(guest: &Guest, erased: &Path, saved: &Path) {
    guest.stage("the erased disk");
    // Warm: the medium is in memory, and so is what the installer reads of it.
    let timed = |command: &str| -> (f64, u64) {
        let said = ask(
            guest,
            &format!(
                "a=$(cut -d' ' -f1 /proc/uptime); b=$(awk '{{print $7}}' /sys/block/vdb/stat); {command} >/run/said 2>&1 && sync || {{ cat /run/said; exit 1; }}; echo took $a $(cut -d' ' -f1 /proc/uptime) $b $(awk '{{print $7}}' /sys/block/vdb/stat)"
            ),
        );
        let line = said.lines().find_map(|line| line.strip_prefix("took ")).unwrap();
        let numbers: Vec<f64> = line
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        (
            numbers[1] - numbers[0],
            ((numbers[3] - numbers[2]) * 512.0) as u64,
        )
    };
    let (took, bytes) = timed("lycia-install install --answers drive");
    println!("{}", ask(guest, "grep '[0-9] s$' /run/said"));
    run(
        "cp",
        &[
            "--sparse=always",
            erased.to_str().unwrap(),
            saved.to_str().unwrap(),
        ],
    );
    let count = bytes >> 20;
    let (dd, written) = timed(&format!(
        "dd if=/dev/zero of=/dev/vdb bs=1M count={count} conv=fsync"
    ));
    println!(
        "offline installation: {took:.1} s for {count} MiB; dd of {} MiB to the same disk: {dd:.1} s; {:.2} times",
        written >> 20,
        took / dd
    );
}

/// From now on arguments and environment of all programs are looked at, once a second.
fn watch(guest: &Guest) {
    guest
        .serial
        .send_line("(while [ ! -e /run/stop ]; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ | tr '\\0' '\\n'; sleep 1; done >/run/seen 2>/dev/null) &")
        .unwrap();
}

/// Neither passphrase nor hash was in arguments, environment, logs or files, while one program was seen at its work.
fn nothing_secret_was_seen(guest: &Guest) {
    let said = ask(
        guest,
        "touch /run/stop; sleep 3; grep -c lycia-install /run/seen; dmesg >/run/kernel; \
         find /run /var /tmp /root /etc -path /run/live -prune -o -type f -exec grep -l -F -e 'long passphrase' \
         -e 'another passphrase' -e 'lycia$M3Zj' -e 'lycia2$h3AN' {} + 2>/dev/null; rm /run/seen",
    );
    let lines: Vec<&str> = said
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    assert!(lines.len() == 1 && lines[0] != "0", "{said}");
}

/// Everything is asked for, line by line; passwords and passphrase are not shown.
/// Line by line, as with speech and braille: to the third question, where the answers are saved.
fn line_by_line(guest: &Guest) {
    let said = ask(
        guest,
        "printf '1\\nalongside\\n<\\nerase\\n!s\\n' | lycia-install ask --plain --save /run/plain.toml && cat /run/plain.toml",
    );
    assert!(
        said.contains("layout = \"erase\"") && said.contains("the answers are in"),
        "{said}"
    );
}

/// The whole screen, over a serial line of 80 by 24.
fn screens(guest: &Guest) {
    guest.stage("the screens");
    line_by_line(guest);
    guest
        .serial
        .send_line("lycia-install ask --save /run/saved.toml; echo left \"with $?\"")
        .unwrap();
    // Keys, and what stands in the first line then. Control-L draws it anew, in one piece.
    let keys = |keys: &str, bar: &str| {
        guest.serial.send(format!("{keys}\x0c").as_bytes()).unwrap();
        // A key that was lost is found out soon.
        let found = guest.serial.expect(bar, SCREEN);
        found.unwrap_or_else(|error| panic!("{bar}: {error}\n{}", guest.serial.tail(60)));
    };
    guest.serial.expect("Disk, 1 of", LIMIT).unwrap();
    for (typed, bar) in [
        ("1\r", "Disk, 2 of"),
        // Back and forth.
        ("2\r", "Disk, 3 of"),
        ("\x1b", "Disk, 2 of"),
        ("\r", "Disk, 3 of"),
        ("\r", "Disk, 4 of"),
        ("\r", "Disk, 5 of"),
        // Encrypted; then no partition for swap is offered.
        ("\x1b[B\r", "Disk, 6 of"),
        ("64M\r", "Disk, 7 of"),
        ("64M\r", "Packages, 8 of"),
        ("\r", "Packages, 9 of"),
        // Of the sets the first.
        (" \r", "Packages, 10 of"),
        ("\r", "Packages, 11 of"),
        // mimalloc
        ("3\r", "System, 12 of"),
        ("no good name\r", "System, 12 of"),
        ("\x15installed\r", "System, 13 of"),
        // Completed from the zones of the medium.
        ("europe/pra\x1b[B\r", "System, 14 of"),
        ("\r", "System, 15 of"),
        ("\r", "Accounts, 16 of"),
    ] {
        keys(typed, bar);
    }
    // Drawn anew while it stands there: stars, and as many as it has characters.
    keys(ROOT, "Accounts, 16 of");
    guest.serial.expect(&"*".repeat(ROOT.len()), SCREEN).unwrap();
    keys(&format!("\r{ROOT}\r"), "Accounts, 17 of");
    keys("tester\r", "Accounts, 18 of");
    keys(&format!("{USER}\r{USER}\r"), "Accounts, 19 of");
    keys("\r", "All answers");
    keys("\r", "The plan");
    guest.stage("the installation beside another system");
    keys("vda\r", "The plan");
    let wrong = "another passphrase";
    keys(PASSPHRASE, "The plan");
    guest
        .serial
        .expect(&"*".repeat(PASSPHRASE.len()), SCREEN)
        .unwrap();
    keys(&format!("\r{wrong}\r"), "The plan");
    guest
        .serial
        .send(format!("{PASSPHRASE}\r{PASSPHRASE}\r").as_bytes())
        .unwrap();
    let ended = guest
        .serial
        .expect_any(&["Installed", "did not end"], LIMIT)
        .unwrap();
    assert_eq!(ended.index, 0, "{}", guest.serial.tail(60));
    guest.serial.send(b"3\r").unwrap();
    guest.serial.expect("left with 0", LIMIT).unwrap();
    // Nothing that was typed in secret is on the console or in a file.
    let typed = guest.serial.transcript();
    for secret in [ROOT, PASSPHRASE, wrong] {
        assert!(!typed.contains(secret), "{secret} was shown");
    }
    let saved = ask(guest, "stat -c %a /run/saved.toml; cat /run/saved.toml");
    assert!(
        saved.starts_with("600") && !saved.contains(ROOT) && !saved.contains(PASSPHRASE),
        "{saved}"
    );
    assert!(
        saved.contains("Europe/Prague") && saved.contains("mimalloc"),
        "{saved}"
    );
}

/// The encrypted system, from outside: found locked, opened, its allocator changed, what starts it destroyed and made again.
fn rescue(guest: &Guest) {
    guest.stage("the rescue of an encrypted system");
    let systems = ask(guest, "lycia-install systems");
    let locked: Vec<&str> = systems
        .lines()
        .filter(|line| line.ends_with("LUKS2, locked"))
        .collect();
    assert!(
        locked.len() == 1 && locked[0].starts_with("/dev/vda"),
        "{systems}"
    );
    let uuid = locked[0].split_whitespace().nth(1).unwrap();
    // Nobody is there who could be asked.
    let said = refused(guest, &format!("lycia-install mount /mnt --system {uuid}"), 2);
    assert!(said.contains("--passphrase-file"), "{said}");
    ask(
        guest,
        &format!("umask 077; printf '%s\\n' '{PASSPHRASE}' >{FILE}; mkdir -p /run/found"),
    );
    let with = format!("--system {uuid} --passphrase-file {FILE}");
    let systems = ask(guest, &format!("lycia-install systems --passphrase-file {FILE}"));
    let inside = format!("in LUKS2 {uuid}");
    let line = systems
        .lines()
        .find(|line| line.contains(&inside))
        .unwrap_or_else(|| panic!("{systems}"));
    assert!(line.contains("  installed  "), "{systems}");
    let said = ask(guest, &format!("lycia-install allocator jemalloc {with}"));
    assert!(said.contains("the allocator is jemalloc now"), "{said}");
    let closed = || {
        let left = ask(
            guest,
            "ls /dev/mapper; cat /sys/block/dm-*/dm/name 2>/dev/null; true",
        );
        assert!(!left.contains("lycia-luks"), "{left}");
    };
    closed();
    ask(guest, &format!("lycia-install mount /run/found {with}"));
    let there = ask(
        guest,
        "ls /dev/mapper; ls /run/found/boot; rm /run/found/boot/grub/grub.cfg /run/found/boot/initramfs-*",
    );
    assert!(
        there.contains("lycia-luks") && there.contains("vmlinuz-"),
        "{there}"
    );
    // Somebody who knows nothing of the verb for that.
    ask(
        guest,
        "for d in run sys proc dev boot/efi boot; do umount /run/found/$d; done; umount /run/found; sleep 1",
    );
    let left = ask(guest, "cat /sys/block/dm-*/dm/name 2>/dev/null; true");
    assert!(!left.contains("lycia-luks"), "{left}");
    ask(
        guest,
        "dd if=/dev/zero of=/dev/vda bs=440 count=1 conv=notrunc,fsync",
    );
    let said = ask(guest, &format!("lycia-install boot-repair {with} --confirm vda"));
    assert!(
        said.contains("starts from /dev/vda again") && said.contains("code of the first sector"),
        "{said}"
    );
    ask(
        guest,
        &format!("lycia-install mount /run/found {with} && lycia-install unmount /run/found"),
    );
    closed();
    let said = ask(guest, &format!("lycia-install fsck {with}"));
    assert!(said.contains("is sound"), "{said}");
    closed();
    ask(guest, &format!("rm {FILE}"));
}
