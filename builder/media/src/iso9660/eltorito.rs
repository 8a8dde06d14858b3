//! The boot catalog and the tables inside boot images (El Torito specification 1.0; GRUB's and mkisofs's
//! boot information).

use super::BLOCK;

/// Firmware that a boot entry is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Platform {
    /// BIOS on x86.
    Bios,
    /// UEFI.
    Efi,
    /// Another one, by its number.
    Other(u8),
}

impl Platform {
    pub(super) fn number(self) -> u8 {
        match self {
            Platform::Bios => 0,
            Platform::Efi => 0xef,
            Platform::Other(number) => number,
        }
    }

    pub(super) fn from_number(number: u8) -> Platform {
        match number {
            0 => Platform::Bios,
            0xef => Platform::Efi,
            number => Platform::Other(number),
        }
    }
}

/// A boot image as the catalog lists it.
pub struct Bootable {
    pub platform: Platform,
    pub block: u32,
    /// Sectors of 512 bytes that firmware loads; 0 for all.
    pub sectors: u16,
}

/// The catalog: the first image is the default, each other one makes a section of its own.
pub fn catalog(images: &[Bootable]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(BLOCK as usize);
    if let Some((first, others)) = images.split_first() {
        let mut validation = [0; 32];
        validation[0] = 1;
        validation[1] = first.platform.number();
        validation[30..].copy_from_slice(&[0x55, 0xaa]);
        let sum = validation.chunks_exact(2).fold(0u16, |sum, word| {
            sum.wrapping_add(u16::from_le_bytes([word[0], word[1]]))
        });
        validation[28..30].copy_from_slice(&sum.wrapping_neg().to_le_bytes());
        bytes.extend_from_slice(&validation);
        bytes.extend_from_slice(&entry(first));
        for (index, image) in others.iter().enumerate() {
            let last = index + 1 == others.len();
            let mut header = [0; 32];
            header[0] = if last { 0x91 } else { 0x90 };
            header[1] = image.platform.number();
            header[2..4].copy_from_slice(&1u16.to_le_bytes());
            bytes.extend_from_slice(&header);
            bytes.extend_from_slice(&entry(image));
        }
    }
    bytes.resize(BLOCK as usize, 0);
    bytes
}

fn entry(image: &Bootable) -> [u8; 32] {
    let mut entry = [0; 32];
    // Bootable, no emulation, default segment.
    entry[0] = 0x88;
    entry[6..8].copy_from_slice(&image.sectors.to_le_bytes());
    entry[8..12].copy_from_slice(&image.block.to_le_bytes());
    entry
}

/// The boot record volume descriptor.
pub fn boot_record(catalog: u32) -> Vec<u8> {
    let mut bytes = vec![0; BLOCK as usize];
    bytes[1..6].copy_from_slice(b"CD001");
    bytes[6] = 1;
    bytes[7..30].copy_from_slice(b"EL TORITO SPECIFICATION");
    bytes[0x47..0x4b].copy_from_slice(&catalog.to_le_bytes());
    bytes
}

/// Where GRUB's `cdboot.img` looks for its core, and the end of that.
pub const GRUB_INFO: std::ops::Range<usize> = 2548..2556;
/// Sectors that a BIOS loads of the image: `cdboot.img`, which loads the rest.
pub const BIOS_SECTORS: u16 = 4;

/// Fills in what a BIOS boot image must know of its place: GRUB's pointer to its core (in sectors of 512
/// bytes, behind the four that the BIOS loads) and the boot information table at byte 8.
pub fn fill_in(image: &mut [u8], block: u32, descriptor: u32) {
    let core = u64::from(block) * 4 + 5;
    image[GRUB_INFO].copy_from_slice(&core.to_le_bytes());
    let sum = image[64..].chunks(4).fold(0u32, |sum, word| {
        let mut bytes = [0; 4];
        bytes[..word.len()].copy_from_slice(word);
        sum.wrapping_add(u32::from_le_bytes(bytes))
    });
    let len = image.len() as u32;
    for (slot, value) in image[8..24]
        .chunks_exact_mut(4)
        .zip([descriptor, block, len, sum])
    {
        slot.copy_from_slice(&value.to_le_bytes());
    }
    image[24..64].fill(0);
}

/// Tells GRUB's `boot_hybrid.img` where the boot image is: in sectors of 512 bytes, behind its first four.
pub fn fill_in_hybrid(code: &mut [u8; 440], block: u32) {
    let core = u64::from(block) * 4 + 4;
    code[432..440].copy_from_slice(&core.to_le_bytes());
}
