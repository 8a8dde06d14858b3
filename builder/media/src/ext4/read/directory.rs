//! Directories.

use std::io::{Read, Seek};

use lycia_tree::display;

use super::super::field::{get16, get32};
use super::super::inode::FLAG_INDEX;
use super::super::superblock;
use super::map::Cache;
use super::{Entry, File, Kind, ReadError, Reader, malformed};

/// Most bytes of a directory.
const DIRECTORY_MAX: u64 = 256 << 20;

impl<R: Read + Seek> Reader<R> {
    /// The entries of a directory, in the order in which they are stored, without `.` and `..`.
    ///
    /// # Errors
    /// When it is no directory, or cannot be read.
    pub fn entries(&mut self, file: &File) -> Result<Vec<Entry>, ReadError> {
        let what = || format!("the directory of inode {}", file.number);
        if file.kind != Kind::Directory {
            return Err(malformed(what(), "it is no directory"));
        }
        self.check_readable(file)?;
        let block_size = u64::from(self.summary.block_size);
        if file.size > DIRECTORY_MAX || !file.size.is_multiple_of(block_size) {
            return Err(malformed(what(), format!("{} bytes of entries", file.size)));
        }
        let map = self.map(file)?;
        let mut cache: Cache = None;
        let mut found = Vec::new();
        for logical in 0..file.size / block_size {
            let Some(physical) = self.find(&map, logical, &mut cache)?.0 else {
                continue;
            };
            let block = self.read_block(physical)?;
            self.check_directory(file, logical, &block)?;
            let mut at = 0;
            while at + 8 <= block.len() {
                let inode = get32(&block, at);
                let len = match get16(&block, at + 4) {
                    // The whole of a block of 64 KiB.
                    0 | 0xffff if block.len() == 1 << 16 => 1 << 16,
                    len => usize::from(len),
                };
                let name_len = usize::from(block[at + 6]);
                if len < 8 || len % 4 != 0 || at + len > block.len() || 8 + name_len > len {
                    return Err(malformed(
                        what(),
                        format!("the entry at byte {at} of block {logical} makes no sense"),
                    ));
                }
                let name = &block[at + 8..at + 8 + name_len];
                if inode != 0 && name != b"." && name != b".." {
                    if name.is_empty() || name.contains(&b'/') || name.contains(&0) {
                        return Err(malformed(what(), format!("the name `{}`", display(name))));
                    }
                    if found.len() as u64 >= self.limits.entries {
                        return Err(ReadError::Limit {
                            what: "entries of a directory",
                            limit: self.limits.entries,
                        });
                    }
                    found.push(Entry {
                        name: name.to_vec(),
                        inode,
                    });
                }
                at += len;
            }
        }
        Ok(found)
    }

    fn check_directory(&self, file: &File, logical: u64, block: &[u8]) -> Result<(), ReadError> {
        let sums = self.sums.of_inode(file.number, file.generation);
        if !sums.enabled() {
            return Ok(());
        }
        let end = block.len();
        let wrong = || {
            malformed(
                format!("the directory of inode {}", file.number),
                format!("the checksum of block {logical} is wrong"),
            )
        };
        let node = get32(block, 0) == 0 && usize::from(get16(block, 4)) == end;
        let first = match (file.flags & FLAG_INDEX != 0, logical) {
            (true, 0) => 32,
            (true, _) if node => 8,
            _ => {
                let sum = sums.of(&[&block[..end - 12]]);
                return if sum == Some(get32(block, end - 4)) {
                    Ok(())
                } else {
                    Err(wrong())
                };
            }
        };
        let (limit, count) = (
            usize::from(get16(block, first)),
            usize::from(get16(block, first + 2)),
        );
        let (used, tail) = (first + 8 * count, first + 8 * limit);
        if count > limit || tail + 8 > end {
            return Err(wrong());
        }
        let sum = sums.of(&[&block[..used], &block[tail..tail + 4], &[0; 4]]);
        if sum == Some(get32(block, tail + 4)) {
            Ok(())
        } else {
            Err(wrong())
        }
    }

    /// The inode that an absolute path leads to. Symbolic links are not followed.
    ///
    /// # Errors
    /// When nothing is there.
    pub fn lookup(&mut self, path: &[u8]) -> Result<File, ReadError> {
        let mut file = self.inode(superblock::ROOT)?;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            if file.kind != Kind::Directory {
                return Err(ReadError::Missing(display(path)));
            }
            let entry = self
                .entries(&file)?
                .into_iter()
                .find(|entry| entry.name == name)
                .ok_or_else(|| ReadError::Missing(display(path)))?;
            file = self.inode(entry.inode)?;
        }
        Ok(file)
    }
}
