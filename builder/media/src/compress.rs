//! Compressed streams: gzip, xz and zstd, with settings that fix every byte.
//!
//! The same input and the same [`Compression`] give the same bytes on every machine. For that, whatever a
//! library would take from the machine is set here: gzip's time and system fields, xz's block size, and
//! whether the encoders of xz and zstd that split their input are used at all. Those always are, also with
//! one thread, so that the number of threads changes the time that is taken and never the output.
//!
//! What Linux can unpack as an initramfs is narrower than the formats: its xz decoder knows the checks none
//! and CRC32 only and needs `CONFIG_XZ_DEC_X86` for the x86 filter, its zstd decoder reads one frame with a
//! window of at most 128 MiB. [`Compression::xz_for_kernel`] and [`Compression::zstd`] stay inside that.
//!
//! Sources: RFC 1952 (gzip), the .xz file format 1.2.1, RFC 8878 (zstd).

use std::io::{self, BufRead, Read, Write};

use liblzma::stream::{Check, Filters, LzmaOptions, MtStreamBuilder, Stream};
use thiserror::Error;

mod pieces;

pub use pieces::Pieces;

/// The instruction set whose branch addresses xz's filter makes absolute, which lets code compress some
/// 5 to 10 % better.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Branches {
    /// No filter.
    None,
    /// i386 and x86-64.
    X86,
    /// AArch64. Linux unpacks it since 6.11.
    Arm64,
    /// RISC-V. Linux unpacks it since 6.11.
    RiscV,
    /// PowerPC, big-endian instructions.
    PowerPc,
}

/// The integrity check of an xz stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum XzCheck {
    /// CRC32, the one that Linux knows.
    Crc32,
    /// CRC64, what `xz` takes by itself.
    Crc64,
}

/// A format and its settings. Threads are not among them: see [`Encoder::new`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Compression {
    /// The bytes as they are.
    None,
    /// One gzip member without name, with time 0 and system 255 ("unknown").
    Gzip {
        /// 0 (stored) to 9.
        level: u32,
    },
    /// One xz stream.
    Xz {
        /// 0 to 9.
        preset: u32,
        /// Whether to search longer, as `xz -e`.
        extreme: bool,
        /// Bytes of the dictionary, 4096 to 1.5 GiB; what unpacks needs as much memory.
        dictionary: u32,
        /// The filter before LZMA2.
        branches: Branches,
        /// The check.
        check: XzCheck,
        /// Uncompressed bytes per block: what threads share out. 0 means three dictionaries, at least 1 MiB.
        block: u64,
    },
    /// One zstd frame with a checksum.
    Zstd {
        /// 1 to 22.
        level: i32,
        /// Base-2 logarithm of the window, 10 to 27; what unpacks needs as much memory. `None` leaves it
        /// to the level.
        window_log: Option<u32>,
    },
}

impl Compression {
    /// xz as Linux unpacks it: CRC32, a dictionary of 1 MiB, in blocks of 16 MiB.
    pub fn xz_for_kernel(branches: Branches) -> Compression {
        Compression::Xz {
            preset: 6,
            extreme: false,
            dictionary: 1 << 20,
            branches,
            check: XzCheck::Crc32,
            block: 16 << 20,
        }
    }

    /// zstd at `level` with the level's window.
    pub fn zstd(level: i32) -> Compression {
        Compression::Zstd {
            level,
            window_log: None,
        }
    }

    /// The format.
    pub fn format(&self) -> Option<Format> {
        match self {
            Compression::None => None,
            Compression::Gzip { .. } => Some(Format::Gzip),
            Compression::Xz { .. } => Some(Format::Xz),
            Compression::Zstd { .. } => Some(Format::Zstd),
        }
    }
}

/// A compressed format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// RFC 1952.
    Gzip,
    /// The .xz file format.
    Xz,
    /// RFC 8878.
    Zstd,
}

impl Format {
    /// The format whose magic number `bytes` begin with.
    pub fn detect(bytes: &[u8]) -> Option<Format> {
        if bytes.starts_with(&[0x1f, 0x8b]) {
            Some(Format::Gzip)
        } else if bytes.starts_with(b"\xfd7zXZ\0") {
            Some(Format::Xz)
        } else if bytes.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            Some(Format::Zstd)
        } else {
            None
        }
    }

    /// The name of the format, which is also that of the program and the file name extension but for
    /// `gz` and `zst`.
    pub fn name(self) -> &'static str {
        match self {
            Format::Gzip => "gzip",
            Format::Xz => "xz",
            Format::Zstd => "zstd",
        }
    }
}

