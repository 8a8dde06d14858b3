//! The database that apropos(1) reads: mandoc.db(5), version 1.

use super::page::NAME_FILE;

/// First and last number of the file.
const MAGIC: u32 = 0x3a7d_0cdb;
const VERSION: u32 = 1;
/// Tables of macros that the format has.
const TABLES: usize = 36;
/// Source of mdoc(7) or man(7), before the first file name.
const SOURCE: u8 = 1;

/// A page.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Entry {
    /// Names with where they are from.
    pub names: Vec<(Vec<u8>, u8)>,
    /// Sections.
    pub sections: Vec<Vec<u8>>,
    /// Architectures; none where the page is for all.
    pub architectures: Option<Vec<Vec<u8>>>,
    /// The description.
    pub description: Vec<u8>,
    /// Files, below the folder of the manual; the first is the page itself.
    pub files: Vec<Vec<u8>>,
}

impl Entry {
    /// Adds a name, or where it is from.
    pub fn name(&mut self, name: &[u8], bits: u8) {
        let name = text(name);
        if name.is_empty() {
            return;
        }
        match self.names.iter_mut().find(|(known, _)| *known == name) {
            Some((_, known)) => *known |= bits,
            None => self.names.push((name.to_vec(), bits)),
        }
    }

    /// Adds a section.
    pub fn section(&mut self, section: &[u8]) {
        add(&mut self.sections, section);
    }

    /// Adds a file with what its path says.
    pub fn file(&mut self, name: &[u8], sections: [&[u8]; 2], architecture: &[u8], path: &[u8]) {
        self.name(name, NAME_FILE);
        for section in sections {
            self.section(section);
        }
        match &mut self.architectures {
            Some(_) if architecture.is_empty() => self.architectures = None,
            Some(known) => add(known, architecture),
            None => {}
        }
        add(&mut self.files, path);
    }
}

fn add(list: &mut Vec<Vec<u8>>, value: &[u8]) {
    let value = text(value);
    if !value.is_empty() && !list.iter().any(|known| known == value) {
        list.push(value.to_vec());
    }
}

/// Strings of the file end with NUL.
fn text(value: &[u8]) -> &[u8] {
    value.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Writes the file; none where it would be larger than its numbers can say.
pub fn write(entries: &[Entry]) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let put = |out: &mut Vec<u8>, number: usize| -> Option<()> {
        let number = u32::try_from(number)
            .ok()
            .filter(|&number| number <= i32::MAX as u32)?;
        out.extend_from_slice(&number.to_be_bytes());
        Some(())
    };
    put(&mut out, MAGIC as usize)?;
    put(&mut out, VERSION as usize)?;
    out.extend_from_slice(&[0; 8]);
    put(&mut out, entries.len())?;
    let table = out.len();
    out.resize(table + entries.len() * 20, 0);
    let at = |out: &mut Vec<u8>, position: usize| -> Option<()> {
        let here = u32::try_from(out.len()).ok()?;
        out[position..position + 4].copy_from_slice(&here.to_be_bytes());
        Some(())
    };
    let list = |out: &mut Vec<u8>, strings: &mut dyn Iterator<Item = Vec<u8>>| {
        for string in strings {
            out.extend_from_slice(&string);
            out.push(0);
        }
        out.push(0);
    };
    for (number, entry) in entries.iter().enumerate() {
        at(&mut out, table + number * 20)?;
        let mut names = entry.names.clone();
        names.sort_by(|(a, a_bits), (b, b_bits)| {
            let lower = |name: &[u8]| name.to_ascii_lowercase();
            b_bits
                .cmp(a_bits)
                .then_with(|| lower(a).cmp(&lower(b)))
                .then_with(|| a.cmp(b))
        });
        let with_bits = |(name, bits): (Vec<u8>, u8)| [&[bits], name.as_slice()].concat();
        list(&mut out, &mut names.into_iter().map(with_bits));
    }
    for (number, entry) in entries.iter().enumerate() {
        at(&mut out, table + number * 20 + 4)?;
        let mut sections = entry.sections.clone();
        sections.sort();
        list(&mut out, &mut sections.into_iter());
    }
    for (number, entry) in entries.iter().enumerate() {
        if let Some(architectures) = &entry.architectures {
            at(&mut out, table + number * 20 + 8)?;
            let mut architectures = architectures.clone();
            architectures.sort();
            list(&mut out, &mut architectures.into_iter());
        }
    }
    for (number, entry) in entries.iter().enumerate() {
        at(&mut out, table + number * 20 + 12)?;
        out.extend_from_slice(text(&entry.description));
        out.push(0);
    }
    for (number, entry) in entries.iter().enumerate() {
        at(&mut out, table + number * 20 + 16)?;
        let mut files = entry.files.clone();
        if let Some(first) = files.first_mut() {
            first.insert(0, SOURCE);
        }
        list(&mut out, &mut files.into_iter());
    }
    out.resize(out.len().next_multiple_of(4), 0);
    at(&mut out, 8)?;
    put(&mut out, TABLES)?;
    let start = out.len() + TABLES * 4;
    for table in 0..TABLES {
        put(&mut out, start + table * 4)?;
    }
    // Keys of macros are what `makewhatis -Q` leaves out: the tables are empty.
    for _ in 0..TABLES {
        put(&mut out, 0)?;
    }
    at(&mut out, 12)?;
    put(&mut out, MAGIC as usize)?;
    Some(out)
}
