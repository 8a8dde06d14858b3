//! Which packages an image is made of: those of its lock, or those that the solver chooses.

use std::collections::BTreeSet;
use std::path::PathBuf;

use lycia_apk::dependency;
use lycia_apk::metadata::{Dependency, PackageInfo};
use lycia_apk::solver::{self, Command, PackageId, Request, Universe, UniverseBuilder};
use lycia_apk::version;

use crate::definition::{Image, Project, Repository};
use crate::error::{Error, Explain as _, Kind, Result};
use crate::fetch::Client;
use crate::lock::{Lock, LockedPackage, identity, same_identity};
use crate::offer;
use crate::packages::{Chosen, OpenRepository, VIRTUAL};
use crate::store::Store;

/// The repositories of an image, opened.
pub struct Open {
    /// Those that the root is made from.
    pub root: Vec<OpenRepository>,
    /// Those that have packages of the initramfs.
    pub initramfs: Vec<OpenRepository>,
}

impl Open {
    /// Opens them.
    ///
    /// # Errors
    /// When one cannot be had or is not signed by a trusted key: a build never goes on without it.
    pub fn new(image: &Image, store: &Store, client: &Client) -> Result<Open> {
        let open = |definitions: &[Repository]| -> Result<Vec<OpenRepository>> {
            let definitions = definitions.iter();
            definitions
                .map(|definition| OpenRepository::open(definition, &image.arch, store, client))
                .collect()
        };
        Ok(Open {
            root: open(&image.repositories)?,
            initramfs: open(&image.initramfs.repositories)?,
        })
    }
}

/// The packages of an image.
pub struct Choice {
    /// Of the root, in the order of installation.
    pub root: Vec<Chosen>,
    /// Those that only the initramfs takes files from.
    pub initramfs: Vec<Chosen>,
    /// Those that a medium carries for installations, by name.
    pub offered: Vec<Chosen>,
}

/// Whether there is to be a lock.
#[derive(Clone, Debug, Default)]
pub struct Obeyed {
    /// The lock; the one beside the definition if not given.
    pub file: Option<PathBuf>,
    /// Without a lock there is nothing.
    pub required: bool,
}

/// Where the lock of an image is looked for.
pub fn lock_path(project: &Project, image: &str, arch: &str) -> PathBuf {
    let images = project.configs().join("images");
    images.join(format!("{image}.{arch}.lock"))
}

/// What the lock says, where there is one, else what the solver chooses.
///
/// # Errors
/// When the lock cannot be obeyed or is wanted and not there, or the packages cannot be had together.
pub fn choose(
    project: &Project,
    image: &Image,
    open: &Open,
    store: &Store,
    obeyed: &Obeyed,
    warnings: &mut Vec<String>,
) -> Result<(Lock, Choice)> {
    let beside = lock_path(project, &image.name, &image.arch);
    let file = obeyed
        .file
        .clone()
        .or_else(|| beside.is_file().then(|| beside.clone()));
    match file {
        Some(path) => {
            let lock = Lock::read(&path)?;
            let choice = lock
                .obey(image, open, store, warnings)
                .map_err(|error| error.context(path.display()))?;
            Ok((lock, choice))
        }
        None if obeyed.required => Err(Error::new(
            Kind::Input,
            format!("--locked, and there is no {}", beside.display()),
        )
        .hint(format!("make it with `lycia lock {}`", image.name))),
        None => {
            let choice = solve(image, open)?;
            let epoch = epoch(&choice.root)?;
            Ok((Lock::new(image, open, &choice, epoch), choice))
        }
    }
}

/// Solves an image's world on an empty root.
///
/// # Errors
/// When the packages cannot be had together, with the reason in words.
pub fn solve(image: &Image, open: &Open) -> Result<Choice> {
    let universe = universe(image, &open.root)?;
    Ok(Choice {
        root: select(image, universe)?,
        initramfs: newest(image, &open.initramfs)?,
        offered: offer::choose(image, open)?,
    })
}

