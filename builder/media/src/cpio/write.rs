//! Writing.

use std::collections::HashMap;
use std::io::{self, Write};

use lycia_tree::{Content, Entry, Footprint, Node, Tree, display};

use super::{CpioError, HEADER_LEN, MAGIC, SYMLINK_MAX, TRAILER};
use crate::compress::{Compression, Encoder};

/// Segments begin at multiples of this. Linux asks for 4; GNU cpio's blocks of 512 keep whole archives
/// comparable with its own.
const SEGMENT_ALIGN: u64 = 512;

/// What to do with extended attributes, which the format cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Xattrs {
    /// An entry that has some is an error.
    #[default]
    Refuse,
    /// They are left out and counted in [`Written::dropped_xattrs`].
    Drop,
}

/// How to write.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Members, without the trailer.
    pub members: u64,
    /// Bytes of the archive before compression, trailer and all.
    pub bytes: u64,
    /// Extended attributes that were left out.
    pub dropped_xattrs: u64,
}

/// Writes one archive of everything in `tree`, with its trailer, padded to a multiple of 4 bytes.
///
/// Members come in the order of [`Tree::walk`], the root first as `.`, and are numbered from 1 in that
/// order. A file with several names has its content at the first and none at the others, which share its
/// number; a symbolic link with several names becomes as many links, since Linux makes no hard links of
/// them.
///
/// # Errors
/// When an entry does not fit the format, or `out` refuses.
pub fn write_tree(out: &mut impl Write, tree: &Tree, options: &Options) -> Result<Written, CpioError> {
    let mut written = Written::default();
    let mut numbers = HashMap::new();
    let mut last_number = 0u32;
    let mut footprint = Footprint::new();
    for entry in tree.walk() {
        check_xattrs(&entry, options, &mut written)?;
        let shares = entry.inode.names() > 1 && entry.inode.symlink().is_none();
        let known = shares.then(|| numbers.get(&entry.id).copied()).flatten();
        let number = known.unwrap_or_else(|| {
            last_number += 1;
            last_number
        });
        if shares && known.is_none() {
            numbers.insert(entry.id, number);
        }
        written.bytes += write_member(out, tree, &entry, number, shares, known.is_none(), &mut footprint)?;
        written.members += 1;
    }
    written.bytes += write_head(out, &[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], TRAILER)?;
    Ok(written)
}

fn check_xattrs(entry: &Entry<'_>, options: &Options, written: &mut Written) -> Result<(), CpioError> {
    let xattrs = &entry.inode.metadata.xattrs;
    match (options.xattrs, xattrs.keys().next()) {
        (_, None) => Ok(()),
        (Xattrs::Refuse, Some(name)) => Err(CpioError::Xattr {
            path: display(&entry.path),
            name: display(name),
        }),
        (Xattrs::Drop, Some(_)) => {
            written.dropped_xattrs += xattrs.len() as u64;
            Ok(())
        }
    }
}

fn write_member(
    out: &mut impl Write,
    tree: &Tree,
    entry: &Entry<'_>,
    number: u32,
    shares: bool,
    first: bool,
    footprint: &mut Footprint,
) -> Result<u64, CpioError> {
    let refuse = |reason| CpioError::Entry {
        path: display(&entry.path),
        reason,
    };
    let fit = |what, value: i128| {
        u32::try_from(value).map_err(|_| CpioError::Range {
            path: display(&entry.path),
            what,
            value,
            most: u32::MAX,
        })
    };
    let name: &[u8] = match entry.relative() {
        b"" => b".",
        name => name,
    };
    if name == TRAILER {
        return Err(refuse("its name is the one that ends an archive"));
    }
    let mut device = (0, 0);
    let mut target: &[u8] = &[];
    let mut content = None;
    match entry.inode.node() {
        Some(Node::Regular(bytes)) => {
            fit("size", bytes.len().into())?;
            content = Some(bytes).filter(|_| first);
        }
        Some(Node::Symlink(text)) => {
            if text.is_empty() {
                return Err(refuse("a symbolic link without text"));
            }
            if text.len() > SYMLINK_MAX {
                return Err(refuse(
                    "a symbolic link of more than 4095 bytes, which Linux skips",
                ));
            }
            target = text;
        }
        Some(Node::CharDevice(number) | Node::BlockDevice(number)) => {
            device = (number.major, number.minor);
        }
        Some(Node::Fifo | Node::Socket) | None => {}
    }
    let size = content.map_or(target.len() as u64, Content::len);
    let links = match entry.inode.entries() {
        Some(entries) => {
            2 + entries
                .values()
                .filter(|&&child| tree.inode(child).is_directory())
                .count() as u32
        }
        None if shares => entry.inode.names(),
        None => 1,
    };
    let metadata = &entry.inode.metadata;
    let fields = [
        number,
        u32::from(entry.inode.mode()),
        metadata.uid,
        metadata.gid,
        links,
        fit("time of modification", metadata.mtime.seconds.into())?,
        fit("size", size.into())?,
        0,
        0,
        device.0,
        device.1,
    ];
    let head = write_head(out, &fields, name)?;
    out.write_all(target).map_err(CpioError::Write)?;
    if let Some(content) = content {
        for piece in footprint.pieces(content) {
            out.write_all(piece).map_err(CpioError::Write)?;
        }
    }
    let padding = size.next_multiple_of(4) - size;
    out.write_all(&[0; 3][..padding as usize])
        .map_err(CpioError::Write)?;
    Ok(head + size + padding)
}

