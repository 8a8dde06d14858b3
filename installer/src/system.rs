//! The system that is installed: a tree computed from packages and answers, and what boots it.

pub mod configure;
mod split;
mod swap;

pub(crate) use swap::FILES as ZRAM_FILES;

use lycia_apk::dependency;
use lycia_apk::install::Unpacked;
use lycia_boot::{grub, initramfs, menu};
use lycia_media::compress::Compression;
use lycia_media::partition::Guid;
use lycia_root::assembly;
use lycia_tree::{Content, Follow, InodeId, Metadata, Timestamp, Tree};

use crate::answers::{Answers, Serial};
use crate::apply::Identity;
use crate::file_system::{FileSystem, Kind};
use crate::keyboard;
use crate::medium::{FirmwareKind, GrubTable, Install};
use crate::plan::{Action, Plan, Role};
use configure::ConfigureError;

/// What the EFI image runs: the rest is a file beside it, which an upgrade can change.
const EFI_EARLY: &str = "set prefix=$cmdpath\n";
/// Level at which the initramfs is compressed: a third of the time of 12 for a few per cent more bytes.
const INITRAMFS_LEVEL: i32 = 3;

/// Why the system could not be put together.
#[derive(Debug, thiserror::Error)]
pub enum SystemError {
    /// Packages do not fit each other.
    #[error("assembling the root: {0}")]
    Packages(String),
    /// An answer does not fit the packages.
    #[error(transparent)]
    Configure(#[from] ConfigureError),
    /// It could not be made bootable.
    #[error("making it bootable: {0}")]
    Boot(String),
}

fn packages(error: impl std::fmt::Display) -> SystemError {
    SystemError::Packages(error.to_string())
}

fn boot(error: impl std::fmt::Display) -> SystemError {
    SystemError::Boot(error.to_string())
}

/// The system.
pub struct System {
    /// The root.
    pub root: Tree,
    /// `/boot`, where it has a file system of its own.
    pub boot: Option<Tree>,
    /// `/home`, where it has a new file system of its own.
    pub home: Option<Tree>,
    /// The EFI system partition.
    pub esp: Option<Tree>,
    /// GRUB's core image for BIOS.
    pub core: Option<Vec<u8>>,
    /// The code of the boot sector.
    pub boot_code: Option<[u8; grub::BOOT_CODE]>,
    /// The swap file and its bytes.
    pub swap_file: Option<(InodeId, u64)>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The time of everything that no package dates.
    pub time: Timestamp,
}

/// Where the parts of the system will be.
#[derive(Clone, Debug)]
pub struct Places {
    /// UUID of the root file system.
    pub root_uuid: String,
    /// Type of the root file system.
    pub root_type: &'static str,
    /// UUID of the EFI system partition.
    pub esp_uuid: Option<String>,
    /// Whether the EFI system partition is shared: then what is written to it.
    pub shared_esp: Option<SharedEsp>,
    /// UUID of the swap.
    pub swap_uuid: Option<String>,
    /// UUID of the file system of `/boot`, where it has one of its own.
    pub boot_uuid: Option<String>,
    /// UUID of the encrypted volume that holds the root.
    pub volume_uuid: Option<String>,
    /// UUID of a swap file.
    pub swap_file: Guid,
    /// UUID and type of what becomes `/home`.
    pub home: Option<(String, String)>,
    /// UUID of a new file system for `/home`.
    pub new_home: Option<String>,
    /// First byte of the BIOS boot partition.
    pub bios_boot: Option<u64>,
    /// What is mounted beside the root and the EFI system partition where somebody has prepared the file systems.
    pub prepared: Vec<PreparedMount>,
}

/// What is written to an EFI system partition that is shared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedEsp {
    /// Folder below `EFI`.
    pub folder: String,
    /// Whether the fallback path is written as well.
    pub fallback: bool,
}

/// A line of fstab for a file system that somebody has prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PreparedMount {
    /// UUID.
    pub uuid: String,
    /// The directory; `none` for swap.
    pub mount_point: String,
    /// Type.
    pub kind: String,
    /// Options.
    pub options: String,
    /// Pass of checks at a start.
    pub pass: u8,
    /// Whether nothing of it was touched.
    pub kept: bool,
}

impl Places {
    /// What is prepared for a directory.
    pub(crate) fn prepared_at(&self, mount_point: &str) -> Option<&PreparedMount> {
        self.prepared.iter().find(|one| one.mount_point == mount_point)
    }
}

