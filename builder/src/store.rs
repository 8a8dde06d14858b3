//! The store: downloads, packs and the seed, addressed by hash, shared by concurrent runs.
//!
//! Everything is written aside, synced and renamed, so that a killed run leaves at most a temporary file
//! that `lycia clean` removes, and what has a name is whole.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use crate::error::{Error, Kind, Result, io, writing};
use crate::manifest::hex;

/// A store.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// The store at `given`, else `$XDG_CACHE_HOME/lycia`, else `~/.cache/lycia`. Made if need be.
    ///
    /// # Errors
    /// When no place is known or it cannot be made.
    pub fn open(given: Option<&Path>) -> Result<Store> {
        let absolute = |name: &str| {
            std::env::var_os(name)
                .map(PathBuf::from)
                .filter(|path| path.is_absolute())
        };
        let root = given
            .map(Path::to_owned)
            .or_else(|| absolute("XDG_CACHE_HOME").map(|cache| cache.join("lycia")))
            .or_else(|| absolute("HOME").map(|home| home.join(".cache/lycia")))
            .ok_or_else(|| {
                Error::new(
                    Kind::Host,
                    "neither XDG_CACHE_HOME nor HOME says where the store is",
                )
                .hint("give --cache DIR")
            })?;
        writing(std::fs::create_dir_all(&root), || {
            format!("making the store {}", root.display())
        })?;
        let root = io(root.canonicalize(), || {
            format!("finding the store {}", root.display())
        })?;
        Ok(Store { root })
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder of it, made if need be.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        writing(std::fs::create_dir_all(&path), || {
            format!("making {}", path.display())
        })?;
        Ok(path)
    }

    /// Writes `bytes` aside and names the file `path`.
    ///
    /// # Errors
    /// When the system refuses; nothing has the name then.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        write_whole(path, bytes)
    }
}

/// Writes a file of `bytes` beside `path` and renames it once it is on the disk.
///
/// # Errors
/// When the system refuses; nothing has the name then.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut aside = Aside::new(path)?;
    io(aside.file().write_all(bytes), || {
        format!("writing {}", path.display())
    })?;
    aside.finish()
}

/// A file on its way to a name.
///
/// Where the file system can, it has no name at all until it is finished, so that a run that is killed
/// leaves nothing behind; elsewhere it has a name that begins with [`TEMPORARY`].
pub struct Aside {
    file: File,
    /// The name that it has, if it has one; removed when dropped.
    named: Option<tempfile::TempPath>,
    path: PathBuf,
}

impl Aside {
    /// A file beside `path`, which goes when it is dropped unfinished.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn new(path: &Path) -> Result<Aside> {
        let folder = folder(path);
        let doing = || format!("making a file in {}", folder.display());
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        match rustix::fs::open(folder, flags, Mode::from_raw_mode(0o644)) {
            Ok(descriptor) => {
                let file = File::from(descriptor);
                Ok(Aside {
                    file,
                    named: None,
                    path: path.to_owned(),
                })
            }
            // EISDIR is what kernels and file systems without it say.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOSYS) => {
                let named = writing(temporary().tempfile_in(folder), doing)?;
                let (file, name) = named.into_parts();
                Ok(Aside {
                    file,
                    named: Some(name),
                    path: path.to_owned(),
                })
            }
            Err(error) => writing(Err(error.into()), doing),
        }
    }

    /// The file.
    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// A path that leads to it as long as it is open.
    pub fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()))
    }

    /// As [`Aside::finish`], under another name of the same folder.
    ///
    /// # Errors
    /// As [`Aside::finish`].
    pub fn finish_as(mut self, path: &Path) -> Result<()> {
        self.path = path.to_owned();
        self.finish()
    }

    /// Syncs it and gives it its name, in place of a file that has it.
    ///
    /// # Errors
    /// When the system refuses; the file goes then.
    pub fn finish(self) -> Result<()> {
        self.settle()?;
        self.link()
    }

    /// Everything but the name.
    fn settle(&self) -> Result<()> {
        // What the umask took away at its making comes back: outputs do not depend on it.
        io(
            self.file
                .set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644)),
            || format!("naming {}", self.path.display()),
        )?;
        io(self.file.sync_all(), || {
            format!("writing {}", self.path.display())
        })
    }

    /// The name.
    fn link(self) -> Result<()> {
        let doing = || format!("naming {}", self.path.display());
        if let Some(named) = self.named {
            return writing(named.persist(&self.path).map_err(|error| error.error), || {
                format!("naming {}", self.path.display())
            });
        }
        let link = |to: &Path| {
            let from = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            rustix::fs::linkat(CWD, from, CWD, to, AtFlags::SYMLINK_FOLLOW)
        };
        match link(&self.path) {
            Err(Errno::EXIST) => writing(replace(&self.path, link, LOCK_LIMIT), doing),
            result => writing(result.map_err(Into::into), doing),
        }
    }
}

