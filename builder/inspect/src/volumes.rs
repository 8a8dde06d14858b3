//! File systems: squashfs, ext4, FAT, EROFS.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Cursor, Write};

use lycia_media::ext4::Kind;
use lycia_media::{erofs as ero, ext4 as ext, fat as vfat, squashfs as squash};
use lycia_tree::{Content, Timestamp, display};

use crate::cell::{Cell, Place, TOO_LONG};
use crate::report::{Item, Part};
use crate::sink::{self, Listing};
use crate::{boot, iso, root};

/// What a volume of these bytes has at most of them.
fn limits_of(cell: &Cell<'_>) -> u64 {
    cell.limits.content.saturating_sub(cell.spent)
}

const TOO_MUCH: &str = "more contents than are read; the rest was not checked";

/// squashfs.
pub fn squashfs(cell: &mut Cell<'_>, place: &Place, bytes: &Content, part: &mut Part) {
    let mut image = match squash::Image::open(Cursor::new(bytes.bytes())) {
        Ok(image) => image,
        Err(error) => return cell.cut(place, 0, error.to_string()),
    };
    let own = image.superblock().clone();
    part.fact("compressor", format!("{:?}", image.compressor()));
    part.fact("block-size", own.block_size);
    part.fact("inodes", own.inodes);
    part.fact("fragments", own.fragments);
    part.fact("made", own.mtime);
    part.fact("bytes-used", own.bytes_used);
    cell.region(place, 0, own.bytes_used, "data");
    cell.region(place, 0, 96, "superblock");
    let none = u64::MAX;
    let mut tables: Vec<(u64, &str)> = [
        (own.inode_table, "inode table"),
        (own.directory_table, "directory table"),
        (own.fragment_table, "fragment table"),
        (own.export_table, "export table"),
        (own.id_table, "owner table"),
        (own.xattr_table, "attribute table"),
        (own.bytes_used, ""),
    ]
    .into_iter()
    .filter(|&(at, _)| at != none && at <= own.bytes_used)
    .collect();
    tables.sort_unstable();
    for pair in tables.windows(2) {
        cell.region(place, pair[0].0, pair[1].0 - pair[0].0, pair[0].1);
    }
    cell.region(
        place,
        own.bytes_used,
        bytes.len() - own.bytes_used.min(bytes.len()),
        "padding",
    );
    let limits = squash::Limits {
        entries: cell.limits.entries,
        content_bytes: u64::MAX,
    };
    match image.check_structure(&limits) {
        Ok(report) => {
            for fault in report.faults {
                cell.fault(place, own.inode_table, fault);
            }
        }
        Err(error) => return cell.cut(place, 0, error.to_string()),
    }
    let entries = match image.entries(&limits) {
        Ok(entries) => entries,
        Err(error) => return cell.cut(place, own.inode_table, error.to_string()),
    };
    let mut listing = Listing::default();
    let mut first: HashMap<u64, (String, Option<Item>)> = HashMap::new();
    for entry in entries {
        let inode = &entry.inode;
        let time = Timestamp::from_seconds(i64::from(inode.mtime));
        let mut item = sink::item(&entry.path, "file", inode.mode, (inode.uid, inode.gid), time);
        match image.xattrs(inode) {
            Ok(xattrs) => item.xattrs = sink::xattrs(&xattrs),
            Err(error) => cell.fault(
                place,
                own.xattr_table.min(own.bytes_used),
                format!("{}: {error}", item.path),
            ),
        }
        match &inode.kind {
            squash::EntryKind::Directory(_) => item.kind = "directory",
            squash::EntryKind::Symlink(target) => {
                item.kind = "symlink";
                item.target = Some(display(target));
            }
            squash::EntryKind::CharDevice(device) => {
                item.kind = "char";
                item.device = sink::device(*device);
            }
            squash::EntryKind::BlockDevice(device) => {
                item.kind = "block";
                item.device = sink::device(*device);
            }
            squash::EntryKind::Fifo => item.kind = "fifo",
            squash::EntryKind::Socket => item.kind = "socket",
            squash::EntryKind::Regular(file) => item.size = Some(file.len),
        }
        if !cell.hold(&item) {
            cell.cut(place, own.inode_table, TOO_LONG);
            break;
        }
        match &inode.kind {
            squash::EntryKind::Regular(file) => {
                if let Some((_, Some(known))) = first.get(&entry.reference) {
                    item.sha256.clone_from(&known.sha256);
                    listing.items.push(item);
                    continue;
                }
                let stored = image.stored(file).unwrap_or_default();
                let at = stored[0].or(stored[1]).map_or(own.inode_table, |(at, _)| at);
                if let Some((at, len)) = stored[0] {
                    cell.region(place, at, len, &item.path);
                }
                if let Some((at, len)) = stored[1] {
                    cell.region(place, at, len, "fragment block");
                }
                if !cell.spend(file.len) {
                    cell.cut(place, at, TOO_MUCH);
                    break;
                }
                let mut taster = listing.taster(&item.path);
                match image.copy(file, &mut taster) {
                    Ok(()) => {
                        let path = item.path.clone();
                        listing.file(item, taster);
                        first.insert(entry.reference, (path, listing.items.last().cloned()));
                        continue;
                    }
                    Err(error) => cell.fault(place, at, format!("{}: {error}", item.path)),
                }
                listing.items.push(item);
            }
            _ => listing.items.push(item),
        }
    }
    finish(cell, place, listing, part);
}

