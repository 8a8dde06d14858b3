//! Path patterns of recipes.
//!
//! `*`, `?` and `[a-z]` / `[!a-z]` stay within one path component, `**` crosses components, `{a,b}` are
//! alternatives, and `\` takes the next character as it is. Paths are bytes and relative to a root.

/// A compiled pattern.
#[derive(Clone, Debug)]
pub struct Glob {
    alternatives: Vec<Vec<Token>>,
    text: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Byte(u8),
    AnyByte,
    AnyInComponent,
    /// `**/`: any number of whole components, none too.
    Components,
    /// `**` elsewhere: any bytes.
    Anything,
    Class {
        negated: bool,
        ranges: Vec<(u8, u8)>,
    },
}

/// Braces may multiply; a recipe that needs more than this is a mistake.
const ALTERNATIVES_LIMIT: usize = 256;

impl Glob {
    /// Compiles a pattern. The error says what is wrong with it.
    pub fn new(pattern: &str) -> Result<Glob, String> {
        if pattern.is_empty() {
            return Err("an empty pattern matches nothing".into());
        }
        if pattern.starts_with('/') || pattern.split('/').any(|part| part == ".." || part == ".") {
            return Err(format!(
                "pattern {pattern:?} must be relative and without . or .."
            ));
        }
        if pattern.ends_with('/') || pattern.contains("//") {
            return Err(format!("pattern {pattern:?} has an empty component"));
        }
        let alternatives = expand(pattern.as_bytes())?
            .iter()
            .map(|text| tokens(text))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|why| format!("pattern {pattern:?}: {why}"))?;
        Ok(Glob {
            alternatives,
            text: pattern.to_owned(),
        })
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether a relative path without slash at either end matches.
    pub fn matches(&self, path: &[u8]) -> bool {
        self.alternatives.iter().any(|tokens| matches(tokens, path))
    }
}

fn expand(pattern: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let unbalanced = || {
        format!(
            "braces of {:?} are not balanced",
            String::from_utf8_lossy(pattern)
        )
    };
    let mut open = None;
    let mut depth = 0usize;
    let mut commas = Vec::new();
    let mut at = 0;
    while at < pattern.len() {
        match pattern[at] {
            b'\\' => at += 1,
            b'{' => {
                if depth == 0 {
                    open = Some(at);
                }
                depth += 1;
            }
            b',' if depth == 1 => commas.push(at),
            b'}' => {
                depth = depth.checked_sub(1).ok_or_else(unbalanced)?;
                if depth == 0 {
                    let start = open.ok_or_else(unbalanced)?;
                    let mut all = Vec::new();
                    let mut from = start + 1;
                    for end in commas.iter().copied().chain([at]) {
                        let mut text = pattern[..start].to_vec();
                        text.extend_from_slice(&pattern[from..end]);
                        text.extend_from_slice(&pattern[at + 1..]);
                        all.extend(expand(&text)?);
                        from = end + 1;
                        if all.len() > ALTERNATIVES_LIMIT {
                            return Err(format!("more than {ALTERNATIVES_LIMIT} alternatives in braces"));
                        }
                    }
                    return Ok(all);
                }
            }
            _ => {}
        }
        at += 1;
    }
    if depth != 0 {
        Err(unbalanced())
    } else {
        Ok(vec![pattern.to_vec()])
    }
}

fn tokens(text: &[u8]) -> Result<Vec<Token>, String> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        match text[at] {
            b'*' if text[at..].starts_with(b"**") => {
                at += 2;
                let starts_component = matches!(out.last(), None | Some(Token::Byte(b'/')));
                if starts_component && text.get(at) == Some(&b'/') {
                    at += 1;
                    out.push(Token::Components);
                } else {
                    out.push(Token::Anything);
                }
                continue;
            }
            b'*' => out.push(Token::AnyInComponent),
            b'?' => out.push(Token::AnyByte),
            b'\\' => {
                at += 1;
                out.push(Token::Byte(*text.get(at).ok_or("\\ at the end")?));
            }
            b'[' => {
                let negated = text.get(at + 1) == Some(&b'!');
                let first = at + 1 + usize::from(negated);
                let end = (first + 1..text.len())
                    .find(|i| text[*i] == b']')
                    .ok_or("[ without ]")?;
                let mut ranges = Vec::new();
                let mut i = first;
                while i < end {
                    if i + 2 < end && text[i + 1] == b'-' {
                        ranges.push((text[i], text[i + 2]));
                        i += 3;
                    } else {
                        ranges.push((text[i], text[i]));
                        i += 1;
                    }
                }
                out.push(Token::Class { negated, ranges });
                at = end;
            }
            byte => out.push(Token::Byte(byte)),
        }
        at += 1;
    }
    Ok(out)
}

