//! kmod's binary indexes (`modules.*.bin`; libkmod's index format, version 2.1): a trie of keys with
//! compressed paths, whose nodes hold values by priority.
//!
//! A file is a magic number, a version, the offset of the root, and the nodes, children before their parent;
//! all numbers are big endian. The upper four bits of an offset say what its node has: a prefix, a table of
//! children, values.

use std::collections::BTreeMap;

const MAGIC: u32 = 0xb007_f457;
const VERSION: u32 = 0x0002_0001;
const PREFIX: u32 = 0x8000_0000;
const VALUES: u32 = 0x4000_0000;
const CHILDREN: u32 = 0x2000_0000;
/// Largest file: offsets have 28 bits.
const SIZE_MAX: usize = 0x0fff_ffff;
/// Longest key, in bytes. libkmod reads keys into a buffer of PATH_MAX.
pub const KEY_MAX: usize = 4095;

#[derive(Default)]
struct Node {
    prefix: Vec<u8>,
    children: BTreeMap<u8, usize>,
    /// By priority; the last that came is the first of its priority.
    values: Vec<(u32, String)>,
}

/// An index that is being made.
pub struct Index {
    /// The root is the first, and has no prefix.
    nodes: Vec<Node>,
}

impl Index {
    pub fn new() -> Index {
        Index {
            nodes: vec![Node::default()],
        }
    }

