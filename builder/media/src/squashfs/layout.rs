//! The numbers of squashfs 4.0 as they lie on disk, after the kernel's `fs/squashfs/squashfs_fs.h`. All
//! are little-endian.

/// `hsqs`.
pub(super) const MAGIC: u32 = 0x7371_7368;
/// Bytes of the superblock.
pub(super) const SUPERBLOCK_LEN: usize = 96;
/// Bytes of a metadata block before compression.
pub(super) const METADATA_LEN: usize = 8192;
/// In a metadata block's header: the block is stored as it is.
pub(super) const METADATA_RAW: u16 = 1 << 15;
/// In the size of a data block or fragment: it is stored as it is.
pub(super) const BLOCK_RAW: u32 = 1 << 24;
/// A table that is not there.
pub(super) const NO_TABLE: u64 = u64::MAX;
/// A file without a fragment.
pub(super) const NO_FRAGMENT: u32 = u32::MAX;
/// An inode without extended attributes.
pub(super) const NO_XATTR: u32 = u32::MAX;
/// Most entries under one header of a directory listing.
pub(super) const HEADER_ENTRIES: usize = 256;
/// A listing's size is stored with the room for `.` and `..` that the kernel counts as 3.
pub(super) const LISTING_BIAS: u64 = 3;
/// The value of an attribute lies elsewhere: the 8 bytes here say where.
pub(super) const XATTR_ELSEWHERE: u16 = 0x100;
/// Largest value of an attribute that Linux has (`XATTR_SIZE_MAX`).
pub(super) const XATTR_VALUE_MAX: usize = 65536;
/// Longest symbolic link that squashfs-tools reads.
pub(super) const SYMLINK_MAX: usize = 65535;

/// Flags of the superblock.
pub(super) mod flags {
    /// No fragments were made.
    pub const NO_FRAGMENTS: u16 = 0x10;
    /// Tails of files longer than a block are in fragments too.
    pub const TAILS_IN_FRAGMENTS: u16 = 0x20;
    /// Equal files share blocks.
    pub const DUPLICATES: u16 = 0x40;
    /// There is a table from inode numbers to inodes.
    pub const EXPORTABLE: u16 = 0x80;
    /// The compressor's options follow the superblock.
    pub const COMPRESSOR_OPTIONS: u16 = 0x400;
}

/// Types of inodes. The basic ones are also the types in directory entries; an extended one is the basic
/// one plus [`EXTENDED`](inode_type::EXTENDED).
pub(super) mod inode_type {
    pub const DIRECTORY: u16 = 1;
    pub const REGULAR: u16 = 2;
    pub const SYMLINK: u16 = 3;
    pub const BLOCK_DEVICE: u16 = 4;
    pub const CHAR_DEVICE: u16 = 5;
    pub const FIFO: u16 = 6;
    pub const SOCKET: u16 = 7;
    pub const EXTENDED: u16 = 7;
}

/// Prefixes of attribute names by their number on disk.
pub(super) const XATTR_PREFIXES: [&[u8]; 3] = [b"user.", b"trusted.", b"security."];

/// The superblock: what the image is and where its tables are. Positions are bytes from its start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Superblock {
    /// Number of inodes.
    pub inodes: u32,
    /// Time of the image, seconds since 1970.
    pub mtime: u32,
    /// Bytes of a data block, a power of two from 4096 to 1048576.
    pub block_size: u32,
    /// Number of fragment blocks.
    pub fragments: u32,
    /// Compressor: 1 gzip, 2 lzma, 3 lzo, 4 xz, 5 lz4, 6 zstd.
    pub compression: u16,
    /// Flags (`SQUASHFS_COMP_OPT` and the others of `squashfs_fs.h`).
    pub flags: u16,
    /// Number of distinct user and group ids.
    pub ids: u16,
    /// The root directory's inode: its metadata block (from the inode table) times 65536, plus the offset in it.
    pub root: u64,
    /// Bytes of the image without padding.
    pub bytes_used: u64,
    /// Index of the id table.
    pub id_table: u64,
    /// Header of the attribute table, or all ones.
    pub xattr_table: u64,
    /// First inode block.
    pub inode_table: u64,
    /// First block of directory listings.
    pub directory_table: u64,
    /// Index of the fragment table.
    pub fragment_table: u64,
    /// Index of the export table, or all ones.
    pub export_table: u64,
}

