//! Installing into a directory in which the new root's file systems are mounted by somebody: nothing is partitioned or formatted, files are written.
//!
//! What is mounted there becomes fstab. A file system must be empty, or be kept: then nothing of it is touched, but for the EFI system partition, to which
//! files are added. There is no journal: what an interrupted run left has to be removed before the next.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lycia_init::superblock::Superblock;
use lycia_media::partition::Guid;
use lycia_media::partition::mbr::CODE_LEN;
use lycia_tree::Tree;
use serde::Serialize;

use crate::answers::typed::AnswersFile;
use crate::answers::{Answers, Layout};
use crate::apply::{Identity, Step};
use crate::device::{BlockDevice, Guarded, Span};
use crate::engine::{self, Consent, EngineError, Event};
use crate::esp::Stays;
use crate::file_system::{FileSystem, Kind, Subvolume, check_pass};
use crate::found::{Found, hex};
use crate::medium::{FirmwareKind, Medium};
use crate::plan::System as PlannedSystem;
use crate::probe::{Firmware, Machine};
use crate::secret;
use crate::show;
use crate::software::Software;
use crate::system::{self, Parts, Places, PreparedMount, SharedEsp, consoles};
use crate::unfold::{Place, Reserved, unfold};
use crate::usage::unescaped;

const MIB: u64 = 1 << 20;
/// Where the EFI system partition is mounted.
const ESP: &str = "/boot/efi";
/// What a new file system has of its own.
const OF_A_NEW_ONE: &str = "lost+found";

/// A file system that is mounted in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mounted {
    /// Where, in the new root.
    pub mount_point: String,
    /// Device node.
    pub device: String,
    /// Type.
    pub kind: String,
    /// UUID.
    pub uuid: String,
    /// Subvolume of Btrfs, with its slash; `/` for the top.
    pub subvolume: Option<String>,
    /// Compression of Btrfs.
    pub compression: Option<String>,
    /// Whether nothing of it is touched.
    pub kept: bool,
}

impl Mounted {
    fn options(&self) -> String {
        let mut options = "rw,relatime".to_owned();
        if let Some(how) = &self.compression {
            options.push_str(&format!(",compress={how}"));
        }
        if let Some(name) = self.subvolume.as_ref().filter(|name| *name != "/") {
            options.push_str(&format!(",subvol={name}"));
        }
        options
    }
}

/// Where GRUB for BIOS goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BiosDisk {
    /// Device node.
    pub path: String,
    /// Serial number.
    pub serial: Option<String>,
    /// Number of the BIOS boot partition.
    pub number: u32,
    /// The BIOS boot partition.
    #[serde(flatten)]
    pub span: Span,
    /// Bytes of a sector.
    pub sector: u32,
    /// Whether a boot loader is in there.
    pub used: bool,
}

/// What is in the directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ground {
    /// The directory.
    pub directory: PathBuf,
    /// Mounts, the root first.
    pub mounts: Vec<Mounted>,
    /// Swap partitions that are used, with their UUIDs.
    pub swaps: Vec<(String, String)>,
    /// The disk that BIOS starts.
    pub bios: Option<BiosDisk>,
}

fn refuse<T>(why: impl Into<String>) -> Result<T, EngineError> {
    Err(EngineError::Unsupported(format!(
        "{}. Nothing was written",
        why.into()
    )))
}

/// What is on a device, as [`lycia_init::superblock::identify`] says.
pub type Identify<'a> = &'a dyn Fn(&str) -> Vec<Superblock>;

/// Looks at the devices of the running system.
#[must_use]
pub fn identify(device: &str) -> Vec<Superblock> {
    use std::os::unix::fs::FileExt as _;
    let Ok(file) = fs::File::open(device) else {
        return Vec::new();
    };
    let mut page = [0; 4096];
    // A swap area of version 1, for pages of 4096 bytes: see `crate::swap::header`.
    if file.read_exact_at(&mut page, 0).is_ok() && page[4086..] == *b"SWAPSPACE2" {
        let uuid = page.get(1036..1052).and_then(|bytes| bytes.try_into().ok());
        return vec![Superblock {
            kind: "swap",
            label: None,
            other_label: None,
            uuid: uuid.map(|bytes| Guid::from_bytes(bytes).to_string()),
        }];
    }
    lycia_init::superblock::identify(&file)
}

