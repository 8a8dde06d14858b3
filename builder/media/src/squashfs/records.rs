//! The records of an image: inodes, listings, attributes, owners.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use lycia_tree::{Device, NAME_MAX, display};

use super::image::{Image, ImageError, Limits};
use super::layout::{
    HEADER_ENTRIES, LISTING_BIAS, METADATA_LEN, NO_FRAGMENT, NO_XATTR, SYMLINK_MAX, XATTR_ELSEWHERE,
    XATTR_PREFIXES, XATTR_VALUE_MAX, decode_device, get16, get32, get64, inode_type,
};
use super::reader::{Blocks, Cursor};

/// Most bytes of attributes that are read for one inode; ext4 holds 64 KiB, XFS writes a few of that size.
const XATTR_SET_MAX: usize = 4 << 20;

/// An inode as the image has it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InodeRecord {
    /// Number, from 1.
    pub number: u32,
    /// Permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u32,
    /// Number of links.
    pub links: u32,
    /// Number of its attribute set.
    pub xattr: Option<u32>,
    /// What it is.
    pub kind: EntryKind,
}

/// What an inode is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A directory.
    Directory(Listing),
    /// A regular file.
    Regular(FileRecord),
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

/// Where a directory's listing is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listing {
    block: u32,
    offset: u16,
    len: u64,
    /// Number of the inode above.
    pub(super) parent: u32,
    /// Index: bytes of the listing before a header, its metadata block, the first name.
    pub(super) index: Vec<(u32, u32, Vec<u8>)>,
}

/// Where a regular file's content is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileRecord {
    /// Bytes.
    pub len: u64,
    /// Bytes that are said to lie in holes.
    pub sparse: u64,
    pub(super) start: u64,
    /// Number of the fragment block and the offset in it.
    pub(super) fragment: Option<(u32, u32)>,
    /// Number of blocks.
    pub(super) blocks: u64,
    /// Where their sizes are.
    pub(super) sizes: Cursor,
}

/// An entry of a listing.
pub(super) struct Name {
    pub(super) name: Vec<u8>,
    pub(super) reference: u64,
    pub(super) number: u32,
    pub(super) kind: u16,
}

impl<R: Read + Seek> Image<R> {
    /// The attributes of an inode, by full name.
    ///
    /// # Errors
    /// When the image is damaged.
    pub fn xattrs(&mut self, inode: &InodeRecord) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, ImageError> {
        let mut found = BTreeMap::new();
        let (Some(number), Some((start, sets))) = (inode.xattr, self.xattrs) else {
            return Ok(found);
        };
        if number >= sets {
            return Err(ImageError::corrupt(format!(
                "attribute set {number} of {sets} is wanted"
            )));
        }
        let end = self.superblock.xattr_table;
        let record = self.blocks.record(end + 16, u64::from(number), 16)?;
        let (reference, count) = (get64(&record, 0), get32(&record, 8));
        // Linux lists names in 64 KiB; each takes at least 7 bytes (`user.x` and a NUL).
        if count > 65536 / 7 {
            return Err(ImageError::corrupt(format!("{count} attributes on one inode")));
        }
        let mut cursor = Cursor::of_reference(reference, start, end)?;
        let mut bytes = 0;
        for _ in 0..count {
            let head = self.blocks.read(&mut cursor, 4)?;
            let (kind, len) = (get16(&head, 0), get16(&head, 2));
            let Some(prefix) = XATTR_PREFIXES.get(usize::from(kind & 0xff)) else {
                return Err(ImageError::corrupt(format!(
                    "an attribute of the unknown kind {kind}"
                )));
            };
            let mut name = prefix.to_vec();
            name.extend(self.blocks.read(&mut cursor, usize::from(len))?);
            let mut value = self.value(&mut cursor)?;
            if kind & XATTR_ELSEWHERE != 0 {
                if value.len() != 8 {
                    return Err(ImageError::corrupt(format!(
                        "a reference to an attribute's value has {} bytes",
                        value.len()
                    )));
                }
                value = self.value(&mut Cursor::of_reference(get64(&value, 0), start, end)?)?;
            }
            // References can name one long value over and over.
            bytes += name.len() + value.len();
            if bytes > XATTR_SET_MAX {
                return Err(ImageError::Limit {
                    what: "bytes of attributes on one inode",
                    limit: XATTR_SET_MAX as u64,
                });
            }
            if found.insert(name, value).is_some() {
                return Err(ImageError::corrupt("an attribute is there twice".to_owned()));
            }
        }
        Ok(found)
    }

    fn value(&mut self, cursor: &mut Cursor) -> Result<Vec<u8>, ImageError> {
        let len = get32(&self.blocks.read(cursor, 4)?, 0) as usize;
        if len > XATTR_VALUE_MAX {
            return Err(ImageError::corrupt(format!(
                "an attribute's value of {len} bytes"
            )));
        }
        self.blocks.read(cursor, len)
    }

    fn id(&mut self, number: u16) -> Result<u32, ImageError> {
        if number >= self.superblock.ids {
            return Err(ImageError::corrupt(format!(
                "owner {number} of {} is wanted",
                self.superblock.ids
            )));
        }
        let record = self
            .blocks
            .record(self.superblock.id_table, u64::from(number), 4)?;
        Ok(get32(&record, 0))
    }

