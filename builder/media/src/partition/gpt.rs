//! The GUID partition table.

use std::io::{self, Read, Seek, SeekFrom};

use thiserror::Error;

use super::Guid;

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
const HEADER_LEN: usize = 92;
const ENTRY_LEN: usize = 128;
/// UTF-16 units of a partition's name.
pub const NAME_MAX: usize = 36;

/// Attribute: firmware must not touch the partition.
pub const REQUIRED: u64 = 1;
/// Attribute: a BIOS boot loader may boot from it.
pub const LEGACY_BOOT: u64 = 1 << 2;
/// Attribute: grow the file system on first mount (Discoverable Partitions Specification).
pub const GROW_FILE_SYSTEM: u64 = 1 << 59;
/// Attribute: read-only.
pub const READ_ONLY: u64 = 1 << 60;
/// Attribute: not mounted by itself.
pub const NO_AUTOMOUNT: u64 = 1 << 63;

/// A partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Partition {
    /// Its number, from 1. Numbers may be left out.
    pub number: u32,
    /// What is on it.
    pub kind: Guid,
    /// Which one it is.
    pub guid: Guid,
    /// First sector.
    pub first: u64,
    /// Last sector, which belongs to it.
    pub last: u64,
    /// Attribute bits.
    pub attributes: u64,
    /// At most [`NAME_MAX`] UTF-16 units.
    pub name: String,
}

/// A table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Table {
    /// Which disk it is.
    pub guid: Guid,
    /// Bytes of a sector: 512 to 4096, a power of two.
    pub sector_size: u32,
    /// Sectors of the disk.
    pub sectors: u64,
    /// Places for partitions: 128, or more.
    pub places: u32,
    /// First sector that partitions may use. At least [`Table::least_first_usable`].
    pub first_usable: u64,
    /// The partitions, in the order of their numbers.
    pub partitions: Vec<Partition>,
}

