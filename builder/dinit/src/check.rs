//! The checker of services: what would go wrong, told before it does.
//!
//! It finds what dinit-check finds (unknown settings, missing dependencies, cycles, chains longer than
//! dinit's limit) and missing programs besides, in whatever root the loader's files are.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};

use crate::catalogue::{self, LoadError, Loader};
use crate::description::{Description, Problem};
use crate::files::Files;
use crate::substitution::SubstitutionError;

/// Longest dependency chain that dinit loads, counted in steps (`load-service.h`, `MAX_DEP_DEPTH`).
pub const MAX_DEPTH: usize = 32;
/// Chains longer than this are close enough to the limit to be told about.
const NEAR_DEPTH: usize = 30;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// A service would not start, or not as described.
    Error,
    /// Worth knowing.
    Warning,
}

/// One thing the checker found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// The service.
    pub service: String,
    /// What, with file and line where there is one.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{word}: {}: {}", self.service, self.message)
    }
}

/// Who will run the services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Runner {
    /// Real dinit, which does all that a valid description asks for.
    #[default]
    Dinit,
    /// The seed's supervisor, which refuses services that ask for what it cannot do.
    SeedSupervisor,
}

/// What to check.
#[derive(Debug, Default)]
pub struct Request {
    /// Services to begin with; none means every file in the service directories.
    ///
    /// Where there are some, a missing program is an error only in a service that they need (by
    /// dependencies that are required); else it is a warning: what is only waited for may fail.
    pub services: Vec<String>,
    /// Who will run them.
    pub runner: Runner,
    /// Programs that other packages deliver: absent here, and that is right. Absolute paths.
    pub delivered: BTreeSet<PathBuf>,
}

/// What was found.
#[derive(Debug, Default)]
pub struct Report {
    /// Findings, errors first, then by service.
    pub findings: Vec<Finding>,
    /// How many services were read.
    pub services: usize,
    /// Programs taken for present because the request says that other packages deliver them.
    pub delivered: BTreeSet<PathBuf>,
    /// The longest chain of dependencies.
    pub longest: Vec<String>,
}

impl Report {
    /// Whether an error was found.
    pub fn has_errors(&self) -> bool {
        self.findings
            .iter()
            .any(|finding| finding.severity == Severity::Error)
    }
}

/// Checks services and everything they reach.
pub fn check(loader: &Loader<'_>, request: &Request) -> Report {
    let mut checker = Checker {
        loader,
        request,
        report: Report::default(),
        known: BTreeMap::new(),
    };
    checker.read_all();
    checker.dependencies();
    checker.programs();
    checker.graph();
    let mut report = checker.report;
    report.findings.sort();
    report.findings.dedup();
    report
}

struct Checker<'a> {
    loader: &'a Loader<'a>,
    request: &'a Request,
    report: Report,
    known: BTreeMap<String, Result<Description, LoadError>>,
}

