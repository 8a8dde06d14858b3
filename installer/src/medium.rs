//! The medium: what can be installed from it. `installer/MEDIUM.md` describes its files.

use std::io;
use std::path::{Path, PathBuf};

use lycia_apk::virtual_package::Virtual;
use serde::Deserialize;

use crate::source::{Repositories, SourceError};
use crate::toml_file::{TomlError, nearest, parse};

/// Version of `install.toml` that this program reads.
pub const SCHEMA: u32 = 1;
/// Where lycia-init mounts the medium.
pub const MOUNT: &str = "/run/live/medium";
/// Deepest folder of programs.
const DEPTH_MAX: usize = 8;
/// Largest `install.toml` that is read, in bytes.
const LIMIT: u64 = 1 << 20;

/// `live/install.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Install {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Title in the boot menu.
    pub name: String,
    /// Architecture.
    pub arch: String,
    /// World of every installation.
    pub packages: Vec<String>,
    /// Added when the network is configured.
    pub network_packages: Vec<String>,
    /// Services enabled besides those that packages enable.
    pub services: Vec<String>,
    /// Kernels; the first is the default. None on a medium that only repairs.
    pub kernel: Vec<KernelTable>,
    /// Package sets.
    pub set: Vec<SetTable>,
    /// File systems of a root beside ext4.
    pub file_system: Vec<FileSystemTable>,
    /// GRUB platforms.
    pub grub: Vec<GrubTable>,
    /// The initramfs of the installed system.
    pub initramfs: InitramfsTable,
    /// Its boot menu.
    pub boot: BootTable,
    /// Its repositories.
    pub repository: Vec<RepositoryTable>,
    /// Allocators.
    pub allocator: Vec<AllocatorTable>,
}

/// `[[kernel]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct KernelTable {
    /// Package.
    pub package: String,
    /// One line.
    #[serde(default)]
    pub summary: String,
}

/// `[[set]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct SetTable {
    /// Name.
    pub name: String,
    /// One line.
    #[serde(default)]
    pub summary: String,
    /// World entries.
    pub packages: Vec<String>,
}

/// `[[file-system]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct FileSystemTable {
    /// As answers call it.
    pub name: String,
    /// World entries: its programs.
    pub packages: Vec<String>,
    /// Kernel packages that can mount it; all where none is named.
    #[serde(default)]
    pub kernels: Vec<String>,
}

/// `[[grub]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrubTable {
    /// As GRUB calls it.
    pub platform: String,
    /// How the firmware starts it.
    pub firmware: FirmwareKind,
    /// File name of an EFI image below `EFI/BOOT`.
    pub removable_name: Option<String>,
}

impl AllocatorTable {
    /// What it has in world: packages, and virtual packages by their version.
    #[must_use]
    pub fn world(&self) -> Vec<String> {
        let virtuals = self.virtual_packages().into_iter().map(|one| one.to_string());
        self.packages.iter().cloned().chain(virtuals).collect()
    }

    /// Its virtual packages; [`Medium::open`] checked them.
    #[must_use]
    pub fn virtual_packages(&self) -> Vec<Virtual> {
        self.virtuals
            .iter()
            .filter_map(|text| Virtual::parse(text))
            .collect()
    }
}

impl Install {
    /// Name of its directory below `EFI` on a partition that is shared.
    #[must_use]
    pub fn vendor(&self) -> &str {
        match self.boot.vendor.as_str() {
            "" => "lycia",
            name => name,
        }
    }
}

/// What starts a boot loader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FirmwareKind {
    /// PC BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

/// `[initramfs]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct InitramfsTable {
    /// Loaded first; the kernel must have them.
    pub modules: Vec<String>,
    /// Taken if the kernel has them.
    pub available_modules: Vec<String>,
    /// Programs for emergencies.
    pub programs: Vec<String>,
    /// Whether the packages have keyboard layouts as the kernel's consoles take them: the system's is then loaded before a passphrase is asked for.
    pub keymaps: bool,
}

/// `[boot]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BootTable {
    /// Words for the kernel.
    pub arguments: String,
    /// Name of its directory below `EFI` on a partition that is shared; `lycia` if empty.
    pub vendor: String,
}

/// `[[repository]]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RepositoryTable {
    /// A line of `/etc/apk/repositories`.
    pub line: String,
}

/// `[[allocator]]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct AllocatorTable {
    /// Name.
    pub name: String,
    /// One line.
    pub summary: String,
    /// Whether it is the default.
    pub default: bool,
    /// Added to world.
    pub packages: Vec<String>,
    /// Virtual packages, `NAME` or `NAME=VERSION`, that are made and added to world with it.
    #[serde(rename = "virtual")]
    pub virtuals: Vec<String>,
    /// What it does for security.
    pub security: String,
    /// How fast it is.
    pub speed: String,
    /// How much memory it takes.
    pub memory: String,
    /// Library to preload, by absolute path; empty for an allocator inside the C library.
    pub preload: String,
}

