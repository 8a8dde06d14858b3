//! Reads just enough of file system superblocks to tell kind, label and UUID.
//!
//! The bytes come from whatever disk is plugged in, so every read is bounded, every offset is checked and
//! nothing here panics. Labels and UUIDs are spelled as `blkid` spells them, since that is what people
//! paste into a command line.
//!
//! Sources: ISO 9660 (ECMA-119 §8.4), Joliet; ext4 `struct ext4_super_block`; Microsoft's FAT and exFAT
//! specifications; the NTFS boot sector; btrfs, XFS, F2FS and squashfs on-disk format documents.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Longest single read from a device.
const READ_LIMIT: usize = 64 * 1024;
/// Most bytes of a FAT or exFAT root directory that are searched for the volume label.
const DIRECTORY_LIMIT: u64 = 1024 * 1024;
/// Most volume descriptors of an ISO 9660 that are looked at.
const DESCRIPTOR_LIMIT: u64 = 32;

/// Something that can be read at a byte offset.
pub trait ReadAt {
    /// Reads at `offset` and says how many bytes came; 0 is the end.
    ///
    /// # Errors
    /// Whatever the device reports.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize>;
}

impl ReadAt for File {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        FileExt::read_at(self, buffer, offset)
    }
}

impl ReadAt for [u8] {
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..))
            .unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }
}

/// All of `length` bytes at `offset`, or None if they cannot be had or are too many.
pub(crate) fn read_exact(source: &(impl ReadAt + ?Sized), offset: u64, length: usize) -> Option<Vec<u8>> {
    if length > READ_LIMIT {
        return None;
    }
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match source.read_at(offset.checked_add(filled as u64)?, &mut bytes[filled..]) {
            Ok(0) => return None,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(bytes)
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// What a superblock said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Type name for mount(2), as the kernel registers it (`ext4` for ext2 and ext3 too).
    pub kind: &'static str,
    /// Label, if one is set.
    pub label: Option<String>,
    /// A second spelling of the label: the Joliet volume name of an ISO.
    pub other_label: Option<String>,
    /// UUID or serial number in blkid's spelling, if one is set.
    pub uuid: Option<String>,
}

impl Superblock {
    fn new(kind: &'static str, label: String, uuid: Option<String>) -> Self {
        let label = (!label.is_empty()).then_some(label);
        Self {
            kind,
            label,
            other_label: None,
            uuid,
        }
    }

    /// Whether `label` is one of the labels.
    #[must_use]
    pub fn has_label(&self, label: &str) -> bool {
        [&self.label, &self.other_label]
            .into_iter()
            .flatten()
            .any(|own| own == label)
    }

    /// Whether `uuid` is the UUID; letter case does not matter.
    #[must_use]
    pub fn has_uuid(&self, uuid: &str) -> bool {
        self.uuid
            .as_ref()
            .is_some_and(|own| own.eq_ignore_ascii_case(uuid))
    }

    /// Options with which a read-only mount also leaves the device unwritten: a journal is not replayed.
    #[must_use]
    pub fn untouched_options(&self) -> &'static str {
        untouched_options(self.kind)
    }
}

/// See [`Superblock::untouched_options`].
#[must_use]
pub fn untouched_options(kind: &str) -> &'static str {
    match kind {
        "ext4" | "ext3" => "noload",
        "xfs" | "f2fs" => "norecovery",
        "btrfs" => "rescue=nologreplay",
        _ => "",
    }
}

