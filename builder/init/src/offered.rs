//! What can be installed from a medium, kept in memory where the medium is let go of (`toram`).
//!
//! The installer looks for it below [`crate::plan::MEDIUM`]: the copy is bound there in the medium's place.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Parts of the medium that the installer reads, when the first of them is there.
const PARTS: [&str; 4] = ["live/install.toml", "live/packages", "live/root", "EFI/BOOT"];
/// Most files and folders.
const ENTRIES_MAX: usize = 65_536;
/// Deepest folder.
const DEPTH_MAX: usize = 8;

/// Files and folders below a medium, in an order in which they can be made.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offered {
    /// Folders, outer ones first, relative to the medium.
    pub folders: Vec<PathBuf>,
    /// Files with their size in bytes.
    pub files: Vec<(PathBuf, u64)>,
}

impl Offered {
    /// What the medium offers; nothing where nothing is installed from it.
    ///
    /// # Errors
    /// When the medium cannot be read, or has more than can be meant.
    pub fn of(medium: &Path) -> io::Result<Offered> {
        let mut out = Offered::default();
        if !medium.join(PARTS[0]).is_file() {
            return Ok(out);
        }
        for part in PARTS {
            let mut above = PathBuf::new();
            for name in Path::new(part).parent().into_iter().flat_map(Path::components) {
                above.push(name);
                if !out.folders.contains(&above) {
                    out.folders.push(above.clone());
                }
            }
            out.add(medium, Path::new(part), 0)?;
        }
        Ok(out)
    }

    fn add(&mut self, medium: &Path, path: &Path, depth: usize) -> io::Result<()> {
        let metadata = match fs::symlink_metadata(medium.join(path)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        if depth > DEPTH_MAX || self.folders.len() + self.files.len() > ENTRIES_MAX {
            return Err(io::Error::other("more files or deeper folders than a medium has"));
        }
        if metadata.is_file() {
            self.files.push((path.to_owned(), metadata.len()));
        } else if metadata.is_dir() {
            self.folders.push(path.to_owned());
            for entry in fs::read_dir(medium.join(path))? {
                self.add(medium, &path.join(entry?.file_name()), depth + 1)?;
            }
        }
        Ok(())
    }

    /// Bytes of a tmpfs that holds it: whole pages, and one for each entry.
    #[must_use]
    pub fn size(&self) -> u64 {
        let pages: u64 = self
            .files
            .iter()
            .map(|(_, size)| size.next_multiple_of(4096))
            .sum();
        pages + 4096 * (self.files.len() + self.folders.len() + 16) as u64
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Copies everything into an empty folder.
    ///
    /// # Errors
    /// At the first file that cannot be read or written.
    pub fn copy(&self, medium: &Path, to: &Path) -> io::Result<()> {
        for folder in &self.folders {
            fs::create_dir(to.join(folder))?;
        }
        for (file, _) in &self.files {
            fs::copy(medium.join(file), to.join(file))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_installation_needs_is_copied_and_nothing_else() {
        let (medium, kept) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        assert!(Offered::of(medium.path()).unwrap().is_empty());
        for folder in ["live/packages/x86_64", "live/packages/keys", "EFI/BOOT", "boot"] {
            fs::create_dir_all(medium.path().join(folder)).unwrap();
        }
        for (file, text) in [
            ("live/filesystem.squashfs", "much"),
            ("live/packages/x86_64/a-1.apk", "package"),
            ("live/packages/keys/k.rsa.pub", "key"),
            ("EFI/BOOT/BOOTX64.EFI", "image"),
            ("boot/kernel", "kernel"),
        ] {
            fs::write(medium.path().join(file), text).unwrap();
        }
        assert!(Offered::of(medium.path()).unwrap().is_empty());
        fs::write(medium.path().join("live/install.toml"), "schema = 1\n").unwrap();
        let offered = Offered::of(medium.path()).unwrap();
        assert_eq!(offered.files.len(), 4);
        assert!(offered.size() >= 4 * 4096);
        offered.copy(medium.path(), kept.path()).unwrap();
        assert!(kept.path().join("live/packages/x86_64/a-1.apk").exists());
        assert_eq!(
            fs::read_to_string(kept.path().join("EFI/BOOT/BOOTX64.EFI")).unwrap(),
            "image"
        );
        assert!(!kept.path().join("live/filesystem.squashfs").exists());
        assert!(!kept.path().join("boot").exists());
    }
}
