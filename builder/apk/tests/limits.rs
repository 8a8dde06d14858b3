//! Every bound, passed: the message names it.

#![allow(clippy::unwrap_used)] // a test ends at the first surprise

mod v2_index;

use lycia_apk::adb::{Compression, validate_info, validate_package, validate_path};
use lycia_apk::dependency::{parse, parse_world};
use lycia_apk::index::{self, Index};
use lycia_apk::keys::KeyRing;
use lycia_apk::limits::{self, Limits};
use lycia_apk::metadata::{Acl, DirEntry, FileEntry, FileKind, Package, PackageInfo, ScriptKind};
use lycia_apk::package::{self, Discard, Expect, PackageBuilder, Trust, WriteOptions};
use lycia_apk::repositories::Repositories;
use lycia_apk::solver::{MAX_REPOSITORIES, MAX_TAGS, SolveError, UniverseBuilder};

/// What is said of something one beyond a bound, and the bound.
type Case = (&'static str, String, u64);

fn long(length: usize) -> String {
    "a".repeat(length + 1)
}

fn info() -> PackageInfo {
    PackageInfo {
        name: "name".into(),
        version: "1".into(),
        installed_size: 1,
        ..PackageInfo::default()
    }
}

/// Of an info object with one thing changed.
fn of_info(what: &'static str, limit: usize, change: impl FnOnce(&mut PackageInfo)) -> Case {
    let mut info = info();
    validate_info(&info).unwrap();
    change(&mut info);
    (what, validate_info(&info).unwrap_err().to_string(), limit as u64)
}

/// Of a package with one thing changed.
fn of_package(what: &'static str, limit: usize, change: impl FnOnce(&mut Package)) -> Case {
    let mut package = Package {
        info: info(),
        paths: vec![DirEntry {
            path: Vec::new(),
            acl: Acl::root(0o755),
            files: vec![FileEntry {
                name: b"file".to_vec(),
                acl: Acl::root(0o644),
                size: 0,
                mtime: 0,
                kind: FileKind::Fifo,
            }],
        }],
        ..Package::default()
    };
    validate_package(&package).unwrap();
    change(&mut package);
    (
        what,
        validate_package(&package).unwrap_err().to_string(),
        limit as u64,
    )
}

fn file(package: &mut Package) -> &mut FileEntry {
    &mut package.paths[0].files[0]
}

fn metadata() -> Vec<Case> {
    let zeros = |length: usize| format!("1.{}", "0".repeat(length - 1));
    vec![
        of_info("package name", limits::PACKAGE_NAME_MAX, |info| {
            info.name = long(limits::PACKAGE_NAME_MAX);
        }),
        of_info("version", limits::PACKAGE_NAME_MAX, |info| {
            info.version = zeros(limits::PACKAGE_NAME_MAX);
        }),
        of_info("architecture", limits::PACKAGE_NAME_MAX, |info| {
            info.arch = long(limits::PACKAGE_NAME_MAX);
        }),
        of_info("text", limits::TEXT_MAX, |info| {
            info.description = long(limits::TEXT_MAX)
        }),
        of_info("tag", limits::DEPENDENCY_NAME_MAX, |info| {
            info.tags = vec![long(limits::DEPENDENCY_NAME_MAX)];
        }),
        of_info("dependency", limits::DEPENDENCY_NAME_MAX, |info| {
            let mut dependency = parse("x").unwrap();
            dependency.name = long(limits::DEPENDENCY_NAME_MAX);
            info.depends = vec![dependency];
        }),
        of_info("version of a dependency", limits::DEPENDENCY_NAME_MAX, |info| {
            let mut dependency = parse("x=1").unwrap();
            dependency.version = zeros(limits::DEPENDENCY_NAME_MAX);
            info.depends = vec![dependency];
        }),
        of_package("file name", limits::NAME_MAX, |package| {
            file(package).name = long(limits::NAME_MAX).into_bytes();
        }),
        of_package("link target", limits::PATH_MAX, |package| {
            file(package).kind = FileKind::Symlink {
                target: long(limits::PATH_MAX).into_bytes(),
            };
        }),
        of_package("user", limits::OWNER_MAX, |package| {
            file(package).acl.user = long(limits::OWNER_MAX);
        }),
        of_package("group", limits::OWNER_MAX, |package| {
            file(package).acl.group = long(limits::OWNER_MAX);
        }),
        of_package("attribute name", limits::NAME_MAX, |package| {
            file(package).acl.xattrs = vec![(long(limits::NAME_MAX).into_bytes(), vec![1])];
        }),
        of_package("attribute", limits::XATTR_MAX, |package| {
            file(package).acl.xattrs = vec![(b"user.a".to_vec(), vec![0; limits::XATTR_MAX])];
        }),
        of_package("major number", limits::DEVICE_MAJOR_MAX as usize, |package| {
            let major = limits::DEVICE_MAJOR_MAX + 1;
            file(package).kind = FileKind::CharDevice { major, minor: 0 };
        }),
        of_package("minor number", limits::DEVICE_MINOR_MAX as usize, |package| {
            let minor = limits::DEVICE_MINOR_MAX + 1;
            file(package).kind = FileKind::BlockDevice { major: 0, minor };
        }),
        of_package("script", limits::SCRIPT_MAX, |package| {
            package.scripts = vec![(ScriptKind::Trigger, vec![b'x'; limits::SCRIPT_MAX + 1])];
        }),
        of_package("trigger", limits::PATH_MAX, |package| {
            package.triggers = vec![long(limits::PATH_MAX)];
        }),
        (
            "path",
            validate_path("a/".repeat(limits::PATH_MAX).as_bytes())
                .unwrap_err()
                .to_string(),
            limits::PATH_MAX as u64,
        ),
        (
            "description of an index",
            Index {
                description: long(limits::TEXT_MAX),
                ..Index::default()
            }
            .write(&Default::default(), &[])
            .unwrap_err()
            .to_string(),
            limits::TEXT_MAX as u64,
        ),
        (
            "pkgname-spec",
            Index {
                pkgname_spec: Some(long(limits::PATH_MAX)),
                ..Index::default()
            }
            .write(&Default::default(), &[])
            .unwrap_err()
            .to_string(),
            limits::PATH_MAX as u64,
        ),
    ]
}

/// A package of two files of 1000 bytes, and an index of two packages, read within narrower bounds.
fn readers() -> Vec<Case> {
    let build = |name: &str, compression| {
        let mut builder = PackageBuilder::new(PackageInfo {
            name: name.into(),
            ..info()
        });
        for path in ["usr/a", "usr/b"] {
            builder
                .file(path.as_bytes(), Acl::root(0o644), 0, vec![0; 1000])
                .unwrap();
        }
        let mut bytes = Vec::new();
        builder
            .finish()
            .unwrap()
            .write(WriteOptions { compression }, &[], &mut bytes)
            .unwrap();
        bytes
    };
    let sound = build("one", Compression::None);
    let small = build("one", Compression::Deflate(None));
    let entries = ["one", "two"].map(|name| {
        let bytes = build(name, Compression::None);
        index::entry(&bytes, &KeyRing::new(), Trust::AllowUntrusted, Default::default()).unwrap()
    });
    let v3 = Index {
        packages: entries.to_vec(),
        ..Index::default()
    };
    let v3 = v3.write(&Default::default(), &[]).unwrap();
    let v2 = v2_index::of_records(&entries.each_ref().map(v2_index::record));
    let package = |bytes: &[u8], limits: &Limits| {
        let expect = Expect {
            trust: Trust::AllowUntrusted,
            limits: Some(limits),
            ..Expect::default()
        };
        package::read(bytes, &KeyRing::new(), &expect, &mut Discard).map(drop)
    };
    let index = |bytes: &[u8], limits: &Limits| {
        Index::read_within(bytes, &KeyRing::new(), Trust::AllowUntrusted, limits).map(drop)
    };
    type Reader<'r> = &'r dyn Fn(&[u8], &Limits) -> Result<(), package::PackageError>;
    type Narrow = fn(&mut Limits);
    let cases: [(&'static str, Reader<'_>, &[u8], Narrow, u64); 10] = [
        (
            "metadata of a package",
            &package,
            &sound,
            |limits| limits.package_metadata = 61,
            61,
        ),
        ("elements", &package, &sound, |limits| limits.entries = 1, 1),
        ("decoded", &package, &sound, |limits| limits.decoded = 83, 83),
        ("contents", &package, &sound, |limits| limits.content = 1999, 1999),
        (
            "expansion",
            &package,
            &small,
            |limits| (limits.expansion_floor, limits.expansion_ratio) = (100, 2),
            2,
        ),
        (
            "metadata of an index",
            &index,
            &v3,
            |limits| limits.index_metadata = 61,
            61,
        ),
        (
            "elements of an index",
            &index,
            &v3,
            |limits| limits.entries = 1,
            1,
        ),
        (
            "text of a v2 index",
            &index,
            &v2,
            |limits| limits.index_metadata = 61,
            61,
        ),
        ("lines of a v2 index", &index, &v2, |limits| limits.entries = 3, 3),
        (
            "expansion of a v2 index",
            &index,
            &v2,
            |limits| (limits.expansion_floor, limits.expansion_ratio) = (100, 2),
            2,
        ),
    ];
    let mut said = Vec::new();
    for (what, read, bytes, narrow, limit) in cases {
        let mut limits = Limits::index();
        read(bytes, &limits).unwrap();
        narrow(&mut limits);
        said.push((what, read(bytes, &limits).unwrap_err().to_string(), limit));
    }
    said
}

fn solver() -> Vec<Case> {
    let record = |depends: usize, provides: usize| PackageInfo {
        depends: parse_world(&(0..depends).map(|n| format!("d{n} ")).collect::<String>()).unwrap(),
        provides: (0..provides).map(|n| parse(&format!("n{n}")).unwrap()).collect(),
        ..info()
    };
    let mut relations = UniverseBuilder::new(["x86_64"]);
    relations.repository([None], [record(20_000, 20_000)]).unwrap();
    let mut repositories = UniverseBuilder::new(["x86_64"]);
    let mut tags = UniverseBuilder::new(["x86_64"]);
    let too_many_repositories = (0..=MAX_REPOSITORIES)
        .find_map(|_| repositories.repository([None], []).err())
        .unwrap();
    let names: Vec<String> = (0..=MAX_TAGS).map(|number| format!("t{number}")).collect();
    let too_many_tags = tags
        .repository(names.iter().map(|name| Some(name.as_str())), [])
        .unwrap_err();
    let mut configured = Repositories::new("x86_64");
    let lines: String = (0..=MAX_REPOSITORIES)
        .map(|number| format!("v3 /{number}\n"))
        .collect();
    let doubled: String = (0..14)
        .map(|number| format!("set A{}=${{A{number}}}${{A{number}}}\n", number + 1))
        .collect();
    vec![
        (
            "relations",
            relations.finish().err().unwrap().to_string(),
            1 << 24,
        ),
        (
            "repositories",
            too_many_repositories.to_string(),
            MAX_REPOSITORIES as u64,
        ),
        ("tags", too_many_tags.to_string(), MAX_TAGS as u64),
        (
            "configured repositories",
            configured.add_file("file", &lines).unwrap_err().to_string(),
            MAX_REPOSITORIES as u64,
        ),
        (
            "replaced variables",
            Repositories::new("x86_64")
                .add_file("file", &format!("set A0=x\n{doubled}"))
                .unwrap_err()
                .to_string(),
            4095,
        ),
        ("steps of the solver", SolveError::GaveUp.to_string(), 1 << 28),
    ]
}

#[test]
fn every_message_names_its_bound() {
    for (what, said, limit) in [metadata(), readers(), solver()].concat() {
        let numbers: Vec<u64> = said
            .split(|letter: char| !letter.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect();
        assert!(numbers.contains(&limit), "{what}: no {limit} in: {said}");
    }
}
