//! dinit services of a root: enabling them, and checking that what boots can start.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use lycia_dinit::catalogue::{LoadError, Loader, system_directories};
use lycia_dinit::check::{self, Runner};
pub use lycia_dinit::check::{Finding, Report, Severity};
use lycia_dinit::environment::{self, Environment};
use lycia_dinit::files::Files;
use lycia_dinit::suggest;
use lycia_dinit::text::MAX_FILE_BYTES;
use lycia_tree::{Follow, InodeId, Metadata, Node, Timestamp, Tree, TreeError};

use crate::RootError;

/// dinit's environment file (dinit(8), "Files").
const ENVIRONMENT: &str = "/etc/dinit/environment";
/// What the seed's supervisor is in a root.
const SUPERVISOR: &[u8] = b"usr/bin/seed-supervisor";

/// What came of enabling a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Enabled {
    /// The link was made.
    Made(Vec<u8>),
    /// It was there.
    Already,
}

/// The files of a root for the reader of descriptions.
struct TreeFiles<'t>(&'t Tree);

impl TreeFiles<'_> {
    fn find(&self, path: &Path) -> io::Result<Option<InodeId>> {
        let path = path.as_os_str().as_encoded_bytes();
        match self.0.find(path, Follow::All) {
            Ok(found) => Ok(found),
            // As the target's kernel has it: what is below a file is not there.
            Err(TreeError::NotADirectory(_)) => Ok(None),
            Err(error) => Err(io::Error::other(error.to_string())),
        }
    }
}

impl Files for TreeFiles<'_> {
    fn read(&self, path: &Path) -> io::Result<Option<Vec<u8>>> {
        let Some(id) = self.find(path)? else {
            return Ok(None);
        };
        match self.0.inode(id).content() {
            // One byte too many says that the file is too large; programs are asked for their first line.
            Some(content) => {
                let bytes = content.bytes();
                Ok(Some(bytes[..bytes.len().min(MAX_FILE_BYTES + 1)].to_vec()))
            }
            None => Err(io::Error::other("not a regular file")),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Option<Vec<String>>> {
        let Some(id) = self.find(path)? else {
            return Ok(None);
        };
        let entries = self.0.inode(id).entries();
        Ok(entries.map(|entries| {
            entries
                .keys()
                .map(|name| String::from_utf8_lossy(name).into_owned())
                .collect()
        }))
    }

    fn is_executable(&self, path: &Path) -> bool {
        let found = self.find(path).ok().flatten().map(|id| self.0.inode(id));
        found.is_some_and(|inode| inode.content().is_some() && inode.metadata.mode & 0o111 != 0)
    }
}

/// What descriptions of a root are read with.
struct Services<'t> {
    files: TreeFiles<'t>,
    directories: Vec<PathBuf>,
    environment: Environment,
    /// What is wrong with the environment file.
    fault: Option<String>,
}

impl Services<'_> {
    fn new(tree: &Tree) -> Services<'_> {
        let files = TreeFiles(tree);
        let mut environment = Environment::new();
        let mut fault = None;
        if let Ok(Some(bytes)) = files.read(Path::new(ENVIRONMENT)) {
            let text = String::from_utf8_lossy(&bytes);
            if let Err(error) = environment::apply(&text, &Environment::new(), &mut environment) {
                fault = Some(format!("{ENVIRONMENT}: {error}"));
            }
        }
        Services {
            files,
            directories: system_directories(),
            environment,
            fault,
        }
    }

    fn loader(&self) -> Loader<'_> {
        Loader {
            files: &self.files,
            directories: &self.directories,
            environment: &self.environment,
        }
    }

    fn unknown(&self, name: &str) -> RootError {
        let names: BTreeSet<String> = self.loader().all_names();
        let near = suggest::nearest(name, names.iter().map(String::as_str));
        RootError::Unknown {
            what: "service",
            name: name.to_owned(),
            near: near.map(str::to_owned),
        }
    }

    fn describe(&self, name: &str) -> Result<lycia_dinit::description::Description, RootError> {
        self.loader().describe(name).map_err(|error| match error {
            LoadError::NotFound(_) => self.unknown(name),
            error => RootError::Service(error.to_string()),
        })
    }
}

