//! System users and groups from `sysusers.d` (sysusers.d(5)).

use std::collections::{BTreeMap, BTreeSet};

use lycia_tree::{Follow, Metadata, Timestamp, Tree};

use crate::text::{Line, configuration};
use crate::{RootError, Step, replace};

/// Folders in the order of precedence.
const FOLDERS: &[&str] = &[
    "etc/sysusers.d",
    "run/sysusers.d",
    "usr/local/lib/sysusers.d",
    "usr/lib/sysusers.d",
];
/// System ids are given out from here downwards.
const ID_MAX: u32 = 999;
const ID_MIN: u32 = 1;

#[derive(Clone, Debug)]
struct User {
    name: String,
    password: String,
    uid: u32,
    gid: u32,
    gecos: String,
    home: String,
    shell: String,
}

#[derive(Clone, Debug)]
struct Group {
    name: String,
    password: String,
    gid: u32,
    members: Vec<String>,
}

/// The accounts of a root, in the order of the files.
#[derive(Default)]
struct Accounts {
    users: Vec<User>,
    groups: Vec<Group>,
    low: u32,
    high: u32,
}

/// Makes the users and groups that the root's packages ask for; gives warnings.
///
/// # Errors
/// When a line of `sysusers.d` is wrong or ids are used up.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Vec<String>, RootError> {
    Ok(run_recorded(tree, time)?.warnings)
}

/// As [`run`], saying also what was written.
///
/// # Errors
/// As [`run`].
pub fn run_recorded(tree: &mut Tree, time: Timestamp) -> Result<Step, RootError> {
    let mut step = Step::default();
    let lines = configuration(tree, FOLDERS)?;
    if lines.is_empty() {
        return Ok(step);
    }
    let mut accounts = Accounts::read(tree)?;
    // Groups before users, and memberships last, whatever the order of the files; fixed ids before
    // those that are chosen, so that none is taken away.
    for line in &lines {
        match line.words[0].as_str() {
            "r" => accounts.range(line)?,
            "g" | "u" | "u!" | "m" => {}
            other => return Err(line.wrong(format!("`{other}` is no type of line"))),
        }
        if line.words[0] != "r" {
            check_name(line, line.words.get(1))?;
        }
    }
    let fixed = |line: &&Line| {
        line.word(2)
            .is_some_and(|id| id.starts_with(|first: char| first.is_ascii_digit()))
    };
    for wanted in [true, false] {
        for line in lines
            .iter()
            .filter(|line| line.words[0] == "g" && fixed(line) == wanted)
        {
            accounts.add_group(tree, line)?;
        }
    }
    for wanted in [true, false] {
        for line in lines
            .iter()
            .filter(|line| line.words[0].starts_with('u') && fixed(line) == wanted)
        {
            accounts.add_user(tree, line, &mut step.warnings)?;
        }
    }
    for line in lines.iter().filter(|line| line.words[0] == "m") {
        accounts.add_member(line)?;
    }
    replace(
        tree,
        b"etc/passwd",
        0o644,
        accounts.passwd().into_bytes(),
        time,
        &mut step.written,
    )?;
    replace(
        tree,
        b"etc/group",
        0o644,
        accounts.group().into_bytes(),
        time,
        &mut step.written,
    )?;
    if tree.find(b"etc", Follow::All)?.is_none() {
        tree.make_directory(b"etc", Metadata::new(0o755, time))?;
    }
    Ok(step)
}

fn check_name<'a>(line: &Line, name: Option<&'a String>) -> Result<&'a str, RootError> {
    let name = name.map(String::as_str).unwrap_or_default();
    let fits = |letter: char| letter.is_ascii_alphanumeric() || "_-.".contains(letter);
    if name.is_empty() || name.len() > 31 || name.starts_with(['-', '.']) || !name.chars().all(fits) {
        return Err(line.wrong(format!("`{}` is no name of a user or group", name.escape_debug())));
    }
    Ok(name)
}

