//! The verb of the medium's service: installs where the kernel's command line asks for it.

use std::path::Path;
use std::time::Duration;

use lycia_installer::apply::ApplyError;
use lycia_installer::engine::EngineError;
use lycia_installer::obtain::{ObtainError, Origin};

use crate::cli::{ViewArgs, WhatArgs};
use crate::verbs::{Failure, install};

/// What happens afterwards, on the command line.
const AFTER: &str = "lycia.after";
/// Times that a server is asked: the network may still be coming up.
const TRIES: u32 = 24;
const WAIT: Duration = Duration::from_secs(5);

/// What happens after an installation that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum After {
    Stay,
    Reboot,
    PowerOff,
}

impl After {
    fn of(command_line: &str) -> Result<After, Failure> {
        let word = |word: &str| word.strip_prefix(AFTER)?.strip_prefix('=').map(str::to_owned);
        match command_line
            .split_whitespace()
            .filter_map(word)
            .next_back()
            .as_deref()
        {
            None | Some("stay") => Ok(After::Stay),
            Some("reboot") => Ok(After::Reboot),
            Some("poweroff") => Ok(After::PowerOff),
            Some(other) => Err(Failure::Refused(format!(
                "{AFTER}={other} of the kernel's command line: there are stay, reboot, poweroff. Nothing was written"
            ))),
        }
    }

    fn program(self) -> Option<&'static str> {
        match self {
            After::Stay => None,
            After::Reboot => Some("reboot"),
            After::PowerOff => Some("poweroff"),
        }
    }
}

/// Installs, if the command line names answers. Gives what is left to say.
pub fn run(medium: &Path, scratch: &Path, views: &ViewArgs) -> Result<String, Failure> {
    let path = views.proc.join("cmdline");
    let command_line = std::fs::read_to_string(&path).map_err(|source| Failure::File {
        doing: "reading",
        path,
        source,
    })?;
    let Some(origin) = Origin::of_command_line(&command_line)? else {
        return Ok(String::new());
    };
    let after = After::of(&command_line)?;
    let what = WhatArgs {
        answers: Some("auto".to_owned()),
        disk: None,
        medium: medium.to_owned(),
        scratch: scratch.to_owned(),
        log: lycia_installer::log::RUNNING.into(),
        views: views.clone(),
    };
    let mut tries = 1;
    let mut resume = false;
    // Nobody is asked: the answers themselves name the disk's serial number or the plan's hash, or nothing is written.
    loop {
        match install(&what, None, false, resume) {
            Err(Failure::Obtain(ObtainError::Read { place, why }))
                if matches!(origin, Origin::Url { .. }) && tries < TRIES =>
            {
                eprintln!("lycia-install: reading {place}: {why}; asking again");
                std::thread::sleep(WAIT);
                tries += 1;
            }
            // The power was cut: the same answers finish what they began. Others are refused, as another plan.
            Err(Failure::Engine(EngineError::Apply(ApplyError::Interrupted))) if !resume => {
                eprintln!("lycia-install: an interrupted installation is on this disk; going on with it");
                resume = true;
            }
            other => break other?,
        }
    }
    if let Some(program) = after.program() {
        std::process::Command::new(program)
            .status()
            .map_err(|source| Failure::File {
                doing: "running",
                path: program.into(),
                source,
            })?;
    }
    Ok(String::new())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn afterwards() {
        assert_eq!(After::of("quiet").unwrap(), After::Stay);
        assert_eq!(After::of("lycia.after=reboot quiet").unwrap(), After::Reboot);
        assert_eq!(
            After::of("lycia.after=reboot lycia.after=poweroff").unwrap(),
            After::PowerOff
        );
        assert!(
            After::of("lycia.after=explode")
                .unwrap_err()
                .to_string()
                .contains("stay")
        );
    }
}
