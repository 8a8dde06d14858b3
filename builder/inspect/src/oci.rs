//! Container images in an archive (OCI Image Format Specification 1.1: layout, index, manifest, configuration, layers).

use std::collections::BTreeMap;

use lycia_tree::Content;
use serde_json::Value;

use crate::archive::Member;
use crate::cell::{Cell, Place};
use crate::report::{Item, Part};
use crate::sink::{self, Listing};
use crate::{root, volumes};

/// Images of all indexes that are read.
const MANIFESTS: usize = 16;
/// Indexes in one another that are read.
const INDEXES: u32 = 4;
/// Descriptors of all indexes that are looked at.
const DESCRIPTORS: usize = 1024;
/// Layers of one image that are read.
const LAYERS: usize = 128;

struct Blobs<'a> {
    members: BTreeMap<&'a str, &'a Member>,
    listing: &'a Listing,
}

fn blob_path(digest: &str) -> String {
    format!("/blobs/{}", digest.replacen(':', "/", 1))
}

/// What a descriptor leads to: its path, if it is as the descriptor says.
fn blob(cell: &mut Cell<'_>, place: &Place, blobs: &Blobs<'_>, descriptor: &Value) -> Option<String> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let path = blob_path(digest);
    let Some(member) = blobs.members.get(path.as_str()) else {
        cell.fault(place, 0, format!("{digest} is named, but is not in the archive"));
        return None;
    };
    if descriptor["size"].as_u64() != Some(member.len) {
        cell.fault(
            place,
            member.start,
            format!(
                "{digest} has {} bytes, its descriptor says {}",
                member.len, descriptor["size"]
            ),
        );
    }
    Some(path)
}

fn json(cell: &mut Cell<'_>, place: &Place, blobs: &Blobs<'_>, path: &str) -> Option<Value> {
    let bytes = blobs.listing.kept.get(path)?;
    match serde_json::from_slice(bytes) {
        Ok(value) => Some(value),
        Err(error) => {
            let at = blobs.members.get(path).map_or(0, |member| member.start);
            cell.fault(place, at, format!("{path}: {error}"));
            None
        }
    }
}

/// Reads the images of an archive.
pub fn read(
    cell: &mut Cell<'_>,
    place: &Place,
    bytes: &Content,
    members: &[Member],
    listing: &Listing,
    part: &mut Part,
) {
    part.format = "oci".to_owned();
    let blobs = Blobs {
        members: members
            .iter()
            .map(|member| (member.path.as_str(), member))
            .collect(),
        listing,
    };
    for item in &listing.items {
        let (Some(named), Some(sha256)) = (item.path.strip_prefix("/blobs/sha256/"), &item.sha256) else {
            continue;
        };
        if named != sha256 {
            let at = blobs
                .members
                .get(item.path.as_str())
                .map_or(0, |member| member.start);
            cell.fault(place, at, format!("{}: its SHA-256 is {sha256}", item.path));
        }
    }
    // The only version that there is.
    let version = json(cell, place, &blobs, "/oci-layout");
    if version.is_some_and(|own| own["imageLayoutVersion"] != "1.0.0") {
        let at = blobs.members.get("/oci-layout").map_or(0, |member| member.start);
        cell.fault(place, at, "its oci-layout does not say version 1.0.0");
    }
    let Some(index) = json(cell, place, &blobs, "/index.json") else {
        cell.fault(place, 0, "there is no index.json");
        return;
    };
    let mut unread = Vec::new();
    for (name, manifest) in manifests(cell, place, &blobs, &index, &mut unread) {
        if part.parts.len() == MANIFESTS {
            unread.push(format!("{name}: more images than are read"));
            continue;
        }
        let image = image(cell, place, bytes, &blobs, &name, &manifest);
        part.parts.push(image);
    }
    if !unread.is_empty() {
        part.fact("not-read", unread);
    }
}

