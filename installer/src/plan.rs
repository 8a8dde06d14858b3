//! The erase-disk plan: every byte range of the disk and what happens to it.
//!
//! A plan is data. [`Draft`] is computed, [`Draft::check`] turns it into a [`Plan`], and only a [`Plan`] can be shown,
//! hashed or (one day) applied. Layout: GPT (UEFI 2.10 §5.3) with an EFI system partition, a BIOS boot
//! partition for GRUB, and the root in the rest, so that the disk boots on either firmware.

use crate::probe::Disk;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// Version of the plan's text and JSON.
pub const SCHEMA: u32 = 1;

const MIB: u64 = 1 << 20;
/// Boundary of partitions: a multiple of every sector and erase block size in use.
pub const ALIGNMENT: u64 = MIB;
const ESP_SIZE: u64 = 512 * MIB;
const BIOS_BOOT_SIZE: u64 = MIB;
/// Smallest root that is planned.
pub const MINIMUM_ROOT: u64 = 1024 * MIB;
/// 128 entries of 128 bytes, as UEFI asks for at least.
const TABLE_SIZE: u64 = 128 * 128;

/// EFI system partition.
pub const TYPE_ESP: &str = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b";
/// BIOS boot partition.
pub const TYPE_BIOS_BOOT: &str = "21686148-6449-6e6f-744e-656564454649";
/// Linux file system data.
pub const TYPE_LINUX: &str = "0fc63daf-8483-4772-8e79-3d69d8477de4";

/// Why there is no plan.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum PlanError {
    /// The disk is not offered.
    #[error("{path} cannot be erased:\n{}", .why.iter().map(|why| format!("  {why}")).collect::<Vec<_>>().join("\n"))]
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
    #[error("{path} has {size} bytes; at least {needed} are needed")]
    TooSmall {
        /// The disk.
        path: String,
        /// Bytes it has.
        size: u64,
        /// Bytes needed.
        needed: u64,
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
    /// A part of the partition table is written.
    Table,
    /// Overwritten with zeros, so that nothing old is recognised.
    Zero,
    /// A FAT32 file system is written.
    Fat32,
    /// GRUB's core image is written, the rest is zeroed.
    BootLoader,
    /// An ext4 file system is written; blocks it does not use keep old bytes.
    Ext4,
}

impl Action {
    const fn words(self) -> &'static str {
        match self {
            Self::Table => "write table",
            Self::Zero => "write zeros",
            Self::Fat32 => "format FAT32",
            Self::BootLoader => "write GRUB",
            Self::Ext4 => "format ext4",
        }
    }
}

/// A partition of the new table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewPartition {
    /// Number in the table.
    pub number: u32,
    /// GUID of its type.
    pub type_guid: &'static str,
    /// Name in the table.
    pub label: &'static str,
}

/// A byte range.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Region {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// What it is.
    pub purpose: &'static str,
    /// What happens to it.
    pub action: Action,
    /// The partition it is, if it is one.
    pub partition: Option<NewPartition>,
}

impl Region {
    const fn end(&self) -> u64 {
        self.start + self.size
    }
}

/// A plan that was not checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Draft {
    schema: u32,
    disk: Target,
    regions: Vec<Region>,
    lost: Vec<Lost>,
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
}

/// A partition that is there now and will be gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Number.
    pub number: u32,
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Name in the table.
    pub label: Option<String>,
}

/// A checked plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Plan(Draft);

