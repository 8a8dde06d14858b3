//! PID 1 of the initramfs: finds the live medium or the root, puts the root together and hands over.
//!
//! What decides is pure and tested on values: [`cmdline`], [`config`], [`request`], [`modules`],
//! [`superblock`], [`device`], [`plan`], [`accounts`], [`keymap`]'s reading. What acts is thin: [`kmod`], [`device_mapper`], [`verity`], [`find`], [`assemble`],
//! [`setup`], [`handover`], [`emergency`], joined by [`boot`].
//!
//! This crate never allocates without bound, never waits without a limit, and never writes to a disk: every
//! mount of a device is read-only unless the command line says `rw` for the root, or `growroot` ([`grow`]).

pub mod accounts;
pub mod assemble;
pub mod boot;
pub mod cmdline;
pub mod config;
pub mod device;
pub mod device_mapper;
pub mod digest;
pub mod emergency;
pub mod find;
pub mod grow;
pub mod handover;
pub mod keymap;
pub mod kmod;
pub mod log;
pub mod loopdev;
pub mod modules;
pub mod offered;
pub mod password;
pub mod plan;
pub mod request;
pub mod rootdir;
pub mod services;
pub mod setup;
pub mod superblock;
pub mod unlock;
pub mod verity;

use request::Step;

/// Why a boot stopped: which step, doing what, why, and what to try.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what}: {why}")]
pub struct Failure {
    /// The step.
    pub step: Step,
    /// What was being done, on what.
    pub what: String,
    /// Why it failed.
    pub why: String,
    /// What people can try.
    pub hint: String,
}

impl Failure {
    /// A failure.
    pub fn new(
        step: Step,
        what: impl Into<String>,
        why: impl std::fmt::Display,
        hint: impl Into<String>,
    ) -> Self {
        Self {
            step,
            what: what.into(),
            why: why.to_string(),
            hint: hint.into(),
        }
    }
}
