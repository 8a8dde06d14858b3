//! All triggers of a root together.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use lycia_root::{Listener, Options, Report, RootError, run_triggers};
use lycia_tree::{Follow, Metadata, Node, Timestamp, Tree};

const TIME: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};

fn listeners(names: &[&str]) -> Vec<Listener> {
    names
        .iter()
        .map(|name| Listener {
            package: (*name).to_owned(),
            globs: vec![format!("/usr/share/{name}")],
        })
        .collect()
}

/// A root such as Chimera's packages leave it.
fn root() -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let mut write = |path: &str, text: &str| {
        tree.write(path.as_bytes(), Metadata::new(0o755, TIME), text.into())
            .unwrap();
    };
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    write("etc/group", "root:x:0:\ntty:x:5:\n");
    write("usr/bin/sh", "");
    write("usr/lib/sysusers.d/dbus.conf", "u dbus - \"System bus\"\n");
    write(
        "usr/lib/tmpfiles.d/base.conf",
        "d /var/lib/dbus 0750 dbus dbus -\nC /etc/hosts - - - - /usr/share/base/hosts\n",
    );
    write("usr/share/base/hosts", "127.0.0.1 localhost\n");
    write("usr/lib/udev/hwdb.d/20-a.hwdb", "usb:*\n A=1\n");
    write("usr/lib/modules/6.12.1/apk-dist/.apk-series", "linux-stable\n");
    write("usr/lib/modules/6.12.1/apk-dist/modules.order", "");
    write("usr/lib/modules/6.12.1/apk-dist/boot/vmlinuz-6.12.1", "image");
    tree.make_directories(b"usr/lib/shells.d", Metadata::new(0o755, TIME))
        .unwrap();
    let link = Node::Symlink(b"/usr/bin/sh".to_vec());
    tree.insert(b"usr/lib/shells.d/sh", Metadata::new(0o777, TIME), link)
        .unwrap();
    tree
}

fn run(tree: &mut Tree, names: &[&str], strict: bool) -> Result<Report, RootError> {
    run_triggers(tree, &listeners(names), &Options { time: TIME, strict })
}

#[test]
fn they_build_on_each_other() {
    let mut tree = root();
    let report = run(
        &mut tree,
        &["sd-tools", "dinit-chimera", "base-kernel", "udev", "dbus"],
        true,
    )
    .unwrap();
    assert_eq!(
        report.ran,
        [
            "sysusers",
            "tmpfiles",
            "shells",
            "shadow",
            "hwdb",
            "base-kernel",
            "depmod",
            "swclock"
        ]
    );
    assert_eq!(
        (report.deferred.len(), report.warnings.len()),
        (0, 0),
        "{report:?}"
    );
    // The folder is the user's whom another trigger made.
    let inode = |path: &str| tree.inode(tree.resolve(path.as_bytes(), Follow::All).unwrap());
    let folder = inode("var/lib/dbus");
    assert_eq!((folder.mode(), folder.metadata.uid), (0o040750, 999));
    assert_eq!(inode("var/lib/swclock/timestamp").metadata.mtime, TIME);
    assert!(
        tree.read(b"etc/shadow")
            .unwrap()
            .starts_with(b"dbus:!*:19675::::::\n")
    );
    // The indexes are those of the kernel that was put in place, and what was written is named.
    assert!(tree.read(b"usr/lib/modules/6.12.1/modules.dep.bin").is_ok());
    for path in [
        "/etc/passwd",
        "/etc/shells",
        "/etc/hosts",
        "/etc/udev/hwdb.bin",
        "/boot/vmlinuz-6.12.1",
    ] {
        assert!(
            report.written.iter().any(|(one, _)| one == path.as_bytes()),
            "{path}: {report:?}"
        );
    }
    // Only the clock is touched every time.
    let again = run(&mut tree, &["sd-tools", "dinit-chimera"], true).unwrap();
    assert_eq!(again.ran, ["swclock"]);
}

