//! The table of extended attributes. Inodes with the same attributes share a set, sets share long values.

use std::collections::{BTreeMap, HashMap};
use std::io;

use super::codec::Encoder;
use super::layout::{XATTR_ELSEWHERE, XATTR_PREFIXES, XATTR_VALUE_MAX, put16, put32, put64};
use super::metadata::{MetadataWriter, table};

/// Attributes of one inode, by full name.
type Set = BTreeMap<Vec<u8>, Vec<u8>>;

/// Why a set cannot be stored.
pub(super) enum Refusal {
    /// The attribute and what is wrong with it.
    Attribute(Vec<u8>, String),
    /// The compressor failed.
    Io(io::Error),
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Refusal {
        Refusal::Io(error)
    }
}

/// Sets of attributes on their way to the image.
pub(super) struct XattrWriter<'t> {
    pairs: MetadataWriter,
    records: Vec<u8>,
    sets: HashMap<&'t Set, u32>,
    /// Where the values that another attribute may refer to are.
    values: HashMap<&'t [u8], u64>,
}

impl<'t> XattrWriter<'t> {
    pub(super) fn new() -> XattrWriter<'t> {
        XattrWriter {
            pairs: MetadataWriter::new(),
            records: Vec::new(),
            sets: HashMap::new(),
            values: HashMap::new(),
        }
    }

    /// The number of a set, which is not empty; it is stored when it is new.
    pub(super) fn number(&mut self, encoder: &mut Encoder, set: &'t Set) -> Result<u32, Refusal> {
        if let Some(&number) = self.sets.get(set) {
            return Ok(number);
        }
        let (block, offset) = self.pairs.position();
        let mut size = 0;
        for (name, value) in set {
            size += self.pair(encoder, name, value)?;
        }
        put64(&mut self.records, block << 16 | u64::from(offset));
        put32(&mut self.records, set.len() as u32);
        put32(&mut self.records, size as u32);
        let number = self.sets.len() as u32;
        self.sets.insert(set, number);
        Ok(number)
    }

    /// Stores one attribute and returns its bytes.
    fn pair(&mut self, encoder: &mut Encoder, name: &[u8], value: &'t [u8]) -> Result<usize, Refusal> {
        let refuse = |why: String| Err(Refusal::Attribute(name.to_vec(), why));
        let prefix = XATTR_PREFIXES
            .iter()
            .position(|prefix| name.starts_with(prefix) && name.len() > prefix.len());
        let Some(prefix) = prefix else {
            return refuse(
                "squashfs holds only attributes of user., trusted. and security.; remove it".to_owned(),
            );
        };
        if name.len() > 255 || name.contains(&0) {
            return refuse("an attribute's name has at most 255 bytes and no NUL".to_owned());
        }
        if value.len() > XATTR_VALUE_MAX {
            return refuse(format!(
                "its {} bytes are more than Linux's {XATTR_VALUE_MAX}",
                value.len()
            ));
        }
        let short = &name[XATTR_PREFIXES[prefix].len()..];
        // A reference takes 8 bytes itself.
        let shared = self.values.get(value).copied().filter(|_| value.len() > 8);
        let mut bytes = Vec::with_capacity(8 + short.len() + value.len());
        put16(&mut bytes, prefix as u16 | shared.map_or(0, |_| XATTR_ELSEWHERE));
        put16(&mut bytes, short.len() as u16);
        bytes.extend_from_slice(short);
        self.pairs.write(encoder, &bytes)?;
        let mut written = bytes.len();
        bytes.clear();
        match shared {
            Some(at) => {
                put32(&mut bytes, 8);
                put64(&mut bytes, at);
            }
            None => {
                let (block, offset) = self.pairs.position();
                self.values.insert(value, block << 16 | u64::from(offset));
                put32(&mut bytes, value.len() as u32);
                bytes.extend_from_slice(value);
            }
        }
        self.pairs.write(encoder, &bytes)?;
        written += bytes.len();
        Ok(written)
    }

    /// The table at `at` and the position of its header, if there is any attribute.
    pub(super) fn finish(self, encoder: &mut Encoder, at: u64) -> io::Result<Option<(Vec<u8>, u64)>> {
        if self.sets.is_empty() {
            return Ok(None);
        }
        let mut bytes = self.pairs.finish(encoder)?;
        let mut header = Vec::new();
        put64(&mut header, at);
        put32(&mut header, self.sets.len() as u32);
        put32(&mut header, 0);
        let (records, start) = table(encoder, at + bytes.len() as u64, &self.records, &header)?;
        bytes.extend_from_slice(&records);
        Ok(Some((bytes, start)))
    }
}
