//! The live medium: its identity, and the ISO that holds it.

use std::io::{BufWriter, Write};

use lycia_media::fat;
use lycia_media::iso9660::{self, VolumeTime};
use lycia_media::partition::Guid;
use lycia_tree::{Content, Metadata, Timestamp, Tree};
use sha2::{Digest as _, Sha256};

use crate::build::{self, Made, Work, Written, mebibytes};
use crate::definition::Image;
use crate::error::{Error, Explain as _, Kind, Result, io};
use crate::hashing::Hashing;
use crate::lock::Lock;
use crate::manifest::{self, Manifest};
use crate::progress::Unit;
use crate::store::Aside;
use crate::{grub, initramfs, verified};

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
        // The lock has everything but the definition's own words and the overlays: images of the same packages and words
        // differ in content, which the identity need not show.
        hash.update(lock.seed());
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

/// Builds the ISO and what lies beside it. Nothing has its name yet.
///
/// # Errors
/// When the root lacks what boots, something does not fit, or the output refuses.
pub fn iso(work: &Work<'_>, offered: Vec<(String, Content)>, made: &mut Made) -> Result<Vec<Written>> {
    let Work {
        image,
        root,
        lock,
        store,
        options,
        progress,
    } = *work;
    let stem = format!("{}-{}", image.name, image.arch);
    let kernel = root.kernel(image.kernel.as_deref())?;
    let identity = Identity::derive(image, lock, root.time);

    // What boots comes first: where something is missing there, it shows before the long work.
    let booting = progress.stage("boot", 1, Unit::Items);
    let initramfs = initramfs::content(
        work,
        &kernel,
        &initramfs::Medium {
            label: &image.live.label,
            uuid: &identity.uuid,
        },
    )?;
    let scratch = io(
        tempfile::Builder::new()
            .prefix("grub-")
            .tempdir_in(store.folder("scratch")?),
        || "making a scratch folder".to_owned(),
    )?;
    let mut built = Vec::new();
    for platform in &image.boot.platforms {
        let Some(modules) = grub::files(&platform.platform, &root.tree)? else {
            continue;
        };
        made.grub(&platform.platform, &modules, options.strict)?;
        built.push(grub::build(platform, image, modules, scratch.path())?);
    }
    if built.is_empty() {
        return Err(Error::new(
            Kind::Target,
            "neither the root nor this machine has GRUB modules for any platform",
        )
        .hint("add the GRUB packages to the definition"));
    }
    booting.finish(&format!(
        "{:.1} MiB of initramfs, GRUB for {}",
        mebibytes(initramfs.len()),
        built
            .iter()
            .map(|one| one.platform.platform.as_str())
            .collect::<Vec<_>>()
            .join(" and ")
    ));

    let squash_content = build::squash(work, made)?;

    let time = root.time;
    let hashed = verified::hash(image, &identity, &squash_content)?;
    let manifest = Manifest::new(
        lock,
        root,
        Some(&kernel),
        manifest::Medium {
            label: image.live.label.clone(),
            uuid: identity.uuid.clone(),
            verity: hashed
                .as_ref()
                .map(|hashed| hashed.root.clone())
                .unwrap_or_default(),
        },
    )?;
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let mut put = |path: &str, content: Content| {
        if let Some(at) = path.rfind('/') {
            tree.make_directories(&path.as_bytes()[..at], Metadata::new(0o755, time))
                .explain(Kind::Internal, || "laying out the medium".to_owned())?;
        }
        tree.write(path.as_bytes(), Metadata::new(0o644, time), content)
            .map(drop)
            .explain(Kind::Internal, || "laying out the medium".to_owned())
    };
    let checksum = manifest::sum(&squash_content);
    let mut arguments = Vec::new();
    if let Some(hashed) = hashed {
        put("live/filesystem.squashfs.verity", hashed.area)?;
        arguments = hashed.arguments;
    }
    put("live/filesystem.squashfs", squash_content)?;
    put(
        "live/filesystem.squashfs.sha256",
        format!("{checksum}  filesystem.squashfs\n").into(),
    )?;
    put("live/vmlinuz", root.content(&kernel.image)?)?;
    put("live/initrd", initramfs)?;
    put("live/packages.lock", lock.portable().text().into())?;
    for (path, content) in offered {
        put(&path, content)?;
    }
    grub::lay(&mut tree, image, &built, &arguments, time)?;
    let sums = verified::checksums(&tree, &built, ("live/filesystem.squashfs", &checksum));
    tree.write(
        verified::CHECKSUMS.as_bytes(),
        Metadata::new(0o644, time),
        sums.into(),
    )
    .explain(Kind::Internal, || "laying out the medium".to_owned())?;
    let esp = esp(&built, time, identity.serial)?;

    let path = options.output.join(format!("{stem}.iso"));
    let writing = progress.stage("write", 0, Unit::Bytes);
    let mut out = Aside::new(&path)?;
    let (sha256, size) = {
        let mut hashing = Hashing::new(BufWriter::with_capacity(1 << 20, out.file()));
        let medium = Medium {
            image,
            identity: &identity,
            files: &tree,
            built: &built,
            esp,
            time,
        };
        medium.write(&mut hashing, &mut |done, total| writing.set(done, total))?;
        io(hashing.flush(), || format!("writing {}", path.display()))?;
        let (_, sha256, size) = hashing.finish();
        (sha256, size)
    };
    writing.finish(&format!("{:.1} MiB, {}", mebibytes(size), path.display()));

    let mut files = vec![made.medium("iso", out, path, (sha256.clone(), size))];
    let small = [
        ("manifest", format!("{stem}.manifest.json"), manifest.json()),
        ("lock", format!("{stem}.lock"), lock.text()),
        (
            "checksums",
            format!("{stem}.iso.sha256"),
            format!("{sha256}  {stem}.iso\n"),
        ),
    ];
    for (kind, name, text) in small {
        files.push(made.beside(kind, options.output.join(name), text.as_bytes())?);
    }
    Ok(files)
}

/// What an ISO is written from.
struct Medium<'a> {
    image: &'a Image,
    identity: &'a Identity,
    files: &'a Tree,
    built: &'a [grub::Built],
    esp: Option<Content>,
    time: Timestamp,
}

impl Medium<'_> {
    fn write(self, out: &mut dyn Write, progress: &mut dyn FnMut(u64, u64)) -> Result<()> {
        let Medium {
            image,
            identity,
            files,
            built,
            esp,
            time,
        } = self;
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
}

fn esp(built: &[grub::Built], time: Timestamp, serial: u32) -> Result<Option<Content>> {
    let Some(tree) = grub::esp(built, time)? else {
        return Ok(None);
    };
    let volume = fat::Volume {
        label: Some("LYCIA_EFI".to_owned()),
        serial,
        time,
        width: None,
        size: fat::fitting_size(&tree, None, 512, 0),
    };
    let image = fat::image(&tree, &volume)
        .explain(Kind::Internal, || "making the EFI system partition".to_owned())?;
    Ok(Some(Content::from(image)))
}
