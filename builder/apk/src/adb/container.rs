//! Header and blocks (apk-v3(5), "ADB container").

use super::stream::{Compression, Input, Output};
use super::{AdbError, Schema};
use crate::limits::Limits;
use std::io::Write;

const PAD: [u8; 8] = [0; 8];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum BlockKind {
    Adb,
    Signature,
    Data,
}

/// A block whose header was read; its payload comes next in the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub(crate) kind: BlockKind,
    pub(crate) length: u64,
    /// Zero bytes after the payload.
    padding: usize,
}

/// A file read up to its first data block: metadata and signatures are in memory, contents are not.
pub(crate) struct Container<'a> {
    input: Input<'a>,
    /// The value area, as hashed and signed.
    pub(crate) payload: Vec<u8>,
    /// Payloads of the signature blocks.
    pub(crate) signatures: Vec<Vec<u8>>,
    next: Option<Block>,
}

impl<'a> Container<'a> {
    pub(crate) fn open(bytes: &'a [u8], schema: Schema, limits: &Limits) -> Result<Self, AdbError> {
        let mut container = Self::open_metadata(bytes, schema, limits)?;
        container.next = container.header()?;
        while let Some(block) = container.next.filter(|block| block.kind == BlockKind::Signature) {
            if container.signatures.len() == limits.signatures {
                return Err(AdbError::Limit {
                    what: "the number of signatures".into(),
                    limit: limits.signatures as u64,
                });
            }
            let signature = container.body(block, limits.signature, "a signature")?;
            container.signatures.push(signature);
            container.next = container.header()?;
        }
        Ok(container)
    }

    /// Reads header and ADB block only.
    pub(crate) fn open_metadata(bytes: &'a [u8], schema: Schema, limits: &Limits) -> Result<Self, AdbError> {
        let mut input = Input::new(bytes, limits)?;
        let mut header = [0; 8];
        if !input.fill(&mut header, "the ADB header")? {
            return Err(AdbError::UnexpectedEnd("the ADB header"));
        }
        if &header[..4] != b"ADB." {
            return Err(AdbError::NotAdb(header[..4].to_vec()));
        }
        if header[4..] != schema.word() {
            let mut found = [0; 4];
            found.copy_from_slice(&header[4..]);
            return Err(AdbError::Schema {
                expected: schema,
                found,
            });
        }
        let mut container = Container {
            input,
            payload: Vec::new(),
            signatures: Vec::new(),
            next: None,
        };
        let limit = match schema {
            Schema::Package => limits.package_metadata,
            Schema::Index => limits.index_metadata,
        };
        match container.header()? {
            Some(block) if block.kind == BlockKind::Adb => {
                container.payload = container.body(block, limit, "the metadata")?;
            }
            Some(block) => {
                return Err(AdbError::Block(format!(
                    "the first block is of kind {:?}, not ADB",
                    block.kind
                )));
            }
            None => return Err(AdbError::UnexpectedEnd("the ADB header: no block follows it")),
        }
        Ok(container)
    }

    /// How the file is compressed.
    pub(crate) fn compression(&self) -> Compression {
        self.input.compression
    }

    /// The header of the next data block, `None` at the end of the file.
    pub(crate) fn next_data(&mut self) -> Result<Option<Block>, AdbError> {
        let block = match self.next.take() {
            Some(block) => Some(block),
            None => self.header()?,
        };
        match block {
            Some(Block {
                kind: BlockKind::Adb, ..
            }) => Err(AdbError::Block("a second ADB block".into())),
            Some(Block {
                kind: BlockKind::Signature,
                ..
            }) => Err(AdbError::Block("a signature after data".into())),
            block => Ok(block),
        }
    }

    /// Reads a piece of a block's payload.
    pub(crate) fn read(&mut self, out: &mut [u8], inside: &'static str) -> Result<(), AdbError> {
        if !out.is_empty() && !self.input.fill(out, inside)? {
            return Err(AdbError::UnexpectedEnd(inside));
        }
        Ok(())
    }

    /// Passes over the padding of a block whose payload has been read.
    pub(crate) fn end_block(&mut self, block: Block) -> Result<(), AdbError> {
        let mut padding = [0; 8];
        self.read(&mut padding[..block.padding], "the padding of a block")?;
        if padding != PAD {
            return Err(AdbError::Block("padding that is not zero".into()));
        }
        Ok(())
    }

