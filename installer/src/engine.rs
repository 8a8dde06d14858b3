//! From answers to a finished disk: looks at the machine, plans, checks consent, writes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::answers::typed::AnswersFile;
use crate::answers::{Answers, Layout, Network, Source};
use crate::apply::{self, ApplyError, Contents, Identity, Step};
use lycia_boot::{grub, menu};
use lycia_luks::LuksError;
use lycia_media::partition::gpt;
use lycia_tree::Content;

use crate::device::{BlockDevice, Reading};
use crate::encryption::{Passphrase, Sealed};
use crate::esp::{Stays, vendor_image};
use crate::file_system::FileSystem;
use crate::found::{Found, Partition, look};
use crate::journal::{Journal, JournalError, Notes, State};
use crate::medium::{AllocatorTable, FirmwareKind, Medium, MediumError};
use crate::nvram;
use crate::plan::layout::{Ways, lay_out};
use crate::plan::{Action, Draft, Plan, PlanError, Previous, Role};
use crate::probe::{Firmware, Machine};
use crate::secret;
use crate::select::{SelectError, select};
use crate::software::Software;
use crate::source::{Repositories, SourceError};
use crate::system::{self, Parts, Places, SystemError, consoles};
use crate::tools::Tools;

mod description;

use description::of_disk;
pub(crate) use description::{Described, describe, swap_lines};

const MIB: u64 = 1 << 20;
/// Label of the root file system.
const ROOT_LABEL: &str = "root";

/// Why there is no installation.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The medium.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// The disk.
    #[error(transparent)]
    Select(#[from] SelectError),
    /// The layout.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The packages.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The system.
    #[error(transparent)]
    System(#[from] SystemError),
    /// The encryption of the root.
    #[error("encrypting the root: {0}. Nothing more was written")]
    Encryption(#[from] LuksError),
    /// Writing.
    #[error(transparent)]
    Apply(#[from] ApplyError),
    /// The disk cannot be read.
    #[error("reading {path}: {source}")]
    Read {
        /// The disk.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// The plan was not agreed to.
    #[error("the plan was not confirmed: {0}. Nothing was written")]
    NotConfirmed(String),
    /// A resumed run is another one.
    #[error(
        "the plan that was interrupted on this disk was another one (its hash begins {was}, these answers give {now}): give the same answers and the same packages (a server may have newer ones by now), or `lycia-install undo`"
    )]
    OtherPlan {
        /// Beginning of the hash in the journal.
        was: String,
        /// Beginning of the hash of these answers.
        now: String,
    },
    /// Something that this program cannot do.
    #[error("{0}")]
    Unsupported(String),
}

/// A plan with everything that carrying it out needs.
pub struct Prepared {
    /// The plan.
    pub plan: Plan,
    /// The answers.
    pub answers: Answers,
    software: Software,
    consoles: Vec<String>,
    /// What the disk's first sector starts now.
    previous: Option<Previous>,
    /// The firmware that the plan is for, and the one that started the medium this time.
    firmware: Firmware,
    started_by: Firmware,
    medium: Medium,
    /// Bytes of memory of this machine, which will open what is encrypted.
    memory: Option<u64>,
    /// Where the firmware's variables are, if its menu is to get an entry.
    pub efivars: Option<PathBuf>,
    /// GUIDs of partitions of the other disks: what the firmware's menu has for them stays.
    pub others: BTreeSet<[u8; 16]>,
}

/// What is heard of a running installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Packages: bytes that are unpacked, of how many, and the package that came last.
    Package(u64, u64, String),
    /// The system is put together.
    Assemble,
    /// A step: bytes written, bytes expected (0 if not known).
    Step(Step, u64, u64),
}

/// What of the answers decides which packages are installed.
#[derive(Debug, Clone, Copy)]
pub struct Wanted<'a> {
    /// Kernel package; the medium's default if none.
    pub kernel: Option<&'a str>,
    /// Package sets.
    pub sets: &'a [String],
    /// World entries beside them.
    pub extra: &'a [String],
    /// Allocator; the medium's default if none.
    pub allocator: Option<&'a str>,
    /// Whether there is a network.
    pub network: bool,
    /// File system of the root.
    pub file_system: crate::file_system::Kind,
}

