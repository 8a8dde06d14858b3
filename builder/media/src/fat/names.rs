//! Names: 8.3, with marks for lower case, and long ones in slots before the entry (Microsoft's `fatgen103`, "FAT Long
//! Directory Entries").

use std::collections::{HashMap, HashSet};

/// Characters of a long name in a slot.
const SLOT_UNITS: usize = 13;
/// UTF-16 units of a long name.
pub(super) const LONG_MAX: usize = 255;
/// Mark: the name before the dot is lower case.
const LOWER_BASE: u8 = 0x08;
/// Mark: what is behind the dot is lower case.
const LOWER_EXTENSION: u8 = 0x10;

/// How a name is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Stored {
    /// 8 and 3 characters, padded with spaces.
    pub(super) short: [u8; 11],
    /// Marks for lower case.
    pub(super) case: u8,
    /// The long name; empty where the short one says all.
    pub(super) long: Vec<u16>,
}

impl Stored {
    /// Entries of 32 bytes that it takes.
    pub(super) fn slots(&self) -> usize {
        1 + self.long.len().div_ceil(SLOT_UNITS)
    }

    /// The slots before the entry.
    pub(super) fn long_slots(&self) -> Vec<[u8; 32]> {
        let sum = self
            .short
            .iter()
            .fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
        let count = self.long.len().div_ceil(SLOT_UNITS);
        (0..count)
            .rev()
            .map(|number| {
                let mut units = [0xffff; SLOT_UNITS];
                let part = &self.long[number * SLOT_UNITS..];
                let part = &part[..part.len().min(SLOT_UNITS)];
                units[..part.len()].copy_from_slice(part);
                if let Some(end) = units.get_mut(part.len()) {
                    *end = 0;
                }
                let mut slot = [0; 32];
                slot[0] = number as u8 + 1 + if number + 1 == count { 0x40 } else { 0 };
                slot[11] = 0x0f;
                slot[13] = sum;
                let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain([28, 30]);
                for (at, unit) in places.zip(units) {
                    slot[at..at + 2].copy_from_slice(&unit.to_le_bytes());
                }
                slot
            })
            .collect()
    }
}

fn is_short(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(&byte)
}

/// The short form of a name that has one but for case, and its marks; `None` for a name that is too long, has other
/// characters, or mixes cases (marks `None`).
fn plain(name: &str) -> Option<([u8; 11], Option<u8>)> {
    let (base, extension) = match name.split_once('.') {
        Some((base, extension)) if !extension.is_empty() => (base, extension),
        Some(_) => return None,
        None => (name, ""),
    };
    if base.is_empty() || base.len() > 8 || extension.len() > 3 {
        return None;
    }
    let mut short = [b' '; 11];
    let mut case = Some(0);
    for (part, at, lower) in [(base, 0, LOWER_BASE), (extension, 8, LOWER_EXTENSION)] {
        if !part.bytes().all(is_short) {
            return None;
        }
        short[at..at + part.len()].copy_from_slice(part.to_ascii_uppercase().as_bytes());
        match (
            part.bytes().any(|byte| byte.is_ascii_lowercase()),
            part.bytes().any(|byte| byte.is_ascii_uppercase()),
        ) {
            (true, true) => case = None,
            (true, false) => case = case.map(|marks| marks | lower),
            _ => {}
        }
    }
    Some((short, case))
}

/// How the names of one directory are stored, in their order. They must differ when case is ignored.
///
/// # Errors
/// With the index of a name that is too long, or for which no short name is left.
pub(super) fn store(names: &[&str]) -> Result<Vec<Stored>, usize> {
    let plains: Vec<_> = names.iter().map(|name| plain(name)).collect();
    let mut taken: HashSet<[u8; 11]> = plains.iter().flatten().map(|plain| plain.0).collect();
    let mut next: HashMap<[u8; 11], u32> = HashMap::new();
    let mut stored = Vec::with_capacity(names.len());
    for (index, (name, plain)) in names.iter().zip(plains).enumerate() {
        let long: Vec<u16> = name.encode_utf16().collect();
        if long.len() > LONG_MAX {
            return Err(index);
        }
        stored.push(match plain {
            Some((short, Some(case))) => Stored {
                short,
                case,
                long: Vec::new(),
            },
            Some((short, None)) => Stored { short, case: 0, long },
            None => Stored {
                short: numbered(name, &mut taken, &mut next).ok_or(index)?,
                case: 0,
                long,
            },
        });
    }
    Ok(stored)
}

