//! A project of a few packages in a signed repository of its own: quick to build, free to break.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use lycia_apk::dependency;
use lycia_apk::index::{self, Index, IndexHash, WriteOptions};
use lycia_apk::keys::{KeyRing, SigningKey};
use lycia_apk::metadata::{Acl, PackageInfo};
use lycia_apk::package::{PackageBuilder, Trust};

use crate::program::{LYCIA, open_folder, read, succeed, tool};

/// When the packages were made, in seconds since 1970.
const TIME: u64 = 1_700_000_000;
/// Version of the kernel.
const KERNEL: &str = "1.2.3-0-small";

/// The project; its folder goes with it.
pub struct Small {
    folder: tempfile::TempDir,
    key: SigningKey,
}

/// A new key, and its public part in PEM.
pub fn new_key(name: &str) -> (SigningKey, String) {
    let made = succeed(tool("openssl", "openssl").args([
        "genpkey",
        "-quiet",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
    ]));
    let key = SigningKey::from_pem(name, &made.stdout).unwrap();
    let public = key.public_pem().unwrap();
    (key, public)
}

impl Small {
    /// A project whose image holds `filler` bytes of text besides what boots.
    pub fn new(filler: usize) -> Small {
        let (key, public) = new_key("small.pub");
        let small = Small {
            folder: open_folder(),
            key,
        };
        let repository = small.path("repository");
        for (path, text) in [
            (
                "configs/architectures/x86_64.toml",
                "summary = \"PC\"\nserial-console = \"ttyS0,115200\"\n[[grub]]\nplatform = \"i386-pc\"\n\
                 firmware = \"bios\"\n[[grub]]\nplatform = \"x86_64-efi\"\nfirmware = \"uefi\"\n\
                 removable-name = \"BOOTX64.EFI\"\n"
                    .to_owned(),
            ),
            (
                "configs/repositories/local.toml",
                format!(
                    "[[repository]]\nlocation = \"{}\"\nkeys = [\"keys/*.pub\"]\n",
                    repository.display()
                ),
            ),
            ("configs/keys/small.pub", public),
            ("overlays/extra/etc/motd", "good day\n".to_owned()),
        ] {
            small.write(path, &text);
        }
        small.define("");
        small.package("base", "1-r0", &[], |package| {
            for (path, text) in [
                ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n"),
                ("etc/group", "root:x:0:\n"),
                ("usr/lib/lycia/init", "an init\n"),
                ("usr/bin/sh", "a shell\n"),
            ] {
                let mode = if path.starts_with("usr") { 0o755 } else { 0o644 };
                package
                    .file(path.as_bytes(), Acl::root(mode), TIME, text.as_bytes().to_vec())
                    .unwrap();
            }
        });
        small.package("kernel", "1-r0", &["base"], |package| {
            let modules = format!("usr/lib/modules/{KERNEL}");
            for (path, text) in [
                (format!("boot/vmlinuz-{KERNEL}"), "a kernel\n"),
                (format!("{modules}/modules.order"), ""),
                (format!("{modules}/modules.builtin"), "kernel/fs/isofs/isofs.ko\n"),
            ] {
                package
                    .file(path.as_bytes(), Acl::root(0o644), TIME, text.as_bytes().to_vec())
                    .unwrap();
            }
        });
        small.package("filler", "1-r0", &[], |package| {
            // A few files of words in an order that is no order, so that compressing takes its time.
            let mut state = 88_172_645_463_325_252u64;
            for number in 0..4 {
                let mut bytes = Vec::with_capacity(filler / 4 + 32);
                while bytes.len() < filler / 4 {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    bytes.extend_from_slice(format!("{:05x} ", state & 0xf_ffff).as_bytes());
                }
                bytes.push(b'\n');
                let path = format!("usr/share/filler/{number}");
                package
                    .file(path.as_bytes(), Acl::root(0o644), TIME, bytes)
                    .unwrap();
            }
        });
        small.package("left", "1-r0", &["!right"], file_of_its_own("left"));
        small.package("right", "1-r0", &[], file_of_its_own("right"));
        small.package("needy", "1-r0", &["no-such-thing>=7"], file_of_its_own("needy"));
        small.index();
        small
    }

    /// A path in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a text file.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// Writes the definition of the image with `more` lines before its tables.
    pub fn define(&self, more: &str) {
        let text = format!(
            "repositories = [\"local\"]\npackages = [\"kernel\", \"filler\"]\noverlays = [\"extra\"]\n\
             outputs = [\"iso\"]\n{more}\n[initramfs]\nlevel = 3\n[squashfs]\nlevel = 9\n"
        );
        self.write("configs/images/small.toml", &text);
    }