impl<'a> From<&'a Answers> for Wanted<'a> {
    fn from(answers: &'a Answers) -> Self {
        Self {
            kernel: answers.kernel.as_deref(),
            sets: &answers.sets,
            extra: &answers.extra,
            allocator: answers.allocator.as_deref(),
            network: answers.network != Network::Off,
            file_system: answers.disk.file_system.kind,
        }
    }
}

/// World of an installation.
///
/// # Errors
/// When the medium does not have what the answers name.
pub fn world(medium: &Medium, wanted: &Wanted) -> Result<Vec<String>, MediumError> {
    let install = &medium.install;
    let mut world = install.packages.clone();
    let kernel = medium.kernel(wanted.kernel)?;
    world.push(kernel.package.clone());
    world.extend(medium.file_system(wanted.file_system, kernel)?.iter().cloned());
    if wanted.network {
        world.extend(install.network_packages.iter().cloned());
    }
    for set in wanted.sets {
        world.extend(medium.set(set)?.packages.iter().cloned());
    }
    world.extend(wanted.extra.iter().cloned());
    let allocators = &install.allocator;
    if let Some(chosen) = medium.allocator(wanted.allocator)? {
        // Packages of the other allocators must not hold them in.
        let own = chosen.world();
        for other in allocators.iter().filter(|other| other.name != chosen.name) {
            let theirs = other.world();
            let asked = |package: &&String| wanted.extra.contains(package) && !own.contains(package);
            if let Some(package) = theirs.iter().find(asked) {
                return Err(MediumError::OtherAllocator {
                    package: package.clone(),
                    allocator: other.name.clone(),
                    chosen: chosen.name.clone(),
                });
            }
        }
        let others: Vec<String> = allocators
            .iter()
            .filter(|other| other.name != chosen.name)
            .flat_map(AllocatorTable::world)
            .filter(|package| !own.contains(package))
            .collect();
        world.retain(|entry| !others.contains(entry));
        world.extend(own);
    }
    world.sort();
    world.dedup();
    Ok(world)
}

fn ways(medium: &Medium, firmware: Firmware, layout: &Layout) -> Ways {
    let has = |kind: FirmwareKind| {
        medium
            .install
            .grub
            .iter()
            .any(|platform| platform.firmware == kind)
    };
    let running_bios = matches!(firmware, Firmware::Bios);
    // A disk of its own boots on either firmware; beside others only what this machine needs is touched.
    let both = matches!(
        layout,
        Layout::Erase | Layout::Partitions { .. } | Layout::Table(_)
    );
    Ways {
        bios: has(FirmwareKind::Bios) && (both || running_bios),
        uefi: has(FirmwareKind::Uefi) && (both || !running_bios),
    }
}

/// The repositories of a source, with the virtual packages that an allocator of the medium wants.
///
/// # Errors
/// When one cannot be had or no key signed it.
pub fn repositories(
    medium: &Medium,
    source: &Source,
    allocator: Option<&str>,
) -> Result<Repositories, EngineError> {
    let mut keys = medium.keys()?;
    let opened = match source {
        Source::Local => Repositories::local(&medium.packages(), &medium.install.arch, keys)?,
        Source::Network {
            repositories,
            mirrors,
            keys: more,
        } => {
            for path in more {
                let name = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                let pem = std::fs::read(path).map_err(|source| SourceError::Io {
                    doing: "reading the key",
                    place: path.display().to_string(),
                    source,
                })?;
                keys.push((name, pem));
            }
            Repositories::network(repositories, mirrors, &medium.install.arch, keys)?
        }
    };
    let allocator = medium.allocator(allocator)?;
    let virtuals = allocator.map(AllocatorTable::virtual_packages);
    Ok(opened.with_virtuals(virtuals.unwrap_or_default()))
}

