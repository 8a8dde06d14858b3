//! The layout `table`: a table that people edited.

use std::collections::BTreeSet;

use super::{
    ENTRIES, MIB, Planner, aligned, check_home, down, free, journal_place, journal_size, refuse_used,
};
use crate::answers;
use crate::answers::table::{Edited, Place, Use};
use crate::device::Span;
use crate::found::Table;
use crate::plan::{ALIGNMENT, Action, Draft, Partition, PlanError, Role, TableChange};

impl Use {
    fn role(self) -> Role {
        match self {
            Use::Root => Role::Root,
            Use::Boot => Role::Boot,
            Use::Home => Role::NewHome,
            Use::Esp => Role::Esp,
            Use::BiosBoot => Role::BiosBoot,
            Use::Swap => Role::Swap,
        }
    }

    /// What happens to it; the root is a case of its own.
    fn action(self) -> Action {
        match self {
            Use::Root => Action::Ext4,
            Use::Boot => Action::BootExt4,
            Use::Home => Action::HomeExt4,
            Use::Esp => Action::Fat32,
            Use::BiosBoot => Action::BootLoader,
            Use::Swap => Action::Swap,
        }
    }
}

/// A partition that has its place.
struct Placed {
    wanted: Use,
    number: u32,
    /// As it is in the table.
    span: Span,
    existing: bool,
}

/// Takes `size` bytes, or all, out of the free ranges; `start` says where.
fn take(extents: &mut Vec<Span>, size: Option<u64>, start: Option<u64>) -> Option<Span> {
    let size = size.map(|size| size.next_multiple_of(ALIGNMENT));
    let at = match start {
        Some(start) => extents
            .iter()
            .position(|extent| extent.start <= start && start < extent.end())?,
        None => match size {
            Some(size) => extents.iter().position(|extent| extent.size >= size)?,
            None => {
                let largest = extents.iter().map(|extent| extent.size).max()?;
                extents.iter().position(|extent| extent.size == largest)?
            }
        },
    };
    let extent = extents[at];
    let from = start.unwrap_or(extent.start);
    let taken = Span {
        start: from,
        size: size.unwrap_or(extent.end() - from),
    };
    if taken.size == 0 || taken.end() > extent.end() {
        return None;
    }
    let rests = [
        Span {
            start: extent.start,
            size: from - extent.start,
        },
        Span {
            start: taken.end(),
            size: extent.end() - taken.end(),
        },
    ];
    extents.splice(at..=at, rests.into_iter().filter(|rest| rest.size > 0));
    Some(taken)
}

