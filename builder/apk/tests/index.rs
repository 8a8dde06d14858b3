//! Indexes of every form that this crate writes, read back.

#![allow(clippy::unwrap_used)] // a test ends at the first surprise

use lycia_apk::adb::Compression;
use lycia_apk::index::{Index, IndexHash, WriteOptions};
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::{Dependency, Digest, Match, PackageInfo};
use lycia_apk::package::Trust;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[^\\pC]{1,60}"]
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9][A-Za-z0-9._+-]{0,20}"
}

fn version() -> impl Strategy<Value = String> {
    "[0-9]{1,3}(\\.[0-9]{1,3}){0,2}[a-z]?(_(alpha|beta|pre|rc|cvs|git|p)[0-9]{0,2})?(~[0-9a-f]{1,8})?(-r[0-9]{1,3})?"
}

/// A dependency with or without a version, of every comparison that a file can hold.
fn dependency() -> impl Strategy<Value = Dependency> {
    let op = prop::sample::select(vec![
        Match::EQUAL,
        Match::LESS,
        Match::GREATER,
        Match::LESS | Match::EQUAL,
        Match::GREATER | Match::EQUAL,
        Match::EQUAL | Match::FUZZY,
        Match::EQUAL | Match::FUZZY | Match::LESS,
        Match::EQUAL | Match::FUZZY | Match::GREATER,
    ]);
    (
        "((so|cmd|pc):)?[a-z0-9][A-Za-z0-9._+:/,-]{0,20}",
        prop::option::of((version(), op)),
        any::<bool>(),
    )
        .prop_map(|(name, version, conflict)| {
            let conflict = if conflict { Match::CONFLICT } else { 0 };
            let (version, op) = match version {
                Some((version, op)) => (version, Match(op | conflict)),
                None => (String::new(), Match(Match::ANY.0 | conflict)),
            };
            Dependency {
                name,
                version,
                op,
                tag: None,
            }
        })
}

fn list() -> impl Strategy<Value = Vec<Dependency>> {
    prop::collection::vec(dependency(), 0..5)
}

prop_compose! {
    fn info()(
        (name, version, arch) in (name(), version(), prop_oneof![Just(String::new()), name()]),
        (description, license, origin, maintainer, url) in (text(), text(), text(), text(), text()),
        hash in prop::collection::vec(any::<u8>(), 32),
        repo_commit in prop_oneof![Just(0usize), Just(20), Just(32)]
            .prop_flat_map(|length| prop::collection::vec(any::<u8>(), length)),
        (build_time, installed_size, file_size) in (any::<u64>(), any::<u64>(), any::<u64>()),
        (provider_priority, layer) in (0..=u64::from(u16::MAX), 0u64..2),
        (depends, provides, replaces, install_if, recommends) in (list(), list(), list(), list(), list()),
        tags in prop::collection::vec("[A-Za-z0-9_+,:.=-]{1,20}", 0..3),
    ) -> PackageInfo {
        PackageInfo {
            name, version, arch, description, license, origin, maintainer, url, repo_commit, build_time,
            installed_size, file_size, provider_priority, layer, depends, provides, replaces, install_if,
            recommends, tags,
            hashes: Some(Digest(hash)),
        }
    }
}

/// The entries as they are compared: in no order, and the lists of a package in none.
fn compared(packages: &[PackageInfo], hash: usize) -> Vec<String> {
    let mut texts: Vec<String> = packages
        .iter()
        .map(|info| {
            let mut info = info.clone();
            for list in [
                &mut info.depends,
                &mut info.provides,
                &mut info.replaces,
                &mut info.install_if,
                &mut info.recommends,
            ] {
                list.sort_by_key(|one| format!("{one:?}"));
            }
            info.tags.sort();
            if let Some(digest) = &mut info.hashes {
                digest.0.truncate(hash);
            }
            format!("{info:?}")
        })
        .collect();
    texts.sort();
    texts
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    /// What was written is what is read, and what was read is written in one way: lists are sorted then, and so are the
    /// bytes that they are made of.
    #[test]
    fn what_is_written_is_read(
        packages in prop::collection::vec(info(), 0..12),
        description in text(),
        spec in prop::option::of(prop::sample::select(vec![
            "${name}-${version}.apk", "${arch}/${name}-${version}.apk", "${hash:8}/${name}.apk",
        ])),
        compression in prop::sample::select(vec![
            Compression::None, Compression::Deflate(None), Compression::Deflate(Some(1)),
            Compression::Zstd(None), Compression::Zstd(Some(3)),
        ]),
        hash in prop::sample::select(vec![(IndexHash::Sha256, 32), (IndexHash::Sha256_160, 20)]),
    ) {
        let (hash, length) = hash;
        let index = Index { description, packages, pkgname_spec: spec.map(str::to_owned) };
        let options = WriteOptions { compression, hash };
        let bytes = index.write(&options, &[]).unwrap();
        let back = Index::read(&bytes, &KeyRing::new(), Trust::AllowUntrusted).unwrap();
        prop_assert_eq!(&back.description, &index.description);
        prop_assert_eq!(&back.pkgname_spec, &index.pkgname_spec);
        prop_assert_eq!(compared(&back.packages, length), compared(&index.packages, length));
        let again = back.write(&options, &[]).unwrap();
        let once_more = Index::read(&again, &KeyRing::new(), Trust::AllowUntrusted).unwrap();
        prop_assert_eq!(&once_more, &back);
        prop_assert_eq!(once_more.write(&options, &[]).unwrap(), again);
        // The order in which packages were told does not show.
        let mut turned = back;
        turned.packages.reverse();
        prop_assert_eq!(turned.write(&options, &[]).unwrap(), once_more.write(&options, &[]).unwrap());
    }
}
