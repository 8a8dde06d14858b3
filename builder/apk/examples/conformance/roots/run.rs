//! Carrying out one command over a recorded root.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use lycia_apk::database::Database;
use lycia_apk::dependency::parse_world;
use lycia_apk::index::{self, Index};
use lycia_apk::install::{
    InstallError, Installation, Installed, Names, Options, Owners, ProtectedPaths, Unpacked,
};
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::{Dependency, Digest, Package, PackageInfo};
use lycia_apk::package::{self, Contents, Expect, Format, Trust};
use lycia_apk::solver::{PackageId, Universe, UniverseBuilder, solve};
use lycia_tree::{Timestamp, Tree};

use super::recorded::{Corpus, Digests, Entry, Kind, Repository, Root, regular_files};
use super::{Step, compare};

/// Everything about a step but the root before it.
pub struct Setting<'a> {
    pub corpus: &'a Corpus,
    pub step: &'a Step,
    pub words: &'a [String],
    pub after: &'a Root,
    /// Every edit so far, in words.
    pub told: &'a str,
    /// The whole scenario, from which its repositories are inferred.
    pub all: &'a [Step],
}

/// A command line taken apart.
struct Line {
    /// Command and arguments with the options that the solver's reader knows.
    words: Vec<String>,
    initdb: bool,
    scripts: bool,
    untrusted: bool,
    purge: bool,
    no_apk_new: bool,
    overwrite: bool,
    directories: bool,
    simulated: bool,
    arch: Option<String>,
    repositories: Vec<String>,
}

/// What a command made of a root.
pub struct Outcome {
    pub tree: Tree,
    pub digests: Digests,
    pub database: Database,
    pub world: Vec<Dependency>,
    pub arch: String,
    pub installed: Option<Installed>,
    pub scripts: bool,
    pub user: Option<u32>,
}

/// The commands that change a root. Others are compared by what they leave as it was.
const CHANGING: [&str; 4] = ["add", "del", "upgrade", "fix"];

/// Options that say how something is shown or fetched.
const IGNORED: [&str; 16] = [
    "--no-interactive",
    "--no-progress",
    "--no-cache",
    "--no-network",
    "--quiet",
    "-q",
    "--verbose",
    "-v",
    "-vv",
    "--force-refresh",
    "--update-cache",
    "-U",
    "--no-commit-hooks",
    "--usermode",
    "--no-chown",
    "--no-logfile",
];

fn line(words: &[String]) -> Result<Line, String> {
    let mut line = Line {
        words: Vec::new(),
        initdb: false,
        scripts: true,
        untrusted: false,
        purge: false,
        no_apk_new: false,
        overwrite: false,
        directories: false,
        simulated: false,
        arch: None,
        repositories: Vec::new(),
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let (option, value) = match word.split_once('=') {
            Some((option, value)) if option.starts_with("--") => (option, Some(value.to_owned())),
            _ => (word.as_str(), None),
        };
        let mut value = || {
            value
                .clone()
                .or_else(|| words.next().cloned())
                .ok_or(format!("{word} without a value"))
        };
        match option {
            "--root" | "-p" | "--cache-dir" | "--cache-max-age" | "--keys-dir" | "--wait" | "--timeout" => {
                value()?;
            }
            "--initdb" => line.initdb = true,
            "--simulate" | "-s" => line.simulated = true,
            "--no-scripts" => line.scripts = false,
            "--allow-untrusted" => line.untrusted = true,
            "--purge" => line.purge = true,
            "--clean-protected" => line.no_apk_new = true,
            "--force-overwrite" => line.overwrite = true,
            "--force" | "-f" => line.overwrite = true,
            "--directory-permissions" => line.directories = true,
            "--arch" => line.arch = Some(value()?),
            "-X" | "--repository" => line.repositories.push(value()?),
            option if IGNORED.contains(&option) => {}
            _ => line.words.push(word.clone()),
        }
    }
    Ok(line)
}

