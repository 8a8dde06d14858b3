//! Runs the seed engine on this project's recipes.
//!
//! `cargo run -p lycia-seed --example seed -- [--only NAME]… [--force NAME]… [--explain] [--jobs N] [--project DIR] [--store DIR]
//! [--arch A] [--refresh] [--offline]`

use lycia_seed::{Event, Outcome, Progress, SeedOptions, Stage, Store};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

struct Lines;

impl Progress for Lines {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started {
                recipe,
                reasons,
                expected_seconds,
            } => {
                eprintln!(
                    "{recipe}: starts (about {expected_seconds:.0} s): {}",
                    reasons.join("; ")
                );
            }
            Event::Stage {
                recipe,
                stage: Stage::Step(step),
                done,
                total,
            } => {
                eprintln!("{recipe}: {step} ({}/{total})", done + 1);
            }
            Event::Stage {
                recipe,
                stage: Stage::Fetch,
                ..
            } => eprintln!("{recipe}: fetching"),
            Event::Finished { recipe, outcome } => match outcome {
                Outcome::Failed(why) => eprintln!("{recipe}: FAILED: {why}"),
                Outcome::Blocked { because } => eprintln!("{recipe}: not built because {because} failed"),
                other => eprintln!("{recipe}: {other:?}"),
            },
            _ => {}
        }
    }
}

fn options() -> Result<(SeedOptions, bool), String> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .ok_or("no project above this crate")?;
    let store = Store::of_user().ok_or("neither XDG_CACHE_HOME nor HOME is set; give --store DIR")?;
    let mut options = SeedOptions::new(project, &store);
    let mut explain = false;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
        match argument.as_str() {
            "--only" => options.only.push(value()?),
            "--force" => options.force.push(value()?),
            "--project" => {
                options.project_root = PathBuf::from(value()?);
                options.recipes_dir = options.project_root.join("configs/seed");
            }
            "--store" => options.store = PathBuf::from(value()?),
            "--arch" => options.arch = value()?,
            "--jobs" => options.jobs = value()?.parse().map_err(|e| format!("--jobs: {e}"))?,
            "--refresh" => options.refresh = true,
            "--offline" => options.offline = true,
            "--explain" => explain = true,
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok((options, explain))
}

fn run() -> Result<bool, String> {
    let (options, explain) = options()?;
    if explain {
        for status in lycia_seed::explain(&options).map_err(|e| e.to_string())? {
            let seconds = status
                .seconds
                .map(|s| format!(" ({s:.1} s last time)"))
                .unwrap_or_default();
            println!(
                "{:20} {:?}{seconds} {}",
                status.name,
                status.state,
                status.reasons.join("; ")
            );
        }
        return Ok(true);
    }
    options.cancel.on_signals().map_err(|e| e.to_string())?;
    let report = lycia_seed::build(&options, &mut Lines).map_err(|e| e.to_string())?;
    for recipe in &report.recipes {
        println!(
            "{:20} {:8.1} s {:>12} bytes  {:?}",
            recipe.name,
            recipe.seconds,
            recipe.output_bytes,
            match &recipe.outcome {
                Outcome::Failed(_) => Outcome::Failed("see above".into()),
                other => other.clone(),
            }
        );
        for package in &recipe.packages {
            println!(
                "    {}-{}.apk {} bytes, {} installed",
                package.name, package.version, package.bytes, package.installed
            );
        }
        for warning in &recipe.warnings {
            println!("    warning: {warning}");
        }
    }
    for problem in &report.problems {
        println!("problem: {problem}");
    }
    println!(
        "{}: {} packages, {} bytes, index {} bytes, {:.2} s; key {}",
        report.repository.display(),
        report.packages,
        report.bytes,
        report.index_bytes,
        report.seconds,
        report.key.display()
    );
    Ok(report.is_complete())
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(2)
        }
    }
}
