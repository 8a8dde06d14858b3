use super::full::{Action, Full, Leave, Page};
use super::keyboard::Key;
use super::*;
use crate::answers::Secrets;
use crate::answers::typed::{AnswersFile, UserTable};
use crate::contents::{Contents, InstalledSystem, PartitionType, TableKind};
use crate::engine::Event;
use crate::medium::Medium;
use crate::plan::tests::disk;
use crate::probe::{Firmware, Interface, InterfaceKind, Machine, Partition};
use std::cell::RefCell;
use zeroize::Zeroizing;

const INSTALL: &str = include_str!("../../../configs/install/seed.toml");
const REPOSITORY: &str = include_str!("../../../configs/repositories/seed.toml");

fn medium() -> (tempfile::TempDir, Medium) {
    let folder = tempfile::tempdir().unwrap();
    let allocators = &REPOSITORY[REPOSITORY.find("[[allocator]]").unwrap()..];
    std::fs::create_dir(folder.path().join("live")).unwrap();
    let text = format!("arch = \"x86_64\"\n{INSTALL}\n{allocators}");
    std::fs::write(folder.path().join("live/install.toml"), text).unwrap();
    let medium = Medium::open(folder.path()).unwrap();
    (folder, medium)
}

fn machine() -> Machine {
    let mut used = disk(500_107_862_016, 512);
    (used.name, used.path) = ("sdb".into(), "/dev/sdb".into());
    (used.by_id, used.serial) = (vec!["ata-Other_S2".into()], Some("S2".into()));
    used.refused = vec!["the running system came from it".into()];
    let mut plain = disk(2_000_398_934_016, 512);
    (plain.name, plain.path) = ("nvme0n1".into(), "/dev/nvme0n1".into());
    (plain.by_id, plain.serial) = (vec!["nvme-WD_Black_N1".into()], Some("N1".into()));
    plain.model = Some("WD Black\u{1b}[2J".into());
    plain.table = Some(TableKind::Gpt);
    plain.partitions = partitions();
    Machine {
        schema: 1,
        firmware: Firmware::Bios,
        memory: None,
        disks: vec![disk(8 << 30, 512), used, plain],
        network: vec![
            interface("eth0", InterfaceKind::Wired, Some(false)),
            interface("enp1s0", InterfaceKind::Wired, Some(true)),
            interface("wlan0", InterfaceKind::Wireless, None),
        ],
    }
}

fn interface(name: &str, kind: InterfaceKind, link: Option<bool>) -> Interface {
    Interface {
        name: name.into(),
        kind,
        mac: Some("52:54:00:12:34:56".into()),
        link,
    }
}

/// What somebody has on a disk who could lose it.
fn partitions() -> Vec<Partition> {
    let mut at = 1;
    let mut part = |number: u32, mib: u64, kind: &'static str, contents: Contents| {
        let start = at << 20;
        at += mib;
        Partition {
            name: format!("nvme0n1p{number}"),
            number,
            start,
            size: mib << 20,
            label: (number == 2).then(|| "Basic data partition".into()),
            kind: Some(PartitionType {
                code: String::new(),
                name: Some(kind),
            }),
            contents,
            used: Vec::new(),
        }
    };
    let holds = |kind: &str, label: Option<&str>| Contents {
        file_system: Some(kind.into()),
        label: label.map(str::to_owned),
        uuid: Some("0a1b2c3d-0000-4000-8000-000000000001".into()),
        looked_into: kind == "ext4",
        ..Contents::default()
    };
    let esp = Contents {
        loaders: vec!["Microsoft".into(), "attic".into()],
        ..holds("vfat", Some("ESP"))
    };
    let attic = Contents {
        system: Some(InstalledSystem {
            name: Some("Chimera Linux".into()),
            hostname: Some("attic".into()),
        }),
        ..holds("ext4", Some("root"))
    };
    vec![
        part(1, 512, "EFI system", esp),
        part(2, 200_000, "Microsoft basic data", holds("ntfs", Some("Windows"))),
        part(3, 60_000, "Linux data", attic),
        part(4, 800_000, "Linux data", holds("xfs", Some("photos\u{1b}[2J"))),
        part(5, 100_000, "Linux LUKS", holds("crypto_LUKS", None)),
        part(6, 4096, "Linux swap", holds("swap", None)),
    ]
}

/// Lines that somebody types, and everything that was shown.
#[derive(Default)]
struct Script {
    lines: Vec<String>,
    shown: Vec<String>,
    /// Keys of the screens that were shown.
    keys: Vec<String>,
    /// Lines of a list that fit.
    rows: Option<usize>,
}

impl Script {
    fn new(lines: &[&str]) -> Script {
        Script {
            lines: lines.iter().map(|&line| line.to_owned()).collect(),
            ..Script::default()
        }
    }
}

impl Terminal for Script {
    fn show(&mut self, screen: &Screen, number: usize, of: usize, problem: Option<&str>) -> io::Result<()> {
        let size = (80, 24);
        let lines = render(screen, number, of, problem, size, false);
        assert!(
            self.rows.is_none() || lines.len() <= size.1,
            "{}",
            lines.join("\n")
        );
        self.shown.push(lines.join("\n"));
        self.keys.push(screen.key.clone());
        Ok(())
    }

    fn line(&mut self, _: bool) -> io::Result<Option<Zeroizing<String>>> {
        Ok((!self.lines.is_empty()).then(|| self.lines.remove(0).into()))
    }

    fn rows(&self) -> usize {
        self.rows.unwrap_or(usize::MAX)
    }
}

