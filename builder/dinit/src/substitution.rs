//! Variable substitution in setting values (dinit-service(5), "Variable substitution").
//!
//! `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME-word}`, `${NAME:+word}`, `${NAME+word}`, `$1` for the
//! argument of `name@argument`, `$$` for a dollar sign, and `$/NAME`, whose value is split into words.

use crate::text::is_space;

/// Longest result of one substitution, in bytes.
const MAX_RESULT_BYTES: usize = 128 * 1024;

/// Why a value could not be substituted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubstitutionError {
    /// Nothing that could be a name follows the dollar sign.
    #[error("no variable name after `$` (write `$$` for a dollar sign)")]
    NoName,
    /// `$2` and above.
    #[error("`${0}`: a service has one argument only, `$1`")]
    NoSuchArgument(String),
    /// `$1` in a service started without `@argument`.
    #[error("`$1` is used, but the service was named without an argument (`name@argument`)")]
    MissingArgument,
    /// A brace that is not closed, or an unknown operator in it.
    #[error("`${{{0}`: only `}}`, `-word}}`, `+word}}`, `:-word}}` and `:+word}}` may follow the name")]
    BadBrace(String),
    /// The result is too long.
    #[error("the value is longer than {MAX_RESULT_BYTES} bytes after substitution")]
    TooLong,
}

/// What values are substituted with.
pub struct Variables<'a> {
    /// Finds an environment variable.
    pub lookup: &'a dyn Fn(&str) -> Option<String>,
    /// The part behind `@` in the service's name.
    pub argument: Option<&'a str>,
}

impl Variables<'_> {
    /// Substitutes in one word, which can become none or several words by `$/NAME`.
    pub fn word(&self, word: &str) -> Result<Vec<String>, SubstitutionError> {
        if word.is_empty() {
            return Ok(vec![String::new()]);
        }
        let mut out = Vec::new();
        let mut current = String::new();
        // Whether `current` is a word even when it is empty.
        let mut keep = false;
        let mut total = 0;
        let mut rest = word;
        while let Some(at) = rest.find('$') {
            if at > 0 {
                current.push_str(&rest[..at]);
                keep = true;
            }
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix('$') {
                current.push('$');
                keep = true;
                rest = after;
                continue;
            }
            let split = rest.strip_prefix('/');
            let (value, after) = self.reference(split.unwrap_or(rest))?;
            rest = after;
            total += value.len();
            if total > MAX_RESULT_BYTES {
                return Err(SubstitutionError::TooLong);
            }
            if split.is_none() {
                current.push_str(&value);
                keep = true;
                continue;
            }
            for c in value.chars() {
                if !is_space(c) {
                    current.push(c);
                } else if keep || !current.is_empty() {
                    out.push(std::mem::take(&mut current));
                    keep = false;
                }
            }
        }
        current.push_str(rest);
        if keep || !current.is_empty() {
            out.push(current);
        }
        Ok(out)
    }

    /// Substitutes in a value that is one string.
    pub fn text(&self, value: &str) -> Result<String, SubstitutionError> {
        Ok(self.word(value)?.join(" "))
    }

    /// Substitutes in every word of a command.
    pub fn words(&self, words: &[String]) -> Result<Vec<String>, SubstitutionError> {
        let mut out = Vec::new();
        for word in words {
            out.extend(self.word(word)?);
        }
        Ok(out)
    }

    /// Reads a reference behind its `$`; gives the value and what follows.
    fn reference<'t>(&self, input: &'t str) -> Result<(String, &'t str), SubstitutionError> {
        let (braced, body) = match input.strip_prefix('{') {
            Some(body) => (true, body),
            None => (false, input),
        };
        let digits = body.starts_with(|c: char| c.is_ascii_digit());
        let length = body
            .find(|c: char| {
                if digits {
                    !c.is_ascii_digit()
                } else {
                    !is_name_char(c)
                }
            })
            .unwrap_or(body.len());
        let (name, mut after) = body.split_at(length);
        if name.is_empty() {
            return Err(SubstitutionError::NoName);
        }
        if digits && name != "1" {
            return Err(SubstitutionError::NoSuchArgument(name.into()));
        }
        let value = if digits {
            self.argument.map(str::to_owned)
        } else {
            (self.lookup)(name)
        };
        let mut operator = None;
        if braced {
            let bad = || SubstitutionError::BadBrace(body.into());
            let colon = after.starts_with(':');
            if colon {
                after = &after[1..];
            }
            let close = after.find('}').ok_or_else(bad)?;
            let inside = &after[..close];
            match inside.chars().next() {
                None if !colon => {}
                Some(sign @ ('-' | '+')) => operator = Some((sign, colon, &inside[1..])),
                _ => return Err(bad()),
            }
            after = &after[close + 1..];
        }
        let present = |colon: bool| value.as_ref().is_some_and(|value| !colon || !value.is_empty());
        let result = match operator {
            Some(('-', colon, word)) if !present(colon) => word.to_owned(),
            Some(('+', colon, word)) => {
                if present(colon) {
                    word.to_owned()
                } else {
                    value.unwrap_or_default()
                }
            }
            None if digits && value.is_none() => return Err(SubstitutionError::MissingArgument),
            _ => value.unwrap_or_default(),
        };
        Ok((result, after))
    }
}

