//! Comparing a root with its recording.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lycia_apk::database::Database;
use lycia_apk::dependency::format_world;
use lycia_apk::install::ScriptCall;
use lycia_apk::metadata::ScriptKind;
use lycia_tree::{Follow, Inode, Tree};
use sha2::{Digest as _, Sha256};

use super::recorded::{Digests, Entry, Kind, Root};
use super::run::Outcome;

/// What differs between two runs of apk, or is compared by itself.
fn is_volatile(path: &[u8]) -> bool {
    const FILES: [&[u8]; 6] = [
        b"rec.log",
        b"var/log/apk.log",
        b"lib/apk/db/lock",
        b"usr/lib/apk/db/lock",
        b"etc/apk/world",
        b"etc/apk/arch",
    ];
    const FOLDERS: [&[u8]; 8] = [
        b"var/cache/apk",
        b"etc/apk/cache",
        b"var/cache",
        b"var/log",
        b"lib/apk/exec",
        b"lib/apk/db/",
        b"usr/lib/apk/db/",
        b"etc/apk/repositories",
    ];
    FILES.contains(&path)
        || FOLDERS.iter().any(|folder| {
            path.starts_with(folder)
                && (folder.ends_with(b"/") || matches!(path.get(folder.len()), None | Some(b'/')))
        })
        || path.starts_with(b"etc/apk/repositories.d")
}

fn shown(path: &[u8]) -> String {
    path.escape_ascii().to_string()
}

/// An entry of a tree in the words of a recording.
pub fn entry(tree: &Tree, path: &[u8]) -> Option<Entry> {
    let id = tree.find(path, Follow::Parents).ok()??;
    Some(of(tree.inode(id), None))
}

fn of(inode: &Inode, digest: Option<&String>) -> Entry {
    let device = |kind: &str, device: &lycia_tree::Device| Kind::Device {
        kind: kind.to_owned(),
        major: device.major,
        minor: device.minor,
    };
    let kind = match inode.node() {
        None => Kind::Directory,
        Some(lycia_tree::Node::Symlink(target)) => Kind::Symlink(target.clone()),
        Some(lycia_tree::Node::CharDevice(id)) => device("char", id),
        Some(lycia_tree::Node::BlockDevice(id)) => device("block", id),
        Some(lycia_tree::Node::Regular(content)) => {
            let hash = || {
                Sha256::digest(content.bytes())
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect()
            };
            Kind::File {
                size: Some(content.len()),
                sha256: Some(digest.cloned().unwrap_or_else(hash)),
                group: None,
            }
        }
        Some(_) => Kind::Device {
            kind: "fifo".into(),
            major: 0,
            minor: 0,
        },
    };
    Entry {
        kind,
        mode: inode.metadata.mode & 0o7777,
        uid: inode.metadata.uid,
        gid: inode.metadata.gid,
        mtime: Some(inode.metadata.mtime.seconds),
        xattrs: inode.metadata.xattrs.clone().into_iter().collect(),
    }
}

/// Compares everything.
pub fn outcome(outcome: &Outcome, before: &Root, after: &Root) -> Result<(), String> {
    database(outcome, after)?;
    tree(&outcome.tree, &outcome.digests, after, outcome.user)?;
    calls(outcome, before, after)
}

/// A command that changes nothing, or that failed.
pub fn same_database(before: &Root, after: &Root) -> Result<(), String> {
    for (name, a, b) in [
        ("installed", &before.installed, &after.installed),
        ("triggers", &before.triggers, &after.triggers),
        ("world", &before.world, &after.world),
    ] {
        if a != b {
            return Err(format!("{name} changed"));
        }
    }
    Ok(())
}

fn first_difference(name: &str, ours: &[u8], theirs: &[u8]) -> Result<(), String> {
    if ours == theirs {
        return Ok(());
    }
    let (ours, theirs) = (String::from_utf8_lossy(ours), String::from_utf8_lossy(theirs));
    let mut package = String::new();
    let mut a = ours.split('\n');
    let mut b = theirs.split('\n');
    loop {
        match (a.next(), b.next()) {
            (Some(a), Some(b)) if a == b => {
                if let Some(name) = a.strip_prefix("P:") {
                    package = format!(" of {name}");
                }
            }
            (a, b) => {
                return Err(format!(
                    "{name}{package}: apk has {:?}, we have {:?}",
                    b.unwrap_or("(nothing)"),
                    a.unwrap_or("(nothing)")
                ));
            }
        }
    }
}

