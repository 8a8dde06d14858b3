//! The program `lycia`.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser as _;

fn main() -> ExitCode {
    // Past a limit on the size of files the system ends a program that does not listen to this; one that
    // does gets an error from its write, which says what could not be written. Programs that are started
    // from here get the system's way back. Nothing to do where it cannot be had.
    let heard = Arc::new(AtomicBool::new(false));
    let _ = signal_hook::flag::register(signal_hook::consts::SIGXFSZ, heard);
    let cli = lycia::cli::Cli::parse();
    match lycia::commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lycia: {}", error.shown());
            error.exit_code()
        }
    }
}
