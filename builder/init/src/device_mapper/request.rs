//! Requests as the kernel takes them: plain bytes with the offsets of `linux/dm-ioctl.h`, which a test compares with what a C
//! compiler makes of it.

use super::{DeviceMapperError, Mapping};

/// Longest name of a device in bytes: `DM_NAME_LEN` less the zero behind it.
pub const NAME_MAX: usize = 127;
/// Longest UUID in bytes: `DM_UUID_LEN` less the zero.
pub const UUID_MAX: usize = 128;
/// Longest name of a target's type in bytes: `DM_MAX_TYPE_NAME` less the zero.
pub const TYPE_MAX: usize = 15;
/// Most bytes of a request that this program sends. A table with a key of 512 bits or a salt of 256 bytes has less than 2 KiB.
pub(super) const REQUEST_MAX: usize = 64 << 10;
/// `struct dm_ioctl`: offsets and size.
pub(super) mod header {
    pub const DATA_SIZE: usize = 12;
    pub const DATA_START: usize = 16;
    pub const TARGET_COUNT: usize = 20;
    pub const FLAGS: usize = 28;
    pub const DEV: usize = 40;
    pub const NAME: usize = 48;
    pub const UUID: usize = 176;
    pub const SIZE: usize = 312;
}

/// `struct dm_target_spec`: offsets and size.
pub(super) mod spec {
    pub const START: usize = 0;
    pub const LENGTH: usize = 8;
    pub const NEXT: usize = 20;
    pub const TYPE: usize = 24;
    pub const SIZE: usize = 40;
}

/// Version of the interface that is spoken. The kernel takes any minor version up to its own.
pub(super) const VERSION: [u32; 3] = [4, 0, 0];
pub(super) const READ_ONLY: u32 = 1 << 0;
pub(super) const STATUS_TABLE: u32 = 1 << 4;
pub(super) const BUFFER_FULL: u32 = 1 << 8;
pub(super) const SECURE_DATA: u32 = 1 << 15;
pub(super) const DEFERRED_REMOVE: u32 = 1 << 17;

/// A request of the device mapper: `_IOWR(0xfd, NUMBER, struct dm_ioctl)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// `DM_DEV_CREATE`
    Create = 3,
    /// `DM_DEV_REMOVE`
    Remove = 4,
    /// `DM_DEV_SUSPEND`, which resumes unless the flag for suspending is set
    Resume = 6,
    /// `DM_TABLE_LOAD`
    LoadTable = 9,
    /// `DM_TABLE_STATUS`
    TableStatus = 12,
}

impl Request {
    /// The number of the ioctl.
    #[must_use]
    pub const fn code(self) -> u32 {
        // Directions of _IOWR: writing 1, reading 2, in the upper two bits, then 14 bits of size.
        (3 << 30) | ((header::SIZE as u32) << 16) | (0xfd << 8) | self as u32
    }

    pub(super) const fn doing(self) -> &'static str {
        match self {
            Self::Create => "creating",
            Self::Remove => "removing",
            Self::Resume => "starting",
            Self::LoadTable => "loading the table of",
            Self::TableStatus => "asking for the status of",
        }
    }
}

pub(super) fn put_u32(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_ne_bytes());
}

pub(super) fn put_u64(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_ne_bytes());
}

pub(super) fn u32_at(buffer: &[u8], at: usize) -> Option<u32> {
    buffer
        .get(at..at + 4)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u32::from_ne_bytes)
}

pub(super) fn u64_at(buffer: &[u8], at: usize) -> Option<u64> {
    buffer
        .get(at..at + 8)
        .and_then(|bytes| bytes.try_into().ok())
        .map(u64::from_ne_bytes)
}

pub(super) fn checked<'a>(
    what: &'static str,
    text: &'a str,
    longest: usize,
    slashes: bool,
) -> Result<&'a [u8], DeviceMapperError> {
    let why = if text.contains('\0') {
        "it holds a zero byte"
    } else if text.len() > longest {
        "it is too long"
    } else if !slashes && (text.is_empty() || text.contains('/') || text == "." || text == "..") {
        "it must be one name of a file"
    } else if what == "the name" && text == "control" {
        "that is the control device"
    } else {
        return Ok(text.as_bytes());
    };
    let secret = what == "the table";
    Err(DeviceMapperError::Words {
        what,
        text: if secret {
            "(not shown)".into()
        } else {
            text.chars().take(64).collect()
        },
        why,
    })
}

