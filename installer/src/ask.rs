//! The verb that asks for everything on the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use lycia_installer::advice::Advice;
use lycia_installer::answers::Secrets;
use lycia_installer::answers::typed::AnswersFile;
use lycia_installer::apply::ApplyError;
use lycia_installer::contents;
use lycia_installer::encryption::Passphrase;
use lycia_installer::engine::{Consent, EngineError, Event, Prepared};
use lycia_installer::keyboard;
use lycia_installer::medium::Medium;
use lycia_installer::mounted;
use lycia_installer::probe::{Machine, probe};
use lycia_installer::secret::Hash;
use lycia_installer::ui::full::{Action, Full, Leave, Page};
use lycia_installer::ui::keyboard::Key;
use lycia_installer::ui::{End, Lists, Screen, Session, Terminal, render};
use zeroize::Zeroizing;

use crate::cli::{ViewArgs, WhatArgs};
use crate::directory;
use crate::full_screen::FullScreen;
use crate::verbs::{
    Failure, carry_out, install, interrupted, prepared, read_answers, undo, unfinished as unfinished_on,
    views,
};

/// How often the screen is drawn while an installation runs, whether there is news or not.
const REDRAWN: Duration = Duration::from_millis(200);

struct Lines {
    plain: bool,
}

/// Columns and lines of the terminal; serial lines do not tell.
fn size() -> (usize, usize) {
    let known = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let known = known.filter(|size| size.ws_col >= 40 && size.ws_row >= 10);
    known.map_or((80, 24), |size| (size.ws_col.into(), size.ws_row.into()))
}

impl Terminal for Lines {
    fn show(&mut self, screen: &Screen, number: usize, of: usize, problem: Option<&str>) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if !self.plain && io::stdout().is_terminal() {
            // Clears and goes to the first line (ECMA-48 ED and CUP): every terminal since the VT100 knows these two.
            out.write_all(b"\x1b[2J\x1b[H")?;
        }
        out.write_all(
            render(screen, number, of, problem, size(), self.plain)
                .join("\n")
                .as_bytes(),
        )?;
        out.flush()
    }

    fn line(&mut self, secret: bool) -> io::Result<Option<Zeroizing<String>>> {
        crate::line::read(secret)
    }

    fn rows(&self) -> usize {
        // What is read aloud needs no pages; on a screen heading, help and the line for the answer have their place.
        if self.plain {
            usize::MAX
        } else {
            size().1.saturating_sub(10)
        }
    }
}

/// Asks for the passphrase of the encrypted root, twice unless it is an old one; none where nobody is there.
pub fn passphrase(old: bool) -> Result<Option<Passphrase>, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    loop {
        let question = "Passphrase of the encrypted root (it is not shown): ";
        let Some(first) = crate::line::ask_secret(question)? else {
            return Ok(None);
        };
        let taken = match Passphrase::new(first.as_bytes().to_vec().into()) {
            Ok(taken) => taken,
            Err(why) => {
                eprintln!("That will not do: {why}");
                continue;
            }
        };
        if old {
            return Ok(Some(taken));
        }
        if crate::line::ask_secret("The same again: ")?.as_ref() == Some(&first) {
            return Ok(Some(taken));
        }
        eprintln!("They differ.");
    }
}

/// Asks for a new password twice; none where nobody is there.
pub fn password(login: &str) -> Result<Option<Hash>, Failure> {
    if !io::stdin().is_terminal() {
        return Ok(None);
    }
    loop {
        let Some(first) = crate::line::ask_secret(&format!("Password of {login} (it is not shown): "))?
        else {
            return Ok(None);
        };
        if first.is_empty() {
            eprintln!("It had one: give one.");
        } else if crate::line::ask_secret("The same again: ")?.as_ref() == Some(&first) {
            return Ok(Some(Hash::of(&first)?));
        } else {
            eprintln!("They differ.");
        }
    }
}

/// What is done about installations that were interrupted, before anything else is asked; none where the installer goes on.
fn unfinished(machine: &Machine, asking: &Asking) -> Result<Option<String>, Failure> {
    for (disk, step) in unfinished_on(machine, asking.views) {
        println!("An installation on {disk} was interrupted; its next step is: {step}.");
        println!("  r  finish it: its answers are on the disk, passwords are asked for again");
        println!("  u  undo it: bring back the table and the headers that the disk had");
        println!("  i  leave it as it is and go on to the installer");
        loop {
            print!("r, u or i, or nothing to stop: ");
            io::stdout().flush()?;
            let line = crate::line::read(false)?.unwrap_or_default();
            match line.trim() {
                "r" => {
                    let what = WhatArgs {
                        answers: None,
                        disk: Some(disk),
                        medium: asking.medium.to_owned(),
                        scratch: asking.scratch.to_owned(),
                        log: lycia_installer::log::RUNNING.into(),
                        views: asking.views.clone(),
                    };
                    install(&what, None, false, true)?;
                    return Ok(Some(String::new()));
                }
                "u" => return undo(&disk, asking.views, None).map(Some),
                "i" => break,
                "" => return Ok(Some("stopped; nothing was written\n".to_owned())),
                other => println!("`{other}` is none of them."),
            }
        }
    }
    Ok(None)
}

