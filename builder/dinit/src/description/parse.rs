//! The parser: files to a [`Description`], or to every error in them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::settings::{self, OPTION_NAMES, SETTING_NAMES, SETTINGS, Setting};
use super::{
    Dependency, DependencyKind, Description, DescriptionError, Kind, Log, MAX_DEPENDENCIES, Ordering,
    Position, Problem, Readiness, ResourceLimit, Restart, Unsupported, is_service_name, split_name,
};
use crate::environment::{self, Environment};
use crate::files::Files;
use crate::signal;
use crate::substitution::Variables;
use crate::suggest;
use crate::text::{MAX_FILE_BYTES, MAX_INCLUDE_DEPTH, Value, is_space, logical_lines};

/// What a description is read against.
pub struct Context<'a> {
    /// Where files are.
    pub files: &'a dyn Files,
    /// dinit's environment.
    pub environment: &'a Environment,
}

/// Reads the description of `name` from `file`.
///
/// Reads included files, `.d` directories and the env-file through `context`; nothing else.
pub fn parse(context: &Context<'_>, name: &str, file: &Path) -> Result<Description, Vec<DescriptionError>> {
    let mut parser = Parser {
        context,
        argument: split_name(name).1,
        out: empty(name, file),
        env_file: None,
        working_dir: None,
        logfile: None,
        pid_file: None,
        log_is_set: false,
        errors: Vec::new(),
    };
    if is_service_name(name) {
        parser.fragment(
            file,
            &Position {
                file: shown(file),
                line: 0,
            },
            false,
            0,
        );
        parser.finish();
    } else {
        parser.fail(
            &Position {
                file: shown(file),
                line: 0,
            },
            Problem::BadName(name.into()),
        );
    }
    if parser.errors.is_empty() {
        Ok(parser.out)
    } else {
        Err(parser.errors)
    }
}

fn shown(path: &Path) -> Arc<str> {
    path.to_string_lossy().into()
}

/// A description with dinit's defaults.
fn empty(name: &str, file: &Path) -> Description {
    let whole = Position {
        file: shown(file),
        line: 0,
    };
    Description {
        name: name.into(),
        file: file.into(),
        kind: Kind::default(),
        command: Vec::new(),
        command_at: whole.clone(),
        stop_command: Vec::new(),
        stop_command_at: whole,
        working_dir: file.parent().unwrap_or(Path::new("/")).into(),
        run_as: None,
        environment: Environment::new(),
        restart: Restart::default(),
        smooth_recovery: false,
        restart_delay: Duration::from_millis(200),
        restart_limit_interval: Duration::from_secs(10),
        restart_limit_count: 3,
        start_timeout: Some(Duration::from_secs(60)),
        stop_timeout: Some(Duration::from_secs(10)),
        term_signal: Some(libc::SIGTERM),
        pid_file: None,
        ready: None,
        dependencies: Vec::new(),
        waits_for_directories: Vec::new(),
        after: Vec::new(),
        before: Vec::new(),
        chain_to: None,
        log: Log::default(),
        logfile: None,
        logfile_mode: 0o600,
        logfile_uid: None,
        logfile_gid: None,
        log_buffer_size: 8192,
        options: super::Options::default(),
        export_passwd_vars: false,
        export_service_name: false,
        limits: Vec::new(),
        nice: None,
        oom_score_adj: None,
        io_priority: None,
        enable_via: None,
        unsupported: Vec::new(),
    }
}

struct Parser<'a> {
    context: &'a Context<'a>,
    argument: Option<&'a str>,
    out: Description,
    // Values that are substituted only when the env-file is known.
    env_file: Option<(PathBuf, Position)>,
    working_dir: Option<(String, Position)>,
    logfile: Option<(String, Position)>,
    pid_file: Option<(String, Position)>,
    log_is_set: bool,
    errors: Vec<DescriptionError>,
}

