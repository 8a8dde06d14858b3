//! Carrying a plan out.
//!
//! The order is fixed: the journal with its copies first, then file systems and the boot loader, then a look at what was written, and the
//! table last. Every step writes the same bytes when it is repeated, so an interrupted run is resumed by repeating
//! the step that was not finished, and undone by writing the copies back. Nothing outside of the plan's ranges can be
//! written: the device is guarded.

use std::io;

use lycia_media::partition::mbr::{CODE_LEN, Mbr};
use lycia_media::partition::{Guid, gpt};
use lycia_media::{ext4, fat};
use lycia_tree::{InodeId, Timestamp, Tree};

use crate::device::{BlockDevice, Gather, Guarded, Reading, Span, Window};
use crate::encryption::{Inside, Sealed};
use crate::file_system::{FileSystem, Kind};
use crate::found;
use crate::journal::{Journal, JournalError, Notes, State};
use crate::plan::{Action, Plan, TableChange};
use crate::tools::Tools;
use crate::unfold::{Place, Reserved, unfold};

const MIB: u64 = 1 << 20;

/// What the new file systems are known by. Everything follows from one random value, so that a resumed run makes
/// the same.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Identity {
    nonce: [u8; 16],
}

impl Identity {
    /// From a random value.
    #[must_use]
    pub fn new(nonce: [u8; 16]) -> Identity {
        Identity { nonce }
    }

    /// The random value.
    #[must_use]
    pub fn nonce(&self) -> [u8; 16] {
        self.nonce
    }

    /// UUID of the root file system.
    #[must_use]
    pub fn root(&self) -> Guid {
        Guid::derive(&self.nonce, "root file system")
    }

    /// UUID of the file system for `/boot`.
    #[must_use]
    pub fn boot(&self) -> Guid {
        Guid::derive(&self.nonce, "boot file system")
    }

    /// UUID of the encrypted volume of the root.
    #[must_use]
    pub fn volume(&self) -> Guid {
        Guid::derive(&self.nonce, "encrypted volume")
    }

    /// UUID of a new file system for `/home`.
    #[must_use]
    pub fn home(&self) -> Guid {
        Guid::derive(&self.nonce, "home file system")
    }

    /// UUID of the swap.
    #[must_use]
    pub fn swap(&self) -> Guid {
        Guid::derive(&self.nonce, "swap")
    }

    /// UUID of the swap file.
    #[must_use]
    pub fn swap_file(&self) -> Guid {
        Guid::derive(&self.nonce, "swap file")
    }

    /// Serial number of the EFI system partition.
    #[must_use]
    pub fn esp(&self) -> u32 {
        let bytes = Guid::derive(&self.nonce, "EFI system partition").to_bytes();
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    /// The serial number as blkid spells it: `ABCD-1234`.
    #[must_use]
    pub fn esp_text(&self) -> String {
        let serial = self.esp();
        format!("{:04X}-{:04X}", serial >> 16, serial & 0xffff)
    }
}

/// What is written.
pub struct Contents<'a> {
    /// The root.
    pub root: &'a Tree,
    /// `/boot`, where it has a file system of its own.
    pub boot: Option<&'a Tree>,
    /// `/home`, where it has a new file system of its own.
    pub home: Option<&'a Tree>,
    /// What encrypts the root.
    pub sealed: Option<&'a Sealed>,
    /// The EFI system partition.
    pub esp: Option<&'a Tree>,
    /// GRUB's core image for BIOS.
    pub core: Option<&'a [u8]>,
    /// Code of the boot sector.
    pub boot_code: Option<[u8; CODE_LEN]>,
    /// The swap file of the root and its bytes.
    pub swap_file: Option<(InodeId, u64)>,
    /// The root's file system.
    pub file_system: &'a FileSystem,
    /// Label of the root file system.
    pub label: &'a str,
    /// The time of file systems.
    pub time: Timestamp,
    /// What goes into the journal.
    pub notes: &'a Notes,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Zeros at both ends of new partitions.
    Wipe,
    /// The EFI system partition.
    Esp,
    /// GRUB's core image.
    BootLoader,
    /// Swap.
    Swap,
    /// `/boot`.
    Boot,
    /// `/home`.
    Home,
    /// The root.
    Root,
    /// A look at what is there.
    Verify,
    /// The table and the boot sector.
    Table,
}