/// Every file system whose superblock is on `source`. More than one is possible: an old file system
/// may lie under a new one.
#[must_use]
pub fn identify(source: &(impl ReadAt + ?Sized)) -> Vec<Superblock> {
    [
        luks(source),
        iso9660(source),
        squashfs(source),
        ext(source),
        xfs(source),
        btrfs(source),
        f2fs(source),
        exfat(source),
        ntfs(source),
        fat(source),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Text up to the first NUL, invalid UTF-8 shown as U+FFFD.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn trimmed(bytes: &[u8]) -> String {
    text(bytes).trim_end_matches([' ', '\0']).to_owned()
}

fn utf16(units: impl Iterator<Item = u16>) -> String {
    char::decode_utf16(units.take_while(|unit| *unit != 0))
        .map(|unit| unit.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// A 16-byte UUID in its usual spelling; None if all bytes are zero.
pub(crate) fn uuid_text(bytes: &[u8]) -> Option<String> {
    let bytes: &[u8; 16] = bytes.try_into().ok()?;
    if bytes.iter().all(|byte| *byte == 0) {
        return None;
    }
    let mut out = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            out.push('-');
        }
        out.push_str(&format!("{byte:02x}"));
    }
    Some(out)
}

/// LUKS2 (on-disk format specification, "Binary header"), which says where its first header is.
fn luks(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let header = read_exact(source, 0, 512)?;
    if &header[..6] != b"LUKS\xba\xbe" || header[6..8] != [0, 2] {
        return None;
    }
    let uuid = text(&header[168..208]);
    let label = text(&header[24..72]);
    Some(Superblock {
        kind: "crypto_LUKS",
        label: (!label.is_empty()).then_some(label),
        other_label: None,
        uuid: (!uuid.is_empty()).then_some(uuid),
    })
}

fn iso9660(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let mut found: Option<Superblock> = None;
    for index in 0..DESCRIPTOR_LIMIT {
        let Some(descriptor) = read_exact(source, (16 + index) * 2048, 2048) else {
            break;
        };
        if &descriptor[1..6] != b"CD001" {
            break;
        }
        match descriptor[0] {
            1 if found.is_none() => {
                // blkid takes the modification date, or the creation date if that is unset.
                let uuid = iso_date(&descriptor[830..847]).or_else(|| iso_date(&descriptor[813..830]));
                found = Some(Superblock::new("iso9660", trimmed(&descriptor[40..72]), uuid));
            }
            2 if matches!(&descriptor[88..91], b"%/@" | b"%/C" | b"%/E") => {
                let units = descriptor[40..72]
                    .chunks_exact(2)
                    .map(|two| u16::from_be_bytes([two[0], two[1]]));
                let name = utf16(units).trim_end().to_owned();
                if let Some(found) = &mut found
                    && !name.is_empty()
                {
                    found.other_label = Some(name);
                }
            }
            255 => break,
            _ => {}
        }
    }
    found
}

/// A 17-byte volume date as `YYYY-MM-DD-HH-MM-SS-CC`; None if it is unset (zeros, of either kind).
fn iso_date(date: &[u8]) -> Option<String> {
    let digits = date.get(..16)?;
    let unset = digits.iter().all(|byte| *byte == b'0') || digits.iter().all(|byte| *byte == 0);
    if (unset && date[16] == 0) || !digits.is_ascii() {
        return None;
    }
    let digits = std::str::from_utf8(digits).ok()?;
    let mut out = digits[..4].to_owned();
    for at in (4..16).step_by(2) {
        out.push('-');
        out.push_str(&digits[at..at + 2]);
    }
    Some(out)
}

fn squashfs(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let head = read_exact(source, 0, 32)?;
    (&head[..4] == b"hsqs" && u16_at(&head, 28)? == 4)
        .then(|| Superblock::new("squashfs", String::new(), None))
}

fn ext(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
    let block = read_exact(source, 1024, 256)?;
    if u16_at(&block, 0x38)? != 0xef53 || u32_at(&block, 0x60)? & INCOMPAT_JOURNAL_DEV != 0 {
        return None;
    }
    Some(Superblock::new(
        "ext4",
        text(&block[0x78..0x88]),
        uuid_text(&block[0x68..0x78]),
    ))
}

fn xfs(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let block = read_exact(source, 0, 512)?;
    (&block[..4] == b"XFSB")
        .then(|| Superblock::new("xfs", trimmed(&block[108..120]), uuid_text(&block[32..48])))
}

fn btrfs(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let block = read_exact(source, 0x1_0000, 0x300)?;
    (&block[0x40..0x48] == b"_BHRfS_M")
        .then(|| Superblock::new("btrfs", text(&block[0x12b..0x22b]), uuid_text(&block[0x20..0x30])))
}

fn f2fs(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let block = read_exact(source, 1024, 124 + 1024)?;
    if u32_at(&block, 0)? != 0xf2f5_2010 {
        return None;
    }
    let units = block[124..]
        .chunks_exact(2)
        .map(|two| u16::from_le_bytes([two[0], two[1]]));
    Some(Superblock::new("f2fs", utf16(units), uuid_text(&block[108..124])))
}

fn ntfs(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let block = read_exact(source, 0, 512)?;
    if &block[3..11] != b"NTFS    " || block[510..] != [0x55, 0xaa] {
        return None;
    }
    let serial = u64_at(&block, 72)?;
    Some(Superblock::new(
        "ntfs3",
        String::new(),
        Some(format!("{serial:016X}")),
    ))
}

fn short_serial(serial: u32) -> Option<String> {
    (serial != 0).then(|| format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff))
}

fn exfat(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let block = read_exact(source, 0, 512)?;
    if &block[3..11] != b"EXFAT   " || block[510..] != [0x55, 0xaa] {
        return None;
    }
    let (sector_shift, cluster_shift) = (u32::from(block[108]), u32::from(block[109]));
    if !(9..=12).contains(&sector_shift) || sector_shift + cluster_shift > 25 {
        return None;
    }
    let cluster_size = 1u64 << (sector_shift + cluster_shift);
    let fat = u64::from(u32_at(&block, 80)?) << sector_shift;
    let heap = u64::from(u32_at(&block, 88)?) << sector_shift;
    let clusters = Clusters {
        fat,
        heap,
        size: cluster_size,
    };
    let label = clusters.find_entry(source, u32_at(&block, 96)?, |entry| {
        if entry[0] == 0 {
            return Entry::Last;
        }
        if entry[0] != 0x83 {
            return Entry::Other;
        }
        let count = usize::from(entry[1]).min(11);
        let units = entry[2..2 + 2 * count]
            .chunks_exact(2)
            .map(|two| u16::from_le_bytes([two[0], two[1]]));
        Entry::Label(utf16(units))
    });
    Some(Superblock::new(
        "exfat",
        label.unwrap_or_default(),
        short_serial(u32_at(&block, 100)?),
    ))
}

enum Entry {
    Label(String),
    Other,
    Last,
}

/// The 32-byte entries of a FAT root directory: the volume label is the first one that has the volume
/// attribute and is neither deleted nor part of a long name.
fn fat_entry(entry: &[u8]) -> Entry {
    match (entry[0], entry[11]) {
        (0, _) => Entry::Last,
        (0xe5, _) => Entry::Other,
        (_, attributes) if attributes & 0x3f != 0x0f && attributes & 0x18 == 0x08 => {
            // A first byte of 0x05 stands for 0xe5, which marks deleted entries.
            let mut name = entry[..11].to_vec();
            if name[0] == 0x05 {
                name[0] = 0xe5;
            }
            Entry::Label(trimmed(&name))
        }
        _ => Entry::Other,
    }
}

/// Where the clusters of a FAT or exFAT are, in bytes.
struct Clusters {
    fat: u64,
    heap: u64,
    size: u64,
}

impl Clusters {
    /// Follows the chain from `cluster` through at most [`DIRECTORY_LIMIT`] bytes of entries.
    fn find_entry(
        &self,
        source: &(impl ReadAt + ?Sized),
        mut cluster: u32,
        judge: impl Fn(&[u8]) -> Entry,
    ) -> Option<String> {
        let mut left = DIRECTORY_LIMIT;
        // A loop in the chain ends with the byte budget.
        while left > 0 && (2..0x0fff_fff7).contains(&cluster) {
            let start = self
                .heap
                .checked_add(u64::from(cluster - 2).checked_mul(self.size)?)?;
            match scan_entries(source, start, self.size.min(left), &judge)? {
                Entry::Label(label) => return Some(label),
                Entry::Last => return None,
                Entry::Other => {}
            }
            left = left.saturating_sub(self.size);
            let at = self.fat.checked_add(u64::from(cluster) * 4)?;
            cluster = u32_at(&read_exact(source, at, 4)?, 0)? & 0x0fff_ffff;
        }
        None
    }
}

fn scan_entries(
    source: &(impl ReadAt + ?Sized),
    start: u64,
    length: u64,
    judge: &impl Fn(&[u8]) -> Entry,
) -> Option<Entry> {
    let mut done = 0;
    while done < length {
        let step = (length - done).min(READ_LIMIT as u64);
        let bytes = read_exact(source, start.checked_add(done)?, step as usize)?;
        for entry in bytes.chunks_exact(32) {
            match judge(entry) {
                Entry::Other => {}
                decided => return Some(decided),
            }
        }
        done += step;
    }
    Some(Entry::Other)
}

fn fat(source: &(impl ReadAt + ?Sized)) -> Option<Superblock> {
    let block = read_exact(source, 0, 512)?;
    let sector = u64::from(u16_at(&block, 11)?);
    let per_cluster = u64::from(block[13]);
    let reserved = u64::from(u16_at(&block, 14)?);
    let tables = u64::from(block[16]);
    let root_entries = u64::from(u16_at(&block, 17)?);
    let short_length = u64::from(u16_at(&block, 22)?);
    let plausible = block[510..] == [0x55, 0xaa]
        && matches!(sector, 512 | 1024 | 2048 | 4096)
        && per_cluster.is_power_of_two()
        && reserved > 0
        && (1..=2).contains(&tables)
        && (block[21] == 0xf0 || block[21] >= 0xf8);
    // NTFS and exFAT share the signature and have zeros where FAT has its counts.
    if !plausible || &block[3..11] == b"NTFS    " {
        return None;
    }
    let (serial, fixed_label, root_label);
    if short_length > 0 {
        if root_entries == 0 {
            return None;
        }
        serial = u32_at(&block, 39)?;
        fixed_label = &block[43..54];
        let start = (reserved + tables * short_length) * sector;
        root_label = scan_entries(source, start, root_entries * 32, &fat_entry);
    } else {
        let length = u64::from(u32_at(&block, 36)?);
        if length == 0 {
            return None;
        }
        serial = u32_at(&block, 67)?;
        fixed_label = &block[71..82];
        let clusters = Clusters {
            fat: reserved * sector,
            heap: (reserved + tables * length) * sector,
            size: sector * per_cluster,
        };
        root_label = clusters
            .find_entry(source, u32_at(&block, 44)?, fat_entry)
            .map(Entry::Label);
    }
    let label = match root_label {
        Some(Entry::Label(label)) => label,
        _ if fixed_label == b"NO NAME    " => String::new(),
        _ => trimmed(fixed_label),
    };
    Some(Superblock::new("vfat", label, short_serial(serial)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn volume_dates_become_uuids() {
        assert_eq!(
            iso_date(b"2026010203040506\0").as_deref(),
            Some("2026-01-02-03-04-05-06")
        );
        assert_eq!(iso_date(b"0000000000000000\0"), None);
        assert_eq!(iso_date(&[0; 17]), None);
        assert_eq!(iso_date(&[0xff; 17]), None);
    }

    #[test]
    fn a_fat_chain_that_loops_ends() {
        // FAT32, root cluster 2 whose chain points back at itself, directory full of ordinary entries.
        let mut disk = vec![0; 64 * 512];
        disk[11..13].copy_from_slice(&512u16.to_le_bytes());
        disk[13] = 1;
        disk[14] = 1;
        disk[16] = 1;
        disk[21] = 0xf8;
        disk[36] = 1;
        disk[44] = 2;
        disk[67..71].copy_from_slice(&0x1234_abcdu32.to_le_bytes());
        disk[71..82].copy_from_slice(b"FROM BOOT  ");
        disk[510..512].copy_from_slice(&[0x55, 0xaa]);
        disk[512 + 8] = 2;
        disk[1024..1536].fill(b'A');
        let found = fat(disk.as_slice()).unwrap();
        assert_eq!(
            (found.label.as_deref(), found.uuid.as_deref()),
            (Some("FROM BOOT"), Some("1234-ABCD"))
        );
    }

    #[test]
    fn labels_compare_exactly_and_uuids_without_case() {
        let block = Superblock {
            other_label: Some("Long".into()),
            ..Superblock::new("iso9660", "LONG".into(), Some("aa-BB".into()))
        };
        assert!(block.has_label("LONG") && block.has_label("Long") && !block.has_label("long"));
        assert!(block.has_uuid("AA-bb") && !block.has_uuid(""));
    }

    /// Random bytes with real signatures put where they belong, so that the parsers get past them.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let marks: &[(usize, &[u8])] = &[
            (16 * 2048, b"\x01CD001"),
            (17 * 2048, b"\x02CD001"),
            (17 * 2048 + 88, b"%/E"),
            (0, b"hsqs"),
            (1024 + 0x38, b"\x53\xef"),
            (0, b"XFSB"),
            (0x1_0040, b"_BHRfS_M"),
            (1024, b"\x10\x20\xf5\xf2"),
            (3, b"EXFAT   "),
            (3, b"NTFS    "),
            (510, b"\x55\xaa"),
            (11, b"\x00\x02\x08"),
            (16, b"\x02"),
            (21, b"\xf8"),
            (22, b"\0\0"),
            (108, b"\x09\x03"),
        ];
        (
            proptest::collection::vec(any::<u8>(), 0..2000),
            any::<u32>(),
            0usize..200_000,
        )
            .prop_map(move |(seed, which, size)| {
                let mut disk: Vec<u8> = seed
                    .iter()
                    .copied()
                    .cycle()
                    .take(if seed.is_empty() { 0 } else { size })
                    .collect();
                for (index, (at, mark)) in marks.iter().enumerate() {
                    if which >> index & 1 == 1 && disk.len() >= at + mark.len() {
                        disk[*at..at + mark.len()].copy_from_slice(mark);
                    }
                }
                disk
            })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn no_bytes_make_it_panic(disk in hostile()) {
            for block in identify(disk.as_slice()) {
                prop_assert!(block.label.is_none_or(|label| label.chars().count() <= 512));
            }
        }
    }
}