/// ext4, and its ancestors.
pub fn ext4(cell: &mut Cell<'_>, place: &Place, bytes: &Content, part: &mut Part) {
    let limits = ext::Limits {
        entries: cell.limits.entries,
        bytes: limits_of(cell),
    };
    let mut reader = match ext::Reader::open(Cursor::new(bytes.bytes()), limits) {
        Ok(reader) => reader,
        // Whole it may be, nevertheless.
        Err(ext::ReadError::Unsupported(why)) => {
            cell.partial(place);
            return part.fact("not-read", why);
        }
        Err(error) => return cell.cut(place, 1024, error.to_string()),
    };
    let own = reader.summary().clone();
    if !own.extents {
        part.format = if own.journal { "ext3" } else { "ext2" }.to_owned();
    }
    part.fact("label", display(&own.label));
    part.fact("uuid", own.uuid.to_string());
    part.fact("block-size", own.block_size);
    part.fact("blocks", own.blocks);
    part.fact("free-blocks", own.free_blocks);
    part.fact("inodes", own.inodes);
    part.fact("free-inodes", own.free_inodes);
    part.fact("journal", own.journal);
    part.fact("metadata-checksums", own.checksums);
    part.fact("clean", own.clean);
    let size = own.blocks.saturating_mul(u64::from(own.block_size));
    cell.region(place, 0, size.min(bytes.len()), "blocks without a file");
    if size > bytes.len() {
        return cell.cut(
            place,
            1024,
            format!("the volume has {size} bytes, of which {} are there", bytes.len()),
        );
    }
    let allocation = match reader.allocation() {
        Ok(allocation) => allocation,
        Err(error) => {
            cell.fault(place, 1024, error.to_string());
            None
        }
    };
    let mut claims = Claims {
        allocation,
        block_size: u64::from(own.block_size),
        claimed: vec![0; (own.blocks as usize).div_ceil(64)],
    };
    match reader.groups() {
        Ok((areas, faults)) => {
            for (name, start, len) in areas {
                cell.region(place, start, len, name);
                claims.own(start, len);
            }
            for (at, what) in faults {
                cell.fault(place, at, what);
            }
        }
        Err(error) => cell.fault(place, 1024, error.to_string()),
    }
    if own.journal
        && let Ok(journal) = reader.inode(8)
    {
        let runs = reader.extents(&journal).unwrap_or_default();
        claims.file(cell, place, "journal", &runs);
    }
    let mut listing = Listing::default();
    // Whether all that has a name was met.
    let mut whole = true;
    let mut unread = 0u64;
    // Names that were met of each inode, what it says, and its entry.
    let mut names: HashMap<u32, (u32, u16, Option<Item>)> = HashMap::new();
    let mut visited = BTreeSet::new();
    let mut stack: Vec<(Vec<u8>, u32)> = vec![(b"/".to_vec(), 2)];
    let mut count = 0u64;
    let mut held = cell.room();
    while let Some((path, number)) = stack.pop() {
        let shown = display(&path);
        let inode_at = reader.inode_place(number).unwrap_or(1024);
        if let Some((met, _, Some(known))) = names.get_mut(&number) {
            *met += 1;
            let mut item = known.clone();
            item.path = shown;
            if !cell.hold(&item) {
                cell.cut(place, inode_at, TOO_LONG);
                whole = false;
                break;
            }
            listing.items.push(item);
            continue;
        }
        let file = match reader.inode(number) {
            Ok(file) => file,
            Err(error) => {
                cell.fault(place, inode_at, format!("{shown}: {error}"));
                whole = false;
                continue;
            }
        };
        if let Some(allocation) = claims.allocation.as_ref().filter(|bits| !bits.inode(number)) {
            cell.fault(
                place,
                allocation.inode_place(number),
                format!("{shown}: inode {number} is free in the inode bitmap"),
            );
        }
        let mut item = sink::item(&path, "file", file.mode, (file.uid, file.gid), file.mtime);
        match reader.xattrs(&file) {
            Ok(xattrs) => item.xattrs = sink::xattrs(&xattrs),
            Err(error) => cell.fault(place, inode_at, format!("{shown}: {error}")),
        }
        let runs = match reader.extents(&file) {
            Ok(runs) => runs,
            // Whole it may be, nevertheless.
            Err(ext::ReadError::Unsupported(_)) => {
                unread += 1;
                whole = false;
                continue;
            }
            Err(error) => {
                cell.fault(place, inode_at, format!("{shown}: {error}"));
                whole = false;
                continue;
            }
        };
        claims.file(cell, place, &shown, &runs);
        match reader.further_blocks(&file) {
            Ok((blocks, attributes)) => {
                let runs: Vec<(u64, u64)> = blocks
                    .iter()
                    .map(|block| (block.saturating_mul(claims.block_size), claims.block_size))
                    .collect();
                claims.file(cell, place, &shown, &runs);
                // Files with the same attributes share their block.
                if let Some(block) = attributes {
                    claims.used(cell, place, &shown, block);
                }
            }
            Err(error) => cell.fault(place, inode_at, format!("{shown}: {error}")),
        }
        let at = runs.first().map_or(inode_at, |&(start, _)| start);
        match file.kind {
            Kind::Directory => {
                item.kind = "directory";
                if !visited.insert(number) {
                    cell.fault(place, inode_at, format!("{shown}: a directory with two names"));
                    continue;
                }
                match reader.entries(&file) {
                    Ok(entries) => {
                        for entry in entries.into_iter().rev() {
                            let mut below = path.clone();
                            if below != b"/" {
                                below.push(b'/');
                            }
                            below.extend_from_slice(&entry.name);
                            count += 1;
                            held = held.saturating_sub(below.len() as u64);
                            if count > cell.limits.entries || held == 0 || below.len() > lycia_tree::PATH_MAX
                            {
                                cell.fault(
                                    place,
                                    at,
                                    format!("{shown}: more entries, or longer paths, than are read"),
                                );
                                whole = false;
                                break;
                            }
                            stack.push((below, entry.inode));
                        }
                    }
                    Err(ext::ReadError::Unsupported(_)) => {
                        unread += 1;
                        whole = false;
                    }
                    Err(error) => {
                        cell.fault(place, at, format!("{shown}: {error}"));
                        whole = false;
                    }
                }
            }
            Kind::Symlink => {
                item.kind = "symlink";
                match reader.target(&file) {
                    Ok(target) => item.target = Some(display(&target)),
                    Err(error) => cell.fault(place, inode_at, format!("{shown}: {error}")),
                }
            }
            Kind::CharDevice(device) => {
                item.kind = "char";
                item.device = sink::device(device);
            }
            Kind::BlockDevice(device) => {
                item.kind = "block";
                item.device = sink::device(device);
            }
            Kind::Fifo => item.kind = "fifo",
            Kind::Socket => item.kind = "socket",
            Kind::Regular => item.size = Some(file.size),
        }
        if !cell.hold(&item) {
            cell.cut(place, inode_at, TOO_LONG);
            whole = false;
            break;
        }
        match file.kind {
            Kind::Regular => {
                if !cell.spend(file.size) {
                    cell.cut(place, at, TOO_MUCH);
                    whole = false;
                    break;
                }
                let mut taster = listing.taster(&item.path);
                match reader.copy(&file, &mut taster) {
                    Ok(_) => listing.file(item, taster),
                    Err(error) => {
                        cell.fault(place, at, format!("{shown}: {error}"));
                        listing.items.push(item);
                    }
                }
                names.insert(number, (1, file.links, listing.items.last().cloned()));
            }
            Kind::Directory => listing.items.push(item),
            _ => {
                names.insert(number, (1, file.links, Some(item.clone())));
                listing.items.push(item);
            }
        }
    }
    if !whole {
        cell.partial(place);
    }
    if unread > 0 {
        part.fact(
            "not-read",
            format!("{unread} files and directories that the volume keeps in a form that is not known here"),
        );
    }
    // Files that were open when a system stopped have no name; large attributes have inodes of their own.
    if let Some(allocation) = &claims.allocation
        && whole
        && own.clean
        && own.incompatible & 0x400 == 0
    {
        let (first, hidden) = reader.without_names();
        for number in first..=own.inodes {
            let met = visited.contains(&number) || names.contains_key(&number) || hidden.contains(&number);
            if !met && allocation.inode(number) {
                cell.fault(
                    place,
                    allocation.inode_place(number),
                    format!("inode {number} is in use in the inode bitmap, but has no name"),
                );
            }
        }
    }
    let mut wrong: Vec<(u32, u32, u16)> = names
        .into_iter()
        .filter(|(_, (met, links, _))| *met != u32::from(*links))
        .map(|(number, (met, links, _))| (number, met, links))
        .collect();
    wrong.sort_unstable();
    for (number, met, links) in wrong {
        let at = reader.inode_place(number).unwrap_or(1024);
        cell.fault(
            place,
            at,
            format!("inode {number} says that it has {links} names, but has {met}"),
        );
    }
    finish(cell, place, listing, part);
}

