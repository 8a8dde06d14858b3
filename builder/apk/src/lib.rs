//! apk packages, indexes, signatures, versions, solver and installed database.
//!
//! Bytes in, values out: this crate never opens a file or a socket and has no policy of its own. It reads v2 and v3
//! packages and indexes, writes v3, verifies everything it reads, chooses packages as apk-tools 3 does, and carries
//! transactions out on a [`lycia_tree::Tree`].
//!
//! | to | see |
//! |---|---|
//! | read or write a package | [`package`] |
//! | read or write an index | [`index`] |
//! | know where indexes and packages are | [`repositories`] |
//! | choose packages | [`solver`], [`dependency`], [`version`] |
//! | install, upgrade, remove | [`install`] |
//! | read or write what is installed | [`database`] |
//! | move the bounds of a reader | [`limits`] |
//!
//! From a package to a root:
//!
//! ```
//! use lycia_apk::dependency::parse_world;
//! use lycia_apk::index::{self, Index, IndexHash};
//! use lycia_apk::install::{Installation, Names, Unpacked};
//! use lycia_apk::keys::KeyRing;
//! use lycia_apk::metadata::{Acl, PackageInfo};
//! use lycia_apk::package::{self, Contents, Expect, PackageBuilder, Trust, WriteOptions};
//! use lycia_apk::solver::{UniverseBuilder, select};
//! use lycia_tree::{Content, Metadata, Timestamp, Tree};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A package; keys to sign it with would go into the empty list.
//! let info = PackageInfo {
//!     name: "hello".into(),
//!     version: "1.0-r0".into(),
//!     arch: "x86_64".into(),
//!     ..PackageInfo::default()
//! };
//! let mut builder = PackageBuilder::new(info);
//! builder.file(b"usr/bin/hello", Acl::root(0o755), 1_700_000_000, b"#!/bin/sh\n".to_vec())?;
//! let mut file = Vec::new();
//! builder.finish()?.write(WriteOptions::default(), &[], &mut file)?;
//!
//! // An index of it.
//! let (keys, trust) = (KeyRing::new(), Trust::AllowUntrusted);
//! let entry = index::entry(&file, &keys, trust, IndexHash::Sha256)?;
//! let index = Index { packages: vec![entry], ..Index::default() };
//! let index = Index::read(&index.write(&index::WriteOptions::default(), &[])?, &keys, trust)?;
//!
//! // What a world needs.
//! let mut universe = UniverseBuilder::new(["x86_64"]);
//! universe.repository([None], index.packages)?;
//! let universe = universe.finish()?;
//! let world = parse_world("hello")?;
//! let chosen = select(&universe, &world)?;
//!
//! // It verified against the index, and in a tree with its database.
//! let time = Timestamp::from_seconds(1_700_000_000);
//! let mut tree = Tree::new(Metadata::new(0o755, time));
//! let mut installation = Installation::new(&mut tree, time);
//! for one in chosen {
//!     let entry = universe.info(one.package);
//!     let mut contents = Contents::default();
//!     let expect = Expect { trust, info: Some(entry), ..Expect::default() };
//!     let verified = package::read(&file, &keys, &expect, &mut contents)?;
//!     installation.add(Unpacked {
//!         entry: entry.clone(),
//!         package: verified.package,
//!         format: verified.format,
//!         contents: contents.files.into_iter().map(|(_, _, bytes)| Content::from(bytes)).collect(),
//!         tag: None,
//!     })?;
//! }
//! let installed = installation.finish(&Names::default());
//! installed.database.store(&mut tree, &world, time, true)?;
//! assert_eq!(tree.read(b"usr/bin/hello")?, b"#!/bin/sh\n");
//! assert!(tree.read(b"lib/apk/db/installed")?.starts_with(b"C:Q1"));
//! # Ok(())
//! # }
//! ```

pub mod adb;
pub mod database;
pub mod dependency;
pub mod glob;
pub mod index;
pub mod install;
pub mod keys;
pub mod limits;
pub mod metadata;
pub mod package;
pub mod repositories;
pub mod solver;
mod v2;
pub mod version;
pub mod virtual_package;

pub use v2::V2Error;
