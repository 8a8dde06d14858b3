//! `seedctl`: talks to the seed supervisor, checks service descriptions, and ends the system as
//! `poweroff`, `reboot`, `halt` and `shutdown`.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use lycia_dinit::catalogue::{Loader, directories_or_default};
use lycia_dinit::check;
use lycia_dinit::environment::Environment;
use lycia_dinit::files::DiskFiles;
use seed_supervisor::protocol::{COMMANDS, Ending, GREETING, Request, SOCKET_PATH};
use seed_supervisor::{VERSION_TEXT, runtime::system};

const HELP: &str = "\
Control the supervisor of the Lycia seed (which is not dinit).

Usage: seedctl [--socket PATH] COMMAND
       seedctl check [--root DIR] [--services DIR]... [--delivered PATH]...
                     [SERVICE]...
       poweroff | reboot | halt [-f]
       shutdown [-r | -p | -h] [now]

Commands:
";

const HELP_END: &str = "\
  check             Check descriptions: unknown settings, missing dependencies
                    and programs, cycles, chains longer than 32

Exit status: 0 done or yes, 1 failed or no, 2 wrong usage, 3 no supervisor.

Example:
  seedctl start sshd && seedctl status sshd
";

/// Exit statuses.
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const UNREACHABLE: u8 = 3;

fn main() -> ExitCode {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program)
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("seedctl");
    let words: Vec<String> = words.collect();
    let result = match program {
        "poweroff" => end_system(Ending::PowerOff, &words),
        "reboot" => end_system(Ending::Reboot, &words),
        "halt" => end_system(Ending::Halt, &words),
        "shutdown" => shutdown(&words),
        _ => seedctl(&words),
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("{program}: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

struct Failure {
    code: u8,
    message: String,
}

fn usage(message: impl Into<String>) -> Failure {
    Failure {
        code: USAGE,
        message: message.into(),
    }
}

fn seedctl(words: &[String]) -> Result<ExitCode, Failure> {
    let mut socket = PathBuf::from(SOCKET_PATH);
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    if let ["--socket", path, ..] = words[..] {
        socket = path.into();
        words.drain(..2);
    }
    match words[..] {
        [] | ["--help", ..] => {
            print!("{HELP}");
            for (_, usage) in COMMANDS {
                println!("  {usage}");
            }
            print!("{HELP_END}");
            Ok(if words.is_empty() {
                ExitCode::from(USAGE)
            } else {
                ExitCode::SUCCESS
            })
        }
        ["--version"] => {
            println!("{VERSION_TEXT}");
            Ok(ExitCode::SUCCESS)
        }
        ["check", ref rest @ ..] => run_check(rest),
        _ => {
            // The same parser as the supervisor's, so that slips are told without it.
            Request::parse(&words).map_err(|error| usage(format!("{error}; see --help")))?;
            request(&socket, &words.join(" "))
        }
    }
}

/// Sends one request and prints the reply.
fn request(socket: &Path, line: &str) -> Result<ExitCode, Failure> {
    let unreachable = |message: String| Failure {
        code: UNREACHABLE,
        message,
    };
    let shown = socket.display();
    let stream = UnixStream::connect(socket).map_err(|error| {
        unreachable(format!(
            "connecting to {shown}: {error} (is seed-supervisor running?)"
        ))
    })?;
    let talk = |what: &str, error: std::io::Error| unreachable(format!("{what} {shown}: {error}"));
    stream
        .set_read_timeout(Some(Duration::from_secs(10)))
        .map_err(|error| talk("preparing", error))?;
    let mut reader = BufReader::new(&stream);
    let mut greeting = String::new();
    reader
        .by_ref()
        .take(128)
        .read_line(&mut greeting)
        .map_err(|error| talk("reading from", error))?;
    if greeting.trim_end() != GREETING {
        return Err(unreachable(format!(
            "{shown} does not belong to this version of seed-supervisor"
        )));
    }
    (&stream)
        .write_all(format!("{line}\n").as_bytes())
        .map_err(|error| talk("writing to", error))?;
    // From here on the answer takes as long as the service does.
    stream
        .set_read_timeout(None)
        .map_err(|error| talk("preparing", error))?;
    let mut out = std::io::stdout().lock();
    for reply in reader.split(b'\n') {
        let reply = reply.map_err(|error| talk("reading from", error))?;
        let reply = String::from_utf8_lossy(&reply);
        if let Some(data) = reply.strip_prefix(' ') {
            if writeln!(out, "{data}").is_err() {
                return Ok(ExitCode::from(FAILED));
            }
        } else if let Some(message) = reply.strip_prefix("error: ") {
            return Err(Failure {
                code: FAILED,
                message: message.into(),
            });
        } else {
            return Ok(if reply == "ok" {
                ExitCode::SUCCESS
            } else {
                ExitCode::from(FAILED)
            });
        }
    }
    Err(unreachable(format!(
        "{shown} was closed before the answer was complete"
    )))
}

fn shutdown(words: &[String]) -> Result<ExitCode, Failure> {
    let mut ending = Ending::PowerOff;
    let mut rest = Vec::new();
    for word in words {
        match word.as_str() {
            "-r" => ending = Ending::Reboot,
            "-p" | "-P" => ending = Ending::PowerOff,
            "-h" | "-H" => ending = Ending::Halt,
            "now" | "+0" => {}
            "-f" => rest.push(word.clone()),
            other => return Err(usage(format!("`{other}`: shutdown takes -r, -p, -h, -f and now"))),
        }
    }
    end_system(ending, &rest)
}

fn end_system(ending: Ending, words: &[String]) -> Result<ExitCode, Failure> {
    match words {
        [] => {
            let option = match ending {
                Ending::Reboot => "-r",
                Ending::PowerOff => "-p",
                Ending::Halt => "-h",
            };
            request(Path::new(SOCKET_PATH), &format!("shutdown {option}")).map_err(|failure| Failure {
                message: format!(
                    "{}; -f ends the system without stopping services",
                    failure.message
                ),
                ..failure
            })
        }
        [force] if force == "-f" => {
            let error = system::finish(ending);
            Err(Failure {
                code: FAILED,
                message: format!("asking the kernel: {error}"),
            })
        }
        _ => Err(usage("the only option is -f: at once, without stopping services")),
    }
}

fn run_check(words: &[&str]) -> Result<ExitCode, Failure> {
    let mut root = PathBuf::from("/");
    let mut directories = Vec::new();
    let mut request = check::Request {
        services: Vec::new(),
        runner: check::Runner::SeedSupervisor,
        delivered: BTreeSet::new(),
    };
    let mut words = words.iter().copied();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| usage(format!("{word} needs a value")));
        match word {
            "--root" => root = value()?.into(),
            "--services" => directories.push(PathBuf::from(value()?)),
            "--delivered" => {
                request.delivered.insert(value()?.into());
            }
            option if option.starts_with('-') => return Err(usage(format!("check has no option {option}"))),
            name => request.services.push(name.into()),
        }
    }
    let files = DiskFiles::new(root);
    let directories = directories_or_default(&directories);
    let environment = Environment::new();
    let loader = Loader {
        files: &files,
        directories: &directories,
        environment: &environment,
    };
    let report = check::check(&loader, &request);
    for finding in &report.findings {
        println!("{finding}");
    }
    let steps = report.longest.len().saturating_sub(1);
    println!(
        "{} services, longest chain {steps} steps, {} findings",
        report.services,
        report.findings.len()
    );
    Ok(if report.has_errors() {
        ExitCode::from(FAILED)
    } else {
        ExitCode::SUCCESS
    })
}
