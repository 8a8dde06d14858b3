//! The root: packages, users, triggers, overlays and services put together in a tree.

use std::collections::BTreeMap;

use lycia_apk::database::{self, Database};
use lycia_apk::install::{Installation, Names, ScriptCall, Unpacked};
use lycia_root::Listener;
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
    /// The builder itself.
    Builder,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::Package(name) => write!(f, "package {name}"),
            Origin::Trigger(name) => write!(f, "trigger {name}"),
            Origin::Overlay(name) => write!(f, "overlay {name}"),
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
    /// Where its files are from, by canonical path. Directories have no entry.
    pub origins: BTreeMap<Vec<u8>, Origin>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// The time of everything that no package dates.
    pub time: Timestamp,
    /// The root with packages that only the initramfs takes files from.
    pub beside: Option<Tree>,
}

/// Puts the root of `image` together.
///
/// # Errors
/// When packages clash, an owner is unknown, a trigger fails, or a service does not exist.
pub fn assemble(
    image: &Image,
    repositories: &[OpenRepository],
    unpacked: Vec<Unpacked>,
    epoch: u64,
    strict: bool,
) -> Result<Root> {
    let time = Timestamp::from_seconds(i64::try_from(epoch).unwrap_or(i64::MAX));
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let mut installation = Installation::new(&mut tree, time);
    for package in unpacked {
        installation
            .add(package)
            .explain(Kind::Target, || "assembling the root".to_owned())?;
    }
    // Owners are names; users that packages ask for exist once sysusers has run.
    let users = lycia_root::sysusers::run(installation.tree(), time)
        .explain(Kind::Target, || "making the system users".to_owned())?;
    let text = |tree: &Tree, path: &[u8]| tree.read(path).map(<[u8]>::to_vec).unwrap_or_default();
    let names = Names::parse(
        &text(installation.tree(), b"etc/passwd"),
        &text(installation.tree(), b"etc/group"),
    );
    let installed = installation.finish(&names);
    if let Some(unknown) = installed.unknown_owners.first() {
        return Err(Error::new(Kind::Target, unknown).context("assembling the root"));
    }
    let mut warnings = users;
    for script in &installed.scripts {
        warnings.push(format!(
            "{} has a {} script, which was not run",
            script.package,
            script.kind.name()
        ));
    }
    if strict && !installed.scripts.is_empty() {
        return Err(
            Error::new(Kind::Target, warnings.join("\n  ")).context("assembling the root under --strict")
        );
    }
    let mut origins: BTreeMap<Vec<u8>, Origin> = BTreeMap::new();
    for (path, package) in installed.attribution {
        origins.insert(path, Origin::Package(package));
    }

    let packages = &installed.database.packages;
    let package = |name: &str| packages.iter().find(|package| package.info.name == name);
    let listeners: Vec<Listener> = installed
        .triggers
        .iter()
        .filter_map(|call| package(&call.package))
        .map(|package| Listener {
            package: package.info.name.clone(),
            globs: package.triggers.clone(),
        })
        .collect();
    let options = lycia_root::Options { time, strict };
    let report = lycia_root::run_triggers(&mut tree, &listeners, &options)
        .explain(Kind::Target, || "running the triggers".to_owned())?;
    warnings.extend(report.warnings);
    for (path, trigger) in report.written {
        origins.insert(path, Origin::Trigger(trigger));
    }

    write_database(&mut tree, &installed.database, image, repositories, time)?;

    for folder in &image.overlays {
        let name = folder
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let entries = overlay::read(folder)?;
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
    let deferred = deferred_triggers(&installed.database, &installed.triggers, &report.deferred);
    let left = lycia_root::first_boot::install(&mut tree, &deferred, time)
        .explain(Kind::Target, || "leaving triggers to the first boot".to_owned())?;
    let when = match left {
        Some(paths) => {
            for path in paths {
                origins.insert(path, Origin::Trigger("first-boot".to_owned()));
            }
            "runs at the first boot"
        }
        None => "was not run, and there is no dinit that would run it at the first boot",
    };
    for one in &report.deferred {
        warnings.push(format!("the trigger of {} {when}: {}", one.package, one.reason));
    }
    let mut faults = Vec::new();
    for finding in lycia_root::services::check(&tree).findings {
        let line = format!("service check: {}: {}", finding.service, finding.message);
        if finding.severity == lycia_root::services::Severity::Error {
            faults.push(line)
        } else {
            warnings.push(line)
        }
    }
    if !faults.is_empty() {
        return Err(
            Error::new(Kind::Target, faults.join("\n  ")).context("checking the services of the root")
        );
    }
    tree.clamp_times(time);

    // What is there and was named by nobody came from the builder; what went is forgotten.
    let mut whole = BTreeMap::new();
    for entry in tree.walk().filter(|entry| !entry.inode.is_directory()) {
        let origin = origins.remove(&entry.path).unwrap_or(Origin::Builder);
        whole.insert(entry.path, origin);
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

/// The calls of triggers of the packages named, with what they would run.
fn deferred_triggers(
    database: &Database,
    calls: &[ScriptCall],
    named: &[lycia_root::Deferred],
) -> Vec<lycia_root::first_boot::Trigger> {
    let wanted = |call: &&ScriptCall| named.iter().any(|one| one.package == call.package);
    let trigger = |call: &ScriptCall| {
        let (package, script) = call.script(database)?;
        Some(lycia_root::first_boot::Trigger {
            package: call.package.clone(),
            version: package.info.version.clone(),
            script: script.to_vec(),
            directories: call.arguments.clone(),
        })
    };
    calls.iter().filter(wanted).filter_map(trigger).collect()
}

/// Writes what apk in the target carries on with.
fn write_database(
    tree: &mut Tree,
    database: &Database,
    image: &Image,
    repositories: &[OpenRepository],
    time: Timestamp,
) -> Result<()> {
    let doing = || "writing the installed database".to_owned();
    database
        .store(tree, &choice::world(image)?, time, true)
        .explain(Kind::Target, doing)?;
    let mut files: Vec<(String, u16, Vec<u8>)> = vec![
        (format!("{}/lock", database::DIRECTORY), 0o600, Vec::new()),
        (
            database::ARCH.to_owned(),
            0o644,
            format!("{}\n", image.arch).into_bytes(),
        ),
    ];
    for repository in repositories {
        for (name, pem) in &repository.key_files {
            // A key that a package brings is the package's.
            let packaged = format!("lib/apk/keys/{name}");
            let there = tree
                .find(packaged.as_bytes(), Follow::All)
                .explain(Kind::Target, || packaged.clone())?;
            if there.is_none() {
                files.push((format!("etc/apk/keys/{name}"), 0o644, pem.clone()));
            }
        }
    }
    for (path, mode, bytes) in files {
        tree.write(path.as_bytes(), Metadata::new(mode, time), Content::from(bytes))
            .explain(Kind::Target, doing)?;
    }
    Ok(())
}

impl Root {
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
