//! Files and directories from `tmpfiles.d` (tmpfiles.d(5)), as far as they belong into an image.
//!
//! Lines about `/run`, `/proc`, `/sys`, `/dev` and `/tmp` are for the running system, and so are those marked
//! `!` and those that write into existing files (`w`) or remove on boot (`r`, `R`, `D` contents). They are
//! left to it.

use lycia_tree::{Content, Device, Follow, InodeId, Metadata, Node, Timestamp, Tree};

use crate::sysusers::Ids;
use crate::text::{Line, configuration};
use crate::{RootError, Step};

/// Folders in the order of precedence.
const FOLDERS: &[&str] = &[
    "etc/tmpfiles.d",
    "run/tmpfiles.d",
    "usr/local/lib/tmpfiles.d",
    "usr/lib/tmpfiles.d",
];
/// What is not part of an image.
const VOLATILE: &[&str] = &["/run", "/proc", "/sys", "/dev", "/tmp"];
/// Most entries that one recursive line may touch.
const TOUCHED_MAX: usize = 1_000_000;

/// Mode, owner and group, where a line gives them.
type Given = (Option<u16>, Option<u32>, Option<u32>);

struct Run<'t> {
    tree: &'t mut Tree,
    ids: Ids,
    time: Timestamp,
    step: Step,
}

/// Applies the lines to the tree.
///
/// # Errors
/// When a line is wrong or names an owner that the root does not have.
pub fn run(tree: &mut Tree, time: Timestamp) -> Result<Step, RootError> {
    let lines = configuration(tree, FOLDERS)?;
    if lines.is_empty() {
        return Ok(Step::default());
    }
    let ids = Ids::read(tree)?;
    let mut run = Run {
        tree,
        ids,
        time,
        step: Step::default(),
    };
    // Directories and files before what changes them, whatever the order of the files.
    let late = |line: &&Line| line.words[0].starts_with(['z', 'Z', 't', 'T', 'h', 'H', 'a', 'A']);
    for line in lines.iter().filter(|line| !late(line)) {
        run.line(line)?;
    }
    for line in lines.iter().filter(late) {
        run.line(line)?;
    }
    Ok(run.step)
}

