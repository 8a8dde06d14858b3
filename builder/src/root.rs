//! The root: packages, users, triggers, overlays and services put together in a tree.

use std::collections::BTreeMap;
use std::path::Path;

use lycia_apk::database::Database;
use lycia_apk::install::{Installation, Names, Unpacked};
use lycia_root::assembly;
use lycia_tree::{Content, Follow, Metadata, Timestamp, Tree, display};

use crate::choice;
use crate::definition::Image;
use crate::error::{Context as _, Error, Explain as _, Kind, Result};
use crate::overlay;
use crate::packages::OpenRepository;

pub use lycia_boot::Kernel;

/// Where a file of the root is from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Origin {
    /// A package.
    Package(String),
    /// A native trigger.
    Trigger(String),
    /// An overlay.
    Overlay(String),
    /// What makes a root the system of a disk.
    Disk,
    /// What a platform wants where nobody else writes: copies of such files, mount points.
    Platform,
    /// GRUB of the machine that builds.
    Host,
    /// The builder itself.
    Builder,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Package(name) => write!(f, "package {name}"),
            Origin::Trigger(name) => write!(f, "trigger {name}"),
            Origin::Overlay(name) => write!(f, "overlay {name}"),
            Origin::Disk => f.write_str("disk"),
            Origin::Platform => f.write_str("platform"),
            Origin::Host => f.write_str("host"),
            Origin::Builder => f.write_str("builder"),
        }
    }
}

/// A root put together.
pub struct Root {
    /// The file system.
    pub tree: Tree,
    /// What is installed in it.
    pub database: Database,
    /// Where its files are from, by canonical path. Directories have an entry where overlays or triggers made them; which
    /// packages have them says the database.
    pub origins: BTreeMap<Vec<u8>, Origin>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The time of everything that no package dates.
    pub time: Timestamp,
    /// The root with packages that only the initramfs takes files from.
    pub beside: Option<Tree>,
}

/// Puts the root of `image` together. Contents of overlays are copied to files without names in `scratch`.
///
/// # Errors
/// When packages clash, an owner is unknown, a trigger fails, or a service does not exist.
pub fn assemble(
    image: &Image,
    repositories: &[OpenRepository],
    unpacked: Vec<Unpacked>,
    epoch: u64,
    strict: bool,
    scratch: &Path,
) -> Result<Root> {
    let time = Timestamp::from_seconds(i64::try_from(epoch).unwrap_or(i64::MAX));
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let doing = || "assembling the root".to_owned();
    let options = lycia_root::Options { time, strict };
    let mut installed = assembly::install(&mut tree, unpacked, &options).explain(Kind::Target, doing)?;
    let mut origins: BTreeMap<Vec<u8>, Origin> = BTreeMap::new();
    for (path, package) in std::mem::take(&mut installed.attribution) {
        origins.insert(path, Origin::Package(package));
    }
    for (path, trigger) in std::mem::take(&mut installed.triggered) {
        origins.insert(path, Origin::Trigger(trigger));
    }
    let keys: Vec<(String, Vec<u8>)> = repositories
        .iter()
        .flat_map(|repository| repository.key_files.iter().cloned())
        .collect();
    let lines: Vec<String> = repositories
        .iter()
        .filter(|repository| repository.definition.in_root)
        .map(|repository| repository.definition.line())
        .collect();
    let records = assembly::Records {
        world: &choice::world(image)?,
        arch: &image.arch,
        keys: &keys,
        repositories: &lines,
    };
    installed
        .record(&mut tree, &records)
        .explain(Kind::Target, doing)?;

    for folder in &image.overlays {
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let entries = overlay::read(folder, scratch)?;
        let written = lycia_tree::overlay::apply(&mut tree, &entries, time)
            .explain(Kind::Target, || format!("laying the overlay {name}"))?;
        for path in written {
            origins.insert(path, Origin::Overlay(name.clone()));
        }
    }
    for service in &image.services {
        lycia_root::services::enable(&mut tree, service, time)
            .explain(Kind::Input, || format!("enabling the service {service}"))?;
    }
    for path in installed.finish(&mut tree).explain(Kind::Target, doing)? {
        origins.insert(path, Origin::Trigger("first-boot".to_owned()));
    }
    let mut warnings = installed.warnings;
    tree.clamp_times(time);

    // What is there and was named by nobody came from the builder; what went is forgotten.
    let mut whole = BTreeMap::new();
    for entry in tree.walk() {
        let origin = origins.remove(&entry.path);
        if entry.inode.is_directory() {
            let made = origin.filter(|one| matches!(one, Origin::Overlay(_) | Origin::Trigger(_)));
            whole.extend(made.map(|origin| (entry.path, origin)));
        } else {
            whole.insert(entry.path, origin.unwrap_or(Origin::Builder));
        }
    }
    warnings.sort();
    warnings.dedup();
    Ok(Root {
        tree,
        database: installed.database,
        origins: whole,
        warnings,
        time,
        beside: None,
    })
}

