//! The master boot record.

use thiserror::Error;

/// Bytes of boot code.
pub const CODE_LEN: usize = 440;
/// Record type: the GPT below this protective record.
pub const KIND_PROTECTIVE: u8 = 0xee;
/// Record type: EFI system partition.
pub const KIND_EFI_SYSTEM: u8 = 0xef;
/// Record type: FAT32, addressed by LBA.
pub const KIND_FAT32: u8 = 0x0c;
/// Record type: Linux.
pub const KIND_LINUX: u8 = 0x83;

/// A record of the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Record {
    /// Whether a BIOS may boot from it.
    pub active: bool,
    /// Type; 0 is an unused record.
    pub kind: u8,
    /// First sector.
    pub first: u32,
    /// Number of sectors.
    pub sectors: u32,
}

/// A master boot record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mbr {
    /// What a BIOS runs.
    pub code: [u8; CODE_LEN],
    /// Disk signature; 0 for none.
    pub signature: u32,
    /// The four records.
    pub records: [Option<Record>; 4],
}

/// What is wrong with a master boot record.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum MbrError {
    /// No signature at the end of the sector.
    #[error("reading the MBR: the sector does not end in 55 aa")]
    Unsigned,
    /// A record that runs past what 32 bits address.
    #[error("reading the MBR: record {0} runs past the last addressable sector")]
    Overflow(usize),
    /// Two records share sectors.
    #[error("the MBR's records {0} and {1} overlap")]
    Overlap(usize, usize),
}

impl Mbr {
    /// No code, no signature, no records.
    pub fn new() -> Mbr {
        Mbr {
            code: [0; CODE_LEN],
            signature: 0,
            records: [None; 4],
        }
    }

    /// The record that keeps old programs off a GPT disk of `sectors` sectors. Of a disk with more than 32
    /// bits of sectors it covers what it can.
    pub fn protective(sectors: u64) -> Mbr {
        let mut mbr = Mbr::new();
        mbr.records[0] = Some(Record {
            active: false,
            kind: KIND_PROTECTIVE,
            first: 1,
            sectors: u32::try_from(sectors.saturating_sub(1)).unwrap_or(u32::MAX),
        });
        mbr
    }

    /// Adds a record that is unused but flagged active, at the last free place. There are BIOSes that boot no
    /// disk without an active record, and UEFI wants none on the protective one.
    pub fn add_active_placeholder(&mut self) {
        if let Some(free) = self.records.iter_mut().rev().find(|record| record.is_none()) {
            *free = Some(Record {
                active: true,
                kind: 0,
                first: 0,
                sectors: 1,
            });
        }
    }

    /// Whether the disk's partitions are in a GPT.
    pub fn is_protective(&self) -> bool {
        self.records
            .iter()
            .flatten()
            .any(|record| record.kind == KIND_PROTECTIVE)
    }

    /// The sector.
    pub fn encode(&self) -> [u8; 512] {
        let mut sector = [0; 512];
        sector[..CODE_LEN].copy_from_slice(&self.code);
        sector[440..444].copy_from_slice(&self.signature.to_le_bytes());
        for (slot, record) in sector[446..510].chunks_exact_mut(16).zip(&self.records) {
            if let Some(record) = record {
                let last = record.first.saturating_add(record.sectors.saturating_sub(1));
                slot[0] = if record.active { 0x80 } else { 0 };
                slot[1..4].copy_from_slice(&chs(record.first));
                slot[4] = record.kind;
                slot[5..8].copy_from_slice(&chs(last));
                slot[8..12].copy_from_slice(&record.first.to_le_bytes());
                slot[12..16].copy_from_slice(&record.sectors.to_le_bytes());
            }
        }
        sector[510..].copy_from_slice(&[0x55, 0xaa]);
        sector
    }

