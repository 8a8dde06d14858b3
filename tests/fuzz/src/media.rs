//! Media: squashfs, ISO 9660, cpio, partition tables, compressed streams.

use std::io::Cursor;

use lycia_media::compress::{Branches, Compression, compress, decompress, decompress_prefix};
use lycia_media::iso9660::{self, Boot, VolumeTime};
use lycia_media::partition::Guid;
use lycia_media::partition::gpt::{Partition, Table};
use lycia_media::partition::mbr::Mbr;
use lycia_media::{cpio, squashfs};
use lycia_tree::{Device, Metadata, Node, Timestamp, Tree};

use crate::Target;

pub const TARGETS: &[Target] = &[
    Target {
        name: "squashfs",
        run: squashfs,
        seeds: squashfs_images,
    },
    Target {
        name: "iso9660",
        run: iso9660,
        seeds: iso_images,
    },
    Target {
        name: "cpio",
        run: cpio,
        seeds: cpio_archives,
    },
    Target {
        name: "gpt",
        run: gpt,
        seeds: gpt_disks,
    },
    Target {
        name: "mbr",
        run: |bytes| {
            let mut sector = [0; 512];
            let length = bytes.len().min(512);
            sector[..length].copy_from_slice(&bytes[..length]);
            let Ok(mbr) = Mbr::decode(&sector) else {
                return false;
            };
            let again = Mbr::decode(&mbr.encode());
            assert_eq!(again.as_ref(), Ok(&mbr));
            mbr.check().is_ok()
        },
        seeds: || vec![Mbr::protective(100_000).encode().to_vec()],
    },
    Target {
        name: "compressed",
        run: |bytes| {
            let _ = decompress_prefix(bytes, LIMIT);
            match decompress(bytes, LIMIT) {
                Ok(plain) => {
                    assert!(plain.len() as u64 <= LIMIT);
                    true
                }
                Err(_) => false,
            }
        },
        seeds: || {
            let text = b"some text, some text, some text again".repeat(20);
            [
                Compression::Gzip { level: 6 },
                Compression::xz_for_kernel(Branches::X86),
                Compression::zstd(3),
            ]
            .iter()
            .filter_map(|compression| compress(&text, compression, 1).ok())
            .collect()
        },
    },
];

/// What an input may unpack to.
const LIMIT: u64 = 1 << 20;
const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};

/// A little of everything.
pub fn tree() -> Tree {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    let nodes: [(&str, u16, Node); 7] = [
        ("/etc/motd", 0o644, Node::Regular("welcome\n".into())),
        ("/usr/bin/tool", 0o755, Node::Regular(vec![7; 9000].into())),
        ("/usr/bin/link", 0o777, Node::Symlink(b"tool".to_vec())),
        ("/usr/share/zeros", 0o600, Node::Regular(vec![0; 5000].into())),
        (
            "/dev/null",
            0o666,
            Node::CharDevice(Device { major: 1, minor: 3 }),
        ),
        (
            "/dev/disk",
            0o660,
            Node::BlockDevice(Device { major: 8, minor: 1 }),
        ),
        ("/run/pipe", 0o600, Node::Fifo),
    ];
    for (path, mode, node) in nodes {
        let folder = &path[..path.rfind('/').unwrap_or(0)];
        // Of a tree with these paths nothing is refused; a seed that lacks some would show as refused.
        let _ = tree.make_directories(folder.as_bytes(), Metadata::new(0o755, TIME));
        let _ = tree.insert(path.as_bytes(), Metadata::new(mode, TIME), node);
    }
    tree
}

fn squashfs_images() -> Vec<Vec<u8>> {
    let tree = tree();
    [
        squashfs::Compressor::Zstd { level: 3 },
        squashfs::Compressor::Gzip { level: 6 },
        squashfs::Compressor::Lz4 { level: 12 },
    ]
    .into_iter()
    .filter_map(|compressor| {
        let options = squashfs::Options {
            compressor,
            jobs: 1,
            ..squashfs::Options::default()
        };
        let mut image = Cursor::new(Vec::new());
        squashfs::write(&tree, &options, &mut image, &|_, _| {}).ok()?;
        Some(image.into_inner())
    })
    .collect()
}

