//! What the benchmarks share: a generated root, the tree of a directory, and measuring.

// Every benchmark includes this module and uses its own part.
#![allow(dead_code)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lycia_tree::{Content, Device, Metadata, Node, Pack, PackWriter, Timestamp, Tree};

/// Time, processors' time, memory and size of one of two competitors.
#[derive(Default)]
pub struct Measured {
    /// By the clock.
    pub time: Duration,
    /// Time on processors, in hundredths of a second.
    pub processors: u64,
    /// Highest anonymous memory, in KiB.
    pub memory: u64,
    /// Bytes of the result.
    pub bytes: u64,
}

impl Measured {
    /// Takes what is better of either.
    pub fn keep_best(&mut self, other: Measured) {
        if self.time.is_zero() || other.time < self.time {
            self.time = other.time;
        }
        if self.processors == 0 || other.processors < self.processors {
            self.processors = other.processors;
        }
        self.memory = self.memory.max(other.memory);
    }

    /// A line of the table.
    pub fn print(&self, name: &str) {
        println!(
            "{name:12}  {:7.2}     {:7.2} {:12}      {:10.1}",
            self.time.as_secs_f64(),
            self.processors as f64 / 100.0,
            self.bytes,
            self.memory as f64 / 1024.0
        );
    }
}

/// Runs `work` and samples the memory of a process meanwhile, above what it had before if it is this one.
pub fn measure(process: u32, work: impl FnOnce()) -> Measured {
    let own = process == std::process::id();
    let before = if own { anonymous(process) } else { 0 };
    let stop = Arc::new(AtomicBool::new(false));
    let sampler = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || {
            let mut most = 0;
            while !stop.load(Ordering::Relaxed) {
                most = most.max(anonymous(process));
                std::thread::sleep(Duration::from_millis(10));
            }
            most
        }
    });
    let ticks = processor_ticks().0;
    let started = Instant::now();
    work();
    let time = started.elapsed();
    let processors = processor_ticks().0 - ticks;
    stop.store(true, Ordering::Relaxed);
    Measured {
        time,
        processors,
        memory: sampler.join().unwrap().saturating_sub(before),
        bytes: 0,
    }
}

/// Runs a program to its end and measures it.
pub fn run(command: &mut Command) -> Measured {
    let name = command.get_program().to_string_lossy().into_owned();
    let before = processor_ticks().1;
    let started = Instant::now();
    let mut child = command
        .spawn()
        .unwrap_or_else(|error| panic!("{name} cannot be run: {error}"));
    let id = child.id();
    let mut measured = measure(id, || assert!(child.wait().unwrap().success(), "{name}"));
    measured.time = started.elapsed();
    measured.processors = processor_ticks().1 - before;
    measured
}

/// The table of both, and how they compare: below 1 the first is better.
pub fn compare(ours: (&str, &Measured), theirs: (&str, &Measured)) {
    println!("              seconds  processors        bytes   MiB anonymous");
    ours.1.print(ours.0);
    theirs.1.print(theirs.0);
    let (ours, theirs) = (ours.1, theirs.1);
    println!(
        "ratio         {:7.3}     {:7.3}      {:7.4}      {:10.3}",
        ours.time.as_secs_f64() / theirs.time.as_secs_f64(),
        ours.processors as f64 / theirs.processors as f64,
        ours.bytes as f64 / theirs.bytes as f64,
        ours.memory as f64 / theirs.memory as f64
    );
}

/// Ticks of this process on processors, and of its children that have ended (`proc(5)`, fields 14 to 17).
pub fn processor_ticks() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap()
        .split_whitespace()
        .skip(11)
        .take(4)
        .map(|field| field.parse().unwrap())
        .collect();
    (fields[0] + fields[1], fields[2] + fields[3])
}

fn anonymous(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("RssAnon:"))
        .and_then(|line| line.trim().strip_suffix(" kB"))
        .and_then(|number| number.parse().ok())
        .unwrap_or(0)
}