/// Compares a step with its recording. What the recording shows, and neither the command nor what was there
/// before explains, is taken for a part of an unrecorded edit, and the step is tried again over it.
pub fn judge(setting: &Setting<'_>, before: &Root, edits: &str, edited: bool) -> Result<Verdict, String> {
    let line = line(setting.words)?;
    let Some(command) = line.words.first() else {
        return Err("no command".into());
    };
    let mut start = before.clone();
    mentioned(&mut start, setting.after, edits);
    if line.simulated || !CHANGING.contains(&command.as_str()) {
        return compare::same_database(&start, setting.after).map(|()| Verdict::Agrees);
    }
    let rules: Vec<String> = match setting.told.contains("protected_paths") {
        true => setting
            .told
            .split_whitespace()
            .filter(|word| word.starts_with(['+', '-', '@', '!']))
            .map(str::to_owned)
            .collect(),
        false => Vec::new(),
    };
    if edits.contains("etc/apk/world") {
        start.world.clone_from(&setting.after.world);
    }
    let mut result = attempt(setting, &line, &start, &rules);
    for round in 0..2 {
        let found = unexplained(setting.after, &start, result.as_ref().ok(), edited && round > 0);
        if found.is_empty() {
            break;
        }
        for (path, entry) in found {
            add_with_parents(&mut start, setting.after, &path, &entry);
        }
        result = attempt(setting, &line, &start, &rules);
        if result
            .as_ref()
            .is_ok_and(|outcome| verdict(setting, &start, outcome).is_ok())
        {
            break;
        }
    }
    match (result, setting.step.status) {
        (Ok(outcome), 0) => verdict(setting, &start, &outcome).map(|()| Verdict::Agrees),
        (Ok(outcome), status) => {
            let Err(difference) = verdict(setting, &start, &outcome) else {
                return Ok(Verdict::Agrees);
            };
            let said = format!("{}\n{}", setting.step.stdout, setting.step.stderr);
            // It gave up for a hook that we do not run.
            if said.contains("pre-commit") && compare::same_database(&start, setting.after).is_ok() {
                return Ok(Verdict::Agrees);
            }
            // Where apk left a file out and went on, what comes of it says nothing of ours.
            let left_out = [
                "no hard link target (./",
                ": failed to commit ",
                ": failed to extract ",
            ];
            match left_out.iter().any(|words| setting.step.stderr.contains(words)) {
                true => Ok(Verdict::NotJudged(format!(
                    "apk left files out and went on, which we did not; {difference}"
                ))),
                false => Err(format!("apk failed ({status}), we did not, and {difference}")),
            }
        }
        (Err(problem), 0) => Err(format!("apk succeeded, we fail: {problem}")),
        (Err(problem), _) => {
            let Err(difference) = compare::same_database(&start, setting.after) else {
                return Ok(Verdict::Agrees);
            };
            // apk goes on after an error, we do not: it has to be the same error.
            let named = at_fault(setting.step);
            match named.iter().any(|package| names(&problem, package)) {
                true => Ok(Verdict::Agrees),
                false => Err(format!(
                    "both fail, we for `{problem}`, apk for {named:?}, and {difference}"
                )),
            }
        }
    }
}

/// What came of a step.
pub enum Verdict {
    /// We did as apk did.
    Agrees,
    /// What apk did cannot be held against what we did, for this reason.
    NotJudged(String),
}

/// The packages that apk's errors name, as `NAME-VERSION: …`; where they name none, those that it says it changed.
fn at_fault(step: &Step) -> BTreeSet<&str> {
    let changed: Vec<&str> = step
        .stdout
        .lines()
        .filter_map(|line| {
            let line = line.trim_start();
            line.starts_with('(').then(|| line.split_whitespace().nth(2))?
        })
        .collect();
    let mut named = BTreeSet::new();
    for line in step.stderr.lines() {
        let Some(whole) = line
            .strip_prefix("ERROR: ")
            .and_then(|rest| rest.split(": ").next())
        else {
            continue;
        };
        named.extend(changed.iter().filter(|name| {
            let version = whole.strip_prefix(**name).and_then(|rest| rest.strip_prefix('-'));
            version.is_some_and(lycia_apk::version::is_valid)
        }));
    }
    match named.is_empty() {
        true => changed.into_iter().collect(),
        false => named,
    }
}