/// Gives files of one folder their names, all or none: first those of `side`, then those of `media`. Where a medium has
/// its name, all that belongs to it has: older media go out of the way before anything else. Files at `away` go with them.
///
/// # Errors
/// When the system refuses; what was there before is there again then.
pub fn name_together(side: Vec<Aside>, media: Vec<Aside>, away: &[PathBuf]) -> Result<()> {
    let Some(first) = side.first().or(media.first()) else {
        return Ok(());
    };
    let directory = folder(&first.path).to_owned();
    // What takes long or room comes before the first name.
    for file in side.iter().chain(&media) {
        file.settle()?;
    }
    let doing = || format!("naming files in {}", directory.display());
    let opened = io(File::open(&directory), doing)?;
    let locked = writing(lock(&opened, LOCK_LIMIT), doing)?;
    // Without a lock other runs may be here, too: a name of this one alone.
    let run = if locked {
        String::new()
    } else {
        std::process::id().to_string()
    };
    let mut naming = Naming {
        run,
        kept: Vec::new(),
        named: Vec::new(),
    };
    let result = naming.all(side, media, away);
    if result.is_err() {
        naming.undo();
    }
    // What was replaced goes; or what could not be brought back stays under its other name.
    if result.is_ok() {
        for (_, kept) in &naming.kept {
            // The next run may find nothing to do and leave it: once more, then.
            let _ = std::fs::remove_file(kept).or_else(|_| std::fs::remove_file(kept));
        }
    }
    result
}

/// What [`name_together`] has done so far.
struct Naming {
    /// A part of the names that older files have meanwhile.
    run: String,
    /// Older files: their name, and the one that they have meanwhile.
    kept: Vec<(PathBuf, PathBuf)>,
    /// Names that were given.
    named: Vec<PathBuf>,
}

impl Naming {
    fn all(&mut self, side: Vec<Aside>, media: Vec<Aside>, away: &[PathBuf]) -> Result<()> {
        for path in media.iter().map(|file| &file.path).chain(away) {
            self.keep(path)?;
        }
        for file in side {
            self.keep(&file.path)?;
            self.name(file)?;
        }
        media.into_iter().try_for_each(|file| self.name(file))
    }

    /// Gives an older file another name. It follows from the first one, so that what a killed run leaves goes with the next.
    fn keep(&mut self, path: &Path) -> Result<()> {
        let doing = || format!("replacing {}", path.display());
        let name = path.file_name().unwrap_or_default();
        let digest = Sha256::new()
            .chain_update(format!("older\0{}\0", self.run))
            .chain_update(name.as_encoded_bytes())
            .finalize();
        let kept = folder(path).join(format!("{TEMPORARY}{}", hex(&digest[..8])));
        match path.symlink_metadata() {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                // Of a run that was killed: what belonged to it may be replaced already.
                let _ = std::fs::remove_file(kept);
                return Ok(());
            }
            Ok(metadata) if metadata.is_dir() => {
                return writing(Err(std::io::ErrorKind::IsADirectory.into()), doing);
            }
            other => {
                io(other, doing)?;
            }
        }
        writing(std::fs::rename(path, &kept), doing)?;
        self.kept.push((path.to_owned(), kept));
        Ok(())
    }

    fn name(&mut self, file: Aside) -> Result<()> {
        let path = file.path.clone();
        file.link()?;
        self.named.push(path);
        Ok(())
    }

    /// Brings back what was there.
    fn undo(&mut self) {
        for path in self.named.drain(..).rev() {
            let _ = std::fs::remove_file(path);
        }
        for (path, kept) in self.kept.drain(..).rev() {
            let _ = std::fs::rename(kept, path);
        }
    }
}

/// Gives a file that has no name yet the name `path`, which another has. A link cannot take the place of a
/// file; a rename can.
///
/// The name between the two follows from `path`, so that what a run leaves that was killed just there goes
/// with the next. A lock on the folder keeps runs apart meanwhile: a file whose only name another run
/// removes cannot get one again.
///
/// Another run that holds the folder is waited for as long as `limit`: it does no more there than this.
fn replace(
    path: &Path,
    link: impl Fn(&Path) -> rustix::io::Result<()>,
    limit: Duration,
) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default();
    let digest = Sha256::digest(name.as_encoded_bytes());
    let between = folder(path).join(format!("{TEMPORARY}{}", hex(&digest[..8])));
    let directory = File::open(folder(path))?;
    if !lock(&directory, limit)? {
        // A name of this run alone.
        let name = temporary().make_in(folder(path), |to| link(to).map_err(Into::into))?;
        return name.into_temp_path().persist(path).map_err(|error| error.error);
    }
    let _ = std::fs::remove_file(&between);
    link(&between)?;
    std::fs::rename(&between, path).inspect_err(|_| {
        let _ = std::fs::remove_file(&between);
    })
}

/// Locks a folder, which another run may hold as long as `limit`; false on a file system without locks.
fn lock(directory: &File, limit: Duration) -> std::io::Result<bool> {
    let since = Instant::now();
    loop {
        match rustix::fs::flock(directory, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK | Errno::INTR) if since.elapsed() < limit => {
                std::thread::sleep(LOCK_LOOK);
            }
            Err(Errno::WOULDBLOCK | Errno::INTR) => {
                return Err(std::io::Error::new(
                    std::io::ErrorKind::TimedOut,
                    format!(
                        "another program holds a lock on the folder for more than {} s: end it and run again",
                        limit.as_secs()
                    ),
                ));
            }
            Err(_) => return Ok(false),
        }
    }
}