/// The tree of a host directory, with all contents in one pack.
pub fn read_tree(root: &Path, scratch: &Path) -> Tree {
    let mut pack = PackWriter::new(scratch).unwrap();
    let mut tree = Tree::new(metadata_of(&fs::metadata(root).unwrap()));
    let mut ranges = Vec::new();
    let mut stack = vec![(root.to_owned(), b"/".to_vec())];
    while let Some((host, inside)) = stack.pop() {
        for entry in fs::read_dir(&host).unwrap() {
            let entry = entry.unwrap();
            let status = entry.metadata().unwrap();
            let mut path = inside.clone();
            path.push(b'/');
            path.extend_from_slice(entry.file_name().as_bytes());
            let metadata = metadata_of(&status);
            let kind = status.file_type();
            let device = Device {
                major: (status.rdev() >> 8 & 0xfff) as u32,
                minor: (status.rdev() & 0xff | status.rdev() >> 12 & 0xfff00) as u32,
            };
            let node = if kind.is_dir() {
                tree.make_directory(&path, metadata).unwrap();
                stack.push((entry.path(), path));
                continue;
            } else if kind.is_file() {
                let offset = pack.position();
                std::io::copy(&mut File::open(entry.path()).unwrap(), &mut pack).unwrap();
                ranges.push((
                    path,
                    metadata,
                    offset,
                    pack.position() - offset,
                    (status.dev(), status.ino()),
                ));
                continue;
            } else if kind.is_symlink() {
                Node::Symlink(
                    fs::read_link(entry.path())
                        .unwrap()
                        .as_os_str()
                        .as_bytes()
                        .to_vec(),
                )
            } else if kind.is_char_device() {
                Node::CharDevice(device)
            } else if kind.is_block_device() {
                Node::BlockDevice(device)
            } else if kind.is_fifo() {
                Node::Fifo
            } else {
                Node::Socket
            };
            tree.insert(&path, metadata, node).unwrap();
        }
    }
    let len = pack.position();
    let pack = Pack::open(&pack.persist("contents").unwrap(), len).unwrap();
    let mut known = std::collections::HashMap::new();
    for (path, metadata, offset, len, inode) in ranges {
        match known.get(&inode) {
            Some(&id) => tree.link(id, &path).unwrap(),
            None => {
                let content: Content = pack.range(offset, len).unwrap();
                let id = tree.insert(&path, metadata, Node::Regular(content)).unwrap();
                known.insert(inode, id);
            }
        }
    }
    tree
}

pub fn metadata_of(status: &fs::Metadata) -> Metadata {
    Metadata::new(
        (status.mode() & 0o7777) as u16,
        Timestamp::from_seconds(status.mtime()),
    )
    .owned_by(status.uid(), status.gid())
}

/// How large the files of a generated root are.
pub struct Sizes {
    /// Number of files.
    pub files: u64,
    /// Of a hundred files, those that are small, and those that are not large.
    pub parts: (u64, u64),
    /// Most bytes of a small, a middle and a large one.
    pub most: (u64, u64, u64),
}

/// About 200 MB.
pub const SMALL: Sizes = Sizes {
    files: 4000,
    parts: (70, 95),
    most: (8 << 10, 100 << 10, 1600 << 10),
};

/// About 600 MB.
pub const LARGE: Sizes = Sizes {
    files: 30_000,
    parts: (70, 97),
    most: (8 << 10, 40 << 10, 800 << 10),
};

/// Makes files whose bytes are always the same.
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
        File::create(directory.join(format!("file{number}")))
            .unwrap()
            .write_all(&bytes)
            .unwrap();
        if number % 50 == 0 {
            fs::write(directory.join(format!("copy{number}")), &bytes).unwrap();
        }
    }
}

/// A linear congruential generator: the tree must be the same everywhere.
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
