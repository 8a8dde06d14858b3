//! What a kernel module says of itself: its `.modinfo`, the symbols it exports and those it needs.

use std::io::Read as _;

use object::read::elf::{ElfFile32, ElfFile64, FileHeader};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

use super::index::KEY_MAX;

/// Largest module, in bytes when unpacked.
const SIZE_MAX: u64 = 256 << 20;

/// A module.
#[derive(Clone, Debug)]
pub struct Module {
    /// Path below the kernel's folder.
    pub path: String,
    /// Name with `_`.
    pub name: String,
    /// Patterns of what it serves.
    pub aliases: Vec<String>,
    /// Soft dependencies as they are written: `pre: a b post: c`.
    pub soft: Vec<String>,
    /// Weak dependencies as they are written: `a b`.
    pub weak: Vec<String>,
    /// Symbols for others, in the order of its table.
    pub exports: Vec<String>,
    /// Symbols that it needs, weak ones too, in the order of its table.
    pub imports: Vec<String>,
}

/// The name of the module in the file `path`; none of a file that is no module. As kmod has it: up to the
/// first dot, with `_` for `-`.
pub fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let ends = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"];
    let stem = file.split('.').next().filter(|stem| !stem.is_empty())?;
    ends.iter()
        .any(|end| file.ends_with(end))
        .then(|| stem.replace('-', "_"))
}

impl Module {
    /// Reads the module in `bytes`, compressed or not.
    pub fn read(path: &str, bytes: &[u8]) -> Result<Module, String> {
        let unpacked;
        let bytes = match path.rsplit('.').next() {
            Some("gz") => {
                unpacked = unpack(flate2::read::GzDecoder::new(bytes))?;
                unpacked.as_slice()
            }
            Some("xz") => {
                unpacked = unpack(liblzma::read::XzDecoder::new(bytes))?;
                unpacked.as_slice()
            }
            Some("zst") => {
                unpacked =
                    unpack(zstd::stream::read::Decoder::new(bytes).map_err(|error| error.to_string())?)?;
                unpacked.as_slice()
            }
            _ => bytes,
        };
        let mut module = Module {
            path: path.to_owned(),
            name: name(path).ok_or("is no module's name")?,
            aliases: Vec::new(),
            soft: Vec::new(),
            weak: Vec::new(),
            exports: Vec::new(),
            imports: Vec::new(),
        };
        match object::FileKind::parse(bytes) {
            Ok(object::FileKind::Elf64) => {
                module.fill(
                    &ElfFile64::<object::Endianness>::parse(bytes).map_err(|error| error.to_string())?,
                )?;
            }
            Ok(object::FileKind::Elf32) => {
                module.fill(
                    &ElfFile32::<object::Endianness>::parse(bytes).map_err(|error| error.to_string())?,
                )?;
            }
            _ => return Err("is not ELF".to_owned()),
        }
        Ok(module)
    }

    fn fill<E: FileHeader>(&mut self, file: &object::read::elf::ElfFile<'_, E>) -> Result<(), String> {
        let section = |name: &str| -> Result<&[u8], String> {
            match file.section_by_name(name) {
                None => Ok(&[]),
                Some(section) => section.data().map_err(|error| format!("section {name}: {error}")),
            }
        };
        for field in section(".modinfo")?.split(|&byte| byte == 0) {
            let Ok(field) = std::str::from_utf8(field) else {
                continue;
            };
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            let list = match key {
                "alias" => &mut self.aliases,
                "softdep" => &mut self.soft,
                "weakdep" => &mut self.weak,
                _ => continue,
            };
            // It is to stand on a line of a text.
            if value.len() > KEY_MAX || value.contains(char::is_control) {
                return Err(format!("its {key} `{}` cannot be listed", shown(value)));
            }
            list.push(value.to_owned());
        }
        let mut checked = Vec::new();
        for symbol in file.symbols() {
            let Ok(name) = symbol.name() else { continue };
            if name.len() > KEY_MAX || name.contains(|letter: char| letter.is_control() || letter == ' ') {
                return Err(format!("its symbol `{}` cannot be listed", shown(name)));
            }
            if let Some(export) = name.strip_prefix("__crc_") {
                checked.push(export.to_owned());
            }
            if symbol.is_undefined() && !name.is_empty() {
                self.imports.push(name.to_owned());
            }
        }
        self.exports = checked;
        if self.exports.is_empty() {
            // A kernel without symbol versions.
            for name in section("__ksymtab_strings")?.split(|&byte| byte == 0) {
                if let Ok(name) = std::str::from_utf8(name)
                    && !name.is_empty()
                    && name.len() <= KEY_MAX
                    && name.bytes().all(|byte| byte.is_ascii_graphic())
                {
                    self.exports.push(name.to_owned());
                }
            }
        }
        Ok(())
    }

    /// Names in the soft dependencies.
    pub fn soft_names(&self) -> impl Iterator<Item = &str> {
        self.soft
            .iter()
            .flat_map(|soft| soft.split_ascii_whitespace())
            .filter(|word| !word.ends_with(':'))
    }
}

/// The start of a text, for messages.
fn shown(text: &str) -> String {
    text.chars().take(60).flat_map(char::escape_debug).collect()
}

fn unpack(from: impl std::io::Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    from.take(SIZE_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot be unpacked: {error}"))?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err("unpacks to more than 256 MiB".to_owned());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_modules() {
        assert_eq!(name("kernel/fs/nls/nls_cp437.ko").as_deref(), Some("nls_cp437"));
        assert_eq!(name("kernel/usb-storage.ko.xz").as_deref(), Some("usb_storage"));
        assert_eq!(name("kernel/a.b-c.ko.zst").as_deref(), Some("a"));
        for other in ["modules.order", ".ko", "a.ko.bz2", "ko", ""] {
            assert_eq!(name(other), None, "{other}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_answered(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..300)) {
            let _ = Module::read("a.ko", &bytes);
            let _ = Module::read("a.ko.xz", &bytes);
            let mut elf = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0\x01\0\0\0".to_vec();
            elf.extend(&bytes);
            let _ = Module::read("a.ko", &elf);
        }
    }
}
