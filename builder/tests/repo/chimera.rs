//! The definitions of Chimera Linux, built from a repository of the same shape: its package names, dependencies, triggers
//! and layout, signed by a key made here and served over HTTP from this machine. Chimera's own servers are
//! never asked; their keys stay in the definition, and `--mirror` and `--trust` do what a user's would.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

use lycia::error::Kind;
use lycia_apk::dependency;
use lycia_apk::keys::SigningKey;
use lycia_apk::metadata::{Acl, PackageInfo};
use lycia_apk::package::PackageBuilder;

use crate::http::Served;
use crate::program::{LYCIA, checkout, open_folder, read, run, succeed, text, tool};
use crate::small::new_key;

/// When the packages were made, in seconds since 1970.
const TIME: u64 = 1_750_000_000;
/// The kernel's version as its files have it.
pub const KERNEL: &str = "7.1.8-0-generic";

/// Files of a package by path.
type Files = Vec<(String, u16, Vec<u8>)>;

/// One package.
#[derive(Default)]
struct Spec {
    version: &'static str,
    depends: &'static str,
    provides: &'static str,
    install_if: &'static str,
    replaces: &'static str,
    priority: u64,
    triggers: &'static [&'static str],
    links: &'static [(&'static str, &'static str)],
    files: Files,
}

fn file(path: &str, text: &str) -> (String, u16, Vec<u8>) {
    let mode = if path.starts_with("usr/bin/") {
        0o755
    } else {
        0o644
    };
    (path.to_owned(), mode, text.as_bytes().to_vec())
}

