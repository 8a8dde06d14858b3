//! Carries out the plan of [`crate::plan`].

use crate::Failure;
use crate::digest::{Sha256, hex};
use crate::find::mount;
use crate::kmod::Loader;
use crate::log::Log;
use crate::loopdev;
use crate::offered::Offered;
use crate::plan::{
    Action, IMAGE, KEPT, MEDIUM, OVERLAY, available_memory, expected_sum, fits_in_ram, listed_sums,
};
use crate::request::Step;
use crate::verity;
use rustix::mount::{MountFlags, UnmountFlags};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

const CHUNK: usize = 1 << 20;
/// Most bytes of a list of checksums that are read.
const LIST_MAX: u64 = 4 << 20;

/// Does one action.
///
/// # Errors
/// Says what failed, why, and what to try.
pub fn perform(action: &Action, loader: &mut Loader<'_>, log: &Log) -> Result<(), Failure> {
    match action {
        Action::Verify { file } => verify(file, log),
        Action::VerifyFiles { list, except } => verify_files(list, except, log),
        Action::OpenVerity { file, verity } => verity::open(file, verity, loader, log),
        Action::ReadThrough { file } => {
            verity::read_through(file, log).map(|()| log.say("the image is intact"))
        }
        Action::MountVerity { file, target, kind } => mount_verity(file, target, kind, loader),
        Action::Copy { from, to, verify } => copy(from, to, *verify, log),
        Action::MountTmpfs { target, size } => {
            let options = format!("mode=0755,size={size}");
            mount(
                "lycia",
                target,
                "tmpfs",
                MountFlags::NODEV | MountFlags::NOSUID,
                &options,
            )
            .map_err(|error| {
                Failure::new(
                    Step::Assemble,
                    format!("mounting a tmpfs of {size} on {target}"),
                    error,
                    "boot with another overlay-size=, or with more memory",
                )
            })
        }
        Action::Keep => {
            if let Err(why) = keep(log) {
                log.warn(format_args!(
                    "nothing can be installed from memory ({why}); `lycia-install --medium DIR` takes it from the mounted medium"
                ));
                let _ = rustix::mount::unmount(KEPT, UnmountFlags::NOFOLLOW);
            }
            Ok(())
        }
        Action::PutKept => {
            if Path::new(KEPT).join("live").is_dir()
                && let Err(error) = rustix::mount::mount_bind(KEPT, MEDIUM)
            {
                log.warn(format_args!("binding {KEPT} to {MEDIUM}: {error}"));
            }
            Ok(())
        }
        Action::Release { target } => {
            if let Err(error) = rustix::mount::unmount(*target, UnmountFlags::NOFOLLOW) {
                log.warn(format_args!(
                    "unmounting {target}: {error}; the medium stays in use"
                ));
            }
            Ok(())
        }
        Action::MountFile { file, target, kind } => mount_file(file, target, kind, loader),
        Action::MakeLayers => make_layers().map_err(|error| {
            Failure::new(
                Step::Assemble,
                format!("making the layers in {OVERLAY}"),
                error,
                "boot with more memory",
            )
        }),
        Action::MountOverlay { target } => {
            loader.file_system("overlay");
            let options = format!("lowerdir={IMAGE},upperdir={OVERLAY}/rw,workdir={OVERLAY}/work");
            mount("lycia", target, "overlay", MountFlags::empty(), &options).map_err(|error| {
                Failure::new(
                    Step::Assemble,
                    format!("mounting the overlay on {target}"),
                    error,
                    "the kernel needs overlayfs (module `overlay` in the initramfs)",
                )
            })
        }
    }
}

/// Copies what can be installed, where there is something and memory for it.
fn keep(log: &Log) -> Result<(), String> {
    let words = |error: io::Error| error.to_string();
    let medium = Path::new(MEDIUM);
    let offered = Offered::of(medium).map_err(words)?;
    if offered.is_empty() {
        return Ok(());
    }
    let size = offered.size();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if let Some(available) = available_memory(&meminfo) {
        fits_in_ram(size, available)?;
    }
    log.say(format_args!(
        "copying what can be installed, {} MiB",
        size.div_ceil(1 << 20)
    ));
    let flags = MountFlags::NODEV | MountFlags::NOSUID;
    mount("lycia", KEPT, "tmpfs", flags, &format!("mode=0755,size={size}")).map_err(words)?;
    offered.copy(medium, Path::new(KEPT)).map_err(words)
}

