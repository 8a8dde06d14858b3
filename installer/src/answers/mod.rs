//! Answers: what a person wants, typed in ([`typed::AnswersFile`]) and resolved ([`Answers`]).
//!
//! Resolving checks every key by itself and the keys against each other, and reports everything that is wrong at once.
//! What only the machine or the medium can know (is there such a disk, such a package) is checked when the plan is made.

mod check;
pub mod table;
pub mod typed;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;

use crate::encryption::Passphrase;
use crate::file_system::{self, FileSystem};
use crate::plan::MINIMUM_ROOT;
use crate::secret::{self, Hash, SecretError};
use check::{check_groups, check_word};
use typed::{AnswersFile, SCHEMA};

/// Something that is wrong with a key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The key, such as `disk.select`.
    pub key: String,
    /// What is wrong and what to do.
    pub what: String,
}

/// Everything that is wrong with answers.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{}", .0.iter().map(|problem| format!("{}: {}", problem.key, problem.what)).collect::<Vec<_>>().join("\n"))]
pub struct Problems(pub Vec<Problem>);

/// What happens to the disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Everything on it goes.
    Erase,
    /// The largest free range is used; every partition stays.
    Alongside,
    /// These partitions go, and their place, with free space beside it, is used.
    Replace(BTreeSet<u32>),
    /// Partitions that are there are formatted; the table stays.
    Partitions {
        /// Number of the root.
        root: u32,
        /// Number of the EFI system partition; it is formatted.
        esp: Option<u32>,
        /// Number of the BIOS boot partition.
        bios_boot: Option<u32>,
        /// Number of the swap partition.
        swap: Option<u32>,
        /// Number of the partition for `/boot`.
        boot: Option<u32>,
    },
    /// A table that is edited: partitions are deleted, made and used as they are named.
    Table(table::Edited),
    /// A directory in which the new root's file systems are mounted.
    Directory(PathBuf),
}

impl Layout {
    /// The word for it in answers.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Layout::Erase => "erase",
            Layout::Alongside => "alongside",
            Layout::Replace(_) => "replace",
            Layout::Partitions { .. } => "partitions",
            Layout::Table(_) => "table",
            Layout::Directory(_) => "directory",
        }
    }
}

/// Where to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk {
    /// What names the disk; none for [`Layout::Directory`].
    pub select: Option<String>,
    /// What happens to it.
    pub layout: Layout,
    /// Partition kept for `/home`.
    pub home: Option<u32>,
    /// EFI system partition that is kept and shared.
    pub esp: Option<u32>,
    /// Bytes of the EFI system partition.
    pub esp_size: u64,
    /// How the root is encrypted, if it is.
    pub encryption: Option<Encryption>,
    /// Bytes of a partition for `/boot`.
    pub boot_size: Option<u64>,
    /// Bytes of the root; the rest if none.
    pub root_size: Option<u64>,
    /// Bytes of a swap partition.
    pub swap_size: Option<u64>,
    /// Bytes of a swap file in the root.
    pub swap_file: Option<u64>,
    /// Bytes of compressed swap in memory, before compression.
    pub zram: Option<u64>,
    /// The file system of the root.
    pub file_system: FileSystem,
    /// What is mounted in a directory and kept.
    pub keep: Vec<String>,
    /// Devices that are swap already and are used, with a directory.
    pub swap_partitions: Vec<String>,
}

/// How the root is encrypted: LUKS2.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Encryption {
    /// The passphrase; where there is none it is asked for.
    pub passphrase: Option<Passphrase>,
}

/// Where packages come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The medium.
    Local,
    /// Repositories.
    Network {
        /// Lines as in `/etc/apk/repositories`.
        repositories: Vec<String>,
        /// What `${mirror}` in a line stands for, in the order in which they are asked.
        mirrors: Vec<String>,
        /// Files with public keys.
        keys: Vec<PathBuf>,
    },
}

/// What lets somebody log in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// Password; none is a locked one.
    pub password: Option<Hash>,
    /// Public keys for ssh.
    pub ssh_keys: Vec<String>,
}

/// A user to make.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Login name.
    pub name: String,
    /// Login shell; the system's default if none.
    pub shell: Option<String>,
    /// Groups that must exist.
    pub groups: Vec<String>,
    /// Whether it may become root.
    pub admin: bool,
    /// How it logs in.
    pub login: Login,
}

