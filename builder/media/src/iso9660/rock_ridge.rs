//! System use entries: SUSP (IEEE P1281) and Rock Ridge (IEEE P1282).

use super::BLOCK;
use super::field::both_32;

/// Bytes of a CE entry, which leads to more entries elsewhere.
const CE_LEN: usize = 28;
/// The most bytes of one entry.
const ENTRY_MAX: usize = 255;

/// The texts of the extension reference are the specification's (P1282, 4.3).
const ER_ID: &[u8] = b"IEEE_P1282";
const ER_DESCRIPTOR: &[u8] = b"THE IEEE P1282 PROTOCOL PROVIDES SUPPORT FOR POSIX FILE SYSTEM SEMANTICS.";
const ER_SOURCE: &[u8] =
    b"PLEASE CONTACT THE IEEE STANDARDS DEPARTMENT, PISCATAWAY, NJ, USA FOR THE P1282 SPECIFICATION.";

fn entry(signature: &[u8; 2], body: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 + body.len());
    bytes.extend_from_slice(signature);
    bytes.push((4 + body.len()) as u8);
    bytes.push(1);
    bytes.extend_from_slice(body);
    bytes
}

/// Marks the root's first record: SUSP is in use, and entries begin right behind the identifier.
pub fn sp() -> Vec<u8> {
    entry(b"SP", &[0xbe, 0xef, 0])
}

/// Names the extension in use.
pub fn er() -> Vec<u8> {
    let lengths = [ER_ID.len(), ER_DESCRIPTOR.len(), ER_SOURCE.len()].map(|len| len as u8);
    let mut body = lengths.to_vec();
    body.push(1);
    for text in [ER_ID, ER_DESCRIPTOR, ER_SOURCE] {
        body.extend_from_slice(text);
    }
    entry(b"ER", &body)
}

/// Mode, links, owners and serial number.
pub fn px(mode: u32, links: u32, uid: u32, gid: u32, serial: u32) -> Vec<u8> {
    let mut body = Vec::with_capacity(40);
    for value in [mode, links, uid, gid, serial] {
        body.extend_from_slice(&both_32(value));
    }
    entry(b"PX", &body)
}

/// Times of modification, access and attribute change: all the same.
pub fn tf(date: [u8; 7]) -> Vec<u8> {
    let mut body = vec![0x0e];
    for _ in 0..3 {
        body.extend_from_slice(&date);
    }
    entry(b"TF", &body)
}

/// A device number; `None` for what readers would take for another. Linux takes a number without its high
/// half for a major number above 8 bits of minor number, and what mkisofs and libisofs write is that.
pub fn pn(major: u32, minor: u32) -> Option<Vec<u8>> {
    let (high, low) = match (major, minor) {
        (0..0x0100_0000, 0..=0xff) => (0, major << 8 | minor),
        (0, _) => return None,
        split => split,
    };
    let mut body = both_32(high).to_vec();
    body.extend_from_slice(&both_32(low));
    Some(entry(b"PN", &body))
}

/// Reads the halves of [`pn`], as Linux does.
pub fn device(high: u32, low: u32) -> (u32, u32) {
    match high {
        0 => (low >> 8, low & 0xff),
        _ => (high, low),
    }
}

/// A name, in as many entries as it takes.
pub fn nm(name: &[u8]) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    let mut chunks = name.chunks(ENTRY_MAX - 5).peekable();
    while let Some(chunk) = chunks.next() {
        let mut body = vec![u8::from(chunks.peek().is_some())];
        body.extend_from_slice(chunk);
        entries.push(entry(b"NM", &body));
    }
    entries
}

