//! Tar archives as apk packages have them: POSIX ustar with pax headers (POSIX pax, "pax Interchange
//! Format"), GNU long names, no sparse files.

use super::V2Error;
use super::gzip::Member;
use crate::limits::{Limits, NAME_MAX, PATH_MAX, XATTR_MAX};

const BLOCK: usize = 512;
/// Longest pax header, in bytes.
const PAX_MAX: u64 = 1 << 20;
/// Where abuild keeps the SHA-1 of a file's content (or of a link's text).
const CHECKSUM: &[u8] = b"APK-TOOLS.checksum.SHA1";
const XATTR: &[u8] = b"SCHILY.xattr.";

/// What an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum EntryKind {
    Regular,
    HardLink,
    Symlink,
    Character,
    Block,
    Directory,
    Fifo,
}

/// The header of an entry, pax values included.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub kind: EntryKind,
    pub mode: u16,
    pub user: String,
    pub group: String,
    pub ids: (u32, u32),
    pub size: u64,
    pub mtime: u64,
    pub link: Vec<u8>,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub checksum: Option<[u8; 20]>,
}

#[derive(Default)]
struct Pax {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    checksum: Option<[u8; 20]>,
}

/// An archive being read from a member.
pub(super) struct Archive<'m, 'a> {
    member: &'m mut Member<'a>,
    part: &'static str,
    entries: u64,
    limit: u64,
    /// Bytes of the current entry's content, and of its padding, that were not read.
    left: u64,
    padding: u64,
}

impl<'m, 'a> Archive<'m, 'a> {
    pub fn new(member: &'m mut Member<'a>, part: &'static str, limits: &Limits) -> Archive<'m, 'a> {
        Archive {
            member,
            part,
            entries: 0,
            limit: limits.entries,
            left: 0,
            padding: 0,
        }
    }

    fn bad(&self, problem: impl Into<String>) -> V2Error {
        V2Error::Archive {
            part: self.part,
            problem: problem.into(),
        }
    }

