//! Access to the blocks of an image: nothing outside its bounds is read, and nothing is allotted by what a
//! field says before the bytes are there.

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use super::codec::Decoder;
use super::image::ImageError;
use super::layout::{BLOCK_RAW, METADATA_LEN, METADATA_RAW, get64};

/// Metadata blocks that are kept decompressed: 4 MiB.
const KEPT: usize = 512;

/// A metadata block, and the position of the next.
type Metadata = (Arc<[u8]>, u64);

/// The bytes of an image.
pub(super) struct Blocks<R> {
    source: R,
    /// End of the image as the superblock says, inside the source.
    end: u64,
    decoder: Decoder,
    kept: HashMap<u64, Metadata>,
}

/// A place in a stream of metadata.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Cursor {
    /// Position of the block.
    block: u64,
    offset: usize,
    /// Where the table ends at the latest: no block begins there or behind.
    end: u64,
}

impl Cursor {
    /// The place that a reference (block times 65536 plus offset) means in the table from `start` to `end`.
    pub(super) fn of_reference(reference: u64, start: u64, end: u64) -> Result<Cursor, ImageError> {
        Cursor::new(reference >> 16, (reference & 0xffff) as u16, start, end)
    }

    /// The place `offset` in the block that is `block` bytes into the table from `start` to `end`.
    pub(super) fn new(block: u64, offset: u16, start: u64, end: u64) -> Result<Cursor, ImageError> {
        match start.checked_add(block) {
            Some(position) if position < end && usize::from(offset) < METADATA_LEN => Ok(Cursor {
                block: position,
                offset: usize::from(offset),
                end,
            }),
            _ => Err(ImageError::corrupt(format!(
                "a reference to block {block}, offset {offset} lies outside of its table of {} bytes",
                end.saturating_sub(start)
            ))),
        }
    }
}

impl<R: Read + Seek> Blocks<R> {
    pub(super) fn new(source: R, end: u64, decoder: Decoder) -> Blocks<R> {
        Blocks {
            source,
            end,
            decoder,
            kept: HashMap::new(),
        }
    }

    /// Reads bytes of the image.
    pub(super) fn bytes(&mut self, at: u64, len: usize) -> Result<Vec<u8>, ImageError> {
        match at.checked_add(len as u64) {
            Some(end) if end <= self.end => read_at(&mut self.source, at, len),
            _ => Err(ImageError::corrupt(format!(
                "bytes {at}+{len} lie outside of an image of {}",
                self.end
            ))),
        }
    }

    fn metadata(&mut self, at: u64) -> Result<Metadata, ImageError> {
        if let Some((block, next)) = self.kept.get(&at) {
            return Ok((Arc::clone(block), *next));
        }
        let header = self.bytes(at, 2)?;
        let header = u16::from_le_bytes([header[0], header[1]]);
        let len = usize::from(header & !METADATA_RAW);
        if len == 0 || len > METADATA_LEN {
            return Err(ImageError::corrupt(format!(
                "the metadata block at {at} has {len} bytes"
            )));
        }
        let stored = self.bytes(at + 2, len)?;
        let block = if header & METADATA_RAW != 0 {
            stored
        } else {
            self.decoder.decode(&stored, METADATA_LEN).map_err(|why| {
                ImageError::corrupt(format!("decompressing the metadata block at {at}: {why}"))
            })?
        };
        let found: Metadata = (block.into(), at + 2 + len as u64);
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.insert(at, (Arc::clone(&found.0), found.1));
        Ok(found)
    }

    /// Reads `len` bytes of metadata and moves on.
    pub(super) fn read(&mut self, cursor: &mut Cursor, len: usize) -> Result<Vec<u8>, ImageError> {
        let mut out = Vec::with_capacity(len.min(METADATA_LEN));
        while out.len() < len {
            if cursor.block >= cursor.end {
                return Err(ImageError::corrupt(
                    "a record runs over the end of its table".to_owned(),
                ));
            }
            let (block, next) = self.metadata(cursor.block)?;
            let rest = block.get(cursor.offset..).unwrap_or_default();
            let take = rest.len().min(len - out.len());
            out.extend_from_slice(&rest[..take]);
            cursor.offset += take;
            if cursor.offset >= block.len() {
                // Only a table's last block may be short.
                if block.len() < METADATA_LEN && out.len() < len {
                    return Err(ImageError::corrupt(
                        "a record runs over the end of its table".to_owned(),
                    ));
                }
                (cursor.block, cursor.offset) = (next, 0);
            }
        }
        Ok(out)
    }

    /// Moves on without keeping the bytes.
    pub(super) fn skip(&mut self, cursor: &mut Cursor, len: u64) -> Result<(), ImageError> {
        let mut rest = len;
        while rest > 0 {
            let now = rest.min(METADATA_LEN as u64);
            self.read(cursor, now as usize)?;
            rest -= now;
        }
        Ok(())
    }

    /// Record `number`, of `len` bytes, of the table whose block positions begin at `index`.
    pub(super) fn record(&mut self, index: u64, number: u64, len: usize) -> Result<Vec<u8>, ImageError> {
        let per_block = (METADATA_LEN / len) as u64;
        let at = index.saturating_add(number / per_block * 8);
        let block = get64(&self.bytes(at, 8)?, 0);
        let offset = (number % per_block) as usize * len;
        let (bytes, _) = self.metadata(block)?;
        match bytes.get(offset..offset + len) {
            Some(record) => Ok(record.to_vec()),
            None => Err(ImageError::corrupt(format!(
                "record {number} lies outside of its block at {block}"
            ))),
        }
    }

    /// Reads a data or fragment block of which `size` is the stored size with its flag; it must have from
    /// `least` to `most` bytes.
    pub(super) fn data(
        &mut self,
        at: u64,
        size: u32,
        least: usize,
        most: usize,
    ) -> Result<Vec<u8>, ImageError> {
        let len = (size & !BLOCK_RAW) as usize;
        if size >> 25 != 0 || len > most.next_power_of_two().max(METADATA_LEN) {
            return Err(ImageError::corrupt(format!(
                "the data block at {at} has {len} stored bytes"
            )));
        }
        let stored = self.bytes(at, len)?;
        let block = if size & BLOCK_RAW != 0 {
            stored
        } else {
            self.decoder
                .decode(&stored, most)
                .map_err(|why| ImageError::corrupt(format!("decompressing the data block at {at}: {why}")))?
        };
        if block.len() < least || block.len() > most {
            return Err(ImageError::corrupt(format!(
                "the data block at {at} has {} bytes, not {least} to {most}",
                block.len()
            )));
        }
        Ok(block)
    }
}

/// Reads bytes that the source is known to have.
pub(super) fn read_at<R: Read + Seek>(source: &mut R, at: u64, len: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0; len];
    source
        .seek(SeekFrom::Start(at))
        .and_then(|_| source.read_exact(&mut bytes))
        .map_err(|source| ImageError::Io { at, source })?;
    Ok(bytes)
}
