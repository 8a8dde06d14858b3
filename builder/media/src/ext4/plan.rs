//! Laying a tree out: what needs how many blocks, and where these are.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use lycia_tree::{InodeId, Node, Tree, display};

use super::checksum::Sums;
use super::extents::{self, Extent};
use super::geometry::{Geometry, Misfit, Wanted};
use super::inode::XATTRS_ROOM;
use super::superblock::{FIRST_INODE, ROOT};
use super::{Ext4Error, Inodes, Journal, LABEL_MAX, LINK_MAX, Volume, directory, inode, superblock, xattr};

pub(super) const LOST_FOUND: &[u8] = b"lost+found";
/// Bytes of `lost+found`, which must have room before anything is lost.
const LOST_FOUND_LEN: u64 = 16 << 10;
/// No block of attributes.
pub(super) const NO_BLOCK: u32 = u32::MAX;

/// What an inode needs.
pub(super) struct Needed {
    /// `None` for `lost+found` where the tree has none.
    pub(super) source: Option<InodeId>,
    /// The inode of the directory above, of a directory.
    pub(super) parent: u32,
    pub(super) links: u16,
    pub(super) size: u64,
    /// Blocks of content.
    pub(super) blocks: u64,
    /// Which of [`Demand::shared`] holds its attributes, or [`NO_BLOCK`].
    pub(super) xattrs: u32,
}

/// A block of attributes.
pub(super) struct Shared {
    /// An inode that has it, as an index into [`Demand::inodes`].
    pub(super) owner: u32,
    pub(super) references: u32,
}

/// What a tree needs on a volume of whatever size.
pub(super) struct Demand {
    /// The root, `lost+found`, then the rest in the order of the tree.
    pub(super) inodes: Vec<Needed>,
    /// Inode numbers by [`InodeId::index`]; 0 for those without.
    pub(super) numbers: Vec<u32>,
    pub(super) shared: Vec<Shared>,
    /// Blocks of contents and attributes.
    blocks: u64,
}

/// The number of the inode at `index` of [`Demand::inodes`].
pub(super) fn number(index: usize) -> u32 {
    match index {
        0 => ROOT,
        index => FIRST_INODE - 1 + index as u32,
    }
}

pub(super) fn directory_settings(volume: &Volume) -> directory::Settings {
    directory::Settings {
        block_size: volume.block_size.bytes(),
        checksums: volume.checksums,
        hash_seed: superblock::hash_seed(volume),
    }
}

/// Names and inodes of a directory's entries in byte order; `lost+found` (`None`) is added to the root's.
pub(super) fn entries(tree: &Tree, directory: InodeId) -> Vec<(&[u8], Option<InodeId>)> {
    let mut found: Vec<(&[u8], Option<InodeId>)> = Vec::new();
    if let Some(entries) = tree.inode(directory).entries() {
        found.extend(entries.iter().map(|(name, &id)| (name.as_slice(), Some(id))));
    }
    if directory == tree.root()
        && let Err(at) = found.binary_search_by_key(&LOST_FOUND, |entry| entry.0)
    {
        found.insert(at, (LOST_FOUND, None));
    }
    found
}

