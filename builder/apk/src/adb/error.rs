//! What can be wrong with an ADB file.

use super::Schema;
use std::fmt;

/// A value that must not be there, with the way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where in the schema, as `paths[3] "usr/bin", files[0]`.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

impl Damage {
    pub(crate) fn new(problem: impl Into<String>) -> Self {
        Damage {
            place: String::new(),
            problem: problem.into(),
        }
    }

    /// The same damage seen from one level further out.
    pub(crate) fn within(mut self, outer: impl fmt::Display) -> Self {
        self.place = if self.place.is_empty() {
            outer.to_string()
        } else {
            format!("{outer}, {}", self.place)
        };
        self
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.is_empty() {
            f.write_str(&self.problem)
        } else {
            write!(f, "{}: {}", self.place, self.problem)
        }
    }
}

impl std::error::Error for Damage {}

/// What can be wrong with an ADB file.
#[derive(Debug, thiserror::Error)]
pub enum AdbError {
    /// The first bytes are of no known wrapper.
    #[error("not an apk v3 file: it starts with {}", .0.escape_ascii())]
    NotAdb(Vec<u8>),
    /// The wrapper names a compression that this reader does not have.
    #[error("compression {0} is not supported (known: none, deflate, zstd)")]
    UnknownCompression(String),
    /// The compressed stream is damaged.
    #[error("the {method} stream is damaged: {problem}")]
    Decompression {
        /// `deflate` or `zstd`.
        method: &'static str,
        /// What the decompressor says.
        problem: String,
    },
    /// The stream ends within something.
    #[error("the file ends inside {0}")]
    UnexpectedEnd(&'static str),
    /// Something follows what should be the end.
    #[error("unexpected bytes after {0}")]
    TrailingBytes(&'static str),
    /// The stream is of another schema.
    #[error("the file is no {expected}: its schema word is \"{}\", not \"{}\"",
        .found.escape_ascii(), .expected.word().escape_ascii())]
    Schema {
        /// What was asked for.
        expected: Schema,
        /// The word in the file.
        found: [u8; 4],
    },
    /// A block is malformed or stands where it must not.
    #[error("block error: {0}")]
    Block(String),
    /// A bound was passed.
    #[error("{what} is beyond the limit of {limit}")]
    Limit {
        /// What was counted, with its value where that is known.
        what: String,
        /// The bound, in the unit of the count.
        limit: u64,
    },
    /// A value that must not be there.
    #[error("invalid metadata: {0}")]
    Damage(#[from] Damage),
    /// Writing the output failed.
    #[error("cannot write the file: {0}")]
    Write(#[source] std::io::Error),
}
