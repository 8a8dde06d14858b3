//! Reading an image.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use lycia_tree::{
    Content, Device, InodeId, Metadata, NAME_MAX, Node, PATH_MAX, Timestamp, Tree, TreeError, display,
};
use thiserror::Error;

use super::Compressor;
use super::codec::Decoder;
use super::layout::{
    HEADER_ENTRIES, LISTING_BIAS, MAGIC, METADATA_LEN, METADATA_RAW, NO_FRAGMENT, NO_TABLE, NO_XATTR,
    SUPERBLOCK_LEN, SYMLINK_MAX, Superblock, XATTR_ELSEWHERE, XATTR_PREFIXES, XATTR_VALUE_MAX, decode_device,
    flags, get16, get32, get64, inode_type,
};
use super::reader::{Blocks, Cursor, read_at};

/// Why an image could not be read.
#[derive(Debug, Error)]
pub enum ImageError {
    /// The source failed.
    #[error("reading the squashfs image at byte {at}: {source}")]
    Io {
        /// First byte.
        at: u64,
        /// Why.
        source: io::Error,
    },
    /// It is no squashfs 4.0 image, or one that cannot be read here.
    #[error("not a squashfs image that can be read here: {0}")]
    Unsupported(String),
    /// It contradicts itself or the format.
    #[error("the squashfs image is damaged: {0}")]
    Corrupt(String),
    /// The content could not be passed on.
    #[error("writing the content of a file of the squashfs image: {0}")]
    Output(io::Error),
    /// It holds more than the caller wants.
    #[error("the squashfs image has more than {limit} {what}: raise the limit to read it")]
    Limit {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: u64,
    },
}

impl ImageError {
    pub(super) fn corrupt(why: String) -> ImageError {
        ImageError::Corrupt(why)
    }

    /// The same with the path at which it was met.
    fn at(self, path: &[u8]) -> ImageError {
        match self {
            ImageError::Corrupt(why) => ImageError::Corrupt(format!("{}: {why}", display(path))),
            other => other,
        }
    }
}

/// How much a reader takes from an image, whose fields can claim anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Names.
    pub entries: u64,
    /// Bytes of contents and attributes; [`Image::tree`] holds them in memory, [`Image::check`] reads them
    /// one block at a time.
    pub content_bytes: u64,
}

impl Default for Limits {
    /// 4 Mi names, 16 GiB.
    fn default() -> Limits {
        Limits {
            entries: 4 << 20,
            content_bytes: 16 << 30,
        }
    }
}

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
    start: u64,
    /// Number of the fragment block and the offset in it.
    fragment: Option<(u32, u32)>,
    /// Number of blocks.
    blocks: u64,
    /// Where their sizes are.
    sizes: Cursor,
}

/// A name in an image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Absolute path; `/` for the root.
    pub path: Vec<u8>,
    /// Where its inode is: the same for the names of one inode.
    pub reference: u64,
    /// The inode.
    pub inode: Arc<InodeRecord>,
}

/// An entry of a listing.
pub(super) struct Name {
    pub(super) name: Vec<u8>,
    reference: u64,
    number: u32,
    kind: u16,
}

/// An opened image.
pub struct Image<R> {
    pub(super) blocks: Blocks<R>,
    superblock: Superblock,
    compressor: Compressor,
    /// Start of the attributes' names and values, and how many sets there are.
    xattrs: Option<(u64, u32)>,
    /// The last fragment block that was read, by number: the next file likely wants it too.
    fragment: Option<(u32, Vec<u8>)>,
}

