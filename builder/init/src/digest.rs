//! SHA-256 and SHA-512 (FIPS 180-4).
//!
//! Written out here because the initramfs program stays small: it needs SHA-256 for `verify` and
//! SHA-512 for password hashes, and nothing else of a hashing crate.

/// First 64 bits of the fractional parts of the cube roots of the first 80 primes (FIPS 180-4, 4.2.3).
/// SHA-256 uses the upper halves of the first 64 of them (4.2.2).
const K: [u64; 80] = [
    0x428a2f98d728ae22,
    0x7137449123ef65cd,
    0xb5c0fbcfec4d3b2f,
    0xe9b5dba58189dbbc,
    0x3956c25bf348b538,
    0x59f111f1b605d019,
    0x923f82a4af194f9b,
    0xab1c5ed5da6d8118,
    0xd807aa98a3030242,
    0x12835b0145706fbe,
    0x243185be4ee4b28c,
    0x550c7dc3d5ffb4e2,
    0x72be5d74f27b896f,
    0x80deb1fe3b1696b1,
    0x9bdc06a725c71235,
    0xc19bf174cf692694,
    0xe49b69c19ef14ad2,
    0xefbe4786384f25e3,
    0x0fc19dc68b8cd5b5,
    0x240ca1cc77ac9c65,
    0x2de92c6f592b0275,
    0x4a7484aa6ea6e483,
    0x5cb0a9dcbd41fbd4,
    0x76f988da831153b5,
    0x983e5152ee66dfab,
    0xa831c66d2db43210,
    0xb00327c898fb213f,
    0xbf597fc7beef0ee4,
    0xc6e00bf33da88fc2,
    0xd5a79147930aa725,
    0x06ca6351e003826f,
    0x142929670a0e6e70,
    0x27b70a8546d22ffc,
    0x2e1b21385c26c926,
    0x4d2c6dfc5ac42aed,
    0x53380d139d95b3df,
    0x650a73548baf63de,
    0x766a0abb3c77b2a8,
    0x81c2c92e47edaee6,
    0x92722c851482353b,
    0xa2bfe8a14cf10364,
    0xa81a664bbc423001,
    0xc24b8b70d0f89791,
    0xc76c51a30654be30,
    0xd192e819d6ef5218,
    0xd69906245565a910,
    0xf40e35855771202a,
    0x106aa07032bbd1b8,
    0x19a4c116b8d2d0c8,
    0x1e376c085141ab53,
    0x2748774cdf8eeb99,
    0x34b0bcb5e19b48a8,
    0x391c0cb3c5c95a63,
    0x4ed8aa4ae3418acb,
    0x5b9cca4f7763e373,
    0x682e6ff3d6b2b8a3,
    0x748f82ee5defb2fc,
    0x78a5636f43172f60,
    0x84c87814a1f0ab72,
    0x8cc702081a6439ec,
    0x90befffa23631e28,
    0xa4506cebde82bde9,
    0xbef9a3f7b2c67915,
    0xc67178f2e372532b,
    0xca273eceea26619c,
    0xd186b8c721c0c207,
    0xeada7dd6cde0eb1e,
    0xf57d4f7fee6ed178,
    0x06f067aa72176fba,
    0x0a637dc5a2c898a6,
    0x113f9804bef90dae,
    0x1b710b35131c471b,
    0x28db77f523047d84,
    0x32caab7b40c72493,
    0x3c9ebe0a15c9bebc,
    0x431d67c49c100d4c,
    0x4cc5d4becb3e42b6,
    0x597f299cfc657e2a,
    0x5fcb6fab3ad6faec,
    0x6c44198c4a475817,
];

const START_256: [u32; 8] = [
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
];

const START_512: [u64; 8] = [
    0x6a09e667f3bcc908,
    0xbb67ae8584caa73b,
    0x3c6ef372fe94f82b,
    0xa54ff53a5f1d36f1,
    0x510e527fade682d1,
    0x9b05688c2b3e6c1f,
    0x1f83d9abfb41bd6b,
    0x5be0cd19137e2179,
];

