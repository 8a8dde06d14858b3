//! A device that can be told to stop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::BlockDevice;

/// A device whose writes fail once `stop` is set. What was begun is then left as after any other failed write: to be resumed or undone.
pub struct Stoppable<'a> {
    device: &'a mut dyn BlockDevice,
    stop: &'a AtomicBool,
}

fn stopped() -> io::Error {
    io::Error::other("it was stopped")
}

impl<'a> Stoppable<'a> {
    /// `device`, until `stop` is set.
    pub fn new(device: &'a mut dyn BlockDevice, stop: &'a AtomicBool) -> Self {
        Self { device, stop }
    }
}

impl BlockDevice for Stoppable<'_> {
    fn size(&self) -> u64 {
        self.device.size()
    }

    fn sector(&self) -> u32 {
        self.device.sector()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.device.read_at(offset, buffer)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        self.device.write_at(offset, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.device.flush()
    }

    fn file(&self) -> Option<&std::fs::File> {
        self.device.file()
    }

    fn zero(&mut self, offset: u64, size: u64) -> io::Result<()> {
        if self.stop.load(Ordering::SeqCst) {
            return Err(stopped());
        }
        self.device.zero(offset, size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_written_once_it_is_stopped_and_the_rest_is_the_devices_own() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(8192).unwrap();
        let mut disk = crate::device::Disk::open_write(file.path(), 512).unwrap();
        let stop = AtomicBool::new(false);
        let mut stoppable = Stoppable::new(&mut disk, &stop);
        // What makes a device of it needs the file.
        assert!(stoppable.file().is_some());
        assert_eq!((stoppable.size(), stoppable.sector()), (8192, 512));
        stoppable.write_at(0, &[7; 512]).unwrap();
        stop.store(true, Ordering::SeqCst);
        assert!(stoppable.write_at(512, &[8; 512]).is_err() && stoppable.zero(0, 512).is_err());
        let mut now = [0; 1024];
        stoppable.read_at(0, &mut now).unwrap();
        assert!(now[..512] == [7; 512] && now[512..] == [0; 512]);
    }
}
