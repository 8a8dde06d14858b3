//! The live ISO installs the system, which then boots by itself into what was asked for, and is rescued from the same medium.
//!
//! Two machines at a time. One, with BIOS, is installed to through the screens of `lycia-install ask` on a serial line of 80 by 24, beside a system that is
//! there, with an allocator that is preloaded. The other, with UEFI and sectors of 4096 bytes, takes answers from a labelled drive and packages
//! from a server, and gets another C library, which is taken back from outside, as is a boot loader that was destroyed. No other disk changes.

#![allow(clippy::unwrap_used)]

use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use lycia_media::partition::gpt;
use lycia_qemu::{Architecture, Firmware, Guest, Machine, Medium, Network, Service};

/// For each stage, on a machine that has other work.
const LIMIT: Duration = Duration::from_secs(600);
/// Bytes of the disk that is installed to.
const DISK: u64 = 3 << 30;
/// Passwords as they are typed.
const USER: &str = "installed";
const ROOT: &str = "rooted";
/// `openssl passwd -6 -salt lycia installed` and `openssl passwd -6 -salt lycia2 rooted`.
const USER_HASH: &str =
    "$6$lycia$M3ZjskQIxkebyqdWGJMywgopuHEKZC23YcTyNRw0SuhggDlmRF2cPDPlvKMzOpbF7WKLBotVXgL5s9gYCQRIW.";
const ROOT_HASH: &str =
    "$6$lycia2$h3ANLr6hiWBbw7j7MNSMoVkFM3NrhxuQtT6kicBWjyx/RtOAE/KucYkfZeGjZizwq3sY5AggEfVC7UMp.m04k0";

