//! GRUB: its images, made from the modules that the root or the host has, and its menu.
//!
//! `grub-mkimage` of the host puts an image together; it only joins files and runs on any host for any
//! target. Its result depends on nothing but its inputs.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use lycia_tree::{Content, Follow, Metadata, Timestamp, Tree};
use sha2::{Digest as _, Sha256};

use crate::definition::Image;
use crate::definition::typed::{Firmware, GrubTable};
use crate::error::{Context as _, Error, Explain as _, Kind, Result, io};
use crate::{host, manifest};

/// Modules that every image has built in: enough to find the medium and read its menu, and for an installed system, which gets the same image for UEFI, to read
/// its root.
const BUILT_IN: &[&str] = &[
    "all_video",
    "boot",
    "btrfs",
    "cat",
    "configfile",
    "echo",
    "ext2",
    "f2fs",
    "fat",
    "font",
    "gfxterm",
    "gzio",
    "halt",
    "help",
    "iso9660",
    "linux",
    "loadenv",
    "loopback",
    "ls",
    "minicmd",
    "normal",
    "part_gpt",
    "part_msdos",
    "probe",
    "reboot",
    "regexp",
    "search",
    "search_fs_file",
    "search_fs_uuid",
    "search_label",
    "serial",
    "sleep",
    "terminal",
    "test",
    "true",
    "xfs",
];

/// What an image of a platform is and what the medium needs beside it.
pub struct Built {
    /// The platform.
    pub platform: GrubTable,
    /// The image: for BIOS the El Torito one, for UEFI the program.
    pub image: Content,
    /// Modules for `/boot/grub/PLATFORM`, by name.
    pub modules: Vec<(String, Content)>,
    /// The boot sector for disks, of BIOS platforms.
    pub hybrid: Option<Content>,
}

/// The files of a platform.
pub struct Modules {
    /// By name.
    pub files: Vec<(String, Content)>,
    /// Whether they are this machine's, and no package's.
    pub host: bool,
}

impl Modules {
    /// SHA-256 of the list of the files' checksums, as sha256sum writes it.
    pub fn sum(&self) -> String {
        let line = |(name, content): &(String, Content)| format!("{}  {name}\n", manifest::sum(content));
        let mut lines: Vec<String> = self.files.iter().map(line).collect();
        lines.sort_by(|one, other| one[66..].cmp(&other[66..]));
        manifest::hex(&Sha256::digest(lines.concat()))
    }
}

/// Builds the image of `platform` from `modules`.
///
/// # Errors
/// When `grub-mkimage` is missing or fails.
pub fn build(platform: &GrubTable, image: &Image, modules: Modules, scratch: &Path) -> Result<Built> {
    build_with(platform, &early_config(&image.live.label), modules, scratch)
}

/// As [`build`], of an image that runs `early` first.
///
/// # Errors
/// As [`build`].
pub fn build_with(platform: &GrubTable, early: &str, modules: Modules, scratch: &Path) -> Result<Built> {
    build_image(platform, early, modules.files, scratch)
        .context(|| format!("building GRUB for {}", platform.platform))
}

/// The files of a platform: those of the root, or of this machine; nothing where neither has them.
///
/// # Errors
/// When they cannot be read.
pub fn files(name: &str, tree: &Tree) -> Result<Option<Modules>> {
    let in_root = format!("usr/lib/grub/{name}").into_bytes();
    let on_host = Path::new("/usr/lib/grub").join(name);
    let found = tree.find(&in_root, Follow::All);
    let (files, host) = if found.is_ok_and(|found| found.is_some()) {
        (files_of_tree(tree, &in_root)?, false)
    } else if on_host.join("kernel.img").is_file() {
        (files_of_host(&on_host)?, true)
    } else {
        return Ok(None);
    };
    Ok(Some(Modules { files, host }))
}

