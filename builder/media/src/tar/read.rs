//! Reading, as a stream: the input need not be seekable.

use std::io::{self, Read};

use lycia_tree::{Content, Device, Metadata, Node, PATH_MAX, Timestamp, Tree, components, display};

use super::{BLOCK, TarError, XATTR};

/// Most bytes of extended headers of one member.
const RECORDS_MAX: u64 = 4 << 20;

/// How much to read at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Members.
    pub members: u64,
    /// Bytes of contents that [`read_tree`] holds.
    pub bytes: u64,
}

impl Default for Limits {
    /// 4 million members and 1 GiB.
    fn default() -> Limits {
        Limits {
            members: 4 << 20,
            bytes: 1 << 30,
        }
    }
}

/// What a member is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Member {
    /// A regular file; its content comes from [`Archive::read`](Read::read).
    Regular,
    /// A directory.
    Directory,
    /// A further name of the member with this path, as it is written.
    HardLink(Vec<u8>),
    /// A symbolic link and its text.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice(Device),
    /// A block device.
    BlockDevice(Device),
    /// A named pipe.
    Fifo,
}

/// A member of an archive.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Header {
    /// Its path as it is written.
    pub path: Vec<u8>,
    /// What it is.
    pub member: Member,
    /// Owner, mode, time, attributes.
    pub metadata: Metadata,
    /// Bytes of the content.
    pub size: u64,
}

/// An archive being read. Between two calls of [`Archive::next_member`] it reads as the content of the member.
pub struct Archive<R> {
    input: R,
    limits: Limits,
    offset: u64,
    /// Bytes of the content that were not read, and the padding behind it.
    content: u64,
    padding: u64,
    members: u64,
    done: bool,
    /// Records for all members that follow.
    global: Records,
}

/// What extended headers say.
#[derive(Clone, Default)]
struct Records {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    uid: Option<u64>,
    gid: Option<u64>,
    size: Option<u64>,
    mtime: Option<Timestamp>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Whether the content is that of a sparse file in one of GNU's formats, and not the file's.
    sparse: bool,
}

impl<R: Read> Read for Archive<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = buffer.len().min(self.content.min(usize::MAX as u64) as usize);
        if len == 0 {
            return Ok(0);
        }
        let read = self.input.read(&mut buffer[..len])?;
        if read == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the archive ends inside a file",
            ));
        }
        self.offset += read as u64;
        self.content -= read as u64;
        Ok(read)
    }
}

impl<R: Read> Archive<R> {
    /// Reads the archive that `input` begins with. Compressed ones are to be unpacked on the way.
    pub fn new(input: R, limits: Limits) -> Archive<R> {
        Archive {
            input,
            limits,
            offset: 0,
            content: 0,
            padding: 0,
            members: 0,
            done: false,
            global: Records::default(),
        }
    }

    fn malformed(&self, reason: impl Into<String>) -> TarError {
        TarError::Malformed {
            offset: self.offset,
            reason: reason.into(),
        }
    }

    fn skip(&mut self, len: u64) -> Result<(), TarError> {
        let skipped =
            io::copy(&mut self.input.by_ref().take(len), &mut io::sink()).map_err(TarError::Read)?;
        self.offset += skipped;
        if skipped < len {
            return Err(self.malformed("it ends inside a member"));
        }
        Ok(())
    }

