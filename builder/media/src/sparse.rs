//! Writing blocks at places of an output, without the zeros that are there already.

use std::io::{self, Seek, SeekFrom, Write};
use std::ops::Range;

/// Bytes gathered before they are written.
const GATHER: usize = 1 << 20;
/// From here on bytes are written from where they are.
const DIRECT: usize = 256 << 10;
/// The unit in which zeros are looked for.
const ZEROS: [u8; 4096] = [0; 4096];

/// Whether every byte is zero.
pub(crate) fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// Writes at places of `out`, gathers what follows on, and leaves blocks of zeros out where the output has
/// them already.
pub(crate) struct Placed<'o, W> {
    out: &'o mut W,
    /// Where place 0 is.
    base: u64,
    /// Bytes of a block.
    block: u64,
    skip_zeros: bool,
    gathered: Vec<u8>,
    /// Where the gathered bytes go.
    at: u64,
    /// Where the output stands.
    position: Option<u64>,
}

impl<'o, W: Write + Seek> Placed<'o, W> {
    /// Places are counted from `base` of `out`. With `skip_zeros` blocks of zeros are not written.
    pub(crate) fn new(out: &'o mut W, base: u64, block: u32, skip_zeros: bool) -> Placed<'o, W> {
        Placed {
            out,
            base,
            block: u64::from(block),
            skip_zeros,
            gathered: Vec::new(),
            at: 0,
            position: None,
        }
    }

    /// Writes `bytes` at `place`.
    pub(crate) fn write(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        if place != self.at + self.gathered.len() as u64 {
            self.flush()?;
            self.at = place;
        }
        if bytes.len() >= DIRECT {
            self.flush()?;
            self.put(place, bytes)?;
            self.at = place + bytes.len() as u64;
            return Ok(());
        }
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= GATHER {
            self.flush()?;
        }
        Ok(())
    }

    /// Writes `bytes` at `place` and zeros behind them up to the next block.
    pub(crate) fn write_padded(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        self.write(place, bytes)?;
        let end = place + bytes.len() as u64;
        let padding = end.next_multiple_of(self.block) - end;
        self.write(end, &ZEROS[..padding as usize])
    }

    /// Makes `range` zeros.
    pub(crate) fn zero(&mut self, range: Range<u64>) -> io::Result<()> {
        if self.skip_zeros || range.is_empty() {
            return Ok(());
        }
        self.flush()?;
        let zeros = vec![0; (range.end - range.start).min(GATHER as u64) as usize];
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(zeros.len() as u64);
            self.put(at, &zeros[..len as usize])?;
            at += len;
        }
        Ok(())
    }

    /// Writes a zero as the last byte before `end`, which gives a file its length. To be called before anything
    /// is written there.
    pub(crate) fn extend_to(&mut self, end: u64) -> io::Result<()> {
        self.flush()?;
        if self.skip_zeros && end > 0 {
            self.seek(end - 1)?;
            self.out.write_all(&[0])?;
            self.position = Some(end);
        }
        Ok(())
    }

    /// Hands on what is gathered, and flushes the output.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.out.flush()
    }

    /// Hands on what is gathered and everything before it, so that it lies in the output before what comes
    /// next.
    pub(crate) fn barrier(&mut self) -> io::Result<()> {
        self.flush()?;
        self.out.flush()
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let mut gathered = std::mem::take(&mut self.gathered);
        let place = self.at;
        self.put(place, &gathered)?;
        self.at = place + gathered.len() as u64;
        gathered.clear();
        self.gathered = gathered;
        Ok(())
    }

    fn put(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        if !self.skip_zeros {
            return self.put_all(place, bytes);
        }
        let mut at = 0;
        let mut data: Option<usize> = None;
        while at < bytes.len() {
            let here = place + at as u64;
            let len = ((self.block - here % self.block) as usize).min(bytes.len() - at);
            if is_zero(&bytes[at..at + len]) {
                if let Some(start) = data.take() {
                    self.put_all(place + start as u64, &bytes[start..at])?;
                }
            } else {
                data.get_or_insert(at);
            }
            at += len;
        }
        match data {
            Some(start) => self.put_all(place + start as u64, &bytes[start..]),
            None => Ok(()),
        }
    }

    fn put_all(&mut self, place: u64, bytes: &[u8]) -> io::Result<()> {
        self.seek(place)?;
        self.position = None;
        self.out.write_all(bytes)?;
        self.position = Some(place + bytes.len() as u64);
        Ok(())
    }

    fn seek(&mut self, place: u64) -> io::Result<()> {
        if self.position == Some(place) {
            return Ok(());
        }
        let absolute = self.base.checked_add(place).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "a place beyond what 64 bits address")
        })?;
        self.out.seek(SeekFrom::Start(absolute))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use proptest::prelude::*;

    use super::*;

    /// Counts what reaches it.
    struct Counted(Cursor<Vec<u8>>, usize);

    impl Write for Counted {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1 += bytes.len();
            self.0.write(bytes)
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Counted {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn zeros_are_left_out_where_they_are_there() {
        for (skip, written) in [(true, 1024 + 1), (false, 3 * 1024 + 1024)] {
            let mut out = Counted(Cursor::new(Vec::new()), 0);
            let mut placed = Placed::new(&mut out, 0, 1024, skip);
            let mut bytes = vec![0; 3 * 1024];
            bytes[1500] = 1;
            placed.extend_to(4 * 1024).unwrap();
            placed.write(0, &bytes).unwrap();
            placed.zero(3 * 1024..4 * 1024).unwrap();
            placed.finish().unwrap();
            bytes.resize(4 * 1024, 0);
            assert_eq!(out.0.into_inner(), bytes);
            assert_eq!(out.1, written);
        }
    }

    proptest! {
        #[test]
        fn writes_land_where_they_belong(
            writes in proptest::collection::vec((0u64..40, 0usize..3000, any::<u8>()), 0..20),
            skip in any::<bool>(),
            base in 0u64..3,
        ) {
            let end = 64 * 512;
            let mut expected = vec![0; end];
            let mut out = Cursor::new(vec![0; end + base as usize * 512]);
            let mut placed = Placed::new(&mut out, base * 512, 512, skip);
            let mut taken = [false; 64];
            for (block, len, byte) in writes {
                let blocks = block as usize..(block as usize + len.div_ceil(512)).min(64);
                // Without zeros being written, nothing may be written twice.
                if taken[blocks.clone()].iter().any(|&taken| taken) {
                    continue;
                }
                taken[blocks].fill(true);
                let at = block as usize * 512;
                expected[at..at + len].fill(byte);
                placed.write_padded(block * 512, &vec![byte; len]).unwrap();
            }
            placed.finish().unwrap();
            prop_assert_eq!(&out.into_inner()[base as usize * 512..], &expected[..]);
        }
    }
}