/// Solves an image's world so that as much as possible stays as locked; `upgrade` are names that are to be newest
/// nevertheless, of whichever list of the lock. What is offered is always what an installation would take from the index of
/// now, so that naming it changes nothing more.
///
/// # Errors
/// When the packages cannot be had together, or a name of `upgrade` is not known.
pub fn solve_keeping(image: &Image, open: &Open, lock: &Lock, upgrade: &[String]) -> Result<Choice> {
    let doing = || choosing(image);
    let mut builder = UniverseBuilder::new([image.arch.as_str()]);
    for locked in &lock.package {
        let repository = open
            .root
            .iter()
            .find(|one| one.definition.name == locked.repository);
        // What a repository no longer has cannot be kept.
        let entry = repository.and_then(|one| {
            let mut entries = one.packages.iter();
            entries.find(|entry| is_locked(entry, locked))
        });
        if let (Some(entry), Some(repository)) = (entry, repository) {
            builder
                .installed(entry.clone(), repository.definition.tag.as_deref())
                .explain(Kind::Input, doing)?;
        }
    }
    let universe = fill(image, &open.root, builder)?
        .finish()
        .explain(Kind::Input, doing)?;
    let offered = offer::choose(image, open)?;
    // The solver refuses names that nothing of the root has; those that another list has alone are none of its business.
    let of_root = |name: &&String| {
        let beside = image.initramfs.packages.contains(name)
            || offered.iter().any(|one| one.entry.name == **name)
            || lock.offered.iter().any(|one| one.name == **name);
        lock.package.iter().any(|one| one.name == **name) || !beside
    };
    let names: Vec<String> = upgrade.iter().filter(of_root).cloned().collect();
    let command = match names.as_slice() {
        [] => Command::Satisfy,
        _ => Command::Upgrade {
            names,
            ignore: false,
            available: false,
            latest: false,
            prune: false,
        },
    };
    let request = Request {
        world: world(image)?,
        command,
        drop_unmet: false,
    };
    let solution = solver::solve(&universe, &request).explain(Kind::Solver, doing)?;
    let kept: Vec<PackageId> = solution.changes.iter().filter_map(|change| change.new).collect();
    // Once more on an empty root with nothing but these, so that the order does not tell of what was before.
    let names: BTreeSet<PackageId> = kept.iter().copied().collect();
    let mut alone = UniverseBuilder::new([image.arch.as_str()]);
    for (number, repository) in open.root.iter().enumerate() {
        let of_it = names
            .iter()
            .filter(|id| universe.repositories(**id).any(|of| of == number));
        let tag = repository.definition.tag.as_deref();
        alone
            .repository([tag], of_it.map(|id| universe.info(*id).clone()))
            .explain(Kind::Input, doing)?;
    }
    add_virtuals(image, &mut alone)?;
    let root = match select(image, alone) {
        Ok(root) if root.len() == names.len() => root,
        // The solver never goes back on a decision, and may decide otherwise here.
        _ => {
            let changes = solution.changes.iter();
            changes
                .filter_map(|change| Some(chosen_of(image, &universe, change.new?, change.tag.clone())))
                .collect()
        }
    };
    let mut initramfs = newest(image, &open.initramfs)?;
    for one in &mut initramfs {
        keep(one, &lock.initramfs, &open.initramfs, upgrade);
    }
    // An installation chooses from the whole index that the medium carries: what is newest there, not what was kept.
    let offered = offer::choose(image, open)?;
    Ok(Choice {
        root,
        initramfs,
        offered,
    })
}

/// Puts what is locked in the place of something newer.
fn keep(one: &mut Chosen, locked: &[LockedPackage], repositories: &[OpenRepository], upgrade: &[String]) {
    let Some(locked) = locked.iter().find(|locked| locked.name == one.entry.name) else {
        return;
    };
    if upgrade.contains(&locked.name) {
        return;
    }
    let mut numbered = repositories.iter().enumerate();
    let Some((number, repository)) = numbered.find(|(_, of)| of.definition.name == locked.repository) else {
        return;
    };
    let mut entries = repository.packages.iter();
    if let Some(entry) = entries.find(|entry| is_locked(entry, locked)) {
        one.entry = entry.clone();
        one.repository = Some(number);
    }
}

fn is_locked(entry: &PackageInfo, locked: &LockedPackage) -> bool {
    entry.name == locked.name && same_identity(&identity(entry.hashes.as_ref()), &locked.identity)
}

fn choosing(image: &Image) -> String {
    format!("choosing the packages of {}", image.name)
}

