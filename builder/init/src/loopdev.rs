//! Loop devices (`linux/loop.h`), gone with their last user.

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;

const LOOP_SET_FD: u32 = 0x4c00;
const LOOP_CLR_FD: u32 = 0x4c01;
const LOOP_SET_STATUS64: u32 = 0x4c04;
const LOOP_CONFIGURE: u32 = 0x4c0a;
const LOOP_CTL_GET_FREE: u32 = 0x4c82;
const CONTROL: &str = "/dev/loop-control";
const READ_ONLY: u32 = 1;
const AUTOCLEAR: u32 = 4;
/// How often another loop device is tried when someone else takes the free one first.
const TRIES: u32 = 16;

/// `struct loop_info64`
#[repr(C)]
#[derive(Clone, Copy)]
struct Info {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

impl Info {
    fn new(flags: u32) -> Info {
        Info {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags,
            file_name: [0; 64],
            crypt_name: [0; 64],
            encrypt_key: [0; 32],
            init: [0; 2],
        }
    }
}

/// `struct loop_config`
#[repr(C)]
struct Configuration {
    fd: u32,
    block_size: u32,
    info: Info,
    reserved: [u64; 8],
}

/// A loop device that is attached. It detaches when this and every mount of it is gone.
#[derive(Debug)]
pub struct LoopDevice {
    /// The device node.
    pub node: String,
    open: OwnedFd,
}

impl LoopDevice {
    /// Returns when everything that was written to the device is in its file.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::fsync(&self.open)?)
    }
}

/// A request that takes a number or nothing.
fn ioctl(fd: RawFd, request: u32, argument: libc::c_ulong) -> io::Result<libc::c_int> {
    // SAFETY: the requests used with this function take an integer, so the kernel reads no memory of ours.
    let result = unsafe { libc::ioctl(fd, request as _, argument) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn ioctl_in<T>(fd: RawFd, request: u32, argument: &T) -> io::Result<()> {
    // SAFETY: the kernel reads `size_of::<T>()` bytes of `argument`; both callers pass the #[repr(C)] structure
    // that the request is defined with, and the reference keeps it alive during the call.
    let result = unsafe { libc::ioctl(fd, request as _, std::ptr::from_ref(argument)) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Says which file an error is about.
fn on(what: impl std::fmt::Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{what}: {error}"))
}

/// Attaches `file` read-only to a free loop device.
///
/// # Errors
/// If the file cannot be opened, or there is no loop device (module `loop`).
pub fn attach(path: &Path) -> io::Result<LoopDevice> {
    let file = File::open(path).map_err(|error| on(path.display(), error))?;
    let mut info = Info::new(READ_ONLY | AUTOCLEAR);
    let name = path.as_os_str().as_encoded_bytes();
    let length = name.len().min(63);
    info.file_name[..length].copy_from_slice(&name[..length]);
    attached(&file, info, 0, OFlags::RDONLY)
}

/// A range of bytes that becomes a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Bytes of a sector of the device.
    pub sector: u32,
}

/// Attaches a range of `file`, which is open for writing, to a free loop device: what is written to that cannot leave the range.
///
/// # Errors
/// If there is no loop device (module `loop`), or the kernel refuses the range.
pub fn attach_range(file: &File, range: Range) -> io::Result<LoopDevice> {
    let mut info = Info::new(AUTOCLEAR);
    (info.offset, info.size_limit) = (range.offset, range.size);
    let made = attached(file, info, range.sector, OFlags::RDWR)?;
    // A kernel that ignored the limit, or a file that is too short, must not go unnoticed.
    let size = rustix::fs::seek(&made.open, rustix::fs::SeekFrom::End(0))?;
    if size == range.size {
        return Ok(made);
    }
    Err(on(
        &made.node,
        io::Error::other(format!("it has {size} bytes and not {}", range.size)),
    ))
}

fn attached(file: &File, info: Info, sector: u32, access: OFlags) -> io::Result<LoopDevice> {
    let control = rustix::fs::open(CONTROL, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| on(CONTROL, error.into()))?;
    let mut last = io::Error::from(io::ErrorKind::ResourceBusy);
    for _ in 0..TRIES {
        let number = ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE, 0).map_err(|error| on(CONTROL, error))?;
        let node = format!("/dev/loop{number}");
        // Opening for reading is enough for a read-only attachment.
        let device = rustix::fs::open(&node, access | OFlags::CLOEXEC, Mode::empty())?;
        match configure(device.as_raw_fd(), file.as_raw_fd(), info, sector) {
            Ok(()) => return Ok(LoopDevice { node, open: device }),
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => last = error,
            Err(error) => return Err(on(&node, error)),
        }
    }
    Err(on(CONTROL, last))
}

fn configure(device: RawFd, file: RawFd, info: Info, sector: u32) -> io::Result<()> {
    let configuration = Configuration {
        fd: file.cast_unsigned(),
        block_size: sector,
        info,
        reserved: [0; 8],
    };
    match ioctl_in(device, LOOP_CONFIGURE, &configuration) {
        // Kernels before 5.8 do it in two steps.
        Err(error) if sector == 0 && matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOTTY)) => {
            ioctl(device, LOOP_SET_FD, libc::c_ulong::from(file.cast_unsigned()))?;
            ioctl_in(device, LOOP_SET_STATUS64, &info).inspect_err(|_| {
                // The first error is the one to report.
                let _ = ioctl(device, LOOP_CLR_FD, 0);
            })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structures_have_the_kernel_s_sizes() {
        assert_eq!(size_of::<Info>(), 232);
        assert_eq!(size_of::<Configuration>(), 304);
    }
}
