//! Removes terminal control from console output (ECMA-48 sequences, as GRUB, firmware and shells write them).

/// Longest control sequence and longest control string that are waited for; what is longer is not one.
const SEQUENCE_LIMIT: usize = 128;
const STRING_LIMIT: usize = 4096;

const ESCAPE: u8 = 0x1b;

/// What remains of console output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// One byte of text, or a tab.
    Byte(u8),
    /// A line feed.
    NewLine,
    /// The cursor went elsewhere: text that follows does not continue the line.
    Jump,
    /// The cursor was put at this place, counted from 1.
    Place { row: u32, column: u32 },
    /// One character back.
    Back,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Text,
    Return,
    Escape,
    Designation,
    Sequence { length: usize, parameters: Parameters },
    String { length: usize },
    StringEscape,
}

/// The first two numbers of a control sequence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Parameters {
    numbers: [u32; 2],
    index: usize,
}

impl Parameters {
    fn push(mut self, byte: u8) -> Self {
        match (byte, self.numbers.get_mut(self.index)) {
            (b';', _) => self.index += 1,
            (b'0'..=b'9', Some(number)) => {
                *number = number.saturating_mul(10).saturating_add(u32::from(byte - b'0'));
            }
            _ => {}
        }
        self
    }
}

/// Turns raw console bytes into [`Piece`]s; keeps its state between reads.
#[derive(Debug)]
pub(crate) struct Stripper {
    state: State,
    /// Where the cursor is, from 1; the row is too large once the screen has scrolled.
    row: u32,
    column: u32,
}

impl Stripper {
    pub(crate) fn new() -> Self {
        Self {
            state: State::Text,
            row: 1,
            column: 1,
        }
    }

    pub(crate) fn feed(&mut self, bytes: &[u8], mut emit: impl FnMut(Piece)) {
        let (mut row, mut column) = (self.row, self.column);
        for &byte in bytes {
            self.byte(byte, &mut |piece| {
                match piece {
                    Piece::Byte(byte) if byte & 0xc0 == 0x80 => {}
                    Piece::Byte(_) => column = column.saturating_add(1),
                    Piece::NewLine => (row, column) = (row.saturating_add(1), 1),
                    // EDK II's terminal names the place of each character: mostly that where the cursor is anyway.
                    Piece::Place {
                        row: to,
                        column: there,
                    } => {
                        let stays = there == column && there > 1 && to <= row;
                        (row, column) = (to, there);
                        if stays {
                            return;
                        }
                    }
                    Piece::Jump => column = 1,
                    Piece::Back => column = column.saturating_sub(1).max(1),
                }
                emit(piece);
            });
        }
        (self.row, self.column) = (row, column);
    }

    fn byte(&mut self, byte: u8, emit: &mut impl FnMut(Piece)) {
        self.state = match self.state {
            State::Text => text(byte, emit),
            State::Return => match byte {
                b'\r' => State::Return,
                b'\n' => text(byte, emit),
                _ => {
                    emit(Piece::Jump);
                    text(byte, emit)
                }
            },
            State::Escape => match byte {
                b'[' => State::Sequence {
                    length: 0,
                    parameters: Parameters::default(),
                },
                b']' | b'P' | b'X' | b'^' | b'_' => State::String { length: 0 },
                b' ' | b'#' | b'%' | b'(' | b')' | b'*' | b'+' | b'-' | b'.' | b'/' => State::Designation,
                ESCAPE => State::Escape,
                // RIS clears the screen; NEL and IND go to another line.
                b'c' | b'D' | b'E' => {
                    emit(Piece::Jump);
                    State::Text
                }
                0..0x20 => text(byte, emit),
                _ => State::Text,
            },
            State::Designation => State::Text,
            State::Sequence { length, parameters } => match byte {
                0x20..=0x3f if length < SEQUENCE_LIMIT => State::Sequence {
                    length: length + 1,
                    parameters: parameters.push(byte),
                },
                0x40..=0x7e => {
                    match byte {
                        // CUP and HVP.
                        b'H' | b'f' => {
                            let [row, column] = parameters.numbers.map(|number| number.max(1));
                            emit(Piece::Place { row, column });
                        }
                        // VPA, CNL, CPL, CUU, CUD.
                        b'd' | b'E' | b'F' | b'A' | b'B' => emit(Piece::Jump),
                        // ED of the whole screen; line editors erase what is below with every key.
                        b'J' if parameters.numbers[0] >= 2 => emit(Piece::Jump),
                        // CUF and CHA: text further to the right.
                        b'C' | b'G' => emit(Piece::Byte(b' ')),
                        _ => {}
                    }
                    State::Text
                }
                // Not a sequence after all.
                _ => text(byte, emit),
            },
            State::String { length } => match byte {
                0x07 => State::Text,
                ESCAPE => State::StringEscape,
                _ if length < STRING_LIMIT => State::String { length: length + 1 },
                _ => text(byte, emit),
            },
            // ST is ESC \; another ESC sequence ends the string too.
            State::StringEscape => match byte {
                b'\\' => State::Text,
                _ => {
                    self.state = State::Escape;
                    return self.byte(byte, emit);
                }
            },
        };
    }
}

