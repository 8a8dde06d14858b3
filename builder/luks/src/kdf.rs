//! From passphrases to keys (RFC 9106, RFC 8018).

use argon2::{Algorithm, Argon2, Block, Params, Version};
use zeroize::Zeroizing;

use crate::{Key, LuksError};

/// Most memory that opening may take, in KiB: 4 GiB, the most that cryptsetup makes.
const MEMORY_MAX: u32 = 4 << 20;
/// Most passes over the memory.
const TIME_MAX: u32 = 1 << 16;
/// Most lanes: cryptsetup makes four.
const LANES_MAX: u32 = 64;
/// Most iterations.
pub(crate) const ITERATIONS_MAX: u32 = 1 << 30;

/// How a passphrase becomes a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kdf {
    /// Argon2id.
    Argon2id {
        /// Passes over the memory.
        time: u32,
        /// KiB of memory.
        memory: u32,
        /// Lanes.
        lanes: u32,
    },
    /// Argon2i, which older programs made.
    Argon2i {
        /// Passes over the memory.
        time: u32,
        /// KiB of memory.
        memory: u32,
        /// Lanes.
        lanes: u32,
    },
    /// PBKDF2 with HMAC-SHA-256.
    Pbkdf2 {
        /// Iterations.
        iterations: u32,
    },
}

impl Kdf {
    /// Argon2id for a machine with so many bytes of memory: an eighth of it, 32 MiB at least and 256 MiB at most, so that the initramfs of the smallest machine that runs
    /// the installer opens it; four passes and as many lanes as cryptsetup takes.
    #[must_use]
    pub fn for_memory(bytes: u64) -> Kdf {
        let memory = (bytes / 8 / 1024).clamp(32 << 10, 256 << 10) as u32;
        Kdf::Argon2id {
            time: 4,
            memory,
            lanes: 4,
        }
    }

    /// Derives a key of `len` bytes.
    pub(crate) fn derive(&self, passphrase: &[u8], salt: &[u8], len: usize) -> Result<Key, LuksError> {
        let mut out = Zeroizing::new(vec![0; len]);
        let (algorithm, time, memory, lanes) = match *self {
            Kdf::Argon2id { time, memory, lanes } => (Algorithm::Argon2id, time, memory, lanes),
            Kdf::Argon2i { time, memory, lanes } => (Algorithm::Argon2i, time, memory, lanes),
            Kdf::Pbkdf2 { iterations } => {
                if !(1..=ITERATIONS_MAX).contains(&iterations) {
                    return Err(LuksError::Header(format!("{iterations} iterations of PBKDF2")));
                }
                pbkdf2::pbkdf2_hmac::<sha2::Sha256>(passphrase, salt, iterations, &mut out);
                return Ok(out);
            }
        };
        if memory > MEMORY_MAX || time > TIME_MAX || lanes > LANES_MAX {
            return Err(LuksError::Header(format!(
                "Argon2 with {memory} KiB, {time} passes and {lanes} lanes"
            )));
        }
        let wrong = |error: argon2::Error| LuksError::Header(format!("Argon2: {error}"));
        let params = Params::new(memory, time, lanes, Some(len)).map_err(wrong)?;
        let count = params.block_count();
        let mut blocks: Vec<Block> = Vec::new();
        blocks
            .try_reserve_exact(count)
            .map_err(|_| LuksError::Memory { needed: memory })?;
        blocks.resize(count, Block::default());
        Argon2::new(algorithm, Version::V0x13, params)
            .hash_password_into_with_memory(passphrase, salt, &mut out, &mut blocks)
            .map_err(wrong)?;
        Ok(out)
    }
}
