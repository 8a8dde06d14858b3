//! The service supervisor of the Lycia seed.
//!
//! It runs the seed's services from dinit service descriptions, because real dinit is not in the
//! archive the seed is built from. It is not dinit: its name, its version text and its control
//! protocol are its own, and every description it runs has to be valid for real dinit, too.
//!
//! Layers, each using only those before it:
//! - [`lycia_dinit`]: descriptions, the graph of them, and the checker behind `seedctl check`;
//! - [`machine`]: the state machine. It does no I/O and reads no clock: inputs and times go in, actions
//!   come out;
//! - [`protocol`]: requests and replies of the control socket;
//! - [`runtime`]: processes, signals, timers, sockets, the console, and PID 1's own duties.

pub mod machine;
pub mod protocol;
pub mod runtime;

/// What `--version` says, and what the control socket greets with in front of a newline.
pub const VERSION_TEXT: &str = concat!(
    "seed-supervisor ",
    env!("CARGO_PKG_VERSION"),
    " (of the Lycia seed; this is not dinit)"
);
