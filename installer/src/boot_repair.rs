//! Making an installed system start again: boot loader for BIOS and UEFI, menu and initramfs are written as the installation wrote them.
//!
//! What is to be written is computed first and can be shown. Files go below the mounted root and EFI system partition, each under another name that is
//! then renamed; directories of other systems on the EFI system partition are not touched. Then, with nothing mounted any more, come the core image, the
//! code of the first sector (the table in the same sector stays) and, where it holds no file system any more, the EFI system partition. What is
//! written over on the disk itself is kept as a file in the root first. Running it again does the same again.

mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use lycia_boot::{grub, menu};
use lycia_media::partition::mbr::CODE_LEN;
use lycia_media::partition::{Guid, gpt};
use lycia_tree::{Content, Metadata, Node, Pack, Timestamp, Tree};

use crate::answers::typed::AnswersFile;
use crate::device::{BlockDevice, Reading, Span};
use crate::file_system::{FileSystem, Kind, subvolume_name};
use crate::found::{Found, Partition, file_system, look};
use crate::medium::{FirmwareKind, Medium};
use crate::nvram;
use crate::plan::{Action, Role};
use crate::system::{
    SystemError, bios_boot_loader_of, efi_files_of, folder, installed_initramfs, mounting_table,
};

/// Where the installation left its records, and where this leaves its own, below the root.
const RECORDS: &str = "var/log/lycia-install";
const SAVED: &str = "var/log/lycia-install/boot-repair";
const MENU: &str = "boot/grub/grub.cfg";
/// Most files of a root that are looked at.
const ENTRIES_MAX: usize = 1 << 20;
/// Largest text that is read.
const TEXT_MAX: u64 = 1 << 20;
/// Bytes of a partition's beginning that are kept before it is formatted.
const KEPT: u64 = 1 << 20;

/// Bytes by which a core image is known: how it is loaded, and how long it is before and after it is unpacked.
const BEGINNING: usize = 2 * grub::SECTOR;

/// Why a system cannot be repaired.
#[derive(Debug, thiserror::Error)]
pub enum RepairError {
    /// Something cannot be read or written.
    #[error("{doing} {}: {source}; running the same command again does no harm", path.display())]
    Io {
        /// What was being done.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A part of the boot loader or of the initramfs cannot be made.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The system is not one that can be repaired.
    #[error("{0}. Nothing was written")]
    Unfit(String),
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RepairError {
    let path = path.to_owned();
    move |source| RepairError::Io { doing, path, source }
}

/// A file to be written.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Put {
    /// Relative to the root, or to the EFI system partition.
    path: String,
    content: Content,
}

/// The EFI system partition.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Esp {
    None,
    /// It has a file system: files are put into it.
    Files(Vec<Put>),
    /// It has none any more: it is made anew, with the serial number that fstab names.
    Format {
        span: Span,
        serial: u32,
        files: Vec<Put>,
    },
}

/// Bytes of the disk itself.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Raw {
    what: &'static str,
    at: u64,
    bytes: Vec<u8>,
    differs: bool,
}

/// What a repair writes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Repair {
    title: String,
    disk: String,
    root: Vec<Put>,
    esp: Esp,
    raw: Vec<Raw>,
    /// The entry of the firmware's menu that is not there, or not the first.
    entry: Option<nvram::Entry>,
    /// GUIDs of the partitions of this machine.
    partitions: BTreeSet<[u8; 16]>,
    notes: Vec<String>,
    time: Timestamp,
}

/// The firmware whose menu is to have an entry.
#[derive(Clone, Copy, Debug)]
pub struct Firmware<'a> {
    /// Its variables: a mounted efivarfs.
    pub efivars: &'a Path,
    /// GUIDs of the partitions of the other disks: what the menu has for them stays.
    pub others: &'a BTreeSet<[u8; 16]>,
}

