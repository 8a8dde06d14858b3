//! What an image says twice: path tables, and the hierarchy of Joliet. Readers of the tree need neither, so that what is wrong
//! with them keeps nobody from reading, and is told.

use std::collections::{HashMap, HashSet};

use lycia_tree::display;

use super::BLOCK;
use super::inspect::{
    Entry, EntryKind, Extent, FLAG_DIRECTORY, FLAG_MULTI_EXTENT, InspectError, Reader, blocks, both_32,
    le_32, malformed, record,
};
use super::names::{JOLIET_MAX, ucs2};

/// Faults that are told; one mistake can be in every record.
const FAULTS: usize = 100;

/// What is wrong, with its first byte in the image.
#[derive(Default)]
pub(super) struct Faults(pub Vec<(u64, String)>);

impl Faults {
    pub(super) fn add(&mut self, at: u64, what: String) {
        match self.0.len() {
            ..FAULTS => self.0.push((at, what)),
            FAULTS => self.0.push((at, "and more".to_owned())),
            _ => {}
        }
    }
}

/// Identifiers of directories by their blocks.
pub(super) type Directories = HashMap<u32, Vec<u8>>;

/// A record of a path table (ECMA-119, 9.4), and its place in the table.
struct Row<'a> {
    at: u64,
    block: u32,
    parent: u16,
    identifier: &'a [u8],
}

/// The records of a path table; those that are too many are not read.
fn rows(table: &[u8], big_endian: bool, most: usize) -> Result<Vec<Row<'_>>, (u64, String)> {
    let mut rows = Vec::new();
    let mut at = 0;
    while at < table.len() {
        let wrong = |reason: &str| (at as u64, reason.to_owned());
        let own = &table[at..];
        let len = usize::from(own[0]);
        let head: [u8; 8] = match own.first_chunk() {
            Some(head) if len > 0 && own.len() >= 8 + len => *head,
            _ => return Err(wrong("a record is cut, or has no identifier")),
        };
        if rows.len() == most {
            return Err(wrong("it has more records than there are directories"));
        }
        if head[1] != 0 {
            return Err(wrong("a record says that a directory has extended attributes"));
        }
        if len % 2 == 1 && own.get(8 + len).is_some_and(|&byte| byte != 0) {
            return Err(wrong("a record is not filled up with zero"));
        }
        let [_, _, block @ .., high, low] = head;
        rows.push(Row {
            at: at as u64,
            block: match big_endian {
                true => u32::from_be_bytes(block),
                false => u32::from_le_bytes(block),
            },
            parent: match big_endian {
                true => u16::from_be_bytes([high, low]),
                false => u16::from_le_bytes([high, low]),
            },
            identifier: &own[8..8 + len],
        });
        at += (8 + len).next_multiple_of(2);
    }
    Ok(rows)
}

/// Holds both path tables of a volume descriptor, which begins at byte `at`, against the directories that were read: their
/// identifiers by their blocks.
pub(super) fn path_tables(
    image: &[u8],
    descriptor: &[u8],
    at: u64,
    directories: &Directories,
    of: &str,
    faults: &mut Faults,
) {
    let len = match both_32(descriptor, 132, of) {
        Ok(len) => len,
        Err(error) => return faults.add(at + 132, error.to_string()),
    };
    let places = [
        (le_32(descriptor, 140), false, "little-endian", at + 140),
        (le_32(descriptor, 148).swap_bytes(), true, "big-endian", at + 148),
    ];
    for (block, big_endian, order, field) in places {
        let name = format!("the {order} path table of {of}");
        let table = match blocks(image, block, len.into(), &name) {
            Ok(table) => table,
            Err(error) => {
                faults.add(field, error.to_string());
                continue;
            }
        };
        let start = u64::from(block) * BLOCK;
        let rows = match rows(table, big_endian, directories.len()) {
            Ok(rows) => rows,
            Err((inside, reason)) => {
                faults.add(start + inside, format!("{name}: {reason}"));
                continue;
            }
        };
        let mut seen = HashSet::new();
        for (index, row) in rows.iter().enumerate() {
            let place = start + row.at;
            let Some(identifier) = directories.get(&row.block).filter(|_| seen.insert(row.block)) else {
                faults.add(
                    place,
                    format!(
                        "{name}: record {} leads to block {}, where no other directory is",
                        index + 1,
                        row.block
                    ),
                );
                continue;
            };
            if identifier != row.identifier {
                faults.add(
                    place,
                    format!(
                        "{name}: record {} is of {}, but names it {}",
                        index + 1,
                        display(identifier),
                        display(row.identifier)
                    ),
                );
            }
            // The second record of a directory is that of the one above, which comes before it in the table.
            let above = usize::from(row.parent)
                .checked_sub(1)
                .filter(|&above| above < index || index == 0 && above == 0)
                .and_then(|above| rows.get(above));
            let holder = parent_block(image, row.block);
            // In the Joliet of libisofs, which xorriso uses, every directory is said to hold itself.
            let wrong = |holder| Some(holder) != above.map(|above| above.block);
            if above.is_none() || holder.is_none_or(|holder| holder != row.block && wrong(holder)) {
                faults.add(
                    place,
                    format!(
                        "{name}: record {} says that {} lies in the directory {}, which it does not",
                        index + 1,
                        display(identifier),
                        row.parent
                    ),
                );
            }
        }
        if rows.len() < directories.len() {
            faults.add(
                start,
                format!("{name} has {} of {} directories", rows.len(), directories.len()),
            );
        }
    }
}

