//! Reading a volume, for checks. Numbers are checked before they are used, chains of clusters are followed no further than
//! there are clusters, and what is held is bounded by [`Limits`].

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};

use lycia_tree::{Content, Metadata, Node, Timestamp, Tree, TreeError, display};
use thiserror::Error;

use super::Width;
use super::geometry::{ENTRY, MOST_12, MOST_16, MOST_32};

/// Most bytes of a directory.
pub(super) const DIRECTORY_MAX: u64 = 2 << 20;
/// Bytes of the allocation table that are read at once.
const WINDOW: u64 = 64 << 10;

/// What reading may take at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Entries of the volume.
    pub entries: u64,
    /// Bytes of contents that [`Reader::tree`] holds.
    pub bytes: u64,
}

impl Default for Limits {
    /// A million entries and 1 GiB.
    fn default() -> Limits {
        Limits {
            entries: 1 << 20,
            bytes: 1 << 30,
        }
    }
}

/// Why a volume was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// The disk refused.
    #[error("reading a FAT volume: {0}")]
    Io(#[from] io::Error),
    /// There is no FAT volume.
    #[error("reading a FAT volume: {0}")]
    NotFat(&'static str),
    /// It contradicts itself.
    #[error("reading {path} of a FAT volume: {reason}")]
    Malformed {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// More than the caller allowed.
    #[error("reading a FAT volume: more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The most allowed.
        limit: u64,
    },
    /// The entries make no tree.
    #[error("reading a FAT volume: {0}")]
    Tree(#[from] TreeError),
}

/// What the boot sector and the root directory say of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Summary {
    /// The width of the allocation table's entries.
    pub width: Width,
    /// Bytes.
    pub size: u64,
    /// Bytes of a sector.
    pub sector_size: u32,
    /// Bytes of a cluster.
    pub cluster_size: u32,
    /// Clusters.
    pub clusters: u64,
    /// The serial number: `1234-5678` is `0x1234_5678`.
    pub serial: u32,
    /// The label in the root directory.
    pub label: Option<String>,
}

/// A file or directory of a volume.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listed {
    /// Absolute path.
    pub path: Vec<u8>,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Bytes of the content; 0 for a directory.
    pub size: u64,
    /// Time of last modification.
    pub time: Timestamp,
    /// First byte of the volume and bytes of each run that holds it.
    pub runs: Vec<(u64, u64)>,
    /// What is wrong with it.
    pub fault: Option<String>,
}

/// A volume opened for reading.
pub struct Reader<R> {
    pub(super) disk: R,
    limits: Limits,
    pub(super) summary: Summary,
    /// Bytes from the beginning.
    pub(super) table_at: u64,
    pub(super) table_len: u64,
    pub(super) root_at: u64,
    pub(super) root_len: u64,
    pub(super) data_at: u64,
    /// First cluster of the root directory; 0 where it has a place of its own.
    pub(super) root: u64,
    /// A part of the table, and where it is in there.
    window: (u64, Vec<u8>),
}

/// An entry of a directory.
struct Found {
    name: String,
    is_directory: bool,
    first: u64,
    size: u64,
    time: Timestamp,
}

