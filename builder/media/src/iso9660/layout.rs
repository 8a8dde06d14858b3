//! Planning: which directories there are, what they contain and where everything goes.

use std::collections::HashMap;

use lycia_tree::{Content, Follow, Inode, InodeId, Metadata, Node, Tree, display};

use super::eltorito::{self, BIOS_SECTORS, Bootable, GRUB_INFO, Platform};
use super::field::{both_16, both_32, record_date};
use super::hierarchy::{Directory, Hierarchy, Target, join};
use super::rock_ridge::{self as rr, Continuation};
use super::{BLOCK, Image, IsoError, VOLUME_ID_MAX};
use crate::partition::Guid;
use crate::partition::gpt::{self, Table};
use crate::partition::mbr::Mbr;

/// Bytes of a file's extent at most: all of 32 bits that are whole blocks.
pub(super) const EXTENT_MAX: u64 = (u32::MAX as u64) / BLOCK * BLOCK;
/// The first volume descriptor.
pub(super) const DESCRIPTORS: u32 = 16;
/// Bytes of a directory record before its identifier.
const RECORD_LEN: usize = 33;
/// Bytes of a directory record at most; records have even lengths.
const RECORD_MAX: usize = 254;
/// Sectors of 512 bytes in a block.
const SECTORS: u64 = BLOCK / 512;
/// Where the partition with the image begins: a multiple of 4 KiB behind the largest usual GPT.
const IMAGE_PARTITION: u64 = 64;
/// Blocks to which the EFI system partition is aligned: 4 KiB.
const ESP_ALIGN: u64 = 2;

/// A file and where it is.
#[derive(Clone, Debug)]
pub struct Placed {
    /// Its inode in the tree.
    pub inode: InodeId,
    /// First block.
    pub block: u32,
    /// Bytes.
    pub len: u64,
}

/// An image laid out: everything about it but the bytes of the files.
pub struct Layout<'a> {
    pub(super) image: &'a Image<'a>,
    pub(super) iso: Hierarchy,
    pub(super) joliet: Option<Hierarchy>,
    pub(super) files: Vec<Placed>,
    /// Index in `files` by inode.
    places: HashMap<InodeId, usize>,
    serials: HashMap<InodeId, u32>,
    pub(super) catalog: Option<(u32, Vec<u8>)>,
    /// The El Torito image with its tables filled in.
    pub(super) bios: Option<(InodeId, Vec<u8>)>,
    pub(super) esp: Option<u32>,
    pub(super) table: Option<(Mbr, Table)>,
    pub(super) blocks: u32,
}