/// What is wrong with a table.
#[derive(Debug, Error)]
pub enum GptError {
    /// The disk is too small for the table, or a parameter is out of range.
    #[error("a GPT of {places} places on a disk of {sectors} sectors of {sector_size} bytes: {reason}")]
    Geometry {
        /// Places asked for.
        places: u32,
        /// Sectors of the disk.
        sectors: u64,
        /// Bytes of a sector.
        sector_size: u32,
        /// What is wrong.
        reason: &'static str,
    },
    /// A partition that cannot be.
    #[error("GPT partition {number}: {reason}")]
    Partition {
        /// Its number.
        number: u32,
        /// What is wrong.
        reason: String,
    },
    /// The disk could not be read.
    #[error("reading the GPT: {0}")]
    Io(#[from] io::Error),
    /// What was read is no table.
    #[error("reading the {which} GPT: {reason}")]
    Malformed {
        /// The copy: `primary` or `backup`.
        which: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Neither copy is whole.
    #[error("the disk has no valid GPT: {primary}; {backup}")]
    NoCopy {
        /// Why not the primary one.
        primary: Box<GptError>,
        /// Why not the backup.
        backup: Box<GptError>,
    },
}

impl Table {
    /// An empty table of 128 places that lets partitions begin right behind it.
    pub fn new(guid: Guid, sector_size: u32, sectors: u64) -> Table {
        let mut table = Table {
            guid,
            sector_size,
            sectors,
            places: 128,
            first_usable: 0,
            partitions: Vec::new(),
        };
        table.first_usable = table.least_first_usable();
        table
    }

    /// Sectors of one copy of the entries.
    pub fn entry_sectors(&self) -> u64 {
        (u64::from(self.places) * ENTRY_LEN as u64).div_ceil(u64::from(self.sector_size).max(1))
    }

    /// The first sector behind MBR, header and entries.
    pub fn least_first_usable(&self) -> u64 {
        2 + self.entry_sectors()
    }

    /// The last sector before the backup of entries and header.
    pub fn last_usable(&self) -> u64 {
        self.sectors.saturating_sub(2 + self.entry_sectors())
    }

    /// Checks that the table fits the disk and its partitions fit the table.
    ///
    /// # Errors
    /// With the first thing that is wrong.
    pub fn check(&self) -> Result<(), GptError> {
        let geometry = |reason| GptError::Geometry {
            places: self.places,
            sectors: self.sectors,
            sector_size: self.sector_size,
            reason,
        };
        if !self.sector_size.is_power_of_two() || !(512..=4096).contains(&self.sector_size) {
            return Err(geometry("sectors have 512 to 4096 bytes"));
        }
        if !(128..=4096).contains(&self.places) {
            return Err(geometry("a table has 128 to 4096 places"));
        }
        if self.first_usable < self.least_first_usable() {
            return Err(geometry("partitions would begin inside the table"));
        }
        if self.last_usable() < self.first_usable {
            return Err(geometry("the disk is too small"));
        }
        let mut by_place: Vec<&Partition> = self.partitions.iter().collect();
        by_place.sort_by_key(|partition| partition.first);
        for partition in &self.partitions {
            let refuse = |reason: String| {
                Err(GptError::Partition {
                    number: partition.number,
                    reason,
                })
            };
            let Partition {
                number, first, last, ..
            } = *partition;
            if number == 0 || number > self.places {
                return refuse(format!("numbers go from 1 to {}", self.places));
            }
            if partition.kind == Guid::NIL {
                return refuse("it has no type".to_owned());
            }
            if partition.guid == Guid::NIL {
                return refuse("it has no GUID".to_owned());
            }
            if first > last || first < self.first_usable || last > self.last_usable() {
                return refuse(format!(
                    "sectors {first} to {last} are not within {} to {}",
                    self.first_usable,
                    self.last_usable()
                ));
            }
            if partition.name.encode_utf16().count() > NAME_MAX {
                return refuse(format!("the name `{}` is longer than {NAME_MAX}", partition.name));
            }
        }
        for pair in by_place.windows(2) {
            if pair[0].last >= pair[1].first {
                return Err(GptError::Partition {
                    number: pair[1].number,
                    reason: format!("it shares sectors with partition {}", pair[0].number),
                });
            }
        }
        let mut numbers: Vec<u32> = self.partitions.iter().map(|partition| partition.number).collect();
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(GptError::Partition {
                number: pair[0],
                reason: "the number comes twice".to_owned(),
            });
        }
        let mut guids: Vec<(Guid, u32)> = self.partitions.iter().map(|p| (p.guid, p.number)).collect();
        guids.sort_unstable();
        if let Some(pair) = guids.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            return Err(GptError::Partition {
                number: pair[1].1,
                reason: format!("it has the GUID of partition {}", pair[0].1),
            });
        }
        Ok(())
    }

    /// The sectors from 1 on: header and entries. Sector 0 is the protective MBR's.
    ///
    /// # Errors
    /// As [`Table::check`].
    pub fn primary(&self) -> Result<Vec<u8>, GptError> {
        self.check()?;
        let entries = self.entries();
        let mut bytes = self.header(&entries, 1, self.sectors - 1, 2);
        bytes.extend_from_slice(&entries);
        Ok(bytes)
    }

    /// The last sectors of the disk, from [`Table::backup_sector`] on: entries and header.
    ///
    /// # Errors
    /// As [`Table::check`].
    pub fn backup(&self) -> Result<Vec<u8>, GptError> {
        self.check()?;
        let mut bytes = self.entries();
        let header = self.header(&bytes, self.sectors - 1, 1, self.backup_sector());
        bytes.extend_from_slice(&header);
        Ok(bytes)
    }

    /// Where [`Table::backup`] goes.
    pub fn backup_sector(&self) -> u64 {
        self.last_usable() + 1
    }

