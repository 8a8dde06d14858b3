//! The compression wrapper (apk-v3(5), "Compression").

use super::AdbError;
use crate::limits::Limits;
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};
use std::io::{self, Read, Write};

/// How a file is compressed. Each choice gives the same bytes on every machine: one thread, fixed levels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Plain `ADB.` stream.
    None,
    /// Raw deflate: without a level as `ADBd` at level 9, with one (1 to 9) as `ADBc`.
    Deflate(Option<u8>),
    /// Zstandard as `ADBc`: level 9 unless given (1 to 22).
    Zstd(Option<u8>),
}

impl Default for Compression {
    /// What apk's own tools write when nothing is asked for.
    fn default() -> Self {
        Compression::Deflate(None)
    }
}

impl std::str::FromStr for Compression {
    type Err = String;

    /// Reads apk's spelling: `none`, `deflate`, `deflate:N`, `zstd`, `zstd:N`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (method, level) = match text.split_once(':') {
            Some((method, level)) => {
                let level = level
                    .parse()
                    .map_err(|_| format!("compression level {level:?} is no number"))?;
                (method, Some(level))
            }
            None => (text, None),
        };
        let compression = match method {
            "none" if level.is_none() => Compression::None,
            "deflate" => Compression::Deflate(level),
            "zstd" => Compression::Zstd(level),
            _ => {
                return Err(format!(
                    "unknown compression {text:?} (none, deflate[:1-9], zstd[:1-22])"
                ));
            }
        };
        compression.check().map_err(|error| error.to_string())?;
        Ok(compression)
    }
}

impl Compression {
    fn check(self) -> Result<(), AdbError> {
        match self {
            Compression::Deflate(Some(level)) if !(1..=9).contains(&level) => {
                Err(AdbError::UnknownCompression(format!("deflate level {level}")))
            }
            Compression::Zstd(Some(level)) if !(1..=22).contains(&level) => {
                Err(AdbError::UnknownCompression(format!("zstd level {level}")))
            }
            _ => Ok(()),
        }
    }

    fn header(self) -> Vec<u8> {
        match self {
            Compression::None => Vec::new(),
            Compression::Deflate(None) => b"ADBd".to_vec(),
            Compression::Deflate(Some(level)) => vec![b'A', b'D', b'B', b'c', 1, level],
            Compression::Zstd(level) => vec![b'A', b'D', b'B', b'c', 2, level.unwrap_or(0)],
        }
    }

    /// The wrapper of a file, and how many bytes it takes.
    fn detect(bytes: &[u8]) -> Result<(Compression, usize), AdbError> {
        let Some(magic) = bytes.first_chunk::<4>() else {
            return Err(AdbError::UnexpectedEnd("the file magic"));
        };
        match magic {
            b"ADB." => Ok((Compression::None, 0)),
            b"ADBd" => Ok((Compression::Deflate(None), 4)),
            b"ADBc" => match (bytes.get(4), bytes.get(5)) {
                // The level is told for information only: what it says cannot matter to a reader, except
                // that it must be spelled again when the file is rewritten.
                (Some(0), Some(_)) => Ok((Compression::None, 6)),
                (Some(1), Some(&level)) => Ok((Compression::Deflate(level_of(level)), 6)),
                (Some(2), Some(&level)) => Ok((Compression::Zstd(level_of(level)), 6)),
                (Some(other), Some(_)) => Err(AdbError::UnknownCompression(format!(
                    "algorithm {other} of an ADBc wrapper"
                ))),
                _ => Err(AdbError::UnexpectedEnd("the compression header")),
            },
            [b'A', b'D', b'B', letter] => Err(AdbError::UnknownCompression(format!(
                "letter '{}'",
                letter.escape_ascii()
            ))),
            _ => Err(AdbError::NotAdb(magic.to_vec())),
        }
    }
}

fn level_of(byte: u8) -> Option<u8> {
    (byte != 0).then_some(byte)
}

enum Source<'a> {
    Plain(&'a [u8]),
    Inflate(Box<Inflate<'a>>),
    Zstd(Box<zstd::stream::read::Decoder<'static, &'a [u8]>>),
}

/// Raw deflate that knows whether the stream came to its end (flate2's readers take a cut stream for a
/// finished one).
struct Inflate<'a> {
    state: Decompress,
    input: &'a [u8],
    ended: bool,
}

impl Inflate<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, AdbError> {
        while !self.ended && !out.is_empty() {
            let (before_in, before_out) = (self.state.total_in(), self.state.total_out());
            let status = self
                .state
                .decompress(self.input, out, FlushDecompress::None)
                .map_err(|error| AdbError::Decompression {
                    method: "deflate",
                    problem: error.to_string(),
                })?;
            let consumed = (self.state.total_in() - before_in) as usize;
            let produced = (self.state.total_out() - before_out) as usize;
            self.input = &self.input[consumed..];
            self.ended = status == Status::StreamEnd;
            if produced > 0 {
                return Ok(produced);
            }
            if consumed == 0 && !self.ended {
                return Err(AdbError::UnexpectedEnd("the deflate stream"));
            }
        }
        Ok(0)
    }
}

