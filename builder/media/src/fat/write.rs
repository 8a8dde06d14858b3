//! Laying files out and writing them: every file in one piece, directories before what is in them.

use std::collections::HashMap;
use std::io::{self, Seek, Write};

use lycia_tree::{Footprint, InodeId, Timestamp, Tree, display};

use super::geometry::{ENTRY, Geometry, TABLES};
use super::names::{self, Stored};
use super::{FatError, Volume, Width, clamp};
use crate::sparse::Placed;

pub(super) const DIRECTORY: u8 = 0x10;
pub(super) const ARCHIVE: u8 = 0x20;
const LABEL: u8 = 0x08;
/// Most entries of a directory.
const ENTRIES_MAX: u64 = 65_536;
/// Entries of a root directory with a place of its own, unless it needs more.
const ROOT_ENTRIES: u64 = 512;
/// Where FAT32 has what is free, and a copy of its first sectors.
const INFO_SECTOR: u64 = 1;
const BACKUP_SECTOR: u64 = 6;

/// An entry of a directory.
struct Entry {
    name: Stored,
    id: InodeId,
    time: Timestamp,
    /// First cluster; 0 for none.
    first: u64,
}

/// A directory.
struct Directory {
    entries: Vec<Entry>,
    /// First cluster; 0 for a root with a place of its own.
    first: u64,
    /// First cluster of the one above; 0 for the root.
    parent: u64,
    is_root: bool,
    time: Timestamp,
    /// Entries of 32 bytes.
    slots: u64,
}

/// A volume laid out.
pub(super) struct Layout<'t> {
    tree: &'t Tree,
    geometry: Geometry,
    label: Option<[u8; 11]>,
    serial: u32,
    time: Timestamp,
    /// In the order of their clusters.
    directories: Vec<Directory>,
    /// Files with content in the order of their clusters.
    files: Vec<InodeId>,
    /// First cluster and clusters of each piece, in order.
    pieces: Vec<(u64, u64)>,
    /// The first cluster that is free.
    next: u64,
}

