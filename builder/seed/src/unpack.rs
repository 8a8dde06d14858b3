//! Unpacking of tar archives (plain, gzip, bzip2, xz, zstd) and Debian packages, without ever leaving the
//! directory.
//!
//! Formats: POSIX.1-2017 pax and GNU tar by the `tar` crate; `ar` as deb(5) describes it. Members with `..`, absolute
//! names, or whose way leads through a symbolic link are refused, and no member is written through a link
//! that an earlier one made.

use crate::error::{IoContext, Result, SeedError};
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};
use tar::EntryType;

/// More than this out of one archive is taken for an attack.
const SIZE_LIMIT: u64 = 16 << 30;

/// Unpacks an archive into `dir`, dropping `strip` leading components of every name. A Debian package gives
/// its data member. Modes become 755 or 644 by the owner's x bit; file times are kept, because make looks
/// at them.
pub fn unpack(archive: &Path, dir: &Path, strip: u32) -> Result<()> {
    let mut file = File::open(archive).at("opening", archive)?;
    let fail = |why: String| SeedError::Unpack {
        archive: archive.to_owned(),
        why,
    };
    let mut magic = [0; 8];
    let n = read_up_to(&mut file, &mut magic).at("reading", archive)?;
    file.seek(SeekFrom::Start(0)).at("reading", archive)?;
    let reader: Box<dyn Read> = if &magic[..n] == AR_MAGIC {
        let (offset, size) = deb_data(&mut file).map_err(|e| fail(e.to_string()))?;
        file.seek(SeekFrom::Start(offset)).at("reading", archive)?;
        Box::new(file.take(size))
    } else {
        Box::new(file)
    };
    let reader = decompress(BufReader::with_capacity(1 << 16, reader)).map_err(|e| fail(e.to_string()))?;
    fs::create_dir_all(dir).at("making the directory", dir)?;
    let mut left = SIZE_LIMIT;
    let mut tar = tar::Archive::new(reader);
    let entries = tar.entries().map_err(|e| fail(e.to_string()))?;
    for entry in entries {
        let mut entry = entry.map_err(|e| fail(e.to_string()))?;
        let name = entry.path_bytes().into_owned();
        member(&mut entry, dir, strip, &mut left)
            .map_err(|why| fail(format!("member {:?}: {why}", String::from_utf8_lossy(&name))))?;
    }
    Ok(())
}

fn read_up_to(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < buffer.len() {
        match reader.read(&mut buffer[n..])? {
            0 => break,
            got => n += got,
        }
    }
    Ok(n)
}

fn decompress(mut reader: impl Read + 'static) -> io::Result<Box<dyn Read>> {
    let mut magic = [0; 6];
    let n = read_up_to(&mut reader, &mut magic)?;
    let magic = &magic[..n];
    let whole = io::Cursor::new(magic.to_vec()).chain(reader);
    Ok(if magic.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::read::MultiGzDecoder::new(whole))
    } else if magic.starts_with(b"\xfd7zXZ\0") {
        Box::new(liblzma::read::XzDecoder::new_multi_decoder(whole))
    } else if magic.starts_with(b"BZh") {
        Box::new(bzip2::read::MultiBzDecoder::new(whole))
    } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        Box::new(zstd::stream::read::Decoder::new(whole)?)
    } else {
        Box::new(whole)
    })
}

const AR_MAGIC: &[u8] = b"!<arch>\n";

/// Offset and size of the data member of a Debian package.
fn deb_data(file: &mut (impl Read + Seek)) -> io::Result<(u64, u64)> {
    let bad = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why.to_owned());
    let mut at = AR_MAGIC.len() as u64;
    loop {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 60];
        match read_up_to(file, &mut header)? {
            0 => return Err(bad("no data member in the Debian package")),
            60 if &header[58..] == b"`\n" => {}
            _ => return Err(bad("a member header of the Debian package is damaged")),
        }
        let size = std::str::from_utf8(&header[48..58])
            .ok()
            .and_then(|t| t.trim_end().parse::<u64>().ok())
            .ok_or_else(|| bad("a member size of the Debian package is damaged"))?;
        if header.starts_with(b"data.tar") {
            return Ok((at + 60, size));
        }
        at = at
            .checked_add(60 + size + size % 2)
            .ok_or_else(|| bad("a member size of the Debian package is too large"))?;
    }
}

