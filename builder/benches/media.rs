//! Media against the tools that others make them with, line by line of one table:
//!
//! ```text
//! cargo bench -p lycia --bench media -- [--quick] [--only PART…] [--rounds N] [--jobs N] [--scratch DIR]
//! ```
//!
//! Inputs are the root of the seed's live medium (`lycia setup` first) and, without `--quick`, a generated one of 600 MB in 30,000
//! files; an EFI system partition of 64 MiB is filled with 50 MB. Both competitors work by turns on the same files with the
//! same number of processors, each in a process of its own; the other reads the folder, ours has the tree of the files in
//! memory and their contents in a pack, as a build has them, and its time begins there. Of the rounds the medians are printed: seconds by the clock, seconds on
//! processors, size, and the highest resident memory of one process. Ratios below 1 say that ours is better; on a
//! machine with other work those of processors tell more. `whole` is the ratio by the clock of whole processes, ours with what
//! comes before its time begins: reading the tree back. `load` is the kernel's figure when the line began. A line that misses its
//! target ends the run with exit code 1, once all lines are printed.
//!
//! Packages: squashfs-tools, e2fsprogs, dosfstools, mtools, xorriso, cpio, zstd, xz-utils, qemu-utils. To be run as root, for
//! owners and devices of the root.

// A benchmark stops at what goes wrong.
#![allow(clippy::unwrap_used)]

#[path = "media/material.rs"]
mod material;
#[path = "media/measure.rs"]
mod measure;
#[path = "media/whole.rs"]
mod whole;
#[path = "media/works.rs"]
mod works;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use material::Input;
use measure::{Rounds, Target, Usage};

struct Bench {
    only: Vec<String>,
    rounds: Rounds,
    jobs: usize,
    scratch: PathBuf,
}

fn main() {
    let mut words: Vec<String> = std::env::args()
        .skip(1)
        .filter(|word| word != "--bench")
        .collect();
    // `cargo test --benches` runs this too; there is nothing to test here.
    if words.iter().any(|word| word == "--test") {
        return;
    }
    if words.first().is_some_and(|word| word == works::WORD) {
        return works::run(&words.split_off(1));
    }
    let mut quick = false;
    let mut scratch = std::env::temp_dir();
    let mut bench = Bench {
        only: Vec::new(),
        rounds: Rounds {
            most: 5,
            time: Duration::from_secs(12),
        },
        jobs: std::thread::available_parallelism().map_or(1, usize::from),
        scratch: PathBuf::new(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            "--quick" => quick = true,
            "--only" => bench.only.push(value()),
            "--rounds" => bench.rounds.most = value().parse().unwrap(),
            "--jobs" => bench.jobs = value().parse().unwrap(),
            "--scratch" => scratch = value().into(),
            other => panic!("unknown option {other}"),
        }
    }
    let folder = tempfile::tempdir_in(scratch).unwrap();
    bench.scratch = folder.path().to_owned();
    let began = std::time::Instant::now();

    let project = whole::Project::new(&bench.scratch.join("project"), bench.jobs);
    let root = bench.scratch.join("seed-root");
    project.seed_root(&root);
    let seed = bench.prepared("seed", root);
    let esp = bench.scratch.join("esp-files");
    bench.work("generate", Path::new("-"), &esp, "esp");
    let esp = bench.prepared("50 MB", esp);
    measure::head();
    bench.esp(&esp);
    bench.formats(&seed, "xz-x86");
    if bench.wants("rebuild") {
        project.rebuild("seed", bench.rounds);
        project.unchanged("seed", bench.rounds);
    }
    project.memory("seed", |part| bench.wants(part));
    if !quick {
        bench.work("generate", Path::new("-"), &project.large(), "large");
        let large = bench.prepared("large", project.large());
        bench.formats(&large, "xz");
        // Each of these takes minutes.
        let once = Rounds {
            most: 1,
            ..bench.rounds
        };
        if bench.wants("rebuild") {
            project.rebuild("large", once);
            project.unchanged("large", bench.rounds);
        }
        project.memory("large", |part| bench.wants(part));
    }
    println!(
        "{} processors, {:.0} s in all; the load is {} now",
        bench.jobs,
        began.elapsed().as_secs_f64(),
        measure::load()
    );
    let missed = measure::missed();
    if missed > 0 {
        eprintln!("{missed} lines missed their target");
        // What was made goes with its folder, which leaving here would keep.
        drop(folder);
        std::process::exit(1);
    }
}

