//! The initramfs of a live medium: what the definition asks for, put together by [`lycia_boot::initramfs`].

use lycia_boot::initramfs::{self, Recipe};
use lycia_tree::{Content, Tree};

use crate::build::Work;
use crate::definition::{Compression, Image};
use crate::error::{Context as _, Error, Kind, Result};
use crate::root::{Kernel, Root};
use crate::verified;

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
    let asked = image
        .initramfs
        .modules
        .iter()
        .chain(&image.initramfs.available_modules)
        .map(String::as_str);
    let verified: &[&str] = if image.live.verify {
        &verified::MODULES
    } else {
        &[]
    };
    let recipe = Recipe {
        kernel: &kernel.version,
        config: config(image, medium),
        modules: asked.chain(verified.iter().copied()).collect(),
        programs: image.initramfs.programs.iter().map(String::as_str).collect(),
        keymap: None,
        time: root.time,
    };
    initramfs::tree(root.beside.as_ref().unwrap_or(&root.tree), &recipe)
        .map_err(|error| Error::new(Kind::Target, error))
        .context(|| "assembling the initramfs".to_owned())
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
        ("services", live.services.join(" ")),
    ];
    lines.retain(|(_, value)| !value.is_empty());
    lines
        .into_iter()
        .map(|(key, value)| format!("{key} = {value}\n"))
        .collect()
}

/// Archives and compresses the tree.
///
/// # Errors
/// When the archive cannot hold it.
pub fn write(image: &Image, tree: &Tree, jobs: usize) -> Result<Vec<u8>> {
    use lycia_media::compress::{Branches, Compression as Stream};
    let compression = match image.initramfs.compression {
        Compression::Zstd(level) => Stream::zstd(i32::try_from(level).unwrap_or(12)),
        Compression::Xz(_) | Compression::Gzip(_) => Stream::xz_for_kernel(Branches::None),
    };
    initramfs::archive(tree, &compression, u32::try_from(jobs).unwrap_or(1))
        .map_err(|error| Error::new(Kind::Target, error))
}

/// The initramfs as a file's content.
///
/// # Errors
/// As [`tree`] and [`write`].
pub fn content(work: &Work<'_>, kernel: &Kernel, medium: &Medium<'_>) -> Result<Content> {
    let tree = tree(work.image, work.root, kernel, medium)?;
    Ok(Content::from(write(work.image, &tree, work.options.jobs)?))
}