impl<R: Read + Seek> Image<R> {
    /// Opens the image that begins at the first byte of `source`.
    ///
    /// # Errors
    /// When it is not squashfs 4.0 with gzip, xz or zstd, or the superblock contradicts the size of `source`
    /// or itself.
    pub fn open(mut source: R) -> Result<Image<R>, ImageError> {
        let size = source
            .seek(SeekFrom::End(0))
            .map_err(|source| ImageError::Io { at: 0, source })?;
        if size < SUPERBLOCK_LEN as u64 {
            return Err(ImageError::Unsupported(format!(
                "{size} bytes are less than a superblock"
            )));
        }
        let mut bytes = [0; SUPERBLOCK_LEN];
        bytes.copy_from_slice(&read_at(&mut source, 0, SUPERBLOCK_LEN)?);
        let (superblock, magic, log, major, minor) = Superblock::decode(&bytes);
        if magic != MAGIC {
            return Err(ImageError::Unsupported("it does not begin with hsqs".to_owned()));
        }
        if (major, minor) != (4, 0) {
            return Err(ImageError::Unsupported(format!(
                "version {major}.{minor}, not 4.0"
            )));
        }
        check_superblock(&superblock, log, size)?;
        let options = if superblock.flags & flags::COMPRESSOR_OPTIONS != 0 {
            Some(compressor_options(&mut source, superblock.bytes_used)?)
        } else {
            None
        };
        let compressor = Compressor::from_options(superblock.compression, options.as_deref())
            .map_err(|why| ImageError::Unsupported(format!("compressor: {why}")))?;
        let decoder = Decoder::new(&compressor).map_err(|source| ImageError::Io { at: 0, source })?;
        let mut blocks = Blocks::new(source, superblock.bytes_used, decoder);
        let xattrs = if superblock.xattr_table == NO_TABLE {
            None
        } else {
            let header = blocks.bytes(superblock.xattr_table, 16)?;
            let (start, sets) = (get64(&header, 0), get32(&header, 8));
            if start >= superblock.xattr_table {
                return Err(ImageError::corrupt(format!(
                    "the attributes begin at {start}, behind their table"
                )));
            }
            Some((start, sets))
        };
        Ok(Image {
            blocks,
            superblock,
            compressor,
            xattrs,
            fragment: None,
        })
    }

    /// The superblock.
    pub fn superblock(&self) -> &Superblock {
        &self.superblock
    }

    /// The compressor, with its options where the image gives them. The preset of xz is not recorded.
    pub fn compressor(&self) -> Compressor {
        self.compressor
    }

    /// All names, directories before what is in them, in byte order.
    ///
    /// # Errors
    /// When the image is damaged or exceeds `limits`.
    pub fn entries(&mut self, limits: &Limits) -> Result<Vec<Entry>, ImageError> {
        let mut entries = Vec::new();
        let mut known: HashMap<u64, Arc<InodeRecord>> = HashMap::new();
        let mut directories = HashSet::new();
        let root = self.superblock.root;
        let mut stack = vec![(b"/".to_vec(), root, None)];
        let mut names = 1u64;
        while let Some((path, reference, name)) = stack.pop() {
            let inode = match known.get(&reference) {
                Some(inode) => Arc::clone(inode),
                None => {
                    let inode = Arc::new(self.inode(reference).map_err(|error| error.at(&path))?);
                    known.insert(reference, Arc::clone(&inode));
                    inode
                }
            };
            if let Some((number, kind)) = name
                && (number, kind) != (inode.number, inode.kind.basic_type())
            {
                return Err(ImageError::corrupt(format!(
                    "{}: its entry says inode {number} of type {kind}, but it is {} of type {}",
                    display(&path),
                    inode.number,
                    inode.kind.basic_type()
                )));
            }
            if let EntryKind::Directory(listing) = &inode.kind {
                // A directory met twice may be above itself.
                if !directories.insert(reference) {
                    return Err(ImageError::corrupt(format!(
                        "{}: the directory has two names",
                        display(&path)
                    )));
                }
                let children = self
                    .listing(listing, limits.entries.saturating_sub(names), limits)
                    .map_err(|error| error.at(&path))?;
                names += children.len() as u64;
                for child in children.into_iter().rev() {
                    let below = join(&path, &child.name)?;
                    stack.push((below, child.reference, Some((child.number, child.kind))));
                }
            } else if path == b"/" {
                return Err(ImageError::corrupt("the root is not a directory".to_owned()));
            }
            entries.push(Entry {
                path,
                reference,
                inode,
            });
        }
        Ok(entries)
    }

