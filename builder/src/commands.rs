//! What each command does.

mod clean;
pub mod inspect;
mod lock;
mod repo;
mod run;
mod seed;

use std::io::Write as _;
use std::path::Path;

use clap::CommandFactory as _;

use crate::build::{self, Built};
use crate::cli::{BuildArgs, Cli, Command, DoctorArgs, Global, ImageArgs, SetupArgs, SourceArgs};
use crate::definition::{Overrides, Project, typed};
use crate::error::{Error, Kind, Result, io};
use crate::fetch::Client;
use crate::host::{self, Need};
use crate::progress::Progress;
use crate::store::Store;
use crate::{release, twice};

/// Does what the command line asks for.
///
/// # Errors
/// Whatever went wrong, with the exit code that it asks for.
pub fn run(cli: Cli) -> Result<()> {
    let context = Context { global: cli.global };
    match cli.command {
        Command::Build(args) => {
            let built = context.build(&args)?;
            report(&built, args.json)
        }
        Command::Lock(args) => lock::lock(&context, &args),
        Command::Why(args) => lock::why(&context, &args),
        Command::Diff(args) => lock::diff(&args),
        Command::Inspect(args) => inspect::inspect(&args),
        Command::Run(args) => run::run(&context, &args),
        Command::Test(args) => run::test(&context, &args),
        Command::Seed(args) => seed::seed(&context, &args),
        Command::Doctor(args) => context.doctor(&args),
        Command::Setup(args) => context.setup(&args),
        Command::Repo(args) => repo::repo(&context, &args),
        Command::Clean(args) => clean::clean(&context, &args),
        Command::Images => context.images(),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "lycia", &mut text);
            print(&text)
        }
        Command::Man { directory } => man(&directory),
    }
}

/// What commands share.
struct Context {
    global: Global,
}

impl Context {
    fn project(&self) -> Result<Project> {
        Project::find(self.global.project.as_deref())
    }

    /// The project with what `args` take from elsewhere.
    fn project_for(&self, args: &ImageArgs) -> Result<Project> {
        self.project_with(&args.source)
    }

    fn project_with(&self, args: &SourceArgs) -> Result<Project> {
        let mut project = self.project()?;
        project.overrides = Overrides::new(&args.mirror, &args.trust)?;
        Ok(project)
    }

    fn client(&self) -> Result<Client> {
        Client::from_environment(self.global.offline)
    }

    fn store(&self) -> Result<Store> {
        Store::open(self.global.cache.as_deref())
    }

    fn jobs(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.global.jobs.unwrap_or_else(cores).max(1)
    }

    fn progress(&self) -> Progress {
        Progress::new(self.global.quiet)
    }

    fn build(&self, args: &BuildArgs) -> Result<Built> {
        // Before anything is built: what is wrong with the key shows while older outputs are still there.
        let key = args.sign.as_deref().map(release::key).transpose()?;
        let options = build::Options {
            image: args.image.image.clone(),
            arch: args.image.source.arch.clone(),
            output: args.output.clone(),
            lock: args.lock.clone(),
            locked: args.locked,
            strict: args.strict,
            force: args.force,
            jobs: self.jobs(),
            offline: self.global.offline,
            base: args.base.clone(),
            // What is to be compared first is signed after that.
            sign: key.clone().filter(|_| !args.verify),
        };
        let progress = self.progress();
        let project = self.project_for(&args.image)?;
        let store = self.store()?;
        let mut built = build::build(&project, &store, &options, &progress)?;
        if args.verify {
            let again = twice::Again {
                project: &project.root,
                mirror: &args.image.source.mirror,
                trust: &args.image.source.trust,
            };
            twice::verify(&built, &options, &again, &store, &progress)?;
        }
        if let Some(key) = &key {
            release::sign(&mut built, key)?;
        }
        for warning in &built.warnings {
            progress.say(&format!("warning: {warning}"));
        }
        Ok(built)
    }

