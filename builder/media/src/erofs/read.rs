//! Reading EROFS images, with trust in nothing that they say.
//!
//! What the writer makes, and what `mkfs.erofs` makes without compression: inodes of both forms, content in blocks or behind the
//! inode, attributes of the inode and shared ones. Compressed and chunked files are listed; their content is not read.

use std::collections::{BTreeMap, HashMap};

use lycia_tree::{Device, PATH_MAX, Timestamp, display};
use thiserror::Error;

use super::{MAGIC, PREFIXES};
use crate::partition::Guid;

/// What reading may take at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Names of the image.
    pub entries: u64,
    /// Bytes of paths, texts of links and attributes, which inodes can share: each name counts all of its own.
    pub bytes: u64,
}

impl Default for Limits {
    /// 4 million entries and 1 GiB.
    fn default() -> Limits {
        Limits {
            entries: 4 << 20,
            bytes: 1 << 30,
        }
    }
}

/// Why an image was not read.
#[derive(Debug, Error)]
pub enum ReadError {
    /// There is no superblock.
    #[error("reading an EROFS image: no superblock is there")]
    NotErofs,
    /// It uses what is not understood.
    #[error("reading an EROFS image: {0}, which is not supported")]
    Unsupported(String),
    /// It contradicts itself.
    #[error("reading an EROFS image at byte {at}: {reason}")]
    Malformed {
        /// Which byte.
        at: u64,
        /// What is wrong.
        reason: String,
    },
    /// More than the caller allowed.
    #[error("reading an EROFS image: more than {limit} {what}")]
    Limit {
        /// What there is too much of.
        what: &'static str,
        /// The most allowed.
        limit: u64,
    },
}

/// What the superblock says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Bytes of a block.
    pub block_size: u64,
    /// Inodes.
    pub inodes: u64,
    /// Blocks.
    pub blocks: u64,
    /// When it was made.
    pub time: Timestamp,
    /// The UUID.
    pub uuid: Guid,
    /// The label, without padding.
    pub label: Vec<u8>,
    /// Features that a system which does not know them may ignore.
    pub compatible: u32,
    /// Features without which nothing can be read.
    pub incompatible: u32,
    /// Whether the checksum over the first block is right; nothing where there is none.
    pub checksum: Option<bool>,
    root: u64,
    metadata: u64,
    shared: u64,
}

/// What an inode is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file: the runs of bytes of the image that hold it; `None` where it is compressed or in chunks.
    Regular(Option<Vec<(u64, u64)>>),
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

/// A name in an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Absolute path; `/` for the root.
    pub path: Vec<u8>,
    /// Which inode: the same for the names of one.
    pub nid: u64,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes.
    pub size: u64,
    /// Number of links.
    pub links: u32,
    /// Time of last modification.
    pub mtime: Timestamp,
    /// Extended attributes with their full names.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// An image opened for reading.
#[derive(Clone, Debug)]
pub struct Image<'b> {
    bytes: &'b [u8],
    superblock: Superblock,
}

fn field<const N: usize>(bytes: &[u8], at: u64) -> Option<[u8; N]> {
    let at = usize::try_from(at).ok()?;
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

fn malformed(at: u64, reason: impl Into<String>) -> ReadError {
    ReadError::Malformed {
        at,
        reason: reason.into(),
    }
}

/// Bytes that may still be held.
struct Budget {
    left: u64,
    limit: u64,
}

impl Budget {
    fn take(&mut self, bytes: u64) -> Result<(), ReadError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(ReadError::Limit {
                what: "bytes of paths, links and attributes",
                limit: self.limit,
            }),
        }
    }
}

/// An inode's own bytes.
struct Inode {
    at: u64,
    len: u64,
    layout: u16,
    place: u32,
    entry: Entry,
    type_bits: u16,
    xattr_len: u64,
}

