//! Values of the value area, read strictly (apk-v3(5), "ADB values").

use super::{AdbError, Damage};
use crate::limits::SLOTS_MAX;

/// Four bits of type, 28 bits of immediate or offset.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Value(pub(crate) u32);

pub(crate) mod tag {
    pub(crate) const SPECIAL: u32 = 0x0;
    pub(crate) const INT: u32 = 0x1;
    pub(crate) const INT_32: u32 = 0x2;
    pub(crate) const INT_64: u32 = 0x3;
    pub(crate) const BLOB_8: u32 = 0x8;
    pub(crate) const BLOB_16: u32 = 0x9;
    pub(crate) const BLOB_32: u32 = 0xa;
    pub(crate) const ARRAY: u32 = 0xd;
    pub(crate) const OBJECT: u32 = 0xe;
}

impl Value {
    pub(crate) const NULL: Value = Value(0);

    pub(crate) fn new(tag: u32, low: u32) -> Self {
        Value(tag << 28 | low & 0x0fff_ffff)
    }

    pub(crate) fn tag(self) -> u32 {
        self.0 >> 28
    }

    pub(crate) fn low(self) -> usize {
        (self.0 & 0x0fff_ffff) as usize
    }

    pub(crate) fn is_null(self) -> bool {
        self == Self::NULL
    }
}

/// The payload of an ADB block, its preamble checked.
#[derive(Clone, Copy)]
pub(crate) struct Payload<'a> {
    bytes: &'a [u8],
}

/// The fields of an object or the elements of an array.
#[derive(Clone, Copy)]
pub(crate) struct Slots<'a> {
    /// Four bytes each, the count excluded.
    bytes: &'a [u8],
}

impl<'a> Payload<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Result<Self, AdbError> {
        let Some(preamble) = bytes.first_chunk::<8>() else {
            return Err(AdbError::Block(format!(
                "metadata of {} bytes has no preamble",
                bytes.len()
            )));
        };
        if preamble[0] != 0 {
            return Err(AdbError::Block(format!(
                "incompatible ADB version {}",
                preamble[0]
            )));
        }
        if preamble[2..4] != [0, 0] {
            return Err(AdbError::Block(
                "reserved field of the ADB preamble is not zero".into(),
            ));
        }
        Ok(Payload { bytes })
    }

    pub(crate) fn root(&self) -> Value {
        Value(self.word(4).unwrap_or(0))
    }

    fn word(&self, offset: usize) -> Option<u32> {
        let bytes = self.bytes.get(offset..offset.checked_add(4)?)?;
        Some(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    /// `length` bytes at an offset that must be aligned.
    fn at(&self, offset: usize, length: usize, align: usize, what: &str) -> Result<&'a [u8], Damage> {
        if offset < 8 {
            return Err(Damage::new(format!(
                "{what} points into the preamble (offset {offset})"
            )));
        }
        if !offset.is_multiple_of(align) {
            return Err(Damage::new(format!(
                "{what} at offset {offset} is not aligned to {align} bytes"
            )));
        }
        offset
            .checked_add(length)
            .and_then(|end| self.bytes.get(offset..end))
            .ok_or_else(|| {
                Damage::new(format!(
                    "{what} of {length} bytes at offset {offset} is outside the metadata of {} bytes",
                    self.bytes.len()
                ))
            })
    }

    /// A number; absent is 0.
    pub(crate) fn integer(&self, value: Value) -> Result<u64, Damage> {
        match value.tag() {
            tag::SPECIAL if value.is_null() => Ok(0),
            tag::INT => Ok(value.low() as u64),
            tag::INT_32 => {
                let bytes = self.at(value.low(), 4, 4, "a number")?;
                Ok(u64::from(u32::from_le_bytes([
                    bytes[0], bytes[1], bytes[2], bytes[3],
                ])))
            }
            tag::INT_64 => {
                let bytes = self.at(value.low(), 8, 4, "a number")?;
                let mut word = [0; 8];
                word.copy_from_slice(bytes);
                Ok(u64::from_le_bytes(word))
            }
            _ => Err(wrong_type("a number", value)),
        }
    }

    /// Bytes; absent is empty.
    pub(crate) fn blob(&self, value: Value) -> Result<&'a [u8], Damage> {
        let offset = value.low();
        let (prefix, align) = match value.tag() {
            tag::SPECIAL if value.is_null() => return Ok(&[]),
            tag::BLOB_8 => (1, 1),
            tag::BLOB_16 => (2, 2),
            tag::BLOB_32 => (4, 4),
            _ => return Err(wrong_type("a blob", value)),
        };
        let mut length = [0; 4];
        length[..prefix].copy_from_slice(self.at(offset, prefix, align, "the length of a blob")?);
        self.at(offset + prefix, u32::from_le_bytes(length) as usize, 1, "a blob")
    }

    /// The fields of an object; absent is none. Builders tag arrays as objects too, so both tags are fine.
    pub(crate) fn object(&self, value: Value) -> Result<Slots<'a>, Damage> {
        let slots = self.slots("an object", value)?;
        if slots.len() > SLOTS_MAX {
            return Err(Damage::new(format!(
                "an object has {} fields, the limit is {SLOTS_MAX}",
                slots.len()
            )));
        }
        Ok(slots)
    }

    /// The elements of an array; absent is none.
    pub(crate) fn array(&self, value: Value) -> Result<Slots<'a>, Damage> {
        self.slots("an array", value)
    }

    fn slots(&self, what: &str, value: Value) -> Result<Slots<'a>, Damage> {
        match value.tag() {
            tag::SPECIAL if value.is_null() => return Ok(Slots { bytes: &[] }),
            tag::ARRAY | tag::OBJECT => {}
            _ => return Err(wrong_type(what, value)),
        }
        let offset = value.low();
        let count = self.at(offset, 4, 4, what)?;
        let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]) as usize;
        if count == 0 {
            return Err(Damage::new(format!(
                "{what} has a slot count of 0, which must count itself"
            )));
        }
        let length = (count - 1)
            .checked_mul(4)
            .ok_or_else(|| Damage::new(format!("{what} has an impossible slot count of {count}")))?;
        Ok(Slots {
            bytes: self.at(offset + 4, length, 4, what)?,
        })
    }
}

impl<'a> Slots<'a> {
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() / 4
    }

    /// Field `number`, counted from 1; absent when there are fewer.
    pub(crate) fn field(&self, number: usize) -> Value {
        match self.bytes.get((number - 1) * 4..number * 4) {
            Some(b) => Value(u32::from_le_bytes([b[0], b[1], b[2], b[3]])),
            None => Value::NULL,
        }
    }

    pub(crate) fn iter(self) -> impl ExactSizeIterator<Item = Value> + use<'a> {
        self.bytes
            .chunks_exact(4)
            .map(|b| Value(u32::from_le_bytes([b[0], b[1], b[2], b[3]])))
    }
}

fn wrong_type(wanted: &str, value: Value) -> Damage {
    let found = match value.tag() {
        tag::SPECIAL => "a special value",
        tag::INT | tag::INT_32 | tag::INT_64 => "a number",
        tag::BLOB_8 | tag::BLOB_16 | tag::BLOB_32 => "a blob",
        tag::ARRAY => "an array",
        tag::OBJECT => "an object",
        _ => "a value of unknown type",
    };
    Damage::new(format!("{wanted} was expected, {found} is there"))
}