/// Which blocks of a volume belong to something.
struct Claims {
    /// What the volume's bitmaps say.
    allocation: Option<ext::Allocation>,
    block_size: u64,
    claimed: Vec<u64>,
}

impl Claims {
    /// Marks what is no file's. Without bitmaps that make sense the groups may claim more than there is.
    fn own(&mut self, start: u64, len: u64) {
        if self.allocation.is_some() {
            for block in start / self.block_size..start.saturating_add(len).div_ceil(self.block_size) {
                self.mark(block);
            }
        }
    }

    /// Marks a block; whether it was marked before.
    fn mark(&mut self, block: u64) -> bool {
        let Some(word) = self.claimed.get_mut((block / 64) as usize) else {
            return false;
        };
        let bit = 1 << (block % 64);
        let before = *word & bit != 0;
        *word |= bit;
        before
    }

    /// Marks the blocks of a file; the first that something else has is a fault, and the first that is free.
    fn file(&mut self, cell: &mut Cell<'_>, place: &Place, path: &str, runs: &[(u64, u64)]) {
        let (mut told, mut free) = (false, false);
        for &(start, len) in runs {
            cell.region(place, start, len, path);
            for block in start / self.block_size..start.saturating_add(len).div_ceil(self.block_size) {
                if self.mark(block) && !told {
                    told = true;
                    cell.fault(
                        place,
                        block * self.block_size,
                        format!("{path}: block {block} belongs to something else, too"),
                    );
                }
                if !free {
                    free = !self.used(cell, place, path, block);
                }
            }
        }
    }