/// Why a medium cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MediumError {
    /// A file cannot be read.
    #[error("reading {}: {source}; is the medium mounted there? With `toram` it is not: mount it, or name its place with --medium", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Its description is wrong.
    #[error(transparent)]
    Description(#[from] TomlError),
    /// It has no kernel.
    #[error(
        "nothing is installed from this medium: it offers no kernel. It repairs systems; install from a live medium"
    )]
    Rescue,
    /// A kernel that cannot mount the root.
    #[error("the kernel `{kernel}` cannot mount a root of {name}; {fit}, or choose another disk.filesystem")]
    KernelLacks {
        /// The kernel package.
        kernel: String,
        /// The file system.
        name: String,
        /// What would do.
        fit: String,
    },
    /// A package that only its allocator brings.
    #[error(
        "packages.extra: `{package}` belongs to the allocator {allocator}, and {chosen} is chosen: set packages.allocator to \"{allocator}\", or leave the package out"
    )]
    OtherAllocator {
        /// The package.
        package: String,
        /// Whose it is.
        allocator: String,
        /// The one that is chosen.
        chosen: String,
    },
    /// Something that it does not have.
    #[error("the medium has no {what} `{name}`{}", near.as_ref().map(|near| format!("; did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// What kind of thing.
        what: &'static str,
        /// Its name.
        name: String,
        /// The nearest that there is.
        near: Option<String>,
    },
}

/// Why the packages of a medium cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum SourceOrMedium {
    /// The medium.
    #[error(transparent)]
    Medium(#[from] MediumError),
    /// Its packages.
    #[error(transparent)]
    Source(#[from] SourceError),
}

/// A medium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Medium {
    /// Where it is mounted.
    pub directory: PathBuf,
    /// What can be installed from it.
    pub install: Install,
    /// The installed system that is in the place of the medium, if one is.
    system: Option<PathBuf>,
}

/// Where a medium has its description.
const DESCRIPTION: &str = "live/install.toml";
/// Where a system that was installed from a medium keeps that description, without a slash at its beginning.
const KEPT: &str = "usr/lib/lycia/live/install.toml";
/// Where a system has the keys of its packages.
const KEYS: [&str; 2] = ["etc/apk/keys", "usr/lib/apk/keys"];

fn find<'a, T>(
    list: &'a [T],
    name: &str,
    what: &'static str,
    of: impl Fn(&T) -> &str,
) -> Result<&'a T, MediumError> {
    list.iter()
        .find(|one| of(one) == name)
        .ok_or_else(|| MediumError::Unknown {
            what,
            name: name.to_owned(),
            near: nearest(name, list.iter().map(&of)).map(str::to_owned),
        })
}

impl Medium {
    /// Reads the description of the medium in `directory`.
    ///
    /// # Errors
    /// When it is not there or wrong.
    pub fn open(directory: &Path) -> Result<Medium, MediumError> {
        use io::Read as _;
        let path = directory.join(DESCRIPTION);
        let failed = |source| MediumError::Read {
            path: path.clone(),
            source,
        };
        let mut text = String::new();
        std::fs::File::open(&path)
            .map_err(failed)?
            .take(LIMIT)
            .read_to_string(&mut text)
            .map_err(failed)?;
        let name = path.display().to_string();
        let install: Install = parse(&text, &name)?;
        let wrong = |what: String| TomlError {
            name: name.clone(),
            line: None,
            what,
            near: None,
        };
        if install.schema != SCHEMA {
            return Err(wrong(format!(
                "it has schema {}, this program reads {SCHEMA}",
                install.schema
            ))
            .into());
        }
        if install.arch.is_empty() || install.arch.contains('/') {
            return Err(wrong("it names no architecture".into()).into());
        }
        let virtuals = install.allocator.iter().flat_map(|one| &one.virtuals);
        if let Some(odd) = virtuals.into_iter().find(|text| Virtual::parse(text).is_none()) {
            return Err(wrong(format!("`{odd}` is no virtual package")).into());
        }
        Ok(Medium {
            directory: directory.to_owned(),
            install,
            system: None,
        })
    }

    /// What an installed system knows of the medium that it came from: in place of the medium's packages it has its own repositories.
    ///
    /// # Errors
    /// When it keeps no description, as one that was not installed by this program.
    pub fn of_system(root: &Path) -> Result<Medium, MediumError> {
        let directory = root.join(KEPT.strip_suffix(DESCRIPTION).unwrap_or_default());
        Ok(Medium {
            system: Some(root.to_owned()),
            ..Medium::open(&directory)?
        })
    }