impl Demand {
    fn of(tree: &Tree, volume: &Volume) -> Result<Demand, Ext4Error> {
        let block_size = u64::from(volume.block_size.bytes());
        let settings = directory_settings(volume);
        let lost_found = tree.child(tree.root(), LOST_FOUND);
        let mut demand = Demand {
            inodes: Vec::new(),
            numbers: vec![0; tree.inode_count()],
            shared: Vec::new(),
            blocks: 0,
        };
        let mut blocks_of_xattrs: HashMap<Vec<u8>, u32> = HashMap::new();
        let first = std::iter::once((b"/".to_vec(), Some(tree.root())))
            .chain(std::iter::once((b"/lost+found".to_vec(), lost_found)));
        let rest = tree
            .walk()
            .skip(1)
            .filter(|entry| Some(entry.id) != lost_found)
            .map(|entry| (entry.path, Some(entry.id)));
        for (path, id) in first.chain(rest) {
            let refuse = |reason: String| Ext4Error::Entry {
                path: display(&path),
                reason,
            };
            let Some(id) = id else {
                let size = LOST_FOUND_LEN.max(2 * block_size);
                demand.push(Needed {
                    source: None,
                    parent: ROOT,
                    links: 2,
                    size,
                    blocks: size / block_size,
                    xattrs: NO_BLOCK,
                });
                continue;
            };
            if demand.numbers[id.index()] != 0 {
                continue;
            }
            let index = demand.inodes.len();
            if index as u64 + 16 > u64::from(u32::MAX) {
                return Err(refuse("there are more than 2^32 inodes".to_owned()));
            }
            demand.numbers[id.index()] = number(index);
            let mut needed =
                need(tree, id, &demand.numbers, settings, lost_found.is_none()).map_err(refuse)?;
            if Some(id) == lost_found && !tree.inode(id).is_directory() {
                return Err(refuse("ext4 needs a directory of this name".to_owned()));
            }
            if let Some((_, size)) = volume.enlarged.iter().find(|(enlarged, _)| *enlarged == id) {
                needed.size = needed.size.max(*size);
                needed.blocks = needed.size.div_ceil(block_size);
                if tree.inode(id).content().is_none() || needed.blocks > u64::from(u32::MAX) {
                    return Err(refuse(format!("it cannot be a file of {size} bytes")));
                }
            }
            let metadata = &tree.inode(id).metadata;
            let encoded =
                xattr::encode(&metadata.xattrs, XATTRS_ROOM, settings.block_size).map_err(refuse)?;
            if let Some(block) = encoded.block {
                let known = blocks_of_xattrs
                    .get(&block)
                    .copied()
                    .filter(|&known| demand.shared[known as usize].references < xattr::MOST_REFERENCES);
                needed.xattrs = known.unwrap_or_else(|| {
                    demand.shared.push(Shared {
                        owner: index as u32,
                        references: 0,
                    });
                    demand.blocks += 1;
                    let new = demand.shared.len() as u32 - 1;
                    blocks_of_xattrs.insert(block, new);
                    new
                });
                demand.shared[needed.xattrs as usize].references += 1;
            }
            demand.push(needed);
        }
        Ok(demand)
    }

    fn push(&mut self, needed: Needed) {
        self.blocks += needed.blocks;
        self.inodes.push(needed);
    }

    /// The highest inode number.
    pub(super) fn last_inode(&self) -> u32 {
        number(self.inodes.len() - 1)
    }
}

/// What the inode `id` needs, but for extended attributes.
fn need(
    tree: &Tree,
    id: InodeId,
    numbers: &[u32],
    settings: directory::Settings,
    adds_lost_found: bool,
) -> Result<Needed, String> {
    let inode = tree.inode(id);
    if inode::time(inode.metadata.mtime).is_none() {
        return Err(format!(
            "its time, {} s and {} ns after 1970, is outside of ext4's range, 1901 to 2310",
            inode.metadata.mtime.seconds, inode.metadata.mtime.nanoseconds
        ));
    }
    let block_size = u64::from(settings.block_size);
    let mut needed = Needed {
        source: Some(id),
        parent: 0,
        links: inode.names() as u16,
        size: 0,
        blocks: 0,
        xattrs: NO_BLOCK,
    };
    if let lycia_tree::Kind::Directory { entries: own, parent } = inode.kind() {
        let added = u32::from(adds_lost_found && id == tree.root());
        let below = own
            .values()
            .filter(|&&child| tree.inode(child).is_directory())
            .count() as u32
            + added;
        // Linux stops counting there.
        needed.links = if below + 2 > LINK_MAX { 1 } else { below as u16 + 2 };
        needed.parent = numbers[parent.index()];
        let entries = entries(tree, id);
        let names = entries.iter().map(|entry| entry.0);
        needed.blocks = directory::arrange(names, settings)?.blocks();
        needed.size = needed.blocks * block_size;
        return Ok(needed);
    }
    if inode.names() > LINK_MAX {
        return Err(format!("it has {} names; {LINK_MAX} are the most", inode.names()));
    }
    match inode.node() {
        Some(Node::Regular(content)) => {
            needed.size = content.len();
            needed.blocks = content.len().div_ceil(block_size);
            if needed.blocks > u64::from(u32::MAX) {
                return Err(format!("{} bytes are more than a file can have", content.len()));
            }
        }
        Some(Node::Symlink(target)) => {
            needed.size = target.len() as u64;
            if target.is_empty() {
                return Err("a symbolic link without text".to_owned());
            }
            if needed.size >= block_size {
                return Err(format!(
                    "a symbolic link of {} bytes does not fit into a block of {block_size}",
                    target.len()
                ));
            }
            needed.blocks = u64::from(target.len() >= 60);
        }
        Some(Node::CharDevice(device) | Node::BlockDevice(device)) if inode::device(*device).is_none() => {
            return Err(format!(
                "the device number {}:{} is beyond 4095:1048575",
                device.major, device.minor
            ));
        }
        _ => {}
    }
    Ok(needed)
}

