//! Reading an image back, without trust in anything that it says.

use std::collections::{HashMap, HashSet};

use lycia_tree::{Device, NAME_MAX, PATH_MAX, Timestamp, display};
use thiserror::Error;

use super::BLOCK;
use super::check::{self, Directories, Faults};
use super::eltorito::Platform;
use super::field::{VolumeTime, parse_record_date};
use super::layout::DESCRIPTORS;
use super::system_use::{Link, SystemUse};

/// How much to read at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Entries of the tree.
    pub entries: usize,
    /// Bytes of their paths, texts of links and extents.
    pub bytes: u64,
    /// Bytes of system use of one entry, continuations and all.
    pub system_use: usize,
}

impl Default for Limits {
    /// Two million entries with 1 GiB, 64 KiB.
    fn default() -> Limits {
        Limits {
            entries: 2_000_000,
            bytes: 1 << 30,
            system_use: 64 << 10,
        }
    }
}

/// What is wrong with an image.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InspectError {
    /// Something is not as the format says.
    #[error("reading the ISO image: {place}: {reason}")]
    Malformed {
        /// What was being read.
        place: String,
        /// What is wrong.
        reason: String,
    },
    /// More than the caller allowed.
    #[error("reading the ISO image: more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The most allowed.
        limit: u64,
    },
}

pub(super) fn malformed(place: impl Into<String>, reason: impl Into<String>) -> InspectError {
    InspectError::Malformed {
        place: place.into(),
        reason: reason.into(),
    }
}

/// A range of blocks with content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Extent {
    /// First block.
    pub block: u32,
    /// Bytes.
    pub len: u32,
}

impl Extent {
    /// First byte in the image.
    pub fn offset(&self) -> u64 {
        u64::from(self.block) * BLOCK
    }
}

/// What an entry is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file with its extents in order.
    Regular(Vec<Extent>),
    /// A symbolic link and its text.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

/// An entry of the tree, as Rock Ridge has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Absolute path; `/` for the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of names.
    pub links: u32,
    /// The number that the names of one file share; 0 when the image has none.
    pub serial: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
}

impl Entry {
    /// Bytes of a regular file.
    pub fn len(&self) -> u64 {
        match &self.kind {
            EntryKind::Regular(extents) => extents.iter().map(|extent| u64::from(extent.len)).sum(),
            _ => 0,
        }
    }

    /// Whether it has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The pieces of a regular file's content in `image`, which must be what was inspected.
    pub fn content<'a>(&'a self, image: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
        let extents: &[Extent] = match &self.kind {
            EntryKind::Regular(extents) => extents,
            _ => &[],
        };
        extents.iter().filter_map(|extent| {
            let start = usize::try_from(extent.offset()).ok()?;
            image.get(start..start.checked_add(extent.len as usize)?)
        })
    }
}

/// An image that the boot catalog lists.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BootEntry {
    /// For which firmware.
    pub platform: Platform,
    /// Whether firmware may boot it.
    pub bootable: bool,
    /// Kind of emulation; 0 for none.
    pub emulation: u8,
    /// Sectors of 512 bytes to load; 0 may mean all.
    pub sectors: u16,
    /// First block.
    pub block: u32,
}

/// What an image is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    /// The label.
    pub volume_id: String,
    /// System identifier.
    pub system_id: String,
    /// Volume set identifier.
    pub volume_set_id: String,
    /// Publisher.
    pub publisher: String,
    /// Preparer.
    pub preparer: String,
    /// Application.
    pub application: String,
    /// Date of creation.
    pub created: Option<VolumeTime>,
    /// Date of modification.
    pub modified: Option<VolumeTime>,
    /// Blocks of the volume.
    pub blocks: u32,
    /// Whether there is a Joliet hierarchy.
    pub joliet: bool,
    /// Whether there is Rock Ridge.
    pub rock_ridge: bool,
    /// The boot catalog.
    pub boot: Vec<BootEntry>,
    /// The root and everything below, directories before what is in them.
    pub entries: Vec<Entry>,
    /// What is wrong with the path tables and the hierarchy of Joliet, which keeps nobody from reading the tree; each with its
    /// first byte.
    pub faults: Vec<(u64, String)>,
}

