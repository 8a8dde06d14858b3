//! System users beside those of systemd-sysusers, from which sd-tools' sysusers comes.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use lycia_root::sysusers;
use lycia_tree::{Metadata, Timestamp, Tree};
use proptest::prelude::*;

const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nold:x:998:20:Old:/:/bin/sh\n";
const GROUP: &str = "root:x:0:\nwheel:x:10:old\nold:x:997:\n";

fn systemd_sysusers() -> Command {
    let found = ["/usr/bin/systemd-sysusers", "/bin/systemd-sysusers"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    Command::new(found.expect("systemd-sysusers is not on this machine: install systemd (Debian)"))
}

/// Files of accounts that the reference makes of a configuration, and whether it had no complaint.
fn theirs(conf: &str) -> (Vec<String>, bool) {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    write("etc/passwd", PASSWD);
    write("etc/group", GROUP);
    write("usr/lib/os-release", "ID=seed\n");
    write("usr/lib/sysusers.d/a.conf", conf);
    let output = systemd_sysusers()
        .arg("--root")
        .arg(root.path())
        .env("SYSTEMD_LOG_LEVEL", "warning")
        .env("SOURCE_DATE_EPOCH", TIME.seconds.to_string())
        .output()
        .unwrap();
    let read = |path: &str| {
        let path = root.path().join(path);
        // The reference takes all rights from files of passwords.
        let _ = std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600));
        std::fs::read_to_string(path).unwrap_or_default()
    };
    // Where Debian has nologin is not where Chimera has it.
    let nologin = |text: String| text.replace("/usr/sbin/nologin", "/usr/bin/nologin");
    let files = ["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"];
    let good = output.status.success() && output.stderr.is_empty();
    (files.map(read).map(nologin).into(), good)
}

fn ours(conf: &str) -> Result<Vec<String>, String> {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    for (path, text) in [
        ("etc/passwd", PASSWD),
        ("etc/group", GROUP),
        ("usr/lib/os-release", "ID=seed\n"),
        ("usr/lib/sysusers.d/a.conf", conf),
    ] {
        tree.write(path.as_bytes(), Metadata::new(0o644, TIME), text.into())
            .unwrap();
    }
    sysusers::run(&mut tree, TIME).map_err(|error| error.to_string())?;
    let read = |path: &str| {
        let bytes = tree.read(path.as_bytes()).unwrap_or_default();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    Ok(["etc/passwd", "etc/group", "etc/shadow", "etc/gshadow"]
        .map(read)
        .into())
}

/// The day of the last change, which the reference takes from the clock or the environment.
fn without_day(files: Vec<String>) -> Vec<String> {
    let line = |line: &str| {
        let mut fields: Vec<&str> = line.split(':').collect();
        if fields.len() == 9 {
            fields[2] = "DAY";
        }
        fields.join(":") + "\n"
    };
    files
        .iter()
        .map(|text| text.lines().map(line).collect())
        .collect()
}

#[test]
fn what_packages_write_as_systemd_has_it() {
    for conf in [
        "u bird - \"A bird\" /var/lib/bird\ng wheel 2\nu fixed 42:wheel\nu shell - - - /bin/false\n",
        "g tty 5\ng disk 6\nu daemon 1\nm daemon tty\nm lonely disk\nm old disk\nm a wheel\nm b wheel\n",
        "u a\ng b\nu c 300\nu d 300\ng e 300\nu f -:e\nu of-%o\n",
        "r - 500-510\nr - 300\nu a\nu b\ng c\n",
        "u x 999\nu y\nu z\ng q 995\nu w\n",
        "u net 12 Net\nu net 12 Net\nu own /etc\ng own2 /gone\n",
    ] {
        let (theirs, good) = theirs(conf);
        assert!(good, "{conf}");
        assert_eq!(without_day(ours(conf).unwrap()), without_day(theirs), "{conf}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Lines that the reference has no complaint about give the same accounts.
    #[test]
    fn any_lines_as_systemd(
        lines in proptest::collection::vec(
            "u [a-f]( (-|[1-9]|99[0-9]|-:[a-f]|[1-9]:[a-f]|20)( Text| -( /home)?)?)?|g [a-h]( (-|[1-9]|99[0-9]))?|m [a-h] [a-h]|r - 9[0-9][0-9]-99[0-9]",
            0..12,
        )
    ) {
        let conf = lines.join("\n") + "\n";
        let (theirs, good) = theirs(&conf);
        match ours(&conf) {
            Ok(ours) => if good {
                prop_assert_eq!(without_day(ours), without_day(theirs));
            },
            Err(error) => prop_assert!(!good, "{}\n{}", conf, error),
        }
    }
}