/// Writes the head of a member from the fields of its header up to the device number; the length of the name and the
/// check field, which this format leaves 0, follow from there.
fn write_head(out: &mut impl Write, fields: &[u32; 11], name: &[u8]) -> Result<u64, CpioError> {
    // Header, name and its NUL are padded to a multiple of 4 together.
    let head_len = (HEADER_LEN + name.len() + 1).next_multiple_of(4);
    let mut head = Vec::with_capacity(head_len);
    head.extend_from_slice(MAGIC);
    for &field in fields {
        push_hex(&mut head, field);
    }
    push_hex(&mut head, name.len() as u32 + 1);
    push_hex(&mut head, 0);
    head.extend_from_slice(name);
    head.resize(head_len, 0);
    out.write_all(&head).map_err(CpioError::Write)?;
    Ok(head_len as u64)
}

fn push_hex(bytes: &mut Vec<u8>, value: u32) {
    for shift in (0..32).step_by(4).rev() {
        bytes.push(b"0123456789abcdef"[(value >> shift) as usize & 15]);
    }
}

/// Writes the segments of an initramfs one after another: for example microcode, which Linux reads before
/// it can unpack anything and which must be plain and first, then the system, compressed.
pub struct Segments<W: Write> {
    out: Counting<W>,
    /// Whether the last segment is a plain archive, which may be padded to a block; tools that test a
    /// compressed stream complain of zeros after it.
    plain: bool,
}

impl<W: Write> Segments<W> {
    /// Starts at the beginning of `out`.
    pub fn new(out: W) -> Segments<W> {
        Segments {
            out: Counting { out, position: 0 },
            plain: false,
        }
    }

    /// Adds `tree` as it is.
    ///
    /// # Errors
    /// As [`write_tree`].
    pub fn plain(&mut self, tree: &Tree, options: &Options) -> Result<Written, CpioError> {
        self.align()?;
        self.plain = true;
        write_tree(&mut self.out, tree, options)
    }

    /// Adds `tree`, compressed; `threads` as in [`Encoder::new`].
    ///
    /// # Errors
    /// As [`write_tree`] and [`Encoder::new`].
    pub fn compressed(
        &mut self,
        tree: &Tree,
        options: &Options,
        compression: &Compression,
        threads: u32,
    ) -> Result<Written, CpioError> {
        self.align()?;
        self.plain = false;
        // Headers and names are small writes: the encoders take them better together.
        let encoder = Encoder::new(&mut self.out, compression, threads)?;
        let mut encoder = io::BufWriter::with_capacity(1 << 16, encoder);
        let written = write_tree(&mut encoder, tree, options)?;
        encoder
            .into_inner()
            .map_err(|error| CpioError::Write(error.into_error()))?
            .finish()
            .map_err(CpioError::Write)?;
        Ok(written)
    }

    /// Adds a segment that was made before.
    ///
    /// # Errors
    /// When the output refuses.
    pub fn ready(&mut self, segment: &[u8]) -> Result<(), CpioError> {
        self.align()?;
        self.plain = false;
        self.out.write_all(segment).map_err(CpioError::Write)
    }

    /// Bytes written so far.
    pub fn position(&self) -> u64 {
        self.out.position
    }

    /// Pads the last segment to a block if it is plain, and gives the output back.
    ///
    /// # Errors
    /// When the output refuses.
    pub fn finish(mut self) -> Result<W, CpioError> {
        if self.plain {
            self.align()?;
        }
        self.out.flush().map_err(CpioError::Write)?;
        Ok(self.out.out)
    }

    fn align(&mut self) -> Result<(), CpioError> {
        let padding = self.out.position.next_multiple_of(SEGMENT_ALIGN) - self.out.position;
        let zeros = [0; SEGMENT_ALIGN as usize];
        self.out
            .write_all(&zeros[..padding as usize])
            .map_err(CpioError::Write)
    }
}

struct Counting<W: Write> {
    out: W,
    position: u64,
}

impl<W: Write> Write for Counting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.position += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
