//! Device mapper (`linux/dm-ioctl.h`, interface version 4): block devices made of other ones by a table, whatever the type of
//! the target: `verity`, `crypt`, `linear`.
//!
//! A device is made in three requests (create, load the table, resume) and gets its node below `/dev/mapper`. When one of
//! them fails, what the ones before made is taken away again.

mod request;

use rustix::fs::{FileType, Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use request::{
    DEFERRED_REMOVE, READ_ONLY, STATUS_TABLE, answers, device_numbers, header, plain, put_u32, table, u64_at,
    wipe,
};
pub use request::{NAME_MAX, Request, TYPE_MAX, UUID_MAX};

/// The device that takes the requests.
pub const CONTROL: &str = "/dev/mapper/control";
/// Bytes that the status of a table may take.
const STATUS_ROOM: usize = 4096;
/// How often a device is asked to go while someone (a probe of udev) still has it open, and how long between.
const REMOVE_TRIES: u32 = 40;
const REMOVE_PAUSE: Duration = Duration::from_millis(50);

/// Why a mapped device is not there.
#[derive(Debug, thiserror::Error)]
pub enum DeviceMapperError {
    /// The control device cannot be opened.
    #[error("opening {CONTROL}: {0}; the kernel needs the device mapper (module `dm-mod`)")]
    Control(io::Error),
    /// A name, UUID, type or table that no request can carry.
    #[error("{what} of a mapped device cannot be `{text}`: {why}")]
    Words {
        /// What it is.
        what: &'static str,
        /// What was given, cut to 64 characters.
        text: String,
        /// Why not.
        why: &'static str,
    },
    /// The kernel refused.
    #[error("{} the mapped device `{name}`: {source}; {hint}", .request.doing())]
    Kernel {
        /// What was asked.
        request: Request,
        /// The device.
        name: String,
        /// What the kernel said.
        source: io::Error,
        /// What that means.
        hint: String,
    },
    /// The device is there without a node, and has been taken away again.
    #[error("making {node} for the mapped device: {source}")]
    Node {
        /// The node.
        node: String,
        /// Why.
        source: io::Error,
    },
    /// What the kernel answered makes no sense.
    #[error("the kernel's answer about the mapped device `{name}` is {why}")]
    Answer {
        /// The device.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
}

/// One line of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Target<'a> {
    /// First sector of 512 bytes of the mapped device.
    pub start: u64,
    /// Sectors of 512 bytes.
    pub sectors: u64,
    /// Type: `verity`, `crypt`, `linear`.
    pub kind: &'a str,
    /// The words of the type, as in `dmsetup table`.
    pub parameters: &'a str,
}

impl std::fmt::Debug for Target<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The words of `crypt` hold the key.
        write!(
            formatter,
            "{} {} {} (words not shown)",
            self.start, self.sectors, self.kind
        )
    }
}

/// What a device is made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping<'a> {
    /// Name below `/dev/mapper`.
    pub name: &'a str,
    /// UUID as the tools of the type write it (`CRYPT-LUKS2-…`), or empty.
    pub uuid: &'a str,
    /// Whether nothing can be written to it; `verity` wants that.
    pub read_only: bool,
    /// Whether the table holds a key: kernel and program then wipe what they passed to each other.
    pub secret: bool,
    /// The table, one target behind the other without gaps.
    pub targets: &'a [Target<'a>],
}

/// A device that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MappedDevice {
    /// Its node: `/dev/mapper/NAME`.
    pub node: String,
    /// Major number.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

/// Where requests go: the kernel, or what a test has in its place.
pub trait Requests {
    /// Sends a request. The buffer is a `struct dm_ioctl` with its data, and comes back as the kernel changed it.
    ///
    /// # Errors
    /// What the kernel said.
    fn send(&self, request: Request, buffer: &mut [u8]) -> io::Result<()>;
}

/// The kernel's control device.
#[derive(Debug)]
pub struct Kernel(File);

