//! What boots: boot sectors, GRUB's core image, EFI programs, kernels, menus.
//!
//! Formats: GRUB 2.12 `include/grub/i386/pc/boot.h` and `grub-core/boot/i386/pc/diskboot.S` (places in boot sectors), El Torito and
//! mkisofs' boot information table, the PE/COFF specification, Linux `Documentation/arch/x86/boot.rst`, `arch/arm64/booting.rst`,
//! `arch/riscv/boot-image-header.rst`, the Boot Loader Specification.

use std::collections::BTreeMap;

use crate::cell::{Cell, Place};
use crate::report::{BootEntry, Part};
use crate::sink::{self, Listing};

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(
        bytes.get(at..at.checked_add(4)?)?.try_into().ok()?,
    ))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(
        bytes.get(at..at.checked_add(2)?)?.try_into().ok()?,
    ))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from(word(bytes, at)?) | u64::from(word(bytes, at.checked_add(4)?)?) << 32)
}

fn has(bytes: &[u8], needle: &[u8]) -> bool {
    bytes.windows(needle.len()).any(|window| window == needle)
}

/// GRUB's own words in its boot sectors.
const GRUB_SECTOR: &[u8] = b"GRUB ";
/// More than GRUB's decompressor and what it adds have, with what fills the last sector up.
const DECOMPRESSOR: u64 = 16 << 10;
/// Where GRUB's boot sector of a disk has the first sector of the core image.
const KERNEL_SECTOR: usize = 0x5c;

/// The boot code of an MBR.
pub fn sector(cell: &mut Cell<'_>, place: &Place, disk: &[u8], code: &[u8; 440], part: &mut Part) {
    if code.iter().all(|&byte| byte == 0) {
        part.fact("boot-code", "none");
        return;
    }
    if !has(code, GRUB_SECTOR) {
        part.fact("boot-code", "unknown");
        return;
    }
    let hybrid = disk.get(32769..).is_some_and(|rest| rest.starts_with(b"CD001"));
    if hybrid {
        part.fact("boot-code", "GRUB, for a hybrid ISO");
        return;
    }
    let first = long(code, KERNEL_SECTOR).unwrap_or(0);
    part.fact("boot-code", format!("GRUB, core image from sector {first} on"));
    let at = first.checked_mul(512).and_then(|at| usize::try_from(at).ok());
    match at.and_then(|at| disk.get(at..at.checked_add(512)?)) {
        None => cell.fault(
            place,
            KERNEL_SECTOR as u64,
            format!("GRUB's boot sector loads sector {first}, which is behind the end of the disk"),
        ),
        Some(sector) if sector.iter().all(|&byte| byte == 0) => cell.fault(
            place,
            KERNEL_SECTOR as u64,
            format!("GRUB's boot sector loads sector {first}, which is empty"),
        ),
        Some(sector) if !is_core(sector) => cell.fault(
            place,
            KERNEL_SECTOR as u64,
            format!("GRUB's boot sector loads sector {first}, where no core image begins"),
        ),
        Some(_) => {}
    }
}

/// Whether a sector is the first of GRUB's core image (`diskboot.img`): it says on the screen that it is loading, or what went wrong.
fn is_core(sector: &[u8]) -> bool {
    has(sector, b"loading") || has(sector, b"Geom\0Read\0 Error")
}

