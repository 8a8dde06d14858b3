//! The programs and the kernel's part in making a file system that this program does not write itself.
//!
//! A program gets a loop device that is exactly the range of the plan: the disk has no table yet that names the partition, and what a program does cannot
//! reach any other byte of the disk. The mount lies in a mount namespace of this process, so that nothing stays mounted when it is killed; the loop
//! device goes with its last user.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use lycia_init::device_mapper::DeviceMapper;
use lycia_init::loopdev::{self, LoopDevice, Range};
use lycia_init::unlock;
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags};
use rustix::thread::UnshareFlags;

use crate::device::{BlockDevice, Span};
use crate::encryption::Sealed;
use crate::file_system::Kind;

/// Lines of a program's output that a message ends with.
const LAST_LINES: usize = 8;
/// Where programs of the running system are.
const FOLDERS: [&str; 4] = ["usr/bin", "usr/sbin", "bin", "sbin"];
const LOOP_CONTROL: &str = "/dev/loop-control";

/// Why a tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// A program failed.
    #[error("`{command}` {how}{}", if .said.is_empty() { String::new() } else { format!(":\n{said}") })]
    Program {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        how: String,
        /// The last lines of what it said.
        said: String,
    },
    /// The kernel refused.
    #[error("{doing} {on}: {source}")]
    Kernel {
        /// What was being done.
        doing: &'static str,
        /// On what.
        on: String,
        /// Why not.
        source: io::Error,
    },
}

/// Makes file systems. One at a time: what [`Self::expose`] began ends with [`Self::release`].
///
/// `device` is the disk itself. The kernel reaches it without help; what stands for the kernel in tests does not.
pub trait Tools {
    /// Whether this system has what makes and mounts a file system, inside of an encrypted volume if so.
    ///
    /// # Errors
    /// Says what is missing.
    fn ready(&self, kind: Kind, encrypted: bool) -> Result<(), String>;

    /// Makes a range of the disk a block device of its own; its node.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn expose(&mut self, device: &mut dyn BlockDevice, span: Span) -> Result<String, ToolError>;

    /// Lays encryption over the range that is exposed as `node`: what is written to the node that comes back is encrypted there.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn encrypt(
        &mut self,
        device: &mut dyn BlockDevice,
        node: &str,
        size: u64,
        sealed: &Sealed,
    ) -> Result<String, ToolError>;

    /// Runs a program to its end.
    ///
    /// # Errors
    /// When it cannot be run or does not end well.
    fn run(
        &mut self,
        device: &mut dyn BlockDevice,
        program: &str,
        arguments: &[String],
    ) -> Result<(), ToolError>;

    /// Mounts `node` on a folder that nobody else sees; the folder. `data` is what the file system is told.
    ///
    /// # Errors
    /// When the kernel refuses.
    fn mount(
        &mut self,
        device: &mut dyn BlockDevice,
        node: &str,
        kind: Kind,
        data: &str,
    ) -> Result<PathBuf, ToolError>;

    /// Unmounts, waits until everything is on the disk, and gives the device back.
    ///
    /// # Errors
    /// When something could not be written.
    fn release(&mut self, device: &mut dyn BlockDevice) -> Result<(), ToolError>;
}

/// The running system.
#[derive(Debug)]
pub struct Running {
    /// Its root, `/` but in tests.
    root: PathBuf,
    attached: Option<LoopDevice>,
    opened: Option<Volume>,
    mounted: Option<tempfile::TempDir>,
    private: bool,
}

/// An encrypted device of this process. The kernel takes it away when the process ends, however it does, for it is told to as soon as this file is open.
#[derive(Debug)]
struct Volume {
    name: String,
    node: fs::File,
}

impl Default for Running {
    fn default() -> Self {
        Self::at(Path::new("/"))
    }
}

impl Running {
    pub(crate) fn at(root: &Path) -> Running {
        Running {
            root: root.to_owned(),
            attached: None,
            opened: None,
            mounted: None,
            private: false,
        }
    }

    fn has_program(&self, name: &str) -> bool {
        FOLDERS
            .iter()
            .any(|folder| self.root.join(folder).join(name).is_file())
    }

