//! Definitions: what an image is, resolved from the files that a user types.

pub mod platform;
mod repositories;
pub mod typed;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use lycia_apk::virtual_package::Virtual;

use crate::error::{Context as _, Error, Kind, Result};
use typed::{ArchitectureFile, ImageFile};

/// How a compressed output is made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Compression {
    /// Zstandard with its level, 1 to 22.
    Zstd(u32),
    /// xz with its preset, 0 to 9.
    Xz(u32),
    /// gzip with its level, 1 to 9.
    Gzip(u32),
}

impl Compression {
    /// From the words of a definition.
    fn resolve(name: &str, level: Option<u32>, usual: u32) -> Result<Compression> {
        let bounded = |low: u32, high: u32, usual: u32| {
            let level = level.unwrap_or(usual);
            if (low..=high).contains(&level) {
                return Ok(level);
            }
            Err(Error::new(
                Kind::Input,
                format!("level {level} of {name} is not between {low} and {high}"),
            ))
        };
        match name {
            "zstd" => Ok(Compression::Zstd(bounded(1, 22, usual)?)),
            "xz" => Ok(Compression::Xz(bounded(0, 9, 6)?)),
            "gzip" => Ok(Compression::Gzip(bounded(1, 9, 9)?)),
            other => Err(Error::new(Kind::Input, format!("`{other}` is no compression"))
                .hint("there are zstd, xz and gzip")),
        }
    }
}

/// How blocks of a squashfs are compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Blocks {
    /// As streams are.
    As(Compression),
    /// LZ4 with its level: 1, or 3 to 12 for the high compression mode.
    Lz4(u32),
}

impl Blocks {
    fn resolve(name: &str, level: Option<u32>) -> Result<Blocks> {
        match (name, level) {
            ("lz4", None) => Ok(Blocks::Lz4(12)),
            ("lz4", Some(level @ (1 | 3..=12))) => Ok(Blocks::Lz4(level)),
            ("lz4", Some(level)) => Err(Error::new(
                Kind::Input,
                format!("lz4 has no level {level}, only 1 and 3 to 12"),
            )),
            ("zstd" | "xz" | "gzip", _) => Compression::resolve(name, level, 15).map(Blocks::As),
            (other, _) => Err(Error::new(Kind::Input, format!("`{other}` is no compression"))
                .hint("there are zstd, xz, gzip and lz4")),
        }
    }
}

/// A medium or archive to be written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Output {
    /// A hybrid live ISO.
    Iso,
    /// A tarball of the root.
    Tar,
    /// A container image.
    Oci,
    /// A disk image.
    Disk,
    /// A kit for booting from a network.
    Netboot,
}

/// Where packages come from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Location {
    /// The seed repository of this machine's store.
    Seed,
    /// A folder that holds a folder for each architecture.
    Directory(PathBuf),
    /// The same over HTTP: the same on several servers, in the order of preference.
    Http(Vec<String>),
}

/// A repository of packages.
#[derive(Clone, Debug)]
pub struct Repository {
    /// `DEFINITION/NUMBER`, for messages.
    pub name: String,
    /// Where it is.
    pub location: Location,
    /// Where the definition says that it is, whatever mirror is asked.
    pub canonical: String,
    /// How it is laid out.
    pub layout: typed::LayoutName,
    /// Only packages that name this tag are taken from it.
    pub tag: Option<String>,
    /// Files of public keys; none for the seed, whose key is in the store.
    pub keys: Vec<PathBuf>,
    /// Files of public keys that are trusted for this run only and do not enter the root.
    pub guests: Vec<PathBuf>,
    /// Whether it may come without a signature.
    pub unsigned: bool,
    /// Whether roots name it in `/etc/apk/repositories`.
    pub in_root: bool,
}

impl Repository {
    /// Its line of `/etc/apk/repositories`, for the location of the definition: mirrors are this machine's matter.
    pub fn line(&self) -> String {
        let tag = self
            .tag
            .as_ref()
            .map(|tag| format!("@{tag} "))
            .unwrap_or_default();
        // A plain URL has the layout of v2, and is all that apk before version 3 understands.
        let layout = match self.layout {
            typed::LayoutName::V2 => "",
            typed::LayoutName::V3 => "v3 ",
        };
        format!("{layout}{tag}{}", self.canonical)
    }
}

/// What a live system is set up with.
#[derive(Clone, Debug)]
pub struct Live {
    /// Volume label.
    pub label: String,
    /// Live user.
    pub user: String,
    /// Password of the live user and root.
    pub password: String,
    /// Shell of the live user.
    pub shell: String,
    /// Host name.
    pub hostname: String,
    /// Services to enable when it starts, as far as it has them.
    pub services: Vec<String>,
    /// Whether the root is read through dm-verity.
    pub verify: bool,
}

