//! The plan: every byte range of the disk and what happens to it, and the system that is put there.
//!
//! A plan is data. A [`Draft`] is computed by [`layout`], [`Draft::check`] turns it into a [`Plan`] without trusting how it was
//! computed, and only a [`Plan`] can be shown, hashed or applied. Tables are GPT (UEFI 2.10 §5.3).

pub mod layout;
mod show;

pub(crate) use show::system as system_text;

use std::collections::BTreeMap;

use lycia_boot::grub;
use lycia_media::partition::{Guid, gpt, mbr};
use serde::Serialize;

use crate::device::{BlockDevice, Span};
use crate::file_system::Kind;
use crate::{found, rescue};

/// Version of the plan's text and JSON.
pub const SCHEMA: u32 = 2;

const MIB: u64 = 1 << 20;
/// Boundary of partitions: a multiple of every sector and erase block size in use.
pub const ALIGNMENT: u64 = MIB;
/// Smallest root that is planned.
pub const MINIMUM_ROOT: u64 = 512 * MIB;

/// Why there is no plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The disk is not offered.
    #[error("{path} cannot be used:\n{}", .why.iter().map(|why| format!("  {why}")).collect::<Vec<_>>().join("\n"))]
    Refused {
        /// The disk.
        path: String,
        /// Why.
        why: Vec<String>,
    },
    /// The sector size is none that GPT is used with.
    #[error("{path} has sectors of {sector} bytes; plans are made for 512 and 4096")]
    Sector {
        /// The disk.
        path: String,
        /// Bytes.
        sector: u32,
    },
    /// Too small.
    #[error("{place} has {size} bytes; at least {needed} are needed")]
    TooSmall {
        /// The disk or the free range.
        place: String,
        /// Bytes it has.
        size: u64,
        /// Bytes needed.
        needed: u64,
    },
    /// The layout does not fit the disk.
    #[error("{path}: {what}")]
    Unfit {
        /// The disk.
        path: String,
        /// Why, and what to do.
        what: String,
    },
    /// The draft breaks a rule. This is a bug, found before anything is written.
    #[error("the plan for {path} is wrong ({what}); please report this")]
    Wrong {
        /// The disk.
        path: String,
        /// Which rule.
        what: String,
    },
}

/// What happens to a byte range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Nothing.
    Keep,
    /// A part of the partition table is written, last of all.
    Table,
    /// The code of the boot sector is written; the rest of the sector stays.
    BootSector,
    /// Overwritten with zeros, so that nothing old is recognised.
    Zero,
    /// The journal of the installation, with a copy of what was in tables and headers.
    Journal,
    /// A FAT32 file system is written.
    Fat32,
    /// Files are put into the FAT file system that is there; those of others stay.
    FatInsert,
    /// GRUB's core image is written.
    BootLoader,
    /// A swap header is written.
    Swap,
    /// The header of a LUKS2 volume is written.
    LuksHeader,
    /// An ext4 file system for `/boot` is written.
    BootExt4,
    /// An ext4 file system for `/home`.
    HomeExt4,
    /// An ext4 file system is written, inside of the LUKS2 volume where there is one; blocks it does not use keep old bytes.
    Ext4,
    /// mkfs.xfs makes a file system, and the kernel writes its files.
    Xfs,
    /// mkfs.btrfs makes a file system, and the kernel writes its files.
    Btrfs,
    /// mkfs.f2fs makes a file system, and the kernel writes its files.
    F2fs,
}

impl Action {
    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Table => "write table",
            Self::BootSector => "write boot code",
            Self::Zero => "write zeros",
            Self::Journal => "write journal",
            Self::Fat32 => "format FAT32",
            Self::FatInsert => "keep, add files",
            Self::BootLoader => "write GRUB",
            Self::Swap => "format swap",
            Self::LuksHeader => "format LUKS2",
            Self::BootExt4 | Self::HomeExt4 | Self::Ext4 => "format ext4",
            Self::Xfs => "format xfs",
            Self::Btrfs => "format btrfs",
            Self::F2fs => "format f2fs",
        }
    }

    /// Whether bytes change.
    #[must_use]
    pub const fn writes(self) -> bool {
        !matches!(self, Self::Keep)
    }

    /// Whether the root is in it.
    #[must_use]
    pub const fn roots(self) -> bool {
        matches!(self, Self::Ext4 | Self::Xfs | Self::Btrfs | Self::F2fs)
    }
}

