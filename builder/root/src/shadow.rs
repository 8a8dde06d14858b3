//! `/etc/shadow` and `/etc/gshadow`: a line for every user and group, passwords out of the open files, as
//! pwconv(8) and grpconv(8) make them (shadow(5), gshadow(5)); and, where Chimera's shadow package is, the
//! ids that its trigger moves (`nobody` from 99 to 65534, `tty` to 5).

use std::collections::{BTreeMap, HashMap};

use lycia_tree::{Follow, Timestamp, Tree};

use crate::accounts::{self, Accounts};
use crate::glob::lookup;
use crate::{RootError, replace};

const DAY: i64 = 86_400;
/// What the trigger of Chimera's package listens to.
const PACKAGE: &[u8] = b"usr/share/shadow";
/// Ids that moved in Chimera's history.
const NOBODY: (u32, u32) = (99, 65_534);
const TTY: u32 = 5;

/// Completes both files; says what it wrote.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Vec<Vec<u8>>, RootError> {
    let mut written = Vec::new();
    if lookup(tree, b"etc/passwd", Follow::All).is_none() {
        return Ok(written);
    }
    let mut accounts = Accounts::read(tree)?;
    if lookup(tree, PACKAGE, Follow::All).is_some() {
        move_ids(&mut accounts);
    }
    let day = time.seconds.max(0) / DAY;
    let ages = ages(&accounts::text(tree, "etc/login.defs")?);
    let mut shadow = Lines::parse(&accounts::text(tree, "etc/shadow")?);
    shadow.keep(accounts.users.iter().map(|user| user.name.as_str()));
    for user in &mut accounts.users {
        let password = std::mem::replace(&mut user.password, "x".to_owned());
        match shadow.find(&user.name) {
            Some(fields) if password != "x" => {
                set(fields, 1, password);
                set(fields, 2, day.to_string());
            }
            Some(_) => {}
            None => {
                let password = closed(password);
                shadow.add(format!("{}:{password}:{day}:{ages}:::", user.name));
            }
        }
    }
    let mut write = |path: &str, mode: u16, text: String| {
        replace(tree, path.as_bytes(), mode, text.into_bytes(), time, &mut written)
    };
    write("etc/passwd", 0o644, accounts.passwd())?;
    write("etc/shadow", 0o600, shadow.text())?;
    if lookup(tree, b"etc/group", Follow::All).is_none() {
        return Ok(written);
    }
    let mut gshadow = Lines::parse(&accounts::text(tree, "etc/gshadow")?);
    gshadow.keep(accounts.groups.iter().map(|group| group.name.as_str()));
    for group in &mut accounts.groups {
        let password = std::mem::replace(&mut group.password, "x".to_owned());
        let members = group.members.join(",");
        match gshadow.find(&group.name) {
            Some(fields) => {
                if password != "x" {
                    set(fields, 1, password);
                }
                set(fields, 3, members);
            }
            None => {
                let password = closed(password);
                gshadow.add(format!("{}:{password}::{members}", group.name));
            }
        }
    }
    let mut write = |path: &str, mode: u16, text: String| {
        replace(tree, path.as_bytes(), mode, text.into_bytes(), time, &mut written)
    };
    write("etc/group", 0o644, accounts.group())?;
    write("etc/gshadow", 0o600, gshadow.text())?;
    Ok(written)
}

/// The password of an account that had no line: `x` says "see there", where there is nothing, and none at
/// all would let anybody in. Locked until somebody sets one.
fn closed(password: String) -> String {
    match password.as_str() {
        "x" | "" | "*" => "!*".to_owned(),
        _ => password,
    }
}

fn set(fields: &mut Vec<String>, at: usize, value: String) {
    if fields.len() <= at {
        fields.resize(at + 1, String::new());
    }
    fields[at] = value;
}

/// Least age, greatest age and warning of passwords, from login.defs(5).
fn ages(definitions: &str) -> String {
    let value = |key: &str, usual: &str| {
        let mut found = usual.to_owned();
        for line in definitions.lines() {
            let mut words = line.split_ascii_whitespace();
            if let (Some(name), Some(value)) = (words.next(), words.next())
                && name == key
                && value.parse::<i64>().is_ok_and(|days| days >= 0)
            {
                found = value.to_owned();
            }
        }
        found
    };
    let (least, greatest, warning) = (
        value("PASS_MIN_DAYS", "0"),
        value("PASS_MAX_DAYS", "99999"),
        value("PASS_WARN_AGE", "7"),
    );
    format!("{least}:{greatest}:{warning}")
}

fn move_ids(accounts: &mut Accounts) {
    let (old, new) = NOBODY;
    if let Some(user) = accounts.users.iter_mut().find(|user| user.name == "nobody")
        && user.uid == old
    {
        (user.uid, user.gid) = (new, new);
        for group in accounts.groups.iter_mut().filter(|group| group.name == "nogroup") {
            group.gid = new;
        }
    }
    let tty = accounts.groups.iter().find(|group| group.name == "tty");
    if let Some(gid) = tty.map(|group| group.gid).filter(|&gid| gid != TTY) {
        for group in &mut accounts.groups {
            if group.name == "tty" {
                group.gid = TTY;
            } else if group.gid == TTY {
                group.gid = gid;
            }
        }
    }
}

/// The lines of a file, each with its fields.
struct Lines {
    lines: Vec<Vec<String>>,
    places: HashMap<String, usize>,
}

impl Lines {
    fn parse(text: &str) -> Lines {
        let mut lines = Lines {
            lines: Vec::new(),
            places: HashMap::new(),
        };
        for line in text.lines().filter(|line| !line.is_empty()) {
            lines.add(line.to_owned());
        }
        lines
    }