/// Computes the plan that erases a disk.
///
/// # Errors
/// If the disk is not offered, too small, or has odd sectors.
pub fn erase_disk(disk: &Disk) -> Result<Draft, PlanError> {
    let path = || disk.path.clone();
    if !disk.offered() {
        return Err(PlanError::Refused {
            path: path(),
            why: disk.refused.clone(),
        });
    }
    let sector = u64::from(disk.logical_sector);
    if !matches!(sector, 512 | 4096) {
        return Err(PlanError::Sector {
            path: path(),
            sector: disk.logical_sector,
        });
    }
    // A size that is no multiple of the sector size leaves bytes at the end that no sector holds.
    let size = disk.size / sector * sector;
    let backup_table = size.saturating_sub(sector + TABLE_SIZE);
    let root_end = backup_table / ALIGNMENT * ALIGNMENT;
    let root_start = ALIGNMENT + ESP_SIZE + BIOS_BOOT_SIZE;
    if root_end < root_start + MINIMUM_ROOT {
        let needed = root_start + MINIMUM_ROOT + (TABLE_SIZE + sector).next_multiple_of(ALIGNMENT);
        return Err(PlanError::TooSmall {
            path: path(),
            size: disk.size,
            needed,
        });
    }

    let mut regions = Vec::new();
    let mut at = 0;
    let mut put = |end: u64, purpose: &'static str, action: Action, partition: Option<NewPartition>| {
        if end > at {
            regions.push(Region {
                start: at,
                size: end - at,
                purpose,
                action,
                partition,
            });
            at = end;
        }
    };
    let partition = |number, type_guid, label| {
        Some(NewPartition {
            number,
            type_guid,
            label,
        })
    };
    put(sector, "protective MBR", Action::Table, None);
    put(2 * sector, "GPT header", Action::Table, None);
    put(2 * sector + TABLE_SIZE, "GPT entries", Action::Table, None);
    put(ALIGNMENT, "unused", Action::Zero, None);
    put(
        ALIGNMENT + ESP_SIZE,
        "EFI system partition",
        Action::Fat32,
        partition(1, TYPE_ESP, "ESP"),
    );
    put(
        root_start,
        "BIOS boot partition",
        Action::BootLoader,
        partition(2, TYPE_BIOS_BOOT, "BIOS boot"),
    );
    put(root_end, "root", Action::Ext4, partition(3, TYPE_LINUX, "root"));
    put(backup_table, "unused", Action::Zero, None);
    put(size - sector, "backup GPT entries", Action::Table, None);
    put(size, "backup GPT header", Action::Table, None);

    Ok(Draft {
        schema: SCHEMA,
        disk: Target {
            path: disk.path.clone(),
            model: disk.model.clone(),
            serial: disk.serial.clone(),
            by_id: disk.by_id.clone(),
            size: disk.size,
            logical_sector: disk.logical_sector,
            physical_sector: disk.physical_sector,
        },
        regions,
        lost: disk
            .partitions
            .iter()
            .map(|old| Lost {
                number: old.number,
                start: old.start,
                size: old.size,
                label: old.label.clone(),
            })
            .collect(),
    })
}

impl Draft {
    /// Checks every rule on the finished draft, without trusting how it was computed.
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

    fn broken_rule(&self) -> Option<String> {
        let sector = u64::from(self.disk.logical_sector);
        let usable = self.disk.size.checked_div(sector)? * sector;
        let mut at = 0;
        let mut last_number = 0;
        for region in &self.regions {
            if region.start != at {
                return Some(format!("a gap or overlap at byte {at}"));
            }
            if region.size == 0 || region.size % sector != 0 || region.start % sector != 0 {
                return Some(format!("{} is not made of whole sectors", region.purpose));
            }
            if let Some(partition) = &region.partition {
                if region.start % ALIGNMENT != 0 || region.size % ALIGNMENT != 0 {
                    return Some(format!("partition {} is not aligned", partition.number));
                }
                if partition.number != last_number + 1 {
                    return Some(format!("partition {} is out of order", partition.number));
                }
                last_number = partition.number;
            }
            at = region.start.checked_add(region.size)?;
        }
        let sizes = |purpose: &str| {
            self.regions
                .iter()
                .filter(|region| region.purpose == purpose)
                .map(|r| r.size)
                .sum::<u64>()
        };
        if at != usable {
            return Some(format!("it ends at byte {at}, the disk at {usable}"));
        }
        if sizes("GPT entries") < TABLE_SIZE || sizes("GPT entries") != sizes("backup GPT entries") {
            return Some("the two tables differ in size".into());
        }
        if last_number != 3 {
            return Some("not three partitions".into());
        }
        None
    }
}