impl<'t> Layout<'t> {
    pub(super) fn new(
        tree: &'t Tree,
        volume: &Volume,
        sector: u32,
        label: Option<[u8; 11]>,
    ) -> Result<Layout<'t>, FatError> {
        let failure = |reason: String| FatError::Space {
            size: volume.size,
            reason,
        };
        let mut directories = Vec::new();
        let mut queue = vec![(tree.root(), b"/".to_vec())];
        let mut order = Vec::new();
        // Directories in the order in which a reader goes down.
        while let Some((id, path)) = queue.pop() {
            let directory = directory(tree, id, &path, volume)?;
            for (name, &child) in tree.inode(id).entries().into_iter().flatten().rev() {
                if tree.inode(child).is_directory() {
                    queue.push((child, child_path(&path, name)));
                }
            }
            order.push(id);
            directories.push(directory);
        }
        let root_slots = directories[0].slots + u64::from(label.is_some());
        directories[0].slots = root_slots;
        let sector = u64::from(sector);
        let root_entries = root_slots.max(ROOT_ENTRIES);
        let geometry = Geometry::compute(volume.size, sector, volume.width, root_entries).map_err(failure)?;
        let mut layout = Layout {
            tree,
            geometry,
            label,
            serial: volume.serial,
            time: volume.time,
            directories,
            files: Vec::new(),
            pieces: Vec::new(),
            next: 2,
        };
        layout.place(&order);
        let used = layout.next - 2;
        if used > geometry.clusters {
            return Err(failure(format!(
                "its files need {used} clusters of {} bytes and it has {}",
                geometry.cluster(),
                geometry.clusters
            )));
        }
        Ok(layout)
    }

    fn take(&mut self, bytes: u64) -> u64 {
        let count = bytes.div_ceil(self.geometry.cluster());
        if count == 0 {
            return 0;
        }
        let first = self.next;
        self.next += count;
        self.pieces.push((first, count));
        first
    }

    fn place(&mut self, order: &[InodeId]) {
        let own_root = self.geometry.width != Width::Fat32;
        let mut first_of: HashMap<InodeId, u64> = HashMap::new();
        for (at, &id) in order.iter().enumerate() {
            // A root without entries has a cluster too.
            let bytes = (self.directories[at].slots * ENTRY).max(1);
            let first = if at == 0 && own_root { 0 } else { self.take(bytes) };
            self.directories[at].first = first;
            // The root is written 0 where it is a parent, whatever cluster it has.
            first_of.insert(id, if at == 0 { 0 } else { first });
            if let lycia_tree::Kind::Directory { parent, .. } = self.tree.inode(id).kind() {
                self.directories[at].parent = first_of.get(parent).copied().unwrap_or(0);
            }
        }
        for at in 0..self.directories.len() {
            for entry in 0..self.directories[at].entries.len() {
                let id = self.directories[at].entries[entry].id;
                let first = match self.tree.inode(id).content() {
                    Some(content) => {
                        let first = self.take(content.len());
                        if first != 0 {
                            self.files.push(id);
                        }
                        first
                    }
                    None => first_of.get(&id).copied().unwrap_or(0),
                };
                self.directories[at].entries[entry].first = first;
            }
        }
    }

    pub(super) fn write(
        &self,
        out: &mut (impl Write + Seek),
        offset: u64,
        skip_zeros: bool,
    ) -> io::Result<()> {
        let geometry = &self.geometry;
        let mut out = Placed::new(out, offset, geometry.sector as u32, skip_zeros);
        // What a write that was cut short leaves is no volume.
        out.zero(0..geometry.sector)?;
        for table in 0..TABLES {
            self.write_table(&mut out, geometry.table_at(table))?;
        }
        for (at, directory) in self.directories.iter().enumerate() {
            let bytes = self.directory(at);
            if directory.first == 0 {
                out.write(geometry.root_at(), &bytes)?;
                let end = geometry.root_at() + geometry.root_entries * ENTRY;
                out.zero(geometry.root_at() + bytes.len() as u64..end)?;
                continue;
            }
            let place = geometry.cluster_at(directory.first);
            out.write(place, &bytes)?;
            let end = bytes.len().max(1).next_multiple_of(geometry.cluster() as usize);
            out.zero(place + bytes.len() as u64..place + end as u64)?;
        }
        // Their pieces come behind those of the directories.
        let pieces = &self.pieces[self.pieces.len() - self.files.len()..];
        let mut footprint = Footprint::new();
        for (&id, &(first, _)) in self.files.iter().zip(pieces) {
            if let Some(content) = self.tree.inode(id).content() {
                let mut place = geometry.cluster_at(first);
                for piece in footprint.pieces(content) {
                    out.write(place, piece)?;
                    place += piece.len() as u64;
                }
                out.write_padded(place, &[])?;
            }
        }
        self.write_head(&mut out)?;
        out.finish()
    }

    fn write_table<W: Write + Seek>(&self, out: &mut Placed<'_, W>, place: u64) -> io::Result<()> {
        let len = (self.geometry.table * self.geometry.sector) as usize;
        // The medium, and a chain's end that also says that the volume was left in order.
        let mut writer = TableWriter::new(self.geometry.width);
        writer.push(0x0fff_fff8);
        writer.push(TableWriter::END);
        for &(first, count) in &self.pieces {
            for cluster in first + 1..first + count {
                writer.push(cluster as u32);
            }
            writer.push(TableWriter::END);
        }
        let mut bytes = writer.finish();
        bytes.resize(
            bytes
                .len()
                .next_multiple_of(self.geometry.sector as usize)
                .min(len),
            0,
        );
        out.write(place, &bytes)?;
        out.zero(place + bytes.len() as u64..place + len as u64)
    }

    fn directory(&self, at: usize) -> Vec<u8> {
        let directory = &self.directories[at];
        let mut bytes = Vec::with_capacity((directory.slots * ENTRY) as usize);
        if directory.is_root {
            if let Some(label) = &self.label {
                bytes.extend_from_slice(&record(label, LABEL, 0, self.time, 0, 0));
            }
        } else {
            // With the same time as the entry above.
            for (name, first) in [
                (b".          ", directory.first),
                (b"..         ", directory.parent),
            ] {
                bytes.extend_from_slice(&record(name, DIRECTORY, 0, directory.time, first, 0));
            }
        }
        for entry in &directory.entries {
            let (kind, size) = match self.tree.inode(entry.id).content() {
                Some(content) => (ARCHIVE, content.len() as u32),
                None => (DIRECTORY, 0),
            };
            for slot in entry.name.long_slots() {
                bytes.extend_from_slice(&slot);
            }
            let record = record(
                &entry.name.short,
                kind,
                entry.name.case,
                entry.time,
                entry.first,
                size,
            );
            bytes.extend_from_slice(&record);
        }
        bytes.resize(bytes.len().next_multiple_of(self.geometry.sector as usize), 0);
        bytes
    }

    /// The reserved sectors; the first one last.
    fn write_head<W: Write + Seek>(&self, out: &mut Placed<'_, W>) -> io::Result<()> {
        let geometry = &self.geometry;
        let sector = geometry.sector;
        let mut boot = vec![0; sector as usize];
        let wide = geometry.width == Width::Fat32;
        let code = if wide { 90 } else { 62 };
        boot[..3].copy_from_slice(&[0xeb, code as u8 - 2, 0x90]);
        boot[3..11].copy_from_slice(b"LYCIA   ");
        put16(&mut boot, 11, sector as u16);
        boot[13] = geometry.per_cluster as u8;
        put16(&mut boot, 14, geometry.reserved as u16);
        boot[16] = TABLES as u8;
        put16(&mut boot, 17, geometry.root_entries as u16);
        if !wide && geometry.sectors < 0x1_0000 {
            put16(&mut boot, 19, geometry.sectors as u16);
        } else {
            put32(&mut boot, 32, geometry.sectors as u32);
        }
        // A fixed disk of 63 sectors and 255 heads.
        boot[21] = 0xf8;
        put16(&mut boot, 24, 63);
        put16(&mut boot, 26, 255);
        let (extended, name): (usize, &[u8; 8]) = match geometry.width {
            Width::Fat12 => (36, b"FAT12   "),
            Width::Fat16 => (36, b"FAT16   "),
            Width::Fat32 => (64, b"FAT32   "),
        };
        if wide {
            put32(&mut boot, 36, geometry.table as u32);
            put32(&mut boot, 44, self.directories[0].first as u32);
            put16(&mut boot, 48, INFO_SECTOR as u16);
            put16(&mut boot, 50, BACKUP_SECTOR as u16);
        } else {
            put16(&mut boot, 22, geometry.table as u16);
        }
        boot[extended] = 0x80;
        boot[extended + 2] = 0x29;
        put32(&mut boot, extended + 3, self.serial);
        let label = self.label.unwrap_or(*b"NO NAME    ");
        boot[extended + 7..extended + 18].copy_from_slice(&label);
        boot[extended + 18..extended + 26].copy_from_slice(name);
        // Asks the BIOS to go on with the next medium, and waits should it come back.
        boot[code..code + 4].copy_from_slice(&[0xcd, 0x18, 0xeb, 0xfe]);
        boot[510..512].copy_from_slice(&[0x55, 0xaa]);
        out.zero(sector..geometry.reserved * sector)?;
        if wide {
            let mut info = vec![0; sector as usize];
            info[..4].copy_from_slice(b"RRaA");
            info[484..488].copy_from_slice(b"rrAa");
            put32(&mut info, 488, (geometry.clusters + 2 - self.next) as u32);
            put32(&mut info, 492, (self.next - 1) as u32);
            info[510..512].copy_from_slice(&[0x55, 0xaa]);
            for first in [0, BACKUP_SECTOR] {
                out.write((first + INFO_SECTOR) * sector, &info)?;
            }
            out.write(BACKUP_SECTOR * sector, &boot)?;
        }
        out.barrier()?;
        out.write(0, &boot)
    }
}

