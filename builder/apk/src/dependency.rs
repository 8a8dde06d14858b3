//! Dependency text: `[!]name[@tag][op version]` (apk-v3 facts, section 14).
//!
//! The operator is any run of `<`, `>`, `=` and `~`; it means the union of its characters, and `~` implies
//! `=`. Words are separated by spaces and newlines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use thiserror::Error;

use crate::metadata::{Dependency, Match, PackageInfo};
use crate::version;

/// Why a text is not a dependency.
#[derive(Clone, PartialEq, Eq, Error, Debug)]
pub enum DependencyError {
    /// There is no name in front of the operator.
    #[error("dependency {text:?} has no name; write [!]name[op version] with op out of <>=~")]
    NoName {
        /// The whole text.
        text: String,
    },
    /// The name or the tag has a character that cannot be in one.
    #[error("dependency {text:?} has the character {character:?} in its name")]
    BadCharacter {
        /// The whole text.
        text: String,
        /// The character.
        character: char,
    },
    /// An operator without a version.
    #[error("dependency {text:?} ends after its operator; a version must follow")]
    NoVersion {
        /// The whole text.
        text: String,
    },
    /// A tag where only packages are described.
    #[error("dependency {text:?} names a repository tag; tags belong in world and on the command line only")]
    TagNotAllowed {
        /// The whole text.
        text: String,
    },
    /// A `@` without a tag behind it.
    #[error("dependency {text:?} has an empty repository tag; write name@tag")]
    EmptyTag {
        /// The whole text.
        text: String,
    },
    /// The version does not follow the grammar.
    #[error("dependency {text:?} compares with {version:?}, which is not a valid version")]
    BadVersion {
        /// The whole text.
        text: String,
        /// Its version.
        version: String,
    },
}

fn is_operator(c: char) -> bool {
    matches!(c, '<' | '>' | '=' | '~')
}

fn split(text: &str) -> Result<Dependency, DependencyError> {
    let (conflict, body) = match text.strip_prefix('!') {
        Some(body) => (Match::CONFLICT, body),
        None => (0, text),
    };
    let (name, comparison) = body.split_at(body.find(is_operator).unwrap_or(body.len()));
    let (name, tag) = match name.split_once('@') {
        Some((name, tag)) => (name, Some(tag)),
        None => (name, None),
    };
    if name.is_empty() {
        return Err(DependencyError::NoName { text: text.into() });
    }
    let odd = |c: &char| c.is_control() || c.is_whitespace() || *c == '@';
    if let Some(character) = name
        .chars()
        .chain(tag.unwrap_or_default().chars())
        .chain(comparison.chars())
        .find(odd)
    {
        return Err(DependencyError::BadCharacter {
            text: text.into(),
            character,
        });
    }
    if tag == Some("") {
        return Err(DependencyError::EmptyTag { text: text.into() });
    }
    let version = comparison.trim_start_matches(is_operator);
    let mut op = comparison[..comparison.len() - version.len()]
        .chars()
        .fold(0, |op, c| {
            op | match c {
                '<' => Match::LESS,
                '>' => Match::GREATER,
                '=' => Match::EQUAL,
                _ => Match::FUZZY | Match::EQUAL,
            }
        });
    if op != 0 && version.is_empty() {
        return Err(DependencyError::NoVersion { text: text.into() });
    }
    let mut version = version.to_owned();
    if op == 0 || op & Match::ANY.0 == Match::ANY.0 {
        // `<>=1` says no more than the bare name.
        op = Match::ANY.0;
        version.clear();
    }
    Ok(Dependency {
        name: name.into(),
        version,
        op: Match(op | conflict),
        tag: tag.map(Into::into),
    })
}

/// Parses a dependency, conflict or provided name of a package. Its version is not judged: apk keeps a
/// package whose dependency has a bad version and never installs it (see [`is_broken`]).
pub fn parse(text: &str) -> Result<Dependency, DependencyError> {
    let dependency = split(text)?;
    match dependency.tag {
        Some(_) => Err(DependencyError::TagNotAllowed { text: text.into() }),
        None => Ok(dependency),
    }
}

/// Parses an entry of `world` or of a command line: a tag is allowed, a bad version is an error.
pub fn parse_world_entry(text: &str) -> Result<Dependency, DependencyError> {
    let dependency = split(text)?;
    if is_broken(&dependency) {
        return Err(DependencyError::BadVersion {
            text: text.into(),
            version: dependency.version,
        });
    }
    Ok(dependency)
}

