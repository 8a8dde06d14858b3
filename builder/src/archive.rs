//! Root tarballs: the whole root, or what differs from a base tarball (as `-B` of chimera-live).

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use lycia_media::compress::{Compression as Stream, Format, Pieces};
use lycia_media::squashfs::BlockStore;
use lycia_media::tar::{self, Archive, Item, Member, Sockets, Writer};
use lycia_tree::{Footprint, InodeId, Metadata, Node, Tree};
use sha2::{Digest as _, Sha256};

use crate::blocks::Blocks;
use crate::definition::Compression;
use crate::error::{Error, Explain as _, Kind, Result, io};

/// Prefix of the name of a file that says, in a layer, that a path below is no longer there (OCI image
/// specification, "Whiteouts").
pub const WHITEOUT: &[u8] = b".wh.";

/// Dictionary of xz: what unpacks needs as much memory, and what packs some twelve times as much for each thread.
const XZ_DICTIONARY: u32 = 4 << 20;

/// A stream of the compression that a definition names.
pub fn stream(compression: Compression) -> Stream {
    match compression {
        Compression::Zstd(level) => Stream::zstd(i32::try_from(level).unwrap_or(12)),
        Compression::Gzip(level) => Stream::Gzip { level },
        Compression::Xz(preset) => Stream::Xz {
            preset,
            extreme: false,
            dictionary: XZ_DICTIONARY,
            branches: lycia_media::compress::Branches::None,
            check: lycia_media::compress::XzCheck::Crc64,
            block: 0,
        },
    }
}

/// The ending of the name of a tarball.
pub fn ending(compression: Compression) -> &'static str {
    match compression {
        Compression::Zstd(_) => "tar.zst",
        Compression::Xz(_) => "tar.xz",
        Compression::Gzip(_) => "tar.gz",
    }
}

/// What is compared of an entry of a base.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Print {
    metadata: Metadata,
    what: What,
}

#[derive(Clone, PartialEq, Eq, Debug)]
enum What {
    Directory,
    File([u8; 32]),
    Link(Vec<u8>),
    Symlink(Vec<u8>),
    Node(Node),
}

/// The entries of a base tarball. Contents are hashed, not kept.
pub struct Base {
    entries: BTreeMap<Vec<u8>, Print>,
    /// SHA-256 of the tarball without compression.
    pub diff_id: String,
    /// How the file is compressed.
    pub format: Option<Format>,
}

impl Base {
    /// Reads a tarball, compressed by gzip, xz or zstd or not at all.
    ///
    /// # Errors
    /// When it cannot be read or is none.
    pub fn read(path: &Path) -> Result<Base> {
        let doing = || format!("reading the base {}", path.display());
        let (format, reader) = open(path)?;
        let mut reader = HashingReader {
            inner: reader,
            hash: Sha256::new(),
        };
        let limits = tar::Limits {
            bytes: u64::MAX,
            ..tar::Limits::default()
        };
        let mut entries = BTreeMap::new();
        {
            let mut archive = Archive::new(&mut reader, limits);
            while let Some(header) = archive.next_member().explain(Kind::Input, doing)? {
                let what = match header.member {
                    Member::Directory => What::Directory,
                    Member::HardLink(target) => What::Link(plain(&target)),
                    Member::Symlink(target) => What::Symlink(target),
                    Member::CharDevice(device) => What::Node(Node::CharDevice(device)),
                    Member::BlockDevice(device) => What::Node(Node::BlockDevice(device)),
                    Member::Fifo => What::Node(Node::Fifo),
                    Member::Regular => {
                        let mut hash = Sha256::new();
                        let mut buffer = vec![0; 1 << 16];
                        loop {
                            let count = io(archive.read(&mut buffer), doing)?;
                            if count == 0 {
                                break;
                            }
                            hash.update(&buffer[..count]);
                        }
                        What::File(hash.finalize().into())
                    }
                };
                let print = Print {
                    metadata: header.metadata,
                    what,
                };
                entries.insert(plain(&header.path), print);
            }
        }
        // What follows the end of the archive is a part of the file nevertheless.
        io(std::io::copy(&mut reader, &mut std::io::sink()), doing)?;
        Ok(Base {
            entries,
            diff_id: crate::manifest::hex(&reader.hash.finalize()),
            format,
        })
    }