/// The network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Network {
    /// Asked for.
    Dhcp,
    /// Fixed.
    Static {
        /// Interface.
        interface: String,
        /// Its address.
        address: IpAddr,
        /// Bits of the network.
        prefix: u8,
        /// Default router.
        gateway: Option<IpAddr>,
        /// Name servers.
        dns: Vec<IpAddr>,
    },
    /// None.
    Off,
}

/// The serial console of the installed system.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Serial {
    /// What the running system uses, if it uses one.
    AsNow,
    /// None.
    Off,
    /// This one: `ttyS0,115200`.
    On(String),
}

/// Resolved answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answers {
    /// Where to.
    pub disk: Disk,
    /// Where from.
    pub source: Source,
    /// Kernel package; the medium's default if none.
    pub kernel: Option<String>,
    /// Package sets.
    pub sets: Vec<String>,
    /// World entries.
    pub extra: Vec<String>,
    /// Allocator; the default if none.
    pub allocator: Option<String>,
    /// Host name.
    pub hostname: String,
    /// Name below `/usr/share/zoneinfo`.
    pub timezone: String,
    /// Keyboard layout; the kernel's own if none.
    pub keymap: Option<String>,
    /// Locale.
    pub locale: Option<String>,
    /// The administrator.
    pub root: Login,
    /// Users.
    pub users: Vec<User>,
    /// Network.
    pub network: Network,
    /// Services to enable.
    pub services: Vec<String>,
    /// Seconds that the boot menu waits.
    pub timeout: u32,
    /// Whether the firmware's menu gets an entry.
    pub nvram: bool,
    /// The disk that gets GRUB for BIOS, with a directory.
    pub bios_disk: Option<String>,
    /// Serial console.
    pub serial: Serial,
    /// Words for the kernel.
    pub arguments: String,
    /// Serial number of the disk that may be written.
    pub confirm_serial: Option<String>,
    /// Hash of the plan that may be applied.
    pub confirm_plan: Option<String>,
}

/// What reads passwords while answers are resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Secrets {
    /// They are read and hashed.
    Read,
    /// They are only looked at: files must be there, descriptors are left alone. For checks.
    Look,
}

const MIB: u64 = 1 << 20;
/// Bytes of an EFI system partition where nothing else is said.
pub const ESP_SIZE: u64 = 512 * MIB;
/// Bytes of a partition for `/boot` where nothing else is said.
pub const BOOT_SIZE: u64 = 1024 * MIB;
/// Largest size of anything on a disk, in bytes; a few of them do not overflow.
const SIZE_MAX: u64 = 1 << 60;
/// Largest answers file that is read, in bytes.
pub const FILE_MAX: u64 = 1 << 20;

/// `512 MiB`, `20GiB`, `2GB`, `1T` (T, G, M, K alone are binary) in bytes.
///
/// # Errors
/// Says what forms there are.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(end);
    let factor: u64 = match unit.trim() {
        "K" | "KiB" => 1 << 10,
        "M" | "MiB" => 1 << 20,
        "G" | "GiB" => 1 << 30,
        "T" | "TiB" => 1 << 40,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => {
            return Err(format!(
                "`{text}` is no size: write a whole number and a unit, as in `20 GiB` or `500 MB`"
            ));
        }
    };
    let number: u64 = digits.parse().map_err(|_| format!("`{text}` is no size"))?;
    match number.checked_mul(factor) {
        Some(0) => Err("a size of nothing".into()),
        Some(size) => Ok(size),
        None => Err(format!("`{text}` is too large")),
    }
}

struct Resolver {
    problems: Vec<Problem>,
    secrets: Secrets,
}

impl Resolver {
    fn wrong(&mut self, key: impl Into<String>, what: impl Into<String>) {
        self.problems.push(Problem {
            key: key.into(),
            what: what.into(),
        });
    }

