//! Writes a value area with the sharing rules of apk's own builder, so that the same metadata gives the same
//! bytes and the same identity.

use super::value::{Value, tag};
use std::collections::HashMap;

/// A value area being written. Contents are pooled without regard to their type: the same bytes are written
/// once if the alignment fits.
pub(crate) struct ValueWriter {
    bytes: Vec<u8>,
    /// Only looked up, never walked, so that its order cannot matter.
    pool: HashMap<Vec<u8>, usize>,
    overflow: bool,
}

/// Offsets have 28 bits.
const OFFSET_END: usize = 1 << 28;

impl ValueWriter {
    pub(crate) fn new() -> Self {
        ValueWriter {
            bytes: vec![0; 8],
            pool: HashMap::new(),
            overflow: false,
        }
    }

    fn append(&mut self, content: &[u8], align: usize) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(align), 0);
        let offset = self.bytes.len();
        if offset.saturating_add(content.len()) > OFFSET_END {
            // Writing stops making sense; `finish` says so.
            self.overflow = true;
            return 8;
        }
        self.bytes.extend_from_slice(content);
        offset
    }

    fn pooled(&mut self, content: Vec<u8>, align: usize) -> u32 {
        let offset = match self.pool.get(&content) {
            Some(&offset) if offset.is_multiple_of(align) => offset,
            _ => {
                let offset = self.append(&content, align);
                self.pool.insert(content, offset);
                offset
            }
        };
        offset as u32
    }

    /// A number; 0 is stored, where absence is meant the caller passes [`Value::NULL`].
    pub(crate) fn integer(&mut self, number: u64) -> Value {
        if number < 1 << 28 {
            Value::new(tag::INT, number as u32)
        } else if let Ok(number) = u32::try_from(number) {
            let offset = self.pooled(number.to_le_bytes().to_vec(), 4);
            Value::new(tag::INT_32, offset)
        } else {
            let offset = self.pooled(number.to_le_bytes().to_vec(), 4);
            Value::new(tag::INT_64, offset)
        }
    }

    /// A number where 0 means absent.
    pub(crate) fn optional(&mut self, number: u64) -> Value {
        if number == 0 {
            Value::NULL
        } else {
            self.integer(number)
        }
    }

    /// Bytes; empty is absent.
    pub(crate) fn blob(&mut self, bytes: &[u8]) -> Value {
        let Some((tag, align, content)) = prefixed(bytes) else {
            self.overflow |= !bytes.is_empty();
            return Value::NULL;
        };
        let offset = self.pooled(content, align);
        Value::new(tag, offset)
    }

    /// Bytes that will be changed later: never shared with anything. Gives the offset of the bytes too.
    pub(crate) fn unshared_blob(&mut self, bytes: &[u8]) -> (Value, usize) {
        let Some((tag, align, content)) = prefixed(bytes) else {
            self.overflow |= !bytes.is_empty();
            return (Value::NULL, 8);
        };
        let offset = self.append(&content, align);
        (
            Value::new(tag, offset as u32),
            offset + content.len() - bytes.len(),
        )
    }

    fn slots(&mut self, tag: u32, mut slots: &[Value]) -> Value {
        while let [rest @ .., Value::NULL] = slots {
            slots = rest;
        }
        if slots.is_empty() {
            return Value::NULL;
        }
        let mut content = Vec::with_capacity(4 + slots.len() * 4);
        content.extend_from_slice(&(slots.len() as u32 + 1).to_le_bytes());
        for slot in slots {
            content.extend_from_slice(&slot.0.to_le_bytes());
        }
        let offset = self.pooled(content, 4);
        Value::new(tag, offset)
    }

    /// An object of these fields, the first one being field 1.
    pub(crate) fn object(&mut self, fields: &[Value]) -> Value {
        self.slots(tag::OBJECT, fields)
    }

    /// An array. Most carry the tag of objects, as apk's builder does it.
    pub(crate) fn array(&mut self, elements: &[Value]) -> Value {
        self.slots(tag::OBJECT, elements)
    }

    /// An array under its own tag, which apk's builder uses for extended attributes.
    pub(crate) fn tagged_array(&mut self, elements: &[Value]) -> Value {
        self.slots(tag::ARRAY, elements)
    }

    /// The payload with its root set; `None` when it outgrew the format's 28-bit offsets.
    pub(crate) fn finish(mut self, root: Value) -> Option<Vec<u8>> {
        self.bytes[4..8].copy_from_slice(&root.0.to_le_bytes());
        (!self.overflow).then_some(self.bytes)
    }
}

fn prefixed(bytes: &[u8]) -> Option<(u32, usize, Vec<u8>)> {
    let length = bytes.len();
    let (tag, align, mut content) = match length {
        0 => return None,
        1..=0xff => (tag::BLOB_8, 1, vec![length as u8]),
        0x100..=0xffff => (tag::BLOB_16, 2, (length as u16).to_le_bytes().to_vec()),
        _ => (
            tag::BLOB_32,
            4,
            u32::try_from(length).ok()?.to_le_bytes().to_vec(),
        ),
    };
    content.extend_from_slice(bytes);
    Some((tag, align, content))
}
