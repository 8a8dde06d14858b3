use super::*;
use crate::answers::Secrets;
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
        "2 GiB",
        "1 GiB",
        "512 MiB",
        "linux-generic",
        "2",
        "box",
        "Europe/Prague",
        "us",
        "",
        "secret",
        "secret",
        "ann",
        "hidden",
        "hidden",
    ]);
    assert_eq!(end, End::Answered);
    assert_eq!(file.disk.select.as_deref(), Some("nvme-WD_Black_N1"));
    assert_eq!(file.packages.kernel.as_deref(), Some("linux-generic"));
    assert_eq!(file.packages.allocator.as_deref(), Some("mallocng"));
    let answers = file.resolve(Secrets::Read).unwrap();
    let disk = &answers.disk;
    assert_eq!(
        (disk.swap_size, disk.swap_file, disk.zram),
        (Some(2 << 30), Some(1 << 30), Some(512 << 20))
    );
    assert!(answers.users[0].admin && answers.users[0].login.password.is_some());
    // What was saved is what an answers file says, without a password in clear.
    let text = file.text().unwrap();
    assert!(!text.contains("secret") && !text.contains("hidden"), "{text}");
    assert_eq!(AnswersFile::parse(&text, "saved").unwrap(), file);
}

#[test]
fn one_can_go_back_and_change() {
    let (end, file, shown) = run(&[
        "1", "3", "x", "3 4", "<", "<", "1", "", "", "", "", "", "", "_bad", "good", "", "", "", "none",
        "none", "pw", "pw2", "pw", "pw", "<", "none",
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
fn every_screen_fits_and_is_as_it_was() {
    let (_folder, medium) = medium();
    let machine = machine();
    let mut session = Session::new(&medium, &machine, AnswersFile::default());
    session.file.disk.layout = Some("replace".into());
    session.file.user.push(UserTable {
        name: "ann".into(),
        ..UserTable::default()
    });
    let keys = session.keys();
    assert_eq!(keys.len(), KEYS.len());
    let mut all = String::new();
    for size in [(80, 24), (132, 43)] {
        for (number, key) in keys.iter().enumerate() {
            let lines = render(&session.screen(key), number + 1, keys.len(), None, size, false);
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
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ui/screens.txt");
    if std::env::var_os("LYCIA_WRITE_SNAPSHOTS").is_some() {
        std::fs::write(&path, &all).unwrap();
    }
    let saved = std::fs::read_to_string(&path)
        .expect("LYCIA_WRITE_SNAPSHOTS=1 cargo test -p lycia-installer writes the snapshots");
    assert_eq!(
        all, saved,
        "LYCIA_WRITE_SNAPSHOTS=1 writes them again where this is meant"
    );
}