/// The identity of a virtual package is made up from the process id.
fn without_virtual_identities(installed: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(installed);
    let records = text
        .split("\n\n")
        .map(|record| match record.contains("\nT:virtual meta package\n") {
            true => record
                .split('\n')
                .filter(|line| !line.starts_with("C:"))
                .collect::<Vec<_>>()
                .join("\n"),
            false => record.to_owned(),
        });
    records.collect::<Vec<_>>().join("\n\n").into_bytes()
}

fn database(outcome: &Outcome, after: &Root) -> Result<(), String> {
    let database: &Database = &outcome.database;
    let installed = database.write_installed().map_err(|error| error.to_string())?;
    first_difference(
        "installed",
        &without_virtual_identities(&installed),
        &without_virtual_identities(&after.installed),
    )?;
    first_difference("triggers", &database.write_triggers(), &after.triggers)?;
    first_difference("world", format_world(&outcome.world).as_bytes(), &after.world)?;
    first_difference("arch", outcome.arch.as_bytes(), &after.arch)?;
    let unzip = |bytes: &[u8]| {
        let mut out = Vec::new();
        let _ = std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(bytes), &mut out);
        out
    };
    if database.scripts_archive() != unzip(&after.scripts) {
        return Err("the scripts archive is another".into());
    }
    Ok(())
}

fn tree(tree: &Tree, digests: &Digests, after: &Root, user: Option<u32>) -> Result<(), String> {
    let mut ours: BTreeMap<Vec<u8>, Entry> = BTreeMap::new();
    let mut names: HashMap<usize, BTreeSet<Vec<u8>>> = HashMap::new();
    for entry in tree.walk().skip(1) {
        let untouched = digests.sha256.get(&entry.path).filter(|_| {
            // A content of zeros stands for what is known by digest only.
            entry
                .inode
                .content()
                .is_some_and(|content| content.bytes().iter().all(|&byte| byte == 0))
        });
        if entry.inode.names() > 1 && !entry.inode.is_directory() {
            names
                .entry(entry.id.index())
                .or_default()
                .insert(entry.relative().to_vec());
        }
        ours.insert(entry.relative().to_vec(), of(entry.inode, untouched));
    }
    if let Some(user) = user {
        unprivileged(&mut ours, user);
    }
    for (path, theirs) in &after.entries {
        if is_volatile(path) {
            continue;
        }
        match ours.get(path) {
            None => return Err(format!("{}: apk has it, we do not", shown(path))),
            Some(ours) => same(path, ours, theirs)?,
        }
    }
    for path in ours.keys() {
        if !is_volatile(path) && !after.entries.contains_key(path) {
            return Err(format!("{}: we have it, apk does not", shown(path)));
        }
    }
    let mut groups: BTreeMap<u64, BTreeSet<Vec<u8>>> = BTreeMap::new();
    for (path, entry) in &after.entries {
        if let Kind::File {
            group: Some(group), ..
        } = entry.kind
        {
            groups.entry(group).or_default().insert(path.clone());
        }
    }
    let theirs: BTreeSet<_> = groups.into_values().collect();
    let ours: BTreeSet<_> = names.into_values().filter(|names| names.len() > 1).collect();
    match ours == theirs {
        true => Ok(()),
        false => Err(format!(
            "hard links: apk has {} groups, we have {}",
            theirs.len(),
            ours.len()
        )),
    }
}

/// What a user without rights gets: everything is his, no nodes, no attributes but the user's, directories he
/// may write to.
fn unprivileged(entries: &mut BTreeMap<Vec<u8>, Entry>, user: u32) {
    entries.retain(|_, entry| !matches!(entry.kind, Kind::Device { .. }));
    for entry in entries.values_mut() {
        (entry.uid, entry.gid) = (user, user);
        entry.xattrs.retain(|name, _| name.starts_with(b"user."));
        match entry.kind {
            Kind::Directory => entry.mode |= 0o300,
            // The kernel takes the bits away when somebody without rights writes to the file.
            Kind::File { size: Some(1..), .. } => entry.mode &= !0o6000,
            _ => {}
        }
    }
}