/// The medium's image of GRUB for UEFI: its name on the fallback path, and where it is.
fn efi_image_path(medium: &Medium) -> Option<(&str, PathBuf)> {
    let grub = medium
        .install
        .grub
        .iter()
        .find(|platform| platform.firmware == FirmwareKind::Uefi)?;
    let name = grub.removable_name.as_deref()?;
    Some((name, medium.directory.join("EFI/BOOT").join(name)))
}

/// Decides whether the fallback path of a shared EFI system partition is written, and whether what is added fits.
fn share_esp(
    draft: &mut Draft,
    found: &Found,
    medium: &Medium,
    elsewhere: Stays<'_>,
) -> Result<(), EngineError> {
    let shared = draft.partitions.iter().find(|one| one.role == Role::SharedEsp);
    let Some(number) = shared.map(|one| one.number) else {
        return Ok(());
    };
    let esp = found.partitions.iter().find(|one| one.number == number);
    let (Some(Ok(esp)), Some((name, path))) = (esp.and_then(|one| one.esp.as_ref()), efi_image_path(medium))
    else {
        return Err(EngineError::Unsupported(
            "an EFI system partition is to be shared, and the medium has no GRUB for UEFI".to_owned(),
        ));
    };
    let goes = |number: u32| draft.lost.iter().any(|lost| lost.number == number);
    let here = |uuid: &str| {
        let has = |one: &&Partition| {
            one.uuid
                .as_deref()
                .is_some_and(|own| own.eq_ignore_ascii_case(uuid))
        };
        found.partitions.iter().find(has).map(|one| !goes(one.number))
    };
    let stays = |uuid: &str| here(uuid).unwrap_or_else(|| elsewhere(uuid));
    draft.folder = esp.folder_for(medium.install.vendor(), &stays);
    draft.fallback = esp.fallback_is_free(name, &stays);
    let size = std::fs::metadata(&path)
        .map_err(|source| MediumError::Read { path, source })?
        .len();
    // An image in each place, with room for its configuration and whole clusters of the largest kind.
    let needed = (size + 256 * 1024) * if draft.fallback { 2 } else { 1 };
    if esp.free < needed {
        return Err(PlanError::TooSmall {
            place: format!("the free space of the EFI system partition {number}"),
            size: esp.free,
            needed,
        }
        .into());
    }
    Ok(())
}

