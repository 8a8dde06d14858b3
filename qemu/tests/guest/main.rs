//! Real QEMUs with a guest of 512 bytes.

mod boot_sector;

use lycia_qemu::{Accelerator, Architecture, Error, Firmware, Forward, Guest, Key, Machine, Medium, Network};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Enough on a busy host.
const LONG: Duration = Duration::from_secs(120);
const SHORT: Duration = Duration::from_millis(300);

fn machine(directory: &Path) -> Machine {
    // A comma and a colon have a meaning in QEMU's options.
    let image = directory.join("test,guest:1.img");
    std::fs::write(&image, boot_sector::disk()).expect("a temporary directory can be written");
    let mut machine = Machine::new(Architecture::X86_64, Firmware::Bios);
    machine.media.push(Medium::disk_snapshot(image));
    machine.memory_mib = 64;
    machine.cpus = 1;
    machine.accelerator = Some(Accelerator::TCG);
    machine
}

fn exists(process: u32) -> bool {
    // A zombie is gone for our purpose.
    std::fs::read_to_string(format!("/proc/{process}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

fn wait_gone(process: u32) {
    let started = Instant::now();
    while exists(process) {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "QEMU {process} is left behind"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn console_screen_and_keyboard() {
    let directory = tempfile::tempdir().unwrap();
    let mut machine = machine(directory.path());
    let log = directory.path().join("serial,log");
    machine.serial_log = Some(log.clone());
    machine.seed = Some(7);
    machine.start_time = Some("2026-01-31T12:00:00".into());
    let forward = Forward::to(22).unwrap();
    machine.network = Network::Isolated(vec![forward]);
    let mut guest = machine.start().unwrap();
    guest.stage("greeting");
    assert!(guest.is_running());
    assert!(guest.serial.expect("Lycia test guest\n", LONG).is_ok());
    guest.serial.expect("ready> ", LONG).unwrap();

    let error = guest.serial.expect("never written", SHORT).unwrap_err();
    assert!(matches!(&error, Error::Timeout { limit, .. } if *limit == SHORT));
    let message = error.to_string();
    for part in ["greeting: ", "\"never written\"", "300ms", "Lycia test guest"] {
        assert!(message.contains(part), "{part:?} is missing: {message}");
    }
    assert!(matches!(guest.report.next(SHORT), Err(Error::Timeout { .. })));

    guest.serial.send_line("over the serial port").unwrap();
    guest.serial.expect("over the serial port", LONG).unwrap();

    let before = guest
        .wait_screen_stable(Duration::from_millis(500), LONG)
        .unwrap();
    let line = "The QUICK brown fox jumps over 13 lazy dogs! ";
    guest.send_text(line).unwrap();
    guest.serial.expect(line.trim_end(), LONG).unwrap();
    let after = guest.wait_screen_change(&before, LONG).unwrap();
    assert!(after.differing_pixels(&before) > 0);

    let path = directory.path().join("screen.png");
    let shot = guest.screenshot(&path).unwrap();
    let mut reader = png::Decoder::new(BufReader::new(std::fs::File::open(&path).unwrap()))
        .read_info()
        .unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let frame = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((frame.width, frame.height), (shot.width(), shot.height()));
    assert_eq!(pixels, shot.rgb());
    assert!(!shot.is_blank());

    guest.powerdown().unwrap();
    guest.wait_event("POWERDOWN", LONG).unwrap();
    assert!(matches!(
        guest.monitor("no-such-command", serde_json::Value::Null),
        Err(Error::Refused { .. })
    ));

    guest.send_keys(&[Key::Escape]).unwrap();
    assert!(guest.wait_exit(LONG).unwrap().success());
    assert!(!guest.is_running());
    let error = guest.serial.expect("never written", LONG).unwrap_err();
    assert!(
        matches!(&error, Error::Ended { status, .. } if status.contains("exit status: 0")),
        "{error}"
    );
    assert!(matches!(guest.screen(), Err(Error::Ended { .. })));
    assert_eq!(
        lycia_qemu::plain_text(&std::fs::read(log).unwrap()),
        guest.serial.transcript()
    );
}

#[test]
fn writes_are_refused_or_lost_as_asked_and_reset_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut machine = machine(directory.path());
    machine.media[0] = Medium::usb(&machine.media[0].path);
    let mut guest = machine.start().unwrap();
    guest.serial.expect("ready> ", LONG).unwrap();
    guest.reset().unwrap();
    assert!(guest.wait_exit(LONG).unwrap().success());
    assert_eq!(
        std::fs::read(&machine.media[0].path).unwrap(),
        boot_sector::disk()
    );
}

#[test]
fn a_dropped_guest_is_gone() {
    let directory = tempfile::tempdir().unwrap();
    let guest = machine(directory.path()).start().unwrap();
    let process = guest.process_id();
    assert!(exists(process));
    drop(guest);
    assert!(!exists(process));
}

/// A guest belongs to the process, not to the thread that started it.
#[test]
fn a_guest_outlives_the_thread_that_started_it() {
    let directory = tempfile::tempdir().unwrap();
    let machine = machine(directory.path());
    let guest: Guest = std::thread::spawn(move || machine.start().unwrap())
        .join()
        .unwrap();
    guest.serial.expect("ready> ", LONG).unwrap();
    assert!(guest.is_running());
}

/// Helper process of the test below.
#[test]
#[ignore = "run by a_killed_owner_leaves_no_guest"]
fn owner() {
    let directory = tempfile::tempdir().unwrap();
    let guest = machine(directory.path()).start().unwrap();
    println!("\nguest {}", guest.process_id());
    std::thread::sleep(LONG);
}

#[test]
fn a_killed_owner_leaves_no_guest() {
    // It cannot clean up its temporary files; they are in ours.
    let directory = tempfile::tempdir().unwrap();
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "owner", "--ignored", "--nocapture"])
        .env("TMPDIR", directory.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(owner.stdout.take().unwrap()).lines();
    let process = lines
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("guest ").map(|number| number.parse().unwrap()))
        .expect("the helper starts a guest");
    assert!(exists(process));
    owner.kill().unwrap();
    owner.wait().unwrap();
    wait_gone(process);
}

#[test]
fn what_qemu_refuses_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let mut machine = machine(directory.path());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let host = taken.local_addr().unwrap().port();
    machine.network = Network::Isolated(vec![Forward { host, guest: 22 }]);
    let message = machine.start().unwrap_err().to_string();
    for part in [
        "start: QEMU ended (exit status: 1)",
        "the serial console is empty",
        "forward",
    ] {
        assert!(message.contains(part), "{part:?} is missing: {message}");
    }
}

/// OVMF finds nothing to boot and starts its shell, on the serial port and on the screen; its variables are kept.
#[test]
fn uefi() {
    let directory = tempfile::tempdir().unwrap();
    let mut machine = machine(directory.path());
    machine.firmware = Firmware::Uefi;
    machine.memory_mib = 128;
    let variables = directory.path().join("variables.fd");
    machine.uefi_variables = Some(variables.clone());
    let mut guest = machine.start().unwrap();
    guest.serial.expect("UEFI Interactive Shell", LONG).unwrap();
    assert!(!guest.screen().unwrap().is_blank());
    guest.quit(LONG).unwrap();
    let template = lycia_qemu::FirmwareFiles::find(Architecture::X86_64)
        .unwrap()
        .variables;
    assert_ne!(
        std::fs::read(variables).unwrap(),
        std::fs::read(template).unwrap()
    );
}

/// A GRUB menu on the graphical console is read and driven: from a CD under BIOS, from a USB stick under UEFI.
#[test]
fn grub_menus_are_driven_by_the_keyboard() {
    let directory = tempfile::tempdir().unwrap();
    let configuration = directory.path().join("root/boot/grub/grub.cfg");
    std::fs::create_dir_all(configuration.parent().unwrap()).unwrap();
    std::fs::write(
        configuration,
        // UEFI's console is on the serial port already.
        "if [ $grub_platform = pc ]; then serial --unit=0; terminal_output console serial; fi\nset timeout=-1\n\
         menuentry first { echo chosen: the first; sleep 1000 }\n\
         menuentry second { echo chosen: the second; sleep 1; halt }\n",
    )
    .unwrap();
    let iso = directory.path().join("menu.iso");
    let made = Command::new("grub-mkrescue")
        .arg("-o")
        .arg(&iso)
        .arg(directory.path().join("root"))
        .output()
        .expect("grub-mkrescue is needed: Debian packages grub-common grub-pc-bin grub-efi-amd64-bin xorriso mtools");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::thread::scope(|scope| {
        for (firmware, medium) in [
            (Firmware::Bios, Medium::cdrom(&iso)),
            (Firmware::Uefi, Medium::usb(&iso)),
        ] {
            let mut machine = machine(directory.path());
            machine.memory_mib = 256;
            machine.firmware = firmware;
            machine.media = vec![medium];
            scope.spawn(move || {
                let mut guest = machine.start().unwrap();
                guest.stage(&format!("menu under {firmware:?}"));
                let placeholder = guest.screen().unwrap();
                guest
                    .serial
                    .expect("second", LONG)
                    .unwrap_or_else(|error| panic!("{error}"));
                let menu = guest
                    .wait_screen_stable(Duration::from_millis(600), LONG)
                    .unwrap();
                assert!(menu.differing_pixels(&placeholder) > 0);
                guest.send_keys(&[Key::Down, Key::Enter]).unwrap();
                guest
                    .serial
                    .expect("chosen: the second", LONG)
                    .unwrap_or_else(|error| panic!("{error}"));
                // GRUB's halt uses ACPI under BIOS, the firmware under UEFI.
                assert!(
                    guest
                        .wait_exit(LONG)
                        .unwrap_or_else(|error| panic!("{error}"))
                        .success()
                );
            });
        }
    });
}

/// The command line for hands boots the same guest.
#[test]
fn the_command_line_works_in_a_shell() {
    let directory = tempfile::tempdir().unwrap();
    let line = machine(directory.path()).command_line().unwrap();
    let mut child = Command::new("timeout")
        .args(["-k", "1", "60", "sh", "-c", &format!("exec {line}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut seen = Vec::new();
    while !seen.ends_with(b"ready>") {
        assert!(
            output.read_until(b'>', &mut seen).unwrap() > 0,
            "{}",
            String::from_utf8_lossy(&seen)
        );
    }
    // Escape on the serial port powers it off.
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"\x1b").unwrap();
    assert!(child.wait().unwrap().success(), "{line}");
}
