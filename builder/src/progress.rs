//! What a person sees while a command works: one bar for each stage under way, on standard error, only
//! where that is a terminal. Elsewhere one line says what each stage took.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The stages of a command.
pub struct Progress {
    bars: MultiProgress,
    quiet: bool,
    done: Mutex<Vec<(String, Duration)>>,
}

/// How the amount of a stage is shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things.
    Items,
}

impl Progress {
    /// Shown on standard error, or not at all.
    pub fn new(quiet: bool) -> Progress {
        let target = if quiet {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr()
        };
        Progress {
            bars: MultiProgress::with_draw_target(target),
            quiet,
            done: Mutex::default(),
        }
    }

    /// Starts a stage.
    pub fn stage(&self, name: &str, total: u64, unit: Unit) -> Bar<'_> {
        let bar = self.bars.add(ProgressBar::new(total));
        let template = match unit {
            Unit::Bytes => "{prefix:<10} {bar:24} {bytes}/{total_bytes} {msg}",
            Unit::Items => "{prefix:<10} {bar:24} {pos}/{len} {msg}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(name.to_owned());
        Bar {
            progress: self,
            bar,
            name: name.to_owned(),
            started: Instant::now(),
        }
    }

    /// A line for the user.
    pub fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        if self.bars.is_hidden() {
            eprintln!("{line}");
        } else {
            // A terminal that went away is no reason to stop.
            let _ = self.bars.println(line);
        }
    }

    /// The stages that ended, with what they took.
    pub fn times(&self) -> Vec<(String, Duration)> {
        self.done.lock().map(|done| done.clone()).unwrap_or_default()
    }
}

/// A stage under way.
pub struct Bar<'p> {
    progress: &'p Progress,
    bar: ProgressBar,
    name: String,
    started: Instant,
}

impl Bar<'_> {
    /// So much more is done.
    pub fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    /// So much of so much is done.
    pub fn set(&self, done: u64, total: u64) {
        self.bar.set_length(total);
        self.bar.set_position(done);
    }

    /// What is under way just now.
    pub fn message(&self, text: &str) {
        self.bar.set_message(text.to_owned());
    }

    /// The stage is over; `result` says what came of it.
    pub fn finish(self, result: &str) {
        let took = self.started.elapsed();
        self.bar.finish_and_clear();
        self.progress.say(&format!(
            "{:<10} {:>6.1} s  {result}",
            self.name,
            took.as_secs_f64()
        ));
        if let Ok(mut done) = self.progress.done.lock() {
            done.push((self.name.clone(), took));
        }
    }
}