impl Places {
    /// The places of a plan.
    #[must_use]
    pub fn of(plan: &Plan, identity: &Identity) -> Places {
        let home = plan.partition(Role::Home).and_then(|home| {
            Some((
                home.uuid.clone()?,
                home.file_system.clone().unwrap_or_else(|| "auto".to_owned()),
            ))
        });
        Places {
            root_uuid: identity.root().to_string(),
            root_type: Kind::ALL
                .into_iter()
                .find(|kind| plan.root().is_some_and(|root| root.action == kind.action()))
                .unwrap_or_default()
                .name(),
            esp_uuid: match plan.partition(Role::SharedEsp) {
                Some(shared) => shared.uuid.clone(),
                None => plan.region(Action::Fat32).map(|_| identity.esp_text()),
            },
            shared_esp: plan.partition(Role::SharedEsp).map(|_| SharedEsp {
                folder: plan.draft().folder.clone(),
                fallback: plan.draft().fallback,
            }),
            swap_uuid: plan.region(Action::Swap).map(|_| identity.swap().to_string()),
            boot_uuid: plan.region(Action::BootExt4).map(|_| identity.boot().to_string()),
            volume_uuid: plan
                .region(Action::LuksHeader)
                .map(|_| identity.volume().to_string()),
            swap_file: identity.swap_file(),
            home,
            new_home: plan.region(Action::HomeExt4).map(|_| identity.home().to_string()),
            bios_boot: plan.region(Action::BootLoader).map(|region| region.span.start),
            prepared: Vec::new(),
        }
    }
}

/// What a system is put together from.
pub struct Parts<'a> {
    /// The medium's description.
    pub install: &'a Install,
    /// The answers.
    pub answers: &'a Answers,
    /// World.
    pub world: &'a [String],
    /// Public keys for the installed system: name and PEM text.
    pub keys: &'a [(String, Vec<u8>)],
    /// The medium's image of GRUB for UEFI.
    pub efi_image: Option<&'a [u8]>,
    /// Consoles, the last one being `/dev/console`.
    pub consoles: &'a [String],
    /// Where everything will be.
    pub places: &'a Places,
    /// Programs and what else no package brings: path in the root, mode, content.
    pub programs: &'a [(String, u16, Content)],
    /// Which of the source's mirrors the installed system gets its packages from.
    pub mirror: usize,
    /// What is kept of the installation below [`crate::log::FOLDER`]: name and text.
    pub records: &'a [(String, String)],
}

/// Consoles of the installed system: the screen, and a serial line if one was asked for or is in use.
#[must_use]
pub fn consoles(answers: &Answers, command_line: &str) -> Vec<String> {
    let serial = match &answers.serial {
        Serial::Off => None,
        Serial::On(console) => Some(console.clone()),
        Serial::AsNow => command_line
            .split_whitespace()
            .filter_map(|word| word.strip_prefix("console="))
            .rfind(|console| !console.starts_with("tty0") && !console.is_empty())
            .filter(|console| {
                console.starts_with("ttyS") || console.starts_with("ttyAMA") || console.starts_with("hvc")
            })
            .map(str::to_owned),
    };
    match serial {
        // The last one is where the kernel's messages and init's questions go: the line that is used now.
        Some(serial) => vec!["tty0".to_owned(), serial],
        None => vec![],
    }
}

/// Keeps a text about the installation in the installed system, for root alone to read.
///
/// # Errors
/// When something is in the way.
pub(crate) fn keep(tree: &mut Tree, time: Timestamp, name: &str, text: &str) -> Result<(), SystemError> {
    let folder = crate::log::FOLDER;
    tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))
        .map_err(packages)?;
    let path = format!("{folder}/{name}");
    tree.write(path.as_bytes(), Metadata::new(0o600, time), text.into())
        .map_err(packages)?;
    tree.clamp_times(time);
    Ok(())
}

/// The packages in a tree, before anything of the answers is.
#[derive(Clone)]
pub struct Packages {
    tree: Tree,
    installed: assembly::Installed,
    time: Timestamp,
}

impl Packages {
    /// Puts them into a tree and runs their triggers.
    ///
    /// # Errors
    /// When packages clash.
    pub fn new(unpacked: Vec<Unpacked>) -> Result<Packages, SystemError> {
        // The newest package dates what nobody dates: no clock is needed, and the clock may be wrong.
        let epoch = unpacked.iter().map(|one| one.entry.build_time).max().unwrap_or(0);
        let time = Timestamp::from_seconds(i64::try_from(epoch).unwrap_or(i64::MAX));
        let mut tree = Tree::new(Metadata::new(0o755, time));
        let options = lycia_root::Options { time, strict: false };
        let installed = assembly::install(&mut tree, unpacked, &options).map_err(packages)?;
        Ok(Packages {
            tree,
            installed,
            time,
        })
    }
}

