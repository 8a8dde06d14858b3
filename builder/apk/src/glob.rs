//! Shell patterns as fnmatch(3) with `FNM_PATHNAME` reads them: `*`, `?` and `[…]` never match a slash.

/// Whether `path` as a whole matches `pattern`.
///
/// ```
/// use lycia_apk::glob::matches;
/// assert!(matches(b"/usr/share/*", b"/usr/share/icons"));
/// assert!(!matches(b"/usr/share/*", b"/usr/share/icons/hicolor"));
/// assert!(matches(b"/usr/lib/[!a-k]*", b"/usr/lib/modules"));
/// ```
pub fn matches(pattern: &[u8], path: &[u8]) -> bool {
    let mut names = path.split(|&byte| byte == b'/');
    for part in pattern.split(|&byte| byte == b'/') {
        match names.next() {
            Some(name) if component(part, name) => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Whether one component matches; neither side has a slash, or a slash is a byte like others. Only the last star is ever gone back to, so
/// that the time is at most the product of the lengths.
pub fn component(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut here) = (0, 0);
    // Where the last star was and how much of the name it took.
    let mut star: Option<(usize, usize)> = None;
    while here < name.len() {
        match one(&pattern[at..], name[here]) {
            Step::Star => {
                star = Some((at, here));
                at += 1;
                continue;
            }
            Step::Took(length) => {
                at += length;
                here += 1;
                continue;
            }
            Step::No => {}
        }
        let Some((behind, taken)) = star else { return false };
        star = Some((behind, taken + 1));
        (at, here) = (behind + 1, taken + 1);
    }
    pattern[at..].iter().all(|&byte| byte == b'*')
}

enum Step {
    Star,
    Took(usize),
    No,
}

/// What the front of a pattern does with one byte.
fn one(pattern: &[u8], byte: u8) -> Step {
    let literal = |length: usize, want: u8| {
        if want == byte {
            Step::Took(length)
        } else {
            Step::No
        }
    };
    match pattern {
        [] => Step::No,
        [b'*', ..] => Step::Star,
        [b'?', ..] => Step::Took(1),
        [b'\\', escaped, ..] => literal(2, *escaped),
        [b'[', rest @ ..] => match bracket(rest, byte) {
            Some((length, true)) => Step::Took(length + 1),
            Some((_, false)) => Step::No,
            // A bracket that nothing closes stands for itself.
            None => literal(1, b'['),
        },
        [plain, ..] => literal(1, *plain),
    }
}

/// The length of a bracket expression without its `[`, and whether it has `byte`.
fn bracket(pattern: &[u8], byte: u8) -> Option<(usize, bool)> {
    let negated = matches!(pattern.first(), Some(b'!' | b'^'));
    let start = usize::from(negated);
    let mut at = start;
    let mut found = false;
    loop {
        let mut low = *pattern.get(at)?;
        if low == b']' && at > start {
            return Some((at + 1, found != negated));
        }
        if low == b'\\' {
            at += 1;
            low = *pattern.get(at)?;
        }
        at += 1;
        let mut high = low;
        if pattern.get(at) == Some(&b'-') && !matches!(pattern.get(at + 1), None | Some(b']')) {
            at += 1;
            if pattern[at] == b'\\' {
                at += 1;
            }
            high = *pattern.get(at)?;
            at += 1;
        }
        found |= (low..=high).contains(&byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_fnmatch_does() {
        for (pattern, path, expected) in [
            ("", "", true),
            ("a", "a", true),
            ("*", "", true),
            ("*", "a/b", false),
            ("*/b", "a/b", true),
            ("a*c", "abbbc", true),
            ("a*c*d", "acbcd", true),
            ("a*b", "a/b", false),
            ("/usr/share/pl*", "/usr/share/plume", true),
            ("?", "", false),
            ("[a-c]x", "bx", true),
            ("[!a-c]x", "bx", false),
            ("[]]", "]", true),
            ("[a", "[a", true),
            ("[a-]", "-", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"[\]]", "]", true),
            ("**", "abc", true),
            ("/*", "/", true),
            ("/", "/", true),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), path.as_bytes()),
                expected,
                "{pattern} {path}"
            );
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = b"*a".repeat(2000);
        assert!(!matches(&pattern, &b"a".repeat(1999)));
    }
}
