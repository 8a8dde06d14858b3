//! Loads kernel modules, by name and for the devices in sysfs.

use crate::cmdline::{Word, module_options};
use crate::log::Log;
use crate::modules::{Module, ModuleIndex, Packing};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

/// Largest index file that is read.
const INDEX_LIMIT: u64 = 32 << 20;
/// Deepest directory below /sys/devices that is looked into.
const SYSFS_DEPTH: usize = 32;
/// `MODULE_INIT_COMPRESSED_FILE` of linux/module.h (5.17 and later).
const COMPRESSED: i32 = 4;

/// Loads modules of the running kernel.
#[derive(Debug)]
pub struct Loader<'a> {
    directory: PathBuf,
    index: ModuleIndex,
    words: Vec<Word>,
    blacklist: Vec<String>,
    done: BTreeSet<String>,
    seen: BTreeSet<String>,
    log: &'a Log,
}

fn read_index(directory: &Path, name: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = File::open(directory.join(name))
        && file.take(INDEX_LIMIT).read_to_string(&mut text).is_err()
    {
        text.clear();
    }
    text
}

/// Names of the directories in `/usr/lib/modules`.
fn kernels() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir("/usr/lib/modules")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

impl<'a> Loader<'a> {
    /// Reads the index of the running kernel. None is there if the kernel has no modules: a warning says
    /// so if the initramfs has those of another one.
    #[must_use]
    pub fn open(words: &[Word], blacklist: &[String], log: &'a Log) -> Self {
        let release = rustix::system::uname().release().to_string_lossy().into_owned();
        let directory = Path::new("/usr/lib/modules").join(&release);
        let index = ModuleIndex::parse(
            &read_index(&directory, "modules.dep"),
            &read_index(&directory, "modules.alias"),
            &read_index(&directory, "modules.softdep"),
            &read_index(&directory, "modules.builtin"),
        );
        if index.is_empty() {
            let others = kernels();
            if others.is_empty() {
                log.info(format_args!(
                    "no modules in the initramfs; kernel {release} has to have all drivers built in"
                ));
            } else {
                log.warn(format_args!(
                    "the kernel is {release}, but the initramfs has modules for {}: kernel and initramfs do not belong together",
                    others.join(", ")
                ));
            }
        } else {
            log.debug(format_args!("{} modules for {release}", index.len()));
        }
        Self {
            directory,
            index,
            words: words.to_vec(),
            blacklist: blacklist.to_vec(),
            done: BTreeSet::new(),
            seen: BTreeSet::new(),
            log,
        }
    }

    fn insert(&self, module: &Module) -> Result<(), String> {
        let path = self.directory.join(&module.path);
        let file = File::open(&path).map_err(|error| format!("opening {}: {error}", path.display()))?;
        let options = CString::new(module_options(&self.words, &module.name)).unwrap_or_default();
        let flags = if module.packing() == Packing::Compressed {
            COMPRESSED
        } else {
            0
        };
        match rustix::system::finit_module(&file, &options, flags) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOEXEC) if flags != 0 => Err(format!(
                "{} is compressed, and this kernel cannot unpack it; store modules uncompressed in the initramfs",
                path.display()
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Loads modules and what they need. The first failure of a module that is needed is returned after
    /// everything was tried.
    ///
    /// # Errors
    /// Names the module and the kernel's reason.
    pub fn load(&mut self, names: &[String]) -> Result<(), String> {
        let mut result = Ok(());
        for module in self.index.load_order(names) {
            if !self.done.insert(module.name.clone()) {
                continue;
            }
            match self.insert(&module) {
                Ok(()) => self.log.debug(format_args!("module {}", module.name)),
                Err(error) if module.required => {
                    let text = format!("module {}: {error}", module.name);
                    self.log.debug(&text);
                    if result.is_ok() {
                        result = Err(text);
                    }
                }
                Err(error) => self
                    .log
                    .debug(format_args!("module {} (optional): {error}", module.name)),
            }
        }
        result
    }

    /// Whether the initramfs or the kernel has a module of this name.
    #[must_use]
    pub fn knows(&self, name: &str) -> bool {
        self.index.knows(name)
    }

    /// Loads what a modalias, an alias or a name stands for.
    ///
    /// # Errors
    /// As [`Self::load`]; matching nothing is no error.
    pub fn load_alias(&mut self, alias: &str) -> Result<(), String> {
        let mut names = self.index.matching(alias);
        names.retain(|name| !self.blacklist.contains(name));
        self.load(&names)
    }

    /// Loads drivers for the devices that were not seen before, the whole device tree or (quicker) those on
    /// buses. Says how many devices were new.
    pub fn coldplug(&mut self, whole_tree: bool) -> usize {
        let mut new = BTreeSet::new();
        if whole_tree {
            walk(Path::new("/sys/devices"), SYSFS_DEPTH, &mut new);
        } else {
            for bus in fs::read_dir("/sys/bus").into_iter().flatten().flatten() {
                for device in fs::read_dir(bus.path().join("devices"))
                    .into_iter()
                    .flatten()
                    .flatten()
                {
                    note(&device.path(), &mut new);
                }
            }
        }
        let mut count = 0;
        for alias in new {
            if self.seen.insert(alias.clone()) {
                count += 1;
                if let Err(error) = self.load_alias(&alias) {
                    // A driver may decline a device it lists; the next one may take it.
                    self.log.info(format_args!("for device {alias}: {error}"));
                }
            }
        }
        count
    }

    /// Makes the kernel able to mount `kind`, as far as the initramfs can.
    pub fn file_system(&mut self, kind: &str) {
        let mut aliases = vec![format!("fs-{kind}"), kind.to_owned()];
        if kind == "vfat" {
            // Character sets are asked for at mount time.
            aliases.extend(["nls_cp437", "nls_iso8859-1", "nls_ascii", "nls_utf8"].map(str::to_owned));
        }
        for alias in aliases {
            if let Err(error) = self.load_alias(&alias) {
                self.log.warn(error);
            }
        }
    }
}

fn note(device: &Path, found: &mut BTreeSet<String>) {
    if let Ok(alias) = fs::read_to_string(device.join("modalias")) {
        let alias = alias.trim();
        if !alias.is_empty() {
            found.insert(alias.to_owned());
        }
    }
}

fn walk(directory: &Path, depth: usize, found: &mut BTreeSet<String>) {
    note(directory, found);
    if depth == 0 {
        return;
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), depth - 1, found);
        }
    }
}

/// What the kernel calls in place of modprobe(8) while the initramfs is there: `-q -- NAME`.
/// Returns the exit code.
#[must_use]
pub fn modprobe(name: &str) -> i32 {
    let log = Log::default();
    let line = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    let mut loader = Loader::open(&crate::cmdline::split(&line), &[], &log);
    i32::from(loader.load_alias(name).is_err())
}
