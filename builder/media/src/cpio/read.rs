//! Reading, strictly: what Linux would silently skip or mend is an error here.

use std::collections::HashMap;

use lycia_tree::{Content, Device, InodeId, Metadata, Node, PATH_MAX, Timestamp, Tree, components, display};

use super::{CpioError, HEADER_LEN, MAGIC, SYMLINK_MAX, TRAILER};
use crate::compress::{Format, decompress_prefix};

/// How much to read at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Members of all segments together.
    pub members: u64,
    /// Bytes that a compressed segment may unpack to.
    pub unpacked: u64,
}

impl Default for Limits {
    /// A million members, 4 GiB: more than any machine boots.
    fn default() -> Limits {
        Limits {
            members: 1_000_000,
            unpacked: 4 << 30,
        }
    }
}

/// The numbers of a member's header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Number that the names of one file share.
    pub inode: u32,
    /// Type and permission bits, as `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// How many names share the number.
    pub links: u32,
    /// Seconds since 1970.
    pub mtime: u32,
    /// Bytes of the content.
    pub size: u32,
    /// The device that the archived file was on; with `inode` it identifies a file.
    pub on_device: (u32, u32),
    /// Major and minor number of a device node.
    pub device: (u32, u32),
}

/// A member of an archive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry<'a> {
    /// Its header.
    pub header: Header,
    /// Its name as it is written.
    pub name: &'a [u8],
    /// Its content, or the text of a symbolic link.
    pub content: &'a [u8],
}

/// The members of one archive. After the last, or an error, it ends; [`Entries::position`] says where.
pub struct Entries<'a> {
    bytes: &'a [u8],
    position: usize,
    done: bool,
}

impl<'a> Entries<'a> {
    /// Reads the archive that `bytes` begin with.
    pub fn new(bytes: &'a [u8]) -> Entries<'a> {
        Entries {
            bytes,
            position: 0,
            done: false,
        }
    }

    /// Where the next member begins; after the trailer, where the archive ends.
    pub fn position(&self) -> usize {
        self.position
    }

    fn malformed(&self, reason: impl Into<String>) -> CpioError {
        CpioError::Malformed {
            offset: self.position as u64,
            reason: reason.into(),
        }
    }

    fn read(&mut self) -> Result<Option<Entry<'a>>, CpioError> {
        let rest = &self.bytes[self.position..];
        let Some(head) = rest.get(..HEADER_LEN) else {
            return Err(self.malformed("it ends inside a header, or without a trailer"));
        };
        if &head[..6] != MAGIC {
            return Err(self.malformed("no member begins here"));
        }
        let mut fields = [0u32; 13];
        for (field, digits) in fields.iter_mut().zip(head[6..].chunks_exact(8)) {
            *field = parse_hex(digits).ok_or_else(|| self.malformed("a header with other than digits"))?;
        }
        let [
            inode,
            mode,
            uid,
            gid,
            links,
            mtime,
            size,
            major,
            minor,
            rmajor,
            rminor,
            name_len,
            check,
        ] = fields;
        if check != 0 {
            return Err(self.malformed("a checksum where this format has 0"));
        }
        let name_len = name_len as usize;
        if !(2..=PATH_MAX + 1).contains(&name_len) {
            return Err(self.malformed(format!("a name of {name_len} bytes")));
        }
        let name_end = HEADER_LEN + name_len;
        let content_start = name_end.next_multiple_of(4);
        let content_end = content_start + size as usize;
        let end = content_end.next_multiple_of(4);
        if end > rest.len() {
            return Err(self.malformed("it ends inside a member"));
        }
        let [name @ .., 0] = &rest[HEADER_LEN..name_end] else {
            return Err(self.malformed("a name without its NUL"));
        };
        if name.contains(&0) {
            return Err(self.malformed("a NUL inside a name"));
        }
        let padding = [&rest[name_end..content_start], &rest[content_end..end]];
        if padding.iter().any(|bytes| bytes.iter().any(|&byte| byte != 0)) {
            return Err(self.malformed("padding that is not zero"));
        }
        if name == TRAILER {
            if size != 0 {
                return Err(self.malformed("a trailer with content"));
            }
            self.position += end;
            return Ok(None);
        }
        let entry = Entry {
            header: Header {
                inode,
                mode,
                uid,
                gid,
                links,
                mtime,
                size,
                on_device: (major, minor),
                device: (rmajor, rminor),
            },
            name,
            content: &rest[content_start..content_end],
        };
        self.position += end;
        Ok(Some(entry))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, CpioError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let read = self.read().transpose();
        self.done = !matches!(read, Some(Ok(_)));
        read
    }
}

