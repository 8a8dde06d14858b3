//! Opening a volume.

use std::collections::BTreeMap;
use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::header::{BINARY, CHECKSUM, MAGIC, SECOND_MAGIC};
use crate::split::merge;
use crate::{Cipher, Kdf, Key, LuksError};

/// Where copies of the header may be (specification, "LUKS2 secondary header offsets").
const PLACES: [u64; 9] = [
    0x4000, 0x8000, 0x10000, 0x20000, 0x40000, 0x80000, 0x10_0000, 0x20_0000, 0x40_0000,
];
const HEADER_MAX: u64 = 4 << 20;
/// Largest key slot: 64 bytes of key in 4000 stripes take a quarter of a MiB.
const SLOT_MAX: u64 = 4 << 20;

/// A volume that was opened.
#[derive(Clone)]
pub struct Opened {
    /// UUID.
    pub uuid: String,
    /// The key.
    pub key: Key,
    /// Where the data begin, in bytes from the beginning of the partition.
    pub offset: u64,
    /// Bytes of data; to the end of the partition if none.
    pub size: Option<u64>,
    /// Bytes of a sector of the volume.
    pub sector_size: u32,
    /// The cipher as dm-crypt calls it.
    pub encryption: String,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            formatter,
            "Opened {{ {}, {}, key not shown }}",
            self.uuid, self.encryption
        )
    }
}

impl Opened {
    /// What encrypts and decrypts its data.
    ///
    /// # Errors
    /// When it is of a kind that is not known here; the kernel may know it.
    pub fn cipher(&self) -> Result<Cipher, LuksError> {
        if self.encryption != crate::CIPHER {
            return Err(LuksError::Header(format!("the cipher {}", self.encryption)));
        }
        Cipher::new(&self.key, self.sector_size)
    }
}

#[derive(Deserialize)]
struct Description {
    keyslots: BTreeMap<String, Slot>,
    segments: BTreeMap<String, Segment>,
    digests: BTreeMap<String, DigestOf>,
}

#[derive(Deserialize)]
struct Slot {
    #[serde(rename = "type")]
    kind: String,
    key_size: u32,
    #[serde(default)]
    af: Option<Af>,
    #[serde(default)]
    area: Option<Area>,
    #[serde(default)]
    kdf: Option<KdfText>,
    /// 0 is never used, 1 is usual, 2 comes first.
    #[serde(default)]
    priority: Option<u8>,
}

#[derive(Deserialize)]
struct Af {
    stripes: u32,
    hash: String,
}

#[derive(Deserialize)]
struct Area {
    offset: String,
    size: String,
    encryption: String,
    key_size: u32,
}

#[derive(Deserialize)]
struct KdfText {
    #[serde(rename = "type")]
    kind: String,
    salt: String,
    #[serde(default)]
    time: u32,
    #[serde(default)]
    memory: u32,
    #[serde(default)]
    cpus: u32,
    #[serde(default)]
    iterations: u32,
    #[serde(default)]
    hash: String,
}

#[derive(Deserialize)]
struct Segment {
    #[serde(rename = "type")]
    kind: String,
    offset: String,
    size: String,
    #[serde(default)]
    iv_tweak: String,
    #[serde(default)]
    encryption: String,
    #[serde(default)]
    sector_size: u32,
}

#[derive(Deserialize)]
struct DigestOf {
    #[serde(rename = "type")]
    kind: String,
    keyslots: Vec<String>,
    segments: Vec<String>,
    hash: String,
    iterations: u32,
    salt: String,
    digest: String,
}

fn header(what: impl Into<String>) -> LuksError {
    LuksError::Header(what.into())
}

fn number(text: &str) -> Result<u64, LuksError> {
    text.parse().map_err(|_| header(format!("`{text}` is no number")))
}

fn bytes(text: &str) -> Result<Vec<u8>, LuksError> {
    STANDARD
        .decode(text)
        .map_err(|_| header("a value that is not Base64"))
}

type Read<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>;

/// The header at a place: sequence number, UUID, JSON text.
fn copy(read: Read<'_>, at: u64, magic: &[u8]) -> Result<Option<(u64, String, Vec<u8>)>, LuksError> {
    let mut first = vec![0; BINARY];
    if read(at, &mut first).is_err() {
        return Ok(None);
    }
    let word = |place: usize| {
        first
            .get(place..place + 8)?
            .try_into()
            .ok()
            .map(u64::from_be_bytes)
    };
    let (Some(size), Some(sequence), Some(own)) = (word(8), word(16), word(256)) else {
        return Ok(None);
    };
    if &first[..6] != magic || first[6..8] != [0, 2] || own != at {
        return Ok(None);
    }
    let known = size == 0x4000 || PLACES.contains(&size);
    if !known || size > HEADER_MAX || !first[72..104].starts_with(b"sha256\0") {
        return Ok(None);
    }
    let mut whole = vec![0; size as usize];
    read(at, &mut whole)?;
    let sum = whole[CHECKSUM..CHECKSUM + 64].to_vec();
    whole[CHECKSUM..CHECKSUM + 64].fill(0);
    if Sha256::digest(&whole)[..] != sum[..32] {
        return Ok(None);
    }
    let until = |bytes: &[u8]| bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let uuid = String::from_utf8_lossy(&whole[168..168 + until(&whole[168..208])]).into_owned();
    let text = &whole[BINARY..];
    Ok(Some((sequence, uuid, text[..until(text)].to_vec())))
}