fn run(lines: &[&'static str]) -> (End, AnswersFile, Vec<String>) {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut session = Session::new(&medium, &machine, AnswersFile::default());
    let mut script = Script::new(lines);
    let end = session.run(&mut script).unwrap();
    (end, session.file, script.shown)
}

#[test]
fn answers_come_out_as_they_were_typed() {
    let (end, file, _) = run(&[
        "2",
        "1",
        "",
        "",
        "2 GiB",
        "1 GiB",
        "512 MiB",
        "",
        "linux-generic",
        "2 file-systems",
        "curl vim>=9",
        "2",
        "box",
        "Europe/Prague",
        "us",
        "static",
        "enp1s0",
        "192.0.2.10/24",
        "192.0.2.1",
        "192.0.2.2 192.0.2.3",
        "secret",
        "secret",
        "ann",
        "hidden",
        "hidden",
        "yes",
        "bob",
        "hidden too",
        "hidden too",
        "no",
        "",
    ]);
    assert_eq!(end, End::Answered);
    assert_eq!(file.disk.select.as_deref(), Some("nvme-WD_Black_N1"));
    assert_eq!(file.packages.kernel.as_deref(), Some("linux-generic"));
    assert_eq!(file.packages.allocator.as_deref(), Some("mallocng"));
    assert_eq!(file.packages.extra, ["curl", "vim>=9"]);
    assert_eq!(file.packages.sets, ["service-names", "file-systems"]);
    let answers = file.resolve(Secrets::Read).unwrap();
    let disk = &answers.disk;
    assert_eq!(
        (disk.swap_size, disk.swap_file, disk.zram),
        (Some(2 << 30), Some(1 << 30), Some(512 << 20))
    );
    let users = &answers.users;
    assert!(users[0].admin && users[0].login.password.is_some());
    assert!(users[1].name == "bob" && !users[1].admin && users[1].login.password.is_some());
    assert!(matches!(&answers.network, crate::answers::Network::Static { dns, .. } if dns.len() == 2));
    // What was saved is what an answers file says, without a password in clear.
    let text = file.text().unwrap();
    assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    assert_eq!(AnswersFile::parse(&text, "saved").unwrap(), file);
}

#[test]
fn one_can_go_back_and_change() {
    let (end, file, shown) = run(&[
        "1", "3", "x", "3 4", "<", "1", "", "", "", "", "", "", "", "", "", "", "_bad", "good", "", "", "",
        "none", "none", "pw", "pw2", "pw", "pw", "<", "none",
    ]);
    assert_eq!(end, End::Stopped, "{}", shown.last().unwrap());
    assert_eq!(file.disk.layout.as_deref(), Some("erase"));
    assert!(file.disk.replace.is_empty());
    assert_eq!(file.system.hostname.as_deref(), Some("good"));
    let all = shown.join("\n");
    assert!(
        all.contains("write numbers")
            && all.contains("/dev/sda has no partition 3")
            && all.contains("is no host name"),
        "{all}"
    );
    assert!(
        all.contains("nobody could log in") && !all.contains('\u{1b}'),
        "{all}"
    );
}

#[test]
fn saving_and_stopping() {
    assert_eq!(run(&["1", "!s"]).0, End::Save);
    assert_eq!(run(&["!q"]).0, End::Stopped);
    assert_eq!(run(&[]).0, End::Stopped);
}

#[test]
fn users_come_and_go() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut session = Session::new(&medium, &machine, AnswersFile::default());
    session.at = Some(Question::UserName(0));
    for line in ["ann", "none", "yes", "bob", "none", "yes", "none"] {
        session.answer(line).unwrap();
    }
    // The third was not named: there are two, and one is asked whether there are more.
    assert_eq!(session.file.user.len(), 2);
    assert_eq!(session.at, Some(Question::MoreUsers));
    session.at = Some(Question::UserName(0));
    session.answer("none").unwrap();
    assert_eq!(session.file.user[0].name, "bob");
    assert_eq!(session.at, Some(Question::UserName(0)));
    session.answer("none").unwrap();
    assert!(session.file.user.is_empty());
    assert_eq!(session.at, None);
    assert!(session.take(Question::UserName(0), "Not A Name").is_err());
    assert!(session.file.user.is_empty());
}

#[test]
fn what_packages_come_to_is_said_and_what_cannot_be_is_refused() {
    let (_folder, medium) = medium();
    let machine = machine();
    let asked = std::cell::Cell::new(0);
    let mut session =
        Session::new(&medium, &machine, AnswersFile::default()).with_advisor(Box::new(|file| {
            asked.set(asked.get() + 1);
            match file.packages.extra.first().map(String::as_str) {
                Some("unknown") => Err("no package has the name `unknown`".to_owned()),
                first => Ok(vec![format!("extra: {first:?}")]),
            }
        }));
    assert!(
        session
            .take(Question::Extra, "unknown")
            .unwrap_err()
            .contains("`unknown`")
    );
    assert!(session.file.packages.extra.is_empty());
    session.take(Question::Extra, "curl").unwrap();
    let before = asked.get();
    assert!(session.screen(Question::Extra).body.join(" ").contains("curl"));
    assert_eq!(asked.get(), before, "the same was asked twice");
}

