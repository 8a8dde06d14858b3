//! `lycia inspect` over media of every kind.
//!
//! An input's first byte chooses a medium of ours; what follows are changes to it, five bytes each: an offset of four
//! (little-endian, taken modulo the size) and what is there then. A last chunk of fewer bytes cuts the medium: its first two bytes
//! say where, in 65536ths.

use std::io::Cursor;
use std::sync::LazyLock;

use lycia_inspect::{Limits, compare, inspect_bytes};
use lycia_media::compress::{self, Compression};
use lycia_media::iso9660::{self, VolumeTime};
use lycia_media::partition::{Guid, gpt, mbr};
use lycia_media::verity::HashTree;
use lycia_media::{cpio, erofs, fat, qcow2, squashfs, tar};
use lycia_tree::{Content, Metadata, Node, Timestamp, Tree};

use crate::{Target, media};

pub const TARGETS: &[Target] = &[Target {
    name: "inspect",
    run,
    seeds: || (0..MEDIA.len()).map(|number| vec![number as u8]).collect(),
}];

const LIMITS: Limits = Limits {
    entries: 5000,
    names: 1 << 20,
    content: 4 << 20,
    unpacked: 4 << 20,
    initramfs: 1 << 20,
    depth: 4,
};

const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};

/// One of each kind; what could not be made is empty, and shows as a seed that is refused.
static MEDIA: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let tree = media::tree();
    let zstd = |bytes: &[u8]| compress::compress(bytes, &Compression::zstd(1), 1).unwrap_or_default();
    let mut squash = Cursor::new(Vec::new());
    let options = squashfs::Options {
        jobs: 1,
        block_size: 4096,
        ..squashfs::Options::default()
    };
    let _ = squashfs::write(&tree, &options, &mut squash, &|_, _| {});
    let squash = squash.into_inner();
    let mut ero = Cursor::new(Vec::new());
    let volume = erofs::Volume {
        label: b"seed".to_vec(),
        uuid: Guid::derive(b"seed", "erofs"),
        time: TIME,
    };
    let _ = erofs::write(&mut ero, &tree, &volume);
    let mut tape = Vec::new();
    let _ = tar::write_tree(&mut tape, &tree, &tar::Options::default());
    let mut archive = Vec::new();
    let _ = cpio::write_tree(&mut archive, &tree, &cpio::Options::default());
    let disk = disk();
    let mut packed = Cursor::new(Vec::new());
    let _ = qcow2::write(&mut &disk[..], disk.len() as u64, &mut packed, &mut |_| {});
    vec![
        squash.clone(),
        ero.into_inner(),
        zstd(&tape),
        tape,
        zstd(&archive),
        archive,
        disk,
        packed.into_inner(),
        iso(&squash),
        oci(&tree),
    ]
});

/// A GPT with a FAT volume.
fn disk() -> Vec<u8> {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let _ = tree.insert(
        b"grub.cfg",
        Metadata::new(0o644, TIME),
        Node::Regular("menuentry 'a' {\nlinux /a b\n}\n".into()),
    );
    let volume = fat::Volume {
        label: Some("SEED".to_owned()),
        serial: 1,
        time: TIME,
        width: None,
        size: 160 << 10,
    };
    let esp = fat::image(&tree, &volume).unwrap_or_default();
    let sectors = 512;
    let mut table = gpt::Table::new(Guid::derive(b"seed", "disk"), 512, sectors);
    table.partitions.push(gpt::Partition {
        number: 1,
        kind: Guid::EFI_SYSTEM,
        guid: Guid::derive(b"seed", "esp"),
        first: 64,
        last: 64 + esp.len() as u64 / 512 - 1,
        attributes: 0,
        name: "esp".to_owned(),
    });
    let mut bytes = vec![0; sectors as usize * 512];
    let mut put = |at: usize, part: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + part.len()) {
            place.copy_from_slice(part);
        }
    };
    put(0, &mbr::Mbr::protective(sectors).encode());
    put(512, &table.primary().unwrap_or_default());
    put(64 * 512, &esp);
    put(
        table.backup_sector() as usize * 512,
        &table.backup().unwrap_or_default(),
    );
    bytes
}