    /// What `tree` has otherwise.
    pub fn difference(&self, tree: &Tree) -> Delta {
        let mut first: HashMap<InodeId, Vec<u8>> = HashMap::new();
        // With whether something can lie below it.
        let mut present = HashMap::new();
        let mut changed_files = BTreeSet::new();
        let mut paths = BTreeSet::new();
        let mut footprint = Footprint::new();
        for entry in tree.walk() {
            let path = entry.relative().to_vec();
            let what = match entry.inode.node() {
                None => What::Directory,
                Some(_) if entry.inode.names() > 1 && first.contains_key(&entry.id) => {
                    What::Link(first[&entry.id].clone())
                }
                Some(node) => {
                    if entry.inode.names() > 1 {
                        first.insert(entry.id, path.clone());
                    }
                    match node {
                        Node::Regular(content) => {
                            let mut hash = Sha256::new();
                            footprint.pieces(content).for_each(|piece| hash.update(piece));
                            What::File(hash.finalize().into())
                        }
                        Node::Symlink(target) => What::Symlink(target.clone()),
                        // The format has no sockets.
                        Node::Socket => continue,
                        other => What::Node(other.clone()),
                    }
                }
            };
            let print = Print {
                metadata: entry.inode.metadata.clone(),
                what,
            };
            let same = self.entries.get(&path).is_some_and(|base| alike(base, &print));
            if !same {
                if !entry.inode.is_directory() {
                    changed_files.insert(entry.id);
                }
                paths.insert(path.clone());
            }
            present.insert(path, entry.inode.is_directory());
        }
        // A link may be to a file that the base has otherwise: all names of it go together.
        for entry in tree.walk() {
            if changed_files.contains(&entry.id) {
                paths.insert(entry.relative().to_vec());
            }
        }
        let mut removed = BTreeSet::new();
        let mut replaced = BTreeSet::new();
        for path in self
            .entries
            .keys()
            .filter(|path| !present.contains_key(*path) && !path.is_empty())
        {
            // What the root has no directory for went with the outermost one that is missing, or with what is in its place.
            let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
            let outer = ends
                .map(|(at, _)| &path[..at])
                .find(|above| present.get(*above) != Some(&true));
            match outer {
                Some(above) if present.contains_key(above) => replaced.insert(above.to_vec()),
                Some(above) => removed.insert(above.to_vec()),
                None => removed.insert(path.clone()),
            };
        }
        let removed: Vec<Vec<u8>> = removed.into_iter().collect();
        // Whatever unpacks changes the times of directories that something is put into or taken from.
        let mut parents = BTreeSet::new();
        for path in paths.iter().chain(&removed) {
            let mut path = &path[..];
            while let Some(at) = path.iter().rposition(|&byte| byte == b'/') {
                path = &path[..at];
                if !parents.insert(path.to_vec()) {
                    break;
                }
            }
        }
        if !paths.is_empty() || !removed.is_empty() {
            parents.insert(Vec::new());
        }
        paths.extend(parents.into_iter().filter(|path| present.contains_key(path)));
        Delta {
            paths,
            removed,
            replaced: replaced.into_iter().collect(),
        }
    }
}

/// Whether entries are alike. A link has the attributes of its file, which some programs leave out.
fn alike(a: &Print, b: &Print) -> bool {
    match (&a.what, &b.what) {
        (What::Link(a), What::Link(b)) => a == b,
        _ => a == b,
    }
}

