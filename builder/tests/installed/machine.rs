//! Disks, guests and what an installed system has to be like.

use std::collections::BTreeSet;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lycia_media::partition::gpt;
use lycia_qemu::{Guest, Key, Machine, Medium};

/// For each stage, on a machine that has other work.
pub const LIMIT: Duration = Duration::from_secs(900);
/// Bytes of a disk that is installed to.
pub const DISK: u64 = 3 << 30;
/// Passwords as they are typed.
pub const USER: &str = "installed";
pub const ROOT: &str = "rooted";
/// `openssl passwd -6 -salt lycia installed` and `openssl passwd -6 -salt lycia2 rooted`.
pub const USER_HASH: &str =
    "$6$lycia$M3ZjskQIxkebyqdWGJMywgopuHEKZC23YcTyNRw0SuhggDlmRF2cPDPlvKMzOpbF7WKLBotVXgL5s9gYCQRIW.";
pub const ROOT_HASH: &str =
    "$6$lycia2$h3ANLr6hiWBbw7j7MNSMoVkFM3NrhxuQtT6kicBWjyx/RtOAE/KucYkfZeGjZizwq3sY5AggEfVC7UMp.m04k0";

/// What a command in the guest says that ends well.
pub fn ask(guest: &Guest, command: &str) -> String {
    guest
        .serial
        .run(command, LIMIT)
        .and_then(lycia_qemu::Output::successful)
        .unwrap()
}

/// What a command in the guest says that does not end well.
pub fn refused(guest: &Guest, command: &str, status: i32) -> String {
    let output = guest.serial.run(command, LIMIT).unwrap();
    assert_eq!(output.status, status, "{command}: {}", output.text);
    output.text
}

/// What a program of this machine says.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!("{program}: {error}; `lycia doctor --install` installs what tests need")
        });
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program}: {said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

/// Bytes that no installer writes.
pub fn pattern(length: u32) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// An empty disk.
pub fn empty(folder: &Path, name: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::File::create(&path).unwrap().set_len(DISK).unwrap();
    path
}

/// A disk that must not change.
pub struct Other {
    pub path: PathBuf,
    untouched: Vec<u8>,
}

impl Other {
    /// A small one with bytes of its own.
    pub fn new(folder: &Path) -> Other {
        let path = folder.join("other.img");
        std::fs::write(&path, pattern(8 << 20)).unwrap();
        Other::of(&path)
    }

    /// One as it is now.
    pub fn of(path: &Path) -> Other {
        Other {
            path: path.to_owned(),
            untouched: digest(path),
        }
    }

    pub fn check(&self) {
        assert!(
            digest(&self.path) == self.untouched,
            "{} changed",
            self.path.display()
        );
    }
}

/// Of everything that is not a hole.
fn digest(path: &Path) -> Vec<u8> {
    use sha2::{Digest as _, Sha256};
    let file = std::fs::File::open(path).unwrap();
    let length = file.metadata().unwrap().len();
    let mut sum = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < length {
        let count = (length - at).min(buffer.len() as u64) as usize;
        file.read_exact_at(&mut buffer[..count], at).unwrap();
        // Holes are most of it.
        if buffer[..count].iter().any(|&byte| byte != 0) {
            sum.update(at.to_le_bytes());
            sum.update(&buffer[..count]);
        }
        at += count as u64;
    }
    sum.finalize().to_vec()
}

/// Ends a guest as its users do, and looks at the disks that must not have changed.
pub fn off(guest: Guest, others: &[&Other]) {
    guest.serial.send_line("poweroff").unwrap();
    assert!(guest.wait_exit(LIMIT).unwrap().success());
    drop(guest);
    others.iter().for_each(|other| other.check());
}

/// The partitions of a disk, whose table is sound.
pub fn table(disk: &Path, sector: u32) -> gpt::Table {
    let mut file = std::fs::File::open(disk).unwrap();
    let (table, _) = gpt::Table::read(&mut file, sector).unwrap();
    if sector == 512 {
        let said = run("sgdisk", &["--verify", disk.to_str().unwrap()]);
        assert!(said.contains("No problems found"), "{said}");
    }
    table
}

/// The root that the kernel mounted and wrote to is whole.
pub fn whole_root(disk: &Path, sector: u32) {
    let table = table(disk, sector);
    let largest = table
        .partitions
        .iter()
        .max_by_key(|one| one.last - one.first)
        .unwrap();
    let offset = largest.first * u64::from(sector);
    run("e2fsck", &["-fn", &format!("{}?offset={offset}", disk.display())]);
}

/// The live system, with root logged in; `toram` by the menu's own entry.
pub fn live(iso: &Path, machine: &mut Machine, disks: &[Medium], toram: bool) -> Guest {
    machine.media = vec![Medium::cdrom(iso)];
    machine.media.extend_from_slice(disks);
    let mut guest = machine.start().unwrap();
    guest.stage("the live system");
    if toram {
        guest.serial.expect("copied to memory", LIMIT).unwrap();
        guest.send_keys(&[Key::Down, Key::Enter]).unwrap();
    }
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    guest
}

/// What an installed system must be, beside what its records say.
pub struct Wanted<'a> {
    /// The allocator of its C library, and what it has preloaded.
    pub allocator: (&'a str, Option<&'a str>),
    /// Node of its root, as mounted.
    pub root: &'a str,
    /// Areas of swap.
    pub swaps: &'a [&'a str],
}