/// What went wrong with a compressed stream.
#[derive(Debug, Error)]
pub enum CompressError {
    /// Settings that the format does not have.
    #[error("setting up {format} compression: {reason}")]
    Settings {
        /// The format.
        format: &'static str,
        /// What is wrong with them.
        reason: String,
    },
    /// Writing, or the encoder itself, failed.
    #[error("compressing with {format}: {source}")]
    Encode {
        /// The format.
        format: &'static str,
        /// Why.
        source: io::Error,
    },
    /// No format that we know begins like this.
    #[error("the data begin like no gzip, xz or zstd stream")]
    Unknown,
    /// The stream is damaged or cut short.
    #[error("unpacking {format}: {source}")]
    Decode {
        /// The format.
        format: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The stream holds more than the caller was ready to take.
    #[error("the {format} stream unpacks to more than the {limit} bytes allowed")]
    TooLarge {
        /// The format.
        format: &'static str,
        /// The most that was allowed.
        limit: u64,
    },
}

/// Compresses what is written to it. [`Encoder::finish`] must be called: dropped before, the stream stays cut.
pub struct Encoder<W: Write> {
    inner: Inner<W>,
}

enum Inner<W: Write> {
    Plain(W),
    Gzip(flate2::write::GzEncoder<W>),
    Xz(liblzma::write::XzEncoder<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Starts a stream on `out`. `threads` is how many threads may work (0 is taken for 1); it never changes
    /// the output. gzip always takes the caller's.
    ///
    /// # Errors
    /// When the settings are out of the format's range.
    pub fn new(out: W, compression: &Compression, threads: u32) -> Result<Encoder<W>, CompressError> {
        let threads = threads.clamp(1, 64);
        let inner = match *compression {
            Compression::None => Inner::Plain(out),
            Compression::Gzip { level } => {
                check_range("gzip", "level", level.into(), 0, 9)?;
                Inner::Gzip(
                    flate2::GzBuilder::new()
                        .mtime(0)
                        .operating_system(255)
                        .write(out, flate2::Compression::new(level)),
                )
            }
            Compression::Xz {
                preset,
                extreme,
                dictionary,
                branches,
                check,
                block,
            } => Inner::Xz(liblzma::write::XzEncoder::new_stream(
                out,
                xz_stream(preset, extreme, dictionary, branches, check, block, threads)?,
            )),
            Compression::Zstd { level, window_log } => {
                check_range("zstd", "level", level.into(), 1, 22)?;
                let settings = |source: io::Error| CompressError::Settings {
                    format: "zstd",
                    reason: source.to_string(),
                };
                let mut encoder = zstd::stream::write::Encoder::new(out, level).map_err(settings)?;
                // The encoder that splits its input cuts at places that do not depend on the number of
                // its workers; the one without workers would give other bytes.
                encoder.multithread(threads).map_err(settings)?;
                encoder.include_checksum(true).map_err(settings)?;
                if let Some(window_log) = window_log {
                    check_range("zstd", "window", window_log.into(), 10, 27)?;
                    encoder.window_log(window_log).map_err(settings)?;
                }
                Inner::Zstd(encoder)
            }
        };
        Ok(Encoder { inner })
    }

    /// Ends the stream and gives the output back.
    ///
    /// # Errors
    /// When the output refuses the rest.
    pub fn finish(self) -> io::Result<W> {
        match self.inner {
            Inner::Plain(out) => Ok(out),
            Inner::Gzip(encoder) => encoder.finish(),
            Inner::Xz(encoder) => encoder.finish(),
            Inner::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.inner {
            Inner::Plain(out) => out.write(bytes),
            Inner::Gzip(encoder) => encoder.write(bytes),
            Inner::Xz(encoder) => encoder.write(bytes),
            Inner::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Hands on what is ready. Unlike the libraries' own, this does not cut the stream, which would make the
    /// output depend on when it is called.
    fn flush(&mut self) -> io::Result<()> {
        match &mut self.inner {
            Inner::Plain(out) => out.flush(),
            Inner::Gzip(_) | Inner::Xz(_) | Inner::Zstd(_) => Ok(()),
        }
    }
}

fn check_range(
    format: &'static str,
    what: &str,
    value: i64,
    least: i64,
    most: i64,
) -> Result<(), CompressError> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    Err(CompressError::Settings {
        format,
        reason: format!("the {what} {value} is not within {least} to {most}"),
    })
}

fn xz_stream(
    preset: u32,
    extreme: bool,
    dictionary: u32,
    branches: Branches,
    check: XzCheck,
    block: u64,
    threads: u32,
) -> Result<Stream, CompressError> {
    check_range("xz", "block", block.min(i64::MAX as u64) as i64, 0, 1 << 40)?;
    let filters = xz_filters(preset, extreme, dictionary, branches)?;
    let block = match block {
        0 => (u64::from(dictionary) * 3).max(1 << 20),
        block => block,
    };
    MtStreamBuilder::new()
        .filters(filters)
        .check(check.into())
        .block_size(block)
        .threads(threads)
        .encoder()
        .map_err(xz_settings)
}

impl From<XzCheck> for Check {
    fn from(check: XzCheck) -> Check {
        match check {
            XzCheck::Crc32 => Check::Crc32,
            XzCheck::Crc64 => Check::Crc64,
        }
    }
}

fn xz_settings(error: liblzma::stream::Error) -> CompressError {
    CompressError::Settings {
        format: "xz",
        reason: error.to_string(),
    }
}

fn xz_filters(
    preset: u32,
    extreme: bool,
    dictionary: u32,
    branches: Branches,
) -> Result<Filters, CompressError> {
    const EXTREME: u32 = 1 << 31;
    check_range("xz", "preset", preset.into(), 0, 9)?;
    check_range("xz", "dictionary", dictionary.into(), 4096, 3 << 29)?;
    let mut options =
        LzmaOptions::new_preset(preset | if extreme { EXTREME } else { 0 }).map_err(xz_settings)?;
    options.dict_size(dictionary);
    let mut filters = Filters::new();
    match branches {
        Branches::None => {}
        Branches::X86 => {
            filters.x86();
        }
        Branches::Arm64 => {
            filters.arm64();
        }
        Branches::RiscV => {
            filters.riscv();
        }
        Branches::PowerPc => {
            filters.powerpc();
        }
    }
    filters.lzma2(&options);
    Ok(filters)
}

/// Compresses `bytes` at once; `threads` as in [`Encoder::new`].
///
/// # Errors
/// When the settings are out of the format's range.
pub fn compress(bytes: &[u8], compression: &Compression, threads: u32) -> Result<Vec<u8>, CompressError> {
    let encode = |source| CompressError::Encode {
        format: compression.format().map_or("nothing", Format::name),
        source,
    };
    let mut encoder = Encoder::new(Vec::new(), compression, threads)?;
    encoder.write_all(bytes).map_err(encode)?;
    encoder.finish().map_err(encode)
}

/// Compresses everything that `input` gives to `out`, as a raw disk image becomes `.img.gz`, and gives the output back with the
/// number of bytes read. `threads` as in [`Encoder::new`]; `progress` gets the number of bytes read since its last call.
///
/// # Errors
/// When the settings are out of the format's range, or either side refuses.
pub fn stream<W: Write>(
    input: &mut impl Read,
    out: W,
    compression: &Compression,
    threads: u32,
    progress: &mut dyn FnMut(u64),
) -> Result<(W, u64), CompressError> {
    let encode = |source| CompressError::Encode {
        format: compression.format().map_or("nothing", Format::name),
        source,
    };
    let mut encoder = Encoder::new(out, compression, threads)?;
    let mut buffer = vec![0; 1 << 20];
    let mut total = 0;
    loop {
        let read = match input.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(encode(error)),
        };
        encoder.write_all(&buffer[..read]).map_err(encode)?;
        total += read as u64;
        progress(read as u64);
    }
    Ok((encoder.finish().map_err(encode)?, total))
}

/// Unpacks the gzip, xz or zstd stream that `bytes` consist of, to at most `limit` bytes.
///
/// # Errors
/// When the format is none of these, the stream is damaged, cut or larger than `limit`, or something follows
/// it.
pub fn decompress(bytes: &[u8], limit: u64) -> Result<Vec<u8>, CompressError> {
    let (unpacked, used) = decompress_prefix(bytes, limit)?;
    if used != bytes.len() {
        return Err(CompressError::Decode {
            format: Format::detect(bytes).map_or("data", Format::name),
            source: io::Error::new(
                io::ErrorKind::InvalidData,
                format!("{} bytes follow the end of the stream", bytes.len() - used),
            ),
        });
    }
    Ok(unpacked)
}

/// Unpacks the one stream that `bytes` begin with, to at most `limit` bytes, and says how many bytes of the
/// input it took: as Linux reads the segments of an initramfs.
///
/// # Errors
/// As [`decompress`], but what follows the stream is not looked at.
pub fn decompress_prefix(bytes: &[u8], limit: u64) -> Result<(Vec<u8>, usize), CompressError> {
    let format = Format::detect(bytes).ok_or(CompressError::Unknown)?;
    let decode = |source| CompressError::Decode {
        format: format.name(),
        source,
    };
    match format {
        Format::Gzip => {
            let mut decoder = flate2::bufread::GzDecoder::new(bytes);
            let unpacked = read_limited(format, &mut decoder, limit)?;
            Ok((unpacked, bytes.len() - decoder.into_inner().len()))
        }
        Format::Xz => {
            // The decoder's own memory is bounded too: a dictionary of 1.5 GiB is announced by 1 byte.
            let memory = limit.saturating_mul(2).clamp(64 << 20, 2 << 30);
            let stream = Stream::new_stream_decoder(memory, 0).map_err(|error| decode(error.into()))?;
            let mut decoder = liblzma::bufread::XzDecoder::new_stream(bytes, stream);
            let unpacked = read_limited(format, &mut decoder, limit)?;
            Ok((unpacked, decoder.total_in() as usize))
        }
        Format::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)
                .map_err(decode)?
                .single_frame();
            decoder.window_log_max(27).map_err(decode)?;
            let unpacked = read_limited(format, &mut decoder, limit)?;
            let mut rest = decoder.finish();
            let rest = rest.fill_buf().map_err(decode)?.len();
            Ok((unpacked, bytes.len() - rest))
        }
    }
}

fn read_limited(format: Format, decoder: &mut impl Read, limit: u64) -> Result<Vec<u8>, CompressError> {
    let mut unpacked = Vec::new();
    decoder
        .take(limit.saturating_add(1))
        .read_to_end(&mut unpacked)
        .map_err(|source| CompressError::Decode {
            format: format.name(),
            source,
        })?;
    if unpacked.len() as u64 > limit {
        return Err(CompressError::TooLarge {
            format: format.name(),
            limit,
        });
    }
    Ok(unpacked)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes that compress somewhat, with places where an x86 filter finds something to do.
    fn sample(len: usize) -> Vec<u8> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut bytes = Vec::with_capacity(len);
        while bytes.len() < len {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.push(0xe8);
            bytes.extend_from_slice(&(state as u32 % 4096).to_le_bytes());
            bytes.extend_from_slice(b"some text that comes again and again ");
            bytes.extend_from_slice(&state.to_le_bytes()[..3]);
        }
        bytes.truncate(len);
        bytes
    }

