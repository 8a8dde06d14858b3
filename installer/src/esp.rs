//! EFI system partitions that are there and are shared: files are added, those of other systems stay as they are.

use std::path::Path;

use lycia_media::fat::{self, InsertError};

use crate::device::{BlockDevice, Span, Window};
use crate::probe::Machine;

/// First line of the `grub.cfg` beside our images: by it the fallback path is known to be ours.
pub const MARK: &str = "# Written by lycia-install.\n";
/// Directories down to here are saved: `/`, `/EFI`, `/EFI/VENDOR`.
const DEPTH: usize = 2;
/// Most folders in `EFI` and bytes of a `grub.cfg` that are looked at.
const FOLDERS_MAX: usize = 64;
const CONFIG_MAX: usize = 4096;
/// Most bytes of a partition's structures that are saved.
pub const SAVED_MAX: u64 = 96 << 20;

/// What is known of an EFI system partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Esp {
    /// What putting files in may write over, as ranges of the disk: the journal saves it.
    pub saved: Vec<Span>,
    /// Bytes in free clusters.
    pub free: u64,
    /// Names in `EFI`.
    pub folders: Vec<String>,
    /// Names in `EFI/BOOT`.
    pub fallback: Vec<String>,
    /// Folders in `EFI` whose `grub.cfg` this program wrote, and the UUID of the file system that it looks for: it starts the system there.
    pub ours: Vec<(String, String)>,
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
    let folders = fat::names_in(Window::new(device, span, &mut nothing), "EFI").map_err(words)?;
    let mut ours = Vec::new();
    for folder in folders
        .iter()
        .filter(|name| !name.starts_with('.'))
        .take(FOLDERS_MAX)
    {
        let window = Window::new(device, span, &mut nothing);
        let config = fat::read_file(window, &format!("EFI/{folder}/grub.cfg"), CONFIG_MAX);
        if let Some(uuid) = config.map_err(words)?.as_deref().and_then(started) {
            ours.push((folder.clone(), uuid));
        }
    }
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
        folders,
        fallback,
        ours,
    })
}

/// Looks at an EFI system partition that is mounted at `place`. What cannot be read is not there.
#[must_use]
pub fn mounted(place: &Path) -> Esp {
    let names = |folder: &Path| {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    };
    let efi = place.join("EFI");
    let folders = names(&efi);
    let ours = folders.iter().filter_map(|folder| {
        let config = std::fs::read(efi.join(folder).join("grub.cfg")).ok()?;
        Some((folder.clone(), started(&config)?))
    });
    Esp {
        saved: Vec::new(),
        free: 0,
        fallback: names(&efi.join("BOOT")),
        ours: ours.collect(),
        folders,
    }
}

/// UUID of the file system that a `grub.cfg` of ours looks for; none of another program's.
pub(crate) fn started(config: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(config);
    let searches = text.strip_prefix(MARK)?.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let fits = words.first() == Some(&"search") && words.contains(&"--fs-uuid");
        fits.then(|| words.last().map(|word| (*word).to_owned()))?
    });
    // One that looks for nothing starts nothing.
    Some(searches.last().unwrap_or_default())
}

/// Whether a file system is on one of the machine's disks other than `but`, whose nodes are in `dev`. What cannot be read does not count.
#[must_use]
pub fn is_elsewhere(machine: &Machine, dev: &Path, but: Option<&str>, uuid: &str) -> bool {
    let disks = machine.disks.iter();
    let others = disks.filter(|disk| !disk.optical && disk.size > 0 && Some(disk.name.as_str()) != but);
    let mut nodes = others.flat_map(|disk| {
        let partitions = disk.partitions.iter().map(|one| one.name.as_str());
        std::iter::once(disk.name.as_str()).chain(partitions)
    });
    nodes.any(|node| {
        let Ok(file) = std::fs::File::open(dev.join(node)) else {
            return false;
        };
        let known = lycia_init::superblock::identify(&file);
        known.iter().any(|one| {
            one.uuid
                .as_deref()
                .is_some_and(|one| one.eq_ignore_ascii_case(uuid))
        })
    })
}

