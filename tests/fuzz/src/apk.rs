//! apk: packages, indexes, versions, dependencies, repositories files, databases, keys.

use lycia_apk::adb::Compression;
use lycia_apk::database::Database;
use lycia_apk::dependency;
use lycia_apk::index::{Index, IndexHash, WriteOptions as IndexOptions, entry};
use lycia_apk::keys::KeyRing;
use lycia_apk::metadata::{Acl, PackageInfo, ScriptKind};
use lycia_apk::package::{self, Discard, Expect, PackageBuilder, Trust, WriteOptions};
use lycia_apk::repositories::Repositories;
use lycia_apk::version;

use crate::{Target, texts};

pub const TARGETS: &[Target] = &[
    Target {
        name: "apk-package",
        run: package,
        seeds: packages,
    },
    Target {
        name: "apk-index",
        run: index,
        seeds: indexes,
    },
    Target {
        name: "apk-package-values",
        run: |payload| package::inspect(&container(b"pckg", payload)).is_ok(),
        seeds: || packages().iter().filter_map(|bytes| payload(bytes)).collect(),
    },
    Target {
        name: "apk-index-values",
        run: |payload| index(&container(b"indx", payload)),
        seeds: || indexes().iter().filter_map(|bytes| payload(bytes)).collect(),
    },
    Target {
        name: "apk-v2-control",
        run: |control| package(&crate::apk_v2::package_of(control)),
        seeds: || vec![crate::apk_v2::control()],
    },
    Target {
        name: "apk-v2-data",
        run: |data| package(&crate::apk_v2::package_with(data)),
        seeds: || vec![crate::apk_v2::data()],
    },
    Target {
        name: "apk-v2-index",
        run: |text| index(&crate::apk_v2::index_of(text)),
        seeds: || texts(&[crate::apk_v2::RECORDS]),
    },
    Target {
        name: "apk-version",
        run: versions,
        seeds: || {
            texts(&[
                "1.2.3-r0\n1.2.3-r1",
                "1.0_alpha2\n1.0_beta",
                "0.1.0_git20240101-r5\n0.1.0~deadbeef-r1",
                "1.2a\n1.02b_p4-r09",
            ])
        },
    },
    Target {
        name: "apk-dependency",
        run: dependencies,
        seeds: || {
            texts(&[
                "musl>=1.2.5",
                "!so:libc.so=1.2 cmd:sh~1 a@edge",
                "pc:zlib<2 x><Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
            ])
        },
    },
    Target {
        name: "apk-repositories",
        run: |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let mut repositories = Repositories::new("x86_64");
            repositories.add_file("repositories", &text).is_ok()
        },
        seeds: || {
            texts(&[
                "# comment\nhttps://example.org/current/main\n@edge http://example.org/edge main community\n",
                "set mirror=https://example.org\nv3 ${mirror}/current main user\nndx /srv/APKINDEX.tar.gz\n",
            ])
        },
    },
    Target {
        name: "apk-database",
        run: database,
        seeds: databases,
    },
    Target {
        name: "apk-key",
        run: |bytes| KeyRing::new().add_pem("key.pub", bytes).is_ok(),
        seeds: || vec![KEY.as_bytes().to_vec()],
    },
];

/// A public key of 2048 bits, of which no one has the other half any more: `openssl genrsa 2048 | openssl rsa -pubout`.
const KEY: &str = include_str!("key.pub");

fn info(name: &str) -> PackageInfo {
    PackageInfo {
        name: name.into(),
        version: "1.2.3-r4".into(),
        description: "a seed".into(),
        arch: "x86_64".into(),
        license: "MIT".into(),
        origin: "seed".into(),
        url: "https://example.org".into(),
        repo_commit: vec![7; 20],
        build_time: 1_600_000_000,
        depends: dependency::parse_list("musl>=1.2 !other cmd:sh~1").unwrap_or_default(),
        provides: dependency::parse_list("so:libseed.so.1=1.2.3 cmd:seed=1.2.3-r4").unwrap_or_default(),
        install_if: dependency::parse_list("docs seed=1.2.3-r4").unwrap_or_default(),
        ..PackageInfo::default()
    }
}

fn written(name: &str, compression: Compression) -> Option<Vec<u8>> {
    let time = 1_600_000_000;
    let mut builder = PackageBuilder::new(info(name));
    let mut acl = Acl::root(0o755);
    acl.xattrs.push((b"user.seed".to_vec(), b"value".to_vec()));
    builder.directory(b"usr/lib/seed", acl).ok()?;
    builder
        .file(
            b"usr/bin/seed",
            Acl::root(0o755),
            time,
            b"#!/bin/sh\necho seed\n".to_vec(),
        )
        .ok()?;
    builder
        .file(b"usr/lib/seed/zeros", Acl::root(0o644), time, vec![0; 3000])
        .ok()?;
    builder
        .hard_link(b"usr/lib/seed/zeros-too", b"usr/lib/seed/zeros")
        .ok()?;
    builder.symlink(b"usr/bin/seedling", b"seed", time).ok()?;
    builder.script(ScriptKind::Trigger, b"#!/bin/sh\nexit 0\n".to_vec());
    builder.trigger("/usr/lib/seed/*");
    let mut bytes = Vec::new();
    let mut built = builder.finish().ok()?;
    built.write(WriteOptions { compression }, &[], &mut bytes).ok()?;
    Some(bytes)
}

