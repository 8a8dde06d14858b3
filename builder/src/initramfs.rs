//! The initramfs of a live medium: what the definition asks for, put together by [`lycia_boot::initramfs`].

use lycia_boot::initramfs::{self, Recipe};
use lycia_media::compress::{Branches, Compression as Stream};
use lycia_media::cpio;
use lycia_media::squashfs::{BlockKey, BlockStore as _, Known};
use lycia_tree::{Content, Tree};
use sha2::{Digest as _, Sha256};

use crate::blocks::Blocks;
use crate::build::Work;
use crate::definition::{Compression, Image};
use crate::error::{Context as _, Error, Kind, Result};
use crate::hashing::Hashing;
use crate::root::{Kernel, Root};
use crate::store::Store;
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

/// The compression of initramfs that a definition names, as Linux reads it.
pub fn stream(compression: Compression) -> Stream {
    match compression {
        Compression::Zstd(level) => Stream::zstd(i32::try_from(level).unwrap_or(12)),
        Compression::Xz(_) | Compression::Gzip(_) => Stream::xz_for_kernel(Branches::None),
    }
}

/// Archives and compresses the tree. Linux wants one frame of zstd, so that the store knows the whole or nothing.
///
/// # Errors
/// When the archive cannot hold it, or the store refuses.
pub fn packed(tree: &Tree, compression: Compression, store: &Store, jobs: usize) -> Result<Vec<u8>> {
    let stream = stream(compression);
    let explain = |error| Error::new(Kind::Target, error).context("assembling the initramfs");
    let mut plain = Hashing::new(std::io::sink());
    cpio::write_tree(&mut plain, tree, &cpio::Options::default())
        .map_err(|error| Error::new(Kind::Target, error).context("assembling the initramfs"))?;
    let (_, sum, _) = plain.finish();
    let key: BlockKey = Sha256::digest(format!("initramfs 1\0{stream:?}\0{sum}")).into();
    let blocks = Blocks::open(store)?;
    let packed = match blocks.get(&key) {
        Some(Known::Packed(packed)) => packed,
        _ => {
            let packed =
                initramfs::archive(tree, &stream, u32::try_from(jobs).unwrap_or(1)).map_err(explain)?;
            blocks.put(&key, Some(&packed));
            packed
        }
    };
    blocks.finish();
    Ok(packed)
}

/// The initramfs as a file's content.
///
/// # Errors
/// As [`tree`] and [`packed`].
pub fn content(work: &Work<'_>, kernel: &Kernel, medium: &Medium<'_>) -> Result<Content> {
    let tree = tree(work.image, work.root, kernel, medium)?;
    let compression = work.image.initramfs.compression;
    packed(&tree, compression, work.store, work.options.jobs).map(Content::from)
}