/// What is to be repaired.
pub struct Broken<'a> {
    /// The disk, as people know it.
    pub disk: &'a str,
    /// The root, mounted.
    pub root: &'a Path,
    /// UUID of the root file system.
    pub root_uuid: &'a str,
    /// How the root is mounted.
    pub file_system: &'a FileSystem,
    /// UUID of the file system of `/boot`, which is mounted below the root, where it has one of its own.
    pub boot_uuid: Option<&'a str>,
    /// What that is.
    pub boot_kind: Option<&'a str>,
    /// UUID of the encrypted volume around the root.
    pub volume_uuid: Option<&'a str>,
    /// The EFI system partition, mounted, if it can be.
    pub esp: Option<&'a Path>,
    /// The firmware, where it is UEFI.
    pub firmware: Option<Firmware<'a>>,
    /// The running kernel's command line.
    pub command_line: &'a str,
}

impl Broken<'_> {
    /// What GRUB runs first.
    fn early(&self) -> String {
        menu::early_in(self.root_uuid, &self.file_system.grub_folder(), self.boot_uuid)
    }

    /// The module that reads what GRUB reads, where that is not ext4.
    fn grub_module(&self) -> Option<&'static str> {
        match self.boot_uuid {
            None => self.file_system.grub_module(),
            Some(_) => self
                .boot_kind
                .and_then(Kind::named)
                .filter(|kind| *kind != Kind::Ext4)
                .map(Kind::name),
        }
    }
}

/// The partition that `/boot/efi` of the root's fstab names, or the only one of that kind on the disk.
#[must_use]
pub fn esp_partition(root: &Path, found: &Found) -> Option<(u32, Span, Option<String>)> {
    let uuid = fstab_esp(root);
    let esps: Vec<_> = found
        .partitions
        .iter()
        .filter(|one| one.kind == Some(Guid::EFI_SYSTEM))
        .collect();
    let named = found
        .partitions
        .iter()
        .find(|one| uuid.is_some() && one.uuid.as_deref() == uuid.as_deref());
    let one = match (named, &esps[..]) {
        (Some(named), _) => named,
        // Its file system is gone, and with it the number.
        (None, [one]) => one,
        _ => return None,
    };
    Some((one.number, one.span, uuid))
}

/// The UUID of `/boot/efi` in fstab(5).
fn fstab_esp(root: &Path) -> Option<String> {
    let text = text_of(&root.join("etc/fstab"))?;
    text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let (device, place) = (words.next()?, words.next()?);
        (place == "/boot/efi").then(|| device.strip_prefix("UUID=").map(str::to_owned))?
    })
}

fn text_of(path: &Path) -> Option<String> {
    use io::Read as _;
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(TEXT_MAX).read_to_string(&mut text).ok()?;
    Some(text)
}

/// What a menu that is there says of its entries: consoles, other words, seconds that it waits.
#[derive(Debug, PartialEq, Eq)]
struct Old {
    consoles: Vec<String>,
    arguments: String,
    timeout: u32,
}

/// Reads a menu that the installation wrote.
fn old_menu(text: &str) -> Option<Old> {
    let line = text
        .lines()
        .map(str::trim)
        .find_map(|line| line.strip_prefix("linux "))?;
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let consoles = words.iter().filter_map(|word| word.strip_prefix("console="));
    let others = words.iter().filter(|word| {
        !word.starts_with("console=") && !word.starts_with("root=") && **word != "ro" && **word != "quiet"
    });
    let timeout = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("set timeout="))?;
    Some(Old {
        consoles: consoles.map(str::to_owned).collect(),
        arguments: others.copied().collect::<Vec<_>>().join(" "),
        timeout: timeout.parse().ok()?,
    })
}

/// The answers that the installation kept.
fn recorded(root: &Path) -> Option<AnswersFile> {
    let text = text_of(&root.join(RECORDS).join("answers.toml"))?;
    AnswersFile::parse(&text, "answers.toml").ok()
}

/// What the plan that the installation kept says of GRUB for BIOS.
#[derive(Debug, PartialEq, Eq)]
enum PlannedBios {
    /// There is no plan of a disk, or it cannot be read.
    Unknown,
    /// Nothing is written for BIOS.
    Nothing,
    /// It lies in this partition.
    In(Span),
}

