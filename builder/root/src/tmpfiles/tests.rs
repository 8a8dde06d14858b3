use super::*;

const TIME: Timestamp = Timestamp {
    seconds: 9,
    nanoseconds: 0,
};

fn tree(conf: &str) -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let mut write = |path: &str, mode: u16, text: &str| {
        tree.write(path.as_bytes(), Metadata::new(mode, TIME), text.into())
            .unwrap();
    };
    write("etc/passwd", 0o644, "bird:x:5:6::/:/bin/sh\n");
    write("etc/group", 0o644, "mail:x:64:\n");
    write("usr/share/base/hosts", 0o640, "hosts\n");
    write("usr/share/base/sub/one", 0o600, "one\n");
    write("srv/full/a", 0o644, "a");
    write("srv/full/b/c", 0o755, "c");
    write("usr/lib/tmpfiles.d/a.conf", 0o644, conf);
    tree
}

/// Everything but the configuration, one line each.
fn listed(tree: &Tree) -> Vec<String> {
    tree.walk()
        .filter(|entry| !entry.path.starts_with(b"/usr") && entry.path.starts_with(b"/srv"))
        .map(|entry| {
            let inode = entry.inode;
            let content = match (inode.content(), inode.symlink()) {
                (Some(content), _) if content.is_empty() => String::new(),
                (Some(content), _) => format!(" {}", content.bytes().escape_ascii()),
                (_, Some(target)) => format!(" -> {}", target.escape_ascii()),
                _ => String::new(),
            };
            let (uid, gid) = (inode.metadata.uid, inode.metadata.gid);
            let path = String::from_utf8(entry.path).unwrap();
            format!("{path} {:o} {uid}:{gid}{content}", inode.mode())
        })
        .filter(|line| !line.starts_with("/srv 40755 0:0"))
        .collect()
}

fn after(conf: &str) -> (Vec<String>, Vec<String>) {
    let mut tree = tree(conf);
    let step = run(&mut tree, TIME).unwrap();
    let first = listed(&tree);
    run(&mut tree, TIME).unwrap();
    assert_eq!(first, listed(&tree), "twice is once");
    (first, step.warnings)
}

const FULL: [&str; 4] = [
    "/srv/full 40755 0:0",
    "/srv/full/a 100644 0:0 a",
    "/srv/full/b 40755 0:0",
    "/srv/full/b/c 100755 0:0 c",
];

/// What a line adds to the folder `/srv`.
#[test]
fn each_type_of_line() {
    let table: &[(&str, &[&str])] = &[
        ("d /srv/x 2775 bird mail 10d", &["/srv/x 42775 5:64"]),
        ("d /srv/x/y 0700 5 6", &["/srv/x 40755 0:0", "/srv/x/y 40700 5:6"]),
        (
            "q /srv/x\nv /srv/y\nQ /srv/z 0711",
            &["/srv/x 40755 0:0", "/srv/y 40755 0:0", "/srv/z 40711 0:0"],
        ),
        (
            "f /srv/x 0600 bird - - two  words\\n%%",
            &["/srv/x 100600 5:0 two  words\\n%"],
        ),
        ("f /srv/x\nF /srv/x - - - - other", &["/srv/x 100644 0:0"]),
        ("f~ /srv/x - - - - aGk=", &["/srv/x 100644 0:0 hi"]),
        ("p /srv/x 0620", &["/srv/x 10620 0:0"]),
        ("c /srv/x 0666 - mail - 1:3", &["/srv/x 20666 0:64"]),
        ("b /srv/x - - - - 8:0", &["/srv/x 60644 0:0"]),
        ("L /srv/x - bird - - ../y", &["/srv/x 120777 5:0 -> ../y"]),
        ("L /srv/x", &["/srv/x 120777 0:0 -> /usr/share/factory/srv/x"]),
        (
            "L? /srv/x - - - - full/a\nL? /srv/y - - - - full/gone",
            &["/srv/x 120777 0:0 -> full/a"],
        ),
        (
            "C /srv/x - - - - /usr/share/base/hosts",
            &["/srv/x 100640 0:0 hosts\\n"],
        ),
        (
            "C /srv/x 0711 bird - - /usr/share/base",
            &[
                "/srv/x 40711 5:0",
                "/srv/x/hosts 100640 5:0 hosts\\n",
                "/srv/x/sub 40755 5:0",
                "/srv/x/sub/one 100600 5:0 one\\n",
            ],
        ),
        ("C /srv/x - - - - /no/where", &[]),
        ("d! /srv/x\nd /run/x\nx /srv/x\nX /srv/x", &[]),
        ("d /srv/x 0750\nz /srv/x 0700 bird", &["/srv/x 40700 5:0"]),
        ("z /srv/x 0700\nd /srv/x 0750", &["/srv/x 40700 0:0"]),
        ("d /srv/x 0750\nd /srv/x 0700", &["/srv/x 40750 0:0"]),
        (
            "d /srv/x/y/z 0700\nd /srv/x 0711",
            &["/srv/x 40711 0:0", "/srv/x/y 40755 0:0", "/srv/x/y/z 40700 0:0"],
        ),
    ];
    for (conf, added) in table {
        let (lines, warnings) = after(conf);
        let new: Vec<&String> = lines
            .iter()
            .filter(|line| !FULL.contains(&line.as_str()))
            .collect();
        assert_eq!(new, *added, "{conf}");
        assert_eq!(lines.len(), FULL.len() + added.len(), "{conf}");
        assert!(warnings.is_empty(), "{conf}: {warnings:?}");
    }
}

