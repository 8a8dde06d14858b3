//! Independent programs that judge what we wrote. A missing one fails the test and names its Debian package.

// Every test program includes this module and uses its own part.
#![allow(dead_code)]

use std::ffi::OsStr;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use lycia_tree::{Content, Device, Metadata, Node, Timestamp, Tree};

/// Runs `program` from Debian's `package` and returns what it wrote to its standard output. Fails the test when the
/// program is missing or does not succeed.
pub fn run<A: AsRef<OsStr>>(package: &str, program: &str, arguments: &[A], input: &[u8]) -> String {
    let output = output(package, program, arguments, input);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} refused ({}):\n{text}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// As [`run`], whatever the program's exit code.
pub fn output<A: AsRef<OsStr>>(package: &str, program: &str, arguments: &[A], input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        // Not everybody has the system's programs in reach.
        .env(
            "PATH",
            format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()),
        )
        .env("LC_ALL", "C.UTF-8")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("{program} of the Debian package {package} is needed as an oracle: {error}")
        });
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let feeder = std::thread::spawn(move || {
        // A program that has seen enough closes its end.
        let _ = stdin.write_all(&input);
    });
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap();
    output
}

/// 2020-09-13 12:26:40 UTC.
pub const TIME: i64 = 1_600_000_000;

/// Metadata of root at [`TIME`].
pub fn root_owned(mode: u16) -> Metadata {
    Metadata::new(mode, Timestamp::from_seconds(TIME))
}

/// Puts `node` at `path` with the directories above it.
pub fn put(tree: &mut Tree, path: &str, metadata: Metadata, node: Node) {
    if let Some((above, _)) = path.rsplit_once('/')
        && !above.is_empty()
    {
        tree.make_directories(above.as_bytes(), root_owned(0o755))
            .unwrap();
    }
    tree.insert(path.as_bytes(), metadata, node).unwrap();
}

/// A tree with every kind of node, hard links, owners, modes, odd names and long links.
pub fn everything() -> Tree {
    let mut tree = Tree::new(root_owned(0o755));
    let file = |bytes: &[u8]| Node::Regular(Content::from(bytes));
    put(&mut tree, "/bin/tool", root_owned(0o4755), file(b"#!/bin/sh\n"));
    let tool = tree
        .child(tree.child(tree.root(), b"bin").unwrap(), b"tool")
        .unwrap();
    tree.link(tool, b"/bin/alias").unwrap();
    put(
        &mut tree,
        "/empty",
        root_owned(0o600),
        Node::Regular(Content::empty()),
    );
    put(
        &mut tree,
        "/home/user/notes",
        root_owned(0o640).owned_by(100_000, 65_537),
        file(&b"0123456789abcdef".repeat(1000)),
    );
    put(
        &mut tree,
        "/home/user/odd name\n\"'",
        root_owned(0o644),
        file(b"x"),
    );
    tree.insert(b"/home/user/\xff\xfe", root_owned(0o644), file(b"not UTF-8"))
        .unwrap();
    put(
        &mut tree,
        &format!("/home/user/{}", "n".repeat(255)),
        root_owned(0o644),
        file(b"long"),
    );
    put(
        &mut tree,
        "/home/user/\u{fc}n\u{ef}\u{1f600}",
        root_owned(0o644),
        file(b"u"),
    );
    put(
        &mut tree,
        "/lib",
        root_owned(0o777),
        Node::Symlink(b"usr/lib".to_vec()),
    );
    put(
        &mut tree,
        "/abs",
        root_owned(0o777),
        Node::Symlink(b"/usr/./lib/../lib/x".to_vec()),
    );
    put(
        &mut tree,
        "/far",
        root_owned(0o777),
        Node::Symlink("some/where/".repeat(100).into_bytes()),
    );
    let wide = format!("{}/{}", "a".repeat(255), "b".repeat(252));
    put(
        &mut tree,
        "/wide",
        root_owned(0o777),
        Node::Symlink(wide.into_bytes()),
    );
    let device = |major, minor| Device { major, minor };
    put(
        &mut tree,
        "/dev/null",
        root_owned(0o666),
        Node::CharDevice(device(1, 3)),
    );
    put(
        &mut tree,
        "/dev/nvme0n1",
        root_owned(0o660).owned_by(0, 6),
        Node::BlockDevice(device(259, 300)),
    );
    put(&mut tree, "/run/pipe", root_owned(0o600), Node::Fifo);
    put(&mut tree, "/run/socket", root_owned(0o600), Node::Socket);
    tree.make_directories(b"/tmp", root_owned(0o1777)).unwrap();
    tree
}

/// Without device nodes, which only root can make, and sockets, which unpackers leave out.
pub fn everything_for_users() -> Tree {
    let mut tree = everything();
    for path in ["/dev/null", "/dev/nvme0n1", "/run/socket"] {
        tree.remove(path.as_bytes()).unwrap();
    }
    tree
}

/// Compares a directory of the host with `tree`: types, modes, sizes, times, contents, links and which names
/// share a file. Not all unpackers set the times of directories after they have filled them:
/// `directory_times` says whether this one should have.
pub fn compare_directory(tree: &Tree, directory: &std::path::Path, directory_times: bool) {
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let mut expected = 0;
    let mut shared = std::collections::HashMap::new();
    for entry in tree.walk().skip(1) {
        expected += 1;
        let name = lycia_tree::display(&entry.path);
        let path = directory.join(OsStr::from_bytes(entry.relative()));
        let found = path
            .symlink_metadata()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let symlink = entry.inode.symlink().is_some();
        let mode = u32::from(entry.inode.mode());
        if symlink {
            assert!(found.file_type().is_symlink(), "{name}");
        } else {
            assert_eq!(found.mode(), mode, "{name}: {:o} {mode:o}", found.mode());
            if directory_times || !entry.inode.is_directory() {
                assert_eq!(found.mtime(), entry.inode.metadata.mtime.seconds, "{name}");
            }
        }
        match entry.inode.node() {
            Some(Node::Regular(content)) => {
                assert!(std::fs::read(&path).unwrap() == content.bytes(), "{name}");
                if entry.inode.names() > 1 {
                    let inode = *shared.entry(entry.id).or_insert(found.ino());
                    assert_eq!(inode, found.ino(), "{name}");
                }
            }
            Some(Node::Symlink(target)) => {
                assert_eq!(
                    std::fs::read_link(&path).unwrap().as_os_str().as_bytes(),
                    target,
                    "{name}"
                );
            }
            Some(Node::Fifo) => assert!(found.file_type().is_fifo(), "{name}"),
            _ => {}
        }
    }
    let mut count = 0;
    let mut directories = vec![directory.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let entry = entry.unwrap();
            count += 1;
            if entry.file_type().unwrap().is_dir() {
                directories.push(entry.path());
            }
        }
    }
    assert_eq!(count, expected, "as many entries");
}
