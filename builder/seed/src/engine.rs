//! Running many recipes: fetching ahead, independent ones at the same time, failures kept apart.

use crate::archive::Archive;
use crate::build::Builder;
use crate::error::{IoContext, Result, SeedError};
use crate::fetch::Fetcher;
use crate::jobserver::JobServer;
use crate::keys::Key;
use crate::package::{self, PackagesRecord};
use crate::plan::{BuildRecord, Evaluation, Latest, Planner, RecipeStatus, ResultDir, State};
use crate::recipe::Source;
use crate::recipes::Recipes;
use crate::report::{Event, Outcome, PackageReport, Progress, RecipeReport, Report, Stage};
use crate::store::{Lock, StatCache, Store, read_json, write_json};
use crate::tools::{self, HostTool, Versions};
use crate::{SeedOptions, repository};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

/// Files that are fetched at the same time.
const FETCHERS: usize = 3;

/// The outcome of one recipe's run.
struct Built {
    dir: ResultDir,
    record: BuildRecord,
    packages: PackagesRecord,
    state: State,
    reasons: Vec<String>,
}

/// One recipe that is to be run.
struct Job {
    name: String,
    evaluation: Evaluation,
    jobs: usize,
    /// `$OUT` of everything it needs.
    needs: BTreeMap<String, PathBuf>,
    /// Where the result goes.
    dir: ResultDir,
}

enum Message {
    Fetching(String),
    Fetched(String, Result<()>),
    Advanced(String, String, usize, usize),
    Packaging(String),
    Done(String, Result<Box<Built>>),
}

/// Plans without running anything.
pub(crate) fn explain(options: &SeedOptions) -> Result<Vec<RecipeStatus>> {
    let store = Store::new(&options.store);
    let recipes = Recipes::load(&options.recipes_dir, &options.arch, &options.only)?;
    let archive = Archive::new(&store, options.archive.clone(), &options.cancel);
    let fetcher = fetcher(options, &store, &archive, &recipes);
    let key = Key::existing(&store)?
        .map(|key| key.fingerprint())
        .unwrap_or_default();
    let mut planner = planner(options, &store, &recipes, &fetcher, key);
    let statuses = survey(options, &recipes, &mut planner)?;
    planner.save()?;
    Ok(statuses)
}

/// Evaluates every selected recipe as far as that is possible before anything runs.
fn survey(options: &SeedOptions, recipes: &Recipes, planner: &mut Planner) -> Result<Vec<RecipeStatus>> {
    let selection = recipes.selection(&options.only);
    let mut outputs = BTreeMap::new();
    let mut statuses = Vec::new();
    for name in recipes.order.iter().filter(|n| selection.contains(*n)) {
        let recipe = &recipes.all[name];
        let forced = options.force.contains(name);
        let evaluation = match planner.evaluate(recipe, &outputs, forced) {
            Ok(evaluation) => evaluation,
            Err(error) => {
                // Its own fault; the others are still planned.
                statuses.push(RecipeStatus {
                    name: name.clone(),
                    version: recipe.version.clone(),
                    state: State::Build,
                    reasons: vec![format!("it cannot be planned: {error}")],
                    seconds: None,
                });
                continue;
            }
        };
        let known = matches!(evaluation.state, State::Current | State::Repackage);
        let seconds = seconds(planner, name, &evaluation);
        outputs.insert(
            name.clone(),
            evaluation.record.filter(|_| known).map(|r| r.output),
        );
        statuses.push(RecipeStatus {
            name: name.clone(),
            version: recipe.version.clone(),
            state: evaluation.state,
            reasons: evaluation.reasons,
            seconds,
        });
    }
    Ok(statuses)
}

/// Host programs that the selected recipes want and the machine has not.
pub(crate) fn missing_host_tools(options: &SeedOptions) -> Result<Vec<HostTool>> {
    let recipes = Recipes::load(&options.recipes_dir, &options.arch, &options.only)?;
    Ok(tools::missing(&recipes, &recipes.selection(&options.only)))
}

fn fetcher<'a>(
    options: &'a SeedOptions,
    store: &'a Store,
    archive: &'a Archive,
    recipes: &'a Recipes,
) -> Fetcher<'a> {
    Fetcher {
        store,
        archive,
        debian_arch: &recipes.target.debian_arch,
        refresh: options.refresh,
        offline: options.offline,
        cancel: &options.cancel,
    }
}

