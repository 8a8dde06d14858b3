//! Partition tables that sfdisk made, on disks that became larger, judged by sgdisk and sfdisk.

#![allow(clippy::unwrap_used)]

use lycia_init::grow::{Ext4Size, Growth, ext4_size, plan};
use proptest::prelude::*;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Command, Stdio};

const MIB: u64 = 1 << 20;

fn program(name: &str, package: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(name)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|_| panic!("{name} is missing: install the Debian package {package}"));
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// A disk of `before` MiB with the table of `script`, which then has `after` MiB.
fn disk(script: &str, before: u64, after: u64) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(before * MIB).unwrap();
    let path = file.path().to_str().unwrap();
    program("sfdisk", "fdisk", &["--quiet", path], script);
    file.as_file().set_len(after * MIB).unwrap();
    file
}

fn planned(file: &Path, number: u32) -> Result<Option<Growth>, String> {
    let disk = File::open(file).unwrap();
    let size = disk.metadata().unwrap().len();
    plan(&disk, size, 512, number)
}

fn apply(file: &Path, growth: &Growth) {
    let disk = File::options().write(true).open(file).unwrap();
    for (place, bytes) in &growth.writes {
        disk.write_all_at(bytes, *place).unwrap();
    }
}

/// The lines of `sfdisk --dump` that are about partitions, without the name of the disk.
fn dump(file: &Path) -> Vec<String> {
    let text = program("sfdisk", "fdisk", &["--dump", file.to_str().unwrap()], "");
    let lines = text.lines().filter_map(|line| line.split_once(" : "));
    lines
        .map(|(_, what)| what.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

const GPT: &str = "label: gpt\nlabel-id: 11111111-2222-4333-8444-555555555555\nfirst-lba: 64\n\
    start=64, size=1984, type=21686148-6449-6E6F-744E-656564454649, name=bios\n\
    start=2048, size=8192, type=L, name=boot, attrs=\"LegacyBIOSBootable\"\nname=root\n";

#[test]
fn the_last_partition_of_a_gpt_reaches_to_the_end() {
    let file = disk(GPT, 64, 200);
    let before = dump(file.path());
    let growth = planned(file.path(), 3).unwrap().unwrap();
    assert_eq!(growth.start, 5 * MIB);
    assert_eq!(growth.length, 194 * MIB);
    // Backup, first copy, MBR.
    assert_eq!(
        growth.writes.iter().map(|(place, _)| *place).collect::<Vec<_>>(),
        [200 * MIB - 33 * 512, 512, 0]
    );
    // Whatever was written when the power went, the table can be read.
    let name = file.path().to_str().unwrap();
    apply(
        file.path(),
        &Growth {
            writes: growth.writes[..1].to_vec(),
            ..growth.clone()
        },
    );
    assert_eq!(dump(file.path()), before);
    apply(file.path(), &growth);
    let said = program("sgdisk", "gdisk", &["--verify", name], "");
    assert!(said.contains("No problems found"), "{said}");
    let after = dump(file.path());
    assert_eq!(before[..2], after[..2]);
    let root = before[2].replace("size= 118784", &format!("size= {}", 194 * 2048));
    assert_eq!(after[2], root, "{before:?}");
    assert_eq!(planned(file.path(), 3), Ok(None), "twice is once");
    // The backup is whole by itself.
    File::options()
        .write(true)
        .open(file.path())
        .unwrap()
        .write_all_at(&[0; 512], 512)
        .unwrap();
    assert_eq!(dump(file.path()), after);
}

#[test]
fn an_mbr_alone() {
    let script =
        "label: dos\nlabel-id: 0x12345678\nstart=2048, size=8192, type=b, bootable\nstart=10240, type=83\n";
    let file = disk(script, 64, 300);
    let before = dump(file.path());
    let growth = planned(file.path(), 2).unwrap().unwrap();
    assert_eq!((growth.start, growth.length), (5 * MIB, 295 * MIB));
    apply(file.path(), &growth);
    let after = dump(file.path());
    assert_eq!(after[0], before[0]);
    assert!(
        after[1].contains(&format!("start= 10240, size= {}, type=83", 295 * 2048)),
        "{after:?}"
    );
    assert_eq!(planned(file.path(), 2), Ok(None));
    assert!(planned(file.path(), 1).unwrap_err().contains("behind it"));
    assert!(planned(file.path(), 5).unwrap_err().contains("extended"));
    assert!(planned(file.path(), 3).unwrap_err().contains("no partition 3"));
    // Beyond what an MBR addresses nothing is promised.
    file.as_file().set_len(3 << 40).unwrap();
    let growth = planned(file.path(), 2).unwrap().unwrap();
    assert_eq!(growth.start + growth.length, (1 << 41) - MIB);
}

#[test]
fn a_hybrid_mbr_shows_the_root_as_it_is() {
    let file = disk(GPT, 64, 200);
    let name = file.path().to_str().unwrap();
    program("sgdisk", "gdisk", &["--hybrid", "3", name], "");
    let growth = planned(file.path(), 3).unwrap().unwrap();
    apply(file.path(), &growth);
    let said = program("sgdisk", "gdisk", &["--verify", name], "");
    assert!(said.contains("No problems found"), "{said}");
    let mut mbr = [0; 512];
    File::open(file.path())
        .unwrap()
        .read_exact_at(&mut mbr, 0)
        .unwrap();
    let shown: Vec<(u32, u32)> = (0..4)
        .map(|slot| 446 + 16 * slot)
        .filter(|&at| mbr[at + 4] != 0 && mbr[at + 4] != 0xee)
        .map(|at| {
            let word = |at: usize| u32::from_le_bytes(mbr[at..at + 4].try_into().unwrap());
            (word(at + 8), word(at + 12))
        })
        .collect();
    assert_eq!(shown, [(10240, 194 * 2048)]);
}

#[test]
fn what_cannot_grow_is_said() {
    let file = disk(GPT, 64, 200);
    assert!(planned(file.path(), 2).unwrap_err().contains("behind it"));
    assert!(planned(file.path(), 9).unwrap_err().contains("no partition 9"));
    let damaged = |place: u64, what: &str| {
        let file = disk(GPT, 64, 200);
        let mut byte = [0];
        file.as_file().read_exact_at(&mut byte, place).unwrap();
        file.as_file().write_all_at(&[byte[0] ^ 1], place).unwrap();
        let said = planned(file.path(), 3).unwrap_err();
        assert!(said.contains(what), "{said}");
    };
    damaged(512 + 56, "checksum of the header");
    damaged(1024 + 130, "checksum of the entries");
    damaged(510, "no partition table");
    file.as_file().set_len(32 * MIB).unwrap();
    assert!(
        planned(file.path(), 3)
            .unwrap_err()
            .contains("smaller than its table")
    );
    let same = disk(GPT, 64, 64);
    // sfdisk uses all there is; nothing is to be done.
    assert_eq!(planned(same.path(), 3), Ok(None));
}

#[test]
fn sizes_of_ext4() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let name = file.path().to_str().unwrap();
    for (options, block) in [("^64bit", 1024), ("64bit", 4096)] {
        file.as_file().set_len(40 * MIB).unwrap();
        program(
            "mke2fs",
            "e2fsprogs",
            &["-qF", "-t", "ext4", "-O", options, "-b", &block.to_string(), name],
            "",
        );
        let expected = Ext4Size {
            block,
            blocks: 40 * MIB / block,
            clean: true,
        };
        assert_eq!(ext4_size(file.as_file()), Some(expected));
    }
    file.as_file().write_all_at(&[0], 1024 + 0x3a).unwrap();
    assert!(!ext4_size(file.as_file()).unwrap().clean);
    file.as_file().write_all_at(&[0], 1024 + 0x38).unwrap();
    assert_eq!(ext4_size(file.as_file()), None);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    /// A table of any bytes gives a plan within the disk or a reason, and nothing else.
    #[test]
    fn no_table_does_harm(
        mut head in proptest::collection::vec(any::<u8>(), 4096),
        gpt: bool,
        sealed: bool,
        count in 0u32..200,
        size in 0u64..1 << 34,
        number in 0u32..10,
    ) {
        head[510..512].copy_from_slice(&[0x55, 0xaa]);
        head[450] = if gpt { 0xee } else { 0x83 };
        head[512..520].copy_from_slice(b"EFI PART");
        if sealed {
            head[524..528].copy_from_slice(&92u32.to_le_bytes());
            head[536..544].copy_from_slice(&1u64.to_le_bytes());
            head[584..592].copy_from_slice(&2u64.to_le_bytes());
            head[592..596].copy_from_slice(&(count % 24).to_le_bytes());
            head[596..600].copy_from_slice(&128u32.to_le_bytes());
            let sum = crc32fast::hash(&head[1024..1024 + 128 * (count as usize % 24)]);
            head[600..604].copy_from_slice(&sum.to_le_bytes());
            head[528..532].fill(0);
            let sum = crc32fast::hash(&head[512..604]);
            head[528..532].copy_from_slice(&sum.to_le_bytes());
        }
        if let Ok(Some(growth)) = plan(&head[..], size, 512, number) {
            prop_assert!(growth.start + growth.length <= size);
            for (place, bytes) in growth.writes {
                prop_assert!(place + bytes.len() as u64 <= size);
            }
        }
    }
}
