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
    // The classic two pointers: on a mismatch the last star takes one byte more.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], name[n]),
            Some(b'\\') if p + 1 < pattern.len() => (pattern[p + 1] == name[n]).then_some(2),
            Some(&byte) => (byte == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(width), _) => {
                p += width;
                n += 1;
            }
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// The length of the class at the start of `pattern` if `byte` is in it.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = 2 + pattern.get(2..)?.iter().position(|&byte| byte == b']')?;
    let inside = &pattern[1..end];
    let (negated, inside) = match inside.first() {
        Some(b'!' | b'^') => (true, &inside[1..]),
        _ => (false, inside),
    };
    let mut found = false;
    let mut at = 0;
    while at < inside.len() {
        if at + 2 < inside.len() && inside[at + 1] == b'-' {
            found |= (inside[at]..=inside[at + 2]).contains(&byte);
            at += 3;
        } else {
            found |= inside[at] == byte;
            at += 1;
        }
    }
    (found != negated).then_some(end + 1)
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