impl Checker<'_> {
    fn tell(&mut self, severity: Severity, service: &str, message: String) {
        self.report.findings.push(Finding {
            severity,
            service: service.into(),
            message,
        });
    }

    fn read_all(&mut self) {
        let asked = !self.request.services.is_empty();
        let mut queue: VecDeque<String> = if asked {
            self.request.services.iter().cloned().collect()
        } else {
            self.loader.all_names().into_iter().collect()
        };
        while let Some(name) = queue.pop_front() {
            if self.known.contains_key(&name) || self.known.len() >= catalogue::MAX_SERVICES {
                continue;
            }
            let mut result = self.loader.describe(&name);
            if !asked && result.as_ref().is_err_and(wants_argument) {
                // A template: read it with some argument; who uses it gives the right one.
                let example = format!("{name}@example");
                result = self.loader.describe(&example);
            }
            match &result {
                Ok(description) => queue.extend(description.dependencies.iter().map(|d| d.name.clone())),
                Err(LoadError::Description { errors, .. }) => {
                    for error in errors {
                        self.tell(Severity::Error, &name, error.to_string());
                    }
                }
                // Whoever depends on it is told below; the ones asked for are nobody's dependency.
                Err(error) if self.request.services.contains(&name) => {
                    self.tell(Severity::Error, &name, error.to_string());
                }
                Err(_) => {}
            }
            self.known.insert(name, result);
        }
        self.report.services = self.known.values().filter(|result| result.is_ok()).count();
    }

    fn dependencies(&mut self) {
        let mut found = Vec::new();
        for service in self.known.values().flatten() {
            for dependency in &service.dependencies {
                let Some(Err(error)) = self.known.get(&dependency.name) else {
                    continue;
                };
                // dinit only skips names in `.d` directories; a missing waits-for is an error there.
                let skipped = dependency.from_directory && matches!(error, LoadError::NotFound(_));
                let severity = if skipped {
                    Severity::Warning
                } else {
                    Severity::Error
                };
                let reason = match error {
                    LoadError::NotFound(_) => "is not in any service directory",
                    _ => "cannot be loaded",
                };
                let (at, word, other) = (&dependency.at, dependency.kind.word(), &dependency.name);
                found.push((
                    severity,
                    service.name.clone(),
                    format!("{at}: {word} `{other}` {reason}"),
                ));
            }
            let unsupported = match self.request.runner {
                Runner::Dinit => &[],
                Runner::SeedSupervisor => service.unsupported.as_slice(),
            };
            for unsupported in unsupported {
                let message = format!(
                    "{}: {} is not implemented by the seed supervisor, which will not start this service",
                    unsupported.at, unsupported.what
                );
                found.push((Severity::Warning, service.name.clone(), message));
            }
        }
        for (severity, service, message) in found {
            self.tell(severity, &service, message);
        }
    }

    fn programs(&mut self) {
        let mut found = Vec::new();
        let mut delivered = BTreeSet::new();
        for service in self.known.values().flatten() {
            let commands = [
                (&service.command, &service.command_at),
                (&service.stop_command, &service.stop_command_at),
            ];
            for (command, at) in commands {
                let Some(program) = command.first() else { continue };
                let mut wanted = vec![program.clone()];
                if let Some(path) = self.present(program, &mut delivered)
                    && let Some(interpreter) = interpreter(self.loader.files, &path)
                {
                    wanted.push(interpreter);
                }
                for program in wanted {
                    if self.present(&program, &mut delivered).is_none()
                        && !self.is_delivered(&program, &mut delivered)
                    {
                        let message = format!("{at}: program `{program}` is missing or not executable");
                        found.push((service.name.clone(), message));
                    }
                }
            }
        }
        let needed = self.needed();
        for (service, message) in found {
            let severity = match &needed {
                Some(needed) if !needed.contains(&service) => Severity::Warning,
                _ => Severity::Error,
            };
            self.tell(severity, &service, message);
        }
        self.report.delivered = delivered;
    }

    /// What the services that were asked for cannot do without; none where all were asked for.
    fn needed(&self) -> Option<BTreeSet<String>> {
        if self.request.services.is_empty() {
            return None;
        }
        let mut needed = BTreeSet::new();
        let mut queue = self.request.services.clone();
        while let Some(name) = queue.pop() {
            if let Some(Ok(description)) = self.known.get(&name) {
                let required = description
                    .dependencies
                    .iter()
                    .filter(|one| one.kind.is_required());
                queue.extend(
                    required
                        .map(|one| one.name.clone())
                        .filter(|one| !needed.contains(one)),
                );
            }
            needed.insert(name);
        }
        Some(needed)
    }

    /// Where a program is in the tree.
    fn present(&self, program: &str, _delivered: &mut BTreeSet<PathBuf>) -> Option<PathBuf> {
        self.candidates(program)
            .into_iter()
            .find(|path| self.loader.files.is_executable(path))
    }

    fn is_delivered(&self, program: &str, delivered: &mut BTreeSet<PathBuf>) -> bool {
        let found = self
            .candidates(program)
            .into_iter()
            .find(|path| self.request.delivered.contains(path));
        match found {
            Some(path) => {
                delivered.insert(path);
                true
            }
            None => false,
        }
    }

    fn candidates(&self, program: &str) -> Vec<PathBuf> {
        if program.contains('/') {
            return vec![PathBuf::from(program)];
        }
        let path = self
            .loader
            .environment
            .get("PATH")
            .map_or("/usr/bin:/bin", String::as_str);
        path.split(':')
            .map(|directory| Path::new(directory).join(program))
            .collect()
    }

    fn graph(&mut self) {
        let services: Vec<&Description> = self.known.values().flatten().collect();
        let edges = catalogue::edges(services.iter().copied());
        if let Some(cycle) = catalogue::find_cycle(&edges) {
            let message = format!(
                "{}: a circle of dependencies: {}",
                cycle.first().map_or("", |edge| edge.at.as_str()),
                catalogue::shown_cycle(&cycle)
            );
            let first = cycle.first().map_or_else(String::new, |edge| edge.from.clone());
            return self.tell(Severity::Error, &first, message);
        }
        let paths = edges.keys().map(|start| catalogue::longest_path(&edges, start));
        let longest = paths
            .max_by(|a, b| a.len().cmp(&b.len()).then_with(|| b.cmp(a)))
            .unwrap_or_default();
        let steps = longest.len().saturating_sub(1);
        let severity = match steps {
            0..=NEAR_DEPTH => None,
            steps if steps <= MAX_DEPTH => Some(Severity::Warning),
            _ => Some(Severity::Error),
        };
        if let Some(severity) = severity {
            let way = longest.join(" -> ");
            let message = format!(
                "the longest chain of dependencies has {steps} steps, dinit's limit is {MAX_DEPTH}: {way}"
            );
            let first = longest.first().cloned().unwrap_or_default();
            self.tell(severity, &first, message);
        }
        self.report.longest = longest;
    }
}