/// Manifests of images with their names, from an index and those that it names: archives for several platforms have one in another
/// (OCI image specification, "Image Index"). What is not looked at goes to `unread`.
fn manifests(
    cell: &mut Cell<'_>,
    place: &Place,
    blobs: &Blobs<'_>,
    index: &Value,
    unread: &mut Vec<String>,
) -> Vec<(String, Value)> {
    let listed = |index: &Value, depth: u32, above: Option<&str>| -> Vec<(Value, u32, Option<String>)> {
        let all = index["manifests"].as_array().into_iter().flatten().rev();
        all.map(|one| (one.clone(), depth, above.map(str::to_owned)))
            .collect()
    };
    let mut found = Vec::new();
    let mut stack = listed(index, 1, None);
    let mut seen = 0;
    while let Some((descriptor, depth, above)) = stack.pop() {
        seen += 1;
        if seen > DESCRIPTORS {
            unread.push("more descriptors than are looked at".to_owned());
            break;
        }
        let name = named(&descriptor, above.as_deref());
        let digest = descriptor["digest"].as_str().unwrap_or_default();
        // Of a list for several platforms an archive may have some: that is for who copied it to say.
        if depth > 1 && !blobs.members.contains_key(blob_path(digest).as_str()) {
            unread.push(format!("{name}: {digest} is not in the archive"));
            continue;
        }
        let Some(manifest) =
            blob(cell, place, blobs, &descriptor).and_then(|path| json(cell, place, blobs, &path))
        else {
            cell.partial(place);
            continue;
        };
        if !manifest["manifests"].is_array() {
            found.push((name, manifest));
        } else if depth < INDEXES {
            stack.extend(listed(&manifest, depth + 1, Some(&name)));
        } else {
            unread.push(format!("{name}: too many indexes lie in one another"));
        }
    }
    found
}

/// What an image or index is called: by its own name, by that of the index that it is of and its platform, or by its digest.
fn named(descriptor: &Value, above: Option<&str>) -> String {
    if let Some(own) = descriptor["annotations"]["org.opencontainers.image.ref.name"].as_str() {
        return own.to_owned();
    }
    let field = |key: &str| descriptor["platform"][key].as_str();
    let known = |word: &&str| *word != "unknown";
    if let (Some(above), Some(os), Some(architecture)) = (
        above,
        field("os").filter(known),
        field("architecture").filter(known),
    ) {
        let variant = field("variant").map(|variant| format!("/{variant}"));
        return format!("{above} {os}/{architecture}{}", variant.unwrap_or_default());
    }
    descriptor["digest"].as_str().unwrap_or("image").to_owned()
}

