//! The engine at the size of a distribution, beside `tar` and `sha256sum` as the floor.
//!
//! ```text
//! cargo bench -p lycia-apk --bench engine -- [--packages N] [--world N] [--megabytes N] [--rounds N]
//! ```
//!
//! Material is made first: a signed index of 10,000 packages, and packages of 300 MB. Then every phase runs in a
//! process of its own, so that its peak memory is its own:
//!
//! - `index`: the index is read from the disk, its signature verified, every record checked
//! - `universe`: the records are related with each other
//! - `solve`: a world that leads to 600 packages is solved
//! - `unpack`: every package is verified (signature, identity, metadata, each file's hash) into a pack, one
//!   after another
//! - `root cold`: `unpack`, tree and database on an empty store
//! - `root warm`: the same with the packs there: metadata verified, packs mapped, tree and database built
//! - floor: `tar -x` of the same files from one archive of the same compression, and `sha256sum` of them
//! - `apk add`: the same packages installed on an empty root by the reference, where `apk` of apk-tools 3 is in `PATH` or
//!   `LYCIA_APK_TOOLS` names it (the program, or a checkout with a build of it); with what `root cold` takes of its time
//!
//! `root warm` sums up every pack, as the builder does when it uses one. The builder's own bench `root` measures the seed.
//!
//! Times are the least of the rounds; nothing waits for the disk. Peak is `VmHWM` of the process, mapped
//! files included.

#![allow(clippy::unwrap_used)] // nothing to recover to

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use lycia_apk::adb::Compression;
use lycia_apk::dependency::{parse_list, parse_world};
use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::install::{Installation, Names, Unpacked};
use lycia_apk::keys::{KeyRing, SigningKey, rand_core};
use lycia_apk::metadata::{Acl, Digest, Package, PackageInfo};
use lycia_apk::package::{self, Expect, PackageBuilder, PayloadSink, Trust, WriteOptions};
use lycia_apk::solver::{UniverseBuilder, select};
use lycia_tree::{Content, Footprint, Metadata, Pack, PackWriter, Timestamp, Tree};

const TIME: Timestamp = Timestamp {
    seconds: 1_700_000_000,
    nanoseconds: 0,
};
const PHASES: [&str; 6] = ["index", "universe", "solve", "unpack", "root cold", "root warm"];

struct Size {
    packages: usize,
    world: usize,
    megabytes: usize,
    rounds: usize,
}

fn main() {
    let mut size = Size {
        packages: 10_000,
        world: 600,
        megabytes: 300,
        rounds: 3,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            // `cargo test --benches` runs this too; there is nothing to test here.
            "--test" => return,
            "--bench" => {}
            "--packages" => size.packages = value().parse().unwrap(),
            "--world" => size.world = value().parse().unwrap(),
            "--megabytes" => size.megabytes = value().parse().unwrap(),
            "--rounds" => size.rounds = value().parse().unwrap(),
            "--phase" => {
                let phase = value();
                return child(&phase, Path::new(&value()));
            }
            other => panic!("unknown option {other}"),
        }
    }
    let folder = tempfile::tempdir().unwrap();
    material(folder.path(), &size);
    println!("{:<11} {:>9} {:>9} {:>9}", "", "wall", "CPU", "peak");
    let mut cold = 0.0;
    for phase in PHASES {
        let best = (0..size.rounds)
            .map(|_| {
                if phase != "root warm" {
                    let _ = fs::remove_dir_all(folder.path().join("packs"));
                }
                ours(phase, folder.path())
            })
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap();
        show(phase, best);
        if phase == "root cold" {
            cold = best.0;
        }
    }
    match apk() {
        None => println!("apk add: no apk of apk-tools 3 in PATH or LYCIA_APK_TOOLS"),
        Some(program) => {
            let script = add(&program);
            let best = (0..size.rounds)
                .map(|_| theirs(&script, folder.path()))
                .min_by(|a, b| a.0.total_cmp(&b.0))
                .unwrap();
            show("apk add", best);
            println!("root cold takes {:.2} of the time of apk add", cold / best.0);
        }
    }
    for (name, script) in [
        ("tar", "rm -rf out && mkdir out && tar -xf files.tar.zst -C out"),
        ("sha256sum", "find out -type f -print0 | xargs -0 sha256sum"),
    ] {
        let best = (0..size.rounds)
            .map(|_| theirs(script, folder.path()))
            .min_by(|a, b| a.0.total_cmp(&b.0))
            .unwrap();
        show(name, best);
    }
}