/// The root as packages and answers make it, but for what boots it.
struct Configured {
    tree: Tree,
    time: Timestamp,
    warnings: Vec<String>,
}

/// Puts the system together as far as it can be known whether packages and answers fit each other.
///
/// # Errors
/// When packages clash, or an answer names something that they do not have.
pub fn check(packages: Packages, parts: &Parts<'_>) -> Result<(), SystemError> {
    configured(packages, parts).map(drop)
}

fn configured(begun: Packages, parts: &Parts<'_>) -> Result<Configured, SystemError> {
    let Packages {
        mut tree,
        mut installed,
        time,
    } = begun;
    let world = parts
        .world
        .iter()
        .map(|word| dependency::parse_world_entry(word))
        .collect::<Result<Vec<_>, _>>()
        .map_err(packages)?;
    let lines = match &parts.answers.source {
        crate::answers::Source::Network {
            repositories,
            mirrors,
            ..
        } => crate::source::lines_for(repositories, mirrors.get(parts.mirror).map_or("", String::as_str)),
        crate::answers::Source::Local => {
            let repositories = parts.install.repository.iter();
            repositories.map(|one| one.line.clone()).collect()
        }
    };
    let records = assembly::Records {
        world: &world,
        arch: &parts.install.arch,
        keys: parts.keys,
        repositories: &lines,
    };
    installed.record(&mut tree, &records).map_err(packages)?;
    for (path, mode, content) in parts.programs {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))
            .and_then(|_| tree.write(path.as_bytes(), Metadata::new(*mode, time), content.clone()))
            .map_err(packages)?;
    }
    let configured = configure::configure(&mut tree, parts, time)?;
    // After the services are enabled: the one of the first boot is tied into what is there then.
    installed.finish(&mut tree).map_err(packages)?;
    let mut warnings = installed.warnings;
    warnings.extend(configured);
    Ok(Configured { tree, time, warnings })
}

/// Puts the system together.
///
/// # Errors
/// When packages clash, an answer does not fit them, or something that boots is missing.
pub fn assemble(begun: Packages, parts: &Parts<'_>) -> Result<System, SystemError> {
    let Configured {
        mut tree,
        time,
        mut warnings,
    } = configured(begun, parts)?;
    for (name, text) in parts.records {
        keep(&mut tree, time, name, text)?;
    }
    let (esp, core, boot_code) = bootable(&mut tree, parts, time)?;
    tree.clamp_times(time);
    let boot = match parts.places.boot_uuid {
        Some(_) => Some(split::split(&mut tree, "boot", time).map_err(packages)?),
        None => None,
    };
    let home = match parts.places.new_home {
        Some(_) => Some(split::split(&mut tree, "home", time).map_err(packages)?),
        None => None,
    };
    let swap_file = match parts.answers.disk.swap_file {
        Some(size) => {
            Some(crate::swap::file(&mut tree, size, parts.places.swap_file, time).map_err(packages)?)
        }
        None => None,
    };
    tree.clamp_times(time);
    warnings.sort();
    warnings.dedup();
    Ok(System {
        root: tree,
        boot,
        home,
        esp,
        core,
        boot_code,
        swap_file,
        warnings,
        time,
    })
}

/// GRUB for BIOS: the core image that lies from byte `start` of the disk on, and the code of the first sector, which loads it. `module` reads the root
/// where that is not ext4, `early` runs first.
pub(crate) fn bios_boot_loader_of(
    files: &grub::Files,
    module: Option<&str>,
    early: &str,
    start: u64,
) -> Result<(Vec<u8>, [u8; grub::BOOT_CODE]), SystemError> {
    let there = |module: &&&str| files.contains_key(&format!("{module}.mod"));
    let mut modules: Vec<&str> = grub::CORE_MODULES.iter().filter(there).copied().collect();
    // One that is not there is an error: nothing could start.
    modules.extend(module);
    let first = start / grub::SECTOR as u64;
    let core = grub::bios_core(files, &modules, early, "/boot/grub", first).map_err(boot)?;
    Ok((core, grub::boot_code(files, first).map_err(boot)?))
}