/// GRUB's core image on a BIOS boot partition.
pub fn core(cell: &mut Cell<'_>, place: &Place, bytes: &[u8]) -> Option<Part> {
    let first = bytes.first_chunk::<512>()?;
    if !is_core(first) {
        return None;
    }
    let mut part = Part {
        place: place.name.clone(),
        format: "grub-core".to_owned(),
        offset: place.base.filter(|_| !place.unpacked),
        size: bytes.len() as u64,
        ..Part::default()
    };
    let mut lists = Vec::new();
    let mut sectors = 1u64;
    // Lists of blocks grow downwards from the end of the first sector; one of no sectors ends them.
    for number in 0..20 {
        let at = 512 - 12 * (number + 1);
        let (start, len) = (long(first, at)?, half(first, at + 8)?);
        if len == 0 {
            break;
        }
        lists.push(format!("sectors {start}+{len}"));
        sectors += u64::from(len);
        if let Some(base) = place.base {
            if number == 0 && start != base / 512 + 1 {
                cell.fault(
                    place,
                    at as u64,
                    format!("GRUB's core image goes on at sector {start}, not behind its first one"),
                );
            }
            // Any number can stand there.
            let first = start.checked_mul(512);
            let end = start
                .checked_add(u64::from(len))
                .and_then(|end| end.checked_mul(512));
            let behind = base.saturating_add(bytes.len() as u64);
            if first.is_none_or(|first| first < base) || end.is_none_or(|end| end > behind) {
                cell.fault(
                    place,
                    at as u64,
                    format!("GRUB's core image has sectors {start}+{len}, outside of its partition"),
                );
            }
        }
    }
    // The decompressor, which is a few KiB, says what follows it. Since GRUB 1.98 it says so in the same place.
    let packed = word(bytes, 512 + 8).map_or(0, u64::from);
    let rest = (sectors - 1) * 512;
    if rest > 0 && (rest < packed || rest > packed + DECOMPRESSOR) {
        cell.fault(
            place,
            512 - 4,
            format!("GRUB loads {rest} bytes of its core image, of which {packed} are compressed"),
        );
    }
    part.fact("block-lists", lists);
    part.fact("core-size", sectors * 512);
    cell.region(place, 0, sectors * 512, "GRUB's core image");
    Some(part)
}

/// The tables in a boot image of El Torito.
pub fn information(cell: &mut Cell<'_>, place: &Place, image: &[u8], block: u32, part: &mut Part) {
    let table: Vec<u32> = (0..4).filter_map(|at| word(image, 8 + 4 * at)).collect();
    let [descriptor, own, len, sum] = table[..] else {
        return;
    };
    if descriptor == 16 {
        part.fact("boot-information", "there");
        let expected = image
            .get(64..)
            .unwrap_or_default()
            .chunks(4)
            .fold(0u32, |sum, word| {
                let mut bytes = [0; 4];
                bytes[..word.len()].copy_from_slice(word);
                sum.wrapping_add(u32::from_le_bytes(bytes))
            });
        if own != block || len as usize != image.len() {
            cell.fault(
                place,
                12,
                format!(
                    "the boot information says block {own} and {len} bytes, the image is at block {block} and has {}",
                    image.len()
                ),
            );
        } else if sum != expected {
            cell.fault(place, 20, "the checksum of the boot information is wrong");
        }
    }
    if has(&image[..image.len().min(2048)], GRUB_SECTOR) || has(&image[..image.len().min(2048)], b"loading") {
        let core = long(image, 2548).unwrap_or(0);
        if core != u64::from(block) * 4 + 5 {
            cell.fault(
                place,
                2548,
                format!("GRUB looks for its core at sector {core}, which is not that of this image"),
            );
        }
    }
}

/// GRUB's boot sector of a hybrid ISO: it leads to the boot image of El Torito.
pub fn hybrid(
    cell: &mut Cell<'_>,
    place: &Place,
    code: &[u8; 440],
    images: &BTreeMap<u32, (String, u64)>,
    part: &mut Part,
) {
    if !has(code, GRUB_SECTOR) {
        return;
    }
    let core = long(code, 432).unwrap_or(0);
    let image = core
        .checked_sub(4)
        .filter(|at| at % 4 == 0)
        .and_then(|at| images.get(&u32::try_from(at / 4).ok()?));
    match image {
        Some((path, _)) => part.fact("boot-code-loads", path.clone()),
        None => cell.fault(
            place,
            432,
            format!("the boot code loads sector {core}, where no file begins"),
        ),
    }
}