fn ask(guest: &Guest, command: &str) -> String {
    guest
        .serial
        .run(command, LIMIT)
        .and_then(lycia_qemu::Output::successful)
        .unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
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
fn pattern(length: u32) -> Vec<u8> {
    (0..length)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

/// The disks of a machine: the one that is installed to, and one that must not change.
struct Disks {
    folder: tempfile::TempDir,
    disk: PathBuf,
    other: PathBuf,
    untouched: Vec<u8>,
}

impl Disks {
    fn new() -> Disks {
        let folder = tempfile::tempdir().unwrap();
        let (disk, other) = (folder.path().join("disk.img"), folder.path().join("other.img"));
        std::fs::File::create(&disk).unwrap().set_len(DISK).unwrap();
        let untouched = pattern(8 << 20);
        std::fs::write(&other, &untouched).unwrap();
        Disks {
            folder,
            disk,
            other,
            untouched,
        }
    }

    fn off(&self, guest: Guest) {
        guest.serial.send_line("poweroff").unwrap();
        assert!(guest.wait_exit(LIMIT).unwrap().success());
        drop(guest);
        assert!(
            std::fs::read(&self.other).unwrap() == self.untouched,
            "the other disk changed"
        );
    }

    /// The table is sound, and the root that the kernel mounted and wrote to is whole.
    fn check(&self, sector: u32) -> gpt::Table {
        let mut file = std::fs::File::open(&self.disk).unwrap();
        let (table, _) = gpt::Table::read(&mut file, sector).unwrap();
        let largest = table
            .partitions
            .iter()
            .max_by_key(|one| one.last - one.first)
            .unwrap();
        let offset = largest.first * u64::from(sector);
        run(
            "e2fsck",
            &["-fn", &format!("{}?offset={offset}", self.disk.display())],
        );
        table
    }
}

/// The live system, with root logged in.
fn live(iso: &Path, machine: &mut Machine, disks: &[Medium]) -> Guest {
    machine.media = vec![Medium::cdrom(iso)];
    machine.media.extend_from_slice(disks);
    let guest = machine.start().unwrap();
    guest.stage("the live system");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", "chimera", LIMIT).unwrap();
    guest
}

/// The installed system, with root logged in, after the user was.
fn installed(machine: &mut Machine, disks: &[Medium]) -> Guest {
    machine.media = disks.to_vec();
    let guest = machine.start().unwrap();
    guest.stage("the installed system");
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("tester", USER, LIMIT).unwrap();
    let who = ask(&guest, "id -un; hostname; id -Gn");
    let mut who = who.lines().map(str::trim);
    assert_eq!(who.next(), Some("tester"));
    assert_eq!(who.next(), Some("installed"));
    assert!(who.next().unwrap().split(' ').any(|group| group == "wheel"));
    guest.serial.send_line("exit").unwrap();
    guest.serial.expect("login:", LIMIT).unwrap();
    guest.serial.login("root", ROOT, LIMIT).unwrap();
    let mounts = ask(&guest, "cat /proc/mounts");
    let root = mounts
        .lines()
        .find(|line| line.split(' ').nth(1) == Some("/"))
        .unwrap_or_default();
    assert!(root.contains(" ext4 ") && root.contains("rw"), "{mounts}");
    assert!(ask(&guest, "cat /proc/swaps").lines().count() == 2);
    assert!(ask(&guest, "readlink /etc/localtime").contains("Europe/Prague"));
    let services = ask(&guest, "seedctl list --plain");
    assert!(!services.to_lowercase().contains("fail"), "{services}");
    guest
}

/// What the running system says of its allocator, and what a service of it has mapped.
fn allocates(guest: &Guest, report: &str, preloaded: Option<&str>) {
    let said = ask(guest, "lycia-install allocator");
    assert!(said.contains(report) && !said.contains("problem"), "{said}");
    let service = ask(
        guest,
        "p=$(pidof syslogd | cut -d' ' -f1); tr '\\0' '\\n' </proc/$p/environ; cut -c74- /proc/$p/maps | sort -u",
    );
    // A new login shell has it too.
    let shell = ask(guest, "sh -lc 'echo $LD_PRELOAD; cat /proc/self/maps'");
    match preloaded {
        Some(library) => {
            assert!(
                service.contains(&format!("LD_PRELOAD=/usr/lib/{library}")),
                "{service}"
            );
            // The variable, and the mapping.
            assert!(service.matches(library).count() >= 2, "{service}");
            assert!(shell.matches(library).count() >= 2, "{shell}");
        }
        None => assert!(
            !service.contains("LD_PRELOAD") && !shell.contains("-global"),
            "{service}{shell}"
        ),
    }
}

/// A disk with a system on it and room behind it.
fn occupied(disks: &Disks) -> (u64, Vec<u8>) {
    let disk = disks.disk.to_str().unwrap();
    run(
        "sgdisk",
        &[
            "--new=1:2048:+16M",
            "--typecode=1:8300",
            "--change-name=1:theirs",
            disk,
        ],
    );
    let (at, bytes) = (2048 * 512, pattern(16 << 20));
    let file = std::fs::File::options().write(true).open(&disks.disk).unwrap();
    file.write_all_at(&bytes, at).unwrap();
    (at, bytes)
}

fn attended(iso: &Path) {
    let disks = Disks::new();
    let (at, theirs) = occupied(&disks);
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    let media = [Medium::disk(&disks.disk), Medium::disk(&disks.other)];
    let guest = live(iso, &mut machine, &media);
    // A serial line says nothing of its size: it is taken for 80 by 24.
    guest.stage("the screens");
    guest
        .serial
        .send_line("lycia-install ask --save /run/saved.toml; echo left \"with $?\"")
        .unwrap();
    // In whatever order they come.
    let answers: &[(&str, &[&str])] = &[
        (": Disk", &["1"]),
        (": Layout", &["alongside"]),
        (": EFI system partition", &[""]),
        (": Encryption", &[""]),
        // The partition, then the file.
        (": Swap", &["64M", "none"]),
        (": Compressed swap", &[""]),
        (": Kernel", &[""]),
        (": Memory allocator", &["mimalloc"]),
        (": Host name", &["no good name", "installed"]),
        (": Time zone", &["Europe/Prague"]),
        (": Keyboard", &[""]),
        (": Network", &[""]),
        (": Password of root", &[ROOT]),
        (": User", &["tester"]),
        (": Password of the user", &[USER]),
        (": Again, please", &[]),
    ];
    let mut patterns: Vec<&str> = answers.iter().map(|(title, _)| *title).collect();
    patterns.extend(["Type `vda`", "left with"]);
    let mut given = vec![0; answers.len()];
    let mut secret = "";
    loop {
        let found = guest.serial.expect_any(&patterns, LIMIT).unwrap();
        let at = found.index;
        if at >= answers.len() {
            assert_eq!(at, answers.len(), "{}", guest.serial.tail(40));
            break;
        }
        guest.serial.expect("> ", LIMIT).unwrap();
        let (title, lines) = answers[at];
        let line = if lines.is_empty() {
            secret
        } else {
            let line = *lines
                .get(given[at])
                .unwrap_or_else(|| panic!("{title} comes again\n{}", guest.serial.tail(40)));
            given[at] += 1;
            line
        };
        secret = line;
        guest.serial.send_line(line).unwrap();
    }
    guest.stage("the installation");
    guest.serial.send_line("vda").unwrap();
    guest.serial.expect("installed on /dev/vda", LIMIT).unwrap();
    guest.serial.expect("left with 0", LIMIT).unwrap();
    // Nothing that was typed in secret is on the console or in a file.
    for password in [USER, ROOT] {
        let typed = guest.serial.transcript();
        let lines = typed.lines().filter(|line| line.trim() == password);
        assert_eq!(lines.count(), 0, "{password} was shown");
    }
    let saved = ask(&guest, "stat -c %a /run/saved.toml; cat /run/saved.toml");
    assert!(saved.starts_with("600") && !saved.contains(ROOT), "{saved}");
    disks.off(guest);
    let file = std::fs::File::open(&disks.disk).unwrap();
    let mut now = vec![0; theirs.len()];
    file.read_exact_at(&mut now, at).unwrap();
    assert!(now == theirs, "the other system's partition changed");

    let guest = installed(&mut machine, &media);
    let world = ask(&guest, "cat /etc/apk/world");
    let wants = |name: &str| world.split_whitespace().any(|word| word == name);
    assert!(
        wants("mimalloc-global") && wants("linux-cloud") && !wants("musl-mallocng"),
        "{world}"
    );
    allocates(
        &guest,
        "mimalloc, preloaded over scudo",
        Some("libmimalloc-global.so"),
    );
    disks.off(guest);
    let table = disks.check(512);
    assert!(table.partitions.iter().any(|one| one.name == "theirs"));
    let said = run("sgdisk", &["--verify", disks.disk.to_str().unwrap()]);
    assert!(said.contains("No problems found"), "{said}");
}

/// `lycia repo serve` on a free port; ended with this.
struct Server {
    child: Child,
    port: u16,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(project: &Path) -> Server {
    let store = std::env::var_os("XDG_CACHE_HOME").map_or_else(
        || PathBuf::from(std::env::var_os("HOME").unwrap()).join(".cache"),
        PathBuf::from,
    );
    let mut child = Command::new(env!("CARGO_BIN_EXE_lycia"))
        .arg("--project")
        .arg(project)
        .args(["repo", "serve", "--listen", "127.0.0.1:0"])
        .arg(store.join("lycia/seed/repository"))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    let port = line.trim().trim_end_matches('/').rsplit(':').next().unwrap();
    Server {
        port: port.parse().unwrap_or_else(|_| panic!("no port in {line:?}")),
        child,
    }
}

fn from_a_server(iso: &Path, project: &Path) {
    let disks = Disks::new();
    let server = serve(project);
    let repository = format!("http://{}:8080", Service::ADDRESS);
    // The answers, on a stick.
    let text = format!(
        "schema = 1
[disk]
select = \"lycia-1\"
layout = \"erase\"
swap-size = \"64M\"
[source]
kind = \"network\"
repositories = [\"v3 ${{mirror}}\"]
mirrors = [\"{repository}/nothing-here\", \"{repository}\"]
[packages]
allocator = \"mallocng\"
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
serial = \"lycia-1\"
"
    );
    let (answers, stick) = (
        disks.folder.path().join("answers.toml"),
        disks.folder.path().join("stick.img"),
    );
    std::fs::write(&answers, text).unwrap();
    std::fs::File::create(&stick).unwrap().set_len(4 << 20).unwrap();
    let path = stick.to_str().unwrap();
    run("mkfs.vfat", &["-n", "LYCIA_ANSWE", path]);
    run("mcopy", &["-i", path, answers.to_str().unwrap(), "::/"]);
    let stick_was = std::fs::read(&stick).unwrap();

    let mut machine = Machine::new(Architecture::X86_64, Firmware::Uefi);
    machine.network = Network::Isolated(vec![]);
    machine.services = vec![Service {
        guest: 8080,
        host: server.port,
    }];
    let media = [
        Medium::disk_4k(&disks.disk),
        Medium::disk(&disks.other),
        Medium::disk(&stick),
    ];
    let guest = live(iso, &mut machine, &media);
    ask(
        &guest,
        "n=0; until ip -4 addr | grep -q 'inet 10\\.'; do n=$((n+1)); [ $n -lt 120 ] || exit 1; sleep 1; done",
    );
    guest.stage("the plan");
    // Without consent nothing is written.
    let refused = guest
        .serial
        .run("lycia-install install --answers drive --confirm 0000", LIMIT)
        .unwrap();
    assert_eq!(refused.status, 7, "{}", refused.text);
    let mut beginning = vec![1; 1 << 20];
    std::fs::File::open(&disks.disk)
        .and_then(|mut disk| disk.read_exact(&mut beginning))
        .unwrap();
    assert!(beginning.iter().all(|&byte| byte == 0), "something was written");
    guest.stage("the installation");
    let said = ask(&guest, "lycia-install install --answers drive");
    assert!(said.contains(&repository), "{said}");
    disks.off(guest);
    drop(server);
    assert!(std::fs::read(&stick).unwrap() == stick_was, "the stick changed");

    let guest = installed(&mut machine, &media);
    let world = ask(&guest, "cat /etc/apk/world /etc/apk/repositories");
    assert!(
        world.contains("musl-mallocng") && world.contains(&repository),
        "{world}"
    );
    allocates(&guest, "allocator  mallocng", None);
    disks.off(guest);

    // From outside: the allocator in one command, and what starts the system after the firmware finds nothing any more.
    let guest = live(iso, &mut machine, &media);
    guest.stage("the rescue");
    let systems = ask(&guest, "lycia-install systems");
    assert!(systems.contains("installed"), "{systems}");
    ask(&guest, "mkdir -p /run/found && lycia-install mount /run/found");
    let said = ask(&guest, "lycia-install allocator scudo --root /run/found");
    assert!(said.contains("the allocator is scudo now"), "{said}");
    ask(
        &guest,
        "cd /run/found && rm boot/grub/grub.cfg boot/initramfs-* && cd / && for m in run proc sys dev; do umount /run/found/$m; done; umount /run/found",
    );
    let esp = ask(
        &guest,
        "for p in /dev/vda?; do dd if=$p bs=512 count=1 2>/dev/null | grep -q FAT && echo $p; done; true",
    );
    let esp = esp.trim();
    assert!(esp.starts_with("/dev/vda"), "{esp}");
    ask(&guest, &format!("dd if=/dev/zero of={esp} bs=1M count=8 && sync"));
    let shown = ask(&guest, "lycia-install boot-repair --dry-run");
    assert!(shown.contains("format the EFI system partition"), "{shown}");
    let refused = guest
        .serial
        .run("lycia-install boot-repair --confirm vdb", LIMIT)
        .unwrap();
    assert_eq!(refused.status, 7, "{}", refused.text);
    let said = ask(&guest, "lycia-install boot-repair --confirm vda");
    assert!(said.contains("starts from /dev/vda again"), "{said}");
    disks.off(guest);

    let guest = installed(&mut machine, &media);
    let world = ask(&guest, "cat /etc/apk/world");
    assert!(
        !world.contains("mallocng") && !world.contains("safety-override"),
        "{world}"
    );
    allocates(&guest, "allocator  scudo", None);
    disks.off(guest);
    disks.check(4096);
}

/// `cargo test -p lycia --test rescued -- --ignored --nocapture rescued`
#[test]
#[ignore = "passed once, in 231 s; to take the place of tests/installed.rs when it has passed more often"]
fn an_installed_disk_boots_into_what_was_asked_for_and_is_rescued() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = tempfile::tempdir().unwrap();
    let iso = live_iso(output.path());
    // Two guests at a time: they are slow enough as it is.
    std::thread::scope(|scope| {
        let first = scope.spawn(|| attended(&iso));
        from_a_server(&iso, project);
        first.join().unwrap();
    });
}

fn live_iso(output: &Path) -> PathBuf {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let status = Command::new(env!("CARGO_BIN_EXE_lycia"))
        .arg("--project")
        .arg(project)
        .args(["build", "live", "--output"])
        .arg(output)
        .status()
        .unwrap();
    assert!(status.success());
    output.join("live-x86_64.iso")
}

/// Seconds since the guest's start.
fn uptime(guest: &Guest) -> f64 {
    let text = ask(guest, "cut -d' ' -f1 /proc/uptime");
    text.trim().parse().unwrap()
}

/// `cargo test -p lycia --test rescued -- --ignored --nocapture dd`
#[test]
#[ignore = "a measurement: time of an installation against dd of as many bytes to the same disk in the same guest"]
fn time_against_dd() {
    let output = tempfile::tempdir().unwrap();
    let iso = live_iso(output.path());
    let disks = Disks::new();
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    let guest = live(
        &iso,
        &mut machine,
        &[Medium::disk(&disks.disk), Medium::disk(&disks.other)],
    );
    let text = format!(
        "schema = 1\n[disk]\nselect = \"lycia-1\"\nlayout = \"erase\"\n[root]\npassword-hash = \"{ROOT_HASH}\"\n[confirm]\nserial = \"lycia-1\"\n"
    );
    for line in text.lines() {
        ask(&guest, &format!("echo '{line}' >> /run/answers.toml"));
    }
    // Warm: the medium's packages are in memory for both.
    ask(&guest, "cat /run/live/medium/live/packages/*/* >/dev/null");
    for round in 0..3 {
        let sectors = || -> u64 {
            let text = ask(&guest, "awk '{print $7}' /sys/block/vda/stat");
            text.trim().parse().unwrap()
        };
        let (before, begun) = (sectors(), uptime(&guest));
        ask(
            &guest,
            "lycia-install install --answers /run/answers.toml && sync",
        );
        let (took, bytes) = (uptime(&guest) - begun, (sectors() - before) * 512);
        let begun = uptime(&guest);
        let count = bytes >> 20;
        ask(
            &guest,
            &format!("dd if=/dev/zero of=/dev/vda bs=1M count={count} conv=fsync"),
        );
        let dd = uptime(&guest) - begun;
        println!(
            "round {round}: {took:.1} s to install, {dd:.1} s for dd of the same {count} MiB: {:.2} times",
            took / dd
        );
    }
    disks.off(guest);
}

/// `cargo test -p lycia --test rescued -- --ignored pictures` writes the pictures of the README.
#[test]
#[ignore = "writes docs/installer-*.png"]
fn pictures() {
    let output = tempfile::tempdir().unwrap();
    let iso = live_iso(output.path());
    let docs = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("docs");
    let disks = Disks::new();
    occupied(&disks);
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    let mut guest = live(
        &iso,
        &mut machine,
        &[Medium::disk(&disks.disk), Medium::disk(&disks.other)],
    );
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
    disks.off(guest);
}
