//! What the verbs of the command line do.

use std::collections::BTreeSet;
use std::io::{IsTerminal as _, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lycia_installer::allocator::{self, AllocatorError};
use lycia_installer::answers::typed::{AnswersFile, SCHEMA};
use lycia_installer::answers::{FILE_MAX, Problems, Secrets};
use lycia_installer::apply::{self, ApplyError};
use lycia_installer::contents;
use lycia_installer::device::{Disk, Reading};
use lycia_installer::engine::{self, Consent, EngineError, Event};
use lycia_installer::esp::is_elsewhere;
use lycia_installer::journal::{Journal, State};
use lycia_installer::log::Log;
use lycia_installer::medium::{Medium, MediumError};
use lycia_installer::obtain::{ObtainError, Origin};
use lycia_installer::plan::PlanError;
use lycia_installer::probe::{self, Machine, ProbeError, Views, probe};
use lycia_installer::rescue::{self, Kernel};
use lycia_installer::select::{SelectError, select};
use lycia_installer::show;
use lycia_installer::stop::Stoppable;
use lycia_installer::switch::SwitchError;
use lycia_installer::toml_file::TomlError;
use lycia_installer::tools::Running;
use lycia_installer::ui::Progress;

use lycia_media::partition::gpt;

use crate::cli::{Cli, Verb, ViewArgs, WhatArgs};
use crate::unlock;

/// Why a verb failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Obtain(#[from] ObtainError),
    #[error(transparent)]
    BootRepair(#[from] lycia_installer::boot_repair::RepairError),
    #[error(transparent)]
    Answers(#[from] TomlError),
    #[error("{}:\n{problems}", file.display())]
    Problems { file: PathBuf, problems: Problems },
    #[error(transparent)]
    Allocator(#[from] AllocatorError),
    #[error(transparent)]
    Switch(#[from] SwitchError),
    #[error("{doing} {}: {source}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    #[error(transparent)]
    Rescue(#[from] rescue::RescueError),
    #[error(transparent)]
    Secret(#[from] lycia_installer::secret::SecretError),
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("writing the output: {0}")]
    Output(#[from] std::io::Error),
    #[error("{0}")]
    Refused(String),
}

impl Failure {
    /// The exit code.
    pub fn code(&self) -> u8 {
        match self {
            Self::Select(_) | Self::Engine(EngineError::Select(_)) => 3,
            Self::Engine(EngineError::Plan(PlanError::Wrong { .. })) => 1,
            Self::Engine(EngineError::Plan(_)) => 4,
            Self::Engine(EngineError::Source(_) | EngineError::System(_)) => 6,
            Self::Engine(EngineError::NotConfirmed(_)) | Self::Refused(_) => 7,
            Self::Engine(EngineError::OtherPlan { .. }) => 8,
            Self::Engine(EngineError::Apply(error)) => match error {
                ApplyError::Changed(_) => 4,
                _ => 8,
            },
            Self::Answers(_) | Self::Problems { .. } | Self::Obtain(_) | Self::Secret(_) => 2,
            Self::Rescue(rescue::RescueError::Passphrase | rescue::RescueError::Locked(_)) => 2,
            Self::BootRepair(_) => 1,
            Self::Engine(
                EngineError::Unsupported(_)
                | EngineError::Medium(
                    MediumError::Unknown { .. }
                    | MediumError::KernelLacks { .. }
                    | MediumError::OtherAllocator { .. },
                ),
            ) => 2,
            Self::Engine(_)
            | Self::Probe(_)
            | Self::Allocator(_)
            | Self::Json(_)
            | Self::Output(_)
            | Self::File { .. } => 1,
            Self::Switch(_) => 6,
            Self::Rescue(
                rescue::RescueError::Count { .. }
                | rescue::RescueError::Unread(_)
                | rescue::RescueError::Several { .. },
            ) => 3,
            Self::Rescue(_) => 1,
        }
    }
}

pub(crate) fn views(args: &ViewArgs) -> Views {
    Views {
        sysfs: args.sysfs.clone(),
        proc: args.proc.clone(),
        dev: args.dev.clone(),
    }
}

pub(crate) fn read_answers(path: &Path) -> Result<AnswersFile, Failure> {
    let failed = |source| Failure::File {
        doing: "reading",
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_MAX + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(failed(std::io::Error::other(format!(
            "answers have at most {FILE_MAX} bytes"
        ))));
    }
    Ok(AnswersFile::parse(&text, &path.display().to_string())?)
}

fn check(path: &Path) -> Result<String, Failure> {
    let file = read_answers(path)?;
    file.resolve(Secrets::Look)
        .map_err(|problems| Failure::Problems {
            file: path.to_owned(),
            problems,
        })?;
    Ok(format!(
        "{}: no problem found. What only the machine and the medium know is checked by `plan`; packages of a network, when they are fetched, before anything is written.\n",
        path.display()
    ))
}

/// The disk behind the machine's description.
fn node(disk: &probe::Disk, views: &ViewArgs) -> PathBuf {
    views.dev.join(&disk.name)
}

fn open_read(disk: &probe::Disk, views: &ViewArgs) -> Result<Disk, Failure> {
    let path = node(disk, views);
    Disk::open_read(&path, disk.logical_sector).map_err(|source| Failure::File {
        doing: "opening",
        path,
        source,
    })
}

fn open_write(disk: &probe::Disk, views: &ViewArgs) -> Result<Disk, Failure> {
    let path = node(disk, views);
    Disk::open_write(&path, disk.logical_sector).map_err(|source| Failure::File {
        doing: "opening for writing",
        path,
        source,
    })
}

/// The answers of a run: of the place that was named, or those that `--disk` stands for.
pub(crate) fn answers_of(what: &WhatArgs, machine: &Machine) -> Result<(AnswersFile, PathBuf), Failure> {
    match (&what.answers, &what.disk) {
        (Some(place), _) => {
            let command_line = std::fs::read_to_string(what.views.proc.join("cmdline")).unwrap_or_default();
            let (text, name) = Origin::parse(place)?.read(machine, &what.views.dev, &command_line)?;
            Ok((AnswersFile::parse(&text, &name)?, PathBuf::from(name)))
        }
        (None, disk) => {
            let mut file = AnswersFile {
                schema: SCHEMA,
                ..AnswersFile::default()
            };
            file.disk.select = disk.clone();
            file.disk.layout = Some("erase".to_owned());
            Ok((file, PathBuf::from("--disk")))
        }
    }
}

/// The answers of an interrupted run, from the journal on the disk. Passwords are not in it and are asked for.
fn answers_of_journal(
    selector: &str,
    machine: &Machine,
    views: &ViewArgs,
) -> Result<(AnswersFile, PathBuf), Failure> {
    let disk = select(machine, selector)?;
    let Some(journal) = engine::interrupted(&mut open_read(disk, views)?)? else {
        return Err(Failure::Refused(NOTHING_INTERRUPTED.to_owned()));
    };
    let name = format!("the journal on {}", disk.path);
    let notes = journal.notes();
    let mut file = AnswersFile::parse(&notes.answers, &name)?;
    // The journal was found there; its own selector may find another disk after another start.
    file.disk.select = Some(disk.path.clone());
    for login in &notes.passwords {
        let Some(hash) = crate::ask::password(login)? else {
            return Err(Failure::Refused(format!(
                "{name} keeps no passwords, and nobody is here to type that of {login}: give `--answers`. Nothing was written"
            )));
        };
        let hash = Some(hash.field().to_owned());
        if login == "root" {
            file.root.password_hash = hash;
        } else if let Some(user) = file.user.iter_mut().find(|user| user.name == *login) {
            user.password_hash = hash;
        }
    }
    Ok((file, PathBuf::from(name)))
}

const NOTHING_INTERRUPTED: &str = "no interrupted installation was found on this disk (one does not count any more once the disk was partitioned anew); `install` begins one";

fn plan(what: &WhatArgs, json: bool) -> Result<String, Failure> {
    let machine = probe(&views(&what.views))?;
    if what.answers.is_none() {
        // Only the disk: what erasing it would mean, before anything else is decided.
        let disk = select(&machine, what.disk.as_deref().unwrap_or_default())?;
        if !disk.offered() {
            return Err(EngineError::Plan(PlanError::Refused {
                path: disk.path.clone(),
                why: disk.refused.clone(),
            })
            .into());
        }
        let mut device = open_read(disk, &what.views)?;
        let plan = engine::erase_only(disk, &mut device)?;
        return Ok(if json { plan.json()? + "\n" } else { plan.text() });
    }
    let answers = answers_of(what, &machine)?;
    if crate::directory::asked(&answers.0) {
        let prepared = crate::directory::prepared(what, &machine, &answers)?;
        return Ok(if json {
            prepared.json()? + "\n"
        } else {
            prepared.text()
        });
    }
    let prepared = prepared(what, &machine, &answers, Secrets::Read, None)?;
    Ok(if json {
        prepared.plan.json()? + "\n"
    } else {
        prepared.plan.text()
    })
}

pub(crate) fn prepared(
    what: &WhatArgs,
    machine: &Machine,
    (file, path): &(AnswersFile, PathBuf),
    secrets: Secrets,
    journal: Option<&Journal>,
) -> Result<engine::Prepared, Failure> {
    let answers = file.resolve(secrets).map_err(|problems| Failure::Problems {
        file: path.clone(),
        problems,
    })?;
    let medium = Medium::open(&what.medium).map_err(EngineError::Medium)?;
    let disk = select(machine, answers.disk.select.as_deref().unwrap_or_default())?;
    let mut device = open_read(disk, &what.views)?;
    let command_line = std::fs::read_to_string(what.views.proc.join("cmdline")).unwrap_or_default();
    let elsewhere = |uuid: &str| is_elsewhere(machine, &what.views.dev, Some(&disk.name), uuid);
    let mut prepared = engine::prepare(
        &medium,
        machine,
        &answers,
        &command_line,
        &mut device,
        journal,
        &elsewhere,
    )?;
    prepared.check_tools(&Running::default())?;
    prepared.try_out(scratch(what)?.path(), &mut |_| ())?;
    Ok(prepared)
}

/// A folder for unpacked packages. It may go as soon as they are unpacked: what is in use stays until it is not.
pub(crate) fn scratch(what: &WhatArgs) -> Result<tempfile::TempDir, Failure> {
    tempfile::Builder::new()
        .prefix("lycia-install-")
        .tempdir_in(&what.scratch)
        .map_err(|source| Failure::File {
            doing: "making a folder in",
            path: what.scratch.clone(),
            source,
        })
}

/// Says on standard error how things go: a line a stage where nobody watches, else a line that is drawn again.
pub(crate) struct Reporter {
    terminal: bool,
    progress: Progress,
    drawn: Instant,
}

impl Reporter {
    pub(crate) fn new() -> Reporter {
        Reporter {
            terminal: std::io::stderr().is_terminal(),
            progress: Progress::default(),
            drawn: Instant::now(),
        }
    }

    pub(crate) fn event(&mut self, event: Event) {
        let fresh = self.progress.event(event);
        let progress = &self.progress;
        if !self.terminal {
            if fresh {
                if let Some((stage, took)) = progress.over.last() {
                    eprintln!("{stage}: {:.1} s", took.as_secs_f32());
                }
                eprintln!("{} …", progress.stage);
            }
            return;
        }
        if fresh && !progress.over.is_empty() {
            eprintln!();
        }
        if !fresh && self.drawn.elapsed() < Duration::from_millis(200) {
            return;
        }
        self.drawn = Instant::now();
        let percent = progress
            .ratio()
            .map(|ratio| format!(" {:>3} %", (ratio * 100.0) as u64))
            .unwrap_or_default();
        let left = progress
            .left()
            .map(|left| format!(", {left} s left"))
            .unwrap_or_default();
        let line: String = format!("{}{percent}{left} {}", progress.stage, progress.words)
            .chars()
            .take(79)
            .collect();
        eprint!("\r{line:<79}");
    }

    pub(crate) fn end(&mut self) {
        if self.terminal && !self.progress.stage.is_empty() {
            eprintln!();
        }
    }
}

/// Asks for the disk's short name on a terminal; none where nobody is there.
pub(crate) fn ask(name: &str) -> Result<Option<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        return Ok(None);
    }
    eprint!("Type `{name}` to write this plan to the disk, anything else to stop: ");
    let line = crate::line::read(false)?.unwrap_or_default();
    Ok(Some(line.trim().to_owned()))
}

pub(crate) fn install(
    what: &WhatArgs,
    confirm: Option<String>,
    dry_run: bool,
    resume: bool,
) -> Result<(), Failure> {
    let machine = probe(&views(&what.views))?;
    let answers = match (resume, &what.answers, &what.disk) {
        (true, None, Some(selector)) => answers_of_journal(selector, &machine, &what.views)?,
        _ => answers_of(what, &machine)?,
    };
    if !resume && what.answers.is_none() {
        return Err(Failure::Refused(
            "`install` needs `--answers FILE`: by a disk alone nobody could log in. `lycia-install ask` asks for everything, \
             `lycia-install plan --disk` shows what erasing would write. Nothing was written"
                .to_owned(),
        ));
    }
    let file = &answers.0;
    if crate::directory::asked(file) {
        if resume {
            return Err(Failure::Refused(
                "an installation into a directory has no journal: remove what it wrote, and `install` again"
                    .to_owned(),
            ));
        }
        return crate::directory::install(what, &machine, &answers, confirm, dry_run);
    }
    let journal = interrupted(&machine, file, &what.views)?;
    match (&journal, resume) {
        (Some(_), false) => return Err(EngineError::Apply(ApplyError::Interrupted).into()),
        (None, true) => {
            return Err(Failure::Refused(NOTHING_INTERRUPTED.to_owned()));
        }
        _ => {}
    }
    let mut prepared = prepared(what, &machine, &answers, Secrets::Read, journal.as_ref())?;
    print_text(&prepared.plan.text())?;
    if dry_run {
        return Ok(());
    }
    let unattended = confirm.is_some()
        || prepared.answers.confirm_plan.is_some()
        || prepared.answers.confirm_serial.is_some();
    let consent = Consent {
        hash: confirm,
        typed: if unattended {
            None
        } else {
            ask(prepared.plan.short_name())?
        },
    };
    prepared.confirm(&consent)?;
    if prepared.wants_passphrase() {
        let disk = select(&machine, file.disk.select.as_deref().unwrap_or_default())?;
        let old = prepared.has_volume(&mut open_read(disk, &what.views)?, journal.as_ref())?;
        if resume && !old {
            eprintln!(
                "The interrupted installation had not encrypted the root yet: this passphrase is the one that counts."
            );
        }
        if let Some(passphrase) = crate::ask::passphrase(old)? {
            prepared.set_passphrase(passphrase);
        }
    }
    let mut reporter = Reporter::new();
    let never = std::sync::atomic::AtomicBool::new(false);
    let result = carry_out(
        what,
        &machine,
        &mut prepared,
        file,
        journal,
        &never,
        &mut |event| reporter.event(event),
    );
    reporter.end();
    for warning in result? {
        eprintln!("warning: {warning}");
    }
    eprintln!("installed on {}", prepared.plan.disk().path);
    Ok(())
}

/// Carries a confirmed plan out, until `stop` is set. Gives warnings.
pub(crate) fn carry_out(
    what: &WhatArgs,
    machine: &Machine,
    prepared: &mut engine::Prepared,
    file: &AnswersFile,
    journal: Option<Journal>,
    stop: &std::sync::atomic::AtomicBool,
    events: &mut dyn FnMut(Event),
) -> Result<Vec<String>, Failure> {
    let selector = file.disk.select.as_deref().unwrap_or_default();
    // Looked at again: while somebody read the plan, a disk may have gone and another taken its name.
    let now = probe(&views(&what.views))?;
    let disk = select(&now, selector)?;
    let planned = prepared.plan.disk();
    if (&disk.serial, &disk.by_id, disk.size) != (&planned.serial, &planned.by_id, planned.size) {
        return Err(EngineError::Apply(ApplyError::Changed(format!(
            "{selector} is another disk now than when the plan was made"
        )))
        .into());
    }
    let mut device = open_write(disk, &what.views)?;
    let scratch = scratch(what)?;
    if matches!(machine.firmware, probe::Firmware::Uefi { .. }) {
        prepared.efivars = Some(what.views.sysfs.join("firmware/efi/efivars"));
        prepared.others = other_partitions(machine, disk, &what.views.dev);
    }
    let mut stoppable = Stoppable::new(&mut device, stop);
    let mut tools = Running::default();
    let mut log = begin_log(what);
    log.line(&format!(
        "plan {} for {} ({})",
        prepared.plan.hash(),
        prepared.plan.disk().path,
        prepared
            .plan
            .disk()
            .serial
            .as_deref()
            .unwrap_or("no serial number")
    ));
    if let Some(journal) = &journal {
        log.line(&format!(
            "goes on with an interrupted installation at step {}",
            journal.step()
        ));
    }
    let mut heard = |event: Event| {
        log.event(event.clone());
        events(event);
    };
    let result = prepared.execute(
        file,
        &mut stoppable,
        &mut tools,
        scratch.path(),
        journal,
        &mut heard,
    );
    let mut warnings = end_log(log, result)?;
    if let Err(error) = lycia_installer::kernel::read_table_again(device.file()) {
        warnings.push(format!(
            "the kernel has not read the new table ({error}); it will at the next start"
        ));
    }
    Ok(warnings)
}

/// The log of a run.
pub(crate) fn begin_log(what: &WhatArgs) -> Log {
    let mut log = Log::begin(&what.log, &what.medium);
    log.line(concat!("lycia-install ", env!("CARGO_PKG_VERSION")));
    log
}

/// Ends it; what it could not be written to is a warning of an installation that went well.
pub(crate) fn end_log(
    mut log: Log,
    result: Result<Vec<String>, EngineError>,
) -> Result<Vec<String>, EngineError> {
    match result {
        Ok(mut warnings) => {
            log.end(Ok(&warnings));
            warnings.append(&mut log.refused);
            Ok(warnings)
        }
        Err(error) => {
            log.end(Err(&error));
            Err(error)
        }
    }
}

/// GUIDs of the partitions of all disks but one, as far as they can be read.
pub(crate) fn other_partitions(machine: &Machine, but: &probe::Disk, dev: &Path) -> BTreeSet<[u8; 16]> {
    let mut guids = BTreeSet::new();
    for disk in machine.disks.iter().filter(|disk| disk.name != but.name) {
        let Ok(mut device) = Disk::open_read(&dev.join(&disk.name), disk.logical_sector) else {
            continue;
        };
        if let Ok((table, _)) = gpt::Table::read(&mut Reading::new(&mut device), disk.logical_sector) {
            guids.extend(table.partitions.iter().map(|one| one.guid.to_disk()));
        }
    }
    guids
}

/// The journal of an interrupted run on the disk that the answers select.
pub(crate) fn interrupted(
    machine: &Machine,
    file: &AnswersFile,
    views: &ViewArgs,
) -> Result<Option<Journal>, Failure> {
    let disk = select(machine, file.disk.select.as_deref().unwrap_or_default())?;
    Ok(engine::interrupted(&mut open_read(disk, views)?)?)
}

/// Interrupted installations on the disks that could be installed to, with the step that was not finished.
pub(crate) fn unfinished(machine: &Machine, views: &ViewArgs) -> Vec<(String, &'static str)> {
    let offered = machine.disks.iter().filter(|disk| disk.offered());
    let found = offered.filter_map(|disk| {
        // What cannot be read is no reason not to ask for anything else.
        let journal = engine::interrupted(&mut open_read(disk, views).ok()?).ok()??;
        let step = apply::Step::ALL.get(journal.step() as usize);
        Some((disk.path.clone(), step.map_or("the end", |step| step.words())))
    });
    found.collect()
}

pub(crate) fn undo(selector: &str, view: &ViewArgs, confirm: Option<&str>) -> Result<String, Failure> {
    let machine = probe(&views(view))?;
    let disk = select(&machine, selector)?;
    let journal = Journal::find(&mut open_read(disk, view)?).map_err(|source| Failure::File {
        doing: "looking for a journal on",
        path: node(disk, view),
        source,
    })?;
    let Some(journal) = journal else {
        return Ok(format!(
            "no installation that could be undone was found on {}. One that was interrupted does not count any more once the disk was partitioned anew\n",
            disk.path
        ));
    };
    let finished = journal.state() == State::Done;
    let changed = journal.was_partitioned_since(&mut open_read(disk, view)?);
    if changed.map_err(|source| Failure::File {
        doing: "reading the tables of",
        path: node(disk, view),
        source,
    })? {
        eprintln!(
            "CAUTION: the partition table of {} was changed after that installation. What was made since will no longer be found: partitions, and systems in them.",
            disk.path
        );
    }
    eprintln!(
        "This brings back the partition table and the headers that {} had before the installation. Contents that were written over stay lost{}.",
        disk.path,
        if finished {
            ", and the system that was installed can no longer be started"
        } else {
            ""
        }
    );
    let typed = match confirm {
        Some(name) => Some(name.to_owned()),
        None => ask(&disk.name)?,
    };
    if typed.as_deref() != Some(disk.name.as_str()) {
        return Err(Failure::Refused(format!(
            "not confirmed: give `--confirm {}`. Nothing was written",
            disk.name
        )));
    }
    let mut device = open_write(disk, view)?;
    apply::undo(&mut device).map_err(EngineError::Apply)?;
    let _ = lycia_installer::kernel::read_table_again(device.file());
    Ok(format!("the old table of {} is back\n", disk.path))
}

pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other.map_err(Failure::Output),
    }
}

/// Tells of a file system that is not mounted with its system.
fn left_out(what: &str) {
    eprintln!("lycia-install: not mounted: {}", show::printable(what));
}

/// A folder on which something is mounted for a while.
pub(crate) fn mount_point(prefix: &str) -> Result<tempfile::TempDir, Failure> {
    Ok(tempfile::Builder::new().prefix(prefix).tempdir_in("/run")?)
}

/// Changes the allocator of a root by the packages of the medium that was named. Without one, a system that runs takes its own repositories, as they have what
/// an upgrade would; where they cannot be had, and for other roots, it is the medium in its usual place.
fn switched(name: &str, root: &Path, medium: Option<&Path>) -> Result<String, Failure> {
    let usual = Path::new(lycia_installer::medium::MOUNT);
    let by = |medium: &Medium| lycia_installer::switch::switch(root, medium, name);
    if medium.is_none()
        && root == Path::new("/")
        && let Ok(own) = Medium::of_system(root)
    {
        match by(&own) {
            Err(SwitchError::Source(why)) => match Medium::open(usual) {
                Ok(medium) => {
                    eprintln!("the system's own repositories do not have it ({why}): the medium is taken");
                    return Ok(by(&medium)?);
                }
                Err(_) => {
                    return Err(Failure::Refused(format!(
                        "changing the allocator to {name} by the repositories of this system: {why}. Nothing was changed; a medium with these packages will do too: \
                         mount it on {}, or name its place with --medium",
                        usual.display()
                    )));
                }
            },
            other => return Ok(other?),
        }
    }
    let medium = Medium::open(medium.unwrap_or(usual)).map_err(EngineError::Medium)?;
    Ok(by(&medium)?)
}

/// Changes the allocator of a root, or says which one it has; with the exit code.
fn allocator(
    name: Option<&str>,
    root: &Path,
    medium: Option<&Path>,
    json: bool,
) -> Result<(String, u8), Failure> {
    if let Some(name) = name {
        return Ok((format!("{}\n", switched(name, root, medium)?), 0));
    }
    let report = allocator::inspect(root)?;
    let code = if report.contradictions.is_empty() { 0 } else { 5 };
    let text = if json {
        serde_json::to_string_pretty(&report)? + "\n"
    } else {
        report.text()
    };
    Ok((text, code))
}

/// Carries out a verb; gives the exit code.
pub fn run(cli: Cli) -> Result<u8, Failure> {
    let mut code = 0;
    let text = match cli.verb {
        Verb::Probe { views: args, json } => {
            let mut machine = probe(&views(&args))?;
            contents::read(&mut machine, &args.dev);
            if json {
                serde_json::to_string_pretty(&machine)? + "\n"
            } else {
                show::machine(&machine)
            }
        }
        Verb::Check { file } => check(&file)?,
        Verb::Plan { what, json } => plan(&what, json)?,
        Verb::Ask {
            answers,
            save,
            plain,
            medium,
            scratch,
            views,
        } => crate::ask::ask(&crate::ask::Asking {
            answers: answers.as_deref(),
            save: &save,
            plain,
            medium: &medium,
            scratch: &scratch,
            views: &views,
        })?,
        Verb::Install {
            what,
            confirm,
            dry_run,
        } => {
            install(&what, confirm, dry_run, false)?;
            String::new()
        }
        Verb::Resume { what, confirm } => {
            install(&what, confirm, false, true)?;
            String::new()
        }
        Verb::Systems {
            unlock: wanted,
            look,
            passphrase,
            views: args,
            json,
        } => {
            let mut found = rescue::survey(&probe(&views(&args))?, &args.dev);
            if wanted || passphrase.is_given() {
                unlock::unlock(&mut found, &passphrase)?;
            }
            if look {
                unlock::look(&mut found)?;
            }
            if json {
                serde_json::to_string_pretty(&found)? + "\n"
            } else {
                unlock::list(&found)
            }
        }
        Verb::Mount {
            directory,
            system,
            passphrase,
        } => {
            let one = unlock::system(system.as_deref(), &passphrase)?;
            let mounted = one.mount(&mut Kernel, &directory)?;
            mounted.left_out.iter().for_each(|what| left_out(what));
            format!("{} is mounted on {}\n", one.node(), directory.display())
        }
        Verb::Unmount { directory } => {
            rescue::unmount_system(&mut Kernel, &directory)?;
            String::new()
        }
        Verb::Chroot {
            system,
            passphrase,
            command,
        } => {
            let one = unlock::system(system.as_deref(), &passphrase)?;
            let directory = mount_point("lycia-chroot-")?;
            code = u8::try_from(one.chroot(&mut Kernel, directory.path(), &command, &mut left_out)?)
                .unwrap_or(1);
            String::new()
        }
        Verb::Fsck { system, passphrase } => {
            let one = unlock::system(system.as_deref(), &passphrase)?;
            one.check(&mut Kernel)?;
            format!("{} is sound\n", one.node())
        }
        Verb::BootRepair {
            system,
            passphrase,
            medium,
            confirm,
            dry_run,
        } => {
            let one = unlock::system(system.as_deref(), &passphrase)?;
            crate::repair::boot_repair(&one, &medium, confirm.as_deref(), dry_run)?
        }
        Verb::Unattended {
            medium,
            scratch,
            views,
        } => crate::unattended::run(&medium, &scratch, &views)?,
        Verb::Undo { disk, views, confirm } => undo(&disk, &views, confirm.as_deref())?,
        Verb::Allocator {
            name,
            root,
            system,
            passphrase,
            medium,
            json,
        } => {
            let at = |root: &Path| allocator(name.as_deref(), root, medium.as_deref(), json);
            let said = match system {
                None => at(&root)?,
                Some(system) => {
                    let selector = (system != "any").then_some(system.as_str());
                    let one = unlock::system(selector, &passphrase)?;
                    let directory = mount_point("lycia-allocator-")?;
                    let mounted = one.mount(&mut Kernel, directory.path())?;
                    mounted.left_out.iter().for_each(|what| left_out(what));
                    let said = at(directory.path());
                    rescue::unmount_system(&mut Kernel, directory.path())?;
                    said?
                }
            };
            code = said.1;
            said.0
        }
    };
    print_text(&text)?;
    Ok(code)
}
