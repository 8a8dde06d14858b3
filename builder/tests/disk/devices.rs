//! Disks for boards: packages of the shape that Chimera's have, and the partition tables that chimera-live writes.
//!
//! Sources: the scripts for sfdisk are what chimera-live (cd23875, 2025-04-20) has in `sfdisk/`, with the size that `mkpart.sh` puts in; file
//! systems and labels are those of `mkpart.sh`. Files and places of boot loaders are `U_BOOT_TARGETS` of cports (7287fbfe7, 2026-08-22),
//! `main/u-boot-*/template.py`, installed by `src/cbuild/build_style/u_boot.py`; `main/rpi-boot` and `main/base-rpi` for the Raspberry Pi.

use std::os::unix::fs::FileExt as _;
use std::path::Path;

use lycia::error::Kind;
use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::keys::{KeyRing, SigningKey};
use lycia_apk::metadata::{Acl, PackageInfo};
use lycia_apk::package::{PackageBuilder, Trust};

use crate::forms::{named, project};
use crate::judge::{
    bytes, dump, of_ext4, of_fat, parts, printed, refused, sound_ext4, sound_fat, sound_table, superblock,
};
use crate::program::{names, read, run, succeed, text, tool};
use crate::small::{Small, new_key};

const TIME: u64 = 1_700_000_000;
const KERNEL: &str = "6.18.1-0-generic";
const MIB: u64 = 1 << 20;

/// A board.
struct Board {
    platform: &'static str,
    arch: &'static str,
    /// What sfdisk is told.
    reference: &'static str,
    /// Package with the boot loader, below /usr/lib/u-boot, and its files with their sectors and sizes.
    u_boot: &'static str,
    payloads: &'static [(&'static str, u64, usize)],
    words: &'static str,
}

const ROCKCHIP: &str = "label: gpt\nunit: sectors\nfirst-lba: 64\n\
    name=spl, start=64, size=16320, type=8DA63339-0007-60C0-C436-083AC8230908\n\
    name=uboot, start=16384, size=16384, type=8DA63339-0007-60C0-C436-083AC8230908\n\
    name=boot, start=32768, size=1024MiB, type=BC13C2FF-59E6-4262-A352-B275FD6F7172, bootable, attrs=\"LegacyBIOSBootable\"\n\
    name=root\n";
const ROCKCHIP_FILES: &[(&str, u64, usize)] =
    &[("idbloader.img", 64, 130_048), ("u-boot.itb", 16_384, 1_100_001)];

const BOARDS: &[Board] = &[
    Board {
        platform: "pbp",
        arch: "aarch64",
        reference: ROCKCHIP,
        u_boot: "pinebook-pro-rk3399",
        payloads: ROCKCHIP_FILES,
        words: "rootwait video=eDP-1:1920x1080@60 growroot console=ttyS2,1500000 console=tty1",
    },
    Board {
        platform: "rockpro64",
        arch: "aarch64",
        reference: ROCKCHIP,
        u_boot: "rockpro64-rk3399",
        payloads: ROCKCHIP_FILES,
        words: "rootwait growroot console=ttyS2,1500000 console=tty1",
    },
    Board {
        platform: "rock64",
        arch: "aarch64",
        reference: ROCKCHIP,
        u_boot: "rock64-rk3328",
        payloads: ROCKCHIP_FILES,
        words: "rootwait growroot console=ttyS2,1500000 console=tty1",
    },
    Board {
        platform: "quartzpro64",
        arch: "aarch64",
        reference: ROCKCHIP,
        u_boot: "quartzpro64-rk3588",
        payloads: ROCKCHIP_FILES,
        words: "rootwait growroot console=ttyS2,1500000 console=tty1",
    },
    Board {
        platform: "unmatched",
        arch: "riscv64",
        reference: "label: gpt\nunit: sectors\nfirst-lba: 34\n\
            name=spl, start=34, size=2048, type=5B193300-FC78-40CD-8002-E86C45580B47\n\
            name=uboot, start=2082, size=14302, type=2E54B353-1271-4842-806F-E436D6AF6985\n\
            name=boot, start=16384, size=1024MiB, type=BC13C2FF-59E6-4262-A352-B275FD6F7172, bootable, attrs=\"LegacyBIOSBootable\"\n\
            name=root\n",
        u_boot: "sifive_unmatched",
        payloads: &[("u-boot-spl.bin", 34, 90_000), ("u-boot.itb", 2_082, 700_000)],
        words: "rootwait earlycon=sbi growroot console=ttySIF0,115200 console=tty1",
    },
];