    /// Everything that a build can write, as small as it may be: the disk has an ext4 and no loader.
    pub fn define_everything(&self) {
        self.write(
            "configs/platforms/own.toml",
            "summary = \"x\"\narchitectures = [\"x86_64\"]\n[table]\nkind = \"gpt\"\n[boot]\nloader = \"none\"\n[[partition]]\n\
             name = \"root\"\ntype = \"linux\"\nfile-system = \"ext4\"\njournal = false\nmount = \"/\"\nslack = \"1M\"\n",
        );
        self.write(
            "configs/images/small.toml",
            "repositories = [\"local\"]\npackages = [\"kernel\", \"filler\"]\noverlays = [\"extra\"]\n\
             outputs = [\"iso\", \"disk\", \"netboot\", \"tar\", \"oci\"]\n[initramfs]\nlevel = 3\n[squashfs]\nlevel = 3\n\
             [tar]\nlevel = 3\n[disk]\nplatform = \"own\"\nformats = [\"raw\", \"qcow2\"]\n",
        );
    }

    /// As [`Small::define`], of other packages.
    pub fn define_packages(&self, packages: &[&str]) {
        let text = format!(
            "repositories = [\"local\"]\npackages = {packages:?}\noverlays = [\"extra\"]\noutputs = [\"iso\"]\n"
        );
        self.write("configs/images/small.toml", &text);
    }

    /// The file of a package.
    pub fn package_file(&self, name: &str, version: &str) -> PathBuf {
        self.path(&format!("repository/x86_64/{name}-{version}.apk"))
    }

    /// Puts a package into the repository; [`Small::index`] announces it.
    pub fn package(
        &self,
        name: &str,
        version: &str,
        depends: &[&str],
        fill: impl FnOnce(&mut PackageBuilder),
    ) {
        self.package_signed(name, version, depends, fill, std::slice::from_ref(&self.key));
    }

    /// As [`Small::package`], signed by `keys`.
    pub fn package_signed(
        &self,
        name: &str,
        version: &str,
        depends: &[&str],
        fill: impl FnOnce(&mut PackageBuilder),
        keys: &[SigningKey],
    ) {
        let mut builder = PackageBuilder::new(PackageInfo {
            name: name.to_owned(),
            version: version.to_owned(),
            arch: "x86_64".to_owned(),
            license: "MIT".to_owned(),
            description: format!("the package {name}"),
            build_time: TIME,
            depends: depends
                .iter()
                .map(|one| dependency::parse(one).unwrap())
                .collect(),
            ..PackageInfo::default()
        });
        fill(&mut builder);
        let mut bytes = Vec::new();
        builder
            .finish()
            .unwrap()
            .write(Default::default(), keys, &mut bytes)
            .unwrap();
        let path = self.package_file(name, version);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    /// Writes the index of all packages that are there.
    pub fn index(&self) {
        self.index_signed(std::slice::from_ref(&self.key));
    }

    /// As [`Small::index`], signed by `keys`.
    pub fn index_signed(&self, keys: &[SigningKey]) {
        self.index_with(keys, IndexHash::Sha256);
    }

    /// As [`Small::index`], with hashes of another form.
    #[allow(dead_code, reason = "not every test that has this module asks for one")]
    pub fn index_hashed(&self, hash: IndexHash) {
        self.index_with(std::slice::from_ref(&self.key), hash);
    }

    fn index_with(&self, keys: &[SigningKey], hash: IndexHash) {
        let folder = self.path("repository/x86_64");
        let mut packages: Vec<PackageInfo> = crate::program::names(&folder)
            .iter()
            .filter(|name| name.ends_with(".apk"))
            .map(|name| {
                let bytes = read(&folder.join(name));
                index::entry(&bytes, &KeyRing::new(), Trust::AllowUntrusted, hash).unwrap()
            })
            .collect();
        packages.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
        let index = Index {
            packages,
            ..Index::default()
        };
        let options = WriteOptions {
            hash,
            ..WriteOptions::default()
        };
        let bytes = index.write(&options, keys).unwrap();
        std::fs::write(folder.join("Packages.adb"), bytes).unwrap();
    }

    /// `lycia` of this project and a store of its own.
    pub fn lycia(&self) -> Command {
        let mut command = Command::new(LYCIA);
        command
            .env_remove("SOURCE_DATE_EPOCH")
            .arg("--project")
            .arg(self.folder.path())
            .arg("--cache")
            .arg(self.path("store"))
            .arg("--quiet");
        command
    }

    /// `lycia build small`
    pub fn build(&self) -> Command {
        let mut command = self.lycia();
        command.args(["build", "small"]);
        command
    }

    /// All files of a folder of results.
    pub fn results(&self, folder: &Path) -> BTreeMap<String, Vec<u8>> {
        let names = crate::program::names(folder);
        names
            .into_iter()
            .map(|name| {
                let bytes = read(&folder.join(&name));
                (name, bytes)
            })
            .collect()
    }
}

/// Fills a package with one file that no other has.
pub fn file_of_its_own(name: &str) -> impl FnOnce(&mut PackageBuilder) {
    let path = format!("usr/share/{name}/file");
    let text = format!("of {name}\n");
    move |package| {
        package
            .file(path.as_bytes(), Acl::root(0o644), TIME, text.into_bytes())
            .unwrap();
    }
}
