//! Disks as the installer sees them: bytes at offsets, in whole sectors, with an order that a flush makes lasting.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Where the kernel takes bytes from without a copy: pages of the machine.
const PAGE: usize = 4096;
/// Bytes from which on a write past the page cache is worth its two system calls more.
const LARGE: usize = 64 << 10;
/// Bytes that are gathered for one write.
const GATHERED: usize = 1 << 20;

/// Bytes that begin where a page does.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    bytes: Vec<u8>,
}

impl Pages {
    /// The first `len` bytes, with whatever they hold.
    pub(crate) fn get(&mut self, len: usize) -> &mut [u8] {
        if self.bytes.len() < len + PAGE {
            self.bytes = vec![0; len + PAGE];
        }
        let start = self.bytes.as_ptr().align_offset(PAGE).min(PAGE);
        &mut self.bytes[start..start + len]
    }
}

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
        let mut zeros = Pages::default();
        let zeros = zeros.get(usize::try_from(size).unwrap_or(GATHERED).min(GATHERED));
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
    /// Whether large writes go past the page cache: twice as fast where memory is slow, and an error is told by the write that it happens to.
    direct: bool,
}

impl Disk {
    /// Opens for reading.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_read(path: &Path, sector: u32) -> io::Result<Disk> {
        Disk::of(File::open(path)?, sector, false)
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
        Disk::of(file, sector, block)
    }

    /// Opens for writing a disk whose partitions may be mounted: for what lies outside of them.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open_beside(path: &Path, sector: u32) -> io::Result<Disk> {
        Disk::of(File::options().read(true).write(true).open(path)?, sector, false)
    }

    fn of(file: File, sector: u32, direct: bool) -> io::Result<Disk> {
        let size = (&file).seek(SeekFrom::End(0))?;
        Ok(Disk {
            file,
            size,
            sector,
            direct,
        })
    }

    /// Writes whole sectors past the page cache. How many bytes were written: what is left, the page cache has to take.
    ///
    /// The kernel keeps both ways in order: it writes out what the cache holds of the range before, and forgets it after.
    fn write_direct(&mut self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let sector = self.sector as usize;
        let fits = self.direct
            && bytes.len() >= LARGE
            && bytes.len().is_multiple_of(sector)
            && offset.is_multiple_of(u64::from(self.sector))
            && bytes.as_ptr().align_offset(PAGE) == 0;
        if !fits {
            return Ok(0);
        }
        let flags = rustix::fs::fcntl_getfl(&self.file)?;
        if rustix::fs::fcntl_setfl(&self.file, flags | rustix::fs::OFlags::DIRECT).is_err() {
            // A file system, or a driver, that has no such thing.
            self.direct = false;
            return Ok(0);
        }
        let mut done = 0;
        let result = loop {
            // After a part that is no multiple of sectors, the cache goes on.
            if done == bytes.len() || done % sector != 0 {
                break Ok(done);
            }
            match self.file.write_at(&bytes[done..], offset + done as u64) {
                Ok(0) => break Ok(done),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Some want more than sectors and pages.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                    self.direct = false;
                    break Ok(done);
                }
                Err(error) => break Err(error),
            }
        };
        rustix::fs::fcntl_setfl(&self.file, flags)?;
        result
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
        let done = self.write_direct(offset, bytes)?;
        self.file.write_all_at(&bytes[done..], offset + done as u64)
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

/// Gathers what is written to a window one after the other into writes of [`GATHERED`] bytes, from memory that a disk can take them from.
/// [`Gather::finish`] must be called: what is left when it is dropped is not written.
pub struct Gather<'a> {
    window: Window<'a>,
    pages: Pages,
    held: usize,
}

impl<'a> Gather<'a> {
    /// For `window`, from where it stands.
    pub fn new(window: Window<'a>) -> Gather<'a> {
        Gather {
            window,
            pages: Pages::default(),
            held: 0,
        }
    }

    /// Bytes up to the next multiple of [`GATHERED`] on the device: so a write that begins oddly is the only one.
    fn room(&self) -> usize {
        let begin = self.window.span.start + self.window.at;
        GATHERED - (begin % GATHERED as u64) as usize - self.held
    }

    fn spill(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        self.window.write_all(&self.pages.get(GATHERED)[..held])
    }

    /// Writes what is left.
    ///
    /// # Errors
    /// When the device refuses.
    pub fn finish(mut self) -> io::Result<()> {
        self.spill()
    }
}

impl Write for Gather<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room());
        self.pages.get(GATHERED)[self.held..self.held + count].copy_from_slice(&bytes[..count]);
        self.held += count;
        if self.room() == 0 {
            self.spill()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spill()?;
        self.window.flush()
    }
}

impl Seek for Gather<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.spill()?;
        self.window.seek(to)
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
#[cfg(test)]
mod tests;
