//! Links to busybox's programs, as `busybox --install -s` of Alpine's trigger makes them: for each path of
//! `etc/busybox-paths.d` where nothing is.

use std::collections::BTreeMap;

use lycia_tree::{Follow, Metadata, Node, Timestamp, Tree};

use crate::RootError;
use crate::glob::lookup;

const LISTS: &[u8] = b"etc/busybox-paths.d";
const PROGRAM: &[u8] = b"/bin/busybox";
/// Its links are made by a program of their own.
const SETUID: &[u8] = b"bin/bbsuid";

/// Whether the root says what links there are to be.
pub fn is_known(tree: &Tree) -> bool {
    lookup(tree, LISTS, Follow::All).is_some() && lookup(tree, SETUID, Follow::All).is_none()
}

/// Makes the links; says which.
///
/// # Errors
/// When a list names a path that cannot be.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Vec<Vec<u8>>, RootError> {
    let mut written = Vec::new();
    let lists = lookup(tree, LISTS, Follow::All).filter(|_| is_known(tree));
    if lookup(tree, PROGRAM, Follow::All).is_none() {
        return Ok(written);
    }
    let mut paths = Vec::new();
    let entries = lists.and_then(|id| tree.inode(id).entries());
    for &file in entries.into_iter().flat_map(BTreeMap::values) {
        let bytes = tree.inode(file).content().map(|content| content.bytes());
        let lines = bytes.unwrap_or_default().split(|&byte| byte == b'\n');
        paths.extend(lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec));
    }
    for path in paths {
        if lookup(tree, &path, Follow::Parents).is_some() {
            continue;
        }
        if let Some(folder) = path.iter().rposition(|&byte| byte == b'/').filter(|&at| at > 0) {
            tree.make_directories(&path[..folder], Metadata::new(0o755, time))?;
        }
        let node = Node::Symlink(PROGRAM.to_vec());
        tree.insert(&path, Metadata::new(0o777, time), node)?;
        written.push(tree.canonical(&path, Follow::Parents)?);
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_fill_the_gaps() {
        let time = Timestamp::from_seconds(0);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        let mut write = |path: &str, text: &str| {
            tree.write(path.as_bytes(), Metadata::new(0o755, time), text.into())
                .unwrap();
        };
        write("bin/busybox", "ELF");
        write("bin/ls", "a better one");
        write(
            "etc/busybox-paths.d/busybox",
            "bin/ls\nbin/cat\nusr/sbin/chroot\n",
        );
        assert!(is_known(&tree));
        assert_eq!(
            run(&mut tree, time).unwrap(),
            [b"/bin/cat".to_vec(), b"/usr/sbin/chroot".to_vec()]
        );
        assert_eq!(tree.read(b"usr/sbin/chroot").unwrap(), b"ELF");
        assert_eq!(tree.read(b"bin/ls").unwrap(), b"a better one");
        assert!(run(&mut tree, time).unwrap().is_empty(), "twice is once");
        tree.write(b"bin/bbsuid", Metadata::new(0o4755, time), "".into())
            .unwrap();
        assert!(!is_known(&tree));
    }
}
