//! Hash trees of dm-verity: what Linux checks each block of a read-only volume against when it is read.
//!
//! Format: version 1 (Linux `Documentation/admin-guide/device-mapper/verity.rst`), SHA-256, blocks of 4096 bytes. The hash of
//! a block is that of the salt and the block; hashes of a level lie in blocks, the last one padded with zeros, whose hashes
//! make the level above, up to one block, whose hash is the root hash. The hash area holds the superblock of
//! `veritysetup` (cryptsetup's `lib/verity/verity.c`) and then the levels from the top down; it may follow the data or be
//! a file of its own.

mod read;

use std::io::{self, Read};

pub use read::{Area, AreaError};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::partition::Guid;

/// Bytes of a block of data and of hashes.
pub const BLOCK: usize = 4096;
const HASH: usize = 32;
/// Hashes in a block.
const FAN_OUT: usize = BLOCK / HASH;
/// Most bytes of salt that the superblock has room for.
pub const SALT_MAX: usize = 256;

/// Why a hash tree was not made or did not fit.
#[derive(Debug, Error)]
pub enum VerityError {
    /// The data could not be read.
    #[error("reading what is to be hashed for dm-verity: {0}")]
    Read(#[from] io::Error),
    /// A salt that is too long.
    #[error("a dm-verity salt of {0} bytes; {SALT_MAX} are the most")]
    Salt(usize),
    /// Nothing to hash, or not whole blocks.
    #[error("dm-verity needs whole blocks of {BLOCK} bytes and at least one; the data have {0} bytes")]
    Length(u64),
    /// A block is not what was hashed.
    #[error("block {0} of the data is not what was hashed")]
    Changed(u64),
}

/// A hash tree.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HashTree {
    /// The hash that stands for all data.
    pub root: [u8; HASH],
    /// Blocks of data.
    pub blocks: u64,
    /// What was hashed before each block.
    pub salt: Vec<u8>,
    /// Hashes of the blocks, then of each level above, without padding.
    levels: Vec<Vec<u8>>,
}

fn hash(salt: &[u8], block: &[u8]) -> [u8; HASH] {
    Sha256::new()
        .chain_update(salt)
        .chain_update(block)
        .finalize()
        .into()
}

/// Reads a whole block, or nothing at the end.
fn read_block(data: &mut impl Read, block: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < block.len() {
        match data.read(&mut block[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

impl HashTree {
    /// Hashes `data` to its end. 8 bytes are held per kilobyte.
    ///
    /// # Errors
    /// When the data are no whole blocks, none at all, or cannot be read, or the salt is too long.
    pub fn new(data: &mut impl Read, salt: &[u8]) -> Result<HashTree, VerityError> {
        if salt.len() > SALT_MAX {
            return Err(VerityError::Salt(salt.len()));
        }
        let mut leaves = Vec::new();
        let mut block = [0; BLOCK];
        let mut blocks = 0u64;
        loop {
            match read_block(data, &mut block)? {
                0 => break,
                BLOCK => {}
                part => return Err(VerityError::Length(blocks * BLOCK as u64 + part as u64)),
            }
            blocks += 1;
            leaves.extend_from_slice(&hash(salt, &block));
        }
        if blocks == 0 {
            return Err(VerityError::Length(0));
        }
        let mut levels = vec![leaves];
        while let Some(level) = levels.last()
            && level.len() > HASH
        {
            let above = level
                .chunks(BLOCK)
                .flat_map(|part| {
                    let mut block = [0; BLOCK];
                    block[..part.len()].copy_from_slice(part);
                    hash(salt, &block)
                })
                .collect();
            levels.push(above);
        }
        let mut root = [0; HASH];
        if let Some(top) = levels.pop() {
            root.copy_from_slice(&top);
        }
        Ok(HashTree {
            root,
            blocks,
            salt: salt.to_vec(),
            levels,
        })
    }

    /// The root hash in hexadecimal digits, as the kernel and `veritysetup` take it.
    pub fn root_hex(&self) -> String {
        self.root.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Bytes of the hash area with its superblock.
    pub fn area_len(&self) -> u64 {
        let blocks: usize = self.levels.iter().map(|level| level.len().div_ceil(BLOCK)).sum();
        (1 + blocks as u64) * BLOCK as u64
    }

    /// The hash area: the superblock with the UUID, then the levels from the top down, in whole blocks.
    pub fn area(&self, uuid: Guid) -> Vec<u8> {
        let mut area = vec![0; BLOCK];
        area[..8].copy_from_slice(b"verity\0\0");
        // Version of the superblock and type of the hash.
        area[8..12].copy_from_slice(&1u32.to_le_bytes());
        area[12..16].copy_from_slice(&1u32.to_le_bytes());
        area[16..32].copy_from_slice(&uuid.to_bytes());
        area[32..38].copy_from_slice(b"sha256");
        area[64..68].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        area[68..72].copy_from_slice(&(BLOCK as u32).to_le_bytes());
        area[72..80].copy_from_slice(&self.blocks.to_le_bytes());
        area[80..82].copy_from_slice(&(self.salt.len() as u16).to_le_bytes());
        area[88..88 + self.salt.len()].copy_from_slice(&self.salt);
        for level in self.levels.iter().rev() {
            area.extend_from_slice(level);
            area.resize(area.len().next_multiple_of(BLOCK), 0);
        }
        area
    }

    /// The words of a device-mapper table behind `0 SECTORS verity`, for a data device and a hash device, which may be
    /// the same; the hash area begins at `hash_start` of its device, a multiple of [`BLOCK`].
    pub fn table(&self, data_device: &str, hash_device: &str, hash_start: u64) -> String {
        // The superblock is not the kernel's business.
        let first = hash_start / BLOCK as u64 + 1;
        let salt: String = self.salt.iter().map(|byte| format!("{byte:02x}")).collect();
        let salt = if salt.is_empty() { "-".to_owned() } else { salt };
        format!(
            "1 {data_device} {hash_device} {BLOCK} {BLOCK} {} {first} sha256 {} {salt}",
            self.blocks,
            self.root_hex()
        )
    }

    /// Sectors of 512 bytes of the data, as device-mapper counts.
    pub fn sectors(&self) -> u64 {
        self.blocks * (BLOCK / 512) as u64
    }

    /// Compares data with the hashes.
    ///
    /// # Errors
    /// With the first block that differs, or when the data are shorter or cannot be read.
    pub fn verify(&self, data: &mut impl Read) -> Result<(), VerityError> {
        let mut block = [0; BLOCK];
        // Of one block the root is the hash.
        let leaves: &[u8] = self.levels.first().map_or(&self.root, |leaves| leaves);
        for (number, expected) in leaves.chunks_exact(HASH).enumerate() {
            let read = read_block(data, &mut block)?;
            if read < BLOCK {
                return Err(VerityError::Length((number * BLOCK + read) as u64));
            }
            if hash(&self.salt, &block) != *expected {
                return Err(VerityError::Changed(number as u64));
            }
        }
        Ok(())
    }
}

/// Bytes that the hash area of so many bytes of data takes, with its superblock.
pub fn area_len(data: u64) -> u64 {
    let mut level = data.div_ceil(BLOCK as u64);
    let mut blocks = 1;
    while level > 1 {
        level = level.div_ceil(FAN_OUT as u64);
        blocks += level;
    }
    blocks * BLOCK as u64
}
