//! ISO images against `xorriso -as mkisofs`, ESPs against `mkfs.vfat` and `mcopy`, compressed initramfs archives against
//! `cpio | zstd` and `cpio | xz`, each on the same files in the same run:
//!
//! ```text
//! cargo bench -p lycia-media --bench image -- [iso] [fat] [cpio] [--rounds N]
//! ```
//!
//! The files are generated: about 200 MB, for the ESP about 50 MB. Each job is done by both in turn, and the best times are
//! compared: below 1 we are faster. Memory is what a process has besides mapped files (`RssAnon`), sampled; of a pipe it is
//! that of the shell, which says nothing.

// A benchmark stops at what goes wrong.
#![allow(clippy::unwrap_used)]

mod material;

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use lycia_media::compress::{Branches, Compression};
use lycia_media::cpio::{Options, Segments};
use lycia_media::fat;
use lycia_media::iso9660::{Boot, Image, VolumeTime};
use lycia_tree::{Timestamp, Tree};
use material::{Measured, SMALL, Sizes, compare, generate, measure, read_tree, run};

const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};
/// About 50 MB.
const ESP: Sizes = Sizes {
    files: 300,
    parts: (60, 90),
    most: (64 << 10, 400 << 10, 2 << 20),
};

fn main() {
    // `cargo test --benches` runs this too; there is nothing to test here.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let (mut jobs, mut rounds) = (Vec::new(), 3);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--bench" => {}
            "--rounds" => rounds = words.next().unwrap().parse().unwrap(),
            option if option.starts_with("--") => panic!("unknown option {option}"),
            _ => jobs.push(word),
        }
    }
    let wants = |job: &str| jobs.is_empty() || jobs.iter().any(|wanted| wanted == job);
    let scratch = tempfile::tempdir().unwrap();
    let work = scratch.path();
    let make = |name: &str, sizes: &Sizes| {
        let directory = work.join(name);
        generate(&directory, sizes);
        let packs = work.join(format!("{name}-packs"));
        fs::create_dir(&packs).unwrap();
        let tree = read_tree(&directory, &packs);
        (tree, directory)
    };
    if wants("fat") {
        let (tree, directory) = make("esp", &ESP);
        esp(&tree, &directory, work, rounds);
    }
    if wants("iso") || wants("cpio") {
        let (tree, directory) = make("files", &SMALL);
        if wants("iso") {
            iso(&tree, &directory, work, rounds);
        }
        if wants("cpio") {
            for level in [3, 12] {
                let pack = format!("zstd -q -{level} -T2");
                initramfs(&tree, &directory, work, rounds, &Compression::zstd(level), &pack);
            }
            let xz = Compression::xz_for_kernel(Branches::None);
            let pack = "xz --check=crc32 --lzma2=preset=6,dict=1MiB --block-size=16MiB -T2";
            initramfs(&tree, &directory, work, rounds.min(1), &xz, pack);
        }
    }
}

/// Does both jobs in turn and prints how they compare.
fn both(
    name: &str,
    work: &Path,
    rounds: usize,
    ours: impl Fn(File),
    theirs: impl Fn(&Path) -> (&'static str, Command),
) {
    let (our_path, their_path) = (work.join("ours"), work.join("theirs"));
    let (mut our, mut their) = (Measured::default(), Measured::default());
    let mut program = "";
    for _ in 0..rounds {
        let _ = fs::remove_file(&our_path);
        our.keep_best(measure(std::process::id(), || {
            ours(
                File::options()
                    .read(true)
                    .write(true)
                    .create_new(true)
                    .open(&our_path)
                    .unwrap(),
            );
        }));
        let _ = fs::remove_file(&their_path);
        let mut command;
        (program, command) = theirs(&their_path);
        their.keep_best(run(command.stderr(Stdio::null())));
    }
    our.bytes = fs::metadata(&our_path).unwrap().len();
    their.bytes = fs::metadata(&their_path).unwrap().len();
    println!("{name}");
    compare(("lycia-media", &our), (program, &their));
}

fn iso(tree: &Tree, copy: &Path, work: &Path, rounds: usize) {
    both(
        "ISO 9660",
        work,
        rounds,
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
            let mut command = Command::new("xorriso");
            command
                .args([
                    "-as",
                    "mkisofs",
                    "-quiet",
                    "-iso-level",
                    "3",
                    "-J",
                    "-joliet-long",
                    "-R",
                ])
                .args(["-V", "BENCH", "-o"])
                .args([path, copy]);
            ("xorriso", command)
        },
    );
}

fn esp(tree: &Tree, copy: &Path, work: &Path, rounds: usize) {
    const SIZE: u64 = 64 << 20;
    both(
        "FAT16 of 64 MiB",
        work,
        rounds,
        |mut out| {
            out.set_len(SIZE).unwrap();
            let volume = fat::Volume {
                label: Some("ESP".to_owned()),
                serial: 0x1234_5678,
                time: TIME,
                width: None,
                size: SIZE,
            };
            fat::write(&mut out, 0, tree, &volume).unwrap();
        },
        |path| {
            let script = "truncate -s 64M \"$2\" && mkfs.vfat --invariant -n ESP -F 16 \"$2\" >/dev/null && \
                          mcopy -s -Q -i \"$2\" \"$1\"/* ::";
            let mut command = Command::new("sh");
            command
                .args(["-c", script, "sh"])
                .args([copy, path])
                .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
            ("mcopy", command)
        },
    );
}

fn initramfs(tree: &Tree, copy: &Path, work: &Path, rounds: usize, compression: &Compression, pack: &str) {
    both(
        &format!("cpio, {pack}"),
        work,
        rounds,
        |out| {
            let mut segments = Segments::new(out);
            segments
                .compressed(tree, &Options::default(), compression, 2)
                .unwrap();
            segments.finish().unwrap();
        },
        |path| {
            let script = format!(
                "cd \"$1\" && find . -print0 | LC_ALL=C sort -z | cpio -o -0 -H newc --quiet | {pack} > \"$2\""
            );
            let mut command = Command::new("sh");
            command.args(["-c", &script, "sh"]).args([copy, path]);
            ("cpio |", command)
        },
    );
}