/// Number, UUID and description of the header that counts.
fn newest(read: Read<'_>) -> Result<Option<(u64, String, Vec<u8>)>, LuksError> {
    let mut found = copy(read, 0, MAGIC)?;
    // The second copy counts where the first is damaged, or is older.
    for place in PLACES {
        if let Some(second) = copy(read, place, SECOND_MAGIC)? {
            if found.as_ref().is_none_or(|first| first.0 < second.0) {
                found = Some(second);
            }
            break;
        }
    }
    Ok(found)
}

/// UUID of the volume of which `read` reads bytes at an offset; none where no header is whole. It needs no passphrase.
///
/// # Errors
/// When bytes cannot be read.
pub fn uuid(read: Read<'_>) -> Result<Option<String>, LuksError> {
    Ok(newest(read)?.map(|(_, uuid, _)| uuid))
}

/// Opens the volume of which `read` reads bytes at an offset, with a passphrase.
///
/// # Errors
/// When there is no header that can be used, or no key slot opens.
pub fn open(read: Read<'_>, passphrase: &[u8]) -> Result<Opened, LuksError> {
    let (_, uuid, text) = newest(read)?.ok_or(LuksError::NoHeader)?;
    let description: Description =
        serde_json::from_slice(&text).map_err(|error| header(format!("its description: {error}")))?;
    let Some((segment_name, segment)) = description.segments.iter().find(|(_, one)| one.kind == "crypt")
    else {
        return Err(header("it has no encrypted segment"));
    };
    if description.segments.len() != 1 || !matches!(segment.iv_tweak.as_str(), "" | "0") {
        return Err(header("it is being encrypted anew, or has several segments"));
    }
    let mut slots: Vec<(&String, &Slot)> = description.keyslots.iter().collect();
    slots.retain(|(_, slot)| slot.kind == "luks2" && slot.priority != Some(0));
    slots.sort_by_key(|(name, slot)| {
        (
            std::cmp::Reverse(slot.priority.unwrap_or(1)),
            name.parse().unwrap_or(u32::MAX),
        )
    });
    let mut refused = None;
    for (name, slot) in slots {
        let digest = description.digests.values().find(|digest| {
            digest.kind == "pbkdf2"
                && digest.keyslots.contains(name)
                && digest.segments.contains(segment_name)
        });
        let Some(digest) = digest else { continue };
        match try_slot(read, slot, digest, passphrase) {
            Ok(Some(key)) => {
                return Ok(Opened {
                    uuid,
                    key,
                    offset: number(&segment.offset)?,
                    size: match segment.size.as_str() {
                        "dynamic" => None,
                        size => Some(number(size)?),
                    },
                    sector_size: segment.sector_size,
                    encryption: segment.encryption.clone(),
                });
            }
            Ok(None) => {}
            // Another slot may be of a kind that is known.
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or(LuksError::Passphrase))
}

fn try_slot(
    read: Read<'_>,
    slot: &Slot,
    digest: &DigestOf,
    passphrase: &[u8],
) -> Result<Option<Key>, LuksError> {
    let (Some(af), Some(area), Some(kdf)) = (&slot.af, &slot.area, &slot.kdf) else {
        return Err(header("a key slot is not whole"));
    };
    if af.hash != "sha256" || digest.hash != "sha256" || area.encryption != crate::CIPHER {
        return Err(header(format!(
            "a key slot with {}, {} and {}",
            af.hash, digest.hash, area.encryption
        )));
    }
    let material = u64::from(slot.key_size) * u64::from(af.stripes);
    if !matches!(slot.key_size, 16..=128)
        || material == 0
        || material > SLOT_MAX
        || material > number(&area.size)?
    {
        return Err(header("a key slot of a size that is none"));
    }
    let kdf_of = match kdf.kind.as_str() {
        "argon2id" => Kdf::Argon2id {
            time: kdf.time,
            memory: kdf.memory,
            lanes: kdf.cpus,
        },
        "argon2i" => Kdf::Argon2i {
            time: kdf.time,
            memory: kdf.memory,
            lanes: kdf.cpus,
        },
        "pbkdf2" if kdf.hash == "sha256" => Kdf::Pbkdf2 {
            iterations: kdf.iterations,
        },
        other => return Err(header(format!("a key slot with {other} {}", kdf.hash))),
    };
    if !matches!(area.key_size, 32 | 64) {
        return Err(header("a key slot that is encrypted with a key of another size"));
    }
    let slot_key = kdf_of.derive(passphrase, &bytes(&kdf.salt)?, area.key_size as usize)?;
    let mut stripes = Zeroizing::new(vec![0; material.next_multiple_of(512) as usize]);
    read(number(&area.offset)?, &mut stripes)?;
    Cipher::new(&slot_key, 512)?.decrypt(0, &mut stripes);
    let key = merge(&stripes[..material as usize], slot.key_size as usize);
    let expected = bytes(&digest.digest)?;
    if !(16..=64).contains(&expected.len()) {
        return Err(header("a digest of a length that is none"));
    }
    let found = Kdf::Pbkdf2 {
        iterations: digest.iterations,
    }
    .derive(&key, &bytes(&digest.salt)?, expected.len())?;
    // Both are public or derived from a key that nobody can try out bit by bit here.
    Ok((*found == expected).then_some(key))
}
