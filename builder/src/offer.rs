//! What can be installed from a medium: `live/install.toml` and the packages that it can want, with their signed
//! index and its keys. `installer/MEDIUM.md` describes the files.

use std::collections::BTreeMap;

use lycia_tree::Content;
use serde::Deserialize;

use crate::build::Work;
use crate::choice::{self, Open};
use crate::definition::{Image, Output, Project, typed, virtual_package};
use crate::error::{Context as _, Error, Kind, Result};
use crate::fetch::Client;
use crate::packages::{self, Chosen};

/// Where the packages are on the medium.
const FOLDER: &str = "live/packages";
/// Where programs are that installed systems get beside their packages.
const PROGRAMS: &str = "live/root";

/// What of `configs/install/NAME.toml` says which packages an installation can want. The rest is the installer's.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
struct Wishes {
    packages: Vec<String>,
    network_packages: Vec<String>,
    kernel: Vec<Kernel>,
    set: Vec<Packages>,
    file_system: Vec<Packages>,
    allocator: Vec<Packages>,
}

#[derive(Debug, Deserialize)]
struct Kernel {
    package: String,
}

#[derive(Debug, Deserialize)]
struct Packages {
    #[serde(default)]
    name: String,
    #[serde(default)]
    packages: Vec<String>,
    /// Of an allocator: packages without files that go into world with it.
    #[serde(default)]
    r#virtual: Vec<String>,
}

/// Reads `configs/install/NAME.toml` and completes it: the architecture, the allocators that the repositories
/// offer, and of the kernels those named, all where none is.
///
/// # Errors
/// When the file is wrong or lacks a kernel that is named.
pub fn resolve(
    project: &Project,
    table: &typed::InstallTable,
    repositories: &[String],
    arch: &str,
) -> Result<Option<toml::Table>> {
    let Some(name) = &table.definition else {
        return if table.kernels.is_empty() && table.programs.is_empty() {
            Ok(None)
        } else {
            Err(Error::new(
                Kind::Input,
                "[install] names kernels or programs and no definition",
            )
            .hint("add `definition = \"NAME\"`, a file of configs/install"))
        };
    };
    let path = typed::file(&project.configs(), "install", name)?;
    let mut install: toml::Table = typed::read(&path)?;
    let mut allocators = Vec::new();
    for repository in repositories {
        let file: typed::RepositoriesFile =
            typed::read(&typed::file(&project.configs(), "repositories", repository)?)?;
        allocators.extend(file.allocator.into_iter().map(toml::Value::Table));
    }
    let wrong = |message: String| Error::new(Kind::Input, message).context(path.display());
    if !table.kernels.is_empty() {
        let Some(toml::Value::Array(kernels)) = install.get_mut("kernel") else {
            return Err(wrong("it offers no kernel".to_owned()));
        };
        let is = |kernel: &toml::Value, name: &str| {
            kernel.get("package").and_then(toml::Value::as_str) == Some(name)
        };
        for name in &table.kernels {
            if !kernels.iter().any(|kernel| is(kernel, name)) {
                return Err(wrong(format!("it offers no kernel `{name}`")));
            }
        }
        kernels.retain(|kernel| table.kernels.iter().any(|name| is(kernel, name)));
    }
    install.insert("arch".to_owned(), arch.to_owned().into());
    if !allocators.is_empty() {
        install.insert("allocator".to_owned(), toml::Value::Array(allocators));
    }
    // What the builder needs of it is read now, so that a mistake shows at once.
    wishes(&install).map_err(|error| error.context(path.display()))?;
    Ok(Some(install))
}

fn wishes(install: &toml::Table) -> Result<Wishes> {
    Wishes::deserialize(install.clone()).map_err(|error| Error::new(Kind::Input, error))
}

