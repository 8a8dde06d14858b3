//! `aes-xts-plain64`: AES in XTS (IEEE 1619) with the number of the sector, little-endian, as tweak.

use aes::cipher::KeyInit as _;
use aes::{Aes128, Aes256};
use xts_mode::{Xts128, get_tweak_default};

use crate::LuksError;

/// Bytes in which sectors are counted, whatever their size.
const UNIT: u64 = 512;

enum Mode {
    Aes128(Box<Xts128<Aes128>>),
    Aes256(Box<Xts128<Aes256>>),
}

/// Encrypts and decrypts whole sectors in place.
pub struct Cipher {
    mode: Mode,
    sector: usize,
}

impl std::fmt::Debug for Cipher {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Cipher {{ sectors of {} bytes, key not shown }}",
            self.sector
        )
    }
}

impl Cipher {
    /// With a key of 64 bytes (AES-256) or 32 (AES-128) and sectors of 512, 1024, 2048 or 4096 bytes.
    ///
    /// # Errors
    /// When the key or the sector has another size.
    pub fn new(key: &[u8], sector: u32) -> Result<Cipher, LuksError> {
        let half = key.len() / 2;
        let wrong = || LuksError::Header(format!("a key of {} bytes for sectors of {sector}", key.len()));
        if !matches!(sector, 512 | 1024 | 2048 | 4096) {
            return Err(wrong());
        }
        let mode = match key.len() {
            64 => {
                let part = |bytes: &[u8]| Aes256::new_from_slice(bytes).map_err(|_| wrong());
                Mode::Aes256(Box::new(Xts128::new(part(&key[..half])?, part(&key[half..])?)))
            }
            32 => {
                let part = |bytes: &[u8]| Aes128::new_from_slice(bytes).map_err(|_| wrong());
                Mode::Aes128(Box::new(Xts128::new(part(&key[..half])?, part(&key[half..])?)))
            }
            _ => return Err(wrong()),
        };
        Ok(Cipher {
            mode,
            sector: sector as usize,
        })
    }

    /// Bytes of a sector.
    #[must_use]
    pub fn sector(&self) -> u32 {
        self.sector as u32
    }

    fn each(&self, offset: u64, bytes: &mut [u8], encrypt: bool) {
        debug_assert!(offset.is_multiple_of(self.sector as u64) && bytes.len().is_multiple_of(self.sector));
        for (number, sector) in bytes.chunks_exact_mut(self.sector).enumerate() {
            let at = (offset + (number * self.sector) as u64) / UNIT;
            let tweak = get_tweak_default(at.into());
            match (&self.mode, encrypt) {
                (Mode::Aes128(mode), true) => mode.encrypt_sector(sector, tweak),
                (Mode::Aes128(mode), false) => mode.decrypt_sector(sector, tweak),
                (Mode::Aes256(mode), true) => mode.encrypt_sector(sector, tweak),
                (Mode::Aes256(mode), false) => mode.decrypt_sector(sector, tweak),
            }
        }
    }

    /// Encrypts whole sectors; `offset` is where the first byte is in the volume.
    pub fn encrypt(&self, offset: u64, bytes: &mut [u8]) {
        self.each(offset, bytes, true);
    }

    /// Decrypts whole sectors.
    pub fn decrypt(&self, offset: u64, bytes: &mut [u8]) {
        self.each(offset, bytes, false);
    }
}
