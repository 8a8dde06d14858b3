//! Recognising what bytes are, and what is shared while that is done.

use std::collections::BTreeSet;

use lycia_media::compress::Format;
use lycia_tree::Content;

use crate::map::Region;
use crate::report::{Fault, Item, Part};
use crate::{Limits, archive, boot, disk, iso, source, verity, volumes};

/// Faults that are told; one mistake can be in every entry.
const FAULTS: usize = 1000;
/// Regions that are kept.
const REGIONS: usize = 4 << 20;
/// What is told when [`Cell::hold`] refuses.
pub const TOO_LONG: &str = "more bytes of names, links and attributes than are read";

/// What is shared by all that is read of one file.
pub struct Cell<'l> {
    pub limits: &'l Limits,
    pub faults: Vec<Fault>,
    pub regions: Vec<Region>,
    /// What the regions are of, where that is not the file.
    pub base: Option<Content>,
    /// Names of places that were not read to their end: their lists lack something.
    pub partial: BTreeSet<String>,
    /// Bytes of contents read so far.
    pub spent: u64,
    /// Bytes of names and attributes that may still be held.
    held: u64,
    /// Bytes of names of regions that may still be held.
    labels: u64,
}

/// Where something is.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// As [`Part::place`].
    pub name: String,
    /// Its first byte in the file.
    pub base: Option<u64>,
    /// Whether the base counts in what was unpacked from the file.
    pub unpacked: bool,
}

impl Place {
    /// The file itself.
    pub fn file() -> Place {
        Place {
            name: String::new(),
            base: Some(0),
            unpacked: false,
        }
    }

    /// Something in it that begins `offset` bytes from its beginning.
    pub fn below(&self, name: &str, offset: u64) -> Place {
        Place {
            name: self.named(name),
            base: self.base.map(|base| base.saturating_add(offset)),
            unpacked: self.unpacked,
        }
    }

    /// Something in it that does not lie there as it is.
    pub fn within(&self, name: &str) -> Place {
        Place {
            name: self.named(name),
            base: None,
            unpacked: false,
        }
    }

    /// The name of something in it.
    pub fn named(&self, name: &str) -> String {
        if self.name.is_empty() {
            name.to_owned()
        } else {
            format!("{}: {name}", self.name)
        }
    }
}