/// Whether a message has a package's name as a word.
fn names(message: &str, package: &str) -> bool {
    let part = |letter: char| letter.is_ascii_alphanumeric() || "+_".contains(letter);
    message.match_indices(package).any(|(at, _)| {
        let (before, after) = (&message[..at], &message[at + package.len()..]);
        !before.ends_with(|letter| part(letter) || letter == '-') && !after.starts_with(part)
    })
}

fn verdict(setting: &Setting<'_>, start: &Root, outcome: &Outcome) -> Result<(), String> {
    compare::outcome(outcome, start, setting.after)
}

/// Takes over what an edit speaks of by path, as the recording after the next command has it.
fn mentioned(start: &mut Root, after: &Root, edits: &str) {
    let trimmed = |word: &str| {
        word.trim_matches(|c: char| ",;:()'\"".contains(c))
            .trim_matches('/')
            .to_owned()
    };
    for word in edits
        .split_whitespace()
        .map(trimmed)
        .filter(|word| word.contains('/'))
    {
        // What an edit took away and no command brought back.
        if start.entries.contains_key(word.as_bytes()) && !after.entries.contains_key(word.as_bytes()) {
            let below = format!("{word}/");
            start
                .entries
                .retain(|path, _| path != word.as_bytes() && !path.starts_with(below.as_bytes()));
            continue;
        }
        let below = format!("{word}/");
        for (path, entry) in &after.entries {
            let meant = path == word.as_bytes() || path.starts_with(below.as_bytes());
            let aside = path.ends_with(b".apk-new");
            let new = !start.entries.contains_key(path) || path == word.as_bytes();
            if meant && new && !aside {
                add_with_parents(start, after, path, entry);
            }
        }
    }
}

fn add_with_parents(start: &mut Root, after: &Root, path: &[u8], entry: &Entry) {
    for (end, _) in path.iter().enumerate().filter(|&(_, &byte)| byte == b'/') {
        if let (None, Some(parent)) = (start.entries.get(&path[..end]), after.entries.get(&path[..end])) {
            start.entries.insert(path[..end].to_vec(), parent.clone());
        }
    }
    start.entries.insert(path.to_vec(), entry.clone());
}

/// Entries of the recording that must have been there before the command: ones of which no package speaks, and
/// after an edit also directories that are not as a package has them.
fn unexplained(after: &Root, start: &Root, outcome: Option<&Outcome>, edited: bool) -> Vec<(Vec<u8>, Entry)> {
    let mut owned = BTreeSet::new();
    for package in after
        .database()
        .map(|database| database.packages)
        .unwrap_or_default()
    {
        for directory in package.directories {
            for file in directory.files {
                owned.insert(match directory.path.is_empty() {
                    true => file.name,
                    false => [&directory.path[..], b"/", &file.name].concat(),
                });
            }
            owned.insert(directory.path);
        }
    }
    let mut found = Vec::new();
    for (path, entry) in &after.entries {
        if path.ends_with(b".apk-new") || start.entries.get(path) == Some(entry) {
            continue;
        }
        let ours = outcome.and_then(|outcome| compare::entry(&outcome.tree, path));
        let extra = !owned.contains(path) && !start.entries.contains_key(path) && ours.is_none();
        let other = edited
            && entry.kind == Kind::Directory
            && ours.is_some_and(|ours| {
                ours.kind == Kind::Directory
                    && (ours.mode, ours.uid, ours.gid) != (entry.mode, entry.uid, entry.gid)
            });
        if extra || other {
            found.push((path.clone(), entry.clone()));
        }
    }
    found
}

/// Folders in which a root has its keys.
const KEYS: [&[u8]; 3] = [b"etc/apk/keys/", b"lib/apk/keys/", b"usr/lib/apk/keys/"];