impl Volume {
    /// The UUID that blkid gives the volume.
    pub fn uuid(&self) -> Option<String> {
        self.modified.or(self.created).map(|time| time.to_string())
    }

    /// The entry at an absolute path, links not followed.
    pub fn entry(&self, path: &[u8]) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.path == path)
    }
}

/// Reads an image: its descriptors, boot catalog and tree. Contents are not looked at, only that they are
/// inside the image.
///
/// # Errors
/// When something is not as the format says, or more than `limits` allow.
pub fn inspect(image: &[u8], limits: &Limits) -> Result<Volume, InspectError> {
    let mut primary = None;
    let mut catalog = None;
    let mut joliet = None;
    let mut block = DESCRIPTORS;
    loop {
        let place = format!("volume descriptor in block {block}");
        let bytes = blocks(image, block, BLOCK, &place)?;
        if &bytes[1..6] != b"CD001" || bytes[6] != 1 {
            return Err(malformed(place, "no `CD001`"));
        }
        match bytes[0] {
            0 if bytes[7..30] == *b"EL TORITO SPECIFICATION" => catalog = Some(le_32(bytes, 0x47)),
            1 if primary.is_none() => primary = Some((bytes, u64::from(block) * BLOCK)),
            2 if joliet.is_none() && matches!(&bytes[88..91], b"%/@" | b"%/C" | b"%/E") => {
                joliet = Some((bytes, u64::from(block) * BLOCK));
            }
            255 => break,
            _ => {}
        }
        block += 1;
        if block > DESCRIPTORS + 64 {
            return Err(malformed("volume descriptors", "no end after 64"));
        }
    }
    let (primary, primary_at) = primary.ok_or_else(|| malformed("volume descriptors", "no primary one"))?;
    let place = "the primary volume descriptor";
    if both_16(primary, 128, place)? != BLOCK as u16 {
        return Err(malformed(place, "blocks of another size than 2048"));
    }
    let volume_blocks = both_32(primary, 80, place)?;
    if u64::from(volume_blocks) * BLOCK > image.len() as u64 {
        return Err(malformed(
            place,
            format!(
                "the volume has {volume_blocks} blocks, the image {} bytes: it is cut",
                image.len()
            ),
        ));
    }
    let root = record(&primary[156..190], "the root's record")?;
    let mut reader = Reader {
        image: &image[..(u64::from(volume_blocks) * BLOCK) as usize],
        limits,
        skip: None,
        visited: HashMap::new(),
        entries: Vec::new(),
        relocation: None,
        left: limits.bytes,
        identifiers: HashMap::from([(root.extent.block, vec![0])]),
    };
    reader.read_tree(&root)?;
    let mut faults = Faults::default();
    check::path_tables(
        reader.image,
        primary,
        primary_at,
        &reader.identifiers,
        "the tree",
        &mut faults,
    );
    let entries = std::mem::take(&mut reader.entries);
    if let Some((descriptor, at)) = joliet {
        check::joliet(&mut reader, descriptor, at, &entries, &mut faults);
    }
    let text = |range: std::ops::Range<usize>| {
        String::from_utf8_lossy(&primary[range])
            .trim_end_matches([' ', '\0'])
            .to_owned()
    };
    let date = |at: usize| {
        let mut bytes = [0; 17];
        bytes.copy_from_slice(&primary[at..at + 17]);
        VolumeTime::decode(&bytes)
    };
    Ok(Volume {
        system_id: text(8..40),
        volume_id: text(40..72),
        volume_set_id: text(190..318),
        publisher: text(318..446),
        preparer: text(446..574),
        application: text(574..702),
        created: date(813),
        modified: date(830),
        blocks: volume_blocks,
        joliet: joliet.is_some(),
        rock_ridge: reader.skip.is_some(),
        boot: match catalog {
            Some(block) => read_catalog(reader.image, block)?,
            None => Vec::new(),
        },
        entries,
        faults: faults.0,
    })
}

