//! Where the reference implementation is unsafe and this crate is not. Each test first makes what apk takes.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod v2_index;

use lycia_apk::adb::Compression;
use lycia_apk::database::{Database, InstalledPackage};
use lycia_apk::index::{self, Index, IndexHash};
use lycia_apk::install::{InstallError, Installation, Names, Unpacked};
use lycia_apk::keys::{KeyRing, SigningKey, rand_core};
use lycia_apk::metadata::{Acl, Digest, PackageInfo};
use lycia_apk::package::{
    self, Contents, Discard, Expect, PackageBuilder, PackageError, Trust, WriteOptions,
};
use lycia_tree::{Content, Follow, Metadata, Timestamp, Tree};

/// Numbers that are the same in every run.
struct Counter(u64);

impl rand_core::RngCore for Counter {
    fn next_u32(&mut self) -> u32 {
        self.next_u64() as u32
    }
    fn next_u64(&mut self) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        self.0 ^ self.0 >> 29
    }
    fn fill_bytes(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            chunk.copy_from_slice(&self.next_u64().to_le_bytes()[..chunk.len()]);
        }
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(out);
        Ok(())
    }
}

impl rand_core::CryptoRng for Counter {}

fn key() -> SigningKey {
    SigningKey::generate_ec("test", &mut Counter(1)).unwrap()
}

fn ring() -> KeyRing {
    let mut keys = KeyRing::new();
    keys.add_pem("test.pub", key().public_pem().unwrap().as_bytes())
        .unwrap();
    keys
}

fn info(name: &str, version: &str) -> PackageInfo {
    PackageInfo {
        name: name.into(),
        version: version.into(),
        arch: "x86_64".into(),
        ..PackageInfo::default()
    }
}

/// A signed package with one file.
fn package(name: &str, version: &str, path: &str, content: &str) -> Vec<u8> {
    let mut builder = PackageBuilder::new(info(name, version));
    builder
        .file(path.as_bytes(), Acl::root(0o644), 0, content.as_bytes().to_vec())
        .unwrap();
    let mut bytes = Vec::new();
    builder
        .finish()
        .unwrap()
        .write(WriteOptions::default(), &[key()], &mut bytes)
        .unwrap();
    bytes
}

fn unpack(bytes: &[u8]) -> Unpacked {
    let mut contents = Contents::default();
    let verified = package::read(bytes, &ring(), &Expect::default(), &mut contents).unwrap();
    Unpacked {
        entry: verified.package.info.clone(),
        package: verified.package,
        contents: contents
            .files
            .into_iter()
            .map(|(_, _, content)| Content::from(content))
            .collect(),
        ..Unpacked::default()
    }
}

/// apk does not compare 20-byte identities of v3 packages: a mirror may serve any other package that was ever
/// signed under the name that was asked for.
#[test]
fn a_mirror_cannot_serve_another_signed_package() {
    let (asked, other) = (
        package("tool", "2-r0", "usr/bin/tool", "new"),
        package("tool", "1-r0", "usr/bin/tool", "old"),
    );
    for hash in [IndexHash::Sha256_160, IndexHash::Sha256] {
        let entry = index::entry(&asked, &ring(), Trust::Required, hash).unwrap();
        let expect = Expect {
            info: Some(&entry),
            ..Expect::default()
        };
        package::read(&asked, &ring(), &expect, &mut Discard).unwrap();
        let error = package::read(&other, &ring(), &expect, &mut Discard).unwrap_err();
        assert!(matches!(error, PackageError::Identity { .. }), "{error}");
        // Even if the identity is not at hand, name and version are compared.
        let nameless = PackageInfo {
            hashes: None,
            ..entry
        };
        let expect = Expect {
            info: Some(&nameless),
            ..Expect::default()
        };
        let error = package::read(&other, &ring(), &expect, &mut Discard).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the package's version is \"1-r0\", its index entry says \"2-r0\""
        );
    }
}

/// apk follows links with plain system calls: one of an earlier package leads files of a later one out of the
/// root.
#[test]
fn a_link_never_leads_out_of_the_root() {
    let time = Timestamp::from_seconds(0);
    for target in ["../../../../outside", "/outside", "/../../outside"] {
        let mut builder = PackageBuilder::new(info("trap", "1-r0"));
        builder.symlink(b"usr/data", target.as_bytes(), 0).unwrap();
        builder.directory(b"outside", Acl::root(0o755)).unwrap();
        let mut trap = Vec::new();
        builder
            .finish()
            .unwrap()
            .write(WriteOptions::default(), &[key()], &mut trap)
            .unwrap();
        let mut tree = Tree::new(Metadata::new(0o755, time));
        let mut installation = Installation::new(&mut tree, time);
        installation.add(unpack(&trap)).unwrap();
        installation
            .add(unpack(&package("victim", "1-r0", "usr/data/file", "x")))
            .unwrap();
        installation.finish(&Names::default());
        assert_eq!(
            tree.canonical(b"usr/data/file", Follow::All).unwrap(),
            b"/outside/file",
            "{target}"
        );
    }
}