    fn take<T>(&mut self, key: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|what| self.wrong(key, what)).ok()
    }

    fn size(&mut self, key: &str, text: Option<&str>) -> Option<u64> {
        let size = text.and_then(|text| self.take(key, parse_size(text)))?;
        if size > SIZE_MAX {
            self.wrong(key, "no disk is that large");
            return None;
        }
        Some(size)
    }

    fn root_size(&mut self, text: Option<&str>) -> Option<u64> {
        let size = self.size("disk.root-size", text)?;
        if size < MINIMUM_ROOT {
            self.wrong(
                "disk.root-size",
                format!("a root has at least {}", crate::show::size(MINIMUM_ROOT)),
            );
            return None;
        }
        Some(size)
    }

    fn encryption(&mut self, disk: &typed::DiskTable, layout: &Layout) -> Option<Encryption> {
        let (file, descriptor) = (&disk.passphrase_file, disk.passphrase_fd);
        if !disk.encrypt {
            if file.is_some() || descriptor.is_some() {
                self.wrong("disk.encrypt", "a passphrase is given, and it is not `true`");
            }
            return None;
        }
        if disk.swap_size.is_some() || matches!(layout, Layout::Partitions { swap: Some(_), .. }) {
            self.wrong(
                "disk.swap-size",
                "a swap partition is not encrypted and would hold what the root hides: take `swap-file-size`",
            );
        }
        match layout {
            Layout::Directory(_) => self.wrong(
                "disk.encrypt",
                "a directory is not encrypted: the layouts that partition can do it",
            ),
            Layout::Partitions { boot: None, .. } => self.wrong(
                "disk.partitions.boot",
                "GRUB cannot read an encrypted root: name a partition for /boot",
            ),
            _ => {}
        }
        let line = match (file, descriptor, self.secrets) {
            (Some(_), Some(_), _) => {
                self.wrong(
                    "disk.passphrase-fd",
                    "only one of passphrase-file and passphrase-fd can be given",
                );
                None
            }
            (Some(file), None, _) => Some(secret::line_of_file(file)),
            (None, Some(number), Secrets::Read) => Some(secret::line_of_descriptor(number)),
            _ => None,
        };
        let line =
            line.and_then(|line| self.take("disk.passphrase-file", line.map_err(|error| error.to_string())));
        let taken = line.map(|line| Passphrase::new(line.as_bytes().to_vec().into()));
        let passphrase = taken.and_then(|taken| self.take("disk.passphrase-file", taken));
        Some(Encryption { passphrase })
    }

    fn swap(&mut self, key: &str, text: Option<&str>) -> Option<u64> {
        let size = self.size(key, text)?;
        if !crate::swap::RANGE.contains(&size) {
            self.wrong(key, "between 1 MiB and 8 TiB");
        }
        Some(size)
    }

    fn login(
        &mut self,
        key: &str,
        hash: Option<&str>,
        file: Option<&PathBuf>,
        descriptor: Option<i32>,
        ssh_keys: &[String],
    ) -> Login {
        let given =
            usize::from(hash.is_some()) + usize::from(file.is_some()) + usize::from(descriptor.is_some());
        if given > 1 {
            self.wrong(
                key,
                "only one of password-hash, password-file and password-fd can be given",
            );
        }
        let read: Option<Result<Hash, SecretError>> = if let Some(hash) = hash {
            Some(Hash::parse(hash))
        } else if let Some(file) = file {
            Some(secret::from_file(file))
        } else {
            match (descriptor, self.secrets) {
                (Some(number), Secrets::Read) => Some(secret::from_descriptor(number)),
                _ => None,
            }
        };
        let password = read.and_then(|read| self.take(key, read.map_err(|error| error.to_string())));
        for (at, line) in ssh_keys.iter().enumerate() {
            self.take(&format!("{key}.ssh-keys[{at}]"), check::ssh_key(line));
        }
        Login {
            password,
            ssh_keys: ssh_keys.to_vec(),
        }
    }

    fn layout(&mut self, file: &AnswersFile) -> Layout {
        let disk = &file.disk;
        let layout = disk.layout.as_deref();
        let stray = |resolver: &mut Self, key: &str, there: bool, wanted: &str| {
            if there && layout != Some(wanted) {
                resolver.wrong(
                    format!("disk.{key}"),
                    format!("it means nothing unless layout is `{wanted}`"),
                );
            }
        };
        stray(self, "replace", !disk.replace.is_empty(), "replace");
        stray(self, "partitions", !disk.partitions.is_empty(), "partitions");
        stray(self, "directory", disk.directory.is_some(), "directory");
        stray(self, "new-table", disk.new_table, "table");
        stray(self, "delete", !disk.delete.is_empty(), "table");
        stray(self, "partition", !disk.partition.is_empty(), "table");
        match layout {
            Some("erase") => Layout::Erase,
            Some("alongside") => Layout::Alongside,
            Some("replace") => {
                if disk.replace.is_empty() {
                    self.wrong("disk.replace", "name the partitions that go, by number");
                }
                Layout::Replace(disk.replace.iter().copied().collect())
            }
            Some("partitions") => {
                const ROLES: [&str; 5] = ["root", "esp", "bios-boot", "swap", "boot"];
                for role in disk
                    .partitions
                    .keys()
                    .filter(|role| !ROLES.contains(&role.as_str()))
                {
                    let near = crate::toml_file::nearest(role, ROLES).map_or_else(
                        || format!("there are {}", ROLES.join(", ")),
                        |near| format!("did you mean `{near}`?"),
                    );
                    self.wrong(
                        format!("disk.partitions.{role}"),
                        format!("there is no such role; {near}"),
                    );
                }
                let mut seen = BTreeSet::new();
                for (role, number) in &disk.partitions {
                    if !seen.insert(*number) {
                        self.wrong(
                            format!("disk.partitions.{role}"),
                            format!("partition {number} has another role already"),
                        );
                    }
                }
                let role = |name: &str| disk.partitions.get(name).copied();
                if role("root").is_none() {
                    self.wrong("disk.partitions.root", "say which partition becomes the root");
                }
                Layout::Partitions {
                    root: role("root").unwrap_or(0),
                    esp: role("esp"),
                    bios_boot: role("bios-boot"),
                    swap: role("swap"),
                    boot: role("boot"),
                }
            }
            Some("table") => table::resolve(disk, &mut |key, what| self.wrong(key, what)),
            Some("directory") => {
                let directory = disk.directory.clone().unwrap_or_default();
                if !directory.is_absolute() {
                    self.wrong(
                        "disk.directory",
                        "give the absolute path of the directory where the new root is mounted",
                    );
                }
                Layout::Directory(directory)
            }
            other => {
                let known = [
                    "erase",
                    "alongside",
                    "replace",
                    "partitions",
                    "table",
                    "directory",
                ];
                let what = match other {
                    None => format!("say what happens to the disk: {}", known.join(", ")),
                    Some(word) => match crate::toml_file::nearest(word, known) {
                        Some(near) => format!("there is no layout `{word}`; did you mean `{near}`?"),
                        None => format!("there is no layout `{word}`; there are {}", known.join(", ")),
                    },
                };
                self.wrong("disk.layout", what);
                Layout::Erase
            }
        }
    }

    fn disk(&mut self, file: &AnswersFile) -> Disk {
        let layout = self.layout(file);
        let disk = &file.disk;
        let select = disk.select.clone().filter(|select| !select.trim().is_empty());
        match (&select, &layout) {
            (None, Layout::Directory(_)) => {}
            (None, _) => self.wrong(
                "disk.select",
                "name the disk: a name in /dev/disk/by-id, a serial number or a device node",
            ),
            (Some(_), Layout::Directory(_)) => {
                self.wrong("disk.select", "it means nothing where layout is `directory`")
            }
            _ => {}
        }
        for (key, kept) in [("home", disk.home), ("esp", disk.esp)] {
            let Some(kept) = kept else { continue };
            let goes = match &layout {
                Layout::Erase | Layout::Directory(_) => true,
                Layout::Replace(numbers) => numbers.contains(&kept),
                Layout::Partitions {
                    root,
                    esp,
                    bios_boot,
                    swap,
                    boot,
                } => [Some(*root), *esp, *bios_boot, *swap, *boot].contains(&Some(kept)),
                Layout::Alongside => false,
                Layout::Table(edited) => {
                    let used = |(_, place): &(table::Use, table::Place)| *place == table::Place::There(kept);
                    edited.fresh || edited.delete.contains(&kept) || edited.used.iter().any(used)
                }
            };
            if goes {
                self.wrong(
                    format!("disk.{key}"),
                    format!("partition {kept} cannot be kept under layout `{}`", layout.name()),
                );
            }
        }
        if disk.esp.is_some()
            && (disk.esp == disk.home || matches!(&layout, Layout::Partitions { esp: Some(_), .. }))
        {
            self.wrong("disk.esp", "the partition, or its role, is given twice");
        }
        let esp_size = self
            .size("disk.esp-size", disk.esp_size.as_deref())
            .unwrap_or(ESP_SIZE);
        if !(64 * MIB..=4096 * MIB).contains(&esp_size) {
            self.wrong("disk.esp-size", "between 64 MiB and 4 GiB");
        }
        let boot_size = self.size("disk.boot-size", disk.boot_size.as_deref());
        if boot_size.is_some_and(|size| !(64 * MIB..=16384 * MIB).contains(&size)) {
            self.wrong("disk.boot-size", "between 64 MiB and 16 GiB");
        }
        self.only_with_directory(file, &layout);
        let encryption = self.encryption(disk, &layout);
        let wanted = file_system::Typed {
            name: disk.filesystem.as_deref(),
            subvolumes: &disk.subvolumes,
            compression: disk.compression.as_deref(),
            home: disk.home.is_some(),
            swap_file: disk.swap_file_size.is_some(),
        };
        let file_system = file_system::resolve(&wanted, &layout, &mut |key, what| self.wrong(key, what));
        Disk {
            select,
            layout,
            home: disk.home,
            esp: disk.esp,
            esp_size,
            encryption,
            boot_size: boot_size.or(disk.encrypt.then_some(BOOT_SIZE)),
            root_size: self.root_size(disk.root_size.as_deref()),
            swap_size: self.swap("disk.swap-size", disk.swap_size.as_deref()),
            swap_file: self.swap("disk.swap-file-size", disk.swap_file_size.as_deref()),
            zram: self.swap("disk.zram-size", disk.zram_size.as_deref()),
            file_system,
            keep: disk.keep.clone(),
            swap_partitions: disk.swap_partitions.clone(),
        }
    }

    /// What means something with a directory alone, or nothing there.
    fn only_with_directory(&mut self, file: &AnswersFile, layout: &Layout) {
        let disk = &file.disk;
        let directory = matches!(layout, Layout::Directory(_));
        for (key, there, with) in [
            ("disk.keep", !disk.keep.is_empty(), true),
            ("disk.swap-partitions", !disk.swap_partitions.is_empty(), true),
            ("boot.bios-disk", file.boot.bios_disk.is_some(), true),
            ("boot.nvram", file.boot.nvram.is_some(), false),
            ("disk.swap-size", disk.swap_size.is_some(), false),
            ("disk.boot-size", disk.boot_size.is_some(), false),
            ("disk.root-size", disk.root_size.is_some(), false),
            ("disk.esp-size", disk.esp_size.is_some(), false),
        ] {
            if there && with != directory {
                let what = match with {
                    true => "it means nothing unless layout is `directory`",
                    false if key == "boot.nvram" => {
                        "with layout `directory` the firmware's menu gets no entry: the fallback path starts the system, or efibootmgr"
                    }
                    false => "nothing is partitioned where layout is `directory`",
                };
                self.wrong(key, what);
            }
        }
        for (at, keep) in disk.keep.iter().enumerate() {
            if !keep.starts_with('/') || keep.ends_with('/') {
                self.wrong(
                    format!("disk.keep[{at}]"),
                    "give its place in the new root, as in `/home`",
                );
            }
        }
    }

    fn network(&mut self, file: &AnswersFile) -> Network {
        let table = &file.network;
        let details = [
            ("interface", table.interface.is_some()),
            ("address", table.address.is_some()),
            ("gateway", table.gateway.is_some()),
            ("dns", !table.dns.is_empty()),
        ];
        let kind = table.kind.as_deref().unwrap_or("dhcp");
        if kind != "static" {
            for (key, there) in details {
                if there {
                    self.wrong(
                        format!("network.{key}"),
                        "it means nothing unless kind is `static`",
                    );
                }
            }
        }
        match kind {
            "dhcp" => Network::Dhcp,
            "none" => Network::Off,
            "static" => {
                let interface = table.interface.clone().unwrap_or_default();
                self.take("network.interface", check::interface(&interface));
                let address = table.address.clone().unwrap_or_default();
                let parsed = self.take("network.address", check::network_address(&address));
                let mut ip = |key: &str, text: &str| {
                    let parsed = text
                        .parse::<IpAddr>()
                        .map_err(|_| format!("`{text}` is no address"));
                    self.take(key, parsed)
                };
                let gateway = table
                    .gateway
                    .as_deref()
                    .and_then(|text| ip("network.gateway", text));
                let dns = table
                    .dns
                    .iter()
                    .filter_map(|text| ip("network.dns", text))
                    .collect();
                let (address, prefix) = parsed.unwrap_or((IpAddr::from([0, 0, 0, 0]), 0));
                if gateway.is_some_and(|gateway| gateway.is_ipv4() != address.is_ipv4()) {
                    self.wrong("network.gateway", "it is not of the same family as the address");
                }
                Network::Static {
                    interface,
                    address,
                    prefix,
                    gateway,
                    dns,
                }
            }
            other => {
                self.wrong(
                    "network.kind",
                    format!("there is no kind `{other}`; there are dhcp, static, none"),
                );
                Network::Dhcp
            }
        }
    }

    fn source(&mut self, file: &AnswersFile) -> Source {
        let table = &file.source;
        match table.kind.as_deref() {
            None | Some("local") => {
                if !table.repositories.is_empty() || !table.keys.is_empty() || !table.mirrors.is_empty() {
                    self.wrong("source.repositories", "it means nothing unless kind is `network`");
                }
                Source::Local
            }
            Some("network") => {
                if table.repositories.is_empty() {
                    self.wrong(
                        "source.repositories",
                        "name at least one, as in /etc/apk/repositories",
                    );
                }
                let named = table
                    .repositories
                    .iter()
                    .any(|line| line.contains(crate::source::MIRROR));
                if named == table.mirrors.is_empty() {
                    self.wrong(
                        "source.mirrors",
                        "mirrors and `${mirror}` in a line of source.repositories go together",
                    );
                }
                for (at, mirror) in table.mirrors.iter().enumerate() {
                    if !mirror.starts_with("https://") && !mirror.starts_with("http://") {
                        self.wrong(
                            format!("source.mirrors[{at}]"),
                            format!("`{mirror}` begins with neither https:// nor http://"),
                        );
                    }
                }
                Source::Network {
                    repositories: table.repositories.clone(),
                    mirrors: table.mirrors.clone(),
                    keys: table.keys.clone(),
                }
            }
            Some(other) => {
                self.wrong(
                    "source.kind",
                    format!("there is no kind `{other}`; there are local, network"),
                );
                Source::Local
            }
        }
    }
}

