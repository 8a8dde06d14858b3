//! Kernels of a root.

use lycia_tree::{Follow, Tree};

use crate::BootError;

/// A kernel of a root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kernel {
    /// Its version, which names its modules.
    pub version: String,
    /// Path of its image.
    pub image: Vec<u8>,
}

/// The kernels of a root: `/boot/vmlinuz-VERSION` and `/boot/vmlinux-VERSION`, by name.
///
/// # Errors
/// When `/boot` cannot be resolved.
pub fn kernels(tree: &Tree) -> Result<Vec<Kernel>, BootError> {
    let boot = tree.find(b"boot", Follow::All)?;
    let entries = boot.and_then(|id| tree.inode(id).entries()).into_iter().flatten();
    let kernels = entries.filter_map(|(name, _)| {
        let name = std::str::from_utf8(name).ok()?;
        let version = name
            .strip_prefix("vmlinuz-")
            .or_else(|| name.strip_prefix("vmlinux-"))?;
        Some(Kernel {
            version: version.to_owned(),
            image: format!("boot/{name}").into_bytes(),
        })
    });
    Ok(kernels.collect())
}
