//! Anti-forensic splitting (TKS1, Clemens Fruhwirth; "AF Splitter" of the LUKS1 specification): a key as stripes of which every one is needed.

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::Key;

const DIGEST: usize = 32;

/// Spreads every bit over the block: each piece of a digest's length is replaced by the digest of its number and itself.
fn diffuse(block: &mut [u8]) {
    for (number, piece) in block.chunks_mut(DIGEST).enumerate() {
        let mut hash = Sha256::new();
        hash.update((number as u32).to_be_bytes());
        hash.update(&*piece);
        let digest = hash.finalize();
        let len = piece.len();
        piece.copy_from_slice(&digest[..len]);
    }
}

fn xor(into: &mut [u8], other: &[u8]) {
    for (byte, other) in into.iter_mut().zip(other) {
        *byte ^= other;
    }
}

/// Splits `key`; `stripes` holds random bytes of all stripes, of which the last is replaced.
pub(crate) fn split(key: &[u8], stripes: &mut [u8]) {
    let mut block = Zeroizing::new(vec![0; key.len()]);
    let last = stripes.len().saturating_sub(key.len());
    for stripe in stripes[..last].chunks(key.len()) {
        xor(&mut block, stripe);
        diffuse(&mut block);
    }
    xor(&mut block, key);
    stripes[last..].copy_from_slice(&block);
}

/// Puts a key of `len` bytes together again.
pub(crate) fn merge(stripes: &[u8], len: usize) -> Key {
    let mut block = Zeroizing::new(vec![0; len]);
    let last = stripes.len().saturating_sub(len);
    for stripe in stripes[..last].chunks(len) {
        xor(&mut block, stripe);
        diffuse(&mut block);
    }
    xor(&mut block, &stripes[last..]);
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_split_comes_together(key in proptest::collection::vec(any::<u8>(), 16..100), seed in any::<u64>(), count in 1usize..40) {
            let mut stripes: Vec<u8> = (0..key.len() * count).map(|at| (seed.wrapping_mul(at as u64 + 7) >> 11) as u8).collect();
            split(&key, &mut stripes);
            prop_assert_eq!(&*merge(&stripes, key.len()), &key);
            // Without any one bit it is another key: of those as short as a byte one may be the same.
            let at = seed as usize % stripes.len();
            stripes[at] ^= 1;
            prop_assert_ne!(&*merge(&stripes, key.len()), &key);
        }
    }
}