/// What a device is made of that the installed system would have to put together before it could mount it.
pub type Stacked<'a> = &'a dyn Fn(&str) -> Option<&'static str>;

/// Asks the kernel, whose view is in `sysfs`.
#[must_use]
pub fn stacked(sysfs: &Path, device: &str) -> Option<&'static str> {
    // Device mapper's names lead to nodes of its own.
    let node = fs::canonicalize(device).ok()?;
    let place = fs::canonicalize(sysfs.join("class/block").join(node.file_name()?)).ok()?;
    let begins = |prefix: &str| {
        place.components().any(|part| {
            let name = part.as_os_str().to_string_lossy();
            let rest = name.strip_prefix(prefix);
            rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        })
    };
    if begins("dm-") {
        let uuid = fs::read_to_string(place.join("dm/uuid")).unwrap_or_default();
        return Some(match uuid.split('-').next() {
            Some("CRYPT") => "an encrypted volume",
            Some("LVM") => "a logical volume of LVM",
            _ => "a device of the device mapper",
        });
    }
    begins("md").then_some("an array of md (RAID)")
}

fn value<'o>(options: &'o str, name: &str) -> Option<&'o str> {
    options
        .split(',')
        .find_map(|option| option.strip_prefix(name)?.strip_prefix('='))
}

impl Ground {
    /// What is mounted in the directory of `answers`, by the text of `/proc/self/mountinfo`.
    ///
    /// # Errors
    /// When it is no place for a root.
    pub fn look(
        answers: &Answers,
        mountinfo: &str,
        identify: Identify<'_>,
        stacked: Stacked<'_>,
    ) -> Result<Ground, EngineError> {
        let plain = |device: &str, place: &str| match stacked(device) {
            Some(what) => refuse(format!(
                "{device} ({place}) is {what}, and nothing in the new system would put it together: use a partition. An encrypted root is made by the other \
                 layouts with disk.encrypt"
            )),
            None => Ok(()),
        };
        let Layout::Directory(directory) = &answers.disk.layout else {
            return refuse("the layout is not `directory`");
        };
        let mut mounts: Vec<Mounted> = Vec::new();
        for line in mountinfo.lines() {
            let Some((own, rest)) = line.split_once(" - ") else {
                continue;
            };
            let own: Vec<&str> = own.split(' ').collect();
            let rest: Vec<&str> = rest.split(' ').collect();
            let ([_, _, _, root, target, ..], [kind, source, ..]) = (&own[..], &rest[..]) else {
                continue;
            };
            let target = PathBuf::from(unescaped(target));
            let Ok(below) = target.strip_prefix(directory) else {
                continue;
            };
            let mount_point = format!("/{}", below.display());
            let device = unescaped(source);
            plain(&device, &mount_point)?;
            let Some(kept) = identify(&device)
                .into_iter()
                .find(|block| block.kind == *kind)
                .and_then(|block| block.uuid)
            else {
                return refuse(format!(
                    "{} is mounted on {}, and no UUID of a file system on a disk is known by which the new system could mount it: unmount it",
                    device,
                    target.display()
                ));
            };
            let btrfs = *kind == "btrfs";
            // One that hides another counts.
            mounts.retain(|one| one.mount_point != mount_point);
            mounts.push(Mounted {
                kept: mount_point == ESP || answers.disk.keep.contains(&mount_point),
                mount_point,
                device,
                kind: (*kind).to_owned(),
                uuid: kept,
                subvolume: btrfs.then(|| unescaped(root)),
                compression: btrfs
                    .then(|| value(rest.get(2).unwrap_or(&""), "compress").map(str::to_owned))
                    .flatten(),
            });
        }
        mounts.sort_by(|a, b| a.mount_point.cmp(&b.mount_point));
        let Some(root) = mounts.first().filter(|first| first.mount_point == "/") else {
            return refuse(format!(
                "disk.directory: nothing is mounted on {}: mount the new root's file system there first",
                directory.display()
            ));
        };
        if Kind::named(&root.kind).is_none() {
            return refuse(format!(
                "disk.directory: a root cannot be {} here; there are {}",
                root.kind,
                Kind::ALL.map(Kind::name).join(", ")
            ));
        }
        if let Some(stray) = answers
            .disk
            .keep
            .iter()
            .find(|keep| !mounts.iter().any(|one| one.mount_point == **keep))
        {
            return refuse(format!(
                "disk.keep: nothing is mounted on {stray} of the new root"
            ));
        }
        let in_a_folder = |one: &&Mounted| {
            one.mount_point == "/boot" && one.subvolume.as_ref().is_some_and(|name| name != "/")
        };
        if let Some(boot) = mounts.iter().find(in_a_folder) {
            return refuse(format!(
                "/boot of the new root is a subvolume of {}, and GRUB sees Btrfs from its top: leave /boot in the root's subvolume",
                boot.device
            ));
        }
        if let Some(esp) = mounts
            .iter()
            .find(|one| one.mount_point == ESP && one.kind != "vfat")
        {
            return refuse(format!("{ESP} of the new root is {} and not FAT", esp.kind));
        }
        let mut swaps = Vec::new();
        for device in &answers.disk.swap_partitions {
            plain(device, "swap")?;
            let uuid = identify(device)
                .into_iter()
                .find(|block| block.kind == "swap")
                .and_then(|block| block.uuid);
            match uuid {
                Some(uuid) => swaps.push((device.clone(), uuid)),
                None => {
                    return refuse(format!(
                        "disk.swap-partitions: {device} is no swap with a UUID: make it with mkswap"
                    ));
                }
            }
        }
        let ground = Ground {
            directory: directory.clone(),
            mounts,
            swaps,
            bios: None,
        };
        ground.check_empty()?;
        Ok(ground)
    }