impl Accounts {
    fn read(tree: &Tree) -> Result<Accounts, RootError> {
        let text = |path: &str| -> Result<String, RootError> {
            match tree.find(path.as_bytes(), Follow::All)? {
                None => Ok(String::new()),
                Some(_) => Ok(String::from_utf8_lossy(tree.read(path.as_bytes())?).into_owned()),
            }
        };
        let mut accounts = Accounts {
            low: ID_MIN,
            high: ID_MAX,
            ..Accounts::default()
        };
        let bad = |file: &str, number: usize| RootError::Line {
            file: file.to_owned(),
            line: number + 1,
            what: "is not as passwd(5) or group(5) say".to_owned(),
        };
        for (number, line) in text("etc/passwd")?
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
        {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, password, uid, gid, gecos, home, shell] = fields[..] else {
                return Err(bad("etc/passwd", number));
            };
            accounts.users.push(User {
                name: name.to_owned(),
                password: password.to_owned(),
                uid: uid.parse().map_err(|_| bad("etc/passwd", number))?,
                gid: gid.parse().map_err(|_| bad("etc/passwd", number))?,
                gecos: gecos.to_owned(),
                home: home.to_owned(),
                shell: shell.to_owned(),
            });
        }
        for (number, line) in text("etc/group")?
            .lines()
            .enumerate()
            .filter(|(_, line)| !line.is_empty())
        {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, password, gid, members] = fields[..] else {
                return Err(bad("etc/group", number));
            };
            accounts.groups.push(Group {
                name: name.to_owned(),
                password: password.to_owned(),
                gid: gid.parse().map_err(|_| bad("etc/group", number))?,
                members: members
                    .split(',')
                    .filter(|name| !name.is_empty())
                    .map(str::to_owned)
                    .collect(),
            });
        }
        Ok(accounts)
    }

    fn range(&mut self, line: &Line) -> Result<(), RootError> {
        let text = line.word(2).unwrap_or_default();
        let (low, high) = text.split_once('-').unwrap_or((text, text));
        match (low.parse(), high.parse()) {
            (Ok(low), Ok(high)) if 0 < low && low <= high => (self.low, self.high) = (low, high),
            _ => return Err(line.wrong(format!("`{text}` is no range of ids"))),
        }
        Ok(())
    }

    fn free(&self, id: u32) -> bool {
        !self.users.iter().any(|user| user.uid == id) && !self.groups.iter().any(|group| group.gid == id)
    }

    fn next(&self, name: &str) -> Result<u32, RootError> {
        (self.low..=self.high)
            .rev()
            .find(|&id| self.free(id))
            .ok_or_else(|| RootError::NoId(name.to_owned()))
    }

    fn add_group(&mut self, tree: &Tree, line: &Line) -> Result<(), RootError> {
        let name = check_name(line, line.words.get(1))?.to_owned();
        if self.groups.iter().any(|group| group.name == name) {
            return Ok(());
        }
        let gid = match line.word(2) {
            None => self.next(&name)?,
            Some(path) if path.starts_with('/') => match tree.find(path.as_bytes(), Follow::All)? {
                Some(id) => tree.inode(id).metadata.gid,
                None => self.next(&name)?,
            },
            Some(text) => {
                let id = text
                    .parse()
                    .map_err(|_| line.wrong(format!("`{text}` is no id")))?;
                // A number that is taken by another is a wish only, as systemd-sysusers takes it.
                if self.groups.iter().any(|group| group.gid == id) {
                    self.next(&name)?
                } else {
                    id
                }
            }
        };
        self.groups.push(Group {
            name,
            password: "x".to_owned(),
            gid,
            members: Vec::new(),
        });
        Ok(())
    }

    fn add_user(&mut self, tree: &Tree, line: &Line, warnings: &mut Vec<String>) -> Result<(), RootError> {
        let name = check_name(line, line.words.get(1))?.to_owned();
        if self.users.iter().any(|user| user.name == name) {
            return Ok(());
        }
        let mut wanted = None;
        let mut primary: Option<u32> = None;
        match line.word(2) {
            None => {}
            Some(path) if path.starts_with('/') => {
                wanted = tree
                    .find(path.as_bytes(), Follow::All)?
                    .map(|id| tree.inode(id).metadata.uid);
            }
            Some(text) => {
                let (uid, group) = text
                    .split_once(':')
                    .map_or((text, None), |(uid, group)| (uid, Some(group)));
                if uid != "-" {
                    wanted = Some(uid.parse().map_err(|_| line.wrong(format!("`{uid}` is no id")))?);
                }
                if let Some(group) = group {
                    let known = self
                        .groups
                        .iter()
                        .find(|known| known.name == group)
                        .map(|known| known.gid);
                    primary = Some(match (known, group.parse()) {
                        (Some(gid), _) | (None, Ok(gid)) => gid,
                        _ => return Err(line.wrong(format!("there is no group `{group}`"))),
                    });
                }
            }
        }
        let taken = |id: u32| self.users.iter().any(|user| user.uid == id);
        let own_group = self
            .groups
            .iter()
            .find(|group| group.name == name)
            .map(|group| group.gid);
        let uid = match (wanted, own_group) {
            (Some(id), _) if !taken(id) => id,
            (Some(id), _) => {
                let other = self.next(&name)?;
                warnings.push(format!(
                    "the user {name} wants the id {id}, which is taken, and got {other}"
                ));
                other
            }
            (None, Some(id)) if !taken(id) => id,
            (None, _) => self.next(&name)?,
        };
        let gid = match (primary, own_group) {
            (Some(gid), _) | (None, Some(gid)) => gid,
            (None, None) => {
                let gid = if self.groups.iter().any(|group| group.gid == uid) {
                    self.next(&name)?
                } else {
                    uid
                };
                self.groups.push(Group {
                    name: name.clone(),
                    password: "x".to_owned(),
                    gid,
                    members: Vec::new(),
                });
                gid
            }
        };
        let plain = |at: usize, usual: &str| -> Result<String, RootError> {
            let text = line.word(at).unwrap_or(usual);
            if text.contains([':', '\n']) {
                return Err(line.wrong(format!("`{}` has a colon or a line break", text.escape_debug())));
            }
            Ok(text.to_owned())
        };
        let shell = if uid == 0 { "/bin/sh" } else { "/usr/bin/nologin" };
        self.users.push(User {
            gecos: plain(3, "")?,
            home: plain(4, "/")?,
            shell: plain(5, shell)?,
            name,
            password: "x".to_owned(),
            uid,
            gid,
        });
        Ok(())
    }

    fn add_member(&mut self, line: &Line) -> Result<(), RootError> {
        let name = check_name(line, line.words.get(1))?.to_owned();
        let group = check_name(line, line.words.get(2))?.to_owned();
        if !self.users.iter().any(|user| user.name == name) {
            return Err(line.wrong(format!("there is no user `{name}`")));
        }
        if !self.groups.iter().any(|known| known.name == group) {
            let gid = self.next(&group)?;
            self.groups.push(Group {
                name: group.clone(),
                password: "x".to_owned(),
                gid,
                members: Vec::new(),
            });
        }
        for known in self.groups.iter_mut().filter(|known| known.name == group) {
            if !known.members.contains(&name) {
                known.members.push(name.clone());
            }
        }
        Ok(())
    }

    fn passwd(&self) -> String {
        let line = |user: &User| {
            format!(
                "{}:{}:{}:{}:{}:{}:{}\n",
                user.name, user.password, user.uid, user.gid, user.gecos, user.home, user.shell
            )
        };
        self.users.iter().map(line).collect()
    }

    fn group(&self) -> String {
        let line = |group: &Group| {
            format!(
                "{}:{}:{}:{}\n",
                group.name,
                group.password,
                group.gid,
                group.members.join(",")
            )
        };
        self.groups.iter().map(line).collect()
    }
}

