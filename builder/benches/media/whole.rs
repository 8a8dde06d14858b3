//! Whole builds by the program: what a changed file costs, and the memory that a large root takes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::measure::{self, Rounds, Target, Usage};

/// Folders of the store that a full build may share with others: what was fetched, not what was made of it.
const SHARED: [&str; 4] = ["sources", "seed", "indexes", "packages"];

/// Compressed forms: their names, lines of the table, and what makes them of a definition.
const FORMS: [(&str, &str, &str, &str); 7] = [
    (
        "tar-zst",
        "tar zstd-22, memory",
        "live",
        "outputs = [\"tar\"]\n[tar]\ncompression = \"zstd\"\nlevel = 22",
    ),
    (
        "tar-xz",
        "tar xz-6, memory",
        "live",
        "outputs = [\"tar\"]\n[tar]\ncompression = \"xz\"\nlevel = 6",
    ),
    (
        "tar-gz",
        "tar gzip-9, memory",
        "live",
        "outputs = [\"tar\"]\n[tar]\ncompression = \"gzip\"\nlevel = 9",
    ),
    (
        "oci",
        "OCI zstd-12, memory",
        "live",
        "outputs = [\"oci\"]\n[oci]\ncompression = \"zstd\"\nlevel = 12",
    ),
    (
        "disk-zst",
        "disk zstd-12, memory",
        "disk",
        "[disk]\nformats = [\"zst\"]",
    ),
    (
        "disk-xz",
        "disk xz-6, memory",
        "disk",
        "[disk]\nformats = [\"xz\"]",
    ),
    (
        "disk-gz",
        "disk gzip-9, memory",
        "disk",
        "[disk]\nformats = [\"gz\"]",
    ),
];

/// A copy of the project with definitions of its own, a store without anything made, and a folder for outputs.
pub struct Project {
    folder: PathBuf,
    jobs: usize,
}

impl Project {
    /// In `folder`, which is new.
    pub fn new(folder: &Path, jobs: usize) -> Project {
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let project = Project {
            folder: folder.to_owned(),
            jobs,
        };
        for part in ["configs", "overlays"] {
            copy(&checkout.join(part), &folder.join(part));
        }
        let image = |name: &str, include: &str, overlays: &str, more: &str| {
            let text = format!("include = [\"{include}\"]\noverlays = [{overlays}]\n{more}\n");
            fs::write(folder.join(format!("configs/images/bench-{name}.toml")), text).unwrap();
        };
        image(
            "tar",
            "live",
            "",
            "outputs = [\"tar\"]\n[tar]\ncompression = \"zstd\"\nlevel = 1",
        );
        for (size, overlays) in [("seed", "\"changed\""), ("large", "\"changed\", \"large\"")] {
            image(&format!("live-{size}"), "live", overlays, "");
            image(&format!("disk-{size}"), "disk", overlays, "");
            for (form, _, include, tables) in FORMS {
                image(&format!("{form}-{size}"), include, overlays, tables);
            }
        }
        for overlay in ["changed", "large"] {
            fs::create_dir_all(folder.join("overlays").join(overlay).join("usr/share/bench")).unwrap();
        }
        project.change(0);
        let store = lycia::store::Store::open(None).unwrap();
        fs::create_dir(folder.join("store")).unwrap();
        for part in SHARED {
            symlink(store.folder(part).unwrap(), folder.join("store").join(part)).unwrap();
        }
        project
    }

    /// Where the files of the large root go.
    pub fn large(&self) -> PathBuf {
        self.folder.join("overlays/large/usr/share/bench/large")
    }

    /// Gives the one file that changes other words.
    fn change(&self, number: u64) {
        let file = self.folder.join("overlays/changed/usr/share/bench/number");
        fs::write(file, format!("the number is {number}\n")).unwrap();
    }

    /// Forgets what builds made, so that the next one makes everything.
    fn forget(&self) {
        for entry in fs::read_dir(self.folder.join("store")).unwrap() {
            let path = entry.unwrap().path();
            if !path.is_symlink() {
                fs::remove_dir_all(path).unwrap();
            }
        }
        let _ = fs::remove_dir_all(self.output());
    }

    fn output(&self) -> PathBuf {
        self.folder.join("output")
    }

    fn build(&self, image: &str) -> Usage {
        measure::run(
            Command::new(env!("CARGO_BIN_EXE_lycia"))
                .arg("--project")
                .arg(&self.folder)
                .arg("--cache")
                .arg(self.folder.join("store"))
                .args(["--quiet", "--offline", "--jobs", &self.jobs.to_string(), "build"])
                .arg(format!("bench-{image}"))
                .arg("--output")
                .arg(self.output())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        )
    }

    /// The root of the seed's live medium as a folder; needs to be root for owners and devices.
    pub fn seed_root(&self, folder: &Path) {
        self.build("tar");
        fs::create_dir_all(folder).unwrap();
        measure::run(
            Command::new("tar")
                .args(["--zstd", "-xpf"])
                .arg(self.output().join("bench-tar-x86_64.tar.zst"))
                .arg("-C")
                .arg(folder),
        );
    }

    /// A build after one file changed, against one that makes everything.
    pub fn rebuild(&self, size: &str, rounds: Rounds) {
        let image = format!("live-{size}");
        let number = std::cell::Cell::new(0);
        measure::line(
            size,
            "rebuild, one file changed",
            rounds,
            Target(0.15, None),
            &mut || {
                // The first time nothing was built before.
                if number.get() == 0 {
                    // The file may still be what a line before left.
                    self.change(0);
                    self.forget();
                    self.build(&image);
                }
                number.set(number.get() + 1);
                self.change(number.get());
                self.build(&image)
            },
            &mut || {
                self.forget();
                self.build(&image)
            },
        );
    }

    /// A build of which nothing changed since the last one.
    pub fn unchanged(&self, size: &str, rounds: Rounds) {
        let image = format!("live-{size}");
        self.build(&image);
        measure::timed(size, "rebuild, nothing changed", rounds, 1.0, &mut || {
            self.build(&image)
        });
    }

    /// Memory of building everything: a live medium, a disk, and each compressed form; those that are wanted.
    pub fn memory(&self, size: &str, wanted: impl Fn(&str) -> bool) {
        let plain = [("live", "squashfs and ISO, memory"), ("disk", "disk, memory")];
        let forms = FORMS.iter().map(|(form, work, ..)| (*form, *work));
        for (form, work) in plain.into_iter().chain(forms) {
            if !wanted("memory") && !wanted(form) {
                continue;
            }
            self.forget();
            measure::alone(size, work, 256.0, || self.build(&format!("{form}-{size}")));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy(&entry.path(), &target);
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path()).unwrap(), &target).unwrap();
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
