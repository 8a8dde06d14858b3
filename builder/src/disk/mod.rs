//! Disk images: the root of an image as an installed system, on a platform's partitions, in the forms that are wanted.
//!
//! The tree is told where it will lie ([`system`]), divided among the partitions and laid out ([`layout`]), and written by
//! [`lycia_media::disk`]. Other forms are made from the raw one, which then has no name.

mod identity;
mod layout;
mod system;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use lycia_boot::grub as images;
use lycia_media::disk::{DiskError, Plan};
use lycia_media::partition::Guid;
use lycia_media::qcow2::{self, Qcow2Error};
use lycia_media::{ext4, fat};
use lycia_tree::{Content, Metadata, Node, Tree};
use sha2::{Digest as _, Sha256};

use crate::archive;
use crate::blocks::Blocks;
use crate::build::{Made, Work, Written, mebibytes};
use crate::definition::Output;
use crate::definition::platform::{Disk, Form, Loader};
use crate::definition::typed::Firmware;
use crate::error::{Context as _, Error, Explain as _, Kind, Result, io};
use crate::grub;
use crate::hashing::Hashing;
use crate::manifest::{self, Manifest, hex};
use crate::progress::Unit;
use crate::root::{Origin, Root};
use crate::store::Aside;

use identity::Identity;
use layout::Place;

/// How the name of the manifest of a disk ends.
pub const MANIFEST: &str = ".disk.manifest.json";

