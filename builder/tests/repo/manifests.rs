//! What the definitions of this checkout make, as it is committed in `tests/manifests`: a change of it shows in review. Those of
//! Chimera and Alpine are held against repositories that the tests make, those of the seed against the seed of this machine.
//! To write them anew:
//!
//!     LYCIA_REFRESH_MANIFESTS=1 cargo test -p lycia --test repo --test build

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde_json::Value;

use crate::program::{LYCIA, checkout, read, sha256, succeed, text, tool};

fn word<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

/// Files that name the file systems of a disk, or have a secret with a salt.
const OF_A_DISK: [&str; 5] = [
    "/etc/fstab",
    "/etc/shadow",
    "/boot/grub/grub.cfg",
    "/boot/extlinux/extlinux.conf",
    "/boot/cmdline.txt",
];

/// A manifest as lines, one for each thing. Keys of repositories are those of the run. `built` says that packages were built by
/// this machine's compilers: their files are as they are named, and their contents are not compared.
fn lines(manifest: &Value, built: bool) -> String {
    let mut shown = String::new();
    let list = |key: &str| manifest[key].as_array().cloned().unwrap_or_default();
    let world: Vec<String> = list("world")
        .iter()
        .map(|one| one.as_str().unwrap().to_owned())
        .collect();
    let _ = writeln!(
        shown,
        "epoch {}\nkernel {}\nworld {}",
        manifest["epoch"],
        word(manifest, "kernel"),
        world.join(" ")
    );
    for package in list("packages") {
        let _ = writeln!(
            shown,
            "package {} {} {} {}",
            word(&package, "name"),
            word(&package, "version"),
            word(&package, "license"),
            word(&package, "repository")
        );
    }
    for file in list("files") {
        let path = match word(&file, "path") {
            // The name of the seed's key is of the machine.
            key if key.starts_with("/etc/apk/keys/lycia-seed-") => "/etc/apk/keys/lycia-seed",
            path => path,
        };
        // The database has the sizes of packages, and those the length of the run's signatures; what is installed is above.
        let from = word(&file, "from");
        // So has the identity of a disk, by which its file systems are named and from which the salt of its password comes.
        let of_disk = !built && from == "lycia: assembly" && OF_A_DISK.contains(&path);
        let of_run = path.starts_with("/etc/apk/keys/") || path.ends_with("/lib/apk/db/installed") || of_disk;
        // Modules of GRUB are those of the machine that the tests run on.
        let grub = path
            .strip_prefix("/boot/grub/")
            .is_some_and(|rest| rest.contains('/'));
        if !built && grub && from == "host: GRUB" {
            continue;
        }
        // What is made of built files is as they are. The identity of a disk follows from its lock, which has their hashes: its
        // file systems are named by it, and the salt of its password comes from it.
        let follows = from.starts_with("package ")
            || path.starts_with("/boot/initr")
            || path.starts_with("/boot/grub/")
            || from == "lycia: assembly" && ["/etc/fstab", "/etc/shadow"].contains(&path);
        let sum = match word(&file, "sha256").get(..16) {
            None => "",
            Some(_) if of_run => "of the run",
            Some(_) if built && follows => "built",
            Some(sum) => sum,
        };
        let _ = writeln!(
            shown,
            "{} {} {}:{} {path} {}{}{sum} ({})",
            word(&file, "type"),
            word(&file, "mode"),
            file["uid"],
            file["gid"],
            word(&file, "target"),
            word(&file, "device"),
            from
        );
    }
    shown
}

/// What the menus of an ISO offer, as lines.
fn menus(iso: &Path) -> String {
    let shown = succeed(
        std::process::Command::new(LYCIA)
            .args(["inspect", "--json"])
            .arg(iso),
    );
    let report: Value = serde_json::from_slice(&shown.stdout).unwrap();
    let entries = report["part"]["entries"].as_array().unwrap().clone();
    let line = |one: &Value| {
        let [config, title, kernel] = ["config", "title", "kernel"].map(|key| word(one, key));
        // The root has the keys of the run, so that its hash is one of the run, too.
        let arguments: Vec<&str> = word(one, "arguments")
            .split(' ')
            .map(|word| match word.strip_prefix("dm-verity-root-hash=") {
                Some(hash) if hash.len() == 64 => "dm-verity-root-hash=(of the run)",
                _ => word,
            })
            .collect();
        format!("menu {config} \"{title}\" {kernel} {}\n", arguments.join(" "))
    };
    entries.iter().map(line).collect()
}

/// Entries of one package that are shown one by one.
const SHOWN: usize = 40;

/// The same with one line in place of the many entries of a package: how many there are, and their checksum. What the builder itself
/// made stays, so that a change names the file.
fn folded(lines: &str) -> String {
    let origin = |line: &str| {
        let (_, from) = line.rsplit_once(" (")?;
        from.starts_with("package ")
            .then(|| from.trim_end_matches(')').to_owned())
    };
    let mut groups: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for line in lines.lines() {
        if let Some(from) = origin(line) {
            groups.entry(from).or_default().push(line);
        }
    }
    let mut shown = String::new();
    for line in lines.lines() {
        let many = origin(line).filter(|from| groups[from].len() > SHOWN);
        if many.is_none() {
            let _ = writeln!(shown, "{line}");
        }
    }
    for (from, all) in groups.iter().filter(|(_, all)| all.len() > SHOWN) {
        let sum = sha256(all.join("\n").as_bytes());
        let _ = writeln!(shown, "{} entries {} ({from})", all.len(), &sum[..16]);
    }
    shown
}

/// Holds what was built of a definition in `output` against what is committed, and names the lines that changed.
pub fn hold(name: &str, output: &Path) {
    compare(name, "x86_64", output, false);
}

/// As [`hold`], of another architecture.
pub fn hold_of(name: &str, arch: &str, output: &Path) {
    compare(name, arch, output, false);
}

/// As [`hold`], of packages that this machine built.
pub fn hold_built(name: &str, output: &Path) {
    compare(name, "x86_64", output, true);
}

fn compare(name: &str, arch: &str, output: &Path, built: bool) {
    let stem = format!("{name}-{arch}");
    let manifest = [".manifest.json", ".disk.manifest.json"]
        .map(|ending| output.join(format!("{stem}{ending}")))
        .into_iter()
        .find(|path| path.exists())
        .unwrap_or_else(|| panic!("no manifest of {stem} in {}", output.display()));
    let mut now = lines(&serde_json::from_slice(&read(&manifest)).unwrap(), built);
    if built {
        now = folded(&now);
    }
    let iso = output.join(format!("{stem}.iso"));
    if iso.exists() {
        now.push_str(&menus(&iso));
    }
    hold_lines(name, &now);
}

/// Holds lines of a definition against what is committed.
pub fn hold_lines(name: &str, now: &str) {
    let committed = checkout().join(format!("tests/manifests/{name}.txt"));
    if std::env::var_os("LYCIA_REFRESH_MANIFESTS").is_some() {
        std::fs::create_dir_all(committed.parent().unwrap()).unwrap();
        std::fs::write(&committed, now).unwrap();
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("now");
    std::fs::write(&fresh, now).unwrap();
    let mut diff = tool("diff", "diffutils");
    let changed = crate::program::run(diff.args(["-U0"]).arg(&committed).arg(&fresh));
    assert!(
        changed.status.success(),
        "what {name} makes is not what tests/manifests/{name}.txt says; if that is meant, run\n  \
         LYCIA_REFRESH_MANIFESTS=1 cargo test -p lycia --test repo --test build\n{}{}",
        text(&changed.stdout),
        text(&changed.stderr)
    );
}
