//! Names for readers without Rock Ridge: ISO 9660's own and Joliet's.

use std::collections::{HashMap, HashSet};

/// Characters of name and extension of a file together (ECMA-119, 7.5.1).
const FILE_MAX: usize = 30;
/// Characters of a directory's name (7.6.3).
const DIRECTORY_MAX: usize = 31;
/// Characters of an extension, of which long ones get no more.
const EXTENSION_MAX: usize = 15;
/// UCS-2 characters of a Joliet name.
pub const JOLIET_MAX: usize = 64;

/// The identifiers of the entries of one directory, given out in order; no two are the same.
#[derive(Default)]
pub struct Identifiers {
    used: HashSet<Vec<u8>>,
    next: HashMap<Vec<u8>, u32>,
}

impl Identifiers {
    /// The identifier of a file, with its version: `README.TXT;1`.
    pub fn file(&mut self, name: &[u8]) -> Vec<u8> {
        let (base, extension) = split(name);
        let base: Vec<u8> = base.iter().map(|&byte| d_character(byte)).collect();
        let mut extension: Vec<u8> = extension.iter().map(|&byte| d_character(byte)).collect();
        extension.truncate(EXTENSION_MAX);
        self.distinct(&base, FILE_MAX - extension.len(), |base| {
            let mut identifier = base.to_vec();
            identifier.push(b'.');
            identifier.extend_from_slice(&extension);
            identifier.extend_from_slice(b";1");
            identifier
        })
    }

    /// The identifier of a directory.
    pub fn directory(&mut self, name: &[u8]) -> Vec<u8> {
        let base: Vec<u8> = name.iter().map(|&byte| d_character(byte)).collect();
        self.distinct(&base, DIRECTORY_MAX, <[u8]>::to_vec)
    }

    /// The identifier of a directory that was moved, the `number`th.
    pub fn moved(&mut self, name: &[u8], number: u32) -> Vec<u8> {
        let mut base = format!("{number:05}_").into_bytes();
        base.extend(name.iter().map(|&byte| d_character(byte)));
        self.distinct(&base, DIRECTORY_MAX, <[u8]>::to_vec)
    }

    fn distinct(&mut self, base: &[u8], most: usize, join: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let cut = &base[..base.len().min(most)];
        let plain = join(cut);
        if self.used.insert(plain.clone()) {
            return plain;
        }
        // Names that were long are cut further, to make place for a number.
        let count = self.next.entry(plain).or_insert(0);
        loop {
            let number = format!("{count:03}");
            *count += 1;
            let mut numbered = cut[..cut.len().min(most - number.len())].to_vec();
            numbered.extend_from_slice(number.as_bytes());
            let identifier = join(&numbered);
            if self.used.insert(identifier.clone()) {
                return identifier;
            }
        }
    }
}

/// Name and extension: the last dot divides them, unless it comes first.
fn split(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().rposition(|&byte| byte == b'.') {
        Some(0) | None => (name, &[]),
        Some(dot) => (&name[..dot], &name[dot + 1..]),
    }
}

fn d_character(byte: u8) -> u8 {
    match byte.to_ascii_uppercase() {
        byte @ (b'A'..=b'Z' | b'0'..=b'9' | b'_') => byte,
        _ => b'_',
    }
}

/// The key by which identifiers of one directory are sorted (ECMA-119, 9.3): name and extension, each
/// filled up with spaces.
pub fn sort_key(identifier: &[u8]) -> [u8; 2 * DIRECTORY_MAX] {
    let mut key = [b' '; 2 * DIRECTORY_MAX];
    let body = identifier.strip_suffix(b";1").unwrap_or(identifier);
    let (name, extension) = match body.iter().position(|&byte| byte == b'.') {
        Some(dot) => (&body[..dot], &body[dot + 1..]),
        None => (body, &[][..]),
    };
    key[..name.len()].copy_from_slice(name);
    key[DIRECTORY_MAX..DIRECTORY_MAX + extension.len()].copy_from_slice(extension);
    key
}

/// The Joliet names of the entries of one directory, given out in order. No two are the same when case is
/// ignored, as Windows does.
#[derive(Default)]
pub struct JolietNames {
    used: HashSet<Vec<u16>>,
}

impl JolietNames {
    /// The identifier of a file in big-endian UCS-2, with its version.
    pub fn file(&mut self, name: &[u8]) -> Vec<u8> {
        let (base, extension) = split(name);
        let mut extension = if base.len() == name.len() {
            Vec::new()
        } else {
            let mut units = vec![u16::from(b'.')];
            units.extend(ucs2(extension));
            units
        };
        if extension.len() > JOLIET_MAX / 2 {
            extension.truncate(JOLIET_MAX / 2);
        }
        let mut bytes = self.distinct(&ucs2(base), &extension);
        bytes.extend_from_slice(b"\0;\x001");
        bytes
    }

    /// The identifier of a directory.
    pub fn directory(&mut self, name: &[u8]) -> Vec<u8> {
        self.distinct(&ucs2(name), &[])
    }

