//! The system of a disk: the root of the image, told where it will lie, and what boots it.

use std::fmt::Write as _;

use lycia_boot::{initramfs, kernels, menu};
use lycia_tree::{Content, Follow, Metadata, Node, Timestamp, Tree};
use sha2::{Digest as _, Sha256};

use super::identity::Identity;
use crate::build::Work;
use crate::definition::Image;
use crate::definition::platform::{Disk, FileSystem, Loader, Secret};
use crate::error::{Error, Explain as _, Kind, Result};

/// Rounds of sha512crypt that every reader takes: its default.
const ROUNDS: usize = 5000;

/// Writes files into a root.
struct Writer<'t> {
    tree: &'t mut Tree,
    time: Timestamp,
}

impl Writer<'_> {
    fn put(&mut self, path: &str, mode: u16, content: impl Into<Content>) -> Result<()> {
        let doing = || format!("writing /{path} of the disk");
        if let Some(at) = path.rfind('/') {
            self.tree
                .make_directories(&path.as_bytes()[..at], Metadata::new(0o755, self.time))
                .explain(Kind::Target, doing)?;
        }
        self.tree
            .write(path.as_bytes(), Metadata::new(mode, self.time), content.into())
            .map(drop)
            .explain(Kind::Target, doing)
    }

    fn text(&self, path: &str) -> String {
        let bytes = self.tree.read(path.as_bytes()).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn there(&self, path: &str) -> bool {
        matches!(self.tree.find(path.as_bytes(), Follow::All), Ok(Some(_)))
    }
}

/// The root of `image` as it is on its disk, with `/boot` and everything else that other partitions get.
///
/// # Errors
/// When it has no kernel, or a path is in the way.
pub fn tree(work: &Work<'_>, disk: &Disk, identity: &Identity) -> Result<Tree> {
    let Work { image, root, .. } = *work;
    let mut tree = root.tree.clone();
    let mut writer = Writer {
        tree: &mut tree,
        time: root.time,
    };
    writer.put("etc/hostname", 0o644, format!("{}\n", disk.hostname))?;
    // Told to be filled at the first boot: no two machines share it.
    writer.put("etc/machine-id", 0o444, "uninitialized\n")?;
    writer.put("etc/fstab", 0o644, fstab(disk, identity))?;
    for partition in &disk.platform.partitions {
        if let Some(mount) = partition.mount.as_ref().filter(|mount| !mount.is_empty()) {
            writer
                .tree
                .make_directories(mount.as_bytes(), Metadata::new(0o755, root.time))
                .explain(Kind::Target, || format!("making /{mount} of the disk"))?;
        }
    }
    password(&mut writer, &disk.password, identity)?;

    let versions = initramfs_of_each(work, &mut writer)?;
    let arguments = arguments(image, disk);
    let consoles = disk.platform.consoles.as_ref().unwrap_or(&image.boot.consoles);
    let words = Words {
        title: &image.boot.title,
        timeout: image.boot.timeout,
        root_uuid: &identity.root.to_string(),
        arguments: &arguments,
        consoles,
        versions: &versions,
    };
    match disk.platform.loader {
        Loader::Grub => writer.put("boot/grub/grub.cfg", 0o644, words.grub())?,
        Loader::Extlinux => {
            let text = words.extlinux(&writer, disk.platform.device_tree.as_deref());
            writer.put("boot/extlinux/extlinux.conf", 0o644, text)?;
        }
        Loader::RaspberryPi => raspberry_pi(&mut writer, &words)?,
        Loader::None => {}
    }
    tree.clamp_times(root.time);
    Ok(tree)
}

/// Kernel arguments but for the root and consoles.
fn arguments(image: &Image, disk: &Disk) -> String {
    let mut words: Vec<&str> = disk.platform.arguments.split_whitespace().collect();
    words.extend(image.boot.arguments.split_whitespace());
    if disk.grow {
        words.push("growroot");
    }
    words.join(" ")
}