/// GRUB for UEFI: the medium's image as an installed system has it, and the `grub.cfg` beside it, which runs `early` first.
pub(crate) fn efi_files_of(image: &[u8], early: &str) -> Result<(Vec<u8>, String), SystemError> {
    let image = grub::efi_with_config(image, EFI_EARLY).map_err(boot)?;
    Ok((
        image,
        format!("{}{early}configfile $prefix/grub.cfg\n", crate::esp::MARK),
    ))
}

/// The files of a folder of the root.
pub(crate) fn folder(tree: &Tree, path: &str) -> Result<grub::Files, SystemError> {
    let Some(id) = tree.find(path.as_bytes(), Follow::All).map_err(boot)? else {
        return Ok(grub::Files::new());
    };
    let entries = tree.inode(id).entries().into_iter().flatten();
    let files = entries.filter_map(|(name, &id)| {
        let name = std::str::from_utf8(name).ok()?;
        Some((name.to_owned(), tree.inode(id).content()?.clone()))
    });
    Ok(files.collect())
}

/// A pattern of modules that may be missing: a plain name becomes a pattern that only it matches.
fn optional(name: &str) -> String {
    match name.chars().next() {
        Some(first) if !name.contains(['*', '?', '[']) && first.is_ascii_alphanumeric() => {
            format!("[{first}]{}", &name[1..])
        }
        _ => name.to_owned(),
    }
}

/// The initramfs of a kernel of an installed root.
///
/// # Errors
/// When the root lacks the init or a module that must be there.
pub fn installed_initramfs(
    tree: &Tree,
    kernel: &str,
    table: &crate::medium::InitramfsTable,
    time: Timestamp,
) -> Result<Vec<u8>, SystemError> {
    let available: Vec<String> = table
        .available_modules
        .iter()
        .map(|name| optional(name))
        .collect();
    let modules = table
        .modules
        .iter()
        .chain(&available)
        .map(String::as_str)
        .collect();
    let mut config =
        String::from("# Initramfs of an installed system; the root comes from the command line.\n");
    if !table.modules.is_empty() {
        config.push_str(&format!("modules = {}\n", table.modules.join(" ")));
    }
    let recipe = initramfs::Recipe {
        kernel,
        config,
        modules,
        programs: table.programs.iter().map(String::as_str).collect(),
        keymap: match table.keymaps {
            true => keyboard::of_system(tree).map_err(boot)?,
            false => None,
        },
        time,
    };
    let made = initramfs::tree(tree, &recipe).map_err(boot)?;
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
    initramfs::archive(&made, &Compression::zstd(INITRAMFS_LEVEL), threads).map_err(boot)
}

/// What the initramfs has, with the module of the root's file system, which every kernel must have.
pub(crate) fn mounting_table(
    tree: &Tree,
    kernels: &[String],
    file_system: &FileSystem,
    table: &crate::medium::InitramfsTable,
) -> Result<crate::medium::InitramfsTable, SystemError> {
    let mut table = table.clone();
    if file_system.kind == Kind::Ext4 {
        return Ok(table);
    }
    let name = file_system.kind.name();
    for kernel in kernels {
        let modules = lycia_root::depmod::Modules::load(tree, kernel).map_err(boot)?;
        modules.closure(&[name]).map_err(|_| {
            boot(format!(
                "the kernel {kernel} has no module {name} and could not mount the root: choose another kernel, or another disk.filesystem. \
                 Nothing was written"
            ))
        })?;
    }
    table.modules.push(name.to_owned());
    Ok(table)
}

type Bootable = (Option<Tree>, Option<Vec<u8>>, Option<[u8; grub::BOOT_CODE]>);

/// Where the packages have GRUB's modules for a platform.
fn grub_folder(platform: &str) -> String {
    format!("usr/lib/grub/{platform}")
}

