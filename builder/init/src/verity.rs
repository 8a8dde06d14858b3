//! dm-verity of the live image: every block is compared with a hash tree when it is read, and the tree with the root
//! hash of the command line.
//!
//! Beside the image `FILE` lies `FILE.verity`: the superblock of `veritysetup` (cryptsetup's `lib/verity/verity.c`) and the
//! tree behind it. What is protected is what was written when the medium was made, against damage; against a
//! person with the medium in hand only if the command line itself is protected (a boot loader that checks
//! signatures). Kernel and initramfs are in memory before this program runs, so it cannot vouch for them.

use crate::Failure;
use crate::assemble::{Progress, read_error};
use crate::device_mapper::{DeviceMapper, Mapping, Target};
use crate::kmod::Loader;
use crate::log::Log;
use crate::loopdev;
use crate::request::Step;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Name of the mapped device.
pub const NAME: &str = "lycia-live";
/// Its node.
pub const NODE: &str = "/dev/mapper/lycia-live";
/// Bytes of a block of data and of hashes; the only size that the builder writes.
const BLOCK: u64 = 4096;
/// Bytes of the superblock.
const SUPERBLOCK: usize = 512;
const CHUNK: usize = 1 << 20;
/// Damaged blocks that are counted before reading stops.
const DAMAGED_MAX: usize = 64;

/// What happens when a block is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnCorruption {
    /// Reading it fails.
    #[default]
    Fail,
    /// Only the kernel log says so.
    Ignore,
    /// The machine restarts.
    Restart,
    /// The kernel panics.
    Panic,
}

impl OnCorruption {
    /// As live-boot spells it; None is what is not known.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "ignore" => Some(Self::Ignore),
            "restart" => Some(Self::Restart),
            "panic" => Some(Self::Panic),
            _ => None,
        }
    }

    /// What stands at the end of the table.
    const fn words(self) -> &'static str {
        match self {
            Self::Fail => "",
            Self::Ignore => " 1 ignore_corruption",
            Self::Restart => " 1 restart_on_corruption",
            Self::Panic => " 1 panic_on_corruption",
        }
    }
}

/// What the command line says of the image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verity {
    /// SHA-256 of the top of the tree, in lower-case hexadecimal.
    pub root_hash: String,
    /// What damage leads to.
    pub on_corruption: OnCorruption,
}

/// The root hash in `[FILE:]HASH`.
///
/// # Errors
/// Says what is wrong; a root hash that cannot be used must not be passed over.
pub fn root_hash(value: &str, image: &str) -> Result<String, String> {
    let (file, hash) = value
        .rsplit_once(':')
        .map_or((None, value), |(file, hash)| (Some(file), hash));
    if let Some(file) = file
        && file != image
    {
        return Err(format!(
            "dm-verity-root-hash is for `{file}`, but the image is {image}"
        ));
    }
    if hash.len() != 64 || !hash.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!(
            "dm-verity-root-hash={value}: write the 64 hexadecimal digits of a SHA-256"
        ));
    }
    Ok(hash.to_ascii_lowercase())
}

/// Where the hash tree of an image is.
#[must_use]
pub fn hashes_of(image: &str) -> String {
    format!("{image}.verity")
}

/// Bytes that the hash tree of so many bytes takes, at most.
#[must_use]
pub fn hashes_len(image: u64) -> u64 {
    // 32 bytes for 4096, 1/127 more for the levels above, a block of padding for each of at most eight levels and the superblock.
    (image / 127).saturating_add(16 * BLOCK)
}

/// The superblock of a hash tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Blocks of data.
    pub blocks: u64,
    /// Salt in hexadecimal.
    pub salt: String,
}

impl Superblock {
    /// Reads a superblock.
    ///
    /// # Errors
    /// When it is none, or of a form that is not written here.
    pub fn parse(bytes: &[u8; SUPERBLOCK]) -> Result<Self, String> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        if bytes[..8] != *b"verity\0\0" {
            return Err("it is no hash tree of dm-verity".into());
        }
        if number(8) != 1 || number(12) != 1 || bytes[32..39] != *b"sha256\0" {
            return Err("it is not of version 1 with SHA-256".into());
        }
        if u64::from(number(64)) != BLOCK || u64::from(number(68)) != BLOCK {
            return Err(format!("its blocks do not have {BLOCK} bytes"));
        }
        let blocks = u64::from(number(72)) | u64::from(number(76)) << 32;
        if blocks == 0 || blocks > u64::MAX / BLOCK {
            return Err(format!("it is for {blocks} blocks"));
        }
        let salt = usize::from(u16::from_le_bytes([bytes[80], bytes[81]]));
        let salt = bytes
            .get(88..88 + salt)
            .filter(|salt| salt.len() <= 256)
            .ok_or("its salt is too long")?;
        Ok(Self {
            blocks,
            salt: crate::digest::hex(salt),
        })
    }

    /// The words of the table (Linux `Documentation/admin-guide/device-mapper/verity.rst`).
    #[must_use]
    pub fn table(&self, data: &str, hashes: &str, verity: &Verity) -> String {
        let salt = if self.salt.is_empty() { "-" } else { &self.salt };
        // The tree begins behind the block of the superblock.
        format!(
            "1 {data} {hashes} {BLOCK} {BLOCK} {} 1 sha256 {} {salt}{}",
            self.blocks,
            verity.root_hash,
            verity.on_corruption.words()
        )
    }

    /// Sectors of 512 bytes of the data.
    #[must_use]
    pub const fn sectors(&self) -> u64 {
        self.blocks * (BLOCK / 512)
    }
}

