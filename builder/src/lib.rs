//! Builds bootable live and installer images of musl/LLVM Linux systems.
//!
//! This crate decides and joins the others: definitions become a lock, a lock becomes packages, packages
//! become a root, a root becomes media. It never writes under a final name before the output is whole, and
//! needs neither root nor a mount, a loop device, a namespace or a program of the target.

pub mod archive;
pub mod attribution;
pub mod blocks;
pub mod booted;
pub mod build;
pub mod choice;
pub mod cli;
pub mod commands;
pub mod definition;
pub mod difference;
pub mod disk;
pub mod error;
pub mod fetch;
pub mod grub;
pub mod hashing;
pub mod host;
pub mod initramfs;
pub mod lock;
pub mod manifest;
pub mod medium;
pub mod netboot;
pub mod oci;
pub mod offer;
pub mod overlay;
pub mod packages;
pub mod packs;
pub mod progress;
pub mod release;
pub mod repository;
pub mod root;
pub mod sbom;
pub mod serve;
pub mod store;
pub mod twice;
pub mod unchanged;
pub mod verified;
pub mod why;