/// What a partition is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// EFI system partition.
    Esp,
    /// BIOS boot partition.
    BiosBoot,
    /// Swap.
    Swap,
    /// `/boot`.
    Boot,
    /// Root.
    Root,
    /// An EFI system partition that is kept and shared.
    SharedEsp,
    /// A new `/home`.
    NewHome,
    /// Kept for `/home`.
    Home,
    /// Somebody else's, kept.
    Other,
}

impl Role {
    /// Its type, name in the table and purpose in words; what is kept has none of its own.
    #[must_use]
    pub fn description(self) -> Option<(Guid, &'static str, &'static str)> {
        match self {
            Role::Esp => Some((Guid::EFI_SYSTEM, "ESP", "EFI system partition")),
            Role::BiosBoot => Some((Guid::BIOS_BOOT, "BIOS boot", "BIOS boot partition")),
            Role::Swap => Some((Guid::LINUX_SWAP, "swap", "swap")),
            Role::Boot => Some((Guid::LINUX_DATA, "boot", "boot")),
            Role::Root => Some((Guid::LINUX_DATA, "root", "root")),
            Role::NewHome => Some((Guid::LINUX_DATA, "home", "home")),
            Role::SharedEsp | Role::Home | Role::Other => None,
        }
    }
}

/// A partition of the table as it will be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Partition {
    /// Number in the table.
    pub number: u32,
    /// What it is for.
    pub role: Role,
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// Whether the table has it already.
    pub existing: bool,
    /// UUID of the file system that is kept.
    pub uuid: Option<String>,
    /// The file system that is kept.
    pub file_system: Option<String>,
}

/// A byte range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Region {
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// What it is.
    pub purpose: String,
    /// What happens to it.
    pub action: Action,
    /// The partition that it lies in.
    pub partition: Option<u32>,
}

/// The disk as it was found; it must still be so when the plan is applied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Target {
    /// Device node.
    pub path: String,
    /// Maker and model.
    pub model: Option<String>,
    /// Serial number.
    pub serial: Option<String>,
    /// Names in `/dev/disk/by-id`.
    pub by_id: Vec<String>,
    /// Bytes.
    pub size: u64,
    /// Bytes per logical sector.
    pub logical_sector: u32,
    /// Bytes per physical sector.
    pub physical_sector: u32,
    /// Kind of the table that is there.
    pub table: &'static str,
    /// See [`found::Found::digest`].
    pub digest: String,
}

/// A partition that is there now and whose content goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Number.
    pub number: u32,
    /// Where.
    #[serde(flatten)]
    pub span: Span,
    /// Name in the table.
    pub name: Option<String>,
    /// File system.
    pub file_system: Option<String>,
    /// Label of the file system.
    pub label: Option<String>,
    /// The system that is installed in it. It takes no part in the hash: where an interrupted run is resumed nobody can read it any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// What is on a whole disk without a table, and goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LostWhole {
    /// File system, or what the disk is a member of.
    pub file_system: String,
    /// Label of the file system.
    pub label: Option<String>,
    /// As [`Lost::system`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<String>,
}

/// What becomes of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TableChange {
    /// A new one.
    New,
    /// Partitions are added to it or taken from it.
    Edited,
    /// It is not written.
    Kept,
}

/// A user of the system that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlannedUser {
    /// Login name.
    pub name: String,
    /// Groups.
    pub groups: Vec<String>,
    /// Shell.
    pub shell: String,
    /// Whether there is a password. What it is, is no part of a plan.
    pub password: bool,
    /// Number of ssh keys.
    pub ssh_keys: usize,
}

