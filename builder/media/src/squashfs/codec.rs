//! The compressors: one block in, one block out.

use std::io;

use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress};
use liblzma::stream::{Action, Check, Filters, LzmaOptions, Status, Stream};

use lz4::block::CompressionMode;

use super::layout::{METADATA_LEN, get16, get32, put16, put32};
use super::{Bcj, Compressor};

/// Memory that a hostile xz header may ask for; images have dictionaries of at most 1 MiB.
const XZ_DECODER_MEMORY: u64 = 8 << 20;

/// The format of LZ4 blocks that the kernel knows, and the flag for the high compression mode (squashfs-tools' `lz4_wrapper.h`).
const LZ4_LEGACY: u32 = 1;
const LZ4_HC: u32 = 1;
/// The least level of the high compression mode.
const LZ4_HC_LEVEL: u32 = 3;

impl Compressor {
    /// The number of the superblock.
    pub(super) fn id(&self) -> u16 {
        match self {
            Compressor::Gzip { .. } => 1,
            Compressor::Xz { .. } => 4,
            Compressor::Lz4 { .. } => 5,
            Compressor::Zstd { .. } => 6,
        }
    }

    /// What is wrong with the level, if anything.
    pub(super) fn problem(&self) -> Option<String> {
        let (name, level, least, most) = match *self {
            Compressor::Gzip { level } => ("gzip", level, 1, 9),
            Compressor::Xz { preset, .. } => ("xz", preset, 0, 9),
            Compressor::Zstd { level } => ("zstd", level, 1, 22),
            Compressor::Lz4 { level: 2 } => return Some("lz4 has no level 2, only 1 and 3 to 12".to_owned()),
            Compressor::Lz4 { level } => ("lz4", level, 1, 12),
        };
        (level < least || level > most)
            .then(|| format!("{name} has no level {level}, only {least} to {most}"))
    }

    /// The options block, when they are not what a reader would assume.
    pub(super) fn options_block(&self, block_size: u32) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        match *self {
            Compressor::Gzip { level } if level != 9 => {
                put32(&mut bytes, level);
                // Window of 2^15 bytes; only the default strategy.
                put16(&mut bytes, 15);
                put16(&mut bytes, 0);
            }
            Compressor::Xz { bcj, .. } if bcj != Bcj::None => {
                // The kernel takes this for the largest dictionary, also of metadata.
                put32(&mut bytes, block_size.max(METADATA_LEN as u32));
                put32(&mut bytes, 1 << (bcj as u32 - 1));
            }
            // Readers want it always.
            Compressor::Lz4 { level } => {
                put32(&mut bytes, LZ4_LEGACY);
                put32(&mut bytes, if level < LZ4_HC_LEVEL { 0 } else { LZ4_HC });
            }
            Compressor::Zstd { level } if level != 15 => put32(&mut bytes, level),
            _ => return None,
        }
        Some(bytes)
    }

    /// Reads the options block of an image.
    pub(super) fn from_options(id: u16, block: Option<&[u8]>) -> Result<Compressor, String> {
        let short = |need: usize| match block {
            Some(bytes) if bytes.len() < need => Err(format!(
                "the compressor's options have {} bytes, not {need}",
                bytes.len()
            )),
            _ => Ok(()),
        };
        let compressor = match id {
            1 => {
                short(8)?;
                if let Some(window) = block.map(|bytes| get16(bytes, 4))
                    && !(8..=15).contains(&window)
                {
                    return Err(format!("a gzip window of 2^{window} bytes"));
                }
                Compressor::Gzip {
                    level: block.map_or(9, |bytes| get32(bytes, 0)),
                }
            }
            4 => {
                short(8)?;
                let filters = block.map_or(0, |bytes| get32(bytes, 4));
                let bcj = Bcj::ALL
                    .into_iter()
                    .find(|&bcj| bcj != Bcj::None && filters & 1 << (bcj as u32 - 1) != 0)
                    .unwrap_or(Bcj::None);
                Compressor::Xz { preset: 6, bcj }
            }
            5 => {
                short(8)?;
                let version = block.map_or(LZ4_LEGACY, |bytes| get32(bytes, 0));
                if version != LZ4_LEGACY {
                    return Err(format!("version {version} of lz4 blocks, which is unknown"));
                }
                let high = block.is_some_and(|bytes| get32(bytes, 4) & LZ4_HC != 0);
                Compressor::Lz4 {
                    level: if high { 12 } else { 1 },
                }
            }
            6 => {
                short(4)?;
                Compressor::Zstd {
                    level: block.map_or(15, |bytes| get32(bytes, 0)),
                }
            }
            2 => return Err("lzma, which is not supported here".to_owned()),
            3 => return Err("lzo, which is not supported here".to_owned()),
            other => return Err(format!("number {other}, which is unknown")),
        };
        match compressor.problem() {
            Some(problem) => Err(problem),
            None => Ok(compressor),
        }
    }
}

