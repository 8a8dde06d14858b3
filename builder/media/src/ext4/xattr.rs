//! Extended attributes: in the inode behind its fields, and in one block of their own for what does not fit
//! there (Linux `Documentation/filesystems/ext4/attributes.rst`).

use std::collections::BTreeMap;

use super::checksum::Sums;
use super::field::{get16, get32, put16, put32, put64};

pub(super) const MAGIC: u32 = 0xea02_0000;
/// Bytes before the entries of a block.
const BLOCK_HEADER: usize = 32;
const ENTRY: usize = 16;
/// Most inodes that share a block.
pub(super) const MOST_REFERENCES: u32 = 1024;

const ACCESS_ACL: &[u8] = b"system.posix_acl_access";
const DEFAULT_ACL: &[u8] = b"system.posix_acl_default";
/// Name prefixes by their index on disk. The ACLs' whole names are prefixes.
const PREFIXES: [(u8, &[u8]); 6] = [
    (2, ACCESS_ACL),
    (3, DEFAULT_ACL),
    (1, b"user."),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
];

/// An attribute as it is stored.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Stored {
    index: u8,
    // Linux looks names up in this order: length first.
    len: usize,
    suffix: Vec<u8>,
    value: Vec<u8>,
}

impl Stored {
    fn size(&self) -> usize {
        ENTRY + self.len.next_multiple_of(4) + self.value.len().next_multiple_of(4)
    }

    /// The hash over name and value.
    fn hash(&self) -> u32 {
        let name = self
            .suffix
            .iter()
            .fold(0u32, |hash, &byte| hash.rotate_left(5) ^ u32::from(byte));
        self.value.chunks(4).fold(name, |hash, chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            hash.rotate_left(16) ^ u32::from_le_bytes(word)
        })
    }
}

/// What becomes of the attributes of one inode.
#[derive(Default)]
pub(super) struct Encoded {
    /// What follows the fields of the inode, of the length asked for; nothing when no attribute is there.
    pub(super) inode: Option<Vec<u8>>,
    /// The block, without its reference count and checksum.
    pub(super) block: Option<Vec<u8>>,
}

/// Lays `xattrs` out in `room` bytes of the inode and a block.
///
/// # Errors
/// With the reason why they cannot be stored.
pub(super) fn encode(
    xattrs: &BTreeMap<Vec<u8>, Vec<u8>>,
    room: usize,
    block_size: u32,
) -> Result<Encoded, String> {
    if xattrs.is_empty() {
        return Ok(Encoded::default());
    }
    let mut stored = Vec::with_capacity(xattrs.len());
    for (name, value) in xattrs {
        stored.push(store(name, value)?);
    }
    stored.sort();
    // Magic number, entries, a zero word, values.
    let mut left = room.saturating_sub(8);
    let (mut inside, mut outside) = (Vec::new(), Vec::new());
    for attribute in stored {
        if attribute.size() <= left {
            left -= attribute.size();
            inside.push(attribute);
        } else {
            outside.push(attribute);
        }
    }
    let inode = (!inside.is_empty()).then(|| {
        let mut area = vec![0; room];
        put32(&mut area, 0, MAGIC);
        lay(&mut area, 4, 4, &inside);
        area
    });
    let mut block = None;
    if !outside.is_empty() {
        let needed = BLOCK_HEADER + 4 + outside.iter().map(Stored::size).sum::<usize>();
        if needed > block_size as usize {
            return Err(format!(
                "its extended attributes need {needed} bytes where one block of {block_size} is all they get"
            ));
        }
        let mut bytes = vec![0; block_size as usize];
        put32(&mut bytes, 0, MAGIC);
        put32(&mut bytes, 4, 1);
        put32(&mut bytes, 8, 1);
        lay(&mut bytes, BLOCK_HEADER, 0, &outside);
        let hash = outside
            .iter()
            .fold(0u32, |hash, attribute| hash.rotate_left(16) ^ attribute.hash());
        put32(&mut bytes, 12, hash);
        block = Some(bytes);
    }
    Ok(Encoded { inode, block })
}

/// Gives a block what depends on where it is: who shares it and its checksum.
pub(super) fn seal(block: &mut [u8], place: u64, references: u32, sums: Sums) {
    put32(block, 4, references);
    put32(block, 16, 0);
    let mut number = [0; 8];
    put64(&mut number, 0, place);
    if let Some(sum) = sums.of(&[&number, block]) {
        put32(block, 16, sum);
    }
}

/// Writes entries from `first` on and values from the end backwards; values are found from `origin`.
fn lay(area: &mut [u8], first: usize, origin: usize, attributes: &[Stored]) {
    let (mut entry, mut end) = (first, area.len());
    for attribute in attributes {
        end -= attribute.value.len().next_multiple_of(4);
        area[entry] = attribute.len as u8;
        area[entry + 1] = attribute.index;
        if !attribute.value.is_empty() {
            put16(area, entry + 2, (end - origin) as u16);
        }
        put32(area, entry + 8, attribute.value.len() as u32);
        put32(area, entry + 12, attribute.hash());
        area[entry + ENTRY..][..attribute.len].copy_from_slice(&attribute.suffix);
        area[end..][..attribute.value.len()].copy_from_slice(&attribute.value);
        entry += ENTRY + attribute.len.next_multiple_of(4);
    }
}

