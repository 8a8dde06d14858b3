//! Platforms: how a disk is laid out and what starts it, from `configs/platforms/NAME.toml`; and what an image says of its
//! disk, `[disk]`.

use std::path::Path;

use lycia_media::partition::Guid;
use lycia_media::partition::gpt;
use serde::Deserialize;

use super::{Compression, Project, typed};
use crate::error::{Context as _, Error, Kind, Result};

/// `configs/platforms/NAME.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PlatformFile {
    /// One line.
    pub summary: String,
    /// Architectures that it is for.
    pub architectures: Vec<String>,
    /// Partition table.
    pub table: TableTable,
    /// Boot loader.
    pub boot: LoaderTable,
    /// Partitions, in the order in which they are placed.
    pub partition: Vec<PartitionTable>,
    /// Bytes at fixed places.
    #[serde(default)]
    pub raw: Vec<RawTable>,
}

/// `[table]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct TableTable {
    /// `gpt`, `mbr` or `hybrid`.
    pub kind: TableName,
    /// Bytes of a sector, 512 if not given.
    pub sector_size: Option<u32>,
    /// Partitions that do not say where they begin begin at multiples of this, 1M if not given.
    pub alignment: Option<String>,
    /// The first place that partitions may use.
    pub first_usable: Option<String>,
    /// Whether the MBR of a GPT has an unused record flagged active, without which some BIOSes boot no disk.
    #[serde(default)]
    pub active_placeholder: bool,
    /// Partitions that the MBR of a hybrid shows.
    #[serde(default)]
    pub shown: Vec<ShownTable>,
}

/// Kinds of partition tables.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableName {
    /// GUID partition table.
    Gpt,
    /// MBR alone.
    Mbr,
    /// GPT with an MBR that shows some of its partitions.
    Hybrid,
}

/// `[[table.shown]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShownTable {
    /// Name of a partition.
    pub partition: String,
    /// Its type in the MBR, a byte such as `0x0c`.
    pub r#type: String,
    /// Whether a BIOS may boot from it.
    #[serde(default)]
    pub active: bool,
}

/// `[boot]` of a platform.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LoaderTable {
    /// What is written for the boot loader.
    pub loader: Loader,
    /// Kernel arguments of the platform.
    #[serde(default)]
    pub arguments: String,
    /// Consoles, the last one being `/dev/console`; those of the image if not given.
    pub consoles: Option<Vec<String>>,
    /// For extlinux: the device tree, or the folder of device trees if it ends in `/`, below the kernel's own folder. The loader looks for
    /// it by itself if not given.
    pub device_tree: Option<String>,
}

/// Boot loaders.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Loader {
    /// GRUB, made from the modules of the root: a core image where the platform has a place for it, EFI programs on the
    /// EFI system partition.
    Grub,
    /// `extlinux/extlinux.conf`, which U-Boot reads.
    Extlinux,
    /// The firmware of the Raspberry Pi: `kernel.txt`, `cmdline.txt`, device trees and overlays.
    RaspberryPi,
    /// Nothing.
    None,
}

/// `[[partition]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct PartitionTable {
    /// Its name in a GPT, and for messages.
    pub name: String,
    /// Its number; the first that is free if not given.
    pub number: Option<u32>,
    /// A name such as `esp`, a GUID, or a byte of an MBR such as `0x0c`.
    pub r#type: Option<String>,
    /// `required`, `legacy-boot`, `grow`, `read-only`, `no-automount`, or the number of a bit.
    #[serde(default)]
    pub attributes: Vec<String>,
    /// Whether a BIOS may boot from it, in an MBR.
    #[serde(default)]
    pub active: bool,
    /// First byte; the next aligned place if not given.
    pub start: Option<String>,
    /// Bytes, or `rest`; what its content takes and `slack` if not given.
    pub size: Option<String>,
    /// Bytes that stay free where the content decides the size.
    pub slack: Option<String>,
    /// `ext4`, `fat`, `fat12`, `fat16` or `fat32`; nothing if not given.
    pub file_system: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// Where it is mounted: what the root has there is put on it.
    pub mount: Option<String>,
    /// Its mount options in `/etc/fstab`.
    pub options: Option<String>,
    /// Whether an ext4 has a journal; it has if not given.
    pub journal: Option<bool>,
    /// Files of the root that are put on it, too.
    #[serde(default)]
    pub file: Vec<FileTable>,
}