/// The packages that the definitions lead to, after the templates of cports: names, dependencies and rules as they are
/// there, contents as small as may be.
fn main_packages() -> BTreeMap<&'static str, Spec> {
    let full = "0.6-r3";
    let mut packages = BTreeMap::new();
    packages.insert(
        "base-files",
        Spec {
            version: "0.2-r1",
            links: &[
                ("bin", "usr/bin"),
                ("lib", "usr/lib"),
                ("sbin", "usr/bin"),
                ("lib64", "lib"),
                ("usr/sbin", "bin"),
                ("usr/lib64", "lib"),
            ],
            files: vec![
                file(
                    "etc/passwd",
                    "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:Kernel Overflow User:/nonexistent:/usr/bin/nologin\n",
                ),
                file("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
                file("usr/lib/sysusers.d/base-files.conf", "g wheel 2\ng tty 5\ng video 19\n"),
                file(
                    "usr/lib/tmpfiles.d/base-files.conf",
                    "C /etc/fstab - - - - /usr/share/base-files/fstab\nd /var/log 0755 root root -\n\
                     L+ /etc/os-release - - - - ../usr/lib/os-release\n",
                ),
                file("usr/share/base-files/fstab", "# nothing\n"),
                file("usr/lib/os-release", "NAME=\"Chimera\"\nID=\"chimera\"\n"),
            ],
            ..Spec::default()
        },
    );
    packages.insert(
        "musl",
        Spec {
            version: "1.2.6-r1",
            depends: "base-files musl-progs~1.2.6",
            provides: "so:libc.so=0",
            priority: 999,
            links: &[("usr/lib/ld-musl-x86_64.so.1", "libc.so")],
            files: vec![file("usr/lib/libc.so", "libc with mimalloc\n")],
            ..Spec::default()
        },
    );
    packages.insert(
        "musl-mallocng",
        Spec {
            version: "1.2.6-r1",
            depends: "base-files musl-progs~1.2.6 musl-safety-override",
            provides: "so:libc.so=0",
            replaces: "musl~1.2.6",
            links: &[("usr/lib/ld-musl-x86_64.so.1", "libc.so")],
            files: vec![file("usr/lib/libc.so", "libc with mallocng\n")],
            ..Spec::default()
        },
    );
    packages.insert(
        "chimerautils",
        Spec {
            version: "15.0-r2",
            depends: "so:libc.so",
            provides: "cmd:sh=15.0-r2 cmd:awk=15.0-r2 cmd:sed=15.0-r2",
            files: vec![file("usr/bin/sh", "a shell\n")],
            ..Spec::default()
        },
    );
    packages.insert(
        "sd-tools",
        Spec {
            version: "0.99.0-r6",
            depends: "so:libc.so",
            provides: "cmd:systemd-tmpfiles=0.99.0-r6",
            triggers: &["/usr/lib/sysusers.d", "/usr/lib/tmpfiles.d"],
            files: vec![file("usr/bin/systemd-tmpfiles", "a program\n")],
            ..Spec::default()
        },
    );
    packages.insert(
        "dinit-chimera",
        Spec {
            version: "0.99.24-r0",
            depends: "cmd:awk cmd:sed cmd:systemd-tmpfiles dinit dinit-chimera-device",
            triggers: &["/usr/lib/binfmt.d", "/usr/lib/modprobe.d", "/usr/lib/modules-load.d"],
            files: vec![
                file(
                    "usr/lib/dinit.d/boot",
                    "type = internal\ndepends-on: system\nwaits-for.d: /etc/dinit.d/boot.d\n",
                ),
                file(
                    "usr/lib/dinit.d/system",
                    "type = internal\ndepends-on: login.target\ndepends-on: network.target\nwaits-for.d: /usr/lib/dinit.d/boot.d\n",
                ),
                file("usr/lib/dinit.d/login.target", "type = internal\n"),
                file("usr/lib/dinit.d/network.target", "type = internal\n"),
                file("usr/lib/dinit.d/boot.d/.keep", ""),
                file("usr/bin/init", "#!/bin/sh\nexec dinit\n"),
            ],
            ..Spec::default()
        },
    );
    packages.insert(
        "dinit-chimera-udev",
        Spec {
            version: "0.99.24-r0",
            provides: "dinit-chimera-device=1",
            install_if: "dinit-chimera udev",
            files: vec![file("usr/lib/dinit-devd", "a program\n")],
            ..Spec::default()
        },
    );
    packages.insert(
        "dinit-chimera-device-none",
        Spec {
            version: "0.99.24-r0",
            provides: "dinit-chimera-device=0",
            files: vec![file("usr/lib/dinit-devd", "nothing\n")],
            ..Spec::default()
        },
    );
    packages.insert(
        "base-full",
        Spec {
            version: full,
            provides: "base-core=0.6-r3",
            ..Spec::default()
        },
    );
    for (name, install_if, depends) in [
        (
            "base-full-console",
            "base-full=0.6-r3",
            "console-setup kbd nyagetty",
        ),
        (
            "base-full-core",
            "base-full=0.6-r3",
            "base-bootstrap chimera-install-scripts dinit-chimera procps turnstile udev",
        ),
        (
            "base-full-firmware",
            "base-full=0.6-r3 linux !base-full-minimal",
            "firmware-linux-meta firmware-ipw2100 firmware-sof-meta",
        ),
        (
            "base-full-fonts",
            "base-full=0.6-r3 fontconfig !base-full-minimal",
            "fonts-dejavu",
        ),
        (
            "base-full-fs",
            "base-full=0.6-r3",
            "e2fsprogs f2fs-tools xfsprogs btrfs-progs dosfstools",
        ),
        (
            "base-full-kernel",
            "base-full=0.6-r3 linux !base-full-minimal",
            "base-kernel initramfs-tools",
        ),
        (
            "base-full-misc",
            "base-full=0.6-r3 !base-full-minimal",
            "chimera-artwork chrony less nano syslog-ng opendoas usbutils",
        ),
        (
            "base-full-net",
            "base-full=0.6-r3 !base-full-minimal",
            "dhcpcd iwd openssh",
        ),
    ] {
        packages.insert(
            name,
            Spec {
                version: full,
                install_if,
                depends,
                ..Spec::default()
            },
        );
    }
    packages.insert(
        "base-full-minimal",
        Spec {
            version: full,
            depends: "base-full=0.6-r3",
            ..Spec::default()
        },
    );
    packages.insert(
        "base-bootstrap",
        Spec {
            version: "1.1-r0",
            depends: "apk-tools chimera-repo-main chimerautils",
            ..Spec::default()
        },
    );
    packages.insert(
        "base-live",
        Spec {
            version: "0.1-r3",
            depends: "cryptsetup-scripts firmware-linux-soc lvm2 lvm2-dm grub-i386-efi grub-i386-pc grub-x86_64-efi limine systemd-boot",
            ..Spec::default()
        },
    );
    let keys = checkout().join("configs/repositories/keys/chimera");
    let key = |name: &str| {
        let text = text(&read(&keys.join(name)));
        file(&format!("usr/lib/apk/keys/{name}"), &text)
    };
    packages.insert(
        "chimera-repo-main",
        Spec {
            version: "0.3-r0",
            depends: "apk-tools !base-cbuild",
            files: vec![
                key("x86_64@chimera-linux.org-669d70ff.rsa.pub"),
                key("q66@chimera-linux.org-61a1913b.rsa.pub"),
                file(
                    "usr/lib/apk/repositories.d/01-repo-main.list",
                    "set -default CHIMERA_REPO_URL=https://repo.chimera-linux.org\nset -default CHIMERA_REPO_RELEASE=current\n\n\
                     v3 ${CHIMERA_REPO_URL}/${CHIMERA_REPO_RELEASE}/main\n",
                ),
            ],
            ..Spec::default()
        },
    );
    packages.insert(
        "base-kernel",
        Spec {
            version: "0.2-r18",
            depends: "kmod procps",
            triggers: &[
                "+/usr/lib/depmod.d",
                "+/usr/lib/firmware",
                "+/usr/lib/modules/*",
                "+/usr/share/initramfs-tools",
                "+/usr/src",
            ],
            files: vec![file("usr/lib/base-kernel/run-kernel-d", "#!/bin/sh\n")],
            ..Spec::default()
        },
    );
    let dist = format!("usr/lib/modules/{KERNEL}/apk-dist");
    let builtin: String = [
        "loop",
        "squashfs",
        "overlay",
        "isofs",
        "sr_mod",
        "sd_mod",
        "nvme",
        "vmd",
        "ahci",
        "ata_piix",
        "mmc_block",
        "sdhci-pci",
        "usb-storage",
        "uas",
        "xhci-pci",
        "ehci-pci",
        "ohci-pci",
        "uhci-hcd",
        "usbhid",
        "hid-generic",
        "virtio_blk",
        "virtio_scsi",
        "virtio_pci",
        "vmw_pvscsi",
        "mptspi",
        "xen-blkfront",
        "ext4",
        "vfat",
        "exfat",
        "ntfs3",
        "dm-verity",
    ]
    .iter()
    .map(|name| format!("kernel/x/{name}.ko\n"))
    .collect();
    packages.insert(
        "linux-stable",
        Spec {
            version: "7.1.8-r0",
            depends: "base-kernel",
            provides: "linux",
            files: vec![
                file(&format!("{dist}/.apk-series"), "linux-stable\n"),
                file(&format!("{dist}/modules.order"), ""),
                file(&format!("{dist}/modules.builtin"), &builtin),
                file(&format!("{dist}/boot/vmlinuz-{KERNEL}"), "the kernel\n"),
                file(&format!("{dist}/boot/config-{KERNEL}"), "CONFIG_MODULES=y\n"),
                file(&format!("{dist}/boot/System.map-{KERNEL}"), "0 T start\n"),
            ],
            ..Spec::default()
        },
    );
    // The kernel of the Raspberry Pi, with the device trees that its firmware reads.
    packages.insert(
        "linux-rpi",
        Spec {
            version: "7.1.8-r0",
            depends: "base-kernel",
            provides: "linux",
            files: vec![
                file(&format!("{dist}/.apk-series"), "linux-rpi\n"),
                file(&format!("{dist}/modules.order"), ""),
                file(&format!("{dist}/modules.builtin"), &builtin),
                file(&format!("{dist}/boot/vmlinuz-{KERNEL}"), "the kernel\n"),
                file(
                    &format!("{dist}/boot/dtbs/dtbs-{KERNEL}/broadcom/bcm2711-rpi-4-b.dtb"),
                    "a tree\n",
                ),
                file(
                    &format!("{dist}/boot/dtbs/dtbs-{KERNEL}/overlays/vc4-kms-v3d.dtbo"),
                    "an overlay\n",
                ),
            ],
            ..Spec::default()
        },
    );
    // Boards: what boots them comes with a package of the board's name (cports, main/base-pbp and its like).
    for (name, depends) in [
        ("base-pbp", "u-boot-pinebook-pro-rk3399"),
        ("base-rockpro64", "u-boot-rockpro64-rk3399"),
        ("base-rock64", "u-boot-rock64-rk3328"),
        ("base-quartzpro64", "u-boot-quartzpro64-rk3588"),
        ("base-unmatched", "u-boot-sifive_unmatched"),
        ("base-rpi", "rpi-boot"),
    ] {
        packages.insert(
            name,
            Spec {
                version: "1-r0",
                depends,
                ..Spec::default()
            },
        );
        if let Some(board) = depends.strip_prefix("u-boot-") {
            let first = match board {
                "sifive_unmatched" => "u-boot-spl.bin",
                _ => "idbloader.img",
            };
            let files = [first, "u-boot.itb"];
            packages.insert(
                depends,
                Spec {
                    version: "2026.07-r0",
                    files: files
                        .map(|name| {
                            file(
                                &format!("usr/lib/u-boot/{board}/{name}"),
                                &format!("{name} of {board}\n"),
                            )
                        })
                        .into(),
                    ..Spec::default()
                },
            );
        }
    }
    packages.insert(
        "rpi-boot",
        Spec {
            version: "1-r0",
            files: vec![
                file("boot/start4.elf", "firmware\n"),
                file("boot/fixup4.dat", "a fix\n"),
                file("boot/config.txt", "[all]\ninclude kernel.txt\n"),
            ],
            ..Spec::default()
        },
    );
    packages.insert(
        "linux-stable-zfs-bin",
        Spec {
            version: "2.4.3.7.1.8-r0",
            depends: "linux-stable~7.1.8 zfs~2.4.3",
            files: vec![file("usr/share/licenses/zfs-bin/NOTICE", "words\n")],
            ..Spec::default()
        },
    );
    for (name, service) in [
        ("syslog-ng", "syslog-ng"),
        ("dhcpcd", "dhcpcd"),
        ("openssh", "sshd"),
    ] {
        packages.insert(
            name,
            Spec {
                version: "1-r0",
                depends: "so:libc.so",
                files: vec![
                    file(&format!("usr/bin/{service}"), "a daemon\n"),
                    file(
                        &format!("usr/lib/dinit.d/{service}"),
                        &format!("type = process\ncommand = /usr/bin/{service}\ndepends-on: login.target\n"),
                    ),
                ],
                ..Spec::default()
            },
        );
    }
    for (name, version) in [
        ("zfs", "2.4.3-r0"),
        ("musl-progs", "1.2.6-r1"),
        ("dinit", "0.22.0-r0"),
        ("udev", "258-r1"),
    ] {
        packages.insert(
            name,
            Spec {
                version,
                files: vec![file(&format!("usr/share/{name}/file"), name)],
                ..Spec::default()
            },
        );
    }
    // Everything else that is named is a package of one file.
    let named: BTreeSet<&'static str> = packages
        .values()
        .flat_map(|spec| spec.depends.split(' '))
        .filter(|word| !word.is_empty() && !word.contains([':', '!', '~', '=']))
        .collect();
    for name in named {
        if packages.contains_key(name) || matches!(name, "dinit-chimera-device" | "musl-safety-override") {
            continue;
        }
        packages.insert(
            name,
            Spec {
                version: "1-r0",
                depends: "so:libc.so",
                files: vec![file(&format!("usr/share/{name}/file"), name)],
                ..Spec::default()
            },
        );
    }
    packages
}