impl Step {
    /// All, in order.
    pub const ALL: [Step; 9] = [
        Step::Wipe,
        Step::Esp,
        Step::BootLoader,
        Step::Swap,
        Step::Boot,
        Step::Home,
        Step::Root,
        Step::Verify,
        Step::Table,
    ];

    /// For people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Step::Wipe => "clear old headers",
            Step::Esp => "EFI system partition",
            Step::BootLoader => "boot loader",
            Step::Swap => "swap",
            Step::Boot => "/boot",
            Step::Home => "/home",
            Step::Root => "root file system",
            Step::Verify => "check",
            Step::Table => "partition table",
        }
    }
}

/// Why a plan was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The disk is not the one that was planned for.
    #[error("{0}; nothing was written. Make a new plan")]
    Changed(String),
    /// Another installation was begun on this disk.
    #[error(
        "an installation on this disk was interrupted; `lycia-install resume` finishes it, `lycia-install undo` brings the old tables back"
    )]
    Interrupted,
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// A step failed.
    #[error(
        "writing the {step}: {why}; `lycia-install resume` tries again, `lycia-install undo` brings the old tables back"
    )]
    Step {
        /// Which.
        step: &'static str,
        /// Why.
        why: String,
    },
}

/// How far a step is: the step, bytes written, bytes expected (0 if that is not known).
pub type Progress<'a> = &'a mut dyn FnMut(Step, u64, u64);

/// Carries `plan` out on `device`. `identity` is drawn by the caller; where an interrupted run of the same plan is resumed, it is that of the journal.
///
/// # Errors
/// When the disk changed since the plan was made (nothing is written then), or it refuses; the journal then knows how far things are.
pub fn apply(
    device: &mut dyn BlockDevice,
    tools: &mut dyn Tools,
    plan: &Plan,
    contents: &Contents<'_>,
    identity: Identity,
    resumed: Option<Journal>,
    progress: Progress<'_>,
) -> Result<(), ApplyError> {
    let disk = plan.disk();
    if device.size() != disk.size || device.sector() != disk.logical_sector {
        return Err(ApplyError::Changed(format!(
            "{} has {} bytes in sectors of {}, the plan is for {} in sectors of {}",
            disk.path,
            device.size(),
            device.sector(),
            disk.size,
            disk.logical_sector
        )));
    }
    let mut guarded = Guarded::new(device, plan.writable());
    let device: &mut dyn BlockDevice = &mut guarded;
    let mut journal = match resumed {
        Some(journal) if journal.plan() == plan.hash() && journal.nonce() == identity.nonce() => journal,
        Some(_) => return Err(ApplyError::Interrupted),
        None => {
            let digest = found::digest(device)
                .map_err(|error| ApplyError::Changed(format!("reading {}: {error}", disk.path)))?;
            if digest != disk.digest {
                return Err(ApplyError::Changed(format!(
                    "the table of {} is not what it was when the plan was made",
                    disk.path
                )));
            }
            Journal::begin(device, plan, identity.nonce(), contents.notes.clone())?
        }
    };
    // Read once, before anything is written over: the table that partitions are added to.
    let old = old_table(device, plan, &journal)?;
    for (number, step) in Step::ALL.into_iter().enumerate().skip(journal.step() as usize) {
        let failed = |why: String| ApplyError::Step {
            step: step.words(),
            why,
        };
        Runner {
            device: &mut *device,
            tools: &mut *tools,
            plan,
            contents,
            identity,
            progress: &mut *progress,
            journal: &journal,
        }
        .run(step, old.as_ref())
        .map_err(failed)?;
        device.flush().map_err(|error| failed(error.to_string()))?;
        journal.advance(device, number as u32 + 1)?;
    }
    journal.finish(device)?;
    Ok(())
}

