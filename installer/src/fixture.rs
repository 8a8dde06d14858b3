//! A medium with a small signed repository, for tests.

use std::path::Path;
use std::process::Command;

use lycia_apk::dependency;
use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::keys::{KeyRing, SigningKey};
use lycia_apk::metadata::{Acl, PackageInfo, ScriptKind};
use lycia_apk::package::{PackageBuilder, Trust};

use crate::medium::Medium;

/// A keyboard layout without a table.
const NO_KEYS: &[u8] = &{
    let mut bytes = [0; 7 + 256];
    let magic = *b"bkeymap";
    let mut at = 0;
    while at < magic.len() {
        bytes[at] = magic[at];
        at += 1;
    }
    bytes
};

pub(crate) const TIME: u64 = 1_700_000_000;
pub(crate) const KERNEL: &str = "1.2.3-0-small";
/// C libraries, told apart as real ones are.
pub(crate) const SCUDO: &[u8] = b"\x7fELF....__libc_start_main..Scudo ERROR: ............................";
pub(crate) const MALLOCNG: &[u8] = b"\x7fELF....__libc_start_main............................";
pub(crate) const MIMALLOC_LIBC: &[u8] =
    b"\x7fELF....__libc_start_main..mimalloc: .............................";
/// Libraries to preload, likewise.
pub(crate) const MIMALLOC: &[u8] = b"\x7fELF....mi_malloc........................................";
pub(crate) const RPMALLOC: &[u8] = b"\x7fELF....rpmalloc.........................................";
const GRUB: &str = "/usr/lib/grub";

/// A medium in a folder that goes with it.
pub(crate) struct Fixture {
    pub folder: tempfile::TempDir,
    key: SigningKey,
    packages: Vec<PackageInfo>,
}

pub(crate) struct Spec<'a> {
    pub name: &'a str,
    pub version: &'a str,
    pub depends: &'a str,
    pub provides: &'a str,
    pub replaces: &'a str,
    pub priority: u64,
    pub files: &'a [(&'a str, u16, &'a [u8])],
    pub links: &'a [(&'a str, &'a str)],
    /// What its trigger listens to; empty for no trigger.
    pub trigger: &'a str,
}

pub(crate) const NOTHING: Spec<'static> = Spec {
    name: "",
    version: "1-r0",
    depends: "",
    provides: "",
    replaces: "",
    priority: 0,
    files: &[],
    links: &[],
    trigger: "",
};