fn squashfs(bytes: &[u8]) -> bool {
    let limits = squashfs::Limits {
        entries: 1000,
        content_bytes: LIMIT,
    };
    let Ok(mut image) = squashfs::Image::open(Cursor::new(bytes)) else {
        return false;
    };
    let _ = image.entries(&limits);
    let _ = image.check(&limits, &|_| {});
    image.tree(&limits).is_ok()
}

fn iso_images() -> Vec<Vec<u8>> {
    let files = tree();
    [false, true]
        .into_iter()
        .filter_map(|joliet| {
            let image = iso9660::Image {
                volume_id: "SEED",
                system_id: "",
                volume_set_id: "",
                publisher: "",
                preparer: "",
                application: "",
                time: TIME,
                uuid: VolumeTime::new(TIME)?,
                joliet,
                files: &files,
                boot: Boot::default(),
            };
            let mut bytes = Vec::new();
            image.plan().ok()?.write(&mut bytes, &mut |_| {}).ok()?;
            Some(bytes)
        })
        .collect()
}

fn iso9660(bytes: &[u8]) -> bool {
    let limits = iso9660::Limits {
        entries: 1000,
        ..iso9660::Limits::default()
    };
    let Ok(volume) = iso9660::inspect(bytes, &limits) else {
        return false;
    };
    for entry in &volume.entries {
        let length: usize = entry.content(bytes).map(<[u8]>::len).sum();
        assert_eq!(length as u64, entry.len());
    }
    true
}

fn cpio_archives() -> Vec<Vec<u8>> {
    let tree = tree();
    let mut plain = cpio::Segments::new(Vec::new());
    let mut packed = cpio::Segments::new(Vec::new());
    let options = cpio::Options::default();
    let _ = plain.plain(&tree, &options);
    let _ = packed.plain(&tree, &options);
    let _ = packed.compressed(&tree, &options, &Compression::zstd(3), 1);
    [plain.finish(), packed.finish()]
        .into_iter()
        .filter_map(Result::ok)
        .collect()
}

fn cpio(bytes: &[u8]) -> bool {
    let limits = cpio::Limits {
        members: 1000,
        unpacked: LIMIT,
    };
    let _ = cpio::segments(bytes, &limits);
    cpio::read_tree(bytes, &limits).is_ok()
}

/// Sectors of the seeds' disk: small, so that both copies of its table are in reach of changes.
const SECTORS: u64 = 100;

fn gpt_disks() -> Vec<Vec<u8>> {
    let mut table = Table::new(Guid::derive(b"seed", "disk"), 512, SECTORS);
    table.partitions.push(Partition {
        number: 1,
        kind: Guid::derive(b"seed", "kind"),
        guid: Guid::derive(b"seed", "partition"),
        first: 40,
        last: 50,
        attributes: 4,
        name: "seed".into(),
    });
    let (Ok(primary), Ok(backup)) = (table.primary(), table.backup()) else {
        return Vec::new();
    };
    let mut disk = vec![0; SECTORS as usize * 512];
    disk[..512].copy_from_slice(&Mbr::protective(SECTORS).encode());
    disk[512..512 + primary.len()].copy_from_slice(&primary);
    let end = disk.len() - backup.len();
    disk[end..].copy_from_slice(&backup);
    vec![disk]
}

fn gpt(bytes: &[u8]) -> bool {
    let _ = Table::read(&mut Cursor::new(bytes), 4096);
    match Table::read(&mut Cursor::new(bytes), 512) {
        Ok((table, _)) => table.check().is_ok(),
        Err(_) => false,
    }
}
