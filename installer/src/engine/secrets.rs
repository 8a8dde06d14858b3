//! No password and no hash of one is anywhere but in `/etc/shadow`: everything that an installation leaves is searched.

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
            "password-hash = \"$6$rootsalt$roothash\"",
            &file("root-password", ROOT),
        )
        .replace(
            "password-hash = \"$6$annsalt$annhash\"",
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
fn on_disk(run: &Run, wanted: &str) -> usize {
    use rustix::fs::{SeekFrom, seek};
    let file = run.image.as_file();
    let (mut at, mut count) = (0, 0);
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        let end = seek(file, SeekFrom::Hole(start)).unwrap();
        let mut bytes = vec![0; (end - start) as usize];
        file.read_exact_at(&mut bytes, start).unwrap();
        let first = wanted.as_bytes()[0];
        count += (0..bytes.len())
            .filter(|&at| bytes[at] == first && bytes[at..].starts_with(wanted.as_bytes()))
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
    for record in ["plan.txt", "answers.toml"] {
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