    fn distinct(&mut self, base: &[u16], extension: &[u16]) -> Vec<u8> {
        let most = JOLIET_MAX - extension.len();
        let mut suffix = String::new();
        let mut count = 0;
        loop {
            let mut units = base[..base.len().min(most - suffix.len())].to_vec();
            units.extend(suffix.encode_utf16());
            units.extend_from_slice(extension);
            let folded: Vec<u16> = String::from_utf16_lossy(&units)
                .to_lowercase()
                .encode_utf16()
                .collect();
            if self.used.insert(folded) {
                return units.iter().flat_map(|unit| unit.to_be_bytes()).collect();
            }
            suffix = format!("~{count}");
            count += 1;
        }
    }
}

/// Text in UCS-2, with `_` for what Joliet does not allow, what UCS-2 does not have and what is no UTF-8.
pub fn ucs2(text: &[u8]) -> Vec<u16> {
    let mut units = Vec::with_capacity(text.len());
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            let refused = character.is_control()
                || matches!(character, '*' | '/' | ':' | ';' | '?' | '\\' | '\u{fffd}');
            units.push(match u16::try_from(u32::from(character)) {
                Ok(unit) if !refused => unit,
                _ => u16::from(b'_'),
            });
        }
        if !chunk.invalid().is_empty() {
            units.push(u16::from(b'_'));
        }
    }
    units
}

/// A text in big-endian UCS-2 as a field of `len` bytes, filled up with spaces.
pub fn joliet_field(text: &str, len: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = ucs2(text.as_bytes())
        .iter()
        .flat_map(|unit| unit.to_be_bytes())
        .collect();
    bytes.truncate(len / 2 * 2);
    while bytes.len() + 1 < len {
        bytes.extend_from_slice(b"\0 ");
    }
    bytes.resize(len, 0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &[u8]) -> String {
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn identifiers() {
        let mut names = Identifiers::default();
        for (name, expected) in [
            ("readme.txt", "README.TXT;1"),
            ("README.TXT", "README000.TXT;1"),
            ("Readme.txt", "README001.TXT;1"),
            ("readme000.txt", "README000000.TXT;1"),
            ("vmlinuz", "VMLINUZ.;1"),
            (".profile", "_PROFILE.;1"),
            ("initramfs-6.12.1.img", "INITRAMFS_6_12_1.IMG;1"),
            ("a.b.c", "A_B.C;1"),
            ("dot.", "DOT.;1"),
            (
                "a-very-long-name-that-does-not-fit-anywhere.conf",
                "A_VERY_LONG_NAME_THAT_DOES.CONF;1",
            ),
            (
                "a-very-long-name-that-does-not-fit-at-all.conf",
                "A_VERY_LONG_NAME_THAT_D000.CONF;1",
            ),
            ("x.an-extension-longer-than-most", "X.AN_EXTENSION_LO;1"),
        ] {
            assert_eq!(text(&names.file(name.as_bytes())), expected);
        }
        assert_eq!(text(&names.file(b"\xff\xfe")), "__.;1");
        let mut names = Identifiers::default();
        assert_eq!(text(&names.directory(b"x86_64.d")), "X86_64_D");
        let long = names.directory(&[b'a'; 200]);
        assert_eq!(long.len(), 31);
        assert_eq!(text(&names.directory(&[b'a'; 201]))[28..], *"000");
    }

    #[test]
    fn many_collisions_take_no_time() {
        let mut names = Identifiers::default();
        let mut joliet = JolietNames::default();
        let mut seen = HashSet::new();
        for number in 0..3000 {
            let name = format!("{}{number}", "same-prefix".repeat(5));
            assert!(seen.insert(names.file(name.as_bytes())));
            joliet.file(name.as_bytes());
        }
        assert!(seen.iter().all(|identifier| identifier.len() <= 33));
    }

    #[test]
    fn the_order_is_by_name_then_extension() {
        let mut identifiers = [
            &b"FOO_BAR.;1"[..],
            b"FOO.B;1",
            b"FOO.A;1",
            b"FOO0.A;1",
            b"FOO.;1",
            b"DIR",
        ];
        identifiers.sort_by_key(|identifier| sort_key(identifier));
        assert_eq!(
            identifiers.map(text),
            ["DIR", "FOO.;1", "FOO.A;1", "FOO.B;1", "FOO0.A;1", "FOO_BAR.;1"]
        );
    }

    #[test]
    fn joliet() {
        let mut names = JolietNames::default();
        let mut file = |name: &[u8]| {
            let bytes = names.file(name);
            let units: Vec<u16> = bytes
                .chunks(2)
                .map(|unit| u16::from_be_bytes([unit[0], unit[1]]))
                .collect();
            String::from_utf16(&units).unwrap()
        };
        assert_eq!(file(b"Read me.txt"), "Read me.txt;1");
        assert_eq!(file(b"READ ME.TXT"), "READ ME~0.TXT;1");
        assert_eq!(file("\u{fc}\u{1f600}".as_bytes()), "\u{fc}_;1");
        assert_eq!(file(b"a:b*c\xff"), "a_b_c_;1");
        let long = file(format!("{}.conf", "n".repeat(100)).as_bytes());
        assert_eq!(long.len(), 66);
        assert!(long.ends_with("n.conf;1"));
        assert!(file(format!("{}.conf", "n".repeat(101)).as_bytes()).ends_with("n~0.conf;1"));
        assert_eq!(joliet_field("Ab", 7), b"\0A\0b\0 \0");
    }
}
