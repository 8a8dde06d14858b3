//! Our squashfs writer against mksquashfs (Debian: squashfs-tools), in the same run, on the same files.
//!
//! ```text
//! cargo bench -p lycia-media --bench squashfs -- [DIRECTORY] [--compressor zstd|xz|xz-x86|gzip]
//!     [--level N] [--block BYTES] [--jobs N] [--no-tails] [--rounds N] [--keep FILE]
//! ```
//!
//! Without a directory a tree of 200 MB is made: text, tables, code-like bytes, noise, zeros, copies. Times
//! are the least of the rounds, taken alternately; on a busy machine those of the processors (user and system)
//! tell more than those of the clock. Memory is what a process has besides mapped files
//! (`RssAnon`), sampled.

#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lycia_media::squashfs::{self, Bcj, Compressor, Image, Limits, Options};
use lycia_tree::{Content, Device, Metadata, Node, Pack, PackWriter, Timestamp, Tree};

struct Arguments {
    directory: Option<PathBuf>,
    compressor: String,
    level: Option<u32>,
    block: u32,
    jobs: usize,
    tails: bool,
    rounds: u32,
    keep: Option<PathBuf>,
}

fn arguments() -> Arguments {
    let mut found = Arguments {
        directory: None,
        compressor: "zstd".to_owned(),
        level: None,
        block: 128 << 10,
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        tails: true,
        rounds: 1,
        keep: None,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--bench" => {}
            "--compressor" => found.compressor = value(),
            "--level" => found.level = Some(value().parse().unwrap()),
            "--block" => found.block = value().parse().unwrap(),
            "--jobs" => found.jobs = value().parse().unwrap(),
            "--no-tails" => found.tails = false,
            "--rounds" => found.rounds = value().parse().unwrap(),
            "--keep" => found.keep = Some(value().into()),
            option if option.starts_with("--") => panic!("unknown option {option}"),
            directory => found.directory = Some(directory.into()),
        }
    }
    found
}