/// Every key of a schema has a question, but for those that name secrets in another way or consent.
#[test]
fn every_key_of_the_answers_has_a_screen() {
    let keys: std::collections::BTreeSet<String> = EVERY.iter().map(|question| question.key()).collect();
    assert_eq!(keys.len(), EVERY.len());
    let apart = [
        "disk.passphrase-file",
        "disk.passphrase-fd",
        "root.password-file",
        "root.password-fd",
        "user.password-file",
        "user.password-fd",
        "confirm.serial",
        "confirm.plan",
        // Keys of the table, which the one editor changes.
        "disk.new-table",
        "disk.delete",
        "partition.used",
        "partition.number",
        "partition.size",
        "partition.start",
        "schema",
    ];
    let typed = include_str!("../answers/typed.rs");
    let mut table = String::new();
    for line in typed.lines() {
        if let Some(name) = line.strip_prefix("pub struct ") {
            let name = name.trim_end_matches(" {").trim_end_matches("Table");
            table = name.to_lowercase();
        } else if let Some(field) = line.trim().strip_prefix("pub ")
            && line.starts_with("    ")
            && table != "answersfile"
        {
            let field = field.split(':').next().unwrap().replace('_', "-");
            let key = format!("{table}.{field}");
            let known = keys.contains(&key)
                || keys.contains(&key.replace("user.", "user[0]."))
                || apart.contains(&key.as_str());
            assert!(known, "{key} has no screen");
        }
    }
}

use Question as Q;

/// Every question, once.
const EVERY: &[Question] = &[
    Q::Select,
    Q::Layout,
    Q::Directory,
    Q::Keep,
    Q::SwapPartitions,
    Q::Replace,
    Q::Roles,
    Q::Table,
    Q::Esp,
    Q::Home,
    Q::FileSystem,
    Q::Subvolumes,
    Q::Compression,
    Q::Encrypt,
    Q::Swap,
    Q::SwapFile,
    Q::Zram,
    Q::EspSize,
    Q::BootSize,
    Q::RootSize,
    Q::Source,
    Q::Repositories,
    Q::Mirrors,
    Q::Keys,
    Q::Kernel,
    Q::Sets,
    Q::Extra,
    Q::Allocator,
    Q::Hostname,
    Q::Timezone,
    Q::Keymap,
    Q::Locale,
    Q::Network,
    Q::Interface,
    Q::Address,
    Q::Gateway,
    Q::Dns,
    Q::Services,
    Q::RootPassword,
    Q::RootKeys,
    Q::UserName(0),
    Q::UserPassword(0),
    Q::UserAdmin(0),
    Q::UserGroups(0),
    Q::UserShell(0),
    Q::UserKeys(0),
    Q::MoreUsers,
    Q::Serial,
    Q::Timeout,
    Q::Nvram,
    Q::BiosDisk,
    Q::Arguments,
];

fn session<'a>(medium: &'a Medium, machine: &'a Machine) -> Session<'a> {
    let mut session = Session::new(medium, machine, AnswersFile::default()).with_lists(Lists {
        timezones: ["Africa/Abidjan", "Europe/Paris", "Europe/Prague", "UTC"]
            .map(str::to_owned)
            .to_vec(),
        keymaps: ["cz", "de", "us"].map(str::to_owned).to_vec(),
    });
    session.file.disk.select = Some("nvme-WD_Black_N1".into());
    session.file.disk.layout = Some("replace".into());
    session.file.disk.replace = vec![3];
    session.file.user.push(UserTable {
        name: "ann".into(),
        ..UserTable::default()
    });
    session
}

/// Compares with what is saved in `name`, or saves it.
fn snapshot(name: &str, all: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("src/ui")
        .join(name);
    if std::env::var_os("LYCIA_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, all).unwrap();
    }
    let saved = std::fs::read_to_string(&path)
        .expect("LYCIA_WRITE_SNAPSHOTS=1 cargo test -p lycia-installer writes the snapshots");
    assert_eq!(
        all, saved,
        "LYCIA_WRITE_SNAPSHOTS=1 writes them again where this is meant"
    );
}

#[test]
fn every_screen_fits_and_is_as_it_was() {
    let (_folder, medium) = medium();
    let machine = machine();
    let session = session(&medium, &machine);
    let questions = session.questions();
    let mut all = String::new();
    for size in [(80, 24), (132, 43)] {
        for (number, question) in questions.iter().enumerate() {
            let key = question.key();
            let lines = render(
                &session.screen(*question),
                number + 1,
                questions.len(),
                None,
                size,
                false,
            );
            assert!(lines.len() <= size.1, "{key}: {} lines", lines.len());
            assert!(
                lines.iter().all(|line| line.chars().count() <= size.0),
                "{key}: {lines:#?}"
            );
            all.push_str(&format!(
                "--- {key} {}x{}\n{}\n",
                size.0,
                size.1,
                lines.join("\n")
            ));
        }
    }
    snapshot("screens.txt", &all);
}

const SERIAL: Look = Look {
    color: false,
    unicode: false,
};
const LARGE: Look = Look {
    color: true,
    unicode: true,
};

