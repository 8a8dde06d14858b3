//! Version text: validity, order and matching (apk-v3 facts, section 13).
//!
//! The grammar is `digits ('.' digits)* [a-z]? ('_' suffix digits?)* ('~' hex+)? ('-r' digits)?`. Text that
//! breaks it still compares: it stops at the first token that does not fit, and such an end is less than
//! everything else. Numbers are taken modulo 2^64, as apk does.

use std::cmp::Ordering;

use crate::metadata::Match;

/// The kinds of token, in the order of their ranks: where two versions go on differently after an equal
/// start, the *lower* rank is the greater version, pre-release suffixes excepted.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Rank {
    FirstNumber,
    FurtherNumber,
    Letter,
    Suffix,
    SuffixNumber,
    Hash,
    Revision,
    End,
    Invalid,
}

/// Suffixes from the earliest to the latest.
const SUFFIXES: [&[u8]; 9] = [
    b"alpha", b"beta", b"pre", b"rc", b"cvs", b"svn", b"git", b"hg", b"p",
];
/// How many of [`SUFFIXES`] come before the release itself.
const PRE_RELEASES: u64 = 4;

/// Walks over the tokens of a version.
struct Tokens<'a> {
    rest: &'a [u8],
    rank: Rank,
    text: &'a [u8],
    /// The value of a number, the place of a suffix in [`SUFFIXES`], or a letter.
    value: u64,
}

impl<'a> Tokens<'a> {
    fn new(version: &'a str) -> Self {
        let mut tokens = Tokens {
            rest: version.as_bytes(),
            rank: Rank::FirstNumber,
            text: b"",
            value: 0,
        };
        tokens.number(Rank::FirstNumber);
        tokens
    }

    /// Takes the longest start made of bytes that `accept` allows.
    fn take(&mut self, accept: impl Fn(&u8) -> bool) {
        let end = self
            .rest
            .iter()
            .position(|byte| !accept(byte))
            .unwrap_or(self.rest.len());
        let (text, rest) = self.rest.split_at(end);
        self.text = text;
        self.rest = rest;
    }

    fn number(&mut self, rank: Rank) {
        self.take(u8::is_ascii_digit);
        self.value = self.text.iter().fold(0u64, |value, digit| {
            value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'))
        });
        self.rank = if self.text.is_empty() { Rank::Invalid } else { rank };
    }

