//! Text for people.

use crate::probe::{Disk, Firmware, Machine, Transport};
use std::fmt::Write as _;

/// A size with its decimal unit, as disks are sold, and at most one digit behind the point.
#[must_use]
pub fn size(bytes: u64) -> String {
    let mut unit = 1u64;
    for name in ["B", "kB", "MB", "GB", "TB", "PB"] {
        if bytes / unit < 1000 || name == "PB" {
            let tenths = u128::from(bytes) * 10 / u128::from(unit);
            return if unit == 1 || tenths >= 1000 || tenths.is_multiple_of(10) {
                format!("{} {name}", tenths / 10)
            } else {
                format!("{}.{} {name}", tenths / 10, tenths % 10)
            };
        }
        unit *= 1000;
    }
    format!("{bytes} B")
}

/// Text from a device without what a terminal would obey.
#[must_use]
pub fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

fn transport(transport: Transport) -> &'static str {
    match transport {
        Transport::Nvme => "NVMe",
        Transport::Usb => "USB",
        Transport::Ata => "ATA",
        Transport::Mmc => "MMC",
        Transport::Virtio => "virtio",
        Transport::Scsi => "SCSI",
        Transport::Paravirtual => "paravirtual",
        Transport::Other => "other",
    }
}

fn disk(out: &mut String, disk: &Disk) {
    let mut line = format!(
        "{}  {}  {}",
        disk.path,
        size(disk.size),
        transport(disk.transport)
    );
    for (value, word) in [
        (disk.removable, "removable"),
        (disk.read_only, "read-only"),
        (disk.optical, "optical"),
    ] {
        if value {
            let _ = write!(line, ", {word}");
        }
    }
    let _ = writeln!(out, "{line}");
    for (name, value) in [("model", &disk.model), ("serial", &disk.serial)] {
        if let Some(value) = value {
            let _ = writeln!(out, "  {name:<9}{}", printable(value));
        }
    }
    for id in &disk.by_id {
        let _ = writeln!(out, "  by-id    {}", printable(id));
    }
    let _ = writeln!(
        out,
        "  sectors  {} logical, {} physical",
        disk.logical_sector, disk.physical_sector
    );
    for partition in &disk.partitions {
        let label = partition
            .label
            .as_ref()
            .map(|label| format!("  \"{}\"", printable(label)))
            .unwrap_or_default();
        let _ = writeln!(
            out,
            "  part {:<3} {:>10}{label}",
            partition.number,
            size(partition.size)
        );
    }
    if disk.offered() {
        let _ = writeln!(out, "  can be installed to");
    } else {
        let _ = writeln!(out, "  NOT offered:");
        for why in &disk.refused {
            let _ = writeln!(out, "    {}", printable(why));
        }
    }
}

/// The machine as text.
#[must_use]
pub fn machine(machine: &Machine) -> String {
    let mut out = String::new();
    let firmware = match machine.firmware {
        Firmware::Uefi { bits: Some(bits) } => format!("UEFI, {bits}-bit"),
        Firmware::Uefi { bits: None } => "UEFI".into(),
        Firmware::DeviceTree => "device tree".into(),
        Firmware::Bios => "BIOS".into(),
    };
    let memory = machine
        .memory
        .map_or("not known".into(), |bytes| format!("{} MiB", bytes >> 20));
    let _ = writeln!(out, "firmware  {firmware}\nmemory    {memory}");
    if machine.disks.is_empty() {
        let _ = writeln!(out, "\nno disks");
    }
    for found in &machine.disks {
        out.push('\n');
        disk(&mut out, found);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, expected) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 kB"),
            (1_500_000, "1.5 MB"),
            (500_107_862_016, "500 GB"),
            (2_000_398_934_016, "2 TB"),
            (u64::MAX, "18446 PB"),
        ] {
            assert_eq!(size(bytes), expected);
        }
    }

    #[test]
    fn nothing_a_terminal_would_obey() {
        assert_eq!(printable("a\x1b[2Jb\n"), "a\u{fffd}[2Jb\u{fffd}");
    }
}