impl Plan {
    /// The byte ranges, in order.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.0.regions
    }

    /// The text that is hashed: everything that is known and everything that will be done, in one fixed form.
    #[must_use]
    pub fn canonical(&self) -> String {
        let plan = &self.0;
        let disk = &plan.disk;
        // Debug spelling quotes what devices and people have put into names.
        let mut out = format!(
            "lycia-plan {}\nerase-disk\nmodel {:?}\nserial {:?}\n",
            plan.schema,
            disk.model.as_deref().unwrap_or_default(),
            disk.serial.as_deref().unwrap_or_default()
        );
        for id in &disk.by_id {
            let _ = writeln!(out, "by-id {id:?}");
        }
        if disk.serial.is_none() && disk.by_id.is_empty() {
            // Nothing better identifies it.
            let _ = writeln!(out, "path {:?}", disk.path);
        }
        let _ = writeln!(
            out,
            "size {} sectors {}/{}",
            disk.size, disk.logical_sector, disk.physical_sector
        );
        for old in &plan.lost {
            let label = old.label.as_deref().unwrap_or_default();
            let _ = writeln!(out, "lost {} {} {} {label:?}", old.number, old.start, old.size);
        }
        for region in &plan.regions {
            let partition = region.partition.as_ref();
            let part =
                partition.map(|part| format!(" part {} {} {:?}", part.number, part.type_guid, part.label));
            let _ = writeln!(
                out,
                "range {} {} {}: {}{}",
                region.start,
                region.end(),
                region.purpose,
                region.action.words(),
                part.unwrap_or_default()
            );
        }
        out
    }

    /// SHA-256 of [`Self::canonical`], in hexadecimal. The device node takes no part where the disk has a serial
    /// number or a by-id name: the node may be another after the next boot.
    #[must_use]
    pub fn hash(&self) -> String {
        Sha256::digest(self.canonical())
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    /// The plan for people.
    #[must_use]
    pub fn text(&self) -> String {
        use crate::show::{printable, size};
        let plan = &self.0;
        let disk = &plan.disk;
        let mut out = format!("Erase {} ({})\n", disk.path, size(disk.size));
        for (name, value) in [("model", disk.model.as_ref()), ("serial", disk.serial.as_ref())] {
            if let Some(value) = value {
                let _ = writeln!(out, "  {name:<8} {}", printable(value));
            }
        }
        for id in &disk.by_id {
            let _ = writeln!(out, "  by-id    {}", printable(id));
        }
        let _ = writeln!(
            out,
            "  sectors  {} logical, {} physical",
            disk.logical_sector, disk.physical_sector
        );
        if plan.lost.is_empty() {
            out.push_str("\nNo partitions are on it now.\n");
        } else {
            out.push_str("\nThese partitions and everything on them will be lost:\n");
            for old in &plan.lost {
                let label = old
                    .label
                    .as_ref()
                    .map(|label| format!("  \"{}\"", printable(label)))
                    .unwrap_or_default();
                let _ = writeln!(
                    out,
                    "  {:>3}  {:>10}  from byte {}{label}",
                    old.number,
                    size(old.size),
                    old.start
                );
            }
        }
        let _ = writeln!(out, "\n{:>16} {:>16}  part  what", "first byte", "last byte");
        for region in &plan.regions {
            let number = region
                .partition
                .as_ref()
                .map(|part| part.number.to_string())
                .unwrap_or_default();
            let _ = writeln!(
                out,
                "{:>16} {:>16}  {number:<4}  {}: {}",
                region.start,
                region.end() - 1,
                region.purpose,
                region.action.words()
            );
        }
        let _ = writeln!(out, "\nplan {}", self.hash());
        out
    }

    /// The plan for machines.
    ///
    /// # Errors
    /// Never in practice: every field is a number or text.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        #[derive(Serialize)]
        struct Whole<'a> {
            hash: String,
            #[serde(flatten)]
            plan: &'a Draft,
        }
        serde_json::to_string_pretty(&Whole {
            hash: self.hash(),
            plan: &self.0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::{Partition, Transport};
    use proptest::prelude::*;

    fn disk(size: u64, sector: u32) -> Disk {
        Disk {
            name: "sda".into(),
            path: "/dev/sda".into(),
            model: Some("Model".into()),
            serial: Some("S1".into()),
            by_id: vec!["ata-Model_S1".into()],
            by_path: Vec::new(),
            size,
            logical_sector: sector,
            physical_sector: 4096,
            transport: Transport::Ata,
            removable: false,
            read_only: false,
            optical: false,
            running_medium: false,
            used: Vec::new(),
            partitions: Vec::new(),
            refused: Vec::new(),
        }
    }

    fn plan(disk: &Disk) -> Plan {
        erase_disk(disk).unwrap().check().unwrap()
    }

    #[test]
    fn ranges_for_both_sector_sizes() {
        for (sector, table_end) in [(512, 34 * 512), (4096, 6 * 4096)] {
            let size = 8 << 30;
            let plan = plan(&disk(size, sector));
            let sector = u64::from(sector);
            let ranges: Vec<(u64, u64)> = plan
                .regions()
                .iter()
                .map(|region| (region.start, region.end()))
                .collect();
            assert_eq!(
                ranges,
                [
                    (0, sector),
                    (sector, 2 * sector),
                    (2 * sector, table_end),
                    (table_end, MIB),
                    (MIB, 513 * MIB),
                    (513 * MIB, 514 * MIB),
                    (514 * MIB, size - MIB),
                    (size - MIB, size - sector - TABLE_SIZE),
                    (size - sector - TABLE_SIZE, size - sector),
                    (size - sector, size),
                ]
            );
        }
    }

    #[test]
    fn disks_that_will_not_do() {
        assert!(matches!(
            erase_disk(&disk(1 << 30, 512)),
            Err(PlanError::TooSmall { .. })
        ));
        assert!(matches!(
            erase_disk(&disk(0, 512)),
            Err(PlanError::TooSmall { .. })
        ));
        assert!(matches!(
            erase_disk(&disk(8 << 30, 520)),
            Err(PlanError::Sector { sector: 520, .. })
        ));
        let mut used = disk(8 << 30, 512);
        used.refused = vec!["in use: mounted on /".into()];
        assert!(
            erase_disk(&used)
                .unwrap_err()
                .to_string()
                .contains("mounted on /")
        );
    }

    #[test]
    fn the_size_named_as_needed_is_enough() {
        for sector in [512, 4096] {
            let Err(PlanError::TooSmall { needed, .. }) = erase_disk(&disk(1, sector)) else {
                panic!()
            };
            assert!(erase_disk(&disk(needed, sector)).is_ok());
        }
    }

    #[test]
    fn the_hash_follows_what_matters() {
        let base = disk(8 << 30, 512);
        let hash = plan(&base).hash();
        let mut renamed = base.clone();
        (renamed.name, renamed.path) = ("sdb".into(), "/dev/sdb".into());
        assert_eq!(plan(&renamed).hash(), hash);
        let old = Partition {
            name: "sda1".into(),
            number: 1,
            start: MIB,
            size: MIB,
            label: None,
            used: vec![],
        };
        for change in [
            &(|disk: &mut Disk| disk.serial = Some("S2".into())) as &dyn Fn(&mut Disk),
            &|disk| disk.size += 512,
            &|disk| disk.by_id.clear(),
            &|disk| disk.partitions.push(old.clone()),
            &|disk| disk.logical_sector = 4096,
        ] {
            let mut changed = base.clone();
            change(&mut changed);
            assert_ne!(plan(&changed).hash(), hash);
        }
        assert!(plan(&base).text().contains(&hash) && plan(&base).json().unwrap().contains(&hash));
    }

    #[test]
    fn a_wrong_draft_is_caught() {
        for spoil in [
            &(|draft: &mut Draft| draft.regions[4].size -= 512) as &dyn Fn(&mut Draft),
            &|draft| draft.regions[3].start += 512,
            &|draft| draft.regions.truncate(9),
            &|draft| {
                draft
                    .regions
                    .retain(|region| region.purpose != "BIOS boot partition")
            },
            &|draft| draft.regions[6].partition = None,
            &|draft| {
                draft.regions[4].size += 512;
                draft.regions[5].start += 512;
                draft.regions[5].size -= 512;
            },
            &|draft| draft.disk.size += 4096,
        ] {
            let mut draft = erase_disk(&disk(8 << 30, 512)).unwrap();
            spoil(&mut draft);
            assert!(matches!(draft.check(), Err(PlanError::Wrong { .. })));
        }
    }

    proptest! {
        #[test]
        fn every_disk_has_a_checked_plan_or_an_error(size in prop_oneof![any::<u64>(), 0u64..4 << 30], large in any::<bool>()) {
            let disk = disk(size, if large { 4096 } else { 512 });
            match erase_disk(&disk) {
                Ok(draft) => prop_assert!(draft.check().is_ok()),
                Err(PlanError::TooSmall { needed, .. }) => prop_assert!(size < needed),
                Err(error) => prop_assert!(false, "{error}"),
            }
        }
    }
}
