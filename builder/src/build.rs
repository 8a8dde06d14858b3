//! Building an image: definition, lock, packages, root, boot files, medium.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use lycia_apk::keys::SigningKey;
use lycia_media::squashfs;
use lycia_tree::{Content, Pack};
use sha2::{Digest as _, Sha256};

use crate::archive::{self, Base};
use crate::blocks::Blocks;
use crate::choice::{self, Open};
use crate::definition::{Blocks as Packed, Compression, Image, Output, Project};
use crate::error::{Error, Explain as _, Kind, Result, io, writing};
use crate::fetch::Client;
use crate::hashing::Hashing;
use crate::lock::Lock;
use crate::manifest::{self, Manifest};
use crate::packages;
use crate::progress::{Progress, Unit};
use crate::root::{self, Root};
use crate::store::{Aside, Store, name_together};
use crate::unchanged::Inputs;
use crate::{disk, grub, initramfs, medium, netboot, oci, offer, release};

/// What is to be built, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Name of the image.
    pub image: String,
    /// Architecture.
    pub arch: String,
    /// Folder for the results.
    pub output: PathBuf,
    /// Lock to obey; the one beside the definition if there is one.
    pub lock: Option<PathBuf>,
    /// Without a lock nothing is built.
    pub locked: bool,
    /// What could not be done natively is an error.
    pub strict: bool,
    /// Outputs are written again even where nothing changed.
    pub force: bool,
    /// Threads.
    pub jobs: usize,
    /// The network is not touched.
    pub offline: bool,
    /// A tarball that tarballs and container images hold the difference from.
    pub base: Option<PathBuf>,
    /// What signs the checksums, as soon as there are any.
    pub sign: Option<SigningKey>,
}

/// A file that was written.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Written {
    /// What it is: `iso`, `tar`, `oci`, `disk`, `netboot`, `manifest`, `lock`, `sbom`, `checksums` or `signature`.
    pub kind: Cow<'static, str>,
    /// Where.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
    /// SHA-256 in hexadecimal.
    pub sha256: String,
}

/// What a build made.
#[derive(Clone, Debug)]
pub struct Built {
    /// The files.
    pub files: Vec<Written>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

impl Built {
    /// The ISO, if one was asked for.
    pub fn iso(&self) -> Option<&Path> {
        self.files
            .iter()
            .find(|file| file.kind == "iso")
            .map(|file| file.path.as_path())
    }

    /// A disk that a machine can start from as it is, if one was asked for: the raw one before the one of QEMU's format.
    pub fn disk(&self) -> Option<&Path> {
        let ends = |file: &&Written, ending| file.path.extension().is_some_and(|one| one == ending);
        let mut disks = self.files.iter().filter(|file| file.kind == "disk");
        let raw = disks.clone().find(|file| ends(file, "img"));
        raw.or_else(|| disks.find(|file| ends(file, "qcow2")))
            .map(|file| file.path.as_path())
    }
}

/// What every output of one build is made from.
#[derive(Clone, Copy)]
pub struct Work<'a> {
    /// The definition.
    pub image: &'a Image,
    /// The root.
    pub root: &'a Root,
    /// The packages that it is of.
    pub lock: &'a Lock,
    /// The store.
    pub store: &'a Store,
    /// How to build.
    pub options: &'a Options,
    /// Who is told.
    pub progress: &'a Progress,
}

/// What the outputs of one build hand to each other.
#[derive(Default)]
pub struct Made {
    /// The root as squashfs, once one of them has made it.
    squashed: Option<Content>,
    /// Platforms of GRUB that this machine's is of, with the SHA-256 of the list of its files' checksums.
    pub hosts: BTreeMap<String, String>,
    /// What lies beside the media. Nothing has its name before the build is through.
    side: Vec<Aside>,
    /// The media, which get their names when all that belongs to them has.
    media: Vec<Aside>,
}