impl AnswersFile {
    /// Reads an answers file, which is called `name` in messages.
    ///
    /// # Errors
    /// When it is not TOML, has unknown keys, or another schema.
    pub fn parse(text: &str, name: &str) -> Result<AnswersFile, crate::toml_file::TomlError> {
        let file: AnswersFile = crate::toml_file::parse(text, name)?;
        if file.schema != SCHEMA {
            let what = if file.schema == 0 {
                format!("it does not say its schema: begin it with `schema = {SCHEMA}`")
            } else {
                format!("it has schema {}, this program reads {SCHEMA}", file.schema)
            };
            return Err(crate::toml_file::TomlError {
                name: name.to_owned(),
                line: None,
                what,
                near: None,
            });
        }
        Ok(file)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// Never in practice: every value has a form in TOML.
    pub fn text(&self) -> Result<String, toml::ser::Error> {
        toml::to_string(self)
    }

    /// Without anything that came from a password, and without consent, which was to one plan: for the journal and the system's own records.
    #[must_use]
    pub fn without_secrets(&self) -> AnswersFile {
        let mut file = self.clone();
        file.confirm = Default::default();
        file.root.password_hash = None;
        for user in &mut file.user {
            user.password_hash = None;
        }
        file
    }

    /// The same without what says where secrets were read from: another start of the medium has no such files.
    #[must_use]
    pub fn for_journal(&self) -> AnswersFile {
        let mut file = self.without_secrets();
        (file.root.password_file, file.root.password_fd) = (None, None);
        for user in &mut file.user {
            (user.password_file, user.password_fd) = (None, None);
        }
        (file.disk.passphrase_file, file.disk.passphrase_fd) = (None, None);
        file
    }

    /// Where packages come from.
    ///
    /// # Errors
    /// Everything that is wrong with `[source]`.
    pub fn resolve_source(&self) -> Result<Source, Problems> {
        let mut resolver = Resolver {
            problems: Vec::new(),
            secrets: Secrets::Look,
        };
        let source = resolver.source(self);
        if resolver.problems.is_empty() {
            Ok(source)
        } else {
            Err(Problems(resolver.problems))
        }
    }

    /// What the answers mean.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub fn resolve(&self, secrets: Secrets) -> Result<Answers, Problems> {
        let mut resolver = Resolver {
            problems: Vec::new(),
            secrets,
        };
        let r = &mut resolver;
        let disk = r.disk(self);
        let source = r.source(self);
        let network = r.network(self);
        let hostname = self.system.hostname.clone().unwrap_or_else(|| "lycia".into());
        r.take("system.hostname", check::hostname(&hostname));
        let timezone = self.system.timezone.clone().unwrap_or_else(|| "UTC".into());
        r.take("system.timezone", check::timezone(&timezone));
        for (key, value) in [("keymap", &self.system.keymap), ("locale", &self.system.locale)] {
            if let Some(value) = value {
                r.take(&format!("system.{key}"), check_word(value));
            }
        }
        for (at, entry) in self.packages.extra.iter().enumerate() {
            let parsed = lycia_apk::dependency::parse_world_entry(entry);
            r.take(
                &format!("packages.extra[{at}]"),
                parsed.map(drop).map_err(|error| error.to_string()),
            );
        }
        for (at, service) in self.services.enable.iter().enumerate() {
            r.take(&format!("services.enable[{at}]"), check_word(service));
        }
        let table = &self.root;
        let root = r.login(
            "root",
            table.password_hash.as_deref(),
            table.password_file.as_ref(),
            table.password_fd,
            &table.ssh_keys,
        );
        let mut users = Vec::new();
        let mut names = BTreeSet::new();
        for (at, table) in self.user.iter().enumerate() {
            let key = format!("user[{at}]");
            r.take(&format!("{key}.name"), check::user_name(&table.name));
            if !names.insert(&table.name) {
                r.wrong(
                    format!("{key}.name"),
                    format!("there are two users `{}`", table.name),
                );
            }
            r.take(&format!("{key}.groups"), check_groups(&table.groups));
            if let Some(shell) = &table.shell {
                r.take(&format!("{key}.shell"), check::absolute(shell));
            }
            let login = r.login(
                &key,
                table.password_hash.as_deref(),
                table.password_file.as_ref(),
                table.password_fd,
                &table.ssh_keys,
            );
            users.push(User {
                name: table.name.clone(),
                shell: table.shell.clone(),
                groups: table.groups.clone(),
                admin: table.admin,
                login,
            });
        }
        let logs_in = |login: &Login| login.password.is_some() || !login.ssh_keys.is_empty();
        let by_descriptor =
            self.root.password_fd.is_some() || self.user.iter().any(|user| user.password_fd.is_some());
        if !by_descriptor && !logs_in(&root) && !users.iter().any(|user| logs_in(&user.login)) {
            r.wrong(
                "root",
                "nobody could log in: give root or a user a password or an ssh key",
            );
        }
        let serial = match self.boot.serial.as_deref() {
            None => Serial::AsNow,
            Some("none") => Serial::Off,
            Some(console) => {
                r.take("boot.serial", check::console(console));
                Serial::On(console.to_owned())
            }
        };
        // The menu could quote them, but GRUB puts a backslash before quotes and backslashes that it hands to the kernel.
        let arguments = self.boot.arguments.clone().unwrap_or_default();
        if arguments
            .chars()
            .any(|c| c.is_control() || matches!(c, '\'' | '"' | '\\' | '$'))
        {
            r.wrong(
                "boot.arguments",
                "the boot menu cannot hold quotes, backslashes and `$`",
            );
        }
        let timeout = self.boot.timeout.unwrap_or(3);
        if timeout > 3600 {
            r.wrong("boot.timeout", "at most 3600 seconds");
        }
        if !resolver.problems.is_empty() {
            return Err(Problems(resolver.problems));
        }
        Ok(Answers {
            disk,
            source,
            kernel: self.packages.kernel.clone(),
            sets: self.packages.sets.clone(),
            extra: self.packages.extra.clone(),
            allocator: self.packages.allocator.clone(),
            hostname,
            timezone,
            keymap: self.system.keymap.clone(),
            locale: self.system.locale.clone(),
            root,
            users,
            network,
            services: self.services.enable.clone(),
            timeout,
            nvram: self.boot.nvram.unwrap_or(true),
            bios_disk: self.boot.bios_disk.clone(),
            serial,
            arguments,
            confirm_serial: self.confirm.serial.clone(),
            confirm_plan: self.confirm.plan.clone(),
        })
    }
}

#[cfg(test)]
mod tests;