impl Bench {
    fn wants(&self, part: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|wanted| wanted == part)
    }

    /// Does a work of ours in a process of its own.
    fn work(&self, work: &str, input: &Path, output: &Path, more: &str) -> Usage {
        measure::run_telling(
            Command::new(std::env::current_exe().unwrap())
                .args([works::WORD, work])
                .args([input, output])
                .args([&self.jobs.to_string(), more]),
        )
    }

    fn prepared(&self, name: &'static str, folder: PathBuf) -> Input {
        let prepared = self.scratch.join(format!("{name}-prepared"));
        self.work("prepare", &folder, &prepared, "-");
        Input {
            name,
            folder,
            prepared,
        }
    }

    /// A line: our work `work` with `more` beside a program that writes to the path it is given.
    #[allow(clippy::too_many_arguments)]
    fn line(
        &self,
        input: &Input,
        name: &str,
        rounds: Rounds,
        target: Target,
        (work, from, more): (&str, &Path, &str),
        theirs: &dyn Fn(&Path) -> Command,
    ) -> (PathBuf, PathBuf) {
        let (our, their) = (self.scratch.join("ours"), self.scratch.join("theirs"));
        let sized = |usage: Usage, path: &Path| Usage {
            bytes: measure::length(path),
            ..usage
        };
        measure::line(
            input.name,
            name,
            rounds,
            target,
            &mut || {
                let _ = fs::remove_file(&our);
                sized(self.work(work, from, &our, more), &our)
            },
            &mut || {
                let _ = fs::remove_file(&their);
                let usage = measure::run(theirs(&their).stdout(Stdio::null()).stderr(Stdio::null()));
                sized(usage, &their)
            },
        );
        (our, their)
    }

    fn formats(&self, input: &Input, xz: &str) {
        let prepared = input.prepared.as_path();
        if self.wants("squashfs") {
            for more in ["15", xz] {
                let rounds = match more {
                    "15" => self.rounds,
                    _ => Rounds {
                        most: self.rounds.most.min(3),
                        ..self.rounds
                    },
                };
                let name = format!("squashfs {}", if more == "15" { "zstd-15" } else { more });
                self.line(
                    input,
                    &format!("{name}: mksquashfs"),
                    rounds,
                    Target(1.0, Some(1.02)),
                    ("squashfs", prepared, more),
                    &|out| {
                        let mut command = Command::new("mksquashfs");
                        command.arg(&input.folder).arg(out).args([
                            "-noappend",
                            "-no-progress",
                            "-quiet",
                            "-always-use-fragments",
                            "-b",
                            "131072",
                            "-processors",
                            &self.jobs.to_string(),
                            "-comp",
                        ]);
                        match more {
                            "xz" => command.arg("xz"),
                            "xz-x86" => command.args(["xz", "-Xbcj", "x86"]),
                            level => command.args(["zstd", "-Xcompression-level", level]),
                        };
                        command
                    },
                );
            }
        }
        if self.wants("ext4") || self.wants("qcow2") {
            self.ext4(input);
        }
        if self.wants("iso") {
            self.line(
                input,
                "ISO 9660: xorriso",
                self.rounds,
                Target(1.0, None),
                ("iso", prepared, "-"),
                &|out| {
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
                        .args([out, &input.folder]);
                    command
                },
            );
        }
        if self.wants("initramfs") {
            for (more, pack) in [
                ("3", format!("zstd -q -3 -T{}", self.jobs)),
                ("12", format!("zstd -q -12 -T{}", self.jobs)),
                (
                    "xz",
                    format!(
                        "xz --check=crc32 --lzma2=preset=6,dict=1MiB --block-size=16MiB -T{}",
                        self.jobs
                    ),
                ),
            ] {
                let name = if more == "xz" {
                    "xz".to_owned()
                } else {
                    format!("zstd-{more}")
                };
                self.line(
                    input,
                    &format!("initramfs {name}: cpio | {}", &pack[..pack.find(' ').unwrap()]),
                    self.rounds,
                    Target(1.0, None),
                    ("cpio", prepared, more),
                    &|out| {
                        let script = format!(
                            "cd \"$1\" && find . -print0 | LC_ALL=C sort -z | cpio -o -0 -H newc --quiet | {pack} \
                             > \"$2\""
                        );
                        let mut command = Command::new("sh");
                        command.args(["-c", &script, "sh"]).args([&input.folder, out]);
                        command
                    },
                );
            }
        }
    }

    /// ext4, and what is made of a raw disk.
    fn ext4(&self, input: &Input) {
        let size = self.scratch.join("size");
        self.work("ext4-size", &input.prepared, &size, "-");
        let size: u64 = fs::read_to_string(size).unwrap().parse().unwrap();
        let features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,\
                        large_file,huge_file,dir_nlink,extra_isize,metadata_csum";
        let (raw, _) = self.line(
            input,
            "ext4: mke2fs -d",
            self.rounds,
            Target(0.5, None),
            ("ext4", &input.prepared, &size.to_string()),
            &|out| {
                let mut command = system("mke2fs");
                command
                    .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-O", features, "-d"])
                    .arg(&input.folder)
                    .arg(out)
                    .arg(format!("{}k", size >> 10));
                command
            },
        );
        judge(system("e2fsck").arg("-fn").arg(&raw));
        if self.wants("qcow2") {
            let kept = self.scratch.join("raw");
            fs::rename(&raw, &kept).unwrap();
            self.line(
                input,
                "qcow2: qemu-img convert",
                self.rounds,
                Target(1.0, Some(1.02)),
                ("qcow2", &kept, "-"),
                &|out| {
                    let mut command = Command::new("qemu-img");
                    command
                        .args(["convert", "-f", "raw", "-O", "qcow2"])
                        .args([&kept, out]);
                    command
                },
            );
            fs::remove_file(kept).unwrap();
        }
    }

    fn esp(&self, input: &Input) {
        if !self.wants("fat") {
            return;
        }
        let (image, _) = self.line(
            input,
            "FAT of 64 MiB: mkfs.vfat, mcopy",
            self.rounds,
            Target(0.5, None),
            ("fat", &input.prepared, "-"),
            &|out| {
                let script = format!(
                    "truncate -s {} \"$2\" && mkfs.vfat --invariant -n ESP -F 16 \"$2\" && mcopy -s -Q -i \"$2\" \
                     \"$1\"/* ::",
                    works::ESP
                );
                let mut command = system("sh");
                command.args(["-c", &script, "sh"]).args([&input.folder, out]);
                command
            },
        );
        judge(system("fsck.vfat").arg("-n").arg(image));
    }
}

/// A program that may lie where those of the administrator do.
fn system(name: &str) -> Command {
    let mut command = Command::new(name);
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    command
}

/// What we made must please the judge.
fn judge(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(
        output.status.success(),
        "{command:?}: {}",
        String::from_utf8_lossy(&output.stdout)
    );
}
