//! What the running system does for a rescue: it mounts and runs programs.

use std::ffi::CString;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount,
};
use rustix::thread::UnshareFlags;

/// The number that the topmost directory of every subvolume of Btrfs has, and no other directory of a root.
const SUBVOLUME_INODE: u64 = 256;

/// Mounts and programs.
pub trait Host {
    /// Mounts `node` on `target`; `data` is what the file system is told.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn mount(
        &mut self,
        node: &str,
        target: &Path,
        kind: &str,
        flags: MountFlags,
        data: &str,
    ) -> io::Result<()>;

    /// Shows a directory at another place, too.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn bind(&mut self, from: &Path, to: &Path) -> io::Result<()>;

    /// Unmounts what is mounted on `target`.
    ///
    /// # Errors
    /// When nothing is, or it is in use.
    fn unmount(&mut self, target: &Path) -> io::Result<()>;

    /// The text of `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn mountinfo(&self) -> io::Result<String>;

    /// Names of the subvolumes right below the mounted top of a Btrfs.
    ///
    /// # Errors
    /// When the top cannot be read.
    fn subvolumes(&self, top: &Path) -> io::Result<Vec<String>>;

    /// Runs a program that is asked nothing; its exit code, none where a signal ended it.
    ///
    /// # Errors
    /// When it cannot be run; of the kind `NotFound` where it is not there.
    fn run(&mut self, program: &str, arguments: &[&str]) -> io::Result<Option<i32>>;
}

/// The kernel that runs and the programs of its root.
#[derive(Debug, Default, Clone, Copy)]
pub struct Kernel;

impl Host for Kernel {
    fn mount(
        &mut self,
        node: &str,
        target: &Path,
        kind: &str,
        flags: MountFlags,
        data: &str,
    ) -> io::Result<()> {
        let text = CString::new(data)?;
        let again = || mount(node, target, kind, flags, text.as_c_str());
        match again() {
            // A kernel that is not told where modprobe is loads nothing by itself.
            Err(Errno::NODEV) => {
                let _ = self.run("modprobe", &["-q", kind]);
                again().map_err(|error| match error {
                    Errno::NODEV => io::Error::new(
                        io::ErrorKind::Unsupported,
                        format!("the kernel that runs here has no {kind}: start a medium that has it"),
                    ),
                    other => other.into(),
                })
            }
            other => Ok(other?),
        }
    }

    fn bind(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(mount_bind(from, to)?)
    }

    fn unmount(&mut self, target: &Path) -> io::Result<()> {
        Ok(unmount(target, UnmountFlags::empty())?)
    }

    fn mountinfo(&self) -> io::Result<String> {
        std::fs::read_to_string("/proc/self/mountinfo")
    }

    fn subvolumes(&self, top: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(top)? {
            let entry = entry?;
            let about = entry.metadata()?;
            if let (true, SUBVOLUME_INODE, Ok(name)) =
                (about.is_dir(), about.ino(), entry.file_name().into_string())
            {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn run(&mut self, program: &str, arguments: &[&str]) -> io::Result<Option<i32>> {
        let status = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .status()?;
        Ok(status.code())
    }
}

/// Does something where nobody else sees what it mounts, and where what it leaves mounted goes when it is done.
///
/// # Errors
/// When the kernel makes no mount namespace: only root may have one.
pub fn privately<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let apart = || -> io::Result<T> {
        // SAFETY: only FILES among the flags can make a thread see descriptors that another has closed; NEWNS touches no descriptor.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
        mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        Ok(work())
    };
    // A thread of its own: this one keeps the mounts that everybody sees.
    std::thread::scope(|scope| match scope.spawn(apart).join() {
        Ok(done) => done,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// The mount points of mountinfo(5) at and below a directory with what is mounted there, as they were mounted.
pub(super) fn below(mountinfo: &str, directory: &Path) -> Vec<(PathBuf, String)> {
    let line = |line: &str| {
        let (first, second) = line.split_once(" - ")?;
        let place = crate::usage::unescaped(first.split(' ').nth(4)?);
        let source = crate::usage::unescaped(second.split(' ').nth(1)?);
        Some((PathBuf::from(place), source))
    };
    mountinfo
        .lines()
        .filter_map(line)
        .filter(|(place, _)| place.starts_with(directory))
        .collect()
}
