//! apk packages, indexes, signatures, versions, solver and installed database.
//!
//! Bytes in, values out: this crate never opens a file or a socket and has no policy of its own.

pub mod database;
pub mod metadata;
