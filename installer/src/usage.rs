//! What block devices are used for: mounts, swap, and devices built on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

/// Where the medium of a live system is mounted (by lycia-init).
pub const MEDIUM_MOUNTS: &[&str] = &["/run/live/medium", "/run/live/findiso"];

/// Use of one block device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Usage {
    /// Mount points.
    pub mounts: BTreeSet<String>,
    /// It is swap.
    pub swap: bool,
}

/// Uses by device number, `8:1`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Uses {
    by_number: BTreeMap<String, Usage>,
    swap_nodes: BTreeSet<String>,
}

/// Undoes the octal escapes of mountinfo and swaps (proc(5)).
pub(crate) fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'\\')
            .then(|| bytes.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        out.push(code.unwrap_or(bytes[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    String::from_utf8_lossy(&out).into_owned()
}

impl Uses {
    /// Reads the texts of `/proc/self/mountinfo` and `/proc/swaps`.
    #[must_use]
    pub fn parse(mountinfo: &str, swaps: &str) -> Self {
        let mut uses = Self::default();
        for line in mountinfo.lines() {
            let mut fields = line.split(' ');
            let (Some(number), Some(target)) = (fields.nth(2), fields.nth(1)) else {
                continue;
            };
            // btrfs shows a number of its own; its device is in the source field behind the dash.
            let source = line
                .split(" - ")
                .nth(1)
                .and_then(|rest| rest.split(' ').nth(1))
                .unwrap_or_default();
            let target = unescaped(target);
            if let Some(name) = source.strip_prefix("/dev/") {
                uses.by_number
                    .entry(format!("name:{}", unescaped(name)))
                    .or_default()
                    .mounts
                    .insert(target.clone());
            }
            uses.by_number
                .entry(number.to_owned())
                .or_default()
                .mounts
                .insert(target);
        }
        for line in swaps.lines().skip(1) {
            let mut fields = line.split_whitespace();
            if let (Some(node), Some("partition")) = (fields.next(), fields.next()) {
                uses.swap_nodes.insert(unescaped(node));
            }
        }
        uses
    }

    /// Reads them from a procfs.
    ///
    /// # Errors
    /// If mountinfo cannot be read: without it a disk in use could be taken for a free one. A missing
    /// `swaps` is a kernel without swap.
    pub fn read(proc: &Path) -> io::Result<Self> {
        let mountinfo = fs::read_to_string(proc.join("self/mountinfo"))?;
        let swaps = match fs::read_to_string(proc.join("swaps")) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(error),
        };
        Ok(Self::parse(&mountinfo, &swaps))
    }

    /// The use of the device with this number and kernel name.
    #[must_use]
    pub fn of(&self, number: &str, name: &str) -> Usage {
        let mut usage = self.by_number.get(number).cloned().unwrap_or_default();
        let named = self.by_number.get(&format!("name:{}", name.replace('!', "/")));
        usage
            .mounts
            .extend(named.into_iter().flat_map(|named| named.mounts.iter().cloned()));
        usage.swap = self
            .swap_nodes
            .contains(&format!("/dev/{}", name.replace('!', "/")));
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MOUNTINFO: &str = "\
22 1 8:2 / / rw,relatime shared:1 - ext4 /dev/sda2 rw
23 22 0:21 / /proc rw - proc proc rw
24 22 0:40 /@home /home rw - btrfs /dev/sdb1 rw,subvol=/@home
25 22 8:2 /x /mnt/a\\040b rw - ext4 /dev/sda2 rw
";

    #[test]
    fn mounts_and_swap_are_found_by_number_and_by_name() {
        let uses = Uses::parse(
            MOUNTINFO,
            "Filename\tType\n/dev/sda3 partition 1 0 -2\n/swapfile file 1 0 -3\n",
        );
        assert_eq!(
            uses.of("8:2", "sda2").mounts.iter().collect::<Vec<_>>(),
            ["/", "/mnt/a b"]
        );
        assert_eq!(
            uses.of("8:17", "sdb1").mounts.iter().collect::<Vec<_>>(),
            ["/home"]
        );
        assert!(uses.of("8:3", "sda3").swap);
        assert_eq!(uses.of("8:33", "sdc1"), Usage::default());
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "([ -~]{0,80}\n){0,6}") {
            let _ = Uses::parse(&text, &text).of("8:1", "sda1");
        }
    }
}
