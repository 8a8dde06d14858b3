//! Users and groups of a root by name.

use std::collections::HashMap;

/// The ids that names have in a root (passwd(5), group(5)). `root` is 0 whatever the files say.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Names {
    users: HashMap<String, u32>,
    groups: HashMap<String, u32>,
}

impl Names {
    /// Reads the texts of `etc/passwd` and `etc/group`. Lines that are none are passed over, and the first
    /// line of a name counts, as in the C library.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Names {
        Names {
            users: ids(passwd),
            groups: ids(group),
        }
    }

    /// The id of a user.
    pub fn user(&self, name: &str) -> Option<u32> {
        if name == "root" {
            Some(0)
        } else {
            self.users.get(name).copied()
        }
    }

    /// The id of a group.
    pub fn group(&self, name: &str) -> Option<u32> {
        if name == "root" {
            Some(0)
        } else {
            self.groups.get(name).copied()
        }
    }
}

fn ids(text: &[u8]) -> HashMap<String, u32> {
    let mut ids = HashMap::new();
    for line in text.split(|&byte| byte == b'\n') {
        let Ok(line) = std::str::from_utf8(line) else {
            continue;
        };
        let mut fields = line.split(':');
        let (Some(name), Some(id)) = (fields.next(), fields.nth(1)) else {
            continue;
        };
        if let (false, Ok(id)) = (name.is_empty(), id.parse()) {
            ids.entry(name.to_owned()).or_insert(id);
        }
    }
    ids
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_of_a_name_counts_and_root_is_0() {
        let names = Names::parse(
            b"root:x:7:7::/root:/bin/sh\nbird:x:471:472::/:/bin/sh\nbird:x:1:1\n:x:3\nbad:x:many\n",
            b"wheel:x:10:\nbroken\n",
        );
        assert_eq!(names.user("root"), Some(0));
        assert_eq!(names.user("bird"), Some(471));
        assert_eq!(names.user("bad"), None);
        assert_eq!(names.user(""), None);
        assert_eq!(names.group("wheel"), Some(10));
        assert_eq!(names.group("broken"), None);
    }
}
