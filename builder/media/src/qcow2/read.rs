//! Reading qcow2 images, with trust in nothing that they say.
//!
//! Versions 2 and 3 with clusters of 512 bytes to 2 MiB, compressed ones (deflate and zstd) among them. A cluster of the file
//! that two clusters of the disk lead to, where neither is compressed, is a fault: no program writes that without a snapshot.

use std::collections::HashSet;
use std::io::{self, Read};

use flate2::read::DeflateDecoder;
use thiserror::Error;

/// Bytes of all tables of the second level and of the first that are looked at.
const TABLES_MAX: u64 = 256 << 20;
/// Wrong reference counts that are told one by one.
const FAULTS: usize = 100;

/// Why an image was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// It does not begin as one.
    #[error("reading a qcow2 image: it does not begin with QFI\\xfb")]
    NotQcow2,
    /// It uses what is not understood.
    #[error("reading a qcow2 image: {0}, which is not supported")]
    Unsupported(String),
    /// It contradicts itself.
    #[error("reading a qcow2 image at byte {at}: {reason}")]
    Malformed {
        /// Which byte of the image.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// What it holds could not be passed on.
    #[error("unpacking a qcow2 image: {0}")]
    Output(#[from] io::Error),
}

/// An image whose header was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disk<'b> {
    bytes: &'b [u8],
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Bytes of the disk.
    pub size: u64,
    /// Bytes of a cluster.
    pub cluster_size: u64,
    /// Snapshots inside, which are not looked at.
    pub snapshots: u32,
    /// Whether all that has clusters is known, and counts of their users are kept at each write.
    counted: bool,
    first_level: Vec<u64>,
    /// Where the table of the first level is, and its bytes.
    table: (u64, u64),
    /// Where the table of reference counts is, its clusters, and the base-2 logarithm of a count's bits.
    counts: (u64, u32, u32),
    zstd: bool,
}

/// Takes clusters: their place on the disk, the bytes, and where these begin in the image.
pub type Clusters<'c> = dyn FnMut(u64, &[u8], u64) -> io::Result<()> + 'c;