/// The GPT that was there when the installation began: the disk's own until the last step, afterwards the journal's.
fn old_table(
    device: &mut dyn BlockDevice,
    plan: &Plan,
    journal: &Journal,
) -> Result<Option<gpt::Table>, ApplyError> {
    if plan.draft().table != TableChange::Edited {
        return Ok(None);
    }
    let sector = device.sector();
    let failed = |why: String| ApplyError::Step {
        step: "partition table",
        why,
    };
    let mut original = journal.original(device)?;
    let table = gpt::Table::read(&mut Reading::new(&mut original), sector);
    table
        .map(|(table, _)| Some(table))
        .map_err(|error| failed(error.to_string()))
}

struct Runner<'a, 'p> {
    device: &'a mut dyn BlockDevice,
    tools: &'a mut dyn Tools,
    plan: &'a Plan,
    contents: &'a Contents<'a>,
    identity: Identity,
    progress: &'a mut (dyn FnMut(Step, u64, u64) + 'p),
    journal: &'a Journal,
}

type Ran = Result<(), String>;

fn words(error: io::Error) -> String {
    error.to_string()
}

impl Runner<'_, '_> {
    fn span(&self, action: Action) -> Option<Span> {
        self.plan.region(action).map(|region| region.span)
    }

    fn run(&mut self, step: Step, old: Option<&gpt::Table>) -> Ran {
        (self.progress)(step, 0, 0);
        match step {
            Step::Wipe => self.wipe(),
            Step::Esp => self.esp(),
            Step::BootLoader => self.boot_loader(),
            Step::Swap => self.swap(),
            Step::Boot => self.part(Step::Boot),
            Step::Home => self.part(Step::Home),
            Step::Root => self.root(),
            Step::Verify => self.verify(),
            Step::Table => self.table(old),
        }
    }

    fn wipe(&mut self) -> Ran {
        let formatted = [
            Action::Fat32,
            Action::BootLoader,
            Action::Swap,
            Action::LuksHeader,
            Action::BootExt4,
            Action::HomeExt4,
        ];
        for region in self.plan.regions() {
            let span = region.span;
            if formatted.contains(&region.action) || region.action.roots() {
                let edge = MIB.min(span.size);
                self.device.zero(span.start, edge).map_err(words)?;
                self.device.zero(span.end() - edge, edge).map_err(words)?;
            } else if region.action == Action::Zero && region.partition.is_some() {
                self.device.zero(span.start, span.size).map_err(words)?;
            }
        }
        Ok(())
    }

    /// Puts files into a volume that is shared. They are laid out by what it was before the installation began, so that a step that is repeated writes the same.
    fn share(&mut self, span: Span) -> Ran {
        let Some(tree) = self.contents.esp else {
            return Ok(());
        };
        let time = self.contents.time;
        let insertion = {
            let mut original = self
                .journal
                .original(self.device)
                .map_err(|error| error.to_string())?;
            let mut nothing = |_| ();
            let window = Window::new(&mut original, span, &mut nothing);
            fat::Insertion::new(window, tree, time).map_err(|error| error.to_string())?
        };
        let progress = &mut self.progress;
        let mut done = 0;
        let mut written = |count| {
            done += count;
            progress(Step::Esp, done, 0);
        };
        insertion
            .write(&mut Window::new(self.device, span, &mut written))
            .map_err(words)
    }

    fn esp(&mut self) -> Ran {
        if let Some(span) = self.span(Action::FatInsert) {
            return self.share(span);
        }
        let Some(span) = self.span(Action::Fat32) else {
            return Ok(());
        };
        let empty = Tree::new(lycia_tree::Metadata::new(0o755, self.contents.time));
        let tree = self.contents.esp.unwrap_or(&empty);
        let volume = fat::Volume {
            label: Some("ESP".to_owned()),
            serial: self.identity.esp(),
            time: self.contents.time,
            // FAT32 has at least 65,525 clusters, which are not smaller than sectors.
            width: (span.size / u64::from(self.device.sector()) > 66_600).then_some(fat::Width::Fat32),
            size: span.size,
        };
        let sector = self.device.sector();
        let progress = &mut self.progress;
        let mut done = 0;
        let mut written = |count| {
            done += count;
            progress(Step::Esp, done, 0);
        };
        let mut window = Window::new(self.device, span, &mut written);
        fat::write_sectors(&mut window, 0, sector, tree, &volume).map_err(|error| error.to_string())
    }