    /// Reads a sector.
    ///
    /// # Errors
    /// When the sector has no signature, or a record runs past the addressable end.
    pub fn decode(sector: &[u8; 512]) -> Result<Mbr, MbrError> {
        if sector[510..] != [0x55, 0xaa] {
            return Err(MbrError::Unsigned);
        }
        let mut mbr = Mbr::new();
        mbr.code.copy_from_slice(&sector[..CODE_LEN]);
        let word =
            |at: usize| u32::from_le_bytes([sector[at], sector[at + 1], sector[at + 2], sector[at + 3]]);
        mbr.signature = word(440);
        for (index, slot) in mbr.records.iter_mut().enumerate() {
            let at = 446 + 16 * index;
            if sector[at..at + 16].iter().all(|&byte| byte == 0) {
                continue;
            }
            let record = Record {
                active: sector[at] & 0x80 != 0,
                kind: sector[at + 4],
                first: word(at + 8),
                sectors: word(at + 12),
            };
            if record.kind != 0 && record.first.checked_add(record.sectors).is_none() {
                return Err(MbrError::Overflow(index + 1));
            }
            *slot = Some(record);
        }
        Ok(mbr)
    }

    /// Checks that no two records share a sector.
    ///
    /// # Errors
    /// With the first two that do.
    pub fn check(&self) -> Result<(), MbrError> {
        let used: Vec<(usize, u64, u64)> = self
            .records
            .iter()
            .enumerate()
            .filter_map(|(index, record)| {
                let record = record.as_ref().filter(|record| record.kind != 0)?;
                let first = u64::from(record.first);
                Some((index + 1, first, first + u64::from(record.sectors)))
            })
            .collect();
        for (index, &(a, first_a, end_a)) in used.iter().enumerate() {
            for &(b, first_b, end_b) in &used[index + 1..] {
                if first_a < end_b && first_b < end_a {
                    return Err(MbrError::Overlap(a, b));
                }
            }
        }
        Ok(())
    }
}

impl Default for Mbr {
    fn default() -> Mbr {
        Mbr::new()
    }
}

/// Cylinder, head and sector of 255 heads and 63 sectors; what lies beyond 1024 cylinders gets the mark
/// for that.
fn chs(sector: u32) -> [u8; 3] {
    let (track, in_track) = (sector / 63, sector % 63 + 1);
    let (cylinder, head) = (track / 255, track % 255);
    if cylinder > 1023 {
        return [0xff; 3];
    }
    [
        head as u8,
        in_track as u8 | (cylinder >> 2 & 0xc0) as u8,
        cylinder as u8,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back() {
        let mut mbr = Mbr::protective(1000);
        mbr.code = [7; CODE_LEN];
        mbr.signature = 0xdead_beef;
        mbr.add_active_placeholder();
        assert_eq!(Mbr::decode(&mbr.encode()), Ok(mbr.clone()));
        assert!(mbr.is_protective());
        assert_eq!(mbr.encode()[446..450], [0, 0, 2, 0], "CHS of sector 1");
        assert_eq!(mbr.records[3].map(|record| record.active), Some(true));
    }

    #[test]
    fn a_large_disk_is_covered_as_far_as_goes() {
        let record = Mbr::protective(1 << 40).records[0].unwrap();
        assert_eq!((record.first, record.sectors), (1, u32::MAX));
        assert_eq!(Mbr::protective(1 << 40).encode()[451..454], [0xff; 3]);
        assert_eq!(Mbr::protective(0).records[0].unwrap().sectors, 0);
    }

    #[test]
    fn cylinders() {
        for (sector, expected) in [
            (0, [0, 1, 0]),
            (62, [0, 63, 0]),
            (63, [1, 1, 0]),
            (255 * 63, [0, 1, 1]),
            (256 * 255 * 63, [0, 0x41, 0]),
            (1024 * 255 * 63 - 1, [254, 0xff, 0xff]),
            (1024 * 255 * 63, [0xff, 0xff, 0xff]),
        ] {
            assert_eq!(chs(sector), expected, "{sector}");
        }
    }

    #[test]
    fn wrong_ones_are_refused() {
        assert_eq!(Mbr::decode(&[0; 512]), Err(MbrError::Unsigned));
        let mut mbr = Mbr::new();
        let record = |first, sectors| {
            Some(Record {
                active: false,
                kind: KIND_LINUX,
                first,
                sectors,
            })
        };
        mbr.records = [record(2048, 2048), None, record(4096, 10), record(4095, 1)];
        assert_eq!(mbr.check(), Err(MbrError::Overlap(1, 4)));
        mbr.records[3] = None;
        assert_eq!(mbr.check(), Ok(()));
        mbr.records[1] = record(u32::MAX, 2);
        assert_eq!(Mbr::decode(&mbr.encode()), Err(MbrError::Overflow(2)));
    }
}
