//! Compressed blocks of earlier images, kept in the store by the hash of what they were before.
//!
//! Each build that compresses something new adds one segment, which never changes after it has its name: its
//! blocks one after another, then a table of 48 bytes a block (key, offset, length, CRC-32; numbers
//! little-endian), then the number of blocks and a CRC-32 of the table. Segments lie in a folder for each
//! version of what this program is made of, since compressors of other versions make other bytes. When all of
//! them take more than [`MOST`], those go that were of no use for the longest time.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use lycia_media::squashfs::{BlockKey, BlockStore, Known};
use lycia_tree::{Content, Footprint, Pack};
use sha2::{Digest as _, Sha256};

use crate::error::{Result, io};
use crate::manifest::hex;
use crate::store::{Aside, Store, TEMPORARY};

/// Bytes that segments may take together.
const MOST: u64 = 4 << 30;
/// Bytes of a record of the table.
const RECORD_LEN: usize = 48;
/// Bytes behind the table.
const END: usize = 16;
/// Key, offset, length and CRC-32 of a block.
type Record = (BlockKey, u64, u32, u32);

/// The length of a block that did not shrink: it has no bytes here.
const RAW: u32 = u32::MAX;

struct Segment {
    path: PathBuf,
    bytes: Content,
    used: AtomicBool,
}

#[derive(Clone, Copy)]
struct Place {
    segment: usize,
    offset: u64,
    length: u32,
    sum: u32,
}

/// The blocks that the store knows, and those of this build.
pub struct Blocks {
    folder: PathBuf,
    segments: Vec<Segment>,
    known: HashMap<BlockKey, Place>,
    new: Mutex<New>,
    hits: AtomicU64,
    misses: AtomicU64,
    /// Of the segments: a rebuild reads most of them.
    footprint: Mutex<Footprint>,
}

struct New {
    /// `None` once the disk refused: then nothing is kept, and the build goes on.
    out: Option<BufWriter<Aside>>,
    records: Vec<Record>,
    written: u64,
}

impl Blocks {
    /// Opens what the store has. What is damaged there is passed over.
    ///
    /// # Errors
    /// When the store's folder cannot be used.
    pub fn open(store: &Store) -> Result<Blocks> {
        let made_of = Sha256::digest(include_bytes!("../../Cargo.lock"));
        let folder = store.folder(&format!("blocks/{}", hex(&made_of[..8])))?;
        let mut segments = Vec::new();
        let mut known = HashMap::new();
        let mut paths: Vec<PathBuf> = io(std::fs::read_dir(&folder), || {
            format!("reading {}", folder.display())
        })?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "blocks"))
        .collect();
        paths.sort();
        for path in paths {
            let Some((bytes, records)) = read(&path) else {
                continue;
            };
            for (key, offset, length, sum) in records {
                let segment = segments.len();
                known.insert(
                    key,
                    Place {
                        segment,
                        offset,
                        length,
                        sum,
                    },
                );
            }
            segments.push(Segment {
                path,
                bytes,
                used: AtomicBool::new(false),
            });
        }
        Ok(Blocks {
            segments,
            known,
            new: Mutex::new(New {
                out: Aside::new(&folder.join("new.blocks")).ok().map(BufWriter::new),
                records: Vec::new(),
                written: 0,
            }),
            folder,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            footprint: Mutex::default(),
        })
    }

    /// How many blocks were known, and how many were not.
    fn count(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    /// Keeps what is new, marks what was of use, and removes what takes too much room. How many blocks were known, in words.
    ///
    /// Blocks are kept for speed alone: what the disk refuses here is no fault of the build.
    pub fn finish(self) -> String {
        let (hits, misses) = self.count();
        let now = SystemTime::now();
        for segment in &self.segments {
            if segment.used.load(Ordering::Relaxed)
                && let Ok(file) = File::options().append(true).open(&segment.path)
            {
                let _ = file.set_modified(now);
            }
        }
        let new = self.new.into_inner().unwrap_or_else(PoisonError::into_inner);
        if let Some(out) = new.out
            && !new.records.is_empty()
        {
            let _ = keep(out, new.records, &self.folder);
        }
        if let Some(blocks) = self.folder.parent() {
            shrink(blocks);
        }
        format!("{hits} of {} blocks known", hits + misses)
    }
}

/// Writes the table and names the segment by it.
fn keep(mut out: BufWriter<Aside>, mut records: Vec<Record>, folder: &Path) -> std::io::Result<()> {
    records.sort_unstable();
    let mut table = Vec::with_capacity(records.len() * RECORD_LEN + END);
    for (key, offset, length, sum) in &records {
        table.extend_from_slice(key);
        table.extend_from_slice(&offset.to_le_bytes());
        table.extend_from_slice(&length.to_le_bytes());
        table.extend_from_slice(&sum.to_le_bytes());
    }
    let sum = crc32fast::hash(&table);
    table.extend_from_slice(&(records.len() as u64).to_le_bytes());
    table.extend_from_slice(&sum.to_le_bytes());
    table.extend_from_slice(b"LYB1");
    out.write_all(&table)?;
    let aside = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
    let name = folder.join(format!("{}.blocks", hex(&Sha256::digest(&table)[..16])));
    aside.finish_as(&name).map_err(std::io::Error::other)
}