    /// The next header, or `None` at the end: a block of zeros, or the end of the input where a header would begin.
    fn block(&mut self) -> Result<Option<[u8; BLOCK]>, TarError> {
        let mut block = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.input.read(&mut block[filled..]) {
                Ok(0) if filled == 0 => return Ok(None),
                Ok(0) => return Err(self.malformed("it ends inside a header")),
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(TarError::Read(error)),
            }
        }
        if block.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        if !is_header(&block) {
            return Err(self.malformed("no header begins here, or its checksum is wrong"));
        }
        self.offset += BLOCK as u64;
        Ok(Some(block))
    }

    /// The content of a member that is part of the next one's header.
    fn extension(&mut self, size: u64, most: u64) -> Result<Vec<u8>, TarError> {
        if size > most {
            return Err(self.malformed(format!("an extended header of {size} bytes")));
        }
        let mut bytes = Vec::new();
        self.input
            .by_ref()
            .take(size)
            .read_to_end(&mut bytes)
            .map_err(TarError::Read)?;
        self.offset += bytes.len() as u64;
        if (bytes.len() as u64) < size {
            return Err(self.malformed("it ends inside an extended header"));
        }
        self.skip(size.next_multiple_of(BLOCK as u64) - size)?;
        Ok(bytes)
    }

    /// Bytes of the input that were read: behind [`Archive::next_member`], where the member's content begins.
    pub fn position(&self) -> u64 {
        self.offset
    }

    /// Goes on to the next member, past what was not read of the last one's content.
    ///
    /// # Errors
    /// When the archive is malformed, has members that are not understood, or more than the limits allow.
    pub fn next_member(&mut self) -> Result<Option<Header>, TarError> {
        if self.done {
            return Ok(None);
        }
        self.skip(self.content.saturating_add(self.padding))?;
        (self.content, self.padding) = (0, 0);
        let mut records = self.global.clone();
        let mut extensions = 0;
        loop {
            let Some(block) = self.block()? else {
                self.done = true;
                if extensions > 0 {
                    return Err(self.malformed("it ends behind an extended header"));
                }
                return Ok(None);
            };
            let size = number(&block[124..136]).ok_or_else(|| self.malformed("a size that is no number"))?;
            extensions += 1;
            if extensions > 8 {
                return Err(self.malformed("too many extended headers in a row"));
            }
            match block[156] {
                b'x' => {
                    let bytes = self.extension(size, RECORDS_MAX)?;
                    parse(&bytes, &mut records).map_err(|reason| self.malformed(reason))?;
                }
                b'g' => {
                    let bytes = self.extension(size, RECORDS_MAX)?;
                    let mut global = std::mem::take(&mut self.global);
                    parse(&bytes, &mut global).map_err(|reason| self.malformed(reason))?;
                    records = global.clone();
                    self.global = global;
                }
                kind @ (b'L' | b'K') => {
                    let mut bytes = self.extension(size, PATH_MAX as u64 + 1)?;
                    bytes.truncate(bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len()));
                    if kind == b'L' {
                        records.path = Some(bytes);
                    } else {
                        records.link = Some(bytes);
                    }
                }
                _ => return self.header(&block, size, records).map(Some),
            }
        }
    }

    fn header(&mut self, block: &[u8; BLOCK], size: u64, records: Records) -> Result<Header, TarError> {
        self.members += 1;
        if self.members > self.limits.members {
            return Err(TarError::Limit {
                what: "members",
                limit: self.limits.members,
            });
        }
        let field = |from: usize, len: usize| {
            let bytes = &block[from..from + len];
            bytes[..bytes.iter().position(|&byte| byte == 0).unwrap_or(len)].to_vec()
        };
        let value = |from: usize, len: usize, what: &str| {
            number(&block[from..from + len])
                .ok_or_else(|| self.malformed(format!("a {what} that is no number")))
        };
        if records.sparse {
            return Err(TarError::Unsupported {
                offset: self.offset,
                what: "a sparse file in GNU's format".to_owned(),
            });
        }
        let mut path = field(0, 100);
        // GNU's own format has other fields where the prefix would be.
        if &block[257..263] == b"ustar\0" && block[345] != 0 {
            let mut whole = field(345, 155);
            whole.push(b'/');
            whole.append(&mut path);
            path = whole;
        }
        let path = records.path.unwrap_or(path);
        let link = records.link.unwrap_or_else(|| field(157, 100));
        let device = || -> Result<Device, TarError> {
            let part =
                |value: u64| u32::try_from(value).map_err(|_| self.malformed("a device number too large"));
            Ok(Device {
                major: part(value(329, 8, "device number")?)?,
                minor: part(value(337, 8, "device number")?)?,
            })
        };
        let member = match block[156] {
            b'0' | 0 | b'7' if path.ends_with(b"/") => Member::Directory,
            b'0' | 0 | b'7' => Member::Regular,
            b'1' => Member::HardLink(link),
            b'2' => Member::Symlink(link),
            b'3' => Member::CharDevice(device()?),
            b'4' => Member::BlockDevice(device()?),
            b'5' => Member::Directory,
            b'6' => Member::Fifo,
            other => {
                return Err(TarError::Unsupported {
                    offset: self.offset,
                    what: format!("a member of the type `{}`", other.escape_ascii()),
                });
            }
        };
        let size = match member {
            Member::Regular => records.size.unwrap_or(size),
            // Some archives give links the size of what they lead to, and no content.
            _ => 0,
        };
        let id = |record: Option<u64>, from: usize, what: &str| {
            let value = match record {
                Some(value) => value,
                None => value(from, 8, what)?,
            };
            u32::try_from(value).map_err(|_| self.malformed(format!("a {what} too large")))
        };
        let mtime = match records.mtime {
            Some(time) => time,
            None => Timestamp::from_seconds(
                signed(&block[136..148]).ok_or_else(|| self.malformed("a time that is no number"))?,
            ),
        };
        let mode = value(100, 8, "mode")?;
        let mut metadata = Metadata::new((mode & 0o7777) as u16, mtime);
        metadata.uid = id(records.uid, 108, "user id")?;
        metadata.gid = id(records.gid, 116, "group id")?;
        metadata.xattrs = records.xattrs.into_iter().collect();
        self.content = size;
        self.padding = size
            .checked_next_multiple_of(BLOCK as u64)
            .map_or(0, |end| end - size);
        Ok(Header {
            path,
            member,
            metadata,
            size,
        })
    }
}

