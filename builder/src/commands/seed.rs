//! `lycia seed`

use lycia_seed::{Event, HostTool, Outcome, SeedError, SeedOptions, Stage, State};

use super::{Context, print};
use crate::cli::SeedArgs;
use crate::error::{Error, Explain as _, Kind, Result};
use crate::progress::Progress;

fn options(context: &Context, arch: &str) -> Result<SeedOptions> {
    let project = context.project()?;
    let root = crate::error::io(project.root.canonicalize(), || {
        format!("finding {}", project.root.display())
    })?;
    let mut options = SeedOptions::new(&root, context.store()?.root());
    options.arch = arch.to_owned();
    options.jobs = context.jobs();
    Ok(options)
}

/// What the recipes want and the machine has not.
pub fn missing_tools(context: &Context) -> Result<Vec<HostTool>> {
    lycia_seed::missing_host_tools(&options(context, "x86_64")?)
        .explain(Kind::Input, || "reading the recipes of the seed".to_owned())
}

/// Removes results of the seed that its recipes no longer lead to, and says how many bytes they had. Outside
/// of a project with recipes all results stay.
pub fn prune(context: &Context) -> Result<u64> {
    let Ok(options) = options(context, "x86_64") else {
        return Ok(0);
    };
    if !options.recipes_dir.is_dir() {
        return Ok(0);
    }
    lycia_seed::prune(&options).explain(Kind::Host, || "removing old results of the seed".to_owned())
}

/// `lycia seed`
pub fn seed(context: &Context, args: &SeedArgs) -> Result<()> {
    let mut options = options(context, &args.arch)?;
    options.only.clone_from(&args.only);
    options.force.clone_from(&args.force);
    options.refresh = args.refresh;
    options.offline = context.global.offline;
    if args.explain {
        return explain(&options);
    }
    build(context, &options)
}

/// Builds what changed of the whole seed.
pub fn update(context: &Context, arch: &str) -> Result<()> {
    build(context, &options(context, arch)?)
}

fn explain(options: &SeedOptions) -> Result<()> {
    let statuses = lycia_seed::explain(options).explain(Kind::Input, || "planning the seed".to_owned())?;
    let mut text = String::new();
    for status in statuses {
        let state = match status.state {
            State::Current => "up to date",
            State::Repackage => "to be packaged",
            State::Build => "to be built",
            State::Waits => "waits",
        };
        text.push_str(&format!(
            "{:<20} {state:<15} {}\n",
            status.name,
            status.reasons.join("; ")
        ));
    }
    print(text.as_bytes())
}

fn build(context: &Context, options: &SeedOptions) -> Result<()> {
    let missing = lycia_seed::missing_host_tools(options)
        .explain(Kind::Input, || "reading the recipes of the seed".to_owned())?;
    if !missing.is_empty() {
        let programs: Vec<&str> = missing.iter().map(|tool| tool.program.as_str()).collect();
        return Err(
            Error::new(Kind::Host, format!("this machine lacks {}", programs.join(", ")))
                .context("building the seed")
                .hint("on Debian: lycia doctor --install"),
        );
    }
    // Steps run in process groups of their own, which a signal to this program alone does not reach.
    crate::error::io(options.cancel.on_signals(), || "listening to signals".to_owned())?;
    let progress = context.progress();
    let started = std::time::Instant::now();
    let built = lycia_seed::build(options, &mut Hears { progress: &progress });
    // No step runs any more: from here on the first signal ends the program.
    options.cancel.cancel();
    let report = built.map_err(|error| {
        let kind = match error {
            SeedError::Cancelled => Kind::Interrupted,
            _ => Kind::Host,
        };
        Error::new(kind, error).context("building the seed")
    })?;
    let failed: Vec<String> = report
        .recipes
        .iter()
        .filter_map(|recipe| match &recipe.outcome {
            Outcome::Failed(why) => Some(format!("{}: {why}", recipe.name)),
            Outcome::Blocked { because } => {
                Some(format!("{}: not built because {because} failed", recipe.name))
            }
            _ => None,
        })
        .collect();
    let count = |wanted: fn(&Outcome) -> bool| {
        report
            .recipes
            .iter()
            .filter(|recipe| wanted(&recipe.outcome))
            .count()
    };
    progress.say(&format!(
        "{:<10} {:>6.1} s  {} recipes up to date, {} built, {} failed",
        "seed",
        started.elapsed().as_secs_f64(),
        count(|outcome| matches!(outcome, Outcome::Cached | Outcome::Skipped)),
        count(|outcome| matches!(outcome, Outcome::Built | Outcome::Repackaged)),
        failed.len()
    ));
    if failed.is_empty() {
        return Ok(());
    }
    Err(Error::new(
        Kind::Host,
        format!(
            "these recipes failed; the others can be used:\n  {}",
            failed.join("\n  ")
        ),
    )
    .context("building the seed"))
}

/// Says what the engine does.
struct Hears<'p> {
    progress: &'p Progress,
}

impl lycia_seed::Progress for Hears<'_> {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Started {
                recipe,
                reasons,
                expected_seconds,
            } => {
                let why = reasons.first().map(String::as_str).unwrap_or_default();
                self.progress.say(&format!(
                    "seed: {recipe} starts, about {expected_seconds:.0} s ({why})"
                ));
            }
            Event::Stage {
                recipe,
                stage: Stage::Step(step),
                done,
                total,
            } => {
                self.progress
                    .say(&format!("seed: {recipe}: {step} ({} of {total})", done + 1));
            }
            Event::Finished {
                recipe,
                outcome: Outcome::Failed(why),
            } => {
                self.progress.say(&format!("seed: {recipe} failed: {why}"));
            }
            Event::Repository { packages } => {
                self.progress
                    .say(&format!("seed: writing a repository of {packages} packages"));
            }
            _ => {}
        }
    }
}