/// An EFI program.
pub fn efi(cell: &mut Cell<'_>, place: &Place, bytes: &[u8], part: &mut Part) {
    let header = word(bytes, 0x3c).map_or(0, |at| at as usize);
    if bytes
        .get(header..)
        .is_none_or(|rest| !rest.starts_with(b"PE\0\0"))
    {
        part.format = "dos-program".to_owned();
        if named(&place.name).ends_with(".efi") {
            cell.fault(place, 0x3c, "it is named as an EFI program, but has no PE header");
        }
        return;
    }
    let machine = half(bytes, header + 4).unwrap_or(0);
    part.fact("machine", machine_name(machine));
    // What firmware starts by its name is for the machine in that name (UEFI specification, 3.5.1.1).
    let expected = match named(&place.name).as_str() {
        "bootia32.efi" => Some(0x014c),
        "bootx64.efi" => Some(0x8664),
        "bootaa64.efi" => Some(0xaa64),
        "bootriscv64.efi" => Some(0x5064),
        "bootloongarch64.efi" => Some(0x6264),
        _ => None,
    };
    if expected.is_some_and(|expected| expected != machine) {
        cell.fault(
            place,
            header as u64 + 4,
            format!("it is for {}, which its name is not", machine_name(machine)),
        );
    }
    let sections = usize::from(half(bytes, header + 6).unwrap_or(0));
    let optional = usize::from(half(bytes, header + 20).unwrap_or(0));
    let mut names = Vec::new();
    for number in 0..sections {
        let at = header + 24 + optional + 40 * number;
        let Some(own) = bytes.get(at..at + 40) else {
            cell.fault(place, at as u64, "the table of sections is cut");
            break;
        };
        let name: String = own[..8]
            .iter()
            .take_while(|&&byte| byte != 0)
            .map(|&byte| char::from(byte))
            .collect();
        let (len, start) = (word(own, 16).unwrap_or(0), word(own, 20).unwrap_or(0));
        if u64::from(len) + u64::from(start) > bytes.len() as u64 && len > 0 {
            cell.fault(
                place,
                at as u64,
                format!("the section {name} runs over the end of the file"),
            );
        }
        let (start, end) = (start as usize, (start as usize).saturating_add(len as usize));
        if name == "mods"
            && let Some(modules) = bytes.get(start..end.min(bytes.len()))
        {
            part.fact("loader", "GRUB");
            if let Some(config) = embedded(modules) {
                part.fact("embedded-configuration", config);
            }
        }
        names.push(name);
    }
    part.fact("sections", names.join(" "));
}

/// The name of the file at a place, in lower case.
fn named(place: &str) -> String {
    let name = place.rsplit(['/', ' ']).next().unwrap_or_default();
    name.to_ascii_lowercase()
}

/// The configuration among the modules of a GRUB image (`include/grub/kernel.h`).
fn embedded(modules: &[u8]) -> Option<String> {
    let at = modules.windows(4).position(|window| window == b"mimg")?;
    let wide = word(modules, at + 4) == Some(0);
    let mut next = match wide {
        true => at.checked_add(usize::try_from(long(modules, at + 8)?).ok()?)?,
        false => at.checked_add(word(modules, at + 4)? as usize)?,
    };
    for _ in 0..1000 {
        let (kind, size) = (word(modules, next)?, word(modules, next + 4)? as usize);
        if size < 8 {
            return None;
        }
        if kind == 2 {
            let text = modules.get(next + 8..next.checked_add(size)?)?;
            let text: Vec<u8> = text
                .iter()
                .copied()
                .take_while(|&byte| byte != 0)
                .take(4096)
                .collect();
            return Some(String::from_utf8_lossy(&text).into_owned());
        }
        next = next.checked_add(size)?;
    }
    None
}

