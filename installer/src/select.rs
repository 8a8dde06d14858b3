//! Finds exactly one disk. "The first disk" is not an identity: names change between boots.

use crate::probe::{Disk, Machine};

/// Why there is not exactly one.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SelectError {
    /// None matches.
    #[error("no disk matches `{selector}`; there are:\n{}", listed(.disks))]
    None {
        /// What was asked for.
        selector: String,
        /// What there is.
        disks: Vec<String>,
    },
    /// Several match.
    #[error("`{selector}` matches {} disks; give one of these names in full:\n{}", .disks.len(), listed(.disks))]
    Several {
        /// What was asked for.
        selector: String,
        /// Those that match.
        disks: Vec<String>,
    },
}

fn listed(disks: &[String]) -> String {
    if disks.is_empty() {
        return "  (no disks at all)".into();
    }
    disks
        .iter()
        .map(|disk| format!("  {disk}"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// The best name of a disk and what people recognise it by.
fn described(disk: &Disk) -> String {
    let id = disk
        .by_id
        .first()
        .map(|id| format!("/dev/disk/by-id/{id}"))
        .unwrap_or_else(|| disk.path.clone());
    let mut out = id;
    for (name, value) in [("model", &disk.model), ("serial", &disk.serial)] {
        if let Some(value) = value {
            out.push_str(&format!("  {name} {}", crate::show::printable(value)));
        }
    }
    format!("{out}  {}", crate::show::size(disk.size))
}

/// Finds the disk that `selector` names: a name in `/dev/disk/by-id` or `/dev/disk/by-path` (with or without the
/// directory), a serial number, or a device node.
///
/// # Errors
/// If none or several match; lists them.
pub fn select<'a>(machine: &'a Machine, selector: &str) -> Result<&'a Disk, SelectError> {
    let is_meant = |disk: &&Disk| {
        let link = |directory: &str, names: &[String]| {
            let full = selector.strip_prefix(&format!("/dev/disk/{directory}/"));
            names.iter().any(|name| name == full.unwrap_or(selector))
        };
        !selector.is_empty()
            && (disk.path == selector
                || disk.serial.as_deref() == Some(selector)
                || link("by-id", &disk.by_id)
                || link("by-path", &disk.by_path))
    };
    let found: Vec<&Disk> = machine.disks.iter().filter(is_meant).collect();
    let texts = |disks: &mut dyn Iterator<Item = &Disk>| disks.map(described).collect();
    match found.as_slice() {
        [disk] => Ok(disk),
        [] => Err(SelectError::None {
            selector: selector.into(),
            disks: texts(&mut machine.disks.iter()),
        }),
        several => Err(SelectError::Several {
            selector: selector.into(),
            disks: texts(&mut several.iter().copied()),
        }),
    }
}
