//! Locks: the exact packages of an image, by identity.

use std::path::Path;

use lycia_apk::metadata::{Digest, PackageInfo};
use lycia_apk::version;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::choice::{Choice, Open};
use crate::definition::typed;
use crate::definition::{Image, Location};
use crate::error::{Error, Kind, Result};
use crate::offer;
use crate::packages::{Chosen, OpenRepository, VIRTUAL};
use crate::store::Store;

/// Version of the format.
const FORMAT: u32 = 1;

/// A lock file.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Lock {
    /// Version of the format, 1.
    pub version: u32,
    /// Name of the image.
    pub image: String,
    /// Architecture.
    pub arch: String,
    /// Seconds since 1970 that date everything which no package dates.
    pub epoch: u64,
    /// The packages asked for.
    pub world: Vec<String>,
    /// Where packages are from.
    pub repository: Vec<LockedRepository>,
    /// Packages in the order of installation.
    pub package: Vec<LockedPackage>,
    /// Packages that only the initramfs takes files from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub initramfs: Vec<LockedPackage>,
    /// Packages that a medium carries for installations.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub offered: Vec<LockedPackage>,
}

/// A repository of a lock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedRepository {
    /// Its name in the definition.
    pub name: String,
    /// Its index; empty on a medium where it lay in a folder of the machine that built it.
    pub location: String,
}

/// A package of a lock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedPackage {
    /// Name.
    pub name: String,
    /// Version.
    pub version: String,
    /// The hash in the index, in hexadecimal.
    pub identity: String,
    /// Name of the repository.
    pub repository: String,
    /// Bytes of the package file.
    pub size: u64,
}

impl LockedPackage {
    /// Whether both are the same package of the same repository, in whichever form its hash is written.
    pub fn is(&self, other: &LockedPackage) -> bool {
        same_identity(&self.identity, &other.identity)
            && (&self.name, &self.version, &self.repository, self.size)
                == (&other.name, &other.version, &other.repository, other.size)
    }
}

impl Lock {
    /// The lock of `choice` for `image`.
    pub fn new(image: &Image, open: &Open, choice: &Choice, epoch: u64) -> Lock {
        let every = open.root.iter().chain(&open.initramfs);
        let mut repository: Vec<LockedRepository> = Vec::new();
        for one in every {
            // The server that the definition names: which mirror was asked is this machine's matter.
            let location = match (&one.definition.location, one.location.rsplit_once('/')) {
                (Location::Http(_), Some((_, index))) => {
                    format!("{}/{}/{index}", one.definition.canonical, image.arch)
                }
                _ => one.location.clone(),
            };
            let locked = LockedRepository {
                name: one.definition.name.clone(),
                location,
            };
            if !repository.contains(&locked) {
                repository.push(locked);
            }
        }
        Lock {
            version: FORMAT,
            image: image.name.clone(),
            arch: image.arch.clone(),
            epoch,
            world: image.world(),
            repository,
            package: locked(&choice.root, &open.root),
            initramfs: locked(&choice.initramfs, &open.initramfs),
            offered: locked(&choice.offered, &open.root),
        }
    }

    /// Reads a lock file.
    ///
    /// # Errors
    /// When it cannot be read, or is of another format.
    pub fn read(path: &Path) -> Result<Lock> {
        let lock: Lock = typed::read(path)?;
        if lock.version != FORMAT {
            return Err(Error::new(
                Kind::Input,
                format!("the lock's format is {}, not {FORMAT}", lock.version),
            )
            .context(path.display())
            .hint("make it anew with `lycia lock`"));
        }
        Ok(lock)
    }

    /// The lock as a medium carries it: of folders of this machine it says nothing.
    pub fn portable(&self) -> Lock {
        let mut lock = self.clone();
        for repository in &mut lock.repository {
            let served = ["https://", "http://", "seed:"]
                .iter()
                .any(|scheme| repository.location.starts_with(scheme));
            if !served {
                repository.location.clear();
            }
        }
        lock
    }

    /// Everything that tells what is built from this lock from what is built from others: the same packages make the same,
    /// wherever they are from.
    pub fn seed(&self) -> [u8; 32] {
        let mut lock = self.clone();
        lock.repository.clear();
        Sha256::digest(lock.text()).into()
    }

