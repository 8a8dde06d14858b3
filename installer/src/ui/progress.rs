//! How far an installation is.

use std::time::{Duration, Instant};

use crate::engine::Event;

/// How far an installation is: the stages that are over, and the one that runs.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Stages that are over, with the time they took.
    pub over: Vec<(String, Duration)>,
    /// The stage that runs.
    pub stage: String,
    /// What it is at, if it has parts with names.
    pub words: String,
    done: u64,
    total: u64,
    began: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            over: Vec::new(),
            stage: String::new(),
            words: String::new(),
            done: 0,
            total: 0,
            began: Instant::now(),
        }
    }
}

impl Progress {
    /// Takes what was heard; whether another stage has begun.
    pub fn event(&mut self, event: Event) -> bool {
        let (stage, done, total, words) = match event {
            Event::Package(done, total, name) => {
                ("unpacking packages".to_owned(), done as u64, total as u64, name)
            }
            Event::Assemble => ("putting the system together".to_owned(), 0, 0, String::new()),
            Event::Step(step, done, total) => {
                (format!("writing: {}", step.words()), done, total, String::new())
            }
        };
        let fresh = stage != self.stage;
        if fresh {
            self.end();
            self.stage = stage;
            self.began = Instant::now();
        }
        (self.done, self.total, self.words) = (done, total, words);
        fresh
    }

    /// The last stage is over.
    pub fn end(&mut self) {
        if !self.stage.is_empty() {
            self.over
                .push((std::mem::take(&mut self.stage), self.began.elapsed()));
        }
        self.words.clear();
    }

    /// How much of the stage is done, from 0 to 1; none where that is not known.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.total > 0).then(|| self.done.min(self.total) as f64 / self.total as f64)
    }

    /// Seconds that are left of the stage. What it took so far is the only ground for a guess, and a poor one in its first seconds.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        let elapsed = self.began.elapsed().as_secs();
        (elapsed >= 3 && self.total > self.done)
            .then(|| (elapsed * (self.total - self.done)).checked_div(self.done))
            .flatten()
    }
}
