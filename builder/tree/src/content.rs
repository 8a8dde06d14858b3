//! The content of a regular file.

use std::fmt;
use std::sync::Arc;

use crate::{ContentReader, Pack};

/// The bytes of a regular file. Cloning shares them.
#[derive(Clone)]
pub enum Content {
    /// Bytes in memory.
    Inline(Arc<[u8]>),
    /// A range of a pack. Made by [`Pack::range`], which checks the bounds.
    Packed {
        /// Where the bytes are.
        pack: Arc<Pack>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        len: u64,
    },
}

impl Content {
    /// No bytes.
    pub fn empty() -> Content {
        Content::Inline(Arc::from([]))
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        match self {
            Content::Inline(bytes) => bytes.len() as u64,
            Content::Packed { len, .. } => *len,
        }
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the bytes from the beginning, holding little of them at a time.
    pub fn reader(&self) -> ContentReader<'_> {
        ContentReader::new(self)
    }

    /// The bytes. Those of a pack are mapped, not read: touching them reads the pages, which count as this process's memory
    /// until a [`Footprint`](crate::Footprint) gives them back.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Content::Inline(bytes) => bytes,
            Content::Packed { pack, offset, len } => {
                // The bounds were checked when the range was made.
                &pack.bytes()[*offset as usize..(*offset + *len) as usize]
            }
        }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Content) -> bool {
        self.len() == other.len() && self.bytes() == other.bytes()
    }
}

impl Eq for Content {}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Content {
        Content::Inline(bytes.into())
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Content {
        Content::Inline(bytes.into())
    }
}

impl From<&str> for Content {
    fn from(text: &str) -> Content {
        Content::Inline(text.as_bytes().into())
    }
}

impl From<String> for Content {
    fn from(text: String) -> Content {
        Content::Inline(text.into_bytes().into())
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Content::Inline(bytes) => write!(f, "Inline({} bytes)", bytes.len()),
            Content::Packed { offset, len, .. } => write!(f, "Packed({offset}+{len})"),
        }
    }
}