impl<'b> Image<'b> {
    /// Opens the image in `bytes`.
    ///
    /// # Errors
    /// When none is there, or it uses what is not understood.
    pub fn open(bytes: &'b [u8]) -> Result<Image<'b>, ReadError> {
        let at = super::SUPERBLOCK;
        let own = bytes
            .get(at as usize..(at + super::SUPERBLOCK_LEN) as usize)
            .ok_or(ReadError::NotErofs)?;
        let word = |at: usize| u32::from_le_bytes([own[at], own[at + 1], own[at + 2], own[at + 3]]);
        let long = |at: usize| u64::from(word(at)) | u64::from(word(at + 4)) << 32;
        if word(0) != MAGIC {
            return Err(ReadError::NotErofs);
        }
        let bits = own[12];
        if !(9..=16).contains(&bits) {
            return Err(malformed(at + 12, format!("blocks of 2^{bits} bytes")));
        }
        let block_size = 1u64 << bits;
        let (compatible, incompatible) = (word(8), word(80));
        // Zero padding, big physical clusters, chunks, device table, tail packing, fragments, dedupe, long prefixes.
        if incompatible & !0x7f != 0 {
            return Err(ReadError::Unsupported(format!(
                "it has the incompatible features {incompatible:#x}"
            )));
        }
        let checksum = (compatible & 1 != 0).then(|| {
            let end = bytes
                .len()
                .min((block_size.max(at + super::SUPERBLOCK_LEN)) as usize);
            let mut block = bytes[at as usize..end].to_vec();
            block[4..8].fill(0);
            !crc32c::crc32c(&block) == word(4)
        });
        let blocks = u64::from(word(36));
        if blocks.saturating_mul(block_size) > bytes.len() as u64 {
            return Err(malformed(
                at + 36,
                format!(
                    "the image has {blocks} blocks, but only {} bytes are there",
                    bytes.len()
                ),
            ));
        }
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&own[48..64]);
        Ok(Image {
            bytes,
            superblock: Superblock {
                block_size,
                inodes: long(16),
                blocks,
                time: Timestamp {
                    seconds: long(24) as i64,
                    nanoseconds: word(32),
                },
                uuid: Guid::from_bytes(uuid),
                label: own[64..80]
                    .split(|&byte| byte == 0)
                    .next()
                    .unwrap_or_default()
                    .to_vec(),
                compatible,
                incompatible,
                checksum,
                root: u64::from(u16::from_le_bytes([own[14], own[15]])),
                metadata: u64::from(word(40)) * block_size,
                shared: u64::from(word(44)) * block_size,
            },
        })
    }

