//! Changes to inputs, the same in every run.

/// Makes inputs out of seeds: bits and bytes changed, numbers at their bounds, pieces removed, repeated, swapped
/// with those of another seed.
pub struct Mutator {
    state: u64,
}

/// Numbers at which parsers go wrong.
const NUMBERS: [u64; 12] = [
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_fff0,
    0xffff_ffff,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Pieces that mean something in one text format or another.
const PIECES: [&[u8]; 20] = [
    b"\n",
    b"\n\n",
    b"\0",
    b"..",
    b"/",
    b"//",
    b"\"",
    b"\\",
    b"#",
    b"%%",
    b"$",
    b"{",
    b"}",
    b"@",
    b":",
    b"-",
    b"~",
    b"=",
    b"\xff\xfe",
    b"\r\n",
];

impl Mutator {
    /// The same changes for the same number.
    pub fn new(seed: u64) -> Mutator {
        Mutator { state: seed }
    }

    /// splitmix64.
    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `end`, 0 if that is 0.
    fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            return 0;
        }
        (self.next() % end as u64) as usize
    }

    /// One of the seeds with one to four changes.
    pub fn mutate(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = seeds.get(self.below(seeds.len())).cloned().unwrap_or_default();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, seeds);
        }
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        let at = self.below(bytes.len());
        let rest = bytes.len() - at;
        match self.below(9) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << (self.next() % 8);
                }
            }
            1 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.next() as u8;
                }
            }
            2 | 3 => {
                let number = NUMBERS[self.below(NUMBERS.len())];
                let width = [1, 2, 4, 8][self.below(4)].min(rest);
                let number = match self.below(2) {
                    0 => number.to_le_bytes(),
                    _ => number.swap_bytes().to_le_bytes(),
                };
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            4 => bytes.truncate(at),
            5 => {
                let count = self.below(rest.min(64) + 1);
                bytes.drain(at..at + count);
            }
            6 => {
                let count = self.below(rest.min(4096) + 1);
                let piece = bytes[at..at + count].to_vec();
                let to = self.below(bytes.len() + 1);
                bytes.splice(to..to, piece);
            }
            7 => {
                let piece = PIECES[self.below(PIECES.len())];
                bytes.splice(at..at, piece.iter().copied());
            }
            _ => {
                let Some(other) = seeds.get(self.below(seeds.len())) else {
                    return;
                };
                let from = self.below(other.len());
                bytes.truncate(at);
                bytes.extend_from_slice(&other[from..]);
            }
        }
    }
}