fn wants_argument(error: &LoadError) -> bool {
    let LoadError::Description { errors, .. } = error else {
        return false;
    };
    errors.iter().any(|error| {
        matches!(
            &error.problem,
            Problem::Substitution {
                problem: SubstitutionError::MissingArgument,
                ..
            }
        )
    })
}

/// The program behind `#!`.
fn interpreter(files: &dyn Files, path: &Path) -> Option<String> {
    let content = files.read(path).ok().flatten()?;
    let line = content.strip_prefix(b"#!")?.split(|&c| c == b'\n').next()?;
    let line = std::str::from_utf8(line).ok()?;
    line.split_whitespace().next().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::environment::Environment;
    use crate::files::MemoryFiles;

    fn run(files: &MemoryFiles, services: &[&str], delivered: &[&str]) -> Vec<String> {
        let environment = Environment::new();
        let directories = [PathBuf::from("/d")];
        let loader = Loader {
            files,
            directories: &directories,
            environment: &environment,
        };
        let request = Request {
            services: services.iter().map(|&name| name.into()).collect(),
            runner: Runner::SeedSupervisor,
            delivered: delivered.iter().map(PathBuf::from).collect(),
        };
        check(&loader, &request)
            .findings
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn finds_each_kind() {
        let mut files = MemoryFiles::default();
        files.add(
            "/d/boot",
            "type = internal\ndepends-on: gone\nwaits-for: soft-gone\nwaits-for.d: b.d\n",
        );
        files.add("/d/b.d/absent", "").add("/d/b.d/a", "");
        files.add(
            "/d/a",
            "command = /bin/none\nstop-command = /bin/script\nrestrat = no\n",
        );
        files.add("/d/c", "command = /bin/script x\nsocket-listen = /run/s\n");
        files.add("/d/t", "command = tool $1\n");
        files
            .add_program("/bin/script", "#!/bin/nosh -e\n")
            .add_program("/usr/bin/tool", "\x7fELF");
        assert_eq!(
            run(&files, &[], &[]),
            [
                "error: a: /d/a:3: unknown setting `restrat` (did you mean `restart`?)",
                "error: boot: /d/boot:2: depends-on `gone` is not in any service directory",
                "error: boot: /d/boot:3: waits-for `soft-gone` is not in any service directory",
                "error: boot: /d/boot:4: waits-for `a` cannot be loaded",
                "error: c: /d/c:1: program `/bin/nosh` is missing or not executable",
                "warning: boot: /d/boot:4: waits-for `absent` is not in any service directory",
                "warning: c: /d/c:2: socket-listen is not implemented by the seed supervisor, which will not start this service",
            ]
        );
        assert_eq!(run(&files, &["c"], &["/bin/nosh"]).len(), 1);
        files
            .add("/d/root", "type = internal\nwaits-for: soft\ndepends-on: hard\n")
            .add("/d/soft", "command = /bin/none\n")
            .add("/d/hard", "type = internal\ndepends-ms: harder\n")
            .add("/d/harder", "command = /bin/none\n");
        assert_eq!(
            run(&files, &["root"], &[]),
            [
                "error: harder: /d/harder:1: program `/bin/none` is missing or not executable",
                "warning: soft: /d/soft:1: program `/bin/none` is missing or not executable",
            ]
        );
        assert_eq!(
            run(&files, &["t"], &[]),
            [
                "error: t: /d/t:1: command: `$1` is used, but the service was named without an argument (`name@argument`)"
            ]
        );
        assert_eq!(
            run(&files, &["x"], &[]),
            ["error: x: service `x` is not in any service directory"]
        );
    }

    #[test]
    fn cycles_and_depth() {
        let mut files = MemoryFiles::default();
        files
            .add("/d/a", "type = internal\ndepends-on: b\n")
            .add("/d/b", "type = internal\nwaits-for: a\n");
        assert_eq!(
            run(&files, &[], &[]),
            ["error: a: /d/a:2: a circle of dependencies: a -> b -> a"]
        );
        for (steps, begins) in [(30, ""), (31, "warning"), (32, "warning"), (33, "error")] {
            let mut files = MemoryFiles::default();
            for index in 0..steps {
                files.add(
                    format!("/d/s{index:02}"),
                    format!("type = internal\ndepends-on: s{:02}\n", index + 1),
                );
            }
            files.add(format!("/d/s{steps:02}"), "type = internal\n");
            let found = run(&files, &["s00"], &[]);
            assert_eq!(
                found.first().map_or("", |f| f.split(':').next().unwrap()),
                begins,
                "{steps}"
            );
        }
    }
}