    /// Whether a block that something has is in use in the bitmap, too; it is a fault where not.
    fn used(&self, cell: &mut Cell<'_>, place: &Place, path: &str, block: u64) -> bool {
        let Some(allocation) = self.allocation.as_ref().filter(|bits| !bits.block(block)) else {
            return true;
        };
        cell.fault(
            place,
            allocation.block_place(block),
            format!("{path}: block {block} is free in the block bitmap"),
        );
        false
    }
}

/// FAT.
pub fn fat(cell: &mut Cell<'_>, place: &Place, bytes: &Content, depth: u32, part: &mut Part) {
    let limits = vfat::Limits {
        entries: cell.limits.entries,
        bytes: limits_of(cell),
    };
    let mut reader = match vfat::Reader::open(Cursor::new(bytes.bytes()), limits) {
        Ok(reader) => reader,
        Err(error) => return cell.cut(place, 0, error.to_string()),
    };
    let own = reader.summary().clone();
    part.fact("width", format!("{:?}", own.width));
    part.fact("label", own.label.clone().unwrap_or_default());
    part.fact(
        "serial",
        format!("{:04X}-{:04X}", own.serial >> 16, own.serial & 0xffff),
    );
    part.fact("cluster-size", own.cluster_size);
    part.fact("clusters", own.clusters);
    cell.region(
        place,
        0,
        own.size.min(bytes.len()),
        "clusters without a file, tables",
    );
    cell.region(place, 0, 512, "boot sector");
    if own.size > bytes.len() {
        cell.fault(
            place,
            0,
            format!(
                "the volume has {} bytes, of which {} are there",
                own.size,
                bytes.len()
            ),
        );
    }
    if let Some((at, what)) = tables(bytes.bytes()) {
        cell.fault(place, at, what);
    }
    let listed = match reader.list() {
        Ok(listed) => listed,
        Err(error) => return cell.cut(place, 0, error.to_string()),
    };
    let mut listing = Listing::default();
    let mut found = Vec::new();
    for entry in listed {
        let (kind, mode) = if entry.is_directory {
            ("directory", 0o755)
        } else {
            ("file", 0o644)
        };
        let mut item = sink::item(&entry.path, kind, mode, (0, 0), entry.time);
        let at = entry.runs.first().map_or(0, |&(start, _)| start);
        for &(start, len) in &entry.runs {
            cell.region(place, start, len, &item.path);
        }
        if let Some(fault) = &entry.fault {
            cell.cut(place, at, format!("{}: {fault}", item.path));
        }
        if !cell.hold(&item) {
            cell.cut(place, at, TOO_LONG);
            break;
        }
        if entry.is_directory || entry.fault.is_some() {
            listing.items.push(item);
            continue;
        }
        item.size = Some(entry.size);
        if !cell.spend(entry.size) {
            cell.cut(place, at, TOO_MUCH);
            break;
        }
        let mut taster = listing.taster(&item.path);
        match pieces(bytes, &entry.runs, &mut taster) {
            Ok(()) => {
                // One run is a range of the volume, which is read in turn where it is something that is known.
                if let [(start, len)] = entry.runs[..]
                    && iso::nested(&item.path)
                    && let Some(content) = range(bytes, start, len)
                {
                    found.push((place.below(&item.path, start), content));
                }
                listing.file(item, taster);
            }
            Err(error) => {
                cell.fault(place, at, format!("{}: {error}", item.path));
                listing.items.push(item);
            }
        }
    }
    finish(cell, place, listing, part);
    for (place, content) in found {
        part.parts.extend(cell.part(place, &content, depth + 1));
    }
}

