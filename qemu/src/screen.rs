//! A guest's screen as pixels: read from QEMU's PPM, compared, written as PNG.

use crate::Error;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

/// Largest width or height read.
const SIDE_LIMIT: u32 = 16384;

/// One picture of a guest's screen, 8 bits each of red, green and blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Screen {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl std::fmt::Debug for Screen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Screen({}x{})", self.width, self.height)
    }
}

impl Screen {
    /// Pixels from left to right.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Pixels from top to bottom.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Rows from the top, each pixel as red, green, blue.
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Whether all pixels have one colour.
    pub fn is_blank(&self) -> bool {
        self.rgb.chunks_exact(3).all(|pixel| pixel == &self.rgb[..3])
    }

    /// How many pixels differ; all of the larger screen when the sizes do.
    pub fn differing_pixels(&self, other: &Self) -> usize {
        if (self.width, self.height) != (other.width, other.height) {
            return self.rgb.len().max(other.rgb.len()) / 3;
        }
        self.rgb
            .chunks_exact(3)
            .zip(other.rgb.chunks_exact(3))
            .filter(|(left, right)| left != right)
            .count()
    }

    /// Reads a binary PPM with 8 bits a sample (netpbm's `ppm(5)`, magic `P6`, maximum 255).
    pub(crate) fn from_ppm(bytes: &[u8]) -> Result<Self, String> {
        let mut rest = bytes.strip_prefix(b"P6").ok_or("not a binary PPM")?;
        let mut header = [0u32; 3];
        for number in &mut header {
            rest = skip_space(rest).ok_or("the PPM's header is cut")?;
            let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            *number = std::str::from_utf8(&rest[..digits])
                .ok()
                .and_then(|digits| digits.parse().ok())
                .ok_or("the PPM's header has no number where one belongs")?;
            rest = &rest[digits..];
        }
        let [width, height, maximum] = header;
        if maximum != 255 {
            return Err(format!("the PPM's maximum is {maximum}, not 255"));
        }
        if !(1..=SIDE_LIMIT).contains(&width) || !(1..=SIDE_LIMIT).contains(&height) {
            return Err(format!("{width}x{height} pixels"));
        }
        let rgb = match rest.split_first() {
            Some((space, rgb)) if space.is_ascii_whitespace() => rgb,
            _ => return Err("the PPM's header is cut".into()),
        };
        let expected = width as usize * height as usize * 3;
        if rgb.len() != expected {
            return Err(format!("{} bytes of pixels in place of {expected}", rgb.len()));
        }
        Ok(Self {
            width,
            height,
            rgb: rgb.to_vec(),
        })
    }

    /// Writes a PNG.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_png(&self, path: &Path) -> Result<(), Error> {
        let file = File::create(path).map_err(|source| Error::File {
            doing: "creating the screenshot",
            path: path.into(),
            source,
        })?;
        let mut encoder = png::Encoder::new(BufWriter::new(file), self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder
            .write_header()
            .and_then(|mut writer| {
                writer.write_image_data(&self.rgb)?;
                writer.finish()
            })
            .map_err(|error| Error::Screenshot {
                path: path.into(),
                why: error.to_string(),
            })
    }
}

/// Skips at least one blank, and comments.
fn skip_space(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = match bytes.first() {
        Some(byte) if byte.is_ascii_whitespace() => &bytes[1..],
        _ => return None,
    };
    loop {
        match rest.first()? {
            b'#' => rest = &rest[rest.iter().position(|&byte| byte == b'\n')?..],
            byte if byte.is_ascii_whitespace() => rest = &rest[1..],
            _ => return Some(rest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ppm_is_read() {
        let screen = Screen::from_ppm(b"P6\n2 1\n255\nabcdef").unwrap();
        assert_eq!(
            (screen.width(), screen.height(), screen.rgb()),
            (2, 1, &b"abcdef"[..])
        );
        assert!(!screen.is_blank());
        let commented = Screen::from_ppm(b"P6 # by hand\n2\t1 255\nabcabc").unwrap();
        assert!(commented.is_blank());
        assert_eq!(screen.differing_pixels(&commented), 1);
    }

    #[test]
    fn bad_ppm_is_refused() {
        let table: &[&[u8]] = &[
            b"",
            b"P6",
            b"P5\n2 1\n255\nabcdef",
            b"P6\n2 1\n255",
            b"P6\n2 1\n255\nabcde",
            b"P6\n2 1\n255\nabcdefg",
            b"P6\n2 1\n65535\nabcdef",
            b"P6\n0 1\n255\n",
            b"P6\n99999 99999\n255\n",
            b"P6\n4294967296 1\n255\n",
            b"P6\n-1 1\n255\n",
            b"P62 1\n255\nabcdef",
            b"P6 # no end",
        ];
        for ppm in table {
            assert!(
                Screen::from_ppm(ppm).is_err(),
                "{:?}",
                String::from_utf8_lossy(ppm)
            );
        }
    }

    #[test]
    fn png_keeps_the_pixels() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("screen.png");
        let screen = Screen::from_ppm(b"P6\n2 2\n255\nabcdefghijkl").unwrap();
        screen.save_png(&path).unwrap();
        let decoder = png::Decoder::new(std::io::BufReader::new(File::open(&path).unwrap()));
        let mut reader = decoder.read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        let frame = reader.next_frame(&mut pixels).unwrap();
        assert_eq!(
            (frame.width, frame.height, frame.color_type),
            (2, 2, png::ColorType::Rgb)
        );
        assert_eq!(pixels, screen.rgb());
    }
}