/// `[[partition.file]]`
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileTable {
    /// Path in the root.
    pub from: String,
    /// Path on the partition.
    pub to: String,
}

/// `[[raw]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RawTable {
    /// What it is, for messages.
    pub name: String,
    /// Path in the root.
    pub file: String,
    /// First byte.
    pub offset: String,
    /// The most bytes that there may be; up to the next part of the disk if not given.
    pub room: Option<String>,
}

/// `[disk]` of an image.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DiskTable {
    /// Name of `configs/platforms/NAME.toml`; the architecture's own if not given.
    pub platform: Option<String>,
    /// `raw`, `qcow2`, `gz`, `xz`, `zst`; raw if not given.
    pub formats: Option<Vec<String>>,
    /// Level of the compressors.
    pub level: Option<u32>,
    /// Bytes of the whole disk; as many as its parts take if not given.
    pub size: Option<String>,
    /// Bytes that stay free on the root, in place of the platform's.
    pub slack: Option<String>,
    /// Whether the root has a journal, in place of the platform's.
    pub journal: Option<bool>,
    /// Whether the root grows to the disk at its first boot; it does if not given.
    pub grow: Option<bool>,
    /// Host name.
    pub hostname: Option<String>,
    /// Root's password, in clear text: for images that are tried out.
    pub password: Option<String>,
    /// Root's password as in `/etc/shadow`; nobody can log in as root if neither is given.
    pub password_hash: Option<String>,
}

impl DiskTable {
    /// `over` laid over `self`: values replaced.
    pub(super) fn join(self, over: DiskTable) -> DiskTable {
        // One form of the password replaces the other.
        let secret = over.password.is_some() || over.password_hash.is_some();
        let (password, password_hash) = if secret {
            (over.password, over.password_hash)
        } else {
            (self.password, self.password_hash)
        };
        DiskTable {
            platform: over.platform.or(self.platform),
            formats: over.formats.or(self.formats),
            level: over.level.or(self.level),
            size: over.size.or(self.size),
            slack: over.slack.or(self.slack),
            journal: over.journal.or(self.journal),
            grow: over.grow.or(self.grow),
            hostname: over.hostname.or(self.hostname),
            password,
            password_hash,
        }
    }
}

/// A form that a disk is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Byte for byte, sparse.
    Raw,
    /// QEMU's format.
    Qcow2,
    /// Raw, compressed.
    Compressed(Compression),
}

impl Form {
    /// The end of the file's name.
    pub fn ending(self) -> &'static str {
        match self {
            Form::Raw => "img",
            Form::Qcow2 => "qcow2",
            Form::Compressed(Compression::Gzip(_)) => "img.gz",
            Form::Compressed(Compression::Xz(_)) => "img.xz",
            Form::Compressed(Compression::Zstd(_)) => "img.zst",
        }
    }
}

/// What a disk is made like.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The platform.
    pub platform: Platform,
    /// Forms, each once.
    pub forms: Vec<Form>,
    /// Bytes of the disk.
    pub size: Option<u64>,
    /// Whether the root grows to the disk at its first boot.
    pub grow: bool,
    /// Host name.
    pub hostname: String,
    /// Root's password.
    pub password: Secret,
}

/// A password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Secret {
    /// Clear text.
    Clear(String),
    /// As in `/etc/shadow`.
    Hash(String),
    /// None that anybody knows.
    Locked,
}

/// A platform, checked.
#[derive(Clone, Debug)]
pub struct Platform {
    /// Its name, which is its file's.
    pub name: String,
    /// Kind of table.
    pub table: TableName,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Bytes.
    pub alignment: u64,
    /// First sector that partitions may use.
    pub first_usable: Option<u64>,
    /// See [`TableTable::active_placeholder`].
    pub active_placeholder: bool,
    /// Index of a partition, its type in the MBR and whether it is active.
    pub shown: Vec<(usize, u8, bool)>,
    /// Boot loader.
    pub loader: Loader,
    /// Kernel arguments.
    pub arguments: String,
    /// Consoles, if the platform has its own.
    pub consoles: Option<Vec<String>>,
    /// See [`LoaderTable::device_tree`].
    pub device_tree: Option<String>,
    /// Partitions.
    pub partitions: Vec<Partition>,
    /// Bytes at fixed places.
    pub raw: Vec<Raw>,
    /// Index of the partition with the root.
    pub root: usize,
}