/// Blocks in the order of their numbers.
struct Allocator {
    free: Vec<Range<u64>>,
    /// The first range that is not used up.
    at: usize,
}

impl Allocator {
    fn left(&self) -> u64 {
        self.free[self.at..]
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }

    /// Adds `blocks` blocks to a file as extents.
    fn take(&mut self, blocks: u64, extents: &mut Vec<Extent>) -> Option<()> {
        let mut logical = 0;
        while logical < blocks {
            let range = self.free.get_mut(self.at)?;
            let len = (range.end - range.start)
                .min(blocks - logical)
                .min(extents::LONGEST);
            extents.push(Extent {
                logical: logical as u32,
                physical: range.start,
                len: len as u32,
            });
            range.start += len;
            logical += len;
            if range.is_empty() {
                self.at += 1;
            }
        }
        Some(())
    }

    fn take_one(&mut self) -> Option<u64> {
        let mut extents = Vec::with_capacity(1);
        self.take(1, &mut extents)?;
        extents.first().map(|extent| extent.physical)
    }
}

/// Where the blocks of an inode are.
#[derive(Clone, Default)]
pub(super) struct Placement {
    /// Its part of [`Plan::extents`].
    pub(super) extents: Range<usize>,
    /// Blocks of the extent tree.
    pub(super) index: Box<[u64]>,
}

/// A volume laid out: every byte of it is settled.
pub struct Plan<'t> {
    pub(super) tree: &'t Tree,
    pub(super) volume: Volume,
    pub(super) geometry: Geometry,
    pub(super) demand: Arc<Demand>,
    pub(super) extents: Vec<Extent>,
    /// As [`Demand::inodes`].
    pub(super) placements: Vec<Placement>,
    /// As [`Demand::shared`].
    pub(super) shared: Vec<u64>,
    pub(super) journal: Option<(Placement, u32)>,
    /// The block that the resize inode names.
    pub(super) growth: Option<u64>,
    /// What is left free.
    pub(super) free: Vec<Range<u64>>,
}