/// Bytes that are not zeros, and other ones for each name.
fn payload(name: &str, len: usize) -> Vec<u8> {
    let start = name.bytes().map(usize::from).sum::<usize>();
    (0..len).map(|at| ((start + at) * 37 % 251) as u8 + 1).collect()
}

type Files = Vec<(String, Vec<u8>)>;

fn package(small: &Small, key: &SigningKey, arch: &str, name: &str, files: &Files) {
    let mut builder = PackageBuilder::new(PackageInfo {
        name: name.to_owned(),
        version: "1-r0".to_owned(),
        arch: arch.to_owned(),
        license: "MIT".to_owned(),
        build_time: TIME,
        ..PackageInfo::default()
    });
    for (path, bytes) in files {
        builder
            .file(path.as_bytes(), Acl::root(0o644), TIME, bytes.clone())
            .unwrap();
    }
    let mut bytes = Vec::new();
    let mut package = builder.finish().unwrap();
    package
        .write(Default::default(), std::slice::from_ref(key), &mut bytes)
        .unwrap();
    let folder = small.path(&format!("repository/{arch}"));
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join(format!("{name}-1-r0.apk")), bytes).unwrap();
}

/// A project with packages of `arch` as boards have them.
fn boards(arch: &str, platform: &str, loader: &Files) -> Small {
    let small = project("\"disk\"", "");
    let (key, public) = new_key("board.pub");
    small.write("configs/keys/board.pub", &public);
    small.write(
        &format!("configs/architectures/{arch}.toml"),
        "summary = \"board\"\nserial-console = \"ttyS0,115200\"\ngrub = []\n",
    );
    let texts = |files: &[(&str, &str)]| -> Files {
        files
            .iter()
            .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
            .collect()
    };
    let base = texts(&[
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
        ("etc/group", "root:x:0:\n"),
        ("usr/lib/lycia/init", "an init\n"),
    ]);
    package(&small, &key, arch, "base", &base);
    // A kernel as base-kernel's trigger has put it in place.
    let modules = format!("usr/lib/modules/{KERNEL}");
    let trees = format!("boot/dtbs/dtbs-{KERNEL}");
    let kernel = texts(&[
        (&format!("boot/vmlinuz-{KERNEL}"), "a kernel\n"),
        (&format!("{trees}/rockchip/board.dtb"), "a tree\n"),
        (&format!("{trees}/broadcom/bcm2711-rpi-4-b.dtb"), "tree 4\n"),
        (&format!("{trees}/overlays/vc4-kms-v3d.dtbo"), "overlay\n"),
        (&format!("{modules}/modules.order"), ""),
        (&format!("{modules}/modules.builtin"), "kernel/fs/ext4/ext4.ko\n"),
    ]);
    package(&small, &key, arch, "kernel", &kernel);
    package(&small, &key, arch, "loader", loader);
    let folder = small.path(&format!("repository/{arch}"));
    let packages = names(&folder).into_iter().map(|name| {
        let bytes = read(&folder.join(name));
        index::entry(&bytes, &KeyRing::new(), Trust::AllowUntrusted, IndexHash::Sha256).unwrap()
    });
    let index = Index {
        packages: packages.collect(),
        ..Index::default()
    };
    let bytes = index
        .write(&Default::default(), std::slice::from_ref(&key))
        .unwrap();
    std::fs::write(folder.join("Packages.adb"), bytes).unwrap();
    small.write(
        "configs/images/board.toml",
        &format!(
            "repositories = [\"local\"]\npackages = [\"base\", \"kernel\", \"loader\"]\noutputs = [\"disk\"]\n[boot]\ntitle = \"Board\"\n\
             timeout = 3\n[initramfs]\nlevel = 3\n[disk]\nplatform = \"{platform}\"\nsize = \"2G\"\n"
        ),
    );
    small
}

fn build(small: &Small, arch: &str) -> std::process::Command {
    let mut command = small.lycia();
    command
        .args(["build", "board", "--arch", arch, "--output"])
        .arg(small.path("output"));
    command
}

/// A disk of the same size with the table that sfdisk makes of a script.
fn reference(small: &Small, script: &str, size: u64) -> std::path::PathBuf {
    let path = small.path("reference.img");
    std::fs::File::create(&path).unwrap().set_len(size).unwrap();
    small.write("reference.sfdisk", script);
    let input = std::fs::File::open(small.path("reference.sfdisk")).unwrap();
    succeed(tool("sfdisk", "fdisk").arg("--quiet").arg(&path).stdin(input));
    path
}

