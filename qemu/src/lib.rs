//! Boots media under QEMU, scripts consoles, takes screenshots, reports.
//!
//! A [`Machine`] says what is booted; [`Machine::start`] gives a [`Guest`]: a QEMU that cannot outlive its
//! owner, with its first serial port as a scriptable [`Console`], the lines of the guest's report agent as
//! [`Report`], its screen and its keyboard. This crate knows files only: nothing of how a medium was made.
//!
//! It never waits without a limit, never gives a guest a network beyond forwards to 127.0.0.1, and never uses
//! KVM before a tiny guest has answered under it ([`Accelerator::probe`]).
//!
//! ```no_run
//! use lycia_qemu::{Architecture, Firmware, Machine, Medium};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), lycia_qemu::Error> {
//! let mut machine = Machine::new(Architecture::X86_64, Firmware::Uefi);
//! machine.media.push(Medium::cdrom("live.iso"));
//! let mut guest = machine.start()?;
//! guest.stage("boot");
//! guest.serial.login("root", "secret", Duration::from_secs(300))?;
//! let kernel = guest.serial.run("uname -r", Duration::from_secs(20))?.successful()?;
//! guest.screenshot("screen.png".as_ref())?;
//! guest.powerdown()?;
//! guest.wait_exit(Duration::from_secs(60))?;
//! # drop(kernel);
//! # Ok(())
//! # }
//! ```

mod accelerator;
mod console;
mod error;
mod firmware;
mod guest;
mod keyboard;
mod machine;
mod monitor;
mod process;
mod report;
mod screen;
mod session;
mod terminal;
mod transcript;

pub use accelerator::{ACCELERATOR_VARIABLE, Accelerator, Probe};
pub use console::{Console, Match};
pub use error::{Context, Error};
pub use firmware::{Firmware, FirmwareFiles};
pub use guest::Guest;
pub use keyboard::Key;
pub use machine::{Architecture, DirectBoot, Forward, Machine, Medium, MediumKind, Network, Service, Writes};
pub use monitor::Event;
pub use report::{Facts, Line, LineError, REPORT_PORT, Report, ReportParser};
pub use screen::Screen;
pub use session::Output;
pub use terminal::plain_text;
