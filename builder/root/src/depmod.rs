//! Module indexes: what depmod makes of a kernel's modules (modules.dep(5)), and the closure of a set of
//! modules, for an initramfs.
//!
//! All files of kmod's depmod are written, texts and binary indexes, in its formats and order, so that kmod's
//! programs in the target read them. Where kmod's order is that of its hash table (modules that
//! `modules.order` does not name, and the lines of `modules.symbols`), here it is that of paths and of modules.

mod index;
mod module;
mod priority;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use lycia_tree::{Content, Follow, Timestamp, Tree, display};

use crate::glob::glob;
use crate::{RootError, replace};
use index::Index;
use module::Module;
use priority::Priority;

/// Where kernels have their modules: on a root with `usr` merged, and on one without, as Alpine's are.
const MERGED: &str = "usr/lib/modules";
const PLAIN: &str = "lib/modules";
/// Longest chain of soft dependencies followed.
const SOFT_MAX: usize = 64;
/// Most modules of one kernel, as in kmod.
const COUNT_MAX: usize = 65_534;
/// Largest list file that is read, in bytes.
const LIST_MAX: u64 = 64 << 20;

/// The folder of all kernels: what kmod finds at `/lib/modules`, named below `usr` where that is the same.
fn base(tree: &Tree) -> Result<&'static str, RootError> {
    let plain = tree.find(PLAIN.as_bytes(), Follow::All)?;
    let merged = tree.find(MERGED.as_bytes(), Follow::All)?;
    Ok(match plain {
        Some(_) if plain != merged => PLAIN,
        _ => MERGED,
    })
}

/// Versions of kernels that have modules in the root, sorted.
///
/// # Errors
/// When the path of modules is broken.
pub fn kernels(tree: &Tree) -> Result<Vec<String>, RootError> {
    let Some(id) = tree.find(base(tree)?.as_bytes(), Follow::All)? else {
        return Ok(Vec::new());
    };
    let mut versions = Vec::new();
    for (name, &child) in tree.inode(id).entries().into_iter().flatten() {
        if let (true, Ok(name)) = (tree.inode(child).is_directory(), std::str::from_utf8(name)) {
            versions.push(name.to_owned());
        }
    }
    Ok(versions)
}

/// The modules of one kernel.
#[derive(Clone, Debug)]
pub struct Modules {
    /// Of this kernel, below the root.
    folder: String,
    /// In the order of `modules.order`, then by path.
    modules: Vec<Module>,
    by_name: HashMap<String, usize>,
    /// Numbers of the modules that each needs at once.
    needs: Vec<Vec<usize>>,
    /// Place of each where those that need others come first.
    place: Vec<usize>,
    /// Which module has a symbol, in the order of modules and their tables.
    symbols: Vec<(String, usize)>,
    /// What is built into the kernel: names with the paths of `modules.builtin`, in its order.
    builtin: Vec<(String, String)>,
    /// Aliases of what is built in, with its name; none where the kernel does not say.
    builtin_aliases: Option<Vec<(String, String)>>,
}

