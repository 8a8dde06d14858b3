//! The parts of a disk, each with its content, as a layout of `lycia_media`.

use std::collections::BTreeSet;

use lycia_boot::grub as images;
use lycia_media::disk::{self, Content, Layout, Partition, Plan, Raw, Shown, Table};
use lycia_media::partition::Guid;
use lycia_media::{ext4, fat};
use lycia_tree::{Content as Bytes, Follow, Metadata, Timestamp, Tree};

use super::identity::Identity;
use crate::definition::platform::{Disk, FileSystem, Loader, Size, TableName};
use crate::error::{Context as _, Error, Explain as _, Kind, Result};

/// What is put on a disk.
pub struct Contents {
    /// Trees of the partitions that have file systems, in the platform's order.
    pub trees: Vec<Option<Tree>>,
    /// GRUB's core image is for here.
    pub core: Option<Place>,
    /// Payloads of the platform, and GRUB's core image where an MBR has no partition for it.
    pub raw: Vec<(String, u64, Option<u64>, Bytes)>,
    /// Bytes of the core image, in its partition.
    pub core_image: Option<Bytes>,
    /// Code of the first sector.
    pub boot_code: Vec<u8>,
}

/// Where GRUB's core image lies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// On the partition of this index.
    Partition(usize),
    /// Behind the MBR.
    Gap,
}

/// Copies what the platform wants on the root itself, and says where the copies are.
///
/// # Errors
/// When a file that the platform names is not there, or something else is where it goes.
pub fn copy_own(disk: &Disk, tree: &mut Tree, time: Timestamp) -> Result<BTreeSet<Vec<u8>>> {
    let partition = &disk.platform.partitions[disk.platform.root];
    let mut copied = BTreeSet::new();
    for one in &partition.files {
        let content = file(tree, &one.from).context(|| format!("the partition {}", partition.name))?;
        put(tree, &one.to, content, time)?;
        let canonical = tree.canonical(one.to.as_bytes(), Follow::All);
        copied.insert(canonical.explain(Kind::Target, || format!("writing /{} of a partition", one.to))?);
    }
    Ok(copied)
}

/// Divides `tree` into what each partition gets. The root keeps empty directories where others are mounted.
///
/// # Errors
/// When a file that the platform names is not there.
pub fn divide(disk: &Disk, mut tree: Tree, time: Timestamp) -> Result<Contents> {
    let platform = &disk.platform;
    let mut trees: Vec<Option<Tree>> = platform.partitions.iter().map(|_| None).collect();
    let mut raw = Vec::new();
    for one in &platform.raw {
        let content = file(&tree, &one.file).context(|| format!("the payload {}", one.name))?;
        raw.push((one.name.clone(), one.offset, one.room, content));
    }
    // Before anything moves.
    let mut copies = Vec::new();
    for partition in &platform.partitions {
        // The root has its own already.
        let own = partition.mount.as_deref() == Some("");
        let files = partition.files.iter().filter(|_| !own);
        let contents = files.map(|copied| file(&tree, &copied.from));
        copies.push(
            contents
                .collect::<Result<Vec<_>>>()
                .context(|| format!("the partition {}", partition.name))?,
        );
    }
    // The innermost first: what it takes is gone when the outer one is looked at.
    let mut order: Vec<usize> = (0..platform.partitions.len())
        .filter(|&index| platform.partitions[index].file_system != FileSystem::None && index != platform.root)
        .collect();
    order.sort_by_key(|&index| {
        std::cmp::Reverse(platform.partitions[index].mount.as_ref().map_or(0, String::len))
    });
    for index in order {
        let partition = &platform.partitions[index];
        let mut own = match &partition.mount {
            Some(mount) => take(&mut tree, mount, time).explain(Kind::Target, || {
                format!("taking /{mount} for the partition {}", partition.name)
            })?,
            None => Tree::new(Metadata::new(0o755, time)),
        };
        for (copied, content) in partition.files.iter().zip(&copies[index]) {
            put(&mut own, &copied.to, content.clone(), time)?;
        }
        trees[index] = Some(own);
    }
    trees[platform.root] = Some(tree);
    let core = platform
        .partitions
        .iter()
        .position(|one| one.kind == Guid::BIOS_BOOT)
        .map(Place::Partition)
        .or((platform.table == TableName::Mbr).then_some(Place::Gap))
        .filter(|_| platform.loader == Loader::Grub);
    Ok(Contents {
        trees,
        core,
        raw,
        core_image: None,
        boot_code: Vec::new(),
    })
}

