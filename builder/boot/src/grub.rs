//! GRUB's images for disks: the core image for BIOS, put together from a platform's modules, and an existing EFI image with another
//! embedded configuration.
//!
//! Sources: GRUB 2.06, `util/mkimage.c`, `include/grub/kernel.h` (module headers), `include/grub/i386/pc/boot.h` and
//! `include/grub/offsets.h` (places inside the images), `util/setup.c` (block lists).

use std::collections::{BTreeMap, BTreeSet};

use lycia_tree::Content;
use thiserror::Error;

use crate::lzma;

/// Files of a platform's folder by name: `kernel.img`, `moddep.lst`, `NAME.mod` …
pub type Files = BTreeMap<String, Content>;

/// Bytes of a sector as the BIOS counts them.
pub const SECTOR: usize = 512;
/// Where the kernel runs; the core image ends below video memory.
const LINK_ADDRESS: usize = 0x9000;
const MEMORY_UPPER: usize = 0xa0000;

const MODULE_MAGIC: u32 = 0x676d_696d;
const OBJECT_ELF: u32 = 0;
const OBJECT_CONFIG: u32 = 2;
const OBJECT_PREFIX: u32 = 3;

/// Places in the decompressor.
const COMPRESSED_SIZE: usize = 0x08;
const UNCOMPRESSED_SIZE: usize = 0x0c;
/// Places in the boot sector.
const KERNEL_SECTOR: usize = 0x5c;
const BOOT_DRIVE: usize = 0x64;
const DRIVE_CHECK: usize = 0x66;
/// What the boot sector says when it fails, in every version from 0.97 on.
const GRUB_WORDS: &[u8] = b"GRUB \0Geom\0Hard Disk\0Read\0 Error";
/// Bytes of the boot sector that are code; the rest of the MBR is data of the disk.
pub const BOOT_CODE: usize = 440;

/// Modules of the core image that starts a disk by BIOS, for images and installed systems. A platform need not have all of them.
pub const CORE_MODULES: &[&str] = &[
    "biosdisk",
    "part_gpt",
    "part_msdos",
    "ext2",
    "search",
    "search_fs_uuid",
    "search_fs_file",
    "search_label",
    "normal",
    "configfile",
    "linux",
    "echo",
    "test",
    "true",
    "serial",
    "terminal",
    "gzio",
    "loadenv",
    "minicmd",
    "reboot",
    "halt",
    "sleep",
    "cat",
    "ls",
    "help",
    "boot",
    "regexp",
];

/// Why there is no image.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum GrubError {
    /// The folder lacks a file.
    #[error("GRUB's platform folder has no {0}")]
    Missing(String),
    /// A file is not what it is called.
    #[error("{file} of GRUB is not what was expected: {what}")]
    Odd {
        /// The file.
        file: String,
        /// What is wrong.
        what: &'static str,
    },
    /// The image is too large to run.
    #[error("GRUB's core image has {0} bytes and would not fit below video memory; leave modules out")]
    TooLarge(usize),
    /// The embedded configuration of an EFI image has no room.
    #[error("GRUB's EFI image has room for {room} bytes of configuration, {needed} are needed")]
    NoRoom {
        /// Bytes that there are.
        room: usize,
        /// Bytes that are needed.
        needed: usize,
    },
    /// It could not be compressed.
    #[error("compressing GRUB's core image: {0}")]
    Compress(String),
}

fn file<'f>(files: &'f Files, name: &str) -> Result<&'f [u8], GrubError> {
    files
        .get(name)
        .map(Content::bytes)
        .ok_or_else(|| GrubError::Missing(name.to_owned()))
}

fn odd(file: &str, what: &'static str) -> GrubError {
    GrubError::Odd {
        file: file.to_owned(),
        what,
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    )))
}

/// `modules` with all that they need, those that are needed first.
///
/// # Errors
/// When a module is not there.
pub fn with_dependencies(files: &Files, modules: &[&str]) -> Result<Vec<String>, GrubError> {
    let list = String::from_utf8_lossy(file(files, "moddep.lst")?).into_owned();
    let needs: BTreeMap<&str, Vec<&str>> = list
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, needs)| (name.trim(), needs.split_whitespace().collect()))
        .collect();
    let mut done = BTreeSet::new();
    let mut order = Vec::new();
    // Depth first; `true` marks a module whose needs are in the list already.
    let mut waiting: Vec<(&str, bool)> = modules.iter().rev().map(|&name| (name, false)).collect();
    while let Some((name, ready)) = waiting.pop() {
        if ready {
            order.push(name.to_owned());
        } else if done.insert(name) {
            let needs = needs
                .get(name)
                .ok_or_else(|| GrubError::Missing(format!("{name}.mod")))?;
            waiting.push((name, true));
            waiting.extend(needs.iter().rev().map(|&need| (need, false)));
        }
    }
    Ok(order)
}