/// Splits at spaces and newlines.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\n']).filter(|word| !word.is_empty())
}

/// Parses a list of dependencies as it stands in the records of packages.
pub fn parse_list(text: &str) -> Result<Vec<Dependency>, DependencyError> {
    words(text).map(parse).collect()
}

/// Parses the content of a `world` file.
pub fn parse_world(text: &str) -> Result<Vec<Dependency>, DependencyError> {
    words(text).map(parse_world_entry).collect()
}

/// Writes a `world` file: one entry a line, in the order given, which should be that of
/// [`sort_world`]. An empty world is one newline.
pub fn format_world(world: &[Dependency]) -> String {
    let mut text = world.iter().map(|entry| format!("{entry}\n")).collect::<String>();
    if text.is_empty() {
        text.push('\n');
    }
    text
}

/// Sorts entries by name, first without regard to ASCII case and then bytewise, as `world` is kept.
pub fn sort_world(world: &mut [Dependency]) {
    world.sort_by(|a, b| crate::database::name_order(&a.name, &b.name));
}

/// Whether the version that a dependency compares with is not a version, which makes the package that
/// has it uninstallable.
pub fn is_broken(dependency: &Dependency) -> bool {
    const BOTH: u8 = Match::LESS | Match::GREATER;
    // `><` compares identities, and with all three bits there is nothing to compare.
    dependency.op.0 & BOTH != BOTH && !version::is_valid(&dependency.version)
}

/// Whether a dependency is on an identity (`name><Q1…`) instead of a version.
pub fn is_on_identity(dependency: &Dependency) -> bool {
    dependency.op.0 == Match::LESS | Match::GREATER
}

/// Decodes the text form of an identity: `Q1` or `Q2` and base64, `X1` or `X2` and hexadecimal digits, of
/// 20 or 32 bytes.
pub fn parse_identity(text: &str) -> Option<Vec<u8>> {
    let (kind, body) = text.split_at_checked(2)?;
    let bytes = match kind {
        "Q1" | "Q2" => STANDARD.decode(body).ok()?,
        "X1" | "X2" => (0..body.len())
            .step_by(2)
            .map(|at| {
                body.get(at..at + 2)
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            })
            .collect::<Option<_>>()?,
        _ => return None,
    };
    let length = if kind.ends_with('1') { 20 } else { 32 };
    (bytes.len() == length).then_some(bytes)
}

/// Whether a package has the identity that a `><` dependency names. Identities are compared by their first
/// 20 bytes.
pub fn matches_identity(dependency: &Dependency, package: &PackageInfo) -> bool {
    match (parse_identity(&dependency.version), &package.hashes) {
        (Some(wanted), Some(digest)) => digest.key() == &wanted[..20],
        _ => false,
    }
}

