//! Reading an image.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use lycia_tree::{Content, InodeId, Metadata, Node, PATH_MAX, Timestamp, Tree, TreeError, display};
use thiserror::Error;

use super::Compressor;
use super::codec::Decoder;
use super::layout::{
    MAGIC, METADATA_LEN, METADATA_RAW, NO_TABLE, SUPERBLOCK_LEN, Superblock, flags, get16, get32, get64,
};
use super::reader::{Blocks, read_at};
use super::records::{EntryKind, FileRecord, InodeRecord};

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

/// Bytes of paths and links for each name that [`Limits::entries`] allows, taken together: a damaged image can
/// have only long ones.
pub const NAME_BYTES: u64 = 512;

/// How much a reader takes from an image, whose fields can claim anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Names. Their paths, and the texts of links, may have [`NAME_BYTES`] for each of these.
    pub entries: u64,
    /// Bytes of contents and attributes; [`Image::tree`] holds them in memory, [`Image::check`] reads them
    /// one block at a time.
    pub content_bytes: u64,
}

impl Default for Limits {
    /// 1 Mi names, 16 GiB.
    fn default() -> Limits {
        Limits {
            entries: 1 << 20,
            content_bytes: 16 << 30,
        }
    }
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

/// An opened image.
pub struct Image<R> {
    pub(super) blocks: Blocks<R>,
    pub(super) superblock: Superblock,
    compressor: Compressor,
    /// Start of the attributes' names and values, and how many sets there are.
    pub(super) xattrs: Option<(u64, u32)>,
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
        let most = limits.entries.saturating_mul(NAME_BYTES);
        let too_long = || ImageError::Limit {
            what: "bytes of paths and links",
            limit: most,
        };
        let mut bytes = most;
        while let Some((path, reference, name)) = stack.pop() {
            let inode = match known.get(&reference) {
                Some(inode) => Arc::clone(inode),
                None => {
                    let inode = Arc::new(self.inode(reference).map_err(|error| error.at(&path))?);
                    bytes = bytes.saturating_sub(inode.heap_bytes());
                    known.insert(reference, Arc::clone(&inode));
                    inode
                }
            };
            if bytes == 0 {
                return Err(too_long());
            }
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
                    // Here, and not when it is taken from the stack, which holds them all.
                    bytes = bytes.checked_sub(below.len() as u64).ok_or_else(too_long)?;
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

    /// Where the content of a regular file is stored: first byte of the image and bytes, of its own blocks and of the
    /// fragment block that it shares with others.
    ///
    /// # Errors
    /// When the image is damaged.
    pub fn stored(&mut self, file: &FileRecord) -> Result<[Option<(u64, u64)>; 2], ImageError> {
        let mut sizes = file.sizes;
        let mut bytes = 0u64;
        for _ in 0..file.blocks {
            bytes += u64::from(get32(&self.blocks.read(&mut sizes, 4)?, 0) & 0xff_ffff);
        }
        let fragment = match file.fragment {
            Some((number, _)) => {
                let (at, size) = self.fragment_record(number)?;
                Some((at, u64::from(size & 0xff_ffff)))
            }
            None => None,
        };
        Ok([(bytes > 0).then_some((file.start, bytes)), fragment])
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