impl Cell<'_> {
    pub fn new(limits: &Limits) -> Cell<'_> {
        Cell {
            limits,
            faults: Vec::new(),
            regions: Vec::new(),
            base: None,
            partial: BTreeSet::new(),
            spent: 0,
            held: limits.names,
            labels: limits.names,
        }
    }

    /// Tells a fault, `offset` bytes from the beginning of its place.
    pub fn fault(&mut self, place: &Place, offset: u64, what: impl Into<String>) {
        match self.faults.len() {
            ..FAULTS => self.faults.push(Fault {
                offset: place
                    .base
                    .filter(|_| !place.unpacked)
                    .map(|base| base.saturating_add(offset)),
                place: match (place.unpacked, place.base) {
                    (true, Some(base)) => {
                        place.named(&format!("byte {} of what is packed", base.saturating_add(offset)))
                    }
                    _ => place.name.clone(),
                },
                what: what.into(),
            }),
            FAULTS => self.faults.push(Fault {
                offset: None,
                place: String::new(),
                what: "and more".to_owned(),
            }),
            _ => {}
        }
    }

    /// Remembers that not all of a place was read.
    pub fn partial(&mut self, place: &Place) {
        if self.partial.len() < FAULTS {
            self.partial.insert(place.name.clone());
        }
    }

    /// Tells a fault behind which a place was not read.
    pub fn cut(&mut self, place: &Place, offset: u64, what: impl Into<String>) {
        self.partial(place);
        self.fault(place, offset, what);
    }

    /// Remembers whose `len` bytes from `start` of a place are.
    pub fn region(&mut self, place: &Place, start: u64, len: u64, what: &str) {
        let Some(base) = place.base else { return };
        let start = base.saturating_add(start);
        // A file in many pieces has its path in each of them.
        let label = (place.name.len() + what.len()) as u64;
        if self.regions.len() < REGIONS && len > 0 && label <= self.labels {
            self.labels -= label;
            self.regions.push(Region {
                start,
                end: start.saturating_add(len),
                label: place.named(what),
            });
        }
    }

    /// Counts the bytes of an entry's name, link and attributes, which many entries of a damaged file system can share; whether
    /// they may still be held.
    pub fn hold(&mut self, item: &Item) -> bool {
        let attributes: usize = item
            .xattrs
            .iter()
            .map(|(name, value)| name.len() + value.len())
            .sum();
        let bytes = (item.path.len() + item.target.as_ref().map_or(0, String::len) + attributes) as u64;
        match self.held.checked_sub(bytes) {
            Some(left) => {
                self.held = left;
                true
            }
            None => {
                self.held = 0;
                false
            }
        }
    }

    /// Bytes of names and attributes that may still be held, for readers that hold them themselves.
    pub fn room(&self) -> u64 {
        self.held
    }

    /// Counts bytes of contents; whether there may still be as many.
    pub fn spend(&mut self, bytes: u64) -> bool {
        self.spent = self.spent.saturating_add(bytes);
        self.spent <= self.limits.content
    }

    /// Recognises what `bytes` are and reads them.
    pub fn part(&mut self, place: Place, bytes: &Content, depth: u32) -> Option<Part> {
        if depth > self.limits.depth {
            self.cut(
                &place,
                0,
                "too many things lie in one another; this one was not looked at",
            );
            return None;
        }
        let format = recognise(bytes.bytes())?;
        let mut part = Part {
            place: place.name.clone(),
            format: format.name().to_owned(),
            offset: place.base.filter(|_| !place.unpacked),
            size: bytes.len(),
            ..Part::default()
        };
        match format {
            Known::Iso => iso::read(self, &place, bytes, depth, &mut part),
            Known::Disk => disk::read(self, &place, bytes, depth, &mut part),
            Known::Qcow2 => disk::qcow2(self, &place, bytes, depth, &mut part),
            Known::Squashfs => volumes::squashfs(self, &place, bytes, &mut part),
            Known::Ext4 => volumes::ext4(self, &place, bytes, &mut part),
            Known::Fat => volumes::fat(self, &place, bytes, depth, &mut part),
            Known::Erofs => volumes::erofs(self, &place, bytes, &mut part),
            Known::Cpio => archive::initramfs(self, &place, bytes, depth, &mut part),
            Known::Tar => archive::tar(self, &place, bytes, depth, &mut part),
            Known::Compressed(format) => self.compressed(&place, bytes, format, depth, &mut part),
            Known::Kernel => boot::kernel(self, &place, bytes.bytes(), &mut part),
            Known::Program => boot::efi(self, &place, bytes.bytes(), &mut part),
            Known::Verity => verity::read(self, &place, bytes, None, &mut part),
            Known::Signature(_) => {}
        }
        Some(part)
    }

    fn compressed(&mut self, place: &Place, bytes: &Content, format: Format, depth: u32, part: &mut Part) {
        // An initramfs is a row of segments; what follows the first one would be taken for garbage.
        let head = source::head(bytes.bytes(), format);
        if head.starts_with(lycia_media::cpio::MAGIC) {
            part.format = "initramfs".to_owned();
            archive::initramfs(self, place, bytes, depth, part);
            return;
        }
        let unpacked = match self.unpack(bytes.bytes(), format) {
            Ok(unpacked) => unpacked,
            Err(error) => {
                self.cut(place, 0, format!("unpacking: {error}"));
                return;
            }
        };
        part.fact("unpacked-size", unpacked.len());
        let inner = self.inside(place, &unpacked);
        if let Some(found) = self.part(inner, &unpacked, depth + 1) {
            part.parts.push(found);
        }
    }

    /// Unpacks what is compressed. Many small things can each unpack to much: together they may be as many bytes as contents.
    pub fn unpack(&mut self, bytes: &[u8], format: Format) -> std::io::Result<Content> {
        let room = self.limits.content.saturating_sub(self.spent);
        let unpacked = source::unpack(bytes, format, self.limits.unpacked.min(room))?;
        self.spend(unpacked.len());
        Ok(unpacked)
    }

    /// The place of what was unpacked from the file as a whole, whose bytes then are those that count; of anything else a
    /// place without.
    pub fn inside(&mut self, place: &Place, unpacked: &Content) -> Place {
        let name = place.named("unpacked");
        if place.name.is_empty() && self.base.is_none() {
            self.base = Some(unpacked.clone());
            self.regions.clear();
            return Place {
                name,
                base: Some(0),
                unpacked: true,
            };
        }
        Place {
            name,
            base: None,
            unpacked: false,
        }
    }
}