    fn boot_loader(&mut self) -> Ran {
        let (Some(span), Some(core)) = (self.span(Action::BootLoader), self.contents.core) else {
            return Ok(());
        };
        if core.len() as u64 > span.size {
            return Err(format!(
                "the core image has {} bytes, its partition {}",
                core.len(),
                span.size
            ));
        }
        self.device.write_at(span.start, core).map_err(words)
    }

    fn swap(&mut self) -> Ran {
        let Some(span) = self.span(Action::Swap) else {
            return Ok(());
        };
        let header = crate::swap::header(span.size, self.identity.swap());
        self.device.write_at(span.start, &header).map_err(words)
    }

    /// A part of the root with a file system of its own.
    fn part(&mut self, step: Step) -> Ran {
        let (action, tree, label, uuid) = match step {
            Step::Home => (Action::HomeExt4, self.contents.home, "home", self.identity.home()),
            _ => (Action::BootExt4, self.contents.boot, "boot", self.identity.boot()),
        };
        let (Some(span), Some(tree)) = (self.span(action), tree) else {
            return Ok(());
        };
        let volume = ext4::Volume {
            sector_size: self.device.sector(),
            label: label.as_bytes().to_vec(),
            existing: ext4::Existing::Unknown,
            ..ext4::Volume::new(span.size, uuid, self.contents.time)
        };
        let progress = &mut *self.progress;
        write_ext4(self.device, span, tree, &volume, &mut |done, total| {
            progress(step, done, total)
        })
    }

    fn root(&mut self) -> Ran {
        let Some(region) = self.plan.root() else {
            return Ok(());
        };
        let span = region.span;
        let header = self.span(Action::LuksHeader);
        let sealed = match header {
            None => None,
            Some(header) => {
                let sealed = self.contents.sealed;
                let sealed = sealed.ok_or("the plan has an encrypted root and there is no key")?;
                sealed.write_header(self.device, header).map_err(words)?;
                Some(sealed)
            }
        };
        if region.action != Action::Ext4 {
            return self.made(span, sealed);
        }
        let volume = ext4::Volume {
            sector_size: self.device.sector(),
            label: self.contents.label.bytes().take(ext4::LABEL_MAX).collect(),
            existing: ext4::Existing::Unknown,
            enlarged: self.contents.swap_file.into_iter().collect(),
            ..ext4::Volume::new(span.size, self.identity.root(), self.contents.time)
        };
        let progress = &mut *self.progress;
        let mut shown = |done, total| progress(Step::Root, done, total);
        let Some(sealed) = sealed else {
            return write_ext4(self.device, span, self.contents.root, &volume, &mut shown);
        };
        let cipher = sealed.cipher().map_err(|error| error.to_string())?;
        let mut inside = Inside::new(self.device, span, cipher);
        let whole = Span {
            start: 0,
            size: span.size,
        };
        write_ext4(&mut inside, whole, self.contents.root, &volume, &mut shown)
    }

    /// A root that its own program makes and the kernel fills. Repeated, it is made anew.
    fn made(&mut self, span: Span, sealed: Option<&Sealed>) -> Ran {
        let file_system = self.contents.file_system;
        if self.plan.root().map(|root| root.action) != Some(file_system.kind.action()) {
            return Err(format!("the plan has no {}", file_system.kind.name()));
        }
        let filled = self.fill(span, sealed);
        // Also after an error: a file system that stays mounted holds the disk.
        let released = self.tools.release(self.device).map_err(|error| error.to_string());
        filled.and(released)
    }

