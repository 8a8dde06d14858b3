//! What independent programs say of a disk.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::process::Command;

use lycia::error::Kind;

use crate::program::{run, succeed, text, tool};

/// A partition as sfdisk shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Part {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
    /// Name in a GPT.
    pub name: String,
}

/// The partitions of a disk with 512-byte sectors.
pub fn parts(disk: &Path) -> Vec<Part> {
    let said = succeed(tool("sfdisk", "fdisk").arg("--json").arg(disk)).stdout;
    let table: serde_json::Value = serde_json::from_slice(&said).unwrap();
    let parts = table["partitiontable"]["partitions"].as_array().unwrap();
    parts
        .iter()
        .map(|one| Part {
            start: one["start"].as_u64().unwrap() * 512,
            size: one["size"].as_u64().unwrap() * 512,
            name: one["name"].as_str().unwrap_or_default().to_owned(),
        })
        .collect()
}

/// `sfdisk --dump` without names of files and without what is random in a reference.
pub fn dump(disk: &Path) -> Vec<String> {
    let said = text(&succeed(tool("sfdisk", "fdisk").arg("--dump").arg(disk)).stdout);
    let lines = said
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with("label-id") && !line.starts_with("device:"));
    lines
        .map(|line| {
            let line = line.split_once(" : ").map_or(line, |(_, what)| what);
            let fields = line
                .split(',')
                .map(str::trim)
                .filter(|field| !field.starts_with("uuid="));
            fields
                .map(|field| field.split_whitespace().collect::<String>())
                .collect::<Vec<_>>()
                .join(", ")
        })
        .collect()
}

/// The table of a GPT as sgdisk prints it, and all that it says of each partition, without names of files and what is random in a
/// reference.
pub fn printed(disk: &Path) -> Vec<String> {
    let numbers = 1..=parts(disk).len();
    let mut sgdisk = tool("sgdisk", "gdisk");
    sgdisk.arg("--print");
    sgdisk.args(numbers.map(|number| format!("--info={number}")));
    let said = text(&succeed(sgdisk.arg(disk)).stdout);
    let random = ["Disk /", "Disk identifier", "Partition unique GUID"];
    said.lines()
        .filter(|line| !random.iter().any(|start| line.starts_with(start)))
        .map(str::to_owned)
        .collect()
}

/// Nothing is wrong with the table.
pub fn sound_table(disk: &Path) {
    let said = text(&succeed(tool("sgdisk", "gdisk").arg("--verify").arg(disk)).stdout);
    assert!(said.contains("No problems found"), "{said}");
}

/// Bytes of a disk.
pub fn bytes(disk: &Path, start: u64, len: usize) -> Vec<u8> {
    let mut file = File::open(disk).unwrap();
    file.seek(SeekFrom::Start(start)).unwrap();
    let mut bytes = vec![0; len];
    file.read_exact(&mut bytes).unwrap();
    bytes
}

/// The ext4 on a partition is whole.
pub fn sound_ext4(disk: &Path, part: &Part) {
    succeed(tool("e2fsck", "e2fsprogs").arg("-fn").arg(place(disk, part)));
}

fn place(disk: &Path, part: &Part) -> String {
    format!("{}?offset={}", disk.display(), part.start)
}

/// A file of the ext4 on a partition.
pub fn of_ext4(disk: &Path, part: &Part, path: &str) -> String {
    let mut debugfs = tool("debugfs", "e2fsprogs");
    text(
        &succeed(
            debugfs
                .arg("-R")
                .arg(format!("cat {path}"))
                .arg(place(disk, part)),
        )
        .stdout,
    )
}

/// What `dumpe2fs -h` says.
pub fn superblock(disk: &Path, part: &Part) -> String {
    // dumpe2fs takes no offset.
    let mut debugfs = tool("debugfs", "e2fsprogs");
    text(&succeed(debugfs.args(["-R", "stats -h"]).arg(place(disk, part))).stdout)
}

/// The FAT on a partition is whole.
pub fn sound_fat(disk: &Path, part: &Part) {
    let copy = tempfile::NamedTempFile::new().unwrap();
    let mut file = File::open(disk).unwrap();
    file.seek(SeekFrom::Start(part.start)).unwrap();
    std::io::copy(&mut file.take(part.size), &mut copy.as_file()).unwrap();
    succeed(tool("fsck.vfat", "dosfstools").arg("-n").arg(copy.path()));
}

/// A file of the FAT on a partition.
pub fn of_fat(disk: &Path, part: &Part, path: &str) -> Vec<u8> {
    let mut mtype = tool("mtype", "mtools");
    // Geometry is nobody's on a disk of today.
    mtype
        .env("MTOOLS_SKIP_CHECK", "1")
        .arg("-i")
        .arg(format!("{}@@{}", disk.display(), part.start));
    succeed(mtype.arg(format!("::{path}"))).stdout
}

/// A command that must end with `kind` and say `parts`.
pub fn refused(command: &mut Command, kind: Kind, parts: &[&str]) {
    let ended = run(command);
    let said = text(&ended.stderr);
    assert_eq!(ended.status.code(), Some(i32::from(kind.code())), "{said}");
    for part in parts {
        assert!(said.contains(part), "no `{part}` in: {said}");
    }
}
