//! A root put together from packages: one order of steps, for images and for installed systems.
//!
//! [`install`] puts the packages into a tree with their users, owners and triggers, [`Installed::record`] writes what
//! apk in the target carries on with, and [`Installed::finish`] leaves the remaining triggers to the first
//! boot and checks the services. Between the last two the caller lays down what is its own:
//! overlays, answers, services to enable.

use std::collections::BTreeMap;

use lycia_apk::database::{self, Database, StoreError};
use lycia_apk::install::{InstallError, Installation, Names, ScriptCall, Unpacked};
use lycia_apk::metadata::Dependency;
use lycia_tree::{Content, Follow, Metadata, Timestamp, Tree, TreeError};
use thiserror::Error;

use crate::{Deferred, Listener, Options, RootError, first_boot, services, sysusers};

/// Why packages do not become a root.
#[derive(Debug, Error)]
pub enum AssemblyError {
    /// Packages clash, or an owner is unknown.
    #[error(transparent)]
    Packages(#[from] InstallError),
    /// The users that packages ask for cannot be made.
    #[error("making the system users: {0}")]
    Users(RootError),
    /// Scripts of packages that were not run, under [`Options::strict`].
    #[error("--strict: {}", .0.join("\n  "))]
    Scripts(Vec<String>),
    /// A trigger failed.
    #[error("running the triggers: {0}")]
    Triggers(RootError),
    /// The installed database cannot be written.
    #[error("writing the installed database: {0}")]
    Database(#[from] StoreError),
    /// A file beside the database cannot be written.
    #[error("writing the installed database: {0}")]
    Tree(#[from] TreeError),
    /// Triggers cannot be left to the first boot.
    #[error("leaving triggers to the first boot: {0}")]
    FirstBoot(RootError),
    /// Services that could not start.
    #[error("checking the services of the root: {}", .0.join("\n  "))]
    Services(Vec<String>),
}

/// Packages in a tree, and what is still to be done.
#[derive(Clone, Debug)]
pub struct Installed {
    /// What is installed.
    pub database: Database,
    /// Which package has each file, by canonical path.
    pub attribution: BTreeMap<Vec<u8>, String>,
    /// Canonical paths that native triggers made or changed, with the trigger.
    pub triggered: Vec<(Vec<u8>, String)>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// Triggers without a native implementation.
    deferred: Vec<Deferred>,
    calls: Vec<ScriptCall>,
    time: Timestamp,
}

/// What apk in the target carries on with, beside the database.
#[derive(Clone, Copy, Debug)]
pub struct Records<'a> {
    /// The wanted packages.
    pub world: &'a [Dependency],
    /// The architecture.
    pub arch: &'a str,
    /// Public keys: file name and PEM text. One that a package brings under the same name is not written again.
    pub keys: &'a [(String, Vec<u8>)],
    /// Lines of `etc/apk/repositories`; without any the file is left to packages.
    pub repositories: &'a [String],
}

/// Installs packages into a tree that may have files already, makes their users, resolves owners by name and runs
/// the native triggers.
///
/// # Errors
/// When packages clash, an owner is unknown, a trigger fails, or under [`Options::strict`] something could not be run.
pub fn install(
    tree: &mut Tree,
    unpacked: Vec<Unpacked>,
    options: &Options,
) -> Result<Installed, AssemblyError> {
    let time = options.time;
    let mut installation = Installation::new(tree, time);
    for package in unpacked {
        installation.add(package)?;
    }
    // Owners are names; users that packages ask for exist once sysusers has run.
    let mut warnings = sysusers::run(installation.tree(), time).map_err(AssemblyError::Users)?;
    let text = |tree: &Tree, path: &[u8]| tree.read(path).map(<[u8]>::to_vec).unwrap_or_default();
    let names = Names::parse(
        &text(installation.tree(), b"etc/passwd"),
        &text(installation.tree(), b"etc/group"),
    );
    let mut installed = installation.finish(&names);
    if !installed.unknown_owners.is_empty() {
        return Err(installed.unknown_owners.swap_remove(0).into());
    }
    for script in &installed.scripts {
        warnings.push(format!(
            "{} has a {} script, which was not run",
            script.package,
            script.kind.name()
        ));
    }
    if options.strict && !installed.scripts.is_empty() {
        return Err(AssemblyError::Scripts(warnings));
    }
    let database = installed.database;
    // Globs without a script call for nothing.
    let listeners: Vec<Listener> = installed
        .triggers
        .iter()
        .filter_map(|call| call.script(&database))
        .map(|(package, _)| Listener {
            package: package.info.name.clone(),
            globs: package.triggers.clone(),
        })
        .collect();
    let report = crate::run_triggers(tree, &listeners, options).map_err(AssemblyError::Triggers)?;
    warnings.extend(report.warnings);
    Ok(Installed {
        database,
        attribution: installed.attribution,
        triggered: report.written,
        warnings,
        deferred: report.deferred,
        calls: installed.triggers,
        time,
    })
}

impl Installed {
    /// Writes the database and what lies beside it.
    ///
    /// # Errors
    /// When a record cannot be written.
    pub fn record(&self, tree: &mut Tree, records: &Records<'_>) -> Result<(), AssemblyError> {
        self.database.store(tree, records.world, self.time, true)?;
        let mut files: Vec<(String, u16, Vec<u8>)> = vec![
            (format!("{}/lock", database::DIRECTORY), 0o600, Vec::new()),
            (
                database::ARCH.to_owned(),
                0o644,
                format!("{}\n", records.arch).into_bytes(),
            ),
        ];
        if !records.repositories.is_empty() {
            files.push((
                "etc/apk/repositories".to_owned(),
                0o644,
                format!("{}\n", records.repositories.join("\n")).into_bytes(),
            ));
        }
        for (name, pem) in records.keys {
            // A key that a package brings is the package's.
            let packaged = format!("lib/apk/keys/{name}");
            if tree.find(packaged.as_bytes(), Follow::All)?.is_none() {
                files.push((format!("etc/apk/keys/{name}"), 0o644, pem.clone()));
            }
        }
        for (path, mode, bytes) in files {
            tree.write(
                path.as_bytes(),
                Metadata::new(mode, self.time),
                Content::from(bytes),
            )?;
        }
        Ok(())
    }

    /// Leaves triggers without a native implementation to the first boot, which is said in the warnings, checks the
    /// services, and gives the canonical paths that were made. Services are enabled by then: the one of the first boot
    /// is tied into what is there.
    ///
    /// # Errors
    /// When a trigger cannot be written down, or a service could not start.
    pub fn finish(&mut self, tree: &mut Tree) -> Result<Vec<Vec<u8>>, AssemblyError> {
        let wanted = |call: &&ScriptCall| self.deferred.iter().any(|one| one.package == call.package);
        let trigger = |call: &ScriptCall| {
            let (package, script) = call.script(&self.database)?;
            Some(first_boot::Trigger {
                package: call.package.clone(),
                version: package.info.version.clone(),
                script: script.to_vec(),
                directories: call.arguments.clone(),
            })
        };
        let left: Vec<_> = self.calls.iter().filter(wanted).filter_map(trigger).collect();
        let made = first_boot::install(tree, &left, self.time).map_err(AssemblyError::FirstBoot)?;
        let when = match made {
            Some(_) => "runs at the first boot",
            None => "was not run, and there is no dinit that would run it at the first boot",
        };
        for one in &self.deferred {
            self.warnings
                .push(format!("the trigger of {} {when}: {}", one.package, one.reason));
        }
        let mut faults = Vec::new();
        for finding in services::check(tree).findings {
            let line = format!("service check: {}: {}", finding.service, finding.message);
            if finding.severity == services::Severity::Error {
                faults.push(line);
            } else {
                self.warnings.push(line);
            }
        }
        if !faults.is_empty() {
            return Err(AssemblyError::Services(faults));
        }
        Ok(made.unwrap_or_default())
    }
}