/// The block of the directory that holds the one at `block`, by the second of its records.
fn parent_block(image: &[u8], block: u32) -> Option<u32> {
    let bytes = blocks(image, block, BLOCK, "a directory").ok()?;
    let own = usize::from(bytes[0]);
    let second = record(bytes.get(own..).filter(|rest| !rest.is_empty())?, "a directory").ok()?;
    (second.identifier == [1]).then_some(second.extent.block)
}

/// An entry of the hierarchy of Joliet.
struct Found {
    /// First byte of its record.
    at: u64,
    path: Vec<u16>,
    directory: bool,
    extents: Vec<Extent>,
}

const SLASH: u16 = b'/' as u16;

/// Reads the hierarchy of a supplementary volume descriptor: its entries, and directories' identifiers by their blocks.
fn read(reader: &mut Reader<'_>, descriptor: &[u8]) -> Result<(Vec<Found>, Directories), InspectError> {
    let place = "the hierarchy of Joliet";
    let root = record(&descriptor[156..190], place)?;
    if root.flags & FLAG_DIRECTORY == 0 {
        return Err(malformed(place, "its root is no directory"));
    }
    let mut found = Vec::new();
    let mut directories = HashMap::from([(root.extent.block, vec![0])]);
    let mut pending = vec![(root.extent, Vec::new(), root.extent.block)];
    while let Some((extent, path, parent)) = pending.pop() {
        let shown = format!("{}/ of Joliet", String::from_utf16_lossy(&path));
        let image = reader.image;
        let bytes = blocks(image, extent.block, extent.len.into(), &shown)?;
        let mut names = HashSet::new();
        let mut count = 0;
        let mut unfinished: Option<Vec<u8>> = None;
        let mut at = 0;
        while at < bytes.len() {
            let block_end = (at / BLOCK as usize + 1) * BLOCK as usize;
            if bytes[at] == 0 {
                at = block_end;
                continue;
            }
            let own = record(&bytes[at..block_end.min(bytes.len())], &shown)?;
            let record_at = extent.offset() + at as u64;
            at += usize::from(bytes[at]);
            count += 1;
            reader.hold(size_of::<Extent>())?;
            match (count, own.identifier) {
                (1, [0]) if own.extent == extent => continue,
                (2, [1]) if [parent, extent.block].contains(&own.extent.block) => continue,
                (1 | 2, _) | (_, [0] | [1]) => {
                    return Err(malformed(
                        shown,
                        "its own or its parent's record is not the first, or leads elsewhere",
                    ));
                }
                _ => {}
            }
            if own.extent.len > 0 {
                blocks(image, own.extent.block, own.extent.len.into(), &shown)?;
            }
            let more = own.flags & FLAG_MULTI_EXTENT != 0;
            if let Some(identifier) = unfinished.take() {
                let last: Option<&mut Found> = found.last_mut();
                match last.filter(|_| identifier == own.identifier) {
                    Some(last) => last.extents.push(own.extent),
                    None => return Err(malformed(shown, "the next extent of a file is missing")),
                }
                unfinished = more.then_some(identifier);
                continue;
            }
            let (units, odd) = own.identifier.as_chunks::<2>();
            let units: Vec<u16> = units.iter().map(|unit| u16::from_be_bytes(*unit)).collect();
            let directory = own.flags & FLAG_DIRECTORY != 0;
            // A file's version comes behind a semicolon, which no name has.
            let name = units.split(|&unit| unit == u16::from(b';')).next();
            let name = name.unwrap_or_default();
            if !odd.is_empty() || name.is_empty() || name.contains(&0) || name.contains(&SLASH) {
                return Err(malformed(shown, "a name that is none"));
            }
            if !names.insert(name.to_vec()) {
                return Err(malformed(shown, "a name comes twice"));
            }
            if found.len() >= reader.limits.entries {
                return Err(InspectError::Limit {
                    what: "entries",
                    limit: reader.limits.entries as u64,
                });
            }
            let mut path = path.clone();
            path.push(SLASH);
            path.extend_from_slice(name);
            if path.len() > lycia_tree::PATH_MAX {
                return Err(malformed(shown, "a path of more than 4095 characters"));
            }
            reader.hold(path.len() * 2)?;
            let mut extents = Vec::new();
            if directory {
                if directories
                    .insert(own.extent.block, own.identifier.to_vec())
                    .is_some()
                {
                    return Err(malformed(shown, "a directory with two names"));
                }
                pending.push((own.extent, path.clone(), extent.block));
            } else if own.extent.len > 0 {
                extents.push(own.extent);
            }
            unfinished = (more && !directory).then(|| own.identifier.to_vec());
            found.push(Found {
                at: record_at,
                path,
                directory,
                extents,
            });
        }
        if unfinished.is_some() || count < 2 {
            return Err(malformed(shown, "records of it are missing"));
        }
    }
    Ok((found, directories))
}

