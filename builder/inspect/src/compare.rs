//! What differs between two media: by part, by file, by package and by byte.

use std::collections::{BTreeMap, BTreeSet};

use lycia_tree::Content;
use serde::Serialize;
use serde_json::Value;

use crate::map;
use crate::report::{Fault, Item, Part, Report, line};

/// Ranges of one structure that are named one by one.
const RANGES: usize = 16;
/// Equal bytes between two ranges that make them two.
const GAP: usize = 16;
/// Bytes that are compared at once.
const PIECE: usize = 64 << 10;

/// All that differs.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Difference {
    /// What is wrong with the media: what follows can be of that.
    pub damage: Vec<Damage>,
    /// Parts that were not read to their end: what one side lacks of them may be there.
    pub unread: Vec<Unread>,
    /// What parts say of themselves.
    pub values: Vec<ChangedValue>,
    /// Parts that only one of the media has.
    pub parts: Vec<ChangedPart>,
    /// Packages of installed systems.
    pub packages: Vec<ChangedValue>,
    /// Files.
    pub files: Vec<ChangedFile>,
    /// Bytes, by what they belong to.
    pub bytes: Vec<Touched>,
}

/// Which of two media.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Which {
    /// The first.
    Old,
    /// The second.
    New,
}

impl Which {
    fn word(self) -> &'static str {
        match self {
            Which::Old => "old",
            Which::New => "new",
        }
    }
}

/// Something that is wrong with one of the media.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Damage {
    /// Of which one.
    pub side: Which,
    /// What.
    #[serde(flatten)]
    pub fault: Fault,
}

/// A part of one of the media that was not read to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unread {
    /// Of which one.
    pub side: Which,
    /// Where.
    pub place: String,
}

/// A value that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChangedValue {
    /// Of which part.
    pub place: String,
    /// Its name.
    pub key: String,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Value>,
    /// After.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Value>,
}

/// A part that was not there, or no longer is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedPart {
    /// Where.
    pub place: String,
    /// What it is.
    pub format: String,
    /// `added` or `removed`.
    pub what: Change,
}

/// What happened to a file or part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
    /// It is something else, as a directory in place of a file.
    Type,
    /// The bytes.
    Content,
    /// The permission bits.
    Mode,
    /// User or group.
    Owner,
    /// The time of last modification.
    Mtime,
    /// The text of a link.
    Target,
    /// The number of a device.
    Device,
    /// Extended attributes.
    Xattrs,
}

impl Change {
    fn word(self) -> &'static str {
        match self {
            Change::Added => "added",
            Change::Removed => "removed",
            Change::Type => "type",
            Change::Content => "content",
            Change::Mode => "mode",
            Change::Owner => "owner",
            Change::Mtime => "mtime",
            Change::Target => "target",
            Change::Device => "device",
            Change::Xattrs => "xattrs",
        }
    }
}

/// A file on one side.
pub type Side = Item;

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ChangedFile {
    /// In which part.
    pub place: String,
    /// Its path.
    pub path: String,
    /// What of it differs.
    pub what: Vec<Change>,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Side>,
    /// After.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Side>,
}

/// Bytes that differ, of one structure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Touched {
    /// What they belong to: of the old medium, and of the new one where that has something else there.
    pub structure: String,
    /// How many differ.
    pub bytes: u64,
    /// Where, the first few.
    pub ranges: Vec<Range>,
    /// How many ranges there are.
    pub count: u64,
}

/// A range of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Range {
    /// First byte.
    pub start: u64,
    /// First byte behind it.
    pub end: u64,
}

/// What parts are matched by: their place without the packing around all of it.
fn key(part: &Part) -> String {
    if part.parts.iter().any(|inner| inner.place == "unpacked") {
        return "packing".to_owned();
    }
    match part.place.strip_prefix("unpacked") {
        Some(rest) => rest.strip_prefix(": ").unwrap_or(rest).to_owned(),
        None => part.place.clone(),
    }
}

