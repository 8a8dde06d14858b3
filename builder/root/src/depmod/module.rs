//! What a kernel module says of itself: its `.modinfo`, the symbols it exports and those it needs.

use std::io::Read as _;

use object::read::elf::{ElfFile32, ElfFile64, FileHeader};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};

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
    /// Symbols for others, sorted.
    pub exports: Vec<String>,
    /// Symbols that it needs, in the order of its table.
    pub imports: Vec<String>,
}

/// The name of the module in the file `path`; none of a file that is no module.
pub fn name(path: &str) -> Option<String> {
    let file = path.rsplit('/').next()?;
    let stem = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"]
        .iter()
        .find_map(|end| file.strip_suffix(end))?;
    Some(stem.replace('-', "_"))
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
        if let Some(section) = file.section_by_name(".modinfo") {
            let data = section.data().map_err(|error| error.to_string())?;
            for field in data.split(|&byte| byte == 0) {
                let Ok(field) = std::str::from_utf8(field) else {
                    continue;
                };
                match field.split_once('=') {
                    Some(("alias", alias)) => self.aliases.push(alias.to_owned()),
                    Some(("softdep", soft)) => self.soft.push(soft.to_owned()),
                    _ => {}
                }
            }
        }
        for symbol in file.symbols() {
            let Ok(name) = symbol.name() else { continue };
            if let Some(export) = name.strip_prefix("__ksymtab_") {
                if symbol.is_definition() && !matches!(export, "strings" | "gpl") {
                    self.exports.push(export.to_owned());
                }
            } else if symbol.is_undefined() && !name.is_empty() && !symbol.is_weak() {
                self.imports.push(name.to_owned());
            }
        }
        self.exports.sort();
        self.exports.dedup();
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
        assert_eq!(name("modules.order"), None);
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