fn bootable(tree: &mut Tree, parts: &Parts<'_>, time: Timestamp) -> Result<Bootable, SystemError> {
    let file = Metadata::new(0o644, time);
    let kernels = lycia_boot::kernels(tree).map_err(boot)?;
    if kernels.is_empty() {
        return Err(boot("the packages have no /boot/vmlinuz-VERSION"));
    }
    let mut versions: Vec<String> = kernels.into_iter().map(|kernel| kernel.version).collect();
    let file_system = &parts.answers.disk.file_system;
    let table = mounting_table(tree, &versions, file_system, &parts.install.initramfs)?;
    // The newest first.
    versions.sort_by(|a, b| lycia_apk::version::compare(b, a).then_with(|| b.cmp(a)));
    let root_uuid = parts.places.root_uuid.as_str();
    let boot_uuid = parts.places.boot_uuid.as_deref();
    let unlock = parts.places.volume_uuid.as_deref();
    let unlock = unlock.map(crate::encryption::boot_argument);
    let mounting = file_system.arguments();
    let words = [
        unlock.as_deref().unwrap_or_default(),
        mounting.as_str(),
        parts.install.boot.arguments.as_str(),
        parts.answers.arguments.as_str(),
    ];
    let words: Vec<&str> = words.into_iter().filter(|word| !word.is_empty()).collect();
    let arguments = words.join(" ");
    let root_folder = file_system.grub_folder();
    let early = menu::early_in(root_uuid, &root_folder, boot_uuid);
    // GRUB reads ext4 always; the root only where `/boot` is in it.
    let module = match (boot_uuid, parts.places.prepared_at("/boot")) {
        (None, _) => file_system.grub_module(),
        (Some(_), Some(apart)) => Kind::named(&apart.kind)
            .filter(|kind| *kind != Kind::Ext4)
            .map(Kind::name),
        (Some(_), None) => None,
    };
    // The core image takes one processor while the first archive takes another.
    let bios = std::thread::scope(|scope| {
        let bios = |one: &&GrubTable| one.firmware == FirmwareKind::Bios;
        let core = match (parts.install.grub.iter().find(bios), parts.places.bios_boot) {
            (Some(platform), Some(start)) => {
                let files = folder(tree, &grub_folder(&platform.platform))?;
                let early = &early;
                Some(scope.spawn(move || bios_boot_loader_of(&files, module, early, start)))
            }
            _ => None,
        };
        for version in &versions {
            let archive = installed_initramfs(tree, version, &table, time)?;
            let path = menu::initramfs_path(version);
            // It has what the administrator sees only, and nothing secret.
            tree.write(path.as_bytes(), file.clone(), archive.into())
                .map_err(boot)?;
        }
        let joined = core.map(|core| {
            core.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        joined.transpose()
    })?;
    let (core, boot_code) = bios.unzip();
    let text = menu::text(&menu::Installed {
        title: &parts.install.name,
        root_uuid,
        root_folder: &root_folder,
        boot_uuid,
        kernels: &versions,
        consoles: parts.consoles,
        arguments: &arguments,
        timeout: parts.answers.timeout,
    });
    tree.write(b"boot/grub/grub.cfg", file.clone(), text.into())
        .map_err(boot)?;
    let mut esp = None;
    for platform in &parts.install.grub {
        let name = &platform.platform;
        let files = folder(tree, &grub_folder(name))?;
        for (module, content) in &files {
            if module.ends_with(".mod") || module.ends_with(".lst") {
                tree.write(
                    format!("boot/grub/{name}/{module}").as_bytes(),
                    file.clone(),
                    content.clone(),
                )
                .map_err(boot)?;
            }
        }
        match platform.firmware {
            FirmwareKind::Bios => {}
            FirmwareKind::Uefi => {
                if parts.places.esp_uuid.is_none() {
                    continue;
                }
                let image = parts
                    .efi_image
                    .ok_or_else(|| boot(format!("the medium has no EFI image for {name}")))?;
                let removable = platform.removable_name.as_deref().unwrap_or("BOOTX64.EFI");
                let (image, config) = efi_files_of(image, &early)?;
                let mut out = Tree::new(Metadata::new(0o755, time));
                let grub = crate::esp::vendor_image(removable);
                let mut places = Vec::new();
                if let Some(shared) = &parts.places.shared_esp {
                    places.push((shared.folder.as_str(), grub.as_str()));
                }
                if parts
                    .places
                    .shared_esp
                    .as_ref()
                    .is_none_or(|shared| shared.fallback)
                {
                    places.push(("BOOT", removable));
                }
                for (folder, name) in places {
                    out.make_directories(format!("EFI/{folder}").as_bytes(), Metadata::new(0o755, time))
                        .map_err(boot)?;
                    for (name, content) in [
                        (name, Content::from(image.clone())),
                        ("grub.cfg", Content::from(config.clone())),
                    ] {
                        out.write(format!("EFI/{folder}/{name}").as_bytes(), file.clone(), content)
                            .map_err(boot)?;
                    }
                }
                esp = Some(out);
            }
        }
    }
    if core.is_none()
        && esp.is_none()
        && (parts.places.bios_boot.is_some() || parts.places.esp_uuid.is_some())
    {
        return Err(boot("no boot loader fits the plan"));
    }
    Ok((esp, core, boot_code))
}

#[cfg(test)]
mod tests;