fn parse_hex(digits: &[u8]) -> Option<u32> {
    let mut value = 0u32;
    for &digit in digits {
        let digit = char::from(digit).to_digit(16)?;
        value = value << 4 | digit;
    }
    Some(value)
}

/// What a segment is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SegmentKind {
    /// An archive as it is.
    Plain,
    /// An archive that was compressed, unpacked.
    Compressed(Format, Vec<u8>),
}

/// A segment of an initramfs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Segment {
    /// First byte.
    pub offset: usize,
    /// Number of bytes, without padding.
    pub len: usize,
    /// What it is.
    pub kind: SegmentKind,
}

impl Segment {
    /// The archive, which of a plain segment is in `bytes`, the input of [`segments`].
    pub fn archive<'a>(&'a self, bytes: &'a [u8]) -> &'a [u8] {
        match &self.kind {
            SegmentKind::Plain => &bytes[self.offset..self.offset + self.len],
            SegmentKind::Compressed(_, unpacked) => unpacked,
        }
    }
}

/// Finds the segments of an initramfs as Linux does: each begins at a multiple of 4, with zeros between.
/// The archives are walked to their ends, so that what is returned is whole.
///
/// # Errors
/// When something else than a segment is found, or more than `limits` allow.
pub fn segments(bytes: &[u8], limits: &Limits) -> Result<Vec<Segment>, CpioError> {
    let malformed = |offset: usize, reason: &str| CpioError::Malformed {
        offset: offset as u64,
        reason: reason.to_owned(),
    };
    let mut found = Vec::new();
    let mut members = 0;
    let mut offset = 0;
    while let Some(skipped) = bytes[offset..].iter().position(|&byte| byte != 0) {
        offset += skipped;
        let rest = &bytes[offset..];
        let plain = rest[0] == b'0';
        // After an archive Linux takes an archive only at a multiple of 4.
        if plain && offset % 4 != 0 {
            return Err(malformed(
                offset,
                "a segment that does not begin at a multiple of 4",
            ));
        }
        let (len, kind) = if plain {
            (count(rest, &mut members, limits)?, SegmentKind::Plain)
        } else {
            let Some(format) = Format::detect(rest) else {
                return Err(malformed(offset, "neither an archive nor a compressed one"));
            };
            let (unpacked, used) = decompress_prefix(rest, limits.unpacked)?;
            let end = count(&unpacked, &mut members, limits)?;
            if unpacked[end..].iter().any(|&byte| byte != 0) {
                return Err(malformed(
                    offset,
                    "a compressed segment with more than one archive",
                ));
            }
            (used, SegmentKind::Compressed(format, unpacked))
        };
        found.push(Segment { offset, len, kind });
        offset += len;
    }
    Ok(found)
}

/// Walks an archive and returns where it ends.
fn count(archive: &[u8], members: &mut u64, limits: &Limits) -> Result<usize, CpioError> {
    let mut entries = Entries::new(archive);
    for entry in &mut entries {
        entry?;
        *members += 1;
        if *members > limits.members {
            return Err(CpioError::Limit {
                what: "members",
                limit: limits.members,
            });
        }
    }
    Ok(entries.position())
}