/// The root with packages that only the initramfs takes files from; nothing where there are none.
///
/// # Errors
/// When they clash with those of the root.
pub fn beside(root: &Root, packages: Vec<Unpacked>) -> Result<Option<Tree>> {
    if packages.is_empty() {
        return Ok(None);
    }
    let mut tree = root.tree.clone();
    let mut installation = Installation::new(&mut tree, root.time);
    for package in packages {
        installation
            .add(package)
            .explain(Kind::Target, || "unpacking for the initramfs".to_owned())?;
    }
    // Whoever owns them: files of an initramfs are root's.
    installation.finish(&Names::parse(b"root:x:0:0::/:/\n", b"root:x:0:\n"));
    Ok(Some(tree))
}

/// What the entries are said to be from that [`Root::add_programs`] makes.
const PROGRAMS: &str = "[install] programs";

impl Root {
    /// Takes files of the initramfs's packages into the root, too.
    ///
    /// # Errors
    /// When no package of the initramfs has one of them, or the root has another file there.
    pub fn add_programs(&mut self, programs: &[String]) -> Result<()> {
        for path in programs {
            let doing = || format!("[install] programs: {path}");
            let none = || {
                Error::new(Kind::Input, "no package of the initramfs has this file")
                    .hint("name its package in [initramfs] packages")
                    .context(doing())
            };
            let beside = self.beside.as_ref().ok_or_else(none)?;
            let id = beside
                .find(path.as_bytes(), Follow::Parents)
                .explain(Kind::Input, doing)?
                .ok_or_else(none)?;
            let inode = beside.inode(id);
            let content = inode.content().ok_or_else(none)?.clone();
            let metadata = inode.metadata.clone();
            if self
                .tree
                .find(path.as_bytes(), Follow::Parents)
                .explain(Kind::Target, doing)?
                .is_some()
            {
                return Err(Error::new(Kind::Input, "a package of the root has this file").context(doing()));
            }
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            let own = Metadata::new(0o755, self.time);
            self.tree
                .make_directories(folder.as_bytes(), own)
                .and_then(|_| self.tree.write(path.as_bytes(), metadata, content))
                .explain(Kind::Target, doing)?;
            let canonical = self
                .tree
                .canonical(path.as_bytes(), Follow::Parents)
                .explain(Kind::Target, doing)?;
            self.origins
                .insert(canonical, Origin::Overlay(PROGRAMS.to_owned()));
        }
        Ok(())
    }

    /// The kernel of the root; `wanted` is a part of its version, where there is more than one.
    ///
    /// # Errors
    /// When there is none, or more than one fits.
    pub fn kernel(&self, wanted: Option<&str>) -> Result<Kernel> {
        let mut kernels: Vec<Kernel> = lycia_boot::kernels(&self.tree)
            .explain(Kind::Target, || "finding the kernel".to_owned())?
            .into_iter()
            .filter(|kernel| wanted.is_none_or(|part| kernel.version.contains(part)))
            .collect();
        let versions = kernels
            .iter()
            .map(|kernel| kernel.version.as_str())
            .collect::<Vec<_>>()
            .join(", ");
        match (kernels.len(), kernels.pop()) {
            (1, Some(kernel)) => Ok(kernel),
            (0, _) => Err(Error::new(Kind::Target, "the root has no /boot/vmlinuz-VERSION")
                .hint("add a kernel package to the definition")),
            _ => Err(
                Error::new(Kind::Input, format!("the root has several kernels: {versions}"))
                    .hint("say which with `kernel = \"PART OF THE VERSION\"`"),
            ),
        }
    }

    /// The content that `path` leads to.
    ///
    /// # Errors
    /// When it is not there.
    pub fn content(&self, path: &[u8]) -> Result<Content> {
        let id = self
            .tree
            .resolve(path, Follow::All)
            .explain(Kind::Target, || "reading the root".to_owned())?;
        self.tree
            .inode(id)
            .content()
            .cloned()
            .ok_or_else(|| Error::new(Kind::Target, format!("{} is not a regular file", display(path))))
            .context(|| "reading the root".to_owned())
    }
}
