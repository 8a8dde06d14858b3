//! The installer: looks at the machine, computes a checked plan, and (not yet) carries it out.
//!
//! * [`probe`] says which disks there are, what they are used for, and which may be installed to.
//! * [`select`] finds exactly one disk by its identity.
//! * [`plan`] computes what would be written where, down to the byte.
//! * [`allocator`] says which memory allocator the C library of a root has.
//!
//! Nothing in this crate opens a disk, neither for reading nor for writing: everything comes from sysfs,
//! procfs and the links of udev.

pub mod allocator;
pub mod answers;
pub mod apply;
pub mod device;
pub mod found;
pub mod journal;
pub mod plan;
pub mod probe;
pub mod secret;
pub mod select;
pub mod show;
pub mod toml_file;
pub mod usage;