/// Reads an initramfs, plain or compressed, of one segment or several, into the tree that Linux would
/// unpack.
///
/// The root has the metadata of the member `.`, or is root's with mode 0755 and time 0.
///
/// # Errors
/// When the input is malformed, larger than `limits`, or its members make no tree: a name with `..`, a
/// member whose directory comes later or not at all, a hard link without a file.
pub fn read_tree(bytes: &[u8], limits: &Limits) -> Result<Tree, CpioError> {
    let mut tree = Tree::new(Metadata::new(0o755, Timestamp::default()));
    for segment in segments(bytes, limits)? {
        // Numbers mean nothing beyond their archive.
        let mut shared = HashMap::new();
        for entry in Entries::new(segment.archive(bytes)) {
            add(&mut tree, &mut shared, &entry?)?;
        }
    }
    Ok(tree)
}

type Shared = HashMap<(u32, u32, u32), InodeId>;

fn add(tree: &mut Tree, shared: &mut Shared, entry: &Entry<'_>) -> Result<(), CpioError> {
    let refuse = |reason: &'static str| CpioError::Entry {
        path: display(entry.name),
        reason,
    };
    let header = &entry.header;
    let parts = components(entry.name).map_err(|_| refuse("a name that no file can have"))?;
    if parts.contains(&&b".."[..]) {
        return Err(refuse("a name with `..`"));
    }
    let path = parts.join(&b'/');
    let mut metadata = Metadata::new(
        (header.mode & 0o7777) as u16,
        Timestamp::from_seconds(header.mtime.into()),
    );
    (metadata.uid, metadata.gid) = (header.uid, header.gid);
    let device = Device {
        major: header.device.0,
        minor: header.device.1,
    };
    if header.mode >> 16 != 0 {
        return Err(refuse("a mode of more than 16 bits"));
    }
    let kind = header.mode & 0o170000;
    if !entry.content.is_empty() && !matches!(kind, 0o100000 | 0o120000) {
        return Err(refuse("content in other than a file or link"));
    }
    let node = match kind {
        0o040000 => {
            let id = match parts.is_empty() {
                true => tree.root(),
                false => tree.make_directory(&path, metadata.clone())?,
            };
            *tree.metadata_mut(id) = metadata;
            return Ok(());
        }
        0o100000 => Node::Regular(Content::from(entry.content)),
        0o120000 if (1..=SYMLINK_MAX).contains(&entry.content.len()) && !entry.content.contains(&0) => {
            Node::Symlink(entry.content.to_vec())
        }
        0o120000 => return Err(refuse("a symbolic link with a text that cannot be one")),
        0o020000 => Node::CharDevice(device),
        0o060000 => Node::BlockDevice(device),
        0o010000 => Node::Fifo,
        0o140000 => Node::Socket,
        _ => return Err(refuse("a type that there is not")),
    };
    let key = (header.inode, header.on_device.0, header.on_device.1);
    if header.links > 1 && kind != 0o120000 {
        if let Some(&id) = shared.get(&key) {
            if tree.inode(id).file_type() != kind as u16 {
                return Err(refuse("a hard link to something of another type"));
            }
            if tree.inode(id).names() == 0 {
                return Err(refuse("a hard link to a file that was replaced since"));
            }
            return add_link(tree, id, &path, entry);
        }
        let id = tree.insert(&path, metadata, node)?;
        shared.insert(key, id);
        return Ok(());
    }
    tree.insert(&path, metadata, node)?;
    Ok(())
}

/// A further name of `id`. GNU cpio puts the content at the last name, others at the first: whichever has
/// some gives it.
fn add_link(tree: &mut Tree, id: InodeId, path: &[u8], entry: &Entry<'_>) -> Result<(), CpioError> {
    if tree.find(path, lycia_tree::Follow::Parents)? == Some(id) {
        return Ok(());
    }
    if tree.find(path, lycia_tree::Follow::Parents)?.is_some() {
        tree.remove(path)?;
    }
    tree.link(id, path)?;
    if !entry.content.is_empty() {
        let metadata = tree.inode(id).metadata.clone();
        tree.update(path, metadata, Content::from(entry.content))?;
    }
    Ok(())
}
