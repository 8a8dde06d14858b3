//! No password and no hash of one is anywhere but in `/etc/shadow`, and no passphrase or key anywhere: everything that an installation leaves is searched.
//! What the programs of a running system show (arguments, environment, logs, console) is searched in `builder/tests/installed`.

use super::tests::{ANSWERS, Run, run};
use super::*;
use crate::answers::Secrets;
use crate::device::Disk;
use std::io::Read as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};

/// Passwords as somebody types them; nothing else contains them by chance.
const ROOT: &str = "zebra-Tulip-4711-root";
const USER: &str = "zebra-Tulip-4711-user";

/// Answers whose passwords are in files, and which hashes they come to is drawn when they are read.
fn answers(folder: &Path) -> String {
    let file = |name: &str, password: &str| {
        let path = folder.join(name);
        std::fs::write(&path, format!("{password}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        format!("password-file = \"{}\"", path.display())
    };
    ANSWERS
        .replace(
            "password-hash = \"$6$rootsalt$roothash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789AB\"",
            &file("root-password", ROOT),
        )
        .replace(
            "password-hash = \"$6$annsalt$annhash./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz./0123456789ABC\"",
            &file("user-password", USER),
        )
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    // Most bytes of a disk are zeros: only what begins as the word does is compared.
    let first = wanted.as_bytes()[0];
    bytes
        .iter()
        .enumerate()
        .any(|(at, &byte)| byte == first && bytes[at..].starts_with(wanted.as_bytes()))
}

/// How often a word is on a disk; holes of the image are passed over, and words across two pieces are seen.
fn on_disk(run: &Run, wanted: impl AsRef<[u8]>) -> usize {
    let wanted = wanted.as_ref();
    use rustix::fs::{SeekFrom, seek};
    let file = run.image.as_file();
    let (mut at, mut count) = (0, 0);
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        let end = seek(file, SeekFrom::Hole(start)).unwrap();
        let mut bytes = vec![0; (end - start) as usize];
        file.read_exact_at(&mut bytes, start).unwrap();
        let first = wanted[0];
        count += (0..bytes.len())
            .filter(|&at| bytes[at] == first && bytes[at..].starts_with(wanted))
            .count();
        at = end;
    }
    count
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        if entry.file_type().unwrap().is_dir() {
            files(&entry.path(), found);
        } else {
            found.push(entry.path());
        }
    }
}

#[test]
fn no_secret_is_left_anywhere() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(&answers(folder.path()));
    let prepared = run.prepare().unwrap();
    let warnings = run.execute(&prepared);
    let resolved = run.file.resolve(Secrets::Read).unwrap();
    let tree = run.root(&prepared.plan);

    // The control: what is searched for is found where it belongs, and nowhere else of the tree.
    let shadow = String::from_utf8(tree.read(b"etc/shadow").unwrap().to_vec()).unwrap();
    let hashes: Vec<String> = shadow
        .lines()
        .filter_map(|line| line.split(':').nth(1))
        .filter(|field| field.starts_with("$6$"))
        .map(str::to_owned)
        .collect();
    assert_eq!(hashes.len(), 2, "{shadow}");
    for hash in &hashes {
        assert_eq!(on_disk(&run, hash), 1, "once, in /etc/shadow");
    }
    for entry in tree.walk() {
        let Some(content) = entry.inode.content() else {
            continue;
        };
        let name = String::from_utf8_lossy(entry.relative()).into_owned();
        for hash in &hashes {
            if contains(content.bytes(), hash) {
                assert_eq!(name, "etc/shadow");
                assert_eq!(
                    entry.inode.metadata.mode & 0o007,
                    0,
                    "{name} is open to everybody"
                );
            }
        }
    }
    // Passwords are nowhere on the disk: not in files, the journal, its copies or what is between.
    for password in [ROOT, USER] {
        assert_eq!(on_disk(&run, password), 0, "{password}");
    }
    // Records of the installation are there, for root alone.
    for record in ["plan.txt", "answers.toml", "log.txt"] {
        let path = format!("var/log/lycia-install/{record}");
        let id = tree.resolve(path.as_bytes(), lycia_tree::Follow::All).unwrap();
        assert_eq!(tree.inode(id).metadata.mode, 0o600, "{path}");
    }
    // What is shown, logged, saved, or printed of a value by accident.
    let mut device = Disk::open_read(run.image.path(), 512).unwrap();
    let journal = Journal::find(&mut device).unwrap().expect("the journal stays");
    let said = [
        prepared.plan.text(),
        prepared.plan.json().unwrap(),
        format!("{:?}", prepared.plan),
        format!("{:?}", prepared.answers),
        format!("{resolved:?}"),
        format!("{:?}", run.file.without_secrets()),
        run.file.without_secrets().text().unwrap(),
        format!("{journal:?}"),
        warnings.join("\n"),
    ];
    let mut environment = Vec::new();
    for file in ["environ", "cmdline"] {
        let path = format!("/proc/self/{file}");
        std::fs::File::open(path)
            .unwrap()
            .read_to_end(&mut environment)
            .unwrap();
    }
    // What stayed on the medium.
    let mut on_medium = Vec::new();
    files(run.fixture.folder.path(), &mut on_medium);
    assert!(on_medium.len() > 5);
    for secret in [ROOT, USER].into_iter().chain(hashes.iter().map(String::as_str)) {
        for text in &said {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(!contains(&environment, secret));
        for path in &on_medium {
            assert!(
                !contains(&std::fs::read(path).unwrap(), secret),
                "{}",
                path.display()
            );
        }
    }
}