fn text(byte: u8, emit: &mut impl FnMut(Piece)) -> State {
    match byte {
        ESCAPE => return State::Escape,
        b'\r' => return State::Return,
        b'\n' | 0x0b | 0x0c => emit(Piece::NewLine),
        0x08 => emit(Piece::Back),
        b'\t' | 0x20..=0x7e | 0x80.. => emit(Piece::Byte(byte)),
        0..0x20 | 0x7f => {}
    }
    State::Text
}

/// Raw console output as plain text: control sequences removed, one `\n` per line end, backspaces applied, text
/// after a cursor jump on a line of its own, bytes that are not UTF-8 replaced.
pub fn plain_text(raw: &[u8]) -> String {
    let mut transcript = crate::transcript::Transcript::new(usize::MAX);
    transcript.feed(raw);
    transcript.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn control_is_removed() {
        let table: &[(&[u8], &str)] = &[
            (b"plain\n", "plain\n"),
            (b"one\r\ntwo\r\r\n", "one\ntwo\n"),
            (b"\x1b[1;31mred\x1b[0m", "red"),
            (b"\x1b[?25l\x1b[?2004hx\x1b[6n", "x"),
            (
                b"\x1b[3;1HShell> \x1b[03;08Hv\x1b[03;09He\x1b[03;10Hr\x1b[4;11H!",
                "Shell> ver\n!",
            ),
            (b"l\x1b[Js\x1b[0J\x1b[2Jnew", "ls\nnew"),
            (b"\x1b[2J\x1b[01;01Hmenu\x1b[05;03Hentry", "menu\nentry"),
            (b"\x1b]0;title\x07text", "text"),
            (b"\x1b]8;;link\x1b\\text", "text"),
            (b"\x1bPdevice\x1b\\text", "text"),
            (b"\x1b(B\x1b)0text\x1b7\x1b8", "text"),
            (b"helo\x08lo", "hello"),
            (b"ab\x08 \x08c", "ac"),
            (b"\n\x08x", "\nx"),
            (b"10%\r20%\r\n", "10%\n20%\n"),
            (b"a\0b\x07c\x7f", "abc"),
            (b"left\x1b[5Cright", "left right"),
            ("naïve ✓".as_bytes(), "naïve ✓"),
            (b"bad \xff byte", "bad \u{fffd} byte"),
            (b"\x1b[\nnext", "\nnext"),
            (b"\x1b\x1b[1mx", "x"),
            (b"\x1b]0;open\x1b[1mx", "x"),
        ];
        for (raw, expected) in table {
            assert_eq!(plain_text(raw), *expected, "{raw:?}");
        }
    }

    #[test]
    fn unending_sequences_do_not_swallow_the_log() {
        let mut raw = b"\x1b[".to_vec();
        raw.extend(std::iter::repeat_n(b'1', 10_000));
        raw.extend(b"\nKernel panic\n");
        assert!(plain_text(&raw).ends_with("\nKernel panic\n"));
        let mut raw = b"\x1b]".to_vec();
        raw.extend(std::iter::repeat_n(b'1', 10_000));
        raw.extend(b"\nKernel panic\n");
        assert!(plain_text(&raw).ends_with("\nKernel panic\n"));
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same_text(raw in proptest::collection::vec(prop_oneof![any::<u8>(), Just(ESCAPE), Just(b'['), Just(b'\r'), Just(8u8)], 0..200), cut in 0usize..200) {
            let cut = cut.min(raw.len());
            let mut transcript = crate::transcript::Transcript::new(usize::MAX);
            transcript.feed(&raw[..cut]);
            transcript.feed(&raw[cut..]);
            let text = transcript.text();
            prop_assert_eq!(&text, &plain_text(&raw));
            prop_assert!(text.chars().all(|c| c == '\n' || c == '\t' || c >= ' '));
        }
    }
}