/// What each modifier changes: the same line without it, and with it.
#[test]
fn each_modifier() {
    let table: &[(&str, &[&str], &str, &[&str])] = &[
        ("d /srv/x", &["/srv/x 40755 0:0"], "d! /srv/x", &[]),
        (
            "d /srv/x",
            &["/srv/x 40755 0:0"],
            "d- /srv/x",
            &["/srv/x 40755 0:0"],
        ),
        (
            "d /srv/x",
            &["/srv/x 40755 0:0"],
            "d$ /srv/x",
            &["/srv/x 40755 0:0"],
        ),
        (
            "f /srv/x - - - - word",
            &["/srv/x 100644 0:0 word"],
            "f^ /srv/x - - - - word",
            &[],
        ),
        (
            "f /srv/x - - - - aGk=",
            &["/srv/x 100644 0:0 aGk="],
            "f~ /srv/x - - - - aGk=",
            &["/srv/x 100644 0:0 hi"],
        ),
        (
            "L /srv/x - - - - full/gone",
            &["/srv/x 120777 0:0 -> full/gone"],
            "L? /srv/x - - - - full/gone",
            &[],
        ),
        // Together, in any order.
        ("d-$ /srv/x", &["/srv/x 40755 0:0"], "d$-! /srv/x", &[]),
        (
            "f~- /srv/x - - - - aGk=",
            &["/srv/x 100644 0:0 hi"],
            "f-~^ /srv/x - - - - aGk=",
            &[],
        ),
    ];
    for (plain, without, modified, with) in table {
        for (conf, added) in [(plain, without), (modified, with)] {
            let (lines, _) = after(conf);
            let new: Vec<&String> = lines
                .iter()
                .filter(|line| !FULL.contains(&line.as_str()))
                .collect();
            assert_eq!(new, **added, "{conf}");
        }
    }
    // What is of another type goes for a forced or replacing line alone.
    for (conf, kind) in [
        ("d /srv/full/a", "100644"),
        ("d= /srv/full/a", "40755"),
        ("p /srv/full/a", "100644"),
        ("p= /srv/full/a", "10644"),
        ("p+ /srv/full/a", "10644"),
        ("L /srv/full/a - - - - b", "100644"),
        ("L= /srv/full/a - - - - b", "120777"),
        ("L+ /srv/full/a - - - - b", "120777"),
    ] {
        let (lines, _) = after(conf);
        let start = format!("/srv/full/a {kind} ");
        assert!(
            lines.iter().any(|line| line.starts_with(&start)),
            "{conf}: {lines:?}"
        );
    }
}

/// What a line makes of what is there.
#[test]
fn what_is_there_is_changed() {
    let table: &[(&str, [&str; 4])] = &[
        (
            "f+ /srv/full/a 0600 - - - new",
            ["", "/srv/full/a 100600 0:0 new", "", ""],
        ),
        (
            "f /srv/full/a 0600 - - - new",
            ["", "/srv/full/a 100600 0:0 a", "", ""],
        ),
        ("f /srv/full/a :0600 :bird - - new", ["", "", "", ""]),
        (
            "w /srv/full/a* - - - - xyz",
            ["", "/srv/full/a 100644 0:0 xyz", "", ""],
        ),
        ("w /srv/gone - - - - xyz", ["", "", "", ""]),
        ("e /srv/* 0700 bird", ["/srv/full 40700 5:0", "", "", ""]),
        (
            "z /srv/full/[ab] 0700",
            ["", "/srv/full/a 100700 0:0 a", "/srv/full/b 40700 0:0", ""],
        ),
        ("m /srv/full/a 0400", ["", "/srv/full/a 100400 0:0 a", "", ""]),
        (
            "Z /srv/full ~2775 bird :mail",
            [
                "/srv/full 42775 5:0",
                "/srv/full/a 100664 5:0 a",
                "/srv/full/b 42775 5:0",
                "/srv/full/b/c 100775 5:0 c",
            ],
        ),
        (
            "L+ /srv/full/a - - - - b/c",
            ["", "/srv/full/a 120777 0:0 -> b/c", "", ""],
        ),
        ("L /srv/full/a - - - - b/c", ["", "", "", ""]),
        ("p+ /srv/full/a", ["", "/srv/full/a 10644 0:0", "", ""]),
        ("d= /srv/full/a", ["", "/srv/full/a 40755 0:0", "", ""]),
    ];
    for (conf, changed) in table {
        let (lines, warnings) = after(conf);
        for ((line, before), change) in lines.iter().zip(FULL).zip(changed) {
            assert_eq!(line, if change.is_empty() { before } else { change }, "{conf}");
        }
        assert_eq!(lines.len(), FULL.len(), "{conf}: {lines:?}");
        assert!(warnings.is_empty(), "{conf}: {warnings:?}");
    }
}

