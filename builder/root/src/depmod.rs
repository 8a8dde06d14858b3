//! Module indexes: what depmod makes of a kernel's modules (modules.dep(5)), and the closure of a set of
//! modules, for an initramfs.

mod module;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

use lycia_tree::{Follow, Timestamp, Tree, display};

use crate::tmpfiles::glob;
use crate::{RootError, replace};
use module::Module;

const FOLDER: &str = "usr/lib/modules";
/// Longest chain of soft dependencies followed.
const SOFT_MAX: usize = 64;

/// Versions of kernels that have modules in the root, sorted.
///
/// # Errors
/// When the path of modules is broken.
pub fn kernels(tree: &Tree) -> Result<Vec<String>, RootError> {
    let Some(id) = tree.find(FOLDER.as_bytes(), Follow::All)? else {
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
    version: String,
    /// In the order of `modules.order`, then by path.
    modules: Vec<Module>,
    by_name: HashMap<String, usize>,
    /// Numbers of the modules that each needs at once.
    needs: Vec<Vec<usize>>,
    /// Names of what is built into the kernel, with the paths of `modules.builtin`.
    builtin: BTreeMap<String, String>,
}

impl Modules {
    /// Reads the modules of the kernel `version`.
    ///
    /// # Errors
    /// When the root has no such kernel, or a module cannot be read.
    pub fn load(tree: &Tree, version: &str) -> Result<Modules, RootError> {
        let folder = format!("{FOLDER}/{version}");
        let Some(id) = tree.find(folder.as_bytes(), Follow::All)? else {
            let near = kernels(tree)?.pop();
            return Err(RootError::Unknown {
                what: "kernel",
                name: version.to_owned(),
                near,
            });
        };
        let mut files = Vec::new();
        for entry in tree.walk_from(b"", id) {
            let relative = entry.path.strip_prefix(b"/").unwrap_or(&entry.path);
            if let (Some(content), Ok(path)) = (entry.inode.content(), std::str::from_utf8(relative))
                && module::name(path).is_some()
            {
                files.push((path.to_owned(), content.clone()));
            }
        }
        let text = |name: &str| -> Result<String, RootError> {
            let path = format!("{folder}/{name}");
            match tree.find(path.as_bytes(), Follow::All)? {
                None => Ok(String::new()),
                Some(_) => Ok(String::from_utf8_lossy(tree.read(path.as_bytes())?).into_owned()),
            }
        };
        let order = text("modules.order")?;
        let order: HashMap<&str, usize> = order.lines().enumerate().map(|(at, path)| (path, at)).collect();
        let place = |path: &str| {
            let plain = path.find(".ko").map_or(path, |at| &path[..at + 3]);
            order.get(plain).copied().unwrap_or(usize::MAX)
        };
        files.sort_by(|(a, _), (b, _)| place(a).cmp(&place(b)).then_with(|| a.cmp(b)));
        let builtin = text("modules.builtin")?
            .lines()
            .filter_map(|path| Some((module::name(path)?, path.to_owned())))
            .collect();

        let modules = read_all(&files)?;
        let mut exporters: HashMap<&str, usize> = HashMap::new();
        let mut by_name = HashMap::new();
        for (at, module) in modules.iter().enumerate() {
            by_name.entry(module.name.clone()).or_insert(at);
            for symbol in &module.exports {
                exporters.entry(symbol).or_insert(at);
            }
        }
        let needs = modules
            .iter()
            .enumerate()
            .map(|(at, module)| {
                let mut needs = Vec::new();
                for symbol in &module.imports {
                    match exporters.get(symbol.as_str()) {
                        Some(&from) if from != at && !needs.contains(&from) => needs.push(from),
                        _ => {}
                    }
                }
                needs
            })
            .collect();
        Ok(Modules {
            version: version.to_owned(),
            modules,
            by_name,
            needs,
            builtin,
        })
    }

    /// All modules that a module needs, those that are needed by others last, so that loading goes from
    /// the end.
    fn all_needs(&self, at: usize) -> Vec<usize> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::from([at]);
        // Depth first without the native stack, in post order.
        let mut stack = vec![(at, 0)];
        while let Some((here, next)) = stack.pop() {
            match self.needs[here].get(next) {
                Some(&need) => {
                    stack.push((here, next + 1));
                    if seen.insert(need) {
                        stack.push((need, 0));
                    }
                }
                None if here != at => order.push(here),
                None => {}
            }
        }
        order.reverse();
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
            } else if !self.builtin.contains_key(&pattern) {
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
                self.builtin.values().map(|path| format!("{path}\n")).collect(),
            ),
        ]
    }

    fn dependencies(&self, chosen: &dyn Fn(usize) -> bool) -> String {
        let mut text = String::new();
        for (at, module) in self.modules.iter().enumerate().filter(|(at, _)| chosen(*at)) {
            let _ = write!(text, "{}:", module.path);
            for need in self.all_needs(at) {
                let _ = write!(text, " {}", self.modules[need].path);
            }
            text.push('\n');
        }
        text
    }

    fn aliases(&self, chosen: &dyn Fn(usize) -> bool) -> String {
        let mut text = String::from("# Aliases of modules, from the modules themselves.\n");
        for (_, module) in self.modules.iter().enumerate().filter(|(at, _)| chosen(*at)) {
            for alias in &module.aliases {
                let _ = writeln!(text, "alias {} {}", underscores(alias), module.name);
            }
        }
        text
    }

    fn soft_dependencies(&self, chosen: &dyn Fn(usize) -> bool) -> String {
        let mut text = String::from("# Soft dependencies of modules, from the modules themselves.\n");
        for (_, module) in self.modules.iter().enumerate().filter(|(at, _)| chosen(*at)) {
            for soft in &module.soft {
                let _ = writeln!(text, "softdep {} {soft}", module.name);
            }
        }
        text
    }

    fn symbols(&self) -> String {
        let mut text = String::from("# Which module has a symbol, for requests by symbol.\n");
        for module in &self.modules {
            for symbol in &module.exports {
                let _ = writeln!(text, "alias symbol:{symbol} {}", module.name);
            }
        }
        text
    }

    /// Device nodes that load a module when they are opened: from aliases like `char-major-10-229` and
    /// `devname:fuse`.
    fn device_names(&self) -> String {
        let mut text = String::from("# Device nodes that load a module when they are opened.\n");
        for module in &self.modules {
            let mut node = None;
            let mut device = None;
            for alias in &module.aliases {
                if let Some(name) = alias.strip_prefix("devname:") {
                    node = Some(name);
                } else if let Some(numbers) = alias.strip_prefix("char-major-") {
                    device = numbers.split_once('-').map(|numbers| ('c', numbers)).or(device);
                } else if let Some(numbers) = alias.strip_prefix("block-major-") {
                    device = numbers.split_once('-').map(|numbers| ('b', numbers)).or(device);
                }
            }
            if let (Some(node), Some((kind, (major, minor)))) = (node, device)
                && !minor.contains('*')
            {
                let _ = writeln!(text, "{} {node} {kind}{major}:{minor}", module.name);
            }
        }
        text
    }
}