/// What is wrong with the copies of the allocation table, which must be the same.
fn tables(bytes: &[u8]) -> Option<(u64, String)> {
    let half = |at: usize| {
        Some(u64::from(u16::from_le_bytes(
            bytes.get(at..at + 2)?.try_into().ok()?,
        )))
    };
    let (sector, reserved, copies) = (half(11)?, half(14)?, u64::from(*bytes.get(16)?));
    let len = match half(22)? {
        0 => half(36)? | half(38)? << 16,
        len => len,
    } * sector;
    // FAT32 may have one copy in use only.
    if copies != 2 || half(22)? == 0 && half(40)? & 0x80 != 0 {
        return None;
    }
    let start = usize::try_from(reserved * sector).ok()?;
    let len = usize::try_from(len).ok()?;
    let first = bytes.get(start..start.checked_add(len)?)?;
    let second = bytes.get(start + len..(start + len).checked_add(len)?)?;
    let at = first.iter().zip(second).position(|(one, other)| one != other)?;
    Some((
        (start + at) as u64,
        "the two copies of the allocation table are not the same".to_owned(),
    ))
}

/// A range of bytes that were read.
pub fn range(bytes: &Content, start: u64, len: u64) -> Option<Content> {
    let end = start.checked_add(len)?;
    if end > bytes.len() {
        return None;
    }
    Some(match bytes {
        Content::Packed { pack, offset, .. } => pack.range(offset + start, len).ok()?,
        Content::Inline(all) => Content::from(&all[start as usize..end as usize]),
    })
}

