//! Where everything goes.

mod table;

use std::collections::BTreeSet;

use lycia_media::partition::gpt;

use super::{
    ALIGNMENT, Action, Draft, Lost, LostWhole, MINIMUM_ROOT, Partition, PlanError, Region, Role, SCHEMA,
    TableChange, Target,
};
use crate::answers::{self, Layout};
use crate::device::Span;
use crate::found::{self, EDGE, Found, Table};
use crate::journal::REACH;
use crate::probe::Disk;

const MIB: u64 = 1 << 20;
const BIOS_BOOT_SIZE: u64 = MIB;
/// Bytes of the journal beside what it saves: two headers and the description.
const JOURNAL_HEAD: u64 = MIB;
/// Boundary of a copy in the journal.
const COPY_ALIGNMENT: u64 = 4096;
/// Bytes of a GPT's entries: 128 of 128, as UEFI asks for at least.
const ENTRIES: u64 = 128 * 128;

/// How the firmware may start the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ways {
    /// PC BIOS.
    pub bios: bool,
    /// UEFI.
    pub uefi: bool,
}

const fn down(value: u64) -> u64 {
    value / ALIGNMENT * ALIGNMENT
}

/// A range to lay new partitions into, aligned.
fn aligned(span: Span) -> Span {
    let start = span.start.next_multiple_of(ALIGNMENT);
    Span {
        start,
        size: down(span.end()).saturating_sub(start),
    }
}

/// Ranges between partitions in which new ones may lie.
fn free(table: &gpt::Table, size: u64, taken: &[Span]) -> Vec<Span> {
    let sector = u64::from(table.sector_size);
    // The backup moves to the end of a disk that has grown.
    let end = size / sector - 1 - table.entry_sectors();
    let mut at = table.first_usable * sector;
    let mut sorted = taken.to_vec();
    sorted.sort();
    let mut out = Vec::new();
    for span in sorted.into_iter().chain([Span {
        start: end * sector,
        size: 0,
    }]) {
        if span.start > at {
            out.push(aligned(Span {
                start: at,
                size: span.start - at,
            }));
        }
        at = at.max(span.end());
    }
    out.retain(|span| span.size > 0);
    out
}

/// Joins ranges that touch.
fn joined(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort();
    let mut out: Vec<Span> = Vec::new();
    for span in spans {
        match out.last_mut() {
            Some(last) if span.start <= last.end() => last.size = last.end().max(span.end()) - last.start,
            _ => out.push(span),
        }
    }
    out
}

/// Bytes of the journal that saves these ranges, each on a boundary of its own.
fn journal_size(saved: &[Span]) -> u64 {
    let copies = saved
        .iter()
        .map(|span| span.size.next_multiple_of(COPY_ALIGNMENT));
    (JOURNAL_HEAD + copies.sum::<u64>()).next_multiple_of(MIB)
}

/// The last place in a range, from `lowest` on, where the journal lies on nothing that it saves.
fn journal_place(within: Span, lowest: u64, saved: &[Span]) -> Option<Span> {
    let size = journal_size(saved);
    let mut start = down(within.end().saturating_sub(MIB + size));
    while start >= lowest.max(within.start) {
        let journal = Span { start, size };
        if within.contains(journal) && !saved.iter().any(|saved| saved.overlaps(journal)) {
            return Some(journal);
        }
        start = start.checked_sub(MIB)?;
    }
    None
}

struct Planner<'a> {
    disk: &'a Disk,
    found: &'a Found,
    size: u64,
    sector: u64,
    regions: Vec<Region>,
    partitions: Vec<Partition>,
    lost: Vec<Lost>,
    /// Whether the root is encrypted.
    encrypted: bool,
    /// What happens to the root.
    root_action: Action,
    /// What is saved beside tables and headers.
    structures: Vec<Span>,
}