/// What the boot loader shows and passes.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Title of the menu.
    pub title: String,
    /// Seconds until the first entry boots.
    pub timeout: u32,
    /// Kernel arguments of every entry.
    pub arguments: String,
    /// Consoles, the last one being `/dev/console`.
    pub consoles: Vec<String>,
    /// GRUB platforms.
    pub platforms: Vec<typed::GrubTable>,
    /// Argument for a serial console of this architecture.
    pub serial_console: String,
}

/// What goes into the initramfs.
#[derive(Clone, Debug)]
pub struct Initramfs {
    /// Its compression.
    pub compression: Compression,
    /// Modules loaded at once.
    pub modules: Vec<String>,
    /// Modules that are there.
    pub available_modules: Vec<String>,
    /// Programs of the root.
    pub programs: Vec<String>,
    /// Where `packages` are.
    pub repositories: Vec<Repository>,
    /// Names of packages that the root does not have.
    pub packages: Vec<String>,
}

/// How container images are described.
#[derive(Clone, Debug)]
pub struct Oci {
    /// Compression of layers, gzip or zstd.
    pub compression: Compression,
    /// The program, with arguments that always go with it.
    pub entrypoint: Vec<String>,
    /// Further arguments, or the program.
    pub command: Vec<String>,
    /// `NAME=VALUE` of the program's environment.
    pub environment: Vec<String>,
    /// Its working directory.
    pub directory: Option<String>,
    /// Its user.
    pub user: Option<String>,
    /// Labels.
    pub labels: std::collections::BTreeMap<String, String>,
}

/// How the squashfs is written.
#[derive(Clone, Copy, Debug)]
pub struct Squashfs {
    /// Its compression.
    pub compression: Blocks,
    /// Bytes of a block.
    pub block_size: u32,
}

/// An image of one architecture, whole and checked.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name, which is its file's.
    pub name: String,
    /// One line.
    pub summary: String,
    /// Target architecture as apk names it.
    pub arch: String,
    /// Repositories in the order of preference.
    pub repositories: Vec<Repository>,
    /// The world but for virtual packages, in order, each name once.
    pub packages: Vec<String>,
    /// Virtual packages of the world.
    pub virtuals: Vec<Virtual>,
    /// What can be installed from the medium: its `live/install.toml`.
    pub install: Option<toml::Table>,
    /// Files of the initramfs's packages that also go into the root and into what is installed.
    pub programs: Vec<String>,
    /// Folders of overlays, in order.
    pub overlays: Vec<PathBuf>,
    /// Services to enable.
    pub services: Vec<String>,
    /// What to write.
    pub outputs: Vec<Output>,
    /// Part of the version of the kernel wanted.
    pub kernel: Option<String>,
    /// Live system.
    pub live: Live,
    /// Boot loader.
    pub boot: Boot,
    /// Initramfs.
    pub initramfs: Initramfs,
    /// Squashfs.
    pub squashfs: Squashfs,
    /// Compression of tarballs.
    pub tar: Compression,
    /// Container images.
    pub oci: Oci,
    /// The disk, where one is written.
    pub disk: Option<platform::Disk>,
}

impl Image {
    /// The world: what is asked for by name, virtual packages last.
    pub fn world(&self) -> Vec<String> {
        let virtuals = self.virtuals.iter().map(ToString::to_string);
        self.packages.iter().cloned().chain(virtuals).collect()
    }
}

/// What one run takes from elsewhere than definitions say.
#[derive(Clone, Default, Debug)]
pub struct Overrides {
    /// Where locations begin with the first they begin with the second.
    pub mirrors: Vec<(String, String)>,
    /// Files of public keys that are trusted, too, for repositories whose location is replaced.
    pub trust: Vec<PathBuf>,
}

/// A project: the folder that holds `configs` and `overlays`.
#[derive(Clone, Debug)]
pub struct Project {
    /// The folder.
    pub root: PathBuf,
    /// What this run takes from elsewhere.
    pub overrides: Overrides,
}

