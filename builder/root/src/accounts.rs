//! Users and groups of a root: `etc/passwd` (passwd(5)) and `etc/group` (group(5)), read and written.

use std::collections::BTreeMap;

use lycia_tree::{Follow, Tree};

use crate::RootError;

/// Largest file that is read, in bytes.
const FILE_MAX: u64 = 64 << 20;

/// A line of `passwd`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    pub name: String,
    pub password: String,
    pub uid: u32,
    pub gid: u32,
    pub gecos: String,
    pub home: String,
    pub shell: String,
}

/// A line of `group`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    pub name: String,
    pub password: String,
    pub gid: u32,
    pub members: Vec<String>,
}

/// The accounts of a root, in the order of the files.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Accounts {
    pub users: Vec<User>,
    pub groups: Vec<Group>,
    /// Lines that refer to other databases (`+`, `-`), which stay at the end.
    users_elsewhere: Vec<String>,
    groups_elsewhere: Vec<String>,
}

/// The text of a file of the root; nothing where it is not there.
pub fn text(tree: &Tree, path: &str) -> Result<String, RootError> {
    let wrong = |what: &str| RootError::File {
        file: path.to_owned(),
        what: what.to_owned(),
    };
    let Some(id) = tree.find(path.as_bytes(), Follow::All)? else {
        return Ok(String::new());
    };
    let content = tree
        .inode(id)
        .content()
        .ok_or_else(|| wrong("is not a regular file"))?;
    if content.len() > FILE_MAX {
        return Err(wrong("is larger than 64 MiB"));
    }
    let text = std::str::from_utf8(content.bytes()).map_err(|_| wrong("is not UTF-8"))?;
    Ok(text.to_owned())
}

impl Accounts {
    /// Reads both files of a root; one that is missing has no lines.
    pub fn read(tree: &Tree) -> Result<Accounts, RootError> {
        Accounts::parse(&text(tree, "etc/passwd")?, &text(tree, "etc/group")?)
    }

    /// Reads the texts of both files.
    pub fn parse(passwd: &str, group: &str) -> Result<Accounts, RootError> {
        let mut accounts = Accounts::default();
        let wrong = |file: &str, line: usize, page: &str| RootError::Line {
            file: file.to_owned(),
            line,
            what: format!("is not as {page} says"),
        };
        for (line, number) in passwd.lines().zip(1..).filter(|(line, _)| !line.is_empty()) {
            if line.starts_with(['+', '-']) {
                accounts.users_elsewhere.push(line.to_owned());
                continue;
            }
            let wrong = || wrong("etc/passwd", number, "passwd(5)");
            let fields: Vec<&str> = line.split(':').collect();
            let [name, password, uid, gid, gecos, home, shell] = fields[..] else {
                return Err(wrong());
            };
            accounts.users.push(User {
                name: name.to_owned(),
                password: password.to_owned(),
                uid: uid.parse().map_err(|_| wrong())?,
                gid: gid.parse().map_err(|_| wrong())?,
                gecos: gecos.to_owned(),
                home: home.to_owned(),
                shell: shell.to_owned(),
            });
        }
        for (line, number) in group.lines().zip(1..).filter(|(line, _)| !line.is_empty()) {
            if line.starts_with(['+', '-']) {
                accounts.groups_elsewhere.push(line.to_owned());
                continue;
            }
            let wrong = || wrong("etc/group", number, "group(5)");
            let fields: Vec<&str> = line.split(':').collect();
            let [name, password, gid, members] = fields[..] else {
                return Err(wrong());
            };
            let members = members.split(',').filter(|name| !name.is_empty());
            accounts.groups.push(Group {
                name: name.to_owned(),
                password: password.to_owned(),
                gid: gid.parse().map_err(|_| wrong())?,
                members: members.map(str::to_owned).collect(),
            });
        }
        Ok(accounts)
    }

    /// The text of `passwd`.
    pub fn passwd(&self) -> String {
        let mut text = String::new();
        for user in &self.users {
            let User {
                name,
                password,
                uid,
                gid,
                gecos,
                home,
                shell,
            } = user;
            text += &format!("{name}:{password}:{uid}:{gid}:{gecos}:{home}:{shell}\n");
        }
        for line in &self.users_elsewhere {
            text += &format!("{line}\n");
        }
        text
    }

    /// The text of `group`.
    pub fn group(&self) -> String {
        let mut text = String::new();
        for group in &self.groups {
            let Group {
                name,
                password,
                gid,
                members,
            } = group;
            text += &format!("{name}:{password}:{gid}:{}\n", members.join(","));
        }
        for line in &self.groups_elsewhere {
            text += &format!("{line}\n");
        }
        text
    }
}

/// Ids by name. Where a file has a name twice, its first line counts, as getpwnam(3) has it.
pub struct Ids {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Ids {
    /// The ids of a root's accounts.
    pub fn read(tree: &Tree) -> Result<Ids, RootError> {
        let accounts = Accounts::read(tree)?;
        let mut ids = Ids {
            users: BTreeMap::new(),
            groups: BTreeMap::new(),
        };
        for user in accounts.users {
            ids.users.entry(user.name).or_insert(user.uid);
        }
        for group in accounts.groups {
            ids.groups.entry(group.name).or_insert(group.gid);
        }
        Ok(ids)
    }

    /// The id of a user by name or number; root is 0 in any root.
    pub fn user(&self, name: &str) -> Option<u32> {
        id(name, &self.users)
    }

    /// The id of a group.
    pub fn group(&self, name: &str) -> Option<u32> {
        id(name, &self.groups)
    }
}

fn id(name: &str, known: &BTreeMap<String, u32>) -> Option<u32> {
    if name == "root" {
        return Some(0);
    }
    match known.get(name) {
        Some(&id) => Some(id),
        None if name.bytes().all(|byte| byte.is_ascii_digit()) => name.parse().ok(),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_and_written() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\na:!:5:6:A, b:/:\n+@nis::::::\n";
        let group = "root:x:0:\nw:x:6:a,b\n-x:::\n";
        let accounts = Accounts::parse(passwd, group).unwrap();
        assert_eq!(
            (accounts.passwd(), accounts.group()),
            (passwd.into(), group.into())
        );
        for (passwd, group, part) in [
            ("a:b\n", "", "etc/passwd, line 1: is not as passwd(5)"),
            ("\na:x:-1:0:::\n", "", "etc/passwd, line 2"),
            ("", "a:x:1\n", "etc/group, line 1: is not as group(5)"),
            ("", "a:x:z:\n", "etc/group, line 1"),
        ] {
            let error = Accounts::parse(passwd, group).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(passwd in "[a+:0-9\n]{0,30}", group in "[a,:0-9\n]{0,30}") {
            let _ = Accounts::parse(&passwd, &group);
        }
    }
}