impl Fixture {
    pub fn package(&mut self, spec: &Spec<'_>) {
        let list = |text: &str| {
            text.split_whitespace()
                .map(|one| dependency::parse(one).unwrap())
                .collect()
        };
        let mut builder = PackageBuilder::new(PackageInfo {
            name: spec.name.into(),
            version: spec.version.into(),
            arch: "x86_64".into(),
            license: "MIT".into(),
            description: spec.name.into(),
            build_time: TIME,
            depends: list(spec.depends),
            provides: list(spec.provides),
            replaces: list(spec.replaces),
            provider_priority: spec.priority,
            ..PackageInfo::default()
        });
        for (path, mode, bytes) in spec.files {
            builder
                .file(path.as_bytes(), Acl::root(*mode), TIME, bytes.to_vec())
                .unwrap();
        }
        for (path, target) in spec.links {
            builder.symlink(path.as_bytes(), target.as_bytes(), TIME).unwrap();
        }
        if !spec.trigger.is_empty() {
            builder.script(ScriptKind::Trigger, b"#!/bin/sh\necho \"$@\"\n".to_vec());
            builder.trigger(spec.trigger);
        }
        if matches!(spec.name, "base" | "base-files") {
            for folder in [
                "dev",
                "proc",
                "run",
                "sys",
                "tmp",
                "root",
                "usr/lib/apk/db",
                "etc/apk",
            ] {
                builder.directory(folder.as_bytes(), Acl::root(0o755)).unwrap();
            }
        }
        let mut bytes = Vec::new();
        builder
            .finish()
            .unwrap()
            .write(Default::default(), std::slice::from_ref(&self.key), &mut bytes)
            .unwrap();
        let entry = index::entry(&bytes, &KeyRing::new(), Trust::AllowUntrusted, IndexHash::Sha256).unwrap();
        let folder = self.folder.path().join("live/packages/x86_64");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}-{}.apk", spec.name, spec.version)), bytes).unwrap();
        self.packages.push(entry);
    }

    fn index(&mut self) {
        self.packages.sort_by(|a, b| a.name.cmp(&b.name));
        let index = Index {
            packages: self.packages.clone(),
            ..Index::default()
        };
        let bytes = index
            .write(&Default::default(), std::slice::from_ref(&self.key))
            .unwrap();
        std::fs::write(
            self.folder.path().join("live/packages/x86_64/Packages.adb"),
            bytes,
        )
        .unwrap();
    }

    /// A medium with a key and nothing that it signed.
    fn empty() -> Fixture {
        let made = Command::new("openssl")
            .args([
                "genpkey",
                "-quiet",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ])
            .output()
            .expect("openssl is missing: install the Debian package openssl");
        let key = SigningKey::from_pem("small.rsa.pub", &made.stdout).unwrap();
        let fixture = Fixture {
            folder: tempfile::tempdir().unwrap(),
            key,
            packages: vec![],
        };
        let public = fixture.key.public_pem().unwrap();
        fixture.write("live/packages/keys/small.rsa.pub", public.as_bytes());
        fixture
    }

    /// A medium of the shape of Chimera's main repository, as far as its C libraries go: names, dependencies, rules and priorities as in its templates, and the allocators of
    /// this checkout's own definition.
    pub fn chimera(version: &str) -> Fixture {
        let mut fixture = Fixture::empty();
        let full = format!("{version}-r1");
        let own = |name: &'static str| Spec { name, ..NOTHING };
        fixture.package(&Spec {
            files: &[
                ("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n"),
                ("etc/group", 0o644, b"root:x:0:\n"),
                ("usr/lib/os-release", 0o644, b"ID=\"chimera\"\n"),
            ],
            links: &[("bin", "usr/bin"), ("lib", "usr/lib"), ("sbin", "usr/bin")],
            ..own("base-files")
        });
        fixture.package(&Spec {
            version: &full,
            files: &[("usr/bin/getent", 0o755, full.as_bytes())],
            ..own("musl-progs")
        });
        let loader = &[("usr/lib/ld-musl-x86_64.so.1", "libc.so")];
        let depends = format!("base-files musl-progs~{version}");
        fixture.package(&Spec {
            version: &full,
            depends: &depends,
            provides: "so:libc.so=0",
            priority: 999,
            files: &[("usr/lib/libc.so", 0o755, MIMALLOC_LIBC)],
            links: loader,
            ..own("musl")
        });
        fixture.package(&Spec {
            version: &full,
            depends: &format!("{depends} musl-safety-override"),
            provides: "so:libc.so=0",
            replaces: &format!("musl~{version}"),
            files: &[
                ("usr/lib/libc.so", 0o755, MALLOCNG),
                ("usr/share/licenses/musl-mallocng/COPYRIGHT", 0o644, b"text\n"),
            ],
            links: loader,
            ..own("musl-mallocng")
        });
        fixture.package(&Spec {
            version: &full,
            depends: "so:libc.so",
            provides: "cmd:sh=1",
            files: &[("usr/bin/sh", 0o755, b"a shell\n")],
            ..own("chimerautils")
        });
        fixture.package(&Spec {
            depends: "base-files chimerautils",
            files: &[("usr/share/base-full/file", 0o644, b"text\n")],
            ..own("base-full")
        });
        fixture.index();
        let repositories = include_str!("../../configs/repositories/chimera.toml");
        let tables = &repositories[repositories.find("[[allocator]]").unwrap()..];
        let text = format!(
            "schema = 1\nname = \"Chimera\"\narch = \"x86_64\"\npackages = [\"base-full\"]\n\n{tables}"
        );
        fixture.write("live/install.toml", text.as_bytes());
        fixture
    }

    /// A medium whose packages boot nothing, but have all parts of what boots.
    pub fn new() -> Fixture {
        let mut fixture = Fixture::empty();
        fixture.package(&Spec {
            name: "base",
            files: &[
                ("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\n"),
                (
                    "etc/group",
                    0o644,
                    b"root:x:0:\nwheel:x:1:\naudio:x:3:\nusers:x:100:\n",
                ),
                ("etc/shadow", 0o640, b"root:*:::::::\n"),
                ("etc/skel/.profile", 0o644, b"# profile\n"),
                ("usr/lib/lycia/init", 0o755, b"an init\n"),
                ("usr/bin/sh", 0o755, b"a shell\n"),
                (
                    "usr/lib/dinit.d/boot",
                    0o644,
                    b"type = internal\nwaits-for.d: /etc/dinit.d/boot.d\n",
                ),
                ("usr/lib/dinit.d/udhcpc", 0o644, b"type = internal\n"),
                ("usr/lib/dinit.d/pre-network.target", 0o644, b"type = internal\n"),
                ("usr/lib/dinit.d/network.target", 0o644, b"type = internal\n"),
                ("usr/lib/dinit.d/sshd", 0o644, b"type = internal\n"),
                (
                    "usr/lib/dinit.d/early-fs-local.target",
                    0o644,
                    b"type = internal\n",
                ),
                ("usr/lib/dinit.d/early-swap", 0o644, b"type = internal\n"),
                ("usr/lib/dinit.d/local.target", 0o644, b"type = internal\n"),
                ("usr/bin/mkswap", 0o755, b"a program\n"),
                ("usr/share/zoneinfo/Europe/Prague", 0o644, b"TZif"),
                ("usr/share/bkeymaps/us/us.bmap", 0o644, NO_KEYS),
                ("usr/share/bkeymaps/de/de.bmap", 0o644, NO_KEYS),
            ],
            links: &[("bin", "usr/bin"), ("lib", "usr/lib"), ("sbin", "usr/bin")],
            ..NOTHING
        });
        let modules = format!("usr/lib/modules/{KERNEL}");
        fixture.package(&Spec {
            name: "kernel",
            depends: "base dinit-environment",
            files: &[
                (&format!("boot/vmlinuz-{KERNEL}"), 0o644, b"a kernel\n"),
                (&format!("{modules}/modules.order"), 0o644, b""),
                (
                    &format!("{modules}/modules.builtin"),
                    0o644,
                    b"kernel/fs/ext4/ext4.ko\nkernel/fs/btrfs/btrfs.ko\n",
                ),
            ],
            ..NOTHING
        });
        let loader = &[("usr/lib/ld-musl-x86_64.so.1", "libc.so")];
        fixture.package(&Spec {
            name: "musl",
            depends: "base",
            provides: "so:libc.so=0",
            priority: 999,
            files: &[("usr/lib/libc.so", 0o755, SCUDO)],
            links: loader,
            ..NOTHING
        });
        fixture.package(&Spec {
            name: "musl-mallocng",
            depends: "base musl-safety-override",
            provides: "musl=1-r0 so:libc.so=0",
            replaces: "musl",
            files: &[
                ("usr/lib/libc.so", 0o755, MALLOCNG),
                ("usr/share/doc/mallocng", 0o644, b"text\n"),
            ],
            links: loader,
            ..NOTHING
        });
        fixture.package(&Spec {
            name: "musl-safety-override-consent",
            depends: "base",
            provides: "musl-safety-override",
            ..NOTHING
        });
        // dinit's environment file has one owner: the plain one, or an allocator for all programs.
        fixture.package(&Spec {
            name: "environment",
            depends: "base",
            provides: "dinit-environment=1-r0",
            replaces: "fast-global safe-global",
            priority: 10,
            files: &[("etc/dinit/environment", 0o644, b"# plain\n")],
            ..NOTHING
        });
        for (name, other) in [("fast-global", "safe-global"), ("safe-global", "fast-global")] {
            let library = format!("/usr/lib/lib{name}.so");
            let line = format!("LD_PRELOAD={library}\n");
            let content = if name == "fast-global" { RPMALLOC } else { MIMALLOC };
            fixture.package(&Spec {
                name,
                depends: "base",
                provides: "dinit-environment=1-r0 malloc-global=1-r0",
                replaces: &format!("environment {other}"),
                files: &[
                    (library.trim_start_matches('/'), 0o755, content),
                    ("etc/dinit/environment", 0o644, line.as_bytes()),
                    (
                        "etc/profile.d/malloc-global.sh",
                        0o644,
                        format!("export {line}").as_bytes(),
                    ),
                ],
                ..NOTHING
            });
        }
        fixture.package(&Spec {
            name: "btrfs-progs",
            depends: "base",
            files: &[("usr/bin/mkfs.btrfs", 0o755, b"a program\n")],
            ..NOTHING
        });
        fixture.package(&Spec {
            name: "fonts",
            depends: "base",
            files: &[("usr/share/fonts/a.ttf", 0o644, b"a font\n")],
            trigger: "/usr/share/fonts",
            ..NOTHING
        });
        for platform in ["i386-pc", "x86_64-efi"] {
            let folder = format!("{GRUB}/{platform}");
            let listing = std::fs::read_dir(&folder).unwrap_or_else(|_| {
                panic!("{folder} is missing: install the Debian packages grub-pc-bin and grub-efi-amd64-bin")
            });
            let mut files: Vec<(String, Vec<u8>)> = listing
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file())
                .map(|path| {
                    (
                        path.file_name().unwrap().to_string_lossy().into_owned(),
                        std::fs::read(path).unwrap(),
                    )
                })
                .filter(|(name, bytes)| {
                    !name.ends_with(".efi") && !name.ends_with(".module") && bytes.len() < 400_000
                })
                .map(|(name, bytes)| (format!("usr/lib/grub/{platform}/{name}"), bytes))
                .collect();
            files.sort();
            let files: Vec<(&str, u16, &[u8])> = files
                .iter()
                .map(|(path, bytes)| (path.as_str(), 0o644, bytes.as_slice()))
                .collect();
            fixture.package(&Spec {
                name: &format!("grub-{platform}"),
                depends: "base",
                files: &files,
                ..NOTHING
            });
        }
        fixture.index();
        let early = fixture.folder.path().join("early.cfg");
        std::fs::write(
            &early,
            "search --no-floppy --set=root --label SMALL\nset prefix=($root)/boot/grub\n",
        )
        .unwrap();
        let out = fixture.folder.path().join("EFI/BOOT/BOOTX64.EFI");
        std::fs::create_dir_all(out.parent().unwrap()).unwrap();
        let status = Command::new("grub-mkimage")
            .args([
                "--format",
                "x86_64-efi",
                "--directory",
                "/usr/lib/grub/x86_64-efi",
                "--prefix",
                "/boot/grub",
                "--config",
            ])
            .arg(&early)
            .arg("--output")
            .arg(&out)
            .args(["part_gpt", "ext2", "fat", "search_fs_uuid", "configfile"])
            .status()
            .expect("grub-mkimage is missing: install the Debian package grub-common");
        assert!(status.success());
        fixture.write(
            "live/install.toml",
            br#"schema = 1
name = "Small"
arch = "x86_64"
packages = ["base", "musl", "grub-i386-pc", "grub-x86_64-efi"]

[[kernel]]
package = "kernel"

[[file-system]]
name = "btrfs"
packages = ["btrfs-progs"]

[[file-system]]
name = "f2fs"
packages = ["f2fs-tools"]
kernels = ["another"]

[[grub]]
platform = "i386-pc"
firmware = "bios"

[[grub]]
platform = "x86_64-efi"
firmware = "uefi"
removable-name = "BOOTX64.EFI"

[initramfs]
available-modules = ["ext4", "no-such-module"]
keymaps = true

[[allocator]]
name = "scudo"
default = true
packages = ["musl"]

[[allocator]]
name = "mallocng"
packages = ["musl-mallocng", "musl-safety-override-consent"]

[[allocator]]
name = "fast"
packages = ["musl", "fast-global"]
preload = "/usr/lib/libfast-global.so"

[[allocator]]
name = "safe"
packages = ["musl", "safe-global"]
preload = "/usr/lib/libsafe-global.so"
"#,
        );
        fixture
    }

    fn write(&self, path: &str, bytes: &[u8]) {
        let path = self.folder.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    pub fn medium(&self) -> Medium {
        Medium::open(self.folder.path()).unwrap()
    }
}

/// Writes a tree into a directory, as far as a user who is not root can.
pub(crate) fn write_tree(tree: &lycia_tree::Tree, to: &Path) {
    use std::os::unix::ffi::OsStrExt as _;
    for entry in tree.walk() {
        let place = to.join(std::ffi::OsStr::from_bytes(entry.relative()));
        match entry.inode.node() {
            None => std::fs::create_dir_all(&place).unwrap(),
            Some(lycia_tree::Node::Regular(content)) => std::fs::write(&place, content.bytes()).unwrap(),
            Some(lycia_tree::Node::Symlink(target)) => {
                std::os::unix::fs::symlink(std::ffi::OsStr::from_bytes(target), &place).unwrap();
            }
            Some(_) => {}
        }
    }
}
