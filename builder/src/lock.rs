//! Locks: the exact packages of an image, by identity.

use std::collections::BTreeMap;
use std::path::Path;

use lycia_apk::metadata::Digest;
use serde::{Deserialize, Serialize};

use crate::definition::Image;
use crate::definition::typed;
use crate::error::{Error, Kind, Result};
use crate::packages::{self, Chosen, OpenRepository, VIRTUAL};

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
}

/// A repository of a lock.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct LockedRepository {
    /// Its name in the definition.
    pub name: String,
    /// Its index.
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

impl Lock {
    /// The lock of `chosen` for `image`.
    pub fn new(image: &Image, repositories: &[OpenRepository], chosen: &[Chosen], epoch: u64) -> Lock {
        Lock {
            version: FORMAT,
            image: image.name.clone(),
            arch: image.arch.clone(),
            epoch,
            world: image.world(),
            repository: repositories
                .iter()
                .map(|repository| LockedRepository {
                    name: repository.definition.name.clone(),
                    location: repository.location.clone(),
                })
                .collect(),
            package: chosen
                .iter()
                .map(|one| LockedPackage {
                    name: one.entry.name.clone(),
                    version: one.entry.version.clone(),
                    identity: identity(one.entry.hashes.as_ref()),
                    repository: match one.repository {
                        Some(number) => repositories[number].definition.name.clone(),
                        None => VIRTUAL.to_owned(),
                    },
                    size: one.entry.file_size,
                })
                .collect(),
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

    /// The text of the lock file.
    pub fn text(&self) -> String {
        let body = toml::to_string(self).unwrap_or_default();
        format!("# Made by `lycia lock`: the exact packages of an image. A build obeys it or fails.\n{body}")
    }

    /// The packages that the lock names, from the repositories as they are now.
    ///
    /// # Errors
    /// With the whole difference, when the definition asks for other packages than those locked, or a
    /// repository has no longer what was locked.
    pub fn obey(&self, image: &Image, repositories: &[OpenRepository]) -> Result<Vec<Chosen>> {
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
        let mut by_name: BTreeMap<&str, (usize, &OpenRepository)> = BTreeMap::new();
        for (number, repository) in repositories.iter().enumerate() {
            by_name.insert(&repository.definition.name, (number, repository));
        }
        let mut chosen = Vec::new();
        for locked in &self.package {
            if locked.repository == VIRTUAL {
                // That it is asked for is what world says.
                let mut asked = image.virtuals.iter().filter(|one| one.name == locked.name);
                chosen.extend(asked.next().map(|one| Chosen {
                    entry: packages::virtual_entry(one),
                    repository: None,
                }));
                continue;
            }
            let Some(&(number, repository)) = by_name.get(locked.repository.as_str()) else {
                differences.push(format!(
                    "{}: its repository {} is gone",
                    locked.name, locked.repository
                ));
                continue;
            };
            let named = |entry: &&lycia_apk::metadata::PackageInfo| entry.name == locked.name;
            let mut candidates = repository.packages.iter().filter(named);
            match candidates
                .clone()
                .find(|entry| identity(entry.hashes.as_ref()) == locked.identity)
            {
                Some(entry) => chosen.push(Chosen {
                    entry: entry.clone(),
                    repository: Some(number),
                }),
                None => differences.push(match candidates.next() {
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
                }),
            }
        }
        if differences.is_empty() {
            return Ok(chosen);
        }
        Err(Error::new(
            Kind::Verification,
            format!("the lock is not obeyed:\n  {}", differences.join("\n  ")),
        )
        .hint("make it anew with `lycia lock`, or bring back what it names"))
    }
}

fn identity(digest: Option<&Digest>) -> String {
    digest.map(Digest::to_string).unwrap_or_default()
}

fn short(identity: &str) -> &str {
    identity.get(..12).unwrap_or(identity)
}
