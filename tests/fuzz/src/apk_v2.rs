//! Packages and indexes of apk 2, put together from their parts: gzip members of tar archives (Alpine's wiki, "Apk
//! spec"), with a signature that is no one's.

use std::io::Write as _;

use sha1::Digest as _;

const KEY: &str = "seed.rsa.pub";

/// Records of an index.
pub const RECORDS: &str = "C:Q1AQIDBAUGBwgJCgsMDQ4PEBESExQ=\nP:seed\nV:1.2.3-r4\nA:x86_64\nS:100\nI:200\nT:a seed\nU:https://example.org\n\
    L:MIT\no:seed\nm:Someone <someone@example.org>\nt:1600000000\nc:0123456789abcdef0123456789abcdef01234567\n\
    D:musl>=1.2 !other so:libc.musl-x86_64.so.1\np:cmd:seed=1.2.3-r4 so:libseed.so.1=1\ni:docs seed=1.2.3-r4\nr:older\nk:10\n\n\
    C:Q2AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA=\nP:seed-doc\nV:1.2.3-r4\nA:noarch\nS:10\nI:20\nT:pages\nL:MIT\n\n";

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    // Writing to memory does not fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A header of ustar, with the content.
fn member(name: &str, kind: u8, mode: u32, link: &str, content: &[u8]) -> Vec<u8> {
    let mut head = vec![0_u8; 512];
    let mut put = |at: usize, bytes: &[u8]| head[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, name.as_bytes());
    put(100, format!("{mode:07o}\0").as_bytes());
    put(108, b"0000000\0");
    put(116, b"0000000\0");
    put(124, format!("{:011o}\0", content.len()).as_bytes());
    put(136, b"14524770400\0");
    put(148, b"        ");
    put(156, &[kind]);
    put(157, link.as_bytes());
    put(257, b"ustar\x0000");
    put(265, b"root");
    put(297, b"root");
    let sum: u32 = head.iter().map(|&byte| u32::from(byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    head.extend_from_slice(content);
    head.resize(head.len().next_multiple_of(512), 0);
    head
}

/// A regular file with its checksum, as abuild-tar writes it.
fn file(name: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let rest = format!(" APK-TOOLS.checksum.SHA1={}\n", hex(&sha1::Sha1::digest(content)));
    let record = format!("{}{rest}", rest.len() + 2);
    [
        member("pax", b'x', 0o644, "", record.as_bytes()),
        member(name, b'0', mode, "", content),
    ]
    .concat()
}

/// The signature member of a compressed member; whoever wants it to hold does not take it.
fn signature(forms: &[&str]) -> Vec<u8> {
    let one = |form: &&str| member(&format!(".SIGN.{form}.{KEY}"), b'0', 0o644, "", &[7; 256]);
    gzip(&forms.iter().flat_map(one).collect::<Vec<u8>>())
}

/// The archive of a package's files, not compressed.
pub fn data() -> Vec<u8> {
    let mut bytes = [
        member("usr/", b'5', 0o755, "", b""),
        member("usr/bin/", b'5', 0o755, "", b""),
        file("usr/bin/seed", 0o755, b"#!/bin/sh\necho seed\n"),
        member("usr/bin/seedling", b'2', 0o777, "seed", b""),
        member("usr/bin/seed-too", b'1', 0o755, "usr/bin/seed", b""),
        file("usr/zeros", 0o644, &[0; 3000]),
    ]
    .concat();
    bytes.extend_from_slice(&[0; 1024]);
    bytes
}

/// The control archive of a package of [`data`], not compressed.
pub fn control() -> Vec<u8> {
    control_of(&gzip(&data()))
}

fn control_of(data: &[u8]) -> Vec<u8> {
    let info = format!(
        "# a seed\npkgname = seed\npkgver = 1.2.3-r4\npkgdesc = a seed\nurl = https://example.org\nbuilddate = 1600000000\n\
         size = 3021\narch = x86_64\norigin = seed\nlicense = MIT\ndepend = musl>=1.2\ndepend = !other\nprovides = cmd:seed=1.2.3-r4\n\
         replaces = older\ninstall_if = docs seed\ntriggers = /usr/bin\ndatahash = {}\n",
        hex(&sha2::Sha256::digest(data))
    );
    [
        member(".PKGINFO", b'0', 0o644, "", info.as_bytes()),
        member(".post-install", b'0', 0o755, "", b"#!/bin/sh\nexit 0\n"),
        member(".trigger", b'0', 0o755, "", b"#!/bin/sh\nexit 0\n"),
    ]
    .concat()
}

/// A package of these bytes as control archive, with the files of [`data`].
pub fn package_of(control: &[u8]) -> Vec<u8> {
    [signature(&["RSA"]), gzip(control), gzip(&data())].concat()
}

/// A package of these bytes as archive of files.
pub fn package_with(data: &[u8]) -> Vec<u8> {
    let data = gzip(data);
    [signature(&["RSA256"]), gzip(&control_of(&data)), data].concat()
}

/// An index of these records.
pub fn index_of(records: &[u8]) -> Vec<u8> {
    let archive = [
        member("DESCRIPTION", b'0', 0o644, "", b"seeds"),
        member("APKINDEX", b'0', 0o644, "", records),
        vec![0; 1024],
    ]
    .concat();
    [signature(&["RSA"]), gzip(&archive)].concat()
}

/// Packages: with both forms of signature, and with two of them.
pub fn packages() -> Vec<Vec<u8>> {
    let whole = package_with(&data());
    let behind = whole[signature(&["RSA256"]).len()..].to_vec();
    let signed_twice = [signature(&["RSA", "RSA256"]), behind].concat();
    vec![package_of(&control()), whole, signed_twice]
}

/// Indexes: signed, without a signature, and in one member with it.
pub fn indexes() -> Vec<Vec<u8>> {
    let whole = index_of(RECORDS.as_bytes());
    let bare = whole[signature(&["RSA"]).len()..].to_vec();
    vec![whole, bare]
}
