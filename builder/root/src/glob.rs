//! Patterns of paths, as glob(7) has them.

use lycia_tree::{Follow, InodeId, Tree};

use crate::RootError;

/// Most entries that one pattern finds.
const FOUND_MAX: usize = 1_000_000;

/// The inode that a path leads to; none also where the way there is broken.
pub fn lookup(tree: &Tree, path: &[u8], follow: Follow) -> Option<InodeId> {
    tree.find(path, follow).ok().flatten()
}

/// Entries that a path with `*`, `?` and `[...]` leads to, by name; links at the end are not followed.
pub fn matching(tree: &Tree, pattern: &str) -> Result<Vec<(Vec<u8>, InodeId)>, RootError> {
    let mut found = vec![(Vec::new(), tree.root())];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for (path, _) in found {
            let join = |name: &[u8]| [&path, b"/".as_slice(), name].concat();
            let mut add = |path: Vec<u8>| {
                next.extend(lookup(tree, &path, Follow::Parents).map(|id| (path, id)));
            };
            if !part.contains(['*', '?', '[', '\\']) {
                add(join(part.as_bytes()));
                continue;
            }
            let folder: &[u8] = if path.is_empty() { b"/" } else { &path };
            let folder = lookup(tree, folder, Follow::All);
            let entries = folder.and_then(|id| tree.inode(id).entries());
            for name in entries.into_iter().flat_map(|entries| entries.keys()) {
                if glob(part.as_bytes(), name) {
                    add(join(name));
                }
            }
            if next.len() > FOUND_MAX {
                return Err(RootError::File {
                    file: pattern.to_owned(),
                    what: format!("the pattern finds more than {FOUND_MAX} entries"),
                });
            }
        }
        found = next;
    }
    Ok(found)
}

/// Whether a name fits a glob of `*`, `?` and `[a-z]`, in which a backslash takes the next byte as it is; a
/// leading dot must be asked for.
pub fn glob(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    lycia_apk::glob::component(pattern, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, name, fits) in [
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("?[a-c]x", "zbx", true),
            ("?[!a-c]x", "zbx", false),
            ("[]", "x", false),
            ("", "", true),
            ("**", "", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), name.as_bytes()),
                fits,
                "{pattern} {name}"
            );
        }
    }
}
