//! Kernels as Chimera's packages bring them: everything below `usr/lib/modules/VERSION/apk-dist`, which the trigger of
//! `base-kernel` lays out (`kernel.d/00-setup-kernels.sh` there).

use lycia_tree::{Content, Follow, Metadata, Node, Timestamp, Tree, display};

use crate::error::{Error, Explain as _, Kind, Result};

const MODULES: &[u8] = b"usr/lib/modules";

/// Lays out every kernel that has an `apk-dist` with its series and its order of modules: files are linked into the
/// folder of the version, and those of `boot` copied to `/boot`. Gives the paths that are new.
///
/// # Errors
/// When something is in the way.
pub fn set_up(tree: &mut Tree, time: Timestamp) -> Result<Vec<Vec<u8>>> {
    let doing = || "setting up the kernels".to_owned();
    let found = tree.find(MODULES, Follow::All).explain(Kind::Target, doing)?;
    let entries = found.and_then(|id| tree.inode(id).entries());
    let versions: Vec<Vec<u8>> = entries
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    let mut written = Vec::new();
    for version in versions {
        let folder = [MODULES, b"/", &version].concat();
        let dist = [&folder[..], b"/apk-dist"].concat();
        let is_file = |tree: &Tree, name: &[u8]| {
            let path = [&dist[..], name].concat();
            let found = tree.find(&path, Follow::All).ok().flatten();
            found.is_some_and(|id| tree.inode(id).content().is_some())
        };
        if is_file(tree, b"/.apk-series") && is_file(tree, b"/modules.order") {
            one(tree, &folder, &dist, time, &mut written)
                .map_err(|error| error.context(format!("setting up the kernel {}", display(&version))))?;
        }
    }
    Ok(written)
}

fn one(
    tree: &mut Tree,
    folder: &[u8],
    dist: &[u8],
    time: Timestamp,
    written: &mut Vec<Vec<u8>>,
) -> Result<()> {
    let explain = |error| Error::new(Kind::Target, error);
    let dist = tree.canonical(dist, Follow::All).map_err(explain)?;
    let below = [&dist[..], b"/"].concat();
    let entries: Vec<(Vec<u8>, Metadata, Option<Node>)> = tree
        .walk()
        .filter_map(|entry| {
            let rest = entry.path.strip_prefix(&below[..])?.to_vec();
            Some((rest, entry.inode.metadata.clone(), entry.inode.node().cloned()))
        })
        .collect();
    for (rest, metadata, node) in entries {
        let to = [folder, b"/", &rest].concat();
        let in_boot = rest.strip_prefix(b"boot/").map(|rest| [b"boot/", rest].concat());
        if in_boot.is_some() {
            let found = tree.find(b"boot", Follow::All).map_err(explain)?;
            if found.is_none() {
                tree.make_directory(b"boot", Metadata::new(0o755, time))
                    .map_err(explain)?;
            }
        }
        let Some(node) = node else {
            tree.make_directory(&to, metadata.clone()).map_err(explain)?;
            if let Some(path) = in_boot {
                tree.make_directory(&path, metadata).map_err(explain)?;
            }
            continue;
        };
        // As rsync does: what is there is replaced.
        for path in [Some(&to), in_boot.as_ref()].into_iter().flatten() {
            if tree.find(path, Follow::Parents).map_err(explain)?.is_some() {
                tree.remove(path).map_err(explain)?;
            }
        }
        let from = [&below[..], &rest].concat();
        let id = tree.resolve(&from, Follow::Parents).map_err(explain)?;
        tree.link(id, &to).map_err(explain)?;
        written.push(to);
        if let Some(path) = in_boot {
            // Not linked: /boot may be a file system of its own.
            tree.insert(&path, metadata, node).map_err(explain)?;
            written.push(path);
        }
    }
    let stamp = [folder, b"/.apk-stamp"].concat();
    tree.write(&stamp, Metadata::new(0o644, time), Content::from(Vec::new()))
        .map_err(explain)?;
    written.push(stamp);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_linked_into_its_folder_and_copied_to_boot() {
        let time = Timestamp::from_seconds(7);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        for (path, text) in [
            (
                "usr/lib/modules/7.1.8-0-generic/apk-dist/.apk-series",
                "linux-stable\n",
            ),
            (
                "usr/lib/modules/7.1.8-0-generic/apk-dist/modules.order",
                "kernel/fs/a.ko\n",
            ),
            (
                "usr/lib/modules/7.1.8-0-generic/apk-dist/kernel/fs/a.ko.zst",
                "a module",
            ),
            (
                "usr/lib/modules/7.1.8-0-generic/apk-dist/boot/vmlinuz-7.1.8-0-generic",
                "a kernel",
            ),
            (
                "usr/lib/modules/7.1.8-0-generic/apk-dist/boot/dtbs/one.dtb",
                "a tree",
            ),
            ("usr/lib/modules/6-other/modules.order", ""),
            ("usr/lib/modules/5-half/apk-dist/modules.order", ""),
        ] {
            let folder = path.rsplit_once('/').unwrap().0;
            tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))
                .unwrap();
            tree.write(path.as_bytes(), Metadata::new(0o640, time), text.into())
                .unwrap();
        }
        let written = set_up(&mut tree, time).unwrap();
        let shown: Vec<String> = written.iter().map(|path| display(path)).collect();
        let folder = "usr/lib/modules/7.1.8-0-generic";
        assert_eq!(
            tree.read(format!("{folder}/kernel/fs/a.ko.zst").as_bytes())
                .unwrap(),
            b"a module"
        );
        assert_eq!(tree.read(b"boot/vmlinuz-7.1.8-0-generic").unwrap(), b"a kernel");
        assert_eq!(tree.read(b"boot/dtbs/one.dtb").unwrap(), b"a tree");
        assert_eq!(shown.len(), 2 * 2 + 3 + 1, "{shown:?}");
        let id = |path: String| tree.resolve(path.as_bytes(), Follow::Parents).unwrap();
        assert_eq!(
            id(format!("{folder}/kernel/fs/a.ko.zst")),
            id(format!("{folder}/apk-dist/kernel/fs/a.ko.zst"))
        );
        assert_ne!(
            id(format!("{folder}/boot/vmlinuz-7.1.8-0-generic")),
            id("boot/vmlinuz-7.1.8-0-generic".to_owned())
        );
        assert!(
            tree.find(b"usr/lib/modules/5-half/modules.order", Follow::All)
                .unwrap()
                .is_none()
        );
        // Once more changes nothing.
        let before = format!("{:?}", tree.walk().map(|entry| entry.path).collect::<Vec<_>>());
        set_up(&mut tree, time).unwrap();
        assert_eq!(
            before,
            format!("{:?}", tree.walk().map(|entry| entry.path).collect::<Vec<_>>())
        );
    }
}