/// Makes the plan. `device` is the disk that the answers select, opened for reading; where an interrupted run is to be resumed, `journal` is its journal, and
/// the plan is made from the disk as it was. `elsewhere` says whether a file system is on another disk.
///
/// # Errors
/// When the answers do not fit the machine or the packages.
pub fn prepare(
    medium: &Medium,
    machine: &Machine,
    answers: &Answers,
    command_line: &str,
    device: &mut dyn BlockDevice,
    journal: Option<&Journal>,
    elsewhere: Stays<'_>,
) -> Result<Prepared, EngineError> {
    let selector = answers.disk.select.as_deref().unwrap_or_default();
    let disk = select(machine, selector)?;
    let unreadable = |source| EngineError::Read {
        path: disk.path.clone(),
        source,
    };
    let mut first = [0; grub::SECTOR];
    let mut seen = |device: &mut dyn BlockDevice| {
        if device.size() >= first.len() as u64 {
            device.read_at(0, &mut first)?;
        }
        look(device)
    };
    let found = match journal {
        Some(journal) => seen(&mut journal.original(device).map_err(ApplyError::Journal)?),
        None => seen(device),
    };
    let found = found.map_err(unreadable)?;
    // What was begun is finished as it was planned, whichever firmware started the medium this time.
    let firmware = journal.map_or(machine.firmware, |journal| journal.notes().firmware);
    let ways = ways(medium, firmware, &answers.disk.layout);
    // Without packages first: what does not fit the disk needs no repository to be found out.
    let mut draft = lay_out(disk, &found, &answers.disk, ways)?;
    share_esp(&mut draft, &found, medium, elsewhere)?;
    if journal.is_none() {
        draft.name_systems(device);
    }
    let plan = draft.clone().check()?;
    let repositories = repositories(medium, &answers.source, answers.allocator.as_deref())?;
    let world = world(medium, &Wanted::from(answers))?;
    let chosen = repositories.solve(&world)?;
    let consoles = match journal {
        Some(journal) => journal.notes().consoles.clone(),
        None => consoles(answers, command_line),
    };
    let previous = draft.previous(&first);
    let mut system = describe(
        &world,
        &chosen,
        &repositories,
        medium,
        answers,
        &consoles,
        of_disk(&plan, medium, answers, matches!(firmware, Firmware::Uefi { .. })),
    )?;
    match &previous {
        Some(Previous::Kept(_)) => {
            system.boot.push(format!(
                "BIOS: what the boot sector starts now will not start by itself any more: the new menu has it as `{}`",
                menu::PREVIOUS_TITLE
            ));
            system.files.push(format!("/{} (the boot sector of now)", menu::PREVIOUS));
        }
        Some(Previous::Gone(at)) => system.boot.push(format!(
            "BIOS: what the boot sector starts now will not start any more, and the new menu has no entry for it: its GRUB is at byte {at}, \
             which is written over"
        )),
        None => {}
    }
    // Directories, initramfs and the file system's own: a quarter and 64 MiB beside the packages, and room to work.
    let needed = system.installed_size / 4 * 5
        + 64 * MIB
        + answers.disk.swap_file.unwrap_or(0)
        + answers.disk.file_system.kind.overhead();
    if let Some(root) = plan.root()
        && root.span.size / 20 * 19 < needed
    {
        return Err(PlanError::TooSmall {
            place: "the root".to_owned(),
            size: root.span.size,
            needed: needed / 19 * 20,
        }
        .into());
    }
    draft.system = Some(system);
    Ok(Prepared {
        plan: draft.check()?,
        answers: answers.clone(),
        software: Software::new(chosen, repositories, world),
        consoles,
        previous,
        firmware,
        started_by: machine.firmware,
        medium: medium.clone(),
        memory: machine.memory,
        efivars: None,
        others: BTreeSet::new(),
    })
}

/// How somebody agrees to a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Consent {
    /// Hash given on the command line.
    pub hash: Option<String>,
    /// Name of the disk that was typed.
    pub typed: Option<String>,
}

impl Prepared {
    /// Whether the plan was agreed to.
    ///
    /// # Errors
    /// Says what is missing.
    pub fn confirm(&self, consent: &Consent) -> Result<(), EngineError> {
        let hash = self.plan.hash();
        let refuse = |why: String| Err(EngineError::NotConfirmed(why));
        // Where several hashes were given, the one of the command line counts.
        if let Some(given) = consent.hash.as_ref().or(self.answers.confirm_plan.as_ref()) {
            return if *given == hash {
                Ok(())
            } else {
                refuse(format!("the confirmed hash is {given}, the plan's is {hash}"))
            };
        }
        if let Some(typed) = &consent.typed {
            return if typed == self.plan.short_name() {
                Ok(())
            } else {
                refuse(format!("`{typed}` is not `{}`", self.plan.short_name()))
            };
        }
        match (&self.answers.confirm_serial, &self.plan.disk().serial) {
            (Some(given), Some(serial)) if given == serial => Ok(()),
            (Some(given), serial) => refuse(format!(
                "confirm.serial is `{given}`, the disk's serial number is `{}`",
                serial.as_deref().unwrap_or("(none)")
            )),
            (None, _) => refuse(format!("give --confirm {hash}, or confirm.serial in the answers")),
        }
    }