    /// Reads the inode at a reference.
    pub(super) fn inode(&mut self, reference: u64) -> Result<InodeRecord, ImageError> {
        let superblock = &self.superblock;
        let mut cursor = Cursor::of_reference(reference, superblock.inode_table, superblock.directory_table)?;
        let block_size = u64::from(superblock.block_size);
        let inodes = superblock.inodes;
        let head = self.blocks.read(&mut cursor, 16)?;
        let [kind, mode, owner, group] = [0, 2, 4, 6].map(|at| get16(&head, at));
        let number = get32(&head, 12);
        if number == 0 || number > inodes {
            return Err(ImageError::corrupt(format!("inode number {number} of {inodes}")));
        }
        let extended = kind > inode_type::EXTENDED;
        let mut xattr = NO_XATTR;
        let basic = if extended {
            kind - inode_type::EXTENDED
        } else {
            kind
        };
        let (links, kind) = match basic {
            inode_type::DIRECTORY => {
                let body = self.blocks.read(&mut cursor, if extended { 24 } else { 16 })?;
                let (links, block, parent, offset, size, entries);
                if extended {
                    (links, size) = (get32(&body, 0), u64::from(get32(&body, 4)));
                    (block, parent, offset) = (get32(&body, 8), get32(&body, 12), get16(&body, 18));
                    entries = get16(&body, 16);
                    xattr = get32(&body, 20);
                } else {
                    (block, links) = (get32(&body, 0), get32(&body, 4));
                    (size, offset, parent) = (u64::from(get16(&body, 8)), get16(&body, 10), get32(&body, 12));
                    entries = 0;
                }
                let mut index = Vec::new();
                for _ in 0..entries {
                    let entry = self.blocks.read(&mut cursor, 12)?;
                    let len = get32(&entry, 8);
                    if len as usize > NAME_MAX {
                        return Err(ImageError::corrupt(format!(
                            "a name of {len} bytes in a directory's index"
                        )));
                    }
                    let name = self.blocks.read(&mut cursor, len as usize + 1)?;
                    index.push((get32(&entry, 0), get32(&entry, 4), name));
                }
                let listing = Listing {
                    block,
                    offset,
                    len: size.saturating_sub(LISTING_BIAS),
                    parent,
                    index,
                };
                (links, EntryKind::Directory(listing))
            }
            inode_type::REGULAR => {
                let body = self.blocks.read(&mut cursor, if extended { 40 } else { 16 })?;
                let (links, start, len, sparse, fragment, offset);
                if extended {
                    (start, len, sparse) = (get64(&body, 0), get64(&body, 8), get64(&body, 16));
                    (links, fragment, offset) = (get32(&body, 24), get32(&body, 28), get32(&body, 32));
                    xattr = get32(&body, 36);
                } else {
                    (start, fragment) = (u64::from(get32(&body, 0)), get32(&body, 4));
                    (offset, len) = (get32(&body, 8), u64::from(get32(&body, 12)));
                    (links, sparse) = (1, 0);
                }
                let whole = fragment != NO_FRAGMENT && len % block_size != 0;
                let file = FileRecord {
                    len,
                    sparse,
                    start,
                    fragment: whole.then_some((fragment, offset)),
                    blocks: if whole {
                        len / block_size
                    } else {
                        len.div_ceil(block_size)
                    },
                    sizes: cursor,
                };
                (links, EntryKind::Regular(file))
            }
            inode_type::SYMLINK => {
                let body = self.blocks.read(&mut cursor, 8)?;
                let len = get32(&body, 4) as usize;
                if len > SYMLINK_MAX {
                    return Err(ImageError::corrupt(format!("a symbolic link of {len} bytes")));
                }
                let target = self.blocks.read(&mut cursor, len)?;
                if extended {
                    xattr = get32(&self.blocks.read(&mut cursor, 4)?, 0);
                }
                (get32(&body, 0), EntryKind::Symlink(target))
            }
            inode_type::CHAR_DEVICE | inode_type::BLOCK_DEVICE => {
                let body = self.blocks.read(&mut cursor, if extended { 12 } else { 8 })?;
                let (major, minor) = decode_device(get32(&body, 4));
                let device = Device { major, minor };
                if extended {
                    xattr = get32(&body, 8);
                }
                let kind = match basic {
                    inode_type::CHAR_DEVICE => EntryKind::CharDevice(device),
                    _ => EntryKind::BlockDevice(device),
                };
                (get32(&body, 0), kind)
            }
            inode_type::FIFO | inode_type::SOCKET => {
                let body = self.blocks.read(&mut cursor, if extended { 8 } else { 4 })?;
                if extended {
                    xattr = get32(&body, 4);
                }
                let kind = match basic {
                    inode_type::FIFO => EntryKind::Fifo,
                    _ => EntryKind::Socket,
                };
                (get32(&body, 0), kind)
            }
            _ => {
                return Err(ImageError::corrupt(format!(
                    "an inode of the unknown type {kind}"
                )));
            }
        };
        Ok(InodeRecord {
            number,
            mode: mode & 0o7777,
            uid: self.id(owner)?,
            gid: self.id(group)?,
            mtime: get32(&head, 8),
            links,
            xattr: (xattr != NO_XATTR).then_some(xattr),
            kind,
        })
    }

