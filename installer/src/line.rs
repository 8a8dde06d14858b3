//! Lines that somebody types. They are wiped when they go: some of them are secrets.

use std::io;

use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Longest line, in bytes: as much as a terminal passes on at once.
const LINE_MAX: usize = 4096;

/// Reads a line of standard input without its end; none at the end of the input. What is secret is not echoed.
///
/// The bytes come from the descriptor itself: `std::io::stdin` would keep a copy in its buffer that nobody wipes.
pub fn read(secret: bool) -> io::Result<Option<Zeroizing<String>>> {
    read_after("", secret)
}

/// Asks for a secret on standard error; the question is there when echo is off.
pub fn ask_secret(question: &str) -> io::Result<Option<Zeroizing<String>>> {
    read_after(question, true)
}

fn read_after(question: &str, secret: bool) -> io::Result<Option<Zeroizing<String>>> {
    let stdin = io::stdin();
    let before = if secret { tcgetattr(&stdin).ok() } else { None };
    if let Some(before) = &before {
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&stdin, OptionalActions::Now, &silent)?;
    }
    eprint!("{question}");
    let line = line(&mut |byte| Ok(rustix::io::read(&stdin, byte)?));
    if let Some(before) = &before {
        tcsetattr(&stdin, OptionalActions::Now, before)?;
        println!();
    }
    line
}

/// A line of what `read` gives byte by byte.
fn line(read: &mut dyn FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Option<Zeroizing<String>>> {
    // As large as it gets: nothing is left behind where it would have been moved from.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LINE_MAX));
    let mut byte = Zeroizing::new([0; 1]);
    loop {
        match read(&mut byte[..]) {
            Ok(0) if bytes.is_empty() => return Ok(None),
            Ok(0) => break,
            Ok(_) if byte[0] == b'\n' => break,
            Ok(_) if bytes.len() == LINE_MAX => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line of more than 4096 bytes",
                ));
            }
            Ok(_) => bytes.push(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    while bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a line that is not UTF-8"))?;
    Ok(Some(Zeroizing::new(text.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_end_where_they_end() {
        let mut input = &b"one\r\n\nlast"[..];
        let mut read = |buffer: &mut [u8]| io::Read::read(&mut input, buffer);
        let mut next = || line(&mut read).unwrap().map(|line| line.to_string());
        assert_eq!(next().as_deref(), Some("one"));
        assert_eq!(next().as_deref(), Some(""));
        assert_eq!(next().as_deref(), Some("last"));
        assert_eq!(next(), None);
        let mut long = io::Read::take(io::repeat(b'x'), 5000);
        assert!(line(&mut |buffer| io::Read::read(&mut long, buffer)).is_err());
        let mut odd = &b"\xff\n"[..];
        assert!(line(&mut |buffer| io::Read::read(&mut odd, buffer)).is_err());
    }
}