/// Builds the disk of `image` in every form that is wanted. Nothing has its name yet.
///
/// # Errors
/// When the root lacks what boots, something does not fit, or the output refuses.
pub fn build(work: &Work<'_>, made: &mut Made) -> Result<Vec<Written>> {
    let Work {
        image,
        root,
        lock,
        store,
        options,
        progress,
    } = *work;
    let disk = image
        .disk
        .as_ref()
        .ok_or_else(|| Error::new(Kind::Internal, format!("{} has no disk", image.name)))?;
    let stem = format!("{}-{}", image.name, image.arch);
    let identity = Identity::derive(image, disk, lock);

    let booting = progress.stage("boot", 1, Unit::Items);
    let mut tree = system::tree(work, disk, &identity)?;
    let loaders = loaders(work, disk, &identity, made)?;
    loaders.lay(&mut tree, root)?;
    let copied = layout::copy_own(disk, &mut tree, root.time)?;
    let system = system_root(root, tree, &copied, &loaders.hosts());
    let kernel = system.kernel(image.kernel.as_deref()).ok();
    let manifest = Manifest::new(
        lock,
        &system,
        kernel.as_ref(),
        manifest::Medium {
            label: disk.platform.partitions[disk.platform.root].label.clone(),
            uuid: identity.root.to_string(),
            verity: String::new(),
        },
    )?
    .json();
    let time = root.time;
    let mut contents = layout::divide(disk, system.tree, time)?;
    loaders.lay_esp(disk, &mut contents.trees, time)?;
    let sizes = layout::sizes(disk, &identity, &contents, time)?;
    loaders.place_core(disk, &identity, &mut contents, &sizes, time)?;
    let layout = layout::layout(disk, &identity, &contents, &sizes, time);
    let plan = Plan::new(&layout).map_err(|error| failed(error, &disk.platform.name))?;
    booting.finish(&format!(
        "platform {}, {} partitions, {:.0} MiB",
        disk.platform.name,
        plan.partitions().len(),
        mebibytes(plan.size())
    ));

    let path = |form: Form| options.output.join(format!("{stem}.{}", form.ending()));
    let raw_path = if disk.forms.contains(&Form::Raw) {
        path(Form::Raw)
    } else {
        store.folder("scratch")?.join("disk.img")
    };
    let filling = progress.stage("fill", 0, Unit::Bytes);
    let mut raw = Aside::new(&raw_path)?;
    let mut done = 0;
    plan.write(raw.file(), &mut |more| {
        done += more;
        filling.set(done, 0);
    })
    .map_err(|error| failed(error, &disk.platform.name))?;
    filling.finish(&format!("{:.1} MiB on its partitions", mebibytes(done)));

    let mut ready = Vec::new();
    for &form in &disk.forms {
        if form == Form::Raw {
            continue;
        }
        let to = path(form);
        let writing = progress.stage(form.ending(), plan.size(), Unit::Bytes);
        let mut out = Aside::new(&to)?;
        let mut source = reopen(&raw)?;
        let mut done = 0;
        let mut report = |more: u64| {
            done += more;
            writing.set(done, plan.size());
        };
        let mut said = String::new();
        let (sha256, size) = match form {
            Form::Compressed(compression) => {
                let hashing = Hashing::new(out.file());
                let blocks = Blocks::open(store)?;
                let known = Some(&blocks);
                let (hashing, ()) =
                    archive::compressed(hashing, compression, options.jobs, known, |encoder| {
                        let doing = || format!("writing {}", to.display());
                        let mut buffer = vec![0; 1 << 20];
                        loop {
                            let count = io(source.read(&mut buffer), doing)?;
                            if count == 0 {
                                return Ok(());
                            }
                            io(std::io::Write::write_all(encoder, &buffer[..count]), doing)?;
                            report(count as u64);
                        }
                    })
                    .context(|| format!("writing {}", to.display()))?;
                said = format!("{}, ", blocks.finish());
                let (_, sha256, size) = hashing.finish();
                (sha256, size)
            }
            Form::Qcow2 | Form::Raw => {
                qcow2::write(&mut source, plan.size(), out.file(), &mut report).map_err(|error| {
                    let kind = match &error {
                        Qcow2Error::Size(_) => Kind::Input,
                        _ => Kind::Host,
                    };
                    Error::new(kind, error).context(format!("writing {}", to.display()))
                })?;
                hash(&out)?
            }
        };
        writing.finish(&format!("{:.1} MiB, {said}{}", mebibytes(size), to.display()));
        ready.push((to, out, sha256, size));
    }
    if disk.forms.contains(&Form::Raw) {
        let (sha256, size) = hash(&raw)?;
        progress.say(&format!(
            "{:<12} {:.1} MiB, {}",
            "img",
            mebibytes(size),
            raw_path.display()
        ));
        ready.push((raw_path, raw, sha256, size));
    }

    let mut small = vec![("manifest", format!("{stem}{MANIFEST}"), manifest)];
    if !image.outputs.contains(&Output::Iso) {
        small.push(("lock", format!("{stem}.lock"), lock.text()));
    }
    let mut files = Vec::new();
    for (path, file, sha256, size) in ready {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        small.push((
            "checksums",
            format!("{name}.sha256"),
            format!("{sha256}  {name}\n"),
        ));
        files.insert(0, made.medium("disk", file, path, (sha256, size)));
    }
    for (kind, name, text) in small {
        files.push(made.beside(kind, options.output.join(name), text.as_bytes())?);
    }
    Ok(files)
}

/// Whose fault it is that a disk cannot be: the platform's where it says what cannot be, the root's where that does not fit.
fn failed(error: DiskError, platform: &str) -> Error {
    let kind = match &error {
        DiskError::Write { .. }
        | DiskError::Ext4 {
            source: ext4::Ext4Error::Write { .. },
            ..
        } => Kind::Host,
        DiskError::Fat {
            source: fat::FatError::Write { .. },
            ..
        } => Kind::Host,
        DiskError::Fat {
            source: fat::FatError::Label { .. } | fat::FatError::Size(_),
            ..
        } => Kind::Input,
        DiskError::Raw { .. } | DiskError::Ext4 { .. } | DiskError::Fat { .. } => Kind::Target,
        _ => Kind::Input,
    };
    Error::new(kind, error).context(format!("the disk of the platform {platform}"))
}

/// The whole of a file that has no name yet, from its beginning.
fn reopen(file: &Aside) -> Result<File> {
    io(File::open(file.path()), || "reading the disk back".to_owned())
}

/// SHA-256 and bytes of what was written.
fn hash(file: &Aside) -> Result<(String, u64)> {
    let doing = || "reading the disk back".to_owned();
    let mut source = reopen(file)?;
    io(source.rewind(), doing)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let count = io(source.read(&mut buffer), doing)?;
        if count == 0 {
            return Ok((hex(&hasher.finalize()), size));
        }
        hasher.update(&buffer[..count]);
        size += count as u64;
    }
}

