//! Files and directories beside those of systemd-tmpfiles, from which sd-tools' tmpfiles comes.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use lycia_root::tmpfiles;
use lycia_tree::{Metadata, Timestamp, Tree};
use proptest::prelude::*;

const TIME: Timestamp = Timestamp {
    seconds: 0,
    nanoseconds: 0,
};

fn systemd_tmpfiles() -> Command {
    let found = ["/usr/bin/systemd-tmpfiles", "/bin/systemd-tmpfiles"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    Command::new(found.expect("systemd-tmpfiles is not on this machine: install systemd (Debian)"))
}

/// Files with their modes; those that end in a slash are folders.
const FILES: &[(&str, u32, &str)] = &[
    ("etc/passwd", 0o644, "me:x:EUID:EGID::/:/bin/sh\n"),
    ("etc/group", 0o644, "me:x:EGID:\n"),
    ("usr/lib/os-release", 0o644, "ID=seed\n"),
    ("usr/share/base/a", 0o640, "base a"),
    ("usr/share/base/b/c", 0o600, "base c"),
    ("srv/a", 0o644, "a"),
    ("srv/b/a", 0o755, "ba"),
    ("srv/b/b/a", 0o600, "bba"),
    ("srv/c/", 0o755, ""),
];

/// The folders `srv` and what is in it: path, mode, content or target.
type Listing = BTreeMap<String, (u32, String)>;

fn files(conf: &str) -> Vec<(String, u32, String)> {
    let root = tempfile::tempdir().unwrap();
    let metadata = std::fs::metadata(root.path()).unwrap();
    let ids = |text: &str| {
        text.replace("EUID", &metadata.uid().to_string())
            .replace("EGID", &metadata.gid().to_string())
    };
    let mut files: Vec<(String, u32, String)> = FILES
        .iter()
        .map(|(path, mode, text)| ((*path).to_owned(), *mode, ids(text)))
        .collect();
    files.push(("usr/lib/tmpfiles.d/a.conf".to_owned(), 0o644, conf.to_owned()));
    files
}

/// What the reference makes of a configuration, and whether it had no complaint.
fn theirs(conf: &str) -> (Listing, bool) {
    let root = tempfile::tempdir().unwrap();
    for (path, mode, text) in files(conf) {
        let to = root.path().join(&path);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        match path.ends_with('/') {
            true => std::fs::create_dir_all(&to).unwrap(),
            false => std::fs::write(&to, text).unwrap(),
        }
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let output = systemd_tmpfiles()
        .args(["--create", "--remove", "-E", "--root"])
        .arg(root.path())
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .output()
        .unwrap();
    let mut found = Listing::new();
    list(root.path(), &root.path().join("srv"), &mut found);
    (found, output.status.success() && output.stderr.is_empty())
}

fn list(root: &Path, path: &Path, found: &mut Listing) {
    let Ok(metadata) = std::fs::symlink_metadata(path) else {
        return;
    };
    let kind = metadata.file_type();
    let text = if kind.is_symlink() {
        let target = std::fs::read_link(path).unwrap();
        target.as_os_str().as_bytes().escape_ascii().to_string()
    } else if kind.is_file() {
        std::fs::read(path).unwrap().escape_ascii().to_string()
    } else {
        String::new()
    };
    let name = path.strip_prefix(root).unwrap().to_str().unwrap();
    found.insert(format!("/{name}"), (metadata.mode(), text));
    if kind.is_dir() {
        for entry in std::fs::read_dir(path).unwrap() {
            list(root, &entry.unwrap().path(), found);
        }
    }
}

fn ours(conf: &str) -> Result<(Listing, Vec<String>), String> {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    for (path, mode, text) in files(conf) {
        let metadata = Metadata::new(mode as u16, TIME);
        match path.strip_suffix('/') {
            Some(path) => tree.make_directories(path.as_bytes(), metadata).unwrap(),
            None => tree.write(path.as_bytes(), metadata, text.into()).unwrap(),
        };
    }
    let step = tmpfiles::run(&mut tree, TIME).map_err(|error| error.to_string())?;
    let mut found = Listing::new();
    for entry in tree.walk() {
        let path = String::from_utf8(entry.path).unwrap();
        if path != "/srv" && !path.starts_with("/srv/") {
            continue;
        }
        let inode = entry.inode;
        let text = match (inode.content(), inode.symlink()) {
            (Some(content), _) => content.bytes().escape_ascii().to_string(),
            (_, Some(target)) => target.escape_ascii().to_string(),
            _ => String::new(),
        };
        found.insert(path, (u32::from(inode.mode()), text));
    }
    Ok((found, step.warnings))
}

#[test]
fn what_packages_write_as_systemd_has_it() {
    for conf in [
        "d /srv/x 2775 me me 10d\nd /srv/x/y/z 0700\nq /srv/q\nv /srv/v 0711\nQ /srv/Q\n",
        "f /srv/x 0600 - - - two  words\\n%%\\x41 %o\nf /srv/a 0600 - - - new\nf+ /srv/b/a - - - - new\n",
        "F /srv/a 0640 - - - shorter than\nf /srv/e\nf~ /srv/g - - - - aGk=\n",
        "w /srv/a - - - - xyz\nw /srv/b/? - - - - Q\nw+ /srv/b/b/a - - - - more\n",
        "L /srv/x - - - - ../y\nL /srv/a - - - - b\nL+ /srv/b - - - - a\nL /srv/z\n",
        "p /srv/x 0620\np+ /srv/a\n",
        "C /srv/x - - - - /usr/share/base\nC /srv/c 0700 - - - /usr/share/base\nC /srv/b - - - - /usr/share/base\n",
        "C /srv/y - - - - /no/where\nC /srv/z 0604 - - - /usr/share/base/a\nC+ /srv/new - - - - /usr/share/base\n",
        "e /srv/* 0700\nz /srv/b/a 0600\nZ /srv/b ~2755\nm /srv/a 0400\n",
        "z /srv/[ab] 0700\nd /srv/x 0750\nd /srv/x 0700\nz /srv/x 0711\nz /srv/.* 0700\n",
        "R /srv/b\nr /srv/a\nr /srv/c\nR /srv/gone\nd /srv/new/deep\n",
        "D /srv/b 0711\nD /srv/new\n",
        "R /srv/b\nd /srv/b/x\nf /srv/b/x/y - - - - text\n",
        "# comment\n\n  d   /srv/x   -   -   -   -   \nd! /srv/boot\nd /run/x\nx /srv/b\nX /srv/b\n",
        "d \"/srv/with blank\" 0700\nd '/srv/q\"q'\n",
        "d /srv//x/./y/\nd /srv/x 0700\nd %V\n",
        "d /srv/x :0700\nd /srv/b :0700\nz /srv/a :0600\n",
    ] {
        let (theirs, good) = theirs(conf);
        let (ours, warnings) = ours(conf).unwrap();
        assert_eq!(ours, theirs, "{conf}");
        assert_eq!(warnings.is_empty(), good, "{conf}: {warnings:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Lines that the reference has no complaint about give the same files. Left out is in what
    /// sd-tools, as systemd's successors, differs from systemd 252: `C+` merges folders with content, `D` and `R`
    /// leave alone what has a line of its own.
    #[test]
    fn any_lines_as_systemd(
        lines in proptest::collection::vec(
            "([defFpz]|[fLp]\\+|[fd]) /srv(/[a-c]){1,3}( 0[67][0-7][0-7])?|(L\\+?|C) /srv(/[a-c]){1,2} - - - - /usr/share/base(/a)?|[ezr] /srv/[a-c*](/[a-c*]){0,2}|[wf] /srv/[a-c] - - - - [xy]{1,3}",
            0..6,
        )
    ) {
        let conf = lines.join("\n") + "\n";
        let (theirs, good) = theirs(&conf);
        let (ours, _) = ours(&conf).unwrap();
        if good {
            prop_assert_eq!(ours, theirs, "{}", conf);
        }
    }
}