fn machine_name(machine: u16) -> String {
    match machine {
        0x014c => "i386".to_owned(),
        0x8664 => "x86_64".to_owned(),
        0xaa64 => "aarch64".to_owned(),
        0x5064 => "riscv64".to_owned(),
        0x6264 => "loongarch64".to_owned(),
        other => format!("{other:#06x}"),
    }
}

/// A kernel.
pub fn kernel(cell: &mut Cell<'_>, place: &Place, bytes: &[u8], part: &mut Part) {
    if bytes.get(0x202..0x206) == Some(b"HdrS") {
        part.fact("machine", "x86");
        let protocol = half(bytes, 0x206).unwrap_or(0);
        part.fact(
            "boot-protocol",
            format!("{}.{:02}", protocol >> 8, protocol & 0xff),
        );
        let sectors = match bytes.get(0x1f1) {
            Some(0) | None => 4,
            Some(&count) => u64::from(count),
        };
        let system = u64::from(word(bytes, 0x1f4).unwrap_or(0)) * 16;
        let needed = (sectors + 1) * 512 + system;
        if needed > bytes.len() as u64 + 15 {
            cell.fault(
                place,
                0x1f4,
                format!(
                    "the kernel has {needed} bytes, of which {} are there",
                    bytes.len()
                ),
            );
        }
    } else if bytes.get(56..60) == Some(b"ARM\x64") {
        part.fact("machine", "aarch64");
    } else if bytes.get(56..60) == Some(b"RSC\x05") {
        part.fact("machine", "riscv64");
    }
    if let Some(version) = version(bytes) {
        part.fact("version", version);
    }
}

/// The version that a kernel says of itself.
pub fn version(bytes: &[u8]) -> Option<String> {
    let text = |at: usize| {
        let text: Vec<u8> = bytes
            .get(at..)?
            .iter()
            .copied()
            .take_while(|byte| (0x21..0x7f).contains(byte))
            .take(128)
            .collect();
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    };
    if bytes.get(0x202..0x206) == Some(b"HdrS") {
        return text(usize::from(half(bytes, 0x20e)?) + 0x200);
    }
    const BANNER: &[u8] = b"Linux version ";
    let at = bytes.windows(BANNER.len()).position(|window| window == BANNER)?;
    text(at + BANNER.len())
}

/// What the boot menus of a file system offer.
pub fn entries(listing: &Listing) -> Vec<BootEntry> {
    let mut found = Vec::new();
    for (path, bytes) in &listing.kept {
        let text = String::from_utf8_lossy(bytes);
        if path.ends_with(".cfg") && !path.ends_with("linux.cfg") {
            grub(path, &text, &mut found);
        } else if path.ends_with("linux.conf") || path.ends_with("linux.cfg") {
            extlinux(path, &text, &mut found);
        } else if path.contains("loader/entries/") {
            loader(path, &text, &mut found);
        } else if path.ends_with(".ipxe") {
            ipxe(path, &text, &mut found);
        } else if let Some((folder, "config.txt")) = sink::raspberry_pi(path) {
            raspberry_pi(path, folder, listing, &mut found);
        }
        found.truncate(1000);
    }
    found
}

/// The first word, without quotes, and the rest of a line.
fn split(line: &str) -> (String, String) {
    let line = line.trim();
    for quote in ['"', '\''] {
        if let Some(rest) = line.strip_prefix(quote)
            && let Some((word, rest)) = rest.split_once(quote)
        {
            return (word.to_owned(), rest.trim().to_owned());
        }
    }
    match line.split_once(char::is_whitespace) {
        Some((word, rest)) => (word.to_owned(), rest.trim().to_owned()),
        None => (line.to_owned(), String::new()),
    }
}

