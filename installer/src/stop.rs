//! A device that can be told to stop.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device::BlockDevice;

/// A device whose writes fail once `stop` is set. What was begun is then left as after any other failed write: to be resumed or undone.
pub struct Stoppable<'a> {
    device: &'a mut dyn BlockDevice,
    stop: &'a AtomicBool,
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
            return Err(io::Error::new(io::ErrorKind::Interrupted, "it was stopped"));
        }
        self.device.write_at(offset, bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.device.flush()
    }
}
