//! Hash trees on media: held against the image, against the menu, and against those that `veritysetup` makes.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

use std::process::Command;

use lycia_inspect::{Limits, Report, inspect, inspect_bytes};
use lycia_media::iso9660::{Boot, Image, VolumeTime};
use lycia_media::partition::Guid;
use lycia_media::verity::{BLOCK, HashTree};
use lycia_tree::{Content, Metadata, Timestamp, Tree};

const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};

/// Bytes of some text in no order, in whole blocks.
fn image(blocks: usize) -> Vec<u8> {
    let mut state = 7u32;
    let mut bytes: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(blocks * BLOCK)
    .collect();
    // Not to be taken for something that is looked into.
    bytes[..4].copy_from_slice(b"data");
    bytes
}

fn medium(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    for (path, bytes) in files {
        if let Some((folder, _)) = path.rsplit_once('/') {
            tree.make_directories(folder.as_bytes(), Metadata::new(0o755, TIME))
                .unwrap();
        }
        tree.write(path.as_bytes(), Metadata::new(0o644, TIME), bytes.clone().into())
            .unwrap();
    }
    let image = Image {
        volume_id: "TEST",
        system_id: "",
        volume_set_id: "",
        publisher: "",
        preparer: "",
        application: "",
        time: TIME,
        uuid: VolumeTime::new(TIME).unwrap(),
        joliet: true,
        files: &tree,
        boot: Boot::default(),
    };
    let mut bytes = Vec::new();
    image.plan().unwrap().write(&mut bytes, &mut |_| ()).unwrap();
    bytes
}

fn menu(root: &str) -> Vec<u8> {
    format!("menuentry \"Live\" {{\n linux /live/vmlinuz quiet dm-verity-root-hash={root}\n initrd /live/initrd\n}}\n")
        .into_bytes()
}

fn look(bytes: &[u8]) -> Report {
    inspect_bytes("test.iso", &Content::from(bytes), &Limits::default()).expect("it is something")
}

fn faults(report: &Report) -> Vec<String> {
    report.faults.iter().map(ToString::to_string).collect()
}

fn find(bytes: &[u8], part: &[u8]) -> usize {
    bytes
        .windows(part.len())
        .position(|window| window == part)
        .unwrap()
}

#[test]
fn a_hash_tree_is_held_against_the_image_and_the_menu() {
    let data = image(300);
    let tree = HashTree::new(&mut &data[..], b"salt").unwrap();
    let area = tree.area(Guid::derive(b"test", "verity"));
    let files = |data: &[u8], area: &[u8], root: &str| {
        medium(&[
            ("boot/grub/grub.cfg", menu(root)),
            ("live/filesystem.squashfs", data.to_vec()),
            ("live/filesystem.squashfs.verity", area.to_vec()),
        ])
    };
    let whole = files(&data, &area, &tree.root_hex());
    let report = look(&whole);
    assert_eq!(faults(&report), Vec::<String>::new());
    let parts = report.part.walk();
    let verity = parts.iter().find(|part| part.format == "verity").unwrap();
    assert_eq!(verity.facts["root-hash"], tree.root_hex());
    assert_eq!(verity.facts["blocks-checked"], 300);
    assert_eq!(verity.facts["uuid"], Guid::derive(b"test", "verity").to_string());

    // Any byte of the image, with the block that it is in and its place in the file.
    for at in [0, 17 * BLOCK + 5, 300 * BLOCK - 1] {
        let place = find(&whole, &data[..64]) + at;
        let mut bytes = whole.clone();
        bytes[place] ^= 1;
        let report = look(&bytes);
        let told = faults(&report);
        let block = at / BLOCK;
        assert!(
            told.iter()
                .any(|fault| fault.contains(&format!("block {block} is not"))),
            "{at}: {told:?}"
        );
        let offsets: Vec<Option<u64>> = report.faults.iter().map(|fault| fault.offset).collect();
        assert!(
            offsets.contains(&Some((place - at % BLOCK) as u64)),
            "{at}: {offsets:?}"
        );
    }
    // Hashes: of a block of data, between levels, and the uppermost block, which changes the root hash.
    for (at, part) in [
        (area.len() - BLOCK + 8, "a block of hashes is not"),
        (2 * BLOCK, "block 0 is not"),
        (BLOCK + 3, "a block of hashes is not"),
        (BLOCK + 3, "the hash tree has"),
    ] {
        let mut area = area.clone();
        area[at] ^= 1;
        let told = faults(&look(&files(&data, &area, &tree.root_hex())));
        assert!(told.iter().any(|fault| fault.contains(part)), "{at}: {told:?}");
    }
    let other = "0".repeat(64);
    let told = faults(&look(&files(&data, &area, &other)));
    assert!(
        told.len() == 1 && told[0].contains(&other) && told[0].contains(&tree.root_hex()),
        "{told:?}"
    );
    let told = faults(&look(&files(&data[..200 * BLOCK], &area, &tree.root_hex())));
    assert!(
        told.iter().any(|fault| fault.contains("it is of 1228800 bytes")),
        "{told:?}"
    );
    let alone = medium(&[("live/filesystem.squashfs.verity", area.clone())]);
    let told = faults(&look(&alone));
    assert!(
        told.iter().any(|fault| fault.contains("which is not there")),
        "{told:?}"
    );
    let told = faults(&look(&files(&data, &area[..BLOCK + 100], &tree.root_hex())));
    assert!(told.iter().any(|fault| fault.contains("do not fit")), "{told:?}");
}

#[test]
fn trees_of_veritysetup_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for (blocks, salt) in [(1, "-"), (2, "00ff"), (128, "00ff"), (129, "-"), (20_000, "abcd")] {
        let (data, hashes) = (folder.path().join("data"), folder.path().join("hashes"));
        std::fs::write(&data, image(blocks)).unwrap();
        let _ = std::fs::remove_file(&hashes);
        let made = Command::new("veritysetup")
            .env(
                "PATH",
                format!("{}:/usr/sbin:/sbin", std::env::var("PATH").unwrap_or_default()),
            )
            .args(["format", "--salt", salt])
            .args([&data, &hashes])
            .output()
            .unwrap_or_else(|error| {
                panic!("veritysetup of the Debian package cryptsetup-bin is needed: {error}")
            });
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let said = String::from_utf8(made.stdout).unwrap();
        let field = |name: &str| {
            let line = said.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().last().unwrap().to_owned()
        };
        let area = std::fs::read(&hashes).unwrap();
        let bytes = medium(&[
            ("live/root.squashfs", std::fs::read(&data).unwrap()),
            ("live/root.squashfs.verity", area),
        ]);
        let report = look(&bytes);
        assert_eq!(faults(&report), Vec::<String>::new(), "{blocks}");
        let parts = report.part.walk();
        let verity = parts.iter().find(|part| part.format == "verity").unwrap();
        assert_eq!(verity.facts["root-hash"], field("Root hash:"), "{blocks}");
        assert_eq!(verity.facts["uuid"], field("UUID:"), "{blocks}");
        assert_eq!(verity.facts["blocks"], blocks as u64);
        // Alone it has no root hash where the data are one block, else the same.
        let report = inspect(&hashes, &Limits::default()).unwrap();
        assert_eq!(faults(&report), Vec::<String>::new());
        let root = report.part.facts.get("root-hash").and_then(|root| root.as_str());
        assert_eq!(root, (blocks > 1).then(|| field("Root hash:")).as_deref());
    }
}
