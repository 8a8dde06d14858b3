//! The initramfs: our init, the modules that finding a medium needs, and a shell for emergencies.

use std::collections::{BTreeSet, VecDeque};

use lycia_media::cpio;
use lycia_root::depmod::Modules;
use lycia_tree::{Content, Device, Follow, Metadata, Node, Timestamp, Tree, display};
use object::read::elf::{Dyn as _, FileHeader, ProgramHeader as _};

use crate::definition::{Compression, Image};
use crate::error::{Context as _, Error, Explain as _, Kind, Result};
use crate::root::{Kernel, Root};

/// Where the package of our init has it.
const INIT: &[u8] = b"usr/lib/lycia/init";
/// Directories that libraries are looked for in, as the loaders of musl and of merged roots do.
const LIBRARY_PATHS: [&str; 4] = ["lib", "usr/lib", "usr/local/lib", "lib64"];

/// What the initramfs is told of the medium.
pub struct Medium<'a> {
    /// Volume label.
    pub label: &'a str,
    /// UUID as blkid shows it.
    pub uuid: &'a str,
}

/// Builds the initramfs as a tree.
///
/// # Errors
/// When the root lacks the init, a module or a program that the definition asks for.
pub fn tree(image: &Image, root: &Root, kernel: &Kernel, medium: &Medium<'_>) -> Result<Tree> {
    build(image, root, kernel, medium).context(|| "assembling the initramfs".to_owned())
}

fn build(image: &Image, root: &Root, kernel: &Kernel, medium: &Medium<'_>) -> Result<Tree> {
    let time = root.time;
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let broken = |error| Error::new(Kind::Internal, error);
    for directory in ["dev", "etc", "proc", "run", "sys", "usr/bin", "usr/lib"] {
        tree.make_directories(directory.as_bytes(), Metadata::new(0o755, time))
            .map_err(broken)?;
    }
    for (link, target) in [
        ("bin", "usr/bin"),
        ("sbin", "usr/bin"),
        ("lib", "usr/lib"),
        ("lib64", "usr/lib"),
        ("usr/sbin", "bin"),
    ] {
        let node = Node::Symlink(target.into());
        tree.insert(link.as_bytes(), Metadata::new(0o777, time), node)
            .map_err(broken)?;
    }
    // The kernel opens it before init runs.
    let console = Node::CharDevice(Device { major: 5, minor: 1 });
    tree.insert(b"dev/console", Metadata::new(0o600, time), console)
        .map_err(broken)?;

    let init = root
        .content(INIT)
        .map_err(|error| error.hint("add the package lycia-init to the definition"))?;
    tree.write(b"init", Metadata::new(0o755, time), init)
        .map_err(broken)?;
    let config = config(image, medium);
    tree.write(b"etc/lycia-init.conf", Metadata::new(0o644, time), config.into())
        .map_err(broken)?;

    let modules =
        Modules::load(&root.tree, &kernel.version).explain(Kind::Target, || "modules".to_owned())?;
    let patterns: Vec<&str> = image
        .initramfs
        .modules
        .iter()
        .chain(&image.initramfs.available_modules)
        .map(String::as_str)
        .collect();
    let wanted = modules
        .closure(&patterns)
        .explain(Kind::Target, || "modules".to_owned())?;
    let folder = format!("usr/lib/modules/{}", kernel.version);
    for path in &wanted {
        let path = [folder.as_bytes(), b"/", path].concat();
        let content = root.content(&path)?;
        tree.write(&path, Metadata::new(0o644, time), content)
            .map_err(broken)?;
    }
    for (name, text) in modules.subset(&wanted) {
        let path = format!("{folder}/{name}");
        tree.write(path.as_bytes(), Metadata::new(0o644, time), text.into())
            .map_err(broken)?;
    }

    for program in &image.initramfs.programs {
        add_program(&mut tree, &root.tree, program.as_bytes(), time)
            .context(|| format!("the program {program}"))?;
    }
    tree.clamp_times(time);
    Ok(tree)
}

