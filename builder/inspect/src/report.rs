//! What was found, for machines and for people.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use lycia_tree::Content;
use serde::Serialize;
use serde_json::Value;

use crate::map::Region;

/// Version of the report's form.
pub const FORMAT: u32 = 1;

/// All about a file.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this form, 1.
    pub version: u32,
    /// Its name.
    pub file: String,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
    /// What it is.
    pub part: Part,
    /// Files beside it that it was compared with.
    pub beside: Vec<String>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// Which bytes belong to what.
    #[serde(skip)]
    pub(crate) regions: Vec<Region>,
    /// What the regions are of, where it is not the file itself but was unpacked from it.
    #[serde(skip)]
    pub(crate) base: Option<Content>,
    /// Places that were not read to their end.
    #[serde(skip)]
    pub(crate) partial: BTreeSet<String>,
}

/// Something that was recognised.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Part {
    /// Where it is: empty for the file itself, else `partition 2` or `/live/filesystem.squashfs`, one behind the other.
    pub place: String,
    /// What it is, as `iso9660`, `gpt`, `squashfs`.
    pub format: String,
    /// First byte in the file, where it lies there as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes.
    pub size: u64,
    /// What it says of itself.
    pub facts: BTreeMap<String, Value>,
    /// What its boot menus offer.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub entries: Vec<BootEntry>,
    /// The system that is installed in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,
    /// Files, directories and the rest, in the order of the format.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<Item>,
    /// What lies in it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Part>,
}

/// An entry of a file system or archive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Absolute path; bytes that are no UTF-8 are escaped.
    pub path: String,
    /// `file`, `directory`, `symlink`, `hardlink`, `char`, `block`, `fifo`, `socket` or `whiteout`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Permission bits in octal.
    #[serde(serialize_with = "octal")]
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970 of the last modification.
    pub mtime: i64,
    /// Nanoseconds of it.
    #[serde(skip_serializing_if = "is_zero")]
    pub nanoseconds: u32,
    /// Bytes, of a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// SHA-256 of the content, of a file that could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Text of a link; the other name, of a hard link.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// `MAJOR:MINOR`, of a device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
    /// Extended attributes, values in hexadecimal.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub xattrs: BTreeMap<String, String>,
    /// Where it is from, as a manifest beside the file says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
}

fn is_zero(value: &u32) -> bool {
    *value == 0
}

fn octal<S: serde::Serializer>(mode: &u16, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{mode:04o}"))
}

/// What a boot menu offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BootEntry {
    /// The file that says so.
    pub config: String,
    /// Its title.
    pub title: String,
    /// The kernel.
    pub kernel: String,
    /// The kernel's arguments.
    pub arguments: String,
    /// The initramfs; several with spaces between them.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub initrd: String,
}

/// A system of packages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct System {
    /// What it calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Versions of its kernels.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kernels: Vec<String>,
    /// The allocator inside its C library.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allocator: Option<&'static str>,
    /// What was asked for.
    pub world: Vec<String>,
    /// Installed packages by name.
    pub packages: Vec<Installed>,
    /// Files of packages that are other than packaged.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub modified: Vec<String>,
    /// Files of packages that are not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
}

/// An installed package.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Installed {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// SPDX expression.
    pub license: String,
    /// What it was built from.
    pub origin: String,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The byte of the file from which on it was met, where that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// In which part, and which of its files; empty for the file itself.
    pub place: String,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(offset) = self.offset {
            write!(f, "byte {offset}: ")?;
        }
        if !self.place.is_empty() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.what)
    }
}

impl Part {
    /// Sets a fact.
    pub(crate) fn fact(&mut self, key: &str, value: impl Into<Value>) {
        self.facts.insert(key.to_owned(), value.into());
    }

    /// This part and all in it, outer ones first.
    pub fn walk(&self) -> Vec<&Part> {
        let mut found = vec![self];
        let mut at = 0;
        while let Some(part) = found.get(at).copied() {
            found.extend(&part.parts);
            at += 1;
        }
        found
    }

    fn each(&mut self, change: &mut dyn FnMut(&mut Part)) {
        change(self);
        for part in &mut self.parts {
            part.each(change);
        }
    }

    fn text(&self, depth: usize, files: bool, text: &mut String) {
        let indent = "  ".repeat(depth);
        let name = if self.place.is_empty() {
            "file"
        } else {
            &self.place
        };
        let at = self.offset.map(|at| format!(" at byte {at}")).unwrap_or_default();
        line(
            text,
            format_args!("{indent}{name}: {}, {} bytes{at}", self.format, self.size),
        );
        for (key, value) in &self.facts {
            match value {
                Value::Array(values) => {
                    for value in values {
                        line(text, format_args!("{indent}  {key}: {}", plain(value)));
                    }
                }
                value => {
                    line(text, format_args!("{indent}  {key}: {}", plain(value)));
                }
            }
        }
        for entry in &self.entries {
            line(
                text,
                format_args!(
                    "{indent}  boots \"{}\" ({}): {} {}",
                    entry.title, entry.config, entry.kernel, entry.arguments
                ),
            );
        }
        if let Some(system) = &self.system {
            system.text(&indent, text);
        }
        if files {
            for item in &self.files {
                line(text, format_args!("{indent}  {}", item.text()));
            }
        }
        for part in &self.parts {
            part.text(depth + 1, files, text);
        }
    }
}