/// Saves answers where only their owner can read them: they hold hashes of passwords.
fn save_to(file: &AnswersFile, path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let failed = |source| Failure::File {
        doing: "saving the answers to",
        path: path.to_owned(),
        source,
    };
    let text = file
        .text()
        .map_err(|error| failed(io::Error::other(error.to_string())))?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let aside = folder.join(".lycia-answers.new");
    let _ = std::fs::remove_file(&aside);
    let mut out = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&aside)
        .map_err(failed)?;
    out.write_all(text.as_bytes())
        .and_then(|()| out.sync_all())
        .map_err(failed)?;
    std::fs::rename(&aside, path).map_err(failed)
}

/// Time zones and keyboard layouts of the running system: what is typed is completed from them.
fn lists() -> Lists {
    // Columns of tzdata's table of zones, which every package of it carries.
    let zones = std::fs::read_to_string("/usr/share/zoneinfo/tzdata.zi")
        .map(|text| zone_names(&text))
        .or_else(|_| {
            std::fs::read_to_string("/usr/share/zoneinfo/zone1970.tab").map(|text| {
                let lines = text.lines().filter(|line| !line.starts_with('#'));
                let mut zones: Vec<String> = lines
                    .filter_map(|line| line.split('\t').nth(2).map(str::to_owned))
                    .collect();
                zones.push("UTC".to_owned());
                zones.sort();
                zones
            })
        })
        .unwrap_or_default();
    let mut keymaps = Vec::new();
    for folder in ["/usr/share/keymaps", "/usr/share/kbd/keymaps"] {
        keymap_names(Path::new(folder), 0, &mut keymaps);
    }
    keymaps.sort();
    keymaps.dedup();
    Lists {
        timezones: zones,
        keymaps,
    }
}

/// Zones and links of `tzdata.zi` (zic's shortened form): `Z NAME …` and `L TARGET NAME`.
fn zone_names(text: &str) -> Vec<String> {
    let mut zones: Vec<String> = text
        .lines()
        .filter_map(|line| {
            let mut words = line.split(' ');
            match words.next()? {
                "Z" => words.next(),
                "L" => words.nth(1),
                _ => None,
            }
        })
        .map(str::to_owned)
        .collect();
    zones.sort();
    zones.dedup();
    zones
}

fn keymap_names(folder: &Path, depth: usize, names: &mut Vec<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if depth < 4 && name != "include" {
                keymap_names(&entry.path(), depth + 1, names);
            }
        } else if let Some(name) = name.strip_suffix(".gz").unwrap_or(&name).strip_suffix(".map") {
            names.push(name.to_owned());
        }
    }
}

/// What is asked with.
pub struct Asking<'a> {
    /// Answers to begin with.
    pub answers: Option<&'a Path>,
    /// Where they are saved to.
    pub save: &'a Path,
    /// Line by line.
    pub plain: bool,
    /// Where the medium is.
    pub medium: &'a Path,
    /// Folder for unpacked packages.
    pub scratch: &'a Path,
    /// The kernel's views.
    pub views: &'a ViewArgs,
}