/// Whether a package meets a dependency: by its own name, or by the first entry of its `provides` with
/// that name. A conflict is met by what it does not forbid.
pub fn is_met_by(dependency: &Dependency, package: &PackageInfo) -> bool {
    let version = if package.name == dependency.name {
        Some(&package.version)
    } else {
        package
            .provides
            .iter()
            .find(|entry| entry.name == dependency.name)
            .map(|entry| &entry.version)
    };
    match version {
        None => dependency.op.is_conflict(),
        Some(_) if is_on_identity(dependency) => matches_identity(dependency, package),
        Some(version) => version::matches(version, dependency.op, &dependency.version),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::metadata::Digest;

    fn make(name: &str, op: u8, version: &str, tag: Option<&str>) -> Dependency {
        Dependency {
            name: name.into(),
            version: version.into(),
            op: Match(op),
            tag: tag.map(Into::into),
        }
    }

    #[test]
    fn table() {
        const L: u8 = Match::LESS;
        const E: u8 = Match::EQUAL;
        const G: u8 = Match::GREATER;
        const F: u8 = Match::FUZZY;
        const C: u8 = Match::CONFLICT;
        for (text, expected, canonical) in [
            ("a", make("a", 7, "", None), "a"),
            ("!a", make("a", 7 | C, "", None), "!a"),
            (
                "so:libc.so=1.2",
                make("so:libc.so", E, "1.2", None),
                "so:libc.so=1.2",
            ),
            ("a<1", make("a", L, "1", None), "a<1"),
            ("a<=1", make("a", L | E, "1", None), "a<=1"),
            ("a=<1", make("a", L | E, "1", None), "a<=1"),
            ("a>1", make("a", G, "1", None), "a>1"),
            ("!a>=1", make("a", G | E | C, "1", None), "!a>=1"),
            ("a~1", make("a", E | F, "1", None), "a~1"),
            ("a=~1", make("a", E | F, "1", None), "a~1"),
            ("a<~1", make("a", L | E | F, "1", None), "a<~1"),
            ("a>~1", make("a", G | E | F, "1", None), "a>~1"),
            ("a><Q1AAAA", make("a", L | G, "Q1AAAA", None), "a><Q1AAAA"),
            ("a<>=1", make("a", 7, "", None), "a"),
            ("a@edge=1", make("a", E, "1", Some("edge")), "a@edge=1"),
            ("a=1.x", make("a", E, "1.x", None), "a=1.x"),
        ] {
            let parsed = split(text).unwrap();
            assert_eq!(parsed, expected, "{text}");
            assert_eq!(parsed.to_string(), canonical);
        }
    }

    #[test]
    fn refusals() {
        let error = |text| split(text).unwrap_err();
        assert!(matches!(error(""), DependencyError::NoName { .. }));
        assert!(matches!(error("!"), DependencyError::NoName { .. }));
        assert!(matches!(error("=1"), DependencyError::NoName { .. }));
        assert!(matches!(error("@t"), DependencyError::NoName { .. }));
        assert!(matches!(error("a="), DependencyError::NoVersion { .. }));
        assert!(matches!(error("a@=1"), DependencyError::EmptyTag { .. }));
        assert!(matches!(
            error("a@b@c"),
            DependencyError::BadCharacter { character: '@', .. }
        ));
        assert!(matches!(error("a\u{1}"), DependencyError::BadCharacter { .. }));
        assert!(matches!(error("a=1\t"), DependencyError::BadCharacter { .. }));
        assert!(matches!(parse("a@t"), Err(DependencyError::TagNotAllowed { .. })));
        assert!(matches!(
            parse_world_entry("a=1.x.y"),
            Err(DependencyError::BadVersion { .. })
        ));
        assert!(is_broken(&parse("a=1.x.y").unwrap()));
        assert!(!is_broken(&parse("a").unwrap()));
        assert!(!is_broken(&parse("a><Q1x").unwrap()));
    }

    #[test]
    fn worlds() {
        let mut world = parse_world("b\nA@edge  a>1\n\nB").unwrap();
        sort_world(&mut world);
        assert_eq!(format_world(&world), "A@edge\na>1\nB\nb\n");
        assert_eq!(format_world(&[]), "\n");
        assert_eq!(parse_list("a !b\nc=1").unwrap().len(), 3);
    }

    #[test]
    fn met_by_packages() {
        let package = PackageInfo {
            name: "p".into(),
            version: "2".into(),
            hashes: Some(Digest(vec![7; 32])),
            provides: parse_list("v=3 v=4 u").unwrap(),
            ..PackageInfo::default()
        };
        let identity = format!("p><X1{}", "07".repeat(20));
        for (text, met) in [
            ("p", true),
            ("p>2", false),
            ("v=3", true),
            ("v=4", false),
            ("u", true),
            ("u>1", false),
            ("w", false),
            ("!w", true),
            ("!v", false),
            ("!v<3", true),
            (identity.as_str(), true),
            ("p><X1", false),
        ] {
            assert_eq!(is_met_by(&parse(text).unwrap(), &package), met, "{text}");
        }
    }

    #[test]
    fn identities() {
        assert_eq!(
            parse_identity("Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA="),
            Some(vec![0; 20])
        );
        assert_eq!(
            parse_identity(&format!("X2{}", "ff".repeat(32))),
            Some(vec![255; 32])
        );
        for bad in ["", "Q", "Q1", "Q1!", "X1zz", "X1f", "X3", "Q1AAAA", "é1"] {
            assert_eq!(parse_identity(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn formatting_undoes_parsing(
            text in "!?[a-z:.+-]{1,6}(@[a-z]{1,4})?([<>=~]{1,4}[0-9a-z.]{1,5})?"
        ) {
            let parsed = split(&text).unwrap();
            let written = parsed.to_string();
            prop_assert_eq!(split(&written).unwrap(), parsed.clone());
            prop_assert_eq!(split(&written).unwrap().to_string(), written);
        }

        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = (parse(&text), parse_world(&text), parse_list(&text), parse_identity(&text));
        }
    }
}