/// The system that is installed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// What people call it.
    pub title: String,
    /// Where packages come from.
    pub source: Vec<String>,
    /// What is asked for.
    pub world: Vec<String>,
    /// What is installed: `NAME-VERSION`.
    pub packages: Vec<String>,
    /// Bytes of all of it.
    pub installed_size: u64,
    /// Kernel package.
    pub kernel: String,
    /// Allocator.
    pub allocator: String,
    /// Host name.
    pub hostname: String,
    /// Time zone.
    pub timezone: String,
    /// Keyboard layout.
    pub keymap: Option<String>,
    /// Locale.
    pub locale: Option<String>,
    /// Users, root first.
    pub users: Vec<PlannedUser>,
    /// Network in words.
    pub network: String,
    /// Name servers of a static network.
    pub dns: Vec<String>,
    /// Public keys that packages are trusted by, here and later: name and SHA-256.
    pub keys: Vec<String>,
    /// Public keys that may log in: user and SHA-256 of the line.
    pub ssh_keys: Vec<String>,
    /// Seconds that the boot menu waits.
    pub timeout: u32,
    /// Services enabled beside those of packages.
    pub services: Vec<String>,
    /// Mounts: what, where, type.
    pub mounts: Vec<String>,
    /// Programs that are run on ranges of the disk, with their arguments; `ROOT` is the root's, `UUID` is drawn when the plan is applied.
    pub commands: Vec<String>,
    /// How the firmware starts it.
    pub boot: Vec<String>,
    /// The kernel's words.
    pub arguments: String,
    /// Files written beside those of packages.
    pub files: Vec<String>,
}

/// What becomes of the boot sector's code that a BIOS runs now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Previous {
    /// Another entry of the new menu starts this sector; what it loads stays where it is.
    Kept(Box<[u8; grub::SECTOR]>),
    /// What it loads, at this byte, is written over.
    Gone(u64),
}

/// A plan that was not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Draft {
    /// See [`SCHEMA`].
    pub schema: u32,
    /// Name of the layout.
    pub layout: &'static str,
    /// The disk.
    pub disk: Target,
    /// The table.
    pub table: TableChange,
    /// What goes.
    pub lost: Vec<Lost>,
    /// What goes with the whole disk, where that has no table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_whole: Option<LostWhole>,
    /// Partitions as they will be.
    pub partitions: Vec<Partition>,
    /// Every byte range of the disk.
    pub regions: Vec<Region>,
    /// Ranges that are copied into the journal before anything else is written.
    pub saved: Vec<Span>,
    /// Whether the fallback path of a shared EFI system partition is written: only where it is free or ours.
    pub fallback: bool,
    /// Folder below `EFI` of a shared EFI system partition that the system is started from; empty where none is shared.
    pub folder: String,
    /// The system, once its packages are known.
    pub system: Option<System>,
}

/// A checked plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Plan(Draft);

impl Draft {
    /// Says which systems go: looks into what goes, as far as that can be read without the kernel.
    pub(crate) fn name_systems(&mut self, device: &mut dyn BlockDevice) {
        let mut named = |kind: Option<&str>, span: Span| {
            let readable = kind.and_then(Kind::named) == Some(Kind::Ext4);
            readable.then(|| rescue::system_in(device, span))?
        };
        for lost in &mut self.lost {
            lost.system = named(lost.file_system.as_deref(), lost.span);
        }
        let whole = Span {
            start: 0,
            size: self.disk.size,
        };
        if let Some(lost) = &mut self.lost_whole {
            lost.system = named(Some(&lost.file_system), whole);
        }
    }

    /// Checks every rule on the finished draft.
    ///
    /// # Errors
    /// Names the rule.
    pub fn check(self) -> Result<Plan, PlanError> {
        match self.broken_rule() {
            Some(what) => Err(PlanError::Wrong {
                path: self.disk.path,
                what,
            }),
            None => Ok(Plan(self)),
        }
    }

    /// What becomes of the code in `sector`, the disk's first; none where it has none, nothing is written over it, or everything on the disk goes.
    pub(crate) fn previous(&self, sector: &[u8; grub::SECTOR]) -> Option<Previous> {
        let written = self.regions_of(Action::BootLoader).next().is_some();
        let code = sector[..mbr::CODE_LEN].iter().any(|&byte| byte != 0) && sector[510..] == [0x55, 0xaa];
        if !written || !code || self.table == TableChange::New {
            return None;
        }
        let core = grub::first_sector_of(sector).map(|first| first.saturating_mul(grub::SECTOR as u64));
        let kept = |at: u64| {
            let mut kept = self.regions_of(Action::Keep);
            kept.any(|region| region.span.start <= at && at < region.span.end())
        };
        Some(match core {
            Some(at) if !kept(at) => Previous::Gone(at),
            _ => Previous::Kept(Box::new(*sector)),
        })
    }

    fn regions_of(&self, action: Action) -> impl Iterator<Item = &Region> {
        self.regions.iter().filter(move |region| region.action == action)
    }

    fn roots(&self) -> impl Iterator<Item = &Region> {
        self.regions.iter().filter(|region| region.action.roots())
    }

