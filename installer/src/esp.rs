//! EFI system partitions that are there and are shared: files are added, those of other systems stay as they are.

use lycia_media::fat::{self, InsertError};

use crate::device::{BlockDevice, Span, Window};

/// First line of the `grub.cfg` beside our images: by it the fallback path is known to be ours.
pub const MARK: &str = "# Written by lycia-install.\n";
/// Directories down to here are saved: `/`, `/EFI`, `/EFI/VENDOR`.
const DEPTH: usize = 2;
/// Most bytes of a partition's structures that are saved.
pub const SAVED_MAX: u64 = 96 << 20;

/// What is known of an EFI system partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Esp {
    /// What putting files in may write over, as ranges of the disk: the journal saves it.
    pub saved: Vec<Span>,
    /// Bytes in free clusters.
    pub free: u64,
    /// Names in `EFI/BOOT`.
    pub fallback: Vec<String>,
    /// Whether the fallback path is ours already.
    pub ours: bool,
}

/// Looks at the FAT volume of an EFI system partition. Only reads.
///
/// # Errors
/// In words, when it is damaged or of a kind that is not written to.
pub fn inspect(device: &mut dyn BlockDevice, span: Span) -> Result<Esp, String> {
    let words = |error: InsertError| error.to_string();
    let mut nothing = |_| ();
    let structures = fat::structures(Window::new(device, span, &mut nothing), DEPTH).map_err(words)?;
    let fallback = fat::names_in(Window::new(device, span, &mut nothing), "EFI/BOOT").map_err(words)?;
    let config = fat::read_file(
        Window::new(device, span, &mut nothing),
        "EFI/BOOT/grub.cfg",
        MARK.len(),
    );
    let sector = u64::from(device.sector());
    let saved: Vec<Span> = structures
        .ranges
        .iter()
        .map(|range| {
            // Whole sectors of the disk.
            let start = (span.start + range.start) / sector * sector;
            let end = (span.start + range.end).next_multiple_of(sector).min(span.end());
            Span {
                start,
                size: end - start,
            }
        })
        .collect();
    if saved.iter().map(|saved| saved.size).sum::<u64>() > SAVED_MAX {
        return Err("its tables and directories are too large to be saved first".to_owned());
    }
    Ok(Esp {
        saved,
        free: structures.free,
        fallback,
        ours: config.map_err(words)?.as_deref() == Some(MARK.as_bytes()),
    })
}

/// Name of an image in a vendor's directory, by its name on the fallback path: `grubx64.efi` of `BOOTX64.EFI`.
#[must_use]
pub fn vendor_image(fallback: &str) -> String {
    let lower = fallback.to_ascii_lowercase();
    format!("grub{}", lower.strip_prefix("boot").unwrap_or(&lower))
}

impl Esp {
    /// Whether an image may be put on the fallback path: nothing is there, or what is there is ours.
    #[must_use]
    pub fn fallback_is_free(&self, image: &str) -> bool {
        let taken =
            |name: &&String| name.eq_ignore_ascii_case(image) || name.eq_ignore_ascii_case("grub.cfg");
        self.ours || !self.fallback.iter().any(|name| taken(&name))
    }
}
