//! Numbers that tell a disk and its file systems from others. They follow from what is on it.

use lycia_media::partition::Guid;
use sha2::{Digest as _, Sha256};

use crate::definition::Image;
use crate::definition::platform::{Disk, Partition};
use crate::lock::Lock;

/// The identity of a disk.
#[derive(Clone, Debug)]
pub struct Identity {
    /// What everything is derived from.
    pub seed: [u8; 32],
    /// The disk.
    pub disk: Guid,
    /// The disk in an MBR; never 0.
    pub signature: u32,
    /// The root file system.
    pub root: Guid,
}

impl Identity {
    /// From the packages, the platform and what the definition says of the system.
    pub fn derive(image: &Image, disk: &Disk, lock: &Lock) -> Identity {
        let mut hash = Sha256::new();
        hash.update(lock.seed());
        for word in [
            disk.platform.name.as_str(),
            &disk.hostname,
            &image.boot.title,
            &image.boot.arguments,
            &disk.platform.arguments,
        ] {
            hash.update(word);
            hash.update([0]);
        }
        let seed: [u8; 32] = hash.finalize().into();
        let signature = u32::from_le_bytes([seed[0], seed[1], seed[2], seed[3]]);
        Identity {
            disk: Guid::derive(&seed, "disk"),
            signature: signature.max(1),
            root: volume(&seed, &disk.platform.partitions, disk.platform.root),
            seed,
        }
    }

    /// A partition in a GPT.
    pub fn partition(&self, disk: &Disk, index: usize) -> Guid {
        let name = &disk.platform.partitions[index].name;
        Guid::derive(&self.seed, &format!("partition {index} {name}"))
    }

    /// The ext4 on a partition.
    pub fn volume(&self, disk: &Disk, index: usize) -> Guid {
        volume(&self.seed, &disk.platform.partitions, index)
    }

    /// Serial number of the FAT on a partition.
    pub fn serial(&self, disk: &Disk, index: usize) -> u32 {
        let bytes = self.volume(disk, index).to_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// The same as blkid shows it.
    pub fn serial_text(&self, disk: &Disk, index: usize) -> String {
        let serial = self.serial(disk, index);
        format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)
    }
}

/// By the name alone, so that a partition more leaves the others what they are. Names need not differ, but what is found by its UUID
/// must: where several have one, the place counts, behind a zero, which is in no name.
fn volume(seed: &[u8; 32], partitions: &[Partition], index: usize) -> Guid {
    let name = &partitions[index].name;
    let shared = partitions.iter().filter(|one| one.name == *name).count() > 1;
    let place = if shared {
        format!("\0{index}")
    } else {
        String::new()
    };
    Guid::derive(seed, &format!("volume {name}{place}"))
}