impl Modules {
    /// Reads the modules of the kernel `version`.
    ///
    /// # Errors
    /// When the root has no such kernel, a module cannot be read, or modules need each other in a circle.
    pub fn load(tree: &Tree, version: &str) -> Result<Modules, RootError> {
        let folder = format!("{}/{version}", base(tree)?);
        let Some(id) = tree.find(folder.as_bytes(), Follow::All)? else {
            let near = kernels(tree)?.pop();
            return Err(RootError::Unknown {
                what: "kernel",
                name: version.to_owned(),
                near,
            });
        };
        let priority = Priority::read(tree, version)?;
        let mut best: BTreeMap<String, (String, Content)> = BTreeMap::new();
        for entry in tree.walk_from(b"", id) {
            let relative = entry.path.strip_prefix(b"/").unwrap_or(&entry.path);
            let Ok(path) = std::str::from_utf8(relative) else {
                continue;
            };
            let Some(name) = module::name(path) else {
                continue;
            };
            let folders = path.rsplit_once('/').map_or("", |(folders, _)| folders);
            if !folders.split('/').all(|folder| priority.enters(folder)) {
                continue;
            }
            let content = match entry.inode.symlink() {
                None => entry.inode.content().cloned(),
                Some(_) => {
                    let found = tree.find(format!("{folder}/{path}").as_bytes(), Follow::All)?;
                    found.and_then(|id| tree.inode(id).content().cloned())
                }
            };
            let Some(content) = content else { continue };
            if path
                .contains(|letter: char| letter.is_whitespace() || letter.is_control() || !letter.is_ascii())
            {
                return Err(RootError::File {
                    file: format!("{folder}/{}", path.escape_debug()),
                    what: "the name of a module cannot be listed in modules.dep".to_owned(),
                });
            }
            match best.get(&name) {
                Some((known, _)) if priority.of(path) <= priority.of(known) => {}
                _ => {
                    best.insert(name, (path.to_owned(), content));
                }
            }
        }
        let mut files: Vec<(String, Content)> = best.into_values().collect();
        if files.len() > COUNT_MAX {
            return Err(RootError::File {
                file: folder,
                what: format!("has more than {COUNT_MAX} modules"),
            });
        }
        let list = |name: &str| -> Result<Option<String>, RootError> {
            let path = format!("{folder}/{name}");
            let Some(id) = tree.find(path.as_bytes(), Follow::All)? else {
                return Ok(None);
            };
            match tree.inode(id).content() {
                Some(content) if content.len() <= LIST_MAX => {
                    Ok(Some(String::from_utf8_lossy(content.bytes()).into_owned()))
                }
                _ => Err(RootError::File {
                    file: path,
                    what: "is not a regular file of at most 64 MiB".to_owned(),
                }),
            }
        };
        let order = list("modules.order")?.unwrap_or_default();
        let order: HashMap<&str, usize> = order.lines().enumerate().map(|(at, path)| (path, at)).collect();
        let ordered = |path: &str| {
            let plain = path.rfind(".ko").map_or(path, |at| &path[..at + 3]);
            order.get(plain).copied().unwrap_or(usize::MAX)
        };
        files.sort_by(|(a, _), (b, _)| ordered(a).cmp(&ordered(b)).then_with(|| a.cmp(b)));
        let builtin = list("modules.builtin")?
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with(|first: char| first.is_ascii_alphabetic()))
            .filter_map(|path| Some((module::name(path)?, path.to_owned())))
            .collect();
        let builtin_aliases = list("modules.builtin.modinfo")?.map(|text| builtin_aliases(&text));

