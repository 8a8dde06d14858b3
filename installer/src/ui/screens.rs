//! What the screens say.

use super::question::Question as Q;
use super::session::{Session, name_of};
use super::table;
use super::{Choice, Kind, Screen};
use crate::file_system::Kind as FileSystem;
use crate::medium::AllocatorTable;
use crate::probe::{Disk, Interface, Partition};
use crate::select::select;
use crate::show;

fn choice(value: impl Into<String>, text: impl Into<String>) -> Choice {
    Choice {
        value: value.into(),
        text: text.into(),
    }
}

fn yes_no(yes: &str, no: &str) -> Vec<Choice> {
    vec![choice("no", no), choice("yes", yes)]
}

fn word(value: Option<&String>, default: &str) -> String {
    value.cloned().unwrap_or_else(|| default.to_owned())
}

fn number<T: ToString>(value: Option<T>, default: &str) -> String {
    value.map_or_else(|| default.to_owned(), |value| value.to_string())
}

/// Words of a list, `none` for an empty one.
fn words<T: ToString>(list: impl IntoIterator<Item = T>, between: &str) -> String {
    let list: Vec<String> = list.into_iter().map(|one| one.to_string()).collect();
    if list.is_empty() {
        "none".to_owned()
    } else {
        list.join(between)
    }
}

fn file_system_words(kind: FileSystem) -> &'static str {
    match kind {
        FileSystem::Ext4 => "ext4: what most systems have; can be shrunk",
        FileSystem::Xfs => "xfs: for large files and many writers; cannot be shrunk",
        FileSystem::Btrfs => "btrfs: checksums of all data, snapshots, compression",
        FileSystem::F2fs => "f2fs: for flash without a good controller, such as SD cards",
    }
}

/// What a disk is and holds.
fn disk_words(disk: &Disk) -> String {
    let model = disk.model.as_deref().unwrap_or("no model");
    let serial = disk
        .serial
        .as_deref()
        .map(|serial| format!(", serial {serial}"))
        .unwrap_or_default();
    show::printable(&format!(
        "{}  {}  {model}{serial}, {}",
        disk.path,
        show::size(disk.size),
        show::on_disk(disk)
    ))
}