fn image(
    cell: &mut Cell<'_>,
    place: &Place,
    bytes: &Content,
    blobs: &Blobs<'_>,
    name: &str,
    manifest: &Value,
) -> Part {
    let here = place.within(&format!("image {name}"));
    let mut part = Part {
        place: here.name.clone(),
        format: "oci-image".to_owned(),
        ..Part::default()
    };
    let mut diff_ids = Vec::new();
    if let Some(path) = blob(cell, place, blobs, &manifest["config"])
        && let Some(config) = json(cell, place, blobs, &path)
    {
        for key in ["architecture", "os", "created"] {
            if let Some(value) = config[key].as_str() {
                part.fact(key, value);
            }
        }
        for (key, field) in [
            ("command", "Cmd"),
            ("entrypoint", "Entrypoint"),
            ("environment", "Env"),
        ] {
            if let Some(value) = config["config"][field].as_array() {
                part.fact(key, value.clone());
            }
        }
        diff_ids = config["rootfs"]["diff_ids"]
            .as_array()
            .cloned()
            .unwrap_or_default();
    }
    let layers = manifest["layers"].as_array().cloned().unwrap_or_default();
    if diff_ids.len() != layers.len() {
        cell.fault(
            place,
            0,
            format!(
                "{} layers, but the configuration has {}",
                layers.len(),
                diff_ids.len()
            ),
        );
    }
    let mut merged = Listing::default();
    let mut items: BTreeMap<String, Item> = BTreeMap::new();
    let mut unread = Vec::new();
    if layers.len() > LAYERS {
        unread.push(format!(
            "{} layers above the first {LAYERS}",
            layers.len() - LAYERS
        ));
    }
    for (number, layer) in layers.iter().enumerate().take(LAYERS) {
        let Some(path) = blob(cell, place, blobs, layer) else {
            cell.partial(&here);
            continue;
        };
        let Some(member) = blobs.members.get(path.as_str()) else {
            continue;
        };
        part.size += member.len;
        let Some(content) = volumes::range(bytes, member.start, member.len) else {
            continue;
        };
        let unpacked = match lycia_media::compress::Format::detect(content.bytes()) {
            None => content,
            Some(format) => match cell.unpack(content.bytes(), format) {
                Ok(unpacked) => unpacked,
                Err(error) => {
                    cell.fault(place, member.start, format!("layer {}: {error}", number + 1));
                    cell.partial(&here);
                    continue;
                }
            },
        };
        let expected = diff_ids.get(number).and_then(Value::as_str).unwrap_or_default();
        let actual = format!("sha256:{}", sink::sha256(unpacked.bytes()));
        if expected != actual {
            cell.fault(
                place,
                member.start,
                format!(
                    "layer {}: unpacked it is {actual}, the configuration says {expected}",
                    number + 1
                ),
            );
        }
        // Manifests can be of other things than images, as what is said about one: they have files in place of archives.
        if let Some(kind) = layer["mediaType"].as_str().filter(|kind| !kind.contains("tar")) {
            unread.push(format!("layer {}: {kind}", number + 1));
            continue;
        }
        let layer = here.within(&format!("layer {}", number + 1));
        let whole = cell.partial.len();
        let left = lay(cell, &layer, &unpacked, &mut merged, &mut items);
        if cell.partial.len() > whole {
            cell.partial(&here);
        }
        unread.extend(left.map(|left| format!("layer {}, {left}", number + 1)));
    }
    merged.items = items.into_values().collect();
    part.fact("layers", layers.len());
    if !unread.is_empty() {
        part.fact("not-read", unread);
    }
    part.fact("entries", merged.items.len());
    part.system = root::system(&merged, &mut |what| cell.fault(&here, 0, what));
    part.files = merged.items;
    part
}

/// Lays a layer over those below: whiteouts take away, all else replaces. Says what of it is not read.
fn lay(
    cell: &mut Cell<'_>,
    place: &Place,
    layer: &Content,
    merged: &mut Listing,
    items: &mut BTreeMap<String, Item>,
) -> Option<String> {
    let (listing, unread) = crate::archive::list(cell, place, layer);
    if listing.allocator.is_some() {
        merged.allocator = listing.allocator;
    }
    let mut taken: Vec<String> = Vec::new();
    for item in &listing.items {
        let (folder, name) = item.path.rsplit_once('/').unwrap_or_default();
        if name == ".wh..wh..opq" {
            taken.push(format!("{folder}/"));
        } else if let Some(gone) = name.strip_prefix(".wh.") {
            items.remove(&format!("{folder}/{gone}"));
            merged.kept.remove(&format!("{folder}/{gone}"));
            taken.push(format!("{folder}/{gone}/"));
        }
    }
    let clear = |prefix: &str, items: &mut BTreeMap<String, Item>, merged: &mut Listing| {
        let below: Vec<String> = items
            .range(prefix.to_owned()..)
            .take_while(|(path, _)| path.starts_with(prefix))
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            items.remove(&path);
            merged.kept.remove(&path);
        }
    };
    for prefix in taken {
        clear(&prefix, items, merged);
    }
    for item in listing.items {
        let name = item.path.rsplit('/').next().unwrap_or_default();
        if !name.starts_with(".wh.") {
            // What takes the place of a directory takes away what lay in it.
            if item.kind != "directory" && items.get(&item.path).is_none_or(|old| old.kind == "directory") {
                clear(&format!("{}/", item.path), items, merged);
            }
            merged.kept.remove(&item.path);
            items.insert(item.path.clone(), item);
        }
    }
    merged.kept.extend(listing.kept);
    unread
}