fn is_name_char(c: char) -> bool {
    c == '_' || c.is_ascii_alphanumeric() || !c.is_ascii()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "A" => Some("alpha".into()),
            "TWO" => Some("x y".into()),
            "PAD" => Some("  p  q ".into()),
            "EMPTY" => Some(String::new()),
            "BLANK" => Some("  ".into()),
            _ => None,
        }
    }

    fn with(argument: Option<&str>, word: &str) -> Result<Vec<String>, SubstitutionError> {
        Variables {
            lookup: &lookup,
            argument,
        }
        .word(word)
    }

    #[test]
    fn table() {
        let table: &[(&str, &[&str])] = &[
            ("plain", &["plain"]),
            ("$A", &["alpha"]),
            ("x${A}y", &["xalphay"]),
            ("$A.$A", &["alpha.alpha"]),
            ("$$A", &["$A"]),
            ("$NONE", &[""]),
            ("${NONE:-d}", &["d"]),
            ("${EMPTY:-d}", &["d"]),
            ("${EMPTY-d}", &[""]),
            ("${NONE-d}", &["d"]),
            ("${A:+set}", &["set"]),
            ("${NONE:+set}", &[""]),
            ("${EMPTY+set}", &["set"]),
            ("$TWO", &["x y"]),
            ("$/TWO", &["x", "y"]),
            ("a$/TWO", &["ax", "y"]),
            ("$/PAD", &["p", "q"]),
            ("$/EMPTY", &[]),
            ("$/BLANK", &[]),
            ("$/NONE", &[]),
            ("$1", &["tty1"]),
            ("${1}x", &["tty1x"]),
            ("", &[""]),
        ];
        for (word, expected) in table {
            assert_eq!(with(Some("tty1"), word).unwrap(), *expected, "{word}");
        }
    }

    #[test]
    fn errors() {
        assert_eq!(with(None, "$1"), Err(SubstitutionError::MissingArgument));
        assert_eq!(with(None, "${1}"), Err(SubstitutionError::MissingArgument));
        assert_eq!(with(None, "${1:-x}"), Ok(vec!["x".into()]));
        assert_eq!(
            with(None, "$2"),
            Err(SubstitutionError::NoSuchArgument("2".into()))
        );
        assert_eq!(with(None, "$"), Err(SubstitutionError::NoName));
        assert_eq!(with(None, "$-"), Err(SubstitutionError::NoName));
        assert!(matches!(with(None, "${A"), Err(SubstitutionError::BadBrace(_))));
        assert!(matches!(
            with(None, "${A:?x}"),
            Err(SubstitutionError::BadBrace(_))
        ));
        assert!(matches!(with(None, "${A:}"), Err(SubstitutionError::BadBrace(_))));
    }

    proptest! {
        #[test]
        fn never_panics(word in "[$A1{}:+/ é-]{0,24}") {
            let _ = with(Some("arg"), &word);
        }

        #[test]
        fn doubled_dollars_round_trip(word in "[a-z$ ]{1,12}") {
            prop_assert_eq!(with(None, &word.replace('$', "$$")).unwrap(), vec![word]);
        }
    }
}
