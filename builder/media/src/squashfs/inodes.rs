//! Inodes and directory listings.
//!
//! A listing says where its entries' inodes are, and a directory's inode says where its listing is. So
//! directories go from the deepest up: the inodes of a directory's entries, then its listing. The inodes
//! of one directory lie side by side with successive numbers, which keeps listings short.

use lycia_tree::{Device, Inode, InodeId, Kind, Node, Tree, display};

use super::SquashfsError;
use super::codec::Encoder;
use super::data::{FileData, Stored};
use super::layout::{
    HEADER_ENTRIES, LISTING_BIAS, METADATA_LEN, NO_FRAGMENT, NO_XATTR, SYMLINK_MAX, encode_device,
    inode_type, put16, put32, put64,
};
use super::metadata::MetadataWriter;

/// The inodes of a tree in the order of their numbers, and what only a walk can tell.
pub(super) struct Survey {
    /// Inodes that have a name; the number of the first is 1.
    pub(super) numbered: Vec<InodeId>,
    /// By [`InodeId::index`], 0 for inodes without a name.
    number: Vec<u32>,
    /// By [`InodeId::index`].
    links: Vec<u32>,
    /// Directories before those in them.
    directories: Vec<InodeId>,
    /// Regular files in the order of the walk, each once.
    pub(super) files: Vec<InodeId>,
}

impl Survey {
    pub(super) fn new(tree: &Tree) -> Result<Survey, SquashfsError> {
        let mut survey = Survey {
            numbered: vec![tree.root()],
            number: vec![0; tree.inode_count()],
            links: vec![0; tree.inode_count()],
            directories: Vec::new(),
            files: Vec::new(),
        };
        survey.number[tree.root().index()] = 1;
        let mut met = vec![false; tree.inode_count()];
        let mut stack = vec![tree.root()];
        while let Some(id) = stack.pop() {
            let Some(entries) = tree.inode(id).entries() else {
                if tree.inode(id).content().is_some() && !std::mem::replace(&mut met[id.index()], true) {
                    survey.files.push(id);
                }
                continue;
            };
            survey.directories.push(id);
            // A directory's link count is its name, its `.` and the `..` of each directory in it.
            survey.links[id.index()] += 2;
            for &child in entries.values() {
                if survey.number[child.index()] == 0 {
                    survey.numbered.push(child);
                    survey.number[child.index()] = survey.numbered.len() as u32;
                }
                if tree.inode(child).is_directory() {
                    survey.links[id.index()] += 1;
                } else {
                    survey.links[child.index()] += 1;
                }
            }
            stack.extend(entries.values().rev());
        }
        // The number after the last one stands for what is above the root.
        if u32::try_from(survey.numbered.len() + 1).is_err() {
            return Err(SquashfsError::TooLarge {
                what: "the number of inodes",
                limit: u64::from(u32::MAX - 1),
            });
        }
        Ok(survey)
    }

    fn number(&self, id: InodeId) -> u32 {
        self.number[id.index()]
    }
}

/// What inodes refer to, by [`Survey::numbered`].
pub(super) struct References {
    /// Numbers of user and group in the id table.
    pub(super) owners: Vec<(u16, u16)>,
    /// Numbers of attribute sets.
    pub(super) xattrs: Vec<Option<u32>>,
}

/// The inode table, the directory table and the place of the root's inode.
pub(super) struct Tables {
    pub(super) inodes: Vec<u8>,
    pub(super) directories: Vec<u8>,
    pub(super) root: u64,
    /// Records of the export table: where the inode of each number is.
    pub(super) export_records: Vec<u8>,
}

/// Writes all inodes and listings.
pub(super) fn write(
    tree: &Tree,
    survey: &Survey,
    references: &References,
    stored: &Stored,
    encoder: &mut Encoder,
) -> Result<Tables, SquashfsError> {
    let mut writer = Writer {
        tree,
        survey,
        references,
        stored,
        inodes: MetadataWriter::new(),
        listings: MetadataWriter::new(),
        places: vec![None; survey.numbered.len()],
        listed: vec![None; tree.inode_count()],
        scratch: Vec::new(),
    };
    for &directory in survey.directories.iter().rev() {
        for &child in tree
            .inode(directory)
            .entries()
            .into_iter()
            .flatten()
            .map(|(_, child)| child)
        {
            if writer.places[survey.number(child) as usize - 1].is_none() {
                writer.inode(encoder, child)?;
            }
        }
        writer.listing(encoder, directory)?;
    }
    writer.inode(encoder, tree.root())?;

    let mut export_records = Vec::with_capacity(8 * writer.places.len());
    for place in &writer.places {
        put64(&mut export_records, place.map_or(0, Place::reference));
    }
    let root = writer.places[0].map_or(0, Place::reference);
    let fault = SquashfsError::compress("compressing metadata of");
    Ok(Tables {
        inodes: writer.inodes.finish(encoder).map_err(&fault)?,
        directories: writer.listings.finish(encoder).map_err(&fault)?,
        root,
        export_records,
    })
}