/// The database has no escapes: a line break in a text makes records of the attacker's choice, for apk.
#[test]
fn a_line_break_makes_no_record() {
    let evil = "harmless\nP:root-shell\nV:1";
    for change in [
        |info: &mut PackageInfo, evil: &str| info.description = evil.into(),
        |info: &mut PackageInfo, evil: &str| info.url = evil.into(),
        |info: &mut PackageInfo, evil: &str| info.license = evil.into(),
        |info: &mut PackageInfo, evil: &str| info.maintainer = evil.into(),
        |info: &mut PackageInfo, evil: &str| info.tags = vec![evil.into()],
        |info: &mut PackageInfo, evil: &str| info.arch = evil.into(),
    ] {
        let mut info = info("tool", "1-r0");
        info.hashes = Some(Digest(vec![1; 32]));
        change(&mut info, evil);
        // Neither an index nor a package with it can be made here, and it cannot enter the database.
        let index = Index {
            packages: vec![info.clone()],
            ..Index::default()
        };
        let error = index
            .write(&index::WriteOptions::default(), &[key()])
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("control character") || error.contains("no valid"),
            "{error}"
        );
        assert!(PackageBuilder::new(info.clone()).finish().is_err());
        let database = Database {
            packages: vec![InstalledPackage {
                info,
                ..InstalledPackage::default()
            }],
        };
        assert!(
            database
                .write_installed()
                .unwrap_err()
                .to_string()
                .contains("line break")
        );
    }
}

/// The same from files that nobody here wrote: a name or a text of which one byte is another in the file.
#[test]
fn a_line_break_in_a_file_is_refused() {
    type Change = fn(&mut PackageInfo, String);
    // What stands there in a sound file, and what in the evil one: as long, so that nothing else moves.
    let texts: [(&str, Change); 9] = [
        ("name", |info, text| info.name = text),
        ("description", |info, text| info.description = text),
        ("url", |info, text| info.url = text),
        ("license", |info, text| info.license = text),
        ("maintainer", |info, text| info.maintainer = text),
        ("origin", |info, text| info.origin = text),
        ("arch", |info, text| info.arch = text),
        ("tags", |info, text| info.tags = vec![text]),
        ("depends", |info, text| {
            info.depends = lycia_apk::dependency::parse_list(&text).unwrap();
        }),
    ];
    const SOUND: &str = "harmless.P.root-shell.V.1";
    let evil = |bytes: &[u8], control: u8| {
        let evil: Vec<u8> = SOUND
            .bytes()
            .zip(0..)
            .map(|(byte, at)| {
                if byte == b'.' && at % 2 == 0 {
                    control
                } else {
                    byte
                }
            })
            .collect();
        let places: Vec<usize> = (0..bytes.len() - SOUND.len())
            .filter(|at| bytes[*at..].starts_with(SOUND.as_bytes()))
            .collect();
        let [at] = places[..] else { panic!("{places:?}") };
        let mut bytes = bytes.to_vec();
        bytes[at..at + SOUND.len()].copy_from_slice(&evil);
        bytes
    };
    let trusting = Expect {
        trust: Trust::AllowUntrusted,
        ..Expect::default()
    };
    for (field, change) in texts {
        let mut info = info("tool", "1-r0");
        change(&mut info, SOUND.to_owned());
        let mut package = Vec::new();
        let mut builder = PackageBuilder::new(info.clone());
        builder
            .file(b"usr/bin/tool", Acl::root(0o755), 0, b"x".to_vec())
            .unwrap();
        let options = WriteOptions {
            compression: Compression::None,
        };
        builder
            .finish()
            .unwrap()
            .write(options, &[], &mut package)
            .unwrap();
        info.hashes = Some(Digest(vec![1; 32]));
        info.installed_size = 1;
        let index = Index {
            packages: vec![info],
            ..Index::default()
        };
        let options = index::WriteOptions {
            compression: Compression::None,
            ..index::WriteOptions::default()
        };
        let index = index.write(&options, &[]).unwrap();
        let keys = KeyRing::new();
        package::read(&package, &keys, &trusting, &mut Discard).unwrap();
        Index::read(&index, &keys, Trust::AllowUntrusted).unwrap();
        for control in [b'\n', b'\r', 0, 0x1b, 0x7f] {
            let of_package = package::read(&evil(&package, control), &keys, &trusting, &mut Discard);
            let of_index = Index::read(&evil(&index, control), &keys, Trust::AllowUntrusted);
            for error in [of_package.err(), of_index.err()] {
                let error = error
                    .unwrap_or_else(|| panic!("{field}, {control:#x}: taken"))
                    .to_string();
                assert!(
                    error.contains(field)
                        && (error.contains("control character") || error.contains("no valid")),
                    "{field}, {control:#x}: {error}"
                );
            }
        }
    }
    // v2 indexes are lines themselves; what is left are the other control characters, which terminals obey.
    let record = |control: char| {
        let mut info = info("tool", "1-r0");
        info.hashes = Some(Digest(vec![1; 20]));
        info.installed_size = 1;
        info.description = format!("harmless{control}P:root-shell");
        v2_index::of_records(&[v2_index::record(&info)])
    };
    Index::read(&record(' '), &KeyRing::new(), Trust::AllowUntrusted).unwrap();
    for control in ['\r', '\0', '\u{1b}', '\u{7f}', '\u{85}'] {
        let error = Index::read(&record(control), &KeyRing::new(), Trust::AllowUntrusted).unwrap_err();
        assert!(
            error.to_string().contains("control character"),
            "{control:?}: {error}"
        );
    }
}

