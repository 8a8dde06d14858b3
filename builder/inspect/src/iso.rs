//! ISO 9660 images: the volume, what boots it, its files and what is in them.

use std::collections::BTreeMap;

use lycia_media::iso9660::{self, EntryKind, Platform};
use lycia_tree::{Content, display};

use crate::cell::{Cell, Known, Place, TOO_LONG, recognise};
use crate::report::Part;
use crate::sink::{self, Listing};
use crate::volumes::{self, range};
use crate::{beside, boot, disk, verity};

/// Whether a file is looked into, by its name.
pub fn nested(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let ends = ["squashfs", ".sfs", ".erofs", ".img", ".efi", ".verity"];
    ends.iter().any(|end| name.ends_with(end))
        || ["initrd", "initramfs", "vmlinu", "bzimage"]
            .iter()
            .any(|begin| name.starts_with(begin))
}

/// An image.
pub fn read(cell: &mut Cell<'_>, place: &Place, bytes: &Content, depth: u32, part: &mut Part) {
    let limits = iso9660::Limits {
        entries: usize::try_from(cell.limits.entries).unwrap_or(usize::MAX),
        bytes: cell.room(),
        ..iso9660::Limits::default()
    };
    let volume = match iso9660::inspect(bytes.bytes(), &limits) {
        Ok(volume) => volume,
        Err(error) => {
            cell.cut(place, 16 * iso9660::BLOCK, error.to_string());
            // The tables may still be right.
            let found = disk::tables(cell, place, bytes, part);
            let found = found.into_iter().filter(|one| one.start > 64 << 10).collect();
            return disk::partitions(cell, place, bytes, depth, part, found);
        }
    };
    for (at, what) in &volume.faults {
        cell.fault(place, *at, what.clone());
    }
    part.fact("label", volume.volume_id.clone());
    part.fact("uuid", volume.uuid().unwrap_or_default());
    for (key, value) in [
        ("system", &volume.system_id),
        ("publisher", &volume.publisher),
        ("preparer", &volume.preparer),
        ("application", &volume.application),
    ] {
        if !value.is_empty() {
            part.fact(key, value.clone());
        }
    }
    part.fact("blocks", volume.blocks);
    part.fact("joliet", volume.joliet);
    part.fact("rock-ridge", volume.rock_ridge);
    cell.region(place, 0, bytes.len(), "directories, path tables and gaps");
    cell.region(place, 0, 16 * iso9660::BLOCK, "system area");
    cell.region(
        place,
        16 * iso9660::BLOCK,
        4 * iso9660::BLOCK,
        "volume descriptors",
    );

    let mut listing = Listing::default();
    let mut inner = Vec::new();
    let mut images: BTreeMap<u32, (String, u64)> = BTreeMap::new();
    for entry in &volume.entries {
        let mut item = sink::item(
            &entry.path,
            "file",
            entry.mode,
            (entry.uid, entry.gid),
            entry.mtime,
        );
        match &entry.kind {
            EntryKind::Directory => item.kind = "directory",
            EntryKind::Symlink(target) => {
                item.kind = "symlink";
                item.target = Some(display(target));
            }
            EntryKind::CharDevice(device) => {
                item.kind = "char";
                item.device = sink::device(*device);
            }
            EntryKind::BlockDevice(device) => {
                item.kind = "block";
                item.device = sink::device(*device);
            }
            EntryKind::Fifo => item.kind = "fifo",
            EntryKind::Socket => item.kind = "socket",
            EntryKind::Regular(_) => item.size = Some(entry.len()),
        }
        if !cell.hold(&item) {
            cell.cut(place, 16 * iso9660::BLOCK, TOO_LONG);
            break;
        }
        match &entry.kind {
            EntryKind::Regular(extents) => {
                let at = extents.first().map_or(0, iso9660::Extent::offset);
                if let Some(first) = extents.first() {
                    images.insert(first.block, (item.path.clone(), entry.len()));
                }
                for extent in extents {
                    cell.region(place, extent.offset(), u64::from(extent.len), &item.path);
                }
                if !cell.spend(entry.len()) {
                    cell.cut(place, at, "more contents than are read; the rest was not checked");
                    break;
                }
                let runs: Vec<(u64, u64)> = extents
                    .iter()
                    .map(|extent| (extent.offset(), u64::from(extent.len)))
                    .collect();
                let mut taster = listing.taster(&item.path);
                if let Err(error) = volumes::pieces(bytes, &runs, &mut taster) {
                    cell.fault(place, at, format!("{}: {error}", item.path));
                    listing.items.push(item);
                    continue;
                }
                // Extents of one file follow one another.
                let together = runs.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0);
                if nested(&item.path)
                    && together
                    && let Some(content) = range(bytes, at, entry.len())
                {
                    inner.push((item.path.clone(), place.below(&item.path, at), content));
                }
                listing.file(item, taster);
            }
            _ => listing.items.push(item),
        }
    }

    // An image for optical media alone has no tables.
    let hybrid = bytes
        .bytes()
        .get(..1024)
        .is_some_and(|area| area.iter().any(|&byte| byte != 0));
    let found = match hybrid || disk::has_backup(bytes.bytes()) {
        true => disk::tables(cell, place, bytes, part),
        false => Vec::new(),
    };
    let mut catalog = Vec::new();
    for entry in &volume.boot {
        let start = u64::from(entry.block) * iso9660::BLOCK;
        let platform = match entry.platform {
            Platform::Bios => "BIOS".to_owned(),
            Platform::Efi => "UEFI".to_owned(),
            Platform::Other(number) => format!("platform {number:#x}"),
        };
        let file = images.get(&entry.block);
        catalog.push(format!(
            "{platform}: {} sectors from byte {start}{}{}",
            entry.sectors,
            file.map(|(path, _)| format!(", {path}")).unwrap_or_default(),
            if entry.bootable { "" } else { ", not bootable" }
        ));
        if entry.platform == Platform::Efi {
            let known = found.iter().any(|one| one.start == start) || file.is_some();
            // Without a partition the volume itself says how long it is.
            let len = bytes.len().saturating_sub(start);
            if !known && let Some(content) = range(bytes, start, len) {
                let below = place.below("UEFI boot image", start);
                part.parts.extend(cell.part(below, &content, depth + 1));
            }
        } else if let Some((path, len)) = file
            && let Some(content) = range(bytes, start, *len)
        {
            boot::information(
                cell,
                &place.below(path, start),
                content.bytes(),
                entry.block,
                part,
            );
        }
    }
    part.fact("boot-catalogue", catalog);
    if let Some(code) = bytes.bytes().first_chunk::<440>() {
        boot::hybrid(cell, place, code, &images, part);
    }
    // The partition of the image itself holds all that was just read.
    let found = found
        .into_iter()
        .filter(|one| {
            range(bytes, one.start, one.len)
                .is_none_or(|content| one.start > 64 << 10 && recognise(content.bytes()) != Some(Known::Iso))
        })
        .collect();
    disk::partitions(cell, place, bytes, depth, part, found);
    let starts = images
        .iter()
        .map(|(block, (path, _))| (path.clone(), u64::from(*block) * iso9660::BLOCK))
        .collect();
    beside::inside(cell, place, &listing, &starts);
    volumes::finish(cell, place, listing, part);
    let mut trees = Vec::new();
    for (path, below, content) in &inner {
        let of = path
            .strip_suffix(verity::ENDING)
            .filter(|_| recognise(content.bytes()) == Some(Known::Verity));
        let Some(of) = of else {
            part.parts.extend(cell.part(below.clone(), content, depth + 1));
            continue;
        };
        let data = inner.iter().find(|(path, ..)| path == of);
        if !part.files.iter().any(|item| item.path == of) {
            cell.fault(
                below,
                0,
                format!("it is the hash tree of {of}, which is not there"),
            );
        }
        let mut found = Part {
            place: below.name.clone(),
            format: "verity".to_owned(),
            offset: below.base.filter(|_| !below.unpacked),
            size: content.len(),
            ..Part::default()
        };
        let data = data.map(|(_, place, data)| (place, data));
        verity::read(cell, below, content, data, &mut found);
        if let Some(root) = found.facts.get("root-hash").and_then(|root| root.as_str()) {
            trees.push((of.to_owned(), root.to_owned()));
        }
        part.parts.push(found);
    }
    verity::told(cell, place, &part.entries, &trees);
}