    /// The whole image as a tree with all contents in memory.
    ///
    /// # Errors
    /// When the image is damaged or exceeds `limits`.
    pub fn tree(&mut self, limits: &Limits) -> Result<Tree, ImageError> {
        let mut budget = limits.content_bytes;
        let mut spend = |bytes: u64| match budget.checked_sub(bytes) {
            Some(rest) => {
                budget = rest;
                Ok(())
            }
            None => Err(ImageError::Limit {
                what: "bytes of contents",
                limit: limits.content_bytes,
            }),
        };
        let fault = |error: TreeError| ImageError::corrupt(error.to_string());
        let mut tree: Option<Tree> = None;
        let mut known: HashMap<u64, InodeId> = HashMap::new();
        for Entry {
            path,
            reference,
            inode,
        } in self.entries(limits)?
        {
            if let (Some(tree), Some(&id)) = (&mut tree, known.get(&reference)) {
                tree.link(id, &path).map_err(fault)?;
                continue;
            }
            let mut metadata = Metadata::new(inode.mode, Timestamp::from_seconds(i64::from(inode.mtime)))
                .owned_by(inode.uid, inode.gid);
            metadata.xattrs = self.xattrs(&inode).map_err(|error| error.at(&path))?;
            spend(
                metadata
                    .xattrs
                    .iter()
                    .map(|(name, value)| (name.len() + value.len()) as u64)
                    .sum(),
            )?;
            let node = match &inode.kind {
                EntryKind::Directory(_) => {
                    match &mut tree {
                        None => tree = Some(Tree::new(metadata)),
                        Some(tree) => {
                            tree.make_directory(&path, metadata).map_err(fault)?;
                        }
                    }
                    continue;
                }
                EntryKind::Regular(file) => {
                    spend(file.len)?;
                    let mut content = Vec::new();
                    self.copy(file, &mut content).map_err(|error| error.at(&path))?;
                    Node::Regular(Content::from(content))
                }
                EntryKind::Symlink(target) => Node::Symlink(target.clone()),
                EntryKind::CharDevice(device) => Node::CharDevice(*device),
                EntryKind::BlockDevice(device) => Node::BlockDevice(*device),
                EntryKind::Fifo => Node::Fifo,
                EntryKind::Socket => Node::Socket,
            };
            if let Some(tree) = &mut tree {
                known.insert(reference, tree.insert(&path, metadata, node).map_err(fault)?);
            }
        }
        tree.ok_or_else(|| ImageError::corrupt("there is no root".to_owned()))
    }

    /// Copies the content of a regular file to `out`, one block at a time. A hole is written as zeros.
    ///
    /// # Errors
    /// When the image is damaged or `out` refuses.
    pub fn copy(&mut self, file: &FileRecord, out: &mut dyn Write) -> Result<(), ImageError> {
        let block_size = u64::from(self.superblock.block_size);
        let mut sizes = file.sizes;
        let mut at = file.start;
        let mut left = file.len;
        for _ in 0..file.blocks {
            let size = get32(&self.blocks.read(&mut sizes, 4)?, 0);
            let expected = left.min(block_size) as usize;
            if size == 0 {
                out.write_all(&vec![0; expected])
            } else {
                let block = self.blocks.data(at, size, expected, expected)?;
                at += u64::from(size & 0xff_ffff);
                out.write_all(&block)
            }
            .map_err(ImageError::Output)?;
            left -= expected as u64;
        }
        if let Some((number, offset)) = file.fragment {
            let block = self.fragment_block(number)?;
            let range = offset as usize..offset as usize + left as usize;
            let Some(tail) = block.get(range.clone()) else {
                return Err(ImageError::corrupt(format!(
                    "bytes {range:?} of fragment {number} are wanted, which has {}",
                    block.len()
                )));
            };
            out.write_all(tail).map_err(ImageError::Output)?;
        }
        Ok(())
    }

    fn fragment_block(&mut self, number: u32) -> Result<&[u8], ImageError> {
        if self.fragment.as_ref().is_none_or(|(kept, _)| *kept != number) {
            let (at, size) = self.fragment_record(number)?;
            let block = self
                .blocks
                .data(at, size, 1, self.superblock.block_size as usize)?;
            self.fragment = Some((number, block));
        }
        Ok(self.fragment.as_ref().map_or(&[], |(_, block)| block))
    }