fn select(image: &Image, universe: UniverseBuilder) -> Result<Vec<Chosen>> {
    let doing = || choosing(image);
    let universe = universe.finish().explain(Kind::Input, doing)?;
    let chosen = solver::select(&universe, &world(image)?).explain(Kind::Solver, doing)?;
    let chosen = chosen.into_iter();
    Ok(chosen
        .map(|one| chosen_of(image, &universe, one.package, one.tag))
        .collect())
}

/// The world of an image as apk has it.
///
/// # Errors
/// When an entry is none.
pub fn world(image: &Image) -> Result<Vec<Dependency>> {
    let words = image.world();
    let entries = words.iter().map(|word| dependency::parse_world_entry(word));
    entries
        .collect::<Result<Vec<_>, _>>()
        .explain(Kind::Input, || "reading the package list".to_owned())
}

/// Everything that the root of an image can be made of.
///
/// # Errors
/// When there is more than a universe can hold.
pub fn universe(image: &Image, repositories: &[OpenRepository]) -> Result<UniverseBuilder> {
    fill(image, repositories, UniverseBuilder::new([image.arch.as_str()]))
}

fn fill(
    image: &Image,
    repositories: &[OpenRepository],
    mut universe: UniverseBuilder,
) -> Result<UniverseBuilder> {
    for repository in repositories {
        let tag = repository.definition.tag.as_deref();
        universe
            .repository([tag], repository.packages.iter().cloned())
            .explain(Kind::Input, || choosing(image))?;
    }
    add_virtuals(image, &mut universe)?;
    Ok(universe)
}

fn add_virtuals(image: &Image, universe: &mut UniverseBuilder) -> Result<()> {
    for one in &image.virtuals {
        universe
            .virtual_package(&one.name, &one.version, Vec::new())
            .explain(Kind::Input, || choosing(image))?;
    }
    Ok(())
}

/// A package of a universe as a choice, installed from the repositories of `tag`.
fn chosen_of(image: &Image, universe: &Universe, package: PackageId, tag: Option<String>) -> Chosen {
    let entry = universe.info(package);
    let repository = universe.source(package, tag.as_deref());
    let asked = image.virtuals.iter().find(|one| one.name == entry.name);
    Chosen {
        entry: match (repository, asked) {
            (None, Some(one)) => one.info(),
            _ => entry.clone(),
        },
        repository,
        tag,
    }
}

/// The newest of each package of the initramfs; of the same version that of the first repository.
fn newest(image: &Image, repositories: &[OpenRepository]) -> Result<Vec<Chosen>> {
    let names = image.initramfs.packages.iter();
    let find = |name: &String| {
        let mut best: Option<Chosen> = None;
        for (number, repository) in repositories.iter().enumerate() {
            for entry in repository.packages.iter().filter(|entry| entry.name == *name) {
                let newer = best
                    .as_ref()
                    .is_none_or(|best| version::compare(&entry.version, &best.entry.version).is_gt());
                if newer {
                    best = Some(Chosen {
                        entry: entry.clone(),
                        repository: Some(number),
                        tag: None,
                    });
                }
            }
        }
        best.ok_or_else(|| {
            let known: Vec<&str> = repositories
                .iter()
                .map(|one| one.definition.name.as_str())
                .collect();
            Error::new(
                Kind::Solver,
                format!("the initramfs wants {name}, which is not in {}", known.join(", ")),
            )
            .context(choosing(image))
        })
    };
    names.map(find).collect()
}

/// The time that dates an image: `SOURCE_DATE_EPOCH` if it is set, else when its newest package was built.
///
/// # Errors
/// When the variable is no number.
pub fn epoch(chosen: &[Chosen]) -> Result<u64> {
    match std::env::var("SOURCE_DATE_EPOCH") {
        Ok(text) => text
            .trim()
            .parse()
            .explain(Kind::Usage, || format!("SOURCE_DATE_EPOCH is `{text}`")),
        Err(_) => Ok(chosen.iter().map(|one| one.entry.build_time).max().unwrap_or(0)),
    }
}

/// Whether a repository's name is that of virtual packages.
pub fn is_virtual(repository: &str) -> bool {
    repository == VIRTUAL
}
