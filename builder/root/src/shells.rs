//! `/etc/shells`, as Chimera's base-shells makes it: the programs that links in `shells.d` lead to, in both
//! spellings of a merged `/usr/bin`.

use std::collections::BTreeSet;

use lycia_tree::{Follow, Timestamp, Tree};

use crate::{RootError, replace};

/// Folders of links to shells.
const FOLDERS: &[&str] = &["etc/shells.d", "usr/share/shells.d", "usr/lib/shells.d"];

/// Makes the list where there is a folder of links; says what it wrote.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Vec<Vec<u8>>, RootError> {
    let mut written = Vec::new();
    let mut shells: BTreeSet<Vec<u8>> = BTreeSet::new();
    let mut any = false;
    for folder in FOLDERS {
        let Some(id) = tree.find(folder.as_bytes(), Follow::All)? else {
            continue;
        };
        any = true;
        for &child in tree
            .inode(id)
            .entries()
            .into_iter()
            .flatten()
            .map(|(_, child)| child)
        {
            let Some(target) = tree.inode(child).symlink() else {
                continue;
            };
            let name = target.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            for folder in [b"/bin/".as_slice(), b"/usr/bin/"] {
                let path = [folder, name].concat();
                if tree.find(&path, Follow::All)?.is_some() {
                    shells.insert(path);
                }
            }
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