impl Planner<'_> {
    fn unfit(&self, what: impl Into<String>) -> PlanError {
        PlanError::Unfit {
            path: self.disk.path.clone(),
            what: what.into(),
        }
    }

    fn put(&mut self, start: u64, end: u64, purpose: &str, action: Action, partition: Option<u32>) {
        if end > start {
            self.regions.push(Region {
                span: Span {
                    start,
                    size: end - start,
                },
                purpose: purpose.to_owned(),
                action,
                partition,
            });
        }
    }

    fn lose(&mut self, numbers: impl Fn(u32) -> bool) {
        for old in self.found.partitions.iter().filter(|old| numbers(old.number)) {
            self.lost.push(Lost {
                number: old.number,
                span: old.span,
                name: old.name.clone(),
                file_system: old.file_system.clone(),
                label: old.label.clone(),
                system: None,
            });
        }
    }

    fn keep(&mut self, home: Option<u32>, esp: Option<u32>) {
        let lost: BTreeSet<u32> = self.lost.iter().map(|lost| lost.number).collect();
        for old in self
            .found
            .partitions
            .iter()
            // An extended partition is nothing beside what is in it.
            .filter(|old| !lost.contains(&old.number) && !old.is_extended())
        {
            let role = match old.number {
                number if home == Some(number) => Role::Home,
                number if esp == Some(number) => Role::SharedEsp,
                _ => Role::Other,
            };
            self.partitions.push(Partition {
                number: old.number,
                role,
                span: old.span,
                existing: true,
                uuid: old.uuid.clone(),
                file_system: old.file_system.clone(),
            });
        }
    }

    /// Lets files be added to the EFI system partition `number`.
    fn share(&mut self, number: Option<u32>) -> Result<(), PlanError> {
        let Some(number) = number else { return Ok(()) };
        let Some(old) = self.found.partitions.iter().find(|old| old.number == number) else {
            return Err(self.unfit(format!(
                "there is no partition {number} to keep as EFI system partition"
            )));
        };
        refuse_used(self.disk, number, self)?;
        match &old.esp {
            None => Err(self.unfit(format!(
                "partition {number} is no EFI system partition of a GPT with a FAT file system: leave `esp` out to make a new one"
            ))),
            Some(Err(why)) => Err(self.unfit(format!("the EFI system partition {number} cannot be shared: {why}"))),
            Some(Ok(esp)) => {
                self.structures.extend(&esp.saved);
                let span = old.span;
                self.put(span.start, span.end(), "EFI system partition", Action::FatInsert, Some(number));
                Ok(())
            }
        }
    }

    /// What the journal copies before anything else is written.
    fn saved(&self, table: bool) -> Vec<Span> {
        let mut spans = Vec::new();
        if table {
            let edge = EDGE.min(self.disk.size);
            spans.push(Span { start: 0, size: edge });
            // To the last whole sector; a rest that no sector holds cannot be written.
            let tail = self.size.saturating_sub(edge);
            spans.push(Span {
                start: tail,
                size: self.size - tail,
            });
        }
        for lost in &self.lost {
            let edge = EDGE.min(lost.span.size);
            spans.push(Span {
                start: lost.span.start,
                size: edge,
            });
            spans.push(Span {
                start: lost.span.end() - edge,
                size: edge,
            });
        }
        // A chain of logical partitions goes with what holds it.
        let goes = |link: &&Span| self.lost.iter().any(|lost| lost.span.contains(**link));
        spans.extend(self.found.chain.iter().filter(goes));
        spans.extend(&self.structures);
        joined(spans)
    }

    /// Bytes of the smallest root.
    fn least_root(&self) -> u64 {
        MINIMUM_ROOT
            + if self.encrypted {
                lycia_luks::DATA_OFFSET
            } else {
                0
            }
    }

    /// The file system of the root, inside of its volume.
    fn formatted(&mut self, number: u32, start: u64, end: u64) {
        if self.encrypted {
            let data = start + lycia_luks::DATA_OFFSET;
            self.put(
                start,
                data,
                "encryption of root",
                Action::LuksHeader,
                Some(number),
            );
            self.put(data, end, "root, encrypted", self.root_action, Some(number));
        } else {
            self.put(start, end, "root", self.root_action, Some(number));
        }
    }

    /// Whether an interrupted run finds its journal: below the disk's end, or a place that the old table knows until the last step.
    fn found_again(&self, journal: Span) -> bool {
        let chain = &self.found.chain;
        let chain_goes = self
            .lost
            .iter()
            .any(|lost| chain.iter().any(|link| lost.span.contains(*link)));
        let known = |one: &&found::Partition| one.mbr_kind.is_none() || one.number < 5 || !chain_goes;
        let partitions = self.found.partitions.iter().filter(known);
        let mut ends = partitions
            .flat_map(|one| [one.span.start, one.span.end()])
            .chain([self.disk.size]);
        let place = journal.start / MIB;
        ends.any(|end| (end / MIB).saturating_sub(REACH) <= place && place <= end / MIB)
    }

    /// The root with the journal behind its file system, in the last part of `span` that holds nothing to be saved; `beyond`
    /// is free space behind the root, where the journal goes if it fits.
    fn root(&mut self, number: u32, span: Span, beyond: Span, saved: &[Span]) -> Result<(), PlanError> {
        let size = journal_size(saved);
        let place = |within: Span, lowest: u64| journal_place(within, lowest, saved);
        let lost = || {
            self.unfit(
                "it has so many old partitions at its end, whose headers are saved, that an interrupted installation would not be found again: \
                 delete them first",
            )
        };
        if let Some(journal) = place(beyond, 0) {
            if !self.found_again(journal) {
                return Err(lost());
            }
            self.formatted(number, span.start, span.end());
            self.put(journal.start, journal.end(), "journal", Action::Journal, None);
            return Ok(());
        }
        let Some(journal) = place(span, span.start + self.least_root()) else {
            return Err(PlanError::TooSmall {
                place: format!("the place for the root on {}", self.disk.path),
                size: span.size,
                needed: self.least_root() + size + 2 * MIB,
            });
        };
        if !self.found_again(journal) {
            return Err(lost());
        }
        self.formatted(number, span.start, journal.start);
        self.put(
            journal.start,
            journal.end(),
            "journal",
            Action::Journal,
            Some(number),
        );
        // Labels of RAID and ZFS at the very end of what was there must not be found any more.
        self.put(
            span.end() - MIB,
            span.end(),
            "end of root",
            Action::Zero,
            Some(number),
        );
        Ok(())
    }

    /// New partitions in `extent`, one after the other.
    fn fill(
        &mut self,
        extent: Span,
        wanted: &answers::Disk,
        ways: Ways,
        place: &str,
    ) -> Result<(), PlanError> {
        let mut sizes = Vec::new();
        if ways.uefi && wanted.esp.is_none() {
            sizes.push((
                Role::Esp,
                wanted.esp_size.next_multiple_of(ALIGNMENT),
                Action::Fat32,
            ));
        }
        if ways.bios {
            sizes.push((Role::BiosBoot, BIOS_BOOT_SIZE, Action::BootLoader));
        }
        if let Some(size) = wanted.swap_size {
            sizes.push((Role::Swap, size.next_multiple_of(ALIGNMENT), Action::Swap));
        }
        if let Some(size) = wanted.boot_size {
            sizes.push((Role::Boot, size.next_multiple_of(ALIGNMENT), Action::BootExt4));
        }
        let before: u64 = sizes.iter().map(|(_, size, _)| *size).sum();
        let saved = self.saved(true);
        let journal = journal_size(&saved);
        let smallest = self.least_root() + journal + 2 * MIB;
        if let Some(size) = wanted.root_size.filter(|&size| size < smallest) {
            return Err(PlanError::TooSmall {
                place: "disk.root-size".to_owned(),
                size,
                needed: smallest,
            });
        }
        let least = wanted.root_size.unwrap_or(smallest);
        let needed = before + least;
        if extent.size < needed {
            return Err(PlanError::TooSmall {
                place: place.to_owned(),
                size: extent.size,
                needed,
            });
        }
        let mut taken: BTreeSet<u32> = self.partitions.iter().map(|partition| partition.number).collect();
        let mut number = || {
            let free = (1..=128).find(|number| !taken.contains(number));
            free.inspect(|&free| {
                taken.insert(free);
            })
        };
        let mut at = extent.start;
        let none_left = "its table has no place for another partition";
        let mut made = Vec::new();
        for (role, size, action) in sizes {
            let number = number().ok_or_else(|| self.unfit(none_left))?;
            made.push((number, role, Span { start: at, size }, Some(action)));
            at += size;
        }
        let number = number().ok_or_else(|| self.unfit(none_left))?;
        let root_size = wanted.root_size.map_or(extent.end() - at, |size| {
            size.next_multiple_of(ALIGNMENT).min(extent.end() - at)
        });
        made.push((
            number,
            Role::Root,
            Span {
                start: at,
                size: root_size,
            },
            None,
        ));
        for (number, role, span, action) in made {
            self.partitions.push(Partition {
                number,
                role,
                span,
                existing: false,
                uuid: None,
                file_system: None,
            });
            if let (Some(action), Some((_, _, purpose))) = (action, role.description()) {
                self.put(span.start, span.end(), purpose, action, Some(number));
            }
        }
        let root = Span {
            start: at,
            size: root_size,
        };
        let beyond = Span {
            start: root.end(),
            size: extent.end() - root.end(),
        };
        self.root(number, root, beyond, &saved)
    }

    fn tables(&mut self, entry_sectors: u64, zero_unused: Option<u64>) {
        let sector = self.sector;
        let entries = entry_sectors * sector;
        let boots = self.regions.iter().any(|one| one.action == Action::BootLoader);
        let first = if boots {
            "protective MBR and boot code"
        } else {
            "protective MBR"
        };
        self.put(0, sector, first, Action::Table, None);
        self.put(sector, 2 * sector, "GPT header", Action::Table, None);
        self.put(
            2 * sector,
            2 * sector + entries,
            "GPT entries",
            Action::Table,
            None,
        );
        let backup = self.size - sector - entries;
        if let Some(end) = zero_unused {
            self.put(2 * sector + entries, ALIGNMENT, "unused", Action::Zero, None);
            self.put(end, backup, "unused", Action::Zero, None);
        }
        self.put(
            backup,
            self.size - sector,
            "backup GPT entries",
            Action::Table,
            None,
        );
        self.put(
            self.size - sector,
            self.size,
            "backup GPT header",
            Action::Table,
            None,
        );
    }

    fn finish(mut self, layout: &'static str, table: TableChange) -> Draft {
        self.regions.sort_by_key(|region| region.span);
        // What nobody claimed is kept; partitions that are kept are named.
        let mut whole = Vec::new();
        let mut kept: Vec<&Partition> = self.partitions.iter().filter(|one| one.existing).collect();
        kept.sort_by_key(|one| one.span);
        let mut at = 0;
        let fill = |whole: &mut Vec<Region>, mut from: u64, to: u64| {
            while from < to {
                let inside = kept
                    .iter()
                    .find(|one| one.span.start <= from && from < one.span.end());
                let next = kept.iter().map(|one| one.span.start).find(|&start| start > from);
                let end = inside.map_or(next.unwrap_or(to), |one| one.span.end()).min(to);
                whole.push(Region {
                    span: Span {
                        start: from,
                        size: end - from,
                    },
                    purpose: inside.map_or_else(
                        || "unused".to_owned(),
                        |one| match one.role {
                            Role::Home => "home".to_owned(),
                            _ => format!("partition {}", one.number),
                        },
                    ),
                    action: Action::Keep,
                    partition: inside.map(|one| one.number),
                });
                from = end;
            }
        };
        for region in &self.regions {
            fill(&mut whole, at, region.span.start);
            at = region.span.end();
            whole.push(region.clone());
        }
        fill(&mut whole, at, self.size);
        let head = self.regions.iter().any(|region| region.span.start == 0);
        let saved = self.saved(head);
        self.partitions.sort_by_key(|one| one.number);
        let disk = self.disk;
        Draft {
            schema: SCHEMA,
            layout,
            disk: Target {
                path: disk.path.clone(),
                model: disk.model.clone(),
                serial: disk.serial.clone(),
                by_id: disk.by_id.clone(),
                size: disk.size,
                logical_sector: disk.logical_sector,
                physical_sector: disk.physical_sector,
                table: self.found.table.name(),
                digest: self.found.digest.clone(),
            },
            table,
            lost: self.lost,
            // Whatever is laid out on a disk without a table gets a new one.
            lost_whole: self.found.whole.as_ref().map(|whole| LostWhole {
                file_system: whole.kind.clone(),
                label: whole.label.clone(),
                system: None,
            }),
            partitions: self.partitions,
            regions: whole,
            saved,
            fallback: false,
            folder: String::new(),
            system: None,
        }
    }
}