/// Where an inode is in its table.
#[derive(Clone, Copy)]
struct Place {
    block: u32,
    offset: u16,
}

impl Place {
    fn reference(self) -> u64 {
        u64::from(self.block) << 16 | u64::from(self.offset)
    }
}

/// A listing that is written.
#[derive(Clone)]
struct Listed {
    block: u32,
    offset: u16,
    /// Bytes.
    len: u64,
    index: Vec<IndexEntry>,
}

/// Where in a listing a header is whose entries begin with a name.
#[derive(Clone)]
struct IndexEntry {
    /// Bytes of the listing before.
    at: u32,
    /// The metadata block of the header.
    block: u32,
    name: Vec<u8>,
}

/// Headers that the index points to: bytes of the listing before, first name.
type Marks = Vec<(usize, Vec<u8>)>;

struct Writer<'a> {
    tree: &'a Tree,
    survey: &'a Survey,
    references: &'a References,
    stored: &'a Stored,
    inodes: MetadataWriter,
    listings: MetadataWriter,
    /// By number less one.
    places: Vec<Option<Place>>,
    /// By [`InodeId::index`].
    listed: Vec<Option<Listed>>,
    scratch: Vec<u8>,
}

impl Writer<'_> {
    fn inode(&mut self, encoder: &mut Encoder, id: InodeId) -> Result<(), SquashfsError> {
        let number = self.survey.number(id);
        let (block, offset) = self.inodes.position();
        self.places[number as usize - 1] = Some(Place {
            block: block_number(block, "the inode table")?,
            offset,
        });
        let mut bytes = std::mem::take(&mut self.scratch);
        bytes.clear();
        self.encode(id, &mut bytes)?;
        self.inodes
            .write(encoder, &bytes)
            .map_err(SquashfsError::compress("compressing the inodes of"))?;
        self.scratch = bytes;
        Ok(())
    }

    fn encode(&mut self, id: InodeId, out: &mut Vec<u8>) -> Result<(), SquashfsError> {
        let inode = self.tree.inode(id);
        let number = self.survey.number(id);
        let links = self.survey.links[id.index()];
        let xattr = self.references.xattrs[number as usize - 1];
        let head = |out: &mut Vec<u8>, kind: u16, extended: bool| {
            let kind = if extended {
                kind + inode_type::EXTENDED
            } else {
                kind
            };
            let (owner, group) = self.references.owners[number as usize - 1];
            for value in [kind, inode.metadata.mode & 0o7777, owner, group] {
                put16(out, value);
            }
            put32(out, time(inode));
            put32(out, number);
        };
        match inode.kind() {
            Kind::Directory { parent, .. } => {
                let above = if id == self.tree.root() {
                    self.survey.numbered.len() as u32 + 1
                } else {
                    self.survey.number(*parent)
                };
                let Some(listed) = self.listed[id.index()].take() else {
                    // Listings are written from the deepest up, each before its directory's inode.
                    unreachable!("the listing of a directory comes before its inode");
                };
                let size = listed.len + LISTING_BIAS;
                match u16::try_from(size) {
                    Ok(size) if xattr.is_none() && listed.index.is_empty() => {
                        head(out, inode_type::DIRECTORY, false);
                        put32(out, listed.block);
                        put32(out, links);
                        put16(out, size);
                        put16(out, listed.offset);
                        put32(out, above);
                    }
                    _ => {
                        head(out, inode_type::DIRECTORY, true);
                        put32(out, links);
                        put32(out, size as u32);
                        put32(out, listed.block);
                        put32(out, above);
                        put16(out, listed.index.len() as u16);
                        put16(out, listed.offset);
                        put32(out, xattr.unwrap_or(NO_XATTR));
                        for entry in &listed.index {
                            put32(out, entry.at);
                            put32(out, entry.block);
                            put32(out, entry.name.len() as u32 - 1);
                            out.extend_from_slice(&entry.name);
                        }
                    }
                }
            }
            Kind::Node(Node::Regular(_)) => {
                let file = self.stored.file(id);
                head_of_file(file, links, xattr, out, &head);
                for &size in &file.blocks {
                    put32(out, size);
                }
            }
            Kind::Node(Node::Symlink(target)) => {
                head(out, inode_type::SYMLINK, xattr.is_some());
                put32(out, links);
                put32(out, target.len() as u32);
                out.extend_from_slice(target);
                xattr.into_iter().for_each(|xattr| put32(out, xattr));
            }
            Kind::Node(node @ (Node::CharDevice(device) | Node::BlockDevice(device))) => {
                let Some(packed) = encode_device(device.major, device.minor) else {
                    return Err(refuse(self.tree, id, device_outside(*device)));
                };
                let kind = match node {
                    Node::CharDevice(_) => inode_type::CHAR_DEVICE,
                    _ => inode_type::BLOCK_DEVICE,
                };
                head(out, kind, xattr.is_some());
                put32(out, links);
                put32(out, packed);
                xattr.into_iter().for_each(|xattr| put32(out, xattr));
            }
            Kind::Node(node @ (Node::Fifo | Node::Socket)) => {
                let kind = match node {
                    Node::Fifo => inode_type::FIFO,
                    _ => inode_type::SOCKET,
                };
                head(out, kind, xattr.is_some());
                put32(out, links);
                xattr.into_iter().for_each(|xattr| put32(out, xattr));
            }
        }
        Ok(())
    }

    fn listing(&mut self, encoder: &mut Encoder, id: InodeId) -> Result<(), SquashfsError> {
        let (bytes, marks) = self.encode_listing(id)?;
        let fault = SquashfsError::compress("compressing the directories of");
        let (block, offset) = self.listings.position();
        let mut index = Vec::with_capacity(marks.len());
        let mut written = 0;
        for (at, name) in marks {
            self.listings
                .write(encoder, &bytes[written..at])
                .map_err(&fault)?;
            written = at;
            index.push(IndexEntry {
                at: at as u32,
                block: block_number(self.listings.position().0, "the directory table")?,
                name,
            });
        }
        self.listings.write(encoder, &bytes[written..]).map_err(&fault)?;
        self.listed[id.index()] = Some(Listed {
            block: block_number(block, "the directory table")?,
            offset,
            len: bytes.len() as u64,
            index,
        });
        Ok(())
    }

    /// The listing, and the headers that the index is to point to with the first name under each.
    fn encode_listing(&self, id: InodeId) -> Result<(Vec<u8>, Marks), SquashfsError> {
        let mut out: Vec<u8> = Vec::new();
        let mut marks = Marks::new();
        // The open header: where it is, the inode block of its entries, its number, its entries.
        let mut open: Option<(usize, u32, u32, usize)> = None;
        // Where the last mark is, or the beginning.
        let mut marked = 0;
        for (name, &child) in self.tree.inode(id).entries().into_iter().flatten() {
            let number = self.survey.number(child);
            let Some(place) = self.places[number as usize - 1] else {
                unreachable!("the inodes of a directory's entries come before its listing");
            };
            let record = 8 + name.len();
            // The kernel skips to the last mark before a name: one for each metadata block of listing.
            let far = out.len() + record - marked > METADATA_LEN;
            let delta = |first: u32| i16::try_from(i64::from(number) - i64::from(first)).ok();
            let fits = |&(_, block, first, entries): &(usize, u32, u32, usize)| {
                !far && block == place.block && entries < HEADER_ENTRIES && delta(first).is_some()
            };
            let (at, _, first, entries) = match open.filter(fits) {
                Some(header) => header,
                None => {
                    // The index counts its entries in 16 bits; those behind the last are found by reading on.
                    if far {
                        marked = out.len();
                        if marks.len() < usize::from(u16::MAX) {
                            marks.push((marked, name.clone()));
                        }
                    }
                    let at = out.len();
                    put32(&mut out, 0);
                    put32(&mut out, place.block);
                    put32(&mut out, number);
                    (at, place.block, number, 0)
                }
            };
            open = Some((at, place.block, first, entries + 1));
            out[at..at + 4].copy_from_slice(&(entries as u32).to_le_bytes());
            put16(&mut out, place.offset);
            put16(&mut out, delta(first).unwrap_or_default() as u16);
            put16(&mut out, basic_type(self.tree.inode(child)));
            put16(&mut out, name.len() as u16 - 1);
            out.extend_from_slice(name);
        }
        if out.len() as u64 + LISTING_BIAS > u64::from(u32::MAX) {
            return Err(refuse(
                self.tree,
                id,
                "the directory has too many entries for squashfs".to_owned(),
            ));
        }
        Ok((out, marks))
    }
}

