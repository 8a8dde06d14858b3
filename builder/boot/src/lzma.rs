//! The compression inside GRUB's core images: LZMA1 without any header, parameters as `grub-mkimage` sets them
//! (GRUB 2.06, `util/mkimage.c`: a dictionary of 64 KiB, lc 3, lp 0, pb 2).

use std::io::{self, Write as _};

use liblzma::stream::{Filters, LzmaOptions, Stream};

const DICTIONARY: u32 = 1 << 16;

fn filters() -> io::Result<Filters> {
    let mut options = LzmaOptions::new_preset(9)?;
    options
        .dict_size(DICTIONARY)
        .literal_context_bits(3)
        .literal_position_bits(0)
        .position_bits(2);
    let mut filters = Filters::new();
    filters.lzma1(&options);
    Ok(filters)
}

/// Compresses. An end mark follows the data; GRUB stops before it, at the size that it is told.
pub(crate) fn compress(bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder =
        liblzma::write::XzEncoder::new_stream(Vec::new(), Stream::new_raw_encoder(&filters()?)?);
    encoder.write_all(bytes)?;
    encoder.finish()
}

#[cfg(test)]
pub(crate) fn decompress(bytes: &[u8], size: usize) -> Vec<u8> {
    use liblzma::stream::Action;
    let mut decoder = Stream::new_raw_decoder(&filters().unwrap()).unwrap();
    let mut out = Vec::with_capacity(size);
    decoder.process_vec(bytes, &mut out, Action::Run).unwrap();
    out
}