impl Made {
    /// A small file beside the media.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn beside(&mut self, kind: &'static str, path: PathBuf, bytes: &[u8]) -> Result<Written> {
        let mut file = Aside::new(&path)?;
        io(file.file().write_all(bytes), || {
            format!("writing {}", path.display())
        })?;
        self.side.push(file);
        Ok(Written {
            kind: kind.into(),
            path,
            size: bytes.len() as u64,
            sha256: manifest::hex(&Sha256::digest(bytes)),
        })
    }

    /// Takes notice of GRUB's files for a platform, and of whose they are.
    ///
    /// # Errors
    /// When they are this machine's, and `strict` allows nothing but packages.
    pub fn grub(&mut self, name: &str, modules: &grub::Modules, strict: bool) -> Result<()> {
        if !modules.host {
            return Ok(());
        }
        if strict {
            return Err(Error::new(
                Kind::Target,
                format!(
                    "no package of the root has GRUB for {name}; without --strict that of this machine is taken"
                ),
            )
            .hint("add the GRUB packages to the definition"));
        }
        self.hosts.insert(name.to_owned(), modules.sum());
        Ok(())
    }

    /// A medium that was written to `file`, with its SHA-256 and bytes.
    pub fn medium(
        &mut self,
        kind: &'static str,
        file: Aside,
        path: PathBuf,
        (sha256, size): (String, u64),
    ) -> Written {
        self.media.push(file);
        Written {
            kind: kind.into(),
            path,
            size,
            sha256,
        }
    }
}

/// Builds an image and writes its outputs.
///
/// # Errors
/// When anything fails; what the folder of the outputs had before is there then, and nothing else.
pub fn build(project: &Project, store: &Store, options: &Options, progress: &Progress) -> Result<Built> {
    let image = project.image(&options.image, &options.arch)?;
    if image.outputs.is_empty() {
        return Err(
            Error::new(Kind::Input, format!("the image {} has no outputs", image.name))
                .hint("add `outputs = [\"iso\"]`"),
        );
    }
    let archives = image
        .outputs
        .iter()
        .any(|output| matches!(output, Output::Tar | Output::Oci));
    if options.base.is_some() && !archives {
        return Err(Error::new(
            Kind::Usage,
            format!(
                "--base is about tarballs and container images, and {} is neither",
                image.name
            ),
        )
        .hint("add \"tar\" or \"oci\" to its outputs"));
    }
    let client = Client::from_environment(options.offline)?;
    let open = Open::new(&image, store, &client)?;
    let mut warnings = Vec::new();
    let obeyed = choice::Obeyed {
        file: options.lock.clone(),
        required: options.locked,
    };
    let (lock, chosen) = choice::choose(project, &image, &open, store, &obeyed, &mut warnings)?;
    writing(std::fs::create_dir_all(&options.output), || {
        format!("making {}", options.output.display())
    })?;
    let inputs = Inputs::of(&image, &lock, &open, store, options)?;
    if !options.force
        && let Some(built) = inputs.built()
    {
        progress.say(&format!(
            "unchanged    lycia, the definition, its overlays and {} packages are as at the last build; what it \
             wrote stays",
            lock.package.len()
        ));
        return Ok(built);
    }

    let unpacked = packages::unpack(&chosen.root, &open.root, store, &client, progress, options.jobs)?;
    let beside = packages::unpack(
        &chosen.initramfs,
        &open.initramfs,
        store,
        &client,
        progress,
        options.jobs,
    )?;
    let assembling = progress.stage("assemble", 1, Unit::Items);
    let mut root = root::assemble(
        &image,
        &open.root,
        unpacked,
        lock.epoch,
        options.strict,
        &store.folder("scratch")?,
    )?;
    root.beside = root::beside(&root, beside)?;
    root.add_programs(&image.programs)?;
    let work = Work {
        image: &image,
        root: &root,
        lock: &lock,
        store,
        options,
        progress,
    };
    let offered = offer::files(&work, &open, &chosen.offered, &client)?;
    assembling.finish(&format!(
        "{} packages, {} files",
        root.database.packages.len(),
        root.tree
            .walk()
            .filter(|entry| !entry.inode.is_directory())
            .count()
    ));

    let base = match &options.base {
        None => None,
        Some(path) => {
            let base = Base::read(path)?;
            let delta = base.difference(&root.tree);
            Some((path.as_path(), base, delta))
        }
    };
    let mut files = Vec::new();
    let mut made = Made::default();
    for output in &image.outputs {
        match output {
            Output::Iso => files.extend(medium::iso(&work, offered.clone(), &mut made)?),
            Output::Disk => files.extend(disk::build(&work, &mut made)?),
            Output::Netboot => files.push(netboot(&work, &mut made)?),
            Output::Tar => files.push(tarball(&work, base.as_ref(), &mut made, &mut warnings)?),
            Output::Oci => files.push(container(&work, base.as_ref(), &mut made)?),
        }
    }
    let mut sums = Vec::new();
    for file in files
        .iter()
        .filter(|file| matches!(&*file.kind, "tar" | "oci" | "netboot"))
    {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let path = options.output.join(format!("{name}.sha256"));
        let text = format!("{}  {name}\n", file.sha256);
        sums.push(made.beside("checksums", path, text.as_bytes())?);
    }
    files.extend(sums);
    // Disks bring their own.
    if !image.outputs.contains(&Output::Iso) && (archives || image.outputs.contains(&Output::Netboot)) {
        let stem = format!("{}-{}", image.name, image.arch);
        let manifest = Manifest::new(&lock, &root, None, manifest::Medium::default())?;
        files.push(made.beside(
            "manifest",
            options.output.join(format!("{stem}.manifest.json")),
            manifest.json().as_bytes(),
        )?);
        if !image.outputs.contains(&Output::Disk) {
            files.push(made.beside(
                "lock",
                options.output.join(format!("{stem}.lock")),
                lock.text().as_bytes(),
            )?);
        }
    }
    for name in made.hosts.keys() {
        warnings.push(format!(
            "GRUB for {name} is this machine's, since no package of the root has it"
        ));
    }
    let beside = release::write(&lock, &root, &chosen, &files, options, &mut made)?;
    // A signature of older checksums is none of these.
    let mut signatures: Vec<PathBuf> = beside.iter().map(|file| release::signature(&file.path)).collect();
    signatures.retain(|path| beside.iter().all(|file| file.path != *path));
    files.extend(beside);
    name_together(made.side, made.media, &signatures)?;
    let built = Built {
        files,
        warnings: warnings.into_iter().chain(root.warnings).collect(),
    };
    inputs.remember(&built);
    Ok(built)
}

