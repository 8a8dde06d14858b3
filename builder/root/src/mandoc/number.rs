//! Numeric expressions of roff: from left to right, with units.

/// Deepest nesting of parentheses.
const DEPTH_MAX: usize = 64;

/// The value of the expression at the start, in basic units, and its length; none where there is none.
pub fn expression(text: &[u8], blanks: bool) -> Option<(i32, usize)> {
    let mut at = 0;
    let value = evaluate(text, &mut at, blanks, 0)?;
    Some((value, at))
}

fn evaluate(text: &[u8], at: &mut usize, blanks: bool, depth: usize) -> Option<i32> {
    let mut value = operand(text, at, blanks, depth)?;
    loop {
        skip(text, at, blanks && depth > 0);
        let Some((operator, length)) = operator(text.get(*at..).unwrap_or_default()) else {
            return Some(value);
        };
        let before = *at;
        *at += length;
        skip(text, at, blanks && depth > 0);
        let Some(other) = operand(text, at, blanks, depth) else {
            *at = before;
            return None;
        };
        value = match operator {
            Operator::Add => value.saturating_add(other),
            Operator::Subtract => value.saturating_sub(other),
            Operator::Multiply => value.saturating_mul(other),
            Operator::Divide => value.checked_div(other).unwrap_or(0),
            Operator::Remainder => value.checked_rem(other).unwrap_or(0),
            Operator::Less => i32::from(value < other),
            Operator::More => i32::from(value > other),
            Operator::AtMost => i32::from(value <= other),
            Operator::AtLeast => i32::from(value >= other),
            Operator::Same => i32::from(value == other),
            Operator::Different => i32::from(value != other),
            Operator::And => i32::from(value != 0 && other != 0),
            Operator::Or => i32::from(value != 0 || other != 0),
            Operator::Least => value.min(other),
            Operator::Most => value.max(other),
        };
    }
}

fn skip(text: &[u8], at: &mut usize, blanks: bool) {
    while blanks && text.get(*at).is_some_and(u8::is_ascii_whitespace) {
        *at += 1;
    }
}

fn operand(text: &[u8], at: &mut usize, blanks: bool, depth: usize) -> Option<i32> {
    if text.get(*at) == Some(&b'(') {
        if depth >= DEPTH_MAX {
            return None;
        }
        let before = *at;
        *at += 1;
        skip(text, at, blanks);
        let Some(value) = evaluate(text, at, blanks, depth + 1) else {
            *at = before;
            return None;
        };
        skip(text, at, blanks);
        // A parenthesis that is missing is taken as there, as groff does.
        *at += usize::from(text.get(*at) == Some(&b')'));
        return Some(value);
    }
    number(text, at)
}

/// A number with a sign and a unit.
fn number(text: &[u8], at: &mut usize) -> Option<i32> {
    let mut here = *at;
    let negative = text.get(here) == Some(&b'-');
    here += usize::from(negative || text.get(here) == Some(&b'+'));
    let digits = here;
    let mut value: i64 = 0;
    while let Some(digit) = text.get(here).filter(|byte| byte.is_ascii_digit()) {
        value = (value * 10 + i64::from(digit - b'0')).min(i64::from(i32::MAX));
        here += 1;
    }
    if here == digits && text.get(here) != Some(&b'.') {
        return None;
    }
    if text.get(here) == Some(&b'.') {
        // Fractions of a unit are not kept.
        here += 1;
        while text.get(here).is_some_and(u8::is_ascii_digit) {
            here += 1;
        }
        if here == digits + 1 {
            return None;
        }
    }
    let unit = match text.get(here) {
        Some(b'f') => Some(65536),
        Some(b'i') => Some(240),
        Some(b'c') => Some(94),
        Some(b'v' | b'P') => Some(40),
        Some(b'm' | b'n') => Some(24),
        // 240 units to the inch, 72 points: times 3.
        Some(b'p') => Some(10),
        Some(b'u' | b'M') => Some(1),
        _ => None,
    };
    here += usize::from(unit.is_some());
    let value = match unit {
        Some(10) => value * 10 / 3,
        Some(unit) => value * unit,
        None => value,
    };
    let value = if negative { -value } else { value };
    *at = here;
    Some(i32::try_from(value).unwrap_or(i32::MAX))
}

enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    Less,
    More,
    AtMost,
    AtLeast,
    Same,
    Different,
    And,
    Or,
    Least,
    Most,
}

fn operator(text: &[u8]) -> Option<(Operator, usize)> {
    let next = text.get(1);
    Some(match (text.first()?, next) {
        (b'<', Some(b'=')) => (Operator::AtMost, 2),
        (b'<', Some(b'>')) => (Operator::Different, 2),
        (b'<', Some(b'?')) => (Operator::Least, 2),
        (b'>', Some(b'=')) => (Operator::AtLeast, 2),
        (b'>', Some(b'?')) => (Operator::Most, 2),
        (b'=', Some(b'=')) => (Operator::Same, 2),
        (b'+', _) => (Operator::Add, 1),
        (b'-', _) => (Operator::Subtract, 1),
        (b'*', _) => (Operator::Multiply, 1),
        (b'/', _) => (Operator::Divide, 1),
        (b'%', _) => (Operator::Remainder, 1),
        (b'<', _) => (Operator::Less, 1),
        (b'>', _) => (Operator::More, 1),
        (b'=', _) => (Operator::Same, 1),
        (b'&', _) => (Operator::And, 1),
        (b':', _) => (Operator::Or, 1),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions() {
        for (text, value, length) in [
            ("1", 1, 1),
            ("1+2*3", 9, 5),
            ("(1+2)*(3-1) x", 6, 11),
            ("1>=1&0", 0, 6),
            ("2<?1", 1, 4),
            ("5/0", 0, 3),
            ("-3", -3, 2),
            ("2i", 480, 2),
            (".5i.sp", 0, 3),
            ("99999999999", i32::MAX, 11),
            ("1 .ds", 1, 1),
        ] {
            assert_eq!(expression(text.as_bytes(), true), Some((value, length)), "{text}");
        }
        for text in ["", "x", "-", "(", "1+", "'a'b'", "."] {
            assert_eq!(expression(text.as_bytes(), true), None, "{text}");
        }
        assert_eq!(expression(&b"(".repeat(100_000), true), None);
    }
}