/// The loaded part of `kernel.img`: an ELF program of one segment (System V ABI, "Program Header").
fn kernel(image: &[u8]) -> Option<&[u8]> {
    if image.get(..5)? != b"\x7fELF\x01" {
        return None;
    }
    let table = word(image, 28)? as usize;
    let size = half(image, 42)?;
    for number in 0..half(image, 44)? {
        let at = table.checked_add(number.checked_mul(size)?)?;
        let (kind, offset, address, length) = (
            word(image, at)?,
            word(image, at + 4)?,
            word(image, at + 8)?,
            word(image, at + 16)?,
        );
        if kind == 1 && address as usize == LINK_ADDRESS {
            let offset = offset as usize;
            return image.get(offset..offset.checked_add(length as usize)?);
        }
    }
    None
}

fn add_object(to: &mut Vec<u8>, kind: u32, bytes: &[u8], terminated: bool) {
    let length = (bytes.len() + usize::from(terminated)).next_multiple_of(4);
    to.extend_from_slice(&kind.to_le_bytes());
    to.extend_from_slice(&((length + 8) as u32).to_le_bytes());
    to.extend_from_slice(bytes);
    to.resize(to.len() + length - bytes.len(), 0);
}

/// What the core image decompresses to: the kernel, then its modules, its configuration and its prefix.
fn payload(files: &Files, modules: &[&str], config: &str, prefix: &str) -> Result<Vec<u8>, GrubError> {
    let kernel = kernel(file(files, "kernel.img")?)
        .ok_or_else(|| odd("kernel.img", "no 32-bit program for 0x9000"))?;
    let mut objects = Vec::new();
    for name in with_dependencies(files, modules)? {
        add_object(
            &mut objects,
            OBJECT_ELF,
            file(files, &format!("{name}.mod"))?,
            false,
        );
    }
    add_object(&mut objects, OBJECT_CONFIG, config.as_bytes(), true);
    add_object(&mut objects, OBJECT_PREFIX, prefix.as_bytes(), true);
    let mut out = kernel.to_vec();
    // The header of all objects counts itself.
    for number in [MODULE_MAGIC, 12, objects.len() as u32 + 12] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&objects);
    Ok(out)
}

/// The core image of `i386-pc` for a disk: what boots, with `modules` and all that they need, runs `config` and then looks for its
/// menu below `prefix`. `first_sector` is where the image will lie, in sectors of 512 bytes; it must lie in one piece.
///
/// # Errors
/// When a file is missing or strange, or the image gets too large.
pub fn bios_core(
    files: &Files,
    modules: &[&str],
    config: &str,
    prefix: &str,
    first_sector: u64,
) -> Result<Vec<u8>, GrubError> {
    let payload = payload(files, modules, config, prefix)?;
    let compressed = lzma::compress(&payload).map_err(|error| GrubError::Compress(error.to_string()))?;
    let mut decompressor = file(files, "lzma_decompress.img")?.to_vec();
    let places = [
        (COMPRESSED_SIZE, compressed.len()),
        (UNCOMPRESSED_SIZE, payload.len()),
    ];
    for (at, value) in places {
        decompressor
            .get_mut(at..at + 4)
            .ok_or_else(|| odd("lzma_decompress.img", "it is too short"))?
            .copy_from_slice(&(value as u32).to_le_bytes());
    }
    let body = [decompressor, compressed].concat();
    if LINK_ADDRESS + body.len() > MEMORY_UPPER {
        return Err(GrubError::TooLarge(body.len()));
    }
    let mut image = file(files, "diskboot.img")?.to_vec();
    if image.len() != SECTOR {
        return Err(odd("diskboot.img", "it has not 512 bytes"));
    }
    // The last block list entry: first sector, number of sectors, segment.
    let entry = SECTOR - 12;
    image[entry..entry + 8].copy_from_slice(&(first_sector + 1).to_le_bytes());
    let sectors = body.len().div_ceil(SECTOR) as u16;
    image[entry + 8..entry + 10].copy_from_slice(&sectors.to_le_bytes());
    image.extend_from_slice(&body);
    image.resize(image.len().next_multiple_of(SECTOR), 0);
    Ok(image)
}

/// The code of the boot sector that starts the core image at `first_sector`.
///
/// # Errors
/// When `boot.img` is missing or strange.
pub fn boot_code(files: &Files, first_sector: u64) -> Result<[u8; BOOT_CODE], GrubError> {
    let sector = file(files, "boot.img")?;
    let mut code: [u8; BOOT_CODE] = *sector
        .first_chunk()
        .ok_or_else(|| odd("boot.img", "it is too short"))?;
    code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&first_sector.to_le_bytes());
    code[BOOT_DRIVE] = 0xff;
    // Some BIOSes pass no usable drive number: the check that believes them is made void, as for every hard disk.
    code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    Ok(code)
}