/// Reads a plan as [`crate::plan::Plan::text`] writes it.
fn planned_bios(text: &str) -> PlannedBios {
    let ranges = text
        .lines()
        .skip_while(|line| !(line.trim_start().starts_with("first byte") && line.ends_with("what")));
    let purpose = Role::BiosBoot.description().map_or("", |(_, _, purpose)| purpose);
    let ending = format!("{purpose}: {}", Action::BootLoader.words());
    let mut known = PlannedBios::Unknown;
    for line in ranges.skip(1).take_while(|line| !line.is_empty()) {
        known = PlannedBios::Nothing;
        let mut words = line.split_whitespace();
        let mut next = || words.next()?.parse::<u64>().ok();
        if let (true, Some(start), Some(last)) = (line.ends_with(&ending), next(), next()) {
            return PlannedBios::In(Span {
                start,
                size: last.saturating_add(1).saturating_sub(start),
            });
        }
    }
    known
}

/// What the menu is to say, from the menu that is there, or from the records of the installation.
fn wanted_menu(broken: &Broken<'_>, medium: &Medium, notes: &mut Vec<String>) -> Old {
    if let Some(old) = text_of(&broken.root.join(MENU)).as_deref().and_then(old_menu) {
        return old;
    }
    let recorded = recorded(broken.root);
    notes.push(match recorded {
        Some(_) => "the menu cannot be read: it is made from the records of the installation".to_owned(),
        None => "neither menu nor records can be read: the menu is made with what is usual".to_owned(),
    });
    let boot = recorded.unwrap_or_default().boot;
    let serial = boot.serial.clone().filter(|console| console != "none");
    let now = broken
        .command_line
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("console="))
        .rfind(|console| !console.starts_with("tty0"))
        .map(str::to_owned);
    let consoles = match serial.or(now) {
        Some(serial) => vec!["tty0".to_owned(), serial],
        None => vec![],
    };
    let extra = boot.arguments.as_deref().unwrap_or_default();
    let unlock = broken.volume_uuid.map(crate::encryption::boot_argument);
    Old {
        consoles,
        arguments: [
            unlock.as_deref().unwrap_or_default(),
            broken.file_system.arguments().as_str(),
            medium.install.boot.arguments.as_str(),
            extra,
        ]
        .into_iter()
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" "),
        timeout: boot.timeout.unwrap_or(3),
    }
}

/// The parts of a mounted root that what boots it is made of.
fn tree_of(root: &Path) -> Result<Tree, RepairError> {
    let mut tree = Tree::new(Metadata::new(0o755, Timestamp::from_seconds(0)));
    let mut count = 0;
    // Topmost links (/lib, /bin); then folders, some with everything below.
    let mut waiting: Vec<(PathBuf, bool)> = vec![("".into(), false), ("usr".into(), false)];
    for (folder, deep) in [
        ("boot", false),
        ("usr/bin", false),
        ("usr/lib", false),
        ("usr/lib/modules", true),
        ("usr/lib/lycia", true),
        ("usr/lib/grub", true),
        ("usr/share/bkeymaps", true),
    ] {
        waiting.push((folder.into(), deep));
    }
    if let Some(layout) = text_of(&root.join("etc/keymap")) {
        let metadata = Metadata::new(0o644, Timestamp::from_seconds(0));
        tree.make_directories(b"etc", Metadata::new(0o755, metadata.mtime))
            .and_then(|_| tree.write(b"etc/keymap", metadata, layout.into()))
            .map_err(|error| RepairError::Unfit(error.to_string()))?;
    }
    while let Some((folder, deep)) = waiting.pop() {
        let place = root.join(&folder);
        let entries = match fs::read_dir(&place) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(io_error("reading", &place)(error)),
        };
        let metadata =
            |mode: u32, time: i64| Metadata::new((mode & 0o7777) as u16, Timestamp::from_seconds(time));
        let odd = |error: lycia_tree::TreeError| RepairError::Unfit(error.to_string());
        tree.make_directories(folder.as_os_str().as_bytes(), metadata(0o755, 0))
            .map_err(odd)?;
        for entry in entries {
            let entry = entry.map_err(io_error("reading", &place))?;
            count += 1;
            if count > ENTRIES_MAX {
                return Err(RepairError::Unfit(format!(
                    "{} has too many files",
                    place.display()
                )));
            }
            let path = folder.join(entry.file_name());
            let real = entry.path();
            let about = fs::symlink_metadata(&real).map_err(io_error("reading", &real))?;
            use std::os::unix::fs::MetadataExt as _;
            let bytes = path.as_os_str().as_bytes();
            if about.is_symlink() {
                let target = fs::read_link(&real).map_err(io_error("reading", &real))?;
                let node = Node::Symlink(target.into_os_string().into_encoded_bytes());
                tree.insert(bytes, metadata(0o777, about.mtime()), node)
                    .map_err(odd)?;
            } else if about.is_dir() {
                if deep {
                    waiting.push((path, true));
                }
            } else if about.is_file() && !folder.as_os_str().is_empty() {
                let content = if about.len() == 0 {
                    Content::empty()
                } else {
                    Pack::open(&real, about.len())
                        .and_then(|pack| pack.range(0, about.len()))
                        .map_err(|error| RepairError::Unfit(format!("{}: {error}", real.display())))?
                };
                tree.write(bytes, metadata(about.mode(), about.mtime()), content)
                    .map_err(odd)?;
            }
        }
    }
    Ok(tree)
}

