//! Questions on a terminal: screens that each stand for one key of the answers.
//!
//! A screen is printed as a whole and answered by a line: a number, a text, or a letter for back, save and stop. So it works the same on a serial line of 80×24 without
//! colour, on a large console and for speech and braille (`--plain` leaves out what clears the screen and the frame). That is why no library draws here: those for full screens want raw mode, cursor
//! movement and a size that serial lines do not tell, and those for prompts have no way back.

mod text;

use std::io;

use zeroize::Zeroizing;

use crate::answers::parse_size;
use crate::answers::typed::{AnswersFile, SCHEMA, UserTable};
use crate::medium::Medium;
use crate::probe::Machine;
use crate::secret::Hash;
use crate::show;

pub use text::render;

/// What a screen asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One of its choices.
    Choice,
    /// A line of text.
    Text,
    /// A line that is not shown.
    Secret,
}

/// A possible answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// What goes into the answers.
    pub value: String,
    /// What people read.
    pub text: String,
}

/// A screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Screen {
    /// The key of the answers.
    pub key: &'static str,
    /// Heading.
    pub title: &'static str,
    /// Explanation.
    pub body: Vec<String>,
    /// What it asks for.
    pub kind: Kind,
    /// Choices, where there are any.
    pub choices: Vec<Choice>,
    /// What counts if the line is empty.
    pub current: String,
}

/// The keys in the order of their screens.
const KEYS: &[&str] = &[
    "disk.select",
    "disk.layout",
    "disk.replace",
    "disk.esp",
    "disk.encrypt",
    "disk.swap-size",
    "disk.swap-file-size",
    "disk.zram-size",
    "packages.kernel",
    "packages.allocator",
    "system.hostname",
    "system.timezone",
    "system.keymap",
    "network.kind",
    "root.password-hash",
    "user.name",
    "user.password-hash",
];

/// Answers in the making.
pub struct Session<'a> {
    medium: &'a Medium,
    machine: &'a Machine,
    /// The answers so far.
    pub file: AnswersFile,
    at: usize,
}

/// Where the lines come from and the screens go to.
pub trait Terminal {
    /// Shows a screen.
    ///
    /// # Errors
    /// When the terminal is gone.
    fn show(&mut self, screen: &Screen, number: usize, of: usize, problem: Option<&str>) -> io::Result<()>;

    /// A line; none at the end of the input. What is secret is not echoed.
    ///
    /// # Errors
    /// When the terminal is gone.
    fn line(&mut self, secret: bool) -> io::Result<Option<Zeroizing<String>>>;
}

/// How the questions ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All are answered.
    Answered,
    /// To be saved and nothing more.
    Save,
    /// Given up.
    Stopped,
}

fn choice(value: impl Into<String>, text: impl Into<String>) -> Choice {
    Choice {
        value: value.into(),
        text: text.into(),
    }
}