    /// The next entry; what was not read of the last one is skipped.
    pub fn next(&mut self) -> Result<Option<Entry>, V2Error> {
        let mut pax = Pax::default();
        let mut long_name = None;
        loop {
            self.skip()?;
            let mut head = [0; BLOCK];
            match self.member.fill(&mut head)? {
                // The first two parts of a package lack the blocks that end an archive.
                0 => return Ok(None),
                BLOCK => {}
                _ => return Err(self.bad("ends inside a header")),
            }
            if head == [0; BLOCK] {
                self.only_zeros()?;
                return Ok(None);
            }
            self.entries += 1;
            if self.entries > self.limit {
                return Err(V2Error::Limit {
                    what: format!("the number of entries of the {} archive", self.part),
                    limit: self.limit,
                });
            }
            let head = Header(&head);
            head.check().map_err(|problem| self.bad(problem))?;
            let size = head.octal(124, 12).map_err(|problem| self.bad(problem))?;
            self.left = size;
            self.padding = (BLOCK as u64 - size % BLOCK as u64) % BLOCK as u64;
            match head.0[156] {
                b'x' => {
                    let text = self.bounded(size, PAX_MAX, "a pax header")?;
                    pax = parse_pax(&text).map_err(|problem| self.bad(problem))?;
                }
                // A pax header for all that follows says nothing that we need.
                b'g' => drop(self.bounded(size, PAX_MAX, "a pax header")?),
                b'L' => {
                    let mut name = self.bounded(size, PATH_MAX as u64 + 1, "a long name")?;
                    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
                    name.truncate(end);
                    long_name = Some(name);
                }
                _ => {
                    let entry = head
                        .entry(pax, long_name, size)
                        .map_err(|problem| self.bad(problem))?;
                    if entry.kind != EntryKind::Regular && size != 0 && entry.kind != EntryKind::HardLink {
                        return Err(self.bad(format!("{} has content", entry.name.escape_ascii())));
                    }
                    if entry.kind == EntryKind::HardLink && size != 0 {
                        return Err(
                            self.bad(format!("the hard link {} has content", entry.name.escape_ascii()))
                        );
                    }
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads some of the current entry's content; 0 at its end.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, V2Error> {
        let want = self.left.min(out.len() as u64) as usize;
        let count = self.member.fill(&mut out[..want])?;
        if count < want {
            return Err(self.bad("ends inside a file"));
        }
        self.left -= count as u64;
        Ok(count)
    }

    /// The whole content of the entry just met, whose size the caller has judged.
    pub fn content(&mut self, entry: &Entry) -> Result<Vec<u8>, V2Error> {
        self.bounded(entry.size, u64::MAX, "a file")
    }

    fn bounded(&mut self, size: u64, limit: u64, what: &str) -> Result<Vec<u8>, V2Error> {
        if size > limit {
            return Err(V2Error::Limit {
                what: format!("{what} of {size} bytes"),
                limit,
            });
        }
        let mut bytes = Vec::new();
        let mut chunk = [0; 8 << 10];
        loop {
            match self.read(&mut chunk)? {
                0 => return Ok(bytes),
                count => bytes.extend_from_slice(&chunk[..count]),
            }
        }
    }

    fn skip(&mut self) -> Result<(), V2Error> {
        let mut chunk = [0; 8 << 10];
        while self.read(&mut chunk)? != 0 {}
        let padding = self.padding as usize;
        if self.member.fill(&mut chunk[..padding])? < padding {
            return Err(self.bad("ends inside the padding of a file"));
        }
        self.padding = 0;
        Ok(())
    }

    fn only_zeros(&mut self) -> Result<(), V2Error> {
        // A multiple of a block.
        let mut chunk = [0; 16 * BLOCK];
        loop {
            let count = self.member.fill(&mut chunk)?;
            if count % BLOCK != 0 {
                return Err(self.bad("ends inside a block"));
            }
            if chunk[..count].iter().any(|&byte| byte != 0) {
                return Err(self.bad("goes on after its end"));
            }
            if count == 0 {
                return Ok(());
            }
        }
    }
}

struct Header<'h>(&'h [u8; BLOCK]);

impl Header<'_> {
    fn text(&self, at: usize, length: usize) -> &[u8] {
        let field = &self.0[at..at + length];
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(length);
        &field[..end]
    }

    fn octal(&self, at: usize, length: usize) -> Result<u64, String> {
        let text: &[u8] = &self.0[at..at + length];
        let digits = text
            .iter()
            .take_while(|byte| (b'0'..=b'7').contains(byte))
            .count();
        let (digits, rest) = text.split_at(digits);
        if !rest.iter().all(|byte| matches!(byte, 0 | b' ')) {
            return Err(format!("a header field is not octal: {}", text.escape_ascii()));
        }
        // At most twelve digits: this cannot overflow.
        Ok(digits
            .iter()
            .fold(0, |number, digit| number << 3 | u64::from(digit - b'0')))
    }

    fn check(&self) -> Result<(), String> {
        if self.text(257, 6) != b"ustar" && &self.0[257..263] != b"ustar " {
            return Err("a header is not of the ustar kind".into());
        }
        let sum: u64 = (0..BLOCK)
            .map(|at| {
                u64::from(if (148..156).contains(&at) {
                    b' '
                } else {
                    self.0[at]
                })
            })
            .sum();
        if self.octal(148, 8)? != sum {
            return Err("the check sum of a header is wrong".into());
        }
        if self.0[0] == 0 {
            return Err("an entry has no name".into());
        }
        // Owners, mode, time and device of any kind of entry, whether they mean something there or not.
        for (at, length) in [(100, 8), (108, 8), (116, 8), (136, 12), (329, 8), (337, 8)] {
            self.octal(at, length)?;
        }
        Ok(())
    }

    fn entry(&self, pax: Pax, long_name: Option<Vec<u8>>, size: u64) -> Result<Entry, String> {
        let mut name = self.text(0, 100).to_vec();
        // GNU archives keep other things where POSIX has the prefix.
        if &self.0[257..263] == b"ustar\0" && self.0[345] != 0 {
            name = [self.text(345, 155), b"/", &name].concat();
        }
        let name = pax.path.or(long_name).unwrap_or(name);
        let shown = || name.escape_ascii();
        if name.len() > PATH_MAX {
            return Err(format!("a path of {} bytes, the limit is {PATH_MAX}", name.len()));
        }
        let link = pax.link.unwrap_or_else(|| self.text(157, 100).to_vec());
        if link.len() > PATH_MAX {
            return Err(format!(
                "{}: a link target of {} bytes, the limit is {PATH_MAX}",
                shown(),
                link.len()
            ));
        }
        let kind = match self.0[156] {
            b'0' | b'7' => EntryKind::Regular,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::Character,
            b'4' => EntryKind::Block,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => {
                return Err(format!(
                    "{} is of the kind '{}', which no package has",
                    shown(),
                    other.escape_ascii()
                ));
            }
        };
        let ids = (self.octal(108, 8)? as u32, self.octal(116, 8)? as u32);
        let owner = |at: usize, id: u32| -> Result<String, String> {
            let name = String::from_utf8(self.text(at, 32).to_vec())
                .map_err(|_| format!("{}: an owner's name is not UTF-8", shown()))?;
            Ok(match (name.is_empty(), id) {
                (false, _) => name,
                (true, 0) => "root".to_owned(),
                (true, number) => number.to_string(),
            })
        };
        let device = (self.octal(329, 8)? as u32, self.octal(337, 8)? as u32);
        Ok(Entry {
            kind,
            mode: (self.octal(100, 8)? & 0o7777) as u16,
            user: owner(265, ids.0)?,
            group: owner(297, ids.1)?,
            ids,
            size,
            mtime: self.octal(136, 12)?,
            link,
            device: match kind {
                EntryKind::Character | EntryKind::Block => device,
                _ => (0, 0),
            },
            xattrs: pax.xattrs,
            checksum: pax.checksum,
            name,
        })
    }
}

/// Records `LENGTH KEY=VALUE\n`.
fn parse_pax(mut text: &[u8]) -> Result<Pax, String> {
    let bad = || "a pax header is malformed".to_owned();
    let mut pax = Pax::default();
    while !text.is_empty() {
        let space = text.iter().position(|&byte| byte == b' ').ok_or_else(bad)?;
        let length: usize = std::str::from_utf8(&text[..space])
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(bad)?;
        let record = text.get(space + 1..length).ok_or_else(bad)?;
        text = &text[length..];
        let record = record.strip_suffix(b"\n").ok_or_else(bad)?;
        let equals = record.iter().position(|&byte| byte == b'=').ok_or_else(bad)?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        let name = |value: &[u8]| match value.contains(&0) {
            true => Err("a pax header has a path with a NUL".to_owned()),
            false => Ok(Some(value.to_vec())),
        };
        match key {
            b"path" => pax.path = name(value)?,
            b"linkpath" => pax.link = name(value)?,
            CHECKSUM => pax.checksum = Some(hexadecimal(value).ok_or_else(bad)?),
            // They would change what the header says, and apk does not read them.
            b"size" | b"uid" | b"gid" | b"uname" | b"gname" => {
                return Err(format!(
                    "a pax header has the key {}, which apk does not know",
                    key.escape_ascii()
                ));
            }
            _ => {
                if let Some(attribute) = key.strip_prefix(XATTR) {
                    if attribute.len() > NAME_MAX || value.len() > XATTR_MAX {
                        return Err(format!(
                            "an extended attribute is too long: {NAME_MAX} bytes of name and {XATTR_MAX} of value are allowed"
                        ));
                    }
                    pax.xattrs.push((attribute.to_vec(), value.to_vec()));
                }
            }
        }
    }
    Ok(pax)
}

fn hexadecimal(text: &[u8]) -> Option<[u8; 20]> {
    let text = std::str::from_utf8(text)
        .ok()
        .filter(|text| text.len() == 40 && text.is_ascii())?;
    let mut bytes = [0; 20];
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}
