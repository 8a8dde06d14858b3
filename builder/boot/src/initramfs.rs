//! The initramfs: our init, the modules that finding a medium or a root needs, and programs for emergencies.

use std::collections::{BTreeSet, VecDeque};

use lycia_media::compress::Compression;
use lycia_media::cpio;
use lycia_root::depmod::Modules;
use lycia_tree::{Content, Device, Follow, Metadata, Node, Timestamp, Tree, display};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};

use crate::BootError;

/// Where the package of our init has it.
pub const INIT: &str = "usr/lib/lycia/init";
/// Where lycia-init looks for the layout of the keyboard.
pub const KEYMAP: &str = "etc/keymap.bmap";
/// Directories that libraries are looked for in, as the loaders of musl and of merged roots do.
const LIBRARY_PATHS: [&str; 4] = ["lib", "usr/lib", "usr/local/lib", "lib64"];

/// What goes into an initramfs.
#[derive(Clone, Debug)]
pub struct Recipe<'a> {
    /// Version of the kernel, which names its modules.
    pub kernel: &'a str,
    /// Text of `/etc/lycia-init.conf`.
    pub config: String,
    /// Modules that are taken with what they depend on: names, or patterns with `*`.
    pub modules: Vec<&'a str>,
    /// Programs that are taken with their libraries: absolute paths in the root.
    pub programs: Vec<&'a str>,
    /// Layout of the keyboard, in the binary form that lycia-init reads: passphrases and the emergency prompt are typed with it.
    pub keymap: Option<Content>,
    /// The time of every entry.
    pub time: Timestamp,
}

/// Puts the initramfs of `root` together as a tree.
///
/// # Errors
/// When the root lacks the init, a module or a program that the recipe asks for.
pub fn tree(root: &Tree, recipe: &Recipe<'_>) -> Result<Tree, BootError> {
    let time = recipe.time;
    let mut tree = Tree::new(Metadata::new(0o755, time));
    for directory in ["dev", "etc", "proc", "run", "sys", "usr/bin", "usr/lib"] {
        tree.make_directories(directory.as_bytes(), Metadata::new(0o755, time))?;
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib"),
        ("usr/sbin", "bin"),
    ] {
        let node = Node::Symlink(target.into());
        tree.insert(link.as_bytes(), Metadata::new(0o777, time), node)?;
    }
    // The kernel opens it before init runs.
    let console = Node::CharDevice(Device { major: 5, minor: 1 });
    tree.insert(b"dev/console", Metadata::new(0o600, time), console)?;

    if root.find(INIT.as_bytes(), Follow::All)?.is_none() {
        return Err(BootError::NoInit(INIT.to_owned()));
    }
    copy_as(
        &mut tree,
        root,
        INIT.as_bytes(),
        b"init",
        Metadata::new(0o755, time),
    )?;
    tree.write(
        b"etc/lycia-init.conf",
        Metadata::new(0o644, time),
        recipe.config.clone().into(),
    )?;
    if let Some(keymap) = &recipe.keymap {
        tree.write(KEYMAP.as_bytes(), Metadata::new(0o644, time), keymap.clone())?;
    }

    let modules = Modules::load(root, recipe.kernel)?;
    let wanted = modules.closure(&recipe.modules)?;
    let folder = format!("usr/lib/modules/{}", recipe.kernel);
    for path in &wanted {
        let from = [modules.folder().as_bytes(), b"/", path].concat();
        let path = [folder.as_bytes(), b"/", path].concat();
        copy_as(&mut tree, root, &from, &path, Metadata::new(0o644, time))?;
    }
    for (name, text) in modules.subset(&wanted) {
        let path = format!("{folder}/{name}");
        tree.write(path.as_bytes(), Metadata::new(0o644, time), text.into())?;
    }
    for program in &recipe.programs {
        add_program(&mut tree, root, program.as_bytes(), time)?;
    }
    tree.clamp_times(time);
    Ok(tree)
}

fn copy_as(
    to: &mut Tree,
    from: &Tree,
    path: &[u8],
    place: &[u8],
    metadata: Metadata,
) -> Result<(), BootError> {
    let id = from.resolve(path, Follow::All)?;
    let content = from.inode(id).content().cloned();
    let content = content.ok_or_else(|| BootError::NotAFile(display(path)))?;
    to.write(place, metadata, content)?;
    Ok(())
}

/// Archives and compresses an initramfs. `threads` changes the time that it takes, and never the output.
///
/// # Errors
/// When the archive cannot hold it.
pub fn archive(tree: &Tree, compression: &Compression, threads: u32) -> Result<Vec<u8>, BootError> {
    let mut segments = cpio::Segments::new(Vec::new());
    segments.compressed(tree, &cpio::Options::default(), compression, threads)?;
    Ok(segments.finish()?)
}

