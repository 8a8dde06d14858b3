//! Which blocks are a file's, and what they hold.

use std::io::{Read, Seek, SeekFrom, Write};

use super::super::extents;
use super::super::field::{get16, get32};
use super::super::inode::FLAG_EXTENTS;
use super::{FLAG_ENCRYPTED, File, Kind, ReadError, Reader, malformed};

/// Most extents of a file.
const EXTENTS_MAX: usize = 1 << 20;
const FLAG_INLINE: u32 = 0x1000_0000;

/// Where a file's blocks are.
pub(super) enum Map {
    /// First block of the file, first block of the volume (`None` for zeros), blocks.
    Extents(Vec<(u64, Option<u64>, u64)>),
    /// Found through blocks of pointers.
    Pointers([u32; 15]),
}

impl<R: Read + Seek> Reader<R> {
    pub(super) fn map(&mut self, file: &File) -> Result<Map, ReadError> {
        let what = || format!("the blocks of inode {}", file.number);
        if file.flags & FLAG_INLINE != 0 {
            return Err(ReadError::Unsupported(format!(
                "inode {} holds its content itself",
                file.number
            )));
        }
        if file.flags & FLAG_EXTENTS == 0 {
            let mut pointers = [0; 15];
            for (at, pointer) in pointers.iter_mut().enumerate() {
                *pointer = get32(&file.map, at * 4);
            }
            return Ok(Map::Pointers(pointers));
        }
        let mut found = Vec::new();
        // Nodes still to be read: their place, `None` for the one in the inode, and depth.
        let mut nodes: Vec<(Option<u64>, Option<u16>)> = vec![(None, None)];
        let mut read = 0;
        while let Some((place, depth)) = nodes.pop() {
            let node = match place {
                None => file.map.to_vec(),
                Some(place) => self.read_block(place)?,
            };
            let (entries, most, level) = (get16(&node, 2), get16(&node, 4), get16(&node, 6));
            let room = (node.len() - 12) / 12;
            if get16(&node, 0) != extents::MAGIC
                || entries > most
                || usize::from(most) > room
                || level > 5
                || depth.is_some_and(|depth| depth != level)
            {
                return Err(malformed(what(), "a node of the extent tree makes no sense"));
            }
            let end = 12 + 12 * usize::from(most);
            let sums = self.sums.of_inode(file.number, file.generation);
            if place.is_some()
                && end + 4 <= node.len()
                && sums
                    .of(&[&node[..end]])
                    .is_some_and(|sum| sum != get32(&node, end))
            {
                return Err(malformed(
                    what(),
                    "the checksum of a node of the extent tree is wrong",
                ));
            }
            read += 1;
            if read + nodes.len() + found.len() > EXTENTS_MAX {
                return Err(ReadError::Limit {
                    what: "extents of a file",
                    limit: EXTENTS_MAX as u64,
                });
            }
            for entry in node[12..].chunks_exact(12).take(entries.into()) {
                if level > 0 {
                    let place = u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
                    nodes.push((Some(place), Some(level - 1)));
                    continue;
                }
                let len = u64::from(get16(entry, 4));
                let physical = u64::from(get32(entry, 8)) | u64::from(get16(entry, 6)) << 32;
                // Longer ones are allocated but were never written.
                let (len, written) = match len {
                    0..=extents::LONGEST => (len, true),
                    len => (len - extents::LONGEST, false),
                };
                if physical
                    .checked_add(len)
                    .is_none_or(|end| end > self.summary.blocks)
                {
                    return Err(malformed(what(), "an extent lies outside of the volume"));
                }
                found.push((u64::from(get32(entry, 0)), written.then_some(physical), len));
            }
        }
        found.sort_unstable();
        if found.windows(2).any(|pair| pair[0].0 + pair[0].2 > pair[1].0) {
            return Err(malformed(what(), "extents overlap"));
        }
        Ok(Map::Extents(found))
    }

