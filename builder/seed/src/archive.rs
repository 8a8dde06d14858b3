//! The Debian archive as this machine reaches it.
//!
//! Where the archive is comes from the machine's own apt configuration: no host name is written here, and
//! none appears in a message. Indexes are kept in a private apt state in the store, one for each suite and
//! architecture, so nothing of the system's apt changes and foreign architectures need no dpkg.

use crate::Cancel;
use crate::client;
use crate::error::{IoContext, Result, SeedError};
use crate::store::{Lock, Store, make_dir, write_file};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// The client that fetches one file with a known hash; of the Debian package apt.
pub(crate) const APT_HELPER: &str = "/usr/lib/apt/apt-helper";

/// The keys that sign Debian's archive, where the package debian-archive-keyring puts them.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Base URIs of the archive, each without trailing slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveUris {
    /// The main archive.
    pub main: String,
    /// The security archive.
    pub security: String,
}

impl ArchiveUris {
    /// Bases from the releases and repositories that apt is configured with.
    fn from_targets(targets: &[(String, String)]) -> Option<ArchiveUris> {
        let is_security = |release: &str| release.ends_with("-security") || release.contains("/updates");
        let base = |uri: &str| uri.trim_end_matches('/').to_owned();
        let debian = |uri: &str| base(uri).ends_with("/debian");
        let main = targets
            .iter()
            .filter(|(release, _)| !is_security(release))
            .min_by_key(|(_, uri)| !debian(uri))
            .map(|(_, uri)| base(uri))?;
        let security = targets
            .iter()
            .find(|(release, _)| is_security(release))
            .map(|(_, uri)| base(uri))
            // Mirrors carry both side by side.
            .unwrap_or_else(|| format!("{main}-security"));
        Some(ArchiveUris { main, security })
    }

    fn of_suite(&self, suite: Option<&str>) -> &str {
        if suite.is_some_and(|s| s.ends_with("-security")) {
            &self.security
        } else {
            &self.main
        }
    }
}

/// A file that apt's index names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    pub uri: String,
    pub version: String,
    pub sha256: String,
}

/// apt's clients with private state.
pub(crate) struct Archive {
    store: Store,
    given: Option<ArchiveUris>,
    bases: OnceLock<Result<ArchiveUris, String>>,
    updated: Mutex<BTreeSet<String>>,
    cancel: Cancel,
}

/// What an index is wanted of.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Wanted<'a> {
    Source,
    Binary { arch: &'a str },
}

impl Archive {
    pub(crate) fn new(store: &Store, given: Option<ArchiveUris>, cancel: &Cancel) -> Archive {
        Archive {
            store: store.clone(),
            given,
            bases: OnceLock::new(),
            updated: Mutex::default(),
            cancel: cancel.clone(),
        }
    }

    fn bases(&self) -> Result<&ArchiveUris, String> {
        let found = self.bases.get_or_init(|| match &self.given {
            Some(given) => Ok(given.clone()),
            None => configured(&self.cancel),
        });
        found.as_ref().map_err(Clone::clone)
    }

