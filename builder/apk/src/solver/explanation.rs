//! Saying why a request cannot be met.

use std::fmt;

use super::Attempt;
use super::request::Plan;
use super::universe::Universe;
use super::SolveError;

/// A request that cannot be met.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsolvable {
    /// How many errors apk would count; its exit status.
    pub errors: usize,
    /// sentences
    pub reasons: Vec<String>,
}

impl std::error::Error for Unsolvable {}

impl fmt::Display for Unsolvable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.reasons.join("; "))
    }
}

impl From<Unsolvable> for SolveError {
    fn from(unsolvable: Unsolvable) -> Self {
        SolveError::Unsolvable(Box::new(unsolvable))
    }
}

pub(super) fn explain(_u: &Universe, _p: &Plan, attempt: &Attempt<'_>, _limit: Option<u64>) -> Unsolvable {
    Unsolvable { errors: attempt.solver.errors, reasons: vec![] }
}
