//! EROFS images: written from a tree, uncompressed; those that are uncompressed read back.
//!
//! Format: Linux `fs/erofs/erofs_fs.h` and `Documentation/filesystems/erofs.rst`. Blocks of 4096 bytes; the superblock and all
//! inodes come first, then whole blocks of content in the order of the inodes. What a file has more than whole blocks lies
//! behind its inode where both fit into one block. Inodes are of the long form (64 bytes: every owner, nanoseconds), with their
//! extended attributes behind them.
//!
//! Nothing is compressed: an image is as large as its files. That suits what is read through dm-verity or unpacked by
//! others; for small live media there is [`crate::squashfs`].

mod read;

use std::collections::HashMap;
use std::io::{self, Seek, Write};

use lycia_tree::{Device, Footprint, InodeId, Kind, Node, Timestamp, Tree, display};
pub use read::{Entry, EntryKind, Image, Limits, ReadError, Superblock};
use thiserror::Error;

use crate::partition::Guid;
use crate::sparse::Placed;

const MAGIC: u32 = 0xe0f5_e1e2;
const BLOCK: u64 = 4096;
/// Where the superblock is, and its length.
const SUPERBLOCK: u64 = 1024;
const SUPERBLOCK_LEN: u64 = 128;
/// Unit of the places of inodes.
const SLOT: u64 = 32;
const INODE: u64 = 64;
const XATTR_HEADER: u64 = 12;
const DIRENT: usize = 12;
/// Bytes of a label.
pub const LABEL_MAX: usize = 16;

/// Name prefixes of extended attributes by their index.
const PREFIXES: [(u8, &[u8]); 5] = [
    (2, b"system.posix_acl_access"),
    (3, b"system.posix_acl_default"),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
];

/// What an image is, apart from its files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Volume {
    /// At most [`LABEL_MAX`] bytes; empty for no label.
    pub label: Vec<u8>,
    /// The UUID.
    pub uuid: Guid,
    /// When the image was made.
    pub time: Timestamp,
}