fn store(name: &[u8], value: &[u8]) -> Result<Stored, String> {
    let shown = lycia_tree::display(name);
    let (index, prefix) = PREFIXES
        .into_iter()
        .find(|&(index, prefix)| match index {
            2 | 3 => name == prefix,
            _ => name.starts_with(prefix) && name.len() > prefix.len(),
        })
        .ok_or_else(|| {
            format!(
                "ext4 has no place for its extended attribute {shown}: \
                 names begin with user., trusted., security. or system."
            )
        })?;
    let suffix = &name[prefix.len()..];
    if suffix.len() > 255 || suffix.contains(&0) {
        return Err(format!(
            "the name of its extended attribute {shown} cannot be stored"
        ));
    }
    let value = match index {
        2 | 3 => {
            acl_to_disk(value).ok_or_else(|| format!("its extended attribute {shown} is no POSIX ACL"))?
        }
        _ => value.to_vec(),
    };
    Ok(Stored {
        index,
        len: suffix.len(),
        suffix: suffix.to_vec(),
        value,
    })
}

const USER: u16 = 2;
const GROUP: u16 = 8;

/// From what `getxattr` gives (version 2, 8 bytes per entry) to what is on disk (version 1, no id where none
/// is meant).
fn acl_to_disk(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() < 4 || value.len() % 8 != 4 || get32(value, 0) != 2 {
        return None;
    }
    let mut bytes = 1u32.to_le_bytes().to_vec();
    for entry in value[4..].chunks_exact(8) {
        match get16(entry, 0) {
            USER | GROUP => bytes.extend_from_slice(entry),
            1 | 4 | 16 | 32 => bytes.extend_from_slice(&entry[..4]),
            _ => return None,
        }
    }
    Some(bytes)
}

/// Back again.
fn acl_from_disk(value: &[u8]) -> Option<Vec<u8>> {
    if value.len() < 4 || get32(value, 0) != 1 {
        return None;
    }
    let mut bytes = 2u32.to_le_bytes().to_vec();
    let mut rest = &value[4..];
    while !rest.is_empty() {
        if rest.len() < 4 {
            return None;
        }
        match get16(rest, 0) {
            USER | GROUP if rest.len() >= 8 => {
                bytes.extend_from_slice(&rest[..8]);
                rest = &rest[8..];
            }
            1 | 4 | 16 | 32 => {
                bytes.extend_from_slice(&rest[..4]);
                bytes.extend_from_slice(&[0xff; 4]);
                rest = &rest[4..];
            }
            _ => return None,
        }
    }
    Some(bytes)
}

/// Reads the entries that begin at `first` of `area`, whose values are found from `origin`, into `found`.
///
/// # Errors
/// With what is wrong with them.
pub(super) fn decode(
    area: &[u8],
    first: usize,
    origin: usize,
    found: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), String> {
    let mut entry = first;
    while entry + 4 <= area.len() && get32(area, entry) != 0 {
        let len = usize::from(area[entry]);
        let index = area[entry + 1];
        if entry + ENTRY + len > area.len() {
            return Err("an extended attribute's name runs out of its area".to_owned());
        }
        let suffix = &area[entry + ENTRY..][..len];
        let prefix: &[u8] = match index {
            0 => b"",
            8 => b"system.richacl",
            index => {
                PREFIXES
                    .iter()
                    .find(|known| known.0 == index)
                    .ok_or_else(|| format!("an extended attribute's name has the unknown prefix {index}"))?
                    .1
            }
        };
        if get32(area, entry + 4) != 0 {
            return Err(
                "an extended attribute's value is in another inode, which is not read here".to_owned(),
            );
        }
        let size = get32(area, entry + 8) as usize;
        let start = origin + usize::from(get16(area, entry + 2));
        let value = if size == 0 {
            Vec::new()
        } else {
            area.get(start..start.saturating_add(size))
                .ok_or("an extended attribute's value runs out of its area")?
                .to_vec()
        };
        let value = match index {
            2 | 3 => acl_from_disk(&value).ok_or("a POSIX ACL cannot be read")?,
            _ => value,
        };
        found.insert([prefix, suffix].concat(), value);
        entry += ENTRY + len.next_multiple_of(4);
    }
    Ok(())
}

/// Reads a block of attributes.
///
/// # Errors
/// With what is wrong with it.
pub(super) fn decode_block(
    block: &[u8],
    place: u64,
    sums: Sums,
    found: &mut BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<(), String> {
    if get32(block, 0) != MAGIC {
        return Err("a block of extended attributes has no magic number".to_owned());
    }
    let mut number = [0; 8];
    put64(&mut number, 0, place);
    let sum = sums.of(&[&number, &block[..16], &[0; 4], &block[20..]]);
    if sum.is_some_and(|sum| sum != get32(block, 16)) {
        return Err("a block of extended attributes has a wrong checksum".to_owned());
    }
    decode(block, BLOCK_HEADER, 0, found)
}