fn fstab(disk: &Disk, identity: &Identity) -> String {
    let mut text = "# device  directory  type  options  dump  pass\n".to_owned();
    let mut mounted: Vec<(usize, &String)> = disk
        .platform
        .partitions
        .iter()
        .enumerate()
        .filter_map(|(index, one)| Some((index, one.mount.as_ref()?)))
        .collect();
    // What is mounted inside of another comes after it.
    mounted.sort_by_key(|(_, mount)| *mount);
    for (index, mount) in mounted {
        let partition = &disk.platform.partitions[index];
        let (uuid, kind, usual) = match partition.file_system {
            FileSystem::Ext4(_) => (identity.volume(disk, index).to_string(), "ext4", "rw,relatime"),
            FileSystem::Fat(_) => (identity.serial_text(disk, index), "vfat", "rw,umask=0022"),
            FileSystem::None => continue,
        };
        let options = partition.options.as_deref().unwrap_or(usual);
        let pass = if mount.is_empty() { 1 } else { 2 };
        // Writing to a String does not fail.
        let mount = field(mount);
        let _ = writeln!(text, "UUID={uuid}  /{mount}  {kind}  {options}  0  {pass}");
    }
    text
}

/// A path in a line of fstab, where blanks end a field (fstab(5)).
fn field(path: &str) -> String {
    let mut text = String::with_capacity(path.len());
    for letter in path.chars() {
        match letter {
            ' ' => text.push_str("\\040"),
            '\t' => text.push_str("\\011"),
            '\n' => text.push_str("\\012"),
            '\\' => text.push_str("\\134"),
            other => text.push(other),
        }
    }
    text
}

/// Sets root's password.
fn password(writer: &mut Writer<'_>, secret: &Secret, identity: &Identity) -> Result<()> {
    let field = match secret {
        Secret::Locked => "!".to_owned(),
        Secret::Hash(hash) => hash.clone(),
        Secret::Clear(text) => sha512_crypt(text, identity)?,
    };
    let shadow = writer.text("etc/shadow");
    let mut lines: Vec<String> = shadow.lines().map(str::to_owned).collect();
    match lines.iter_mut().find(|line| line.starts_with("root:")) {
        Some(line) => {
            let rest = line.splitn(3, ':').nth(2).unwrap_or("::::::");
            *line = format!("root:{field}:{rest}");
        }
        None => lines.insert(0, format!("root:{field}:::::::")),
    }
    let text = format!("{}\n", lines.join("\n"));
    let there = writer.tree.find(b"etc/shadow", Follow::All).ok().flatten();
    let Some(id) = there else {
        return writer.put("etc/shadow", 0o600, text);
    };
    // Owner and mode that a package gave it stay; nobody gets to read what was closed.
    let mut metadata = writer.tree.inode(id).metadata.clone();
    metadata.mode &= 0o7640;
    metadata.mtime = writer.time;
    writer
        .tree
        .update(b"etc/shadow", metadata.clone(), text.into())
        .explain(Kind::Target, || "writing /etc/shadow of the disk".to_owned())
        .map(|id| *writer.tree.metadata_mut(id) = metadata)
}

/// `$6$` of a password, with a salt that follows from the image: the same image has the same bytes.
fn sha512_crypt(password: &str, identity: &Identity) -> Result<String> {
    const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let salt: String = Sha256::digest([b"salt".as_slice(), &identity.seed].concat())[..12]
        .iter()
        .map(|byte| char::from(ALPHABET[usize::from(byte & 63)]))
        .collect();
    let hashed = sha_crypt::Sha512Params::new(ROUNDS)
        .and_then(|params| sha_crypt::sha512_crypt_b64(password.as_bytes(), salt.as_bytes(), &params));
    let hashed =
        hashed.map_err(|error| Error::new(Kind::Internal, format!("hashing a password: {error:?}")))?;
    Ok(format!("$6${salt}${hashed}"))
}