        let modules = read_all(&files)?;
        let mut by_name = HashMap::new();
        let mut owners: HashMap<&str, usize> = HashMap::new();
        for (at, module) in modules.iter().enumerate() {
            by_name.insert(module.name.clone(), at);
            // Of several owners the last counts.
            owners.extend(module.exports.iter().map(|symbol| (symbol.as_str(), at)));
        }
        let needs: Vec<Vec<usize>> = modules
            .iter()
            .enumerate()
            .map(|(at, module)| {
                let mut needs = Vec::new();
                let mut seen = HashSet::new();
                for symbol in &module.imports {
                    // On 64-bit PowerPC `.f` is the code of the function `f`.
                    let symbol = symbol.strip_prefix('.').unwrap_or(symbol);
                    match owners.get(symbol) {
                        Some(&from) if from != at && seen.insert(from) => needs.push(from),
                        _ => {}
                    }
                }
                needs
            })
            .collect();
        let mut symbols = Vec::new();
        for (at, module) in modules.iter().enumerate() {
            let mut seen = HashSet::new();
            for symbol in &module.exports {
                if owners.get(symbol.as_str()) == Some(&at) && seen.insert(symbol) {
                    symbols.push((symbol.clone(), at));
                }
            }
        }
        let place = places(&needs).map_err(|circle| RootError::File {
            file: folder.clone(),
            what: format!(
                "modules need each other in a circle: {}",
                circle
                    .iter()
                    .map(|&at| modules[at].name.as_str())
                    .collect::<Vec<_>>()
                    .join(" -> ")
            ),
        })?;
        Ok(Modules {
            folder,
            modules,
            by_name,
            needs,
            place,
            symbols,
            builtin,
            builtin_aliases,
        })
    }

    /// The folder of this kernel, below the root.
    pub fn folder(&self) -> &str {
        &self.folder
    }

    /// All modules that a module needs, those that are needed by others last, so that loading goes from
    /// the end.
    fn all_needs(&self, at: usize) -> Vec<usize> {
        let mut seen = BTreeSet::new();
        let mut stack = vec![at];
        while let Some(here) = stack.pop() {
            stack.extend(self.needs[here].iter().filter(|&&need| seen.insert(need)));
        }
        let mut order: Vec<usize> = seen.into_iter().collect();
        order.sort_by_key(|&need| self.place[need]);
        order
    }

    /// The modules that `patterns` name, with all that they need, hard or soft: paths below the kernel's
    /// folder. A pattern is a name, in which `-` and `_` are the same, or a glob.
    ///
    /// # Errors
    /// When a plain name is neither a module nor built in.
    pub fn closure(&self, patterns: &[&str]) -> Result<BTreeSet<Vec<u8>>, RootError> {
        let mut waiting = Vec::new();
        for pattern in patterns {
            let pattern = pattern.replace('-', "_");
            if pattern.contains(['*', '?', '[']) {
                let fits = |module: &&(usize, &Module)| glob(pattern.as_bytes(), module.1.name.as_bytes());
                let numbered: Vec<(usize, &Module)> = self.modules.iter().enumerate().collect();
                waiting.extend(numbered.iter().filter(fits).map(|(at, _)| (*at, 0)));
            } else if let Some(&at) = self.by_name.get(&pattern) {
                waiting.push((at, 0));
            } else if !self.builtin.iter().any(|(name, _)| *name == pattern) {
                let near = self
                    .by_name
                    .keys()
                    .filter(|name| name.contains(&pattern) || pattern.contains(*name))
                    .min();
                return Err(RootError::Unknown {
                    what: "module",
                    name: pattern,
                    near: near.cloned(),
                });
            }
        }
        let mut chosen = BTreeSet::new();
        while let Some((at, depth)) = waiting.pop() {
            if !chosen.insert(at) {
                continue;
            }
            waiting.extend(self.needs[at].iter().map(|&need| (need, depth)));
            if depth >= SOFT_MAX {
                continue;
            }
            for soft in self.modules[at].soft_names() {
                waiting.extend(
                    self.by_name
                        .get(&soft.replace('-', "_"))
                        .map(|&need| (need, depth + 1)),
                );
            }
        }
        Ok(chosen
            .into_iter()
            .map(|at| self.modules[at].path.clone().into_bytes())
            .collect())
    }

    /// `modules.dep`, `modules.alias`, `modules.softdep` and `modules.builtin` for the modules of `paths`
    /// alone.
    pub fn subset(&self, paths: &BTreeSet<Vec<u8>>) -> Vec<(String, String)> {
        let chosen = |at: usize| paths.contains(self.modules[at].path.as_bytes());
        vec![
            ("modules.dep".to_owned(), self.dependencies(&chosen)),
            ("modules.alias".to_owned(), self.aliases(&chosen)),
            ("modules.softdep".to_owned(), self.soft_dependencies(&chosen)),
            (
                "modules.builtin".to_owned(),
                self.builtin.iter().map(|(_, path)| format!("{path}\n")).collect(),
            ),
        ]
    }

    /// A module with what it needs, as a line of `modules.dep`.
    fn dependency(&self, at: usize) -> String {
        let mut line = format!("{}:", self.modules[at].path);
        for need in self.all_needs(at) {
            let _ = write!(line, " {}", self.modules[need].path);
        }
        line
    }

    fn dependencies(&self, chosen: &dyn Fn(usize) -> bool) -> String {
        let lines = (0..self.modules.len()).filter(|&at| chosen(at));
        lines.map(|at| self.dependency(at) + "\n").collect()
    }

    /// The lines of one kind that modules have in themselves.
    fn listed<'m>(
        &'m self,
        title: &str,
        chosen: &dyn Fn(usize) -> bool,
        list: impl Fn(&'m Module) -> &'m [String],
        line: impl Fn(&str, &str) -> String,
    ) -> String {
        let mut text = format!("# {title}\n");
        for (_, module) in self.modules.iter().enumerate().filter(|(at, _)| chosen(*at)) {
            for value in list(module) {
                text.push_str(&line(&module.name, value));
                text.push('\n');
            }
        }
        text
    }

    fn aliases(&self, chosen: &dyn Fn(usize) -> bool) -> String {
        let title = "Aliases extracted from modules themselves.";
        let line = |name: &str, alias: &str| format!("alias {alias} {name}");
        self.listed(title, chosen, |module| &module.aliases, line)
    }

    fn soft_dependencies(&self, chosen: &dyn Fn(usize) -> bool) -> String {
        let title = "Soft dependencies extracted from modules themselves.";
        let line = |name: &str, soft: &str| format!("softdep {name} {soft}");
        self.listed(title, chosen, |module| &module.soft, line)
    }

    fn weak_dependencies(&self) -> String {
        let title = "Weak dependencies extracted from modules themselves.";
        let line = |name: &str, weak: &str| format!("weakdep {name} {weak}");
        self.listed(title, &|_| true, |module| &module.weak, line)
    }

    fn symbols(&self) -> String {
        let mut text = String::from("# Aliases for symbols, used by symbol_request().\n");
        for (symbol, at) in &self.symbols {
            let _ = writeln!(text, "alias symbol:{symbol} {}", self.modules[*at].name);
        }
        text
    }

    /// Device nodes that load a module when they are opened: from aliases like `char-major-10-229` and
    /// `devname:fuse`.
    fn device_names(&self) -> String {
        let mut text = String::new();
        for module in &self.modules {
            let mut node = None;
            let mut device = None;
            for alias in &module.aliases {
                if let Some(name) = alias.strip_prefix("devname:") {
                    node = Some(name);
                } else if let Some(numbers) = alias.strip_prefix("char-major-") {
                    device = device_numbers(numbers).map(|numbers| ('c', numbers)).or(device);
                } else if let Some(numbers) = alias.strip_prefix("block-major-") {
                    device = device_numbers(numbers).map(|numbers| ('b', numbers)).or(device);
                }
                if node.is_some() && device.is_some() {
                    break;
                }
            }
            if let (Some(node), Some((kind, (major, minor)))) = (node, device) {
                if text.is_empty() {
                    text.push_str("# Device nodes to trigger on-demand module loading.\n");
                }
                let _ = writeln!(text, "{} {node} {kind}{major}:{minor}", module.name);
            }
        }
        text
    }

    /// An index of the given keys, values and priorities.
    fn index<'k>(
        &self,
        file: &str,
        entries: impl Iterator<Item = (std::borrow::Cow<'k, str>, &'k str, usize)>,
    ) -> Result<Vec<u8>, RootError> {
        let wrong = |what: String| RootError::File {
            file: format!("{}/{file}", self.folder),
            what,
        };
        let mut index = Index::new();
        for (key, value, priority) in entries {
            index
                .insert(&key, value, priority as u32)
                .map_err(|what| wrong(format!("`{}` {what}", key.escape_debug())))?;
        }
        index.write().map_err(|what| wrong(what.to_owned()))
    }

    /// The binary indexes with their names.
    fn indexes(&self) -> Result<Vec<(&'static str, Vec<u8>)>, RootError> {
        let lines: Vec<String> = (0..self.modules.len()).map(|at| self.dependency(at)).collect();
        let modules = || self.modules.iter().enumerate();
        let dependencies =
            modules().map(|(at, module)| (module.name.as_str().into(), lines[at].as_str(), at));
        let aliases = modules().flat_map(|(at, module)| {
            let keys = module.aliases.iter().filter_map(|alias| underscores(alias));
            keys.map(move |key| (key.into(), module.name.as_str(), at))
        });
        let symbols = self.symbols.iter().map(|(symbol, at)| {
            let key = format!("symbol:{symbol}").into();
            (key, self.modules[*at].name.as_str(), *at)
        });
        let builtin = self.builtin.iter().map(|(name, _)| (name.as_str().into(), "", 0));
        let mut files = vec![
            ("modules.dep.bin", self.index("modules.dep.bin", dependencies)?),
            ("modules.alias.bin", self.index("modules.alias.bin", aliases)?),
            ("modules.symbols.bin", self.index("modules.symbols.bin", symbols)?),
            ("modules.builtin.bin", self.index("modules.builtin.bin", builtin)?),
        ];
        if let Some(aliases) = &self.builtin_aliases {
            let name = "modules.builtin.alias.bin";
            let entries = aliases
                .iter()
                .filter_map(|(alias, name)| Some((underscores(alias)?.into(), name.as_str(), 0)));
            files.push((name, self.index(name, entries)?));
        }
        Ok(files)
    }
}

