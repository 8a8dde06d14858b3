//! Questions on a terminal: screens that each stand for one key of the answers.
//!
//! There are two ways to answer them. [`full`] takes the whole screen, with cursor keys, an overview of all answers and the progress of the installation, on
//! any terminal from 80×24 up, with and without colours. [`Session::run`] asks line by line: the same screens, answered by a number, a text, or a sign for
//! back, all answers, save and stop, for speech, braille and terminals that cannot move their cursor.

mod draw;
pub mod full;
pub mod keyboard;
pub mod line;
mod progress;
mod question;
mod screens;
mod session;
mod table;
mod text;

use std::io;

use zeroize::Zeroizing;

pub use draw::Look;
pub use progress::Progress;
pub use question::{Question, Section};
pub use session::{Advisor, Lists, Session};
pub use text::render;

/// Names to which a text can be completed, if they are so few that they are shown before anything is typed.
const FEW: usize = 8;

/// What a screen asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// One of its choices.
    Choice,
    /// Any number of its choices.
    Many,
    /// A line of text.
    Text,
    /// Words with spaces between them.
    Words,
    /// A line that is not shown.
    Secret,
    /// Commands that change a partition table.
    Table,
    /// The number of one of the answers that its body lists; of those who read line by line.
    List,
}

/// A possible answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice {
    /// What goes into the answers.
    pub value: String,
    /// What people read.
    pub text: String,
}

/// A screen.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Screen {
    /// The key of the answers.
    pub key: String,
    /// Heading.
    pub title: String,
    /// Explanation.
    pub body: Vec<String>,
    /// What it asks for.
    pub kind: Kind,
    /// Choices, where there are any; for text, what it can be completed to.
    pub choices: Vec<Choice>,
    /// What counts if the line is empty.
    pub current: String,
}

/// Where lines come from and screens go to.
pub trait Terminal {
    /// Shows a screen.
    ///
    /// # Errors
    /// When the terminal is gone.
    fn show(&mut self, screen: &Screen, number: usize, of: usize, problem: Option<&str>) -> io::Result<()>;

    /// A line; none at the end of the input. What is secret is not echoed.
    ///
    /// # Errors
    /// When the terminal is gone.
    fn line(&mut self, secret: bool) -> io::Result<Option<Zeroizing<String>>>;

    /// Lines of a list that are shown at a time.
    fn rows(&self) -> usize {
        usize::MAX
    }
}

/// How the questions ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// All are answered.
    Answered,
    /// To be saved and nothing more.
    Save,
    /// Given up.
    Stopped,
}

#[cfg(test)]
mod tests;