/// As modules.alias has them: `-` is `_` but inside of brackets.
fn underscores(alias: &str) -> String {
    let mut inside = false;
    alias
        .chars()
        .map(|letter| {
            match letter {
                '[' => inside = true,
                ']' => inside = false,
                '-' if !inside => return '_',
                _ => {}
            }
            letter
        })
        .collect()
}

/// Reads modules on all cores; the order stays.
fn read_all(files: &[(String, lycia_tree::Content)]) -> Result<Vec<Module>, RootError> {
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

/// Writes the text indexes of the kernel `version`; says what it wrote.
///
/// # Errors
/// When the root has no such kernel, or a module cannot be read.
pub fn run(tree: &mut Tree, version: &str, time: Timestamp) -> Result<Vec<Vec<u8>>, RootError> {
    let modules = Modules::load(tree, version)?;
    let mut written = Vec::new();
    let all = |_: usize| true;
    let files = [
        ("modules.dep", modules.dependencies(&all)),
        ("modules.alias", modules.aliases(&all)),
        ("modules.softdep", modules.soft_dependencies(&all)),
        ("modules.symbols", modules.symbols()),
        ("modules.devname", modules.device_names()),
    ];
    for (name, text) in files {
        let path = format!("{FOLDER}/{}/{name}", modules.version);
        replace(
            tree,
            path.as_bytes(),
            0o644,
            text.into_bytes(),
            time,
            &mut written,
        )?;
    }
    Ok(written)
}
