//! What a reader puts up with.
//!
//! The container and the value area of an ADB file can describe far more than they hold: arrays may be
//! shared, streams may be compressed a thousandfold. So every count and length that a reader acts upon
//! has a bound, and the message of an error names the bound that was passed.

/// Longest file name (one path component), in bytes.
pub const NAME_MAX: usize = 255;
/// Longest path and longest text of a symbolic link, in bytes.
pub const PATH_MAX: usize = 4095;
/// Longest name or version of a package, in bytes.
pub const PACKAGE_NAME_MAX: usize = 255;
/// Longest name or version in a dependency, in bytes.
pub const DEPENDENCY_NAME_MAX: usize = 1024;
/// Longest description, licence, maintainer or other text, in bytes.
pub const TEXT_MAX: usize = 128 << 10;
/// Longest name of a user or group, in bytes.
pub const OWNER_MAX: usize = 255;
/// Longest extended attribute with its name, in bytes (the kernel's `XATTR_SIZE_MAX` and `XATTR_NAME_MAX`).
pub const XATTR_MAX: usize = (64 << 10) + 256;
/// Longest script, in bytes.
pub const SCRIPT_MAX: usize = 1 << 20;
/// Greatest major number of a device, as Linux has it in 12 bits.
pub const DEVICE_MAJOR_MAX: u32 = 0xfff;
/// Greatest minor number of a device, as Linux has it in 20 bits.
pub const DEVICE_MINOR_MAX: u32 = 0xf_ffff;
/// Most slots in an object (arrays have no such bound of their own, they use up [`Limits::entries`]).
pub const SLOTS_MAX: usize = 256;

/// The bounds that a caller may move.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Bytes of a package's metadata (its ADB payload). Value offsets have 28 bits, so that 256 MiB is the
    /// most that the format can use.
    pub package_metadata: u64,
    /// Bytes of an index's ADB payload.
    pub index_metadata: u64,
    /// Array elements walked while a value area is turned into values, counted as often as they are met.
    pub entries: u64,
    /// Bytes of texts and values made while walking, counted as often as they are met.
    pub decoded: u64,
    /// Bytes of one signature block.
    pub signature: u64,
    /// Signature blocks in a file.
    pub signatures: usize,
    /// Bytes of all file contents of a package.
    pub content: u64,
    /// Bytes that any stream may expand to, however small it was.
    pub expansion_floor: u64,
    /// Beyond [`Limits::expansion_floor`]: decompressed bytes per compressed byte.
    pub expansion_ratio: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            package_metadata: 128 << 20,
            index_metadata: 256 << 20,
            entries: 1 << 20,
            decoded: 256 << 20,
            signature: 16 << 10,
            signatures: 1024,
            content: 64 << 30,
            expansion_floor: 64 << 20,
            expansion_ratio: 4096,
        }
    }
}

impl Limits {
    /// Bounds for an index, which has many more dependencies than a package has files.
    pub fn index() -> Self {
        Limits {
            entries: 16 << 20,
            decoded: 1 << 30,
            ..Limits::default()
        }
    }
}
