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

mod material;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use lycia_media::squashfs::{self, Bcj, Compressor, Image, Limits, Options};
use material::{Measured, SMALL, compare, generate, measure, read_tree, run};

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
        generate(&directory, &SMALL);
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
        let measured = run(Command::new("mksquashfs")
            .arg(&directory)
            .arg(&other)
            .args(["-noappend", "-no-progress", "-quiet"])
            .args(&flags)
            .stdout(Stdio::null()));
        theirs.keep_best(measured);
        theirs.bytes = fs::metadata(&other).unwrap().len();
    }
    ours.bytes = fs::metadata(&image).unwrap().len();

    println!("{summary:#?}");
    println!("mksquashfs {}", flags.join(" "));
    compare(("lycia-media", &ours), ("mksquashfs", &theirs));
    let started = Instant::now();
    let report = Image::open(File::open(&image).unwrap())
        .and_then(|mut image| image.check(&Limits::default(), &|_| {}))
        .unwrap();
    assert_eq!(report.faults, Vec::<String>::new());
    println!("check of ours {:7.2}", started.elapsed().as_secs_f64());
}
