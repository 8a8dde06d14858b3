//! What a live medium can be checked by: the hash tree of its image, and the sums of its files.
//!
//! The tree lies beside the image, its root hash on the kernel line of every entry of the menu: the initramfs then
//! reads the image through dm-verity. `sha256sum.txt` at the top is what `sha256sum --check` reads, and the `verify` entry.

use std::fmt::Write as _;

use lycia_media::verity::HashTree;
use lycia_tree::{Content, Footprint, Tree};

use crate::definition::Image;
use crate::error::{Explain as _, Kind, Result};
use crate::grub;
use crate::manifest;
use crate::medium::Identity;

/// The list of checksums at the top of a medium.
pub const CHECKSUMS: &str = "sha256sum.txt";
/// Modules that the initramfs has for the hash tree: the target, and whatever computes SHA-256 faster than the kernel's plain one.
pub const MODULES: [&str; 2] = ["dm-verity", "sha256*"];

/// The hash tree of a live image.
#[derive(Clone, Debug)]
pub struct Hashed {
    /// The file beside the image.
    pub area: Content,
    /// The root hash in hexadecimal.
    pub root: String,
    /// The words for the kernel line.
    pub arguments: Vec<String>,
}

/// Hashes the image, if the definition wants it verified.
///
/// # Errors
/// When the image is not whole blocks.
pub fn hash(image: &Image, identity: &Identity, squashfs: &Content) -> Result<Option<Hashed>> {
    if !image.live.verify {
        return Ok(None);
    }
    let tree = HashTree::new(&mut squashfs.reader(), &identity.salt())
        .explain(Kind::Internal, || "hashing the image for dm-verity".to_owned())?;
    Ok(Some(Hashed {
        arguments: vec![format!("dm-verity-root-hash={}", tree.root_hex())],
        root: tree.root_hex(),
        area: tree.area(identity.verity_uuid()).into(),
    }))
}

/// Sums of all files of the medium but those that are changed when it is written: GRUB's images for El Torito, which are told
/// where they lie. `image` is the sum of the image, which is known already.
pub fn checksums(medium: &Tree, built: &[grub::Built], image: (&str, &str)) -> String {
    let changed: Vec<Vec<u8>> = built
        .iter()
        .map(|one| format!("boot/grub/{}/eltorito.img", one.platform.platform).into_bytes())
        .collect();
    let mut text = String::new();
    let mut footprint = Footprint::new();
    for entry in medium.walk() {
        let path = entry.relative();
        // Names of a medium are ours, but for those of packages, which are ASCII.
        let (Some(content), Ok(name)) = (entry.inode.content(), std::str::from_utf8(path)) else {
            continue;
        };
        if changed.iter().any(|one| one == path) {
            continue;
        }
        let sum = match name == image.0 {
            true => image.1.to_owned(),
            false => manifest::sum_with(content, &mut footprint),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{sum}  {name}");
    }
    text
}
