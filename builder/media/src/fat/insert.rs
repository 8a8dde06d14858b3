//! Putting files into a volume that is there, beside what it holds.
//!
//! Everything is computed from the volume as it is before the first byte is written: new contents only go to clusters that are free, and the same volume gives the
//! same writes, so that an insertion that was interrupted is finished by computing it again from the volume as it was and writing all of it. The order is: contents of
//! files and new directories; the copies of the allocation table; sectors of directories, one after the other; at last the clusters of files that were replaced
//! become free. Whenever it is cut short, each file of the volume is the old one or the new one, and nothing else is touched.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom, Write};

use lycia_tree::{Content, InodeId, Timestamp, Tree, display};

use super::geometry::ENTRY;
use super::names::{self, Stored};
use super::present::{Folder, InsertError, Table, Volume, same, there};
use super::read::{DIRECTORY_MAX, get16};
use super::write::{ARCHIVE, DIRECTORY, record};
use super::{Width, clamp};

/// Bytes that are written at once.
const PIECE: usize = 1 << 20;

enum Source {
    Bytes(Vec<u8>),
    Content(Content),
}

impl Source {
    fn bytes(&self) -> &[u8] {
        match self {
            Source::Bytes(bytes) => bytes,
            Source::Content(content) => content.bytes(),
        }
    }
}

/// Files on their way into a volume: everything that will be written.
pub struct Insertion {
    /// Into free clusters.
    contents: Vec<(u64, Source)>,
    tables: Vec<(u64, Vec<u8>)>,
    entries: Vec<(u64, Vec<u8>)>,
    released: Vec<(u64, Vec<u8>)>,
    cluster_size: u64,
}

struct Inserter<'t, R> {
    volume: Volume<R>,
    tree: &'t Tree,
    time: Timestamp,
    /// Clusters that there are not.
    missing: u64,
    contents: Vec<(u64, Source)>,
    entries: Vec<(u64, Vec<u8>)>,
    replaced: Vec<u64>,
}

impl Insertion {
    /// Computes how `tree` gets into the volume at the start of `disk`. Directories that are there are used, files of the same name are replaced, and everything else stays;
    /// no entry is later than `time`.
    ///
    /// # Errors
    /// When there is no volume, it is damaged or too full, or something else is in the way.
    pub fn new(disk: impl Read + Seek, tree: &Tree, time: Timestamp) -> Result<Insertion, InsertError> {
        let volume = Volume::open(disk)?;
        let before = volume.table.clone();
        let mut inserter = Inserter {
            volume,
            tree,
            time,
            missing: 0,
            contents: Vec::new(),
            entries: Vec::new(),
            replaced: Vec::new(),
        };
        inserter.existing(tree.root(), None, "")?;
        let size = inserter.volume.cluster_size();
        if inserter.missing > 0 {
            let free = before.free() * size;
            return Err(InsertError::Space {
                free,
                needed: free + inserter.missing * size,
            });
        }
        let linked = inserter.volume.table.clone();
        for first in std::mem::take(&mut inserter.replaced) {
            for cluster in linked.chain(first, "a file that is replaced")? {
                inserter.volume.table.set(cluster, 0);
            }
        }
        let tables = inserter.table_sectors(&before, &linked);
        let mut released = inserter.table_sectors(&linked, &inserter.volume.table);
        released.extend(inserter.free_count()?);
        let nothing = inserter.contents.is_empty() && inserter.entries.is_empty();
        Ok(Insertion {
            contents: inserter.contents,
            tables,
            entries: inserter.entries,
            released: if nothing { Vec::new() } else { released },
            cluster_size: size,
        })
    }

    /// Whether the volume has everything already.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty() && self.entries.is_empty()
    }

    /// Writes it to the volume at the start of `disk`, which must be the one that it was computed for, or one that an earlier write of the same insertion
    /// was cut short on. `flush` of `disk` must return when everything is lasting.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write(&self, disk: &mut (impl Write + Seek)) -> io::Result<()> {
        let mut put = |at: u64, bytes: &[u8]| {
            disk.seek(SeekFrom::Start(at))?;
            for piece in bytes.chunks(PIECE) {
                disk.write_all(piece)?;
            }
            Ok::<(), io::Error>(())
        };
        for (at, source) in &self.contents {
            let bytes = source.bytes();
            // Whole clusters, so that no sector is written in part.
            let whole = bytes.len() / self.cluster_size as usize * self.cluster_size as usize;
            put(*at, &bytes[..whole])?;
            if whole < bytes.len() {
                let mut last = bytes[whole..].to_vec();
                last.resize(self.cluster_size as usize, 0);
                put(*at + whole as u64, &last)?;
            }
        }
        disk.flush()?;
        for (at, bytes) in &self.tables {
            disk.seek(SeekFrom::Start(*at))?;
            disk.write_all(bytes)?;
        }
        disk.flush()?;
        for (at, bytes) in &self.entries {
            disk.seek(SeekFrom::Start(*at))?;
            disk.write_all(bytes)?;
            // An entry that lies across sectors ends in the later one.
            disk.flush()?;
        }
        for (at, bytes) in &self.released {
            disk.seek(SeekFrom::Start(*at))?;
            disk.write_all(bytes)?;
        }
        disk.flush()
    }
}

