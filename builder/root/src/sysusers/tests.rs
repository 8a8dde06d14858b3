use super::*;
use lycia_tree::Follow;

const TIME: Timestamp = Timestamp {
    seconds: 20_000 * DAY,
    nanoseconds: 0,
};

fn tree(conf: &str) -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let file = || Metadata::new(0o644, TIME);
    let mut write = |path: &str, text: &str| {
        tree.write(path.as_bytes(), file(), text.into()).unwrap();
    };
    write("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n");
    write("etc/group", "root:x:0:\n");
    write("usr/lib/sysusers.d/a.conf", conf);
    write("usr/lib/os-release", "ID=seed\n");
    tree
}

fn text(tree: &Tree, path: &str) -> String {
    String::from_utf8_lossy(tree.read(path.as_bytes()).unwrap()).into_owned()
}

fn made(conf: &str) -> Result<(String, String), RootError> {
    let mut tree = tree(conf);
    run(&mut tree, TIME)?;
    let mut again = tree.clone();
    assert!(
        run_recorded(&mut again, TIME).unwrap().written.is_empty(),
        "twice is once"
    );
    Ok((text(&tree, "etc/passwd"), text(&tree, "etc/group")))
}

#[test]
fn users_and_groups_are_made() {
    let (passwd, group) = made(
        "m bird wheel\nu bird - \"A bird\" /var/lib/bird\ng wheel 2\nu fixed 42:wheel\n\
         u! locked 77 - - /bin/false\ng any -\nm nobody2 any\nu of-%o\n",
    )
    .unwrap();
    assert_eq!(
        passwd,
        "root:x:0:0:root:/root:/bin/sh\n\
         bird:x:998:998:A bird:/var/lib/bird:/usr/bin/nologin\n\
         fixed:x:42:2::/:/usr/bin/nologin\n\
         locked:x:77:77::/:/bin/false\n\
         of-seed:x:997:997::/:/usr/bin/nologin\n\
         nobody2:x:996:996::/:/usr/bin/nologin\n"
    );
    assert_eq!(
        group,
        "root:x:0:\nwheel:x:2:bird\nany:x:999:nobody2\nbird:x:998:\nlocked:x:77:\nof-seed:x:997:\nnobody2:x:996:\n"
    );
}

#[test]
fn new_accounts_are_locked() {
    let mut tree = tree("u bird\nu root 0\nu old\nm old bird\n");
    let mode = |mode| Metadata::new(mode, TIME);
    tree.write(b"etc/shadow", mode(0o640), "old:$6$x:1::::::\n".into())
        .unwrap();
    run(&mut tree, TIME).unwrap();
    assert_eq!(
        text(&tree, "etc/shadow"),
        "old:$6$x:1::::::\nbird:!*:20000::::::\n"
    );
    assert_eq!(text(&tree, "etc/gshadow"), "bird:!*::old\nold:!*::\n");
    let mode = |path: &[u8]| tree.inode(tree.resolve(path, Follow::All).unwrap()).mode();
    assert_eq!((mode(b"etc/shadow"), mode(b"etc/gshadow")), (0o100640, 0o100600));
}

#[test]
fn ids_of_owners_and_ranges() {
    let mut tree = tree("r - 500-510\nr - 700\nu own /srv/own\ng grp /srv/own\nu a\nu b\nu gone /srv/gone\n");
    let owned = Metadata::new(0o755, TIME).owned_by(505, 506);
    tree.make_directories(b"srv/own", owned).unwrap();
    run(&mut tree, TIME).unwrap();
    let passwd = text(&tree, "etc/passwd");
    // The group comes first and gets the folder's group; the user's group of its own name then cannot.
    assert!(
        text(&tree, "etc/group").contains("grp:x:506:"),
        "{}",
        text(&tree, "etc/group")
    );
    for line in ["own:x:505:", "a:x:510:510:", "b:x:509:509:", "gone:x:508:508:"] {
        assert!(passwd.contains(line), "{line}: {passwd}");
    }
}

#[test]
fn conflicts_are_told() {
    let mut tree = tree("u a 40\nu b 40\nu a 41\nu a 40\ng b 50\n");
    let warnings = run(&mut tree, TIME).unwrap();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains("line 3: `a` differs"), "{warnings:?}");
    assert!(
        warnings[1].contains("line 2: the user b wants the id 40"),
        "{warnings:?}"
    );
    assert!(text(&tree, "etc/passwd").contains("b:x:50:50:"));
}

#[test]
fn wrong_lines_are_named() {
    for (line, part) in [
        ("x bird", "no type"),
        ("u", "no name"),
        ("u -bad", "no name"),
        ("u a:b", "no name"),
        ("u 1bird", "no name"),
        ("u a.b", "no name"),
        ("u aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "no name"),
        ("u bird many", "no id"),
        ("u bird 4294967295", "no id"),
        ("u bird 65535", "no id"),
        ("u bird 007", "no id"),
        ("u bird -", ""),
        ("u bird 5:nobody-has-it", "no group"),
        ("u bird 5:78", "no group with the id 78"),
        ("u bird - \"a:b\"", "colon"),
        ("u bird - - relative", "absolute"),
        ("u bird - - /a/../b", "absolute"),
        ("u bird - - - - more", "more than"),
        ("m bird", "no name of a group"),
        ("m bird wheel text", "no full name"),
        ("g bird - text", "no full name"),
        ("r - 9-3", "no range"),
        ("r name 3-9", "no name"),
        ("u bird \"", "quote"),
        ("u %x", "no specifier"),
    ] {
        let result = made(&format!("# first\n{line}\n"));
        if part.is_empty() {
            result.unwrap();
            continue;
        }
        let error = result.unwrap_err().to_string();
        assert!(
            error.contains("line 2") && error.contains(part),
            "{line}: {error}"
        );
    }
}

#[test]
fn ids_run_out_with_an_error() {
    assert!(matches!(
        made("r - 5-6\ng a\ng b\ng c\n"),
        Err(RootError::NoId(_))
    ));
}

proptest::proptest! {
    #[test]
    fn any_text_is_answered(text in "([ugmr]!? [a-c%-]{1,3}( [-0-9:/a-c]{1,4}){0,3}\n){0,8}") {
        let _ = made(&text);
    }
}