/// Lays a system out on a disk as `wanted` says.
///
/// # Errors
/// When the disk is not offered or the layout does not fit it.
pub fn lay_out(disk: &Disk, found: &Found, wanted: &answers::Disk, ways: Ways) -> Result<Draft, PlanError> {
    if !disk.offered() {
        return Err(PlanError::Refused {
            path: disk.path.clone(),
            why: disk.refused.clone(),
        });
    }
    let sector = u64::from(disk.logical_sector);
    if !matches!(sector, 512 | 4096) {
        return Err(PlanError::Sector {
            path: disk.path.clone(),
            sector: disk.logical_sector,
        });
    }
    // PC BIOSes and GRUB for them count in sectors of 512 bytes.
    let ways = Ways {
        bios: ways.bios && sector == 512,
        ..ways
    };
    let mut planner = Planner {
        disk,
        found,
        // A size that is no multiple of the sector size leaves bytes at the end that no sector holds.
        size: disk.size / sector * sector,
        sector,
        regions: Vec::new(),
        partitions: Vec::new(),
        lost: Vec::new(),
        encrypted: wanted.encryption.is_some(),
        root_action: wanted.file_system.kind.action(),
        structures: Vec::new(),
    };
    if !ways.bios && !ways.uefi {
        return Err(planner.unfit(
            "a PC BIOS cannot start from a disk with sectors of 4096 bytes; switch the firmware to UEFI",
        ));
    }
    match &wanted.layout {
        Layout::Erase => {
            planner.lose(|_| true);
            let entry_sectors = ENTRIES.div_ceil(sector);
            let end = down(planner.size.saturating_sub((1 + entry_sectors) * sector));
            let extent = Span {
                start: ALIGNMENT,
                size: end.saturating_sub(ALIGNMENT),
            };
            planner.fill(extent, wanted, ways, &disk.path)?;
            planner.tables(entry_sectors, Some(end));
            Ok(planner.finish("erase", TableChange::New))
        }
        Layout::Alongside | Layout::Replace(_) => {
            let Table::Gpt(table) = &found.table else {
                return Err(planner.unfit(format!(
                    "its table is `{}`; partitions can be added to a GPT only. Erase the disk, or prepare partitions and use the layout `partitions`",
                    found.table.name()
                )));
            };
            let gone = match &wanted.layout {
                Layout::Replace(numbers) => numbers.clone(),
                _ => BTreeSet::new(),
            };
            for number in &gone {
                if !found.partitions.iter().any(|old| old.number == *number) {
                    return Err(planner.unfit(format!("there is no partition {number} to replace")));
                }
                refuse_used(disk, *number, &planner)?;
            }
            planner.lose(|number| gone.contains(&number));
            planner.keep(wanted.home, wanted.esp);
            check_home(&planner, wanted.home)?;
            planner.share(wanted.esp)?;
            let taken: Vec<Span> = planner.partitions.iter().map(|one| one.span).collect();
            let old: Vec<Span> = planner.lost.iter().map(|lost| lost.span).collect();
            let mut extents = free(table, planner.size, &taken);
            if !gone.is_empty() {
                extents.retain(|extent| old.iter().any(|old| old.overlaps(*extent)));
            }
            let Some(extent) = extents
                .into_iter()
                .max_by_key(|extent| (extent.size, std::cmp::Reverse(extent.start)))
            else {
                return Err(planner.unfit("there is no free space; make some, or name partitions to replace"));
            };
            let place = format!("the free range from byte {} of {}", extent.start, disk.path);
            planner.fill(extent, wanted, ways, &place)?;
            planner.tables(table.entry_sectors(), None);
            Ok(planner.finish(wanted.layout.name(), TableChange::Edited))
        }
        Layout::Partitions {
            root,
            esp,
            bios_boot,
            swap,
            boot,
        } => {
            let roles = [
                (Role::Root, Some(*root)),
                (Role::Esp, *esp),
                (Role::BiosBoot, *bios_boot),
                (Role::Swap, *swap),
                (Role::Boot, *boot),
            ];
            let given: Vec<(Role, u32)> = roles
                .iter()
                .filter_map(|(role, number)| Some((*role, (*number)?)))
                .collect();
            for (_, number) in &given {
                let Some(old) = found.partitions.iter().find(|old| old.number == *number) else {
                    return Err(planner.unfit(format!("there is no partition {number}")));
                };
                refuse_used(disk, *number, &planner)?;
                refuse_chain(old, &planner)?;
            }
            if bios_boot.is_some() && sector != 512 {
                return Err(planner.unfit(NO_BIOS));
            }
            if esp.is_none() && bios_boot.is_none() && wanted.esp.is_none() {
                return Err(planner
                    .unfit("name a partition for `esp` or `bios-boot`, or nothing could start the system"));
            }
            planner.lose(|number| given.iter().any(|(_, given)| *given == number));
            planner.keep(wanted.home, wanted.esp);
            check_home(&planner, wanted.home)?;
            planner.share(wanted.esp)?;
            let saved = planner.saved(bios_boot.is_some());
            if bios_boot.is_some() {
                planner.put(0, sector, "boot sector", Action::BootSector, None);
            }
            for (role, number) in given {
                let Some(old) = found.partitions.iter().find(|old| old.number == number) else {
                    continue;
                };
                let span = Span {
                    start: old.span.start,
                    size: old.span.size / sector * sector,
                };
                planner.partitions.push(Partition {
                    number,
                    role,
                    span: old.span,
                    existing: true,
                    uuid: None,
                    file_system: None,
                });
                let (action, least) = match role {
                    Role::Esp => (Action::Fat32, 33 * MIB),
                    Role::BiosBoot => (Action::BootLoader, 512 * 1024),
                    Role::Boot => (Action::BootExt4, 64 * MIB),
                    _ => (Action::Swap, MIB),
                };
                if role == Role::Root {
                    planner.root(
                        number,
                        span,
                        Span {
                            start: span.end(),
                            size: 0,
                        },
                        &saved,
                    )?;
                } else if span.size < least {
                    return Err(PlanError::TooSmall {
                        place: format!("partition {number} of {}", disk.path),
                        size: span.size,
                        needed: least,
                    });
                } else if let Some((_, _, purpose)) = role.description() {
                    planner.put(span.start, span.end(), purpose, action, Some(number));
                }
            }
            Ok(planner.finish("partitions", TableChange::Kept))
        }
        Layout::Table(edited) => planner.table(edited, wanted),
        Layout::Directory(_) => Err(planner.unfit("a directory has no disk to lay out")),
    }
}

