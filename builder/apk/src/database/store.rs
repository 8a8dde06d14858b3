//! The database's files in a tree.

use lycia_tree::{Content, Follow, Metadata, Timestamp, Tree, TreeError, display};
use thiserror::Error;

use super::{DIRECTORY, Database, ReadError, WriteError};
use crate::dependency;
use crate::metadata::Dependency;

/// Where the wanted packages are, below the root.
pub const WORLD: &str = "etc/apk/world";
/// Where the architectures are, below the root; the first is the primary one.
pub const ARCH: &str = "etc/apk/arch";
/// The scripts archive where it is not compressed; if it is there, it is used instead.
const PLAIN_SCRIPTS: &str = "scripts.tar";
const SCRIPTS: &str = "scripts.tar.gz";

/// Why the database of a root cannot be read or written.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum StoreError {
    /// The tree refuses a path.
    #[error("the installed database of the root: {0}")]
    Tree(#[from] TreeError),
    /// Its directory is not there, and it was not said that there is to be a new database.
    #[error("the root has no directory {0}: nothing was installed in it, or what brings its link went away")]
    Missing(String),
    /// A file is not as apk writes it.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Database {
    /// Reads the database of a root from its tree, which needs the contents of `lib/apk/db`.
    ///
    /// # Errors
    /// When it is missing or damaged.
    pub fn load(tree: &Tree) -> Result<Database, StoreError> {
        if tree.find(DIRECTORY.as_bytes(), Follow::All)?.is_none() {
            return Err(StoreError::Missing(DIRECTORY.to_owned()));
        }
        let read = |name: &str| -> Result<Option<&[u8]>, TreeError> {
            let path = format!("{DIRECTORY}/{name}");
            match tree.find(path.as_bytes(), Follow::All)? {
                Some(_) => tree.read(path.as_bytes()).map(Some),
                None => Ok(None),
            }
        };
        let scripts = match read(PLAIN_SCRIPTS)? {
            Some(plain) => Some(plain),
            None => read(SCRIPTS)?,
        };
        let installed = read("installed")?.unwrap_or_default();
        Ok(Database::read(
            installed,
            read("triggers")?.unwrap_or_default(),
            scripts.unwrap_or_default(),
        )?)
    }

    /// Writes the database and world, sorted, into the tree of a root and gives the canonical paths of what was
    /// written. With `create` its directories are made where they are missing; without, a root that has lost
    /// them is an error, as it is for apk.
    ///
    /// On a usr-merged root `lib` is a link by the time this is called, so that the files land below
    /// `usr/lib`.
    ///
    /// # Errors
    /// When a directory is missing or a record cannot be written.
    pub fn store(
        &self,
        tree: &mut Tree,
        world: &[Dependency],
        time: Timestamp,
        create: bool,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        for folder in [DIRECTORY, "etc/apk"] {
            if tree.find(folder.as_bytes(), Follow::All)?.is_some() {
                continue;
            }
            if !create {
                return Err(StoreError::Missing(display(folder.as_bytes())));
            }
            tree.make_directories(folder.as_bytes(), Metadata::new(0o755, time))?;
        }
        let plain = format!("{DIRECTORY}/{PLAIN_SCRIPTS}");
        let scripts = match tree.find(plain.as_bytes(), Follow::All)? {
            Some(_) => (plain, self.scripts_archive()),
            None => (format!("{DIRECTORY}/{SCRIPTS}"), self.write_scripts()),
        };
        let mut world = world.to_vec();
        dependency::sort_world(&mut world);
        let files = [
            (WORLD.to_owned(), dependency::format_world(&world).into_bytes()),
            (format!("{DIRECTORY}/installed"), self.write_installed()?),
            (format!("{DIRECTORY}/triggers"), self.write_triggers()),
            scripts,
        ];
        let mut written = Vec::new();
        for (path, bytes) in files {
            tree.write(path.as_bytes(), Metadata::new(0o644, time), Content::from(bytes))?;
            written.push(tree.canonical(path.as_bytes(), Follow::All)?);
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::database::InstalledPackage;
    use crate::metadata::{Digest, PackageInfo, ScriptKind};

    fn database() -> Database {
        let info = PackageInfo {
            name: "a".into(),
            version: "1".into(),
            hashes: Some(Digest(vec![7; 20])),
            ..PackageInfo::default()
        };
        let scripts = vec![(ScriptKind::Trigger, b"#!/bin/sh\n".to_vec())];
        let triggers = vec!["/usr/*".to_owned()];
        Database {
            packages: vec![InstalledPackage {
                info,
                scripts,
                triggers,
                ..InstalledPackage::default()
            }],
        }
    }

    #[test]
    fn what_is_stored_loads_again_through_the_merged_link() {
        let time = Timestamp::from_seconds(0);
        let mut tree = Tree::new(Metadata::new(0o755, time));
        tree.make_directories(b"usr/lib", Metadata::new(0o755, time))
            .unwrap();
        let link = lycia_tree::Node::Symlink(b"usr/lib".to_vec());
        tree.insert(b"lib", Metadata::new(0o777, time), link).unwrap();
        let world = dependency::parse_world("a").unwrap();
        let error = database().store(&mut tree, &world, time, false).unwrap_err();
        assert!(matches!(error, StoreError::Missing(_)), "{error}");
        assert!(matches!(Database::load(&tree), Err(StoreError::Missing(_))));
        let written = database().store(&mut tree, &world, time, true).unwrap();
        assert!(written.contains(&b"/usr/lib/apk/db/installed".to_vec()));
        assert_eq!(Database::load(&tree).unwrap(), database());
        // World is in apk's order, whatever the order in which it was asked for.
        let world = dependency::parse_world("zeta b B@edge alpha").unwrap();
        database().store(&mut tree, &world, time, false).unwrap();
        assert_eq!(tree.read(b"etc/apk/world").unwrap(), b"alpha\nB@edge\nb\nzeta\n");
        // An archive that is not compressed stays so.
        tree.insert(
            b"lib/apk/db/scripts.tar",
            Metadata::new(0o644, time),
            lycia_tree::Node::Regular(Content::empty()),
        )
        .unwrap();
        database().store(&mut tree, &world, time, false).unwrap();
        assert_eq!(Database::load(&tree).unwrap(), database());
    }
}
