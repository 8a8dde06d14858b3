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
    first_level: Vec<u64>,
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
            first_level,
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

    fn compressed(&self, entry: u64, at: u64) -> Result<(u64, Vec<u8>), ReadError> {
        let malformed = |reason: String| ReadError::Malformed { at, reason };
        let bits = 62 - (self.cluster_size.trailing_zeros() - 8);
        let place = entry & ((1 << bits) - 1);
        let sectors = (entry & ((1 << 62) - 1)) >> bits;
        let end = (place & !511).saturating_add((sectors + 1) * 512);
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
