//! Keyboard layouts in the binary form that the kernel's consoles are given: of the system that is installed, for its initramfs, and of the console on which
//! somebody installs, so that a passphrase is typed alike here and at every start.

use std::fs;
use std::path::{Path, PathBuf};

use lycia_init::keymap;
use lycia_media::compress;
use lycia_tree::{Content, Follow, Tree};

/// Where packages have binary layouts, below the root (busybox, Alpine's kbd-bkeymaps, the seed).
pub const FOLDER: &str = "usr/share/bkeymaps";
/// What the system's layout is called, below the root.
const CHOSEN: &str = "etc/keymap";
/// Largest compressed layout that is read.
const FILE_MAX: u64 = 1 << 20;

/// Whether a file of [`FOLDER`] is the layout of a name.
fn is_layout(file: &str, name: &str) -> bool {
    let rest = file
        .strip_prefix(name)
        .and_then(|rest| rest.strip_prefix(".bmap"));
    matches!(rest, Some("" | ".gz"))
}

/// The layout in a file, unpacked and read once to see that it is one.
fn unpacked(bytes: &[u8], of: &str) -> Result<Vec<u8>, String> {
    let plain = if bytes.starts_with(&[0x1f, 0x8b]) {
        compress::decompress(bytes, keymap::LENGTH_MAX as u64).map_err(|error| format!("{of}: {error}"))?
    } else {
        bytes.to_vec()
    };
    keymap::parse(&plain).map_err(|error| format!("{of} is no keyboard layout: {error}"))?;
    Ok(plain)
}

/// The layout that a system's `/etc/keymap` names; none where it names none, or its packages have no binary layouts.
///
/// # Errors
/// When the layout's file is damaged.
pub fn of_system(tree: &Tree) -> Result<Option<Content>, String> {
    let text = tree.read(CHOSEN.as_bytes()).unwrap_or_default();
    let words = String::from_utf8_lossy(text);
    let (Some(name), Ok(Some(folder))) = (
        words.split_whitespace().next(),
        tree.find(FOLDER.as_bytes(), Follow::All),
    ) else {
        return Ok(None);
    };
    for entry in tree.walk_from(FOLDER.as_bytes(), folder) {
        let file = String::from_utf8_lossy(entry.name());
        if let Some(content) = entry.inode.content().filter(|_| is_layout(&file, name)) {
            return unpacked(content.bytes(), &file).map(|plain| Some(plain.into()));
        }
    }
    Ok(None)
}

fn find(folder: &Path, name: &str, depth: u32) -> Option<PathBuf> {
    let mut folders = Vec::new();
    for entry in fs::read_dir(folder).ok()?.flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            folders.push(path);
        } else if entry
            .file_name()
            .to_str()
            .is_some_and(|file| is_layout(file, name))
        {
            return Some(path);
        }
    }
    let below = depth.checked_sub(1)?;
    folders.iter().find_map(|folder| find(folder, name, below))
}

/// Whether a terminal is a console of the kernel: a screen and a keyboard of this machine.
fn is_console(terminal: &str) -> bool {
    terminal
        .strip_prefix("/dev/tty")
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Gives this console a layout, where it is one of the kernel's; on other terminals the layout is not this machine's.
///
/// # Errors
/// Says why the console keeps its layout.
pub fn use_now(name: &str) -> Result<(), String> {
    let terminal = rustix::termios::ttyname(std::io::stdin(), Vec::new());
    let terminal = terminal
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    if !is_console(&terminal) {
        return Ok(());
    }
    let folder = Path::new("/").join(FOLDER);
    let path = find(&folder, name, 3).ok_or_else(|| format!("{} has no `{name}`", folder.display()))?;
    let failed = |error: std::io::Error| format!("{}: {error}", path.display());
    if fs::metadata(&path).map_err(failed)?.len() > FILE_MAX {
        return Err(format!("{} is too large", path.display()));
    }
    let plain = unpacked(&fs::read(&path).map_err(failed)?, &path.display().to_string())?;
    let entries = keymap::parse(&plain).map_err(|error| error.to_string())?;
    keymap::load(Path::new(&terminal), &entries).map_err(|error| format!("{terminal}: {error}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_media::compress::Compression;
    use lycia_tree::{Metadata, Timestamp};

    fn layout() -> Vec<u8> {
        let mut bytes = b"bkeymap\x01".to_vec();
        bytes.resize(7 + 256 + 256, 0);
        bytes
    }

    fn system(files: &[(&str, Vec<u8>)]) -> Tree {
        let time = Timestamp::from_seconds(0);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        for (path, bytes) in files {
            let folder = path.rsplit_once('/').unwrap().0;
            tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))
                .unwrap();
            let metadata = Metadata::new(0o644, time);
            tree.write(path.as_bytes(), metadata, bytes.clone().into())
                .unwrap();
        }
        tree
    }

    #[test]
    fn the_layout_of_the_system_is_found_packed_or_not() {
        let packed = compress::compress(&layout(), &Compression::Gzip { level: 9 }, 1).unwrap();
        for (file, bytes) in [
            ("usr/share/bkeymaps/de.bmap", layout()),
            ("usr/share/bkeymaps/de/de.bmap.gz", packed),
        ] {
            let other = ("usr/share/bkeymaps/de-latin1.bmap", b"another".to_vec());
            let tree = system(&[("etc/keymap", b"de\n".to_vec()), other, (file, bytes)]);
            let found = of_system(&tree).unwrap().unwrap();
            assert_eq!(found.bytes(), layout());
        }
    }

    #[test]
    fn a_system_without_a_layout_has_none_and_a_damaged_one_is_said() {
        let map = ("usr/share/bkeymaps/de.bmap", layout());
        for files in [
            vec![map.clone()],
            vec![map, ("etc/keymap", b"fr\n".to_vec())],
            vec![("etc/keymap", b"de\n".to_vec())],
        ] {
            assert_eq!(of_system(&system(&files)), Ok(None));
        }
        let damaged = ("usr/share/bkeymaps/de.bmap", layout()[..300].to_vec());
        let error = of_system(&system(&[("etc/keymap", b"de".to_vec()), damaged])).unwrap_err();
        assert!(
            error.contains("de.bmap") && error.contains("300 bytes"),
            "{error}"
        );
    }

    #[test]
    fn only_the_kernels_consoles_are_given_a_layout() {
        for (terminal, is) in [
            ("/dev/tty1", true),
            ("/dev/tty63", true),
            ("/dev/tty", false),
            ("/dev/ttyS0", false),
            ("/dev/pts/3", false),
            ("/dev/console", false),
            ("", false),
        ] {
            assert_eq!(is_console(terminal), is, "{terminal}");
        }
    }
}