impl Superblock {
    pub(super) fn encode(&self) -> [u8; SUPERBLOCK_LEN] {
        let mut bytes = Vec::with_capacity(SUPERBLOCK_LEN);
        for value in [MAGIC, self.inodes, self.mtime, self.block_size, self.fragments] {
            put32(&mut bytes, value);
        }
        let log = self.block_size.trailing_zeros() as u16;
        for value in [self.compression, log, self.flags, self.ids, 4, 0] {
            put16(&mut bytes, value);
        }
        for value in [
            self.root,
            self.bytes_used,
            self.id_table,
            self.xattr_table,
            self.inode_table,
            self.directory_table,
            self.fragment_table,
            self.export_table,
        ] {
            put64(&mut bytes, value);
        }
        let mut block = [0; SUPERBLOCK_LEN];
        block.copy_from_slice(&bytes);
        block
    }

    /// The fields, and the parts that only say what kind of file this is: magic, block log, major, minor.
    pub(super) fn decode(bytes: &[u8; SUPERBLOCK_LEN]) -> (Superblock, u32, u16, u16, u16) {
        let superblock = Superblock {
            inodes: get32(bytes, 4),
            mtime: get32(bytes, 8),
            block_size: get32(bytes, 12),
            fragments: get32(bytes, 16),
            compression: get16(bytes, 20),
            flags: get16(bytes, 24),
            ids: get16(bytes, 26),
            root: get64(bytes, 32),
            bytes_used: get64(bytes, 40),
            id_table: get64(bytes, 48),
            xattr_table: get64(bytes, 56),
            inode_table: get64(bytes, 64),
            directory_table: get64(bytes, 72),
            fragment_table: get64(bytes, 80),
            export_table: get64(bytes, 88),
        };
        (
            superblock,
            get32(bytes, 0),
            get16(bytes, 22),
            get16(bytes, 28),
            get16(bytes, 30),
        )
    }
}

pub(super) fn put16(bytes: &mut Vec<u8>, value: u16) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put32(bytes: &mut Vec<u8>, value: u32) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put64(bytes: &mut Vec<u8>, value: u64) {
    bytes.extend_from_slice(&value.to_le_bytes());
}

/// Reads at an offset that the caller knows to be inside.
pub(super) fn get16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// As [`get16`].
pub(super) fn get32(bytes: &[u8], at: usize) -> u32 {
    u32::from(get16(bytes, at)) | u32::from(get16(bytes, at + 2)) << 16
}

/// As [`get16`].
pub(super) fn get64(bytes: &[u8], at: usize) -> u64 {
    u64::from(get32(bytes, at)) | u64::from(get32(bytes, at + 4)) << 32
}

/// Device numbers as the kernel's `new_encode_dev` packs them: 12 bits of major, 20 of minor.
pub(super) fn encode_device(major: u32, minor: u32) -> Option<u32> {
    (major < 1 << 12 && minor < 1 << 20).then_some((minor & 0xff) | major << 8 | (minor & !0xff) << 12)
}

/// The reverse of [`encode_device`].
pub(super) fn decode_device(packed: u32) -> (u32, u32) {
    (packed >> 8 & 0xfff, packed & 0xff | packed >> 12 & 0xf_ff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_numbers_survive() {
        for (major, minor) in [
            (0, 0),
            (1, 3),
            (8, 255),
            (8, 256),
            (259, 65_536),
            (4095, 1_048_575),
        ] {
            assert_eq!(
                decode_device(encode_device(major, minor).unwrap()),
                (major, minor)
            );
        }
        assert_eq!(encode_device(4096, 0), None);
        assert_eq!(encode_device(0, 1 << 20), None);
    }

    #[test]
    fn a_superblock_survives() {
        let superblock = Superblock {
            inodes: 1,
            mtime: 2,
            block_size: 4096,
            fragments: 4,
            compression: 6,
            flags: 5,
            ids: 6,
            root: 7,
            bytes_used: 8,
            id_table: 9,
            xattr_table: 10,
            inode_table: 11,
            directory_table: 12,
            fragment_table: 13,
            export_table: u64::MAX,
        };
        assert_eq!(
            Superblock::decode(&superblock.encode()),
            (superblock, MAGIC, 12, 4, 0)
        );
    }
}
