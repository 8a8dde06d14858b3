//! Packages and indexes against the reference corpus.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

#[path = "../examples/conformance/cases.rs"]
#[allow(dead_code)] // one kind of comparison of several
mod cases;
#[path = "../examples/conformance/packages.rs"]
mod conformance;
mod corpus;

use corpus::{corpus, everybody, files, trusted, walk};
use lycia_apk::adb::{Compression, Schema};
use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::keys::{KeyRing, SigningKey};
use lycia_apk::metadata::{Dependency, Package};
use lycia_apk::package::{
    self, Contents, Discard, Expect, PackageError, Trust, WriteOptions, add_signatures,
};
use serde_json::Value;
use std::fs;
use std::path::Path;

fn any() -> Expect<'static> {
    Expect {
        trust: Trust::AllowUntrusted,
        ..Expect::default()
    }
}

/// Packages of the corpus that the reference made from `expected/source-trees.json`.
fn sources(corpus: &Path) -> Vec<(String, Value)> {
    let text = fs::read_to_string(corpus.join("expected/source-trees.json")).unwrap();
    // Bytes that are no UTF-8 are written as lone surrogates, which only the generator's language reads.
    let text = text.replace("\\ud", "\\u0");
    let Value::Object(map) = serde_json::from_str(&text).unwrap() else {
        panic!("not an object")
    };
    map.into_iter().collect()
}

/// Puts a list into the order in which the reference's builder was told of it: a value area has its objects
/// in that order, while the array that is read back is sorted.
fn reorder(list: &mut Vec<Dependency>, words: Option<&Value>) {
    let Some(words) = words.and_then(Value::as_str) else {
        return;
    };
    let sorted = std::mem::take(list);
    for word in words.split_whitespace() {
        let found = sorted.iter().find(|dependency| dependency.to_string() == word);
        list.push(
            found
                .unwrap_or_else(|| panic!("{word} is not in {sorted:?}"))
                .clone(),
        );
    }
}