/// The text of a symbolic link, in as many entries as it takes.
///
/// Where an entry ends, Linux puts a slash if a component ends there too and libarchive does not. Entries
/// are therefore made to end inside of a component, unless those around the end are too short for it.
pub fn sl(target: &[u8]) -> Vec<Vec<u8>> {
    const CONTINUE: u8 = 1;
    const CURRENT: u8 = 2;
    const PARENT: u8 = 4;
    const ROOT: u8 = 8;
    /// Component bytes of one entry.
    const ROOM: usize = ENTRY_MAX - 5;
    /// Bytes before a component's text, and the least that can be begun.
    const HEAD: usize = 2;
    const LEAST: usize = HEAD + 1;
    let mut components: Vec<(u8, &[u8])> = Vec::new();
    let rest = match target.strip_prefix(b"/") {
        Some(rest) => {
            components.push((ROOT, b""));
            rest
        }
        None => target,
    };
    // The root alone has nothing behind it; otherwise empty components keep doubled slashes.
    if !(rest.is_empty() && components.len() == 1) {
        components.extend(rest.split(|&byte| byte == b'/').map(|part| match part {
            b"." => (CURRENT, &b""[..]),
            b".." => (PARENT, &b""[..]),
            part => (0, part),
        }));
    }
    let mut full: Vec<Vec<u8>> = Vec::new();
    let mut body: Vec<u8> = Vec::new();
    for (index, &(flags, mut text)) in components.iter().enumerate() {
        // What must follow in the same entry for it to end inside of a component.
        let behind = &components[index + 1..];
        let fixed = behind.iter().take_while(|(_, text)| text.is_empty()).count();
        let follow = HEAD * fixed + if fixed < behind.len() { LEAST } else { 0 };
        loop {
            let room = ROOM - body.len();
            let whole = HEAD + text.len();
            if whole + follow <= room || (text.len() < 2 && whole <= room) {
                body.extend_from_slice(&[flags, text.len() as u8]);
                body.extend_from_slice(text);
                break;
            }
            let take = text.len().saturating_sub(1).min(room.saturating_sub(HEAD));
            if take > 0 {
                body.extend_from_slice(&[CONTINUE, take as u8]);
                body.extend_from_slice(&text[..take]);
                text = &text[take..];
            }
            full.push(std::mem::take(&mut body));
        }
    }
    full.push(body);
    let last = full.len() - 1;
    let bodies = full.into_iter().enumerate().map(|(index, components)| {
        let mut body = vec![if index < last { CONTINUE } else { 0 }];
        body.extend(components);
        entry(b"SL", &body)
    });
    bodies.collect()
}

/// Stands for a directory that was moved: where it is.
pub fn cl(block: u32) -> Vec<u8> {
    entry(b"CL", &both_32(block))
}

/// In the `..` of a directory that was moved: where its parent is.
pub fn pl(block: u32) -> Vec<u8> {
    entry(b"PL", &both_32(block))
}

/// Marks a directory that was moved here.
pub fn re() -> Vec<u8> {
    entry(b"RE", &[])
}

/// Entries that did not fit their records: the continuation area of a directory, which follows it.
pub struct Continuation {
    /// The block where the area begins.
    block: u32,
    bytes: Vec<u8>,
}

