//! From the initramfs to the new root: switch, free the memory, start init.

use crate::Failure;
use crate::log::Log;
use crate::plan::NEW_ROOT;
use crate::request::Step;
use crate::rootdir::RootDir;
use crate::superblock::{u16_at, u32_at, u64_at};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;

/// Bytes of a program that are looked at for its interpreter.
const HEAD: u64 = 4096;
/// Deepest directory of the initramfs that is removed.
const DEPTH: usize = 64;
const RAMFS_MAGIC: i64 = 0x8584_58f6;
const TMPFS_MAGIC: i64 = 0x0102_1994;

/// The interpreter a program needs: of a script (`#!`) or of a dynamic ELF file (`PT_INTERP`), as far as
/// `head`, the start of the file, tells.
#[must_use]
pub fn interpreter(head: &[u8]) -> Option<String> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next()?;
        return String::from_utf8_lossy(line)
            .split_whitespace()
            .next()
            .map(str::to_owned);
    }
    // Big-endian files are not looked into; the kernel reports what is wrong with them.
    if !head.starts_with(b"\x7fELF") || head.get(5) != Some(&1) {
        return None;
    }
    let wide = head.get(4) == Some(&2);
    let (start, size, count) = if wide {
        (
            usize::try_from(u64_at(head, 32)?).ok()?,
            u16_at(head, 54)?,
            u16_at(head, 56)?,
        )
    } else {
        (u32_at(head, 28)? as usize, u16_at(head, 42)?, u16_at(head, 44)?)
    };
    for index in 0..usize::from(count) {
        let entry = head.get(start.checked_add(index * usize::from(size))?..)?;
        if u32_at(entry, 0)? == 3 {
            let (offset, length) = if wide {
                (
                    usize::try_from(u64_at(entry, 8)?).ok()?,
                    usize::try_from(u64_at(entry, 32)?).ok()?,
                )
            } else {
                (u32_at(entry, 4)? as usize, u32_at(entry, 16)? as usize)
            };
            let name = head.get(offset..offset.checked_add(length)?)?;
            return Some(String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
        }
    }
    None
}

/// The first of `candidates` that the root can run, following interpreters.
///
/// # Errors
/// Says what is wrong with each.
pub fn choose_init(root: &RootDir, candidates: &[String]) -> Result<String, Failure> {
    let mut problems = Vec::new();
    for candidate in candidates {
        let mut program = candidate.clone();
        let mut problem = None;
        // A script's interpreter may need another one: the dynamic linker.
        for _ in 0..4 {
            if !root.is_program(&program) {
                problem = Some(if program == *candidate {
                    "not there, or not executable".to_owned()
                } else {
                    format!("needs {program}, which is not there")
                });
                break;
            }
            match interpreter(&root.read_head(&program, HEAD).unwrap_or_default()) {
                Some(next) => program = next,
                None => break,
            }
        }
        match problem {
            None => return Ok(candidate.clone()),
            Some(problem) => problems.push(format!("{candidate}: {problem}")),
        }
    }
    Err(Failure::new(
        Step::Handover,
        "looking for init in the new root",
        problems.join("; "),
        "this root holds no bootable system, or boot with init=PATH",
    ))
}

fn failed(what: impl Into<String>) -> impl FnOnce(rustix::io::Errno) -> Failure {
    let what = what.into();
    move |error| {
        Failure::new(
            Step::Handover,
            what,
            error,
            "this is a fault of the kernel or of lycia-init; please report it",
        )
    }
}

/// Moves the mounts, makes the new root `/`, frees the initramfs and starts init. Returns only on failure.
///
/// # Errors
/// Whatever stood in the way. After the initramfs is freed only starting init can fail.
pub fn hand_over(candidates: &[String], arguments: &[OsString], log: &Log) -> Failure {
    match prepare(candidates, log) {
        Err(failure) => failure,
        Ok(init) => {
            let error = std::process::Command::new(&init).args(arguments).exec();
            Failure::new(
                Step::Handover,
                format!("starting {init}"),
                error,
                "the new root is damaged; check the medium with `verify`",
            )
        }
    }
}

