//! Disk images and network boot kits of small projects, judged by sgdisk, sfdisk, e2fsck, debugfs, fsck.vfat, mtools and qemu-img.

#![allow(clippy::unwrap_used, reason = "a test ends at the first surprise")]
#![allow(dead_code, reason = "the modules are shared with other tests")]

#[path = "disk/devices.rs"]
mod devices;
#[path = "disk/forms.rs"]
mod forms;
#[path = "disk/judge.rs"]
mod judge;
#[path = "build/program.rs"]
mod program;
#[path = "build/small.rs"]
mod small;
#[path = "disk/tables.rs"]
mod tables;