/// The time that an installation gives to what no package dates: that of the newest package (`t:` in the database).
fn time_of(root: &Path) -> Result<Timestamp, RepairError> {
    use io::BufRead as _;
    let path = ["usr/lib/apk/db/installed", "lib/apk/db/installed"]
        .iter()
        .map(|path| root.join(path))
        .find(|path| path.exists());
    let mut newest = 0;
    if let Some(path) = path {
        let file = fs::File::open(&path).map_err(io_error("reading", &path))?;
        for line in io::BufReader::new(file).split(b'\n') {
            let line = line.map_err(io_error("reading", &path))?;
            let seconds = line
                .strip_prefix(b"t:")
                .and_then(|text| std::str::from_utf8(text).ok()?.parse().ok());
            newest = newest.max(seconds.unwrap_or(0));
        }
    }
    Ok(Timestamp::from_seconds(newest))
}

/// Folders below `EFI` of a mounted EFI system partition whose `grub.cfg` looks for this system, with the names of the images there.
fn own_folders(esp: &Path, uuid: &str) -> BTreeMap<String, Vec<String>> {
    let mut out = BTreeMap::new();
    for entry in fs::read_dir(esp.join("EFI")).into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        let config = fs::read_dir(entry.path())
            .into_iter()
            .flatten()
            .flatten()
            .find_map(|file| {
                file.file_name()
                    .eq_ignore_ascii_case("grub.cfg")
                    .then(|| text_of(&file.path()))?
            });
        if config.is_some_and(|text| text.contains(uuid)) {
            let images = fs::read_dir(entry.path())
                .into_iter()
                .flatten()
                .flatten()
                .filter_map(|file| file.file_name().into_string().ok())
                .filter(|name| name.to_ascii_lowercase().ends_with(".efi"))
                .collect();
            out.insert(name, images);
        }
    }
    out
}

/// The name of a file of a folder, whatever the case of its letters.
fn there(folder: &Path, name: &str) -> bool {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().eq_ignore_ascii_case(name))
}

