//! The database of manual pages, in place of `makewhatis -Tutf8`, which the trigger of `mandoc-apropos` runs: names,
//! descriptions, sections and architectures, which is what `makewhatis -Q` makes. Keys of single macros
//! (`apropos Fl=x`) are not in it. After the facts of mandoc 1.14.6 with Chimera's changes: a page without a title
//! is known by its file name; folders `cat*` of formatted pages are passed over.

mod characters;
mod database;
mod escape;
mod number;
mod page;
mod roff;

use std::io::Read as _;

use lycia_tree::{Follow, InodeId, Node, Timestamp, Tree, display};

use crate::{RootError, Step, replace};
use database::Entry;

/// The package whose trigger this is.
pub(crate) const PACKAGE: &str = "mandoc-apropos";
/// Where manuals are, if `man.conf` does not say.
const FOLDERS: &[&str] = &["/usr/local/share/man", "/usr/share/man"];
const CONFIG: &[u8] = b"etc/man.conf";
/// The name of the database in the folder of a manual.
const DATABASE: &str = "mandoc.db";
/// Most bytes of a page, uncompressed.
const PAGE_MAX: u64 = 8 << 20;
/// Most files of a manual.
const FILES_MAX: usize = 1_000_000;

/// A file of the manual.
struct Link {
    /// Below the folder of the manual.
    path: Vec<u8>,
    name: Vec<u8>,
    /// Of the folder, and of the file.
    sections: [Vec<u8>; 2],
    architecture: Vec<u8>,
    /// Its page.
    page: usize,
}

/// An inode with its names.
struct Inode {
    id: InodeId,
    /// In the order of paths.
    links: Vec<usize>,
    /// Its entry, once it is made.
    entry: Option<usize>,
}

/// Writes the database of each manual that has pages.
///
/// # Errors
/// When the tree refuses a path.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Step, RootError> {
    let mut step = Step::default();
    for folder in folders(tree) {
        let Some(base) = crate::glob::lookup(tree, folder.as_bytes(), Follow::All) else {
            continue;
        };
        let Some(bytes) = build(tree, &folder, base, &mut step.warnings)? else {
            continue;
        };
        let path = format!("{folder}/{DATABASE}");
        replace(tree, path.as_bytes(), 0o644, bytes, time, &mut step.written)?;
    }
    Ok(step)
}

/// The folders of manuals: those of man.conf(5), or the usual ones.
fn folders(tree: &Tree) -> Vec<String> {
    let text = tree.read(CONFIG).unwrap_or_default();
    let text = String::from_utf8_lossy(text);
    let mut found: Vec<String> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        if let (Some("manpath"), Some(folder)) = (words.next(), words.next()) {
            let folder = folder.trim_end_matches('/').to_owned();
            if folder.starts_with('/') && !found.contains(&folder) {
                found.push(folder);
            }
        }
    }
    if found.is_empty() {
        found.extend(FOLDERS.iter().map(|&folder| folder.to_owned()));
    }
    found
}

/// The database of a manual; none where it has no pages.
fn build(
    tree: &Tree,
    folder: &str,
    base: InodeId,
    warnings: &mut Vec<String>,
) -> Result<Option<Vec<u8>>, RootError> {
    let (mut links, mut pages) = scan(tree, folder, base)?;
    let mut by_path: std::collections::HashMap<Vec<u8>, usize> = std::collections::HashMap::new();
    for (number, link) in links.iter().enumerate() {
        by_path.insert(link.path.clone(), number);
    }
    let content = |path: &[u8]| -> Option<Vec<u8>> {
        let full = [folder.as_bytes(), b"/", path].concat();
        let id = crate::glob::lookup(tree, &full, Follow::All)?;
        let bytes = tree.inode(id).content()?.bytes();
        unpacked(path, bytes).ok()
    };
    let include = |path: &[u8]| content(path).or_else(|| content(&[path, b".gz"].concat()));
    let mut entries: Vec<Entry> = Vec::new();
    for number in 0..pages.len() {
        let Some(&first) = pages[number].links.first() else {
            continue;
        };
        let bytes = match tree.inode(pages[number].id).content() {
            Some(content) => content.bytes(),
            None => continue,
        };
        let page = match unpacked(&links[first].path, bytes) {
            Ok(text) => page::read(&text, &include),
            Err(why) => {
                warnings.push(format!(
                    "{folder}/{}: {why}; apropos knows the page by its name alone",
                    display(&links[first].path)
                ));
                page::Page::default()
            }
        };
        if let Some(target) = &page.redirect {
            let there = by_path.get(target).copied();
            if let Some(target) =
                there.or_else(|| by_path.get(&[target, b".gz".as_slice()].concat()).copied())
            {
                let moved = std::mem::take(&mut pages[number].links);
                let to = links[target].page;
                for &link in &moved {
                    links[link].page = to;
                    if let Some(entry) = pages[to].entry {
                        let link = &links[link];
                        let sections = [link.sections[0].as_slice(), link.sections[1].as_slice()];
                        entries[entry].file(&link.name, sections, &link.architecture, &link.path);
                    }
                }
                if to != number {
                    let list = &mut pages[to].links;
                    let at = list
                        .iter()
                        .position(|&link| link == target)
                        .map_or(list.len(), |at| at + 1);
                    list.splice(at..at, moved);
                }
                continue;
            }
        }
        let link = &links[first];
        let titled = page.titled && page.redirect.is_none();
        let mut entry = Entry::default();
        let architecture = match page.architecture.is_empty() || !titled {
            true => &link.architecture,
            false => &page.architecture,
        };
        entry.architectures = (!architecture.is_empty()).then(|| vec![architecture.clone()]);
        entry.description = match page.description {
            Some(description) if titled => description,
            _ => escape::rendered(&link.name),
        };
        entry.section(if titled { &page.section } else { &link.sections[0] });
        for &link in &pages[number].links {
            let link = &links[link];
            let sections = [link.sections[0].as_slice(), link.sections[1].as_slice()];
            entry.file(&link.name, sections, &link.architecture, &link.path);
            entry.name(&escape::rendered(&link.name), page::NAME_FILE);
        }
        if titled {
            for (name, bits) in &page.names {
                entry.name(name, *bits);
            }
        }
        pages[number].entry = Some(entries.len());
        entries.push(entry);
    }
    if entries.is_empty() {
        return Ok(None);
    }
    let written = database::write(&entries);
    if written.is_none() {
        warnings.push(format!("{folder}: the manual is too large for a {DATABASE}"));
    }
    Ok(written)
}

