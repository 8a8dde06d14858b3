//! What an ELF file needs and offers (System V ABI, "Dynamic Section").

use object::Endianness;
use object::elf::{
    DT_NEEDED, DT_SONAME, DT_STRSZ, DT_STRTAB, DynamicTag, ET_DYN, ET_EXEC, FileHeader32, FileHeader64,
    PT_DYNAMIC, PT_INTERP, PT_LOAD,
};
use object::read::elf::{Dyn, FileHeader, ProgramHeader};

/// What the loader and the packager want to know of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Elf {
    /// `e_machine`.
    pub machine: u16,
    /// It can be run or loaded; relocatable objects and kernel modules cannot.
    pub loadable: bool,
    /// `DT_SONAME`.
    pub soname: Option<String>,
    /// `DT_NEEDED`, in order.
    pub needed: Vec<String>,
    /// `PT_INTERP`.
    pub interpreter: Option<String>,
}

/// Reads a file; `None` when it is no ELF. A damaged one is an error in words.
pub(crate) fn read(bytes: &[u8]) -> Result<Option<Elf>, String> {
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(None);
    }
    let read = match bytes.get(4) {
        Some(1) => facts::<FileHeader32<Endianness>>(bytes),
        Some(2) => facts::<FileHeader64<Endianness>>(bytes),
        _ => return Err("an ELF file of an unknown class".into()),
    };
    read.map(Some)
}

fn facts<H: FileHeader<Endian = Endianness>>(bytes: &[u8]) -> Result<Elf, String> {
    let damaged = |error: object::read::Error| format!("a damaged ELF file: {error}");
    let header = H::parse(bytes).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    let kind = header.e_type(endian);
    let mut elf = Elf {
        machine: header.e_machine(endian).0,
        loadable: kind == ET_DYN || kind == ET_EXEC,
        ..Elf::default()
    };
    let segments = header.program_headers(endian, bytes).map_err(damaged)?;
    let mut dynamic = None;
    for segment in segments {
        match segment.p_type(endian) {
            PT_INTERP => {
                let text = segment
                    .data(endian, bytes)
                    .map_err(|()| "an interpreter outside the file")?;
                let text = text.split(|b| *b == 0).next().unwrap_or_default();
                elf.interpreter = Some(String::from_utf8_lossy(text).into_owned());
            }
            PT_DYNAMIC => dynamic = segment.dynamic(endian, bytes).map_err(damaged)?,
            _ => {}
        }
    }
    let Some(dynamic) = dynamic else { return Ok(elf) };
    let value = |tag: DynamicTag| {
        dynamic
            .iter()
            .find(|entry| entry.tag(endian) == tag)
            .map(|entry| entry.d_val(endian).into())
    };
    let (address, size): (u64, u64) = match (value(DT_STRTAB), value(DT_STRSZ)) {
        (Some(address), Some(size)) => (address, size),
        _ => return Ok(elf),
    };
    let strings = segments
        .iter()
        .filter(|segment| segment.p_type(endian) == PT_LOAD)
        .find_map(|segment| {
            let start: u64 = segment.p_vaddr(endian).into();
            let offset: u64 = segment.p_offset(endian).into();
            let length: u64 = segment.p_filesz(endian).into();
            let inside = address.checked_sub(start).filter(|at| *at < length)?;
            let from = usize::try_from(offset.checked_add(inside)?).ok()?;
            bytes.get(from..from.checked_add(usize::try_from(size).ok()?)?)
        })
        .ok_or("a dynamic string table outside the file")?;
    let string = |at: u64| -> Result<String, String> {
        let from = usize::try_from(at).ok().and_then(|at| strings.get(at..));
        let text = from
            .and_then(|s| s.split(|b| *b == 0).next())
            .ok_or("a string outside its table")?;
        String::from_utf8(text.to_vec()).map_err(|_| "a library name that is not UTF-8".into())
    };
    for entry in dynamic {
        match entry.tag(endian) {
            DT_NEEDED => elf.needed.push(string(entry.d_val(endian).into())?),
            DT_SONAME => elf.soname = Some(string(entry.d_val(endian).into())?),
            _ => {}
        }
    }
    Ok(elf)
}