fn main() {
    // `cargo test --benches` runs this too; there is nothing to test here.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let arguments = arguments();
    let scratch = tempfile::tempdir().unwrap();
    let directory = arguments.directory.clone().unwrap_or_else(|| {
        let directory = scratch.path().join("tree");
        generate(&directory);
        directory
    });
    let (compressor, mut flags) = match (arguments.compressor.as_str(), arguments.level) {
        ("zstd", level) => {
            let level = level.unwrap_or(15);
            let flags = vec![
                "-comp".to_owned(),
                "zstd".into(),
                "-Xcompression-level".into(),
                level.to_string(),
            ];
            (Compressor::Zstd { level }, flags)
        }
        ("gzip", level) => {
            let level = level.unwrap_or(9);
            let flags = vec![
                "-comp".to_owned(),
                "gzip".into(),
                "-Xcompression-level".into(),
                level.to_string(),
            ];
            (Compressor::Gzip { level }, flags)
        }
        ("xz", preset) => {
            let preset = preset.unwrap_or(6);
            (
                Compressor::Xz {
                    preset,
                    bcj: Bcj::None,
                },
                vec!["-comp".to_owned(), "xz".into()],
            )
        }
        ("xz-x86", preset) => {
            let preset = preset.unwrap_or(6);
            let flags = ["-comp", "xz", "-Xbcj", "x86"].map(str::to_owned).to_vec();
            (
                Compressor::Xz {
                    preset,
                    bcj: Bcj::X86,
                },
                flags,
            )
        }
        (other, _) => panic!("unknown compressor {other}"),
    };
    for flag in [
        "-b",
        &arguments.block.to_string(),
        "-processors",
        &arguments.jobs.to_string(),
    ] {
        flags.push(flag.to_owned());
    }
    if arguments.tails {
        flags.push("-always-use-fragments".to_owned());
    }
    let options = Options {
        compressor,
        block_size: arguments.block,
        jobs: arguments.jobs,
        tail_ends: arguments.tails,
        ..Options::default()
    };

    let tree = read_tree(&directory, scratch.path());
    let mut ours = Measured::default();
    let mut theirs = Measured::default();
    let mut summary = None;
    let image = arguments
        .keep
        .clone()
        .unwrap_or_else(|| scratch.path().join("ours.squashfs"));
    for _ in 0..arguments.rounds {
        ours.keep_best(measure(std::process::id(), || {
            let mut file = File::create(&image).unwrap();
            summary = Some(squashfs::write(&tree, &options, &mut file, &|_, _| {}).unwrap());
        }));
        let other = scratch.path().join("theirs.squashfs");
        let _ = fs::remove_file(&other);
        let before = processor_ticks().1;
        let started = Instant::now();
        let mut child = Command::new("mksquashfs")
            .arg(&directory)
            .arg(&other)
            .args(["-noappend", "-no-progress", "-quiet"])
            .args(&flags)
            .stdout(Stdio::null())
            .spawn()
            .expect("mksquashfs cannot be run: install Debian's squashfs-tools");
        let id = child.id();
        let mut measured = measure(id, || assert!(child.wait().unwrap().success()));
        measured.time = started.elapsed();
        measured.processors = processor_ticks().1 - before;
        theirs.keep_best(measured);
        theirs.bytes = fs::metadata(&other).unwrap().len();
    }
    ours.bytes = fs::metadata(&image).unwrap().len();

    println!("{summary:#?}");
    println!("mksquashfs {}", flags.join(" "));
    println!("              seconds  processors        bytes   MiB anonymous");
    ours.print("lycia-media");
    theirs.print("mksquashfs");
    println!(
        "ratio         {:7.3}     {:7.3}      {:7.4}      {:10.3}",
        ours.time.as_secs_f64() / theirs.time.as_secs_f64(),
        ours.processors as f64 / theirs.processors as f64,
        ours.bytes as f64 / theirs.bytes as f64,
        ours.memory as f64 / theirs.memory as f64
    );
    let started = Instant::now();
    let report = Image::open(File::open(&image).unwrap())
        .and_then(|mut image| image.check(&Limits::default(), &|_| {}))
        .unwrap();
    assert_eq!(report.faults, Vec::<String>::new());
    println!("check of ours {:7.2}", started.elapsed().as_secs_f64());
}

#[derive(Default)]
struct Measured {
    time: Duration,
    /// Time on processors, in hundredths of a second.
    processors: u64,
    /// Highest anonymous memory, in KiB.
    memory: u64,
    bytes: u64,
}

impl Measured {
    fn keep_best(&mut self, other: Measured) {
        if self.time.is_zero() || other.time < self.time {
            self.time = other.time;
        }
        if self.processors == 0 || other.processors < self.processors {
            self.processors = other.processors;
        }
        self.memory = self.memory.max(other.memory);
    }

    fn print(&self, name: &str) {
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
fn measure(process: u32, work: impl FnOnce()) -> Measured {
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

/// Ticks of this process on processors, and of its children that have ended (`proc(5)`, fields 14 to 17).
fn processor_ticks() -> (u64, u64) {
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
fn read_tree(root: &Path, scratch: &Path) -> Tree {
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

fn metadata_of(status: &fs::Metadata) -> Metadata {
    Metadata::new(
        (status.mode() & 0o7777) as u16,
        Timestamp::from_seconds(status.mtime()),
    )
    .owned_by(status.uid(), status.gid())
}

/// Makes 200 MB of files whose bytes are always the same.
fn generate(root: &Path) {
    let mut random = Random(0x1234_5678);
    let words: Vec<String> = (0..4000)
        .map(|_| {
            let len = 2 + random.below(9);
            (0..len)
                .map(|_| char::from(b'a' + random.below(26) as u8))
                .collect()
        })
        .collect();
    for number in 0..4000 {
        let directory = root.join(format!("{}/{}", number % 20, number / 200));
        fs::create_dir_all(&directory).unwrap();
        // Many small files, some large ones, as in a distribution.
        let len = match random.below(100) {
            0..70 => random.below(8 << 10),
            70..95 => random.below(100 << 10),
            _ => random.below(1600 << 10),
        } as usize;
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
