//! A volume that is there, as it is: its allocation table in memory, its directories, and what of it is free.

use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;

use lycia_tree::{Content, display};
use thiserror::Error;

use super::Width;
use super::geometry::ENTRY;
use super::read::{DIRECTORY_MAX, Limits, ReadError, Reader, get16, get32, long_name, short_name};
use super::write::DIRECTORY;

/// Largest allocation table that is held, in bytes: that of a volume of 16 GiB with clusters of 512 bytes is twice as large, one of 64 GiB with the usual
/// ones is this large.
const TABLE_MAX: u64 = 64 << 20;

/// Why files cannot be put into a volume. Nothing was written.
#[derive(Debug, Error)]
pub enum InsertError {
    /// The volume cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It is damaged.
    #[error("the FAT volume is damaged ({path}: {reason}); repair it with fsck.vfat first")]
    Damaged {
        /// The file or directory, or the part of the volume.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// It is of a kind that is not written to.
    #[error("the FAT volume {0}")]
    Unfit(&'static str),
    /// There is no room.
    #[error("the FAT volume has {free} bytes free; {needed} are needed")]
    Space {
        /// Bytes in free clusters.
        free: u64,
        /// Bytes in clusters that are needed.
        needed: u64,
    },
    /// An entry cannot be put where it should be.
    #[error("putting {path} into the FAT volume: {reason}")]
    Entry {
        /// The path.
        path: String,
        /// Why not.
        reason: &'static str,
    },
}

impl From<io::Error> for InsertError {
    fn from(error: io::Error) -> InsertError {
        InsertError::Read(error.into())
    }
}

/// What of a volume an insertion may write over: beside this only free clusters are written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Structures {
    /// Byte ranges: everything before the clusters, and the clusters of directories that are there. In order.
    pub ranges: Vec<Range<u64>>,
    /// Bytes in free clusters.
    pub free: u64,
    /// Bytes of a cluster.
    pub cluster_size: u32,
}

/// The allocation table in memory.
#[derive(Clone)]
pub(super) struct Table {
    pub(super) width: Width,
    pub(super) bytes: Vec<u8>,
    pub(super) clusters: u64,
}

impl Table {
    pub(super) fn get(&self, cluster: u64) -> u64 {
        let at = cluster as usize;
        match self.width {
            Width::Fat12 => get16(&self.bytes, at + at / 2) >> (cluster % 2 * 4) & 0xfff,
            Width::Fat16 => get16(&self.bytes, at * 2),
            Width::Fat32 => get32(&self.bytes, at * 4) & 0x0fff_ffff,
        }
    }

    pub(super) fn set(&mut self, cluster: u64, value: u64) {
        let at = cluster as usize;
        match self.width {
            Width::Fat12 => {
                let place = at + at / 2;
                let shift = cluster % 2 * 4;
                let word = get16(&self.bytes, place) & !(0xfff << shift) | (value & 0xfff) << shift;
                self.bytes[place..place + 2].copy_from_slice(&(word as u16).to_le_bytes());
            }
            Width::Fat16 => self.bytes[at * 2..at * 2 + 2].copy_from_slice(&(value as u16).to_le_bytes()),
            Width::Fat32 => {
                // The upper four bits belong to nobody and stay.
                let word = get32(&self.bytes, at * 4) & 0xf000_0000 | value & 0x0fff_ffff;
                self.bytes[at * 4..at * 4 + 4].copy_from_slice(&(word as u32).to_le_bytes());
            }
        }
    }

    pub(super) fn end(&self) -> u64 {
        match self.width {
            Width::Fat12 => 0xfff,
            Width::Fat16 => 0xffff,
            Width::Fat32 => 0x0fff_ffff,
        }
    }

    fn is_end(&self, value: u64) -> bool {
        value >= self.end() - 7
    }

    pub(super) fn free(&self) -> u64 {
        (2..self.clusters + 2)
            .filter(|&cluster| self.get(cluster) == 0)
            .count() as u64
    }