    /// Removes the lines of all others.
    fn keep<'n>(&mut self, names: impl Iterator<Item = &'n str>) {
        let names: BTreeMap<&str, ()> = names.map(|name| (name, ())).collect();
        let lines = std::mem::take(&mut self.lines);
        self.places.clear();
        for line in lines {
            let elsewhere = line[0].starts_with(['+', '-']);
            if elsewhere || names.contains_key(line[0].as_str()) {
                self.places.entry(line[0].clone()).or_insert(self.lines.len());
                self.lines.push(line);
            }
        }
    }

    fn find(&mut self, name: &str) -> Option<&mut Vec<String>> {
        let place = self.places.get(name)?;
        self.lines.get_mut(*place)
    }

    fn add(&mut self, line: String) {
        let fields: Vec<String> = line.split(':').map(str::to_owned).collect();
        self.places.entry(fields[0].clone()).or_insert(self.lines.len());
        self.lines.push(fields);
    }

    fn text(&self) -> String {
        self.lines.iter().map(|fields| fields.join(":") + "\n").collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_tree::Metadata;

    const TIME: Timestamp = Timestamp {
        seconds: 20_000 * DAY,
        nanoseconds: 0,
    };

    fn tree(files: &[(&str, u16, &str)]) -> Tree {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        for (path, mode, text) in files {
            tree.write(path.as_bytes(), Metadata::new(*mode, TIME), (*text).into())
                .unwrap();
        }
        tree
    }

    fn text(tree: &Tree, path: &str) -> String {
        String::from_utf8(tree.read(path.as_bytes()).unwrap().to_vec()).unwrap()
    }

    #[test]
    fn every_user_gets_a_line_once() {
        let mut tree = tree(&[
            (
                "etc/passwd",
                0o644,
                "root:x:0:0::/root:/bin/sh\nbob:$6$h:1:1::/:/bin/sh\neve:$6$e:2:2::/:/bin/sh\nopen::3:3::/:/bin/sh\n",
            ),
            (
                "etc/group",
                0o644,
                "root:x:0:\nwheel:$6$g:10:bob,eve\nold:x:11:bob\n",
            ),
            (
                "etc/shadow",
                0o640,
                "root:*:1::::::\neve:!:5::::::\ngone:x:1::::::\n",
            ),
            ("etc/gshadow", 0o640, "old:!:bob:nobody\ngone:!::\n"),
        ]);
        assert_eq!(run(&mut tree, TIME).unwrap().len(), 4);
        assert_eq!(
            text(&tree, "etc/shadow"),
            "root:*:1::::::\neve:$6$e:20000::::::\nbob:$6$h:20000:0:99999:7:::\nopen:!*:20000:0:99999:7:::\n"
        );
        assert_eq!(
            text(&tree, "etc/passwd"),
            "root:x:0:0::/root:/bin/sh\nbob:x:1:1::/:/bin/sh\neve:x:2:2::/:/bin/sh\nopen:x:3:3::/:/bin/sh\n"
        );
        assert_eq!(
            text(&tree, "etc/group"),
            "root:x:0:\nwheel:x:10:bob,eve\nold:x:11:bob\n"
        );
        assert_eq!(
            text(&tree, "etc/gshadow"),
            "old:!:bob:bob\nroot:!*::\nwheel:$6$g::bob,eve\n"
        );
        let mode = |path: &[u8]| tree.inode(tree.resolve(path, Follow::All).unwrap()).metadata.mode;
        assert_eq!((mode(b"etc/shadow"), mode(b"etc/gshadow")), (0o640, 0o640));
        assert!(run(&mut tree, TIME).unwrap().is_empty(), "twice is once");
    }

    #[test]
    fn ages_come_from_login_defs() {
        assert_eq!(ages(""), "0:99999:7");
        assert_eq!(
            ages("#PASS_MIN_DAYS 9\nPASS_MIN_DAYS\t3\nPASS_MAX_DAYS x\nPASS_WARN_AGE -1\n"),
            "3:99999:7"
        );
    }

    #[test]
    fn ids_move_where_the_package_is() {
        let passwd = "nobody:x:99:99::/:/bin/false\n";
        let group = "nogroup:x:99:\ntty:x:7:\ncdrom:x:5:\n";
        let mut tree = tree(&[("etc/passwd", 0o644, passwd), ("etc/group", 0o644, group)]);
        run(&mut tree, TIME).unwrap();
        assert_eq!(
            (text(&tree, "etc/passwd"), text(&tree, "etc/group")),
            (passwd.into(), group.into())
        );
        tree.make_directories(PACKAGE, Metadata::new(0o755, TIME))
            .unwrap();
        run(&mut tree, TIME).unwrap();
        assert_eq!(text(&tree, "etc/passwd"), "nobody:x:65534:65534::/:/bin/false\n");
        assert_eq!(
            text(&tree, "etc/group"),
            "nogroup:x:65534:\ntty:x:5:\ncdrom:x:7:\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_shadow_is_answered(shadow in "[a+:x0-9\n]{0,30}", gshadow in "[a,:\n]{0,30}") {
            let mut tree = tree(&[
                ("etc/passwd", 0o644, "a:y:1:1::/:/bin/sh\n"),
                ("etc/group", 0o644, "a:y:1:b\n"),
                ("etc/shadow", 0o600, &shadow),
                ("etc/gshadow", 0o600, &gshadow),
            ]);
            run(&mut tree, TIME).unwrap();
            proptest::prop_assert!(run(&mut tree, TIME).unwrap().is_empty());
        }
    }
}