/// A partition, checked.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Name.
    pub name: String,
    /// Number.
    pub number: Option<u32>,
    /// Type in a GPT.
    pub kind: Guid,
    /// Type in an MBR.
    pub mbr_kind: u8,
    /// Attribute bits.
    pub attributes: u64,
    /// Whether a BIOS may boot from it, in an MBR.
    pub active: bool,
    /// First byte.
    pub start: Option<u64>,
    /// Size.
    pub size: Size,
    /// What is on it.
    pub file_system: FileSystem,
    /// Label of the file system.
    pub label: String,
    /// Where it is mounted, without a slash at either end; empty for the root.
    pub mount: Option<String>,
    /// Mount options.
    pub options: Option<String>,
    /// Files of the root that are put on it.
    pub files: Vec<FileTable>,
}

/// Size of a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// Bytes.
    Bytes(u64),
    /// Up to the next fixed place, or to the end.
    Rest,
    /// What the content takes, and so many bytes more.
    Content(u64),
}

/// What is on a partition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FileSystem {
    /// Nothing.
    None,
    /// ext4, with a journal or without.
    Ext4(bool),
    /// FAT of a width, or of the usual one.
    Fat(Option<lycia_media::fat::Width>),
}

/// Bytes at a fixed place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Raw {
    /// What it is.
    pub name: String,
    /// Path in the root.
    pub file: String,
    /// First byte.
    pub offset: u64,
    /// The most bytes that there may be.
    pub room: Option<u64>,
}

fn wrong(message: impl Into<String>) -> Error {
    Error::new(Kind::Input, message.into())
}

/// `64M`, `1G`, `32K`, `34s` (sectors of 512 bytes, as boot loaders count) or bytes.
pub fn size(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &text[digits.len()..] {
        "" | "B" => Some(1),
        "s" => Some(512),
        "K" | "KiB" => Some(1 << 10),
        "M" | "MiB" => Some(1 << 20),
        "G" | "GiB" => Some(1 << 30),
        "T" | "TiB" => Some(1 << 40),
        _ => None,
    };
    unit.and_then(|unit| digits.parse::<u64>().ok()?.checked_mul(unit))
        .filter(|bytes| *bytes < 1 << 60)
        .ok_or_else(|| {
            wrong(format!("`{}` is no size", text.escape_debug()))
                .hint("write bytes, or a number with s (sectors of 512 bytes), K, M, G or T")
        })
}

fn optional(text: Option<&String>, what: &str) -> Result<Option<u64>> {
    text.map(|text| size(text).context(|| what.to_owned()))
        .transpose()
}

/// Names of partition types: GUID, byte in an MBR.
const TYPES: &[(&str, &str, u8)] = &[
    ("esp", "c12a7328-f81f-11d2-ba4b-00a0c93ec93b", 0xef),
    ("bios-boot", "21686148-6449-6e6f-744e-656564454649", 0xda),
    ("linux", "0fc63daf-8483-4772-8e79-3d69d8477de4", 0x83),
    ("linux-boot", "bc13c2ff-59e6-4262-a352-b275fd6f7172", 0xea),
    ("linux-reserved", "8da63339-0007-60c0-c436-083ac8230908", 0xda),
    ("linux-swap", "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f", 0x82),
    ("basic-data", "ebd0a0a2-b9e5-4433-87c0-68b6b72699c7", 0x0c),
    // Discoverable Partitions Specification.
    ("linux-root-x86_64", "4f68bce3-e8cd-4db1-96e7-fbcaf984b709", 0x83),
    ("linux-root-aarch64", "b921b045-1df0-41c3-af44-4c6f280d3fae", 0x83),
    ("linux-root-riscv64", "72ec70a6-cf74-40e6-bd49-4bda08e8f224", 0x83),
    // Where the boot ROM of SiFive's processors looks for its first stage, and that one for the next (U-Boot,
    // doc/board/sifive/unmatched.rst).
    ("sifive-fsbl", "5b193300-fc78-40cd-8002-e86c45580b47", 0xda),
    ("sifive-bbl", "2e54b353-1271-4842-806f-e436d6af6985", 0xda),
];

