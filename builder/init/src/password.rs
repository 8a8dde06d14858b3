//! Password hashes of the `$6$` kind: "Unix crypt using SHA-256 and SHA-512", U. Drepper, version 0.6.

use crate::digest::Sha512;

const ALPHABET: &[u8; 64] = b"./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const DEFAULT_ROUNDS: u32 = 5000;

/// Hashes `password` with `salt` (cut to 16 bytes, as the specification says) for `/etc/shadow`.
///
/// `rounds` None writes no `rounds=` part and runs 5000; other values are clamped to 1000..=999999999.
#[must_use]
pub fn sha512_crypt(password: &[u8], salt: &[u8], rounds: Option<u32>) -> String {
    let salt = &salt[..salt.len().min(16)];
    let count = rounds.unwrap_or(DEFAULT_ROUNDS).clamp(1000, 999_999_999);

    // Steps 4 to 8: digest B.
    let mut b = Sha512::default();
    for part in [password, salt, password] {
        b.update(part);
    }
    let b = b.finish();

    // Steps 1 to 12: digest A.
    let mut a = Sha512::default();
    a.update(password);
    a.update(salt);
    a.update(&repeated(&b, password.len()));
    let mut bits = password.len();
    while bits > 0 {
        if bits & 1 == 1 {
            a.update(&b)
        } else {
            a.update(password)
        }
        bits >>= 1;
    }
    let a = a.finish();

    // Steps 13 to 16: the P sequence.
    let mut dp = Sha512::default();
    for _ in 0..password.len() {
        dp.update(password);
    }
    let p = repeated(&dp.finish(), password.len());

    // Steps 17 to 20: the S sequence.
    let mut ds = Sha512::default();
    for _ in 0..16 + usize::from(a[0]) {
        ds.update(salt);
    }
    let s = repeated(&ds.finish(), salt.len());

    // Step 21: the rounds.
    let mut c = a;
    for round in 0..count {
        let mut hash = Sha512::default();
        if round & 1 == 1 {
            hash.update(&p)
        } else {
            hash.update(&c)
        }
        if round % 3 != 0 {
            hash.update(&s);
        }
        if round % 7 != 0 {
            hash.update(&p);
        }
        if round & 1 == 1 {
            hash.update(&c)
        } else {
            hash.update(&p)
        }
        c = hash.finish();
    }

    let mut out = String::from("$6$");
    if rounds.is_some() {
        out.push_str(&format!("rounds={count}$"));
    }
    out.push_str(&String::from_utf8_lossy(salt));
    out.push('$');
    // Step 22: 24 bits at a time; the three byte positions of each group turn by 22 modulo 63.
    let (mut x, mut y, mut z) = (0, 21, 42);
    for _ in 0..21 {
        push_base64(&mut out, [c[x], c[y], c[z]], 4);
        (x, y, z) = (y + 1, z + 1, x + 1);
    }
    push_base64(&mut out, [0, 0, c[63]], 2);
    out
}

/// A salt of 16 characters out of 12 random bytes.
#[must_use]
pub fn salt_from(random: &[u8; 12]) -> String {
    let mut out = String::new();
    for three in random.as_chunks::<3>().0 {
        push_base64(&mut out, *three, 4);
    }
    out
}

fn push_base64(out: &mut String, [high, middle, low]: [u8; 3], characters: usize) {
    let mut word = u32::from(high) << 16 | u32::from(middle) << 8 | u32::from(low);
    for _ in 0..characters {
        out.push(char::from(ALPHABET[(word & 63) as usize]));
        word >>= 6;
    }
}

fn repeated(digest: &[u8; 64], length: usize) -> Vec<u8> {
    digest.iter().copied().cycle().take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test vectors of the specification for SHA-512.
    #[test]
    fn vectors_of_the_specification() {
        let long = "a very much longer text to encrypt.  This one even stretches over morethan one line.";
        for (rounds, salt, password, expected) in [
            (
                None,
                "saltstring",
                "Hello world!",
                "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1",
            ),
            (
                Some(10000),
                "saltstringsaltstring",
                "Hello world!",
                "$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.",
            ),
            (
                Some(5000),
                "toolongsaltstring",
                "This is just a test",
                "$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0",
            ),
            (
                Some(1400),
                "anotherlongsaltstring",
                long,
                "$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1",
            ),
            (
                Some(77777),
                "short",
                "we have a short salt string but not a short password",
                "$6$rounds=77777$short$WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0",
            ),
            (
                Some(123_456),
                "asaltof16chars..",
                "a short string",
                "$6$rounds=123456$asaltof16chars..$BtCwjqMJGx5hrJhZywWvt0RLE8uZ4oPwcelCjmw2kSYu.Ec6ycULevoBK25fs2xXgMNrCzIMVcgEJAstJeonj1",
            ),
            (
                Some(10),
                "roundstoolow",
                "the minimum number is still observed",
                "$6$rounds=1000$roundstoolow$kUMsbe306n21p9R.FRkW3IGn.S9NPN0x50YhH1xhLsPuWGsUSklZt58jaTfF4ZEQpyUNGc0dqbpBYYBaHHrsX.",
            ),
        ] {
            assert_eq!(
                sha512_crypt(password.as_bytes(), salt.as_bytes(), rounds),
                expected,
                "{password}"
            );
        }
    }

    #[test]
    fn salts_use_only_the_alphabet_of_crypt() {
        let salt = salt_from(&[0xff, 0, 1, 2, 3, 0x80, 0x7f, 9, 10, 0xaa, 0x55, 0]);
        assert_eq!(salt.len(), 16);
        assert!(salt.bytes().all(|byte| ALPHABET.contains(&byte)));
    }
}