/// apk skips a corrupt package, installs what needs it, and tells by its exit status only.
#[test]
fn a_corrupt_package_is_an_error() {
    let bytes = package("tool", "1-r0", "usr/bin/tool", &"content ".repeat(100));
    let mut damaged = 0;
    for at in (bytes.len() / 2..bytes.len()).step_by(7) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x10;
        let result = package::read(&bytes, &ring(), &Expect::default(), &mut Discard);
        damaged += usize::from(result.is_err());
    }
    assert!(damaged > 10, "{damaged}");
    for cut in 1..40 {
        let result = package::read(
            &bytes[..bytes.len() - cut],
            &ring(),
            &Expect::default(),
            &mut Discard,
        );
        assert!(result.is_err(), "{cut} bytes cut");
    }
}

/// apk warns of a clash, leaves the file out and notes the package as broken.
#[test]
fn a_clash_stops_with_both_owners() {
    let time = Timestamp::from_seconds(0);
    let mut tree = Tree::new(Metadata::new(0o755, time));
    let mut installation = Installation::new(&mut tree, time);
    installation
        .add(unpack(&package("first", "1-r0", "usr/bin/tool", "1")))
        .unwrap();
    let error = installation
        .add(unpack(&package("second", "1-r0", "usr/bin/tool", "2")))
        .unwrap_err();
    let InstallError::Clash { package, owner, path } = &error else {
        panic!("{error}")
    };
    assert_eq!(
        (package.as_str(), owner.as_str(), path.as_str()),
        ("second", "first", "usr/bin/tool")
    );
}

/// apk goes on without a repository whose index it cannot use.
#[test]
fn an_index_that_is_not_signed_by_a_trusted_key_is_an_error() {
    let index = Index::default()
        .write(&index::WriteOptions::default(), &[])
        .unwrap();
    let error = Index::read(&index, &ring(), Trust::Required).unwrap_err();
    assert_eq!(error.to_string(), "untrusted: the index is not signed");
    let stranger = SigningKey::generate_ec("stranger", &mut Counter(2)).unwrap();
    let index = Index::default()
        .write(&index::WriteOptions::default(), &[stranger])
        .unwrap();
    let error = Index::read(&index, &ring(), Trust::Required).unwrap_err();
    assert!(error.to_string().contains("none of the 1 signatures"), "{error}");
}

/// The order in which packages are told to an index does not show, and one that was written in another order by somebody
/// else is chosen from alike.
#[test]
fn an_index_is_the_same_whatever_the_order() {
    let mut infos: Vec<PackageInfo> = (0..40)
        .map(|number| PackageInfo {
            hashes: Some(Digest(vec![number as u8; 32])),
            installed_size: 1,
            provides: lycia_apk::dependency::parse_list("any").unwrap(),
            ..info(&format!("p{}", number % 13), &format!("{}-r0", number / 13))
        })
        .collect();
    let write = |infos: &[PackageInfo]| {
        let index = Index {
            packages: infos.to_vec(),
            ..Index::default()
        };
        index.write(&index::WriteOptions::default(), &[]).unwrap()
    };
    let choose = |packages: Vec<PackageInfo>| {
        let mut universe = lycia_apk::solver::UniverseBuilder::new(["x86_64"]);
        universe.repository([None], packages).unwrap();
        let universe = universe.finish().unwrap();
        let world = lycia_apk::dependency::parse_world("any p3 p7<2").unwrap();
        let chosen = lycia_apk::solver::select(&universe, &world).unwrap();
        let names = chosen.iter().map(|chosen| universe.info(chosen.package));
        names
            .map(|info| format!("{} {}", info.name, info.version))
            .collect::<Vec<_>>()
    };
    let read = |bytes: &[u8]| {
        let index = Index::read(bytes, &KeyRing::new(), Trust::AllowUntrusted).unwrap();
        choose(index.packages)
    };
    let first = write(&infos);
    let chosen = read(&first);
    let mut numbers = Counter(3);
    for _ in 0..20 {
        for at in (1..infos.len()).rev() {
            let other = (rand_core::RngCore::next_u64(&mut numbers) % (at as u64 + 1)) as usize;
            infos.swap(at, other);
        }
        assert_eq!(write(&infos), first);
        // Not sorted by any writer.
        assert_eq!(choose(infos.clone()), chosen);
        let records: Vec<String> = infos.iter().map(v2_index::record).collect();
        assert_eq!(read(&v2_index::of_records(&records)), chosen);
    }
}