/// A base with what differs from it.
type Over<'p> = (&'p Path, Base, archive::Delta);

/// Writes the tarball of the root, or what differs from the base.
fn tarball(
    work: &Work<'_>,
    base: Option<&Over<'_>>,
    made: &mut Made,
    warnings: &mut Vec<String>,
) -> Result<Written> {
    let Work {
        image,
        root,
        store,
        options,
        progress,
        ..
    } = *work;
    let delta = base.map(|(_, _, delta)| delta);
    let part = if delta.is_some() { ".delta" } else { "" };
    let name = format!(
        "{}-{}{part}.{}",
        image.name,
        image.arch,
        archive::ending(image.tar)
    );
    let path = options.output.join(name);
    let writing = progress.stage("tar", 1, Unit::Items);
    let mut file = Aside::new(&path)?;
    let out = Hashing::new(file.file());
    let blocks = Blocks::open(store)?;
    let (out, sockets) = archive::compressed(out, image.tar, options.jobs, Some(&blocks), |mut out| {
        archive::write(&mut out, &root.tree, delta.map(|delta| (delta, false)))
    })?;
    let known = blocks.finish();
    let (_, sha256, size) = out.finish();
    if sockets > 0 {
        warnings.push(format!("{sockets} sockets were left out of the tarball"));
    }
    if let Some(delta) = delta {
        for (paths, what) in [
            (
                &delta.removed,
                "what the root has not, and a tarball cannot take it away",
            ),
            (
                &delta.replaced,
                "directories that the root has something else for, and a tarball cannot take them away",
            ),
        ] {
            let paths: Vec<String> = paths.iter().map(|path| lycia_tree::display(path)).collect();
            if !paths.is_empty() {
                warnings.push(format!("the base has {what}: {}", paths.join(" ")));
            }
        }
    }
    writing.finish(&format!(
        "{:.1} MiB, {known}, {}",
        mebibytes(size),
        path.display()
    ));
    Ok(made.medium("tar", file, path, (sha256, size)))
}