fn grub(path: &str, text: &str, found: &mut Vec<BootEntry>) {
    let mut title = String::new();
    let mut entry: Option<BootEntry> = None;
    for line in text.lines() {
        let (command, rest) = split(line);
        match command.as_str() {
            "menuentry" => title = split(&rest).0,
            "linux" | "linux16" | "linuxefi" => {
                found.extend(entry.take());
                let (kernel, arguments) = split(&rest);
                entry = Some(BootEntry {
                    config: path.to_owned(),
                    title: title.clone(),
                    kernel,
                    arguments,
                    initrd: String::new(),
                });
            }
            "initrd" | "initrd16" | "initrdefi" => {
                if let Some(entry) = &mut entry {
                    entry.initrd = rest;
                }
            }
            _ => {}
        }
    }
    found.extend(entry);
}

fn extlinux(path: &str, text: &str, found: &mut Vec<BootEntry>) {
    let mut entry: Option<BootEntry> = None;
    for line in text.lines() {
        let (command, rest) = split(line);
        match (command.to_ascii_lowercase().as_str(), &mut entry) {
            ("label", _) => {
                found.extend(entry.take().filter(|entry| !entry.kernel.is_empty()));
                entry = Some(BootEntry {
                    config: path.to_owned(),
                    title: rest,
                    ..BootEntry::default()
                });
            }
            ("menu", Some(entry)) if rest.to_ascii_lowercase().starts_with("label ") => {
                entry.title = rest[6..].trim().to_owned();
            }
            ("kernel" | "linux", Some(entry)) => entry.kernel = rest,
            ("append", Some(entry)) => entry.arguments = rest,
            ("initrd", Some(entry)) => entry.initrd = rest,
            _ => {}
        }
    }
    found.extend(entry.filter(|entry| !entry.kernel.is_empty()));
}

fn loader(path: &str, text: &str, found: &mut Vec<BootEntry>) {
    let mut entry = BootEntry {
        config: path.to_owned(),
        ..BootEntry::default()
    };
    for line in text.lines() {
        let (key, value) = split(line);
        match key.as_str() {
            "title" => entry.title = value,
            "linux" => entry.kernel = value,
            "options" => entry.arguments = format!("{} {value}", entry.arguments).trim().to_owned(),
            "initrd" => entry.initrd = format!("{} {value}", entry.initrd).trim().to_owned(),
            _ => {}
        }
    }
    found.push(entry);
}

/// A script of iPXE (ipxe.org, commands `kernel`, `initrd`).
fn ipxe(path: &str, text: &str, found: &mut Vec<BootEntry>) {
    // Options stand before the file; those that take a value say so after a blank or `=`.
    fn file(words: &str) -> (String, String) {
        let (mut word, mut rest) = split(words);
        while word.starts_with('-') {
            let named = matches!(word.as_str(), "-n" | "--name" | "-t" | "--timeout");
            (word, rest) = split(&rest);
            if named {
                (word, rest) = split(&rest);
            }
        }
        (word, rest)
    }
    let mut title = String::new();
    let mut entry: Option<BootEntry> = None;
    for line in text.lines() {
        let (command, rest) = split(line);
        if let Some(label) = command.strip_prefix(':') {
            title = label.to_owned();
        }
        match command.as_str() {
            "kernel" => {
                found.extend(entry.take());
                let (kernel, arguments) = file(&rest);
                entry = Some(BootEntry {
                    config: path.to_owned(),
                    title: title.clone(),
                    kernel,
                    arguments,
                    initrd: String::new(),
                });
            }
            "initrd" | "module" => {
                if let Some(entry) = &mut entry {
                    entry.initrd = format!("{} {}", entry.initrd, file(&rest).0).trim().to_owned();
                }
            }
            _ => {}
        }
    }
    found.extend(entry);
}