fn build_image(
    platform: &GrubTable,
    early: &str,
    files: Vec<(String, Content)>,
    scratch: &Path,
) -> Result<Built> {
    let name = &platform.platform;
    // grub-mkimage wants a folder.
    let folder = scratch.join(name);
    io(std::fs::create_dir_all(&folder), || {
        format!("making {}", folder.display())
    })?;
    for (name, content) in &files {
        let path = folder.join(name);
        io(std::fs::write(&path, content.bytes()), || {
            format!("writing {}", path.display())
        })?;
    }
    let config = folder.join("lycia-early.cfg");
    io(std::fs::write(&config, early), || {
        format!("writing {}", config.display())
    })?;
    let output = folder.join("lycia-core.img");
    let format = match platform.firmware {
        Firmware::Bios => format!("{name}-eltorito"),
        Firmware::Uefi => name.clone(),
    };
    let mut modules: Vec<&str> = BUILT_IN.to_vec();
    if platform.firmware == Firmware::Bios {
        modules.push("biosdisk");
    }
    // A platform need not have all of them.
    modules.retain(|module| {
        files
            .iter()
            .any(|(name, _)| name.strip_suffix(".mod") == Some(module))
    });
    let program = host::find("grub-mkimage")?;
    let ran = Command::new(program)
        .env_clear()
        .env("LC_ALL", "C")
        .arg("--format")
        .arg(&format)
        .arg("--directory")
        .arg(&folder)
        .arg("--prefix")
        .arg("/boot/grub")
        .arg("--config")
        .arg(&config)
        .arg("--output")
        .arg(&output)
        .args(&modules)
        .stdin(Stdio::null())
        .output();
    let ran = io(ran, || "running grub-mkimage".to_owned())?;
    if !ran.status.success() {
        let said = String::from_utf8_lossy(&ran.stderr).trim().to_owned();
        return Err(Error::new(Kind::Host, format!("grub-mkimage: {said}")));
    }
    let made = io(std::fs::read(&output), || format!("reading {}", output.display()))?;
    let hybrid = match platform.firmware {
        Firmware::Uefi => None,
        Firmware::Bios => {
            let found = files.iter().find(|(name, _)| name == "boot_hybrid.img");
            let (_, sector) = found.ok_or_else(|| Error::new(Kind::Target, "it has no boot_hybrid.img"))?;
            Some(sector.clone())
        }
    };
    let on_medium = |name: &str| name.ends_with(".mod") || name.ends_with(".lst");
    let modules = files.into_iter().filter(|(name, _)| on_medium(name)).collect();
    Ok(Built {
        platform: platform.clone(),
        image: Content::from(made),
        modules,
        hybrid,
    })
}

fn files_of_tree(tree: &Tree, path: &[u8]) -> Result<Vec<(String, Content)>> {
    let explain = |error| Error::new(Kind::Target, error);
    let folder = tree.resolve(path, Follow::All).map_err(explain)?;
    let mut files = Vec::new();
    for (name, &id) in tree.inode(folder).entries().into_iter().flatten() {
        if let (Ok(name), Some(content)) = (std::str::from_utf8(name), tree.inode(id).content()) {
            files.push((name.to_owned(), content.clone()));
        }
    }
    Ok(files)
}