    fn fill(&mut self, span: Span, sealed: Option<&Sealed>) -> Ran {
        let (file_system, kind) = (self.contents.file_system, self.contents.file_system.kind);
        let uuid = self.identity.root().to_string();
        let told = |error: crate::tools::ToolError| error.to_string();
        // What an interrupted run made has the same UUID, with which mkfs.btrfs makes nothing anew.
        self.device.zero(span.start, MIB.min(span.size)).map_err(words)?;
        self.device.flush().map_err(words)?;
        let mut node = self.tools.expose(self.device, span).map_err(told)?;
        if let Some(sealed) = sealed {
            let opened = self.tools.encrypt(self.device, &node, span.size, sealed);
            node = opened.map_err(told)?;
        }
        let command = file_system.make(&node, self.contents.label, &uuid, self.device.sector());
        let command = command.ok_or("no program makes this file system")?;
        self.tools
            .run(self.device, command.program, &command.arguments)
            .map_err(told)?;
        let top = self
            .tools
            .mount(self.device, &node, kind, &file_system.data())
            .map_err(told)?;
        let mut places = Vec::new();
        for subvolume in &file_system.subvolumes {
            let directory = top.join(&subvolume.name);
            let arguments = [
                "subvolume".to_owned(),
                "create".to_owned(),
                directory.display().to_string(),
            ];
            self.tools.run(self.device, "btrfs", &arguments).map_err(told)?;
            places.push(Place {
                mount_point: subvolume.mount_point.clone(),
                directory,
                kept: false,
            });
        }
        if places.is_empty() {
            places.push(Place {
                mount_point: "/".to_owned(),
                directory: top,
                kept: false,
            });
        }
        let reserved = self.contents.swap_file.map(|(id, size)| Reserved {
            id,
            size,
            in_place: kind == Kind::Btrfs,
        });
        let progress = &mut *self.progress;
        let mut shown = |done, total| progress(Step::Root, done, total);
        unfold(self.contents.root, &places, reserved, &mut shown).map_err(|error| error.to_string())
    }

    fn verify(&mut self) -> Ran {
        let mut expected = Vec::new();
        if let Some(root) = self.plan.root() {
            let (name, uuid) = (
                self.contents.file_system.kind.name(),
                self.identity.root().to_string(),
            );
            match self.span(Action::LuksHeader) {
                None => expected.push((root.span, name, uuid)),
                Some(header) => {
                    expected.push((header, "crypto_LUKS", self.identity.volume().to_string()));
                    self.verify_inside(root.span, name, &uuid)?;
                }
            }
        }
        if let Some(span) = self.span(Action::BootExt4) {
            expected.push((span, "ext4", self.identity.boot().to_string()));
        }
        if let Some(span) = self.span(Action::HomeExt4) {
            expected.push((span, "ext4", self.identity.home().to_string()));
        }
        if let Some(span) = self.span(Action::Fat32) {
            expected.push((span, "vfat", self.identity.esp_text()));
        }
        for (span, kind, uuid) in expected {
            let read = found::file_system(self.device, span);
            let right = read.as_ref().is_some_and(|read| {
                read.kind == kind
                    && read
                        .uuid
                        .as_deref()
                        .is_some_and(|read| read.eq_ignore_ascii_case(&uuid))
            });
            if !right {
                return Err(format!(
                    "the disk does not give back the {kind} that was written from byte {}: {read:?}",
                    span.start
                ));
            }
        }
        if let (Some(span), Some(tree)) = (self.span(Action::FatInsert), self.contents.esp) {
            let mut nothing = |_| ();
            let window = Window::new(self.device, span, &mut nothing);
            let insertion = fat::Insertion::new(window, tree, self.contents.time);
            if !insertion.map_err(|error| error.to_string())?.is_empty() {
                return Err("the EFI system partition does not give back what was added".into());
            }
        }
        if let (Some(span), Some(core)) = (self.span(Action::BootLoader), self.contents.core) {
            let mut bytes = vec![0; core.len()];
            self.device.read_at(span.start, &mut bytes).map_err(words)?;
            if bytes != core {
                return Err("the disk does not give back the boot loader".into());
            }
        }
        Ok(())
    }

