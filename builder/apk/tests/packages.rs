//! Packages and indexes against the reference corpus.

mod corpus;

use corpus::{corpus, everybody, files, trusted, walk};
use lycia_apk::adb::{Compression, Schema};
use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::keys::{KeyRing, SigningKey};
use lycia_apk::metadata::{Dependency, FileKind, Package};
use lycia_apk::package::{
    self, Contents, Discard, Expect, PackageError, Trust, WriteOptions, add_signatures,
};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn any() -> Expect<'static> {
    Expect { trust: Trust::AllowUntrusted, ..Expect::default() }
}

/// Packages of the corpus that the reference made from `expected/source-trees.json`.
fn sources(corpus: &Path) -> Vec<(String, Value)> {
    let text = fs::read_to_string(corpus.join("expected/source-trees.json")).unwrap();
    // Bytes that are no UTF-8 are written as lone surrogates, which only the generator's language reads.
    let text = text.replace("\\ud", "\\u0");
    let Value::Object(map) = serde_json::from_str(&text).unwrap() else { panic!("not an object") };
    map.into_iter().collect()
}

/// Puts a list into the order in which the reference's builder was told of it: a value area has its objects
/// in that order, while the array that is read back is sorted.
fn reorder(list: &mut Vec<Dependency>, words: Option<&Value>) {
    let Some(words) = words.and_then(Value::as_str) else { return };
    let sorted = std::mem::take(list);
    for word in words.split_whitespace() {
        let found = sorted.iter().find(|dependency| dependency.to_string() == word);
        list.push(found.unwrap_or_else(|| panic!("{word} is not in {sorted:?}")).clone());
    }
}

/// The kernel that listed the attributes of the one file with several had them in this order.
fn reorder_xattrs(package: &mut Package) {
    let order: [&[u8]; 4] = [b"user.zeta", b"user.alpha", b"user.alphabet", b"trusted.mark"];
    for file in package.paths.iter_mut().flat_map(|directory| &mut directory.files) {
        file.acl.xattrs.sort_by_key(|(name, _)| order.iter().position(|other| other == name));
    }
}

#[test]
fn every_package_verifies_and_round_trips() {
    let Some(corpus) = corpus() else { return };
    let keys = everybody(&corpus);
    let packages = walk(&corpus.join("repo3"), &[".apk"]);
    assert!(packages.len() > 40, "only {} packages", packages.len());
    for path in &packages {
        let bytes = fs::read(path).unwrap();
        let unsigned = path.ends_with("signed-none.apk");
        let expect = if unsigned { any() } else { Expect::default() };
        let mut contents = Contents::default();
        let read = package::read(&bytes, &keys, &expect, &mut contents)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(read.signed_by.is_none(), unsigned, "{}", path.display());
        assert_eq!(read.identity, package::identity(&bytes).unwrap());
        for compression in [Compression::None, Compression::Deflate(None), Compression::Zstd(None)] {
            let mut written = Vec::new();
            package::write(&read.package, &mut contents, WriteOptions { compression }, &[], &mut written)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let mut again = Contents::default();
            let mut back = package::read(&written, &keys, &any(), &mut again).unwrap();
            assert_eq!(back.compression, compression);
            assert_eq!(again, contents);
            // The unique id is that of another payload where the order of lists differs.
            back.package.info.hashes.clone_from(&read.package.info.hashes);
            assert_eq!(back.package, read.package, "{}", path.display());
        }
    }
    println!("{} packages verified and round-tripped", packages.len());
}

#[test]
fn payloads_are_those_of_the_reference() {
    let Some(corpus) = corpus() else { return };
    let keys = everybody(&corpus);
    let mut same = 0;
    let mut differing = Vec::new();
    for (file, source) in sources(&corpus) {
        let bytes = fs::read(corpus.join(&file)).unwrap();
        let mut contents = Contents::default();
        let read = package::read(&bytes, &keys, &any(), &mut contents).unwrap();
        let mut package = read.package;
        let info = &source["info"];
        reorder(&mut package.info.depends, info.get("depends"));
        reorder(&mut package.info.provides, info.get("provides"));
        reorder(&mut package.info.replaces, info.get("replaces"));
        reorder(&mut package.info.install_if, info.get("install-if"));
        reorder(&mut package.info.recommends, info.get("recommends"));
        reorder_xattrs(&mut package);
        let written =
            package::write(&package, &mut contents, WriteOptions::default(), &[], std::io::sink()).unwrap();
        if written == read.identity {
            same += 1;
        } else {
            differing.push(file);
        }
    }
    println!("{same} of {} payloads identical", same + differing.len());
    assert!(differing.is_empty(), "other payloads than the reference's: {differing:#?}");
    assert!(same >= 50);
}
