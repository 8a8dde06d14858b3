//! Whether a build would write again what is there already.
//!
//! After a build the store remembers, for the folder of the outputs and the image, a hash of all that went in
//! and how the files looked. A next build with the same hash over untouched files ends at once.

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::build::{Built, Options, Written};
use crate::choice::Open;
use crate::definition::Image;
use crate::error::{Result, io};
use crate::host;
use crate::lock::Lock;
use crate::manifest::hex;
use crate::store::{Store, write_whole};

/// What is remembered of a build.
#[derive(Serialize, Deserialize)]
struct Record {
    inputs: String,
    files: Vec<Seen>,
    warnings: Vec<String>,
}

/// A file and how it looked.
#[derive(Serialize, Deserialize)]
struct Seen {
    #[serde(flatten)]
    written: Written,
    inode: u64,
    changed: (i64, i64),
}

/// Where builds of an image into a folder are remembered, and what goes into this one.
pub struct Inputs {
    record: PathBuf,
    hash: String,
}

impl Inputs {
    /// Hashes all that the outputs depend on: this program, the definition as it was understood, the lock, the
    /// repositories' keys and, for what a medium offers beyond its own root, their indexes, the overlays with all
    /// files, and what of the host puts GRUB together.
    ///
    /// # Errors
    /// When an overlay cannot be read.
    pub fn of(image: &Image, lock: &Lock, open: &Open, store: &Store, options: &Options) -> Result<Inputs> {
        let mut hasher = Sha256::new();
        let program = Path::new("/proc/self/exe");
        file(program, &mut hasher)?;
        hasher.update(format!("{image:?}\0{}\0{}\0", options.strict, lock.text()));
        for repository in &open.root {
            for (name, pem) in &repository.key_files {
                hasher.update(format!("{name}\0{}\0", pem.len()));
                hasher.update(pem);
            }
            if image.install.is_some() {
                hasher.update(Sha256::digest(&repository.index));
            }
        }
        for overlay in &image.overlays {
            content(overlay, &mut hasher)?;
        }
        if let Some(base) = &options.base {
            look(base, &mut hasher);
        }
        if let Ok(program) = host::find("grub-mkimage") {
            look(&program, &mut hasher);
        }
        for platform in &image.boot.platforms {
            let folder = Path::new("/usr/lib/grub").join(&platform.platform);
            look(&folder.join("moddep.lst"), &mut hasher);
            look(&folder.join("kernel.img"), &mut hasher);
        }
        let output = io(options.output.canonicalize(), || {
            format!("finding {}", options.output.display())
        })?;
        let mut place = Sha256::new();
        place.update(output.as_os_str().as_bytes());
        place.update(format!("\0{}\0{}", image.name, image.arch));
        Ok(Inputs {
            record: store
                .folder("built")?
                .join(format!("{}.json", hex(&place.finalize()[..16]))),
            hash: hex(&hasher.finalize()),
        })
    }

    /// The outputs of the last build, if it had the same inputs and they are as it left them.
    pub fn built(&self) -> Option<Built> {
        let record: Record = serde_json::from_slice(&std::fs::read(&self.record).ok()?).ok()?;
        if record.inputs != self.hash || record.files.is_empty() {
            return None;
        }
        let mut files = Vec::new();
        for seen in record.files {
            let metadata = seen.written.path.symlink_metadata().ok()?;
            let now = (metadata.ctime(), metadata.ctime_nsec());
            if !metadata.is_file()
                || metadata.len() != seen.written.size
                || metadata.ino() != seen.inode
                || now != seen.changed
            {
                return None;
            }
            files.push(seen.written);
        }
        Some(Built {
            files,
            warnings: record.warnings,
        })
    }

    /// Remembers a build, but for signatures, which each run is asked for anew. It is for speed alone: what cannot be remembered is
    /// built again.
    pub fn remember(&self, built: &Built) {
        let files: Option<Vec<Seen>> = built
            .files
            .iter()
            .filter(|written| written.kind != "signature")
            .map(|written| {
                let metadata = written.path.symlink_metadata().ok()?;
                Some(Seen {
                    written: written.clone(),
                    inode: metadata.ino(),
                    changed: (metadata.ctime(), metadata.ctime_nsec()),
                })
            })
            .collect();
        let Some(files) = files else { return };
        let record = Record {
            inputs: self.hash.clone(),
            files,
            warnings: built.warnings.clone(),
        };
        if let Ok(text) = serde_json::to_vec(&record) {
            let _ = write_whole(&self.record, &text);
        }
    }
}

/// All of a folder: names, kinds, whether files are programs, contents.
fn content(path: &Path, hasher: &mut Sha256) -> Result<()> {
    let doing = || format!("reading {}", path.display());
    let metadata = io(path.symlink_metadata(), doing)?;
    hasher.update(path.as_os_str().as_bytes());
    hasher.update(format!("\0{:o}\0{}\0", metadata.mode(), metadata.len()));
    if metadata.is_dir() {
        let mut entries = Vec::new();
        for entry in io(std::fs::read_dir(path), doing)? {
            entries.push(io(entry, doing)?.path());
        }
        entries.sort();
        for entry in entries {
            content(&entry, hasher)?;
        }
    } else if metadata.is_symlink() {
        let target = io(std::fs::read_link(path), doing)?;
        hasher.update(target.as_os_str().as_bytes());
        hasher.update([0]);
    } else if metadata.is_file() {
        file(path, hasher)?;
    }
    Ok(())
}

/// The bytes of a file.
fn file(path: &Path, hasher: &mut Sha256) -> Result<()> {
    let doing = || format!("reading {}", path.display());
    let mut file = io(File::open(path), doing)?;
    io(std::io::copy(&mut file, hasher), doing).map(drop)
}

/// How a file of the host looks; nothing of one that is not there.
fn look(path: &Path, hasher: &mut Sha256) {
    if let Ok(metadata) = path.metadata() {
        hasher.update(format!(
            "{}\0{}\0{}.{}\0",
            path.display(),
            metadata.len(),
            metadata.mtime(),
            metadata.mtime_nsec()
        ));
    }
}