/// Writes the container image of the root, in one layer or over the base.
fn container(work: &Work<'_>, base: Option<&Over<'_>>, made: &mut Made) -> Result<Written> {
    let Work {
        image,
        root,
        store,
        options,
        progress,
        ..
    } = *work;
    let path = options
        .output
        .join(format!("{}-{}.oci.tar", image.name, image.arch));
    let writing = progress.stage("oci", 1, Unit::Items);
    let mut file = Aside::new(&path)?;
    let mut out = Hashing::new(file.file());
    let over = base.map(|(path, base, delta)| (*path, base, delta));
    let known = oci::write(&mut out, image, &root.tree, root.time, over, store, options.jobs)?;
    let (_, sha256, size) = out.finish();
    writing.finish(&format!(
        "{:.1} MiB, {known}, {}",
        mebibytes(size),
        path.display()
    ));
    Ok(made.medium("oci", file, path, (sha256, size)))
}

/// The root as squashfs, compressed once for all outputs that have it.
///
/// # Errors
/// When the root does not fit the format, or the store refuses.
pub fn squash(work: &Work<'_>, made: &mut Made) -> Result<Content> {
    let Work {
        image,
        root,
        lock,
        store,
        options,
        progress,
    } = *work;
    if let Some(content) = &made.squashed {
        return Ok(content.clone());
    }
    let squashing = progress.stage("compress", 0, Unit::Bytes);
    let mut squash = Aside::new(&store.folder("scratch")?.join("filesystem.squashfs"))?;
    let squash_options = squashfs::Options {
        compressor: match image.squashfs.compression {
            Packed::Lz4(level) => squashfs::Compressor::Lz4 { level },
            Packed::As(Compression::Zstd(level)) => squashfs::Compressor::Zstd { level },
            Packed::As(Compression::Xz(preset)) => squashfs::Compressor::Xz {
                preset,
                bcj: bcj(&image.arch),
            },
            Packed::As(Compression::Gzip(level)) => squashfs::Compressor::Gzip { level },
        },
        block_size: image.squashfs.block_size,
        mtime: u32::try_from(lock.epoch).unwrap_or(u32::MAX),
        jobs: options.jobs,
        ..squashfs::Options::default()
    };
    let blocks = Blocks::open(store)?;
    let known = Some(&blocks as &dyn squashfs::BlockStore);
    let summary = squashfs::write_with(
        &root.tree,
        &squash_options,
        squash.file(),
        known,
        &|done, total| squashing.set(done, total),
    )
    .map_err(|error| {
        let kind = match &error {
            squashfs::SquashfsError::Io { .. } | squashfs::SquashfsError::Compress { .. } => Kind::Host,
            _ => Kind::Target,
        };
        Error::new(kind, error)
    })?;
    let known = blocks.finish();
    squashing.finish(&format!(
        "{:.1} MiB of squashfs, {known}",
        mebibytes(summary.bytes)
    ));
    let squash_pack = Pack::open(&squash.path(), summary.bytes)
        .explain(Kind::Host, || "reading the squashfs back".to_owned())?;
    let squash_content = squash_pack
        .range(0, summary.bytes)
        .explain(Kind::Internal, || "reading the squashfs back".to_owned())?;
    made.squashed = Some(squash_content.clone());
    Ok(squash_content)
}

/// Writes the kit for booting from a network.
fn netboot(work: &Work<'_>, made: &mut Made) -> Result<Written> {
    let Work {
        image, root, lock, ..
    } = *work;
    let kernel = root.kernel(image.kernel.as_deref())?;
    let identity = medium::Identity::derive(image, lock, root.time);
    let of = initramfs::Medium {
        label: &image.live.label,
        uuid: &identity.uuid,
    };
    let initramfs = initramfs::content(work, &kernel, &of)?;
    let squashfs = squash(work, made)?;
    let parts = netboot::Parts {
        kernel: root.content(&kernel.image)?,
        initramfs,
        squashfs: &squashfs,
    };
    netboot::build(work, parts, made)
}

/// The filter of xz that fits an architecture, where kernels of the time can read it.
fn bcj(arch: &str) -> squashfs::Bcj {
    match arch {
        "x86_64" | "x86" => squashfs::Bcj::X86,
        _ => squashfs::Bcj::None,
    }
}

/// Bytes in MiB, for people.
pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