/// Computes what a repair writes. `device` is the system's disk.
///
/// # Errors
/// When the root lacks what is needed, or something cannot be read.
pub fn plan(
    broken: &Broken<'_>,
    medium: &Medium,
    device: &mut dyn BlockDevice,
) -> Result<Repair, RepairError> {
    let found = look(device).map_err(io_error("reading", Path::new(broken.disk)))?;
    let (tree, time) = (tree_of(broken.root)?, time_of(broken.root)?);
    let mut notes = Vec::new();
    let kernels = lycia_boot::kernels(&tree).map_err(|error| RepairError::Unfit(error.to_string()))?;
    let mut versions: Vec<String> = kernels.into_iter().map(|kernel| kernel.version).collect();
    versions.sort_by(|a, b| lycia_apk::version::compare(b, a).then_with(|| b.cmp(a)));
    if versions.is_empty() {
        return Err(RepairError::Unfit(format!(
            "{} has no /boot/vmlinuz-VERSION: install a kernel package in it first, with `lycia-install chroot`",
            broken.root.display()
        )));
    }
    if let Some(one) = broken.file_system.subvolumes.first() {
        // Words of the kernel's command line and of GRUB's language are made of it.
        subvolume_name(&one.name).map_err(RepairError::Unfit)?;
    }
    let mut root = Vec::new();
    let table = mounting_table(&tree, &versions, broken.file_system, &medium.install.initramfs)?;
    for version in &versions {
        let archive = installed_initramfs(&tree, version, &table, time)?;
        root.push(Put {
            path: menu::initramfs_path(version),
            content: archive.into(),
        });
    }
    let old = wanted_menu(broken, medium, &mut notes);
    let text = menu::text(&menu::Installed {
        title: &medium.install.name,
        root_uuid: broken.root_uuid,
        root_folder: &broken.file_system.grub_folder(),
        boot_uuid: broken.boot_uuid,
        kernels: &versions,
        consoles: &old.consoles,
        arguments: &old.arguments,
        timeout: old.timeout,
    });
    root.push(Put {
        path: MENU.to_owned(),
        content: text.into(),
    });
    let (mut esp, mut raw, mut started) = (Esp::None, Vec::new(), None);
    for platform in &medium.install.grub {
        let name = &platform.platform;
        let files = folder(&tree, &format!("usr/lib/grub/{name}"))?;
        if files.is_empty() {
            notes.push(format!(
                "the system has no package with GRUB for {name}: left as it is"
            ));
            continue;
        }
        for (module, content) in &files {
            if module.ends_with(".mod") || module.ends_with(".lst") {
                root.push(Put {
                    path: format!("boot/grub/{name}/{module}"),
                    content: content.clone(),
                });
            }
        }
        match platform.firmware {
            FirmwareKind::Bios => raw = bios(broken, &found, &files, device, &mut notes)?,
            FirmwareKind::Uefi => {
                let removable = platform.removable_name.as_deref().unwrap_or("BOOTX64.EFI");
                (esp, started) = uefi(broken, medium, &found, removable, device, &mut notes)?;
            }
        }
    }
    let (entry, partitions) = match started {
        Some(image) => menu_entry(broken, medium, &found, &image, device, &mut notes),
        None => Default::default(),
    };
    // What is right already is not written again.
    root.retain(|put| fs::read(broken.root.join(&put.path)).ok().as_deref() != Some(put.content.bytes()));
    Ok(Repair {
        title: medium.install.name.clone(),
        disk: broken.disk.to_owned(),
        root,
        esp,
        raw,
        entry,
        partitions,
        notes,
        time,
    })
}

/// The entry that the firmware's menu lacks, with the GUIDs of the partitions of this machine. Its images are found without on the fallback path: what cannot be
/// read is a note, no error.
fn menu_entry(
    broken: &Broken<'_>,
    medium: &Medium,
    found: &Found,
    image: &str,
    device: &mut dyn BlockDevice,
    notes: &mut Vec<String>,
) -> (Option<nvram::Entry>, BTreeSet<[u8; 16]>) {
    let wanted = recorded(broken.root).and_then(|answers| answers.boot.nvram);
    let firmware = broken.firmware.filter(|_| wanted.unwrap_or(true));
    let (Some(firmware), Some((number, _, _))) = (firmware, esp_partition(broken.root, found)) else {
        return Default::default();
    };
    let mut failed = |why: String| {
        notes.push(format!("the firmware's menu gets no entry: {why}"));
        Default::default()
    };
    let sector = device.sector();
    let table = match gpt::Table::read(&mut Reading::new(device), sector) {
        Ok((table, _)) => table,
        Err(error) => return failed(error.to_string()),
    };
    let Some(partition) = table.partitions.iter().find(|one| one.number == number) else {
        return failed(format!("partition {number} is not in the table"));
    };
    let entry = nvram::Entry::of(partition, &medium.install.name, image.to_owned());
    let mut partitions = firmware.others.clone();
    partitions.extend(table.partitions.iter().map(|one| one.guid.to_disk()));
    match nvram::is_first(firmware.efivars, &entry, &partitions) {
        Ok(true) => Default::default(),
        Ok(false) => (Some(entry), partitions),
        Err(error) => failed(error.to_string()),
    }
}