impl<R: Read + Seek> Inserter<'_, R> {
    /// Clusters for so many bytes, linked; 0 for none. In one piece where a free piece is large enough. What does not fit is counted.
    fn take(&mut self, bytes: u64) -> Vec<u64> {
        let count = bytes.div_ceil(self.volume.cluster_size());
        let table = &mut self.volume.table;
        let end = table.clusters + 2;
        let mut taken = Vec::new();
        let mut run = 0..0;
        // The first free piece that takes all of it.
        for cluster in 2..end {
            if table.get(cluster) != 0 {
                continue;
            }
            if run.end == cluster && !run.is_empty() {
                run.end = cluster + 1;
            } else {
                run = cluster..cluster + 1;
            }
            if run.end - run.start >= count {
                break;
            }
        }
        if count > 0 && run.end - run.start >= count {
            taken.extend(run);
        } else {
            let mut free = (2..end).filter(|&cluster| table.get(cluster) == 0);
            taken.extend(free.by_ref().take(count as usize));
        }
        self.missing += count - taken.len() as u64;
        for pair in taken.windows(2) {
            table.set(pair[0], pair[1]);
        }
        if let Some(&last) = taken.last() {
            let mark = table.end();
            table.set(last, mark);
        }
        taken
    }

    /// Writes `source` into new clusters; gives the first.
    fn place(&mut self, source: Source) -> u64 {
        let size = self.volume.cluster_size();
        let taken = self.take(source.bytes().len() as u64);
        let Some(&first) = taken.first() else { return 0 };
        let contiguous = taken.windows(2).all(|pair| pair[1] == pair[0] + 1);
        if contiguous {
            let at = self.volume.cluster_at(first);
            self.contents.push((at, source));
            return first;
        }
        for (part, &cluster) in source.bytes().chunks(size as usize).zip(&taken) {
            let at = self.volume.cluster_at(cluster);
            self.contents.push((at, Source::Bytes(part.to_vec())));
        }
        first
    }

    fn entry_error(path: &str, reason: &'static str) -> InsertError {
        InsertError::Entry {
            path: path.to_owned(),
            reason,
        }
    }

    fn name<'n>(name: &'n [u8], path: &str) -> Result<&'n str, InsertError> {
        let odd = |character: char| character < ' ' || "\"*:<>?\\|/".contains(character);
        let name = std::str::from_utf8(name).ok();
        name.filter(|name| !name.ends_with([' ', '.']) && !name.contains(odd))
            .ok_or_else(|| Self::entry_error(path, "FAT has no such names"))
    }

    fn time_of(&self, id: InodeId) -> Timestamp {
        clamp(self.tree.inode(id).metadata.mtime.min(self.time))
    }

    /// Puts the entries of the tree's directory `id` into a directory that is there.
    fn existing(&mut self, id: InodeId, first: Option<u64>, path: &str) -> Result<(), InsertError> {
        let shown = if path.is_empty() { "/" } else { path };
        let mut folder = self.volume.folder(first, shown)?;
        let (found, mut taken) = there(&folder.bytes);
        let children: Vec<(Vec<u8>, InodeId)> = self
            .tree
            .inode(id)
            .entries()
            .into_iter()
            .flatten()
            .map(|(name, &child)| (name.clone(), child))
            .collect();
        for (name, child) in children {
            let below = format!("{path}/{}", display(&name));
            let name = Self::name(&name, &below)?;
            let old = found.iter().find(|entry| same(&entry.name, name));
            let inode = self.tree.inode(child);
            match (inode.content().cloned(), old) {
                (None, _) if !inode.is_directory() => {
                    return Err(Self::entry_error(&below, "FAT holds files and directories only"));
                }
                (None, Some(old)) if old.is_directory => self.existing(child, Some(old.first), &below)?,
                (None, Some(_)) => {
                    return Err(Self::entry_error(&below, "a file is where a directory should be"));
                }
                (Some(_), Some(old)) if old.is_directory => {
                    return Err(Self::entry_error(&below, "a directory is where a file should be"));
                }
                (Some(content), Some(old)) => {
                    if self.volume.is(old, &below, &content)? {
                        continue;
                    }
                    let first = self.place(Source::Content(content.clone()));
                    if old.size > 0 {
                        self.replaced.push(old.first);
                    }
                    // Name, attributes and the time of creation stay.
                    let fresh = record(
                        &[0; 11],
                        ARCHIVE,
                        0,
                        self.time_of(child),
                        first,
                        content.len() as u32,
                    );
                    for part in [18..22, 22..32] {
                        folder.bytes[old.at + part.start..old.at + part.end].copy_from_slice(&fresh[part]);
                    }
                    folder.changed.push(old.at);
                }
                (content, None) => {
                    let stored = names::beside(name, &mut taken)
                        .ok_or_else(|| Self::entry_error(&below, "its name is too long"))?;
                    let (kind, first, size) = match content {
                        Some(content) if content.len() > u32::MAX.into() => {
                            return Err(Self::entry_error(&below, "it is larger than 4 GiB - 1"));
                        }
                        Some(content) => {
                            let size = content.len() as u32;
                            (ARCHIVE, self.place(Source::Content(content)), size)
                        }
                        None => (DIRECTORY, self.fresh(child, first, &below)?, 0),
                    };
                    let last = record(&stored.short, kind, stored.case, self.time_of(child), first, size);
                    self.add(&mut folder, &stored, last, shown)?;
                }
            }
        }
        self.changed(&folder);
        Ok(())
    }

    /// A directory that is not there yet, with all below it; gives its first cluster. `parent` is that of the one above, none for the root.
    fn fresh(&mut self, id: InodeId, parent: Option<u64>, path: &str) -> Result<u64, InsertError> {
        let children: Vec<(Vec<u8>, InodeId)> = self
            .tree
            .inode(id)
            .entries()
            .into_iter()
            .flatten()
            .map(|(name, &child)| (name.clone(), child))
            .collect();
        let mut taken = HashSet::new();
        let mut stored = Vec::new();
        for (name, child) in &children {
            let below = format!("{path}/{}", display(name));
            let name = Self::name(name, &below)?;
            if stored
                .iter()
                .any(|(other, ..): &(&str, Stored, InodeId, String)| same(other, name))
            {
                return Err(Self::entry_error(&below, "another name differs only by case"));
            }
            let one = names::beside(name, &mut taken)
                .ok_or_else(|| Self::entry_error(&below, "its name is too long"))?;
            stored.push((name, one, *child, below));
        }
        let slots: usize = 2 + stored.iter().map(|(_, one, ..)| one.slots()).sum::<usize>();
        let clusters = self.take(slots as u64 * ENTRY);
        let own = clusters.first().copied().unwrap_or(0);
        let mut bytes = Vec::new();
        let time = self.time_of(id);
        bytes.extend_from_slice(&record(b".          ", DIRECTORY, 0, time, own, 0));
        bytes.extend_from_slice(&record(
            b"..         ",
            DIRECTORY,
            0,
            time,
            parent.unwrap_or(0),
            0,
        ));
        for (_, one, child, below) in &stored {
            let inode = self.tree.inode(*child);
            let (kind, first, size) = match inode.content() {
                Some(content) if content.len() > u32::MAX.into() => {
                    return Err(Self::entry_error(below, "it is larger than 4 GiB - 1"));
                }
                Some(content) => (
                    ARCHIVE,
                    self.place(Source::Content(content.clone())),
                    content.len() as u32,
                ),
                None if inode.is_directory() => (DIRECTORY, self.fresh(*child, Some(own), below)?, 0),
                None => return Err(Self::entry_error(below, "FAT holds files and directories only")),
            };
            for slot in one.long_slots() {
                bytes.extend_from_slice(&slot);
            }
            bytes.extend_from_slice(&record(
                &one.short,
                kind,
                one.case,
                self.time_of(*child),
                first,
                size,
            ));
        }
        let size = self.volume.cluster_size() as usize;
        bytes.resize(clusters.len() * size, 0);
        for (part, &cluster) in bytes.chunks_exact(size).zip(&clusters) {
            let at = self.volume.cluster_at(cluster);
            self.contents.push((at, Source::Bytes(part.to_vec())));
        }
        Ok(own)
    }

    /// Puts an entry into a directory: where deleted ones leave room, at its end, or in new clusters.
    fn add(
        &mut self,
        folder: &mut Folder,
        stored: &Stored,
        last: [u8; 32],
        path: &str,
    ) -> Result<(), InsertError> {
        let entry = ENTRY as usize;
        let mut slots = stored.long_slots();
        slots.push(last);
        let end = folder
            .bytes
            .chunks_exact(entry)
            .position(|slot| slot[0] == 0)
            .unwrap_or(folder.bytes.len() / entry);
        let mut run = 0;
        let mut place = None;
        for (number, slot) in folder.bytes.chunks_exact(entry).enumerate() {
            run = if number >= end || slot[0] == 0xe5 {
                run + 1
            } else {
                0
            };
            if run == slots.len() {
                place = Some(number + 1 - run);
                break;
            }
        }
        let place = match place {
            Some(place) => place,
            None if folder.clusters.is_empty() => {
                return Err(Self::entry_error(path, "its directory is full and cannot grow"));
            }
            None => {
                let size = self.volume.cluster_size();
                let total = folder.bytes.len() / entry;
                let place = total - run;
                let missing = (slots.len() - run) as u64 * ENTRY;
                if folder.bytes.len() as u64 + missing.next_multiple_of(size) > DIRECTORY_MAX {
                    return Err(Self::entry_error(path, "its directory is full"));
                }
                let more = self.take(missing);
                if let (Some(&old), Some(&new)) = (folder.clusters.last(), more.first()) {
                    self.volume.table.set(old, new);
                }
                for &cluster in &more {
                    let at = self.volume.cluster_at(cluster);
                    self.contents.push((at, Source::Bytes(vec![0; size as usize])));
                }
                folder
                    .bytes
                    .resize(folder.bytes.len() + more.len() * size as usize, 0);
                folder.clusters.extend(more);
                // Where clusters are missing nothing is written at all.
                folder
                    .bytes
                    .resize(folder.bytes.len().max((place + slots.len()) * entry), 0);
                place
            }
        };
        for (number, slot) in slots.iter().enumerate() {
            let at = (place + number) * entry;
            folder.bytes[at..at + entry].copy_from_slice(slot);
            folder.changed.push(at);
        }
        // Behind the end there may be anything: the new end is marked.
        let behind = (place + slots.len()) * entry;
        if place + slots.len() > end && behind < folder.bytes.len() && folder.bytes[behind] != 0 {
            folder.bytes[behind..behind + entry].fill(0);
            folder.changed.push(behind);
        }
        Ok(())
    }

    /// Takes the changed sectors of a directory over.
    fn changed(&mut self, folder: &Folder) {
        let sector = self.volume.reader.summary.sector_size as usize;
        let size = self.volume.cluster_size() as usize;
        let mut sectors: Vec<usize> = folder.changed.iter().map(|at| at / sector).collect();
        sectors.sort_unstable();
        sectors.dedup();
        for number in sectors {
            let within = number * sector;
            let place = match folder.clusters.get(within / size) {
                _ if folder.clusters.is_empty() => self.volume.reader.root_at + within as u64,
                Some(&cluster) => self.volume.cluster_at(cluster) + (within % size) as u64,
                None => continue,
            };
            if let Some(bytes) = folder.bytes.get(within..within + sector) {
                self.entries.push((place, bytes.to_vec()));
            }
        }
    }

    /// The sectors in which two tables differ, for each copy on the disk.
    fn table_sectors(&self, from: &Table, to: &Table) -> Vec<(u64, Vec<u8>)> {
        let sector = self.volume.reader.summary.sector_size as usize;
        let mut out = Vec::new();
        for copy in 0..self.volume.copies {
            let start = self.volume.reader.table_at + copy * self.volume.reader.table_len;
            let pairs = from.bytes.chunks(sector).zip(to.bytes.chunks(sector)).enumerate();
            for (number, (_, new)) in pairs.filter(|(_, (old, new))| old != new) {
                out.push((start + (number * sector) as u64, new.to_vec()));
            }
        }
        out
    }

    /// FAT32's note of how much is free, if it has one that counts.
    fn free_count(&mut self) -> Result<Option<(u64, Vec<u8>)>, InsertError> {
        if self.volume.table.width != Width::Fat32 {
            return Ok(None);
        }
        let sector = u64::from(self.volume.reader.summary.sector_size);
        let mut boot = [0; 512];
        let disk = &mut self.volume.reader.disk;
        disk.rewind()?;
        disk.read_exact(&mut boot)?;
        let number = get16(&boot, 48);
        if number == 0 || (number + 1) * sector > self.volume.reader.table_at {
            return Ok(None);
        }
        let mut info = vec![0; sector as usize];
        disk.seek(SeekFrom::Start(number * sector))?;
        disk.read_exact(&mut info)?;
        if &info[..4] != b"RRaA" || &info[484..488] != b"rrAa" || info[488..492] == [0xff; 4] {
            return Ok(None);
        }
        let free = self.volume.table.free() as u32;
        info[488..492].copy_from_slice(&free.to_le_bytes());
        Ok(Some((number * sector, info)))
    }
}