/// The reference, if this machine has it in the version that it is compared with.
fn apk() -> Option<PathBuf> {
    let asked = std::env::var_os("LYCIA_APK_TOOLS").map(PathBuf::from);
    let asked = asked.into_iter().flat_map(|place| {
        let inside = ["build/src/apk", "_build/src/apk", "src/apk"].map(|below| place.join(below));
        [place].into_iter().chain(inside)
    });
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = asked
        .chain(std::env::split_paths(&path).map(|folder| folder.join("apk")))
        .collect();
    places.into_iter().filter(|place| place.is_file()).find(|place| {
        let said = Command::new(place).arg("--version").output();
        said.is_ok_and(|said| String::from_utf8_lossy(&said.stdout).starts_with("apk-tools 3"))
    })
}

/// What has it install all packages on an empty root, verified by the key, without scripts or the network.
fn add(program: &Path) -> String {
    format!(
        "rm -rf apk-root && mkdir -p apk-root apk-keys && cp key.pub apk-keys/bench.rsa.pub && \
         '{}' --root apk-root --initdb --arch x86_64 --keys-dir \"$PWD/apk-keys\" --no-network --no-cache --no-scripts \
         --repositories-file /dev/null --repository \"$PWD/apks/Packages.adb\" add $(cat content-world)",
        program.display()
    )
}

/// Seconds, seconds of processor time, bytes.
type Measured = (f64, f64, u64);

fn show(name: &str, (wall, cpu, peak): Measured) {
    let peak = if peak == 0 {
        "-".to_owned()
    } else {
        format!("{:.1} MB", peak as f64 / 1e6)
    };
    println!(
        "{name:<11} {:>6.0} ms {:>6.0} ms {peak:>9}",
        wall * 1e3,
        cpu * 1e3
    );
}

/// Processor time of this process, or of its children that were waited for, in seconds.
fn processor(children: bool) -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    let at = if children { 13 } else { 11 };
    // Linux shows ticks of 10 ms to programs on every architecture that we know.
    (fields[at].parse::<f64>().unwrap() + fields[at + 1].parse::<f64>().unwrap()) / 100.0
}

fn ours(phase: &str, folder: &Path) -> Measured {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--phase", phase])
        .arg(folder)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{phase} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<f64> = text
        .split_whitespace()
        .map(|word| word.parse().unwrap())
        .collect();
    (numbers[0], numbers[1], numbers[2] as u64)
}

fn theirs(script: &str, folder: &Path) -> Measured {
    let (started, before) = (Instant::now(), processor(true));
    let mut command = Command::new("sh");
    let status = command
        .args(["-ec", script])
        .current_dir(folder)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(
        status.success(),
        "{script}: failed (Debian: tar, zstd, coreutils)"
    );
    (started.elapsed().as_secs_f64(), processor(true) - before, 0)
}

/// Numbers that are the same in every run.
struct Counter(u64);

impl rand_core::RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed ^ mixed >> 27
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl rand_core::CryptoRng for Counter {}

impl Counter {
    fn below(&mut self, limit: usize) -> usize {
        (rand_core::RngCore::next_u64(self) % limit.max(1) as u64) as usize
    }
}

/// An index like a distribution's: libraries with `so:` names, tools with `cmd:` names, some files that nobody
/// needs, versions of one name, priorities and `install_if`.
fn records(count: usize) -> Vec<PackageInfo> {
    let mut numbers = Counter(1);
    (0..count)
        .map(|number| {
            let mut depends = Vec::new();
            // Later packages need earlier ones, mostly the first, as everything needs a C library.
            for _ in 0..numbers.below(6) {
                let below = if numbers.below(2) == 0 {
                    number.min(40)
                } else {
                    number
                };
                let other = numbers.below(below);
                depends.push(match numbers.below(4) {
                    0 => format!("package-{other}"),
                    1 => format!("cmd:tool-{other}"),
                    2 => format!("package-{other}>=1"),
                    _ => format!("so:lib{other}.so.1"),
                });
            }
            if number == 0 {
                depends.clear();
            }
            let mut identity = vec![0; 20];
            rand_core::RngCore::fill_bytes(&mut numbers, &mut identity);
            let provides =
                format!("so:lib{number}.so.1=1.{number} cmd:tool-{number}=1.0-r0 pc:package-{number}=1.0");
            let install_if = match number % 10 {
                9 => format!("package-{} docs", number - 1),
                _ => String::new(),
            };
            PackageInfo {
                name: format!("package-{number}"),
                version: format!("1.{}.{}-r{}", number % 7, number % 13, number % 5),
                hashes: Some(Digest(identity)),
                description: format!("package {number} of a distribution, with a line of text about it"),
                arch: "x86_64".into(),
                license: "MIT".into(),
                origin: format!("package-{}", number / 3),
                maintainer: "A Maintainer <maintainer@example.invalid>".into(),
                url: format!("https://example.invalid/package-{number}"),
                repo_commit: vec![7; 20],
                build_time: 1_700_000_000,
                installed_size: 1 + number as u64,
                file_size: 1000 + number as u64,
                depends: parse_list(&depends.join(" ")).unwrap(),
                provides: parse_list(&provides).unwrap(),
                install_if: parse_list(&install_if).unwrap(),
                ..PackageInfo::default()
            }
        })
        .collect()
}