/// What is on the screen, with marked parts in `[[` and `]]`.
fn drawn(full: &Full, (width, height): (u16, u16), look: Look) -> String {
    use ratatui::style::Modifier;
    let mut terminal = ratatui::Terminal::new(ratatui::backend::TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| full.draw(frame, look)).unwrap();
    let buffer = terminal.backend().buffer();
    let mut text = String::new();
    for y in 0..height {
        let mut line = String::new();
        let mut marked = false;
        for x in 0..width {
            let cell = &buffer[(x, y)];
            let here = cell.modifier.contains(Modifier::REVERSED)
                || cell.bg == ratatui::style::Color::Cyan
                || cell.bg == ratatui::style::Color::Blue;
            if here != marked {
                line.push_str(if here { "[[" } else { "]]" });
                marked = here;
            }
            line.push_str(cell.symbol());
        }
        if marked {
            line.push_str("]]");
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn press(full: &mut Full, keys: &[Key]) -> Action {
    keys.iter().fold(Action::Draw, |_, key| full.key(*key))
}

fn typed(full: &mut Full, text: &str) -> Action {
    for character in text.chars() {
        full.key(Key::Char(character));
    }
    full.key(Key::Enter)
}

#[test]
fn whole_screens_are_as_they_were() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut all = String::new();
    for (size, look) in [((80, 24), SERIAL), ((132, 43), LARGE)] {
        let mut show = |name: &str, full: &Full| {
            let text = drawn(full, size, look);
            if !look.unicode {
                let beyond: Vec<char> = text
                    .chars()
                    .filter(|c| !c.is_ascii() && *c != '\u{fffd}')
                    .collect();
                assert!(beyond.is_empty(), "{name}: {beyond:?}");
            }
            all.push_str(&format!("--- {name} {}x{}\n{text}", size.0, size.1));
        };
        let mut full = Full::new(session(&medium, &machine));
        for question in full.session.questions() {
            full.session.at = Some(question);
            full.key(Key::Tab);
            full.key(Key::Enter);
            assert_eq!(full.session.at, Some(question));
            show(&question.key(), &full);
        }
        full.key(Key::Tab);
        show("all answers, incomplete", &full);
        for question in MORE {
            let (mut file, firmware) = raising(*question);
            let mut machine = machine.clone();
            machine.firmware = firmware;
            if *question == Q::Table {
                file = edited(&medium, &machine, file);
            }
            let mut full = Full::new(session(&medium, &machine));
            full.session.file = file;
            open(&mut full, *question);
            show(&question.key(), &full);
        }
        show(
            "all answers",
            &Full::new(Session::new(&medium, &machine, complete())),
        );
        full.session.file.root.password_hash = Some("*".repeat(3));
        full.key(Key::Control('c'));
        show("stopping", &full);
        full.key(Key::Char('n'));
        let plan: Vec<String> = (1..=60).map(|at| format!("line {at} of a plan")).collect();
        full.planned(&plan.join("\n"), "nvme0n1", true);
        full.key(Key::PageDown);
        typed(&mut full, "sda");
        show("plan", &full);
        full.planned(&plan.join("\n"), "nvme0n1", true);
        typed(&mut full, "nvme0n1");
        full.key(Key::Char('x'));
        show("passphrase", &full);
        full.planned("a plan", "nvme0n1", false);
        assert_eq!(typed(&mut full, "nvme0n1"), Action::Install);
        full.progress
            .event(Event::Package(3 << 20, 12 << 20, "busybox".into()));
        show("progress", &full);
        press_while_it_runs(&mut full, &[Key::Control('c'), Key::Char('y')]);
        show("progress, to be stopped", &full);
        full.over(Ok(vec!["the firmware's menu got no entry: it is full".into()]));
        show("installed", &full);
        full.over(Err("writing the root to /dev/nvme0n1: it was stopped".into()));
        show("failed", &full);
    }
    snapshot("full.txt", &all);
}

/// Questions that not everybody is asked, of those whose screens are more than a line.
const MORE: &[Question] = &[
    Q::Table,
    Q::Directory,
    Q::Keep,
    Q::SwapPartitions,
    Q::BiosDisk,
    Q::Roles,
    Q::Home,
    Q::Subvolumes,
    Q::Repositories,
    Q::Keys,
    Q::Interface,
    Q::Address,
    Q::Gateway,
    Q::Dns,
    Q::Nvram,
];

/// Opens a question from all answers.
fn open(full: &mut Full, question: Question) {
    if full.page() == Page::Question {
        full.key(Key::Tab);
    }
    full.key(Key::Home);
    let all = full.session.all();
    for _ in all.iter().take_while(|one| **one != question) {
        full.key(Key::Down);
    }
    full.key(Key::Enter);
    assert_eq!(full.session.at, Some(question));
}

fn press_while_it_runs(full: &mut Full, keys: &[Key]) -> bool {
    keys.iter().fold(false, |_, key| full.progress_key(*key))
}

/// Answers with which a plan could be made.
fn complete() -> AnswersFile {
    let mut file = AnswersFile {
        schema: crate::answers::typed::SCHEMA,
        ..AnswersFile::default()
    };
    file.disk.select = Some("nvme-WD_Black_N1".into());
    file.disk.layout = Some("erase".into());
    file.system.hostname = Some("box".into());
    file.root.password_hash = Some(
        "$6$a$b./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEFGHI".into(),
    );
    file.user.push(UserTable {
        name: "ann".into(),
        ..UserTable::default()
    });
    file
}

/// Complete answers that raise a question, and the firmware on which they do.
fn raising(question: Question) -> (AnswersFile, Firmware) {
    let mut file = complete();
    let mut firmware = Firmware::Bios;
    match question {
        Q::Directory | Q::Keep | Q::SwapPartitions | Q::BiosDisk => {
            file.disk.select = None;
            file.disk.layout = Some("directory".into());
            file.disk.directory = Some("/mnt".into());
        }
        Q::Replace | Q::Esp | Q::Home => {
            file.disk.layout = Some("replace".into());
            file.disk.replace = vec![3];
        }
        Q::Roles => {
            file.disk.layout = Some("partitions".into());
            file.disk.partitions.insert("root".into(), 3);
        }
        Q::Table => {
            file.disk.layout = Some("table".into());
            file.disk.delete = vec![3];
            file.disk.esp = Some(1);
            file.disk.partition.push(crate::answers::typed::PartitionTable {
                used: "root".into(),
                ..Default::default()
            });
        }
        Q::Subvolumes | Q::Compression => file.disk.filesystem = Some("btrfs".into()),
        Q::Repositories | Q::Mirrors | Q::Keys => {
            file.source.kind = Some("network".into());
            file.source.repositories = vec!["v3 https://example.org/main".into()];
        }
        Q::Interface | Q::Address | Q::Gateway | Q::Dns => {
            file.network.kind = Some("static".into());
            file.network.interface = Some("enp1s0".into());
            file.network.address = Some("192.0.2.10/24".into());
        }
        Q::Nvram => firmware = Firmware::Uefi { bits: Some(64) },
        Q::Select
        | Q::Layout
        | Q::FileSystem
        | Q::Encrypt
        | Q::Swap
        | Q::SwapFile
        | Q::Zram
        | Q::EspSize
        | Q::BootSize
        | Q::RootSize
        | Q::Source
        | Q::Kernel
        | Q::Sets
        | Q::Extra
        | Q::Allocator
        | Q::Hostname
        | Q::Timezone
        | Q::Keymap
        | Q::Locale
        | Q::Network
        | Q::Services
        | Q::RootPassword
        | Q::RootKeys
        | Q::UserName(_)
        | Q::UserPassword(_)
        | Q::UserAdmin(_)
        | Q::UserGroups(_)
        | Q::UserShell(_)
        | Q::UserKeys(_)
        | Q::MoreUsers
        | Q::Serial
        | Q::Timeout
        | Q::Arguments => {}
    }
    (file, firmware)
}

/// A table that somebody has worked on.
fn edited(medium: &Medium, machine: &Machine, file: AnswersFile) -> AnswersFile {
    let mut session = Session::new(medium, machine, file);
    for line in [
        "clear",
        "delete 3",
        "use 1 esp",
        "use 5 bios-boot",
        "new root 40 GiB",
        "new swap rest",
    ] {
        session.take(Q::Table, line).unwrap();
    }
    session.file.disk.home = Some(4);
    session.file
}

#[test]
fn every_screen_is_reached_line_by_line() {
    let (_folder, medium) = medium();
    for question in EVERY {
        let (file, firmware) = raising(*question);
        let mut machine = machine();
        machine.firmware = firmware;
        let mut session = Session::new(&medium, &machine, file);
        assert!(session.problems().is_empty(), "{:?}", session.problems());
        let all = session.all();
        let number = all.iter().position(|one| one == question);
        let number = number.unwrap_or_else(|| panic!("{question:?} is not raised")) + 1;
        let mut script = Script::new(&["!a", &number.to_string(), "<", "", "!q"]);
        script.rows = Some(14);
        assert_eq!(session.run(&mut script).unwrap(), End::Stopped);
        let first = Q::Select.key();
        let first = if session.file.disk.select.is_none() {
            Q::Layout.key()
        } else {
            first
        };
        assert_eq!(
            script.keys,
            [first.as_str(), "", &question.key(), "", &first],
            "{question:?}"
        );
        // And the line that leads there names it.
        let mut pages = Script::new(&["!a", "+", "+", "+", "+", "-", "!q"]);
        pages.rows = Some(14);
        session.run(&mut pages).unwrap();
        let line = format!("\n{number}: ");
        assert!(
            pages.shown[1..].iter().any(|page| page.contains(&line)),
            "{question:?}"
        );
    }
}

#[test]
fn all_answers_are_listed_changed_and_shown_before_the_plan() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut session = Session::new(&medium, &machine, complete());
    session.at = Some(Q::MoreUsers);
    let number = |question: Q, session: &Session| {
        let all = session.all();
        (all.iter().position(|one| *one == question).unwrap() + 1).to_string()
    };
    let locale = number(Q::Locale, &session);
    let groups = number(Q::UserGroups(0), &session);
    let more = number(Q::MoreUsers, &session);
    let mut script = Script::new(&[
        // Two are changed on the way, and one comes back to where one was.
        "!a",
        &locale,
        "not a locale!",
        "C.UTF-8",
        &groups,
        "audio video",
        "999",
        "",
        "no",
        // Before the plan: another user, who is asked for as a whole.
        &more,
        "yes",
        "bob",
        "none",
        "no",
        "",
    ]);
    assert_eq!(session.run(&mut script).unwrap(), End::Answered);
    assert_eq!(session.file.system.locale.as_deref(), Some("C.UTF-8"));
    assert_eq!(session.file.user[0].groups, ["audio", "video"]);
    assert_eq!(session.file.user[1].name, "bob");
    let shown = &script.shown;
    assert!(shown[0].contains("`!a` lists all answers"), "{}", shown[0]);
    assert!(
        shown[1].contains("All answers") && shown[1].contains(": Locale: none"),
        "{}",
        shown[1]
    );
    assert!(shown[3].contains("That will not do"), "{}", shown[3]);
    assert!(shown[4].contains(": Locale: C.UTF-8"), "{}", shown[4]);
    assert!(shown[6].contains(": ann, groups: audio video"), "{}", shown[6]);
    assert!(shown[7].contains("type a number from 1 to"), "{}", shown[7]);
    assert_eq!(script.keys[8], Q::MoreUsers.key());
    let last = shown.last().unwrap();
    assert!(
        last.contains("All answers") && last.contains("User: bob"),
        "{last}"
    );
    // What cannot be is told, and not planned.
    let mut session = Session::new(&medium, &machine, complete());
    session.at = Some(Q::MoreUsers);
    let root = number(Q::RootPassword, &session);
    let mut script = Script::new(&["no", &root, "none", "", "!s"]);
    assert_eq!(session.run(&mut script).unwrap(), End::Save);
    assert!(
        script.shown[4].contains("nobody could log in"),
        "{}",
        script.shown[4]
    );
}

/// Whatever screen asks for one: what is in it stands there, at 80 by 24, and so does the line that is typed.
#[test]
fn nobody_picks_a_partition_blind() {
    let (_folder, medium) = medium();
    let mut machine = machine();
    let facts = [
        "vfat \"ESP\", boot loaders: Microsoft attic",
        "ntfs \"Windows\"",
        "ext4 \"root\", Chimera Linux (host attic)",
        "xfs \"photos\u{fffd}[2J\", files not looked at",
        "LUKS (encrypted)",
    ];
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    for question in [Q::Replace, Q::Roles, Q::Esp, Q::Home] {
        let (file, _) = raising(question);
        let mut full = Full::new(Session::new(&medium, &machine, file.clone()));
        open(&mut full, question);
        let text = flat(&drawn(&full, (80, 24), SERIAL));
        let lines = render(&full.session.screen(question), 1, 1, None, (80, 24), true).join("\n");
        for fact in facts {
            assert!(text.contains(fact), "{question:?}: {fact}\n{text}");
            assert!(flat(&lines).contains(fact), "{question:?}: {fact}\n{lines}");
        }
    }
    // The disk itself says what would be lost with it.
    let disks = Session::new(&medium, &machine, complete()).screen(Q::Select);
    let text = &disks.choices[1].text;
    assert!(
        text.contains("GPT, 6 partitions") && text.contains("Chimera Linux (host attic)"),
        "{text}"
    );
    let (file, _) = raising(Q::SwapPartitions);
    let body = |question| {
        let session = Session::new(&medium, &machine, file.clone());
        session.screen(question).body.join("\n")
    };
    let swaps = body(Q::SwapPartitions);
    assert!(swaps.contains("/dev/nvme0n1p6: 4.2 GB, swap"), "{swaps}");
    let disks = body(Q::BiosDisk);
    for name in ["nvme-WD_Black_N1: /dev/nvme0n1", "ata-Other_S2: /dev/sdb"] {
        assert!(disks.contains(name), "{name}\n{disks}");
    }
    // Of the table the marked row in full; line by line every row.
    let mut full = Full::new(Session::new(&medium, &machine, raising(Q::Table).0));
    open(&mut full, Q::Table);
    press(&mut full, &[Key::Down; 3]);
    let text = flat(&drawn(&full, (80, 24), SERIAL));
    for part in [
        "xfs \"photos",
        "files not looked at, type Linux data",
        "vfat \"ESP\"",
        "LUKS",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let rows = render(&full.session.screen(Q::Table), 1, 1, None, (80, 24), true).join("\n");
    for fact in facts {
        assert!(flat(&rows).contains(fact), "{fact}\n{rows}");
    }
    drop(full);
    // More than fit: one reads through them, and sees what one types.
    let disk = &mut machine.disks[2];
    for number in 7..=30 {
        let mut more = disk.partitions[2].clone();
        (more.number, more.contents.label) = (number, Some(format!("number {number}")));
        disk.partitions.push(more);
    }
    let mut full = Full::new(Session::new(&medium, &machine, raising(Q::Replace).0));
    open(&mut full, Q::Replace);
    let mut seen = String::new();
    for _ in 0..6 {
        let page = drawn(&full, (80, 24), SERIAL);
        assert!(page.contains("\n > 3"), "{page}");
        seen.push_str(&page);
        full.key(Key::PageDown);
    }
    for number in 7..=30 {
        assert!(seen.contains(&format!("number {number}\"")), "{number}\n{seen}");
    }
    // Nothing that is not there is taken.
    for (question, line) in [
        (Q::Replace, "3 31"),
        (Q::Roles, "root=31"),
        (Q::Esp, "31"),
        (Q::Home, "31"),
    ] {
        let mut session = Session::new(&medium, &machine, raising(question).0);
        let before = session.file.clone();
        assert!(
            session
                .take(question, line)
                .unwrap_err()
                .contains("no partition 31")
        );
        assert_eq!(session.file, before);
    }
}

#[test]
fn interfaces_are_offered_and_others_can_be_named() {
    let (_folder, medium) = medium();
    let mut machine = machine();
    let taken = |machine: &Machine, line: &str| {
        let mut session = Session::new(&medium, machine, complete());
        session.take(Q::Network, "static").unwrap();
        session.take(Q::Interface, line).unwrap();
        session.file.network.interface.unwrap()
    };
    // The first with a link, not the first.
    assert_eq!(taken(&machine, ""), "enp1s0");
    assert_eq!(taken(&machine, "usb0"), "usb0");
    let (file, _) = raising(Q::Interface);
    let mut full = Full::new(Session::new(&medium, &machine, file));
    open(&mut full, Q::Interface);
    let text = drawn(&full, (80, 24), SERIAL);
    assert!(
        text.contains("wlan0: wireless, down, 52:54:00:12:34:56"),
        "{text}"
    );
    press(&mut full, &[Key::Down, Key::Enter]);
    assert_eq!(full.session.file.network.interface.as_deref(), Some("eth0"));
    let lines = render(&full.session.screen(Q::Interface), 1, 1, None, (80, 24), true).join("\n");
    assert!(lines.contains("enp1s0: wired, link"), "{lines}");
    drop(full);
    machine.network[1].link = Some(false);
    assert_eq!(taken(&machine, ""), "eth0");
    machine.network.clear();
    assert_eq!(taken(&machine, ""), "eth0");
}

#[test]
fn what_was_said_of_one_disk_does_not_count_for_another() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut file = complete();
    let disk = &mut file.disk;
    disk.replace = vec![3];
    disk.partitions.insert("root".into(), 3);
    disk.delete = vec![4];
    disk.partition.push(Default::default());
    (disk.new_table, disk.esp, disk.home) = (true, Some(1), Some(2));
    file.confirm.serial = Some("N1".into());
    let mut session = Session::new(&medium, &machine, file.clone());
    // The same disk, by another of its names.
    session.file.disk.select = Some("N1".into());
    assert_eq!(session.current(Q::Select), "nvme-WD_Black_N1");
    session.take(Q::Select, "").unwrap();
    // Consent is given when the plan stands there.
    file.confirm = Default::default();
    assert_eq!(session.file, file);
    session.take(Q::Select, "1").unwrap();
    let mut expected = complete();
    expected.disk.select = Some("ata-Model_S1".into());
    assert_eq!(session.file, expected);
}

#[test]
fn the_layout_of_the_passphrase_is_told_where_both_are_chosen() {
    let (_folder, mut medium) = medium();
    medium.install.initramfs.keymaps = false;
    let machine = machine();
    let mut file = complete();
    file.disk.encrypt = true;
    let mut session = Session::new(&medium, &machine, file);
    let told =
        |session: &Session, question: Q| session.screen(question).body.join(" ").contains("layout, US");
    assert!(!told(&session, Q::Encrypt) && !told(&session, Q::Keymap));
    session.take(Q::Keymap, "de").unwrap();
    assert!(told(&session, Q::Encrypt) && told(&session, Q::Keymap));
    let mut full = Full::new(session);
    full.planned("a plan", "nvme0n1", true);
    typed(&mut full, "nvme0n1");
    let text = drawn(&full, (80, 24), SERIAL);
    assert!(text.contains("keyboard layout, US"), "{text}");
    full.session.take(Q::Keymap, "us").unwrap();
    assert!(!told(&full.session, Q::Keymap));
}

/// A console of the kernel gets the layout that is chosen; where it does not, and only there, it is said.
#[test]
fn this_console_has_the_chosen_layout_or_it_is_said() {
    let (_folder, medium) = medium();
    let machine = machine();
    let asked = RefCell::new(Vec::new());
    let mut file = complete();
    file.disk.encrypt = true;
    let mut session = Session::new(&medium, &machine, file).with_keyboard(Box::new(|name| match name {
        "cz" => Err("there is no such file".to_owned()),
        name => {
            asked.borrow_mut().push(name.to_owned());
            Ok(())
        }
    }));
    let told = |session: &Session, word: &str| session.screen(Q::Keymap).body.join(" ").contains(word);
    session.take(Q::Keymap, "de").unwrap();
    assert!(!told(&session, "layout"));
    session.take(Q::Keymap, "cz").unwrap();
    assert!(told(&session, "there is no such file") && told(&session, "`cz`"));
    session.take(Q::Keymap, "none").unwrap();
    assert!(!told(&session, "layout ("));
    assert_eq!(*asked.borrow(), ["de", "us"]);
}

/// Ctrl-C can only be obeyed between two writes: until then the screen says that it was heard.
#[test]
fn a_stop_that_is_waited_for_is_shown() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut full = Full::new(Session::new(&medium, &machine, complete()));
    full.planned("a plan", "nvme0n1", false);
    assert_eq!(typed(&mut full, "nvme0n1"), Action::Install);
    full.progress.event(Event::Assemble);
    let heard = |full: &Full| drawn(full, (80, 24), SERIAL).contains("It was heard");
    assert!(drawn(&full, (80, 24), SERIAL).contains("0 s in this stage"));
    assert!(!press_while_it_runs(&mut full, &[Key::Control('c'), Key::Enter]) && !heard(&full));
    assert!(press_while_it_runs(&mut full, &[Key::Control('c'), Key::Char('y')]) && heard(&full));
    // Once is enough.
    assert!(!press_while_it_runs(&mut full, &[Key::Control('c'), Key::Char('y')]) && heard(&full));
    // The next one begins afresh.
    full.over(Err("it was stopped".into()));
    full.planned("a plan", "nvme0n1", false);
    assert_eq!(typed(&mut full, "nvme0n1"), Action::Install);
    assert!(!heard(&full));
    full.stop_was_heard();
    assert!(heard(&full));
}