/// `len` bytes from a block on.
pub(super) fn blocks<'a>(
    image: &'a [u8],
    block: u32,
    len: u64,
    place: &str,
) -> Result<&'a [u8], InspectError> {
    let start = u64::from(block) * BLOCK;
    let end = start + len;
    if end > image.len() as u64 {
        return Err(malformed(
            place,
            format!(
                "bytes {start} to {end} are outside of the image's {}",
                image.len()
            ),
        ));
    }
    Ok(&image[start as usize..end as usize])
}

pub(super) fn le_32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(super) fn both_32(bytes: &[u8], at: usize, place: &str) -> Result<u32, InspectError> {
    let little = le_32(bytes, at);
    if le_32(bytes, at + 4).swap_bytes() != little {
        return Err(malformed(
            place,
            format!("a number in both byte orders at {at} is not the same in both"),
        ));
    }
    Ok(little)
}

fn both_16(bytes: &[u8], at: usize, place: &str) -> Result<u16, InspectError> {
    let little = u16::from_le_bytes([bytes[at], bytes[at + 1]]);
    if u16::from_be_bytes([bytes[at + 2], bytes[at + 3]]) != little {
        return Err(malformed(
            place,
            format!("a number in both byte orders at {at} is not the same in both"),
        ));
    }
    Ok(little)
}

fn read_catalog(image: &[u8], block: u32) -> Result<Vec<BootEntry>, InspectError> {
    let place = "the boot catalog";
    let bytes = blocks(image, block, BLOCK, place)?;
    let sum = bytes[..32].chunks_exact(2).fold(0u16, |sum, word| {
        sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
    });
    if bytes[0] != 1 || bytes[30..32] != [0x55, 0xaa] || sum != 0 {
        return Err(malformed(place, "its validation entry is wrong"));
    }
    let entry = |at: usize, platform: u8| -> Result<BootEntry, InspectError> {
        let entry = BootEntry {
            platform: Platform::from_number(platform),
            bootable: match bytes[at] {
                0x88 => true,
                0 => false,
                other => return Err(malformed(place, format!("a boot indicator {other:#x}"))),
            },
            emulation: bytes[at + 1] & 0x0f,
            sectors: u16::from_le_bytes([bytes[at + 6], bytes[at + 7]]),
            block: le_32(bytes, at + 8),
        };
        blocks(image, entry.block, u64::from(entry.sectors) * 512, "a boot image")?;
        Ok(entry)
    };
    let mut found = vec![entry(32, bytes[1])?];
    let mut at = 64;
    while at + 32 <= bytes.len() && matches!(bytes[at], 0x90 | 0x91) {
        let (last, platform) = (bytes[at] == 0x91, bytes[at + 1]);
        let count = u16::from_le_bytes([bytes[at + 2], bytes[at + 3]]);
        at += 32;
        for _ in 0..count {
            if at + 32 > bytes.len() {
                return Err(malformed(place, "a section runs past its block"));
            }
            found.push(entry(at, platform)?);
            at += 32;
            // Extensions of selection criteria.
            while at + 32 <= bytes.len() && bytes[at] == 0x44 {
                at += 32;
            }
        }
        if last {
            break;
        }
    }
    Ok(found)
}

/// A directory record.
pub(super) struct Record<'a> {
    pub extent: Extent,
    date: [u8; 7],
    pub flags: u8,
    pub identifier: &'a [u8],
    system_use: &'a [u8],
}

pub(super) const FLAG_DIRECTORY: u8 = 2;
pub(super) const FLAG_MULTI_EXTENT: u8 = 0x80;

/// The record that `bytes`, which are some, begin with.
pub(super) fn record<'a>(bytes: &'a [u8], place: &str) -> Result<Record<'a>, InspectError> {
    let len = usize::from(bytes[0]);
    if len < 34 || len > bytes.len() {
        return Err(malformed(place, format!("a directory record of {len} bytes")));
    }
    let identifier_len = usize::from(bytes[32]);
    let end = 33 + identifier_len;
    if identifier_len == 0 || end > len {
        return Err(malformed(
            place,
            format!("an identifier of {identifier_len} bytes"),
        ));
    }
    if bytes[1] != 0 || bytes[26] != 0 || bytes[27] != 0 {
        return Err(malformed(place, "extended attributes or interleaved files"));
    }
    let mut date = [0; 7];
    date.copy_from_slice(&bytes[18..25]);
    Ok(Record {
        extent: Extent {
            block: both_32(bytes, 2, place)?,
            len: both_32(bytes, 10, place)?,
        },
        date,
        flags: bytes[25],
        identifier: &bytes[33..end],
        system_use: &bytes[(end + end % 2).min(len)..len],
    })
}