/// Copies a program of the root with its links, its interpreter and its libraries.
fn add_program(to: &mut Tree, from: &Tree, path: &[u8], time: Timestamp) -> Result<(), BootError> {
    let mut done = BTreeSet::new();
    let mut waiting = VecDeque::from([path.to_vec()]);
    while let Some(path) = waiting.pop_front() {
        let canonical = copy(to, from, &path, time)?;
        if !done.insert(canonical.clone()) {
            continue;
        }
        let bytes = from.read(&canonical)?;
        let Some(needs) = needs(bytes) else { continue };
        waiting.extend(needs.interpreter);
        for library in needs.libraries {
            let found = LIBRARY_PATHS.iter().find_map(|folder| {
                let path = [folder.as_bytes(), b"/", &library].concat();
                from.find(&path, Follow::All).ok().flatten().map(|_| path)
            });
            waiting.push_back(found.ok_or_else(|| BootError::Library {
                program: display(&path),
                library: display(&library),
            })?);
        }
    }
    Ok(())
}

/// Copies a file with every link on the way to it; gives the canonical path of the file.
fn copy(to: &mut Tree, from: &Tree, path: &[u8], time: Timestamp) -> Result<Vec<u8>, BootError> {
    let mut path = path.to_vec();
    for _ in 0..lycia_tree::SYMLINK_MAX {
        let place = from.canonical(&path, Follow::Parents)?;
        let id = from.resolve(&place, Follow::Parents)?;
        let inode = from.inode(id);
        let mode = Metadata::new(inode.metadata.mode & 0o777, time);
        let folder = place[..place.iter().rposition(|&byte| byte == b'/').unwrap_or(0)].to_vec();
        to.make_directories(&folder, Metadata::new(0o755, time))?;
        match inode.node() {
            Some(Node::Symlink(target)) => {
                to.insert(&place, mode, Node::Symlink(target.clone()))?;
                path = if target.starts_with(b"/") {
                    target.clone()
                } else {
                    [&folder, b"/".as_slice(), target].concat()
                };
            }
            Some(Node::Regular(content)) => {
                to.insert(&place, mode, Node::Regular(content.clone()))?;
                return Ok(place);
            }
            _ => {
                return Err(BootError::NotAFile(display(&place)));
            }
        }
    }
    Err(BootError::Links(display(&path)))
}

/// What an ELF program asks the loader for.
struct Needs {
    interpreter: Option<Vec<u8>>,
    libraries: Vec<Vec<u8>>,
}

/// Reads `PT_INTERP` and `DT_NEEDED` (System V ABI, "Program Loading and Dynamic Linking"); none of a file
/// that is not ELF or is damaged.
fn needs(bytes: &[u8]) -> Option<Needs> {
    match object::FileKind::parse(bytes).ok()? {
        object::FileKind::Elf32 => needs_of::<object::elf::FileHeader32<object::Endianness>>(bytes),
        object::FileKind::Elf64 => needs_of::<object::elf::FileHeader64<object::Endianness>>(bytes),
        _ => None,
    }
}

fn needs_of<E: FileHeader<Endian = object::Endianness>>(bytes: &[u8]) -> Option<Needs> {
    let header = E::parse(bytes).ok()?;
    let endian = header.endian().ok()?;
    let segments = header.program_headers(endian, bytes).ok()?;
    let mut needs = Needs {
        interpreter: None,
        libraries: Vec::new(),
    };
    for segment in segments {
        if let Ok(Some(interpreter)) = segment.interpreter(endian, bytes) {
            needs.interpreter = Some(interpreter.to_vec());
        }
        let Ok(Some(entries)) = segment.dynamic(endian, bytes) else {
            continue;
        };
        let value = |tag: object::elf::DynamicTag| {
            let found = entries.iter().find(|entry| entry.tag(endian) == tag)?;
            Some(found.val(endian))
        };
        let (Some(table), Some(size)) = (value(object::elf::DT_STRTAB), value(object::elf::DT_STRSZ)) else {
            continue;
        };
        // The table is given by its address, which one of the loaded segments holds.
        let strings = segments
            .iter()
            .find_map(|segment| segment.data_range(endian, bytes, table, size).ok().flatten());
        let Some(strings) = strings else { continue };
        for entry in entries
            .iter()
            .filter(|entry| entry.tag(endian) == object::elf::DT_NEEDED)
        {
            let start = usize::try_from(entry.val(endian)).ok()?;
            let name = strings.get(start..)?.split(|&byte| byte == 0).next()?;
            needs.libraries.push(name.to_vec());
        }
    }
    Some(needs)
}
