//! The live medium: its identity, and the ISO that holds it.

use std::io::Write;

use lycia_media::iso9660::{self, VolumeTime};
use lycia_media::partition::Guid;
use lycia_tree::{Content, Timestamp, Tree};
use sha2::{Digest as _, Sha256};

use crate::definition::Image;
use crate::error::{Error, Explain as _, Kind, Result};
use crate::grub;
use crate::lock::Lock;

/// Numbers that tell a medium from others. They follow from what is on it.
#[derive(Clone, Debug)]
pub struct Identity {
    seed: [u8; 32],
    /// The volume's date of modification, which is its UUID.
    pub time: VolumeTime,
    /// The UUID as blkid shows it.
    pub uuid: String,
    /// Serial number of the EFI system partition.
    pub serial: u32,
    /// Signature in the MBR.
    signature: u32,
}

impl Identity {
    /// From the packages and what the definition says of the medium.
    pub fn derive(image: &Image, lock: &Lock, time: Timestamp) -> Identity {
        let mut hash = Sha256::new();
        // The lock has everything but the definition's own words and the overlays; those of the same
        // packages and words differ in content, which the identity need not show.
        hash.update(lock.text());
        for word in [
            &image.live.label,
            &image.live.user,
            &image.live.hostname,
            &image.boot.title,
            &image.boot.arguments,
        ] {
            hash.update(word);
            hash.update([0]);
        }
        let seed: [u8; 32] = hash.finalize().into();
        let word = |at: usize| u32::from_le_bytes([seed[at], seed[at + 1], seed[at + 2], seed[at + 3]]);
        let wide = u64::from(word(0)) << 32 | u64::from(word(4));
        let fallback = || VolumeTime::new(Timestamp::default());
        // Every time from the year 1 to 9999 has a date; others are as good as none.
        let volume = VolumeTime::distinct(time, wide).or_else(fallback);
        let volume = volume.unwrap_or_else(|| unreachable!("1970 is a date"));
        Identity {
            seed,
            time: volume,
            uuid: volume.to_string(),
            serial: word(8),
            signature: word(12),
        }
    }
}

impl Identity {
    /// The UUID of the image's hash tree.
    pub fn verity_uuid(&self) -> Guid {
        Guid::derive(&self.seed, "verity")
    }

    /// What is hashed before each block of the image.
    pub fn salt(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.seed)
            .chain_update("dm-verity salt")
            .finalize()
            .into()
    }
}

/// Writes the ISO of `files` to `out`.
///
/// # Errors
/// When something does not fit the format, or `out` refuses.
#[expect(clippy::too_many_arguments, reason = "each is another part of one medium")]
pub fn write_iso(
    image: &Image,
    identity: &Identity,
    files: &Tree,
    built: &[grub::Built],
    esp: Option<Content>,
    time: Timestamp,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<()> {
    let doing = || "writing the ISO".to_owned();
    let mut boot = iso9660::Boot::default();
    let mut code = None;
    for one in built {
        let Some(hybrid) = &one.hybrid else { continue };
        boot.bios = Some(iso9660::Bios {
            image: format!("/boot/grub/{}/eltorito.img", one.platform.platform).into_bytes(),
        });
        let sector = hybrid.bytes().first_chunk::<440>().copied();
        code = Some(sector.ok_or_else(|| {
            Error::new(Kind::Target, "GRUB's boot_hybrid.img is shorter than 440 bytes").context(doing())
        })?);
    }
    boot.efi = esp.map(|esp| iso9660::Efi { esp });
    boot.hybrid = Some(iso9660::Hybrid {
        code,
        signature: identity.signature,
        disk: Guid::derive(&identity.seed, "disk"),
        image_partition: Guid::derive(&identity.seed, "image"),
        esp_partition: Guid::derive(&identity.seed, "esp"),
    });
    let iso = iso9660::Image {
        volume_id: &image.live.label,
        system_id: "LINUX",
        volume_set_id: "",
        publisher: "",
        preparer: "",
        application: concat!("LYCIA ", env!("CARGO_PKG_VERSION")),
        time,
        uuid: identity.time,
        joliet: true,
        files,
        boot,
    };
    let layout = iso.plan().explain(Kind::Target, doing)?;
    layout
        .write(out, &mut |done| progress(done, layout.size()))
        .map_err(|error| {
            let kind = match &error {
                iso9660::IsoError::Write(_) => Kind::Host,
                _ => Kind::Target,
            };
            Error::new(kind, error).context(doing())
        })
}
