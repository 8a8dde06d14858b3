//! Packages built, written and read again.

use super::*;
use crate::adb::{Compression, Schema};
use crate::index::{self, Index, IndexHash};
use crate::keys::{KeyRing, SigningKey};
use crate::limits::Limits;
use crate::metadata::{Acl, Dependency, FileKind, Match, Package, PackageInfo, ScriptKind};
use std::io;
use std::sync::OnceLock;

/// A fixed stream of numbers in place of randomness: keys for tests only.
pub(crate) struct Counter(pub(crate) u64);

impl crate::keys::rand_core::RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    fn fill_bytes(&mut self, dest: &mut [u8]) {
        for chunk in dest.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
    fn try_fill_bytes(&mut self, dest: &mut [u8]) -> Result<(), crate::keys::rand_core::Error> {
        self.fill_bytes(dest);
        Ok(())
    }
}

impl crate::keys::rand_core::CryptoRng for Counter {}

pub(crate) fn rsa_key() -> rsa::RsaPrivateKey {
    rsa::RsaPrivateKey::new(&mut Counter(41), 2048).unwrap()
}

fn key(number: u64) -> SigningKey {
    SigningKey::generate_ec(&format!("test-{number}"), &mut Counter(number)).unwrap()
}

fn ring(keys: &[&SigningKey]) -> KeyRing {
    let mut ring = KeyRing::new();
    for key in keys {
        ring.add_pem(key.name(), key.public_pem().unwrap().as_bytes())
            .unwrap();
    }
    ring
}

fn info(name: &str) -> PackageInfo {
    PackageInfo {
        name: name.into(),
        version: "1.0-r0".into(),
        arch: "x86_64".into(),
        ..PackageInfo::default()
    }
}

fn untrusted() -> Expect<'static> {
    Expect {
        trust: Trust::AllowUntrusted,
        ..Expect::default()
    }
}

/// A package with a file that compresses and one that does not, signed.
fn sample() -> &'static (Vec<u8>, Digest, SigningKey) {
    static SAMPLE: OnceLock<(Vec<u8>, Digest, SigningKey)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let mut builder = PackageBuilder::new(info("sample"));
        let mut noise = vec![0; 300_000];
        crate::keys::rand_core::RngCore::fill_bytes(&mut Counter(7), &mut noise);
        builder
            .file(b"usr/lib/noise", Acl::root(0o644), 5, noise)
            .unwrap();
        builder
            .file(b"/usr/bin/tool", Acl::root(0o4755), 6, vec![b'x'; 100_000])
            .unwrap();
        builder
            .file(b"usr/lib/empty", Acl::root(0o644), 7, Vec::new())
            .unwrap();
        builder.symlink(b"bin", b"usr/bin", 8).unwrap();
        builder
            .script(ScriptKind::Trigger, "#!/bin/sh\n")
            .trigger("/usr/lib");
        let key = key(1);
        let mut bytes = Vec::new();
        let options = WriteOptions {
            compression: Compression::Zstd(None),
        };
        let identity = builder
            .finish()
            .unwrap()
            .write(options, std::slice::from_ref(&key), &mut bytes)
            .unwrap();
        (bytes, identity, key)
    })
}

#[test]
fn parents_sizes_and_orders_are_filled_in() {
    let (bytes, identity, key) = sample();
    let read = read(bytes, &ring(&[key]), &Expect::default(), &mut Discard).unwrap();
    assert_eq!(read.identity, *identity);
    assert_eq!(read.signed_by.as_deref(), Some("test-1"));
    let paths: Vec<&[u8]> = read.package.paths.iter().map(|d| &d.path[..]).collect();
    assert_eq!(paths, [&b""[..], b"usr", b"usr/bin", b"usr/lib"]);
    assert_eq!(read.package.info.installed_size, 400_000);
    let names: Vec<&[u8]> = read.package.paths[3].files.iter().map(|f| &f.name[..]).collect();
    assert_eq!(names, [&b"empty"[..], b"noise"]);
    assert_eq!(
        read.package.paths[0].files[0].size, 7,
        "length of the link's text"
    );
}

