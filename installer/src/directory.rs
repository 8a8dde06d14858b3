//! Installing into a directory: what the verbs do then.

use std::path::PathBuf;

use lycia_installer::answers::Secrets;
use lycia_installer::answers::typed::AnswersFile;
use lycia_installer::device::{BlockDevice, Disk};
use lycia_installer::engine::{Consent, EngineError, Event};
use lycia_installer::esp::is_elsewhere;
use lycia_installer::found::look;
use lycia_installer::medium::Medium;
use lycia_installer::mounted::{self, Ground, Prepared};
use lycia_installer::probe::Machine;
use lycia_installer::select::select;

use crate::cli::WhatArgs;
use crate::verbs::{Failure, Reporter, ask, begin_log, end_log, print_text, scratch};

/// Whether the answers name a directory.
pub fn asked(file: &AnswersFile) -> bool {
    file.disk.layout.as_deref() == Some("directory")
}

/// Makes the plan.
pub fn prepared(
    what: &WhatArgs,
    machine: &Machine,
    (file, path): &(AnswersFile, PathBuf),
) -> Result<Prepared, Failure> {
    let answers = file
        .resolve(Secrets::Read)
        .map_err(|problems| Failure::Problems {
            file: path.clone(),
            problems,
        })?;
    let medium = Medium::open(&what.medium).map_err(EngineError::Medium)?;
    let place = what.views.proc.join("self/mountinfo");
    let mountinfo = std::fs::read_to_string(&place).map_err(|source| Failure::File {
        doing: "reading",
        path: place,
        source,
    })?;
    let mut ground = Ground::look(&answers, &mountinfo, &mounted::identify, &|device| {
        mounted::stacked(&what.views.sysfs, device)
    })?;
    if let Some(selector) = &answers.bios_disk {
        let disk = select(machine, selector)?;
        let node = what.views.dev.join(&disk.name);
        let (mut device, found) = Disk::open_read(&node, disk.logical_sector)
            .and_then(|mut device| look(&mut device).map(|found| (device, found)))
            .map_err(|source| Failure::File {
                doing: "reading",
                path: node,
                source,
            })?;
        ground.bios = Some(mounted::bios_disk(disk, &found, &mut device)?);
    }
    let command_line = std::fs::read_to_string(what.views.proc.join("cmdline")).unwrap_or_default();
    let mut prepared = mounted::prepare(&medium, machine, &answers, &command_line, ground, &|uuid| {
        is_elsewhere(machine, &what.views.dev, None, uuid)
    })?;
    prepared.try_out(scratch(what)?.path(), &mut |_| ())?;
    Ok(prepared)
}

/// Shows the plan, asks, installs.
pub fn install(
    what: &WhatArgs,
    machine: &Machine,
    answers: &(AnswersFile, PathBuf),
    confirm: Option<String>,
    dry_run: bool,
) -> Result<(), Failure> {
    let prepared = prepared(what, machine, answers)?;
    print_text(&prepared.text())?;
    if dry_run {
        return Ok(());
    }
    let directory = prepared.ground.directory.display().to_string();
    let unattended = confirm.is_some() || answers.0.confirm.plan.is_some();
    let consent = Consent {
        hash: confirm,
        typed: if unattended { None } else { ask(&directory)? },
    };
    prepared.confirm(&consent)?;
    let mut reporter = Reporter::new();
    let result = carry_out(what, machine, &prepared, &answers.0, &mut |event| {
        reporter.event(event)
    });
    reporter.end();
    for warning in result? {
        eprintln!("warning: {warning}");
    }
    eprintln!("installed into {directory}");
    Ok(())
}

/// Carries a confirmed plan out. Gives warnings.
pub fn carry_out(
    what: &WhatArgs,
    machine: &Machine,
    prepared: &Prepared,
    file: &AnswersFile,
    events: &mut dyn FnMut(Event),
) -> Result<Vec<String>, Failure> {
    let mut disk = match &prepared.ground.bios {
        Some(bios) => {
            let found = select(machine, &bios.path)?;
            let node = what.views.dev.join(&found.name);
            let opened = Disk::open_beside(&node, bios.sector).map_err(|source| Failure::File {
                doing: "opening for writing",
                path: node,
                source,
            })?;
            Some(opened)
        }
        None => None,
    };
    let scratch = scratch(what)?;
    let device = disk.as_mut().map(|disk| disk as &mut dyn BlockDevice);
    let mut log = begin_log(what);
    log.line(&format!(
        "plan {} for {}",
        prepared.hash(),
        prepared.ground.directory.display()
    ));
    let mut heard = |event: Event| {
        log.event(event.clone());
        events(event);
    };
    let result = prepared.execute(file, device, scratch.path(), &mut heard);
    Ok(end_log(log, result)?)
}
