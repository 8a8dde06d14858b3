//! Removing what is no longer the result of anything.

use crate::SeedOptions;
use crate::archive::Archive;
use crate::error::{IoContext, Result};
use crate::fetch::Fetcher;
use crate::plan::{Latest, ResultDir};
use crate::recipes::Recipes;
use crate::staged::{Staged, scan};
use crate::store::{Lock, Store, read_json, remove};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) fn prune(options: &SeedOptions) -> Result<u64> {
    let store = Store::new(&options.store);
    let recipes = Recipes::load(&options.recipes_dir, &options.arch, &[])?;
    let mut freed = 0;
    for home in entries(&store.recipes())? {
        let Some(name) = home.file_name().map(|n| n.to_string_lossy().into_owned()) else {
            continue;
        };
        let Some(_lock) = Lock::try_take(&home.join("lock"))? else {
            continue;
        };
        freed += discard(&store.work(&name))?;
        if !recipes.all.contains_key(&name) {
            freed += discard(&home)?;
            continue;
        }
        let latest: Latest = read_json(&home.join("latest.json")).unwrap_or_default();
        for result in entries(&home)?.into_iter().filter(|p| p.is_dir()) {
            if !result.ends_with(&latest.hash) || latest.hash.is_empty() {
                freed += discard(&result)?;
                continue;
            }
            for packages in entries(&ResultDir(result).packages(""))? {
                if latest.packages_hash.is_empty() || !packages.ends_with(&latest.packages_hash) {
                    freed += discard(&packages)?;
                }
            }
        }
    }
    // Scratch of recipes whose name is gone.
    for work in entries(&store.works())? {
        let known = work
            .file_name()
            .is_some_and(|name| store.recipes().join(name).exists());
        if !known {
            freed += discard(&work)?;
        }
    }
    Ok(freed + prune_sources(options, &store, &recipes)?)
}

fn prune_sources(options: &SeedOptions, store: &Store, recipes: &Recipes) -> Result<u64> {
    let archive = Archive::new(store, options.archive.clone(), &options.cancel);
    let fetcher = Fetcher {
        store,
        archive: &archive,
        debian_arch: &recipes.target.debian_arch,
        refresh: false,
        offline: true,
        cancel: &options.cancel,
    };
    let wanted: BTreeSet<PathBuf> = recipes
        .all
        .values()
        .flat_map(|r| &r.sources)
        .filter_map(|s| fetcher.stored(s))
        .collect();
    let mut freed = 0;
    for file in entries(&store.sources())? {
        let name = file
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        // Other parts of the program keep downloads here too: only names of the form hash-name are ours.
        let ours = name
            .split_once('-')
            .is_some_and(|(hash, _)| hash.len() == 64 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        if ours && file.is_file() && !wanted.contains(&file) {
            freed += discard(&file)?;
        }
    }
    Ok(freed)
}

fn entries(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    match fs::read_dir(dir) {
        Ok(list) => {
            for entry in list {
                paths.push(entry.at("reading the directory", dir)?.path());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error).at("reading the directory", dir),
    }
    paths.sort();
    Ok(paths)
}

fn discard(path: &Path) -> Result<u64> {
    let bytes = match fs::symlink_metadata(path) {
        Err(_) => return Ok(0),
        Ok(meta) if !meta.is_dir() => meta.len(),
        Ok(_) => scan(path)?
            .values()
            .map(|staged| match staged {
                Staged::File { size, .. } => *size,
                _ => 0,
            })
            .sum(),
    };
    remove(path)?;
    Ok(bytes)
}
