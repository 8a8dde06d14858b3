//! Giving every part of a layout its place.

use std::ops::Range;

use super::{Content, DiskError, Layout, Partition, Size, Table};
use crate::ext4;
use crate::partition::gpt;
use crate::partition::mbr::{CODE_LEN, KIND_PROTECTIVE, Mbr, Record};

/// A partition with its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Placed {
    /// Its number.
    pub number: u32,
    /// Its index in [`Layout::partitions`].
    pub index: usize,
    /// Its sectors.
    pub sectors: Range<u64>,
    /// Its bytes.
    pub bytes: Range<u64>,
}

/// A disk laid out. Every part has its place, and no two share any.
pub struct Plan<'l> {
    pub(super) layout: &'l Layout<'l>,
    pub(super) size: u64,
    pub(super) placed: Vec<Placed>,
    pub(super) gpt: Option<gpt::Table>,
    pub(super) mbr: Mbr,
    /// ext4 volumes by partition, laid out.
    pub(super) ext4: Vec<Option<ext4::Plan<'l>>>,
}

fn refuse(number: u32, partition: &Partition<'_>, reason: String) -> DiskError {
    DiskError::Partition {
        number,
        name: partition.name.clone(),
        reason,
    }
}

impl<'l> Plan<'l> {
    /// Lays everything out, ext4 volumes too: what does not fit is found here and not while writing. Whether a FAT
    /// volume's files fit shows when it is written.
    ///
    /// # Errors
    /// When anything does not fit, overlaps, or is no setting of the format.
    pub fn new(layout: &'l Layout<'l>) -> Result<Plan<'l>, DiskError> {
        check(layout)?;
        let numbers = numbers(layout)?;
        let sector = u64::from(layout.sector_size);
        let is_gpt = layout.table != Table::Mbr;
        // As large as can be while places are given, then what they took.
        let mut table = gpt::Table::new(layout.guid, layout.sector_size, u64::MAX / sector / 2);
        if let Some(first) = layout.first_usable {
            table.first_usable = first;
        }
        if let Some(size) = layout.size {
            table.sectors = size / sector;
        }
        let first = if is_gpt {
            table.first_usable
        } else {
            layout.first_usable.unwrap_or(1).max(1)
        };
        let end = match (layout.size, is_gpt) {
            (Some(_), true) => table.last_usable() + 1,
            (Some(size), false) => (size / sector).min(u64::from(u32::MAX)),
            (None, _) => u64::MAX / sector / 4,
        };
        let placed = place(layout, &numbers, first..end)?;
        let used = placed
            .iter()
            .map(|placed| placed.bytes.end)
            .chain(
                layout
                    .raw
                    .iter()
                    .map(|raw| raw.offset.saturating_add(raw.room.unwrap_or(raw.bytes.len()))),
            )
            .max()
            .unwrap_or(0);
        let size = match layout.size {
            Some(size) => size,
            None => {
                let backup = if is_gpt {
                    (1 + table.entry_sectors()) * sector
                } else {
                    0
                };
                used.max(first * sector)
                    .checked_add(backup)
                    .and_then(|size| size.checked_next_multiple_of(layout.alignment))
                    .ok_or_else(|| DiskError::Setting("its parts need more than 2^64 bytes".to_owned()))?
            }
        };
        table.sectors = size / sector;
        table.partitions = placed
            .iter()
            .map(|placed| {
                let partition = &layout.partitions[placed.index];
                gpt::Partition {
                    number: placed.number,
                    kind: partition.kind,
                    guid: partition.guid,
                    first: placed.sectors.start,
                    last: placed.sectors.end - 1,
                    attributes: partition.attributes,
                    name: partition.name.clone(),
                }
            })
            .collect();
        table.partitions.sort_by_key(|partition| partition.number);
        if is_gpt {
            table.check()?;
        }
        let mbr = mbr(layout, &placed, size / sector)?;
        let mut plan = Plan {
            layout,
            size,
            placed,
            gpt: is_gpt.then_some(table),
            mbr,
            ext4: Vec::new(),
        };
        plan.check_raw()?;
        plan.lay_volumes_out()?;
        Ok(plan)
    }

    /// Bytes of the disk.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The partitions, in the order of the layout.
    pub fn partitions(&self) -> &[Placed] {
        &self.placed
    }

    /// The GPT, where there is one.
    pub fn gpt(&self) -> Option<&gpt::Table> {
        self.gpt.as_ref()
    }

    /// The first sector.
    pub fn mbr(&self) -> &Mbr {
        &self.mbr
    }

    /// Bytes with a fixed place must not lie on the table or, unless it holds nothing of ours, a partition.
    fn check_raw(&self) -> Result<(), DiskError> {
        let sector = u64::from(self.layout.sector_size);
        let mut taken: Vec<(Range<u64>, String)> = vec![(0..sector, "the partition table".to_owned())];
        if let Some(table) = &self.gpt {
            taken[0].0.end = table.least_first_usable() * sector;
            taken.push((
                table.backup_sector() * sector..table.sectors * sector,
                "the backup of the partition table".to_owned(),
            ));
        }
        for placed in &self.placed {
            let partition = &self.layout.partitions[placed.index];
            // Boot loaders have partitions around them, so that nothing else takes their place.
            if !matches!(partition.content, Content::Empty | Content::Keep) {
                taken.push((placed.bytes.clone(), format!("partition {}", placed.number)));
            }
        }
        for raw in &self.layout.raw {
            let refuse = |reason: String| DiskError::Raw {
                name: raw.name.to_owned(),
                offset: raw.offset,
                reason,
            };
            let len = raw.bytes.len();
            if raw.room.is_some_and(|room| len > room) {
                let room = raw.room.unwrap_or(0);
                return Err(refuse(format!("it has {len} bytes and there is room for {room}")));
            }
            let range = raw.offset..raw.offset.saturating_add(raw.room.unwrap_or(len));
            if range.end > self.size {
                return Err(refuse(format!(
                    "{len} bytes do not fit on a disk of {}",
                    self.size
                )));
            }
            if let Some((_, other)) = taken
                .iter()
                .find(|(other, _)| other.start < range.end && range.start < other.end)
            {
                return Err(refuse(format!("its {len} bytes would lie on {other}")));
            }
            taken.push((range, raw.name.to_owned()));
        }
        Ok(())
    }

    fn lay_volumes_out(&mut self) -> Result<(), DiskError> {
        for placed in &self.placed {
            let partition = &self.layout.partitions[placed.index];
            let len = placed.bytes.end - placed.bytes.start;
            let mut laid_out = None;
            match &partition.content {
                Content::Bytes(bytes) if bytes.len() > len => {
                    return Err(refuse(
                        placed.number,
                        partition,
                        format!("{} bytes are to be written to {len}", bytes.len()),
                    ));
                }
                Content::Ext4 { tree, volume } => {
                    let volume = ext4::Volume {
                        size: len,
                        sector_size: self.layout.sector_size,
                        existing: self.layout.existing,
                        ..volume.clone()
                    };
                    let plan = ext4::Plan::new(tree, &volume).map_err(|source| DiskError::Ext4 {
                        number: placed.number,
                        name: partition.name.clone(),
                        source,
                    })?;
                    laid_out = Some(plan);
                }
                _ => {}
            }
            self.ext4.push(laid_out);
        }
        Ok(())
    }
}