#[test]
fn what_is_to_go_goes_first() {
    let left = |conf: &str| {
        after(conf)
            .0
            .into_iter()
            .map(|line| line.split(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(left("R /srv/full"), [] as [&str; 0]);
    assert_eq!(
        left("r /srv/full/*"),
        ["/srv/full", "/srv/full/b", "/srv/full/b/c"]
    );
    assert_eq!(left("D /srv/full"), ["/srv/full"]);
    assert_eq!(
        left("D /srv/full\nx /srv/full/b"),
        ["/srv/full", "/srv/full/b", "/srv/full/b/c"]
    );
    assert_eq!(
        left("R /srv/full\nd /srv/full/b/new"),
        ["/srv/full", "/srv/full/b", "/srv/full/b/new"]
    );
    assert_eq!(
        left("d /srv/full/new\nR /srv/full"),
        ["/srv/full", "/srv/full/new"]
    );
}

#[test]
fn copies_add_what_is_missing() {
    let conf = "C+ /srv/full - - - - /usr/share/base\nC /srv/full/b - - - - /usr/share/base\n";
    let (lines, _) = after(conf);
    assert_eq!(lines.len(), FULL.len() + 3, "{lines:?}");
    assert!(lines.contains(&"/srv/full/hosts 100640 0:0 hosts\\n".to_owned()));
    // Hard links stay hard links.
    let mut tree = tree("C /srv/x - - - - /usr/share/base\n");
    let id = tree.resolve(b"usr/share/base/hosts", Follow::All).unwrap();
    tree.link(id, b"usr/share/base/again").unwrap();
    run(&mut tree, TIME).unwrap();
    let at = |path: &[u8]| tree.resolve(path, Follow::All).unwrap();
    assert_eq!(at(b"srv/x/hosts"), at(b"srv/x/again"));
    assert_ne!(at(b"srv/x/hosts"), at(b"usr/share/base/hosts"));
}

#[test]
fn what_is_in_the_way_is_told() {
    for (conf, part) in [
        ("d /srv/full/a", "is no directory"),
        ("f /srv/full", "is no regular file"),
        ("p /srv/full/a", "is something else"),
        ("d /srv/full/a/x", "above it that is no directory"),
        ("e /srv/full/a", "is no directory"),
        ("w /srv/full - - - - x", "is no regular file"),
        ("r /srv/full", "not empty"),
        ("a /srv/full - - - - u:bird:r", "when the system runs"),
        ("h /srv/full - - - - +C", "when the system runs"),
    ] {
        let (lines, warnings) = after(conf);
        assert_eq!(lines, FULL, "{conf}");
        assert_eq!(warnings.len(), 1, "{conf}: {warnings:?}");
        assert!(
            warnings[0].contains("line 1") && warnings[0].contains(part),
            "{warnings:?}"
        );
    }
}

#[test]
fn attributes_are_set() {
    let mut tree = tree("T /srv/full - - - - user.a=b user.c=d\nt /srv/full/a - - - - user.a=z\n");
    run(&mut tree, TIME).unwrap();
    let value = |path: &[u8]| {
        let id = tree.resolve(path, Follow::All).unwrap();
        tree.inode(id).metadata.xattrs[b"user.a".as_slice()].clone()
    };
    assert_eq!(
        (value(b"srv/full/a"), value(b"srv/full/b/c")),
        (b"z".to_vec(), b"b".to_vec())
    );
}

#[test]
fn wrong_lines_are_named() {
    for (line, part) in [
        ("y /x", "no type"),
        ("d /x - nobody-has-it", "no user"),
        ("d /x - - nobody-has-it", "no group"),
    ] {
        let error = run(&mut tree(&format!("# one\n{line}\n")), TIME)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("line 2") && error.contains(part),
            "{line}: {error}"
        );
    }
}

proptest::proptest! {
    #[test]
    fn any_text_is_answered(text in "([a-zA-Z][!+=?]{0,2} /srv(/[a-z*]{0,4}){0,3}( [-0-7a-z:~]{1,4}){0,3}( /[a-z/]{0,9})?\n){0,8}") {
        let _ = run(&mut tree(&text), TIME);
    }
}