/// The root as it is on the disk, for the manifest: what is as in `root` is from where that is from.
/// `copied` are paths that the platform wants copies at, `hosts` those of files of this machine.
fn system_root(root: &Root, tree: Tree, copied: &BTreeSet<Vec<u8>>, hosts: &BTreeSet<Vec<u8>>) -> Root {
    let same = |path: &[u8], node: Option<&Node>| {
        let before = root.tree.find(path, lycia_tree::Follow::Parents).ok().flatten();
        match (before.and_then(|id| root.tree.inode(id).node()), node) {
            // Contents are shared, not copied: the place tells without looking at the bytes.
            (Some(Node::Regular(a)), Some(Node::Regular(b))) => {
                a.len() == b.len() && std::ptr::eq(a.bytes().as_ptr(), b.bytes().as_ptr())
            }
            (Some(a), Some(b)) => a == b,
            _ => false,
        }
    };
    // A copy of what a package or an overlay has is that one's.
    let place = |content: &Content| (content.bytes().as_ptr(), content.len());
    let mut sources = HashMap::new();
    for entry in root.tree.walk() {
        if let (Some(content), Some(origin @ (Origin::Package(_) | Origin::Overlay(_) | Origin::Trigger(_)))) =
            (entry.inode.content(), root.origins.get(&entry.path))
            && !content.is_empty()
        {
            sources.entry(place(content)).or_insert(origin);
        }
    }
    let mut origins = BTreeMap::new();
    for entry in tree.walk() {
        let own = root.origins.get(&entry.path);
        if entry.inode.is_directory() {
            let there = root.tree.find(&entry.path, lycia_tree::Follow::Parents);
            let made = there.ok().flatten().is_none().then_some(Origin::Disk);
            origins.extend(own.cloned().or(made).map(|origin| (entry.path, origin)));
            continue;
        }
        let source = entry
            .inode
            .content()
            .and_then(|content| sources.get(&place(content)));
        let origin = match own
            .filter(|_| same(&entry.path, entry.inode.node()))
            .or(source.copied())
        {
            Some(origin) => origin.clone(),
            None if hosts.contains(&entry.path) => Origin::Host,
            None if copied.contains(&entry.path) => Origin::Platform,
            None => Origin::Disk,
        };
        origins.insert(entry.path, origin);
    }
    Root {
        tree,
        database: root.database.clone(),
        origins,
        warnings: Vec::new(),
        time: root.time,
        beside: None,
    }
}

/// GRUB for the firmware that a platform has places for.
#[derive(Default)]
struct Loaders {
    /// Files of the platform for BIOS, with its name.
    bios: Option<(String, images::Files)>,
    /// What is run first.
    early: String,
    /// Programs for the EFI system partition, by name.
    efi: Vec<(String, Content)>,
    /// Modules for `/boot/grub`, by path, and whether they are this machine's.
    modules: Vec<(String, Content, bool)>,
}