    fn path(&self, mount_point: &str) -> PathBuf {
        self.directory.join(mount_point.trim_start_matches('/'))
    }

    fn at(&self, mount_point: &str) -> Option<&Mounted> {
        self.mounts.iter().find(|one| one.mount_point == mount_point)
    }

    /// Whether every file system that is not kept is empty, but for what others are mounted on.
    ///
    /// # Errors
    /// Names the first file that is in the way.
    pub fn check_empty(&self) -> Result<(), EngineError> {
        let mut waiting: Vec<String> = self
            .mounts
            .iter()
            .filter(|one| !one.kept)
            .map(|one| one.mount_point.clone())
            .collect();
        while let Some(folder) = waiting.pop() {
            let path = self.path(&folder);
            let failed = |source| EngineError::Read {
                path: path.display().to_string(),
                source,
            };
            for entry in fs::read_dir(&path).map_err(failed)? {
                let name = entry.map_err(failed)?.file_name();
                let inside = format!("{}/{}", folder.trim_end_matches('/'), name.to_string_lossy());
                let begins = |one: &Mounted| one.mount_point.starts_with(&format!("{inside}/"));
                if self.at(&inside).is_some() || (name == OF_A_NEW_ONE && self.at(&folder).is_some()) {
                    continue;
                }
                let real = fs::symlink_metadata(path.join(&name)).map_err(failed)?;
                if real.is_dir() && self.mounts.iter().any(begins) {
                    waiting.push(inside);
                    continue;
                }
                return refuse(format!(
                    "{} is not empty: {} is in it. Remove it, mount another file system, or name the mount in disk.keep to leave it as it is",
                    self.directory.display(),
                    path.join(&name).display()
                ));
            }
        }
        Ok(())
    }

    /// Free bytes of the root.
    fn room(&self) -> Option<u64> {
        let about = rustix::fs::statvfs(&self.directory).ok()?;
        about.f_bavail.checked_mul(about.f_frsize)
    }