    /// The clusters of the chain that begins at `first`.
    pub(super) fn chain(&self, first: u64, path: &str) -> Result<Vec<u64>, InsertError> {
        let damaged = |reason| InsertError::Damaged {
            path: path.to_owned(),
            reason,
        };
        let mut chain = Vec::new();
        let mut cluster = first;
        loop {
            if !(2..self.clusters + 2).contains(&cluster) {
                return Err(damaged("its chain of clusters leads out of the volume"));
            }
            if chain.len() as u64 >= self.clusters {
                return Err(damaged("its chain of clusters is a loop"));
            }
            chain.push(cluster);
            match self.get(cluster) {
                0 => return Err(damaged("its chain of clusters leads into free ones")),
                next if self.is_end(next) => return Ok(chain),
                next => cluster = next,
            }
        }
    }
}

/// A directory of the volume.
pub(super) struct Folder {
    /// Its clusters; none of a root with a place of its own.
    pub(super) clusters: Vec<u64>,
    pub(super) bytes: Vec<u8>,
    /// Bytes of it that were changed, by sector.
    pub(super) changed: Vec<usize>,
}

/// An entry that is there.
pub(super) struct There {
    pub(super) name: String,
    /// Where the entry of 32 bytes is in the directory.
    pub(super) at: usize,
    pub(super) is_directory: bool,
    pub(super) first: u64,
    pub(super) size: u64,
}

/// The entries of a directory without labels, `.` and `..`, and their short names.
pub(super) fn there(bytes: &[u8]) -> (Vec<There>, HashSet<[u8; 11]>) {
    let (mut found, mut taken) = (Vec::new(), HashSet::new());
    let mut long: Vec<(u8, u8, [u16; 13])> = Vec::new();
    for (number, slot) in bytes.chunks_exact(ENTRY as usize).enumerate() {
        match (slot[0], slot[11]) {
            (0, _) => break,
            (0xe5, _) => long.clear(),
            (order, kind) if kind & 0x3f == 0x0f => {
                if order & 0x40 != 0 {
                    long.clear();
                }
                let places = (1..11).step_by(2).chain((14..26).step_by(2)).chain([28, 30]);
                let mut units = [0; 13];
                for (unit, at) in units.iter_mut().zip(places) {
                    *unit = get16(slot, at) as u16;
                }
                // No name has more; what does is damaged and is no name.
                if long.len() < 20 {
                    long.push((order & 0x3f, slot[13], units));
                }
            }
            (_, kind) => {
                let mut short = [0; 11];
                short.copy_from_slice(&slot[..11]);
                taken.insert(short);
                let long = std::mem::take(&mut long);
                if kind & 0x08 != 0 || &slot[..11] == b".          " || &slot[..11] == b"..         " {
                    continue;
                }
                found.push(There {
                    name: long_name(&long, slot).unwrap_or_else(|| short_name(slot)),
                    at: number * ENTRY as usize,
                    is_directory: kind & DIRECTORY != 0,
                    first: get16(slot, 26) | get16(slot, 20) << 16,
                    size: get32(slot, 28),
                });
            }
        }
    }
    (found, taken)
}

pub(super) fn same(a: &str, b: &str) -> bool {
    a.to_lowercase() == b.to_lowercase()
}

/// A volume opened, with its table in memory and checked.
pub(super) struct Volume<R> {
    pub(super) reader: Reader<R>,
    pub(super) table: Table,
    /// How many copies of the table there are.
    pub(super) copies: u64,
}

impl<R: Read + Seek> Volume<R> {
    pub(super) fn open(disk: R) -> Result<Volume<R>, InsertError> {
        let mut reader = Reader::open(disk, Limits::default())?;
        if reader.table_len > TABLE_MAX {
            return Err(InsertError::Unfit("has an allocation table of more than 64 MiB"));
        }
        let width = reader.summary.width;
        let copies = (reader.root_at - reader.table_at) / reader.table_len;
        let mut boot = [0; 512];
        reader.disk.rewind()?;
        reader.disk.read_exact(&mut boot)?;
        if width == Width::Fat32 && get16(&boot, 40) & 0x80 != 0 {
            return Err(InsertError::Unfit(
                "keeps only one of the copies of its allocation table",
            ));
        }
        let mut bytes = vec![0; reader.table_len as usize];
        reader.disk.seek(SeekFrom::Start(reader.table_at))?;
        reader.disk.read_exact(&mut bytes)?;
        let mut other = vec![0; bytes.len()];
        for copy in 1..copies {
            reader
                .disk
                .seek(SeekFrom::Start(reader.table_at + copy * reader.table_len))?;
            reader.disk.read_exact(&mut other)?;
            if other != bytes {
                return Err(InsertError::Damaged {
                    path: "its allocation table".to_owned(),
                    reason: "the copies differ",
                });
            }
        }
        let table = Table {
            width,
            bytes,
            clusters: reader.summary.clusters,
        };
        let mut volume = Volume {
            reader,
            table,
            copies,
        };
        volume.check()?;
        Ok(volume)
    }

