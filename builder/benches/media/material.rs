//! What is worked on: generated roots, and the tree of a folder as a build has it, in a pack.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use lycia_tree::{Device, Metadata, Node, Pack, PackWriter, Timestamp, Tree};
use serde::{Deserialize, Serialize};

/// How large the files of a generated root are.
pub struct Sizes {
    /// Number of files.
    pub files: u64,
    /// Of a hundred files, those that are small, and those that are not large.
    pub parts: (u64, u64),
    /// Most bytes of a small, a middle and a large one.
    pub most: (u64, u64, u64),
}

/// About 600 MB in 30,000 files.
pub const LARGE: Sizes = Sizes {
    files: 29_400,
    parts: (70, 97),
    most: (8 << 10, 40 << 10, 800 << 10),
};

/// About 50 MB, for an EFI system partition of 64.
pub const ESP: Sizes = Sizes {
    files: 300,
    parts: (60, 90),
    most: (64 << 10, 400 << 10, 2 << 20),
};

/// Makes files whose bytes are always the same: text, code, noise, tables, zeros, and some twice.
pub fn generate(root: &Path, sizes: &Sizes) {
    let mut random = Random(0x1234_5678);
    let words: Vec<String> = (0..4000)
        .map(|_| {
            let len = 2 + random.below(9);
            (0..len)
                .map(|_| char::from(b'a' + random.below(26) as u8))
                .collect()
        })
        .collect();
    for number in 0..sizes.files {
        let directory = root.join(format!("{}/{}", number % 20, number / 200));
        fs::create_dir_all(&directory).unwrap();
        // Many small files, some large ones, as in a distribution.
        let (small, middle) = sizes.parts;
        let most = match random.below(100) {
            part if part < small => sizes.most.0,
            part if part < middle => sizes.most.1,
            _ => sizes.most.2,
        };
        let len = random.below(most) as usize;
        let mut bytes = Vec::with_capacity(len + 64);
        let kind = random.below(20);
        while bytes.len() < len {
            match kind {
                0..9 => {
                    // Few words are frequent, as in a language.
                    let rank = random.below(64) * random.below(64);
                    bytes.extend_from_slice(words[rank as usize % words.len()].as_bytes());
                    bytes.push(b' ');
                }
                9..16 => {
                    let opcode = [0x48, 0x89, 0x8b, 0xe8, 0x0f, 0x83][random.below(6) as usize];
                    bytes.push(opcode);
                    bytes.push(random.below(64) as u8);
                    if opcode == 0xe8 {
                        let to = (random.below(200) * 16) as u32;
                        bytes.extend_from_slice(&to.wrapping_sub(bytes.len() as u32).to_le_bytes());
                    }
                }
                16..18 => bytes.extend_from_slice(&random.next().to_le_bytes()),
                18 => bytes.extend_from_slice(&(bytes.len() as u32 / 16 * 3).to_be_bytes()),
                _ => bytes.resize(len, 0),
            }
        }
        fs::write(directory.join(format!("file{number}")), &bytes).unwrap();
        if number % 50 == 0 {
            fs::write(directory.join(format!("copy{number}")), &bytes).unwrap();
        }
    }
}

/// A linear congruential generator: the root must be the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) ^ self.0 << 31
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 8) % limit
    }
}

/// A folder, and its tree as a build has it: contents back to back in a pack, the rest in a list.
pub struct Input {
    /// For the table.
    pub name: &'static str,
    /// The folder, for others' tools.
    pub folder: PathBuf,
    /// Where pack and list are.
    pub prepared: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: Vec<u8>,
    mode: u16,
    owner: (u32, u32),
    mtime: (i64, u32),
    what: What,
}

