//! dinit services of a root: enabling them, and checking that what boots can start.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use lycia_tree::{Follow, Metadata, Node, Timestamp, Tree};

use crate::RootError;

/// Where descriptions are, in the order of the search; on a merged root `/lib` is `/usr/lib`.
const SEARCH: &[&str] = &[
    "etc/dinit.d",
    "run/dinit.d",
    "usr/local/lib/dinit.d",
    "lib/dinit.d",
];
/// dinit loads no deeper.
const DEPTH_MAX: usize = 32;
/// Where a warning begins.
const DEPTH_WARN: usize = 30;
/// Most included files of one description.
const INCLUDES_MAX: usize = 16;

/// What came of enabling a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Enabled {
    /// The link was made.
    Made(Vec<u8>),
    /// It was there.
    Already,
}

/// A fault of the services of a root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    service: String,
    what: String,
    error: bool,
}

impl Problem {
    /// Whether the boot or the service must fail of it.
    pub fn is_error(&self) -> bool {
        self.error
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.service, self.what)
    }
}

/// A description as far as a check of the whole needs it.
#[derive(Default)]
struct Description {
    hard: Vec<String>,
    soft: Vec<String>,
    soft_folders: Vec<String>,
    hard_folders: Vec<String>,
    enable_via: Option<String>,
    programs: Vec<String>,
    unknown: Vec<String>,
}

const KNOWN: &[&str] = &[
    "type",
    "command",
    "stop-command",
    "working-dir",
    "run-as",
    "env-file",
    "socket-listen",
    "socket-permissions",
    "socket-uid",
    "socket-gid",
    "restart",
    "smooth-recovery",
    "restart-delay",
    "restart-limit-interval",
    "restart-limit-count",
    "start-timeout",
    "stop-timeout",
    "pid-file",
    "depends-on",
    "depends-ms",
    "waits-for",
    "prepared-by",
    "depends-on.d",
    "depends-ms.d",
    "waits-for.d",
    "after",
    "before",
    "chain-to",
    "logfile",
    "logfile-permissions",
    "logfile-uid",
    "logfile-gid",
    "log-type",
    "log-buffer-size",
    "consumer-of",
    "options",
    "load-options",
    "ready-notification",
    "termsignal",
    "term-signal",
    "inittab-id",
    "inittab-line",
    "rlimit-nofile",
    "rlimit-core",
    "rlimit-data",
    "rlimit-addrspace",
    "nice",
    "ioprio",
    "oom-score-adj",
    "run-in-cgroup",
    "capabilities",
    "securebits",
    "cpu-affinity",
    "description",
    "newer",
];

/// Enables the service `name` as Chimera does: by a link in the folder that `boot`, or the service that its
/// description names with `@meta enable-via`, waits for. The text of the link is `../NAME`.
///
/// # Errors
/// When the root has no such service.
pub fn enable(tree: &mut Tree, name: &str, time: Timestamp) -> Result<Enabled, RootError> {
    let Some(description) = describe(tree, name)? else {
        return Err(RootError::Unknown {
            what: "service",
            name: name.to_owned(),
            near: nearest(tree, name)?,
        });
    };
    let via = description.enable_via.unwrap_or_else(|| "boot".to_owned());
    let Some(over) = describe(tree, &via)? else {
        return Err(RootError::Unknown {
            what: "service",
            name: via,
            near: None,
        });
    };
    let folder = over
        .soft_folders
        .first()
        .cloned()
        .unwrap_or_else(|| format!("/etc/dinit.d/{via}.d"));
    tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))?;
    let path = format!("{folder}/{name}").into_bytes();
    if tree.find(&path, Follow::Parents)?.is_some() {
        return Ok(Enabled::Already);
    }
    let target = format!("../{name}").into_bytes();
    tree.insert(&path, Metadata::new(0o777, time), Node::Symlink(target))?;
    Ok(Enabled::Made(path))
}

