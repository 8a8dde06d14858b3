//! Where entries of file systems go: contents are hashed as they pass, and a few are kept for a closer look.

use std::collections::BTreeMap;
use std::io::{self, Write};

use lycia_tree::{Timestamp, display};
use sha2::{Digest as _, Sha256};

use crate::report::Item;

/// Bytes of a file that is kept.
const KEPT: usize = 16 << 20;
/// Bytes of all files that are kept.
const ALL_KEPT: usize = 128 << 20;
/// Bytes of a kernel that are kept: its header and the version.
const KERNEL: usize = 64 << 10;

/// What a C library contains where an allocator is in it.
const ALLOCATORS: [(&[u8], &str); 2] = [(b"Scudo ERROR", "scudo"), (b"mimalloc: ", "mimalloc")];
const OVERLAP: usize = 11;

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.push(char::from_digit(u32::from(byte >> 4), 16).unwrap_or('0'));
        text.push(char::from_digit(u32::from(byte & 15), 16).unwrap_or('0'));
    }
    text
}

/// The entries of a file system, and what was kept of them.
#[derive(Default)]
pub struct Listing {
    pub items: Vec<Item>,
    /// Contents by path.
    pub kept: BTreeMap<String, Vec<u8>>,
    /// The allocator that was found in a C library.
    pub allocator: Option<&'static str>,
    held: usize,
}

/// Takes the content of one file.
pub struct Taster {
    hash: Sha256,
    len: u64,
    keep: usize,
    kept: Vec<u8>,
    library: bool,
    tail: Vec<u8>,
    allocator: Option<&'static str>,
}

impl Write for Taster {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        self.len += bytes.len() as u64;
        let room = self.keep - self.kept.len().min(self.keep);
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        if self.library && self.allocator.is_none() {
            self.tail.extend_from_slice(bytes);
            for (needle, name) in ALLOCATORS {
                if self.tail.windows(needle.len()).any(|window| window == needle) {
                    self.allocator = Some(name);
                }
            }
            let from = self.tail.len().saturating_sub(OVERLAP);
            self.tail.drain(..from);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The folder and the name of what the firmware of a Raspberry Pi reads, by its path: on the partition of its own, or in the root.
pub fn raspberry_pi(path: &str) -> Option<(&str, &str)> {
    let (folder, name) = path.rsplit_once('/')?;
    let there = matches!(folder, "" | "/boot" | "/boot/firmware");
    let read = matches!(name, "config.txt" | "cmdline.txt" | "kernel.txt");
    (there && read).then_some((folder, name))
}

/// How much of a file is kept.
fn wanted(path: &str) -> usize {
    let name = path.rsplit('/').next().unwrap_or_default();
    let database = path.contains("lib/apk/db/")
        && matches!(name, "installed" | "triggers" | "scripts.tar" | "scripts.tar.gz");
    let menu = matches!(
        name,
        "grub.cfg" | "loopback.cfg" | "extlinux.conf" | "syslinux.cfg" | "isolinux.cfg"
    ) || path.contains("loader/entries/")
        || path == "/boot.ipxe"
        || raspberry_pi(path).is_some();
    let text = matches!(path, "/etc/os-release" | "/usr/lib/os-release" | "/etc/apk/world")
        || name.ends_with(".sha256")
        || matches!(
            name,
            "SHA256SUMS" | "sha256sum.txt" | "packages.lock" | "oci-layout" | "index.json"
        )
        || path.starts_with("/blobs/sha256/");
    if path.contains("/boot/vmlinu") || path.starts_with("/vmlinu") {
        KERNEL
    } else if database || menu || text {
        KEPT
    } else {
        0
    }
}

impl Listing {
    /// What takes the content of the file at a path.
    pub fn taster(&self, path: &str) -> Taster {
        Taster {
            hash: Sha256::new(),
            len: 0,
            keep: wanted(path).min(ALL_KEPT - self.held.min(ALL_KEPT)),
            kept: Vec::new(),
            library: path.ends_with("/libc.so") || path.contains("/ld-musl-"),
            tail: Vec::new(),
            allocator: None,
        }
    }

    /// Adds a file whose content went to `taster`.
    pub fn file(&mut self, mut item: Item, taster: Taster) {
        item.sha256 = Some(hex(&taster.hash.finalize()));
        self.held += taster.kept.len();
        if taster.keep > 0 {
            self.kept.insert(item.path.clone(), taster.kept);
        }
        if taster.library {
            // What is neither of the others is musl's own.
            let found = taster.allocator.unwrap_or("mallocng");
            if self.allocator.is_none_or(|known| known == "mallocng") {
                self.allocator = Some(found);
            }
        }
        self.items.push(item);
    }
}

/// An entry without what only some have.
pub fn item(path: &[u8], kind: &'static str, mode: u16, (uid, gid): (u32, u32), mtime: Timestamp) -> Item {
    Item {
        path: display(path),
        kind,
        mode,
        uid,
        gid,
        mtime: mtime.seconds,
        nanoseconds: mtime.nanoseconds,
        ..Item::default()
    }
}

/// Attributes as they are shown.
pub fn xattrs(xattrs: &BTreeMap<Vec<u8>, Vec<u8>>) -> BTreeMap<String, String> {
    let shown = xattrs.iter().map(|(name, value)| (display(name), hex(value)));
    shown.collect()
}

/// A device as it is shown.
pub fn device(device: lycia_tree::Device) -> Option<String> {
    Some(format!("{}:{}", device.major, device.minor))
}