impl Project {
    /// The project at `given`, or the nearest folder from here upwards that has `configs/images`.
    ///
    /// # Errors
    /// When there is none.
    pub fn find(given: Option<&Path>) -> Result<Project> {
        let is_project = |root: &Path| root.join("configs/images").is_dir();
        if let Some(root) = given {
            if is_project(root) {
                return Ok(Project {
                    root: root.to_owned(),
                    overrides: Overrides::default(),
                });
            }
            return Err(Error::new(
                Kind::Input,
                format!("{} has no configs/images", root.display()),
            ));
        }
        let here = crate::error::io(std::env::current_dir(), || {
            "finding the current directory".to_owned()
        })?;
        here.ancestors()
            .find(|root| is_project(root))
            .map(|root| Project {
                root: root.to_owned(),
                overrides: Overrides::default(),
            })
            .ok_or_else(|| {
                Error::new(
                    Kind::Input,
                    format!(
                        "neither {} nor a folder above it has configs/images",
                        here.display()
                    ),
                )
                .hint("run in a checkout of Lycia, or give --project DIR")
            })
    }

    /// The folder of definitions.
    pub fn configs(&self) -> PathBuf {
        self.root.join("configs")
    }

    /// The image `name` for `arch`.
    ///
    /// # Errors
    /// When a file of it cannot be read, or what it says cannot be.
    pub fn image(&self, name: &str, arch: &str) -> Result<Image> {
        let mut chain = Vec::new();
        let file = self.include(name, &mut chain)?;
        resolve(self, name, arch, file).context(|| format!("image {name}"))
    }

    /// The file `name` joined with those that it includes.
    fn include(&self, name: &str, chain: &mut Vec<String>) -> Result<ImageFile> {
        if chain.iter().any(|above| above == name) {
            chain.push(name.to_owned());
            return Err(Error::new(
                Kind::Input,
                format!("images include each other: {}", chain.join(" -> ")),
            ));
        }
        let path = typed::file(&self.configs(), "images", name)?;
        let mut file: ImageFile = typed::read(&path)?;
        chain.push(name.to_owned());
        let mut whole = ImageFile::default();
        for part in std::mem::take(&mut file.include) {
            whole = join(
                whole,
                self.include(&part, chain)
                    .context(|| path.display().to_string())?,
            );
        }
        chain.pop();
        Ok(join(whole, file))
    }
}

/// `over` laid over `under`: lists joined, single values replaced.
fn join(under: ImageFile, over: ImageFile) -> ImageFile {
    fn lists<T>(mut under: Vec<T>, over: Vec<T>) -> Vec<T> {
        under.extend(over);
        under
    }
    ImageFile {
        include: Vec::new(),
        summary: over.summary.or(under.summary),
        repositories: lists(under.repositories, over.repositories),
        packages: lists(under.packages, over.packages),
        r#virtual: lists(under.r#virtual, over.r#virtual),
        overlays: lists(under.overlays, over.overlays),
        services: lists(under.services, over.services),
        outputs: lists(under.outputs, over.outputs),
        kernel: over.kernel.or(under.kernel),
        live: typed::LiveTable {
            label: over.live.label.or(under.live.label),
            user: over.live.user.or(under.live.user),
            password: over.live.password.or(under.live.password),
            shell: over.live.shell.or(under.live.shell),
            hostname: over.live.hostname.or(under.live.hostname),
            services: lists(under.live.services, over.live.services),
            verify: over.live.verify.or(under.live.verify),
        },
        boot: typed::BootTable {
            title: over.boot.title.or(under.boot.title),
            timeout: over.boot.timeout.or(under.boot.timeout),
            arguments: over.boot.arguments.or(under.boot.arguments),
            consoles: over.boot.consoles.or(under.boot.consoles),
            platforms: over.boot.platforms.or(under.boot.platforms),
        },
        initramfs: typed::InitramfsTable {
            compression: over.initramfs.compression.or(under.initramfs.compression),
            level: over.initramfs.level.or(under.initramfs.level),
            modules: lists(under.initramfs.modules, over.initramfs.modules),
            available_modules: lists(
                under.initramfs.available_modules,
                over.initramfs.available_modules,
            ),
            programs: lists(under.initramfs.programs, over.initramfs.programs),
            repositories: lists(under.initramfs.repositories, over.initramfs.repositories),
            packages: lists(under.initramfs.packages, over.initramfs.packages),
        },
        squashfs: typed::SquashfsTable {
            compression: over.squashfs.compression.or(under.squashfs.compression),
            level: over.squashfs.level.or(under.squashfs.level),
            block_size: over.squashfs.block_size.or(under.squashfs.block_size),
        },
        tar: typed::TarTable {
            compression: over.tar.compression.or(under.tar.compression),
            level: over.tar.level.or(under.tar.level),
        },
        oci: typed::OciTable {
            compression: over.oci.compression.or(under.oci.compression),
            level: over.oci.level.or(under.oci.level),
            // A command is one value, although it has several words.
            entrypoint: if over.oci.entrypoint.is_empty() {
                under.oci.entrypoint
            } else {
                over.oci.entrypoint
            },
            command: if over.oci.command.is_empty() {
                under.oci.command
            } else {
                over.oci.command
            },
            environment: lists(under.oci.environment, over.oci.environment),
            directory: over.oci.directory.or(under.oci.directory),
            user: over.oci.user.or(under.oci.user),
            labels: under.oci.labels.into_iter().chain(over.oci.labels).collect(),
        },
        disk: under.disk.join(over.disk),
        install: typed::InstallTable {
            definition: over.install.definition.or(under.install.definition),
            kernels: lists(under.install.kernels, over.install.kernels),
            programs: lists(under.install.programs, over.install.programs),
        },
    }
}