/// Where a first sector looks for GRUB's core image, in sectors of 512 bytes; none where its code is not GRUB's.
#[must_use]
pub fn first_sector_of(sector: &[u8; SECTOR]) -> Option<u64> {
    let code = &sector[..BOOT_CODE];
    let words = code.windows(GRUB_WORDS.len()).any(|part| part == GRUB_WORDS);
    let place = code[KERNEL_SECTOR..].first_chunk::<8>()?;
    words.then(|| u64::from_le_bytes(*place))
}

/// Where the embedded configuration of an EFI image is: the bytes that it may have.
fn efi_config(image: &[u8]) -> Option<std::ops::Range<usize>> {
    // Microsoft PE and COFF: offset of the header at 0x3c, sections behind the optional header.
    let header = word(image, 0x3c)? as usize;
    if image.get(header..header.checked_add(4)?)? != b"PE\0\0" {
        return None;
    }
    let sections = header + 24 + half(image, header + 20)?;
    for number in 0..half(image, header + 6)? {
        let at = sections + number * 40;
        if image.get(at..at + 8)? != b"mods\0\0\0\0" {
            continue;
        }
        let start = word(image, at + 20)? as usize;
        let wide = word(image, start + 4)? == 0;
        let (first, size) = if wide {
            (word(image, start + 8)?, word(image, start + 16)?)
        } else {
            (word(image, start + 4)?, word(image, start + 8)?)
        };
        if word(image, start)? != MODULE_MAGIC {
            return None;
        }
        let end = start.checked_add(size as usize)?;
        let mut object = start.checked_add(first as usize)?;
        while object + 8 <= end {
            let length = word(image, object + 4)? as usize;
            if length < 8 {
                return None;
            }
            if word(image, object)? == OBJECT_CONFIG {
                let range = object + 8..object.checked_add(length)?;
                return (range.end <= image.len()).then_some(range);
            }
            object = object.checked_add(length)?;
        }
    }
    None
}

