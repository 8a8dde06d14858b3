//! Writing a disk that was laid out.

use std::io::{self, Seek, Write};
use std::ops::Range;

use lycia_tree::Footprint;

use super::{Content, DiskError, Plan};
use crate::ext4::Existing;
use crate::fat;
use crate::sparse::Placed as Output;

/// Bytes at either end of an empty partition that are cleared: every file system has its signatures there.
const CLEARED: u64 = 1 << 20;

fn doing(what: impl Into<String>) -> impl FnOnce(io::Error) -> DiskError {
    let what = what.into();
    move |source| DiskError::Write { what, source }
}

impl Plan<'_> {
    /// Writes the whole disk: partitions, bytes with fixed places, then the tables. Where it may hold anything, the old
    /// table is cleared first, so that a write that was cut short leaves none. `progress` gets the number of bytes of
    /// content written since its last call.
    ///
    /// # Errors
    /// When a FAT volume's files do not fit, or the disk refuses.
    pub fn write(
        &self,
        disk: &mut (impl Write + Seek),
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), DiskError> {
        self.clear_table(disk)?;
        if self.layout.existing == Existing::Zeros {
            let mut out = Output::new(disk, 0, self.layout.sector_size, true);
            out.extend_to(self.size)
                .and_then(|()| out.finish())
                .map_err(doing("the last sector"))?;
        }
        for index in 0..self.placed.len() {
            self.write_partition(disk, index, progress)?;
        }
        self.write_raw(disk)?;
        self.write_table(disk)
    }

    /// Clears an old table where there may be one.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn clear_table(&self, disk: &mut (impl Write + Seek)) -> Result<(), DiskError> {
        if self.layout.existing == Existing::Zeros {
            return Ok(());
        }
        let sector = u64::from(self.layout.sector_size);
        let mut out = Output::new(disk, 0, self.layout.sector_size, false);
        // MBR and both headers.
        for first in [0, 1, self.size / sector - 1] {
            out.zero(first * sector..(first + 1) * sector)
                .map_err(doing("the old partition table"))?;
        }
        out.finish().map_err(doing("the old partition table"))
    }

    /// Writes what is on the partition at `index` of [`Plan::partitions`].
    ///
    /// # Errors
    /// When a FAT volume's files do not fit, or the disk refuses.
    pub fn write_partition(
        &self,
        disk: &mut (impl Write + Seek),
        index: usize,
        progress: &mut dyn FnMut(u64),
    ) -> Result<(), DiskError> {
        let Some(placed) = self.placed.get(index) else {
            return Err(DiskError::Setting(format!(
                "there is no partition at index {index}"
            )));
        };
        let partition = &self.layout.partitions[placed.index];
        let (number, name) = (placed.number, partition.name.clone());
        let range = placed.bytes.clone();
        match &partition.content {
            Content::Keep => Ok(()),
            Content::Empty => self
                .clear_ends(disk, range)
                .map_err(doing(format!("partition {number}"))),
            Content::Bytes(bytes) => {
                let mut out = self.output(disk);
                let mut place = range.start;
                let mut footprint = Footprint::new();
                footprint
                    .pieces(bytes)
                    .try_for_each(|piece| {
                        out.write(place, piece)?;
                        place += piece.len() as u64;
                        Ok(())
                    })
                    .and_then(|()| out.finish())
                    .map_err(doing(format!("partition {number}")))?;
                progress(bytes.len());
                Ok(())
            }
            Content::Fat { tree, volume } => {
                let volume = fat::Volume {
                    size: range.end - range.start,
                    ..volume.clone()
                };
                let sector = self.layout.sector_size;
                match self.layout.existing {
                    Existing::Zeros => fat::write_sparse(disk, range.start, sector, tree, &volume),
                    Existing::Unknown => fat::write_sectors(disk, range.start, sector, tree, &volume),
                }
                .map_err(|source| DiskError::Fat { number, name, source })?;
                let bytes = tree
                    .walk()
                    .filter_map(|entry| entry.inode.content().map(lycia_tree::Content::len))
                    .sum();
                progress(bytes);
                Ok(())
            }
            Content::Ext4 { .. } => match &self.ext4[index] {
                Some(plan) => plan
                    .write(disk, range.start, progress)
                    .map_err(|source| DiskError::Ext4 { number, name, source }),
                None => Ok(()),
            },
        }
    }

    /// Writes the bytes with fixed places.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_raw(&self, disk: &mut (impl Write + Seek)) -> Result<(), DiskError> {
        let mut out = self.output(disk);
        for raw in &self.layout.raw {
            out.write(raw.offset, raw.bytes.bytes())
                .map_err(doing(raw.name))?;
        }
        out.finish().map_err(doing("boot loaders"))
    }

    /// Writes the partition table: the backup, then the first, then the MBR.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_table(&self, disk: &mut (impl Write + Seek)) -> Result<(), DiskError> {
        let sector = u64::from(self.layout.sector_size);
        // Entries of zeros replace what was there.
        let mut out = Output::new(disk, 0, self.layout.sector_size, false);
        if let Some(table) = &self.gpt {
            let (backup, primary) = (table.backup()?, table.primary()?);
            out.write(table.backup_sector() * sector, &backup)
                .and_then(|()| out.barrier())
                .map_err(doing("the backup of the partition table"))?;
            out.write(sector, &primary)
                .and_then(|()| out.barrier())
                .map_err(doing("the partition table"))?;
        }
        out.write_padded(0, &self.mbr.encode())
            .and_then(|()| out.finish())
            .map_err(doing("the first sector"))
    }

    fn output<'o, W: Write + Seek>(&self, disk: &'o mut W) -> Output<'o, W> {
        let skip_zeros = self.layout.existing == Existing::Zeros;
        Output::new(disk, 0, self.layout.sector_size, skip_zeros)
    }

    fn clear_ends<W: Write + Seek>(&self, disk: &mut W, range: Range<u64>) -> io::Result<()> {
        let mut out = self.output(disk);
        let len = (range.end - range.start).min(CLEARED);
        out.zero(range.start..range.start + len)?;
        out.zero((range.end - len).max(range.start + len)..range.end)?;
        out.finish()
    }
}