fn mount_file(file: &str, target: &str, kind: &str, loader: &mut Loader<'_>) -> Result<(), Failure> {
    loader.file_system("loop");
    loader.file_system(kind);
    let attached = loopdev::attach(Path::new(file)).map_err(|error| {
        Failure::new(
            Step::Assemble,
            format!("attaching {file} to a loop device"),
            error,
            "the kernel needs loop devices (module `loop` in the initramfs)",
        )
    })?;
    mount(&attached.node, target, kind, MountFlags::RDONLY, "").map_err(|error| {
        let hint = match error.raw_os_error() {
            Some(libc::ENODEV) => "the kernel cannot mount this type (its module is not in the initramfs)",
            _ => "the image may be damaged, or compressed in a way this kernel does not know: boot with `verify`",
        };
        Failure::new(Step::Assemble, format!("mounting {file} as {kind}"), error, hint)
    })
}

fn mount_verity(file: &str, target: &str, kind: &str, loader: &mut Loader<'_>) -> Result<(), Failure> {
    loader.file_system(kind);
    mount(verity::NODE, target, kind, MountFlags::RDONLY, "").map_err(|error| {
        let (why, hint) = if verity::has_seen_damage() {
            (
                format!("dm-verity found a block that is not what was written to the medium ({error})"),
                "the medium is damaged, or another root hash belongs to it: boot with `verify` to have the block named, write the \
                 medium again, or try another drive or port",
            )
        } else {
            (
                error.to_string(),
                "the kernel cannot mount this type (its module is not in the initramfs), or the image is compressed in a way it \
                 does not know",
            )
        };
        Failure::new(Step::Assemble, format!("mounting {file} as {kind}"), why, hint)
    })
}

fn make_layers() -> io::Result<()> {
    // The root directory of an overlay has owner and mode of its upper layer.
    let below = fs::metadata(IMAGE)?;
    let upper = format!("{OVERLAY}/rw");
    for directory in [upper.as_str(), &format!("{OVERLAY}/work")] {
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    chown(&upper, Some(below.uid()), Some(below.gid()))?;
    fs::set_permissions(&upper, fs::Permissions::from_mode(below.mode() & 0o7777))
}

/// Shows how far a long work is, each tenth.
pub(crate) struct Progress<'a> {
    log: &'a Log,
    doing: &'static str,
    total: u64,
    done: u64,
    shown: u64,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(log: &'a Log, doing: &'static str, total: u64) -> Self {
        log.say(format_args!("{doing} {} MiB", total.div_ceil(1 << 20)));
        Self {
            log,
            doing,
            total,
            done: 0,
            shown: 0,
        }
    }

    pub(crate) fn add(&mut self, bytes: usize) {
        self.done += bytes as u64;
        let tenth = self.done * 10 / self.total.max(1);
        if tenth > self.shown {
            self.shown = tenth;
            self.log
                .say(format_args!("  {} {:3}%", self.doing, (tenth * 10).min(100)));
        }
    }
}

/// The sum that belongs to `file`, from the file beside it.
fn wanted_sum(file: &str) -> Result<String, Failure> {
    let beside = format!("{file}.sha256");
    let name = file.rsplit('/').next().unwrap_or(file);
    let failed = |why: String| {
        Failure::new(
            Step::Verify,
            format!("reading the checksum {beside}"),
            why,
            "the medium was made without a checksum or is damaged; boot without `verify` to use it unchecked",
        )
    };
    let mut text = String::new();
    File::open(&beside)
        .and_then(|file| file.take(65_536).read_to_string(&mut text))
        .map_err(|error| failed(error.to_string()))?;
    expected_sum(&text, name).ok_or_else(|| failed(format!("no SHA-256 of {name} in it")))
}

fn compare(file: &str, wanted: &str, got: &str, log: &Log) -> Result<(), Failure> {
    if wanted == got {
        log.info(format_args!("{file}: SHA-256 is right"));
        log.say("the image is intact");
        return Ok(());
    }
    Err(Failure::new(
        Step::Verify,
        format!("checking {file}"),
        format!("its SHA-256 is {got}, but should be {wanted}"),
        "the medium is damaged: write it again, or try another drive or port",
    ))
}