    /// Adds a value. Keys and values that the format cannot hold are refused with the reason.
    pub fn insert(&mut self, key: &str, value: &str, priority: u32) -> Result<(), &'static str> {
        let held = |byte: u8| byte.is_ascii() && byte != 0;
        if !key.bytes().chain(value.bytes()).all(held) {
            return Err("holds a byte that is not ASCII");
        }
        if key.len() > KEY_MAX {
            return Err("is longer than 4095 bytes");
        }
        let mut rest = key.as_bytes();
        let mut here = 0;
        loop {
            let prefix = &self.nodes[here].prefix;
            let shared = prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if shared < prefix.len() {
                self.split(here, shared);
            }
            let Some((&letter, after)) = rest[shared..].split_first() else {
                let values = &mut self.nodes[here].values;
                let at = values.partition_point(|(other, _)| *other < priority);
                values.insert(at, (priority, value.to_owned()));
                return Ok(());
            };
            rest = after;
            here = match self.nodes[here].children.get(&letter) {
                Some(&child) => child,
                None => {
                    let child = self.nodes.len();
                    self.nodes.push(Node {
                        prefix: rest.to_vec(),
                        ..Node::default()
                    });
                    self.nodes[here].children.insert(letter, child);
                    child
                }
            };
        }
    }

    /// Moves what a node has below `at` bytes of its prefix into a child.
    fn split(&mut self, here: usize, at: usize) {
        let child = self.nodes.len();
        let node = std::mem::take(&mut self.nodes[here]);
        let letter = node.prefix[at];
        self.nodes[here].prefix = node.prefix[..at].to_vec();
        self.nodes[here].children.insert(letter, child);
        self.nodes.push(Node {
            prefix: node.prefix[at + 1..].to_vec(),
            ..node
        });
    }

    /// The file.
    pub fn write(&self) -> Result<Vec<u8>, &'static str> {
        let mut out = Vec::new();
        for number in [MAGIC, VERSION, 0] {
            out.extend(number.to_be_bytes());
        }
        let root = self.write_node(0, &mut out)?;
        out[8..12].copy_from_slice(&root.to_be_bytes());
        Ok(out)
    }

    /// Writes a node below its children; as deep as keys are long. Gives its offset with flags.
    fn write_node(&self, at: usize, out: &mut Vec<u8>) -> Result<u32, &'static str> {
        let node = &self.nodes[at];
        let mut offsets = Vec::with_capacity(node.children.len());
        for &child in node.children.values() {
            offsets.push(self.write_node(child, out)?);
        }
        let here = out.len();
        if here > SIZE_MAX {
            return Err("the index is larger than 256 MiB");
        }
        let mut offset = here as u32;
        if !node.prefix.is_empty() {
            out.extend_from_slice(&node.prefix);
            out.push(0);
            offset |= PREFIX;
        }
        if let (Some((&first, _)), Some((&last, _))) =
            (node.children.first_key_value(), node.children.last_key_value())
        {
            out.extend([first, last]);
            let mut offsets = offsets.into_iter();
            for letter in first..=last {
                let child = match node.children.contains_key(&letter) {
                    true => offsets.next().unwrap_or(0),
                    false => 0,
                };
                out.extend(child.to_be_bytes());
            }
            offset |= CHILDREN;
        }
        if !node.values.is_empty() {
            out.extend((node.values.len() as u32).to_be_bytes());
            for (priority, value) in &node.values {
                out.extend(priority.to_be_bytes());
                out.extend_from_slice(value.as_bytes());
                out.push(0);
            }
            offset |= VALUES;
        }
        Ok(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads an index as libkmod's walk does: all keys with their values.
    fn read(file: &[u8]) -> Vec<(String, u32, String)> {
        let number = |at: usize| u32::from_be_bytes(file[at..at + 4].try_into().unwrap());
        assert_eq!((number(0), number(4)), (MAGIC, VERSION));
        let text = |at: &mut usize| {
            let len = file[*at..].iter().position(|&byte| byte == 0).unwrap();
            let text = String::from_utf8(file[*at..*at + len].to_vec()).unwrap();
            *at += len + 1;
            text
        };
        let mut found = Vec::new();
        let mut stack = vec![(number(8), String::new())];
        while let Some((offset, mut key)) = stack.pop() {
            let mut at = (offset & 0x0fff_ffff) as usize;
            if offset & PREFIX != 0 {
                key += &text(&mut at);
            }
            if offset & CHILDREN != 0 {
                let (first, last) = (file[at], file[at + 1]);
                at += 2;
                for letter in first..=last {
                    if number(at) != 0 {
                        stack.push((number(at), format!("{key}{}", char::from(letter))));
                    }
                    at += 4;
                }
            }
            if offset & VALUES != 0 {
                let count = number(at);
                at += 4;
                for _ in 0..count {
                    let priority = number(at);
                    at += 4;
                    found.push((key.clone(), priority, text(&mut at)));
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn bytes_of_a_small_index() {
        let mut index = Index::new();
        index.insert("ab", "x", 1).unwrap();
        index.insert("ad", "y", 0).unwrap();
        let file = [
            // magic, version, root with children
            b"\xb0\x07\xf4\x57\0\x02\0\x01\x20\0\0\x2e".as_slice(),
            // b and d: one value each
            b"\0\0\0\x01\0\0\0\x01x\0\0\0\0\x01\0\0\0\0y\0",
            // a: children from b to d, without c
            b"bd\x40\0\0\x0c\0\0\0\0\x40\0\0\x16",
            // the root: children from a to a
            b"aa\x20\0\0\x20",
        ];
        assert_eq!(index.write().unwrap(), file.concat());
    }

    #[test]
    fn what_cannot_be_held_is_refused() {
        let mut index = Index::new();
        assert!(index.insert("\u{e9}", "", 0).is_err());
        assert!(index.insert("a", "\0", 0).is_err());
        assert!(index.insert(&"a".repeat(KEY_MAX + 1), "", 0).is_err());
        for len in 0..=KEY_MAX {
            index.insert(&"a".repeat(len), "", 0).unwrap();
        }
        assert_eq!(read(&index.write().unwrap()).len(), KEY_MAX + 1);
    }

    proptest::proptest! {
        #[test]
        fn what_was_put_in_is_found(
            mut entries in proptest::collection::vec(("[ab]{0,4}|[ -~]{0,6}", 0u32..4, "[a-z]{0,3}"), 0..40)
        ) {
            let mut index = Index::new();
            for (key, priority, value) in &entries {
                index.insert(key, value, *priority).unwrap();
            }
            let file = index.write().unwrap();
            entries.sort();
            proptest::prop_assert_eq!(read(&file), entries);
        }
    }
}
