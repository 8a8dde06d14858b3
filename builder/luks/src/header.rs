//! Making a header.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use std::io;
use zeroize::Zeroizing;

use crate::split::split;
use crate::{Cipher, KEY_SIZE, Kdf, LuksError};

/// Bytes of the binary header.
pub(crate) const BINARY: usize = 4096;
/// Bytes of the binary header and its JSON area.
pub(crate) const HEADER: usize = 16384;
pub(crate) const MAGIC: &[u8; 6] = b"LUKS\xba\xbe";
pub(crate) const SECOND_MAGIC: &[u8; 6] = b"SKUL\xba\xbe";
pub(crate) const CHECKSUM: usize = 448;
/// Where the data begins: what cryptsetup makes, with room for more key slots.
pub const DATA_OFFSET: u64 = 16 << 20;
const STRIPES: usize = 4000;
/// Where the key slots begin, behind both copies of the header: what a volume is opened by, if everything before it is there. Whoever writes a header
/// writes them first.
pub const SLOT_AT: usize = 2 * HEADER;
/// Iterations of the digest by which a key is known to be right. The key is random: nothing is guessed, so this need not be slow.
const DIGEST_ITERATIONS: u32 = 100_000;

/// What a volume is made with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    /// UUID in its usual spelling.
    pub uuid: String,
    /// Label, at most 47 bytes; empty for none.
    pub label: String,
    /// How the passphrase becomes a key.
    pub kdf: Kdf,
    /// Bytes of a sector of the volume: 512 or 4096.
    pub sector_size: u32,
}

/// Makes the header of a volume with the key `key`, opened by `passphrase`: bytes for the beginning of the partition. The volume's data begin at [`DATA_OFFSET`];
/// nothing between is read by anybody. `random` fills with random bytes.
///
/// # Errors
/// When a setting is none of LUKS2, or there are no random numbers.
pub fn make(
    settings: &Settings,
    key: &[u8],
    passphrase: &[u8],
    random: &mut dyn FnMut(&mut [u8]) -> io::Result<()>,
) -> Result<Zeroizing<Vec<u8>>, LuksError> {
    if key.len() != KEY_SIZE || settings.uuid.len() >= 40 || settings.label.len() >= 48 {
        return Err(LuksError::Header(
            "a key, UUID or label of a length that is none".to_owned(),
        ));
    }
    let mut salts = [[0; 32]; 2];
    let mut header_salts = [[0; 64]; 2];
    for salt in &mut salts {
        random(salt).map_err(LuksError::Random)?;
    }
    for salt in &mut header_salts {
        random(salt).map_err(LuksError::Random)?;
    }
    let [slot_salt, digest_salt] = salts;
    let mut stripes = Zeroizing::new(vec![0; KEY_SIZE * STRIPES]);
    random(&mut stripes).map_err(LuksError::Random)?;
    split(key, &mut stripes);
    let slot_key = settings.kdf.derive(passphrase, &slot_salt, KEY_SIZE)?;
    Cipher::new(&slot_key, 512)?.encrypt(0, &mut stripes);
    let slot_size = stripes.len().next_multiple_of(4096);
    let digest = Kdf::Pbkdf2 {
        iterations: DIGEST_ITERATIONS,
    }
    .derive(key, &digest_salt, 32)?;
    let salt = STANDARD.encode(slot_salt);
    let kdf = match settings.kdf {
        Kdf::Argon2id { time, memory, lanes } => {
            json!({"type": "argon2id", "time": time, "memory": memory, "cpus": lanes, "salt": salt})
        }
        Kdf::Argon2i { time, memory, lanes } => {
            json!({"type": "argon2i", "time": time, "memory": memory, "cpus": lanes, "salt": salt})
        }
        Kdf::Pbkdf2 { iterations } => {
            json!({"type": "pbkdf2", "hash": "sha256", "iterations": iterations, "salt": salt})
        }
    };
    let text = json!({
        "keyslots": {"0": {
            "type": "luks2",
            "key_size": KEY_SIZE,
            "af": {"type": "luks1", "stripes": STRIPES, "hash": "sha256"},
            "area": {
                "type": "raw",
                "offset": SLOT_AT.to_string(),
                "size": slot_size.to_string(),
                "encryption": crate::CIPHER,
                "key_size": KEY_SIZE,
            },
            "kdf": kdf,
        }},
        "tokens": {},
        "segments": {"0": {
            "type": "crypt",
            "offset": DATA_OFFSET.to_string(),
            "size": "dynamic",
            "iv_tweak": "0",
            "encryption": crate::CIPHER,
            "sector_size": settings.sector_size,
        }},
        "digests": {"0": {
            "type": "pbkdf2",
            "keyslots": ["0"],
            "segments": ["0"],
            "hash": "sha256",
            "iterations": DIGEST_ITERATIONS,
            "salt": STANDARD.encode(digest_salt),
            "digest": STANDARD.encode(&*digest),
        }},
        "config": {
            "json_size": (HEADER - BINARY).to_string(),
            "keyslots_size": (DATA_OFFSET as usize - SLOT_AT).to_string(),
        },
    })
    .to_string();
    // A zero ends the text.
    if text.len() >= HEADER - BINARY {
        return Err(LuksError::Header("the description does not fit".to_owned()));
    }
    let mut out = Zeroizing::new(vec![0; SLOT_AT + slot_size]);
    for (copy, magic, header_salt) in [(0, MAGIC, header_salts[0]), (1, SECOND_MAGIC, header_salts[1])] {
        let at = copy * HEADER;
        let header = &mut out[at..at + HEADER];
        header[..6].copy_from_slice(magic);
        header[6..8].copy_from_slice(&2u16.to_be_bytes());
        header[8..16].copy_from_slice(&(HEADER as u64).to_be_bytes());
        header[16..24].copy_from_slice(&1u64.to_be_bytes());
        header[24..24 + settings.label.len()].copy_from_slice(settings.label.as_bytes());
        header[72..78].copy_from_slice(b"sha256");
        header[104..168].copy_from_slice(&header_salt);
        header[168..168 + settings.uuid.len()].copy_from_slice(settings.uuid.as_bytes());
        header[256..264].copy_from_slice(&(at as u64).to_be_bytes());
        header[BINARY..BINARY + text.len()].copy_from_slice(text.as_bytes());
        let sum = Sha256::digest(&*header);
        header[CHECKSUM..CHECKSUM + sum.len()].copy_from_slice(&sum);
    }
    out[SLOT_AT..SLOT_AT + stripes.len()].copy_from_slice(&stripes);
    Ok(out)
}
