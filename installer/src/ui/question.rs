//! The questions: each stands for one key of the answers.

/// A part of the questions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Section {
    /// Where to.
    Disk,
    /// What.
    Packages,
    /// How it is set up.
    System,
    /// Who uses it.
    Accounts,
    /// How it starts.
    Boot,
}

impl Section {
    /// Heading.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Disk => "Disk",
            Self::Packages => "Packages",
            Self::System => "System",
            Self::Accounts => "Accounts",
            Self::Boot => "Boot",
        }
    }
}

/// A question.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Question {
    Select,
    Layout,
    Directory,
    Keep,
    SwapPartitions,
    Replace,
    Roles,
    Table,
    Esp,
    Home,
    FileSystem,
    Subvolumes,
    Compression,
    Encrypt,
    Swap,
    SwapFile,
    Zram,
    EspSize,
    BootSize,
    RootSize,
    Source,
    Repositories,
    Mirrors,
    Keys,
    Kernel,
    Sets,
    Extra,
    Allocator,
    Hostname,
    Timezone,
    Keymap,
    Locale,
    Network,
    Interface,
    Address,
    Gateway,
    Dns,
    Services,
    RootPassword,
    RootKeys,
    UserName(usize),
    UserPassword(usize),
    UserAdmin(usize),
    UserGroups(usize),
    UserShell(usize),
    UserKeys(usize),
    MoreUsers,
    Serial,
    Timeout,
    Nvram,
    BiosDisk,
    Arguments,
}

use Question as Q;

impl Question {
    /// The key of the answers.
    #[must_use]
    pub fn key(self) -> String {
        let user = |at: usize, name: &str| format!("user[{at}].{name}");
        let fixed = match self {
            Q::Select => "disk.select",
            Q::Layout => "disk.layout",
            Q::Directory => "disk.directory",
            Q::Keep => "disk.keep",
            Q::SwapPartitions => "disk.swap-partitions",
            Q::Replace => "disk.replace",
            Q::Roles => "disk.partitions",
            Q::Table => "disk.partition",
            Q::Esp => "disk.esp",
            Q::Home => "disk.home",
            Q::FileSystem => "disk.filesystem",
            Q::Subvolumes => "disk.subvolumes",
            Q::Compression => "disk.compression",
            Q::Encrypt => "disk.encrypt",
            Q::Swap => "disk.swap-size",
            Q::SwapFile => "disk.swap-file-size",
            Q::Zram => "disk.zram-size",
            Q::EspSize => "disk.esp-size",
            Q::BootSize => "disk.boot-size",
            Q::RootSize => "disk.root-size",
            Q::Source => "source.kind",
            Q::Repositories => "source.repositories",
            Q::Mirrors => "source.mirrors",
            Q::Keys => "source.keys",
            Q::Kernel => "packages.kernel",
            Q::Sets => "packages.sets",
            Q::Extra => "packages.extra",
            Q::Allocator => "packages.allocator",
            Q::Hostname => "system.hostname",
            Q::Timezone => "system.timezone",
            Q::Keymap => "system.keymap",
            Q::Locale => "system.locale",
            Q::Network => "network.kind",
            Q::Interface => "network.interface",
            Q::Address => "network.address",
            Q::Gateway => "network.gateway",
            Q::Dns => "network.dns",
            Q::Services => "services.enable",
            Q::RootPassword => "root.password-hash",
            Q::RootKeys => "root.ssh-keys",
            Q::UserName(at) => return user(at, "name"),
            Q::UserPassword(at) => return user(at, "password-hash"),
            Q::UserAdmin(at) => return user(at, "admin"),
            Q::UserGroups(at) => return user(at, "groups"),
            Q::UserShell(at) => return user(at, "shell"),
            Q::UserKeys(at) => return user(at, "ssh-keys"),
            Q::MoreUsers => "user",
            Q::Serial => "boot.serial",
            Q::Timeout => "boot.timeout",
            Q::Nvram => "boot.nvram",
            Q::BiosDisk => "boot.bios-disk",
            Q::Arguments => "boot.arguments",
        };
        fixed.to_owned()
    }

    /// Whether a problem with the key `problem` is one of this question.
    pub(super) fn owns(self, problem: &str) -> bool {
        let key = self.key();
        // Of lists, every entry: `packages.extra[1]`.
        problem == key
            || problem
                .strip_prefix(&key)
                .is_some_and(|rest| rest.starts_with('[') && self != Q::MoreUsers)
            || (self == Q::Roles && problem.starts_with("disk.partitions."))
            || (self == Q::Table && (problem.starts_with("disk.delete") || problem == "disk.new-table"))
            || (self == Q::Subvolumes && problem.starts_with("disk.subvolumes."))
    }

