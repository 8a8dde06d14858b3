//! Writing.

use std::collections::HashMap;
use std::io::{self, Write};

use lycia_tree::{Content, Device, Footprint, InodeId, Metadata, Node, Timestamp, Tree, display};

use super::{BLOCK, TarError, XATTR};
use crate::compress::{Compression, Encoder};

/// The highest numbers of fields of 8 and 12 bytes.
const MAX_7: u64 = 0o7_777_777;
const MAX_11: u64 = 0o77_777_777_777;

/// What to do with sockets, which the format cannot hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sockets {
    /// One is an error.
    #[default]
    Refuse,
    /// They are left out and counted in [`Written::dropped_sockets`].
    Drop,
}

/// How to write a tree.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Sockets.
    pub sockets: Sockets,
    /// Whether the root directory is a member, `./`, so that its owner, mode and time are kept.
    pub root: bool,
}

/// What was written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Written {
    /// Members.
    pub members: u64,
    /// Bytes of the archive before compression.
    pub bytes: u64,
    /// Sockets that were left out.
    pub dropped_sockets: u64,
}

/// What a member is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Item<'i> {
    /// A directory.
    Directory,
    /// Anything else.
    Node(&'i Node),
    /// A further name of the member with this path.
    HardLink(&'i [u8]),
}

/// Writes members one after another. [`Writer::finish`] must be called: dropped before, the archive has no end.
pub struct Writer<W: Write> {
    out: W,
    written: Written,
    footprint: Footprint,
}

impl<W: Write> Writer<W> {
    /// Starts an archive on `out`. Headers are small writes: give it something buffered.
    pub fn new(out: W) -> Writer<W> {
        Writer {
            out,
            written: Written::default(),
            footprint: Footprint::new(),
        }
    }

    /// Adds a member at `path`, without a leading slash; the root is empty.
    ///
    /// # Errors
    /// When the format cannot hold it, or the output refuses.
    pub fn member(&mut self, path: &[u8], metadata: &Metadata, item: Item<'_>) -> Result<(), TarError> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let refuse = |reason: String| TarError::Entry {
            path: display(path),
            reason,
        };
        if path.contains(&0) {
            return Err(refuse("a name with a NUL byte".to_owned()));
        }
        let mut name = path.to_vec();
        match item {
            Item::Directory if name.is_empty() => name.extend_from_slice(b"./"),
            Item::Directory => name.push(b'/'),
            _ if name.is_empty() => return Err(refuse("the root is no directory".to_owned())),
            _ => {}
        }
        let mut device = None;
        let mut link: &[u8] = &[];
        let mut content: Option<&Content> = None;
        let kind = match item {
            Item::Directory => b'5',
            Item::HardLink(target) => {
                link = target.strip_prefix(b"/").unwrap_or(target);
                b'1'
            }
            Item::Node(Node::Regular(bytes)) => {
                content = Some(bytes);
                b'0'
            }
            Item::Node(Node::Symlink(target)) => {
                link = target;
                b'2'
            }
            Item::Node(Node::CharDevice(numbers)) => {
                device = Some(*numbers);
                b'3'
            }
            Item::Node(Node::BlockDevice(numbers)) => {
                device = Some(*numbers);
                b'4'
            }
            Item::Node(Node::Fifo) => b'6',
            Item::Node(Node::Socket) => {
                return Err(refuse("tar has no sockets".to_owned()));
            }
        };
        if matches!(kind, b'1' | b'2') && (link.is_empty() || link.contains(&0)) {
            return Err(refuse("a link with a text that cannot be one".to_owned()));
        }
        let header = HeaderFields {
            name: &name,
            link,
            kind,
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            size: content.map_or(0, Content::len),
            mtime: metadata.mtime,
            device,
        };
        let mut records = Vec::new();
        let block = header.encode(&mut records).map_err(refuse)?;
        // A hard link's attributes are those of the file.
        if kind != b'1' {
            for (name, value) in &metadata.xattrs {
                let mut key = XATTR.to_vec();
                for &byte in name {
                    // As GNU tar escapes what would end the keyword.
                    match byte {
                        b'=' => key.extend_from_slice(b"%3D"),
                        b'%' => key.extend_from_slice(b"%25"),
                        0 => return Err(refuse("an extended attribute with a NUL in its name".to_owned())),
                        byte => key.push(byte),
                    }
                }
                record(&mut records, &key, value);
            }
        }
        if !records.is_empty() {
            let own = name.strip_suffix(b"/").unwrap_or(&name);
            let last = own.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            let mut name = b"PaxHeaders/".to_vec();
            name.extend_from_slice(&last[..last.len().min(80)]);
            let header = HeaderFields {
                name: &name,
                link: &[],
                kind: b'x',
                mode: 0o644,
                uid: 0,
                gid: 0,
                size: records.len() as u64,
                mtime: Timestamp::default(),
                device: None,
            };
            let block = header.encode(&mut Vec::new()).map_err(refuse)?;
            self.put(&block)?;
            self.put_padded(&records)?;
        }
        self.put(&block)?;
        if let Some(content) = content {
            for piece in self.footprint.pieces(content) {
                self.out.write_all(piece).map_err(TarError::Write)?;
            }
            self.written.bytes += content.len();
            self.pad(content.len())?;
        }
        self.written.members += 1;
        Ok(())
    }

    /// Writes the end of the archive and gives the output back.
    ///
    /// # Errors
    /// When the output refuses.
    pub fn finish(mut self) -> Result<(W, Written), TarError> {
        self.put(&[0; 2 * BLOCK])?;
        self.out.flush().map_err(TarError::Write)?;
        Ok((self.out, self.written))
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.out.write_all(bytes).map_err(TarError::Write)?;
        self.written.bytes += bytes.len() as u64;
        Ok(())
    }

    fn put_padded(&mut self, bytes: &[u8]) -> Result<(), TarError> {
        self.put(bytes)?;
        self.pad(bytes.len() as u64)
    }

    /// Fills the last block after `len` bytes.
    fn pad(&mut self, len: u64) -> Result<(), TarError> {
        let padding = len.next_multiple_of(BLOCK as u64) - len;
        self.put(&[0; BLOCK][..padding as usize])
    }
}