fn write(folder: &std::path::Path, arch: &str, key: &SigningKey, name: &str, spec: &Spec) {
    let words = |text: &str| {
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(|word| dependency::parse(word).unwrap())
            .collect()
    };
    let mut builder = PackageBuilder::new(PackageInfo {
        name: name.to_owned(),
        version: spec.version.to_owned(),
        arch: arch.to_owned(),
        license: "custom:test".to_owned(),
        origin: name.to_owned(),
        build_time: TIME,
        depends: words(spec.depends),
        provides: words(spec.provides),
        install_if: words(spec.install_if),
        replaces: words(spec.replaces),
        provider_priority: spec.priority,
        ..PackageInfo::default()
    });
    for (path, target) in spec.links {
        builder.symlink(path.as_bytes(), target.as_bytes(), TIME).unwrap();
    }
    for (path, mode, content) in &spec.files {
        builder
            .file(path.as_bytes(), Acl::root(*mode), TIME, content.clone())
            .unwrap();
    }
    for glob in spec.triggers {
        builder.trigger(glob);
    }
    if !spec.triggers.is_empty() {
        builder.script(lycia_apk::metadata::ScriptKind::Trigger, "#!/bin/sh\nexit 1\n");
    }
    let mut bytes = Vec::new();
    builder
        .finish()
        .unwrap()
        .write(Default::default(), std::slice::from_ref(key), &mut bytes)
        .unwrap();
    std::fs::write(folder.join(format!("{name}-{}.apk", spec.version)), bytes).unwrap();
}

