//! Reading hash areas back, and holding data against them.

use thiserror::Error;

use super::{BLOCK, FAN_OUT, HASH, SALT_MAX, area_len, hash};
use crate::partition::Guid;

/// Why a hash area was not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AreaError {
    /// It does not begin with the superblock, or is cut.
    #[error("there is no whole superblock of a hash tree")]
    NoSuperblock,
    /// Something that our own areas do not use.
    #[error("its {what} is {value}, which is not read")]
    Unknown {
        /// Which field.
        what: &'static str,
        /// What it says.
        value: String,
    },
    /// A field that cannot be.
    #[error("{0}")]
    Malformed(String),
}

/// A hash area: what its superblock says, and where its hashes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Area {
    /// UUID.
    pub uuid: Guid,
    /// Blocks of the data.
    pub blocks: u64,
    /// What is hashed before each block.
    pub salt: Vec<u8>,
    /// First byte and hashes of each level, from that of the data's blocks up. None where the data are one block.
    levels: Vec<(usize, usize)>,
    /// Bytes with the superblock.
    len: usize,
}

impl Area {
    /// Reads the superblock of `area`. The tree must be whole; whether its hashes are right is another question.
    ///
    /// # Errors
    /// When it is none, is of another form than ours, or is cut.
    pub fn read(area: &[u8]) -> Result<Area, AreaError> {
        let head = area
            .get(..BLOCK)
            .filter(|head| head.starts_with(b"verity\0\0"))
            .ok_or(AreaError::NoSuperblock)?;
        let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        for (what, at, wanted) in [
            ("version", 8, 1),
            ("type of hash", 12, 1),
            ("block of data", 64, BLOCK as u32),
            ("block of hashes", 68, BLOCK as u32),
        ] {
            if word(at) != wanted {
                return Err(AreaError::Unknown {
                    what,
                    value: word(at).to_string(),
                });
            }
        }
        let name = head[32..64].split(|&byte| byte == 0).next().unwrap_or_default();
        if name != b"sha256" {
            return Err(AreaError::Unknown {
                what: "algorithm",
                value: lycia_tree::display(name),
            });
        }
        let blocks = u64::from(word(72)) | u64::from(word(76)) << 32;
        let salt_len = usize::from(u16::from_le_bytes([head[80], head[81]]));
        if salt_len > SALT_MAX {
            return Err(AreaError::Malformed(format!("a salt of {salt_len} bytes")));
        }
        // What a file of this size can have hashes of: the rest follows from it without overflow.
        if blocks == 0 || blocks.div_ceil(FAN_OUT as u64) > (area.len() / BLOCK) as u64 {
            return Err(AreaError::Malformed(format!(
                "hashes of {blocks} blocks do not fit into {} bytes",
                area.len()
            )));
        }
        let len = area_len(blocks * BLOCK as u64);
        if len > area.len() as u64 {
            return Err(AreaError::Malformed(format!(
                "the tree of {blocks} blocks takes {len} bytes, and there are {}",
                area.len()
            )));
        }
        let mut counts = Vec::new();
        let mut count = blocks as usize;
        while count > 1 {
            counts.push(count);
            count = count.div_ceil(FAN_OUT);
        }
        // From the top down they lie behind the superblock.
        let mut at = BLOCK;
        let mut levels: Vec<(usize, usize)> = Vec::new();
        for &count in counts.iter().rev() {
            levels.push((at, count));
            at += count.div_ceil(FAN_OUT) * BLOCK;
        }
        levels.reverse();
        let mut uuid = [0; 16];
        uuid.copy_from_slice(&head[16..32]);
        Ok(Area {
            uuid: Guid::from_bytes(uuid),
            blocks,
            salt: head[88..88 + salt_len].to_vec(),
            levels,
            len: at,
        })
    }

    /// Bytes of it, with the superblock.
    pub fn size(&self) -> u64 {
        self.len as u64
    }

    /// The root hash that the uppermost block of hashes has; of data of one block, which have none, that of the block.
    pub fn root(&self, area: &[u8], data: Option<&[u8]>) -> Option<[u8; HASH]> {
        let block = match self.levels.last() {
            Some(&(at, _)) => area.get(at..at + BLOCK),
            None => data.and_then(|data| data.get(..BLOCK)),
        };
        block.map(|block| hash(&self.salt, block))
    }