fn planner<'a>(
    options: &'a SeedOptions,
    store: &'a Store,
    recipes: &'a Recipes,
    fetcher: &'a Fetcher<'a>,
    key: String,
) -> Planner<'a> {
    Planner {
        recipes,
        project: &options.project_root,
        store,
        fetcher,
        key,
        cache: StatCache::load(store),
        versions: Versions::load(store),
        skips: BTreeMap::new(),
    }
}

/// Seconds of the result, or of the last one where this one is not there.
fn seconds(planner: &Planner, name: &str, evaluation: &Evaluation) -> Option<f64> {
    if let Some(record) = &evaluation.record {
        return Some(record.seconds);
    }
    let latest: Latest = read_json(&planner.latest_file(name))?;
    Some(planner.result_dir(name, &latest.hash).read()?.seconds)
}

/// Builds the selected recipes and the repository.
pub(crate) fn build(options: &SeedOptions, progress: &mut dyn Progress) -> Result<Report> {
    let started = Instant::now();
    let store = Store::new(&options.store);
    let recipes = Recipes::load(&options.recipes_dir, &options.arch, &options.only)?;
    let archive = Archive::new(&store, options.archive.clone(), &options.cancel);
    let fetcher = fetcher(options, &store, &archive, &recipes);
    let key = Key::of_store(&store)?;
    let mut planner = planner(options, &store, &recipes, &fetcher, key.fingerprint());
    let statuses = survey(options, &recipes, &mut planner)?;
    progress.event(Event::Planned { statuses: &statuses });
    let server = JobServer::new(options.jobs).at("making the pool of jobs in", &options.store)?;
    let builder = Builder {
        recipes: &recipes,
        project: &options.project_root,
        store: &store,
        fetcher: &fetcher,
        cancel: &options.cancel,
        makeflags: server.makeflags(),
    };
    let mut run = Run::new(options, &recipes, &statuses, server);
    run.refuse_without_tools(&tools::missing(&recipes, &run.selection), progress);
    let queue = Mutex::new(run.fetch_queue());
    std::thread::scope(|scope| -> Result<()> {
        let (sender, receiver) = mpsc::channel();
        let queue = &queue;
        for _ in 0..FETCHERS {
            let (sender, recipes, fetcher) = (sender.clone(), &recipes, &fetcher);
            scope.spawn(move || fetch_ahead(queue, recipes, fetcher, &options.cancel, &sender));
        }
        while !run.is_over() {
            if !options.cancel.is_cancelled() {
                run.start_ready(&mut planner, progress, |job| {
                    let (sender, builder, key) = (sender.clone(), &builder, &key);
                    scope.spawn(move || {
                        let name = job.name.clone();
                        let run = || one(builder, key, job, &sender);
                        // Without an answer the run would wait for ever.
                        let result = catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| {
                            let why = "the engine failed in a way that it should not; see above".into();
                            Err(SeedError::Packaging {
                                recipe: name.clone(),
                                why,
                            })
                        });
                        // Nobody listens only when the whole run has ended.
                        let _ = sender.send(Message::Done(name, result.map(Box::new)));
                    });
                })?;
            }
            run.listen(&receiver, progress)?;
        }
        Ok(())
    })?;
    planner.save()?;
    if options.cancel.is_cancelled() {
        return Err(SeedError::Cancelled);
    }
    let mut report = run.report(&store);
    let stored = keep_others(&recipes, &store, &report);
    repository::publish(
        &store.repository(&options.arch),
        &key,
        &mut report,
        stored,
        progress,
    )?;
    report.key = key.public_path();
    report.seconds = started.elapsed().as_secs_f64();
    Ok(report)
}

/// Recipes that this run was not asked about keep the packages of their last result.
fn keep_others(recipes: &Recipes, store: &Store, report: &Report) -> Vec<PackageReport> {
    let asked: BTreeSet<&str> = report.recipes.iter().map(|r| r.name.as_str()).collect();
    let mut kept = Vec::new();
    for name in recipes.all.keys().filter(|name| !asked.contains(name.as_str())) {
        let dir = store.recipe(name);
        let Some(latest) = read_json::<Latest>(&dir.join("latest.json")) else {
            continue;
        };
        let packages = ResultDir(dir.join(&latest.hash)).packages(&latest.packages_hash);
        if let Some(record) = read_json::<PackagesRecord>(&packages.join(package::RECORD)) {
            kept.extend(record.packages.into_iter().map(|p| p.report(&packages)));
        }
    }
    kept
}