/// What the firmware of a Raspberry Pi boots (raspberrypi.com, "config.txt"): what holds for every model.
fn raspberry_pi(path: &str, folder: &str, listing: &Listing, found: &mut Vec<BootEntry>) {
    let text = |name: &str| {
        let bytes = listing.kept.get(&format!("{folder}/{name}"));
        bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    };
    let mut lines: Vec<String> = Vec::new();
    for line in text("config.txt").unwrap_or_default().lines() {
        match line.trim().strip_prefix("include ") {
            // Of what it includes only the file of the kernel is read, which includes nothing itself.
            Some(name) => lines.extend(text(name.trim()).unwrap_or_default().lines().map(str::to_owned)),
            None => lines.push(line.to_owned()),
        }
    }
    let mut entry = BootEntry {
        config: path.to_owned(),
        title: "Raspberry Pi".to_owned(),
        ..BootEntry::default()
    };
    let mut arguments = "cmdline.txt".to_owned();
    let mut wide = false;
    let mut every = true;
    for line in &lines {
        let line = line.trim();
        if line.starts_with('[') {
            every = line == "[all]";
        }
        let Some((key, value)) = line.split_once(['=', ' ']).filter(|_| every) else {
            continue;
        };
        match (key.trim(), value.trim()) {
            ("kernel", name) => entry.kernel = name.to_owned(),
            ("cmdline", name) => arguments = name.to_owned(),
            ("arm_64bit", value) => wide = value == "1",
            // Its address, or `followkernel`, comes behind the name.
            ("initramfs", value) => entry.initrd = split(value).0,
            _ => {}
        }
    }
    if entry.kernel.is_empty() {
        entry.kernel = if wide { "kernel8.img" } else { "kernel.img" }.to_owned();
    }
    entry.arguments = text(&arguments)
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or_default()
        .trim()
        .to_owned();
    found.push(entry);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn menus_of_each_kind_are_read() {
        let mut listing = Listing::default();
        for (path, text) in [
            (
                "/boot/grub/grub.cfg",
                "set timeout=5\nmenuentry \"Lycia live\" --id live {\n  linux /live/vmlinuz boot=live quiet\n  initrd \
                 /live/initrd /live/more\n}\nmenuentry 'Second' {\n\tlinux /vmlinuz\n}\n",
            ),
            (
                "/boot/extlinux/extlinux.conf",
                "DEFAULT a\nLABEL a\n  MENU LABEL The first\n  LINUX /boot/vmlinuz\n  APPEND root=/dev/sda1\n  INITRD \
                 /boot/initrd\nLABEL b\n",
            ),
            (
                "/loader/entries/x.conf",
                "title X\nlinux /x/linux\noptions a=1\noptions b\n",
            ),
            (
                "/boot.ipxe",
                "#!ipxe\nkernel --name k vmlinuz initrd=initrd boot=live quiet\ninitrd initrd\ninitrd -n r root.cpio\nboot\n",
            ),
            (
                "/config.txt",
                "[pi4]\nkernel=other\n[all]\ninclude kernel.txt\narm_64bit=1\n",
            ),
            (
                "/kernel.txt",
                "kernel=vmlinuz-1\ninitramfs initramfs-1.img followkernel\n",
            ),
            ("/cmdline.txt", "root=UUID=x ro quiet\n"),
            ("/boot/config.txt", "arm_64bit=1\ncmdline=words.txt\n"),
        ] {
            listing.kept.insert(path.to_owned(), text.as_bytes().to_vec());
        }
        let found: Vec<String> = entries(&listing)
            .into_iter()
            .map(|one| format!("{}|{}|{}|{}", one.title, one.kernel, one.arguments, one.initrd))
            .collect();
        assert_eq!(
            found,
            [
                "|vmlinuz|initrd=initrd boot=live quiet|initrd root.cpio",
                "Raspberry Pi|kernel8.img||",
                "The first|/boot/vmlinuz|root=/dev/sda1|/boot/initrd",
                "Lycia live|/live/vmlinuz|boot=live quiet|/live/initrd /live/more",
                "Second|/vmlinuz||",
                "Raspberry Pi|vmlinuz-1|root=UUID=x ro quiet|initramfs-1.img",
                "X|/x/linux|a=1 b|"
            ]
        );
    }
}