    /// Where the blocks of the file from `logical` on are, and how many follow on there; `None` for zeros.
    pub(super) fn find(
        &mut self,
        map: &Map,
        logical: u64,
        pointers: &mut Cache,
    ) -> Result<(Option<u64>, u64), ReadError> {
        match map {
            Map::Extents(extents) => {
                let next = extents.partition_point(|extent| extent.0 <= logical);
                if let Some(&(first, physical, len)) = next.checked_sub(1).and_then(|at| extents.get(at))
                    && logical < first + len
                {
                    let inside = logical - first;
                    return Ok((physical.map(|physical| physical + inside), len - inside));
                }
                Ok((
                    None,
                    extents.get(next).map_or(u64::MAX, |extent| extent.0 - logical),
                ))
            }
            Map::Pointers(roots) => {
                let per_block = u64::from(self.summary.block_size / 4);
                let mut rest = logical;
                if rest < 12 {
                    let block = roots[rest as usize];
                    return Ok(((block != 0).then_some(block.into()), 1));
                }
                rest -= 12;
                let mut span = per_block;
                for (depth, &root) in roots[12..].iter().enumerate() {
                    if rest < span {
                        let mut block = root;
                        for level in (0..=depth as u32).rev() {
                            if block == 0 {
                                return Ok((None, 1));
                            }
                            if pointers
                                .as_ref()
                                .is_none_or(|cached| cached[level as usize].0 != block)
                            {
                                let bytes = self.read_block(block.into())?;
                                let slots = pointers.get_or_insert_with(Default::default);
                                slots[level as usize] = (block, bytes);
                            }
                            let slot = (rest / per_block.pow(level) % per_block) as usize;
                            block = pointers
                                .as_ref()
                                .map_or(0, |cached| get32(&cached[level as usize].1, slot * 4));
                        }
                        return Ok(((block != 0).then_some(block.into()), 1));
                    }
                    rest -= span;
                    span = span.saturating_mul(per_block);
                }
                Ok((None, u64::MAX))
            }
        }
    }

    /// Where a file's or directory's blocks are: first byte of the volume and bytes of each run, in the order of the file. A
    /// symbolic link whose text lies in the inode, and what is no file, have none.
    ///
    /// # Errors
    /// When the blocks cannot be found, or lie outside of the volume.
    pub fn extents(&mut self, file: &File) -> Result<Vec<(u64, u64)>, ReadError> {
        let block_size = u64::from(self.summary.block_size);
        let inside = file.kind == Kind::Symlink && file.size < 60 && file.flags & FLAG_EXTENTS == 0;
        if !matches!(file.kind, Kind::Regular | Kind::Directory | Kind::Symlink) || inside {
            return Ok(Vec::new());
        }
        let map = self.map(file)?;
        let mut runs: Vec<(u64, u64)> = Vec::new();
        let mut cache: Cache = None;
        let (mut at, end) = (0, file.size.div_ceil(block_size));
        while at < end {
            let (physical, blocks) = self.find(&map, at, &mut cache)?;
            let blocks = blocks.min(end - at);
            if let Some(physical) = physical {
                if physical.saturating_add(blocks) > self.summary.blocks {
                    return Err(malformed(
                        format!("inode {}", file.number),
                        "a block outside of the volume",
                    ));
                }
                let (start, len) = (physical * block_size, blocks * block_size);
                match runs.last_mut() {
                    Some(last) if last.0 + last.1 == start => last.1 += len,
                    _ => runs.push((start, len)),
                }
                if runs.len() > EXTENTS_MAX {
                    return Err(ReadError::Limit {
                        what: "extents of a file",
                        limit: EXTENTS_MAX as u64,
                    });
                }
            }
            at += blocks;
        }
        Ok(runs)
    }