    /// The text of the lock file.
    pub fn text(&self) -> String {
        let body = toml::to_string(self).unwrap_or_default();
        format!("# Made by `lycia lock`: the exact packages of an image. A build obeys it or fails.\n{body}")
    }

    /// The packages that the lock names, from the repositories as they are now. What a repository of the
    /// network no longer has is taken from the store, where an earlier build left it; that is said in `warnings`.
    ///
    /// # Errors
    /// With the whole difference, when the definition asks for other packages than those locked, or neither a
    /// repository nor the store has what was locked.
    pub fn obey(
        &self,
        image: &Image,
        open: &Open,
        store: &Store,
        warnings: &mut Vec<String>,
    ) -> Result<Choice> {
        let mut differences = Vec::new();
        if self.arch != image.arch || self.image != image.name {
            differences.push(format!(
                "it locks {} for {}, not {} for {}",
                self.image, self.arch, image.name, image.arch
            ));
        }
        let world = image.world();
        for added in world.iter().filter(|name| !self.world.contains(name)) {
            differences.push(format!("the definition asks for {added}, which is not locked"));
        }
        for gone in self.world.iter().filter(|name| !world.contains(name)) {
            differences.push(format!(
                "the lock has {gone}, which the definition no longer asks for"
            ));
        }
        let locked_names: Vec<&String> = self.initramfs.iter().map(|one| &one.name).collect();
        if locked_names != image.initramfs.packages.iter().collect::<Vec<_>>() {
            differences
                .push("the definition asks for other packages of the initramfs than locked".to_owned());
        }
        let mut find = |packages: &[LockedPackage], repositories: &[OpenRepository]| {
            let mut chosen = Vec::new();
            for locked in packages {
                match self.find(locked, image, repositories, store) {
                    Ok(Found::Indexed(one)) => chosen.push(one),
                    Ok(Found::Stored(one)) => {
                        warnings.push(format!(
                            "{} {} is no longer in {} and was taken from the store",
                            locked.name, locked.version, locked.repository
                        ));
                        chosen.push(one);
                    }
                    Err(difference) => differences.push(difference),
                }
            }
            chosen
        };
        let (root, initramfs) = (
            find(&self.package, &open.root),
            find(&self.initramfs, &open.initramfs),
        );
        // What a medium offers is chosen on the installed machine, from the index that the medium carries: it is what
        // the lock says, or something else would be installed.
        let offered = offer::choose(image, open)?;
        differences.extend(offered_otherwise(&self.offered, &locked(&offered, &open.root)));
        let choice = Choice {
            root,
            initramfs,
            offered,
        };
        if differences.is_empty() {
            return Ok(choice);
        }
        Err(Error::new(
            Kind::Verification,
            format!("the lock is not obeyed:\n  {}", differences.join("\n  ")),
        )
        .hint(format!(
            "`lycia lock {}` keeps what it can, --upgrade takes what is newest; or bring back what it names",
            image.name
        )))
    }

    /// A locked package as it is to be had now, or the difference in words.
    fn find(
        &self,
        locked: &LockedPackage,
        image: &Image,
        repositories: &[OpenRepository],
        store: &Store,
    ) -> std::result::Result<Found, String> {
        if locked.repository == VIRTUAL {
            let mut asked = image.virtuals.iter().filter(|one| one.name == locked.name);
            let one = asked.next().filter(|one| one.version == locked.version);
            let one = one.ok_or_else(|| format!("{}: it is no longer asked for", locked.name))?;
            return Ok(Found::Indexed(Chosen {
                entry: one.info(),
                repository: None,
                tag: None,
            }));
        }
        let mut numbered = repositories.iter().enumerate();
        let named = numbered.find(|(_, one)| one.definition.name == locked.repository);
        let Some((number, repository)) = named else {
            return Err(format!(
                "{}: its repository {} is gone",
                locked.name, locked.repository
            ));
        };
        let mut candidates = repository
            .packages
            .iter()
            .filter(|entry| entry.name == locked.name);
        let same = |entry: &&PackageInfo| same_identity(&identity(entry.hashes.as_ref()), &locked.identity);
        if let Some(entry) = candidates.clone().find(same) {
            return Ok(Found::Indexed(Chosen {
                entry: entry.clone(),
                repository: Some(number),
                // A package is locked to a repository of the tag that it counts as installed from.
                tag: repository.definition.tag.clone(),
            }));
        }
        if let Some(entry) = repository.stored(&locked.name, &locked.identity, store) {
            return Ok(Found::Stored(Chosen {
                entry,
                repository: Some(number),
                tag: repository.definition.tag.clone(),
            }));
        }
        Err(match newest(&mut candidates) {
            None => format!("{}: {} no longer has it", locked.name, locked.repository),
            Some(entry) => format!(
                "{}: locked is {} ({}), {} has {} ({})",
                locked.name,
                locked.version,
                short(&locked.identity),
                locked.repository,
                entry.version,
                short(&identity(entry.hashes.as_ref()))
            ),
        })
    }
}

