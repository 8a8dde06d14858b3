//! Writing the database.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use super::{Database, HEADER_MAX, InstalledPackage, Ownership, name_order};
use crate::metadata::{Dependency, Digest, ScriptKind};

/// Why the database cannot be written.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum WriteError {
    /// A text would break the record that it is in.
    #[error("{package}: its {field} has a line break or NUL, which the installed database cannot hold")]
    LineBreak {
        /// The package.
        package: String,
        /// Which text.
        field: &'static str,
    },
    /// The header does not fit.
    #[error(
        "{package}: its database header takes {found} bytes, more than the {HEADER_MAX} that apk can read"
    )]
    HeaderTooLong {
        /// The package.
        package: String,
        /// Bytes that it takes.
        found: usize,
    },
}

struct Record<'a> {
    package: &'a InstalledPackage,
    text: Vec<u8>,
}

impl Record<'_> {
    fn line(&mut self, letter: u8, field: &'static str, value: &[u8]) -> Result<(), WriteError> {
        if value.iter().any(|byte| matches!(byte, b'\n' | b'\r' | 0)) {
            return Err(WriteError::LineBreak {
                package: self.package.info.name.clone(),
                field,
            });
        }
        self.text.push(letter);
        self.text.push(b':');
        self.text.extend_from_slice(value);
        self.text.push(b'\n');
        Ok(())
    }

    fn some(&mut self, letter: u8, field: &'static str, value: &str) -> Result<(), WriteError> {
        if value.is_empty() {
            Ok(())
        } else {
            self.line(letter, field, value.as_bytes())
        }
    }

    fn dependencies(
        &mut self,
        letter: u8,
        field: &'static str,
        list: &[Dependency],
    ) -> Result<(), WriteError> {
        let words: Vec<String> = list.iter().map(Dependency::to_string).collect();
        self.some(letter, field, &words.join(" "))
    }

    fn owner(&mut self, letter: u8, owner: &Ownership, usual: u16) -> Result<(), WriteError> {
        if owner.uid == 0 && owner.gid == 0 && owner.mode == usual && owner.xattrs.is_none() {
            return Ok(());
        }
        let mut text = format!("{}:{}:{:o}", owner.uid, owner.gid, owner.mode);
        if let Some(digest) = &owner.xattrs {
            text.push(':');
            text.push_str(&q1(digest));
        }
        self.line(letter, "owner", text.as_bytes())
    }
}

/// `Q1` and the base64 of 20 bytes.
pub(crate) fn q1(digest: &[u8]) -> String {
    format!("Q1{}", STANDARD.encode(digest))
}

impl Database {
    /// Puts the packages into the order of the file.
    pub fn sort(&mut self) {
        self.packages
            .sort_by(|a, b| name_order(&a.info.name, &b.info.name));
    }

    /// The file `installed`.
    ///
    /// # Errors
    /// When a text would break the format, which apk writes without escapes.
    pub fn write_installed(&self) -> Result<Vec<u8>, WriteError> {
        let mut text = Vec::new();
        for package in &self.packages {
            text.extend_from_slice(&record(package)?);
            text.push(b'\n');
        }
        Ok(text)
    }

    /// The file `triggers`.
    pub fn write_triggers(&self) -> Vec<u8> {
        let mut text = String::new();
        for package in self
            .packages
            .iter()
            .filter(|package| !package.triggers.is_empty())
        {
            text.push_str(&q1(&package.key()));
            for glob in &package.triggers {
                text.push(' ');
                text.push_str(glob);
            }
            text.push('\n');
        }
        text.into_bytes()
    }

    /// The file `scripts.tar.gz`: gzip level 9 without time or name, a tar in GNU format.
    pub fn write_scripts(&self) -> Vec<u8> {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::new(9));
        // Writing to memory does not fail.
        let _ = gzip.write_all(&self.scripts_archive());
        gzip.finish().unwrap_or_default()
    }

    /// The same archive without compression, `scripts.tar`.
    pub fn scripts_archive(&self) -> Vec<u8> {
        let mut tar = Vec::new();
        for package in &self.packages {
            for kind in ScriptKind::ALL {
                for (_, script) in package.scripts.iter().filter(|(have, _)| *have == kind) {
                    let name = format!(
                        "{}-{}.X1{}.{}",
                        package.info.name,
                        package.info.version,
                        Digest(package.key().to_vec()),
                        kind.name()
                    );
                    append(&mut tar, &name, script, package.info.build_time);
                }
            }
        }
        tar.resize(tar.len() + 1024, 0);
        tar
    }
}

