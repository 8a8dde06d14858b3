//! `lycia-install`: see the library for what it does.

mod ask;
mod cli;
mod directory;
mod full_screen;
mod line;
mod repair;
mod unattended;
mod unlock;
mod verbs;

use clap::Parser as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    match verbs::run(cli::Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            eprintln!("lycia-install: {failure}");
            ExitCode::from(failure.code())
        }
    }
}
