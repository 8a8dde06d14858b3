//! apk packages, indexes, signatures, versions, solver and installed database.
//!
//! Bytes in, values out: this crate never opens a file or a socket and has no policy of its own.

pub mod adb;
pub mod database;
pub mod dependency;
pub mod glob;
pub mod index;
pub mod install;
pub mod keys;
pub mod limits;
pub mod metadata;
pub mod package;
pub mod repositories;
pub mod solver;
mod v2;
pub mod version;

pub use v2::V2Error;
