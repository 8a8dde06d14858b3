//! The strings of a database: each ends with a zero byte, and one that is there already, or is the tail of
//! one that is, is not stored again.
//!
//! Which of several equal tails is taken decides about the bytes of the file, so the search is that of
//! systemd's string buffer: strings hang in a trie of their letters from the end, each at the first place
//! that was free when it came.

/// All strings so far, and where to look for them.
pub struct Strings {
    bytes: Vec<u8>,
    nodes: Vec<Node>,
}

#[derive(Default)]
struct Node {
    /// Where the string of the node is.
    offset: u32,
    len: u32,
    /// By letter.
    children: Vec<(u8, u32)>,
}

impl Strings {
    pub fn new() -> Strings {
        Strings {
            bytes: vec![0],
            nodes: vec![Node::default()],
        }
    }

    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The string at an offset, without its zero.
    pub fn at(&self, offset: u32) -> &[u8] {
        let rest = &self.bytes[offset as usize..];
        let len = rest.iter().position(|&byte| byte == 0).unwrap_or(rest.len());
        &rest[..len]
    }

    /// The offset of a string without zero bytes, which is added if it is not there.
    pub fn add(&mut self, text: &[u8]) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let mut here = 0;
        for (depth, letter) in text.iter().rev().copied().enumerate() {
            let node = &self.nodes[here];
            let end = (node.offset + node.len) as usize;
            if node.len as usize >= text.len() && self.bytes[end - text.len()..end] == *text {
                return (end - text.len()) as u32;
            }
            match node.children.binary_search_by_key(&letter, |child| child.0) {
                // All letters are on the way: whatever is below ends with the text.
                Ok(at) if depth + 1 == text.len() => {
                    let node = &self.nodes[node.children[at].1 as usize];
                    return node.offset + node.len - text.len() as u32;
                }
                Ok(at) => here = node.children[at].1 as usize,
                Err(at) => {
                    let child = self.nodes.len() as u32;
                    let offset = self.bytes.len() as u32;
                    self.nodes[here].children.insert(at, (letter, child));
                    self.bytes.extend_from_slice(text);
                    self.bytes.push(0);
                    self.nodes.push(Node {
                        offset,
                        len: text.len() as u32,
                        children: Vec::new(),
                    });
                    return offset;
                }
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tails_are_shared() {
        let mut strings = Strings::new();
        assert_eq!(strings.add(b"waldo"), 1);
        assert_eq!(strings.add(b"foo"), 7);
        assert_eq!(strings.add(b"bar"), 11);
        for (text, offset) in [
            (b"waldo".as_slice(), 1),
            (b"aldo", 2),
            (b"o", 5),
            (b"oo", 8),
            (b"", 0),
        ] {
            assert_eq!(strings.add(text), offset);
        }
        assert_eq!(strings.bytes(), b"\0waldo\0foo\0bar\0");
        assert_eq!(strings.at(3), b"ldo");
    }

    proptest::proptest! {
        #[test]
        fn what_was_added_is_there(texts in proptest::collection::vec("[ab]{0,5}", 0..40)) {
            let mut strings = Strings::new();
            let offsets: Vec<u32> = texts.iter().map(|text| strings.add(text.as_bytes())).collect();
            for (text, offset) in texts.iter().zip(offsets) {
                proptest::prop_assert_eq!(strings.at(offset), text.as_bytes());
                let len = strings.bytes().len();
                strings.add(text.as_bytes());
                proptest::prop_assert_eq!(strings.bytes().len(), len);
            }
        }
    }
}