impl Run<'_> {
    fn line(&mut self, line: &Line) -> Result<(), RootError> {
        let mut letters = line.words[0].chars();
        let kind = letters.next().unwrap_or_default();
        let flags: String = letters.collect();
        if let Some(unknown) = flags.chars().find(|flag| !"!+-=~^$?".contains(*flag)) {
            return Err(line.wrong(format!("`{unknown}` is no modifier")));
        }
        let path = line.word(1).ok_or_else(|| line.wrong("it names no path"))?;
        if !path.starts_with('/') {
            return Err(line.wrong(format!("`{}` is not absolute", path.escape_debug())));
        }
        // What a specifier stands for is known to the running system alone.
        if path.replace("%%", "").contains('%') || flags.contains('!') || volatile(path) {
            return Ok(());
        }
        let path = path.replace("%%", "%");
        match kind {
            'd' | 'D' | 'v' | 'q' | 'Q' => self.directory(line, &path),
            'e' => self.each(line, &path, false),
            'f' | 'F' => self.file(line, &path, flags.contains('+') || kind == 'F'),
            'p' => self.node(line, &path, Node::Fifo, flags.contains('+')),
            'c' | 'b' => {
                let device = self.device(line)?;
                let node = if kind == 'c' {
                    Node::CharDevice(device)
                } else {
                    Node::BlockDevice(device)
                };
                self.node(line, &path, node, flags.contains('+'))
            }
            'L' => {
                let target = match line.word(6) {
                    Some(target) => target.to_owned(),
                    None => format!("../usr/share/factory{path}"),
                };
                if flags.contains('?')
                    && self
                        .tree
                        .find(parent_join(&path, &target).as_bytes(), Follow::All)?
                        .is_none()
                {
                    return Ok(());
                }
                self.node(
                    line,
                    &path,
                    Node::Symlink(target.into_bytes()),
                    flags.contains('+'),
                )
            }
            'C' => self.copy(line, &path),
            'z' => self.each(line, &path, false),
            'Z' => self.each(line, &path, true),
            // Written, aged and removed while the system runs.
            'w' | 'x' | 'X' | 'r' | 'R' => Ok(()),
            't' | 'T' | 'h' | 'H' | 'a' | 'A' => {
                self.step.warnings.push(format!(
                    "{}, line {}: attributes of {path} are left to the running system",
                    line.file, line.number
                ));
                Ok(())
            }
            other => Err(line.wrong(format!("`{}` is no type of line", other.escape_debug()))),
        }
    }

    /// Mode, owner and group that a line gives.
    fn metadata(&self, line: &Line) -> Result<Given, RootError> {
        let mode = match line.word(2) {
            None => None,
            Some(text) => {
                let digits = text.trim_start_matches(['~', ':']);
                let mode = u16::from_str_radix(digits, 8).ok().filter(|mode| *mode <= 0o7777);
                Some(mode.ok_or_else(|| line.wrong(format!("`{text}` is no mode")))?)
            }
        };
        let owner = |at: usize, what: &str, find: &dyn Fn(&str) -> Option<u32>| match line.word(at) {
            None => Ok(None),
            Some(name) => {
                let name = name.trim_start_matches(':');
                find(name)
                    .map(Some)
                    .ok_or_else(|| line.wrong(format!("the root has no {what} `{name}`")))
            }
        };
        let uid = owner(3, "user", &|name| self.ids.user(name))?;
        let gid = owner(4, "group", &|name| self.ids.group(name))?;
        Ok((mode, uid, gid))
    }

    fn fresh(&self, line: &Line, usual: u16) -> Result<Metadata, RootError> {
        let (mode, uid, gid) = self.metadata(line)?;
        Ok(Metadata::new(mode.unwrap_or(usual), self.time).owned_by(uid.unwrap_or(0), gid.unwrap_or(0)))
    }

    fn adjust(&mut self, line: &Line, id: InodeId) -> Result<(), RootError> {
        let (mode, uid, gid) = self.metadata(line)?;
        let link = self.tree.inode(id).symlink().is_some();
        let metadata = self.tree.metadata_mut(id);
        if let (Some(mode), false) = (mode, link) {
            metadata.mode = mode;
        }
        metadata.uid = uid.unwrap_or(metadata.uid);
        metadata.gid = gid.unwrap_or(metadata.gid);
        Ok(())
    }

    fn directory(&mut self, line: &Line, path: &str) -> Result<(), RootError> {
        if let Some(id) = self.tree.find(path.as_bytes(), Follow::All)? {
            if !self.tree.inode(id).is_directory() {
                self.step.warnings.push(format!(
                    "{}, line {}: {path} is no directory",
                    line.file, line.number
                ));
                return Ok(());
            }
            return self.adjust(line, id);
        }
        let metadata = self.fresh(line, 0o755)?;
        self.tree.make_directories(path.as_bytes(), metadata)?;
        Ok(())
    }

    fn file(&mut self, line: &Line, path: &str, truncate: bool) -> Result<(), RootError> {
        let there = self.tree.find(path.as_bytes(), Follow::All)?;
        if let (Some(id), false) = (there, truncate) {
            return self.adjust(line, id);
        }
        let mut text = line.words.get(6..).unwrap_or_default().join(" ");
        if text == "-" {
            text.clear();
        }
        if text.replace("%%", "").contains('%') {
            return Ok(());
        }
        let text = unescape(&text.replace("%%", "%"));
        let metadata = self.fresh(line, 0o644)?;
        self.tree.write(path.as_bytes(), metadata, Content::from(text))?;
        self.wrote(path)
    }

    fn node(&mut self, line: &Line, path: &str, node: Node, replace: bool) -> Result<(), RootError> {
        if let Some(id) = self.tree.find(path.as_bytes(), Follow::Parents)? {
            let inode = self.tree.inode(id);
            if inode.node() == Some(&node) || !replace {
                return Ok(());
            }
            if inode.entries().is_some_and(|entries| !entries.is_empty()) {
                self.step.warnings.push(format!(
                    "{}, line {}: {path} is not empty",
                    line.file, line.number
                ));
                return Ok(());
            }
            self.tree.remove(path.as_bytes())?;
        }
        let usual = if matches!(node, Node::Symlink(_)) {
            0o777
        } else {
            0o644
        };
        let mut metadata = self.fresh(line, usual)?;
        if usual == 0o777 {
            metadata.mode = usual;
        }
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.tree
                .make_directories(folder.as_bytes(), Metadata::new(0o755, self.time))?;
        }
        self.tree.insert(path.as_bytes(), metadata, node)?;
        self.wrote(path)
    }

    fn device(&self, line: &Line) -> Result<Device, RootError> {
        let text = line.word(6).unwrap_or_default();
        let parsed = text.split_once(':').and_then(|(major, minor)| {
            Some(Device {
                major: major.parse().ok()?,
                minor: minor.parse().ok()?,
            })
        });
        parsed.ok_or_else(|| line.wrong(format!("`{text}` is no MAJOR:MINOR")))
    }

    /// Copies a file or a folder, where nothing or an empty folder is.
    fn copy(&mut self, line: &Line, path: &str) -> Result<(), RootError> {
        if let Some(id) = self.tree.find(path.as_bytes(), Follow::All)? {
            let empty = self
                .tree
                .inode(id)
                .entries()
                .is_some_and(|entries| entries.is_empty());
            if !empty {
                return self.adjust(line, id);
            }
        }
        let source = line
            .word(6)
            .map_or_else(|| format!("/usr/share/factory{path}"), str::to_owned);
        let Some(from) = self.tree.find(source.as_bytes(), Follow::All)? else {
            self.step.warnings.push(format!(
                "{}, line {}: {source} is not there",
                line.file, line.number
            ));
            return Ok(());
        };
        let copied: Vec<(Vec<u8>, InodeId)> = self
            .tree
            .walk_from(path.as_bytes(), from)
            .map(|entry| (entry.path, entry.id))
            .take(TOUCHED_MAX)
            .collect();
        for (at, id) in copied {
            let inode = self.tree.inode(id).clone();
            if let Some(folder) = at.iter().rposition(|&byte| byte == b'/') {
                self.tree
                    .make_directories(&at[..folder], Metadata::new(0o755, self.time))?;
            }
            match inode.node() {
                None => {
                    self.tree.make_directory(&at, inode.metadata.clone())?;
                }
                Some(node) => {
                    self.tree.insert(&at, inode.metadata.clone(), node.clone())?;
                    let canonical = self.tree.canonical(&at, Follow::Parents)?;
                    self.step.written.push(canonical);
                }
            }
        }
        let id = self.tree.resolve(path.as_bytes(), Follow::All)?;
        self.adjust(line, id)
    }

    /// Owner and mode of what is there: one path, or all below it. A path may be a glob.
    fn each(&mut self, line: &Line, path: &str, recursive: bool) -> Result<(), RootError> {
        for (place, id) in matching(self.tree, path)? {
            let ids: Vec<InodeId> = if recursive {
                self.tree
                    .walk_from(&place, id)
                    .map(|entry| entry.id)
                    .take(TOUCHED_MAX)
                    .collect()
            } else {
                vec![id]
            };
            for id in ids {
                self.adjust(line, id)?;
            }
        }
        Ok(())
    }

    fn wrote(&mut self, path: &str) -> Result<(), RootError> {
        let canonical = self.tree.canonical(path.as_bytes(), Follow::Parents)?;
        self.step.written.push(canonical);
        Ok(())
    }
}