    /// Carries the plan out: unpacks packages into `scratch`, puts the system together, writes the disk. Nothing is written to the disk before everything that will
    /// be written is known.
    ///
    /// # Errors
    /// Where something fails; the disk can then be resumed or undone, if it was touched at all.
    pub fn execute(
        &self,
        file: &AnswersFile,
        device: &mut dyn BlockDevice,
        tools: &mut dyn Tools,
        scratch: &Path,
        journal: Option<Journal>,
        events: &mut dyn FnMut(Event),
    ) -> Result<Vec<String>, EngineError> {
        self.check_tools(tools)?;
        let identity = match &journal {
            Some(journal) => {
                let (was, now) = (journal.plan(), self.plan.hash());
                if was != now {
                    let short = |hash: &str| hash.chars().take(12).collect();
                    return Err(EngineError::OtherPlan {
                        was: short(was),
                        now: short(&now),
                    });
                }
                Identity::new(journal.nonce())
            }
            None => {
                let mut nonce = [0; 16];
                secret::random(&mut nonce).map_err(|source| EngineError::Read {
                    path: "the kernel's random numbers".to_owned(),
                    source,
                })?;
                Identity::new(nonce)
            }
        };
        let packages = self.software.ready(scratch, events)?;
        let places = Places::of(&self.plan, &identity);
        let efi_image = self.efi_image()?;
        let answers_text = file
            .without_secrets()
            .text()
            .map_err(|error| EngineError::Unsupported(error.to_string()))?;
        let records = [
            ("plan.txt".to_owned(), self.plan.text()),
            ("answers.toml".to_owned(), answers_text),
        ];
        let mut programs = programs(&self.medium)?;
        if let Some(Previous::Kept(sector)) = &self.previous {
            programs.push((menu::PREVIOUS.to_owned(), 0o644, sector.to_vec().into()));
        }
        let mut system = system::assemble(
            packages,
            &Parts {
                efi_image: efi_image.as_deref(),
                records: &records,
                programs: &programs,
                ..self.parts(&places)
            },
        )?;
        self.keep_log(&mut system)?;
        let notes = self.notes(file)?;
        let sealed = self.seal(device, &identity, journal.as_ref())?;
        let contents = Contents {
            root: &system.root,
            boot: system.boot.as_ref(),
            home: system.home.as_ref(),
            sealed: sealed.as_ref(),
            esp: system.esp.as_ref(),
            core: system.core.as_deref(),
            boot_code: system.boot_code,
            swap_file: system.swap_file,
            file_system: &self.answers.disk.file_system,
            label: ROOT_LABEL,
            time: system.time,
            notes: &notes,
        };
        apply::apply(
            device,
            tools,
            &self.plan,
            &contents,
            identity,
            journal,
            &mut |step, done, total| events(Event::Step(step, done, total)),
        )?;
        let mut warnings = system.warnings;
        warnings.extend(self.menu_entry(device));
        Ok(warnings)
    }

    fn parts<'a>(&'a self, places: &'a Places) -> Parts<'a> {
        Parts {
            install: &self.medium.install,
            answers: &self.answers,
            world: &self.software.world,
            keys: &self.software.repositories.key_files,
            efi_image: None,
            consoles: &self.consoles,
            places,
            mirror: self.software.repositories.mirror(),
            records: &[],
            programs: &[],
        }
    }

    /// Tries the answers out on the packages of the medium, which are unpacked into `scratch` and kept for [`Self::execute`]: a time zone, a group or a service
    /// that they do not have is said before anybody agrees to the plan. Packages of a network are fetched after that, and tried before anything is written.
    ///
    /// # Errors
    /// When packages cannot be had, clash, or do not have what the answers name.
    pub fn try_out(&mut self, scratch: &Path, events: &mut dyn FnMut(Event)) -> Result<(), EngineError> {
        let source = &self.answers.source;
        if let Some(packages) = self.software.at_hand(source, scratch, events)? {
            let places = Places::of(&self.plan, &Identity::new([0; 16]));
            system::check(packages, &self.parts(&places))?;
        }
        Ok(())
    }

    /// Puts how the system was made into it.
    fn keep_log(&self, system: &mut system::System) -> Result<(), EngineError> {
        let planned = self.plan.draft().system.as_ref();
        let planned = planned.cloned().unwrap_or_default();
        let text = crate::log::of_system(&self.plan.hash(), &planned, &system.warnings);
        system::keep(&mut system.root, system.time, "log.txt", &text)?;
        Ok(())
    }