/// Why an image was not written. Paths are shown as [`lycia_tree::display`] does.
#[derive(Debug, Error)]
pub enum ErofsError {
    /// A label that is too long.
    #[error("writing an EROFS image: a label of {0} bytes; {LABEL_MAX} without NUL are the most")]
    Label(usize),
    /// An entry that the format cannot hold.
    #[error("writing {path} to an EROFS image: {reason}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// More blocks than the format counts.
    #[error("writing an EROFS image: {0} blocks of {BLOCK} bytes are more than it counts")]
    Blocks(u64),
    /// The output refused.
    #[error("writing an EROFS image: {0}")]
    Write(#[from] io::Error),
}

/// An inode with its place.
struct Placement {
    id: InodeId,
    /// In units of [`SLOT`].
    nid: u64,
    size: u64,
    links: u32,
    xattrs: Vec<u8>,
    /// Bytes behind the inode, which are the last of the content.
    inline: u64,
    /// First block of the rest.
    block: u64,
    parent: InodeId,
}

impl Placement {
    fn blocks(&self) -> u64 {
        (self.size - self.inline).div_ceil(BLOCK)
    }
}

/// Writes `tree` to `out`, which must read as zeros from its beginning on, and returns the bytes of the image.
///
/// # Errors
/// When an entry does not fit the format, or `out` refuses.
pub fn write(out: &mut (impl Write + Seek), tree: &Tree, volume: &Volume) -> Result<u64, ErofsError> {
    if volume.label.len() > LABEL_MAX || volume.label.contains(&0) {
        return Err(ErofsError::Label(volume.label.len()));
    }
    let (placements, end) = place(tree)?;
    let blocks = end / BLOCK;
    if blocks >= u64::from(u32::MAX) {
        return Err(ErofsError::Blocks(blocks));
    }
    let nids: HashMap<InodeId, u64> = placements.iter().map(|placed| (placed.id, placed.nid)).collect();
    let mut out = Placed::new(out, 0, BLOCK as u32, true);
    out.extend_to(end)?;
    // The checksum in the superblock is over the first block, inodes and all.
    let mut first = vec![0; BLOCK as usize];
    let mut footprint = Footprint::new();
    for (number, placed) in placements.iter().enumerate() {
        let content = content(tree, placed, &nids);
        let whole = (placed.size - placed.inline).min(content.len() as u64) as usize;
        let (blocks, tail) = content.split_at(whole);
        let mut bytes = inode(tree, placed, number as u32 + 1);
        bytes.extend_from_slice(&placed.xattrs);
        bytes.extend_from_slice(tail);
        let at = placed.nid * SLOT;
        if at < BLOCK {
            let len = bytes.len().min((BLOCK - at) as usize);
            first[at as usize..at as usize + len].copy_from_slice(&bytes[..len]);
        }
        out.write(at, &bytes)?;
        if !blocks.is_empty() {
            out.write_padded(placed.block * BLOCK, blocks)?;
        }
        if let Some(content) = tree.inode(placed.id).content() {
            footprint.touched(content, content.len());
        }
    }
    superblock(&mut first, volume, &placements, blocks);
    out.write(0, &first)?;
    out.finish()?;
    Ok(end)
}

fn superblock(first: &mut [u8], volume: &Volume, placements: &[Placement], blocks: u64) {
    let own = &mut first[SUPERBLOCK as usize..];
    let mut put = |at: usize, bytes: &[u8]| own[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &MAGIC.to_le_bytes());
    // Compatible features: the checksum, and times that are those of modification.
    put(8, &3u32.to_le_bytes());
    put(12, &[BLOCK.trailing_zeros() as u8]);
    put(14, &(placements[0].nid as u16).to_le_bytes());
    put(16, &(placements.len() as u64).to_le_bytes());
    put(24, &volume.time.seconds.to_le_bytes());
    put(32, &volume.time.nanoseconds.to_le_bytes());
    put(36, &(blocks as u32).to_le_bytes());
    put(48, &volume.uuid.to_bytes());
    put(64, &volume.label);
    let sum = !crc32c::crc32c(own);
    own[4..8].copy_from_slice(&sum.to_le_bytes());
}

/// Gives every inode its place, directories before what is in them, and then contents theirs.
fn place(tree: &Tree) -> Result<(Vec<Placement>, u64), ErofsError> {
    let mut placements: Vec<Placement> = Vec::new();
    let mut seen = vec![false; tree.inode_count()];
    let mut at = SUPERBLOCK + SUPERBLOCK_LEN;
    for entry in tree.walk() {
        if std::mem::replace(&mut seen[entry.id.index()], true) {
            continue;
        }
        let refuse = |reason: String| ErofsError::Entry {
            path: display(&entry.path),
            reason,
        };
        let xattrs = xattrs(&entry.inode.metadata.xattrs).map_err(refuse)?;
        let mut parent = tree.root();
        let mut links = entry.inode.names();
        let size = match entry.inode.kind() {
            Kind::Directory {
                entries,
                parent: above,
            } => {
                parent = *above;
                let below = entries
                    .values()
                    .filter(|&&child| tree.inode(child).is_directory());
                links = 2 + below.count() as u32;
                directory_len(entries.keys().map(Vec::as_slice))
            }
            Kind::Node(Node::Regular(content)) => content.len(),
            Kind::Node(Node::Symlink(target)) if target.is_empty() || target.len() > 4095 => {
                return Err(refuse(format!("a symbolic link of {} bytes", target.len())));
            }
            Kind::Node(Node::Symlink(target)) => target.len() as u64,
            Kind::Node(Node::CharDevice(device) | Node::BlockDevice(device))
                if device.major > 0xfff || device.minor > 0xf_ffff =>
            {
                return Err(refuse(format!(
                    "the device number {}:{} is beyond 4095:1048575",
                    device.major, device.minor
                )));
            }
            Kind::Node(_) => 0,
        };
        let head = INODE + xattrs.len() as u64;
        let tail = size % BLOCK;
        // A tail must lie in the block in which what is before it ends.
        let mut inline = 0;
        if tail > 0 && head + tail <= BLOCK {
            if at % BLOCK + head + tail > BLOCK {
                at = at.next_multiple_of(BLOCK);
            }
            inline = tail;
        }
        placements.push(Placement {
            id: entry.id,
            nid: at / SLOT,
            size,
            links,
            xattrs,
            inline,
            block: 0,
            parent,
        });
        at = (at + head + inline).next_multiple_of(SLOT);
    }
    let mut block = at.div_ceil(BLOCK);
    for placed in &mut placements {
        if placed.blocks() > 0 {
            placed.block = block;
            block += placed.blocks();
        }
    }
    Ok((placements, block * BLOCK))
}

fn inode(tree: &Tree, placed: &Placement, number: u32) -> Vec<u8> {
    let inode = tree.inode(placed.id);
    let metadata = &inode.metadata;
    let mut bytes = vec![0; INODE as usize];
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    // The long form; content in whole blocks, or with its end behind the inode.
    let layout: u16 = if placed.inline > 0 { 2 } else { 0 };
    put(0, &(1 | layout << 1).to_le_bytes());
    if !placed.xattrs.is_empty() {
        // The header counts as one unit of 4 bytes.
        let units = (placed.xattrs.len() as u64 - XATTR_HEADER) / 4 + 1;
        put(2, &(units as u16).to_le_bytes());
    }
    put(4, &inode.mode().to_le_bytes());
    put(8, &placed.size.to_le_bytes());
    let place = match inode.node() {
        Some(Node::CharDevice(Device { major, minor }) | Node::BlockDevice(Device { major, minor })) => {
            minor & 0xff | major << 8 | (minor & !0xff) << 12
        }
        _ if placed.blocks() > 0 => placed.block as u32,
        // No block.
        Some(Node::Regular(_) | Node::Symlink(_)) | None => u32::MAX,
        Some(_) => 0,
    };
    put(16, &place.to_le_bytes());
    put(20, &number.to_le_bytes());
    put(24, &metadata.uid.to_le_bytes());
    put(28, &metadata.gid.to_le_bytes());
    put(32, &metadata.mtime.seconds.to_le_bytes());
    put(40, &metadata.mtime.nanoseconds.to_le_bytes());
    put(44, &placed.links.to_le_bytes());
    bytes
}

fn content<'t>(
    tree: &'t Tree,
    placed: &Placement,
    nids: &HashMap<InodeId, u64>,
) -> std::borrow::Cow<'t, [u8]> {
    match tree.inode(placed.id).kind() {
        Kind::Node(Node::Regular(content)) => content.bytes().into(),
        Kind::Node(Node::Symlink(target)) => target.as_slice().into(),
        Kind::Node(_) => (&[][..]).into(),
        Kind::Directory { entries, .. } => {
            let mut all: Vec<(&[u8], InodeId)> = vec![(b".", placed.id), (b"..", placed.parent)];
            all.extend(entries.iter().map(|(name, &id)| (name.as_slice(), id)));
            all.sort_unstable();
            directory(tree, &all, nids).into()
        }
    }
}

