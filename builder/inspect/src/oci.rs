//! Container images in an archive (OCI Image Format Specification 1.1: layout, index, manifest, configuration, layers).

use std::collections::BTreeMap;

use lycia_tree::Content;
use serde_json::Value;

use crate::archive::Member;
use crate::cell::{Cell, Place};
use crate::report::{Item, Part};
use crate::sink::{self, Listing};
use crate::{root, volumes};

/// Images of one index that are read.
const MANIFESTS: usize = 16;
/// Layers of one image that are read.
const LAYERS: usize = 128;

struct Blobs<'a> {
    members: BTreeMap<&'a str, &'a Member>,
    listing: &'a Listing,
}

/// What a descriptor leads to: its path, if it is as the descriptor says.
fn blob(cell: &mut Cell<'_>, place: &Place, blobs: &Blobs<'_>, descriptor: &Value) -> Option<String> {
    let digest = descriptor["digest"].as_str().unwrap_or_default();
    let path = format!("/blobs/{}", digest.replacen(':', "/", 1));
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
    let manifests = index["manifests"].as_array().cloned().unwrap_or_default();
    for descriptor in manifests.iter().take(MANIFESTS) {
        let Some(path) = blob(cell, place, &blobs, descriptor) else {
            continue;
        };
        let Some(manifest) = json(cell, place, &blobs, &path) else {
            continue;
        };
        let image = image(cell, place, bytes, &blobs, descriptor, &manifest);
        part.parts.push(image);
    }
}

fn image(
    cell: &mut Cell<'_>,
    place: &Place,
    bytes: &Content,
    blobs: &Blobs<'_>,
    descriptor: &Value,
    manifest: &Value,
) -> Part {
    let name = descriptor["annotations"]["org.opencontainers.image.ref.name"]
        .as_str()
        .or(descriptor["digest"].as_str())
        .unwrap_or("image");
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
    for (number, layer) in layers.iter().enumerate().take(LAYERS) {
        let Some(path) = blob(cell, place, blobs, layer) else {
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
        let layer = here.within(&format!("layer {}", number + 1));
        lay(cell, &layer, &unpacked, &mut merged, &mut items);
    }
    merged.items = items.into_values().collect();
    part.fact("layers", layers.len());
    part.fact("entries", merged.items.len());
    part.system = root::system(&merged, &mut |what| cell.fault(&here, 0, what));
    part.files = merged.items;
    part
}

/// Lays a layer over those below: whiteouts take away, all else replaces.
fn lay(
    cell: &mut Cell<'_>,
    place: &Place,
    layer: &Content,
    merged: &mut Listing,
    items: &mut BTreeMap<String, Item>,
) {
    let listing = crate::archive::list(cell, place, layer);
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
    for prefix in taken {
        let below: Vec<String> = items
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
            .map(|(path, _)| path.clone())
            .collect();
        for path in below {
            items.remove(&path);
            merged.kept.remove(&path);
        }
    }
    for item in listing.items {
        let name = item.path.rsplit('/').next().unwrap_or_default();
        if !name.starts_with(".wh.") {
            items.insert(item.path.clone(), item);
        }
    }
    merged.kept.extend(listing.kept);
}
