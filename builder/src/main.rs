//! The program `lycia`.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    let cli = lycia::cli::Cli::parse();
    match lycia::commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lycia: {error}");
            error.exit_code()
        }
    }
}