/// A type in an MBR; nothing where the text is no byte.
fn byte(text: &str) -> Option<Result<u8>> {
    let byte = u8::from_str_radix(text.strip_prefix("0x")?, 16).ok()?;
    let what = match byte {
        0x00 => "of a record that is not used",
        0x05 | 0x0f | 0x85 => "of an extended partition, which is a chain of tables",
        0xee => "of the record that protects a GPT",
        _ => return Some(Ok(byte)),
    };
    Some(Err(wrong(format!("the type {text} is that {what}")).hint(
        "write that of what is on the partition, such as 0x83 for Linux or 0x0c for FAT",
    )))
}

fn kind(text: &str) -> Result<(Guid, u8)> {
    if let Some((_, guid, byte)) = TYPES.iter().find(|(name, ..)| *name == text) {
        return Ok((guid.parse().unwrap_or(Guid::NIL), *byte));
    }
    if let Some(byte) = byte(text) {
        return Ok((Guid::LINUX_DATA, byte?));
    }
    match text.to_ascii_lowercase().parse() {
        Ok(Guid::NIL) => {
            return Err(wrong(format!(
                "the type {text} is that of an entry that is not used"
            )));
        }
        Ok(guid) => return Ok((guid, 0x83)),
        Err(_) => {}
    }
    let names = TYPES.iter().map(|(name, ..)| *name);
    let error = wrong(format!("`{}` is no partition type", text.escape_debug()));
    Err(match lycia_seed::nearest(text, names.clone()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!(
            "write a GUID, a byte such as 0x0c, or one of {}",
            names.collect::<Vec<_>>().join(", ")
        )),
    })
}

fn attribute(text: &str) -> Result<u64> {
    Ok(match text {
        "required" => gpt::REQUIRED,
        "legacy-boot" => gpt::LEGACY_BOOT,
        "grow" => gpt::GROW_FILE_SYSTEM,
        "read-only" => gpt::READ_ONLY,
        "no-automount" => gpt::NO_AUTOMOUNT,
        other => {
            match other.parse::<u32>() {
                Ok(bit) if bit < 64 => 1 << bit,
                _ => {
                    return Err(
                    wrong(format!("`{}` is no attribute of a partition", other.escape_debug())).hint(
                        "there are required, legacy-boot, grow, read-only, no-automount and bits from 0 to 63",
                    ),
                );
                }
            }
        }
    })
}

/// A path of the root without slashes at its ends, which does not lead out of it.
fn path(text: &str) -> Result<String> {
    let parts: Vec<&str> = text.split('/').filter(|part| !part.is_empty()).collect();
    if parts.iter().any(|part| matches!(*part, "." | "..")) || text.chars().any(char::is_control) {
        return Err(wrong(format!(
            "`{}` is no path below a root",
            text.escape_debug()
        )));
    }
    Ok(parts.join("/"))
}

/// Text that stands in a line of a boot loader's configuration or of fstab.
fn plain(text: &str) -> Result<()> {
    if text
        .chars()
        .any(|letter| letter.is_control() || "'\"\\$`".contains(letter))
    {
        return Err(wrong(format!(
            "`{}` has quotes, `$` or control characters",
            text.escape_debug()
        )));
    }
    Ok(())
}

/// Bytes of the longest label of ext4.
const EXT4_LABEL: usize = 16;