    /// The URI of a path in the archive that has a suite.
    pub(crate) fn uri(&self, suite: Option<&str>, path: &str) -> Result<String, String> {
        // Debian versions hold characters that a URI does not.
        let escaped: String = path
            .bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'+' | b'~' => {
                    (b as char).to_string()
                }
                other => format!("%{other:02X}"),
            })
            .collect();
        Ok(format!("{}/{escaped}", self.bases()?.of_suite(suite)))
    }

    /// Fetches a file; apt's helper refuses it when the hash differs.
    pub(crate) fn download(&self, uri: &str, to: &Path, sha256: &str) -> Result<(), String> {
        let mut command = apt(APT_HELPER);
        command
            .args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Retries=2"])
            .args([
                "-o",
                "Acquire::http::Timeout=60",
                "-o",
                "Acquire::https::Timeout=60",
            ])
            .arg("download-file")
            .arg(uri)
            .arg(to)
            .arg(format!("SHA256:{sha256}"));
        run(command, &self.cancel).map(drop)
    }

    /// The newest binary package whose version holds `matching`, or the exact version.
    pub(crate) fn find_binary(
        &self,
        suite: &str,
        arch: &str,
        package: &str,
        pick: impl Fn(&str) -> bool,
        refresh: bool,
    ) -> Result<Indexed, String> {
        let config = self.index(suite, Wanted::Binary { arch }, refresh)?;
        let mut madison = apt("apt-cache");
        madison
            .env("APT_CONFIG", &config)
            .args(["madison", &format!("{package}:{arch}")]);
        let versions = run(madison, &self.cancel)?;
        let version = versions
            .lines()
            .filter(|line| line.trim_end().ends_with("Packages"))
            .filter_map(|line| line.split('|').nth(1))
            .map(str::trim)
            .find(|version| pick(version))
            .ok_or_else(|| {
                let all: Vec<&str> = versions
                    .lines()
                    .filter_map(|l| l.split('|').nth(1))
                    .map(str::trim)
                    .collect();
                match all.is_empty() {
                    true => format!("{suite} has no package {package} for {arch}"),
                    false => format!("{suite} has {package} only as {}", all.join(", ")),
                }
            })?;
        let mut uris = apt("apt-get");
        uris.env("APT_CONFIG", &config).args(["download", "--print-uris"]);
        uris.arg(format!("{package}:{arch}={version}"));
        let output = run(uris, &self.cancel)?;
        let (uri, _, sha256) = output
            .lines()
            .find_map(print_uris_line)
            .ok_or_else(|| format!("apt does not say where {package} {version} is"))?;
        Ok(Indexed {
            uri,
            version: version.to_owned(),
            sha256,
        })
    }

    /// A file of a source package, whatever version has it now.
    pub(crate) fn find_source(&self, suite: &str, source: &str, file: &str) -> Result<Indexed, String> {
        let config = self.index(suite, Wanted::Source, true)?;
        let mut uris = apt("apt-get");
        uris.env("APT_CONFIG", &config)
            .args(["source", "--print-uris", "--only-source", source]);
        let output = run(uris, &self.cancel)?;
        let files: Vec<_> = output.lines().filter_map(print_uris_line).collect();
        match files.iter().find(|(_, name, _)| name == file) {
            Some((uri, _, sha256)) => Ok(Indexed {
                uri: uri.clone(),
                version: String::new(),
                sha256: sha256.clone(),
            }),
            None => {
                let names: Vec<&str> = files.iter().map(|(_, name, _)| name.as_str()).collect();
                Err(format!("{suite} now has {} of {source}", names.join(", ")))
            }
        }
    }

    /// The suites that the machine's apt is configured with, the archive's own names.
    pub(crate) fn host_suites(&self) -> Vec<String> {
        let mut suites: Vec<String> = targets(&self.cancel)
            .unwrap_or_default()
            .into_iter()
            .map(|(release, _)| release)
            .collect();
        suites.sort();
        suites.dedup();
        suites
    }

    /// The configuration file of an index that is there, updated at most once by this value.
    fn index(&self, suite: &str, wanted: Wanted, refresh: bool) -> Result<PathBuf, String> {
        let name = match wanted {
            Wanted::Source => format!("{suite}-source"),
            Wanted::Binary { arch } => format!("{suite}-{arch}"),
        };
        let dir = self.store.apt().join(&name);
        let config = dir.join("apt.conf");
        let mut updated = self.updated.lock().unwrap_or_else(|e| e.into_inner());
        let done = dir.join("updated");
        if updated.contains(&name) || (done.exists() && !refresh) {
            return Ok(config);
        }
        let text = |e: SeedError| e.to_string();
        let _lock = Lock::take(&self.store.apt().join(format!("{name}.lock"))).map_err(text)?;
        self.write_state(&dir, suite, wanted)?;
        let mut update = apt("apt-get");
        update
            .env("APT_CONFIG", &config)
            .args(["update", "-q", "-o", "APT::Update::Error-Mode=any"]);
        run(update, &self.cancel).map_err(|why| format!("the index of {suite} cannot be had: {why}"))?;
        write_file(&done, b"", 0o644).map_err(text)?;
        updated.insert(name);
        Ok(config)
    }

    fn write_state(&self, dir: &Path, suite: &str, wanted: Wanted) -> Result<(), String> {
        let text = |e: SeedError| e.to_string();
        for sub in ["etc/empty", "state", "lists/partial", "cache/archives/partial"] {
            make_dir(&dir.join(sub)).map_err(text)?;
        }
        let base = self.bases()?.of_suite(Some(suite));
        let signed = if Path::new(KEYRING).exists() {
            format!(" signed-by={KEYRING}")
        } else {
            String::new()
        };
        let line = match wanted {
            Wanted::Source => format!("deb-src [{}] {base} {suite} main\n", signed.trim()),
            Wanted::Binary { arch } => format!("deb [arch={arch}{signed}] {base} {suite} main\n"),
        };
        // The line names the host: readable by its owner only, as apt's own files with credentials are.
        write_file(
            &dir.join("etc/sources.list"),
            line.replace("[] ", "").as_bytes(),
            0o600,
        )
        .map_err(text)?;
        write_file(&dir.join("status"), b"", 0o644).map_err(text)?;
        let arch = match wanted {
            Wanted::Source => "amd64",
            Wanted::Binary { arch } => arch,
        };
        // How this machine reaches the network stays as it is; hooks of the system do not come along.
        let mut dump = apt("apt-config");
        dump.args(["dump", "Acquire"]);
        let mut config = run(dump, &self.cancel)?;
        let at = |sub: &str| dir.join(sub).display().to_string();
        config.push_str(&format!(
            "\nDir::Etc \"{etc}\";\nDir::Etc::sourcelist \"sources.list\";\nDir::Etc::sourceparts \"empty\";\n\
             Dir::Etc::parts \"empty\";\nDir::Etc::main \"/dev/null\";\nDir::Etc::preferences \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"empty\";\nDir::Etc::netrc \"/etc/apt/auth.conf\";\n\
             Dir::Etc::netrcparts \"/etc/apt/auth.conf.d\";\nDir::Etc::trusted \"/etc/apt/trusted.gpg\";\n\
             Dir::Etc::trustedparts \"/etc/apt/trusted.gpg.d\";\nDir::State \"{state}\";\n\
             Dir::State::lists \"{lists}\";\nDir::State::status \"{status}\";\nDir::Cache \"{cache}\";\n\
             APT::Architecture \"{arch}\";\n#clear APT::Architectures;\nAPT::Architectures {{ \"{arch}\"; }};\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\nAcquire::Retries \"2\";\n\
             Acquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n",
            etc = at("etc"),
            state = at("state"),
            lists = at("lists"),
            status = at("status"),
            cache = at("cache"),
        ));
        write_file(&dir.join("apt.conf"), config.as_bytes(), 0o600).map_err(text)
    }
}

