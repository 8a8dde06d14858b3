//! Blocks that were compressed before.

use sha2::{Digest as _, Sha256};

use super::{Bcj, Compressor};

/// What a block became.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Known {
    /// It did not shrink.
    Raw,
    /// The compressed bytes.
    Packed(Vec<u8>),
}

/// Compressed blocks of earlier images, so that what images share is compressed once. Used by several threads
/// at a time.
///
/// A store answers with what was put into it under the same key by the same version of the compressors, or with
/// nothing; it answers for the wholeness of what it gives. Then the image does not depend on what it knows.
pub trait BlockStore: Sync {
    /// What is known of a block.
    fn get(&self, key: &BlockKey) -> Option<Known>;
    /// Hears of a block that was compressed; `None` for one that did not shrink.
    fn put(&self, key: &BlockKey, packed: Option<&[u8]>);
}

/// SHA-256 of a block before compression and of all that decides on what becomes of it.
pub type BlockKey = [u8; 32];

/// The key of a block. Compressors of other versions make other bytes; a store keeps those of each build of
/// this program apart.
pub(super) fn key(compressor: &Compressor, block: &[u8]) -> BlockKey {
    let mut hasher = Sha256::new();
    hasher.update(b"squashfs block 1\0");
    let (kind, level, bcj) = match *compressor {
        Compressor::Gzip { level } => (1u32, level, Bcj::None),
        Compressor::Xz { preset, bcj } => (4, preset, bcj),
        Compressor::Lz4 { level } => (5, level, Bcj::None),
        Compressor::Zstd { level } => (6, level, Bcj::None),
    };
    for number in [kind, level, bcj as u32] {
        hasher.update(number.to_le_bytes());
    }
    hasher.update(block);
    hasher.finalize().into()
}