/// What differs between two files that were inspected, with their bytes.
pub fn compare(old: (&Report, &Content), new: (&Report, &Content)) -> Difference {
    let mut difference = Difference::default();
    let sides = [old.0, new.0].map(|report| {
        let parts: BTreeMap<String, &Part> = report
            .part
            .walk()
            .into_iter()
            .map(|part| (key(part), part))
            .collect();
        parts
    });
    let unread = [old.0, new.0].map(|report| {
        let parts = report.part.walk().into_iter();
        // What nothing is known of may be a damaged something.
        let unread = parts.filter(|part| report.partial.contains(&part.place) || part.format == "unknown");
        unread.map(key).collect::<BTreeSet<String>>()
    });
    for (number, side) in [Which::Old, Which::New].into_iter().enumerate() {
        let report = [old.0, new.0][number];
        let damage = report.faults.iter().cloned();
        difference
            .damage
            .extend(damage.map(|fault| Damage { side, fault }));
        let places = unread[number].iter().cloned();
        difference
            .unread
            .extend(places.map(|place| Unread { side, place }));
    }
    let keys: BTreeSet<&String> = sides[0].keys().chain(sides[1].keys()).collect();
    for key in keys {
        match (sides[0].get(key), sides[1].get(key)) {
            (Some(old), Some(new)) => {
                let whole = [0, 1].map(|side| !unread[side].contains(key));
                part(key, (old, new), whole, &mut difference);
            }
            // It may be in what was not read.
            (old, _) if within(key, &unread[usize::from(old.is_some())]) => {}
            (old, new) => {
                let what = if old.is_some() {
                    Change::Removed
                } else {
                    Change::Added
                };
                if let Some(part) = old.or(new) {
                    difference.parts.push(ChangedPart {
                        place: key.clone(),
                        format: part.format.clone(),
                        what,
                    });
                }
            }
        }
    }
    let base = |(report, bytes): (&Report, &Content)| report.base.clone().unwrap_or_else(|| bytes.clone());
    let (old_bytes, new_bytes) = (base(old), base(new));
    difference.bytes = bytes(
        (old_bytes.bytes(), &map::flat(&old.0.regions, old_bytes.len())),
        (new_bytes.bytes(), &map::flat(&new.0.regions, new_bytes.len())),
    );
    difference
}

/// Whether a part lies in one of those of these keys.
fn within(key: &str, outer: &BTreeSet<String>) -> bool {
    outer.iter().any(|outer| {
        let rest = key.strip_prefix(outer.as_str());
        matches!(&**outer, "" | "packing") || rest.is_some_and(|rest| rest.starts_with(": "))
    })
}

fn values(
    place: &str,
    old: &BTreeMap<String, Value>,
    new: &BTreeMap<String, Value>,
    found: &mut Vec<ChangedValue>,
) {
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for key in keys {
        let (old, new) = (old.get(key), new.get(key));
        if old != new {
            found.push(ChangedValue {
                place: place.to_owned(),
                key: key.clone(),
                old: old.cloned(),
                new: new.cloned(),
            });
        }
    }
}

/// What differs between two parts. `whole` says of each whether it was read to its end: what the other has and it has not may be in
/// what was not read, and what follows from all of its files is not known.
fn part(place: &str, (old, new): (&Part, &Part), whole: [bool; 2], difference: &mut Difference) {
    let [old_whole, new_whole] = whole;
    let both = old_whole && new_whole;
    let all = |part: &Part| {
        let mut facts = part.facts.clone();
        if !both {
            facts.remove("entries");
        }
        facts.insert("format".to_owned(), part.format.clone().into());
        facts.insert("size".to_owned(), part.size.into());
        for (number, entry) in part.entries.iter().enumerate().filter(|_| both) {
            facts.insert(
                format!("menu entry {} of {}", number + 1, entry.config),
                format!(
                    "{} {} {} {}",
                    entry.title, entry.kernel, entry.arguments, entry.initrd
                )
                .into(),
            );
        }
        if let Some(system) = part.system.as_ref().filter(|_| both) {
            facts.insert("world".to_owned(), system.world.join(" ").into());
            facts.insert(
                "allocator".to_owned(),
                system.allocator.unwrap_or_default().into(),
            );
        }
        facts
    };
    values(place, &all(old), &all(new), &mut difference.values);
    let packages = |part: &Part| -> BTreeMap<String, Value> {
        let system = part.system.iter();
        system
            .flat_map(|system| &system.packages)
            .map(|one| (one.name.clone(), one.version.clone().into()))
            .collect()
    };
    if both {
        values(place, &packages(old), &packages(new), &mut difference.packages);
    }
    let files = |part: &Part| -> BTreeMap<String, Item> {
        part.files
            .iter()
            .map(|item| (item.path.clone(), item.clone()))
            .collect()
    };
    let (old, new) = (files(old), files(new));
    let paths: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for path in paths {
        let (old, new) = (old.get(path), new.get(path));
        let what = match (old, new) {
            (None, _) if !old_whole => Vec::new(),
            (_, None) if !new_whole => Vec::new(),
            (None, _) => vec![Change::Added],
            (_, None) => vec![Change::Removed],
            (Some(old), Some(new)) => {
                let differs = [
                    (Change::Type, old.kind != new.kind),
                    (
                        Change::Content,
                        (old.size, &old.sha256) != (new.size, &new.sha256),
                    ),
                    (Change::Mode, old.mode != new.mode),
                    (Change::Owner, (old.uid, old.gid) != (new.uid, new.gid)),
                    (
                        Change::Mtime,
                        (old.mtime, old.nanoseconds) != (new.mtime, new.nanoseconds),
                    ),
                    (Change::Target, old.target != new.target),
                    (Change::Device, old.device != new.device),
                    (Change::Xattrs, old.xattrs != new.xattrs),
                ];
                differs
                    .into_iter()
                    .filter(|(_, differs)| *differs)
                    .map(|(what, _)| what)
                    .collect()
            }
        };
        if !what.is_empty() {
            difference.files.push(ChangedFile {
                place: place.to_owned(),
                path: path.clone(),
                what,
                old: old.cloned(),
                new: new.cloned(),
            });
        }
    }
}

