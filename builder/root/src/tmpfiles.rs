//! Files and directories from `tmpfiles.d` (tmpfiles.d(5)), as sd-tools' and systemd's tmpfiles make them in a
//! root without a running system: `--create --remove -E`.
//!
//! What belongs to the running system is left to it: see [`parse`]. So are ages, access control lists
//! and attributes of file systems. What the reference tells and goes on from (something of another type is
//! there) is a warning; what it calls an invalid configuration is an error.

mod line;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use lycia_tree::{Follow, InodeId, Metadata, Node, Timestamp, Tree};

use crate::accounts::Ids;
use crate::glob::{glob, lookup, matching};
use crate::specifier::Specifiers;
use crate::{RootError, Step, text};
pub use line::{Kind, Line, Mode, Owner, parse};

/// Folders in the order of precedence.
const FOLDERS: &[&str] = &[
    "etc/tmpfiles.d",
    "run/tmpfiles.d",
    "usr/local/lib/tmpfiles.d",
    "usr/lib/tmpfiles.d",
];
/// What sd-tools' trigger leaves out (its script gives an empty file in place of it): packages do not change which name
/// servers are asked, starts do.
pub const LEFT_TO_STARTS: &[&str] = &["usr/lib/tmpfiles.d/resolv.conf"];
/// Most entries that one recursive line may touch.
const TOUCHED_MAX: usize = 1_000_000;
/// Most lines.
const LINES_MAX: usize = 100_000;

/// Applies the lines to the tree.
///
/// # Errors
/// When a line is wrong or names an owner that the root does not have.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Step, RootError> {
    run_without(tree, time, &[])
}

/// As [`run`], without the files `left_out`: a file of the same name in a folder before theirs counts all the same.
///
/// # Errors
/// As [`run`].
pub fn run_without(tree: &mut Tree, time: Timestamp, left_out: &[&str]) -> Result<Step, RootError> {
    let mut files = text::files(tree, FOLDERS)?;
    files.retain(|(path, _)| !left_out.contains(&path.as_str()));
    if files.is_empty() {
        return Ok(Step::default());
    }
    let specifiers = Specifiers::read(tree)?;
    let mut lines = Vec::new();
    for (file, text) in &files {
        lines.extend(parse(file, text, &specifiers)?);
        if lines.len() > LINES_MAX {
            return Err(RootError::File {
                file: FOLDERS.join(", "),
                what: format!("have more than {LINES_MAX} lines"),
            });
        }
    }
    let ids = Ids::read(tree)?;
    let mut plan = Plan::default();
    for line in lines {
        let owner = |owner: &Option<Owner>, what: &str, find: &dyn Fn(&str) -> Option<u32>| match owner {
            None => Ok::<_, RootError>(None),
            Some(owner) => {
                let id = find(&owner.name);
                let id = id.ok_or_else(|| {
                    line.wrong(format!("the root has no {what} `{}`", owner.name.escape_debug()))
                })?;
                Ok(Some((id, owner.new_only)))
            }
        };
        let uid = owner(&line.user, "user", &|name| ids.user(name))?;
        let gid = owner(&line.group, "group", &|name| ids.group(name))?;
        plan.add(Item { line, uid, gid });
    }
    let mut run = Run {
        tree,
        time,
        step: Step::default(),
        plan,
    };
    run.all()?;
    Ok(run.step)
}

/// A line with its owners found.
#[derive(Clone, Debug)]
struct Item {
    line: Line,
    /// With whether it is for what is new alone.
    uid: Option<(u32, bool)>,
    gid: Option<(u32, bool)>,
}

/// All lines by path, in the order in which paths were first named.
#[derive(Default)]
struct Plan {
    /// Lines for single paths.
    plain: Paths,
    /// Lines for patterns.
    patterns: Paths,
}

#[derive(Default)]
struct Paths {
    order: Vec<(String, Vec<Item>)>,
    places: HashMap<String, usize>,
}

impl Plan {
    /// Adds a line; of several that make something at a path the first counts.
    fn add(&mut self, item: Item) {
        let paths = match item.line.kind.takes_pattern() {
            true => &mut self.patterns,
            false => &mut self.plain,
        };
        let path = item.line.path.clone();
        let place = *paths.places.entry(path.clone()).or_insert_with(|| {
            paths.order.push((path, Vec::new()));
            paths.order.len() - 1
        });
        let items = &mut paths.order[place].1;
        let appended = |line: &Line| line.kind == Kind::Written && line.force;
        let clashes = items.iter().any(|known| {
            let both = known.line.kind.takes_ownership() && item.line.kind.takes_ownership();
            both && !known.line.same(&item.line) && !(appended(&known.line) && appended(&item.line))
        });
        if clashes {
            return;
        }
        items.push(item);
        items.sort_by_key(|item| (!item.line.kind.takes_ownership(), item.line.kind));
    }
}