    /// What the superblock says.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    fn inode(&self, nid: u64, path: Vec<u8>) -> Result<Inode, ReadError> {
        let at = nid
            .checked_mul(super::SLOT)
            .and_then(|at| at.checked_add(self.superblock.metadata))
            .ok_or_else(|| malformed(0, format!("an inode {nid}")))?;
        let bytes = self.bytes;
        let outside = || malformed(at, format!("inode {nid} lies outside of the image"));
        let half = |offset: u64| {
            field::<2>(bytes, at.saturating_add(offset))
                .map(u16::from_le_bytes)
                .ok_or_else(outside)
        };
        let word = |offset: u64| {
            field::<4>(bytes, at.saturating_add(offset))
                .map(u32::from_le_bytes)
                .ok_or_else(outside)
        };
        let long = |offset: u64| {
            field::<8>(bytes, at.saturating_add(offset))
                .map(u64::from_le_bytes)
                .ok_or_else(outside)
        };
        let format = half(0)?;
        let layout = format >> 1 & 7;
        let xattr_units = u64::from(half(2)?);
        let mode = half(4)?;
        let (len, size, uid, gid, mtime, links, place);
        if format & 1 == 0 {
            (len, size, place) = (32, u64::from(word(8)?), word(16)?);
            (uid, gid, links) = (half(24)?.into(), half(26)?.into(), half(6)?.into());
            mtime = self.superblock.time;
        } else {
            (len, size, place) = (64, long(8)?, word(16)?);
            (uid, gid, links) = (word(24)?, word(28)?, word(44)?);
            mtime = Timestamp {
                seconds: long(32)? as i64,
                nanoseconds: word(40)?,
            };
        }
        let xattr_len = if xattr_units == 0 {
            0
        } else {
            12 + (xattr_units - 1) * 4
        };
        Ok(Inode {
            at,
            len,
            layout,
            place,
            type_bits: mode >> 12,
            xattr_len,
            entry: Entry {
                path,
                nid,
                kind: EntryKind::Fifo,
                mode: mode & 0o7777,
                uid,
                gid,
                size,
                links,
                mtime,
                xattrs: BTreeMap::new(),
            },
        })
    }

    /// The runs of bytes that hold an inode's data.
    fn runs(&self, inode: &Inode) -> Result<Option<Vec<(u64, u64)>>, ReadError> {
        let block = self.superblock.block_size;
        let size = inode.entry.size;
        let tail = match inode.layout {
            0 => 0,
            2 => size % block,
            _ => return Ok(None),
        };
        let whole = size - tail;
        let mut runs = Vec::new();
        if whole > 0 {
            runs.push((u64::from(inode.place) * block, whole));
        }
        if tail > 0 {
            let at = inode.at + inode.len + inode.xattr_len;
            if at / block != (at + tail - 1) / block {
                return Err(malformed(
                    at,
                    "the end of a file behind its inode leaves the block",
                ));
            }
            runs.push((at, tail));
        }
        for &(at, len) in &runs {
            if at
                .checked_add(len)
                .is_none_or(|end| end > self.bytes.len() as u64)
            {
                return Err(malformed(
                    inode.at,
                    format!(
                        "{}: its content lies outside of the image",
                        display(&inode.entry.path)
                    ),
                ));
            }
        }
        Ok(Some(runs))
    }

    /// The bytes of a run that [`Image::entries`] gave.
    pub fn bytes(&self, (at, len): (u64, u64)) -> &'b [u8] {
        let start = usize::try_from(at).unwrap_or(usize::MAX);
        let end = start.saturating_add(usize::try_from(len).unwrap_or(usize::MAX));
        self.bytes.get(start..end).unwrap_or_default()
    }

    fn xattrs(&self, inode: &Inode, budget: &mut Budget) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ReadError> {
        let mut found = BTreeMap::new();
        if inode.xattr_len == 0 {
            return Ok(found);
        }
        let start = inode.at + inode.len;
        let end = start + inode.xattr_len;
        let shared = field::<1>(self.bytes, start + 4).map_or(0, |[count]| u64::from(count));
        let mut at = start + 12;
        for number in 0..shared {
            let id = field::<4>(self.bytes, at + number * 4)
                .map(u32::from_le_bytes)
                .ok_or_else(|| malformed(at, "attributes outside of the image"))?;
            let place = self.superblock.shared + u64::from(id) * 4;
            self.xattr(place, self.bytes.len() as u64, &mut found, budget)?;
        }
        at += shared * 4;
        while at < end {
            let next = self.xattr(at, end, &mut found, budget)?;
            at = next.next_multiple_of(4);
        }
        Ok(found)
    }

    fn xattr(
        &self,
        at: u64,
        end: u64,
        found: &mut BTreeMap<Vec<u8>, Vec<u8>>,
        budget: &mut Budget,
    ) -> Result<u64, ReadError> {
        let wrong = || malformed(at, "an attribute that makes no sense");
        let [name_len, index, low, high] = field::<4>(self.bytes, at).ok_or_else(wrong)?;
        let value_len = u16::from_le_bytes([low, high]);
        let name_end = at + 4 + u64::from(name_len);
        let value_end = name_end + u64::from(value_len);
        if value_end > end {
            return Err(wrong());
        }
        let prefix = PREFIXES
            .into_iter()
            .find(|&(number, _)| number == index)
            .ok_or_else(wrong)?
            .1;
        let mut name = prefix.to_vec();
        name.extend_from_slice(self.bytes((at + 4, u64::from(name_len))));
        if value_end > self.bytes.len() as u64 {
            return Err(wrong());
        }
        budget.take(name.len() as u64 + u64::from(value_len))?;
        found.insert(name, self.bytes((name_end, u64::from(value_len))).to_vec());
        Ok(value_end)
    }

    fn kind(&self, inode: &Inode) -> Result<EntryKind, ReadError> {
        let device = || {
            let place = inode.place;
            Device {
                major: place >> 8 & 0xfff,
                minor: place & 0xff | place >> 12 & 0xf_ff00,
            }
        };
        Ok(match inode.type_bits {
            1 => EntryKind::Fifo,
            2 => EntryKind::CharDevice(device()),
            4 => EntryKind::Directory,
            6 => EntryKind::BlockDevice(device()),
            8 => EntryKind::Regular(self.runs(inode)?),
            10 => {
                if inode.entry.size > PATH_MAX as u64 {
                    return Err(malformed(inode.at, "a symbolic link that is too long"));
                }
                let runs = self
                    .runs(inode)?
                    .ok_or_else(|| ReadError::Unsupported("a compressed symbolic link".to_owned()))?;
                EntryKind::Symlink(
                    runs.into_iter()
                        .flat_map(|run| self.bytes(run))
                        .copied()
                        .collect(),
                )
            }
            12 => EntryKind::Socket,
            other => {
                return Err(malformed(
                    inode.at,
                    format!("an inode of the unknown type {other}"),
                ));
            }
        })
    }

    /// All names, directories before what is in them.
    ///
    /// # Errors
    /// When the image is damaged or exceeds `limits`.
    pub fn entries(&self, limits: &Limits) -> Result<Vec<Entry>, ReadError> {
        let mut entries = Vec::new();
        let mut directories: HashMap<u64, ()> = HashMap::new();
        let mut stack = vec![(b"/".to_vec(), self.superblock.root)];
        let mut names = 1u64;
        // Names of a damaged image can all be long, and all have the same long attributes.
        let mut budget = Budget {
            left: limits.bytes,
            limit: limits.bytes,
        };
        while let Some((path, nid)) = stack.pop() {
            let mut inode = self.inode(nid, path)?;
            inode.entry.kind = self.kind(&inode)?;
            if let EntryKind::Symlink(target) = &inode.entry.kind {
                budget.take(target.len() as u64)?;
            }
            inode.entry.xattrs = self.xattrs(&inode, &mut budget)?;
            if inode.entry.kind == EntryKind::Directory {
                if directories.insert(nid, ()).is_some() {
                    return Err(malformed(
                        inode.at,
                        format!("the directory {} has two names", display(&inode.entry.path)),
                    ));
                }
                let below = self.names(&inode, limits.entries.saturating_sub(names), limits.entries)?;
                names += below.len() as u64;
                for (name, nid) in below.into_iter().rev() {
                    let mut path = inode.entry.path.clone();
                    if path != b"/" {
                        path.push(b'/');
                    }
                    path.extend_from_slice(&name);
                    if path.len() > PATH_MAX {
                        return Err(malformed(inode.at, format!("a path of {} bytes", path.len())));
                    }
                    budget.take(path.len() as u64)?;
                    stack.push((path, nid));
                }
            } else if inode.entry.path == b"/" {
                return Err(malformed(inode.at, "the root is no directory"));
            }
            entries.push(inode.entry);
        }
        Ok(entries)
    }

    fn names(&self, inode: &Inode, most: u64, limit: u64) -> Result<Vec<(Vec<u8>, u64)>, ReadError> {
        let runs = self
            .runs(inode)?
            .ok_or_else(|| ReadError::Unsupported("a compressed directory".to_owned()))?;
        let mut found: Vec<(Vec<u8>, u64)> = Vec::new();
        for (start, len) in runs {
            let mut at = start;
            while at < start + len {
                let block_len = (start + len - at).min(self.superblock.block_size);
                let block = self.bytes((at, block_len));
                let wrong = |reason: &str| malformed(at, format!("a directory block: {reason}"));
                let entry = |number: usize| field::<12>(block, number as u64 * 12);
                let first = entry(0).ok_or_else(|| wrong("it is cut"))?;
                let count = usize::from(u16::from_le_bytes([first[8], first[9]])) / 12;
                if count == 0 || count * 12 > block.len() {
                    return Err(wrong("its first name lies outside"));
                }
                for number in 0..count {
                    let own = entry(number).ok_or_else(|| wrong("it is cut"))?;
                    let from = usize::from(u16::from_le_bytes([own[8], own[9]]));
                    let to = match number + 1 < count {
                        true => entry(number + 1)
                            .map_or(0, |next| usize::from(u16::from_le_bytes([next[8], next[9]]))),
                        false => block.len(),
                    };
                    let name = block.get(from..to).ok_or_else(|| wrong("names that overlap"))?;
                    // The last one may end in zeros.
                    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                    if name == b"." || name == b".." {
                        continue;
                    }
                    if name.is_empty() || name.contains(&b'/') {
                        return Err(wrong("a name that is none"));
                    }
                    if found.last().is_some_and(|last| last.0.as_slice() >= name) {
                        return Err(wrong("names out of order"));
                    }
                    if found.len() as u64 >= most {
                        return Err(ReadError::Limit {
                            what: "entries",
                            limit,
                        });
                    }
                    let mut nid = [0; 8];
                    nid.copy_from_slice(&own[..8]);
                    found.push((name.to_vec(), u64::from_le_bytes(nid)));
                }
                at += block_len;
            }
        }
        Ok(found)
    }
}