    /// What the journal keeps for a run that goes on.
    fn notes(&self, file: &AnswersFile) -> Result<Notes, EngineError> {
        let answers = file.for_journal().text();
        let root = std::iter::once(("root", &self.answers.root));
        let users = self
            .answers
            .users
            .iter()
            .map(|user| (user.name.as_str(), &user.login));
        let logins = root.chain(users).filter(|(_, login)| login.password.is_some());
        Ok(Notes {
            answers: answers.map_err(|error| EngineError::Unsupported(error.to_string()))?,
            consoles: self.consoles.clone(),
            firmware: self.firmware,
            passwords: logins.map(|(name, _)| name.to_owned()).collect(),
        })
    }

    /// Gives the firmware's menu an entry; what went wrong with it. The disk is whole without: it has the fallback path, or the firmware's own menu finds it.
    fn menu_entry(&self, device: &mut dyn BlockDevice) -> Option<String> {
        // Where the plan was made under BIOS it names no entry.
        if !self.answers.nvram || !matches!(self.firmware, Firmware::Uefi { .. }) {
            return None;
        }
        let shared = self.plan.partition(Role::SharedEsp);
        let esp = shared.or_else(|| self.plan.partition(Role::Esp))?;
        let (removable, _) = efi_image_path(&self.medium)?;
        if !matches!(self.started_by, Firmware::Uefi { .. }) {
            return Some(
                "the firmware's menu got no entry: the medium was started without UEFI this time; `lycia-install boot-repair` adds it under UEFI"
                    .to_owned(),
            );
        }
        let efivars = self.efivars.as_ref()?;
        let path = match shared {
            Some(_) => format!("\\EFI\\{}\\{}", self.plan.draft().folder, vendor_image(removable)),
            None => format!("\\EFI\\BOOT\\{removable}"),
        };
        let failed = |why: String| Some(format!("the firmware's menu got no entry: {why}"));
        let sector = device.sector();
        let table = match gpt::Table::read(&mut Reading::new(device), sector) {
            Ok((table, _)) => table,
            Err(error) => return failed(error.to_string()),
        };
        let partition = table.partitions.iter().find(|one| one.number == esp.number)?;
        let entry = nvram::Entry::of(partition, &self.medium.install.name, path);
        let mut partitions = self.others.clone();
        partitions.extend(table.partitions.iter().map(|one| one.guid.to_disk()));
        nvram::write(efivars, &entry, &partitions)
            .err()
            .and_then(|error| failed(error.to_string()))
    }

    /// Whether this system can make the root that was planned.
    ///
    /// # Errors
    /// Says what it lacks.
    pub fn check_tools(&self, tools: &dyn Tools) -> Result<(), EngineError> {
        let disk = &self.answers.disk;
        let ready = tools.ready(disk.file_system.kind, disk.encryption.is_some());
        ready.map_err(|why| EngineError::Unsupported(format!("disk.filesystem: {why}. Nothing was written")))
    }

    /// Whether somebody must type the passphrase of the root before [`Self::execute`].
    #[must_use]
    pub fn wants_passphrase(&self) -> bool {
        let encryption = self.answers.disk.encryption.as_ref();
        encryption.is_some_and(|encryption| encryption.passphrase.is_none())
    }