fn loaders(work: &Work<'_>, disk: &Disk, identity: &Identity, made: &mut Made) -> Result<Loaders> {
    let Work {
        image,
        root,
        store,
        options,
        ..
    } = *work;
    let mut loaders = Loaders::default();
    let platform = &disk.platform;
    if platform.loader != Loader::Grub {
        return Ok(loaders);
    }
    loaders.early = lycia_boot::menu::early(&identity.root.to_string(), None);
    let has = |kind: Guid| platform.partitions.iter().any(|one| one.kind == kind);
    let mbr = platform.table == crate::definition::platform::TableName::Mbr;
    let (bios, uefi) = (mbr || has(Guid::BIOS_BOOT), has(Guid::EFI_SYSTEM));
    let scratch = io(
        tempfile::Builder::new()
            .prefix("grub-")
            .tempdir_in(store.folder("scratch")?),
        || "making a scratch folder".to_owned(),
    )?;
    for table in &image.boot.platforms {
        let name = &table.platform;
        let wanted = match table.firmware {
            Firmware::Bios => bios,
            Firmware::Uefi => uefi,
        };
        if !wanted {
            continue;
        }
        let Some(modules) = grub::files(name, &root.tree)? else {
            continue;
        };
        made.grub(name, &modules, options.strict)?;
        for (file, content) in &modules.files {
            if file.ends_with(".mod") || file.ends_with(".lst") {
                let path = format!("boot/grub/{name}/{file}");
                loaders.modules.push((path, content.clone(), modules.host));
            }
        }
        match table.firmware {
            Firmware::Bios => loaders.bios = Some((name.clone(), modules.files.into_iter().collect())),
            Firmware::Uefi => {
                let removable = table
                    .removable_name
                    .clone()
                    .ok_or_else(|| Error::new(Kind::Input, format!("{name} has no removable-name")))?;
                let built = grub::build_with(table, &loaders.early, modules, scratch.path())?;
                loaders.efi.push((removable, built.image));
            }
        }
    }
    let lacks = match (bios && loaders.bios.is_none(), uefi && loaders.efi.is_empty()) {
        (true, _) => "BIOS",
        (_, true) => "UEFI",
        _ => return Ok(loaders),
    };
    Err(Error::new(
        Kind::Target,
        format!("neither the root nor this machine has GRUB modules for {lacks}, which the platform {} boots with", platform.name),
    )
    .hint("add the GRUB packages to the definition"))
}

impl Loaders {
    /// Where modules of this machine lie.
    fn hosts(&self) -> BTreeSet<Vec<u8>> {
        let hosts = self.modules.iter().filter(|(_, _, host)| *host);
        hosts.map(|(path, ..)| format!("/{path}").into_bytes()).collect()
    }

    /// Puts the modules into the root.
    fn lay(&self, tree: &mut Tree, root: &Root) -> Result<()> {
        for (path, content, _) in &self.modules {
            layout::put(tree, path, content.clone(), root.time)?;
        }
        tree.clamp_times(root.time);
        Ok(())
    }

    /// Puts the programs on the EFI system partition.
    fn lay_esp(&self, disk: &Disk, trees: &mut [Option<Tree>], time: lycia_tree::Timestamp) -> Result<()> {
        let esp = disk
            .platform
            .partitions
            .iter()
            .position(|one| one.kind == Guid::EFI_SYSTEM);
        let Some(index) = esp.filter(|_| !self.efi.is_empty()) else {
            return Ok(());
        };
        let tree = trees[index].get_or_insert_with(|| Tree::new(Metadata::new(0o755, time)));
        for (name, content) in &self.efi {
            layout::put(tree, &format!("EFI/BOOT/{name}"), content.clone(), time)?;
        }
        Ok(())
    }

    /// Makes the core image for its place, and the code that starts it.
    fn place_core(
        &self,
        disk: &Disk,
        identity: &Identity,
        contents: &mut layout::Contents,
        sizes: &[u64],
        time: lycia_tree::Timestamp,
    ) -> Result<()> {
        let (Some((name, files)), Some(place)) = (&self.bios, contents.core) else {
            return Ok(());
        };
        let doing = || format!("making GRUB's images of {name}");
        let start = layout::core_start(&layout::layout(disk, identity, contents, sizes, time), place)?;
        let first = start / images::SECTOR as u64;
        let there = |module: &&&str| files.contains_key(&format!("{module}.mod"));
        let modules: Vec<&str> = images::CORE_MODULES.iter().filter(there).copied().collect();
        let core = images::bios_core(files, &modules, &self.early, "/boot/grub", first)
            .explain(Kind::Target, doing)?;
        contents.boot_code = images::boot_code(files, first)
            .explain(Kind::Target, doing)?
            .to_vec();
        match place {
            Place::Partition(_) => contents.core_image = Some(core.into()),
            Place::Gap => contents
                .raw
                .push(("GRUB's core image".to_owned(), start, None, core.into())),
        }
        Ok(())
    }
}

/// The manifest beside a disk, whatever its form.
pub fn manifest_path(disk: &Path) -> std::path::PathBuf {
    let name = disk
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let stem = [".img.gz", ".img.xz", ".img.zst", ".qcow2", ".img"]
        .iter()
        .find_map(|ending| name.strip_suffix(ending))
        .unwrap_or(&name);
    disk.with_file_name(format!("{stem}{MANIFEST}"))
}
