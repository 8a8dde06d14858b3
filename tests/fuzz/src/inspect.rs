//! `lycia inspect` over media of every kind.
//!
//! An input's first byte chooses a medium of ours; what follows are changes to it, five bytes each: an offset of four
//! (little-endian, taken modulo the size) and what is there then. A last chunk of fewer bytes cuts the medium: its first two bytes
//! say where, in 65536ths. Of a number with the highest bit the tables of disks get the checksums that they should have.

use std::io::Cursor;
use std::sync::LazyLock;

use lycia_inspect::{Limits, compare, inspect_bytes};
use lycia_media::compress::{self, Compression};
use lycia_media::iso9660::{self, VolumeTime};
use lycia_media::partition::mbr::{Mbr, Record};
use lycia_media::partition::{Guid, gpt};
use lycia_media::verity::HashTree;
use lycia_media::{cpio, erofs, ext4, fat, qcow2, squashfs, tar};
use lycia_tree::{Content, Metadata, Node, Timestamp, Tree};

use crate::{Target, media};

pub const TARGETS: &[Target] = &[Target {
    name: "inspect",
    run,
    // With the highest bit the tables of disks get the checksums that they should have.
    seeds: || {
        let numbers = (0..MEDIA.len()).map(|number| number as u8);
        numbers
            .flat_map(|number| [vec![number], vec![number | RESEALED]])
            .collect()
    },
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

/// Flag of a medium's number.
const RESEALED: u8 = 0x80;

/// One of each kind; what could not be made is empty, and shows as a seed that is refused.
static MEDIA: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let mut tree = media::tree();
    let mut metadata = Metadata::new(0o755, TIME);
    for name in ["user.note", "security.capability"] {
        metadata.xattrs.insert(name.as_bytes().to_vec(), vec![1; 20]);
    }
    // Two inodes with the same ones, of which squashfs and EROFS can keep one set.
    for path in ["/usr/bin/first", "/usr/bin/second"] {
        let node = Node::Regular(vec![b'x'; 5000].into());
        let _ = tree.insert(path.as_bytes(), metadata.clone(), node);
    }
    let zstd = |bytes: &[u8]| compress::compress(bytes, &Compression::zstd(1), 1).unwrap_or_default();
    let mut squash = Cursor::new(Vec::new());
    let options = squashfs::Options {
        jobs: 1,
        block_size: 4096,
        ..squashfs::Options::default()
    };
    let _ = squashfs::write(&tree, &options, &mut squash, &|_, _| {});
    let squash = squash.into_inner();
    let mut xz = Cursor::new(Vec::new());
    let options = squashfs::Options {
        compressor: squashfs::Compressor::Xz {
            preset: 1,
            bcj: squashfs::Bcj::X86,
        },
        ..options
    };
    let _ = squashfs::write(&tree, &options, &mut xz, &|_, _| {});
    let mut four = Cursor::new(vec![0; EXT4]);
    let volume = ext4::Volume {
        journal: ext4::Journal::None,
        ..ext4::Volume::new(EXT4 as u64, Guid::derive(b"seed", "ext4"), TIME)
    };
    let _ = ext4::write(&mut four, 0, &tree, &volume);
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
    // Which has no place for attributes.
    let _ = cpio::write_tree(&mut archive, &media::tree(), &cpio::Options::default());
    let disk = disk();
    let compressed = compressed_qcow2(&disk);
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
        xz.into_inner(),
        four.into_inner(),
        compressed,
        boot_iso(),
        bios_disk(),
        program(),
        kit(&squash),
    ]
});

/// Bytes of the ext4 volume.
const EXT4: usize = 1 << 20;

/// A GPT with a FAT volume.
fn disk() -> Vec<u8> {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let _ = tree.insert(
        b"grub.cfg",
        Metadata::new(0o644, TIME),
        Node::Regular("menuentry 'a' {\nlinux /a b\n}\n".into()),
    );
    partitioned(Mbr::protective(SECTORS), Guid::EFI_SYSTEM, &volume_of(&tree))
}

/// A FAT volume.
fn volume_of(tree: &Tree) -> Vec<u8> {
    let volume = fat::Volume {
        label: Some("SEED".to_owned()),
        serial: 1,
        time: TIME,
        width: None,
        size: 160 << 10,
    };
    fat::image(tree, &volume).unwrap_or_default()
}

const SECTORS: u64 = 512;