/// The bytes of a segment and its table; nothing of one that is damaged.
fn read(path: &Path) -> Option<(Content, Vec<Record>)> {
    let length = path.metadata().ok()?.len();
    let content = Pack::open(path, length).ok()?.range(0, length).ok()?;
    let bytes = content.bytes();
    let end = bytes.len().checked_sub(END)?;
    if &bytes[end + 12..] != b"LYB1" {
        return None;
    }
    let count = usize::try_from(u64::from_le_bytes(bytes[end..end + 8].try_into().ok()?)).ok()?;
    let table = end.checked_sub(count.checked_mul(RECORD_LEN)?)?;
    if crc32fast::hash(&bytes[table..end]).to_le_bytes() != bytes[end + 8..end + 12] {
        return None;
    }
    let mut records = Vec::with_capacity(count);
    for record in bytes[table..end].chunks_exact(RECORD_LEN) {
        let offset = u64::from_le_bytes(record[32..40].try_into().ok()?);
        let length = u32::from_le_bytes(record[40..44].try_into().ok()?);
        let taken = if length == RAW { 0 } else { u64::from(length) };
        if offset.checked_add(taken)? > table as u64 {
            return None;
        }
        let sum = u32::from_le_bytes(record[44..48].try_into().ok()?);
        records.push((record[..32].try_into().ok()?, offset, length, sum));
    }
    Some((content, records))
}

/// Removes the segments that were of no use for the longest time until the rest takes no more than [`MOST`].
fn shrink(blocks: &Path) {
    let mut segments = Vec::new();
    for folder in std::fs::read_dir(blocks).into_iter().flatten().flatten() {
        for entry in std::fs::read_dir(folder.path()).into_iter().flatten().flatten() {
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(TEMPORARY.as_bytes()) {
                continue;
            }
            if let Ok(metadata) = entry.metadata()
                && let Ok(time) = metadata.modified()
            {
                segments.push((time, metadata.len(), entry.path()));
            }
        }
    }
    segments.sort();
    let mut all: u64 = segments.iter().map(|(_, length, _)| length).sum();
    for (_, length, path) in segments {
        if all <= MOST {
            break;
        }
        if std::fs::remove_file(path).is_ok() {
            all -= length;
        }
    }
}

impl BlockStore for Blocks {
    fn get(&self, key: &BlockKey) -> Option<Known> {
        let found = self.known.get(key).and_then(|place| {
            let segment = &self.segments[place.segment];
            let known = if place.length == RAW {
                Known::Raw
            } else {
                let start = usize::try_from(place.offset).ok()?;
                let packed = segment.bytes.bytes().get(start..start + place.length as usize)?;
                if crc32fast::hash(packed) != place.sum {
                    return None;
                }
                let known = Known::Packed(packed.to_vec());
                self.footprint
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .touched(&segment.bytes, place.length.into());
                known
            };
            segment.used.store(true, Ordering::Relaxed);
            Some(known)
        });
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    fn put(&self, key: &BlockKey, packed: Option<&[u8]>) {
        let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
        let offset = new.written;
        let bytes = packed.unwrap_or_default();
        let Some(out) = &mut new.out else { return };
        if out.write_all(bytes).is_err() {
            new.out = None;
            return;
        }
        new.written += bytes.len() as u64;
        let length = packed.map_or(RAW, |packed| packed.len() as u32);
        new.records.push((*key, offset, length, crc32fast::hash(bytes)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(Some(directory.path())).unwrap();
        (directory, store)
    }

    fn segments(store: &Store) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        for folder in std::fs::read_dir(store.root().join("blocks")).unwrap() {
            for entry in std::fs::read_dir(folder.unwrap().path()).unwrap() {
                paths.push(entry.unwrap().path());
            }
        }
        paths
    }

    #[test]
    fn what_one_build_compressed_the_next_one_knows() {
        let (_directory, store) = store();
        let blocks = Blocks::open(&store).unwrap();
        assert_eq!(blocks.get(&[1; 32]), None);
        blocks.put(&[1; 32], Some(b"packed"));
        blocks.put(&[2; 32], None);
        blocks.finish();
        let blocks = Blocks::open(&store).unwrap();
        assert_eq!(blocks.get(&[1; 32]), Some(Known::Packed(b"packed".to_vec())));
        assert_eq!(blocks.get(&[2; 32]), Some(Known::Raw));
        assert_eq!(blocks.get(&[3; 32]), None);
        assert_eq!(blocks.count(), (2, 1));
        blocks.finish();
        assert_eq!(segments(&store).len(), 1);
    }

    #[test]
    fn damage_is_not_given_out() {
        let (_directory, store) = store();
        let blocks = Blocks::open(&store).unwrap();
        blocks.put(&[1; 32], Some(b"packed"));
        blocks.finish();
        let path = segments(&store).remove(0);
        let whole = std::fs::read(&path).unwrap();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, &bytes).unwrap();
            assert_eq!(Blocks::open(&store).unwrap().get(&[1; 32]), None, "byte {at}");
            std::fs::write(&path, &bytes[..at]).unwrap();
            assert_eq!(Blocks::open(&store).unwrap().get(&[1; 32]), None, "cut at {at}");
        }
    }
}