/// The label at a place, and where that ends. Places are asked for in rising order.
struct Cursor<'f, 'l> {
    flat: &'f [(u64, u64, &'l str)],
    at: usize,
}

impl<'l> Cursor<'_, 'l> {
    fn label(&mut self, place: u64) -> (&'l str, u64) {
        while let Some(&(_, end, label)) = self.flat.get(self.at) {
            if place < end {
                return (label, end);
            }
            self.at += 1;
        }
        ("behind the end", u64::MAX)
    }
}

type Flat<'b, 'l> = (&'b [u8], &'b [(u64, u64, &'l str)]);

fn bytes(old: Flat<'_, '_>, new: Flat<'_, '_>) -> Vec<Touched> {
    let mut touched: BTreeMap<String, (u64, Touched)> = BTreeMap::new();
    let mut cursors = [Cursor { flat: old.1, at: 0 }, Cursor { flat: new.1, at: 0 }];
    let mut add = |start: usize, end: usize, differing: &dyn Fn(usize, usize) -> u64| {
        let mut at = start as u64;
        while at < end as u64 {
            let [(one, one_end), (other, other_end)] = cursors.each_mut().map(|cursor| cursor.label(at));
            let stop = (end as u64).min(one_end).min(other_end);
            let nameless = |label: &str| match label {
                "" => "outside of everything that is known".to_owned(),
                label => label.to_owned(),
            };
            let structure = match one == other {
                true => nameless(one),
                false => format!("{} (old); {} (new)", nameless(one), nameless(other)),
            };
            let entry = touched.entry(structure.clone()).or_insert_with(|| {
                (
                    at,
                    Touched {
                        structure,
                        bytes: 0,
                        ranges: Vec::new(),
                        count: 0,
                    },
                )
            });
            entry.1.bytes += differing(at as usize, stop as usize);
            entry.1.count += 1;
            if entry.1.ranges.len() < RANGES {
                entry.1.ranges.push(Range { start: at, end: stop });
            }
            at = stop;
        }
    };
    let common = old.0.len().min(new.0.len());
    let differing = |from: usize, to: usize| {
        let (one, other) = (&old.0[from..to], &new.0[from..to]);
        one.iter().zip(other).filter(|(one, other)| one != other).count() as u64
    };
    let mut open: Option<(usize, usize)> = None;
    let mut at = 0;
    while at < common {
        let end = (at + PIECE).min(common);
        if old.0[at..end] == new.0[at..end] {
            at = end;
            continue;
        }
        for place in at..end {
            if old.0[place] == new.0[place] {
                continue;
            }
            open = match open {
                Some((start, last)) if place - last <= GAP => Some((start, place)),
                Some((start, last)) => {
                    add(start, last + 1, &differing);
                    Some((place, place))
                }
                None => Some((place, place)),
            };
        }
        at = end;
    }
    if let Some((start, last)) = open {
        add(start, last + 1, &differing);
    }
    let longest = old.0.len().max(new.0.len());
    if longest > common {
        add(common, longest, &|from, to| (to - from) as u64);
    }
    let mut all: Vec<(u64, Touched)> = touched.into_values().collect();
    all.sort_by_key(|(first, _)| *first);
    all.into_iter().map(|(_, touched)| touched).collect()
}

impl Difference {
    /// Whether there is none. Damage that both have alike is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
            && self.parts.is_empty()
            && self.packages.is_empty()
            && self.files.is_empty()
            && self.bytes.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let named = |place: &str| {
            if place.is_empty() {
                String::new()
            } else {
                format!("{place}: ")
            }
        };
        let shown = |value: &Option<Value>| match value {
            None => "nothing".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        for damage in &self.damage {
            line(
                &mut text,
                format_args!("damaged   {}: {}", damage.side.word(), damage.fault),
            );
        }
        for unread in &self.unread {
            line(
                &mut text,
                format_args!(
                    "not read  {}: {}not all of it; what it seems to lack is left out",
                    unread.side.word(),
                    named(&unread.place)
                ),
            );
        }
        for part in &self.parts {
            line(
                &mut text,
                format_args!("{:<9} {} ({})", part.what.word(), part.place, part.format),
            );
        }
        for value in &self.values {
            line(
                &mut text,
                format_args!(
                    "value     {}{}: {} -> {}",
                    named(&value.place),
                    value.key,
                    shown(&value.old),
                    shown(&value.new)
                ),
            );
        }
        for package in &self.packages {
            line(
                &mut text,
                format_args!(
                    "package   {}{}: {} -> {}",
                    named(&package.place),
                    package.key,
                    shown(&package.old),
                    shown(&package.new)
                ),
            );
        }
        for file in &self.files {
            let words: Vec<&str> = file.what.iter().map(|what| what.word()).collect();
            let size = |side: &Option<Side>| side.as_ref().and_then(|item| item.size);
            let sizes = match (size(&file.old), size(&file.new)) {
                (Some(old), Some(new)) if file.what.contains(&Change::Content) => {
                    format!(", {old} -> {new} bytes")
                }
                (Some(size), None) | (None, Some(size)) => format!(", {size} bytes"),
                _ => String::new(),
            };
            line(
                &mut text,
                format_args!(
                    "file      {}{}: {}{sizes}",
                    named(&file.place),
                    file.path,
                    words.join(", ")
                ),
            );
        }
        for touched in &self.bytes {
            let ranges: Vec<String> = touched
                .ranges
                .iter()
                .take(4)
                .map(|range| format!("{}-{}", range.start, range.end - 1))
                .collect();
            let more = touched.count.saturating_sub(ranges.len() as u64);
            line(
                &mut text,
                format_args!(
                    "bytes     {}: {} differ, {}{}",
                    touched.structure,
                    touched.bytes,
                    ranges.join(" "),
                    if more > 0 {
                        format!(" and {more} ranges more")
                    } else {
                        String::new()
                    }
                ),
            );
        }
        if self.is_empty() {
            text.push_str("no difference\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_medium_reaches_a_terminal_as_it_is() {
        let evil = || "a\u{1b}[2J\r\nb\u{9b}".to_owned();
        let value = || ChangedValue {
            place: evil(),
            key: evil(),
            old: Some(evil().into()),
            new: Some(evil().into()),
        };
        let difference = Difference {
            damage: vec![Damage {
                side: Which::Old,
                fault: Fault {
                    offset: None,
                    place: evil(),
                    what: evil(),
                },
            }],
            unread: vec![Unread {
                side: Which::New,
                place: evil(),
            }],
            values: vec![value()],
            parts: vec![ChangedPart {
                place: evil(),
                format: evil(),
                what: Change::Added,
            }],
            packages: vec![value()],
            files: vec![ChangedFile {
                place: evil(),
                path: evil(),
                what: vec![Change::Added],
                old: None,
                new: None,
            }],
            bytes: vec![Touched {
                structure: evil(),
                bytes: 1,
                ranges: Vec::new(),
                count: 0,
            }],
        };
        let text = difference.text();
        assert_eq!(text.lines().count(), 7, "{text}");
        assert!(
            !text.chars().any(|letter| letter != '\n' && letter.is_control()),
            "{text:?}"
        );
    }
}