/// Holds the hierarchy of Joliet, whose descriptor begins at byte `at`, against the tree that Rock Ridge shows.
pub(super) fn joliet(
    reader: &mut Reader<'_>,
    descriptor: &[u8],
    at: u64,
    entries: &[Entry],
    faults: &mut Faults,
) {
    let (found, directories) = match read(reader, descriptor) {
        Ok(found) => found,
        Err(error) => return faults.add(at + 156, error.to_string()),
    };
    path_tables(reader.image, descriptor, at, &directories, "Joliet", faults);
    let contents: HashSet<&[Extent]> = entries
        .iter()
        .filter_map(|entry| match &entry.kind {
            EntryKind::Regular(extents) if !extents.is_empty() => Some(extents.as_slice()),
            _ => None,
        })
        .collect();
    for one in &found {
        if !one.extents.is_empty() && !contents.contains(one.extents.as_slice()) {
            faults.add(
                one.at,
                format!(
                    "{} of Joliet has other content than any file of the tree",
                    String::from_utf16_lossy(&one.path)
                ),
            );
        }
    }
    // Without Rock Ridge the tree has short names only.
    if reader.skip.is_none() {
        return;
    }
    // Names as Joliet has them, unless they are too long, or were told apart from one another.
    let mut plain = true;
    let mut folded = HashSet::new();
    let mut known: HashMap<Vec<u16>, Option<&[Extent]>> = HashMap::new();
    for entry in entries.iter().filter(|entry| entry.path != b"/") {
        let extents = match &entry.kind {
            EntryKind::Directory => None,
            EntryKind::Regular(extents) => Some(extents.as_slice()),
            _ => continue,
        };
        let mut path = Vec::new();
        for name in entry.path[1..].split(|&byte| byte == b'/') {
            let name = ucs2(name);
            plain &= name.len() <= JOLIET_MAX;
            path.push(SLASH);
            path.extend(name);
        }
        plain &= folded.insert(String::from_utf16_lossy(&path).to_lowercase());
        known.insert(path, extents);
    }
    let names = known.len();
    let mut met = 0;
    for one in &found {
        match known.get(&one.path) {
            Some(extents) => {
                met += 1;
                let same = match extents {
                    None => one.directory,
                    Some(extents) => !one.directory && **extents == one.extents,
                };
                if !same {
                    let what = format!(
                        "{} of Joliet is something else than in the tree",
                        String::from_utf16_lossy(&one.path)
                    );
                    faults.add(one.at, what);
                }
            }
            None if plain => {
                // Others show a link as an empty file.
                let shown = String::from_utf16_lossy(&one.path);
                let there = entries.iter().any(|entry| entry.path == shown.as_bytes());
                if !there || !one.extents.is_empty() {
                    faults.add(one.at, format!("{shown} of Joliet is not in the tree"));
                }
            }
            None => {}
        }
    }
    if plain && met < names {
        faults.add(
            at + 156,
            format!(
                "the hierarchy of Joliet lacks {} entries of the tree",
                names - met
            ),
        );
    }
}