/// Enables the service `name` as Chimera does: by a link in the folder that `boot`, or the service that its
/// description names with `@meta enable-via`, waits for. The text of the link is `../NAME`.
///
/// # Errors
/// When the root has no such service, or its description is wrong.
pub fn enable(tree: &mut Tree, name: &str, time: Timestamp) -> Result<Enabled, RootError> {
    let (service, via, folder) = {
        let services = Services::new(tree);
        let description = services.describe(name)?;
        let via = description.enable_via.unwrap_or_else(|| "boot".to_owned());
        let over = services.describe(&via)?;
        (description.name, via, over.waits_for_directories.first().cloned())
    };
    let folder = folder.ok_or_else(|| {
        RootError::Service(format!(
            "service `{service}` cannot be enabled: `{via}`, which it is enabled by, has no waits-for.d"
        ))
    })?;
    let folder = folder.as_os_str().as_encoded_bytes();
    tree.make_directories(folder, Metadata::new(0o755, time))?;
    let path = [folder, b"/", service.as_bytes()].concat();
    if tree.find(&path, Follow::Parents)?.is_some() {
        return Ok(Enabled::Already);
    }
    let target = [b"../", service.as_bytes()].concat();
    tree.insert(&path, Metadata::new(0o777, time), Node::Symlink(target))?;
    Ok(Enabled::Made(path))
}