/// Places in an order in which each comes before what it needs: kmod's, which takes the last of those that
/// nobody who is left needs. Gives a circle where there is one.
fn places(needs: &[Vec<usize>]) -> Result<Vec<usize>, Vec<usize>> {
    let mut users = vec![0_usize; needs.len()];
    for &need in needs.iter().flatten() {
        users[need] += 1;
    }
    let mut free: Vec<usize> = (0..needs.len()).filter(|&at| users[at] == 0).collect();
    let mut place = vec![usize::MAX; needs.len()];
    let mut count = 0;
    while let Some(at) = free.pop() {
        place[at] = count;
        count += 1;
        for &need in &needs[at] {
            users[need] -= 1;
            if users[need] == 0 {
                free.push(need);
            }
        }
    }
    let Some(left) = place.iter().position(|&place| place == usize::MAX) else {
        return Ok(place);
    };
    // Who is left is needed by somebody who is left: against that direction there is no end but in a circle.
    let mut user_of = vec![usize::MAX; needs.len()];
    for (at, needed) in needs
        .iter()
        .enumerate()
        .filter(|(at, _)| place[*at] == usize::MAX)
    {
        for &need in needed {
            user_of[need] = at;
        }
    }
    let mut way = vec![left];
    loop {
        let here = user_of[way[way.len() - 1]];
        if let Some(begin) = way.iter().position(|&at| at == here) {
            let mut circle = way.split_off(begin);
            circle.reverse();
            circle.push(circle[0]);
            return Err(circle);
        }
        way.push(here);
    }
}

