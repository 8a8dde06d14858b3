//! Hash trees of dm-verity, held against what they are of and against the root hash that a kernel is told.

use lycia_media::verity::{Area, AreaError, BLOCK};
use lycia_tree::{Content, Footprint};

use crate::cell::{Cell, Place};
use crate::report::{BootEntry, Part};
use crate::sink::hex;

/// How the name of a hash tree ends; before it is the name of what it is of.
pub const ENDING: &str = ".verity";
/// The word of a kernel line that has the root hash.
const ROOT_HASH: &str = "dm-verity-root-hash=";
/// Blocks that are told one by one.
const TOLD: usize = 20;

/// A hash area, alone or with what it is of.
pub fn read(
    cell: &mut Cell<'_>,
    place: &Place,
    bytes: &Content,
    data: Option<(&Place, &Content)>,
    part: &mut Part,
) {
    let all = bytes.bytes();
    let area = match Area::read(all) {
        Ok(area) => area,
        // Of another form, but a tree: whoever made it knows why.
        Err(error @ AreaError::Unknown { .. }) => return part.fact("not-read", error.to_string()),
        Err(error) => return cell.fault(place, 0, error.to_string()),
    };
    part.fact("uuid", area.uuid.to_string());
    part.fact("blocks", area.blocks);
    part.fact("salt", hex(&area.salt));
    cell.region(place, 0, BLOCK as u64, "superblock");
    cell.region(place, BLOCK as u64, area.size() - BLOCK as u64, "hashes");
    if !cell.spend(area.size()) {
        return cell.fault(
            place,
            0,
            "more contents than are read; the hashes were not checked",
        );
    }
    let whole = data.map(|(_, data)| data.bytes());
    if let Some(root) = area.root(all, whole) {
        part.fact("root-hash", hex(&root));
    }
    let wrong = area.wrong_hashes(all);
    for &at in wrong.iter().take(TOLD) {
        cell.fault(
            place,
            at,
            "a block of hashes is not what the hashes above it say, or has more than its hashes",
        );
    }
    let Some((of, data)) = data else { return };
    if data.len() != area.blocks * BLOCK as u64 {
        return cell.fault(
            place,
            72,
            format!(
                "it is of {} bytes, and {} has {}",
                area.blocks * BLOCK as u64,
                of.name,
                data.len()
            ),
        );
    }
    if !cell.spend(data.len()) {
        return cell.fault(
            of,
            0,
            "more contents than are read; it was not held against its hash tree",
        );
    }
    let mut footprint = Footprint::new();
    let mut changed = 0;
    // Pieces are whole blocks, but for the last one, which is, too, as its length is.
    let blocks = footprint.pieces(data).flat_map(|piece| piece.chunks(BLOCK));
    for (number, block) in (0u64..).zip(blocks) {
        let expected = area.hash_of(all, number);
        if expected.is_none_or(|expected| area.hash(block) == expected) {
            continue;
        }
        changed += 1;
        if changed <= TOLD {
            cell.fault(
                of,
                number * BLOCK as u64,
                format!("block {number} is not what its hash tree in {} has", place.name),
            );
        }
    }
    if changed > TOLD {
        cell.fault(of, 0, format!("{changed} blocks are not what was hashed"));
    }
    part.fact("blocks-checked", area.blocks);
}

/// Holds the root hashes of hash trees against those that boot menus give to kernels.
pub fn told(cell: &mut Cell<'_>, place: &Place, entries: &[BootEntry], trees: &[(String, String)]) {
    for entry in entries {
        for hash in entry
            .arguments
            .split_whitespace()
            .filter_map(|word| word.strip_prefix(ROOT_HASH))
        {
            // One with a path in front is of that image; without, of the one there is.
            let (image, hash) = hash
                .rsplit_once(':')
                .map_or((None, hash), |(image, hash)| (Some(image), hash));
            let mut fitting = trees
                .iter()
                .filter(|(of, _)| image.is_none_or(|image| of.ends_with(image)));
            if trees.is_empty() || fitting.any(|(_, root)| root.eq_ignore_ascii_case(hash)) {
                continue;
            }
            let roots: Vec<&str> = trees.iter().map(|(_, root)| root.as_str()).collect();
            cell.fault(
                place,
                0,
                format!(
                    "{}: `{}` tells the kernel the root hash {hash}, and the hash tree has {}",
                    entry.config,
                    entry.title,
                    roots.join(" ")
                ),
            );
        }
    }
}