/// A disk with one partition.
fn partitioned(mbr: Mbr, kind: Guid, content: &[u8]) -> Vec<u8> {
    let sectors = SECTORS;
    let mut table = gpt::Table::new(Guid::derive(b"seed", "disk"), 512, sectors);
    table.partitions.push(gpt::Partition {
        number: 1,
        kind,
        guid: Guid::derive(b"seed", "partition"),
        first: 64,
        last: 64 + content.len() as u64 / 512 - 1,
        attributes: 0,
        name: "seed".to_owned(),
    });
    let mut bytes = vec![0; sectors as usize * 512];
    let mut put = |at: usize, part: &[u8]| {
        if let Some(place) = bytes.get_mut(at..at + part.len()) {
            place.copy_from_slice(part);
        }
    };
    put(0, &mbr.encode());
    put(512, &table.primary().unwrap_or_default());
    put(64 * 512, content);
    put(
        table.backup_sector() as usize * 512,
        &table.backup().unwrap_or_default(),
    );
    bytes
}

/// The code of GRUB's boot sector.
fn boot_code() -> [u8; 440] {
    let mut code = [0x90; 440];
    code[0x5c..0x64].copy_from_slice(&64u64.to_le_bytes());
    code[0x180..0x185].copy_from_slice(b"GRUB ");
    code
}

/// A disk with GRUB for BIOS, and a hybrid MBR.
fn bios_disk() -> Vec<u8> {
    let mut mbr = Mbr::protective(64);
    mbr.code = boot_code();
    mbr.records[1] = Some(Record {
        active: true,
        kind: 0x83,
        first: 64,
        sectors: 20,
    });
    let mut core = vec![0x55; 20 * 512];
    core[..512].fill(0);
    for (at, field) in [
        (100, &b"loading"[..]),
        (500, &65u64.to_le_bytes()),
        (508, &19u16.to_le_bytes()),
        (520, &9000u32.to_le_bytes()),
    ] {
        core[at..at + field.len()].copy_from_slice(field);
    }
    partitioned(mbr, Guid::BIOS_BOOT, &core)
}

/// An EFI program with GRUB's modules in it.
fn program() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    let config = b"set a=b\0";
    let size = 8 + config.len() as u32;
    for (at, field) in [
        (0, &b"MZ"[..]),
        (0x3c, &0x80u32.to_le_bytes()),
        (0x80, b"PE\0\0"),
        (0x84, &0x8664u16.to_le_bytes()),
        (0x86, &1u16.to_le_bytes()),
        (0x98, b"mods"),
        (0x98 + 16, &512u32.to_le_bytes()),
        (0x98 + 20, &512u32.to_le_bytes()),
        (512, b"mimg\0\0\0\0"),
        (520, &24u64.to_le_bytes()),
        (536, &2u32.to_le_bytes()),
        (540, &size.to_le_bytes()),
        (544, config),
    ] {
        bytes[at..at + field.len()].copy_from_slice(field);
    }
    bytes
}

/// An ISO image that boots in every way, with Joliet.
fn boot_iso() -> Vec<u8> {
    let metadata = || Metadata::new(0o644, TIME);
    let mut tree = media::tree();
    let mut core = vec![0x33; 3000];
    core[200..207].copy_from_slice(b"loading");
    let _ = tree.insert(b"eltorito.img", metadata(), Node::Regular(core.into()));
    let mut esp = Tree::new(Metadata::new(0o755, TIME));
    let _ = esp.insert(b"BOOTX64.EFI", metadata(), Node::Regular(program().into()));
    image(
        &tree,
        true,
        iso9660::Boot {
            bios: Some(iso9660::Bios {
                image: b"/eltorito.img".to_vec(),
            }),
            efi: Some(iso9660::Efi {
                esp: volume_of(&esp).into(),
            }),
            hybrid: Some(iso9660::Hybrid {
                code: Some(boot_code()),
                signature: 5,
                disk: Guid::derive(b"seed", "iso disk"),
                image_partition: Guid::derive(b"seed", "iso"),
                esp_partition: Guid::derive(b"seed", "iso esp"),
            }),
        },
    )
}