    fn images(&self) -> Result<()> {
        let project = self.project()?;
        let mut text = String::new();
        for name in typed::names(&project.configs(), "images") {
            let file: typed::ImageFile = typed::read(&typed::file(&project.configs(), "images", &name)?)?;
            text.push_str(&format!("{name:<20} {}\n", file.summary.unwrap_or_default()));
        }
        print(text.as_bytes())
    }

    /// What is missing, as Debian packages; those without a known package as they are.
    fn missing(&self, tests: bool) -> Result<Vec<(String, Option<String>, String)>> {
        let mut missing = Vec::new();
        let needs: Vec<&Need> = host::BUILD
            .iter()
            .chain(host::RUN)
            .chain(if tests { host::TEST } else { &[] })
            .collect();
        for need in host::missing(needs) {
            missing.push((
                need.what.to_owned(),
                Some(need.package.to_owned()),
                need.purpose.to_owned(),
            ));
        }
        for tool in seed::missing_tools(self)? {
            missing.push((
                tool.program,
                tool.debian_package,
                format!("building {}", tool.recipes.join(", ")),
            ));
        }
        missing.sort();
        missing.dedup_by(|a, b| a.0 == b.0);
        Ok(missing)
    }

    fn doctor(&self, args: &DoctorArgs) -> Result<()> {
        let missing = self.missing(args.tests)?;
        if missing.is_empty() {
            self.progress().say("nothing is missing on this machine");
            return Ok(());
        }
        if args.install {
            return self.install(args.tests);
        }
        let mut text = String::new();
        for (what, package, purpose) in &missing {
            let package = package.as_deref().unwrap_or("?");
            text.push_str(&format!("{what:<42} {package:<24} {purpose}\n"));
        }
        print(text.as_bytes())?;
        Err(Error::new(
            Kind::Host,
            format!("{} things are missing on this machine", missing.len()),
        )
        .hint("on Debian: lycia doctor --install"))
    }

    /// Installs what is missing.
    fn install(&self, tests: bool) -> Result<()> {
        // What is installed can drive out what was there, such as a backport of the other half of QEMU: those are installed once more.
        for _ in 0..2 {
            let missing = self.missing(tests)?;
            let mut packages: Vec<String> = missing
                .iter()
                .filter_map(|(_, package, _)| package.clone())
                .collect();
            packages.sort();
            packages.dedup();
            if packages.is_empty() {
                break;
            }
            self.progress().say(&format!("installing {}", packages.join(" ")));
            host::install(&packages)?;
        }
        let left: Vec<String> = self
            .missing(tests)?
            .into_iter()
            .map(|(what, _, _)| what)
            .collect();
        if left.is_empty() {
            return Ok(());
        }
        Err(Error::new(
            Kind::Host,
            format!("still missing: {}", left.join(", ")),
        ))
    }

    fn setup(&self, args: &SetupArgs) -> Result<()> {
        self.install(args.tests)?;
        seed::update(self, "x86_64")
    }
}

fn report(built: &Built, json: bool) -> Result<()> {
    let text = if json {
        let mut text = serde_json::to_string_pretty(&built.files).unwrap_or_default();
        text.push('\n');
        text
    } else {
        built
            .files
            .iter()
            .map(|file| format!("{}\n", file.path.display()))
            .collect()
    };
    print(text.as_bytes())
}

/// Writes to standard output. That its reader went away is no failure.
fn print(text: &[u8]) -> Result<()> {
    match std::io::stdout().write_all(text) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => io(result, || "writing to standard output".to_owned()),
    }
}

fn man(directory: &Path) -> Result<()> {
    io(std::fs::create_dir_all(directory), || {
        format!("making {}", directory.display())
    })?;
    let written = clap_mangen::generate_to(Cli::command(), directory);
    io(written, || {
        format!("writing man pages to {}", directory.display())
    })
}