/// The kernel that listed the attributes of the one file with several had them in this order.
fn reorder_xattrs(package: &mut Package) {
    let order: [&[u8]; 4] = [b"user.zeta", b"user.alpha", b"user.alphabet", b"trusted.mark"];
    for file in package
        .paths
        .iter_mut()
        .flat_map(|directory| &mut directory.files)
    {
        file.acl
            .xattrs
            .sort_by_key(|(name, _)| order.iter().position(|other| other == name));
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
        for compression in [
            Compression::None,
            Compression::Deflate(None),
            Compression::Zstd(None),
        ] {
            let mut written = Vec::new();
            package::write(
                &read.package,
                &mut contents,
                WriteOptions { compression },
                &[],
                &mut written,
            )
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
        let written = package::write(
            &package,
            &mut contents,
            WriteOptions::default(),
            &[],
            std::io::sink(),
        )
        .unwrap();
        if written == read.identity {
            same += 1;
        } else {
            differing.push(file);
        }
    }
    println!("{same} of {} payloads identical", same + differing.len());
    assert!(
        differing.is_empty(),
        "other payloads than the reference's: {differing:#?}"
    );
    assert!(same >= 50);
}

#[test]
fn verdicts_and_dumps_agree() {
    let Some(corpus) = corpus() else { return };
    let cases::Count { agree, disagree } = conformance::run(&[corpus]);
    println!("packages: {agree} agree, {disagree} disagree");
    assert!(disagree == 0 && agree > 180, "{agree} agree, {disagree} disagree");
}

/// The errors name the damage.
#[test]
fn messages_name_the_damage() {
    let Some(corpus) = corpus() else { return };
    let expected = [
        (
            "v3-container/comp-letter.apk",
            "compression letter 'x' is not supported",
        ),
        ("v3-container/compat1.apk", "incompatible ADB version 1"),
        (
            "v3-container/deflate-trailing.apk",
            "unexpected bytes after the deflate stream",
        ),
        (
            "v3-container/ext-size-small.apk",
            "a block of 8 bytes cannot hold its 16-byte header",
        ),
        ("v3-container/flip-adb.apk", "untrusted: none of the 1 signatures"),
        (
            "v3-container/flip-data.apk",
            "usr/share/victim/a: its hash is not the one in the metadata",
        ),
        ("v3-container/rawsize-max.apk", "is beyond the limit of 134217728"),
        (
            "v3-container/trunc-mid-sig.apk",
            "the file ends inside a signature",
        ),
        (
            "v3-container/trunc-zstd.apk",
            "the file ends inside the zstd stream",
        ),
        ("v3-container/zstd-trailing.apk", "the zstd stream is damaged"),
        (
            "v3-data/long.apk",
            "its size is 300 bytes, its data block has 301",
        ),
        ("v3-data/missing-last.apk", "the file ends before its data block"),
        (
            "v3-data/wrong-path-idx.apk",
            "the next data block is of directory 3 file 1, not of 4 1",
        ),
        ("v3-data/xattr-nonul.apk", "an extended attribute without a NUL"),
        (
            "v3-meta/desc-blankline.apk",
            "description: contains the control character U+000A",
        ),
        (
            "v3-meta/name-dotdot.apk",
            "\"../../evil\" is no valid package name",
        ),
        (
            "v3-paths/dotdot-dir.apk",
            "\"../evil\": a path component is \"..\"",
        ),
        ("v3-paths/dup-file.apk", "files[1] \"x\": the file is there twice"),
        ("v3-paths/file-256.apk", "has 256 bytes, the limit is 255"),
        (
            "v3-paths/file-and-dir.apk",
            "it is a directory of the package too",
        ),
        (
            "v3-paths/hardlink-outside.apk",
            "hard link target: a path component is \"..\"",
        ),
        (
            "v3-paths/hardlink-later.apk",
            "\"usr/share/b\", which is no earlier file",
        ),
        (
            "v3-paths/symlink-nul.apk",
            "a symbolic link target with the control character 0x00",
        ),
        (
            "v3-resource/adb-512MiB.zstd.apk",
            "536870912 bytes, is beyond the limit of 134217728",
        ),
        ("v3-values/name-oob.apk", "name: the length of a blob"),
        (
            "v3-values/paths-self-ref.apk",
            "an object was expected, a blob is there",
        ),
        ("index/sha160-mismatch", "the package's identity is"),
        ("index/sha256-mismatch", "the package's identity is"),
        ("index/substitute-other", "the package's identity is"),
        ("index/schema-lie", "schema word is \"pckg\", not \"indx\""),
        ("index/unsigned", "the index is not signed"),
        ("index/nohash", "0 bytes, an identity has 20, 32 or 64"),
        ("index/spec-dotdot", "\"..\" component"),
        ("index/spec-unknown-var", "unknown variable"),
        ("index/spec-unterminated", "has a ${ without }"),
        ("index/version-bad", "\"abc\" is no valid version"),
    ];
    for (file, part) in expected {
        let error = conformance::message(&corpus.join("damaged").join(file)).expect_err(file);
        assert!(
            error.contains(part),
            "{file}: {error:?} does not contain {part:?}"
        );
    }
}

/// The control packages as a base for random damage: never a panic, and under a required signature never
/// another package.
#[test]
fn random_damage_of_corpus_files() {
    let Some(corpus) = corpus() else { return };
    let keys = trusted(&corpus);
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |end: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % end as u64) as usize
    };
    let mut bases = files(&corpus.join("repo3/main/x86_64"));
    bases.retain(|path| path.extension().is_some_and(|e| e == "apk"));
    bases.extend(
        files(&corpus.join("damaged/v3-container"))
            .into_iter()
            .filter(|path| path.to_string_lossy().contains("good.none")),
    );
    let (mut refused, mut harmless) = (0, 0);
    for path in bases {
        let original = fs::read(&path).unwrap();
        if original.len() > 100_000 {
            continue;
        }
        let good = package::read(&original, &keys, &Expect::default(), &mut Discard).unwrap();
        for _ in 0..40 {
            let mut bytes = original.clone();
            for _ in 0..=random(3) {
                let at = random(bytes.len());
                match random(4) {
                    0 => bytes[at] ^= 1 << random(8),
                    1 => bytes[at] = random(256) as u8,
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, random(256) as u8),
                }
            }
            let _ = package::read(&bytes, &KeyRing::new(), &any(), &mut Discard);
            let _ = Index::read(&bytes, &keys, Trust::AllowUntrusted);
            match package::read(&bytes, &keys, &Expect::default(), &mut Discard) {
                // Bits that nothing depends on: the level in the wrapper, spare bits of a deflate stream.
                Ok(read) => {
                    assert_eq!(read.package, good.package, "{}", path.display());
                    harmless += 1;
                }
                Err(_) => refused += 1,
            }
        }
    }
    println!("{refused} damaged files refused, {harmless} damaged where it does not matter");
    assert!(refused > 1000 && harmless < refused / 20);
}

#[test]
fn trust_of_signatures() {
    let Some(corpus) = corpus() else { return };
    let keys = trusted(&corpus);
    let expected = [
        ("signed-both.apk", Some("kestrel-65550001.rsa.pub")),
        ("signed-kestrel.apk", Some("kestrel-65550001.rsa.pub")),
        ("signed-none.apk", None),
        ("signed-stranger.apk", None),
        ("signed-ec.apk", None),
        ("signed-rsa4096.apk", None),
    ];
    for (file, signer) in expected {
        let bytes = fs::read(corpus.join("repo3/signatures").join(file)).unwrap();
        let read = package::read(&bytes, &keys, &Expect::default(), &mut Discard);
        match (&read, signer) {
            (Ok(read), Some(_)) => assert_eq!(read.signed_by.as_deref(), signer),
            (Err(PackageError::Untrusted(_)), None) => {}
            _ => panic!("{file}: {read:?}"),
        }
        let read = package::read(&bytes, &keys, &any(), &mut Discard).unwrap();
        assert_eq!(read.signed_by.as_deref(), signer);
    }
    let everybody = everybody(&corpus);
    for (file, signer) in [
        ("signed-ec.apk", "curve-65550004.ec.pub"),
        ("signed-rsa4096.apk", "big-65550003.rsa.pub"),
    ] {
        let bytes = fs::read(corpus.join("repo3/signatures").join(file)).unwrap();
        let read = package::read(&bytes, &everybody, &Expect::default(), &mut Discard).unwrap();
        assert_eq!(read.signed_by.as_deref(), Some(signer));
    }
}

