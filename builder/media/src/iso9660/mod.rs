//! ISO 9660 images that boot: Rock Ridge, Joliet, El Torito, and a GPT for use as a disk.
//!
//! Formats: ECMA-119 (ISO 9660, interchange level 3: a file may have several extents), IEEE P1281 (SUSP) and
//! P1282 (Rock Ridge), the Joliet specification, the El Torito specification 1.0, and for the rest what
//! GRUB's `boot_hybrid.img` and `cdboot.img` expect of their image.
//!
//! [`Image::plan`] lays an image out and [`Layout::write`] streams it: nothing is written twice and contents
//! go from their mappings straight to the output. [`inspect`] reads an image back and trusts nothing in it.
//!
//! An image is laid out like this, in blocks of 2048 bytes:
//!
//! | block | what |
//! |---|---|
//! | 0 | MBR with boot code, GPT header and entries (system area, 16 blocks) |
//! | 16 | volume descriptors: primary, boot record, Joliet, terminator |
//! | | boot catalog, path tables, directories, files |
//! | | EFI system partition |
//! | last | backup of the GPT |
//!
//! Rock Ridge keeps names, owners, modes, links, devices and whole seconds of times. Directories deeper than
//! eight levels are moved to `/rr_moved` as the format asks, which readers undo. Joliet shows
//! files and directories only. Nanoseconds and extended attributes are not stored.

mod check;
mod eltorito;
mod field;
mod hierarchy;
mod inspect;
mod layout;
mod names;
mod rock_ridge;
mod system_use;
mod write;

use std::io;

use lycia_tree::{Content, Timestamp, Tree};
use thiserror::Error;

use crate::partition::Guid;
use crate::partition::gpt::GptError;

pub use eltorito::Platform;
pub use field::VolumeTime;
pub use inspect::{BootEntry, Entry, EntryKind, Extent, InspectError, Limits, Volume, inspect};
pub use layout::{Layout, Placed};

/// Bytes of a block.
pub const BLOCK: u64 = 2048;
/// Longest volume identifier.
pub const VOLUME_ID_MAX: usize = 32;

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// The volume's label: 1 to 32 characters of printable ASCII. The format wants `A` to `Z`, `0` to `9` and
    /// `_`; others are kept, since every reader takes them.
    pub volume_id: &'a str,
    /// System that may use the system area, at most 32 characters.
    pub system_id: &'a str,
    /// Set of volumes, at most 128 characters, like the three that follow.
    pub volume_set_id: &'a str,
    /// Who publishes.
    pub publisher: &'a str,
    /// Who prepared the content.
    pub preparer: &'a str,
    /// What made the image.
    pub application: &'a str,
    /// The date of creation.
    pub time: Timestamp,
    /// The date of modification, which blkid and GRUB show as the volume's UUID. It tells images with
    /// the same label apart.
    pub uuid: VolumeTime,
    /// Whether Windows and others that do not read Rock Ridge get long names too.
    pub joliet: bool,
    /// The files.
    pub files: &'a Tree,
    /// How it boots.
    pub boot: Boot,
}

/// How an image boots.
#[derive(Clone, Debug, Default)]
pub struct Boot {
    /// As a CD under a BIOS.
    pub bios: Option<Bios>,
    /// Under UEFI, as CD and, with `hybrid`, as a disk.
    pub efi: Option<Efi>,
    /// As a disk.
    pub hybrid: Option<Hybrid>,
}

/// Booting from CD under a BIOS, without emulation.
#[derive(Clone, Debug)]
pub struct Bios {
    /// The path in the tree of GRUB's image for El Torito (`grub-mkimage -O i386-pc-eltorito`). In the image it
    /// gets its boot information table, and GRUB's own at byte 2548.
    pub image: Vec<u8>,
}

/// Booting under UEFI.
#[derive(Clone, Debug)]
pub struct Efi {
    /// The EFI system partition, a FAT volume. It is stored behind the files and in no directory.
    pub esp: Content,
}

/// Booting as a disk: a GPT with a partition for the image and one for the EFI system partition.
#[derive(Clone, Debug)]
pub struct Hybrid {
    /// The first 440 bytes of GRUB's `boot_hybrid.img`, for a BIOS; needs [`Boot::bios`]. It gets the place of
    /// the El Torito image.
    pub code: Option<[u8; 440]>,
    /// Disk signature in the MBR.
    pub signature: u32,
    /// GUID of the disk.
    pub disk: Guid,
    /// GUID of the partition with the image.
    pub image_partition: Guid,
    /// GUID of the EFI system partition.
    pub esp_partition: Guid,
}

/// Why an image was not written. Paths are shown as [`lycia_tree::display`] does.
#[derive(Debug, Error)]
pub enum IsoError {
    /// A text of the volume descriptor.
    #[error(
        "laying out an ISO image: the {field} `{text}` is not {least} to {most} characters of printable ASCII"
    )]
    Text {
        /// Which.
        field: &'static str,
        /// The text.
        text: String,
        /// The least length.
        least: usize,
        /// The most.
        most: usize,
    },
    /// An entry that the format cannot hold.
    #[error("laying out an ISO image: {path}: {reason}")]
    Entry {
        /// The entry.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// Boot settings that contradict each other or the tree.
    #[error("laying out an ISO image: {0}")]
    Boot(String),
    /// A date that the format cannot hold.
    #[error("laying out an ISO image: the volume's date {0} s is not in the years 1 to 9999")]
    Date(i64),
    /// More than the format can address.
    #[error("laying out an ISO image: {what} {value} are more than the format's {most}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// How much.
        value: u64,
        /// The most.
        most: u64,
    },
    /// The partition table.
    #[error("laying out an ISO image: {0}")]
    Gpt(#[from] GptError),
    /// The output refused.
    #[error("writing an ISO image: {0}")]
    Write(#[source] io::Error),
}