/// The repositories that the root was configured with. The recording has the sizes of the lists and what was
/// installed from them.
fn repositories(setting: &Setting<'_>, line: &Line, arch: &str) -> Vec<Repository> {
    let corpus = setting.corpus;
    let size = |path: &[u8]| match setting.after.entries.get(path).map(|entry| &entry.kind) {
        Some(Kind::File { size: Some(size), .. }) => Some(*size as usize),
        _ => None,
    };
    // Indexes in which everything is that was ever installed decide between lists of equal length.
    let mut wanted = BTreeSet::new();
    for step in setting.all {
        let installed =
            fs::read(corpus.scenario.join(format!("step{:02}/installed", step.number))).unwrap_or_default();
        let records = Database::read(&installed, b"", b"")
            .map(|database| database.packages)
            .unwrap_or_default();
        wanted.extend(
            records
                .into_iter()
                .filter_map(|package| package.info.hashes.map(|hash| hash.key().to_vec())),
        );
    }
    let candidates = [("v3", "repo3/main"), ("v2", "repo2/main"), ("v3", "repo3/pool")];
    let everything = corpus.keys(|_| true);
    let covers = |repository: &Repository| {
        let index = repository
            .read(&everything, Trust::AllowUntrusted)
            .unwrap_or_default();
        index
            .packages
            .iter()
            .filter(|info| {
                info.hashes
                    .as_ref()
                    .is_some_and(|hash| wanted.contains(hash.key()))
            })
            .count()
    };
    let mut base: Vec<Repository> = candidates
        .iter()
        .map(|(layout, folder)| corpus.repository(layout, folder, arch, None))
        .collect();
    // The first of those that have most: the sort is stable.
    base.sort_by_key(|repository| std::cmp::Reverse(covers(repository)));
    base.truncate(1);
    let tagged: BTreeSet<String> = setting
        .all
        .iter()
        .filter_map(|step| step.words.as_ref())
        .flatten()
        .filter_map(|word| word.split_once('@'))
        .map(|(_, tag)| {
            tag.split(['=', '<', '>', '~'])
                .next()
                .unwrap_or_default()
                .to_owned()
        })
        .collect();
    for tag in tagged {
        base.push(corpus.repository("v3", "repo3/pool", arch, Some(&tag)));
    }
    // Lists that are not the first name the scenario's own repository: as one, or by its index.
    let own = corpus.scenario.join("repo");
    let lists: Vec<&Vec<u8>> = setting
        .after
        .entries
        .keys()
        .filter(|path| path.starts_with(b"etc/apk/repositories.d/") && !path.ends_with(b"/00-test.list"))
        .collect();
    if own.is_dir() && !lists.is_empty() {
        let longest = lists.iter().filter_map(|path| size(path)).max().unwrap_or(0);
        let main = size(b"etc/apk/repositories.d/00-test.list").unwrap_or(0);
        let corpus_path = main.saturating_sub("v3 /repo3/main\n".len());
        let name = corpus.scenario.file_name().unwrap_or_default().len();
        let as_one = "v3 /expected/roots//repo\n".len() + corpus_path + name;
        let index = match own.join(arch).join("Packages.adb") {
            path if path.exists() => path,
            _ => own.join(arch).join("APKINDEX.tar.gz"),
        };
        let beside = main > 0 && longest > as_one + arch.len();
        let base_folder = if beside { own.join(arch) } else { own };
        base.push(Repository {
            tag: None,
            base: base_folder,
            index,
            beside,
        });
    }
    for url in &line.repositories {
        if let Some(folder) = url.strip_prefix("$CORPUS/") {
            base.push(corpus.repository("v2", folder, arch, None));
        }
    }
    base
}

/// Everything that a command may install.
struct Supply {
    universe: Universe,
    repositories: Vec<(Repository, Index)>,
    files: Vec<(PackageInfo, PathBuf)>,
    keys: KeyRing,
    trust: Trust,
}