/// RSA signatures of this crate are those of the reference, byte by byte; every key of the corpus can sign.
#[test]
fn signatures_are_those_of_the_reference() {
    let Some(corpus) = corpus() else { return };
    let keys = everybody(&corpus);
    let plain = fs::read(corpus.join("repo3/signatures/signed-none.apk")).unwrap();
    for (private, public, signed) in [
        (
            "kestrel-65550001.rsa",
            "kestrel-65550001.rsa.pub",
            Some("signed-kestrel.apk"),
        ),
        (
            "stranger-65550002.rsa",
            "stranger-65550002.rsa.pub",
            Some("signed-stranger.apk"),
        ),
        (
            "big-65550003.rsa",
            "big-65550003.rsa.pub",
            Some("signed-rsa4096.apk"),
        ),
        ("curve-65550004.ec", "curve-65550004.ec.pub", None),
    ] {
        let pem = fs::read(corpus.join("keys").join(private)).unwrap();
        let key = SigningKey::from_pem(private, &pem).unwrap();
        let public_pem = fs::read(corpus.join("keys").join(public)).unwrap();
        assert_eq!(KeyRing::new().add_pem(public, &public_pem).unwrap(), key.id());
        assert_eq!(key.public_pem().unwrap().as_bytes(), public_pem, "{private}");
        let mut ours = Vec::new();
        add_signatures(
            &plain,
            Schema::Package,
            false,
            std::slice::from_ref(&key),
            &mut ours,
        )
        .unwrap();
        let read = package::read(&ours, &keys, &Expect::default(), &mut Discard).unwrap();
        assert_eq!(read.signed_by.as_deref(), Some(public));
        if let Some(signed) = signed {
            let theirs = fs::read(corpus.join("repo3/signatures").join(signed)).unwrap();
            let stream = |bytes: &[u8]| {
                assert_eq!(bytes[..6], *b"ADBc\x02\x00");
                zstd::decode_all(&bytes[6..]).unwrap()
            };
            assert_eq!(stream(&ours), stream(&theirs), "{private}");
        }
        // A second time it is there already; in place of the others it stands alone.
        let (mut twice, mut alone) = (Vec::new(), Vec::new());
        add_signatures(
            &ours,
            Schema::Package,
            false,
            std::slice::from_ref(&key),
            &mut twice,
        )
        .unwrap();
        assert_eq!(ours, twice);
        let both = fs::read(corpus.join("repo3/signatures/signed-both.apk")).unwrap();
        add_signatures(&both, Schema::Package, true, &[key], &mut alone).unwrap();
        assert_eq!(ours, alone);
    }
}

#[test]
fn indexes_and_their_entries() {
    let Some(corpus) = corpus() else { return };
    let keys = everybody(&corpus);
    let (mut indexes, mut entries) = (0, 0);
    for path in walk(&corpus.join("repo3"), &[".adb"]) {
        let bytes = fs::read(&path).unwrap();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let trust = if name == "idx.unsigned.adb" {
            Trust::AllowUntrusted
        } else {
            Trust::Required
        };
        let read = Index::read(&bytes, &keys, trust).unwrap_or_else(|error| panic!("{name}: {error}"));
        indexes += 1;
        if name != "Packages.adb" {
            continue;
        }
        let folder = path.parent().unwrap();
        for info in &read.packages {
            let spec = read.pkgname_spec.as_deref().unwrap_or(index::DEFAULT_SPEC);
            let relative = index::expand_spec(spec, info).unwrap();
            let file = [folder.join(&relative), folder.parent().unwrap().join(&relative)]
                .into_iter()
                .find(|file| file.is_file());
            let Some(file) = file else {
                panic!("{relative} is nowhere")
            };
            let bytes = fs::read(&file).unwrap();
            let hash = if info.hashes.as_ref().unwrap().0.len() == 20 {
                IndexHash::Sha256_160
            } else {
                IndexHash::Sha256
            };
            assert_eq!(index::entry(&bytes, &keys, Trust::Required, hash).unwrap(), *info);
            let expect = Expect {
                info: Some(info),
                ..Expect::default()
            };
            package::read(&bytes, &keys, &expect, &mut Discard).unwrap();
            entries += 1;
        }
    }
    println!("{indexes} indexes, {entries} entries made anew");
    assert!(indexes > 15 && entries > 30);
}
