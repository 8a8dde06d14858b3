//! `seed-supervisor`: PID 1 of the seed, or a supervisor of some services for tests.

use std::path::PathBuf;
use std::process::ExitCode;

use lycia_dinit::catalogue::system_directories;
use lycia_dinit::environment::{self, Environment};
use lycia_dinit::text;
use seed_supervisor::VERSION_TEXT;
use seed_supervisor::protocol::{Ending, SOCKET_PATH};
use seed_supervisor::runtime::{Outcome, Settings, Supervisor, system};

const HELP: &str = "\
Service supervisor of the Lycia seed. It reads dinit service descriptions; it
is not dinit.

Usage: seed-supervisor                      (as process 1: runs the system)
       seed-supervisor --not-pid1 --services DIR --socket PATH [SERVICE]

Options:
  --not-pid1        Supervise SERVICE (default: boot) without owning the system
  --services DIR    Directory of service descriptions; may be repeated
  --socket PATH     Control socket
  --env-file FILE   Environment file
  --quiet           Show only failures
  --help            Show this text
  --version         Show name and version

Example:
  seed-supervisor --not-pid1 --services ./dinit.d --socket ./control boot
";

/// The environment file of the system (dinit(8), \"Files\").
const ENVIRONMENT_FILE: &str = "/etc/dinit/environment";

#[derive(Default)]
struct Arguments {
    not_pid1: bool,
    services: Vec<PathBuf>,
    socket: Option<PathBuf>,
    env_file: Option<PathBuf>,
    quiet: bool,
    names: Vec<String>,
}

fn parse(words: impl Iterator<Item = String>, as_pid1: bool) -> Result<Arguments, String> {
    let mut out = Arguments::default();
    let mut words = words;
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(format!("{word} needs a value"));
        match word.as_str() {
            "--not-pid1" => out.not_pid1 = true,
            "--quiet" => out.quiet = true,
            "--services" => out.services.push(value()?.into()),
            "--socket" => out.socket = Some(value()?.into()),
            "--env-file" => out.env_file = Some(value()?.into()),
            "--help" => {
                print!("{HELP}");
                std::process::exit(0);
            }
            "--version" => {
                println!("{VERSION_TEXT}");
                std::process::exit(0);
            }
            // The kernel hands process 1 every word that it does not know.
            _ if as_pid1 => out.names.push(word),
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => out.names.push(word),
        }
    }
    Ok(out)
}

fn main() -> ExitCode {
    let as_pid1 = std::process::id() == 1;
    let arguments = match parse(std::env::args().skip(1), as_pid1) {
        Ok(arguments) => arguments,
        Err(message) => {
            eprintln!("seed-supervisor: {message}; see --help");
            return ExitCode::from(2);
        }
    };
    if as_pid1 && !arguments.not_pid1 {
        run_as_pid1(&arguments);
    }
    if !arguments.not_pid1 {
        eprintln!("seed-supervisor: this is not process 1; use --not-pid1 to supervise services anyway");
        return ExitCode::from(2);
    }
    run_beside(arguments)
}

/// Supervises services of somebody who is not the whole system.
fn run_beside(arguments: Arguments) -> ExitCode {
    let Some(socket) = arguments.socket else {
        eprintln!("seed-supervisor: --not-pid1 needs --socket; see --help");
        return ExitCode::from(2);
    };
    if arguments.services.is_empty() || arguments.names.len() > 1 {
        eprintln!("seed-supervisor: --not-pid1 needs --services and at most one service; see --help");
        return ExitCode::from(2);
    }
    // Descriptions are looked up from the root, whatever the working directory is.
    let absolute = |path: PathBuf| std::path::absolute(&path).unwrap_or(path);
    let mut environment: Environment = std::env::vars().collect();
    if let Some(file) = &arguments.env_file
        && let Err(message) = read_environment(file, &mut environment)
    {
        eprintln!("seed-supervisor: {message}");
        return ExitCode::from(2);
    }
    let settings = Settings {
        is_pid1: false,
        directories: arguments.services.into_iter().map(absolute).collect(),
        socket,
        environment,
        first: arguments
            .names
            .into_iter()
            .next()
            .unwrap_or_else(|| "boot".into()),
        quiet: arguments.quiet,
    };
    let outcome = Supervisor::new(settings).and_then(|mut supervisor| supervisor.run());
    match outcome {
        Ok(Outcome::Asked(_)) => ExitCode::SUCCESS,
        Ok(Outcome::NothingLeft | Outcome::Abandoned) => ExitCode::from(1),
        Err(error) => {
            eprintln!("seed-supervisor: {error}");
            ExitCode::from(1)
        }
    }
}

fn read_environment(file: &std::path::Path, environment: &mut Environment) -> Result<(), String> {
    let shown = file.display();
    let text = std::fs::read(file).map_err(|error| format!("reading {shown}: {error}"))?;
    if text.len() > text::MAX_FILE_BYTES {
        return Err(format!("{shown} is larger than {} bytes", text::MAX_FILE_BYTES));
    }
    let text = String::from_utf8(text).map_err(|_| format!("{shown} is not UTF-8 text"))?;
    let original = environment.clone();
    environment::apply(&text, &original, environment).map_err(|error| format!("{shown}: {error}"))
}

/// Process 1 never returns: its end would be a kernel panic.
fn run_as_pid1(arguments: &Arguments) -> ! {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let mut problems = system::mount_missing();
    system::open_console();
    system::catch_ctrl_alt_del();
    let words = system::kernel_words();
    let given = |word: &str| arguments.names.iter().chain(&words).any(|given| given == word);
    let mut environment = system::first_environment();
    let file = arguments
        .env_file
        .clone()
        .unwrap_or_else(|| ENVIRONMENT_FILE.into());
    if file.exists()
        && let Err(message) = read_environment(&file, &mut environment)
    {
        problems.push(message);
    }
    let directories = if arguments.services.is_empty() {
        system_directories()
    } else {
        arguments.services.clone()
    };
    let settings = Settings {
        is_pid1: true,
        directories,
        socket: arguments.socket.clone().unwrap_or_else(|| SOCKET_PATH.into()),
        environment,
        first: if given("single") {
            "single".into()
        } else {
            "boot".into()
        },
        quiet: arguments.quiet || given("quiet"),
    };
    let ending = match Supervisor::new(settings) {
        Ok(mut supervisor) => {
            for problem in &problems {
                supervisor.tell(problem);
            }
            match supervisor.run() {
                Ok(Outcome::Asked(ending)) => ending,
                Ok(Outcome::Abandoned | Outcome::NothingLeft) => Ending::PowerOff,
                Err(error) => give_up(&error.to_string()),
            }
        }
        Err(error) => give_up(&error.to_string()),
    };
    let error = system::finish(ending);
    eprintln!("seed-supervisor: {}: {error}", ending.word());
    loop {
        // The kernel has refused to end; the power switch is left.
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
}

/// Without signals or polling nothing can be supervised: say so long enough to be read, then reboot.
fn give_up(message: &str) -> Ending {
    eprintln!("seed-supervisor: {message}; the system starts again in 30 seconds");
    std::thread::sleep(std::time::Duration::from_secs(30));
    Ending::Reboot
}