/// The BIOS boot partition that is this system's: the one of the plan that the installation kept. Where no plan is left, it is the one that holds the
/// core image, as far as that is whole; or the only one, empty, that a boot sector as this system's starts. What another system put there is never it.
fn own_bios_boot<'f>(
    broken: &Broken<'_>,
    places: &[&'f Partition],
    files: &grub::Files,
    device: &mut dyn BlockDevice,
) -> Result<Option<&'f Partition>, RepairError> {
    let text = text_of(&broken.root.join(RECORDS).join("plan.txt"));
    match text.as_deref().map_or(PlannedBios::Unknown, planned_bios) {
        PlannedBios::Nothing => return Ok(None),
        PlannedBios::In(span) => {
            if let Some(place) = places.iter().find(|one| one.span == span) {
                return Ok(Some(place));
            }
            // It was moved.
        }
        PlannedBios::Unknown => {}
    }
    let mut read = |at: u64, size: usize| {
        let mut bytes = vec![0; size];
        read_any(device, at, &mut bytes).map_err(io_error("reading", Path::new(broken.disk)))?;
        Ok::<_, RepairError>(bytes)
    };
    let mut beginning = Vec::new();
    for place in places {
        let start = place.span.start;
        let (core, code) = bios_boot_loader_of(files, broken.grub_module(), &broken.early(), start)?;
        if core.len() as u64 > place.span.size {
            continue;
        }
        let now = read(start, core.len())?;
        if now == core {
            return Ok(Some(place));
        }
        let starts = read(0, CODE_LEN)? == code[..CODE_LEN];
        let empty = now.iter().all(|byte| *byte == 0);
        // Where it lies and how long it is are in the first two sectors.
        if now[..BEGINNING] == core[..BEGINNING] || (places.len() == 1 && starts && empty) {
            beginning.push(*place);
        }
    }
    Ok(match beginning[..] {
        [place] => Some(place),
        _ => None,
    })
}

/// Core image and boot sector, where the disk has a place for them.
fn bios(
    broken: &Broken<'_>,
    found: &Found,
    files: &grub::Files,
    device: &mut dyn BlockDevice,
    notes: &mut Vec<String>,
) -> Result<Vec<Raw>, RepairError> {
    let places: Vec<&Partition> = found
        .partitions
        .iter()
        .filter(|one| one.kind == Some(Guid::BIOS_BOOT))
        .collect();
    if places.is_empty() {
        notes.push("the disk has no BIOS boot partition: nothing is done for BIOS".to_owned());
        return Ok(Vec::new());
    }
    let Some(place) = own_bios_boot(broken, &places, files, device)? else {
        let numbers: Vec<String> = places.iter().map(|one| one.number.to_string()).collect();
        notes.push(format!(
            "nothing says that a BIOS boot partition of the disk ({}) is this system's, neither its plan (/{RECORDS}/plan.txt) nor what is in there: \
             nothing is done for BIOS, where another system's boot loader may be",
            numbers.join(", ")
        ));
        return Ok(Vec::new());
    };
    let (core, code) = bios_boot_loader_of(files, broken.grub_module(), &broken.early(), place.span.start)?;
    if core.len() as u64 > place.span.size {
        return Err(RepairError::Unfit(format!(
            "GRUB's core image has {} bytes, the BIOS boot partition {}",
            core.len(),
            place.span.size
        )));
    }
    let mut out = Vec::new();
    for (what, at, bytes) in [
        ("core image in the BIOS boot partition", place.span.start, core),
        (
            "code of the first sector (the table in it stays)",
            0,
            code[..CODE_LEN].to_vec(),
        ),
    ] {
        let mut now = vec![0; bytes.len()];
        read_any(device, at, &mut now).map_err(io_error("reading", Path::new(broken.disk)))?;
        out.push(Raw {
            what,
            at,
            differs: now != bytes,
            bytes,
        });
    }
    Ok(out)
}