/// sfdisk and sgdisk show of a disk what they show of the one that sfdisk makes of a script.
pub fn same_table(small: &Small, disk: &Path, script: &str) {
    let size = disk.metadata().unwrap().len();
    let reference = reference(small, script, size);
    assert_eq!(dump(disk), dump(&reference));
    if script.contains("label: gpt") {
        assert_eq!(printed(disk), printed(&reference));
    }
}

/// What the menus of a disk offer, which is found whole: title, kernel, initramfs and words for the kernel.
fn offered(small: &Small, disk: &Path) -> Vec<String> {
    fn entries(part: &serde_json::Value, found: &mut Vec<String>) {
        for one in part["entries"].as_array().into_iter().flatten() {
            let [title, kernel, initrd, words] =
                ["title", "kernel", "initrd", "arguments"].map(|key| one[key].as_str().unwrap_or_default());
            found.push(format!("{title}, {kernel}, {initrd}: {words}"));
        }
        for inner in part["parts"].as_array().into_iter().flatten() {
            entries(inner, found);
        }
    }
    let shown = succeed(small.lycia().args(["inspect", "--json"]).arg(disk)).stdout;
    let report: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    let mut found = Vec::new();
    entries(&report["part"], &mut found);
    found
}

#[test]
fn boards_with_u_boot() {
    for board in BOARDS {
        let folder = format!("usr/lib/u-boot/{}", board.u_boot);
        let loader: Files = board
            .payloads
            .iter()
            .map(|(name, _, len)| (format!("{folder}/{name}"), payload(name, *len)))
            .collect();
        let small = boards(board.arch, board.platform, &loader);
        succeed(&mut build(&small, board.arch));
        let disk = small.path(&format!("output/board-{}.img", board.arch));
        assert_eq!(disk.metadata().unwrap().len(), 2048 * MIB);
        same_table(&small, &disk, board.reference);
        sound_table(&disk);
        // One for all: each has two GiB to read.
        if board.platform == "unmatched" {
            let entries = offered(&small, &disk);
            let words = format!(" ro {} quiet", board.words);
            assert!(
                entries[0].starts_with("Board (") && entries[0].ends_with(&words),
                "{entries:?}"
            );
        }
        for (name, sector, len) in board.payloads {
            assert!(
                bytes(&disk, sector * 512, *len) == payload(name, *len),
                "{name} of {}",
                board.platform
            );
            assert_eq!(bytes(&disk, sector * 512 + *len as u64, 64), [0; 64]);
        }
        let parts = parts(&disk);
        let (boot, root) = (named(&parts, "boot"), named(&parts, "root"));
        let label = |part: &crate::judge::Part| {
            let mut blkid = tool("blkid", "util-linux");
            blkid.args(["-p", "-o", "value", "-s", "LABEL", "-s", "VERSION", "-O"]);
            text(&succeed(blkid.arg(part.start.to_string()).arg(&disk)).stdout)
        };
        assert_eq!(label(boot), "BOOT\nFAT16\n", "{}", board.platform);
        assert_eq!(label(root), "root\n1.0\n", "{}", board.platform);
        sound_ext4(&disk, root);
        let stats = superblock(&disk, root);
        assert!(!stats.contains("has_journal"), "{stats}");
        // What is in /boot is on its partition, and nothing of it on the root.
        assert_eq!(
            text(&of_fat(&disk, boot, &format!("vmlinuz-{KERNEL}"))),
            "a kernel\n"
        );
        assert_eq!(
            text(&of_fat(
                &disk,
                boot,
                &format!("dtbs/dtbs-{KERNEL}/rockchip/board.dtb")
            )),
            "a tree\n"
        );
        assert_eq!(
            of_fat(&disk, boot, &format!("initramfs-{KERNEL}.img"))[..4],
            [0x28, 0xb5, 0x2f, 0xfd]
        );
        assert_eq!(of_ext4(&disk, root, &format!("/boot/vmlinuz-{KERNEL}")), "");
        let config = text(&of_fat(&disk, boot, "extlinux/extlinux.conf"));
        let uuid = stats
            .lines()
            .find_map(|line| line.strip_prefix("Filesystem UUID:"))
            .unwrap()
            .trim();
        let entry = format!(
            "LABEL default\n    MENU LABEL Board ({KERNEL})\n    KERNEL ../vmlinuz-{KERNEL}\n    INITRD ../initramfs-{KERNEL}.img\n    \
             FDTDIR ../dtbs/dtbs-{KERNEL}\n    APPEND root=UUID={uuid} ro {} quiet\n",
            board.words
        );
        assert!(
            config.starts_with("TIMEOUT 30\nDEFAULT default\nMENU TITLE Board\n") && config.contains(&entry),
            "{config}"
        );
        let fstab = of_ext4(&disk, root, "/etc/fstab");
        assert!(
            fstab.contains(&format!("UUID={uuid}  /  ext4"))
                && fstab.contains("  /boot  vfat  rw,umask=0022  0  2"),
            "{fstab}"
        );
    }
}