fn files_of_host(path: &Path) -> Result<Vec<(String, Content)>> {
    let mut files = Vec::new();
    for entry in io(std::fs::read_dir(path), || format!("reading {}", path.display()))? {
        let path = io(entry, || format!("reading {}", path.display()))?.path();
        let name = path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if path.is_file() {
            files.push((
                name,
                Content::from(io(std::fs::read(&path), || {
                    format!("reading {}", path.display())
                })?),
            ));
        }
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

/// What the image runs before all else: it finds the medium by its label, wherever it lies.
fn early_config(label: &str) -> String {
    format!("search --no-floppy --set=root --label {label}\nset prefix=($root)/boot/grub\n")
}

/// A menu entry.
struct Item {
    id: &'static str,
    title: String,
    arguments: Vec<String>,
}

fn items(image: &Image, extra: &[String]) -> Vec<Item> {
    let boot = &image.boot;
    let consoles: Vec<String> = boot
        .consoles
        .iter()
        .map(|console| format!("console={console}"))
        .collect();
    let serial = vec![format!("console={}", boot.serial_console)];
    let item = |id, title: String, consoles: &[String], special: &[&str]| {
        let mut arguments = vec!["boot=live".to_owned()];
        arguments.extend(boot.arguments.split_whitespace().map(str::to_owned));
        arguments.extend_from_slice(extra);
        arguments.extend(special.iter().map(|&word| word.to_owned()));
        arguments.extend_from_slice(consoles);
        Item { id, title, arguments }
    };
    vec![
        item("live", boot.title.clone(), &consoles, &["quiet"]),
        item(
            "ram",
            format!("{} (copied to memory)", boot.title),
            &consoles,
            &["quiet", "toram"],
        ),
        item(
            "verify",
            format!("Verify the medium, then start {}", boot.title),
            &consoles,
            &["verify"],
        ),
        item(
            "serial",
            format!("{} (serial console, verbose)", boot.title),
            &serial,
            &["loglevel=7", "lycia.debug"],
        ),
    ]
}

fn entries(text: &mut String, image: &Image, extra: &[String]) {
    for item in items(image, extra) {
        // Writing to a String does not fail.
        let _ = write!(
            text,
            "menuentry '{}' --id {} {{\n    linux /live/vmlinuz {}\n    initrd /live/initrd\n}}\n",
            item.title,
            item.id,
            item.arguments.join(" ")
        );
    }
}

/// `/boot/grub/grub.cfg`, with `extra` arguments in each entry.
pub fn menu(image: &Image, extra: &[String]) -> String {
    let mut text = format!(
        "set default=live\nset timeout={}\nset timeout_style=menu\n",
        image.boot.timeout
    );
    // The serial line is there beside the screen, so that both work without editing; a machine without one
    // leaves the screen alone. UEFI firmware mirrors its console to a serial line by itself.
    if let Some((unit, speed)) = serial_unit(&image.boot.serial_console) {
        let _ = write!(
            text,
            "if [ \"$grub_platform\" = pc ]; then\n    if serial --unit={unit} --speed={speed}; then\n        \
             terminal_input console serial\n        terminal_output console serial\n    fi\nfi\n"
        );
    }
    entries(&mut text, image, extra);
    text.push_str("if [ \"$grub_platform\" = efi ]; then\n    menuentry 'Firmware settings' --id firmware {\n        fwsetup\n    }\nfi\n");
    text.push_str(
        "menuentry 'Restart' --id reboot {\n    reboot\n}\nmenuentry 'Power off' --id halt {\n    halt\n}\n",
    );
    text
}

/// `/boot/grub/loopback.cfg`, which boot loaders that start from an ISO file read; they set `iso_path`.
pub fn loopback(image: &Image, extra: &[String]) -> String {
    let mut text = String::new();
    let mut arguments = vec!["findiso=\"${iso_path}\"".to_owned()];
    arguments.extend_from_slice(extra);
    entries(&mut text, image, &arguments);
    text
}

/// `ttyS0,115200` as the unit 0 and the speed.
fn serial_unit(console: &str) -> Option<(u32, u32)> {
    let (port, speed) = console.split_once(',').unwrap_or((console, "115200"));
    let unit = port.strip_prefix("ttyS")?.parse().ok()?;
    let digits: String = speed.chars().take_while(char::is_ascii_digit).collect();
    Some((unit, digits.parse().ok()?))
}

/// Puts what GRUB needs on the medium's own file system into `medium`; every entry of its menus has the `extra` arguments.
///
/// # Errors
/// When a path cannot be made.
pub fn lay(
    medium: &mut Tree,
    image: &Image,
    built: &[Built],
    extra: &[String],
    time: Timestamp,
) -> Result<()> {
    let explain = |error| Error::new(Kind::Internal, error);
    let file = Metadata::new(0o644, time);
    let mut put = |path: String, content: Content| {
        medium
            .write(path.as_bytes(), file.clone(), content)
            .map(drop)
            .map_err(explain)
    };
    put("boot/grub/grub.cfg".to_owned(), menu(image, extra).into())?;
    put("boot/grub/loopback.cfg".to_owned(), loopback(image, extra).into())?;
    for one in built {
        let platform = &one.platform.platform;
        for (name, content) in &one.modules {
            put(format!("boot/grub/{platform}/{name}"), content.clone())?;
        }
        match (&one.platform.firmware, &one.platform.removable_name) {
            (Firmware::Bios, _) => put(format!("boot/grub/{platform}/eltorito.img"), one.image.clone())?,
            (Firmware::Uefi, Some(name)) => put(format!("EFI/BOOT/{name}"), one.image.clone())?,
            (Firmware::Uefi, None) => {
                return Err(Error::new(
                    Kind::Input,
                    format!("{platform} has no removable-name"),
                ));
            }
        }
    }
    Ok(())
}

/// The tree of the EFI system partition; none without a UEFI platform.
///
/// # Errors
/// When a path cannot be made.
pub fn esp(built: &[Built], time: Timestamp) -> Result<Option<Tree>> {
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let mut any = false;
    for one in built.iter().filter(|one| one.platform.firmware == Firmware::Uefi) {
        let Some(name) = &one.platform.removable_name else {
            continue;
        };
        let path = format!("EFI/BOOT/{name}");
        tree.write(path.as_bytes(), Metadata::new(0o644, time), one.image.clone())
            .explain(Kind::Internal, || {
                "assembling the EFI system partition".to_owned()
            })?;
        any = true;
    }
    Ok(any.then_some(tree))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_root_has_is_no_matter_of_this_machine() {
        let mut tree = Tree::new(Metadata::new(0o755, Timestamp::default()));
        let folder = b"usr/lib/grub/i386-pc";
        tree.make_directories(folder, Metadata::new(0o755, Timestamp::default()))
            .unwrap();
        for (name, text) in [("b.mod", "b\n"), ("a.mod", "a\n")] {
            let path = [folder, b"/".as_slice(), name.as_bytes()].concat();
            tree.write(&path, Metadata::new(0o644, Timestamp::default()), text.into())
                .unwrap();
        }
        let modules = files("i386-pc", &tree).unwrap().unwrap();
        assert!(!modules.host);
        let line = |text: &str, name: &str| format!("{}  {name}\n", manifest::hex(&Sha256::digest(text)));
        let list = [line("a\n", "a.mod"), line("b\n", "b.mod")].concat();
        assert_eq!(modules.sum(), manifest::hex(&Sha256::digest(list)));
        assert!(files("no-such-platform", &tree).unwrap().is_none());
    }

    #[test]
    fn serial_consoles_are_understood() {
        assert_eq!(serial_unit("ttyS0,115200"), Some((0, 115_200)));
        assert_eq!(serial_unit("ttyS1,9600n8"), Some((1, 9600)));
        assert_eq!(serial_unit("ttyS1"), Some((1, 115_200)));
        assert_eq!(serial_unit("ttyAMA0,115200"), None);
        assert_eq!(serial_unit("hvc0"), None);
    }
}
