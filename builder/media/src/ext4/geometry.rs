//! Where a volume keeps its own records: block groups, copies of the superblock, bitmaps, inode tables
//! (Linux `Documentation/filesystems/ext4/overview.rst`).

use std::ops::Range;

/// Groups whose bitmaps and inode tables lie together (`flex_bg`), as mke2fs does it.
pub(super) const FLEX: u32 = 16;
pub(super) const LOG_FLEX: u8 = 4;
/// Bytes of an inode.
pub(super) const INODE: u32 = 256;
/// A last group with fewer blocks than this to itself is left out, as mke2fs does.
const LEAST_LAST: u64 = 50;

/// What a geometry is computed from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) blocks: u64,
    pub(super) block_size: u32,
    /// Inodes, as many as can be had.
    pub(super) inodes: u64,
    /// Inodes without which it is no use.
    pub(super) least_inodes: u64,
    /// 32 or 64.
    pub(super) descriptor: u32,
    /// Whether blocks are kept for a longer table of groups.
    pub(super) growth: bool,
}

/// Why there is no geometry.
#[derive(Debug)]
pub(super) enum Misfit {
    /// So many more blocks would help.
    Small(u64),
    /// It never fits.
    Never(String),
}

/// The places of a volume's own records. Numbers are of blocks, unless they say otherwise.
#[derive(Clone, Debug)]
pub(super) struct Geometry {
    pub(super) block_size: u32,
    /// 1 for blocks of 1 KiB, whose first is the boot sector's.
    pub(super) first: u64,
    pub(super) blocks: u64,
    pub(super) per_group: u64,
    pub(super) groups: u32,
    /// Inodes.
    pub(super) inodes_per_group: u32,
    /// Blocks of one group's inode table.
    pub(super) table: u64,
    /// Bytes of a group descriptor.
    pub(super) descriptor: u32,
    pub(super) descriptor_blocks: u64,
    /// Whether there is a resize inode, which names the blocks kept for more descriptors.
    pub(super) growth: bool,
    /// Blocks behind the descriptors that are kept for more of them.
    pub(super) reserved_descriptors: u64,
    pub(super) block_bitmaps: Vec<u64>,
    pub(super) inode_bitmaps: Vec<u64>,
    pub(super) tables: Vec<u64>,
    /// What is free for files, in order.
    pub(super) free: Vec<Range<u64>>,
}

impl Geometry {
    pub(super) fn compute(wanted: Wanted) -> Result<Geometry, Misfit> {
        let block_size = u64::from(wanted.block_size);
        let first = u64::from(wanted.block_size == 1024);
        let per_group = 8 * block_size;
        if wanted.descriptor == 32 && wanted.blocks > u64::from(u32::MAX) {
            return Err(Misfit::Never(
                "more than 2^32 blocks need 64-bit block numbers".to_owned(),
            ));
        }
        let mut blocks = wanted.blocks;
        loop {
            if blocks <= first {
                return Err(Misfit::Small(LEAST_LAST + 16));
            }
            let groups = u32::try_from((blocks - first).div_ceil(per_group))
                .map_err(|_| Misfit::Never("more than 2^32 groups of blocks".to_owned()))?;
            let per_block = block_size / u64::from(wanted.descriptor);
            let descriptor_blocks = u64::from(groups).div_ceil(per_block);
            let growth = wanted.growth && blocks <= u64::from(u32::MAX);
            let reserved_descriptors = if growth {
                // Room to grow to 1024 times the size, as far as one block of pointers reaches.
                let most = (blocks * 1024).min(u64::from(u32::MAX));
                let most_groups = (most - first).div_ceil(per_group);
                most_groups
                    .div_ceil(per_block)
                    .saturating_sub(descriptor_blocks)
                    .min(block_size / 4)
            } else {
                0
            };
            let in_block = block_size / u64::from(INODE);
            let step = in_block.max(8);
            // Rounded as mke2fs does: up to whole blocks, then down to whole bytes of the bitmap.
            let each = wanted
                .inodes
                .div_ceil(u64::from(groups))
                .next_multiple_of(in_block);
            let least = wanted
                .least_inodes
                .div_ceil(u64::from(groups))
                .next_multiple_of(step);
            let inodes = (each / 8 * 8).next_multiple_of(in_block).max(least).max(2 * step);
            let most = per_group.min(u64::from(u32::MAX) / u64::from(groups) / step * step);
            let inodes = inodes.min(most);
            if inodes * u64::from(groups) < wanted.least_inodes {
                // More groups would have room.
                return Err(Misfit::Small(per_group));
            }
            let table = inodes / in_block;
            let geometry = Geometry {
                block_size: wanted.block_size,
                first,
                blocks,
                per_group,
                groups,
                inodes_per_group: inodes as u32,
                table,
                descriptor: wanted.descriptor,
                descriptor_blocks,
                growth,
                reserved_descriptors,
                block_bitmaps: Vec::new(),
                inode_bitmaps: Vec::new(),
                tables: Vec::new(),
                free: Vec::new(),
            };
            let base = 1 + descriptor_blocks + reserved_descriptors;
            if base + 2 > per_group {
                return Err(Misfit::Never(format!(
                    "the descriptors of {groups} groups do not fit into one: take larger blocks"
                )));
            }
            let last = geometry.group(groups - 1);
            let own = geometry.base(groups - 1) + 2 + table;
            let length = last.end - last.start;
            if length < own + LEAST_LAST {
                if groups == 1 {
                    return Err(Misfit::Small(own + LEAST_LAST - length));
                }
                if length < per_group {
                    blocks = last.start;
                    continue;
                }
            }
            return geometry.place();
        }
    }