/// Asks, saves, and installs after the plan was confirmed. Gives what is left to say.
pub fn ask(asking: &Asking) -> Result<String, Failure> {
    let file = match asking.answers {
        Some(path) => read_answers(path)?,
        None => AnswersFile::default(),
    };
    let mut machine = probe(&views(asking.views))?;
    if let Some(said) = unfinished(&machine, asking)? {
        return Ok(said);
    }
    eprintln!("Looking at the disks ...");
    // Nobody picks a partition by its number alone.
    contents::read(&mut machine, &asking.views.dev);
    let opened = Medium::open(asking.medium).map_err(EngineError::Medium)?;
    opened.kernel(None).map_err(EngineError::Medium)?;
    let advice = Advice::new(&opened);
    let session = Session::new(&opened, &machine, file)
        .with_lists(lists())
        .with_advisor(Box::new(|file| advice.of(file)))
        .with_keyboard(Box::new(keyboard::use_now));
    let what = WhatArgs {
        // A path with a folder: no name of a file is taken for a place such as `drive`.
        answers: Some(std::path::absolute(asking.save)?.display().to_string()),
        disk: None,
        medium: asking.medium.to_owned(),
        scratch: asking.scratch.to_owned(),
        log: lycia_installer::log::RUNNING.into(),
        views: asking.views.clone(),
    };
    if !asking.plain
        && let Some(screen) = FullScreen::open()?
    {
        return on_the_screen(screen, Full::new(session), &machine, &what, asking.save);
    }
    let mut session = session;
    let end = session.run(&mut Lines { plain: asking.plain })?;
    if end == End::Stopped {
        return Ok("\nstopped; nothing was written\n".to_owned());
    }
    save_to(&session.file, asking.save)?;
    if end == End::Save {
        return Ok(format!(
            "\nthe answers are in {}; nothing else was written\n",
            asking.save.display()
        ));
    }
    println!();
    if let Some(said) = session.passphrase_layout(session.file.disk.encrypt) {
        println!("{said}\n");
    }
    install(&what, None, false, false)?;
    Ok(String::new())
}

/// The whole screen, until it is left.
fn on_the_screen(
    mut screen: FullScreen,
    mut full: Full,
    machine: &Machine,
    what: &WhatArgs,
    save: &Path,
) -> Result<String, Failure> {
    let mut ready = None;
    let mut failure = None;
    loop {
        screen.draw(&full)?;
        let Some(key) = screen.key(&full)? else {
            drop(screen);
            return match full.page() {
                Page::Over => left(&full, failure, Leave::Shell),
                _ => Ok("stopped by a signal; nothing was written\n".to_owned()),
            };
        };
        match full.key(key) {
            Action::Draw => {}
            Action::Stop => return Ok("stopped; nothing was written\n".to_owned()),
            Action::Save => match save_to(&full.session.file, save) {
                Ok(()) => full.say(&format!("The answers are in {}.", save.display())),
                Err(error) => full.refused(&error.to_string()),
            },
            Action::Plan => {
                full.say("Making the plan ...");
                screen.draw(&full)?;
                match plan(&full.session.file, machine, what, save) {
                    Ok(made) => {
                        full.planned(&made.text(), &made.name(), made.wants_passphrase());
                        ready = Some(made);
                    }
                    Err(error) => full.refused(&error.to_string()),
                }
            }
            Action::Install => {
                let Some(mut prepared) = ready.take() else {
                    continue;
                };
                screen.draw(&full)?;
                let result = installed(&mut screen, &mut full, &mut prepared, machine, what);
                match result {
                    Ok(warnings) => full.over(Ok(warnings)),
                    Err(error) => {
                        full.over(Err(error.to_string()));
                        failure = Some(error);
                    }
                }
                screen.again()?;
            }
            Action::Leave(leave) => {
                drop(screen);
                return left(&full, failure, leave);
            }
        }
    }
}

/// A plan that can be carried out.
enum Ready {
    Disk(Box<Prepared>),
    Directory(Box<mounted::Prepared>),
}

impl Ready {
    fn text(&self) -> String {
        match self {
            Ready::Disk(prepared) => prepared.plan.text(),
            Ready::Directory(prepared) => prepared.text(),
        }
    }

    /// What is typed to agree.
    fn name(&self) -> String {
        match self {
            Ready::Disk(prepared) => prepared.plan.short_name().to_owned(),
            Ready::Directory(prepared) => prepared.ground.directory.display().to_string(),
        }
    }

    fn wants_passphrase(&self) -> bool {
        matches!(self, Ready::Disk(prepared) if prepared.wants_passphrase())
    }
}

/// Saves the answers and makes the plan.
fn plan(file: &AnswersFile, machine: &Machine, what: &WhatArgs, save: &Path) -> Result<Ready, Failure> {
    save_to(file, save)?;
    let answers = (file.clone(), save.to_owned());
    if directory::asked(file) {
        let prepared = directory::prepared(what, machine, &answers)?;
        return Ok(Ready::Directory(Box::new(prepared)));
    }
    if interrupted(machine, file, &what.views)?.is_some() {
        return Err(EngineError::Apply(ApplyError::Interrupted).into());
    }
    let prepared = prepared(what, machine, &answers, Secrets::Read, None)?;
    Ok(Ready::Disk(Box::new(prepared)))
}

