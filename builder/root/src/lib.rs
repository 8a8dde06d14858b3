//! What a root needs beyond its packages' files, computed over the tree.
//!
//! Distributions of this family run triggers after packages are installed: programs of the target that
//! make users, directories, bundles and indexes. Each that matters is implemented here natively, so that a root
//! of any architecture can be finished on any host. A trigger without an implementation is deferred to the
//! first boot and reported, or refused; it is never silently dropped.
//!
//! This crate never touches the host's file system, reads no clock and runs no program.

mod accounts;
pub mod assembly;
mod busybox;
pub mod certificates;
pub mod depmod;
pub mod first_boot;
mod glob;
pub mod hwdb;
pub mod kernels;
pub mod mandoc;
pub mod services;
mod shadow;
mod shells;
pub mod specifier;
pub mod sysusers;
mod text;
pub mod tmpfiles;

use lycia_tree::{Content, Follow, Metadata, Timestamp, Tree, TreeError};
use thiserror::Error;

/// How triggers are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// The time of everything that is made.
    pub time: Timestamp,
    /// A trigger that has no native implementation is an error.
    pub strict: bool,
}

/// A package that wants to hear of changed directories.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listener {
    /// The package.
    pub package: String,
    /// Its globs of directories.
    pub globs: Vec<String>,
}

/// A trigger that was not run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deferred {
    /// The package.
    pub package: String,
    /// Why, and what of it.
    pub reason: String,
}

/// What the triggers did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Names of native triggers in the order in which they ran.
    pub ran: Vec<String>,
    /// Packages whose triggers were not run.
    pub deferred: Vec<Deferred>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// Canonical paths that were made or changed, with the trigger that did it.
    pub written: Vec<(Vec<u8>, String)>,
}

/// Why a root could not be finished.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RootError {
    /// The tree refuses.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A configuration file of the root is wrong.
    #[error("{file}, line {line}: {what}")]
    Line {
        /// Path in the root.
        file: String,
        /// Counted from 1.
        line: usize,
        /// What is wrong.
        what: String,
    },
    /// A file of the root is not what it should be.
    #[error("{file}: {what}")]
    File {
        /// Path in the root.
        file: String,
        /// What is wrong.
        what: String,
    },
    /// A service of the root cannot be used.
    #[error("{0}")]
    Service(String),
    /// There are no ids left.
    #[error("no free system id is left for {0}")]
    NoId(String),
    /// Triggers without native implementation, where that is refused.
    #[error("no native implementation of the triggers of: {}", .0.join(", "))]
    NotNative(Vec<String>),
    /// What is asked for and left to the running system, where that is refused.
    #[error("left to the running system, which --strict refuses: {}", .0.join("; "))]
    Left(Vec<String>),
    /// A name that means nothing in this root.
    #[error("there is no {what} `{name}` in the root{}", near.as_ref().map(|near| format!(": did you mean `{near}`?")).unwrap_or_default())]
    Unknown {
        /// `service`, `module` or `kernel`.
        what: &'static str,
        /// The name.
        name: String,
        /// The nearest that there is.
        near: Option<String>,
    },
}

/// Packages whose triggers the native implementations below stand for.
const NATIVE: &[&str] = &[
    "base-files",
    "base-kernel",
    "base-shells",
    "ca-certificates",
    "dinit-chimera",
    "kmod",
    mandoc::PACKAGE,
    "sd-tools",
    "shadow",
    "udev",
];

/// Packages whose triggers change nothing in an image: they talk to running daemons.
const NOTHING_TO_DO: &[&str] = &["dbus", "dinit-dbus", "elogind", "polkit"];

/// Whether what a package's trigger does is done here.
fn is_native(tree: &Tree, package: &str) -> bool {
    NATIVE.contains(&package)
        || NOTHING_TO_DO.contains(&package)
        || package == "busybox" && busybox::is_known(tree)
}