/// Makes [`NODE`] of an image and the tree beside it. Nothing of the image has been read then.
///
/// # Errors
/// When the tree is missing or does not fit the image, or the kernel cannot do it.
pub fn open(image: &str, verity: &Verity, loader: &mut Loader<'_>, log: &Log) -> Result<(), Failure> {
    let hashes = hashes_of(image);
    let failed = |doing: &str, why: String, hint: &str| Failure::new(Step::Assemble, doing, why, hint);
    let damaged = "the medium is damaged or was not made with `verify`: write it again, or take dm-verity-root-hash= out of the \
                   kernel line to start without a check";
    let reading = format!("reading the hash tree {hashes}");
    let mut bytes = [0; SUPERBLOCK];
    File::open(&hashes)
        .and_then(|mut file| file.read_exact(&mut bytes))
        .map_err(|error| failed(&reading, error.to_string(), damaged))?;
    let superblock = Superblock::parse(&bytes).map_err(|why| failed(&reading, why, damaged))?;
    let size = fs::metadata(image)
        .map_err(|error| read_error(Step::Assemble, image, &error))?
        .len();
    if size < superblock.blocks * BLOCK {
        return Err(failed(
            &reading,
            format!(
                "it is for {} bytes, but the image has {size}",
                superblock.blocks * BLOCK
            ),
            damaged,
        ));
    }
    loader.file_system("loop");
    // The faster SHA-256 first: dm-verity takes the best that is there when it starts.
    for alias in ["sha256", "dm-mod", "dm-verity"] {
        if let Err(error) = loader.load_alias(alias) {
            log.warn(error);
        }
    }
    let attach = |file: &str| {
        loopdev::attach(Path::new(file)).map_err(|error| {
            failed(
                &format!("attaching {file} to a loop device"),
                error.to_string(),
                "the kernel needs loop devices (module `loop` in the initramfs)",
            )
        })
    };
    let (data, tree) = (attach(image)?, attach(&hashes)?);
    let refused = |error: crate::device_mapper::DeviceMapperError| {
        failed(
            &format!("opening {image} through dm-verity"),
            error.to_string(),
            "the initramfs needs the modules dm-mod and dm-verity",
        )
    };
    let mapper = DeviceMapper::open().map_err(refused)?;
    let table = superblock.table(&data.node, &tree.node, verity);
    mapper
        .create(&Mapping {
            name: NAME,
            uuid: "",
            read_only: true,
            secret: false,
            targets: &[Target {
                start: 0,
                sectors: superblock.sectors(),
                kind: "verity",
                parameters: &table,
            }],
        })
        .map_err(refused)?;
    log.info(format_args!(
        "{image} is read through dm-verity, root hash {}",
        verity.root_hash
    ));
    Ok(())
}

/// Takes the device of an earlier attempt away, if there is one.
pub fn close() {
    if fs::symlink_metadata(NODE).is_ok()
        && let Ok(mapper) = DeviceMapper::open()
    {
        // One that is still in use makes the next attempt fail and say so.
        let _ = mapper.remove(NAME);
    }
}

/// Whether the kernel has seen damage since the device was made.
#[must_use]
pub fn has_seen_damage() -> bool {
    DeviceMapper::open()
        .and_then(|mapper| mapper.status(NAME))
        .is_ok_and(|status| status.iter().any(|one| one.starts_with('C')))
}

/// Numbers of the blocks that cannot be read, of those from `at` on that lie in `length` bytes.
fn damaged_blocks(device: &File, at: u64, length: u64, found: &mut Vec<u64>) {
    let mut block = [0; BLOCK as usize];
    for number in at / BLOCK..(at + length).div_ceil(BLOCK) {
        if found.len() < DAMAGED_MAX && device.read_exact_at(&mut block, number * BLOCK).is_err() {
            found.push(number);
        }
    }
}

/// What is told of damaged blocks.
fn described(blocks: &[u64]) -> String {
    let first = blocks.first().copied().unwrap_or(0);
    let more = match blocks.len() {
        0 | 1 => String::new(),
        DAMAGED_MAX => format!(", and so are {} or more behind it", DAMAGED_MAX - 1),
        count => format!(", and so are {} behind it", count - 1),
    };
    format!(
        "block {first} (bytes {} to {}) is damaged{more}",
        first * BLOCK,
        (first + 1) * BLOCK - 1
    )
}

