//! What boots a root: the initramfs, GRUB's images, GRUB's menu of an installed system.
//!
//! Values in, values out: everything comes from a [`lycia_tree::Tree`] and goes into bytes or another tree. Nothing here opens a
//! file, runs a program or reads a clock. The builder uses it for live media, the installer for disks.

pub mod grub;
pub mod initramfs;
mod kernel;
mod lzma;
pub mod menu;

use lycia_media::cpio::CpioError;
use lycia_root::RootError;
use lycia_tree::TreeError;
use thiserror::Error;

pub use kernel::{Kernel, kernels};

/// Why something that boots could not be made.
#[derive(Debug, Error)]
pub enum BootError {
    /// The tree refuses a path.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// The modules of the kernel cannot be read.
    #[error("modules: {0}")]
    Modules(#[from] RootError),
    /// The archive cannot be written.
    #[error("writing the initramfs: {0}")]
    Archive(#[from] CpioError),
    /// A path of the root is no regular file.
    #[error("{0} is not a regular file")]
    NotAFile(String),
    /// Links lead in a circle.
    #[error("{0}: too many links")]
    Links(String),
    /// A program's library is missing.
    #[error("{program} needs the library {library}, which the root lacks")]
    Library {
        /// The program.
        program: String,
        /// The library.
        library: String,
    },
    /// The initramfs has no init.
    #[error("the root has no {0}: add the package lycia-init")]
    NoInit(String),
}
