//! Edits of `/etc/passwd`, `/etc/group`, `/etc/shadow` and `/etc/gshadow` as text. Lines that are not
//! touched stay as they are, bytes and order.

/// The account files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// `/etc/passwd`
    pub passwd: String,
    /// `/etc/group`
    pub group: String,
    /// `/etc/shadow`
    pub shadow: String,
    /// `/etc/gshadow`, empty if the system has none.
    pub gshadow: String,
}

/// A user to have.
#[derive(Debug, Clone, Copy)]
pub struct NewUser<'a> {
    /// Name.
    pub name: &'a str,
    /// Field for the shadow file.
    pub hash: &'a str,
    /// Login shell.
    pub shell: &'a str,
    /// Groups to join, as far as they exist.
    pub groups: &'a [&'a str],
}

/// What became of a [`NewUser`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// Its number.
    pub uid: u32,
    /// Number of its own group.
    pub gid: u32,
    /// Its home directory.
    pub home: String,
    /// Groups joined.
    pub groups: Vec<String>,
    /// Whether it was there already; then only its password and groups were changed.
    pub existed: bool,
}

/// First number tried for a live user.
pub const FIRST_UID: u32 = 1000;

fn field(line: &str, index: usize) -> Option<&str> {
    line.split(':').nth(index)
}

fn line_of<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find(|line| field(line, 0) == Some(name))
}

fn append(text: &mut String, line: &str) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
    text.push('\n');
}

/// Replaces the lines of `name` by what `edit` makes of them.
fn edit_line(text: &mut String, name: &str, edit: impl Fn(&[&str]) -> Vec<String>) {
    let mut out = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let body = line.trim_end_matches('\n');
        if field(body, 0) == Some(name) {
            out.push_str(&edit(&body.split(':').collect::<Vec<_>>()).join(":"));
            out.push_str(&line[body.len()..]);
        } else {
            out.push_str(line);
        }
    }
    *text = out;
}

fn add_member(text: &mut String, group: &str, user: &str) {
    edit_line(text, group, |fields| {
        let mut fields: Vec<String> = fields.iter().map(|field| (*field).to_owned()).collect();
        if let [_, _, _, members] = fields.as_mut_slice()
            && !members.split(',').any(|member| member == user)
        {
            if !members.is_empty() {
                members.push(',');
            }
            members.push_str(user);
        }
        fields
    });
}

impl Accounts {
    /// Sets the password field of a user, adding a shadow line if there is none. No date of the change is
    /// written: none means that the password does not age.
    pub fn set_password(&mut self, name: &str, hash: &str) {
        if line_of(&self.shadow, name).is_some() {
            edit_line(&mut self.shadow, name, |fields| {
                fields
                    .iter()
                    .enumerate()
                    .map(|(at, old)| if at == 1 { hash } else { old }.to_owned())
                    .collect()
            });
        } else {
            append(&mut self.shadow, &format!("{name}:{hash}::0:99999:7:::"));
        }
        // A password in passwd itself would win over the shadow file.
        edit_line(&mut self.passwd, name, |fields| {
            fields
                .iter()
                .enumerate()
                .map(|(at, old)| if at == 1 { "x" } else { old }.to_owned())
                .collect()
        });
    }

    fn number_is_free(&self, number: u32) -> bool {
        let number = number.to_string();
        let taken = |text: &str| text.lines().any(|line| field(line, 2) == Some(number.as_str()));
        !taken(&self.passwd) && !taken(&self.group)
    }