/// Images and configuration on the EFI system partition, and the image that the firmware's menu is to start.
fn uefi(
    broken: &Broken<'_>,
    medium: &Medium,
    found: &Found,
    removable: &str,
    device: &mut dyn BlockDevice,
    notes: &mut Vec<String>,
) -> Result<(Esp, Option<String>), RepairError> {
    let Some((_, span, uuid)) = esp_partition(broken.root, found) else {
        notes
            .push("the disk has no EFI system partition of this system: nothing is done for UEFI".to_owned());
        return Ok((Esp::None, None));
    };
    let path = medium.directory.join("EFI/BOOT").join(removable);
    let image = fs::read(&path).map_err(io_error("reading", &path))?;
    let (image, config) = efi_files_of(&image, &broken.early())?;
    let pair = |folder: &str, name: &str| {
        [
            Put {
                path: format!("EFI/{folder}/{name}"),
                content: image.clone().into(),
            },
            Put {
                path: format!("EFI/{folder}/grub.cfg"),
                content: config.clone().into(),
            },
        ]
    };
    let Some(esp) = broken.esp else {
        if file_system(device, span).is_some_and(|found| found.kind == "vfat") {
            return Err(RepairError::Unfit(
                "the EFI system partition has a FAT volume that cannot be mounted: repair it first (fsck.fat)"
                    .to_owned(),
            ));
        }
        let serial = uuid.as_deref().and_then(serial_of).ok_or_else(|| {
            RepairError::Unfit(
                "the EFI system partition has no file system, and fstab does not say which serial number it had"
                    .to_owned(),
            )
        })?;
        notes.push(
            "the EFI system partition has no file system any more: it is made anew. What other systems had there is lost already"
                .to_owned(),
        );
        let files = pair("BOOT", removable).into();
        let esp = Esp::Format { span, serial, files };
        return Ok((esp, Some(format!("\\EFI\\BOOT\\{removable}"))));
    };
    let (vendor, own_image) = (medium.install.vendor(), crate::esp::vendor_image(removable));
    // What GRUB looks for: the file system with the menu.
    let own = own_folders(esp, broken.boot_uuid.unwrap_or(broken.root_uuid));
    let mut files = Vec::new();
    let mut started = None;
    for (folder, images) in &own {
        let mut names: Vec<&str> = images.iter().map(String::as_str).collect();
        if names.is_empty() {
            let fallback = folder.eq_ignore_ascii_case("BOOT");
            names.push(if fallback { removable } else { &own_image });
        }
        // A folder of its own before the fallback path, as the installation has it.
        if started.is_none() || !folder.eq_ignore_ascii_case("BOOT") {
            started = names.first().map(|name| format!("\\EFI\\{folder}\\{name}"));
        }
        for name in names {
            files.extend(pair(folder, name));
        }
    }
    let fallback = esp.join("EFI/BOOT");
    if !there(&fallback, removable) && !there(&fallback, "grub.cfg") {
        files.extend(pair("BOOT", removable));
        started.get_or_insert(format!("\\EFI\\BOOT\\{removable}"));
    } else if own.is_empty() {
        // A folder that starts another system is left to it; one that is damaged is made anew.
        let present = crate::esp::mounted(esp);
        let others = |(name, uuid): &(String, String)| name.eq_ignore_ascii_case(vendor) && !uuid.is_empty();
        let vendor = match present.ours.iter().any(others) {
            true => present.folder_for(vendor, &|_| true),
            false => vendor.to_owned(),
        };
        notes.push(format!(
            "the fallback path belongs to another system and stays: choose \\EFI\\{vendor} in the firmware"
        ));
        files.extend(pair(&vendor, &own_image));
        started = Some(format!("\\EFI\\{vendor}\\{own_image}"));
    }
    files.dedup();
    files.retain(|put| fs::read(esp.join(&put.path)).ok().as_deref() != Some(put.content.bytes()));
    Ok((Esp::Files(files), started))
}

/// `ABCD-1234` as a number.
fn serial_of(text: &str) -> Option<u32> {
    let (high, low) = text.split_once('-')?;
    (high.len() == 4 && low.len() == 4)
        .then(|| Some(u32::from_str_radix(high, 16).ok()? << 16 | u32::from_str_radix(low, 16).ok()?))?
}

/// Reads what need not be whole sectors.
fn read_any(device: &mut dyn BlockDevice, at: u64, bytes: &mut [u8]) -> io::Result<()> {
    let sector = u64::from(device.sector());
    let start = at / sector * sector;
    let end = (at + bytes.len() as u64).next_multiple_of(sector);
    let mut whole = vec![0; (end - start) as usize];
    device.read_at(start, &mut whole)?;
    let from = (at - start) as usize;
    bytes.copy_from_slice(&whole[from..from + bytes.len()]);
    Ok(())
}

#[cfg(test)]
mod tests;