/// The text of a page, which is compressed where its name says so.
fn unpacked(path: &[u8], bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut text = Vec::new();
    let limit = |text: &[u8]| match text.len() as u64 > PAGE_MAX {
        true => Err(format!("it has more than {} MiB", PAGE_MAX >> 20)),
        false => Ok(()),
    };
    if path.ends_with(b".gz") {
        let reader = flate2::read::MultiGzDecoder::new(bytes);
        let read = reader.take(PAGE_MAX + 1).read_to_end(&mut text);
        read.map_err(|error| format!("it cannot be uncompressed: {error}"))?;
        limit(&text)?;
    } else {
        limit(bytes)?;
        text.extend_from_slice(bytes);
    }
    // As mandoc reads, a NUL ends the page.
    if let Some(end) = text.iter().position(|&byte| byte == 0) {
        text.truncate(end);
    }
    Ok(text)
}

/// Finds the files of a manual, and what they are names of.
fn scan(tree: &Tree, folder: &str, base: InodeId) -> Result<(Vec<Link>, Vec<Inode>), RootError> {
    let mut links = Vec::new();
    let canonical = tree.canonical(folder.as_bytes(), Follow::All)?;
    let below = [canonical.as_slice(), b"/"].concat();
    let mut ids = Vec::new();
    let entries = |id: InodeId| tree.inode(id).entries().into_iter().flatten();
    let mut take = |path: Vec<u8>, section: &[u8], architecture: &[u8], id: InodeId| {
        let Some(name) = path.rsplit(|&byte| byte == b'/').next() else {
            return;
        };
        let Some((name, suffix)) = split(name, section) else {
            return;
        };
        let target = match tree.inode(id).node() {
            Some(Node::Regular(_)) => Some(id),
            Some(Node::Symlink(_)) => {
                let full = [folder.as_bytes(), b"/", &path].concat();
                let inside = tree
                    .canonical(&full, Follow::All)
                    .is_ok_and(|to| to.starts_with(&below));
                crate::glob::lookup(tree, &full, Follow::All).filter(|_| inside)
            }
            _ => None,
        };
        if let Some(target) = target.filter(|&id| tree.inode(id).content().is_some()) {
            // A section `0` says that the page is formatted: the folder's counts.
            let suffix = if suffix.starts_with(b"0") { section } else { suffix };
            let sections = [section.to_vec(), suffix.to_vec()];
            let name = name.to_vec();
            ids.push(target);
            links.push(Link {
                path,
                name,
                sections,
                architecture: architecture.to_vec(),
                page: 0,
            });
        }
    };
    for (outer, &id) in entries(base) {
        let Some(section) = outer.strip_prefix(b"man") else {
            continue;
        };
        for (name, &id) in entries(id) {
            let path = [outer.as_slice(), b"/", name].concat();
            if !tree.inode(id).is_directory() {
                take(path, section, b"", id);
                continue;
            }
            for (inner, &id) in entries(id) {
                take([&path, b"/".as_slice(), inner].concat(), section, name, id);
            }
        }
    }
    if links.len() > FILES_MAX {
        return Err(RootError::File {
            file: folder.to_owned(),
            what: format!("the manual has more than {FILES_MAX} files"),
        });
    }
    // A page comes where the last of its names is.
    let mut pages: Vec<Inode> = Vec::new();
    let mut by_id = std::collections::HashMap::new();
    for (number, &id) in ids.iter().enumerate().rev() {
        let page = *by_id.entry(id).or_insert_with(|| {
            pages.push(Inode {
                id,
                links: Vec::new(),
                entry: None,
            });
            pages.len() - 1
        });
        pages[page].links.push(number);
    }
    pages.reverse();
    for (number, page) in pages.iter_mut().enumerate() {
        page.links.reverse();
        for &link in &page.links {
            links[link].page = number;
        }
    }
    Ok((links, pages))
}

/// Name and section of a file name, if it belongs into a folder of `section`.
fn split<'n>(file: &'n [u8], section: &[u8]) -> Option<(&'n [u8], &'n [u8])> {
    let mut rest = file;
    loop {
        let dot = rest.iter().rposition(|&byte| byte == b'.')?;
        let (name, suffix) = (&rest[..dot], &rest[dot + 1..]);
        if suffix == b"gz" {
            rest = name;
            continue;
        }
        let other = matches!(suffix, b"html" | b"ps" | b"pdf");
        return (!other && suffix.starts_with(section)).then_some((name, suffix));
    }
}