    pub(super) fn cluster_size(&self) -> u64 {
        self.reader.summary.cluster_size.into()
    }

    pub(super) fn cluster_at(&self, cluster: u64) -> u64 {
        self.reader.data_at + (cluster - 2) * self.cluster_size()
    }

    /// Goes through every directory and every chain: a cluster that looks free and is not must not be given away.
    fn check(&mut self) -> Result<(), InsertError> {
        let mut used = vec![false; self.table.clusters as usize + 2];
        let mut waiting = vec![("/".to_owned(), None)];
        let mut count = 0;
        while let Some((path, first)) = waiting.pop() {
            let folder = self.folder(first, &path)?;
            let chains = std::iter::once((path.clone(), folder.clusters.clone()));
            let mut chains: Vec<(String, Vec<u64>)> = chains.collect();
            for entry in there(&folder.bytes).0 {
                count += 1;
                if count > Limits::default().entries {
                    return Err(InsertError::Unfit("has more than a million entries"));
                }
                let below = format!(
                    "{}/{}",
                    path.trim_end_matches('/'),
                    display(entry.name.as_bytes())
                );
                if entry.is_directory {
                    // A loop of directories gives a cluster that is used twice.
                    waiting.push((below, Some(entry.first)));
                } else if entry.size > 0 {
                    let chain = self.table.chain(entry.first, &below)?;
                    if chain.len() as u64 != entry.size.div_ceil(self.cluster_size()) {
                        return Err(InsertError::Damaged {
                            path: below,
                            reason: "its size and its chain of clusters do not agree",
                        });
                    }
                    chains.push((below, chain));
                }
            }
            for (path, chain) in chains {
                for cluster in chain {
                    if std::mem::replace(&mut used[cluster as usize], true) {
                        let reason = "something else has its clusters too";
                        return Err(InsertError::Damaged { path, reason });
                    }
                }
            }
        }
        Ok(())
    }

    /// The directory that begins at a cluster; `None` is the root.
    pub(super) fn folder(&mut self, first: Option<u64>, path: &str) -> Result<Folder, InsertError> {
        let first = match first {
            Some(first) => first,
            None if self.reader.root == 0 => {
                let mut bytes = vec![0; self.reader.root_len as usize];
                self.reader.disk.seek(SeekFrom::Start(self.reader.root_at))?;
                self.reader.disk.read_exact(&mut bytes)?;
                return Ok(Folder {
                    clusters: Vec::new(),
                    bytes,
                    changed: Vec::new(),
                });
            }
            None => self.reader.root,
        };
        let clusters = self.table.chain(first, path)?;
        let size = clusters.len() as u64 * self.cluster_size();
        if size > DIRECTORY_MAX {
            return Err(InsertError::Damaged {
                path: path.to_owned(),
                reason: "the directory has more than 65,536 entries",
            });
        }
        let mut bytes = vec![0; size as usize];
        for (part, &cluster) in bytes
            .chunks_exact_mut(self.cluster_size() as usize)
            .zip(&clusters)
        {
            let at = self.cluster_at(cluster);
            self.reader.disk.seek(SeekFrom::Start(at))?;
            self.reader.disk.read_exact(part)?;
        }
        Ok(Folder {
            clusters,
            bytes,
            changed: Vec::new(),
        })
    }