    fn all() -> Vec<Compression> {
        let mut all = vec![
            Compression::Gzip { level: 0 },
            Compression::Gzip { level: 6 },
            Compression::Gzip { level: 9 },
            Compression::zstd(1),
            Compression::zstd(3),
            Compression::zstd(12),
            Compression::Zstd {
                level: 19,
                window_log: Some(20),
            },
            Compression::Xz {
                preset: 1,
                extreme: true,
                dictionary: 4096,
                branches: Branches::None,
                check: XzCheck::Crc64,
                block: 0,
            },
        ];
        for branches in [
            Branches::None,
            Branches::X86,
            Branches::Arm64,
            Branches::RiscV,
            Branches::PowerPc,
        ] {
            all.push(Compression::xz_for_kernel(branches));
        }
        all
    }

    #[test]
    fn every_format_reads_back() {
        for compression in all() {
            for len in [0, 1, 7, 100_000] {
                let bytes = sample(len);
                let packed = compress(&bytes, &compression, 1).unwrap();
                assert_eq!(Format::detect(&packed), compression.format());
                assert_eq!(decompress(&packed, len as u64).unwrap(), bytes, "{compression:?}");
            }
        }
    }

    #[test]
    fn a_stream_is_the_same_as_bytes_at_once() {
        let bytes = sample(2_500_000);
        for compression in [
            Compression::None,
            Compression::Gzip { level: 1 },
            Compression::zstd(1),
        ] {
            let mut read = 0;
            let (streamed, total) = stream(&mut &bytes[..], Vec::new(), &compression, 2, &mut |len| {
                read += len
            })
            .unwrap();
            assert_eq!((total, read), (bytes.len() as u64, bytes.len() as u64));
            assert!(streamed == compress(&bytes, &compression, 1).unwrap());
        }
    }