/// An EFI image with another embedded configuration.
///
/// # Errors
/// When it has none, or one that is shorter.
pub fn efi_with_config(image: &[u8], config: &str) -> Result<Vec<u8>, GrubError> {
    let range = efi_config(image).ok_or_else(|| odd("the EFI image", "it has no embedded configuration"))?;
    // It ends with a zero.
    let room = range.len() - 1;
    if config.len() > room {
        return Err(GrubError::NoRoom {
            room,
            needed: config.len(),
        });
    }
    let mut out = image.to_vec();
    out[range.clone()].fill(0);
    out[range.start..range.start + config.len()].copy_from_slice(config.as_bytes());
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    const BIOS: &str = "/usr/lib/grub/i386-pc";
    const EFI: &str = "/usr/lib/grub/x86_64-efi";

    fn files(folder: &str) -> Files {
        let listing = std::fs::read_dir(folder)
            .unwrap_or_else(|_| panic!("{folder} is missing: install grub-pc-bin and grub-efi-amd64-bin"));
        listing
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_file())
            .map(|path| {
                (
                    path.file_name().unwrap().to_string_lossy().into_owned(),
                    std::fs::read(path).unwrap().into(),
                )
            })
            .collect()
    }

    fn mkimage(directory: &Path, format: &str, folder: &str, config: &str, modules: &[&str]) -> Vec<u8> {
        let (early, out) = (directory.join("early.cfg"), directory.join("out"));
        std::fs::write(&early, config).unwrap();
        let status = Command::new("grub-mkimage")
            .args([
                "--format",
                format,
                "--directory",
                folder,
                "--prefix",
                "/boot/grub",
                "--config",
            ])
            .arg(&early)
            .arg("--output")
            .arg(&out)
            .args(modules)
            .status()
            .expect("grub-mkimage is missing: install the Debian package grub-common");
        assert!(status.success());
        std::fs::read(out).unwrap()
    }

    fn parts(core: &[u8]) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let decompressor = std::fs::read(format!("{BIOS}/lzma_decompress.img"))
            .unwrap()
            .len();
        let (head, body) = core.split_at(SECTOR + decompressor);
        let size = u32::from_le_bytes(head[SECTOR + UNCOMPRESSED_SIZE..][..4].try_into().unwrap());
        let compressed = u32::from_le_bytes(head[SECTOR + COMPRESSED_SIZE..][..4].try_into().unwrap());
        let payload = lzma::decompress(&body[..compressed as usize], size as usize);
        let mut code = head[SECTOR..].to_vec();
        code[COMPRESSED_SIZE..UNCOMPRESSED_SIZE + 4].fill(0);
        (head[..SECTOR].to_vec(), code, payload)
    }

    /// Objects of a payload, which may come in another order where dependencies allow it.
    fn objects(payload: &[u8], kernel: usize) -> BTreeSet<(u32, Vec<u8>)> {
        let mut at = kernel + 12;
        let mut found = BTreeSet::new();
        while at < payload.len() {
            let size = word(payload, at + 4).unwrap() as usize;
            found.insert((word(payload, at).unwrap(), payload[at + 8..at + size].to_vec()));
            at += size;
        }
        found
    }

    #[test]
    fn the_bios_image_has_what_grub_mkimage_puts_into_it() {
        let directory = tempfile::tempdir().unwrap();
        let config = "search --no-floppy --fs-uuid --set=root abc\nset prefix=($root)/boot/grub\n";
        let modules = [
            "biosdisk",
            "part_gpt",
            "ext2",
            "search_fs_uuid",
            "normal",
            "linux",
        ];
        let files = files(BIOS);
        let ours = bios_core(&files, &modules, config, "/boot/grub", 4096).unwrap();
        let theirs = mkimage(directory.path(), "i386-pc", BIOS, config, &modules);
        let (our_head, our_code, our_payload) = parts(&ours);
        let (their_head, their_code, their_payload) = parts(&theirs);
        assert_eq!(our_code, their_code);
        assert_eq!(our_payload.len(), their_payload.len());
        let kernel = kernel(files["kernel.img"].bytes()).unwrap().len();
        assert_eq!(our_payload[..kernel + 12], their_payload[..kernel + 12]);
        assert_eq!(objects(&our_payload, kernel), objects(&their_payload, kernel));
        assert_eq!(our_head[..SECTOR - 12], their_head[..SECTOR - 12]);
        assert_eq!(our_head[SECTOR - 12..SECTOR - 4], 4097u64.to_le_bytes());
        assert_eq!(
            usize::from(u16::from_le_bytes([our_head[508], our_head[509]])),
            ours.len() / SECTOR - 1
        );
        // Never larger than theirs by more than a sector or two.
        assert!(
            ours.len() <= theirs.len() + 2 * SECTOR,
            "{} against {}",
            ours.len(),
            theirs.len()
        );
    }

    #[test]
    fn modules_come_after_what_they_need() {
        let files = files(BIOS);
        let order = with_dependencies(&files, &["normal", "ext2"]).unwrap();
        let place = |name: &str| order.iter().position(|one| one == name).unwrap();
        for (needs, needed) in [("normal", "terminal"), ("normal", "crypto"), ("ext2", "fshelp")] {
            assert!(place(needed) < place(needs), "{needs} before {needed}");
        }
        assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), order.len());
        assert!(matches!(
            with_dependencies(&files, &["none"]),
            Err(GrubError::Missing(_))
        ));
    }

    #[test]
    fn boot_sectors_know_their_core_image() {
        let files = files(BIOS);
        let code = boot_code(&files, 0x1234_5678_9abc).unwrap();
        let original = files["boot.img"].bytes();
        assert_eq!(original[DRIVE_CHECK], 0xeb);
        let changed: Vec<usize> = (0..BOOT_CODE).filter(|&at| code[at] != original[at]).collect();
        assert!(
            changed
                .iter()
                .all(|at| (KERNEL_SECTOR..DRIVE_CHECK + 2).contains(at)),
            "{changed:?}"
        );
        assert_eq!(
            code[KERNEL_SECTOR..KERNEL_SECTOR + 8],
            0x1234_5678_9abcu64.to_le_bytes()
        );
    }

    #[test]
    fn the_configuration_of_an_efi_image_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let modules = ["part_gpt", "fat", "configfile"];
        let long = "search --no-floppy --set=root --label SOMETHING\n";
        let image = mkimage(directory.path(), "x86_64-efi", EFI, long, &modules);
        let short = "configfile $cmdpath/grub.cfg\n";
        let ours = efi_with_config(&image, short).unwrap();
        let padded = format!("{short}{}", "\n".repeat(long.len() - short.len()));
        let theirs = mkimage(directory.path(), "x86_64-efi", EFI, &padded, &modules);
        assert_eq!(ours.len(), theirs.len());
        let range = efi_config(&image).unwrap();
        for (at, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            // Zeros where theirs has empty lines.
            assert!(
                a == b || (range.contains(&at) && *a == 0 && *b == b'\n'),
                "byte {at}"
            );
        }
        assert!(matches!(
            efi_with_config(&image, &"x".repeat(99)),
            Err(GrubError::NoRoom { .. })
        ));
        for damage in [&image[..0x3e], &image[..4000], b"MZ"] {
            assert!(efi_with_config(damage, short).is_err());
        }
    }
}
