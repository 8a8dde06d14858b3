//! Environment files (dinit(8), "Files"): `NAME=VALUE` lines, `#` comments, `!clear`, `!unset NAME…` and
//! `!import NAME…`.

use std::collections::BTreeMap;

/// Environment variables by name, in a fixed order.
pub type Environment = BTreeMap<String, String>;

/// Why an environment file is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct EnvironmentError {
    /// Line number from 1.
    pub line: u32,
    /// What is wrong.
    pub problem: EnvironmentProblem,
}

/// What can be wrong with a line of an environment file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvironmentProblem {
    /// A line that is neither an assignment nor a command.
    #[error("expected NAME=VALUE")]
    NoAssignment,
    /// The name cannot be a variable's name.
    #[error("`{0}` is not a variable name")]
    BadName(String),
    /// An unknown command after `!`.
    #[error("unknown command `!{0}` (known: !clear, !unset, !import)")]
    UnknownCommand(String),
    /// A NUL byte.
    #[error("a NUL byte")]
    Nul,
}

/// Reads an environment file over `current`. `original` is what `!import` takes from.
pub fn apply(text: &str, original: &Environment, current: &mut Environment) -> Result<(), EnvironmentError> {
    for (raw, line) in text.lines().zip(1u32..) {
        let fail = |problem| Err(EnvironmentError { line, problem });
        let trimmed = raw.trim_start();
        if raw.contains('\0') {
            return fail(EnvironmentProblem::Nul);
        }
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Some(command) = trimmed.strip_prefix('!') {
            let mut words = command.split_whitespace();
            match words.next().unwrap_or_default() {
                "clear" => current.clear(),
                "unset" => words.for_each(|name| {
                    current.remove(name);
                }),
                "import" => {
                    for name in words {
                        match original.get(name) {
                            Some(value) => current.insert(name.into(), value.clone()),
                            None => current.remove(name),
                        };
                    }
                }
                other => return fail(EnvironmentProblem::UnknownCommand(other.into())),
            }
            continue;
        }
        let Some((name, value)) = trimmed.split_once('=') else {
            return fail(EnvironmentProblem::NoAssignment);
        };
        if name.is_empty() || name.contains(char::is_whitespace) {
            return fail(EnvironmentProblem::BadName(name.into()));
        }
        current.insert(name.into(), value.into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&str, &str)]) -> Environment {
        pairs.iter().map(|&(k, v)| (k.into(), v.into())).collect()
    }

    #[test]
    fn assignments_and_commands() {
        let original = map(&[("HOME", "/root"), ("TERM", "linux"), ("LANG", "C")]);
        let mut env = original.clone();
        apply("# c\n\nA=1\nB=x y=z\n!unset LANG\n", &original, &mut env).unwrap();
        assert_eq!(
            env,
            map(&[("A", "1"), ("B", "x y=z"), ("HOME", "/root"), ("TERM", "linux")])
        );
        apply("!clear\n!import TERM NONE\nC=\n", &original, &mut env).unwrap();
        assert_eq!(env, map(&[("C", ""), ("TERM", "linux")]));
    }

    #[test]
    fn errors_have_lines() {
        let mut env = Environment::new();
        let error = |text: &str| {
            apply(text, &Environment::new(), &mut env.clone())
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error("A=1\nnonsense\n"), "line 2: expected NAME=VALUE");
        assert_eq!(error("=1"), "line 1: `` is not a variable name");
        assert_eq!(
            error("\n!frob x"),
            "line 2: unknown command `!frob` (known: !clear, !unset, !import)"
        );
        assert!(env.insert("x".into(), "y".into()).is_none());
    }
}