    /// Whether the passphrase is that of a volume which an interrupted run made already, and no new one.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn has_volume(
        &self,
        device: &mut dyn BlockDevice,
        journal: Option<&Journal>,
    ) -> Result<bool, EngineError> {
        let header = self.plan.region(Action::LuksHeader);
        let (Some(header), Some(journal)) = (header, journal) else {
            return Ok(false);
        };
        let uuid = Identity::new(journal.nonce()).volume().to_string();
        Ok(journal.step() > 0 && Sealed::begun(device, header.span, &uuid)?)
    }

    /// Takes the passphrase that somebody typed.
    pub fn set_passphrase(&mut self, passphrase: Passphrase) {
        if let Some(encryption) = &mut self.answers.disk.encryption {
            encryption.passphrase = Some(passphrase);
        }
    }

    /// The volume of the root: a new one, or the one that an interrupted run began.
    fn seal(
        &self,
        device: &mut dyn BlockDevice,
        identity: &Identity,
        journal: Option<&Journal>,
    ) -> Result<Option<Sealed>, EngineError> {
        let Some(span) = self.plan.region(Action::LuksHeader).map(|region| region.span) else {
            return Ok(None);
        };
        let encryption = self.answers.disk.encryption.as_ref();
        let Some(passphrase) = encryption.and_then(|encryption| encryption.passphrase.as_ref()) else {
            return Err(EngineError::Unsupported(
                "the root is to be encrypted and there is no passphrase: give disk.passphrase-file, disk.passphrase-fd, or a terminal. Nothing was written".to_owned(),
            ));
        };
        let uuid = identity.volume().to_string();
        // Before the old headers were cleared there is none of this run.
        let begun = |journal: &Journal| journal.step() > 0;
        if journal.is_some_and(begun)
            && let Some(resumed) = Sealed::resumed(device, span, &uuid, passphrase)?
        {
            return Ok(Some(resumed));
        }
        let memory = self.memory.unwrap_or(1 << 30);
        Ok(Some(Sealed::new(&uuid, passphrase, device.sector(), memory)?))
    }

    fn efi_image(&self) -> Result<Option<Vec<u8>>, EngineError> {
        if self.plan.region(Action::Fat32).is_none() && self.plan.region(Action::FatInsert).is_none() {
            return Ok(None);
        }
        efi_image(&self.medium)
    }
}

/// The medium's image of GRUB for UEFI, if it has one.
pub(crate) fn efi_image(medium: &Medium) -> Result<Option<Vec<u8>>, EngineError> {
    let Some((_, path)) = efi_image_path(medium) else {
        return Ok(None);
    };
    let image = std::fs::read(&path).map_err(|source| MediumError::Read { path, source })?;
    Ok(Some(image))
}

/// What the medium brings beside its packages: programs, and what it offers, by which the system changes its allocator later.
pub(crate) fn programs(medium: &Medium) -> Result<Vec<(String, u16, Content)>, EngineError> {
    let read = |(path, place): (String, PathBuf)| match std::fs::read(&place) {
        Ok(bytes) => Ok((path, 0o755, Content::from(bytes))),
        Err(source) => Err(EngineError::Read {
            path: place.display().to_string(),
            source,
        }),
    };
    let (path, text) = medium.kept()?;
    let mut all = vec![(path, 0o644, Content::from(text))];
    for program in medium.programs()? {
        all.push(read(program)?);
    }
    Ok(all)
}

/// What erasing a disk would write where, for both kinds of firmware, before anything else is decided.
///
/// # Errors
/// When the disk cannot be read or is not fit for it.
pub fn erase_only(disk: &crate::probe::Disk, device: &mut dyn BlockDevice) -> Result<Plan, EngineError> {
    let found = look(device).map_err(|source| EngineError::Read {
        path: disk.path.clone(),
        source,
    })?;
    let wanted = crate::answers::Disk {
        select: None,
        layout: Layout::Erase,
        home: None,
        esp: None,
        encryption: None,
        boot_size: None,
        esp_size: crate::answers::ESP_SIZE,
        root_size: None,
        swap_size: None,
        swap_file: None,
        zram: None,
        file_system: FileSystem::default(),
        keep: Vec::new(),
        swap_partitions: Vec::new(),
    };
    let both = Ways {
        bios: true,
        uefi: true,
    };
    let mut draft = lay_out(disk, &found, &wanted, both)?;
    draft.name_systems(device);
    Ok(draft.check()?)
}

/// The journal of an interrupted run on a disk, if there is one.
///
/// # Errors
/// When the disk cannot be read.
pub fn interrupted(device: &mut dyn BlockDevice) -> Result<Option<Journal>, EngineError> {
    let journal = Journal::find(device).map_err(|source| {
        EngineError::Apply(ApplyError::Journal(JournalError::Io {
            doing: "looking for a journal",
            source,
        }))
    })?;
    Ok(journal.filter(|journal| journal.state() == State::Applying))
}

#[cfg(test)]
mod secrets;
#[cfg(test)]
pub(crate) mod tests;