/// Whether a terminal does something about a letter in place of showing it: control characters, ends of lines, and what turns the
/// direction of a text (Unicode Standard Annex 9).
pub fn acts(letter: char) -> bool {
    let turns = matches!(letter, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || turns || matches!(letter, '\u{2028}' | '\u{2029}')
}

/// Adds a line. What stands in a medium is shown and does nothing.
pub(crate) fn line(text: &mut String, words: std::fmt::Arguments<'_>) {
    for letter in words.to_string().chars() {
        if acts(letter) {
            text.extend(letter.escape_unicode());
        } else {
            text.push(letter);
        }
    }
    text.push('\n');
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.trim_end().replace('\n', "; "),
        other => other.to_string(),
    }
}

impl System {
    fn text(&self, indent: &str, text: &mut String) {
        for (key, value) in [
            ("system", self.name.clone()),
            ("kernels", self.kernels.join(" ")),
            ("allocator", self.allocator.unwrap_or_default().to_owned()),
            ("asked for", self.world.join(" ")),
        ] {
            if !value.is_empty() {
                line(text, format_args!("{indent}  {key}: {value}"));
            }
        }
        if !self.packages.is_empty() {
            let all: Vec<String> = self
                .packages
                .iter()
                .map(|one| format!("{}-{}", one.name, one.version))
                .collect();
            line(
                text,
                format_args!("{indent}  {} packages: {}", all.len(), all.join(" ")),
            );
        }
        for (word, paths) in [
            ("other than packaged", &self.modified),
            ("not there", &self.missing),
        ] {
            if !paths.is_empty() {
                line(text, format_args!("{indent}  {word}: {}", paths.join(" ")));
            }
        }
    }
}

impl Item {
    fn text(&self) -> String {
        let mut line = format!(
            "{:<9} {:04o} {}:{} {}",
            self.kind, self.mode, self.uid, self.gid, self.path
        );
        if let Some(target) = &self.target {
            let _ = write!(line, " -> {target}");
        }
        if let Some(device) = &self.device {
            let _ = write!(line, " {device}");
        }
        if let Some(size) = self.size {
            let _ = write!(line, ", {size} bytes");
        }
        if let Some(from) = &self.from {
            let _ = write!(line, ", from {from}");
        }
        line
    }
}

impl Report {
    /// Forgets the lists of files, which are long.
    pub fn without_files(&mut self) {
        self.part.each(&mut |part| part.files = Vec::new());
    }

    /// For people; with the lists of files or without.
    pub fn text(&self, files: bool) -> String {
        let mut text = String::new();
        line(&mut text, format_args!("{}", self.file));
        line(&mut text, format_args!("  sha256: {}", self.sha256));
        self.part.text(0, files, &mut text);
        for beside in &self.beside {
            line(&mut text, format_args!("compared with {beside}"));
        }
        for fault in &self.faults {
            line(&mut text, format_args!("wrong: {fault}"));
        }
        let verdict = match self.faults.len() {
            0 => "nothing is wrong".to_owned(),
            1 => "1 thing is wrong".to_owned(),
            count => format!("{count} things are wrong"),
        };
        text.push_str(&verdict);
        text.push('\n');
        text
    }

    /// Attributes the files of the root to where a manifest says that they are from.
    pub(crate) fn attribute(&mut self, origins: &BTreeMap<String, String>) {
        self.part.each(&mut |part| {
            if part.system.is_some() {
                for item in &mut part.files {
                    item.from = origins.get(&item.path).cloned();
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_medium_reaches_a_terminal_as_it_is() {
        let evil = || "a\u{1b}[2J\u{9b}1m\r\nwrong\u{202e}\u{7f}".to_owned();
        let mut part = Part {
            place: evil(),
            format: "gpt".to_owned(),
            entries: vec![BootEntry {
                config: evil(),
                title: evil(),
                kernel: evil(),
                arguments: evil(),
                initrd: evil(),
            }],
            system: Some(System {
                name: evil(),
                kernels: vec![evil()],
                world: vec![evil()],
                packages: vec![Installed {
                    name: evil(),
                    ..Installed::default()
                }],
                modified: vec![evil()],
                missing: vec![evil()],
                ..System::default()
            }),
            files: vec![Item {
                path: evil(),
                kind: "symlink",
                target: Some(evil()),
                from: Some(evil()),
                ..Item::default()
            }],
            ..Part::default()
        };
        part.fact("partitions", vec![evil()]);
        part.fact("label", evil());
        part.parts.push(part.clone());
        let report = Report {
            version: FORMAT,
            file: evil(),
            size: 1,
            sha256: String::new(),
            part,
            beside: vec![evil()],
            faults: vec![Fault {
                offset: None,
                place: evil(),
                what: evil(),
            }],
            regions: Vec::new(),
            base: None,
            partial: BTreeSet::new(),
        };
        let text = report.text(true);
        let raw = |letter: char| letter != '\n' && letter.is_control() || letter == '\u{202e}';
        assert!(!text.chars().any(raw), "{text:?}");
        assert!(text.contains("a\\u{1b}[2J"), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("wrong\\u")), "{text}");
    }
}