    /// The root's file system as answers would have it.
    fn file_system(&self) -> FileSystem {
        let Some(root) = self.mounts.first() else {
            return FileSystem::default();
        };
        let kind = Kind::named(&root.kind).unwrap_or_default();
        let subvolume = |one: &Mounted| {
            let name = one.subvolume.as_ref().filter(|name| *name != "/")?;
            Some(Subvolume {
                mount_point: one.mount_point.clone(),
                name: name.trim_start_matches('/').to_owned(),
            })
        };
        FileSystem {
            kind,
            // The others have lines of their own: they may be on other disks.
            subvolumes: subvolume(root).into_iter().collect(),
            compression: root.compression.clone(),
        }
    }

    /// Lines of fstab beside those of the root and of the EFI system partition.
    fn prepared(&self) -> Vec<PreparedMount> {
        let others = self
            .mounts
            .iter()
            .filter(|one| one.mount_point != "/" && one.mount_point != ESP);
        let mut lines: Vec<PreparedMount> = others
            .map(|one| PreparedMount {
                uuid: one.uuid.clone(),
                mount_point: one.mount_point.clone(),
                kind: one.kind.clone(),
                options: one.options(),
                pass: check_pass(&one.kind, false),
                kept: one.kept,
            })
            .collect();
        lines.extend(self.swaps.iter().map(|(_, uuid)| PreparedMount {
            uuid: uuid.clone(),
            mount_point: "none".to_owned(),
            kind: "swap".to_owned(),
            options: "sw".to_owned(),
            pass: 0,
            kept: true,
        }));
        lines
    }

    fn places(&self, identity: &Identity, shared_esp: Option<SharedEsp>) -> Places {
        let esp = self.at(ESP);
        Places {
            root_uuid: self
                .mounts
                .first()
                .map(|one| one.uuid.clone())
                .unwrap_or_default(),
            root_type: self.file_system().kind.name(),
            esp_uuid: esp.map(|one| one.uuid.clone()),
            shared_esp,
            swap_uuid: None,
            boot_uuid: self.at("/boot").map(|one| one.uuid.clone()),
            volume_uuid: None,
            swap_file: identity.swap_file(),
            home: None,
            new_home: None,
            bios_boot: self.bios.as_ref().map(|bios| bios.span.start),
            prepared: self.prepared(),
        }
    }

    /// What is written to the EFI system partition, if there is one; `elsewhere` says whether a file system is on the machine's disks.
    fn shared_esp(&self, medium: &Medium, elsewhere: Stays<'_>) -> Option<SharedEsp> {
        self.at(ESP)?;
        let esp = crate::esp::mounted(&self.path(ESP));
        let goes = |uuid: &str| {
            self.mounts
                .iter()
                .any(|one| !one.kept && one.uuid.eq_ignore_ascii_case(uuid))
        };
        let stays = |uuid: &str| !goes(uuid) && elsewhere(uuid);
        Some(SharedEsp {
            folder: esp.folder_for(medium.install.vendor(), &stays),
            fallback: removable(medium).is_some_and(|name| esp.fallback_is_free(name, &stays)),
        })
    }
}

/// The BIOS boot partition of a disk, for GRUB. Of several it is the only empty one: in the others may be what starts other systems.
///
/// # Errors
/// When it has none, or several that could be meant.
pub fn bios_disk(
    disk: &crate::probe::Disk,
    found: &Found,
    device: &mut dyn BlockDevice,
) -> Result<BiosDisk, EngineError> {
    let mut places = Vec::new();
    let of_the_kind = found
        .partitions
        .iter()
        .filter(|one| one.kind == Some(Guid::BIOS_BOOT));
    for place in of_the_kind.filter(|_| disk.logical_sector == 512) {
        // GRUB's core image begins in the first sector.
        let mut first = [0; 512];
        let read = device.read_at(place.span.start, &mut first);
        read.map_err(|source| EngineError::Read {
            path: disk.path.clone(),
            source,
        })?;
        places.push((place, first != [0; 512]));
    }
    if places.len() > 1 {
        let numbers: Vec<String> = places.iter().map(|(one, _)| one.number.to_string()).collect();
        places.retain(|(_, used)| !used);
        if places.len() != 1 {
            return refuse(format!(
                "boot.bios-disk: {} has several BIOS boot partitions ({}), of which {} empty: another system may be started by what is in one. Clear the \
                 beginning of the one that is meant",
                disk.path,
                numbers.join(", "),
                match places.len() {
                    0 => "none is",
                    _ => "more than one is",
                }
            ));
        }
    }
    let Some((place, used)) = places.pop() else {
        return refuse(format!(
            "boot.bios-disk: {} has no BIOS boot partition on a GPT with sectors of 512 bytes: make one of 1 MiB",
            disk.path
        ));
    };
    Ok(BiosDisk {
        path: disk.path.clone(),
        serial: disk.serial.clone(),
        number: place.number,
        span: place.span,
        sector: disk.logical_sector,
        used,
    })
}