/// Logs in as the new user and as root, and compares what runs with what was planned.
pub fn logged_in(guest: &Guest, wanted: &Wanted<'_>) {
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("tester", USER, LIMIT).unwrap();
    let who = ask(guest, "id -un; hostname; id -Gn");
    let mut who = who.lines().map(str::trim);
    assert_eq!(who.next(), Some("tester"));
    assert_eq!(who.next(), Some("installed"));
    assert!(who.next().unwrap().split(' ').any(|group| group == "wheel"));
    guest.serial.send_line("exit").unwrap();
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", ROOT, LIMIT).unwrap();
    // What a kernel says that waits for a busy machine would stand between answers.
    ask(guest, "dmesg -n 1");
    is_as_planned(guest, wanted);
    allocates(guest, wanted.allocator, true);
}

/// What the installation recorded as its plan is what runs.
fn is_as_planned(guest: &Guest, wanted: &Wanted<'_>) {
    let plan = ask(guest, "cat /var/log/lycia-install/plan.txt");
    let lines = |key: &str| -> Vec<&str> {
        let values = plan.lines().filter_map(|line| line.trim().split_once(' '));
        let own = values.filter(|(name, _)| *name == key);
        own.map(|(_, value)| value.trim()).collect()
    };
    // The EFI system partition is mounted when somebody wants it.
    let mounts = ask(
        guest,
        "if grep -q ' /boot/efi ' /etc/fstab; then mount /boot/efi || exit 1; fi; cat /proc/mounts",
    );
    for planned in lines("mount") {
        let mut words = planned
            .split_whitespace()
            .skip_while(|word| !word.starts_with('/'));
        let (Some(place), Some(kind)) = (words.next(), words.next()) else {
            continue;
        };
        if kind == "swap" {
            continue;
        }
        let there = mounts.lines().any(|line| {
            let mut words = line.split(' ').skip(1);
            words.next() == Some(place) && words.next() == Some(kind)
        });
        assert!(there, "{planned} is not in\n{mounts}");
    }
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some("/"))
        .unwrap();
    assert!(root.starts_with(wanted.root) && root.contains(" rw"), "{root}");
    let swaps = ask(guest, "cat /proc/swaps");
    let areas: BTreeSet<&str> = swaps
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert_eq!(areas, wanted.swaps.iter().copied().collect(), "{swaps}");
    // World changes with the allocator, which is looked at by itself.
    let allocators = ["musl", "musl-mallocng", "musl-safety-override-consent"];
    let words = |text: &str| -> BTreeSet<String> {
        text.split_whitespace()
            .filter(|word| !allocators.contains(word) && !word.ends_with("-global"))
            .map(str::to_owned)
            .collect()
    };
    assert_eq!(
        words(&ask(guest, "cat /etc/apk/world")),
        words(&lines("world").join(" "))
    );
    assert!(ask(guest, "readlink /etc/localtime").contains("Europe/Prague"));
    assert!(plan.contains("Europe/Prague") && plan.contains("installed") && plan.contains("tester"));
    let services = ask(guest, "seedctl list --plain");
    assert!(!services.to_lowercase().contains("fail"), "{services}");
    for planned in lines("services").join(" ").split_whitespace() {
        assert!(services.contains(planned), "{planned} is not in\n{services}");
    }
    // Nothing that opens the system is in what anybody may read.
    let readable = ask(
        guest,
        "grep -rl -e '\\$6\\$lycia' -e 'a long passphras[e]' /etc /var/log /root /home /boot 2>/dev/null | grep -v '^/etc/shadow$' | while read f; do [ -z \"$(find \"$f\" -perm -004)\" ] || echo \"$f\"; done; true",
    );
    assert_eq!(readable.trim(), "", "a secret is open to everybody");
}

/// What the running system says of its allocator and what its programs have mapped. `services`: those that run have it, too.
pub fn allocates(guest: &Guest, (inside, preloaded): (&str, Option<&str>), services: bool) {
    let said = ask(guest, "lycia-install allocator");
    assert!(!said.contains("problem"), "{said}");
    // A program that was just started asks the C library itself.
    assert_eq!(ask(guest, "LD_PRELOAD= libc-allocator").trim(), inside, "{said}");
    let mut texts = vec![ask(
        guest,
        "sh -lc 'echo LD_PRELOAD=$LD_PRELOAD; cat /proc/self/maps'",
    )];
    if services {
        texts.push(ask(
            guest,
            "p=$(pidof syslogd | cut -d' ' -f1); tr '\\0' '\\n' </proc/$p/environ; cut -c74- /proc/$p/maps | sort -u",
        ));
    }
    for text in texts {
        match preloaded {
            Some(library) => {
                assert!(text.contains(&format!("LD_PRELOAD=/usr/lib/{library}")), "{text}");
                // The variable, and the mapping.
                assert!(text.matches(library).count() >= 2, "{text}");
                assert!(said.contains(library), "{said}");
            }
            None => assert!(!text.contains("-global"), "{text}"),
        }
        assert!(text.contains("libc.so") && !text.contains("(deleted)"), "{text}");
    }
}