impl std::io::Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn temporary() -> tempfile::Builder<'static, 'static> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMPORARY);
    builder
}

/// How long a run waits for another that is about to give a file of the same folder its name.
const LOCK_LIMIT: Duration = Duration::from_secs(60);
/// Between two looks at the lock.
const LOCK_LOOK: Duration = Duration::from_millis(2);

/// How the names of unfinished files begin.
pub const TEMPORARY: &str = ".lycia-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_finished() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.iso");
        let mut aside = Aside::new(&path).unwrap();
        aside.file().write_all(b"half").unwrap();
        assert!(!path.exists());
        drop(aside);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        write_whole(&path, b"whole").unwrap();
        write_whole(&path, b"again").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"again");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn files_get_their_names_together_or_none_does() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let file = |name: &str, text: &str| {
            let mut aside = Aside::new(&at(name)).unwrap();
            aside.file().write_all(text.as_bytes()).unwrap();
            aside
        };
        let read = || {
            let mut all: Vec<(String, String)> = std::fs::read_dir(directory.path())
                .unwrap()
                .flatten()
                .filter(|entry| entry.path().is_file())
                .map(|entry| {
                    let name = entry.file_name().into_string().unwrap();
                    (name, std::fs::read_to_string(entry.path()).unwrap())
                })
                .collect();
            all.sort();
            all
        };
        let pairs = |all: &[(&str, &str)]| -> Vec<(String, String)> {
            let own = |&(name, text): &(&str, &str)| (name.to_owned(), text.to_owned());
            all.iter().map(own).collect()
        };
        name_together(vec![file("sums", "1")], vec![file("iso", "1")], &[]).unwrap();
        std::fs::write(at("sig"), "1").unwrap();
        // The last of the names cannot be given: a folder has it.
        std::fs::create_dir(at("img")).unwrap();
        for (side, media) in [(&["sums"][..], &["iso", "img"][..]), (&["sums", "img"], &["iso"])] {
            let files = |names: &[&str]| names.iter().map(|name| file(name, "2")).collect();
            let error = name_together(files(side), files(media), &[at("sig")]).unwrap_err();
            assert_eq!(error.kind(), Kind::Host);
            assert!(error.to_string().contains("img"), "{error}");
            assert_eq!(read(), pairs(&[("iso", "1"), ("sig", "1"), ("sums", "1")]));
        }
        // What a killed run left goes with the next, whether or not it has its name.
        let digest = Sha256::digest(b"older\0\0iso");
        let left = at(&format!("{TEMPORARY}{}", hex(&digest[..8])));
        std::fs::rename(at("iso"), &left).unwrap();
        // What does no longer fit goes, too.
        name_together(vec![file("sums", "2")], vec![file("iso", "2")], &[at("sig")]).unwrap();
        assert_eq!(read(), pairs(&[("iso", "2"), ("sums", "2")]));
    }

    #[test]
    fn what_a_killed_run_left_between_two_names_goes_with_the_next() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.iso");
        write_whole(&path, b"old").unwrap();
        // As a run that is killed between its link and its rename.
        let killed = |between: &Path| {
            std::fs::write(between, b"left").unwrap();
            Err(Errno::IO)
        };
        let killed = replace(&path, killed, LOCK_LIMIT);
        assert!(killed.is_err());
        let digest = hex(&Sha256::digest(b"image.iso")[..8]);
        let between = directory.path().join(format!("{TEMPORARY}{digest}"));
        std::fs::write(&between, b"left").unwrap();
        write_whole(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert!(!between.exists());
    }

    #[test]
    fn a_lock_that_nobody_gives_back_is_not_waited_for_without_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.iso");
        write_whole(&path, b"old").unwrap();
        let other = File::open(directory.path()).unwrap();
        rustix::fs::flock(&other, FlockOperation::LockExclusive).unwrap();
        let link = |_: &Path| -> rustix::io::Result<()> { panic!("the folder is another's") };
        let error = replace(&path, link, Duration::from_millis(30)).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::TimedOut);
        assert!(
            error.to_string().contains("holds a lock on the folder"),
            "{error}"
        );
        // Given back in time, it is waited for.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(50));
                drop(other);
            });
            write_whole(&path, b"new").unwrap();
        });
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn runs_at_once_leave_a_whole_file_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("image.iso");
        std::thread::scope(|scope| {
            for run in 0..4u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        write_whole(path, &[run; 1000]).unwrap();
                    }
                });
            }
        });
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len(), 1000);
        assert!(bytes.iter().all(|&byte| byte == bytes[0]));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_the_hosts() {
        let error = write_whole(Path::new("/proc/no/such/file"), b"x").unwrap_err();
        assert!(error.to_string().contains("/proc/no/such"));
    }
}