/// Puts a file at a path.
///
/// # Errors
/// When something else is there.
pub fn put(tree: &mut Tree, path: &str, content: Bytes, time: Timestamp) -> Result<()> {
    let doing = || format!("writing /{path} of a partition");
    if let Some(at) = path.rfind('/') {
        tree.make_directories(&path.as_bytes()[..at], Metadata::new(0o755, time))
            .explain(Kind::Target, doing)?;
    }
    tree.write(path.as_bytes(), Metadata::new(0o644, time), content)
        .map(drop)
        .explain(Kind::Target, doing)
}

fn file(tree: &Tree, path: &str) -> Result<Bytes> {
    let id = tree
        .find(path.as_bytes(), Follow::All)
        .explain(Kind::Target, || format!("reading /{path} of the root"))?;
    id.and_then(|id| tree.inode(id).content().cloned())
        .ok_or_else(|| {
            Error::new(Kind::Target, format!("the root has no file /{path}"))
                .hint("add the package that has it to the definition")
        })
}

/// Moves what is below a directory to a tree of its own; the directory stays.
fn take(tree: &mut Tree, path: &str, time: Timestamp) -> std::result::Result<Tree, lycia_tree::TreeError> {
    let id = tree.resolve(path.as_bytes(), Follow::All)?;
    let mut own = Tree::new(tree.inode(id).metadata.clone());
    let entries: Vec<_> = tree
        .walk_from(b"", id)
        .map(|entry| (entry.path, entry.id))
        .collect();
    let mut first = std::collections::HashMap::new();
    for (place, id) in entries {
        let inode = tree.inode(id).clone();
        if place.iter().all(|&byte| byte == b'/') {
            continue;
        }
        match inode.node() {
            None => drop(own.make_directory(&place, inode.metadata.clone())?),
            Some(node) => match first.get(&id) {
                Some(&other) => own.link(other, &place)?,
                None => {
                    let made = own.insert(&place, inode.metadata.clone(), node.clone())?;
                    first.insert(id, made);
                }
            },
        }
    }
    let names: Vec<Vec<u8>> = tree
        .inode(id)
        .entries()
        .into_iter()
        .flatten()
        .map(|(name, _)| name.clone())
        .collect();
    for name in names {
        tree.remove_all(&[path.as_bytes(), b"/", &name].concat())?;
    }
    tree.metadata_mut(id).mtime = time;
    Ok(own)
}

fn fat_volume(disk: &Disk, identity: &Identity, index: usize, time: Timestamp) -> fat::Volume {
    let partition = &disk.platform.partitions[index];
    fat::Volume {
        label: (!partition.label.is_empty()).then(|| partition.label.clone()),
        serial: identity.serial(disk, index),
        time,
        width: match partition.file_system {
            FileSystem::Fat(width) => width,
            _ => None,
        },
        size: 0,
    }
}

fn ext4_volume(disk: &Disk, identity: &Identity, index: usize, time: Timestamp) -> ext4::Volume {
    let partition = &disk.platform.partitions[index];
    ext4::Volume {
        label: partition.label.as_bytes().to_vec(),
        sector_size: disk.platform.sector_size,
        journal: match partition.file_system {
            FileSystem::Ext4(false) => ext4::Journal::None,
            _ => ext4::Journal::BySize,
        },
        ..ext4::Volume::new(0, identity.volume(disk, index), time)
    }
}

