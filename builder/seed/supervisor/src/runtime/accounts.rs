//! Users and groups from /etc/passwd and /etc/group (passwd(5), group(5)). Read directly: a static program
//! has no name service, and the seed has no other source of users.

use std::path::Path;

/// Largest account file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// A line of the password file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User number.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Home directory.
    pub home: String,
    /// Shell.
    pub shell: String,
}

/// The account files' text.
#[derive(Debug, Clone, Default)]
pub struct Accounts {
    passwd: String,
    group: String,
}

impl Accounts {
    /// Reads the files; one that is missing counts as empty.
    pub fn read() -> Accounts {
        Accounts {
            passwd: read(Path::new("/etc/passwd")),
            group: read(Path::new("/etc/group")),
        }
    }

    fn users(&self) -> impl Iterator<Item = User> {
        self.passwd.lines().filter_map(|line| {
            let fields: Vec<&str> = line.split(':').collect();
            let [name, _, uid, gid, _, home, shell] = fields[..] else {
                return None;
            };
            let (uid, gid) = (uid.parse().ok()?, gid.parse().ok()?);
            Some(User {
                name: name.into(),
                uid,
                gid,
                home: home.into(),
                shell: shell.into(),
            })
        })
    }

    /// A user by name or, failing that, by number.
    pub fn user(&self, name: &str) -> Option<User> {
        let by_number = name.parse::<u32>().ok();
        let found = self.users().find(|user| user.name == name);
        found.or_else(|| self.users().find(|user| Some(user.uid) == by_number))
    }

    /// A group's number by name or number.
    pub fn group(&self, name: &str) -> Option<u32> {
        if let Ok(number) = name.parse() {
            return Some(number);
        }
        self.group.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        })
    }

    /// All groups of a user, the primary one first.
    pub fn groups_of(&self, user: &User) -> Vec<u32> {
        let mut groups = vec![user.gid];
        for line in self.group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            let [_, _, gid, members] = fields[..] else {
                continue;
            };
            let Ok(gid) = gid.parse() else { continue };
            if members.split(',').any(|member| member == user.name) && !groups.contains(&gid) {
                groups.push(gid);
            }
        }
        groups
    }
}

fn read(path: &Path) -> String {
    use std::io::Read as _;
    let mut text = String::new();
    // Unreadable or not UTF-8 is like missing: then names do not resolve, which is reported.
    if let Ok(file) = std::fs::File::open(path)
        && file.take(MAX_BYTES).read_to_string(&mut text).is_err()
    {
        text.clear();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(passwd: &str, group: &str) -> Accounts {
        Accounts {
            passwd: passwd.into(),
            group: group.into(),
        }
    }

    #[test]
    fn users_and_groups() {
        let accounts = with(
            "root:x:0:0:root:/root:/bin/sh\nbroken\ndhcp:x:101:102::/var/empty:/bin/false\n",
            "root:x:0:\ndhcp:x:102:\nnet:x:103:dhcp,root\nodd\n",
        );
        let dhcp = accounts.user("dhcp").unwrap();
        assert_eq!((dhcp.uid, dhcp.gid), (101, 102));
        assert_eq!(accounts.user("101").unwrap(), dhcp);
        assert_eq!(accounts.groups_of(&dhcp), [102, 103]);
        assert_eq!(accounts.group("net"), Some(103));
        assert_eq!(accounts.group("7"), Some(7));
        assert_eq!((accounts.user("none"), accounts.group("none")), (None, None));
    }
}
