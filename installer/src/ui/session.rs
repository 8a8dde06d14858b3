//! Answers in the making: which questions there are, what is taken, where one is.

use std::cell::RefCell;

use super::question::Question as Q;
use super::{End, Kind, Screen};
use crate::advice::Keyboard;
use crate::answers::typed::{AnswersFile, PackagesTable, SCHEMA, SourceTable, UserTable};
use crate::answers::{Problem, Problems, Secrets, parse_size};
use crate::medium::Medium;
use crate::probe::{Disk, Firmware, Machine};
use crate::secret::Hash;
use crate::select::select;

/// What there is to choose from beside what the medium says: for completion.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Lists {
    /// Time zones.
    pub timezones: Vec<String>,
    /// Keyboard layouts.
    pub keymaps: Vec<String>,
}

/// Says what would be installed, or why that cannot be.
pub type Advisor<'a> = Box<dyn Fn(&AnswersFile) -> Result<Vec<String>, String> + 'a>;

/// Gives this console a keyboard layout, or says why it keeps its own.
pub type LayoutSetter<'a> = Box<dyn Fn(&str) -> Result<(), String> + 'a>;

/// Advice, and what it was given on.
type Advice = (Asked, Result<Vec<String>, String>);

/// What advice depends on.
#[derive(Clone, PartialEq, Eq)]
struct Asked {
    source: SourceTable,
    packages: PackagesTable,
    network: Option<String>,
    file_system: Option<String>,
}

impl Asked {
    fn of(file: &AnswersFile) -> Asked {
        Asked {
            source: file.source.clone(),
            packages: file.packages.clone(),
            network: file.network.kind.clone(),
            file_system: file.disk.filesystem.clone(),
        }
    }
}

/// Answers in the making.
pub struct Session<'a> {
    pub(super) medium: &'a Medium,
    pub(super) machine: &'a Machine,
    pub(super) lists: Lists,
    /// The answers so far.
    pub file: AnswersFile,
    /// The question that is open; none when all are answered.
    pub at: Option<Q>,
    advisor: Option<Advisor<'a>>,
    keyboard: Option<LayoutSetter<'a>>,
    /// Why this console has another layout than the one that was chosen.
    kept_layout: Option<String>,
    /// Whether it was given one.
    tried_layout: bool,
    advice: RefCell<Option<Advice>>,
}

/// The name by which a disk is found again.
pub(super) fn name_of(disk: &Disk) -> String {
    disk.by_id
        .first()
        .cloned()
        .or_else(|| disk.serial.clone())
        .unwrap_or_else(|| disk.path.clone())
}

/// The choice that a line means: its number, its value, or the current one for an empty line.
fn pick(screen: &Screen, line: &str) -> Result<String, String> {
    let wanted = if line.is_empty() {
        screen.current.as_str()
    } else {
        line
    };
    let by_number = line
        .parse::<usize>()
        .ok()
        .and_then(|number| screen.choices.get(number.checked_sub(1)?));
    let by_value = screen.choices.iter().find(|choice| choice.value == wanted);
    by_number
        .or(by_value)
        .map(|choice| choice.value.clone())
        .ok_or_else(|| match screen.choices.len() {
            0 => "there is nothing to choose from".to_owned(),
            count => format!("type a number from 1 to {count}"),
        })
}