/// How a name is stored in a directory that has the short names `taken` already; none where it is too long or no short name is left.
pub(super) fn beside(name: &str, taken: &mut HashSet<[u8; 11]>) -> Option<Stored> {
    let long: Vec<u16> = name.encode_utf16().collect();
    if long.len() > LONG_MAX {
        return None;
    }
    match plain(name) {
        Some((short, case)) if taken.insert(short) => Some(Stored {
            short,
            case: case.unwrap_or(0),
            long: if case.is_some() { Vec::new() } else { long },
        }),
        _ => Some(Stored {
            short: numbered(name, taken, &mut HashMap::new())?,
            case: 0,
            long,
        }),
    }
}

/// A short name with a number that nothing else in the directory has.
fn numbered(
    name: &str,
    taken: &mut HashSet<[u8; 11]>,
    next: &mut HashMap<[u8; 11], u32>,
) -> Option<[u8; 11]> {
    let trimmed = name.trim_start_matches(['.', ' ']);
    let (base, extension) = trimmed.rsplit_once('.').unwrap_or((trimmed, ""));
    let short = |part: &str| -> Vec<u8> {
        part.chars()
            .filter(|&character| character != ' ' && character != '.')
            .map(|character| match u8::try_from(character) {
                Ok(byte) if is_short(byte) => byte.to_ascii_uppercase(),
                _ => b'_',
            })
            .take(8)
            .collect()
    };
    let mut base = short(base);
    if base.is_empty() {
        base.push(b'_');
    }
    let mut key = [b' '; 11];
    let extension = short(extension);
    let extension = &extension[..extension.len().min(3)];
    key[8..8 + extension.len()].copy_from_slice(extension);
    // Names that begin alike count together.
    let head = base.len().min(2);
    key[..head].copy_from_slice(&base[..head]);
    let number = next.entry(key).or_insert(1);
    while *number < 1_000_000 {
        let tail = format!("~{number}");
        *number += 1;
        let kept = base.len().min(8 - tail.len());
        let mut candidate = [b' '; 11];
        candidate[..kept].copy_from_slice(&base[..kept]);
        candidate[kept..kept + tail.len()].copy_from_slice(tail.as_bytes());
        candidate[8..].copy_from_slice(&key[8..]);
        if taken.insert(candidate) {
            return Some(candidate);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(stored: &Stored) -> (String, u8, usize) {
        let short = String::from_utf8(stored.short.to_vec()).unwrap();
        (short, stored.case, stored.slots())
    }

    #[test]
    fn names_are_stored_as_short_as_they_can() {
        for (name, short, case, slots) in [
            ("BOOTX64.EFI", "BOOTX64 EFI", 0, 1),
            ("grub.cfg", "GRUB    CFG", 0x18, 1),
            ("README.txt", "README  TXT", 0x10, 1),
            ("old", "OLD        ", 0x08, 1),
            ("Mixed.cfg", "MIXED   CFG", 0, 2),
            ("a long name.conf", "ALONGN~1CON", 0, 3),
            ("two.dots.x", "TWODOT~1X  ", 0, 2),
            (".hidden", "HIDDEN~1   ", 0, 2),
            ("\u{fc}.txt", "_~1     TXT", 0, 2),
            ("thirteenchars", "THIRTE~1   ", 0, 2),
            ("fourteen_chars", "FOURTE~1   ", 0, 3),
        ] {
            let stored = store(&[name]).unwrap();
            assert_eq!(shown(&stored[0]), (short.to_owned(), case, slots), "{name}");
        }
    }

    #[test]
    fn short_names_differ() {
        let names: Vec<String> = (0..3000)
            .map(|at| format!("some long name {at}.txt"))
            .chain(["SOMELO~5.TXT".to_owned(), "somel~50.txt".to_owned()])
            .collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let stored = store(&names).unwrap();
        let different: HashSet<_> = stored.iter().map(|name| name.short).collect();
        assert_eq!(different.len(), names.len());
        assert_eq!(&stored[3000].short, b"SOMELO~5TXT");
        assert_eq!(store(&[&"x".repeat(256)]), Err(0));
    }
}