/// Puts an initramfs beside each kernel; their versions, the newest first.
fn initramfs_of_each(work: &Work<'_>, writer: &mut Writer<'_>) -> Result<Vec<Version>> {
    let Work {
        image,
        root,
        store,
        options,
        ..
    } = *work;
    let doing = || "making the disk bootable".to_owned();
    let mut found = kernels(writer.tree).explain(Kind::Target, doing)?;
    found.retain(|kernel| {
        image
            .kernel
            .as_ref()
            .is_none_or(|part| kernel.version.contains(part))
    });
    if found.is_empty() {
        return Err(Error::new(Kind::Target, "the root has no /boot/vmlinuz-VERSION")
            .hint("add a kernel package to the definition")
            .context(doing()));
    }
    found.sort_by(|a, b| {
        lycia_apk::version::compare(&b.version, &a.version).then_with(|| b.version.cmp(&a.version))
    });
    let table = &image.initramfs;
    let mut config = "# Initramfs of an installed system; the root comes from the command line.\n".to_owned();
    if !table.modules.is_empty() {
        let _ = writeln!(config, "modules = {}", table.modules.join(" "));
    }
    let mut versions = Vec::new();
    for kernel in found {
        let available: Vec<String> = table
            .available_modules
            .iter()
            .map(|name| optional(name))
            .collect();
        let recipe = initramfs::Recipe {
            kernel: &kernel.version,
            config: config.clone(),
            modules: table
                .modules
                .iter()
                .chain(&available)
                .map(String::as_str)
                .collect(),
            programs: table.programs.iter().map(String::as_str).collect(),
            keymap: None,
            time: root.time,
        };
        let made = initramfs::tree(root.beside.as_ref().unwrap_or(&root.tree), &recipe)
            .explain(Kind::Target, || "assembling the initramfs".to_owned())?;
        let archive = crate::initramfs::packed(&made, table.compression, store, options.jobs)?;
        writer.put(&menu::initramfs_path(&kernel.version), 0o644, archive)?;
        let image = String::from_utf8_lossy(&kernel.image).into_owned();
        versions.push(Version {
            image: image.rsplit('/').next().unwrap_or_default().to_owned(),
            version: kernel.version,
        });
    }
    Ok(versions)
}

/// A pattern of modules that may be missing: a plain name becomes one that only it matches.
fn optional(name: &str) -> String {
    match name.chars().next() {
        Some(first) if !name.contains(['*', '?', '[']) && first.is_ascii_alphanumeric() => {
            format!("[{first}]{}", &name[1..])
        }
        _ => name.to_owned(),
    }
}

/// A kernel.
struct Version {
    /// Its version.
    version: String,
    /// File name in `/boot`.
    image: String,
}

/// What boot loaders are told.
struct Words<'a> {
    title: &'a str,
    timeout: u32,
    root_uuid: &'a str,
    arguments: &'a str,
    consoles: &'a [String],
    versions: &'a [Version],
}

