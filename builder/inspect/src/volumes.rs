//! File systems: squashfs, ext4, FAT, EROFS.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Cursor, Write};

use lycia_media::ext4::Kind;
use lycia_media::{erofs as ero, ext4 as ext, fat as vfat, squashfs as squash};
use lycia_tree::{Content, Timestamp, display};

use crate::cell::{Cell, Place};
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
        Err(error) => return cell.fault(place, 0, error.to_string()),
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
        Err(error) => return cell.fault(place, 0, error.to_string()),
    }
    let entries = match image.entries(&limits) {
        Ok(entries) => entries,
        Err(error) => return cell.fault(place, own.inode_table, error.to_string()),
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
            squash::EntryKind::Regular(file) => {
                item.size = Some(file.len);
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
                    cell.fault(place, at, TOO_MUCH);
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
            }
        }
        listing.items.push(item);
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
        Err(error) => return cell.fault(place, 1024, error.to_string()),
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
        return cell.fault(
            place,
            1024,
            format!("the volume has {size} bytes, of which {} are there", bytes.len()),
        );
    }
    match reader.groups() {
        Ok((areas, faults)) => {
            for (name, start, len) in areas {
                cell.region(place, start, len, name);
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
        for (start, len) in reader.extents(&journal).unwrap_or_default() {
            cell.region(place, start, len, "journal");
        }
    }
    let mut listing = Listing::default();
    let mut claimed: Vec<u64> = vec![0; (own.blocks as usize).div_ceil(64)];
    // Names that were met of each inode, what it says, and its entry.
    let mut names: HashMap<u32, (u32, u16, Option<Item>)> = HashMap::new();
    let mut visited = BTreeSet::new();
    let mut stack: Vec<(Vec<u8>, u32)> = vec![(b"/".to_vec(), 2)];
    let mut count = 0u64;
    let mut held = cell.limits.entries.saturating_mul(512);
    while let Some((path, number)) = stack.pop() {
        let shown = display(&path);
        let inode_at = reader.inode_place(number).unwrap_or(1024);
        if let Some((met, _, Some(known))) = names.get_mut(&number) {
            *met += 1;
            let mut item = known.clone();
            item.path = shown;
            listing.items.push(item);
            continue;
        }
        let file = match reader.inode(number) {
            Ok(file) => file,
            Err(error) => {
                cell.fault(place, inode_at, format!("{shown}: {error}"));
                continue;
            }
        };
        let mut item = sink::item(&path, "file", file.mode, (file.uid, file.gid), file.mtime);
        match reader.xattrs(&file) {
            Ok(xattrs) => item.xattrs = sink::xattrs(&xattrs),
            Err(error) => cell.fault(place, inode_at, format!("{shown}: {error}")),
        }
        let runs = match reader.extents(&file) {
            Ok(runs) => runs,
            Err(error) => {
                cell.fault(place, inode_at, format!("{shown}: {error}"));
                continue;
            }
        };
        claim(
            cell,
            place,
            &shown,
            u64::from(own.block_size),
            &runs,
            &mut claimed,
        );
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
                                break;
                            }
                            stack.push((below, entry.inode));
                        }
                    }
                    Err(error) => cell.fault(place, at, format!("{shown}: {error}")),
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
            Kind::Regular => {
                item.size = Some(file.size);
                if !cell.spend(file.size) {
                    cell.fault(place, at, TOO_MUCH);
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
                continue;
            }
        }
        if item.kind != "directory" {
            names.insert(number, (1, file.links, Some(item.clone())));
        }
        listing.items.push(item);
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

/// Marks the blocks of a file; those that something else has are a fault.
fn claim(
    cell: &mut Cell<'_>,
    place: &Place,
    path: &str,
    block_size: u64,
    runs: &[(u64, u64)],
    claimed: &mut [u64],
) {
    let mut told = false;
    for &(start, len) in runs {
        cell.region(place, start, len, path);
        for block in start / block_size..(start + len).div_ceil(block_size) {
            let Some(word) = claimed.get_mut((block / 64) as usize) else {
                continue;
            };
            let bit = 1 << (block % 64);
            if *word & bit != 0 && !told {
                told = true;
                cell.fault(
                    place,
                    block * block_size,
                    format!("{path}: block {block} belongs to something else, too"),
                );
            }
            *word |= bit;
        }
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
        Err(error) => return cell.fault(place, 0, error.to_string()),
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
        Err(error) => return cell.fault(place, 0, error.to_string()),
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
            cell.fault(place, at, format!("{}: {fault}", item.path));
        }
        if entry.is_directory || entry.fault.is_some() {
            listing.items.push(item);
            continue;
        }
        item.size = Some(entry.size);
        if !cell.spend(entry.size) {
            cell.fault(place, at, TOO_MUCH);
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
        Err(error) => return cell.fault(place, 1024, error.to_string()),
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
    }) {
        Ok(entries) => entries,
        Err(error) => {
            let at = match &error {
                ero::ReadError::Malformed { at, .. } => *at,
                _ => 1024,
            };
            return cell.fault(place, at, error.to_string());
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
            ero::EntryKind::Regular(runs) => {
                item.size = Some(entry.size);
                if let Some(&at) = known.get(&entry.nid) {
                    item.sha256 = listing.items.get(at).and_then(|item| item.sha256.clone());
                } else if let Some(runs) = runs {
                    let at = runs.first().map_or(0, |&(start, _)| start);
                    for &(start, len) in runs {
                        cell.region(place, start, len, &item.path);
                    }
                    if !cell.spend(entry.size) {
                        cell.fault(place, at, TOO_MUCH);
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
            }
        }
        listing.items.push(item);
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
