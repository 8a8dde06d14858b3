//! Whole-program tests of `lycia build`: what it writes is read back by independent programs, built again
//! elsewhere, watched from outside, interrupted and refused.
//!
//! They want the programs of `lycia doctor --tests`, and the tests of the seed want the seed (`lycia setup`).

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]

#[path = "build/errors.rs"]
mod errors;
#[path = "build/faults.rs"]
mod faults;
#[path = "build/incremental.rs"]
mod incremental;
#[path = "build/kill.rs"]
mod kill;
#[path = "build/live.rs"]
mod live;
#[path = "repo/manifests.rs"]
#[allow(dead_code, reason = "the module is shared with other tests")]
mod manifests;
#[path = "build/memory.rs"]
mod memory;
#[path = "build/program.rs"]
mod program;
#[path = "build/read_back.rs"]
mod read_back;
#[path = "build/release.rs"]
mod release;
#[path = "build/reproducible.rs"]
mod reproducible;
#[path = "build/rootless.rs"]
mod rootless;
#[path = "build/small.rs"]
mod small;