impl Session<'_> {
    /// The screen of a question.
    #[must_use]
    pub fn screen(&self, question: Q) -> Screen {
        let (title, kind, body) = self.words_of(question);
        let mut screen = Screen {
            key: question.key(),
            title: title.to_owned(),
            body: body.lines().map(str::to_owned).collect(),
            kind,
            choices: self.choices(question),
            current: self.current(question),
        };
        match question {
            Q::Select => {
                for disk in self.machine.disks.iter().filter(|disk| !disk.offered()) {
                    screen.body.push(format!(
                        "Not offered: {} ({})",
                        disk.path,
                        show::printable(&disk.refused.join(", "))
                    ));
                }
            }
            Q::Table => {
                let there = self.disk();
                let rows = there
                    .map(|there| table::rows(&self.file.disk, there))
                    .unwrap_or_default();
                screen.body.extend(rows.iter().map(table::Row::line));
            }
            Q::Replace | Q::Roles | Q::Esp | Q::Home => screen.body.extend(self.partitions()),
            Q::SwapPartitions => screen.body.extend(self.swaps()),
            // With this layout disks are in use: all of them, not only those that are offered.
            Q::BiosDisk => {
                let disks = self.machine.disks.iter().filter(|disk| !disk.optical);
                screen
                    .body
                    .extend(disks.map(|disk| format!("  {}: {}", name_of(disk), disk_words(disk))));
            }
            Q::Kernel | Q::Sets | Q::Extra | Q::Allocator => screen.body.extend(self.advice()),
            Q::Encrypt => screen.body.extend(self.passphrase_layout(true)),
            Q::Keymap => screen.body.extend(self.passphrase_layout(self.file.disk.encrypt)),
            _ => {}
        }
        screen
    }

    /// What is answered so far.
    #[must_use]
    #[allow(clippy::too_many_lines)]
    pub fn current(&self, question: Q) -> String {
        let file = &self.file;
        let size = |value: &Option<String>| word(value.as_ref(), "none");
        let yes = |value: bool| if value { "yes" } else { "no" }.to_owned();
        let kept = |set: bool| if set { "(the one that was typed)" } else { "(none)" }.to_owned();
        let user = |at: usize| file.user.get(at);
        match question {
            // By the name that is offered, whichever the answers have.
            Q::Select => match self.disk().filter(|disk| disk.offered()) {
                Some(disk) => name_of(disk),
                None => word(file.disk.select.as_ref(), ""),
            },
            Q::Layout => word(file.disk.layout.as_ref(), "erase"),
            Q::Directory => file
                .disk
                .directory
                .as_ref()
                .map_or_else(|| "/mnt".to_owned(), |path| path.display().to_string()),
            Q::Keep => words(&file.disk.keep, " "),
            Q::SwapPartitions => words(&file.disk.swap_partitions, " "),
            Q::Replace => file
                .disk
                .replace
                .iter()
                .map(u32::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Q::Roles => file
                .disk
                .partitions
                .iter()
                .map(|(role, number)| format!("{role}={number}"))
                .collect::<Vec<_>>()
                .join(" "),
            Q::Table => words(
                file.disk.delete.iter().map(|number| format!("-{number}")).chain(
                    file.disk.partition.iter().map(|one| match one.number {
                        Some(number) => format!("{}={number}", one.used),
                        None => format!("+{}", one.used),
                    }),
                ),
                " ",
            ),
            Q::Esp => number(file.disk.esp, "new"),
            Q::Home => number(file.disk.home, "none"),
            Q::FileSystem => word(file.disk.filesystem.as_ref(), "ext4"),
            Q::Subvolumes => match file.disk.subvolumes.len() {
                0 => "@=/ @home=/home".to_owned(),
                _ => file
                    .disk
                    .subvolumes
                    .iter()
                    .map(|(name, place)| format!("{name}={place}"))
                    .collect::<Vec<_>>()
                    .join(" "),
            },
            Q::Compression => word(file.disk.compression.as_ref(), "none"),
            Q::Encrypt => yes(file.disk.encrypt),
            Q::Swap => size(&file.disk.swap_size),
            Q::SwapFile => size(&file.disk.swap_file_size),
            Q::Zram => size(&file.disk.zram_size),
            Q::EspSize => word(file.disk.esp_size.as_ref(), "usual"),
            Q::BootSize => word(file.disk.boot_size.as_ref(), "usual"),
            Q::RootSize => word(file.disk.root_size.as_ref(), "rest"),
            Q::Source => word(file.source.kind.as_ref(), "local"),
            Q::Repositories => match file.source.repositories.as_slice() {
                [] => words(self.medium.install.repository.iter().map(|one| &one.line), "; "),
                list => words(list, "; "),
            },
            Q::Mirrors => words(&file.source.mirrors, " "),
            Q::Keys => words(file.source.keys.iter().map(|path| path.display()), "; "),
            Q::Kernel => word(
                file.packages.kernel.as_ref(),
                self.medium
                    .install
                    .kernel
                    .first()
                    .map_or("", |kernel| &kernel.package),
            ),
            Q::Sets => words(&file.packages.sets, " "),
            Q::Extra => words(&file.packages.extra, " "),
            Q::Allocator => {
                let list = &self.medium.install.allocator;
                let default = list.iter().find(|one| one.default).or(list.first());
                word(
                    file.packages.allocator.as_ref(),
                    default.map_or("", |one| &one.name),
                )
            }
            Q::Hostname => word(file.system.hostname.as_ref(), "lycia"),
            Q::Timezone => word(file.system.timezone.as_ref(), "UTC"),
            Q::Keymap => word(file.system.keymap.as_ref(), "none"),
            Q::Locale => word(file.system.locale.as_ref(), "none"),
            Q::Network => word(file.network.kind.as_ref(), "dhcp"),
            Q::Interface => word(file.network.interface.as_ref(), self.likely_interface()),
            Q::Address => word(file.network.address.as_ref(), ""),
            Q::Gateway => word(file.network.gateway.as_ref(), "none"),
            Q::Dns => words(&file.network.dns, " "),
            Q::Services => words(&file.services.enable, " "),
            Q::RootPassword => kept(file.root.password_hash.is_some()),
            Q::RootKeys => words(&file.root.ssh_keys, "; "),
            Q::UserName(at) => user(at).map_or_else(|| "none".to_owned(), |user| user.name.clone()),
            Q::UserPassword(at) => kept(user(at).is_some_and(|user| user.password_hash.is_some())),
            Q::UserAdmin(at) => yes(user(at).is_some_and(|user| user.admin)),
            Q::UserGroups(at) => words(user(at).into_iter().flat_map(|user| &user.groups), " "),
            Q::UserShell(at) => word(user(at).and_then(|user| user.shell.as_ref()), "/bin/sh"),
            Q::UserKeys(at) => words(user(at).into_iter().flat_map(|user| &user.ssh_keys), "; "),
            Q::MoreUsers => "no".to_owned(),
            Q::Serial => word(file.boot.serial.as_ref(), "as now"),
            Q::Timeout => number(file.boot.timeout, "3"),
            Q::Nvram => yes(file.boot.nvram.unwrap_or(true)),
            Q::BiosDisk => word(file.boot.bios_disk.as_ref(), "none"),
            Q::Arguments => word(file.boot.arguments.as_ref(), "none"),
        }
    }

    #[allow(clippy::too_many_lines)]
    fn words_of(&self, question: Q) -> (&'static str, Kind, &'static str) {
        match question {
            Q::Select => (
                "Disk",
                Kind::Choice,
                "Which disk is the system installed to? Nothing is written before you have seen the whole plan.",
            ),
            Q::Layout => ("Layout", Kind::Choice, "What happens to the disk?"),
            Q::Directory => (
                "Directory",
                Kind::Text,
                "Where are the new root's file systems mounted?",
            ),
            Q::Keep => (
                "What is kept",
                Kind::Words,
                "Places in the new root whose file systems stay as they are, such as `/home`, with spaces between them, or `none`.",
            ),
            Q::SwapPartitions => (
                "Swap devices",
                Kind::Words,
                "Devices that are swap already and are used, with spaces between them, or `none`.",
            ),
            Q::Replace => (
                "Partitions to replace",
                Kind::Words,
                "Numbers of the partitions that go, with spaces between them:",
            ),
            Q::Roles => (
                "Partitions to use",
                Kind::Words,
                "What becomes of which partition, such as `root=2 esp=1`; the roles are root, esp, bios-boot, swap and boot. Each that is named is formatted, the others stay:",
            ),
            Q::Table => ("Partition table", Kind::Table, table::WORDS),
            Q::Esp => (
                "EFI system partition",
                Kind::Text,
                "Number of one that is kept and gets files added, as beside Windows; `new` makes one where UEFI needs it:",
            ),
            Q::Home => (
                "A /home that is kept",
                Kind::Text,
                "Number of a partition whose file system stays and becomes /home, or `none`:",
            ),
            Q::FileSystem => (
                "File system",
                Kind::Choice,
                "Which file system does the root have?",
            ),
            Q::Subvolumes => (
                "Subvolumes",
                Kind::Words,
                "Names with the places where they are mounted, such as `@=/ @home=/home`.",
            ),
            Q::Compression => (
                "Compression",
                Kind::Text,
                "What files are compressed with: `zstd`, `zstd:LEVEL`, `zlib`, `lzo` or `none`.",
            ),
            Q::Encrypt => (
                "Encryption",
                Kind::Choice,
                "Is the root encrypted (LUKS2)? Its passphrase is asked for when the plan is confirmed, and at every start. Who loses it loses everything on the root.",
            ),
            Q::Swap => (
                "Swap",
                Kind::Text,
                "Size of a swap partition, such as `2 GiB`, or `none`.",
            ),
            Q::SwapFile => (
                "Swap file",
                Kind::Text,
                "Size of a swap file in the root, such as `2 GiB`, or `none`. Unlike a partition it can be changed later.",
            ),
            Q::Zram => (
                "Compressed swap in memory (zram)",
                Kind::Text,
                "Size before compression, such as `2 GiB`, or `none`. It is used before swap on the disk; half of the memory is usual.",
            ),
            Q::EspSize => (
                "Size of the EFI system partition",
                Kind::Text,
                "A size between 64 MiB and 4 GiB, or `usual`.",
            ),
            Q::BootSize => (
                "A partition for /boot",
                Kind::Text,
                "A size between 64 MiB and 16 GiB, or `usual`: an encrypted root has one, others have none.",
            ),
            Q::RootSize => (
                "Size of the root",
                Kind::Text,
                "Such as `20 GiB`, or `rest`: all that is left.",
            ),
            Q::Source => (
                "Source of the packages",
                Kind::Choice,
                "The medium needs no network; repositories have what is newer. Packages of either count only with a signature that the medium knows.",
            ),
            Q::Repositories => (
                "Repositories",
                Kind::Text,
                "Lines as in /etc/apk/repositories, with `;` between them. `${mirror}` stands for each of the mirrors.",
            ),
            Q::Mirrors => (
                "Mirrors",
                Kind::Words,
                "Servers that have the same, in the order in which they are asked, with spaces between them, or `none`.",
            ),
            Q::Keys => (
                "Keys of the repositories",
                Kind::Text,
                "Files with public keys (PEM) of repositories that the medium has no key of, with `;` between them, or `none`. What they sign is trusted, and the installed system gets them, too.",
            ),
            Q::Kernel => ("Kernel", Kind::Choice, "Which kernel?"),
            Q::Sets => ("Package sets", Kind::Many, "What is installed besides the base?"),
            Q::Extra => (
                "More packages",
                Kind::Words,
                "Names of packages, with spaces between them, or `none`. Versions as apk writes them: `name>=1.2`, `name~1`.",
            ),
            Q::Allocator => (
                "Memory allocator",
                Kind::Choice,
                "What gives programs their memory? It can be changed later: `lycia-install allocator NAME`.",
            ),
            Q::Hostname => (
                "Host name",
                Kind::Text,
                "What is the machine called? Letters, digits and hyphens.",
            ),
            Q::Timezone => (
                "Time zone",
                Kind::Text,
                "Such as `Europe/Prague` or `America/New_York`.",
            ),
            Q::Keymap => (
                "Keyboard",
                Kind::Text,
                "Layout of the console's keyboard, such as `us`, `de` or `cz`; `none` for the kernel's own.",
            ),
            Q::Locale => ("Locale", Kind::Text, "Such as `C.UTF-8`, or `none`."),
            Q::Network => ("Network", Kind::Choice, "How does the machine get its address?"),
            Q::Interface => (
                "Network interface",
                Kind::Text,
                "Its name, such as `eth0`. One that is not here now can be named, too.",
            ),
            Q::Address => (
                "Network address",
                Kind::Text,
                "With the length of its prefix, such as `192.0.2.10/24`.",
            ),
            Q::Gateway => ("Router", Kind::Text, "Its address, or `none`."),
            Q::Dns => (
                "Name servers",
                Kind::Words,
                "Their addresses, with spaces between them, or `none`.",
            ),
            Q::Services => (
                "Services",
                Kind::Words,
                "Enabled beside those that packages enable, with spaces between them, or `none`.",
            ),
            Q::RootPassword => (
                "Password of root",
                Kind::Secret,
                "It is not shown. `none` locks the login; then a user must be able to log in.",
            ),
            Q::RootKeys => (
                "ssh keys of root",
                Kind::Text,
                "Public keys that may log in as root, with `;` between them, or `none`.",
            ),
            Q::UserName(_) => (
                "User",
                Kind::Text,
                "Login name of a user who may become root, or `none`.",
            ),
            Q::UserPassword(_) => (
                "Password of the user",
                Kind::Secret,
                "It is not shown. `none` locks the login.",
            ),
            Q::UserAdmin(_) => ("Administrator", Kind::Choice, "May this user become root?"),
            Q::UserGroups(_) => (
                "Groups",
                Kind::Words,
                "Groups besides the usual ones, with spaces between them, or `none`.",
            ),
            Q::UserShell(_) => ("Login shell", Kind::Text, "Its absolute path."),
            Q::UserKeys(_) => (
                "ssh keys",
                Kind::Text,
                "Public keys that may log in as this user, with `;` between them, or `none`.",
            ),
            Q::MoreUsers => ("More users", Kind::Choice, "Is there another user?"),
            Q::Serial => (
                "Serial console",
                Kind::Text,
                "Such as `ttyS0,115200`; `none`; or `as now`: what the running system has.",
            ),
            Q::Timeout => ("Boot menu", Kind::Text, "Seconds that it waits."),
            Q::Nvram => (
                "Entry of the firmware's menu",
                Kind::Choice,
                "Does UEFI start this system before all others?",
            ),
            Q::BiosDisk => (
                "Disk that a PC BIOS starts",
                Kind::Text,
                "Its name below /dev/disk/by-id, serial number or device node; it has a BIOS boot partition. Or `none`.",
            ),
            Q::Arguments => (
                "Words for the kernel",
                Kind::Text,
                "Added to its command line, or `none`.",
            ),
        }
    }

    fn choices(&self, question: Q) -> Vec<Choice> {
        let install = &self.medium.install;
        match question {
            Q::Select => self.disks(),
            Q::Layout => vec![
                choice("erase", "Erase it: everything on it is lost"),
                choice("alongside", "Use free space: every partition stays (GPT only)"),
                choice("replace", "Replace partitions that you name (GPT only)"),
                choice("partitions", "Use partitions that are there: the table stays"),
                choice(
                    "table",
                    "Edit the table by hand: delete, make and use partitions (GPT)",
                ),
                choice("directory", "A directory where file systems are mounted already"),
            ],
            Q::FileSystem => {
                let offered = install
                    .file_system
                    .iter()
                    .filter_map(|one| FileSystem::named(&one.name));
                std::iter::once(FileSystem::Ext4)
                    .chain(offered.filter(|kind| *kind != FileSystem::Ext4))
                    .map(|kind| choice(kind.name(), file_system_words(kind)))
                    .collect()
            }
            Q::Encrypt => yes_no("Encrypted, with /boot on a partition of its own", "Not encrypted"),
            Q::Source => vec![
                choice("local", "This medium"),
                choice("network", "Repositories on the network"),
            ],
            Q::Kernel => install
                .kernel
                .iter()
                .map(|kernel| choice(&kernel.package, format!("{}: {}", kernel.package, kernel.summary)))
                .collect(),
            Q::Sets => install
                .set
                .iter()
                .map(|set| choice(&set.name, format!("{}: {}", set.name, set.summary)))
                .collect(),
            Q::Allocator => {
                let text = |one: &AllocatorTable| {
                    // Two lines each: six of them fit on 80x24.
                    format!(
                        "{}: {}.\nTime: {}. Memory: {}.",
                        one.summary, one.security, one.speed, one.memory
                    )
                };
                install
                    .allocator
                    .iter()
                    .map(|one| choice(&one.name, text(one)))
                    .collect()
            }
            Q::Network => vec![
                choice("dhcp", "It asks for one (DHCP)"),
                choice("static", "It has a fixed one"),
                choice("none", "No network"),
            ],
            Q::Timezone => self
                .lists
                .timezones
                .iter()
                .map(|zone| choice(zone, zone))
                .collect(),
            Q::Keymap => self.lists.keymaps.iter().map(|map| choice(map, map)).collect(),
            Q::Interface => {
                let named = |one: &Interface| {
                    let name = show::printable(&one.name);
                    choice(&name, format!("{name}: {}", show::interface(one)))
                };
                self.machine.network.iter().map(named).collect()
            }
            Q::UserAdmin(_) => yes_no("Yes: member of `wheel`", "No"),
            Q::MoreUsers => yes_no("Yes", "No"),
            Q::Nvram => yes_no("Yes", "No: the fallback path alone"),
            _ => Vec::new(),
        }
    }

    /// The chosen disk.
    pub(super) fn disk(&self) -> Option<&Disk> {
        select(self.machine, self.file.disk.select.as_deref()?).ok()
    }

    /// The partitions of the chosen disk, a line each: what is in them, not only how large they are.
    fn partitions(&self) -> Vec<String> {
        let Some(disk) = self.disk() else {
            return vec!["  No disk is chosen yet.".to_owned()];
        };
        if let Some(why) = &disk.unread {
            return vec![format!("  The disk cannot be read: {}", show::printable(why))];
        }
        if disk.partitions.is_empty() {
            return vec!["  There is no partition on this disk.".to_owned()];
        }
        let line = |partition: &Partition| {
            format!(
                "  {}: {}, {}",
                partition.number,
                show::size(partition.size),
                show::facts(partition)
            )
        };
        disk.partitions.iter().map(line).collect()
    }

    /// Partitions of all disks that are swap, a line each.
    fn swaps(&self) -> Vec<String> {
        let partitions = self.machine.disks.iter().flat_map(|disk| &disk.partitions);
        partitions
            .filter(|one| one.contents.file_system.as_deref() == Some("swap"))
            .map(|one| {
                format!(
                    "  /dev/{}: {}, {}",
                    one.name,
                    show::size(one.size),
                    show::facts(one)
                )
            })
            .collect()
    }

    fn disks(&self) -> Vec<Choice> {
        let offered = self.machine.disks.iter().filter(|disk| disk.offered());
        offered
            .map(|disk| choice(name_of(disk), disk_words(disk)))
            .collect()
    }
}