fn packages() -> Vec<Vec<u8>> {
    [
        Compression::None,
        Compression::Deflate(None),
        Compression::Zstd(None),
    ]
    .into_iter()
    .filter_map(|compression| written("seed", compression))
    .chain(crate::apk_v2::packages())
    .collect()
}

fn indexes() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (hash, compression) in [
        (IndexHash::Sha256, Compression::None),
        (IndexHash::Sha256_160, Compression::None),
        (IndexHash::Sha256, Compression::Deflate(Some(6))),
    ] {
        let packages: Vec<PackageInfo> = ["seed", "seed-doc"]
            .into_iter()
            .filter_map(|name| {
                let bytes = written(name, Compression::None)?;
                entry(&bytes, &KeyRing::new(), Trust::AllowUntrusted, hash).ok()
            })
            .collect();
        let index = Index {
            description: "seeds".into(),
            packages,
            ..Index::default()
        };
        seeds.extend(index.write(&IndexOptions { compression, hash }, &[]).ok());
    }
    seeds.extend(crate::apk_v2::indexes());
    seeds
}

/// The value area of a plain container: what hashes and compression else keep changes from.
fn payload(container: &[u8]) -> Option<Vec<u8>> {
    let header = container.strip_prefix(b"ADB.")?.get(4..8)?;
    let length = (u32::from_le_bytes(header.try_into().ok()?) & 0x3fff_ffff) as usize;
    Some(container.get(12..8 + length)?.to_vec())
}

/// A plain container of a value area (apk-v3(5), "ADB container").
fn container(schema: &[u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"ADB.".to_vec();
    bytes.extend_from_slice(schema);
    bytes.extend_from_slice(&((payload.len() as u32 + 4) & 0x3fff_ffff).to_le_bytes());
    bytes.extend_from_slice(payload);
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

fn package(bytes: &[u8]) -> bool {
    // What is shown of a package without trust, and the whole way with all contents.
    let shown = package::inspect(bytes);
    let expect = Expect {
        trust: Trust::AllowUntrusted,
        ..Expect::default()
    };
    let read = package::read(bytes, &KeyRing::new(), &expect, &mut Discard);
    if let Ok(verified) = &read {
        assert_eq!(
            shown.map(|shown| shown.package).ok().as_ref(),
            Some(&verified.package),
            "two ways of reading differ"
        );
    }
    let _ = package::identity(bytes);
    read.is_ok()
}

fn index(bytes: &[u8]) -> bool {
    let Ok(index) = Index::read(bytes, &KeyRing::new(), Trust::AllowUntrusted) else {
        return false;
    };
    if let Ok(again) = index.write(&IndexOptions::default(), &[]) {
        let read = Index::read(&again, &KeyRing::new(), Trust::AllowUntrusted);
        assert_eq!(
            read.map(|read| read.packages.len()).ok(),
            Some(index.packages.len()),
            "what was written is not read"
        );
    }
    true
}

fn versions(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let (a, b) = text.split_once('\n').unwrap_or((&text, "1"));
    let order = version::compare(a, b);
    assert_eq!(order, version::compare(b, a).reverse(), "{a:?} {b:?}");
    let _ = version::has_prefix(a, b);
    version::is_valid(a) && version::is_valid(b)
}

fn dependencies(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let _ = dependency::parse_identity(&text);
    let _ = dependency::parse_list(&text);
    let Ok(world) = dependency::parse_world(&text) else {
        return false;
    };
    let shown: Vec<String> = world.iter().map(ToString::to_string).collect();
    let again = dependency::parse_world(&shown.join(" "));
    assert_eq!(again.as_ref(), Ok(&world), "{text:?}");
    true
}

fn database(bytes: &[u8]) -> bool {
    // `installed` and `triggers` in one input, at a line of three dashes.
    let at = bytes.windows(5).position(|five| five == b"\n---\n");
    let (installed, triggers) = match at {
        Some(at) => (&bytes[..=at], &bytes[at + 5..]),
        None => (bytes, &[][..]),
    };
    let _ = Database::read(b"", b"", bytes);
    let Ok(database) = Database::read(installed, triggers, b"") else {
        return false;
    };
    // apk's form has no place for some lines of a package without directories: what counts is that nothing
    // changes any more once it was written.
    if let Ok(text) = database.write_installed() {
        let again = Database::read(&text, &database.write_triggers(), b"");
        let again = again.map(|again| again.write_installed().map_err(|error| error.to_string()));
        assert_eq!(again.map_err(|error| error.to_string()), Ok(Ok(text)));
    }
    true
}

fn databases() -> Vec<Vec<u8>> {
    texts(&[
        "C:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nP:seed\nV:1.2.3-r4\nA:x86_64\nS:100\nI:200\nT:a seed\nU:\nL:MIT\no:seed\n\
         t:1600000000\nD:musl>=1.2\np:cmd:seed=1\nF:usr\nF:usr/bin\nR:seed\na:0:0:755\n\
         Z:Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA=\nF:var\nM:0:0:700\n\n\
         \n---\nQ1AAAAAAAAAAAAAAAAAAAAAAAAAAA= /usr/bin/*\n",
    ])
}