    fn broken_rule(&self) -> Option<String> {
        let sector = u64::from(self.disk.logical_sector);
        let usable = self.disk.size.checked_div(sector)? * sector;
        let mut at = 0;
        for region in &self.regions {
            let Span { start, size } = region.span;
            if start != at {
                return Some(format!("a gap or overlap at byte {at}"));
            }
            if size == 0 || size % sector != 0 || start % sector != 0 {
                return Some(format!("{} is not made of whole sectors", region.purpose));
            }
            at = start.checked_add(size)?;
        }
        if at != usable {
            return Some(format!("it ends at byte {at}, the disk at {usable}"));
        }
        let mut numbers = BTreeMap::new();
        for partition in &self.partitions {
            if numbers.insert(partition.number, partition).is_some() {
                return Some(format!("partition {} comes twice", partition.number));
            }
            if !partition.existing
                && (partition.span.start % ALIGNMENT != 0 || partition.span.size % ALIGNMENT != 0)
            {
                return Some(format!("partition {} is not aligned", partition.number));
            }
            if let Some(other) = self
                .partitions
                .iter()
                .find(|other| other.number != partition.number && other.span.overlaps(partition.span))
            {
                return Some(format!(
                    "partitions {} and {} overlap",
                    partition.number, other.number
                ));
            }
        }
        let journals: Vec<Span> = self
            .regions_of(Action::Journal)
            .map(|region| region.span)
            .collect();
        let [journal] = journals[..] else {
            return Some("not exactly one journal".into());
        };
        for region in self.regions.iter().filter(|region| region.action.writes()) {
            // What is kept is not touched by anything.
            let kept = |partition: &&Partition| matches!(partition.role, Role::Home | Role::Other);
            if let Some(partition) = self
                .partitions
                .iter()
                .filter(kept)
                .find(|one| one.span.overlaps(region.span))
            {
                return Some(format!(
                    "{} would change partition {}",
                    region.purpose, partition.number
                ));
            }
            let inside = region.partition.and_then(|number| numbers.get(&number));
            // What is shared is only added to, and only after its structures are saved.
            let shared = self
                .partitions
                .iter()
                .find(|one| one.role == Role::SharedEsp && one.span.overlaps(region.span));
            match (region.action, shared) {
                (Action::FatInsert, Some(partition)) => {
                    let first = |saved: &&Span| {
                        saved.start <= partition.span.start && saved.end() > partition.span.start
                    };
                    if partition.span != region.span || !self.saved.iter().any(|saved| first(&saved)) {
                        return Some(format!(
                            "partition {} is not saved before files are added",
                            partition.number
                        ));
                    }
                }
                (Action::FatInsert, None) | (_, Some(_)) => {
                    return Some(format!("{} would change what is shared", region.purpose));
                }
                (_, None) => {}
            }
            match (region.action, inside) {
                (
                    Action::Fat32
                    | Action::BootLoader
                    | Action::Swap
                    | Action::LuksHeader
                    | Action::BootExt4
                    | Action::HomeExt4
                    | Action::Ext4
                    | Action::Xfs
                    | Action::Btrfs
                    | Action::F2fs,
                    None,
                ) => {
                    return Some(format!("{} lies in no partition", region.purpose));
                }
                (_, Some(partition)) if !partition.span.contains(region.span) => {
                    return Some(format!(
                        "{} leaves partition {}",
                        region.purpose, partition.number
                    ));
                }
                _ => {}
            }
            // Between partitions only the journal and what belongs to the table is written.
            if region.partition.is_none() && region.action == Action::Zero && self.table != TableChange::New {
                return Some(format!("{} would be zeroed", region.purpose));
            }
            // Tables are only written over what was saved.
            if matches!(region.action, Action::Table | Action::BootSector)
                && !self.saved.iter().any(|saved| saved.contains(region.span))
            {
                return Some(format!("{} is not saved first", region.purpose));
            }
        }
        if let Some(saved) = self.saved.iter().find(|saved| saved.overlaps(journal)) {
            return Some(format!(
                "the journal lies on bytes {} to {} that it saves",
                saved.start,
                saved.end()
            ));
        }
        let kept_tables = self.table == TableChange::Kept;
        if kept_tables != (self.regions_of(Action::Table).count() == 0) {
            return Some("the table is written or kept against the plan".into());
        }
        if self.roots().count() != 1
            || self
                .partitions
                .iter()
                .filter(|one| one.role == Role::Root)
                .count()
                != 1
        {
            return Some("not exactly one root".into());
        }
        // GRUB reads no encrypted root; the header is right in front of what it opens.
        if let Some(header) = self.regions_of(Action::LuksHeader).next() {
            let root = self.roots().next();
            let right = root.is_some_and(|root| {
                root.span.start == header.span.end() && root.partition == header.partition
            });
            let boots = self.regions_of(Action::BootExt4).count() == 1;
            if !right || !boots || header.span.size != lycia_luks::DATA_OFFSET {
                return Some("an encrypted root that could not be opened".into());
            }
        }
        // Every header of what goes is saved, as far as it is written over.
        for lost in &self.lost {
            let Span { start, size } = lost.span;
            let edge = found::EDGE.min(size);
            for window in [start, start + size - edge] {
                let window = Span {
                    start: window,
                    size: edge,
                };
                let written = self
                    .regions
                    .iter()
                    .any(|region| region.action.writes() && region.span.overlaps(window));
                if written && !self.saved.iter().any(|saved| saved.contains(window)) {
                    return Some(format!(
                        "a header of the old partition {} is not saved",
                        lost.number
                    ));
                }
            }
        }
        None
    }
}