    /// The blocks that a file has besides those of its content: nodes of its extents or blocks of pointers, and one of attributes,
    /// which files can share and which comes last where there is one.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn further_blocks(&mut self, file: &File) -> Result<(Vec<u64>, Option<u64>), ReadError> {
        let mut found = Vec::new();
        let attributes = (file.xattr_block != 0).then_some(file.xattr_block);
        let inside = file.kind == Kind::Symlink && file.size < 60 && file.flags & FLAG_EXTENTS == 0;
        if !matches!(file.kind, Kind::Regular | Kind::Directory | Kind::Symlink)
            || inside
            || file.flags & FLAG_INLINE != 0
        {
            return Ok((found, attributes));
        }
        // Blocks still to be read, and how many levels of further ones are below each.
        let mut pending: Vec<(u64, u16)> = Vec::new();
        let extents = file.flags & FLAG_EXTENTS != 0;
        let below = |node: &[u8]| -> Vec<u64> {
            let entries = node[12..].chunks_exact(12).take(get16(node, 2).into());
            let place = |entry: &[u8]| u64::from(get32(entry, 4)) | u64::from(get16(entry, 8)) << 32;
            entries.map(place).collect()
        };
        if extents {
            let level = get16(&file.map, 6);
            if level > 0 {
                pending.extend(below(&file.map).into_iter().map(|place| (place, level - 1)));
            }
        } else {
            let roots =
                (0..3u16).map(|level| (u64::from(get32(&file.map, 48 + 4 * usize::from(level))), level));
            pending.extend(roots.filter(|&(place, _)| place != 0));
        }
        while let Some((place, level)) = pending.pop() {
            found.push(place);
            if level == 0 {
                continue;
            }
            let node = self.read_block(place)?;
            if extents {
                pending.extend(below(&node).into_iter().map(|place| (place, level - 1)));
            } else {
                let places = node.chunks_exact(4).map(|entry| u64::from(get32(entry, 0)));
                pending.extend(places.filter(|&place| place != 0).map(|place| (place, level - 1)));
            }
            if found.len() + pending.len() > EXTENTS_MAX {
                return Err(ReadError::Limit {
                    what: "extents of a file",
                    limit: EXTENTS_MAX as u64,
                });
            }
        }
        Ok((found, attributes))
    }

    /// Copies the content of a regular file to `out`, and returns its length.
    ///
    /// # Errors
    /// When it is no regular file, its blocks cannot be found, or either side refuses.
    pub fn copy(&mut self, file: &File, out: &mut impl Write) -> Result<u64, ReadError> {
        if file.kind != Kind::Regular {
            return Err(malformed(
                format!("inode {}", file.number),
                "it is no regular file",
            ));
        }
        self.check_readable(file)?;
        let size = file.size;
        self.copy_range(file, 0, size, out)?;
        Ok(size)
    }

    pub(super) fn check_readable(&self, file: &File) -> Result<(), ReadError> {
        if file.flags & FLAG_ENCRYPTED != 0 {
            return Err(ReadError::Unsupported(format!(
                "inode {} is encrypted",
                file.number
            )));
        }
        Ok(())
    }

    /// Copies `len` bytes from `offset` on; what lies behind the end comes as zeros.
    pub(super) fn copy_range(
        &mut self,
        file: &File,
        offset: u64,
        len: u64,
        out: &mut impl Write,
    ) -> Result<(), ReadError> {
        const PIECE: u64 = 1 << 20;
        let block_size = u64::from(self.summary.block_size);
        let map = self.map(file)?;
        let mut cache: Cache = None;
        let mut buffer = Vec::new();
        let (mut at, end) = (offset, offset.saturating_add(len));
        while at < end {
            let inside = at % block_size;
            let (physical, blocks) = self.find(&map, at / block_size, &mut cache)?;
            let run = blocks
                .saturating_mul(block_size)
                .saturating_sub(inside)
                .min(end - at)
                .min(PIECE);
            buffer.clear();
            buffer.resize(run as usize, 0);
            if let Some(physical) = physical {
                if physical >= self.summary.blocks {
                    return Err(malformed(
                        format!("inode {}", file.number),
                        "a block outside of the volume",
                    ));
                }
                self.disk.seek(SeekFrom::Start(physical * block_size + inside))?;
                self.disk.read_exact(&mut buffer)?;
            }
            out.write_all(&buffer)?;
            at += run;
        }
        Ok(())
    }
}

/// The last block of pointers of each level, with its place.
pub(super) type Cache = Option<[(u32, Vec<u8>); 3]>;