    #[test]
    fn the_number_of_threads_changes_nothing() {
        let bytes = sample(9 << 20);
        let splitting = [
            Compression::zstd(1),
            Compression::zstd(3),
            Compression::Zstd {
                level: 6,
                window_log: Some(18),
            },
            Compression::Xz {
                preset: 0,
                extreme: false,
                dictionary: 1 << 18,
                branches: Branches::X86,
                check: XzCheck::Crc32,
                block: 1 << 20,
            },
        ];
        for compression in splitting {
            let one = compress(&bytes, &compression, 1).unwrap();
            for threads in [0, 2, 3, 5] {
                assert!(
                    compress(&bytes, &compression, threads).unwrap() == one,
                    "{compression:?} {threads}"
                );
            }
        }
    }

    #[test]
    fn the_size_of_writes_and_flushes_change_nothing() {
        let bytes = sample(3 << 20);
        for compression in [
            Compression::Gzip { level: 1 },
            Compression::zstd(1),
            Compression::Xz {
                preset: 0,
                extreme: false,
                dictionary: 1 << 16,
                branches: Branches::None,
                check: XzCheck::Crc32,
                block: 1 << 20,
            },
        ] {
            let whole = compress(&bytes, &compression, 1).unwrap();
            let mut encoder = Encoder::new(Vec::new(), &compression, 2).unwrap();
            for chunk in bytes.chunks(10_007) {
                encoder.write_all(chunk).unwrap();
                encoder.flush().unwrap();
            }
            assert!(encoder.finish().unwrap() == whole, "{compression:?}");
        }
    }