    /// Whether the kernel has a file system or finds its module.
    fn has_module(&self, name: &str) -> bool {
        let text = |path: &str| fs::read_to_string(self.root.join(path)).unwrap_or_default();
        let known = text("proc/filesystems");
        if known
            .lines()
            .any(|line| line.split_whitespace().next_back() == Some(name))
        {
            return true;
        }
        let release = text("proc/sys/kernel/osrelease");
        let folder = format!("lib/modules/{}", release.trim());
        let module = |line: &str| {
            let path = line.split(':').next().unwrap_or_default();
            let file = path.rsplit('/').next().unwrap_or_default();
            let module = file.split('.').next().unwrap_or_default();
            module.replace('-', "_") == name
        };
        ["modules.dep", "modules.builtin"]
            .iter()
            .any(|list| text(&format!("{folder}/{list}")).lines().any(module))
    }

    /// Leaves the mount namespace that everybody is in.
    fn go_private(&mut self) -> Result<(), ToolError> {
        if self.private {
            return Ok(());
        }
        let failed = |doing| {
            move |error: rustix::io::Errno| ToolError::Kernel {
                doing,
                on: "this process".to_owned(),
                source: error.into(),
            }
        };
        // SAFETY: only FILES among the flags can make a thread see descriptors that another has closed; NEWNS touches no descriptor.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
            .map_err(failed("making a mount namespace for"))?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(failed("parting the mounts of"))?;
        self.private = true;
        Ok(())
    }
}

/// What makes a file system does not go on when this process is killed: the next one begins with the same range.
fn dies_with_this_process() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    Ok(())
}

/// The end of what a program said.
fn last_lines(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].join("\n")
}

/// Beginning of the name of the folder on which a root is mounted while it is filled; the number of the process follows.
const FOLDER: &str = "lycia-root-";

/// Removes the folders of processes that were killed. Their mounts went with them; that of a process that lives is not touched.
fn remove_left_folders(run: &Path, proc: &Path) {
    for entry in fs::read_dir(run).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix(FOLDER)?.split_once('-'))
            .and_then(|(number, _)| number.parse::<u32>().ok());
        if number.is_some_and(|number| !proc.join(number.to_string()).exists()) {
            // One that has something in it is not what was left here.
            let _ = fs::remove_dir(entry.path());
        }
    }
}

impl Tools for Running {
    fn ready(&self, kind: Kind, encrypted: bool) -> Result<(), String> {
        let name = kind.name();
        for program in kind.programs() {
            if !self.has_program(program) {
                return Err(format!(
                    "this system has no {program}, which makes {name}: start a medium that has it, or choose another file system"
                ));
            }
        }
        if kind != Kind::Ext4 && !self.has_module(name) {
            return Err(format!(
                "the kernel that runs here has no module {name} and cannot fill the new root: start a medium with another kernel, or choose another file system"
            ));
        }
        // Built in, it is in no list of file systems.
        let mapper = |name: &str| self.has_module(name) || self.root.join("sys/module").join(name).exists();
        if kind != Kind::Ext4 && encrypted && !mapper("dm_crypt") {
            return Err(format!(
                "the kernel that runs here has no module dm_crypt and cannot fill an encrypted {name}: start a medium with another kernel, or choose ext4, which needs none"
            ));
        }
        Ok(())
    }

    fn expose(&mut self, device: &mut dyn BlockDevice, span: Span) -> Result<String, ToolError> {
        if device.file().is_some() && !Path::new(LOOP_CONTROL).exists() {
            self.run(device, "modprobe", &["loop".to_owned()])?;
        }
        let sector = device.sector();
        let file = device.file().ok_or_else(|| ToolError::Kernel {
            doing: "making a device of",
            on: "the disk".to_owned(),
            source: io::ErrorKind::Unsupported.into(),
        })?;
        let range = Range {
            offset: span.start,
            size: span.size,
            sector,
        };
        let attached = loopdev::attach_range(file, range).map_err(|source| ToolError::Kernel {
            doing: "making a device of the root's",
            on: format!("bytes {} to {}", span.start, span.end()),
            source,
        })?;
        let node = attached.node.clone();
        self.attached = Some(attached);
        Ok(node)
    }