/// The path below the root that a member's name means; `None` where stripping leaves nothing.
fn inside(name: &[u8], strip: u32) -> Result<Option<PathBuf>, String> {
    if name.contains(&0) {
        return Err("the name holds a NUL byte".into());
    }
    let mut parts = Vec::new();
    for part in Path::new(OsStr::from_bytes(name)).components() {
        match part {
            Component::Normal(part) => parts.push(part),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return Err("the name is absolute".into()),
            Component::ParentDir => return Err("the name holds ..".into()),
        }
    }
    let rest = &parts[(strip as usize).min(parts.len())..];
    Ok((!rest.is_empty()).then(|| rest.iter().collect()))
}

/// Makes the directories on the way to `path`, refusing anything but real directories.
fn parents(root: &Path, path: &Path) -> Result<(), String> {
    let mut at = root.to_owned();
    for part in path.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        directory(&at)?;
    }
    Ok(())
}

fn directory(path: &Path) -> Result<(), String> {
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => Ok(()),
        Ok(meta) if meta.is_symlink() => Err("its way leads through a symbolic link".into()),
        Ok(_) => Err("its way leads through a file".into()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::create_dir(path).map_err(|e| e.to_string())
        }
        Err(error) => Err(error.to_string()),
    }
}

fn member<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    root: &Path,
    strip: u32,
    left: &mut u64,
) -> Result<(), String> {
    let kind = entry.header().entry_type();
    if matches!(kind, EntryType::XGlobalHeader) {
        return Ok(());
    }
    let Some(path) = inside(&entry.path_bytes(), strip)? else {
        return Ok(());
    };
    parents(root, &path)?;
    let target = root.join(&path);
    let text = |e: io::Error| e.to_string();
    if kind == EntryType::Directory {
        return directory(&target);
    }
    match fs::symlink_metadata(&target) {
        Ok(meta) if meta.is_dir() => return Err("a directory is in its place".into()),
        // Removed, not opened: it may be a link.
        Ok(_) => fs::remove_file(&target).map_err(text)?,
        Err(_) => {}
    }
    match kind {
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
            let mode = entry.header().mode().map_err(text)?;
            let modified = entry.header().mtime().map_err(text)?;
            *left = left.checked_sub(entry.size()).ok_or("the archive is too large")?;
            let mut file = File::create_new(&target).map_err(text)?;
            io::copy(entry, &mut file).map_err(text)?;
            let mode = if mode & 0o100 != 0 { 0o755 } else { 0o644 };
            file.set_permissions(Permissions::from_mode(mode)).map_err(text)?;
            file.set_modified(UNIX_EPOCH + Duration::from_secs(modified))
                .map_err(text)
        }
        EntryType::Symlink => {
            let link = entry.link_name_bytes().ok_or("a symbolic link without target")?;
            std::os::unix::fs::symlink(OsStr::from_bytes(&link), &target).map_err(text)
        }
        EntryType::Link => {
            let link = entry.link_name_bytes().ok_or("a hard link without target")?;
            let link = inside(&link, strip)?.ok_or("a hard link to the root")?;
            parents(root, &link)?;
            let first = root.join(link);
            match fs::symlink_metadata(&first) {
                Ok(meta) if meta.is_file() => fs::hard_link(first, &target).map_err(text),
                _ => Err("a hard link to something that is not a file of the archive".into()),
            }
        }
        other => Err(format!("an entry of kind {other:?}, which no source has")),
    }
}

#[cfg(test)]
mod tests;