fn attempt(setting: &Setting<'_>, line: &Line, start: &Root, rules: &[String]) -> Result<Outcome, String> {
    let has_database = start.entries.contains_key(b"lib/apk/db".as_slice())
        || start.entries.contains_key(b"usr/lib/apk/db".as_slice())
        // Prepared before the first command, of which only the result was recorded.
        || (start.installed.is_empty() && setting.step.status != 99);
    if !line.initdb && !has_database {
        return Err("the root has no database".into());
    }
    let recorded_arch = String::from_utf8_lossy(&start.arch).into_owned();
    let arch = match (&line.arch, recorded_arch.lines().next()) {
        (Some(arch), _) => arch.clone(),
        (None, Some(first)) => first.to_owned(),
        (None, None) => "x86_64".to_owned(),
    };
    let key_names: Vec<String> = setting
        .after
        .entries
        .keys()
        .filter(|path| KEYS.iter().any(|folder| path.starts_with(folder)))
        .filter_map(|path| path.rsplit(|&byte| byte == b'/').next())
        .map(|name| String::from_utf8_lossy(name).into_owned())
        .collect();
    let keys = setting
        .corpus
        .keys(|name| key_names.iter().any(|known| known == name));
    let trust = if line.untrusted {
        Trust::AllowUntrusted
    } else {
        Trust::Required
    };
    let database = start.database()?;
    let wrong = |error: &dyn std::error::Error| error.to_string();
    let mut builder = UniverseBuilder::new([arch.as_str()]);
    for package in &database.packages {
        builder
            .installed(package.info.clone(), package.tag.as_deref())
            .map_err(|error| wrong(&error))?;
    }
    let mut repositories_read = Vec::new();
    for repository in repositories(setting, line, &arch) {
        // apk warns of an index that it cannot use and goes on without it.
        let index = repository.read(&keys, trust).unwrap_or_default();
        builder
            .repository([repository.tag.as_deref()], index.packages.clone())
            .map_err(|error| wrong(&error))?;
        repositories_read.push((repository, index));
    }
    let mut words = line.words.clone();
    let mut files = Vec::new();
    for word in words.iter_mut().skip(1).filter(|word| word.ends_with(".apk")) {
        let path = match word.strip_prefix("$CORPUS/") {
            Some(path) => setting.corpus.root.join(path),
            None => PathBuf::from(&*word),
        };
        let (info, text) = named_file(&path, &keys, trust)?;
        builder.file(info.clone()).map_err(|error| wrong(&error))?;
        files.push((info, path));
        *word = text;
    }
    let world = parse_world(&String::from_utf8_lossy(&start.world)).map_err(|error| wrong(&error))?;
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let recorded = |name: &str| {
        let database = setting.after.database().ok()?;
        let mut packages = database.packages.into_iter();
        packages
            .find(|package| package.info.name == name)
            .map(|package| package.info.version)
    };
    let request =
        crate::solver::request(&words, world, &mut builder, &recorded)?.ok_or("a dependency is malformed")?;
    let universe = builder.finish().map_err(|error| wrong(&error))?;
    let solution = solve(&universe, &request).map_err(|error| wrong(&error))?;
    let supply = Supply {
        universe,
        repositories: repositories_read,
        files,
        keys,
        trust,
    };

    let (mut tree, digests) = start.tree(setting.corpus)?;
    let mut protected = ProtectedPaths::of(&tree);
    // What a list says that an edit made is known in words only.
    protected.add(rules.join("\n").as_bytes());
    let options = Options {
        owners: Owners::AtOnce,
        present: &digests,
        purge: line.purge,
        no_apk_new: line.no_apk_new,
        overwrite: line.overwrite,
        stale_directories: true,
        protected,
        ..Options::new(Timestamp::from_seconds(0))
    };
    let mut installation = Installation::over(&mut tree, database, options);
    if line.directories {
        installation.restore_directories();
    }
    installation
        .carry_out(&supply.universe, &solution, |id| supply.unpack(id))
        .map_err(|Refused(problem)| problem)?;
    let mut installed = installation.finish(&Names::default());
    for package in &mut installed.database.packages {
        let text = format!("{}-{}.", package.info.name, package.info.version);
        let ends = ["exited with error", "killed by signal", "failed to execute"];
        let failed = |line: &str| line.contains(&text) && ends.iter().any(|end| line.contains(end));
        package.flags.broken_script |= setting.step.stderr.lines().any(failed);
    }
    let create = line.initdb;
    installed
        .database
        .store(&mut tree, &solution.world, Timestamp::from_seconds(0), create)
        .map_err(|error| error.to_string())?;
    let arch_text = match (&line.arch, start.arch.is_empty()) {
        (None, false) => recorded_arch,
        _ => format!("{arch}\n"),
    };
    tree.write(
        lycia_apk::database::ARCH.as_bytes(),
        lycia_tree::Metadata::new(0o644, Timestamp::from_seconds(0)),
        arch_text.clone().into_bytes().into(),
    )
    .map_err(|error| error.to_string())?;
    // Without root rights apk cannot give files away; it notices by itself whose the database is.
    let user = setting.step.user.filter(|user| *user != 0);
    Ok(Outcome {
        tree,
        digests: digests.clone(),
        database: installed.database.clone(),
        world: solution.world,
        arch: arch_text,
        installed: Some(installed),
        scripts: line.scripts,
        user,
    })
}