/// Why there is no BIOS boot partition where sectors have 4096 bytes.
const NO_BIOS: &str = "a PC BIOS cannot start from a disk with sectors of 4096 bytes: leave `bios-boot` out";

fn refuse_used(disk: &Disk, number: u32, planner: &Planner<'_>) -> Result<(), PlanError> {
    let used = disk
        .partitions
        .iter()
        .find(|partition| partition.number == number)
        .map(|partition| partition.used.join(", "))
        .filter(|used| !used.is_empty());
    match used {
        Some(used) => Err(planner.unfit(format!("partition {number} is in use: {used}"))),
        None => Ok(()),
    }
}

/// File systems that a `/home` that is kept may have.
const HOMES: [&str; 6] = ["ext4", "ext3", "ext2", "xfs", "btrfs", "f2fs"];

/// Refuses to write over the chain of logical partitions, in a table that is kept.
fn refuse_chain(old: &found::Partition, planner: &Planner<'_>) -> Result<(), PlanError> {
    let number = old.number;
    if old.is_extended() {
        return Err(planner.unfit(format!(
            "partition {number} is an extended one: name a logical partition in it (5 or higher), or erase the disk"
        )));
    }
    if planner.found.chain.iter().any(|link| link.overlaps(old.span)) {
        return Err(planner.unfit(format!(
            "partition {number} lies over the records of other logical partitions, which would be lost: repair the table, or erase the disk"
        )));
    }
    Ok(())
}

fn check_home(planner: &Planner<'_>, home: Option<u32>) -> Result<(), PlanError> {
    let Some(number) = home else { return Ok(()) };
    match planner.found.partitions.iter().find(|old| old.number == number) {
        None => Err(planner.unfit(format!("there is no partition {number} to keep as /home"))),
        Some(old) => {
            let kind = old.file_system.as_deref().unwrap_or("nothing that is known");
            if old.uuid.is_some() && HOMES.contains(&kind) {
                return Ok(());
            }
            Err(planner.unfit(format!(
                "partition {number} holds {kind}, which cannot be kept as /home: that has owners and modes ({})",
                HOMES.join(", ")
            )))
        }
    }
}
