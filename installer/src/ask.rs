//! The verb that asks for everything on the terminal.

use std::io::{self, IsTerminal as _, Write as _};
use std::path::Path;

use lycia_installer::answers::typed::AnswersFile;
use lycia_installer::encryption::Passphrase;
use lycia_installer::engine::EngineError;
use lycia_installer::medium::Medium;
use lycia_installer::probe::probe;
use lycia_installer::ui::{End, Screen, Session, Terminal, render};

use zeroize::Zeroizing;

use crate::cli::{ViewArgs, WhatArgs};
use crate::verbs::{Failure, install, read_answers, views};

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

/// Asks, saves, and installs after the plan was confirmed. Gives what is left to say.
pub fn ask(
    answers: Option<&Path>,
    save: &Path,
    plain: bool,
    medium: &Path,
    scratch: &Path,
    args: &ViewArgs,
) -> Result<String, Failure> {
    let file = match answers {
        Some(path) => read_answers(path)?,
        None => AnswersFile::default(),
    };
    let machine = probe(&views(args))?;
    let opened = Medium::open(medium).map_err(EngineError::Medium)?;
    opened.kernel(None).map_err(EngineError::Medium)?;
    let mut session = Session::new(&opened, &machine, file);
    let end = session.run(&mut Lines { plain })?;
    if end == End::Stopped {
        return Ok("\nstopped; nothing was written\n".to_owned());
    }
    save_to(&session.file, save)?;
    if end == End::Save {
        return Ok(format!(
            "\nthe answers are in {}; nothing else was written\n",
            save.display()
        ));
    }
    let what = WhatArgs {
        // A path with a folder: no name of a file is taken for a place such as `drive`.
        answers: Some(std::path::absolute(save)?.display().to_string()),
        disk: None,
        medium: medium.to_owned(),
        scratch: scratch.to_owned(),
        views: args.clone(),
    };
    println!();
    install(&what, None, false, false)?;
    Ok(String::new())
}
