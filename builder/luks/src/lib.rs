//! LUKS2 volumes: headers are made and opened here, and what goes into a volume is encrypted, without the kernel's device mapper.
//!
//! Format: "LUKS2 On-Disk Format Specification" 1.1 by Milan Brož: two copies of a binary header of 4096 bytes with a JSON area, then key slots, then data. One
//! kind is made: `aes-xts-plain64` with a key of 512 bits, a key slot of 4000 stripes, Argon2id or PBKDF2-SHA256. What other programs made is opened where it
//! is of these kinds.
//!
//! Numbers of a header come from whoever wrote to the disk: each is bounded before it is used, and memory for Argon2 is asked for in a way that can fail.

mod cipher;
mod header;
mod kdf;
mod open;
mod split;

use std::io;

use thiserror::Error;
use zeroize::Zeroizing;

pub use cipher::Cipher;
pub use header::{DATA_OFFSET, SLOT_AT, Settings, make};
pub use kdf::Kdf;
pub use open::{Opened, open, uuid};

/// Bytes of a volume key: two AES-256 keys, as XTS takes.
pub const KEY_SIZE: usize = 64;
/// The cipher of volumes that are made here, as dm-crypt calls it.
pub const CIPHER: &str = "aes-xts-plain64";

/// A key. It is wiped when it goes, and not shown.
pub type Key = Zeroizing<Vec<u8>>;

/// Why a volume was not made or opened. Never holds a passphrase or a key.
#[derive(Debug, Error)]
pub enum LuksError {
    /// The disk refuses.
    #[error("reading the LUKS header: {0}")]
    Io(#[from] io::Error),
    /// There is no header.
    #[error("there is no LUKS2 header here whose checksum is right")]
    NoHeader,
    /// The header says something that is not taken.
    #[error("the LUKS2 header cannot be used: {0}")]
    Header(String),
    /// No key slot opens.
    #[error("no key slot opens with this passphrase")]
    Passphrase,
    /// Argon2 needs more memory than there is.
    #[error("the key slot needs {needed} KiB of memory to be opened, and there is not so much")]
    Memory {
        /// KiB.
        needed: u32,
    },
    /// There are no random numbers.
    #[error("drawing random numbers: {0}")]
    Random(io::Error),
}
