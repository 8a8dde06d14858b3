//! The encrypted root: its passphrase, its key, and a device that encrypts what is written.

use std::fmt;
use std::io;

use lycia_luks::{Cipher, Kdf, Key, LuksError, Opened, Settings};
use zeroize::Zeroizing;

use crate::device::{BlockDevice, Pages, Span};
use crate::secret;

/// Beginning of the names of encrypted devices that are made here: no other program's are ever taken away.
pub const MAPPED: &str = "lycia-luks-";

/// Name of the root below `/dev/mapper`.
pub const NAME: &str = "root";

/// The word of the kernel's command line that has the initramfs open the volume.
#[must_use]
pub fn boot_argument(uuid: &str) -> String {
    format!("rd.luks.name={uuid}={NAME}")
}

/// Shortest passphrase that is taken, in bytes.
const PASSPHRASE_MIN: usize = 8;

/// A passphrase. It is wiped when it goes, and cannot be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("(not shown)")
    }
}

impl Passphrase {
    /// From what was typed or read.
    ///
    /// # Errors
    /// When it is too short, or nobody could type it.
    pub fn new(line: Zeroizing<Vec<u8>>) -> Result<Passphrase, String> {
        if !(PASSPHRASE_MIN..=512).contains(&line.len()) {
            return Err(format!("a passphrase has {PASSPHRASE_MIN} to 512 bytes"));
        }
        if line.iter().any(u8::is_ascii_control) {
            return Err("a passphrase is a line that can be typed".to_owned());
        }
        Ok(Passphrase(line))
    }
}

/// What encrypts the root.
pub struct Sealed {
    /// The header, to be written; none where the one on the disk is used.
    pub header: Option<Zeroizing<Vec<u8>>>,
    uuid: String,
    key: Key,
    sector: u32,
}

impl Sealed {
    /// A new volume for a machine with so many bytes of memory, on a disk with sectors of `sector` bytes.
    ///
    /// # Errors
    /// When there are no random numbers or not enough memory.
    pub fn new(uuid: &str, passphrase: &Passphrase, sector: u32, memory: u64) -> Result<Sealed, LuksError> {
        let mut key = Zeroizing::new(vec![0; lycia_luks::KEY_SIZE]);
        secret::random(&mut key).map_err(LuksError::Random)?;
        let settings = Settings {
            uuid: uuid.to_owned(),
            label: String::new(),
            kdf: Kdf::for_memory(memory),
            sector_size: sector,
        };
        Sealed::with_key(&settings, key, passphrase, &mut |bytes| secret::random(bytes))
    }

    /// The same with a given key.
    pub(crate) fn with_key(
        settings: &Settings,
        key: Key,
        passphrase: &Passphrase,
        random: &mut dyn FnMut(&mut [u8]) -> io::Result<()>,
    ) -> Result<Sealed, LuksError> {
        let header = lycia_luks::make(settings, &key, &passphrase.0, random)?;
        Ok(Sealed {
            header: Some(header),
            uuid: settings.uuid.clone(),
            key,
            sector: settings.sector_size,
        })
    }

    /// Whether an interrupted run made the volume `uuid` in `span`: then its passphrase is the one that was given to that run.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn begun(device: &mut dyn BlockDevice, span: Span, uuid: &str) -> Result<bool, LuksError> {
        let there = lycia_luks::uuid(&mut |at, bytes| device.read_at(span.start + at, bytes))?;
        Ok(there.as_deref() == Some(uuid))
    }

    /// The volume that an interrupted run made in `span`, if its header got there whole: with a new key what was written already could not be read.
    ///
    /// # Errors
    /// When the passphrase is another one.
    pub fn resumed(
        device: &mut dyn BlockDevice,
        span: Span,
        uuid: &str,
        passphrase: &Passphrase,
    ) -> Result<Option<Sealed>, LuksError> {
        // Before its own header is there, the range may have one of an older volume, which another passphrase opens.
        let there = crate::found::file_system(device, span);
        if there.and_then(|there| there.uuid).as_deref() != Some(uuid) {
            return Ok(None);
        }
        let opened = lycia_luks::open(
            &mut |at, bytes| device.read_at(span.start + at, bytes),
            &passphrase.0,
        );
        match opened {
            Ok(opened) if opened.uuid == uuid => Ok(Some(Sealed {
                header: None,
                uuid: opened.uuid,
                key: opened.key,
                sector: opened.sector_size,
            })),
            Ok(_) | Err(LuksError::NoHeader) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the header, if there is one to be written. A header that is there opens what is written behind it, should that be interrupted: the key slots are
    /// on the disk before the header that names them.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_header(&self, device: &mut dyn BlockDevice, span: Span) -> io::Result<()> {
        let Some(bytes) = &self.header else {
            return Ok(());
        };
        let (copies, slots) = bytes.split_at(lycia_luks::SLOT_AT.min(bytes.len()));
        device.write_at(span.start + copies.len() as u64, slots)?;
        device.flush()?;
        device.write_at(span.start, copies)?;
        device.flush()
    }

    /// The cipher of the data.
    ///
    /// # Errors
    /// Never for a volume that was made here.
    pub fn cipher(&self) -> Result<Cipher, LuksError> {
        Cipher::new(&self.key, self.sector)
    }

    /// The volume for the kernel, of which only the `size` bytes of data are on a device of their own.
    #[must_use]
    pub fn data(&self, size: u64) -> Opened {
        Opened {
            uuid: self.uuid.clone(),
            key: self.key.clone(),
            offset: 0,
            size: Some(size),
            sector_size: self.sector,
            encryption: lycia_luks::CIPHER.to_owned(),
        }
    }
}