/// The passphrase and the key of an encrypted root are nowhere: not beside it, in what boots it, nor inside.
#[test]
fn no_passphrase_and_no_key_is_left_anywhere() {
    const PASSPHRASE: &str = "zebra-Tulip-4711-disk";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("passphrase");
    std::fs::write(&file, format!("{PASSPHRASE}\n")).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    let encrypted = format!(
        "boot-size = \"200 MiB\"\nencrypt = true\npassphrase-file = \"{}\"\n",
        file.display()
    );
    let run = run(&answers(folder.path()).replace("swap-size = \"8 MiB\"\n", &encrypted));
    let prepared = run.prepare().unwrap();
    let warnings = run.execute(&prepared);
    let mut device = Disk::open_read(run.image.path(), 512).unwrap();
    let span = |action| prepared.plan.region(action).unwrap().span;
    let (header, data) = (span(Action::LuksHeader), span(Action::Ext4));
    let opened = lycia_luks::open(
        &mut |at, bytes| device.read_at(header.start + at, bytes),
        PASSPHRASE.as_bytes(),
    )
    .unwrap();
    for half in opened.key.chunks(lycia_luks::KEY_SIZE / 2) {
        assert_eq!(on_disk(&run, half), 0, "the key");
    }
    // A hash begins with a salt: what is written in the clear has none of them.
    for secret in [PASSPHRASE, ROOT, USER] {
        assert_eq!(on_disk(&run, secret), 0, "{secret}");
    }
    // Inside, where hashes are in /etc/shadow alone.
    let mut inside = crate::encryption::Inside::new(&mut device, data, opened.cipher().unwrap());
    let mut reader =
        lycia_media::ext4::Reader::open(Reading::new(&mut inside), lycia_media::ext4::Limits::default())
            .unwrap();
    let tree = reader.tree().unwrap();
    let shadow = String::from_utf8(tree.read(b"etc/shadow").unwrap().to_vec()).unwrap();
    let fields = shadow.lines().filter_map(|line| line.split(':').nth(1));
    let hashes: Vec<&str> = fields.filter(|field| field.starts_with("$6$")).collect();
    assert_eq!(hashes.len(), 2, "{shadow}");
    let key: String = opened.key.iter().map(|byte| format!("{byte:02x}")).collect();
    for entry in tree.walk() {
        let Some(content) = entry.inode.content() else {
            continue;
        };
        let name = String::from_utf8_lossy(entry.relative()).into_owned();
        for secret in [PASSPHRASE, ROOT, USER, &key[..64], &key[64..]] {
            assert!(!contains(content.bytes(), secret), "{name}");
        }
        let open = hashes.iter().any(|hash| contains(content.bytes(), hash));
        assert!(!open || name == "etc/shadow", "{name}");
    }
    for hash in &hashes {
        assert_eq!(on_disk(&run, hash), 0, "a hash outside of the encrypted root");
    }
    let journal = Journal::find(&mut Disk::open_read(run.image.path(), 512).unwrap()).unwrap();
    let said = [
        prepared.plan.text(),
        prepared.plan.json().unwrap(),
        format!("{:?}{:?}{opened:?}{journal:?}", prepared.plan, prepared.answers),
        run.file.without_secrets().text().unwrap(),
        warnings.join("\n"),
    ];
    for secret in [PASSPHRASE, &key[..64], &key[64..]] {
        for text in &said {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

/// Answers come from servers and drives, and what is wrong with them is said on consoles and in logs.
#[test]
fn what_is_wrong_with_answers_is_said_without_what_they_hold() {
    const HASH: &str = "$6$zebra$Tulip4711";
    for lines in [
        // In the wrong place, of the wrong type, cut off.
        "password-hash = \"HASH\"",
        "[root]\npassword-fd = \"HASH\"",
        "[root]\npassword-hash = [\"HASH\"]",
        "[root]\npasword-hash = \"HASH\"",
        "[root]\npassword-hash = \"HASH",
        "[root]\npassword-hash = \"HASH:0\"",
        "[root]\npassword-hash = \"1HASH\"",
        "user = \"HASH\"",
        "[[user]]\nname = \"a\"\npassword-file = \"/nowhere\"\npassword-hash = \"HASH\"",
        "[disk]\nencrypt = \"HASH\"",
        "[disk]\nencrypt = true\npassphrase-fd = \"HASH\"",
    ] {
        let text = format!("schema = 1\n{}\n", lines.replace("HASH", HASH));
        let said = match AnswersFile::parse(&text, "http://server/answers.toml") {
            Err(error) => format!("{error}{error:?}"),
            Ok(file) => match file.resolve(Secrets::Read) {
                Err(problems) => format!("{problems}{problems:?}"),
                Ok(answers) => format!("{answers:?}"),
            },
        };
        assert!(!said.contains("Tulip"), "{text}\n{said}");
    }
}
