//! Disks as the installer sees them: bytes at offsets, in whole sectors, with an order that a flush makes lasting.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// A disk, or a file that stands for one.
pub trait BlockDevice {
    /// Bytes.
    fn size(&self) -> u64;

    /// Bytes of a logical sector.
    fn sector(&self) -> u32;

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// When the device refuses, or the range is not inside it.
    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;

    /// Writes all of `bytes` from `offset` on.
    ///
    /// # Errors
    /// As [`Self::read_at`].
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything that was written is on the disk.
    ///
    /// # Errors
    /// When the device cannot promise that.
    fn flush(&mut self) -> io::Result<()>;

    /// The file, for what only the kernel can do with it; none where there is no such file.
    fn file(&self) -> Option<&File> {
        None
    }

    /// Writes zeros.
    ///
    /// # Errors
    /// As [`Self::write_at`].
    fn zero(&mut self, offset: u64, size: u64) -> io::Result<()> {
        let zeros = vec![0; 1 << 20];
        let mut done = 0;
        while done < size {
            let count = (size - done).min(zeros.len() as u64);
            self.write_at(offset + done, &zeros[..count as usize])?;
            done += count;
        }
        Ok(())
    }
}

/// A block device or an image file.
#[derive(Debug)]
pub struct Disk {
    file: File,
    size: u64,
    sector: u32,
}

impl Disk {
    /// Opens for reading.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_read(path: &Path, sector: u32) -> io::Result<Disk> {
        Disk::of(File::open(path)?, sector)
    }

    /// Opens for writing, and, where it is a block device, for nobody else (`O_EXCL`: it fails while something of the disk is mounted).
    ///
    /// # Errors
    /// When it cannot be opened or is in use.
    pub fn open_write(path: &Path, sector: u32) -> io::Result<Disk> {
        let exclusive = rustix::fs::OFlags::EXCL.bits() as i32;
        let block = {
            use std::os::unix::fs::FileTypeExt as _;
            std::fs::metadata(path)?.file_type().is_block_device()
        };
        let file = File::options()
            .read(true)
            .write(true)
            .custom_flags(if block { exclusive } else { 0 })
            .open(path)?;
        Disk::of(file, sector)
    }

    /// Opens for writing a disk whose partitions may be mounted: for what lies outside of them.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_beside(path: &Path, sector: u32) -> io::Result<Disk> {
        Disk::of(File::options().read(true).write(true).open(path)?, sector)
    }

    fn of(file: File, sector: u32) -> io::Result<Disk> {
        let size = (&file).seek(SeekFrom::End(0))?;
        Ok(Disk { file, size, sector })
    }

    /// The file, for what only the kernel can do with it.
    #[must_use]
    pub fn file(&self) -> &File {
        &self.file
    }
}

impl BlockDevice for Disk {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if offset
            .checked_add(bytes.len() as u64)
            .is_none_or(|end| end > self.size)
        {
            return Err(outside());
        }
        self.file.write_all_at(bytes, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn file(&self) -> Option<&File> {
        Some(&self.file)
    }
}

fn outside() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidInput,
        "outside of the range that the plan names",
    )
}

/// A range of bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, serde::Serialize, serde::Deserialize)]
pub struct Span {
    /// First byte.
    pub start: u64,
    /// Bytes.
    pub size: u64,
}

impl Span {
    /// The byte behind the last.
    #[must_use]
    pub fn end(self) -> u64 {
        self.start.saturating_add(self.size)
    }

    /// Whether both have a byte in common.
    #[must_use]
    pub fn overlaps(self, other: Span) -> bool {
        self.start < other.end() && other.start < self.end()
    }

    /// Whether `other` lies inside.
    #[must_use]
    pub fn contains(self, other: Span) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }
}

/// A device that refuses every write outside of given ranges.
pub struct Guarded<'a> {
    device: &'a mut dyn BlockDevice,
    allowed: Vec<Span>,
}

impl<'a> Guarded<'a> {
    /// Guards `device`: only `allowed` may be written. Neighbouring ranges count as one.
    pub fn new(device: &'a mut dyn BlockDevice, allowed: impl IntoIterator<Item = Span>) -> Guarded<'a> {
        let mut sorted: Vec<Span> = allowed.into_iter().filter(|span| span.size > 0).collect();
        sorted.sort();
        let mut joined: Vec<Span> = Vec::new();
        for span in sorted {
            match joined.last_mut() {
                Some(last) if span.start <= last.end() => last.size = span.end().max(last.end()) - last.start,
                _ => joined.push(span),
            }
        }
        Guarded {
            device,
            allowed: joined,
        }
    }
}

impl BlockDevice for Guarded<'_> {
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
        let wanted = Span {
            start: offset,
            size: bytes.len() as u64,
        };
        if bytes.is_empty() || self.allowed.iter().any(|span| span.contains(wanted)) {
            self.device.write_at(offset, bytes)
        } else {
            Err(outside())
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.device.flush()
    }

    fn file(&self) -> Option<&File> {
        self.device.file()
    }

    fn zero(&mut self, offset: u64, size: u64) -> io::Result<()> {
        let wanted = Span { start: offset, size };
        if size == 0 || self.allowed.iter().any(|span| span.contains(wanted)) {
            self.device.zero(offset, size)
        } else {
            Err(outside())
        }
    }
}

/// A part of a device as a file: what writers of formats take. Unlike a file it cannot grow.
pub struct Window<'a> {
    device: &'a mut dyn BlockDevice,
    span: Span,
    at: u64,
    written: &'a mut dyn FnMut(u64),
}

impl<'a> Window<'a> {
    /// The bytes of `span`; `written` hears of every write.
    pub fn new(device: &'a mut dyn BlockDevice, span: Span, written: &'a mut dyn FnMut(u64)) -> Window<'a> {
        Window {
            device,
            span,
            at: 0,
            written,
        }
    }

    fn rest(&self, wanted: usize) -> usize {
        let rest = self.span.size.saturating_sub(self.at);
        wanted.min(usize::try_from(rest).unwrap_or(usize::MAX))
    }
}

impl Read for Window<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.rest(buffer.len());
        self.device
            .read_at(self.span.start + self.at, &mut buffer[..count])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Write for Window<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        if self.rest(bytes.len()) < bytes.len() {
            return Err(outside());
        }
        self.device.write_at(self.span.start + self.at, bytes)?;
        self.at += bytes.len() as u64;
        (self.written)(bytes.len() as u64);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.device.flush()
    }
}

impl Seek for Window<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.span.size.checked_add_signed(by),
        };
        self.at = target.ok_or_else(outside)?;
        Ok(self.at)
    }
}

/// A view for reading and seeking over a whole device.
pub struct Reading<'a> {
    device: &'a mut dyn BlockDevice,
    at: u64,
}

impl<'a> Reading<'a> {
    /// From the first byte on.
    pub fn new(device: &'a mut dyn BlockDevice) -> Reading<'a> {
        Reading { device, at: 0 }
    }
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self.device.size().saturating_sub(self.at);
        let count = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        self.device.read_at(self.at, &mut buffer[..count])?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for Reading<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let target = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.device.size().checked_add_signed(by),
        };
        self.at = target.ok_or_else(outside)?;
        Ok(self.at)
    }
}

#[cfg(test)]
pub(crate) mod fake;