fn partition(given: PartitionTable, table: TableName) -> Result<Partition> {
    use lycia_media::fat::Width;
    plain(&given.name)?;
    let (kind, mbr_kind) = kind(given.r#type.as_deref().unwrap_or("linux"))?;
    if table != TableName::Mbr && given.r#type.as_deref().and_then(byte).is_some() {
        return Err(wrong("a type of one byte is for MBRs").hint("write a name or a GUID"));
    }
    if table == TableName::Mbr && !given.attributes.is_empty() {
        return Err(wrong("`attributes` are of a GPT: an MBR has none").hint("leave them out"));
    }
    if table != TableName::Mbr && given.active {
        return Err(
            wrong("`active` is of an MBR's record, and this partition has none")
                .hint("write `attributes = [\"legacy-boot\"]`, or `active` in a [[table.shown]]"),
        );
    }
    let mut attributes = 0;
    for one in &given.attributes {
        attributes |= attribute(one)?;
    }
    let file_system = match given.file_system.as_deref() {
        None => FileSystem::None,
        Some("ext4") => FileSystem::Ext4(given.journal.unwrap_or(true)),
        Some("fat") => FileSystem::Fat(None),
        Some("fat12") => FileSystem::Fat(Some(Width::Fat12)),
        Some("fat16") => FileSystem::Fat(Some(Width::Fat16)),
        Some("fat32") => FileSystem::Fat(Some(Width::Fat32)),
        Some(other) => {
            return Err(wrong(format!("`{}` is no file system", other.escape_debug()))
                .hint("there are ext4, fat, fat12, fat16 and fat32"));
        }
    };
    let empty = file_system == FileSystem::None;
    if empty && (given.mount.is_some() || given.label.is_some() || !given.file.is_empty()) {
        return Err(wrong(
            "it has a label, a mount point or files, and no file-system",
        ));
    }
    if given.journal.is_some() && !matches!(file_system, FileSystem::Ext4(_)) {
        return Err(wrong("only ext4 has a journal"));
    }
    let slack = optional(given.slack.as_ref(), "slack")?;
    let size = match given.size.as_deref() {
        Some("rest") => Size::Rest,
        Some(text) => Size::Bytes(size(text).context(|| "size".to_owned())?),
        None if empty => return Err(wrong("it has neither a size nor a file system")),
        None => Size::Content(slack.unwrap_or(0)),
    };
    if given.slack.is_some() && !matches!(size, Size::Content(_)) {
        return Err(wrong("its size is given: there is no slack to add"));
    }
    let label = given.label.unwrap_or_default();
    plain(&label)?;
    let (fits, rule) = match file_system {
        FileSystem::Fat(_) => (
            lycia_media::fat::is_label(&label),
            "of FAT has at most 11 characters of ASCII without \"*+,./:;<=>?[\\]|",
        ),
        _ => (label.len() <= EXT4_LABEL, "of ext4 has at most 16 bytes"),
    };
    if !label.is_empty() && !fits {
        return Err(wrong(format!("the label `{label}` is none: one {rule}")));
    }
    if let Some(options) = &given.options {
        plain(options)?;
        if options.is_empty() || options.contains(char::is_whitespace) {
            return Err(wrong(format!("`{options}` are no mount options")));
        }
    }
    let mut files = Vec::new();
    for file in given.file {
        files.push(FileTable {
            from: path(&file.from)?,
            to: path(&file.to)?,
        });
    }
    Ok(Partition {
        name: given.name,
        number: given.number,
        kind,
        mbr_kind,
        attributes,
        active: given.active,
        start: optional(given.start.as_ref(), "start")?,
        size,
        file_system,
        label,
        mount: given.mount.as_deref().map(path).transpose()?,
        options: given.options,
        files,
    })
}

/// Reads and checks a platform for `arch`.
///
/// # Errors
/// When it is not there, has a key that is not known, or says what cannot be.
pub fn read(project: &Project, name: &str, arch: &str) -> Result<Platform> {
    let file = typed::file(&project.configs(), "platforms", name)?;
    check(typed::read(&file)?, name, arch).context(|| file.display().to_string())
}