impl<'a> Session<'a> {
    /// Begins with `file`: empty answers, or those of a file.
    #[must_use]
    pub fn new(medium: &'a Medium, machine: &'a Machine, file: AnswersFile) -> Session<'a> {
        let mut file = file;
        file.schema = SCHEMA;
        Session {
            medium,
            machine,
            file,
            at: 0,
        }
    }

    /// The screens that these answers lead through.
    fn keys(&self) -> Vec<&'static str> {
        let shown = |key: &&&str| match **key {
            "disk.replace" => self.file.disk.layout.as_deref() == Some("replace"),
            // An encrypted root has no place for swap that is not.
            "disk.swap-size" => !self.file.disk.encrypt,
            "disk.esp" => matches!(
                self.file.disk.layout.as_deref(),
                Some("replace" | "alongside" | "partitions")
            ),
            "packages.kernel" => self.medium.install.kernel.len() > 1,
            "packages.allocator" => self.medium.install.allocator.len() > 1,
            "user.password-hash" => !self.file.user.is_empty(),
            _ => true,
        };
        KEYS.iter().filter(shown).copied().collect()
    }

    /// The screen of a key.
    #[must_use]
    pub fn screen(&self, key: &'static str) -> Screen {
        let file = &self.file;
        let word =
            |value: &Option<String>, default: &str| value.clone().unwrap_or_else(|| default.to_owned());
        let screen = |title, kind, body: &[&str], choices, current: String| Screen {
            key,
            title,
            body: body.iter().map(|line| (*line).to_owned()).collect(),
            kind,
            choices,
            current,
        };
        let kept = |set: bool| {
            if set {
                "(the one that was typed)".to_owned()
            } else {
                "(none)".to_owned()
            }
        };
        match key {
            "disk.select" => {
                let mut made = screen(
                    "Disk",
                    Kind::Choice,
                    &[
                        "Which disk is the system installed to? Nothing is written before you have seen the whole plan.",
                    ],
                    self.disks(),
                    word(&file.disk.select, ""),
                );
                for disk in self.machine.disks.iter().filter(|disk| !disk.offered()) {
                    made.body.push(format!(
                        "Not offered: {} ({})",
                        disk.path,
                        show::printable(&disk.refused.join(", "))
                    ));
                }
                made
            }
            "disk.layout" => screen(
                "Layout",
                Kind::Choice,
                &["What happens to the disk?"],
                vec![
                    choice("erase", "Erase it: everything on it is lost"),
                    choice("alongside", "Use free space: every partition stays (GPT only)"),
                    choice("replace", "Replace partitions that you name (GPT only)"),
                ],
                word(&file.disk.layout, "erase"),
            ),
            "disk.replace" => {
                let numbers: Vec<String> = file.disk.replace.iter().map(u32::to_string).collect();
                let mut made = screen(
                    "Partitions to replace",
                    Kind::Text,
                    &["Numbers of the partitions that go, with spaces between them:"],
                    Vec::new(),
                    numbers.join(" "),
                );
                made.body.extend(self.partitions());
                made
            }
            "disk.esp" => {
                let mut made = screen(
                    "EFI system partition",
                    Kind::Text,
                    &[
                        "Number of one that is kept and gets files added, as beside Windows; `new` makes one where UEFI needs it:",
                    ],
                    Vec::new(),
                    file.disk
                        .esp
                        .map_or_else(|| "new".to_owned(), |number| number.to_string()),
                );
                made.body.extend(self.partitions());
                made
            }
            "disk.encrypt" => screen(
                "Encryption",
                Kind::Choice,
                &[
                    "Is the root encrypted (LUKS2)? Its passphrase is asked for when the plan is confirmed, and at every start. Who loses it loses everything on the root.",
                ],
                vec![
                    choice("no", "Not encrypted"),
                    choice("yes", "Encrypted, with /boot on a partition of its own"),
                ],
                if file.disk.encrypt { "yes" } else { "no" }.to_owned(),
            ),
            "disk.swap-size" => screen(
                "Swap",
                Kind::Text,
                &["Size of a swap partition, such as `2 GiB`, or `none`."],
                Vec::new(),
                word(&file.disk.swap_size, "none"),
            ),
            "disk.swap-file-size" => screen(
                "Swap file",
                Kind::Text,
                &[
                    "Size of a swap file in the root, such as `2 GiB`, or `none`. Unlike a partition it can be changed later.",
                ],
                Vec::new(),
                word(&file.disk.swap_file_size, "none"),
            ),
            "disk.zram-size" => screen(
                "Compressed swap in memory (zram)",
                Kind::Text,
                &[
                    "Size before compression, such as `2 GiB`, or `none`. It is used before swap on the disk; half of the memory is usual.",
                ],
                Vec::new(),
                word(&file.disk.zram_size, "none"),
            ),
            "packages.kernel" => screen(
                "Kernel",
                Kind::Choice,
                &["Which kernel?"],
                self.medium
                    .install
                    .kernel
                    .iter()
                    .map(|kernel| choice(&kernel.package, format!("{}: {}", kernel.package, kernel.summary)))
                    .collect(),
                word(&file.packages.kernel, &self.medium.install.kernel[0].package),
            ),
            "packages.allocator" => {
                let list = &self.medium.install.allocator;
                let default = list
                    .iter()
                    .find(|one| one.default)
                    .or(list.first())
                    .map(|one| one.name.clone());
                let text = |one: &crate::medium::AllocatorTable| {
                    // Two lines each: six of them fit on 80x24.
                    format!(
                        "{}: {}.\nTime: {}. Memory: {}.",
                        one.summary, one.security, one.speed, one.memory
                    )
                };
                screen(
                    "Memory allocator",
                    Kind::Choice,
                    &[
                        "What gives programs their memory? It can be changed later: `lycia-install allocator NAME`.",
                    ],
                    list.iter().map(|one| choice(&one.name, text(one))).collect(),
                    word(&file.packages.allocator, &default.unwrap_or_default()),
                )
            }
            "system.hostname" => screen(
                "Host name",
                Kind::Text,
                &["What is the machine called? Letters, digits and hyphens."],
                Vec::new(),
                word(&file.system.hostname, "lycia"),
            ),
            "system.timezone" => screen(
                "Time zone",
                Kind::Text,
                &["Such as `Europe/Prague` or `America/New_York`."],
                Vec::new(),
                word(&file.system.timezone, "UTC"),
            ),
            "system.keymap" => screen(
                "Keyboard",
                Kind::Text,
                &[
                    "Layout of the console's keyboard, such as `us`, `de` or `cz`; `none` for the kernel's own.",
                ],
                Vec::new(),
                word(&file.system.keymap, "none"),
            ),
            "network.kind" => screen(
                "Network",
                Kind::Choice,
                &["How does the machine get its address? A static one is set in an answers file."],
                vec![
                    choice("dhcp", "It asks for one (DHCP)"),
                    choice("none", "No network"),
                ],
                word(&file.network.kind, "dhcp"),
            ),
            "root.password-hash" => screen(
                "Password of root",
                Kind::Secret,
                &["It is not shown. `none` locks the login; then a user must be able to log in."],
                Vec::new(),
                kept(file.root.password_hash.is_some()),
            ),
            "user.name" => screen(
                "User",
                Kind::Text,
                &["Login name of a user who may become root, or `none`."],
                Vec::new(),
                file.user
                    .first()
                    .map_or_else(|| "none".to_owned(), |user| user.name.clone()),
            ),
            _ => screen(
                "Password of the user",
                Kind::Secret,
                &["It is not shown. `none` locks the login."],
                Vec::new(),
                kept(file.user.first().is_some_and(|user| user.password_hash.is_some())),
            ),
        }
    }

    /// The partitions of the chosen disk, a line each.
    fn partitions(&self) -> Vec<String> {
        let mut disks = self.machine.disks.iter();
        let chosen = disks.find(|disk| Some(name_of(disk)) == self.file.disk.select);
        let line = |partition: &crate::probe::Partition| {
            let label = partition.label.as_deref().unwrap_or("");
            format!(
                "  {}  {}  {}",
                partition.number,
                show::size(partition.size),
                show::printable(label)
            )
        };
        chosen
            .into_iter()
            .flat_map(|disk| &disk.partitions)
            .map(line)
            .collect()
    }

    fn disks(&self) -> Vec<Choice> {
        let offered = self.machine.disks.iter().filter(|disk| disk.offered());
        let text = |disk: &crate::probe::Disk| {
            let model = disk.model.as_deref().unwrap_or("no model");
            let serial = disk
                .serial
                .as_deref()
                .map(|serial| format!(", serial {serial}"))
                .unwrap_or_default();
            let parts = match disk.partitions.len() {
                0 => "no partitions".to_owned(),
                count => format!("{count} partitions"),
            };
            show::printable(&format!(
                "{}  {}  {model}{serial}, {parts}",
                disk.path,
                show::size(disk.size)
            ))
        };
        offered.map(|disk| choice(name_of(disk), text(disk))).collect()
    }

    /// Takes an answer to the screen of `key`.
    ///
    /// # Errors
    /// Says what is wrong with it; nothing was taken then.
    pub fn take(&mut self, key: &'static str, line: &str) -> Result<(), String> {
        let screen = self.screen(key);
        let line = line.trim();
        let value = match screen.kind {
            Kind::Secret => return self.take_secret(key, line),
            Kind::Choice => pick(&screen, line)?,
            _ if line.is_empty() => screen.current.clone(),
            _ => line.to_owned(),
        };
        let some = |value: &str| (value != "none").then(|| value.to_owned());
        let mut file = self.file.clone();
        match key {
            "disk.select" => file.disk.select = Some(value),
            "disk.layout" => {
                if value != "replace" {
                    file.disk.replace.clear();
                }
                if value == "erase" {
                    file.disk.esp = None;
                }
                file.disk.layout = Some(value);
            }
            "disk.replace" => {
                let numbers: Result<Vec<u32>, _> = value.split_whitespace().map(str::parse).collect();
                file.disk.replace = numbers.map_err(|_| "write numbers, such as `3 4`".to_owned())?;
                if file.disk.replace.is_empty() {
                    return Err("name at least one partition, or go back".to_owned());
                }
            }
            "disk.esp" => {
                file.disk.esp = match value.as_str() {
                    "new" => None,
                    number => Some(
                        number
                            .parse()
                            .map_err(|_| "write a number, or `new`".to_owned())?,
                    ),
                };
            }
            "disk.encrypt" => {
                file.disk.encrypt = value == "yes";
                if file.disk.encrypt {
                    file.disk.swap_size = None;
                }
            }
            "disk.swap-size" => {
                if value != "none" {
                    parse_size(&value)?;
                }
                file.disk.swap_size = some(&value);
            }
            "disk.swap-file-size" | "disk.zram-size" => {
                if value != "none" {
                    parse_size(&value)?;
                }
                match key {
                    "disk.zram-size" => file.disk.zram_size = some(&value),
                    _ => file.disk.swap_file_size = some(&value),
                }
            }
            "packages.kernel" => file.packages.kernel = Some(value),
            "packages.allocator" => file.packages.allocator = Some(value),
            "system.hostname" => file.system.hostname = Some(value),
            "system.timezone" => file.system.timezone = Some(value),
            "system.keymap" => file.system.keymap = some(&value),
            "network.kind" => file.network.kind = Some(value),
            _ => match some(&value) {
                None => file.user.clear(),
                Some(name) => {
                    let mut user = file.user.first().cloned().unwrap_or_else(|| UserTable {
                        admin: true,
                        ..UserTable::default()
                    });
                    user.name = name;
                    file.user = vec![user];
                }
            },
        }
        // What is wrong with this key alone is said here, not at the end.
        if let Err(problems) = file.resolve(crate::answers::Secrets::Look) {
            let table = key.split('.').next().unwrap_or(key);
            let own = |problem: &&crate::answers::Problem| {
                problem.key == key
                    || (table == "user" && problem.key.starts_with("user[") && key == "user.name")
            };
            if let Some(problem) = problems.0.iter().find(own) {
                return Err(problem.what.clone());
            }
        }
        self.file = file;
        Ok(())
    }

    /// Takes a password: its hash is kept and nothing else.
    fn take_secret(&mut self, key: &'static str, line: &str) -> Result<(), String> {
        let made = match line {
            "" => return Ok(()),
            "none" => None,
            password => {
                let hash = Hash::of(password).map_err(|error| error.to_string())?;
                Some(hash.field().to_owned())
            }
        };
        if key == "root.password-hash" {
            self.file.root.password_hash = made;
        } else if let Some(user) = self.file.user.first_mut() {
            user.password_hash = made;
        }
        Ok(())
    }

    /// Asks until everything is answered.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn run(&mut self, terminal: &mut dyn Terminal) -> io::Result<End> {
        let mut problem: Option<String> = None;
        loop {
            let keys = self.keys();
            let Some(&key) = keys.get(self.at) else {
                // Nobody could log in: back to where that is changed.
                let Err(problems) = self.file.resolve(crate::answers::Secrets::Look) else {
                    return Ok(End::Answered);
                };
                problem = Some(problems.to_string());
                self.at = keys
                    .iter()
                    .position(|key| *key == "root.password-hash")
                    .unwrap_or(0);
                continue;
            };
            let screen = self.screen(key);
            terminal.show(&screen, self.at + 1, keys.len(), problem.take().as_deref())?;
            let secret = screen.kind == Kind::Secret;
            let Some(line) = terminal.line(secret)? else {
                return Ok(End::Stopped);
            };
            match line.trim() {
                "<" => self.at = self.at.saturating_sub(1),
                "!q" => return Ok(End::Stopped),
                "!s" => return Ok(End::Save),
                _ => {
                    if secret && !line.trim().is_empty() && line.trim() != "none" {
                        // Typed twice: a slip cannot be seen.
                        terminal.show(
                            &Screen {
                                title: "Again, please",
                                ..screen
                            },
                            self.at + 1,
                            keys.len(),
                            None,
                        )?;
                        let Some(again) = terminal.line(true)? else {
                            return Ok(End::Stopped);
                        };
                        if again != line {
                            problem = Some("the two differ".to_owned());
                            continue;
                        }
                    }
                    match self.take(key, &line) {
                        Ok(()) => self.at += 1,
                        Err(what) => problem = Some(what),
                    }
                }
            }
        }
    }
}

/// The name by which a disk is found again.
fn name_of(disk: &crate::probe::Disk) -> String {
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

#[cfg(test)]
mod tests;
