//! Volumes that mke2fs makes, read by our reader: ext2 and ext3 too.

#![allow(clippy::unwrap_used)]

mod ext4_support;
mod oracle;

use std::fs::File;
use std::os::unix::fs::MetadataExt;

use lycia_media::ext4::{Kind, Limits, ReadError, Reader};
use oracle::{output, run};

/// A directory of files, one of them with a hole and long enough for blocks of blocks of pointers.
fn source() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    std::fs::write(at("small"), "text").unwrap();
    std::os::unix::fs::symlink("small", at("link")).unwrap();
    std::os::unix::fs::symlink("far/".repeat(40), at("far")).unwrap();
    std::fs::hard_link(at("small"), at("other")).unwrap();
    std::fs::create_dir(at("many")).unwrap();
    for number in 0..500 {
        std::fs::write(at(&format!("many/file-{number}")), number.to_string()).unwrap();
    }
    let mut bytes = vec![0; 3 << 20];
    for (place, byte) in bytes
        .iter_mut()
        .enumerate()
        .filter(|(place, _)| place / 100_000 % 2 == 0)
    {
        *byte = (place % 251) as u8;
    }
    std::fs::write(at("large"), bytes).unwrap();
    directory
}

#[test]
fn volumes_of_mke2fs_are_read() {
    let source = source();
    for options in [
        &["-t", "ext2", "-b", "1024"][..],
        &["-t", "ext2", "-b", "4096", "-I", "128"],
        &["-t", "ext2", "-b", "1024", "-r", "0", "-O", "none"],
        &["-t", "ext3", "-b", "1024"],
        &["-t", "ext4", "-b", "1024"],
        &["-t", "ext4", "-b", "4096", "-O", "metadata_csum_seed,large_dir"],
        &["-t", "ext4", "-b", "1024", "-O", "meta_bg,^resize_inode,64bit"],
        &["-t", "ext4", "-O", "^metadata_csum,uninit_bg,^flex_bg"],
        &["-t", "ext4", "-O", "^64bit,^extent"],
    ] {
        let image = tempfile::NamedTempFile::new().unwrap();
        image.as_file().set_len(24 << 20).unwrap();
        let path = image.path().to_str().unwrap();
        let mut arguments = vec!["-q", "-F", "-L", "label", "-d", source.path().to_str().unwrap()];
        arguments.extend(options);
        arguments.push(path);
        run("e2fsprogs", "mke2fs", &arguments, b"");
        let mut reader = Reader::open(File::open(image.path()).unwrap(), Limits::default()).unwrap();
        assert_eq!(reader.summary().label, b"label");
        assert!(reader.summary().clean, "{options:?}");
        let mut tree = reader
            .tree()
            .unwrap_or_else(|error| panic!("{options:?}: {error}"));
        tree.remove_all(b"/lost+found").unwrap();
        let mut found = 0;
        for entry in tree.walk().skip(1) {
            found += 1;
            let name = std::str::from_utf8(entry.relative()).unwrap();
            let path = source.path().join(name);
            let status = path.symlink_metadata().unwrap();
            assert_eq!(status.mode(), u32::from(entry.inode.mode()), "{options:?} {name}");
            assert_eq!(
                status.mtime(),
                entry.inode.metadata.mtime.seconds,
                "{options:?} {name}"
            );
            assert_eq!(status.uid(), entry.inode.metadata.uid);
            if let Some(content) = entry.inode.content() {
                assert!(
                    std::fs::read(&path).unwrap() == content.bytes(),
                    "{options:?} {name}"
                );
                assert_eq!(status.nlink(), u64::from(entry.inode.names()), "{name}");
            }
            if let Some(target) = entry.inode.symlink() {
                let text = std::fs::read_link(&path).unwrap();
                assert_eq!(text.to_str().unwrap().as_bytes(), target, "{options:?}");
            }
        }
        assert_eq!(found, 506, "{options:?}");
        let file = reader.lookup(b"/many/file-499").unwrap();
        assert_eq!((file.kind, file.size), (Kind::Regular, 3));
        let missing = reader.lookup(b"/many/nothing");
        assert!(matches!(missing, Err(ReadError::Missing(_))));
    }
}

#[test]
fn what_is_not_understood_is_said() {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(8 << 20).unwrap();
    let path = image.path().to_str().unwrap();
    let open = || Reader::open(File::open(image.path()).unwrap(), Limits::default());
    assert!(matches!(open(), Err(ReadError::NotExt4)));
    // A journal of its own is a volume without files.
    run(
        "e2fsprogs",
        "mke2fs",
        &["-q", "-F", "-O", "journal_dev", path],
        b"",
    );
    let error = open().err().unwrap();
    assert!(matches!(error, ReadError::Unsupported(_)), "{error}");
    // A volume that was not unmounted.
    run("e2fsprogs", "mke2fs", &["-q", "-F", "-t", "ext4", path], b"");
    output(
        "e2fsprogs",
        "debugfs",
        &["-w", "-R", "feature needs_recovery", path],
        b"",
    );
    assert!(!open().unwrap().summary().clean);
}