/// Runs every native trigger that this root has a use for, whoever asked for it, in the order in which they
/// build on each other.
///
/// # Errors
/// When a configuration file of the root is wrong, or, under [`Options::strict`], a listener has no native
/// implementation or something of it is left to the running system.
pub fn run_triggers(tree: &mut Tree, listeners: &[Listener], options: &Options) -> Result<Report, RootError> {
    let mut report = Report::default();
    for listener in listeners {
        let name = listener.package.as_str();
        if !is_native(tree, name) {
            report.deferred.push(Deferred {
                package: name.to_owned(),
                reason: format!(
                    "it has no native implementation (listens to {})",
                    listener.globs.join(" ")
                ),
            });
        }
    }
    let mut hooks = Vec::new();
    if listeners.iter().any(|listener| listener.package == "base-kernel") {
        hooks = kernels::unknown_hooks(tree);
    }
    if options.strict && !(report.deferred.is_empty() && hooks.is_empty()) {
        let packages = report.deferred.into_iter().map(|one| one.package);
        let hooks = hooks.iter().map(|hook| format!("base-kernel ({hook})"));
        return Err(RootError::NotNative(packages.chain(hooks).collect()));
    }
    for hook in hooks {
        report.warnings.push(format!(
            "{hook} was not run for the kernels; `/usr/lib/base-kernel/run-kernel-d` runs it in the system"
        ));
    }
    let time = options.time;
    let mut record = |name: &str, written: Vec<Vec<u8>>| {
        if !written.is_empty() {
            report.ran.push(name.to_owned());
        }
        report
            .written
            .extend(written.into_iter().map(|path| (path, name.to_owned())));
    };
    let users = sysusers::run_recorded(tree, time)?;
    record("sysusers", users.written);
    let left_out = match listeners.iter().any(|listener| listener.package == "sd-tools") {
        true => tmpfiles::LEFT_TO_STARTS,
        false => &[],
    };
    let made = tmpfiles::run_without(tree, time, left_out)?;
    if options.strict && !made.left.is_empty() {
        return Err(RootError::Left(made.left));
    }
    record("tmpfiles", made.written);
    record("shells", shells::run(tree, time)?);
    record("shadow", shadow::run(tree, time)?);
    let bundle = certificates::run(tree, time)?;
    record("ca-certificates", bundle.written);
    let hardware = hwdb::run(tree, time)?;
    record("hwdb", hardware.written);
    record("base-kernel", kernels::run(tree, time)?);
    record("busybox", busybox::run(tree, time)?);
    for version in depmod::kernels(tree)? {
        record("depmod", depmod::run(tree, &version, time)?);
    }
    if listeners
        .iter()
        .any(|listener| listener.package == "dinit-chimera")
    {
        // Touched by Chimera's trigger: the oldest time that a machine without clock believes.
        let path = b"var/lib/swclock/timestamp";
        tree.write(path, Metadata::new(0o644, time), Content::empty())?;
        record("swclock", vec![tree.canonical(path, Follow::All)?]);
    }
    if listeners
        .iter()
        .any(|listener| listener.package == mandoc::PACKAGE)
    {
        let manual = mandoc::run(tree, time)?;
        record("mandoc", manual.written);
        report.warnings.extend(manual.warnings);
    }
    report.warnings.extend(users.warnings);
    report.warnings.extend(made.warnings);
    report.warnings.extend(bundle.warnings);
    report.warnings.extend(hardware.warnings);
    Ok(report)
}

/// What a step made.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Step {
    /// Canonical paths that were made or changed.
    pub written: Vec<Vec<u8>>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// Those of the warnings that say what was asked for and is left to the running system.
    pub left: Vec<String>,
}

/// Replaces the content of a file if it differs, and says whether it did.
fn replace(
    tree: &mut Tree,
    path: &[u8],
    mode: u16,
    content: Vec<u8>,
    time: Timestamp,
    written: &mut Vec<Vec<u8>>,
) -> Result<(), RootError> {
    if tree.find(path, Follow::All)?.is_some() && tree.read(path)? == content {
        return Ok(());
    }
    let id = tree.update(path, Metadata::new(mode, time), content.into())?;
    tree.metadata_mut(id).mtime = time;
    written.push(tree.canonical(path, Follow::All)?);
    Ok(())
}
