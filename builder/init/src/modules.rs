//! The kernel's module index (`modules.dep`, `.alias`, `.softdep`, `.builtin`, as depmod(8) writes them):
//! from device aliases and names to files in load order.

use std::collections::{BTreeMap, BTreeSet};

/// How a module file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// `.ko`
    Plain,
    /// `.ko.xz`, `.ko.zst` or `.ko.gz`; the kernel unpacks it if it was built to.
    Compressed,
}

/// A module to load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Name with underscores.
    pub name: String,
    /// Path, relative to the directory of the index unless absolute.
    pub path: String,
    /// Whether a failure matters; false for soft dependencies.
    pub required: bool,
}

impl Module {
    /// How the file is compressed.
    #[must_use]
    pub fn packing(&self) -> Packing {
        if self.path.ends_with(".ko") {
            Packing::Plain
        } else {
            Packing::Compressed
        }
    }
}

#[derive(Debug, Default)]
struct Soft {
    before: Vec<String>,
    after: Vec<String>,
}

/// The index of one kernel.
#[derive(Debug, Default)]
pub struct ModuleIndex {
    /// Name to path and direct or indirect dependencies (paths), as modules.dep has them.
    files: BTreeMap<String, (String, Vec<String>)>,
    /// Patterns by what stands before their first `:`, or by "" if a wildcard comes earlier.
    aliases: BTreeMap<String, Vec<(String, String)>>,
    soft: BTreeMap<String, Soft>,
    builtin: BTreeSet<String>,
}

/// The name of a module file or a name as typed, with underscores.
#[must_use]
pub fn module_name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = ["", ".xz", ".zst", ".gz"]
        .iter()
        .find_map(|packed| file.strip_suffix(&format!(".ko{packed}")))
        .unwrap_or(file);
    stem.replace('-', "_")
}

/// `-` as `_`, as kmod compares aliases, except inside brackets where it is a range.
fn underscored(pattern: &str) -> String {
    let mut bracket = false;
    let turn = |character| {
        match character {
            '[' => bracket = true,
            ']' => bracket = false,
            '-' if !bracket => return '_',
            _ => {}
        }
        character
    };
    pattern.chars().map(turn).collect()
}

fn bucket(pattern: &str) -> &str {
    match pattern.find([':', '*', '?', '[']) {
        Some(end) if pattern.as_bytes()[end] == b':' => &pattern[..end],
        _ => "",
    }
}

impl ModuleIndex {
    /// Reads the index from the texts of its files; a file that is missing is an empty text. Lines that
    /// are not understood are skipped, since newer kernels add some.
    #[must_use]
    pub fn parse(dep: &str, alias: &str, softdep: &str, builtin: &str) -> Self {
        let mut index = Self::default();
        for line in dep.lines() {
            let Some((path, needs)) = line.split_once(':') else {
                continue;
            };
            let needs = needs.split_whitespace().map(str::to_owned).collect();
            index
                .files
                .insert(module_name(path), (path.trim().to_owned(), needs));
        }
        for line in alias.lines() {
            let mut words = line.split_whitespace();
            if let (Some("alias"), Some(pattern), Some(name)) = (words.next(), words.next(), words.next()) {
                let pattern = underscored(pattern);
                let list = index.aliases.entry(bucket(&pattern).to_owned()).or_default();
                list.push((pattern, module_name(name)));
            }
        }
        for line in softdep.lines() {
            let mut words = line.split_whitespace();
            if words.next() != Some("softdep") {
                continue;
            }
            let Some(owner) = words.next() else { continue };
            let soft = index.soft.entry(module_name(owner)).or_default();
            let mut into_before = None;
            for word in words {
                match (word, into_before) {
                    ("pre:", _) => into_before = Some(true),
                    ("post:", _) => into_before = Some(false),
                    (name, Some(true)) => soft.before.push(module_name(name)),
                    (name, Some(false)) => soft.after.push(module_name(name)),
                    _ => {}
                }
            }
        }
        index.builtin = builtin.lines().map(|line| module_name(line.trim())).collect();
        index
    }

