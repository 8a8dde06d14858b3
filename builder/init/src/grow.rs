//! Growing the partition of the root, and the ext4 on it, to the end of a disk that is larger than the image that was
//! written to it.
//!
//! Only the disk that holds the root is written to, only with `growroot` on the command line, and only where the root's
//! partition is the last one. The backup of the table is written at its new place and is on the disk before the
//! first copy changes, so that after a power cut one of the two is whole.
//!
//! Sources: UEFI 2.10 §5 (MBR, GPT); Linux `linux/blkpg.h`, `fs/ext4/ext4.h` (`EXT4_IOC_RESIZE_FS`).

use crate::device::{self, BlockDevice};
use crate::log::Log;
use crate::plan::NEW_ROOT;
use crate::superblock::{ReadAt, read_exact, u16_at, u32_at, u64_at};
use rustix::mount::MountFlags;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Where partitions end: multiples of so many bytes.
const ALIGNMENT: u64 = 1 << 20;
/// A file system that could grow by less is left alone: a last group that small may not hold its own tables, and would be
/// tried again at every boot.
const WORTHWHILE: u64 = 16 << 20;
/// Type of the MBR record that stands for a GPT.
const PROTECTIVE: u8 = 0xee;
const BLKPG: u32 = 0x1269;
const BLKPG_RESIZE_PARTITION: i32 = 3;
const EXT4_IOC_RESIZE_FS: u32 = 0x4008_6610;
/// `EXT4_FEATURE_INCOMPAT_64BIT`
const WIDE: u32 = 0x80;

/// What a larger partition takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growth {
    /// First byte of the partition.
    pub start: u64,
    /// Its bytes, grown.
    pub length: u64,
    /// Bytes to write to the disk with their places, each to be on it before the next is written.
    pub writes: Vec<(u64, Vec<u8>)>,
}

/// How partition `number` reaches to the end of a disk of `size` bytes; None if it does already.
///
/// # Errors
/// Says why that cannot be.
pub fn plan(
    disk: &(impl ReadAt + ?Sized),
    size: u64,
    sector: u32,
    number: u32,
) -> Result<Option<Growth>, String> {
    if !matches!(sector, 512 | 1024 | 2048 | 4096) {
        return Err(format!("sectors of {sector} bytes"));
    }
    let mbr = read_exact(disk, 0, 512).ok_or("its first sector cannot be read")?;
    if mbr[510..] != [0x55, 0xaa] {
        return Err("it has no partition table".into());
    }
    if (0..4).any(|slot| mbr[record(slot) + 4] == PROTECTIVE) {
        gpt(disk, size, sector, number, &mbr)
    } else {
        dos(size, sector, number, &mbr)
    }
}

/// Where a record of an MBR is.
const fn record(slot: usize) -> usize {
    446 + 16 * slot
}

/// First sector and number of sectors of a record.
fn extent(mbr: &[u8], slot: usize) -> (u64, u64) {
    let word = |at| u64::from(u32_at(mbr, at).unwrap_or(0));
    (word(record(slot) + 8), word(record(slot) + 12))
}

/// Sets the length of a record. Its last cylinder, head and sector get the values that say "see the sectors".
fn set_length(mbr: &mut [u8], slot: usize, sectors: u64) {
    let at = record(slot);
    mbr[at + 5..at + 8].copy_from_slice(&[0xfe, 0xff, 0xff]);
    let sectors = u32::try_from(sectors).unwrap_or(u32::MAX);
    mbr[at + 12..at + 16].copy_from_slice(&sectors.to_le_bytes());
}

/// The end of the last whole alignment before `end`, in sectors.
fn aligned(end: u64, sector: u32) -> u64 {
    let unit = ALIGNMENT / u64::from(sector);
    end / unit * unit
}

fn dos(size: u64, sector: u32, number: u32, mbr: &[u8]) -> Result<Option<Growth>, String> {
    let slot = match number {
        1..=4 => number as usize - 1,
        _ => return Err("it is inside of an extended partition".into()),
    };
    let (first, length) = extent(mbr, slot);
    if mbr[record(slot) + 4] == 0 || length == 0 {
        return Err(format!("the table has no partition {number}"));
    }
    if (0..4).any(|other| mbr[record(other) + 4] != 0 && extent(mbr, other).0 > first) {
        return Err("another partition lies behind it".into());
    }
    // What 32 bits address.
    let end = aligned((size / u64::from(sector)).min(u64::from(u32::MAX)), sector);
    if end <= first + length {
        return Ok(None);
    }
    let mut mbr = mbr.to_vec();
    set_length(&mut mbr, slot, end - first);
    Ok(Some(Growth {
        start: first * u64::from(sector),
        length: (end - first) * u64::from(sector),
        writes: vec![(0, mbr)],
    }))
}

/// Sets the checksum of a header that is whole otherwise.
fn seal(header: &mut [u8]) {
    header[16..20].fill(0);
    let sum = crc32fast::hash(header);
    header[16..20].copy_from_slice(&sum.to_le_bytes());
}