impl<'a> Image<'a> {
    /// Lays the image out. Nothing is read but the El Torito image.
    ///
    /// # Errors
    /// When a text, a file or the boot settings do not fit the format.
    pub fn plan(&'a self) -> Result<Layout<'a>, IsoError> {
        self.check_texts()?;
        let serials = serials(self.files);
        let mut iso = Hierarchy::rock_ridge(self.files)?;
        let mut joliet = self.joliet.then(|| Hierarchy::joliet(self.files));
        let (files, places) = files(self.files)?;
        let mut layout = Layout {
            image: self,
            iso: Hierarchy::empty(),
            joliet: None,
            files,
            places,
            serials,
            catalog: None,
            bios: None,
            esp: None,
            table: None,
            blocks: 0,
        };

        let mut next = Blocks(DESCRIPTORS.into());
        let boots = self.boot.bios.is_some() || self.boot.efi.is_some();
        next.take(2 + u64::from(boots) + u64::from(self.joliet))?;
        let catalog = boots.then(|| next.take(1)).transpose()?;
        for hierarchy in [Some(&mut iso), joliet.as_mut()].into_iter().flatten() {
            hierarchy.order()?;
            hierarchy.path_table_len = hierarchy.path_table(false).len() as u32;
            for table in &mut hierarchy.path_tables {
                *table = next.take(u64::from(hierarchy.path_table_len).div_ceil(BLOCK))?;
            }
        }
        for hierarchy in [Some(&mut iso), joliet.as_mut()].into_iter().flatten() {
            for index in 0..hierarchy.directories.len() {
                let (records, continuation) = layout.encode(hierarchy, index)?;
                let directory = &mut hierarchy.directories[index];
                directory.len = u32::try_from(records.len()).map_err(|_| IsoError::Entry {
                    path: display(&directory.path),
                    reason: "the directory is larger than 4 GiB".to_owned(),
                })?;
                directory.continuation_blocks = (continuation.len() as u64).div_ceil(BLOCK) as u32;
                directory.block =
                    next.take(u64::from(directory.len) / BLOCK + u64::from(directory.continuation_blocks))?;
            }
        }
        for file in &mut layout.files {
            if file.len > 0 {
                file.block = next.take(file.len.div_ceil(BLOCK))?;
            }
        }
        layout.place_boot(&mut next, catalog)?;
        layout.iso = iso;
        layout.joliet = joliet;
        Ok(layout)
    }

    fn check_texts(&self) -> Result<(), IsoError> {
        let texts = [
            ("volume identifier", self.volume_id, 1, VOLUME_ID_MAX),
            ("system identifier", self.system_id, 0, 32),
            ("volume set identifier", self.volume_set_id, 0, 128),
            ("publisher", self.publisher, 0, 128),
            ("preparer", self.preparer, 0, 128),
            ("application", self.application, 0, 128),
        ];
        for (field, text, least, most) in texts {
            let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
            if !printable || text.len() < least || text.len() > most || text.trim() != text {
                return Err(IsoError::Text {
                    field,
                    text: text.to_owned(),
                    least,
                    most,
                });
            }
        }
        Ok(())
    }
}

/// Gives out blocks one after the other.
struct Blocks(u64);

impl Blocks {
    fn take(&mut self, count: u64) -> Result<u32, IsoError> {
        let first = self.0;
        self.0 += count;
        // The size of the volume must fit as well.
        if self.0 > u32::MAX.into() {
            return Err(IsoError::TooLarge {
                what: "blocks",
                value: self.0,
                most: u32::MAX.into(),
            });
        }
        Ok(first as u32)
    }

    fn align(&mut self, to: u64) -> Result<(), IsoError> {
        self.take(self.0.next_multiple_of(to) - self.0).map(drop)
    }
}

/// Numbers inodes in the order of the walk.
fn serials(tree: &Tree) -> HashMap<InodeId, u32> {
    let mut serials = HashMap::new();
    for entry in tree.walk() {
        let next = serials.len() as u32 + 1;
        serials.entry(entry.id).or_insert(next);
    }
    serials
}

fn files(tree: &Tree) -> Result<(Vec<Placed>, HashMap<InodeId, usize>), IsoError> {
    let mut files = Vec::new();
    let mut places = HashMap::new();
    for entry in tree.walk() {
        if let Some(content) = entry.inode.content()
            && !places.contains_key(&entry.id)
        {
            places.insert(entry.id, files.len());
            files.push(Placed {
                inode: entry.id,
                block: 0,
                len: content.len(),
            });
        }
    }
    Ok((files, places))
}

/// A directory record to be (ECMA-119, 9.1).
struct Record<'a> {
    identifier: &'a [u8],
    block: u32,
    len: u32,
    flags: u8,
    date: [u8; 7],
}

const FLAG_DIRECTORY: u8 = 2;
const FLAG_MULTI_EXTENT: u8 = 0x80;

impl Record<'_> {
    /// Bytes that are left for system use.
    fn room(&self) -> usize {
        RECORD_MAX - (RECORD_LEN + self.identifier.len()).next_multiple_of(2)
    }

    fn encode(&self, system_use: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0];
        bytes.extend_from_slice(&both_32(self.block));
        bytes.extend_from_slice(&both_32(self.len));
        bytes.extend_from_slice(&self.date);
        bytes.extend_from_slice(&[self.flags, 0, 0]);
        bytes.extend_from_slice(&both_16(1));
        bytes.push(self.identifier.len() as u8);
        bytes.extend_from_slice(self.identifier);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes.extend_from_slice(system_use);
        bytes.resize(bytes.len().next_multiple_of(2), 0);
        bytes[0] = bytes.len() as u8;
        bytes
    }
}

