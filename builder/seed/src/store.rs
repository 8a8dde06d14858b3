//! Where the seed keeps things on this machine, and how files get there.
//!
//! Nothing appears under a final name before it is whole: written aside, fsynced, renamed.

use crate::Cancel;
use crate::error::{IoContext, Result, SeedError};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Paths below the store.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// A store at a directory, which is made when something is put into it.
    pub fn new(root: &Path) -> Store {
        Store {
            root: root.to_owned(),
        }
    }

    /// The store of the user who runs the program: `$XDG_CACHE_HOME/lycia`, by default `~/.cache/lycia`.
    pub fn of_user() -> Option<PathBuf> {
        let set = |name: &str| {
            std::env::var_os(name)
                .filter(|v| !v.is_empty())
                .map(PathBuf::from)
        };
        let cache = set("XDG_CACHE_HOME").filter(|p| p.is_absolute());
        Some(cache.or_else(|| Some(set("HOME")?.join(".cache")))?.join("lycia"))
    }

    /// Fetched files: `<sha256>-<name>`.
    pub fn sources(&self) -> PathBuf {
        self.root.join("sources")
    }

    /// The private apt state.
    pub fn apt(&self) -> PathBuf {
        self.root.join("apt")
    }

    fn seed(&self) -> PathBuf {
        self.root.join("seed")
    }

    /// Signing keys.
    pub fn keys(&self) -> PathBuf {
        self.seed().join("keys")
    }

    /// Results of a recipe, by input hash.
    pub fn recipe(&self, name: &str) -> PathBuf {
        self.seed().join("recipes").join(name)
    }

    pub(crate) fn recipes(&self) -> PathBuf {
        self.seed().join("recipes")
    }

    pub(crate) fn works(&self) -> PathBuf {
        self.seed().join("work")
    }

    /// Scratch of a recipe. Its path is always the same, so that it cannot make two builds differ.
    pub fn work(&self, name: &str) -> PathBuf {
        self.seed().join("work").join(name)
    }

    /// The repository of an architecture.
    pub fn repository(&self, arch: &str) -> PathBuf {
        self.seed().join("repository").join(arch)
    }

    /// Hashes of the project's files, by size and times.
    pub(crate) fn stat_cache(&self) -> PathBuf {
        self.seed().join("stat-cache.json")
    }

    /// What "newest" was found to mean.
    pub(crate) fn pins(&self) -> PathBuf {
        self.root.join("sources").join("newest.json")
    }
}

/// Makes a directory and its parents.
pub(crate) fn make_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).at("making the directory", path)
}

/// Removes a file or a whole directory, whatever its modes; nothing there is fine.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).at("removing", path),
        Ok(meta) if !meta.is_dir() => return fs::remove_file(path).at("removing", path),
        Ok(_) => {}
    }
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // Unpacked sources may hold read-only directories.
            make_writable(path)?;
            fs::remove_dir_all(path).at("removing", path)
        }
        other => other.at("removing", path),
    }
}

fn make_writable(dir: &Path) -> Result<()> {
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).at("changing the mode of", dir)?;
    for entry in fs::read_dir(dir).at("reading the directory", dir)? {
        let entry = entry.at("reading the directory", dir)?;
        if entry.file_type().at("looking at", &entry.path())?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Writes a file so that a reader finds the old or the new one, never a part.
pub(crate) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    make_dir(dir)?;
    let mut aside = tempfile::NamedTempFile::new_in(dir).at("making a file in", dir)?;
    aside.write_all(bytes).at("writing", path)?;
    aside
        .as_file()
        .set_permissions(fs::Permissions::from_mode(mode))
        .at("changing the mode of", path)?;
    aside.as_file().sync_all().at("writing", path)?;
    aside
        .persist(path)
        .map_err(|e| e.error)
        .at("renaming into place", path)?;
    sync_dir(dir)
}

/// Makes renames and new names in a directory durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<()> {
    File::open(dir)
        .and_then(|d| d.sync_all())
        .at("writing the directory", dir)
}

/// Renames a finished directory to its final name after everything in it is on the disk.
pub(crate) fn publish_dir(from: &Path, to: &Path) -> Result<()> {
    let handle = File::open(from).at("opening", from)?;
    // One call in place of a thousand: all of the file system's dirty pages.
    rustix::fs::syncfs(&handle)
        .map_err(io::Error::from)
        .at("writing to the disk", from)?;
    let parent = to.parent().unwrap_or(Path::new("."));
    make_dir(parent)?;
    match fs::rename(from, to) {
        // A result that is found damaged is replaced.
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists
            ) =>
        {
            let old = parent.join(format!(".old-{}", std::process::id()));
            fs::rename(to, &old).at("setting aside", to)?;
            fs::rename(from, to).at("renaming into place", to)?;
            remove(&old)?;
        }
        other => other.at("renaming into place", to)?,
    }
    sync_dir(parent)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file's content.
pub(crate) fn sha256_file(path: &Path) -> Result<String> {
    let mut file = File::open(path).at("opening", path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer).at("reading", path)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&buffer[..n]),
        }
    }
}

/// Reads JSON that this program wrote. Absent or unreadable is `None`: these files only save work.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

