//! What differs between two locks, or two media.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use lycia_apk::version;
use lycia_tree::Content;
use serde::Serialize;

use crate::choice::is_virtual;
use crate::commands::inspect;
use crate::error::{Error, Kind, Result, io};
use crate::lock::{Lock, LockedPackage, same_identity};

/// Something that can be compared with another of its kind.
pub enum Subject {
    /// A lock.
    Lock(Box<Lock>),
    /// A medium, and its bytes.
    Medium(Box<lycia_inspect::Report>, Content),
}

/// What differs between two of a kind.
#[derive(Serialize)]
#[serde(untagged)]
pub enum Comparison {
    /// Of locks.
    Locks(Difference),
    /// Of media.
    Media(Box<lycia_inspect::Difference>),
}

impl Comparison {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        match self {
            Comparison::Locks(difference) => difference.is_empty(),
            Comparison::Media(difference) => difference.is_empty(),
        }
    }

    /// For people.
    pub fn text(&self) -> String {
        match self {
            Comparison::Locks(difference) => difference.text(),
            Comparison::Media(difference) => difference.text(),
        }
    }
}

impl Subject {
    /// Finds out by its content what a file is, and reads it.
    ///
    /// # Errors
    /// When it cannot be read, or is of no kind that can be compared.
    pub fn open(path: &Path) -> Result<Subject> {
        let doing = || format!("reading {}", path.display());
        let mut head = Vec::new();
        let file = io(std::fs::File::open(path), doing)?;
        let mut first = std::io::Read::take(file, 4096);
        io(std::io::Read::read_to_end(&mut first, &mut head), doing)?;
        let text = !head.is_empty() && !head.contains(&0);
        // An archive of cpio can begin without a zero.
        if text && !head.starts_with(b"0707") {
            return Lock::read(path).map(|lock| Subject::Lock(Box::new(lock)));
        }
        let content = lycia_inspect::open(path).map_err(inspect::refuse)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let report = lycia_inspect::inspect_bytes(&name, &content, &lycia_inspect::Limits::default());
        let report = report.ok_or_else(|| {
            Error::new(Kind::Input, "it is neither a lock nor a medium")
                .context(path.display())
                .hint("`lycia lock` and `lycia build` write locks, which end in .lock")
        })?;
        Ok(Subject::Medium(Box::new(report), content))
    }

    /// What differs between the two.
    ///
    /// # Errors
    /// When they are of different kinds.
    pub fn compare(&self, new: &Subject) -> Result<Comparison> {
        match (self, new) {
            (Subject::Lock(old), Subject::Lock(new)) => Ok(Comparison::Locks(Difference::new(old, new))),
            (Subject::Medium(old, old_bytes), Subject::Medium(new, new_bytes)) => Ok(Comparison::Media(
                Box::new(lycia_inspect::compare((old, old_bytes), (new, new_bytes))),
            )),
            _ => Err(Error::new(
                Kind::Usage,
                "one is a lock and the other a medium: two of a kind can be compared",
            )),
        }
    }
}

/// What happened to a package.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// It was not there.
    Added,
    /// It is no longer there.
    Removed,
    /// Its version is newer.
    Upgraded,
    /// Its version is older.
    Downgraded,
    /// The same version, and other content.
    Rebuilt,
    /// The same package from another repository.
    Moved,
}

impl What {
    const ALL: [What; 6] = [
        What::Added,
        What::Removed,
        What::Upgraded,
        What::Downgraded,
        What::Rebuilt,
        What::Moved,
    ];

    fn word(self) -> &'static str {
        match self {
            What::Added => "added",
            What::Removed => "removed",
            What::Upgraded => "upgraded",
            What::Downgraded => "downgraded",
            What::Rebuilt => "rebuilt",
            What::Moved => "moved",
        }
    }
}

/// A package on one side.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Side {
    /// Version.
    pub version: String,
    /// Identity in hexadecimal.
    pub identity: String,
    /// Repository.
    pub repository: String,
    /// Bytes of its file.
    pub size: u64,
}