/// The two variants differ in word size, block size, rotations and rounds; the rest is the same text.
macro_rules! sha {
    ($name:ident, $word:ty, $block:literal, $rounds:literal, $length_bytes:literal, $start:ident,
     $k:expr, [$a0:literal $a1:literal $a2:literal], [$b0:literal $b1:literal $b2:literal],
     [$c0:literal $c1:literal $c2:literal], [$d0:literal $d1:literal $d2:literal], $doc:literal) => {
        #[doc = $doc]
        #[derive(Clone)]
        pub struct $name {
            state: [$word; 8],
            block: [u8; $block],
            filled: usize,
            length: u128,
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    state: $start,
                    block: [0; $block],
                    filled: 0,
                    length: 0,
                }
            }
        }

        impl $name {
            /// Bytes of the digest.
            pub const SIZE: usize = size_of::<$word>() * 8;

            /// The digest of `data`.
            #[must_use]
            pub fn of(data: &[u8]) -> [u8; Self::SIZE] {
                let mut hash = Self::default();
                hash.update(data);
                hash.finish()
            }

            /// Takes in more of the message.
            pub fn update(&mut self, mut data: &[u8]) {
                self.length += data.len() as u128;
                if self.filled > 0 {
                    let take = data.len().min($block - self.filled);
                    self.block[self.filled..self.filled + take].copy_from_slice(&data[..take]);
                    self.filled += take;
                    data = &data[take..];
                    if self.filled < $block {
                        return;
                    }
                    let block = self.block;
                    self.compress(&block);
                    self.filled = 0;
                }
                let (blocks, rest) = data.as_chunks::<$block>();
                for block in blocks {
                    self.compress(block);
                }
                self.block[..rest.len()].copy_from_slice(rest);
                self.filled = rest.len();
            }

            /// The digest of all that was taken in.
            #[must_use]
            pub fn finish(mut self) -> [u8; Self::SIZE] {
                let bits = (self.length * 8).to_be_bytes();
                self.update(&[0x80]);
                while self.filled != $block - $length_bytes {
                    self.update(&[0]);
                }
                self.update(&bits[16 - $length_bytes..]);
                let mut out = [0; Self::SIZE];
                for (bytes, word) in out.chunks_exact_mut(size_of::<$word>()).zip(self.state) {
                    bytes.copy_from_slice(&word.to_be_bytes());
                }
                out
            }

            fn compress(&mut self, block: &[u8; $block]) {
                let mut w = [0 as $word; $rounds];
                for (word, bytes) in w
                    .iter_mut()
                    .zip(block.as_chunks::<{ size_of::<$word>() }>().0)
                {
                    *word = <$word>::from_be_bytes(*bytes);
                }
                for t in 16..$rounds {
                    let (x, y) = (w[t - 15], w[t - 2]);
                    let s0 = x.rotate_right($c0) ^ x.rotate_right($c1) ^ (x >> $c2);
                    let s1 = y.rotate_right($d0) ^ y.rotate_right($d1) ^ (y >> $d2);
                    w[t] = w[t - 16]
                        .wrapping_add(s0)
                        .wrapping_add(w[t - 7])
                        .wrapping_add(s1);
                }
                let [mut a, mut b, mut c, mut d, mut e, mut f, mut g, mut h] = self.state;
                for t in 0..$rounds {
                    let s1 = e.rotate_right($b0) ^ e.rotate_right($b1) ^ e.rotate_right($b2);
                    let t1 = h
                        .wrapping_add(s1)
                        .wrapping_add((e & f) ^ (!e & g))
                        .wrapping_add($k(t))
                        .wrapping_add(w[t]);
                    let s0 = a.rotate_right($a0) ^ a.rotate_right($a1) ^ a.rotate_right($a2);
                    let t2 = s0.wrapping_add((a & b) ^ (a & c) ^ (b & c));
                    (h, g, f, e, d, c, b, a) = (g, f, e, d.wrapping_add(t1), c, b, a, t1.wrapping_add(t2));
                }
                for (word, add) in self.state.iter_mut().zip([a, b, c, d, e, f, g, h]) {
                    *word = word.wrapping_add(add);
                }
            }
        }
    };
}

sha!(
    Sha256, u32, 64, 64, 8, START_256, |t: usize| (K[t] >> 32) as u32,
    [2 13 22], [6 11 25], [7 18 3], [17 19 10], "SHA-256 over a message given in pieces."
);
sha!(
    Sha512, u64, 128, 80, 16, START_512, |t: usize| K[t],
    [28 34 39], [14 18 41], [1 8 7], [19 61 6], "SHA-512 over a message given in pieces."
);

/// `bytes` in lower-case hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::Digest;

    #[test]
    fn examples_of_the_standard() {
        assert_eq!(
            hex(&Sha256::of(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert!(hex(&Sha512::of(b"abc")).starts_with("ddaf35a193617abacc417349ae204131"));
    }

    proptest! {
        #[test]
        fn any_message_in_any_pieces_agrees_with_another_implementation(
            data in proptest::collection::vec(any::<u8>(), 0..700),
            cut in 0usize..700,
        ) {
            let cut = cut.min(data.len());
            let (mut small, mut large) = (Sha256::default(), Sha512::default());
            for piece in [&data[..cut], &data[cut..]] {
                small.update(piece);
                large.update(piece);
            }
            prop_assert_eq!(&small.finish()[..], &sha2::Sha256::digest(&data)[..]);
            prop_assert_eq!(&large.finish()[..], &sha2::Sha512::digest(&data)[..]);
        }
    }
}
