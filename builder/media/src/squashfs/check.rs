//! Checking a whole image.

use std::collections::HashMap;
use std::io::{self, Read, Seek, Write};

use lycia_tree::display;

use super::image::{Image, ImageError, Limits, NAME_BYTES};
use super::layout::{NO_TABLE, get64};
use super::records::EntryKind;

/// What an image holds.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Names, hard links each.
    pub entries: u64,
    /// Inodes that have a name.
    pub inodes: u64,
    /// Directories.
    pub directories: u64,
    /// Regular files.
    pub files: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Devices, FIFOs and sockets.
    pub special: u64,
    /// Bytes of files' contents.
    pub content_bytes: u64,
    /// What is wrong but does not keep from reading, as link counts.
    pub faults: Vec<String>,
}

/// Faults that are told one by one; one mistake can be in every entry.
const FAULTS: usize = 100;

impl<R: Read + Seek> Image<R> {
    /// Reads everything: every name, inode, attribute and block. `progress` hears the bytes of contents done.
    ///
    /// # Errors
    /// When something cannot be read, or the image exceeds `limits`.
    pub fn check(&mut self, limits: &Limits, progress: &dyn Fn(u64)) -> Result<Report, ImageError> {
        self.examine(limits, Some(progress))
    }

    /// As [`Image::check`], without the contents of files: for callers that read these themselves.
    ///
    /// # Errors
    /// As [`Image::check`].
    pub fn check_structure(&mut self, limits: &Limits) -> Result<Report, ImageError> {
        self.examine(limits, None)
    }

    fn examine(&mut self, limits: &Limits, contents: Option<&dyn Fn(u64)>) -> Result<Report, ImageError> {
        let entries = self.entries(limits)?;
        let mut report = Report {
            entries: entries.len() as u64,
            ..Report::default()
        };
        let mut fault = {
            let mut count = 0;
            move |report: &mut Report, why: String| {
                count += 1;
                match count {
                    ..=FAULTS => report.faults.push(why),
                    _ if count == FAULTS + 1 => report.faults.push("and more".to_owned()),
                    _ => {}
                }
            }
        };
        // Names by inode, and the number and the subdirectories of directories by path.
        let mut names: HashMap<u64, u32> = HashMap::new();
        let mut directories: HashMap<&[u8], (u32, u32)> = HashMap::new();
        let mut by_number: HashMap<u32, u64> = HashMap::new();
        for entry in &entries {
            *names.entry(entry.reference).or_default() += 1;
            if matches!(entry.inode.kind, EntryKind::Directory(_)) {
                directories.insert(&entry.path, (entry.inode.number, 0));
                if let Some((_, count)) = above(&entry.path).and_then(|path| directories.get_mut(path)) {
                    *count += 1;
                }
            }
        }
        // Sets of attributes can share their bytes: what is read of them has its bound, too.
        let most = limits.entries.saturating_mul(NAME_BYTES);
        let mut attributes = 0u64;
        for entry in &entries {
            let (inode, path) = (&entry.inode, display(&entry.path));
            let located = |error: ImageError| match error {
                ImageError::Corrupt(why) => ImageError::Corrupt(format!("{path}: {why}")),
                other => other,
            };
            match by_number.insert(inode.number, entry.reference) {
                Some(other) if other == entry.reference => continue,
                Some(_) => fault(
                    &mut report,
                    format!("{path}: another inode has number {}", inode.number),
                ),
                None => report.inodes += 1,
            }
            let set = self.xattrs(inode).map_err(located)?;
            for (name, value) in &set {
                attributes = attributes.saturating_add((name.len() + value.len()) as u64);
            }
            if attributes > most {
                return Err(ImageError::Limit {
                    what: "bytes of attributes",
                    limit: most,
                });
            }
            let mut links = names[&entry.reference];
            match &inode.kind {
                EntryKind::Directory(listing) => {
                    report.directories += 1;
                    self.check_index(listing).map_err(located)?;
                    links = 2 + directories.get(&entry.path[..]).map_or(0, |&(_, count)| count);
                    if let Some(&(number, _)) = above(&entry.path).and_then(|path| directories.get(path))
                        && number != listing.parent
                    {
                        fault(
                            &mut report,
                            format!("{path}: its parent is inode {number}, not {}", listing.parent),
                        );
                    }
                }
                EntryKind::Regular(file) => {
                    report.files += 1;
                    report.content_bytes = report.content_bytes.saturating_add(file.len);
                    if report.content_bytes > limits.content_bytes {
                        return Err(ImageError::Limit {
                            what: "bytes of contents",
                            limit: limits.content_bytes,
                        });
                    }
                    if let Some(progress) = contents {
                        let mut counter = Counter(0);
                        self.copy(file, &mut counter).map_err(located)?;
                        if counter.0 != file.len {
                            fault(
                                &mut report,
                                format!("{path}: {} bytes of {} are there", counter.0, file.len),
                            );
                        }
                        progress(report.content_bytes);
                    }
                }
                EntryKind::Symlink(_) => report.symlinks += 1,
                _ => report.special += 1,
            }
            if inode.links != links {
                fault(
                    &mut report,
                    format!("{path}: the link count is {}, not {links}", inode.links),
                );
            }
            if self.superblock().export_table != NO_TABLE {
                let table = self.superblock().export_table;
                let record = self.blocks.record(table, u64::from(inode.number) - 1, 8)?;
                if get64(&record, 0) != entry.reference {
                    fault(
                        &mut report,
                        format!(
                            "{path}: the export table leads elsewhere for inode {}",
                            inode.number
                        ),
                    );
                }
            }
        }
        if report.inodes != u64::from(self.superblock().inodes) {
            let why = format!(
                "the superblock says {} inodes, {} have a name",
                self.superblock().inodes,
                report.inodes
            );
            fault(&mut report, why);
        }
        Ok(report)
    }
}

/// The path of the directory that holds an entry; none for the root.
fn above(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|&byte| byte == b'/')?;
    match (slash, path.len()) {
        (0, 1) => None,
        (0, _) => Some(b"/"),
        _ => Some(&path[..slash]),
    }
}

/// Counts the bytes that are written to it.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