    /// Position and stored size of a fragment block.
    pub(super) fn fragment_record(&mut self, number: u32) -> Result<(u64, u32), ImageError> {
        if number >= self.superblock.fragments {
            return Err(ImageError::corrupt(format!(
                "fragment {number} of {} is wanted",
                self.superblock.fragments
            )));
        }
        let record = self
            .blocks
            .record(self.superblock.fragment_table, u64::from(number), 16)?;
        Ok((get64(&record, 0), get32(&record, 8)))
    }

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
    fn inode(&mut self, reference: u64) -> Result<InodeRecord, ImageError> {
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
    fn listing(&mut self, listing: &Listing, most: u64, limits: &Limits) -> Result<Vec<Name>, ImageError> {
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

/// The path of an entry. Its length bounds how deep directories go.
fn join(directory: &[u8], name: &[u8]) -> Result<Vec<u8>, ImageError> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if directory != b"/" {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    if path.len() > PATH_MAX {
        return Err(ImageError::corrupt(format!("a path of {} bytes", path.len())));
    }
    Ok(path)
}

/// The fields that everything else relies on.
fn check_superblock(superblock: &Superblock, log: u16, size: u64) -> Result<(), ImageError> {
    let block_size = superblock.block_size;
    if !(4096..=1 << 20).contains(&block_size) || 1u32.checked_shl(u32::from(log)) != Some(block_size) {
        return Err(ImageError::corrupt(format!(
            "a block size of {block_size}, or 2^{log}"
        )));
    }
    let used = superblock.bytes_used;
    if used > size {
        return Err(ImageError::corrupt(format!(
            "the image has {used} bytes, of which {size} are there"
        )));
    }
    if superblock.inodes == 0 || superblock.ids == 0 {
        return Err(ImageError::corrupt("there are no inodes or no owners".to_owned()));
    }
    let ordered = [
        ("inode table", superblock.inode_table),
        ("directory table", superblock.directory_table),
        ("id table", superblock.id_table),
        ("end", used),
    ];
    for pair in ordered.windows(2) {
        if pair[0].1 >= pair[1].1 {
            return Err(ImageError::corrupt(format!(
                "the {} at {} does not lie before the {} at {}",
                pair[0].0, pair[0].1, pair[1].0, pair[1].1
            )));
        }
    }
    if superblock.inode_table < SUPERBLOCK_LEN as u64 {
        return Err(ImageError::corrupt(
            "the inode table lies in the superblock".to_owned(),
        ));
    }
    if superblock.fragments > 0
        && !(superblock.directory_table..superblock.id_table).contains(&superblock.fragment_table)
    {
        return Err(ImageError::corrupt(format!(
            "the fragment table at {} lies outside of the tables",
            superblock.fragment_table
        )));
    }
    if superblock.export_table != NO_TABLE
        && !(superblock.directory_table..superblock.id_table).contains(&superblock.export_table)
    {
        return Err(ImageError::corrupt(format!(
            "the export table at {} lies outside of the tables",
            superblock.export_table
        )));
    }
    if superblock.xattr_table != NO_TABLE && !(superblock.id_table..used).contains(&superblock.xattr_table) {
        return Err(ImageError::corrupt(format!(
            "the attribute table at {} lies outside of the tables",
            superblock.xattr_table
        )));
    }
    Ok(())
}

/// The options that follow the superblock in a block of their own, which is never compressed.
fn compressor_options<R: Read + Seek>(source: &mut R, end: u64) -> Result<Vec<u8>, ImageError> {
    let at = SUPERBLOCK_LEN as u64;
    let header = get16(&read_at(source, at, 2)?, 0);
    let len = usize::from(header & !METADATA_RAW);
    if header & METADATA_RAW == 0 || len > METADATA_LEN || at + 2 + len as u64 > end {
        return Err(ImageError::corrupt(format!(
            "the compressor's options have the header {header:#06x}"
        )));
    }
    read_at(source, at + 2, len)
}