/// Whether the checksum of a header is that of its bytes, with spaces in its own place.
fn is_header(block: &[u8; BLOCK]) -> bool {
    let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
    let own: u64 = block[148..156].iter().map(|&byte| u64::from(byte)).sum();
    number(&block[148..156]) == Some(sum - own + 8 * u64::from(b' '))
}

/// Whether `bytes` begin with the header of a member, with a name: archives of the seventh edition of Unix have no other sign.
pub fn begins(bytes: &[u8]) -> bool {
    bytes
        .first_chunk()
        .is_some_and(|block: &[u8; BLOCK]| block[0] != 0 && is_header(block))
}

/// A number in octal digits between spaces, or in base 256 behind a byte with its highest bit set. Nothing is 0.
fn number(field: &[u8]) -> Option<u64> {
    u64::try_from(signed(field)?).ok()
}

fn signed(field: &[u8]) -> Option<i64> {
    if let Some((&first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        // Two's complement, the sign in the next bit.
        let mut value = i128::from((first << 1) as i8 >> 1);
        for &byte in rest {
            value = value.checked_shl(8)? | i128::from(byte);
            if i64::try_from(value).is_err() {
                return None;
            }
        }
        return i64::try_from(value).ok();
    }
    let end = field.iter().position(|&byte| byte == 0).unwrap_or(field.len());
    let digits = field[..end].trim_ascii();
    digits.iter().try_fold(0i64, |value, &digit| {
        let digit = char::from(digit).to_digit(8)?;
        value.checked_mul(8)?.checked_add(digit.into())
    })
}

/// Reads records into `found`; later ones replace earlier ones, empty ones take back.
fn parse(mut bytes: &[u8], found: &mut Records) -> Result<(), &'static str> {
    const BROKEN: &str = "a record of an extended header makes no sense";
    while !bytes.is_empty() {
        let space = bytes
            .iter()
            .take(9)
            .position(|&byte| byte == b' ')
            .ok_or(BROKEN)?;
        let len: usize = std::str::from_utf8(&bytes[..space])
            .ok()
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .ok_or(BROKEN)?;
        if len < space + 3 || len > bytes.len() || bytes[len - 1] != b'\n' {
            return Err(BROKEN);
        }
        let record = &bytes[space + 1..len - 1];
        bytes = &bytes[len..];
        let equals = record.iter().position(|&byte| byte == b'=').ok_or(BROKEN)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let whole = || -> Result<Option<u64>, &'static str> {
            if value.is_empty() {
                return Ok(None);
            }
            let text = std::str::from_utf8(value).map_err(|_| BROKEN)?;
            text.parse().map(Some).map_err(|_| BROKEN)
        };
        let bytes_of = |value: &[u8]| (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => found.path = bytes_of(value),
            b"linkpath" => found.link = bytes_of(value),
            b"uid" => found.uid = whole()?,
            b"gid" => found.gid = whole()?,
            b"size" => found.size = whole()?,
            b"mtime" if value.is_empty() => found.mtime = None,
            b"mtime" => found.mtime = Some(time(value).ok_or(BROKEN)?),
            key if key.starts_with(b"GNU.sparse.") => found.sparse = true,
            key => {
                if let Some(name) = key.strip_prefix(XATTR) {
                    found.xattrs.push((unescape(name), value.to_vec()));
                }
            }
        }
    }
    Ok(())
}