/// The files of the medium that an installation needs, by path; none where nothing is to be installed from it.
/// `chosen` are the packages that [`choose`] gave.
///
/// # Errors
/// When a package cannot be had, or they come from more than one repository.
pub fn files(work: &Work, open: &Open, chosen: &[Chosen], client: &Client) -> Result<Vec<(String, Content)>> {
    let Work {
        image, root, store, ..
    } = *work;
    let Some(install) = image
        .install
        .as_ref()
        .filter(|_| image.outputs.contains(&Output::Iso))
    else {
        return Ok(Vec::new());
    };
    let mut files = Vec::new();
    for path in &image.programs {
        let content = root.content(path.as_bytes())?;
        files.push((format!("{PROGRAMS}/{path}"), content.clone()));
    }
    let mut numbers: Vec<usize> = chosen.iter().filter_map(|one| one.repository).collect();
    numbers.dedup();
    let [number] = numbers[..] else {
        return Err(Error::new(
            Kind::Input,
            "a medium installs packages of one repository, and these are from several",
        )
        .context("what the medium installs"));
    };
    // Verified as all packages are, and from then on in the store.
    packages::unpack(
        chosen,
        &open.root,
        store,
        client,
        work.progress,
        work.options.jobs,
    )?;
    let repository = &open.root[number];
    files.push((
        "live/install.toml".to_owned(),
        Content::from(toml::to_string(install).map_err(|error| Error::new(Kind::Internal, error))?),
    ));
    for (name, pem) in &repository.key_files {
        files.push((format!("{FOLDER}/keys/{name}"), Content::from(pem.clone())));
    }
    files.push((
        format!("{FOLDER}/{}/{}", image.arch, packages::INDEX),
        Content::from(repository.index.clone()),
    ));
    for one in chosen {
        if let Some((path, content)) = packages::file(one, &open.root, store)? {
            files.push((format!("{FOLDER}/{path}"), content));
        }
    }
    Ok(files)
}

/// The packages of every installation that a medium offers, by name: each choice on its own, since some exclude
/// others. None where the image is no medium or offers nothing.
///
/// An installation solves for itself, over the whole index that the medium carries, so that only what the solver
/// chooses from the index of now is of use to it.
///
/// # Errors
/// When something that is offered cannot be had.
pub fn choose(image: &Image, open: &Open) -> Result<Vec<Chosen>> {
    let mut all: BTreeMap<(Option<usize>, String, String), Chosen> = BTreeMap::new();
    for installation in installations(image, open)? {
        for chosen in installation.chosen {
            let key = (
                chosen.repository,
                chosen.entry.name.clone(),
                chosen.entry.version.clone(),
            );
            all.insert(key, chosen);
        }
    }
    Ok(all.into_values().collect())
}

/// One of the choices that a medium offers, solved on its own.
pub struct Installation {
    /// Which choice: a kernel, a set, a file system, an allocator.
    pub name: String,
    /// The image that is installed with it.
    pub image: Image,
    /// The packages of it, without the virtual ones.
    pub chosen: Vec<Chosen>,
}

/// The installations that a medium offers, in the order of `configs/install`. None where the image is no medium or
/// offers nothing.
///
/// # Errors
/// When something that is offered cannot be had.
pub fn installations(image: &Image, open: &Open) -> Result<Vec<Installation>> {
    match &image.install {
        Some(install) if image.outputs.contains(&Output::Iso) => {
            every(image, install, open).context(|| "what the medium installs".to_owned())
        }
        _ => Ok(Vec::new()),
    }
}

fn every(image: &Image, install: &toml::Table, open: &Open) -> Result<Vec<Installation>> {
    let wishes = wishes(install)?;
    let kernels = wishes.kernel.iter().map(|kernel| Packages {
        name: kernel.package.clone(),
        packages: vec![kernel.package.clone()],
        r#virtual: Vec::new(),
    });
    let mut offers: Vec<Packages> = vec![Packages {
        name: "network".to_owned(),
        packages: wishes.network_packages,
        r#virtual: Vec::new(),
    }];
    offers.extend(kernels);
    offers.extend(wishes.set);
    offers.extend(wishes.file_system);
    offers.extend(wishes.allocator);
    let mut installations = Vec::with_capacity(offers.len());
    for offer in offers {
        let mut one = image.clone();
        one.initramfs.packages.clear();
        one.install = None;
        let virtuals = offer.r#virtual.iter().map(|text| virtual_package(text));
        one.virtuals = virtuals.collect::<Result<_>>()?;
        one.packages = wishes.packages.iter().chain(&offer.packages).cloned().collect();
        let choice = choice::solve(&one, open).context(|| format!("with {}", offer.name))?;
        // A virtual package is nothing that a medium could carry.
        let chosen = choice.root.into_iter().filter(|one| one.repository.is_some());
        installations.push(Installation {
            name: offer.name,
            chosen: chosen.collect(),
            image: one,
        });
    }
    Ok(installations)
}