fn gpt(
    disk: &(impl ReadAt + ?Sized),
    size: u64,
    sector: u32,
    number: u32,
    mbr: &[u8],
) -> Result<Option<Growth>, String> {
    let damaged = |what: &str| format!("its GPT is damaged ({what}); `sgdisk --verify` says more");
    let wide = u64::from(sector);
    let whole = read_exact(disk, wide, sector as usize).ok_or("its GPT cannot be read")?;
    let length = u32_at(&whole, 12).unwrap_or(0) as usize;
    if whole[..8] != *b"EFI PART" || !(92..=sector as usize).contains(&length) {
        return Err(damaged("no header"));
    }
    let mut header = whole[..length].to_vec();
    seal(&mut header);
    if header[16..20] != whole[16..20] {
        return Err(damaged("checksum of the header"));
    }
    let word = |at| u64_at(&header, at).unwrap_or(0);
    let (here, backup, entries_at) = (word(24), word(32), word(72));
    let count = u32_at(&header, 80).unwrap_or(0) as usize;
    let each = u32_at(&header, 84).unwrap_or(0) as usize;
    let table = count.saturating_mul(each);
    if here != 1 || each < 128 || number == 0 || number as usize > count || table > 64 << 10 || entries_at < 2
    {
        return Err(damaged("header"));
    }
    let place = entries_at.checked_mul(wide).ok_or_else(|| damaged("header"))?;
    let mut entries = read_exact(disk, place, table).ok_or_else(|| damaged("entries"))?;
    if Some(crc32fast::hash(&entries)) != u32_at(&header, 88) {
        return Err(damaged("checksum of the entries"));
    }
    let sectors = size / wide;
    let table_sectors = (table as u64).div_ceil(wide);
    let last_usable = sectors
        .checked_sub(2 + table_sectors)
        .ok_or("the disk is too small for a GPT")?;
    let at = (number as usize - 1) * each;
    let field = |entry: &[u8], at| u64_at(entry, at).unwrap_or(0);
    let (first, last) = (field(&entries[at..], 32), field(&entries[at..], 40));
    if entries[at..at + 16] == [0; 16] || last < first {
        return Err(format!("the table has no partition {number}"));
    }
    if last > last_usable {
        return Err("the disk is smaller than its table says".into());
    }
    let behind = |entry: &[u8]| entry[..16] != [0; 16] && field(entry, 32) > first;
    if entries.chunks_exact(each).any(behind) {
        return Err("another partition lies behind it".into());
    }
    let end = aligned(last_usable + 1, sector).max(last + 1);
    if end == last + 1 && backup == sectors - 1 {
        return Ok(None);
    }
    entries[at + 40..at + 48].copy_from_slice(&(end - 1).to_le_bytes());

    let sum = crc32fast::hash(&entries);
    entries.resize(table_sectors as usize * sector as usize, 0);
    let sealed = |here: u64, other: u64, entries_at: u64| {
        let mut header = header.clone();
        for (at, value) in [(24, here), (32, other), (48, last_usable), (72, entries_at)] {
            header[at..at + 8].copy_from_slice(&value.to_le_bytes());
        }
        header[88..92].copy_from_slice(&sum.to_le_bytes());
        seal(&mut header);
        header.resize(sector as usize, 0);
        header
    };
    let backup_at = last_usable + 1;
    let mut backup = entries.clone();
    backup.extend(sealed(sectors - 1, 1, backup_at));
    let primary = sealed(1, sectors - 1, entries_at);
    let mut writes = vec![(backup_at * wide, backup)];
    if entries_at == 2 {
        writes.push((wide, [primary, entries].concat()));
    } else {
        writes.push((place, entries));
        writes.push((wide, primary));
    }
    let mut first_sector = mbr.to_vec();
    let used = |slot: &usize| mbr[record(*slot) + 4] != 0;
    for slot in (0..4).filter(used) {
        if mbr[record(slot) + 4] != PROTECTIVE {
            // A hybrid MBR that shows the root shows what it is now.
            if extent(mbr, slot) == (first, last + 1 - first) {
                set_length(&mut first_sector, slot, end - first);
            }
        } else if (0..4).filter(used).count() == 1 {
            set_length(&mut first_sector, slot, sectors - 1);
        }
    }
    if first_sector != mbr {
        writes.push((0, first_sector));
    }
    Ok(Some(Growth {
        start: first * wide,
        length: (end - first) * wide,
        writes,
    }))
}

/// `struct blkpg_partition`
#[repr(C)]
struct Partition {
    start: i64,
    length: i64,
    number: libc::c_int,
    names: [u8; 128],
}

/// `struct blkpg_ioctl_arg`
#[repr(C)]
struct Request {
    operation: libc::c_int,
    flags: libc::c_int,
    length: libc::c_int,
    data: *mut Partition,
}