#[derive(Serialize, Deserialize)]
enum What {
    Directory,
    /// First byte and bytes in the pack.
    File(u64, u64),
    /// Another name of what came before.
    Link(Vec<u8>),
    Symlink(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

const PACK: &str = "pack";
const LIST: &str = "list";

/// Reads `folder` into a pack and a list in `prepared`.
pub fn prepare(folder: &Path, prepared: &Path) {
    fs::create_dir_all(prepared).unwrap();
    let mut pack = PackWriter::new(prepared).unwrap();
    let mut list = BufWriter::new(File::create(prepared.join(LIST)).unwrap());
    let mut known: HashMap<(u64, u64), Vec<u8>> = HashMap::new();
    let mut stack = vec![(folder.to_owned(), Vec::new())];
    while let Some((host, inside)) = stack.pop() {
        let mut entries: Vec<_> = fs::read_dir(&host).unwrap().map(Result::unwrap).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let status = entry.metadata().unwrap();
            let path = [&inside[..], b"/", entry.file_name().as_bytes()].concat();
            let kind = status.file_type();
            let (major, minor) = (
                (status.rdev() >> 8 & 0xfff) as u32,
                (status.rdev() & 0xff | status.rdev() >> 12 & 0xfff00) as u32,
            );
            let what = if kind.is_dir() {
                stack.push((entry.path(), path.clone()));
                What::Directory
            } else if kind.is_file() {
                match known.get(&(status.dev(), status.ino())) {
                    Some(first) => What::Link(first.clone()),
                    None => {
                        let offset = pack.position();
                        std::io::copy(&mut File::open(entry.path()).unwrap(), &mut pack).unwrap();
                        known.insert((status.dev(), status.ino()), path.clone());
                        What::File(offset, pack.position() - offset)
                    }
                }
            } else if kind.is_symlink() {
                What::Symlink(fs::read_link(entry.path()).unwrap().into_os_string().into_vec())
            } else if kind.is_char_device() {
                What::Char(major, minor)
            } else if kind.is_block_device() {
                What::Block(major, minor)
            } else if kind.is_fifo() {
                What::Fifo
            } else {
                What::Socket
            };
            let line = Line {
                path,
                mode: (status.mode() & 0o7777) as u16,
                owner: (status.uid(), status.gid()),
                mtime: (status.mtime(), status.mtime_nsec() as u32),
                what,
            };
            serde_json::to_writer(&mut list, &line).unwrap();
            list.write_all(b"\n").unwrap();
        }
    }
    list.flush().unwrap();
    pack.persist(PACK).unwrap();
}

/// The tree that was prepared.
pub fn tree(prepared: &Path) -> Tree {
    let pack = prepared.join(PACK);
    let pack = Pack::open(&pack, pack.metadata().unwrap().len()).unwrap();
    let mut tree = Tree::new(Metadata::new(0o755, Timestamp::from_seconds(1_600_000_000)));
    for line in BufReader::new(File::open(prepared.join(LIST)).unwrap()).lines() {
        let line: Line = serde_json::from_str(&line.unwrap()).unwrap();
        let time = Timestamp {
            seconds: line.mtime.0,
            nanoseconds: line.mtime.1,
        };
        let metadata = Metadata::new(line.mode, time).owned_by(line.owner.0, line.owner.1);
        let device = |major, minor| Device { major, minor };
        let node = match line.what {
            What::Directory => {
                tree.make_directory(&line.path, metadata).unwrap();
                continue;
            }
            What::Link(first) => {
                let id = tree.find(&first, lycia_tree::Follow::Parents).unwrap().unwrap();
                tree.link(id, &line.path).unwrap();
                continue;
            }
            What::File(offset, len) => Node::Regular(pack.range(offset, len).unwrap()),
            What::Symlink(target) => Node::Symlink(target),
            What::Char(major, minor) => Node::CharDevice(device(major, minor)),
            What::Block(major, minor) => Node::BlockDevice(device(major, minor)),
            What::Fifo => Node::Fifo,
            What::Socket => Node::Socket,
        };
        tree.insert(&line.path, metadata, node).unwrap();
    }
    tree
}