    /// Number of module files.
    #[must_use]
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether there is no module file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Whether a module of this name is a file or part of the kernel.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        let name = module_name(name);
        self.files.contains_key(&name) || self.builtin.contains(&name)
    }

    /// Names of the modules that match `alias`: a device's modalias, an alias like `fs-vfat`, or a
    /// module's own name.
    #[must_use]
    pub fn matching(&self, alias: &str) -> Vec<String> {
        let wanted = underscored(alias);
        let own = module_name(alias);
        if self.files.contains_key(&own) || self.builtin.contains(&own) {
            return vec![own];
        }
        let keys: &[&str] = if bucket(&wanted).is_empty() {
            &[""]
        } else {
            &[bucket(&wanted), ""]
        };
        let mut found = Vec::new();
        for (pattern, name) in keys.iter().filter_map(|key| self.aliases.get(*key)).flatten() {
            if !found.contains(name) && glob(pattern.as_bytes(), wanted.as_bytes()) {
                found.push(name.clone());
            }
        }
        found
    }

    /// Files to load for `names`, each once, dependencies and soft dependencies in their place. Modules
    /// that are part of the kernel or unknown are left out; cycles are cut.
    #[must_use]
    pub fn load_order(&self, names: &[String]) -> Vec<Module> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.add(&module_name(name), true, &mut seen, &mut order);
        }
        order
    }

    fn add(&self, name: &str, required: bool, seen: &mut BTreeSet<String>, order: &mut Vec<Module>) {
        if !seen.insert(name.to_owned()) {
            if required && let Some(module) = order.iter_mut().find(|module| module.name == name) {
                module.required = true;
            }
            return;
        }
        let soft = self.soft.get(name);
        for before in soft.iter().flat_map(|soft| &soft.before) {
            for name in self.matching(before) {
                self.add(&name, false, seen, order);
            }
        }
        if let Some((path, needs)) = self.files.get(name) {
            // modules.dep lists the nearest dependency first.
            for need in needs.iter().rev() {
                self.add(&module_name(need), required, seen, order);
            }
            order.push(Module {
                name: name.to_owned(),
                path: path.clone(),
                required,
            });
        }
        for after in soft.iter().flat_map(|soft| &soft.after) {
            for name in self.matching(after) {
                self.add(&name, false, seen, order);
            }
        }
    }
}