fn resolve(project: &Project, name: &str, arch: &str, file: ImageFile) -> Result<Image> {
    let wrong = |message: String| Error::new(Kind::Input, message);
    let architecture: ArchitectureFile =
        typed::read(&typed::file(&project.configs(), "architectures", arch)?)?;

    let mut repositories = Vec::new();
    for definition in once(&file.repositories) {
        repositories.extend(repositories::resolve(project, &definition, arch)?);
    }
    if repositories.is_empty() {
        return Err(wrong("it names no repository".to_owned()).hint("add `repositories = [\"seed\"]`"));
    }
    let packages = once(&file.packages);
    if packages.is_empty() {
        return Err(wrong("it names no package".to_owned()));
    }
    let virtuals = once(&file.r#virtual);
    let virtuals = virtuals
        .iter()
        .map(|text| virtual_package(text))
        .collect::<Result<Vec<_>>>()?;
    let overlays = once(&file.overlays).into_iter().map(|overlay| {
        let path = project.root.join("overlays").join(&overlay);
        if overlay.contains('/') || overlay.starts_with('.') || !path.is_dir() {
            return Err(wrong(format!("there is no overlay {}", path.display())));
        }
        Ok(path)
    });
    let overlays = overlays.collect::<Result<Vec<_>>>()?;
    let outputs = once(&file.outputs)
        .into_iter()
        .map(|output| match output.as_str() {
            "iso" => Ok(Output::Iso),
            "tar" => Ok(Output::Tar),
            "oci" => Ok(Output::Oci),
            "disk" => Ok(Output::Disk),
            "netboot" => Ok(Output::Netboot),
            other => {
                Err(wrong(format!("`{other}` is no output")).hint("there are: iso, tar, oci, disk, netboot"))
            }
        });
    let outputs = outputs.collect::<Result<Vec<_>>>()?;

    let label = file.live.label.unwrap_or_else(|| "LYCIA_LIVE".to_owned());
    let fits = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_';
    if label.is_empty() || label.len() > 32 || !label.bytes().all(fits) {
        return Err(wrong(format!(
            "the label `{label}` is not 1 to 32 of A-Z, 0-9 and _"
        )));
    }
    let live = Live {
        label,
        user: word("live user", file.live.user, "anon")?,
        password: word("live password", file.live.password, "chimera")?,
        shell: word("live shell", file.live.shell, "/bin/sh")?,
        hostname: word("hostname", file.live.hostname, "lycia")?,
        services: once(&file.live.services)
            .into_iter()
            .map(|service| word("live service", Some(service), ""))
            .collect::<Result<_>>()?,
        verify: file.live.verify.unwrap_or(false),
    };

    let platforms = match file.boot.platforms {
        None => architecture.grub,
        Some(wanted) => {
            let known: Vec<&str> = architecture
                .grub
                .iter()
                .map(|grub| grub.platform.as_str())
                .collect();
            if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
                return Err(wrong(format!("{arch} has no GRUB platform `{unknown}`"))
                    .hint(format!("there are: {}", known.join(", "))));
            }
            architecture
                .grub
                .into_iter()
                .filter(|grub| wanted.contains(&grub.platform))
                .collect()
        }
    };
    let boot = Boot {
        title: file.boot.title.unwrap_or_else(|| format!("Lycia {name}")),
        timeout: file.boot.timeout.unwrap_or(5),
        arguments: file.boot.arguments.unwrap_or_default(),
        consoles: file
            .boot
            .consoles
            .unwrap_or_else(|| vec!["tty0".to_owned(), architecture.serial_console.clone()]),
        platforms,
        serial_console: architecture.serial_console,
    };
    let plain = |text: &str| {
        !text
            .chars()
            .any(|letter| letter.is_control() || "'\"\\$`".contains(letter))
    };
    for text in [&boot.title, &boot.arguments].into_iter().chain(&boot.consoles) {
        if !plain(text) {
            return Err(wrong(format!(
                "`{}` has quotes, `$` or control characters",
                text.escape_debug()
            )));
        }
    }

    let mut boot_repositories = Vec::new();
    for definition in once(&file.initramfs.repositories) {
        boot_repositories.extend(repositories::resolve(project, &definition, arch)?);
    }
    let boot_packages = once(&file.initramfs.packages);
    if !boot_packages.is_empty() && boot_repositories.is_empty() {
        return Err(wrong("[initramfs] names packages and no repository".to_owned())
            .hint("add `repositories = [\"NAME\"]` to [initramfs]"));
    }
    project
        .overrides
        .check(repositories.iter().chain(&boot_repositories))?;
    let initramfs = Initramfs {
        compression: Compression::resolve(
            file.initramfs.compression.as_deref().unwrap_or("zstd"),
            file.initramfs.level,
            12,
        )
        .context(|| "initramfs".to_owned())?,
        modules: once(&file.initramfs.modules),
        available_modules: once(&file.initramfs.available_modules),
        programs: once(&file.initramfs.programs),
        repositories: boot_repositories,
        packages: boot_packages,
    };
    if matches!(initramfs.compression, Compression::Gzip(_)) {
        return Err(wrong("an initramfs is compressed by zstd or xz".to_owned()));
    }
    let block_size = file.squashfs.block_size.unwrap_or(131_072);
    if !block_size.is_power_of_two() || !(4096..=1 << 20).contains(&block_size) {
        return Err(wrong(format!(
            "the squashfs block size {block_size} is not a power of two from 4096 to 1048576"
        )));
    }
    let squashfs = Squashfs {
        compression: Blocks::resolve(
            file.squashfs.compression.as_deref().unwrap_or("zstd"),
            file.squashfs.level,
        )
        .context(|| "squashfs".to_owned())?,
        block_size,
    };
    let tar = Compression::resolve(
        file.tar.compression.as_deref().unwrap_or("zstd"),
        file.tar.level,
        15,
    )
    .context(|| "tar".to_owned())?;
    let layers = Compression::resolve(
        file.oci.compression.as_deref().unwrap_or("gzip"),
        file.oci.level,
        9,
    )
    .context(|| "oci".to_owned())?;
    if matches!(layers, Compression::Xz(_)) {
        return Err(wrong(
            "layers of a container image are compressed by gzip or zstd".to_owned(),
        ));
    }
    if let Some(bad) = file
        .oci
        .environment
        .iter()
        .find(|one| !one.contains('=') || one.starts_with('='))
    {
        return Err(wrong(format!("oci: `{}` is not NAME=VALUE", bad.escape_debug())));
    }
    let oci = Oci {
        compression: layers,
        entrypoint: file.oci.entrypoint,
        command: file.oci.command,
        environment: file.oci.environment,
        directory: file.oci.directory,
        user: file.oci.user,
        labels: file.oci.labels,
    };
    let disk = if outputs.contains(&Output::Disk) {
        Some(platform::resolve(project, &file.disk, arch)?)
    } else {
        None
    };
    let install = crate::offer::resolve(project, &file.install, &once(&file.repositories), arch)?;
    Ok(Image {
        install,
        programs: once(&file.install.programs),
        name: name.to_owned(),
        summary: file.summary.unwrap_or_default(),
        arch: arch.to_owned(),
        repositories,
        packages,
        virtuals,
        overlays,
        services: once(&file.services),
        outputs,
        kernel: file.kernel,
        live,
        boot,
        initramfs,
        squashfs,
        tar,
        oci,
        disk,
    })
}

/// A virtual package by `NAME` or `NAME=VERSION`; its version is 0 where none is given.
pub(crate) fn virtual_package(text: &str) -> Result<Virtual> {
    Virtual::parse(text).ok_or_else(|| {
        Error::new(
            Kind::Input,
            format!("`{}` is no virtual package", text.escape_debug()),
        )
        .hint("write `NAME` or `NAME=VERSION`")
    })
}

fn once(list: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    list.iter()
        .filter(|item| seen.insert(item.as_str()))
        .cloned()
        .collect()
}

fn word(what: &str, value: Option<String>, usual: &str) -> Result<String> {
    let value = value.unwrap_or_else(|| usual.to_owned());
    let bad = |letter: char| letter.is_whitespace() || letter.is_control() || "'\"\\$`:".contains(letter);
    if value.is_empty() || value.contains(bad) {
        return Err(Error::new(
            Kind::Input,
            format!(
                "the {what} `{}` is empty or has spaces, colons, quotes or control characters",
                value.escape_debug()
            ),
        ));
    }
    Ok(value)
}

#[cfg(test)]
mod tests;