fn apt(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("LC_ALL", "C");
    command
}

/// Runs an apt client; the error is what it complained of, without host names.
fn run(mut command: Command, cancel: &Cancel) -> Result<String, String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = client::run(&mut command, cancel).map_err(|e| match e.kind() {
        std::io::ErrorKind::Interrupted => e.to_string(),
        _ => format!("{program} cannot be run ({e}); it is of the Debian package apt"),
    })?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = if output.stderr.trim().is_empty() {
        output.stdout
    } else {
        output.stderr
    };
    let mut lines: Vec<&str> = said
        .lines()
        .filter(|l| l.starts_with("E:") || l.starts_with("Err:"))
        .collect();
    lines.dedup();
    let text = if lines.is_empty() {
        said.trim().to_owned()
    } else {
        lines.join("; ")
    };
    Err(hide_hosts(&text))
}

/// Takes hosts, ports and addresses out of a message.
fn hide_hosts(text: &str) -> String {
    let mut out = String::new();
    for (index, word) in text.split(' ').enumerate() {
        if index > 0 {
            out.push(' ');
        }
        match word.find("://") {
            Some(at) => {
                let rest = &word[at + 3..];
                out.push_str("ARCHIVE");
                out.push_str(rest.find('/').map(|slash| &rest[slash..]).unwrap_or(""));
            }
            None if word.starts_with("[IP:") => out.push_str("[IP"),
            None => out.push_str(word),
        }
    }
    // `[IP: address port]` is three words.
    while let Some(start) = out.find("[IP ") {
        let end = out[start..].find(']').map_or(out.len(), |e| start + e + 1);
        out.replace_range(start..end, "");
    }
    // Taking words out leaves their blanks.
    out.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .replace(" ;", ";")
}