    /// First bytes of the blocks of hashes in `area` that are not what the level above hashed, and of those that have
    /// something behind their last hash.
    pub fn wrong_hashes(&self, area: &[u8]) -> Vec<u64> {
        let mut wrong = Vec::new();
        for (number, &(at, count)) in self.levels.iter().enumerate() {
            let above = self.levels.get(number + 1);
            for (index, start) in (at..).step_by(BLOCK).take(count.div_ceil(FAN_OUT)).enumerate() {
                let block = &area[start..start + BLOCK];
                let used = (count - index * FAN_OUT).min(FAN_OUT) * HASH;
                let expected = above.map(|&(above, _)| &area[above + index * HASH..][..HASH]);
                if expected.is_some_and(|expected| hash(&self.salt, block) != expected)
                    || block[used..].iter().any(|&byte| byte != 0)
                {
                    wrong.push(start as u64);
                }
            }
        }
        wrong.sort_unstable();
        wrong
    }

    /// The hash that the tree has of the data's block `number`; none of the only one.
    pub fn hash_of<'a>(&self, area: &'a [u8], number: u64) -> Option<&'a [u8]> {
        let &(at, count) = self.levels.first()?;
        let number = usize::try_from(number).ok().filter(|&number| number < count)?;
        area.get(at + number * HASH..at + (number + 1) * HASH)
    }

    /// The hash of a block of data.
    pub fn hash(&self, block: &[u8]) -> [u8; HASH] {
        hash(&self.salt, block)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verity::HashTree;

    fn made(blocks: usize) -> (Vec<u8>, HashTree, Vec<u8>) {
        let data: Vec<u8> = (0..blocks * BLOCK).map(|at| (at / 97) as u8).collect();
        let tree = HashTree::new(&mut &data[..], b"some salt").unwrap();
        let area = tree.area(Guid::derive(b"test", "verity"));
        (data, tree, area)
    }

    #[test]
    fn areas_read_back() {
        // One level, full and overfull ones, and three.
        for blocks in [1, 2, 127, 128, 129, 300, 128 * 128, 128 * 128 + 1] {
            let (data, tree, area) = made(blocks);
            let read = Area::read(&area).unwrap();
            assert_eq!(read.size(), area.len() as u64);
            assert_eq!((read.blocks, &read.salt), (tree.blocks, &tree.salt));
            assert_eq!(read.uuid, Guid::derive(b"test", "verity"));
            assert_eq!(read.root(&area, Some(&data)), Some(tree.root), "{blocks}");
            assert_eq!(read.wrong_hashes(&area), Vec::<u64>::new());
            for (number, block) in data.chunks(BLOCK).enumerate().filter(|_| blocks > 1) {
                assert_eq!(
                    read.hash_of(&area, number as u64),
                    Some(&read.hash(block)[..]),
                    "{number} of {blocks}"
                );
            }
            assert_eq!(read.hash_of(&area, blocks as u64), None);
        }
    }

    #[test]
    fn every_changed_byte_of_the_tree_shows() {
        let (_, tree, area) = made(300);
        let read = Area::read(&area).unwrap();
        for at in (BLOCK..area.len()).step_by(61) {
            let mut area = area.clone();
            area[at] ^= 4;
            let block = (at / BLOCK * BLOCK) as u64;
            let wrong = read.wrong_hashes(&area);
            let root = read.root(&area, None);
            // The uppermost block has no hash above it but the root hash.
            if block == BLOCK as u64 {
                assert_ne!(root, Some(tree.root), "{at}");
            } else {
                assert!(wrong.contains(&block), "{at}: {wrong:?}");
            }
        }
    }

    #[test]
    fn what_is_cut_or_cannot_be_is_an_error() {
        let (_, _, area) = made(300);
        for len in 0..area.len() {
            assert!(Area::read(&area[..len]).is_err(), "{len}");
        }
        for (at, bytes, part) in [
            (8, &[2][..], "version"),
            (12, &[0], "type of hash"),
            (32, b"sha1\0\0", "algorithm"),
            (65, &[2], "block of data"),
            (72, &[0, 0], "0 blocks"),
            (72, &[0xff; 8], "do not fit"),
            (80, &[1, 1], "257"),
        ] {
            let mut area = area.clone();
            area[at..at + bytes.len()].copy_from_slice(bytes);
            let error = Area::read(&area).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}