impl Requests for Kernel {
    fn send(&self, request: Request, buffer: &mut [u8]) -> io::Result<()> {
        if buffer.len() < header::SIZE {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        put_u32(buffer, header::DATA_SIZE, buffer.len() as u32);
        // SAFETY: the kernel reads and writes no more than the bytes that `data_size` names, which was just set to
        // the length of the buffer, and the buffer is borrowed for the call and at least one header long.
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), request.code() as _, buffer.as_mut_ptr()) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}

/// A client of the device mapper.
#[derive(Debug)]
pub struct DeviceMapper<R = Kernel> {
    requests: R,
}

impl DeviceMapper {
    /// Opens the control device.
    ///
    /// # Errors
    /// When the kernel has no device mapper (yet), or this is not root.
    pub fn open() -> Result<Self, DeviceMapperError> {
        rustix::fs::open(CONTROL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map(|control| Self {
                requests: Kernel(control.into()),
            })
            .map_err(|error| DeviceMapperError::Control(error.into()))
    }
}

impl<R: Requests> DeviceMapper<R> {
    /// A client that sends its requests elsewhere.
    pub fn with(requests: R) -> Self {
        Self { requests }
    }

    fn send(&self, request: Request, name: &str, buffer: &mut [u8]) -> Result<(), DeviceMapperError> {
        self.requests.send(request, buffer).map_err(|source| {
            let hint = match (request, source.raw_os_error()) {
                (Request::Create, Some(libc::EBUSY)) => "a device of that name or UUID is there already",
                (Request::LoadTable, Some(libc::EINVAL)) => {
                    "the kernel log says which word of the table is wrong, or which module is missing (dm-verity, dm-crypt)"
                }
                (Request::LoadTable, Some(libc::ENOENT)) => "a cipher or hash that the kernel cannot find (its module is not there)",
                (Request::LoadTable, Some(libc::ENODEV | libc::ENXIO)) => "a device below it is not there",
                (Request::LoadTable, Some(libc::EBUSY)) => "a device below it is in use",
                (Request::LoadTable, Some(libc::ENOKEY)) => "a signature that the kernel wants is missing",
                (Request::Remove, Some(libc::EBUSY)) => "it is in use",
                (_, Some(libc::ENXIO)) => "there is no such device",
                (_, Some(libc::ENOTTY)) => "this kernel's device mapper is too old",
                (_, Some(libc::EACCES | libc::EPERM)) => "only root may",
                (_, Some(libc::ENOMEM)) => "the kernel has no memory for it",
                _ => "the kernel log may say more",
            };
            DeviceMapperError::Kernel {
                request,
                name: name.to_owned(),
                source,
                hint: hint.to_owned(),
            }
        })
    }

    /// Creates a device, loads its table and starts it. Without a node; [`DeviceMapper::create`] makes that too.
    ///
    /// # Errors
    /// Says which of the requests the kernel refused; a device that was half made is gone again.
    pub fn start(&self, mapping: &Mapping<'_>) -> Result<MappedDevice, DeviceMapperError> {
        let name = mapping.name;
        let mut load = table(mapping)?;
        let mut create = plain(name, mapping.uuid, 0)?;
        self.send(Request::Create, name, &mut create)?;
        let finish = || {
            let loaded = self.send(Request::LoadTable, name, &mut load);
            if mapping.secret {
                wipe(&mut load);
            }
            loaded?;
            let mut resume = plain(name, "", if mapping.read_only { READ_ONLY } else { 0 })?;
            self.send(Request::Resume, name, &mut resume)?;
            let dev = u64_at(&resume, header::DEV).unwrap_or(0);
            if dev == 0 {
                return Err(DeviceMapperError::Answer {
                    name: name.to_owned(),
                    why: "without a device number",
                });
            }
            let (major, minor) = device_numbers(dev);
            Ok(MappedDevice {
                node: format!("/dev/mapper/{name}"),
                major,
                minor,
            })
        };
        let made = { finish }();
        made.inspect_err(|_| {
            // The first error is the one to report.
            let _ = self.remove(name);
        })
    }