/// Threads take and refuse the same, with the same words.
#[test]
fn contents_are_hashed_by_any_number_of_threads() {
    let mut builder = PackageBuilder::new(info("threads"));
    let mut noise = vec![0; 700_000];
    crate::keys::rand_core::RngCore::fill_bytes(&mut Counter(9), &mut noise);
    for (at, size) in [0, 1, 128 << 10, (128 << 10) + 1, 300_000, 5, 0, 260_000]
        .into_iter()
        .enumerate()
    {
        let path = format!("usr/lib/{at}");
        builder
            .file(
                path.as_bytes(),
                Acl::root(0o644),
                5,
                noise[at..at + size].to_vec(),
            )
            .unwrap();
    }
    let key = key(1);
    let keys = ring(&[&key]);
    let mut bytes = Vec::new();
    let options = WriteOptions {
        compression: Compression::None,
    };
    builder
        .finish()
        .unwrap()
        .write(options, std::slice::from_ref(&key), &mut bytes)
        .unwrap();
    let attempt = |bytes: &[u8], hashers| {
        let expect = Expect {
            hashers,
            ..Expect::default()
        };
        let mut contents = Contents::default();
        let read = read(bytes, &keys, &expect, &mut contents).map_err(|error| error.to_string());
        read.map(|verified| (verified, contents))
    };
    let right = attempt(&bytes, 0).unwrap();
    assert_eq!(right.1.files.len(), 8);
    let mut refused = 0;
    let places = (bytes.len() / 3..bytes.len()).step_by(40_009);
    for place in places.chain([bytes.len() - 1, bytes.len()]) {
        let mut damaged = bytes.clone();
        if let Some(byte) = damaged.get_mut(place) {
            *byte ^= 0x40;
        }
        let alone = attempt(&damaged, 0);
        refused += usize::from(alone.is_err());
        for hashers in 1..=3 {
            assert!(
                attempt(&damaged, hashers) == alone,
                "byte {place}, {hashers} threads"
            );
        }
        // Cut there, all the same.
        let alone = attempt(&bytes[..place], 0);
        assert!(attempt(&bytes[..place], 2) == alone, "{place} bytes");
    }
    assert!(refused > 10, "{refused}");
    assert!(attempt(&bytes, 2).unwrap() == right);
    // A sink that is full ends it.
    struct Full(usize);
    impl PayloadSink for Full {
        fn begin(&mut self, _: &Package, _: usize, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.0 = self
                .0
                .checked_sub(bytes.len())
                .ok_or(io::ErrorKind::StorageFull)?;
            Ok(())
        }
        fn end(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for hashers in [0, 2] {
        let expect = Expect {
            hashers,
            ..Expect::default()
        };
        let error = read(&bytes, &keys, &expect, &mut Full(400_000)).unwrap_err();
        assert!(matches!(error, PackageError::Sink { .. }), "{error}");
    }
}

#[test]
fn expectations_are_checked() {
    let (bytes, identity, key) = sample();
    let keys = ring(&[key]);
    let attempt = |expect: &Expect<'_>| read(bytes, &keys, expect, &mut Discard).map_err(|e| e.to_string());
    for length in [20, 32] {
        let good = Digest(identity.0[..length].to_vec());
        attempt(&Expect {
            identity: Some(&good),
            ..Expect::default()
        })
        .unwrap();
        let mut bad = good.clone();
        bad.0[length - 1] ^= 1;
        let message = attempt(&Expect {
            identity: Some(&bad),
            ..Expect::default()
        })
        .unwrap_err();
        assert!(
            message.contains(&bad.to_string()) && message.contains(&good.to_string()),
            "{message}"
        );
    }
    let short = Digest(identity.0[..10].to_vec());
    let message = attempt(&Expect {
        identity: Some(&short),
        ..Expect::default()
    })
    .unwrap_err();
    assert!(message.contains("an expected identity of 10 bytes"), "{message}");

    let entry = index::entry(bytes, &keys, Trust::Required, IndexHash::Sha256_160).unwrap();
    attempt(&Expect {
        info: Some(&entry),
        arch: Some("x86_64"),
        ..Expect::default()
    })
    .unwrap();
    for (hash, length) in [(IndexHash::Sha256, 32), (IndexHash::Sha512, 64)] {
        let entry = index::entry(bytes, &keys, Trust::Required, hash).unwrap();
        let of_entry = entry.hashes.clone().unwrap();
        assert_eq!(of_entry.0.len(), length);
        assert_eq!(identity_of_length(bytes, length).unwrap(), of_entry);
        let index = Index {
            packages: vec![entry],
            ..Index::default()
        };
        let options = index::WriteOptions {
            hash,
            ..Default::default()
        };
        let written = index.write(&options, &[]).unwrap();
        let read = Index::read(&written, &KeyRing::new(), Trust::AllowUntrusted).unwrap();
        attempt(&Expect {
            info: Some(&read.packages[0]),
            ..Expect::default()
        })
        .unwrap();
    }
    assert!(identity_of_length(bytes, 21).is_err());
    type Spoil = fn(&mut PackageInfo);
    let table: [(&str, Spoil); 4] = [
        (
            "the package's name is \"sample\", its index entry says \"other\"",
            |i| i.name = "other".into(),
        ),
        ("the package's version is \"1.0-r0\"", |i| {
            i.version = "1.0-r1".into()
        }),
        ("the package's architecture is \"x86_64\"", |i| {
            i.arch = "aarch64".into()
        }),
        ("the package's identity is", |i| {
            i.hashes.as_mut().unwrap().0[0] ^= 1
        }),
    ];
    for (expected, spoil) in table {
        let mut other = entry.clone();
        spoil(&mut other);
        let message = attempt(&Expect {
            info: Some(&other),
            ..Expect::default()
        })
        .unwrap_err();
        assert!(message.contains(expected), "{message}");
    }
    let message = attempt(&Expect {
        arch: Some("riscv64"),
        ..Expect::default()
    })
    .unwrap_err();
    assert_eq!(message, "the package is for x86_64, not for riscv64");
    let limits = Limits {
        content: 399_999,
        ..Limits::default()
    };
    let message = attempt(&Expect {
        limits: Some(&limits),
        ..Expect::default()
    })
    .unwrap_err();
    assert!(message.contains("beyond the limit of 399999"), "{message}");
}

#[test]
fn unsigned_needs_to_be_allowed() {
    let mut bytes = Vec::new();
    PackageBuilder::new(info("x"))
        .finish()
        .unwrap()
        .write(WriteOptions::default(), &[], &mut bytes)
        .unwrap();
    let error = read(&bytes, &ring(&[&key(1)]), &Expect::default(), &mut Discard).unwrap_err();
    assert!(matches!(error, PackageError::Untrusted(_)));
    assert_eq!(error.to_string(), "untrusted: the package is not signed");
    assert_eq!(
        read(&bytes, &KeyRing::new(), &untrusted(), &mut Discard)
            .unwrap()
            .signed_by,
        None
    );
}

#[test]
fn a_signature_of_one_schema_or_key_is_none_of_another() {
    let stranger = key(2);
    let (bytes, _, key) = sample();
    let error = read(bytes, &ring(&[&stranger]), &Expect::default(), &mut Discard).unwrap_err();
    assert!(error.to_string().contains("none of the 1 signatures"), "{error}");
    // The same key signs the same payload as an index: not good for the package.
    let payload = crate::adb::container::Container::open(bytes, Schema::Package, &Limits::default())
        .unwrap()
        .payload;
    let keys = ring(&[key]);
    let as_index = key.sign(Schema::Index, &payload).unwrap();
    assert_eq!(
        keys.verify(Schema::Package, &payload, std::slice::from_ref(&as_index)),
        None
    );
    assert_eq!(
        keys.verify(Schema::Index, &payload, std::slice::from_ref(&as_index)),
        Some("test-1")
    );
    // Rubbish in front does not matter; the id of another key does.
    let good = key.sign(Schema::Package, &payload).unwrap();
    let mut other_id = good.clone();
    other_id[5] ^= 1;
    assert_eq!(
        keys.verify(Schema::Package, &payload, std::slice::from_ref(&other_id)),
        None
    );
    let list = [Vec::new(), vec![0; 17], vec![9; 100], other_id, good];
    assert_eq!(keys.verify(Schema::Package, &payload, &list), Some("test-1"));
}

#[test]
fn signatures_are_added_and_replaced() {
    let (bytes, identity, first) = sample();
    let second = key(2);
    let mut both = Vec::new();
    add_signatures(
        bytes,
        Schema::Package,
        false,
        std::slice::from_ref(&second),
        &mut both,
    )
    .unwrap();
    let mut only = Vec::new();
    add_signatures(
        &both,
        Schema::Package,
        true,
        std::slice::from_ref(&second),
        &mut only,
    )
    .unwrap();
    for (file, keys, good) in [
        (&both, ring(&[first]), true),
        (&both, ring(&[&second]), true),
        (&only, ring(&[first]), false),
        (&only, ring(&[&second]), true),
    ] {
        let result = read(file, &keys, &Expect::default(), &mut Discard);
        assert_eq!(result.is_ok(), good);
        assert_eq!(super::identity(file).unwrap(), *identity);
    }
}

struct Failing(usize);

impl PayloadSink for Failing {
    fn begin(&mut self, _: &Package, _: usize, _: usize) -> io::Result<()> {
        self.0 = self
            .0
            .checked_sub(1)
            .ok_or_else(|| io::Error::other("disk full"))?;
        Ok(())
    }
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Ok(())
    }
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_failing_sink_stops_reading() {
    let (bytes, _, _) = sample();
    let error = read(bytes, &KeyRing::new(), &untrusted(), &mut Failing(1)).unwrap_err();
    assert_eq!(error.to_string(), "cannot take over the content of usr/lib/empty");
}

/// A file is handed over only after its hash was compared, and the last one only says so at its end.
#[test]
fn a_wrong_content_never_ends() {
    #[derive(Default)]
    struct Ends(usize);
    impl PayloadSink for Ends {
        fn begin(&mut self, _: &Package, _: usize, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write(&mut self, _: &[u8]) -> io::Result<()> {
            Ok(())
        }
        fn end(&mut self) -> io::Result<()> {
            self.0 += 1;
            Ok(())
        }
    }
    let mut builder = PackageBuilder::new(info("x"));
    builder.file(b"a", Acl::root(0o644), 0, b"good".to_vec()).unwrap();
    builder.file(b"b", Acl::root(0o644), 0, b"evil".to_vec()).unwrap();
    let mut bytes = Vec::new();
    let options = WriteOptions {
        compression: Compression::None,
    };
    builder.finish().unwrap().write(options, &[], &mut bytes).unwrap();
    let at = bytes.windows(4).rposition(|window| window == b"evil").unwrap();
    bytes[at] = b'E';
    let mut ends = Ends::default();
    let error = read(&bytes, &KeyRing::new(), &untrusted(), &mut ends).unwrap_err();
    assert_eq!(
        error.to_string(),
        "content of b: its hash is not the one in the metadata"
    );
    assert_eq!(ends.0, 1);
}

#[test]
fn the_writer_checks_contents() {
    let mut builder = PackageBuilder::new(info("x"));
    builder.file(b"a", Acl::root(0o644), 0, b"good".to_vec()).unwrap();
    let package = builder.finish().unwrap().package;
    for (content, expected) in [
        (&b"good"[..], None),
        (
            b"evil",
            Some("content of a: its hash is not the one in the metadata"),
        ),
        (
            b"goo",
            Some("content of a: the metadata says 4 bytes, there are fewer"),
        ),
        (
            b"goods",
            Some("content of a: the metadata says 4 bytes, there are more"),
        ),
    ] {
        let mut contents = Contents::default();
        contents.files = vec![(0, 0, content.to_vec())];
        let result = write(&package, &mut contents, WriteOptions::default(), &[], io::sink());
        assert_eq!(result.err().map(|error| error.to_string()).as_deref(), expected);
    }
    let result = write(
        &package,
        &mut Contents::default(),
        WriteOptions::default(),
        &[],
        io::sink(),
    );
    assert_eq!(result.unwrap_err().to_string(), "cannot read the content of a");
}

#[test]
fn hard_links_have_their_content_at_the_first_name() {
    let mut builder = PackageBuilder::new(info("x"));
    builder
        .file(b"usr/z", Acl::root(0o755), 9, b"content".to_vec())
        .unwrap();
    builder.hard_link(b"usr/m", b"usr/z").unwrap();
    builder.hard_link(b"a", b"usr/m").unwrap();
    let error = builder.hard_link(b"b", b"nowhere").unwrap_err();
    assert!(
        error
            .to_string()
            .contains("hard link to nowhere, which was not given before"),
        "{error}"
    );
    let mut bytes = Vec::new();
    builder
        .finish()
        .unwrap()
        .write(WriteOptions::default(), &[], &mut bytes)
        .unwrap();
    let mut contents = Contents::default();
    let package = read(&bytes, &KeyRing::new(), &untrusted(), &mut contents)
        .unwrap()
        .package;
    assert_eq!(package.info.installed_size, 7);
    assert_eq!(contents.files, [(0, 0, b"content".to_vec())]);
    for (directory, file) in [(1, 0), (1, 1)] {
        let link = &package.paths[directory].files[file];
        assert_eq!(
            link.kind,
            FileKind::HardLink {
                target: b"a".to_vec()
            }
        );
        assert_eq!((link.acl.mode, link.mtime, link.size), (0o755, 9, 7));
    }
}

#[test]
fn sizes_that_mark_metapackages() {
    let size = |builder: PackageBuilder| builder.finish().unwrap().package.info.installed_size;
    assert_eq!(size(PackageBuilder::new(info("x"))), 0);
    let mut with_script = PackageBuilder::new(info("x"));
    with_script.script(ScriptKind::PostInstall, "#!/bin/sh\n");
    assert_eq!(size(with_script), 1);
    let mut with_directory = PackageBuilder::new(info("x"));
    with_directory.directory(b"", Acl::root(0o755)).unwrap();
    assert_eq!(size(with_directory), 1);
}

#[test]
fn the_builder_refuses_bad_paths() {
    for path in [&b"../x"[..], b"a//b", b"a/", b"", b"/", b"a\nb", b"a/./b", b"//a"] {
        let mut builder = PackageBuilder::new(info("x"));
        let result = builder.file(path, Acl::root(0o644), 0, Vec::new());
        assert!(
            matches!(result, Err(PackageError::Build(_))),
            "{}",
            path.escape_ascii()
        );
    }
    for (major, minor) in [(4096, 0), (0, 1 << 20)] {
        let mut builder = PackageBuilder::new(info("x"));
        let device = FileKind::BlockDevice { major, minor };
        builder.node(b"dev", Acl::root(0o600), 0, device).unwrap();
        let error = builder.finish().map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("the limit is 4095:1048575"), "{error}");
    }
    let mut builder = PackageBuilder::new(info("x"));
    builder.file(b"a", Acl::root(0o644), 0, Vec::new()).unwrap();
    assert!(builder.file(b"/a", Acl::root(0o644), 0, Vec::new()).is_err());
    builder.file(b"a/b", Acl::root(0o644), 0, Vec::new()).unwrap();
    assert!(
        builder
            .finish()
            .unwrap_err()
            .to_string()
            .contains("a directory of the package too")
    );
}

fn entry(name: &str, version: &str, byte: u8) -> PackageInfo {
    PackageInfo {
        version: version.into(),
        hashes: Some(Digest(vec![byte; 32])),
        depends: vec![Dependency {
            name: "so:x".into(),
            version: String::new(),
            op: Match::ANY,
            tag: None,
        }],
        installed_size: 5,
        file_size: 1 << 33,
        ..info(name)
    }
}

#[test]
fn indexes_are_sorted_and_round_trip() {
    let index = Index {
        description: "test".into(),
        packages: vec![
            entry("b", "1.10", 1),
            entry("b", "1.9", 2),
            entry("a", "2", 3),
            entry("B", "1", 4),
        ],
        pkgname_spec: Some("${name:2}/${name}-${version}.apk".into()),
    };
    let key = key(1);
    for (hash, length) in [(IndexHash::Sha256, 32), (IndexHash::Sha256_160, 20)] {
        for compression in [
            Compression::None,
            Compression::Deflate(None),
            Compression::Zstd(None),
        ] {
            let options = index::WriteOptions { compression, hash };
            let bytes = index.write(&options, std::slice::from_ref(&key)).unwrap();
            let back = Index::read(&bytes, &ring(&[&key]), Trust::Required).unwrap();
            let order: Vec<_> = back
                .packages
                .iter()
                .map(|i| (i.name.as_str(), i.version.as_str()))
                .collect();
            assert_eq!(order, [("B", "1"), ("a", "2"), ("b", "1.9"), ("b", "1.10")]);
            assert!(
                back.packages
                    .iter()
                    .all(|info| info.hashes.as_ref().unwrap().0.len() == length)
            );
            assert_eq!(back.write(&options, std::slice::from_ref(&key)).unwrap(), bytes);
            assert!(Index::read(&bytes, &KeyRing::new(), Trust::Required).is_err());
        }
    }
    let cut = index::WriteOptions {
        hash: IndexHash::Sha256_160,
        ..Default::default()
    };
    let short = Index::read(
        &index.write(&cut, &[]).unwrap(),
        &KeyRing::new(),
        Trust::AllowUntrusted,
    )
    .unwrap();
    let message = short
        .write(&index::WriteOptions::default(), &[])
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("an identity of 20 bytes cannot give one of 32"),
        "{message}"
    );
    let empty = Index::default();
    let bytes = empty.write(&cut, std::slice::from_ref(&key)).unwrap();
    assert_eq!(
        Index::read(&bytes, &ring(&[&key]), Trust::Required).unwrap(),
        empty
    );
}

#[test]
fn an_index_may_have_many_packages() {
    let index = Index {
        packages: (0..5000)
            .map(|n| entry(&format!("p{n:05}"), "1.2.3-r4", n as u8))
            .collect(),
        ..Index::default()
    };
    let bytes = index.write(&index::WriteOptions::default(), &[]).unwrap();
    assert_eq!(
        Index::read(&bytes, &KeyRing::new(), Trust::AllowUntrusted).unwrap(),
        index
    );
    let limits = Limits {
        entries: 6000,
        ..Limits::index()
    };
    let error = Index::read_within(&bytes, &KeyRing::new(), Trust::AllowUntrusted, &limits).unwrap_err();
    assert!(error.to_string().contains("beyond the limit of 6000"), "{error}");
}

#[test]
fn package_paths_by_spec() {
    let mut info = entry("plume", "1.2-r3", 0xab);
    for (spec, path) in [
        ("${name}-${version}.apk", "plume-1.2-r3.apk"),
        ("${arch}/${name}-${version}.apk", "x86_64/plume-1.2-r3.apk"),
        (
            "packages/${name:2}/${name}/${name}-${version}.${hash:8}.apk",
            "packages/pl/plume/plume-1.2-r3.abababab.apk",
        ),
        ("https://x.invalid/${name}.apk", "https://x.invalid/plume.apk"),
        ("${name:200}.apk", "plume.apk"),
    ] {
        assert_eq!(index::expand_spec(spec, &info).unwrap(), path);
    }
    for (spec, problem) in [
        ("../${name}.apk", "component"),
        ("a/../../${name}.apk", "component"),
        ("/etc/${name}", "component"),
        ("${name}/", "component"),
        ("a//b", "component"),
        ("${name", "has a ${ without }"),
        ("${evil}", "unknown variable"),
        ("${name:0}", "bad length"),
        ("${name:x}", "bad length"),
        ("a\\b", "contains"),
        ("a b", "contains"),
        ("://x", "is no URL"),
    ] {
        let message = index::expand_spec(spec, &info).unwrap_err().to_string();
        assert!(message.contains(problem), "{spec}: {message}");
    }
    // What a variable brings in cannot lead out either.
    info.version = "..".into();
    assert!(index::expand_spec("${version}/${name}", &info).is_err());
    info.version = "1/../../x".into();
    assert!(index::expand_spec("${name}-${version}", &info).is_err());
    info.hashes = None;
    assert!(index::expand_spec("${hash}", &info).is_err());
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Entry {
        File(Vec<u8>, u16),
        Symlink(Vec<u8>),
        Node(FileKind),
        Directory(u16),
        HardLink,
    }

    fn entries() -> impl Strategy<Value = Vec<(Vec<Vec<u8>>, Entry)>> {
        let component = prop_oneof![
            prop::sample::select(vec![
                b"usr".to_vec(),
                b"lib".to_vec(),
                b"a".to_vec(),
                b"b.so.1".to_vec()
            ]),
            prop::collection::vec(
                (0x20u8..0xff).prop_filter("no slash, DEL", |b| *b != b'/' && *b != 0x7f),
                1..12
            )
            .prop_filter("no dots", |name| name != b"." && name != b".."),
        ];
        let entry = prop_oneof![
            (prop::collection::vec(any::<u8>(), 0..3000), 0u16..0o10000).prop_map(|(c, m)| Entry::File(c, m)),
            prop::collection::vec(0x20u8..0x7f, 1..40).prop_map(Entry::Symlink),
            (0..=0xfffu32, 0..=0xf_ffffu32)
                .prop_map(|(major, minor)| Entry::Node(FileKind::CharDevice { major, minor })),
            (0..=0xfffu32, 0..=0xf_ffffu32)
                .prop_map(|(major, minor)| Entry::Node(FileKind::BlockDevice { major, minor })),
            Just(Entry::Node(FileKind::Fifo)),
            (0u16..0o10000).prop_map(Entry::Directory),
            Just(Entry::HardLink),
        ];
        prop::collection::vec((prop::collection::vec(component, 1..4), entry), 0..25)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        /// What was built is what is read, in every compression, and the same input gives the same bytes.
        #[test]
        fn packages_round_trip(
            entries in entries(),
            compression in prop::sample::select(vec![
                Compression::None, Compression::Deflate(None), Compression::Deflate(Some(1)),
                Compression::Zstd(None), Compression::Zstd(Some(3)),
            ]),
            description in "[^\\pC]{0,300}",
            build_time in any::<u64>(),
        ) {
            let make = || {
                let info = PackageInfo { description: description.clone(), build_time, ..info("random") };
                let mut builder = PackageBuilder::new(info);
                let mut first = None;
                for (path, entry) in &entries {
                    let path = path.join(&b'/');
                    // Paths that were given before are refused; the rest of the package is built all the same.
                    let result = match entry {
                        Entry::File(content, mode) => {
                            let result = builder.file(&path, Acl::root(*mode), 1, content.clone()).map(|_| ());
                            if result.is_ok() {
                                first.get_or_insert(path.clone());
                            }
                            result
                        }
                        Entry::Symlink(target) => builder.symlink(&path, target, 2).map(|_| ()),
                        Entry::Node(kind) => builder.node(&path, Acl::root(0o600), 3, kind.clone()).map(|_| ()),
                        Entry::Directory(mode) => builder.directory(&path, Acl::root(*mode)).map(|_| ()),
                        Entry::HardLink => match &first {
                            Some(first) if *first != path => builder.hard_link(&path, first).map(|_| ()),
                            _ => Ok(()),
                        },
                    };
                    drop(result);
                }
                builder.finish()
            };
            // A name may have become both a directory and a file, which is refused.
            let Ok(mut built) = make() else { return Ok(()) };
            let key = key(1);
            let options = WriteOptions { compression };
            let (mut bytes, mut again) = (Vec::new(), Vec::new());
            let identity = built.write(options, std::slice::from_ref(&key), &mut bytes).unwrap();
            make().unwrap().write(options, std::slice::from_ref(&key), &mut again).unwrap();
            prop_assert_eq!(&bytes, &again);
            let mut contents = Contents::default();
            let expect = Expect { identity: Some(&identity), ..Expect::default() };
            let mut back = read(&bytes, &ring(&[&key]), &expect, &mut contents).unwrap();
            back.package.info.hashes = None;
            prop_assert_eq!(&back.package, &built.package);
            let mut rewritten = Vec::new();
            let once_more = write(&back.package, &mut contents, options, &[key], &mut rewritten).unwrap();
            prop_assert_eq!(once_more, identity);
            prop_assert_eq!(rewritten, bytes);
        }

        /// A changed bit of a signed file is refused, or changes nothing that was read.
        #[test]
        fn changed_bits(bit in 0usize..8 * 3000, compression in prop::sample::select(vec![
            Compression::None, Compression::Deflate(None), Compression::Zstd(None),
        ])) {
            let mut builder = PackageBuilder::new(info("x"));
            builder.file(b"usr/x", Acl::root(0o644), 1, (0..1000u32).flat_map(u32::to_le_bytes).collect::<Vec<u8>>()).unwrap();
            let key = key(1);
            let mut built = builder.finish().unwrap();
            let mut bytes = Vec::new();
            built.write(WriteOptions { compression }, std::slice::from_ref(&key), &mut bytes).unwrap();
            let bit = bit % (bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(mut back) = read(&bytes, &ring(&[&key]), &Expect::default(), &mut Discard) {
                back.package.info.hashes = None;
                prop_assert_eq!(back.package, built.package);
            }
        }
    }
}