/// Writes runs of bytes.
pub fn pieces(bytes: &Content, runs: &[(u64, u64)], out: &mut dyn Write) -> io::Result<()> {
    for &(start, len) in runs {
        let end = start.saturating_add(len);
        let piece = usize::try_from(start)
            .ok()
            .zip(usize::try_from(end).ok())
            .and_then(|(start, end)| bytes.bytes().get(start..end))
            .ok_or_else(|| io::Error::other(format!("bytes {start} to {end} are not there")))?;
        out.write_all(piece)?;
    }
    Ok(())
}

/// EROFS.
pub fn erofs(cell: &mut Cell<'_>, place: &Place, bytes: &Content, part: &mut Part) {
    let image = match ero::Image::open(bytes.bytes()) {
        Ok(image) => image,
        Err(error) => return cell.cut(place, 1024, error.to_string()),
    };
    let own = image.superblock().clone();
    part.fact("label", display(&own.label));
    part.fact("uuid", own.uuid.to_string());
    part.fact("block-size", own.block_size);
    part.fact("blocks", own.blocks);
    part.fact("inodes", own.inodes);
    part.fact("checksum", own.checksum.is_some());
    if own.checksum == Some(false) {
        cell.fault(place, 1024 + 4, "the checksum of the first block is wrong");
    }
    cell.region(place, 0, own.blocks * own.block_size, "inodes");
    cell.region(place, 1024, 128, "superblock");
    let entries = match image.entries(&ero::Limits {
        entries: cell.limits.entries,
        bytes: cell.room(),
    }) {
        Ok(entries) => entries,
        Err(error) => {
            let at = match &error {
                ero::ReadError::Malformed { at, .. } => *at,
                _ => 1024,
            };
            return cell.cut(place, at, error.to_string());
        }
    };
    let mut listing = Listing::default();
    let mut known: HashMap<u64, usize> = HashMap::new();
    let mut unread = 0;
    for entry in entries {
        let mut item = sink::item(
            &entry.path,
            "file",
            entry.mode,
            (entry.uid, entry.gid),
            entry.mtime,
        );
        item.xattrs = sink::xattrs(&entry.xattrs);
        match &entry.kind {
            ero::EntryKind::Directory => item.kind = "directory",
            ero::EntryKind::Symlink(target) => {
                item.kind = "symlink";
                item.target = Some(display(target));
            }
            ero::EntryKind::CharDevice(device) => {
                item.kind = "char";
                item.device = sink::device(*device);
            }
            ero::EntryKind::BlockDevice(device) => {
                item.kind = "block";
                item.device = sink::device(*device);
            }
            ero::EntryKind::Fifo => item.kind = "fifo",
            ero::EntryKind::Socket => item.kind = "socket",
            ero::EntryKind::Regular(_) => item.size = Some(entry.size),
        }
        if !cell.hold(&item) {
            cell.cut(place, 1024, TOO_LONG);
            break;
        }
        match &entry.kind {
            ero::EntryKind::Regular(runs) => {
                if let Some(&at) = known.get(&entry.nid) {
                    item.sha256 = listing.items.get(at).and_then(|item| item.sha256.clone());
                } else if let Some(runs) = runs {
                    let at = runs.first().map_or(0, |&(start, _)| start);
                    for &(start, len) in runs {
                        cell.region(place, start, len, &item.path);
                    }
                    if !cell.spend(entry.size) {
                        cell.cut(place, at, TOO_MUCH);
                        break;
                    }
                    let mut taster = listing.taster(&item.path);
                    match pieces(bytes, runs, &mut taster) {
                        Ok(()) => {
                            known.insert(entry.nid, listing.items.len());
                            listing.file(item, taster);
                            continue;
                        }
                        Err(error) => cell.fault(place, at, format!("{}: {error}", item.path)),
                    }
                } else {
                    unread += 1;
                }
                listing.items.push(item);
            }
            _ => listing.items.push(item),
        }
    }
    if unread > 0 {
        part.fact("compressed-files-not-read", unread);
    }
    finish(cell, place, listing, part);
}

/// What every file system ends with: menus, the system in it, the list.
pub fn finish(cell: &mut Cell<'_>, place: &Place, listing: Listing, part: &mut Part) {
    part.fact("entries", listing.items.len());
    part.entries = boot::entries(&listing);
    part.system = root::system(&listing, &mut |what| cell.fault(place, 0, what));
    part.files = listing.items;
}
