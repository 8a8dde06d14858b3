//! Where the reference implementation is unsafe and this crate is not. Each test first makes what apk takes.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

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

/// The order in which packages are told to an index does not show, so that it cannot change what is chosen.
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
    let choose = |bytes: &[u8]| {
        let index = Index::read(bytes, &KeyRing::new(), Trust::AllowUntrusted).unwrap();
        let mut universe = lycia_apk::solver::UniverseBuilder::new(["x86_64"]);
        universe.repository([None], index.packages).unwrap();
        let universe = universe.finish().unwrap();
        let world = lycia_apk::dependency::parse_world("any p3 p7<2").unwrap();
        let chosen = lycia_apk::solver::select(&universe, &world).unwrap();
        let names = chosen.iter().map(|chosen| universe.info(chosen.package));
        names
            .map(|info| format!("{} {}", info.name, info.version))
            .collect::<Vec<_>>()
    };
    let first = write(&infos);
    let chosen = choose(&first);
    let mut numbers = Counter(3);
    for _ in 0..20 {
        for at in (1..infos.len()).rev() {
            let other = (rand_core::RngCore::next_u64(&mut numbers) % (at as u64 + 1)) as usize;
            infos.swap(at, other);
        }
        let again = write(&infos);
        assert_eq!(again, first);
        assert_eq!(choose(&again), chosen);
    }
}