    fn encrypt(
        &mut self,
        device: &mut dyn BlockDevice,
        node: &str,
        size: u64,
        sealed: &Sealed,
    ) -> Result<String, ToolError> {
        let failed = |source| ToolError::Kernel {
            doing: "laying encryption over",
            on: node.to_owned(),
            source,
        };
        for module in unlock::MODULES {
            // Those that are built in, or not there, are left out; what is really missing the kernel says.
            let _ = self.run(device, "modprobe", &["-q".to_owned(), (*module).to_owned()]);
        }
        let mapper = DeviceMapper::open().map_err(|error| failed(io::Error::other(error)))?;
        let opened = sealed.data(size);
        let name = format!("{}{}", crate::encryption::MAPPED, opened.uuid);
        // A run that was killed before it could tell the kernel may have left it, and its range with it.
        crate::rescue::volume::gone_already(mapper.remove(&name)).map_err(|error| {
            failed(io::Error::other(format!(
                "the device {name} of an earlier run is still in use ({error}): end what uses it, or start again"
            )))
        })?;
        let path =
            unlock::map(&mapper, &opened, node, size, &name).map_err(|why| failed(io::Error::other(why)))?;
        let kept = fs::File::options().read(true).write(true).open(&path);
        let deferred = kept.and_then(|file| {
            mapper.remove_when_closed(&name).map_err(io::Error::other)?;
            Ok(file)
        });
        let file = deferred.map_err(|error| {
            let _ = mapper.remove(&name);
            failed(error)
        })?;
        self.opened = Some(Volume { name, node: file });
        Ok(path)
    }

    fn run(&mut self, _: &mut dyn BlockDevice, program: &str, arguments: &[String]) -> Result<(), ToolError> {
        let mut command = program.to_owned();
        for word in arguments {
            command.push(' ');
            command.push_str(word);
        }
        let mut process = Command::new(program);
        process.args(arguments).stdin(Stdio::null());
        // SAFETY: between fork and exec there is one system call, which takes no lock and allocates nothing.
        unsafe { process.pre_exec(dies_with_this_process) };
        let output = process.output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(ToolError::Program {
                command,
                how: format!("failed ({})", output.status),
                said: last_lines(&[output.stdout, output.stderr].concat()),
            }),
            Err(error) => Err(ToolError::Program {
                command,
                how: "could not be run".to_owned(),
                said: error.to_string(),
            }),
        }
    }

    fn mount(
        &mut self,
        device: &mut dyn BlockDevice,
        node: &str,
        kind: Kind,
        data: &str,
    ) -> Result<PathBuf, ToolError> {
        self.go_private()?;
        let failed = |doing, on: String| move |source: io::Error| ToolError::Kernel { doing, on, source };
        remove_left_folders(Path::new("/run"), Path::new("/proc"));
        let folder = tempfile::Builder::new()
            .prefix(&format!("{FOLDER}{}-", std::process::id()))
            .tempdir_in("/run")
            .map_err(failed("making a folder in", "/run".to_owned()))?;
        let text = std::ffi::CString::new(data)
            .map_err(|error| failed("mounting", node.to_owned())(error.into()))?;
        let name = kind.name();
        let mount = || rustix::mount::mount(node, folder.path(), name, MountFlags::NOATIME, text.as_c_str());
        let first = match mount() {
            // A kernel that is not told where modprobe is loads nothing by itself.
            Err(rustix::io::Errno::NODEV) => {
                self.run(device, "modprobe", &[name.to_owned()])?;
                mount()
            }
            other => other,
        };
        first.map_err(|error| failed("mounting", format!("{node} as {name}"))(error.into()))?;
        let path = folder.path().to_owned();
        self.mounted = Some(folder);
        Ok(path)
    }

    fn release(&mut self, _: &mut dyn BlockDevice) -> Result<(), ToolError> {
        if let Some(folder) = &self.mounted {
            let failed = |error: rustix::io::Errno| ToolError::Kernel {
                doing: "unmounting",
                on: folder.path().display().to_string(),
                source: error.into(),
            };
            rustix::mount::unmount(folder.path(), UnmountFlags::NOFOLLOW).map_err(failed)?;
        }
        self.mounted = None;
        if let Some(volume) = self.opened.take() {
            let path = format!("/dev/mapper/{}", volume.name);
            let failed = |doing| {
                let on = path.clone();
                move |source| ToolError::Kernel { doing, on, source }
            };
            volume.node.sync_all().map_err(failed("writing out"))?;
            drop(volume.node);
            // The last one that had it open was this process: it goes now, and until it has gone the range is in use.
            crate::rescue::volume::settle(Some(&volume.name))
                .map_err(|error| failed("closing")(io::Error::other(error)))?;
        }
        if let Some(attached) = self.attached.take() {
            attached.sync().map_err(|source| ToolError::Kernel {
                doing: "writing out",
                on: attached.node.clone(),
                source,
            })?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(folder) = &self.mounted {
            // After an error: what is there is made again or given up. The folder must not be emptied through the mount.
            let _ = rustix::mount::unmount(folder.path(), UnmountFlags::DETACH);
        }
    }
}

#[cfg(test)]
pub(crate) mod fake;
#[cfg(test)]
mod tests;