    /// Reads a listing of at most `most` names.
    pub(super) fn listing(
        &mut self,
        listing: &Listing,
        most: u64,
        limits: &Limits,
    ) -> Result<Vec<Name>, ImageError> {
        let mut names: Vec<Name> = Vec::new();
        if listing.len == 0 {
            return Ok(names);
        }
        let end = self.tables_after_directories();
        let start = self.superblock.directory_table;
        let mut cursor = Cursor::new(u64::from(listing.block), listing.offset, start, end)?;
        let mut left = listing.len;
        let mut take = |blocks: &mut Blocks<R>, len: usize| {
            left = left
                .checked_sub(len as u64)
                .ok_or_else(|| ImageError::corrupt("a listing ends inside of an entry".to_owned()))?;
            blocks.read(&mut cursor, len).map(|bytes| (bytes, left))
        };
        let mut more = true;
        while more {
            let (head, _) = take(&mut self.blocks, 12)?;
            let (count, block, first) = (get32(&head, 0) as usize + 1, get32(&head, 4), get32(&head, 8));
            if count > HEADER_ENTRIES {
                return Err(ImageError::corrupt(format!(
                    "{count} entries under one header of a listing"
                )));
            }
            for _ in 0..count {
                let (entry, _) = take(&mut self.blocks, 8)?;
                let len = usize::from(get16(&entry, 6)) + 1;
                if len > NAME_MAX {
                    return Err(ImageError::corrupt(format!("a name of {len} bytes")));
                }
                let (name, rest) = take(&mut self.blocks, len)?;
                more = rest > 0;
                if name.contains(&0) || name.contains(&b'/') || name == b"." || name == b".." {
                    return Err(ImageError::corrupt(format!("the name {}", display(&name))));
                }
                // The kernel's look-up depends on the order, and equal names would hide one another.
                if names.last().is_some_and(|last| last.name >= name) {
                    return Err(ImageError::corrupt(format!(
                        "the name {} is out of order",
                        display(&name)
                    )));
                }
                if names.len() as u64 >= most {
                    return Err(ImageError::Limit {
                        what: "names",
                        limit: limits.entries,
                    });
                }
                names.push(Name {
                    name,
                    reference: u64::from(block) << 16 | u64::from(get16(&entry, 0)),
                    number: first.wrapping_add_signed(i32::from(get16(&entry, 2) as i16)),
                    kind: get16(&entry, 4),
                });
            }
        }
        Ok(names)
    }

    /// The names that the index of a directory should give: whether each entry points to a header that
    /// begins with its name.
    pub(super) fn check_index(&mut self, listing: &Listing) -> Result<(), ImageError> {
        let start = self.superblock.directory_table;
        let end = self.tables_after_directories();
        for (at, block, name) in &listing.index {
            let offset = (u64::from(listing.offset) + u64::from(*at)) % METADATA_LEN as u64;
            let mut cursor = Cursor::new(u64::from(*block), offset as u16, start, end)?;
            self.blocks.skip(&mut cursor, 12)?;
            let entry = self.blocks.read(&mut cursor, 8)?;
            let first = self.blocks.read(&mut cursor, usize::from(get16(&entry, 6)) + 1)?;
            if first != *name || u64::from(*at) >= listing.len {
                return Err(ImageError::corrupt(format!(
                    "the directory's index leads to {}, not to {}",
                    display(&first),
                    display(name)
                )));
            }
        }
        Ok(())
    }

    /// Where listings end at the latest.
    fn tables_after_directories(&self) -> u64 {
        let superblock = &self.superblock;
        [
            superblock.fragment_table,
            superblock.export_table,
            superblock.id_table,
        ]
        .into_iter()
        .filter(|&table| table > superblock.directory_table)
        .min()
        .unwrap_or(superblock.bytes_used)
    }
}

impl InodeRecord {
    /// Bytes that it takes besides its own size.
    pub(super) fn heap_bytes(&self) -> u64 {
        let bytes = match &self.kind {
            EntryKind::Symlink(target) => target.len(),
            EntryKind::Directory(listing) => listing.index.iter().map(|(.., name)| name.len() + 32).sum(),
            _ => 0,
        };
        bytes as u64
    }
}

impl EntryKind {
    pub(super) fn basic_type(&self) -> u16 {
        match self {
            EntryKind::Directory(_) => inode_type::DIRECTORY,
            EntryKind::Regular(_) => inode_type::REGULAR,
            EntryKind::Symlink(_) => inode_type::SYMLINK,
            EntryKind::BlockDevice(_) => inode_type::BLOCK_DEVICE,
            EntryKind::CharDevice(_) => inode_type::CHAR_DEVICE,
            EntryKind::Fifo => inode_type::FIFO,
            EntryKind::Socket => inode_type::SOCKET,
        }
    }
}