/// What a header says.
struct HeaderFields<'h> {
    name: &'h [u8],
    link: &'h [u8],
    kind: u8,
    mode: u16,
    uid: u32,
    gid: u32,
    size: u64,
    mtime: Timestamp,
    device: Option<Device>,
}

impl HeaderFields<'_> {
    /// The header, and records for what it cannot hold.
    fn encode(&self, records: &mut Vec<u8>) -> Result<[u8; BLOCK], String> {
        let mut block = [0; BLOCK];
        match split(self.name) {
            Some((prefix, name)) => {
                block[..name.len()].copy_from_slice(name);
                block[345..345 + prefix.len()].copy_from_slice(prefix);
            }
            None => {
                block[..100].copy_from_slice(&self.name[..100]);
                record(records, b"path", self.name);
            }
        }
        if self.link.len() > 100 {
            record(records, b"linkpath", self.link);
        }
        let link = &self.link[..self.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        // A reader may take names in records for UTF-8 unless it is told.
        let odd = |name: &[u8]| std::str::from_utf8(name).is_err();
        if !records.is_empty() && (odd(self.name) || odd(self.link)) {
            let mut told = Vec::new();
            record(&mut told, b"hdrcharset", b"BINARY");
            told.append(records);
            *records = told;
        }
        let mut number = |at: usize, digits: usize, value: u64, key: &[u8]| {
            let fits = value <= if digits == 7 { MAX_7 } else { MAX_11 };
            octal(&mut block[at..at + digits], if fits { value } else { 0 });
            if !fits {
                record(records, key, value.to_string().as_bytes());
            }
        };
        number(100, 7, u64::from(self.mode & 0o7777), b"");
        number(108, 7, self.uid.into(), b"uid");
        number(116, 7, self.gid.into(), b"gid");
        number(124, 11, self.size, b"size");
        match u64::try_from(self.mtime.seconds) {
            Ok(seconds) if self.mtime.nanoseconds == 0 => number(136, 11, seconds, b"mtime"),
            seconds => {
                number(
                    136,
                    11,
                    seconds.ok().filter(|&s| s <= MAX_11).unwrap_or(0),
                    b"mtime",
                );
                record(records, b"mtime", decimal(self.mtime).as_bytes());
            }
        }
        block[156] = self.kind;
        block[257..265].copy_from_slice(b"ustar\x0000");
        let (major, minor) = self.device.map_or((0, 0), |device| (device.major, device.minor));
        if u64::from(major.max(minor)) > MAX_7 {
            return Err(format!("the device number {major}:{minor} is beyond {MAX_7}"));
        }
        octal(&mut block[329..336], major.into());
        octal(&mut block[337..344], minor.into());
        // The sum of all bytes, its own taken for spaces.
        block[148..156].fill(b' ');
        let sum = block.iter().map(|&byte| u64::from(byte)).sum();
        octal(&mut block[148..154], sum);
        block[154] = 0;
        Ok(block)
    }
}

/// The name as it fits into the fields of 155 and 100 bytes, split at a slash where it needs both.
fn split(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 {
        return Some((&[], name));
    }
    let inside = &name[..name.len() - 1];
    let (at, _) = inside
        .iter()
        .enumerate()
        .filter(|&(at, &byte)| byte == b'/' && at > 0 && at <= 155)
        .find(|&(at, _)| name.len() - at - 1 <= 100)?;
    Some((&name[..at], &name[at + 1..]))
}

fn octal(field: &mut [u8], mut value: u64) {
    for digit in field.iter_mut().rev() {
        *digit = b'0' + (value & 7) as u8;
        value >>= 3;
    }
}