/// A plan for a directory, with everything that carrying it out needs.
pub struct Prepared {
    /// What is there.
    pub ground: Ground,
    /// What is installed.
    pub system: PlannedSystem,
    shared_esp: Option<SharedEsp>,
    answers: Answers,
    software: Software,
    consoles: Vec<String>,
    medium: Medium,
}

/// Makes the plan. `ground` has its disk for BIOS already, if there is one.
///
/// # Errors
/// When the answers do not fit what is mounted, the machine or the packages.
pub fn prepare(
    medium: &Medium,
    machine: &Machine,
    answers: &Answers,
    command_line: &str,
    ground: Ground,
    elsewhere: Stays<'_>,
) -> Result<Prepared, EngineError> {
    let mut answers = answers.clone();
    answers.disk.file_system = ground.file_system();
    if answers.disk.swap_file.is_some() && answers.disk.file_system.kind == Kind::F2fs {
        return refuse("disk.swap-file-size: F2FS moves its files: take disk.swap-partitions or zram-size");
    }
    let boots_uefi = ground.at(ESP).is_some();
    if !boots_uefi && ground.bios.is_none() {
        return refuse(format!(
            "nothing could start the system: mount an EFI system partition on {}, or name a disk in boot.bios-disk",
            ground.path(ESP).display()
        ));
    }
    let uefi = matches!(machine.firmware, Firmware::Uefi { .. });
    let repositories = engine::repositories(medium, &answers.source, answers.allocator.as_deref())?;
    let mut world = engine::world(medium, &engine::Wanted::from(&answers))?;
    let kernel = medium.kernel(answers.kernel.as_deref())?;
    for kind in ground.mounts.iter().filter_map(|one| Kind::named(&one.kind)) {
        // A file system that the medium knows nothing of may be mounted all the same: only its programs are missing.
        if let Ok(programs) = medium.file_system(kind, kernel) {
            world.extend(programs.iter().cloned());
        }
    }
    world.sort();
    world.dedup();
    let chosen = repositories.solve(&world)?;
    let consoles = consoles(&answers, command_line);
    let mut mounts: Vec<String> = ground
        .mounts
        .iter()
        .map(|one| {
            let kept = match (one.mount_point.as_str(), one.kept) {
                (ESP, _) => "  (kept, gets files added)",
                (_, true) => "  (kept)",
                _ => "",
            };
            format!(
                "{}  {}  {}  {}  UUID={}{kept}",
                one.device,
                one.mount_point,
                one.kind,
                one.options(),
                one.uuid
            )
        })
        .collect();
    mounts.extend(
        ground
            .swaps
            .iter()
            .map(|(device, uuid)| format!("{device}  swap  UUID={uuid}")),
    );
    mounts.extend(engine::swap_lines(&answers));
    let mut boot = Vec::new();
    let shared_esp = ground.shared_esp(medium, elsewhere);
    if let Some(shared) = &shared_esp {
        boot.push(format!(
            "UEFI: \\EFI\\{} on what is mounted on {ESP}",
            shared.folder
        ));
        boot.push(match shared.fallback {
            true => "UEFI: \\EFI\\BOOT there too (the fallback path, which was free or ours)".to_owned(),
            false => "UEFI: \\EFI\\BOOT there is another system's and stays".to_owned(),
        });
    }
    if let Some(bios) = &ground.bios {
        boot.push(format!(
            "BIOS: boot sector of {}, core image in its BIOS boot partition {} (bytes {} to {})",
            bios.path,
            bios.number,
            bios.span.start,
            bios.span.end()
        ));
        if bios.used {
            boot.push(format!(
                "BIOS: a boot loader is there now and is written over: what it starts will not start by itself any more (it is kept in /{}/bios-before)",
                crate::log::FOLDER
            ));
        }
    }
    if (uefi && !boots_uefi) || (!uefi && ground.bios.is_none()) {
        boot.push(format!(
            "this machine runs with {} now and would not start it",
            if uefi { "UEFI" } else { "BIOS" }
        ));
    }
    let described = engine::Described {
        mounts,
        commands: Vec::new(),
        boot,
        encrypted: false,
    };
    let system = engine::describe(
        &world,
        &chosen,
        &repositories,
        medium,
        &answers,
        &consoles,
        described,
    )?;
    let needed = system.installed_size / 4 * 5 + 64 * MIB + answers.disk.swap_file.unwrap_or(0);
    if let Some(room) = ground.room().filter(|&room| room < needed) {
        return Err(crate::plan::PlanError::TooSmall {
            place: format!("what is mounted on {}", ground.directory.display()),
            size: room,
            needed,
        }
        .into());
    }
    Ok(Prepared {
        ground,
        system,
        shared_esp,
        answers,
        software: Software::new(chosen, repositories, world),
        consoles,
        medium: medium.clone(),
    })
}