/// Name of an image in a vendor's directory, by its name on the fallback path: `grubx64.efi` of `BOOTX64.EFI`.
#[must_use]
pub fn vendor_image(fallback: &str) -> String {
    let lower = fallback.to_ascii_lowercase();
    format!("grub{}", lower.strip_prefix("boot").unwrap_or(&lower))
}

/// Whether the system that a folder of ours starts goes on being there, by the UUID of its file system.
pub type Stays<'a> = &'a dyn Fn(&str) -> bool;

impl Esp {
    fn is_ours(&self, folder: &str, stays: Stays<'_>) -> bool {
        let ours = self
            .ours
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(folder));
        ours.is_some_and(|(_, uuid)| !stays(uuid))
    }

    /// Whether an image may be put on the fallback path: nothing is there, or what is there started a system that goes.
    #[must_use]
    pub fn fallback_is_free(&self, image: &str, stays: Stays<'_>) -> bool {
        let taken =
            |name: &&String| name.eq_ignore_ascii_case(image) || name.eq_ignore_ascii_case("grub.cfg");
        self.is_ours("BOOT", stays) || !self.fallback.iter().any(|name| taken(&name))
    }

    /// The folder below `EFI` for a system: `vendor`, or `vendor-2` and so on where another system is started from there.
    #[must_use]
    pub fn folder_for(&self, vendor: &str, stays: Stays<'_>) -> String {
        let free = |name: &String| {
            self.is_ours(name, stays) || !self.folders.iter().any(|there| there.eq_ignore_ascii_case(name))
        };
        let mut names =
            std::iter::once(vendor.to_owned()).chain((2..).map(|number| format!("{vendor}-{number}")));
        names.find(free).unwrap_or_else(|| vendor.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn esp(folders: &[&str], ours: &[(&str, &str)], fallback: &[&str]) -> Esp {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Esp {
            saved: Vec::new(),
            free: 0,
            folders: owned(folders),
            fallback: owned(fallback),
            ours: ours
                .iter()
                .map(|(name, uuid)| ((*name).to_owned(), (*uuid).to_owned()))
                .collect(),
        }
    }

    #[test]
    fn what_starts_another_system_is_left_to_it() {
        let stays = |uuid: &str| uuid == "stays";
        let both = ["BOOTX64.EFI", "grub.cfg"];
        for (esp, folder, free) in [
            (esp(&[], &[], &[]), "lycia", true),
            (esp(&["BOOT", "Microsoft"], &[], &["bootx64.efi"]), "lycia", false),
            // Of a system that is written over.
            (
                esp(&["BOOT", "LYCIA"], &[("BOOT", "goes"), ("LYCIA", "goes")], &both),
                "lycia",
                true,
            ),
            // Of one that stays.
            (
                esp(
                    &["BOOT", "lycia"],
                    &[("BOOT", "stays"), ("lycia", "stays")],
                    &both,
                ),
                "lycia-2",
                false,
            ),
            (
                esp(
                    &["BOOT", "lycia", "lycia-2"],
                    &[("BOOT", "stays"), ("lycia", "stays"), ("lycia-2", "goes")],
                    &both,
                ),
                "lycia-2",
                false,
            ),
            // A distribution's own loader has the name.
            (esp(&["lycia"], &[], &[]), "lycia-2", true),
        ] {
            assert_eq!(esp.folder_for("lycia", &stays), folder, "{esp:?}");
            assert_eq!(esp.fallback_is_free("BOOTX64.EFI", &stays), free, "{esp:?}");
        }
    }

    #[test]
    fn our_configuration_says_what_it_starts() {
        let ours = format!(
            "{MARK}{}configfile $prefix/grub.cfg\n",
            lycia_boot::menu::early("ab-cd", None)
        );
        assert_eq!(started(ours.as_bytes()).as_deref(), Some("ab-cd"));
        assert_eq!(started(MARK.as_bytes()).as_deref(), Some(""));
        assert_eq!(started(b"search --fs-uuid ab-cd\n"), None);
    }
}