/// `MAJOR-MINOR`, both numbers.
fn device_numbers(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('-')?;
    let digits = minor.find(|letter: char| !letter.is_ascii_digit());
    let minor = &minor[..digits.unwrap_or(minor.len())];
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// An alias as indexes have it: `-` is `_` but inside of brackets. None where brackets do not match.
fn underscores(alias: &str) -> Option<String> {
    let mut out = String::with_capacity(alias.len());
    let mut inside = false;
    for letter in alias.chars() {
        match letter {
            ']' if !inside => return None,
            ']' => inside = false,
            '[' => inside = true,
            '-' if !inside => {
                out.push('_');
                continue;
            }
            _ => {}
        }
        out.push(letter);
    }
    (!inside).then_some(out)
}

/// Aliases in a `modules.builtin.modinfo`: `MODULE.KEY=VALUE` and a zero byte each.
fn builtin_aliases(text: &str) -> Vec<(String, String)> {
    let field = |field: &str| {
        let (name, rest) = field.split_once('.')?;
        let alias = rest.strip_prefix("alias=")?;
        (!name.is_empty() && !alias.is_empty()).then(|| (alias.to_owned(), name.to_owned()))
    };
    text.split('\0').filter_map(field).collect()
}

/// Reads modules on all cores; the order stays.
fn read_all(files: &[(String, Content)]) -> Result<Vec<Module>, RootError> {
    let threads = std::thread::available_parallelism()
        .map_or(1, usize::from)
        .min(files.len().max(1));
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((path, content)) = files.get(at) else {
                return done;
            };
            done.push((at, Module::read(path, content.bytes())));
        }
    };
    let mut all: Vec<(usize, Result<Module, String>)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        running
            .into_iter()
            .flat_map(|one| one.join().unwrap_or_default())
            .collect()
    });
    all.sort_by_key(|(at, _)| *at);
    all.into_iter()
        .map(|(at, module)| {
            module.map_err(|what| RootError::File {
                file: display(files[at].0.as_bytes()),
                what,
            })
        })
        .collect()
}

/// Writes the indexes of the kernel `version`; says what it wrote.
///
/// # Errors
/// As [`Modules::load`], and where a name of a module cannot be in an index.
pub fn run(tree: &mut Tree, version: &str, time: Timestamp) -> Result<Vec<Vec<u8>>, RootError> {
    let modules = Modules::load(tree, version)?;
    let mut written = Vec::new();
    let all = |_: usize| true;
    let mut files: Vec<(&str, Vec<u8>)> = [
        ("modules.dep", modules.dependencies(&all)),
        ("modules.alias", modules.aliases(&all)),
        ("modules.softdep", modules.soft_dependencies(&all)),
        ("modules.weakdep", modules.weak_dependencies()),
        ("modules.symbols", modules.symbols()),
        ("modules.devname", modules.device_names()),
    ]
    .map(|(name, text)| (name, text.into_bytes()))
    .into();
    files.extend(modules.indexes()?);
    for (name, bytes) in files {
        let path = format!("{}/{name}", modules.folder);
        replace(tree, path.as_bytes(), 0o644, bytes, time, &mut written)?;
    }
    Ok(written)
}