/// fnmatch(3) without flags: `*`, `?`, `[...]` with ranges and `!`. Linear in practice: only the last `*`
/// is tried again.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let step = match pattern.get(p) {
            Some(b'*') => {
                retry = Some((p + 1, t));
                p += 1;
                continue;
            }
            None if t == text.len() => return true,
            None => None,
            Some(_) if t == text.len() => return false,
            Some(b'?') => Some(1),
            Some(b'[') => class(&pattern[p..], text[t]),
            Some(byte) => (*byte == text[t]).then_some(1),
        };
        match (step, retry) {
            (Some(length), _) => {
                p += length;
                t += 1;
            }
            (None, Some((after, from))) if from < text.len() => {
                retry = Some((after, from + 1));
                (p, t) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Length of the bracket expression at the start of `pattern` if it matches `byte`.
fn class(pattern: &[u8], byte: u8) -> Option<usize> {
    let negated = matches!(pattern.get(1), Some(b'!' | b'^'));
    let start = if negated { 2 } else { 1 };
    // A `]` in first place stands for itself.
    let close = pattern
        .iter()
        .skip(start + 1)
        .position(|byte| *byte == b']')
        .map(|at| at + start + 1);
    let Some(close) = close else {
        return (byte == b'[').then_some(1);
    };
    let set = &pattern[start..close];
    let mut at = 0;
    let mut matched = false;
    while at < set.len() {
        if at + 2 < set.len() && set[at + 1] == b'-' {
            matched |= (set[at]..=set[at + 2]).contains(&byte);
            at += 3;
        } else {
            matched |= set[at] == byte;
            at += 1;
        }
    }
    (matched != negated).then_some(close + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn index() -> ModuleIndex {
        ModuleIndex::parse(
            "kernel/fs/isofs/isofs.ko: kernel/drivers/cdrom/cdrom.ko\n\
             kernel/drivers/cdrom/cdrom.ko:\n\
             kernel/drivers/scsi/sr_mod.ko.xz: kernel/drivers/cdrom/cdrom.ko kernel/drivers/scsi/scsi_mod.ko kernel/drivers/scsi/scsi_common.ko\n\
             kernel/drivers/scsi/scsi_mod.ko: kernel/drivers/scsi/scsi_common.ko\n\
             kernel/drivers/scsi/scsi_common.ko:\n\
             kernel/drivers/virtio/virtio_pci.ko:\n\
             kernel/a/one.ko: kernel/a/two.ko\n\
             kernel/a/two.ko: kernel/a/one.ko\n\
             kernel/fs/ext4/ext4.ko:\n\
             kernel/crypto/crc32c-generic.ko:\n",
            "# Aliases\n\
             alias fs-iso9660 isofs\n\
             alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
             alias scsi:t-0x05* sr_mod\n\
             alias scsi:t-0x0[4-5]* sr-mod\n\
             alias crc32c crc32c-generic\n",
            "softdep ext4 pre: crc32c missing post: isofs\n",
            "kernel/drivers/nvme/host/nvme.ko\n",
        )
    }

    fn names(modules: &[Module]) -> Vec<&str> {
        modules.iter().map(|module| module.name.as_str()).collect()
    }

    #[test]
    fn devices_find_their_modules() {
        let index = index();
        assert_eq!(
            index.matching("pci:v00001AF4d00001001sv00001AF4sd00000002bc01sc00i00"),
            ["virtio_pci"]
        );
        assert_eq!(index.matching("scsi:t-0x05"), ["sr_mod"]);
        assert_eq!(index.matching("fs-iso9660"), ["isofs"]);
        assert_eq!(index.matching("sr-mod"), ["sr_mod"]);
        assert_eq!(index.matching("nvme"), ["nvme"]);
        assert!(index.matching("usb:v1234").is_empty());
    }

    #[test]
    fn dependencies_come_first_and_once() {
        let index = index();
        let order = index.load_order(&["sr_mod".into(), "isofs".into(), "nvme".into(), "nothing".into()]);
        assert_eq!(
            names(&order),
            ["scsi_common", "scsi_mod", "cdrom", "sr_mod", "isofs"]
        );
        assert_eq!(order[3].packing(), Packing::Compressed);
        assert!(order.iter().all(|module| module.required));
    }

    #[test]
    fn soft_dependencies_surround_their_owner_and_may_fail() {
        let order = index().load_order(&["ext4".into()]);
        assert_eq!(names(&order), ["crc32c_generic", "ext4", "cdrom", "isofs"]);
        assert_eq!(
            order.iter().map(|module| module.required).collect::<Vec<_>>(),
            [false, true, false, false]
        );
        let order = index().load_order(&["ext4".into(), "isofs".into()]);
        assert!(
            order
                .iter()
                .filter(|module| module.name != "crc32c_generic")
                .filter(|module| module.name != "cdrom")
                .all(|module| module.required)
        );
    }

    #[test]
    fn cycles_end() {
        assert_eq!(names(&index().load_order(&["one".into()])), ["two", "one"]);
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("a*c*e", "abcde", true),
            ("a*c*e", "abcd", false),
            ("a?c", "abc", true),
            ("a[0-9a-c]c", "abc", true),
            ("a[!b]c", "abc", false),
            ("[]]", "]", true),
            ("a[bc", "a[bc", true),
            ("*:*bc*", "pci:xxbcyy", true),
        ] {
            assert_eq!(
                glob(pattern.as_bytes(), text.as_bytes()),
                expected,
                "{pattern} {text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_index(dep in "[ -~\n:/]{0,200}", alias in "(alias [ -~]{0,30}\n){0,5}", text in "[ -~]{0,40}") {
            let index = ModuleIndex::parse(&dep, &alias, &dep, &dep);
            let found = index.matching(&text);
            let _ = index.load_order(&found);
        }

        #[test]
        fn a_star_matches_any_infix(a in "[a-z]{0,8}", b in "[a-z]{0,8}", c in "[a-z]{0,8}") {
            let (pattern, text) = (format!("{a}*{c}"), format!("{a}{b}{c}"));
            prop_assert!(glob(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
