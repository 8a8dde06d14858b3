use super::full::{Action, Full, Leave, Page};
use super::keyboard::Key;
use super::*;
use crate::answers::Secrets;
use crate::answers::typed::{AnswersFile, UserTable};
use crate::engine::Event;
use crate::medium::Medium;
use crate::plan::tests::disk;
use crate::probe::{Firmware, Machine};
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
    Machine {
        schema: 1,
        firmware: Firmware::Bios,
        memory: None,
        disks: vec![disk(8 << 30, 512), used, plain],
        network: Vec::new(),
    }
}

/// Lines that somebody types, and everything that was shown.
struct Script {
    lines: Vec<&'static str>,
    shown: Vec<String>,
}

impl Terminal for Script {
    fn show(&mut self, screen: &Screen, number: usize, of: usize, problem: Option<&str>) -> io::Result<()> {
        self.shown
            .push(render(screen, number, of, problem, (80, 24), false).join("\n"));
        Ok(())
    }

    fn line(&mut self, _: bool) -> io::Result<Option<Zeroizing<String>>> {
        Ok((!self.lines.is_empty()).then(|| self.lines.remove(0).to_owned().into()))
    }
}

fn run(lines: &[&'static str]) -> (End, AnswersFile, Vec<String>) {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut session = Session::new(&medium, &machine, AnswersFile::default());
    let mut script = Script {
        lines: lines.to_vec(),
        shown: Vec::new(),
    };
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
    ]);
    assert_eq!(end, End::Answered);
    assert_eq!(file.disk.select.as_deref(), Some("nvme-WD_Black_N1"));
    assert_eq!(file.packages.kernel.as_deref(), Some("linux-generic"));
    assert_eq!(file.packages.allocator.as_deref(), Some("mallocng"));
    assert_eq!(file.packages.extra, ["curl", "vim>=9"]);
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
        "1", "3", "x", "3 4", "<", "<", "1", "", "", "", "", "", "", "", "", "", "_bad", "good", "", "", "",
        "none", "none", "pw", "pw2", "pw", "pw", "<", "none",
    ]);
    assert_eq!(end, End::Stopped, "{}", shown.last().unwrap());
    assert_eq!(file.disk.layout.as_deref(), Some("erase"));
    assert!(file.disk.replace.is_empty());
    assert_eq!(file.system.hostname.as_deref(), Some("good"));
    let all = shown.join("\n");
    assert!(
        all.contains("write numbers") && all.contains("is no host name"),
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
        "source.keys",
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
        full.progress.event(Event::Package(3, 12, "busybox".into()));
        show("progress", &full);
        full.over(Err("writing the root to /dev/nvme0n1: it was stopped".into()));
        show("failed", &full);
    }
    snapshot("full.txt", &all);
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
    press(&mut full, &[Key::Enter, Key::Enter, Key::Enter, Key::Enter]);
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
        disk.partitions.push(crate::probe::Partition {
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
    file.root.password_hash = Some("$6$a$b".into());
    let text = file.text().unwrap();
    assert_eq!(AnswersFile::parse(&text, "saved").unwrap(), file, "{text}");
    let answers = file.resolve(Secrets::Look).unwrap();
    assert!(
        matches!(answers.disk.layout, crate::answers::Layout::Table(ref edited) if edited.used.len() == 3)
    );
    // Line by line the same.
    let mut session = Session::new(&medium, &machine, AnswersFile::default());
    let mut script = Script {
        lines: vec![
            "1",
            "table",
            "delete 2",
            "use 1 esp",
            "new root 3 GiB",
            "new home",
            "",
            "<",
            "!s",
        ],
        shown: Vec::new(),
    };
    assert_eq!(session.run(&mut script).unwrap(), End::Save);
    assert_eq!(session.file.disk.delete, [2]);
    assert_eq!(session.at, Some(Question::Table), "{:?}", session.at);
    assert!(script.shown[3].contains("DELETED"), "{}", script.shown[3]);
}