impl<'t> Plan<'t> {
    /// Lays `tree` out on `volume`.
    ///
    /// # Errors
    /// When a setting or an entry does not fit ext4, or everything does not fit the size.
    pub fn new(tree: &'t Tree, volume: &Volume) -> Result<Plan<'t>, Ext4Error> {
        check(volume)?;
        Plan::with(tree, volume, Arc::new(Demand::of(tree, volume)?))
    }

    /// The same with what the tree needs.
    fn with(tree: &'t Tree, volume: &Volume, demand: Arc<Demand>) -> Result<Plan<'t>, Ext4Error> {
        let block_size = volume.block_size.bytes();
        let space = |blocks: u64| Ext4Error::Space {
            size: volume.size,
            missing: blocks * u64::from(block_size),
        };
        let wanted = Wanted {
            blocks: volume.size / u64::from(block_size),
            block_size,
            inodes: inodes(volume, &demand),
            least_inodes: demand.last_inode().into(),
            descriptor: if volume.wide { 64 } else { 32 },
            growth: volume.growth,
        };
        let geometry = match Geometry::compute(wanted) {
            Ok(geometry) => geometry,
            Err(Misfit::Small(blocks)) => return Err(space(blocks)),
            Err(Misfit::Never(reason)) => {
                let size = volume.size;
                return Err(Ext4Error::Setting { size, reason });
            }
        };
        let journal = journal_blocks(volume, geometry.blocks);
        let mut allocator = Allocator {
            free: geometry.free.clone(),
            at: 0,
        };
        let growth = geometry.growth;
        let needed = demand.blocks + u64::from(journal) + u64::from(growth);
        let free = allocator.left();
        if needed > free {
            return Err(space(needed - free));
        }
        let mut plan = Plan {
            tree,
            volume: volume.clone(),
            geometry,
            demand,
            extents: Vec::new(),
            placements: Vec::new(),
            shared: Vec::new(),
            journal: None,
            growth: None,
            free: Vec::new(),
        };
        match plan.allocate(&mut allocator, journal, growth) {
            Some(()) => {
                plan.free = allocator.free.split_off(allocator.at);
                Ok(plan)
            }
            // Blocks of extent trees made the difference.
            None => Err(space(16)),
        }
    }

    /// Directories and attributes come first, so that a walk through the tree reads few places.
    fn allocate(&mut self, allocator: &mut Allocator, journal: u32, growth: bool) -> Option<()> {
        if growth {
            self.growth = Some(allocator.take_one()?);
        }
        self.placements = vec![Placement::default(); self.demand.inodes.len()];
        for directories in [true, false] {
            for at in 0..self.demand.inodes.len() {
                let needed = &self.demand.inodes[at];
                let is_directory = needed.source.is_none_or(|id| self.tree.inode(id).is_directory());
                if is_directory == directories && needed.blocks > 0 {
                    let blocks = needed.blocks;
                    self.placements[at] = self.file(allocator, blocks)?;
                }
            }
            if directories {
                for _ in 0..self.demand.shared.len() {
                    self.shared.push(allocator.take_one()?);
                }
                if journal > 0 {
                    self.journal = Some((self.file(allocator, journal.into())?, journal));
                }
            }
        }
        Some(())
    }

    fn file(&mut self, allocator: &mut Allocator, blocks: u64) -> Option<Placement> {
        let start = self.extents.len();
        allocator.take(blocks, &mut self.extents)?;
        let extents = start..self.extents.len();
        let index = extents::index_blocks(extents.len(), self.geometry.block_size);
        let index = (0..index).map(|_| allocator.take_one()).collect::<Option<_>>()?;
        Some(Placement { extents, index })
    }

    /// Bytes that the volume takes of its place; less than asked for by what is no whole block or group.
    pub fn size(&self) -> u64 {
        self.geometry.blocks * u64::from(self.geometry.block_size)
    }

    /// Bytes left for everybody, without what is reserved for root.
    pub fn available(&self) -> u64 {
        let left = self.free_blocks().saturating_sub(self.reserved_blocks());
        left * u64::from(self.geometry.block_size)
    }

    /// Inodes left.
    pub fn free_inodes(&self) -> u32 {
        self.geometry.inodes_per_group * self.geometry.groups - self.demand.last_inode()
    }

    pub(super) fn free_blocks(&self) -> u64 {
        self.free.iter().map(|range| range.end - range.start).sum()
    }

    pub(super) fn reserved_blocks(&self) -> u64 {
        self.geometry.blocks / 1000 * u64::from(self.volume.reserved_per_mille)
    }

    pub(super) fn sums(&self) -> Sums {
        Sums::new(&self.volume.uuid.to_bytes(), self.volume.checksums)
    }
}

fn check(volume: &Volume) -> Result<(), Ext4Error> {
    let refuse = |reason: String| {
        Err(Ext4Error::Setting {
            size: volume.size,
            reason,
        })
    };
    if !matches!(volume.sector_size, 512 | 4096) {
        return refuse(format!(
            "sectors have 512 or 4096 bytes, not {}",
            volume.sector_size
        ));
    }
    if volume.block_size.bytes() < volume.sector_size {
        return refuse(format!(
            "blocks of {} bytes are smaller than the sectors of {}, which Linux does not mount",
            volume.block_size.bytes(),
            volume.sector_size
        ));
    }
    if volume.label.len() > LABEL_MAX || volume.label.contains(&0) {
        return refuse(format!(
            "the label `{}` has {} bytes; {LABEL_MAX} without NUL are the most",
            display(&volume.label),
            volume.label.len()
        ));
    }
    if volume.reserved_per_mille > 500 {
        return refuse(format!(
            "{} thousandths reserved; 500 are the most",
            volume.reserved_per_mille
        ));
    }
    if inode::time(volume.time).is_none() {
        return refuse("its time is outside of ext4's range, 1901 to 2310".to_owned());
    }
    match volume.journal {
        Journal::Blocks(blocks) if !(1024..=10_240_000).contains(&blocks) => {
            return refuse(format!(
                "a journal of {blocks} blocks; 1024 to 10,240,000 are possible"
            ));
        }
        _ => {}
    }
    match volume.inodes {
        Inodes::PerBytes(bytes) if !(1024..=64 << 20).contains(&bytes) => refuse(format!(
            "one inode per {bytes} bytes; 1024 to 67,108,864 are possible"
        )),
        _ => Ok(()),
    }
}

fn inodes(volume: &Volume, demand: &Demand) -> u64 {
    let wanted = match volume.inodes {
        Inodes::BySize if volume.size < 512 << 20 => volume.size / 4096,
        Inodes::BySize => volume.size / 16384,
        Inodes::PerBytes(bytes) => volume.size / u64::from(bytes),
        Inodes::Count(count) => count.into(),
    };
    let used = u64::from(demand.last_inode());
    wanted
        .min(u64::from(u32::MAX) - (1 << 20))
        .max(used + used / 16 + 16)
}

fn journal_blocks(volume: &Volume, blocks: u64) -> u32 {
    match volume.journal {
        Journal::None => 0,
        Journal::Blocks(blocks) => blocks,
        Journal::BySize => match blocks {
            0..2048 => 0,
            2048..32_768 => 1024,
            32_768..262_144 => 4096,
            262_144..524_288 => 8192,
            524_288..4_194_304 => 16_384,
            4_194_304..8_388_608 => 32_768,
            8_388_608..16_777_216 => 65_536,
            16_777_216..33_554_432 => 131_072,
            _ => 262_144,
        },
    }
}

/// A size, a multiple of 1 MiB, of a volume like `volume` that holds `tree` and leaves `spare` bytes to everybody: the
/// least, or at most a 64th more. `volume.size` is not looked at.
///
/// # Errors
/// When a setting or an entry does not fit ext4.
pub fn fitting_size(tree: &Tree, volume: &Volume, spare: u64) -> Result<u64, Ext4Error> {
    const STEP: u64 = 1 << 20;
    check(volume)?;
    let demand = Arc::new(Demand::of(tree, volume)?);
    let mut volume = volume.clone();
    let content = demand.blocks * u64::from(volume.block_size.bytes());
    // The largest size that is known to be too small, and the first that does.
    let mut low = 0;
    let mut size = content.saturating_add(spare).max(STEP).next_multiple_of(STEP);
    let mut fits = None;
    loop {
        volume.size = size;
        let missing = match Plan::with(tree, &volume, Arc::clone(&demand)) {
            Ok(plan) => spare.saturating_sub(plan.available()),
            Err(Ext4Error::Space { missing, .. }) => missing,
            Err(error) => return Err(error),
        };
        if missing == 0 {
            fits = Some(size);
        } else {
            low = size;
        }
        size = match fits {
            Some(fits) if fits - low <= STEP.max(fits / 64) => return Ok(fits),
            Some(fits) => (low + (fits - low) / 2).next_multiple_of(STEP),
            None => size
                .checked_add(missing.next_multiple_of(STEP))
                .ok_or_else(|| Ext4Error::Setting {
                    size,
                    reason: "a size beyond what 64 bits hold".to_owned(),
                })?,
        };
    }
}