fn check(layout: &Layout<'_>) -> Result<(), DiskError> {
    let setting = |reason: String| Err(DiskError::Setting(reason));
    let sector = u64::from(layout.sector_size);
    if !matches!(sector, 512 | 4096) {
        return setting(format!("sectors have 512 or 4096 bytes, not {sector}"));
    }
    if !layout.alignment.is_power_of_two() || layout.alignment < sector || layout.alignment > 1 << 40 {
        return setting(format!(
            "an alignment of {} bytes is no power of two from a sector to 1 TiB",
            layout.alignment
        ));
    }
    if let Some(size) = layout.size
        && (size == 0 || !size.is_multiple_of(sector) || size > u64::MAX / 4)
    {
        return setting(format!(
            "a size of {size} bytes is no number of whole sectors of {sector}"
        ));
    }
    if layout.boot_code.len() > CODE_LEN {
        return setting(format!(
            "{} bytes of boot code do not fit into {CODE_LEN}",
            layout.boot_code.len()
        ));
    }
    if layout.table == Table::Mbr && layout.partitions.len() > 4 {
        return setting(format!(
            "an MBR has 4 places for {} partitions",
            layout.partitions.len()
        ));
    }
    Ok(())
}

/// The numbers of the partitions: those given, and the first that are free.
fn numbers(layout: &Layout<'_>) -> Result<Vec<u32>, DiskError> {
    let most = if layout.table == Table::Mbr { 4 } else { 128 };
    let mut taken = vec![false; most as usize + 1];
    taken[0] = true;
    for partition in &layout.partitions {
        if let Some(number) = partition.number {
            match taken.get_mut(number as usize) {
                Some(taken) if !*taken => *taken = true,
                _ => {
                    return Err(refuse(
                        number,
                        partition,
                        format!("the number is taken or not from 1 to {most}"),
                    ));
                }
            }
        }
    }
    let mut numbers = Vec::new();
    for partition in &layout.partitions {
        let number = match partition.number {
            Some(number) => number,
            None => {
                let free = taken
                    .iter()
                    .position(|taken| !taken)
                    .ok_or_else(|| DiskError::Setting(format!("more than {most} partitions")))?;
                taken[free] = true;
                free as u32
            }
        };
        numbers.push(number);
    }
    Ok(numbers)
}