/// Checks what `boot` starts, as the target's dinit will read it: unknown settings, dependencies that do not
/// exist, programs that are missing, circles, and chains that are longer than dinit loads. A root without a
/// service `boot` has nothing to check.
pub fn check(tree: &Tree) -> Report {
    let services = Services::new(tree);
    let loader = services.loader();
    if matches!(loader.find("boot"), Err(LoadError::NotFound(_))) {
        return Report::default();
    }
    let supervised = matches!(tree.find(SUPERVISOR, Follow::All), Ok(Some(_)));
    let request = check::Request {
        services: vec!["boot".to_owned()],
        runner: if supervised {
            Runner::SeedSupervisor
        } else {
            Runner::Dinit
        },
        delivered: BTreeSet::new(),
    };
    let mut report = check::check(&loader, &request);
    if let Some(message) = services.fault {
        report.findings.insert(
            0,
            Finding {
                severity: Severity::Error,
                service: "boot".to_owned(),
                message,
            },
        );
    }
    report
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

    fn found(tree: &Tree) -> Vec<String> {
        check(tree).findings.iter().map(ToString::to_string).collect()
    }

    const BOOT: (&str, &str) = ("boot", "type = internal\nwaits-for.d: /etc/dinit.d/boot.d\n");

    #[test]
    fn services_are_enabled_by_links() {
        let mut tree = tree(&[
            BOOT,
            ("system", "type = internal\nwaits-for.d: system.d\n"),
            ("sshd", "type = process\ncommand = /usr/bin/sshd\n"),
            ("getty", "type = process\ncommand = /usr/bin/getty $1\n"),
            ("early", "type = internal\n@meta enable-via system\n"),
            ("odd", "type = internal\n@meta enable-via early\n"),
            ("bad", "type = internl\n"),
        ]);
        assert_eq!(
            enable(&mut tree, "sshd", TIME).unwrap(),
            Enabled::Made(b"/etc/dinit.d/boot.d/sshd".to_vec())
        );
        assert_eq!(enable(&mut tree, "sshd", TIME).unwrap(), Enabled::Already);
        // A relative folder lies beside the description that names it.
        assert_eq!(
            enable(&mut tree, "early", TIME).unwrap(),
            Enabled::Made(b"/usr/lib/dinit.d/system.d/early".to_vec())
        );
        let link = tree
            .resolve(b"lib/dinit.d/system.d/early", Follow::Parents)
            .unwrap();
        assert_eq!(tree.inode(link).symlink(), Some(b"../early".as_slice()));
        enable(&mut tree, "getty@tty1", TIME).unwrap();
        let link = tree
            .resolve(b"etc/dinit.d/boot.d/getty@tty1", Follow::Parents)
            .unwrap();
        assert_eq!(tree.inode(link).symlink(), Some(b"../getty@tty1".as_slice()));
        for (name, part) in [
            ("ssh", "did you mean `sshd`?"),
            ("odd", "has no waits-for.d"),
            ("bad", "did you mean `internal`?"),
            ("../boot", "no service"),
            ("getty", "without an argument"),
        ] {
            let error = enable(&mut tree, name, TIME).unwrap_err().to_string();
            assert!(error.contains(part), "{name}: {error}");
        }
    }

    #[test]
    fn faults_are_found() {
        let table: &[(&[(&str, &str)], &str)] = &[
            (
                &[("boot", "type = internal\ndepends-on: gone\n")],
                "error: boot: /usr/lib/dinit.d/boot:2: depends-on `gone` is not in any service directory",
            ),
            (
                &[("boot", "type = internal\nwait-for: x\n")],
                "error: boot: /usr/lib/dinit.d/boot:2: unknown setting `wait-for` (did you mean `waits-for`?)",
            ),
            (
                &[("boot", "command = /no/program x\n")],
                "error: boot: /usr/lib/dinit.d/boot:1: program `/no/program` is missing or not executable",
            ),
            (
                &[
                    ("boot", "type = internal\nwaits-for: a\n"),
                    ("a", "command = /no/program x\n"),
                ],
                "warning: a: /usr/lib/dinit.d/a:1: program `/no/program` is missing or not executable",
            ),
            (
                &[
                    ("boot", "type = internal\ndepends-on: a\n"),
                    ("a", "type = internal\ndepends-on: b\n"),
                    ("b", "type = internal\ndepends-on: a\n"),
                ],
                "error: a: /usr/lib/dinit.d/a:2: a circle of dependencies: a -> b -> a",
            ),
        ];
        for (services, finding) in table {
            assert_eq!(found(&tree(services)), [*finding]);
        }
        assert!(found(&tree(&[BOOT])).is_empty());
        assert!(found(&tree(&[("other", "nonsense")])).is_empty());
    }

    #[test]
    fn the_runner_is_told_from_the_root() {
        let mut tree = tree(&[("boot", "type = internal\nsocket-listen = /run/x\n")]);
        assert!(found(&tree).is_empty(), "dinit can");
        let program = Metadata::new(0o755, TIME);
        tree.write(SUPERVISOR, program, "\x7fELF".into()).unwrap();
        assert!(found(&tree)[0].contains("seed supervisor"), "{:?}", found(&tree));
    }

    #[test]
    fn variables_come_from_the_environment_file() {
        let mut tree = tree(&[
            ("boot", "type = internal\ndepends-on: ${STAGE}\n"),
            ("one", "type = internal\n"),
        ]);
        let file = || Metadata::new(0o644, TIME);
        tree.write(ENVIRONMENT.as_bytes(), file(), "STAGE=one\n".into())
            .unwrap();
        assert!(found(&tree).is_empty(), "{:?}", found(&tree));
        tree.write(ENVIRONMENT.as_bytes(), file(), "nonsense\n".into())
            .unwrap();
        assert!(found(&tree)[0].contains("NAME=VALUE"), "{:?}", found(&tree));
    }

    #[test]
    fn long_chains_are_told() {
        let chain = |count: usize| -> Tree {
            let name = |at: usize| if at == 0 { "boot".into() } else { format!("s{at}") };
            let names: Vec<String> = (0..count).map(name).collect();
            let texts: Vec<String> = (1..=count)
                .map(|at| match at < count {
                    true => format!("type = internal\ndepends-on: s{at}\n"),
                    false => "type = internal\n".to_owned(),
                })
                .collect();
            let services: Vec<(&str, &str)> = names
                .iter()
                .zip(&texts)
                .map(|(name, text)| (name.as_str(), text.as_str()))
                .collect();
            tree(&services)
        };
        let report = check(&chain(31));
        assert_eq!((report.findings.len(), report.longest.len()), (0, 31));
        assert_eq!(check(&chain(32)).findings[0].severity, Severity::Warning);
        assert!(check(&chain(34)).has_errors());
    }
}
