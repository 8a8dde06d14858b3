//! Draws [`Full`] with ratatui.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::{border, line};
use ratatui::text::{Line as Text, Span};
use ratatui::widgets::{Block, Borders, Clear, Paragraph};

use super::full::{ENDS, Full, Page};
use super::text::{folded, wrapped};
use super::{Kind, Screen, Section};

/// What the terminal can show.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Look {
    /// Colours.
    pub color: bool,
    /// Characters beyond ASCII: those of code page 437, which the fonts of consoles have.
    pub unicode: bool,
}

/// Columns from which all answers are shown beside the question.
const WIDE: u16 = 104;
/// Columns of the answers.
const SIDE: u16 = 38;
/// Columns of a paragraph at most.
const PARAGRAPH: u16 = 96;

impl Look {
    fn bar(self) -> Style {
        if self.color {
            Style::new()
                .fg(Color::White)
                .bg(Color::Blue)
                .add_modifier(Modifier::BOLD)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }

    fn marked(self) -> Style {
        if self.color {
            Style::new().fg(Color::Black).bg(Color::Cyan)
        } else {
            Style::new().add_modifier(Modifier::REVERSED)
        }
    }

    fn title(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.color { bold.fg(Color::Cyan) } else { bold }
    }

    fn problem(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.color {
            bold.fg(Color::LightRed)
        } else {
            bold
        }
    }

    fn good(self) -> Style {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        if self.color {
            bold.fg(Color::LightGreen)
        } else {
            bold
        }
    }

    fn faint(self) -> Style {
        if self.color {
            Style::new().fg(Color::Gray)
        } else {
            Style::new()
        }
    }

    fn borders(self) -> border::Set<'static> {
        if self.unicode {
            border::PLAIN
        } else {
            border::Set {
                top_left: "+",
                top_right: "+",
                bottom_left: "+",
                bottom_right: "+",
                vertical_left: "|",
                vertical_right: "|",
                horizontal_top: "-",
                horizontal_bottom: "-",
            }
        }
    }

    fn pointer(self) -> &'static str {
        if self.unicode { "►" } else { ">" }
    }

    fn done(self) -> &'static str {
        if self.unicode { "√" } else { "*" }
    }
}

/// A line as wide as `width`, cut or filled.
fn fitted(text: &str, width: usize) -> String {
    let mut line: String = text.chars().take(width).collect();
    let length = line.chars().count();
    line.extend(std::iter::repeat_n(' ', width - length));
    line
}

/// Lines that are collected from the top down, and where the cursor is in them.
struct Column<'l> {
    lines: Vec<Text<'l>>,
    width: usize,
    cursor: Option<(u16, u16)>,
}

impl<'l> Column<'l> {
    fn new(width: u16) -> Column<'l> {
        Column {
            lines: Vec::new(),
            width: usize::from(width),
            cursor: None,
        }
    }

    fn gap(&mut self) {
        self.lines.push(Text::default());
    }

    fn text(&mut self, text: &str, style: Style) {
        for line in wrapped(text, self.width.min(PARAGRAPH.into())) {
            self.lines.push(Text::styled(line, style));
        }
    }

    /// An input line with its cursor; the part around the cursor where it is too long.
    fn input(&mut self, prompt: &str, shown: &str, at: usize) {
        let room = self.width.saturating_sub(prompt.chars().count() + 1).max(8);
        let first = at.saturating_sub(room.saturating_sub(1));
        let part: String = shown.chars().skip(first).take(room).collect();
        let column = prompt.chars().count() + at - first;
        self.cursor = Some((column as u16, self.lines.len() as u16));
        self.lines.push(Text::from(vec![
            Span::styled(prompt.to_owned(), Style::new().add_modifier(Modifier::BOLD)),
            Span::styled(part, Style::new().add_modifier(Modifier::UNDERLINED)),
        ]));
    }

    fn draw(self, frame: &mut Frame, area: Rect) {
        if let Some((x, y)) = self.cursor
            && y < area.height
        {
            frame.set_cursor_position((area.x + x.min(area.width.saturating_sub(1)), area.y + y));
        }
        frame.render_widget(Paragraph::new(self.lines), area);
    }
}

