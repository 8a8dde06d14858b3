//! Swap areas: their header, and a swap file in the new root.

use lycia_media::partition::Guid;
use lycia_tree::{InodeId, Metadata, Timestamp, Tree, TreeError};

/// Where the swap file is.
pub const FILE: &str = "swapfile";
/// Smallest and largest swap that is made, in bytes: a header alone is no swap, and the kernel counts pages in 32 bits.
pub const RANGE: std::ops::RangeInclusive<u64> = 1 << 20..=1 << 43;
/// Bytes of a page: the unit of swap on the architectures that media are built for.
const PAGE: u64 = 4096;

/// The header of a swap area of version 1 (Linux `include/linux/swap.h`, `union swap_header`), for pages of 4096 bytes.
#[must_use]
pub fn header(size: u64, uuid: Guid) -> Vec<u8> {
    let pages = u32::try_from(size / PAGE).unwrap_or(u32::MAX);
    let mut page = vec![0; PAGE as usize];
    page[1024..1028].copy_from_slice(&1u32.to_le_bytes());
    page[1028..1032].copy_from_slice(&pages.saturating_sub(1).to_le_bytes());
    page[1036..1052].copy_from_slice(&uuid.to_bytes());
    page[1052..1056].copy_from_slice(b"swap");
    page[4086..].copy_from_slice(b"SWAPSPACE2");
    page
}

/// Puts a swap file of `size` bytes into the root: only its header is content, the file system enlarges it to its size without writing the rest. Nobody
/// but root may read it: what is in its blocks is what the disk held before.
///
/// # Errors
/// When a package has something in its place.
pub fn file(tree: &mut Tree, size: u64, uuid: Guid, time: Timestamp) -> Result<(InodeId, u64), TreeError> {
    let size = size / PAGE * PAGE;
    let id = tree.insert(
        FILE.as_bytes(),
        Metadata::new(0o600, time),
        lycia_tree::Node::Regular(header(size, uuid).into()),
    )?;
    Ok((id, size))
}