fn volatile(path: &str) -> bool {
    VOLATILE.iter().any(|folder| {
        path.strip_prefix(folder)
            .is_some_and(|rest| rest.starts_with('/'))
    })
}

fn parent_join(path: &str, target: &str) -> String {
    if target.starts_with('/') {
        return target.to_owned();
    }
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    format!("{folder}/{target}")
}

/// Entries that a path with `*`, `?` and `[...]` leads to.
fn matching(tree: &Tree, pattern: &str) -> Result<Vec<(Vec<u8>, InodeId)>, RootError> {
    let mut found = vec![(Vec::new(), tree.root())];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut next = Vec::new();
        for (path, id) in found {
            let join = |name: &[u8]| [&path, b"/".as_slice(), name].concat();
            if part.contains(['*', '?', '[']) {
                let folder = tree
                    .find(if path.is_empty() { b"/" } else { &path }, Follow::All)?
                    .unwrap_or(id);
                for name in tree
                    .inode(folder)
                    .entries()
                    .into_iter()
                    .flatten()
                    .map(|(name, _)| name)
                {
                    if glob(part.as_bytes(), name) {
                        let path = join(name);
                        next.extend(tree.find(&path, Follow::Parents)?.map(|id| (path, id)));
                    }
                }
            } else {
                let path = join(part.as_bytes());
                next.extend(tree.find(&path, Follow::Parents)?.map(|id| (path, id)));
            }
        }
        found = next;
    }
    Ok(found)
}

/// Whether a name fits a glob of `*`, `?` and `[a-z]`; a leading dot must be asked for.
pub(crate) fn glob(pattern: &[u8], name: &[u8]) -> bool {
    if name.first() == Some(&b'.') && pattern.first() != Some(&b'.') {
        return false;
    }
    // The classic two pointers: on a mismatch the last star takes one byte more.
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], name[n]),
            Some(&byte) => (byte == name[n]).then_some(1),
            None => None,
        };
        match (step, star) {
            (Some(width), _) => {
                p += width;
                n += 1;
            }
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

/// The length of the class at the start of `pattern` if `byte` is in it.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let end = 2 + pattern.get(2..)?.iter().position(|&byte| byte == b']')?;
    let inside = &pattern[1..end];
    let (negated, inside) = match inside.first() {
        Some(b'!' | b'^') => (true, &inside[1..]),
        _ => (false, inside),
    };
    let mut found = false;
    let mut at = 0;
    while at < inside.len() {
        if at + 2 < inside.len() && inside[at + 1] == b'-' {
            found |= (inside[at]..=inside[at + 2]).contains(&byte);
            at += 3;
        } else {
            found |= inside[at] == byte;
            at += 1;
        }
    }
    (found != negated).then_some(end + 1)
}