pub(crate) fn read_error(step: Step, file: &str, error: &io::Error) -> Failure {
    Failure::new(
        step,
        format!("reading {file}"),
        error,
        "the medium is damaged or was pulled out: write it again, or try another port",
    )
}

fn each_chunk(
    step: Step,
    file: &str,
    progress: &mut Progress<'_>,
    mut use_chunk: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut source = File::open(file).map_err(|error| read_error(step, file, &error))?;
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = match source.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(read_error(step, file, &error)),
        };
        use_chunk(&chunk[..count])?;
        progress.add(count);
    }
}

fn verify(file: &str, log: &Log) -> Result<(), Failure> {
    let wanted = wanted_sum(file)?;
    let size = fs::metadata(file)
        .map_err(|error| read_error(Step::Verify, file, &error))?
        .len();
    let mut hash = Sha256::default();
    each_chunk(
        Step::Verify,
        file,
        &mut Progress::new(log, "checking", size),
        |chunk| {
            hash.update(chunk);
            Ok(())
        },
    )?;
    compare(file, &wanted, &hex(&hash.finish()), log)
}

/// Compares the medium's files with its list, and names those that differ.
fn verify_files(list: &str, except: &[String], log: &Log) -> Result<(), Failure> {
    let mut text = String::new();
    match File::open(list).and_then(|file| file.take(LIST_MAX).read_to_string(&mut text)) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            log.warn(format_args!(
                "the medium has no {list}: only the image is checked"
            ));
            return Ok(());
        }
        Err(error) => return Err(read_error(Step::Verify, list, &error)),
    }
    let mut wanted = listed_sums(&text);
    wanted.retain(|(path, _)| !except.contains(path));
    let size = |path: &String| fs::metadata(format!("{MEDIUM}/{path}")).map_or(0, |found| found.len());
    let total = wanted.iter().map(|(path, _)| size(path)).sum();
    let mut progress = Progress::new(log, "checking files:", total);
    let mut wrong = Vec::new();
    for (path, sum) in &wanted {
        let mut hash = Sha256::default();
        let read = each_chunk(
            Step::Verify,
            &format!("{MEDIUM}/{path}"),
            &mut progress,
            |chunk| {
                hash.update(chunk);
                Ok(())
            },
        );
        match read {
            Ok(()) if hex(&hash.finish()) == *sum => log.debug(format_args!("{path}: OK")),
            Ok(()) => wrong.push(path.clone()),
            Err(failure) => wrong.push(format!("{path} ({})", failure.why)),
        }
    }
    for path in &wrong {
        log.say(format_args!("{path}: FAILED"));
    }
    if wrong.is_empty() {
        log.say(format_args!("{} files of the medium: OK", wanted.len()));
        return Ok(());
    }
    let first: Vec<&str> = wrong.iter().take(4).map(String::as_str).collect();
    let more = wrong.len() - first.len();
    Err(Failure::new(
        Step::Verify,
        "checking the files of the medium",
        format!(
            "{} of {} are damaged: {}{}",
            wrong.len(),
            wanted.len(),
            first.join(", "),
            if more > 0 {
                format!(" and {more} more")
            } else {
                String::new()
            }
        ),
        "the medium is damaged: write it again, or try another drive or port",
    ))
}

fn copy(from: &str, to: &str, check: bool, log: &Log) -> Result<(), Failure> {
    let wanted = if check { Some(wanted_sum(from)?) } else { None };
    let size = fs::metadata(from)
        .map_err(|error| read_error(Step::Assemble, from, &error))?
        .len();
    let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let too_big = |why: String| {
        Failure::new(
            Step::Assemble,
            "copying the system to memory",
            why,
            "boot without `toram`, or with more memory",
        )
    };
    if let Some(available) = available_memory(&meminfo) {
        fits_in_ram(size, available).map_err(too_big)?;
    }
    let mut target = File::create(to).map_err(|error| too_big(format!("making {to}: {error}")))?;
    let mut hash = Sha256::default();
    each_chunk(
        Step::Assemble,
        from,
        &mut Progress::new(log, "copying", size),
        |chunk| {
            if wanted.is_some() {
                hash.update(chunk);
            }
            target
                .write_all(chunk)
                .map_err(|error| too_big(format!("writing {to}: {error}")))
        },
    )?;
    match wanted {
        Some(wanted) => compare(from, &wanted, &hex(&hash.finish()), log),
        None => Ok(()),
    }
}