fn record(package: &InstalledPackage) -> Result<Vec<u8>, WriteError> {
    let info = &package.info;
    let mut out = Record {
        package,
        text: Vec::new(),
    };
    out.line(b'C', "identity", q1(&package.key()).as_bytes())?;
    out.line(b'P', "name", info.name.as_bytes())?;
    out.line(b'V', "version", info.version.as_bytes())?;
    out.some(b'A', "architecture", &info.arch)?;
    out.line(b'S', "size", info.file_size.to_string().as_bytes())?;
    out.line(b'I', "installed size", info.installed_size.to_string().as_bytes())?;
    out.line(b'T', "description", cut(&info.description, 512).as_bytes())?;
    out.line(b'U', "url", info.url.as_bytes())?;
    out.line(b'L', "license", info.license.as_bytes())?;
    out.some(b'o', "origin", &info.origin)?;
    out.some(b'm', "maintainer", &info.maintainer)?;
    if info.build_time != 0 {
        out.line(b't', "build time", info.build_time.to_string().as_bytes())?;
    }
    out.some(b'c', "commit", &Digest(info.repo_commit.clone()).to_string())?;
    if info.provider_priority != 0 {
        out.line(
            b'k',
            "provider priority",
            info.provider_priority.to_string().as_bytes(),
        )?;
    }
    if out.text.len() > HEADER_MAX {
        return Err(WriteError::HeaderTooLong {
            package: info.name.clone(),
            found: out.text.len(),
        });
    }
    out.dependencies(b'D', "dependencies", &info.depends)?;
    out.dependencies(b'p', "provides", &info.provides)?;
    out.dependencies(b'i', "install-if", &info.install_if)?;
    out.some(b'g', "tags", &info.tags.join(" "))?;
    // apk keeps the next lines back until the first directory: a package without any loses them, and
    // reads back the same either way. We write what it writes.
    if package.directories.is_empty() {
        return Ok(out.text);
    }
    out.dependencies(b'r', "replaces", &info.replaces)?;
    if package.replaces_priority != 0 {
        out.line(
            b'q',
            "replaces priority",
            package.replaces_priority.to_string().as_bytes(),
        )?;
    }
    out.some(b's', "repository tag", package.tag.as_deref().unwrap_or_default())?;
    let flags = package.flags;
    let letters: String = [
        (flags.broken_files, 'f'),
        (flags.broken_script, 's'),
        (flags.broken_xattrs, 'x'),
        (flags.sha256_160, 'S'),
    ]
    .into_iter()
    .filter_map(|(set, letter)| set.then_some(letter))
    .collect();
    out.some(b'f', "flags", &letters)?;
    for directory in &package.directories {
        out.line(b'F', "directory", &directory.path)?;
        if !directory.path.is_empty() {
            out.owner(b'M', &directory.owner, 0o755)?;
        }
        for file in &directory.files {
            out.line(b'R', "file name", &file.name)?;
            out.owner(b'a', &file.owner, 0o644)?;
            if let Some(digest) = &file.digest {
                out.line(b'Z', "digest", q1(digest).as_bytes())?;
            }
        }
    }
    Ok(out.text)
}

/// The first `limit` bytes of `text`, not inside a character.
fn cut(text: &str, limit: usize) -> &str {
    let mut end = text.len().min(limit);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// A regular file of a GNU tar (tar(5), "GNU Tar Archives"): a long name goes before in an `L` entry.
fn append(tar: &mut Vec<u8>, name: &str, content: &[u8], mtime: u64) {
    if name.len() >= 100 {
        let mut long = name.as_bytes().to_vec();
        long.push(0);
        header(tar, "././@LongLink", b'L', 0, 0, long.len() as u64);
        block(tar, &long);
    }
    header(tar, name, b'0', 0o755, mtime, content.len() as u64);
    block(tar, content);
}

fn header(tar: &mut Vec<u8>, name: &str, kind: u8, mode: u16, mtime: u64, size: u64) {
    let mut head = [0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, &name.as_bytes()[..name.len().min(100)]);
    put(100, format!("{mode:07o}").as_bytes());
    put(108, b"0000000");
    put(116, b"0000000");
    put(124, format!("{size:012o}").as_bytes());
    put(136, format!("{mtime:012o}").as_bytes());
    put(148, b"        ");
    put(156, &[kind]);
    put(257, b"ustar  \0");
    if kind == b'0' {
        put(265, b"root");
        put(297, b"root");
    }
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar.extend_from_slice(&head);
}

fn block(tar: &mut Vec<u8>, content: &[u8]) {
    tar.extend_from_slice(content);
    tar.resize(tar.len().next_multiple_of(512), 0);
}
