//! Whole-program tests of repositories: made, signed, verified and served by `lycia repo`, and built from over
//! HTTP.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(dead_code, reason = "the modules are shared with other tests")]

#[path = "repo/alpine.rs"]
mod alpine;
#[path = "repo/chimera.rs"]
mod chimera;
#[path = "repo/chimera_disk.rs"]
mod chimera_disk;
#[path = "repo/http.rs"]
mod http;
#[path = "disk/judge.rs"]
mod judge;
#[path = "repo/lock.rs"]
mod lock;
#[path = "repo/make.rs"]
mod make;
#[path = "repo/manifests.rs"]
mod manifests;
#[path = "repo/outputs.rs"]
mod outputs;
#[path = "build/program.rs"]
mod program;
#[path = "repo/remote.rs"]
mod remote;
#[path = "build/small.rs"]
mod small;
#[path = "repo/triggers.rs"]
mod triggers;