/// Refuses what no inode can hold, so that it shows before the data are compressed.
pub(super) fn check(tree: &Tree, survey: &Survey) -> Result<(), SquashfsError> {
    for &id in &survey.numbered {
        match tree.inode(id).node() {
            Some(Node::Symlink(target)) if target.is_empty() => {
                return Err(refuse(tree, id, "a symbolic link to nothing".to_owned()));
            }
            Some(Node::Symlink(target)) if target.len() > SYMLINK_MAX => {
                let len = target.len();
                let why = format!("a symbolic link of {len} bytes is longer than {SYMLINK_MAX}");
                return Err(refuse(tree, id, why));
            }
            Some(Node::CharDevice(device) | Node::BlockDevice(device))
                if encode_device(device.major, device.minor).is_none() =>
            {
                return Err(refuse(tree, id, device_outside(*device)));
            }
            _ => {}
        }
    }
    Ok(())
}

fn device_outside(device: Device) -> String {
    format!(
        "device {}:{} is outside of 4095:1048575",
        device.major, device.minor
    )
}

/// That the entry of an inode cannot be stored.
pub(super) fn refuse(tree: &Tree, id: InodeId, why: String) -> SquashfsError {
    let path = tree
        .walk()
        .find(|entry| entry.id == id)
        .map_or_else(String::new, |entry| display(&entry.path));
    SquashfsError::Entry { path, why }
}

