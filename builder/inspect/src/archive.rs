//! Archives: initramfs and tar, and what is a kit of files in one.

use std::collections::HashMap;

use lycia_media::cpio;
use lycia_media::tar as tape;
use lycia_tree::{Content, Timestamp};

use crate::cell::{Cell, Known, Place, TOO_LONG, recognise};
use crate::report::{Item, Part};
use crate::sink::{self, Listing};
use crate::{beside, boot, oci, volumes};

/// The path of a member as an absolute one.
pub fn absolute(path: &[u8]) -> Vec<u8> {
    let mut whole = Vec::with_capacity(path.len() + 1);
    for part in path.split(|&byte| byte == b'/') {
        if !part.is_empty() && part != b"." {
            whole.push(b'/');
            whole.extend_from_slice(part);
        }
    }
    if whole.is_empty() {
        whole.push(b'/');
    }
    whole
}

/// A row of cpio archives, compressed or not.
pub fn initramfs(cell: &mut Cell<'_>, place: &Place, bytes: &Content, depth: u32, part: &mut Part) {
    let limits = cpio::Limits {
        members: cell.limits.entries,
        unpacked: cell.limits.initramfs,
    };
    let all = bytes.bytes();
    let segments = match cpio::segments(all, &limits) {
        Ok(segments) => segments,
        Err(error) => {
            let at = match &error {
                cpio::CpioError::Malformed { offset, .. } => *offset,
                _ => 0,
            };
            return cell.cut(place, at, error.to_string());
        }
    };
    let mut kinds = Vec::new();
    // File systems in it: roots of live media, which a loader hands over this way.
    let mut roots = Vec::new();
    let mut starts = HashMap::new();
    let mut listing = Listing::default();
    'segments: for segment in &segments {
        let plain = segment.kind == cpio::SegmentKind::Plain;
        let what = match &segment.kind {
            cpio::SegmentKind::Plain => "plain".to_owned(),
            cpio::SegmentKind::Compressed(format, unpacked) => {
                format!("{}, {} bytes unpacked", format.name(), unpacked.len())
            }
        };
        kinds.push(format!(
            "{what}, {} bytes at byte {} of it",
            segment.len, segment.offset
        ));
        cell.region(place, segment.offset as u64, segment.len as u64, "segment");
        let archive = segment.archive(all);
        for entry in cpio::Entries::new(archive) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    cell.cut(place, segment.offset as u64, error.to_string());
                    break;
                }
            };
            let header = &entry.header;
            let kind = match header.mode & 0o170_000 {
                0o040_000 => "directory",
                0o120_000 => "symlink",
                0o020_000 => "char",
                0o060_000 => "block",
                0o010_000 => "fifo",
                0o140_000 => "socket",
                _ => "file",
            };
            let mut item = sink::item(
                &absolute(entry.name),
                kind,
                (header.mode & 0o7777) as u16,
                (header.uid, header.gid),
                Timestamp::from_seconds(header.mtime.into()),
            );
            match kind {
                "symlink" => item.target = Some(lycia_tree::display(entry.content)),
                "char" | "block" => item.device = Some(format!("{}:{}", header.device.0, header.device.1)),
                "file" => item.size = Some(entry.content.len() as u64),
                _ => {}
            }
            if !cell.hold(&item) {
                cell.cut(place, segment.offset as u64, TOO_LONG);
                break 'segments;
            }
            match kind {
                "file" => {
                    let at = (entry.content.as_ptr() as usize).wrapping_sub(all.as_ptr() as usize) as u64;
                    let len = entry.content.len() as u64;
                    if plain && len > 0 {
                        cell.region(place, at, len, &item.path);
                        starts.insert(item.path.clone(), at);
                    }
                    if matches!(recognise(entry.content), Some(Known::Squashfs | Known::Erofs)) {
                        // What was unpacked is a copy already, and has no place in the file.
                        let found = match plain {
                            true => {
                                volumes::range(bytes, at, len).map(|own| (place.below(&item.path, at), own))
                            }
                            false => Some((place.within(&item.path), Content::from(entry.content))),
                        };
                        roots.extend(found);
                    }
                    let mut taster = listing.taster(&item.path);
                    // It hashes, which never fails.
                    let _ = std::io::Write::write_all(&mut taster, entry.content);
                    listing.file(item, taster);
                }
                _ => listing.items.push(item),
            }
        }
    }
    part.fact("segments", kinds);
    if !roots.is_empty() {
        beside::inside(cell, place, &listing, &starts);
    }
    volumes::finish(cell, place, listing, part);
    // An initramfs has programs of a system, but is none.
    part.system = None;
    for (place, content) in roots {
        part.parts.extend(cell.part(place, &content, depth + 1));
    }
}

