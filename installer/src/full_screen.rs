//! The terminal under [`lycia_installer::ui::full`].

use std::io::{self, Read as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lycia_installer::ui::Look;
use lycia_installer::ui::full::Full;
use lycia_installer::ui::keyboard::{Key, Keyboard};
use ratatui::backend::CrosstermBackend;
use ratatui::layout::Rect;
use ratatui::{TerminalOptions, Viewport};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// The smallest screen on which everything has its place.
const SMALLEST: (u16, u16) = (80, 24);
/// How long an escape waits for the rest of a key: a serial line of 9600 bits delivers a byte in a millisecond, a network in ten.
const ESCAPE: Duration = Duration::from_millis(150);
/// How often signals and the size are looked at.
const TICK: Duration = Duration::from_millis(250);

type Drawing = ratatui::Terminal<CrosstermBackend<io::Stdout>>;

/// A terminal that is drawn on; as it was before when this goes.
pub struct FullScreen {
    terminal: Drawing,
    before: Termios,
    keyboard: Keyboard,
    keys: Vec<Key>,
    look: Look,
    size: (u16, u16),
    /// The terminal tells its size.
    tells: bool,
    /// Set by signals that end the program.
    pub stop: Arc<AtomicBool>,
}

/// Whether input can be read within `wait`.
fn readable(wait: Duration) -> io::Result<bool> {
    let stdin = io::stdin();
    let mut fds = [PollFd::new(&stdin, PollFlags::IN)];
    let wait = Timespec {
        tv_sec: wait.as_secs() as i64,
        tv_nsec: wait.subsec_nanos().into(),
    };
    match poll(&mut fds, Some(&wait)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn drawing((width, height): (u16, u16)) -> io::Result<Drawing> {
    // Fixed: it would ask for the size of the terminal at every turn, by a program where the terminal does not tell.
    let viewport = Viewport::Fixed(Rect::new(0, 0, width, height));
    ratatui::Terminal::with_options(CrosstermBackend::new(io::stdout()), TerminalOptions { viewport })
}

fn told_size() -> Option<(u16, u16)> {
    let size = tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0 && size.ws_row > 0).then_some((size.ws_col, size.ws_row))
}

/// The place of the cursor in what a terminal answered to `CSI 6 n` (ECMA-48 DSR, CPR): `CSI row ; column R`.
fn cursor(answer: &[u8]) -> Option<(u16, u16)> {
    let text = std::str::from_utf8(answer).ok()?;
    let from = text.rfind("\x1b[")? + 2;
    let (row, column) = text[from..].strip_suffix('R')?.split_once(';')?;
    Some((column.parse().ok()?, row.parse().ok()?))
}

/// Asks a terminal that does not tell its size, as a serial line does not, where the cursor stops on its way to the far corner.
fn asked_size() -> io::Result<Option<(u16, u16)>> {
    let mut out = io::stdout();
    out.write_all(b"\x1b7\x1b[999;999H\x1b[6n\x1b8")?;
    out.flush()?;
    let end = Instant::now() + Duration::from_millis(500);
    let mut answer = Vec::new();
    while answer.len() < 64 {
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() || !readable(left)? {
            break;
        }
        let mut byte = [0];
        if io::stdin().lock().read(&mut byte)? == 0 {
            break;
        }
        answer.push(byte[0]);
        if byte[0] == b'R' {
            break;
        }
    }
    Ok(cursor(&answer))
}

/// What the terminal of this name can show. Serial lines are called after DEC's terminals, which have neither colours nor these characters.
fn look(term: &str, no_color: bool) -> Look {
    let plain = term.starts_with("vt") || term == "dumb" || term.is_empty() || term == "ansi";
    Look {
        color: !plain && !no_color,
        unicode: !plain,
    }
}

impl FullScreen {
    /// Takes the terminal; none where there is no terminal, or one that cannot be drawn on.
    pub fn open() -> io::Result<Option<FullScreen>> {
        let term = std::env::var("TERM").unwrap_or_default();
        let Ok(before) = tcgetattr(io::stdin()) else {
            return Ok(None);
        };
        if term == "dumb" || tcgetattr(io::stdout()).is_err() {
            return Ok(None);
        }
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        let opened = Self::taken(&term, before.clone());
        if !matches!(opened, Ok(Some(_))) {
            tcsetattr(io::stdin(), OptionalActions::Now, &before)?;
        }
        opened
    }

    fn taken(term: &str, before: Termios) -> io::Result<Option<FullScreen>> {
        let told = told_size();
        let size = match told {
            Some(size) => size,
            None => asked_size()?.unwrap_or(SMALLEST),
        };
        if size.0 < SMALLEST.0 || size.1 < SMALLEST.1 {
            return Ok(None);
        }
        let stop = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP] {
            signal_hook::flag::register(signal, Arc::clone(&stop))?;
        }
        let mut out = io::stdout();
        // The other screen, where there is one; wrapping at the end of lines off.
        out.write_all(b"\x1b[?1049h\x1b[?7l\x1b[2J")?;
        out.flush()?;
        let terminal = drawing(size)?;
        Ok(Some(FullScreen {
            terminal,
            before,
            keyboard: Keyboard::default(),
            keys: Vec::new(),
            look: look(
                term,
                std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty()),
            ),
            size,
            tells: told.is_some(),
            stop,
        }))
    }

    /// Draws.
    pub fn draw(&mut self, full: &Full) -> io::Result<()> {
        if self.tells
            && let Some(size) = told_size()
            && size != self.size
        {
            self.size = size;
            self.terminal = drawing(size)?;
            self.again()?;
        }
        let look = self.look;
        self.terminal.draw(|frame| full.draw(frame, look))?;
        Ok(())
    }

    /// Everything is drawn anew: something else wrote on the screen, or the line lost bytes.
    pub fn again(&mut self) -> io::Result<()> {
        // Not `Terminal::clear`, which asks the terminal where its cursor is and reads the answer past our keyboard.
        let mut out = io::stdout();
        out.write_all(b"\x1b[0m\x1b[2J")?;
        out.flush()?;
        // With both of its buffers empty all that is drawn next differs.
        self.terminal.swap_buffers();
        Ok(())
    }

    /// The next key within `wait`; none where there is none, or a signal came.
    pub fn key_within(&mut self, wait: Duration) -> io::Result<Option<Key>> {
        if let Some(key) = self.next() {
            return Ok(Some(key));
        }
        let wait = if self.keyboard.waits() { ESCAPE } else { wait };
        if !readable(wait)? {
            return Ok(self.keyboard.nothing_followed());
        }
        let mut bytes = [0; 256];
        let count = io::stdin().lock().read(&mut bytes)?;
        if count == 0 {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the terminal is gone",
            ));
        }
        self.keys.extend(self.keyboard.feed(&bytes[..count]));
        Ok(self.next())
    }

    fn next(&mut self) -> Option<Key> {
        (!self.keys.is_empty()).then(|| self.keys.remove(0))
    }

    /// The next key; none when the program is told to end.
    pub fn key(&mut self, full: &Full) -> io::Result<Option<Key>> {
        loop {
            if self.stop.load(Ordering::SeqCst) {
                return Ok(None);
            }
            match self.key_within(TICK)? {
                Some(Key::Control('l')) => {
                    self.again()?;
                    self.draw(full)?;
                }
                Some(key) => return Ok(Some(key)),
                None if self.tells && told_size().is_some_and(|size| size != self.size) => self.draw(full)?,
                None => {}
            }
        }
    }
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        let mut out = io::stdout();
        // Wrapping on, attributes off, the cursor shown, below what was drawn, and back to the first screen.
        let end = format!("\x1b[0m\x1b[?7h\x1b[?25h\x1b[{};1H\x1b[?1049l\r\n", self.size.1);
        let _ = out.write_all(end.as_bytes());
        let _ = out.flush();
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_says_where_its_corner_is() {
        assert_eq!(cursor(b"\x1b[43;132R"), Some((132, 43)));
        assert_eq!(cursor(b"typed\x1b[24;80R"), Some((80, 24)));
        for rubbish in [
            &b""[..],
            b"\x1b[R",
            b"\x1b[1R",
            b"\x1b[99999999;1R",
            b"\xff\x1b[1;1R",
        ] {
            assert_eq!(cursor(rubbish), None);
        }
    }

    #[test]
    fn serial_lines_are_plain() {
        for (term, no_color, color, unicode) in [
            ("vt102", false, false, false),
            ("", false, false, false),
            ("linux", false, true, true),
            ("xterm-256color", true, false, true),
        ] {
            assert_eq!(look(term, no_color), Look { color, unicode }, "{term}");
        }
    }
}