/// `e_machine` of apk's architecture names; `None` where it is not known here and nothing is checked.
pub(crate) fn machine(arch: &str) -> Option<u16> {
    Some(match arch {
        "x86" => object::elf::EM_386.0,
        "x86_64" => object::elf::EM_X86_64.0,
        "aarch64" => object::elf::EM_AARCH64.0,
        "riscv64" => object::elf::EM_RISCV.0,
        "ppc64le" | "ppc64" => object::elf::EM_PPC64.0,
        "loongarch64" => object::elf::EM_LOONGARCH.0,
        _ => return None,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::path::Path;
    use std::process::Command;

    /// Builds a shared object or program with clang and lld, the compiler of the seed.
    pub(crate) fn compile(dir: &Path, name: &str, arguments: &[&str]) -> Vec<u8> {
        let source = dir.join("x.c");
        std::fs::write(
            &source,
            "int f(void) { return 3; }\nint _start(void) { return 0; }\n",
        )
        .unwrap();
        let out = dir.join(name);
        let output = Command::new("clang-19")
            .args(["-nostdlib", "-fuse-ld=lld", "-o"])
            .arg(&out)
            .arg(&source)
            .args(arguments)
            .current_dir(dir)
            .output()
            .expect("clang-19 is missing: install the Debian packages clang-19 and lld-19");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        std::fs::read(out).unwrap()
    }

    #[test]
    fn libraries_and_programs_tell_names() {
        let dir = tempfile::tempdir().unwrap();
        let library = compile(
            dir.path(),
            "libf.so",
            &["-shared", "-fPIC", "-Wl,-soname,libf.so.1"],
        );
        let elf = read(&library).unwrap().unwrap();
        assert_eq!(
            (elf.soname.as_deref(), elf.needed.len(), elf.loadable),
            (Some("libf.so.1"), 0, true)
        );
        let arguments = [
            "-L.",
            "-Wl,--no-as-needed",
            "-lf",
            "-Wl,--dynamic-linker=/lib/ld-x.so.1",
        ];
        let elf = read(&compile(dir.path(), "prog", &arguments)).unwrap().unwrap();
        assert_eq!(elf.needed, ["libf.so.1"]);
        assert_eq!(elf.interpreter.as_deref(), Some("/lib/ld-x.so.1"));
        assert_eq!(elf.soname, None);
        for target in ["aarch64-linux-musl", "i386-linux-musl", "powerpc64-linux-musl"] {
            let arguments = [&format!("--target={target}"), "-shared", "-fPIC", "-Wl,-soname,x"];
            let arguments: Vec<&str> = arguments.iter().map(|s| s.as_ref()).collect();
            let elf = read(&compile(dir.path(), "other.so", &arguments))
                .unwrap()
                .unwrap();
            assert_eq!(elf.soname.as_deref(), Some("x"), "{target}");
        }
    }

    #[test]
    fn an_object_file_is_not_loadable() {
        let dir = tempfile::tempdir().unwrap();
        let elf = read(&compile(dir.path(), "x.o", &["-c"])).unwrap().unwrap();
        assert!(!elf.loadable && elf.needed.is_empty());
    }

    #[test]
    fn damage_is_an_error_and_never_a_panic() {
        assert_eq!(read(b"#!/bin/sh").unwrap(), None);
        let dir = tempfile::tempdir().unwrap();
        let library = compile(
            dir.path(),
            "libf.so",
            &["-shared", "-fPIC", "-Wl,-soname,libf.so.1"],
        );
        let mut errors = 0;
        for length in 4..library.len().min(2000) {
            errors += usize::from(read(&library[..length]).is_err());
        }
        assert!(errors > 100);
        for at in 0..library.len().min(1500) {
            let mut bytes = library.clone();
            bytes[at] ^= 0xff;
            let _ = read(&bytes);
        }
    }
}