impl Words<'_> {
    fn grub(&self) -> String {
        let versions: Vec<String> = self.versions.iter().map(|one| one.version.clone()).collect();
        menu::text(&menu::Installed {
            title: self.title,
            root_uuid: self.root_uuid,
            root_folder: "",
            boot_uuid: None,
            kernels: &versions,
            consoles: self.consoles,
            arguments: self.arguments,
            timeout: self.timeout,
        })
    }

    fn command_line(&self) -> String {
        let mut words = vec![format!("root=UUID={}", self.root_uuid), "ro".to_owned()];
        words.extend(self.arguments.split_whitespace().map(str::to_owned));
        words.extend(self.consoles.iter().map(|console| format!("console={console}")));
        words.join(" ")
    }

    /// `extlinux.conf` (U-Boot, `doc/develop/distro.rst`; syslinux' `doc/syslinux.txt`): its paths are relative to itself, so that they
    /// hold whether `/boot` is a partition or not.
    fn extlinux(&self, writer: &Writer<'_>, device_tree: Option<&str>) -> String {
        let line = self.command_line();
        // In tenths of a second.
        let mut text = format!(
            "TIMEOUT {}\nDEFAULT default\nMENU TITLE {}\n",
            u64::from(self.timeout) * 10,
            self.title
        );
        for (at, one) in self.versions.iter().enumerate() {
            let (version, image) = (&one.version, &one.image);
            let trees = format!("dtbs/dtbs-{version}");
            let trees = match device_tree {
                Some(folder) if folder.ends_with('/') => format!("    FDTDIR ../{trees}/{folder}\n"),
                Some(file) => format!("    FDT ../{trees}/{file}\n"),
                None if writer.there(&format!("boot/{trees}")) => format!("    FDTDIR ../{trees}\n"),
                None => String::new(),
            };
            let initramfs = format!("initramfs-{version}.img");
            let label = if at == 0 { "default" } else { version.as_str() };
            for (label, name, words) in [
                (label.to_owned(), version.clone(), "quiet"),
                (
                    format!("{label}-single"),
                    format!("{version}, verbose, one user"),
                    "loglevel=7 single",
                ),
            ] {
                // Writing to a String does not fail.
                let _ = write!(
                    text,
                    "\nLABEL {label}\n    MENU LABEL {} ({name})\n    KERNEL ../{image}\n    INITRD ../{initramfs}\n{trees}    \
                     APPEND {line} {words}\n",
                    self.title
                );
            }
        }
        text
    }
}

/// What the Raspberry Pi's firmware reads (raspberrypi.com, "config.txt"): as the kernel hook of Chimera's `base-rpi` lays it out.
fn raspberry_pi(writer: &mut Writer<'_>, words: &Words<'_>) -> Result<()> {
    let Some(newest) = words.versions.first() else {
        return Ok(());
    };
    let version = &newest.version;
    let trees = format!("boot/dtbs/dtbs-{version}");
    copy(writer, &format!("{trees}/broadcom"), "boot", |name| {
        name.ends_with(b".dtb")
    })?;
    copy(writer, &format!("{trees}/overlays"), "boot/overlays", |_| true)?;
    writer.put(
        "boot/kernel.txt",
        0o644,
        format!(
            "kernel={}\ninitramfs initramfs-{version}.img followkernel\n",
            newest.image
        ),
    )?;
    writer.put(
        "boot/cmdline.txt",
        0o644,
        format!("{} quiet\n", words.command_line()),
    )?;
    if !writer.there("boot/config.txt") {
        writer.put(
            "boot/config.txt",
            0o644,
            "[all]\ninclude kernel.txt\narm_64bit=1\nenable_uart=1\n",
        )?;
    }
    Ok(())
}

/// Gives the files of a folder whose names are `wanted` places in another; a folder that is not there has none.
fn copy(writer: &mut Writer<'_>, from: &str, to: &str, wanted: impl Fn(&[u8]) -> bool) -> Result<()> {
    let doing = || format!("copying /{from} to /{to} of the disk");
    let Some(id) = writer
        .tree
        .find(from.as_bytes(), Follow::All)
        .explain(Kind::Target, doing)?
    else {
        return Ok(());
    };
    let files: Vec<(Vec<u8>, Content)> = writer
        .tree
        .walk_from(b"", id)
        .filter(|entry| wanted(entry.name()))
        .filter_map(|entry| match entry.inode.node() {
            Some(Node::Regular(content)) => Some((entry.path, content.clone())),
            _ => None,
        })
        .collect();
    for (path, content) in files {
        let path = String::from_utf8_lossy(&path).into_owned();
        writer.put(&format!("{to}/{}", path.trim_start_matches('/')), 0o644, content)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::field;

    #[test]
    fn a_mount_point_is_one_field_of_fstab() {
        for (path, text) in [
            ("boot/efi", "boot/efi"),
            ("srv/my files", "srv/my\\040files"),
            ("a\\b\tc\nd", "a\\134b\\011c\\012d"),
        ] {
            assert_eq!(field(path), text);
        }
    }
}
