//! `lycia-install`: see the library for what it does.

use clap::{Args, Parser, Subcommand};
use lycia_installer::plan::{PlanError, erase_disk};
use lycia_installer::probe::{Machine, ProbeError, Views, probe};
use lycia_installer::select::{SelectError, select};
use lycia_installer::{allocator, show};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

const AFTER: &str = "\
Nothing is written to any disk: there is no verb that applies a plan yet.

Exit codes:
  0  done
  1  something could not be read
  2  wrong usage
  3  the selector matches no disk, or more than one
  4  the disk cannot be used as planned
  5  the parts of the root contradict each other (allocator)

Example:
  lycia-install plan --disk ata-Samsung_SSD_870_S5Y1NX0R";

/// Installs the system that the running medium carries
#[derive(Debug, Parser)]
#[command(name = "lycia-install", version, after_help = AFTER, max_term_width = 80)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List disks, their use, firmware and memory
    Probe {
        #[command(flatten)]
        views: ViewArgs,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Compute what erasing a disk would write where; writes nothing
    Plan {
        /// The disk: a name in /dev/disk/by-id or by-path, a serial number, or a
        /// device node
        #[arg(long, value_name = "SELECTOR")]
        disk: String,
        #[command(flatten)]
        views: ViewArgs,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
    /// Say which memory allocator the C library of a root has
    Allocator {
        /// The root directory
        #[arg(long, value_name = "DIR", default_value = "/")]
        root: PathBuf,
        /// Write JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
struct ViewArgs {
    /// Read this in place of /sys
    #[arg(long, value_name = "DIR", default_value = "/sys")]
    sysfs: PathBuf,
    /// Read this in place of /proc
    #[arg(long, value_name = "DIR", default_value = "/proc")]
    proc: PathBuf,
    /// Read this in place of /dev
    #[arg(long, value_name = "DIR", default_value = "/dev")]
    dev: PathBuf,
}

impl ViewArgs {
    fn probe(self) -> Result<Machine, Failure> {
        Ok(probe(&Views {
            sysfs: self.sysfs,
            proc: self.proc,
            dev: self.dev,
        })?)
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Probe(#[from] ProbeError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Allocator(#[from] allocator::AllocatorError),
    #[error("writing JSON: {0}")]
    Json(#[from] serde_json::Error),
    #[error("writing the output: {0}")]
    Output(#[from] std::io::Error),
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Select(_) => 3,
            Self::Plan(PlanError::Wrong { .. }) => 1,
            Self::Plan(_) => 4,
            Self::Probe(_) | Self::Allocator(_) | Self::Json(_) | Self::Output(_) => 1,
        }
    }
}

fn run(cli: Cli) -> Result<u8, Failure> {
    let mut code = 0;
    let text = match cli.verb {
        Verb::Probe { views, json } => {
            let machine = views.probe()?;
            if json {
                serde_json::to_string_pretty(&machine)? + "\n"
            } else {
                show::machine(&machine)
            }
        }
        Verb::Plan { disk, views, json } => {
            let machine = views.probe()?;
            let plan = erase_disk(select(&machine, &disk)?)?.check()?;
            if json {
                plan.json()? + "\n"
            } else {
                format!(
                    "{}\nThis is only a plan: nothing was written, and there is no verb to apply it yet.\n",
                    plan.text()
                )
            }
        }
        Verb::Allocator { root, json } => {
            let report = allocator::inspect(&root)?;
            if !report.contradictions.is_empty() {
                code = 5;
            }
            if json {
                serde_json::to_string_pretty(&report)? + "\n"
            } else {
                report.text()
            }
        }
    };
    match std::io::stdout().write_all(text.as_bytes()) {
        // A reader such as `head` has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(code),
        other => other.map(|()| code).map_err(Failure::Output),
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("lycia-install: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