#[test]
fn a_whole_run_with_keys() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut full = Full::new(Session::new(&medium, &machine, AnswersFile::default()));
    assert_eq!(full.page(), Page::Question);
    // The second disk, erased, encrypted.
    press(
        &mut full,
        &[
            Key::Down,
            Key::Enter,
            Key::Enter,
            Key::Enter,
            Key::Char('2'),
            Key::Enter,
        ],
    );
    assert!(full.session.file.disk.encrypt);
    // Swap file, zram, source, kernel.
    typed(&mut full, "64 KiB");
    assert!(drawn(&full, (80, 24), SERIAL).contains("between 1 MiB"));
    press(&mut full, &[Key::Control('u')]);
    typed(&mut full, "1 GiB");
    // Of the sets the second.
    press(&mut full, &[Key::Enter, Key::Enter, Key::Enter]);
    press(&mut full, &[Key::Down, Key::Char(' '), Key::Enter, Key::Enter]);
    assert_eq!(full.session.file.packages.sets, ["service-names"]);
    // The allocator: the third.
    press(&mut full, &[Key::Down, Key::Down, Key::Enter]);
    assert_eq!(full.session.file.packages.allocator.as_deref(), Some("mimalloc"));
    press(&mut full, &[Key::Enter, Key::Enter, Key::Enter, Key::Enter]);
    // Nobody can log in: the plan is not made, and one is led to where it is mended.
    press(&mut full, &[Key::Tab, Key::Tab]);
    assert_eq!(press(&mut full, &[Key::Enter]), Action::Draw);
    assert_eq!(full.session.at, Some(Question::RootPassword));
    typed(&mut full, "xyzzy");
    typed(&mut full, "xyzzz");
    assert!(drawn(&full, (80, 24), SERIAL).contains("differ"));
    typed(&mut full, "xyzzy");
    full.key(Key::Char('x'));
    assert!(!drawn(&full, (80, 24), SERIAL).contains("xyz"));
    full.key(Key::Backspace);
    typed(&mut full, "xyzzy");
    assert_eq!(press(&mut full, &[Key::End, Key::Enter]), Action::Plan);
    full.planned("plan", "nvme0n1", true);
    typed(&mut full, "nvme0n1");
    assert_eq!(full.page(), Page::Passphrase);
    typed(&mut full, "a long passphrase");
    assert_eq!(typed(&mut full, "a long passphrase"), Action::Install);
    assert_eq!(full.passphrase.take().unwrap().as_str(), "a long passphrase");
    // Ctrl-C asks, and only `y` stops.
    assert!(!full.progress_key(Key::Control('c')) && !full.progress_key(Key::Enter));
    assert!(!full.progress_key(Key::Control('c')) && full.progress_key(Key::Char('y')));
    full.over(Ok(vec!["a warning".into()]));
    assert_eq!(
        press(&mut full, &[Key::Down, Key::Down, Key::Enter]),
        Action::Leave(Leave::Shell)
    );
    assert!(full.last_words().contains("a warning"));
}