/// A row of the overview.
enum Row {
    Heading(&'static str),
    Question { text: String, at: usize },
    Continue,
}

impl Full<'_> {
    /// Draws the screen.
    pub fn draw(&self, frame: &mut Frame, look: Look) {
        let area = frame.area();
        let [top, middle, bottom] =
            Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(1)]).areas(area);
        self.bars(frame, top, bottom, look);
        let inside = Rect {
            x: middle.x + 1,
            y: middle.y + 1,
            width: middle.width.saturating_sub(2),
            height: middle.height.saturating_sub(1),
        };
        let main = if area.width >= WIDE && self.page == Page::Question {
            let [side, rule, _, main] = Layout::horizontal([
                Constraint::Length(SIDE),
                Constraint::Length(1),
                Constraint::Length(2),
                Constraint::Min(20),
            ])
            .areas(inside);
            self.side(frame, side, look);
            let vertical = if look.unicode { line::VERTICAL } else { "|" };
            let rows: Vec<Text> = (0..rule.height).map(|_| Text::raw(vertical)).collect();
            frame.render_widget(Paragraph::new(rows), rule);
            main
        } else {
            inside
        };
        match self.page {
            Page::Question => self.question(frame, main, look),
            Page::Overview => self.answers(frame, main, look),
            Page::Plan => self.plan_page(frame, main, look),
            Page::Passphrase => self.passphrase_page(frame, main, look),
            Page::Progress => self.progress_page(frame, main, look),
            Page::Over => self.end_page(frame, main, look),
        }
        if self.stopping {
            self.stop_box(frame, area, look);
        }
    }

    fn bars(&self, frame: &mut Frame, top: Rect, bottom: Rect, look: Look) {
        let place = match self.page {
            Page::Question => {
                let (number, of) = self.session.place();
                match self.session.at {
                    Some(question) if question.asked() => {
                        format!("{}, {number} of {of} ", question.section().title())
                    }
                    Some(question) => format!("{} ", question.section().title()),
                    None => String::new(),
                }
            }
            Page::Overview => "All answers ".to_owned(),
            Page::Plan | Page::Passphrase => "The plan ".to_owned(),
            Page::Progress => "Installing ".to_owned(),
            Page::Over => String::new(),
        };
        let name = &self.session.medium.install.name;
        let left = format!(" Install {}", if name.is_empty() { "the system" } else { name });
        let width = usize::from(top.width);
        let line = fitted(&left, width.saturating_sub(place.chars().count())) + &place;
        frame.render_widget(Paragraph::new(fitted(&line, width)).style(look.bar()), top);
        let arrows = if look.unicode { "↑↓" } else { "Up/Down" };
        let keys = match self.page {
            Page::Question => match self.open().map(|(_, screen)| screen.kind) {
                Some(Kind::Many) => format!(
                    " {arrows} move  Space choose  Enter next  Esc back  Tab all answers  ^S save  ^C stop"
                ),
                Some(Kind::Table) if self.command => " Enter obey  Esc leave it".to_owned(),
                Some(Kind::Table) => {
                    format!(" {arrows} move  Space use  d delete  n new  : command  Enter next  Esc back")
                }
                Some(Kind::Choice) => {
                    format!(" {arrows} choose  Enter next  Esc back  Tab all answers  ^S save  ^C stop")
                }
                _ => " Enter next  Esc back  Tab all answers  ^S save  ^C stop".to_owned(),
            },
            Page::Overview => {
                format!(" {arrows} move  Enter change  Esc back  Tab to the end  ^S save  ^C stop")
            }
            Page::Plan => {
                format!(" {arrows} PgUp PgDn scroll  Enter agree  Esc all answers  ^S save  ^C stop")
            }
            Page::Passphrase => " Enter next  Esc back  ^C stop".to_owned(),
            Page::Progress => " Please leave the machine on  ^C stop".to_owned(),
            Page::Over => format!(" {arrows} choose  Enter do it"),
        };
        let keys = self.said.as_ref().map_or(keys, |said| format!(" {said}"));
        frame.render_widget(
            Paragraph::new(fitted(&keys, usize::from(bottom.width))).style(look.bar()),
            bottom,
        );
    }

    /// The rows of all answers; `asked` leaves out what not everybody is asked.
    fn answer_rows(&self, width: usize, asked: bool) -> Vec<Row> {
        let mut rows = Vec::new();
        let mut last: Option<Section> = None;
        for (at, question) in self.session.all().into_iter().enumerate() {
            if asked && !question.asked() {
                continue;
            }
            if last != Some(question.section()) {
                last = Some(question.section());
                rows.push(Row::Heading(question.section().title()));
            }
            let value = crate::show::printable(&self.session.current(question));
            let text = fitted(&format!("{:<15} {value}", question.name()), width);
            rows.push(Row::Question { text, at });
        }
        rows
    }

    /// Rows as lines, `marked` highlighted, so scrolled that it is seen.
    fn list(&self, rows: &[Row], marked: Option<usize>, height: usize, look: Look) -> Vec<Text<'static>> {
        let place = rows.iter().position(|row| match row {
            Row::Question { at, .. } => Some(*at) == marked,
            Row::Continue => marked == Some(usize::MAX),
            Row::Heading(_) => false,
        });
        let first = place
            .unwrap_or(0)
            .saturating_sub(height / 2)
            .min(rows.len().saturating_sub(height));
        let shown = rows.iter().enumerate().skip(first).take(height);
        shown
            .map(|(number, row)| {
                let here = place == Some(number);
                let mark = if here { look.pointer() } else { " " };
                let style = if here { look.marked() } else { Style::new() };
                match row {
                    Row::Heading(title) => Text::styled((*title).to_owned(), look.title()),
                    Row::Question { text, .. } => Text::styled(format!("{mark} {text}"), style),
                    Row::Continue => {
                        Text::styled(format!("{mark} Show the plan: nothing is written yet"), style)
                    }
                }
            })
            .collect()
    }

    fn side(&self, frame: &mut Frame, area: Rect, look: Look) {
        let rows = self.answer_rows(usize::from(area.width).saturating_sub(2), true);
        let all = self.session.all();
        let marked = self
            .session
            .at
            .and_then(|question| all.iter().position(|one| *one == question));
        let lines = self.list(&rows, marked, area.height.into(), look);
        frame.render_widget(Paragraph::new(lines), area);
    }

    fn answers(&self, frame: &mut Frame, area: Rect, look: Look) {
        let mut column = Column::new(area.width);
        let problems = self.session.problems();
        let foot = usize::from(!problems.is_empty()) * 3 + usize::from(self.problem.is_some()) * 3;
        let mut rows = self.answer_rows(usize::from(area.width).saturating_sub(2), false);
        rows.push(Row::Continue);
        let marked = if self.marked >= self.session.all().len() {
            usize::MAX
        } else {
            self.marked
        };
        let height = usize::from(area.height).saturating_sub(foot).max(3);
        column.lines = self.list(&rows, Some(marked), height, look);
        if let Some(first) = problems.first() {
            column.gap();
            let more = match problems.len() {
                1 => String::new(),
                count => format!(" (and {} more)", count - 1),
            };
            column.text(
                &format!("Not yet: {}: {}{more}", first.key, first.what),
                look.problem(),
            );
        }
        if let Some(problem) = &self.problem {
            column.gap();
            column.text(problem, look.problem());
        }
        column.draw(frame, area);
    }

    fn question(&self, frame: &mut Frame, area: Rect, look: Look) {
        let Some((_, screen)) = self.open() else { return };
        let mut column = Column::new(area.width);
        let title = if self.first.is_some() {
            "The same again, please"
        } else {
            &screen.title
        };
        column.text(title, look.title());
        column.gap();
        // The rows of a table stand in the body for those who read line by line.
        let body = if screen.kind == Kind::Table {
            1
        } else {
            screen.body.len()
        };
        // The problem stands where it is seen whatever else there is.
        let problem = self
            .problem
            .as_ref()
            .map(|problem| wrapped(problem, column.width.min(PARAGRAPH.into())))
            .unwrap_or_default();
        let suggestions = self.suggestions(&screen);
        let mut lines: Vec<String> = screen
            .body
            .iter()
            .take(body)
            .flat_map(|text| wrapped(text, column.width.min(PARAGRAPH.into())))
            .collect();
        if matches!(screen.kind, Kind::Text | Kind::Words) {
            // Nor is the line in which one types ever pushed off the screen.
            let below = 2
                + if problem.is_empty() { 0 } else { problem.len() + 1 }
                + if suggestions.is_empty() {
                    0
                } else {
                    suggestions.len() + 1
                };
            let room = usize::from(area.height)
                .saturating_sub(column.lines.len() + below)
                .max(2);
            let count = lines.len();
            self.room.set((room - 1, count));
            if count > room {
                let first = self.scroll.min(count - (room - 1));
                let last = first + room - 1;
                lines = lines[first..last].to_vec();
                lines.push(format!("  lines {} to {last} of {count}: PgUp PgDn", first + 1));
            }
        }
        for line in lines {
            column.lines.push(Text::raw(line));
        }
        column.gap();
        let room = usize::from(area.height)
            .saturating_sub(column.lines.len() + if problem.is_empty() { 0 } else { problem.len() + 1 });
        match screen.kind {
            Kind::Choice | Kind::Many => self.choice_lines(&mut column, &screen, room, look),
            Kind::Table => self.table_lines(&mut column, room, look),
            Kind::List => {}
            Kind::Text | Kind::Words => {
                column.input("> ", self.input.text(), self.input.at());
                if !suggestions.is_empty() {
                    column.gap();
                }
                for (at, choice) in suggestions.iter().enumerate().take(room.saturating_sub(2)) {
                    let here = self.marked == at + 1;
                    let mark = if here { look.pointer() } else { " " };
                    let style = if here { look.marked() } else { look.faint() };
                    column
                        .lines
                        .push(Text::styled(format!("{mark} {}", choice.text), style));
                }
            }
            Kind::Secret => {
                let stars = "*".repeat(self.input.text().chars().count());
                column.input("> ", &stars, self.input.at());
                column.gap();
                column.text(&format!("Now: {}. Enter keeps it.", screen.current), look.faint());
            }
        }
        if !problem.is_empty() {
            column.gap();
            for line in problem {
                column.lines.push(Text::styled(line, look.problem()));
            }
        }
        column.draw(frame, area);
    }

    fn table_lines(&self, column: &mut Column, room: usize, look: Look) {
        let rows = self.rows();
        // What the columns have no room for is said of the row that is marked.
        let facts = rows.get(self.marked).and_then(|row| row.facts.as_ref());
        let mut facts: Vec<String> = facts
            .map(|facts| wrapped(facts, column.width.min(PARAGRAPH.into())))
            .unwrap_or_default();
        facts.truncate(4);
        let below = 2 + if facts.is_empty() { 0 } else { facts.len() + 1 };
        let room = room.saturating_sub(below).max(1);
        let first = self.marked.saturating_sub(room.saturating_sub(1));
        let width = column.width;
        for (at, row) in rows.iter().enumerate().skip(first).take(room) {
            let here = at == self.marked;
            let mark = if here { look.pointer() } else { " " };
            let style = if here { look.marked() } else { Style::new() };
            column.lines.push(Text::styled(
                fitted(&format!("{mark} {}", row.text), width),
                style,
            ));
        }
        if rows.is_empty() {
            column.text("Choose a disk first.", look.problem());
        }
        if !facts.is_empty() {
            column.gap();
            for line in facts {
                column.lines.push(Text::styled(line, look.faint()));
            }
        }
        if self.command {
            column.gap();
            column.input(": ", self.input.text(), self.input.at());
        }
    }

    fn choice_lines(&self, column: &mut Column, screen: &Screen, room: usize, look: Look) {
        let width = column.width.min(PARAGRAPH.into());
        let many = screen.kind == Kind::Many;
        let blocks: Vec<Vec<Text>> = screen
            .choices
            .iter()
            .enumerate()
            .map(|(at, choice)| {
                let here = at == self.marked;
                let style = if here { look.marked() } else { Style::new() };
                let mark = if here { look.pointer() } else { " " };
                let head = match (many, self.chosen.contains(&choice.value)) {
                    (false, _) if at < 9 => format!("{mark} {} ", at + 1),
                    (false, _) => format!("{mark}   "),
                    (true, true) => format!("{mark} [x] "),
                    (true, false) => format!("{mark} [ ] "),
                };
                let indent = head.chars().count();
                wrapped(&choice.text, width.saturating_sub(indent))
                    .iter()
                    .enumerate()
                    .map(|(number, line)| {
                        let text = if number == 0 {
                            format!("{head}{line}")
                        } else {
                            format!("{}{line}", " ".repeat(indent))
                        };
                        Text::styled(fitted(&text, width), style)
                    })
                    .collect()
            })
            .collect();
        // So many blocks before the marked one that it still fits.
        let mut first = 0;
        let height = |from: usize| -> usize {
            blocks[from..]
                .iter()
                .take(self.marked + 1 - from)
                .map(Vec::len)
                .sum()
        };
        while first < self.marked && height(first) > room {
            first += 1;
        }
        if first > 0 {
            // In place of a line of the first block that is shown: there is more above.
            if let Some(last) = column.lines.last_mut() {
                *last = Text::styled(if look.unicode { "  ↑ more" } else { "  ^ more" }, look.faint());
            }
        }
        let mut lines: Vec<Text> = blocks.into_iter().skip(first).flatten().collect();
        if lines.len() > room && room > 0 {
            lines.truncate(room - 1);
            lines.push(Text::styled(
                if look.unicode { "  ↓ more" } else { "  v more" },
                look.faint(),
            ));
        }
        if screen.choices.is_empty() {
            lines.push(Text::styled("(there is nothing to choose from)", look.problem()));
        }
        column.lines.extend(lines);
    }

    fn plan_page(&self, frame: &mut Frame, area: Rect, look: Look) {
        let [upper, lower] = Layout::vertical([Constraint::Min(3), Constraint::Length(4)]).areas(area);
        let block = Block::new().borders(Borders::ALL).border_set(look.borders());
        let inner = block.inner(upper);
        let room = usize::from(inner.height);
        let plan = folded(&self.plan, inner.width.into());
        self.room.set((room, plan.len()));
        let first = self.scroll.min(plan.len().saturating_sub(room));
        let last = plan.len().min(first + room);
        let title = format!(" lines {} to {last} of {} ", first + 1, plan.len());
        frame.render_widget(block.title_bottom(title), upper);
        let lines: Vec<Text> = plan.into_iter().skip(first).take(room).map(Text::raw).collect();
        frame.render_widget(Paragraph::new(lines), inner);
        let mut column = Column::new(lower.width);
        column.text(
            &format!(
                "Type `{}` and Enter to write this plan to the disk. It is the last question before something is lost.",
                self.name
            ),
            Style::new(),
        );
        column.input("> ", self.input.text(), self.input.at());
        if let Some(problem) = &self.problem {
            column.text(problem, look.problem());
        }
        column.draw(frame, lower);
    }

    fn passphrase_page(&self, frame: &mut Frame, area: Rect, look: Look) {
        let mut column = Column::new(area.width);
        column.text(
            if self.first.is_some() {
                "The same again, please"
            } else {
                "Passphrase of the encrypted root"
            },
            look.title(),
        );
        column.gap();
        column.text(
            "It is not shown, and asked for at every start. Who loses it loses everything on the root.",
            Style::new(),
        );
        if let Some(said) = self.session.passphrase_layout(true) {
            column.gap();
            column.text(&said, look.problem());
        }
        column.gap();
        let stars = "*".repeat(self.input.text().chars().count());
        column.input("> ", &stars, self.input.at());
        if let Some(problem) = &self.problem {
            column.gap();
            column.text(problem, look.problem());
        }
        column.draw(frame, area);
    }

    fn progress_page(&self, frame: &mut Frame, area: Rect, look: Look) {
        let mut column = Column::new(area.width);
        column.text("Installing", look.title());
        column.gap();
        self.stages(&mut column, usize::from(area.height).saturating_sub(7), look);
        let progress = &self.progress;
        if !progress.stage.is_empty() {
            column.lines.push(Text::raw(format!(
                "{} {} {}",
                look.pointer(),
                progress.stage,
                progress.words
            )));
            let width = column.width.min(72);
            let (full, empty) = if look.unicode { ("█", "░") } else { ("#", ".") };
            if let Some(ratio) = progress.ratio() {
                let filled = (ratio * width as f64) as usize;
                column.gap();
                column.lines.push(Text::from(vec![
                    Span::styled(full.repeat(filled), look.good()),
                    Span::styled(empty.repeat(width - filled), look.faint()),
                    Span::raw(format!(" {:>3} %", (ratio * 100.0) as u64)),
                ]));
            }
            column.text(&progress.clock(), look.faint());
        }
        if self.heard_stop {
            column.gap();
            column.text(
                "It was heard that you want to stop: that is done at the next write to the disk. What runs now is waited for.",
                look.problem(),
            );
        }
        column.draw(frame, area);
    }

    fn stages(&self, column: &mut Column, room: usize, look: Look) {
        let over = &self.progress.over;
        for (stage, took) in over.iter().skip(over.len().saturating_sub(room)) {
            column.lines.push(Text::from(vec![
                Span::styled(format!("{} ", look.done()), look.good()),
                Span::raw(fitted(stage, 50)),
                Span::styled(format!("{:>6.1} s", took.as_secs_f32()), look.faint()),
            ]));
        }
    }

    fn end_page(&self, frame: &mut Frame, area: Rect, look: Look) {
        let mut column = Column::new(area.width);
        if self.failed {
            column.text("The installation did not end well", look.problem());
        } else {
            column.text("Installed", look.good());
        }
        column.gap();
        for line in &self.over {
            column.text(line, if self.failed { look.problem() } else { Style::new() });
        }
        if self.failed {
            column.gap();
            column.text("The answers are saved.", Style::new());
        } else {
            let room = usize::from(area.height).saturating_sub(column.lines.len() + ENDS.len() + 2);
            self.stages(&mut column, room, look);
        }
        column.gap();
        for (at, (_, text)) in ENDS.iter().enumerate() {
            let here = at == self.marked;
            let mark = if here { look.pointer() } else { " " };
            let style = if here { look.marked() } else { Style::new() };
            column
                .lines
                .push(Text::styled(format!("{mark} {} {text}", at + 1), style));
        }
        column.draw(frame, area);
    }

    fn stop_box(&self, frame: &mut Frame, area: Rect, look: Look) {
        let text = match self.page {
            Page::Progress => "Stop? The disk stays half written: resume or undo. y stops.",
            _ => "Stop here? Nothing was written. y stops, any other key goes on.",
        };
        let width = (text.chars().count() as u16 + 4).min(area.width);
        let place = Rect {
            x: (area.width - width) / 2,
            y: area.height / 2 - 1,
            width,
            height: 3,
        };
        frame.render_widget(Clear, place);
        let block = Block::new().borders(Borders::ALL).border_set(look.borders());
        frame.render_widget(
            Paragraph::new(format!(" {text}")).block(block).style(look.bar()),
            place,
        );
    }
}
