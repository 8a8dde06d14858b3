//! The installer: looks at the machine, computes a checked plan, and carries it out with a journal.
//!
//! * [`probe`] says which disks there are, what they are used for, and which may be installed to; [`contents`] what is on them, [`found`] what is on one.
//! * [`select`] finds exactly one disk by its identity.
//! * [`answers`] is what a person wants, typed in and resolved; [`obtain`] is where it comes from, [`secret`] are its passwords.
//! * [`medium`] and [`source`] are where packages come from; [`system`] is the tree that they and the answers make.
//! * [`plan`] computes what is written where, down to the byte; [`engine`] joins all of these.
//! * [`file_system`] says what the file systems of a root need, [`tools`] makes those that this program does not write, [`unfold`] fills them.
//! * [`mounted`] installs into a directory in which file systems are mounted.
//! * [`apply`] writes a plan to a [`device`], [`journal`] makes that resumable and undoable.
//! * [`ui`] asks for answers on a terminal; [`advice`] says what a choice of packages comes to, [`stop`] lets people stop.
//! * [`rescue`] finds installed systems, mounts and checks them.
//! * [`allocator`] says which memory allocator the C library of a root has, [`switch`] changes it.
//!
//! Only [`apply`], [`journal`] and [`switch`] write, to the disk or root that was named and confirmed, and nothing outside of the ranges of the plan; [`tools`]
//! and [`unfold`] do so for [`apply`].

pub mod advice;
pub mod allocator;
pub mod answers;
pub mod apply;
pub mod boot_repair;
pub mod contents;
pub mod device;
pub mod encryption;
pub mod engine;
pub mod esp;
pub mod file_system;
#[cfg(test)]
mod fixture;
pub mod found;
pub mod journal;
pub mod kernel;
pub mod keyboard;
pub mod log;
pub mod medium;
pub mod mounted;
pub mod nvram;
pub mod obtain;
pub mod plan;
pub mod probe;
pub mod rescue;
pub mod secret;
pub mod select;
pub mod show;
mod software;
pub mod source;
pub mod stop;
pub mod swap;
pub mod switch;
pub mod system;
pub mod toml_file;
pub mod tools;
pub mod ui;
pub mod unfold;
pub mod usage;