/// Seconds as a decimal fraction. Below 1970 it counts the other way than the nanoseconds do.
fn decimal(time: Timestamp) -> String {
    let nanoseconds = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds);
    let (whole, part) = (
        nanoseconds.abs() / 1_000_000_000,
        nanoseconds.abs() % 1_000_000_000,
    );
    let sign = if nanoseconds < 0 { "-" } else { "" };
    if part == 0 {
        return format!("{sign}{whole}");
    }
    let text = format!("{sign}{whole}.{part:09}");
    text.trim_end_matches('0').to_owned()
}

/// Adds a record: its length, which counts its own digits, the key and the value.
fn record(records: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    // Space, equals sign, line feed.
    let bare = key.len() + value.len() + 3;
    let mut len = bare + 1;
    while bare + len.to_string().len() != len {
        len = bare + len.to_string().len();
    }
    records.extend_from_slice(len.to_string().as_bytes());
    records.push(b' ');
    records.extend_from_slice(key);
    records.push(b'=');
    records.extend_from_slice(value);
    records.push(b'\n');
}

/// Writes everything in `tree` as one archive, in the order of [`Tree::walk`]. Of a file with several names the first
/// holds the content and the others are links to it.
///
/// # Errors
/// When an entry does not fit the format, or `out` refuses.
pub fn write_tree(out: &mut impl Write, tree: &Tree, options: &Options) -> Result<Written, TarError> {
    let mut writer = Writer::new(io::BufWriter::with_capacity(1 << 16, out));
    let mut first: HashMap<InodeId, Vec<u8>> = HashMap::new();
    let mut dropped = 0;
    for entry in tree.walk() {
        let path = entry.relative();
        if path.is_empty() && !options.root {
            continue;
        }
        let metadata = &entry.inode.metadata;
        let item = match entry.inode.node() {
            None => Item::Directory,
            Some(Node::Socket) if options.sockets == Sockets::Drop => {
                dropped += 1;
                continue;
            }
            Some(node) => Item::Node(node),
        };
        if entry.inode.names() > 1 {
            if let Some(known) = first.get(&entry.id) {
                writer.member(path, metadata, Item::HardLink(known))?;
                continue;
            }
            if !entry.inode.is_directory() {
                first.insert(entry.id, path.to_vec());
            }
        }
        writer.member(path, metadata, item)?;
    }
    let (_, mut written) = writer.finish()?;
    written.dropped_sockets = dropped;
    Ok(written)
}

/// The same, compressed; `threads` as in [`Encoder::new`].
///
/// # Errors
/// As [`write_tree`] and [`Encoder::new`].
pub fn write_compressed<W: Write>(
    out: W,
    tree: &Tree,
    options: &Options,
    compression: &Compression,
    threads: u32,
) -> Result<(W, Written), TarError> {
    let mut encoder = Encoder::new(out, compression, threads)?;
    let written = write_tree(&mut encoder, tree, options)?;
    let out = encoder.finish().map_err(TarError::Write)?;
    Ok((out, written))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_slashes() {
        let name = |text: &str| text.as_bytes().to_vec();
        let long = "n".repeat(100);
        assert_eq!(split(long.as_bytes()), Some((&b""[..], long.as_bytes())));
        let both = name(&format!("{}/{long}", "p".repeat(155)));
        assert_eq!(split(&both).map(|(a, b)| (a.len(), b.len())), Some((155, 100)));
        assert_eq!(split(&name(&format!("{}/{long}", "p".repeat(156)))), None);
        assert_eq!(split(&name(&format!("p/{long}n"))), None);
        // The slash at the end of a directory is no place to split.
        let directory = name(&format!("{long}/"));
        assert_eq!(split(&directory), None);
        let deep = name(&format!("a/{long}"));
        assert_eq!(split(&deep).map(|(a, b)| (a.len(), b.len())), Some((1, 100)));
    }

    #[test]
    fn decimals() {
        for (seconds, nanoseconds, text) in [
            (0, 0, "0"),
            (1, 500_000_000, "1.5"),
            (-2, 500_000_000, "-1.5"),
            (-1, 999_999_999, "-0.000000001"),
            (-3, 0, "-3"),
            (100, 1, "100.000000001"),
        ] {
            let time = Timestamp { seconds, nanoseconds };
            assert_eq!(decimal(time), text);
        }
    }

    #[test]
    fn records_count_themselves() {
        for len in [0, 1, 5, 80, 90, 91, 92, 93, 94, 95, 96, 985, 990, 991, 992] {
            let mut records = Vec::new();
            record(&mut records, b"key", &vec![b'v'; len]);
            let text = String::from_utf8(records.clone()).unwrap();
            let said: usize = text.split(' ').next().unwrap().parse().unwrap();
            assert_eq!(said, records.len());
        }
    }
}