/// Compresses blocks one after another with contexts that are kept.
pub(super) struct Encoder {
    context: Context,
    scratch: Vec<u8>,
}

enum Context {
    Gzip(Compress),
    Xz { preset: u32, bcj: Bcj },
    Lz4(CompressionMode),
    Zstd(Box<zstd::bulk::Compressor<'static>>),
}

impl Encoder {
    pub(super) fn new(compressor: &Compressor) -> io::Result<Encoder> {
        let context = match *compressor {
            Compressor::Gzip { level } => Context::Gzip(Compress::new(Compression::new(level), true)),
            Compressor::Xz { preset, bcj } => Context::Xz { preset, bcj },
            Compressor::Lz4 { level } if level < LZ4_HC_LEVEL => Context::Lz4(CompressionMode::DEFAULT),
            Compressor::Lz4 { level } => Context::Lz4(CompressionMode::HIGHCOMPRESSION(level as i32)),
            Compressor::Zstd { level } => Context::Zstd(Box::new(zstd::bulk::Compressor::new(level as i32)?)),
        };
        Ok(Encoder {
            context,
            scratch: Vec::new(),
        })
    }

    /// The compressed bytes, or `None` when they would not be fewer than `data`.
    pub(super) fn encode(&mut self, data: &[u8]) -> io::Result<Option<&[u8]>> {
        match &mut self.context {
            Context::Gzip(context) => {
                // Room for a block that does not shrink, so that the end is always reached.
                self.scratch.resize(data.len() + data.len() / 512 + 64, 0);
                context.reset();
                let status = context.compress(data, &mut self.scratch, FlushCompress::Finish)?;
                if status != flate2::Status::StreamEnd {
                    return Ok(None);
                }
                let len = context.total_out() as usize;
                Ok((len < data.len()).then_some(&self.scratch[..len]))
            }
            Context::Lz4(mode) => {
                self.scratch.resize(lz4::block::compress_bound(data.len())?, 0);
                let len = lz4::block::compress_to_buffer(data, Some(*mode), false, &mut self.scratch)?;
                Ok((len < data.len()).then_some(&self.scratch[..len]))
            }
            Context::Zstd(context) => {
                self.scratch
                    .resize(zstd::zstd_safe::compress_bound(data.len()), 0);
                let len = context.compress_to_buffer(data, &mut self.scratch[..])?;
                Ok((len < data.len()).then_some(&self.scratch[..len]))
            }
            Context::Xz { preset, bcj } => {
                let (plain, filtered) = bcj.tries(data);
                self.scratch.resize(data.len().saturating_sub(1), 0);
                let mut best = None;
                if plain {
                    best = encode_xz(data, *preset, Bcj::None, &mut self.scratch)?;
                }
                if filtered {
                    // It has to be better than what is there.
                    let room = best.unwrap_or(data.len()).saturating_sub(1);
                    let mut other = vec![0; room];
                    if let Some(len) = encode_xz(data, *preset, *bcj, &mut other)? {
                        self.scratch = other;
                        best = Some(len);
                    }
                }
                Ok(best.map(|len| &self.scratch[..len]))
            }
        }
    }
}

impl Bcj {
    const ALL: [Bcj; 9] = [
        Bcj::None,
        Bcj::X86,
        Bcj::PowerPc,
        Bcj::Ia64,
        Bcj::Arm,
        Bcj::ArmThumb,
        Bcj::Sparc,
        Bcj::Arm64,
        Bcj::RiscV,
    ];