    fn advance(&mut self) {
        let before = self.rank;
        let Some((&first, rest)) = self.rest.split_first() else {
            self.rank = Rank::End;
            return;
        };
        self.rank = Rank::Invalid;
        match first {
            b'a'..=b'z' if before <= Rank::FurtherNumber => {
                self.text = &self.rest[..1];
                self.rest = rest;
                self.value = u64::from(first);
                self.rank = Rank::Letter;
            }
            b'.' if before <= Rank::FurtherNumber => {
                self.rest = rest;
                self.number(Rank::FurtherNumber);
            }
            b'0'..=b'9' if before <= Rank::FurtherNumber => self.number(Rank::FurtherNumber),
            b'0'..=b'9' if before == Rank::Suffix => self.number(Rank::SuffixNumber),
            b'_' if before <= Rank::SuffixNumber => {
                self.rest = rest;
                self.take(u8::is_ascii_lowercase);
                if let Some(place) = SUFFIXES.iter().position(|suffix| *suffix == self.text) {
                    self.value = place as u64;
                    self.rank = Rank::Suffix;
                }
            }
            b'~' if before < Rank::Hash => {
                self.rest = rest;
                self.take(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
                if !self.text.is_empty() {
                    self.rank = Rank::Hash;
                }
            }
            b'-' if before < Rank::Revision && rest.first() == Some(&b'r') => {
                self.rest = &rest[1..];
                self.number(Rank::Revision);
            }
            _ => {}
        }
    }

    fn is_pre_release(&self) -> bool {
        self.rank == Rank::Suffix && self.value < PRE_RELEASES
    }

    /// Compares two tokens of the same rank.
    fn compare(&self, other: &Self) -> Ordering {
        let leading_zero = self.text.first() == Some(&b'0') || other.text.first() == Some(&b'0');
        match self.rank {
            Rank::FurtherNumber if leading_zero => self.text.cmp(other.text),
            Rank::Hash => self.text.cmp(other.text),
            _ => self.value.cmp(&other.value),
        }
    }
}

/// Whether the text follows the grammar of versions.
///
/// ```
/// assert!(lycia_apk::version::is_valid("2.10.1_rc3~ab12-r0"));
/// assert!(!lycia_apk::version::is_valid("2.x"));
/// ```
pub fn is_valid(version: &str) -> bool {
    let mut tokens = Tokens::new(version);
    while tokens.rank < Rank::End {
        tokens.advance();
    }
    tokens.rank == Rank::End
}

/// The order of two versions. The empty text, which stands for "no version", is less than every version.
///
/// ```
/// use lycia_apk::version::compare;
/// assert!(compare("1.10-r0", "1.9-r7").is_gt());
/// assert!(compare("1.0_rc1", "1.0").is_lt());
/// ```
pub fn compare(a: &str, b: &str) -> Ordering {
    order(a, b, false)
}

/// Whether the constraint is a token prefix of the candidate: `1.1` is one of `1.1.4-r0`, not of `1.10`.
pub fn has_prefix(candidate: &str, constraint: &str) -> bool {
    order(candidate, constraint, true).is_eq()
}

/// Whether a candidate version meets `op constraint`, including a conflict's negation.
///
/// The operator `><` compares identities, which versions do not carry: see
/// [`dependency::matches_identity`](crate::dependency::matches_identity).
pub fn matches(candidate: &str, op: Match, constraint: &str) -> bool {
    let wanted = op.0 & Match::ANY.0;
    let met = wanted == Match::ANY.0 || {
        let bit = match order(candidate, constraint, op.0 & Match::FUZZY != 0) {
            Ordering::Less => Match::LESS,
            Ordering::Equal => Match::EQUAL,
            Ordering::Greater => Match::GREATER,
        };
        wanted & bit != 0
    };
    met != op.is_conflict()
}

fn order(a: &str, b: &str, prefix: bool) -> Ordering {
    let (mut a, mut b) = (Tokens::new(a), Tokens::new(b));
    while a.rank == b.rank && a.rank < Rank::End {
        let order = a.compare(&b);
        if order.is_ne() {
            return order;
        }
        a.advance();
        b.advance();
    }
    if a.rank == b.rank || (prefix && b.rank == Rank::End) {
        Ordering::Equal
    } else if a.is_pre_release() {
        Ordering::Less
    } else if b.is_pre_release() {
        Ordering::Greater
    } else {
        b.rank.cmp(&a.rank)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ascending() {
        // Each is less than the next.
        let chain = [
            "",
            "0",
            "1_alpha",
            "1_alpha1",
            "1_alpha2",
            "1_beta",
            "1_pre",
            "1_rc",
            "1_rc1",
            "1_rc2",
            "1",
            "1-r0",
            "1-r1",
            "1-r10",
            "1~a",
            "1~ab",
            "1_cvs",
            "1_svn",
            "1_git",
            "1_git20240101",
            "1_hg",
            "1_p",
            "1_p0",
            "1_p1",
            "1_p10",
            "1a",
            "1b",
            "1.0",
            "1.0.0",
            "1.01",
            "1.1",
            "1.1-r0",
            "1.9",
            "1.10",
            "2_rc1",
            "2",
            "10",
        ];
        for (place, a) in chain.iter().enumerate() {
            for (other, b) in chain.iter().enumerate() {
                assert_eq!(compare(a, b), place.cmp(&other), "{a} and {b}");
            }
        }
    }

    #[test]
    fn equal_texts_of_different_shape() {
        for (a, b) in [
            ("1", "01"),
            ("1_p1", "1_p01"),
            ("1-r1", "1-r01"),
            ("1.a", "1.b"),
            ("", "x"),
        ] {
            assert_eq!(compare(a, b), Ordering::Equal, "{a} and {b}");
        }
        assert_eq!(compare("1.1", "1.01"), Ordering::Greater);
    }

    #[test]
    fn validity() {
        for good in [
            "1",
            "1.2.3",
            "1a",
            "1.2b_rc1_p2~0f-r3",
            "20240101",
            "1_git",
            "0",
            "1.0a~1",
        ] {
            assert!(is_valid(good), "{good}");
        }
        for bad in [
            "", "a", "1.", ".1", "1..2", "1a2", "1ab", "1A", "1_", "1_x", "1_pp", "1~", "1~g", "1~A", "1-r",
            "1-1", "1-r1-r2", "1-r1~a", "1-r1_p1", "1_p1.2", "1 ", "1\0", "1a.2",
        ] {
            assert!(!is_valid(bad), "{bad}");
        }
    }

    #[test]
    fn operators() {
        const FUZZY: u8 = Match::FUZZY | Match::EQUAL;
        for (candidate, op, constraint, met) in [
            ("1.1-r0", FUZZY, "1.1", true),
            ("1.10", FUZZY, "1.1", false),
            ("1.1_rc1", FUZZY, "1.1", true),
            ("1.1", FUZZY, "1.1.0", false),
            ("1.0", FUZZY | Match::LESS, "1.1", true),
            ("1.1.9", FUZZY | Match::LESS, "1.1", true),
            ("1.2", FUZZY | Match::LESS, "1.1", false),
            ("2", Match::GREATER, "1", true),
            ("1", Match::GREATER, "1", false),
            ("1", Match::GREATER | Match::EQUAL, "1", true),
            ("1", Match::CONFLICT | Match::EQUAL, "1", false),
            ("2", Match::CONFLICT | Match::EQUAL, "1", true),
            ("anything", Match::ANY.0, "", true),
            ("anything", Match::ANY.0 | Match::CONFLICT, "", false),
            ("", Match::LESS, "1", true),
            ("", Match::GREATER | Match::EQUAL, "1", false),
        ] {
            assert_eq!(
                matches(candidate, Match(op), constraint),
                met,
                "{candidate} {op} {constraint}"
            );
        }
    }

    /// Versions of the grammar, with small numbers so that many share a start.
    pub(crate) fn valid_version() -> impl Strategy<Value = String> {
        "(0|1|2|10|01)(\\.(0|1|2|10|01|09)){0,2}[ab]?(_(alpha|beta|pre|rc|cvs|svn|git|hg|p)(0|1|01|10)?){0,2}(~(a|ab|0))?(-r(0|1|01|10))?"
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn is_a_total_order(a in valid_version(), b in valid_version(), c in valid_version()) {
            prop_assert!(is_valid(&a));
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            let mut sorted = [&a, &b, &c];
            sorted.sort_by(|x, y| compare(x, y));
            prop_assert!(compare(sorted[0], sorted[1]).is_le());
            prop_assert!(compare(sorted[1], sorted[2]).is_le());
            prop_assert!(compare(sorted[0], sorted[2]).is_le());
            if compare(sorted[0], sorted[1]).is_eq() && compare(sorted[1], sorted[2]).is_eq() {
                prop_assert!(compare(sorted[0], sorted[2]).is_eq());
            }
        }

        #[test]
        fn no_text_panics(a in "\\PC*", b in "[0-9a-z._~r-]{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            is_valid(&a);
            has_prefix(&a, &b);
        }

        #[test]
        fn a_version_is_its_own_prefix(a in valid_version()) {
            prop_assert!(has_prefix(&a, &a));
        }
    }
}