impl Continuation {
    pub fn new(block: u32) -> Continuation {
        Continuation {
            block,
            bytes: Vec::new(),
        }
    }

    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Puts `entries` into a record that has room for `capacity` bytes of them, as far as they go, and the
    /// rest here. Returns what goes into the record.
    pub fn place(&mut self, entries: &[Vec<u8>], capacity: usize) -> Vec<u8> {
        let all: usize = entries.iter().map(Vec::len).sum();
        if all <= capacity {
            return entries.concat();
        }
        let mut placed = Vec::with_capacity(capacity);
        let mut taken = 0;
        while taken < entries.len() && placed.len() + entries[taken].len() + CE_LEN <= capacity {
            placed.extend_from_slice(&entries[taken]);
            taken += 1;
        }
        let rest = &entries[taken..];
        // Linux wants an area within one block.
        let len = rest.iter().map(Vec::len).sum::<usize>();
        let len_here = len.min(BLOCK as usize);
        let in_block = self.bytes.len() % BLOCK as usize;
        if in_block + len_here > BLOCK as usize || len > BLOCK as usize {
            self.bytes
                .resize(self.bytes.len().next_multiple_of(BLOCK as usize), 0);
        }
        let start = self.bytes.len();
        let area = if len <= BLOCK as usize {
            self.bytes.resize(start + len, 0);
            rest.concat()
        } else {
            // This area takes its block; what follows goes behind.
            self.bytes.resize(start + BLOCK as usize, 0);
            self.place(rest, BLOCK as usize)
        };
        self.bytes[start..start + area.len()].copy_from_slice(&area);
        let block = self.block + (start as u64 / BLOCK) as u32;
        let mut body = both_32(block).to_vec();
        body.extend_from_slice(&both_32((start as u64 % BLOCK) as u32));
        body.extend_from_slice(&both_32(area.len() as u32));
        placed.extend_from_slice(&entry(b"CE", &body));
        placed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_cut_into_components() {
        let bodies = |target: &[u8]| sl(target).concat();
        assert_eq!(bodies(b"/"), b"SL\x07\x01\0\x08\0");
        assert_eq!(bodies(b"a"), b"SL\x08\x01\0\0\x01a");
        assert_eq!(bodies(b"./../a"), b"SL\x0c\x01\0\x02\0\x04\0\0\x01a");
        assert_eq!(bodies(b"/a//b"), b"SL\x0f\x01\0\x08\0\0\x01a\0\0\0\x01b");
        assert_eq!(bodies(b"a/"), b"SL\x0a\x01\0\0\x01a\0\0");
        for len in [1, 246, 247, 248, 249, 250, 255, 500, 4095] {
            let entries = sl(&vec![b'x'; len]);
            assert!(
                entries
                    .iter()
                    .all(|entry| entry.len() <= 255 && entry[2] as usize == entry.len())
            );
            let (last, others) = entries.split_last().unwrap();
            assert_eq!(last[4], 0);
            assert!(others.iter().all(|entry| entry[4] == 1));
        }
        // Nothing but components that cannot be cut.
        let entries = sl(&b"../".repeat(200));
        assert_eq!(entries.iter().map(|entry| entry.len() - 5).sum::<usize>(), 402);
        assert!(entries.iter().all(|entry| entry.len() <= 255));
    }

    #[test]
    fn devices() {
        for (major, minor) in [(0, 0), (0, 255), (1, 3), (259, 255), (259, 256), (4095, 0xf_ffff)] {
            let bytes = pn(major, minor).unwrap();
            let half = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
            assert_eq!(device(half(4), half(12)), (major, minor));
        }
        assert_eq!(pn(0, 256), None);
    }

    #[test]
    fn names_are_cut() {
        assert_eq!(nm(b"a"), [b"NM\x06\x01\0a".to_vec()]);
        let long = nm(&[b'x'; 255]);
        assert_eq!(long.iter().map(Vec::len).collect::<Vec<_>>(), [255, 10]);
        assert_eq!((long[0][4], long[1][4]), (1, 0));
    }

    #[test]
    fn continuations_stay_within_blocks() {
        let mut area = Continuation::new(100);
        // Nothing needed.
        assert_eq!(area.place(&[vec![1; 50]], 50).len(), 50);
        assert!(area.bytes.is_empty());
        // One entry stays, the other goes.
        let placed = area.place(&[vec![1; 50], vec![2; 200]], 100);
        assert_eq!(placed.len(), 50 + CE_LEN);
        assert_eq!(&placed[50..52], b"CE");
        assert_eq!(placed[54..58], 100u32.to_le_bytes());
        assert_eq!(placed[62..66], 0u32.to_le_bytes());
        assert_eq!(placed[70..74], 200u32.to_le_bytes());
        // Does not fit behind the first.
        let placed = area.place(&vec![vec![3; 250]; 8], 30);
        assert_eq!(placed[4..8], 101u32.to_le_bytes());
        // Takes several blocks, each but the last ending in another CE.
        let entries = vec![vec![4; 250]; 20];
        let placed = area.place(&entries, 30);
        assert_eq!(placed[4..8], 102u32.to_le_bytes());
        let bytes = area.into_bytes();
        let first = &bytes[2 * 2048..3 * 2048];
        assert_eq!(&first[2000..2002], b"CE");
        assert_eq!(first[2004..2008], 103u32.to_le_bytes());
        assert_eq!(bytes.iter().filter(|&&byte| byte == 4).count(), 5000);
    }
}