/// Where a member's content lies in the archive.
pub struct Member {
    pub path: String,
    pub start: u64,
    pub len: u64,
}

/// tar, and container images and kits for booting from a network in it.
pub fn tar(cell: &mut Cell<'_>, place: &Place, bytes: &Content, depth: u32, part: &mut Part) {
    let (listing, members) = members(cell, place, bytes, part);
    if listing.kept.contains_key("/oci-layout") {
        oci::read(cell, place, bytes, &members, &listing, part);
        part.fact("entries", listing.items.len());
        part.files = listing.items;
        return;
    }
    if listing.kept.contains_key(SCRIPT) {
        return kit(cell, place, bytes, depth, &members, listing, part);
    }
    volumes::finish(cell, place, listing, part);
}

/// The script of iPXE that makes an archive a kit for booting from a network.
const SCRIPT: &str = "/boot.ipxe";
const SUMS: &str = "/SHA256SUMS";

/// A kit for booting from a network: a script and what it loads.
fn kit(
    cell: &mut Cell<'_>,
    place: &Place,
    bytes: &Content,
    depth: u32,
    members: &[Member],
    listing: Listing,
    part: &mut Part,
) {
    part.format = "netboot".to_owned();
    let starts: HashMap<String, u64> = members
        .iter()
        .map(|member| (member.path.clone(), member.start))
        .collect();
    beside::inside(cell, place, &listing, &starts);
    // A sum that was damaged may be none any more.
    if let Some(sums) = listing.kept.get(SUMS) {
        for unnamed in beside::unnamed(sums, members.iter().map(|member| &member.path[1..])) {
            if format!("/{unnamed}") != SUMS {
                let at = starts.get(SUMS).copied().unwrap_or(0);
                cell.fault(place, at, format!("{SUMS} has no checksum of {unnamed}"));
            }
        }
    } else {
        cell.fault(place, 0, "there is no SHA256SUMS in it");
    }
    for entry in boot::entries(&listing) {
        let files = std::iter::once(entry.kernel.as_str()).chain(entry.initrd.split_whitespace());
        for file in files.filter(|file| !file.contains([':', '$'])) {
            let path = lycia_tree::display(&absolute(file.as_bytes()));
            if !starts.contains_key(&path) {
                let at = starts.get(&entry.config).copied().unwrap_or(0);
                cell.fault(
                    place,
                    at,
                    format!("{} loads {file}, which is not there", entry.config),
                );
            }
        }
    }
    volumes::finish(cell, place, listing, part);
    for member in members {
        let below = place.below(&member.path, member.start);
        if let Some(content) = volumes::range(bytes, member.start, member.len) {
            part.parts.extend(cell.part(below, &content, depth + 1));
        }
    }
}

/// Items below the path of an earlier one that is no directory, by their numbers, with that path: where programs put them depends on
/// what is there already, and can be outside of the tree.
fn misplaced(items: &[Item]) -> Vec<(usize, String)> {
    // A directory and all below it are neighbours in this order.
    let key = |number: usize| {
        let path = items[number].path.trim_start_matches('/').bytes();
        path.map(|byte| if byte == b'/' { 0 } else { byte })
    };
    let mut order: Vec<usize> = (0..items.len()).collect();
    order.sort_by(|&one, &other| key(one).cmp(key(other)).then(one.cmp(&other)));
    let below = |path: &str, above: &str| {
        let rest = path.strip_prefix(above);
        rest.is_some_and(|rest| rest.starts_with('/'))
    };
    let mut found = Vec::new();
    // Members of one path, around those that follow; each path is below the one before.
    let mut around: Vec<Vec<usize>> = Vec::new();
    for number in order {
        let path = items[number].path.as_str();
        while let Some(last) = around.last().map(|group| items[group[0]].path.as_str())
            && last != path
            && !below(path, last)
        {
            around.pop();
        }
        // What was there when this came.
        let before = |group: &&Vec<usize>| {
            let earlier = group.partition_point(|&other| other < number);
            earlier > 0 && items[group[earlier - 1]].kind != "directory"
        };
        let mut outer = around.iter().filter(|group| items[group[0]].path != path);
        if let Some(group) = outer.find(before) {
            found.push((number, items[group[0]].path.clone()));
        }
        match around.last_mut() {
            Some(group) if items[group[0]].path == path => group.push(number),
            _ => around.push(vec![number]),
        }
    }
    found.sort_unstable();
    found
}