    /// The part that it belongs to.
    #[must_use]
    pub fn section(self) -> Section {
        match self {
            Q::Select
            | Q::Layout
            | Q::Directory
            | Q::Keep
            | Q::SwapPartitions
            | Q::Replace
            | Q::Roles
            | Q::Table
            | Q::Esp
            | Q::Home
            | Q::FileSystem
            | Q::Subvolumes
            | Q::Compression
            | Q::Encrypt
            | Q::Swap
            | Q::SwapFile
            | Q::Zram
            | Q::EspSize
            | Q::BootSize
            | Q::RootSize => Section::Disk,
            Q::Source
            | Q::Repositories
            | Q::Mirrors
            | Q::Keys
            | Q::Kernel
            | Q::Sets
            | Q::Extra
            | Q::Allocator => Section::Packages,
            Q::Hostname
            | Q::Timezone
            | Q::Keymap
            | Q::Locale
            | Q::Network
            | Q::Interface
            | Q::Address
            | Q::Gateway
            | Q::Dns
            | Q::Services => Section::System,
            Q::RootPassword
            | Q::RootKeys
            | Q::UserName(_)
            | Q::UserPassword(_)
            | Q::UserAdmin(_)
            | Q::UserGroups(_)
            | Q::UserShell(_)
            | Q::UserKeys(_)
            | Q::MoreUsers => Section::Accounts,
            Q::Serial | Q::Timeout | Q::Nvram | Q::BiosDisk | Q::Arguments => Section::Boot,
        }
    }

    /// Whether everybody is asked; the others are in the overview.
    #[must_use]
    pub fn asked(self) -> bool {
        !matches!(
            self,
            Q::Keep
                | Q::SwapPartitions
                | Q::BiosDisk
                | Q::Home
                | Q::Subvolumes
                | Q::Compression
                | Q::EspSize
                | Q::BootSize
                | Q::RootSize
                | Q::Keys
                | Q::Locale
                | Q::Services
                | Q::RootKeys
                | Q::UserAdmin(_)
                | Q::UserGroups(_)
                | Q::UserShell(_)
                | Q::UserKeys(_)
                | Q::Serial
                | Q::Timeout
                | Q::Nvram
                | Q::Arguments
        )
    }

    /// Name in the overview.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Q::Select => "Disk",
            Q::Layout => "Layout",
            Q::Directory => "Directory",
            Q::Keep => "Kept",
            Q::SwapPartitions => "Swap devices",
            Q::Replace => "Replaced",
            Q::Roles => "Partitions",
            Q::Table => "Table",
            Q::Esp => "EFI partition",
            Q::Home => "Kept /home",
            Q::FileSystem => "File system",
            Q::Subvolumes => "Subvolumes",
            Q::Compression => "Compression",
            Q::Encrypt => "Encryption",
            Q::Swap => "Swap",
            Q::SwapFile => "Swap file",
            Q::Zram => "zram",
            Q::EspSize => "EFI size",
            Q::BootSize => "/boot size",
            Q::RootSize => "Root size",
            Q::Source => "Source",
            Q::Repositories => "Repositories",
            Q::Mirrors => "Mirrors",
            Q::Keys => "Their keys",
            Q::Kernel => "Kernel",
            Q::Sets => "Sets",
            Q::Extra => "More packages",
            Q::Allocator => "Allocator",
            Q::Hostname => "Host name",
            Q::Timezone => "Time zone",
            Q::Keymap => "Keyboard",
            Q::Locale => "Locale",
            Q::Network => "Network",
            Q::Interface => "Interface",
            Q::Address => "Address",
            Q::Gateway => "Router",
            Q::Dns => "Name servers",
            Q::Services => "Services",
            Q::RootPassword => "root",
            Q::RootKeys => "root's keys",
            Q::UserName(_) => "User",
            Q::UserPassword(_) => " password",
            Q::UserAdmin(_) => " may be root",
            Q::UserGroups(_) => " groups",
            Q::UserShell(_) => " shell",
            Q::UserKeys(_) => " ssh keys",
            Q::MoreUsers => "More users",
            Q::Serial => "Serial console",
            Q::Timeout => "Menu waits",
            Q::Nvram => "Firmware entry",
            Q::BiosDisk => "BIOS disk",
            Q::Arguments => "Kernel words",
        }
    }
}