    /// The entries of the directory `path`; none where there is no such directory.
    fn walk(&mut self, path: &str) -> Result<Option<Vec<There>>, InsertError> {
        let mut entries = there(&self.folder(None, "/")?.bytes).0;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            let below = entries
                .iter()
                .find(|entry| entry.is_directory && same(&entry.name, name));
            let Some(first) = below.map(|entry| entry.first) else {
                return Ok(None);
            };
            entries = there(&self.folder(Some(first), path)?.bytes).0;
        }
        Ok(Some(entries))
    }

    /// Whether a file that is there has these bytes.
    pub(super) fn is(&mut self, entry: &There, path: &str, content: &Content) -> Result<bool, InsertError> {
        if entry.size != content.len() {
            return Ok(false);
        }
        if entry.size == 0 {
            return Ok(true);
        }
        let size = self.cluster_size() as usize;
        let chain = self.table.chain(entry.first, path)?;
        let mut buffer = vec![0; size];
        for (part, cluster) in content.bytes().chunks(size).zip(chain) {
            let at = self.cluster_at(cluster);
            self.reader.disk.seek(SeekFrom::Start(at))?;
            self.reader.disk.read_exact(&mut buffer[..part.len()])?;
            if buffer[..part.len()] != *part {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// What the directories of the volume at the start of `disk` are made of, down to `depth` below the root, and what is free.
///
/// # Errors
/// When there is no volume, or it is damaged.
pub fn structures(disk: impl Read + Seek, depth: usize) -> Result<Structures, InsertError> {
    let mut volume = Volume::open(disk)?;
    let size = volume.cluster_size();
    let mut clusters: Vec<u64> = Vec::new();
    let mut waiting = vec![("/".to_owned(), None, 0)];
    while let Some((path, first, down)) = waiting.pop() {
        let folder = volume.folder(first, &path)?;
        if down < depth {
            let below = there(&folder.bytes)
                .0
                .into_iter()
                .filter(|entry| entry.is_directory);
            waiting.extend(below.map(|entry| (entry.name, Some(entry.first), down + 1)));
        }
        clusters.extend(folder.clusters);
    }
    clusters.sort_unstable();
    clusters.dedup();
    let head = 0..volume.reader.data_at;
    let mut ranges = vec![head];
    for cluster in clusters {
        let at = volume.cluster_at(cluster);
        match ranges.last_mut() {
            Some(last) if last.end == at => last.end = at + size,
            _ => ranges.push(at..at + size),
        }
    }
    Ok(Structures {
        ranges,
        free: volume.table.free() * size,
        cluster_size: size as u32,
    })
}

/// Names in a directory of the volume at the start of `disk`; empty where there is none. Case does not count in `path`.
///
/// # Errors
/// As [`structures`].
pub fn names_in(disk: impl Read + Seek, path: &str) -> Result<Vec<String>, InsertError> {
    let mut volume = Volume::open(disk)?;
    let found = volume.walk(path)?;
    Ok(found.into_iter().flatten().map(|entry| entry.name).collect())
}

/// The first `most` bytes of a file of the volume at the start of `disk`; none where there is no such file. Case does not count in `path`.
///
/// # Errors
/// As [`structures`].
pub fn read_file(disk: impl Read + Seek, path: &str, most: usize) -> Result<Option<Vec<u8>>, InsertError> {
    let mut volume = Volume::open(disk)?;
    let (above, name) = path.rsplit_once('/').unwrap_or(("", path));
    let found = volume.walk(above)?.into_iter().flatten();
    let Some(entry) = found
        .into_iter()
        .find(|entry| !entry.is_directory && same(&entry.name, name))
    else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    if entry.size > 0 {
        let most = most.min(entry.size as usize);
        for cluster in volume.table.chain(entry.first, path)? {
            let len = (most - bytes.len()).min(volume.cluster_size() as usize);
            if len == 0 {
                break;
            }
            let (start, at) = (bytes.len(), volume.cluster_at(cluster));
            bytes.resize(start + len, 0);
            volume.reader.disk.seek(SeekFrom::Start(at))?;
            volume.reader.disk.read_exact(&mut bytes[start..])?;
        }
    }
    Ok(Some(bytes))
}