/// What an upgrade would take.
fn newest<'e>(entries: impl Iterator<Item = &'e PackageInfo>) -> Option<&'e PackageInfo> {
    entries.max_by(|a, b| version::compare(&a.version, &b.version))
}

/// Where a locked package was found.
enum Found {
    Indexed(Chosen),
    Stored(Chosen),
}

/// How what a medium would offer now differs from what is locked, in words.
fn offered_otherwise(locked: &[LockedPackage], now: &[LockedPackage]) -> Vec<String> {
    let shown = |one: &LockedPackage| format!("{} ({})", one.version, short(&one.identity));
    let mut said = Vec::new();
    let lacks = |these: &[LockedPackage], one: &LockedPackage| !these.iter().any(|other| other.is(one));
    let mut come: Vec<&LockedPackage> = now.iter().filter(|one| lacks(locked, one)).collect();
    for gone in locked.iter().filter(|one| lacks(now, one)) {
        match come.iter().position(|one| one.name == gone.name) {
            Some(at) => {
                let instead = come.remove(at);
                let from = match instead.repository == gone.repository {
                    true => String::new(),
                    false => format!(" of {}", instead.repository),
                };
                said.push(format!(
                    "{}: locked to be offered is {}, an installation would take {}{from}",
                    gone.name,
                    shown(gone),
                    shown(instead)
                ));
            }
            None => said.push(format!(
                "{}: locked to be offered is {}, and no installation wants it any more",
                gone.name,
                shown(gone)
            )),
        }
    }
    said.extend(come.iter().map(|one| {
        format!(
            "{}: an installation would take {}, which is not locked",
            one.name,
            shown(one)
        )
    }));
    said
}

fn locked(chosen: &[Chosen], repositories: &[OpenRepository]) -> Vec<LockedPackage> {
    let package = |one: &Chosen| LockedPackage {
        name: one.entry.name.clone(),
        version: one.entry.version.clone(),
        identity: identity(one.entry.hashes.as_ref()),
        repository: match one.repository {
            Some(number) => repositories[number].definition.name.clone(),
            None => VIRTUAL.to_owned(),
        },
        size: one.entry.file_size,
    };
    chosen.iter().map(package).collect()
}

/// The hash by which a lock names a package; empty where an index has none.
pub fn identity(digest: Option<&Digest>) -> String {
    digest.map(Digest::to_string).unwrap_or_default()
}

/// Whether two identities are of one package: an index has the SHA-256 of a v3 package whole (64 digits) or cut (40).
pub fn same_identity(a: &str, b: &str) -> bool {
    let cut = |cut: &str, whole: &str| (cut.len(), whole.len()) == (40, 64) && whole.starts_with(cut);
    a == b || cut(a, b) || cut(b, a)
}

fn short(identity: &str) -> &str {
    identity.get(..12).unwrap_or(identity)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_the_same_cut_or_whole() {
        let whole = "0123456789abcdef".repeat(4);
        let other = format!("{}0", &whole[..63]);
        for (a, b, same) in [
            (&*whole, &*whole, true),
            (&whole, &whole[..40], true),
            (&whole[..40], &other, true),
            (&whole, &other, false),
            (&whole, &whole[..39], false),
            (&whole, "", false),
            ("", "", true),
        ] {
            assert_eq!(same_identity(a, b), same, "{a} {b}");
            assert_eq!(same_identity(b, a), same, "{b} {a}");
        }
    }

    #[test]
    fn what_an_upgrade_takes_is_the_greatest_version() {
        let entry = |version: &str| PackageInfo {
            version: version.into(),
            ..PackageInfo::default()
        };
        let entries = ["1.9-r0", "1.10-r0", "1.2-r7"].map(entry);
        assert_eq!(newest(entries.iter()).unwrap().version, "1.10-r0");
        assert!(newest([].iter()).is_none());
    }
}