    /// Checks that the file ends here.
    pub(crate) fn finish(&mut self) -> Result<(), AdbError> {
        match self.next_data()? {
            Some(_) => Err(AdbError::Block(
                "a data block more than there are files with content".into(),
            )),
            None => self.input.finish(),
        }
    }

    fn header(&mut self) -> Result<Option<Block>, AdbError> {
        let mut word = [0; 4];
        if !self.input.fill(&mut word, "a block header")? {
            return Ok(None);
        }
        let word = u32::from_le_bytes(word);
        let low = word & 0x3fff_ffff;
        let (kind, total, size) = if word >> 30 == 3 {
            let mut rest = [0; 12];
            self.read(&mut rest, "a block header")?;
            let (reserved, total) = rest.split_at(4);
            if reserved != [0; 4] {
                return Err(AdbError::Block(
                    "reserved field of a block header is not zero".into(),
                ));
            }
            let mut bytes = [0; 8];
            bytes.copy_from_slice(total);
            (low, u64::from_le_bytes(bytes), 16)
        } else {
            (word >> 30, u64::from(low), 4)
        };
        let kind = match kind {
            0 => BlockKind::Adb,
            1 => BlockKind::Signature,
            2 => BlockKind::Data,
            other => return Err(AdbError::Block(format!("unknown block type {other}"))),
        };
        if total < size {
            return Err(AdbError::Block(format!(
                "a block of {total} bytes cannot hold its {size}-byte header"
            )));
        }
        if total > u64::MAX - 7 {
            return Err(AdbError::Block(format!("a block of {total} bytes is impossible")));
        }
        let padding = (total.next_multiple_of(8) - total) as usize;
        Ok(Some(Block {
            kind,
            length: total - size,
            padding,
        }))
    }

    /// Reads a whole block. Memory follows the bytes that arrive, not the length that is claimed.
    fn body(&mut self, block: Block, limit: u64, inside: &'static str) -> Result<Vec<u8>, AdbError> {
        if block.length > limit {
            return Err(AdbError::Limit {
                what: format!("the size of {inside}, {} bytes,", block.length),
                limit,
            });
        }
        let length = block.length as usize;
        let mut body = Vec::new();
        while body.len() < length {
            let start = body.len();
            body.resize(length.min(start + (256 << 10).max(start)), 0);
            self.read(&mut body[start..], inside)?;
        }
        self.end_block(block)?;
        Ok(body)
    }
}

/// Writes a stream block by block.
pub(crate) struct ContainerWriter<W: Write> {
    output: Output<W>,
    padding: usize,
}

impl<W: Write> ContainerWriter<W> {
    pub(crate) fn new(out: W, schema: Schema, compression: Compression) -> Result<Self, AdbError> {
        let mut output = Output::new(out, compression)?;
        output.write(b"ADB.")?;
        output.write(&schema.word())?;
        Ok(ContainerWriter { output, padding: 0 })
    }

    /// Starts a block with `length` payload bytes, which the caller writes next.
    pub(crate) fn begin(&mut self, kind: BlockKind, length: u64) -> Result<(), AdbError> {
        let kind = match kind {
            BlockKind::Adb => 0u32,
            BlockKind::Signature => 1,
            BlockKind::Data => 2,
        };
        let total;
        if length <= 0x3fff_ffff - 4 {
            total = length + 4;
            self.output.write(&(kind << 30 | total as u32).to_le_bytes())?;
        } else {
            total = length + 16;
            self.output.write(&(3 << 30 | kind).to_le_bytes())?;
            self.output.write(&[0; 4])?;
            self.output.write(&total.to_le_bytes())?;
        }
        self.padding = (total.next_multiple_of(8) - total) as usize;
        Ok(())
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), AdbError> {
        self.output.write(bytes)
    }

    pub(crate) fn end(&mut self) -> Result<(), AdbError> {
        let padding = self.padding;
        self.output.write(&PAD[..padding])
    }

    pub(crate) fn block(&mut self, kind: BlockKind, payload: &[u8]) -> Result<(), AdbError> {
        self.begin(kind, payload.len() as u64)?;
        self.write(payload)?;
        self.end()
    }

    pub(crate) fn finish(self) -> Result<W, AdbError> {
        self.output.finish()
    }
}