impl Planner<'_> {
    pub(super) fn table(mut self, edited: &Edited, wanted: &answers::Disk) -> Result<Draft, PlanError> {
        let sector = self.sector;
        if edited.has(Use::BiosBoot) && sector != 512 {
            return Err(self.unfit(super::NO_BIOS));
        }
        let entry_sectors = match (&self.found.table, edited.fresh) {
            (_, true) => ENTRIES.div_ceil(sector),
            (Table::Gpt(table), false) => table.entry_sectors(),
            (other, false) => {
                return Err(self.unfit(format!(
                    "its table is `{}`; only a GPT is edited. Make a new one (`new-table = true`): everything on the disk is lost then",
                    other.name()
                )));
            }
        };
        let end = down(self.size.saturating_sub((1 + entry_sectors) * sector));
        let there: BTreeSet<u32> = edited
            .used
            .iter()
            .filter_map(|(_, place)| match place {
                Place::There(number) => Some(*number),
                Place::New { .. } => None,
            })
            .collect();
        let uses = edited
            .used
            .iter()
            .filter(|(_, place)| matches!(place, Place::There(_)));
        if uses.count() != there.len() || !there.is_disjoint(&edited.delete) {
            return Err(self.unfit("a partition is used twice, or used and deleted"));
        }
        for number in edited.delete.iter().chain(&there) {
            if !self.found.partitions.iter().any(|old| old.number == *number) {
                return Err(self.unfit(format!("there is no partition {number}")));
            }
            refuse_used(self.disk, *number, &self)?;
        }
        let gone = |number: u32| edited.fresh || edited.delete.contains(&number);
        self.lose(|number| gone(number) || there.contains(&number));
        if !edited.fresh {
            self.keep(wanted.home, wanted.esp);
            check_home(&self, wanted.home)?;
            self.share(wanted.esp)?;
        }
        // Those that stay where they are are no free space.
        let taken: Vec<Span> = self
            .found
            .partitions
            .iter()
            .filter(|old| !gone(old.number))
            .map(|old| old.span)
            .collect();
        let mut extents = match (&self.found.table, edited.fresh) {
            (Table::Gpt(table), false) => free(table, self.size, &taken),
            _ => vec![aligned(Span {
                start: ALIGNMENT,
                size: end.saturating_sub(ALIGNMENT),
            })],
        };
        // An interrupted run is found again below places that the old table knows, and the disk's end: where free space ends.
        let ends: BTreeSet<u64> = extents.iter().map(|extent| extent.end()).collect();
        let saved = self.saved(true);
        let placed = self.placed(edited, &mut extents, journal_size(&saved) + 4 * MIB)?;
        let mut root = None;
        for one in placed {
            self.partitions.push(Partition {
                number: one.number,
                role: one.wanted.role(),
                span: one.span,
                existing: one.existing,
                uuid: None,
                file_system: None,
            });
            // A partition that is there may end within a sector of a larger kind.
            let span = Span {
                start: one.span.start,
                size: one.span.size / sector * sector,
            };
            if span.size < one.wanted.least() {
                return Err(PlanError::TooSmall {
                    place: format!(
                        "partition {} of {} ({})",
                        one.number,
                        self.disk.path,
                        one.wanted.word()
                    ),
                    size: span.size,
                    needed: one.wanted.least(),
                });
            }
            if one.wanted == Use::Root {
                root = Some((one.number, span));
            } else if let Some((_, _, purpose)) = one.wanted.role().description() {
                self.put(
                    span.start,
                    span.end(),
                    purpose,
                    one.wanted.action(),
                    Some(one.number),
                );
            }
        }
        let Some((number, span)) = root else {
            return Err(self.unfit("no partition becomes the root"));
        };
        let nothing = Span {
            start: span.end(),
            size: 0,
        };
        let beyond = extents
            .iter()
            .find(|extent| ends.contains(&extent.end()) && journal_place(**extent, 0, &saved).is_some());
        if beyond.is_none() && !there.contains(&number) && !ends.contains(&span.end()) {
            return Err(self.unfit(format!(
                "there is no place for the journal, without which an interrupted installation could not be finished: leave {} MiB free, or let the root end where the free space ends",
                (journal_size(&saved) + 4 * MIB) / MIB
            )));
        }
        self.root(number, span, beyond.copied().unwrap_or(nothing), &saved)?;
        self.tables(entry_sectors, edited.fresh.then_some(end));
        let change = if edited.fresh {
            TableChange::New
        } else {
            TableChange::Edited
        };
        Ok(self.finish("table", change))
    }

    /// Gives every partition its number and place: those with a start first, then those with a size in their order, last what takes the rest.
    ///
    /// What takes the rest, and is not the root, leaves `reserve` bytes for the journal.
    fn placed(
        &self,
        edited: &Edited,
        extents: &mut Vec<Span>,
        reserve: u64,
    ) -> Result<Vec<Placed>, PlanError> {
        let mut numbers: BTreeSet<u32> = match edited.fresh {
            true => BTreeSet::new(),
            false => self
                .found
                .partitions
                .iter()
                .map(|old| old.number)
                .filter(|number| !edited.delete.contains(number))
                .collect(),
        };
        let mut order: Vec<&(Use, Place)> = edited.used.iter().collect();
        order.sort_by_key(|(_, place)| match place {
            Place::There(_) => 0,
            Place::New { start: Some(_), .. } => 1,
            Place::New { size: Some(_), .. } => 2,
            Place::New { .. } => 3,
        });
        let mut placed = Vec::new();
        for (wanted, place) in order {
            let (number, span) = match *place {
                Place::There(number) => {
                    let Some(old) = self.found.partitions.iter().find(|old| old.number == number) else {
                        continue;
                    };
                    (Some(number), old.span)
                }
                Place::New { size, start } => {
                    let room: Vec<String> = extents
                        .iter()
                        .map(|extent| format!("{} MiB from byte {}", extent.size / MIB, extent.start))
                        .collect();
                    let size = match (size, start) {
                        (None, None) if *wanted != Use::Root => {
                            let largest = extents.iter().map(|extent| extent.size).max().unwrap_or(0);
                            Some(largest.saturating_sub(reserve))
                        }
                        _ => size,
                    };
                    let Some(span) = take(extents, size, start) else {
                        let room = if room.is_empty() {
                            "none".to_owned()
                        } else {
                            room.join(", ")
                        };
                        return Err(self.unfit(format!(
                            "there is no room for a new `{}`{}; free is: {room}",
                            wanted.word(),
                            size.map(|size| format!(" of {} MiB", size / MIB))
                                .unwrap_or_default(),
                        )));
                    };
                    (None, span)
                }
            };
            placed.push((*wanted, number, span));
        }
        // New ones are numbered as they lie on the disk.
        placed.sort_by_key(|(_, _, span)| *span);
        let mut out = Vec::new();
        for (wanted, number, span) in placed {
            let existing = number.is_some();
            let number = match number {
                Some(number) => number,
                None => (1..=128)
                    .find(|number| !numbers.contains(number))
                    .ok_or_else(|| self.unfit("its table has no place for another partition"))?,
            };
            numbers.insert(number);
            out.push(Placed {
                wanted,
                number,
                span,
                existing,
            });
        }
        Ok(out)
    }
}
