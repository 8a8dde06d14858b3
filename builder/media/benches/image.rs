//! ISO images against `xorriso -as mkisofs`, and compressed initramfs archives against `cpio | zstd`, on the same
//! files in the same run: `cargo bench -p lycia-media --bench image [-- DIRECTORY [MEGABYTES]]`.
//!
//! Takes up to MEGABYTES (200) of files below DIRECTORY (`/usr/lib`). Each job is done three times, ours and theirs in
//! turn, and the best times are compared: below 1.00 we are faster.

// A benchmark stops at what goes wrong.
#![allow(clippy::unwrap_used)]

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lycia_media::compress::Compression;
use lycia_media::cpio::{Options, Segments};
use lycia_media::iso9660::{Boot, Image, VolumeTime};
use lycia_tree::{Metadata, Pack, PackWriter, Timestamp, Tree};

const ROUNDS: usize = 3;
const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};

fn main() {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    let from = PathBuf::from(arguments.next().unwrap_or_else(|| "/usr/lib".to_owned()));
    let megabytes: u64 = arguments.next().map_or(200, |text| text.parse().unwrap());
    let work = tempfile::tempdir().unwrap();
    let copy = work.path().join("files");
    let (tree, files, bytes) = collect(&from, &copy, work.path(), megabytes << 20);
    println!(
        "{files} files, {:.1} MB of {}",
        bytes as f64 / 1e6,
        from.display()
    );
    iso(&tree, &copy, work.path());
    for level in [3, 12] {
        initramfs(&tree, &copy, work.path(), level);
    }
}

/// Copies files of `from` to `copy`, where the other programs take them, and into a pack for our tree.
fn collect(from: &Path, copy: &Path, work: &Path, limit: u64) -> (Tree, usize, u64) {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let mut pack = PackWriter::new(work).unwrap();
    let mut places = Vec::new();
    let mut bytes = 0;
    let mut directories = vec![from.to_owned()];
    fs::create_dir(copy).unwrap();
    while let Some(directory) = directories.pop() {
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        let mut entries: Vec<_> = entries.map(|entry| entry.unwrap()).collect();
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let kind = entry.file_type().unwrap();
            let relative = entry.path().strip_prefix(from).unwrap().to_owned();
            if kind.is_dir() {
                directories.push(entry.path());
            } else if kind.is_file() && bytes < limit {
                let Ok(content) = fs::read(entry.path()) else {
                    continue;
                };
                let target = copy.join(&relative);
                fs::create_dir_all(target.parent().unwrap()).unwrap();
                fs::write(&target, &content).unwrap();
                let offset = pack.position();
                pack.write_all(&content).unwrap();
                places.push((relative, offset, content.len() as u64));
                bytes += content.len() as u64;
            }
        }
    }
    let path = pack.persist("pack").unwrap();
    let pack = Pack::open(&path, bytes).unwrap();
    for (relative, offset, len) in &places {
        let path = format!("/{}", relative.display()).into_bytes();
        let content = pack.range(*offset, *len).unwrap();
        tree.write(&path, Metadata::new(0o644, TIME), content).unwrap();
    }
    (tree, places.len(), bytes)
}

fn best(times: &[Duration]) -> f64 {
    times.iter().min().unwrap().as_secs_f64()
}

/// Does both jobs in turn and prints their best times, sizes and ratio.
fn compare(name: &str, work: &Path, ours: impl Fn(File), theirs: impl Fn(&Path)) {
    let (our_path, their_path) = (work.join("ours"), work.join("theirs"));
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        ours(File::create(&our_path).unwrap());
        our_times.push(started.elapsed());
        let _ = fs::remove_file(&their_path);
        let started = Instant::now();
        theirs(&their_path);
        their_times.push(started.elapsed());
    }
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    println!(
        "{name}: ours {:.2} s, {} bytes; theirs {:.2} s, {} bytes; time {:.2}, size {:.3}",
        best(&our_times),
        size(&our_path),
        best(&their_times),
        size(&their_path),
        best(&our_times) / best(&their_times),
        size(&our_path) as f64 / size(&their_path) as f64,
    );
}

fn iso(tree: &Tree, copy: &Path, work: &Path) {
    compare(
        "ISO 9660 against xorriso",
        work,
        |out| {
            let image = Image {
                volume_id: "BENCH",
                system_id: "",
                volume_set_id: "",
                publisher: "",
                preparer: "",
                application: "",
                time: TIME,
                uuid: VolumeTime::new(TIME).unwrap(),
                joliet: true,
                files: tree,
                boot: Boot::default(),
            };
            image.plan().unwrap().write(out, &mut |_| ()).unwrap();
        },
        |path| {
            let status = Command::new("xorriso")
                .args([
                    "-as",
                    "mkisofs",
                    "-quiet",
                    "-iso-level",
                    "3",
                    "-J",
                    "-joliet-long",
                    "-R",
                    "-V",
                    "BENCH",
                    "-o",
                ])
                .args([path, copy])
                .stderr(Stdio::null())
                .status()
                .expect("xorriso of the Debian package xorriso is needed");
            assert!(status.success());
        },
    );
}

fn initramfs(tree: &Tree, copy: &Path, work: &Path, level: i32) {
    compare(
        &format!("cpio, zstd -{level}, 2 threads, against cpio | zstd"),
        work,
        |out| {
            let mut segments = Segments::new(out);
            segments
                .compressed(tree, &Options::default(), &Compression::zstd(level), 2)
                .unwrap();
            segments.finish().unwrap();
        },
        |path| {
            let script = format!(
                "cd \"$1\" && find . -print0 | LC_ALL=C sort -z | cpio -o -0 -H newc --quiet | zstd -q -{level} -T2 -o \"$2\""
            );
            let status = Command::new("sh")
                .args(["-c", &script, "sh"])
                .args([copy, path])
                .stderr(Stdio::null())
                .status()
                .expect("cpio and zstd of the Debian packages of that name are needed");
            assert!(status.success());
        },
    );
}