/// Packs the entries of an allocation table.
struct TableWriter {
    width: Width,
    bytes: Vec<u8>,
    /// The first of two entries that share three bytes.
    half: Option<u32>,
}

impl TableWriter {
    const END: u32 = 0x0fff_ffff;

    fn new(width: Width) -> TableWriter {
        TableWriter {
            width,
            bytes: Vec::new(),
            half: None,
        }
    }

    fn push(&mut self, value: u32) {
        match self.width {
            Width::Fat12 => match self.half.take() {
                None => self.half = Some(value & 0xfff),
                Some(first) => {
                    let both = first | (value & 0xfff) << 12;
                    self.bytes.extend_from_slice(&both.to_le_bytes()[..3]);
                }
            },
            Width::Fat16 => self.bytes.extend_from_slice(&(value as u16).to_le_bytes()),
            Width::Fat32 => self.bytes.extend_from_slice(&value.to_le_bytes()),
        }
    }

    fn finish(mut self) -> Vec<u8> {
        if let Some(first) = self.half.take() {
            self.bytes.extend_from_slice(&(first as u16).to_le_bytes());
        }
        self.bytes
    }
}

fn put16(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

fn put32(bytes: &mut [u8], at: usize, value: u32) {
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// An entry of 32 bytes.
pub(super) fn record(
    name: &[u8; 11],
    kind: u8,
    case: u8,
    time: Timestamp,
    first: u64,
    size: u32,
) -> [u8; 32] {
    let (day, second) = stamp(time);
    let mut bytes = [0; 32];
    bytes[..11].copy_from_slice(name);
    bytes[11] = kind;
    bytes[12] = case;
    put16(&mut bytes, 14, second);
    put16(&mut bytes, 16, day);
    put16(&mut bytes, 18, day);
    put16(&mut bytes, 20, (first >> 16) as u16);
    put16(&mut bytes, 22, second);
    put16(&mut bytes, 24, day);
    put16(&mut bytes, 26, first as u16);
    put32(&mut bytes, 28, size);
    bytes
}

/// Date and time in UTC, to 2 seconds, moved into what FAT knows.
fn stamp(time: Timestamp) -> (u16, u16) {
    let seconds = clamp(time).seconds;
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years from March on, so that the leap day is the last of one; 1600-03-01 begins a cycle of 400.
    let from_march = days + 135_080;
    let (cycle, day) = (from_march.div_euclid(146_097), from_march.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let in_year = day - (365 * year + year / 4 - year / 100);
    let march_month = (5 * in_year + 2) / 153;
    let in_month = in_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 {
        march_month + 3
    } else {
        march_month - 9
    };
    let year = 1600 + cycle * 400 + year + i64::from(month <= 2);
    let date = (year - 1980) << 9 | month << 5 | in_month;
    let clock = ((second / 3600) << 11) | ((second / 60 % 60) << 5) | (second % 60 / 2);
    (date as u16, clock as u16)
}

fn child_path(path: &[u8], name: &[u8]) -> Vec<u8> {
    let mut joined = path.strip_suffix(b"/").unwrap_or(path).to_vec();
    joined.push(b'/');
    joined.extend_from_slice(name);
    joined
}

/// The entries of a directory, checked.
fn directory(tree: &Tree, id: InodeId, path: &[u8], volume: &Volume) -> Result<Directory, FatError> {
    let mut names = Vec::new();
    let mut entries = Vec::new();
    let mut spellings: HashMap<String, &str> = HashMap::new();
    for (name, &child) in tree.inode(id).entries().into_iter().flatten() {
        let refuse = |reason: String| FatError::Entry {
            path: display(&child_path(path, name)),
            reason,
        };
        let name = std::str::from_utf8(name).map_err(|_| refuse("its name is not UTF-8".to_owned()))?;
        let odd = |character: char| character < ' ' || "\"*:<>?\\|".contains(character);
        if name.ends_with([' ', '.']) || name.contains(odd) {
            return Err(refuse("FAT has no such names".to_owned()));
        }
        if let Some(other) = spellings.insert(name.to_lowercase(), name) {
            return Err(refuse(format!("it differs from {other} only by case")));
        }
        let inode = tree.inode(child);
        match inode.content() {
            Some(content) if content.len() > u32::MAX.into() => {
                return Err(refuse(format!("{} bytes are more than 4 GiB - 1", content.len())));
            }
            None if !inode.is_directory() => {
                return Err(refuse("FAT holds files and directories only".to_owned()));
            }
            _ => {}
        }
        names.push(name);
        entries.push((child, inode.metadata.mtime.min(volume.time)));
    }
    let stored = names::store(&names).map_err(|index| FatError::Entry {
        path: display(&child_path(path, names[index].as_bytes())),
        reason: format!(
            "FAT has names of at most {} UTF-16 units, and a million that begin alike",
            names::LONG_MAX
        ),
    })?;
    let is_root = id == tree.root();
    let entries: Vec<Entry> = stored
        .into_iter()
        .zip(entries)
        .map(|(name, (id, time))| Entry {
            name,
            id,
            time,
            first: 0,
        })
        .collect();
    let slots =
        entries.iter().map(|entry| entry.name.slots() as u64).sum::<u64>() + if is_root { 0 } else { 2 };
    // With room for a label.
    if slots + 1 > ENTRIES_MAX {
        return Err(FatError::Entry {
            path: display(path),
            reason: format!("the directory needs {slots} entries; {ENTRIES_MAX} are the most"),
        });
    }
    Ok(Directory {
        entries,
        first: 0,
        parent: 0,
        is_root,
        time: tree.inode(id).metadata.mtime.min(volume.time),
        slots,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, (year, month, day), (hour, minute, second)) in [
            (315_532_800, (1980, 1, 1), (0, 0, 0)),
            (1_600_000_000, (2020, 9, 13), (12, 26, 40)),
            (951_782_399, (2000, 2, 28), (23, 59, 58)),
            (951_782_400, (2000, 2, 29), (0, 0, 0)),
            (951_868_800, (2000, 3, 1), (0, 0, 0)),
            (4_107_542_400, (2100, 3, 1), (0, 0, 0)),
            (4_354_819_198, (2107, 12, 31), (23, 59, 58)),
            (-1, (1980, 1, 1), (0, 0, 0)),
            (1 << 40, (2107, 12, 31), (23, 59, 58)),
        ] {
            let (date, time) = stamp(Timestamp::from_seconds(seconds));
            assert_eq!(
                (1980 + (date >> 9), date >> 5 & 15, date & 31),
                (year, month, day),
                "{seconds}"
            );
            assert_eq!(
                (time >> 11, time >> 5 & 63, (time & 31) * 2),
                (hour, minute, second)
            );
        }
    }
}
