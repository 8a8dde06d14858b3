//! The hardware database beside that of systemd-hwdb, and read by it.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::path::Path;
use std::process::Command;

use lycia_root::hwdb::{Source, compile};
use proptest::prelude::*;

fn systemd_hwdb() -> Command {
    let found = ["/usr/bin/systemd-hwdb", "/bin/systemd-hwdb"]
        .into_iter()
        .find(|path| Path::new(path).exists());
    Command::new(found.expect("systemd-hwdb is not on this machine: install udev (Debian)"))
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// Ours and the reference's database of the same files, which are given by name.
fn both(files: &[(String, Vec<u8>)]) -> (tempfile::TempDir, Vec<u8>, Vec<u8>) {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("etc/udev/hwdb.d");
    std::fs::create_dir_all(&folder).unwrap();
    let paths: Vec<String> = files
        .iter()
        .map(|(name, bytes)| {
            let path = folder.join(name);
            std::fs::write(&path, bytes).unwrap();
            path.to_str().unwrap().to_owned()
        })
        .collect();
    run(systemd_hwdb().arg("update").arg("--root").arg(root.path()));
    let sources: Vec<Source<'_>> = files
        .iter()
        .zip(&paths)
        .map(|((_, bytes), path)| Source { path, bytes })
        .collect();
    let mut theirs = std::fs::read(root.path().join("etc/udev/hwdb.bin")).unwrap();
    let ours = compile(&sources).unwrap().bytes;
    // The version of the program that made it.
    theirs[8..16].copy_from_slice(&ours[8..16]);
    (root, ours, theirs)
}

fn assert_same(files: &[(String, Vec<u8>)]) {
    let (_root, ours, theirs) = both(files);
    let first = ours.iter().zip(&theirs).position(|(a, b)| a != b);
    assert!(
        ours == theirs,
        "{} and {} bytes, differ at {first:?}",
        ours.len(),
        theirs.len()
    );
}

#[test]
fn the_same_bytes_as_systemd_for_a_record_of_each_form() {
    let text = b"# first\n\nusb:v1D6B*\nusb:v1D6Bp0001*\n ID_VENDOR_FROM_DATABASE=Linux Foundation\n  \tA=1\n\
                 \nusb:v1D6Bp0001* # c\n A=2\n ID_VENDOR_FROM_DATABASE=X#c\n\n orphan=1\nlonely\n\nacpi:\n noequals\n =\n \
                 X = y \n\xc3\xa9vdev:*\n Z=\xff\nmore\n Q=1\n\nlast\n";
    assert_same(&[("10-a.hwdb".to_owned(), text.to_vec())]);
    let later = b"usb:v1D6B*\n A=3\n B=\n\nusb:\n A=1\n\n:\n A=1\n";
    assert_same(&[
        ("10-a.hwdb".to_owned(), text.to_vec()),
        ("20-b.hwdb".to_owned(), later.to_vec()),
    ]);
}

#[test]
fn the_same_bytes_as_systemd_for_all_of_debians_data() {
    let folder = ["/usr/lib/udev/hwdb.d", "/lib/udev/hwdb.d"]
        .map(Path::new)
        .into_iter()
        .find(|path| path.is_dir());
    let folder = folder.expect("there is no hwdb.d on this machine: install udev (Debian)");
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            let name = entry.file_name().into_string().unwrap();
            (name, std::fs::read(entry.path()).unwrap())
        })
        .filter(|(name, _)| name.ends_with(".hwdb"))
        .collect();
    files.sort();
    assert_same(&files);
}

#[test]
fn systemd_reads_what_was_written() {
    let text = b"usb:v1D6B*\n ID_VENDOR=Linux\n\nusb:v1D6Bp0002*\n ID_MODEL=hub\n ID_VENDOR=Other\n\nusb:v1D6Bp000[3-4]*\n SPECIAL=1\n";
    let (root, ours, _) = both(&[("10-a.hwdb".to_owned(), text.to_vec())]);
    let file = root.path().join("etc/udev/hwdb.bin");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(file, ours).unwrap();
    let query = |alias: &str| {
        let text = run(systemd_hwdb()
            .arg("query")
            .arg("--root")
            .arg(root.path())
            .arg(alias));
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(query("usb:v1D6Bp0009d"), ["ID_VENDOR=Linux"]);
    assert_eq!(query("usb:v1D6Bp0002d").len(), 2);
    assert_eq!(query("usb:v1D6Bp0003d"), ["ID_VENDOR=Linux", "SPECIAL=1"]);
    assert!(query("pci:v1").is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_records_as_systemd(
        files in proptest::collection::vec("(([ab*]{0,3}|[ab]:[a-c]{1,6})( #x)?\n|  ?[AB]{0,2}=?[ab]{0,3}\n|\n|#c\n){0,30}", 1..4)
    ) {
        let files: Vec<(String, Vec<u8>)> = files
            .into_iter()
            .enumerate()
            // An empty file hides others, and would be no source.
            .map(|(at, text)| (format!("{at:02}.hwdb"), [b"\n", text.as_bytes()].concat()))
            .collect();
        assert_same(&files);
    }
}
