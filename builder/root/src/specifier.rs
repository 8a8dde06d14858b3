//! Specifiers (`%o`) in lines of `sysusers.d` and `tmpfiles.d`, as systemd's formats and sd-tools have them.

use std::collections::BTreeMap;

use lycia_tree::{Follow, Tree};

use crate::RootError;

/// Which specifiers a format has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Table {
    /// Of `sysusers.d`.
    Sysusers,
    /// Of `tmpfiles.d`.
    Tmpfiles,
}

/// What specifiers stand for in a root.
#[derive(Clone, Default, Debug)]
pub struct Specifiers {
    /// Fields of `os-release`.
    release: BTreeMap<String, String>,
}

/// What came of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Expanded {
    /// The text with all specifiers replaced.
    Text(Vec<u8>),
    /// It has one that only a running system knows: its boot, its machine, its host name, its kernel.
    Unknown,
}

impl Specifiers {
    /// Reads what the root says of itself (os-release(5)).
    pub fn read(tree: &Tree) -> Result<Specifiers, RootError> {
        let mut release = BTreeMap::new();
        for path in [b"etc/os-release".as_slice(), b"usr/lib/os-release"] {
            let Some(id) = tree.find(path, Follow::All)? else {
                continue;
            };
            let bytes = tree.inode(id).content().map(|content| content.bytes());
            let text = String::from_utf8_lossy(bytes.unwrap_or_default());
            for line in text.lines().take(1000) {
                if let Some((key, value)) = line.trim().split_once('=') {
                    let words = crate::text::split(value).unwrap_or_default();
                    release.insert(key.to_owned(), words.concat());
                }
            }
            break;
        }
        Ok(Specifiers { release })
    }

    /// Replaces the specifiers of a text. One that the format does not have is an error; a `%` at the end
    /// stands for itself.
    pub fn expand(&self, text: &[u8], table: Table) -> Result<Expanded, String> {
        let mut out = Vec::with_capacity(text.len());
        let mut bytes = text.iter();
        while let Some(&byte) = bytes.next() {
            if byte != b'%' {
                out.push(byte);
                continue;
            }
            let Some(&letter) = bytes.next() else {
                out.push(b'%');
                break;
            };
            match self.value(letter, table) {
                Some(Some(value)) => out.extend_from_slice(value.as_bytes()),
                Some(None) => return Ok(Expanded::Unknown),
                None => return Err(format!("`%{}` is no specifier", letter.escape_ascii())),
            }
        }
        Ok(Expanded::Text(out))
    }

    /// What a letter stands for: none if it is none, and none inside where the running system knows.
    fn value(&self, letter: u8, table: Table) -> Option<Option<&str>> {
        let release = |key: &str| Some(self.release.get(key).map_or("", String::as_str));
        let value = match (letter, table) {
            (b'%', _) => Some("%"),
            (b'a' | b'b' | b'H' | b'l' | b'm' | b'v', _) => None,
            (b'B', _) => release("BUILD_ID"),
            (b'o', _) => release("ID"),
            (b'w', _) => release("VERSION_ID"),
            (b'W', _) => release("VARIANT_ID"),
            (b'T', _) => Some("/tmp"),
            (b'V', _) => Some("/var/tmp"),
            (b'A', Table::Sysusers) => release("IMAGE_VERSION"),
            (b'M', Table::Sysusers) => release("IMAGE_ID"),
            (b'C', Table::Tmpfiles) => Some("/var/cache"),
            (b'L', Table::Tmpfiles) => Some("/var/log"),
            (b'S', Table::Tmpfiles) => Some("/var/lib"),
            (b't', Table::Tmpfiles) => Some("/run"),
            // The manager is root's.
            (b'h', Table::Tmpfiles) => Some("/root"),
            (b'u' | b'g', Table::Tmpfiles) => Some("root"),
            (b'U' | b'G', Table::Tmpfiles) => Some("0"),
            _ => return None,
        };
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_tree::{Metadata, Timestamp};

    #[test]
    fn letters_stand_for_what_the_root_says() {
        let time = Timestamp::from_seconds(0);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        let release = "ID=chimera\nNAME=\"Chimera Linux\"\nVERSION_ID='7 x'\n";
        tree.write(b"usr/lib/os-release", Metadata::new(0o644, time), release.into())
            .unwrap();
        let specifiers = Specifiers::read(&tree).unwrap();
        let expand = |text: &str, table| match specifiers.expand(text.as_bytes(), table) {
            Ok(Expanded::Text(text)) => String::from_utf8(text).unwrap(),
            Ok(Expanded::Unknown) => "unknown".to_owned(),
            Err(error) => error,
        };
        for (text, result) in [
            ("a%%b%", "a%b%"),
            ("%o-%w-%W-%B", "chimera-7 x--"),
            ("%S%C%L%t", "/var/lib/var/cache/var/log/run"),
            ("%h %u%U %g%G %T %V", "/root root0 root0 /tmp /var/tmp"),
            ("x%m", "unknown"),
            ("%x%m", "`%x` is no specifier"),
            ("%A", "`%A` is no specifier"),
        ] {
            assert_eq!(expand(text, Table::Tmpfiles), result);
        }
        assert_eq!(expand("%A%M%o", Table::Sysusers), "chimera");
        assert_eq!(expand("%S", Table::Sysusers), "`%S` is no specifier");
        for letter in "abHlmv".chars() {
            assert_eq!(expand(&format!("%{letter}"), Table::Sysusers), "unknown");
        }
    }
}