/// The inside of a volume: what is written is encrypted, what is read is decrypted. The first byte is that of the volume.
pub struct Inside<'a> {
    device: &'a mut dyn BlockDevice,
    span: Span,
    cipher: Cipher,
    buffer: Pages,
}

impl<'a> Inside<'a> {
    /// The data of a volume, which are in `span` of `device`.
    pub fn new(device: &'a mut dyn BlockDevice, span: Span, cipher: Cipher) -> Inside<'a> {
        Inside {
            device,
            span,
            cipher,
            buffer: Pages::default(),
        }
    }

    /// Whole sectors around a range.
    fn around(&self, offset: u64, len: usize) -> io::Result<(u64, usize)> {
        let sector = u64::from(self.cipher.sector());
        let start = offset / sector * sector;
        let end = offset
            .checked_add(len as u64)
            .and_then(|end| end.checked_next_multiple_of(sector))
            .filter(|&end| end <= self.span.size)
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "outside of the encrypted volume"))?;
        Ok((start, (end - start) as usize))
    }
}

impl BlockDevice for Inside<'_> {
    fn size(&self) -> u64 {
        self.span.size
    }

    fn sector(&self) -> u32 {
        self.cipher.sector()
    }

    fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let (start, len) = self.around(offset, buffer.len())?;
        let sectors = self.buffer.get(len);
        self.device.read_at(self.span.start + start, sectors)?;
        self.cipher.decrypt(start, sectors);
        let from = (offset - start) as usize;
        buffer.copy_from_slice(&sectors[from..from + buffer.len()]);
        Ok(())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (start, len) = self.around(offset, bytes.len())?;
        let sectors = self.buffer.get(len);
        if len != bytes.len() {
            self.device.read_at(self.span.start + start, sectors)?;
            self.cipher.decrypt(start, sectors);
        }
        let from = (offset - start) as usize;
        sectors[from..from + bytes.len()].copy_from_slice(bytes);
        self.cipher.encrypt(start, sectors);
        self.device.write_at(self.span.start + start, sectors)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.device.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::fake::Fake;

    const UUID: &str = "01234567-89ab-4cde-8f01-23456789abcd";
    const SPAN: Span = Span {
        start: 1 << 20,
        size: lycia_luks::DATA_OFFSET,
    };

    fn sealed(uuid: &str, passphrase: &Passphrase) -> Sealed {
        let settings = Settings {
            uuid: uuid.to_owned(),
            label: String::new(),
            kdf: Kdf::Pbkdf2 { iterations: 10 },
            sector_size: 512,
        };
        let mut state = 1u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                state = state.wrapping_mul(5).wrapping_add(7);
                *byte = state;
            }
            Ok(())
        };
        Sealed::with_key(&settings, vec![7; 64].into(), passphrase, &mut random).unwrap()
    }

    fn words(text: &str) -> Passphrase {
        Passphrase::new(text.as_bytes().to_vec().into()).unwrap()
    }

    /// Whatever part of a header is there, the right passphrase is never called wrong.
    #[test]
    fn a_header_that_is_torn_is_none_or_opens() {
        let passphrase = words("correct horse");
        let new = sealed(UUID, &passphrase);
        let bytes = new.header.clone().unwrap();
        let resumed = |device: &mut Fake| {
            Sealed::resumed(device, SPAN, UUID, &passphrase)
                .unwrap()
                .is_some()
        };
        let mut device = Fake::new(64 << 20, 512);
        let (copies, slots) = bytes.split_at(lycia_luks::SLOT_AT);
        let at = SPAN.start + copies.len() as u64;
        for cut in (0..=slots.len()).step_by(32 << 10) {
            device.write_at(at, &slots[..cut / 512 * 512]).unwrap();
            assert!(!resumed(&mut device), "{cut} bytes of key slots");
            assert!(!Sealed::begun(&mut device, SPAN, UUID).unwrap());
        }
        device.write_at(at, slots).unwrap();
        let mut opened = 0;
        for cut in (0..=copies.len()).step_by(512) {
            device.write_at(SPAN.start, &copies[..cut]).unwrap();
            let begun = Sealed::begun(&mut device, SPAN, UUID).unwrap();
            assert_eq!(resumed(&mut device), begun, "{cut} bytes of the headers");
            opened += usize::from(begun);
        }
        assert!(opened > 0, "the whole one opens");
        new.write_header(&mut device, SPAN).unwrap();
        assert!(resumed(&mut device));
        // The header of another volume is none of this run, whatever opens it.
        sealed("11111111-89ab-4cde-8f01-23456789abcd", &words("another one"))
            .write_header(&mut device, SPAN)
            .unwrap();
        assert!(!resumed(&mut device));
        // Another passphrase for this run's is told.
        new.write_header(&mut device, SPAN).unwrap();
        assert!(matches!(
            Sealed::resumed(&mut device, SPAN, UUID, &words("another one")),
            Err(LuksError::Passphrase)
        ));
    }
}
