//! What only the kernel can do.

use std::fs::File;
use std::io;

/// `BLKRRPART` of `linux/fs.h`: no argument, no result.
const BLKRRPART: rustix::ioctl::Opcode = rustix::ioctl::opcode::none(0x12, 95);

/// Lets the kernel read a disk's partition table again. An image file has none for the kernel: nothing happens.
///
/// # Errors
/// When a partition of the disk is in use.
pub fn read_table_again(disk: &File) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    if !disk.metadata()?.file_type().is_block_device() {
        return Ok(());
    }
    // SAFETY: BLKRRPART takes no argument and writes to no memory of this program; the opcode is the one of linux/fs.h.
    unsafe { rustix::ioctl::ioctl(disk, rustix::ioctl::NoArg::<BLKRRPART>::new())? };
    Ok(())
}