/// A package that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Change {
    /// Name.
    pub name: String,
    /// What happened to it.
    pub what: What,
    /// Whether it is one of the initramfs.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub initramfs: bool,
    /// Whether it is one that a medium carries for installations.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub offered: bool,
    /// Before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub old: Option<Side>,
    /// After.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub new: Option<Side>,
}

/// A value that differs.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Value {
    /// `image`, `arch` or `epoch`.
    pub key: &'static str,
    /// Before.
    pub old: String,
    /// After.
    pub new: String,
}

/// The difference of two locks.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Difference {
    /// What else than packages.
    pub values: Vec<Value>,
    /// Asked for now.
    pub world_added: Vec<String>,
    /// No longer asked for.
    pub world_removed: Vec<String>,
    /// By name.
    pub packages: Vec<Change>,
    /// Bytes of all package files before.
    pub old_size: u64,
    /// Bytes of all package files after.
    pub new_size: u64,
    /// Bytes of files that are in the new one only.
    pub fetched: u64,
}

impl Difference {
    /// What is other in `new` than in `old`.
    pub fn new(old: &Lock, new: &Lock) -> Difference {
        let mut values = Vec::new();
        for (key, old, new) in [
            ("image", old.image.clone(), new.image.clone()),
            ("arch", old.arch.clone(), new.arch.clone()),
            ("epoch", old.epoch.to_string(), new.epoch.to_string()),
        ] {
            if old != new {
                values.push(Value { key, old, new });
            }
        }
        let without = |these: &[String], those: &[String]| -> Vec<String> {
            these.iter().filter(|one| !those.contains(one)).cloned().collect()
        };
        let mut packages = changes(&old.package, &new.package);
        packages.extend(
            changes(&old.initramfs, &new.initramfs)
                .into_iter()
                .map(|change| Change {
                    initramfs: true,
                    ..change
                }),
        );
        packages.extend(
            changes(&old.offered, &new.offered)
                .into_iter()
                .map(|change| Change {
                    offered: true,
                    ..change
                }),
        );
        // What the root has and the medium offers is one file.
        let shared = |lock: &Lock, identity: &str| {
            let mut packages = lock.package.iter();
            packages.any(|one| same_identity(&one.identity, identity))
        };
        let size = |lock: &Lock| {
            let offered = lock.offered.iter().filter(|one| !shared(lock, &one.identity));
            let every = lock.package.iter().chain(&lock.initramfs).chain(offered);
            every.map(|one| one.size).sum()
        };
        let fetched = packages.iter().filter(|change| {
            let again = change.offered
                && change
                    .new
                    .as_ref()
                    .is_some_and(|side| shared(new, &side.identity) || shared(old, &side.identity));
            change.what != What::Moved && !again
        });
        Difference {
            values,
            world_added: without(&new.world, &old.world),
            world_removed: without(&old.world, &new.world),
            old_size: size(old),
            new_size: size(new),
            fetched: fetched
                .filter_map(|change| change.new.as_ref())
                .map(|side| side.size)
                .sum(),
            packages,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
            && self.world_added.is_empty()
            && self.world_removed.is_empty()
            && self.packages.is_empty()
    }

    /// For people.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for value in &self.values {
            let _ = writeln!(text, "{:<10} {} -> {}", value.key, value.old, value.new);
        }
        for (word, entries) in [
            ("asked for", &self.world_added),
            ("not asked", &self.world_removed),
        ] {
            if !entries.is_empty() {
                let _ = writeln!(text, "{word:<10} {}", entries.join(" "));
            }
        }
        let width = self
            .packages
            .iter()
            .map(|change| change.name.len())
            .max()
            .unwrap_or(0);
        for change in &self.packages {
            let version = |side: &Option<Side>| side.as_ref().map(|side| side.version.clone());
            let sizes = [&change.old, &change.new].map(|side| side.as_ref().map_or(0, |side| side.size));
            let versions = match (version(&change.old), version(&change.new)) {
                (Some(old), Some(new)) if change.what == What::Moved => {
                    let from = |side: &Option<Side>| {
                        side.as_ref()
                            .map(|side| side.repository.clone())
                            .unwrap_or_default()
                    };
                    let _ = old;
                    format!("{new}, from {} to {}", from(&change.old), from(&change.new))
                }
                (Some(old), Some(new)) if old == new => format!("{new}, another build"),
                (Some(old), Some(new)) => format!("{old} -> {new}"),
                (old, new) => old.or(new).unwrap_or_default(),
            };
            let place = match (change.initramfs, change.offered) {
                (true, _) => " (initramfs)",
                (_, true) => " (offered)",
                _ => "",
            };
            let _ = writeln!(
                text,
                "{:<10} {:<width$} {versions}{place}, {}",
                change.what.word(),
                change.name,
                signed(sizes[0], sizes[1])
            );
        }
        let counts: Vec<String> = What::ALL
            .into_iter()
            .filter_map(|what| {
                let count = self.packages.iter().filter(|change| change.what == what).count();
                (count > 0).then(|| format!("{count} {}", what.word()))
            })
            .collect();
        if self.is_empty() {
            text.push_str("no difference\n");
        } else if !counts.is_empty() {
            let _ = writeln!(
                text,
                "{}; {} to fetch, {} in all",
                counts.join(", "),
                amount(self.fetched),
                signed(self.old_size, self.new_size)
            );
        }
        text
    }
}