impl Parser<'_> {
    fn fail(&mut self, at: &Position, problem: Problem) {
        self.errors.push(DescriptionError {
            at: at.clone(),
            problem,
        });
    }

    /// Reads one file; `from` is where it was asked for.
    fn fragment(&mut self, path: &Path, from: &Position, optional: bool, depth: usize) {
        let content = match self.context.files.read(path) {
            Ok(Some(content)) => content,
            Ok(None) if optional => return,
            Ok(None) => return self.fail(from, Problem::IncludeMissing(path.into())),
            Err(error) => {
                let problem = Problem::Read {
                    path: path.into(),
                    reason: error.to_string(),
                };
                return self.fail(from, problem);
            }
        };
        let file = shown(path);
        let whole = Position {
            file: file.clone(),
            line: 0,
        };
        if content.len() > MAX_FILE_BYTES {
            return self.fail(&whole, Problem::FileTooLarge);
        }
        let Ok(text) = String::from_utf8(content) else {
            return self.fail(&whole, Problem::NotUtf8);
        };
        for line in logical_lines(&text) {
            match line {
                Ok(line) => {
                    let at = Position {
                        file: file.clone(),
                        line: line.number,
                    };
                    self.line(&line.text, path, &at, depth);
                }
                Err((line, problem)) => {
                    self.fail(
                        &Position {
                            file: file.clone(),
                            line,
                        },
                        problem.into(),
                    );
                }
            }
        }
    }

    fn line(&mut self, text: &str, path: &Path, at: &Position, depth: usize) {
        let text = text.trim_start_matches(is_space);
        if let Some(meta) = text.strip_prefix('@') {
            return self.meta(meta, path, at, depth);
        }
        let name_end = text
            .find(|c: char| c != '-' && c != '.' && c != '_' && !c.is_ascii_alphanumeric() && c.is_ascii())
            .unwrap_or(text.len());
        let (name, rest) = text.split_at(name_end);
        let rest = rest.trim_start_matches(is_space);
        let (append, value) = match rest.strip_prefix("+=") {
            Some(value) => (true, value),
            None => match rest.strip_prefix(['=', ':']) {
                Some(value) => (false, value),
                None => return self.fail(at, Problem::NoOperator),
            },
        };
        if name.is_empty() {
            return self.fail(at, Problem::NoOperator);
        }
        let Some(&(name, setting)) = SETTINGS.iter().find(|(known, _)| *known == name) else {
            let hint = suggest::hint(name, SETTING_NAMES);
            return self.fail(
                at,
                Problem::UnknownSetting {
                    name: name.into(),
                    hint,
                },
            );
        };
        let may_append = matches!(setting, Setting::Command | Setting::StopCommand)
            || matches!(name, "capabilities" | "securebits");
        if append && !may_append {
            return self.fail(at, Problem::CannotAppend(name));
        }
        match Value::read(value) {
            Ok(value) => {
                if let Err(problem) = self.set(name, setting, append, &value, path, at) {
                    self.fail(at, problem);
                }
            }
            Err(problem) => self.fail(at, problem.into()),
        }
    }

    fn meta(&mut self, text: &str, path: &Path, at: &Position, depth: usize) {
        let (command, rest) = text.split_at(text.find(is_space).unwrap_or(text.len()));
        let value = match Value::read(rest) {
            Ok(value) => value,
            Err(problem) => return self.fail(at, problem.into()),
        };
        let words: Vec<&str> = value.words().collect();
        match command {
            "include" | "include-opt" => {
                let [word] = words[..] else {
                    return self.fail(at, Problem::IncludeArguments(command.into()));
                };
                if depth >= MAX_INCLUDE_DEPTH {
                    return self.fail(at, Problem::IncludeDepth);
                }
                match self.early("@include", word) {
                    Ok(target) => {
                        let target = beside(path, &target);
                        self.fragment(&target, at, command == "include-opt", depth + 1);
                    }
                    Err(problem) => self.fail(at, problem),
                }
            }
            "meta" => match words[..] {
                ["enable-via", name] if is_service_name(name) => self.out.enable_via = Some(name.into()),
                ["enable-via", name] => self.fail(at, Problem::BadName(name.into())),
                ["enable-via", ..] => self.fail(at, Problem::EnableViaArguments),
                // For other tools; dinit ignores what it does not know, too.
                _ => {}
            },
            other => {
                let hint = suggest::hint(other, ["include", "include-opt", "meta"]);
                self.fail(
                    at,
                    Problem::UnknownMeta {
                        name: other.into(),
                        hint,
                    },
                );
            }
        }
    }

    /// Substitution before the env-file is known.
    fn early(&self, setting: &'static str, text: &str) -> Result<String, Problem> {
        let lookup = |name: &str| self.context.environment.get(name).cloned();
        let variables = Variables {
            lookup: &lookup,
            argument: self.argument,
        };
        variables
            .text(text)
            .map_err(|problem| Problem::Substitution { setting, problem })
    }

    fn service_name(&self, setting: &'static str, text: &str) -> Result<String, Problem> {
        let name = self.early(setting, text)?;
        if is_service_name(&name) {
            Ok(name)
        } else {
            Err(Problem::BadName(name))
        }
    }

    fn depend(
        &mut self,
        kind: DependencyKind,
        name: String,
        at: &Position,
        directory: bool,
    ) -> Result<(), Problem> {
        if self.out.dependencies.len() >= MAX_DEPENDENCIES {
            return Err(Problem::TooManyDependencies);
        }
        let dependency = Dependency {
            kind,
            name,
            at: at.clone(),
            from_directory: directory,
        };
        self.out.dependencies.push(dependency);
        Ok(())
    }

    fn depend_on_directory(
        &mut self,
        kind: DependencyKind,
        name: &'static str,
        text: &str,
        path: &Path,
        at: &Position,
    ) -> Result<(), Problem> {
        let directory = beside(path, &self.early(name, text)?);
        // dinit goes on without the directory when it cannot be read, and so must we.
        let names = self
            .context
            .files
            .list(&directory)
            .ok()
            .flatten()
            .unwrap_or_default();
        // dinit skips what cannot be a service's name: dot files, editors' backups.
        for entry in names.into_iter().filter(|entry| is_service_name(entry)) {
            self.depend(kind, entry, at, true)?;
        }
        Ok(())
    }

    fn set(
        &mut self,
        name: &'static str,
        setting: Setting,
        append: bool,
        value: &Value,
        path: &Path,
        at: &Position,
    ) -> Result<(), Problem> {
        let text = value.text.as_str();
        let yes_no = |text: &str| match text {
            "yes" | "true" => Ok(true),
            "no" | "false" => Ok(false),
            _ => Err(settings::not_one_of(
                name,
                text,
                "yes, true, no, false",
                &["yes", "no"],
            )),
        };
        let zero_is_none = |time: Duration| (!time.is_zero()).then_some(time);
        match setting {
            Setting::Type => {
                let kinds = [
                    Kind::Process,
                    Kind::Bgprocess,
                    Kind::Scripted,
                    Kind::Internal,
                    Kind::Triggered,
                ];
                let words = kinds.map(Kind::word);
                self.out.kind = *kinds.iter().find(|kind| kind.word() == text).ok_or_else(|| {
                    let allowed = "process, bgprocess, scripted, internal, triggered";
                    settings::not_one_of(name, text, allowed, &words)
                })?;
            }
            Setting::Command | Setting::StopCommand => {
                let (list, place) = match setting {
                    Setting::Command => (&mut self.out.command, &mut self.out.command_at),
                    _ => (&mut self.out.stop_command, &mut self.out.stop_command_at),
                };
                if !append {
                    list.clear();
                    *place = at.clone();
                }
                list.extend(value.words().map(str::to_owned));
            }
            Setting::WorkingDir => self.working_dir = Some((text.into(), at.clone())),
            Setting::RunAs => {
                if text.is_empty() || text.contains([':', ' ']) {
                    return Err(settings::bad(name, text, "a user name or number"));
                }
                self.out.run_as = Some(text.into());
            }
            Setting::EnvFile => {
                let target = self.early(name, text)?;
                self.env_file = Some((beside(path, &target), at.clone()));
            }
            Setting::Restart => {
                self.out.restart = match text {
                    "on-failure" => Restart::OnFailure,
                    "yes" | "true" => Restart::Always,
                    "no" | "false" => Restart::Never,
                    _ => {
                        let allowed = "yes, true, on-failure, no, false";
                        return Err(settings::not_one_of(
                            name,
                            text,
                            allowed,
                            &["yes", "on-failure", "no"],
                        ));
                    }
                }
            }
            Setting::SmoothRecovery => self.out.smooth_recovery = yes_no(text)?,
            Setting::RestartDelay => self.out.restart_delay = settings::seconds(name, text)?,
            Setting::RestartLimitInterval => {
                self.out.restart_limit_interval = settings::seconds(name, text)?;
            }
            Setting::RestartLimitCount => {
                self.out.restart_limit_count = settings::unsigned(name, text, i32::MAX as u64)? as u32;
            }
            Setting::StartTimeout => {
                self.out.start_timeout = zero_is_none(settings::seconds(name, text)?);
            }
            Setting::StopTimeout => self.out.stop_timeout = zero_is_none(settings::seconds(name, text)?),
            Setting::TermSignal if text == "none" => self.out.term_signal = None,
            Setting::TermSignal => {
                let names: Vec<&'static str> = signal::SIGNALS.iter().map(|&(name, _)| name).collect();
                let allowed = "none and the signal names without SIG";
                let found = signal::number(text);
                let number = found.ok_or_else(|| settings::not_one_of(name, text, allowed, &names))?;
                self.out.term_signal = Some(number);
            }
            Setting::PidFile => self.pid_file = Some((text.into(), at.clone())),
            Setting::DependsOn => {
                self.depend(DependencyKind::Hard, self.service_name(name, text)?, at, false)?
            }
            Setting::PreparedBy => {
                self.depend(
                    DependencyKind::PreparedBy,
                    self.service_name(name, text)?,
                    at,
                    false,
                )?;
            }
            Setting::DependsMs => {
                self.depend(
                    DependencyKind::Milestone,
                    self.service_name(name, text)?,
                    at,
                    false,
                )?;
            }
            Setting::WaitsFor => {
                self.depend(DependencyKind::Soft, self.service_name(name, text)?, at, false)?
            }
            Setting::DependsOnDir => self.depend_on_directory(DependencyKind::Hard, name, text, path, at)?,
            Setting::DependsMsDir => {
                self.depend_on_directory(DependencyKind::Milestone, name, text, path, at)?
            }
            Setting::WaitsForDir => {
                let directory = beside(path, &self.early(name, text)?);
                self.out.waits_for_directories.push(directory);
                self.depend_on_directory(DependencyKind::Soft, name, text, path, at)?;
            }
            Setting::After | Setting::Before => {
                let other = Ordering {
                    name: self.service_name(name, text)?,
                    at: at.clone(),
                };
                let list = if setting == Setting::After {
                    &mut self.out.after
                } else {
                    &mut self.out.before
                };
                if list.len() >= MAX_DEPENDENCIES {
                    return Err(Problem::TooManyDependencies);
                }
                list.push(other);
            }
            Setting::ChainTo => self.out.chain_to = Some(self.service_name(name, text)?),
            Setting::ReadyNotification => {
                let wanted = "pipefd:NUMBER or pipevar:NAME";
                self.out.ready = Some(match text.split_once(':') {
                    Some(("pipefd", number)) => {
                        // Descriptor tables are small; beyond this dup2 would fail at every start.
                        Readiness::Descriptor(settings::unsigned(name, number, 1023)? as i32)
                    }
                    Some(("pipevar", variable)) if !variable.is_empty() && !variable.contains('=') => {
                        Readiness::Variable(variable.into())
                    }
                    _ => return Err(settings::bad(name, text, wanted)),
                });
            }
            Setting::LogType => {
                self.log_is_set = true;
                self.out.log = match text {
                    "file" => Log::File,
                    "buffer" => Log::Buffer,
                    "none" => Log::None,
                    "pipe" => {
                        self.out.unsupported.push(Unsupported {
                            what: "log-type = pipe",
                            at: at.clone(),
                        });
                        Log::None
                    }
                    _ => {
                        let known = ["file", "buffer", "pipe", "none"];
                        return Err(settings::not_one_of(
                            name,
                            text,
                            "file, buffer, pipe, none",
                            &known,
                        ));
                    }
                };
            }
            Setting::Logfile => self.logfile = Some((text.into(), at.clone())),
            Setting::LogfilePermissions => self.out.logfile_mode = settings::octal(name, text)?,
            Setting::LogfileUid => self.out.logfile_uid = Some(text.into()),
            Setting::LogfileGid => self.out.logfile_gid = Some(text.into()),
            Setting::LogBufferSize => {
                // Bounded, because the buffer is the supervisor's own memory.
                self.out.log_buffer_size = settings::unsigned(name, text, 1 << 20)? as usize;
            }
            Setting::Options => {
                for word in value.words() {
                    self.option(name, word, at)?;
                }
            }
            Setting::LoadOptions => {
                for word in value.words() {
                    match word {
                        "export-passwd-vars" => self.out.export_passwd_vars = true,
                        "export-service-name" => self.out.export_service_name = true,
                        // Old name of what always happens now.
                        "sub-vars" => {}
                        _ => {
                            let known = ["export-passwd-vars", "export-service-name"];
                            let allowed = "export-passwd-vars, export-service-name";
                            return Err(settings::not_one_of(name, word, allowed, &known));
                        }
                    }
                }
            }
            Setting::Limit(resource) => {
                let (soft, hard) = settings::limit(name, text)?;
                self.out.limits.retain(|limit| limit.resource != resource);
                self.out.limits.push(ResourceLimit { resource, soft, hard });
            }
            // Out of range is clamped by the kernel, as dinit documents it.
            Setting::Nice => {
                self.out.nice = Some(settings::signed(name, text, i32::MIN / 2, i32::MAX / 2)?);
            }
            Setting::Ioprio => self.out.io_priority = Some(settings::io_priority(text)?),
            Setting::OomScoreAdj => {
                self.out.oom_score_adj = Some(settings::signed(name, text, -1000, 1000)?);
            }
            Setting::Ignored => {}
            Setting::Refused => self.out.unsupported.push(Unsupported {
                what: name,
                at: at.clone(),
            }),
        }
        Ok(())
    }

    fn option(&mut self, setting: &'static str, word: &str, at: &Position) -> Result<(), Problem> {
        let options = &mut self.out.options;
        match word {
            "runs-on-console" => {
                options.runs_on_console = true;
                options.starts_on_console = true;
                options.shares_console = false;
            }
            "starts-on-console" => {
                options.starts_on_console = true;
                options.shares_console = false;
            }
            "shares-console" => {
                options.shares_console = true;
                options.runs_on_console = false;
                options.starts_on_console = false;
            }
            "unmask-intr" => options.unmask_intr = true,
            "starts-rwfs" => options.starts_rwfs = true,
            "starts-log" => options.starts_log = true,
            "pass-cs-fd" => {
                options.pass_cs_fd = true;
                let what = "option pass-cs-fd";
                self.out.unsupported.push(Unsupported { what, at: at.clone() });
            }
            "start-interruptible" => options.start_interruptible = true,
            "skippable" => options.skippable = true,
            "signal-process-only" => options.signal_process_only = true,
            "always-chain" => options.always_chain = true,
            "kill-all-on-stop" => options.kill_all_on_stop = true,
            "no-new-privs" => options.no_new_privs = true,
            _ => {
                let allowed = "the options of dinit-service(5)";
                return Err(settings::not_one_of(setting, word, allowed, OPTION_NAMES));
            }
        }
        Ok(())
    }

    /// Substitutes what waits for the env-file, and checks the description as a whole.
    fn finish(&mut self) {
        let whole = Position {
            file: shown(&self.out.file),
            line: 0,
        };
        if let Some((path, at)) = self.env_file.take() {
            self.read_env_file(path, &at);
        }
        let mut merged = self.context.environment.clone();
        if self.out.export_service_name {
            merged.insert("DINIT_SERVICE".into(), self.out.name.clone());
        }
        merged.extend(self.out.environment.clone());
        let lookup = |name: &str| merged.get(name).cloned();
        let variables = Variables {
            lookup: &lookup,
            argument: self.argument,
        };
        let mut errors = Vec::new();
        let mut path_of = |setting: &'static str, value: Option<(String, Position)>| {
            let (text, at) = value?;
            match variables.text(&text) {
                Ok(text) => Some(PathBuf::from(text)),
                Err(problem) => {
                    let problem = Problem::Substitution { setting, problem };
                    errors.push(DescriptionError { at, problem });
                    None
                }
            }
        };
        let base = self.out.working_dir.clone();
        if let Some(dir) = path_of("working-dir", self.working_dir.take()) {
            self.out.working_dir = base.join(dir);
        }
        self.out.pid_file = path_of("pid-file", self.pid_file.take()).map(|path| base.join(path));
        self.out.logfile = path_of("logfile", self.logfile.take()).map(|path| base.join(path));
        let commands = [
            ("command", &mut self.out.command, &self.out.command_at),
            (
                "stop-command",
                &mut self.out.stop_command,
                &self.out.stop_command_at,
            ),
        ];
        for (setting, words, at) in commands {
            match variables.words(words) {
                Ok(substituted) => *words = substituted,
                Err(problem) => {
                    let problem = Problem::Substitution { setting, problem };
                    errors.push(DescriptionError {
                        at: at.clone(),
                        problem,
                    });
                }
            }
        }
        self.errors.append(&mut errors);

        let kind = self.out.kind;
        let runs = matches!(kind, Kind::Process | Kind::Bgprocess | Kind::Scripted);
        let missing = |setting| Problem::Missing {
            kind: kind.word(),
            setting,
        };
        let wrong = |setting| Problem::WrongType {
            kind: kind.word(),
            setting,
        };
        if runs && self.out.command.is_empty() && self.errors.is_empty() {
            self.fail(&whole, missing("command"));
        }
        if kind == Kind::Bgprocess {
            if self.out.pid_file.is_none() && self.errors.is_empty() {
                self.fail(&whole, missing("pid-file"));
            }
            if self.out.ready.is_some() {
                self.fail(&whole, wrong("ready-notification"));
            }
        }
        if self.out.options.kill_all_on_stop && !matches!(kind, Kind::Scripted | Kind::Internal) {
            self.fail(&whole, wrong("kill-all-on-stop"));
        }
        if self.out.logfile.is_some() && (!self.log_is_set || self.out.log == Log::None) {
            self.out.log = Log::File;
        }
        if self.out.log == Log::File && self.out.logfile.is_none() && self.errors.is_empty() {
            self.fail(
                &whole,
                Problem::Missing {
                    kind: "log-type = file",
                    setting: "logfile",
                },
            );
        }
    }

    fn read_env_file(&mut self, path: PathBuf, at: &Position) {
        let content = match self.context.files.read(&path) {
            Ok(None) => {
                let reason = "it does not exist".into();
                return self.fail(at, Problem::Read { path, reason });
            }
            Ok(Some(content)) => content,
            Err(error) => {
                return self.fail(
                    at,
                    Problem::Read {
                        path,
                        reason: error.to_string(),
                    },
                );
            }
        };
        if content.len() > MAX_FILE_BYTES {
            return self.fail(
                &Position {
                    file: shown(&path),
                    line: 0,
                },
                Problem::FileTooLarge,
            );
        }
        let Ok(text) = String::from_utf8(content) else {
            return self.fail(
                &Position {
                    file: shown(&path),
                    line: 0,
                },
                Problem::NotUtf8,
            );
        };
        let outer = self.context.environment;
        if let Err(problem) = environment::apply(&text, outer, &mut self.out.environment) {
            self.fail(at, Problem::EnvironmentFile { path, problem });
        }
    }
}

/// A path that may be relative to the file that names it.
fn beside(file: &Path, target: &str) -> PathBuf {
    file.parent().unwrap_or(Path::new("/")).join(target)
}

#[cfg(test)]
mod tests;