pub(super) fn get16(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

pub(super) fn get32(bytes: &[u8], at: usize) -> u64 {
    get16(bytes, at) | get16(bytes, at + 2) << 16
}

impl<R: Read + Seek> Reader<R> {
    /// Opens the volume that begins at the start of `disk`.
    ///
    /// # Errors
    /// When no volume is there, or its boot sector makes no sense.
    pub fn open(mut disk: R, limits: Limits) -> Result<Reader<R>, ReadError> {
        let mut boot = [0; 512];
        disk.rewind()?;
        match disk.read_exact(&mut boot) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(ReadError::NotFat("it is smaller than a boot sector"));
            }
            other => other?,
        }
        let sector = get16(&boot, 11);
        let per_cluster = u64::from(boot[13]);
        let (reserved, tables, root_entries) = (get16(&boot, 14), u64::from(boot[16]), get16(&boot, 17));
        if boot[510..] != [0x55, 0xaa] || !matches!(boot[0], 0xeb | 0xe9) {
            return Err(ReadError::NotFat("the first sector is no boot sector"));
        }
        if !matches!(sector, 512 | 1024 | 2048 | 4096) || !per_cluster.is_power_of_two() {
            return Err(ReadError::NotFat(
                "its sectors or clusters have a size that is none",
            ));
        }
        let small = |at: usize, wide_at: usize| match get16(&boot, at) {
            0 => get32(&boot, wide_at),
            number => number,
        };
        let (sectors, table) = (small(19, 32), small(22, 36));
        let root_len = (root_entries * ENTRY).next_multiple_of(sector);
        let before = reserved + tables * table + root_len / sector;
        if reserved == 0 || tables == 0 || table == 0 || before >= sectors {
            return Err(ReadError::NotFat("its parts do not fit into its size"));
        }
        let clusters = (sectors - before) / per_cluster;
        let width = if get16(&boot, 22) == 0 && root_entries == 0 {
            Width::Fat32
        } else if clusters <= MOST_12 {
            Width::Fat12
        } else if clusters <= MOST_16 {
            Width::Fat16
        } else {
            return Err(ReadError::NotFat("it has too many clusters for its tables"));
        };
        let bits = match width {
            Width::Fat12 => 12,
            Width::Fat16 => 16,
            Width::Fat32 => 32,
        };
        let table_len = table * sector;
        if clusters > MOST_32 || ((clusters + 2) * bits).div_ceil(8) > table_len {
            return Err(ReadError::NotFat("its table is too small for its clusters"));
        }
        let extended = if width == Width::Fat32 { 64 } else { 36 };
        let table_at = reserved * sector;
        let root_at = table_at + tables * table_len;
        let mut reader = Reader {
            disk,
            limits,
            summary: Summary {
                width,
                size: sectors * sector,
                sector_size: sector as u32,
                cluster_size: (per_cluster * sector) as u32,
                clusters,
                serial: get32(&boot, extended + 3) as u32,
                label: None,
            },
            table_at,
            table_len,
            root_at,
            root_len,
            data_at: root_at + root_len,
            root: if width == Width::Fat32 {
                get32(&boot, 44)
            } else {
                0
            },
            window: (u64::MAX, Vec::new()),
        };
        let root = reader.directory_bytes("/", 0, true)?;
        reader.summary.label = root
            .chunks_exact(ENTRY as usize)
            .take_while(|record| record[0] != 0)
            .find(|record| record[0] != 0xe5 && record[11] & 0x3f == 0x08)
            .map(|record| oem(&record[..11]).trim_end().to_owned());
        Ok(reader)
    }

    /// What the volume says of itself.
    pub fn summary(&self) -> &Summary {
        &self.summary
    }

    /// The entry of a cluster in the table.
    fn entry(&mut self, cluster: u64) -> Result<u64, ReadError> {
        let place = match self.summary.width {
            Width::Fat12 => cluster + cluster / 2,
            Width::Fat16 => cluster * 2,
            Width::Fat32 => cluster * 4,
        };
        let (start, held) = &self.window;
        let inside = |start: u64, len: usize| place >= start && place + 4 <= start + len as u64;
        if !inside(*start, held.len()) {
            let start = place / WINDOW * WINDOW;
            // An entry of 12 bits may lie across the end.
            let len = (WINDOW + 4).min(self.table_len - start);
            let mut bytes = vec![0; len as usize];
            self.disk.seek(SeekFrom::Start(self.table_at + start))?;
            self.disk.read_exact(&mut bytes)?;
            bytes.resize(bytes.len() + 4, 0);
            self.window = (start, bytes);
        }
        let at = (place - self.window.0) as usize;
        let word = get32(&self.window.1, at);
        Ok(match self.summary.width {
            Width::Fat12 => word >> (cluster % 2 * 4) & 0xfff,
            Width::Fat16 => word & 0xffff,
            Width::Fat32 => word & 0x0fff_ffff,
        })
    }

    /// Reads the chain that begins at `first`, at most `most` bytes; whether it went to its end.
    fn chain(&mut self, path: &str, first: u64, most: u64) -> Result<(Vec<u8>, bool), ReadError> {
        let malformed = |reason| ReadError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let cluster_size = u64::from(self.summary.cluster_size);
        let end = match self.summary.width {
            Width::Fat12 => 0xff8,
            Width::Fat16 => 0xfff8,
            Width::Fat32 => 0x0fff_fff8,
        };
        let (mut bytes, mut cluster, mut steps) = (Vec::new(), first, 0);
        loop {
            if !(2..self.summary.clusters + 2).contains(&cluster) {
                return Err(malformed("its chain of clusters leads out of the volume"));
            }
            steps += 1;
            if steps > self.summary.clusters {
                return Err(malformed("its chain of clusters is a loop"));
            }
            let len = cluster_size.min(most - bytes.len() as u64) as usize;
            let at = bytes.len();
            bytes.resize(at + len, 0);
            let place = self.data_at + (cluster - 2) * cluster_size;
            self.disk.seek(SeekFrom::Start(place))?;
            self.disk.read_exact(&mut bytes[at..])?;
            cluster = self.entry(cluster)?;
            if cluster >= end {
                return Ok((bytes, true));
            }
            if bytes.len() as u64 >= most {
                return Ok((bytes, false));
            }
        }
    }

    fn directory_bytes(&mut self, path: &str, first: u64, is_root: bool) -> Result<Vec<u8>, ReadError> {
        if is_root && self.root == 0 {
            let mut bytes = vec![0; self.root_len as usize];
            self.disk.seek(SeekFrom::Start(self.root_at))?;
            self.disk.read_exact(&mut bytes)?;
            return Ok(bytes);
        }
        let first = if is_root { self.root } else { first };
        let (bytes, whole) = self.chain(path, first, DIRECTORY_MAX)?;
        if !whole {
            return Err(ReadError::Limit {
                what: "bytes of a directory",
                limit: DIRECTORY_MAX,
            });
        }
        Ok(bytes)
    }

    /// The places of the chain that begins at `first`: first byte and bytes of each run of clusters, at most `most` bytes.
    /// A cluster that `seen` has already is a fault.
    fn runs(
        &mut self,
        path: &str,
        first: u64,
        most: u64,
        seen: &mut [u64],
    ) -> Result<Vec<(u64, u64)>, ReadError> {
        let malformed = |reason| ReadError::Malformed {
            path: path.to_owned(),
            reason,
        };
        let cluster_size = u64::from(self.summary.cluster_size);
        let end = match self.summary.width {
            Width::Fat12 => 0xff8,
            Width::Fat16 => 0xfff8,
            Width::Fat32 => 0x0fff_fff8,
        };
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let (mut cluster, mut left) = (first, most);
        loop {
            if !(2..self.summary.clusters + 2).contains(&cluster) {
                return Err(malformed("its chain of clusters leads out of the volume"));
            }
            let word = seen
                .get_mut((cluster / 64) as usize)
                .ok_or_else(|| malformed("its chain of clusters leads out of the volume"))?;
            if *word >> (cluster % 64) & 1 != 0 {
                return Err(malformed("a cluster of it belongs to something else, too"));
            }
            *word |= 1 << (cluster % 64);
            let place = self.data_at + (cluster - 2) * cluster_size;
            let len = cluster_size.min(left);
            left -= len;
            match runs.last_mut() {
                Some(last) if last.0 + last.1 == place => last.1 += len,
                _ => runs.push((place, len)),
            }
            cluster = self.entry(cluster)?;
            if cluster >= end {
                return match left {
                    0 => Ok(runs),
                    _ if most == DIRECTORY_MAX => Ok(runs),
                    _ => Err(malformed("its size and its chain of clusters do not agree")),
                };
            }
            if left == 0 {
                return Err(malformed("its size and its chain of clusters do not agree"));
            }
        }
    }

    /// All files and directories without their contents, directories before what is in them, each with the runs of bytes
    /// of the volume that hold it. Chains are followed to their ends, and no cluster may belong to two of them.
    ///
    /// # Errors
    /// When a directory cannot be read, or the limits are passed. What is wrong with one entry is in that entry.
    pub fn list(&mut self) -> Result<Vec<Listed>, ReadError> {
        let mut listed: Vec<Listed> = Vec::new();
        let mut seen = vec![0u64; (self.summary.clusters as usize + 2).div_ceil(64)];
        let mut names = HashSet::new();
        let mut directories = vec![(Vec::new(), 0, true)];
        // Names of a damaged volume can all be long.
        let most_bytes = self.limits.entries.saturating_mul(512);
        let mut held = 0u64;
        while let Some((path, first, is_root)) = directories.pop() {
            let shown = if is_root { "/".to_owned() } else { display(&path) };
            if is_root && self.root != 0 {
                self.runs(&shown, self.root, DIRECTORY_MAX, &mut seen)?;
            }
            for found in entries(&self.directory_bytes(&shown, first, is_root)?) {
                if listed.len() as u64 >= self.limits.entries {
                    return Err(ReadError::Limit {
                        what: "entries",
                        limit: self.limits.entries,
                    });
                }
                let path = [path.as_slice(), b"/", found.name.as_bytes()].concat();
                if path.len() > lycia_tree::PATH_MAX {
                    return Err(ReadError::Malformed {
                        path: shown,
                        reason: "a path of more than 4095 bytes",
                    });
                }
                held = held.saturating_add(path.len() as u64);
                if held > most_bytes {
                    return Err(ReadError::Limit {
                        what: "bytes of paths",
                        limit: most_bytes,
                    });
                }
                let mut entry = Listed {
                    is_directory: found.is_directory,
                    size: if found.is_directory { 0 } else { found.size },
                    time: found.time,
                    runs: Vec::new(),
                    fault: None,
                    path,
                };
                let most = if found.is_directory {
                    DIRECTORY_MAX
                } else {
                    found.size
                };
                let name = display(&entry.path);
                if found.name.is_empty() || found.name.contains(['/', '\0']) {
                    entry.fault = Some("a name that is none".to_owned());
                } else if !names.insert(entry.path.clone()) {
                    entry.fault = Some("the name comes twice".to_owned());
                } else if most > 0 {
                    match self.runs(&name, found.first, most, &mut seen) {
                        Ok(runs) => entry.runs = runs,
                        Err(ReadError::Malformed { reason, .. }) => entry.fault = Some(reason.to_owned()),
                        Err(other) => return Err(other),
                    }
                }
                if found.is_directory && entry.fault.is_none() {
                    directories.push((entry.path.clone(), found.first, false));
                }
                listed.push(entry);
            }
        }
        Ok(listed)
    }

    /// The whole volume as a tree, contents in memory; everything is root's, directories 0755 and files 0644.
    ///
    /// # Errors
    /// When anything cannot be read, directories form a loop, or the limits are passed.
    pub fn tree(&mut self) -> Result<Tree, ReadError> {
        let mut tree = Tree::new(Metadata::new(0o755, Timestamp::default()));
        let mut visited = HashSet::new();
        let mut directories = vec![(Vec::new(), 0, true)];
        let (mut count, mut held) = (0, 0u64);
        while let Some((path, first, is_root)) = directories.pop() {
            let shown = if is_root { "/".to_owned() } else { display(&path) };
            if !visited.insert(first) {
                return Err(ReadError::Malformed {
                    path: shown,
                    reason: "another directory has the same cluster",
                });
            }
            for found in entries(&self.directory_bytes(&shown, first, is_root)?) {
                count += 1;
                if count > self.limits.entries {
                    return Err(ReadError::Limit {
                        what: "entries",
                        limit: self.limits.entries,
                    });
                }
                let path = [path.as_slice(), b"/", found.name.as_bytes()].concat();
                let malformed = |reason| ReadError::Malformed {
                    path: display(&path),
                    reason,
                };
                if found.name.is_empty() || found.name.contains(['/', '\0']) {
                    return Err(malformed("a name that is none"));
                }
                if tree.find(&path, lycia_tree::Follow::Parents)?.is_some() {
                    return Err(malformed("the name comes twice"));
                }
                if found.is_directory {
                    tree.make_directory(&path, Metadata::new(0o755, found.time))?;
                    directories.push((path, found.first, false));
                    continue;
                }
                held = held.saturating_add(found.size);
                if held > self.limits.bytes {
                    return Err(ReadError::Limit {
                        what: "bytes of contents",
                        limit: self.limits.bytes,
                    });
                }
                let mut content = Vec::new();
                if found.size > 0 {
                    let (bytes, whole) = self.chain(&display(&path), found.first, found.size)?;
                    if (bytes.len() as u64) < found.size || !whole {
                        return Err(malformed("its size and its chain of clusters do not agree"));
                    }
                    content = bytes;
                }
                let metadata = Metadata::new(0o644, found.time);
                tree.insert(&path, metadata, Node::Regular(Content::from(content)))?;
            }
        }
        Ok(tree)
    }
}