/// What bytes can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Known {
    Iso,
    Disk,
    Qcow2,
    Squashfs,
    Ext4,
    Fat,
    Erofs,
    Cpio,
    Tar,
    Compressed(Format),
    Kernel,
    Program,
    Verity,
    /// Something that is named and not read.
    Signature(&'static str),
}

impl Known {
    pub fn name(self) -> &'static str {
        match self {
            Known::Iso => "iso9660",
            Known::Disk => "disk",
            Known::Qcow2 => "qcow2",
            Known::Squashfs => "squashfs",
            Known::Ext4 => "ext4",
            Known::Fat => "fat",
            Known::Erofs => "erofs",
            Known::Cpio => "initramfs",
            Known::Tar => "tar",
            Known::Compressed(format) => format.name(),
            Known::Kernel => "kernel",
            Known::Program => "efi-program",
            Known::Verity => "verity",
            Known::Signature(name) => name,
        }
    }
}

/// What `bytes` are, by what they begin with.
pub fn recognise(bytes: &[u8]) -> Option<Known> {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    // Names and places of signatures: the kernel's headers of each file system, LUKS on-disk format, swap header of mkswap.
    let named: [(usize, &[u8], &'static str); 7] = [
        (0, b"XFSB", "xfs"),
        (0x1_0040, b"_BHRfS_M", "btrfs"),
        (1024, &[0x10, 0x20, 0xf5, 0xf2], "f2fs"),
        (0, b"LUKS\xba\xbe", "luks"),
        (4086, b"SWAPSPACE2", "swap"),
        (0, b"ADB", "apk"),
        (0x36, b"FAT", "fat"),
    ];
    // Signatures of file systems lie where a GPT has its first entry, whose identifiers and name can be any bytes.
    let protected = || {
        let kinds = [446, 462, 478, 494].map(|record| bytes.get(record + 4));
        at(510, &[0x55, 0xaa]) && kinds.contains(&Some(&0xee))
    };
    Some(if at(32769, b"CD001") {
        Known::Iso
    } else if (at(512, b"EFI PART") || at(4096, b"EFI PART")) && protected() {
        Known::Disk
    } else if at(0, b"hsqs") {
        Known::Squashfs
    } else if at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) {
        Known::Erofs
    } else if at(1024 + 56, &[0x53, 0xef]) {
        Known::Ext4
    } else if at(0, b"QFI\xfb") {
        Known::Qcow2
    } else if at(0, b"070701") || at(0, b"070702") {
        Known::Cpio
    } else if at(257, b"ustar") {
        Known::Tar
    } else if lycia_media::tar::begins(bytes) {
        // Archives from before POSIX have no signature.
        Known::Tar
    } else if at(0x202, b"HdrS") {
        Known::Kernel
    } else if let Some(format) = Format::detect(bytes) {
        Known::Compressed(format)
    } else if at(510, &[0x55, 0xaa]) && is_fat(bytes) {
        Known::Fat
    } else if at(0, b"verity\0\0") {
        Known::Verity
    } else if at(512, b"EFI PART") || at(4096, b"EFI PART") {
        Known::Disk
    } else if at(0, b"MZ") {
        if at(56, b"ARM\x64") || at(56, b"RSC\x05") || at(4, b"zimg") {
            Known::Kernel
        } else {
            Known::Program
        }
    } else if at(56, b"ARM\x64") || at(56, b"RSC\x05") {
        Known::Kernel
    } else if let Some((_, _, name)) = named.iter().find(|(offset, magic, _)| at(*offset, magic)) {
        Known::Signature(name)
    } else if disk::has_records(bytes) || disk::has_backup(bytes) {
        Known::Disk
    } else {
        return None;
    })
}

/// Whether a boot sector is that of a FAT volume (Microsoft's specification, "BPB").
fn is_fat(bytes: &[u8]) -> bool {
    let jump = matches!(bytes[0], 0xeb | 0xe9);
    let sector = u16::from_le_bytes([bytes[11], bytes[12]]);
    let cluster = bytes[13];
    jump && matches!(sector, 512 | 1024 | 2048 | 4096)
        && cluster.is_power_of_two()
        && matches!(bytes[16], 1 | 2)
}