fn fetch_ahead(
    queue: &Mutex<VecDeque<String>>,
    recipes: &Recipes,
    fetcher: &Fetcher,
    cancel: &crate::Cancel,
    sender: &Sender<Message>,
) {
    loop {
        let next = queue.lock().unwrap_or_else(|e| e.into_inner()).pop_front();
        let Some(name) = next else { return };
        let recipe = &recipes.all[&name];
        let _ = sender.send(Message::Fetching(name.clone()));
        let result = recipe
            .sources
            .iter()
            .try_for_each(|source| match cancel.is_cancelled() {
                true => Err(SeedError::Cancelled),
                false => fetcher.fetch(recipe, source),
            });
        let _ = sender.send(Message::Fetched(name, result));
    }
}

/// Runs and packages one recipe, on its own thread.
fn one(builder: &Builder, key: &Key, job: Job, sender: &Sender<Message>) -> Result<Built> {
    let Job {
        name,
        evaluation,
        jobs,
        needs,
        dir,
    } = job;
    let name = name.as_str();
    let recipe = &builder.recipes.all[name];
    let home = builder.store.recipe(name);
    let _lock = Lock::take_inherited(&home.join("lock"), builder.cancel)?;
    let forced = evaluation.state == State::Build && evaluation.record.is_some();
    // Another run may have made it while this one waited for the lock.
    let record = match dir.read().filter(|_| !forced) {
        Some(record) => record,
        None => {
            let advance = |step: &str, done: usize, total: usize| {
                let _ = sender.send(Message::Advanced(name.to_owned(), step.to_owned(), done, total));
            };
            builder.build(recipe, &evaluation, &needs, jobs, &dir, &advance)?
        }
    };
    let mut latest = Latest {
        hash: evaluation.hash.clone(),
        inputs: evaluation.inputs.clone(),
        ..Latest::default()
    };
    write_json(&home.join("latest.json"), &latest)?;
    let _ = sender.send(Message::Packaging(name.to_owned()));
    let packages = match record.skipped {
        true => PackagesRecord::default(),
        false => package::make(
            recipe,
            &builder.recipes.target,
            &dir,
            &evaluation.packages_hash,
            key,
        )?,
    };
    latest.packages_hash = evaluation.packages_hash;
    latest.packages_inputs = evaluation.packages_inputs;
    write_json(&home.join("latest.json"), &latest)?;
    Ok(Built {
        dir,
        record,
        packages,
        state: evaluation.state,
        reasons: evaluation.reasons,
    })
}

/// The state of a run.
struct Run<'a> {
    options: &'a SeedOptions,
    recipes: &'a Recipes,
    selection: BTreeSet<String>,
    /// Not started, most urgent first.
    waiting: Vec<String>,
    unfetched: BTreeSet<String>,
    running: BTreeMap<String, Instant>,
    finished: BTreeMap<String, RecipeReport>,
    outputs: BTreeMap<String, Option<String>>,
    results: BTreeMap<String, PathBuf>,
    server: JobServer,
}