fn print_uris_line(line: &str) -> Option<(String, String, String)> {
    let (uri, rest) = line.strip_prefix('\'')?.split_once("' ")?;
    let mut words = rest.split(' ');
    let name = words.next()?;
    let sha256 = words.nth(1)?.strip_prefix("SHA256:")?;
    Some((uri.to_owned(), name.to_owned(), sha256.to_owned()))
}

/// Release and repository URI of every index the machine's apt is configured with.
fn targets(cancel: &Cancel) -> Result<Vec<(String, String)>, String> {
    let mut command = apt("apt-get");
    command.args([
        "indextargets",
        "--no-release-info",
        "--format",
        "$(RELEASE) $(REPO_URI)",
    ]);
    let output = run(command, cancel)?;
    Ok(output
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(release, uri)| (release.to_owned(), uri.trim().to_owned()))
        .collect())
}

fn configured(cancel: &Cancel) -> Result<ArchiveUris, String> {
    ArchiveUris::from_targets(&targets(cancel)?).ok_or_else(|| {
        "this machine's apt is not configured with a Debian archive; name one with --debian-archive".into()
    })
}

/// Checks that a path exists; used to say early that a client is missing.
pub(crate) fn client_missing() -> bool {
    !Path::new(APT_HELPER).exists()
}

/// A URI's path, for messages.
pub(crate) fn uri_path(uri: &str) -> String {
    let rest = uri.split_once("://").map_or(uri, |(_, rest)| rest);
    rest.split_once('/').map_or(rest, |(_, path)| path).to_owned()
}

/// Moves a fetched file to its final name, durably.
pub(crate) fn settle(from: &Path, to: &Path) -> Result<()> {
    let file = std::fs::File::open(from).at("opening", from)?;
    file.sync_all().at("writing to the disk", from)?;
    std::fs::rename(from, to).at("renaming into place", to)?;
    crate::store::sync_dir(to.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets(list: &[(&str, &str)]) -> Option<ArchiveUris> {
        let list: Vec<_> = list.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
        ArchiveUris::from_targets(&list)
    }

    #[test]
    fn bases_come_from_what_apt_is_configured_with() {
        let uris = targets(&[
            ("nodistro", "https://other.example/node/"),
            ("bookworm", "http://mirror.example/x/debian/"),
            ("bookworm-security", "http://sec.example/debian-security/"),
        ])
        .unwrap();
        assert_eq!(uris.main, "http://mirror.example/x/debian");
        assert_eq!(uris.security, "http://sec.example/debian-security");
        let uris = targets(&[("sid", "http://mirror.example/debian/")]).unwrap();
        assert_eq!(uris.security, "http://mirror.example/debian-security");
        assert_eq!(targets(&[]), None);
    }

    #[test]
    fn uris_use_the_archive_of_the_suite_and_are_escaped() {
        let dir = tempfile::tempdir().unwrap();
        let given = ArchiveUris {
            main: "http://m/debian".into(),
            security: "http://s/debian-security".into(),
        };
        let archive = Archive::new(&Store::new(dir.path()), Some(given), &Cancel::new());
        assert_eq!(archive.uri(None, "pool/a").unwrap(), "http://m/debian/pool/a");
        assert_eq!(
            archive.uri(Some("bookworm-security"), "pool/a:1~2^b").unwrap(),
            "http://s/debian-security/pool/a%3A1~2%5Eb"
        );
    }

    #[test]
    fn messages_name_no_host() {
        let said = "E: Failed to fetch http://user:pw@host.example:80/debian/pool/x.deb  404  Not Found [IP: 10.1.2.3 80]";
        assert_eq!(
            hide_hosts(said),
            "E: Failed to fetch ARCHIVE/debian/pool/x.deb 404 Not Found"
        );
        assert_eq!(
            uri_path("http://host.example/debian/pool/x.deb"),
            "debian/pool/x.deb"
        );
    }

    #[test]
    fn lines_of_print_uris() {
        let (uri, name, sha256) =
            print_uris_line("'http://h/pool/m/musl_1%7e2.deb' musl_1~2.deb 10 SHA256:ab").unwrap();
        assert_eq!(
            (&*uri, &*name, &*sha256),
            ("http://h/pool/m/musl_1%7e2.deb", "musl_1~2.deb", "ab")
        );
        assert_eq!(print_uris_line("Reading package lists..."), None);
    }
}