/// Path as in a tree: without `./` in front or slashes at the ends.
fn plain(path: &[u8]) -> Vec<u8> {
    let parts = path.split(|&byte| byte == b'/');
    let parts: Vec<&[u8]> = parts.filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

/// What a root has otherwise than a base.
#[derive(Debug, PartialEq, Eq)]
pub struct Delta {
    /// Paths that are new or other, with the directories on the way.
    pub paths: BTreeSet<Vec<u8>>,
    /// Paths that are gone, sorted; what lies below one of them is not named.
    pub removed: Vec<Vec<u8>>,
    /// Directories that something lay in and that are no directories any more, sorted: what takes their place takes away what lay below.
    pub replaced: Vec<Vec<u8>>,
}

/// Writes the root, or what `delta` says of it; with `whiteouts` also what is gone, as a layer does. Gives the
/// number of sockets that were left out.
///
/// # Errors
/// When an entry does not fit the format, or `out` refuses.
pub fn write(out: &mut impl Write, tree: &Tree, delta: Option<(&Delta, bool)>) -> Result<u64> {
    let doing = || "writing the tarball".to_owned();
    let kind = |error: &tar::TarError| match error {
        tar::TarError::Write(_) => Kind::Host,
        _ => Kind::Target,
    };
    let Some((delta, whiteouts)) = delta else {
        let options = tar::Options {
            sockets: Sockets::Drop,
            root: true,
        };
        let written = tar::write_tree(out, tree, &options)
            .map_err(|error| Error::new(kind(&error), error).context(doing()))?;
        return Ok(written.dropped_sockets);
    };
    let mut writer = Writer::new(std::io::BufWriter::with_capacity(1 << 16, out));
    let mut first: HashMap<InodeId, Vec<u8>> = HashMap::new();
    let mut gone: BTreeMap<Vec<u8>, Vec<Vec<u8>>> = BTreeMap::new();
    for path in delta.removed.iter().filter(|_| whiteouts) {
        let at = path.iter().rposition(|&byte| byte == b'/');
        let (folder, name) = at.map_or((&b""[..], &path[..]), |at| (&path[..at], &path[at + 1..]));
        gone.entry(folder.to_vec()).or_default().push(name.to_vec());
    }
    let mut write = |writer: &mut Writer<_>| -> std::result::Result<(), tar::TarError> {
        for entry in tree.walk() {
            let path = entry.relative();
            if !delta.paths.contains(path) {
                continue;
            }
            let metadata = &entry.inode.metadata;
            let item = match entry.inode.node() {
                None => Item::Directory,
                Some(Node::Socket) => continue,
                Some(node) => match first.get(&entry.id) {
                    Some(known) => Item::HardLink(known),
                    None => Item::Node(node),
                },
            };
            writer.member(path, metadata, item)?;
            if entry.inode.names() > 1 && !entry.inode.is_directory() {
                first.entry(entry.id).or_insert_with(|| path.to_vec());
            }
            for name in gone.remove(path).unwrap_or_default() {
                let mut whiteout = path.to_vec();
                if !whiteout.is_empty() {
                    whiteout.push(b'/');
                }
                whiteout.extend_from_slice(WHITEOUT);
                whiteout.extend_from_slice(&name);
                let empty = Node::Regular(Vec::new().into());
                writer.member(
                    &whiteout,
                    &Metadata::new(0o644, metadata.mtime),
                    Item::Node(&empty),
                )?;
            }
        }
        Ok(())
    };
    write(&mut writer).map_err(|error| Error::new(kind(&error), error).context(doing()))?;
    writer
        .finish()
        .map_err(|error| Error::new(kind(&error), error).context(doing()))?;
    Ok(0)
}

/// Compresses what `fill` writes, but for pieces that `blocks` knows.
///
/// # Errors
/// As `fill`, or when the output refuses.
pub fn compressed<W: Write, R>(
    out: W,
    compression: Compression,
    jobs: usize,
    blocks: Option<&Blocks>,
    fill: impl FnOnce(&mut dyn Write) -> Result<R>,
) -> Result<(W, R)> {
    let threads = u32::try_from(jobs).unwrap_or(1);
    let doing = || "compressing".to_owned();
    let known = blocks.map(|blocks| blocks as &dyn BlockStore);
    std::thread::scope(|scope| {
        let mut pieces =
            Pieces::new(scope, out, &stream(compression), threads, known).explain(Kind::Input, doing)?;
        let result = fill(&mut pieces)?;
        let out = io(pieces.finish(), doing)?;
        Ok((out, result))
    })
}

/// A tarball opened for reading, whatever compressed it.
pub fn open(path: &Path) -> Result<(Option<Format>, Box<dyn Read>)> {
    let doing = || format!("reading the base {}", path.display());
    let mut head = [0; 8];
    let mut file = io(File::open(path), doing)?;
    let mut have = 0;
    while have < head.len() {
        let count = io(file.read(&mut head[have..]), doing)?;
        if count == 0 {
            break;
        }
        have += count;
    }
    let format = Format::detect(&head[..have]);
    io(std::io::Seek::rewind(&mut file), doing)?;
    let file = BufReader::with_capacity(1 << 16, file);
    let reader: Box<dyn Read> = match format {
        None => Box::new(file),
        Some(Format::Gzip) => Box::new(flate2::bufread::MultiGzDecoder::new(file)),
        Some(Format::Xz) => Box::new(liblzma::bufread::XzDecoder::new_multi_decoder(file)),
        Some(Format::Zstd) => Box::new(io(zstd::Decoder::with_buffer(file), doing)?),
    };
    Ok((format, reader))
}

struct HashingReader<R> {
    inner: R,
    hash: Sha256,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.hash.update(&buffer[..count]);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lycia_tree::Timestamp;

    fn tree(files: &[(&str, &str)]) -> Tree {
        let time = Timestamp::from_seconds(5);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        for (path, text) in files {
            if let Some((folder, _)) = path.rsplit_once('/') {
                tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))
                    .unwrap();
            }
            tree.write(path.as_bytes(), Metadata::new(0o644, time), (*text).into())
                .unwrap();
        }
        tree
    }

    fn base(tree: &Tree, compression: Option<Compression>) -> Base {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.tar");
        let file = File::create(&path).unwrap();
        match compression {
            None => {
                write(&mut { file }, tree, None).unwrap();
            }
            Some(compression) => {
                compressed(file, compression, 1, None, |mut out| write(&mut out, tree, None)).unwrap();
            }
        }
        Base::read(&path).unwrap()
    }

    fn shown<'p>(paths: impl IntoIterator<Item = &'p Vec<u8>>) -> Vec<String> {
        paths
            .into_iter()
            .map(|path| String::from_utf8_lossy(path).into_owned())
            .collect()
    }

    #[test]
    fn the_same_root_has_no_difference_in_any_compression() {
        let mut root = tree(&[("a/b/c", "text"), ("d", "more")]);
        let id = root.resolve(b"d", lycia_tree::Follow::All).unwrap();
        root.link(id, b"a/link").unwrap();
        root.metadata_mut(id)
            .xattrs
            .insert(b"user.x".to_vec(), b"y".to_vec());
        let mut ids = Vec::new();
        for compression in [
            None,
            Some(Compression::Gzip(9)),
            Some(Compression::Xz(1)),
            Some(Compression::Zstd(3)),
        ] {
            let base = base(&root, compression);
            let delta = base.difference(&root);
            assert_eq!(
                (delta.paths.len(), delta.removed.len()),
                (0, 0),
                "{compression:?} {delta:?}"
            );
            ids.push(base.diff_id);
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }

    #[test]
    fn what_is_new_other_or_gone_is_named_with_its_folders() {
        let old = tree(&[
            ("etc/keep", "1"),
            ("etc/change", "1"),
            ("gone/x", "1"),
            ("gone/y", "1"),
            ("usr/bin/gone", "1"),
            ("one", "linked"),
        ]);
        let mut new = tree(&[
            ("etc/keep", "1"),
            ("etc/change", "2"),
            ("opt/new/file", "1"),
            ("one", "linked"),
        ]);
        new.make_directories(b"usr/bin", Metadata::new(0o755, Timestamp::from_seconds(5)))
            .unwrap();
        // A new name of a file that is as it was.
        let id = new.resolve(b"one", lycia_tree::Follow::All).unwrap();
        new.link(id, b"two").unwrap();
        let delta = base(&old, None).difference(&new);
        assert_eq!(
            shown(&delta.paths),
            [
                "",
                "etc",
                "etc/change",
                "one",
                "opt",
                "opt/new",
                "opt/new/file",
                "two",
                "usr",
                "usr/bin"
            ]
        );
        assert_eq!(shown(&delta.removed), ["gone", "usr/bin/gone"]);
        let mut layer = Vec::new();
        write(&mut layer, &new, Some((&delta, true))).unwrap();
        let mut archive = Archive::new(&layer[..], tar::Limits::default());
        let mut names = Vec::new();
        while let Some(header) = archive.next_member().unwrap() {
            names.push(String::from_utf8(header.path).unwrap());
        }
        assert!(names.contains(&".wh.gone".to_owned()), "{names:?}");
        assert!(names.contains(&"usr/bin/.wh.gone".to_owned()), "{names:?}");
        assert_eq!(names.len(), 12, "{names:?}");
        // Permissions alone are a difference, too.
        let mut other = tree(&[("etc/keep", "1")]);
        let keep = other.resolve(b"etc/keep", lycia_tree::Follow::All).unwrap();
        let before = base(&other, None);
        other.metadata_mut(keep).mode = 0o600;
        assert_eq!(shown(&before.difference(&other).paths), ["", "etc", "etc/keep"]);
    }

    #[test]
    fn no_whiteout_lies_below_what_is_no_directory() {
        let old = tree(&[
            ("bin/foo", "1"),
            ("bin/sh", "1"),
            ("etc/x/y", "1"),
            ("gone/x", "1"),
            ("gone-too", "1"),
            ("usr/bin/sh", "1"),
        ]);
        let mut new = tree(&[("etc/x", "1"), ("usr/bin/sh", "1")]);
        let link = Node::Symlink(b"usr/bin".to_vec());
        new.insert(b"bin", Metadata::new(0o777, Timestamp::from_seconds(5)), link)
            .unwrap();
        let base = base(&old, None);
        let delta = base.difference(&new);
        assert_eq!(shown(&delta.removed), ["gone", "gone-too"]);
        assert_eq!(shown(&delta.replaced), ["bin", "etc/x"]);
        let mut layer = Vec::new();
        write(&mut layer, &new, Some((&delta, true))).unwrap();
        let mut archive = Archive::new(&layer[..], tar::Limits::default());
        let mut names = Vec::new();
        while let Some(header) = archive.next_member().unwrap() {
            names.push(String::from_utf8(plain(&header.path)).unwrap());
        }
        names.sort();
        assert_eq!(names, ["", ".wh.gone", ".wh.gone-too", "bin", "etc", "etc/x"]);
        // A base that has no members for directories: what is gone is the whole of them.
        let mut bare = base;
        bare.entries.retain(|_, print| print.what != What::Directory);
        assert_eq!(shown(&bare.difference(&new).removed), ["gone", "gone-too"]);
    }

    #[test]
    fn a_base_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("base.tar");
        std::fs::write(&path, [7; 2000]).unwrap();
        let error = Base::read(&path).err().unwrap();
        assert_eq!(error.kind(), Kind::Input);
        assert!(error.to_string().contains("base.tar"), "{error}");
    }
}
