//! Building an image: definition, lock, packages, root, boot files, medium.

use std::borrow::Cow;
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use lycia_media::{fat, squashfs};
use lycia_tree::{Content, Metadata, Pack, Timestamp, Tree};
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
use crate::store::{Aside, Store, write_whole};
use crate::unchanged::Inputs;
use crate::{disk, grub, initramfs, medium, netboot, oci, offer, release, verified};

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

/// Builds an image and writes its outputs.
///
/// # Errors
/// When anything fails; no output has its name then.
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
    let mut root = root::assemble(&image, &open.root, unpacked, lock.epoch, options.strict)?;
    root.beside = root::beside(&root, beside)?;
    root.add_programs(&image.programs)?;
    let offered = if image.outputs.contains(&Output::Iso) {
        offer::files(&image, &root, &open, store, &client, progress, options.jobs)?
    } else {
        Vec::new()
    };
    assembling.finish(&format!(
        "{} packages, {} files",
        root.database.packages.len(),
        root.origins.len()
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
    let mut squashed = None;
    // What gets its name when all that belongs to it has.
    let mut last = Vec::new();
    for output in &image.outputs {
        match output {
            Output::Iso => files.extend(iso(
                &image,
                &root,
                &lock,
                offered.clone(),
                store,
                options,
                progress,
                &mut squashed,
                &mut last,
            )?),
            Output::Disk => files.extend(disk::build(
                &image, &root, &lock, store, options, progress, &mut last,
            )?),
            Output::Netboot => files.push(netboot(
                &image,
                &root,
                &lock,
                store,
                options,
                progress,
                &mut squashed,
            )?),
            Output::Tar => files.push(tarball(
                &image,
                &root,
                base.as_ref(),
                options,
                progress,
                &mut warnings,
            )?),
            Output::Oci => files.push(container(&image, &root, base.as_ref(), store, options, progress)?),
        }
    }
    let mut sums = Vec::new();
    for file in files
        .iter()
        .filter(|file| matches!(&*file.kind, "tar" | "oci" | "netboot"))
    {
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let path = options.output.join(format!("{name}.sha256"));
        sums.push(small("checksums", path, &format!("{}  {name}\n", file.sha256))?);
    }
    files.extend(sums);
    // Disks bring their own.
    if !image.outputs.contains(&Output::Iso) && (archives || image.outputs.contains(&Output::Netboot)) {
        let stem = format!("{}-{}", image.name, image.arch);
        let manifest = Manifest::new(&lock, &root, None, manifest::Medium::default());
        files.push(small(
            "manifest",
            options.output.join(format!("{stem}.manifest.json")),
            &manifest.json(),
        )?);
        if !image.outputs.contains(&Output::Disk) {
            files.push(small(
                "lock",
                options.output.join(format!("{stem}.lock")),
                &lock.text(),
            )?);
        }
    }
    let beside = release::write(&lock, &root, &files, options)?;
    files.extend(beside);
    for output in last {
        output.finish()?;
    }
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
    image: &Image,
    root: &Root,
    base: Option<&Over<'_>>,
    options: &Options,
    progress: &Progress,
    warnings: &mut Vec<String>,
) -> Result<Written> {
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
    let (out, sockets) = archive::compressed(out, image.tar, options.jobs, |encoder| {
        archive::write(encoder, &root.tree, delta.map(|delta| (delta, false)))
    })?;
    let (_, sha256, size) = out.finish();
    if sockets > 0 {
        warnings.push(format!("{sockets} sockets were left out of the tarball"));
    }
    if let Some(delta) = delta.filter(|delta| !delta.removed.is_empty()) {
        let gone: Vec<String> = delta
            .removed
            .iter()
            .map(|path| lycia_tree::display(path))
            .collect();
        warnings.push(format!(
            "the base has what the root has not, and a tarball cannot take it away: {}",
            gone.join(" ")
        ));
    }
    file.finish()?;
    writing.finish(&format!("{:.1} MiB, {}", mebibytes(size), path.display()));
    Ok(Written {
        kind: "tar".into(),
        path,
        size,
        sha256,
    })
}

/// Writes the container image of the root, in one layer or over the base.
fn container(
    image: &Image,
    root: &Root,
    base: Option<&Over<'_>>,
    store: &Store,
    options: &Options,
    progress: &Progress,
) -> Result<Written> {
    let path = options
        .output
        .join(format!("{}-{}.oci.tar", image.name, image.arch));
    let writing = progress.stage("oci", 1, Unit::Items);
    let mut file = Aside::new(&path)?;
    let mut out = Hashing::new(file.file());
    let over = base.map(|(path, base, delta)| (*path, base, delta));
    oci::write(&mut out, image, &root.tree, root.time, over, store, options.jobs)?;
    let (_, sha256, size) = out.finish();
    file.finish()?;
    writing.finish(&format!("{:.1} MiB, {}", mebibytes(size), path.display()));
    Ok(Written {
        kind: "oci".into(),
        path,
        size,
        sha256,
    })
}

/// Writes a small text.
fn small(kind: &'static str, path: PathBuf, text: &str) -> Result<Written> {
    write_whole(&path, text.as_bytes())?;
    Ok(Written {
        kind: kind.into(),
        path,
        size: text.len() as u64,
        sha256: manifest::hex(&Sha256::digest(text.as_bytes())),
    })
}

#[expect(clippy::too_many_arguments, reason = "each is another part of one build")]
fn iso(
    image: &Image,
    root: &Root,
    lock: &Lock,
    offered: Vec<(String, Content)>,
    store: &Store,
    options: &Options,
    progress: &Progress,
    squashed: &mut Option<Content>,
    last: &mut Vec<Aside>,
) -> Result<Vec<Written>> {
    let stem = format!("{}-{}", image.name, image.arch);
    let kernel = root.kernel(image.kernel.as_deref())?;
    let identity = medium::Identity::derive(image, lock, root.time);

    // What boots comes first: where something is missing there, it shows before the long work.
    let booting = progress.stage("boot", 1, Unit::Items);
    let initramfs = initramfs::content(
        image,
        root,
        &kernel,
        &initramfs::Medium {
            label: &image.live.label,
            uuid: &identity.uuid,
        },
    )?;
    let scratch = io(
        tempfile::Builder::new()
            .prefix("grub-")
            .tempdir_in(store.folder("scratch")?),
        || "making a scratch folder".to_owned(),
    )?;
    let mut built = Vec::new();
    for platform in &image.boot.platforms {
        built.extend(grub::build(platform, image, &root.tree, scratch.path())?);
    }
    if built.is_empty() {
        return Err(Error::new(
            Kind::Target,
            "neither the root nor this machine has GRUB modules for any platform",
        )
        .hint("add the GRUB packages to the definition"));
    }
    booting.finish(&format!(
        "{:.1} MiB of initramfs, GRUB for {}",
        mebibytes(initramfs.len()),
        built
            .iter()
            .map(|one| one.platform.platform.as_str())
            .collect::<Vec<_>>()
            .join(" and ")
    ));

    let squash_content = squash(image, root, lock, store, options, progress, squashed)?;

    let time = root.time;
    let hashed = verified::hash(image, &identity, &squash_content)?;
    let manifest = Manifest::new(
        lock,
        root,
        Some(&kernel),
        manifest::Medium {
            label: image.live.label.clone(),
            uuid: identity.uuid.clone(),
            verity: hashed
                .as_ref()
                .map(|hashed| hashed.root.clone())
                .unwrap_or_default(),
        },
    );
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let mut put = |path: &str, content: Content| {
        if let Some(at) = path.rfind('/') {
            tree.make_directories(&path.as_bytes()[..at], Metadata::new(0o755, time))
                .explain(Kind::Internal, || "laying out the medium".to_owned())?;
        }
        tree.write(path.as_bytes(), Metadata::new(0o644, time), content)
            .map(drop)
            .explain(Kind::Internal, || "laying out the medium".to_owned())
    };
    let checksum = manifest::hex(&Sha256::digest(squash_content.bytes()));
    let mut arguments = Vec::new();
    if let Some(hashed) = hashed {
        put("live/filesystem.squashfs.verity", hashed.area)?;
        arguments = hashed.arguments;
    }
    put("live/filesystem.squashfs", squash_content)?;
    put(
        "live/filesystem.squashfs.sha256",
        format!("{checksum}  filesystem.squashfs\n").into(),
    )?;
    put("live/vmlinuz", root.content(&kernel.image)?)?;
    put("live/initrd", initramfs)?;
    put("live/packages.lock", lock.text().into())?;
    for (path, content) in offered {
        put(&path, content)?;
    }
    grub::lay(&mut tree, image, &built, &arguments, time)?;
    let sums = verified::checksums(&tree, &built, ("live/filesystem.squashfs", &checksum));
    tree.write(
        verified::CHECKSUMS.as_bytes(),
        Metadata::new(0o644, time),
        sums.into(),
    )
    .explain(Kind::Internal, || "laying out the medium".to_owned())?;
    let esp = esp(&built, time, identity.serial)?;

    let path = options.output.join(format!("{stem}.iso"));
    let writing = progress.stage("write", 0, Unit::Bytes);
    let mut out = Aside::new(&path)?;
    let sha256 = {
        let mut hashing = Hashing::new(BufWriter::with_capacity(1 << 20, out.file()));
        medium::write_iso(
            image,
            &identity,
            &tree,
            &built,
            esp,
            time,
            &mut hashing,
            &mut |done, total| {
                writing.set(done, total);
            },
        )?;
        io(hashing.flush(), || format!("writing {}", path.display()))?;
        let (_, sha256, size) = hashing.finish();
        (sha256, size)
    };
    let (sha256, size) = sha256;
    writing.finish(&format!("{:.1} MiB, {}", mebibytes(size), path.display()));

    // The ISO comes last of all: where it is, everything that belongs to it is.
    let mut files = Vec::new();
    let small = [
        ("manifest", format!("{stem}.manifest.json"), manifest.json()),
        ("lock", format!("{stem}.lock"), lock.text()),
        (
            "checksums",
            format!("{stem}.iso.sha256"),
            format!("{sha256}  {stem}.iso\n"),
        ),
    ];
    for (kind, name, text) in small {
        let path = options.output.join(name);
        write_whole(&path, text.as_bytes())?;
        let sha256 = manifest::hex(&Sha256::digest(text.as_bytes()));
        files.push(Written {
            kind: kind.into(),
            path,
            size: text.len() as u64,
            sha256,
        });
    }
    last.push(out);
    files.insert(
        0,
        Written {
            kind: "iso".into(),
            path,
            size,
            sha256,
        },
    );
    Ok(files)
}

/// The root as squashfs, compressed once for all outputs that have it.
fn squash(
    image: &Image,
    root: &Root,
    lock: &Lock,
    store: &Store,
    options: &Options,
    progress: &Progress,
    squashed: &mut Option<Content>,
) -> Result<Content> {
    if let Some(content) = squashed {
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
    let (hits, misses) = blocks.count();
    squashing.finish(&format!(
        "{:.1} MiB of squashfs, {hits} of {} blocks known",
        mebibytes(summary.bytes),
        hits + misses
    ));
    blocks.finish();
    let squash_pack = Pack::open(&squash.path(), summary.bytes)
        .explain(Kind::Host, || "reading the squashfs back".to_owned())?;
    let squash_content = squash_pack
        .range(0, summary.bytes)
        .explain(Kind::Internal, || "reading the squashfs back".to_owned())?;
    *squashed = Some(squash_content.clone());
    Ok(squash_content)
}

/// Writes the kit for booting from a network.
fn netboot(
    image: &Image,
    root: &Root,
    lock: &Lock,
    store: &Store,
    options: &Options,
    progress: &Progress,
    squashed: &mut Option<Content>,
) -> Result<Written> {
    let kernel = root.kernel(image.kernel.as_deref())?;
    let identity = medium::Identity::derive(image, lock, root.time);
    let of = initramfs::Medium {
        label: &image.live.label,
        uuid: &identity.uuid,
    };
    let initramfs = initramfs::content(image, root, &kernel, &of)?;
    let squashfs = squash(image, root, lock, store, options, progress, squashed)?;
    let parts = netboot::Parts {
        kernel: root.content(&kernel.image)?,
        initramfs,
        squashfs: &squashfs,
    };
    netboot::build(image, root, parts, options, progress)
}

fn esp(built: &[grub::Built], time: Timestamp, serial: u32) -> Result<Option<Content>> {
    let Some(tree) = grub::esp(built, time)? else {
        return Ok(None);
    };
    let volume = fat::Volume {
        label: Some("LYCIA_EFI".to_owned()),
        serial,
        time,
        width: None,
        size: fat::fitting_size(&tree, None, 0),
    };
    let image = fat::image(&tree, &volume)
        .explain(Kind::Internal, || "making the EFI system partition".to_owned())?;
    Ok(Some(Content::from(image)))
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