/// The part of a regular file's inode before the sizes of its blocks.
fn head_of_file(
    file: &FileData,
    links: u32,
    xattr: Option<u32>,
    out: &mut Vec<u8>,
    head: &dyn Fn(&mut Vec<u8>, u16, bool),
) {
    let (fragment, offset) = file.fragment.unwrap_or((NO_FRAGMENT, 0));
    let basic = links == 1 && xattr.is_none() && file.holes == 0;
    match (u32::try_from(file.start), u32::try_from(file.len)) {
        (Ok(start), Ok(len)) if basic => {
            head(out, inode_type::REGULAR, false);
            for value in [start, fragment, offset, len] {
                put32(out, value);
            }
        }
        _ => {
            head(out, inode_type::REGULAR, true);
            put64(out, file.start);
            put64(out, file.len);
            // Holes come off `st_blocks`. It must not become 0: archivers would skip the content.
            put64(out, file.holes.min(file.len.saturating_sub(1)));
            for value in [links, fragment, offset, xattr.unwrap_or(NO_XATTR)] {
                put32(out, value);
            }
        }
    }
}

/// Seconds since 1970 as squashfs has them: 32 bits without a sign. Times before and behind become the
/// nearest that there is.
fn time(inode: &Inode) -> u32 {
    inode.metadata.mtime.seconds.clamp(0, i64::from(u32::MAX)) as u32
}

fn basic_type(inode: &Inode) -> u16 {
    match inode.kind() {
        Kind::Directory { .. } => inode_type::DIRECTORY,
        Kind::Node(Node::Regular(_)) => inode_type::REGULAR,
        Kind::Node(Node::Symlink(_)) => inode_type::SYMLINK,
        Kind::Node(Node::BlockDevice(_)) => inode_type::BLOCK_DEVICE,
        Kind::Node(Node::CharDevice(_)) => inode_type::CHAR_DEVICE,
        Kind::Node(Node::Fifo) => inode_type::FIFO,
        Kind::Node(Node::Socket) => inode_type::SOCKET,
    }
}

fn block_number(position: u64, what: &'static str) -> Result<u32, SquashfsError> {
    u32::try_from(position).map_err(|_| SquashfsError::TooLarge {
        what,
        limit: u64::from(u32::MAX),
    })
}
