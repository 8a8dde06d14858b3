//! Globally unique identifiers.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};
use thiserror::Error;

/// A GUID, kept in the order in which its text shows the bytes. On disk the first three groups are
/// little-endian (UEFI specification 2.10, appendix A).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Guid([u8; 16]);

impl Guid {
    /// All zeros: an unused partition entry.
    pub const NIL: Guid = Guid([0; 16]);
    /// Partition type: EFI system partition.
    pub const EFI_SYSTEM: Guid = Guid::from_text("c12a7328-f81f-11d2-ba4b-00a0c93ec93b");
    /// Partition type: BIOS boot partition, where GRUB keeps its core image.
    pub const BIOS_BOOT: Guid = Guid::from_text("21686148-6449-6e6f-744e-656564454649");
    /// Partition type: Microsoft basic data, which stands for any file system, also that of an ISO image.
    pub const BASIC_DATA: Guid = Guid::from_text("ebd0a0a2-b9e5-4433-87c0-68b6b72699c7");
    /// Partition type: Linux file system data.
    pub const LINUX_DATA: Guid = Guid::from_text("0fc63daf-8483-4772-8e79-3d69d8477de4");
    /// Partition type: Linux swap.
    pub const LINUX_SWAP: Guid = Guid::from_text("0657fd6d-a4ab-43c4-84e5-0933c84b4f4f");
    /// Partition type: Linux LVM.
    pub const LINUX_LVM: Guid = Guid::from_text("e6d6d379-f507-44c2-a23c-238f2a3df928");
    /// Partition type: Linux LUKS.
    pub const LINUX_LUKS: Guid = Guid::from_text("ca7d7ccb-63ed-4c53-861c-1742536059cc");
    /// Partition type: extended boot loader partition, a `/boot` of its own.
    pub const LINUX_EXTENDED_BOOT: Guid = Guid::from_text("bc13c2ff-59e6-4262-a352-b275fd6f7172");
    /// Partition type: Linux root on x86-64 (Discoverable Partitions Specification).
    pub const LINUX_ROOT_X86_64: Guid = Guid::from_text("4f68bce3-e8cd-4db1-96e7-fbcaf984b709");
    /// Partition type: Linux root on AArch64.
    pub const LINUX_ROOT_AARCH64: Guid = Guid::from_text("b921b045-1df0-41c3-af44-4c6f280d3fae");
    /// Partition type: Linux root on 64-bit RISC-V.
    pub const LINUX_ROOT_RISCV64: Guid = Guid::from_text("72ec70a6-cf74-40e6-bd49-4bda08e8f224");
    /// Partition type: PowerPC PReP boot.
    pub const PREP_BOOT: Guid = Guid::from_text("9e1a2d38-c612-4316-aa26-8b49521e5a8b");

    /// The identifier whose text shows `bytes` in their order.
    pub const fn from_bytes(bytes: [u8; 16]) -> Guid {
        Guid(bytes)
    }

    /// The bytes in the order of the text.
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }

    /// The identifier that has these bytes on disk.
    pub const fn from_disk(bytes: [u8; 16]) -> Guid {
        Guid(swap(bytes))
    }

    /// The bytes as they are on disk.
    pub const fn to_disk(self) -> [u8; 16] {
        swap(self.0)
    }

    /// An identifier that depends on nothing but `seed` and `purpose`: the first bytes of a SHA-256 with
    /// version 8 and the variant of RFC 9562 set.
    pub fn derive(seed: &[u8], purpose: &str) -> Guid {
        let mut hash = Sha256::new();
        hash.update((seed.len() as u64).to_le_bytes());
        hash.update(seed);
        hash.update(purpose.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hash.finalize()[..16]);
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Guid(bytes)
    }

    const fn from_text(text: &str) -> Guid {
        match parse(text.as_bytes()) {
            Some(guid) => guid,
            None => panic!("a constant GUID that does not parse"),
        }
    }
}

const fn swap(b: [u8; 16]) -> [u8; 16] {
    [
        b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15],
    ]
}

const fn parse(text: &[u8]) -> Option<Guid> {
    if text.len() != 36 {
        return None;
    }
    let mut bytes = [0; 16];
    let mut filled = 0;
    let mut at = 0;
    while at < 36 {
        if matches!(at, 8 | 13 | 18 | 23) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
            continue;
        }
        let (Some(high), Some(low)) = (
            (text[at] as char).to_digit(16),
            (text[at + 1] as char).to_digit(16),
        ) else {
            return None;
        };
        bytes[filled] = (high << 4 | low) as u8;
        filled += 1;
        at += 2;
    }
    Some(Guid(bytes))
}

/// A text that is no GUID.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{0}` is no GUID: it should look like c12a7328-f81f-11d2-ba4b-00a0c93ec93b")]
pub struct ParseGuidError(String);

impl FromStr for Guid {
    type Err = ParseGuidError;

    fn from_str(text: &str) -> Result<Guid, ParseGuidError> {
        parse(text.as_bytes()).ok_or_else(|| ParseGuidError(text.to_owned()))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_disk_orders() {
        let text = "00112233-4455-6677-8899-aabbccddeeff";
        let guid: Guid = text.parse().unwrap();
        assert_eq!(guid.to_string(), text);
        assert_eq!(
            guid.to_disk()[..10],
            [0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99]
        );
        assert_eq!(Guid::from_disk(guid.to_disk()), guid);
        assert_eq!(text.to_uppercase().parse::<Guid>().unwrap(), guid);
        // The BIOS boot type spells a joke on disk.
        assert_eq!(&Guid::BIOS_BOOT.to_disk(), b"Hah!IdontNeedEFI");
    }

    #[test]
    fn other_texts_are_refused() {
        for text in [
            "",
            "00112233-4455-6677-8899-aabbccddeef",
            "00112233-4455-6677-8899-aabbccddeeffa",
            "0011223344-55-6677-8899-aabbccddeeff",
            "g0112233-4455-6677-8899-aabbccddeeff",
        ] {
            assert!(text.parse::<Guid>().is_err(), "{text}");
        }
    }

    #[test]
    fn derived_ones_differ_by_seed_and_purpose() {
        let a = Guid::derive(b"image 1", "disk");
        assert_eq!(a, Guid::derive(b"image 1", "disk"));
        assert_ne!(a, Guid::derive(b"image 2", "disk"));
        assert_ne!(a, Guid::derive(b"image 1", "esp"));
        assert_ne!(a, Guid::derive(b"image 1d", "isk"));
        assert_eq!(&a.to_string()[14..15], "8");
    }
}
