//! dinit service descriptions (dinit-service(5) of dinit 0.22), for whoever reads them: the seed's
//! supervisor, which runs them, and the builder, which checks those of a root that it assembles.
//!
//! Layers, each using only those before it:
//! - [`text`], [`substitution`], [`environment`], [`files`]: the syntax, and where files come from;
//! - [`description`]: one service description;
//! - [`catalogue`]: descriptions found, loaded and joined to a graph without cycles;
//! - [`check`]: what would go wrong, told before it does.
//!
//! It never starts anything, and reads files through [`files::Files`] alone. It is linked into PID 1 of
//! the seed, so it has few dependencies.

pub mod catalogue;
pub mod check;
pub mod description;
pub mod environment;
pub mod files;
pub mod signal;
pub mod substitution;
pub mod suggest;
pub mod text;
