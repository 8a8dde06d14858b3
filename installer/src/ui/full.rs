//! The installer on a whole screen: what is shown and what keys do. Drawing is apart, reading and writing terminals is the program's.

use std::collections::BTreeSet;

use zeroize::Zeroizing;

use super::keyboard::Key;
use super::line::Line;
use super::progress::Progress;
use super::question::Question;
use super::session::Session;
use super::table::{self, About, Row};
use super::{Choice, Kind, Screen};

/// What is on the screen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Page {
    /// A question.
    Question,
    /// All answers.
    Overview,
    /// What would be written.
    Plan,
    /// The passphrase of the encrypted root.
    Passphrase,
    /// The installation runs.
    Progress,
    /// It is over, well or not.
    Over,
}

/// How the machine is left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Leave {
    /// It starts again.
    Reboot,
    /// It is switched off.
    PowerOff,
    /// Back to where the program was called.
    Shell,
}

/// What is to be done now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Draw.
    Draw,
    /// Save the answers and go on.
    Save,
    /// Leave without writing anything.
    Stop,
    /// Make the plan: [`Full::planned`] or [`Full::refused`] takes what comes of it.
    Plan,
    /// Install, as the plan that is shown says. Its disk was named.
    Install,
    /// Leave.
    Leave(Leave),
}

/// The state of the screen.
pub struct Full<'a> {
    /// The answers.
    pub session: Session<'a>,
    pub(super) page: Page,
    pub(super) input: Line,
    /// What stands in the line is what was there before: a character takes its place, any other key edits it.
    untouched: bool,
    /// What was typed in secret, to be typed again.
    pub(super) first: Option<Zeroizing<String>>,
    /// The marked choice, suggestion or line of the overview.
    pub(super) marked: usize,
    /// With [`Kind::Table`]: the command that is typed.
    pub(super) command: bool,
    /// With [`Kind::Many`]: what is chosen.
    pub(super) chosen: BTreeSet<String>,
    pub(super) problem: Option<String>,
    pub(super) said: Option<String>,
    /// Answers of single questions lead back to the overview.
    from_overview: bool,
    /// Whether it is asked if one wants to stop.
    pub(super) stopping: bool,
    pub(super) plan: String,
    pub(super) scroll: usize,
    /// Lines of the plan that fit, and how many it has at this width, as last drawn.
    pub(super) room: std::cell::Cell<(usize, usize)>,
    /// The disk's short name, to be typed.
    pub(super) name: String,
    /// Whether a passphrase is wanted.
    wants_passphrase: bool,
    /// The passphrase, once it was typed twice.
    pub passphrase: Option<Zeroizing<String>>,
    /// How far the installation is.
    pub progress: Progress,
    /// It was told to stop, and has not yet.
    pub(super) heard_stop: bool,
    /// What there is to say at the end.
    pub(super) over: Vec<String>,
    pub(super) failed: bool,
}

/// What there is to do at the end.
pub(super) const ENDS: [(Leave, &str); 3] = [
    (Leave::Reboot, "Start the machine again (take the medium out)"),
    (Leave::PowerOff, "Switch it off"),
    (Leave::Shell, "Back to the shell"),
];

