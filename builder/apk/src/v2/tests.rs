//! v2 files made here, whole and damaged.

#![allow(clippy::unwrap_used)]

use std::io::Write as _;

use rsa::pkcs1v15;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use sha1::Digest as _;

use crate::index::Index;
use crate::keys::KeyRing;
use crate::limits::Limits;
use crate::metadata::FileKind;
use crate::package::{self, Contents, Expect, Format, PackageError, Trust};

const KEY: &str = "test.rsa.pub";

fn key() -> &'static rsa::RsaPrivateKey {
    static KEY: std::sync::OnceLock<rsa::RsaPrivateKey> = std::sync::OnceLock::new();
    KEY.get_or_init(package::tests::rsa_key)
}

fn keys() -> KeyRing {
    use rsa::pkcs8::EncodePublicKey as _;
    let pem = key()
        .to_public_key()
        .to_public_key_pem(rsa::pkcs8::LineEnding::LF)
        .unwrap();
    let mut keys = KeyRing::new();
    keys.add_pem(KEY, pem.as_bytes()).unwrap();
    keys
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn header(name: &str, kind: u8, mode: u32, size: usize, link: &str) -> Vec<u8> {
    let mut head = vec![0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{size:011o}\0").as_bytes());
    put(136, b"14524770400\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(265, b"root");
    put(297, b"root");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head
}

fn padded(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

/// A pax header with other bytes at a place.
fn patched(at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut head = header("pax", b'x', 0o644, 0, "");
    head[at..at + bytes.len()].copy_from_slice(bytes);
    summed(head)
}

/// A device whose major number has more bits than Linux has for it.
fn great_device() -> Vec<u8> {
    let mut head = header("null", b'3', 0o644, 0, "");
    head[329..337].copy_from_slice(b"0010000\0");
    summed(head)
}

fn summed(mut head: Vec<u8>) -> Vec<u8> {
    head[148..156].copy_from_slice(b"        ");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head
}

fn entry(name: &str, content: &[u8]) -> Vec<u8> {
    [
        header(name, b'0', 0o644, content.len(), ""),
        padded(content.to_vec()),
    ]
    .concat()
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut text = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        text.extend_from_slice(format!("{length} {key}=").as_bytes());
        text.extend_from_slice(value);
        text.push(b'\n');
    }
    [header("pax", b'x', 0o644, text.len(), ""), padded(text)].concat()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A regular file as abuild writes it.
fn file(name: &str, content: &[u8]) -> Vec<u8> {
    let sum = hex(&sha1::Sha1::digest(content));
    [
        pax(&[("APK-TOOLS.checksum.SHA1", sum.as_bytes())]),
        entry(name, content),
    ]
    .concat()
}

fn directory(name: &str) -> Vec<u8> {
    header(&format!("{name}/"), b'5', 0o755, 0, "")
}

fn signature(message: &[u8]) -> Vec<u8> {
    let signature = pkcs1v15::SigningKey::<sha2::Sha256>::new(key().clone()).sign(message);
    gzip(&entry(&format!(".SIGN.RSA256.{KEY}"), &signature.to_vec()))
}

/// Signatures, control and data put together; `more` are further lines of `.PKGINFO`.
fn package(data: &[u8], more: &str, scripts: &[u8]) -> Vec<u8> {
    package_for("x86_64", data, more, scripts)
}

fn package_for(arch: &str, data: &[u8], more: &str, scripts: &[u8]) -> Vec<u8> {
    let data = gzip(&[data, &[0; 1024]].concat());
    let info = format!(
        "# test\npkgname = wren\npkgver = 1.0-r0\nsize = 5\narch = {arch}\norigin = wren\n{more}datahash = {}\n",
        hex(&sha2::Sha256::digest(&data))
    );
    let control = gzip(&[&entry(".PKGINFO", info.as_bytes()), scripts].concat());
    [signature(&control), control, data].concat()
}

fn tree() -> Vec<u8> {
    [
        directory("usr"),
        directory("usr/share"),
        file("usr/share/z", b"last"),
        directory("usr/bin"),
        file("usr/bin/wren", b"wren\n"),
        header("usr/bin/wrenlet", b'1', 0o755, 0, "usr/bin/wren"),
        header("usr/bin/sh", b'2', 0o777, 0, "wren"),
        file("usr/share/a", b"interleaved"),
        header("usr/null", b'3', 0o666, 0, ""),
        [
            pax(&[
                (
                    "APK-TOOLS.checksum.SHA1",
                    hex(&sha1::Sha1::digest(b"x")).as_bytes(),
                ),
                ("SCHILY.xattr.user.a", b"\0\n="),
            ]),
            entry("usr/with", b"x"),
        ]
        .concat(),
    ]
    .concat()
}

fn read(bytes: &[u8]) -> Result<(package::Verified, Contents), PackageError> {
    let mut contents = Contents::default();
    let verified = package::read(bytes, &keys(), &Expect::default(), &mut contents)?;
    Ok((verified, contents))
}

#[test]
fn a_package_reads_with_everything_in_it() {
    let more = "depend = so:a>=1 !b\ndepend = c\nprovides = cmd:wren=1.0-r0\ntriggers = /usr/lib/*  +/x\n\
                replaces = old\nreplaces_priority = 4\nprovider_priority = 7\ncommit = 00ff-dirty\n";
    let more = more.replace("00ff", &"ab".repeat(20));
    let bytes = package(&tree(), &more, &entry(".post-install", b"#!/bin/sh\n"));
    let (verified, contents) = read(&bytes).unwrap();
    let package = &verified.package;
    assert_eq!(verified.format, Format::V2);
    assert_eq!(verified.signed_by.as_deref(), Some(KEY));
    assert_eq!(verified.identity, package::identity(&bytes).unwrap());
    assert_eq!(package.info.depends.len(), 3);
    assert_eq!(package.triggers, ["/usr/lib/*", "+/x"]);
    assert_eq!(
        (package.replaces_priority, package.info.provider_priority),
        (4, 7)
    );
    assert_eq!(package.scripts.len(), 1);
    let listed: Vec<String> = package
        .paths
        .iter()
        .flat_map(|directory| {
            directory
                .files
                .iter()
                .map(|file| String::from_utf8(crate::adb::join(&directory.path, &file.name)).unwrap())
        })
        .collect();
    assert_eq!(
        listed,
        [
            "usr/null",
            "usr/with",
            "usr/share/z",
            "usr/share/a",
            "usr/bin/wren",
            "usr/bin/wrenlet",
            "usr/bin/sh"
        ]
    );
    let with = &package.paths[0].files[1];
    assert_eq!(with.acl.xattrs, [(b"user.a".to_vec(), b"\0\n=".to_vec())]);
    // Contents come in the order of the archive, and are found by their place in the package.
    let all: Vec<u8> = [&b"last"[..], b"wren\n", b"interleaved", b"x"].concat();
    let regular = package.paths.iter().flat_map(|directory| &directory.files);
    let regular = regular.filter(|file| matches!(file.kind, FileKind::Regular { .. }));
    for (number, ((offset, size), file)) in verified.placement().into_iter().zip(regular).enumerate() {
        let content = &all[offset as usize..(offset + size) as usize];
        assert_eq!(contents.files[number].2, content, "{}", file.name.escape_ascii());
    }
    assert_eq!(
        package::read_metadata(&bytes, &keys(), &Expect::default()).unwrap(),
        verified
    );
}

/// An index is made for the folder of one architecture, where packages for all of them lie, too.
#[test]
fn an_index_may_name_the_architecture_of_a_package_for_every_one() {
    let judge = |of_package: &str, of_index: &str| {
        let bytes = package_for(of_package, &tree(), "", &[]);
        let mut entry = read(&bytes).unwrap().0.package.info;
        entry.hashes = Some(package::identity(&bytes).unwrap());
        entry.arch = of_index.to_owned();
        let expect = Expect {
            info: Some(&entry),
            arch: Some("x86_64"),
            ..Expect::default()
        };
        let read = package::read(&bytes, &keys(), &expect, &mut package::Discard);
        read.map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(judge("noarch", "x86_64"), Ok(()));
    assert_eq!(judge("noarch", "noarch"), Ok(()));
    assert_eq!(judge("x86_64", "x86_64"), Ok(()));
    let error = judge("x86_64", "noarch").unwrap_err();
    assert!(error.contains("architecture"), "{error}");
    let error = judge("aarch64", "x86_64").unwrap_err();
    assert!(error.contains("architecture"), "{error}");
}

#[test]
fn damage_is_told() {
    let good = package(&tree(), "", &[]);
    read(&good).unwrap();
    let one = |data: &[u8]| package(data, "", &[]);
    let wrong_sum = [
        pax(&[("APK-TOOLS.checksum.SHA1", b"00".repeat(20).as_slice())]),
        entry("a", b"x"),
    ]
    .concat();
    let long = format!("{}/", "d".repeat(80));
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("cut", good[..good.len() - 9].to_vec(), "SHA-256 of the data"),
        ("more", [good.clone(), gzip(b"")].concat(), "SHA-256 of the data"),
        ("no sum", one(&entry("a", b"x")), "no SHA-1"),
        ("wrong sum", one(&wrong_sum), "SHA-1 is not the one"),
        (
            "no directory",
            one(&file("a/b", b"x")),
            "its directory is not in the archive",
        ),
        ("dots", one(&file("../evil", b"x")), "leads out"),
        (
            "inner dots",
            one(&[directory("a"), file("a/../../evil", b"x")].concat()),
            "component",
        ),
        ("absolute", one(&file("/etc/evil", b"x")), "component"),
        ("newline", one(&file("a\nP:evil", b"x")), "control character"),
        (
            "hard link",
            one(&header("b", b'1', 0o644, 0, "none")),
            "no earlier file",
        ),
        (
            "hard link out",
            one(&header("b", b'1', 0o644, 0, "/etc/shadow")),
            "no earlier file",
        ),
        ("sparse", one(&header("b", b'S', 0o644, 0, "")), "no package has"),
        ("no name", one(&header("", b'5', 0o755, 0, "")), "has no name"),
        ("an owner", one(&patched(116, b"00000008")), "not octal"),
        ("a blank", one(&patched(100, b"  00644\0")), "not octal"),
        ("a device", one(&patched(337, b"x")), "not octal"),
        ("great device", one(&great_device()), "the limit is 4095:1048575"),
        (
            "half a block",
            {
                let data = gzip(&[0; 700]);
                let info = format!(
                    "pkgname = a\npkgver = 1\ndatahash = {}\n",
                    hex(&sha2::Sha256::digest(&data))
                );
                let control = gzip(&entry(".PKGINFO", info.as_bytes()));
                [signature(&control), control, data].concat()
            },
            "ends inside a block",
        ),
        (
            "pax size",
            one(&[pax(&[("size", b"9")]), entry("a", b"x")].concat()),
            "does not know",
        ),
        ("name", package(&[], "pkgname = other\n", &[]), "there twice"),
        (
            "no data hash",
            {
                let control = gzip(&entry(".PKGINFO", b"pkgname = a\npkgver = 1\n"));
                [signature(&control), control, gzip(&[0; 1024])].concat()
            },
            "no datahash",
        ),
        (
            "trailing archive",
            one(&[&[0; 1024][..], &entry("x", b"x")].concat()),
            "goes on after its end",
        ),
        (
            "twice",
            one(&[file("a", b"x"), file("a", b"y")].concat()),
            "twice",
        ),
        (
            "below a file",
            one(&[file(&long[..80], b"x"), directory(&long[..80])].concat()),
            "directory of the package",
        ),
    ];
    for (name, bytes, expected) in cases {
        let error = read(&bytes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

#[test]
fn only_a_trusted_signature_of_the_control_part_counts() {
    let data = gzip(&[0; 1024]);
    let info = format!(
        "pkgname = a\npkgver = 1\ndatahash = {}\n",
        hex(&sha2::Sha256::digest(&data))
    );
    let control = gzip(&entry(".PKGINFO", info.as_bytes()));
    let other = gzip(&entry(".PKGINFO", b"pkgname = b\npkgver = 1\n"));
    let stranger = gzip(&entry(".SIGN.RSA256.stranger.rsa.pub", &[0; 256]));
    for (front, expected) in [
        (Vec::new(), "not signed"),
        (signature(&other), "is bad"),
        (stranger, "none of the 1 trusted keys"),
    ] {
        let bytes = [&front[..], &control, &data].concat();
        let error = read(&bytes).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        let expect = Expect {
            trust: Trust::AllowUntrusted,
            ..Expect::default()
        };
        package::read_metadata(&bytes, &keys(), &expect).unwrap();
    }
}

#[test]
fn bounds_hold_and_are_named() {
    let many = package(
        &(0..50)
            .flat_map(|n| directory(&format!("d{n}")))
            .collect::<Vec<_>>(),
        "",
        &[],
    );
    let bomb = package(&file("zeros", &vec![0; 4 << 20]), "", &[]);
    let read = |bytes: &[u8], limits: Limits| {
        let expect = Expect {
            limits: Some(&limits),
            ..Expect::default()
        };
        package::read_metadata(bytes, &keys(), &expect)
            .unwrap_err()
            .to_string()
    };
    let error = read(
        &many,
        Limits {
            entries: 20,
            ..Limits::default()
        },
    );
    assert!(error.ends_with("beyond the limit of 20"), "{error}");
    let tight = Limits {
        expansion_floor: 1 << 20,
        expansion_ratio: 10,
        ..Limits::default()
    };
    let error = read(&bomb, tight);
    assert!(
        error.contains("expansion") && error.contains("1048576"),
        "{error}"
    );
    let error = read(
        &bomb,
        Limits {
            content: 1000,
            ..Limits::default()
        },
    );
    assert!(error.ends_with("beyond the limit of 1000"), "{error}");
}

#[test]
fn signatures_are_bounded_before_anything_is_trusted() {
    let many: Vec<u8> = (0..20)
        .flat_map(|n| entry(&format!(".SIGN.RSA.key{n}"), &vec![0; 60_000]))
        .collect();
    let bytes = [gzip(&many), package(&tree(), "", &[])].concat();
    let error = read(&bytes).map(|_| ()).unwrap_err().to_string();
    assert!(error.ends_with("beyond the limit of 1048576"), "{error}");
    let bytes = [
        gzip(&entry(".SIGN.RSA.key", &vec![0; 70_000])),
        package(&tree(), "", &[]),
    ]
    .concat();
    let error = read(&bytes).map(|_| ()).unwrap_err().to_string();
    assert!(error.ends_with("beyond the limit of 65536"), "{error}");
}

fn index(text: &str) -> Vec<u8> {
    let body = gzip(
        &[
            entry("DESCRIPTION", b"test"),
            entry("APKINDEX", text.as_bytes()),
            vec![0; 1024],
        ]
        .concat(),
    );
    [signature(&body), body].concat()
}

const RECORD: &str =
    "C:Q1rJaotsxrGJBpmNveSMKgcWadJ0Y=\nP:wren\nV:1.0-r0\nA:x86_64\nS:9\nI:5\nT:bird\nD:so:a>=1 !b\n";

#[test]
fn an_index_reads() {
    let text = format!(
        "{RECORD}z:unknown\n\n{}\n\n{}",
        RECORD
            .replace("P:wren", "P:newer")
            .replace("T:", "X:must be understood\nT:"),
        RECORD.replace("P:wren", "P:broken").replace("a>=1", "a>=one"),
    );
    let read = Index::read(&index(&text), &keys(), Trust::Required).unwrap();
    assert_eq!(read.description, "test");
    let names: Vec<&str> = read.packages.iter().map(|info| info.name.as_str()).collect();
    assert_eq!(names, ["wren"]);
    assert_eq!(read.packages[0].depends.len(), 2);
    assert_eq!(read.packages[0].hashes.as_ref().unwrap().0.len(), 20);
    // Of a recipe that was not committed, as in a package.
    let text = format!("{RECORD}c:{}-dirty\n", "ab".repeat(20));
    let read = Index::read(&index(&text), &keys(), Trust::Required).unwrap();
    assert_eq!(read.packages[0].repo_commit, [0xab; 20]);
}

#[test]
fn damaged_indexes_name_the_line() {
    for (text, expected) in [
        (RECORD.replace("S:9", "S:nine"), "APKINDEX, line 5"),
        (RECORD.replace("V:1.0-r0\n", ""), "no valid version"),
        (RECORD.replace("C:Q1rJ", "C:Q1"), "APKINDEX, line 1"),
        (RECORD[RECORD.find("P:").unwrap()..].to_owned(), "no identity"),
        (format!("{RECORD}F:etc\n"), "belongs to an installed package"),
        (format!("{RECORD}no colon\n"), "not a letter"),
    ] {
        let error = Index::read(&index(&text), &keys(), Trust::Required)
            .unwrap_err()
            .to_string();
        assert!(error.contains(expected), "{error}");
    }
}

proptest::proptest! {
    #[test]
    fn nothing_panics_on_damaged_bytes(at in 0_usize..4000, byte: u8, cut in 0_usize..4000) {
        static GOOD: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
        let good = GOOD.get_or_init(|| package(&tree(), "", &[]));
        let mut bytes = good.clone();
        let at = at % bytes.len();
        bytes[at] = byte;
        bytes.truncate(bytes.len() - cut % bytes.len());
        let expect = Expect { trust: Trust::AllowUntrusted, ..Expect::default() };
        let _ = package::read(&bytes, &KeyRing::new(), &expect, &mut package::Discard);
        let _ = Index::read(&bytes, &KeyRing::new(), Trust::AllowUntrusted);
    }
}
