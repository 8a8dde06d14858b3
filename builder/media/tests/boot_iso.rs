//! An image with GRUB boots in all four ways: BIOS and UEFI, as CD and as disk. GRUB finds the image by its
//! label, reads files through Rock Ridge, and says so on the serial port.

#![allow(clippy::unwrap_used)]

mod oracle;

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use lycia_media::fat;
use lycia_media::iso9660::{Bios, Boot, Efi, Hybrid, Image, VolumeTime};
use lycia_media::partition::Guid;
use lycia_tree::{Content, Node, Timestamp, Tree};
use oracle::{TIME, put, root_owned, run};

/// What GRUB says when it has read everything. It is put together from two files, so that no echo of a command
/// line and no error can look like it.
const MARKER: &str = "marker-of-the-first-file and-of-the-second";
const LABEL: &str = "LYCIA_BOOT";
const ELTORITO: &str = "/boot/grub/i386-pc/eltorito.img";
/// How long a machine may take. A quiet one needs 3 s with a BIOS and 10 s with UEFI.
const LIMIT: Duration = Duration::from_secs(150);

const MODULES: &[&str] = &[
    "configfile",
    "echo",
    "fat",
    "halt",
    "iso9660",
    "normal",
    "part_gpt",
    "part_msdos",
    "search",
    "search_label",
    "serial",
    "terminal",
];

fn grub_image(directory: &Path, format: &str, more: &[&str]) -> Vec<u8> {
    let config = directory.join("early.cfg");
    std::fs::write(
        &config,
        format!(
            "serial --unit=0 --speed=115200\nterminal_output serial\n\
             search --no-floppy --set=root --label {LABEL}\nsource ($root)/boot/grub/grub.cfg\n"
        ),
    )
    .unwrap();
    let out = directory.join(format);
    let mut arguments = vec![
        "-O",
        format,
        "-p",
        "/boot/grub",
        "-c",
        config.to_str().unwrap(),
        "-o",
        out.to_str().unwrap(),
    ];
    arguments.extend_from_slice(MODULES);
    arguments.extend_from_slice(more);
    run(
        "grub-common grub-pc-bin grub-efi-amd64-bin",
        "grub-mkimage",
        &arguments,
        b"",
    );
    std::fs::read(out).unwrap()
}

/// Writes the image to be booted.
fn write_image(directory: &Path, path: &Path) {
    let file = |bytes: Vec<u8>| Node::Regular(Content::from(bytes));
    let mut esp = Tree::new(root_owned(0o755));
    let loader = grub_image(directory, "x86_64-efi", &[]);
    put(&mut esp, "/EFI/BOOT/BOOTX64.EFI", root_owned(0o644), file(loader));
    let volume = fat::Volume {
        label: Some("ESP".to_owned()),
        serial: 0x4c59_4349,
        time: Timestamp::from_seconds(TIME),
        width: None,
        size: fat::fitting_size(&esp, None, 512, 0),
    };

    let mut tree = Tree::new(root_owned(0o755));
    let core = grub_image(directory, "i386-pc-eltorito", &["biosdisk"]);
    put(&mut tree, ELTORITO, root_owned(0o644), file(core));
    let config = b"source /boot/grub/'a long name that only Rock Ridge has.cfg'\n";
    put(
        &mut tree,
        "/boot/grub/grub.cfg",
        root_owned(0o644),
        file(config.to_vec()),
    );
    let (first, second) = MARKER.split_once(' ').unwrap();
    // The second file is as deep as goes without its directory being moved, which GRUB 2.06 does not follow,
    // and reached by a link.
    let deep = "/deep/3/4/5/6/7/8/and-of-the-second.cfg";
    put(
        &mut tree,
        "/boot/grub/a long name that only Rock Ridge has.cfg",
        root_owned(0o644),
        file(format!("echo -n '{first} '\nsource /boot/link-to-the-second\n").into_bytes()),
    );
    put(
        &mut tree,
        "/boot/link-to-the-second",
        root_owned(0o777),
        Node::Symlink(format!("..{deep}").into_bytes()),
    );
    put(
        &mut tree,
        deep,
        root_owned(0o644),
        file(format!("echo '{second}'\nhalt\n").into_bytes()),
    );
    // Files before and behind, so that nothing is found by its being near.
    for name in ["/a-large-file", "/z-large-file"] {
        put(&mut tree, name, root_owned(0o644), file(vec![0x5a; 5 << 20]));
    }

    let mut code = [0; 440];
    let hybrid = std::fs::read("/usr/lib/grub/i386-pc/boot_hybrid.img")
        .expect("boot_hybrid.img of the Debian package grub-pc-bin is needed");
    code.copy_from_slice(&hybrid[..440]);
    let image = Image {
        volume_id: LABEL,
        system_id: "LINUX",
        volume_set_id: "",
        publisher: "",
        preparer: "",
        application: "",
        time: Timestamp::from_seconds(TIME),
        uuid: VolumeTime::new(Timestamp::from_seconds(TIME)).unwrap(),
        joliet: true,
        files: &tree,
        boot: Boot {
            bios: Some(Bios {
                image: ELTORITO.as_bytes().to_vec(),
            }),
            efi: Some(Efi {
                esp: Content::from(fat::image(&esp, &volume).unwrap()),
            }),
            hybrid: Some(Hybrid {
                code: Some(code),
                signature: 0,
                disk: Guid::derive(b"boot test", "disk"),
                image_partition: Guid::derive(b"boot test", "image"),
                esp_partition: Guid::derive(b"boot test", "esp"),
            }),
        },
    };
    let out = std::fs::File::create(path).unwrap();
    image.plan().unwrap().write(out, &mut |_| ()).unwrap();
}

