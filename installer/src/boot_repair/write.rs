//! What a repair writes: shown, then done.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lycia_media::fat;
use lycia_tree::{Metadata, Tree};

use super::{Esp, KEPT, MENU, Put, Repair, RepairError, SAVED, io_error, read_any};
use crate::device::{BlockDevice, Window};
use crate::found::hex;
use crate::nvram;

/// Writes what need not be whole sectors: the rest of a sector keeps its bytes.
pub(super) fn write_any(device: &mut dyn BlockDevice, at: u64, bytes: &[u8]) -> io::Result<()> {
    let sector = u64::from(device.sector());
    let start = at / sector * sector;
    let end = (at + bytes.len() as u64).next_multiple_of(sector);
    let mut whole = vec![0; (end - start) as usize];
    device.read_at(start, &mut whole)?;
    let from = (at - start) as usize;
    whole[from..from + bytes.len()].copy_from_slice(bytes);
    device.write_at(start, &whole)
}

/// Puts a file there in one moment.
fn put(base: &Path, put: &Put, mode: u32) -> Result<(), RepairError> {
    let place = base.join(&put.path);
    let failed = io_error("writing", &place);
    let write = || -> io::Result<()> {
        let folder = place.parent().unwrap_or(base);
        fs::create_dir_all(folder)?;
        let aside = folder.join(".lycia-new");
        let _ = fs::remove_file(&aside);
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(&aside)?;
        file.write_all(put.content.bytes())?;
        // FAT knows no modes.
        let _ = file.set_permissions(fs::Permissions::from_mode(mode));
        file.sync_all()?;
        fs::rename(&aside, &place)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(failed)
}

impl Repair {
    /// The plan for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!("Repair the boot of {} on {}\n", self.title, self.disk);
        let line = |out: &mut String, text: String| {
            out.push_str("  ");
            out.push_str(&text);
            out.push('\n');
        };
        for note in &self.notes {
            line(&mut out, format!("note: {note}"));
        }
        let modules = self
            .root
            .iter()
            .filter(|put| put.path.starts_with("boot/grub/") && put.path != MENU);
        let modules = modules.count();
        for put in self
            .root
            .iter()
            .filter(|put| !put.path.starts_with("boot/grub/") || put.path == MENU)
        {
            line(
                &mut out,
                format!("write /{} ({} bytes)", put.path, put.content.len()),
            );
        }
        if modules > 0 {
            line(
                &mut out,
                format!("write {modules} modules of GRUB below /boot/grub"),
            );
        }
        let (files, format) = match &self.esp {
            Esp::None => (&[][..], None),
            Esp::Files(files) => (&files[..], None),
            Esp::Format { span, files, .. } => (&files[..], Some(span)),
        };
        if let Some(span) = format {
            line(
                &mut out,
                format!(
                    "format the EFI system partition, bytes {} to {}",
                    span.start,
                    span.end()
                ),
            );
        }
        for put in files {
            line(
                &mut out,
                format!(
                    "write \\{} on the EFI system partition",
                    put.path.replace('/', "\\")
                ),
            );
        }
        for raw in self.raw.iter().filter(|raw| raw.differs) {
            line(
                &mut out,
                format!(
                    "write the {}, {} bytes from byte {}",
                    raw.what,
                    raw.bytes.len(),
                    raw.at
                ),
            );
        }
        if let Some(entry) = &self.entry {
            line(
                &mut out,
                format!(
                    "make `{}` ({}) the first entry of the firmware's menu",
                    entry.description, entry.path
                ),
            );
        }
        if self.is_done() {
            line(
                &mut out,
                "everything is as it should be: nothing is written".to_owned(),
            );
        }
        out
    }

    /// Whether nothing is to be written.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let esp = match &self.esp {
            Esp::None => true,
            Esp::Files(files) => files.is_empty(),
            Esp::Format { .. } => false,
        };
        self.root.is_empty() && esp && self.entry.is_none() && self.raw.iter().all(|raw| !raw.differs)
    }

    /// Writes the files, and keeps in the root what [`Self::write_disk`] will write over. `device` is only read.
    ///
    /// # Errors
    /// At the first file that cannot be written.
    pub fn write_files(
        &self,
        root: &Path,
        esp: Option<&Path>,
        device: &mut dyn BlockDevice,
    ) -> Result<(), RepairError> {
        let keep = |name: String, bytes: Vec<u8>| {
            let file = Put {
                path: format!("{SAVED}/{name}"),
                content: bytes.into(),
            };
            // The first copy is the one from before any repair.
            if root.join(&file.path).exists() {
                Ok(())
            } else {
                put(root, &file, 0o600)
            }
        };
        let disk = Path::new(&self.disk);
        for raw in self.raw.iter().filter(|raw| raw.differs) {
            let mut now = vec![0; raw.bytes.len()];
            read_any(device, raw.at, &mut now).map_err(io_error("reading", disk))?;
            keep(format!("bytes-from-{}-{}", raw.at, &hex(&now)[..8]), now)?;
        }
        if let Esp::Format { span, .. } = &self.esp {
            let mut now = vec![0; KEPT.min(span.size) as usize];
            read_any(device, span.start, &mut now).map_err(io_error("reading", disk))?;
            keep(format!("bytes-from-{}-{}", span.start, &hex(&now)[..8]), now)?;
        }
        let log = Put {
            path: format!("{SAVED}/plan.txt"),
            content: self.text().into(),
        };
        put(root, &log, 0o600)?;
        for file in &self.root {
            put(root, file, 0o644)?;
        }
        if let (Esp::Files(files), Some(esp)) = (&self.esp, esp) {
            for file in files {
                put(esp, file, 0o644)?;
            }
        }
        Ok(())
    }

    /// Writes what lies on the disk itself. Nothing of it may be mounted.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn write_disk(&self, device: &mut dyn BlockDevice) -> Result<(), RepairError> {
        let disk = PathBuf::from(&self.disk);
        if let Esp::Format { span, serial, files } = &self.esp {
            let time = self.time;
            let mut tree = Tree::new(Metadata::new(0o755, time));
            for file in files {
                let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
                tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))
                    .and_then(|_| {
                        tree.write(
                            file.path.as_bytes(),
                            Metadata::new(0o644, time),
                            file.content.clone(),
                        )
                    })
                    .map_err(|error| RepairError::Unfit(error.to_string()))?;
            }
            let sector = device.sector();
            let volume = fat::Volume {
                label: Some("ESP".to_owned()),
                serial: *serial,
                time,
                // As the installation has it: FAT32 has at least 65,525 clusters.
                width: (span.size / u64::from(sector) > 66_600).then_some(fat::Width::Fat32),
                size: span.size,
            };
            let mut nothing = |_| ();
            let mut window = Window::new(device, *span, &mut nothing);
            fat::write_sectors(&mut window, 0, sector, &tree, &volume).map_err(|error| {
                io_error("formatting the EFI system partition of", &disk)(io::Error::other(error))
            })?;
            device.flush().map_err(io_error("writing", &disk))?;
        }
        // The core image before the sector that starts it.
        for raw in self.raw.iter().filter(|raw| raw.differs) {
            write_any(device, raw.at, &raw.bytes).map_err(io_error("writing", &disk))?;
            device.flush().map_err(io_error("writing", &disk))?;
        }
        Ok(())
    }

    /// Gives the firmware's menu the entry that it lacks; what went wrong with it. The system is whole without: the firmware's own menu finds it.
    #[must_use]
    pub fn write_entry(&self, efivars: &Path) -> Option<String> {
        let entry = self.entry.as_ref()?;
        let failed = nvram::write(efivars, entry, &self.partitions).err()?;
        Some(format!("the firmware's menu got no entry: {failed}"))
    }
}