fn solved(infos: &[PackageInfo], world: &str) -> usize {
    let mut builder = UniverseBuilder::new(["x86_64"]);
    builder.repository([None], infos.to_vec()).unwrap();
    select(&builder.finish().unwrap(), &parse_world(world).unwrap())
        .unwrap()
        .len()
}

/// Text and noise by turns, so that it compresses as programs do.
fn content(numbers: &mut Counter, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 64);
    while bytes.len() < size {
        match numbers.below(3) {
            0 => bytes.extend_from_slice(&rand_core::RngCore::next_u64(numbers).to_le_bytes()),
            1 => bytes.extend_from_slice(b"the quick brown fox jumps over the lazy dog "),
            _ => bytes.extend_from_slice(&[0; 16]),
        }
    }
    bytes.truncate(size);
    bytes
}

fn material(folder: &Path, size: &Size) {
    let started = Instant::now();
    let key = SigningKey::generate_rsa("bench", 2048, &mut Counter(9)).unwrap();
    fs::write(folder.join("key.pub"), key.public_pem().unwrap()).unwrap();
    let infos = records(size.packages);
    let index = Index {
        packages: infos.clone(),
        ..Index::default()
    };
    let options = index::WriteOptions {
        hash: IndexHash::Sha256_160,
        ..index::WriteOptions::default()
    };
    fs::write(
        folder.join("Packages.adb"),
        index.write(&options, std::slice::from_ref(&key)).unwrap(),
    )
    .unwrap();
    // Names are taken into world until it leads to as many packages as were asked for.
    let mut world = String::new();
    let mut chosen = 0;
    let mut numbers = Counter(2);
    while chosen < size.world {
        for _ in 0..1 + (size.world - chosen) / 12 {
            world.push_str(&format!("package-{}\n", numbers.below(size.packages)));
        }
        chosen = solved(&infos, &world);
    }
    fs::write(folder.join("world"), &world).unwrap();

    fs::create_dir(folder.join("apks")).unwrap();
    let count = (size.megabytes / 5).max(1);
    let mut files = 0;
    for number in 0..count {
        let info = PackageInfo {
            name: format!("content-{number}"),
            version: "1.0-r0".into(),
            arch: "x86_64".into(),
            ..PackageInfo::default()
        };
        let mut builder = PackageBuilder::new(info);
        let mut left = 5 << 20;
        let mut at = 0;
        while left > 0 {
            // Many small files and a few large ones.
            let length = if at % 20 == 0 {
                400_000 + numbers.below(400_000)
            } else {
                numbers.below(20_000)
            };
            let length = length.min(left);
            let path = format!("usr/share/content-{number}/d{}/file-{at}", at / 30);
            let bytes = content(&mut numbers, length);
            let plain = folder.join("files").join(&path);
            fs::create_dir_all(plain.parent().unwrap()).unwrap();
            fs::write(plain, &bytes).unwrap();
            builder
                .file(path.as_bytes(), Acl::root(0o644), 1_700_000_000, bytes)
                .unwrap();
            left -= length;
            at += 1;
            files += 1;
        }
        let compression = Compression::Zstd(Some(3));
        let file = fs::File::create(folder.join(format!("apks/content-{number}-1.0-r0.apk"))).unwrap();
        let keys = std::slice::from_ref(&key);
        builder
            .finish()
            .unwrap()
            .write(WriteOptions { compression }, keys, std::io::BufWriter::new(file))
            .unwrap();
    }
    // An index of them, and a world of all, for the reference.
    let mut keys = KeyRing::new();
    keys.add_pem("bench", key.public_pem().unwrap().as_bytes())
        .unwrap();
    let mut names = String::new();
    let entries = (0..count).map(|number| {
        let file = fs::read(folder.join(format!("apks/content-{number}-1.0-r0.apk"))).unwrap();
        names.push_str(&format!("content-{number}\n"));
        index::entry(&file, &keys, Trust::Required, IndexHash::Sha256).unwrap()
    });
    let contents = Index {
        packages: entries.collect(),
        ..Index::default()
    };
    let bytes = contents
        .write(&index::WriteOptions::default(), std::slice::from_ref(&key))
        .unwrap();
    fs::write(folder.join("apks/Packages.adb"), bytes).unwrap();
    fs::write(folder.join("content-world"), names).unwrap();
    theirs("tar --zstd -cf files.tar.zst -C files . && rm -r files", folder);
    println!(
        "{} packages in the index, {} bytes; a world of {} entries, {chosen} packages; {count} packages of {} MB, {files} files; \
         made in {:.0} s",
        size.packages,
        fs::metadata(folder.join("Packages.adb")).unwrap().len(),
        world.lines().count(),
        size.megabytes,
        started.elapsed().as_secs_f64()
    );
}