fn check(file: PlatformFile, name: &str, arch: &str) -> Result<Platform> {
    if !file.architectures.iter().any(|one| one == arch) {
        return Err(
            wrong(format!("the platform {name} is not for {arch}")).hint(format!(
                "it is for {}: give --arch",
                file.architectures.join(", ")
            )),
        );
    }
    let mut partitions = Vec::new();
    for given in file.partition {
        let name = given.name.clone();
        partitions.push(partition(given, file.table.kind).context(|| format!("partition `{name}`"))?);
    }
    let mut mounts: Vec<&String> = partitions.iter().filter_map(|one| one.mount.as_ref()).collect();
    mounts.sort();
    if let Some(pair) = mounts.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(wrong(format!("two partitions are mounted at /{}", pair[0])));
    }
    let root = partitions
        .iter()
        .position(|one| one.mount.as_deref() == Some(""))
        .ok_or_else(|| wrong("no partition is mounted at /").hint("add `mount = \"/\"` to one"))?;
    if !matches!(partitions[root].file_system, FileSystem::Ext4(_)) {
        return Err(wrong("the root is no ext4: FAT has neither owners nor links"));
    }
    let of = |name: &str| partitions.iter().position(|one| one.name == name);
    let mut shown = Vec::new();
    for one in &file.table.shown {
        if partitions
            .iter()
            .filter(|other| other.name == one.partition)
            .count()
            > 1
        {
            return Err(wrong(format!(
                "there are several partitions `{}`: which one is to be shown cannot be told",
                one.partition
            ))
            .hint("give them names that differ"));
        }
        let index = of(&one.partition)
            .ok_or_else(|| wrong(format!("there is no partition `{}` to show", one.partition)))?;
        let kind =
            byte(&one.r#type).ok_or_else(|| wrong(format!("`{}` is no byte like 0x0c", one.r#type)))??;
        shown.push((index, kind, one.active));
    }
    if (file.table.kind == TableName::Hybrid) == shown.is_empty() {
        return Err(wrong("[[table.shown]] is what a hybrid table has, and only that"));
    }
    if file.table.active_placeholder && file.table.kind != TableName::Gpt {
        return Err(wrong("`active-placeholder` is of the protective MBR of a GPT"));
    }
    let active = partitions.iter().filter(|one| one.active).count();
    if active.max(shown.iter().filter(|(.., active)| *active).count()) > 1 {
        return Err(
            wrong("two partitions are active: boot code starts one").hint("leave `active` out of one")
        );
    }
    let boot = file.boot;
    plain(&boot.arguments)?;
    for console in boot.consoles.iter().flatten() {
        plain(console)?;
    }
    if boot.loader != Loader::Extlinux && boot.device_tree.is_some() {
        return Err(wrong("device-tree is for extlinux"));
    }
    let mut raw = Vec::new();
    for one in file.raw {
        let checked = || -> Result<Raw> {
            Ok(Raw {
                name: one.name.clone(),
                file: path(&one.file)?,
                offset: size(&one.offset)?,
                room: optional(one.room.as_ref(), "room")?,
            })
        };
        raw.push(checked().context(|| format!("raw `{}`", one.name))?);
    }
    let sector_size = file.table.sector_size.unwrap_or(512);
    if !matches!(sector_size, 512 | 4096) {
        return Err(wrong(format!(
            "sectors have 512 or 4096 bytes, not {sector_size}"
        )));
    }
    if boot.loader == Loader::Grub {
        grub_boots(file.table.kind, sector_size, &partitions)?;
    }
    let first_usable = optional(file.table.first_usable.as_ref(), "first-usable")?;
    Ok(Platform {
        name: name.to_owned(),
        table: file.table.kind,
        sector_size,
        alignment: optional(file.table.alignment.as_ref(), "alignment")?
            .unwrap_or(lycia_media::disk::ALIGNMENT),
        first_usable: first_usable.map(|bytes| bytes.div_ceil(u64::from(sector_size))),
        active_placeholder: file.table.active_placeholder,
        shown,
        loader: boot.loader,
        arguments: boot.arguments,
        consoles: boot.consoles,
        device_tree: boot.device_tree,
        partitions,
        raw,
        root,
    })
}

/// Whether some firmware finds GRUB, and GRUB what it boots.
fn grub_boots(table: TableName, sector_size: u32, partitions: &[Partition]) -> Result<()> {
    let of = |kind: Guid| partitions.iter().filter(move |one| one.kind == kind);
    for one in of(Guid::BIOS_BOOT) {
        if one.file_system != FileSystem::None {
            return Err(wrong(format!(
                "GRUB's core image is what lies on the BIOS boot partition `{}`, and it has a file-system",
                one.name
            ))
            .hint("leave `file-system` out, and give a `size`"));
        }
    }
    for one in of(Guid::EFI_SYSTEM) {
        if !matches!(one.file_system, FileSystem::Fat(_)) {
            return Err(wrong(format!(
                "GRUB for UEFI is a file on the EFI system partition `{}`, and it has no FAT",
                one.name
            ))
            .hint("add `file-system = \"fat\"`"));
        }
    }
    let bios = table == TableName::Mbr || of(Guid::BIOS_BOOT).next().is_some();
    if !bios && of(Guid::EFI_SYSTEM).next().is_none() {
        return Err(wrong("no firmware finds GRUB: there is no place for it").hint(
            "add a partition with `type = \"bios-boot\"` and `size = \"1M\"`, or one with `type = \"esp\"` and \
             `file-system = \"fat\"`",
        ));
    }
    if bios && sector_size != 512 {
        return Err(
            wrong("BIOSes, and GRUB for them, count in sectors of 512 bytes").hint(match table {
                TableName::Mbr => "leave `sector-size` out, or write a GPT with an EFI system partition",
                _ => "leave `sector-size` out, or the BIOS boot partition",
            }),
        );
    }
    for one in partitions {
        let mount = one.mount.as_deref().unwrap_or_default();
        if mount == "boot" || mount == "boot/grub" || mount.starts_with("boot/grub/") {
            return Err(wrong(format!(
                "GRUB reads /boot from the root: leave the partition for /{mount} out"
            )));
        }
    }
    Ok(())
}

