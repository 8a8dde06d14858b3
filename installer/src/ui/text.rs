//! Screens as text.

use super::{Kind, Screen};

/// Breaks a line at spaces.
pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for part in text.lines() {
        let indent: String = part.chars().take_while(|c| *c == ' ').collect();
        let mut line = indent.clone();
        for word in part.split_whitespace() {
            let length = line.chars().count() + word.chars().count() + 1;
            if length > width && line.trim() != "" {
                lines.push(std::mem::replace(&mut line, indent.clone()));
            }
            if line.trim() != "" {
                line.push(' ');
            }
            // A word without spaces that is wider than the screen is cut there.
            line.extend(word.chars().take(width.saturating_sub(indent.len())));
        }
        lines.push(line);
    }
    lines
}

/// Lines that are too wide are continued, indented, on the next one: nothing is left out, and columns stay where they are.
pub(super) fn folded(text: &str, width: usize) -> Vec<String> {
    let width = width.max(16);
    let mut lines = Vec::new();
    for part in text.lines() {
        let mut rest: Vec<char> = part.chars().collect();
        let indent = rest.iter().take_while(|c| **c == ' ').count().min(width / 2) + 2;
        let mut first = true;
        loop {
            let room = if first { width } else { width - indent };
            let before = if first { String::new() } else { " ".repeat(indent) };
            if rest.len() <= room {
                lines.push(before + &rest.iter().collect::<String>());
                break;
            }
            // At the last space, unless that leaves less than half a line.
            let at = rest[..room]
                .iter()
                .rposition(|c| *c == ' ')
                .filter(|at| *at >= room / 2);
            let (taken, skipped) = at.map_or((room, room), |at| (at, at + 1));
            lines.push(before + &rest[..taken].iter().collect::<String>());
            rest.drain(..skipped);
            first = false;
        }
    }
    lines
}

/// A screen as lines of at most `width` characters; at most `height` of them, the last being where the answer is typed. `plain` leaves out
/// everything that only looks.
#[must_use]
pub fn render(
    screen: &Screen,
    number: usize,
    of: usize,
    problem: Option<&str>,
    (width, height): (usize, usize),
    plain: bool,
) -> Vec<String> {
    let wide = width.clamp(40, 100);
    let mut lines = vec![match screen.kind {
        Kind::List => screen.title.clone(),
        _ => format!("{number} of {of}: {}", screen.title),
    }];
    if !plain {
        lines.push("=".repeat(wide.min(lines[0].chars().count())));
        lines.push(String::new());
    }
    for text in &screen.body {
        lines.extend(wrapped(text, wide));
    }
    // What a text can be completed to is no list to choose from.
    let choices: &[super::Choice] = match screen.kind {
        Kind::Choice | Kind::Many => &screen.choices,
        _ => &[],
    };
    if !plain && !choices.is_empty() {
        lines.push(String::new());
    }
    let mut foot = Vec::new();
    if !plain {
        foot.push(String::new());
    }
    if let Some(problem) = problem {
        foot.extend(wrapped(&format!("That will not do: {problem}"), wide));
    }
    let help = match screen.kind {
        Kind::List => {
            "A number changes that answer and comes back here. Enter goes on, `<` goes back, `!s` saves the answers, `!q` stops."
        }
        _ => {
            "Enter keeps what is in brackets. `<` goes back, `!a` lists all answers to change any, `!s` saves them, `!q` stops."
        }
    };
    foot.extend(wrapped(help, wide));
    let room = height.saturating_sub(lines.len() + foot.len() + 2);
    let mut shown = Vec::new();
    let mut left_out = 0;
    for (at, choice) in choices.iter().enumerate() {
        let chosen = match screen.kind {
            Kind::Many => screen.current.split_whitespace().any(|one| one == choice.value),
            _ => choice.value == screen.current,
        };
        let mark = if chosen { "*" } else { " " };
        let texts = wrapped(&choice.text, wide.saturating_sub(6));
        let block: Vec<String> = texts
            .iter()
            .enumerate()
            .map(|(line, text)| {
                if line == 0 {
                    format!("{mark}{:>3}  {text}", at + 1)
                } else {
                    format!("      {text}")
                }
            })
            .collect();
        if shown.len() + block.len() > room && !plain {
            left_out = choices.len() - at;
            break;
        }
        shown.extend(block);
    }
    lines.extend(shown);
    // Of names that are typed a few are a help, and many are none.
    if screen.kind == Kind::Text && screen.choices.len() <= super::FEW {
        for choice in &screen.choices {
            lines.extend(wrapped(&format!("  {}", choice.text), wide));
        }
    }
    if left_out > 0 {
        lines.push(format!("      and {left_out} more; type a name"));
    }
    lines.extend(foot);
    let prompt = match (screen.kind, screen.current.as_str()) {
        (_, "") | (Kind::Table | Kind::List, _) => "> ".to_owned(),
        (Kind::Choice, current) => {
            let number = screen.choices.iter().position(|choice| choice.value == current);
            number.map_or_else(
                || format!("[{current}] > "),
                |number| format!("[{}] > ", number + 1),
            )
        }
        (_, current) => format!("[{current}] > "),
    };
    lines.push(prompt);
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_lost_where_lines_are_folded() {
        let long = format!("  bytes  {}  {}", "word ".repeat(20), "x".repeat(90));
        for width in [20, 40, 76, 200] {
            let lines = folded(&format!("a  b   c\n{long}"), width);
            assert_eq!(lines[0], "a  b   c");
            assert!(
                lines.iter().all(|line| line.chars().count() <= width),
                "{lines:#?}"
            );
            let seen: String = lines[1..].concat().split_whitespace().collect();
            assert_eq!(seen, long.split_whitespace().collect::<String>());
        }
    }
}