/// C escapes, as the argument of `f` may have them.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            out.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => out.push('\n'),
            Some('t') => out.push('\t'),
            Some('r') => out.push('\r'),
            Some(other) => out.push(other),
            None => out.push('\\'),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp {
        seconds: 9,
        nanoseconds: 0,
    };

    fn tree(conf: &str) -> Tree {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        let file = || Metadata::new(0o644, TIME);
        tree.write(b"etc/passwd", file(), "bird:x:5:6::/:/bin/sh\n".into())
            .unwrap();
        tree.write(b"etc/group", file(), "mail:x:64:\n".into()).unwrap();
        tree.write(b"usr/share/base/hosts", file(), "hosts\n".into())
            .unwrap();
        tree.write(b"usr/lib/tmpfiles.d/a.conf", file(), conf.into())
            .unwrap();
        tree
    }

    #[test]
    fn lines_make_what_they_say() {
        let mut tree = tree(
            "C /etc/hosts - - - - /usr/share/base/hosts\nd /var/mail 2775 root mail - -\nf /etc/name 0600 bird - - a%%b\\n\n\
             L /var/run - - - - ../run\nL+ /etc/mtab - - - - ../proc/self/mounts\nd! /boot-only\nd /run/x\nf /etc/%b\n\
             c /etc/null 0666 - - - 1:3\np /etc/pipe\nz /etc/na* 0640\nC /etc/none - - - - /no/where\n",
        );
        let step = run(&mut tree, TIME).unwrap();
        let at = |path: &str| tree.inode(tree.resolve(path.as_bytes(), Follow::Parents).unwrap());
        assert_eq!(tree.read(b"etc/hosts").unwrap(), b"hosts\n");
        assert_eq!(
            (at("var/mail").mode(), at("var/mail").metadata.gid),
            (0o042775, 64)
        );
        assert_eq!(
            (at("etc/name").mode(), at("etc/name").metadata.uid),
            (0o100640, 5)
        );
        assert_eq!(tree.read(b"etc/name").unwrap(), b"a%b\n");
        assert_eq!(at("var/run").symlink(), Some(b"../run".as_slice()));
        assert_eq!(at("etc/null").mode(), 0o020666);
        assert_eq!(at("etc/pipe").mode(), 0o010644);
        for absent in ["boot-only", "run/x", "etc/%b"] {
            assert_eq!(
                tree.find(absent.as_bytes(), Follow::Parents).unwrap(),
                None,
                "{absent}"
            );
        }
        assert_eq!(step.warnings.len(), 1, "{:?}", step.warnings);
        let before = format!(
            "{:?}",
            tree.walk()
                .map(|entry| (entry.path, entry.inode.clone()))
                .collect::<Vec<_>>()
        );
        assert!(run(&mut tree, TIME).unwrap().written.is_empty(), "twice is once");
        let after = format!(
            "{:?}",
            tree.walk()
                .map(|entry| (entry.path, entry.inode.clone()))
                .collect::<Vec<_>>()
        );
        assert_eq!(before.len(), after.len());
    }

    #[test]
    fn wrong_lines_are_named() {
        for (line, part) in [
            ("y /x", "no type"),
            ("d", "no path"),
            ("d x", "not absolute"),
            ("d /x 9999", "no mode"),
            ("d /x - nobody-has-it", "no user"),
            ("d /x - - nobody-has-it", "no group"),
            ("c /x - - - - 1", "MAJOR"),
            ("d* /x", "no modifier"),
        ] {
            let error = run(&mut tree(&format!("# one\n{line}\n")), TIME)
                .unwrap_err()
                .to_string();
            assert!(
                error.contains("line 2") && error.contains(part),
                "{line}: {error}"
            );
        }
    }

    #[test]
    fn globs() {
        for (pattern, name, fits) in [
            ("*", "a", true),
            ("*", ".a", false),
            (".*", ".a", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("?[a-c]x", "zbx", true),
            ("?[!a-c]x", "zbx", false),
            ("[]", "x", false),
            ("", "", true),
            ("**", "", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), name.as_bytes()),
                fits,
                "{pattern} {name}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_answered(text in "([a-zA-Z!+^]{1,3} /[a-z/*%]{0,9}( [-0-7a-z:]{1,4}){0,5}\n){0,8}") {
            let _ = run(&mut tree(&text), TIME);
        }
    }
}