#[test]
fn the_raspberry_pi() {
    let loader: Files = [
        ("boot/start4.elf", "firmware\n"),
        ("boot/fixup4.dat", "fix\n"),
        ("boot/config.txt", "[all]\ninclude kernel.txt\n"),
    ]
    .iter()
    .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec()))
    .collect();
    let small = boards("aarch64", "rpi", &loader);
    succeed(&mut build(&small, "aarch64"));
    let disk = small.path("output/board-aarch64.img");
    let script = "label: dos\nunit: sectors\nfirst-lba: 2048\nname=boot, start=2048, size=1024MiB, bootable, type=b\nname=root\n";
    same_table(
        &small,
        &disk,
        &script
            .replace("name=boot, ", "")
            .replace("name=root\n", "type=83\n"),
    );
    assert_eq!(disk.metadata().unwrap().len(), 2048 * MIB);
    // What the firmware will boot is seen, too.
    let entries = offered(&small, &disk);
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert!(
        entries[0].starts_with(&format!(
            "Raspberry Pi, vmlinuz-{KERNEL}, initramfs-{KERNEL}.img: root=UUID="
        )) && entries[0].ends_with(" growroot console=ttyAMA0,115200 console=tty1 quiet"),
        "{entries:?}"
    );
    // One byte of the words for the kernel is another: they are not those of the manifest.
    let words = b"dwc_otg.lpm_enable=0 growroot";
    let start = parts(&disk)[0].start;
    let at = bytes(&disk, start, 16 << 20)
        .windows(words.len())
        .position(|window| window == words)
        .unwrap() as u64
        + start;
    let set = |byte: u8| {
        let file = std::fs::File::options().write(true).open(&disk).unwrap();
        file.write_all_at(&[byte], at).unwrap();
    };
    set(words[0] ^ 1);
    let ended = run(small.lycia().arg("inspect").arg(&disk));
    assert_eq!(ended.status.code(), Some(i32::from(Kind::Target.code())));
    let said = text(&ended.stdout);
    assert!(
        said.contains("/boot/cmdline.txt: its content is not that of board-aarch64.disk.manifest.json"),
        "{said}"
    );
    set(words[0]);
    let parts = parts(&disk);
    sound_fat(&disk, &parts[0]);
    sound_ext4(&disk, &parts[1]);
    let boot = |path: &str| text(&of_fat(&disk, &parts[0], path));
    assert_eq!(boot("start4.elf"), "firmware\n");
    assert_eq!(boot("bcm2711-rpi-4-b.dtb"), "tree 4\n");
    assert_eq!(boot("overlays/vc4-kms-v3d.dtbo"), "overlay\n");
    assert_eq!(boot("config.txt"), "[all]\ninclude kernel.txt\n");
    assert_eq!(
        boot("kernel.txt"),
        format!("kernel=vmlinuz-{KERNEL}\ninitramfs initramfs-{KERNEL}.img followkernel\n")
    );
    let line = boot("cmdline.txt");
    assert!(line.starts_with("root=UUID="), "{line}");
    assert!(
        line.ends_with(
            " ro rootwait dwc_otg.lpm_enable=0 growroot console=ttyAMA0,115200 console=tty1 quiet\n"
        ),
        "{line}"
    );
}

#[test]
fn a_boot_loader_that_is_missing_or_does_not_fit_is_told() {
    let files = |len: usize| -> Files {
        vec![
            (
                "usr/lib/u-boot/sifive_unmatched/u-boot-spl.bin".to_owned(),
                payload("spl", len),
            ),
            (
                "usr/lib/u-boot/sifive_unmatched/u-boot.itb".to_owned(),
                payload("itb", 5000),
            ),
        ]
    };
    let small = boards("riscv64", "unmatched", &files(2048 * 512 + 1));
    refused(
        &mut build(&small, "riscv64"),
        Kind::Target,
        &["U-Boot SPL", "it has 1048577 bytes and there is room for 1048576"],
    );
    let small = boards("riscv64", "unmatched", &files(1)[1..].to_vec());
    refused(
        &mut build(&small, "riscv64"),
        Kind::Target,
        &[
            "the payload U-Boot SPL",
            "the root has no file /usr/lib/u-boot/sifive_unmatched/u-boot-spl.bin",
        ],
    );
    assert!(names(&small.path("output")).is_empty());
    refused(&mut build(&small, "aarch64"), Kind::Input, &["aarch64"]);
}