fn changes(old: &[LockedPackage], new: &[LockedPackage]) -> Vec<Change> {
    // Choices that exclude each other can offer a package in several versions.
    let mut sides: BTreeMap<&str, [Vec<&LockedPackage>; 2]> = BTreeMap::new();
    for (at, packages) in [old, new].into_iter().enumerate() {
        for package in packages {
            sides.entry(&package.name).or_default()[at].push(package);
        }
    }
    let side = |package: &LockedPackage| Side {
        version: package.version.clone(),
        identity: package.identity.clone(),
        repository: package.repository.clone(),
        size: package.size,
    };
    let mut changed = Vec::new();
    for (name, [mut old, mut new]) in sides {
        old.retain(|one| match new.iter().position(|other| other.is(one)) {
            Some(at) => {
                new.remove(at);
                false
            }
            None => true,
        });
        for at in 0..old.len().max(new.len()) {
            let (old, new) = (old.get(at).copied(), new.get(at).copied());
            let what = match (old, new) {
                (None, _) => What::Added,
                (_, None) => What::Removed,
                (Some(old), Some(new)) => match version::compare(&new.version, &old.version) {
                    std::cmp::Ordering::Greater => What::Upgraded,
                    std::cmp::Ordering::Less => What::Downgraded,
                    std::cmp::Ordering::Equal
                        if !same_identity(&old.identity, &new.identity) && !is_virtual(&new.repository) =>
                    {
                        What::Rebuilt
                    }
                    std::cmp::Ordering::Equal if old.repository != new.repository => What::Moved,
                    std::cmp::Ordering::Equal => continue,
                },
            };
            changed.push(Change {
                name: name.to_owned(),
                what,
                initramfs: false,
                offered: false,
                old: old.map(side),
                new: new.map(side),
            });
        }
    }
    changed
}

/// Bytes for people.
fn amount(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{:.1} KiB", bytes as f64 / 1024.0),
        _ => format!("{:.1} MiB", crate::build::mebibytes(bytes)),
    }
}