impl Plan {
    /// What was checked.
    #[must_use]
    pub fn draft(&self) -> &Draft {
        &self.0
    }

    /// The disk.
    #[must_use]
    pub fn disk(&self) -> &Target {
        &self.0.disk
    }

    /// The byte ranges, in order.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.0.regions
    }

    /// The region of an action, if there is one.
    #[must_use]
    pub fn region(&self, action: Action) -> Option<&Region> {
        self.0.regions_of(action).next()
    }

    /// The region of the root's file system.
    #[must_use]
    pub fn root(&self) -> Option<&Region> {
        self.0.roots().next()
    }

    /// The partition with a role.
    #[must_use]
    pub fn partition(&self, role: Role) -> Option<&Partition> {
        self.0.partitions.iter().find(|partition| partition.role == role)
    }

    /// Where the journal is.
    #[must_use]
    pub fn journal(&self) -> Span {
        // Checked: there is exactly one.
        self.region(Action::Journal)
            .map_or(Span { start: 0, size: 0 }, |region| region.span)
    }

    /// Ranges that may be written.
    #[must_use]
    pub fn writable(&self) -> Vec<Span> {
        let written = self.0.regions.iter().filter(|region| region.action.writes());
        written.map(|region| region.span).collect()
    }

    /// The table as it will be; none where it is kept. `old` is the one that is there, `seed` makes the GUIDs of what is new.
    ///
    /// # Errors
    /// Never for a checked plan on the disk that it was made for.
    pub fn table(&self, old: Option<&gpt::Table>, seed: &[u8]) -> Result<Option<gpt::Table>, gpt::GptError> {
        let plan = &self.0;
        let sector = u64::from(plan.disk.logical_sector);
        let mut table = match (plan.table, old) {
            (TableChange::Kept, _) => return Ok(None),
            (TableChange::Edited, Some(old)) => old.clone(),
            _ => gpt::Table::new(
                Guid::derive(seed, "disk"),
                plan.disk.logical_sector,
                plan.disk.size / sector,
            ),
        };
        // A disk that has grown gets its backup at the end.
        table.sectors = plan.disk.size / sector;
        table.partitions.retain(|one| {
            plan.partitions
                .iter()
                .any(|kept| kept.existing && kept.number == one.number)
        });
        // One that gets another use gets the type for it.
        for one in &mut table.partitions {
            let used = plan.partitions.iter().find(|used| used.number == one.number);
            if let Some((kind, name, _)) = used.and_then(|used| used.role.description()) {
                (one.kind, one.name) = (kind, name.to_owned());
            }
        }
        for partition in plan.partitions.iter().filter(|partition| !partition.existing) {
            let Some((kind, name, _)) = partition.role.description() else {
                continue;
            };
            table.partitions.push(gpt::Partition {
                number: partition.number,
                kind,
                guid: Guid::derive(seed, &format!("partition {}", partition.number)),
                first: partition.span.start / sector,
                last: partition.span.end() / sector - 1,
                attributes: 0,
                name: name.to_owned(),
            });
        }
        table.partitions.sort_by_key(|partition| partition.number);
        table.check()?;
        Ok(Some(table))
    }
}

#[cfg(test)]
pub(crate) mod tests;