pub(super) struct Reader<'a> {
    pub image: &'a [u8],
    pub limits: &'a Limits,
    /// Bytes to skip before the system use entries of each record, when SUSP is in use.
    pub skip: Option<usize>,
    /// Directories by block, and their paths.
    visited: HashMap<u32, Vec<u8>>,
    entries: Vec<Entry>,
    /// The entry of the directory that holds moved ones.
    relocation: Option<usize>,
    /// Bytes that may still be held.
    left: u64,
    /// Identifiers of directories by their blocks.
    identifiers: Directories,
}

/// A directory to read.
struct Pending {
    extent: Extent,
    path: Vec<u8>,
    /// The block of the directory that holds it in the tree, and the one that holds it on the volume.
    parent: u32,
    holder: Option<u32>,
    entry: usize,
}

impl Reader<'_> {
    /// Counts bytes that are held.
    pub(super) fn hold(&mut self, bytes: usize) -> Result<(), InspectError> {
        self.left = self.left.checked_sub(bytes as u64).ok_or(InspectError::Limit {
            what: "bytes of paths, links and extents",
            limit: self.limits.bytes,
        })?;
        Ok(())
    }

    fn read_tree(&mut self, root: &Record<'_>) -> Result<(), InspectError> {
        if root.flags & FLAG_DIRECTORY == 0 || root.identifier != [0] {
            return Err(malformed("the root's record", "it is no directory's"));
        }
        self.find_susp(root.extent)?;
        self.entries.push(Entry {
            path: b"/".to_vec(),
            kind: EntryKind::Directory,
            mode: 0o555,
            uid: 0,
            gid: 0,
            links: 1,
            serial: 0,
            mtime: Timestamp::default(),
        });
        let mut pending = vec![Pending {
            extent: root.extent,
            path: b"/".to_vec(),
            parent: root.extent.block,
            holder: Some(root.extent.block),
            entry: 0,
        }];
        while let Some(directory) = pending.pop() {
            let place = display(&directory.path);
            if let Some(other) = self
                .visited
                .insert(directory.extent.block, directory.path.clone())
            {
                return Err(malformed(
                    place,
                    format!("the directory is also at {}", display(&other)),
                ));
            }
            let mut found = self.read_directory(&directory)?;
            // The last is read next: names come in their order then.
            found.reverse();
            pending.append(&mut found);
        }
        self.drop_relocation();
        self.entries.sort_by(|a, b| {
            let (a, b) = (a.path.split(|&c| c == b'/'), b.path.split(|&c| c == b'/'));
            a.filter(|part| !part.is_empty())
                .cmp(b.filter(|part| !part.is_empty()))
        });
        Ok(())
    }

    /// Looks for the SP entry of SUSP in the root's first record.
    fn find_susp(&mut self, root: Extent) -> Result<(), InspectError> {
        let place = "the root directory";
        let bytes = blocks(self.image, root.block, root.len.into(), place)?;
        if bytes.is_empty() {
            return Err(malformed(place, "it is empty"));
        }
        let first = record(bytes, place)?;
        if let [b'S', b'P', 7, 1, 0xbe, 0xef, skip, ..] = first.system_use {
            self.skip = Some(usize::from(*skip));
        }
        Ok(())
    }

    /// The directory of moved directories is not part of the tree once these are back in their places.
    fn drop_relocation(&mut self) {
        let Some(at) = self.relocation else { return };
        let prefix = [self.entries[at].path.as_slice(), b"/"].concat();
        if at > 0 && !self.entries.iter().any(|entry| entry.path.starts_with(&prefix)) {
            self.entries.remove(at);
        }
    }

    fn read_directory(&mut self, directory: &Pending) -> Result<Vec<Pending>, InspectError> {
        let place = display(&directory.path);
        let bytes = blocks(
            self.image,
            directory.extent.block,
            directory.extent.len.into(),
            &place,
        )?;
        let mut found = Vec::new();
        let mut names = HashSet::new();
        let mut count = 0;
        // A file whose record says that another extent follows.
        let mut unfinished: Option<(usize, Vec<u8>)> = None;
        let mut at = 0;
        while at < bytes.len() {
            let block_end = (at / BLOCK as usize + 1) * BLOCK as usize;
            if bytes[at] == 0 {
                at = block_end;
                continue;
            }
            let record = record(&bytes[at..block_end.min(bytes.len())], &place)?;
            at += usize::from(bytes[at]);
            let system_use = match self.skip {
                Some(skip) => SystemUse::read(self.image, self.limits, record.system_use, skip, &place)?,
                None => SystemUse::default(),
            };
            count += 1;
            match (count, record.identifier) {
                (1, [0]) => {
                    if record.extent != directory.extent {
                        return Err(malformed(place, "its own record says that it is elsewhere"));
                    }
                    self.describe(directory.entry, &record, &system_use, &place)?;
                    continue;
                }
                (2, [1]) => {
                    let parent = match system_use.parent {
                        Some(moved_from) => moved_from,
                        None => record.extent.block,
                    };
                    let holder = directory
                        .holder
                        .is_none_or(|holder| record.extent.block == holder);
                    if parent != directory.parent || !holder {
                        return Err(malformed(place, "its parent's record says that it is elsewhere"));
                    }
                    continue;
                }
                (1 | 2, _) | (_, [0] | [1]) => {
                    return Err(malformed(
                        place,
                        "its own and its parent's record are not the first",
                    ));
                }
                _ => {}
            }
            // Directories can share their blocks: whatever is read of them comes to an end.
            self.hold(size_of::<Extent>())?;
            if record.flags & FLAG_DIRECTORY != 0 {
                self.hold(record.identifier.len())?;
                self.identifiers
                    .insert(record.extent.block, record.identifier.to_vec());
            }
            if system_use.relocated {
                // It is read from where it belongs.
                self.relocation = Some(directory.entry);
                continue;
            }
            if let Some((entry, identifier)) = unfinished.take() {
                if record.identifier != identifier {
                    return Err(malformed(place, "the next extent of a file is missing"));
                }
                self.add_extent(entry, &record, &place)?;
                if record.flags & FLAG_MULTI_EXTENT != 0 {
                    unfinished = Some((entry, identifier));
                }
                continue;
            }
            let name = match &system_use.name {
                Some(name) => name.clone(),
                None => plain_name(record.identifier),
            };
            let dots = matches!(name.as_slice(), b"" | b"." | b"..");
            if dots || name.len() > NAME_MAX || name.contains(&b'/') || name.contains(&0) {
                return Err(malformed(place, format!("a name `{}`", display(&name))));
            }
            let mut path = directory.path.clone();
            if path != b"/" {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            if path.len() > PATH_MAX {
                return Err(malformed(place, "a path of more than 4095 bytes"));
            }
            if !names.insert(name) {
                return Err(malformed(display(&path), "the name comes twice"));
            }
            if self.entries.len() >= self.limits.entries {
                return Err(InspectError::Limit {
                    what: "entries",
                    limit: self.limits.entries as u64,
                });
            }
            self.hold(path.len())?;
            let entry = self.entries.len();
            let is_directory = record.flags & FLAG_DIRECTORY != 0;
            self.entries.push(Entry {
                path: path.clone(),
                kind: match is_directory || system_use.child.is_some() {
                    true => EntryKind::Directory,
                    false => EntryKind::Regular(Vec::new()),
                },
                mode: 0o444,
                uid: 0,
                gid: 0,
                links: 1,
                serial: 0,
                mtime: Timestamp::default(),
            });
            self.describe(entry, &record, &system_use, &display(&path))?;
            match system_use.child {
                Some(block) => {
                    let extent = self.own_extent(block, &display(&path))?;
                    found.push(Pending {
                        extent,
                        path,
                        parent: directory.extent.block,
                        holder: None,
                        entry,
                    });
                }
                None if is_directory => found.push(Pending {
                    extent: record.extent,
                    path,
                    parent: directory.extent.block,
                    holder: Some(directory.extent.block),
                    entry,
                }),
                None => {
                    self.add_extent(entry, &record, &display(&path))?;
                    if record.flags & FLAG_MULTI_EXTENT != 0 {
                        unfinished = Some((entry, record.identifier.to_vec()));
                    }
                }
            }
        }
        if unfinished.is_some() {
            return Err(malformed(place, "the last extent of a file is missing"));
        }
        if count < 2 {
            return Err(malformed(place, "a directory without its own records"));
        }
        Ok(found)
    }

    /// The extent of a directory of which only the block is known, by its first record.
    fn own_extent(&self, block: u32, place: &str) -> Result<Extent, InspectError> {
        let bytes = blocks(self.image, block, BLOCK, place)?;
        let own = record(bytes, place)?;
        if own.identifier != [0] || own.extent.block != block {
            return Err(malformed(place, "it was moved to where there is no directory"));
        }
        Ok(own.extent)
    }

    fn add_extent(&mut self, entry: usize, record: &Record<'_>, place: &str) -> Result<(), InspectError> {
        let Extent { block, len } = record.extent;
        if len > 0 {
            blocks(self.image, block, len.into(), place)?;
        }
        match &mut self.entries[entry].kind {
            EntryKind::Regular(extents) => {
                if len > 0 {
                    extents.push(record.extent);
                }
                Ok(())
            }
            _ if len == 0 && record.flags & FLAG_MULTI_EXTENT == 0 => Ok(()),
            _ => Err(malformed(place, "content in other than a file")),
        }
    }

    /// Gives an entry what its record says.
    fn describe(
        &mut self,
        entry: usize,
        record: &Record<'_>,
        system_use: &SystemUse,
        place: &str,
    ) -> Result<(), InspectError> {
        if let Some(text) = system_use.link.as_ref().and_then(Link::whole) {
            self.hold(text.len())?;
        }
        let date = system_use.date.unwrap_or(record.date);
        let entry = &mut self.entries[entry];
        // Images made by others have empty dates.
        entry.mtime = match date == [0; 7] {
            true => Timestamp::default(),
            false => parse_record_date(date).ok_or_else(|| malformed(place, "a date that there is not"))?,
        };
        let Some([mode, links, uid, gid, serial]) = system_use.attributes else {
            return Ok(());
        };
        (entry.links, entry.uid, entry.gid, entry.serial) = (links, uid, gid, serial);
        entry.mode = (mode & 0o7777) as u16;
        let directory = entry.kind == EntryKind::Directory;
        let device = || {
            system_use
                .device
                .ok_or_else(|| malformed(place, "a device without its number"))
        };
        let kind = match mode & 0o170000 {
            0o040000 if directory => return Ok(()),
            0o100000 if !directory => return Ok(()),
            0o120000 if !directory => match system_use.link.as_ref().and_then(Link::whole) {
                Some(text) => EntryKind::Symlink(text.to_vec()),
                None => return Err(malformed(place, "a symbolic link without its text")),
            },
            0o020000 if !directory => EntryKind::CharDevice(device()?),
            0o060000 if !directory => EntryKind::BlockDevice(device()?),
            0o010000 if !directory => EntryKind::Fifo,
            0o140000 if !directory => EntryKind::Socket,
            _ => return Err(malformed(place, format!("a mode {mode:o} that is not its own"))),
        };
        entry.kind = kind;
        Ok(())
    }
}

/// The name that Linux shows of an identifier without Rock Ridge: lower case, no version, no lone dot.
fn plain_name(identifier: &[u8]) -> Vec<u8> {
    let body = match identifier.iter().position(|&byte| byte == b';') {
        Some(end) => &identifier[..end],
        None => identifier,
    };
    body.strip_suffix(b".").unwrap_or(body).to_ascii_lowercase()
}
