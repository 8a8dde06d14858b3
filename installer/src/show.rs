//! Text for people.

use crate::contents::Contents;
use crate::file_system::Kind;
use crate::probe::{Disk, Firmware, Interface, InterfaceKind, Machine, Partition, Transport};
use std::fmt::Write as _;

/// Columns that lists are broken at.
const COLUMNS: usize = 80;

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

/// What is in a partition, in the order in which people recognise it: file system and label, the system, whose boot loaders.
fn contents(contents: &Contents) -> Vec<String> {
    let mut words = Vec::new();
    match (&contents.file_system, &contents.unread) {
        (_, Some(why)) => words.push(format!("CANNOT BE READ: {why}")),
        (Some(kind), None) => {
            let kind = match kind.as_str() {
                "crypto_LUKS" => "LUKS (encrypted)",
                kind => kind,
            };
            words.push(match &contents.label {
                Some(label) => format!("{kind} \"{label}\""),
                None => kind.to_owned(),
            });
        }
        (None, None) => {}
    }
    words.extend(contents.system.as_ref().map(|system| system.words()));
    if !contents.loaders.is_empty() {
        words.push(format!("boot loaders: {}", contents.loaders.join(" ")));
    }
    let kind = contents.file_system.as_deref().and_then(Kind::named);
    if kind.is_some() && !contents.looked_into {
        words.push("files not looked at".to_owned());
    }
    words
}

/// What is known of a partition beside its number and size, the most telling first; `nothing known in it` where that is all.
#[must_use]
pub fn facts(partition: &Partition) -> String {
    let mut words = contents(&partition.contents);
    if words.is_empty() {
        words.push("nothing known in it".to_owned());
    }
    if let Some(kind) = &partition.kind {
        words.push(format!("type {}", kind.words()));
    }
    if let Some(name) = &partition.label {
        words.push(format!("named \"{name}\""));
    }
    words.extend(partition.used.iter().map(|used| format!("IN USE: {used}")));
    printable(&words.join(", "))
}

/// What is in a partition in a few words, for a column.
#[must_use]
pub fn brief(partition: &Partition) -> String {
    let contents = &partition.contents;
    let mut words = Vec::new();
    // The system says more than the label.
    words.extend(contents.file_system.as_deref().map(|kind| match kind {
        "crypto_LUKS" => "LUKS".to_owned(),
        kind => kind.to_owned(),
    }));
    match (&contents.system, &contents.label) {
        (Some(system), _) => words.push(system.words()),
        (None, Some(label)) => words.push(format!("\"{label}\"")),
        (None, None) if !contents.loaders.is_empty() => words.push(contents.loaders.join(" ")),
        (None, None) => words.extend(partition.label.as_ref().map(|name| format!("({name})"))),
    }
    if words.is_empty() {
        words.extend(partition.kind.as_ref().map(|kind| format!("({})", kind.words())));
    }
    printable(&words.join(" "))
}

/// What is on a disk, in a line: its table, its systems, and what else has a name.
#[must_use]
pub fn on_disk(disk: &Disk) -> String {
    if let Some(why) = &disk.unread {
        return printable(&format!("CANNOT BE READ: {why}"));
    }
    let mut words = Vec::new();
    match (disk.table, disk.partitions.len()) {
        (Some(table), 0) => words.push(table.name().to_owned()),
        (None, 0) => words.push("no partitions".to_owned()),
        (table, count) => words.push(format!(
            "{}{count} partition{}",
            table
                .map(|table| format!("{}, ", table.name()))
                .unwrap_or_default(),
            if count == 1 { "" } else { "s" }
        )),
    }
    words.extend(contents(&disk.contents));
    let mut systems: Vec<String> = disk.partitions.iter().filter_map(telling).collect();
    let more = systems.len().saturating_sub(NAMED);
    systems.truncate(NAMED);
    if more > 0 {
        systems.push(format!("{more} more"));
    }
    if !systems.is_empty() {
        words.push(format!("with {}", systems.join("; ")));
    }
    printable(&words.join(", "))
}

/// Partitions that are named with their disk at most.
const NAMED: usize = 4;

/// By what people know a partition again; none where there is nothing of that kind.
fn telling(partition: &Partition) -> Option<String> {
    let contents = &partition.contents;
    let kind = contents.file_system.as_deref()?;
    if let Some(system) = &contents.system {
        return Some(system.words());
    }
    if let [_, ..] = contents.loaders[..] {
        return Some(format!("boot loaders: {}", contents.loaders.join(" ")));
    }
    match (&contents.label, kind) {
        (_, "crypto_LUKS") => Some("an encrypted volume".to_owned()),
        (Some(label), kind) => Some(format!("{kind} \"{label}\"")),
        (None, "swap" | "vfat") => None,
        (None, kind) => Some(kind.to_owned()),
    }
}

/// A network interface in a line, without its name.
#[must_use]
pub fn interface(interface: &Interface) -> String {
    let kind = match interface.kind {
        InterfaceKind::Wired => "wired",
        InterfaceKind::Wireless => "wireless",
        InterfaceKind::Other => "virtual or of another kind",
    };
    let link = match interface.link {
        Some(true) => "link",
        Some(false) => "no link",
        None => "down",
    };
    let mac = interface.mac.as_deref().map(|mac| format!(", {mac}"));
    printable(&format!("{kind}, {link}{}", mac.unwrap_or_default()))
}

/// Puts a text behind `first`, broken at spaces, what follows below its beginning.
fn put(out: &mut String, first: &str, text: &str) {
    let indent = first.chars().count();
    let mut line = first.to_owned();
    let mut fresh = true;
    for word in text.split(' ') {
        if !fresh && line.chars().count() + 1 + word.chars().count() > COLUMNS {
            let _ = writeln!(out, "{line}");
            (line, fresh) = (" ".repeat(indent), true);
        }
        if !fresh {
            line.push(' ');
        }
        line.push_str(word);
        fresh = false;
    }
    let _ = writeln!(out, "{}", line.trim_end());
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
    if let Some(why) = &disk.unread {
        put(out, "  CANNOT BE READ: ", &printable(why));
    }
    if let Some(table) = disk.table {
        let _ = writeln!(out, "  table    {}", table.name());
    }
    let whole = contents(&disk.contents);
    if !whole.is_empty() {
        put(out, "  holds    ", &printable(&whole.join(", ")));
    }
    for partition in &disk.partitions {
        let head = format!("  part {:<3} {:>10}  ", partition.number, size(partition.size));
        put(out, &head, &facts(partition));
        if let Some(uuid) = &partition.contents.uuid {
            let _ = writeln!(out, "{:23}UUID {}", "", printable(uuid));
        }
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
    if machine.network.is_empty() {
        let _ = writeln!(out, "network   none");
    }
    for found in &machine.network {
        let _ = writeln!(out, "network   {}: {}", printable(&found.name), interface(found));
    }
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
