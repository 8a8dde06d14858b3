//! Our ext4 writer against `mke2fs -d` (Debian: e2fsprogs), in the same run, on the same files.
//!
//! ```text
//! cargo bench -p lycia-media --bench ext4 -- [DIRECTORY] [--rounds N] [--keep FILE]
//! ```
//!
//! Without a directory a root of 600 MB in 30,000 files is made. Both make a volume of the same size with the same features
//! in a new file; neither waits for the disk. Times are the least of the rounds, taken alternately; memory is what a process
//! has besides mapped files (`RssAnon`), sampled. Run it as root for `mke2fs` to see every owner.

#![allow(clippy::unwrap_used)]

mod material;

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use lycia_media::ext4::{Limits, Plan, Reader, Volume, fitting_size};
use lycia_media::partition::Guid;
use lycia_tree::Timestamp;
use material::{LARGE, Measured, compare, generate, measure, read_tree, run};

fn main() {
    // `cargo test --benches` runs this too; there is nothing to test here.
    if std::env::args().any(|word| word == "--test") {
        return;
    }
    let (mut directory, mut rounds, mut keep) = (None, 3, None);
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--bench" => {}
            "--rounds" => rounds = value().parse().unwrap(),
            "--keep" => keep = Some(PathBuf::from(value())),
            option if option.starts_with("--") => panic!("unknown option {option}"),
            path => directory = Some(PathBuf::from(path)),
        }
    }
    let scratch = tempfile::tempdir().unwrap();
    let directory = directory.unwrap_or_else(|| {
        let directory = scratch.path().join("tree");
        generate(&directory, &LARGE);
        directory
    });
    let tree = read_tree(&directory, scratch.path());
    let uuid = Guid::derive(b"benchmark", "volume");
    let mut volume = Volume::new(0, uuid, Timestamp::from_seconds(1_600_000_000));
    let started = Instant::now();
    volume.size = fitting_size(&tree, &volume, 100 << 20).unwrap();
    println!(
        "{} entries; a volume of {} MiB, found in {:.3} s",
        tree.walk().count(),
        volume.size >> 20,
        started.elapsed().as_secs_f64()
    );
    let (mut ours, mut theirs) = (Measured::default(), Measured::default());
    let image = keep.unwrap_or_else(|| scratch.path().join("ours.ext4"));
    let other = scratch.path().join("theirs.ext4");
    for _ in 0..rounds {
        let _ = fs::remove_file(&image);
        ours.keep_best(measure(std::process::id(), || {
            let plan = Plan::new(&tree, &volume).unwrap();
            let mut file = File::create(&image).unwrap();
            plan.write(&mut file, 0, &mut |_| ()).unwrap();
        }));
        let _ = fs::remove_file(&other);
        let features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,\
                        sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
        theirs.keep_best(run(Command::new("mke2fs")
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-O", features, "-d"])
            .arg(&directory)
            .arg(&other)
            .arg(format!("{}k", volume.size >> 10))
            .stdout(Stdio::null())));
    }
    ours.bytes = used(&image);
    theirs.bytes = used(&other);
    compare(("lycia-media", &ours), ("mke2fs -d", &theirs));
    let check = Command::new("e2fsck").arg("-fn").arg(&image).output().unwrap();
    assert!(
        check.status.success(),
        "{}",
        String::from_utf8_lossy(&check.stdout)
    );
    let started = Instant::now();
    let found = Reader::open(File::open(&image).unwrap(), Limits::default())
        .and_then(|mut reader| reader.tree())
        .unwrap();
    println!(
        "{} entries read back in {:.2} s",
        found.walk().count(),
        started.elapsed().as_secs_f64()
    );
}

/// Bytes that a sparse file takes.
fn used(path: &std::path::Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(path).unwrap().blocks() * 512
}
