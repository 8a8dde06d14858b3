//! `/etc/shells`, as Chimera's base-shells makes it: the programs that links in `shells.d` lead to, those of
//! `/usr/bin` in both spellings.

use std::collections::{BTreeMap, BTreeSet};

use lycia_tree::{Follow, Timestamp, Tree};

use crate::glob::lookup;
use crate::{RootError, replace};

/// Folders of links to shells.
const FOLDERS: &[&str] = &["etc/shells.d", "usr/lib/shells.d"];

/// Makes the list where there is a folder of links; says what it wrote.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Vec<Vec<u8>>, RootError> {
    let mut written = Vec::new();
    let mut shells: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut any = false;
    for folder in FOLDERS {
        let Some(id) = lookup(tree, folder.as_bytes(), Follow::All) else {
            continue;
        };
        any = true;
        for &child in tree.inode(id).entries().into_iter().flat_map(BTreeMap::values) {
            let Some(target) = tree.inode(child).symlink() else {
                continue;
            };
            let program = lookup(tree, target, Follow::All).map(|id| tree.inode(id));
            let executable = program.is_some_and(|inode| inode.metadata.mode & 0o111 != 0);
            if !executable || !target.starts_with(b"/") || target.contains(&b'\n') {
                continue;
            }
            if let Some(short) = target.strip_prefix(b"/usr")
                && (short.starts_with(b"/bin") || short.starts_with(b"/sbin"))
            {
                shells.insert(short.to_vec());
            }
            shells.insert(target.to_vec());
        }
    }
    if any {
        let mut text = Vec::new();
        for shell in shells {
            text.extend_from_slice(&shell);
            text.push(b'\n');
        }
        replace(tree, b"etc/shells", 0o644, text, time, &mut written)?;
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_tree::{Metadata, Node};

    #[test]
    fn programs_behind_links_are_listed() {
        let time = Timestamp::from_seconds(0);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        for (path, mode) in [("usr/bin/sh", 0o755), ("usr/bin/odd", 0o644), ("opt/fish", 0o755)] {
            tree.write(path.as_bytes(), Metadata::new(mode, time), "".into())
                .unwrap();
        }
        assert!(run(&mut tree, time).unwrap().is_empty(), "nobody asked");
        for (name, target) in [
            ("usr/lib/shells.d/sh", "/usr/bin/sh"),
            ("usr/lib/shells.d/sh2", "/usr/bin/sh"),
            ("usr/lib/shells.d/odd", "/usr/bin/odd"),
            ("usr/lib/shells.d/gone", "/usr/bin/gone"),
            ("etc/shells.d/fish", "/opt/fish"),
        ] {
            let folder = &name[..name.rfind('/').unwrap()];
            tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))
                .unwrap();
            let node = Node::Symlink(target.into());
            tree.insert(name.as_bytes(), Metadata::new(0o777, time), node)
                .unwrap();
        }
        run(&mut tree, time).unwrap();
        assert_eq!(
            tree.read(b"etc/shells").unwrap(),
            b"/bin/sh\n/opt/fish\n/usr/bin/sh\n"
        );
        assert!(run(&mut tree, time).unwrap().is_empty(), "twice is once");
    }
}