    /// Whether to try without the filter, and with it.
    ///
    /// For x86 the filter changes nothing but calls and jumps whose target is near. On binaries of Debian 12,
    /// blocks with more than one of them in 180 bytes always gained and those with less than one in 700
    /// never did: only between does it take two tries, which double the time. Calls that are not linked yet, as
    /// in archives and kernel modules, all have the distance 0, which the filter makes many.
    fn tries(self, data: &[u8]) -> (bool, bool) {
        match self {
            Bcj::None => (true, false),
            Bcj::X86 => {
                let (mut linked, mut unlinked) = (0, 0);
                for window in data.windows(5) {
                    if window[0] & 0xfe == 0xe8 && matches!(window[4], 0 | 0xff) {
                        match window[1..] {
                            [0, 0, 0, 0] => unlinked += 1,
                            _ => linked += 1,
                        }
                    }
                }
                let code = linked * 128 > data.len() && unlinked * 8 < linked;
                (!code, (linked + unlinked) * 1024 > data.len())
            }
            // Other instruction sets have no byte as telling. Text has no byte above 127.
            _ => (true, data.iter().any(|&byte| byte > 127)),
        }
    }
}

/// One `.xz` stream with the CRC32 that the kernel's decoder knows, or `None` when it is longer than `out`.
fn encode_xz(data: &[u8], preset: u32, bcj: Bcj, out: &mut [u8]) -> io::Result<Option<usize>> {
    let mut lzma = LzmaOptions::new_preset(preset)?;
    // A larger dictionary than the block is of no use, and the kernel allots what the block size says.
    let dictionary = data.len().next_power_of_two().max(METADATA_LEN);
    lzma.dict_size(dictionary as u32);
    let mut filters = Filters::new();
    match bcj {
        Bcj::None => &mut filters,
        Bcj::X86 => filters.x86(),
        Bcj::PowerPc => filters.powerpc(),
        Bcj::Ia64 => filters.ia64(),
        Bcj::Arm => filters.arm(),
        Bcj::ArmThumb => filters.arm_thumb(),
        Bcj::Sparc => filters.sparc(),
        Bcj::Arm64 => filters.arm64(),
        Bcj::RiscV => filters.riscv(),
    };
    filters.lzma2(&lzma);
    let mut stream = Stream::new_stream_encoder(&filters, Check::Crc32)?;
    loop {
        let (read, written) = (stream.total_in() as usize, stream.total_out() as usize);
        match stream.process(&data[read..], &mut out[written..], Action::Finish)? {
            Status::StreamEnd => return Ok(Some(stream.total_out() as usize)),
            _ if stream.total_out() as usize == out.len() => return Ok(None),
            _ => {}
        }
    }
}

/// Decompresses blocks.
pub(super) enum Decoder {
    Gzip(Decompress),
    Xz,
    Lz4,
    Zstd(Box<zstd::bulk::Decompressor<'static>>),
}

impl Decoder {
    pub(super) fn new(compressor: &Compressor) -> io::Result<Decoder> {
        Ok(match compressor {
            Compressor::Gzip { .. } => Decoder::Gzip(Decompress::new(true)),
            Compressor::Xz { .. } => Decoder::Xz,
            Compressor::Lz4 { .. } => Decoder::Lz4,
            Compressor::Zstd { .. } => Decoder::Zstd(Box::new(zstd::bulk::Decompressor::new()?)),
        })
    }

