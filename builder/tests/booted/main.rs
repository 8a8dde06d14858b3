//! What the builder makes, in booted guests. One program for all of them, so that two guests run at a time.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

mod direct;
mod disk;
mod live;
mod mounted;
mod verified;
