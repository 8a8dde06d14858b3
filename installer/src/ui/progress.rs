//! How far an installation is.

use std::time::{Duration, Instant};

use crate::engine::Event;

/// Nothing is said of the time that is left before so many seconds of a stage.
const FIRST_GUESS: u64 = 5;
/// Nor before the n-th part of its bytes.
const FIRST_PART: u64 = 20;
/// Seconds without news after which that is said.
const QUIET: u64 = 5;

/// How far an installation is: the stages that are over, and the one that runs.
#[derive(Clone, Debug)]
pub struct Progress {
    /// Stages that are over, with the time they took.
    pub over: Vec<(String, Duration)>,
    /// The stage that runs.
    pub stage: String,
    /// What it is at, if it has parts with names.
    pub words: String,
    /// Bytes.
    done: u64,
    total: u64,
    began: Instant,
    /// When something was heard.
    heard: Instant,
}

impl Default for Progress {
    fn default() -> Self {
        let now = Instant::now();
        Self {
            over: Vec::new(),
            stage: String::new(),
            words: String::new(),
            done: 0,
            total: 0,
            began: now,
            heard: now,
        }
    }
}

impl Progress {
    /// Takes what was heard; whether another stage has begun.
    pub fn event(&mut self, event: Event) -> bool {
        self.event_at(event, Instant::now())
    }

    fn event_at(&mut self, event: Event, now: Instant) -> bool {
        let (stage, done, total, words) = match event {
            Event::Package(done, total, name) => ("unpacking packages".to_owned(), done, total, name),
            Event::Assemble => ("putting the system together".to_owned(), 0, 0, String::new()),
            Event::Step(step, done, total) => {
                (format!("writing: {}", step.words()), done, total, String::new())
            }
        };
        let fresh = stage != self.stage;
        if fresh {
            self.end_at(now);
            self.stage = stage;
            self.began = now;
        }
        self.heard = now;
        (self.done, self.total, self.words) = (done, total, words);
        fresh
    }

    /// The last stage is over.
    pub fn end(&mut self) {
        self.end_at(Instant::now());
    }

    fn end_at(&mut self, now: Instant) {
        if !self.stage.is_empty() {
            let took = now.saturating_duration_since(self.began);
            self.over.push((std::mem::take(&mut self.stage), took));
        }
        self.words.clear();
    }

    /// How much of the stage is done, from 0 to 1; none where that is not known.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (self.total > 0).then(|| self.done.min(self.total) as f64 / self.total as f64)
    }

    /// Seconds that are left of the stage. What its bytes took so far is the only ground for a guess, and none before there are some.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        self.left_at(Instant::now())
    }

    fn left_at(&self, now: Instant) -> Option<u64> {
        let elapsed = now.saturating_duration_since(self.began).as_secs();
        let known = elapsed >= FIRST_GUESS
            && self.done > 0
            && self.done >= self.total / FIRST_PART
            && self.done < self.total;
        known
            .then(|| u128::from(elapsed) * u128::from(self.total - self.done) / u128::from(self.done))
            .and_then(|left| u64::try_from(left).ok())
    }

    /// What the clock says: how long the stage runs, what may be left of it, and whether nothing was heard for a while, as while a disk brings everything to
    /// its place or a file system is made.
    #[must_use]
    pub fn clock(&self) -> String {
        self.clock_at(Instant::now())
    }

    fn clock_at(&self, now: Instant) -> String {
        let seconds = |since: Instant| now.saturating_duration_since(since).as_secs();
        let mut line = format!("{} in this stage", time(seconds(self.began)));
        let quiet = seconds(self.heard);
        if quiet >= QUIET {
            line.push_str(&format!(", at work without news for {}", time(quiet)));
        } else if let Some(left) = self.left_at(now) {
            line.push_str(&format!(", about {} left of it", time(left)));
        }
        line
    }
}

/// Seconds, and minutes where there are some.
fn time(seconds: u64) -> String {
    match seconds / 60 {
        0 => format!("{seconds} s"),
        minutes => format!("{minutes} min {:02} s", seconds % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::Step;

    const MIB: u64 = 1 << 20;

    fn package(done: u64, total: u64) -> Event {
        Event::Package(done * MIB, total * MIB, "a package".to_owned())
    }

    #[test]
    fn time_that_is_left_goes_by_bytes_and_is_not_said_before_it_means_something() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut progress = Progress::default();
        assert!(progress.event_at(package(0, 400), at(0)));
        assert_eq!(progress.left_at(at(10)), None);
        // The largest first: half of the bytes, one of a hundred packages.
        assert!(!progress.event_at(package(200, 400), at(10)));
        assert_eq!(progress.left_at(at(10)), Some(10));
        assert_eq!(
            progress.clock_at(at(10)),
            "10 s in this stage, about 10 s left of it"
        );
        // Too early, or too little.
        assert_eq!(progress.left_at(at(4)), None);
        progress.event_at(package(19, 400), at(20));
        assert_eq!(progress.left_at(at(20)), None);
        progress.event_at(package(400, 400), at(20));
        assert_eq!(progress.left_at(at(20)), None);
        assert!(progress.event_at(Event::Step(Step::Root, u64::MAX / 2, u64::MAX), at(30)));
        assert_eq!(
            progress.over,
            [("unpacking packages".to_owned(), Duration::from_secs(30))]
        );
        assert!(progress.left_at(at(90)).is_some());
    }

    #[test]
    fn the_clock_goes_on_where_nothing_is_heard() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut progress = Progress::default();
        progress.event_at(Event::Assemble, at(0));
        assert_eq!(progress.clock_at(at(3)), "3 s in this stage");
        assert_eq!(
            progress.clock_at(at(75)),
            "1 min 15 s in this stage, at work without news for 1 min 15 s"
        );
    }
}
