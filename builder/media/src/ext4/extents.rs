//! The extent tree of an inode (Linux `Documentation/filesystems/ext4/ifork.rst`).

use super::checksum::Sums;
use super::field::{put16, put32};

pub(super) const MAGIC: u16 = 0xf30a;
/// Most blocks of one extent.
pub(super) const LONGEST: u64 = 32768;
/// Extents, or children, that the inode itself has room for.
pub(super) const IN_INODE: usize = 4;
const ENTRY: usize = 12;

/// A run of blocks of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Extent {
    /// First block of the file.
    pub(super) logical: u32,
    /// First block of the volume.
    pub(super) physical: u64,
    /// Blocks, at most [`LONGEST`].
    pub(super) len: u32,
}

/// Extents or children of one block of the tree.
pub(super) fn capacity(block_size: u32) -> usize {
    (block_size as usize - ENTRY) / ENTRY
}

/// Blocks that the tree needs besides the inode.
pub(super) fn index_blocks(extents: usize, block_size: u32) -> u64 {
    let mut total = 0;
    let mut level = extents;
    while level > IN_INODE {
        level = level.div_ceil(capacity(block_size));
        total += level as u64;
    }
    total
}

/// The tree of `extents` for the inode with the checksums `sums`: what the inode holds, and the blocks to be
/// written at `places`, of which there are as many as [`index_blocks`] said.
pub(super) fn tree(
    extents: &[Extent],
    places: &[u64],
    block_size: u32,
    sums: Sums,
) -> ([u8; 60], Vec<(u64, Vec<u8>)>) {
    let mut blocks = Vec::new();
    let mut places = places.iter().copied();
    // Each level as (first block of the file, entry).
    let mut level: Vec<(u32, [u8; ENTRY])> = extents
        .iter()
        .map(|extent| {
            let mut entry = [0; ENTRY];
            put32(&mut entry, 0, extent.logical);
            put16(&mut entry, 4, extent.len as u16);
            put16(&mut entry, 6, (extent.physical >> 32) as u16);
            put32(&mut entry, 8, extent.physical as u32);
            (extent.logical, entry)
        })
        .collect();
    let mut depth = 0;
    while level.len() > IN_INODE {
        let mut above = Vec::new();
        for part in level.chunks(capacity(block_size)) {
            let Some(place) = places.next() else { break };
            let mut block = vec![0; block_size as usize];
            fill(&mut block, part, capacity(block_size), depth);
            let end = ENTRY + ENTRY * capacity(block_size);
            if let Some(sum) = sums.of(&[&block[..end]]) {
                put32(&mut block, end, sum);
            }
            blocks.push((place, block));
            let mut entry = [0; ENTRY];
            put32(&mut entry, 0, part[0].0);
            put32(&mut entry, 4, place as u32);
            put16(&mut entry, 8, (place >> 32) as u16);
            above.push((part[0].0, entry));
        }
        level = above;
        depth += 1;
    }
    let mut root = [0; 60];
    fill(&mut root, &level, IN_INODE, depth);
    (root, blocks)
}

fn fill(node: &mut [u8], entries: &[(u32, [u8; ENTRY])], most: usize, depth: u16) {
    put16(node, 0, MAGIC);
    put16(node, 2, entries.len() as u16);
    put16(node, 4, most as u16);
    put16(node, 6, depth);
    for (slot, (_, entry)) in node[ENTRY..].chunks_exact_mut(ENTRY).zip(entries) {
        slot.copy_from_slice(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::super::field::{get16, get32};
    use super::*;

    /// The extents that a node leads to, as Linux goes down.
    fn walk(node: &[u8], depth: u16, blocks: &[(u64, Vec<u8>)], found: &mut Vec<Extent>) {
        assert_eq!((get16(node, 0), get16(node, 6)), (MAGIC, depth));
        for entry in node[ENTRY..].chunks_exact(ENTRY).take(get16(node, 2).into()) {
            if depth == 0 {
                found.push(Extent {
                    logical: get32(entry, 0),
                    physical: u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32,
                    len: get16(entry, 4).into(),
                });
                continue;
            }
            let place = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
            let below = blocks.iter().find(|block| block.0 == place).unwrap();
            assert_eq!(
                get32(&below.1, ENTRY),
                get32(entry, 0),
                "the first block of the file below"
            );
            walk(&below.1, depth - 1, blocks, found);
        }
    }

    #[test]
    fn trees_of_every_depth_lead_to_every_extent() {
        for (count, block_size, blocks, depth) in [
            (0, 1024, 0, 0),
            (4, 1024, 0, 0),
            (5, 1024, 1, 1),
            (84 * 4, 1024, 4, 1),
            (84 * 4 + 1, 1024, 6, 2),
            (84 * 84 * 4 + 1, 1024, 337 + 5 + 1, 3),
            (340 * 4 + 1, 4096, 6, 2),
        ] {
            let extents: Vec<Extent> = (0..count)
                .map(|at| Extent {
                    logical: at * 3,
                    physical: 0x12_0000_0000 + u64::from(at) * 5,
                    len: 2,
                })
                .collect();
            assert_eq!(index_blocks(extents.len(), block_size), blocks, "{count}");
            let places: Vec<u64> = (0..blocks).map(|at| 0x34_0000_0000 + at * 7).collect();
            let sums = Sums::new(&[7; 16], true);
            let (root, written) = tree(&extents, &places, block_size, sums);
            assert_eq!(written.len() as u64, blocks);
            assert_eq!(get16(&root, 6), depth);
            let mut found = Vec::new();
            walk(&root, depth, &written, &mut found);
            assert_eq!(found, extents);
        }
    }
}
