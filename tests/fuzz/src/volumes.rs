//! File systems and archives that are read back: ext4, FAT, tar.
//!
//! Volumes are too large to be inputs themselves. Their inputs are changes to a volume of ours: five bytes each,
//! an offset of four (little-endian, taken modulo the size) and what is there then.

use std::io::{self, Cursor, Read, Seek, SeekFrom};
use std::sync::LazyLock;

use lycia_media::partition::Guid;
use lycia_media::{ext4, fat, tar};
use lycia_tree::{Metadata, Node, Timestamp, Tree};

use crate::{Target, media};

pub const TARGETS: &[Target] = &[
    Target {
        name: "ext4",
        run: ext4,
        seeds: || seeds(&EXT4, &[0, 1024, 1024 + 0x38, 2048, 4096, 8192]),
    },
    Target {
        name: "fat",
        run: fat,
        seeds: || seeds(&FAT, &[0, 11, 22, 510, 512, 1536]),
    },
    Target {
        name: "tar",
        run: |bytes| {
            let limits = tar::Limits {
                members: 1000,
                bytes: LIMIT,
            };
            let mut archive = tar::Archive::new(bytes, limits);
            while let Ok(Some(_)) = archive.next_member() {}
            tar::read_tree(bytes, limits).is_ok()
        },
        seeds: || {
            let mut archive = Vec::new();
            let written = tar::write_tree(&mut archive, &media::tree(), &tar::Options::default());
            written.map(|_| archive).into_iter().collect()
        },
    },
];

/// Bytes of contents that may be held.
const LIMIT: u64 = 1 << 20;
const TIME: Timestamp = Timestamp {
    seconds: 1_600_000_000,
    nanoseconds: 0,
};

static EXT4: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let volume = ext4::Volume::new(8 << 20, Guid::derive(b"seed", "volume"), TIME);
    let mut bytes = Cursor::new(vec![0; 8 << 20]);
    match ext4::write(&mut bytes, 0, &media::tree(), &volume) {
        Ok(()) => bytes.into_inner(),
        Err(_) => Vec::new(),
    }
});

static FAT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let mut tree = Tree::new(Metadata::new(0o755, TIME));
    for (path, length) in [("EFI/BOOT/BOOTX64.EFI", 9000), ("a long name of a file.txt", 10)] {
        let folder = path.rfind('/').map_or("", |at| &path[..at]);
        let _ = tree.make_directories(folder.as_bytes(), Metadata::new(0o755, TIME));
        let content = Node::Regular(vec![7; length].into());
        let _ = tree.insert(path.as_bytes(), Metadata::new(0o644, TIME), content);
    }
    let volume = fat::Volume {
        label: Some("SEED".to_owned()),
        serial: 0x1234_5678,
        time: TIME,
        width: None,
        size: 1 << 20,
    };
    fat::image(&tree, &volume).unwrap_or_default()
});

/// Changes that change nothing, at places that matter.
fn seeds(volume: &[u8], places: &[u32]) -> Vec<Vec<u8>> {
    let mut changes = Vec::new();
    for &place in places {
        for at in place..place + 16 {
            let Some(&byte) = volume.get(at as usize) else {
                continue;
            };
            changes.extend_from_slice(&at.to_le_bytes());
            changes.push(byte);
        }
    }
    vec![changes]
}

/// A volume with changes over it.
struct Changed<'v> {
    volume: &'v [u8],
    changes: Vec<(u64, u8)>,
    position: u64,
}

impl<'v> Changed<'v> {
    fn new(volume: &'v [u8], input: &[u8]) -> Changed<'v> {
        let changes = input.as_chunks::<5>().0.iter().map(|&[a, b, c, d, value]| {
            let at = u64::from(u32::from_le_bytes([a, b, c, d]));
            (at % volume.len().max(1) as u64, value)
        });
        Changed {
            volume,
            changes: changes.collect(),
            position: 0,
        }
    }
}

impl Read for Changed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let start = self.position.min(self.volume.len() as u64);
        let rest = &self.volume[start as usize..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        for &(at, value) in &self.changes {
            if (start..start + count as u64).contains(&at) {
                buffer[(at - start) as usize] = value;
            }
        }
        self.position = start + count as u64;
        Ok(count)
    }
}

impl Seek for Changed<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::Current(by) => (self.position, by),
            SeekFrom::End(by) => (self.volume.len() as u64, by),
        };
        self.position = from
            .checked_add_signed(by)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.position)
    }
}

fn ext4(input: &[u8]) -> bool {
    let limits = ext4::Limits {
        entries: 1000,
        bytes: LIMIT,
    };
    match ext4::Reader::open(Changed::new(&EXT4, input), limits) {
        Ok(mut reader) => reader.tree().is_ok(),
        Err(_) => false,
    }
}

fn fat(input: &[u8]) -> bool {
    let limits = fat::Limits {
        entries: 1000,
        bytes: LIMIT,
    };
    match fat::Reader::open(Changed::new(&FAT, input), limits) {
        Ok(mut reader) => reader.tree().is_ok(),
        Err(_) => false,
    }
}
