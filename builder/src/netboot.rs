//! The kit for booting from a network: kernel, initramfs, the root as a further initramfs archive, and a script for iPXE, in
//! one tarball for the folder of a TFTP or HTTP server.
//!
//! No network is needed once the loader has handed over: what it loaded is all there is.

use std::io::Write as _;

use lycia_media::cpio;
use lycia_media::tar;
use lycia_tree::{Content, Metadata, Tree};

use crate::build::{Made, Work, Written, mebibytes};
use crate::definition::Image;
use crate::error::{Error, Explain as _, Kind, Result, io};
use crate::hashing::Hashing;
use crate::manifest;
use crate::progress::Unit;
use crate::store::Aside;

/// What of a live medium goes into the kit.
pub struct Parts<'a> {
    /// The kernel.
    pub kernel: Content,
    /// The initramfs.
    pub initramfs: Content,
    /// The compressed root.
    pub squashfs: &'a Content,
}

/// The script: everything lies beside it. UEFI kernels find an archive by `initrd=`.
pub fn script(image: &Image) -> String {
    let mut words = vec![
        "initrd=initrd".to_owned(),
        "initrd=root.cpio".to_owned(),
        "boot=live".to_owned(),
    ];
    words.extend(image.boot.arguments.split_whitespace().map(str::to_owned));
    words.extend(
        image
            .boot
            .consoles
            .iter()
            .map(|console| format!("console={console}")),
    );
    format!(
        "#!ipxe\n# {}. Words for the kernel: boot=live and those of the live medium.\nkernel vmlinuz {}\ninitrd initrd\ninitrd root.cpio\nboot\n",
        image.boot.title,
        words.join(" ")
    )
}

/// Writes the kit. It has no name yet.
///
/// # Errors
/// When the output refuses.
pub fn build(work: &Work<'_>, parts: Parts<'_>, made: &mut Made) -> Result<Written> {
    let Work {
        image,
        root,
        options,
        progress,
        ..
    } = *work;
    let stem = format!("{}-{}", image.name, image.arch);
    let path = options.output.join(format!("{stem}.netboot.tar"));
    let writing = progress.stage("netboot", 1, Unit::Items);
    let doing = || format!("writing {}", path.display());
    let time = root.time;

    // The root where the live init looks for it.
    let mut inner = Tree::new(Metadata::new(0o755, time));
    let sum = manifest::sum(parts.squashfs);
    let checksum = format!("{sum}  filesystem.squashfs\n");
    inner
        .make_directories(b"live", Metadata::new(0o755, time))
        .explain(Kind::Internal, doing)?;
    for (name, content) in [
        ("live/filesystem.squashfs", parts.squashfs.clone()),
        ("live/filesystem.squashfs.sha256", checksum.into()),
    ] {
        inner
            .write(name.as_bytes(), Metadata::new(0o644, time), content)
            .explain(Kind::Internal, doing)?;
    }
    // Beside the output, not in memory: a root has any size.
    let mut archive = Aside::new(&path)?;
    cpio::write_tree(archive.file(), &inner, &cpio::Options::default())
        .map_err(|error| Error::new(Kind::Host, error).context(doing()))?;
    io(archive.file().flush(), doing)?;
    let length = io(archive.file().metadata(), doing)?.len();
    let pack = lycia_tree::Pack::open(&archive.path(), length).explain(Kind::Host, doing)?;
    let archive_content = pack.range(0, length).explain(Kind::Internal, doing)?;

    let mut kit = Tree::new(Metadata::new(0o755, time));
    let mut sums = String::new();
    for (name, content) in [
        ("boot.ipxe", Content::from(script(image))),
        ("initrd", parts.initramfs),
        ("root.cpio", archive_content),
        ("vmlinuz", parts.kernel),
    ] {
        sums.push_str(&format!("{}  {name}\n", manifest::sum(&content)));
        kit.write(name.as_bytes(), Metadata::new(0o644, time), content)
            .explain(Kind::Internal, doing)?;
    }
    kit.write(b"SHA256SUMS", Metadata::new(0o644, time), sums.into())
        .explain(Kind::Internal, doing)?;
    let mut file = Aside::new(&path)?;
    let mut out = Hashing::new(file.file());
    tar::write_tree(&mut out, &kit, &tar::Options::default())
        .map_err(|error| Error::new(Kind::Host, error).context(doing()))?;
    let (_, sha256, size) = out.finish();
    writing.finish(&format!("{:.1} MiB, {}", mebibytes(size), path.display()));
    Ok(made.medium("netboot", file, path, (sha256, size)))
}