fn same(path: &[u8], ours: &Entry, theirs: &Entry) -> Result<(), String> {
    let differs = |what: &str, ours: String, theirs: String| {
        Err(format!(
            "{}: its {what} is {theirs} with apk, {ours} with us",
            shown(path)
        ))
    };
    let kinds_differ = || differs("kind", format!("{:?}", ours.kind), format!("{:?}", theirs.kind));
    match (&ours.kind, &theirs.kind) {
        (
            Kind::File { size, sha256, .. },
            Kind::File {
                size: their_size,
                sha256: their_sha256,
                ..
            },
        ) => {
            if their_sha256.is_some() && (sha256, size) != (their_sha256, their_size) {
                return kinds_differ();
            }
        }
        (a, b) if a == b => {}
        _ => return kinds_differ(),
    }
    // apk loses the setgid bit of a directory between mkdir and chown; we keep it.
    let lost = if ours.kind == Kind::Directory { 0o2000 } else { 0 };
    if ours.mode != theirs.mode && ours.mode & !lost != theirs.mode {
        return differs("mode", format!("{:o}", ours.mode), format!("{:o}", theirs.mode));
    }
    if (ours.uid, ours.gid) != (theirs.uid, theirs.gid) {
        return differs(
            "owner",
            format!("{}:{}", ours.uid, ours.gid),
            format!("{}:{}", theirs.uid, theirs.gid),
        );
    }
    // Nor does apk apply attributes to directories.
    if ours.kind != Kind::Directory && ours.xattrs != theirs.xattrs {
        return differs(
            "attributes",
            format!("{:?}", ours.xattrs),
            format!("{:?}", theirs.xattrs),
        );
    }
    let timed = matches!(ours.kind, Kind::File { .. }) && path.starts_with(b"usr/");
    if timed && theirs.mtime.is_some() && ours.mtime != theirs.mtime {
        return differs("time", format!("{:?}", ours.mtime), format!("{:?}", theirs.mtime));
    }
    Ok(())
}

/// A call of a script as the corpus's recorder notes it.
type Call = (String, String, BTreeSet<Vec<u8>>);

/// Compares the calls of scripts that are the recorder itself.
fn calls(outcome: &Outcome, before: &Root, after: &Root) -> Result<(), String> {
    let Some(installed) = &outcome.installed else {
        return Ok(());
    };
    let log = after.calls.strip_prefix(&before.calls).unwrap_or(&after.calls);
    let theirs: Vec<Call> = log.split("RUN\n").filter_map(recorded_call).collect();
    if !outcome.scripts {
        return match theirs.is_empty() {
            true => Ok(()),
            false => Err("apk ran scripts although it was told not to".into()),
        };
    }
    let removed: Vec<_> = before.database()?.packages;
    let is_recorder = |call: &&ScriptCall| {
        let mut records = installed.database.packages.iter().chain(&removed);
        records.any(|package| {
            package.info.name == call.package
                && package
                    .scripts
                    .iter()
                    .any(|(kind, body)| *kind == call.kind && body.starts_with(b"#!/usr/bin/rec\n"))
        })
    };
    let ours: Vec<Call> = installed
        .scripts
        .iter()
        .chain(&installed.triggers)
        .filter(is_recorder)
        .map(|call| {
            // The order of a trigger's arguments is that of a hash table.
            let numbered = |(at, argument): (usize, &Vec<u8>)| match call.kind {
                ScriptKind::Trigger => argument.clone(),
                _ => [format!("{at}:").as_bytes(), argument].concat(),
            };
            (
                call.package.clone(),
                call.kind.name().to_owned(),
                call.arguments.iter().enumerate().map(numbered).collect(),
            )
        })
        .collect();
    match ours == theirs {
        true => Ok(()),
        false => {
            let text = |calls: &[Call]| {
                let one = |(package, kind, arguments): &Call| {
                    let arguments: Vec<String> = arguments.iter().map(|argument| shown(argument)).collect();
                    format!("{package} {kind} [{}]", arguments.join(" "))
                };
                calls.iter().map(one).collect::<Vec<_>>().join(", ")
            };
            Err(format!(
                "script calls: apk made {}; we would have made {}",
                text(&theirs),
                text(&ours)
            ))
        }
    }
}

fn recorded_call(block: &str) -> Option<Call> {
    let mut package = None;
    let mut kind = None;
    let mut arguments = BTreeSet::new();
    let mut plain = Vec::new();
    for line in block.lines().map(str::trim_start) {
        if let Some(value) = line.strip_prefix("env APK_PACKAGE=") {
            package = Some(value.to_owned());
        } else if let Some(value) = line.strip_prefix("env APK_SCRIPT=") {
            kind = Some(value.to_owned());
        } else if let Some((number, value)) = line.strip_prefix("arg").and_then(|rest| rest.split_once('='))
            && number != "0"
        {
            plain.push(value.as_bytes().to_vec());
        }
    }
    let (package, kind) = (package?, kind?);
    for (at, argument) in plain.into_iter().enumerate() {
        arguments.insert(match kind == "trigger" {
            true => argument,
            false => [format!("{at}:").as_bytes(), &argument].concat(),
        });
    }
    Some((package, kind, arguments))
}