/// The entries of a tar archive, and what of it is not read.
pub fn list(cell: &mut Cell<'_>, place: &Place, bytes: &Content) -> (Listing, Option<String>) {
    let mut part = Part::default();
    let (listing, _) = members(cell, place, bytes, &mut part);
    let unread = part.facts.get("not-read").and_then(|words| words.as_str());
    (listing, unread.map(str::to_owned))
}

fn members(cell: &mut Cell<'_>, place: &Place, bytes: &Content, part: &mut Part) -> (Listing, Vec<Member>) {
    let limits = tape::Limits {
        members: cell.limits.entries,
        bytes: 0,
    };
    let mut archive = tape::Archive::new(bytes.bytes(), limits);
    let mut listing = Listing::default();
    let mut members = Vec::new();
    // Where the header of each item begins.
    let mut places = Vec::new();
    loop {
        let before = archive.position();
        let header = match archive.next_member() {
            Ok(Some(header)) => header,
            Ok(None) => break,
            // Whole it may be, nevertheless; what follows is not looked at.
            Err(tape::TarError::Unsupported { what, .. }) => {
                cell.partial(place);
                part.fact("not-read", format!("from byte {before} on: {what}"));
                break;
            }
            Err(error) => {
                cell.cut(place, before, error.to_string());
                break;
            }
        };
        let path = absolute(&header.path);
        let metadata = &header.metadata;
        let mut item = sink::item(
            &path,
            "file",
            metadata.mode,
            (metadata.uid, metadata.gid),
            metadata.mtime,
        );
        item.xattrs = sink::xattrs(&metadata.xattrs);
        let start = archive.position();
        cell.region(place, before, start - before, "headers");
        match &header.member {
            tape::Member::Directory => item.kind = "directory",
            tape::Member::Symlink(target) => {
                item.kind = "symlink";
                item.target = Some(lycia_tree::display(target));
            }
            tape::Member::HardLink(target) => {
                item.kind = "hardlink";
                item.target = Some(lycia_tree::display(&absolute(target)));
            }
            tape::Member::CharDevice(device) => {
                item.kind = "char";
                item.device = sink::device(*device);
            }
            tape::Member::BlockDevice(device) => {
                item.kind = "block";
                item.device = sink::device(*device);
            }
            tape::Member::Fifo => item.kind = "fifo",
            tape::Member::Regular => item.size = Some(header.size),
        }
        if !cell.hold(&item) {
            cell.cut(place, before, TOO_LONG);
            break;
        }
        places.push(before);
        match &header.member {
            tape::Member::Regular => {
                cell.region(place, start, header.size, &item.path);
                if !cell.spend(header.size) {
                    cell.cut(
                        place,
                        start,
                        "more contents than are read; the rest was not checked",
                    );
                    break;
                }
                members.push(Member {
                    path: item.path.clone(),
                    start,
                    len: header.size,
                });
                let mut taster = listing.taster(&item.path);
                match std::io::copy(&mut archive, &mut taster) {
                    Ok(_) => listing.file(item, taster),
                    Err(error) => {
                        cell.cut(place, start, format!("{}: {error}", item.path));
                        listing.items.push(item);
                        break;
                    }
                }
            }
            _ => listing.items.push(item),
        }
    }
    for (number, above) in misplaced(&listing.items) {
        let what = format!(
            "{}: it lies below {above}, which is no directory",
            listing.items[number].path
        );
        cell.fault(place, places.get(number).copied().unwrap_or(0), what);
    }
    // A hard link has the content of the other name.
    let contents: HashMap<String, (Option<u64>, Option<String>)> = listing
        .items
        .iter()
        .filter(|item| item.kind == "file")
        .map(|item| (item.path.clone(), (item.size, item.sha256.clone())))
        .collect();
    for item in listing.items.iter_mut().filter(|item| item.kind == "hardlink") {
        match item.target.as_ref().and_then(|target| contents.get(target)) {
            Some((size, sha256)) => {
                item.size = *size;
                item.sha256.clone_from(sha256);
            }
            None => {
                let what = format!("{}: a hard link to nothing in the archive", item.path);
                cell.fault(place, 0, what);
            }
        }
    }
    (listing, members)
}
