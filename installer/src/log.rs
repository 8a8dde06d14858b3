//! The log of an installation: what was done when, for whoever asks later why it went as it did.
//!
//! The installed system keeps how it was made below `/var/log/lycia-install`; what was written to the disk after that, and how it ended, is in the log
//! of the running system, and on the medium where that can be written. No secret is in it: it is made of the plan, names of stages and error messages.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::engine::Event;
use crate::plan::System;
use crate::ui::Progress;

/// Its name on the medium.
pub const NAME: &str = "lycia-install.log";
/// Where the running system has it.
pub const RUNNING: &str = "/var/log/lycia-install.log";
/// Folder of the installed system for what is kept of its installation, for root alone.
pub const FOLDER: &str = "var/log/lycia-install";

/// A log that is being written.
pub struct Log {
    files: Vec<(PathBuf, File)>,
    /// What it could not be written to, and why.
    pub refused: Vec<String>,
    began: Instant,
    progress: Progress,
}

impl Log {
    /// Begins a log in the running system's file, and on the medium if that can be written. An installation does not depend on it.
    #[must_use]
    pub fn begin(running: &Path, medium: &Path) -> Log {
        let mut log = Log {
            files: Vec::new(),
            refused: Vec::new(),
            began: Instant::now(),
            progress: Progress::default(),
        };
        let on_medium = medium.join(NAME);
        for path in [running, &on_medium] {
            let opened = File::options().append(true).create(true).mode(0o600).open(path);
            match opened {
                Ok(file) => log.files.push((path.to_owned(), file)),
                // Most media cannot be written.
                Err(_) if path == on_medium => {}
                Err(error) => log.refused.push(format!("no log in {}: {error}", path.display())),
            }
        }
        log
    }

    /// Adds a line, with the seconds since the beginning.
    pub fn line(&mut self, text: &str) {
        let seconds = self.began.elapsed().as_secs_f64();
        let mut failed = Vec::new();
        for (path, file) in &mut self.files {
            let mut written = Ok(());
            for line in text.lines() {
                written =
                    written.and_then(|()| file.write_all(format!("{seconds:9.1}  {line}\n").as_bytes()));
            }
            if let Err(error) = written {
                failed.push(path.clone());
                self.refused
                    .push(format!("the log in {} is cut short: {error}", path.display()));
            }
        }
        self.files.retain(|(path, _)| !failed.contains(path));
    }

    /// Hears how the installation goes.
    pub fn event(&mut self, event: Event) {
        if self.progress.event(event) {
            let over = self.progress.over.last();
            let over = over.map(|(stage, took)| format!("{stage}: took {:.1} s", took.as_secs_f64()));
            if let Some(over) = over {
                self.line(&over);
            }
            self.line(&format!("{} ...", self.progress.stage));
        }
    }

    /// How it ended, whatever that is.
    pub fn end(&mut self, result: Result<&[String], &dyn std::fmt::Display>) {
        self.progress.end();
        match result {
            Ok(warnings) => {
                for warning in warnings {
                    self.line(&format!("warning: {warning}"));
                }
                self.line("installed");
            }
            Err(error) => self.line(&format!("failed: {error}")),
        }
        for (_, file) in &self.files {
            // A power cut behind a failed installation shall not take its reason away.
            let _ = file.sync_all();
        }
    }
}

/// What the installed system keeps of how it was made: nothing in it differs where the same plan is carried out again.
#[must_use]
pub fn of_system(plan: &str, system: &System, warnings: &[String]) -> String {
    let mut lines = vec![
        format!("lycia-install {}", env!("CARGO_PKG_VERSION")),
        format!("plan {plan}"),
        format!("source {}", system.source.join(" ")),
        format!("world {}", system.world.join(" ")),
    ];
    lines.extend(system.packages.iter().map(|name| format!("unpacked {name}")));
    lines.extend(warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.push("put together; written next".to_owned());
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Step;

    #[test]
    fn stages_and_the_end_are_told_where_they_can_be() {
        let folder = tempfile::tempdir().unwrap();
        let (running, medium) = (folder.path().join("log"), folder.path().join("medium"));
        std::fs::create_dir(&medium).unwrap();
        for end in [Ok(()), Err("the disk is gone")] {
            let mut log = Log::begin(&running, &medium);
            log.line("plan 12\ndisk /dev/vda");
            log.event(Event::Assemble);
            log.event(Event::Step(Step::Root, 0, 10));
            log.event(Event::Step(Step::Root, 5, 10));
            match end {
                Ok(()) => log.end(Ok(&["no doas".to_owned()])),
                Err(why) => log.end(Err(&why)),
            }
            assert!(log.refused.is_empty());
        }
        let text = std::fs::read_to_string(&running).unwrap();
        let words: Vec<&str> = text.lines().filter_map(|line| line.get(11..)).collect();
        assert_eq!(
            words[..3],
            ["plan 12", "disk /dev/vda", "putting the system together ..."]
        );
        assert!(
            words[3].starts_with("putting the system together: took "),
            "{text}"
        );
        assert_eq!(
            words[4..7],
            ["writing: root file system ...", "warning: no doas", "installed"]
        );
        assert_eq!(words.last(), Some(&"failed: the disk is gone"));
        assert_eq!(words.len(), 13, "both runs: {text}");
        let other = std::fs::read_to_string(medium.join(NAME)).unwrap();
        assert_eq!(other.lines().count(), 13);
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&running).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn without_a_place_nothing_fails() {
        let mut log = Log::begin(Path::new("/nowhere/log"), Path::new("/nowhere/medium"));
        log.line("plan");
        log.end(Ok(&[]));
        assert_eq!(log.refused.len(), 1);
        assert!(log.refused[0].starts_with("no log in /nowhere/log: "));
    }
}
