//! Images that are read back whole: EROFS, qcow2, hash trees and their superblocks.

use std::io::{self, Cursor};

use lycia_init::verity::Superblock;
use lycia_media::partition::Guid;
use lycia_media::verity::{Area, BLOCK, HashTree};
use lycia_media::{erofs, qcow2};
use lycia_tree::Timestamp;

use crate::{Target, media};

pub const TARGETS: &[Target] = &[
    Target {
        name: "erofs",
        run: erofs,
        seeds: || {
            let volume = erofs::Volume {
                label: b"seed".to_vec(),
                uuid: Guid::derive(b"seed", "erofs"),
                time: Timestamp::from_seconds(1_600_000_000),
            };
            let mut image = Cursor::new(Vec::new());
            let written = erofs::write(&mut image, &media::tree(), &volume);
            written.map(|_| image.into_inner()).into_iter().collect()
        },
    },
    Target {
        name: "qcow2",
        run: qcow2,
        seeds: || {
            let mut disk = vec![0; 256 << 10];
            disk[100_000..100_500].fill(7);
            let mut image = Cursor::new(Vec::new());
            let size = disk.len() as u64;
            let written = qcow2::write(&mut &disk[..], size, &mut image, &mut |_| {});
            written.map(|_| image.into_inner()).into_iter().collect()
        },
    },
    Target {
        name: "verity-superblock",
        run: |bytes| {
            let mut start = [0; 512];
            let length = bytes.len().min(512);
            start[..length].copy_from_slice(&bytes[..length]);
            let Ok(superblock) = Superblock::parse(&start) else {
                return false;
            };
            assert!(superblock.sectors() > 0 && superblock.salt.len() <= 512);
            true
        },
        seeds: || {
            let tree = HashTree::new(&mut &vec![3; 3 * BLOCK][..], b"salt");
            tree.map(|tree| tree.area(Guid::derive(b"seed", "verity"))[..512].to_vec())
                .into_iter()
                .collect()
        },
    },
    Target {
        name: "verity-area",
        run: |bytes| {
            let Ok(area) = Area::read(bytes) else {
                return false;
            };
            assert!(area.size() <= bytes.len() as u64);
            for at in area.wrong_hashes(bytes) {
                assert!(at < area.size());
            }
            for number in [0, area.blocks / 2, area.blocks - 1] {
                assert_eq!(area.hash_of(bytes, number).is_some(), area.blocks > 1);
            }
            assert_eq!(area.hash_of(bytes, area.blocks), None);
            area.root(bytes, None);
            true
        },
        seeds: || {
            let area = |blocks: usize| {
                let tree = HashTree::new(&mut &vec![3; blocks * BLOCK][..], b"salt");
                tree.map(|tree| tree.area(Guid::derive(b"seed", "verity")))
            };
            [1, 2, 129].into_iter().flat_map(area).collect()
        },
    },
];

/// What an input may unpack to.
const LIMIT: u64 = 1 << 20;

fn erofs(bytes: &[u8]) -> bool {
    let Ok(image) = erofs::Image::open(bytes) else {
        return false;
    };
    let Ok(entries) = image.entries(&erofs::Limits {
        entries: 1000,
        ..erofs::Limits::default()
    }) else {
        return false;
    };
    for entry in &entries {
        if let erofs::EntryKind::Regular(Some(runs)) = &entry.kind {
            let length: u64 = runs.iter().map(|&run| image.bytes(run).len() as u64).sum();
            assert!(runs.iter().map(|run| run.1).sum::<u64>() == length);
        }
    }
    true
}

fn qcow2(bytes: &[u8]) -> bool {
    let Ok(disk) = qcow2::Disk::open(bytes) else {
        return false;
    };
    let mut total = 0;
    let unpacked = disk.unpack(&mut |_, bytes, _| {
        total += bytes.len() as u64;
        if total > LIMIT {
            return Err(io::Error::other("enough"));
        }
        Ok(())
    });
    unpacked.is_ok()
}
