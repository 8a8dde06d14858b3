//! Writing what was laid out.

use std::io::{self, Seek, Write};

use lycia_tree::{Footprint, InodeId, Node};

use super::extents::{self, Extent};
use super::field::put32;
use super::geometry::{INODE, has_superblock};
use super::inode::{self, FLAG_EXTENTS, FLAG_INDEX, Record, XATTRS_ROOM};
use super::plan::{NO_BLOCK, Placement, Plan, directory_settings, entries, number};
use super::superblock::{
    self, BLOCKS_UNUSED, Descriptor, FIRST_INODE, Growth, INODES_UNUSED, JOURNAL, RESIZE, ROOT, TABLE_ZEROED,
    Totals,
};
use super::{Existing, Ext4Error, directory, xattr};
use crate::sparse::Placed;

/// Bytes of a file between two calls of the progress function.
const PIECE: usize = 16 << 20;

/// Says what was being written when the output refused.
fn doing(what: &'static str) -> impl Fn(io::Error) -> Ext4Error {
    move |source| Ext4Error::Write { what, source }
}

impl Plan<'_> {
    /// Writes the volume to `out`, `offset` bytes from its start. `progress` gets the number of bytes of content
    /// written since its last call.
    ///
    /// The first block is cleared first and written last, so that what a write that was cut short leaves is no
    /// volume.
    ///
    /// # Errors
    /// When `out` refuses.
    pub fn write(
        &self,
        out: &mut (impl Write + Seek),
        offset: u64,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Ext4Error> {
        let block_size = self.geometry.block_size;
        let skip_zeros = self.volume.existing == Existing::Zeros;
        let mut out = Placed::new(out, offset, block_size, skip_zeros);
        out.extend_to(self.size()).map_err(doing("the last block"))?;
        if !skip_zeros {
            let head = (self.geometry.first + 1) * u64::from(block_size);
            out.zero(0..head).map_err(doing("the first block"))?;
            out.barrier().map_err(doing("the first block"))?;
        }
        self.write_contents(&mut out, progress)?;
        self.write_journal(&mut out).map_err(doing("the journal"))?;
        self.write_inodes(&mut out).map_err(doing("the inode tables"))?;
        let descriptors = self
            .write_bitmaps(&mut out)
            .map_err(doing("the bitmaps of blocks and inodes"))?;
        self.write_superblocks(&mut out, &descriptors)
            .map_err(doing("the superblocks"))?;
        out.finish().map_err(doing("the superblocks"))
    }

    fn place(&self, block: u64) -> u64 {
        block * u64::from(self.geometry.block_size)
    }

    fn extents_of(&self, placement: &Placement) -> &[Extent] {
        &self.extents[placement.extents.clone()]
    }

    fn write_contents<W: Write + Seek>(
        &self,
        out: &mut Placed<'_, W>,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), Ext4Error> {
        let mut footprint = Footprint::new();
        for directories in [true, false] {
            for (at, needed) in self.demand.inodes.iter().enumerate() {
                let inode = needed.source.map(|id| self.tree.inode(id));
                if inode.is_none_or(|inode| inode.is_directory()) != directories || needed.blocks == 0 {
                    continue;
                }
                let placement = &self.placements[at];
                if directories {
                    let bytes = self.directory(at);
                    self.write_file(out, placement, &bytes, &mut |_| ())
                        .map_err(doing("a directory"))?;
                } else if let Some(target) = inode.and_then(|inode| inode.symlink()) {
                    self.write_file(out, placement, target, &mut |_| ())
                        .map_err(doing("a symbolic link"))?;
                } else if let Some(content) = inode.and_then(|inode| inode.content()) {
                    let mut written = |len| {
                        footprint.touched(content, len);
                        progress(len);
                    };
                    self.write_file(out, placement, content.bytes(), &mut written)
                        .map_err(doing("the content of a file"))?;
                }
                self.write_index(out, placement, number(at))
                    .map_err(doing("an extent tree"))?;
            }
            if directories {
                self.write_xattrs(out).map_err(doing("extended attributes"))?;
            }
        }
        Ok(())
    }

    fn write_file<W: Write + Seek>(
        &self,
        out: &mut Placed<'_, W>,
        placement: &Placement,
        mut bytes: &[u8],
        progress: &mut dyn FnMut(u64),
    ) -> io::Result<()> {
        for extent in self.extents_of(placement) {
            let len = self.place(extent.len.into()).min(bytes.len() as u64) as usize;
            let (mut part, rest) = bytes.split_at(len);
            bytes = rest;
            let mut place = self.place(extent.physical);
            while !part.is_empty() {
                let (piece, rest) = part.split_at(part.len().min(PIECE));
                out.write_padded(place, piece)?;
                progress(piece.len() as u64);
                place += piece.len() as u64;
                part = rest;
            }
        }
        Ok(())
    }

    /// The blocks of the extent tree of the inode `number`.
    fn write_index<W: Write + Seek>(
        &self,
        out: &mut Placed<'_, W>,
        placement: &Placement,
        number: u32,
    ) -> io::Result<()> {
        let sums = self.sums().of_inode(number, 0);
        let extents = self.extents_of(placement);
        for (block, bytes) in extents::tree(extents, &placement.index, self.geometry.block_size, sums).1 {
            out.write(self.place(block), &bytes)?;
        }
        Ok(())
    }

    fn directory(&self, at: usize) -> Vec<u8> {
        let needed = &self.demand.inodes[at];
        let settings = directory_settings(&self.volume);
        let ids = (number(at), needed.parent);
        let sums = self.sums().of_inode(ids.0, 0);
        let Some(id) = needed.source else {
            return directory::empty(needed.blocks, ids, settings, sums);
        };
        let entries: Vec<directory::Entry<'_>> = entries(self.tree, id)
            .into_iter()
            .map(|(name, child)| directory::Entry {
                name,
                inode: child.map_or(FIRST_INODE, |child| self.demand.numbers[child.index()]),
                kind: child.map_or(directory::KIND_DIRECTORY, |child| self.kind(child)),
            })
            .collect();
        let names = entries.iter().map(|entry| entry.name);
        // That it can be arranged was found out when it was laid out.
        let arrangement = directory::arrange(names, settings).unwrap_or(directory::Arrangement::Linear);
        directory::blocks(&arrangement, &entries, ids, settings, sums)
    }

    /// The type of file as directories have it.
    fn kind(&self, id: InodeId) -> u8 {
        match self.tree.inode(id).node() {
            None => directory::KIND_DIRECTORY,
            Some(Node::Regular(_)) => 1,
            Some(Node::CharDevice(_)) => 3,
            Some(Node::BlockDevice(_)) => 4,
            Some(Node::Fifo) => 5,
            Some(Node::Socket) => 6,
            Some(Node::Symlink(_)) => 7,
        }
    }

    /// The attributes of an inode of the tree. That they can be stored was found out when it was laid out.
    fn xattrs(&self, id: InodeId) -> xattr::Encoded {
        let xattrs = &self.tree.inode(id).metadata.xattrs;
        xattr::encode(xattrs, XATTRS_ROOM, self.geometry.block_size).unwrap_or_default()
    }

    fn write_xattrs<W: Write + Seek>(&self, out: &mut Placed<'_, W>) -> io::Result<()> {
        for (shared, &place) in self.demand.shared.iter().zip(&self.shared) {
            let owner = self.demand.inodes[shared.owner as usize].source;
            if let Some(mut block) = owner.and_then(|id| self.xattrs(id).block) {
                xattr::seal(&mut block, place, shared.references, self.sums());
                out.write(self.place(place), &block)?;
            }
        }
        Ok(())
    }

    fn write_journal<W: Write + Seek>(&self, out: &mut Placed<'_, W>) -> io::Result<()> {
        let Some((placement, blocks)) = &self.journal else {
            return Ok(());
        };
        let uuid = self.volume.uuid.to_bytes();
        let superblock = superblock::journal(self.geometry.block_size, *blocks, &uuid);
        for (at, extent) in self.extents_of(placement).iter().enumerate() {
            let start = self.place(extent.physical);
            out.zero(start..start + self.place(extent.len.into()))?;
            if at == 0 {
                out.write(start, &superblock)?;
            }
        }
        self.write_index(out, placement, JOURNAL)
    }

    fn sectors(&self, blocks: u64) -> u64 {
        blocks * u64::from(self.geometry.block_size / 512)
    }

    /// The inode of the journal, which is also copied into the superblock.
    fn journal_record(&self) -> Option<Record<'static>> {
        let (placement, blocks) = self.journal.as_ref()?;
        Some(Record {
            mode: 0o100_600,
            size: self.place((*blocks).into()),
            time: inode::time(self.volume.time).unwrap_or_default(),
            links: 1,
            sectors: self.sectors(u64::from(*blocks) + placement.index.len() as u64),
            flags: FLAG_EXTENTS,
            map: self.map(placement, JOURNAL),
            ..Record::empty()
        })
    }

    fn map(&self, placement: &Placement, number: u32) -> [u8; 60] {
        let sums = self.sums().of_inode(number, 0);
        extents::tree(
            self.extents_of(placement),
            &placement.index,
            self.geometry.block_size,
            sums,
        )
        .0
    }

    fn growth(&self) -> Option<Growth> {
        self.growth.map(|place| Growth::new(&self.geometry, place))
    }

    /// The inode `number`, one of the reserved ones but the root.
    fn reserved_record(&self, number: u32) -> Record<'static> {
        match number {
            JOURNAL => self.journal_record(),
            RESIZE => self.growth().zip(self.growth).map(|(growth, place)| {
                let mut map = [0; 60];
                // The place of the block that leads to blocks of pointers.
                put32(&mut map, 13 * 4, place as u32);
                Record {
                    mode: 0o100_600,
                    size: growth.size,
                    time: inode::time(self.volume.time).unwrap_or_default(),
                    links: 1,
                    sectors: self.sectors(growth.count),
                    map,
                    ..Record::empty()
                }
            }),
            _ => None,
        }
        .unwrap_or_else(Record::empty)
    }

    /// The bytes of the inode at `at` of what is needed.
    fn inode(&self, at: usize) -> [u8; INODE as usize] {
        let needed = &self.demand.inodes[at];
        let placement = &self.placements[at];
        let mut record = Record {
            size: needed.size,
            links: needed.links,
            mode: 0o040_700,
            time: inode::time(self.volume.time).unwrap_or_default(),
            flags: FLAG_EXTENTS,
            ..Record::empty()
        };
        let mut blocks = needed.blocks + placement.index.len() as u64;
        let mut node = None;
        let mut xattrs = xattr::Encoded::default();
        if let Some(id) = needed.source {
            let inode = self.tree.inode(id);
            node = inode.node();
            let metadata = &inode.metadata;
            record.mode = inode.mode();
            (record.uid, record.gid) = (metadata.uid, metadata.gid);
            record.time = inode::time(metadata.mtime).unwrap_or_default();
            xattrs = self.xattrs(id);
            if inode.is_directory() && needed.blocks > 1 {
                record.flags |= FLAG_INDEX;
            }
        }
        record.xattrs = xattrs.inode.as_deref();
        if needed.xattrs != NO_BLOCK {
            record.xattr_block = self.shared[needed.xattrs as usize];
            blocks += 1;
        }
        record.sectors = self.sectors(blocks);
        match node {
            Some(Node::Symlink(target)) if needed.blocks == 0 => {
                record.flags = 0;
                record.map[..target.len()].copy_from_slice(target);
            }
            Some(Node::CharDevice(device) | Node::BlockDevice(device)) => {
                record.flags = 0;
                record.map = inode::device(*device).unwrap_or([0; 60]);
            }
            Some(Node::Fifo | Node::Socket) => record.flags = 0,
            _ => record.map = self.map(placement, number(at)),
        }
        record.encode(self.sums().of_inode(number(at), 0))
    }

    /// Inodes used of a group; those of a group are used from the first on.
    fn used_inodes(&self, group: u32) -> u32 {
        let per_group = self.geometry.inodes_per_group;
        self.demand
            .last_inode()
            .saturating_sub(group * per_group)
            .min(per_group)
    }

    fn write_inodes<W: Write + Seek>(&self, out: &mut Placed<'_, W>) -> io::Result<()> {
        let per_group = self.geometry.inodes_per_group;
        for group in 0..self.geometry.groups {
            let start = self.place(self.geometry.tables[group as usize]);
            let used = self.used_inodes(group);
            let mut place = start;
            for index in 0..used {
                let number = group * per_group + index + 1;
                let bytes = match number {
                    ROOT => self.inode(0),
                    number if number < FIRST_INODE => self
                        .reserved_record(number)
                        .encode(self.sums().of_inode(number, 0)),
                    number => self.inode((number - FIRST_INODE) as usize + 1),
                };
                if index + 1 == used {
                    out.write_padded(place, &bytes)?;
                } else {
                    out.write(place, &bytes)?;
                }
                place += u64::from(INODE);
            }
            // Without checksums nothing says that the rest is not used yet.
            if !self.volume.checksums {
                let end = start + self.place(self.geometry.table);
                out.zero(place.next_multiple_of(self.place(1)).max(start)..end)?;
            }
        }
        Ok(())
    }

    /// Writes the bitmaps and gives the table of groups.
    fn write_bitmaps<W: Write + Seek>(&self, out: &mut Placed<'_, W>) -> io::Result<Vec<u8>> {
        let geometry = &self.geometry;
        let sums = self.sums();
        let mut directories = vec![0; geometry.groups as usize];
        for (at, needed) in self.demand.inodes.iter().enumerate() {
            if needed.source.is_none_or(|id| self.tree.inode(id).is_directory()) {
                directories[((number(at) - 1) / geometry.inodes_per_group) as usize] += 1;
            }
        }
        let mut table = vec![0; self.place(geometry.descriptor_blocks) as usize];
        let slots = table.chunks_exact_mut(geometry.descriptor as usize);
        for (group, slot) in (0..geometry.groups).zip(slots) {
            let at = group as usize;
            let used = self.used_inodes(group);
            let mut descriptor = Descriptor {
                block_bitmap: geometry.block_bitmaps[at],
                inode_bitmap: geometry.inode_bitmaps[at],
                table: geometry.tables[at],
                free_blocks: geometry.free_in(&self.free, group) as u32,
                free_inodes: geometry.inodes_per_group - used,
                directories: directories[at],
                ..Descriptor::default()
            };
            if sums.enabled() {
                descriptor.unused = geometry.inodes_per_group - used;
                if self.volume.existing == Existing::Zeros {
                    descriptor.flags |= TABLE_ZEROED;
                }
            }
            if sums.enabled() && geometry.is_plain(&self.free, group) {
                descriptor.flags |= BLOCKS_UNUSED;
            } else {
                let bitmap = geometry.bitmap(&self.free, group);
                let summed = &bitmap[..(geometry.per_group / 8) as usize];
                descriptor.block_bitmap_sum = sums.of(&[summed]).unwrap_or(0);
                out.write(self.place(geometry.block_bitmaps[at]), &bitmap)?;
            }
            if sums.enabled() && used == 0 {
                descriptor.flags |= INODES_UNUSED;
            } else {
                let mut bitmap = vec![0; geometry.block_size as usize];
                set(&mut bitmap, 0, used as usize);
                let end = bitmap.len() * 8;
                set(&mut bitmap, geometry.inodes_per_group as usize, end);
                let summed = &bitmap[..geometry.inodes_per_group as usize / 8];
                descriptor.inode_bitmap_sum = sums.of(&[summed]).unwrap_or(0);
                out.write(self.place(geometry.inode_bitmaps[at]), &bitmap)?;
            }
            descriptor.encode(slot, group, sums);
        }
        Ok(table)
    }

    fn write_superblocks<W: Write + Seek>(
        &self,
        out: &mut Placed<'_, W>,
        descriptors: &[u8],
    ) -> io::Result<()> {
        let geometry = &self.geometry;
        for (place, block) in self.growth().map(|growth| growth.blocks).unwrap_or_default() {
            out.write(self.place(place), &block)?;
        }
        let totals = Totals {
            free_blocks: self.free_blocks(),
            free_inodes: self.free_inodes(),
            reserved_blocks: self.reserved_blocks(),
        };
        let journal = self.journal_record();
        let journal = journal.as_ref().map(|record| (&record.map, record.size));
        let superblock = superblock::encode(&self.volume, geometry, &totals, journal);
        for group in (1..geometry.groups).filter(|&group| has_superblock(group)) {
            let start = self.place(geometry.group(group).start);
            let copy = superblock::copy(&superblock, group, self.volume.checksums);
            out.write_padded(start, &copy)?;
            out.write(start + self.place(1), descriptors)?;
        }
        let first = self.place(geometry.first);
        out.write(first + self.place(1), descriptors)?;
        out.barrier()?;
        let own = superblock::copy(&superblock, 0, self.volume.checksums);
        if geometry.first == 1 {
            out.write(first, &own)
        } else {
            // Behind the place of a boot sector.
            let mut block = vec![0; geometry.block_size as usize];
            block[1024..2048].copy_from_slice(&own);
            out.write(0, &block)
        }
    }
}

/// Sets the bits `from..to`.
fn set(bitmap: &mut [u8], from: usize, to: usize) {
    for bit in from..to {
        bitmap[bit / 8] |= 1 << (bit % 8);
    }
}