/// Tells the kernel the new size of a partition, which may be mounted.
fn tell_kernel(disk: &File, growth: &Growth, number: u32) -> io::Result<()> {
    let signed = |value: u64| i64::try_from(value).map_err(|_| io::ErrorKind::InvalidInput);
    let mut partition = Partition {
        start: signed(growth.start)?,
        length: signed(growth.length)?,
        number: number.cast_signed(),
        names: [0; 128],
    };
    let request = Request {
        operation: BLKPG_RESIZE_PARTITION,
        flags: 0,
        length: size_of::<Partition>() as libc::c_int,
        data: &raw mut partition,
    };
    // SAFETY: BLKPG reads a `blkpg_ioctl_arg` and the `blkpg_partition` that it points to; both have the kernel's layout and
    // live until the call returns.
    let result = unsafe { libc::ioctl(disk.as_raw_fd(), BLKPG as _, &raw const request) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// What the superblock of an ext4 says of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ext4Size {
    /// Bytes of a block.
    pub block: u64,
    /// Blocks.
    pub blocks: u64,
    /// Whether it was unmounted cleanly and has no known damage.
    pub clean: bool,
}

/// Reads the superblock of an ext4.
#[must_use]
pub fn ext4_size(volume: &(impl ReadAt + ?Sized)) -> Option<Ext4Size> {
    let block = read_exact(volume, 1024, 1024)?;
    if u16_at(&block, 0x38)? != 0xef53 {
        return None;
    }
    let shift = u32_at(&block, 0x18).filter(|shift| *shift <= 6)?;
    let high = if u32_at(&block, 0x60)? & WIDE != 0 {
        u32_at(&block, 0x150)?
    } else {
        0
    };
    Some(Ext4Size {
        block: 1024 << shift,
        blocks: u64::from(high) << 32 | u64::from(u32_at(&block, 4)?),
        // Bit 0: clean. Bit 1: errors were found.
        clean: u16_at(&block, 0x3a)? & 3 == 1,
    })
}

fn grow_ext4(node: &str, length: u64, flags: MountFlags, log: &Log) -> Result<(), String> {
    let volume = File::open(node).map_err(|error| error.to_string())?;
    let size = ext4_size(&volume).ok_or("it has no ext4 superblock")?;
    let wanted = length / size.block;
    if wanted.saturating_sub(size.blocks) < WORTHWHILE / size.block {
        return Ok(());
    }
    if !size.clean {
        return Err("it was not unmounted cleanly; it grows at the next boot after its check".into());
    }
    let remount = |flags: MountFlags| {
        rustix::mount::mount_remount(NEW_ROOT, flags, c"")
            .map_err(|error| format!("mounting it again: {error}"))
    };
    let read_only = flags.contains(MountFlags::RDONLY);
    if read_only {
        remount(flags - MountFlags::RDONLY)?;
    }
    let resize = || -> io::Result<()> {
        let root = File::open(NEW_ROOT)?;
        // SAFETY: the request reads a 64-bit number of blocks, which `wanted` is and which lives until the call returns.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), EXT4_IOC_RESIZE_FS as _, &raw const wanted) };
        if result < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    };
    let resized = resize();
    if read_only {
        remount(flags)?;
    }
    resized.map_err(|error| format!("resizing: {error}"))?;
    log.info(format_args!(
        "{node}: the file system grew from {} to {} MiB",
        (size.blocks * size.block) >> 20,
        length >> 20
    ));
    Ok(())
}

fn grow_partition(disk: &BlockDevice, root: &BlockDevice, number: u32, log: &Log) -> Result<u64, String> {
    let now = root.sectors * 512;
    let node = disk.node();
    let file = File::open(&node).map_err(|error| error.to_string())?;
    let Some(growth) = plan(&file, disk.sectors * 512, disk.sector_size, number)? else {
        return Ok(now);
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&node)
        .map_err(|error| format!("opening it for writing: {error}"))?;
    for (place, bytes) in &growth.writes {
        file.write_all_at(bytes, *place)
            .and_then(|()| file.sync_all())
            .map_err(|error| format!("writing its partition table: {error}"))?;
    }
    if growth.length > now {
        tell_kernel(&file, &growth, number)
            .map_err(|error| format!("the kernel did not take the new size of the partition: {error}"))?;
        log.info(format_args!(
            "{}: the partition grew from {} to {} MiB",
            root.node(),
            now >> 20,
            growth.length >> 20
        ));
    }
    Ok(growth.length.max(now))
}

/// Grows the partition that the mounted root is on, and its file system if that is ext4. `flags` are those that it is mounted with.
///
/// # Errors
/// Says what stood in the way. The root stays mounted and whole.
pub fn run(node: &str, kind: &str, flags: MountFlags, log: &Log) -> Result<(), String> {
    let devices = device::list(Path::new("/sys")).map_err(|error| error.to_string())?;
    let root = devices
        .iter()
        .find(|device| device.node() == node)
        .ok_or("the kernel does not list it")?;
    let (Some(number), Some(name)) = (root.partition, &root.disk) else {
        return Err("it is not a partition".into());
    };
    let disk = devices
        .iter()
        .find(|device| device.name == *name)
        .ok_or("the kernel does not list its disk")?;
    let length = grow_partition(disk, root, number, log).map_err(|why| format!("{}: {why}", disk.node()))?;
    if kind == "ext4" {
        return grow_ext4(node, length, flags, log);
    }
    log.info(format_args!("{node}: {kind} is not grown here"));
    Ok(())
}