    /// Adds a user with a group of its own, or changes one that is there.
    pub fn add_user(&mut self, user: &NewUser<'_>) -> Made {
        let name = user.name;
        let existing = line_of(&self.passwd, name).and_then(|line| {
            Some((
                field(line, 2)?.parse().ok()?,
                field(line, 3)?.parse().ok()?,
                field(line, 5)?.to_owned(),
            ))
        });
        let existed = existing.is_some();
        let (uid, gid, home) = existing.unwrap_or_else(|| {
            let number = (FIRST_UID..60_000)
                .find(|number| self.number_is_free(*number))
                .unwrap_or(FIRST_UID);
            let home = format!("/home/{name}");
            // A system group of that name serves as the user's group.
            let gid = line_of(&self.group, name)
                .and_then(|line| field(line, 2)?.parse().ok())
                .unwrap_or_else(|| {
                    append(&mut self.group, &format!("{name}:x:{number}:"));
                    if !self.gshadow.is_empty() {
                        append(&mut self.gshadow, &format!("{name}:!::"));
                    }
                    number
                });
            append(
                &mut self.passwd,
                &format!("{name}:x:{number}:{gid}:{name}:{home}:{}", user.shell),
            );
            (number, gid, home)
        });
        let mut groups = Vec::new();
        for group in user.groups {
            if line_of(&self.group, group).is_some() {
                add_member(&mut self.group, group, name);
                add_member(&mut self.gshadow, group, name);
                groups.push((*group).to_owned());
            }
        }
        self.set_password(name, user.hash);
        Made {
            uid,
            gid,
            home,
            groups,
            existed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn accounts() -> Accounts {
        Accounts {
            passwd: "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n".into(),
            group: "root:x:0:\nwheel:x:4:other\naudio:x:12:\n".into(),
            shadow: "root:*:19000:0:99999:7:::\nnobody:!::::::\n".into(),
            gshadow: String::new(),
        }
    }

    const ANON: NewUser<'_> = NewUser {
        name: "anon",
        hash: "$6$h",
        shell: "/bin/sh",
        groups: &["wheel", "audio", "video"],
    };

    #[test]
    fn a_new_user() {
        let mut accounts = accounts();
        let made = accounts.add_user(&ANON);
        assert_eq!(
            made,
            Made {
                uid: 1000,
                gid: 1000,
                home: "/home/anon".into(),
                groups: vec!["wheel".into(), "audio".into()],
                existed: false
            }
        );
        assert!(
            accounts
                .passwd
                .ends_with("anon:x:1000:1000:anon:/home/anon:/bin/sh\n")
        );
        assert_eq!(
            accounts.group,
            "root:x:0:\nwheel:x:4:other,anon\naudio:x:12:anon\nanon:x:1000:\n"
        );
        assert!(accounts.shadow.ends_with("anon:$6$h::0:99999:7:::\n"));
        assert_eq!(accounts.gshadow, "");
    }

    #[test]
    fn numbers_in_use_are_passed_over() {
        let mut accounts = accounts();
        accounts.passwd.push_str("a:x:1000:1000::/:/bin/sh\n");
        accounts.group.push_str("b:x:1001:");
        accounts.gshadow = "wheel:!::\n".into();
        let made = accounts.add_user(&ANON);
        assert_eq!((made.uid, made.gid), (1002, 1002));
        assert!(accounts.group.contains("\nb:x:1001:\nanon:x:1002:\n"));
        assert_eq!(accounts.gshadow, "wheel:!::anon\nanon:!::\n");
    }

    #[test]
    fn an_existing_user_keeps_its_place() {
        let mut accounts = accounts();
        accounts
            .passwd
            .push_str("anon:oldhash:500:501:A:/srv/anon:/bin/zsh\n");
        let before = accounts.passwd.replace("oldhash", "x");
        let made = accounts.add_user(&ANON);
        assert_eq!(
            (made.uid, made.gid, made.home.as_str(), made.existed),
            (500, 501, "/srv/anon", true)
        );
        assert_eq!(accounts.passwd, before);
        let again = accounts.clone();
        accounts.add_user(&ANON);
        assert_eq!(accounts, again);
    }

    #[test]
    fn a_password_replaces_only_its_field() {
        let mut accounts = accounts();
        accounts.set_password("root", "$6$r");
        assert_eq!(accounts.shadow, "root:$6$r:19000:0:99999:7:::\nnobody:!::::::\n");
    }

    proptest! {
        #[test]
        fn other_lines_stay(passwd in "([ -~]{0,30}\n?){0,6}", group in "([ -~]{0,30}\n?){0,6}") {
            let mut accounts = Accounts { passwd: passwd.clone(), group, ..Accounts::default() };
            accounts.add_user(&ANON);
            for line in passwd.lines().filter(|line| !line.starts_with("anon:")) {
                prop_assert!(accounts.passwd.lines().any(|kept| kept == line));
            }
            prop_assert!(line_of(&accounts.passwd, "anon").is_some());
        }
    }
}