    /// Decompresses `data`, which must give at most `limit` bytes.
    pub(super) fn decode(&mut self, data: &[u8], limit: usize) -> Result<Vec<u8>, String> {
        // One byte of room more tells what is too long from what just fits.
        let mut out = vec![0; limit + 1];
        let len = match self {
            Decoder::Gzip(context) => {
                context.reset(true);
                match context.decompress(data, &mut out, FlushDecompress::Finish) {
                    Ok(flate2::Status::StreamEnd) => context.total_out() as usize,
                    Ok(_) => return Err(format!("gzip: cut short, or more than {limit} bytes")),
                    Err(error) => return Err(format!("gzip: {error}")),
                }
            }
            Decoder::Xz => decode_xz(data, &mut out)?,
            Decoder::Lz4 => {
                let room = i32::try_from(out.len()).map_err(|_| "lz4: more than 2 GiB".to_owned())?;
                lz4::block::decompress_to_buffer(data, Some(room), &mut out)
                    .map_err(|error| format!("lz4: {error}"))?
            }
            Decoder::Zstd(context) => context
                .decompress_to_buffer(data, &mut out[..])
                .map_err(|error| format!("zstd: {error}"))?,
        };
        if len > limit {
            return Err(format!("more than {limit} bytes"));
        }
        out.truncate(len);
        Ok(out)
    }
}

fn decode_xz(data: &[u8], out: &mut [u8]) -> Result<usize, String> {
    let show = |error| format!("xz: {error}");
    let mut stream = Stream::new_stream_decoder(XZ_DECODER_MEMORY, 0).map_err(show)?;
    loop {
        let (read, written) = (stream.total_in() as usize, stream.total_out() as usize);
        let status = stream
            .process(&data[read..], &mut out[written..], Action::Finish)
            .map_err(show)?;
        if status == Status::StreamEnd {
            return Ok(stream.total_out() as usize);
        }
        if (read, written) == (stream.total_in() as usize, stream.total_out() as usize) {
            return Err("xz: cut short, or too long".to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compressors() -> Vec<Compressor> {
        let mut all = vec![
            Compressor::Gzip { level: 9 },
            Compressor::Zstd { level: 3 },
            Compressor::Lz4 { level: 1 },
            Compressor::Lz4 { level: 12 },
        ];
        all.extend(Bcj::ALL.map(|bcj| Compressor::Xz { preset: 1, bcj }));
        all
    }

    #[test]
    fn what_goes_in_comes_out() {
        let text: Vec<u8> = (0..20_000u32)
            .flat_map(|n| n.to_string().into_bytes())
            .take(70_000)
            .collect();
        // Calls to one place, as a program has them: the filter makes the distances equal.
        let code: Vec<u8> = (0..8000u32)
            .flat_map(|n| {
                let to = 100_000u32.wrapping_sub(n * 8).to_le_bytes();
                [0xe8, to[0], to[1], to[2], to[3], 0x90, (n % 7) as u8, 0x55]
            })
            .collect();
        for compressor in compressors() {
            let mut encoder = Encoder::new(&compressor).unwrap();
            let mut decoder = Decoder::new(&compressor).unwrap();
            for data in [&text[..], &code, &text[..8192], &[0; 5000], &text[..1000]] {
                let packed = encoder.encode(data).unwrap().unwrap().to_vec();
                assert!(packed.len() < data.len());
                assert_eq!(
                    decoder.decode(&packed, data.len()).unwrap(),
                    data,
                    "{compressor:?}"
                );
                assert!(decoder.decode(&packed, data.len() - 1).is_err(), "{compressor:?}");
                assert!(decoder.decode(&packed[..packed.len() - 5], data.len()).is_err());
            }
        }
        let sizes = [Bcj::None, Bcj::X86].map(|bcj| {
            let mut encoder = Encoder::new(&Compressor::Xz { preset: 6, bcj }).unwrap();
            encoder.encode(&code).unwrap().unwrap().len()
        });
        assert!(sizes[1] * 2 < sizes[0], "the x86 filter gains nothing: {sizes:?}");
    }

    #[test]
    fn what_does_not_shrink_is_left() {
        let mut state = 1u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        })
        .take(8192)
        .collect();
        for compressor in compressors() {
            let mut encoder = Encoder::new(&compressor).unwrap();
            assert!(encoder.encode(&noise).unwrap().is_none(), "{compressor:?}");
            assert!(encoder.encode(b"x").unwrap().is_none(), "{compressor:?}");
        }
    }

    #[test]
    fn options_survive() {
        for compressor in [
            Compressor::Gzip { level: 3 },
            Compressor::Gzip { level: 9 },
            Compressor::Zstd { level: 22 },
            Compressor::Zstd { level: 15 },
            Compressor::Lz4 { level: 1 },
            Compressor::Lz4 { level: 12 },
        ]
        .into_iter()
        .chain(Bcj::ALL.map(|bcj| Compressor::Xz { preset: 6, bcj }))
        {
            let block = compressor.options_block(131_072);
            assert_eq!(
                Compressor::from_options(compressor.id(), block.as_deref()),
                Ok(compressor)
            );
        }
        assert!(Compressor::from_options(6, Some(&[1])).is_err());
        assert!(Compressor::from_options(6, Some(&[0; 4])).is_err());
        assert!(Compressor::from_options(5, Some(&[2, 0, 0, 0, 0, 0, 0, 0])).is_err());
        assert!(Compressor::from_options(3, None).is_err());
        assert!(Compressor::Lz4 { level: 2 }.problem().is_some());
        assert!(Compressor::Lz4 { level: 13 }.problem().is_some());
    }
}
