//! A disk in memory that fails where it is told to.

use super::{BlockDevice, outside};
use std::collections::BTreeMap;
use std::io;

const PAGE: usize = 4096;

/// What happens at a write.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fault {
    /// That write and every later call fail; what came before is on the disk.
    Stop(u64),
    /// As `Stop`, but of what was not flushed only some sectors are on the disk: the power went.
    PowerCut(u64),
    /// Only that write fails, halfway.
    Once(u64),
}

/// Sparse, so that large disks cost what is written.
#[derive(Clone, Default)]
pub(crate) struct Fake {
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
    size: u64,
    sector: u32,
    /// Sectors written since the last flush, with what was there.
    unflushed: Vec<(u64, Vec<u8>)>,
    pub fault: Option<Fault>,
    pub writes: u64,
    pub flushes: u64,
    dead: bool,
}

impl Fake {
    pub fn new(size: u64, sector: u32) -> Fake {
        Fake {
            size,
            sector,
            ..Fake::default()
        }
    }

    fn put(&mut self, mut offset: u64, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let within = (offset % PAGE as u64) as usize;
            let count = bytes.len().min(PAGE - within);
            let number = offset / PAGE as u64;
            if bytes[..count].iter().any(|&byte| byte != 0) || self.pages.contains_key(&number) {
                let page = self.pages.entry(number).or_insert_with(|| Box::new([0; PAGE]));
                page[within..within + count].copy_from_slice(&bytes[..count]);
            }
            offset += count as u64;
            bytes = &bytes[count..];
        }
    }

    fn get(&self, mut offset: u64, mut buffer: &mut [u8]) {
        while !buffer.is_empty() {
            let within = (offset % PAGE as u64) as usize;
            let count = buffer.len().min(PAGE - within);
            match self.pages.get(&(offset / PAGE as u64)) {
                Some(page) => buffer[..count].copy_from_slice(&page[within..within + count]),
                None => buffer[..count].fill(0),
            }
            offset += count as u64;
            buffer = &mut buffer[count..];
        }
    }

    pub fn bytes(&self, offset: u64, size: usize) -> Vec<u8> {
        let mut bytes = vec![0; size];
        self.get(offset, &mut bytes);
        bytes
    }

    /// The machine is on again and the disk is whole.
    pub fn revive(&mut self) {
        self.fault = None;
        self.dead = false;
        self.unflushed.clear();
        self.writes = 0;
    }

    /// Pages that are not zero, for comparing whole disks.
    pub fn content(&self) -> BTreeMap<u64, Vec<u8>> {
        let filled = self
            .pages
            .iter()
            .filter(|(_, page)| page.iter().any(|&byte| byte != 0));
        filled
            .map(|(number, page)| (*number * PAGE as u64, page.to_vec()))
            .collect()
    }

    fn die(&mut self) -> io::Error {
        self.dead = true;
        io::Error::other("the disk does not answer")
    }

    /// Undoes some of what was not flushed, latest first, as it pleases the disk: every third sector.
    fn lose(&mut self) {
        let unflushed = std::mem::take(&mut self.unflushed);
        for (at, (offset, old)) in unflushed.iter().enumerate().rev() {
            if (offset / 512 + at as u64).is_multiple_of(3) {
                self.put(*offset, old);
            }
        }
    }
}

impl BlockDevice for Fake {
    fn size(&self) -> u64 {
        self.size
    }

    fn sector(&self) -> u32 {
        self.sector
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.dead {
            return Err(self.die());
        }
        if offset + buffer.len() as u64 > self.size {
            return Err(outside());
        }
        self.get(offset, buffer);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if self.dead {
            return Err(self.die());
        }
        if offset + bytes.len() as u64 > self.size {
            return Err(outside());
        }
        self.writes += 1;
        match self.fault {
            Some(Fault::Stop(at)) if self.writes == at => return Err(self.die()),
            Some(Fault::Once(at)) if self.writes == at => {
                self.put(offset, &bytes[..bytes.len() / 2]);
                return Err(io::Error::other("that sector is bad"));
            }
            Some(Fault::PowerCut(at)) => {
                for (number, part) in bytes.chunks(512).enumerate() {
                    let at = offset + 512 * number as u64;
                    let old = self.bytes(at, part.len());
                    self.unflushed.push((at, old));
                }
                self.put(offset, bytes);
                if self.writes == at {
                    self.lose();
                    return Err(self.die());
                }
                return Ok(());
            }
            _ => {}
        }
        self.put(offset, bytes);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.dead {
            return Err(self.die());
        }
        self.flushes += 1;
        self.unflushed.clear();
        Ok(())
    }
}