/// Boots and returns what came on the serial port until the marker, or until the limit.
fn boot(arguments: &[String]) -> String {
    let mut machine = Command::new("qemu-system-x86_64")
        .args([
            "-accel",
            "tcg",
            "-cpu",
            "max",
            "-m",
            "256",
            "-nic",
            "none",
            "-no-reboot",
        ])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio"])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("qemu-system-x86_64 of the Debian package qemu-system-x86 is needed");
    let (sender, receiver) = mpsc::channel();
    let mut pipes: Vec<Box<dyn Read + Send>> = vec![
        Box::new(machine.stdout.take().unwrap()),
        Box::new(machine.stderr.take().unwrap()),
    ];
    for mut pipe in pipes.drain(..) {
        let sender = sender.clone();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(len @ 1..) = pipe.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
    }
    drop(sender);
    let started = Instant::now();
    let mut output = Vec::new();
    // At a prompt GRUB has given up.
    let over = |output: &[u8]| {
        let text = String::from_utf8_lossy(output);
        text.contains(MARKER) || text.contains("grub> ")
    };
    while !over(&output) {
        match receiver.recv_timeout(LIMIT.saturating_sub(started.elapsed())) {
            Ok(bytes) => output.extend(bytes),
            Err(_) => break,
        }
    }
    machine.kill().unwrap();
    machine.wait().unwrap();
    String::from_utf8_lossy(&output).into_owned()
}

#[test]
fn boots_under_bios_and_uefi_as_cd_and_as_disk() {
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("boot.iso");
    write_image(directory.path(), &image);
    let image = image.display();
    let firmware = ["/usr/share/ovmf/OVMF.fd", "/usr/share/OVMF/OVMF.fd"]
        .into_iter()
        .find(|path| Path::new(path).exists())
        .expect("OVMF.fd of the Debian package ovmf is needed");
    let cd = format!("file={image},format=raw,media=cdrom,readonly=on");
    let disk = format!("file={image},format=raw,if=ide,snapshot=on");
    let usb = format!("file={image},format=raw,if=none,id=stick,snapshot=on");
    let mut failures = String::new();
    for (name, uefi, drive) in [
        ("BIOS, CD", false, vec!["-drive", &cd]),
        ("BIOS, disk", false, vec!["-drive", &disk]),
        ("UEFI, CD", true, vec!["-drive", &cd]),
        (
            "UEFI, USB stick",
            true,
            vec![
                "-device",
                "qemu-xhci",
                "-drive",
                &usb,
                "-device",
                "usb-storage,drive=stick",
            ],
        ),
    ] {
        let mut arguments: Vec<String> = drive.into_iter().map(str::to_owned).collect();
        if uefi {
            arguments.extend(["-bios".to_owned(), firmware.to_owned()]);
        }
        let started = Instant::now();
        let output = boot(&arguments);
        eprintln!("{name}: {:.1} s", started.elapsed().as_secs_f64());
        if !output.contains(MARKER) {
            failures.push_str(&format!("\n{name}: no marker, but:\n{}\n", output.escape_debug()));
        }
    }
    assert!(failures.is_empty(), "{failures}");
}