/// The decompressed stream of a file, bounded.
pub(crate) struct Input<'a> {
    source: Source<'a>,
    pub(crate) compression: Compression,
    produced: u64,
    allowed: u64,
    ratio: u64,
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8], limits: &Limits) -> Result<Self, AdbError> {
        let (compression, skip) = Compression::detect(bytes)?;
        let rest = &bytes[skip..];
        let source = match compression {
            Compression::None => Source::Plain(rest),
            Compression::Deflate(_) => Source::Inflate(Box::new(Inflate {
                state: Decompress::new(false),
                input: rest,
                ended: false,
            })),
            Compression::Zstd(_) => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(rest).map_err(zstd_error)?;
                // The window of level 22; a stream may not make us allocate more.
                decoder.window_log_max(27).map_err(zstd_error)?;
                Source::Zstd(Box::new(decoder))
            }
        };
        let allowed = (bytes.len() as u64)
            .saturating_mul(limits.expansion_ratio)
            .max(limits.expansion_floor);
        Ok(Input {
            source,
            compression,
            produced: 0,
            allowed,
            ratio: limits.expansion_ratio,
        })
    }

    /// Reads some bytes; 0 only at the end.
    pub(crate) fn read(&mut self, out: &mut [u8]) -> Result<usize, AdbError> {
        let count = match &mut self.source {
            Source::Plain(bytes) => {
                let count = bytes.len().min(out.len());
                out[..count].copy_from_slice(&bytes[..count]);
                *bytes = &bytes[count..];
                return Ok(count);
            }
            Source::Inflate(inflate) => inflate.read(out)?,
            Source::Zstd(decoder) => decoder.read(out).map_err(zstd_error)?,
        };
        self.produced += count as u64;
        if self.produced > self.allowed {
            return Err(AdbError::Limit {
                what: format!(
                    "the compressed stream's expansion: more than {} times its size, and that",
                    self.ratio
                ),
                limit: self.allowed,
            });
        }
        Ok(count)
    }

    /// Reads until `out` is full; `false` if the stream was at its end already.
    pub(crate) fn fill(&mut self, out: &mut [u8], inside: &'static str) -> Result<bool, AdbError> {
        let mut done = 0;
        while done < out.len() {
            match self.read(&mut out[done..])? {
                0 if done == 0 => return Ok(false),
                0 => return Err(AdbError::UnexpectedEnd(inside)),
                count => done += count,
            }
        }
        Ok(true)
    }

    /// Checks that nothing is left, neither in the stream nor behind it.
    pub(crate) fn finish(&mut self) -> Result<(), AdbError> {
        if self.read(&mut [0])? != 0 {
            return Err(AdbError::TrailingBytes("the last block"));
        }
        match &self.source {
            Source::Inflate(inflate) if !inflate.input.is_empty() => {
                Err(AdbError::TrailingBytes("the deflate stream"))
            }
            _ => Ok(()),
        }
    }
}

fn zstd_error(error: io::Error) -> AdbError {
    if error.kind() == io::ErrorKind::UnexpectedEof {
        return AdbError::UnexpectedEnd("the zstd stream");
    }
    AdbError::Decompression {
        method: "zstd",
        problem: error.to_string(),
    }
}

enum Sink<W: Write> {
    Plain(W),
    Deflate { out: W, state: Box<Compress> },
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

/// Writes a file with its compression wrapper.
pub(crate) struct Output<W: Write> {
    sink: Sink<W>,
}

impl<W: Write> Output<W> {
    pub(crate) fn new(mut out: W, compression: Compression) -> Result<Self, AdbError> {
        compression.check()?;
        out.write_all(&compression.header()).map_err(AdbError::Write)?;
        let sink = match compression {
            Compression::None => Sink::Plain(out),
            Compression::Deflate(level) => Sink::Deflate {
                out,
                state: Box::new(Compress::new(
                    flate2::Compression::new(level.unwrap_or(9).into()),
                    false,
                )),
            },
            Compression::Zstd(level) => Sink::Zstd(
                zstd::stream::write::Encoder::new(out, level.unwrap_or(9).into()).map_err(AdbError::Write)?,
            ),
        };
        Ok(Output { sink })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), AdbError> {
        match &mut self.sink {
            Sink::Plain(out) => out.write_all(bytes),
            Sink::Deflate { out, state } => deflate(state, bytes, FlushCompress::None, out),
            Sink::Zstd(encoder) => encoder.write_all(bytes),
        }
        .map_err(AdbError::Write)
    }

    pub(crate) fn finish(self) -> Result<W, AdbError> {
        match self.sink {
            Sink::Plain(mut out) => out.flush().map(|()| out),
            Sink::Deflate { mut out, mut state } => deflate(&mut state, &[], FlushCompress::Finish, &mut out)
                .and_then(|()| out.flush())
                .map(|()| out),
            Sink::Zstd(encoder) => encoder.finish().and_then(|mut out| out.flush().map(|()| out)),
        }
        .map_err(AdbError::Write)
    }
}

fn deflate(
    state: &mut Compress,
    mut input: &[u8],
    flush: FlushCompress,
    out: &mut impl Write,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let (before_in, before_out) = (state.total_in(), state.total_out());
        let status = state
            .compress(input, &mut buffer, flush)
            .map_err(io::Error::other)?;
        input = &input[(state.total_in() - before_in) as usize..];
        let produced = (state.total_out() - before_out) as usize;
        out.write_all(&buffer[..produced])?;
        let finishing = matches!(flush, FlushCompress::Finish);
        if status == Status::StreamEnd || (!finishing && input.is_empty() && produced < buffer.len()) {
            return Ok(());
        }
    }
}
