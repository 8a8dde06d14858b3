//! Answers as they are typed: the TOML file, key for key. What they mean is [`super::Answers`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Version of the schema that this program reads. It changes when a key changes its meaning or goes.
pub const SCHEMA: u32 = 1;

/// An answers file.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AnswersFile {
    /// [`SCHEMA`].
    pub schema: u32,
    /// `[disk]`
    pub disk: DiskTable,
    /// `[source]`
    #[serde(skip_serializing_if = "is_default")]
    pub source: SourceTable,
    /// `[packages]`
    #[serde(skip_serializing_if = "is_default")]
    pub packages: PackagesTable,
    /// `[system]`
    #[serde(skip_serializing_if = "is_default")]
    pub system: SystemTable,
    /// `[root]`
    #[serde(skip_serializing_if = "is_default")]
    pub root: RootTable,
    /// `[[user]]`
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub user: Vec<UserTable>,
    /// `[network]`
    #[serde(skip_serializing_if = "is_default")]
    pub network: NetworkTable,
    /// `[services]`
    #[serde(skip_serializing_if = "is_default")]
    pub services: ServicesTable,
    /// `[boot]`
    #[serde(skip_serializing_if = "is_default")]
    pub boot: BootTable,
    /// `[confirm]`
    #[serde(skip_serializing_if = "is_default")]
    pub confirm: ConfirmTable,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `[disk]`: where to.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct DiskTable {
    /// A name in `/dev/disk/by-id` or `by-path`, a serial number, or a device node.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub select: Option<String>,
    /// `erase`, `alongside`, `replace`, `partitions`, `table` or `directory`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// With `replace`: numbers of the partitions that go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub replace: Vec<u32>,
    /// With `partitions`: number by role (`root`, `esp`, `bios-boot`, `swap`).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub partitions: BTreeMap<String, u32>,
    /// With `table`: everything on the disk goes, and it gets a new GPT.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_table: bool,
    /// With `table`: numbers of the partitions that go. What is not named stays.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub delete: Vec<u32>,
    /// With `directory`: where the new root is mounted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// With `directory`: what is mounted there and left as it is, by its place in the new root (`/home`).
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keep: Vec<String>,
    /// With `directory`: devices that are swap already and are used.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub swap_partitions: Vec<String>,
    /// Number of a partition whose file system is kept and becomes `/home`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub home: Option<u32>,
    /// Number of an EFI system partition that is kept: files are added to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub esp: Option<u32>,
    /// Size of the EFI system partition.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub esp_size: Option<String>,
    /// File system of the root: `ext4`, `xfs`, `btrfs` or `f2fs`; `ext4` if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<String>,
    /// With `btrfs`: what files are compressed with: `zstd`, `zstd:LEVEL`, `zlib`, `lzo` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub compression: Option<String>,
    /// Encrypts the root with LUKS2. Where neither of the two keys below is given, the passphrase is asked for on the terminal.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub encrypt: bool,
    /// File whose first line is the passphrase.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase_file: Option<PathBuf>,
    /// Open file descriptor to read it from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passphrase_fd: Option<i32>,
    /// Size of a partition for `/boot`; an encrypted root has one anyway.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_size: Option<String>,
    /// Size of the root; the rest if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub root_size: Option<String>,
    /// Size of a swap partition; none if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_size: Option<String>,
    /// Size of a swap file in the root; none if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap_file_size: Option<String>,
    /// Size of compressed swap in memory; none if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zram_size: Option<String>,
    /// With `btrfs`: directory by name of subvolume; `"@" = "/"` and `"@home" = "/home"` if it is left out.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub subvolumes: BTreeMap<String, String>,
    /// With `table`: `[[disk.partition]]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub partition: Vec<PartitionTable>,
}

/// `[[disk.partition]]`: a partition that is used, with layout `table`.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PartitionTable {
    /// `root`, `boot`, `home`, `esp`, `bios-boot` or `swap`. It is formatted.
    #[serde(rename = "use")]
    pub used: String,
    /// Number of one that is there; a new one if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<u32>,
    /// Size of a new one; what is left if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<String>,
    /// Where a new one begins, in bytes from the beginning of the disk; wherever it fits if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
}

/// `[source]`: where packages come from.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SourceTable {
    /// `local` (the medium) or `network`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// With `network`: lines as in `/etc/apk/repositories`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub repositories: Vec<String>,
    /// With `network`: servers that have the same, in the order in which they are asked; `${mirror}` in a repository stands for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// With `network`: files with public keys, beside those of the medium.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<PathBuf>,
}

/// `[packages]`
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct PackagesTable {
    /// Kernel package.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    /// Package sets of the medium.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sets: Vec<String>,
    /// World entries beside them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub extra: Vec<String>,
    /// Memory allocator.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocator: Option<String>,
}

/// `[system]`
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SystemTable {
    /// Host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// `Europe/Prague`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timezone: Option<String>,
    /// Keyboard layout of the console.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keymap: Option<String>,
    /// `C.UTF-8`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
}

/// `[root]`: the administrator's login. Without a password it is locked.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RootTable {
    /// Hash as in `/etc/shadow`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// File whose first line is the password or its hash.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// Open file descriptor to read the same from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_fd: Option<i32>,
    /// Public keys that may log in by ssh.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
}

/// `[[user]]`
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct UserTable {
    /// Login name.
    pub name: String,
    /// Login shell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shell: Option<String>,
    /// Groups beside those of every user.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Member of `wheel`, which may become root.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub admin: bool,
    /// As in `[root]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// As in `[root]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// As in `[root]`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_fd: Option<i32>,
    /// As in `[root]`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ssh_keys: Vec<String>,
}

/// `[network]`
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct NetworkTable {
    /// `dhcp`, `static` or `none`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// With `static`: the interface.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// With `static`: `ADDRESS/PREFIX`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// With `static`: the default router.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// With `static`: name servers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub dns: Vec<String>,
}

/// `[services]`
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ServicesTable {
    /// Enabled beside those that packages enable.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub enable: Vec<String>,
}

/// `[boot]`
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BootTable {
    /// Seconds that the menu waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// Whether the firmware's menu (UEFI) gets an entry, before all others; `true` if it is left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nvram: Option<bool>,
    /// With `disk.layout = "directory"`: the disk whose BIOS boot partition and first sector get GRUB; left out, BIOS does not start the system.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bios_disk: Option<String>,
    /// `ttyS0,115200`, beside the screen; `none` for no serial console. Left out: what the running system has.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Added to the kernel's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub arguments: Option<String>,
}

/// `[confirm]`: consent of a run that nobody watches.
#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ConfirmTable {
    /// Serial number of the disk that may be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// Hash of the plan that may be applied.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}