    fn entries(&self) -> Vec<u8> {
        let mut bytes = vec![0; (self.entry_sectors() * u64::from(self.sector_size)) as usize];
        for partition in &self.partitions {
            let at = (partition.number as usize - 1) * ENTRY_LEN;
            let entry = &mut bytes[at..at + ENTRY_LEN];
            entry[..16].copy_from_slice(&partition.kind.to_disk());
            entry[16..32].copy_from_slice(&partition.guid.to_disk());
            entry[32..40].copy_from_slice(&partition.first.to_le_bytes());
            entry[40..48].copy_from_slice(&partition.last.to_le_bytes());
            entry[48..56].copy_from_slice(&partition.attributes.to_le_bytes());
            for (slot, unit) in entry[56..].chunks_exact_mut(2).zip(partition.name.encode_utf16()) {
                slot.copy_from_slice(&unit.to_le_bytes());
            }
        }
        bytes
    }

    fn header(&self, entries: &[u8], here: u64, other: u64, entries_at: u64) -> Vec<u8> {
        let used = &entries[..self.places as usize * ENTRY_LEN];
        let mut bytes = Vec::with_capacity(self.sector_size as usize);
        bytes.extend_from_slice(SIGNATURE);
        bytes.extend_from_slice(&REVISION.to_le_bytes());
        bytes.extend_from_slice(&(HEADER_LEN as u32).to_le_bytes());
        bytes.extend_from_slice(&[0; 8]);
        for lba in [here, other, self.first_usable, self.last_usable()] {
            bytes.extend_from_slice(&lba.to_le_bytes());
        }
        bytes.extend_from_slice(&self.guid.to_disk());
        bytes.extend_from_slice(&entries_at.to_le_bytes());
        for number in [self.places, ENTRY_LEN as u32, crc32fast::hash(used)] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        let crc = crc32fast::hash(&bytes);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes.resize(self.sector_size as usize, 0);
        bytes
    }

    /// Reads the table of a disk: the primary copy, or the backup when that is damaged. Says which.
    ///
    /// # Errors
    /// When neither is whole, or reading fails.
    pub fn read(disk: &mut (impl Read + Seek), sector_size: u32) -> Result<(Table, Copy), GptError> {
        if !sector_size.is_power_of_two() || !(512..=4096).contains(&sector_size) {
            return Err(GptError::Geometry {
                places: 0,
                sectors: 0,
                sector_size,
                reason: "sectors have 512 to 4096 bytes",
            });
        }
        let sectors = disk.seek(SeekFrom::End(0))? / u64::from(sector_size);
        let primary = match read_copy(disk, sector_size, sectors, Copy::Primary) {
            Err(GptError::Io(error)) => return Err(GptError::Io(error)),
            Err(error) => error,
            Ok(table) => return Ok((table, Copy::Primary)),
        };
        match read_copy(disk, sector_size, sectors, Copy::Backup) {
            Err(GptError::Io(error)) => Err(GptError::Io(error)),
            Err(backup) => Err(GptError::NoCopy {
                primary: Box::new(primary),
                backup: Box::new(backup),
            }),
            Ok(table) => Ok((table, Copy::Backup)),
        }
    }

    /// Reads both copies of a disk's table for checks: the primary one, and the backup where the primary one says that it
    /// is, or at the end of the disk.
    ///
    /// # Errors
    /// When reading fails; each copy has its own result.
    pub fn read_copies(
        disk: &mut (impl Read + Seek),
        sector_size: u32,
    ) -> Result<[Result<Table, GptError>; 2], GptError> {
        if !sector_size.is_power_of_two() || !(512..=4096).contains(&sector_size) {
            return Err(GptError::Geometry {
                places: 0,
                sectors: 0,
                sector_size,
                reason: "sectors have 512 to 4096 bytes",
            });
        }
        let sectors = disk.seek(SeekFrom::End(0))? / u64::from(sector_size);
        let primary = read_copy(disk, sector_size, sectors, Copy::Primary);
        let end = match &primary {
            Ok(table) => table.sectors.min(sectors),
            Err(_) => sectors,
        };
        Ok([primary, read_copy(disk, sector_size, end, Copy::Backup)])
    }
}