/// The entries of a directory, without labels, `.` and `..`.
fn entries(bytes: &[u8]) -> Vec<Found> {
    let mut found = Vec::new();
    // Slots of a long name, last first, with the sum of the short name that they belong to.
    let mut long: Vec<(u8, u8, [u16; 13])> = Vec::new();
    for record in bytes.chunks_exact(ENTRY as usize) {
        match (record[0], record[11]) {
            (0, _) => break,
            (0xe5, _) => long.clear(),
            (order, kind) if kind & 0x3f == 0x0f => {
                if order & 0x40 != 0 {
                    long.clear();
                }
                let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain([28, 30]);
                let mut units = [0; 13];
                for (unit, at) in units.iter_mut().zip(places) {
                    *unit = get16(record, at) as u16;
                }
                long.push((order & 0x3f, record[13], units));
            }
            (_, kind) if kind & 0x08 != 0 => long.clear(),
            _ => {
                let name =
                    long_name(&std::mem::take(&mut long), record).unwrap_or_else(|| short_name(record));
                if name == "." || name == ".." {
                    continue;
                }
                found.push(Found {
                    name,
                    is_directory: record[11] & 0x10 != 0,
                    first: get16(record, 26) | get16(record, 20) << 16,
                    size: get32(record, 28),
                    time: time(get16(record, 24), get16(record, 22)),
                });
            }
        }
    }
    found
}

