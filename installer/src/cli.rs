//! The command line.

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

use crate::unlock::UnlockArgs;

const AFTER: &str = "\
Exit codes:
  0  done
  1  something could not be read or written
  2  wrong usage or wrong answers
  3  the selector matches no disk, or more than one
  4  the disk cannot be used as planned
  5  the parts of a root contradict each other (allocator)
  6  packages cannot be had or do not fit
  7  the plan was not confirmed; nothing was written
  8  the disk was written and is not finished: resume or undo

Example:
  lycia-install plan --answers server.toml
  lycia-install install --answers server.toml --confirm HASH";

/// Installs the system that the running medium carries
#[derive(Debug, Parser)]
#[command(name = "lycia-install", version, after_help = AFTER, max_term_width = 80)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List disks, what is on them and uses them, firmware, memory, network
    Probe {
        #[command(flatten)]
        views: ViewArgs,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Check an answers file without looking at any disk
    Check {
        /// The file
        file: PathBuf,
    },
    /// Show what an installation would write where; writes nothing
    Plan {
        #[command(flatten)]
        what: WhatArgs,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Ask for everything on this terminal, then install
    Ask {
        /// Begin with the answers of this file
        #[arg(long, value_name = "FILE")]
        answers: Option<PathBuf>,
        /// Where the answers are saved to, readable by you alone
        #[arg(long, value_name = "FILE", default_value = "answers.toml")]
        save: PathBuf,
        /// Only text, line by line: for speech, braille and logs
        #[arg(long)]
        plain: bool,
        /// Where the medium is mounted
        #[arg(long, value_name = "DIR", default_value = lycia_installer::medium::MOUNT)]
        medium: PathBuf,
        /// Folder for unpacked packages; needs room for all of them
        #[arg(long, value_name = "DIR", default_value = "/run")]
        scratch: PathBuf,
        #[command(flatten)]
        views: ViewArgs,
    },
    /// Install as an answers file says
    Install {
        #[command(flatten)]
        what: WhatArgs,
        /// Agree to the plan with this hash, as `plan` shows it
        #[arg(long, value_name = "HASH")]
        confirm: Option<String>,
        /// Stop after showing the plan
        #[arg(long)]
        dry_run: bool,
    },
    /// Finish an installation that was interrupted: with `--disk` by what its
    /// journal has (passwords are asked for), else by the same answers
    Resume {
        #[command(flatten)]
        what: WhatArgs,
        /// Agree to the plan with this hash, as `plan` shows it
        #[arg(long, value_name = "HASH")]
        confirm: Option<String>,
    },
    /// Bring back the partition table and headers that an installation wrote over
    Undo {
        /// The disk, as for `plan --disk`
        #[arg(long, value_name = "SELECTOR")]
        disk: String,
        #[command(flatten)]
        views: ViewArgs,
        /// Do it without asking: the kernel's name of the disk
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
    },
    /// List installed systems on all disks; writes nothing, and mounts nothing
    /// unless told to
    Systems {
        /// Mount what cannot be read otherwise (xfs, btrfs, f2fs), read-only and
        /// seen by nobody else, to find the systems in it
        #[arg(long)]
        look: bool,
        /// Look into encrypted volumes, too: ask for their passphrase
        #[arg(long)]
        unlock: bool,
        #[command(flatten)]
        passphrase: UnlockArgs,
        #[command(flatten)]
        views: ViewArgs,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Mount an installed system on a directory
    Mount {
        /// The directory
        directory: PathBuf,
        /// UUID or host name of the system; needed where there are several
        #[arg(long, value_name = "SYSTEM")]
        system: Option<String>,
        #[command(flatten)]
        passphrase: UnlockArgs,
    },
    /// Unmount what `mount` mounted, and close its encrypted volume
    #[command(alias = "umount")]
    Unmount {
        /// The directory
        directory: PathBuf,
    },
    /// Run a shell, or a program, in an installed system
    Chroot {
        /// UUID or host name of the system; needed where there are several
        #[arg(long, value_name = "SYSTEM")]
        system: Option<String>,
        #[command(flatten)]
        passphrase: UnlockArgs,
        /// The program with its arguments
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// Check and repair the root of an installed system that is not mounted;
    /// btrfs is only checked
    Fsck {
        /// UUID or host name of the system; needed where there are several
        #[arg(long, value_name = "SYSTEM")]
        system: Option<String>,
        #[command(flatten)]
        passphrase: UnlockArgs,
    },
    /// Write boot loader, menu and initramfs of an installed system again
    BootRepair {
        /// UUID or host name of the system; needed where there are several
        #[arg(long, value_name = "SYSTEM")]
        system: Option<String>,
        #[command(flatten)]
        passphrase: UnlockArgs,
        /// Where the medium is mounted
        #[arg(long, value_name = "DIR", default_value = lycia_installer::medium::MOUNT)]
        medium: PathBuf,
        /// Do it without asking: the kernel's name of the disk
        #[arg(long, value_name = "NAME")]
        confirm: Option<String>,
        /// Stop after showing what would be written
        #[arg(long)]
        dry_run: bool,
    },
    /// Install as lycia.answers= of the kernel's command line says; without
    /// it, do nothing
    Unattended {
        /// Where the medium is mounted
        #[arg(long, value_name = "DIR", default_value = lycia_installer::medium::MOUNT)]
        medium: PathBuf,
        /// Folder for unpacked packages; needs room for all of them
        #[arg(long, value_name = "DIR", default_value = "/run")]
        scratch: PathBuf,
        #[command(flatten)]
        views: ViewArgs,
    },
    /// Say which memory allocator a root has, or change it
    Allocator {
        /// The allocator to change to; without it nothing is changed
        name: Option<String>,
        /// The root directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// In place of a directory an installed system that is not mounted:
        /// its UUID or host name, or `any` for the only one
        #[arg(long, value_name = "SYSTEM", conflicts_with = "root")]
        system: Option<String>,
        #[command(flatten)]
        passphrase: UnlockArgs,
        /// Where a medium is mounted whose packages are taken; without it the
        /// running system takes those of its repositories, and else the medium
        /// that was started
        #[arg(long, value_name = "DIR")]
        medium: Option<PathBuf>,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
}

/// What is to be installed.
#[derive(Debug, Args)]
pub struct WhatArgs {
    /// The answers: a file; https://… or http://…, with #sha256=HEX where
    /// the file is pinned; `drive`, a drive labelled LYCIA_ANSWERS; or
    /// `auto`, what lycia.answers= of the kernel's command line names
    #[arg(
        long,
        value_name = "PLACE",
        required_unless_present = "disk",
        conflicts_with = "disk"
    )]
    pub answers: Option<String>,
    /// The disk alone: `plan` shows what erasing it would write
    /// (to `resume`: the disk that has the journal): a name in
    /// /dev/disk/by-id or by-path, a serial number, or a device node
    #[arg(long, value_name = "SELECTOR")]
    pub disk: Option<String>,
    /// Where the medium is mounted
    #[arg(long, value_name = "DIR", default_value = lycia_installer::medium::MOUNT)]
    pub medium: PathBuf,
    /// Folder for unpacked packages; needs room for all of them
    #[arg(long, value_name = "DIR", default_value = "/run")]
    pub scratch: PathBuf,
    /// Where the log is added to; the medium gets it too if it can be written
    #[arg(long, value_name = "FILE", default_value = lycia_installer::log::RUNNING)]
    pub log: PathBuf,
    #[command(flatten)]
    pub views: ViewArgs,
}

/// The kernel's views of the machine.
#[derive(Debug, Clone, Args)]
pub struct ViewArgs {
    /// Read this in place of /sys
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    pub sysfs: PathBuf,
    /// Read this in place of /proc
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    pub proc: PathBuf,
    /// Read this in place of /dev
    #[arg(long, value_name = "DIR", default_value = "/dev")]
    pub dev: PathBuf,
}