impl<'a> Full<'a> {
    /// Begins with the first question, or with all answers where they are complete.
    #[must_use]
    pub fn new(session: Session<'a>) -> Full<'a> {
        let complete = session.problems().is_empty();
        let mut full = Full {
            session,
            page: Page::Question,
            input: Line::new(""),
            untouched: false,
            first: None,
            marked: 0,
            command: false,
            chosen: BTreeSet::new(),
            problem: None,
            said: None,
            from_overview: false,
            stopping: false,
            plan: String::new(),
            scroll: 0,
            room: std::cell::Cell::default(),
            name: String::new(),
            wants_passphrase: false,
            passphrase: None,
            progress: Progress::default(),
            heard_stop: false,
            over: Vec::new(),
            failed: false,
        };
        if complete {
            full.overview();
        } else {
            full.enter();
        }
        full
    }

    /// What is on the screen.
    #[must_use]
    pub fn page(&self) -> Page {
        self.page
    }

    /// The question that is open, with its screen.
    pub(super) fn open(&self) -> Option<(Question, Screen)> {
        self.session
            .at
            .map(|question| (question, self.session.screen(question)))
    }

    /// Opens the question that the session is at; behind the last one all answers are shown.
    fn enter(&mut self) {
        let Some((_, screen)) = self.open() else {
            self.overview();
            return;
        };
        self.page = Page::Question;
        self.first = None;
        self.command = false;
        self.scroll = 0;
        self.chosen = match screen.kind {
            Kind::Many => screen.current.split_whitespace().map(str::to_owned).collect(),
            _ => BTreeSet::new(),
        };
        let typed = matches!(screen.kind, Kind::Text | Kind::Words);
        self.input = Line::new(if typed { &screen.current } else { "" });
        self.untouched = typed;
        let current = screen.choices.iter().position(|one| one.value == screen.current);
        self.marked = match screen.kind {
            Kind::Choice | Kind::Many => current.unwrap_or(0),
            // No suggestion.
            _ => 0,
        };
    }

    fn overview(&mut self) {
        let last = self.session.at;
        self.page = Page::Overview;
        self.from_overview = false;
        self.session.at = None;
        let all = self.session.all();
        self.marked = last
            .and_then(|question| all.iter().position(|one| *one == question))
            .unwrap_or(all.len());
        self.input = Line::new("");
    }

    /// What a text can be completed to: the choices that hold it.
    pub(super) fn suggestions(&self, screen: &Screen) -> Vec<Choice> {
        let typed = self.input.text().trim().to_lowercase();
        if screen.kind == Kind::Text && self.untouched && screen.choices.len() <= super::FEW {
            return screen.choices.clone();
        }
        if screen.kind != Kind::Text || typed.is_empty() || typed == screen.current.to_lowercase() {
            return Vec::new();
        }
        let holds = |choice: &&Choice| choice.value.to_lowercase().contains(&typed);
        let begins = |choice: &Choice| !choice.value.to_lowercase().starts_with(&typed);
        let mut found: Vec<Choice> = screen.choices.iter().filter(holds).cloned().collect();
        found.sort_by_key(begins);
        found.truncate(8);
        found
    }

    /// Takes a key.
    pub fn key(&mut self, key: Key) -> Action {
        self.said = None;
        if self.stopping {
            self.stopping = false;
            return match key {
                Key::Char('y' | 'Y') => Action::Stop,
                _ => Action::Draw,
            };
        }
        match (key, self.page) {
            (_, Page::Over | Page::Progress) => {}
            (Key::Control('c') | Key::Function(10), _) => {
                self.stopping = true;
                return Action::Draw;
            }
            (Key::Control('s') | Key::Function(2), _) => return Action::Save,
            _ => {}
        }
        match self.page {
            Page::Question => self.question_key(key),
            Page::Overview => self.overview_key(key),
            Page::Plan => self.plan_key(key),
            Page::Passphrase => self.passphrase_key(key),
            Page::Progress => Action::Draw,
            Page::Over => self.over_key(key),
        }
    }

    fn question_key(&mut self, key: Key) -> Action {
        let Some((_, screen)) = self.open() else {
            self.overview();
            return Action::Draw;
        };
        match key {
            Key::Escape if self.command => {
                self.command = false;
                self.problem = None;
                return Action::Draw;
            }
            Key::Escape | Key::BackTab => {
                self.problem = None;
                if self.from_overview {
                    self.overview();
                } else {
                    self.session.back();
                    self.enter();
                }
                return Action::Draw;
            }
            Key::Tab => {
                self.problem = None;
                self.overview();
                return Action::Draw;
            }
            _ => {}
        }
        match screen.kind {
            Kind::Choice | Kind::Many => {
                let count = screen.choices.len();
                let many = screen.kind == Kind::Many;
                match key {
                    Key::Up | Key::Char('k') => self.marked = self.marked.saturating_sub(1),
                    Key::Down | Key::Char('j') => {
                        self.marked = (self.marked + 1).min(count.saturating_sub(1))
                    }
                    Key::Home | Key::PageUp => self.marked = 0,
                    Key::End | Key::PageDown => self.marked = count.saturating_sub(1),
                    Key::Left if !many => return self.question_key(Key::Escape),
                    Key::Char(' ') if many => {
                        if let Some(choice) = screen.choices.get(self.marked)
                            && !self.chosen.remove(&choice.value)
                        {
                            self.chosen.insert(choice.value.clone());
                        }
                    }
                    Key::Char(digit @ '1'..='9') => {
                        let at = digit as usize - '1' as usize;
                        if at < count {
                            self.marked = at;
                        }
                    }
                    Key::Enter | Key::Right => {
                        let text = if many {
                            let chosen: Vec<&str> = self.chosen.iter().map(String::as_str).collect();
                            if chosen.is_empty() {
                                "none".to_owned()
                            } else {
                                chosen.join(" ")
                            }
                        } else {
                            screen
                                .choices
                                .get(self.marked)
                                .map(|choice| choice.value.clone())
                                .unwrap_or_default()
                        };
                        self.answer(&text);
                    }
                    _ => {}
                }
            }
            Kind::Text | Kind::Words => {
                let suggestions = self.suggestions(&screen);
                match key {
                    Key::Down => self.marked = (self.marked + 1).min(suggestions.len()),
                    Key::Up => self.marked = self.marked.saturating_sub(1),
                    // Through what there is to read before one answers.
                    Key::PageUp => self.scroll = self.scroll.saturating_sub(self.room.get().0),
                    Key::PageDown => {
                        let (room, lines) = self.room.get();
                        self.scroll = (self.scroll + room).min(lines.saturating_sub(room));
                    }
                    Key::Enter => {
                        let text = match self.marked.checked_sub(1).and_then(|at| suggestions.get(at)) {
                            Some(choice) => choice.value.clone(),
                            None => self.input.text().to_owned(),
                        };
                        self.answer(&text);
                    }
                    key => {
                        if std::mem::take(&mut self.untouched) && matches!(key, Key::Char(_)) {
                            self.input = Line::new("");
                        }
                        if self.input.key(key) {
                            self.marked = 0;
                            self.problem = None;
                        }
                    }
                }
            }
            Kind::Table => self.table_key(key),
            // Of those who read line by line.
            Kind::List => {}
            Kind::Secret => match key {
                Key::Enter => {
                    let typed = Zeroizing::new(self.input.text().to_owned());
                    let first = self.first.take();
                    self.input = Line::new("");
                    match first {
                        _ if typed.is_empty() && first.is_none() => self.answer(""),
                        _ if *typed == "none" && first.is_none() => self.answer("none"),
                        None => self.first = Some(typed),
                        Some(first) if *first == *typed => self.answer(&typed),
                        Some(_) => self.problem = Some("the two differ; type it again".to_owned()),
                    }
                }
                key => {
                    if self.input.key(key) {
                        self.problem = None;
                    }
                }
            },
        }
        Action::Draw
    }

    /// The rows of the table that is edited.
    pub(super) fn rows(&self) -> Vec<Row> {
        let there = self.session.disk();
        there
            .map(|there| table::rows(&self.session.file.disk, there))
            .unwrap_or_default()
    }

    fn obey(&mut self, line: &str) {
        let done = self.session.take(Question::Table, line);
        self.problem = done.err();
        self.marked = self.marked.min(self.rows().len().saturating_sub(1));
    }

    fn table_key(&mut self, key: Key) {
        if self.command {
            if key == Key::Enter {
                let line = self.input.text().to_owned();
                self.command = false;
                self.obey(&line);
                if self.problem.is_some() {
                    self.command = true;
                }
            } else {
                self.input.key(key);
            }
            return;
        }
        let rows = self.rows();
        let about = rows.get(self.marked).map(|row| row.about);
        match (key, about) {
            (Key::Up | Key::Char('k'), _) => self.marked = self.marked.saturating_sub(1),
            (Key::Down | Key::Char('j'), _) => {
                self.marked = (self.marked + 1).min(rows.len().saturating_sub(1))
            }
            (Key::Char(' ' | 'u'), Some(About::There(number))) => {
                let line = table::next(&self.session.file.disk, number);
                self.obey(&line);
            }
            (Key::Char('d'), Some(About::There(number))) => {
                let gone = self.session.file.disk.delete.contains(&number);
                self.obey(&format!("{} {number}", if gone { "keep" } else { "delete" }));
            }
            (Key::Char('d') | Key::Delete, Some(About::New(what))) => {
                self.obey(&format!("remove {}", what.word()))
            }
            (Key::Char('n'), _) => self.typing("new "),
            (Key::Char(':'), _) => self.typing(""),
            (Key::Char('c'), _) => self.obey("clear"),
            (Key::Enter, _) => self.answer(""),
            _ => {}
        }
    }

    fn typing(&mut self, begun: &str) {
        self.command = true;
        self.untouched = false;
        self.problem = None;
        self.input = Line::new(begun);
    }

    fn answer(&mut self, text: &str) {
        self.problem = None;
        let Some(question) = self.session.at else { return };
        if self.from_overview && !matches!(question, Question::MoreUsers) {
            match self.session.take(question, text) {
                Ok(()) => self.overview(),
                Err(what) => self.problem = Some(what),
            }
            return;
        }
        match self.session.answer(text) {
            Ok(()) => {
                // A user who was added is asked for as a whole.
                self.from_overview = false;
                self.enter();
            }
            Err(what) => {
                self.problem = Some(what);
                self.first = None;
            }
        }
    }

    fn overview_key(&mut self, key: Key) -> Action {
        let all = self.session.all();
        match key {
            Key::Up | Key::Char('k') => self.marked = self.marked.saturating_sub(1),
            Key::Down | Key::Char('j') => self.marked = (self.marked + 1).min(all.len()),
            Key::PageUp => self.marked = self.marked.saturating_sub(10),
            Key::PageDown => self.marked = (self.marked + 10).min(all.len()),
            Key::Home => self.marked = 0,
            Key::End | Key::Tab => self.marked = all.len(),
            Key::Escape | Key::BackTab | Key::Left => {
                self.session.at = None;
                self.session.back();
                self.problem = None;
                self.enter();
            }
            Key::Enter | Key::Right => {
                self.problem = None;
                if let Some(&question) = all.get(self.marked) {
                    self.session.at = Some(question);
                    self.from_overview = true;
                    self.enter();
                } else if let Some(problem) = self.session.problems().first() {
                    self.session.at = Some(self.session.mended_at(problem));
                    self.from_overview = true;
                    self.enter();
                    self.problem = Some(problem.what.clone());
                } else {
                    return Action::Plan;
                }
            }
            _ => {}
        }
        Action::Draw
    }

    /// Shows a plan. `name` is what has to be typed; `passphrase` whether one is wanted then.
    pub fn planned(&mut self, text: &str, name: &str, passphrase: bool) {
        self.page = Page::Plan;
        self.plan = text.to_owned();
        self.scroll = 0;
        self.name = name.to_owned();
        self.input = Line::new("");
        self.wants_passphrase = passphrase;
    }

    /// Says why there is no plan, or why nothing was saved.
    pub fn refused(&mut self, why: &str) {
        self.problem = Some(why.to_owned());
    }

    /// Says something.
    pub fn say(&mut self, what: &str) {
        self.said = Some(what.to_owned());
    }

    fn plan_key(&mut self, key: Key) -> Action {
        let (room, lines) = self.room.get();
        let last = lines.saturating_sub(room);
        match key {
            Key::Escape | Key::BackTab => {
                self.problem = None;
                self.overview();
            }
            Key::Up => self.scroll = self.scroll.saturating_sub(1),
            Key::Down => self.scroll = (self.scroll + 1).min(last),
            Key::PageUp => self.scroll = self.scroll.saturating_sub(room),
            Key::PageDown => self.scroll = (self.scroll + room).min(last),
            Key::Enter => {
                if self.input.text().trim() != self.name {
                    self.problem = Some(format!("type `{}`, the name of the disk, to agree", self.name));
                } else if self.wants_passphrase {
                    self.problem = None;
                    self.page = Page::Passphrase;
                    self.input = Line::new("");
                    self.first = None;
                } else {
                    return self.begin();
                }
            }
            key => {
                if self.input.key(key) {
                    self.problem = None;
                }
            }
        }
        Action::Draw
    }

    fn begin(&mut self) -> Action {
        self.problem = None;
        self.page = Page::Progress;
        self.progress = Progress::default();
        self.heard_stop = false;
        Action::Install
    }

    fn passphrase_key(&mut self, key: Key) -> Action {
        match key {
            Key::Escape | Key::BackTab => {
                self.page = Page::Plan;
                self.input = Line::new("");
                self.problem = None;
            }
            Key::Enter => {
                let typed = Zeroizing::new(self.input.text().to_owned());
                self.input = Line::new("");
                match self.first.take() {
                    None => match crate::encryption::Passphrase::new(typed.as_bytes().to_vec().into()) {
                        Ok(_) => self.first = Some(typed),
                        Err(why) => self.problem = Some(why.to_string()),
                    },
                    Some(first) if *first == *typed => {
                        self.passphrase = Some(typed);
                        return self.begin();
                    }
                    Some(_) => self.problem = Some("the two differ; type it again".to_owned()),
                }
            }
            key => {
                if self.input.key(key) {
                    self.problem = None;
                }
            }
        }
        Action::Draw
    }

    /// Takes a key while the installation runs; whether it is to stop now.
    pub fn progress_key(&mut self, key: Key) -> bool {
        match (self.stopping, key) {
            (true, Key::Char('y' | 'Y')) => {
                self.stopping = false;
                self.heard_stop = true;
                true
            }
            (true, _) => {
                self.stopping = false;
                false
            }
            (false, Key::Control('c') | Key::Function(10)) if !self.heard_stop => {
                self.stopping = true;
                false
            }
            (false, _) => false,
        }
    }

    /// The installation was told to stop, by a key or by a signal. It can between two writes, and until then the screen says so.
    pub fn stop_was_heard(&mut self) {
        self.heard_stop = true;
    }

    /// What stays on the terminal when the screen is left after an installation that ended well.
    #[must_use]
    pub fn last_words(&self) -> String {
        let mut lines = self.over.join("\n");
        if !lines.is_empty() {
            lines.push('\n');
        }
        lines + "installed\n"
    }

    /// The installation is over: `Ok` with warnings, or why it failed.
    pub fn over(&mut self, result: Result<Vec<String>, String>) {
        self.page = Page::Over;
        self.progress.end();
        self.failed = result.is_err();
        self.over = match result {
            Ok(warnings) => warnings
                .into_iter()
                .map(|one| format!("Warning: {one}"))
                .collect(),
            Err(why) => vec![why],
        };
        // After a failure nobody starts again by mistake.
        self.marked = if self.failed { ENDS.len() - 1 } else { 0 };
    }

    fn over_key(&mut self, key: Key) -> Action {
        match key {
            Key::Up | Key::Char('k') => self.marked = self.marked.saturating_sub(1),
            Key::Down | Key::Char('j') => self.marked = (self.marked + 1).min(ENDS.len() - 1),
            Key::Char(digit @ '1'..='3') => self.marked = digit as usize - '1' as usize,
            Key::Enter => return Action::Leave(ENDS[self.marked.min(ENDS.len() - 1)].0),
            Key::Control('c') | Key::Escape => return Action::Leave(Leave::Shell),
            _ => {}
        }
        Action::Draw
    }
}
