//! The hash by which large directories are sorted: "half MD4" over unsigned characters
//! (Linux `Documentation/filesystems/ext4/directory.rst`, hash version 4).

const K2: u32 = 0x5a82_7999;
const K3: u32 = 0x6ed9_eba1;
/// Hash that ends a directory; names get the one before.
const END: u32 = 0xffff_fffe;

/// Major and minor hash of `name`. The lowest bit of the major hash is 0.
pub(super) fn hash(name: &[u8], seed: &[u32; 4]) -> (u32, u32) {
    let mut state = if *seed == [0; 4] {
        [0x6745_2301, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476]
    } else {
        *seed
    };
    let mut rest = name;
    while !rest.is_empty() {
        transform(&mut state, &words(rest));
        rest = &rest[rest.len().min(32)..];
    }
    let major = state[1] & !1;
    (if major == END { END - 2 } else { major }, state[2])
}

/// The next 32 bytes as words, big end first, filled up with the length of what is left.
fn words(rest: &[u8]) -> [u32; 8] {
    let length = rest.len() as u32;
    let short = length | length << 8;
    let padding = short | short << 16;
    let mut words = [padding; 8];
    for (word, bytes) in words.iter_mut().zip(rest.chunks(4)) {
        *word = bytes
            .iter()
            .fold(padding, |word, &byte| (word << 8).wrapping_add(u32::from(byte)));
    }
    words
}

fn transform(state: &mut [u32; 4], input: &[u32; 8]) {
    let choose = |x: u32, y: u32, z: u32| z ^ (x & (y ^ z));
    let majority = |x: u32, y: u32, z: u32| (x & y).wrapping_add((x ^ y) & z);
    let parity = |x: u32, y: u32, z: u32| x ^ y ^ z;
    let [mut a, mut b, mut c, mut d] = *state;
    let mut step = |f: &dyn Fn(u32, u32, u32) -> u32, word: u32, turn: u32| {
        let next = a.wrapping_add(f(b, c, d)).wrapping_add(word).rotate_left(turn);
        (a, d, c, b) = (d, c, b, next);
    };
    for (index, turn) in [0, 1, 2, 3, 4, 5, 6, 7]
        .into_iter()
        .zip([3, 7, 11, 19].into_iter().cycle())
    {
        step(&choose, input[index], turn);
    }
    for (index, turn) in [1, 3, 5, 7, 0, 2, 4, 6]
        .into_iter()
        .zip([3, 5, 9, 13].into_iter().cycle())
    {
        step(&majority, input[index].wrapping_add(K2), turn);
    }
    for (index, turn) in [3, 7, 2, 6, 1, 5, 0, 4]
        .into_iter()
        .zip([3, 9, 11, 15].into_iter().cycle())
    {
        step(&parity, input[index].wrapping_add(K3), turn);
    }
    for (word, add) in state.iter_mut().zip([a, b, c, d]) {
        *word = word.wrapping_add(add);
    }
}