/// What an image says of its disk.
///
/// # Errors
/// When the platform is not there or not for `arch`, or a value cannot be.
pub fn resolve(project: &Project, table: &DiskTable, arch: &str) -> Result<Disk> {
    let mut platform = read(project, table.platform.as_deref().unwrap_or(arch), arch)?;
    let resolve = || -> Result<Disk> {
        let mut forms: Vec<Form> = Vec::new();
        let formats = table.formats.clone().unwrap_or_else(|| vec!["raw".to_owned()]);
        for name in &formats {
            let form = match name.as_str() {
                "raw" => Form::Raw,
                "qcow2" => Form::Qcow2,
                "gz" => Form::Compressed(Compression::resolve("gzip", table.level, 9)?),
                "xz" => Form::Compressed(Compression::resolve("xz", table.level, 6)?),
                "zst" => Form::Compressed(Compression::resolve("zstd", table.level, 12)?),
                other => {
                    return Err(
                        wrong(format!("`{}` is no format of a disk", other.escape_debug()))
                            .hint("there are raw, qcow2, gz, xz and zst"),
                    );
                }
            };
            if !forms.contains(&form) {
                forms.push(form);
            }
        }
        if forms.is_empty() {
            return Err(wrong("no format is wanted").hint("add `formats = [\"raw\"]`"));
        }
        let root = platform.root;
        let root = &mut platform.partitions[root];
        let size = optional(table.size.as_ref(), "size")?;
        if let Some(journal) = table.journal {
            root.file_system = FileSystem::Ext4(journal);
        }
        if let Some(slack) = optional(table.slack.as_ref(), "slack")? {
            if size.is_some() || !matches!(root.size, Size::Content(_)) {
                return Err(wrong("the size is given: there is no slack to add"));
            }
            root.size = Size::Content(slack);
        }
        if size.is_some() && matches!(root.size, Size::Content(_)) {
            root.size = Size::Rest;
        }
        let field = |text: &String| !text.is_empty() && !text.contains([':', '\n', '\0']);
        let password = match (&table.password, &table.password_hash) {
            (Some(_), Some(_)) => {
                return Err(wrong("there is a password and a password-hash: one is enough"));
            }
            (Some(text), None) if !text.is_empty() && !text.contains(['\n', '\0']) => {
                Secret::Clear(text.clone())
            }
            (None, Some(text)) if field(text) => Secret::Hash(text.clone()),
            (None, None) => Secret::Locked,
            _ => {
                return Err(wrong(
                    "the password or its hash is empty or has characters that /etc/shadow cannot hold",
                ));
            }
        };
        Ok(Disk {
            platform: platform.clone(),
            forms,
            size,
            grow: table.grow.unwrap_or(true),
            hostname: super::word("hostname", table.hostname.clone(), "lycia")?,
            password,
        })
    };
    let mut resolve = resolve;
    resolve().context(|| "[disk]".to_owned())
}

/// All platforms of a project, read for the first of their architectures: for tests and listings.
///
/// # Errors
/// As [`read`].
pub fn all(configs: &Path) -> Result<Vec<Platform>> {
    let project = Project {
        root: configs.parent().unwrap_or(configs).to_owned(),
        overrides: super::Overrides::default(),
    };
    let mut platforms = Vec::new();
    for name in typed::names(configs, "platforms") {
        let file: PlatformFile = typed::read(&typed::file(configs, "platforms", &name)?)?;
        let arch = file.architectures.first().cloned().unwrap_or_default();
        platforms.push(read(&project, &name, &arch)?);
    }
    Ok(platforms)
}

#[cfg(test)]
mod tests;