impl<'a> Run<'a> {
    fn new(
        options: &'a SeedOptions,
        recipes: &'a Recipes,
        statuses: &[RecipeStatus],
        server: JobServer,
    ) -> Run<'a> {
        let selection = recipes.selection(&options.only);
        let expected: BTreeMap<&str, f64> = statuses
            .iter()
            .map(|s| {
                (
                    s.name.as_str(),
                    s.seconds.unwrap_or(f64::from(recipes.all[&s.name].cost)),
                )
            })
            .collect();
        // Urgent is what has the longest way to the end of everything that waits for it.
        let mut urgency: BTreeMap<String, f64> = BTreeMap::new();
        for name in recipes.order.iter().rev().filter(|n| selection.contains(*n)) {
            let after = recipes
                .all
                .values()
                .filter(|r| r.needs.contains(name))
                .filter_map(|r| urgency.get(&r.name))
                .fold(0.0f64, |a, b| a.max(*b));
            urgency.insert(
                name.clone(),
                after + expected.get(name.as_str()).copied().unwrap_or(0.0),
            );
        }
        let mut waiting: Vec<String> = selection.iter().cloned().collect();
        waiting.sort_by(|a, b| urgency[b].total_cmp(&urgency[a]).then(a.cmp(b)));
        let unfetched = statuses
            .iter()
            .filter(|s| {
                let asks = options.refresh && recipes.all[&s.name].sources.iter().any(Source::is_newest);
                matches!(s.state, State::Build | State::Waits) || asks
            })
            .map(|s| s.name.clone())
            .collect();
        Run {
            options,
            recipes,
            selection,
            waiting,
            unfetched,
            running: BTreeMap::new(),
            finished: BTreeMap::new(),
            outputs: BTreeMap::new(),
            results: BTreeMap::new(),
            server,
        }
    }

    fn fetch_queue(&self) -> VecDeque<String> {
        self.waiting
            .iter()
            .filter(|name| self.unfetched.contains(*name))
            .cloned()
            .collect()
    }

    fn is_over(&self) -> bool {
        self.running.is_empty()
            && (self.waiting.is_empty() || (self.options.cancel.is_cancelled() && self.unfetched.is_empty()))
    }

    fn finish(&mut self, name: &str, outcome: Outcome, reasons: Vec<String>, progress: &mut dyn Progress) {
        self.waiting.retain(|n| n != name);
        progress.event(Event::Finished {
            recipe: name,
            outcome: &outcome,
        });
        let report = RecipeReport {
            name: name.to_owned(),
            version: self.recipes.all[name].version.clone(),
            outcome,
            reasons,
            ..RecipeReport::default()
        };
        self.finished.insert(name.to_owned(), report);
    }

    fn fail(&mut self, name: &str, why: String, progress: &mut dyn Progress) {
        self.finish(name, Outcome::Failed(why), Vec::new(), progress);
        // Whoever waits for it is told now, directly or not.
        while let Some((blocked, because)) = self.waiting.iter().find_map(|waiting| {
            let needs = &self.recipes.all[waiting].needs;
            let bad = needs
                .iter()
                .find(|n| self.finished.get(*n).is_some_and(|r| !r.outcome.is_usable()))?;
            Some((waiting.clone(), bad.clone()))
        }) {
            let root = match &self.finished[&because].outcome {
                Outcome::Blocked { because } => because.clone(),
                _ => because,
            };
            self.finish(&blocked, Outcome::Blocked { because: root }, Vec::new(), progress);
        }
    }

    /// Recipes whose programs are missing fail now, not after an hour.
    fn refuse_without_tools(&mut self, missing: &[HostTool], progress: &mut dyn Progress) {
        let mut by_recipe: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for tool in missing {
            for recipe in &tool.recipes {
                let package = match &tool.debian_package {
                    Some(package) => format!("{} (Debian package {package})", tool.program),
                    None => tool.program.clone(),
                };
                by_recipe.entry(recipe).or_default().push(package);
            }
        }
        for (name, programs) in by_recipe {
            if self.waiting.iter().any(|w| w == name) && self.recipes.all[name].skip_if.is_none() {
                self.unfetched.remove(name);
                let why = format!("recipe {name}: this host lacks {}", programs.join(", "));
                self.fail(name, why, progress);
            }
        }
    }

    fn is_ready(&self, name: &str) -> bool {
        !self.unfetched.contains(name)
            && self.recipes.all[name]
                .needs
                .iter()
                .all(|need| self.outputs.contains_key(need))
    }

    /// Starts what can start: recipes whose needs are there, as far as there are free cores.
    fn start_ready(
        &mut self,
        planner: &mut Planner,
        progress: &mut dyn Progress,
        mut spawn: impl FnMut(Job),
    ) -> Result<()> {
        loop {
            let ready: Vec<String> = self
                .waiting
                .iter()
                .filter(|n| self.is_ready(n))
                .cloned()
                .collect();
            let Some(name) = ready.first().cloned() else {
                return Ok(());
            };
            let recipe = &self.recipes.all[&name];
            let forced = self.options.force.contains(&name);
            let evaluation = match planner.evaluate(recipe, &self.outputs, forced) {
                Ok(evaluation) => evaluation,
                Err(error) => {
                    self.fail(&name, error.to_string(), progress);
                    continue;
                }
            };
            if evaluation.state == State::Current
                && let Some(record) = &evaluation.record
            {
                let dir = planner.result_dir(&name, &evaluation.hash);
                let packages = dir.packages(&evaluation.packages_hash).join(package::RECORD);
                let built = Built {
                    record: record.clone(),
                    packages: read_json(&packages).unwrap_or_default(),
                    dir,
                    state: State::Current,
                    reasons: Vec::new(),
                };
                self.settle(&name, built, progress);
                continue;
            }
            if self.running.is_empty() {
                self.server
                    .reset()
                    .at("filling the pool of jobs of", &self.options.store)?;
            }
            if !self
                .server
                .take()
                .at("asking the pool of jobs of", &self.options.store)?
            {
                return Ok(());
            }
            // A share for programs that do not ask the pool.
            let soon = self.waiting.iter().filter(|n| {
                self.recipes.all[*n]
                    .needs
                    .iter()
                    .all(|need| self.outputs.contains_key(need))
            });
            let sharers = (self.running.len() + soon.count()).min(self.server.jobs()).max(1);
            let jobs = self.server.jobs().div_ceil(sharers);
            let needed = if evaluation.skip {
                Vec::new()
            } else {
                self.recipes.needed(&name)
            };
            let needs = needed
                .into_iter()
                .filter_map(|need| Some((need.clone(), self.results.get(&need)?.clone())))
                .collect();
            self.waiting.retain(|n| *n != name);
            self.running.insert(name.clone(), Instant::now());
            let expected = seconds(planner, &name, &evaluation).unwrap_or(f64::from(recipe.cost));
            let reasons = &evaluation.reasons;
            progress.event(Event::Started {
                recipe: &name,
                reasons,
                expected_seconds: expected,
            });
            let dir = planner.result_dir(&name, &evaluation.hash);
            spawn(Job {
                name,
                evaluation,
                jobs,
                needs,
                dir,
            });
        }
    }

    fn settle(&mut self, name: &str, built: Built, progress: &mut dyn Progress) {
        let Built {
            dir,
            record,
            packages,
            state,
            reasons,
        } = built;
        let packages_dir = dir.packages(&packages.hash);
        let outcome = match state {
            _ if record.skipped => Outcome::Skipped,
            State::Current => Outcome::Cached,
            State::Repackage => Outcome::Repackaged,
            State::Build | State::Waits => Outcome::Built,
        };
        self.outputs.insert(name.to_owned(), Some(record.output.clone()));
        self.results.insert(name.to_owned(), dir.out());
        self.finish(name, outcome, reasons, progress);
        if let Some(report) = self.finished.get_mut(name) {
            report.seconds = record.seconds;
            report.steps = record.steps;
            report.result = Some(dir.0);
            report.output_bytes = record.bytes;
            report.warnings = record.warnings;
            report.warnings.extend(packages.warnings);
            report.packages = packages
                .packages
                .into_iter()
                .map(|p| p.report(&packages_dir))
                .collect();
        }
    }

    /// Waits a moment for news.
    fn listen(&mut self, receiver: &Receiver<Message>, progress: &mut dyn Progress) -> Result<()> {
        let mut news = match receiver.recv_timeout(Duration::from_millis(50)) {
            Ok(message) => Some(message),
            Err(RecvTimeoutError::Timeout) => {
                for (recipe, since) in &self.running {
                    progress.event(Event::Tick {
                        recipe,
                        seconds: since.elapsed().as_secs_f64(),
                    });
                }
                None
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        };
        while let Some(message) = news {
            self.hear(message, progress)?;
            news = receiver.try_recv().ok();
        }
        Ok(())
    }

    fn hear(&mut self, message: Message, progress: &mut dyn Progress) -> Result<()> {
        match message {
            Message::Fetching(name) => {
                progress.event(Event::Stage {
                    recipe: &name,
                    stage: Stage::Fetch,
                    done: 0,
                    total: 1,
                });
            }
            Message::Fetched(name, result) => {
                self.unfetched.remove(&name);
                if let Err(error) = result
                    && self.waiting.contains(&name)
                {
                    self.fail(&name, error.to_string(), progress);
                }
            }
            Message::Advanced(recipe, step, done, total) => {
                let stage = Stage::Step(&step);
                progress.event(Event::Stage {
                    recipe: &recipe,
                    stage,
                    done,
                    total,
                });
            }
            Message::Packaging(recipe) => {
                progress.event(Event::Stage {
                    recipe: &recipe,
                    stage: Stage::Package,
                    done: 0,
                    total: 1,
                });
            }
            Message::Done(name, result) => {
                self.running.remove(&name);
                self.server
                    .give()
                    .at("giving back to the pool of jobs of", &self.options.store)?;
                match result {
                    Ok(built) => self.settle(&name, *built, progress),
                    Err(error) => self.fail(&name, error.to_string(), progress),
                }
            }
        }
        Ok(())
    }

    fn report(self, store: &Store) -> Report {
        let order: BTreeMap<&String, usize> = self
            .recipes
            .order
            .iter()
            .enumerate()
            .map(|(i, n)| (n, i))
            .collect();
        let mut recipes: Vec<RecipeReport> = self.finished.into_values().collect();
        recipes.sort_by_key(|r| order.get(&r.name).copied());
        Report {
            repository: store.repository(&self.options.arch),
            recipes,
            ..Report::default()
        }
    }
}

/// For callers that look a recipe up after a run.
impl Report {
    /// The report of a recipe.
    pub fn recipe(&self, name: &str) -> Option<&RecipeReport> {
        self.recipes.iter().find(|r| r.name == name)
    }
}