/// Places the partitions within the sectors `usable`.
fn place(layout: &Layout<'_>, numbers: &[u32], usable: Range<u64>) -> Result<Vec<Placed>, DiskError> {
    let sector = u64::from(layout.sector_size);
    let align = layout.alignment / sector;
    // Fixed places first: what takes the rest ends before the next of these.
    let mut fixed: Vec<u64> = Vec::new();
    for (partition, &number) in layout.partitions.iter().zip(numbers) {
        if let Some(start) = partition.start {
            if !start.is_multiple_of(sector) {
                let reason = format!("it would begin at byte {start}, inside a sector of {sector}");
                return Err(refuse(number, partition, reason));
            }
            fixed.push(start / sector);
        }
    }
    fixed.sort_unstable();
    let mut placed = Vec::new();
    let mut next = usable.start;
    for (index, (partition, &number)) in layout.partitions.iter().zip(numbers).enumerate() {
        let start = match partition.start {
            Some(start) => start / sector,
            None => next.next_multiple_of(align),
        };
        let limit = fixed
            .iter()
            .copied()
            .find(|&other| other > start)
            .unwrap_or(usable.end);
        let end = match partition.size {
            Size::Bytes(0) => return Err(refuse(number, partition, "a size of 0 bytes".to_owned())),
            Size::Bytes(bytes) => start.saturating_add(bytes.div_ceil(sector)),
            Size::Rest if limit == usable.end && layout.size.is_none() => {
                return Err(refuse(
                    number,
                    partition,
                    "it takes the rest of a disk that has no size".to_owned(),
                ));
            }
            Size::Rest if limit == usable.end => limit / align * align,
            Size::Rest => limit,
        };
        if start < usable.start || end > usable.end || start >= end {
            return Err(refuse(
                number,
                partition,
                format!(
                    "sectors {start} to {end} of {sector} bytes do not lie within {} to {}: \
                     the disk is too small or what comes before too large",
                    usable.start, usable.end
                ),
            ));
        }
        placed.push(Placed {
            number,
            index,
            sectors: start..end,
            bytes: start * sector..end * sector,
        });
        next = end;
    }
    let mut order: Vec<&Placed> = placed.iter().collect();
    order.sort_by_key(|placed| placed.sectors.start);
    for pair in order.windows(2) {
        if pair[0].sectors.end > pair[1].sectors.start {
            let partition = &layout.partitions[pair[1].index];
            let reason = format!("it shares sectors with partition {}", pair[0].number);
            return Err(refuse(pair[1].number, partition, reason));
        }
    }
    Ok(placed)
}

fn mbr(layout: &Layout<'_>, placed: &[Placed], sectors: u64) -> Result<Mbr, DiskError> {
    let record = |placed: &Placed, kind: u8, active: bool| -> Result<Record, DiskError> {
        let partition = &layout.partitions[placed.index];
        let fit = |value: u64| {
            u32::try_from(value).map_err(|_| {
                refuse(
                    placed.number,
                    partition,
                    "it lies beyond what an MBR addresses".to_owned(),
                )
            })
        };
        fit(placed.sectors.end)?;
        Ok(Record {
            active,
            kind,
            first: fit(placed.sectors.start)?,
            sectors: fit(placed.sectors.end - placed.sectors.start)?,
        })
    };
    let mut mbr = match &layout.table {
        Table::Gpt { active_placeholder } => {
            let mut mbr = Mbr::protective(sectors);
            if *active_placeholder {
                mbr.add_active_placeholder();
            }
            mbr
        }
        Table::Hybrid(shown) => {
            if shown.is_empty() || shown.len() > 3 {
                return Err(DiskError::Setting(format!(
                    "a hybrid MBR shows 1 to 3 partitions, not {}",
                    shown.len()
                )));
            }
            let mut mbr = Mbr::new();
            let mut lowest = u64::MAX;
            for (slot, shown) in mbr.records[1..].iter_mut().zip(shown) {
                let placed = placed
                    .iter()
                    .find(|placed| placed.number == shown.number)
                    .ok_or_else(|| {
                        DiskError::Setting(format!(
                            "the hybrid MBR shows partition {}, which is not there",
                            shown.number
                        ))
                    })?;
                lowest = lowest.min(placed.sectors.start);
                *slot = Some(record(placed, shown.kind, shown.active)?);
            }
            mbr.records[0] = Some(Record {
                active: false,
                kind: KIND_PROTECTIVE,
                first: 1,
                sectors: (lowest - 1) as u32,
            });
            mbr
        }
        Table::Mbr => {
            let mut mbr = Mbr::new();
            for placed in placed {
                let partition = &layout.partitions[placed.index];
                let record = record(placed, partition.mbr_kind, partition.active)?;
                mbr.records[placed.number as usize - 1] = Some(record);
            }
            mbr
        }
    };
    mbr.signature = layout.signature;
    mbr.code[..layout.boot_code.len()].copy_from_slice(layout.boot_code);
    mbr.check()
        .map_err(|error| DiskError::Setting(error.to_string()))?;
    Ok(mbr)
}