fn prepare(candidates: &[String], log: &Log) -> Result<String, Failure> {
    let root = RootDir::open(Path::new(NEW_ROOT)).map_err(|error| {
        Failure::new(
            Step::Handover,
            format!("opening {NEW_ROOT}"),
            error,
            "the root was not mounted",
        )
    })?;
    let init = choose_init(&root, candidates)?;
    for name in ["dev", "proc", "sys", "run"] {
        let target = format!("{NEW_ROOT}/{name}");
        if !root.is_dir(name)
            && let Err(error) = fs::create_dir(&target)
        {
            return Err(Failure::new(
                Step::Handover,
                format!("making /{name} in the new root"),
                error,
                format!("the new root needs an empty directory /{name}"),
            ));
        }
    }
    let old = rustix::fs::open(
        "/",
        OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(failed("opening the initramfs"))?;
    log.info(format_args!("starting {init} in the new root"));
    log.restore();
    for name in ["dev", "proc", "sys", "run"] {
        let (from, to) = (format!("/{name}"), format!("{NEW_ROOT}/{name}"));
        rustix::mount::mount_move(&from, &to).map_err(failed(format!("moving the mount {from} to {to}")))?;
    }
    rustix::process::chdir(NEW_ROOT).map_err(failed("changing to the new root"))?;
    // From here the initramfs is only reachable through `old`; its mounts are the new root and nothing else.
    free(old, log);
    rustix::mount::mount_move(".", "/").map_err(failed("moving the new root to /"))?;
    rustix::process::chroot(".").map_err(failed("changing root"))?;
    rustix::process::chdir("/").map_err(failed("changing to /"))?;
    Ok(init)
}

/// Removes the files of the initramfs, which are memory. Never leaves its file system, and does nothing if
/// that is not one in memory.
fn free(old: OwnedFd, log: &Log) {
    let in_memory = rustix::fs::fstatfs(&old).is_ok_and(|stat| {
        #[allow(clippy::unnecessary_cast, clippy::cast_lossless)] // the field's type differs between targets
        let magic = stat.f_type as i64 & 0xffff_ffff;
        magic == RAMFS_MAGIC || magic == TMPFS_MAGIC
    });
    let device = rustix::fs::fstat(&old).map(|stat| stat.st_dev);
    match device {
        Ok(device) if in_memory => {
            if let Err(error) = remove_below(old.as_fd(), device, DEPTH) {
                log.debug(format_args!("freeing the initramfs: {error}"));
            }
        }
        _ => log.warn("the initramfs is not in memory; its files stay"),
    }
}

/// Removes everything in `directory` that is on `device`. Goes on after an error and returns the last.
fn remove_below(directory: impl AsFd, device: u64, depth: usize) -> io::Result<()> {
    let mut result = Ok(());
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(&directory)? {
        let entry = entry?;
        if entry.file_name() != c"." && entry.file_name() != c".." {
            names.push(entry.file_name().to_owned());
        }
    }
    for name in names {
        let removed = (|| {
            let stat = rustix::fs::statat(&directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            if stat.st_dev != device {
                return Ok(());
            }
            if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                return Ok(rustix::fs::unlinkat(&directory, &name, AtFlags::empty())?);
            }
            if depth > 0 {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let inner = rustix::fs::openat(&directory, &name, flags, Mode::empty())?;
                remove_below(&inner, device, depth - 1)?;
            }
            Ok(rustix::fs::unlinkat(&directory, &name, AtFlags::REMOVEDIR)?)
        })();
        if removed.is_err() {
            result = removed;
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rootdir::tests::own;
    use proptest::prelude::*;

    #[test]
    fn interpreters_are_found() {
        assert_eq!(interpreter(b"#! /bin/sh -e\nexit"), Some("/bin/sh".into()));
        assert_eq!(interpreter(b"plain"), None);
        // The test program itself is a dynamic ELF file on every host that runs the tests; `file` may not be
        // there, but the interpreter must exist.
        let own = fs::read(std::env::current_exe().unwrap()).unwrap();
        if let Some(found) = interpreter(&own[..4096.min(own.len())]) {
            assert!(Path::new(&found).exists(), "{found}");
        }
    }

    #[test]
    fn init_must_be_able_to_run() {
        let dir = tempfile::tempdir().unwrap();
        let root = RootDir::open(dir.path()).unwrap();
        root.make_dirs("/usr/bin", own(0o755)).unwrap();
        let names = ["/usr/bin/init".to_owned(), "/sbin/init".to_owned()];
        let failure = choose_init(&root, &names).unwrap_err();
        assert_eq!(
            failure.why,
            "/usr/bin/init: not there, or not executable; /sbin/init: not there, or not executable"
        );
        root.write("/usr/bin/init", b"#!/bin/sh\n", own(0o755)).unwrap();
        assert!(
            choose_init(&root, &names)
                .unwrap_err()
                .why
                .contains("needs /bin/sh, which is not there")
        );
        root.link("/bin", "/usr/bin", own(0)).unwrap();
        root.write("/usr/bin/sh", b"static", own(0o755)).unwrap();
        assert_eq!(choose_init(&root, &names).unwrap(), "/usr/bin/init");
    }

    #[test]
    fn removal_stays_on_its_device_and_follows_no_link() {
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("kept"), "").unwrap();
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b/c")).unwrap();
        fs::write(dir.path().join("a/b/f"), "").unwrap();
        std::os::unix::fs::symlink(outside.path(), dir.path().join("a/out")).unwrap();
        let fd = rustix::fs::open(dir.path(), OFlags::RDONLY | OFlags::DIRECTORY, Mode::empty()).unwrap();
        let device = rustix::fs::fstat(&fd).unwrap().st_dev;
        remove_below(&fd, device + 1, DEPTH).unwrap();
        assert!(dir.path().join("a/b/f").exists());
        remove_below(&fd, device, DEPTH).unwrap();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(outside.path().join("kept").exists());
    }

    proptest! {
        #[test]
        fn any_program_has_an_interpreter_or_none(mut head in proptest::collection::vec(any::<u8>(), 0..300), elf in any::<bool>(), class in 0u8..4) {
            if elf && head.len() > 8 {
                head[..4].copy_from_slice(b"\x7fELF");
                head[4] = class;
                head[5] = 1;
            }
            let _ = interpreter(&head);
        }
    }
}
