//! CRC-32C as ext4 uses it: running, without the inversion at the end.

/// Goes on from `state` over `bytes`.
pub(super) fn crc32c(state: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!state, bytes)
}

/// The states from which a volume's checksums start, or `None` where it has none (`metadata_csum`).
#[derive(Clone, Copy, Debug)]
pub(super) struct Sums(Option<u32>);

impl Sums {
    /// Those of a volume with this UUID.
    pub(super) fn new(uuid: &[u8; 16], enabled: bool) -> Sums {
        Sums(enabled.then(|| crc32c(!0, uuid)))
    }

    /// Those that start from a seed that the superblock holds (`metadata_csum_seed`).
    pub(super) fn seeded(seed: u32) -> Sums {
        Sums(Some(seed))
    }

    /// Whether there are any.
    pub(super) fn enabled(self) -> bool {
        self.0.is_some()
    }

    /// Of the parts one after another.
    pub(super) fn of(self, parts: &[&[u8]]) -> Option<u32> {
        self.0
            .map(|seed| parts.iter().fold(seed, |state, part| crc32c(state, part)))
    }

    /// Those of what belongs to the inode `number` of generation 0.
    pub(super) fn of_inode(self, number: u32, generation: u32) -> Sums {
        Sums(self.of(&[&number.to_le_bytes(), &generation.to_le_bytes()]))
    }
}
