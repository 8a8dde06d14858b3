use super::*;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::process::Command;

/// Kind, name, and content or link target.
type Member = (EntryType, &'static str, &'static str);

/// A tar archive of raw members, names unchecked: the crate's own builder refuses hostile ones.
fn archive(members: &[Member]) -> Vec<u8> {
    let mut out = Vec::new();
    for (kind, name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_mode(0o755);
        header.set_mtime(1_000_000_000);
        let is_link = matches!(kind, Symlink | Link);
        let data = if is_link { "" } else { content };
        if is_link {
            header.as_mut_bytes()[157..157 + content.len()].copy_from_slice(content.as_bytes());
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(data.as_bytes());
        out.resize(out.len().next_multiple_of(512), 0);
    }
    out.resize(out.len() + 1024, 0);
    out
}

struct Sandbox {
    dir: tempfile::TempDir,
}

impl Sandbox {
    fn new() -> Sandbox {
        Sandbox {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn root(&self) -> PathBuf {
        self.dir.path().join("in/root")
    }

    fn unpack(&self, bytes: &[u8], strip: u32) -> Result<()> {
        let file = self.dir.path().join("archive");
        fs::write(&file, bytes).unwrap();
        unpack(&file, &self.root(), strip)
    }

    /// Names beside the unpacking directory: anything here escaped.
    fn escaped(&self) -> Vec<PathBuf> {
        let mut names: Vec<_> = fs::read_dir(self.dir.path())
            .unwrap()
            .chain(fs::read_dir(self.dir.path().join("in")).unwrap())
            .map(|e| e.unwrap().path())
            .filter(|p| !["archive", "in", "root"].iter().any(|n| p.ends_with(n)))
            .collect();
        names.sort();
        names
    }
}

use EntryType::{Link, Regular, Symlink};

#[test]
fn hostile_archives_are_refused_and_write_nothing_outside() {
    let cases: &[(&str, &[Member], &str)] = &[
        ("dots", &[(Regular, "../evil", "x")], "holds .."),
        ("dots inside", &[(Regular, "a/../../evil", "x")], "holds .."),
        ("absolute", &[(Regular, "/tmp/lycia-evil", "x")], "absolute"),
        (
            "link then file through it",
            &[(Symlink, "a", ".."), (Regular, "a/evil", "x")],
            "symbolic link",
        ),
        (
            "absolute link then file",
            &[(Symlink, "a", "/tmp"), (Regular, "a/lycia-evil", "x")],
            "symbolic link",
        ),
        (
            "link then directory",
            &[(Symlink, "a", ".."), (EntryType::Directory, "a", "")],
            "symbolic link",
        ),
        (
            "link deep then file",
            &[(Symlink, "d/a", "../.."), (Regular, "d/a/evil", "x")],
            "symbolic link",
        ),
        ("hard link to dots", &[(Link, "a", "../archive")], "holds .."),
        ("hard link absolute", &[(Link, "a", "/etc/passwd")], "absolute"),
        (
            "hard link through a link",
            &[(Symlink, "a", "../.."), (Link, "b", "a/archive")],
            "symbolic link",
        ),
        (
            "hard link to a link",
            &[(Symlink, "a", "../../archive"), (Link, "b", "a")],
            "not a file",
        ),
        ("device", &[(EntryType::Char, "null", "")], "no source has"),
        ("fifo", &[(EntryType::Fifo, "pipe", "")], "no source has"),
        (
            "file as directory",
            &[(Regular, "a", "x"), (Regular, "a/b", "x")],
            "through a file",
        ),
        (
            "directory as file",
            &[(Regular, "a/b", "x"), (Regular, "a", "x")],
            "directory is in its place",
        ),
    ];
    for (name, members, wanted) in cases {
        let sandbox = Sandbox::new();
        let error = sandbox.unpack(&archive(members), 0).unwrap_err().to_string();
        assert!(error.contains(wanted), "{name}: {error}");
        assert_eq!(sandbox.escaped(), Vec::<PathBuf>::new(), "{name}");
    }
    assert!(!Path::new("/tmp/lycia-evil").exists());
}

#[test]
fn a_file_replaces_a_link_and_does_not_write_through_it() {
    let sandbox = Sandbox::new();
    sandbox
        .unpack(&archive(&[(Symlink, "a", "../evil"), (Regular, "a", "x")]), 0)
        .unwrap();
    assert_eq!(sandbox.escaped(), Vec::<PathBuf>::new());
    assert!(fs::symlink_metadata(sandbox.root().join("a")).unwrap().is_file());
}

#[test]
fn stripping_drops_leading_components_of_links_too() {
    let sandbox = Sandbox::new();
    let members = [
        (Regular, "top/d/f", "hello"),
        (Link, "top/g", "top/d/f"),
        (Symlink, "top/s", "d/f"),
        (Regular, "x", ""),
    ];
    sandbox.unpack(&archive(&members), 1).unwrap();
    let meta = fs::metadata(sandbox.root().join("g")).unwrap();
    assert_eq!(
        (meta.nlink(), meta.mtime(), meta.mode() & 0o7777),
        (2, 1_000_000_000, 0o755)
    );
    assert_eq!(fs::read_to_string(sandbox.root().join("s")).unwrap(), "hello");
    assert!(!sandbox.root().join("x").exists());
}

#[test]
fn every_compression_and_a_debian_package_are_read() {
    let plain = archive(&[(Regular, "./usr/f", "hello")]);
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gz.write_all(&plain).unwrap();
    let gz = gz.finish().unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let xz = xz.finish().unwrap();
    let mut bz = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bz.write_all(&plain).unwrap();
    let bz = bz.finish().unwrap();
    let zst = zstd::encode_all(&plain[..], 1).unwrap();
    let mut deb = AR_MAGIC.to_vec();
    for (name, data) in [
        ("debian-binary", &b"2.0"[..]),
        ("control.tar.xz", b"odd"),
        ("data.tar.xz", &xz),
    ] {
        deb.extend(
            format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                100644,
                data.len()
            )
            .bytes(),
        );
        deb.extend(data);
        if data.len() % 2 == 1 {
            deb.push(b'\n');
        }
    }
    for bytes in [plain, gz, xz, bz, zst, deb] {
        let sandbox = Sandbox::new();
        sandbox.unpack(&bytes, 0).unwrap();
        assert_eq!(fs::read_to_string(sandbox.root().join("usr/f")).unwrap(), "hello");
    }
}

#[test]
fn cut_archives_are_errors() {
    let bytes = archive(&[(Regular, "f", "hello")]);
    assert!(Sandbox::new().unpack(&bytes[..514], 0).is_err());
    let zst = zstd::encode_all(&bytes[..], 1).unwrap();
    assert!(Sandbox::new().unpack(&zst[..zst.len() - 5], 0).is_err());
    assert!(Sandbox::new().unpack(b"!<arch>\nshort", 0).is_err());
}

/// GNU tar as the independent writer: long names and pax records.
#[test]
fn archives_of_gnu_tar_are_read() {
    for format in ["gnu", "pax", "ustar"] {
        let sandbox = Sandbox::new();
        let long = format!("{}/{}", "d".repeat(90), "f".repeat(90));
        let tree = sandbox.dir.path().join("in/tree");
        fs::create_dir_all(tree.join("d".repeat(90))).unwrap();
        fs::write(tree.join(&long), "deep").unwrap();
        let out = Command::new("tar")
            .args([&format!("--format={format}"), "-C"])
            .arg(&tree)
            .args(["-cf", "-", "."])
            .output()
            .expect("GNU tar is missing: install the Debian package tar");
        assert!(out.status.success());
        sandbox.unpack(&out.stdout, 0).unwrap();
        assert_eq!(fs::read_to_string(sandbox.root().join(long)).unwrap(), "deep");
    }
}
