//! The trie of patterns, and the file it makes.

use super::strings::Strings;

const SIGNATURE: &[u8] = b"KSLPHHRH";
/// The version of systemd whose output this is. Readers do not look at it.
const TOOL_VERSION: u64 = 252;
const HEADER: u64 = 80;
const NODE: u64 = 24;
const CHILD: u64 = 16;
const VALUE: u64 = 32;

/// A property of a pattern.
pub struct Property<'a> {
    /// With a blank before it, which says that it is a property of udev's.
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// The file that it is from.
    pub file: &'a [u8],
    /// The line there.
    pub line: u32,
    /// The file's place: later ones win.
    pub priority: u16,
}

#[derive(Clone, Copy)]
struct Value {
    key: u32,
    value: u32,
    file: u32,
    line: u32,
    priority: u16,
}

#[derive(Default)]
struct Node {
    /// Where the letters that all below it share are.
    prefix: u32,
    /// By letter.
    children: Vec<(u8, u32)>,
    /// By key.
    values: Vec<Value>,
}

/// Most properties of all patterns together: ten times what there is.
const VALUES_MAX: usize = 4_000_000;

/// All patterns so far.
pub struct Trie {
    /// The root is the first.
    nodes: Vec<Node>,
    strings: Strings,
    inserted: usize,
}

impl Trie {
    pub fn new() -> Trie {
        Trie {
            nodes: vec![Node::default()],
            strings: Strings::new(),
            inserted: 0,
        }
    }

    /// Adds a property to a pattern; of several with one key the last counts. Says whether there was room.
    #[must_use]
    pub fn insert(&mut self, pattern: &[u8], property: &Property<'_>) -> bool {
        self.inserted += 1;
        if self.inserted > VALUES_MAX {
            return false;
        }
        let mut rest = pattern;
        let mut here = 0;
        loop {
            let prefix = self.strings.at(self.nodes[here].prefix);
            let shared = prefix.iter().zip(rest).take_while(|(a, b)| a == b).count();
            if shared < prefix.len() {
                self.split(here, shared);
            }
            let Some((&letter, after)) = rest[shared..].split_first() else {
                self.add_value(here, property);
                return true;
            };
            rest = after;
            here = match self.nodes[here]
                .children
                .binary_search_by_key(&letter, |child| child.0)
            {
                Ok(at) => self.nodes[here].children[at].1 as usize,
                Err(at) => {
                    let prefix = self.strings.add(rest);
                    let child = self.nodes.len();
                    self.nodes.push(Node {
                        prefix,
                        ..Node::default()
                    });
                    self.nodes[here].children.insert(at, (letter, child as u32));
                    self.add_value(child, property);
                    return true;
                }
            };
        }
    }

    /// Moves what a node has below `at` letters of its prefix into a child.
    fn split(&mut self, here: usize, at: usize) {
        let node = std::mem::take(&mut self.nodes[here]);
        let prefix = self.strings.at(node.prefix);
        let letter = prefix[at];
        let kept = prefix[..at].to_vec();
        self.nodes[here].prefix = self.strings.add(&kept);
        let child = self.nodes.len() as u32;
        self.nodes[here].children.push((letter, child));
        // The end of a string is a string.
        self.nodes.push(Node {
            prefix: node.prefix + at as u32 + 1,
            ..node
        });
    }

    fn add_value(&mut self, here: usize, property: &Property<'_>) {
        let value = Value {
            key: self.strings.add(property.key),
            value: self.strings.add(property.value),
            file: self.strings.add(property.file),
            line: property.line,
            priority: property.priority,
        };
        let strings = &self.strings;
        let values = &mut self.nodes[here].values;
        match values.binary_search_by(|other| strings.at(other.key).cmp(property.key)) {
            // The key stays the one that was there.
            Ok(at) => {
                values[at] = Value {
                    key: values[at].key,
                    ..value
                }
            }
            Err(at) => values.insert(at, value),
        }
    }

    /// The file.
    pub fn write(&self) -> Vec<u8> {
        let size = |node: &Node| NODE + CHILD * node.children.len() as u64 + VALUE * node.values.len() as u64;
        let nodes_len: u64 = self.nodes.iter().map(size).sum();
        let strings_at = HEADER + nodes_len;
        let strings = self.strings.bytes();
        let file_size = strings_at + strings.len() as u64;
        let mut out = Vec::with_capacity(file_size as usize);
        out.resize(HEADER as usize, 0);
        let text = |offset: u32| (strings_at + u64::from(offset)).to_le_bytes();
        // Children before their parent, with the way from the root instead of the native stack.
        let mut places = vec![0_u64; self.nodes.len()];
        let mut way = vec![(0_usize, 0_usize)];
        while let Some((at, next)) = way.pop() {
            let node = &self.nodes[at];
            if let Some(&(_, child)) = node.children.get(next) {
                way.push((at, next + 1));
                way.push((child as usize, 0));
                continue;
            }
            places[at] = out.len() as u64;
            out.extend(text(node.prefix));
            out.extend((node.children.len() as u64).to_le_bytes());
            out.extend((node.values.len() as u64).to_le_bytes());
            for &(letter, child) in &node.children {
                out.extend(u64::from(letter).to_le_bytes());
                out.extend(places[child as usize].to_le_bytes());
            }
            for value in &node.values {
                out.extend([text(value.key), text(value.value), text(value.file)].as_flattened());
                out.extend(value.line.to_le_bytes());
                out.extend(value.priority.to_le_bytes());
                out.extend([0; 2]);
            }
        }
        out.extend_from_slice(strings);
        let numbers = [
            TOOL_VERSION,
            file_size,
            HEADER,
            NODE,
            CHILD,
            VALUE,
            places[0],
            nodes_len,
            strings.len() as u64,
        ];
        out[..8].copy_from_slice(SIGNATURE);
        for (number, place) in numbers.iter().zip(out[8..].chunks_exact_mut(8)) {
            place.copy_from_slice(&number.to_le_bytes());
        }
        out
    }
}
