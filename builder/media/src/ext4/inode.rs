//! Inodes as they are in the table (Linux `Documentation/filesystems/ext4/inodes.rst`).

use lycia_tree::{Device, Timestamp};

use super::checksum::Sums;
use super::field::{put16, put32};
use super::geometry::INODE;

/// Flag: the directory has an index.
pub(super) const FLAG_INDEX: u32 = 0x1000;
/// Flag: the blocks are found by extents.
pub(super) const FLAG_EXTENTS: u32 = 0x8_0000;
/// Fields behind the first 128 bytes.
pub(super) const EXTRA: u16 = 32;
/// Where extended attributes begin.
pub(super) const XATTRS_AT: usize = 128 + EXTRA as usize;
/// Bytes for them.
pub(super) const XATTRS_ROOM: usize = INODE as usize - XATTRS_AT;

/// The first and the last second that are stored. The field would reach to 2446, but `e2fsck` takes what is later than
/// 2310-04-04 for times before 1970 that an old kernel wrote wrongly, and changes them.
const FIRST_SECOND: i64 = -(1 << 31);
const LAST_SECOND: i64 = (2 << 32) + i32::MAX as i64;

/// What an inode says.
pub(super) struct Record<'x> {
    pub(super) mode: u16,
    pub(super) uid: u32,
    pub(super) gid: u32,
    pub(super) size: u64,
    pub(super) time: (u32, u32),
    pub(super) links: u16,
    /// In units of 512 bytes.
    pub(super) sectors: u64,
    pub(super) flags: u32,
    /// Extents, block numbers, a device number or the text of a link.
    pub(super) map: [u8; 60],
    pub(super) xattr_block: u64,
    /// Extended attributes, [`XATTRS_ROOM`] bytes.
    pub(super) xattrs: Option<&'x [u8]>,
}

/// Seconds and the word with two more bits of these and the nanoseconds.
pub(super) fn time(time: Timestamp) -> Option<(u32, u32)> {
    if !(FIRST_SECOND..=LAST_SECOND).contains(&time.seconds) || time.nanoseconds >= 1_000_000_000 {
        return None;
    }
    let epoch = ((time.seconds - FIRST_SECOND) >> 32) as u32;
    Some((time.seconds as u32, time.nanoseconds << 2 | epoch))
}

/// The time that the two words say.
pub(super) fn from_time(low: u32, extra: u32) -> Timestamp {
    Timestamp {
        seconds: i64::from(low as i32) + (i64::from(extra & 3) << 32),
        nanoseconds: (extra >> 2).min(999_999_999),
    }
}

/// The map of a device, or `None` where the numbers do not fit.
pub(super) fn device(device: Device) -> Option<[u8; 60]> {
    let Device { major, minor } = device;
    if major > 0xfff || minor > 0xf_ffff {
        return None;
    }
    let mut map = [0; 60];
    if major < 256 && minor < 256 {
        put32(&mut map, 0, major << 8 | minor);
    } else {
        put32(&mut map, 4, minor & 0xff | major << 8 | (minor & !0xff) << 12);
    }
    Some(map)
}

impl Record<'_> {
    /// An inode that says nothing, as the reserved ones do.
    pub(super) fn empty() -> Record<'static> {
        Record {
            mode: 0,
            uid: 0,
            gid: 0,
            size: 0,
            time: (0, 0),
            links: 0,
            sectors: 0,
            flags: 0,
            map: [0; 60],
            xattr_block: 0,
            xattrs: None,
        }
    }

    /// The bytes of the inode whose checksums are `sums`.
    pub(super) fn encode(&self, sums: Sums) -> [u8; INODE as usize] {
        let mut bytes = [0; INODE as usize];
        put16(&mut bytes, 0, self.mode);
        put16(&mut bytes, 2, self.uid as u16);
        put32(&mut bytes, 4, self.size as u32);
        put16(&mut bytes, 24, self.gid as u16);
        put16(&mut bytes, 26, self.links);
        put32(&mut bytes, 28, self.sectors as u32);
        put32(&mut bytes, 32, self.flags);
        bytes[40..100].copy_from_slice(&self.map);
        put32(&mut bytes, 104, self.xattr_block as u32);
        put32(&mut bytes, 108, (self.size >> 32) as u32);
        put16(&mut bytes, 116, (self.sectors >> 32) as u16);
        put16(&mut bytes, 118, (self.xattr_block >> 32) as u16);
        put16(&mut bytes, 120, (self.uid >> 16) as u16);
        put16(&mut bytes, 122, (self.gid >> 16) as u16);
        put16(&mut bytes, 128, EXTRA);
        // Access, change and modification, then their further bits in another order, then birth.
        for at in [8, 12, 16, 144] {
            put32(&mut bytes, at, self.time.0);
        }
        for at in [132, 136, 140, 148] {
            put32(&mut bytes, at, self.time.1);
        }
        if let Some(xattrs) = self.xattrs {
            bytes[XATTRS_AT..].copy_from_slice(xattrs);
        }
        if let Some(sum) = sums.of(&[&bytes]) {
            put16(&mut bytes, 124, sum as u16);
            put16(&mut bytes, 130, (sum >> 16) as u16);
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_read_back() {
        for seconds in [
            FIRST_SECOND,
            -1,
            0,
            1,
            i64::from(i32::MAX),
            i64::from(i32::MAX) + 1,
            i64::from(u32::MAX),
            1 << 32,
            LAST_SECOND,
        ] {
            let stamp = Timestamp {
                seconds,
                nanoseconds: 987_654_321,
            };
            let (low, extra) = time(stamp).unwrap();
            assert_eq!(from_time(low, extra), stamp);
        }
        for seconds in [FIRST_SECOND - 1, LAST_SECOND + 1] {
            assert_eq!(time(Timestamp::from_seconds(seconds)), None);
        }
    }

    #[test]
    fn devices() {
        let numbers = |major, minor| {
            device(Device { major, minor }).map(|map| {
                (
                    u32::from_le_bytes([map[0], map[1], map[2], map[3]]),
                    u32::from_le_bytes([map[4], map[5], map[6], map[7]]),
                )
            })
        };
        assert_eq!(numbers(1, 3), Some((0x103, 0)));
        assert_eq!(numbers(259, 300), Some((0, 0x0011_032c)));
        assert_eq!(numbers(0xfff, 0xf_ffff), Some((0, 0xffff_ffff)));
        assert_eq!(numbers(0x1000, 0), None);
        assert_eq!(numbers(0, 0x10_0000), None);
    }
}