    /// Whether the file system inside of an encrypted volume is there.
    fn verify_inside(&mut self, span: Span, kind: &str, uuid: &str) -> Ran {
        let sealed = self.contents.sealed.ok_or("there is no key")?;
        let cipher = sealed.cipher().map_err(|error| error.to_string())?;
        let mut inside = Inside::new(self.device, span, cipher);
        let whole = Span {
            start: 0,
            size: span.size,
        };
        let read = found::file_system(&mut inside, whole);
        let right = read
            .as_ref()
            .is_some_and(|read| read.kind == kind && read.uuid.as_deref() == Some(uuid));
        if right {
            return Ok(());
        }
        Err(format!(
            "the encrypted volume does not give back its {kind}: {read:?}"
        ))
    }

    fn table(&mut self, old: Option<&gpt::Table>) -> Ran {
        let disk = self.plan.disk();
        let sector = u64::from(disk.logical_sector);
        let seed = self.identity.nonce();
        let table = self.plan.table(old, &seed).map_err(|error| error.to_string())?;
        if let Some(table) = &table {
            let backup = table.backup().map_err(|error| error.to_string())?;
            let (entries, header) = backup.split_at(backup.len() - sector as usize);
            let at = table.backup_sector() * sector;
            self.device.write_at(at, entries).map_err(words)?;
            self.device.flush().map_err(words)?;
            self.device
                .write_at(at + entries.len() as u64, header)
                .map_err(words)?;
            self.device.flush().map_err(words)?;
            // The backup is whole; now the primary, entries first.
            for region in self.plan.regions() {
                if region.action == Action::Zero && region.partition.is_none() {
                    self.device
                        .zero(region.span.start, region.span.size)
                        .map_err(words)?;
                }
            }
            let primary = table.primary().map_err(|error| error.to_string())?;
            let (header, entries) = primary.split_at(sector as usize);
            self.device.write_at(2 * sector, entries).map_err(words)?;
            self.device.flush().map_err(words)?;
            self.device.write_at(sector, header).map_err(words)?;
            self.device.flush().map_err(words)?;
        }
        if table.is_none() && self.span(Action::BootSector).is_none() {
            return Ok(());
        }
        let mut first = vec![0; sector as usize];
        self.device.read_at(0, &mut first).map_err(words)?;
        if self.plan.draft().table == TableChange::New {
            first.fill(0);
            first[..512].copy_from_slice(&Mbr::protective(disk.size / sector).encode());
        }
        if let Some(code) = &self.contents.boot_code {
            first[..CODE_LEN].copy_from_slice(code);
        }
        self.device.write_at(0, &first).map_err(words)
    }
}

/// Writes a tree as ext4.
fn write_ext4(
    device: &mut dyn BlockDevice,
    span: Span,
    tree: &Tree,
    volume: &ext4::Volume,
    progress: &mut dyn FnMut(u64, u64),
) -> Ran {
    let layout = ext4::Plan::new(tree, volume).map_err(|error| error.to_string())?;
    let total: u64 = tree
        .walk()
        .filter_map(|entry| entry.inode.content().map(lycia_tree::Content::len))
        .sum();
    let mut done = 0;
    let mut shown = 0;
    let mut written = |count| {
        done += count;
        if done - shown >= MIB {
            shown = done;
            progress(done.min(total), total);
        }
    };
    let mut window = Gather::new(Window::new(device, span, &mut written));
    layout
        .write(&mut window, 0, &mut |_| ())
        .map_err(|error| error.to_string())?;
    window.finish().map_err(words)
}

/// Brings the old tables and headers of a disk back. Whether there was anything to undo.
///
/// # Errors
/// When the disk refuses or a copy is damaged. It can be tried again.
pub fn undo(device: &mut dyn BlockDevice) -> Result<Option<State>, ApplyError> {
    let journal = Journal::find(device).map_err(|source| JournalError::Io {
        doing: "looking for a journal",
        source,
    })?;
    let Some(journal) = journal else { return Ok(None) };
    let state = journal.state();
    journal.undo(device)?;
    Ok(Some(state))
}

#[cfg(test)]
mod tests;