    /// Its description as an installed system keeps it: where, and the text.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn kept(&self) -> Result<(String, Vec<u8>), MediumError> {
        let path = self.directory.join(DESCRIPTION);
        let text = std::fs::read(&path).map_err(|source| MediumError::Read { path, source })?;
        Ok((KEPT.to_owned(), text))
    }

    /// The repositories of its packages, or of the system in its place.
    ///
    /// # Errors
    /// When one cannot be had or no key signed it.
    pub fn repositories(&self) -> Result<Repositories, SourceOrMedium> {
        let arch = &self.install.arch;
        let Some(root) = &self.system else {
            return Ok(Repositories::local(&self.packages(), arch, self.keys()?)?);
        };
        let path = root.join("etc/apk/repositories");
        let text = std::fs::read_to_string(&path).map_err(|source| MediumError::Read { path, source })?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        Ok(Repositories::network(&lines, &[], arch, self.keys()?)?)
    }

    /// The kernel package of that name, or the default.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn kernel(&self, name: Option<&str>) -> Result<&KernelTable, MediumError> {
        match name {
            Some(name) => find(&self.install.kernel, name, "kernel", |one| &one.package),
            None => self.install.kernel.first().ok_or(MediumError::Rescue),
        }
    }

    /// The package set of that name.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn set(&self, name: &str) -> Result<&SetTable, MediumError> {
        find(&self.install.set, name, "package set", |one| &one.name)
    }

    /// What a root with this file system needs; nothing for ext4.
    ///
    /// # Errors
    /// When the medium does not offer it, or not with this kernel.
    pub fn file_system(
        &self,
        kind: crate::file_system::Kind,
        kernel: &KernelTable,
    ) -> Result<&[String], MediumError> {
        let name = kind.name();
        if kind == crate::file_system::Kind::Ext4 {
            return Ok(&[]);
        }
        let list = &self.install.file_system;
        let table = find(list, name, "file system", |one| &one.name)?;
        if table.kernels.is_empty() || table.kernels.contains(&kernel.package) {
            return Ok(&table.packages);
        }
        let offered = self.install.kernel.iter().map(|one| &one.package);
        let fit: Vec<String> = offered
            .filter(|package| table.kernels.contains(package))
            .map(|package| format!("`{package}`"))
            .collect();
        Err(MediumError::KernelLacks {
            kernel: kernel.package.clone(),
            name: name.to_owned(),
            fit: if fit.is_empty() {
                "no kernel of this medium can".to_owned()
            } else {
                format!("packages.kernel could be {}", fit.join(" or "))
            },
        })
    }

    /// The allocator of that name, or the default; none on a medium that offers none.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn allocator(&self, name: Option<&str>) -> Result<Option<&AllocatorTable>, MediumError> {
        let list = &self.install.allocator;
        match name {
            Some(name) => find(list, name, "allocator", |one| &one.name).map(Some),
            None => Ok(list.iter().find(|one| one.default).or(list.first())),
        }
    }

    /// The folder of the medium's packages.
    #[must_use]
    pub fn packages(&self) -> PathBuf {
        self.directory.join("live/packages")
    }

    /// Programs that installed systems get beside their packages, as the distribution has none of them: path in the root, and where the file is. None on most media.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn programs(&self) -> Result<Vec<(String, PathBuf)>, MediumError> {
        let top = self.directory.join("live/root");
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| MediumError::Read { path, source }
        };
        let mut found = Vec::new();
        let mut waiting = vec![(top.clone(), 0)];
        while let Some((folder, depth)) = waiting.pop() {
            let entries = match std::fs::read_dir(&folder) {
                Err(error) if depth == 0 && error.kind() == io::ErrorKind::NotFound => return Ok(found),
                other => other.map_err(failed(&folder))?,
            };
            for entry in entries {
                let entry = entry.map_err(failed(&folder))?;
                let path = entry.path();
                let kind = entry.file_type().map_err(failed(&path))?;
                if kind.is_dir() && depth < DEPTH_MAX {
                    waiting.push((path, depth + 1));
                } else if let (true, Ok(Some(name))) =
                    (kind.is_file(), path.strip_prefix(&top).map(Path::to_str))
                {
                    found.push((name.to_owned(), path));
                }
            }
        }
        found.sort();
        Ok(found)
    }

    /// The public keys of the medium's packages: name and PEM text, by name.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn keys(&self) -> Result<Vec<(String, Vec<u8>)>, MediumError> {
        let folders = match &self.system {
            None => vec![self.packages().join("keys")],
            Some(root) => KEYS.iter().map(|folder| root.join(folder)).collect(),
        };
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| MediumError::Read { path, source }
        };
        let mut keys = Vec::new();
        for folder in folders {
            let entries = match std::fs::read_dir(&folder) {
                // Systems have one of the two or both.
                Err(error) if self.system.is_some() && error.kind() == io::ErrorKind::NotFound => continue,
                other => other.map_err(failed(&folder))?,
            };
            for entry in entries {
                let path = entry.map_err(failed(&folder))?.path();
                if path.extension().is_some_and(|extension| extension == "pub") {
                    let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
                    keys.push((
                        name.unwrap_or_default(),
                        std::fs::read(&path).map_err(failed(&path))?,
                    ));
                }
            }
        }
        keys.sort();
        keys.dedup_by(|one, other| one.0 == other.0);
        Ok(keys)
    }
}