/// The repositories, served, and a store of its own.
pub struct Chimera {
    folder: tempfile::TempDir,
    served: Served,
}

impl Chimera {
    pub fn new() -> Chimera {
        Chimera::of("x86_64")
    }

    /// The repositories of an architecture.
    pub fn of(arch: &str) -> Chimera {
        let folder = open_folder();
        let path = |name: &str| folder.path().join(name);
        let repo = |arguments: &[&str]| {
            let mut command = Command::new(LYCIA);
            command.current_dir(folder.path()).args(["--quiet", "repo"]);
            succeed(command.args(arguments));
        };
        let (key, public) = new_key("test.pub");
        std::fs::write(path("test.pub"), public).unwrap();
        repo(&["key", "index.rsa"]);
        let [main, user, tools] =
            ["www/current/main", "www/current/user", "tools"].map(|part| path(&format!("{part}/{arch}")));
        for part in [&main, &user, &tools] {
            std::fs::create_dir_all(part).unwrap();
        }
        for (name, spec) in main_packages() {
            write(&main, arch, &key, name, &spec);
        }
        let extra = |name: &str, file: &str| Spec {
            version: "1-r0",
            files: vec![(file.to_owned(), 0o755, format!("{name}\n").into_bytes())],
            ..Spec::default()
        };
        write(&user, arch, &key, "aerc", &extra("aerc", "usr/bin/aerc"));
        write(
            &tools,
            arch,
            &key,
            "lycia-init",
            &extra("lycia-init", "usr/lib/lycia/init"),
        );
        write(
            &tools,
            arch,
            &key,
            "lycia-install",
            &extra("lycia-install", "usr/bin/lycia-install"),
        );
        for part in ["www/current/main", "www/current/user", "tools"] {
            // As cbuild makes its indexes.
            repo(&[
                "index",
                part,
                "--sign",
                "index.rsa",
                "--key",
                "test.pub",
                "--hash",
                "sha256-160",
                "--apkindex",
            ]);
        }
        let served = Served::new(&folder.path().join("www"));
        Chimera { folder, served }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `lycia build IMAGE` of this checkout's own definition, whose initramfs is made of the seed.
    pub fn build(&self, image: &str, output: &str) -> Command {
        let mut command = self.build_root(image, output);
        command
            .arg("--mirror")
            .arg(format!("seed:={}", self.path("tools").display()));
        command
    }

    /// As [`Chimera::build`], of one that takes nothing from the seed.
    fn build_root(&self, image: &str, output: &str) -> Command {
        let mut command = Command::new(LYCIA);
        command
            .env_remove("SOURCE_DATE_EPOCH")
            .args(["--quiet", "--project"])
            .arg(checkout())
            .arg("--cache")
            .arg(self.path("store"))
            .args(["build", image])
            .arg("--mirror")
            .arg(format!("https://repo.chimera-linux.org={}", self.served.url))
            .arg("--trust")
            .arg(self.path("test.pub"))
            .arg("--trust")
            .arg(self.path("index.rsa.pub"))
            .arg("--output")
            .arg(self.path(output));
        command
    }

    /// A file of an ISO.
    fn of_iso(&self, iso: &str, path: &str) -> Vec<u8> {
        let mut command = tool("bsdtar", "libarchive-tools");
        succeed(command.arg("-xOf").arg(self.path(iso)).arg(path)).stdout
    }

    /// A file of the root of an ISO.
    fn of_root(&self, iso: &str, path: &str) -> String {
        let squashfs = self.path("filesystem.squashfs");
        std::fs::write(&squashfs, self.of_iso(iso, "live/filesystem.squashfs")).unwrap();
        let mut command = tool("unsquashfs", "squashfs-tools");
        text(&succeed(command.arg("-cat").arg(&squashfs).arg(path)).stdout)
    }
}

#[test]
fn the_definition_of_chimera_builds_over_http_from_a_repository_of_its_shape() {
    let chimera = Chimera::new();
    // Not of Chimera's keys: without --trust it is refused.
    let mut untrusted = Command::new(LYCIA);
    untrusted
        .args(["--quiet", "--project"])
        .arg(checkout())
        .arg("--cache")
        .arg(chimera.path("store"))
        .args(["build", "chimera", "--mirror"])
        .arg(format!("https://repo.chimera-linux.org={}", chimera.served.url))
        .arg("--output")
        .arg(chimera.path("refused"));
    let refused = run(&mut untrusted);
    assert_eq!(
        refused.status.code(),
        Some(i32::from(Kind::Verification.code())),
        "{}",
        text(&refused.stderr)
    );

    let built = succeed(&mut chimera.build("chimera", "output"));
    assert!(
        !text(&built.stderr).contains("not run"),
        "{}",
        text(&built.stderr)
    );
    crate::manifests::hold("chimera", &chimera.path("output"));
    let iso = "output/chimera-x86_64.iso";
    let lock = text(&read(&chimera.path("output/chimera-x86_64.lock")));
    assert!(
        lock.contains("https://repo.chimera-linux.org/current/main/x86_64/Packages.adb"),
        "{lock}"
    );
    assert!(!lock.contains("127.0.0.1"), "{lock}");

    let world = chimera.of_root(iso, "etc/apk/world");
    assert_eq!(
        world,
        "base-full\nbase-live\nlinux-stable\nlinux-stable-zfs-bin\n"
    );
    let database = chimera.of_root(iso, "usr/lib/apk/db/installed");
    let installed: BTreeSet<&str> = database
        .lines()
        .filter_map(|line| line.strip_prefix("P:"))
        .collect();
    // What install-if rules and providers lead to.
    for name in [
        "base-full-core",
        "base-full-kernel",
        "base-full-firmware",
        "base-full-misc",
        "base-full-net",
        "musl",
        "dinit-chimera-udev",
        "grub-x86_64-efi",
        "limine",
        "zfs",
        "chimera-repo-main",
    ] {
        assert!(installed.contains(name), "{name} is not in {installed:?}");
    }
    for name in [
        "base-full-fonts",
        "base-full-minimal",
        "musl-mallocng",
        "dinit-chimera-device-none",
        "lycia-init",
        "lycia-install",
    ] {
        assert!(!installed.contains(name), "{name} is in {installed:?}");
    }
    // The keys come from the distribution's package; those of this run's trust stay outside.
    let mut list = tool("unsquashfs", "squashfs-tools");
    let list = text(&succeed(list.arg("-lc").arg(chimera.path("filesystem.squashfs"))).stdout);
    assert!(
        list.contains("usr/lib/apk/keys/x86_64@chimera-linux.org-669d70ff.rsa.pub"),
        "{list}"
    );
    assert!(
        !list.contains("test.pub") && !list.contains("index.rsa"),
        "{list}"
    );
    assert!(!list.contains("etc/apk/keys/x86_64@"), "{list}");
    // The triggers' work: the kernel laid out, users, copies.
    assert_eq!(chimera.of_iso(iso, "live/vmlinuz"), b"the kernel\n");
    assert!(list.contains(&format!("boot/vmlinuz-{KERNEL}")), "{list}");
    assert!(
        list.contains(&format!("usr/lib/modules/{KERNEL}/modules.dep")),
        "{list}"
    );
    assert_eq!(chimera.of_root(iso, "etc/fstab"), "# nothing\n");
    assert!(chimera.of_root(iso, "etc/group").contains("video:x:19:"));

    let menu = text(&chimera.of_iso(iso, "boot/grub/grub.cfg"));
    let entry = menu
        .lines()
        .find(|line| line.trim_start().starts_with("linux "))
        .unwrap();
    for word in [
        "/live/vmlinuz",
        "boot=live",
        "init=/usr/bin/init",
        "loglevel=4",
        "dinit_skip_volumes=1",
    ] {
        assert!(
            entry.split_whitespace().any(|one| one == word),
            "no {word} in {entry}"
        );
    }
    assert!(
        menu.contains("timeout=10") && menu.contains("'Chimera Linux'"),
        "{menu}"
    );
    let label = succeed(
        tool("blkid", "util-linux")
            .args(["-p", "-o", "value", "-s", "LABEL"])
            .arg(chimera.path(iso)),
    );
    assert_eq!(text(&label.stdout).trim(), "CHIMERA_LIVE");
    std::fs::write(chimera.path("initrd.zst"), chimera.of_iso(iso, "live/initrd")).unwrap();
    let cpio = succeed(
        tool("zstd", "zstd")
            .args(["-dcq"])
            .arg(chimera.path("initrd.zst")),
    );
    std::fs::write(chimera.path("initrd.cpio"), cpio.stdout).unwrap();
    let of_initrd = |path: &str| {
        let mut command = tool("bsdtar", "libarchive-tools");
        text(&succeed(command.arg("-xOf").arg(chimera.path("initrd.cpio")).arg(path)).stdout)
    };
    assert_eq!(of_initrd("init"), "lycia-init\n");
    assert_eq!(of_initrd("usr/bin/sh"), "a shell\n");
    let config = of_initrd("etc/lycia-init.conf");
    assert!(
        config.contains("services = rtkit polkitd syslog-ng networkmanager|dhcpcd"),
        "{config}"
    );

    installs(&chimera, iso);

    // Nothing of the server is needed any more.
    succeed(chimera.build("chimera", "again").arg("--offline"));
    assert!(read(&chimera.path("again/chimera-x86_64.iso")) == read(&chimera.path(iso)));
}

/// The medium offers installation: Chimera's packages with both C libraries, and the programs that Chimera lacks.
fn installs(chimera: &Chimera, iso: &str) {
    for path in ["usr/bin/lycia-install", "usr/lib/lycia/init"] {
        let name = if path.ends_with("init") {
            "lycia-init\n"
        } else {
            "lycia-install\n"
        };
        assert_eq!(chimera.of_root(iso, path), name);
        assert_eq!(text(&chimera.of_iso(iso, &format!("live/root/{path}"))), name);
    }
    let install: toml::Table = toml::from_str(&text(&chimera.of_iso(iso, "live/install.toml"))).unwrap();
    assert_eq!(install["kernel"][0]["package"].as_str(), Some("linux-stable"));
    let allocators = install["allocator"].as_array().unwrap();
    let names: Vec<_> = allocators
        .iter()
        .map(|one| one["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["mimalloc", "mallocng"]);
    assert_eq!(allocators[1]["virtual"][0].as_str(), Some("musl-safety-override"));
    let mut list = tool("bsdtar", "libarchive-tools");
    let list = text(&succeed(list.arg("-tf").arg(chimera.path(iso))).stdout);
    for name in [
        "base-full-core-0.6-r3",
        "linux-stable-7.1.8-r0",
        "musl-1.2.6-r1",
        "musl-mallocng-1.2.6-r1",
        "grub-x86_64-efi-1-r0",
        // Of the sets.
        "lvm2-1-r0",
        "firmware-linux-soc-1-r0",
    ] {
        let path = format!("live/packages/x86_64/{name}.apk");
        // What installs nothing has no file.
        let meta = name.starts_with("base-full-core");
        assert_eq!(list.lines().any(|line| line == path), !meta, "{path} in {list}");
    }
    assert!(
        !list.contains("zfs-bin") && !list.contains("musl-safety-override"),
        "{list}"
    );
}

#[test]
fn the_other_allocator_needs_its_virtual_package() {
    let chimera = Chimera::new();
    succeed(&mut chimera.build("chimera-mallocng", "output"));
    crate::manifests::hold("chimera-mallocng", &chimera.path("output"));
    let iso = "output/chimera-mallocng-x86_64.iso";
    assert_eq!(
        chimera.of_root(iso, "etc/apk/world"),
        "base-full\nbase-live\nlinux-stable\nlinux-stable-zfs-bin\nmusl-mallocng\nmusl-safety-override=0\n"
    );
    assert_eq!(chimera.of_root(iso, "usr/lib/libc.so"), "libc with mallocng\n");
    let database = chimera.of_root(iso, "usr/lib/apk/db/installed");
    assert!(!database.contains("\nP:musl\n"), "{database}");
    let mut why = Command::new(LYCIA);
    why.args(["--quiet", "--offline", "--project"]).arg(checkout());
    why.arg("--cache")
        .arg(chimera.path("store"))
        .args(["why", "dinit", "chimera", "--mirror"]);
    why.arg(format!("https://repo.chimera-linux.org={}", chimera.served.url));
    why.arg("--mirror")
        .arg(format!("seed:={}", chimera.path("tools").display()));
    why.arg("--trust")
        .arg(chimera.path("test.pub"))
        .arg("--trust")
        .arg(chimera.path("index.rsa.pub"));
    assert_eq!(
        text(&succeed(&mut why).stdout),
        "the image chimera asks for base-full 0.6-r3\n\
         base-full brings base-full-core 0.6-r3, which is added where there is base-full=0.6-r3\n\
         base-full-core needs dinit-chimera 0.99.24-r0\n\
         dinit-chimera needs dinit 0.22.0-r0\n\n\
         an installation from chimera with network asks for base-full 0.6-r3\n\
         base-full brings base-full-core 0.6-r3, which is added where there is base-full=0.6-r3\n\
         base-full-core needs dinit-chimera 0.99.24-r0\n\
         dinit-chimera needs dinit 0.22.0-r0\n\
         so do 8 more installations: with linux-stable, volumes, soc-firmware, xfs, btrfs, f2fs, mimalloc, mallocng\n"
    );
}

#[test]
fn the_tarball_and_the_container_image_of_chimera() {
    let chimera = Chimera::new();
    succeed(&mut chimera.build_root("chimera-bootstrap", "output"));
    crate::manifests::hold("chimera-bootstrap", &chimera.path("output"));
    let path = chimera.path("output/chimera-bootstrap-x86_64.tar.gz");
    let list = text(&succeed(tool("tar", "tar").arg("-tf").arg(&path)).stdout);
    for name in [
        "bin",
        "usr/lib/libc.so",
        "usr/lib/apk/db/installed",
        "etc/apk/world",
        "usr/bin/sh",
    ] {
        assert!(list.lines().any(|line| line == name), "no {name} in {list}");
    }
    let mut inspect = tool("skopeo", "skopeo");
    let image = chimera.path("output/chimera-bootstrap-x86_64.oci.tar");
    inspect
        .args(["inspect", "--config"])
        .arg(format!("oci-archive:{}", image.display()));
    let config: serde_json::Value = serde_json::from_slice(&succeed(&mut inspect).stdout).unwrap();
    assert_eq!(config["architecture"], "amd64");
    assert_eq!(config["config"]["Cmd"][0], "/bin/sh");
}