/// How many names of these lengths go into one block, and the bytes that they take.
fn fill(lengths: &[usize]) -> (usize, usize) {
    let mut used = 0;
    for (count, len) in lengths.iter().enumerate() {
        if used + DIRENT + len > BLOCK as usize {
            return (count, used);
        }
        used += DIRENT + len;
    }
    (lengths.len(), used)
}

/// The names of a directory with `.` and `..` in byte order: names like `-` sort before these.
fn with_dots<'n>(names: impl Iterator<Item = &'n [u8]>) -> Vec<&'n [u8]> {
    let mut all: Vec<&[u8]> = vec![b".", b".."];
    all.extend(names);
    all.sort_unstable();
    all
}

/// Bytes of a directory with these names.
fn directory_len<'n>(names: impl Iterator<Item = &'n [u8]>) -> u64 {
    let lengths: Vec<usize> = with_dots(names).into_iter().map(<[u8]>::len).collect();
    let (mut at, mut bytes) = (0, 0u64);
    while at < lengths.len() {
        let (count, used) = fill(&lengths[at..]);
        bytes = bytes.next_multiple_of(BLOCK) + used as u64;
        at += count;
    }
    bytes
}

fn directory(tree: &Tree, entries: &[(&[u8], InodeId)], nids: &HashMap<InodeId, u64>) -> Vec<u8> {
    let lengths: Vec<usize> = entries.iter().map(|entry| entry.0.len()).collect();
    let mut bytes = Vec::new();
    let mut at = 0;
    while at < entries.len() {
        let (count, _) = fill(&lengths[at..]);
        // Every block but the last is whole.
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        let part = &entries[at..at + count];
        let mut name_at = DIRENT * count;
        for (name, id) in part {
            let kind = match tree.inode(*id).node() {
                None => 2,
                Some(Node::Regular(_)) => 1,
                Some(Node::CharDevice(_)) => 3,
                Some(Node::BlockDevice(_)) => 4,
                Some(Node::Fifo) => 5,
                Some(Node::Socket) => 6,
                Some(Node::Symlink(_)) => 7,
            };
            bytes.extend_from_slice(&nids.get(id).copied().unwrap_or(0).to_le_bytes());
            bytes.extend_from_slice(&(name_at as u16).to_le_bytes());
            bytes.extend_from_slice(&[kind, 0]);
            name_at += name.len();
        }
        for (name, _) in part {
            bytes.extend_from_slice(name);
        }
        at += count;
    }
    bytes
}

/// The area behind an inode, in whole units of 4 bytes.
fn xattrs(xattrs: &std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, String> {
    if xattrs.is_empty() {
        return Ok(Vec::new());
    }
    // The header: none are shared with other inodes.
    let mut bytes = vec![0; XATTR_HEADER as usize];
    for (name, value) in xattrs {
        let shown = display(name);
        let (index, prefix) = PREFIXES
            .into_iter()
            .find(|&(index, prefix)| match index {
                2 | 3 => name == prefix,
                _ => name.starts_with(prefix) && name.len() > prefix.len(),
            })
            .ok_or_else(|| format!("the format has no place for its extended attribute {shown}"))?;
        let suffix = &name[prefix.len()..];
        let (Ok(name_len), Ok(value_len)) = (u8::try_from(suffix.len()), u16::try_from(value.len())) else {
            return Err(format!("its extended attribute {shown} is too long"));
        };
        bytes.extend_from_slice(&[name_len, index]);
        bytes.extend_from_slice(&value_len.to_le_bytes());
        bytes.extend_from_slice(suffix);
        bytes.extend_from_slice(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    if bytes.len() / 4 > usize::from(u16::MAX) {
        return Err("its extended attributes are more than 256 KiB".to_owned());
    }
    Ok(bytes)
}