fn matches(tokens: &[Token], path: &[u8]) -> bool {
    // Row by row over the path instead of backtracking: hostile patterns stay cheap.
    let mut states = vec![false; tokens.len() + 1];
    states[0] = true;
    follow_empty(tokens, &mut states, true);
    for (index, &byte) in path.iter().enumerate() {
        let mut next = vec![false; tokens.len() + 1];
        for (state, token) in tokens.iter().enumerate() {
            if !states[state] {
                continue;
            }
            match token {
                Token::Byte(wanted) if *wanted == byte => next[state + 1] = true,
                Token::AnyByte if byte != b'/' => next[state + 1] = true,
                Token::AnyInComponent if byte != b'/' => next[state] = true,
                Token::Anything => next[state] = true,
                Token::Components => {
                    next[state] = true;
                    // The component ended: what follows may start here, and only here.
                    if byte == b'/' {
                        next[state + 1] = true;
                    }
                }
                Token::Class { negated, ranges } if byte != b'/' => {
                    let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&byte));
                    next[state + 1] |= inside != *negated;
                }
                _ => {}
            }
        }
        let at_component_start = path[index] == b'/';
        follow_empty(tokens, &mut next, at_component_start);
        states = next;
    }
    states[tokens.len()]
}

/// Marks what is reachable without reading a byte. `Components` may be empty only where it is entered,
/// which is always at the start of a component.
fn follow_empty(tokens: &[Token], states: &mut [bool], at_component_start: bool) {
    for (state, token) in tokens.iter().enumerate() {
        let skippable = match token {
            Token::AnyInComponent | Token::Anything => true,
            Token::Components => at_component_start,
            _ => false,
        };
        if states[state] && skippable {
            states[state + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        for (pattern, path, expected) in [
            ("usr/lib/libc.so", "usr/lib/libc.so", true),
            ("usr/lib/libc.so", "usr/lib/libc.so.1", false),
            ("usr/lib/*.so", "usr/lib/libc.so", true),
            ("usr/lib/*.so", "usr/lib/x/libc.so", false),
            ("usr/lib/ld-musl-*.so.1", "usr/lib/ld-musl-x86_64.so.1", true),
            ("usr/**", "usr/lib/x", true),
            ("usr/**", "usr", false),
            ("usr/**", "usrx", false),
            ("**", "a/b", true),
            ("**/x", "x", true),
            ("**/x", "a/b/x", true),
            ("**/x", "a/bx", false),
            ("a/**/x", "a/x", true),
            ("a/**/x", "a/b/c/x", true),
            ("a/**/x", "ax", false),
            ("a/**/x", "a/b/cx", false),
            ("a/**/*.h", "a/b.h", true),
            ("usr/{bin,lib}/x", "usr/lib/x", true),
            ("usr/{bin,lib}/x", "usr/sbin/x", false),
            ("{a,b/{c,d}}", "b/d", true),
            ("[a-c]?", "bz", true),
            ("[!a-c]?", "bz", false),
            ("[!a-c]?", "d/", false),
            ("a[*]b", "a*b", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("?", "/", false),
            ("[]]", "]", true),
        ] {
            let glob = Glob::new(pattern).unwrap();
            assert_eq!(glob.matches(path.as_bytes()), expected, "{pattern} on {path}");
        }
    }

    #[test]
    fn bad_patterns_are_refused() {
        for pattern in [
            "", "/usr", "a/../b", "a/./b", "{a,b", "a}", "[a", "x/", "a//b", "a\\",
        ] {
            assert!(Glob::new(pattern).is_err(), "{pattern}");
        }
    }

    proptest! {
        #[test]
        fn a_plain_path_matches_itself_only(a in "[a-z]{1,4}(/[a-z]{1,4}){0,3}", b in "[a-z]{1,4}(/[a-z]{1,4}){0,3}") {
            let glob = Glob::new(&a).unwrap();
            prop_assert!(glob.matches(a.as_bytes()));
            prop_assert_eq!(glob.matches(b.as_bytes()), a == b);
        }

        #[test]
        fn double_star_below_a_directory_is_the_prefix(dir in "[a-z]{1,3}", path in "[a-z]{1,3}(/[a-z]{1,3}){0,3}") {
            let glob = Glob::new(&format!("{dir}/**")).unwrap();
            let below = path.strip_prefix(&format!("{dir}/")).is_some();
            prop_assert_eq!(glob.matches(path.as_bytes()), below);
        }
    }
}
