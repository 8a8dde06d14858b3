//! Which directories hold files that the administrator may have changed.

use lycia_tree::{Follow, Tree};

use crate::glob;

/// Where further rules are, below the root.
const DIRECTORY: &[u8] = b"etc/apk/protected_paths.d";

/// Rules of protection: lines `[-+@!]glob`, the last one that matches a directory decides, and what is below
/// has its parent's unless a rule says otherwise.
///
/// `+` (or nothing in front), `@` and `!` protect, `-` does not. (apk tells the three apart when it audits;
/// for installing they are one.)
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ProtectedPaths {
    rules: Vec<(Vec<Vec<u8>>, bool)>,
}

impl Default for ProtectedPaths {
    /// What apk always protects: `/etc`.
    fn default() -> Self {
        let mut rules = ProtectedPaths { rules: Vec::new() };
        rules.add(b"+etc\n@etc/init.d\n!etc/apk\n");
        rules
    }
}

impl ProtectedPaths {
    /// The rules of a root: what is always protected, and the files `*.list` of `etc/apk/protected_paths.d` by
    /// name.
    pub fn of(tree: &Tree) -> ProtectedPaths {
        let mut rules = ProtectedPaths::default();
        let folder = tree.find(DIRECTORY, Follow::All).ok().flatten();
        for (name, id) in folder
            .and_then(|id| tree.inode(id).entries())
            .into_iter()
            .flatten()
        {
            if name.ends_with(b".list")
                && !name.starts_with(b".")
                && let Some(content) = tree.inode(*id).content()
            {
                rules.add(content.bytes());
            }
        }
        rules
    }

    /// Adds the lines of a file of `etc/apk/protected_paths.d`.
    pub fn add(&mut self, lines: &[u8]) {
        for line in lines.split(|&byte| byte == b'\n') {
            let (protects, glob) = match line {
                [] | [b'#', ..] => continue,
                [b'-', glob @ ..] => (false, glob),
                [b'+' | b'@' | b'!', glob @ ..] => (true, glob),
                glob => (true, glob),
            };
            let parts: Vec<Vec<u8>> = glob
                .split(|&byte| byte == b'/')
                .filter(|part| !part.is_empty())
                .map(<[u8]>::to_vec)
                .collect();
            if !parts.is_empty() {
                self.rules.push((parts, protects));
            }
        }
    }

    /// Whether the files directly in `directory` (no slash at either end; empty is the root) are protected.
    pub fn covers(&self, directory: &[u8]) -> bool {
        let mut protected = false;
        let mut active: Vec<(&[Vec<u8>], bool)> = self
            .rules
            .iter()
            .map(|(parts, protects)| (parts.as_slice(), *protects))
            .collect();
        for name in directory
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            let mut below = Vec::new();
            for (parts, protects) in active {
                match parts {
                    [last] if glob::component(last, name) => protected = protects,
                    [first, rest @ ..] if !rest.is_empty() && glob::component(first, name) => {
                        below.push((rest, protects));
                    }
                    _ => {}
                }
            }
            active = below;
        }
        protected
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_has_rules_of_its_own() {
        let metadata = || lycia_tree::Metadata::new(0o644, lycia_tree::Timestamp::from_seconds(0));
        let mut tree = Tree::new(metadata());
        for (name, text) in [
            ("10.list", "-etc\n"),
            ("20.list", "+srv\n"),
            (".30.list", "+var"),
            ("40.off", "+opt"),
        ] {
            let path = format!("etc/apk/protected_paths.d/{name}");
            tree.write(path.as_bytes(), metadata(), text.into()).unwrap();
        }
        let rules = ProtectedPaths::of(&tree);
        for (directory, expected) in [
            ("etc", false),
            ("etc/apk", true),
            ("srv/www", true),
            ("var", false),
            ("opt", false),
        ] {
            assert_eq!(rules.covers(directory.as_bytes()), expected, "{directory}");
        }
    }

    #[test]
    fn the_last_rule_decides_and_children_inherit() {
        let mut rules = ProtectedPaths::default();
        for (directory, expected) in [
            ("etc", true),
            ("etc/ssl/certs", true),
            ("etc/apk", true),
            ("usr/etc", false),
            ("", false),
        ] {
            assert_eq!(rules.covers(directory.as_bytes()), expected, "{directory}");
        }
        rules.add(b"# local\n-etc/ssl\n+etc/ssl/private\nopt/*/conf/\n/srv\n");
        for (directory, expected) in [
            ("etc/ssl", false),
            ("etc/ssl/certs", false),
            ("etc/ssl/private", true),
            ("etc/ssl/private/x", true),
            ("opt/a/conf", true),
            ("opt/a/conf/d", true),
            ("opt/a/other", false),
            ("srv/www", true),
        ] {
            assert_eq!(rules.covers(directory.as_bytes()), expected, "{directory}");
        }
    }
}
