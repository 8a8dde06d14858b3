//! Writers and readers of media formats: cpio, tar, squashfs, EROFS, ext4, FAT, GPT/MBR, whole disks, qcow2,
//! ISO 9660, hash trees.
//!
//! Every writer takes a value (a [`lycia_tree::Tree`], a table of partitions) and what else the format
//! wants to know (labels, identifiers, times) and gives the same bytes for the same input. Nothing here reads a
//! clock, draws a random number, runs a program or makes a file.

pub mod compress;
pub mod cpio;
pub mod disk;
pub mod erofs;
pub mod ext4;
pub mod fat;
pub mod iso9660;
pub mod partition;
pub mod qcow2;
mod sparse;
pub mod squashfs;
pub mod tar;
pub mod verity;