/// How much more or less.
fn signed(old: u64, new: u64) -> String {
    let sign = if new < old { '-' } else { '+' };
    format!("{sign}{}", amount(new.abs_diff(old)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lock(packages: &[(&str, &str, &str, u64)]) -> Lock {
        let package = |&(name, version, identity, size): &(&str, &str, &str, u64)| LockedPackage {
            name: name.to_owned(),
            version: version.to_owned(),
            identity: identity.to_owned(),
            repository: "main/1".to_owned(),
            size,
        };
        Lock {
            version: 1,
            image: "live".to_owned(),
            arch: "x86_64".to_owned(),
            epoch: 1,
            world: vec!["kernel".to_owned()],
            repository: Vec::new(),
            package: packages.iter().map(package).collect(),
            initramfs: Vec::new(),
            offered: Vec::new(),
        }
    }

    #[test]
    fn each_kind_of_change_is_named_with_its_size() {
        let old = lock(&[
            ("gone", "1-r0", "a", 2048),
            ("newer", "1.9-r0", "b", 1000),
            ("older", "1.2_rc1-r0", "c", 10),
            ("same", "1-r0", "d", 5),
            ("built", "1-r0", "e", 7),
            ("moved", "1-r0", "f", 9),
        ]);
        let mut new = lock(&[
            ("come", "3-r1", "g", 3 << 20),
            ("newer", "1.10-r0", "h", 1500),
            ("older", "1.1-r0", "i", 10),
            ("same", "1-r0", "d", 5),
            ("built", "1-r0", "j", 8),
            ("moved", "1-r0", "f", 9),
        ]);
        new.package[5].repository = "user/1".to_owned();
        new.world.push("come".to_owned());
        new.epoch = 2;
        new.initramfs = vec![new.package[3].clone()];
        let difference = Difference::new(&old, &new);
        assert_eq!(
            difference.text(),
            "epoch      1 -> 2\n\
             asked for  come\n\
             rebuilt    built 1-r0, another build, +1 B\n\
             added      come  3-r1, +3.0 MiB\n\
             removed    gone  1-r0, -2.0 KiB\n\
             moved      moved 1-r0, from main/1 to user/1, +0 B\n\
             upgraded   newer 1.9-r0 -> 1.10-r0, +500 B\n\
             downgraded older 1.2_rc1-r0 -> 1.1-r0, +0 B\n\
             added      same  1-r0 (initramfs), +5 B\n\
             2 added, 1 removed, 1 upgraded, 1 downgraded, 1 rebuilt, 1 moved; 3.0 MiB to fetch, +3.0 MiB in all\n"
        );
        let json = serde_json::to_value(&difference).unwrap();
        assert_eq!(json["packages"][0]["what"], "rebuilt");
        assert_eq!(json["packages"][4]["new"]["version"], "1.10-r0");
        assert_eq!(json["fetched"], (3 << 20) + 1500 + 10 + 8 + 5);
    }

    #[test]
    fn what_a_medium_offers_is_compared_by_itself_and_counted_once() {
        let both = &[("shared", "1-r0", "a", 100), ("libc", "1-r0", "b", 10)][..];
        let mut old = lock(both);
        let mut new = lock(both);
        old.offered = lock(&[
            ("shared", "1-r0", "a", 100),
            ("kernel", "6.1-r0", "k1", 7),
            ("kernel", "6.6-r0", "k2", 8),
        ])
        .package;
        new.offered = lock(&[
            ("shared", "1-r0", "a", 100),
            ("libc", "1-r0", "b", 10),
            ("kernel", "6.6-r0", "k2", 8),
            ("kernel", "6.12-r0", "k3", 9),
        ])
        .package;
        let difference = Difference::new(&old, &new);
        assert_eq!(
            difference.text(),
            "upgraded   kernel 6.1-r0 -> 6.12-r0 (offered), +2 B\n\
             added      libc   1-r0 (offered), +10 B\n\
             1 added, 1 upgraded; 9 B to fetch, +2 B in all\n"
        );
        let json = serde_json::to_value(&difference).unwrap();
        assert_eq!(
            (
                &json["packages"][0]["offered"],
                json["packages"][0].get("initramfs")
            ),
            (&true.into(), None)
        );
    }

    #[test]
    fn equal_locks_have_no_difference() {
        let lock = lock(&[("a", "1-r0", "x", 1)]);
        let difference = Difference::new(&lock, &lock);
        assert!(difference.is_empty());
        assert_eq!(difference.text(), "no difference\n");
    }
}