fn word(bytes: &[u8], at: u64) -> Option<u32> {
    let at = usize::try_from(at).ok()?;
    Some(u32::from_be_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn long(bytes: &[u8], at: u64) -> Option<u64> {
    Some(u64::from(word(bytes, at)?) << 32 | u64::from(word(bytes, at.checked_add(4)?)?))
}

const PLACE: u64 = 0x00ff_ffff_ffff_fe00;

/// The reference count of 2^`width` bits at byte `at`, the `index`th of its block: narrow ones fill a byte from its low bits on.
fn count(bytes: &[u8], at: u64, index: u64, width: u32) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    if width < 3 {
        let bits = 1 << width;
        let shift = (index << width) & 7;
        return Some(u64::from(*bytes.get(at)?) >> shift & ((1 << bits) - 1));
    }
    let field = bytes.get(at..at.checked_add(1 << (width - 3))?)?;
    Some(field.iter().fold(0, |count, &byte| count << 8 | u64::from(byte)))
}

impl<'b> Disk<'b> {
    /// Reads the header and the table of the first level of the image in `bytes`.
    ///
    /// # Errors
    /// When it is none, or uses what is not understood: a backing file, encryption, a file for data.
    pub fn open(bytes: &'b [u8]) -> Result<Disk<'b>, ReadError> {
        if bytes.get(..4) != Some(b"QFI\xfb") {
            return Err(ReadError::NotQcow2);
        }
        let short = || ReadError::Malformed {
            at: 0,
            reason: "the header is cut".to_owned(),
        };
        let word = |at| word(bytes, at).ok_or_else(short);
        let long = |at| long(bytes, at).ok_or_else(short);
        let unsupported = |what: &str| Err(ReadError::Unsupported(what.to_owned()));
        let malformed = |at, reason: String| Err(ReadError::Malformed { at, reason });
        let version = word(4)?;
        if !(2..=3).contains(&version) {
            return Err(ReadError::Unsupported(format!("version {version}")));
        }
        if long(8)? != 0 {
            return unsupported("it has a backing file");
        }
        let bits = word(20)?;
        if !(9..=21).contains(&bits) {
            return malformed(20, format!("clusters of 2^{bits} bytes"));
        }
        let (size, entries, place) = (long(24)?, word(36)?, long(40)?);
        if word(32)? != 0 {
            return unsupported("it is encrypted");
        }
        let mut zstd = false;
        let mut counted = word(60)? == 0;
        let mut width = 4;
        if version == 3 {
            // Dirty and corrupt marks; a file for data; kinds of compression; entries of twice the size.
            let features = long(72)?;
            if features & 2 != 0 {
                return malformed(72, "it is marked as corrupt".to_owned());
            }
            if features & !(1 | 8) != 0 {
                return Err(ReadError::Unsupported(format!(
                    "it has the incompatible features {:#x}",
                    features & !(1 | 8)
                )));
            }
            // Counts that are made good at the next use, and bitmaps, whose clusters are not looked for.
            counted &= features & 1 == 0 && long(88)? & 1 == 0;
            width = word(96)?;
            if width > 6 {
                return malformed(96, format!("reference counts of 2^{width} bits"));
            }
            if features & 8 != 0 {
                zstd = match bytes.get(104) {
                    Some(0) => false,
                    Some(1) => true,
                    _ => return unsupported("its kind of compression is unknown"),
                };
            }
        }
        let cluster_size = 1u64 << bits;
        let spanned = cluster_size * (cluster_size / 8);
        let needed = size.div_ceil(spanned);
        if u64::from(entries) < needed || u64::from(entries) * 8 > 32 << 20 {
            return malformed(
                36,
                format!("a table of {entries} entries for a disk of {size} bytes"),
            );
        }
        let mut first_level = Vec::new();
        for entry in 0..needed {
            let at = place.saturating_add(entry * 8);
            match super::read::long(bytes, at) {
                Some(entry) => first_level.push(entry & PLACE),
                None => return malformed(at, "the table of the first level is cut".to_owned()),
            }
        }
        let tables = first_level.iter().filter(|&&place| place != 0).count() as u64;
        if tables * cluster_size > TABLES_MAX.max(bytes.len() as u64) {
            return malformed(place, format!("{tables} tables of the second level"));
        }
        Ok(Disk {
            bytes,
            version,
            size,
            cluster_size,
            snapshots: word(60)?,
            counted,
            first_level,
            table: (place, u64::from(entries) * 8),
            counts: (long(48)?, word(56)?, width),
            zstd,
        })
    }

    /// Hands out all of the disk that is not zeros: its place on the disk, the bytes, and where they begin in the image (the
    /// compressed ones of a compressed cluster).
    ///
    /// # Errors
    /// When the image is damaged, or `out` refuses.
    pub fn unpack(&self, out: &mut Clusters<'_>) -> Result<(), ReadError> {
        let malformed = |at, reason: &str| ReadError::Malformed {
            at,
            reason: reason.to_owned(),
        };
        let per_table = self.cluster_size / 8;
        let mut used = HashSet::new();
        for (index, &table) in self.first_level.iter().enumerate() {
            if table == 0 {
                continue;
            }
            if !table.is_multiple_of(self.cluster_size) || !used.insert(table) {
                return Err(malformed(
                    table,
                    "a table of the second level at a place that is not its own",
                ));
            }
            for slot in 0..per_table {
                let at = table + slot * 8;
                let entry = long(self.bytes, at)
                    .ok_or_else(|| malformed(at, "a table of the second level is cut"))?;
                let disk = (index as u64 * per_table + slot) * self.cluster_size;
                if entry == 0 || disk >= self.size {
                    continue;
                }
                let len = (self.size - disk).min(self.cluster_size) as usize;
                if entry >> 62 & 1 != 0 {
                    let (place, cluster) = self.compressed(entry, at)?;
                    let cluster = cluster.get(..len).unwrap_or(&cluster);
                    out(disk, cluster, place)?;
                    continue;
                }
                // Zeros, whether a cluster is kept for them or not.
                if self.version == 3 && entry & 1 != 0 {
                    continue;
                }
                let place = entry & PLACE;
                if place == 0 {
                    continue;
                }
                if !place.is_multiple_of(self.cluster_size) || !used.insert(place) {
                    return Err(malformed(at, "it leads to a cluster that is not its own"));
                }
                let start = usize::try_from(place).unwrap_or(usize::MAX);
                // The last cluster of a file may be short, where what lacks is zeros.
                let rest = self
                    .bytes
                    .get(start..)
                    .filter(|rest| !rest.is_empty())
                    .ok_or_else(|| malformed(at, "it leads to a cluster behind the end of the file"))?;
                out(disk, &rest[..rest.len().min(len)], place)?;
            }
        }
        Ok(())
    }

    /// Counts what leads to each cluster of the file, and holds the reference counts against it: those that are other, each with
    /// the first byte of the count. Of an image with snapshots or bitmaps, or with counts that are made good later, nothing is said.
    pub fn check_counts(&self) -> Vec<(u64, String)> {
        let mut faults = Vec::new();
        if !self.counted {
            return faults;
        }
        let size = self.cluster_size;
        let clusters = (self.bytes.len() as u64).div_ceil(size);
        let mut users = vec![0u64; usize::try_from(clusters).unwrap_or_default()];
        let mut uses = |place: u64, len: u64| {
            for cluster in place / size..place.saturating_add(len).div_ceil(size).min(clusters) {
                if let Some(users) = users.get_mut(cluster as usize) {
                    *users += 1;
                }
            }
        };
        uses(0, 1);
        uses(self.table.0, self.table.1);
        for &table in self.first_level.iter().filter(|&&table| table != 0) {
            uses(table, size);
            for slot in 0..size / 8 {
                let entry = long(self.bytes, table.saturating_add(slot * 8)).unwrap_or(0);
                if entry >> 62 & 1 != 0 {
                    let (start, end) = self.stored(entry);
                    let start = start & !511;
                    uses(start, end - start);
                } else if entry & PLACE != 0 {
                    uses(entry & PLACE, 1);
                }
            }
        }
        let (table, table_clusters, width) = self.counts;
        let table_len = u64::from(table_clusters).saturating_mul(size);
        uses(table, table_len);
        let per_block = (size * 8) >> width;
        let blocks = clusters.div_ceil(per_block);
        // Blocks of counts have one, too.
        let place_of = |block: u64| -> u64 {
            let at = block * 8;
            match at < table_len {
                true => long(self.bytes, table.saturating_add(at)).unwrap_or(0) & !511,
                false => 0,
            }
        };
        for block in 0..(table_len / 8).min(self.bytes.len() as u64 / 8) {
            let place = place_of(block);
            if place != 0 {
                uses(place, 1);
            }
        }
        for block in 0..blocks {
            let place = place_of(block);
            for index in 0..per_block.min(clusters - block * per_block) {
                let cluster = block * per_block + index;
                let at = place.saturating_add((index << width) >> 3);
                let count = match place {
                    0 => 0,
                    _ => count(self.bytes, at, index, width).unwrap_or(0),
                };
                let users = users.get(cluster as usize).copied().unwrap_or(0);
                if count == users {
                    continue;
                }
                if faults.len() == FAULTS {
                    faults.push((at, "and more".to_owned()));
                    return faults;
                }
                faults.push((
                    at,
                    format!(
                        "the cluster at byte {} has {users} users, its reference count says {count}",
                        cluster * size
                    ),
                ));
            }
        }
        faults
    }

    /// First byte, and the one behind the last sector, of what a compressed cluster's entry leads to.
    fn stored(&self, entry: u64) -> (u64, u64) {
        let bits = 62 - (self.cluster_size.trailing_zeros() - 8);
        let place = entry & ((1 << bits) - 1);
        let sectors = (entry & ((1 << 62) - 1)) >> bits;
        (place, (place & !511).saturating_add((sectors + 1) * 512))
    }

    fn compressed(&self, entry: u64, at: u64) -> Result<(u64, Vec<u8>), ReadError> {
        let malformed = |reason: String| ReadError::Malformed { at, reason };
        let (place, end) = self.stored(entry);
        let end = usize::try_from(end).unwrap_or(usize::MAX).min(self.bytes.len());
        let stored = usize::try_from(place)
            .ok()
            .and_then(|place| self.bytes.get(place..end))
            .ok_or_else(|| {
                malformed("it leads to a compressed cluster behind the end of the file".to_owned())
            })?;
        let mut cluster = Vec::new();
        let result = if self.zstd {
            zstd::stream::read::Decoder::with_buffer(stored)
                .and_then(|decoder| {
                    decoder
                        .single_frame()
                        .take(self.cluster_size)
                        .read_to_end(&mut cluster)
                })
                .map(drop)
        } else {
            // The end of the stream need not be there.
            let read = DeflateDecoder::new(stored)
                .take(self.cluster_size)
                .read_to_end(&mut cluster);
            match read {
                Err(_) if cluster.len() as u64 == self.cluster_size => Ok(()),
                other => other.map(drop),
            }
        };
        result.map_err(|error| malformed(format!("decompressing a cluster: {error}")))?;
        if cluster.len() as u64 != self.cluster_size {
            return Err(malformed(format!(
                "a compressed cluster of {} bytes",
                cluster.len()
            )));
        }
        Ok((place, cluster))
    }
}