/// The layout of a disk with `contents`. Sizes that follow from content are computed here.
///
/// # Errors
/// When a tree does not fit its file system.
pub fn layout<'l>(
    disk: &'l Disk,
    identity: &Identity,
    contents: &'l Contents,
    sizes: &[u64],
    time: Timestamp,
) -> Layout<'l> {
    let platform = &disk.platform;
    let mut layout = Layout::new(identity.disk);
    layout.size = disk.size;
    layout.sector_size = platform.sector_size;
    layout.alignment = platform.alignment;
    layout.first_usable = platform.first_usable;
    layout.boot_code = &contents.boot_code;
    let number = |index: usize| platform.partitions[index].number.unwrap_or(index as u32 + 1);
    layout.table = match platform.table {
        TableName::Gpt => Table::Gpt {
            active_placeholder: platform.active_placeholder,
        },
        TableName::Mbr => Table::Mbr,
        TableName::Hybrid => Table::Hybrid(
            platform
                .shown
                .iter()
                .map(|&(index, kind, active)| Shown {
                    number: number(index),
                    kind,
                    active,
                })
                .collect(),
        ),
    };
    // An MBR that says nothing of its own has no signature.
    layout.signature = if platform.table == TableName::Gpt {
        0
    } else {
        identity.signature
    };
    for (index, one) in platform.partitions.iter().enumerate() {
        let content = match (&contents.trees[index], one.file_system) {
            (Some(tree), FileSystem::Ext4(_)) => Content::Ext4 {
                tree,
                volume: ext4_volume(disk, identity, index, time),
            },
            (Some(tree), FileSystem::Fat(_)) => Content::Fat {
                tree,
                volume: fat_volume(disk, identity, index, time),
            },
            _ => match &contents.core_image {
                Some(image) if contents.core == Some(Place::Partition(index)) => {
                    Content::Bytes(image.clone())
                }
                _ => Content::Empty,
            },
        };
        layout.partitions.push(Partition {
            number: Some(number(index)),
            kind: one.kind,
            mbr_kind: one.mbr_kind,
            guid: identity.partition(disk, index),
            name: one.name.clone(),
            attributes: one.attributes,
            active: one.active,
            start: one.start,
            size: match one.size {
                Size::Bytes(bytes) => disk::Size::Bytes(bytes),
                Size::Rest => disk::Size::Rest,
                Size::Content(_) => disk::Size::Bytes(sizes[index]),
            },
            content,
        });
    }
    for (name, offset, room, bytes) in &contents.raw {
        layout.raw.push(Raw {
            name,
            offset: *offset,
            bytes: bytes.clone(),
            room: *room,
        });
    }
    layout
}

/// Bytes of each partition whose content decides; 0 for the others.
///
/// # Errors
/// When a tree does not fit its file system.
pub fn sizes(disk: &Disk, identity: &Identity, contents: &Contents, time: Timestamp) -> Result<Vec<u64>> {
    let mut sizes = Vec::new();
    for (index, one) in disk.platform.partitions.iter().enumerate() {
        let size = match (one.size, &contents.trees[index]) {
            (Size::Content(slack), Some(tree)) => match one.file_system {
                FileSystem::Ext4(_) => {
                    ext4::fitting_size(tree, &ext4_volume(disk, identity, index, time), slack)
                        .explain(Kind::Target, || format!("sizing the partition {}", one.name))?
                }
                FileSystem::Fat(width) => fat::fitting_size(tree, width, disk.platform.sector_size, slack),
                FileSystem::None => 0,
            },
            _ => 0,
        };
        sizes.push(size);
    }
    Ok(sizes)
}

/// The first byte of GRUB's core image.
///
/// # Errors
/// When the disk cannot be laid out.
pub fn core_start(layout: &Layout<'_>, place: Place) -> Result<u64> {
    match place {
        Place::Gap => Ok(images::SECTOR as u64),
        Place::Partition(index) => {
            // Where partitions lie does not depend on what is on them.
            let mut empty = layout.clone();
            for partition in &mut empty.partitions {
                partition.content = Content::Empty;
            }
            empty.raw.clear();
            let plan = Plan::new(&empty).explain(Kind::Input, || "laying out the disk".to_owned())?;
            plan.partitions()
                .iter()
                .find(|placed| placed.index == index)
                .map(|placed| placed.bytes.start)
                .ok_or_else(|| Error::new(Kind::Internal, "a partition has no place"))
        }
    }
}