#[test]
fn the_manual_has_a_database_where_one_asks_for_it() {
    let mut tree = root();
    let page = b"usr/share/man/man1/a.1";
    let text = ".TH A 1\n.SH NAME\na \\- a page\n";
    tree.write(page, Metadata::new(0o644, TIME), text.into()).unwrap();
    run(&mut tree, &["sd-tools"], true).unwrap();
    assert!(tree.read(b"usr/share/man/mandoc.db").is_err());
    let report = run(&mut tree, &["mandoc-apropos"], true).unwrap();
    assert!(report.ran.contains(&"mandoc".to_owned()), "{report:?}");
    let database = tree.read(b"usr/share/man/mandoc.db").unwrap();
    assert!(database.windows(6).any(|window| window == b"a page"));
}

#[test]
fn what_is_not_native_is_told_or_refused() {
    let report = run(&mut root(), &["glib", "sd-tools", "fontconfig", "busybox"], false).unwrap();
    let packages: Vec<&str> = report.deferred.iter().map(|one| one.package.as_str()).collect();
    assert_eq!(packages, ["glib", "fontconfig", "busybox"]);
    assert!(
        report.deferred[0].reason.contains("/usr/share/glib"),
        "{report:?}"
    );
    let mut tree = root();
    let error = run(&mut tree, &["glib", "sd-tools", "fontconfig"], true).unwrap_err();
    assert!(error.to_string().contains("glib, fontconfig"), "{error}");
    assert!(tree.read(b"etc/shadow").is_err(), "nothing was begun");
}

#[test]
fn hooks_for_kernels_are_told_or_refused() {
    let mut tree = root();
    let hook = b"usr/lib/kernel.d/60-sign.sh";
    tree.write(hook, Metadata::new(0o755, TIME), "".into()).unwrap();
    let report = run(&mut tree.clone(), &["base-kernel"], false).unwrap();
    assert!(
        report.warnings[0].contains("60-sign.sh was not run"),
        "{report:?}"
    );
    let error = run(&mut tree, &["base-kernel"], true).unwrap_err().to_string();
    assert!(
        error.contains("base-kernel (usr/lib/kernel.d/60-sign.sh)"),
        "{error}"
    );
}

#[test]
fn an_empty_root_has_nothing_to_do() {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    assert_eq!(run(&mut tree, &[], true).unwrap(), Report::default());
}

/// sd-tools' trigger runs tmpfiles without the one file that says which name servers are asked.
#[test]
fn name_servers_are_left_to_the_start() {
    let made = |folder: &str, listener: &str| {
        let mut tree = root();
        let path = format!("{folder}/tmpfiles.d/resolv.conf");
        let conf = "L+ /etc/resolv.conf - - - - ../run/resolv.conf\n";
        tree.make_directories(
            format!("{folder}/tmpfiles.d").as_bytes(),
            Metadata::new(0o755, TIME),
        )
        .unwrap();
        tree.write(path.as_bytes(), Metadata::new(0o644, TIME), conf.into())
            .unwrap();
        run(&mut tree, &[listener], true).unwrap();
        // The rest of the files is acted upon.
        assert!(tree.find(b"etc/hosts", Follow::All).unwrap().is_some());
        tree.find(b"etc/resolv.conf", Follow::Parents).unwrap().is_some()
    };
    assert!(!made("usr/lib", "sd-tools"));
    // The administrator's own file takes the place of that one, and another tool's trigger knows no exception.
    assert!(made("etc", "sd-tools"));
    assert!(made("usr/lib", "dinit-chimera"));
}

#[test]
fn access_lists_are_told_or_refused() {
    for line in [
        "a /etc/hosts - - - - u:dbus:r",
        "A+ /etc - - - - g:tty:rX",
        "h /etc/hosts - - - - +C",
    ] {
        let with = |tree: &mut Tree| {
            let path = b"usr/lib/tmpfiles.d/list.conf";
            tree.write(path, Metadata::new(0o644, TIME), line.into()).unwrap();
        };
        let mut tree = root();
        with(&mut tree);
        let report = run(&mut tree, &["sd-tools"], false).unwrap();
        assert!(
            report
                .warnings
                .iter()
                .any(|warning| warning.contains("list.conf, line 1")),
            "{line}: {:?}",
            report.warnings
        );
        let mut tree = root();
        with(&mut tree);
        let error = run(&mut tree, &["sd-tools"], true).unwrap_err().to_string();
        assert!(
            error.contains("--strict") && error.contains("list.conf, line 1"),
            "{line}: {error}"
        );
    }
}