impl Layout<'_> {
    /// Bytes of the image.
    pub fn size(&self) -> u64 {
        u64::from(self.blocks) * BLOCK
    }

    /// The files with content, in the order in which they are stored.
    pub fn files(&self) -> &[Placed] {
        &self.files
    }

    /// The first block of the EFI system partition.
    pub fn esp_block(&self) -> Option<u32> {
        self.esp
    }

    /// The records of a directory and its continuation area, with what is known of places so far: the
    /// lengths do not depend on them.
    pub(super) fn encode(&self, hierarchy: &Hierarchy, index: usize) -> Result<(Vec<u8>, Vec<u8>), IsoError> {
        let tree = self.image.files;
        let directory = &hierarchy.directories[index];
        let parent = &hierarchy.directories[directory.parent];
        let mut area = Continuation::new(directory.block + directory.len / BLOCK as u32);
        let mut bytes = Vec::new();
        let rock_ridge = !hierarchy.joliet;

        for (identifier, of) in [(&[0u8], directory), (&[1], parent)] {
            let (metadata, _) = self.directory_metadata(of);
            let record = Record {
                identifier,
                block: of.block,
                len: of.len,
                flags: FLAG_DIRECTORY,
                date: date(metadata, &of.path)?,
            };
            let mut entries = Vec::new();
            if rock_ridge {
                let own = identifier == &[0];
                if own && index == 0 {
                    entries.push(rr::sp());
                }
                let real = match own {
                    true => of,
                    false => &hierarchy.directories[directory.real_parent],
                };
                entries.push(self.directory_px(tree, real));
                entries.push(rr::tf(date(self.directory_metadata(real).0, &real.path)?));
                if !own && directory.is_moved() {
                    entries.push(rr::pl(real.block));
                }
                if own && index == 0 {
                    entries.push(rr::er());
                }
            }
            let system_use = area.place(&entries, record.room());
            push_record(&mut bytes, &record.encode(&system_use));
        }

        for child in &directory.children {
            let path = || join(&directory.path, &child.name);
            match child.target {
                Target::Directory(at) => {
                    let of = &hierarchy.directories[at];
                    let record = Record {
                        identifier: &child.identifier,
                        block: of.block,
                        len: of.len,
                        flags: FLAG_DIRECTORY,
                        date: date(self.directory_metadata(of).0, &of.path)?,
                    };
                    let mut entries = Vec::new();
                    if rock_ridge {
                        entries.push(self.directory_px(tree, of));
                        entries.push(rr::tf(record.date));
                        if of.is_moved() {
                            entries.push(rr::re());
                        }
                        entries.extend(rr::nm(&child.name));
                    }
                    let system_use = area.place(&entries, record.room());
                    push_record(&mut bytes, &record.encode(&system_use));
                }
                Target::Moved(at) => {
                    let of = &hierarchy.directories[at];
                    let record = Record {
                        identifier: &child.identifier,
                        block: 0,
                        len: 0,
                        flags: 0,
                        date: date(self.directory_metadata(of).0, &of.path)?,
                    };
                    let mut entries =
                        vec![self.directory_px(tree, of), rr::tf(record.date), rr::cl(of.block)];
                    entries.extend(rr::nm(&child.name));
                    let system_use = area.place(&entries, record.room());
                    push_record(&mut bytes, &record.encode(&system_use));
                }
                Target::Node(inode) => {
                    let node = tree.inode(inode);
                    let date = date(&node.metadata, &path())?;
                    let mut entries = Vec::new();
                    if rock_ridge {
                        entries = self.node_entries(inode, node, date, &child.name, &path)?;
                    }
                    let file = self.places.get(&inode).map(|&place| &self.files[place]);
                    let (mut block, mut left) = file.map_or((0, 0), |file| (file.block, file.len));
                    loop {
                        let len = left.min(EXTENT_MAX);
                        left -= len;
                        let record = Record {
                            identifier: &child.identifier,
                            block,
                            len: len as u32,
                            flags: if left > 0 { FLAG_MULTI_EXTENT } else { 0 },
                            date,
                        };
                        let system_use = area.place(&entries, record.room());
                        push_record(&mut bytes, &record.encode(&system_use));
                        block += (len / BLOCK) as u32;
                        if left == 0 {
                            break;
                        }
                    }
                }
            }
        }
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
        Ok((bytes, area.into_bytes()))
    }

    fn node_entries(
        &self,
        inode: InodeId,
        node: &Inode,
        date: [u8; 7],
        name: &[u8],
        path: &dyn Fn() -> Vec<u8>,
    ) -> Result<Vec<Vec<u8>>, IsoError> {
        let metadata = &node.metadata;
        let serial = self.serials.get(&inode).copied().unwrap_or(0);
        let mut entries = vec![
            rr::px(
                node.mode().into(),
                node.names(),
                metadata.uid,
                metadata.gid,
                serial,
            ),
            rr::tf(date),
        ];
        match node.node() {
            Some(Node::CharDevice(device) | Node::BlockDevice(device)) => {
                let number = rr::pn(device.major, device.minor).ok_or_else(|| IsoError::Entry {
                    path: display(&path()),
                    reason: format!("the device number {}:{}", device.major, device.minor),
                })?;
                entries.push(number);
            }
            Some(Node::Symlink(target)) => {
                if target.is_empty() {
                    return Err(IsoError::Entry {
                        path: display(&path()),
                        reason: "a symbolic link without text".to_owned(),
                    });
                }
                entries.extend(rr::sl(target));
            }
            _ => {}
        }
        entries.extend(rr::nm(name));
        Ok(entries)
    }

    /// Metadata and serial number. The directory of moved directories has the root's.
    fn directory_metadata(&self, directory: &Directory) -> (&Metadata, u32) {
        let tree = self.image.files;
        match directory.inode {
            Some(inode) => (
                &tree.inode(inode).metadata,
                self.serials.get(&inode).copied().unwrap_or(0),
            ),
            None => (&tree.inode(tree.root()).metadata, self.serials.len() as u32 + 1),
        }
    }

    fn directory_px(&self, tree: &Tree, directory: &Directory) -> Vec<u8> {
        let (metadata, serial) = self.directory_metadata(directory);
        let entries = directory.inode.and_then(|inode| tree.inode(inode).entries());
        let below = entries.map_or(0, |entries| {
            entries
                .values()
                .filter(|&&child| tree.inode(child).is_directory())
                .count()
        });
        let mode = 0o040000 | u32::from(metadata.mode & 0o7777);
        rr::px(mode, 2 + below as u32, metadata.uid, metadata.gid, serial)
    }

    /// The EFI system partition, the boot catalog and the partition table, once the files have their places.
    fn place_boot(&mut self, next: &mut Blocks, catalog: Option<u32>) -> Result<(), IsoError> {
        let boot = &self.image.boot;
        let mut bootable = Vec::new();
        if let Some(bios) = &boot.bios {
            let (inode, block, filled) = self.bios_image(&bios.image)?;
            bootable.push(Bootable {
                platform: Platform::Bios,
                block,
                sectors: BIOS_SECTORS,
            });
            self.bios = Some((inode, filled));
        }
        let mut esp = None;
        if let Some(efi) = &boot.efi {
            if efi.esp.is_empty() || !efi.esp.len().is_multiple_of(512) {
                return Err(IsoError::Boot(format!(
                    "the EFI system partition has {} bytes, which are no whole sectors",
                    efi.esp.len()
                )));
            }
            next.align(ESP_ALIGN)?;
            let block = next.take(efi.esp.len().div_ceil(BLOCK))?;
            bootable.push(Bootable {
                platform: Platform::Efi,
                block,
                // What is too long for the field is told by 0, which UEFI takes for all of the rest.
                sectors: u16::try_from(efi.esp.len() / 512).unwrap_or(0),
            });
            self.esp = Some(block);
            esp = Some((block, efi.esp.len()));
        }
        if let Some(block) = catalog {
            self.catalog = Some((block, eltorito::catalog(&bootable)));
        }
        if let Some(hybrid) = &boot.hybrid {
            let filler = Guid::from_bytes([0xff; 16]);
            let entry_sectors = Table::new(filler, 512, 0).entry_sectors();
            next.align(ESP_ALIGN)?;
            next.take((entry_sectors + 1).div_ceil(SECTORS).next_multiple_of(ESP_ALIGN))?;
            let mut table = Table::new(hybrid.disk, 512, next.0 * SECTORS);
            table.first_usable = IMAGE_PARTITION;
            let last = match esp {
                Some((block, _)) => u64::from(block) * SECTORS - 1,
                None => table.last_usable(),
            };
            table.partitions.push(gpt::Partition {
                number: 1,
                kind: Guid::BASIC_DATA,
                guid: hybrid.image_partition,
                first: IMAGE_PARTITION,
                last,
                attributes: gpt::READ_ONLY,
                name: "ISO9660".to_owned(),
            });
            if let Some((block, len)) = esp {
                let first = u64::from(block) * SECTORS;
                table.partitions.push(gpt::Partition {
                    number: 2,
                    kind: Guid::EFI_SYSTEM,
                    guid: hybrid.esp_partition,
                    first,
                    last: first + len / 512 - 1,
                    attributes: 0,
                    name: "EFI system".to_owned(),
                });
            }
            table.check()?;
            let mut mbr = Mbr::protective(table.sectors);
            mbr.signature = hybrid.signature;
            if let Some(code) = &hybrid.code {
                let Some(image) = bootable.iter().find(|image| image.platform == Platform::Bios) else {
                    return Err(IsoError::Boot(
                        "boot code in the MBR starts the El Torito image for BIOS, and there is none"
                            .to_owned(),
                    ));
                };
                mbr.code = *code;
                eltorito::fill_in_hybrid(&mut mbr.code, image.block);
                mbr.add_active_placeholder();
            }
            self.table = Some((mbr, table));
        }
        next.align(ESP_ALIGN)?;
        self.blocks = next.0 as u32;
        Ok(())
    }

    fn bios_image(&self, path: &[u8]) -> Result<(InodeId, u32, Vec<u8>), IsoError> {
        let tree = self.image.files;
        let refuse =
            |reason: String| IsoError::Boot(format!("the El Torito image {}: {reason}", display(path)));
        let inode = tree
            .resolve(path, Follow::All)
            .map_err(|error| refuse(error.to_string()))?;
        let content: &Content = tree
            .inode(inode)
            .content()
            .ok_or_else(|| refuse("is not a regular file".to_owned()))?;
        // A BIOS cannot load more than this below 1 MiB anyway.
        if content.len() < GRUB_INFO.end as u64 || content.len() > 32 << 20 {
            return Err(refuse(format!(
                "{} bytes are no image made by grub-mkimage for i386-pc-eltorito",
                content.len()
            )));
        }
        let block = self
            .places
            .get(&inode)
            .map_or(0, |&place| self.files[place].block);
        let mut filled = content.bytes().to_vec();
        eltorito::fill_in(&mut filled, block, DESCRIPTORS);
        Ok((inode, block, filled))
    }
}

fn date(metadata: &Metadata, path: &[u8]) -> Result<[u8; 7], IsoError> {
    record_date(metadata.mtime).ok_or_else(|| IsoError::Entry {
        path: display(path),
        reason: format!(
            "its time of modification, {} s, is not in the years 1900 to 2155",
            metadata.mtime.seconds
        ),
    })
}

/// Records do not cross blocks.
fn push_record(bytes: &mut Vec<u8>, record: &[u8]) {
    let in_block = bytes.len() % BLOCK as usize;
    if in_block + record.len() > BLOCK as usize {
        bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
    }
    bytes.extend_from_slice(record);
}