/// One phase: prints seconds, processor seconds and peak bytes.
fn child(phase: &str, folder: &Path) {
    let mut keys = KeyRing::new();
    keys.add_pem("bench", &fs::read(folder.join("key.pub")).unwrap())
        .unwrap();
    let read = || {
        Index::read(
            &fs::read(folder.join("Packages.adb")).unwrap(),
            &keys,
            Trust::Required,
        )
        .unwrap()
    };
    let universe = |index: Index| {
        let mut builder = UniverseBuilder::new(["x86_64"]);
        builder.repository([None], index.packages).unwrap();
        builder.finish().unwrap()
    };
    let (mut wall, mut cpu) = (0.0, 0.0);
    let mut timed = |work: &mut dyn FnMut()| {
        let (started, before) = (Instant::now(), processor(false));
        work();
        (wall, cpu) = (started.elapsed().as_secs_f64(), processor(false) - before);
    };
    match phase {
        "index" => timed(&mut || {
            assert!(!read().packages.is_empty());
        }),
        "universe" => {
            let mut index = Some(read());
            timed(&mut || {
                universe(index.take().unwrap());
            });
        }
        "solve" => {
            let universe = universe(read());
            let world = parse_world(&fs::read_to_string(folder.join("world")).unwrap()).unwrap();
            timed(&mut || {
                assert!(!select(&universe, &world).unwrap().is_empty());
            });
        }
        "unpack" => timed(&mut || {
            assert!(!unpack(folder, &keys).is_empty());
        }),
        "root cold" | "root warm" => timed(&mut || root(folder, &keys)),
        other => panic!("unknown phase {other}"),
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    println!("{wall} {cpu} {}", peak * 1024);
}

struct Sink(PackWriter);

impl PayloadSink for Sink {
    fn begin(&mut self, _: &Package, _: usize, _: usize) -> std::io::Result<()> {
        Ok(())
    }
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        std::io::Write::write_all(&mut self.0, bytes)
    }
    fn end(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Every package verified and in a pack.
fn unpack(folder: &Path, keys: &KeyRing) -> Vec<Unpacked> {
    let packs = folder.join("packs");
    fs::create_dir_all(&packs).unwrap();
    let mut files: Vec<_> = fs::read_dir(folder.join("apks"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "apk"))
        .collect();
    files.sort();
    let unpack = |path: &PathBuf| {
        let file = Pack::open(path, fs::metadata(path).unwrap().len()).unwrap();
        let expect = Expect::default();
        let verified = package::read_metadata(file.bytes(), keys, &expect).unwrap();
        let name = verified.identity.to_string();
        let places = verified.placement();
        let total = places.iter().map(|(_, size)| size).sum();
        let pack = Pack::open(&packs.join(&name), total).unwrap_or_else(|_| {
            let mut sink = Sink(PackWriter::new(&packs).unwrap());
            package::read(file.bytes(), keys, &expect, &mut sink).unwrap();
            sink.0.persist(&name).unwrap();
            Pack::open(&packs.join(&name), total).unwrap()
        });
        // What the builder does with every pack that it uses; the sum itself is of no interest here.
        let mut sum = crc32fast::Hasher::new();
        let whole = pack.range(0, total).unwrap();
        let mut footprint = Footprint::new();
        for piece in footprint.pieces(&whole) {
            sum.update(piece);
        }
        std::hint::black_box(sum.finalize());
        let contents: Vec<Content> = places
            .iter()
            .map(|&(offset, size)| pack.range(offset, size).unwrap())
            .collect();
        Unpacked {
            entry: verified.package.info.clone(),
            package: verified.package,
            format: verified.format,
            contents,
            ..Unpacked::default()
        }
    };
    files.iter().map(unpack).collect()
}

fn root(folder: &Path, keys: &KeyRing) {
    let unpacked = unpack(folder, keys);
    let world = parse_world("content-0").unwrap();
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let mut installation = Installation::new(&mut tree, TIME);
    for package in unpacked {
        installation.add(package).unwrap();
    }
    let installed = installation.finish(&Names::default());
    assert!(installed.unknown_owners.is_empty());
    installed.database.store(&mut tree, &world, TIME, true).unwrap();
    assert!(tree.walk().count() > 100);
}