/// A package file named on the command line: its record, and the world entry for it.
fn named_file(path: &PathBuf, keys: &KeyRing, trust: Trust) -> Result<(PackageInfo, String), String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let expect = Expect {
        trust,
        ..Expect::default()
    };
    let verified = package::read_metadata(&bytes, keys, &expect).map_err(|error| error.to_string())?;
    let mut info = verified.package.info;
    // apk takes the unique id inside of a v3 package for its identity here.
    if verified.format == Format::V2 {
        info.hashes = Some(verified.identity);
    }
    info.file_size = bytes.len() as u64;
    let identity = info.hashes.clone().unwrap_or(Digest(Vec::new()));
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(identity.key());
    let entry = format!("{}><Q1{text}", info.name);
    Ok((info, entry))
}

/// Why a package cannot be had or installed.
struct Refused(String);

impl From<InstallError> for Refused {
    fn from(error: InstallError) -> Self {
        Refused(error.to_string())
    }
}

impl Supply {
    fn unpack(&self, id: PackageId) -> Result<Unpacked, Refused> {
        self.package(id).map_err(Refused)
    }

    fn package(&self, id: PackageId) -> Result<Unpacked, String> {
        let info = self.universe.info(id);
        let alone = Unpacked {
            entry: info.clone(),
            package: Package {
                info: info.clone(),
                ..Package::default()
            },
            ..Unpacked::default()
        };
        if info.installed_size == 0 {
            return Ok(alone);
        }
        let named =
            |(file, _): &&(PackageInfo, PathBuf)| file.hashes == info.hashes && file.name == info.name;
        let (path, from_index) = match self.files.iter().find(named) {
            Some((_, path)) => (path.clone(), false),
            None => {
                let number = self
                    .universe
                    .repositories(id)
                    .next()
                    .ok_or(format!("{} is in no repository", info.name))?;
                let (repository, index) = &self.repositories[number];
                let spec = index.pkgname_spec.as_deref().unwrap_or(match repository.beside {
                    true => index::DEFAULT_SPEC,
                    false => "${arch}/${name}-${version}.apk",
                });
                let relative = index::expand_spec(spec, info).map_err(|error| error.to_string())?;
                (repository.base.join(relative), true)
            }
        };
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        let expect = Expect {
            trust: self.trust,
            info: from_index.then_some(info),
            ..Expect::default()
        };
        let mut contents = Contents::default();
        let verified =
            package::read(&bytes, &self.keys, &expect, &mut contents).map_err(|error| error.to_string())?;
        debug_assert_eq!(contents.files.len(), regular_files(&verified.package));
        Ok(Unpacked {
            package: verified.package,
            format: verified.format,
            contents: contents
                .files
                .into_iter()
                .map(|(_, _, content)| content.into())
                .collect(),
            ..alone
        })
    }
}