/// A qcow2 image of version 2 whose clusters are all compressed, which our writer never makes.
fn compressed_qcow2(raw: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    const CLUSTER: usize = 4096;
    // Header, table of the first level, of reference counts, these, and table of the second level.
    let mut bytes = vec![0; 5 * CLUSTER];
    let mut users = vec![1u16; 5];
    let mut second = Vec::new();
    for cluster in raw.chunks(CLUSTER) {
        let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
        let _ = encoder.write_all(cluster);
        let packed = encoder.finish().unwrap_or_default();
        let start = bytes.len();
        bytes.extend_from_slice(&packed);
        let (first, last) = (start / 512, (bytes.len() - 1) / 512);
        // Whole sectors count.
        let clusters = first * 512 / CLUSTER..=(last * 512 + 511) / CLUSTER;
        users.resize(users.len().max(clusters.end() + 1), 0);
        for cluster in clusters {
            users[cluster] += 1;
        }
        second.push(1 << 62 | ((last - first) as u64) << 58 | start as u64);
    }
    let mut put = |at: usize, field: &[u8]| bytes[at..at + field.len()].copy_from_slice(field);
    put(0, b"QFI\xfb\0\0\0\x02");
    put(20, &12u32.to_be_bytes());
    put(24, &(raw.len() as u64).to_be_bytes());
    put(36, &1u32.to_be_bytes());
    for (at, cluster) in [(40, 1u64), (48, 2), (CLUSTER, 4), (2 * CLUSTER, 3)] {
        put(at, &(cluster * CLUSTER as u64).to_be_bytes());
    }
    put(56, &1u32.to_be_bytes());
    for (index, count) in users.iter().enumerate() {
        put(3 * CLUSTER + 2 * index, &count.to_be_bytes());
    }
    for (index, entry) in second.iter().enumerate() {
        put(4 * CLUSTER + 8 * index, &entry.to_be_bytes());
    }
    bytes
}

/// A kit for booting from a network.
fn kit(squash: &[u8]) -> Vec<u8> {
    let put = |tree: &mut Tree, path: &str, bytes: &[u8]| {
        let node = Node::Regular(bytes.into());
        let _ = tree.insert(path.as_bytes(), Metadata::new(0o644, TIME), node);
    };
    let mut inner = Tree::new(Metadata::new(0o755, TIME));
    put(&mut inner, "filesystem.squashfs", squash);
    let mut archive = Vec::new();
    let _ = cpio::write_tree(&mut archive, &inner, &cpio::Options::default());
    let mut files = Tree::new(Metadata::new(0o755, TIME));
    let mut sums = String::new();
    for (name, bytes) in [
        (
            "boot.ipxe",
            &b"#!ipxe\nkernel vmlinuz a=b\ninitrd root.cpio\nboot\n"[..],
        ),
        ("root.cpio", &archive),
        ("vmlinuz", b"a kernel\n"),
    ] {
        sums.push_str(&format!("{}  {name}\n", sum(bytes)));
        put(&mut files, name, bytes);
    }
    put(&mut files, "SHA256SUMS", sums.as_bytes());
    let mut bytes = Vec::new();
    let _ = tar::write_tree(&mut bytes, &files, &tar::Options::default());
    bytes
}

fn sum(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Gives the tables of a disk the checksums that their bytes have, so that readers look behind these.
fn reseal(bytes: &mut [u8]) {
    let crc = |bytes: &[u8]| {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum().to_le_bytes()
    };
    let number = |bytes: &[u8], at: usize| -> u64 {
        let field = bytes.get(at..at + 8).and_then(|field| field.try_into().ok());
        field.map_or(0, u64::from_le_bytes)
    };
    let last = bytes.len().saturating_sub(512) / 512 * 512;
    for at in [512, last] {
        if !bytes
            .get(at..)
            .is_some_and(|rest| rest.starts_with(b"EFI PART") && rest.len() >= 512)
        {
            continue;
        }
        let (entries, shape) = (number(bytes, at + 72), number(bytes, at + 80));
        let len = (shape & 0xffff_ffff)
            .saturating_mul(shape >> 32)
            .min(bytes.len() as u64) as usize;
        let start = entries.saturating_mul(512).min(bytes.len() as u64) as usize;
        if let Some(table) = bytes.get(start..start + len) {
            let sum = crc(table);
            bytes[at + 88..at + 92].copy_from_slice(&sum);
        }
        let header = (number(bytes, at + 12) & 0xffff_ffff).clamp(92, 512) as usize;
        bytes[at + 16..at + 20].fill(0);
        let sum = crc(&bytes[at..at + header]);
        bytes[at + 16..at + 20].copy_from_slice(&sum);
    }
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
    image(&tree, false, iso9660::Boot::default())
}

fn image(tree: &Tree, joliet: bool, boot: iso9660::Boot) -> Vec<u8> {
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
        joliet,
        files: tree,
        boot,
    };
    let mut bytes = Vec::new();
    if let Ok(layout) = image.plan() {
        let _ = layout.write(&mut bytes, &mut |_| {});
    }
    bytes
}

/// A container image of one layer.
fn oci(tree: &Tree) -> Vec<u8> {
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
    let medium = &MEDIA[usize::from(number & !RESEALED) % MEDIA.len()];
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
    if number & RESEALED != 0 {
        reseal(&mut bytes);
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