fn config(image: &Image, medium: &Medium<'_>) -> String {
    let live = &image.live;
    let mut lines = vec![
        ("medium-label", medium.label.to_owned()),
        ("medium-uuid", medium.uuid.to_owned()),
        ("live-path", "live".to_owned()),
        ("squashfs", "filesystem.squashfs".to_owned()),
        ("modules", image.initramfs.modules.join(" ")),
        ("live-user", live.user.clone()),
        ("live-password", live.password.clone()),
        ("live-shell", live.shell.clone()),
        ("hostname", live.hostname.clone()),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    lines
        .into_iter()
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect()
}

/// Copies a program of the root with its links, its interpreter and its libraries.
fn add_program(to: &mut Tree, from: &Tree, path: &[u8], time: Timestamp) -> Result<()> {
    let mut done = BTreeSet::new();
    let mut waiting = VecDeque::from([path.to_vec()]);
    while let Some(path) = waiting.pop_front() {
        let canonical = copy(to, from, &path, time)?;
        if !done.insert(canonical.clone()) {
            continue;
        }
        let bytes = from.read(&canonical).explain(Kind::Target, || display(&path))?;
        let Some(needs) = needs(bytes) else { continue };
        waiting.extend(needs.interpreter);
        for library in needs.libraries {
            let found = LIBRARY_PATHS.iter().find_map(|folder| {
                let path = [folder.as_bytes(), b"/", &library].concat();
                from.find(&path, Follow::All).ok().flatten().map(|_| path)
            });
            waiting.push_back(found.ok_or_else(|| {
                Error::new(
                    Kind::Target,
                    format!(
                        "{} needs the library {}, which the root lacks",
                        display(&path),
                        display(&library)
                    ),
                )
            })?);
        }
    }
    Ok(())
}

/// Copies a file with every link on the way to it; gives the canonical path of the file.
fn copy(to: &mut Tree, from: &Tree, path: &[u8], time: Timestamp) -> Result<Vec<u8>> {
    let explain = |error| Error::new(Kind::Target, error);
    let mut path = path.to_vec();
    for _ in 0..lycia_tree::SYMLINK_MAX {
        let place = from.canonical(&path, Follow::Parents).map_err(explain)?;
        let id = from.resolve(&place, Follow::Parents).map_err(explain)?;
        let inode = from.inode(id);
        let mode = Metadata::new(inode.metadata.mode & 0o777, time);
        let folder = place[..place.iter().rposition(|&byte| byte == b'/').unwrap_or(0)].to_vec();
        to.make_directories(&folder, Metadata::new(0o755, time))
            .map_err(explain)?;
        match inode.node() {
            Some(Node::Symlink(target)) => {
                to.insert(&place, mode, Node::Symlink(target.clone()))
                    .map_err(explain)?;
                path = if target.starts_with(b"/") {
                    target.clone()
                } else {
                    [&folder, b"/".as_slice(), target].concat()
                };
            }
            Some(Node::Regular(content)) => {
                to.insert(&place, mode, Node::Regular(content.clone()))
                    .map_err(explain)?;
                return Ok(place);
            }
            _ => {
                return Err(Error::new(
                    Kind::Target,
                    format!("{} is not a file", display(&place)),
                ));
            }
        }
    }
    Err(Error::new(
        Kind::Target,
        format!("{}: too many links", display(&path)),
    ))
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

/// Archives and compresses the tree.
///
/// # Errors
/// When the archive cannot hold it.
pub fn write(image: &Image, tree: &Tree) -> Result<Vec<u8>> {
    use lycia_media::compress::{Branches, Compression as Stream};
    let compression = match image.initramfs.compression {
        Compression::Zstd(level) => Stream::zstd(i32::try_from(level).unwrap_or(12)),
        Compression::Xz(_) | Compression::Gzip(_) => Stream::xz_for_kernel(Branches::None),
    };
    let doing = || "writing the initramfs".to_owned();
    let mut segments = cpio::Segments::new(Vec::new());
    segments
        .compressed(tree, &cpio::Options::default(), &compression, 1)
        .explain(Kind::Target, doing)?;
    segments.finish().explain(Kind::Target, doing)
}

/// The initramfs as a file's content.
///
/// # Errors
/// As [`tree`] and [`write`].
pub fn content(image: &Image, root: &Root, kernel: &Kernel, medium: &Medium<'_>) -> Result<Content> {
    Ok(Content::from(write(image, &tree(image, root, kernel, medium)?)?))
}