impl<'a> Session<'a> {
    /// Begins with `file`: empty answers, or those of a file.
    #[must_use]
    pub fn new(medium: &'a Medium, machine: &'a Machine, file: AnswersFile) -> Session<'a> {
        let mut file = file;
        file.schema = SCHEMA;
        // Who answers questions agrees to the plan when it stands there.
        file.confirm = Default::default();
        let mut session = Session {
            medium,
            machine,
            lists: Lists::default(),
            file,
            at: None,
            advisor: None,
            keyboard: None,
            kept_layout: None,
            tried_layout: false,
            advice: RefCell::default(),
        };
        session.at = session.questions().first().copied();
        session
    }

    /// Lets names be completed.
    #[must_use]
    pub fn with_lists(mut self, lists: Lists) -> Self {
        self.lists = lists;
        self
    }

    /// Lets packages be chosen while one looks on.
    #[must_use]
    pub fn with_advisor(mut self, advisor: Advisor<'a>) -> Self {
        self.advisor = Some(advisor);
        self
    }

    /// Lets this console have the layout that is chosen, so that passwords are typed here as they will be later.
    #[must_use]
    pub fn with_keyboard(mut self, keyboard: LayoutSetter<'a>) -> Self {
        self.keyboard = Some(keyboard);
        self.use_layout();
        self
    }

    /// What must be said where a passphrase is typed here or at every start with another layout than the one that was chosen.
    #[must_use]
    pub fn passphrase_layout(&self, encrypted: bool) -> Option<String> {
        let keyboard = Keyboard {
            keymap: self.file.system.keymap.as_deref(),
            loaded_early: self.medium.install.initramfs.keymaps,
            kept: self.kept_layout.as_deref(),
        };
        keyboard.warning(encrypted)
    }

    /// Gives this console the chosen layout.
    fn use_layout(&mut self) {
        let chosen = self.file.system.keymap.as_deref();
        // Without one the kernel's own, if another was tried before.
        let name = chosen.or(self.tried_layout.then_some("us"));
        if let (Some(keyboard), Some(name)) = (&self.keyboard, name) {
            self.kept_layout = keyboard(name).err();
            self.tried_layout = true;
        }
    }

    /// What the chosen packages come to. Repositories on the network are asked only when something is taken.
    pub(super) fn advice(&self) -> Vec<String> {
        if self.file.source.kind.as_deref() == Some("network") {
            return match self.advice.borrow().as_ref() {
                Some((asked, Ok(lines))) if *asked == Asked::of(&self.file) => lines.clone(),
                _ => Vec::new(),
            };
        }
        self.advised(&self.file).unwrap_or_else(|why| vec![why])
    }

    fn advised(&self, file: &AnswersFile) -> Result<Vec<String>, String> {
        let Some(advisor) = &self.advisor else {
            return Ok(Vec::new());
        };
        let now = Asked::of(file);
        if let Some((asked, result)) = self.advice.borrow().as_ref()
            && *asked == now
        {
            return result.clone();
        }
        let result = advisor(file);
        *self.advice.borrow_mut() = Some((now, result.clone()));
        result
    }

    /// All questions that these answers raise, in their order.
    #[must_use]
    pub fn all(&self) -> Vec<Q> {
        let file = &self.file;
        let install = &self.medium.install;
        let layout = file.disk.layout.as_deref().unwrap_or("erase");
        let kept = matches!(layout, "replace" | "alongside" | "partitions" | "table");
        let network = file.source.kind.as_deref() == Some("network");
        let fixed = file.network.kind.as_deref() == Some("static");
        let mut list = Vec::new();
        let mut put = |question, shown| {
            if shown {
                list.push(question);
            }
        };
        put(Q::Select, layout != "directory");
        put(Q::Layout, true);
        put(Q::Directory, layout == "directory");
        put(Q::Keep, layout == "directory");
        put(Q::SwapPartitions, layout == "directory");
        put(Q::Replace, layout == "replace");
        put(Q::Roles, layout == "partitions");
        put(Q::Table, layout == "table");
        put(Q::Esp, kept);
        put(Q::Home, kept);
        put(
            Q::FileSystem,
            layout != "directory" && (!install.file_system.is_empty() || file.disk.filesystem.is_some()),
        );
        let btrfs = file.disk.filesystem.as_deref() == Some("btrfs");
        put(Q::Subvolumes, btrfs);
        put(Q::Compression, btrfs);
        put(Q::Encrypt, layout != "directory");
        // An encrypted root has no place for swap that is not.
        put(
            Q::Swap,
            !file.disk.encrypt && !matches!(layout, "partitions" | "table" | "directory"),
        );
        put(Q::SwapFile, true);
        put(Q::Zram, true);
        let laid_out = !matches!(layout, "partitions" | "table" | "directory");
        put(Q::EspSize, laid_out && file.disk.esp.is_none());
        put(Q::BootSize, laid_out);
        put(Q::RootSize, laid_out);
        put(Q::Source, true);
        put(Q::Repositories, network);
        put(Q::Mirrors, network);
        put(Q::Keys, network);
        put(Q::Kernel, install.kernel.len() > 1);
        put(Q::Sets, !install.set.is_empty());
        put(Q::Extra, true);
        put(Q::Allocator, install.allocator.len() > 1);
        put(Q::Hostname, true);
        put(Q::Timezone, true);
        put(Q::Keymap, true);
        put(Q::Locale, true);
        put(Q::Network, true);
        put(Q::Interface, fixed);
        put(Q::Address, fixed);
        put(Q::Gateway, fixed);
        put(Q::Dns, fixed);
        put(Q::Services, true);
        put(Q::RootPassword, true);
        put(Q::RootKeys, true);
        for at in 0..file.user.len().max(1) {
            put(Q::UserName(at), true);
            let there = at < file.user.len();
            put(Q::UserPassword(at), there);
            put(Q::UserAdmin(at), there);
            put(Q::UserGroups(at), there);
            put(Q::UserShell(at), there);
            put(Q::UserKeys(at), there);
        }
        put(Q::MoreUsers, !file.user.is_empty());
        put(Q::Serial, true);
        put(Q::Timeout, true);
        let uefi = matches!(self.machine.firmware, Firmware::Uefi { .. });
        put(Q::Nvram, uefi && layout != "directory");
        put(Q::BiosDisk, layout == "directory");
        put(Q::Arguments, true);
        list
    }

    /// The questions that everybody is asked, in their order.
    #[must_use]
    pub fn questions(&self) -> Vec<Q> {
        let mut list = self.all();
        list.retain(|question| question.asked());
        list
    }

    /// Number of the open question, from 1, and how many there are.
    #[must_use]
    pub fn place(&self) -> (usize, usize) {
        self.place_in(&self.questions())
    }

    fn place_in(&self, list: &[Q]) -> (usize, usize) {
        let at = self
            .at
            .and_then(|question| list.iter().position(|one| *one == question));
        (at.map_or(list.len(), |at| at + 1), list.len())
    }

    /// Goes to the next question of the walk.
    pub fn forward(&mut self) {
        let list = self.all();
        let at = self
            .at
            .and_then(|question| list.iter().position(|one| *one == question));
        self.at = at.and_then(|at| list[at + 1..].iter().copied().find(|question| question.asked()));
    }

    /// Goes to the one before; the first stays.
    pub fn back(&mut self) {
        let list = self.questions();
        let at = match self.at {
            None => list.len(),
            Some(question) => list.iter().position(|one| *one == question).unwrap_or(1),
        };
        self.at = list.get(at.saturating_sub(1)).copied();
    }

    /// What is wrong with the answers as a whole.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match self.file.resolve(Secrets::Look) {
            Ok(_) => Vec::new(),
            Err(Problems(list)) => list,
        }
    }

    /// The question at which a problem is mended.
    #[must_use]
    pub fn mended_at(&self, problem: &Problem) -> Q {
        if problem.key == "root" {
            return Q::RootPassword;
        }
        self.all()
            .into_iter()
            .find(|question| question.owns(&problem.key))
            .unwrap_or(Q::Select)
    }

    /// Takes an answer.
    ///
    /// # Errors
    /// Says what is wrong with it; nothing was taken then.
    pub fn take(&mut self, question: Q, line: &str) -> Result<(), String> {
        let screen = self.screen(question);
        let line = line.trim();
        let value = match screen.kind {
            // The password itself goes nowhere but into its hash.
            Kind::Secret => return self.take_secret(question, line),
            Kind::Choice => pick(&screen, line)?,
            // A command; what is wrong with the whole is said when one goes on.
            Kind::Table if !line.is_empty() => {
                self.file = self.changed(question, line)?;
                return Ok(());
            }
            Kind::Table => return self.sound(&self.file, question),
            _ if line.is_empty() => screen.current.clone(),
            Kind::Many => many(&screen, line)?,
            _ => line.to_owned(),
        };
        let file = self.changed(question, &value)?;
        self.sound(&file, question)?;
        if matches!(
            question,
            Q::FileSystem | Q::Mirrors | Q::Keys | Q::Kernel | Q::Sets | Q::Extra | Q::Allocator
        ) {
            self.advised(&file)?;
        }
        self.file = file;
        if question == Q::Keymap {
            self.use_layout();
        }
        Ok(())
    }

    /// Name of the interface that is offered for a network.
    pub(super) fn likely_interface(&self) -> &str {
        self.machine
            .likely_interface()
            .map_or("eth0", |interface| interface.name.as_str())
    }

    /// Refuses a partition that the chosen disk does not have.
    fn there(&self, number: u32) -> Result<(), String> {
        match self.disk() {
            Some(disk) if disk.partitions.iter().all(|one| one.number != number) => {
                Err(format!("{} has no partition {number}", disk.path))
            }
            _ => Ok(()),
        }
    }

    fn take_secret(&mut self, question: Q, line: &str) -> Result<(), String> {
        let made = match line {
            "" => return Ok(()),
            "none" => None,
            password => {
                let hash = Hash::of(password).map_err(|error| error.to_string())?;
                Some(hash.field().to_owned())
            }
        };
        match question {
            Q::UserPassword(at) => {
                if let Some(user) = self.file.user.get_mut(at) {
                    (user.password_hash, user.password_file, user.password_fd) = (made, None, None);
                }
            }
            _ => {
                self.file.root.password_hash = made;
                (self.file.root.password_file, self.file.root.password_fd) = (None, None);
            }
        }
        Ok(())
    }

    /// What is wrong with a key alone is said at its question, not at the end.
    fn sound(&self, file: &AnswersFile, question: Q) -> Result<(), String> {
        if let Err(problems) = file.resolve(Secrets::Look)
            && let Some(problem) = problems.0.iter().find(|problem| question.owns(&problem.key))
        {
            return Err(problem.what.clone());
        }
        Ok(())
    }

    #[allow(clippy::too_many_lines)]
    fn changed(&self, question: Q, value: &str) -> Result<AnswersFile, String> {
        let mut file = self.file.clone();
        let some = |unset: &str| (value != unset && !value.is_empty()).then(|| value.to_owned());
        let none = || some("none");
        let list = |between: char| -> Vec<String> {
            let parts = value.split(between).map(str::trim);
            parts
                .filter(|part| !part.is_empty() && *part != "none")
                .map(str::to_owned)
                .collect()
        };
        let words = || list(' ');
        let size = |unset: &str| -> Result<Option<String>, String> {
            some(unset)
                .map(|value| parse_size(&value).map(|_| value))
                .transpose()
        };
        let number = |unset: &str| -> Result<Option<u32>, String> {
            some(unset)
                .map(|value| value.parse().map_err(|_| format!("write a number, or `{unset}`")))
                .transpose()
        };
        let user = match question {
            Q::UserAdmin(at) | Q::UserGroups(at) | Q::UserShell(at) | Q::UserKeys(at) => {
                file.user.get_mut(at)
            }
            _ => None,
        };
        if let Some(user) = user {
            match question {
                Q::UserAdmin(_) => user.admin = value == "yes",
                Q::UserGroups(_) => user.groups = words(),
                Q::UserShell(_) => user.shell = some("/bin/sh"),
                _ => user.ssh_keys = list(';'),
            }
            return Ok(file);
        }
        match question {
            Q::Select => {
                let now = select(self.machine, value).map(|disk| &disk.path);
                if self.disk().map(|disk| &disk.path) != now.ok() {
                    let disk = &mut file.disk;
                    // Numbers of another disk's partitions, and consent to write to it.
                    disk.replace.clear();
                    disk.partitions.clear();
                    disk.delete.clear();
                    disk.partition.clear();
                    (disk.new_table, disk.esp, disk.home) = (false, None, None);
                    file.confirm = Default::default();
                }
                file.disk.select = Some(value.to_owned());
            }
            Q::Layout => {
                let disk = &mut file.disk;
                if value != "replace" {
                    disk.replace.clear();
                }
                if value != "partitions" {
                    disk.partitions.clear();
                }
                if value != "table" {
                    disk.new_table = false;
                    disk.delete.clear();
                    disk.partition.clear();
                }
                // These have partitions of their own, or none.
                if matches!(value, "partitions" | "table" | "directory") {
                    (disk.swap_size, disk.esp_size) = (None, None);
                    (disk.boot_size, disk.root_size) = (None, None);
                }
                if value == "directory" {
                    (disk.select, disk.encrypt, disk.filesystem) = (None, false, None);
                    disk.subvolumes.clear();
                    disk.compression = None;
                    disk.directory = Some("/mnt".into());
                    file.boot.nvram = None;
                }
                if value != "directory" {
                    disk.directory = None;
                    disk.keep.clear();
                    disk.swap_partitions.clear();
                    file.boot.bios_disk = None;
                }
                if value == "erase" {
                    (disk.esp, disk.home) = (None, None);
                }
                disk.layout = Some(value.to_owned());
            }
            Q::Directory => file.disk.directory = Some(value.into()),
            Q::Keep => file.disk.keep = words(),
            Q::SwapPartitions => file.disk.swap_partitions = words(),
            Q::BiosDisk => file.boot.bios_disk = none(),
            Q::Replace => {
                let numbers: Result<Vec<u32>, _> = value.split_whitespace().map(str::parse).collect();
                file.disk.replace = numbers.map_err(|_| "write numbers, such as `3 4`".to_owned())?;
                if file.disk.replace.is_empty() {
                    return Err("name at least one partition, or go back".to_owned());
                }
                file.disk
                    .replace
                    .iter()
                    .try_for_each(|number| self.there(*number))?;
            }
            Q::Roles => {
                file.disk.partitions.clear();
                for word in value.split_whitespace() {
                    let pair = word.split_once('=');
                    let Some((role, Ok(number))) = pair.map(|(role, number)| (role, number.parse())) else {
                        return Err(format!(
                            "`{word}` is no role with the number of a partition, such as `root=2`"
                        ));
                    };
                    self.there(number)?;
                    file.disk.partitions.insert(role.to_owned(), number);
                }
            }
            Q::Table => {
                let mut disk = file.disk.clone();
                super::table::command(&mut disk, self.disk(), value)?;
                file.disk = disk;
            }
            Q::Esp => {
                file.disk.esp = number("new")?;
                file.disk.esp.map_or(Ok(()), |number| self.there(number))?;
            }
            Q::Home => {
                file.disk.home = number("none")?;
                file.disk.home.map_or(Ok(()), |number| self.there(number))?;
            }
            Q::FileSystem => {
                file.disk.filesystem = some("ext4");
                if value != "btrfs" {
                    file.disk.subvolumes.clear();
                    file.disk.compression = None;
                }
            }
            Q::Subvolumes => {
                file.disk.subvolumes.clear();
                for word in value.split_whitespace() {
                    let Some((name, place)) = word.split_once('=') else {
                        return Err(format!("`{word}` is no name with a place, such as `@home=/home`"));
                    };
                    file.disk.subvolumes.insert(name.to_owned(), place.to_owned());
                }
            }
            Q::Compression => file.disk.compression = none(),
            Q::Encrypt => {
                file.disk.encrypt = value == "yes";
                if file.disk.encrypt {
                    file.disk.swap_size = None;
                } else {
                    (file.disk.passphrase_file, file.disk.passphrase_fd) = (None, None);
                }
            }
            Q::Swap => file.disk.swap_size = size("none")?,
            Q::SwapFile => file.disk.swap_file_size = size("none")?,
            Q::Zram => file.disk.zram_size = size("none")?,
            Q::EspSize => file.disk.esp_size = size("usual")?,
            Q::BootSize => file.disk.boot_size = size("usual")?,
            Q::RootSize => file.disk.root_size = size("rest")?,
            Q::Source => {
                file.source.kind = some("local");
                if value == "network" {
                    if file.source.repositories.is_empty() {
                        let known = self.medium.install.repository.iter();
                        file.source.repositories = known.map(|one| one.line.clone()).collect();
                    }
                } else {
                    file.source = SourceTable::default();
                }
            }
            Q::Repositories => file.source.repositories = list(';'),
            Q::Mirrors => file.source.mirrors = words(),
            Q::Keys => file.source.keys = list(';').into_iter().map(Into::into).collect(),
            Q::Kernel => file.packages.kernel = Some(value.to_owned()),
            Q::Sets => file.packages.sets = words(),
            Q::Extra => file.packages.extra = words(),
            Q::Allocator => file.packages.allocator = Some(value.to_owned()),
            Q::Hostname => file.system.hostname = Some(value.to_owned()),
            Q::Timezone => file.system.timezone = Some(value.to_owned()),
            Q::Keymap => file.system.keymap = none(),
            Q::Locale => file.system.locale = none(),
            Q::Network => {
                if value != "static" {
                    file.network = Default::default();
                } else if file.network.interface.is_none() {
                    file.network.interface = Some(self.likely_interface().to_owned());
                }
                file.network.kind = Some(value.to_owned());
            }
            Q::Interface => file.network.interface = Some(value.to_owned()),
            Q::Address => file.network.address = Some(value.to_owned()),
            Q::Gateway => file.network.gateway = none(),
            Q::Dns => file.network.dns = words(),
            Q::Services => file.services.enable = words(),
            Q::RootKeys => file.root.ssh_keys = list(';'),
            Q::UserName(at) => match (none(), file.user.get_mut(at)) {
                (Some(name), Some(user)) => user.name = name,
                (Some(name), None) => file.user.push(UserTable {
                    name,
                    admin: at == 0,
                    ..UserTable::default()
                }),
                (None, Some(_)) => {
                    file.user.remove(at);
                }
                (None, None) => {}
            },
            Q::MoreUsers => {
                if value == "yes" {
                    file.user.push(UserTable::default());
                }
            }
            Q::Serial => file.boot.serial = some("as now"),
            Q::Timeout => {
                file.boot.timeout = number("3")?;
            }
            Q::Nvram => file.boot.nvram = (value == "no").then_some(false),
            Q::Arguments => file.boot.arguments = none(),
            // Above, and what is secret elsewhere.
            Q::RootPassword
            | Q::UserPassword(_)
            | Q::UserAdmin(_)
            | Q::UserGroups(_)
            | Q::UserShell(_)
            | Q::UserKeys(_) => {}
        }
        Ok(file)
    }

    /// Takes an answer to the open question and goes on.
    ///
    /// # Errors
    /// As [`Session::take`].
    pub fn answer(&mut self, line: &str) -> Result<(), String> {
        let Some(question) = self.at else { return Ok(()) };
        let users = self.file.user.len();
        self.take(question, line)?;
        match question {
            // As many commands as one wants; an empty line goes on.
            Q::Table if !line.trim().is_empty() => {}
            // To the name of the one that came.
            Q::MoreUsers if self.file.user.len() > users => self.at = Some(Q::UserName(users)),
            // Whoever was there next has this number now.
            Q::UserName(at) if self.file.user.len() < users => {
                self.at = Some(match at < self.file.user.len() {
                    true => Q::UserName(at),
                    false if self.file.user.is_empty() => Q::UserName(0),
                    false => Q::MoreUsers,
                });
                if self.at == Some(Q::UserName(0)) && self.file.user.is_empty() {
                    self.forward();
                }
            }
            _ => self.forward(),
        }
        Ok(())
    }

    /// Asks line by line until everything is answered, and all answers were shown.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn run(&mut self, terminal: &mut dyn super::Terminal) -> std::io::Result<End> {
        let mut problem: Option<String> = None;
        let mut place = Place::Walk;
        loop {
            if let Place::All { first, back } = place {
                let rows = terminal.rows().max(1);
                let screen = self.all_answers(first, rows);
                let count = self.all().len();
                terminal.show(&screen, count, count, problem.take().as_deref())?;
                let Some(line) = terminal.line(false)? else {
                    return Ok(End::Stopped);
                };
                let on = |first| Place::All { first, back };
                match line.trim() {
                    "!q" => return Ok(End::Stopped),
                    "!s" => return Ok(End::Save),
                    "+" if count - first.min(count) > rows => place = on(first + rows),
                    "-" => place = on(first.saturating_sub(rows)),
                    "+" | "!a" => {}
                    "" if back.is_none() && self.problems().is_empty() => return Ok(End::Answered),
                    "" | "<" => {
                        // The question may be gone with what was changed.
                        self.at = back.map(|back| match self.all().contains(&back) {
                            true => back,
                            false => Q::Layout,
                        });
                        if back.is_none() && line.trim() == "<" {
                            self.back();
                        }
                        place = Place::Walk;
                    }
                    number => match number.parse::<usize>().ok().and_then(|at| at.checked_sub(1)) {
                        Some(at) if at < count => {
                            self.at = self.all().get(at).copied();
                            place = Place::One { first, back };
                        }
                        _ => problem = Some(format!("type a number from 1 to {count}")),
                    },
                }
                continue;
            }
            let Some(question) = self.at else {
                // Nobody could log in: back to where that is changed.
                let problems = self.problems();
                let Some(first) = problems.first() else {
                    place = Place::All { first: 0, back: None };
                    continue;
                };
                self.at = Some(self.mended_at(first));
                problem = Some(Problems(problems).to_string());
                continue;
            };
            let screen = self.screen(question);
            let (number, of) = match place {
                Place::One { .. } => self.place_in(&self.all()),
                _ => self.place(),
            };
            terminal.show(&screen, number, of, problem.take().as_deref())?;
            let secret = screen.kind == Kind::Secret;
            let Some(line) = terminal.line(secret)? else {
                return Ok(End::Stopped);
            };
            let text = line.trim();
            match (text, place) {
                ("!q", _) => return Ok(End::Stopped),
                ("!s", _) => return Ok(End::Save),
                ("<" | "!a", Place::One { first, back }) => {
                    place = Place::All { first, back };
                    continue;
                }
                ("<", _) => {
                    self.back();
                    continue;
                }
                ("!a", _) => {
                    let back = Some(question);
                    place = Place::All { first: 0, back };
                    continue;
                }
                _ => {}
            }
            if secret && !text.is_empty() && text != "none" {
                // Typed twice: a slip cannot be seen.
                let again = Screen {
                    title: "Again, please".to_owned(),
                    ..screen
                };
                terminal.show(&again, number, of, None)?;
                let Some(again) = terminal.line(true)? else {
                    return Ok(End::Stopped);
                };
                if *again != *line {
                    problem = Some("the two differ".to_owned());
                    continue;
                }
            }
            match place {
                // A user who was added is asked for as a whole.
                Place::One { first, back } if question != Q::MoreUsers => {
                    match self.take(question, text) {
                        // As many commands as one wants; an empty line goes on.
                        Ok(()) if question == Q::Table && !text.is_empty() => {}
                        Ok(()) => place = Place::All { first, back },
                        Err(what) => problem = Some(what),
                    }
                }
                _ => {
                    place = Place::Walk;
                    problem = self.answer(text).err();
                }
            }
        }
    }

    /// All answers as a list, `rows` of them from the one with the index `first` on.
    fn all_answers(&self, first: usize, rows: usize) -> Screen {
        let all = self.all();
        let mut body: Vec<String> = all
            .iter()
            .enumerate()
            .skip(first)
            .take(rows)
            .map(|(at, question)| {
                let value = crate::show::printable(&self.current(*question));
                let mut short: String = value.chars().take(VALUE).collect();
                if short.len() < value.len() {
                    short.push_str("...");
                }
                format!("{}: {}: {short}", at + 1, self.name_of_question(*question))
            })
            .collect();
        if all.len() > rows {
            body.push(format!(
                "These are {} to {} of {}: `+` shows the next ones, `-` those before.",
                first + 1,
                (first + rows).min(all.len()),
                all.len()
            ));
        }
        Screen {
            key: String::new(),
            title: "All answers".to_owned(),
            body,
            kind: Kind::List,
            choices: Vec::new(),
            current: String::new(),
        }
    }

    /// What a question is called among all: of a user's, with the name.
    fn name_of_question(&self, question: Q) -> String {
        let name = question.name().trim();
        let user = |at: usize| {
            let user = self.file.user.get(at);
            user.map_or_else(|| "user".to_owned(), |user| crate::show::printable(&user.name))
        };
        match question {
            Q::UserPassword(at)
            | Q::UserAdmin(at)
            | Q::UserGroups(at)
            | Q::UserShell(at)
            | Q::UserKeys(at) => format!("{}, {name}", user(at)),
            _ => name.to_owned(),
        }
    }
}

/// Characters of an answer in the list of all.
const VALUE: usize = 54;

/// Where one is, line by line.
#[derive(Clone, Copy)]
enum Place {
    /// On the way through the questions.
    Walk,
    /// Before all answers, the first of those shown being number `first`; `back` is the question from which they were asked for, none before the plan.
    All { first: usize, back: Option<Q> },
    /// At one that was chosen among all.
    One { first: usize, back: Option<Q> },
}

/// Several choices: their numbers or values, `none`.
fn many(screen: &Screen, line: &str) -> Result<String, String> {
    let mut chosen = Vec::new();
    for word in line.split_whitespace().filter(|word| *word != "none") {
        let value = pick(screen, word)?;
        if !chosen.contains(&value) {
            chosen.push(value);
        }
    }
    Ok(if chosen.is_empty() {
        "none".to_owned()
    } else {
        chosen.join(" ")
    })
}