/// The name of an attribute, with `=` and `%` back in place.
fn unescape(name: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&first, behind)) = rest.split_first() {
        let (byte, behind) = match (first, behind) {
            (b'%', [b'3', b'D', behind @ ..]) => (b'=', behind),
            (b'%', [b'2', b'5', behind @ ..]) => (b'%', behind),
            _ => (first, behind),
        };
        bytes.push(byte);
        rest = behind;
    }
    bytes
}

/// Seconds with a fraction, of which nanoseconds are kept.
fn time(text: &[u8]) -> Option<Timestamp> {
    let text = std::str::from_utf8(text).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let (whole, part) = text.split_once('.').unwrap_or((text, ""));
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(part) {
        return None;
    }
    let seconds: i64 = whole.parse().ok()?;
    let part = part.get(..9).unwrap_or(part);
    let nanoseconds: u32 = format!("{part:0<9}").parse().ok()?;
    Some(match (negative, nanoseconds) {
        (false, nanoseconds) => Timestamp { seconds, nanoseconds },
        (true, 0) => Timestamp::from_seconds(-seconds),
        (true, nanoseconds) => Timestamp {
            seconds: -seconds - 1,
            nanoseconds: 1_000_000_000 - nanoseconds,
        },
    })
}

/// Reads an archive into a tree. Directories that have no member of their own are root's, 0755. The root has the
/// metadata of the member `./`, or is root's with mode 0755 and time 0.
///
/// # Errors
/// When the input is malformed, larger than `limits`, or its members make no tree: a name with `..`, one below
/// something that is no directory or below a symbolic link, a hard link to nothing.
pub fn read_tree(input: impl Read, limits: Limits) -> Result<Tree, TarError> {
    let mut archive = Archive::new(input, limits);
    let mut tree = Tree::new(Metadata::new(0o755, Timestamp::default()));
    let mut held = 0u64;
    while let Some(header) = archive.next_member()? {
        let offset = archive.offset;
        let refuse = |reason: String| TarError::Malformed {
            offset,
            reason: format!("{}: {reason}", display(&header.path)),
        };
        let clean = |path: &[u8]| -> Result<Vec<u8>, TarError> {
            let parts = components(path).map_err(|error| refuse(error.to_string()))?;
            if parts.contains(&&b".."[..]) {
                return Err(refuse("a name with `..`".to_owned()));
            }
            Ok(parts.join(&b'/'))
        };
        let path = clean(&header.path)?;
        // What lies below a link would land outside of the place that its name says.
        let above = path.iter().rposition(|&byte| byte == b'/').map_or(0, |at| at);
        for (at, _) in path
            .iter()
            .enumerate()
            .filter(|&(at, &byte)| byte == b'/' && at <= above)
        {
            let found = tree.find(&path[..at], lycia_tree::Follow::Parents)?;
            if found.is_some_and(|id| !tree.inode(id).is_directory()) {
                return Err(refuse("it lies below something that is no directory".to_owned()));
            }
        }
        if path.is_empty() && header.member != Member::Directory {
            return Err(refuse("the root is no directory".to_owned()));
        }
        let metadata = header.metadata.clone();
        let node = match &header.member {
            Member::Directory => {
                let existing = tree.find(&path, lycia_tree::Follow::Parents)?;
                let id = match existing {
                    Some(id) if tree.inode(id).is_directory() => id,
                    Some(_) => {
                        tree.remove(&path)?;
                        tree.make_directories(&path, metadata.clone())?
                    }
                    None if path.is_empty() => tree.root(),
                    None => tree.make_directories(&path, metadata.clone())?,
                };
                *tree.metadata_mut(id) = metadata;
                continue;
            }
            Member::HardLink(target) => {
                let target = clean(target)?;
                let id = tree.resolve(&target, lycia_tree::Follow::Parents)?;
                match tree.find(&path, lycia_tree::Follow::Parents)? {
                    Some(old) if old == id => continue,
                    Some(_) => tree.remove(&path)?,
                    None => {}
                }
                parents(&mut tree, &path, metadata.mtime)?;
                tree.link(id, &path)?;
                continue;
            }
            Member::Regular => {
                held = held.saturating_add(header.size);
                if held > limits.bytes {
                    return Err(TarError::Limit {
                        what: "bytes of contents",
                        limit: limits.bytes,
                    });
                }
                let mut content = Vec::new();
                archive.read_to_end(&mut content).map_err(TarError::Read)?;
                Node::Regular(Content::from(content))
            }
            Member::Symlink(text) => {
                if text.is_empty() {
                    return Err(refuse("a symbolic link without text".to_owned()));
                }
                Node::Symlink(text.clone())
            }
            Member::CharDevice(device) => Node::CharDevice(*device),
            Member::BlockDevice(device) => Node::BlockDevice(*device),
            Member::Fifo => Node::Fifo,
        };
        parents(&mut tree, &path, metadata.mtime)?;
        tree.insert(&path, metadata, node)?;
    }
    Ok(tree)
}

fn parents(tree: &mut Tree, path: &[u8], mtime: Timestamp) -> Result<(), TarError> {
    if let Some(at) = path.iter().rposition(|&byte| byte == b'/') {
        tree.make_directories(&path[..at], Metadata::new(0o755, mtime))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"644     ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"\x80\0\0\0\0\x20\0\0", Some(0x20_0000)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"12a     ", None),
            (b"-1      ", None),
        ] {
            assert_eq!(signed(field), expected, "{}", field.escape_ascii());
        }
    }

    #[test]
    fn times() {
        for (text, seconds, nanoseconds) in [
            ("1.5", 1, 500_000_000),
            ("-1.5", -2, 500_000_000),
            ("-0.000000001", -1, 999_999_999),
            ("7", 7, 0),
            ("-7", -7, 0),
            ("1.9999999999", 1, 999_999_999),
        ] {
            assert_eq!(
                time(text.as_bytes()),
                Some(Timestamp { seconds, nanoseconds }),
                "{text}"
            );
        }
        for text in ["", "-", ".5", "1.x", "+1", "1e5"] {
            assert_eq!(time(text.as_bytes()), None, "{text}");
        }
    }
}