    /// The blocks of a group.
    pub(super) fn group(&self, group: u32) -> Range<u64> {
        let start = self.first + u64::from(group) * self.per_group;
        start..(start + self.per_group).min(self.blocks)
    }

    /// Blocks at the beginning of a group that a copy of superblock and descriptors takes.
    pub(super) fn base(&self, group: u32) -> u64 {
        if has_superblock(group) {
            1 + self.descriptor_blocks + self.reserved_descriptors
        } else {
            0
        }
    }

    /// Gives bitmaps and tables their places: those of [`FLEX`] groups from the first of these on.
    fn place(mut self) -> Result<Geometry, Misfit> {
        let mut group = 0;
        while group < self.groups {
            let end = (group + FLEX).min(self.groups);
            let mut free = Vec::new();
            for member in group..end {
                let blocks = self.group(member);
                add(&mut free, blocks.start + self.base(member)..blocks.end);
            }
            let count = u64::from(end - group);
            let small = Misfit::Small(count * (2 + self.table));
            let taken: Option<Vec<Vec<u64>>> = [1, 1, self.table]
                .into_iter()
                .map(|len| (group..end).map(|_| take(&mut free, len)).collect())
                .collect();
            let Some(taken) = taken else {
                return Err(small);
            };
            for (places, taken) in [&mut self.block_bitmaps, &mut self.inode_bitmaps, &mut self.tables]
                .into_iter()
                .zip(taken)
            {
                places.extend(taken);
            }
            for range in free {
                add(&mut self.free, range);
            }
            group = end;
        }
        Ok(self)
    }

    /// Blocks of a group that `free` still has.
    pub(super) fn free_in(&self, free: &[Range<u64>], group: u32) -> u64 {
        let blocks = self.group(group);
        overlapping(free, &blocks)
            .map(|range| range.end.min(blocks.end) - range.start.max(blocks.start))
            .sum()
    }

    /// Whether nothing of a group is used but by the records that Linux can place by itself, so that its
    /// bitmap need not be on disk.
    pub(super) fn is_plain(&self, free: &[Range<u64>], group: u32) -> bool {
        if group == 0 || group + 1 == self.groups {
            return false;
        }
        let blocks = self.group(group);
        let within = |start: u64, len: u64| {
            (start + len)
                .min(blocks.end)
                .saturating_sub(start.max(blocks.start))
        };
        let at = group as usize;
        let own = within(self.block_bitmaps[at], 1)
            + within(self.inode_bitmaps[at], 1)
            + within(self.tables[at], self.table);
        let used = blocks.end - blocks.start - self.free_in(free, group);
        used == self.base(group) + own
    }