    /// Creates a device as [`DeviceMapper::start`] does, and its node `/dev/mapper/NAME`.
    ///
    /// # Errors
    /// As there, and when the node cannot be made.
    pub fn create(&self, mapping: &Mapping<'_>) -> Result<MappedDevice, DeviceMapperError> {
        let device = self.start(mapping)?;
        make_node(Path::new("/dev"), mapping.name, device.major, device.minor)
            .map_err(|source| DeviceMapperError::Node {
                node: device.node.clone(),
                source,
            })
            .inspect_err(|_| {
                let _ = self.remove(mapping.name);
            })?;
        Ok(device)
    }

    /// Takes a device away, and its node. Someone who has it open is waited for two seconds.
    ///
    /// # Errors
    /// When it is still in use then, or not there.
    pub fn remove(&self, name: &str) -> Result<(), DeviceMapperError> {
        for again in (0..REMOVE_TRIES).rev() {
            let mut buffer = plain(name, "", 0)?;
            match self.send(Request::Remove, name, &mut buffer) {
                Err(DeviceMapperError::Kernel { source, .. })
                    if again > 0 && source.raw_os_error() == Some(libc::EBUSY) =>
                {
                    std::thread::sleep(REMOVE_PAUSE);
                }
                other => {
                    other?;
                    break;
                }
            }
        }
        // udev may have taken it away, or none was made.
        let _ = std::fs::remove_file(format!("/dev/mapper/{name}"));
        Ok(())
    }

    /// Takes a device away as soon as nobody has it open, which may be now. Its node stays until then and longer: nobody is told of that moment.
    ///
    /// # Errors
    /// When it is not there.
    pub fn remove_when_closed(&self, name: &str) -> Result<(), DeviceMapperError> {
        let mut buffer = plain(name, "", DEFERRED_REMOVE)?;
        self.send(Request::Remove, name, &mut buffer)
    }

    /// What the type says of each target: for `verity` `V`, or `C` once a block was not what it should be.
    ///
    /// # Errors
    /// When there is no such device, or the answer is not whole.
    pub fn status(&self, name: &str) -> Result<Vec<String>, DeviceMapperError> {
        self.ask(name, 0)
    }

    /// The words of each target's table, as they were loaded (keys of `crypt` are in them).
    ///
    /// # Errors
    /// As for [`DeviceMapper::status`].
    pub fn loaded_table(&self, name: &str) -> Result<Vec<String>, DeviceMapperError> {
        self.ask(name, STATUS_TABLE)
    }

    fn ask(&self, name: &str, flags: u32) -> Result<Vec<String>, DeviceMapperError> {
        let mut buffer = plain(name, "", flags)?;
        buffer.resize(header::SIZE + STATUS_ROOM, 0);
        let whole = buffer.len() as u32;
        put_u32(&mut buffer, header::DATA_SIZE, whole);
        self.send(Request::TableStatus, name, &mut buffer)?;
        answers(&buffer).map_err(|why| DeviceMapperError::Answer {
            name: name.to_owned(),
            why,
        })
    }
}

/// Makes `mapper/NAME` below `dev`: a link to `dm-MINOR` as udev makes it, if devtmpfs has that node, else a node.
fn make_node(dev: &Path, name: &str, major: u32, minor: u32) -> io::Result<()> {
    let directory = dev.join("mapper");
    match std::fs::create_dir(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let node = directory.join(name);
    match std::fs::remove_file(&node) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let number = rustix::fs::makedev(major, minor);
    let of_kernel = format!("dm-{minor}");
    let there = rustix::fs::stat(dev.join(&of_kernel)).is_ok_and(|found| {
        FileType::from_raw_mode(found.st_mode) == FileType::BlockDevice && found.st_rdev == number
    });
    if there {
        std::os::unix::fs::symlink(format!("../{of_kernel}"), &node)
    } else {
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &node,
            FileType::BlockDevice,
            Mode::RUSR | Mode::WUSR,
            number,
        )
        .map_err(Into::into)
    }
}

#[cfg(test)]
mod tests;