/// A `struct dm_ioctl` about a device, without data.
pub(super) fn plain(name: &str, uuid: &str, flags: u32) -> Result<Vec<u8>, DeviceMapperError> {
    let name = checked("the name", name, NAME_MAX, false)?;
    let uuid = checked("the UUID", uuid, UUID_MAX, true)?;
    let mut buffer = vec![0; header::SIZE];
    for (index, part) in VERSION.into_iter().enumerate() {
        put_u32(&mut buffer, index * 4, part);
    }
    put_u32(&mut buffer, header::DATA_SIZE, header::SIZE as u32);
    put_u32(&mut buffer, header::DATA_START, header::SIZE as u32);
    put_u32(&mut buffer, header::FLAGS, flags);
    buffer[header::NAME..header::NAME + name.len()].copy_from_slice(name);
    buffer[header::UUID..header::UUID + uuid.len()].copy_from_slice(uuid);
    Ok(buffer)
}

/// The request that loads a table.
pub(super) fn table(mapping: &Mapping<'_>) -> Result<Vec<u8>, DeviceMapperError> {
    let words = |why| DeviceMapperError::Words {
        what: "the table",
        text: format!("{} targets", mapping.targets.len()),
        why,
    };
    let mut flags = 0;
    if mapping.read_only {
        flags |= READ_ONLY;
    }
    if mapping.secret {
        flags |= SECURE_DATA;
    }
    let length = mapping.targets.iter().fold(header::SIZE, |length, target| {
        length.saturating_add((spec::SIZE + target.parameters.len() + 1).next_multiple_of(8))
    });
    if length > REQUEST_MAX {
        return Err(words("it is too long"));
    }
    // Taken whole at once: growing would leave copies of a key behind.
    let mut buffer = Vec::with_capacity(length);
    // The UUID is given when the device is created; here the name is enough, and both together are refused.
    buffer.extend_from_slice(&plain(mapping.name, "", flags)?);
    put_u32(&mut buffer, header::TARGET_COUNT, mapping.targets.len() as u32);
    put_u32(&mut buffer, header::DATA_SIZE, length as u32);
    let mut expected = 0;
    for target in mapping.targets {
        if target.sectors == 0 || target.start != expected {
            return Err(words("its targets must follow each other without gaps"));
        }
        expected = target
            .start
            .checked_add(target.sectors)
            .ok_or_else(|| words("it ends behind the last sector there can be"))?;
        let kind = checked("the type", target.kind, TYPE_MAX, false)?;
        let parameters = checked("the table", target.parameters, REQUEST_MAX, true)?;
        let at = buffer.len();
        // A string and the zero behind it, and then the next entry at a multiple of 8.
        let size = (spec::SIZE + parameters.len() + 1).next_multiple_of(8);
        buffer.resize(at + size, 0);
        put_u64(&mut buffer, at + spec::START, target.start);
        put_u64(&mut buffer, at + spec::LENGTH, target.sectors);
        put_u32(&mut buffer, at + spec::NEXT, size as u32);
        buffer[at + spec::TYPE..at + spec::TYPE + kind.len()].copy_from_slice(kind);
        buffer[at + spec::SIZE..at + spec::SIZE + parameters.len()].copy_from_slice(parameters);
    }
    if mapping.targets.is_empty() {
        return Err(words("it is empty"));
    }
    Ok(buffer)
}

/// Takes a `dev_t` of the kernel's 64-bit form apart (`huge_encode_dev`).
pub(super) fn device_numbers(dev: u64) -> (u32, u32) {
    let major = (dev >> 8) & 0xfff;
    let minor = (dev & 0xff) | ((dev >> 12) & 0xffff_ff00);
    (major as u32, minor as u32)
}

/// Overwrites what may hold a key, in a way that is not optimized away.
pub(super) fn wipe(buffer: &mut [u8]) {
    buffer.fill(0);
    std::hint::black_box(buffer);
}

/// Reads the list of targets behind the header of an answer.
pub(super) fn answers(buffer: &[u8]) -> Result<Vec<String>, &'static str> {
    const CUT: &str = "cut off";
    if u32_at(buffer, header::FLAGS).ok_or(CUT)? & BUFFER_FULL != 0 {
        return Err("longer than this program has room for");
    }
    let count = u32_at(buffer, header::TARGET_COUNT).ok_or(CUT)?;
    let start = u32_at(buffer, header::DATA_START).ok_or(CUT)? as usize;
    let mut at = start;
    let mut out = Vec::new();
    for _ in 0..count {
        let text = buffer.get(at + spec::SIZE..).ok_or(CUT)?;
        let end = text.iter().position(|byte| *byte == 0).ok_or(CUT)?;
        out.push(String::from_utf8_lossy(&text[..end]).into_owned());
        // Here the kernel counts from the first entry, not from this one as when a table is loaded.
        let next = start + u32_at(buffer, at + spec::NEXT).ok_or(CUT)? as usize;
        if next <= at {
            return match out.len() == count as usize {
                true => Ok(out),
                false => Err("going in circles"),
            };
        }
        at = next;
    }
    Ok(out)
}
