//! What a user types: the TOML files under `configs/`, key for key.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Kind, Result, io};

/// `configs/images/NAME.toml`.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct ImageFile {
    /// Other image files, taken first: lists are joined, single values of this file win.
    pub include: Vec<String>,
    /// One line.
    pub summary: Option<String>,
    /// Names of `configs/repositories/NAME.toml`.
    pub repositories: Vec<String>,
    /// The world: package names with or without versions.
    pub packages: Vec<String>,
    /// Virtual packages (`NAME` or `NAME=VERSION`) to be in world without any file, as `apk add --virtual` makes them.
    pub r#virtual: Vec<String>,
    /// Folders of `overlays/`, laid in this order.
    pub overlays: Vec<String>,
    /// Services to enable besides those that packages enable.
    pub services: Vec<String>,
    /// What to write: `iso`, `tar`, `oci`, `disk`, `netboot`.
    pub outputs: Vec<String>,
    /// The kernel, where the root has more than one: a part of the version.
    pub kernel: Option<String>,
    /// Live system.
    pub live: LiveTable,
    /// Boot loader.
    pub boot: BootTable,
    /// Initramfs.
    pub initramfs: InitramfsTable,
    /// Squashfs.
    pub squashfs: SquashfsTable,
    /// Root tarball.
    pub tar: TarTable,
    /// Container image.
    pub oci: OciTable,
    /// Disk image.
    pub disk: super::platform::DiskTable,
    /// What can be installed from the medium.
    pub install: InstallTable,
}

/// `[install]`
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct InstallTable {
    /// Name of `configs/install/NAME.toml`; without it nothing can be installed from the medium.
    pub definition: Option<String>,
    /// Packages of the kernels to carry; all that the definition offers if not given.
    pub kernels: Vec<String>,
    /// Files of the initramfs's packages (`usr/bin/NAME`) that also go into the live root and into what is installed: programs that the
    /// distribution has no packages of.
    pub programs: Vec<String>,
}

/// `[live]`
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct LiveTable {
    /// Volume label of the medium, at most 32 of `A-Z 0-9 _`.
    pub label: Option<String>,
    /// Name of the live user.
    pub user: Option<String>,
    /// Password of the live user and of root.
    pub password: Option<String>,
    /// Shell of the live user.
    pub shell: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Services that the live root enables when it starts, as far as it has them; `a|b` is the first that it has.
    pub services: Vec<String>,
    /// Whether the root is read through dm-verity; the kernel must have it. Not if not given.
    pub verify: Option<bool>,
}

/// `[boot]`
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct BootTable {
    /// Title of the menu.
    pub title: Option<String>,
    /// Seconds until the first entry boots.
    pub timeout: Option<u32>,
    /// Kernel arguments of every entry.
    pub arguments: Option<String>,
    /// Consoles of the entries that name none, first the one that `/dev/console` is.
    pub consoles: Option<Vec<String>>,
    /// GRUB platforms; those that the root or the host has modules for if not given.
    pub platforms: Option<Vec<String>>,
}

/// `[initramfs]`
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct InitramfsTable {
    /// `zstd` or `xz`.
    pub compression: Option<String>,
    /// Level of the compressor.
    pub level: Option<u32>,
    /// Modules that are loaded at once, with what they need.
    pub modules: Vec<String>,
    /// Modules that are there to be loaded by modalias. A name may end in `*`.
    pub available_modules: Vec<String>,
    /// Programs of the root that go in with the libraries they need.
    pub programs: Vec<String>,
    /// Names of `configs/repositories/NAME.toml` that have `packages`.
    pub repositories: Vec<String>,
    /// Packages that the initramfs takes files from and the root does not have, without what they depend on.
    pub packages: Vec<String>,
}

/// `[squashfs]`
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct SquashfsTable {
    /// `zstd`, `xz`, `gzip` or `lz4`.
    pub compression: Option<String>,
    /// Level of the compressor.
    pub level: Option<u32>,
    /// Bytes of a block, a power of two from 4096 to 1048576.
    pub block_size: Option<u32>,
}

/// `[tar]`
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct TarTable {
    /// `zstd`, `xz` or `gzip`.
    pub compression: Option<String>,
    /// Level of the compressor.
    pub level: Option<u32>,
}

/// `[oci]`
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct OciTable {
    /// `gzip` or `zstd`, of layers.
    pub compression: Option<String>,
    /// Level of the compressor.
    pub level: Option<u32>,
    /// The program that a container runs, with arguments that always go with it.
    pub entrypoint: Vec<String>,
    /// The arguments, or the program where there is no entrypoint, unless the user gives others.
    pub command: Vec<String>,
    /// `NAME=VALUE` of the program's environment.
    pub environment: Vec<String>,
    /// The program's working directory.
    pub directory: Option<String>,
    /// The program's user, as `USER`, `UID` or `UID:GID`.
    pub user: Option<String>,
    /// Labels of the image.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// `configs/repositories/NAME.toml`.
#[derive(Clone, Default, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RepositoriesFile {
    /// One line.
    pub summary: Option<String>,
    /// In the order of preference.
    pub repository: Vec<RepositoryTable>,
    /// Memory allocators that they offer, for the installer: handed on as they stand (`installer/MEDIUM.md`).
    pub allocator: Vec<toml::Table>,
}

