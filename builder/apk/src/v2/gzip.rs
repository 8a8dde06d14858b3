//! Gzip members (RFC 1952), one after another, with their exact bytes.

use flate2::{Crc, Decompress, FlushDecompress, Status};

use super::V2Error;
use crate::limits::Limits;

/// One member being decompressed.
pub(super) struct Member<'a> {
    part: &'static str,
    whole: &'a [u8],
    /// What the decompressor has not seen.
    rest: &'a [u8],
    state: Box<Decompress>,
    crc: Crc,
    produced: u64,
    allowed: u64,
    ratio: u64,
    ended: bool,
}

impl<'a> Member<'a> {
    /// Starts to read the member at the front of `bytes`.
    pub fn open(bytes: &'a [u8], part: &'static str, limits: &Limits) -> Result<Member<'a>, V2Error> {
        let damaged = |problem: &str| V2Error::Gzip {
            part,
            problem: problem.to_owned(),
        };
        let cut = || damaged("the header is cut short");
        let [0x1f, 0x8b, method, flags, _, _, _, _, _, _] = bytes.first_chunk::<10>().ok_or_else(cut)? else {
            return Err(damaged("it does not start as gzip does"));
        };
        if *method != 8 || flags & 0xe0 != 0 {
            return Err(damaged("its method or flags are unknown"));
        }
        let mut rest = &bytes[10..];
        if flags & 4 != 0 {
            let length = rest.first_chunk::<2>().ok_or_else(cut)?;
            let length = usize::from(u16::from_le_bytes(*length));
            rest = rest.get(2 + length..).ok_or_else(cut)?;
        }
        // Name and comment end with a NUL.
        for flag in [8, 16] {
            if flags & flag != 0 {
                let end = rest.iter().position(|&byte| byte == 0).ok_or_else(cut)?;
                rest = &rest[end + 1..];
            }
        }
        if flags & 2 != 0 {
            rest = rest.get(2..).ok_or_else(cut)?;
        }
        let allowed = (bytes.len() as u64)
            .saturating_mul(limits.expansion_ratio)
            .max(limits.expansion_floor);
        Ok(Member {
            part,
            whole: bytes,
            rest,
            state: Box::new(Decompress::new(false)),
            crc: Crc::new(),
            produced: 0,
            allowed,
            ratio: limits.expansion_ratio,
            ended: false,
        })
    }

    fn damaged(&self, problem: impl Into<String>) -> V2Error {
        V2Error::Gzip {
            part: self.part,
            problem: problem.into(),
        }
    }

    /// Reads some bytes; 0 only at the end, when the check sum was right.
    pub fn read(&mut self, out: &mut [u8]) -> Result<usize, V2Error> {
        while !self.ended && !out.is_empty() {
            let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(self.rest, out, FlushDecompress::None)
                .map_err(|error| self.damaged(error.to_string()))?;
            let consumed = (self.state.total_in() - before_in) as usize;
            let produced = (self.state.total_out() - before_out) as usize;
            self.rest = &self.rest[consumed..];
            self.crc.update(&out[..produced]);
            self.produced += produced as u64;
            if self.produced > self.allowed {
                let what = format!(
                    "the expansion of the {} member: more than {} times its size, and that",
                    self.part, self.ratio
                );
                return Err(V2Error::Limit {
                    what,
                    limit: self.allowed,
                });
            }
            if status == Status::StreamEnd {
                self.end()?;
            }
            if produced > 0 {
                return Ok(produced);
            }
            if consumed == 0 && !self.ended {
                return Err(self.damaged("it is cut short"));
            }
        }
        Ok(0)
    }

    fn end(&mut self) -> Result<(), V2Error> {
        let Some((tail, rest)) = self.rest.split_first_chunk::<8>() else {
            return Err(self.damaged("its check sum is cut short"));
        };
        let number = |at: usize| u32::from_le_bytes([tail[at], tail[at + 1], tail[at + 2], tail[at + 3]]);
        if number(0) != self.crc.sum() || number(4) != self.produced as u32 {
            return Err(self.damaged("its check sum is wrong"));
        }
        self.rest = rest;
        self.ended = true;
        Ok(())
    }

    /// Reads until `out` is full or the member ends; gives the count.
    pub fn fill(&mut self, out: &mut [u8]) -> Result<usize, V2Error> {
        let mut done = 0;
        while done < out.len() {
            match self.read(&mut out[done..])? {
                0 => break,
                count => done += count,
            }
        }
        Ok(done)
    }

    /// The bytes behind the member, which must have been read to its end.
    pub fn finish(mut self) -> Result<&'a [u8], V2Error> {
        if self.read(&mut [0])? != 0 {
            return Err(self.damaged("it goes on after its archive"));
        }
        Ok(self.rest)
    }

    /// The compressed bytes of the member and what is behind them; reads it to its end.
    pub fn split(mut self) -> Result<(&'a [u8], &'a [u8]), V2Error> {
        let mut buffer = vec![0; 64 << 10];
        while self.read(&mut buffer)? != 0 {}
        let length = self.whole.len() - self.rest.len();
        Ok(self.whole.split_at(length))
    }
}