/// One of the two copies of a table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Copy {
    /// At the beginning of the disk.
    Primary,
    /// At its end.
    Backup,
}

impl Copy {
    fn name(self) -> &'static str {
        match self {
            Copy::Primary => "primary",
            Copy::Backup => "backup",
        }
    }
}

fn read_copy(
    disk: &mut (impl Read + Seek),
    sector_size: u32,
    sectors: u64,
    copy: Copy,
) -> Result<Table, GptError> {
    let malformed = |reason: String| GptError::Malformed {
        which: copy.name(),
        reason,
    };
    if sectors < 3 {
        return Err(malformed(format!(
            "a disk of {sectors} sectors has no room for one"
        )));
    }
    let here = match copy {
        Copy::Primary => 1,
        Copy::Backup => sectors - 1,
    };
    let mut header = vec![0; sector_size as usize];
    disk.seek(SeekFrom::Start(here * u64::from(sector_size)))?;
    disk.read_exact(&mut header)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
    let guid_at = |bytes: &[u8], at: usize| {
        let mut guid = [0; 16];
        guid.copy_from_slice(&bytes[at..at + 16]);
        Guid::from_disk(guid)
    };
    if &header[..8] != SIGNATURE {
        return Err(malformed(format!("no signature in sector {here}")));
    }
    if word(8) != REVISION || word(12) != HEADER_LEN as u32 {
        return Err(malformed("a header of another revision or length".to_owned()));
    }
    let mut summed = header[..HEADER_LEN].to_vec();
    summed[16..20].fill(0);
    if crc32fast::hash(&summed) != word(16) {
        return Err(malformed("the header's checksum is wrong".to_owned()));
    }
    let other = match copy {
        // A disk that has grown keeps its backup where the old end was.
        Copy::Primary => (3..sectors).contains(&long(32)),
        Copy::Backup => long(32) == 1,
    };
    if long(24) != here || !other {
        return Err(malformed("the header's own places are wrong".to_owned()));
    }
    let places = word(80);
    if word(84) != ENTRY_LEN as u32 || !(1..=4096).contains(&places) {
        return Err(malformed(format!("{places} places of {} bytes", word(84))));
    }
    let mut table = Table {
        guid: guid_at(&header, 56),
        sector_size,
        sectors: match copy {
            Copy::Primary => long(32) + 1,
            Copy::Backup => sectors,
        },
        places,
        first_usable: long(40),
        partitions: Vec::new(),
    };
    let entries_at = long(72);
    let entry_sectors = table.entry_sectors();
    if entries_at < 2 || entries_at.saturating_add(entry_sectors) > sectors {
        return Err(malformed(format!("entries at sector {entries_at}")));
    }
    let mut entries = vec![0; places as usize * ENTRY_LEN];
    disk.seek(SeekFrom::Start(entries_at * u64::from(sector_size)))?;
    disk.read_exact(&mut entries)?;
    if crc32fast::hash(&entries) != word(88) {
        return Err(malformed("the entries' checksum is wrong".to_owned()));
    }
    for (index, entry) in entries.chunks_exact(ENTRY_LEN).enumerate() {
        let kind = guid_at(entry, 0);
        if kind == Guid::NIL {
            continue;
        }
        let number = |at: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&entry[at..at + 8]);
            u64::from_le_bytes(bytes)
        };
        let units: Vec<u16> = entry[56..]
            .chunks_exact(2)
            .map(|unit| u16::from_le_bytes([unit[0], unit[1]]))
            .take_while(|&unit| unit != 0)
            .collect();
        let partition = Partition {
            number: index as u32 + 1,
            kind,
            guid: guid_at(entry, 16),
            first: number(32),
            last: number(40),
            attributes: number(48),
            name: String::from_utf16_lossy(&units),
        };
        if partition.first > partition.last || partition.last >= sectors {
            return Err(malformed(format!(
                "partition {} has sectors {} to {} of {sectors}",
                partition.number, partition.first, partition.last
            )));
        }
        table.partitions.push(partition);
    }
    Ok(table)
}