#[test]
fn stopping_asks_and_back_goes_back() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut full = Full::new(Session::new(&medium, &machine, AnswersFile::default()));
    press(&mut full, &[Key::Enter, Key::Down, Key::Enter]);
    assert_eq!(full.session.file.disk.layout.as_deref(), Some("alongside"));
    press(&mut full, &[Key::Escape]);
    assert_eq!(full.session.at, Some(Question::Layout));
    press(&mut full, &[Key::Up, Key::Enter]);
    assert_eq!(full.session.file.disk.layout.as_deref(), Some("erase"));
    assert_eq!(press(&mut full, &[Key::Control('c'), Key::Enter]), Action::Draw);
    assert_eq!(
        press(&mut full, &[Key::Control('c'), Key::Char('y')]),
        Action::Stop
    );
    assert_eq!(press(&mut full, &[Key::Control('s')]), Action::Save);
}

#[test]
fn names_are_completed() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut full = Full::new(session(&medium, &machine));
    full.session.at = Some(Question::Timezone);
    press(&mut full, &[Key::Tab, Key::Enter]);
    for character in "pra".chars() {
        full.key(Key::Char(character));
    }
    assert!(drawn(&full, (80, 24), SERIAL).contains("Europe/Prague"));
    press(&mut full, &[Key::Down, Key::Enter]);
    assert_eq!(
        full.session.file.system.timezone.as_deref(),
        Some("Europe/Prague")
    );
    assert_eq!(full.page(), Page::Overview);
}