fn iso(squash: &[u8]) -> Vec<u8> {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let _ = tree.make_directories(b"live", Metadata::new(0o755, TIME));
    let _ = tree.insert(
        b"live/filesystem.squashfs",
        Metadata::new(0o644, TIME),
        Node::Regular(squash.into()),
    );
    if let Ok(hashes) = HashTree::new(&mut &squash[..], b"salt") {
        let area = hashes.area(Guid::derive(b"seed", "verity"));
        let menu = format!(
            "menuentry \"x\" {{\n linux /live/vmlinuz dm-verity-root-hash={}\n}}\n",
            hashes.root_hex()
        );
        let _ = tree.make_directories(b"boot/grub", Metadata::new(0o755, TIME));
        for (path, content) in [
            ("live/filesystem.squashfs.verity", area),
            ("boot/grub/grub.cfg", menu.into_bytes()),
        ] {
            let node = Node::Regular(content.into());
            let _ = tree.insert(path.as_bytes(), Metadata::new(0o644, TIME), node);
        }
    }
    let Some(time) = VolumeTime::new(TIME) else {
        return Vec::new();
    };
    let image = iso9660::Image {
        volume_id: "SEED",
        system_id: "",
        volume_set_id: "",
        publisher: "",
        preparer: "",
        application: "",
        time: TIME,
        uuid: time,
        joliet: false,
        files: &tree,
        boot: iso9660::Boot::default(),
    };
    let mut bytes = Vec::new();
    if let Ok(layout) = image.plan() {
        let _ = layout.write(&mut bytes, &mut |_| {});
    }
    bytes
}

/// A container image of one layer.
fn oci(tree: &Tree) -> Vec<u8> {
    use sha2::Digest as _;
    let sum = |bytes: &[u8]| -> String {
        let digest = sha2::Sha256::digest(bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let mut layer = Vec::new();
    let _ = tar::write_tree(&mut layer, tree, &tar::Options::default());
    let config = format!(
        "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{}\"]}}}}",
        sum(&layer)
    );
    let manifest = format!(
        "{{\"config\":{{\"digest\":\"sha256:{}\",\"size\":{}}},\"layers\":[{{\"digest\":\"sha256:{}\",\"size\":{}}}]}}",
        sum(config.as_bytes()),
        config.len(),
        sum(&layer),
        layer.len()
    );
    let index = format!(
        "{{\"manifests\":[{{\"digest\":\"sha256:{}\",\"size\":{}}}]}}",
        sum(manifest.as_bytes()),
        manifest.len()
    );
    let mut files = Tree::new(Metadata::new(0o755, TIME));
    let _ = files.make_directories(b"blobs/sha256", Metadata::new(0o755, TIME));
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", sum(bytes));
    for (path, bytes) in [
        (blob(&layer), &layer[..]),
        (blob(config.as_bytes()), config.as_bytes()),
        (blob(manifest.as_bytes()), manifest.as_bytes()),
        ("index.json".to_owned(), index.as_bytes()),
        ("oci-layout".to_owned(), b"{\"imageLayoutVersion\":\"1.0.0\"}"),
    ] {
        let content = Node::Regular(bytes.into());
        let _ = files.insert(path.as_bytes(), Metadata::new(0o644, TIME), content);
    }
    let mut bytes = Vec::new();
    let _ = tar::write_tree(&mut bytes, &files, &tar::Options::default());
    bytes
}

fn run(input: &[u8]) -> bool {
    let Some((&number, changes)) = input.split_first() else {
        return false;
    };
    let medium = &MEDIA[usize::from(number) % MEDIA.len()];
    let mut bytes = medium.clone();
    if bytes.is_empty() {
        return false;
    }
    let (changes, cut) = changes.as_chunks::<5>();
    for &[a, b, c, d, value] in changes {
        let at = u32::from_le_bytes([a, b, c, d]) as usize % bytes.len();
        bytes[at] = value;
    }
    if let [low, high, ..] = cut {
        let keep = (u64::from(u16::from_le_bytes([*low, *high])) * bytes.len() as u64) >> 16;
        bytes.truncate(keep as usize);
    }
    let content = Content::from(bytes);
    let Some(report) = inspect_bytes("input", &content, &LIMITS) else {
        return false;
    };
    // What can be read can be shown, and is no different from itself.
    assert!(!report.text(true).is_empty());
    if input.len() % 16 == 1 {
        assert!(compare((&report, &content), (&report, &content)).is_empty());
    }
    report.faults.is_empty()
}
