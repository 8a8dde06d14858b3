//! The seed's packages to a root, as every build goes: index, choice, packages to packs, tree, triggers and database.
//!
//! ```text
//! cargo bench -p lycia --bench root -- [--image NAME] [--arch NAME] [--jobs N] [--rounds N]
//! ```
//!
//! - `cold`: every package is verified and unpacked into a pack of an empty store
//! - `warm`: the packs are there; metadata is verified, every pack's checksum is computed, and the root is put together
//! - `packs`: of `warm`, the packages alone
//!
//! The store is one of its own that takes the seed from the usual one, which stays as it is (`lycia seed` first). Times are
//! the least of the rounds; each is a process of its own, so that its peak memory (`VmHWM`, mapped files included) is.

#![allow(clippy::unwrap_used)] // nothing to recover to

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use lycia::choice::{self, Open};
use lycia::definition::Project;
use lycia::fetch::Client;
use lycia::progress::Progress;
use lycia::store::Store;
use lycia::{packages, root};

/// Milliseconds that a warm root may take on two processors.
const WARM: f64 = 300.0;

fn main() {
    let (mut image, mut arch) = ("live".to_owned(), "x86_64".to_owned());
    let mut jobs = std::thread::available_parallelism().map_or(1, usize::from);
    let mut rounds = 5;
    let mut store = None;
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().unwrap_or_else(|| panic!("{word} wants a value"));
        match word.as_str() {
            // `cargo test --benches` runs this too; there is nothing to test here.
            "--test" => return,
            "--bench" => {}
            "--image" => image = value(),
            "--arch" => arch = value(),
            "--jobs" => jobs = value().parse().unwrap(),
            "--rounds" => rounds = value().parse().unwrap(),
            // Of a child.
            "--store" => store = Some(value()),
            other => panic!("unknown option {other}"),
        }
    }
    if let Some(store) = store {
        return child(Path::new(&store), &image, &arch, jobs);
    }
    let usual = Store::open(None).unwrap();
    let seed = usual.root().join("seed");
    assert!(
        seed.is_dir(),
        "{} is not there: `lycia seed` first",
        seed.display()
    );
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(&seed, folder.path().join("seed")).unwrap();
    let measure = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([
            "--image",
            &image,
            "--arch",
            &arch,
            "--jobs",
            &jobs.to_string(),
            "--store",
        ]);
        let output = command
            .arg(folder.path())
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        assert!(output.status.success(), "a round failed");
        let text = String::from_utf8(output.stdout).unwrap();
        let numbers: Vec<f64> = text
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect();
        <[f64; 5]>::try_from(numbers).unwrap()
    };
    let least = |cold: bool| {
        let round = |_| {
            if cold {
                let _ = std::fs::remove_dir_all(folder.path().join("packs"));
            }
            measure()
        };
        let all: Vec<[f64; 5]> = (0..rounds).map(round).collect();
        all.into_iter()
            .min_by(|one, other| one[0].total_cmp(&other[0]))
            .unwrap()
    };
    let (cold, warm) = (least(true), least(false));
    println!(
        "{image} for {arch}: {} packages, {:.0} MB of contents, {jobs} jobs",
        warm[3],
        warm[4] / 1e6
    );
    println!("{:<6} {:>9} {:>9}", "", "wall", "peak");
    for (name, wall, peak) in [
        ("cold", cold[0], Some(cold[2])),
        ("warm", warm[0], Some(warm[2])),
        ("packs", warm[1], None),
    ] {
        let peak = peak.map_or("-".to_owned(), |peak| format!("{:.0} MB", peak / 1e6));
        println!("{name:<6} {wall:>6.0} ms {peak:>9}");
    }
    let judged = if warm[0] < WARM { "within" } else { "beyond" };
    println!("warm is {judged} the target of {WARM} ms");
}

/// One root: prints milliseconds for it and for its packages, peak bytes, packages and bytes.
fn child(store: &Path, image: &str, arch: &str, jobs: usize) {
    let store = Store::open(Some(store)).unwrap();
    let project = Project::find(Some(&Path::new(env!("CARGO_MANIFEST_DIR")).join(".."))).unwrap();
    let image = project.image(image, arch).unwrap();
    let client = Client::from_environment(true).unwrap();
    let progress = Progress::new(true);
    let open = Open::new(&image, &store, &client).unwrap();
    let chosen = choice::solve(&image, &open).unwrap();
    let scratch = store.folder("scratch").unwrap();
    let epoch = choice::epoch(&chosen.root).unwrap();
    let started = Instant::now();
    let unpacked = packages::unpack(&chosen.root, &open.root, &store, &client, &progress, jobs).unwrap();
    let packs = started.elapsed();
    let bytes: u64 = unpacked
        .iter()
        .flat_map(|one| &one.contents)
        .map(lycia_tree::Content::len)
        .sum();
    let count = unpacked.len();
    let made = root::assemble(&image, &open.root, unpacked, epoch, false, &scratch).unwrap();
    let whole = started.elapsed();
    assert!(made.tree.walk().count() > count);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    let ms = |time: std::time::Duration| time.as_secs_f64() * 1e3;
    println!("{} {} {} {count} {bytes}", ms(whole), ms(packs), peak * 1024);
}
