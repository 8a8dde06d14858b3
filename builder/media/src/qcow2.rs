//! qcow2 images: version 3 from raw ones, and versions 2 and 3 read back.
//!
//! Format: QEMU `docs/interop/qcow2.txt`. Clusters of 64 KiB; those that are zeros are not there. Everything follows from
//! the content: data lie in the order of the disk, each table of the second level before what it leads to, reference counts
//! at the end.

mod read;

use std::io::{self, Read, Seek, SeekFrom, Write};

pub use read::{Clusters, Disk, ReadError};
use thiserror::Error;

use crate::sparse::is_zero;

/// Base-2 logarithm of a cluster's bytes.
const CLUSTER_BITS: u32 = 16;
const CLUSTER: u64 = 1 << CLUSTER_BITS;
/// Entries of a table of the second level.
const L2_ENTRIES: u64 = CLUSTER / 8;
/// Reference counts of 16 bits in a cluster.
const COUNTS: u64 = CLUSTER / 2;
/// Flag of an entry whose cluster has one user.
const COPIED: u64 = 1 << 63;
const HEADER_LEN: u32 = 104;

/// Why an image was not written.
#[derive(Debug, Error)]
pub enum Qcow2Error {
    /// The raw image could not be read.
    #[error("reading the raw image for a qcow2 image: {0}")]
    Read(#[source] io::Error),
    /// The output refused.
    #[error("writing a qcow2 image: {0}")]
    Write(#[source] io::Error),
    /// A size that no image has.
    #[error(
        "writing a qcow2 image of a disk of {0} bytes: it must be whole sectors of 512 bytes, below 2^56"
    )]
    Size(u64),
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Written {
    /// Bytes of the disk.
    pub size: u64,
    /// Clusters of it that are not zeros.
    pub data_clusters: u64,
    /// Bytes of the image.
    pub bytes: u64,
}

struct Image<W> {
    out: W,
    /// Clusters written so far.
    clusters: u64,
}

impl<W: Write + Seek> Image<W> {
    fn put(&mut self, place: u64, bytes: &[u8]) -> Result<(), Qcow2Error> {
        self.out
            .seek(SeekFrom::Start(place))
            .and_then(|_| self.out.write_all(bytes))
            .map_err(Qcow2Error::Write)
    }

    /// The place of a cluster that is not used yet.
    fn take(&mut self, count: u64) -> u64 {
        let place = self.clusters * CLUSTER;
        self.clusters += count;
        place
    }
}

fn encode(entries: &[u64]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_be_bytes()).collect()
}

/// Writes the disk of `size` bytes that `raw` holds from its beginning on to `out`, which must be empty. `progress` gets the
/// number of bytes read since its last call.
///
/// # Errors
/// When either side refuses, or `raw` is shorter.
pub fn write(
    raw: &mut impl Read,
    size: u64,
    out: &mut (impl Write + Seek),
    progress: &mut dyn FnMut(u64),
) -> Result<Written, Qcow2Error> {
    if !size.is_multiple_of(512) || size >= 1 << 56 {
        return Err(Qcow2Error::Size(size));
    }
    let l1_entries = size.div_ceil(CLUSTER * L2_ENTRIES);
    let l1_clusters = (l1_entries * 8).div_ceil(CLUSTER).max(1);
    let mut image = Image { out, clusters: 1 };
    let l1_place = image.take(l1_clusters);
    let mut l1 = Vec::new();
    let mut data_clusters = 0;
    let mut cluster = vec![0; CLUSTER as usize];
    let mut left = size;
    for _ in 0..l1_entries {
        let mut l2: Option<(u64, Vec<u64>)> = None;
        for index in 0..L2_ENTRIES {
            let len = left.min(CLUSTER) as usize;
            if len == 0 {
                break;
            }
            raw.read_exact(&mut cluster[..len]).map_err(Qcow2Error::Read)?;
            left -= len as u64;
            progress(len as u64);
            if is_zero(&cluster[..len]) {
                continue;
            }
            // The last cluster is whole in the image.
            cluster[len..].fill(0);
            let (_, entries) = l2.get_or_insert_with(|| (image.take(1), vec![0; L2_ENTRIES as usize]));
            let place = image.take(1);
            entries[index as usize] = place | COPIED;
            data_clusters += 1;
            image.put(place, &cluster)?;
        }
        l1.push(match l2 {
            Some((place, entries)) => {
                image.put(place, &encode(&entries))?;
                place | COPIED
            }
            None => 0,
        });
    }
    l1.resize((l1_clusters * CLUSTER / 8) as usize, 0);
    image.put(l1_place, &encode(&l1))?;
    // Counts count themselves and the table that leads to them.
    let (mut blocks, mut tables) = (1, 1);
    loop {
        let all = image.clusters + blocks + tables;
        let needed = (all.div_ceil(COUNTS), (blocks * 8).div_ceil(CLUSTER));
        if needed == (blocks, tables) {
            break;
        }
        (blocks, tables) = needed;
    }
    let table_place = image.take(tables);
    let blocks_place = image.take(blocks);
    let mut table: Vec<u64> = (0..blocks).map(|at| blocks_place + at * CLUSTER).collect();
    table.resize((tables * CLUSTER / 8) as usize, 0);
    image.put(table_place, &encode(&table))?;
    let all = image.clusters;
    for at in 0..blocks {
        let used = (all - (at * COUNTS).min(all)).min(COUNTS) as usize;
        let mut counts = vec![0; CLUSTER as usize];
        for count in counts.chunks_exact_mut(2).take(used) {
            count[1] = 1;
        }
        image.put(blocks_place + at * CLUSTER, &counts)?;
    }
    let mut header = Vec::with_capacity(HEADER_LEN as usize + 8);
    header.extend_from_slice(b"QFI\xfb");
    let mut word = |value: u32| header.extend_from_slice(&value.to_be_bytes());
    // Version; no backing file: its place and its length.
    for value in [3, 0, 0, 0, CLUSTER_BITS] {
        word(value);
    }
    let mut long = |value: u64| {
        word((value >> 32) as u32);
        word(value as u32);
    };
    long(size);
    // Not encrypted; entries of the table of the first level.
    long(l1_entries);
    long(l1_place);
    long(table_place);
    // Clusters of the table of counts; no snapshots.
    long(tables << 32);
    long(0);
    // Features: incompatible, compatible, those that may be cleared.
    for _ in 0..3 {
        long(0);
    }
    // Counts of 2^4 bits.
    long(4 << 32 | u64::from(HEADER_LEN));
    // The end of extensions.
    long(0);
    image.put(0, &header)?;
    image.out.flush().map_err(Qcow2Error::Write)?;
    Ok(Written {
        size,
        data_clusters,
        bytes: all * CLUSTER,
    })
}