    #[test]
    fn a_stream_ends_where_it_ends() {
        let bytes = sample(50_000);
        for compression in all() {
            let packed = compress(&bytes, &compression, 1).unwrap();
            let mut with_tail = packed.clone();
            with_tail.extend_from_slice(b"\0\0\0\x00070701 and more");
            let (unpacked, used) = decompress_prefix(&with_tail, 1 << 20).unwrap();
            assert_eq!(unpacked, bytes);
            assert_eq!(used, packed.len(), "{compression:?}");
            assert!(matches!(
                decompress(&with_tail, 1 << 20),
                Err(CompressError::Decode { .. })
            ));
        }
    }

    #[test]
    fn limits_cuts_and_damage_are_errors() {
        let bytes = sample(50_000);
        for compression in all() {
            let packed = compress(&bytes, &compression, 1).unwrap();
            assert!(matches!(
                decompress(&packed, 49_999),
                Err(CompressError::TooLarge { limit: 49_999, .. })
            ));
            for cut in [packed.len() - 1, packed.len() / 2, 12] {
                assert!(
                    decompress(&packed[..cut], 1 << 20).is_err(),
                    "{compression:?} {cut}"
                );
            }
            let mut damaged = packed.clone();
            let middle = damaged.len() / 2;
            damaged[middle] ^= 0x10;
            assert!(decompress(&damaged, 1 << 20).is_err(), "{compression:?}");
        }
        assert!(matches!(
            decompress(b"plain text", 100),
            Err(CompressError::Unknown)
        ));
    }

    #[test]
    fn settings_out_of_range_are_named() {
        let xz = |preset, dictionary| Compression::Xz {
            preset,
            extreme: false,
            dictionary,
            branches: Branches::None,
            check: XzCheck::Crc32,
            block: 0,
        };
        for (compression, named) in [
            (Compression::Gzip { level: 10 }, "level 10"),
            (Compression::zstd(0), "level 0"),
            (Compression::zstd(23), "level 23"),
            (
                Compression::Zstd {
                    level: 3,
                    window_log: Some(28),
                },
                "window 28",
            ),
            (xz(10, 4096), "preset 10"),
            (xz(6, 4095), "dictionary 4095"),
            (xz(6, u32::MAX), "dictionary 4294967295"),
        ] {
            let error = compress(b"", &compression, 1).unwrap_err();
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn gzip_says_nothing_of_its_origin() {
        let packed = compress(b"x", &Compression::Gzip { level: 6 }, 1).unwrap();
        assert_eq!(packed[4..8], [0; 4], "time");
        assert_eq!(packed[9], 255, "system");
    }

    #[test]
    fn xz_for_the_kernel_has_crc32() {
        let packed = compress(b"x", &Compression::xz_for_kernel(Branches::X86), 1).unwrap();
        assert_eq!(packed[6..8], [0, 1]);
    }
}