/// Reads all of [`NODE`], so that every block of the image is compared with the tree.
///
/// # Errors
/// With the blocks that are not what they should be.
pub fn read_through(image: &str, log: &Log) -> Result<(), Failure> {
    let failed = |error: &io::Error| read_error(Step::Verify, image, error);
    let device = File::open(NODE).map_err(|error| failed(&error))?;
    let size =
        rustix::fs::seek(&device, rustix::fs::SeekFrom::End(0)).map_err(|error| failed(&error.into()))?;
    let mut progress = Progress::new(log, "checking", size);
    let mut chunk = vec![0; CHUNK];
    let mut damaged = Vec::new();
    let mut at = 0;
    while at < size && damaged.len() < DAMAGED_MAX {
        let length = (size - at).min(CHUNK as u64);
        let part = &mut chunk[..length as usize];
        match device.read_exact_at(part, at) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EIO) => {
                damaged_blocks(&device, at, length, &mut damaged);
                if damaged.is_empty() {
                    return Err(failed(&error));
                }
            }
            Err(error) => return Err(failed(&error)),
        }
        progress.add(part.len());
        at += length;
    }
    if damaged.is_empty() && !has_seen_damage() {
        log.info(format_args!("{image}: every block is right"));
        return Ok(());
    }
    Err(Failure::new(
        Step::Verify,
        format!("checking {image}"),
        if damaged.is_empty() {
            "the kernel has found damaged blocks; its log names them".into()
        } else {
            described(&damaged)
        },
        "the medium is damaged: write it again, or try another drive or port",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn superblock() -> [u8; SUPERBLOCK] {
        let mut bytes = [0; SUPERBLOCK];
        bytes[..8].copy_from_slice(b"verity\0\0");
        bytes[8] = 1;
        bytes[12] = 1;
        bytes[32..38].copy_from_slice(b"sha256");
        bytes[65] = 16;
        bytes[69] = 16;
        bytes[72..76].copy_from_slice(&300u32.to_le_bytes());
        bytes[80] = 2;
        bytes[88..90].copy_from_slice(&[0xab, 1]);
        bytes
    }

    #[test]
    fn the_table_is_that_of_the_superblock() {
        let found = Superblock::parse(&superblock()).unwrap();
        assert_eq!(found.sectors(), 2400);
        let mut verity = Verity {
            root_hash: "00ff".into(),
            on_corruption: OnCorruption::Fail,
        };
        assert_eq!(
            found.table("/dev/loop0", "/dev/loop1", &verity),
            "1 /dev/loop0 /dev/loop1 4096 4096 300 1 sha256 00ff ab01"
        );
        verity.on_corruption = OnCorruption::Panic;
        let plain = Superblock {
            salt: String::new(),
            ..found
        };
        assert_eq!(
            plain.table("a", "b", &verity),
            "1 a b 4096 4096 300 1 sha256 00ff - 1 panic_on_corruption"
        );
    }

    #[test]
    fn other_superblocks_are_refused() {
        for (at, byte) in [
            (0, b'V'),
            (8, 2),
            (12, 0),
            (35, b'1'),
            (65, 8),
            (69, 2),
            (79, 0xff),
            (81, 2),
        ] {
            let mut bytes = superblock();
            bytes[at] = byte;
            assert!(Superblock::parse(&bytes).is_err(), "byte {at}");
        }
        let mut none = superblock();
        none[72..76].fill(0);
        assert!(Superblock::parse(&none).is_err());
    }

    #[test]
    fn root_hashes() {
        let hash = "aB".repeat(32);
        let lower = hash.to_lowercase();
        assert_eq!(root_hash(&hash, "f.squashfs"), Ok(lower.clone()));
        assert_eq!(root_hash(&format!("f.squashfs:{hash}"), "f.squashfs"), Ok(lower));
        for bad in [
            "",
            "00",
            &"g".repeat(64),
            &"0".repeat(128),
            &format!("other:{hash}"),
        ] {
            assert!(root_hash(bad, "f.squashfs").is_err(), "{bad}");
        }
    }

    #[test]
    fn damage_is_described() {
        assert_eq!(described(&[3]), "block 3 (bytes 12288 to 16383) is damaged");
        assert_eq!(
            described(&[3, 9]),
            "block 3 (bytes 12288 to 16383) is damaged, and so are 1 behind it"
        );
    }

    #[test]
    fn the_room_for_a_tree_is_enough() {
        for blocks in [1u64, 127, 128, 129, 20_000, 1 << 30] {
            let mut level = blocks;
            let mut total = 1;
            while level > 1 {
                level = level.div_ceil(128);
                total += level;
            }
            assert!(hashes_len(blocks * BLOCK) >= total * BLOCK, "{blocks}");
        }
    }

    proptest! {
        #[test]
        fn no_superblock_makes_it_panic(start in proptest::collection::vec(any::<u8>(), SUPERBLOCK), over in any::<bool>()) {
            let mut bytes: [u8; SUPERBLOCK] = start.try_into().unwrap();
            if over {
                bytes[..40].copy_from_slice(&superblock()[..40]);
                bytes[64..72].copy_from_slice(&superblock()[64..72]);
            }
            if let Ok(found) = Superblock::parse(&bytes) {
                prop_assert!(found.sectors() > 0);
            }
        }
    }
}