struct Run<'t> {
    tree: &'t mut Tree,
    time: Timestamp,
    step: Step,
    plan: Plan,
}

impl Run<'_> {
    fn all(&mut self) -> Result<(), RootError> {
        let plain = std::mem::take(&mut self.plan.plain.order);
        let patterns = std::mem::take(&mut self.plan.patterns.order);
        // First all goes that is to go, what is deeper first; then all is made, patterns last, each after
        // what is above it.
        let mut removals: Vec<&Item> = plain
            .iter()
            .chain(&patterns)
            .flat_map(|(_, items)| items)
            .filter(|item| matches!(item.line.kind, Kind::Removed { .. } | Kind::EmptiedDirectory))
            .collect();
        removals.sort_by_key(|item| std::cmp::Reverse(item.line.path.split('/').count()));
        let kept = Kept {
            paths: plain.iter().map(|(path, _)| path.as_str()).collect(),
            patterns: patterns.iter().map(|(path, _)| path.as_str()).collect(),
        };
        for item in removals {
            self.remove(item, &kept)?;
        }
        for paths in [&plain, &patterns] {
            // Parents first: a line waits for those about the folders above it.
            let mut done = BTreeSet::new();
            let places: BTreeMap<&str, usize> =
                paths.iter().map(|(path, _)| path.as_str()).zip(0..).collect();
            for path in paths.iter().map(|(path, _)| path.as_str()) {
                let slashes = path.match_indices('/').skip(1).map(|(slash, _)| &path[..slash]);
                for above in ["/"].into_iter().chain(slashes).chain([path]) {
                    if let Some(&place) = places.get(above)
                        && done.insert(place)
                    {
                        for item in &paths[place].1 {
                            self.create(item)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    fn warn(&mut self, line: &Line, what: &str) {
        let (file, number, path) = (&line.file, line.number, &line.path);
        self.step
            .warnings
            .push(format!("{file}, line {number}: {path} {what}"));
    }

    fn create(&mut self, item: &Item) -> Result<(), RootError> {
        let line = &item.line;
        match line.kind {
            Kind::Directory | Kind::EmptiedDirectory => self.directory(item),
            Kind::File => self.file(item, false),
            Kind::TruncatedFile => self.file(item, true),
            Kind::Fifo => self.node(item, Node::Fifo),
            Kind::Device { block } => {
                let device = line.device.ok_or_else(|| line.wrong("it has no device"))?;
                self.node(
                    item,
                    match block {
                        true => Node::BlockDevice(device),
                        false => Node::CharDevice(device),
                    },
                )
            }
            Kind::Symlink => {
                let target = match &line.argument {
                    Some(target) => target.clone(),
                    None => format!("/usr/share/factory{}", line.path).into_bytes(),
                };
                if line.if_source && !self.leads_somewhere(line, &target) {
                    return Ok(());
                }
                self.node(item, Node::Symlink(target))
            }
            Kind::Copy => self.copy(item),
            Kind::ExistingDirectory => {
                for (path, _) in matching(self.tree, &line.path)? {
                    match lookup(self.tree, &path, Follow::All) {
                        Some(id) if self.tree.inode(id).is_directory() => self.adjust(item, id, false),
                        Some(_) => self.warn(line, "is there and is no directory"),
                        None => {}
                    }
                }
                Ok(())
            }
            Kind::Adjusted { recursive } => {
                for id in self.touched(line, recursive)? {
                    self.adjust(item, id, false);
                }
                Ok(())
            }
            Kind::Xattrs { recursive } => {
                for id in self.touched(line, recursive)? {
                    let xattrs = &mut self.tree.metadata_mut(id).xattrs;
                    xattrs.extend(line.xattrs.iter().cloned());
                }
                Ok(())
            }
            Kind::Written => self.write_into(item),
            Kind::Acl { .. } | Kind::Attributes { .. } => {
                self.warn(line, "gets its attributes when the system runs");
                self.step.left.extend(self.step.warnings.last().cloned());
                Ok(())
            }
            Kind::Ignored | Kind::Removed { .. } => Ok(()),
        }
    }

    /// Whether the target of a link is there.
    fn leads_somewhere(&self, line: &Line, target: &[u8]) -> bool {
        let folder = line.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let target = match target.starts_with(b"/") {
            true => target.to_vec(),
            false => [folder.as_bytes(), b"/", target].concat(),
        };
        lookup(self.tree, &target, Follow::All).is_some()
    }

    /// What a pattern finds, with all below it or without.
    fn touched(&self, line: &Line, recursive: bool) -> Result<Vec<InodeId>, RootError> {
        let mut ids = Vec::new();
        for (path, id) in matching(self.tree, &line.path)? {
            match recursive {
                true => ids.extend(self.tree.walk_from(&path, id).map(|entry| entry.id)),
                false => ids.push(id),
            }
            if ids.len() > TOUCHED_MAX {
                return Err(line.wrong(format!("it touches more than {TOUCHED_MAX} entries")));
            }
        }
        Ok(ids)
    }

    /// Gives an inode the mode and owner of a line.
    fn adjust(&mut self, item: &Item, id: InodeId, new: bool) {
        let inode = self.tree.inode(id);
        let (directory, link) = (inode.is_directory(), inode.symlink().is_some());
        let metadata = self.tree.metadata_mut(id);
        if let Some(mode) = item.line.mode
            && (new || !mode.new_only)
            && !link
        {
            let mut bits = mode.bits;
            if mode.masked {
                for class in [0o111, 0o222, 0o444] {
                    if metadata.mode & class == 0 {
                        bits &= !class;
                    }
                }
                if !directory {
                    bits &= 0o777;
                }
            }
            metadata.mode = bits;
        }
        if let Some((uid, new_only)) = item.uid
            && (new || !new_only)
        {
            metadata.uid = uid;
        }
        if let Some((gid, new_only)) = item.gid
            && (new || !new_only)
        {
            metadata.gid = gid;
        }
    }

    /// Makes the folders above a path. With `=` what is there and is no folder goes, as does what has
    /// another type at the path itself. Says whether there is a way.
    fn make_way(
        &mut self,
        line: &Line,
        fits: impl Fn(&lycia_tree::Inode) -> bool,
    ) -> Result<bool, RootError> {
        let path = line.path.as_bytes();
        let ends = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        let ends: Vec<usize> = ends.map(|(at, _)| at).collect();
        for end in ends {
            let above = &path[..end];
            match lookup(self.tree, above, Follow::All) {
                Some(id) if self.tree.inode(id).is_directory() => {}
                None if lookup(self.tree, above, Follow::Parents).is_none() => {
                    let metadata = Metadata::new(0o755, self.time);
                    if self.tree.make_directories(above, metadata).is_err() {
                        self.warn(line, "cannot be reached");
                        return Ok(false);
                    }
                }
                _ if line.replace => {
                    self.tree.remove_all(above)?;
                    self.tree.make_directory(above, Metadata::new(0o755, self.time))?;
                }
                _ => {
                    self.warn(line, "has something above it that is no directory");
                    return Ok(false);
                }
            }
        }
        if line.replace
            && let Some(id) = lookup(self.tree, path, Follow::Parents)
            && id != self.tree.root()
            && !fits(self.tree.inode(id))
        {
            self.tree.remove_all(path)?;
        }
        Ok(true)
    }

    fn directory(&mut self, item: &Item) -> Result<(), RootError> {
        let line = &item.line;
        if !self.make_way(line, lycia_tree::Inode::is_directory)? {
            return Ok(());
        }
        let path = line.path.as_bytes();
        match lookup(self.tree, path, Follow::Parents) {
            None => {
                let id = self.tree.make_directory(path, Metadata::new(0o755, self.time))?;
                self.wrote(path)?;
                self.adjust(item, id, true);
            }
            Some(id) if self.tree.inode(id).is_directory() => self.adjust(item, id, false),
            Some(_) => self.warn(line, "is there and is no directory"),
        }
        Ok(())
    }

    fn file(&mut self, item: &Item, truncate: bool) -> Result<(), RootError> {
        let line = &item.line;
        if !self.make_way(line, |inode| inode.content().is_some())? {
            return Ok(());
        }
        let path = line.path.as_bytes();
        let there = lookup(self.tree, path, Follow::Parents);
        if let Some(id) = there
            && self.tree.inode(id).content().is_none()
        {
            self.warn(line, "is there and is no regular file");
            return Ok(());
        }
        let content = line.argument.clone().unwrap_or_default();
        let id = match there {
            Some(id) if !truncate => id,
            Some(id) => {
                let same = self
                    .tree
                    .inode(id)
                    .content()
                    .is_some_and(|old| old.bytes() == content);
                if !same {
                    self.tree
                        .update(path, Metadata::new(0o644, self.time), content.into())?;
                    self.tree.metadata_mut(id).mtime = self.time;
                    self.wrote(path)?;
                }
                id
            }
            None => {
                let metadata = Metadata::new(0o644, self.time);
                let id = self.tree.insert(path, metadata, Node::Regular(content.into()))?;
                self.wrote(path)?;
                id
            }
        };
        self.adjust(item, id, there.is_none());
        Ok(())
    }

    /// Writes over the start of files, or behind their end.
    fn write_into(&mut self, item: &Item) -> Result<(), RootError> {
        let line = &item.line;
        let text = line.argument.clone().unwrap_or_default();
        for (path, _) in matching(self.tree, &line.path)? {
            let Some(id) = lookup(self.tree, &path, Follow::All) else {
                continue;
            };
            let Some(content) = self.tree.inode(id).content() else {
                self.warn(line, "is no regular file");
                continue;
            };
            let mut bytes = content.bytes().to_vec();
            if line.force {
                bytes.extend_from_slice(&text);
            } else {
                let over = bytes.len().min(text.len());
                bytes.splice(..over, text.iter().copied());
            }
            if bytes != content.bytes() {
                self.tree
                    .update(&path, Metadata::new(0o644, self.time), bytes.into())?;
                self.tree.metadata_mut(id).mtime = self.time;
                let canonical = self.tree.canonical(&path, Follow::All)?;
                self.step.written.push(canonical);
            }
            self.adjust(item, id, false);
        }
        Ok(())
    }

    /// Makes a link, a device node or a FIFO. With `+` what is there and is another goes.
    fn node(&mut self, item: &Item, node: Node) -> Result<(), RootError> {
        let line = &item.line;
        let kind = std::mem::discriminant(&node);
        let same_kind = |inode: &lycia_tree::Inode| {
            inode
                .node()
                .is_some_and(|other| std::mem::discriminant(other) == kind)
        };
        if !self.make_way(line, same_kind)? {
            return Ok(());
        }
        let path = line.path.as_bytes();
        if let Some(id) = lookup(self.tree, path, Follow::Parents) {
            let inode = self.tree.inode(id);
            if inode.node() == Some(&node) {
                self.adjust(item, id, false);
                return Ok(());
            }
            if !line.force || id == self.tree.root() {
                // A link of another target is what an administrator may have made.
                if !same_kind(inode) && !matches!(node, Node::Symlink(_)) {
                    self.warn(line, "is there and is something else");
                }
                return Ok(());
            }
            self.tree.remove_all(path)?;
        }
        let mode = match node {
            Node::Symlink(_) => 0o777,
            _ => 0o644,
        };
        let id = self.tree.insert(path, Metadata::new(mode, self.time), node)?;
        self.adjust(item, id, true);
        self.wrote(path)
    }

    /// Copies a file or a tree where nothing or an empty folder is; with `+` what is missing, too.
    fn copy(&mut self, item: &Item) -> Result<(), RootError> {
        let line = &item.line;
        let source = match &line.argument {
            Some(source) => source.clone(),
            None => format!("/usr/share/factory{}", line.path).into_bytes(),
        };
        // As in the reference, a source that is not there is no reason to complain.
        let Some(from) = lookup(self.tree, &source, Follow::All) else {
            return Ok(());
        };
        let kind = self.tree.inode(from).file_type();
        if !self.make_way(line, |inode| inode.file_type() == kind)? {
            return Ok(());
        }
        let path = line.path.as_bytes();
        let there = lookup(self.tree, path, Follow::Parents);
        let empty = there.is_some_and(|id| {
            let entries = self.tree.inode(id).entries();
            entries.is_some_and(|entries| entries.is_empty())
        });
        let same = there.is_none_or(|id| self.tree.inode(id).file_type() == kind);
        if same && (there.is_none() || empty || line.force) {
            self.copy_tree(item, from)?;
        }
        if let Some(id) = lookup(self.tree, path, Follow::Parents)
            && self.tree.inode(id).file_type() == kind
        {
            self.adjust(item, id, there.is_none());
        }
        Ok(())
    }

    fn copy_tree(&mut self, item: &Item, from: InodeId) -> Result<(), RootError> {
        let line = &item.line;
        let copied: Vec<(Vec<u8>, InodeId)> = self
            .tree
            .walk_from(line.path.as_bytes(), from)
            .map(|entry| (entry.path, entry.id))
            .take(TOUCHED_MAX + 1)
            .collect();
        if copied.len() > TOUCHED_MAX {
            return Err(line.wrong(format!("it copies more than {TOUCHED_MAX} entries")));
        }
        // Names of one file stay names of one file.
        let mut links: HashMap<InodeId, InodeId> = HashMap::new();
        for (at, id) in copied {
            let inode = self.tree.inode(id).clone();
            let mut metadata = inode.metadata.clone();
            metadata.uid = item.uid.map_or(metadata.uid, |(uid, _)| uid);
            metadata.gid = item.gid.map_or(metadata.gid, |(gid, _)| gid);
            if lookup(self.tree, &at, Follow::Parents).is_some() {
                continue;
            }
            // Below something that was there and is no folder nothing can be.
            let made = match (inode.node(), links.get(&id)) {
                (None, _) => self.tree.make_directory(&at, metadata).map(|_| ()),
                (Some(_), Some(&first)) => self.tree.link(first, &at),
                (Some(node), None) => self.tree.insert(&at, metadata, node.clone()).map(|new| {
                    links.insert(id, new);
                }),
            };
            if made.is_ok() && inode.node().is_some() {
                self.wrote(&at)?;
            }
        }
        Ok(())
    }

    fn remove(&mut self, item: &Item, kept: &Kept<'_>) -> Result<(), RootError> {
        let line = &item.line;
        match line.kind {
            Kind::EmptiedDirectory => {
                if let Some(id) = lookup(self.tree, line.path.as_bytes(), Follow::Parents) {
                    self.empty(line.path.as_bytes(), id, kept)?;
                }
            }
            Kind::Removed { recursive } => {
                for (path, id) in matching(self.tree, &line.path)? {
                    if id == self.tree.root() {
                        continue;
                    }
                    if recursive && self.tree.inode(id).is_directory() {
                        self.empty(&path, id, kept)?;
                    }
                    let left = self
                        .tree
                        .inode(id)
                        .entries()
                        .is_some_and(|entries| !entries.is_empty());
                    match left {
                        true if recursive => {}
                        true => self.warn(line, "is not empty and stays"),
                        false => self.tree.remove(&path)?,
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Removes what is below a folder, but for what other lines are about.
    fn empty(&mut self, path: &[u8], id: InodeId, kept: &Kept<'_>) -> Result<(), RootError> {
        let below: Vec<Vec<u8>> = self
            .tree
            .walk_from(path, id)
            .map(|entry| entry.path)
            .take(TOUCHED_MAX)
            .collect();
        for entry in below.iter().rev().filter(|entry| entry.as_slice() != path) {
            let held = (path.len() + 1..=entry.len())
                .filter(|&end| end == entry.len() || entry[end] == b'/')
                .any(|end| kept.holds(&entry[..end]));
            let full = lookup(self.tree, entry, Follow::Parents).is_some_and(|id| {
                self.tree
                    .inode(id)
                    .entries()
                    .is_some_and(|entries| !entries.is_empty())
            });
            if !held && !full {
                self.tree.remove(entry)?;
            }
        }
        Ok(())
    }

    fn wrote(&mut self, path: &[u8]) -> Result<(), RootError> {
        let canonical = self.tree.canonical(path, Follow::Parents)?;
        self.step.written.push(canonical);
        Ok(())
    }
}

/// What emptying a folder leaves alone.
struct Kept<'p> {
    /// Paths with lines of their own.
    paths: BTreeSet<&'p str>,
    /// Patterns with lines of their own.
    patterns: Vec<&'p str>,
}

impl Kept<'_> {
    fn holds(&self, path: &[u8]) -> bool {
        let fits = |pattern: &&str| {
            let parts: Vec<&str> = pattern.split('/').collect();
            let names: Vec<&[u8]> = path.split(|&byte| byte == b'/').collect();
            parts.len() == names.len()
                && parts
                    .iter()
                    .zip(names)
                    .all(|(part, name)| glob(part.as_bytes(), name))
        };
        std::str::from_utf8(path).is_ok_and(|path| self.paths.contains(path))
            || self.patterns.iter().any(fits)
    }
}

#[cfg(test)]
mod tests;