#[test]
fn a_table_is_edited_with_keys_and_with_commands() {
    let (_folder, medium) = medium();
    let mut machine = machine();
    let disk = &mut machine.disks[0];
    for (number, start, size) in [(1, 1u64, 512u64), (2, 513, 4096)] {
        disk.partitions.push(Partition {
            name: format!("sda{number}"),
            number,
            start: start << 20,
            size: size << 20,
            label: Some(format!("part {number}")),
            ..Default::default()
        });
    }
    let mut full = Full::new(Session::new(&medium, &machine, AnswersFile::default()));
    press(&mut full, &[Key::Enter]);
    press(&mut full, &[Key::Char('5'), Key::Enter]);
    assert_eq!(full.session.at, Some(Question::Table));
    // No root yet: one is told, and stays.
    press(&mut full, &[Key::Enter]);
    assert!(drawn(&full, (80, 24), SERIAL).contains("becomes the root"));
    // The first is used as EFI system partition: root, boot, home, then esp.
    press(&mut full, &[Key::Char(' '); 4]);
    press(&mut full, &[Key::Down, Key::Char('d'), Key::Char('n')]);
    typed(&mut full, "root 3 GiB");
    press(&mut full, &[Key::Char(':')]);
    typed(&mut full, "new attic 1 GiB");
    assert!(drawn(&full, (80, 24), SERIAL).contains("`attic` is none of"));
    press(&mut full, &[Key::Control('u')]);
    typed(&mut full, "new home rest");
    let text = drawn(&full, (80, 24), SERIAL);
    for part in [
        "FORMATTED as esp",
        "DELETED",
        "new      3 GiB  root",
        "the rest  home",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    press(&mut full, &[Key::Enter]);
    assert_eq!(full.session.at, Some(Question::Esp));
    let mut file = full.session.file.clone();
    file.root.password_hash = Some(
        "$6$a$b./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABCDEFGHI".into(),
    );
    let text = file.text().unwrap();
    assert_eq!(AnswersFile::parse(&text, "saved").unwrap(), file, "{text}");
    let answers = file.resolve(Secrets::Look).unwrap();
    assert!(
        matches!(answers.disk.layout, crate::answers::Layout::Table(ref edited) if edited.used.len() == 3)
    );
    // Line by line the same.
    let mut session = Session::new(&medium, &machine, AnswersFile::default());
    let mut script = Script::new(&[
        "1",
        "table",
        "delete 2",
        "use 1 esp",
        "new root 3 GiB",
        "new home",
        "",
        "<",
        "!s",
    ]);
    assert_eq!(session.run(&mut script).unwrap(), End::Save);
    assert_eq!(session.file.disk.delete, [2]);
    assert_eq!(session.at, Some(Question::Table), "{:?}", session.at);
    assert!(script.shown[3].contains("DELETED"), "{}", script.shown[3]);
}