/// The long name, where the slots are whole and belong to the entry.
pub(super) fn long_name(slots: &[(u8, u8, [u16; 13])], record: &[u8]) -> Option<String> {
    let sum = record[..11]
        .iter()
        .fold(0u8, |sum, &byte| sum.rotate_right(1).wrapping_add(byte));
    let count = slots.len();
    let whole = slots
        .iter()
        .enumerate()
        .all(|(at, slot)| usize::from(slot.0) == count - at && slot.1 == sum);
    if count == 0 || !whole {
        return None;
    }
    let units: Vec<u16> = slots
        .iter()
        .rev()
        .flat_map(|slot| slot.2)
        .take_while(|&unit| unit != 0)
        .collect();
    String::from_utf16(&units).ok()
}

/// Code page 437 from 0x80 on, what short names are in where nothing else is agreed.
const UPPER_HALF: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐\
    └┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

fn oem(bytes: &[u8]) -> String {
    bytes
        .iter()
        .map(|&byte| match byte.checked_sub(0x80) {
            Some(place) => UPPER_HALF.chars().nth(place.into()).unwrap_or('\u{fffd}'),
            None => char::from(byte),
        })
        .collect()
}

pub(super) fn short_name(record: &[u8]) -> String {
    let part = |bytes: &[u8], lower: bool| {
        let text = oem(bytes).trim_end_matches(' ').to_owned();
        if lower { text.to_lowercase() } else { text }
    };
    let mut first = [0; 8];
    first.copy_from_slice(&record[..8]);
    // A name that begins with the mark of free entries.
    if first[0] == 0x05 {
        first[0] = 0xe5;
    }
    let base = part(&first, record[12] & 0x08 != 0);
    let extension = part(&record[8..11], record[12] & 0x10 != 0);
    if extension.is_empty() {
        base
    } else {
        format!("{base}.{extension}")
    }
}

