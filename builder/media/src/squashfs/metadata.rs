//! Metadata: streams cut into compressed blocks of 8 KiB, and tables of fixed records over them.

use std::io;

use super::codec::Encoder;
use super::layout::{METADATA_LEN, METADATA_RAW, put64};

/// A stream being cut into metadata blocks.
pub(super) struct MetadataWriter {
    stored: Vec<u8>,
    open: Vec<u8>,
}

impl MetadataWriter {
    pub(super) fn new() -> MetadataWriter {
        MetadataWriter {
            stored: Vec::new(),
            open: Vec::with_capacity(METADATA_LEN),
        }
    }

    /// Where the next byte goes: the stored bytes before its block, and its offset in the block.
    pub(super) fn position(&self) -> (u64, u16) {
        (self.stored.len() as u64, self.open.len() as u16)
    }

    pub(super) fn write(&mut self, encoder: &mut Encoder, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = METADATA_LEN - self.open.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.open.extend_from_slice(now);
            bytes = later;
            // At once, so that a position never points behind the end of a block.
            if self.open.len() == METADATA_LEN {
                self.close(encoder)?;
            }
        }
        Ok(())
    }

    fn close(&mut self, encoder: &mut Encoder) -> io::Result<()> {
        store(encoder, &self.open, &mut self.stored)?;
        self.open.clear();
        Ok(())
    }

    /// All blocks.
    pub(super) fn finish(mut self, encoder: &mut Encoder) -> io::Result<Vec<u8>> {
        if !self.open.is_empty() {
            self.close(encoder)?;
        }
        Ok(self.stored)
    }
}

/// Appends one metadata block.
fn store(encoder: &mut Encoder, block: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    match encoder.encode(block)? {
        Some(packed) => {
            out.extend_from_slice(&(packed.len() as u16).to_le_bytes());
            out.extend_from_slice(packed);
        }
        None => store_raw(block, out),
    }
    Ok(())
}

/// Appends one metadata block as it is.
pub(super) fn store_raw(block: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(block.len() as u16 | METADATA_RAW).to_le_bytes());
    out.extend_from_slice(block);
}

/// A table at `at`: its blocks, then `header`, then the positions of the blocks. Returns the bytes and the
/// position of the header, which is what the superblock points to.
pub(super) fn table(
    encoder: &mut Encoder,
    at: u64,
    records: &[u8],
    header: &[u8],
) -> io::Result<(Vec<u8>, u64)> {
    let mut out = Vec::new();
    let mut positions = Vec::new();
    for block in records.chunks(METADATA_LEN) {
        put64(&mut positions, at + out.len() as u64);
        store(encoder, block, &mut out)?;
    }
    let start = at + out.len() as u64;
    out.extend_from_slice(header);
    out.extend_from_slice(&positions);
    Ok((out, start))
}