/// `[[repository]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct RepositoryTable {
    /// `seed:`, a URL (`https:`, `http:`, `file:`) or an absolute path; `${arch}` may be in it.
    pub location: String,
    /// URLs of servers that have the same, asked in this order when the first one fails.
    #[serde(default)]
    pub mirrors: Vec<String>,
    /// How it is laid out, `v3` (`Packages.adb`) if not given.
    #[serde(default)]
    pub layout: LayoutName,
    /// Only packages that name this tag (`NAME@TAG`) are taken from it.
    pub tag: Option<String>,
    /// Keys that its index and packages may be signed with: files below `configs/`, where the last
    /// component may have a `*`, or `seed:`.
    #[serde(default)]
    pub keys: Vec<String>,
    /// Accept it without any signature. For local paths only.
    #[serde(default)]
    pub unsigned: bool,
    /// Name it in `/etc/apk/repositories` of roots: for distributions whose packages bring no list.
    #[serde(default)]
    pub in_root: bool,
}

/// Layouts of repositories.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayoutName {
    /// `ARCH/APKINDEX.tar.gz`, of either format.
    V2,
    /// `ARCH/Packages.adb`.
    #[default]
    V3,
}

/// `configs/architectures/NAME.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct ArchitectureFile {
    /// One line.
    pub summary: String,
    /// GRUB platforms of live media, with what their images are called.
    pub grub: Vec<GrubTable>,
    /// Console arguments for a serial line.
    pub serial_console: String,
}

/// `[[grub]]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct GrubTable {
    /// As GRUB calls it, such as `x86_64-efi`.
    pub platform: String,
    /// How the firmware starts it.
    pub firmware: Firmware,
    /// File name of an EFI image under `EFI/BOOT`.
    pub removable_name: Option<String>,
}

/// What starts a boot loader.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// PC BIOS.
    Bios,
    /// UEFI.
    Uefi,
}

/// Reads a TOML file into its type. An unknown key is refused with the nearest known one.
///
/// # Errors
/// When it cannot be read or is not what `T` describes.
pub fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T> {
    let text = io(std::fs::read_to_string(path), || {
        format!("reading {}", path.display())
    })?;
    parse(&text, path)
}

/// As [`read`], of a text that is at hand.
///
/// # Errors
/// When the text is not what `T` describes.
pub fn parse<T: serde::de::DeserializeOwned>(text: &str, path: &Path) -> Result<T> {
    toml::from_str(text).map_err(|error| {
        let line = error
            .span()
            .map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let place = match line {
            Some(line) => format!("{}, line {line}", path.display()),
            None => path.display().to_string(),
        };
        Error::new(Kind::Input, lycia_seed::explain_toml(error.message())).context(place)
    })
}

/// Names of the definitions of a kind, sorted.
pub fn names(configs: &Path, kind: &str) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(configs.join(kind))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let path = entry.path();
            let toml = path.extension().is_some_and(|extension| extension == "toml");
            toml.then(|| path.file_stem().map(|stem| stem.to_string_lossy().into_owned()))
                .flatten()
        })
        .collect();
    names.sort();
    names
}

/// The file of a definition by its name.
///
/// # Errors
/// When there is none of that name, with the nearest one as a hint.
pub fn file(configs: &Path, kind: &str, name: &str) -> Result<PathBuf> {
    let path = configs.join(kind).join(format!("{name}.toml"));
    let plain = !name.is_empty() && !name.contains('/') && !name.starts_with('.');
    if plain && path.is_file() {
        return Ok(path);
    }
    let names = names(configs, kind);
    let error = Error::new(Kind::Input, format!("there is no {}", path.display()));
    Err(
        match lycia_seed::nearest(name, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("there are: {}", names.join(", "))),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_line_and_suggestion() {
        let text = "summary = \"x\"\npackags = [\"a\"]\n";
        let error = parse::<ImageFile>(text, Path::new("configs/images/x.toml")).unwrap_err();
        assert_eq!(error.kind(), Kind::Input);
        let shown = error.to_string();
        assert!(shown.contains("x.toml, line 2"), "{shown}");
        assert!(shown.contains("did you mean `packages`?"), "{shown}");
    }

    #[test]
    fn a_wrong_type_names_the_line() {
        let error = parse::<ImageFile>("\n\npackages = 3\n", Path::new("i.toml"))
            .unwrap_err()
            .to_string();
        assert!(error.contains("line 3"), "{error}");
    }
}