/// Date and time, taken for UTC.
fn time(date: u64, clock: u64) -> Timestamp {
    let (year, month, day) = (
        1980 + (date >> 9) as i64,
        (date >> 5 & 15) as i64,
        (date & 31) as i64,
    );
    // Days since 1970 of a date; years are counted from March on.
    let (year, month) = if month <= 2 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 719_469;
    let seconds = (clock >> 11) * 3600 + (clock >> 5 & 63) * 60 + (clock & 31) * 2;
    Timestamp::from_seconds(days * 86_400 + seconds as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_page_is_whole() {
        assert_eq!(UPPER_HALF.chars().count(), 128);
        assert_eq!(oem(b"A\x9a\xe1\xff"), "A\u{dc}\u{df}\u{a0}");
    }

    #[test]
    fn dates_read_back() {
        for (date, clock, seconds) in [
            (1 << 5 | 1, 0, 315_532_800),
            (40 << 9 | 9 << 5 | 13, 12 << 11 | 26 << 5 | 20, 1_600_000_000),
            (20 << 9 | 2 << 5 | 29, 0, 951_782_400),
            (127 << 9 | 12 << 5 | 31, 23 << 11 | 59 << 5 | 29, 4_354_819_198),
        ] {
            assert_eq!(time(date, clock), Timestamp::from_seconds(seconds));
        }
    }
}
