//! A volume as debugfs sees it.

use std::collections::HashMap;
use std::io::Write;
use std::path::Path;

use lycia_tree::{InodeId, Node, Tree, display};
use tempfile::{NamedTempFile, TempDir};

use crate::oracle;

/// What debugfs says to one command.
pub fn run(image: &Path, command: &str) -> String {
    oracle::run(
        "e2fsprogs",
        "debugfs",
        &["-R", command, image.to_str().unwrap()],
        b"",
    )
}

/// What debugfs says to each of the commands, as bytes.
fn run_all(image: &Path, commands: &[String]) -> Vec<Vec<u8>> {
    let mut script = NamedTempFile::new().unwrap();
    for command in commands {
        writeln!(script, "{command}").unwrap();
    }
    let arguments = ["-f", script.path().to_str().unwrap(), image.to_str().unwrap()];
    let output = oracle::output("e2fsprogs", "debugfs", &arguments, b"");
    assert!(output.status.success());
    // Each command is repeated behind a prompt.
    let mut answers = Vec::new();
    let mut rest = output.stdout.as_slice();
    for command in commands {
        let prompt = format!("debugfs: {command}\n").into_bytes();
        let at = find(rest, &prompt).unwrap_or_else(|| panic!("{command}: no answer"));
        if !answers.is_empty() || at > 0 {
            answers.push(rest[..at].to_vec());
        }
        rest = &rest[at + prompt.len()..];
    }
    answers.push(rest.to_vec());
    if answers.len() > commands.len() {
        answers.remove(0);
    }
    answers
}

fn find(bytes: &[u8], part: &[u8]) -> Option<usize> {
    bytes.windows(part.len()).position(|window| window == part)
}

/// The inodes that the directory `inode` names, with their modes and owners.
fn list(image: &Path, inode: u32) -> HashMap<Vec<u8>, (u32, u32, u32, u32)> {
    let answer = run_all(image, &[format!("ls -p <{inode}>")]).remove(0);
    let mut found = HashMap::new();
    let mut rest = answer.as_slice();
    // /inode/mode/uid/gid/name/size/, where the name may hold anything but a slash.
    while rest.first() == Some(&b'/') {
        let mut fields = rest[1..].splitn(7, |&byte| byte == b'/');
        let mut field = || fields.next().unwrap();
        let number =
            |bytes: &[u8], radix| u32::from_str_radix(std::str::from_utf8(bytes).unwrap(), radix).unwrap();
        let values = (
            number(field(), 10),
            number(field(), 8),
            number(field(), 10),
            number(field(), 10),
        );
        found.insert(field().to_vec(), values);
        field();
        let left = field();
        rest = left.strip_prefix(b"\n").unwrap_or(left);
    }
    found
}

/// Compares types, modes, owners, sizes, times, contents, links, device numbers and attributes.
pub fn compare_with_debugfs(tree: &Tree, image: &NamedTempFile) {
    let path = image.path();
    let contents = TempDir::new().unwrap();
    let mut entries: Vec<(InodeId, u32, Vec<u8>)> = Vec::new();
    let mut directories = vec![(tree.root(), 2, b"/".to_vec())];
    let mut numbers: HashMap<InodeId, u32> = HashMap::new();
    while let Some((id, number, name)) = directories.pop() {
        let found = list(path, number);
        assert_eq!(found[b".".as_slice()].0, number);
        let own = tree.inode(id).entries().unwrap();
        let added = if number == 2 { 1 } else { 0 };
        assert_eq!(found.len(), own.len() + 2 + added, "{}", display(&name));
        for (child_name, &child) in own {
            let (inode, mode, uid, gid) = found[child_name];
            let path = [name.as_slice(), b"/", child_name].concat();
            let wanted = tree.inode(child);
            assert_eq!(mode, u32::from(wanted.mode()), "{}", display(&path));
            assert_eq!(
                (uid, gid),
                (wanted.metadata.uid, wanted.metadata.gid),
                "{}",
                display(&path)
            );
            assert_eq!(
                *numbers.entry(child).or_insert(inode),
                inode,
                "{}",
                display(&path)
            );
            if wanted.is_directory() {
                assert_eq!(list(path_of(image), inode)[b"..".as_slice()].0, number);
                directories.push((child, inode, path.clone()));
            }
            entries.push((child, inode, path));
        }
    }
    let commands: Vec<String> = entries
        .iter()
        .flat_map(|(_, number, _)| {
            let file = contents.path().join(number.to_string());
            [
                format!("stat <{number}>"),
                format!("ea_list <{number}>"),
                format!("dump <{number}> {}", file.display()),
            ]
        })
        .collect();
    let answers = run_all(path, &commands);
    for ((id, number, name), answers) in entries.iter().zip(answers.chunks(3)) {
        let wanted = tree.inode(*id);
        let name = display(name);
        let stat = String::from_utf8_lossy(&answers[0]);
        let time = wanted.metadata.mtime;
        let epoch = (time.seconds + (1 << 31)) >> 32;
        let shown = format!(
            " mtime: 0x{:08x}:{:08x} ",
            time.seconds as u32,
            (u64::from(time.nanoseconds) << 2 | epoch as u64) as u32
        );
        assert!(stat.contains(&shown), "{name}: {shown}\n{stat}");
        let links = match wanted.entries() {
            Some(entries) => {
                2 + entries
                    .values()
                    .filter(|&&child| tree.inode(child).is_directory())
                    .count()
            }
            None => wanted.names() as usize,
        };
        assert!(stat.contains(&format!("Links: {links} ")), "{name}: {stat}");
        let attributes = String::from_utf8_lossy(&answers[1]);
        let listed = attributes.lines().filter(|line| line.contains(" (")).count();
        assert_eq!(listed, wanted.metadata.xattrs.len(), "{name}: {attributes}");
        for (key, value) in &wanted.metadata.xattrs {
            let key = String::from_utf8_lossy(key);
            // It shows ACLs as they are on disk.
            let shown = if key.contains("posix_acl") {
                format!("{key} (")
            } else if key.is_ascii() {
                format!("{key} ({})", value.len())
            } else {
                format!(" ({})", value.len())
            };
            assert!(attributes.contains(&shown), "{name}: {attributes}");
        }
        match wanted.node() {
            Some(Node::Regular(content)) => {
                let dumped = std::fs::read(contents.path().join(number.to_string())).unwrap();
                assert!(dumped == content.bytes(), "{name}");
            }
            Some(Node::Symlink(target)) if target.len() < 60 => {
                let text = String::from_utf8_lossy(target);
                assert!(
                    stat.contains(&format!("Fast link dest: \"{text}\"")),
                    "{name}: {stat}"
                );
            }
            Some(Node::CharDevice(device) | Node::BlockDevice(device)) => {
                let shown = format!(
                    "Device major/minor number: {:02}:{:02} ",
                    device.major, device.minor
                );
                assert!(stat.contains(&shown), "{name}: {stat}");
            }
            _ => {}
        }
    }
}

fn path_of(image: &NamedTempFile) -> &Path {
    image.path()
}