/// Ids of users and groups by name, of a root's `passwd` and `group`.
pub(crate) struct Ids {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Ids {
    pub(crate) fn read(tree: &Tree) -> Result<Ids, RootError> {
        let accounts = Accounts::read(tree)?;
        let mut seen = BTreeSet::new();
        let users = accounts
            .users
            .into_iter()
            .filter(|user| seen.insert(user.name.clone()));
        let users = users.map(|user| (user.name, user.uid)).collect();
        let groups = accounts
            .groups
            .into_iter()
            .map(|group| (group.name, group.gid))
            .collect();
        Ok(Ids { users, groups })
    }

    pub(crate) fn user(&self, name: &str) -> Option<u32> {
        if name == "root" {
            Some(0)
        } else {
            name.parse().ok().or_else(|| self.users.get(name).copied())
        }
    }

    pub(crate) fn group(&self, name: &str) -> Option<u32> {
        if name == "root" {
            Some(0)
        } else {
            name.parse().ok().or_else(|| self.groups.get(name).copied())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp {
        seconds: 0,
        nanoseconds: 0,
    };

    fn made(conf: &str) -> Result<(String, String), RootError> {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        let file = || Metadata::new(0o644, TIME);
        tree.write(b"etc/passwd", file(), "root:x:0:0:root:/root:/bin/sh\n".into())?;
        tree.write(b"etc/group", file(), "root:x:0:\n".into())?;
        tree.write(b"usr/lib/sysusers.d/a.conf", file(), conf.into())?;
        run(&mut tree, TIME)?;
        let text = |path: &[u8]| String::from_utf8_lossy(tree.read(path).unwrap()).into_owned();
        let first = (text(b"etc/passwd"), text(b"etc/group"));
        let mut again = tree.clone();
        assert!(
            run_recorded(&mut again, TIME).unwrap().written.is_empty(),
            "twice is once"
        );
        Ok(first)
    }

    #[test]
    fn users_and_groups_are_made() {
        let (passwd, group) = made(
            "m bird wheel\nu bird - \"A bird\" /var/lib/bird\nu fixed 42:wheel\nu! locked 77 - - /bin/false\ng wheel 2\ng any -\n",
        )
        .unwrap();
        assert_eq!(
            passwd,
            "root:x:0:0:root:/root:/bin/sh\n\
             fixed:x:42:2::/:/usr/bin/nologin\n\
             locked:x:77:77::/:/bin/false\n\
             bird:x:998:998:A bird:/var/lib/bird:/usr/bin/nologin\n"
        );
        assert_eq!(
            group,
            "root:x:0:\nwheel:x:2:bird\nany:x:999:\nlocked:x:77:\nbird:x:998:\n"
        );
    }

    #[test]
    fn wrong_lines_are_named() {
        for (line, part) in [
            ("x bird", "no type"),
            ("u", "no name"),
            ("u -bad", "no name"),
            ("u a:b", "no name"),
            ("u bird many", "no id"),
            ("u bird 5:nobody-has-it", "no group"),
            ("u bird - \"a:b\"", "colon"),
            ("m nobody-has-it wheel", "no user"),
            ("r - 9-3", "no range"),
            ("u bird \"", "quote"),
        ] {
            let error = made(&format!("# first\n{line}\n")).unwrap_err().to_string();
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
}