/// Does `work` beside `look`, which is called again and again with what was heard since, until the work is over. It takes the time that is to pass between two
/// calls: a screen goes on while a disk or a program is waited for that says nothing.
fn watched<T: Send>(
    work: impl FnOnce(&mut dyn FnMut(Event)) -> T + Send,
    look: &mut dyn FnMut(&mut dyn Iterator<Item = Event>),
) -> T {
    let (said, heard) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let worker = scope.spawn(move || {
            work(&mut |event| {
                // Nobody listens only where this program ends.
                let _ = said.send(event);
            })
        });
        loop {
            let over = worker.is_finished();
            look(&mut heard.try_iter());
            if over {
                break;
            }
        }
        worker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn installed(
    screen: &mut FullScreen,
    full: &mut Full,
    ready: &mut Ready,
    machine: &Machine,
    what: &WhatArgs,
) -> Result<Vec<String>, Failure> {
    let consent = Consent {
        hash: None,
        // The screen has let nobody by who typed anything else.
        typed: Some(ready.name()),
    };
    match ready {
        Ready::Disk(prepared) => prepared.confirm(&consent)?,
        Ready::Directory(prepared) => prepared.confirm(&consent)?,
    }
    if let (Ready::Disk(prepared), Some(typed)) = (&mut *ready, full.passphrase.take()) {
        let passphrase = Passphrase::new(typed.as_bytes().to_vec().into()).map_err(Failure::Refused)?;
        prepared.set_passphrase(passphrase);
    }
    let file = full.session.file.clone();
    let stop = std::sync::Arc::clone(&screen.stop);
    let mut broken = None;
    let mut by_key = false;
    // Into a directory nothing is written by way of a device that could stop.
    let stops = matches!(ready, Ready::Disk(_));
    let stopped = std::sync::Arc::clone(&stop);
    let work = move |tell: &mut dyn FnMut(Event)| match ready {
        Ready::Disk(prepared) => carry_out(what, machine, prepared, &file, None, &stopped, tell),
        Ready::Directory(prepared) => directory::carry_out(what, machine, prepared, &file, tell),
    };
    let result = watched(work, &mut |news| {
        for event in news {
            full.progress.event(event);
        }
        // A terminal that is gone does not stop the installation.
        if broken.is_some() {
            std::thread::sleep(REDRAWN);
            return;
        }
        match screen.draw(full).and_then(|()| screen.key_within(REDRAWN)) {
            Ok(Some(Key::Control('l'))) => broken = screen.again().err(),
            Ok(Some(key)) if stops => {
                if full.progress_key(key) {
                    by_key = true;
                    stop.store(true, Ordering::SeqCst);
                }
            }
            Ok(Some(Key::Control('c') | Key::Function(10))) => full.say(
                "Heard, but this cannot be stopped: what is in the directory by then would have to be removed",
            ),
            Ok(_) => {}
            Err(error) => broken = Some(error),
        }
        if stops && stop.load(Ordering::SeqCst) {
            full.stop_was_heard();
        }
    });
    // A signal still ends the program.
    if by_key {
        stop.store(false, Ordering::SeqCst);
    }
    let mut warnings = result?;
    if let Some(error) = broken {
        warnings.push(format!("the screen could not be drawn: {error}"));
    }
    Ok(warnings)
}

/// What is done when the screen is left. A failed installation ends as `install` would.
fn left(full: &Full, failure: Option<Failure>, leave: Leave) -> Result<String, Failure> {
    let program = match leave {
        Leave::Reboot => Some("reboot"),
        Leave::PowerOff => Some("poweroff"),
        Leave::Shell => None,
    };
    if let Some(program) = program {
        let run = std::process::Command::new(program).status();
        let done = run.and_then(|status| match status.success() {
            true => Ok(()),
            false => Err(io::Error::other(status.to_string())),
        });
        done.map_err(|source| Failure::File {
            doing: "running",
            path: program.into(),
            source,
        })?;
    }
    failure.map_or_else(|| Ok(full.last_words()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_screen_goes_on_while_nothing_is_heard_and_hears_everything() {
        let (mut looks, mut events) = (0, Vec::new());
        let result = watched(
            |tell| {
                tell(Event::Package(1, 2, "one".to_owned()));
                std::thread::sleep(Duration::from_millis(300));
                tell(Event::Assemble);
                7
            },
            &mut |news| {
                looks += 1;
                events.extend(news);
                std::thread::sleep(Duration::from_millis(20));
            },
        );
        assert_eq!(result, 7);
        assert!(looks >= 5, "it was drawn {looks} times");
        let expected = [Event::Package(1, 2, "one".to_owned()), Event::Assemble];
        assert_eq!(events, expected);
    }
}