    /// The bitmap of a group; bits behind the volume's end are set.
    pub(super) fn bitmap(&self, free: &[Range<u64>], group: u32) -> Vec<u8> {
        let blocks = self.group(group);
        let mut bitmap = vec![0xff; self.block_size as usize];
        for range in overlapping(free, &blocks) {
            for block in range.start.max(blocks.start)..range.end.min(blocks.end) {
                let bit = (block - blocks.start) as usize;
                bitmap[bit / 8] &= !(1 << (bit % 8));
            }
        }
        bitmap
    }
}

/// Those of the sorted `ranges` that share blocks with `window`.
fn overlapping<'r>(ranges: &'r [Range<u64>], window: &Range<u64>) -> impl Iterator<Item = &'r Range<u64>> {
    let from = ranges.partition_point(|range| range.end <= window.start);
    let end = window.end;
    ranges[from..].iter().take_while(move |range| range.start < end)
}

/// Adds a range behind the others, joined to the last where it follows on.
fn add(ranges: &mut Vec<Range<u64>>, range: Range<u64>) {
    if range.is_empty() {
        return;
    }
    match ranges.last_mut() {
        Some(last) if last.end == range.start => last.end = range.end,
        _ => ranges.push(range),
    }
}

/// Takes `len` blocks from the first range that has as many.
fn take(free: &mut Vec<Range<u64>>, len: u64) -> Option<u64> {
    let at = free.iter().position(|range| range.end - range.start >= len)?;
    let start = free[at].start;
    free[at].start += len;
    if free[at].is_empty() {
        free.remove(at);
    }
    Some(start)
}

/// Whether a group has a copy of the superblock (`sparse_super`): 0, 1 and the powers of 3, 5 and 7.
pub(super) fn has_superblock(group: u32) -> bool {
    let power_of = |base: u32| {
        let mut rest = group;
        while rest > 1 && rest.is_multiple_of(base) {
            rest /= base;
        }
        rest == 1
    };
    group <= 1 || power_of(3) || power_of(5) || power_of(7)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_of_the_superblock() {
        let with: Vec<u32> = (0..130).filter(|&group| has_superblock(group)).collect();
        assert_eq!(with, [0, 1, 3, 5, 7, 9, 25, 27, 49, 81, 125]);
    }

    #[test]
    fn every_block_has_one_use() {
        for (blocks, block_size, inodes, descriptor, growth) in [
            (2048, 4096, 512, 64, true),
            (8192, 1024, 2048, 32, false),
            (200_000, 1024, 50_000, 64, true),
            (3_000_000, 4096, 700_000, 64, true),
            (1 << 30, 4096, 1 << 26, 64, true),
            (32769 * 40, 4096, 1000, 32, true),
        ] {
            let wanted = Wanted {
                blocks,
                block_size,
                inodes,
                least_inodes: 12,
                descriptor,
                growth,
            };
            let geometry = Geometry::compute(wanted).unwrap();
            let mut used: Vec<Range<u64>> = geometry.free.clone();
            for group in 0..geometry.groups {
                let at = group as usize;
                let start = geometry.group(group).start;
                used.push(start..start + geometry.base(group));
                used.push(geometry.block_bitmaps[at]..geometry.block_bitmaps[at] + 1);
                used.push(geometry.inode_bitmaps[at]..geometry.inode_bitmaps[at] + 1);
                used.push(geometry.tables[at]..geometry.tables[at] + geometry.table);
            }
            used.retain(|range| !range.is_empty());
            used.sort_by_key(|range| range.start);
            assert_eq!(used[0].start, geometry.first);
            assert_eq!(used.last().unwrap().end, geometry.blocks);
            for pair in used.windows(2) {
                assert_eq!(pair[0].end, pair[1].start, "{wanted:?}");
            }
        }
    }
}