fn removable(medium: &Medium) -> Option<&str> {
    let platform = |firmware| {
        medium
            .install
            .grub
            .iter()
            .find(move |one| one.firmware == firmware)
    };
    platform(FirmwareKind::Uefi)?.removable_name.as_deref()
}

impl Prepared {
    /// SHA-256 of everything that is planned, in hexadecimal.
    #[must_use]
    pub fn hash(&self) -> String {
        let words = [
            serde_json::to_string(&self.ground).unwrap_or_default(),
            serde_json::to_string(&self.system).unwrap_or_default(),
        ];
        hex(format!("lycia-directory-plan 1\n{}\n", words.join("\n")).as_bytes())
    }

    /// The plan for people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = format!(
            "Install into {}: nothing is partitioned or formatted, files are written.\n",
            show::printable(&self.ground.directory.display().to_string())
        );
        crate::plan::system_text(&mut out, &self.system);
        out.push_str(&format!("\nplan {}\n", self.hash()));
        out
    }

    /// The plan for machines.
    ///
    /// # Errors
    /// Never in practice.
    pub fn json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string_pretty(&serde_json::json!({
            "hash": self.hash(),
            "layout": "directory",
            "ground": self.ground,
            "system": self.system,
        }))
    }

    /// Whether the plan was agreed to.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn confirm(&self, consent: &Consent) -> Result<(), EngineError> {
        let hash = self.hash();
        let refuse = |why: String| Err(EngineError::NotConfirmed(why));
        if let Some(given) = consent.hash.as_ref().or(self.answers.confirm_plan.as_ref()) {
            return match *given == hash {
                true => Ok(()),
                false => refuse(format!("the confirmed hash is {given}, the plan's is {hash}")),
            };
        }
        match &consent.typed {
            Some(typed) if Path::new(typed) == self.ground.directory => Ok(()),
            Some(typed) => refuse(format!("`{typed}` is not `{}`", self.ground.directory.display())),
            None => refuse(format!("give --confirm {hash}, or confirm.plan in the answers")),
        }
    }

    /// Carries the plan out; `bios` is the disk of [`Ground::bios`]. Nothing is written before everything that will be written is known.
    ///
    /// # Errors
    /// Where something fails; what was written by then has to be removed before the next try.
    pub fn execute(
        &self,
        file: &AnswersFile,
        bios: Option<&mut dyn BlockDevice>,
        scratch: &Path,
        events: &mut dyn FnMut(Event),
    ) -> Result<Vec<String>, EngineError> {
        let mut nonce = [0; 16];
        secret::random(&mut nonce).map_err(|source| EngineError::Read {
            path: "the kernel's random numbers".to_owned(),
            source,
        })?;
        let packages = self.software.ready(scratch, events)?;
        let places = self.ground.places(&Identity::new(nonce), self.shared_esp.clone());
        let answers_text = file
            .without_secrets()
            .text()
            .map_err(|error| EngineError::Unsupported(error.to_string()))?;
        let records = [
            ("plan.txt".to_owned(), self.text()),
            ("answers.toml".to_owned(), answers_text),
        ];
        let efi_image = match places.esp_uuid {
            Some(_) => engine::efi_image(&self.medium)?,
            None => None,
        };
        let programs = engine::programs(&self.medium)?;
        let mut system = system::assemble(
            packages,
            &Parts {
                programs: &programs,
                efi_image: efi_image.as_deref(),
                records: &records,
                ..self.parts(&places)
            },
        )?;
        let text = crate::log::of_system(&self.hash(), &self.system, &system.warnings);
        system::keep(&mut system.root, system.time, "log.txt", &text)?;
        if let (Some(disk), Some(core)) = (&self.ground.bios, &system.core)
            && core.len() as u64 > disk.span.size
        {
            return refuse(format!(
                "the core image has {} bytes, the BIOS boot partition of {} {}",
                core.len(),
                disk.path,
                disk.span.size
            ));
        }
        // Somebody may have written there since the plan was made.
        self.ground.check_empty()?;
        self.write(&system, events)?;
        if let (Some(disk), Some(core), Some(code), Some(device)) =
            (&self.ground.bios, &system.core, &system.boot_code, bios)
        {
            events(Event::Step(Step::BootLoader, 0, 0));
            self.save_bios(device, disk, core.len())?;
            write_bios(device, disk, core, code)
                .map_err(|error| left(&format!("GRUB of {}", disk.path), error))?;
        }
        Ok(system.warnings)
    }

    fn parts<'a>(&'a self, places: &'a Places) -> Parts<'a> {
        Parts {
            install: &self.medium.install,
            programs: &[],
            answers: &self.answers,
            world: &self.software.world,
            keys: &self.software.repositories.key_files,
            efi_image: None,
            consoles: &self.consoles,
            places,
            mirror: self.software.repositories.mirror(),
            records: &[],
        }
    }

    /// Tries the answers out on the packages of the medium, as [`engine::Prepared::try_out`] does.
    ///
    /// # Errors
    /// When packages cannot be had, clash, or do not have what the answers name.
    pub fn try_out(&mut self, scratch: &Path, events: &mut dyn FnMut(Event)) -> Result<(), EngineError> {
        let source = &self.answers.source;
        if let Some(packages) = self.software.at_hand(source, scratch, events)? {
            let places = self
                .ground
                .places(&Identity::new([0; 16]), self.shared_esp.clone());
            system::check(packages, &self.parts(&places))?;
        }
        Ok(())
    }

    /// Keeps what GRUB for BIOS is written over, in the root that is there by now: the first sector, and the beginning of the BIOS boot partition.
    fn save_bios(
        &self,
        device: &mut dyn BlockDevice,
        disk: &BiosDisk,
        length: usize,
    ) -> Result<(), EngineError> {
        let folder = self.ground.path(&format!("/{}/bios-before", crate::log::FOLDER));
        let failed = |source| left(&format!("what GRUB is written over of {}", disk.path), source);
        fs::create_dir_all(&folder).map_err(failed)?;
        for (name, at, size) in [
            ("first-sector", 0, disk.sector as usize),
            ("bios-boot", disk.span.start, length),
        ] {
            let mut bytes = vec![0; size];
            device.read_at(at, &mut bytes).map_err(failed)?;
            let file = fs::File::create(folder.join(name)).map_err(failed)?;
            io::Write::write_all(&mut &file, &bytes).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        Ok(())
    }

    fn write(&self, system: &system::System, events: &mut dyn FnMut(Event)) -> Result<(), EngineError> {
        let reserved = system.swap_file.map(|(id, size)| Reserved {
            id,
            size,
            in_place: self.answers.disk.file_system.kind == Kind::Btrfs,
        });
        // `/boot` apart is a tree of its own, with its own root.
        let apart = system.boot.as_ref().map(|_| "/boot");
        let within = |one: &&Mounted| match apart {
            Some(boot) => one.mount_point != boot && !one.mount_point.starts_with(&format!("{boot}/")),
            None => true,
        };
        let place = |one: &Mounted, mount_point: String| Place {
            mount_point,
            directory: self.ground.path(&one.mount_point),
            kept: one.kept,
        };
        let mut places: Vec<Place> = self
            .ground
            .mounts
            .iter()
            .filter(within)
            .map(|one| place(one, one.mount_point.clone()))
            .collect();
        if let Some(boot) = apart {
            // Only to be mounted on.
            places.push(Place {
                mount_point: boot.to_owned(),
                directory: self.ground.path(boot),
                kept: true,
            });
        }
        let told = |error: crate::unfold::UnfoldError| left("the root", io::Error::other(error.to_string()));
        let mut shown = |done, total| events(Event::Step(Step::Root, done, total));
        unfold(&system.root, &places, reserved, &mut shown).map_err(told)?;
        if let (Some(tree), Some(boot)) = (&system.boot, apart) {
            let places: Vec<Place> = self
                .ground
                .mounts
                .iter()
                .filter(|one| !within(one))
                .map(|one| {
                    let below = one.mount_point.strip_prefix(boot).unwrap_or_default();
                    place(
                        one,
                        if below.is_empty() {
                            "/".to_owned()
                        } else {
                            below.to_owned()
                        },
                    )
                })
                .collect();
            let mut shown = |done, total| events(Event::Step(Step::Boot, done, total));
            unfold(tree, &places, None, &mut shown).map_err(told)?;
        }
        if let Some(tree) = &system.esp {
            events(Event::Step(Step::Esp, 0, 0));
            add_files(tree, &self.ground.path(ESP))
                .map_err(|error| left("the EFI system partition", error))?;
        }
        Ok(())
    }
}

