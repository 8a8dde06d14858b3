//! `lycia clean`

use std::path::Path;

use super::Context;
use crate::cli::CleanArgs;
use crate::error::{Result, io};
use crate::fetch::{INDEXES, PART};
use crate::store::TEMPORARY;

/// Removes what killed runs left, and more where asked.
pub fn clean(context: &Context, args: &CleanArgs) -> Result<()> {
    let store = context.store()?;
    let mut freed = 0;
    if args.all {
        for entry in io(std::fs::read_dir(store.root()), || {
            format!("reading {}", store.root().display())
        })? {
            let path = io(entry, || format!("reading {}", store.root().display()))?.path();
            freed += remove(&path)?;
        }
    } else {
        freed += remove(&store.root().join("scratch"))?;
        freed += super::seed::prune(context)?;
        // Files without a name yet leave nothing; on file systems that have none such they do.
        let blocks = store.root().join("blocks");
        let versions = std::fs::read_dir(&blocks).into_iter().flatten().flatten();
        for folder in versions
            .map(|entry| entry.path())
            .chain([store.root().join("built")])
        {
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                if entry
                    .file_name()
                    .as_encoded_bytes()
                    .starts_with(TEMPORARY.as_bytes())
                {
                    freed += remove(&entry.path())?;
                }
            }
        }
        for folder in ["packs", "packages", INDEXES] {
            let folder = store.root().join(folder);
            if args.packs {
                freed += remove(&folder)?;
                continue;
            }
            for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let part = name.ends_with(PART) || name.ends_with(".part.from");
                if part || name.starts_with(TEMPORARY) || name.starts_with(".pack-") {
                    freed += remove(&entry.path())?;
                }
            }
        }
    }
    context
        .progress()
        .say(&format!("{:.1} MiB freed", crate::build::mebibytes(freed)));
    Ok(())
}

/// Removes a file, or a folder with all in it, and says how many bytes they had. Links are not followed.
fn remove(path: &Path) -> Result<u64> {
    let Ok(metadata) = path.symlink_metadata() else {
        return Ok(0);
    };
    if !metadata.is_dir() {
        io(std::fs::remove_file(path), || {
            format!("removing {}", path.display())
        })?;
        return Ok(metadata.len());
    }
    let mut freed = 0;
    for entry in io(std::fs::read_dir(path), || format!("reading {}", path.display()))? {
        freed += remove(&io(entry, || format!("reading {}", path.display()))?.path())?;
    }
    io(std::fs::remove_dir(path), || {
        format!("removing {}", path.display())
    })?;
    Ok(freed)
}