fn nearest(tree: &Tree, name: &str) -> Result<Option<String>, RootError> {
    let mut names = BTreeSet::new();
    for folder in SEARCH {
        let Some(id) = tree.find(folder.as_bytes(), Follow::All)? else {
            continue;
        };
        names.extend(
            tree.inode(id)
                .entries()
                .into_iter()
                .flatten()
                .map(|(name, _)| String::from_utf8_lossy(name).into_owned()),
        );
    }
    let close = |known: &&String| known.contains(name) || name.contains(known.as_str());
    Ok(names.iter().find(close).cloned())
}

fn locate(tree: &Tree, name: &str) -> Result<Option<Vec<u8>>, RootError> {
    let base = name.split('@').next().unwrap_or_default();
    if base.is_empty() || name.contains('/') || name.starts_with('.') {
        return Ok(None);
    }
    for candidate in [name, base] {
        for folder in SEARCH {
            let path = format!("{folder}/{candidate}").into_bytes();
            if let Some(id) = tree.find(&path, Follow::All)?
                && tree.inode(id).content().is_some()
            {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

fn describe(tree: &Tree, name: &str) -> Result<Option<Description>, RootError> {
    let Some(path) = locate(tree, name)? else {
        return Ok(None);
    };
    let argument = name
        .split_once('@')
        .map(|(_, argument)| argument)
        .unwrap_or_default();
    let mut description = Description::default();
    let mut files = vec![path];
    let mut read = 0;
    while let Some(path) = files.pop() {
        read += 1;
        if read > INCLUDES_MAX {
            break;
        }
        let text = String::from_utf8_lossy(tree.read(&path)?).replace("\\\n", " ");
        for line in text.lines() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(meta) = line.strip_prefix('@') {
                let mut words = meta.split_ascii_whitespace();
                match (words.next(), words.next()) {
                    (Some("include" | "include-opt"), Some(file)) => {
                        let file = file.as_bytes().to_vec();
                        if tree.find(&file, Follow::All)?.is_some() {
                            files.push(file);
                        }
                    }
                    (Some("meta"), Some("enable-via")) => {
                        description.enable_via = words.next().map(str::to_owned)
                    }
                    _ => {}
                }
                continue;
            }
            let end = line
                .find(|letter: char| "=:+ \t".contains(letter))
                .unwrap_or(line.len());
            let (key, rest) = line.split_at(end);
            let value = rest.trim_start_matches(['=', ':', '+', ' ', '\t']).trim();
            let value = value.replace("$1", argument).replace("${1}", argument);
            let value = value.trim_matches('"').to_owned();
            match key {
                "depends-on" | "depends-ms" => description.hard.push(value),
                "waits-for" | "prepared-by" => description.soft.push(value),
                "depends-on.d" | "depends-ms.d" => description.hard_folders.push(value),
                "waits-for.d" => description.soft_folders.push(value),
                "command" | "stop-command" => {
                    if let Some(program) = value.split_ascii_whitespace().next() {
                        description.programs.push(program.trim_matches('"').to_owned());
                    }
                }
                key if KNOWN.contains(&key) || key.starts_with("rlimit-") || key.starts_with("cgroup") => {}
                key => description.unknown.push(key.to_owned()),
            }
        }
    }
    Ok(Some(description))
}

/// Checks what `boot` starts: unknown settings, dependencies that do not exist, programs that are missing,
/// circles, and chains that are longer than dinit loads. A root without a service `boot` has nothing to
/// check.
pub fn check(tree: &Tree) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut known: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut waiting = vec!["boot".to_owned()];
    if !matches!(locate(tree, "boot"), Ok(Some(_))) {
        return problems;
    }
    while let Some(name) = waiting.pop() {
        if known.contains_key(&name) {
            continue;
        }
        let mut problem = |what: String, error: bool| {
            problems.push(Problem {
                service: name.clone(),
                what,
                error,
            })
        };
        let description = match describe(tree, &name) {
            Ok(Some(description)) => description,
            Ok(None) => continue,
            Err(error) => {
                problem(error.to_string(), true);
                continue;
            }
        };
        for key in &description.unknown {
            problem(format!("unknown setting `{key}`"), true);
        }
        for program in description
            .programs
            .iter()
            .filter(|program| program.starts_with('/') && !program.contains('$'))
        {
            if !matches!(tree.find(program.as_bytes(), Follow::All), Ok(Some(_))) {
                problem(format!("its program {program} is not in the root"), false);
            }
        }
        let mut next = Vec::new();
        let mut folders = description
            .hard
            .iter()
            .map(|name| (name.clone(), true))
            .collect::<Vec<_>>();
        folders.extend(description.soft.iter().map(|name| (name.clone(), false)));
        for (folder, hard) in description
            .hard_folders
            .iter()
            .map(|folder| (folder, true))
            .chain(description.soft_folders.iter().map(|folder| (folder, false)))
        {
            let Ok(Some(id)) = tree.find(folder.as_bytes(), Follow::All) else {
                continue;
            };
            for entry in tree
                .inode(id)
                .entries()
                .into_iter()
                .flatten()
                .map(|(entry, _)| entry)
            {
                let entry = String::from_utf8_lossy(entry).into_owned();
                if !entry.starts_with('.') {
                    folders.push((entry, hard));
                }
            }
        }
        for (dependency, hard) in folders {
            match locate(tree, &dependency) {
                Ok(Some(_)) => next.push(dependency),
                _ => problem(
                    format!(
                        "it {} {dependency}, which does not exist",
                        if hard { "needs" } else { "waits for" }
                    ),
                    hard,
                ),
            }
        }
        waiting.extend(next.iter().cloned());
        known.insert(name, next);
    }
    if let Some(chain) = circle(&known) {
        problems.push(Problem {
            service: chain[0].clone(),
            what: format!("services wait for each other: {}", chain.join(" -> ")),
            error: true,
        });
    } else {
        let depth = depth(&known);
        if depth > DEPTH_WARN {
            problems.push(Problem {
                service: "boot".to_owned(),
                what: format!("the longest chain has {depth} services; dinit loads {DEPTH_MAX}"),
                error: depth > DEPTH_MAX,
            });
        }
    }
    problems.sort_by(|a, b| (&a.service, &a.what).cmp(&(&b.service, &b.what)));
    problems
}

/// A circle among the services, if there is one.
fn circle(known: &BTreeMap<String, Vec<String>>) -> Option<Vec<String>> {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in known.keys() {
        let mut path: Vec<(&str, usize)> = vec![(start, 0)];
        while let Some((name, next)) = path.pop() {
            if done.contains(name) {
                continue;
            }
            let Some(follower) = known.get(name).and_then(|followers| followers.get(next)) else {
                done.insert(name);
                continue;
            };
            path.push((name, next + 1));
            if let Some(at) = path.iter().position(|(on_path, _)| on_path == follower) {
                let mut chain: Vec<String> = path[at..].iter().map(|(name, _)| (*name).to_owned()).collect();
                chain.push(follower.clone());
                return Some(chain);
            }
            path.push((follower, 0));
        }
    }
    None
}

/// Services on the longest chain from `boot`; there are no circles.
fn depth(known: &BTreeMap<String, Vec<String>>) -> usize {
    let mut depths: BTreeMap<&str, usize> = BTreeMap::new();
    let mut stack = vec!["boot"];
    while let Some(&name) = stack.last() {
        let followers = known.get(name).map(Vec::as_slice).unwrap_or_default();
        match followers
            .iter()
            .find(|follower| !depths.contains_key(follower.as_str()))
        {
            Some(follower) => stack.push(follower),
            None => {
                let deepest = followers
                    .iter()
                    .filter_map(|follower| depths.get(follower.as_str()))
                    .max();
                depths.insert(name, 1 + deepest.copied().unwrap_or(0));
                stack.pop();
            }
        }
    }
    depths.get("boot").copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Timestamp = Timestamp {
        seconds: 0,
        nanoseconds: 0,
    };

    fn tree(services: &[(&str, &str)]) -> Tree {
        let mut tree = Tree::new(Metadata::new(0o755, TIME));
        tree.make_directories(b"usr/lib", Metadata::new(0o755, TIME))
            .unwrap();
        tree.insert(
            b"lib",
            Metadata::new(0o777, TIME),
            Node::Symlink(b"usr/lib".to_vec()),
        )
        .unwrap();
        for (name, text) in services {
            let path = format!("usr/lib/dinit.d/{name}");
            tree.write(path.as_bytes(), Metadata::new(0o644, TIME), (*text).into())
                .unwrap();
        }
        tree
    }

    const BOOT: (&str, &str) = ("boot", "type = internal\nwaits-for.d: /etc/dinit.d/boot.d\n");

    #[test]
    fn services_are_enabled_by_links() {
        let mut tree = tree(&[
            BOOT,
            ("system", "type = internal\nwaits-for.d: /etc/dinit.d/system.d\n"),
            ("sshd", "type = process\ncommand = /usr/bin/sshd\n"),
            ("early", "type = internal\n@meta enable-via system\n"),
        ]);
        assert_eq!(
            enable(&mut tree, "sshd", TIME).unwrap(),
            Enabled::Made(b"/etc/dinit.d/boot.d/sshd".to_vec())
        );
        assert_eq!(enable(&mut tree, "sshd", TIME).unwrap(), Enabled::Already);
        enable(&mut tree, "early", TIME).unwrap();
        let link = tree
            .resolve(b"etc/dinit.d/system.d/early", Follow::Parents)
            .unwrap();
        assert_eq!(tree.inode(link).symlink(), Some(b"../early".as_slice()));
        let error = enable(&mut tree, "ssh", TIME).unwrap_err().to_string();
        assert!(error.contains("did you mean `sshd`?"), "{error}");
    }

    #[test]
    fn faults_are_found() {
        for (services, part, error) in [
            (vec![("boot", "depends-on: gone\n")], "needs gone", true),
            (vec![("boot", "waits-for: gone\n")], "waits for gone", false),
            (
                vec![("boot", "wait-for: x\n")],
                "unknown setting `wait-for`",
                true,
            ),
            (vec![("boot", "command = /no/program x\n")], "/no/program", false),
            (
                vec![
                    ("boot", "depends-on: a\n"),
                    ("a", "depends-on: b\n"),
                    ("b", "depends-on: a\n"),
                ],
                "a -> b -> a",
                true,
            ),
        ] {
            let problems = check(&tree(&services));
            assert_eq!(problems.len(), 1, "{problems:?}");
            assert!(problems[0].to_string().contains(part), "{problems:?}");
            assert_eq!(problems[0].is_error(), error, "{problems:?}");
        }
        assert!(check(&tree(&[BOOT])).is_empty());
    }

    #[test]
    fn long_chains_are_told() {
        let chain = |count: usize| -> Tree {
            let names: Vec<String> = (0..count)
                .map(|at| if at == 0 { "boot".into() } else { format!("s{at}") })
                .collect();
            let texts: Vec<String> = (1..=count)
                .map(|at| {
                    if at < count {
                        format!("depends-on: s{at}\n")
                    } else {
                        String::new()
                    }
                })
                .collect();
            let services: Vec<(&str, &str)> = names
                .iter()
                .zip(&texts)
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            tree(&services)
        };
        assert!(check(&chain(30)).is_empty());
        assert!(!check(&chain(31))[0].is_error());
        assert!(check(&chain(33))[0].is_error());
    }
}