fn left(what: &str, error: io::Error) -> EngineError {
    EngineError::Unsupported(format!(
        "writing {what}: {error}. Files were written: remove them before the next try"
    ))
}

/// Adds files to a FAT volume, which has neither owners nor links. One that is there is replaced whole.
fn add_files(tree: &Tree, directory: &Path) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt as _;
    for entry in tree.walk() {
        let path = directory.join(std::ffi::OsStr::from_bytes(entry.relative()));
        match entry.inode.content() {
            None if entry.inode.is_directory() => fs::create_dir_all(&path)?,
            None => {}
            Some(content) => {
                let aside = path.with_extension("new");
                let mut file = fs::File::create(&aside)?;
                io::Write::write_all(&mut file, content.bytes())?;
                file.sync_all()?;
                fs::rename(&aside, &path)?;
            }
        }
    }
    let folder = fs::File::open(directory)?;
    Ok(rustix::fs::syncfs(&folder)?)
}

/// The core image before the sector that starts it; the table in that sector stays.
fn write_bios(
    device: &mut dyn BlockDevice,
    disk: &BiosDisk,
    core: &[u8],
    code: &[u8; CODE_LEN],
) -> io::Result<()> {
    let sector = Span {
        start: 0,
        size: u64::from(disk.sector),
    };
    let mut guarded = Guarded::new(device, [disk.span, sector]);
    guarded.write_at(disk.span.start, core)?;
    guarded.flush()?;
    let mut first = vec![0; disk.sector as usize];
    guarded.read_at(0, &mut first)?;
    first[..CODE_LEN].copy_from_slice(code);
    guarded.write_at(0, &first)?;
    guarded.flush()
}

#[cfg(test)]
mod tests;