pub(crate) fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<()> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|e| SeedError::Io {
        action: "writing",
        path: path.to_owned(),
        source: e.into(),
    })?;
    text.push(b'\n');
    write_file(path, &text, 0o644)
}

/// An exclusive lock on a file, waited for. Given up when the value is dropped.
pub(crate) struct Lock(File);

impl Lock {
    pub(crate) fn take(path: &Path) -> Result<Lock> {
        let file = lock_file(path)?;
        file.lock().at("waiting for the lock", path)?;
        Ok(Lock(file))
    }

    /// A lock that the programs started meanwhile hold too. When this program is killed, the next run waits
    /// until the last of them has ended, and does not clean up under their feet.
    pub(crate) fn take_inherited(path: &Path, cancel: &Cancel) -> Result<Lock> {
        let file = lock_file(path)?;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if cancel.is_cancelled() => return Err(SeedError::Cancelled),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
                Err(TryLockError::Error(error)) => return Err(error).at("waiting for the lock", path),
            }
        }
        let lock = Lock(file);
        rustix::io::fcntl_setfd(&lock.0, rustix::io::FdFlags::empty())
            .map_err(io::Error::from)
            .at("keeping the lock", path)?;
        Ok(lock)
    }

    /// The lock, if nobody has it.
    pub(crate) fn try_take(path: &Path) -> Result<Option<Lock>> {
        let file = lock_file(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Lock(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error).at("taking the lock", path),
        }
    }
}

fn lock_file(path: &Path) -> Result<File> {
    if let Some(dir) = path.parent() {
        make_dir(dir)?;
    }
    File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .at("opening the lock", path)
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Released for every copy of the descriptor.
        let _ = self.0.unlock();
    }
}

/// Hashes of files remembered by size, times and inode, so that an unchanged project costs one `stat` per
/// file.
#[derive(Default)]
pub(crate) struct StatCache {
    path: PathBuf,
    known: BTreeMap<PathBuf, Remembered>,
    changed: bool,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct Remembered {
    size: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    sha256: String,
}

/// A file changed less than this ago may change again without its times showing it.
const SETTLED: Duration = Duration::from_secs(2);

impl StatCache {
    pub(crate) fn load(store: &Store) -> StatCache {
        let path = store.stat_cache();
        StatCache {
            known: read_json(&path).unwrap_or_default(),
            path,
            changed: false,
        }
    }

    pub(crate) fn sha256(&mut self, path: &Path) -> Result<String> {
        let meta = fs::metadata(path).at("looking at", path)?;
        let now = Remembered {
            size: meta.size(),
            inode: meta.ino(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
            sha256: String::new(),
        };
        if let Some(known) = self.known.get(path)
            && (Remembered {
                sha256: String::new(),
                ..known.clone()
            }) == now
        {
            return Ok(known.sha256.clone());
        }
        let sha256 = sha256_file(path)?;
        let settled = meta
            .modified()
            .ok()
            .and_then(|m| SystemTime::now().duration_since(m).ok())
            .is_some_and(|age| age > SETTLED);
        if settled {
            self.known.insert(
                path.to_owned(),
                Remembered {
                    sha256: sha256.clone(),
                    ..now
                },
            );
            self.changed = true;
        } else if self.known.remove(path).is_some() {
            self.changed = true;
        }
        Ok(sha256)
    }

    pub(crate) fn save(&self) -> Result<()> {
        if self.changed {
            write_json(&self.path, &self.known)
        } else {
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_gets_a_new_hash_and_an_old_one_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::new(dir.path());
        let file = dir.path().join("f");
        fs::write(&file, "one").unwrap();
        let old = SystemTime::now() - Duration::from_secs(60);
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(old)
            .unwrap();
        let mut cache = StatCache::load(&store);
        let first = cache.sha256(&file).unwrap();
        assert_eq!(first, sha256(b"one"));
        cache.save().unwrap();
        assert_eq!(StatCache::load(&store).known.len(), 1);
        // Same size, same mtime: the change time tells.
        fs::write(&file, "two").unwrap();
        File::options()
            .write(true)
            .open(&file)
            .unwrap()
            .set_modified(old)
            .unwrap();
        assert_eq!(StatCache::load(&store).sha256(&file).unwrap(), sha256(b"two"));
    }

    #[test]
    fn a_file_written_just_now_is_not_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("f");
        fs::write(&file, "one").unwrap();
        let mut cache = StatCache::load(&Store::new(dir.path()));
        cache.sha256(&file).unwrap();
        assert!(cache.known.is_empty());
    }

    #[test]
    fn published_directories_replace_damaged_ones() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("from"), dir.path().join("to"));
        fs::create_dir_all(to.join("old")).unwrap();
        fs::create_dir_all(from.join("new")).unwrap();
        publish_dir(&from, &to).unwrap();
        assert!(to.join("new").exists() && !to.join("old").exists() && !from.exists());
    }

    #[test]
    fn read_only_directories_are_removed() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("a/b");
        fs::create_dir_all(&inner).unwrap();
        fs::write(inner.join("f"), "").unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o555)).unwrap();
        remove(&dir.path().join("a")).unwrap();
        assert!(!dir.path().join("a").exists());
    }
}
