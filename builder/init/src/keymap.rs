//! Keyboard layouts of the kernel's consoles (`KDSKBENT`, linux/kd.h), read from the binary form that busybox's `loadkmap` and
//! `loadkeys -b` know.
//!
//! The form has no standard: the word `bkeymap`, 256 bytes of which each says with 1 that the table of its number follows, then of each such table 128
//! values of 16 bits in the machine's byte order.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Where the initramfs has the layout of the keyboard.
pub const FILE: &str = "/etc/keymap.bmap";
/// Where the kernel's console is.
pub const NODE: &str = "/dev/tty0";
/// Longest file that is read: all 256 tables.
pub const LENGTH_MAX: usize = MAGIC.len() + TABLES + TABLES * KEYS * 2;

const MAGIC: &[u8] = b"bkeymap";
const TABLES: usize = 256;
const KEYS: usize = 128;
/// `KDSKBENT`
const SET_ENTRY: u32 = 0x4b47;

/// `struct kbentry`: what a key means in a table.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The table: which of the shift keys are held.
    pub table: u8,
    /// The key's code.
    pub key: u8,
    /// What it means.
    pub value: u16,
}

/// Why something is no layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeymapError {
    /// It begins otherwise.
    #[error("it does not begin with `bkeymap`")]
    Magic,
    /// A flag is neither 0 nor 1.
    #[error("the flag of table {0} is neither 0 nor 1")]
    Flag(usize),
    /// Tables are missing, or something follows them.
    #[error("it has {has} bytes where its tables need {needs}")]
    Length {
        /// Bytes that are there.
        has: usize,
        /// Bytes of what the flags announce.
        needs: usize,
    },
}

/// Reads a layout.
///
/// # Errors
/// When it is none, or not a whole one.
pub fn parse(bytes: &[u8]) -> Result<Vec<Entry>, KeymapError> {
    let rest = bytes.strip_prefix(MAGIC).ok_or(KeymapError::Magic)?;
    let wrong = |needs| KeymapError::Length {
        has: bytes.len(),
        needs,
    };
    let (flags, values) = rest
        .split_at_checked(TABLES)
        .ok_or_else(|| wrong(MAGIC.len() + TABLES))?;
    if let Some(at) = flags.iter().position(|&flag| flag > 1) {
        return Err(KeymapError::Flag(at));
    }
    let tables: Vec<u8> = (0..=u8::MAX)
        .filter(|&table| flags[usize::from(table)] == 1)
        .collect();
    let needs = MAGIC.len() + TABLES + tables.len() * KEYS * 2;
    if bytes.len() != needs {
        return Err(wrong(needs));
    }
    let entries = values.chunks_exact(2).enumerate().map(|(at, value)| Entry {
        table: tables[at / KEYS],
        key: (at % KEYS) as u8,
        value: u16::from_ne_bytes([value[0], value[1]]),
    });
    Ok(entries.collect())
}

/// Gives the keyboards of the kernel's consoles a layout; how many keys the kernel did not take.
///
/// # Errors
/// When `node` is no console of the kernel or may not be changed.
pub fn load(node: &Path, entries: &[Entry]) -> io::Result<usize> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let console = File::from(rustix::fs::open(node, flags, Mode::empty())?);
    let mut refused = 0;
    for entry in entries {
        // SAFETY: KDSKBENT reads a `struct kbentry`, whose layout `Entry` has, and which lives until the call returns.
        let result = unsafe { libc::ioctl(console.as_raw_fd(), SET_ENTRY as _, &raw const *entry) };
        if result < 0 {
            let error = io::Error::last_os_error();
            // A value that this kernel does not know; anything else is true of every key.
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
            refused += 1;
        }
    }
    Ok(refused)
}

/// Loads the layout that the initramfs brings, if it brings one. Passphrases and the emergency prompt are typed with it.
///
/// # Errors
/// Says why it could not.
pub fn load_own() -> Result<bool, String> {
    let bytes = match fs::read(FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(format!("reading {FILE}: {error}")),
    };
    let entries = parse(&bytes).map_err(|error| format!("{FILE} is no keyboard layout: {error}"))?;
    load(Path::new(NODE), &entries)
        .map_err(|error| format!("loading the keyboard layout of {FILE}: {error}"))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn map(tables: &[u8], value: impl Fn(u8, u8) -> u16) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend((0..=u8::MAX).map(|table| u8::from(tables.contains(&table))));
        for &table in tables {
            bytes.extend((0..KEYS as u8).flat_map(|key| value(table, key).to_ne_bytes()));
        }
        bytes
    }

    #[test]
    fn tables_that_follow_are_read_in_their_order() {
        let entries = parse(&map(&[0, 1, 12], |table, key| {
            u16::from(table) << 8 | u16::from(key)
        }))
        .unwrap();
        assert_eq!(entries.len(), 3 * KEYS);
        for entry in &entries {
            assert_eq!(entry.value, u16::from(entry.table) << 8 | u16::from(entry.key));
        }
        assert_eq!(
            entries[KEYS * 2],
            Entry {
                table: 12,
                key: 0,
                value: 12 << 8
            }
        );
        assert_eq!(parse(&map(&[], |_, _| 0)).unwrap(), []);
        let all: Vec<u8> = (0..=u8::MAX).collect();
        assert_eq!(map(&all, |_, _| 0).len(), LENGTH_MAX);
    }

    #[test]
    fn what_is_no_layout_is_refused() {
        let good = map(&[0, 255], |_, key| u16::from(key));
        assert_eq!(parse(b"keymaps 0-2"), Err(KeymapError::Magic));
        for cut in [7, 100, 263, good.len() - 1] {
            assert!(
                matches!(parse(&good[..cut]), Err(KeymapError::Length { has, .. }) if has == cut),
                "{cut}"
            );
        }
        let mut long = good.clone();
        long.push(0);
        assert!(matches!(parse(&long), Err(KeymapError::Length { .. })));
        let mut odd = good;
        odd[7 + 9] = 2;
        assert_eq!(parse(&odd), Err(KeymapError::Flag(9)));
    }

    #[test]
    fn what_is_no_console_is_left_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let entries = parse(&map(&[0], |_, _| 0)).unwrap();
        assert!(load(file.path(), &entries).is_err());
        assert_eq!(fs::read(file.path()).unwrap(), b"");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = parse(&bytes);
            let _ = parse(&[MAGIC, &bytes].concat());
        }
    }
}
