//! Building a second time under other conditions, and comparing.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, Mode};
use sha2::{Digest as _, Sha256};

use crate::build::{Built, Options};
use crate::difference::Subject;
use crate::error::{Error, Explain as _, Kind, Result, io, writing};
use crate::manifest::hex;
use crate::progress::Progress;
use crate::store::Store;

/// Folders of a store without which a build would fetch everything again. The rest is for speed, and the second build has none of
/// it: no compressed blocks, no packs, no record of what was built.
const SHARED: [&str; 4] = ["sources", "seed", "indexes", "packages"];

/// What else the command line had that the second build needs, too.
pub struct Again<'a> {
    /// The project's folder.
    pub project: &'a Path,
    /// `--mirror`
    pub mirror: &'a [String],
    /// `--trust`
    pub trust: &'a [std::path::PathBuf],
}

/// How the folders of second builds begin.
const PREFIX: &str = "verify-";

/// The folder of a second build: in the store's scratch, since it is as large as the outputs and nobody's business but ours. It
/// is locked as long as its run lives. What a killed run left goes with the next one.
struct Place {
    folder: tempfile::TempDir,
    /// Open, and so locked.
    _lock: File,
}

impl Place {
    fn new(scratch: &Path) -> Result<Place> {
        let doing = || format!("making a folder in {}", scratch.display());
        // Runs at the same time are kept apart while one has a folder without a lock.
        let all = io(File::open(scratch), doing)?;
        let _ = rustix::fs::flock(&all, FlockOperation::LockExclusive);
        for entry in io(std::fs::read_dir(scratch), doing)?.flatten() {
            let ours = entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(PREFIX.as_bytes());
            if let Some(left) = ours.then(|| File::open(entry.path()).ok()).flatten()
                && rustix::fs::flock(&left, FlockOperation::NonBlockingLockExclusive).is_ok()
            {
                // What cannot be removed is the business of who made it so.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(scratch);
        let folder = writing(folder, doing)?;
        let lock = io(File::open(folder.path()), doing)?;
        let _ = rustix::fs::flock(&lock, FlockOperation::LockExclusive);
        Ok(Place { folder, _lock: lock })
    }
}

/// Builds what `built` has once more: another working folder, output folder, folder for temporary files, time zone, locale,
/// umask, number of threads, and a store without what earlier builds left for speed. The packages are those of the lock that was
/// written.
///
/// # Errors
/// When an output differs, with what differs in it; when the second build fails.
pub fn verify(
    built: &Built,
    options: &Options,
    again: &Again<'_>,
    store: &Store,
    progress: &Progress,
) -> Result<()> {
    let doing = || "building a second time".to_owned();
    let place = Place::new(&store.folder("scratch")?)?;
    let at = |name: &str| place.folder.path().join(name);
    for folder in ["a folder", "out", "tmp", "store"] {
        io(std::fs::create_dir(at(folder)), doing)?;
    }
    for folder in SHARED {
        let target = store.folder(folder)?;
        io(
            std::os::unix::fs::symlink(target, at("store").join(folder)),
            doing,
        )?;
    }
    let absolute = |path: &Path| io(std::path::absolute(path), doing);
    let program = io(std::env::current_exe(), doing)?;
    let mut command = Command::new(program);
    command
        .arg("--project")
        .arg(absolute(again.project)?)
        .arg("--cache")
        .arg(at("store"))
        .args(["--quiet", "--jobs"])
        .arg((options.jobs % 4 + 2).to_string());
    if options.offline {
        command.arg("--offline");
    }
    command
        .args([
            "build",
            &options.image,
            "--arch",
            &options.arch,
            "--force",
            "--output",
        ])
        .arg(at("out"));
    let lock = built.files.iter().find(|file| file.kind == "lock");
    if let Some(lock) = lock {
        command.arg("--lock").arg(absolute(&lock.path)?);
    }
    if let Some(base) = &options.base {
        command.arg("--base").arg(absolute(base)?);
    }
    if options.strict {
        command.arg("--strict");
    }
    for mirror in again.mirror {
        command.arg("--mirror").arg(mirror);
    }
    for key in again.trust {
        command.arg("--trust").arg(absolute(key)?);
    }
    command
        .current_dir(at("a folder"))
        .env("TMPDIR", at("tmp"))
        .env("TZ", "America/St_Johns")
        .env("LC_ALL", "de_DE.UTF-8")
        .env("LANG", "de_DE.UTF-8")
        .env("HOME", at("tmp"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    progress
        .say("once more     another folder, umask, time zone, locale, threads, and nothing known of blocks");
    // The child has the umask of the moment.
    let before = rustix::process::umask(Mode::from_raw_mode(0o077));
    let child = command.spawn();
    rustix::process::umask(before);
    let ended = child
        .and_then(std::process::Child::wait_with_output)
        .explain(Kind::Host, doing)?;
    if !ended.status.success() {
        return Err(Error::new(
            Kind::Verification,
            String::from_utf8_lossy(&ended.stderr).trim().to_owned(),
        )
        .context("the second build failed where the first did not"));
    }
    let mut differing = Vec::new();
    for file in built.files.iter().filter(|file| file.kind != "signature") {
        let name = file.path.file_name().unwrap_or_default();
        let second = at("out").join(name);
        let sum = match File::open(&second) {
            Err(error) => {
                differing.push(format!("{}: {error}", name.to_string_lossy()));
                continue;
            }
            Ok(mut opened) => {
                let mut hash = Sha256::new();
                io(std::io::copy(&mut opened, &mut hash), doing)?;
                hex(&hash.finalize())
            }
        };
        if sum == file.sha256 {
            continue;
        }
        let what = match Subject::open(&file.path).and_then(|first| first.compare(&Subject::open(&second)?)) {
            Ok(difference) => difference.text(),
            Err(_) => "its text differs\n".to_owned(),
        };
        differing.push(format!("{}:\n{}", name.to_string_lossy(), what.trim_end()));
    }
    if differing.is_empty() {
        progress.say(&format!(
            "the same      {} files have the same bytes as those of the second build",
            built.files.len()
        ));
        return Ok(());
    }
    Err(Error::new(Kind::Verification, differing.join("\n"))
        .context("two builds of the same lock differ")
        .hint(
            "this is a fault of lycia, or of what the definition takes from this machine: please report it",
        ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_killed_runs_go_and_those_of_others_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let left = scratch.path().join("verify-left");
        std::fs::create_dir_all(left.join("store/packs")).unwrap();
        std::fs::write(scratch.path().join("other"), "x").unwrap();
        let names = || {
            let mut names: Vec<_> = std::fs::read_dir(scratch.path())
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            names.sort();
            names
        };
        let one = Place::new(scratch.path()).unwrap();
        let two = Place::new(scratch.path()).unwrap();
        let mut expected = vec![
            scratch.path().join("other"),
            one.folder.path().to_owned(),
            two.folder.path().to_owned(),
        ];
        expected.sort();
        assert_eq!(names(), expected);
        drop((one, two));
        assert_eq!(names(), [scratch.path().join("other")]);
    }

    #[test]
    fn nothing_that_is_there_for_speed_is_shared() {
        for folder in ["blocks", "built", "scratch", "packs"] {
            assert!(!SHARED.contains(&folder));
        }
    }
}
